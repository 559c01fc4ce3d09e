//! Comparing figures: two periods or two segments with each other, a figure with its target, and many comparisons at once.
//!
//! The difference of two shares gets the hybrid score interval of Newcombe (Statistics in Medicine 17, 873–890, 1998, method 10), made
//! from the Wilson intervals of both, and the p-value of the pooled two-proportion test. The difference of two net promoter scores
//! gets the adjusted Wald interval of both: z·√(se₁² + se₂²) (<https://measuringu.com/nps-confidence-intervals/>). Whether something
//! changed is read off the interval, so that the sentence never contradicts the bounds beside it; the p-value is for
//! [`benjamini_hochberg`], which keeps the share of false finds low when many segments are looked at. The two may disagree by a hair at
//! the edge.
//!
//! Numbers of answers are `f64`, so that weighted answers enter by their effective number. The two sides must have no answers in
//! common: compare a segment with the rest, not with the whole.
//!
//! Measured by the tests of this module: of two periods with 200 answers each from the same shop, 4.7 to 5.0 % are said to differ (10,000 draws for each of three
//! shares).

use serde::Serialize;

use super::interval::{self, Interval};
use super::normal::{self, Z_95 as Z};

/// A share and how many answers of equal weight it rests on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// From 0 to 1.
    pub value: f64,
    /// The answers; of weighted answers their effective number.
    pub answers: f64,
}

/// A net promoter score's parts, as shares, and how many answers of equal weight they rest on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Net {
    /// The share of 9 and 10, from 0 to 1.
    pub promoters: f64,
    /// The share of 0 to 6, from 0 to 1.
    pub detractors: f64,
    /// The answers; of weighted answers their effective number.
    pub answers: f64,
}

impl Share {
    /// The share of `hits` of `total`; `None` when there is nothing to divide by.
    pub fn counted(hits: i64, total: i64) -> Option<Self> {
        (total > 0).then(|| Self { value: hits as f64 / total as f64, answers: total as f64 })
    }

    /// Its Wilson interval; `None` when there are no answers.
    pub fn interval(self) -> Option<Interval> {
        interval::wilson_effective(self.value, self.answers)
    }
}

impl Net {
    /// The score of so many answers; `None` when there are none.
    pub fn counted(promoters: i64, passives: i64, detractors: i64) -> Option<Self> {
        let answers = (promoters + passives + detractors) as f64;
        (answers > 0.0).then(|| Self {
            promoters: promoters as f64 / answers,
            detractors: detractors as f64 / answers,
            answers,
        })
    }

    /// The score, in points from −100 to 100.
    pub fn value(self) -> f64 {
        100.0 * (self.promoters - self.detractors)
    }

    /// Its adjusted Wald interval, in points; `None` when there are no answers.
    pub fn interval(self) -> Option<Interval> {
        interval::adjusted_wald_effective(self.promoters, self.detractors, self.answers)
    }
}

/// How much later is above earlier.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Later minus earlier: of shares from −1 to 1, of net promoter scores in points.
    pub value: f64,
    /// Where the true difference lies with 95 % confidence.
    pub interval: Interval,
    /// How likely a difference at least this large, either way, would be if there were none.
    pub p: f64,
}

/// What a difference says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The whole interval of the difference is above 0.
    Rose,
    /// The whole interval of the difference is below 0.
    Fell,
    /// It contains 0: chance alone may have done it. Which does not say that nothing changed.
    NoEvidence,
}

impl Difference {
    /// What it says.
    pub fn change(self) -> Change {
        if self.interval.low > 0.0 {
            Change::Rose
        } else if self.interval.high < 0.0 {
            Change::Fell
        } else {
            Change::NoEvidence
        }
    }
}

/// The difference of two shares; `None` when one of them has no answers.
///
/// The interval is from d − √((p₁ − l₁)² + (u₂ − p₂)²) to d + √((u₁ − p₁)² + (p₂ − l₂)²), with d = p₁ − p₂ and l, u the Wilson bounds.
/// The p-value is that of z = d / √(p(1 − p)(1/n₁ + 1/n₂)), p being the share of both together.
pub fn shares(later: Share, earlier: Share) -> Option<Difference> {
    let interval = hybrid((later.value, later.interval()?), (earlier.value, earlier.interval()?));
    let value = later.value - earlier.value;
    let n = later.answers + earlier.answers;
    let pooled = (later.value * later.answers + earlier.value * earlier.answers) / n;
    let error = (pooled * (1.0 - pooled) * (1.0 / later.answers + 1.0 / earlier.answers)).sqrt();
    // Everybody said the same on both sides.
    let p = if value == 0.0 { 1.0 } else { normal::two_sided(value / error) };
    Some(Difference { value, interval, p })
}

