//! How the jobs stand: what `afterword jobs` shows, and `/jobs` of the private pages.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;

use super::ledger::{self, JobRun, Pause};
use crate::config::{Config, ScheduledJob};

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
        let paused = ledger::pause(pool, &job.name).await?.filter(|pause| pause.resumed_at.is_none());
        standings.push(standing(job, paused, last_runs.remove(&job.name), now));
    }
    Ok(standings)
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
