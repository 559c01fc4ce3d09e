//! A figure with everything that is needed to judge it: what was counted, the interval, and one sentence in words.

use serde::Serialize;

use super::certainty::Certainty;
use super::comparison::Net;
use super::interval::{self, Interval};

/// What a metric counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// `hits` of `total`.
    Share {
        /// The ones that have it.
        hits: i64,
        /// All of them.
        total: i64,
        /// Mails of which nobody knows whether they arrived; they are in neither.
        unknown: Option<i64>,
    },
    /// The answers of a net promoter score.
    Net {
        /// 9 and 10.
        promoters: i64,
        /// 7 and 8.
        passives: i64,
        /// 0 to 6.
        detractors: i64,
    },
}

/// One figure of a report. `value` and its bounds are null where there is nothing to divide by; shares are from 0 to 1, the net
/// promoter score is in points from −100 to 100.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// Of a share: the ones that have it. Of the net promoter score: promoters minus detractors.
    pub numerator: i64,
    /// All that were counted.
    pub denominator: i64,
    #[serde(flatten)]
    parts: Parts,
    /// The figure.
    pub value: Option<f64>,
    /// The lower bound of the 95 % interval.
    pub ci_low: Option<f64>,
    /// Its upper bound.
    pub ci_high: Option<f64>,
    /// What was counted, exactly.
    pub definition: String,
    /// What the figure says: a sentence about its interval, one against the stretch of time before and one against its target, as far as
    /// there are these.
    pub verdict: String,
    /// What it is worth besides its interval.
    pub certainty: Certainty,
    /// What it would be had the submissions of programs counted like people's; absent where they make no difference in principle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with_suspects: Option<WithSuspects>,
    /// How it is written.
    #[serde(skip)]
    pub unit: Unit,
    /// What was counted, in the plural.
    #[serde(skip)]
    pub noun: &'static str,
    /// From which it is made.
    #[serde(skip)]
    pub(super) counts: Counts,
}

/// A figure as it would be had the submissions of programs counted, the last one of each order and survey.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WithSuspects {
    pub numerator: i64,
    pub denominator: i64,
    pub value: Option<f64>,
}

/// A figure in a row of its like: what is the same for all of them stands beside them once.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measure {
    pub numerator: i64,
    pub denominator: i64,
    /// The figure; null where there is nothing to divide by.
    pub value: Option<f64>,
    /// The lower bound of the 95 % interval.
    pub ci_low: Option<f64>,
    /// Its upper bound.
    pub ci_high: Option<f64>,
    /// How it is written.
    #[serde(skip)]
    pub unit: Unit,
    /// Of a net promoter score its parts, without which its ordinary variation is not known.
    #[serde(skip)]
    pub net: Option<Net>,
}

impl Measure {
    /// The figure that these counts give.
    pub fn of(counts: Counts) -> Self {
        let (numerator, denominator, unit, interval, net) = match counts {
            Counts::Share { hits, total, .. } => {
                (hits, total, Unit::Share, interval::wilson(hits, total), None)
            }
            Counts::Net { promoters, passives, detractors } => (
                promoters - detractors,
                promoters + passives + detractors,
                Unit::Points,
                interval::adjusted_wald(promoters, passives, detractors),
                Net::counted(promoters, passives, detractors),
            ),
        };
        Self {
            numerator,
            denominator,
            value: (denominator > 0).then(|| unit.scale(numerator as f64 / denominator as f64)),
            ci_low: interval.map(|i| i.low),
            ci_high: interval.map(|i| i.high),
            unit,
            net,
        }
    }

    /// The value for people; a dash where there is none.
    pub fn value_text(&self) -> String {
        self.value.map_or_else(|| "–".to_owned(), |value| self.unit.text(value))
    }

    /// The interval for people; a dash where there is none.
    pub fn interval_text(&self) -> String {
        match (self.ci_low, self.ci_high) {
            (Some(low), Some(high)) => format!("{} to {}", self.unit.text(low), self.unit.text(high)),
            _ => "–".to_owned(),
        }
    }
}

/// What some metrics tell besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Parts {
    Nothing {},
    Net { promoters: i64, passives: i64, detractors: i64 },
    Unknown { unknown: i64 },
}

