//! The times of a file. What is wrong with one is said as the end of a sentence that starts with the name of the column, and never
//! repeats the value.

use std::borrow::Cow;

use chrono::format::{Item, Parsed, StrftimeItems};
use chrono::{
    DateTime, Datelike as _, NaiveDate, NaiveDateTime, NaiveTime, Offset as _, TimeDelta, TimeZone as _,
    Timelike as _, Utc,
};
use chrono_tz::Tz;

type Result<T> = std::result::Result<T, Cow<'static, str>>;

/// How the times of a file are read.
#[derive(Debug)]
pub struct Times {
    zone: Tz,
    /// Of a declared format; `None`: recognised.
    items: Option<Vec<Item<'static>>>,
    /// Tried where a time is not recognised.
    usual: Vec<Vec<Item<'static>>>,
}

impl Times {
    /// `zone` is that of times without one; `date_format` is in chrono's notation.
    ///
    /// # Errors
    /// When the notation is wrong.
    pub fn new(zone: Tz, date_format: Option<&str>) -> Result<Self> {
        let items = date_format.map(items).transpose()?;
        Ok(Self { zone, items, usual: Vec::new() })
    }

    /// Also reads times in these notations, which the tool that writes such files is known for; not where one is declared.
    ///
    /// # Errors
    /// When a notation is wrong.
    pub fn with_usual(mut self, notations: &[String]) -> Result<Self> {
        self.usual = notations.iter().map(|notation| items(notation)).collect::<Result<_>>()?;
        Ok(self)
    }

    /// Reads a moment. Without a declared format these are recognised: RFC 3339, `YYYY-MM-DD HH:MM[:SS]` with a space or a `T`, with
    /// or without an offset, a date alone, which is its first moment, and dates with the month in English letters. Day-first dates are only read where the format declares
    /// them: nobody can tell 3 April from 4 March.
    ///
    /// A local time that the clocks jumped over in spring counts as if they had not jumped yet (02:30 becomes 03:30); one that
    /// happened twice in autumn is the earlier.
    ///
    /// # Errors
    /// When it is not a time, or not one of 1970 to 2999.
    pub fn parse(&self, text: &str) -> Result<DateTime<Utc>> {
        let moment = match &self.items {
            None => {
                let (local, offset) = recognised(text).or_else(|reason| {
                    self.usual.iter().find_map(|items| declared(text, items)).ok_or(reason)
                })?;
                self.moment(local, offset)
            }
            Some(items) => {
                let (local, offset) =
                    declared(text, items).ok_or("is not written in the declared date format")?;
                self.moment(local, offset)
            }
        };
        match moment {
            Some(moment) if (1970..3000).contains(&moment.year()) => Ok(moment),
            _ => Err("is not between 1970 and 2999".into()),
        }
    }

    fn moment(&self, local: NaiveDateTime, offset: Option<i32>) -> Option<DateTime<Utc>> {
        let seconds = match offset {
            Some(seconds) => seconds,
            None => self.offset_of(local)?,
        };
        Some(local.checked_sub_signed(TimeDelta::seconds(seconds.into()))?.and_utc())
    }

    fn offset_of(&self, local: NaiveDateTime) -> Option<i32> {
        // In a gap the offset is the one before it. Gaps are an hour or less, but Samoa once left out a whole day.
        [0, 3, 25].into_iter().find_map(|hours| {
            let earlier = local.checked_sub_signed(TimeDelta::hours(hours))?;
            Some(self.zone.offset_from_local_datetime(&earlier).earliest()?.fix().local_minus_utc())
        })
    }
}

fn items(notation: &str) -> Result<Vec<Item<'static>>> {
    StrftimeItems::new(notation)
        .parse_to_owned()
        .map_err(|_| "is no date format; expected one such as %d/%m/%Y %H:%M".into())
}

