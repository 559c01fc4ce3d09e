//! The words of the report, a `templates/report/words.<language>.toml` per language, and how its numbers and dates are written. What a
//! file lacks or has too much is an error when it is read; a test reads them all.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveTime, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::super::figure::Unit;
use super::super::period::{Period, Stretch};
use crate::mail::templates::words::fill;
use crate::types::Locale;

/// The files.
const FILES: [(&str, &str); 2] = [
    ("en", include_str!("../../../templates/report/words.en.toml")),
    ("fr", include_str!("../../../templates/report/words.fr.toml")),
];

/// Every word of the report that is not part of a survey's own wording. The files say what each is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Words {
    pub language: String,
    pub months: [String; 12],
    pub months_short: [String; 12],
    pub date: String,
    pub first_day: String,
    pub day_short: String,
    pub moment: String,
    pub decimal: String,
    pub thousands: String,
    pub percent: String,
    pub minus: String,
    pub week_of: String,
    pub quarter: String,
    pub month_short: String,
    pub and: String,
    pub none: String,

    pub heading: String,
    pub title: String,
    pub contents: String,
    pub as_of: String,
    pub window_all: String,
    pub window_from: String,
    pub window_to: String,
    pub window_between: String,
    pub basis_frozen: String,
    pub basis_computed: String,

    pub headlines: String,
    pub interval: String,
    pub interval_short: String,
    pub verdict_sure: String,
    pub verdict_few: String,
    pub verdict_none: String,
    pub counted_share: String,
    pub counted_net: String,
    pub suspects: String,
    pub before_rose: String,
    pub before_fell: String,
    pub before_no_evidence: String,
    pub target_above: String,
    pub target_below: String,
    pub target_undecided: String,
    pub target_more: String,
    pub weighted: String,
    pub sure: String,
    pub bounds: String,
    pub gauge_title: String,
    pub gauge_text: String,
    pub gauge_target: String,

    pub changed: String,
    pub changed_stretch: String,
    pub changed_stretch_between: String,
    pub changed_last: String,
    pub changed_week: String,
    pub changed_figure: String,
    pub changed_figures: String,
    pub changed_none: String,
    pub changed_nothing_before: String,
    pub changed_volumes: String,
    pub changed_signals: String,
    pub changed_signals_one: String,
    pub changed_signals_partly: String,

    pub alerts: String,
    pub alert_since: String,
    pub outbox_unknown: String,
    pub outbox_unknown_one: String,

    pub course: String,
    pub course_how: String,
    pub legend_value: String,
    pub legend_band: String,
    pub legend_center: String,
    pub legend_limits: String,
    pub legend_mark: String,
    pub legend_part: String,
    pub period_day: String,
    pub period_week: String,
    pub period_month: String,
    pub period_quarter: String,
    pub course_title: String,
    pub course_text: String,
    pub course_text_empty: String,
    pub course_center: String,
    pub course_too_few: String,
    pub course_grows: String,
    pub course_quiet: String,
    pub course_more_signals: String,
    pub signal_beyond_above: String,
    pub signal_beyond_below: String,
    pub signal_drift_above: String,
    pub signal_drift_below: String,
    pub signal_run_above: String,
    pub signal_run_below: String,
    pub signal_from_to: String,
    pub partial: String,

    pub volumes: String,
    pub volume_orders: String,
    pub volume_mails: String,
    pub volume_answers: String,
    pub volume_comments: String,
    pub volume_title: String,
    pub volume_text: String,

    pub scores: String,
    pub scores_how: String,
    pub score_title: String,
    pub score_latest: String,
    pub score_ratings: String,
    pub score_alarm: String,
    pub score_alarming: String,
    pub score_not_alarming: String,
    pub score_no_alarm: String,

    pub loyalty: String,
    pub cohorts: String,
    pub cohorts_how: String,
    pub cohorts_title: String,
    pub cohorts_text: String,
    pub cohorts_cut: String,
    pub cohort_same_month: String,
    pub cohort_month: String,
    pub next_order: String,
    pub next_km: String,
    pub next_km_how: String,
    pub next_km_unreached: String,
    pub next_plain: String,
    pub next_plain_how: String,
    pub next_by: String,
    pub next_by_how: String,
    pub next_by_none: String,
    pub days: String,
    pub days_interval: String,
    pub days_interval_open: String,
    pub repeat: String,
    pub repeat_how: String,
    pub repeat_few: String,
    pub repeat_by_nps: String,
    pub repeat_by_recommendation: String,
    pub repeat_by_no_answer: String,
    pub said: BTreeMap<String, String>,

    pub topics: String,
    pub topics_how: String,
    pub topics_title: String,
    pub topics_text: String,
    pub funnel: String,
    pub funnel_how: String,
    pub funnel_title: String,
    pub funnel_text: String,
    pub funnel_steps: [String; 7],

    pub table: String,
    pub col_figure: String,
    pub col_value: String,
    pub col_interval: String,
    pub col_counted: String,
    pub col_period: String,
    pub col_low: String,
    pub col_high: String,
    pub col_of: String,
    pub col_n: String,
    pub col_limits: String,
    pub col_remark: String,
    pub col_score: String,
    pub col_rated_on: String,
    pub col_ratings: String,
    pub col_first_order: String,
    pub col_customers: String,
    pub col_within: String,
    pub col_step: String,
    pub col_of_before: String,
    pub col_of_all: String,
    pub col_question: String,
    pub col_answer: String,
    pub col_unhappy: String,

    pub nothing: String,
    pub definitions: String,
    pub unknowns: String,
    pub unknown_status: String,
    pub unknown_history: String,
    pub unknown_rows: String,
    pub unknown_zone: String,
    pub detail_recommendation: String,
    pub detail_recommendation_none: String,
    pub detail_scores: String,
    pub detail_score: String,
    pub detail_choice: String,
    pub detail_rule: String,
    pub detail_counted: String,
    pub detail_question: String,
    pub detail_none: String,
    pub interval_name: String,
    pub interval_definition: String,
    pub limits_name: String,
    pub limits_definition: String,
    pub suspects_name: String,
    pub suspects_definition: String,

    /// By the key of the metric.
    pub metrics: BTreeMap<String, MetricWords>,
}

