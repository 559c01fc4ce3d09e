//! The planner over its real ledger while the clocks are set at random, by a second to more than a day, the machine sleeps, and nobody is
//! there for up to forty days: after each step the ledger says what a slow second reading of the policies says.
//!
//! The database's clock is the test's as well: the one of the machine that is set, or that of another machine, which goes on. What happens
//! is drawn from a seed, which a failure names; `AFTERWORD_SEED` repeats it, and with `AFTERWORD_SOAK` set (`make soak`) there are a hundred.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use afterword::config::{CatchUp, Overlap, ScheduledJob};
use afterword::context::Context;
use afterword::db;
use afterword::jobs::{RunOutcome, RunReport};
use afterword::scheduler::planner::Policy;
use afterword::scheduler::tick::Agenda;
use afterword::scheduler::{self, Schedule};
use afterword::types::Clock;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::jobs::{at, context, counting, done, probe};
use crate::support::{TestDb, random, say};

const N_STEPS: usize = 50;

/// When the schedules are first seen.
const BEGINS: &str = "2026-06-01T00:00:20Z";

/// Numbers that follow from a seed.
struct Dice(usize);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 += 1;
        random(self.0) % n
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn seconds(&mut self, from: i64, to: i64) -> TimeDelta {
        let span = usize::try_from(to - from + 1).unwrap();
        TimeDelta::seconds(from + i64::try_from(self.below(span)).unwrap())
    }
}

/// What happens next.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// Time passes, with somebody there who looks every so often.
    Pass { time: TimeDelta, every: TimeDelta },
    /// The program is stopped, and begins again after this time.
    Down(TimeDelta),
    /// The machine sleeps: its own time stands still.
    Sleep(TimeDelta),
    /// The wall clock is set.
    Set(TimeDelta),
}

impl Event {
    fn draw(dice: &mut Dice) -> Self {
        let day = 24 * 3600;
        match dice.below(20) {
            0..=7 => Self::Pass { time: dice.seconds(60, 2 * 3600), every: dice.seconds(40, 600) },
            8..=10 => Self::Down(dice.seconds(0, 6 * 3600)),
            11 => Self::Down(dice.seconds(0, 3 * day)),
            12 => Self::Down(dice.seconds(day, 40 * day)),
            13 => Self::Sleep(dice.seconds(1, 3 * 3600)),
            14 | 15 => Self::Set(dice.seconds(-25 * 3600, -1)),
            16 | 17 => Self::Set(dice.seconds(1, 25 * 3600)),
            _ => Self::Set(dice.seconds(-90, 90)),
        }
    }
}

/// One job: what the program is told of it, and what the test knows.
struct Kind {
    job: ScheduledJob,
    every: TimeDelta,
    /// After a multiple of `every` since 1970.
    offset: TimeDelta,
    takes: TimeDelta,
}

impl Kind {
    fn draw(n: usize, dice: &mut Dice, stage: &Stage) -> Self {
        let (expression, every, offset) = dice.one_of(&[
            ("*/30 * * * *", 30, 0),
            ("17 * * * *", 60, 17),
            ("5 */6 * * *", 6 * 60, 5),
            ("30 2 * * *", 24 * 60, 150),
        ]);
        let takes = dice.one_of(&[0, 0, 90, 45 * 60, 2 * 3600, 5 * 3600]);
        let takes = TimeDelta::seconds(takes);
        let stage = stage.clone();
        let mut job = probe(move |stop| stage.clone().perform(n, takes, stop));
        job.name = format!("job-{n}");
        job.schedule = Some(Schedule::parse(expression, chrono_tz::UTC).unwrap());
        // Each of the nine pairs once.
        job.catch_up = [CatchUp::Once, CatchUp::Skip, CatchUp::All][n % 3];
        job.overlap = [Overlap::Skip, Overlap::QueueOne, Overlap::QueueAll][n / 3 % 3];
        job.catch_up_window = Duration::from_secs(60 * dice.below(12 * 60) as u64);
        job.jitter = Duration::from_secs(dice.one_of(&[0, 0, 20, 300]));
        job.timeout = Duration::from_secs(3600);
        Self { job, every: TimeDelta::minutes(every), offset: TimeDelta::minutes(offset), takes }
    }

