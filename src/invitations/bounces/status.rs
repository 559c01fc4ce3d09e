//! Enhanced status codes (RFC 3463) and SMTP reply codes, found in what servers write.

use std::fmt;

/// `class.subject.detail` (RFC 3463): class 2 success, 4 not now, 5 no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    pub class: u8,
    pub subject: u16,
    pub detail: u16,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl Status {
    /// Whether it names a cause; `5.0.0` does not.
    pub fn is_specific(self) -> bool {
        (self.subject, self.detail) != (0, 0)
    }

    /// Whether it says that there is no such address: 5.1.x but the faults of the sender's address (5.1.7, 5.1.8) and of the relay
    /// (5.1.9), and 5.2.1, a mailbox that was closed.
    pub fn is_address_fault(self) -> bool {
        matches!((self.class, self.subject, self.detail), (5, 1, detail) if !(7..=9).contains(&detail))
            || matches!((self.class, self.subject, self.detail), (5, 2, 1))
    }

    /// The first in a text, one that follows a reply code or a `#` before others: `550 5.1.1`, `(#5.1.1)`.
    pub fn find(text: &str) -> Option<Self> {
        let mut first = None;
        for (at, found) in Self::all(text) {
            let before = text[..at].trim_end_matches([' ', '-', '(', '#']);
            let marked = text[..at].ends_with('#') || ends_with_reply_code(before);
            if marked {
                return Some(found);
            }
            first = first.or(Some(found));
        }
        first
    }

    /// Every one in a text, with its place. Neither a part of an IP address nor of a version is one.
    fn all(text: &str) -> impl Iterator<Item = (usize, Self)> + '_ {
        let bytes = text.as_bytes();
        (0..bytes.len()).filter_map(move |at| {
            if !matches!(bytes[at], b'2' | b'4' | b'5') || bytes.get(at + 1) != Some(&b'.') {
                return None;
            }
            let before = at.checked_sub(1).map(|at| bytes[at]);
            if before
                .is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/' | b'[' | b'-'))
            {
                // `550-5.1.1` is how a reply of several lines writes it.
                let is_reply = before == Some(b'-') && ends_with_reply_code(&text[..at - 1]);
                if !is_reply {
                    return None;
                }
            }
            let (subject, after) = number(bytes, at + 2)?;
            let (detail, end) = (bytes.get(after) == Some(&b'.')).then(|| number(bytes, after + 1))??;
            let goes_on = match (bytes.get(end), bytes.get(end + 1)) {
                (Some(byte), _) if byte.is_ascii_alphanumeric() => true,
                (Some(b'.'), Some(next)) => next.is_ascii_digit(),
                _ => false,
            };
            (subject <= 9 && !goes_on).then_some((at, Self { class: bytes[at] - b'0', subject, detail }))
        })
    }
}

/// The first SMTP reply code of a failure in a text: three digits that begin with 4 or 5 and stand alone at the start, or before an
/// enhanced code, or behind a word that announces one.
pub fn reply_code(text: &str) -> Option<u16> {
    let bytes = text.as_bytes();
    for at in 0..bytes.len().saturating_sub(2) {
        if !matches!(bytes[at], b'4' | b'5')
            || !matches!(bytes[at + 1], b'0'..=b'7')
            || !bytes[at + 2].is_ascii_digit()
        {
            continue;
        }
        let before = text[..at].trim_end_matches([' ', '\t', '(', '"', '\'', '<']);
        let starts = before.is_empty() || before.ends_with([':', ';', '\n', '=', '#', ']']);
        let announced =
            ["said", "with", "error", "code", "response", "respond", "reply", "replied", "smtp", "was"]
                .iter()
                .any(|word| ends_with_ignoring_case(before, word));
        let ends = match bytes.get(at + 3) {
            None => true,
            Some(b' ' | b'-' | b'\n' | b'\r' | b'\t' | b':' | b'<' | b')' | b'"' | b',' | b';') => true,
            Some(_) => false,
        };
        let stands_alone =
            at == 0 || !(bytes[at - 1].is_ascii_alphanumeric() || matches!(bytes[at - 1], b'.' | b'-'));
        let rest = text[at + 3..].trim_start_matches([' ', '-', '#']);
        let enhanced = rest.as_bytes().first() == bytes.get(at) && rest.as_bytes().get(1) == Some(&b'.');
        if stands_alone && ends && (starts || announced || enhanced) {
            return text[at..at + 3].parse().ok();
        }
    }
    None
}

fn ends_with_reply_code(text: &str) -> bool {
    let Some(tail) = text.len().checked_sub(3).and_then(|at| text.get(at..)) else { return false };
    let bytes = tail.as_bytes();
    let stands_alone = !text[..text.len() - 3].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '.');
    matches!(bytes[0], b'2' | b'4' | b'5')
        && bytes[1].is_ascii_digit()
        && bytes[2].is_ascii_digit()
        && stands_alone
}

fn ends_with_ignoring_case(text: &str, word: &str) -> bool {
    text.len()
        .checked_sub(word.len())
        .and_then(|at| text.get(at..))
        .is_some_and(|tail| tail.eq_ignore_ascii_case(word))
}

/// A number of one to three digits, and where it ends.
fn number(bytes: &[u8], at: usize) -> Option<(u16, usize)> {
    let n_digits = bytes.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=3).contains(&n_digits) {
        return None;
    }
    let value = bytes[at..at + n_digits].iter().fold(0, |value, digit| value * 10 + u16::from(digit - b'0'));
    Some((value, at + n_digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_found_where_they_are() {
        let find = |text: &str| Status::find(text).map(|status| status.to_string()).unwrap_or_default();
        for (text, expected) in [
            ("5.1.1", "5.1.1"),
            ("550 5.1.1 <x>: no such user", "5.1.1"),
            ("550-5.1.1 The account does not exist", "5.1.1"),
            ("smtp; 552-5.2.2 The email account is over quota", "5.2.2"),
            ("Sorry, no mailbox here by that name. (#5.1.1)", "5.1.1"),
            ("#< #5.4.1 smtp;550 5.4.1 Recipient rejected>", "5.4.1"),
            ("host mx[192.0.2.5] (5.4.3) said: 450 4.2.1 later", "4.2.1"),
            ("host 5.1.1.25 refused", ""),
            ("Exim v4.92.3, sendmail 8.14.4/5.4.3", ""),
            ("on 4.12.2026", ""),
            ("550 5.7.509: Access denied", "5.7.509"),
        ] {
            assert_eq!(find(text), expected, "{text}");
        }
    }

    #[test]
    fn reply_codes_are_found_where_they_are() {
        for (text, expected) in [
            ("550 no such user", Some(550)),
            ("smtp; 452 4.2.2 full", Some(452)),
            ("host mx.customer.example[192.0.2.1] said: 451 later", Some(451)),
            ("Remote host said: 550-unknown", Some(550)),
            ("after 450 tries", None),
            ("192.0.2.550 is odd", None),
            ("SMTP error from remote mail server after RCPT TO:<x>: 550 unknown", Some(550)),
            ("size 5500 is too much", None),
        ] {
            assert_eq!(reply_code(text), expected, "{text}");
        }
    }
}
