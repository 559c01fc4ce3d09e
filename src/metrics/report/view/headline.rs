//! A figure at the top of the page: its interval, its verdict, and what there is to say about its certainty.

use serde::{Deserialize, Serialize};

use super::{About, Cell, Table};
use crate::mail::templates::views::ReportRow;
use crate::metrics::Metric;
use crate::metrics::figure::{Figure, TELLING, Unit};
use crate::metrics::report::chart::{self, Gauge, Told};

/// A figure at the top of the page.
#[derive(Serialize)]
pub(super) struct Headline {
    name: String,
    value: String,
    /// Its interval.
    range: Option<String>,
    gauge: Option<String>,
    verdict: String,
    /// Whether the interval is narrow enough to speak for itself.
    is_telling: bool,
    /// Against the period before, and against the target.
    notes: Vec<Note>,
    /// Weighted, at worst and at best, with suspects.
    sure: Vec<String>,
}

impl Headline {
    /// For a mail: an interval that stands beside the value is not told again in words.
    pub(super) fn in_short(&self) -> ReportRow {
        let notes: Vec<_> = self.notes.iter().map(|note| format!("{} {}", note.sign, note.text)).collect();
        let notes = notes.join(" ");
        ReportRow {
            name: self.name.clone(),
            value: self.value.clone(),
            interval: self.range.clone(),
            verdict: if self.is_telling { notes } else { format!("{} {notes}", self.verdict) }
                .trim()
                .to_owned(),
        }
    }
}

#[derive(Serialize)]
struct Note {
    /// `good`, `bad`, or empty.
    kind: &'static str,
    /// Says the same as the kind, for whoever does not see colours.
    sign: &'static str,
    text: String,
}

/// What the figure says about its certainty, as far as it does.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Certainty {
    before: Option<Compared>,
    pub(super) target: Option<Target>,
    weighted: Option<Weighted>,
    bounds: Option<Bounds>,
}

