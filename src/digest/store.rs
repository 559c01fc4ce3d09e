//! What was told, and what is still to be told.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;

use super::{Digest, Since};

/// The first digest tells of so long.
const FIRST: TimeDelta = TimeDelta::days(1);

/// From where on the next digest tells: behind the last one that somebody has got; of the last day where there was none.
///
/// # Errors
/// When the database does not answer.
pub async fn since(pool: &PgPool, now: DateTime<Utc>) -> sqlx::Result<Since> {
    let last = sqlx::query!(
        "select until_at, last_run, open_runs from digest where is_told and until_at < $1
         order by until_at desc, digest_id desc limit 1",
        now,
    )
    .fetch_optional(pool)
    .await?;
    if let Some(last) = last {
        let (moment, last_run) = (last.until_at, Some(last.last_run));
        return Ok(Since { moment, last_run, open_runs: last.open_runs });
    }
    let untold = sqlx::query_scalar!("select min(from_at) from digest where until_at < $1", now)
        .fetch_one(pool)
        .await?;
    Ok(Since { moment: untold.unwrap_or(now - FIRST), last_run: None, open_runs: Vec::new() })
}

/// Keeps a digest that is about to be told. Comes back with its number.
///
/// # Errors
/// When the database does not answer.
pub async fn keep(pool: &PgPool, digest: &Digest) -> anyhow::Result<i64> {
    let id = sqlx::query_scalar!(
        "insert into digest (from_at, until_at, last_run, open_runs, is_good, contents) values ($1, $2, $3, $4, $5, $6)
         returning digest_id",
        digest.from,
        digest.until,
        digest.last_run,
        &digest.open_runs,
        digest.is_good,
        serde_json::to_value(digest)?,
    )
    .fetch_one(pool)
    .await?;
    Ok(id)
}

/// Notes that somebody has got it, or that nobody is to.
///
/// # Errors
/// When the database does not answer.
pub async fn told(pool: &PgPool, digest: i64) -> sqlx::Result<()> {
    sqlx::query!("update digest set is_told = true where digest_id = $1", digest).execute(pool).await?;
    Ok(())
}

/// Notes whether the dead man's switch could be told.
///
/// # Errors
/// When the database does not answer.
pub async fn heartbeat(pool: &PgPool, digest: i64, called: Result<DateTime<Utc>, &str>) -> sqlx::Result<()> {
    sqlx::query!(
        "update digest set heartbeat_at = $2, heartbeat_fault = $3 where digest_id = $1",
        digest,
        called.ok(),
        called.err(),
    )
    .execute(pool)
    .await?;
    Ok(())
}
