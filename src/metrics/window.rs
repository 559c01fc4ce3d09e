//! Which stretch of time a report is about.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;
use serde::{Serialize, Serializer};

/// What was asked for: from `from` up to but without `to`. Absent bounds leave that end open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// The first moment that belongs to the window.
    pub from: Option<Bound>,
    /// The first moment that does not belong to it any more.
    pub to: Option<Bound>,
}

/// One end of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The first moment of a day, in the zone of the shop.
    Date(NaiveDate),
    /// The same moment for every shop.
    Moment(DateTime<Utc>),
}

impl Bound {
    /// The moment it is in a zone.
    pub fn at(self, zone: Tz) -> DateTime<Utc> {
        match self {
            Self::Date(date) => first_moment(date, zone),
            Self::Moment(moment) => moment,
        }
    }
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self::Moment(moment.to_utc()));
        }
        text.parse().map(Self::Date).map_err(|_| {
            "expected a date such as 2026-03-29, or a moment such as 2026-03-29T09:00:00Z".to_owned()
        })
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Date(date) => date.fmt(f),
            Self::Moment(moment) => f.write_str(&rfc3339(*moment)),
        }
    }
}

impl Serialize for Bound {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A window as it is for one shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Included; `None`: since ever.
    pub from: Option<DateTime<Utc>>,
    /// Excluded; `None`: up to `as_of`.
    pub to: Option<DateTime<Utc>>,
    /// Nothing that happened later is known. Included.
    pub as_of: DateTime<Utc>,
}

/// The window ends before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the window is empty: {from} is not before {to}")]
pub struct EmptyWindow {
    from: Bound,
    to: Bound,
}

impl Window {
    /// Whether it holds anything in each of these zones.
    ///
    /// # Errors
    /// [`EmptyWindow`] in the first zone in which it does not.
    pub fn check(self, zones: impl IntoIterator<Item = Tz>, as_of: DateTime<Utc>) -> Result<(), EmptyWindow> {
        zones.into_iter().try_for_each(|zone| self.span(zone, as_of).map(|_| ()))
    }

    /// The window in a shop's zone.
    ///
    /// # Errors
    /// When it holds no moment.
    pub fn span(self, zone: Tz, as_of: DateTime<Utc>) -> Result<Span, EmptyWindow> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from.at(zone) >= to.at(zone)
        {
            return Err(EmptyWindow { from, to });
        }
        Ok(Span { from: self.from.map(|b| b.at(zone)), to: self.to.map(|b| b.at(zone)), as_of })
    }
}

/// The day of a zone that a moment belongs to: the last one whose first moment is not after it.
pub fn day_of(moment: DateTime<Utc>, zone: Tz) -> NaiveDate {
    let date = moment.with_timezone(&zone).date_naive();
    // Where the clocks go back over midnight (Newfoundland, until 2011), the evening comes a second time and belongs to the new day.
    match date.succ_opt() {
        Some(next) if first_moment(next, zone) <= moment => next,
        _ => date,
    }
}

/// The first moment of a day. Where the clocks go forward at midnight (São Paulo did until 2018), it is the end of the gap.
pub fn first_moment(date: NaiveDate, zone: Tz) -> DateTime<Utc> {
    let midnight = date.and_time(NaiveTime::MIN);
    (0..=24 * 4)
        .find_map(|quarters| {
            zone.from_local_datetime(&(midnight + TimeDelta::minutes(15 * quarters))).earliest()
        })
        // A day that a zone skips whole (Samoa, 2011-12-30) begins when the next one does.
        .map_or_else(|| midnight.and_utc(), |moment| moment.to_utc())
}

/// A moment for JSON and for people: RFC 3339 in UTC, to the second.
fn rfc3339(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bound: &str, zone: Tz, expected: &str) {
        let bound: Bound = bound.parse().unwrap();
        assert_eq!(rfc3339(bound.at(zone)), expected);
    }

    #[test]
    fn days_begin_in_the_zone_of_the_shop() {
        check("2026-03-29", Tz::Europe__Paris, "2026-03-28T23:00:00Z");
        check("2026-03-30", Tz::Europe__Paris, "2026-03-29T22:00:00Z");
        // Midnight did not exist: the clocks went from 23:59:59 to 01:00.
        check("2018-11-04", Tz::America__Sao_Paulo, "2018-11-04T03:00:00Z");
        // Midnight came twice: the first counts.
        check("2018-02-18", Tz::America__Sao_Paulo, "2018-02-18T03:00:00Z");
        check("2023-10-29", Tz::Atlantic__Azores, "2023-10-29T00:00:00Z");
        // The day did not exist.
        check("2011-12-30", Tz::Pacific__Apia, "2011-12-30T10:00:00Z");
        check("2026-03-29T09:00:00+02:00", Tz::UTC, "2026-03-29T07:00:00Z");
    }

    #[test]
    fn every_moment_belongs_to_the_day_that_has_begun() {
        let zones = [Tz::Europe__Paris, Tz::America__Sao_Paulo, Tz::America__St_Johns, Tz::Pacific__Apia];
        for (zone, around) in zones.into_iter().flat_map(|zone| {
            ["2010-11-07", "2011-12-30", "2018-02-18", "2018-11-04", "2026-03-29"].map(|day| (zone, day))
        }) {
            let noon = first_moment(around.parse().unwrap(), Tz::UTC);
            for quarter in -4 * 36..4 * 36 {
                let moment = noon + TimeDelta::minutes(15 * quarter + 3);
                let day = day_of(moment, zone);
                assert!(first_moment(day, zone) <= moment, "{moment} in {zone} is not {day}");
                let next = first_moment(day.succ_opt().unwrap(), zone);
                assert!(moment < next, "{moment} in {zone} is after {day}");
            }
        }
    }

    #[test]
    fn what_is_no_bound_is_refused() {
        for bad in ["", "yesterday", "29/03/2026", "2026-02-30", "2026-03-29 09:00"] {
            assert!(bad.parse::<Bound>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_window_that_holds_nothing_is_refused() {
        let window = |from: &str, to: &str| Window { from: from.parse().ok(), to: to.parse().ok() };
        let as_of = first_moment("2026-06-01".parse().unwrap(), Tz::UTC);
        assert!(window("2026-03-01", "2026-03-02").span(Tz::UTC, as_of).is_ok());
        let refused = window("2026-03-01", "2026-03-01").span(Tz::UTC, as_of).unwrap_err();
        assert_eq!(refused.to_string(), "the window is empty: 2026-03-01 is not before 2026-03-01");
        assert!(window("2026-03-02", "2026-03-01").span(Tz::UTC, as_of).is_err());
        // 23:30 UTC is tomorrow already in Paris.
        assert!(window("2026-03-01T23:30:00Z", "2026-03-02").span(Tz::Europe__Paris, as_of).is_err());
    }
}