fn declared(text: &str, items: &[Item<'static>]) -> Option<(NaiveDateTime, Option<i32>)> {
    let mut parsed = Parsed::new();
    chrono::format::parse(&mut parsed, text, items.iter()).ok()?;
    let date = parsed.to_naive_date().ok()?;
    let time = if parsed.hour_mod_12().is_some() { parsed.to_naive_time().ok()? } else { NaiveTime::MIN };
    Some((date.and_time(time), parsed.offset()))
}

fn recognised(text: &str) -> Result<(NaiveDateTime, Option<i32>)> {
    const EXPECTED: &str =
        "is not a time such as 2026-05-01 10:00:00, 2026-05-01T10:00:00+02:00 or 2026-05-01";
    let mut rest = text.as_bytes();
    let year_first =
        matches!(rest, [a, b, c, d, b'-', ..] if [a, b, c, d].iter().all(|b| b.is_ascii_digit()));
    if !year_first {
        if let Some(local) = month_in_letters(text) {
            return Ok((local, None));
        }
        let numbers: Vec<&str> = text.split(['/', '.', '-', ' ']).take(3).collect();
        let number = |part: &str, longest| {
            (1..=longest).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())
        };
        if let [a, b, c] = numbers[..]
            && number(a, 2)
            && number(b, 2)
            && number(c, 4)
        {
            return Err(
                "has the day or the month first; state the date format, such as %d/%m/%Y %H:%M".into()
            );
        }
        return Err(EXPECTED.into());
    }
    let wrong = || Cow::from(EXPECTED);
    let year = digits(&mut rest, 4).ok_or_else(wrong)?;
    let month = after(&mut rest, b'-').and_then(|()| digits(&mut rest, 2)).ok_or_else(wrong)?;
    let day = after(&mut rest, b'-').and_then(|()| digits(&mut rest, 2)).ok_or_else(wrong)?;
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).unwrap_or(0), month, day)
        .ok_or("is not a day of the calendar")?;
    if rest.is_empty() {
        return Ok((date.and_time(NaiveTime::MIN), None));
    }
    if !matches!(rest[0], b'T' | b't' | b' ') {
        return Err(wrong());
    }
    rest = &rest[1..];
    let hour = digits(&mut rest, 2).ok_or_else(wrong)?;
    let minute = after(&mut rest, b':').and_then(|()| digits(&mut rest, 2)).ok_or_else(wrong)?;
    let mut second = 0;
    let mut micros = 0;
    if after(&mut rest, b':').is_some() {
        second = digits(&mut rest, 2).ok_or_else(wrong)?;
        if after(&mut rest, b'.').is_some() || after(&mut rest, b',').is_some() {
            let n = rest.iter().take_while(|b| b.is_ascii_digit()).count();
            if n == 0 {
                return Err(wrong());
            }
            for digit in rest[..n].iter().chain(&[b'0'; 6]).take(6) {
                micros = micros * 10 + u32::from(digit - b'0');
            }
            rest = &rest[n..];
        }
    }
    // A leap second is the last second of its minute.
    let time = NaiveTime::from_hms_micro_opt(hour, minute, second.min(59), micros)
        .filter(|_| second <= 60)
        .ok_or("is not a time of the day")?;
    Ok((date.and_time(time), offset(rest).ok_or_else(wrong)?))
}

/// `Mar 1, 2026 10:00:00 AM`, as Magento writes it: also after noon with the hours from 0 to 23, and `PM` behind them.
fn month_in_letters(text: &str) -> Option<NaiveDateTime> {
    let (date, time) = text.trim().split_once(", ").and_then(|(day, rest)| {
        let (year, time) = rest.split_once(' ').unwrap_or((rest, ""));
        Some((NaiveDate::parse_from_str(&format!("{day} {year}"), "%b %d %Y").ok()?, time.trim()))
    })?;
    let (clock, half) = time.split_once(' ').unwrap_or((time, ""));
    let clock = if clock.is_empty() { "00:00:00" } else { clock };
    let time = NaiveTime::parse_from_str(clock, "%H:%M:%S")
        .or_else(|_| NaiveTime::parse_from_str(clock, "%H:%M"))
        .ok()?;
    let hours = match (half.to_ascii_uppercase().as_str(), time.hour()) {
        ("AM", 12) => -12,
        ("PM", hour) if hour < 12 => 12,
        ("" | "AM" | "PM", _) => 0,
        _ => return None,
    };
    Some(date.and_time(time) + TimeDelta::hours(hours))
}

