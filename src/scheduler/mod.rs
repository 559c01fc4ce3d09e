//! When a job runs by itself.
//!
//! What comes in: the five crontab fields and the zone of every job, and the wall clock. What goes out: each occurrence once into the
//! ledger (`job_run`), as run or as skipped with its reason. Nothing is remembered here that matters: the ledger's unique key on job
//! and occurrence is the only election, between instances as well as across restarts and clock changes, so that dying half way costs
//! nothing but time: the run that was under way is begun again, by whoever finds that its lease has run out.
//!
//! This file holds [`Schedule`]; [`planner`] decides what is due, without a database; [`tick`] is the loop that asks it.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

pub mod planner;
pub mod tick;
#[cfg(test)]
mod clock_changes;
#[cfg(test)]
mod simulated;

pub use tick::run;

/// The names of the five fields, in their order, and what may stand in them.
const FIELDS: [(&str, &str); 5] = [
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of the month", "1-31"),
    ("month", "1-12 or JAN-DEC"),
    ("day of the week", "0-7 or SUN-SAT, 0 and 7 are Sunday"),
];

/// The short names for common schedules, as in crontab.
const NICKNAMES: [(&str, &str); 6] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// The five fields of a crontab line, in a zone.
///
/// Across a change of the clocks it does what crontab does. A job at one fixed time of the day runs once every day: where that time
/// does not exist, at the first moment that does; where it exists twice, at the first. A job that repeats within the day follows the
/// clock: it runs in both of two equal hours and in none of a missing one.
#[derive(Debug, Clone)]
pub struct Schedule {
    expression: String,
    timezone: Tz,
    cron: Cron,
}

/// Why a text is no schedule, in words for the person who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScheduleError(String);

impl Schedule {
    /// Reads the five fields of a crontab line (minute, hour, day of the month, month, day of the week), or one of `@yearly`,
    /// `@annually`, `@monthly`, `@weekly`, `@daily`, `@hourly`. As in crontab, a day matches when either of its two fields does, if both
    /// are restricted.
    ///
    /// # Errors
    /// Names the field that cannot be read; also when no day ever matches, such as 30 February.
    pub fn parse(expression: &str, timezone: Tz) -> Result<Self, ScheduleError> {
        let expression = expression.split_whitespace().collect::<Vec<_>>().join(" ");
        let written_out = match NICKNAMES.iter().find(|(name, _)| expression.eq_ignore_ascii_case(name)) {
            Some((_, fields)) => (*fields).to_owned(),
            None => expression.clone(),
        };
        let fields: Vec<&str> = written_out.split(' ').collect();
        let fields: [&str; 5] =
            fields.try_into().map_err(|fields: Vec<&str>| wrong_number(&expression, &fields))?;
        for (i, (name, allowed)) in FIELDS.iter().enumerate() {
            if let Err(why) = parse_alone(i, fields[i]) {
                return Err(ScheduleError(format!(
                    "the {name} {:?} cannot be read ({allowed}): {why}",
                    fields[i]
                )));
            }
        }
        let cron = parser().parse(&written_out).map_err(|error| ScheduleError(error.to_string()))?;
        let schedule = Self { expression, timezone, cron };
        // Any moment will do as a start: what has an occurrence at all has one in the years after it.
        if schedule.next_after(DateTime::UNIX_EPOCH).is_none() {
            return Err(ScheduleError(format!("no day ever matches {:?}", schedule.expression)));
        }
        Ok(schedule)
    }

    /// The first occurrence that is later than `moment`; `None` when there is none any more.
    pub fn next_after(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.cron
            .find_next_occurrence(&moment.with_timezone(&self.timezone), false)
            .ok()
            .map(|occurrence| occurrence.to_utc())
    }

    /// The occurrences that are later than `moment`, one after the other.
    pub fn after(&self, moment: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        std::iter::successors(self.next_after(moment), |at| self.next_after(*at))
    }

    /// The shortest time between two occurrences that follow each other, as far as a year or a thousand of them show it; `None` when
    /// there is only one.
    pub fn shortest_gap(&self) -> Option<TimeDelta> {
        let occurrences = || self.after(DateTime::UNIX_EPOCH).take(1000);
        let gaps = occurrences().zip(occurrences().skip(1)).map(|(one, next)| next - one);
        gaps.min()
    }

    /// As it was written, with single spaces.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The zone whose wall clock it follows.
    pub fn timezone(&self) -> Tz {
        self.timezone
    }
}

fn parser() -> CronParser {
    CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build()
}

/// Reads one field with stars in the others, so that a fault can be laid at its door.
fn parse_alone(position: usize, field: &str) -> Result<(), String> {
    let mut fields = ["*"; 5];
    fields[position] = field;
    let Err(error) = parser().parse(&fields.join(" ")) else { return Ok(()) };
    use croner::errors::CronError;
    Err(match error {
        CronError::IllegalCharacters(_) => "it contains a character that has no meaning here".to_owned(),
        CronError::ComponentError(why) => why.trim_end_matches('.').to_lowercase(),
        other => other.to_string().trim_end_matches('.').to_lowercase(),
    })
}