/// Newcombe's interval of the difference of two shares, each given with its own interval, whichever that is ([`interval::wilson_effective`]
/// for instance).
pub fn hybrid((p1, i1): (f64, Interval), (p2, i2): (f64, Interval)) -> Interval {
    let difference = p1 - p2;
    let low = difference - (p1 - i1.low).hypot(i2.high - p2);
    let high = difference + (i1.high - p1).hypot(p2 - i2.low);
    Interval { low: low.max(-1.0), high: high.min(1.0) }
}

/// The difference of two net promoter scores, in points; `None` when one of them has no answers.
///
/// The value is the difference of the scores as they are reported; its interval and p-value are those of the adjusted ones. The
/// interval is widened to the value where the adjustment of a handful of answers moves it away.
pub fn nets(later: Net, earlier: Net) -> Option<Difference> {
    let a = interval::adjusted(later.promoters, later.detractors, later.answers)?;
    let b = interval::adjusted(earlier.promoters, earlier.detractors, earlier.answers)?;
    let value = later.value() - earlier.value();
    let difference = 100.0 * (a.score - b.score);
    let error = 100.0 * a.error.hypot(b.error);
    let interval = Interval {
        low: (difference - Z * error).max(-200.0).min(value),
        high: (difference + Z * error).min(200.0).max(value),
    };
    Some(Difference { value, interval, p: normal::two_sided(difference / error) })
}

/// What a figure says against its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// The whole interval is above the target.
    Above,
    /// The whole interval is below the target.
    Below,
    /// The interval contains the target.
    Undecided {
        /// How many more answers (effective ones, where they are weighted) would settle it if they came in as the ones so far; they
        /// may not. `None` where no number up to [`MOST_ANSWERS`] would: the figure is as good as on its target.
        more: Option<u64>,
    },
}

/// As many answers as nobody waits for.
pub const MOST_ANSWERS: u64 = 1_000_000;

/// A share against its target, from 0 to 1; `None` when there are no answers.
pub fn share_against(share: Share, target: f64) -> Option<Against> {
    against(target, share.answers, |answers| Share { answers, ..share }.interval())
}

/// A net promoter score against its target, in points; `None` when there are no answers.
pub fn net_against(net: Net, target: f64) -> Option<Against> {
    against(target, net.answers, |answers| Net { answers, ..net }.interval())
}

/// A figure that has `n` answers against its target, given the interval it would have with any number of them.
fn against(target: f64, n: f64, interval: impl Fn(f64) -> Option<Interval>) -> Option<Against> {
    let now = interval(n)?;
    if now.low > target {
        return Some(Against::Above);
    }
    if now.high < target {
        return Some(Against::Below);
    }
    let settled = |more: u64| interval(n + more as f64).is_some_and(|i| i.low > target || i.high < target);
    if !settled(MOST_ANSWERS) {
        return Some(Against::Undecided { more: None });
    }
    // The interval narrows around the figure with every answer, so halving finds the first number that settles it.
    let (mut too_few, mut enough) = (0, MOST_ANSWERS);
    while enough - too_few > 1 {
        let middle = too_few + (enough - too_few) / 2;
        if settled(middle) {
            enough = middle;
        } else {
            too_few = middle;
        }
    }
    Some(Against::Undecided { more: Some(enough) })
}

/// Which of many comparisons may be called finds, so that on average at most the share `q` of those are false: one `bool` per p-value,
/// in the same order (Benjamini and Hochberg, Journal of the Royal Statistical Society B 57, 289–300, 1995).
pub fn benjamini_hochberg(p: &[f64], q: f64) -> Vec<bool> {
    adjusted_p(p).into_iter().map(|adjusted| adjusted <= q).collect()
}