/// The words of a metric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricWords {
    pub name: String,
    /// What is counted, in the plural.
    pub noun: String,
    pub definition: String,
}

/// All of them, by language. A file that is wrong is left out; a test sees to it that none is.
static WORDS: LazyLock<BTreeMap<&str, Words>> = LazyLock::new(|| {
    FILES.iter().filter_map(|(language, text)| Some((*language, toml::from_str(text).ok()?))).collect()
});

/// The languages there are.
pub fn languages() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(language, _)| *language)
}

/// The words in a reader's language, else in English.
///
/// # Errors
/// When the built-in words are not what they should be; a test reads them.
pub fn words(locale: Option<&Locale>) -> anyhow::Result<&'static Words> {
    let found = locale.and_then(|locale| WORDS.get(locale.language())).or_else(|| WORDS.get("en"));
    found.ok_or_else(|| anyhow::anyhow!("the built-in words of the report cannot be read"))
}

impl Words {
    /// A wording with its values.
    pub(super) fn say(&self, wording: &str, values: &[(&str, &str)]) -> String {
        // A name without a value shows as it is; the test that renders everything finds it.
        fill(wording, values).unwrap_or_else(|_| wording.to_owned())
    }

    /// A number with so many decimals.
    pub(super) fn decimal(&self, value: f64, decimals: usize) -> String {
        let rounded = format!("{:.decimals$}", value.abs());
        let (whole, fraction) = rounded.split_once('.').unwrap_or((&rounded, ""));
        let is_zero = rounded.bytes().all(|b| b == b'0' || b == b'.');
        let sign = if value < 0.0 && !is_zero { self.minus.as_str() } else { "" };
        let point = if fraction.is_empty() { "" } else { self.decimal.as_str() };
        format!("{sign}{}{point}{fraction}", self.grouped(whole))
    }

