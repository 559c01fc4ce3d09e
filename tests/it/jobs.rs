//! The runner and its ledger: once per occurrence, one at a time, and every end recorded.

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use afterword::config::{CatchUp, Config, Overlap, ScheduledJob};
use afterword::context::{Context, Shops};
use afterword::db::Beside;
use afterword::jobs::ledger::{self, JobRunState, JobTrigger, Occurrence, Refusal};
use afterword::jobs::runner::{self, Outcome, Pace, run_occurrence};
use afterword::jobs::{AnyJob, Job, JobError, Run, RunOutcome, RunReport};
use afterword::mail::templates::Templates;
use afterword::token::Tokens;
use afterword::types::{Clock, JobRunId};
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::support::TestDb;
use crate::support::program::{Program, shipped};

/// A job of a test: what it does is a closure.
pub struct Probe<F>(F);

impl<F> fmt::Debug for Probe<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe")
    }
}

impl<F> Job for Probe<F>
where
    F: Fn(CancellationToken) -> BoxFuture<'static, Result<RunReport, JobError>> + Send + Sync + 'static,
{
    const KIND: &'static str = "probe";
    const ABOUT: &'static str = "Does what a test wants";
    const SAMPLE: &'static str = "";

    fn check(&self, _: &Config) -> Vec<String> {
        Vec::new()
    }

    fn shops(&self, _: &Config) -> Vec<String> {
        Vec::new()
    }

    async fn run(&self, run: &Run<'_>) -> Result<RunReport, JobError> {
        (self.0)(run.stop.clone()).await
    }
}

/// A job named `probe` that does this; once, within a minute.
pub fn probe<Doing>(act: impl Fn(CancellationToken) -> Doing + Send + Sync + 'static) -> ScheduledJob
where
    Doing: Future<Output = Result<RunReport, JobError>> + Send + 'static,
{
    ScheduledJob {
        name: "probe".to_owned(),
        kind: "probe",
        job: AnyJob::new(Probe(move |stop| {
            Box::pin(act(stop)) as BoxFuture<'static, Result<RunReport, JobError>>
        })),
        schedule: None,
        enabled: true,
        catch_up: CatchUp::Once,
        catch_up_window: Duration::from_secs(24 * 3600),
        overlap: Overlap::Skip,
        jitter: Duration::ZERO,
        timeout: Duration::from_secs(60),
    }
}

pub fn done(text: &str) -> RunReport {
    let details = serde_json::json!({ "n_things": 3 });
    RunReport { outcome: RunOutcome::Done, text: text.to_owned(), details, listing: Vec::new(), pause: None }
}

/// A job that counts its runs.
pub fn counting() -> (ScheduledJob, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let job = probe({
        let count = count.clone();
        move |_| {
            let count = count.clone();
            async move {
                count.fetch_add(1, Ordering::SeqCst);
                Ok(done("counted"))
            }
        }
    });
    (job, count)
}

/// The shipped configuration with these jobs, on a test's database.
pub async fn context(pool: &PgPool, jobs: Vec<ScheduledJob>) -> Context {
    let mut config = Config::parse(Path::new("jobs.toml"), include_str!("../../jobs.toml")).unwrap();
    config.jobs = jobs;
    Context {
        shops: Arc::new(Shops::store(pool, &config).await.unwrap()),
        config: Arc::new(config),
        pool: pool.clone(),
        beside: Beside::of(pool),
        templates: Arc::new(Templates::load(None).unwrap()),
        tokens: Tokens::new(b"a secret of the tests, 32 bytes or more"),
        clock: Clock::System,
        vitals: Arc::default(),
    }
}

pub fn at(moment: &str) -> DateTime<Utc> {
    moment.parse().unwrap()
}

/// Times that do not make the tests wait.
fn quick() -> Pace {
    Pace {
        lease: Duration::from_millis(4000),
        renew: Duration::from_millis(100),
        give_up: Duration::from_millis(3000),
        grace: Duration::from_millis(300),
    }
}

async fn by_hand(context: &Context, job: &ScheduledJob) -> Outcome {
    run_occurrence(context, job, Occurrence::ByHand, false, &CancellationToken::new()).await.unwrap()
}

async fn quickly(context: &Context, job: &ScheduledJob, stop: &CancellationToken) -> Outcome {
    runner::run_at_pace(context, job, Occurrence::ByHand, false, stop, quick()).await.unwrap()
}

/// The ledger, the earliest first, as states and what is said about them.
async fn states(pool: &PgPool) -> Vec<(JobRunState, String)> {
    let mut runs = ledger::history(pool, None, 100).await.unwrap();
    runs.sort_by_key(|run| run.job_run_id);
    let said = |run: &ledger::JobRun| {
        let text = run.report.as_ref().and_then(|report| report["text"].as_str());
        run.reason.as_deref().or(text).unwrap_or_default().to_owned()
    };
    runs.iter().map(|run| (run.state, said(run))).collect()
}

#[tokio::test]
async fn of_many_runners_exactly_one_has_the_occurrence() {
    let db = TestDb::new().await;
    let (job, count) = counting();
    let context = context(&db.pool, vec![]).await;
    for minute in 0..10 {
        let occurrence =
            Occurrence::Scheduled(at("2026-03-01T09:00:00Z") + chrono::TimeDelta::minutes(minute));
        let stop = CancellationToken::new();
        let runners = (0..8).map(|_| run_occurrence(&context, &job, occurrence, false, &stop));
        let outcomes = futures_util::future::join_all(runners).await;
        let ended = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Outcome::Ended(_)))).count();
        let refused = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Outcome::Refused(_)))).count();
        assert_eq!((ended, refused), (1, 7));
    }
    assert_eq!(count.load(Ordering::SeqCst), 10);
    assert_eq!(states(&db.pool).await, vec![(JobRunState::Done, "counted".to_owned()); 10]);
}

