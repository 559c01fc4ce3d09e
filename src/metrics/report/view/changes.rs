//! What is not as it was in the window before, or a week before.

use std::collections::BTreeSet;

use super::{About, capitalised};
use crate::metrics::report::Before;
use crate::metrics::report::words::Words;
use crate::metrics::{Report, ShopReport};

impl About<'_> {
    pub(super) fn changed_since(&self) -> String {
        let words = self.words;
        match &self.contents.before {
            Before::Window(_) => words.changed_window.clone(),
            Before::Last(before) => {
                let day = words.moment(before.as_of, self.shop.timezone);
                words.say(&words.changed_last, &[("date", &day)])
            }
            Before::Week(before) => {
                let day = words.moment(before.as_of, self.shop.timezone);
                words.say(&words.changed_week, &[("date", &day)])
            }
        }
    }

    /// What is not as it was, in three sentences at most.
    pub(super) fn changes(&self, n_signals: usize) -> Vec<String> {
        let Self { words, shop, .. } = *self;
        let before: &Report = self.contents.before.report();
        let Some(before) = before.shops.iter().find(|other| other.shop == shop.shop) else {
            return Vec::new();
        };
        let was_there = before.metrics.iter().any(|(_, figure)| figure.denominator > 0);
        if !was_there {
            return vec![words.changed_nothing_before.clone()];
        }
        let mut sentences = vec![self.changed_figures(before)];
        // What is counted by answers, mails and customers, each named once.
        let mut nouns = BTreeSet::new();
        let added: Vec<_> = shop
            .metrics
            .iter()
            .filter_map(|(metric, figure)| {
                let earlier = before.metrics.get(metric.key)?.denominator;
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
        if n_signals > 0 {
            let n = words.count(i64::try_from(n_signals).unwrap_or(i64::MAX));
            sentences.push(words.say(&words.changed_signals, &[("n", &n)]));
        }
        sentences
    }

    /// The figures that moved by more than what is rounded away, the ones that moved most first.
    fn changed_figures(&self, before: &ShopReport) -> String {
        const MOST: usize = 3;
        let words = self.words;
        let mut moved: Vec<_> = self
            .shop
            .metrics
            .iter()
            .filter_map(|(metric, figure)| {
                let (now, then) = (figure.value?, before.metrics.get(metric.key)?.value?);
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

    #[test]
    fn lists_are_written_as_people_write_them() {
        let words = crate::metrics::report::words::words(None).unwrap();
        let items = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(listed(words, &items), "a, b and c");
        assert_eq!(listed(words, &items[..1]), "a");
        assert_eq!(listed(words, &[]), "");
        assert_eq!(capitalised("état"), "État");
    }
}