    /// The occurrences that are later than a moment, counted from 1970 and not read from the schedule.
    fn after(&self, moment: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        let (every, offset) = (self.every.num_seconds(), self.offset.num_seconds());
        let first = (moment.timestamp() - offset).div_euclid(every) + 1;
        (first..).map(move |n| DateTime::from_timestamp(n * every + offset, 0).unwrap())
    }
}

/// Where the runs are under way: the time that really passed, and when each of them ends.
#[derive(Clone)]
struct Stage {
    passed: watch::Sender<TimeDelta>,
    acts: Arc<Mutex<Acts>>,
}

#[derive(Default)]
struct Acts {
    /// By job: when its run ends.
    ends: BTreeMap<usize, TimeDelta>,
    /// By job: how many runs have begun.
    n_begun: BTreeMap<usize, usize>,
    /// From now on runs take no time.
    hurry: bool,
}

impl Stage {
    fn new() -> Self {
        Self { passed: watch::Sender::new(TimeDelta::zero()), acts: Arc::default() }
    }

    /// What a job does: it takes its time, unless it is told to stop.
    async fn perform(
        self,
        job: usize,
        takes: TimeDelta,
        stop: CancellationToken,
    ) -> anyhow::Result<RunReport> {
        let mut ends = *self.passed.borrow();
        {
            let mut acts = self.acts.lock().unwrap();
            ends += if acts.hurry { TimeDelta::zero() } else { takes };
            *acts.n_begun.entry(job).or_default() += 1;
            assert_eq!(acts.ends.insert(job, ends), None, "job-{job} runs twice at a time");
        }
        let mut passed = self.passed.subscribe();
        let stopped = stop.run_until_cancelled(passed.wait_for(|passed| *passed >= ends)).await.is_none();
        self.acts.lock().unwrap().ends.remove(&job);
        let outcome = if stopped { RunOutcome::Partial } else { RunOutcome::Done };
        Ok(RunReport { outcome, ..done("performed") })
    }

    fn n_under_way(&self) -> usize {
        let passed = *self.passed.borrow();
        self.acts.lock().unwrap().ends.values().filter(|ends| **ends > passed).count()
    }
}

/// Why an occurrence did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    InTheWay,
    LateAndSkipped,
    MadeUpFor,
    TooOld,
    TooMany,
}

impl Why {
    fn of(reason: &str) -> Self {
        for (words, why) in [
            ("was still going", Self::InTheWay),
            ("catch_up = \"skip\"", Self::LateAndSkipped),
            ("a later occurrence makes up for it", Self::MadeUpFor),
            ("older than the catch-up window", Self::TooOld),
            ("too many to catch up", Self::TooMany),
        ] {
            if reason.contains(words) {
                return why;
            }
        }
        panic!("no reason is known that says {reason:?}")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Running,
    Done,
    Stopped,
    Skipped(Why),
}

/// What became of an occurrence, or of so many up to this one.
type Row = (Fate, u32);

/// A run as the ledger knows it.
#[derive(Debug, Clone, Copy)]
struct Known {
    scheduled_for: DateTime<Utc>,
    /// By the database's clock; runs that began at the same moment are told apart by the number.
    began: (DateTime<Utc>, usize),
    ended: Option<DateTime<Utc>>,
}

/// The ledger of one job as it should be.
struct Expected {
    since: DateTime<Utc>,
    rows: BTreeMap<DateTime<Utc>, Row>,
    running: Option<(Known, TimeDelta)>,
    /// In the order in which they ended, and how.
    ended: Vec<(Fate, Known)>,
    n_begun: usize,
}

const TICK: TimeDelta = TimeDelta::microseconds(1);

impl Expected {
    /// The run that was to end has ended.
    fn end(&mut self, fate: Fate, database: DateTime<Utc>) {
        let Some((known, _)) = self.running.take() else { return };
        self.rows.insert(known.scheduled_for, (fate, 1));
        self.ended.push((fate, Known { ended: Some(database + TICK * 2), ..known }));
    }

