//! The words of the interface, a `words.<locale>.toml` per language. What a file lacks or has too much is an error when it is read.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike as _, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// Every word that is not part of a template or of a survey's own wording. The files say what each is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Words {
    pub months: [String; 12],
    pub date: String,
    pub first_day: String,
    pub thousands: String,
    pub yes: String,
    pub no: String,
    pub scale_end: String,
    pub rating_low: String,
    pub rating_high: String,
    pub nps_low: String,
    pub nps_high: String,
    pub survey_title: String,
    pub survey_greeting: String,
    pub survey_intro: String,
    pub survey_answered: String,
    pub survey_rejected: String,
    pub survey_reason: String,
    pub survey_withdrawn: String,
    pub optional: String,
    pub limit: String,
    pub display_name: String,
    pub display_name_empty: String,
    pub display_name_none: String,
    pub published_as: String,
    pub published_chosen: String,
    pub published_unnamed: String,
    pub publication: String,
    pub publication_what: String,
    pub publication_not: String,
    pub publication_check: String,
    pub publication_back: String,
    pub leave_empty: String,
    pub once_more: String,
    pub person: String,
    pub send: String,
    pub use_of_answers: String,
    pub use_within_shop: String,
    pub no_more_mails: String,
    pub privacy: String,
    pub error_mark: String,
    pub error_summary: String,
    pub error_missing: String,
    pub error_not_an_option: String,
    pub error_too_long: String,
    pub error_unreadable: String,
    pub thanks_title: String,
    pub thanks_text: String,
    pub unhappy_title: String,
    pub unhappy_text: String,
    pub unhappy_next: String,
    pub customer_care: String,
    pub places_title: String,
    pub places_text: String,
    pub yours_title: String,
    pub thanks_contact: String,
    pub change_answer: String,
    pub change_until: String,
    pub withdraw: String,
    pub withdraw_hint: String,
    pub to_shop: String,
    pub closed_title: String,
    pub closed_text: String,
    pub withdraw_title: String,
    pub withdraw_text: String,
    pub withdraw_sure: String,
    pub withdraw_button: String,
    pub withdraw_not: String,
    pub error_unsure: String,
    pub withdrawn_title: String,
    pub withdrawn_text: String,
    pub withdrawn_again: String,
    pub nothing_title: String,
    pub nothing_text: String,
    pub unsubscribe_title: String,
    pub unsubscribe_text: String,
    pub unsubscribe_button: String,
    pub unsubscribe_not: String,
    pub unsubscribed_title: String,
    pub unsubscribed_text: String,
    pub unsubscribed_back: String,
    pub gone_title: String,
    pub gone_text: String,
    pub too_large_title: String,
    pub too_large_text: String,
    pub unavailable_title: String,
    pub unavailable_text: String,
    pub unsent_text: String,
    pub unsent_button: String,
    pub error_title: String,
    pub error_text: String,
    /// By the key of the choice.
    pub choices: BTreeMap<String, String>,
    pub alert: AlertWords,
    pub rejected: RejectedWords,
    pub digest: DigestWords,
}

/// Why words are not published, each a sentence to their author. By the keys of [`RejectReason`](crate::testimonials::RejectReason).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RejectedWords {
    pub no_experience: String,
    pub unlawful: String,
    pub personal_data: String,
    pub promotional: String,
    pub contradictory: String,
    pub unintelligible: String,
}

/// What is said of an alert, to the shop's own people. The files say what can be put in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertWords {
    pub decimal: String,
    pub points: String,
    pub of_source: String,
    pub of_segment: String,
    pub unsaid: String,
    pub below: String,
    pub above: String,
    pub score_below: String,
    pub score_above: String,
    pub score_once: String,
    pub score_falling: String,
    pub score_rising: String,
    pub falling: String,
    pub rising: String,
    pub unordinary: String,
    pub by_week: String,
    pub by_drift: String,
    pub by_run: String,
    pub back_limit: String,
    pub back_score: String,
    pub back_trend: String,
    pub back_shift: String,
    pub title_below: String,
    pub title_above: String,
    pub title_falling: String,
    pub title_rising: String,
    pub title_shift: String,
    pub not_limit: String,
    pub not_segment: String,
    pub not_score: String,
    pub not_trend: String,
    pub not_score_trend: String,
    pub not_shift: String,
    /// By the key of the metric.
    pub metrics: BTreeMap<String, String>,
    /// By the key of the segment.
    pub segments: BTreeMap<String, String>,
}