/// How a figure is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// From 0 to 1, written in percent.
    Share,
    /// From −100 to 100.
    Points,
}

/// Wider than this share of its scale, an interval says hardly anything: ±10 percentage points, ±20 points of a net promoter score.
pub(super) const TELLING: f64 = 0.2;

impl Figure {
    /// The figure that these counts give.
    pub fn new(counts: Counts, noun: &'static str, definition: String) -> Self {
        let Measure { numerator, denominator, value, ci_low, ci_high, unit, .. } = Measure::of(counts);
        let parts = match counts {
            Counts::Share { unknown, .. } => {
                unknown.map_or(Parts::Nothing {}, |unknown| Parts::Unknown { unknown })
            }
            Counts::Net { promoters, passives, detractors } => Parts::Net { promoters, passives, detractors },
        };
        let interval = ci_low.zip(ci_high).map(|(low, high)| Interval { low, high });
        Self {
            numerator,
            denominator,
            parts,
            value,
            ci_low,
            ci_high,
            definition,
            verdict: verdict(unit, noun, numerator, denominator, interval),
            certainty: Certainty::default(),
            with_suspects: None,
            unit,
            noun,
            counts,
        }
    }

    /// The same figure, which also says what it is worth.
    pub(super) fn with_certainty(self, certainty: Certainty) -> Self {
        let mut verdict = self.verdict;
        for sentence in certainty.sentences(self.unit, self.noun) {
            verdict.push(' ');
            verdict.push_str(&sentence);
        }
        Self { verdict, certainty, ..self }
    }

    /// The same figure, which also says what it would be with the submissions of programs.
    pub fn with_suspects(self, counts: Option<Counts>) -> Self {
        let with_suspects = counts.map(|counts| {
            let Measure { numerator, denominator, value, .. } = Measure::of(counts);
            WithSuspects { numerator, denominator, value }
        });
        Self { with_suspects, ..self }
    }

    /// What it would be with the submissions of programs, for people, where there are some that matter.
    pub fn with_suspects_text(&self) -> Option<String> {
        let WithSuspects { numerator, denominator, value } = self.with_suspects?;
        if (numerator, denominator) == (self.numerator, self.denominator) {
            return None;
        }
        let value = value.map_or_else(|| "–".to_owned(), |value| self.unit.text(value));
        Some(format!("{value} of {} with suspects", grouped(denominator)))
    }

    /// The value for people; a dash where there is none.
    pub fn value_text(&self) -> String {
        self.value.map_or_else(|| "–".to_owned(), |value| self.unit.text(value))
    }

    /// The interval for people; a dash where there is none.
    pub fn interval_text(&self) -> String {
        match (self.ci_low, self.ci_high) {
            (Some(low), Some(high)) => format!("{} to {}", self.unit.text(low), self.unit.text(high)),
            _ => "–".to_owned(),
        }
    }

    /// What was counted, for people.
    pub fn counted_text(&self) -> String {
        match self.unit {
            Unit::Share => {
                format!("{} of {} {}", grouped(self.numerator), grouped(self.denominator), self.noun)
            }
            Unit::Points => format!("{} {}", grouped(self.denominator), self.noun),
        }
    }
}

impl Unit {
    fn scale(self, ratio: f64) -> f64 {
        match self {
            Self::Share => ratio,
            Self::Points => 100.0 * ratio,
        }
    }

    /// The lower and the upper end of the scale.
    pub fn range(self) -> (f64, f64) {
        match self {
            Self::Share => (0.0, 1.0),
            Self::Points => (-100.0, 100.0),
        }
    }

    pub(super) fn text(self, value: f64) -> String {
        match self {
            Self::Share => format!("{:.1} %", 100.0 * value),
            // A rounded −0.0 is 0.
            Self::Points => format!("{:.1}", (10.0 * value).round() / 10.0 + 0.0).replace('-', "−"),
        }
    }
}

