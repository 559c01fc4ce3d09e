//! Whether a week is out of the ordinary: control charts for a series of figures.
//!
//! Each figure is compared with a center, in units of the error that its number of answers gives by chance. What the weeks vary beyond
//! that (weather, seasons, a strike) is ordinary, too: Laney's p′ chart (Quality Engineering 14, 531–537, 2002) widens the limits by σz,
//! the mean of |zᵢ − zᵢ₋₁| over neighbouring weeks divided by 1.128, z being the distance from the center in errors. Below 1 it counts as
//! 1, which is the plain p chart. The same is done for net promoter scores and for any figure that has a standard error.
//!
//! Three rules speak, each for a kind of change: one week beyond 3σ ([`Signal::Beyond`]); the exponentially weighted mean, with
//! λ = 0.2 and limits at L = 3 that are exact for every week's number of answers (Roberts, Technometrics 1, 239–250, 1959), for shifts
//! that are small and last ([`Signal::Drift`]); and twelve weeks in a row on one side ([`Signal::Run`]). Nine in a row, as often
//! recommended, would alone give a false alarm in one year out of ten.
//!
//! Center and σz come from the baseline: the whole series to look back, or its first part to watch what follows. After the baseline, the
//! limits include that its center is itself an estimate, and so is σz where it is above 1.
//!
//! Measured by the tests of this module:
//!
//! - With a center as good as known, a false alarm by any rule comes every 276 weeks on average (by 3σ alone, every 400 and more). Within
//!   a year after a baseline of 13 / 26 / 52 weeks, 13 / 12 / 14 % of flat series have one; with weeks that vary by half more than chance,
//!   16 to 17 % (without the widening for an estimated σz: 27 to 31 %).
//! - Looking back at 52 steady weeks, which all are the baseline, 10 % of charts have a mark.
//! - 100 answers a week, 90 % yes, baseline of 52 weeks: within a year 17 %; 30 answers a week: 23 %.
//! - The 90 % then fall by 0.3 percentage points a week. With 100 answers a week this is found within 16 / 20 / 21 / 23 weeks in
//!   50 / 80 / 90 / 95 % of runs after a baseline of 26 weeks, within 14 / 18 / 20 / 22 after one of 52; with 300 answers within
//!   10 / 12 / 14 / 15.

use super::comparison::{Net, Share};

/// The 3σ of Shewhart.
const SIGMAS: f64 = 3.0;
/// How much a week counts in the weighted mean.
const LAMBDA: f64 = 0.2;
/// The limits of the weighted mean, in its standard errors.
const EWMA_SIGMAS: f64 = 3.0;
/// So many weeks in a row on one side are no chance.
const RUN: usize = 12;
/// The mean difference of two draws of a normal distribution, in standard deviations: 2/√π.
const MEAN_RANGE: f64 = 1.128;

/// What a range of neighbours says about σ, compared with a square: Cryer and Ryan, Journal of Quality Technology 22, 187–192, 1990.
const FREEDOM: f64 = 0.605;

/// Fewer weeks than this make no baseline.
pub const LEAST: usize = 8;

/// A figure and the error that its number of answers gives it by chance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// The figure.
    pub value: f64,
    /// Its standard error, above 0. Best the one it would have if nothing had changed: an error estimated from the week itself is
    /// small just when the week is extreme.
    pub error: f64,
}

/// Which weeks say what is ordinary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Baseline {
    /// All of them: to look back.
    Whole,
    /// The first so many: to watch the others.
    First(usize),
}

/// A side of the center.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Higher.
    Above,
    /// Lower.
    Below,
}

/// Why a week is out of the ordinary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The week itself is beyond its limits.
    Beyond(Side),
    /// The weighted mean of the last weeks is beyond its limits.
    Drift(Side),
    /// The last twelve weeks are all on this side of the center.
    Run(Side),
}

/// From where to where a value is ordinary.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// The lower limit.
    pub low: f64,
    /// The upper limit.
    pub high: f64,
}

impl Limits {
    fn around(center: f64, width: f64, (bottom, top): (f64, f64)) -> Self {
        Self { low: (center - width).max(bottom), high: (center + width).min(top) }
    }

    /// The side on which a value is beyond them.
    fn side(self, value: f64) -> Option<Side> {
        if value > self.high {
            Some(Side::Above)
        } else if value < self.low {
            Some(Side::Below)
        } else {
            None
        }
    }
}

