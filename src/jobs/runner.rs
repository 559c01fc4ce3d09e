//! Runs one occurrence of one job: the same way for the schedule, for `afterword run`, for a request and for the tests.
//!
//! In: a job and an occurrence. Out: a settled row in the [`ledger`] and one line in the log. The row is taken first, and a lease on
//! it is renewed while the job runs, on a connection of its own, so that a busy pool does not look like a dead program. If we die half
//! way, the lease runs out, and an occurrence of the schedule is begun again in the same row; the work is made to be done again.
//!
//! A job is never cut off, because a future that is dropped in the middle of a query spoils its connection: it is told to stop, and
//! it looks. One that does not look ends with the program; its row says so, and from then on the database refuses what it writes: the
//! job works with connections of its own, which say whose they are (`migrations/20_fence.sql`).

use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, PgPool};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::ledger::{self, Hold, JobRunState, Occurrence, Refusal, Request};
use super::{AnyJob, JobError, Refused, Run, RunOutcome, RunReport, counted};
use crate::config::ScheduledJob;
use crate::context::Context;
use crate::db;
use crate::db::again;
use crate::db::outage::Outage;
use crate::db::pools::Whose;
use crate::masked;
use crate::process;
use crate::progress::{Progress, Step};
use crate::stop::Stopped;
use crate::types::{Clock, JobRunId};

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The job says how it went.
    Ended(RunReport),
    /// It could not do its work, panicked, or did not stop when its time was over.
    Failed { reason: String },
    /// It found that it may not do its work.
    Declined { reason: String },
    /// The program was stopped, or lost the database, before the job ended; or the database's disk is full, or it takes no writes.
    Interrupted { reason: String },
    /// It did not begin.
    Refused(Refusal),
}

/// A lease that could not be renewed is tried again in this time.
const AFTER_A_FAULT: Duration = Duration::from_secs(1);

/// How often and how long. Tests take shorter times.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How long the ledger believes in us without hearing from us.
    pub lease: Duration,
    /// How often it hears from us.
    pub renew: Duration,
    /// So long without an answer, and we stop by ourselves, well before somebody else may begin.
    pub give_up: Duration,
    /// How long a job has to end after it was told to stop.
    pub grace: Duration,
}

impl Pace {
    /// The usual one, with the configured time to end.
    pub fn usual(grace: Duration) -> Self {
        Self {
            lease: Duration::from_secs(60),
            renew: Duration::from_secs(10),
            give_up: Duration::from_secs(40),
            grace,
        }
    }
}

/// Runs one occurrence. A dry run changes nothing, and therefore takes no row in the ledger, waits for nobody and is in nobody's way.
///
/// # Errors
/// When the database does not answer before the job has begun; afterwards everything is an [`Outcome`].
pub async fn run_occurrence(
    context: &Context,
    job: &ScheduledJob,
    occurrence: Occurrence<'_>,
    dry_run: bool,
    stop: &CancellationToken,
) -> sqlx::Result<Outcome> {
    let pace = Pace::usual(context.config.app.shutdown_grace);
    run_at_pace(context, job, occurrence, dry_run, stop, pace).await
}

/// [`run_occurrence`] with other times.
///
/// # Errors
/// As [`run_occurrence`].
pub async fn run_at_pace(
    context: &Context,
    job: &ScheduledJob,
    occurrence: Occurrence<'_>,
    dry_run: bool,
    stop: &CancellationToken,
    pace: Pace,
) -> sqlx::Result<Outcome> {
    if dry_run {
        let (_alive, renewed) = watch::channel(Instant::now());
        let mut how = How::of(occurrence, Progress::default());
        how.dry_run = true;
        how.resumed_at = resumed_at(context, job).await?;
        return Ok(supervise(context, job, how, stop, pace, Lease { renewed, lost: None }).await);
    }
    Ok(match begin(context, job, occurrence, Progress::default(), pace).await? {
        Ok(begun) => begun.carry_out(stop).await,
        Err(refusal) => Outcome::Refused(refusal),
    })
}

/// When the job was last resumed after a pause.
async fn resumed_at(context: &Context, job: &ScheduledJob) -> sqlx::Result<Option<DateTime<Utc>>> {
    Ok(ledger::pause(&context.pool, &job.name).await?.and_then(|pause| pause.resumed_at))
}

