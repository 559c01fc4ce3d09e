//! The calendar: days, weeks, months, quarters and years of a shop's zone, and stretches of so many days that end on each day.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike as _, Days, Months, NaiveDate, Utc};
use chrono_tz::Tz;
use serde::{Serialize, Serializer};

use super::window::first_moment;

/// How a series is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    Day,
    /// ISO 8601: from Monday to Sunday, of the year that has its Thursday.
    Week,
    Month,
    Quarter,
    Year,
    /// So many days, ending on each day.
    Rolling(u16),
}

impl Period {
    /// Those of the calendar: each day belongs to one of each.
    pub const CALENDAR: [Self; 5] = [Self::Day, Self::Week, Self::Month, Self::Quarter, Self::Year];

    /// The one that a day belongs to; of the rolling ones, the one that ends with it.
    pub fn around(self, day: NaiveDate) -> Stretch {
        let (first_day, next) = match self {
            Self::Day => (day, day + Days::new(1)),
            Self::Week => {
                let monday = day - Days::new(u64::from(day.weekday().num_days_from_monday()));
                (monday, monday + Days::new(7))
            }
            Self::Month => months(day, day.month0(), 1),
            Self::Quarter => months(day, day.month0() / 3 * 3, 3),
            Self::Year => months(day, 0, 12),
            Self::Rolling(n) => (day - Days::new(u64::from(n.saturating_sub(1))), day + Days::new(1)),
        };
        Stretch { first_day, last_day: next - Days::new(1) }
    }

    /// All of them from the one of `first` to the one of `last`, in order.
    pub fn between(self, first: NaiveDate, last: NaiveDate) -> Vec<Stretch> {
        let mut day = match self {
            Self::Rolling(_) => first,
            _ => self.around(first).first_day,
        };
        let mut stretches = Vec::new();
        while day <= last {
            let stretch = self.around(day);
            day = stretch.last_day + Days::new(1);
            stretches.push(stretch);
        }
        stretches
    }

    /// What people call this stretch: `2026-03-29`, `2026-W13`, `2026-03`, `2026-Q1`, `2026`; the rolling ones by their last day.
    pub fn label(self, stretch: Stretch) -> String {
        let day = stretch.first_day;
        match self {
            Self::Day => day.to_string(),
            Self::Week => day.format("%G-W%V").to_string(),
            Self::Month => day.format("%Y-%m").to_string(),
            Self::Quarter => format!("{}-Q{}", day.format("%Y"), day.month0() / 3 + 1),
            Self::Year => day.format("%Y").to_string(),
            Self::Rolling(_) => stretch.last_day.to_string(),
        }
    }
}

fn months(day: NaiveDate, first: u32, n: u32) -> (NaiveDate, NaiveDate) {
    // The first of a month is in every month.
    let first = day.with_day(1).and_then(|day| day.with_month0(first)).unwrap_or(day);
    (first, first + Months::new(n))
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "day" => Ok(Self::Day),
            "week" => Ok(Self::Week),
            "month" => Ok(Self::Month),
            "quarter" => Ok(Self::Quarter),
            "year" => Ok(Self::Year),
            _ => text
                .strip_suffix('d')
                .and_then(|days| days.parse().ok())
                .filter(|days| (1..=3660).contains(days))
                .map(Self::Rolling)
                .ok_or_else(|| {
                    "expected day, week, month, quarter, year, or a number of days such as 28d".to_owned()
                }),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Day => f.write_str("day"),
            Self::Week => f.write_str("week"),
            Self::Month => f.write_str("month"),
            Self::Quarter => f.write_str("quarter"),
            Self::Year => f.write_str("year"),
            Self::Rolling(days) => write!(f, "{days}d"),
        }
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Some days in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stretch {
    pub first_day: NaiveDate,
    /// Included.
    pub last_day: NaiveDate,
}

impl Stretch {
    /// Its first moment, and the first one after it, in a zone.
    pub fn moments(self, zone: Tz) -> (DateTime<Utc>, DateTime<Utc>) {
        (first_moment(self.first_day, zone), first_moment(self.last_day + Days::new(1), zone))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[track_caller]
    fn check(period: &str, of: &str, label: &str, first_day: &str, last_day: &str) {
        let period: Period = period.parse().unwrap();
        let stretch = period.around(day(of));
        assert_eq!(stretch, Stretch { first_day: day(first_day), last_day: day(last_day) });
        assert_eq!(period.label(stretch), label);
    }

    #[test]
    fn the_calendar() {
        check("day", "2024-02-29", "2024-02-29", "2024-02-29", "2024-02-29");
        check("week", "2026-03-29", "2026-W13", "2026-03-23", "2026-03-29");
        // The first week of a year is the one with its Thursday.
        check("week", "2027-01-03", "2026-W53", "2026-12-28", "2027-01-03");
        check("week", "2024-12-30", "2025-W01", "2024-12-30", "2025-01-05");
        check("month", "2024-02-10", "2024-02", "2024-02-01", "2024-02-29");
        check("quarter", "2026-12-31", "2026-Q4", "2026-10-01", "2026-12-31");
        check("year", "2026-07-01", "2026", "2026-01-01", "2026-12-31");
        check("28d", "2026-03-01", "2026-03-01", "2026-02-02", "2026-03-01");
    }

    #[test]
    fn a_day_has_as_many_hours_as_its_zone_gives_it() {
        let hours = |date: &str, zone| {
            let (start, end) = Period::Day.around(day(date)).moments(zone);
            (end - start).num_hours()
        };
        assert_eq!(hours("2026-03-29", Tz::Europe__Paris), 23);
        assert_eq!(hours("2026-10-25", Tz::Europe__Paris), 25);
        // The clocks went forward at midnight, and back to the evening before.
        assert_eq!(hours("2018-11-04", Tz::America__Sao_Paulo), 23);
        assert_eq!(hours("2018-02-17", Tz::America__Sao_Paulo), 25);
    }

    #[test]
    fn what_is_no_period_is_refused() {
        for bad in ["", "d", "0d", "3661d", "-1d", "months", "Month"] {
            assert!(bad.parse::<Period>().is_err(), "{bad}");
        }
        for good in ["day", "week", "month", "quarter", "year", "28d"] {
            assert_eq!(good.parse::<Period>().unwrap().to_string(), good);
        }
    }

    proptest! {
        #[test]
        fn the_periods_of_the_calendar_lie_side_by_side(first in -5000_i64..30_000, length in 0_i64..800) {
            let first = NaiveDate::default() + chrono::TimeDelta::days(first);
            let last = first + chrono::TimeDelta::days(length);
            for period in Period::CALENDAR {
                let stretches = period.between(first, last);
                prop_assert!(stretches[0].first_day <= first && first <= stretches[0].last_day);
                let end = stretches[stretches.len() - 1];
                prop_assert!(end.first_day <= last && last <= end.last_day);
                for pair in stretches.windows(2) {
                    prop_assert_eq!(pair[0].last_day.succ_opt(), Some(pair[1].first_day));
                }
                for stretch in stretches {
                    prop_assert_eq!(period.around(stretch.last_day), stretch);
                }
            }
            prop_assert_eq!(Period::Rolling(7).between(first, last).len() as i64, length + 1);
        }
    }
}
