//! Several instances on one Postgres, each a process of its own, killed and stopped at random: every occurrence is done, and a process
//! that was stopped for longer than its lease writes nothing more for the run that was taken from it.
//!
//! The instances are this test binary, so that the job can be one that tells what it wrote, and so that a minute of the schedule takes
//! a second; what they run is the program's own planner, runner, ledger and database.
//!
//! With `AFTERWORD_SOAK` set (`make soak`) it takes ten minutes.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::str::FromStr as _;
use std::time::{Duration, Instant, SystemTime};

use afterword::config::{CatchUp, Config, Overlap, ScheduledJob};
use afterword::context::Context;
use afterword::db;
use afterword::jobs::ledger::{self, JobRunState};
use afterword::jobs::runner::Pace;
use afterword::jobs::{AnyJob, Job, JobError, Run, RunReport};
use afterword::scheduler::Schedule;
use afterword::scheduler::tick::Agenda;
use afterword::types::Clock;
use chrono::{DateTime, TimeDelta, Utc};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;

use crate::jobs::{at, context, done};
use crate::support::{TestDb, random, say};

const N_INSTANCES: usize = 5;

/// Leases short enough for a test, long enough for a busy machine.
fn pace() -> Pace {
    Pace {
        lease: Duration::from_millis(3000),
        renew: Duration::from_millis(300),
        give_up: Duration::from_millis(2400),
        grace: Duration::from_millis(500),
    }
}

/// The time of the schedule: it begins when the test does, and a minute takes a second.
#[derive(Clone, Copy)]
struct Time {
    began: Duration,
    n_minutes: i64,
}

impl Time {
    fn start() -> DateTime<Utc> {
        at("2026-03-01T09:00:30Z")
    }

    fn end(self) -> DateTime<Utc> {
        Self::start() + TimeDelta::minutes(self.n_minutes)
    }

    fn now(self) -> DateTime<Utc> {
        let passed = since_epoch().saturating_sub(self.began);
        Self::start() + TimeDelta::from_std(passed * 60).unwrap()
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap()
}

/// Writes three times, with pauses between, the second time in a transaction that lasts; and notes, on a connection of nobody's, when
/// it was refused.
#[derive(Debug)]
struct Stepping {
    unfenced: PgPool,
}

const STEP: &str = "insert into effect (fence, step) values (current_setting('afterword.job_run'), $1)";

impl Job for Stepping {
    const KIND: &'static str = "stepping";
    const ABOUT: &'static str = "Writes a little, three times";
    const SAMPLE: &'static str = "";

    fn check(&self, _: &Config) -> Vec<String> {
        Vec::new()
    }

    fn shops(&self, _: &afterword::config::Config) -> Vec<String> {
        Vec::new()
    }