/// A run that has its row in the ledger, and is still to be carried out. Dropped, it is left behind: its row is nobody's.
#[must_use = "the row is taken, and the run is to be carried out"]
pub struct Begun {
    /// The row.
    pub id: JobRunId,
    job: ScheduledJob,
    context: Context,
    fenced: Context,
    hold: Hold,
    /// Under whose name the row is: it is ours for as long as this is there, and nobody's afterwards.
    owner: process::Hold,
    heart: Heart,
    how: How,
    pace: Pace,
    is_watched: bool,
}

/// Takes the row for a run. How far it then is, is told to `progress`.
///
/// # Errors
/// When the database does not answer.
pub async fn begin(
    context: &Context,
    job: &ScheduledJob,
    occurrence: Occurrence<'_>,
    progress: Progress,
    pace: Pace,
) -> sqlx::Result<Result<Begun, Refusal>> {
    let mut how = How::of(occurrence, progress.clone());
    how.resumed_at = resumed_at(context, job).await?;
    let name = job.name.as_str();
    let owner = process::Hold::new();
    let hold = match ledger::claim(&context.pool, name, occurrence, owner.name(), pace.lease).await? {
        Ok(hold) => hold,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let Hold { id, attempt } = hold;
    match occurrence {
        Occurrence::Requested(Request { by, .. }) => {
            tracing::info!(job = name, job_run.id = %id, access = by, "job {name}: run {id} begins, because {by} asked for it");
        }
        Occurrence::Scheduled(_) | Occurrence::ByHand => {
            tracing::debug!(job = name, job_run.id = %id, attempt, "job {name}: run {id} begins");
        }
    }
    how.job_run = Some(id);
    let heart = Heart::start(context.pool.clone(), hold, pace, progress);
    let pool = db::pool_of_run(&context.pool, &hold.fence(), pace.lease / 2, job.job.connections().pool);
    context.beside.pools.add(Whose::Run, &pool);
    let fenced = Context { pool, ..context.clone() };
    Ok(Ok(Begun {
        id,
        job: job.clone(),
        context: context.clone(),
        fenced,
        hold,
        owner,
        heart,
        how,
        pace,
        is_watched: occurrence == Occurrence::ByHand,
    }))
}

impl Begun {
    /// Carries it out, and records how it ended.
    pub async fn carry_out(self, stop: &CancellationToken) -> Outcome {
        let Self { id, job, context, fenced, hold, owner, heart, how, pace, is_watched } = self;
        let name = job.name.as_str();
        let outcome = supervise(&fenced, &job, how, stop, pace, heart.lease()).await;
        let outcome = settle(&context, name, hold, outcome).await;
        drop(owner);
        heart.stop().await;
        // Nobody waits for it, because a job that did not end keeps what it has; it gets nothing more.
        tokio::spawn(async move { fenced.pool.close().await });
        if let Outcome::Ended(RunReport { pause: Some(reason), .. }) = &outcome {
            pause(&context, name, reason).await;
        }
        log(name, id, is_watched, &outcome);
        outcome
    }
}

/// Keeps a job from running until somebody has looked.
async fn pause(context: &Context, job: &str, reason: &str) {
    match ledger::set_pause(&context.pool, job, reason, context.clock.now()).await {
        Ok(_) => {
            tracing::error!(
                job,
                "job {job} is paused: {reason}; `afterword jobs resume {job}` lets it go on"
            );
        }
        // The next run finds the same, and tries again.
        Err(error) => {
            let error = masked::reason(&error.into());
            tracing::error!(job, error, "job {job} was to be paused ({reason}), which could not be recorded");
        }
    }
}

/// How a run came about.
#[derive(Debug)]
struct How {
    dry_run: bool,
    job_run: Option<JobRunId>,
    by_hand: bool,
    resumed_at: Option<DateTime<Utc>>,
    progress: Progress,
}

impl How {
    fn of(occurrence: Occurrence<'_>, progress: Progress) -> Self {
        let by_hand = !matches!(occurrence, Occurrence::Scheduled(_));
        Self { dry_run: false, job_run: None, by_hand, resumed_at: None, progress }
    }
}

/// Why a job was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// The program ends.
    Shutdown,
    /// Its time is over.
    Timeout,
    /// The row in the ledger is, or may soon be, somebody else's.
    LeaseLost,
}