#[tokio::test]
async fn a_job_runs_once_at_a_time() {
    let db = TestDb::new().await;
    let context = context(&db.pool, vec![]).await;
    let let_go = CancellationToken::new();
    let job = probe({
        let let_go = let_go.clone();
        move |_| {
            let let_go = let_go.clone();
            async move {
                let_go.cancelled().await;
                Ok(done("at last"))
            }
        }
    });
    let first = tokio::spawn({
        let (context, job) = (context.clone(), job.clone());
        async move { by_hand(&context, &job).await }
    });
    while states(&db.pool).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let Outcome::Refused(Refusal::Running { owner, .. }) = by_hand(&context, &job).await else {
        panic!("a second run began")
    };
    assert!(owner.starts_with(afterword::process::name()), "{owner}");
    let scheduled = Occurrence::Scheduled(at("2026-03-01T09:00:00Z"));
    let stop = CancellationToken::new();
    let refused = run_occurrence(&context, &job, scheduled, false, &stop).await.unwrap();
    assert!(matches!(refused, Outcome::Refused(Refusal::Running { .. })), "{refused:?}");
    // A dry run changes nothing: it need not wait, and is not recorded.
    let_go.cancel();
    run_occurrence(&context, &job, Occurrence::ByHand, true, &stop).await.unwrap();
    assert_eq!(first.await.unwrap(), Outcome::Ended(done("at last")));
    assert_eq!(states(&db.pool).await, [(JobRunState::Done, "at last".to_owned())]);
    // Afterwards it runs again, even where the clock stands still.
    let standing_still = Context { clock: Clock::Fixed(at("2026-03-01T09:00:00Z")), ..context };
    for _ in 0..2 {
        assert!(matches!(by_hand(&standing_still, &job).await, Outcome::Ended(_)));
    }
    let runs = ledger::history(&db.pool, Some("probe"), 1).await.unwrap();
    assert_eq!(runs[0].trigger, JobTrigger::Hand);
    assert_eq!(runs[0].report.as_ref().unwrap()["as_of"], "2026-03-01T09:00:00Z");
}

