//! When a job that sends stops by itself: too many refusals by the relay, bounces, or complaints. Going on would cost the shop its good
//! name with the mail providers; somebody has to look first.
//!
//! Only what happened since the job was last resumed counts, so that the same mails do not stop it twice.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgExecutor;

use crate::config::Brakes;
use crate::types::ShopId;

/// Refusals are counted over so many of the latest mails.
const LATEST: i64 = 100;
/// With fewer mails than this, a share says nothing about refusals.
const MIN_FOR_REFUSALS: i64 = 20;
/// With fewer mails than this, a share says nothing about bounces.
const MIN_FOR_BOUNCES: i64 = 100;
/// Fewer complaints than this may be chance, whatever their share.
const MIN_COMPLAINTS: i64 = 3;
/// Bounces and complaints are counted over the mails of so many days.
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

/// Looks at what became of a shop's mails; `None`: it may go on.
///
/// # Errors
/// When the database does not answer.
pub async fn check(
    executor: impl PgExecutor<'_>,
    shop: ShopId,
    limits: &Brakes,
    resumed_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Brake>> {
    let resumed_at = resumed_at.unwrap_or(DateTime::UNIX_EPOCH);
    let since = resumed_at.max(now - WINDOW);
    // An address that does not exist is the address's fault, and is counted as a bounce, wherever we were told.
    let counts = sqlx::query!(
        r#"with latest as (
               select outcome, code, enhanced_code from attempt
               where shop_id = $1 and started_at > $2 and outcome in ('sent', 'failed')
               order by started_at desc limit $4
           ),
           recent as (
               select outcome, enhanced_code from attempt
               where shop_id = $1 and started_at > $3 and outcome in ('sent', 'failed')
           ),
           -- Several reports may come about one mail.
           returned as (select distinct invitation_id, kind from bounce where shop_id = $1 and received_at > $3)
           select
               (select count(*) from latest) as "n_latest!",
               (select count(*) from latest where outcome = 'failed' and code >= 500 and not is_address_fault(enhanced_code))
                   as "n_refused!",
               (select count(*) from recent) as "n_recent!",
               (select count(*) from recent where outcome = 'failed' and is_address_fault(enhanced_code))
                   + (select count(*) from returned where kind = 'hard') as "n_bounced!",
               (select count(*) from returned where kind = 'complaint') as "n_complained!""#,
        shop.0,
        resumed_at,
        since,
        LATEST,
    )
    .fetch_one(executor)
    .await?;
    let share = |n: i64, of: i64| n as f64 / of.max(1) as f64;
    let brakes = [
        Brake {
            what: "were refused by the relay",
            n: counts.n_refused,
            of: counts.n_latest,
            limit: limits.max_refusal_rate,
            key: "max_refusal_rate",
        },
        Brake {
            what: "went to addresses that do not take mail",
            n: counts.n_bounced,
            of: counts.n_recent,
            limit: limits.max_bounce_rate,
            key: "max_bounce_rate",
        },
        Brake {
            what: "were called spam",
            n: counts.n_complained,
            of: counts.n_recent,
            limit: limits.max_complaint_rate,
            key: "max_complaint_rate",
        },
    ];
    let is_enough = [
        counts.n_latest >= MIN_FOR_REFUSALS,
        counts.n_recent >= MIN_FOR_BOUNCES,
        counts.n_complained >= MIN_COMPLAINTS,
    ];
    let mut pulled = brakes.into_iter().zip(is_enough).filter(|(_, is_enough)| *is_enough);
    Ok(pulled.find(|(brake, _)| share(brake.n, brake.of) > brake.limit).map(|(brake, _)| brake))
}