/// Runs the job in a task of its own, tells it to stop where that is due, and waits for it as long as is right.
async fn supervise(
    context: &Context,
    job: &ScheduledJob,
    how: How,
    stop: &CancellationToken,
    pace: Pace,
    mut lease: Lease,
) -> Outcome {
    let body_stop = CancellationToken::new();
    let mut body = Body::spawn(context, job, how, body_stop.clone());
    let deadline = Instant::now() + job.timeout;
    let mut told: Option<(Cause, Instant)> = None;
    let result = loop {
        let cause = match told {
            Some((_, give_up_at)) => tokio::select! {
                result = &mut body.task => break Some(result),
                () = tokio::time::sleep_until(give_up_at) => break None,
            },
            None => tokio::select! {
                result = &mut body.task => break Some(result),
                () = stop.cancelled() => Cause::Shutdown,
                () = tokio::time::sleep_until(deadline) => Cause::Timeout,
                () = lease.lost(pace.give_up) => Cause::LeaseLost,
            },
        };
        body_stop.cancel();
        told = Some((cause, Instant::now() + pace.grace));
    };
    let cause = told.map(|(cause, _)| cause);
    let timeout = humane(job.timeout);
    match (result, cause) {
        (Some(Ok(Ok(mut report))), cause) => {
            if report.outcome == RunOutcome::Partial && cause == Some(Cause::Timeout) {
                report
                    .text
                    .push_str(&format!("; stopped because it took longer than its timeout of {timeout}"));
            }
            report.text = masked::words(&report.text);
            report.pause = report.pause.as_deref().map(masked::words);
            masked::json(&mut report.details);
            Outcome::Ended(report)
        }
        (Some(Ok(Err(error))), _) if error.is::<Refused>() => {
            Outcome::Declined { reason: masked::reason(&error) }
        }
        (Some(Ok(Err(error))), cause) if error.is::<Stopped>() => match cause {
            Some(Cause::Timeout) => Outcome::Failed {
                reason: format!("timeout: it was told to stop after {timeout}, with its work not done"),
            },
            Some(Cause::LeaseLost) => {
                Outcome::Interrupted { reason: "the database did not answer, and the job stopped".to_owned() }
            }
            Some(Cause::Shutdown) | None => {
                Outcome::Interrupted { reason: "the program was stopped".to_owned() }
            }
        },
        (Some(Ok(Err(error))), _) => match Outage::behind(&error) {
            Some(outage) => {
                let (what, why) = (outage.words(), masked::reason(&error));
                Outcome::Interrupted { reason: format!("{what} ({why})") }
            }
            None => Outcome::Failed { reason: masked::reason(&error) },
        },
        (Some(Err(error)), _) => Outcome::Failed { reason: body.post_mortem(&error) },
        (None, Some(Cause::Timeout)) => Outcome::Failed {
            reason: format!(
                "timeout: told to stop after {timeout}, it did not end within another {}",
                humane(pace.grace)
            ),
        },
        (None, Some(Cause::LeaseLost)) => Outcome::Interrupted {
            reason: "the database did not answer, and the job did not stop".to_owned(),
        },
        (None, Some(Cause::Shutdown) | None) => Outcome::Interrupted {
            reason: format!("the program was stopped, and the job did not end within {}", humane(pace.grace)),
        },
    }
}

/// The job's task.
struct Body {
    task: JoinHandle<Result<RunReport, JobError>>,
    panicked_at: Arc<Mutex<Option<String>>>,
}

tokio::task_local! {
    /// Where the job of this task has panicked.
    static PANICKED_AT: Arc<Mutex<Option<String>>>;
}

impl Body {
    fn spawn(context: &Context, job: &ScheduledJob, how: How, stop: CancellationToken) -> Self {
        keep_panics_quiet();
        let panicked_at = Arc::new(Mutex::new(None));
        let (context, name, job) = (context.clone(), job.name.clone(), job.job.clone());
        let task = tokio::spawn(PANICKED_AT.scope(panicked_at.clone(), async move {
            let How { dry_run, job_run, by_hand, resumed_at, progress } = how;
            let context = &context;
            let run = Run { context, stop, dry_run, by_hand, job: &name, job_run, resumed_at, progress };
            until_the_database_holds(&job, &run).await
        }));
        Self { task, panicked_at }
    }

