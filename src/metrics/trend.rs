//! Whether a series rises or falls, and how fast.
//!
//! The test of Mann and Kendall counts the pairs of moments whose later value is higher, minus those whose later value is lower, S; it
//! asks for no line and no distribution, only for a direction (Mann, Econometrica 13, 245–259, 1945; Kendall, Rank Correlation Methods,
//! 1975). Its variance is n(n − 1)(2n + 5)/18, less Σ t(t − 1)(2t + 5)/18 over groups of t tied values. Up to ten values without ties
//! the exact distribution of S is used.
//!
//! Neighbouring weeks resemble each other more than distant ones, which looks like a trend. The variance is multiplied by
//! 1 + 2/(n(n − 1)(n − 2)) Σ (n − k)(n − k − 1)(n − k − 2) ρₖ (Hamed and Rao, Journal of Hydrology 204, 182–196, 1998). They estimate every
//! ρₖ, which is mostly noise in short series; here ρₖ = rᵏ, r being the correlation of neighbours among the ranks of the series without
//! its slope, made greater by what short series hide, and the factor never makes the test sharper.
//!
//! The slope is Sen's: the median of the slopes of all pairs (Journal of the American Statistical Association 63, 1379–1389, 1968), with
//! the interval of Gilbert (Statistical Methods for Environmental Pollution Monitoring, 1987, section 16.5). All pairs are looked at: meant
//! for some hundreds of moments.
//!
//! Measured by the tests of this module:
//!
//! - Of series of 8 to 52 independent weeks without a trend, 3.1 to 4.0 % are said to have one at the 5 % level; of series whose
//!   neighbours resemble each other by 0.3, 6.7 to 7.0 %, by 0.5, 8.2 %. The correction helps (without it, 13 % at 0.3), and
//!   is not perfect.
//! - A shop recommended by 90 % falls by 0.3 percentage points a week, and [`decline`] looks at the last 26 weeks every week: with 100
//!   answers a week it is found within 17 / 21 / 24 / 27 weeks in 50 / 80 / 90 / 95 % of runs, with 300 answers within 12 / 15 / 17 / 18.
//!   While nothing happens, 12 to 16 % of years have an alarm: one look in a hundred, but the looks overlap.

use super::comparison::Change;
use super::interval::Interval;
use super::normal::{self, Z_95 as Z};

/// Fewer moments than this cannot show a trend: of four, even the perfect one has p = 0.083.
pub const LEAST: usize = 5;

/// Up to so many values without ties, p is exact.
const EXACT: usize = 10;

/// What a series does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trend {
    /// Pairs that rise minus pairs that fall.
    pub rises: i64,
    /// The variance of that number if there is no trend, with ties and the resemblance of neighbours.
    pub variance: f64,
    /// How much neighbours resemble each other, from 0 to 1; 0 where they do less than by chance.
    pub resemblance: f64,
    /// How likely a trend this clear, either way, would be if there were none.
    pub p: f64,
    /// By how much the value changes per unit of time.
    pub slope: f64,
    /// The 95 % interval of the slope.
    pub interval: Interval,
}

impl Trend {
    /// What it says when at most the share `level` of series without a trend may be called rising or falling.
    pub fn change(self, level: f64) -> Change {
        if self.p > level {
            Change::NoEvidence
        } else if self.rises > 0 {
            Change::Rose
        } else {
            Change::Fell
        }
    }
}

