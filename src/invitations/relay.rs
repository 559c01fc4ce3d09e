//! What is known of the relay, shared by all who send through it: whether it works, and how much it takes.
//!
//! **The breaker.** [`N_FAULTS`] faults in a row, or one refusal of us, open it. While it is open nothing is delivered; when the time
//! has come, one connection tries one mail. The pause before that is a minute, and doubles with each probe that fails, up to a quarter
//! of an hour. Its times are the command's clock.
//!
//! **The rate.** Tokens in the relay's row, taken by whoever claims, so that all instances keep to the limit together; their clock is
//! the database's. When the relay says "too many", the rate is halved, and grows back by a tenth of what it was per minute. Without a
//! limit in jobs.toml and without "too many", no query is made.
//!
//! If we die half way: a probe that was taken counts as begun, and the next one is due after the pause. Tokens that were taken and not
//! used are lost, a second's worth at most.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::config::{Mail, Transport};
use crate::invitations::verdict::Standing;

/// So many faults in a row open the breaker.
pub const N_FAULTS: i32 = 5;
/// The pause before the first probe.
const FIRST_PAUSE: TimeDelta = TimeDelta::minutes(1);
/// The longest pause.
const LONGEST_PAUSE: TimeDelta = TimeDelta::minutes(15);
/// The slowest that "too many" makes us, in mails per minute.
const SLOWEST: f64 = 1.0;
/// What grows back in a minute, as a share of the full rate.
const REGAINED: f64 = 0.1;
/// Mails that were under way when the relay said "too many" hear it too; within this time it is said once.
const SAID_ONCE: TimeDelta = TimeDelta::seconds(10);

/// The name a relay has in the table: `host:port`, or `file`.
pub fn name(transport: &Transport) -> String {
    match transport {
        Transport::File => "file".to_owned(),
        Transport::Smtp(relay) => format!("{}:{}", relay.host, relay.port),
    }
}

/// Since when a relay does not work, why, and when it is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outage {
    pub since: DateTime<Utc>,
    /// What went wrong last, without addresses.
    pub last_fault: String,
    pub next_probe_at: DateTime<Utc>,
}

impl std::fmt::Display for Outage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (since, next) = (self.since.format("%F %R UTC"), self.next_probe_at.format("%F %R UTC"));
        write!(f, "the relay has been failing since {since}, last: {}; next probe at {next}", self.last_fault)
    }
}

/// Whether mails may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// By all connections.
    Open,
    /// One mail by one connection, to see whether the relay works again.
    Probe,
    /// None.
    Closed(Outage),
}

/// What a round needs to know at its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub admission: Admission,
    /// Whether there were faults that the next success has to clear.
    pub has_faults: bool,
    /// Whether the relay turned out to take less than jobs.toml says.
    pub is_slowed: bool,
}

/// Asks to send. A probe is given to one who asks: others that come before the pause has passed again are told to wait. With `probe_now`
/// the probe is due whatever the time.
///
/// # Errors
/// When the database does not answer.
pub async fn admit(pool: &PgPool, relay: &str, probe_now: bool, now: DateTime<Utc>) -> sqlx::Result<Known> {
    let row = sqlx::query!(
        "select n_faults, failing_since, last_fault, next_probe_at, rate_per_minute from relay where relay = $1",
        relay
    )
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else {
        return Ok(Known { admission: Admission::Open, has_faults: false, is_slowed: false });
    };
    let known = |admission| Known {
        admission,
        has_faults: row.n_faults > 0,
        is_slowed: row.rate_per_minute.is_some(),
    };
    let (Some(next_probe_at), Some(since)) = (row.next_probe_at, row.failing_since) else {
        return Ok(known(Admission::Open));
    };
    if probe_now || next_probe_at <= now {
        let taken = sqlx::query!(
            "update relay set next_probe_at = $3::timestamptz + probe_after where relay = $1 and next_probe_at = $2",
            relay,
            next_probe_at,
            now,
        )
        .execute(pool)
        .await?;
        if taken.rows_affected() == 1 {
            return Ok(known(Admission::Probe));
        }
    }
    let last_fault = row.last_fault.clone().unwrap_or_default();
    Ok(known(Admission::Closed(Outage { since, last_fault, next_probe_at })))
}

