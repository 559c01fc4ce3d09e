//! A run that is over writes nothing more, whatever still goes on of it.

use std::sync::Arc;
use std::time::Duration;

use afterword::config::Config;
use afterword::context::Context;
use afterword::db;
use afterword::jobs::ledger::{self, Occurrence, Refusal};
use afterword::jobs::runner::{self, Outcome, Pace};
use afterword::jobs::{AnyJob, Job, JobError, Run, RunReport};
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::jobs::{at, context, done, probe};
use crate::operations::read;
use crate::support::TestDb;

#[tokio::test]
async fn every_table_but_the_ledger_has_a_fence() {
    let db = TestDb::new().await;
    let without: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class
         where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')
             and not exists (select from pg_trigger
                             where tgrelid = pg_class.oid and tgname = 'fence' and tgfoid = 'hold_fence_of_write'::regproc)
         order by 1",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();
    // A new table needs the trigger of migrations/20_fence.sql.
    assert_eq!(without, ["_sqlx_migrations", "job_pause", "job_run", "job_schedule", "job_tally"]);
}

/// What is written here is the name of a shop; any table will do.
async fn write(pool: &PgPool, name: &str) -> sqlx::Result<()> {
    sqlx::query("update shop set name = $1").bind(name).execute(pool).await.map(drop)
}

async fn name(pool: &PgPool) -> String {
    sqlx::query_scalar("select max(name) from shop").fetch_one(pool).await.unwrap()
}

fn code(error: &sqlx::Error) -> String {
    error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned()
}

async fn claim(pool: &PgPool, moment: DateTime<Utc>) -> Result<ledger::Hold, Refusal> {
    let occurrence = Occurrence::Scheduled(moment);
    ledger::claim(pool, "probe", occurrence, afterword::process::name(), Duration::from_secs(60))
        .await
        .unwrap()
}

async fn lease_runs_out(pool: &PgPool) {
    let sql = "update job_run set lease_until = now() - interval '1 second' where state = 'running'";
    sqlx::query(sql).execute(pool).await.unwrap();
}

#[tokio::test]
async fn a_run_that_was_taken_over_is_refused_and_the_next_waits_for_its_transaction() {
    let db = TestDb::new().await;
    context(&db.pool, vec![]).await;
    let moment = at("2026-03-01T09:00:00Z");
    let zombie = claim(&db.pool, moment).await.unwrap();
    let of_zombie = db::pool_of_run(&db.pool, &zombie.fence(), Duration::from_secs(60), 4);
    write(&of_zombie, "the first").await.unwrap();

    // Its lease runs out while a transaction is open. Nobody begins before that has ended.
    let mut open = of_zombie.begin().await.unwrap();
    sqlx::query("update shop set name = 'late, but in time'").execute(&mut *open).await.unwrap();
    lease_runs_out(&db.pool).await;
    let refused = claim(&db.pool, moment).await;
    assert!(matches!(refused, Err(Refusal::Running { .. })), "{refused:?}");
    open.commit().await.unwrap();
    assert_eq!(name(&db.pool).await, "late, but in time");

    let taken = claim(&db.pool, moment).await.unwrap();
    assert_eq!((taken.id, taken.attempt), (zombie.id, 2), "the same row, another attempt");
    let error = write(&of_zombie, "of a zombie").await.unwrap_err();
    assert_eq!(code(&error), "AW001", "{error}");
    // Whoever belongs to no run is not asked, nor what has a fence of its own.
    write(&db.pool, "of nobody").await.unwrap();
    let unfenced = sqlx::postgres::PgPoolOptions::new()
        .connect_with(db::unfenced(&of_zombie.connect_options()))
        .await
        .unwrap();
    write(&unfenced, "of nobody either").await.unwrap();
    let of_next = db::pool_of_run(&db.pool, &taken.fence(), Duration::from_secs(60), 4);
    write(&of_next, "the second").await.unwrap();
    assert!(!ledger::settle(&db.pool, zombie, ledger::JobRunState::Done, None, None).await.unwrap());
    assert!(ledger::settle(&db.pool, taken, ledger::JobRunState::Done, None, None).await.unwrap());
    assert_eq!(code(&write(&of_next, "afterwards").await.unwrap_err()), "AW001");
    assert_eq!(name(&db.pool).await, "the second");
}

#[tokio::test]
async fn a_transaction_with_one_snapshot_is_fenced_from_its_beginning() {
    let db = TestDb::new().await;
    context(&db.pool, vec![]).await;
    let zombie = claim(&db.pool, at("2026-03-01T09:00:00Z")).await.unwrap();
    let of_zombie = db::pool_of_run(&db.pool, &zombie.fence(), Duration::from_secs(60), 4);
    let mut snapshot = of_zombie.begin_with("begin isolation level repeatable read").await.unwrap();
    db::hold_fence(&mut snapshot).await.unwrap();
    lease_runs_out(&db.pool).await;
    let refused = claim(&db.pool, at("2026-03-01T10:00:00Z")).await;
    assert!(matches!(refused, Err(Refusal::Running { .. })), "{refused:?}");
    snapshot.rollback().await.unwrap();
    claim(&db.pool, at("2026-03-01T10:00:00Z")).await.unwrap();
    let mut snapshot = of_zombie.begin_with("begin isolation level repeatable read").await.unwrap();
    assert_eq!(code(&db::hold_fence(&mut snapshot).await.unwrap_err()), "AW001");
}