    /// What is kept of a panic: the place. Its message may quote a customer.
    fn post_mortem(&self, error: &JoinError) -> String {
        let place = self.panicked_at.lock().ok().and_then(|mut place| place.take());
        match place {
            _ if !error.is_panic() => "its task was ended".to_owned(),
            Some(place) => format!("panic: at {place}"),
            None => "panic: at an unknown place".to_owned(),
        }
    }
}

/// Runs the job; anew, when the database was at fault and works again before the run is told to stop, or when it has taken back a
/// transaction for the sake of another one. A job is made to be begun anew: what it had done is in its rows.
async fn until_the_database_holds(job: &AnyJob, run: &Run<'_>) -> Result<RunReport, JobError> {
    let outage = &run.context.beside.outage;
    let (mut n_faults, mut n_taken_back) = (0, 0);
    loop {
        let error = match job.run(run).await {
            Err(error) if again::is_worth_another(&*error, &mut n_taken_back).await => {
                n_faults += 1;
                continue;
            }
            Err(error) if outage.hear(&error).is_some() => error,
            Ok(mut report) if n_faults > 0 => {
                let times = counted(n_faults, "time");
                report.text.push_str(&format!(
                    "; begun anew {times}, because of the database, and this counts only what came after"
                ));
                return Ok(report);
            }
            ended => return ended,
        };
        n_faults += 1;
        while !outage.is_over(&run.context.pool.connect_options()).await {
            let pause = tokio::time::sleep(Duration::from_millis(200));
            if run.stop.run_until_cancelled(pause).await.is_none() {
                return Err(error);
            }
        }
        if run.stop.is_cancelled() {
            return Err(error);
        }
    }
}

/// Takes the panics of jobs out of the hands of the usual hook, which would print their message.
fn keep_panics_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let is_job = PANICKED_AT.try_with(|place| {
                if let Ok(mut place) = place.lock() {
                    *place = panic.location().map(|at| format!("{}:{}", at.file(), at.line()));
                }
            });
            if is_job.is_err() {
                usual(panic);
            }
        }));
    });
}

/// What the supervisor sees of the lease.
struct Lease {
    /// When it was last renewed.
    renewed: watch::Receiver<Instant>,
    /// Cancelled once the row turned out to be settled by somebody else. `None`: there is no lease.
    lost: Option<CancellationToken>,
}

impl Lease {
    /// Returns when the lease is lost, or was not renewed for so long that it may be soon.
    async fn lost(&mut self, give_up: Duration) {
        let Some(lost) = self.lost.clone() else { return std::future::pending().await };
        loop {
            let renewed = *self.renewed.borrow_and_update();
            tokio::select! {
                () = lost.cancelled() => return,
                () = tokio::time::sleep_until(renewed + give_up) => return,
                // A closed channel means that the heart has stopped; the time above decides then.
                Ok(()) = self.renewed.changed() => {}
            }
        }
    }
}

/// Renews the lease in a task of its own, which the supervisor watches but never waits for: a database that does not answer keeps
/// this task in its query, not the decision to stop.
struct Heart {
    renewed: watch::Receiver<Instant>,
    lost: CancellationToken,
    /// Dropped with the rest, so that no row is kept alive that nobody works on.
    done: DropGuard,
    task: JoinHandle<()>,
}

impl Heart {
    fn start(pool: PgPool, hold: Hold, pace: Pace, progress: Progress) -> Self {
        let (beat, renewed) = watch::channel(Instant::now());
        let (lost, done) = (CancellationToken::new(), CancellationToken::new());
        let task = tokio::spawn({
            let (lost, done) = (lost.clone(), done.clone());
            async move {
                let mut connection = None;
                let mut pause = pace.renew;
                // Short runs never come as far as opening the connection.
                while done.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
                    let begun = Instant::now();
                    let was_at_fault = pause != pace.renew;
                    match Self::beat(&pool, &mut connection, hold, pace, progress.step()).await {
                        Ok(true) => {
                            pause = pace.renew;
                            let _ = beat.send(begun);
                        }
                        Ok(false) => {
                            lost.cancel();
                            break;
                        }
                        Err(error) => {
                            connection = None;
                            // A database that comes and goes would else be asked in bad moments only, until the lease has run out.
                            pause = AFTER_A_FAULT.min(pace.renew / 2);
                            let id = hold.id;
                            if !was_at_fault {
                                tracing::warn!(job_run.id = %id, error = %masked::reason(&error.into()), "the lease of run {id} could not be renewed; trying again every second");
                            }
                        }
                    }
                }
                if let Some(connection) = connection {
                    // The server notices the end in any case.
                    let _ = connection.close().await;
                }
            }
        });
        Self { renewed, lost, done: done.drop_guard(), task }
    }

    async fn beat(
        pool: &PgPool,
        connection: &mut Option<PgConnection>,
        hold: Hold,
        pace: Pace,
        step: Option<Step>,
    ) -> sqlx::Result<bool> {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(pool.connect_options().connect().await?),
        };
        ledger::renew(connection, hold, pace.lease, step).await
    }

    fn lease(&self) -> Lease {
        Lease { renewed: self.renewed.clone(), lost: Some(self.lost.clone()) }
    }

    /// Lets it end, and waits a moment for its connection to be closed.
    async fn stop(self) {
        drop(self.done);
        // Past the moment the task is left alone, not cut off: it ends by itself when the database answers.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.task).await;
    }
}