/// The trend of a series of (time, value), in order of time, each time once and more or less evenly spaced. `None` where it is not, or
/// has fewer than [`LEAST`] moments.
pub fn mann_kendall(series: &[(f64, f64)]) -> Option<Trend> {
    let n = series.len();
    // Not a number is not before anything.
    if n < LEAST || !series.is_sorted_by(|a, b| a.0 < b.0) || series.iter().any(|(_, value)| value.is_nan()) {
        return None;
    }
    let mut slopes = Vec::with_capacity(n * (n - 1) / 2);
    let mut rises = 0;
    for (index, (time, value)) in series.iter().enumerate() {
        for (earlier, before) in &series[..index] {
            slopes.push((value - before) / (time - earlier));
            rises += i64::from(value > before) - i64::from(value < before);
        }
    }
    let slope = median(&mut slopes);
    let detrended: Vec<f64> = series.iter().map(|(time, value)| value - slope * time).collect();
    let resemblance = resemblance(neighbours(&ranks(&detrended)), n);
    let values: Vec<f64> = series.iter().map(|(_, value)| *value).collect();
    let (plain, ties) = variance(&values);
    let variance = plain * inflation(n, resemblance);
    let mut p = approximate_p(rises, variance);
    if n <= EXACT && !ties {
        p = exact_p(n, rises).max(if resemblance > 0.0 { p } else { 0.0 });
    }
    Some(Trend { rises, variance, resemblance, p, slope, interval: slope_interval(&mut slopes, variance) })
}

/// A decline that is worth an alert.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decline {
    /// By how much the figure falls per week, above 0.
    pub per_week: f64,
    /// Its 95 % interval.
    pub interval: Interval,
    /// How likely a decline this clear would be if there were none; the test looks for declines only.
    pub p: f64,
}

/// Above this p, a decline is not worth an alert.
pub const DECLINE_P: f64 = 0.01;

/// Whether a series of weekly figures, oldest first, declines: p at most [`DECLINE_P`], one-sided. `None` where it does not, or is too
/// short to tell.
///
/// Whoever asks every week asks often: see the module's tests for how many false alarms a year that gives.
pub fn decline(weekly: &[f64]) -> Option<Decline> {
    let series: Vec<(f64, f64)> =
        weekly.iter().enumerate().map(|(week, value)| (week as f64, *value)).collect();
    let trend = mann_kendall(&series)?;
    let p = trend.p / 2.0;
    (trend.rises < 0 && p <= DECLINE_P).then(|| Decline {
        per_week: -trend.slope,
        interval: Interval { low: -trend.interval.high, high: -trend.interval.low },
        p,
    })
}

/// The value that would be at this index if they were sorted.
fn nth(values: &mut [f64], index: usize) -> f64 {
    *values.select_nth_unstable_by(index, f64::total_cmp).1
}

/// The middle of the values.
fn median(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    let upper = nth(values, middle);
    if values.len().is_multiple_of(2) { f64::midpoint(nth(values, middle - 1), upper) } else { upper }
}

/// The rank of each value, the mean rank where values are tied.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for group in order.chunk_by(|a, b| values[*a] == values[*b]) {
        for index in group {
            ranks[*index] = first as f64 + (group.len() + 1) as f64 / 2.0;
        }
        first += group.len();
    }
    ranks
}

/// The correlation of each value with the next one; 0 where all are the same.
fn neighbours(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let products: f64 = values.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
    if squares > 0.0 { products / squares } else { 0.0 }
}

/// The resemblance that a correlation of neighbours found in n values speaks for. What short series show is too low by about
/// (1 + 4r)/n (after Marriott and Pope, Biometrika 41, 390–402, 1954); what is below 0 is taken for chance.
fn resemblance(found: f64, n: usize) -> f64 {
    if found > 0.0 { (found + (1.0 + 4.0 * found) / n as f64).min(0.95) } else { 0.0 }
}

/// The variance of S without resemblance, and whether there are ties.
fn variance(values: &[f64]) -> (f64, bool) {
    let term = |t: f64| t * (t - 1.0) * (2.0 * t + 5.0);
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let tied: f64 = sorted.chunk_by(|a, b| a == b).map(|group| term(group.len() as f64)).sum();
    ((term(values.len() as f64) - tied) / 18.0, tied > 0.0)
}

