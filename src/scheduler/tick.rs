//! The loop that asks the planner, once a second, and starts what is due.
//!
//! The tick comes from tokio-cron-scheduler, and nothing else does: it knows no job and no zone, does no work and cannot panic, it
//! nudges a channel. Should it fail to come, as it does for as long as the wall clock was set back, the loop wakes up by itself. What
//! is due is read from the ledger each time, so that two instances, a restart or a clock that jumps change nothing.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_cron_scheduler::JobScheduler;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::planner::{self, Busy, Plan, Policy, Skip};
use crate::config::{Overlap, ScheduledJob};
use crate::context::Context;
use crate::jobs::ledger::{self, Ended, Occurrence, Refusal, Running, Standing};
use crate::jobs::runner::{self, Outcome, Pace};
use crate::masked;

/// The loop wakes up after this time even without a tick.
const LONGEST_SLEEP: Duration = Duration::from_secs(15);

/// After a database error a job is looked at again in this time.
const AFTER_AN_ERROR: TimeDelta = TimeDelta::seconds(5);

/// Two runs that follow each other in a queue are no further apart.
const BETWEEN_TWO: TimeDelta = TimeDelta::seconds(60);

/// A wall clock that moves this much more or less than time itself was set.
const CLOCK_WAS_SET: TimeDelta = TimeDelta::seconds(5);

/// Earlier than this, the system's clock has not been set yet: this program was not written then. Missed occurrences would be counted
/// from there once it is.
const PLAUSIBLE: DateTime<Utc> = match DateTime::from_timestamp(1_767_225_600, 0) {
    Some(new_year_2026) => new_year_2026,
    None => DateTime::<Utc>::MIN_UTC,
};

/// Runs the jobs of jobs.toml at their times until `stop`; then it starts nothing more, tells what is running to stop, and returns
/// when that has ended, or had `shutdown_grace` to do so.
///
/// # Errors
/// When the loop cannot begin. Later errors are logged, and tried again.
pub async fn run(context: Context, stop: CancellationToken) -> anyhow::Result<()> {
    let (mut ticking, mut ticks) = start_ticking().await.context("cannot start the scheduler's tick")?;
    let (clock, vitals) = (context.clock, Arc::clone(&context.vitals));
    if clock.now() < PLAUSIBLE {
        tracing::warn!("the system's clock stands at {}; no job begins until it is set", clock.now());
    }
    while clock.now() < PLAUSIBLE {
        if stop.run_until_cancelled(nudge(&mut ticks)).await.is_none() {
            return Ok(());
        }
    }
    vitals.scheduler_looked();
    let mut agenda = loop {
        let error = match Agenda::new(context.clone(), stop.clone()).await {
            Ok(agenda) => break agenda,
            Err(error) => anyhow::Error::from(error),
        };
        // As later: a database that goes away just now is waited for.
        if context.beside.outage.hear(&error).is_none() {
            return Err(error.context("cannot write down the schedules"));
        }
        while !context.beside.outage.is_over(&context.pool.connect_options()).await {
            vitals.scheduler_looked();
            if stop.run_until_cancelled(nudge(&mut ticks)).await.is_none() {
                return Ok(());
            }
        }
    };
    vitals.scheduler_looked();
    loop {
        // Nothing that holds a connection is inside what is cut off here.
        if stop.run_until_cancelled(nudge(&mut ticks)).await.is_none() {
            break;
        }
        agenda.look(clock.now()).await;
        vitals.scheduler_looked();
    }
    if let Err(error) = ticking.shutdown().await {
        tracing::debug!(%error, "the scheduler's tick did not end properly");
    }
    agenda.drain().await;
    Ok(())
}

/// Waits for a nudge, or for so long that one should have come.
async fn nudge(ticks: &mut mpsc::Receiver<()>) {
    let _ = tokio::time::timeout(LONGEST_SLEEP, ticks.recv()).await;
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
    pace: Pace,
    items: Vec<Item>,
    running: TaskTracker,
    clocks: Clocks,
    /// Whether the last look was at a moment that cannot be.
    is_implausible: bool,
}

struct Item {
    job: ScheduledJob,
    /// Nothing can be due before.
    look_at: DateTime<Utc>,
    /// The run that was first seen in the way of a due occurrence. Once it has moved, its owner lives.
    seen: Option<Running>,
}

