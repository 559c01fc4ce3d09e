//! When a job that sends stops by itself: too many refusals by the relay, bounces, or complaints. Going on would cost the shop its good
//! name with the mail providers; somebody has to look first.
//!
//! Only what happened since the job was last resumed counts, so that the same mails do not stop it twice.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgExecutor;

use crate::config::Brakes;
use crate::types::ShopId;

/// While mails leave, the latest are looked at before more are claimed, once so many have been since: at the soonest after so many mails,
/// and after a whole batch where a batch is claimed at once.
pub const EVERY: u64 = 20;
/// Refusals are counted over so many of the latest mails.
const LATEST_FOR_REFUSALS: i64 = 100;
/// With fewer mails than this, a share says nothing about refusals.
const MIN_FOR_REFUSALS: i64 = 20;
/// While mails leave, bounces are counted over so many of the latest.
const LATEST_FOR_BOUNCES: i64 = 1000;
/// With fewer mails than this, a share says nothing about bounces.
const MIN_FOR_BOUNCES: i64 = 100;
/// Fewer complaints than this may be chance, whatever their share.
const MIN_COMPLAINTS: i64 = 3;
/// What comes back later is counted over the mails of so many days.
const WINDOW: TimeDelta = TimeDelta::days(7);

/// Why the job is to stop.
#[derive(Debug, Clone, PartialEq)]
pub struct Brake {
    what: &'static str,
    n: i64,
    of: i64,
    limit: f64,
    key: &'static str,
}

impl fmt::Display for Brake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, n, of, limit, key } = self;
        write!(f, "{n} of the last {of} mails {what}, more than {key} = {limit} allows")
    }
}

/// Whose mails, and since when.
#[derive(Debug, Clone, Copy)]
pub struct Watched {
    pub shop: ShopId,
    pub limits: Brakes,
    /// When the job was last resumed.
    pub resumed_at: Option<DateTime<Utc>>,
}

/// Looks at what the relay said of the latest mails; cheap enough for every batch. `None`: it may go on.
///
/// # Errors
/// When the database does not answer.
pub async fn latest(executor: impl PgExecutor<'_>, watched: Watched) -> sqlx::Result<Option<Brake>> {
    // An address that does not exist is the address's fault, and counts as a bounce.
    let counts = sqlx::query!(
        r#"with latest as (
               select row_number() over (order by started_at desc) as nth, outcome, code, enhanced_code
               from latest_attempts($1, $2, $3)
           )
           select
               count(*) filter (where nth <= $4) as "n_latest!",
               count(*) filter (where nth <= $4 and outcome = 'failed' and code >= 500 and not is_address_fault(enhanced_code))
                   as "n_refused!",
               count(*) as "n!",
               count(*) filter (where outcome = 'failed' and is_address_fault(enhanced_code)) as "n_bounced!"
           from latest"#,
        watched.shop.0,
        watched.resumed_at.unwrap_or(DateTime::UNIX_EPOCH),
        LATEST_FOR_BOUNCES,
        LATEST_FOR_REFUSALS,
    )
    .fetch_one(executor)
    .await?;
    let refused = refused(counts.n_refused, counts.n_latest, &watched.limits);
    let bounced = bounced(counts.n_bounced, counts.n, &watched.limits);
    Ok(refused
        .filter(|_| counts.n_latest >= MIN_FOR_REFUSALS)
        .or(bounced.filter(|_| counts.n >= MIN_FOR_BOUNCES)))
}

/// Looks at all that came back about the mails of the last days. `None`: it may go on.
///
/// # Errors
/// When the database does not answer.
pub async fn returned(
    executor: impl PgExecutor<'_>,
    watched: Watched,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Brake>> {
    let since = watched.resumed_at.map_or(now - WINDOW, |resumed_at| resumed_at.max(now - WINDOW));
    let counts = sqlx::query!(
        r#"with recent as (
               select outcome, enhanced_code from attempt
               where shop_id = $1 and started_at > $2 and outcome in ('sent', 'failed')
           ),
           -- Several reports may come about one mail.
           returned as (
               select distinct b.invitation_id, b.kind
               from bounce b join invitation i using (shop_id, invitation_id)
               where b.shop_id = $1 and b.received_at > $2 and i.sent_at > $2
           )
           select
               (select count(*) from recent) as "n!",
               (select count(*) from recent where outcome = 'failed' and is_address_fault(enhanced_code))
                   + (select count(*) from returned where kind = 'hard') as "n_bounced!",
               (select count(*) from returned where kind = 'complaint') as "n_complained!""#,
        watched.shop.0,
        since,
    )
    .fetch_one(executor)
    .await?;
    let complained = Brake {
        what: "were called spam",
        n: counts.n_complained,
        of: counts.n,
        limit: watched.limits.max_complaint_rate,
        key: "max_complaint_rate",
    };
    let bounced =
        bounced(counts.n_bounced, counts.n, &watched.limits).filter(|_| counts.n >= MIN_FOR_BOUNCES);
    Ok(bounced.or(complained.pulled().filter(|_| counts.n_complained >= MIN_COMPLAINTS)))
}

fn refused(n: i64, of: i64, limits: &Brakes) -> Option<Brake> {
    let what = "were refused by the relay";
    Brake { what, n, of, limit: limits.max_refusal_rate, key: "max_refusal_rate" }.pulled()
}

fn bounced(n: i64, of: i64, limits: &Brakes) -> Option<Brake> {
    let what = "went to addresses that do not take mail";
    Brake { what, n, of, limit: limits.max_bounce_rate, key: "max_bounce_rate" }.pulled()
}

impl Brake {
    /// Itself, when the share is above the limit.
    #[expect(clippy::cast_precision_loss, reason = "counts of mails are far below 2^52")]
    fn pulled(self) -> Option<Self> {
        (self.n as f64 > self.limit * self.of as f64).then_some(self)
    }
}
