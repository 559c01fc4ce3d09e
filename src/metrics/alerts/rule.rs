//! What an alert looks for, and what it finds. Pure: numbers come in, a [`Now`] goes out.
//!
//! | condition | opens | closes |
//! |---|---|---|
//! | below, above | the whole 95 % interval is beyond the limit, with `min_answers` or more | the figure itself is back at the limit |
//! | the same by segment | also, among all values of the segment with enough answers, a find of Benjamini and Hochberg at 5 % | the same |
//! | below, above, of a third party's score | the last two scores, of different days, are beyond the limit | the last score is back |
//! | falling, rising | Mann and Kendall's test, one-sided, p ≤ 1 % | p > 10 % |
//! | the same of a third party's score | the same, of the last score of each week | the same |
//! | shift | the last week has a signal on the control chart | the last two weeks have none |
//!
//! Between the two nothing changes: an alert that is open stays open, and none opens. Too few answers change nothing either.
//!
//! Trends and shifts look at whole weeks, from Monday to Sunday. The chart of a shift takes its center from the weeks of the window
//! before the last [`WATCHED`]; a shift that lasts longer than these becomes part of what is ordinary, and its alert closes.
//!
//! Measured by the tests of this module, with 100 answers a week:
//!
//! - A shop recommended by 90 % in which nothing happens has, within a year, an alert of a falling trend over 180 days in 14 % of cases,
//!   and one of a shift over 52 weeks in 18 %.
//! - It falls by 0.3 percentage points a week: the trend finds it within 17 / 22 / 26 / 28 weeks in 50 / 80 / 90 / 95 % of cases, the shift
//!   within 14 / 18 / 20 / 22. It falls to 80 % at once: the shift finds it within 1 / 3 / 4 / 4 weeks.
//! - A third party's score, of 100 ratings a week: where it is the mean of the last four weeks and nothing happens, it has an alert of a
//!   falling trend in 26 % of years; where it is the mean of a year, in 66 %, because such a mean wanders. When each week's ratings are 0.3
//!   points worse than those before, the mean of a year is told within 18 weeks in half of the cases and within 31 in 95 %.
//! - A limit of 80 %, looked at every night with a window of 28 days, opens within a year in 81 % of shops that are just on it, in 15 % of
//!   those at 82 %, in 0.3 % of those at 85 %: each look is wrong in 2.5 % at most, but there are many of them. A limit wants some distance
//!   from what is usual.

use std::fmt;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use super::super::comparison::{Net, Share, benjamini_hochberg};
use super::super::control_chart::{self, Baseline, Chart, Observation, Side, Signal};
use super::super::facts::{Fact, Tallied};
use super::super::figure::{Counts, Measure, Unit};
use super::super::segment::Segment;
use super::super::series::{Score, Volumes};
use super::super::trend::{self, DECLINE_P};
use super::super::{METRICS, Metric, interval, normal};

/// A trend is over when a test would call it one in so many of ten cases without one.
const TREND_OVER_P: f64 = 0.10;
/// Of the finds among the values of a segment, so many may be chance on average.
const FALSE_FINDS: f64 = 0.05;
/// A trend needs so many weeks.
pub const TREND_WEEKS: usize = 8;
/// A shift is looked for in the last so many weeks of the window; those before say what is ordinary.
pub const WATCHED: usize = 13;
/// A shift needs so many weeks.
pub const SHIFT_WEEKS: usize = WATCHED + control_chart::LEAST;

/// `[[alert]]`
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Unique in jobs.toml.
    pub name: String,
    pub subject: Subject,
    pub condition: Condition,
    /// How many days it looks at, the last one being yesterday.
    pub days: u16,
    /// With fewer it says nothing: in the whole window for a limit, in each week for a trend or a shift.
    pub min_answers: i64,
    /// Of which shops; `None`: all.
    pub shops: Option<Vec<String>>,
    /// For each value of this segment.
    pub by: Option<Segment>,
}

/// The figure that a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// One of [`METRICS`], by its key.
    Metric(&'static str),
    /// How many there are.
    Volume(Volume),
    /// How a third party rates the shop: the share of its scale.
    Score(String),
}

/// What there can be more or less of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Volume {
    Orders,
    Answers,
    MailsSent,
}

/// When an alert opens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Condition {
    Below(f64),
    Above(f64),
    Falling,
    Rising,
    /// A change in either direction.
    Shift,
}

/// The name of a third party's score among the metrics.
pub const THIRD_PARTY_SCORE: &str = "third_party_score";

