//! The planner over its ledger: each occurrence once, whoever plans, and what is missed is recorded.

use std::sync::atomic::Ordering;
use std::time::Duration;

use afterword::config::{CatchUp, ScheduledJob};
use afterword::context::Context;
use afterword::jobs::RunOutcome;
use afterword::jobs::ledger::{self, JobRunState};
use afterword::scheduler::tick::Agenda;
use afterword::scheduler::{self, Schedule};
use afterword::types::Clock;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::jobs::{at, context, counting, done, probe};
use crate::support::TestDb;

fn on(mut job: ScheduledJob, schedule: &str, catch_up: CatchUp) -> ScheduledJob {
    job.schedule = Some(Schedule::parse(schedule, chrono_tz::UTC).unwrap());
    job.catch_up = catch_up;
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
        while rows(&db.pool).await.last().is_none_or(|(_, state)| *state == JobRunState::Running) {
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
