//! How many customers have come back after so many days, although many were watched for a shorter time only.
//!
//! The estimator of Kaplan and Meier (Journal of the American Statistical Association 53, 457–481, 1958): on each day with returns, the
//! share still away is multiplied by 1 − returns / customers who were still away and still watched. The last customers enter for as
//! long as they could be seen, instead of dragging the rate down as "not returned". The variance is Greenwood's; the interval is the
//! log-log one, S^exp(±z·√(Σ d/(n(n − d)))/ln S) (Kalbfleisch and Prentice, The Statistical Analysis of Failure Time Data, 1980), which
//! stays within 0 and 1. Before the first return and when nobody is left it does not exist, and Wilson's takes its place.
//!
//! It takes leaving the watch for chance: a customer who is new today is taken for one who was new last year.

use std::collections::BTreeMap;

use super::interval::{self, Interval};
use super::normal::Z_95 as Z;

/// The customers who were seen to return, or were lost from sight, the same number of days after they began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spell {
    /// Days from the first order to the second one, or to the end of the watch.
    pub days: u32,
    /// How many came back on that day.
    pub returned: u64,
    /// How many had not come back when the watch ended on that day.
    pub away: u64,
}

/// The share still away, as it goes down with the days.
#[derive(Debug, Clone, PartialEq)]
pub struct Survival {
    /// The days on which somebody came back.
    pub steps: Vec<Step>,
    /// The longest anybody was watched, in days; beyond, nothing is known.
    pub watched: u32,
    customers: u64,
    /// The days on which watches ended or somebody came back, and how many customers were left on that day.
    left: Vec<(u32, u64)>,
}

/// A day on which customers came back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Days since the first order.
    pub day: u32,
    /// Customers still away and watched that morning.
    pub at_risk: u64,
    /// How many of them came back.
    pub returned: u64,
    /// The share still away that night, from 0 to 1.
    pub away: f64,
    /// Its standard error (Greenwood).
    pub error: f64,
    /// Its 95 % interval.
    pub interval: Interval,
}

/// How many have come back by a day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Returned {
    /// From 0 to 1.
    pub share: f64,
    /// Its 95 % interval.
    pub interval: Interval,
    /// Customers still away and watched on that day: the figure rests on few when these are few.
    pub at_risk: u64,
}

/// The day by which half of the customers have come back, and its 95 % interval: the days on which the interval of the share still
/// away contains one half (Brookmeyer and Crowley, Biometrics 38, 29–41, 1982).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Median {
    /// The day; `None` while fewer than half are known to return.
    pub day: Option<u32>,
    /// The lower bound.
    pub from: Option<u32>,
    /// The upper bound; `None` where the data does not give one.
    pub to: Option<u32>,
}

/// The share still away over time; `None` without customers. The spells may come in any order.
pub fn kaplan_meier(spells: &[Spell]) -> Option<Survival> {
    let mut days: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for spell in spells.iter().filter(|spell| spell.returned + spell.away > 0) {
        let day = days.entry(spell.days).or_default();
        day.0 += spell.returned;
        day.1 += spell.away;
    }
    let watched = *days.last_key_value()?.0;
    let customers: u64 = days.values().map(|(returned, away)| returned + away).sum();
    let mut at_risk = customers;
    let (mut away, mut greenwood) = (1.0, 0.0);
    let (mut steps, mut left) = (Vec::new(), Vec::with_capacity(days.len()));
    for (day, (returned, ended)) in days {
        left.push((day, at_risk));
        if returned > 0 {
            let (n, d) = (at_risk as f64, returned as f64);
            away *= 1.0 - d / n;
            greenwood += d / (n * (n - d));
            // When all of them came back, 0 times infinity.
            let error = if returned == at_risk { 0.0 } else { away * greenwood.sqrt() };
            steps.push(Step {
                day,
                at_risk,
                returned,
                away,
                error,
                interval: log_log(away, greenwood, at_risk),
            });
        }
        // Whose watch ended on a day was still watched on it.
        at_risk -= returned + ended;
    }
    Some(Survival { steps, watched, customers, left })
}

fn log_log(away: f64, greenwood: f64, at_risk: u64) -> Interval {
    if away <= 0.0 {
        let high = interval::wilson_effective(0.0, at_risk as f64).map_or(1.0, |i| i.high);
        return Interval { low: 0.0, high };
    }
    let spread = (Z * greenwood.sqrt() / away.ln()).abs();
    Interval { low: away.powf(spread.exp()), high: away.powf((-spread).exp()) }
}

impl Survival {
    /// How many have come back by the end of this day, 1 − S(day); `None` for days nobody was watched for.
    pub fn returned_by(&self, day: u32) -> Option<Returned> {
        if day > self.watched {
            return None;
        }
        let at_risk = self.left.iter().find(|(from, _)| *from >= day).map_or(0, |(_, left)| *left);
        let steps = self.steps.partition_point(|step| step.day <= day);
        let (away, interval) = match steps.checked_sub(1).map(|last| self.steps[last]) {
            Some(step) => (step.away, step.interval),
            None => (1.0, interval::wilson_effective(1.0, self.customers as f64)?),
        };
        let interval = Interval { low: 1.0 - interval.high, high: 1.0 - interval.low };
        Some(Returned { share: 1.0 - away, interval, at_risk })
    }

