//! How sure a figure is: 95 % intervals, pure arithmetic.
//!
//! Shares get the Wilson score interval (Wilson 1927; recommended over the textbook interval by Newcombe, Statistics in Medicine 17,
//! 857–872, 1998), which stays within 0 and 1 and is honest for few answers and for shares near 0 or 1. The net promoter score gets
//! the adjusted Wald interval (Rocks, The American Statistician 70, 2016; <https://measuringu.com/nps-confidence-intervals/>).
//!
//! Both take the answers as a random sample of the customers who could have answered, each independent of the others. Who does not
//! answer may think otherwise; no interval knows that.

/// The 97.5 % point of the normal distribution: 95 % lie within ± this many standard errors.
const Z: f64 = 1.959_963_984_540_054;

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
    if total <= 0 {
        return None;
    }
    let n = total as f64;
    let p = hits as f64 / n;
    let z2 = Z * Z;
    let scale = 1.0 + z2 / n;
    let center = (p + z2 / (2.0 * n)) / scale;
    let half = Z * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt() / scale;
    // None and all have 0 and 1 as exact bounds; rounding would miss them by the last bit.
    let low = if hits == 0 { 0.0 } else { (center - half).clamp(0.0, p) };
    let high = if hits == total { 1.0 } else { (center + half).clamp(p, 1.0) };
    Some(Interval { low, high })
}

/// The adjusted Wald interval of a net promoter score, in points from −100 to 100; `None` when nobody answered.
///
/// With n' = n + 3 answers, of them promoters + ¾ and detractors + ¾, as shares p and d: (p − d) ± z·√((p + d − (p − d)²) / n'). The
/// bounds are cut at ±100 and widened to the score itself, which matters for a single answer only.
pub fn adjusted_wald(promoters: i64, passives: i64, detractors: i64) -> Option<Interval> {
    let answers = promoters + passives + detractors;
    if answers <= 0 {
        return None;
    }
    let score = (promoters - detractors) as f64 / answers as f64;
    let n = answers as f64 + 3.0;
    let p = (promoters as f64 + 0.75) / n;
    let d = (detractors as f64 + 0.75) / n;
    let half = Z * ((p + d - (p - d).powi(2)) / n).sqrt();
    let low = (p - d - half).max(-1.0).min(score);
    let high = (p - d + half).min(1.0).max(score);
    Some(Interval { low: 100.0 * low, high: 100.0 * high })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