/// Writes how the run ended. A database that is away for a moment gets a few chances; after that the row is left behind: the next claim
/// of this process closes it as interrupted at once, that of another one when its lease has run out.
/// A try whose answer was lost may have been committed, so that the next one finds nothing to write: then the row tells whether it was
/// ours.
async fn settle(context: &Context, job: &str, hold: Hold, outcome: Outcome) -> Outcome {
    let (state, why, report) = match &outcome {
        Outcome::Ended(report) => {
            let state = match report.outcome {
                RunOutcome::Done => JobRunState::Done,
                RunOutcome::Partial => JobRunState::Partial,
            };
            let mut row = json!({ "text": report.text, "details": report.details });
            if let Clock::Fixed(as_of) = context.clock {
                row["as_of"] = json!(as_of);
            }
            (state, None, Some(row))
        }
        Outcome::Failed { reason } | Outcome::Declined { reason } => {
            (JobRunState::Failed, Some(reason.as_str()), None)
        }
        Outcome::Interrupted { reason } => (JobRunState::Interrupted, Some(reason.as_str()), None),
        Outcome::Refused(_) => return outcome,
    };
    let mut is_in_doubt = false;
    for pause in [1, 2, 4, 8, 0] {
        let settled = match ledger::settle(&context.pool, hold, state, why, report.as_ref()).await {
            Ok(false) if is_in_doubt => ledger::is_settled_as(&context.pool, hold, state, why).await,
            settled => settled,
        };
        match settled {
            Ok(true) => return outcome,
            Ok(false) => {
                return Outcome::Interrupted {
                    reason: "another instance took this run for dead and closed it".to_owned(),
                };
            }
            Err(error) => {
                is_in_doubt = true;
                let (id, error) = (hold.id, masked::reason(&error.into()));
                tracing::warn!(job, job_run.id = %id, error, "job {job}: the end of run {id} could not be recorded");
                tokio::time::sleep(Duration::from_secs(pause)).await;
            }
        }
    }
    outcome
}

/// One line per run. Whoever ran it by hand is told on the screen, so that it needs no line unless one is asked for.
fn log(job: &str, id: JobRunId, is_watched: bool, outcome: &Outcome) {
    let (word, text) = match outcome {
        Outcome::Ended(report) => match report.outcome {
            RunOutcome::Done => ("done", report.text.as_str()),
            RunOutcome::Partial => ("partial", report.text.as_str()),
        },
        Outcome::Failed { reason } | Outcome::Declined { reason } => ("failed", reason.as_str()),
        Outcome::Interrupted { reason } => ("interrupted", reason.as_str()),
        Outcome::Refused(_) => return,
    };
    match (is_watched, word) {
        (true, _) => {
            tracing::debug!(job, job_run.id = %id, outcome = word, "job {job}: {text}")
        }
        (_, "done") => tracing::info!(job, job_run.id = %id, outcome = word, "job {job}: {text}"),
        (_, "failed") => tracing::error!(job, job_run.id = %id, outcome = word, "job {job} failed: {text}"),
        _ => tracing::warn!(job, job_run.id = %id, outcome = word, "job {job}, {word}: {text}"),
    }
}

/// `90m` as a person writes it in jobs.toml.
fn humane(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        _ if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        _ if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_write_them() {
        let shown = [7200, 300, 90].map(|seconds| humane(Duration::from_secs(seconds)));
        assert_eq!(shown, ["2h", "5m", "90s"]);
        assert_eq!(humane(Duration::from_millis(50)), "50ms");
    }
}
