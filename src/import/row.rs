//! The fields of a row. Each function says in words what is wrong, as the end of a sentence that starts with the name of the column,
//! and never repeats the value: it may be somebody's address in the wrong column.

use std::borrow::Cow;

use csv::ByteRecord;

use super::text::Fault;
use crate::types::EmailAddress;

/// Refuses a row that has a NUL in one of these columns.
///
/// # Errors
/// Names the first such column.
pub fn refuse_nul(record: &ByteRecord, mut columns: impl Iterator<Item = usize>) -> Result<(), Fault> {
    match columns.find(|column| record.get(*column).is_some_and(|field| field.contains(&0))) {
        Some(column) => Err(Fault::at(column, "contains a NUL byte")),
        None => Ok(()),
    }
}

/// A field of a row that is known to be UTF-8.
pub fn text(record: &ByteRecord, column: usize) -> &str {
    record.get(column).and_then(|field| std::str::from_utf8(field).ok()).unwrap_or_default()
}

/// Reads a field that must not be empty.
///
/// # Errors
/// When it is empty or cannot be read.
pub fn on<'r, T>(
    column: usize,
    record: &'r ByteRecord,
    read: impl FnOnce(&'r str) -> Result<T, Cow<'static, str>>,
) -> Result<T, Fault> {
    let text = text(record, column).trim();
    if text.is_empty() {
        return Err(Fault::at(column, "is empty"));
    }
    read(text).map_err(|reason| Fault::at(column, reason))
}

/// Reads a field that may be empty or not be there.
///
/// # Errors
/// When it cannot be read.
pub fn given<'r, T>(
    column: Option<usize>,
    record: &'r ByteRecord,
    read: impl FnOnce(&'r str) -> Result<T, Cow<'static, str>>,
) -> Result<Option<T>, Fault> {
    match column {
        Some(column) if !text(record, column).trim().is_empty() => on(column, record, read).map(Some),
        _ => Ok(None),
    }
}

/// Reads a mail address.
///
/// # Errors
/// When it is none.
pub fn email(text: &str) -> Result<EmailAddress, Cow<'static, str>> {
    EmailAddress::parse(text).map_err(|bad| Cow::from(bad.0))
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

/// What another system calls something: an order, an answer.
///
/// # Errors
/// When it is empty, longer than 200 characters or holds control characters.
pub fn external_id(text: &str) -> Result<&str, Cow<'static, str>> {
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
    fn ids_of_other_systems() {
        assert_eq!(external_id(" A-1 "), Ok("A-1"));
        for bad in ["", "  ", "a\0b", "a\nb", &"x".repeat(201)] {
            assert!(external_id(bad).is_err(), "{bad:?}");
        }
    }
}
