//! The planner in a made-up world: clocks that are set, downtimes, runs that take long, programs that die. Whatever happens, each
//! occurrence is settled once, for a reason that is true.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::Schedule;
use super::planner::{Busy, Plan, Policy, plan};
use crate::config::{CatchUp, Overlap};

#[derive(Debug, Clone, PartialEq)]
enum Settled {
    Done,
    Skipped(String),
}

/// What happens next.
#[derive(Debug, Clone)]
enum Event {
    /// Time passes, with somebody there who looks every so many seconds.
    Pass { minutes: i64, every: i64 },
    /// Nobody is there.
    Down { minutes: i64 },
    /// The wall clock is set.
    Set { seconds: i64 },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1..300_i64, 20..600_i64).prop_map(|(minutes, every)| Event::Pass { minutes, every }),
        2 => (0..24 * 60_i64).prop_map(|minutes| Event::Down { minutes }),
        1 => (0..40 * 24 * 60_i64).prop_map(|minutes| Event::Down { minutes }),
        1 => (-25 * 3600..=25 * 3600_i64).prop_map(|seconds| Event::Set { seconds }),
        1 => (-90..=90_i64).prop_map(|seconds| Event::Set { seconds }),
    ]
}

/// The ledger, and the one run that is under way.
struct World {
    schedule: Schedule,
    since: DateTime<Utc>,
    rows: BTreeMap<DateTime<Utc>, Settled>,
    /// One row for many stands for those between.
    folded: Vec<(DateTime<Utc>, DateTime<Utc>)>,
    running: Option<Busy>,
    /// When the run that is under way will end.
    ends: DateTime<Utc>,
    ended: Option<Busy>,
    takes: TimeDelta,
    /// The latest moment at which anybody has looked.
    looked: DateTime<Utc>,
}

impl World {
    /// As the loop does: what is to be skipped is recorded, and what is to be run begins if nothing runs.
    fn look(&mut self, now: DateTime<Utc>, policy: Policy<'_>) -> Result<(), TestCaseError> {
        self.looked = self.looked.max(now);
        if let Some(busy) = self.running.take_if(|_| self.ends <= now) {
            self.ended = Some(Busy { until: Some(self.ends), ..busy });
        }
        let last = self.rows.range(..=now).next_back().map(|(at, _)| *at);
        let after = last.map_or(self.since, |last| last.max(self.since));
        let busy = self.running.or(self.ended);
        let planned = plan(&self.schedule, after, now, policy, busy.as_slice());
        self.judge(&planned, after, now, policy, busy)?;
        if planned.skip.len() == 1
            && let Some(skip) = planned.skip.iter().find(|skip| skip.reason.contains("one row for"))
        {
            self.folded.push((after, skip.scheduled_for));
        }
        for skip in planned.skip {
            prop_assert_eq!(self.rows.insert(skip.scheduled_for, Settled::Skipped(skip.reason)), None);
        }
        if let Some(at) = planned.run.filter(|_| self.running.is_none()) {
            prop_assert_eq!(self.rows.insert(at, Settled::Done), None, "twice");
            self.running = Some(Busy { since: now, until: None });
            self.ends = now + self.takes;
        }
        Ok(())
    }

    /// Whether a plan keeps to the policy, told without the planner's own words for it.
    fn judge(
        &self,
        planned: &Plan,
        after: DateTime<Utc>,
        now: DateTime<Utc>,
        policy: Policy<'_>,
        busy: Option<Busy>,
    ) -> Result<(), TestCaseError> {
        let in_the_way = |at: DateTime<Utc>| {
            busy.is_some_and(|busy| busy.since <= at && busy.until.is_none_or(|until| at < until))
        };
        let age = |at: DateTime<Utc>| now - at - policy.delay(at);
        let of_plan = planned.skip.iter().map(|skip| skip.scheduled_for).chain(planned.run);
        let mut before = after;
        for at in of_plan {
            prop_assert!(at > before, "not in order");
            prop_assert!(age(at) >= TimeDelta::zero(), "too early");
            before = at;
        }
        for skip in &planned.skip {
            let still_going = skip.reason.contains("still going");
            if !skip.reason.contains("one row for") && !skip.reason.contains("too many") {
                prop_assert_eq!(still_going, in_the_way(skip.scheduled_for), "{}", &skip.reason);
            }
            prop_assert!(!(still_going && policy.overlap == Overlap::QueueAll));
        }
        if let Some(at) = planned.run {
            prop_assert!(!(in_the_way(at) && policy.overlap == Overlap::Skip), "overlaps");
            let is_late = age(at) >= TimeDelta::seconds(60) && !in_the_way(at);
            let is_old = now - at > TimeDelta::from_std(policy.window).unwrap();
            prop_assert!(!(is_late && policy.catch_up == CatchUp::Skip), "late and not skipped");
            prop_assert!(!(is_late && is_old), "older than the window");
        }
        if let Some(next) = planned.next {
            prop_assert!(next > now, "something is due and not planned");
        }
        Ok(())
    }
}