    /// The day by which half have come back.
    pub fn median(&self) -> Median {
        let first =
            |value: fn(&Step) -> f64| self.steps.iter().find(|step| value(step) <= 0.5).map(|s| s.day);
        Median {
            day: first(|step| step.away),
            from: first(|step| step.interval.low),
            to: first(|step| step.interval.high),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::chance::{Chance, measured};

    fn spells(returned: &[u32], away: &[u32]) -> Vec<Spell> {
        let returned = returned.iter().map(|days| Spell { days: *days, returned: 1, away: 0 });
        returned.chain(away.iter().map(|days| Spell { days: *days, returned: 0, away: 1 })).collect()
    }

    /// Weeks of remission under 6-mercaptopurine: Freireich and others, Blood 21, 699–716, 1963; in Kalbfleisch and Prentice 1980 and
    /// many textbooks since.
    fn remission() -> Survival {
        let relapsed = [6, 6, 6, 7, 10, 13, 16, 22, 23];
        let censored = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35];
        kaplan_meier(&spells(&relapsed, &censored)).unwrap()
    }

    #[test]
    fn the_published_example() {
        // Share and error as in Kleinbaum and Klein, Survival Analysis; the log-log intervals as lifelines 0.30 gives them.
        let expected = [
            (6, 21, 3, 0.8571, 0.0764, 0.619_718, 0.951_552),
            (7, 17, 1, 0.8067, 0.0869, 0.563_147, 0.922_809),
            (10, 15, 1, 0.7529, 0.0963, 0.503_200, 0.889_362),
            (13, 12, 1, 0.6902, 0.1068, 0.431_610, 0.849_066),
            (16, 11, 1, 0.6275, 0.1141, 0.367_511, 0.804_912),
            (22, 7, 1, 0.5378, 0.1282, 0.267_779, 0.746_791),
            (23, 6, 1, 0.4482, 0.1346, 0.188_052, 0.680_143),
        ];
        let found = remission();
        assert_eq!(found.steps.len(), expected.len());
        for (step, (day, at_risk, returned, away, error, low, high)) in found.steps.iter().zip(expected) {
            assert_eq!((step.day, step.at_risk, step.returned), (day, at_risk, returned));
            assert!((step.away - away).abs() <= 0.5e-4 && (step.error - error).abs() <= 0.5e-4, "{step:?}");
            let Interval { low: l, high: h } = step.interval;
            assert!((l - low).abs() <= 1e-6 && (h - high).abs() <= 1e-6, "{step:?}");
        }
        assert_eq!(found.median(), Median { day: Some(23), from: Some(13), to: None });
        // The placebo group: everybody relapsed.
        let placebo = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23];
        let found = kaplan_meier(&spells(&placebo, &[])).unwrap();
        assert_eq!(found.median(), Median { day: Some(8), from: Some(4), to: Some(11) });
        let last = found.steps.last().unwrap();
        assert_eq!((last.away, last.error, last.interval.low), (0.0, 0.0, 0.0));
        assert!(last.interval.high < 1.0);
    }

    #[test]
    fn how_many_have_come_back_by_a_day() {
        let found = remission();
        let by = found.returned_by(12).unwrap();
        assert!((by.share - 0.247_059).abs() < 1e-6, "{by:?}");
        assert!((by.interval.low - (1.0 - 0.889_362)).abs() < 1e-6, "{by:?}");
        assert_eq!(by.at_risk, 12);
        let none = found.returned_by(5).unwrap();
        assert_eq!((none.share, none.interval.low, none.at_risk), (0.0, 0.0, 21));
        assert!((none.interval.high - interval::wilson(0, 21).unwrap().high).abs() < 1e-12);
        assert_eq!(found.returned_by(35).unwrap().at_risk, 1);
        assert_eq!(found.returned_by(36), None);
        assert_eq!(kaplan_meier(&[]), None);
        assert_eq!(kaplan_meier(&[Spell { days: 3, returned: 0, away: 0 }]), None);
    }

    #[test]
    fn customers_may_come_in_groups_and_in_any_order() {
        let alone = kaplan_meier(&spells(&[5, 5, 9], &[5, 12, 12]));
        let grouped = [
            Spell { days: 12, returned: 0, away: 2 },
            Spell { days: 5, returned: 2, away: 1 },
            Spell { days: 9, returned: 1, away: 0 },
        ];
        assert_eq!(kaplan_meier(&grouped), alone);
    }

    #[test]
    fn short_watches_do_not_bias_it() {
        // Each customer returns with 0.4 % a day, and is watched for up to 400 days, the newest for the shortest time.
        let mut chance = Chance::new(3);
        let truth = 1.0 - (1.0_f64 - 0.004).powi(180);
        let runs = 300;
        let (mut covered, mut sum) = (0, 0.0);
        for _ in 0..runs {
            let spells: Vec<Spell> = (0..300)
                .map(|_| {
                    let back = (chance.unit().ln() / (1.0_f64 - 0.004).ln()).ceil() as u32;
                    let watch = 1 + (chance.bits() % 400) as u32;
                    let returned = u64::from(back <= watch);
                    Spell { days: back.min(watch), returned, away: 1 - returned }
                })
                .collect();
            let by = kaplan_meier(&spells).unwrap().returned_by(180).unwrap();
            sum += by.share;
            covered += i32::from(by.interval.low <= truth && truth <= by.interval.high);
        }
        let mean = sum / f64::from(runs);
        measured(format_args!("truth {truth:.4}, mean {mean:.4}, covered {covered} of {runs}"));
        assert!((mean - truth).abs() < 0.01, "{mean}, truth {truth}");
        assert!((276..=294).contains(&covered), "{covered} of {runs}");
    }
}