impl Agenda {
    /// Writes the schedules down, so that what was missed can be told from what was never due.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn new(context: Context, stop: CancellationToken) -> sqlx::Result<Self> {
        let pace = Pace::usual(context.config.app.shutdown_grace);
        Self::at_pace(context, stop, pace).await
    }

    /// [`Agenda::new`] with other times of the runs.
    ///
    /// # Errors
    /// As [`Agenda::new`].
    pub async fn at_pace(context: Context, stop: CancellationToken, pace: Pace) -> sqlx::Result<Self> {
        let now = context.clock.now();
        let mut items = Vec::new();
        for job in &context.config.jobs {
            match &job.schedule {
                Some(schedule) if job.enabled => {
                    ledger::note_schedule(&context.pool, &job.name, schedule, now).await?;
                    items.push(Item { job: job.clone(), look_at: now, seen: None });
                }
                _ => ledger::forget_schedule(&context.pool, &job.name).await?,
            }
        }
        Ok(Self {
            context,
            stop,
            pace,
            items,
            running: TaskTracker::new(),
            clocks: Clocks::default(),
            is_implausible: false,
        })
    }

    /// Starts what is due at `now`, and records what is not to run.
    pub async fn look(&mut self, now: DateTime<Utc>) {
        self.look_when(Instant::now(), now).await;
    }

    /// The same, at an instant of the clock that nobody sets.
    pub async fn look_when(&mut self, instant: Instant, now: DateTime<Utc>) {
        if now < PLAUSIBLE {
            if !std::mem::replace(&mut self.is_implausible, true) {
                tracing::warn!("the system's clock stands at {now}; no job begins until it is set");
            }
            return;
        }
        self.is_implausible = false;
        if let Some(off) = self.clocks.were_set(instant, now) {
            tracing::info!(
                seconds = off.num_seconds(),
                "the wall clock was set, or the machine slept; planning anew"
            );
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
                    start(&self.running, &self.context, &item.job, occurrence, &self.stop, self.pace);
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

    /// How many runs it has started that have not ended.
    pub fn n_running(&self) -> usize {
        self.running.len()
    }

    /// Waits until everything that was started has ended.
    pub async fn drain(&self) {
        self.running.close();
        self.running.wait().await;
    }
}

/// What the clocks showed at the last look.
#[derive(Debug, Default)]
struct Clocks(Option<(Instant, DateTime<Utc>)>);

impl Clocks {
    /// By how much the wall clock has moved besides the time that passed, if it was set, or the machine slept, since the last look.
    fn were_set(&mut self, instant: Instant, now: DateTime<Utc>) -> Option<TimeDelta> {
        let (last_instant, last_now) = self.0.replace((instant, now))?;
        let passed = TimeDelta::from_std(instant.saturating_duration_since(last_instant));
        let off = (now - last_now) - passed.unwrap_or(TimeDelta::MAX);
        (off.abs() > CLOCK_WAS_SET).then_some(off)
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
    let Some(mut standing) = ledger::standing(&context.pool, &job.name, now).await? else {
        // Another instance does not follow this schedule and has forgotten it.
        ledger::note_schedule(&context.pool, &job.name, schedule, now).await?;
        return Ok(None);
    };
    if standing.since > now {
        ledger::note_schedule_earlier(&context.pool, &job.name, now).await?;
        standing.since = now;
    }
    let (mut policy, busy) = in_the_way(&mut item.seen, &standing, Policy::of(job));
    let after = settled(&standing);
    let busy = match policy.overlap {
        Overlap::QueueAll => {
            let queue = queue(busy, ledger::ended_since(&context.pool, &job.name, after).await?);
            // What was to be caught up when that began does not grow too old while it waits for its turn.
            policy.window = policy.window.saturating_add(worked_off_for(&queue, now));
            queue
        }
        Overlap::Skip | Overlap::QueueOne => busy.into_iter().collect(),
    };
    let Plan { mut skip, mut run, next } = planner::plan(schedule, after, now, policy, &busy);
    if let (Some(reason), Some(_)) = (&standing.paused, run) {
        let reason = format!("it is paused: {reason}");
        skip.extend(run.take().map(|scheduled_for| Skip {
            scheduled_for,
            reason,
            n_occurrences: 1,
            first: None,
        }));
    }
    for skip in &skip {
        if ledger::skip(&context.pool, &job.name, skip).await? {
            let (name, Skip { scheduled_for, reason, .. }) = (&job.name, skip);
            tracing::warn!(job = name, "job {name}: the run of {scheduled_for} is skipped: {reason}");
        }
    }
    if run.is_none() {
        // Until then nothing can be due. While something is, we look at every tick, until the ledger says that it is settled.
        item.look_at = next.unwrap_or(DateTime::<Utc>::MAX_UTC);
    }
    Ok(run.filter(|_| standing.running.is_none()))
}

/// Up to which occurrence everything is settled. One that was left behind by its program is due once more, unless its schedule has
/// changed since.
fn settled(standing: &Standing) -> DateTime<Utc> {
    let before = |last| last - TimeDelta::seconds(i64::from(standing.is_left_behind));
    standing.last.map(before).map_or(standing.since, |last| last.max(standing.since))
}

/// Which run is in the way of what is due. One that goes on may belong to a program that is gone, whose lease only has not run out yet.
/// `seen` is what was seen of it first: until it shows a sign of life, what came due meanwhile waits for it instead of being skipped.
fn in_the_way<'a>(
    seen: &mut Option<Running>,
    standing: &Standing,
    mut policy: Policy<'a>,
) -> (Policy<'a>, Option<Busy>) {
    let Some(running) = standing.running else {
        *seen = None;
        let busy = standing.ended.map(|ended| Busy { since: ended.since, until: Some(ended.until) });
        return (policy, busy);
    };
    let busy = Busy { since: running.since, until: None };
    let first = seen.filter(|seen| seen.since == running.since).unwrap_or(running);
    *seen = Some(first);
    if policy.overlap == Overlap::Skip && !running.is_ours && running.lease_until == first.lease_until {
        policy.overlap = Overlap::QueueOne;
    }
    (policy, Some(busy))
}

/// The runs that a queue of all occurrences waits for. One begins a moment after the other has ended, and what came due in that moment has
/// waited as well; what came due while nobody was there has not.
fn queue(last: Option<Busy>, ended: Vec<Ended>) -> Vec<Busy> {
    let ended = ended.into_iter().map(|ended| Busy { since: ended.since, until: Some(ended.until) });
    let runs = ended.chain(last);
    runs.map(|busy| Busy { since: busy.since - BETWEEN_TWO, ..busy }).collect()
}

/// For how long such a queue has been worked off without a pause.
fn worked_off_for(queue: &[Busy], now: DateTime<Utc>) -> Duration {
    let mut runs = queue.to_vec();
    runs.sort_by_key(|busy| Reverse(busy.since));
    let latest = now - BETWEEN_TWO;
    let mut reaches = latest;
    for busy in runs {
        if busy.until.is_some_and(|until| until < reaches) {
            break;
        }
        reaches = reaches.min(busy.since);
    }
    (latest - reaches).to_std().unwrap_or_default()
}

fn start(
    running: &TaskTracker,
    context: &Context,
    job: &ScheduledJob,
    occurrence: DateTime<Utc>,
    stop: &CancellationToken,
    pace: Pace,
) {
    let (context, job, stop) = (context.clone(), job.clone(), stop.clone());
    running.spawn(async move {
        let name = &job.name;
        let at = occurrence;
        let occurrence = Occurrence::Scheduled(at);
        match runner::run_at_pace(&context, &job, occurrence, false, &stop, pace).await {
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
                    "job {name}: the run of {at} could not be taken; trying again"
                );
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CatchUp;

    fn utc(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    #[test]
    fn a_run_is_in_the_way_once_it_has_shown_a_sign_of_life() {
        let policy = Policy {
            job: "probe",
            catch_up: CatchUp::Once,
            window: Duration::ZERO,
            overlap: Overlap::Skip,
            jitter: Duration::ZERO,
        };
        let (since, heard) = (utc("2026-03-01T08:00:00Z"), utc("2026-03-01T09:00:30Z"));
        let mut standing = Standing {
            since: utc("2026-01-01T00:00:00Z"),
            last: Some(since),
            is_left_behind: false,
            running: None,
            ended: None,
            paused: None,
        };
        let running = |since, lease_until, is_ours| {
            Some(Running { scheduled_for: utc("2026-03-01T08:00:00Z"), since, lease_until, is_ours })
        };
        standing.running = running(since, heard, false);
        let mut seen = None;
        let mut overlap = |standing: &Standing| in_the_way(&mut seen, standing, policy).0.overlap;
        // Twice the same is no sign.
        assert_eq!([overlap(&standing), overlap(&standing)], [Overlap::QueueOne; 2]);
        standing.running = running(since, heard + TimeDelta::seconds(10), false);
        assert_eq!([overlap(&standing), overlap(&standing)], [Overlap::Skip; 2]);
        // Another run has to show it anew.
        standing.running = running(heard, heard + TimeDelta::seconds(60), false);
        assert_eq!(overlap(&standing), Overlap::QueueOne);
        // Of a run of its own a process knows that it lives.
        standing.running = running(heard, heard + TimeDelta::seconds(60), true);
        assert_eq!(overlap(&standing), Overlap::Skip);
    }

    #[test]
    fn a_clock_that_was_set_and_a_machine_that_slept_are_noticed() {
        let (instant, now) = (Instant::now(), utc("2026-03-01T09:00:00Z"));
        // Time passes, by this much; the wall clock moves, by that much.
        let off = |passed: u64, moved: i64| {
            let mut clocks = Clocks::default();
            assert_eq!(clocks.were_set(instant, now), None, "nothing is known yet");
            let (instant, now) =
                (instant + Duration::from_millis(passed), now + TimeDelta::milliseconds(moved));
            let off = clocks.were_set(instant, now).map(|off| off.num_milliseconds());
            assert_eq!(clocks.were_set(instant, now), None, "it is told once");
            off
        };
        let (second, hour, year) = (1000, 3_600_000, 365 * 86_400_000);
        for still in
            [(1_000, second), (15_000, 15 * second), (0, 5 * second), (0, -5 * second), (9_000, 4 * second)]
        {
            assert_eq!(off(still.0, still.1), None, "{still:?}");
        }
        assert_eq!(off(1_000, 6 * second + 1), Some(5 * second + 1));
        assert_eq!(off(1_000, -4 * second - 1), Some(-5 * second - 1));
        assert_eq!(off(1_000, 3 * hour), Some(3 * hour - second), "asleep for three hours");
        assert_eq!(off(1_000, second - 25 * hour), Some(-25 * hour));
        assert_eq!(off(1_000, second + 10 * year), Some(10 * year));
        assert_eq!(off(1_000, second - 56 * year), Some(-56 * year));
        assert_eq!(off(10_000_000, second), Some(second - 10_000_000), "the wall clock stood still");
    }

    #[test]
    fn a_queue_is_worked_off_until_nobody_is_there() {
        let ended = |since: &str, until: &str| Ended {
            since: utc(&format!("2026-03-01T{since}:00Z")),
            until: utc(&format!("2026-03-01T{until}:00Z")),
        };
        let minutes = |ended: Vec<Ended>, now: &str| {
            let queue = queue(None, ended);
            worked_off_for(&queue, utc(&format!("2026-03-01T{now}:00Z"))).as_secs() / 60
        };
        let runs = || vec![ended("07:00", "07:30"), ended("09:00", "09:45"), ended("09:46", "10:30")];
        assert_eq!(minutes(runs(), "10:31"), 91, "since nine o'clock");
        assert_eq!(minutes(runs(), "10:32"), 0, "nobody has looked for longer than a moment");
        assert_eq!(minutes(runs(), "09:50"), 50, "the clock was set back");
        assert_eq!(minutes(Vec::new(), "10:31"), 0);
        let going = Busy { since: utc("2026-03-01T10:30:00Z"), until: None };
        let queue = queue(Some(going), runs());
        assert_eq!(worked_off_for(&queue, utc("2026-03-01T12:00:00Z")).as_secs() / 60, 180);
        // What came due in the moment between two of them has waited, too; what came due in the pause before has not.
        let was_in_the_way = |at: &str| {
            queue.iter().any(|busy| busy.since <= utc(at) && busy.until.is_none_or(|until| utc(at) < until))
        };
        assert!(was_in_the_way("2026-03-01T09:45:30Z") && !was_in_the_way("2026-03-01T08:00:00Z"));
    }

    #[test]
    fn what_was_left_behind_is_due_once_more_but_not_after_a_change_of_the_schedule() {
        let mut standing = Standing {
            since: utc("2026-01-01T00:00:00Z"),
            last: Some(utc("2026-03-01T08:00:00Z")),
            is_left_behind: false,
            running: None,
            ended: None,
            paused: None,
        };
        assert_eq!(settled(&standing), utc("2026-03-01T08:00:00Z"));
        standing.is_left_behind = true;
        assert_eq!(settled(&standing), utc("2026-03-01T07:59:59Z"));
        standing.since = utc("2026-03-01T08:10:00Z");
        assert_eq!(settled(&standing), standing.since);
    }
}