/// Hamed's and Rao's factor for neighbours that resemble each other by r, those k apart by rᵏ.
fn inflation(n: usize, r: f64) -> f64 {
    let n = n as f64;
    let mut sum = 0.0;
    let (mut k, mut power) = (1.0, r);
    while k < n - 2.0 && power > 1e-9 {
        sum += (n - k) * (n - k - 1.0) * (n - k - 2.0) * power;
        k += 1.0;
        power *= r;
    }
    1.0 + 2.0 / (n * (n - 1.0) * (n - 2.0)) * sum
}

/// The two-sided p-value of S by the normal distribution, with the correction for its jumps.
fn approximate_p(rises: i64, variance: f64) -> f64 {
    let distance = (rises.unsigned_abs() as f64 - 1.0).max(0.0);
    if distance > 0.0 { normal::two_sided(distance / variance.sqrt()) } else { 1.0 }
}

/// The exact two-sided p-value of S for n values without ties: the share of all orders that have an S as far from 0. How many orders
/// have so many falling pairs follows from how many orders of one value less have.
fn exact_p(n: usize, rises: i64) -> f64 {
    let pairs = n * (n - 1) / 2;
    let mut orders = vec![0.0; pairs + 1];
    orders[0] = 1.0;
    for size in 2..=n {
        let before = orders.clone();
        for (falls, count) in orders.iter_mut().enumerate() {
            *count = before[falls.saturating_sub(size - 1)..=falls].iter().sum();
        }
    }
    let all: f64 = orders.iter().sum();
    let as_far = orders.iter().enumerate().filter(|(falls, _)| {
        let rises_of = pairs as i64 - 2 * *falls as i64;
        rises_of.abs() >= rises.abs()
    });
    as_far.map(|(_, count)| count).sum::<f64>() / all
}