#[tokio::test]
async fn what_is_left_open_by_a_stopped_program_is_ended_by_the_database() {
    let db = TestDb::new().await;
    context(&db.pool, vec![]).await;
    let zombie = claim(&db.pool, at("2026-03-01T09:00:00Z")).await.unwrap();
    let of_zombie = db::pool_of_run(&db.pool, &zombie.fence(), Duration::from_secs(1), 4);
    let mut open = of_zombie.begin().await.unwrap();
    sqlx::query("update shop set name = 'never'").execute(&mut *open).await.unwrap();
    lease_runs_out(&db.pool).await;
    // It does nothing, as a stopped program does: its transaction goes, and the next run begins.
    claim(&db.pool, at("2026-03-01T10:00:00Z")).await.unwrap();
    assert!(open.commit().await.is_err());
    assert_ne!(name(&db.pool).await, "never");
}

#[tokio::test]
async fn an_occurrence_that_kills_its_program_every_time_is_given_up() {
    let db = TestDb::new().await;
    let moment = at("2026-03-01T09:00:00Z");
    for attempt in 1..=ledger::MOST_ATTEMPTS {
        assert_eq!(claim(&db.pool, moment).await.unwrap().attempt, attempt);
        lease_runs_out(&db.pool).await;
    }
    assert_eq!(claim(&db.pool, moment).await, Err(Refusal::Taken));
    assert_eq!(ledger::history(&db.pool, None, 10).await.unwrap().len(), 1);
}

/// A job that goes on when it is told to stop, and writes when it is let go.
#[derive(Debug)]
struct Deaf {
    let_go: CancellationToken,
    wrote: mpsc::UnboundedSender<sqlx::Result<()>>,
}

impl Job for Deaf {
    const KIND: &'static str = "deaf";
    const ABOUT: &'static str = "Does not listen";
    const SAMPLE: &'static str = "";

    fn check(&self, _: &Config) -> Vec<String> {
        Vec::new()
    }

    fn shops(&self, _: &afterword::config::Config) -> Vec<String> {
        Vec::new()
    }

    async fn run(&self, run: &Run<'_>) -> Result<RunReport, JobError> {
        // A connection of its own, which is there already and does not go with the pool.
        let mut connection = run.context.pool.acquire().await?;
        self.let_go.cancelled().await;
        let written = sqlx::query("update shop set name = 'of the deaf'").execute(&mut *connection).await;
        self.wrote.send(written.map(drop))?;
        Ok(done("long after"))
    }
}

#[tokio::test]
async fn a_job_that_did_not_stop_when_its_time_was_over_writes_nothing_more() {
    let db = TestDb::new().await;
    let context = context(&db.pool, vec![]).await;
    let (wrote, mut written) = mpsc::unbounded_channel();
    let let_go = CancellationToken::new();
    let mut job = probe(|_| async { Ok(done("never")) });
    job.job = AnyJob::new(Deaf { let_go: let_go.clone(), wrote });
    job.timeout = Duration::from_secs(3);
    let pace = Pace { grace: Duration::from_millis(100), ..Pace::usual(Duration::ZERO) };
    let stop = CancellationToken::new();
    let outcome = runner::run_at_pace(&context, &job, Occurrence::ByHand, false, &stop, pace).await.unwrap();
    assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
    let_go.cancel();
    let written = tokio::time::timeout(Duration::from_secs(20), written.recv()).await;
    let error = written.expect("it had no connection when it was told to stop").unwrap().unwrap_err();
    assert_eq!(code(&error), "AW001", "{error}");
    assert_ne!(name(&db.pool).await, "of the deaf");
}

#[tokio::test]
async fn how_often_a_job_was_interrupted_never_falls_in_what_machines_read() {
    let db = TestDb::new().await;
    let context = context(&db.pool, vec![]).await;
    let total = async || {
        // One that has read nothing yet: what was read is kept for ten seconds.
        let context = Context { vitals: Arc::default(), ..context.clone() };
        let text = afterword::vitals::figures(&context).await.unwrap();
        let name = "afterword_job_runs_total{job_name=\"probe\",state=\"interrupted\"}";
        read(&text).get(name).copied().unwrap_or_default()
    };
    let (first, second) = (at("2026-03-01T09:00:00Z"), at("2026-03-01T10:00:00Z"));
    claim(&db.pool, first).await.unwrap();
    lease_runs_out(&db.pool).await;
    assert_eq!(total().await, 0.0, "it may yet go on");
    let taken = claim(&db.pool, first).await.unwrap();
    assert_eq!(total().await, 1.0);
    ledger::settle(&db.pool, taken, ledger::JobRunState::Done, None, None).await.unwrap();
    assert_eq!(total().await, 1.0, "done in the end, and interrupted before");
    claim(&db.pool, second).await.unwrap();
    lease_runs_out(&db.pool).await;
    claim(&db.pool, at("2026-03-01T11:00:00Z")).await.unwrap();
    assert_eq!(total().await, 2.0, "left behind for good");
}
