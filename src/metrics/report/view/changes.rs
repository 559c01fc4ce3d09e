//! What is not as it was in the stretch of time before, in the last report, or a week before.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::course::Signals;
use super::{About, capitalised};
use crate::metrics::figure::Measure;
use crate::metrics::report::Before;
use crate::metrics::report::words::Words;

impl About<'_> {
    pub(super) fn changed_since(&self) -> String {
        let Self { words, shop, .. } = *self;
        let at = |moment| words.moment(moment, shop.timezone);
        match (&self.contents.before, &shop.before) {
            (Before::Stretch, None) => words.changed_stretch.clone(),
            (Before::Stretch, Some(stretch)) => {
                let (from, to) = (at(stretch.from), at(stretch.to));
                words.say(&words.changed_stretch_between, &[("from", &from), ("to", &to)])
            }
            (Before::Last(before), _) => words.say(&words.changed_last, &[("date", &at(before.as_of))]),
            (Before::Week(before), _) => words.say(&words.changed_week, &[("date", &at(before.as_of))]),
        }
    }

    /// What ended later is new; `None`: all that there is.
    pub(super) fn known_until(&self) -> Option<DateTime<Utc>> {
        match &self.contents.before {
            Before::Stretch => None,
            Before::Last(before) | Before::Week(before) => Some(before.as_of),
        }
    }

    /// The figures as they were, by the key of the metric.
    fn figures_before(&self) -> BTreeMap<&'static str, Measure> {
        let shop = self.shop;
        match &self.contents.before {
            Before::Stretch => shop.before.as_ref().map(|before| before.metrics.clone()).unwrap_or_default(),
            Before::Last(before) | Before::Week(before) => {
                let before = before.shops.iter().filter(|other| other.shop == shop.shop);
                let figures = before.flat_map(|before| before.metrics.iter());
                figures.map(|(metric, figure)| (metric.key, Measure::of(figure.counts))).collect()
            }
        }
    }

    /// What is not as it was, in three sentences at most.
    pub(super) fn changes(&self, signals: Signals) -> Vec<String> {
        let Self { words, shop, .. } = *self;
        let before = self.figures_before();
        if before.values().all(|measure| measure.denominator == 0) {
            return vec![words.changed_nothing_before.clone()];
        }
        let mut sentences = vec![self.changed_figures(&before)];
        // What is counted by answers, mails and customers, each named once.
        let mut nouns = BTreeSet::new();
        let added: Vec<_> = shop
            .metrics
            .iter()
            .filter_map(|(metric, figure)| {
                let earlier = before.get(metric.key)?.denominator;
                let is_new = figure.denominator != earlier && nouns.insert(metric.noun);
                let values = [words.count(figure.denominator), words.count(earlier)];
                is_new.then(|| {
                    let [now, then] = values;
                    words.say(
                        &words.changed_volumes,
                        &[("now", &now), ("then", &then), ("noun", self.named(metric).1)],
                    )
                })
            })
            .collect();
        if !added.is_empty() {
            sentences.push(capitalised(&format!("{}.", listed(words, &added))));
        }
        sentences.extend(new_signals(words, signals));
        sentences
    }

    /// The figures that moved by more than what is rounded away, the ones that moved most first.
    fn changed_figures(&self, before: &BTreeMap<&'static str, Measure>) -> String {
        const MOST: usize = 3;
        let words = self.words;
        let mut moved: Vec<_> = self
            .shop
            .metrics
            .iter()
            .filter_map(|(metric, figure)| {
                let (now, then) = (figure.value?, before.get(metric.key)?.value?);
                let (bottom, top) = figure.unit.range();
                let share = (now - then).abs() / (top - bottom);
                let [now, then] = [now, then].map(|value| words.value(figure.unit, value));
                (now != then).then(|| {
                    let name = self.named(metric).0;
                    let text =
                        words.say(&words.changed_figure, &[("name", name), ("then", &then), ("now", &now)]);
                    (share, text)
                })
            })
            .collect();
        if moved.is_empty() {
            return words.changed_none.clone();
        }
        moved.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let moved: Vec<_> = moved.into_iter().take(MOST).map(|(_, text)| text).collect();
        words.say(&words.changed_figures, &[("figures", &listed(words, &moved))])
    }
}

/// What is out of the ordinary and was not yet then.
fn new_signals(words: &Words, Signals { new, explained }: Signals) -> Option<String> {
    let wording = match new {
        0 => return None,
        1 => &words.changed_signals_one,
        _ if explained < new => &words.changed_signals_partly,
        _ => &words.changed_signals,
    };
    let [n, explained] = [new, explained].map(|n| words.count(i64::try_from(n).unwrap_or(i64::MAX)));
    Some(words.say(wording, &[("n", &n), ("explained", &explained)]))
}

/// `a, b and c`.
fn listed(words: &Words, items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [others @ .., last] => format!("{} {} {last}", others.join(", "), words.and),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Locale;

    #[test]
    fn lists_are_written_as_people_write_them() {
        let words = crate::metrics::report::words::words(None).unwrap();
        let items = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(listed(words, &items), "a, b and c");
        assert_eq!(listed(words, &items[..1]), "a");
        assert_eq!(listed(words, &[]), "");
        assert_eq!(capitalised("état"), "État");
    }

    #[test]
    fn signals_are_counted_as_people_count() {
        let english = crate::metrics::report::words::words(None).unwrap();
        let french = crate::metrics::report::words::words(Some(&Locale::parse("fr").unwrap())).unwrap();
        let check = |words, (new, explained), expected: &str| {
            let said = new_signals(words, Signals { new, explained }).unwrap_or_default();
            assert!(said.ends_with(expected) && said.is_empty() == expected.is_empty(), "{said}");
        };
        check(english, (0, 0), "");
        check(english, (1, 1), ", one signal is out of the ordinary; it is explained below.");
        check(english, (2, 2), ", 2 signals are out of the ordinary; they are explained below.");
        check(english, (7, 5), ", 7 signals are out of the ordinary; 5 of them are explained below.");
        check(french, (1, 1), ", un signal sort de l’ordinaire\u{202f}; il est expliqué plus bas.");
        check(french, (2, 2), ", 2 signaux sortent de l’ordinaire\u{202f}; ils sont expliqués plus bas.");
        check(
            french,
            (7, 5),
            ", 7 signaux sortent de l’ordinaire\u{202f}; 5 d’entre eux sont expliqués plus bas.",
        );
    }
}