fn verdict(unit: Unit, noun: &str, numerator: i64, denominator: i64, interval: Option<Interval>) -> String {
    let Some(interval) = interval else {
        return format!("Nothing to say yet: no {noun}.");
    };
    let (low, high) = (unit.text(interval.low), unit.text(interval.high));
    let (bottom, top) = unit.range();
    let what = match unit {
        Unit::Share => format!("{} of {} {noun}", grouped(numerator), grouped(denominator)),
        Unit::Points => format!("{} {noun}", grouped(denominator)),
    };
    if interval.width() > TELLING * (top - bottom) {
        format!(
            "Too few {noun} to say: {what} fit anything from {low} to {high}; about 100 would be telling."
        )
    } else {
        format!("Between {low} and {high} with 95 % confidence ({what}).")
    }
}

/// 4105 as 4,105.
pub(super) fn grouped(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut text = if n < 0 { "−".to_owned() } else { String::new() };
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(hits: i64, total: i64) -> Figure {
        Figure::new(Counts::Share { hits, total, unknown: None }, "answers", "Yes of all.".to_owned())
    }

    #[test]
    fn verdicts() {
        assert_eq!(
            share(2241, 4105).verdict,
            "Between 53.1 % and 56.1 % with 95 % confidence (2,241 of 4,105 answers)."
        );
        assert_eq!(
            share(3, 4).verdict,
            "Too few answers to say: 3 of 4 answers fit anything from 30.1 % to 95.4 %; about 100 would be telling."
        );
        assert_eq!(share(0, 0).verdict, "Nothing to say yet: no answers.");
        let net = Figure::new(
            Counts::Net { promoters: 500, passives: 300, detractors: 200 },
            "answers",
            "Net.".to_owned(),
        );
        assert_eq!(net.verdict, "Between 25.1 and 34.7 with 95 % confidence (1,000 answers).");
    }

    #[test]
    fn about_a_hundred_is_telling_whatever_the_figure() {
        for hits in 0..=100 {
            assert!(share(hits, 100).verdict.starts_with("Between"), "{hits} of 100");
        }
        for promoters in 0..=100 {
            let counts = Counts::Net { promoters, passives: 0, detractors: 100 - promoters };
            let figure = Figure::new(counts, "answers", String::new());
            assert!(figure.verdict.starts_with("Between"), "{promoters} of 100: {}", figure.verdict);
        }
    }

    #[test]
    fn as_json() {
        assert_eq!(
            serde_json::to_string(&share(0, 0)).unwrap(),
            r#"{"numerator":0,"denominator":0,"value":null,"ci_low":null,"ci_high":null,"definition":"Yes of all.","verdict":"Nothing to say yet: no answers.","certainty":{"before":null,"target":null,"weighted":null,"not_weighted":null,"bounds":null}}"#
        );
        let net =
            Figure::new(Counts::Net { promoters: 3, passives: 1, detractors: 1 }, "answers", String::new());
        let json = serde_json::to_value(&net).unwrap();
        assert_eq!(json["promoters"], 3);
        assert_eq!(json["passives"], 1);
        assert_eq!(json["detractors"], 1);
        assert_eq!((&json["numerator"], &json["denominator"]), (&2.into(), &5.into()));
        assert_eq!(json["value"], 40.0);
        let sent = Counts::Share { hits: 1, total: 2, unknown: Some(3) };
        let json = serde_json::to_value(Figure::new(sent, "mails", String::new())).unwrap();
        assert_eq!(json["unknown"], 3);
        assert!(json.get("with_suspects").is_none());
    }

    #[test]
    fn with_and_without_suspects() {
        let counts = |hits, total| Some(Counts::Share { hits, total, unknown: None });
        let figure = share(8, 10).with_suspects(counts(9, 12));
        let json = serde_json::to_value(&figure).unwrap();
        assert_eq!(json["value"], 0.8);
        assert_eq!(
            json["with_suspects"],
            serde_json::json!({ "numerator": 9, "denominator": 12, "value": 0.75 })
        );
        assert_eq!(figure.with_suspects_text().unwrap(), "75.0 % of 12 with suspects");
        assert_eq!(share(8, 10).with_suspects(counts(8, 10)).with_suspects_text(), None);
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(-12_345), "−12,345");
        assert_eq!(Unit::Points.text(-0.01), "0.0");
        assert_eq!(Unit::Points.text(-12.34), "−12.3");
    }
}
