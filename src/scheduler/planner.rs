//! What is due, and what was missed.
//!
//! Pure: the schedule, the last occurrence that the ledger knows, the moment and the policy come in; which occurrence runs and which
//! are recorded as skipped goes out. At most one occurrence runs per plan; with [`CatchUp::All`] the others stay due and are found
//! again when it has ended, so that a crash between two of them loses none.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::Schedule;
use crate::config::CatchUp;

/// Later than this, an occurrence counts as missed and the policy decides. Shorter than the shortest distance between two
/// occurrences, so that at most one is on time.
const ON_TIME: TimeDelta = TimeDelta::seconds(60);

/// More missed occurrences than this are recorded in one row that says how many, and even [`CatchUp::All`] runs only the latest.
const MOST_ROWS: usize = 100;

/// What to do about a job now. Skips come before the run, and both are in the order of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be recorded as skipped.
    pub skip: Vec<Skip>,
    /// To be run.
    pub run: Option<DateTime<Utc>>,
}

/// An occurrence that does not run, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    pub scheduled_for: DateTime<Utc>,
    pub reason: String,
}

/// Plans a job. `after` is the last occurrence that is settled, or when the schedule was first seen; `window` is how far back missed
/// occurrences are caught up.
pub fn plan(
    schedule: &Schedule,
    after: DateTime<Utc>,
    now: DateTime<Utc>,
    catch_up: CatchUp,
    window: Duration,
) -> Plan {
    let due: Vec<DateTime<Utc>> = schedule.after(after).take_while(|at| *at <= now).collect();
    let Some(&latest) = due.last() else { return Plan::default() };
    let horizon = TimeDelta::from_std(window).ok().and_then(|window| now.checked_sub_signed(window));
    let is_on_time = now - latest < ON_TIME;
    let within = |at: DateTime<Utc>| horizon.is_none_or(|horizon| at >= horizon);

    let too_old = "missed: nothing was running then, and it is older than the catch-up window";
    // What is on time runs whatever the policy says; the policy is about the rest.
    let (runs, reason): (&[DateTime<Utc>], &str) = match catch_up {
        _ if is_on_time && due.len() == 1 => (&due, ""),
        CatchUp::Skip if is_on_time => {
            (&due[due.len() - 1..], "missed: nothing was running then, and catch_up = \"skip\"")
        }
        CatchUp::Skip => (&[], "missed: nothing was running then, and catch_up = \"skip\""),
        CatchUp::Once => (
            if is_on_time || within(latest) { &due[due.len() - 1..] } else { &[] },
            "missed: nothing was running then, and a later occurrence makes up for it",
        ),
        CatchUp::All => {
            let first = due.partition_point(|at| !within(*at)).min(due.len() - usize::from(is_on_time));
            if due.len() - first > MOST_ROWS {
                (
                    &due[due.len() - 1..],
                    "missed: too many to catch up one by one; the latest makes up for them",
                )
            } else {
                (&due[first..], too_old)
            }
        }
    };
    let skipped = &due[..due.len() - runs.len()];
    let reason_of = |at: DateTime<Utc>| if within(at) { reason } else { too_old };
    let skip = match skipped {
        [] => Vec::new(),
        [first, .., last] if skipped.len() > MOST_ROWS => vec![Skip {
            scheduled_for: *last,
            reason: format!(
                "{} (one row for {} occurrences, the first of {})",
                reason_of(*last),
                skipped.len(),
                first.with_timezone(&schedule.timezone()).format("%Y-%m-%d %H:%M %Z"),
            ),
        }],
        _ => {
            skipped.iter().map(|at| Skip { scheduled_for: *at, reason: reason_of(*at).to_owned() }).collect()
        }
    };
    Plan { skip, run: runs.first().copied() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

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
        let plan = plan(&schedule, utc(after), utc(now), catch_up, window);
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
