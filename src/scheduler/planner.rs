//! What is due, and what was missed.
//!
//! Pure: the schedule, the last occurrence that the ledger knows, the moment and the policy come in; which occurrence runs and which
//! are recorded as skipped goes out. At most one occurrence runs per plan; where several are to run, the others stay due and are found
//! again when it has ended, so that a crash between two of them loses none.
//!
//! An occurrence that came due while the run before it was going was *in its way*, and the overlap says what becomes of it; any other
//! that is late was *missed*, and the catch-up says it.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest as _, Sha256};

use super::Schedule;
use crate::config::{CatchUp, Overlap, ScheduledJob};

/// Later than this, an occurrence counts as missed and the policy decides. Shorter than the shortest distance between two
/// occurrences, so that at most one is on time.
const ON_TIME: TimeDelta = TimeDelta::seconds(60);

/// More missed occurrences than this are recorded in one row that says how many, and even [`CatchUp::All`] runs only the latest.
const MOST_ROWS: usize = 100;

/// Nobody asks for what was missed longer ago. A clock that stood in another decade costs no more than this.
const FURTHEST_BACK: TimeDelta = TimeDelta::days(400);

/// How a job is planned.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// The job's name, from which its delays are drawn.
    pub job: &'a str,
    pub catch_up: CatchUp,
    /// How far back missed occurrences are caught up.
    pub window: Duration,
    pub overlap: Overlap,
    /// Each occurrence begins so much later at most.
    pub jitter: Duration,
}

impl<'a> Policy<'a> {
    /// That of a job of jobs.toml.
    pub fn of(job: &'a ScheduledJob) -> Self {
        let ScheduledJob { name, catch_up, catch_up_window, overlap, jitter, .. } = job;
        Self { job: name, catch_up: *catch_up, window: *catch_up_window, overlap: *overlap, jitter: *jitter }
    }

    /// How much later than its schedule says an occurrence begins: drawn evenly from 0 to `jitter`, in whole seconds, and the same
    /// wherever and whenever it is asked for.
    pub fn delay(&self, occurrence: DateTime<Utc>) -> TimeDelta {
        let drawn = Sha256::new()
            .chain_update(self.job.as_bytes())
            .chain_update([0])
            .chain_update(occurrence.timestamp().to_be_bytes())
            .finalize();
        let drawn = drawn.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        TimeDelta::seconds(i64::try_from(drawn % (self.jitter.as_secs() + 1)).unwrap_or_default())
    }
}

/// A run of the job that may have been in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy {
    pub since: DateTime<Utc>,
    /// `None`: it is still going.
    pub until: Option<DateTime<Utc>>,
}

impl Busy {
    fn was_in_the_way_of(self, occurrence: DateTime<Utc>) -> bool {
        self.since <= occurrence && self.until.is_none_or(|until| occurrence < until)
    }
}

/// What to do about a job now. Skips come before the run, and both are in the order of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be recorded as skipped.
    pub skip: Vec<Skip>,
    /// To be run.
    pub run: Option<DateTime<Utc>>,
    /// When something comes due that is not due yet.
    pub next: Option<DateTime<Utc>>,
}

/// An occurrence that does not run, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    pub scheduled_for: DateTime<Utc>,
    pub reason: String,
    /// How many it stands for: itself, and those before it that get no row of their own.
    pub n_occurrences: u32,
    /// The first of these, where there are several: a clock that is set back among them finds them settled.
    pub first: Option<DateTime<Utc>>,
}

const MISSED_AND_SKIPPED: &str = "missed: nothing was running then, and catch_up = \"skip\"";
const MISSED_AND_MADE_UP_FOR: &str =
    "missed: nothing was running then, and a later occurrence makes up for it";
const TOO_OLD: &str = "missed: nothing was running then, and it is older than the catch-up window";
const TOO_MANY: &str = "too many to catch up one by one; the latest makes up for them";

