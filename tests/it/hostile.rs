//! Jobs that panic, hang, do not listen, block their thread or burn the processor, again and again through the planner: what runs beside
//! them is on time, the ledger says what became of each, their next occurrence begins, and nothing stays taken.

use std::collections::BTreeMap;
use std::time::Duration;

use afterword::config::{Config, ScheduledJob};
use afterword::context::Context;
use afterword::jobs::ledger::{self, JobRunState, MOST_ATTEMPTS, Occurrence};
use afterword::jobs::runner::{self, Outcome, Pace};
use afterword::jobs::{AnyJob, Job, JobError, Run, RunOutcome, RunReport};
use afterword::scheduler::Schedule;
use afterword::scheduler::tick::Agenda;
use afterword::types::Clock;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::jobs::{at, context, counting, done, probe};
use crate::support::{TestDb, say};

const N_ROUNDS: usize = 50;

/// Those that hang are not waited for.
const PACE: Pace = Pace {
    lease: Duration::from_secs(30),
    renew: Duration::from_millis(100),
    give_up: Duration::from_secs(20),
    grace: Duration::from_millis(30),
};

/// How long a thread is kept from everything else.
const STUCK: Duration = Duration::from_millis(40);

fn every_minute(mut job: ScheduledJob, name: &str) -> ScheduledJob {
    job.name = name.to_owned();
    job.schedule = Some(Schedule::parse("* * * * *", chrono_tz::UTC).unwrap());
    job.timeout = Duration::from_millis(30);
    job
}

/// What keeps its thread for a while, and awaits nothing.
fn burn() {
    let begun = Instant::now();
    while begun.elapsed() < STUCK {
        std::hint::spin_loop();
    }
}

/// Each of the bad ones, and what the ledger says of it.
fn bad_jobs() -> Vec<(ScheduledJob, JobRunState, &'static str)> {
    use JobRunState::{Done, Failed, Partial};
    let panics = probe(|_| async { panic!("at once") });
    let panics_later = probe(|_| async {
        tokio::task::yield_now().await;
        panic!("in the middle")
    });
    let hangs = probe(|_| std::future::pending());
    let is_deaf = probe(|stop| async move {
        stop.cancelled().await;
        std::future::pending().await
    });
    let listens = probe(|stop| async move {
        stop.cancelled().await;
        Ok(RunReport { outcome: RunOutcome::Partial, ..done("half of it") })
    });
    let patient = |job| ScheduledJob { timeout: Duration::from_secs(60), ..job };
    let blocks = probe(|_| async {
        std::thread::sleep(STUCK);
        Ok(done("blocked"))
    });
    let burns = probe(|_| async {
        burn();
        Ok(done("burnt"))
    });
    let blocks_for_ever = probe(|_| async {
        // Longer than its timeout and the time to end after it.
        std::thread::sleep(STUCK * 3);
        std::future::pending().await
    });
    let timeout = "timeout: told to stop after 30ms, it did not end within another 30ms";
    [
        (panics, "panics", Failed, "panic: at tests/it/hostile.rs:"),
        (panics_later, "panics-later", Failed, "panic: at tests/it/hostile.rs:"),
        (hangs, "hangs", Failed, timeout),
        (is_deaf, "is-deaf", Failed, timeout),
        (listens, "listens", Partial, "half of it; stopped because it took longer than its timeout of 30ms"),
        (blocks, "blocks", Done, "blocked"),
        (burns, "burns", Done, "burnt"),
        (blocks_for_ever, "blocks-for-ever", Failed, timeout),
    ]
    .map(|(job, name, state, words)| {
        let job = every_minute(job, name);
        // Only those that are to hear that their time is over have little of it.
        let is_quick = state == Done || words.starts_with("panic");
        (if is_quick { patient(job) } else { job }, state, words)
    })
    .into()
}

/// The ledger by job, the earliest first: occurrence, state, and what is said.
async fn by_job(pool: &PgPool) -> BTreeMap<String, Vec<(DateTime<Utc>, JobRunState, String)>> {
    let mut runs = ledger::history(pool, None, 10_000).await.unwrap();
    runs.sort_by_key(|run| run.scheduled_for);
    let mut by_job = BTreeMap::<_, Vec<_>>::new();
    for run in runs {
        let text = run.report.as_ref().and_then(|report| report["text"].as_str());
        let said = run.reason.as_deref().or(text).unwrap_or_default().to_owned();
        by_job.entry(run.job).or_default().push((run.scheduled_for, run.state, said));
    }
    by_job
}

