//! The planner over its ledger: each occurrence once, whoever plans, and what is missed is recorded.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::Child;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use afterword::config::{CatchUp, Overlap, ScheduledJob};
use afterword::context::Context;
use afterword::jobs::RunOutcome;
use afterword::jobs::ledger::{self, JobRunState};
use afterword::jobs::runner::Pace;
use afterword::retention::{self, Round};
use afterword::scheduler::tick::Agenda;
use afterword::scheduler::{self, Schedule};
use afterword::types::Clock;
use chrono::{DateTime, TimeDelta, Utc};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::jobs::{at, context, counting, done, probe};
use crate::support::TestDb;
use crate::support::program::{Program, shipped};

fn on(mut job: ScheduledJob, schedule: &str, catch_up: CatchUp) -> ScheduledJob {
    job.schedule = Some(Schedule::parse(schedule, chrono_tz::UTC).unwrap());
    job.catch_up = catch_up;
    job.overlap = if catch_up == CatchUp::All { Overlap::QueueAll } else { Overlap::Skip };
    job
}

/// An instance that begins at this moment.
async fn agenda(context: &Context, now: DateTime<Utc>) -> Agenda {
    let context = Context { clock: Clock::Fixed(now), ..context.clone() };
    Agenda::new(context, CancellationToken::new()).await.unwrap()
}