    /// The last occurrence that is in a row that begins before now, alone or with those before it.
    fn settled(&self, kind: &Kind, now: DateTime<Utc>) -> DateTime<Utc> {
        let has_begun =
            |(at, (_, n)): &(&DateTime<Utc>, &Row)| **at - kind.every * i32::try_from(*n - 1).unwrap() <= now;
        let last = self.rows.iter().rev().find(has_begun).map(|(at, _)| *at);
        last.map_or(self.since, |last| last.max(self.since))
    }

    /// When runs were going that ended later than a moment, the last to begin first.
    fn in_the_way(
        &self,
        overlap: Overlap,
        settled: DateTime<Utc>,
    ) -> Vec<(DateTime<Utc>, Option<DateTime<Utc>>)> {
        let running = self.running.map(|(known, _)| known);
        let span = |known: Known, slack: TimeDelta| (known.began.0 - slack, known.ended);
        if overlap == Overlap::QueueAll {
            // Any run; and what came due less than a minute before one began has waited for it, too.
            let ended = self.ended.iter().map(|(_, known)| *known);
            let mut runs: Vec<_> = ended.chain(running).collect();
            runs.retain(|known| known.ended.is_none_or(|ended| settled < ended));
            runs.sort_by_key(|known| std::cmp::Reverse(known.began));
            return runs.into_iter().map(|known| span(known, TimeDelta::minutes(1))).collect();
        }
        // The one that goes on; or else of the last that ended by itself and the last that was stopped, the one that began later by the
        // database's clock: the tally remembers the last of each.
        let last_of =
            |fate| self.ended.iter().rev().find(|(ended, _)| *ended == fate).map(|(_, known)| *known);
        let lasts = [Fate::Done, Fate::Stopped].into_iter().filter_map(last_of);
        let last = running.or_else(|| lasts.max_by_key(|known| known.began));
        last.map(|known| span(known, TimeDelta::zero())).into_iter().collect()
    }