#[tokio::test]
async fn a_run_that_was_left_behind_is_closed_and_does_not_stand_in_the_way() {
    let db = TestDb::new().await;
    let context = context(&db.pool, vec![]).await;
    let (job, count) = counting();
    let left_behind = |seconds: f64| {
        sqlx::query(
            "insert into job_run (job, scheduled_for, trigger, state, owner, lease_until, started_at)
             values ('probe', now() - interval '1 hour', 'schedule', 'running', 'other/1/00', now() + make_interval(secs => $1), now())",
        )
        .bind(seconds)
        .execute(&db.pool)
    };
    left_behind(60.0).await.unwrap();
    assert!(matches!(by_hand(&context, &job).await, Outcome::Refused(Refusal::Running { .. })));
    sqlx::query("update job_run set lease_until = now() - interval '1 second'")
        .execute(&db.pool)
        .await
        .unwrap();
    assert!(matches!(by_hand(&context, &job).await, Outcome::Ended(_)));
    let states = states(&db.pool).await;
    assert_eq!(states[0].0, JobRunState::Interrupted);
    assert!(states[0].1.contains("its program ended"), "{states:?}");
    assert_eq!(states[1].0, JobRunState::Done);
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_panic_and_a_failure_are_recorded_without_what_they_say_and_the_next_run_begins() {
    let db = TestDb::new().await;
    let context = context(&db.pool, vec![]).await;
    let panicking = probe(|_| async { panic!("claire@maison.example is odd") });
    let Outcome::Failed { reason } = by_hand(&context, &panicking).await else { panic!("it did not fail") };
    assert!(reason.starts_with("panic: at tests/it/jobs.rs:"), "{reason}");
    let failing =
        probe(|_| async { Err(anyhow::anyhow!("no row for claire@maison.example").context("cannot go on")) });
    let Outcome::Failed { reason } = by_hand(&context, &failing).await else { panic!("it did not fail") };
    assert_eq!(reason, "cannot go on: no row for (…)");
    // What Postgres says can quote a value; its code cannot.
    let pool = db.pool.clone();
    let refused = probe(move |_| {
        let pool = pool.clone();
        async move {
            sqlx::query("select 'claire@maison.example'::int").execute(&pool).await?;
            Ok(done("never"))
        }
    });
    let Outcome::Failed { reason } = by_hand(&context, &refused).await else { panic!("it did not fail") };
    assert_eq!(reason, "the database refused it with 22P02");
    let (counting, _) = counting();
    assert!(matches!(by_hand(&context, &counting).await, Outcome::Ended(_)));

    let states = states(&db.pool).await;
    let words: Vec<JobRunState> = states.iter().map(|(state, _)| *state).collect();
    assert_eq!(words, [JobRunState::Failed, JobRunState::Failed, JobRunState::Failed, JobRunState::Done]);
    assert!(!format!("{states:?}").contains("claire"), "{states:?}");
}

#[tokio::test]
async fn a_job_that_takes_too_long_is_told_to_stop() {
    let db = TestDb::new().await;
    let context = context(&db.pool, vec![]).await;
    let mut listening = probe(|stop| async move {
        stop.cancelled().await;
        Ok(RunReport { outcome: RunOutcome::Partial, ..done("half of it") })
    });
    listening.timeout = Duration::from_millis(100);
    let Outcome::Ended(report) = quickly(&context, &listening, &CancellationToken::new()).await else {
        panic!("it did not end")
    };
    assert_eq!(report.text, "half of it; stopped because it took longer than its timeout of 100ms");

    let mut deaf = probe(|_| std::future::pending());
    deaf.timeout = Duration::from_millis(100);
    let Outcome::Failed { reason } = quickly(&context, &deaf, &CancellationToken::new()).await else {
        panic!("it did not fail")
    };
    assert_eq!(reason, "timeout: told to stop after 100ms, it did not end within another 300ms");
    let states = states(&db.pool).await;
    assert_eq!((states[0].0, states[1].0), (JobRunState::Partial, JobRunState::Failed));
}

#[tokio::test]
async fn a_stopped_program_lets_its_jobs_end_and_records_those_that_do_not() {
    let db = TestDb::new().await;
    let context = context(&db.pool, vec![]).await;
    let stop = CancellationToken::new();
    stop.cancel();
    let listening = probe(|stop| async move {
        stop.cancelled().await;
        Ok(RunReport { outcome: RunOutcome::Partial, ..done("half of it") })
    });
    assert!(matches!(quickly(&context, &listening, &stop).await, Outcome::Ended(_)));
    let deaf = probe(|_| std::future::pending());
    let Outcome::Interrupted { reason } = quickly(&context, &deaf, &stop).await else {
        panic!("it was not interrupted")
    };
    assert!(reason.contains("the program was stopped"), "{reason}");
    let states = states(&db.pool).await;
    assert_eq!((states[0].0, states[1].0), (JobRunState::Partial, JobRunState::Interrupted));
}

#[tokio::test]
async fn a_long_run_keeps_its_lease_and_a_lost_one_stops_it() {
    let db = TestDb::new().await;
    let context = context(&db.pool, vec![]).await;
    // Longer than the lease: only the renewals keep the second runner out.
    let long = probe(|stop| async move {
        tokio::select! {
            () = stop.cancelled() => Ok(RunReport { outcome: RunOutcome::Partial, ..done("told to stop") }),
            () = tokio::time::sleep(Duration::from_millis(9000)) => Ok(done("slept")),
        }
    });
    let run = |job: ScheduledJob| {
        let context = context.clone();
        tokio::spawn(async move { quickly(&context, &job, &CancellationToken::new()).await })
    };
    let first = run(long.clone());
    tokio::time::sleep(Duration::from_millis(6000)).await;
    let second = quickly(&context, &long, &CancellationToken::new()).await;
    assert!(matches!(second, Outcome::Refused(Refusal::Running { .. })), "{second:?}");
    assert_eq!(first.await.unwrap(), Outcome::Ended(done("slept")));

    // Another instance takes it for dead: it is told to stop, and what it says afterwards does not count.
    let zombie = run(long);
    while !states(&db.pool).await.iter().any(|(state, _)| *state == JobRunState::Running) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let closed: JobRunId = sqlx::query_scalar(
        "update job_run set state = 'interrupted', reason = 'taken for dead', finished_at = now(), lease_until = null
         where state = 'running' returning job_run_id",
    )
    .fetch_one(&db.pool)
    .await
    .unwrap();
    let Outcome::Interrupted { reason } = zombie.await.unwrap() else { panic!("it went on") };
    assert!(reason.contains("took this run for dead"), "{reason}");
    let runs = ledger::history(&db.pool, None, 10).await.unwrap();
    let run = runs.iter().find(|run| run.job_run_id == closed).unwrap();
    assert_eq!(run.reason.as_deref(), Some("taken for dead"));
}

/// A line to the test's server over which, once `is_armed`, the next answer that a row was updated is lost, and the connection with it. The
/// server has committed by then. `lost` hears of it.
async fn forgetful_line(
    options: &PgConnectOptions,
    is_armed: Arc<AtomicBool>,
    lost: Arc<Notify>,
) -> PgConnectOptions {
    const UPDATED: &[u8] = b"UPDATE 1\0";
    const IDLE: &[u8] = b"Z\0\0\0\x05I";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let socket = options.get_socket().unwrap().join(".s.PGSQL.5432");
    tokio::spawn(async move {
        while let Ok((ours, _)) = listener.accept().await {
            let (mut from_us, mut to_us) = ours.into_split();
            let server = UnixStream::connect(&socket).await.unwrap();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_us, &mut to_server).await });
            let (is_armed, lost) = (is_armed.clone(), lost.clone());
            tokio::spawn(async move {
                let (mut bytes, mut kept) = (vec![0; 8192], Vec::new());
                while let Ok(n @ 1..) = from_server.read(&mut bytes).await {
                    kept.extend_from_slice(&bytes[..n]);
                    let has = |word: &[u8]| kept.windows(word.len()).any(|part| part == word);
                    if is_armed.load(Ordering::SeqCst) && has(UPDATED) {
                        // The row is committed when the server is idle again.
                        if has(IDLE) {
                            is_armed.store(false, Ordering::SeqCst);
                            lost.notify_one();
                            return;
                        }
                    } else if to_us.write_all(&std::mem::take(&mut kept)).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port)
        .ssl_mode(PgSslMode::Disable)
        .username(options.get_username())
        .database(options.get_database().unwrap())
}

/// How a run ends, and its row, when the answer that its end is recorded is lost; `afterwards` is done to the row before it asks again.
async fn with_its_end_unheard(afterwards: Option<&'static str>) -> (Outcome, ledger::JobRun, bool) {
    let db = TestDb::new().await;
    let (is_armed, lost) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let line = forgetful_line(&db.options(), is_armed.clone(), lost.clone()).await;
    let pool = afterword::db::pool(line, 4);
    let context = context(&pool, vec![]).await;
    let job = probe(move |_| {
        is_armed.store(true, Ordering::SeqCst);
        async { Ok(RunReport { pause: Some("too many bounces".to_owned()), ..done("counted") }) }
    });
    let run = tokio::spawn({
        let context = context.clone();
        async move { by_hand(&context, &job).await }
    });
    tokio::time::timeout(Duration::from_secs(20), lost.notified()).await.expect("no answer was lost");
    let rows = ledger::history(&db.pool, None, 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.state).collect::<Vec<_>>(), [JobRunState::Done], "it was committed");
    if let Some(sql) = afterwards {
        assert_eq!(sqlx::query(sql).execute(&db.pool).await.unwrap().rows_affected(), 1);
    }
    let outcome = run.await.unwrap();
    let row = ledger::run(&db.pool, rows[0].job_run_id).await.unwrap().unwrap();
    let is_paused = ledger::pause(&db.pool, "probe").await.unwrap().is_some();
    pool.close().await;
    context.beside.pages.close().await;
    (outcome, row, is_paused)
}

#[tokio::test]
async fn an_end_that_was_recorded_unheard_is_not_taken_for_somebody_elses() {
    let (outcome, row, is_paused) = with_its_end_unheard(None).await;
    assert!(matches!(&outcome, Outcome::Ended(report) if report.text == "counted"), "{outcome:?}");
    assert_eq!((row.state, row.attempt, row.reason), (JobRunState::Done, 1, None));
    assert!(is_paused, "the brake that it has pulled holds");

    let taken = "update job_run set state = 'interrupted', reason = 'taken for dead'";
    let (outcome, row, is_paused) = with_its_end_unheard(Some(taken)).await;
    let Outcome::Interrupted { reason } = outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("took this run for dead"), "{reason}");
    assert_eq!((row.state, row.reason.as_deref()), (JobRunState::Interrupted, Some("taken for dead")));
    assert!(!is_paused);
}

#[tokio::test]
async fn a_run_whose_database_is_gone_stops_before_another_may_begin() {
    let db = TestDb::new().await;
    let context = context(&db.pool, vec![]).await;
    let (told, was_told) = tokio::sync::mpsc::unbounded_channel();
    let job = probe(move |stop| {
        let told = told.clone();
        async move {
            stop.cancelled().await;
            told.send(()).unwrap();
            Ok(RunReport { outcome: RunOutcome::Partial, ..done("told to stop") })
        }
    });
    let mut was_told = was_told;
    let run = tokio::spawn({
        let context = context.clone();
        async move { quickly(&context, &job, &CancellationToken::new()).await }
    });
    while states(&db.pool).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The heart's own connections find the table locked: they wait, and no renewal comes through.
    let mut lock = db.pool.begin().await.unwrap();
    sqlx::query("lock table job_run in access exclusive mode").execute(&mut *lock).await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), was_told.recv()).await.unwrap().unwrap();
    lock.rollback().await.unwrap();
    assert!(matches!(run.await.unwrap(), Outcome::Ended(_)));
}