    async fn run(&self, run: &Run<'_>) -> Result<RunReport, JobError> {
        let refused = match steps(&run.context.pool).await {
            Ok(()) => return Ok(done("three steps")),
            Err(error) => error,
        };
        let code = refused.as_database_error().and_then(|error| error.code()).unwrap_or_default();
        sqlx::query("insert into refused (job_run_id, code) values ($1, $2)")
            .bind(run.job_run.map(|id| id.0))
            .bind(code.as_ref())
            .execute(&self.unfenced)
            .await?;
        Err(refused.into())
    }
}

async fn steps(pool: &PgPool) -> sqlx::Result<()> {
    let pause = async |most: usize| {
        let pause = random(since_epoch().subsec_nanos() as usize) % most;
        tokio::time::sleep(Duration::from_millis(pause as u64)).await;
    };
    sqlx::query(STEP).bind(1).execute(pool).await?;
    pause(200).await;
    let mut tx = pool.begin().await?;
    sqlx::query(STEP).bind(2).execute(&mut *tx).await?;
    pause(100).await;
    tx.commit().await?;
    pause(200).await;
    sqlx::query(STEP).bind(3).execute(pool).await?;
    Ok(())
}

/// Not a test: one of the instances.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "no test: started by tests"]
async fn instance() {
    let (Some(url), Some(time)) = (std::env::var_os("INSTANCE_OF"), std::env::var_os("INSTANCE_TIME")) else {
        return;
    };
    let (url, time) = (url.into_string().unwrap(), time.into_string().unwrap());
    let (began, n_minutes) = time.split_once('/').unwrap();
    let time =
        Time { began: Duration::from_millis(began.parse().unwrap()), n_minutes: n_minutes.parse().unwrap() };
    let pool = db::pool(PgConnectOptions::from_str(&url).unwrap(), 6);
    let job = ScheduledJob {
        name: "step".to_owned(),
        kind: Stepping::KIND,
        job: AnyJob::new(Stepping { unfenced: pool.clone() }),
        schedule: Some(Schedule::parse("* * * * *", chrono_tz::UTC).unwrap()),
        enabled: true,
        catch_up: CatchUp::All,
        catch_up_window: Duration::from_secs(30 * 24 * 3600),
        overlap: Overlap::QueueAll,
        jitter: Duration::ZERO,
        timeout: Duration::from_secs(60),
    };
    let context = Context { clock: Clock::Fixed(Time::start()), ..context(&pool, vec![job]).await };
    let mut agenda = Agenda::at_pace(context, CancellationToken::new(), pace()).await.unwrap();
    loop {
        let now = time.now();
        agenda.look(now.min(time.end())).await;
        if now > time.end() && n_done(&pool).await == time.n_minutes {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    agenda.drain().await;
}

async fn n_done(pool: &PgPool) -> i64 {
    let sql = "select count(*) from job_run where state = 'done'";
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

/// The processes. None survives the test.
struct Instances {
    children: Vec<Child>,
    url: String,
    time: Time,
}

impl Instances {
    fn spawn(url: &str, time: Time) -> Self {
        let mut instances = Self { children: Vec::new(), url: url.to_owned(), time };
        instances.children = (0..N_INSTANCES).map(|_| instances.another()).collect();
        instances
    }

    fn another(&self) -> Child {
        let Time { began, n_minutes } = self.time;
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "instances::instance", "--ignored", "--nocapture"])
            .env("INSTANCE_OF", &self.url)
            .env("INSTANCE_TIME", format!("{}/{n_minutes}", began.as_millis()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap()
    }

    fn kill(&mut self, i: usize) {
        self.children[i].kill().unwrap();
        self.children[i].wait().unwrap();
        self.children[i] = self.another();
    }

    fn signal(&self, i: usize, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.children[i].id()).unwrap()), signal).unwrap();
    }

    /// Which of them is in the middle of a run; `None` when nobody gets there within a second.
    async fn busy(&self, pool: &PgPool) -> Option<usize> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(1) {
            let owner: Option<String> = sqlx::query_scalar(
                "select owner from job_run
                 where state = 'running' and (select max(step) from effect where fence = job_run_id || '/' || attempt) in (1, 2)",
            )
            .fetch_optional(pool)
            .await
            .unwrap();
            if let Some(owner) = owner {
                let pid = owner.rsplit('/').nth(1).unwrap().parse::<u32>().unwrap();
                return self.children.iter().position(|child| child.id() == pid);
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        None
    }
}

impl Drop for Instances {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_five_processes_any_may_be_killed_or_stopped_and_each_occurrence_is_done() {
    let n_minutes = if std::env::var_os("AFTERWORD_SOAK").is_some() { 600 } else { 25 };
    let db = TestDb::new().await;
    for sql in [
        "create table effect (n bigint generated always as identity, fence text not null, step integer not null,
             at timestamptz not null default clock_timestamp())",
        "create trigger fence before insert or update or delete or truncate on effect for each statement
             when (current_setting('afterword.job_run', true) <> '') execute function hold_fence_of_write()",
        "create table refused (job_run_id bigint not null, code text not null)",
    ] {
        sqlx::query(sql).execute(&db.pool).await.unwrap();
    }
    let time = Time { began: since_epoch(), n_minutes };
    let mut instances = Instances::spawn(&db.url, time);
    let (mut n_killed, mut n_stopped) = (0, 0);
    for n in 0.. {
        if time.now() > time.end() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100 + random(n) as u64 % 700)).await;
        // Mostly whoever runs the job; whoever it is otherwise only plans.
        let busy = if n % 4 == 3 { None } else { instances.busy(&db.pool).await };
        let i = busy.unwrap_or(random(n + 1_000_000) % N_INSTANCES);
        if n % 2 == 0 {
            instances.signal(i, Signal::SIGSTOP);
            tokio::time::sleep(pace().lease + Duration::from_millis(1500)).await;
            instances.signal(i, Signal::SIGCONT);
            n_stopped += 1;
        } else {
            instances.kill(i);
            n_killed += 1;
        }
    }
    let began = Instant::now();
    for child in &mut instances.children {
        while child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < Duration::from_secs(120), "the instances do not get everything done");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(child.wait().unwrap().success(), "an instance failed");
    }

    let mut runs = ledger::history(&db.pool, None, 10_000).await.unwrap();
    runs.sort_by_key(|run| run.scheduled_for);
    let first = at("2026-03-01T09:01:00Z");
    let occurrences: Vec<_> = (0..n_minutes).map(|minute| first + TimeDelta::minutes(minute)).collect();
    assert_eq!(runs.iter().map(|run| run.scheduled_for).collect::<Vec<_>>(), occurrences);
    assert!(runs.iter().all(|run| run.state == JobRunState::Done), "{runs:?}");

    // What is written of one run ends before the next one begins: the fences, in the order of what they wrote, do not alternate.
    let effects: Vec<(String, i32)> =
        sqlx::query_as("select fence, step from effect order by at, n").fetch_all(&db.pool).await.unwrap();
    let mut in_turn: Vec<&str> = effects.iter().map(|(fence, _)| fence.as_str()).collect();
    in_turn.dedup();
    assert_eq!(
        in_turn.iter().collect::<BTreeSet<_>>().len(),
        in_turn.len(),
        "a zombie has written: {in_turn:?}"
    );
    for run in &runs {
        let fence = format!("{}/{}", run.job_run_id, run.attempt);
        let steps: Vec<i32> =
            effects.iter().filter(|(other, _)| *other == fence).map(|(_, step)| *step).collect();
        assert_eq!(steps, [1, 2, 3], "run {fence}");
    }

    let n_taken_over = runs.iter().filter(|run| run.attempt > 1).count();
    let n_refused: i64 = sqlx::query_scalar("select count(*) from refused where code = 'AW001'")
        .fetch_one(&db.pool)
        .await
        .unwrap();
    say(&format!(
        "{n_minutes} occurrences in {N_INSTANCES} processes: {n_killed} killed, {n_stopped} stopped for longer than the lease, \
         {n_taken_over} runs taken over, {n_refused} writes of zombies refused"
    ));
    assert!(n_taken_over > 0 && n_refused > 0, "nothing was put to the test");
}