async fn n_leases(pool: &PgPool) -> i64 {
    let sql = "select count(*) from job_run where lease_until is not null or state = 'running'";
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_a_job_does_the_others_are_on_time_and_its_next_occurrence_begins() {
    let db = TestDb::new().await;
    let bad = bad_jobs();
    let good = ["good", "good-too"]
        .map(|name| ScheduledJob { timeout: Duration::from_secs(60), ..every_minute(counting().0, name) });
    let jobs = bad.iter().map(|(job, ..)| job.clone()).chain(good.clone());
    // Who listens is given the time to be heard, on a machine that is busy with the others.
    let (patiently, at_once): (Vec<_>, Vec<_>) = jobs.partition(|job| job.name == "listens");
    let mut now = at("2026-03-01T09:00:30Z");
    let mut agendas = Vec::new();
    for (jobs, grace) in [(patiently, Duration::from_secs(20)), (at_once, PACE.grace)] {
        let context = Context { clock: Clock::Fixed(now), ..context(&db.pool, jobs).await };
        let pace = Pace { grace, ..PACE };
        agendas.push(Agenda::at_pace(context, CancellationToken::new(), pace).await.unwrap());
    }
    let (mut latest, mut instant) = (Duration::ZERO, Instant::now());
    for _ in 0..N_ROUNDS {
        (now, instant) = (now + TimeDelta::minutes(1), instant + Duration::from_secs(60));
        let looked = Instant::now();
        for agenda in &mut agendas {
            agenda.look_when(instant, now).await;
        }
        // The good ones end, whatever the others are at.
        let sql =
            "select count(*) from job_run where job like 'good%' and state = 'done' and scheduled_for > $1";
        let this_minute = now - TimeDelta::minutes(1);
        let n_done =
            async || -> i64 { sqlx::query_scalar(sql).bind(this_minute).fetch_one(&db.pool).await.unwrap() };
        while n_done().await < 2 {
            assert!(looked.elapsed() < Duration::from_secs(10), "the good ones do not run");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        latest = latest.max(looked.elapsed());
        for agenda in &agendas {
            agenda.drain().await;
        }
    }
    assert!(latest < Duration::from_secs(8), "a good one was late by {latest:?}");
    let ledger = by_job(&db.pool).await;
    let first = at("2026-03-01T09:01:00Z");
    let minutes = || (0..).map(|n| first + TimeDelta::minutes(n)).take(N_ROUNDS);
    let bad = bad.iter().map(|(job, state, words)| (job, *state, *words));
    for (job, state, words) in bad.chain(good.iter().map(|job| (job, JobRunState::Done, "counted"))) {
        let runs = &ledger[&job.name];
        assert!(runs.iter().map(|(at, ..)| *at).eq(minutes()), "{}: {runs:?}", job.name);
        for (at, seen, said) in runs {
            assert!(*seen == state && said.starts_with(words), "{} {at}: {seen:?}, {said}", job.name);
        }
    }
    assert_eq!(n_leases(&db.pool).await, 0);
    say(&format!("{N_ROUNDS} rounds beside eight bad jobs: the latest good run had ended after {latest:?}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_does_not_end_with_its_program_is_begun_so_often_and_no_more() {
    let db = TestDb::new().await;
    let hangs = ScheduledJob {
        timeout: Duration::from_secs(60),
        ..every_minute(probe(|_| std::future::pending()), "hangs")
    };
    let context = context(&db.pool, vec![hangs]).await;
    let noted = at("2026-03-01T09:00:30Z");
    let begin = async |now| {
        let (context, stop) =
            (Context { clock: Clock::Fixed(now), ..context.clone() }, CancellationToken::new());
        (Agenda::at_pace(context, stop.clone(), PACE).await.unwrap(), stop)
    };
    begin(noted).await;
    let states = async || {
        let sql = "select to_char(scheduled_for at time zone 'UTC', 'HH24:MI'), state::text, attempt from job_run order by 1";
        let rows: Vec<(String, String, i32)> = sqlx::query_as(sql).fetch_all(&db.pool).await.unwrap();
        rows
    };
    let row = |time: &str, state: &str, attempt| (time.to_owned(), state.to_owned(), attempt);
    let now = at("2026-03-01T09:01:05Z");
    for attempt in 1..=MOST_ATTEMPTS + 3 {
        let (mut agenda, stop) = begin(now).await;
        agenda.look(now).await;
        if attempt <= MOST_ATTEMPTS {
            let begun = Instant::now();
            while states().await != [row("09:01", "running", attempt)] {
                assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", states().await);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        stop.cancel();
        agenda.drain().await;
        let attempt = attempt.min(MOST_ATTEMPTS);
        assert_eq!(states().await, [row("09:01", "interrupted", attempt)]);
        assert_eq!(n_leases(&db.pool).await, 0);
    }
    let reason: String = sqlx::query_scalar("select reason from job_run").fetch_one(&db.pool).await.unwrap();
    assert_eq!(reason, "the program was stopped, and the job did not end within 30ms");
    // The next one begins all the same.
    let now = now + TimeDelta::minutes(1);
    let (mut agenda, stop) = begin(now).await;
    agenda.look(now).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.cancel();
    agenda.drain().await;
    let given_up = row("09:01", "interrupted", MOST_ATTEMPTS);
    assert_eq!(states().await, [given_up, row("09:02", "interrupted", 1)]);
}

/// Takes every connection that it may have, and the jobs' own beside, for longer than a lease.
#[derive(Debug)]
struct Hogging {
    of_all: PgPool,
    /// How long.
    hogs: Duration,
}

impl Job for Hogging {
    const KIND: &'static str = "hogging";
    const ABOUT: &'static str = "Takes every connection";
    const SAMPLE: &'static str = "";

    fn check(&self, _: &Config) -> Vec<String> {
        Vec::new()
    }

    fn shops(&self, _: &Config) -> Vec<String> {
        Vec::new()
    }

    async fn run(&self, run: &Run<'_>) -> Result<RunReport, JobError> {
        let mut taken = Vec::new();
        for pool in [&run.context.pool, &self.of_all] {
            for _ in 0..pool.options().get_max_connections() {
                taken.push(pool.acquire().await?);
            }
            assert!(pool.try_acquire().is_none() && pool.num_idle() == 0, "a connection is left");
        }
        let told = run.stop.run_until_cancelled(tokio::time::sleep(self.hogs)).await.is_none();
        drop(taken);
        anyhow::ensure!(!told, "told to stop");
        Ok(done("took all"))
    }
}

#[tokio::test]
async fn a_run_that_uses_up_all_connections_keeps_its_lease() {
    let db = TestDb::new().await;
    let job = AnyJob::new(Hogging { of_all: db.pool.clone(), hogs: Duration::from_secs(9) });
    let job = ScheduledJob { job, ..counting().0 };
    let context = context(&db.pool, vec![]).await;
    let pace = Pace { lease: Duration::from_secs(4), give_up: Duration::from_secs(3), ..PACE };
    let stop = CancellationToken::new();
    let run = tokio::spawn({
        let (context, job, stop) = (context.clone(), job.clone(), stop.clone());
        async move { runner::run_at_pace(&context, &job, Occurrence::ByHand, false, &stop, pace).await }
    });
    // Another machine's view: with connections of its own, and under a name that is not of this process.
    let other = afterword::db::pool(db.options(), 2);
    tokio::time::sleep(Duration::from_secs(6)).await;
    let (state, is_alive): (String, bool) =
        sqlx::query_as("select state::text, lease_until > now() from job_run")
            .fetch_one(&other)
            .await
            .unwrap();
    assert_eq!((state.as_str(), is_alive), ("running", true), "its lease has run out once already");
    assert_eq!(run.await.unwrap().unwrap(), Outcome::Ended(done("took all")));
    let attempts: Vec<i32> =
        sqlx::query_scalar("select attempt from job_run").fetch_all(&db.pool).await.unwrap();
    assert_eq!(attempts, [1]);
}
