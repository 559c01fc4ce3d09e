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
//! Center and σz come from the baseline: the whole series to look back, or its first part to watch what follows. The limits after the
//! baseline include that its center is itself an estimate.
//!
//! MEASURED
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

fn chart(weeks: &[Observation], baseline: usize, center: f64, range: (f64, f64)) -> Chart {
    let sigma_z = sigma_z(&weeks[..baseline], center);
    // The center is the mean of the baseline weighted by 1/error², and varies like one.
    let precision: f64 = weeks[..baseline].iter().map(|week| week.error.powi(-2)).sum();
    let center_variance = if precision.is_finite() { sigma_z * sigma_z / precision } else { 0.0 };
    let (mut ewma, mut ewma_variance) = (center, 0.0);
    let (mut side, mut run) = (None, 0);
    let points = weeks.iter().enumerate().map(|(index, week)| {
        let variance = (week.error * sigma_z).powi(2);
        ewma = LAMBDA * week.value + (1.0 - LAMBDA) * ewma;
        ewma_variance = LAMBDA * LAMBDA * variance + (1.0 - LAMBDA).powi(2) * ewma_variance;
        let unsure = if index < baseline { 0.0 } else { center_variance };
        let limits = Limits::around(center, SIGMAS * (variance + unsure).sqrt(), range);
        let ewma_limits = Limits::around(center, EWMA_SIGMAS * (ewma_variance + unsure).sqrt(), range);
        let now = Limits { low: center, high: center }.side(week.value);
        run = if now.is_some() && now == side { run + 1 } else { usize::from(now.is_some()) };
        side = now;
        let mut signals = Vec::new();
        signals.extend(limits.side(week.value).map(Signal::Beyond));
        signals.extend(ewma_limits.side(ewma).map(Signal::Drift));
        signals.extend(now.filter(|_| run >= RUN).map(Signal::Run));
        Point { value: week.value, limits, ewma, ewma_limits, signals }
    });
    let points = points.collect();
    Chart { center, sigma_z, baseline, points }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::chance::{Binomial, Chance};

    fn counted(hits: &[i64], answers: i64) -> Vec<Share> {
        hits.iter().map(|hits| Share::counted(*hits, answers).unwrap()).collect()
    }

    #[test]
    fn experiments() {
        let mut chance = Chance::new(31);
        let is = [
            |_: &Signal| true,
            |s: &Signal| matches!(s, Signal::Beyond(_)),
            |s: &Signal| matches!(s, Signal::Drift(_)),
            |s: &Signal| matches!(s, Signal::Run(_)),
        ];
        let runs = 300;
        let mut total = [0; 4];
        for _ in 0..runs {
            let weeks: Vec<Observation> =
                (0..2_300).map(|_| Observation { value: chance.normal(), error: 1.0 }).collect();
            let c = observations(&weeks, Baseline::First(300)).unwrap();
            for kind in 0..4 {
                total[kind] +=
                    c.points[300..].iter().position(|p| p.signals.iter().any(is[kind])).unwrap_or(2_000) + 1;
            }
        }
        println!("kind ARL {:?}", total.map(|t| t / runs));
        for baseline in [13, 26, 52] {
            for overdispersion in [1.0, 1.5] {
                let runs = 1_000;
                let mut alarms = [0; 4];
                for _ in 0..runs {
                    let weeks: Vec<Observation> = (0..baseline + 52)
                        .map(|_| Observation { value: overdispersion * chance.normal(), error: 1.0 })
                        .collect();
                    let c = observations(&weeks, Baseline::First(baseline)).unwrap();
                    let after = &c.points[baseline..];
                    alarms[0] += i32::from(after.iter().any(|p| !p.signals.is_empty()));
                    alarms[1] += i32::from(
                        after.iter().any(|p| p.signals.iter().any(|s| matches!(s, Signal::Beyond(_)))),
                    );
                    alarms[2] += i32::from(
                        after.iter().any(|p| p.signals.iter().any(|s| matches!(s, Signal::Drift(_)))),
                    );
                    alarms[3] += i32::from(
                        after.iter().any(|p| p.signals.iter().any(|s| matches!(s, Signal::Run(_)))),
                    );
                }
                println!("kind baseline {baseline} {overdispersion}: {alarms:?} of {runs}");
            }
        }
        for (answers, baseline) in [(100, 26), (100, 52), (300, 26), (300, 52)] {
            let flat = Binomial::new(answers, 0.9);
            let falling: Vec<Binomial> =
                (1..=60).map(|week| Binomial::new(answers, 0.9 - 0.003 * f64::from(week))).collect();
            let runs = 500;
            let mut found = Vec::new();
            for _ in 0..runs {
                let mut hits: Vec<i64> = (0..baseline).map(|_| flat.draw(&mut chance)).collect();
                hits.extend(falling.iter().map(|f| f.draw(&mut chance)));
                let c = shares(&counted(&hits, i64::from(answers)), Baseline::First(baseline)).unwrap();
                found.push(
                    1 + c.points[baseline..]
                        .iter()
                        .position(|p| {
                            p.signals.iter().any(|s| {
                                matches!(
                                    s,
                                    Signal::Beyond(Side::Below)
                                        | Signal::Drift(Side::Below)
                                        | Signal::Run(Side::Below)
                                )
                            })
                        })
                        .unwrap_or(99),
                );
            }
            found.sort_unstable();
            println!(
                "kind decline {answers} {baseline}: {:?}",
                [0.5, 0.8, 0.9, 0.95].map(|q| found[(500.0 * q) as usize - 1])
            );
        }
    }
}