/// Plans a job. `after` is the last occurrence that is settled, or when the schedule was first seen; `busy` are the runs that may have
/// been in the way: the one that goes on, or those that came to their end.
pub fn plan(
    schedule: &Schedule,
    after: DateTime<Utc>,
    now: DateTime<Utc>,
    policy: Policy<'_>,
    busy: &[Busy],
) -> Plan {
    let horizon = now.checked_sub_signed(FURTHEST_BACK).filter(|horizon| after < *horizon);
    let (after, at_least) = horizon.map_or((after, ""), |horizon| (horizon, "at least "));
    let mut due = Vec::new();
    let mut next = None;
    for at in schedule.after(after) {
        // In the order of the schedule, whatever the delays: an occurrence behind one that was settled is never looked at again.
        let begins = at + policy.delay(at);
        if begins > now {
            next = Some(begins);
            break;
        }
        due.push(at);
    }
    let Some(&latest) = due.last() else { return Plan { next, ..Plan::default() } };
    let is_on_time = now - (latest + policy.delay(latest)) < ON_TIME;
    let horizon = TimeDelta::from_std(policy.window).ok().and_then(|window| now.checked_sub_signed(window));
    let is_within = |at: DateTime<Utc>| horizon.is_none_or(|horizon| at >= horizon);
    // What is on time and finds nobody in its way runs whatever the policy says.
    let runs = |at: DateTime<Utc>| match busy.iter().find(|busy| busy.was_in_the_way_of(at)) {
        Some(busy) => match policy.overlap {
            Overlap::QueueAll => Ok(()),
            Overlap::QueueOne if at == latest => Ok(()),
            Overlap::QueueOne => Err(format!("{}, and a later one waits for its end", busy.words())),
            Overlap::Skip => Err(busy.words()),
        },
        None if at == latest && is_on_time => Ok(()),
        None => match policy.catch_up {
            CatchUp::Skip => Err(MISSED_AND_SKIPPED.to_owned()),
            _ if !is_within(at) => Err(TOO_OLD.to_owned()),
            CatchUp::Once if at == latest => Ok(()),
            CatchUp::Once => Err(MISSED_AND_MADE_UP_FOR.to_owned()),
            CatchUp::All => Ok(()),
        },
    };
    let mut verdicts: Vec<_> = due.iter().map(|at| runs(*at)).collect();
    if verdicts.iter().filter(|verdict| verdict.is_ok()).count() > MOST_ROWS {
        for (verdict, at) in verdicts.iter_mut().zip(&due).filter(|(verdict, _)| verdict.is_ok()) {
            *verdict = if *at == latest { Ok(()) } else { Err(TOO_MANY.to_owned()) };
        }
    }
    // What is to be skipped behind the run is found again after it.
    let n_skipped = verdicts.iter().take_while(|verdict| verdict.is_err()).count();
    let skipped = due.iter().zip(verdicts).take(n_skipped);
    let mut skip: Vec<Skip> = skipped
        .map(|(at, verdict)| Skip {
            scheduled_for: *at,
            reason: verdict.err().unwrap_or_default(),
            n_occurrences: 1,
            first: None,
        })
        .collect();
    if skip.len() > MOST_ROWS {
        let n = skip.len();
        let first = due[0].with_timezone(&schedule.timezone()).format("%Y-%m-%d %H:%M %Z");
        skip.drain(..n - 1);
        if let [last] = skip.as_mut_slice() {
            last.n_occurrences = u32::try_from(n).unwrap_or(u32::MAX);
            last.first = Some(due[0]);
            last.reason.push_str(&format!(" (one row for {at_least}{n} occurrences, the first of {first})"));
        }
    }
    Plan { skip, run: due.get(n_skipped).copied(), next }
}

