//! The loop that asks the planner, once a second, and starts what is due.
//!
//! The tick comes from tokio-cron-scheduler, and nothing else does: it knows no job and no zone, does no work and cannot panic, it
//! nudges a channel. Should it fail to come, as it does for as long as the wall clock was set back, the loop wakes up by itself. What
//! is due is read from the ledger each time, so that two instances, a restart or a clock that jumps change nothing.

use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_cron_scheduler::JobScheduler;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::planner::{self, Plan, Skip};
use crate::config::{CatchUp, ScheduledJob};
use crate::context::Context;
use crate::jobs::ledger::{self, Occurrence, Refusal, Standing};
use crate::jobs::runner::{self, Outcome};
use crate::masked;

/// The loop wakes up after this time even without a tick.
const LONGEST_SLEEP: Duration = Duration::from_secs(15);

/// After a database error a job is looked at again in this time.
const AFTER_AN_ERROR: TimeDelta = TimeDelta::seconds(5);

/// A wall clock that moves this much more or less than time itself was set.
const CLOCK_WAS_SET: TimeDelta = TimeDelta::seconds(5);

/// A due occurrence waits so long for a run that is under way before it is skipped. Longer than a lease: a run that is still there
/// after this time has a living owner.
const PATIENCE: Duration = Duration::from_secs(75);

/// Runs the jobs of jobs.toml at their times until `stop`; then it starts nothing more, tells what is running to stop, and returns
/// when that has ended, or had `shutdown_grace` to do so.
///
/// # Errors
/// When the loop cannot begin. Later errors are logged, and tried again.
pub async fn run(context: Context, stop: CancellationToken) -> anyhow::Result<()> {
    let (mut ticking, mut ticks) = start_ticking().await.context("cannot start the scheduler's tick")?;
    let clock = context.clock;
    let mut agenda = Agenda::new(context, stop.clone()).await.context("cannot write down the schedules")?;
    loop {
        // Nothing that holds a connection is inside this `select!`.
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.recv() => {}
            () = tokio::time::sleep(LONGEST_SLEEP) => {}
        }
        agenda.look(clock.now()).await;
    }
    if let Err(error) = ticking.shutdown().await {
        tracing::debug!(%error, "the scheduler's tick did not end properly");
    }
    agenda.drain().await;
    Ok(())
}

/// One nudge a second. A nudge that meets one that nobody took yet is dropped.
async fn start_ticking() -> Result<(JobScheduler, mpsc::Receiver<()>), tokio_cron_scheduler::JobSchedulerError>
{
    let (nudge, ticks) = mpsc::channel(1);
    let scheduler = JobScheduler::new().await?;
    let every_second = tokio_cron_scheduler::Job::new_async("* * * * * *", move |_, _| {
        let nudge = nudge.clone();
        Box::pin(async move {
            let _ = nudge.try_send(());
        })
    })?;
    scheduler.add(every_second).await?;
    scheduler.start().await?;
    Ok((scheduler, ticks))
}

/// What one instance has to look after. Everything that decides is in the ledger; this only spares it questions.
pub struct Agenda {
    context: Context,
    stop: CancellationToken,
    items: Vec<Item>,
    running: TaskTracker,
    last_look: Option<(Instant, DateTime<Utc>)>,
}

struct Item {
    job: ScheduledJob,
    /// Nothing can be due before.
    look_at: DateTime<Utc>,
    /// Since when a due occurrence waits for a run that is under way.
    waiting_since: Option<Instant>,
}

impl Agenda {
    /// Writes the schedules down, so that what was missed can be told from what was never due.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn new(context: Context, stop: CancellationToken) -> sqlx::Result<Self> {
        let now = context.clock.now();
        let mut items = Vec::new();
        for job in &context.config.jobs {
            match &job.schedule {
                Some(schedule) if job.enabled => {
                    ledger::note_schedule(&context.pool, &job.name, schedule, now).await?;
                    items.push(Item { job: job.clone(), look_at: now, waiting_since: None });
                }
                _ => ledger::forget_schedule(&context.pool, &job.name).await?,
            }
        }
        Ok(Self { context, stop, items, running: TaskTracker::new(), last_look: None })
    }

    /// Starts what is due at `now`, and records what is not to run.
    pub async fn look(&mut self, now: DateTime<Utc>) {
        if self.clock_was_set(now) {
            self.items.iter_mut().for_each(|item| item.look_at = now);
        }
        // What comes due meanwhile is missed, and treated as such when the database works again.
        if !self.context.beside.outage.is_over(&self.context.pool.connect_options()).await {
            return;
        }
        for item in &mut self.items {
            if now < item.look_at || self.stop.is_cancelled() {
                continue;
            }
            match look_at(&self.context, item, now).await {
                Ok(Some(occurrence)) => {
                    start(&self.running, &self.context, &item.job, occurrence, &self.stop);
                }
                Ok(None) => {}
                Err(error) => {
                    let error = error.into();
                    if self.context.beside.outage.hear(&error).is_some() {
                        return;
                    }
                    let (job, error) = (&item.job.name, masked::reason(&error));
                    tracing::error!(job, error, "job {job}: the ledger cannot be read or written");
                    item.look_at = now + AFTER_AN_ERROR;
                }
            }
        }
    }

    /// Waits until everything that was started has ended.
    pub async fn drain(&self) {
        self.running.close();
        self.running.wait().await;
    }

    /// Whether the wall clock has moved by something else than the time that passed.
    fn clock_was_set(&mut self, now: DateTime<Utc>) -> bool {
        let Some((instant, moment)) = self.last_look.replace((Instant::now(), now)) else { return false };
        let passed = TimeDelta::from_std(instant.elapsed()).unwrap_or(TimeDelta::MAX);
        let off = (now - moment) - passed;
        if off.abs() > CLOCK_WAS_SET {
            tracing::info!(
                seconds = off.num_seconds(),
                "the wall clock was set, or the machine slept; planning anew"
            );
        }
        off.abs() > CLOCK_WAS_SET
    }
}

