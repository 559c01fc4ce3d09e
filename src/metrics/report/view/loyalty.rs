//! When customers come back, and whether those who recommend the shop do.

use serde::Serialize;

use super::{About, Cell};
use crate::metrics::figure::Unit;
use crate::metrics::loyalty::Loyalty;
use crate::metrics::report::SecondOrder;
use crate::metrics::report::chart::{self, Gauge, Told};
use crate::metrics::series::FEW;

#[derive(Serialize)]
pub(super) struct Stat {
    name: String,
    value: String,
    interval: Option<String>,
    text: String,
}

#[derive(Serialize)]
pub(super) struct RepeatView {
    title: String,
    rows: Vec<RepeatRow>,
}

#[derive(Serialize)]
struct RepeatRow {
    said: String,
    within: String,
    value: Cell,
    gauge: Option<String>,
    interval: String,
    counted: String,
}

impl About<'_> {
    pub(super) fn waits(&self, loyalty: &Loyalty) -> Vec<Stat> {
        let words = self.words;
        let days = |n: &str| words.say(&words.days, &[("n", n)]);
        let mut stats = Vec::new();
        if let Some(SecondOrder { customers, returned, median, by }) = &self.more.second_order {
            let count = |n: u64| words.count(i64::try_from(n).unwrap_or(i64::MAX));
            let values = [("customers", count(*customers)), ("returned", count(*returned))];
            let values = values.each_ref().map(|(name, value)| (*name, value.as_str()));
            let day = |day: u32| words.count(i64::from(day));
            stats.push(Stat {
                name: words.next_km.clone(),
                value: median.day.map_or_else(|| words.none.clone(), |n| days(&day(n))),
                interval: match (median.day, median.from, median.to) {
                    (Some(_), Some(from), Some(to)) => {
                        Some(words.say(&words.days_interval, &[("low", &day(from)), ("high", &day(to))]))
                    }
                    (Some(_), Some(from), None) => {
                        Some(words.say(&words.days_interval_open, &[("low", &day(from))]))
                    }
                    _ => None,
                },
                text: match median.day {
                    Some(_) => words.say(&words.next_km_how, &values),
                    None => words.say(&words.next_km_unreached, &values),
                },
            });
            for (horizon, returned) in by {
                let name = words.say(&words.next_by, &[("n", &horizon.to_string())]);
                stats.push(match returned {
                    Some(returned) => {
                        let range = words.range(Unit::Share, (returned.interval.low, returned.interval.high));
                        let at_risk = count(returned.at_risk);
                        Stat {
                            name,
                            value: words.percent(returned.share, 1),
                            interval: Some(words.say(&words.interval, &[("interval", &range)])),
                            text: words.say(&words.next_by_how, &[("n", &at_risk)]),
                        }
                    }
                    None => Stat {
                        name,
                        value: words.none.clone(),
                        interval: None,
                        text: words.next_by_none.clone(),
                    },
                });
            }
        }
        let gaps = loyalty.days_to_next_order;
        if gaps.n > 0 {
            stats.push(Stat {
                name: words.next_plain.clone(),
                value: gaps.median.map_or_else(|| words.none.clone(), |n| days(&words.decimal(n, 1))),
                interval: None,
                text: words.say(&words.next_plain_how, &[("n", &words.count(gaps.n))]),
            });
        }
        stats
    }

    /// A table for each kind of answer that anybody can give.
    pub(super) fn repeat(&self, loyalty: &Loyalty) -> Vec<RepeatView> {
        let words = self.words;
        let titles = [
            ("recommendation", &words.repeat_by_recommendation),
            ("nps", &words.repeat_by_nps),
            ("no_answer", &words.repeat_by_no_answer),
        ];
        let views = titles.into_iter().map(|(by, title)| {
            let rows = loyalty.repeat_by_answer.iter().filter(|repeat| repeat.by == by);
            let rows = rows.filter(|repeat| repeat.measure.denominator > 0).map(|repeat| {
                let measure = &repeat.measure;
                let said = words.said.get(repeat.answer).map_or(repeat.answer, String::as_str);
                let interval = measure.ci_low.zip(measure.ci_high);
                let range = interval.map(|interval| words.range(measure.unit, interval));
                let days = words.say(&words.days, &[("n", &repeat.days.to_string())]);
                let value = self.value_text(measure.unit, measure.value);
                let gauge = measure.value.zip(interval).map(|(number, interval)| {
                    let title = words
                        .say(&words.gauge_title, &[("name", &format!("{said}, {days}")), ("value", &value)]);
                    let text =
                        words.say(&words.gauge_text, &[("interval", range.as_deref().unwrap_or_default())]);
                    let id = self.id(&format!("repeat-{by}-{}-{}", repeat.answer, repeat.days));
                    let told = Told { id: &id, title: &title, text: &text };
                    chart::gauge(
                        told,
                        &Gauge { value: number, interval, range: measure.unit.range(), target: None },
                    )
                });
                let (n, of) = (words.count(measure.numerator), words.count(measure.denominator));
                let mut counted = words
                    .say(&words.counted_share, &[("n", &n), ("of", &of), ("noun", "")])
                    .trim()
                    .to_owned();
                if measure.denominator < FEW {
                    counted = format!("{counted} {}", words.repeat_few);
                }
                RepeatRow {
                    said: said.to_owned(),
                    within: days,
                    value: self.cell(measure.unit, measure.value),
                    gauge,
                    interval: range.unwrap_or_else(|| words.none.clone()),
                    counted,
                }
            });
            RepeatView { title: title.clone(), rows: rows.collect() }
        });
        views.filter(|view| !view.rows.is_empty()).collect()
    }
}