/// The smallest `q` at which [`benjamini_hochberg`] calls each of them a find, in the same order: with the p-values sorted, the
/// least p₍ⱼ₎·m/j of all j ≥ i, and at most 1.
pub fn adjusted_p(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut adjusted = vec![1.0; p.len()];
    let mut least = 1.0_f64;
    for (position, index) in order.into_iter().enumerate().rev() {
        least = least.min(p[index] * p.len() as f64 / (position + 1) as f64);
        adjusted[index] = least;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::chance::{Binomial, Chance, measured};

    fn difference(a: (i64, i64), b: (i64, i64)) -> Difference {
        shares(Share::counted(a.0, a.1).unwrap(), Share::counted(b.0, b.1).unwrap()).unwrap()
    }

    #[test]
    fn newcombe_gives_the_published_intervals() {
        // Newcombe 1998, table II, method 10; all eight of them also as statsmodels 0.15 gives them.
        for (a, b, low, high) in [
            ((56, 70), (48, 80), 0.0524, 0.3339),
            ((9, 10), (3, 10), 0.1705, 0.8090),
            ((6, 7), (2, 7), 0.0582, 0.8062),
            ((5, 56), (0, 29), -0.0381, 0.1926),
            ((0, 10), (0, 20), -0.1611, 0.2775),
            ((0, 10), (0, 10), -0.2775, 0.2775),
            ((10, 10), (0, 20), 0.6791, 1.0),
            ((10, 10), (0, 10), 0.6075, 1.0),
        ] {
            let Interval { low: l, high: h } = difference(a, b).interval;
            assert!((l - low).abs() <= 0.5e-4 && (h - high).abs() <= 0.5e-4, "{a:?} − {b:?}: {l} to {h}");
        }
    }

    #[test]
    fn p_values_are_those_of_the_pooled_test() {
        // statsmodels 0.15: proportions_ztest.
        for (a, b, p) in [
            ((56, 70), (48, 80), 0.008_045_081_368_196_56),
            ((6, 7), (2, 7), 0.030_753_561_259_274_524),
            ((10, 10), (0, 20), 4.320_463_057_827_506e-8),
        ] {
            assert!((difference(a, b).p / p - 1.0).abs() < 1e-9, "{a:?} − {b:?}: {}", difference(a, b).p);
        }
        assert_eq!(difference((0, 10), (0, 20)).p, 1.0);
        assert_eq!(difference((10, 10), (20, 20)).p, 1.0);
    }

    #[test]
    fn what_changed() {
        assert_eq!(difference((56, 70), (48, 80)).change(), Change::Rose);
        assert_eq!(difference((48, 80), (56, 70)).change(), Change::Fell);
        assert_eq!(difference((5, 56), (0, 29)).change(), Change::NoEvidence);
        assert_eq!(Share::counted(0, 0), None);
        let nobody = Share { value: 0.5, answers: 0.0 };
        assert_eq!(shares(nobody, Share::counted(1, 2).unwrap()), None);
    }

    #[test]
    fn two_net_promoter_scores() {
        // Python with the formula: 60/20/20 of 100 against 45/25/30 of 100.
        let (later, earlier) = (Net::counted(60, 20, 20).unwrap(), Net::counted(45, 25, 30).unwrap());
        let found = nets(later, earlier).unwrap();
        // (60.75 − 20.75)/103 = 0.388350, (45.75 − 30.75)/103 = 0.145631; errors 0.078695 and 0.084022.
        assert!((found.value - 25.0).abs() < 1e-9);
        assert!((found.interval.low - 1.734_064).abs() < 1e-6, "{found:?}");
        assert!((found.interval.high - 46.809_625).abs() < 1e-6, "{found:?}");
        assert!((found.p - 0.034_793).abs() < 1e-6, "{found:?}");
        assert_eq!(found.change(), Change::Rose);
        assert_eq!(nets(earlier, later).unwrap().change(), Change::Fell);
        assert_eq!(nets(later, later).unwrap().change(), Change::NoEvidence);
        assert_eq!(nets(later, later).unwrap().p, 1.0);
        assert_eq!(Net::counted(0, 0, 0), None);
    }

    #[test]
    fn against_a_target() {
        let share = |hits, total| Share::counted(hits, total).unwrap();
        assert_eq!(share_against(share(270, 300), 0.85), Some(Against::Above));
        assert_eq!(share_against(share(240, 300), 0.85), Some(Against::Below));
        // The Wilson bound passes the target when n > z² t(1 − t)/(p − t)² = 3.84146 · 0.1275/0.0009 = 544.2.
        assert_eq!(share_against(share(88, 100), 0.85), Some(Against::Undecided { more: Some(445) }));
        assert_eq!(share_against(share(82, 100), 0.85), Some(Against::Undecided { more: Some(445) }));
        assert_eq!(share_against(share(85, 100), 0.85), Some(Against::Undecided { more: None }));
        assert_eq!(share_against(Share { value: 0.9, answers: 0.0 }, 0.85), None);
        let net = |p, s, d| Net::counted(p, s, d).unwrap();
        assert_eq!(net_against(net(500, 300, 200), 20.0), Some(Against::Above));
        assert_eq!(net_against(net(500, 300, 200), 40.0), Some(Against::Below));
        assert_eq!(net_against(net(50, 30, 20), 30.0), Some(Against::Undecided { more: None }));
    }

    #[test]
    fn so_many_more_answers_settle_it_and_one_less_does_not() {
        let net = Net::counted(50, 30, 20).unwrap();
        let Some(Against::Undecided { more: Some(more) }) = net_against(net, 25.0) else {
            panic!("{:?}", net_against(net, 25.0));
        };
        let with = |more: u64| net_against(Net { answers: 100.0 + more as f64, ..net }, 25.0);
        assert_eq!(with(more), Some(Against::Above));
        assert_eq!(with(more - 1), Some(Against::Undecided { more: Some(1) }));
    }

    /// The example of Benjamini and Hochberg 1995, section 3.2: fifteen comparisons of a trial about heart attacks.
    const PUBLISHED: [f64; 15] = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719,
        0.6528, 0.7590, 1.0,
    ];

    #[test]
    fn benjamini_hochberg_finds_the_published_four() {
        let finds = benjamini_hochberg(&PUBLISHED, 0.05);
        assert_eq!(finds.iter().filter(|find| **find).count(), 4);
        assert!(finds[..4].iter().all(|find| *find));
        // statsmodels 0.15: multipletests(p, 0.05, "fdr_bh").
        let expected = [
            0.0015,
            0.003,
            0.0095,
            0.035625,
            0.0603,
            0.063_857_14,
            0.063_857_14,
            0.0645,
            0.0765,
            0.486,
            0.581_181_82,
            0.714_875,
            0.753_230_77,
            0.813_214_29,
            1.0,
        ];
        for (adjusted, expected) in adjusted_p(&PUBLISHED).iter().zip(expected) {
            assert!((adjusted - expected).abs() < 1e-8, "{adjusted}, expected {expected}");
        }
        assert!(benjamini_hochberg(&[], 0.05).is_empty());
    }

    #[test]
    fn benjamini_hochberg_keeps_the_order_of_what_it_was_given() {
        let mut turned = PUBLISHED;
        turned.reverse();
        let mut finds = benjamini_hochberg(&turned, 0.05);
        finds.reverse();
        assert_eq!(finds, benjamini_hochberg(&PUBLISHED, 0.05));
    }

    #[test]
    fn the_same_shop_is_seldom_said_to_have_changed() {
        let mut chance = Chance::new(11);
        for share in [0.6, 0.8, 0.93] {
            let answers = Binomial::new(200, share);
            let runs = 10_000;
            let (mut changed, mut significant) = (0, 0);
            for _ in 0..runs {
                let found = difference((answers.draw(&mut chance), 200), (answers.draw(&mut chance), 200));
                changed += i32::from(found.change() != Change::NoEvidence);
                significant += i32::from(found.p <= 0.05);
            }
            let (changed, significant) =
                (f64::from(changed) / f64::from(runs), f64::from(significant) / f64::from(runs));
            measured(format_args!("share {share}: {changed} changed, {significant} significant"));
            assert!((0.035..=0.06).contains(&changed), "{share}: {changed}");
            assert!((0.035..=0.06).contains(&significant), "{share}: {significant}");
        }
    }

    proptest! {
        #[test]
        fn the_difference_lies_in_its_interval(n1 in 1_i64..5_000, n2 in 1_i64..5_000, s1 in 0.0..=1.0_f64, s2 in 0.0..=1.0_f64) {
            let (h1, h2) = ((n1 as f64 * s1) as i64, (n2 as f64 * s2) as i64);
            let found = difference((h1, n1), (h2, n2));
            prop_assert!(found.interval.low <= found.value && found.value <= found.interval.high);
            prop_assert!(-1.0 <= found.interval.low && found.interval.high <= 1.0);
            let turned = difference((h2, n2), (h1, n1));
            prop_assert!((turned.interval.low + found.interval.high).abs() < 1e-12);
            prop_assert!((0.0..=1.0).contains(&found.p));
        }
    }
}