#[tokio::test]
async fn the_words_of_the_ledger_are_the_databases() {
    let db = TestDb::new().await;
    use JobRunState::{Done, Failed, Interrupted, Partial, Running, Skipped};
    for state in [Running, Done, Partial, Failed, Skipped, Interrupted] {
        let (back, word): (JobRunState, String) = sqlx::query_as("select $1::job_run_state, $1::text")
            .bind(state)
            .fetch_one(&db.pool)
            .await
            .unwrap();
        assert_eq!((back, word.as_str()), (state, state.as_str()));
    }
    for trigger in [JobTrigger::Schedule, JobTrigger::Hand, JobTrigger::Request] {
        let (back, word): (JobTrigger, String) = sqlx::query_as("select $1::job_trigger, $1::text")
            .bind(trigger)
            .fetch_one(&db.pool)
            .await
            .unwrap();
        assert_eq!((back, word.as_str()), (trigger, trigger.as_str()));
    }
    let words: i64 = sqlx::query_scalar(
        "select count(*) from pg_enum join pg_type on pg_type.oid = enumtypid where typname in ('job_run_state', 'job_trigger')",
    )
    .fetch_one(&db.pool)
    .await
    .unwrap();
    assert_eq!(words, 9);
}

/// Makes a file look finished: it was last written a while ago.
fn settled(path: &Path) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(60)).unwrap();
}

fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

const ORDERS: &str = "order_id,email,ordered_at,status\n\
    A-1,claire@customer.example,2026-03-01T09:00:00Z,fulfilled\n\
    A-2,hugo@customer.example,2026-03-02T09:00:00Z,fulfilled\n";

#[tokio::test]
async fn the_files_of_a_drop_folder_are_taken_once_and_none_stops_the_others() {
    let program = Program::new(&shipped()).await;
    let drop =
        |name: &str, content: &[u8]| settled(&program.write(&format!("data/inbox/orders/{name}"), content));
    drop("1.csv", b"order_id,email\nA-0,\"never closed");
    drop("2.csv", ORDERS.as_bytes());
    drop("3.csv", b"order_id,email,ordered_at\nA-3,nobody,2026-03-01T09:00:00Z\nA-4,lea@customer.example,2026-03-01T09:00:00Z\n");
    drop("4.csv.part", b"not yet");
    program.write("data/inbox/orders/5.csv", "still being written");

    let tried = program.run(&["run", "import-orders", "--dry-run"]).expect(3);
    assert!(tried.stdout.contains("3.csv: line 2, email: is not a mail address"), "{}", tried.stdout);
    let inbox = program.path("data/inbox/orders");
    assert_eq!(
        names_in(&inbox),
        ["1.csv", "2.csv", "3.csv", "4.csv.part", "5.csv"],
        "a dry run changes nothing"
    );

    // The first run may have taken its time.
    program.write("data/inbox/orders/5.csv", "still being written");
    let report = program.run(&["run", "import-orders", "--json"]).expect(3).json();
    let counts = ["n_files", "n_failed", "n_growing", "n_read", "n_rejected"]
        .map(|key| report["details"][key].as_u64().unwrap());
    assert_eq!(counts, [3, 1, 1, 4, 1], "{report}");
    assert_eq!(names_in(&inbox), ["4.csv.part", "5.csv", "done", "failed"]);
    assert_eq!(names_in(&inbox.join("done")), ["2.csv", "3.csv", "3.rejects.csv"]);
    assert_eq!(names_in(&inbox.join("failed")), ["1.csv", "1.csv.reason.txt"]);

    // The same content under the same name: recognised, and nothing is overwritten.
    std::fs::remove_file(inbox.join("5.csv")).unwrap();
    drop("2.csv", ORDERS.as_bytes());
    let report = program.run(&["run", "import-orders", "--json"]).expect(0).json();
    assert_eq!(
        (&report["details"]["n_known"], &report["details"]["n_read"]),
        (&1.into(), &0.into()),
        "{report}"
    );
    assert_eq!(names_in(&inbox.join("done")).len(), 4);
    let n_orders: i64 =
        sqlx::query_scalar(r#"select count(*) from "order""#).fetch_one(&program.db.pool).await.unwrap();
    assert_eq!(n_orders, 3);
    let runs = program.run(&["jobs", "history", "import-orders", "--json"]).expect(0);
    assert_eq!(runs.json().as_array().unwrap().len(), 2, "the dry run is not in the ledger");
    assert!(!format!("{}{}", runs.stdout, runs.stderr).contains("customer.example"), "{}", runs.stdout);
}

#[tokio::test]
async fn answers_from_a_drop_folder_belong_to_their_orders() {
    let program = Program::new(&shipped()).await;
    settled(&program.write("data/inbox/orders/o.csv", ORDERS));
    program.run(&["run", "import-orders"]).expect(0);
    let answers = "order_id,answered_at,recommend,comment\nA-1,2026-03-20T10:00:00Z,yes,Parfait\nA-9,2026-03-20T10:00:00Z,no,\n";
    settled(&program.write("data/inbox/responses/r.csv", answers));
    let counted = |report: &serde_json::Value, keys: [&str; 5]| {
        keys.map(|key| report["details"][key].as_u64().unwrap_or_else(|| panic!("no {key} in {report}")))
    };
    let report = program.run(&["run", "collect-responses", "--json"]).expect(0).json();
    let keys = ["n_files", "n_read", "n_aside", "n_rejected", "n_matched"];
    assert_eq!(counted(&report, keys), [1, 2, 1, 0, 0], "{report}");
    assert_eq!(names_in(&program.path("data/inbox/responses/done")), ["r.csv"]);

    // The order that the second answer is about comes later, by the other drop folder.
    settled(&program.write("data/inbox/orders/later.csv", ORDERS.replace("A-1", "A-9")));
    let ran = program.run(&["run", "import-orders"]).expect(0);
    assert!(ran.stderr.contains("1 that waited have their order now"), "{}", ran.stderr);
    let n_responses: i64 =
        sqlx::query_scalar("select count(*) from response").fetch_one(&program.db.pool).await.unwrap();
    assert_eq!(n_responses, 2);
}

#[tokio::test]
async fn scores_of_other_sites_come_from_a_drop_folder() {
    let program = Program::new(&shipped()).await;
    let scores =
        "source,rated_on,score,scale,ratings\nfianet,2026-03-01,\"9,1\",10,120\nfianet,2026-03-02,12,10,\n";
    settled(&program.write("data/inbox/ratings/s.csv", scores));
    let report = program.run(&["run", "collect-ratings", "--json"]).expect(3).json();
    let counts = ["n_files", "n_read", "n_rejected"].map(|key| report["details"][key].as_u64().unwrap());
    assert_eq!(counts, [1, 2, 1], "{report}");
    assert_eq!(names_in(&program.path("data/inbox/ratings/done")), ["s.csv", "s.rejects.csv"]);
}

#[tokio::test]
async fn the_export_is_a_dated_file_and_the_latest() {
    let program = Program::new(&shipped()).await;
    let export = ["run", "weekly-testimonials", "--as-of", "2026-03-02T05:00:00Z"];
    let tried = program.run(&[export.as_slice(), &["--dry-run"]].concat()).expect(0);
    assert!(tried.stderr.contains("would write"), "{}", tried.stderr);
    let folder = program.path("data/exports/testimonials");
    assert!(!folder.exists());
    for _ in 0..2 {
        program.run(&export).expect(0);
    }
    let files = ["latest", "testimonials-2026-03-02"].map(|name| {
        ["csv", "manifest.json", "notice.en.md", "notice.fr.md"].map(|ending| format!("{name}.{ending}"))
    });
    assert_eq!(names_in(&folder), files.concat());
    let latest = std::fs::read_to_string(folder.join("latest.csv")).unwrap();
    assert!(latest.starts_with("testimonial_id,shop,"), "{latest}");
    // The group may read them, the world may not; and only so many days are kept.
    for name in names_in(&folder) {
        let mode = std::fs::metadata(folder.join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o037, 0, "{name} has {mode:o}");
    }
    program.configure(&shipped().replace("\nkeep = 30", "\nkeep = 2"));
    for day in ["03", "04"] {
        let as_of = format!("2026-03-{day}T05:00:00Z");
        program.run(&["run", "weekly-testimonials", "--as-of", &as_of]).expect(0);
    }
    let dated: Vec<_> = names_in(&folder).into_iter().filter(|name| name.ends_with(".csv")).collect();
    assert_eq!(dated, ["latest.csv", "testimonials-2026-03-03.csv", "testimonials-2026-03-04.csv"]);
}

#[tokio::test]
async fn a_person_is_told_how_a_run_ended() {
    let program = Program::new(&shipped()).await;
    let unknown = program.run(&["run", "send-invitatons"]).expect(2);
    assert!(unknown.stderr.contains("did you mean `send-invitations`?"), "{}", unknown.stderr);
    program.run(&["run", "send-invitations"]).expect(0);
    sqlx::query(
        "insert into job_run (job, scheduled_for, trigger, state, owner, lease_until, started_at)
         values ('send-invitations', now(), 'schedule', 'running', 'elsewhere/1/00', now() + interval '1 minute', now())",
    )
    .execute(&program.db.pool)
    .await
    .unwrap();
    let refused = program.run(&["run", "send-invitations"]).expect(4);
    assert!(
        refused.stderr.contains("it is running already") && refused.stderr.contains("elsewhere/1/00"),
        "{}",
        refused.stderr
    );

    let jobs = program.run(&["jobs", "--json"]).expect(0).json();
    let sending =
        jobs.as_array().unwrap().iter().find(|job| job["job"] == "send-invitations").unwrap().clone();
    assert_eq!(
        (&sending["last"]["state"], &sending["timezone"]),
        (&"running".into(), &"Europe/Paris".into())
    );
    let next = program.run(&["jobs", "next", "-n", "3", "--as-of", "2026-03-28T12:00:00Z"]).expect(0);
    assert!(next.stdout.contains("Mon 2026-03-30 06:00 CEST"), "{}", next.stdout);
    let history = program.run(&["jobs", "history", "-n", "1"]).expect(0);
    assert!(history.stdout.contains("running") && !history.stdout.contains("done"), "{}", history.stdout);
    program.run(&["jobs", "history", "sned-invitations"]).expect(2);
}