    fn grouped(&self, digits: &str) -> String {
        let mut text = String::with_capacity(digits.len() + 4);
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                text.push_str(&self.thousands);
            }
            text.push(digit);
        }
        text
    }

    /// How many.
    pub(super) fn count(&self, n: i64) -> String {
        let sign = if n < 0 { self.minus.as_str() } else { "" };
        format!("{sign}{}", self.grouped(&n.unsigned_abs().to_string()))
    }

    /// A share, in percent with so many decimals.
    pub(super) fn percent(&self, share: f64, decimals: usize) -> String {
        self.say(&self.percent, &[("n", &self.decimal(100.0 * share, decimals))])
    }

    /// A figure in its unit, with one decimal.
    pub(super) fn value(&self, unit: Unit, value: f64) -> String {
        match unit {
            Unit::Share => self.percent(value, 1),
            Unit::Points => self.decimal(value, 1),
        }
    }

    /// A number of a scale in this unit.
    pub(super) fn tick(&self, unit: Unit, value: f64) -> String {
        let is_whole = |value: f64| (value - value.round()).abs() < 1e-6;
        match unit {
            Unit::Share => self.percent(value, usize::from(!is_whole(100.0 * value))),
            Unit::Points => self.decimal(value, usize::from(!is_whole(value))),
        }
    }

    /// From where to where, in words.
    pub(super) fn range(&self, unit: Unit, (low, high): (f64, f64)) -> String {
        self.say(&self.interval_short, &[("low", &self.value(unit, low)), ("high", &self.value(unit, high))])
    }

    /// A day in long form: `3 March 2026`, `1er août 2026`.
    pub(super) fn day(&self, day: NaiveDate) -> String {
        let number = if day.day() == 1 { self.first_day.clone() } else { day.day().to_string() };
        let month = &self.months[day.month0() as usize];
        self.say(&self.date, &[("day", &number), ("month", month), ("year", &day.year().to_string())])
    }

    /// A moment to the minute in a zone; one at midnight is a day.
    pub(super) fn moment(&self, moment: DateTime<Utc>, zone: Tz) -> String {
        let local = moment.with_timezone(&zone).naive_local();
        if local.time() == NaiveTime::MIN {
            return self.day(local.date());
        }
        let time = local.format("%H:%M").to_string();
        self.say(&self.moment, &[("date", &self.day(local.date())), ("time", &time)])
    }

    /// A period on an axis, as short as can be.
    pub(super) fn period_short(&self, period: Period, first: NaiveDate) -> String {
        let month = &self.months_short[first.month0() as usize];
        let year = format!("{:02}", first.year().rem_euclid(100));
        match period {
            Period::Day | Period::Week | Period::Rolling(_) => {
                self.say(&self.day_short, &[("day", &first.day().to_string()), ("month", month)])
            }
            Period::Month => self.say(&self.month_short, &[("month", month), ("year", &year)]),
            Period::Quarter => self.quarter_of(first),
            Period::Year => first.year().to_string(),
        }
    }

    /// A period in words.
    pub(super) fn period_long(&self, period: Period, Stretch { first_day, last_day }: Stretch) -> String {
        match period {
            Period::Day => self.day(first_day),
            Period::Rolling(_) => self.day(last_day),
            Period::Week => self.say(&self.week_of, &[("date", &self.day(first_day))]),
            Period::Month => format!("{} {}", self.months[first_day.month0() as usize], first_day.year()),
            Period::Quarter => self.quarter_of(first_day),
            Period::Year => first_day.year().to_string(),
        }
    }

    fn quarter_of(&self, first: NaiveDate) -> String {
        let quarter = (first.month0() / 3 + 1).to_string();
        self.say(&self.quarter, &[("quarter", &quarter), ("year", &first.year().to_string())])
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::METRICS;
    use super::*;

    fn of(language: &str) -> &'static Words {
        WORDS.get(language).unwrap()
    }

    #[test]
    fn every_language_has_every_word() {
        for (language, text) in FILES {
            let words: Words = toml::from_str(text).unwrap();
            assert_eq!(words.language, language);
            let keys: Vec<_> = METRICS.iter().map(|metric| metric.key).collect();
            for key in &keys {
                assert!(words.metrics.contains_key(*key), "{language} has no words for {key}");
            }
            assert_eq!(
                words.metrics.len(),
                keys.len(),
                "{language} has words for metrics that there are not"
            );
            let english = &of("en").said;
            assert_eq!(words.said.keys().collect::<Vec<_>>(), english.keys().collect::<Vec<_>>());
        }
    }

    #[test]
    fn wordings_ask_for_the_same_values_in_every_language() {
        fn names(text: &str) -> Vec<&str> {
            let mut names: Vec<_> =
                text.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0)).collect();
            names.sort_unstable();
            names.dedup();
            names
        }
        let english = serde_json::to_value(of("en")).unwrap();
        let french = serde_json::to_value(of("fr")).unwrap();
        for (key, wording) in english.as_object().unwrap() {
            let (Some(en), Some(fr)) = (wording.as_str(), french[key].as_str()) else { continue };
            assert_eq!(names(en), names(fr), "{key}");
        }
    }

    #[test]
    fn the_english_words_are_those_of_the_metrics() {
        for metric in METRICS {
            let words = &of("en").metrics[metric.key];
            assert_eq!(words.name, metric.name);
            assert_eq!(words.noun, metric.noun);
            assert_eq!(words.definition, metric.definition);
        }
    }

    #[test]
    fn numbers_and_dates_are_written_as_people_write_them() {
        let (en, fr) = (of("en"), of("fr"));
        assert_eq!(en.percent(0.8234, 1), "82.3\u{a0}%");
        assert_eq!(fr.percent(0.8234, 1), "82,3\u{202f}%");
        assert_eq!(fr.count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(en.count(-1_234), "−1,234");
        assert_eq!(fr.decimal(-12.34, 1), "−12,3");
        assert_eq!(en.decimal(-0.04, 1), "0.0");
        assert_eq!(en.tick(Unit::Share, 0.05), "5\u{a0}%");
        assert_eq!(en.tick(Unit::Share, 0.025), "2.5\u{a0}%");
        let day: NaiveDate = "2026-08-01".parse().unwrap();
        assert_eq!(fr.day(day), "1er\u{a0}août 2026");
        assert_eq!(en.day(day), "1\u{a0}August 2026");
        assert_eq!(en.period_short(Period::Quarter, day), "Q3 2026");
        let late = "2026-07-31T22:30:00Z".parse().unwrap();
        assert_eq!(fr.moment(late, Tz::Europe__Paris), "1er\u{a0}août 2026 à 00:30");
        assert_eq!(
            fr.moment("2026-07-31T22:00:00Z".parse().unwrap(), Tz::Europe__Paris),
            "1er\u{a0}août 2026"
        );
    }
}
