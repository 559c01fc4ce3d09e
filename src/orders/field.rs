//! One field of a file, read: times, amounts, names, codes. Each function says in words what is wrong, as the end of a sentence that
//! starts with the name of the column, and never repeats the value: it may be somebody's address in the wrong column.

use std::borrow::Cow;

use chrono::format::{Item, Parsed, StrftimeItems};
use chrono::{
    DateTime, Datelike as _, NaiveDate, NaiveDateTime, NaiveTime, Offset as _, TimeDelta, TimeZone as _, Utc,
};
use chrono_tz::Tz;

type Result<T> = std::result::Result<T, Cow<'static, str>>;

/// How the times of a file are read.
#[derive(Debug)]
pub struct Times {
    zone: Tz,
    /// Of a declared format; `None`: recognised.
    items: Option<Vec<Item<'static>>>,
}

impl Times {
    /// `zone` is that of times without one; `date_format` is in chrono's notation.
    ///
    /// # Errors
    /// When the notation is wrong.
    pub fn new(zone: Tz, date_format: Option<&str>) -> Result<Self> {
        let items = date_format
            .map(|notation| {
                StrftimeItems::new(notation)
                    .parse_to_owned()
                    .map_err(|_| "is no date format; expected one such as %d/%m/%Y %H:%M")
            })
            .transpose()?;
        Ok(Self { zone, items })
    }

    /// Reads a moment. Without a declared format these are recognised: RFC 3339, `YYYY-MM-DD HH:MM[:SS]` with a space or a `T`, with
    /// or without an offset, and a date alone, which is its first moment. Day-first dates are only read where the format declares
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
                let (local, offset) = recognised(text)?;
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

/// A currency as ISO 4217 writes it, upper case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Currency([u8; 3]);

impl Currency {
    /// Reads three letters, whether large or small.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn parse(text: &str) -> Result<Self> {
        match text.trim().as_bytes() {
            [a, b, c] if [a, b, c].iter().all(|byte| byte.is_ascii_alphabetic()) => {
                Ok(Self([*a, *b, *c].map(|byte| byte.to_ascii_uppercase())))
            }
            _ => Err("is not a currency of three letters such as EUR".into()),
        }
    }

    /// The three letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// How many decimals its minor unit has (ISO 4217).
    pub fn decimals(self) -> usize {
        match &self.0 {
            b"BIF" | b"CLP" | b"DJF" | b"GNF" | b"ISK" | b"JPY" | b"KMF" | b"KRW" | b"PYG" | b"RWF"
            | b"UGX" | b"VND" | b"VUV" | b"XAF" | b"XOF" | b"XPF" => 0,
            b"BHD" | b"IQD" | b"JOD" | b"KWD" | b"LYD" | b"OMR" | b"TND" => 3,
            _ => 2,
        }
    }
}