/// A week on the chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The figure.
    pub value: f64,
    /// Its 3σ limits.
    pub limits: Limits,
    /// The weighted mean of this week and those before.
    pub ewma: f64,
    /// Its limits.
    pub ewma_limits: Limits,
    /// Why it is out of the ordinary; empty where it is not.
    pub signals: Vec<Signal>,
}

/// A chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// What is ordinary.
    pub center: f64,
    /// How many times more the weeks vary than their numbers of answers explain, at least 1: Laney's σz.
    pub sigma_z: f64,
    /// How many weeks, from the first on, center and σz come from.
    pub baseline: usize,
    /// The weeks, in the order given.
    pub points: Vec<Point>,
}

/// The chart of weekly shares: Laney's p′. `None` with fewer than [`LEAST`] weeks in the baseline, or a week without answers; leave
/// these out. The limits take shares for normal, which they are where a week has five yes and five no or more.
pub fn shares(weeks: &[Share], baseline: Baseline) -> Option<Chart> {
    let length = length(weeks.len(), baseline)?;
    if !weeks.iter().all(|week| week.answers > 0.0) {
        return None;
    }
    let (answers, hits) = weeks[..length]
        .iter()
        .fold((0.0, 0.0), |(answers, hits), week| (answers + week.answers, hits + week.value * week.answers));
    let center = hits / answers;
    let spread = (center * (1.0 - center)).sqrt();
    let observed: Vec<Observation> =
        weeks.iter().map(|w| Observation { value: w.value, error: spread / w.answers.sqrt() }).collect();
    Some(chart(&observed, length, center, (0.0, 1.0)))
}

/// The chart of weekly net promoter scores, in points; `None` as for [`shares`]. The error is that of a week's number of answers
/// distributed as in the baseline.
pub fn nets(weeks: &[Net], baseline: Baseline) -> Option<Chart> {
    let length = length(weeks.len(), baseline)?;
    if !weeks.iter().all(|week| week.answers > 0.0) {
        return None;
    }
    let (answers, promoters, detractors) = weeks[..length].iter().fold((0.0, 0.0, 0.0), |(n, p, d), week| {
        (n + week.answers, p + week.promoters * week.answers, d + week.detractors * week.answers)
    });
    let (promoters, detractors) = (promoters / answers, detractors / answers);
    let center = promoters - detractors;
    let spread = 100.0 * (promoters + detractors - center * center).sqrt();
    let observed: Vec<Observation> =
        weeks.iter().map(|w| Observation { value: w.value(), error: spread / w.answers.sqrt() }).collect();
    Some(chart(&observed, length, 100.0 * center, (-100.0, 100.0)))
}

/// The chart of any weekly figure with its standard error; `None` with fewer than [`LEAST`] weeks in the baseline, or an error that is
/// not above 0. The center is the mean weighted by 1/error².
pub fn observations(weeks: &[Observation], baseline: Baseline) -> Option<Chart> {
    let length = length(weeks.len(), baseline)?;
    if !weeks.iter().all(|week| week.error > 0.0 && week.error.is_finite() && week.value.is_finite()) {
        return None;
    }
    let (weights, sum) = weeks[..length].iter().fold((0.0, 0.0), |(weights, sum), week| {
        let weight = week.error.powi(-2);
        (weights + weight, sum + weight * week.value)
    });
    Some(chart(weeks, length, sum / weights, (f64::NEG_INFINITY, f64::INFINITY)))
}

/// How many weeks the baseline has.
fn length(weeks: usize, baseline: Baseline) -> Option<usize> {
    let length = match baseline {
        Baseline::Whole => weeks,
        Baseline::First(first) => first.min(weeks),
    };
    (length >= LEAST).then_some(length)
}

/// Laney's σz, at least 1: how much the weeks vary in units of their error.
fn sigma_z(weeks: &[Observation], center: f64) -> f64 {
    let z: Vec<f64> = weeks
        .iter()
        // Everybody says the same in the whole baseline: no error, and no distance from the center.
        .map(|week| if week.error > 0.0 { (week.value - center) / week.error } else { 0.0 })
        .collect();
    let ranges: f64 = z.windows(2).map(|pair| (pair[1] - pair[0]).abs()).sum();
    (ranges / (z.len() - 1) as f64 / MEAN_RANGE).max(1.0)
}