    /// Somebody looks until nothing more happens at this moment. How many runs have begun.
    fn look(
        &mut self,
        kind: &Kind,
        now: DateTime<Utc>,
        database: DateTime<Utc>,
        passed: TimeDelta,
        hurry: bool,
    ) -> usize {
        let (job, policy) = (&kind.job, Policy::of(&kind.job));
        let window = TimeDelta::from_std(job.catch_up_window).unwrap();
        let before = self.n_begun;
        self.since = self.since.min(now);
        let settled = self.settled(kind, now);
        let begins = |at: DateTime<Utc>| if job.jitter.is_zero() { at } else { at + policy.delay(at) };
        let after = kind.after(settled);
        let mut due: Vec<_> = after.take_while(|at| begins(*at) <= now).collect();
        while let Some(latest) = due.last().copied() {
            let is_on_time = now - begins(latest) < TimeDelta::minutes(1);
            let in_the_way = self.in_the_way(job.overlap, self.settled(kind, now));
            // What was within the window when one run after the other began stays so until they have ended.
            let mut counts_from = now;
            if job.overlap == Overlap::QueueAll {
                let moment = TimeDelta::minutes(1);
                for (from, to) in &in_the_way {
                    if to.is_some_and(|to| to < counts_from - moment) {
                        break;
                    }
                    counts_from = counts_from.min(*from + moment);
                }
            }
            let skipped = |at: DateTime<Utc>| {
                let is_latest = at == latest;
                if in_the_way.iter().any(|(from, to)| *from <= at && to.is_none_or(|to| at < to)) {
                    let waits = match job.overlap {
                        Overlap::Skip => false,
                        Overlap::QueueOne => is_latest,
                        Overlap::QueueAll => true,
                    };
                    return (!waits).then_some(Why::InTheWay);
                }
                if is_latest && is_on_time {
                    return None;
                }
                match job.catch_up {
                    CatchUp::Skip => Some(Why::LateAndSkipped),
                    _ if at < counts_from - window => Some(Why::TooOld),
                    CatchUp::Once => (!is_latest).then_some(Why::MadeUpFor),
                    CatchUp::All => None,
                }
            };
            let mut verdicts: Vec<_> = due.iter().map(|at| (*at, skipped(*at))).collect();
            if verdicts.iter().filter(|(_, why)| why.is_none()).count() > 100 {
                for (_, why) in verdicts.iter_mut().filter(|(at, why)| why.is_none() && *at != latest) {
                    *why = Some(Why::TooMany);
                }
            }
            let skips: Vec<_> = verdicts.iter().map_while(|(at, why)| Some((*at, (*why)?))).collect();
            match skips.last() {
                Some((at, why)) if skips.len() > 100 => {
                    let n = u32::try_from(skips.len()).unwrap();
                    self.rows.insert(*at, (Fate::Skipped(*why), n));
                }
                _ => self.rows.extend(skips.iter().map(|(at, why)| (*at, (Fate::Skipped(*why), 1)))),
            }
            let Some((scheduled_for, _)) = verdicts.get(skips.len()).copied() else { break };
            if self.running.is_some() {
                break;
            }
            due.drain(..=skips.len());
            self.n_begun += 1;
            let began = (database + TICK, self.n_begun);
            let known = Known { scheduled_for, began, ended: None };
            let takes = if hurry { TimeDelta::zero() } else { kind.takes };
            self.rows.insert(scheduled_for, (Fate::Running, 1));
            self.running = Some((known, passed + takes));
            if takes == TimeDelta::zero() {
                self.end(Fate::Done, database);
            }
        }
        self.n_begun - before
    }
}

/// A database whose `now()` and `clock_timestamp()` say what it was told, and a little more each time.
async fn told_the_time(db: &TestDb) -> PgPool {
    let sql = "create schema told;
        create table told.clock (shows timestamptz not null);
        insert into told.clock values ('2026-06-01');
        create sequence told.tick;
        create function told.clock_timestamp() returns timestamptz language sql volatile
            as $f$ select shows + nextval('told.tick') * interval '1 microsecond' from told.clock $f$;
        create function told.now() returns timestamptz language sql volatile
            as $f$ select shows + (select last_value from told.tick) * interval '1 microsecond' from told.clock $f$;
        do $f$ begin
            execute format('alter database %I set search_path = told, public, pg_catalog', current_database());
        end $f$";
    sqlx::raw_sql(sql).execute(&db.pool).await.unwrap();
    db::pool(db.options(), 20)
}

/// A row as the database tells it: job, occurrence, state, how many occurrences it stands for, reason, attempt.
type Told = (String, DateTime<Utc>, String, i32, Option<String>, i32);

struct World {
    seed: usize,
    pool: PgPool,
    context: Context,
    kinds: Vec<Kind>,
    expected: Vec<Expected>,
    stage: Stage,
    stop: CancellationToken,
    agenda: Agenda,
    /// The clock that nobody sets, when it all began.
    began: Instant,
    wall: DateTime<Utc>,
    database: DateTime<Utc>,
    /// Whether the database is on another machine, whose clock is right.
    is_elsewhere: bool,
    latest: DateTime<Utc>,
    log: String,
}

impl World {
    async fn new(seed: usize, db: &TestDb) -> (Self, Dice) {
        let mut dice = Dice(seed * 1_000_000);
        let stage = Stage::new();
        let kinds: Vec<_> = (0..9).map(|n| Kind::draw(n, &mut dice, &stage)).collect();
        let pool = told_the_time(db).await;
        let wall = at(BEGINS);
        let jobs = kinds.iter().map(|kind| kind.job.clone()).collect();
        let context = Context { clock: Clock::Fixed(wall), ..context(&pool, jobs).await };
        let stop = CancellationToken::new();
        let agenda = Agenda::new(context.clone(), stop.clone()).await.unwrap();
        let new =
            |_| Expected { since: wall, rows: BTreeMap::new(), running: None, ended: Vec::new(), n_begun: 0 };
        let expected = kinds.iter().map(new).collect();
        let is_elsewhere = seed % 2 == 1;
        let (began, database, latest, log) = (Instant::now(), wall, wall, String::new());
        let world = Self {
            seed,
            pool,
            context,
            kinds,
            expected,
            stage,
            stop,
            agenda,
            began,
            wall,
            database,
            is_elsewhere,
            latest,
            log,
        };
        (world, dice)
    }

