//! Amounts of money and their currencies, as shops write them.

use std::borrow::Cow;

type Result<T> = std::result::Result<T, Cow<'static, str>>;

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
    fn decimals(self) -> usize {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
