//! What is read alike in every section: words that are checked at their place, durations, shares, secrets.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use chrono::TimeDelta;
use chrono_tz::Tz;
use toml::Spanned;

use crate::config::problem::Problems;
use crate::config::raw::Word;
use crate::config::secret::{has_password, read};
use crate::nearest::{self, did_you_mean};

pub(super) const DAY: TimeDelta = TimeDelta::days(1);

pub(super) fn text(word: &Word) -> &str {
    &word.get_ref().0
}

/// Reads a word; what `read` finds wrong with it is noted at its place.
pub(super) fn parsed<T>(
    word: &Word,
    problems: &mut Problems<'_>,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    read(text(word))
        .inspect_err(|error| problems.add(word.span(), format!("{:?}: {error}", text(word)), None))
        .ok()
}

/// Absent is fine; given and wrong is not.
pub(super) fn settle<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(Some(value)) => Some(Some(value)),
        Some(None) => None,
    }
}

/// Notes a name that is not among those that are known.
pub(super) fn known<'k>(
    what: &str,
    word: &Word,
    mut names: impl Iterator<Item = &'k str> + Clone,
    problems: &mut Problems<'_>,
) -> Option<()> {
    let typed = text(word);
    let help = nearest::hint(typed, names.clone());
    if names.any(|name| name == typed) {
        return Some(());
    }
    problems.add(word.span(), format!("there is no {what} {typed:?}"), help);
    None
}

/// Keys go into addresses, forms, file names and commands, so they stay plain.
pub(super) fn check_key(what: &str, key: &str, span: Range<usize>, problems: &mut Problems<'_>) {
    let plain = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && key.len() <= 64;
    if !plain {
        problems.add(
            span,
            format!("{key:?} cannot be the key of a {what}"),
            Some("use letters, digits, - and _, starting with a letter".to_owned()),
        );
    }
}

/// A share of a whole.
pub(super) fn share(typed: &Spanned<f64>, problems: &mut Problems<'_>) -> f64 {
    let share = *typed.get_ref();
    if !(0.0..=1.0).contains(&share) {
        problems.add(
            typed.span(),
            format!("{share} is not a share"),
            Some("write a number between 0 and 1".to_owned()),
        );
    }
    share
}

/// A secret is written in the file, or in a file of its own; not in both.
pub(super) fn secret(
    key: &str,
    base: &Path,
    direct: Option<&Word>,
    in_file: Option<&Word>,
    problems: &mut Problems<'_>,
) -> Option<String> {
    match (direct, in_file) {
        (Some(word), Some(_)) => {
            problems.add(word.span(), format!("`{key}` and `{key}_file` exclude each other"), None);
            None
        }
        (Some(word), None) => {
            let secret = text(word);
            if !secret.contains("://") || has_password(secret) {
                problems.note_secret(word.span());
            }
            Some(secret.to_owned())
        }
        (None, Some(word)) => read(&base.join(text(word)))
            .map(|content| content.trim_end_matches(['\r', '\n']).to_owned())
            .inspect_err(|error| problems.add(word.span(), error.to_string(), None))
            .ok(),
        (None, None) => None,
    }
}

pub(super) fn mailbox(word: &Word, problems: &mut Problems<'_>) -> Option<lettre::message::Mailbox> {
    parsed(word, problems, |text| {
        text.parse().map_err(|_| "expected an address such as Maison Exemple <avis@shop.example>".to_owned())
    })
}

pub(super) fn timezone(word: &Word, problems: &mut Problems<'_>) -> Option<Tz> {
    let typed = text(word);
    typed
        .parse::<Tz>()
        .inspect_err(|_| {
            let help = did_you_mean(typed, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()))
                .or_else(|| Some("write an IANA name such as Europe/Paris".to_owned()));
            problems.add(word.span(), format!("{typed:?} is not a time zone"), help);
        })
        .ok()
}

pub(super) fn duration(
    word: Option<&Word>,
    default: TimeDelta,
    problems: &mut Problems<'_>,
) -> Option<TimeDelta> {
    word.map_or(Some(default), |word| parsed(word, problems, parse_duration))
}

/// Reads `45s`, `50m`, `12h`, `7d`, `2w` or `3y` (years of 365 days).
pub(super) fn parse_duration(text: &str) -> Result<TimeDelta, String> {
    let wrong = || "expected a time such as 7d, 12h or 50m".to_owned();
    let (number, unit) = text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
    let number: u32 = number.trim().parse().map_err(|_| wrong())?;
    let seconds: i64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        "y" => 365 * 86_400,
        _ => return Err(wrong()),
    };
    TimeDelta::try_seconds(i64::from(number) * seconds)
        .filter(|delta| *delta <= TimeDelta::days(365 * 100))
        .ok_or_else(wrong)
}

pub(super) fn std_duration(delta: TimeDelta) -> Duration {
    delta.to_std().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw::Database;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("7d"), Ok(TimeDelta::days(7)));
        assert_eq!(parse_duration("50m"), Ok(TimeDelta::minutes(50)));
        assert_eq!(parse_duration("3y"), Ok(TimeDelta::days(1095)));
        for wrong in ["", "7", "d", "-1d", "1.5h", "7 days", "7é", "4000000000y"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn text_is_used() {
        // `Text` expands before anything else looks at it.
        let file: Database = toml::from_str("url = \"postgres://u@h/${CARGO_PKG_NAME}\"").unwrap();
        assert_eq!(text(&file.url.unwrap()), "postgres://u@h/afterword");
        assert!(toml::from_str::<Database>("url = \"${AFTERWORD_NOT_SET}\"").is_err());
    }
}