impl Busy {
    fn words(self) -> String {
        format!("the run that began at {} was still going", self.since.format("%Y-%m-%d %H:%M:%S UTC"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const POLICY: Policy<'_> = Policy {
        job: "hourly",
        catch_up: CatchUp::Once,
        window: DAY,
        overlap: Overlap::Skip,
        jitter: Duration::ZERO,
    };

    fn utc(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(&format!("{text}:00Z")).unwrap().to_utc()
    }

    /// Plans an hourly job of 1 March and shows the plan as the hours that are skipped and the hour that runs.
    fn check(
        catch_up: CatchUp,
        window: Duration,
        after: &str,
        now: &str,
        skip: &[&str],
        run: Option<&str>,
    ) -> Plan {
        let schedule = Schedule::parse("0 * * * *", chrono_tz::UTC).unwrap();
        let plan = plan(&schedule, utc(after), utc(now), Policy { catch_up, window, ..POLICY }, &[]);
        let skipped: Vec<_> = plan.skip.iter().map(|skip| skip.scheduled_for).collect();
        assert_eq!(skipped, skip.iter().map(|at| utc(at)).collect::<Vec<_>>(), "{catch_up:?} {now}");
        assert_eq!(plan.run, run.map(utc), "{catch_up:?} {now}");
        assert!(plan.skip.iter().all(|skip| !skip.reason.is_empty()));
        plan
    }

    #[test]
    fn what_is_on_time_runs_under_every_policy() {
        for catch_up in [CatchUp::Once, CatchUp::Skip, CatchUp::All] {
            check(catch_up, DAY, "2026-03-01T08:00", "2026-03-01T08:59", &[], None);
            check(catch_up, DAY, "2026-03-01T08:00", "2026-03-01T09:00", &[], Some("2026-03-01T09:00"));
            check(
                catch_up,
                Duration::ZERO,
                "2026-03-01T08:00",
                "2026-03-01T09:00",
                &[],
                Some("2026-03-01T09:00"),
            );
        }
    }

    #[test]
    fn once_runs_the_latest() {
        let (after, now) = ("2026-03-01T06:00", "2026-03-01T09:30");
        let skipped = ["2026-03-01T07:00", "2026-03-01T08:00"];
        check(CatchUp::Once, DAY, after, now, &skipped, Some("2026-03-01T09:00"));
        check(CatchUp::Once, DAY, "2026-03-01T08:00", now, &[], Some("2026-03-01T09:00"));
        let window = Duration::from_secs(600);
        let all = ["2026-03-01T07:00", "2026-03-01T08:00", "2026-03-01T09:00"];
        let plan = check(CatchUp::Once, window, after, now, &all, None);
        assert!(plan.skip[2].reason.contains("window"));
    }

    #[test]
    fn skip_runs_nothing_that_is_late() {
        let (after, late) = ("2026-03-01T06:00", "2026-03-01T08:30");
        check(CatchUp::Skip, DAY, after, late, &["2026-03-01T07:00", "2026-03-01T08:00"], None);
        let on_time = "2026-03-01T08:00";
        check(CatchUp::Skip, DAY, after, on_time, &["2026-03-01T07:00"], Some("2026-03-01T08:00"));
    }

    #[test]
    fn all_runs_the_earliest_first_and_nothing_outside_the_window() {
        let window = Duration::from_secs(2 * 3600);
        let (after, now) = ("2026-03-01T05:00", "2026-03-01T09:30");
        let skipped = ["2026-03-01T06:00", "2026-03-01T07:00"];
        check(CatchUp::All, window, after, now, &skipped, Some("2026-03-01T08:00"));
        check(CatchUp::All, window, "2026-03-01T08:00", now, &[], Some("2026-03-01T09:00"));
        check(CatchUp::All, window, "2026-03-01T09:00", now, &[], None);
    }

    #[test]
    fn a_long_absence_is_one_row_that_says_how_many() {
        let year = DAY * 366;
        for catch_up in [CatchUp::Once, CatchUp::All] {
            let (after, now) = ("2026-02-01T00:00", "2026-03-01T00:30");
            let plan = check(catch_up, year, after, now, &["2026-02-28T23:00"], Some("2026-03-01T00:00"));
            assert!(plan.skip[0].reason.contains("671 occurrences"), "{}", plan.skip[0].reason);
            assert_eq!(plan.skip[0].n_occurrences, 671);
            assert_eq!(plan.skip[0].first, Some(utc("2026-02-01T01:00")));
        }
        let plan =
            check(CatchUp::Skip, DAY, "2026-02-01T00:00", "2026-03-01T00:30", &["2026-03-01T00:00"], None);
        assert!(plan.skip[0].reason.contains("672 occurrences"), "{}", plan.skip[0].reason);
    }

    #[test]
    fn nothing_comes_before_the_schedule_was_seen_or_when_the_clock_goes_back() {
        check(CatchUp::All, DAY, "2026-03-01T09:10", "2026-03-01T09:30", &[], None);
        check(CatchUp::All, DAY, "2026-03-01T09:00", "2026-03-01T05:00", &[], None);
    }
}