impl Volume {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Orders, Self::Answers, Self::MailsSent];

    /// Its name in jobs.toml.
    pub fn key(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Answers => "answers",
            Self::MailsSent => "mails_sent",
        }
    }

    fn of(self, tallied: &Tallied) -> i64 {
        let volumes = Volumes::of(tallied);
        match self {
            Self::Orders => volumes.orders,
            Self::Answers => volumes.answers,
            Self::MailsSent => volumes.mails_sent,
        }
    }
}

impl Subject {
    /// Whether the latest of it still grows.
    pub fn ripens(&self) -> bool {
        matches!(self, Self::Metric(key) if Metric::named(key).is_some_and(|metric| metric.ripens))
    }

    /// What can stand as `metric` of an `[[alert]]`.
    pub fn keys() -> impl Iterator<Item = &'static str> + Clone {
        let volumes = Volume::ALL.iter().map(|volume| volume.key());
        METRICS.iter().map(|metric| metric.key).chain(volumes).chain([THIRD_PARTY_SCORE])
    }

    /// The one of this key; `source` is a third party's.
    pub fn parse(key: &str, source: Option<&str>) -> Option<Self> {
        if key == THIRD_PARTY_SCORE {
            return source.map(|source| Self::Score(source.to_owned()));
        }
        let volume = Volume::ALL.into_iter().find(|volume| volume.key() == key);
        volume.map(Self::Volume).or_else(|| metric(key).map(|metric| Self::Metric(metric.key)))
    }

    /// Its name in jobs.toml.
    pub fn key(&self) -> &str {
        match self {
            Self::Metric(key) => key,
            Self::Volume(volume) => volume.key(),
            Self::Score(_) => THIRD_PARTY_SCORE,
        }
    }

    /// How its values are written.
    pub fn scale(&self) -> Scale {
        Scale::of(self.key())
    }
}

fn metric(key: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.key == key)
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// From 0 to 1, written in percent.
    Share,
    /// From −100 to 100.
    Points,
    /// So and so many.
    Number,
}

impl Scale {
    /// Of the values of this metric.
    pub fn of(key: &str) -> Self {
        match Metric::named(key).map(|metric| metric.unit) {
            Some(Unit::Points) => Self::Points,
            Some(Unit::Share) => Self::Share,
            None if key == THIRD_PARTY_SCORE => Self::Share,
            None => Self::Number,
        }
    }

    /// The lowest and the highest value there can be.
    pub fn range(self) -> (f64, f64) {
        match self {
            Self::Share => Unit::Share.range(),
            Self::Points => Unit::Points.range(),
            Self::Number => (0.0, f64::INFINITY),
        }
    }

    /// A limit as precisely as it was typed, and not more: 0.8 is 80 %, 0.805 is 80.5 %.
    pub fn limit_text(self, limit: f64) -> String {
        match self {
            Self::Share => format!("{} %", (100.0 * limit * 1e6).round() / 1e6),
            Self::Points | Self::Number => limit.to_string(),
        }
    }
}

impl Condition {
    fn limit(self) -> Option<(Side, f64)> {
        match self {
            Self::Below(limit) => Some((Side::Below, limit)),
            Self::Above(limit) => Some((Side::Above, limit)),
            Self::Falling | Self::Rising | Self::Shift => None,
        }
    }

    /// What the name of a rule ends with that has no other.
    fn word(self) -> &'static str {
        match self {
            Self::Below(_) => "below",
            Self::Above(_) => "above",
            Self::Falling => "falling",
            Self::Rising => "rising",
            Self::Shift => "shift",
        }
    }
}

impl Rule {
    /// The name of a rule that was given none.
    pub fn derived_name(subject: &Subject, condition: Condition, by: Option<&Segment>) -> String {
        let source = match subject {
            Subject::Score(source) => format!("-{source}"),
            Subject::Metric(_) | Subject::Volume(_) => String::new(),
        };
        let by = by.map(|segment| format!("-by-{segment}")).unwrap_or_default();
        let name = format!("{}{source}-{}{by}", subject.key(), condition.word());
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
    }

    /// Whether it is about this shop.
    pub fn is_for(&self, shop: &str) -> bool {
        self.shops.as_ref().is_none_or(|shops| shops.iter().any(|key| key == shop))
    }

    /// How many whole weeks its window has.
    pub fn n_weeks(&self) -> usize {
        usize::from(self.days / 7)
    }

    /// The value a metric should not fall below, or rise above: what the figure of the shop is measured by elsewhere, too.
    pub fn target(&self) -> Option<f64> {
        self.condition.limit().filter(|_| self.by.is_none()).map(|(_, limit)| limit)
    }
}