/// How many times wider limits must be for a σz that is an estimate from so many weeks: t/3 for the t that is as seldom exceeded as 3 by
/// a normal distribution, t ≈ 3 + (3³ + 3)/4ν (Abramowitz and Stegun 1964, 26.7.5), with [`FREEDOM`] degrees of freedom a week.
fn unsure_sigma(weeks: usize) -> f64 {
    let freedom = FREEDOM * (weeks - 1) as f64;
    1.0 + (SIGMAS * SIGMAS + 1.0) / (4.0 * freedom)
}

fn chart(weeks: &[Observation], baseline: usize, center: f64, range: (f64, f64)) -> Chart {
    let sigma_z = sigma_z(&weeks[..baseline], center);
    // The center is the mean of the baseline weighted by 1/error², and varies like one.
    let precision: f64 = weeks[..baseline].iter().map(|week| week.error.powi(-2)).sum();
    let center_variance = if precision.is_finite() { sigma_z * sigma_z / precision } else { 0.0 };
    let unsure_sigma = if sigma_z > 1.0 { unsure_sigma(baseline) } else { 1.0 };
    let mut mean = WeightedMean { value: center, variance: 0.0 };
    let (mut side, mut run) = (None, 0);
    let points = weeks.iter().enumerate().map(|(index, week)| {
        let wider = if index < baseline { 1.0 } else { unsure_sigma };
        let variance = (week.error * sigma_z * wider).powi(2);
        mean = mean.next(LAMBDA, week.value, variance);
        let unsure = if index < baseline { 0.0 } else { center_variance };
        let limits = Limits::around(center, SIGMAS * (variance + unsure).sqrt(), range);
        let ewma_limits = Limits::around(center, EWMA_SIGMAS * (mean.variance + unsure).sqrt(), range);
        // The mean of equal values may miss them by the last bit, which is no side.
        let bit = 1e-9 * week.error;
        let now = Limits { low: center - bit, high: center + bit }.side(week.value);
        run = if now.is_some() && now == side { run + 1 } else { usize::from(now.is_some()) };
        side = now;
        let mut signals = Vec::new();
        signals.extend(limits.side(week.value).map(Signal::Beyond));
        signals.extend(ewma_limits.side(mean.value).map(Signal::Drift));
        signals.extend(now.filter(|_| run >= RUN).map(Signal::Run));
        Point { value: week.value, limits, ewma: mean.value, ewma_limits, signals }
    });
    let points = points.collect();
    Chart { center, sigma_z, baseline, points }
}

/// The exponentially weighted mean so far, and its variance.
#[derive(Debug, Clone, Copy)]
struct WeightedMean {
    value: f64,
    variance: f64,
}