/// Looks until nothing is due any more.
async fn settle(agenda: &mut Agenda, now: DateTime<Utc>) {
    for _ in 0..20 {
        agenda.look(now).await;
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// The ledger in the order of the occurrences: hour and minute, state.
async fn rows(pool: &PgPool) -> Vec<(String, JobRunState)> {
    let mut runs = ledger::history(pool, None, 1000).await.unwrap();
    runs.sort_by_key(|run| run.scheduled_for);
    runs.iter().map(|run| (run.scheduled_for.format("%H:%M").to_string(), run.state)).collect()
}

fn expected(rows: &[(&str, JobRunState)]) -> Vec<(String, JobRunState)> {
    rows.iter().map(|(time, state)| ((*time).to_owned(), *state)).collect()
}

/// An instance sees an hourly job at 06:30, nobody is there until 09:30; what the ledger says then.
async fn after_a_downtime(catch_up: CatchUp, window: Duration) -> Vec<(String, JobRunState)> {
    let db = TestDb::new().await;
    let (job, count) = counting();
    let mut job = on(job, "0 * * * *", catch_up);
    job.catch_up_window = window;
    let context = context(&db.pool, vec![job]).await;
    agenda(&context, at("2026-03-01T06:30:00Z")).await;
    let now = at("2026-03-01T09:30:00Z");
    let mut later = agenda(&context, now).await;
    settle(&mut later, now).await;
    later.drain().await;
    let rows = rows(&db.pool).await;
    let n_done = rows.iter().filter(|(_, state)| *state == JobRunState::Done).count();
    assert_eq!(count.load(Ordering::SeqCst), n_done);
    rows
}

#[tokio::test]
async fn what_was_missed_is_caught_up_as_configured_and_recorded() {
    use JobRunState::{Done, Skipped};
    let day = Duration::from_secs(24 * 3600);
    let once = after_a_downtime(CatchUp::Once, day).await;
    assert_eq!(once, expected(&[("07:00", Skipped), ("08:00", Skipped), ("09:00", Done)]));
    let skip = after_a_downtime(CatchUp::Skip, day).await;
    assert_eq!(skip, expected(&[("07:00", Skipped), ("08:00", Skipped), ("09:00", Skipped)]));
    let all = after_a_downtime(CatchUp::All, day).await;
    assert_eq!(all, expected(&[("07:00", Done), ("08:00", Done), ("09:00", Done)]));
    let window = after_a_downtime(CatchUp::All, Duration::from_secs(2 * 3600)).await;
    assert_eq!(window, expected(&[("07:00", Skipped), ("08:00", Done), ("09:00", Done)]));
}

#[tokio::test]
async fn a_new_a_changed_and_a_disabled_schedule_invent_no_past() {
    let db = TestDb::new().await;
    let (job, count) = counting();
    let hourly = on(job, "0 * * * *", CatchUp::All);
    let context_of = async |job: &ScheduledJob, now: &str| {
        let context = context(&db.pool, vec![job.clone()]).await;
        let mut agenda = agenda(&context, at(now)).await;
        settle(&mut agenda, at(now)).await;
        agenda.drain().await;
    };
    context_of(&hourly, "2026-03-01T09:30:00Z").await;
    assert_eq!(rows(&db.pool).await, [], "it is new");
    // Every ten minutes from now on, and in another zone.
    let changed = on(hourly.clone(), "*/10 * * * *", CatchUp::All);
    context_of(&changed, "2026-03-01T12:05:00Z").await;
    assert_eq!(rows(&db.pool).await, [], "it has changed");
    context_of(&changed, "2026-03-01T12:10:30Z").await;
    assert_eq!(rows(&db.pool).await, expected(&[("12:10", JobRunState::Done)]));
    let mut disabled = changed.clone();
    disabled.enabled = false;
    context_of(&disabled, "2026-03-01T12:30:00Z").await;
    context_of(&changed, "2026-03-01T13:05:00Z").await;
    assert_eq!(rows(&db.pool).await.len(), 1, "it was disabled");
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_comes_due_while_a_job_is_paused_is_recorded_as_skipped() {
    let db = TestDb::new().await;
    let (job, count) = counting();
    let context = context(&db.pool, vec![on(job.clone(), "0 * * * *", CatchUp::All)]).await;
    let mut agenda = agenda(&context, at("2026-03-01T09:30:00Z")).await;
    let (pool, name) = (&db.pool, job.name.as_str());
    ledger::set_pause(pool, name, "somebody looks", at("2026-03-01T09:40:00Z")).await.unwrap();
    settle(&mut agenda, at("2026-03-01T10:00:00Z")).await;
    ledger::resume(pool, name, at("2026-03-01T10:30:00Z")).await.unwrap();
    settle(&mut agenda, at("2026-03-01T11:00:00Z")).await;
    assert_eq!(rows(pool).await, expected(&[("10:00", JobRunState::Skipped), ("11:00", JobRunState::Done)]));
    assert_eq!(count.load(Ordering::SeqCst), 1);
    let reason: String = sqlx::query_scalar("select reason from job_run where state = 'skipped'")
        .fetch_one(pool)
        .await
        .unwrap();
    assert_eq!(reason, "it is paused: somebody looks");
}

#[tokio::test]
async fn five_instances_run_each_occurrence_once() {
    let db = TestDb::new().await;
    let (job, count) = counting();
    let context = context(&db.pool, vec![on(job, "* * * * *", CatchUp::Once)]).await;
    let start = at("2026-03-01T09:00:30Z");
    let mut instances = Vec::new();
    for _ in 0..5 {
        instances.push(agenda(&context, start).await);
    }
    for minute in 0..20 {
        // Each looks several times, all at once, at a moment of its own within the minute.
        let looks = instances.iter_mut().enumerate().map(|(i, instance)| async move {
            for second in [0, 1, 2] {
                let now = start + TimeDelta::minutes(minute) + TimeDelta::seconds(30 + second + i as i64);
                instance.look(now).await;
            }
        });
        futures_util::future::join_all(looks).await;
        // Whoever took the minute may not have written its row yet.
        let this_minute = format!("09:{:02}", minute + 1);
        let has_ended =
            |(at, state): &(String, JobRunState)| *at == this_minute && *state != JobRunState::Running;
        while !rows(&db.pool).await.last().is_some_and(has_ended) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    for instance in &instances {
        instance.drain().await;
    }
    let rows = rows(&db.pool).await;
    let expected: Vec<_> = (1..=20).map(|minute| (format!("09:{minute:02}"), JobRunState::Done)).collect();
    assert_eq!(rows, expected);
    assert_eq!(count.load(Ordering::SeqCst), 20);
}

#[tokio::test]
async fn a_wall_clock_that_goes_back_repeats_nothing_and_one_that_was_wrong_stops_nothing() {
    let db = TestDb::new().await;
    let (job, count) = counting();
    let context = context(&db.pool, vec![on(job, "0 * * * *", CatchUp::Once)]).await;
    let mut instance = agenda(&context, at("2026-03-01T08:30:00Z")).await;
    for now in [
        "2026-03-01T09:00:10Z",
        "2026-03-01T10:00:10Z",
        "2026-03-01T09:00:10Z", // an hour back
        "2026-03-01T09:59:00Z",
        "2026-03-01T10:00:10Z",
        "2036-03-01T10:00:10Z", // a wrong date, for a moment
        "2026-03-01T11:00:10Z",
    ] {
        settle(&mut instance, at(now)).await;
    }
    instance.drain().await;
    let runs = ledger::history(&db.pool, None, 100).await.unwrap();
    let mut ran: Vec<String> = runs
        .iter()
        .filter(|run| run.state == JobRunState::Done)
        .map(|run| run.scheduled_for.format("%Y %H:%M").to_string())
        .collect();
    ran.sort();
    assert_eq!(ran, ["2026 09:00", "2026 10:00", "2026 11:00", "2036 10:00"]);
    assert_eq!(count.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn what_comes_due_during_a_run_waits_for_it() {
    let db = TestDb::new().await;
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
    let context = context(&db.pool, vec![on(job, "0 * * * *", CatchUp::All)]).await;
    let mut instance = agenda(&context, at("2026-03-01T06:30:00Z")).await;
    settle(&mut instance, at("2026-03-01T07:00:10Z")).await;
    settle(&mut instance, at("2026-03-01T09:00:10Z")).await;
    assert_eq!(rows(&db.pool).await, expected(&[("07:00", JobRunState::Running)]));
    let_go.cancel();
    settle(&mut instance, at("2026-03-01T09:00:10Z")).await;
    instance.drain().await;
    let all = ["07:00", "08:00", "09:00"].map(|time| (time, JobRunState::Done));
    assert_eq!(rows(&db.pool).await, expected(&all));
}

/// A job that runs until it is let go, at ten to nine first, and what the ledger says of the hours up to the 12th: it is let go after
/// the last of these looks.
async fn while_it_runs(overlap: Overlap, catch_up: CatchUp) -> Vec<(String, JobRunState)> {
    let db = TestDb::new().await;
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
    let mut job = on(job, "0 * * * *", catch_up);
    job.overlap = overlap;
    let context = context(&db.pool, vec![job]).await;
    let pace = Pace {
        lease: Duration::from_secs(30),
        renew: Duration::from_millis(50),
        give_up: Duration::from_secs(20),
        grace: Duration::from_secs(1),
    };
    let begun = Context { clock: Clock::Fixed(at("2026-03-01T08:30:00Z")), ..context };
    let mut instance = Agenda::at_pace(begun, CancellationToken::new(), pace).await.unwrap();
    settle(&mut instance, at("2026-03-01T09:00:10Z")).await;
    // The ledger runs on the database's clock, the schedule of this test on another.
    let sql = "update job_run set started_at = '2026-03-01T09:00:10Z'";
    sqlx::query(sql).execute(&db.pool).await.unwrap();
    for hour in [10, 11, 12] {
        settle(&mut instance, at(&format!("2026-03-01T{hour}:00:10Z"))).await;
    }
    let_go.cancel();
    while ledger::history(&db.pool, None, 9)
        .await
        .unwrap()
        .iter()
        .any(|run| run.state == JobRunState::Running)
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let sql = "update job_run set finished_at = '2026-03-01T12:00:11Z' where state = 'done'";
    sqlx::query(sql).execute(&db.pool).await.unwrap();
    settle(&mut instance, at("2026-03-01T12:05:00Z")).await;
    instance.drain().await;
    rows(&db.pool).await
}

#[tokio::test]
async fn what_comes_due_during_a_run_is_skipped_or_queued_as_configured() {
    use JobRunState::{Done, Skipped};
    let of = |states: [JobRunState; 4]| {
        expected(&["09:00", "10:00", "11:00", "12:00"].into_iter().zip(states).collect::<Vec<_>>())
    };
    for catch_up in [CatchUp::Once, CatchUp::Skip] {
        let skip = while_it_runs(Overlap::Skip, catch_up).await;
        assert_eq!(skip, of([Done, Skipped, Skipped, Skipped]), "{catch_up:?}");
        let queue_one = while_it_runs(Overlap::QueueOne, catch_up).await;
        assert_eq!(queue_one, of([Done, Skipped, Skipped, Done]), "{catch_up:?}");
        let queue_all = while_it_runs(Overlap::QueueAll, catch_up).await;
        assert_eq!(queue_all, of([Done; 4]), "{catch_up:?}");
    }
}

#[tokio::test]
async fn what_was_left_behind_by_a_program_is_done_by_another() {
    let db = TestDb::new().await;
    let (job, count) = counting();
    let context = context(&db.pool, vec![on(job, "0 * * * *", CatchUp::Once)]).await;
    let mut instance = agenda(&context, at("2026-03-01T08:30:00Z")).await;
    // Another machine has begun with it, and is no longer heard.
    let left_behind = |seconds: f64| {
        sqlx::query(
            "insert into job_run (job, scheduled_for, trigger, state, owner, lease_until, started_at)
             values ('probe', '2026-03-01T09:00:00Z', 'schedule', 'running', 'other/1/00', now() + make_interval(secs => $1), now())
             on conflict on constraint job_run_occurrence_key do update set lease_until = excluded.lease_until",
        )
        .bind(seconds)
        .execute(&db.pool)
    };
    left_behind(60.0).await.unwrap();
    settle(&mut instance, at("2026-03-01T09:00:10Z")).await;
    assert_eq!(rows(&db.pool).await, expected(&[("09:00", JobRunState::Running)]));
    left_behind(-1.0).await.unwrap();
    // An instance that begins only then finds it as well.
    let mut instance = agenda(&context, at("2026-03-01T09:20:00Z")).await;
    settle(&mut instance, at("2026-03-01T09:20:00Z")).await;
    instance.drain().await;
    let runs = ledger::history(&db.pool, None, 9).await.unwrap();
    assert_eq!(runs.iter().map(|run| (run.state, run.attempt)).collect::<Vec<_>>(), [(JobRunState::Done, 2)]);
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn after_every_downtime_the_ledger_says_what_became_of_each_hour() {
    let db = TestDb::new().await;
    let hour = 3600_u64;
    let mut n = 0;
    for catch_up in [CatchUp::Once, CatchUp::Skip, CatchUp::All] {
        for minutes in [0, 1, 29, 31, 89, 5 * 60, 25 * 60, 3 * 24 * 60, 40 * 24 * 60] {
            let (job, count) = counting();
            let mut job = on(job, "0 * * * *", catch_up);
            n += 1;
            job.name = format!("job-{n}");
            job.catch_up_window = Duration::from_secs(48 * hour);
            let context = context(&db.pool, vec![job.clone()]).await;
            let start = at("2026-03-01T06:30:00Z");
            agenda(&context, start).await;
            let now = start + TimeDelta::minutes(minutes) + TimeDelta::seconds(10);
            let mut later = agenda(&context, now).await;
            for _ in 0..60 {
                later.look(now).await;
                later.drain().await;
            }
            // By hand: the hours that passed, whether the last is less than a minute old, and how many lie in the window.
            let n_missed = usize::try_from((minutes + 30) / 60).unwrap();
            let is_on_time = (minutes + 30) % 60 == 0 && n_missed > 0;
            let n_within = n_missed.min(48);
            let n_run = match catch_up {
                CatchUp::Once => n_missed.min(1),
                CatchUp::Skip => usize::from(is_on_time),
                CatchUp::All => n_within,
            };
            let n_skipped = n_missed - n_run;
            let runs = ledger::history(&db.pool, Some(&job.name), 10_000).await.unwrap();
            let of = |state| runs.iter().filter(|run| run.state == state).count();
            let n_rows = if n_skipped > 100 { 1 } else { n_skipped };
            let counts = (of(JobRunState::Done), of(JobRunState::Skipped), runs.len());
            assert_eq!(counts, (n_run, n_rows, n_run + n_rows), "{catch_up:?} after {minutes} minutes");
            assert_eq!(count.load(Ordering::SeqCst), n_run);
            let skipped = runs.iter().filter(|run| run.state == JobRunState::Skipped);
            for reason in skipped.map(|run| run.reason.as_deref().unwrap_or_default()) {
                assert!(reason.starts_with("missed: "), "{reason}");
                let says_how_many = reason.contains(&format!("one row for {n_skipped} occurrences"));
                assert_eq!(says_how_many, n_skipped > 100, "{reason}");
            }
        }
    }
}

#[tokio::test]
async fn the_tick_starts_what_is_due_and_a_stop_lets_it_end() {
    let db = TestDb::new().await;
    let job = probe(|stop| async move {
        stop.cancelled().await;
        Ok(afterword::jobs::RunReport { outcome: RunOutcome::Partial, ..done("told to stop") })
    });
    let job = on(job, "0 * * * *", CatchUp::Once);
    let mut context = context(&db.pool, vec![job]).await;
    agenda(&context, at("2026-03-01T08:30:00Z")).await;
    context.clock = Clock::Fixed(at("2026-03-01T09:00:01Z"));
    let stop = CancellationToken::new();
    let running = tokio::spawn(scheduler::run(context, stop.clone()));
    let begun = async {
        while rows(&db.pool).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), begun).await.unwrap();
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(10), running).await.unwrap().unwrap().unwrap();
    assert_eq!(rows(&db.pool).await, expected(&[("09:00", JobRunState::Partial)]));
}

/// `serve`, once it says that it is ready; what it logs is collected.
fn serve(program: &Program) -> (Child, Arc<Mutex<String>>) {
    let mut child = program.spawn(&["serve"]);
    let log = Arc::new(Mutex::new(String::new()));
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let (ready, is_ready) = std::sync::mpsc::channel();
    std::thread::spawn({
        let log = log.clone();
        move || {
            for line in stderr.lines().map_while(Result::ok) {
                if line.contains("ready") {
                    let _ = ready.send(());
                }
                log.lock().unwrap().push_str(&format!("{line}\n"));
            }
        }
    });
    is_ready.recv_timeout(Duration::from_secs(30)).expect("serve did not get ready");
    (child, log)
}

fn signal(child: &Child) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_follows_the_schedule_and_ends_cleanly() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let program = Program::new(&shipped().replace("127.0.0.1:8080", &free)).await;
    // It was there before, and then nobody was: what it missed since is caught up at once.
    program.run(&["migrate"]).expect(0);
    sqlx::query(
        "insert into job_schedule (job, schedule, timezone, since)
         values ('send-invitations', '*/10 * * * *', 'Europe/Paris', now() - interval '35 minutes')",
    )
    .execute(&program.db.pool)
    .await
    .unwrap();
    let (mut child, log) = serve(&program);
    let caught_up = async {
        while !rows(&program.db.pool).await.iter().any(|(_, state)| *state == JobRunState::Done) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), caught_up).await.unwrap();
    let n_skipped =
        rows(&program.db.pool).await.iter().filter(|(_, state)| *state == JobRunState::Skipped).count();
    assert!((2..=3).contains(&n_skipped), "{n_skipped}");
    signal(&child);
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", log.lock().unwrap());
    assert!(log.lock().unwrap().contains(&format!("http://{free}")));
    // Stopping the clock makes no sense here.
    program.run(&["serve", "--as-of", "2026-03-01"]).expect(2);
}

/// `purge` has let go of the rows, and a clock that goes back by hours meets a time of which the ledger knows nothing any more.
#[tokio::test]
async fn what_was_let_go_of_is_not_run_again() {
    let db = TestDb::new().await;
    let (job, count) = counting();
    let context = context(&db.pool, vec![on(job, "0 * * * *", CatchUp::All)]).await;
    let mut agenda_of_now = agenda(&context, at("2026-03-01T06:30:00Z")).await;
    for hour in 7..12 {
        settle(&mut agenda_of_now, at(&format!("2026-03-01T{hour:02}:00:00Z"))).await;
    }
    agenda_of_now.drain().await;
    assert_eq!(rows(&db.pool).await.len(), 5);
    let round = Round {
        pool: &db.pool,
        config: &context.config,
        retention: context.config.retention.as_ref().unwrap(),
        put_away: &[],
        now: at("2096-01-01T04:00:00Z"),
        only_count: false,
    };
    let (purged, _) = retention::purge(round, &[], &CancellationToken::new()).await.unwrap();
    assert_eq!(purged.n_runs, 4);
    assert_eq!(rows(&db.pool).await, expected(&[("11:00", JobRunState::Done)]));
    for now in ["2026-03-01T08:30:00Z", "2026-03-01T10:00:00Z", "2026-03-01T11:30:00Z"] {
        let mut agenda = agenda(&context, at(now)).await;
        settle(&mut agenda, at(now)).await;
        agenda.drain().await;
    }
    assert_eq!((count.load(Ordering::SeqCst), rows(&db.pool).await.len()), (5, 1));
    let mut agenda = agenda(&context, at("2026-03-01T12:00:00Z")).await;
    settle(&mut agenda, at("2026-03-01T12:00:00Z")).await;
    agenda.drain().await;
    assert_eq!(count.load(Ordering::SeqCst), 6, "what comes is run as ever");
}