/// What the rule is, in words, for `check`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, condition, days, min_answers, by, .. } = self;
        let key = subject.key();
        let weeks = self.n_weeks();
        let each = by.as_ref().map(|segment| format!(", for each value of {segment}")).unwrap_or_default();
        match (condition, subject) {
            (Condition::Below(limit) | Condition::Above(limit), Subject::Score(source)) => {
                let (word, limit) = (condition.word(), Scale::Share.limit_text(*limit));
                write!(
                    f,
                    "opens when the last two scores of {source}, of different days and of the last {days} days, are {word} {limit} of \
                     its scale; closes when the last one is not. It is no sample, so nothing says how sure it is"
                )
            }
            (Condition::Below(limit) | Condition::Above(limit), _) => {
                let (word, limit) = (condition.word(), subject.scale().limit_text(*limit));
                write!(
                    f,
                    "opens when the whole 95 % interval of {key} over the last {days} days{each} is {word} {limit}, with {min_answers} \
                     or more that count; closes when {key} itself is back at {limit}"
                )?;
                match by {
                    Some(_) => f.write_str(
                        ". Of the values that one night finds, at most 5 % are chance on average (Benjamini and Hochberg)",
                    ),
                    None => Ok(()),
                }
            }
            (Condition::Falling | Condition::Rising, Subject::Score(source)) => write!(
                f,
                "opens when the weekly score of {source} has been {} over the last {weeks} weeks (Mann and Kendall, p at most 1 %); closes \
                 when p is above 10 %. While nothing happens, a score that is the mean of a year has such an alert in two years of three, \
                 one that is the mean of a month in one of four",
                condition.word()
            ),
            (Condition::Falling | Condition::Rising, _) => {
                let word = condition.word();
                write!(
                    f,
                    "opens when {key} has been {word} over the last {weeks} weeks (Mann and Kendall, p at most 1 %); closes when p is \
                     above 10 %. While nothing happens, about one year in seven has such an alert"
                )
            }
            (Condition::Shift, _) => write!(
                f,
                "opens when the last week of {key}, or its weighted mean, is out of the ordinary of the {} weeks before the last \
                 {WATCHED} (control chart and EWMA); closes after two ordinary weeks. While nothing happens, about one year in six \
                 has such an alert",
                weeks.saturating_sub(WATCHED)
            ),
        }?;
        if subject.ripens() {
            f.write_str(". Mails of the last two weeks are left out: they are still being answered")?;
        }
        Ok(())
    }
}

/// What a rule sees.
#[derive(Debug, Clone, PartialEq)]
pub enum Now {
    /// An alert is open, or opens.
    Beyond(What),
    /// An open alert stays open; none opens.
    Between(What),
    /// An open alert closes.
    Back(What),
    /// Too little to say anything: nothing changes.
    Silent,
}

/// The numbers that were found. Of shares from 0 to 1, of net promoter scores in points, of volumes per week.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// A figure and its limit.
    Limit {
        side: Toward,
        limit: f64,
        value: f64,
        ci_low: f64,
        ci_high: f64,
        numerator: i64,
        denominator: i64,
    },
    /// A third party's last score, and when it was beyond the limit before.
    Score { side: Toward, limit: f64, value: f64, rated_on: NaiveDate, before: Option<NaiveDate> },
    /// A figure that moves by `per_week`; below 0: it falls.
    Trend { direction: Toward, per_week: f64, ci_low: f64, ci_high: f64, p: f64, weeks: usize, value: f64 },
    /// The last week (or the weighted mean, where that is what speaks) and what is ordinary.
    Shift {
        /// Why it is out of the ordinary; absent: it is not.
        signal: Option<Sign>,
        side: Toward,
        value: f64,
        low: f64,
        high: f64,
        center: f64,
        weeks: usize,
    },
}

/// In which direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Toward {
    Below,
    Above,
}

/// What of a control chart speaks; see [`Signal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    Beyond,
    Drift,
    Run,
}

impl From<Side> for Toward {
    fn from(side: Side) -> Self {
        match side {
            Side::Below => Self::Below,
            Side::Above => Self::Above,
        }
    }
}

fn is_beyond(side: Side, value: f64, limit: f64) -> bool {
    match side {
        Side::Below => value < limit,
        Side::Above => value > limit,
    }
}

/// A figure and its limit.
pub fn limit(counts: Counts, (side, limit): (Side, f64), min_answers: i64) -> Now {
    against(counts, (side, limit), min_answers, true)
}