fn wrong_number(expression: &str, fields: &[&str]) -> ScheduleError {
    const ORDER: &str = "minute, hour, day of the month, month, day of the week";
    ScheduleError(match fields.len() {
        1 if expression.is_empty() => format!("the schedule is empty; it needs five fields: {ORDER}"),
        1 if expression.starts_with('@') => {
            let known: Vec<&str> = NICKNAMES.iter().map(|(name, _)| *name).collect();
            format!("{expression:?} is not one of {}", known.join(", "))
        }
        6 => format!(
            "{expression:?} has six fields; there are five here ({ORDER}), and the first is the minute: there are no seconds. Perhaps {:?}?",
            fields[1..].join(" ")
        ),
        n => format!(
            "{expression:?} has {n} {}; it needs five: {ORDER}",
            if n == 1 { "field" } else { "fields" }
        ),
    })
}

#[cfg(test)]
mod tests {
    use chrono_tz::{Europe, UTC};

    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    /// The first `n` occurrences after a local moment, as the zone's clock shows them.
    fn check(expression: &str, zone: Tz, after: &str, expected: &[&str]) {
        let schedule = Schedule::parse(expression, zone).unwrap();
        let mut at = utc(after);
        let mut seen = Vec::new();
        for _ in expected {
            at = schedule.next_after(at).unwrap();
            seen.push(at.with_timezone(&zone).format("%Y-%m-%d %H:%M %z").to_string());
        }
        assert_eq!(seen, expected, "{expression}");
    }

    #[test]
    fn across_the_spring_night() {
        // Berlin, 28 March 2027: 02:00 becomes 03:00.
        let (zone, eve) = (Europe::Berlin, "2027-03-27T12:00:00Z");
        check("30 2 * * *", zone, eve, &["2027-03-28 03:00 +0200", "2027-03-29 02:30 +0200"]);
        check("0 18 * * *", zone, eve, &["2027-03-27 18:00 +0100", "2027-03-28 18:00 +0200"]);
        check("0 2 * * *", zone, eve, &["2027-03-28 03:00 +0200", "2027-03-29 02:00 +0200"]);
        check(
            "0 * * * *",
            zone,
            "2027-03-28T00:30:00Z",
            &["2027-03-28 03:00 +0200", "2027-03-28 04:00 +0200"],
        );
        check(
            "*/30 1-3 * * *",
            zone,
            "2027-03-28T00:00:00Z",
            &["2027-03-28 01:30 +0100", "2027-03-28 03:00 +0200"],
        );
    }

    #[test]
    fn across_the_autumn_night() {
        // Berlin, 31 October 2027: 03:00 becomes 02:00.
        let (zone, eve) = (Europe::Berlin, "2027-10-30T12:00:00Z");
        check("30 2 * * *", zone, eve, &["2027-10-31 02:30 +0200", "2027-11-01 02:30 +0100"]);
        check("0 18 * * *", zone, eve, &["2027-10-30 18:00 +0200", "2027-10-31 18:00 +0100"]);
        check("0 3 * * *", zone, eve, &["2027-10-31 03:00 +0100", "2027-11-01 03:00 +0100"]);
        let hourly = ["2027-10-31 02:00 +0200", "2027-10-31 02:00 +0100", "2027-10-31 03:00 +0100"];
        check("0 * * * *", zone, "2027-10-30T23:30:00Z", &hourly);
        let half_hours = [
            "2027-10-31 02:00 +0200",
            "2027-10-31 02:30 +0200",
            "2027-10-31 02:00 +0100",
            "2027-10-31 02:30 +0100",
            "2027-10-31 03:00 +0100",
        ];
        check("*/30 1-3 * * *", zone, "2027-10-30T23:30:00Z", &half_hours);
    }

    #[test]
    fn short_names_and_words() {
        let zone = Europe::Paris;
        check("@daily", zone, "2027-01-01T12:00:00Z", &["2027-01-02 00:00 +0100"]);
        check("0 8 * * MON", zone, "2027-01-01T12:00:00Z", &["2027-01-04 08:00 +0100"]);
        check(" 0  6 1 jan-mar * ", zone, "2027-01-01T12:00:00Z", &["2027-02-01 06:00 +0100"]);
        assert_eq!(Schedule::parse(" 0  6 * * * ", zone).unwrap().expression(), "0 6 * * *");
    }

    #[test]
    fn says_what_is_wrong() {
        let why = |expression: &str| Schedule::parse(expression, UTC).unwrap_err().to_string();
        for (expression, words) in [
            ("", "empty"),
            ("0 0 9 * * *", "the first is the minute"),
            ("0 0 9 * * *", "\"0 9 * * *\""),
            ("0 9 * *", "4 fields"),
            ("0", "1 field;"),
            ("@nightly", "@daily"),
            ("60 * * * *", "the minute \"60\""),
            ("0 24 * * *", "the hour \"24\""),
            ("0 9 32 * *", "the day of the month \"32\""),
            ("0 9 * 13 *", "the month \"13\""),
            ("0 9 * * MOON", "the day of the week \"MOON\""),
            ("0 9 * * 8", "the day of the week \"8\""),
            ("a * * * *", "the minute \"a\""),
            ("0 9 30 2 *", "no day ever matches"),
        ] {
            assert!(why(expression).contains(words), "{expression:?}: {}", why(expression));
        }
    }
}