/// The outage of a relay whose breaker is open: it is given nothing but now and then a mail, to see whether it works again.
///
/// # Errors
/// When the database does not answer.
pub async fn outage(pool: &PgPool, relay: &str) -> sqlx::Result<Option<Outage>> {
    sqlx::query_as!(
        Outage,
        r#"select failing_since as "since!", coalesce(last_fault, '') as "last_fault!", next_probe_at as "next_probe_at!"
           from relay where relay = $1 and next_probe_at is not null"#,
        relay,
    )
    .fetch_optional(pool)
    .await
}

/// A fault of the relay's. Comes back with the outage when the breaker is open now. `opens`: at once, whatever came before.
///
/// # Errors
/// When the database does not answer.
pub async fn at_fault(
    pool: &PgPool,
    relay: &str,
    fault: &str,
    opens: bool,
    is_probe: bool,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Outage>> {
    ensure(pool, relay).await?;
    let row = sqlx::query!(
        r#"update relay
           set n_faults = n_faults + 1,
               failing_since = coalesce(failing_since, $3),
               last_fault = $2,
               probe_after = case
                   when probe_after is null then case when $4 or n_faults + 1 >= $6 then $7::interval end
                   when $5 then least(probe_after * 2, $8::interval)
                   else probe_after
               end,
               next_probe_at = case
                   when probe_after is null then case when $4 or n_faults + 1 >= $6 then $3::timestamptz + $7::interval end
                   when $5 then $3::timestamptz + least(probe_after * 2, $8::interval)
                   -- Mails that were under way when it opened.
                   else next_probe_at
               end
           where relay = $1
           returning failing_since as "since!", next_probe_at"#,
        relay,
        fault,
        now,
        opens,
        is_probe,
        N_FAULTS,
        FIRST_PAUSE as TimeDelta,
        LONGEST_PAUSE as TimeDelta,
    )
    .fetch_one(pool)
    .await?;
    Ok(row.next_probe_at.map(|next_probe_at| Outage {
        since: row.since,
        last_fault: fault.to_owned(),
        next_probe_at,
    }))
}

/// The relay works: no faults, and the breaker is closed.
///
/// # Errors
/// When the database does not answer.
pub async fn works(pool: &PgPool, relay: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "update relay
         set n_faults = 0, failing_since = null, last_fault = null, next_probe_at = null, probe_after = null
         where relay = $1",
        relay
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// What came of asking for tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Taken {
    /// So many mails may leave.
    pub n: i64,
    /// If none: after this long one may.
    pub wait: Duration,
    /// Whether the relay still takes less than it did before it said "too many".
    pub is_slowed: bool,
}

/// Takes up to `at_most` tokens. `limit`: mails per minute, by jobs.toml.
///
/// # Errors
/// When the database does not answer; then nothing may be sent.
pub async fn take(pool: &PgPool, relay: &str, limit: Option<f64>, at_most: i64) -> sqlx::Result<Taken> {
    let asked = || {
        sqlx::query_file!("src/invitations/take_tokens.sql", relay, limit, at_most, REGAINED)
            .fetch_optional(pool)
    };
    let row = match asked().await? {
        Some(row) => row,
        None => {
            ensure(pool, relay).await?;
            asked().await?.ok_or(sqlx::Error::RowNotFound)?
        }
    };
    Ok(Taken {
        n: row.n,
        wait: Duration::try_from_secs_f64(row.wait).unwrap_or(Duration::from_secs(1)),
        is_slowed: row.is_slowed,
    })
}

/// Gives back what was taken and not used.
///
/// # Errors
/// When the database does not answer.
pub async fn give_back(pool: &PgPool, relay: &str, n: i64) -> sqlx::Result<()> {
    #[expect(clippy::cast_precision_loss, reason = "a batch of mails")]
    sqlx::query!("update relay set tokens = tokens + $2 where relay = $1", relay, n as f64)
        .execute(pool)
        .await?;
    Ok(())
}

/// The relay said "too many": half the rate from now on. `full`: what it was, in mails per minute, unless it was halved before.
///
/// # Errors
/// When the database does not answer.
pub async fn slow_down(pool: &PgPool, relay: &str, full: f64) -> sqlx::Result<()> {
    ensure(pool, relay).await?;
    sqlx::query!(
        "with locked as (select * from relay where relay = $1 for update),
         clocked as (select locked.*, clock_timestamp() as moment from locked)
         update relay r
         set full_rate = coalesce(c.full_rate, greatest($2::float8, $4::float8)),
             rate_per_minute = greatest($4::float8, least(
                 coalesce(c.full_rate, $2::float8),
                 coalesce(
                     c.rate_per_minute + c.full_rate * $3::float8 * extract(epoch from c.moment - c.rate_changed_at)::float8 / 60,
                     $2::float8
                 )
             ) / 2),
             rate_changed_at = c.moment,
             tokens = 0,
             refilled_at = c.moment
         from clocked c
         where r.relay = c.relay and (c.rate_changed_at is null or c.rate_changed_at < c.moment - $5::interval)",
        relay,
        full,
        REGAINED,
        SLOWEST,
        SAID_ONCE as TimeDelta,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// After so many tries of one mail among a handful, how long until the next.
pub fn pause(attempts: i16) -> TimeDelta {
    match attempts {
        ..=1 => TimeDelta::seconds(10),
        2 => TimeDelta::minutes(1),
        3 => TimeDelta::minutes(5),
        4 => TimeDelta::hours(1),
        _ => TimeDelta::hours(6),
    }
}

/// A run that sends a handful of mails one after the other, as alerts and reports are: it asks before they leave, and tells everybody who
/// sends what the relay made of them.
#[derive(Debug)]
pub struct OneByOne {
    relay: String,
    limit: Option<f64>,
    has_faults: bool,
    is_probe: bool,
    is_limited: bool,
}

impl OneByOne {
    /// Nothing is asked yet.
    pub fn new(mail: &Mail) -> Self {
        Self {
            relay: name(&mail.transport),
            limit: mail.rate_per_minute.map(|rate| f64::from(rate.get())),
            has_faults: false,
            is_probe: false,
            is_limited: mail.rate_per_minute.is_some(),
        }
    }

    /// Whether mails may leave; the outage, if not. Whoever asks has something to send, because a probe is given to one who asks.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn ask(&mut self, pool: &PgPool, now: DateTime<Utc>) -> sqlx::Result<Option<Outage>> {
        let known = admit(pool, &self.relay, false, now).await?;
        self.has_faults = known.has_faults;
        self.is_limited |= known.is_slowed;
        self.is_probe = known.admission == Admission::Probe;
        Ok(match known.admission {
            Admission::Open | Admission::Probe => None,
            Admission::Closed(outage) => Some(outage),
        })
    }

    /// Waits until the rate that all share has room for a mail. `false`: we were asked to stop.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn turn(&self, pool: &PgPool, stop: &CancellationToken) -> sqlx::Result<bool> {
        if !self.is_limited {
            return Ok(true);
        }
        loop {
            let taken = take(pool, &self.relay, self.limit, 1).await?;
            if taken.n > 0 {
                return Ok(true);
            }
            tokio::select! {
                () = tokio::time::sleep(taken.wait) => {}
                () = stop.cancelled() => return Ok(false),
            }
        }
    }

    /// What a fault with a mail (`text`) says of the relay. Comes back with why no mail may leave any more, if so.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn heard(
        &mut self,
        pool: &PgPool,
        standing: Standing,
        text: &str,
        now: DateTime<Utc>,
    ) -> sqlx::Result<Option<String>> {
        let refuses = match standing {
            Standing::Works => {
                self.works(pool).await?;
                return Ok(None);
            }
            // The invitations find out how many fewer; a handful of mails waits until then.
            Standing::TooMany => {
                return Ok(Some(format!("the relay says that there are too many mails, at {text}")));
            }
            Standing::Faulty => false,
            Standing::Refuses => true,
        };
        Ok(self.at_fault(pool, text, refuses, now).await?.map(|outage| outage.to_string()))
    }

    /// The relay did its part.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn works(&mut self, pool: &PgPool) -> sqlx::Result<()> {
        let (had_faults, was_probe) =
            (std::mem::take(&mut self.has_faults), std::mem::take(&mut self.is_probe));
        if had_faults || was_probe {
            works(pool, &self.relay).await?;
        }
        Ok(())
    }

    /// The relay did not do its part, or `refuses` us. The outage, if no mail may leave any more.
    async fn at_fault(
        &mut self,
        pool: &PgPool,
        text: &str,
        refuses: bool,
        now: DateTime<Utc>,
    ) -> sqlx::Result<Option<Outage>> {
        tracing::warn!("the mail relay failed at {text}");
        self.has_faults = true;
        let is_probe = std::mem::take(&mut self.is_probe);
        at_fault(pool, &self.relay, text, refuses, is_probe, now).await
    }
}

async fn ensure(pool: &PgPool, relay: &str) -> sqlx::Result<()> {
    sqlx::query!("insert into relay (relay) values ($1) on conflict do nothing", relay).execute(pool).await?;
    Ok(())
}