/// `is_find`: whether the figure may open an alert at all.
fn against(counts: Counts, (side, limit): (Side, f64), min_answers: i64, is_find: bool) -> Now {
    let Measure { numerator, denominator, value, ci_low, ci_high, .. } = Measure::of(counts);
    let (Some(value), Some(ci_low), Some(ci_high)) = (value, ci_low, ci_high) else { return Now::Silent };
    if denominator < min_answers {
        return Now::Silent;
    }
    let what = What::Limit { side: side.into(), limit, value, ci_low, ci_high, numerator, denominator };
    let nearest = match side {
        Side::Below => ci_high,
        Side::Above => ci_low,
    };
    if !is_beyond(side, value, limit) {
        Now::Back(what)
    } else if is_find && is_beyond(side, nearest, limit) {
        Now::Beyond(what)
    } else {
        Now::Between(what)
    }
}

/// The figures of the values of a segment, and their common limit. Those with too few answers say nothing and are not among the many that
/// were looked at.
pub fn limits<K>(values: Vec<(K, Counts)>, (side, limit): (Side, f64), min_answers: i64) -> Vec<(K, Now)> {
    let enough: Vec<(K, Counts)> = values
        .into_iter()
        .filter(|(_, counts)| Measure::of(*counts).denominator >= min_answers.max(1))
        .collect();
    let p: Vec<f64> = enough.iter().map(|(_, counts)| p_beyond(*counts, side, limit)).collect();
    let finds = benjamini_hochberg(&p, FALSE_FINDS);
    let judged = enough.into_iter().zip(finds);
    judged
        .map(|((value, counts), is_find)| (value, against(counts, (side, limit), min_answers, is_find)))
        .collect()
}

/// How likely a figure at least this far beyond its limit would be, either way, if the truth were on the limit; 1 where it is not beyond.
/// The error is the one that the figure's interval is made with: of a share, that of the limit.
fn p_beyond(counts: Counts, side: Side, limit: f64) -> f64 {
    let (distance, error) = match counts {
        Counts::Share { hits, total, .. } => {
            let n = total as f64;
            (hits as f64 / n - limit, (limit * (1.0 - limit) / n).sqrt())
        }
        Counts::Net { promoters, passives, detractors } => {
            let Some(net) = Net::counted(promoters, passives, detractors) else { return 1.0 };
            match interval::adjusted(net.promoters, net.detractors, net.answers) {
                Some(adjusted) => (100.0 * adjusted.score - limit, 100.0 * adjusted.error),
                None => return 1.0,
            }
        }
    };
    if is_beyond(side, distance, 0.0) { normal::two_sided(distance / error) } else { 1.0 }
}

/// A third party's scores, in order of time, and their limit.
pub fn score(scores: &[Score], (side, limit): (Side, f64)) -> Now {
    let Some(last) = scores.last() else { return Now::Silent };
    let before = scores.iter().rev().find(|score| score.rated_on < last.rated_on);
    let before = before.filter(|before| is_beyond(side, before.score, limit)).map(|before| before.rated_on);
    let what = What::Score { side: side.into(), limit, value: last.score, rated_on: last.rated_on, before };
    if !is_beyond(side, last.score, limit) {
        Now::Back(what)
    } else if before.is_some() {
        Now::Beyond(what)
    } else {
        Now::Between(what)
    }
}

/// What a week has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Week {
    Counts(Counts),
    Number(i64),
    /// The last of a third party's scores in the week, if there was one.
    Score(Option<f64>),
}

impl Week {
    /// What this subject has in a week.
    pub(super) fn of(
        subject: &Subject,
        tallied: &Tallied,
        surveys: &[&crate::survey::Survey],
    ) -> Option<Self> {
        match subject {
            Subject::Metric(key) => {
                Metric::named(key).map(|metric| Self::Counts(metric.counts(tallied, surveys, Fact::Answer)))
            }
            Subject::Volume(volume) => Some(Self::Number(volume.of(tallied))),
            Subject::Score(_) => None,
        }
    }

    /// The figure, if it rests on so many answers.
    fn value(self, min_answers: i64) -> Option<f64> {
        match self {
            Self::Counts(counts) => {
                let measure = Measure::of(counts);
                measure.value.filter(|_| measure.denominator >= min_answers)
            }
            Self::Number(n) => Some(n as f64),
            Self::Score(score) => score,
        }
    }
}

/// Whether a weekly figure falls or rises. Weeks with too few answers are left out; where they are half of all, nothing is said.
pub fn trend(weeks: &[Week], falling: bool, min_answers: i64) -> Now {
    let series: Vec<(f64, f64)> =
        weeks.iter().enumerate().filter_map(|(n, week)| Some((n as f64, week.value(min_answers)?))).collect();
    if series.len() < TREND_WEEKS || 2 * series.len() <= weeks.len() {
        return Now::Silent;
    }
    let (Some(found), Some((_, value))) = (trend::mann_kendall(&series), series.last()) else {
        return Now::Silent;
    };
    let is_this_way = if falling { found.rises < 0 } else { found.rises > 0 };
    let p = if is_this_way { found.p / 2.0 } else { 1.0 - found.p / 2.0 };
    let what = What::Trend {
        direction: if falling { Toward::Below } else { Toward::Above },
        per_week: found.slope,
        ci_low: found.interval.low,
        ci_high: found.interval.high,
        p,
        weeks: series.len(),
        value: *value,
    };
    if p <= DECLINE_P {
        Now::Beyond(what)
    } else if p > TREND_OVER_P {
        Now::Back(what)
    } else {
        Now::Between(what)
    }
}

