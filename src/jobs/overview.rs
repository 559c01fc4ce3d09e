//! How the jobs stand: what `afterword jobs` shows, and `/jobs` of the private pages.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sqlx::PgPool;

use super::ledger::{self, JobRun, Pause};
use crate::config::{Config, ScheduledJob};
use crate::context::Context;
use crate::db::outage;
use crate::invitations::relay;

/// So long after its time an occurrence that the ledger does not know counts as overdue. Longer than a lease and than the time that an
/// occurrence waits for the run before it.
const OVERDUE_AFTER: TimeDelta = TimeDelta::minutes(15);

/// A job as it stands.
#[derive(Debug, Serialize)]
pub struct Standing<'a> {
    pub job: &'a str,
    pub kind: &'a str,
    pub schedule: Option<&'a str>,
    pub timezone: Option<&'a str>,
    pub enabled: bool,
    /// Why it does not run, since when.
    pub paused: Option<Pause>,
    /// Its last run that was not skipped.
    pub last: Option<JobRun>,
    pub next: Option<DateTime<Utc>>,
}

/// Every job of jobs.toml as it stands at `now`.
///
/// # Errors
/// When the database does not answer.
pub async fn overview<'a>(
    config: &'a Config,
    pool: &PgPool,
    now: DateTime<Utc>,
) -> sqlx::Result<Vec<Standing<'a>>> {
    let mut last_runs: HashMap<String, JobRun> =
        ledger::last_runs(pool).await?.into_iter().map(|run| (run.job.clone(), run)).collect();
    let mut standings = Vec::with_capacity(config.jobs.len());
    for job in &config.jobs {
        let paused = ledger::paused(pool, &job.name).await?;
        standings.push(standing(job, paused, last_runs.remove(&job.name), now));
    }
    Ok(standings)
}

/// What keeps jobs from their work now, whether or not they are paused: the database, or the relay; a sentence each.
///
/// # Errors
/// When the database does not answer what is asked about the relay.
pub async fn hindrances(context: &Context) -> sqlx::Result<Vec<String>> {
    // Another process knows of an outage what it has met; this one has met nothing yet, and tries.
    if let Some(outage) = outage::seen_now(&context.pool.connect_options()).await {
        return Ok(vec![format!("No job begins, because {}.", outage.words())]);
    }
    let relay = relay::outage(&context.pool, &relay::name(&context.config.mail.transport)).await?;
    Ok(relay.map(|outage| format!("No mail leaves: {outage}.")).into_iter().collect())
}

fn standing<'a>(
    job: &'a ScheduledJob,
    paused: Option<Pause>,
    last: Option<JobRun>,
    now: DateTime<Utc>,
) -> Standing<'a> {
    let schedule = job.schedule.as_ref();
    Standing {
        job: &job.name,
        kind: job.kind,
        schedule: schedule.map(|schedule| schedule.expression()),
        timezone: schedule.map(|schedule| schedule.timezone().name()),
        enabled: job.enabled,
        paused,
        last,
        next: schedule.filter(|_| job.enabled).and_then(|schedule| schedule.next_after(now)),
    }
}

/// The occurrence of a job that should have begun long ago and of which the ledger knows nothing.
///
/// # Errors
/// When the database does not answer.
pub async fn overdue(
    pool: &PgPool,
    job: &ScheduledJob,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<DateTime<Utc>>> {
    let Some(schedule) = job.schedule.as_ref().filter(|_| job.enabled) else { return Ok(None) };
    // Nobody has followed the schedule yet; a timer of the system may run the job instead.
    let Some(standing) = ledger::standing(pool, &job.name, now).await? else { return Ok(None) };
    if standing.running.is_some() {
        return Ok(None);
    }
    let after = standing.last.map_or(standing.since, |last| last.max(standing.since));
    Ok(schedule.next_after(after).filter(|due| now - *due > OVERDUE_AFTER))
}