/// The moments at which somebody looks.
fn looks(events: &[Event], start: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let mut now = start;
    let mut looks = vec![now];
    for event in events {
        match *event {
            Event::Pass { minutes, every } => {
                let end = now + TimeDelta::minutes(minutes);
                while now < end {
                    now += TimeDelta::seconds(every);
                    looks.push(now);
                }
            }
            Event::Down { minutes } => now += TimeDelta::minutes(minutes),
            Event::Set { seconds } => now += TimeDelta::seconds(seconds),
        }
        looks.push(now);
    }
    looks
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn whatever_the_clocks_and_the_programs_do_each_occurrence_is_settled_once(
        expression in prop::sample::select(vec!["*/10 * * * *", "0 * * * *", "30 2 * * *", "*/30 1-3 * * 1-5"]),
        catch_up in prop::sample::select(vec![CatchUp::Once, CatchUp::Skip, CatchUp::All]),
        overlap in prop::sample::select(vec![Overlap::Skip, Overlap::QueueOne, Overlap::QueueAll]),
        window_hours in 0..100_u64,
        jitter in 0..300_u64,
        takes in 0..200_i64,
        events in prop::collection::vec(event(), 1..12),
    ) {
        let start: DateTime<Utc> = "2026-10-20T12:00:00Z".parse().unwrap();
        let policy = Policy {
            job: "probe",
            catch_up,
            window: Duration::from_secs(window_hours * 3600),
            overlap,
            jitter: Duration::from_secs(jitter),
        };
        let mut world = World {
            schedule: Schedule::parse(expression, chrono_tz::Europe::Berlin).unwrap(),
            since: start,
            rows: BTreeMap::new(),
            folded: Vec::new(),
            running: None,
            ends: start,
            ended: None,
            takes: TimeDelta::minutes(takes),
            looked: start,
        };
        for now in looks(&events, start) {
            world.look(now, policy)?;
        }
        // From now on runs take no time, so that whatever waits for one, or for the end of its delay, is settled; then nothing is left out.
        let last = world.looked;
        (world.takes, world.ends) = (TimeDelta::zero(), last);
        for second in 0..150 {
            world.look(last + TimeDelta::minutes(6) + TimeDelta::seconds(second), policy)?;
        }
        for at in world.schedule.after(start).take_while(|at| *at <= last) {
            let is_settled = world.rows.contains_key(&at)
                || world.folded.iter().any(|(after, to)| *after < at && at <= *to);
            prop_assert!(is_settled, "{at} is in no row");
        }
        if catch_up == CatchUp::All && overlap == Overlap::QueueAll && world.folded.is_empty() {
            for (at, settled) in &world.rows {
                let Settled::Skipped(reason) = settled else { continue };
                prop_assert!(reason.contains("window") || reason.contains("too many"), "{at}: {reason}");
            }
        }
    }

    #[test]
    fn a_delay_is_the_same_wherever_it_is_asked_for_and_never_more_than_it_may_be(
        minutes in 0..1_000_000_i64,
        jitter in 0..3600_u64,
    ) {
        let at = DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes);
        let policy = |job| Policy {
            job,
            catch_up: CatchUp::Once,
            window: Duration::ZERO,
            overlap: Overlap::Skip,
            jitter: Duration::from_secs(jitter),
        };
        let delay = policy("one").delay(at);
        prop_assert_eq!(delay, policy("one").delay(at));
        prop_assert!(TimeDelta::zero() <= delay && delay <= TimeDelta::seconds(i64::try_from(jitter).unwrap()));
    }
}

/// Two minutes of delay are used evenly, and each job has delays of its own: a repeatable draw that always said 0 would pass the test
/// above.
#[test]
fn delays_are_spread() {
    let of = |job| Policy {
        job,
        catch_up: CatchUp::Once,
        window: Duration::ZERO,
        overlap: Overlap::Skip,
        jitter: Duration::from_secs(119),
    };
    let hours = (0..12_000).map(|hour| DateTime::UNIX_EPOCH + TimeDelta::hours(hour));
    let mut counts = [0_u32; 12];
    let mut n_equal = 0;
    for at in hours {
        let delay = of("one").delay(at).num_seconds();
        counts[usize::try_from(delay / 10).unwrap()] += 1;
        n_equal += u32::from(delay == of("two").delay(at).num_seconds());
    }
    // 1000 are expected in each tenth of two minutes, with a standard deviation of 30; 100 of the pairs are equal by chance, 10.
    assert!(counts.iter().all(|n| n.abs_diff(1000) < 150), "{counts:?}");
    assert!(n_equal < 150, "{n_equal}");
    // int.from_bytes(sha256(b"one\0" + bytes(8)).digest()[:8]) % 120 in Python: instances of different versions draw the same.
    assert_eq!(of("one").delay(DateTime::UNIX_EPOCH).num_seconds(), 6);
}