/// Reads an amount into minor units of its currency. A currency may stand before or after the number as its code, `€` or `£`; other
/// signs (`$`, `¥`) are shared by several currencies and only dropped.
///
/// Where two different separators stand, the last is the decimal one. A single separator with exactly three digits behind it and one
/// to three before it (`1,234`) is taken for thousands, unless the currency has three decimals or the number starts with a zero; it
/// is the decimal one otherwise. Decimals that the currency does not have must be zeros (`12.5000` is 12.50).
///
/// # Errors
/// When it is no amount, has too many decimals, is too large, or names another currency than `currency`.
pub fn amount(text: &str, currency: Option<Currency>) -> Result<(i64, Option<Currency>)> {
    const EXPECTED: &str = "is not an amount such as 1299.00 or 1.299,00";
    let (number, named) = split_currency(text.trim())?;
    if let (Some(named), Some(currency)) = (named, currency)
        && named != currency
    {
        return Err("names another currency than the order".into());
    }
    let currency = currency.or(named);
    let decimals = currency.map_or(2, Currency::decimals);

    let (negative, number) = match number.strip_prefix(['-', '\u{2212}']) {
        Some(rest) => (true, rest.trim_start()),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    // Separators as ASCII: any space or apostrophe groups thousands and nothing else.
    let mut plain = Vec::with_capacity(number.len());
    for c in number.chars() {
        match c {
            '0'..='9' | '.' | ',' => plain.push(c as u8),
            ' ' | '\u{a0}' | '\u{202f}' | '\u{2009}' | '\'' | '\u{2019}' => plain.push(b' '),
            _ => return Err(EXPECTED.into()),
        }
    }
    let split = decimal_point(&plain, decimals);
    let (whole, fraction) = match split {
        Some(at) => (&plain[..at], &plain[at + 1..]),
        None => (&plain[..], &[][..]),
    };
    if !well_grouped(whole) || !fraction.iter().all(u8::is_ascii_digit) {
        return Err(EXPECTED.into());
    }
    if whole.is_empty() && fraction.is_empty() {
        return Err(EXPECTED.into());
    }
    if fraction.iter().skip(decimals).any(|digit| *digit != b'0') {
        return Err("has more decimals than its currency".into());
    }
    let mut units: i64 = 0;
    let padded = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(decimals);
    for digit in whole.iter().copied().filter(u8::is_ascii_digit).chain(padded) {
        units = units
            .checked_mul(10)
            .and_then(|units| units.checked_add(i64::from(digit - b'0')))
            .ok_or("is too large")?;
    }
    Ok((if negative { -units } else { units }, currency))
}

fn split_currency(text: &str) -> Result<(&str, Option<Currency>)> {
    let is_part =
        |c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | '-' | '+' | '\u{2212}' | '\'' | '\u{2019}');
    let (Some(start), Some(end)) = (text.find(is_part), text.rfind(is_part)) else {
        return Err("is not an amount such as 1299.00 or 1.299,00".into());
    };
    let end = end + text[end..].chars().next().map_or(0, char::len_utf8);
    let mut named = None;
    for sign in [text[..start].trim(), text[end..].trim()] {
        named = match sign {
            "" | "$" | "¥" => named,
            "€" => Some(Currency(*b"EUR")),
            "£" => Some(Currency(*b"GBP")),
            code => Some(Currency::parse(code).map_err(|_| "is not an amount such as 1299.00 or 1.299,00")?),
        };
    }
    Ok((&text[start..end], named))
}

/// Where the decimal separator stands, if there is one.
fn decimal_point(number: &[u8], decimals: usize) -> Option<usize> {
    let last = number.iter().rposition(|b| matches!(b, b'.' | b','))?;
    let same = number.iter().filter(|b| **b == number[last]).count();
    let other = number[..last].iter().any(|b| matches!(b, b'.' | b',' | b' ') && *b != number[last]);
    if other {
        return Some(last);
    }
    if same > 1 {
        return None;
    }
    let looks_like_thousands = number.len() - last - 1 == 3 && (1..=3).contains(&last) && number[0] != b'0';
    (!looks_like_thousands || decimals == 3).then_some(last)
}

/// Digits alone, or in groups of three behind the first separator, which is the same throughout.
fn well_grouped(whole: &[u8]) -> bool {
    let Some(separator) = whole.iter().find(|b| !b.is_ascii_digit()) else { return true };
    let mut groups = whole.split(|b| b == separator);
    let first = groups.next().unwrap_or_default();
    (1..=3).contains(&first.len())
        && first.iter().all(u8::is_ascii_digit)
        && groups.all(|group| group.len() == 3 && group.iter().all(u8::is_ascii_digit))
}

/// A name that can stand in a mail's header: control characters, line breaks and marks of writing direction become spaces, white
/// space around it is dropped, and it ends after 100 characters. `None`: nothing is left.
pub fn name(text: &str) -> Option<Cow<'_, str>> {
    const LONGEST: usize = 100;
    let trimmed = text.trim();
    let harmless = !trimmed.chars().any(is_unseen);
    let text = if harmless {
        if trimmed.len() <= LONGEST {
            return (!trimmed.is_empty()).then_some(Cow::Borrowed(trimmed));
        }
        Cow::Borrowed(trimmed)
    } else {
        Cow::Owned(trimmed.replace(is_unseen, " "))
    };
    let short: String = text.trim().chars().take(LONGEST).collect();
    let short = short.trim_end();
    (!short.is_empty()).then(|| Cow::Owned(short.to_owned()))
}

fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// ISO 3166-1 alpha-2, upper case.
///
/// # Errors
/// When it is not two letters.
pub fn country(text: &str) -> Result<[u8; 2]> {
    match text.as_bytes() {
        [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => {
            Ok([a.to_ascii_uppercase(), b.to_ascii_uppercase()])
        }
        _ => Err("is not a country of two letters such as FR".into()),
    }
}

/// What another system calls something: an order, an answer.
///
/// # Errors
/// When it is empty, longer than 200 characters or holds control characters.
pub fn external_id(text: &str) -> Result<&str> {
    let text = text.trim();
    if text.is_empty() {
        return Err("is empty".into());
    }
    if text.chars().count() > 200 {
        return Err("is longer than 200 characters".into());
    }
    if text.chars().any(char::is_control) {
        return Err("contains a control character".into());
    }
    Ok(text)
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
        assert!(Times::new(paris, Some("%Q")).is_err());
    }

    #[track_caller]
    fn check_amount(text: &str, currency: &str, expected: std::result::Result<(i64, &str), &str>) {
        let given = (!currency.is_empty()).then(|| Currency::parse(currency).unwrap());
        let read = amount(text, given);
        match expected {
            Ok((units, named)) => {
                let (got, currency) = read.unwrap();
                assert_eq!((got, currency.as_ref().map_or("", Currency::as_str)), (units, named), "{text}");
            }
            Err(reason) => {
                let error = read.unwrap_err();
                assert!(error.contains(reason), "{text}: {error}");
            }
        }
    }

    #[test]
    fn amounts() {
        for (text, currency, units, named) in [
            ("1299.00", "EUR", 129_900, "EUR"),
            ("1.299,00 €", "", 129_900, "EUR"),
            ("€ 1.299,00", "EUR", 129_900, "EUR"),
            ("1 299,00", "", 129_900, ""),
            ("1\u{202f}299,00\u{a0}€", "EUR", 129_900, "EUR"),
            ("1'299.50 CHF", "", 129_950, "CHF"),
            ("$1,299.00", "USD", 129_900, "USD"),
            ("12,5", "", 1250, ""),
            ("12", "", 1200, ""),
            (".5", "", 50, ""),
            ("12.", "", 1200, ""),
            ("-12.50", "", -1250, ""),
            ("129.0000", "", 12900, ""),
            ("1,234", "", 123_400, ""),
            ("1.234", "EUR", 123_400, "EUR"),
            ("0.500", "", 50, ""),
            ("1234.000", "", 123_400, ""),
            ("1,234", "KWD", 1234, "KWD"),
            ("1.234.567", "", 123_456_700, ""),
            ("1,234", "JPY", 1234, "JPY"),
            ("1234.00", "JPY", 1234, "JPY"),
            ("12.5", "BHD", 12500, "BHD"),
            ("12.345", "JPY", 12345, "JPY"),
        ] {
            check_amount(text, currency, Ok((units, named)));
        }
        for (text, currency, reason) in [
            ("", "", "is not an amount"),
            ("free", "", "is not an amount"),
            ("-", "", "is not an amount"),
            (".", "", "is not an amount"),
            ("1.2.3", "", "is not an amount"),
            ("1.23,456.00", "", "is not an amount"),
            ("12,34,567", "", "is not an amount"),
            ("1e3", "", "is not an amount"),
            ("12.3456", "", "more decimals"),
            ("1299.00 USD", "EUR", "another currency"),
            ("99999999999999999999", "", "too large"),
        ] {
            check_amount(text, currency, Err(reason));
        }
    }

    #[test]
    fn names() {
        let check =
            |text: &str, expected: Option<&str>| assert_eq!(name(text).as_deref(), expected, "{text:?}");
        check(" Anaïs ", Some("Anaïs"));
        check("", None);
        check(" \r\n ", None);
        check("Ana\r\nBcc: x", Some("Ana  Bcc: x"));
        check("A\0n\u{202e}a\u{2028}", Some("A n a"));
        check(&"é".repeat(150), Some(&"é".repeat(100)));
    }

    #[test]
    fn codes() {
        assert_eq!(country("fr"), Ok(*b"FR"));
        assert!(country("FRA").is_err());
        assert!(country("é").is_err());
        assert_eq!(external_id(" A-1 "), Ok("A-1"));
        for bad in ["", "  ", "a\0b", "a\nb", &"x".repeat(201)] {
            assert!(external_id(bad).is_err(), "{bad:?}");
        }
    }
}
