//! The course of each figure: its interval as a band, its limits, and what is out of the ordinary.

use std::collections::BTreeMap;

use super::control::Control;
use super::headline::Certainty;
use super::{About, Cell, Drawn, Table, stretch};
use crate::metrics::figure::{Measure, Unit};
use crate::metrics::period::Period;
use crate::metrics::report::chart::{self, Dot, Line, Told};
use crate::metrics::series::{Point, Series};
use crate::metrics::window::day_of;
use crate::metrics::{METRICS, Metric, control_chart};

/// So many signals of a series are told at most, the latest.
const MOST_SIGNALS: usize = 5;

/// How many signals began after what the page is compared with, and how many of these the page explains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Signals {
    pub(super) new: usize,
    pub(super) explained: usize,
}

impl Signals {
    pub(super) fn and(self, other: Self) -> Self {
        Self { new: self.new + other.new, explained: self.explained + other.explained }
    }
}

impl About<'_> {
    /// A drawing of each figure of which there is anything, and how many new signals it has.
    pub(super) fn courses(&self, series: &Series) -> Vec<(Drawn, Signals)> {
        METRICS.iter().filter_map(|metric| self.course(metric, series)).collect()
    }

    fn course(&self, metric: &Metric, series: &Series) -> Option<(Drawn, Signals)> {
        let words = self.words;
        let (name, _) = self.named(metric);
        let measures: Vec<Measure> = series
            .points
            .iter()
            .map(|point| point.metrics.get(metric.key).copied())
            .collect::<Option<_>>()?;
        let unit = measures.first()?.unit;
        if measures.iter().all(|measure| measure.value.is_none()) {
            return None;
        }
        let today = day_of(self.contents.report.as_of, self.shop.timezone);
        let is_settled: Vec<bool> = series
            .points
            .iter()
            .map(|point| point.complete && metric.is_ripe(point.days.ends_on, today))
            .collect();
        let control = if metric.grows { Control::none() } else { Control::of(&measures, &is_settled, unit) };
        let mut remarks = control.remarks(self, series);
        let is_quiet = remarks.is_empty();
        let known_until = self.known_until();
        let is_new = |(i, _): &&(usize, String)| {
            let end = series.points.get(*i).map(|point| stretch(point).moments(self.shop.timezone).1);
            end > known_until
        };
        let new = remarks.iter().filter(is_new).count();
        let hidden = remarks.len().saturating_sub(MOST_SIGNALS);
        remarks.drain(..hidden);
        let signals = Signals { new, explained: remarks.iter().filter(is_new).count() };
        let marks: BTreeMap<usize, usize> =
            remarks.iter().enumerate().map(|(n, (i, _))| (*i, n + 1)).collect();
        let dots: Vec<Dot> = series
            .points
            .iter()
            .zip(&measures)
            .enumerate()
            .map(|(i, (point, measure))| Dot {
                label: words.period_short(series.period, point.days.starts_on),
                value: measure.value,
                interval: measure.ci_low.zip(measure.ci_high),
                limits: control.limits.get(&i).copied(),
                is_whole: is_settled[i],
                mark: marks.get(&i).copied(),
            })
            .collect();
        let title =
            words.say(&words.course_title, &[("name", name), ("period", self.period_word(series.period))]);
        let text = self.course_text(&series.points, &measures, series.period, unit);
        let figure = self.shop.metrics.get(metric.key)?;
        let target = Certainty::of(figure).target.map(|target| target.target);
        let level = words.say(&words.gauge_target, &[("target", &self.value_text(unit, target))]);
        let svg = chart::line(&Line {
            told: Told { id: &self.id(metric.key), title: &title, text: &text },
            dots: &dots,
            center: control.center,
            level: target.map(|target| (target, level.as_str())),
            range: unit.range(),
            number: &|value| words.tick(unit, value),
        });
        let mut notes = Vec::new();
        match control.center {
            Some(center) => {
                let center = words.value(unit, center);
                notes.push(words.say(&words.course_center, &[("center", &center)]));
                if is_quiet {
                    notes.push(words.course_quiet.clone());
                }
            }
            None if metric.grows => notes.push(words.course_grows.clone()),
            None => {
                let least = words.count(control_chart::LEAST as i64);
                notes.push(words.say(&words.course_too_few, &[("n", &least)]));
            }
        }
        let table = self.course_table(&title, series, &measures, &control, &marks);
        let remarks = remarks.into_iter().map(|(_, text)| text).collect();
        if hidden > 0 {
            let n = words.count(i64::try_from(hidden).unwrap_or(i64::MAX));
            notes.push(words.say(&words.course_more_signals, &[("n", &n)]));
        }
        Some((
            Drawn {
                shop: self.shop.name.clone(),
                title: name.to_owned(),
                svg,
                is_wide: false,
                notes,
                remarks,
                table,
            },
            signals,
        ))
    }

    fn course_text(&self, points: &[Point], measures: &[Measure], period: Period, unit: Unit) -> String {
        let words = self.words;
        let known: Vec<_> = points
            .iter()
            .zip(measures)
            .filter_map(|(point, measure)| Some((point, measure.value?)))
            .collect();
        let (Some((first, from)), Some((last, to))) = (known.first(), known.last()) else {
            return words.course_text_empty.clone();
        };
        let by = |a: &&(&Point, f64), b: &&(&Point, f64)| a.1.total_cmp(&b.1);
        let (Some((_, low)), Some((_, high))) = (known.iter().min_by(by), known.iter().max_by(by)) else {
            return words.course_text_empty.clone();
        };
        let [from, to, low, high] = [from, to, low, high].map(|value| words.value(unit, *value));
        let [first, last] = [first, last].map(|point| words.period_long(period, stretch(point)));
        let values = [
            ("first", &first),
            ("from", &from),
            ("last", &last),
            ("to", &to),
            ("low", &low),
            ("high", &high),
        ];
        words.say(&words.course_text, &values.map(|(name, value)| (name, value.as_str())))
    }

    fn course_table(
        &self,
        caption: &str,
        series: &Series,
        measures: &[Measure],
        control: &Control,
        marks: &BTreeMap<usize, usize>,
    ) -> Table {
        let words = self.words;
        let rows = series.points.iter().zip(measures).enumerate().map(|(i, (point, measure))| {
            let limits = control.limits.get(&i);
            let limits =
                limits.map_or_else(|| words.none.clone(), |limits| words.range(measure.unit, *limits));
            let mark = marks.get(&i).map_or_else(String::new, ToString::to_string);
            let [value, low, high] = [measure.value, measure.ci_low, measure.ci_high]
                .map(|number| self.cell(measure.unit, number));
            vec![
                Cell::head(self.period_name(series.period, point)),
                value,
                low,
                high,
                self.count_cell(measure.numerator),
                self.count_cell(measure.denominator),
                Cell::text(limits),
                Cell::text(mark),
            ]
        });
        let head = [
            &words.col_period,
            &words.col_value,
            &words.col_low,
            &words.col_high,
            &words.col_n,
            &words.col_of,
            &words.col_limits,
            &words.col_remark,
        ];
        Table {
            shop: self.shop.name.clone(),
            caption: caption.to_owned(),
            head: head.map(Clone::clone).to_vec(),
            rows: rows.collect(),
        }
    }
}