/// Looks at one job: records what is skipped, and answers which occurrence to start.
async fn look_at(
    context: &Context,
    item: &mut Item,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<DateTime<Utc>>> {
    let job = &item.job;
    let Some(schedule) = &job.schedule else { return Ok(None) };
    let Some(standing) = ledger::standing(&context.pool, &job.name, now).await? else {
        // Another instance does not follow this schedule and has forgotten it.
        ledger::note_schedule(&context.pool, &job.name, schedule, now).await?;
        return Ok(None);
    };
    let after = standing.last.map_or(standing.since, |last| last.max(standing.since));
    let plan = planner::plan(schedule, after, now, job.catch_up, job.catch_up_window);
    let waited = match standing.running_since {
        Some(_) if plan.run.is_some() => item.waiting_since.get_or_insert_with(Instant::now).elapsed(),
        _ => {
            item.waiting_since = None;
            Duration::ZERO
        }
    };
    let Plan { mut skip, mut run } = give_way(plan, &standing, job.catch_up, waited);
    if let (Some(reason), Some(_)) = (&standing.paused, run) {
        let reason = format!("it is paused: {reason}");
        skip.extend(run.take().map(|scheduled_for| Skip { scheduled_for, reason }));
    }
    for Skip { scheduled_for, reason } in &skip {
        if ledger::skip(&context.pool, &job.name, *scheduled_for, reason).await? {
            let name = &job.name;
            tracing::warn!(job = name, "job {name}: the run of {scheduled_for} is skipped: {reason}");
        }
    }
    if run.is_none() {
        // Until then nothing can be due. While something is, we look at every tick, until the ledger says that it is settled.
        item.look_at = schedule.next_after(now).unwrap_or(DateTime::<Utc>::MAX_UTC);
    }
    Ok(run.filter(|_| standing.running_since.is_none()))
}

/// A job runs once at a time: what comes due while it runs waits a moment, and is then skipped, unless every occurrence is to run.
fn give_way(mut plan: Plan, standing: &Standing, catch_up: CatchUp, waited: Duration) -> Plan {
    let Some(since) = standing.running_since else { return plan };
    let reason = format!("the run that began at {} was still going", since.format("%Y-%m-%d %H:%M:%S UTC"));
    for skip in plan.skip.iter_mut().filter(|skip| skip.scheduled_for >= since) {
        skip.reason.clone_from(&reason);
    }
    if waited >= PATIENCE && catch_up != CatchUp::All {
        plan.skip.extend(plan.run.take().map(|scheduled_for| Skip { scheduled_for, reason }));
    }
    plan
}

fn start(
    running: &TaskTracker,
    context: &Context,
    job: &ScheduledJob,
    occurrence: DateTime<Utc>,
    stop: &CancellationToken,
) {
    let (context, job, stop) = (context.clone(), job.clone(), stop.clone());
    running.spawn(async move {
        let name = &job.name;
        match runner::run_occurrence(&context, &job, Occurrence::Scheduled(occurrence), false, &stop).await {
            Ok(Outcome::Refused(Refusal::Taken)) => {}
            Ok(Outcome::Refused(Refusal::Running { owner, .. })) => {
                tracing::debug!(job = name, owner, "job {name} is running already");
            }
            Ok(Outcome::Refused(Refusal::Paused { reason, .. })) => {
                tracing::debug!(job = name, "job {name} is paused: {reason}");
            }
            Ok(_) => {}
            Err(error) => {
                let error = error.into();
                if context.beside.outage.hear(&error).is_some() {
                    return;
                }
                let error = masked::reason(&error);
                tracing::error!(
                    job = name,
                    error,
                    "job {name}: the run of {occurrence} could not be taken; trying again"
                );
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    #[test]
    fn an_occurrence_waits_for_the_run_before_it_and_is_then_skipped() {
        let due = Plan { run: Some(utc("2026-03-01T09:00:00Z")), ..Plan::default() };
        let mut standing =
            Standing { since: utc("2026-01-01T00:00:00Z"), last: None, running_since: None, paused: None };
        assert_eq!(give_way(due.clone(), &standing, CatchUp::Once, PATIENCE), due);
        standing.running_since = Some(utc("2026-03-01T08:00:00Z"));
        assert_eq!(give_way(due.clone(), &standing, CatchUp::Once, Duration::ZERO), due);
        assert_eq!(give_way(due.clone(), &standing, CatchUp::All, PATIENCE), due);
        let skipped = give_way(due, &standing, CatchUp::Once, PATIENCE);
        assert_eq!(skipped.run, None);
        assert!(skipped.skip[0].reason.contains("still going"));
    }
}