/// The 95 % interval of the median of the slopes.
fn slope_interval(slopes: &mut [f64], variance: f64) -> Interval {
    let pairs = slopes.len() as f64;
    let width = Z * variance.sqrt();
    let last = slopes.len() - 1;
    // The M₁-th and the (M₂ + 1)-th, counted from 1, with M = (pairs ∓ width) / 2, rounded outwards.
    let low = ((pairs - width) / 2.0).floor() - 1.0;
    let high = ((pairs + width) / 2.0).ceil();
    Interval { low: nth(slopes, low.max(0.0) as usize), high: nth(slopes, (high as usize).min(last)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::chance::{Binomial, Chance, measured};

    fn series(values: &[f64]) -> Vec<(f64, f64)> {
        values.iter().enumerate().map(|(time, value)| (time as f64, *value)).collect()
    }

    /// The yearly flow of the Nile at Aswan, 1871 to 1970, in 10⁸ m³: Cobb, Biometrika 65, 243–251, 1978.
    const NILE: [f64; 100] = [
        1120., 1160., 963., 1210., 1160., 1160., 813., 1230., 1370., 1140., 995., 935., 1110., 994., 1020.,
        960., 1180., 799., 958., 1140., 1100., 1210., 1150., 1250., 1260., 1220., 1030., 1100., 774., 840.,
        874., 694., 940., 833., 701., 916., 692., 1020., 1050., 969., 831., 726., 456., 824., 702., 1120.,
        1100., 832., 764., 821., 768., 845., 864., 862., 698., 845., 744., 796., 1040., 759., 781., 865.,
        845., 944., 984., 897., 822., 1010., 771., 676., 649., 846., 812., 742., 801., 1040., 860., 874.,
        848., 890., 744., 749., 838., 1050., 918., 986., 797., 923., 975., 815., 1020., 906., 901., 1170.,
        912., 746., 919., 718., 714., 740.,
    ];

    #[test]
    fn a_published_series() {
        let trend = mann_kendall(&series(&NILE)).unwrap();
        // pymannkendall 1.4.3: original_test.
        assert_eq!((trend.rises, trend.slope), (-1387, -2.6));
        let (plain, ties) = variance(&NILE);
        assert!((plain - 112_728.333_333).abs() < 1e-3 && ties);
        assert!((approximate_p(-1387, plain) / 3.658_262_921_657_496e-5 - 1.0).abs() < 1e-9);
        // numpy and scipy: lag-1 autocorrelation of the ranks of the detrended series.
        let detrended: Vec<f64> = (0..).zip(NILE).map(|(t, flow)| flow + 2.6 * f64::from(t)).collect();
        let found = neighbours(&ranks(&detrended));
        assert!((found - 0.356_442_921_607_2).abs() < 1e-12, "{found}");
        assert_eq!(trend.resemblance, resemblance(found, 100));
        assert!((trend.variance / plain - inflation(100, trend.resemblance)).abs() < 1e-12);
        assert_eq!(trend.change(0.01), Change::Fell);
        // scipy: theilslopes, whose interval knows of no resemblance.
        let mut slopes = Vec::new();
        for (j, later) in NILE.iter().enumerate() {
            slopes
                .extend(NILE[..j].iter().enumerate().map(|(i, earlier)| (later - earlier) / (j - i) as f64));
        }
        let interval = slope_interval(&mut slopes, plain);
        // Ours is rounded outwards, to the next pair.
        let (low, high) = (-3.627_906_976_744_186, -1.428_571_428_571_428_6);
        assert!(low - 0.005 < interval.low && interval.low <= low, "{interval:?}");
        assert!(high <= interval.high && interval.high < high + 0.005, "{interval:?}");
        assert!(trend.interval.low < interval.low && interval.high < trend.interval.high);
    }

    #[test]
    fn short_series_are_exact() {
        // scipy: kendalltau(…, method="exact").
        for (values, p) in [
            (&[1., 2., 3., 4., 5., 6.][..], 0.002_777_777_777_777_778),
            (&[3., 1., 2., 5., 4., 6., 7., 9., 8.], 0.002_425_044_091_710_758),
        ] {
            let trend = mann_kendall(&series(values)).unwrap();
            assert!((exact_p(values.len(), trend.rises) - p).abs() < 1e-12, "{trend:?}");
            assert!(trend.p >= exact_p(values.len(), trend.rises));
        }
        // By hand: of the 120 orders of five, two are as extreme.
        assert!((mann_kendall(&series(&[1., 2., 3., 4., 5.])).unwrap().p - 2.0 / 120.0).abs() < 1e-12);
        assert_eq!(exact_p(5, 0), 1.0);
    }

    #[test]
    fn the_factor_is_hamed_and_raos() {
        // By hand for n = 5, r = ½: 1 + 2/60 · (4·3·2·½ + 3·2·1·¼) = 1.45.
        assert!((inflation(5, 0.5) - 1.45).abs() < 1e-12);
        assert_eq!(inflation(20, 0.0), 1.0);
        // A long series whose neighbours resemble each other by r has (1 + r)/(1 − r) times the variance.
        assert!((inflation(100_000, 0.5) - 3.0).abs() < 1e-3);
    }

    #[test]
    fn edges() {
        assert_eq!(mann_kendall(&series(&[1., 2., 3., 4.])), None);
        assert_eq!(mann_kendall(&series(&[1., 2., f64::NAN, 4., 5.])), None);
        assert_eq!(mann_kendall(&[(0., 1.), (1., 2.), (1., 3.), (2., 4.), (3., 5.)]), None);
        let flat = mann_kendall(&series(&[7.0; 8])).unwrap();
        assert_eq!((flat.rises, flat.slope, flat.p), (0, 0.0, 1.0));
        assert_eq!(flat.change(0.05), Change::NoEvidence);
        // A week without answers is left out; the slope is per week all the same.
        let gap = mann_kendall(&[(0., 0.), (1., 3.), (2., 6.), (5., 15.), (6., 18.), (7., 21.)]).unwrap();
        assert_eq!((gap.slope, gap.change(0.05)), (3.0, Change::Rose));
        assert_eq!(decline(&[5., 4., 3., 2.]), None);
        assert_eq!(decline(&[1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12.]), None);
    }

    /// The share of series without a trend that are said to have one at the 5 % level.
    fn false_alarms(weeks: usize, resemblance: f64, chance: &mut Chance, runs: i32) -> f64 {
        let mut alarms = 0;
        for _ in 0..runs {
            let mut last = chance.normal() / (1.0 - resemblance * resemblance).sqrt();
            let values: Vec<f64> = (0..weeks)
                .map(|_| {
                    last = resemblance * last + chance.normal();
                    last
                })
                .collect();
            let trend = mann_kendall(&series(&values)).unwrap();
            alarms += i32::from(trend.change(0.05) != Change::NoEvidence);
        }
        f64::from(alarms) / f64::from(runs)
    }

    #[test]
    fn false_alarms_are_as_rare_as_promised() {
        let mut chance = Chance::new(17);
        for (weeks, resemblance, low, high) in [
            (8, 0.0, 0.02, 0.045),
            (12, 0.0, 0.025, 0.045),
            (26, 0.0, 0.025, 0.045),
            (52, 0.0, 0.025, 0.05),
            (26, 0.3, 0.05, 0.085),
            (52, 0.3, 0.05, 0.085),
            (52, 0.5, 0.06, 0.105),
        ] {
            let runs = if weeks > 26 { 1_000 } else { 3_000 };
            let alarms = false_alarms(weeks, resemblance, &mut chance, runs);
            measured(format_args!("{weeks} weeks, r {resemblance}: {alarms:.4}"));
            assert!((low..=high).contains(&alarms), "{weeks} weeks, r {resemblance}: {alarms}");
        }
    }

    #[test]
    fn without_the_correction_there_are_more_false_alarms() {
        let mut chance = Chance::new(29);
        let runs = 1_000;
        let mut alarms = 0;
        for _ in 0..runs {
            let mut last = 0.0;
            let next = |_| {
                last = 0.3 * last + chance.normal();
                last
            };
            let values: Vec<f64> = (0..30).map(next).collect();
            let trend = mann_kendall(&series(&values)).unwrap();
            alarms += i32::from(approximate_p(trend.rises, variance(&values).0) <= 0.05);
        }
        measured(format_args!("without correction: {alarms} of {runs}"));
        assert!(alarms > 120, "{alarms}");
    }

    fn quantile(sorted: &[u32], share: f64) -> u32 {
        sorted[((sorted.len() as f64 * share).ceil() as usize - 1).min(sorted.len() - 1)]
    }

    #[test]
    fn a_slow_decline_is_found() {
        let mut chance = Chance::new(23);
        let window = 26;
        for (answers, within) in [(100, [18, 23, 26, 30]), (300, [13, 16, 18, 20])] {
            let flat = Binomial::new(answers, 0.9);
            let falling: Vec<Binomial> =
                (1..=60).map(|week| Binomial::new(answers, 0.9 - 0.003 * f64::from(week))).collect();
            let runs = 200;
            let mut found = Vec::new();
            let mut false_alarms = 0;
            for _ in 0..runs {
                let draw = |answered: &Binomial, chance: &mut Chance| answered.draw(chance) as f64;
                let mut weekly: Vec<f64> = (0..window).map(|_| draw(&flat, &mut chance)).collect();
                let week = falling.iter().position(|answered| {
                    weekly.push(draw(answered, &mut chance));
                    decline(&weekly[weekly.len() - window..]).is_some()
                });
                found.push(week.map_or(99, |week| week as u32 + 1));
                let year: Vec<f64> = (0..window + 51).map(|_| draw(&flat, &mut chance)).collect();
                false_alarms += i32::from(year.windows(window).any(|weeks| decline(weeks).is_some()));
            }
            found.sort_unstable();
            let quantiles = [0.5, 0.8, 0.9, 0.95].map(|share| quantile(&found, share));
            measured(format_args!(
                "{answers} answers: {quantiles:?}, false alarms in a year {false_alarms} of {runs}"
            ));
            assert!(quantiles.iter().zip(within).all(|(weeks, most)| *weeks <= most), "{quantiles:?}");
            assert!(false_alarms <= runs / 5, "{false_alarms} of {runs}");
        }
    }
}
