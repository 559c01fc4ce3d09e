//! How sure a figure is: 95 % intervals, pure arithmetic.
//!
//! Shares get the Wilson score interval (Wilson 1927; recommended over the textbook interval by Newcombe, Statistics in Medicine 17,
//! 857–872, 1998), which stays within 0 and 1 and is honest for few answers and for shares near 0 or 1. The net promoter score gets
//! the adjusted Wald interval (Rocks, The American Statistician 70, 2016; <https://measuringu.com/nps-confidence-intervals/>).
//!
//! Both take the answers as a random sample of the customers who could have answered, each independent of the others. Who does not
//! answer may think otherwise; no interval knows that. [`worst_best`] gives the bounds that hold whatever they think.
//!
//! Where answers carry weights, their number is the effective one (Kish; see [`weights`](super::weights)): [`wilson_effective`] and
//! [`adjusted_wald_effective`].
//!
//! How often the interval contains the truth, from the tests of this module. Wilson, for every true share from 60 to 97 %, computed
//! exactly: in 94.1 to 96.3 % of cases with 300 answers, in 93.3 to 97.2 % with 100; 95.1 % on average in both. The adjusted Wald
//! interval, for four shops, 20,000 draws each: 94.7 to 95.2 % with 300 answers and with 100.

use super::normal::Z_95 as Z;

/// Where the true figure lies, with 95 % confidence. Always contains the figure it belongs to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The lower bound.
    pub low: f64,
    /// The upper bound.
    pub high: f64,
}

impl Interval {
    /// From the lower to the upper bound.
    pub fn width(self) -> f64 {
        self.high - self.low
    }
}

/// The Wilson score interval of `hits` out of `total`; `None` when there is nothing to divide by.
///
/// With p = hits / total: center (p + z²/2n) / (1 + z²/n), half width z·√(p(1−p)/n + z²/4n²) / (1 + z²/n).
pub fn wilson(hits: i64, total: i64) -> Option<Interval> {
    wilson_effective(hits as f64 / total as f64, total as f64)
}

/// The Wilson score interval of a share from 0 to 1 that `n` answers of equal weight would give: for weighted answers their effective
/// number. `None` when there are none.
pub fn wilson_effective(share: f64, n: f64) -> Option<Interval> {
    // Not a number is neither.
    if !(n > 0.0 && (0.0..=1.0).contains(&share)) {
        return None;
    }
    let z2 = Z * Z;
    let scale = 1.0 + z2 / n;
    let center = (share + z2 / (2.0 * n)) / scale;
    let half = Z * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt() / scale;
    // None and all have 0 and 1 as exact bounds; rounding would miss them by the last bit.
    let low = if share == 0.0 { 0.0 } else { (center - half).clamp(0.0, share) };
    let high = if share == 1.0 { 1.0 } else { (center + half).clamp(share, 1.0) };
    Some(Interval { low, high })
}

/// The share of yes among all that were `asked` if those who did not answer all said no, and if they all said yes. Certain, and wide;
/// `None` when nobody was asked or the numbers contradict each other.
pub fn worst_best(hits: i64, answered: i64, asked: i64) -> Option<Interval> {
    if hits < 0 || hits > answered || answered > asked || asked <= 0 {
        return None;
    }
    let silent = asked - answered;
    Some(Interval { low: hits as f64 / asked as f64, high: (hits + silent) as f64 / asked as f64 })
}

/// The net promoter score of all that were `asked`, in points, if those who did not answer were all detractors, and if they were all
/// promoters; `None` when nobody was asked or the numbers contradict each other.
pub fn worst_best_net(promoters: i64, detractors: i64, answered: i64, asked: i64) -> Option<Interval> {
    let (yes, no) = (promoters, detractors);
    if yes < 0 || no < 0 || yes.checked_add(no)? > answered || answered > asked || asked <= 0 {
        return None;
    }
    let silent = asked - answered;
    let points = |net: i64| 100.0 * net as f64 / asked as f64;
    Some(Interval { low: points(yes - no - silent), high: points(yes - no + silent) })
}

/// The adjusted Wald interval of a net promoter score, in points from −100 to 100; `None` when nobody answered.
///
/// With n' = n + 3 answers, of them promoters + ¾ and detractors + ¾, as shares p and d: (p − d) ± z·√((p + d − (p − d)²) / n'). The
/// bounds are cut at ±100 and widened to the score itself, which matters for a single answer only.
pub fn adjusted_wald(promoters: i64, passives: i64, detractors: i64) -> Option<Interval> {
    let answers = (promoters + passives + detractors) as f64;
    adjusted_wald_effective(promoters as f64 / answers, detractors as f64 / answers, answers)
}