#[derive(Debug, Deserialize)]
struct Compared {
    value: Option<f64>,
    difference: Option<f64>,
    ci_low: Option<f64>,
    ci_high: Option<f64>,
    change: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Target {
    pub(super) target: f64,
    verdict: String,
    more: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Weighted {
    value: Option<f64>,
    ci_low: Option<f64>,
    ci_high: Option<f64>,
    effective: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Bounds {
    worst: Option<f64>,
    best: Option<f64>,
}

impl Certainty {
    /// Read from what the figure tells machines, so that a figure without it is shown without it.
    pub(super) fn of(figure: &Figure) -> Self {
        let told = serde_json::to_value(figure).ok();
        Self::read(told.and_then(|mut told| Some(told.get_mut("certainty")?.take())).unwrap_or_default())
    }

    fn read(told: serde_json::Value) -> Self {
        serde_json::from_value(told).unwrap_or_default()
    }
}

impl About<'_> {
    pub(super) fn headline(&self, metric: &Metric, figure: &Figure) -> Headline {
        let words = self.words;
        let (name, noun) = self.named(metric);
        let certainty = Certainty::of(figure);
        let value = self.value_text(figure.unit, figure.value);
        let interval = figure.ci_low.zip(figure.ci_high);
        let target = certainty.target.as_ref().map(|target| target.target);
        let gauge = figure.value.zip(interval).map(|(number, interval)| {
            let range = words.range(figure.unit, interval);
            let mut text = words.say(&words.gauge_text, &[("interval", &range)]);
            if let Some(target) = target {
                let target = words.value(figure.unit, target);
                text = format!("{text} {}", words.say(&words.gauge_target, &[("target", &target)]));
            }
            let title = words.say(&words.gauge_title, &[("name", name), ("value", &value)]);
            let told = Told { id: &self.id(&format!("gauge-{}", metric.key)), title: &title, text: &text };
            chart::gauge(told, &Gauge { value: number, interval, range: figure.unit.range(), target })
        });
        Headline {
            name: name.to_owned(),
            range: interval.map(|interval| words.range(figure.unit, interval)),
            gauge,
            verdict: self.verdict(noun, figure),
            is_telling: is_telling(figure),
            notes: self.notes(figure, &certainty),
            sure: self.sure(figure, &certainty),
            value,
        }
    }

    fn verdict(&self, noun: &str, figure: &Figure) -> String {
        let words = self.words;
        let (Some(low), Some(high)) = (figure.ci_low, figure.ci_high) else {
            return words.say(&words.verdict_none, &[("noun", noun)]);
        };
        let wording = if is_telling(figure) { &words.verdict_sure } else { &words.verdict_few };
        let counted = self.counted(noun, figure.unit, figure.numerator, figure.denominator);
        let (low, high) = (words.value(figure.unit, low), words.value(figure.unit, high));
        words.say(wording, &[("low", &low), ("high", &high), ("counted", &counted), ("noun", noun)])
    }

    fn notes(&self, figure: &Figure, certainty: &Certainty) -> Vec<Note> {
        let words = self.words;
        let unit = figure.unit;
        let mut notes = Vec::new();
        if let Some(Compared { value, difference, ci_low, ci_high, change }) = &certainty.before {
            let (wording, kind, sign) = match change.as_str() {
                "rose" => (&words.before_rose, "good", "▲"),
                "fell" => (&words.before_fell, "bad", "▼"),
                _ => (&words.before_no_evidence, "", "≈"),
            };
            // How far it fell is told as a distance, so the bounds change places.
            let (sign_of, low, high) =
                if change == "fell" { (-1.0, ci_high, ci_low) } else { (1.0, ci_low, ci_high) };
            let in_points = if unit == Unit::Share { 100.0 } else { 1.0 };
            let points =
                |number: &Option<f64>| self.value_text(Unit::Points, number.map(|n| sign_of * in_points * n));
            let values = [
                ("before", self.value_text(unit, *value)),
                ("difference", points(difference)),
                ("low", points(low)),
                ("high", points(high)),
            ];
            let values: Vec<_> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
            notes.push(Note { kind, sign, text: words.say(wording, &values) });
        }
        if let Some(Target { target, verdict, more }) = &certainty.target {
            let target = words.value(unit, *target);
            let (wording, kind, sign) = match verdict.as_str() {
                "above" => (&words.target_above, "good", "✓"),
                "below" => (&words.target_below, "bad", "!"),
                _ => (&words.target_undecided, "", "?"),
            };
            let mut text = words.say(wording, &[("target", &target)]);
            if let Some(more) = more {
                let more = words.count(i64::try_from(*more).unwrap_or(i64::MAX));
                text = format!("{text} {}", words.say(&words.target_more, &[("n", &more)]));
            }
            notes.push(Note { kind, sign, text });
        }
        notes
    }

    /// What else there is to know before one relies on the figure.
    fn sure(&self, figure: &Figure, certainty: &Certainty) -> Vec<String> {
        let words = self.words;
        let unit = figure.unit;
        let mut sure = Vec::new();
        if let Some(Weighted { value: Some(value), ci_low: Some(low), ci_high: Some(high), effective }) =
            certainty.weighted
        {
            let effective = effective.map_or_else(|| words.none.clone(), |n| words.decimal(n, 0));
            let (value, interval) = (words.value(unit, value), words.range(unit, (low, high)));
            let values = [("value", value.as_str()), ("interval", &interval), ("effective", &effective)];
            sure.push(words.say(&words.weighted, &values));
        }
        if let Some(Bounds { worst: Some(worst), best: Some(best) }) = certainty.bounds {
            let (worst, best) = (words.value(unit, worst), words.value(unit, best));
            sure.push(words.say(&words.bounds, &[("worst", &worst), ("best", &best)]));
        }
        if let Some(suspects) = figure.with_suspects
            && (suspects.numerator, suspects.denominator) != (figure.numerator, figure.denominator)
        {
            let value = self.value_text(unit, suspects.value);
            let n = words.count(suspects.denominator);
            sure.push(words.say(&words.suspects, &[("value", &value), ("n", &n)]));
        }
        sure
    }

    pub(super) fn headline_table(&self) -> Table {
        let words = self.words;
        let rows = self.shop.metrics.iter().map(|(metric, figure)| {
            let name = Cell::head(self.named(metric).0);
            let [value, low, high] =
                [figure.value, figure.ci_low, figure.ci_high].map(|number| self.cell(figure.unit, number));
            vec![
                name,
                value,
                low,
                high,
                self.count_cell(figure.numerator),
                self.count_cell(figure.denominator),
            ]
        });
        Table {
            shop: self.shop.name.clone(),
            caption: words.headlines.clone(),
            head: [
                &words.col_figure,
                &words.col_value,
                &words.col_low,
                &words.col_high,
                &words.col_n,
                &words.col_of,
            ]
            .map(Clone::clone)
            .to_vec(),
            rows: rows.collect(),
        }
    }
}

fn is_telling(figure: &Figure) -> bool {
    let (bottom, top) = figure.unit.range();
    let width = figure.ci_low.zip(figure.ci_high).map(|(low, high)| high - low);
    width.is_some_and(|width| width <= TELLING * (top - bottom))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certainty_is_read_as_figures_tell_it() {
        let told = serde_json::json!({
            "before": { "value": 0.8, "numerator": 8, "denominator": 10, "difference": 0.1, "ci_low": 0.01, "ci_high": 0.19,
                        "change": "rose" },
            "target": { "target": 0.9, "verdict": "undecided", "more": 120 },
            "weighted": { "value": 0.81, "ci_low": 0.7, "ci_high": 0.9, "effective": 88.5, "design_effect": 1.1,
                          "facts": ["country"], "collapsed": [] },
            "bounds": { "worst": 0.3, "best": 0.95 },
        });
        let certainty = Certainty::read(told);
        assert_eq!(certainty.before.unwrap().change, "rose");
        assert_eq!(certainty.target.unwrap().more, Some(120));
        assert_eq!(certainty.weighted.unwrap().effective, Some(88.5));
        assert_eq!(certainty.bounds.unwrap().best, Some(0.95));
        // A figure without it is shown without it.
        assert!(Certainty::read(serde_json::Value::Null).before.is_none());
        assert!(Certainty::read(serde_json::json!({ "target": null })).target.is_none());
    }
}