/// What is said of how a day went, to the shop's own people. The files say what can be put in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DigestWords {
    pub all_well: String,
    pub one_thing: String,
    pub things: String,
    pub summary: String,
    pub failed: String,
    pub failed_over: String,
    pub skipped: String,
    pub partial: String,
    pub overdue: String,
    pub paused: String,
    pub unknown: String,
    pub rejected: String,
    pub messages_lost: String,
    pub testimonials_overdue: String,
    pub authors_not_told: String,
    pub reports_lost: String,
    pub relay: String,
    pub held: String,
    /// By what came in.
    pub imports: BTreeMap<String, String>,
}

impl DigestWords {
    /// Tries every wording with the values that it can take.
    ///
    /// # Errors
    /// The name of the first value that there is not.
    pub fn check(&self) -> Result<(), String> {
        let try_with = |wording: &str, names: &[&str]| {
            fill(wording, &names.iter().map(|name| (*name, "")).collect::<Vec<_>>()).map(drop)
        };
        try_with(&self.things, &["n"])?;
        try_with(&self.summary, &["runs", "jobs", "sent", "waiting", "answers", "files", "rows"])?;
        for of_job in [&self.failed, &self.failed_over, &self.skipped, &self.partial] {
            try_with(of_job, &["job", "n", "reason"])?;
        }
        try_with(&self.overdue, &["job", "at"])?;
        try_with(&self.paused, &["job", "at", "reason"])?;
        try_with(&self.unknown, &["shop", "n"])?;
        try_with(&self.rejected, &["shop", "what", "n", "files"])?;
        for of_shop in [&self.messages_lost, &self.testimonials_overdue, &self.authors_not_told] {
            try_with(of_shop, &["shop", "n"])?;
        }
        try_with(&self.reports_lost, &["n"])?;
        try_with(&self.relay, &["at", "reason"])?;
        try_with(&self.held, &["reason"])
    }
}

impl Words {
    /// A moment as a date in long form, in the shop's zone: `3 March 2026`, `1er août 2026`.
    pub fn date(&self, moment: DateTime<Utc>, zone: Tz) -> String {
        let date = moment.with_timezone(&zone).date_naive();
        let day = if date.day() == 1 { self.first_day.clone() } else { date.day().to_string() };
        let month = self.months.get(date.month0() as usize).map_or("", String::as_str);
        let values = [("day", day.as_str()), ("month", month), ("year", &date.year().to_string())];
        // The wording was filled once when it was read; a name it does not know cannot turn up here.
        fill(&self.date, &values).unwrap_or_else(|_| date.to_string())
    }

    /// A number with its thousands set apart: `4,000`, `4 000`.
    pub fn number(&self, number: usize) -> String {
        let digits = number.to_string();
        let mut written = String::with_capacity(digits.len() + 4);
        for (n, digit) in digits.chars().enumerate() {
            if n > 0 && (digits.len() - n).is_multiple_of(3) {
                written.push_str(&self.thousands);
            }
            written.push(digit);
        }
        written
    }
}

/// Puts values where a wording says `{name}`. One pass: braces inside a value stay as they are.
///
/// # Errors
/// The first name that has no value here.
pub fn fill(wording: &str, values: &[(&str, &str)]) -> Result<String, String> {
    let mut filled = String::with_capacity(wording.len() + 32);
    let mut rest = wording;
    while let Some(start) = rest.find('{') {
        filled.push_str(&rest[..start]);
        let after = &rest[start + 1..];
        let name = after.split_once('}').map_or("", |(name, _)| name);
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            filled.push('{');
            rest = after;
            continue;
        }
        let Some((_, value)) = values.iter().find(|(known, _)| *known == name) else {
            return Err(name.to_owned());
        };
        filled.push_str(value);
        rest = &after[name.len() + 1..];
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_put_in_once() {
        assert_eq!(fill("{a} and {b}", &[("a", "{b}"), ("b", "2")]).unwrap(), "{b} and 2");
        assert_eq!(fill("{ } {a {} }{a}", &[("a", "1")]).unwrap(), "{ } {a {} }1");
        assert_eq!(fill("{unknown}", &[("a", "1")]).unwrap_err(), "unknown");
    }

    #[test]
    fn dates_are_written_out_in_the_zone_of_the_shop() {
        let words: Words = toml::from_str(include_str!("../../../templates/words.fr.toml")).unwrap();
        let late = "2026-07-31T22:30:00Z".parse().unwrap();
        assert_eq!(words.date(late, chrono_tz::Europe::Paris), "1er août 2026");
        assert_eq!(words.date(late, chrono_tz::UTC), "31 juillet 2026");
    }

    #[test]
    fn long_numbers_have_groups_of_three() {
        let words: Words = toml::from_str(include_str!("../../../templates/words.en.toml")).unwrap();
        for (number, written) in
            [(0, "0"), (999, "999"), (4000, "4,000"), (12_345, "12,345"), (1_234_567, "1,234,567")]
        {
            assert_eq!(words.number(number), written);
        }
    }
}