/// The adjusted Wald interval of a net promoter score whose promoters and detractors are these shares of `n` answers, which may be an
/// effective number; `None` when there are none.
pub fn adjusted_wald_effective(promoters: f64, detractors: f64, n: f64) -> Option<Interval> {
    let Adjusted { score, error } = adjusted(promoters, detractors, n)?;
    let low = (score - Z * error).max(-1.0).min(promoters - detractors);
    let high = (score + Z * error).min(1.0).max(promoters - detractors);
    Some(Interval { low: 100.0 * low, high: 100.0 * high })
}

/// A net promoter score from −1 to 1 after ¾ of a promoter, ¾ of a detractor and 1½ passives were added, and its standard error.
#[derive(Debug, Clone, Copy)]
pub(super) struct Adjusted {
    pub(super) score: f64,
    pub(super) error: f64,
}

/// The adjustment that the adjusted Wald interval makes; `None` when there are no answers.
pub(super) fn adjusted(promoters: f64, detractors: f64, n: f64) -> Option<Adjusted> {
    if !(n > 0.0 && promoters >= 0.0 && detractors >= 0.0 && promoters + detractors <= 1.0 + 1e-9) {
        return None;
    }
    let more = n + 3.0;
    let p = (promoters * n + 0.75) / more;
    let d = (detractors * n + 0.75) / more;
    Some(Adjusted { score: p - d, error: ((p + d - (p - d).powi(2)) / more).sqrt() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::chance::{Binomial, Chance, measured};

    #[track_caller]
    fn check(interval: Option<Interval>, low: f64, high: f64, digits: i32) {
        let interval = interval.expect("an interval");
        let tolerance = 0.5 * 10_f64.powi(-digits);
        assert!(
            (interval.low - low).abs() <= tolerance && (interval.high - high).abs() <= tolerance,
            "{interval:?}, expected {low} to {high}"
        );
    }

    #[test]
    fn wilson_gives_the_published_intervals() {
        // Newcombe 1998, table I, method 3 (score without continuity correction).
        check(wilson(81, 263), 0.2553, 0.3662, 4);
        check(wilson(15, 148), 0.0624, 0.1605, 4);
        check(wilson(0, 20), 0.0, 0.1611, 4);
        check(wilson(1, 29), 0.0061, 0.1718, 4);
        // Olist: answers with 4 or 5 points.
        check(wilson(2241, 4105), 0.530653, 0.561100, 6);
    }

    #[test]
    fn wilson_at_the_edges() {
        assert_eq!(wilson(0, 0), None);
        check(wilson(0, 1), 0.0, 0.793451, 6);
        check(wilson(1, 1), 0.206549, 1.0, 6);
        check(wilson(0, 10), 0.0, 0.277533, 6);
        check(wilson(10, 10), 0.722467, 1.0, 6);
        assert_eq!(wilson(0, 10).unwrap().low, 0.0);
        assert_eq!(wilson(10, 10).unwrap().high, 1.0);
    }

    #[test]
    fn adjusted_wald_gives_what_the_formula_gives_elsewhere() {
        // Computed with Python from the formula of the source.
        check(adjusted_wald(19, 10, 7), 6.248007, 55.290454, 6);
        check(adjusted_wald(500, 300, 200), 25.077000, 34.743538, 6);
        check(adjusted_wald(0, 1, 0), -60.011396, 60.011396, 6);
        check(adjusted_wald(1, 0, 0), -48.498649, 100.0, 6);
        check(adjusted_wald(0, 0, 1), -100.0, 48.498649, 6);
        assert_eq!(adjusted_wald(0, 0, 0), None);
    }

    #[test]
    fn weighted_answers_count_as_many_as_they_are_worth() {
        assert_eq!(wilson_effective(0.5, 200.0), wilson(100, 200));
        // 400 answers with a design effect of 2.
        assert_eq!(wilson_effective(0.25, 400.0 / 2.0), wilson(50, 200));
        let (half, full) = (wilson_effective(0.8, 150.5).unwrap(), wilson_effective(0.8, 301.0).unwrap());
        assert!(full.width() < half.width());
        assert_eq!(wilson_effective(0.5, 0.0), None);
        assert_eq!(wilson_effective(f64::NAN, 10.0), None);
        assert_eq!(wilson_effective(1.1, 10.0), None);
        assert_eq!(adjusted_wald_effective(0.5, 0.2, 1_000.0), adjusted_wald(500, 300, 200));
        assert_eq!(adjusted_wald_effective(0.5, 0.2, f64::NAN), None);
        assert_eq!(adjusted_wald_effective(0.7, 0.7, 10.0), None);
    }

    #[test]
    fn the_worst_and_the_best_that_silence_may_hide() {
        assert_eq!(worst_best(80, 100, 400), Some(Interval { low: 0.2, high: 0.95 }));
        assert_eq!(worst_best(80, 100, 100), Some(Interval { low: 0.8, high: 0.8 }));
        assert_eq!(worst_best(0, 0, 10), Some(Interval { low: 0.0, high: 1.0 }));
        assert_eq!(worst_best(0, 0, 0), None);
        assert_eq!(worst_best(3, 2, 10), None);
        // 60 promoters, 10 passives and 30 detractors of 100 answers to 200 mails.
        assert_eq!(worst_best_net(60, 30, 100, 200), Some(Interval { low: -35.0, high: 65.0 }));
        assert_eq!(worst_best_net(0, 0, 0, 10), Some(Interval { low: -100.0, high: 100.0 }));
        assert_eq!(worst_best_net(60, 41, 100, 200), None);
        assert_eq!(worst_best_net(0, 0, 0, 0), None);
    }

    /// How often the interval of a number of answers contains the share they were drawn from: the sum of the probabilities of the
    /// counts whose interval does.
    fn coverage(n: u32, share: f64, interval: impl Fn(i64) -> Option<Interval>) -> f64 {
        let answers = Binomial::new(n, share);
        let contains = |hits: i64| interval(hits).is_some_and(|i| i.low <= share && share <= i.high);
        (0_i64..).zip(answers.probabilities()).filter(|(hits, _)| contains(*hits)).map(|(_, p)| p).sum()
    }

    #[test]
    fn wilson_contains_the_truth_as_often_as_it_says() {
        for (n, low, high) in [(300, 0.94, 0.964), (100, 0.93, 0.973)] {
            let shares = 60..=97;
            let covered: Vec<f64> = shares
                .map(|percent| coverage(n, f64::from(percent) / 100.0, |hits| wilson(hits, i64::from(n))))
                .collect();
            let mean = covered.iter().sum::<f64>() / covered.len() as f64;
            let (min, max) = covered.iter().fold((1.0_f64, 0.0_f64), |(a, b), c| (a.min(*c), b.max(*c)));
            measured(format_args!("Wilson, {n} answers: {min:.4} to {max:.4}, mean {mean:.4}"));
            assert!((0.948..=0.955).contains(&mean), "{n} answers: {mean}");
            assert!(low <= min && max <= high, "{n} answers: {min} to {max}");
        }
    }

    #[test]
    fn adjusted_wald_contains_the_truth_as_often_as_it_says() {
        let mut chance = Chance::new(7);
        let draws = 20_000;
        for (promoters, detractors) in [(0.5, 0.2), (0.7, 0.1), (0.3, 0.4), (0.85, 0.05)] {
            for n in [300, 100] {
                // Promoters of all, then detractors of the rest.
                let first = Binomial::new(n, promoters);
                let rest: Vec<Binomial> =
                    (0..=n).map(|left| Binomial::new(left, detractors / (1.0 - promoters))).collect();
                let truth = 100.0 * (promoters - detractors);
                let mut covered = 0;
                for _ in 0..draws {
                    let p = first.draw(&mut chance);
                    let left = i64::from(n) - p;
                    let d = rest[left as usize].draw(&mut chance);
                    let interval = adjusted_wald(p, left - d, d).unwrap();
                    covered += i32::from(interval.low <= truth && truth <= interval.high);
                }
                let share = f64::from(covered) / f64::from(draws);
                measured(format_args!(
                    "adjusted Wald, {promoters} and {detractors}, {n} answers: {share:.4}"
                ));
                assert!((0.94..=0.96).contains(&share), "{promoters} {detractors} {n}: {share}");
            }
        }
    }

    proptest! {
        #[test]
        fn wilson_stays_within_bounds_and_contains_the_share(total in 1_i64..2_000_000, share in 0.0..=1.0_f64) {
            let hits = ((total as f64 * share).round() as i64).min(total);
            let interval = wilson(hits, total).unwrap();
            let p = hits as f64 / total as f64;
            prop_assert!(0.0 <= interval.low && interval.low <= p && p <= interval.high && interval.high <= 1.0);
            // More answers of the same kind never make it wider.
            prop_assert!(wilson(hits * 2, total * 2).unwrap().width() < interval.width());
            // What is said of yes holds of no, seen from the other end.
            let mirrored = wilson(total - hits, total).unwrap();
            prop_assert!((mirrored.low - (1.0 - interval.high)).abs() < 1e-9);
        }

        #[test]
        fn adjusted_wald_stays_within_bounds_and_contains_the_score(p in 0_i64..5_000, s in 0_i64..5_000, d in 0_i64..5_000) {
            prop_assume!(p + s + d > 0);
            let interval = adjusted_wald(p, s, d).unwrap();
            let score = 100.0 * (p - d) as f64 / (p + s + d) as f64;
            prop_assert!(-100.0 <= interval.low && interval.low <= score + 1e-9);
            prop_assert!(score <= interval.high + 1e-9 && interval.high <= 100.0);
            let mirrored = adjusted_wald(d, s, p).unwrap();
            prop_assert!((mirrored.low + interval.high).abs() < 1e-9);
        }
    }
}
