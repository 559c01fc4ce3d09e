//! The ledger of the jobs: the table `job_run`, with `job_tally`, `job_schedule` and `job_pause` beside it.
//!
//! A row is taken before anything is done and settled after it, so that whatever dies in between is seen: its lease runs out on the
//! database's clock, and whoever comes next closes the row as interrupted. A scheduled occurrence is then due once more, in the same row,
//! with the next attempt. Row and attempt are the fence ([`Hold`]): a run that was taken for dead can settle nothing any more, and the
//! database refuses whatever else it writes (`migrations/20_fence.sql`). Of its own runs a process knows better: where the database was
//! asleep or its clock was set, they are alive, and the next sign of life renews the lease.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use sqlx::{PgConnection, PgExecutor, PgPool};
use tokio::time::Instant;

use crate::process;
use crate::progress::Step;
use crate::scheduler::planner::Skip;
use crate::types::JobRunId;

/// What made a run happen. The database's `job_trigger`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type)]
#[sqlx(type_name = "job_trigger", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum JobTrigger {
    Schedule,
    /// Somebody at the machine.
    Hand,
    /// Somebody with a token, over HTTP.
    Request,
}

/// Where a run stands. The database's `job_run_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type)]
#[sqlx(type_name = "job_run_state", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum JobRunState {
    Running,
    Done,
    /// Some rows were rejected, some mails failed, or it was stopped; the rest is done.
    Partial,
    Failed,
    /// It was due and did not run; the reason says why.
    Skipped,
    /// Its program ended before it did.
    Interrupted,
}

impl JobTrigger {
    /// The database's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Hand => "hand",
            Self::Request => "request",
        }
    }
}

impl JobRunState {
    /// The database's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Which occurrence of a job is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occurrence<'a> {
    /// The one that the schedule names.
    Scheduled(DateTime<Utc>),
    /// One that a person at the machine asks for now.
    ByHand,
    /// One that is asked for now over HTTP.
    Requested(Request<'a>),
}

/// What is asked for over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// Which access asks.
    pub by: &'a str,
    /// By which they tell a request that they send again from a new one. `None`: each is new.
    pub key: Option<&'a str>,
}

/// So often an occurrence is begun at most. What kills its program every time must not do so for ever.
pub const MOST_ATTEMPTS: i32 = 5;

/// A row of the ledger in our hands: the proof that its run is ours, until somebody takes us for dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    pub id: JobRunId,
    pub attempt: i32,
}

impl Hold {
    /// What the connections of the run say to the database, which `hold_fence` reads.
    pub fn fence(self) -> String {
        format!("{}/{}", self.id, self.attempt)
    }
}

/// Why a run did not begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The job is running already.
    Running { run: JobRunId, since: DateTime<Utc>, owner: String },
    /// The same request has begun this run before.
    Known { run: JobRunId },
    /// Somebody else had this occurrence before us.
    Taken,
    /// Somebody, or a brake of its own, has paused it.
    Paused { since: DateTime<Utc>, reason: String },
}

/// A row of the ledger.
#[derive(Debug, Clone, Serialize)]
pub struct JobRun {
    pub job_run_id: JobRunId,
    pub job: String,
    pub scheduled_for: DateTime<Utc>,
    pub trigger: JobTrigger,
    /// Which access asked for it, over HTTP.
    pub asked_by: Option<String>,
    pub state: JobRunState,
    /// How often it was begun.
    pub attempt: i32,
    pub reason: Option<String>,
    pub owner: String,
    pub started_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
    /// How far it was at its last sign of life, while it runs.
    pub progress: Option<serde_json::Value>,
    pub report: Option<serde_json::Value>,
}

/// What the ledger knows about a job before it is planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// When its schedule was first seen as it is now, or up to when its rows were let go of: nothing is caught up from before.
    pub since: DateTime<Utc>,
    /// Its last occurrence up to now that is settled or running; a later one, if a row for many stands for now as well.
    pub last: Option<DateTime<Utc>>,
    /// Whether `last` was interrupted and may be begun once more.
    pub is_left_behind: bool,
    /// The run that has a living lease, or is one of ours.
    pub running: Option<Running>,
    /// The last run that came to its end.
    pub ended: Option<Ended>,
    /// Why it is paused.
    pub paused: Option<String>,
}

