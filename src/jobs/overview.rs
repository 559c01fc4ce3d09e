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
use crate::scheduler::Schedule;
use crate::scheduler::planner::Policy;

/// So long after it should have begun an occurrence that the ledger does not know counts as overdue. Longer than a lease and than the time
/// that an occurrence waits for the run before it.
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

/// When an occurrence of a job should have begun, its `jitter` included, that is long ago and of which the ledger knows nothing.
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
    Ok(overdue_since(schedule, Policy::of(job), after, now))
}

/// When the first occurrence behind the last one that is settled should have begun, if that is long ago: at its time and as much later
/// as its `jitter` says.
fn overdue_since(
    schedule: &Schedule,
    policy: Policy<'_>,
    after: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let due = schedule.next_after(after)?;
    Some(due + policy.delay(due)).filter(|begins| now - *begins > OVERDUE_AFTER)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{CatchUp, Overlap};

    #[test]
    fn what_only_begins_later_is_not_overdue() {
        let schedule = Schedule::parse("0 3 * * *", chrono_tz::UTC).unwrap();
        let after: DateTime<Utc> = "2026-03-09T03:00:00Z".parse().unwrap();
        let mut delays = Vec::new();
        for day in 0..30 {
            let after = after + TimeDelta::days(day);
            let due = after + TimeDelta::days(1);
            for (jitter, is_delayed) in [(Duration::ZERO, false), (Duration::from_secs(3600), true)] {
                let (catch_up, overlap) = (CatchUp::Once, Overlap::Skip);
                let policy = Policy { job: "nightly", catch_up, window: jitter, overlap, jitter };
                let begins = due + policy.delay(due);
                let at = |late| overdue_since(&schedule, policy, after, begins + late);
                assert_eq!(at(OVERDUE_AFTER), None);
                assert_eq!(at(OVERDUE_AFTER + TimeDelta::seconds(1)), Some(begins));
                if is_delayed {
                    delays.push(begins - due);
                } else {
                    assert_eq!(begins, due);
                }
            }
        }
        assert!(delays.iter().any(|delay| *delay > OVERDUE_AFTER), "some would have been told: {delays:?}");
    }
}
