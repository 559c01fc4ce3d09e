//! Every change of the clocks from 2024 to 2037, against a second implementation that walks minute by minute.

use std::collections::HashSet;

use chrono::{DateTime, Datelike as _, NaiveDateTime, TimeDelta, Timelike as _, Utc};
use chrono_tz::{Africa, America, Australia, Europe, Tz, UTC};

use super::Schedule;

const ZONES: [Tz; 8] = [
    Europe::Paris,
    America::New_York,
    Australia::Lord_Howe,  // changes by half an hour
    Africa::Casablanca,    // changes around Ramadan
    America::Santiago,     // changes at midnight: a day without a 00:00
    America::Scoresbysund, // changed from 23:00 to 00:00: the gap ends on another day
    America::Sao_Paulo,    // no longer changes
    UTC,
];

const EXPRESSIONS: [&str; 32] = [
    "* * * * *",
    "*/5 * * * *",
    "7-59/13 * * * *",
    "0 * * * *",
    "59 * * * *",
    "*/30 1-3 * * *",
    "15,45 0-3,22-23 * * *",
    "0 */2 * * *",
    "30 1-23/3 * * *",
    "0 2,14 * * *",
    "30 0,2 * * *",
    "10-20 2 * * *",
    "* 2 * * *",
    "0 0 * * *",
    "30 0 * * *",
    "59 0 * * *",
    "15 1 * * *",
    "0 2 * * *",
    "1 2 * * *",
    "15 2 * * *",
    "30 2 * * *",
    "45 2 * * *",
    "0 3 * * *",
    "0 9 * * *",
    "30 23 * * *",
    "59 23 * * *",
    "30 2 * * SUN",
    "0 2 * * 1-5",
    "0 * * * 0,6",
    "30 2 1-7 mar,apr,oct,nov *",
    "0 0 1 * SUN",
    "*/15 2 25-31 3,10 *",
];

/// Some of the numbers from 0 to 59.
struct Allowed(u64);

impl Allowed {
    fn has(&self, number: u32) -> bool {
        self.0 >> number & 1 == 1
    }
}

/// What a field allows, as crontab(5) describes it: numbers and names, ranges, lists, steps.
fn field(text: &str, low: u32, high: u32) -> Allowed {
    let number = |word: &str| {
        let names = match high {
            12 => "jan feb mar apr may jun jul aug sep oct nov dec",
            _ => "sun mon tue wed thu fri sat",
        };
        let named = names.split(' ').position(|name| name.eq_ignore_ascii_case(word));
        named.map_or_else(|| word.parse().unwrap(), |n| u32::try_from(n).unwrap() + low)
    };
    let mut allowed = Allowed(0);
    for part in text.split(',') {
        let (range, step) =
            part.split_once('/').map_or((part, 1), |(range, step)| (range, step.parse().unwrap()));
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (low, high),
            Some((from, to)) => (number(from), number(to)),
            None => (number(range), number(range)),
        };
        (from..=to).step_by(step).for_each(|number| allowed.0 |= 1 << number);
    }
    allowed
}

/// The second implementation's idea of a line of a crontab.
struct Line {
    minute: Allowed,
    hour: Allowed,
    day: Allowed,
    month: Allowed,
    weekday: Allowed,
    /// Both fields of the day are restricted: one of them is enough.
    either: bool,
    /// One fixed time of the day.
    is_fixed: bool,
    /// On every day.
    is_daily: bool,
}

impl Line {
    fn read(expression: &str) -> Self {
        let fields: Vec<&str> = expression.split(' ').collect();
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let is_fixed = is_number(fields[0]) && is_number(fields[1]);
        Self {
            minute: field(fields[0], 0, 59),
            hour: field(fields[1], 0, 23),
            day: field(fields[2], 1, 31),
            month: field(fields[3], 1, 12),
            weekday: field(fields[4], 0, 6),
            either: fields[2] != "*" && fields[4] != "*",
            is_fixed,
            is_daily: is_fixed && fields[2..] == ["*"; 3],
        }
    }

    fn matches(&self, wall: NaiveDateTime) -> bool {
        // The cheap ones first: this is asked some ten million times.
        if !self.minute.has(wall.minute()) || !self.hour.has(wall.hour()) || !self.month.has(wall.month()) {
            return false;
        }
        let by_day = self.day.has(wall.day());
        let by_weekday = self.weekday.has(wall.weekday().num_days_from_sunday());
        if self.either { by_day || by_weekday } else { by_day && by_weekday }
    }

    /// What the words of [`Schedule`] promise. The walls are what the zone's clock shows at each minute of real time.
    fn occurrences(&self, walls: &[(DateTime<Utc>, NaiveDateTime)]) -> Vec<DateTime<Utc>> {
        let mut seen = Vec::new();
        let mut latest_wall = walls[0].1;
        for (at, wall) in &walls[1..] {
            let is_repeated = *wall <= latest_wall;
            let mut is_due = self.matches(*wall) && !(self.is_fixed && is_repeated);
            if self.is_fixed {
                let mut left_out = latest_wall + TimeDelta::minutes(1);
                while left_out < *wall {
                    is_due |= self.matches(left_out);
                    left_out += TimeDelta::minutes(1);
                }
            }
            if is_due {
                seen.push(*at);
            }
            latest_wall = latest_wall.max(*wall);
        }
        seen
    }
}

#[test]
fn a_second_implementation_agrees_around_every_change_of_the_clocks() {
    let lines = EXPRESSIONS.map(|expression| (expression, Line::read(expression)));
    let mut n_changes = 0;
    for zone in ZONES {
        let schedules = EXPRESSIONS.map(|expression| Schedule::parse(expression, zone).unwrap());
        let offset = |at: DateTime<Utc>| at.with_timezone(&zone).naive_local() - at.naive_utc();
        let mut day: DateTime<Utc> = "2024-01-01T12:00:00Z".parse().unwrap();
        while day.year() < 2038 {
            let has_changed = offset(day) != offset(day + TimeDelta::days(1));
            let is_control = (day.year() % 6, day.month(), day.day()) == (2, 6, 1);
            if has_changed || is_control {
                n_changes += usize::from(has_changed);
                let (from, to) = (day - TimeDelta::hours(12), day + TimeDelta::hours(36));
                let walls: Vec<_> = (0..=(to - from).num_minutes())
                    .map(|minute| from + TimeDelta::minutes(minute))
                    .map(|at| (at, at.with_timezone(&zone).naive_local()))
                    .collect();
                for ((expression, line), schedule) in lines.iter().zip(&schedules) {
                    let seen: Vec<_> = schedule.after(from).take_while(|at| *at <= to).collect();
                    assert_eq!(seen, line.occurrences(&walls), "{expression} in {zone} around {day}");
                    // Scoresbysund's gap ended on the next day, which has two.
                    if line.is_daily && zone != America::Scoresbysund {
                        let days: Vec<_> =
                            seen.iter().map(|at| at.with_timezone(&zone).date_naive()).collect();
                        let once: HashSet<_> = days.iter().collect();
                        assert_eq!(once.len(), days.len(), "{expression} in {zone}: twice a day, {days:?}");
                        assert_eq!(
                            (days[days.len() - 1] - days[0]).num_days() + 1,
                            i64::try_from(days.len()).unwrap(),
                            "{expression} in {zone} leaves a day out: {days:?}"
                        );
                    }
                }
            }
            day += TimeDelta::days(1);
        }
    }
    assert!(n_changes >= 140, "only {n_changes} changes of the clocks were looked at");
}