    fn passed(&self) -> TimeDelta {
        *self.stage.passed.borrow()
    }

    /// The clocks move on, and whatever has ended by now is settled.
    async fn pass(&mut self, time: TimeDelta) {
        self.wall += time;
        self.database += time;
        self.tell_database().await;
        self.stage.passed.send_modify(|passed| *passed += time);
        self.quiet().await;
        let (passed, database) = (self.passed(), self.database);
        for expected in &mut self.expected {
            if expected.running.is_some_and(|(_, ends)| ends <= passed) {
                expected.end(Fate::Done, database);
            }
        }
    }

    async fn tell_database(&self) {
        let sql = "update told.clock set shows = $1";
        sqlx::query(sql).bind(self.database).execute(&self.pool).await.unwrap();
    }

    /// Waits until every run that was started either has its place in the ledger or waits for time to pass.
    async fn quiet(&self) {
        let begun = Instant::now();
        while self.agenda.n_running() != self.stage.n_under_way() {
            assert!(begun.elapsed() < Duration::from_secs(60), "a run does not end{}", self.story());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn look(&mut self) {
        let (wall, database, passed) = (self.wall, self.database, self.passed());
        let hurry = self.stage.acts.lock().unwrap().hurry;
        let looks = self.kinds.iter().zip(&mut self.expected);
        let n = looks.map(|(kind, expected)| expected.look(kind, wall, database, passed, hurry)).max();
        self.latest = self.latest.max(wall);
        let instant = self.began + passed.to_std().unwrap();
        for _ in 0..=n.unwrap_or_default() {
            self.agenda.look_when(instant, wall).await;
            self.quiet().await;
        }
    }

    async fn happen(&mut self, event: Event) {
        writeln!(self.log, "{} {event:?}", self.wall).unwrap();
        match event {
            Event::Pass { time, every } => {
                let mut left = time;
                while left > TimeDelta::zero() {
                    self.pass(every).await;
                    self.look().await;
                    left -= every;
                }
            }
            Event::Down(time) => {
                self.stop.cancel();
                self.agenda.drain().await;
                let database = self.database;
                self.expected.iter_mut().for_each(|expected| expected.end(Fate::Stopped, database));
                self.pass(time).await;
                self.stop = CancellationToken::new();
                let context = Context { clock: Clock::Fixed(self.wall), ..self.context.clone() };
                self.agenda = Agenda::new(context, self.stop.clone()).await.unwrap();
            }
            Event::Sleep(time) => {
                self.wall += time;
                self.database += time;
            }
            Event::Set(by) => {
                self.wall += by;
                if !self.is_elsewhere {
                    self.database += by;
                }
            }
        }
        self.tell_database().await;
        self.look().await;
        self.compare().await;
    }

    fn story(&self) -> String {
        let kinds = self.kinds.iter().map(|kind| {
            let ScheduledJob { name, schedule, catch_up, overlap, jitter, catch_up_window, .. } = &kind.job;
            let schedule = schedule.as_ref().unwrap().expression();
            format!(
                "{name}: {schedule}, {catch_up:?} within {catch_up_window:?}, {overlap:?}, jitter {jitter:?}, takes {}\n",
                kind.takes
            )
        });
        let place = if self.is_elsewhere { "on another machine" } else { "on the same machine" };
        format!(
            "; seed {} (AFTERWORD_SEED), the database {place}\n{}{}",
            self.seed,
            kinds.collect::<String>(),
            self.log
        )
    }

    /// The ledger says what is expected, of every job and occurrence.
    async fn compare(&self) {
        let rows: Vec<Told> = sqlx::query_as(
            "select job, scheduled_for, state::text, n_occurrences, reason, attempt from job_run order by 1, 2",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        for (kind, expected) in self.kinds.iter().zip(&self.expected) {
            let of_job = rows.iter().filter(|(job, ..)| *job == kind.job.name);
            let seen: BTreeMap<DateTime<Utc>, Row> = of_job
                .map(|(job, at, state, n, reason, attempt)| {
                    assert_eq!(*attempt, 1, "{job} {at} was begun twice{}", self.story());
                    let fate = match state.as_str() {
                        "running" => Fate::Running,
                        "done" => Fate::Done,
                        "partial" => Fate::Stopped,
                        "skipped" => Fate::Skipped(Why::of(reason.as_deref().unwrap_or_default())),
                        other => panic!("{job} {at} is {other}{}", self.story()),
                    };
                    (*at, (fate, u32::try_from(*n).unwrap()))
                })
                .collect();
            let all = seen.keys().chain(expected.rows.keys());
            let first = all.filter(|at| seen.get(at) != expected.rows.get(at)).min();
            if let Some(at) = first {
                let (seen, expected) = (seen.get(at), expected.rows.get(at));
                panic!("{} {at}: {seen:?} and not {expected:?}{}", kind.job.name, self.story());
            }
            let n_begun = self.stage.acts.lock().unwrap().n_begun.clone();
            let n_begun: BTreeMap<_, _> =
                n_begun.into_iter().map(|(n, begun)| (format!("job-{n}"), begun)).collect();
            let begun = n_begun.get(&kind.job.name).copied().unwrap_or_default();
            assert_eq!(begun, expected.n_begun, "runs of {}{}", kind.job.name, self.story());
        }
    }

    /// Every occurrence is in exactly one row, by itself or with those before it.
    fn nothing_is_left_out(&self) {
        for (kind, expected) in self.kinds.iter().zip(&self.expected) {
            let name = &kind.job.name;
            let mut covered = Vec::new();
            for (at, (fate, n)) in &expected.rows {
                assert_ne!(*fate, Fate::Running, "{name} {at}{}", self.story());
                covered.extend((0..i32::try_from(*n).unwrap()).rev().map(|back| *at - kind.every * back));
            }
            let jitter = TimeDelta::from_std(kind.job.jitter).unwrap();
            let is_surely_due = |at: &DateTime<Utc>| *at + jitter <= self.latest;
            // A clock that was set back behind the beginning may jump over what would have come due before it.
            let due: Vec<_> = kind.after(at(BEGINS)).take_while(is_surely_due).collect();
            covered.retain(|covered| *covered > at(BEGINS) && is_surely_due(covered));
            assert_eq!(covered, due, "{name}: seen, and due{}", self.story());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_the_clocks_are_set_and_whoever_is_away_the_ledger_reads_as_the_policies_say() {
    let chosen = std::env::var_os("AFTERWORD_SEED").map(|seed| seed.into_string().unwrap().parse().unwrap());
    let n_seeds = if std::env::var_os("AFTERWORD_SOAK").is_some() { 100 } else { 2 };
    let seeds = chosen.map_or(0..n_seeds, |seed| seed..seed + 1);
    let (mut n_steps, mut fates) = (0, BTreeMap::<String, usize>::new());
    for seed in seeds {
        let db = TestDb::new().await;
        let (mut world, mut dice) = World::new(seed, &db).await;
        let minute = TimeDelta::minutes(1);
        world.happen(Event::Pass { time: minute * 10, every: minute }).await;
        for _ in 0..N_STEPS {
            world.happen(Event::draw(&mut dice)).await;
            n_steps += 1;
        }
        // Whatever waits for a run or for its delay is settled, in a time that was there before as well as in one that was not.
        world.stage.acts.lock().unwrap().hurry = true;
        for ahead in [TimeDelta::zero(), world.latest - world.wall] {
            world.happen(Event::Set(ahead)).await;
            world.happen(Event::Down(TimeDelta::zero())).await;
            world.happen(Event::Pass { time: minute * 10, every: minute }).await;
        }
        world.stop.cancel();
        world.agenda.drain().await;
        let database = world.database;
        world.expected.iter_mut().for_each(|expected| expected.end(Fate::Stopped, database));
        world.compare().await;
        world.nothing_is_left_out();
        for (fate, _) in world.expected.iter().flat_map(|expected| expected.rows.values()) {
            *fates.entry(format!("{fate:?}")).or_default() += 1;
        }
        world.pool.close().await;
    }
    say(&format!("{n_steps} steps of the clocks: {fates:?}"));
    if chosen.is_none() {
        for why in [Why::InTheWay, Why::LateAndSkipped, Why::MadeUpFor, Why::TooOld] {
            assert!(fates.contains_key(&format!("{:?}", Fate::Skipped(why))), "{why:?} never happened");
        }
    }
}

/// A schedule that was first seen by a clock that was years ahead is followed once the clock is right.
#[tokio::test]
async fn a_schedule_that_was_noted_in_the_future_is_followed_now() {
    let db = TestDb::new().await;
    let (mut job, _) = counting();
    job.schedule = Some(Schedule::parse("0 * * * *", chrono_tz::UTC).unwrap());
    let wrong = at("2036-03-01T08:30:00Z");
    let context = Context { clock: Clock::Fixed(wrong), ..context(&db.pool, vec![job]).await };
    let mut agenda = Agenda::new(context, CancellationToken::new()).await.unwrap();
    agenda.look(wrong).await;
    for now in
        ["2026-03-01T08:40:00Z", "2026-03-01T08:50:00Z", "2026-03-01T09:00:05Z", "2026-03-01T10:00:05Z"]
    {
        agenda.look(at(now)).await;
        agenda.drain().await;
    }
    let ran: Vec<DateTime<Utc>> =
        sqlx::query_scalar("select scheduled_for from job_run where state = 'done' order by 1")
            .fetch_all(&db.pool)
            .await
            .unwrap();
    assert_eq!(ran, [at("2026-03-01T09:00:00Z"), at("2026-03-01T10:00:00Z")]);
}

static STARTS_AT: Mutex<DateTime<Utc>> = Mutex::new(DateTime::UNIX_EPOCH);

/// A machine without a battery begins in 1970: nothing is noted or begun before its clock is set, and nothing after it was lost again.
#[tokio::test(flavor = "multi_thread")]
async fn no_job_begins_on_a_clock_that_was_never_set() {
    let db = TestDb::new().await;
    let (mut job, _) = counting();
    job.schedule = Some(Schedule::parse("* * * * *", chrono_tz::UTC).unwrap());
    let clock = Clock::Told(|| *STARTS_AT.lock().unwrap());
    let context = Context { clock, ..context(&db.pool, vec![job]).await };
    let n_rows =
        async |sql: &'static str| -> i64 { sqlx::query_scalar(sql).fetch_one(&db.pool).await.unwrap() };
    let (n_noted, n_ran) = ("select count(*) from job_schedule", "select count(*) from job_run");
    let stop = CancellationToken::new();
    let running = tokio::spawn(scheduler::run(context.clone(), stop.clone()));
    for wrong in ["1970-01-01T00:00:07Z", "2025-12-31T23:59:59Z"] {
        *STARTS_AT.lock().unwrap() = at(wrong);
        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert_eq!(n_rows(n_noted).await, 0, "{wrong}");
    }
    *STARTS_AT.lock().unwrap() = at("2026-03-01T09:00:30Z");
    let until = async |sql: &'static str| {
        let waited = async {
            while n_rows(sql).await == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waited).await.unwrap();
    };
    until(n_noted).await;
    *STARTS_AT.lock().unwrap() = at("2026-03-01T09:01:02Z");
    until(n_ran).await;
    stop.cancel();
    running.await.unwrap().unwrap();

    // Its clock is lost while it runs, and comes back: what is due is due by the right one.
    let mut agenda = Agenda::new(context, CancellationToken::new()).await.unwrap();
    for now in ["1970-01-01T00:00:07Z", "2026-03-01T09:02:05Z"] {
        agenda.look(at(now)).await;
        agenda.drain().await;
    }
    let since: DateTime<Utc> =
        sqlx::query_scalar("select since from job_schedule").fetch_one(&db.pool).await.unwrap();
    assert_eq!(since, at("2026-03-01T09:00:30Z"));
    assert_eq!(n_rows(n_ran).await, 2);
}