impl WeightedMean {
    /// With one more value, which counts for `lambda`, and its variance.
    fn next(self, lambda: f64, value: f64, variance: f64) -> Self {
        let rest = 1.0 - lambda;
        Self {
            value: lambda * value + rest * self.value,
            variance: lambda * lambda * variance + rest * rest * self.variance,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::chance::{Binomial, Chance, measured};

    fn counted(hits: &[i64], answers: i64) -> Vec<Share> {
        hits.iter().map(|hits| Share::counted(*hits, answers).unwrap()).collect()
    }

    #[track_caller]
    fn close(value: f64, expected: f64, tolerance: f64) {
        assert!((value - expected).abs() <= tolerance, "{value}, expected {expected}");
    }

    /// Frozen orange juice: of 50 cans in each of 30 samples, so many leak. Montgomery, Introduction to Statistical Quality Control, the
    /// example of the p chart.
    const LEAKING: [i64; 30] = [
        12, 15, 8, 10, 4, 7, 16, 9, 14, 10, 5, 6, 17, 12, 22, 8, 10, 5, 13, 11, 20, 18, 24, 15, 9, 12, 7, 13,
        9, 6,
    ];

    #[test]
    fn the_published_p_chart_widened_by_laneys_factor() {
        let found = shares(&counted(&LEAKING, 50), Baseline::Whole).unwrap();
        // The book: center 0.2313, limits 0.0524 and 0.4102; samples 15 and 23 beyond them.
        close(found.center, 0.2313, 0.5e-4);
        let plain = |limit: f64| found.center + (limit - found.center) / found.sigma_z;
        close(plain(found.points[0].limits.high), 0.4102, 0.5e-4);
        let narrow = Limits { low: 0.0524, high: 0.4102 };
        let beyond: Vec<usize> = (1..)
            .zip(&found.points)
            .filter(|(_, p)| narrow.side(p.value).is_some())
            .map(|(i, _)| i)
            .collect();
        assert_eq!(beyond, [15, 23]);
        // Laney's σz with numpy; with it the two samples are ordinary, and the lower limit is 0.
        close(found.sigma_z, 1.660_866_719_743_2, 1e-12);
        assert_eq!(found.points[0].limits.low, 0.0);
        assert!(found.points.iter().all(|point| point.limits.side(point.value).is_none()));
    }

    #[test]
    fn large_numbers_vary_more_than_chance() {
        // The first six weeks of patients seen within four hours, of all attendances in the NHS: Mohammed and others, BMJ Quality & Safety
        // 22, 362–368, 2013, as in the R package qicharts2, which shows how far they are outside the limits of a p chart.
        let weeks = [
            (266_501, 280_443),
            (264_225, 276_823),
            (276_532, 291_681),
            (281_461, 296_155),
            (269_071, 282_343),
            (261_215, 275_888),
        ];
        let weeks = weeks.map(|(seen, all)| Share::counted(seen, all).unwrap());
        let center = 0.950_492_358_217_682_6_f64;
        let spread = (center * (1.0 - center)).sqrt();
        let observed = weeks.map(|w| Observation { value: w.value, error: spread / w.answers.sqrt() });
        let beyond = |sigma_z: f64| {
            observed.iter().filter(|w| (w.value - center).abs() > 3.0 * sigma_z * w.error).count()
        };
        // With numpy.
        close(sigma_z(&observed, center), 9.424_066_229_740_736, 1e-9);
        assert_eq!((beyond(1.0), beyond(sigma_z(&observed, center))), (4, 0));
    }

    #[test]
    fn the_published_weighted_mean() {
        // Montgomery, the example of the EWMA chart (data and settings also in the documentation of IMSL): center 10, σ 1, λ 0.1, L 2.7.
        // The means with Python; the last two values are beyond.
        let values = [
            9.45, 7.99, 9.29, 11.66, 12.16, 10.18, 8.04, 11.46, 9.20, 10.34, 9.03, 11.47, 10.51, 9.40, 10.08,
            9.37, 10.62, 10.31, 8.52, 10.84, 10.90, 9.33, 12.29, 11.50, 10.60, 11.08, 10.38, 11.62, 11.31,
            10.52,
        ];
        let mut mean = WeightedMean { value: 10.0, variance: 0.0 };
        let means = values.map(|value| {
            mean = mean.next(0.1, value, 1.0);
            mean
        });
        for (mean, expected) in means.iter().zip([9.945, 9.749_5, 9.703_55, 9.899_195]) {
            close(mean.value, expected, 1e-6);
        }
        let beyond = means.map(|mean| (mean.value - 10.0).abs() > 2.7 * mean.variance.sqrt());
        assert_eq!(beyond.iter().position(|beyond| *beyond), Some(28));
        assert!(beyond[29]);
        close(means[28].value, 10.646_82, 1e-5);
        // Where the limits end up: 2.7·√(λ/(2 − λ)) = 0.62.
        close(2.7 * mean.variance.sqrt(), 0.62, 0.5e-2);
    }

    #[test]
    fn weeks_of_different_size_and_a_center_that_is_an_estimate() {
        let hits = [88, 91, 79, 95, 60, 102, 84, 90, 97, 70];
        let answers = [100, 103, 92, 104, 71, 118, 95, 99, 112, 85];
        let weeks: Vec<Share> =
            hits.iter().zip(answers).map(|(h, n)| Share::counted(*h, n).unwrap()).collect();
        let found = shares(&weeks, Baseline::First(8)).unwrap();
        // With numpy.
        close(found.center, 0.881_074_168_797_954, 1e-12);
        assert_eq!((found.sigma_z, found.baseline), (1.0, 8));
        close(found.points[9].limits.low, 0.770_166_316_278_227_4, 1e-12);
        // Within the baseline, plain limits.
        close(
            found.points[0].limits.low,
            found.center - 3.0 * (0.881_074 * 0.118_926 / 100.0_f64).sqrt(),
            1e-6,
        );
        assert_eq!(shares(&weeks, Baseline::First(7)), None);
        assert_eq!(shares(&weeks[..7], Baseline::Whole), None);
        let mut silent = weeks.clone();
        silent[3].answers = 0.0;
        assert_eq!(shares(&silent, Baseline::Whole), None);
    }

    #[test]
    fn each_rule_speaks() {
        // A week far below.
        let mut hits = vec![90, 88, 91, 89, 90, 92, 88, 90, 91, 89, 90, 91];
        hits.push(70);
        let found = shares(&counted(&hits, 100), Baseline::First(12)).unwrap();
        assert!(found.points[..12].iter().all(|point| point.signals.is_empty()));
        assert_eq!(found.points[12].signals, [Signal::Beyond(Side::Below)]);
        // A little lower, for long: no week for itself, the mean of them soon, the run in the end.
        let mut hits = vec![90; 20];
        hits.extend([85; 12]);
        let found = shares(&counted(&hits, 100), Baseline::First(20)).unwrap();
        let first = |signal| found.points[20..].iter().position(|point| point.signals.contains(&signal));
        assert_eq!(first(Signal::Beyond(Side::Below)), None);
        assert!(first(Signal::Drift(Side::Below)).is_some_and(|week| week < 11));
        assert_eq!(first(Signal::Run(Side::Below)), Some(11));
        // Everybody always said yes; then somebody did not.
        let mut hits = vec![50; 10];
        hits.push(49);
        let found = shares(&counted(&hits, 50), Baseline::First(10)).unwrap();
        assert_eq!(found.sigma_z, 1.0);
        assert!(found.points[..10].iter().all(|point| point.signals.is_empty()));
        assert!(found.points[10].signals.contains(&Signal::Beyond(Side::Below)));
    }

    #[test]
    fn scores_and_other_figures_too() {
        let net = |p, s, d| Net::counted(p, s, d).unwrap();
        let mut weeks =
            vec![net(50, 30, 20), net(54, 28, 18), net(47, 30, 23), net(52, 27, 21), net(49, 32, 19)];
        weeks.extend(weeks.clone());
        let center = nets(&weeks, Baseline::Whole).unwrap().center;
        // 252 promoters and 101 detractors of 500.
        close(center, 30.2, 1e-9);
        weeks.push(net(30, 20, 50));
        let found = nets(&weeks, Baseline::First(10)).unwrap();
        assert_eq!(found.center, center);
        assert!(found.points[10].signals.contains(&Signal::Beyond(Side::Below)));
        // By hand: √(0.504 + 0.202 − 0.302²)/10 = 7.841 points; 3σ with the center's error √(1 + 1/10).
        close(found.points[10].limits.low, 30.2 - 3.0 * 7.841 * 1.1_f64.sqrt(), 0.01);
        let weeks: Vec<Observation> =
            (0..8).map(|i| Observation { value: f64::from(i % 2), error: 1.0 }).collect();
        close(observations(&weeks, Baseline::Whole).unwrap().center, 0.5, 1e-12);
        let mut none = weeks.clone();
        none[2].error = 0.0;
        assert_eq!(observations(&none, Baseline::Whole), None);
    }

    fn any(_: &Signal) -> bool {
        true
    }

    fn beyond(signal: &Signal) -> bool {
        matches!(signal, Signal::Beyond(_))
    }

    fn below(signal: &Signal) -> bool {
        matches!(signal, Signal::Beyond(Side::Below) | Signal::Drift(Side::Below) | Signal::Run(Side::Below))
    }

    /// After how many weeks after the baseline the chart speaks first.
    fn first(chart: &Chart, signal: fn(&Signal) -> bool) -> Option<usize> {
        let after = &chart.points[chart.baseline..];
        after.iter().position(|point| point.signals.iter().any(signal)).map(|week| week + 1)
    }

    fn noise(weeks: usize, spread: f64, chance: &mut Chance) -> Vec<Observation> {
        (0..weeks).map(|_| Observation { value: spread * chance.normal(), error: 1.0 }).collect()
    }

    #[test]
    fn false_alarms_are_as_rare_as_promised() {
        let mut chance = Chance::new(31);
        // Run lengths, with a center that is as good as known. Of runs with a mean of 260, 1 in 100 is longer than 1,200.
        let runs = 250;
        let (mut all, mut beyond_all) = (0, 0);
        for _ in 0..runs {
            let chart = observations(&noise(300 + 1_200, 1.0, &mut chance), Baseline::First(300)).unwrap();
            all += first(&chart, any).unwrap_or(1_200);
            beyond_all += first(&chart, beyond).unwrap_or(1_200);
        }
        measured(format_args!(
            "chart: average run length {}, 3σ alone at least {}",
            all / runs,
            beyond_all / runs
        ));
        assert!((215..=310).contains(&(all / runs)), "{}", all / runs);
        // Within a year, with a center and a σz from the baseline.
        for (baseline, spread, most) in
            [(13, 1.0, 0.16), (26, 1.0, 0.16), (52, 1.0, 0.17), (26, 1.5, 0.2), (52, 1.5, 0.2)]
        {
            let runs = 1_500;
            let alarms = (0..runs).filter(|_| {
                let weeks = noise(baseline + 52, spread, &mut chance);
                first(&observations(&weeks, Baseline::First(baseline)).unwrap(), any).is_some()
            });
            let share = alarms.count() as f64 / f64::from(runs);
            measured(format_args!("chart: {baseline} weeks, spread {spread}: alarm within a year {share}"));
            assert!((0.08..=most).contains(&share), "{baseline} {spread}: {share}");
        }
        // Looking back at a year, whose weeks all make the baseline.
        let runs = 3_000;
        let marked = (0..runs).filter(|_| {
            let chart = observations(&noise(52, 1.0, &mut chance), Baseline::Whole).unwrap();
            chart.points.iter().any(|point| !point.signals.is_empty())
        });
        let share = marked.count() as f64 / f64::from(runs);
        measured(format_args!("chart: looking back at a year, marks in {share}"));
        assert!((0.08..=0.115).contains(&share), "{share}");
        // Shares are not quite normal.
        for (answers, most) in [(100, 0.2), (30, 0.3)] {
            let draws = Binomial::new(answers, 0.9);
            let runs = 1_500;
            let alarms = (0..runs).filter(|_| {
                let hits: Vec<i64> = (0..52 + 52).map(|_| draws.draw(&mut chance)).collect();
                let weeks = counted(&hits, i64::from(answers));
                first(&shares(&weeks, Baseline::First(52)).unwrap(), any).is_some()
            });
            let share = alarms.count() as f64 / f64::from(runs);
            measured(format_args!("chart: {answers} answers: alarm within a year {share}"));
            assert!((0.08..=most).contains(&share), "{answers}: {share}");
        }
        // Without Laney's factor nearly every year would have one.
        let loose = (0..100).filter(|_| {
            noise(52, 1.5, &mut chance).iter().any(|week| week.value.abs() > SIGMAS * week.error)
        });
        assert!(loose.count() > 80);
    }

    #[test]
    fn a_slow_decline_is_found() {
        let mut chance = Chance::new(37);
        for (answers, baseline, within) in
            [(100, 26, [16, 20, 23, 25]), (100, 52, [15, 18, 20, 22]), (300, 52, [11, 13, 15, 16])]
        {
            let flat = Binomial::new(answers, 0.9);
            let falling: Vec<Binomial> =
                (1..=60).map(|week| Binomial::new(answers, 0.9 - 0.003 * f64::from(week))).collect();
            let runs = 400;
            let mut found: Vec<usize> = (0..runs)
                .map(|_| {
                    let mut hits: Vec<i64> = (0..baseline).map(|_| flat.draw(&mut chance)).collect();
                    hits.extend(falling.iter().map(|week| week.draw(&mut chance)));
                    let weeks = counted(&hits, i64::from(answers));
                    first(&shares(&weeks, Baseline::First(baseline)).unwrap(), below).unwrap_or(99)
                })
                .collect();
            found.sort_unstable();
            let quantiles = [0.5, 0.8, 0.9, 0.95].map(|share| found[(f64::from(runs) * share) as usize - 1]);
            measured(format_args!("chart: {answers} answers, {baseline} weeks: found within {quantiles:?}"));
            assert!(quantiles.iter().zip(within).all(|(weeks, most)| *weeks <= most), "{quantiles:?}");
        }
    }
}