/// `Z`, `+02:00`, `+0200`, `+02`, a space before it or not; nothing is `Some(None)`.
fn offset(rest: &[u8]) -> Option<Option<i32>> {
    let rest = rest.strip_prefix(b" ").unwrap_or(rest);
    let sign = match rest {
        [] => return Some(None),
        [b'Z' | b'z'] | b"UTC" | b"GMT" => return Some(Some(0)),
        [b'+', ..] => 1,
        [b'-', ..] => -1,
        _ => return None,
    };
    let mut rest = &rest[1..];
    let hours = digits(&mut rest, 2)?;
    let minutes = if rest.is_empty() {
        0
    } else {
        let _colon = after(&mut rest, b':');
        digits(&mut rest, 2)?
    };
    let seconds = i32::try_from(hours * 3600 + minutes * 60).ok()?;
    (rest.is_empty() && hours <= 23 && minutes <= 59).then_some(Some(sign * seconds))
}

fn digits(rest: &mut &[u8], n: usize) -> Option<u32> {
    let (number, tail) = rest.split_at_checked(n)?;
    let mut value = 0;
    for byte in number {
        value = value * 10 + u32::from(byte.is_ascii_digit().then(|| byte - b'0')?);
    }
    *rest = tail;
    Some(value)
}

fn after(rest: &mut &[u8], byte: u8) -> Option<()> {
    let (first, tail) = rest.split_first()?;
    (*first == byte).then(|| *rest = tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_time(
        zone: Tz,
        date_format: Option<&str>,
        text: &str,
        expected: std::result::Result<&str, &str>,
    ) {
        let read = Times::new(zone, date_format).unwrap().parse(text);
        match expected {
            Ok(moment) => assert_eq!(read.map(|m| m.to_rfc3339()), Ok(moment.to_owned()), "{text}"),
            Err(reason) => {
                let error = read.unwrap_err();
                assert!(error.contains(reason), "{text}: {error}");
            }
        }
    }

    #[test]
    fn times() {
        let paris = chrono_tz::Europe::Paris;
        for (text, expected) in [
            ("2026-05-01T10:00:00Z", "2026-05-01T10:00:00+00:00"),
            ("2026-05-01T10:00:00.25Z", "2026-05-01T10:00:00.250+00:00"),
            ("2026-05-01T10:00:00+02:00", "2026-05-01T08:00:00+00:00"),
            ("2026-05-01 10:00:00 +0200", "2026-05-01T08:00:00+00:00"),
            ("2026-05-01 10:00:00 UTC", "2026-05-01T10:00:00+00:00"),
            ("2026-05-01 10:00:00-03", "2026-05-01T13:00:00+00:00"),
            ("2026-05-01 10:00:00", "2026-05-01T08:00:00+00:00"),
            ("2026-05-01T10:00", "2026-05-01T08:00:00+00:00"),
            ("2026-01-01 10:00", "2026-01-01T09:00:00+00:00"),
            ("2026-05-01", "2026-04-30T22:00:00+00:00"),
            // 02:30 did not happen: the clocks jumped from 02:00 to 03:00.
            ("2026-03-29 02:30", "2026-03-29T01:30:00+00:00"),
            // 02:30 happened twice: the earlier one.
            ("2026-10-25 02:30", "2026-10-25T00:30:00+00:00"),
            ("May 1, 2026 10:00:00 AM", "2026-05-01T08:00:00+00:00"),
            ("May 1, 2026 03:28:20 PM", "2026-05-01T13:28:20+00:00"),
            ("May 1, 2026 15:28:20 PM", "2026-05-01T13:28:20+00:00"),
            ("May 1, 2026 00:28:20 AM", "2026-04-30T22:28:20+00:00"),
            ("May 1, 2026 12:28:20 AM", "2026-04-30T22:28:20+00:00"),
            ("May 1, 2026 12:28 PM", "2026-05-01T10:28:00+00:00"),
            ("May 1, 2026", "2026-04-30T22:00:00+00:00"),
        ] {
            check_time(paris, None, text, Ok(expected));
        }
        // Santiago's day begins at 01:00 on the day the clocks go forward at midnight.
        check_time(chrono_tz::America::Santiago, None, "2026-09-06", Ok("2026-09-06T04:00:00+00:00"));
        // Samoa had no 30 December 2011.
        check_time(chrono_tz::Pacific::Apia, None, "2011-12-30 12:00", Ok("2011-12-30T22:00:00+00:00"));
        for (text, reason) in [
            ("31/12/2026", "day or the month first"),
            ("12/31/2026 10:00", "day or the month first"),
            ("1.2.26", "day or the month first"),
            ("2026-02-30", "not a day of the calendar"),
            ("2026-02-03 25:00", "not a time of the day"),
            ("2026-02-03x10:00", "is not a time such as"),
            ("2026-02-03 10:00:00 +2", "is not a time such as"),
            ("2026-02-03 10", "is not a time such as"),
            ("0026-02-03", "between 1970 and 2999"),
            ("yesterday", "is not a time such as"),
            ("", "is not a time such as"),
            ("20é6-01-01", "is not a time such as"),
            ("Mai 1, 2026", "is not a time such as"),
            ("Feb 30, 2026", "is not a time such as"),
            ("May 1, 2026 10:00 XM", "is not a time such as"),
        ] {
            check_time(paris, None, text, Err(reason));
        }
        check_time(paris, Some("%d/%m/%Y"), "31/12/2026", Ok("2026-12-30T23:00:00+00:00"));
        check_time(paris, Some("%d/%m/%Y %H:%M"), "31/12/2026 10:00", Ok("2026-12-31T09:00:00+00:00"));
        check_time(paris, Some("%d.%m.%y %I:%M %p"), "31.12.26 10:00 PM", Ok("2026-12-31T21:00:00+00:00"));
        check_time(
            paris,
            Some("%d/%m/%Y %H:%M %z"),
            "31/12/2026 10:00 +0000",
            Ok("2026-12-31T10:00:00+00:00"),
        );
        check_time(paris, Some("%d/%m/%Y"), "2026-12-31", Err("declared date format"));
        // What a tool usually writes is read beside what everybody reads.
        let usual = ["%b %d, %Y %I:%M:%S %p".to_owned(), "%b %d, %Y %H:%M:%S %p".to_owned()];
        let times = Times::new(paris, None).unwrap().with_usual(&usual).unwrap();
        for (text, expected) in [
            ("Sep 3, 2026 3:05:00 PM", "2026-09-03T13:05:00+00:00"),
            ("Sep 30, 2026 15:05:00 PM", "2026-09-30T13:05:00+00:00"),
            ("Sep 30, 2026 00:05:00 AM", "2026-09-29T22:05:00+00:00"),
            ("2026-09-30 15:05:00", "2026-09-30T13:05:00+00:00"),
        ] {
            assert_eq!(times.parse(text).map(|m| m.to_rfc3339()), Ok(expected.to_owned()), "{text}");
        }
        assert!(times.parse("30/09/2026").unwrap_err().contains("day or the month first"));
        assert!(Times::new(paris, Some("%Q")).is_err());
    }
}
