//! Jobs that wait or count for long hear that they are to stop, and what they had not done is done by the next run.

use std::time::Duration;

use afterword::jobs::ledger::Occurrence;
use afterword::jobs::runner::{self, Outcome, Pace};
use afterword::jobs::{RunOutcome, RunReport};
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::jobs::at;
use crate::support::program::{Program, shipped};

const PACE: Pace = Pace {
    lease: Duration::from_secs(60),
    renew: Duration::from_secs(10),
    give_up: Duration::from_secs(40),
    grace: Duration::from_secs(10),
};

/// A run of this job in a task of its own, and what tells it to stop.
struct Running {
    run: tokio::task::JoinHandle<Outcome>,
    stop: CancellationToken,
}

impl Running {
    async fn begin(program: &Program, name: &str, now: DateTime<Utc>) -> Self {
        Self::begin_for(program, name, now, Occurrence::ByHand).await
    }

    async fn begin_for(
        program: &Program,
        name: &str,
        now: DateTime<Utc>,
        occurrence: Occurrence<'static>,
    ) -> Self {
        let context = program.context(now).await;
        let job = context.config.jobs.iter().find(|job| job.name == name).unwrap().clone();
        let stop = CancellationToken::new();
        let run = tokio::spawn({
            let stop = stop.clone();
            async move { runner::run_at_pace(&context, &job, occurrence, false, &stop, PACE).await.unwrap() }
        });
        Self { run, stop }
    }

    async fn report(self) -> RunReport {
        match self.run.await.unwrap() {
            Outcome::Ended(report) => report,
            other => panic!("{other:?}"),
        }
    }
}

/// Waits until somebody waits for a lock, or asks for it in vain.
async fn until(pool: &PgPool, sql: &'static str) {
    let begun = Instant::now();
    loop {
        let is_so: bool = sqlx::query_scalar(sql).fetch_one(pool).await.unwrap();
        if is_so {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "not so: {sql}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_waits_for_another_one_hears_that_it_is_to_stop() {
    let program = Program::new(&shipped()).await;
    crate::private::approved(&program.db.pool, "maison", 3, 60).await;
    let pool = &program.db.pool;
    let mut other = pool.begin().await.unwrap();
    sqlx::query("select pg_advisory_xact_lock(hashtext('exports'), shop_id) from shop")
        .execute(&mut *other)
        .await
        .unwrap();
    let export = Running::begin(&program, "weekly-testimonials", at("2026-03-20T05:00:00Z")).await;
    until(pool, "select exists (select from pg_stat_activity where datname = current_database() and query like '%pg_try_advisory_xact_lock(hashtext($1), $2)%')").await;
    assert!(!export.run.is_finished());
    let told = Instant::now();
    export.stop.cancel();
    let report = export.report().await;
    assert!(told.elapsed() < Duration::from_secs(20), "it went on for {:?}", told.elapsed());
    assert_eq!(report.outcome, RunOutcome::Partial);
    assert!(report.text.starts_with("stopped when asked to; nothing was published"), "{}", report.text);
    let published = "select count(*) from testimonial where published_at is not null";
    let n_published = async || -> i64 { sqlx::query_scalar(published).fetch_one(pool).await.unwrap() };
    assert_eq!(n_published().await, 0);
    assert!(!program.path("data/exports/testimonials/latest.csv").exists());
    // One that is not told waits, and has its turn.
    let export = Running::begin(&program, "weekly-testimonials", at("2026-03-20T05:00:00Z")).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    other.rollback().await.unwrap();
    assert_eq!(export.report().await.outcome, RunOutcome::Done);
    assert_eq!(n_published().await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_night_of_counting_hears_that_it_is_to_stop_and_keeps_nothing_by_halves() {
    let program = Program::new(&shipped()).await;
    crate::private::approved(&program.db.pool, "maison", 3, 60).await;
    let pool = &program.db.pool;
    let n_kept = async || -> i64 {
        let sql = "select (select count(*) from metric_day) + (select count(*) from metric_freeze)";
        sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
    };
    // The night's first query waits for this one.
    let mut busy = pool.begin().await.unwrap();
    sqlx::query("lock table metric_change in share mode").execute(&mut *busy).await.unwrap();
    let counting = Running::begin(&program, "nightly-metrics", at("2026-03-20T02:15:00Z")).await;
    until(pool, "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')").await;
    counting.stop.cancel();
    busy.rollback().await.unwrap();
    let report = counting.report().await;
    assert_eq!(report.outcome, RunOutcome::Partial, "{}", report.text);
    assert!(report.text.contains("stopped when asked to"), "{}", report.text);
    assert_eq!(n_kept().await, 0);
    let counting = Running::begin(&program, "nightly-metrics", at("2026-03-20T02:16:00Z")).await;
    let report = counting.report().await;
    assert_eq!(report.outcome, RunOutcome::Done, "{}", report.text);
    assert!(n_kept().await > 1);
}

/// Nobody is there to begin it again by hand.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_schedule_began_is_begun_once_more_when_the_program_was_stopped() {
    let program = Program::new(&shipped()).await;
    crate::private::approved(&program.db.pool, "maison", 3, 60).await;
    let pool = &program.db.pool;
    let waits = "select exists (select from pg_stat_activity where datname = current_database()
                 and (wait_event_type = 'Lock' or query like '%pg_try_advisory_xact_lock(hashtext($1), $2)%'))";
    let in_the_way = [
        ("nightly-metrics", "lock table metric_change in share mode"),
        ("weekly-testimonials", "select pg_advisory_xact_lock(hashtext('exports'), shop_id) from shop"),
    ];
    for (job, lock) in in_the_way {
        let now = at("2026-03-20T05:00:00Z");
        let mut other = pool.begin().await.unwrap();
        sqlx::query(lock).execute(&mut *other).await.unwrap();
        let run = Running::begin_for(&program, job, now, Occurrence::Scheduled(now)).await;
        until(pool, waits).await;
        run.stop.cancel();
        other.rollback().await.unwrap();
        let ended = run.run.await.unwrap();
        assert!(matches!(ended, Outcome::Interrupted { .. }), "{job}: {ended:?}");
        let again = Running::begin_for(&program, job, now, Occurrence::Scheduled(now)).await;
        assert_eq!(again.report().await.outcome, RunOutcome::Done, "{job}");
        let ran: (String, i32) = sqlx::query_as("select state::text, attempt from job_run where job = $1")
            .bind(job)
            .fetch_one(pool)
            .await
            .unwrap();
        assert_eq!(ran, ("done".to_owned(), 2), "{job}");
    }
}