/// Whether the last week is out of the ordinary. Weeks with too few answers are left out; where the last one is, nothing is said.
pub fn shift(weeks: &[Week], min_answers: i64) -> Now {
    let kept: Vec<Week> = weeks.iter().copied().filter(|week| week.value(min_answers).is_some()).collect();
    if kept.len() < SHIFT_WEEKS || weeks.last().is_none_or(|last| last.value(min_answers).is_none()) {
        return Now::Silent;
    }
    let Some(chart) = chart(&kept) else { return Now::Silent };
    let (Some(last), before) = (chart.points.last(), &chart.points[..chart.points.len() - 1]) else {
        return Now::Silent;
    };
    let side = if last.value < chart.center { Side::Below } else { Side::Above };
    let (signal, side) = match last.signals.first() {
        None => (None, side),
        Some(Signal::Beyond(side)) => (Some(Sign::Beyond), *side),
        Some(Signal::Drift(side)) => (Some(Sign::Drift), *side),
        Some(Signal::Run(side)) => (Some(Sign::Run), *side),
    };
    let (value, limits) = match signal {
        Some(Sign::Drift) => (last.ewma, last.ewma_limits),
        None | Some(Sign::Beyond | Sign::Run) => (last.value, last.limits),
    };
    let what = What::Shift {
        signal,
        side: side.into(),
        value,
        low: limits.low,
        high: limits.high,
        center: chart.center,
        weeks: chart.baseline,
    };
    match (signal, before.last().is_some_and(|week| week.signals.is_empty())) {
        (Some(_), _) => Now::Beyond(what),
        (None, true) => Now::Back(what),
        (None, false) => Now::Between(what),
    }
}