/// A run that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    pub scheduled_for: DateTime<Utc>,
    pub since: DateTime<Utc>,
    /// Grows with every sign of life.
    pub lease_until: DateTime<Utc>,
    /// Whether it is a run of this process, which needs no sign of its life.
    pub is_ours: bool,
}

/// A run that came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub since: DateTime<Utc>,
    pub until: DateTime<Utc>,
}

/// How long a claim waits for the open transactions of runs that are over.
const CLAIM_PATIENCE: Duration = Duration::from_secs(2);

/// Closes the job's run if its lease has run out or its owner is known to be gone, and takes a row for a new one: for an occurrence
/// that was interrupted the same row again. `owner` is under whose name: this process's, or one of its [`process::Hold`]s.
///
/// # Errors
/// When the database does not answer.
pub async fn claim(
    pool: &PgPool,
    job: &str,
    occurrence: Occurrence<'_>,
    owner: &str,
    lease: Duration,
) -> sqlx::Result<Result<Hold, Refusal>> {
    // Whatever has happened since, a request that is sent again gets the answer to the first.
    if let Some(run) = begun_before(pool, job, occurrence).await? {
        return Ok(Err(Refusal::Known { run }));
    }
    if let Some(Pause { reason, paused_at, .. }) = paused(pool, job).await? {
        return Ok(Err(Refusal::Paused { since: paused_at, reason }));
    }
    close_abandoned(pool, job).await?;
    let begun = Instant::now();
    loop {
        if let Some(claimed) = try_to_claim(pool, job, occurrence, owner, lease).await? {
            return Ok(claimed);
        }
        if begun.elapsed() > CLAIM_PATIENCE {
            // Its row is closed, its transaction is not: the database ends those that do nothing, the others end by themselves.
            let last = sqlx::query!(
                r#"select job_run_id as "id: JobRunId", started_at, owner from job_run where job = $1 and state <> 'skipped'
                   order by started_at desc limit 1"#,
                job,
            )
            .fetch_optional(pool)
            .await?;
            return Ok(Err(last.map_or(Refusal::Taken, |last| Refusal::Running {
                run: last.id,
                since: last.started_at,
                owner: last.owner,
            })));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The run that this request has begun.
async fn begun_before(
    executor: impl PgExecutor<'_>,
    job: &str,
    occurrence: Occurrence<'_>,
) -> sqlx::Result<Option<JobRunId>> {
    let Occurrence::Requested(Request { by, key: Some(key) }) = occurrence else { return Ok(None) };
    sqlx::query_scalar!(
        r#"select job_run_id as "id: JobRunId" from job_run where job = $1 and asked_by = $2 and request_key = $3"#,
        job,
        by,
        key,
    )
    .fetch_optional(executor)
    .await
}

/// One try; `None` while a run that is over, or another claim, has an open transaction.
async fn try_to_claim(
    pool: &PgPool,
    job: &str,
    occurrence: Occurrence<'_>,
    owner: &str,
    lease: Duration,
) -> sqlx::Result<Option<Result<Hold, Refusal>>> {
    let (trigger, scheduled_for, request) = match occurrence {
        Occurrence::Scheduled(at) => (JobTrigger::Schedule, Some(at), None),
        Occurrence::ByHand => (JobTrigger::Hand, None, None),
        Occurrence::Requested(request) => (JobTrigger::Request, None, Some(request)),
    };
    let mut tx = pool.begin().await?;
    // Tried and not waited for: whoever waits in the queue of a lock holds up those behind, and they may be a living run's.
    let is_free = sqlx::query_scalar!(
        r#"select pg_try_advisory_xact_lock(hashtext('job'), hashtext($1)) as "is_free!""#,
        job
    )
    .fetch_one(&mut *tx)
    .await?;
    let running = sqlx::query!(
        r#"select job_run_id as "id: JobRunId", started_at, owner, scheduled_for is not distinct from $2 as "is_same!"
           from job_run where job = $1 and state = 'running'"#,
        job,
        scheduled_for,
    )
    .fetch_optional(&mut *tx)
    .await?;
    // Last, so that a request that came twice at once finds what the first one has begun, and does not only see it running.
    if let Some(run) = begun_before(&mut *tx, job, occurrence).await? {
        tx.rollback().await?;
        return Ok(Some(Err(Refusal::Known { run })));
    }
    if let Some(running) = running {
        tx.rollback().await?;
        return Ok(Some(Err(match running.is_same {
            true => Refusal::Taken,
            false => Refusal::Running { run: running.id, since: running.started_at, owner: running.owner },
        })));
    }
    if !is_free {
        tx.rollback().await?;
        return Ok(None);
    }
    let claimed = sqlx::query!(
        r#"insert into job_run (job, scheduled_for, trigger, state, owner, lease_until, started_at, asked_by, request_key)
           values ($1, coalesce($2, clock_timestamp()), $3, 'running', $4, clock_timestamp() + make_interval(secs => $5),
               clock_timestamp(), $7, $8)
           on conflict on constraint job_run_occurrence_key do update
           set state = 'running', attempt = job_run.attempt + 1, reason = null, owner = excluded.owner,
               lease_until = excluded.lease_until, started_at = excluded.started_at, finished_at = null, progress = null
           where job_run.state = 'interrupted' and job_run.trigger = 'schedule' and job_run.attempt < $6
           returning job_run_id as "id: JobRunId", attempt"#,
        job,
        scheduled_for,
        trigger as JobTrigger,
        owner,
        lease.as_secs_f64(),
        MOST_ATTEMPTS,
        request.map(|request| request.by),
        request.and_then(|request| request.key),
    )
    .fetch_optional(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Some(claimed.map(|row| Hold { id: row.id, attempt: row.attempt }).ok_or(Refusal::Taken)))
}

/// Whether the owner of a row is surely no longer there.
fn is_gone(owner: &str) -> bool {
    process::is_gone(owner) || process::Hold::is_dropped(owner)
}

/// Closes a run whose owner no longer renews its lease, or is known to be gone.
async fn close_abandoned(pool: &PgPool, job: &str) -> sqlx::Result<()> {
    let owner = sqlx::query_scalar!("select owner from job_run where job = $1 and state = 'running'", job)
        .fetch_optional(pool)
        .await?;
    if owner.as_deref().is_some_and(process::Hold::is_held) {
        return Ok(());
    }
    let closed = sqlx::query_scalar!(
        r#"update job_run
           set state = 'interrupted', finished_at = clock_timestamp(), lease_until = null, progress = null,
               reason = 'its program ended, or lost the database, before it was done'
           where job = $1 and state = 'running' and (lease_until < now() or owner = $2)
           returning job_run_id as "id: JobRunId""#,
        job,
        owner.filter(|owner| is_gone(owner)),
    )
    .fetch_all(pool)
    .await?;
    for id in closed {
        tracing::warn!(job, job_run.id = %id, "job {job}: run {id} was left behind by its program, closed as interrupted");
    }
    Ok(())
}

/// Prolongs the lease, and notes how far the run is; `false` when the row is no longer ours.
///
/// # Errors
/// When the database does not answer.
pub async fn renew(
    connection: &mut PgConnection,
    hold: Hold,
    lease: Duration,
    step: Option<Step>,
) -> sqlx::Result<bool> {
    let renewed = sqlx::query!(
        "update job_run set lease_until = now() + make_interval(secs => $3), progress = $4
         where job_run_id = $1 and attempt = $2 and state = 'running'",
        hold.id.0,
        hold.attempt,
        lease.as_secs_f64(),
        step.map(|step| json!(step)),
    )
    .execute(connection)
    .await?;
    Ok(renewed.rows_affected() == 1)
}

/// Settles a run; `false` when the row is no longer ours.
///
/// # Errors
/// When the database does not answer.
pub async fn settle(
    pool: &PgPool,
    hold: Hold,
    state: JobRunState,
    reason: Option<&str>,
    report: Option<&serde_json::Value>,
) -> sqlx::Result<bool> {
    let settled = sqlx::query!(
        "update job_run set state = $3, reason = $4, report = $5, finished_at = clock_timestamp(), lease_until = null, progress = null
         where job_run_id = $1 and attempt = $2 and state = 'running'",
        hold.id.0,
        hold.attempt,
        state as JobRunState,
        reason,
        report,
    )
    .execute(pool)
    .await?;
    Ok(settled.rows_affected() == 1)
}

/// Whether a run has ended as [`settle`] was to write it. Whoever else closes a run leaves it interrupted, for a reason of its own; whoever
/// begins it anew counts an attempt more.
///
/// # Errors
/// When the database does not answer.
pub async fn is_settled_as(
    pool: &PgPool,
    hold: Hold,
    state: JobRunState,
    reason: Option<&str>,
) -> sqlx::Result<bool> {
    let row = run(pool, hold.id).await?;
    Ok(row.is_some_and(|row| {
        row.attempt == hold.attempt && row.state == state && row.reason.as_deref() == reason
    }))
}

/// Records that an occurrence does not run, or several in a row; `false` when somebody settled it before.
///
/// # Errors
/// When the database does not answer.
pub async fn skip(pool: &PgPool, job: &str, skip: &Skip) -> sqlx::Result<bool> {
    let Skip { scheduled_for, reason, n_occurrences, first } = skip;
    let skipped = sqlx::query!(
        "insert into job_run (job, scheduled_for, trigger, state, reason, n_occurrences, owner, started_at, finished_at, first_for)
         values ($1, $2, 'schedule', 'skipped', $3, $4, $5, now(), now(), $6)
         on conflict do nothing",
        job,
        scheduled_for,
        reason,
        i32::try_from(*n_occurrences).unwrap_or(i32::MAX),
        process::name(),
        *first,
    )
    .execute(pool)
    .await?;
    Ok(skipped.rows_affected() == 1)
}

/// Notes since when the schedule is as it is: `now` if it is new or has changed, so that catching up invents no past runs.
///
/// # Errors
/// When the database does not answer.
pub async fn note_schedule(
    pool: &PgPool,
    job: &str,
    schedule: &crate::scheduler::Schedule,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into job_schedule (job, schedule, timezone, since) values ($1, $2, $3, $4)
         on conflict (job) do update
         set schedule = excluded.schedule, timezone = excluded.timezone, since = excluded.since
         where (job_schedule.schedule, job_schedule.timezone) is distinct from (excluded.schedule, excluded.timezone)",
        job,
        schedule.expression(),
        schedule.timezone().name(),
        now,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Notes that a schedule was seen at `now` already: the clock was ahead when it was noted, and nothing would be due until it is as late
/// as it said then.
///
/// # Errors
/// When the database does not answer.
pub async fn note_schedule_earlier(pool: &PgPool, job: &str, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!("update job_schedule set since = $2 where job = $1 and since > $2", job, now)
        .execute(pool)
        .await?;
    Ok(())
}

/// Forgets a schedule that is not followed for now; once it is again, it counts as new.
///
/// # Errors
/// When the database does not answer.
pub async fn forget_schedule(pool: &PgPool, job: &str) -> sqlx::Result<()> {
    sqlx::query!("delete from job_schedule where job = $1", job).execute(pool).await?;
    Ok(())
}

/// How a job stands at `now`; `None` when its schedule was not noted.
///
/// # Errors
/// When the database does not answer.
pub async fn standing(pool: &PgPool, job: &str, now: DateTime<Utc>) -> sqlx::Result<Option<Standing>> {
    let row = sqlx::query!(
        // The last run that came to its end is looked up in the tally: there may be a year of skipped ones since.
        r#"select greatest(since, (select max(gone_until) from job_tally where job = $1)) as "since!",
               last.scheduled_for as "last?", last.state as "last_state?: JobRunState", last.attempt as "last_attempt?",
               running.started_at as "running_since?", running.lease_until as "lease_until?", running.owner as "owner?",
               running.scheduled_for as "running_for?", running.lease_until >= now() as is_alive,
               ended.started_at as "began?", ended.finished_at as "ended?",
               (select reason from job_pause where job = $1 and resumed_at is null) as paused
           from job_schedule
           left join lateral (select scheduled_for, state, attempt from job_run
                              where job = $1 and trigger = 'schedule' and coalesce(first_for, scheduled_for) <= $2
                              order by scheduled_for desc limit 1) last on true
           left join job_run running on running.job = $1 and running.state = 'running'
           left join lateral (select r.started_at, r.finished_at
                              from job_tally t join job_run r on r.job_run_id = t.last_run
                              where t.job = $1 and r.state in ('done', 'partial', 'failed')
                              order by r.started_at desc limit 1) ended on true
           where job_schedule.job = $1"#,
        job,
        now,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| {
        let is_ours = row.owner.as_deref().is_some_and(process::Hold::is_held);
        let is_alive =
            is_ours || row.is_alive == Some(true) && !row.owner.is_some_and(|owner| is_gone(&owner));
        let is_interrupted = match row.last_state {
            Some(JobRunState::Interrupted) => true,
            Some(JobRunState::Running) => row.running_for == row.last && !is_alive,
            _ => false,
        };
        Standing {
            since: row.since,
            last: row.last,
            is_left_behind: is_interrupted && row.last_attempt.is_some_and(|attempt| attempt < MOST_ATTEMPTS),
            running: match (row.running_for, row.running_since, row.lease_until) {
                (Some(scheduled_for), Some(since), Some(lease_until)) if is_alive => {
                    Some(Running { scheduled_for, since, lease_until, is_ours })
                }
                _ => None,
            },
            ended: match (row.began, row.ended) {
                (Some(since), Some(until)) => Some(Ended { since, until }),
                _ => None,
            },
            paused: row.paused,
        }
    }))
}

/// So many runs are looked at for one that was in the way.
const LOOKED_AT: i64 = 200;

/// The runs of a job that came to their end later than a moment, of the last few that there were.
///
/// # Errors
/// When the database does not answer.
pub async fn ended_since(pool: &PgPool, job: &str, moment: DateTime<Utc>) -> sqlx::Result<Vec<Ended>> {
    sqlx::query_as!(
        Ended,
        r#"select started_at as since, finished_at as "until!" from (
               select started_at, finished_at from job_run where job = $1 and state in ('done', 'partial', 'failed')
               order by started_at desc limit $3
           ) as run
           where finished_at > $2"#,
        job,
        moment,
        LOOKED_AT,
    )
    .fetch_all(pool)
    .await
}

/// That a job was paused, and perhaps resumed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pause {
    pub reason: String,
    pub paused_at: DateTime<Utc>,
    /// `None`: it is still paused.
    pub resumed_at: Option<DateTime<Utc>>,
}

/// The last pause of a job, resumed or not.
///
/// # Errors
/// When the database does not answer.
pub async fn pause(pool: &PgPool, job: &str) -> sqlx::Result<Option<Pause>> {
    sqlx::query_as!(Pause, "select reason, paused_at, resumed_at from job_pause where job = $1", job)
        .fetch_optional(pool)
        .await
}

/// The pause of a job that is paused now.
///
/// # Errors
/// When the database does not answer.
pub async fn paused(pool: &PgPool, job: &str) -> sqlx::Result<Option<Pause>> {
    Ok(pause(pool, job).await?.filter(|pause| pause.resumed_at.is_none()))
}

/// Pauses a job: it does not begin any more until it is resumed. `false`: it was paused already, and the first reason stays.
///
/// # Errors
/// When the database does not answer.
pub async fn set_pause(pool: &PgPool, job: &str, reason: &str, now: DateTime<Utc>) -> sqlx::Result<bool> {
    let paused = sqlx::query!(
        "insert into job_pause (job, reason, paused_at) values ($1, $2, $3)
         on conflict (job) do update set reason = excluded.reason, paused_at = excluded.paused_at, resumed_at = null
         where job_pause.resumed_at is not null",
        job,
        reason,
        now,
    )
    .execute(pool)
    .await?;
    Ok(paused.rows_affected() == 1)
}

/// Lets a paused job run again. `false`: it was not paused.
///
/// # Errors
/// When the database does not answer.
pub async fn resume(pool: &PgPool, job: &str, now: DateTime<Utc>) -> sqlx::Result<bool> {
    let resumed =
        sqlx::query!("update job_pause set resumed_at = $2 where job = $1 and resumed_at is null", job, now)
            .execute(pool)
            .await?;
    Ok(resumed.rows_affected() == 1)
}

/// The last runs, the latest first; of one job or of all. A run whose lease has run out shows as interrupted, unless this process is at it.
///
/// # Errors
/// When the database does not answer.
pub async fn history(pool: &PgPool, job: Option<&str>, limit: i64) -> sqlx::Result<Vec<JobRun>> {
    // Two statements, each with an index of its own: one for both might be planned for all jobs, and look for a rare one among all rows.
    let Some(job) = job else {
        return sqlx::query_as!(
            JobRun,
            r#"select job_run_id as "job_run_id: JobRunId", job, scheduled_for, trigger as "trigger: JobTrigger", asked_by,
                   case when lease_until < now() and owner <> all ($2) then 'interrupted' else state end as "state!: JobRunState",
                   attempt, reason, owner, started_at, finished_at, progress, report
               from job_run order by started_at desc, scheduled_for desc limit $1"#,
            limit,
            &process::Hold::names(),
        )
        .fetch_all(pool)
        .await;
    };
    sqlx::query_as!(
        JobRun,
        r#"select job_run_id as "job_run_id: JobRunId", job, scheduled_for, trigger as "trigger: JobTrigger", asked_by,
               case when lease_until < now() and owner <> all ($3) then 'interrupted' else state end as "state!: JobRunState",
               attempt, reason, owner, started_at, finished_at, progress, report
           from job_run where job = $1 order by started_at desc, scheduled_for desc limit $2"#,
        job,
        limit,
        &process::Hold::names(),
    )
    .fetch_all(pool)
    .await
}

/// The run with this number. One whose lease has run out shows as interrupted, unless this process is at it.
///
/// # Errors
/// When the database does not answer.
pub async fn run(pool: &PgPool, id: JobRunId) -> sqlx::Result<Option<JobRun>> {
    sqlx::query_as!(
        JobRun,
        r#"select job_run_id as "job_run_id: JobRunId", job, scheduled_for, trigger as "trigger: JobTrigger", asked_by,
               case when lease_until < now() and owner <> all ($2) then 'interrupted' else state end as "state!: JobRunState",
               attempt, reason, owner, started_at, finished_at, progress, report
           from job_run where job_run_id = $1"#,
        id.0,
        &process::Hold::names(),
    )
    .fetch_optional(pool)
    .await
}

/// The last run of each job that was not skipped.
///
/// # Errors
/// When the database does not answer.
pub async fn last_runs(pool: &PgPool) -> sqlx::Result<Vec<JobRun>> {
    sqlx::query_as!(
        JobRun,
        r#"select distinct on (job)
               job_run_id as "job_run_id: JobRunId", job, scheduled_for, trigger as "trigger: JobTrigger", asked_by,
               case when lease_until < now() and owner <> all ($1) then 'interrupted' else state end as "state!: JobRunState",
               attempt, reason, owner, started_at, finished_at, progress, report
           from job_run
           where job_run_id in (select last_run from job_tally
                                union all select job_run_id from job_run where state = 'running')
             and state <> 'skipped'
           order by job, started_at desc, job_run_id desc"#,
        &process::Hold::names(),
    )
    .fetch_all(pool)
    .await
}
