//! What is ordinary for a series, and what is not, in words.

use std::collections::BTreeMap;

use super::{About, capitalised, stretch};
use crate::metrics::comparison::Share;
use crate::metrics::control_chart::{self, Baseline, Side, Signal};
use crate::metrics::figure::{Measure, Unit};
use crate::metrics::series::Series;

/// What is ordinary for a series, and what is not.
pub(super) struct Control {
    pub(super) center: Option<f64>,
    /// By the index of the point.
    pub(super) limits: BTreeMap<usize, (f64, f64)>,
    /// By the index of the point.
    signals: Vec<(usize, Vec<Signal>)>,
}

impl Control {
    /// There is nothing of which to say that it is ordinary.
    pub(super) fn none() -> Self {
        Self { center: None, limits: BTreeMap::new(), signals: Vec::new() }
    }

    /// Of the periods that are settled and have answers, which are compared with each other.
    pub(super) fn of(measures: &[Measure], is_settled: &[bool], unit: Unit) -> Self {
        let told: Vec<usize> =
            (0..measures.len()).filter(|i| is_settled[*i] && measures[*i].denominator > 0).collect();
        let chart = match unit {
            Unit::Share => {
                let shares: Option<Vec<_>> = told
                    .iter()
                    .map(|i| Share::counted(measures[*i].numerator, measures[*i].denominator))
                    .collect();
                shares.and_then(|shares| control_chart::shares(&shares, Baseline::Whole))
            }
            Unit::Points => {
                let nets: Option<Vec<_>> = told.iter().map(|i| measures[*i].net).collect();
                nets.and_then(|nets| control_chart::nets(&nets, Baseline::Whole))
            }
        };
        let Some(chart) = chart else { return Self::none() };
        let (bottom, top) = unit.range();
        let clipped = |low: f64, high: f64| (low.max(bottom), high.min(top));
        let told = || told.iter().copied().zip(&chart.points);
        Self {
            center: Some(chart.center),
            limits: told().map(|(i, point)| (i, clipped(point.limits.low, point.limits.high))).collect(),
            signals: told().map(|(i, point)| (i, point.signals.clone())).collect(),
        }
    }

    /// What is out of the ordinary, in words, each with the index of the point it begins at. What goes on over neighbouring periods is
    /// told once.
    pub(super) fn remarks(&self, about: &About<'_>, series: &Series) -> Vec<(usize, String)> {
        let words = about.words;
        let mut remarks: Vec<(usize, String)> = Vec::new();
        let mut open: Vec<(Signal, usize, usize)> = Vec::new();
        let mut ended: Vec<(Signal, usize, usize)> = Vec::new();
        for (i, signals) in &self.signals {
            let (going_on, over): (Vec<_>, Vec<_>) =
                open.drain(..).partition(|(signal, ..)| signals.contains(signal));
            ended.extend(over);
            open = going_on.into_iter().map(|(signal, first, _)| (signal, first, *i)).collect();
            for signal in signals {
                if !open.iter().any(|(other, ..)| other == signal) {
                    open.push((*signal, *i, *i));
                }
            }
        }
        ended.extend(open);
        ended.sort_by_key(|(_, first, _)| *first);
        for (signal, first, last) in ended {
            let name = |i: usize| {
                series
                    .points
                    .get(i)
                    .map_or_else(String::new, |point| words.period_long(series.period, stretch(point)))
            };
            let when = if first == last {
                name(first)
            } else {
                words.say(&words.signal_from_to, &[("from", &name(first)), ("to", &name(last))])
            };
            let wording = match signal {
                Signal::Beyond(Side::Above) => &words.signal_beyond_above,
                Signal::Beyond(Side::Below) => &words.signal_beyond_below,
                Signal::Drift(Side::Above) => &words.signal_drift_above,
                Signal::Drift(Side::Below) => &words.signal_drift_below,
                Signal::Run(Side::Above) => &words.signal_run_above,
                Signal::Run(Side::Below) => &words.signal_run_below,
            };
            let text = capitalised(&words.say(wording, &[("when", &when)]));
            // A point has one mark, whatever begins at it.
            match remarks.last_mut() {
                Some((at, told)) if *at == first => *told = format!("{told} {text}"),
                _ => remarks.push((first, text)),
            }
        }
        remarks
    }
}