/// The control chart of these weeks, the last [`WATCHED`] not among the baseline; `None` where there is nothing to compare with.
fn chart(weeks: &[Week]) -> Option<Chart> {
    let n_baseline = weeks.len() - WATCHED;
    let baseline = Baseline::First(n_baseline);
    match weeks.first()? {
        Week::Counts(Counts::Share { .. }) => {
            let share = |week: &Week| match week {
                Week::Counts(Counts::Share { hits, total, .. }) => Share::counted(*hits, *total),
                Week::Counts(Counts::Net { .. }) | Week::Number(_) | Week::Score(_) => None,
            };
            control_chart::shares(&weeks.iter().map(share).collect::<Option<Vec<_>>>()?, baseline)
        }
        Week::Counts(Counts::Net { .. }) => {
            let net = |week: &Week| match week {
                Week::Counts(Counts::Net { promoters, passives, detractors }) => {
                    Net::counted(*promoters, *passives, *detractors)
                }
                Week::Counts(Counts::Share { .. }) | Week::Number(_) | Week::Score(_) => None,
            };
            control_chart::nets(&weeks.iter().map(net).collect::<Option<Vec<_>>>()?, baseline)
        }
        Week::Number(_) => {
            let numbers: Vec<f64> = weeks.iter().filter_map(|week| week.value(0)).collect();
            // What comes one by one varies by the root of how many come; what varies more than that is found by the chart itself.
            let error = (numbers[..n_baseline].iter().sum::<f64>() / n_baseline as f64).sqrt();
            let observed: Vec<_> = numbers.into_iter().map(|value| Observation { value, error }).collect();
            control_chart::observations(&observed, baseline)
        }
        // It is no sample, so nobody knows how far it may vary; the configuration sees to it.
        Week::Score(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::chance::{Binomial, Chance, measured};

    fn share(hits: i64, total: i64) -> Counts {
        Counts::Share { hits, total, unknown: None }
    }

    fn standing(now: &Now) -> &'static str {
        match now {
            Now::Beyond(_) => "beyond",
            Now::Between(_) => "between",
            Now::Back(_) => "back",
            Now::Silent => "silent",
        }
    }

    #[track_caller]
    fn check(now: &Now, expected: &str) {
        assert_eq!(standing(now), expected, "{now:?}");
    }

    #[test]
    fn a_limit_opens_with_the_whole_interval_and_closes_with_the_figure() {
        let below = |hits, total| limit(share(hits, total), (Side::Below, 0.8), 30);
        check(&below(210, 300), "beyond");
        // Below, but the interval reaches up to 83.7 %.
        check(&below(237, 300), "between");
        check(&below(240, 300), "back");
        check(&below(0, 29), "silent");
        check(&below(0, 30), "beyond");
        check(&limit(share(270, 300), (Side::Above, 0.8), 30), "beyond");
        check(&limit(share(240, 300), (Side::Above, 0.8), 30), "back");
        let net = |promoters, passives, detractors| Counts::Net { promoters, passives, detractors };
        check(&limit(net(50, 20, 130), (Side::Below, 0.0), 30), "beyond");
        check(&limit(net(95, 10, 100), (Side::Below, 0.0), 30), "between");
        check(&limit(net(100, 0, 100), (Side::Below, 0.0), 30), "back");
        check(&limit(share(0, 0), (Side::Below, 0.5), 0), "silent");
    }

    #[test]
    fn p_is_that_of_the_interval() {
        // Where the interval just reaches the limit, p is just 5 %.
        let net = |promoters, passives, detractors| Counts::Net { promoters, passives, detractors };
        for counts in [share(220, 300), share(30, 40), share(0, 20), net(40, 30, 90), net(1, 0, 40)] {
            let high = Measure::of(counts).ci_high.unwrap();
            let p = p_beyond(counts, Side::Below, high);
            assert!((p - 0.05).abs() < 1e-9, "{counts:?}: {p}");
            assert_eq!(p_beyond(counts, Side::Above, high), 1.0);
        }
    }

    #[test]
    fn of_many_segments_only_what_is_no_chance() {
        // Alone, 32 of 50 is beyond 80 %; among twenty others it is not, and 20 of 50 is.
        check(&limit(share(33, 50), (Side::Below, 0.8), 30), "beyond");
        let mut values = vec![("worst", share(20, 50)), ("bad", share(33, 50)), ("few", share(0, 9))];
        values.extend((0..20).map(|_| ("good", share(45, 50))));
        let found = limits(values, (Side::Below, 0.8), 30);
        let of = |name: &str| found.iter().find(|(value, _)| *value == name).map(|(_, now)| standing(now));
        assert_eq!((of("worst"), of("bad"), of("good")), (Some("beyond"), Some("between"), Some("back")));
        assert_eq!(of("few"), None);
        // Those with too few answers were not looked at.
        let mut values = vec![("bad", share(33, 50))];
        values.extend((0..20).map(|_| ("few", share(8, 9))));
        let found = limits(values, (Side::Below, 0.8), 30);
        assert!(matches!(&found[..], [("bad", Now::Beyond(_))]), "{found:?}");
    }

    #[test]
    fn a_score_has_to_persist() {
        let scores = |scores: &[(&str, f64)]| -> Vec<Score> {
            scores
                .iter()
                .map(|(day, score)| Score { rated_on: day.parse().unwrap(), score: *score, ratings: None })
                .collect()
        };
        let below = |of: &[(&str, f64)]| score(&scores(of), (Side::Below, 0.95));
        check(&below(&[]), "silent");
        check(&below(&[("2026-03-01", 0.94)]), "between");
        check(&below(&[("2026-03-01", 0.96), ("2026-03-02", 0.94)]), "between");
        check(&below(&[("2026-03-01", 0.94), ("2026-03-08", 0.94)]), "beyond");
        check(&below(&[("2026-03-01", 0.94), ("2026-03-08", 0.95)]), "back");
    }

    /// The score of a site that shows the mean of the last so many weeks, to a tenth of a percent, from 100 ratings a week.
    fn shown(ratings: &[i64], weeks: usize) -> Vec<Week> {
        let mean = |window: &[i64]| window.iter().sum::<i64>() as f64 / (100 * window.len()) as f64;
        ratings
            .windows(weeks)
            .map(|window| Week::Score(Some((mean(window) * 1000.0).round() / 1000.0)))
            .collect()
    }

    #[test]
    fn a_score_that_falls_slightly_and_regularly() {
        let falling = |scores: &[Option<f64>]| {
            trend(&scores.iter().map(|score| Week::Score(*score)).collect::<Vec<_>>(), true, 10)
        };
        let slow: Vec<_> = (0..25).map(|week| Some(0.97 - 0.0005 * f64::from(week))).collect();
        check(&falling(&slow), "beyond");
        // A week that nobody wrote down is left out; where that is half of them, nothing is said.
        let gaps = |every: usize| -> Vec<_> { (0..25).map(|n| slow[n].filter(|_| n % every != 0)).collect() };
        check(&falling(&gaps(5)), "beyond");
        check(&falling(&gaps(2)), "silent");
        check(&falling(&[Some(0.97); 25]), "back");
        let up: Vec<_> = slow.iter().rev().copied().collect();
        check(&falling(&up), "back");

        let (mut chance, runs) = (Chance::new(53), 200);
        let (flat, mut alarms, mut found) = (Binomial::new(100, 0.97), [0; 2], Vec::new());
        for _ in 0..runs {
            for (alarms, memory) in alarms.iter_mut().zip([4, 52]) {
                let ratings: Vec<i64> = (0..memory + 75).map(|_| flat.draw(&mut chance)).collect();
                *alarms += i32::from(opens(&shown(&ratings, memory), 25, |w| trend(w, true, 10)).is_some());
            }
            let mut ratings: Vec<i64> = (0..52 + 24).map(|_| flat.draw(&mut chance)).collect();
            ratings.extend(
                (1..=60).map(|week| Binomial::new(100, 0.97 - 0.003 * f64::from(week)).draw(&mut chance)),
            );
            found.push(opens(&shown(&ratings, 52), 25, |w| trend(w, true, 10)).map_or(99, |n| n.max(1)));
        }
        found.sort_unstable();
        measured(format_args!("flat scores, means of 4 and of 52 weeks: {alarms:?} of {runs} years fall"));
        measured(format_args!(
            "mean of 52 weeks, ratings lose 0.3 points a week: {} / {} weeks",
            found[runs / 2],
            found[runs * 95 / 100]
        ));
        assert!((35..=70).contains(&alarms[0]) && (110..=155).contains(&alarms[1]), "{alarms:?}");
        assert!(found[runs / 2] <= 20 && found[runs * 95 / 100] <= 35, "{found:?}");
    }

    #[test]
    fn names_are_made_of_what_the_rule_is() {
        let name = |key, source, condition, by: Option<&str>| {
            let by = by.map(|by| by.parse().unwrap());
            Rule::derived_name(&Subject::parse(key, source).unwrap(), condition, by.as_ref())
        };
        assert_eq!(
            name("recommendation_rate", None, Condition::Below(0.8), None),
            "recommendation-rate-below"
        );
        assert_eq!(
            name("third_party_score", Some("Fia Net"), Condition::Below(0.95), None),
            "third-party-score-fia-net-below"
        );
        assert_eq!(
            name("nps", None, Condition::Above(50.0), Some("attributes.channel")),
            "nps-above-by-attributes-channel"
        );
        assert_eq!(name("orders", None, Condition::Shift, None), "orders-shift");
        assert!(Subject::parse("third_party_score", None).is_none());
        for key in Subject::keys() {
            assert_eq!(Subject::parse(key, Some("portal")).unwrap().key(), key);
        }
        assert_eq!(Scale::Share.limit_text(0.29), "29 %");
        assert_eq!(Scale::Share.limit_text(0.805), "80.5 %");
        assert_eq!(Scale::of("nps"), Scale::Points);
        assert_eq!(Scale::of("csat"), Scale::Share);
        assert_eq!(Scale::of("orders"), Scale::Number);
    }

    const ANSWERS: u32 = 100;

    fn weeks(chance: &mut Chance, n: usize, answered: &Binomial) -> Vec<Week> {
        (0..n).map(|_| Week::Counts(share(answered.draw(chance), i64::from(ANSWERS)))).collect()
    }

    /// How many weeks from the first one on, if ever, until the rule opens an alert; it looks at the last `window` weeks.
    fn opens(weeks: &[Week], window: usize, look: impl Fn(&[Week]) -> Now) -> Option<usize> {
        (window..=weeks.len()).position(|end| matches!(look(&weeks[end - window..end]), Now::Beyond(_)))
    }

    #[test]
    fn a_year_of_a_flat_shop() {
        let mut chance = Chance::new(41);
        let flat = Binomial::new(ANSWERS, 0.9);
        let runs = 400;
        let (mut falling, mut shifts) = (0, 0);
        for _ in 0..runs {
            let history = weeks(&mut chance, 52 + 51, &flat);
            falling += i32::from(opens(&history[26..], 25, |w| trend(w, true, 10)).is_some());
            shifts += i32::from(opens(&history, 52, |w| shift(w, 30)).is_some());
        }
        measured(format_args!("falling over 25 weeks: {falling} of {runs} years; shift: {shifts} of {runs}"));
        assert!((30..=70).contains(&falling), "{falling}");
        assert!((30..=90).contains(&shifts), "{shifts}");
    }

    #[test]
    fn a_slow_decline_is_found_and_a_sudden_one_at_once() {
        let mut chance = Chance::new(43);
        let flat = Binomial::new(ANSWERS, 0.9);
        let slow: Vec<_> =
            (1..=60).map(|week| Binomial::new(ANSWERS, 0.9 - 0.003 * f64::from(week))).collect();
        let sudden = Binomial::new(ANSWERS, 0.8);
        let runs = 200;
        let (mut by_trend, mut by_shift, mut suddenly) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..runs {
            let before = weeks(&mut chance, 51, &flat);
            let fall = slow.iter().map(|week| Week::Counts(share(week.draw(&mut chance), 100)));
            let history: Vec<Week> = before.iter().copied().chain(fall).collect();
            by_trend.push(opens(&history[27..], 25, |w| trend(w, true, 10)).unwrap_or(98) + 1);
            by_shift.push(opens(&history, 52, |w| shift(w, 30)).unwrap_or(98) + 1);
            let history: Vec<Week> = before.into_iter().chain(weeks(&mut chance, 20, &sudden)).collect();
            suddenly.push(opens(&history, 52, |w| shift(w, 30)).unwrap_or(98) + 1);
        }
        let quantiles = |found: &mut Vec<usize>| {
            found.sort_unstable();
            [runs / 2, runs * 8 / 10, runs * 9 / 10, runs * 95 / 100].map(|rank| found[rank - 1])
        };
        let (by_trend, by_shift) = (quantiles(&mut by_trend), quantiles(&mut by_shift));
        let suddenly = quantiles(&mut suddenly);
        measured(format_args!("0.3 points a week: trend {by_trend:?}, shift {by_shift:?} weeks"));
        measured(format_args!("90 to 80 % at once: {suddenly:?} weeks"));
        assert!(by_trend.iter().zip([18, 23, 26, 30]).all(|(weeks, most)| *weeks <= most), "{by_trend:?}");
        assert!(by_shift.iter().zip([18, 24, 30, 40]).all(|(weeks, most)| *weeks <= most), "{by_shift:?}");
        assert!(suddenly.iter().zip([3, 4, 4, 5]).all(|(weeks, most)| *weeks <= most), "{suddenly:?}");
    }

    #[test]
    fn a_year_on_and_above_the_limit() {
        let mut chance = Chance::new(47);
        let runs = 300;
        // 28 days of so many answers a day.
        let per_day = ANSWERS / 7;
        for (truth, low, high) in [(0.8, 0.7, 0.9), (0.82, 0.05, 0.25), (0.85, 0.0, 0.01)] {
            let day = Binomial::new(per_day, truth);
            let alarms = (0..runs).filter(|_| {
                let days: Vec<i64> = (0..365 + 27).map(|_| day.draw(&mut chance)).collect();
                days.windows(28).any(|window| {
                    let counts = share(window.iter().sum(), 28 * i64::from(per_day));
                    matches!(limit(counts, (Side::Below, 0.8), 30), Now::Beyond(_))
                })
            });
            let alarms = alarms.count() as f64 / f64::from(runs);
            measured(format_args!("limit 80 %, truth {truth}: {alarms:.3} of years"));
            assert!((low..=high).contains(&alarms), "{truth}: {alarms}");
        }
    }

    #[test]
    fn weeks_without_answers_are_left_out() {
        let mut chance = Chance::new(53);
        let mut history = weeks(&mut chance, 40, &Binomial::new(ANSWERS, 0.9));
        check(&shift(&history, 30), "back");
        history.push(Week::Counts(share(20, 29)));
        check(&shift(&history, 30), "silent");
        history.push(Week::Counts(share(60, 100)));
        check(&shift(&history, 30), "beyond");
        check(&shift(&history[25..], 30), "silent");
        // No orders at all is a number, too.
        let mut orders: Vec<Week> = (0..40).map(|n| Week::Number(100 + n % 7)).collect();
        check(&shift(&orders, 30), "back");
        orders.push(Week::Number(0));
        check(&shift(&orders, 30), "beyond");
        // The same every week is on no side of itself.
        check(&shift(&[Week::Number(100); 40], 30), "back");
        check(&shift(&[Week::Counts(share(90, 100)); 40], 30), "back");
        let falling: Vec<Week> = (0..20).map(|n| Week::Number(100 - n)).collect();
        check(&trend(&falling, true, 10), "beyond");
        check(&trend(&falling, false, 10), "back");
        check(&trend(&falling[..7], true, 10), "silent");
        let sparse: Vec<Week> = (0..20)
            .map(|n| if n % 2 == 0 { Week::Number(100 - n) } else { Week::Counts(share(0, 0)) })
            .collect();
        check(&trend(&sparse, true, 10), "silent");
    }
}
