//! What a figure is worth: against the stretch of time before, against its target, weighted so that it does not depend on who likes to
//! answer, and between the bounds that hold whatever the silent think.
//!
//! - [`Before`]: all figures, where the window has a start. The stretch before is as long as the window and ends where that begins; of a
//!   day, week, month, quarter or year of the shop's zone it is the one before. Of a window that is not over, it is as much of the
//!   stretch before as has gone by of the window. Whether mails are answered shows only with time; so those of the stretch before are
//!   looked at as long after its end as the window is looked at after its own.
//! - [`Target`]: the figures that were given one.
//! - [`Weighted`]: recommendation rate, net promoter score and satisfaction, from [`ENOUGH`] answers on. The **frame**, to which the answers
//!   are made alike, is every order whose first mail became due in the window, once for each survey that asks the question, whether it was
//!   mailed, answered, or passed over (throttled, not sampled, without consent or address…). Not in it: orders that were cancelled or sent
//!   back before the mail was to go. An order that was sent back later is in it, for its answer counts in the figure too. The weighted
//!   answers are those to the orders of the frame as they stand at the moment of the report. They are not quite those of the figure itself,
//!   which are placed by when they were given, and may have come without a mail of ours; [`Weighted::plain`] is therefore the figure of just
//!   these answers without weights.
//! - [`Bounds`]: the same three. Of the orders of the frame that the relay took a first mail about, or may have, those without an answer all
//!   say no, or all say yes.
//!
//! The interval of the figure itself is not narrowed where a good part of those who were asked answered: shops ask what
//! the customers to come will think, and of these the answers are a small sample however many they are.
//!
//! Of a report of a past night only `before` and `target` are there: nights do not know who was silent.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Days, Utc};
use chrono_tz::Tz;
use serde::Serialize;
use sqlx::PgConnection;

use super::answers::Tally;
use super::comparison::{self, Against, Change, Net, Share};
use super::facts;
use super::figure::{Counts, Measure, Unit, grouped};
use super::interval::{self, Interval};
use super::period::{Period, Stretch};
use super::series::{self, Subject};
use super::weights::{self, Cell, Margin, Raked, Settings};
use super::window::{Span, day_of, first_moment};
use super::{Metric, OfAnswers};
use crate::survey::Survey;

/// So many answers it takes to weight them.
pub const ENOUGH: u64 = 100;

/// A category of less than this share of the orders is put together with the others like it.
const SMALL: f64 = 0.05;

/// The difference between a weighted share and the orders' from which on it is told.
const TELLING_MISS: f64 = 0.01;

/// What a figure is worth besides its interval. What is null does not apply, or cannot be said.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Certainty {
    /// Against the stretch of time before.
    pub before: Option<Before>,
    /// Against the target of the figure.
    pub target: Option<Target>,
    /// Made to look like all orders.
    pub weighted: Option<Weighted>,
    /// Why it is not, where it could be; a sentence.
    pub not_weighted: Option<String>,
    /// Whatever the silent think.
    pub bounds: Option<Bounds>,
}

/// The figure of the stretch of time before, and how much the one of the window is above it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Before {
    /// The start of the stretch.
    pub from: DateTime<Utc>,
    /// Its end, exclusive.
    pub to: DateTime<Utc>,
    pub numerator: i64,
    pub denominator: i64,
    /// The figure of the stretch before.
    pub value: f64,
    /// The figure of the window minus that: of shares from −1 to 1, of net promoter scores in points.
    pub difference: f64,
    /// The lower bound of the 95 % interval of the difference.
    pub ci_low: f64,
    /// Its upper bound.
    pub ci_high: f64,
    /// What the difference says.
    pub change: Change,
}

/// The figure against its target.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Target {
    /// In the unit of the figure.
    pub target: f64,
    pub verdict: TargetVerdict,
    /// Undecided: about how many more answers would settle it, if they were like the ones so far; null: no number that anybody waits for.
    pub more: Option<u64>,
}

/// On which side of its target a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetVerdict {
    /// The whole interval is.
    Above,
    /// The whole interval is.
    Below,
    /// The target is in the interval.
    Undecided,
}

/// The figure of answers that were weighted to look like all orders of the frame.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Weighted {
    pub value: f64,
    /// The lower bound of the 95 % interval.
    pub ci_low: f64,
    /// Its upper bound.
    pub ci_high: f64,
    /// The figure of the same answers without weights.
    pub plain: f64,
    /// The answers that were weighted.
    pub answers: u64,
    /// To so many orders.
    pub orders: u64,
    /// How many answers of equal weight would be as precise.
    pub effective: f64,
    /// How many times the variance is greater for the weights: answers / effective.
    pub design_effect: f64,
    /// By what the answers were made to look like the orders.
    pub facts: Vec<&'static str>,
    /// What has orders and no answers; the rest of the fact stands for it.
    pub collapsed: Vec<Silent>,
    /// How many answers have the greatest weight that is allowed.
    pub capped: u64,
    /// The greatest difference left between a weighted share and the orders', from 0 to 1; above 0.000001 only where weights were capped.
    pub miss: f64,
}

/// Orders of which none was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Silent {
    pub fact: &'static str,
    pub category: String,
    pub orders: u64,
}

/// The figure had everybody answered who was asked.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bounds {
    /// Had all the silent said no (been detractors).
    pub worst: f64,
    /// Had all the silent said yes (been promoters).
    pub best: f64,
    /// So many were asked: orders that the relay took a first mail about, or may have.
    pub asked: i64,
    /// Of these so many answered.
    pub answered: i64,
}

impl Certainty {
    /// Of a night, or of one answer per customer.
    pub(super) fn without_frame(metric: &str, is_frozen: bool) -> Self {
        let why = if is_frozen {
            "Not weighted: what the night knew does not say who was silent."
        } else {
            "Not weighted: orders are weighted, and here each customer counts once."
        };
        Self { not_weighted: WEIGHTED.contains(&metric).then(|| why.to_owned()), ..Self::default() }
    }

    /// What is added to the sentence about the interval.
    pub(super) fn sentences(&self, unit: Unit, noun: &str) -> Vec<String> {
        let before = self.before.map(|before| before.in_words(unit));
        let target = self.target.map(|target| target.in_words(unit, noun));
        before.into_iter().chain(target).collect()
    }

    /// The weighted figure in a sentence, or why there is none; `None` where it is not weighted in principle.
    pub fn weighted_in_words(&self, unit: Unit) -> Option<String> {
        let Some(weighted) = &self.weighted else { return self.not_weighted.clone() };
        let silent = weighted.collapsed.iter().map(|silent| format!("{} {}", silent.fact, silent.category));
        let silent = silent.collect::<Vec<_>>().join(", ");
        let silent = if silent.is_empty() { silent } else { format!(" Nobody answered of: {silent}.") };
        let miss = if weighted.miss > TELLING_MISS {
            format!(
                " Not all shares of the orders could be met: one is off by {} points, for no answer weighs more than {} average ones.",
                number(100.0 * weighted.miss),
                Settings::default().cap
            )
        } else {
            String::new()
        };
        Some(format!(
            "Weighted to all {} orders that were due, by {}: {} ({} to {}), worth {} answers of equal weight; the same {} answers \
             unweighted: {}.{silent}{miss}",
            grouped(whole(weighted.orders)),
            weighted.facts.join(", ").replace('_', " "),
            unit.text(weighted.value),
            unit.text(weighted.ci_low),
            unit.text(weighted.ci_high),
            weighted.effective.round(),
            grouped(whole(weighted.answers)),
            unit.text(weighted.plain),
        ))
    }

    /// The bounds in a sentence.
    pub fn bounds_in_words(&self, unit: Unit) -> Option<String> {
        let Bounds { worst, best, asked, answered } = self.bounds?;
        let (no, yes) = match unit {
            Unit::Share => ("said no", "said yes"),
            Unit::Points => ("been detractors", "been promoters"),
        };
        Some(format!(
            "{} of {} asked answered: {} had all the others {no}, {} had they {yes}.",
            grouped(answered),
            grouped(asked),
            unit.text(worst),
            unit.text(best)
        ))
    }
}

fn whole(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

// ---- Against the stretch before.

/// With what a window is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Earlier {
    /// All that is known.
    pub(super) span: Span,
    /// What was known as long after the end of the stretch as the window is looked at after its own.
    pub(super) at_that_age: Span,
    /// The period of the calendar it is; of a window that is over.
    pub(super) stretch: Option<Stretch>,
}

impl Earlier {
    /// `None`: the window has no start, or nothing of it has gone by.
    pub(super) fn than(window: Span, zone: Tz) -> Option<Self> {
        let (from, as_of) = (window.from?, window.as_of);
        let to = window.to.unwrap_or(as_of);
        if from >= to || from >= as_of {
            return None;
        }
        let (start, stretch) = start_before(from, to, zone)?;
        let is_over = to <= as_of;
        let end = if is_over { from } else { from.min(start.checked_add_signed(as_of - from)?) };
        let seen = if is_over { from.checked_add_signed(as_of - to)? } else { end };
        let span = |as_of| Span { from: Some(start), to: Some(end), as_of };
        let stretch = stretch.filter(|_| is_over);
        Some(Self { span: span(as_of), at_that_age: span(seen), stretch })
    }
}

/// Where the stretch before begins.
fn start_before(
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    zone: Tz,
) -> Option<(DateTime<Utc>, Option<Stretch>)> {
    let (first_day, next_day) = (day_of(from, zone), day_of(to, zone));
    if first_moment(first_day, zone) != from || first_moment(next_day, zone) != to {
        return Some((from.checked_sub_signed(to - from)?, None));
    }
    let window = Stretch { first_day, last_day: next_day.pred_opt()? };
    let day_before = first_day.pred_opt()?;
    if let Some(period) = Period::CALENDAR.into_iter().find(|period| period.around(first_day) == window) {
        let before = period.around(day_before);
        return Some((before.moments(zone).0, Some(before)));
    }
    // So many days, whether or not the clocks changed in between.
    let days = Days::new(u64::try_from((next_day - first_day).num_days()).ok()?);
    Some((first_moment(first_day.checked_sub_days(days)?, zone), None))
}

impl Before {
    /// `None`: one of the two has nothing.
    pub(super) fn of(now: Counts, earlier: Counts, stretch: Span) -> Option<Self> {
        let difference = match (now, earlier) {
            (
                Counts::Share { hits, total, .. },
                Counts::Share { hits: hits_before, total: total_before, .. },
            ) => {
                comparison::shares(Share::counted(hits, total)?, Share::counted(hits_before, total_before)?)?
            }
            (Counts::Net { .. }, Counts::Net { .. }) => comparison::nets(net(now)?, net(earlier)?)?,
            _ => return None,
        };
        let Measure { numerator, denominator, value, .. } = Measure::of(earlier);
        Some(Self {
            from: stretch.from?,
            to: stretch.to?,
            numerator,
            denominator,
            value: value?,
            difference: difference.value,
            ci_low: difference.interval.low,
            ci_high: difference.interval.high,
            change: difference.change(),
        })
    }

    fn in_words(self, unit: Unit) -> String {
        let points = |difference: f64| match unit {
            Unit::Share => 100.0 * difference,
            Unit::Points => difference,
        };
        let (low, high) = (points(self.ci_low), points(self.ci_high));
        let before = unit.text(self.value);
        match self.change {
            Change::Rose => format!(
                "It rose by {} points against the period before ({before}); {} to {} with 95 % confidence.",
                number(points(self.difference)),
                number(low),
                number(high)
            ),
            Change::Fell => format!(
                "It fell by {} points against the period before ({before}); {} to {} with 95 % confidence.",
                number(-points(self.difference)),
                number(-high),
                number(-low)
            ),
            Change::NoEvidence => format!(
                "No evidence of a change against the period before ({before}): anything from {} to +{} points fits.",
                number(low),
                number(high)
            ),
        }
    }
}

/// To one digit, with a proper minus; a rounded −0.0 is 0.
fn number(value: f64) -> String {
    format!("{:.1}", (10.0 * value).round() / 10.0 + 0.0).replace('-', "−")
}

fn net(counts: Counts) -> Option<Net> {
    match counts {
        Counts::Net { promoters, passives, detractors } => Net::counted(promoters, passives, detractors),
        Counts::Share { .. } => None,
    }
}

// ---- Against the target.

impl Target {
    /// `None`: there are no answers.
    pub(super) fn of(counts: Counts, target: f64) -> Option<Self> {
        let against = match counts {
            Counts::Share { hits, total, .. } => {
                comparison::share_against(Share::counted(hits, total)?, target)
            }
            Counts::Net { .. } => comparison::net_against(net(counts)?, target),
        };
        let (verdict, more) = match against? {
            Against::Above => (TargetVerdict::Above, None),
            Against::Below => (TargetVerdict::Below, None),
            Against::Undecided { more } => (TargetVerdict::Undecided, more),
        };
        Some(Self { target, verdict, more })
    }

    fn in_words(self, unit: Unit, noun: &str) -> String {
        let target = unit.text(self.target);
        match (self.verdict, self.more) {
            (TargetVerdict::Above, _) => format!("Above the target of {target}."),
            (TargetVerdict::Below, _) => format!("Below the target of {target}."),
            (TargetVerdict::Undecided, Some(more)) => format!(
                "Not distinguishable from the target of {target}; about {} more {noun} like these would settle it.",
                grouped(whole(about(more)))
            ),
            (TargetVerdict::Undecided, None) => {
                format!(
                    "Not distinguishable from the target of {target}, however many {noun} like these come in."
                )
            }
        }
    }
}

/// Rounded up to two digits.
fn about(n: u64) -> u64 {
    let mut unit = 1;
    while n / unit >= 100 {
        unit *= 10;
    }
    n.div_ceil(unit) * unit
}

// ---- Weighted, and with bounds.

/// The orders that answers are to look like, in groups that have everything in common.
#[derive(Debug)]
pub(super) struct Frame {
    groups: Vec<Group>,
    /// What people call each of the months.
    months: Vec<String>,
}

#[derive(Debug)]
struct Group {
    survey: String,
    country: String,
    is_returning: bool,
    month: i32,
    is_asked: bool,
    basket: i32,
    recommendation: Option<String>,
    nps: Option<String>,
    csat: Option<String>,
    orders: i64,
}

/// The figures that are made of answers, in the order of the query.
const WEIGHTED: [&str; 3] = ["recommendation_rate", "nps", "csat"];

/// Which question of which survey such a figure counts.
fn questions<'a>(metric: &str, surveys: &[&'a Survey]) -> Vec<(&'a str, &'a str)> {
    let of = Metric::named(metric).and_then(Metric::of_answers);
    of.map(|of| (of.asked)(surveys)).unwrap_or_default()
}

impl Frame {
    /// Counts the orders of the window.
    pub(super) async fn count(conn: &mut PgConnection, subject: &Subject<'_>) -> sqlx::Result<Self> {
        let Subject { shop, zone, surveys, span } = subject;
        let mut asked: BTreeMap<&str, [Option<String>; 3]> = BTreeMap::new();
        for (n, metric) in WEIGHTED.into_iter().enumerate() {
            for (survey, question) in questions(metric, surveys) {
                asked.entry(survey).or_default()[n] = Some(question.to_owned());
            }
        }
        let column = |n: usize| asked.values().map(|of| of[n].clone()).collect::<Vec<_>>();
        let last = span.to.map_or(span.as_of, |to| span.as_of.min(to));
        let first = match span.from {
            Some(from) => Some(day_of(from, *zone)),
            None => series::first_day(conn, subject).await?,
        };
        let months = match first {
            Some(first) if first <= day_of(last, *zone) => Period::Month.between(first, day_of(last, *zone)),
            _ => Vec::new(),
        };
        let starts: Vec<_> = months.iter().map(|month| month.moments(*zone).0).collect();
        let keys: Vec<_> = asked.keys().map(|survey| (*survey).to_owned()).collect();
        let groups = sqlx::query_file_as!(
            Group,
            "src/metrics/frame.sql",
            shop.0,
            span.as_of,
            span.from,
            span.to,
            &starts,
            &keys,
            &column(0) as &[Option<String>],
            &column(1) as &[Option<String>],
            &column(2) as &[Option<String>],
            first.is_some_and(|first| facts::is_long(day_of(last, *zone) - first)),
        )
        .fetch_all(conn)
        .await?;
        let months = months.into_iter().map(|month| Period::Month.label(month)).collect();
        Ok(Self { groups, months })
    }

    /// What the frame says about a figure: the weighted one, or a sentence why there is none, and its bounds.
    pub(super) fn certainty(&self, metric: &Metric, surveys: &[&Survey]) -> Certainty {
        let column = WEIGHTED.iter().position(|weighted| *weighted == metric.key);
        let Some((column, of)) = column.zip(metric.of_answers()) else { return Certainty::default() };
        let asking: Vec<_> = questions(metric.key, surveys).into_iter().map(|(survey, _)| survey).collect();
        let groups = self.groups.iter().filter(|group| asking.contains(&group.survey.as_str()));
        let groups: Vec<_> = groups.map(|group| (group, group.said(column, of, surveys))).collect();
        let (weighted, not_weighted) = match self.weighted(metric.unit, &groups) {
            Ok(weighted) => (Some(weighted), None),
            Err(why) => (None, Some(why)),
        };
        Certainty { weighted, not_weighted, bounds: Bounds::of(metric.unit, &groups), ..Certainty::default() }
    }

    fn weighted(&self, unit: Unit, groups: &[Answered<'_>]) -> Result<Weighted, String> {
        let orders: u64 = groups.iter().map(|(group, _)| group.n()).sum();
        let answers: u64 = groups.iter().filter(|(_, said)| said.is_some()).map(|(group, _)| group.n()).sum();
        if orders == 0 {
            return Err("Not weighted: no order was due to be asked about.".to_owned());
        }
        if answers < ENOUGH {
            return Err(format!(
                "Not weighted: it takes {ENOUGH} answers to the {} orders that were due; there are {answers}.",
                grouped(whole(orders))
            ));
        }
        let facts = self.facts(groups, orders);
        let margins: Vec<_> = facts.iter().map(|fact| fact.margin(groups)).collect();
        let mut tallied: BTreeMap<Vec<usize>, Vec<Counts>> = BTreeMap::new();
        for (n, (_, said)) in groups.iter().enumerate() {
            let Some(said) = said else { continue };
            let categories = facts.iter().map(|fact| fact.categories[n]).collect();
            tallied.entry(categories).or_default().push(*said);
        }
        let (mut cells, mut said) = (Vec::new(), Vec::new());
        for (categories, counts) in tallied {
            let of = Said::sum(&counts);
            cells.push(Cell { categories, answers: of.answers });
            said.push(of);
        }
        let raked = weights::rake(&margins, &cells, Settings::default())
            .map_err(|error| format!("Not weighted: {error}."))?;
        let weighed = weigh(unit, &raked, &cells, &said).ok_or("Not weighted: no answer has any weight.")?;
        // The same answers, all of weight 1.
        let plain = Raked { weights: vec![1.0; cells.len()], effective: answers as f64, ..raked.clone() };
        let plain = weigh(unit, &plain, &cells, &said).map_or(weighed.value, |plain| plain.value);
        let collapsed = raked.collapsed.iter().filter_map(|collapsed| {
            let fact = facts.iter().find(|fact| fact.name == collapsed.fact)?;
            let category = fact.names.get(collapsed.category)?.clone();
            Some(Silent { fact: fact.name, category, orders: collapsed.orders })
        });
        Ok(Weighted {
            value: weighed.value,
            ci_low: weighed.interval.low,
            ci_high: weighed.interval.high,
            plain,
            answers,
            orders,
            effective: weighed.effective,
            design_effect: weights::design_effect(answers, weighed.effective),
            facts: facts.iter().map(|fact| fact.name).collect(),
            collapsed: collapsed.collect(),
            capped: raked.capped,
            miss: raked.miss,
        })
    }

    /// By which the orders are told apart. A fact in which all are the same says nothing and is left out.
    fn facts(&self, groups: &[Answered<'_>], orders: u64) -> Vec<OrderFact> {
        let month = |group: &Group| {
            let label = usize::try_from(group.month - 1).ok().and_then(|n| self.months.get(n));
            label.cloned().unwrap_or_else(|| UNKNOWN.to_owned())
        };
        let facts = [
            OrderFact::new("new_or_returning", groups, orders, |group| {
                if group.is_returning { "returning" } else { "new" }.to_owned()
            }),
            OrderFact::new("country", groups, orders, |group| {
                if group.country.is_empty() { UNKNOWN.to_owned() } else { group.country.clone() }
            }),
            OrderFact::new("basket", groups, orders, |group| {
                if group.basket == 0 { UNKNOWN.to_owned() } else { format!("quarter {}", group.basket) }
            }),
            OrderFact::new("month", groups, orders, month),
        ];
        facts.into_iter().filter(|fact| fact.names.len() > 1).collect()
    }
}

/// What an order does not say.
const UNKNOWN: &str = "unknown";

/// Orders, and what was answered; `None`: nothing.
type Answered<'a> = (&'a Group, Option<Counts>);

impl Group {
    fn n(&self) -> u64 {
        u64::try_from(self.orders).unwrap_or_default()
    }

    /// What the answers count for the figure of this column.
    fn said(&self, column: usize, of: &OfAnswers, surveys: &[&Survey]) -> Option<Counts> {
        let said = [&self.recommendation, &self.nps, &self.csat][column].as_ref()?;
        let tally = [Tally {
            survey: self.survey.clone(),
            // Whoever reads the tally knows by the question which of the two it is.
            score: said.parse().ok(),
            choice: Some(said.clone()),
            n: self.orders,
        }];
        Some((of.counts)(surveys, &tally))
    }
}

/// A fact about orders.
struct OrderFact {
    name: &'static str,
    /// Of the categories.
    names: Vec<String>,
    /// Of each group, as an index into the names.
    categories: Vec<usize>,
}

impl OrderFact {
    /// What it says of each group; what it says of few orders becomes "other".
    fn new(
        name: &'static str,
        groups: &[Answered<'_>],
        orders: u64,
        category: impl Fn(&Group) -> String,
    ) -> Self {
        let mut of_each: Vec<_> = groups.iter().map(|(group, _)| category(group)).collect();
        let mut counted: BTreeMap<String, u64> = BTreeMap::new();
        for (name, (group, _)) in of_each.iter().zip(groups) {
            *counted.entry(name.clone()).or_default() += group.n();
        }
        for name in &mut of_each {
            if (counted[name.as_str()] as f64) < SMALL * orders as f64 {
                "other".clone_into(name);
            }
        }
        let names: Vec<_> = of_each.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
        let categories = of_each.iter().filter_map(|name| names.binary_search(name).ok()).collect();
        Self { name, names, categories }
    }

    fn margin(&self, groups: &[Answered<'_>]) -> Margin {
        let mut orders = vec![0; self.names.len()];
        for (category, (group, _)) in self.categories.iter().zip(groups) {
            orders[*category] += group.n();
        }
        Margin { fact: self.name.to_owned(), orders }
    }
}

/// What some answers say. Of a share, `good` are the hits; of a net promoter score, the promoters, and `bad` the detractors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Said {
    answers: u64,
    good: u64,
    bad: u64,
}

impl Said {
    fn sum(counts: &[Counts]) -> Self {
        let mut sum = Self { answers: 0, good: 0, bad: 0 };
        for counts in counts {
            let (answers, good, bad) = match *counts {
                Counts::Share { hits, total, .. } => (total, hits, total - hits),
                Counts::Net { promoters, passives, detractors } => {
                    (promoters + passives + detractors, promoters, detractors)
                }
            };
            let n = |n: i64| u64::try_from(n).unwrap_or_default();
            sum.answers += n(answers);
            sum.good += n(good);
            sum.bad += n(bad);
        }
        sum
    }
}

struct Weighed {
    value: f64,
    interval: Interval,
    effective: f64,
}

/// The figure of the weighted answers, with the interval that its effective number gives.
fn weigh(unit: Unit, raked: &Raked, cells: &[Cell], said: &[Said]) -> Option<Weighed> {
    let good: Vec<_> = said.iter().map(|said| said.good).collect();
    match unit {
        Unit::Share => {
            let weights::Weighted { share, effective } = weights::weighted_share(raked, cells, &good)?;
            // Rounding may leave a share of everybody a bit above 1.
            let share = share.clamp(0.0, 1.0);
            let interval = interval::wilson_effective(share, effective)?;
            Some(Weighed { value: share, interval, effective })
        }
        Unit::Points => {
            let bad: Vec<_> = said.iter().map(|said| said.bad).collect();
            let found = weights::weighted_net(raked, cells, &good, &bad)?;
            let net =
                Net { promoters: found.promoters, detractors: found.detractors, answers: found.effective };
            Some(Weighed { value: net.value(), interval: net.interval()?, effective: found.effective })
        }
    }
}

impl Bounds {
    /// `None`: nobody was asked.
    fn of(unit: Unit, groups: &[Answered<'_>]) -> Option<Self> {
        let is_asked = groups.iter().filter(|(group, _)| group.is_asked);
        let asked: i64 = is_asked.clone().map(|(group, _)| group.orders).sum();
        let said = Said::sum(&is_asked.filter_map(|(_, said)| *said).collect::<Vec<_>>());
        let (answered, good, bad) = (whole(said.answers), whole(said.good), whole(said.bad));
        let Interval { low, high } = match unit {
            Unit::Share => interval::worst_best(good, answered, asked)?,
            Unit::Points => interval::worst_best_net(good, bad, answered, asked)?,
        };
        Some(Self { worst: low, best: high, asked, answered })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(moment: &str) -> DateTime<Utc> {
        moment.parse().unwrap()
    }

    /// Start and end of the stretch before, and as of when what ripens is looked at there.
    fn before(from: &str, to: Option<&str>, as_of: &str) -> Option<(String, String, String)> {
        let zone = chrono_tz::Europe::Paris;
        let moment = |text: &str| match text.parse() {
            Ok(day) => first_moment(day, zone),
            Err(_) => at(text),
        };
        let window = Span { from: Some(moment(from)), to: to.map(moment), as_of: moment(as_of) };
        let Earlier { span, at_that_age, .. } = Earlier::than(window, zone)?;
        assert_eq!((span.from, span.to, span.as_of), (at_that_age.from, at_that_age.to, window.as_of));
        let local = |moment: DateTime<Utc>| moment.with_timezone(&zone).format("%Y-%m-%d %H:%M").to_string();
        Some((local(span.from?), local(span.to?), local(at_that_age.as_of)))
    }

    #[track_caller]
    fn check(window: (&str, Option<&str>, &str), expected: [&str; 3]) {
        let (from, to, as_of) = window;
        let (start, end, seen) = before(from, to, as_of).expect("a stretch before");
        assert_eq!([start.as_str(), end.as_str(), seen.as_str()], expected, "{window:?}");
    }

    #[test]
    fn before_a_period_of_the_calendar_is_the_one_before() {
        let midnight = |day: &str| format!("{day} 00:00");
        for (from, to, start) in [
            ("2026-03-30", "2026-03-31", "2026-03-29"), // the day on which the clocks change
            ("2026-03-30", "2026-04-06", "2026-03-23"), // a week
            ("2026-03-01", "2026-04-01", "2026-02-01"),
            ("2026-01-01", "2026-04-01", "2025-10-01"),
            ("2024-01-01", "2025-01-01", "2023-01-01"),
        ] {
            check((from, Some(to), to), [&midnight(start), &midnight(from), &midnight(from)]);
        }
        // Ten days later, February is looked at ten days after its end.
        check(
            ("2026-03-01", Some("2026-04-01"), "2026-04-11"),
            ["2026-02-01 00:00", "2026-03-01 00:00", "2026-03-11 00:00"],
        );
    }

    #[test]
    fn before_any_other_window_is_as_much_time() {
        // 28 days, in which the clocks change.
        check(
            ("2026-03-15", Some("2026-04-12"), "2026-05-01"),
            ["2026-02-15 00:00", "2026-03-15 00:00", "2026-04-03 01:00"],
        );
        // Fifteen hours.
        check(
            ("2026-03-02T08:00:00Z", Some("2026-03-02T23:00:00Z"), "2026-03-03"),
            ["2026-03-01 18:00", "2026-03-02 09:00", "2026-03-02 09:00"],
        );
        // Up to now.
        check(
            ("2026-03-02", None, "2026-03-05T11:00:00Z"),
            ["2026-02-26 12:00", "2026-03-02 00:00", "2026-03-02 00:00"],
        );
    }

    #[test]
    fn of_a_window_that_is_not_over_as_much_counts_of_the_stretch_before() {
        check(
            ("2026-03-01", Some("2026-04-01"), "2026-03-11"),
            ["2026-02-01 00:00", "2026-02-11 00:00", "2026-02-11 00:00"],
        );
        // February was shorter.
        check(
            ("2026-03-01", Some("2026-04-01"), "2026-03-31"),
            ["2026-02-01 00:00", "2026-03-01 00:00", "2026-03-01 00:00"],
        );
        assert_eq!(before("2026-03-01", Some("2026-04-01"), "2026-02-11"), None, "nothing has gone by");
        assert_eq!(before("2026-03-01", Some("2026-04-01"), "2026-03-01"), None);
        let endless = Span { from: None, to: None, as_of: at("2026-03-01T00:00:00Z") };
        assert_eq!(Earlier::than(endless, Tz::UTC), None);
    }

    proptest! {
        #[test]
        fn the_stretch_before_ends_where_the_window_begins_at_the_latest(
            from in -60_000_000_000_i64..8_000_000_000, length in 1_i64..400_000_000, age in -400_000_000_i64..400_000_000,
            whole_days in any::<bool>()
        ) {
            let zone = chrono_tz::America::Sao_Paulo;
            let moment = |seconds: i64| {
                let moment = DateTime::from_timestamp(seconds, 0).unwrap();
                if whole_days { first_moment(day_of(moment, zone), zone) } else { moment }
            };
            let (from, to) = (moment(from), moment(from + length));
            let window = Span { from: Some(from), to: Some(to), as_of: DateTime::from_timestamp(to.timestamp() + age, 0).unwrap() };
            if let Some(Earlier { span, at_that_age, .. }) = Earlier::than(window, zone) {
                prop_assert!(span.from < span.to && span.to <= Some(from) && span.as_of == window.as_of);
                prop_assert!(at_that_age.as_of <= window.as_of && Some(at_that_age.as_of) >= span.to);
            } else {
                prop_assert!(from >= to || from >= window.as_of);
            }
        }
    }

    fn share(hits: i64, total: i64) -> Counts {
        Counts::Share { hits, total, unknown: None }
    }

    fn against(now: Counts, before: Counts) -> Option<Before> {
        let day = |day: &str| Some(at(&format!("{day}T00:00:00Z")));
        let span = Span { from: day("2026-01-01"), to: day("2026-02-01"), as_of: at("2026-03-01T00:00:00Z") };
        Before::of(now, before, span)
    }

    #[test]
    fn a_change_in_words() {
        let words = |now, before| against(now, before).unwrap().in_words(Unit::Share);
        // The published interval of Newcombe 1998, table II: 0.0524 to 0.3339.
        assert_eq!(
            words(share(56, 70), share(48, 80)),
            "It rose by 20.0 points against the period before (60.0 %); 5.2 to 33.4 with 95 % confidence."
        );
        assert_eq!(
            words(share(48, 80), share(56, 70)),
            "It fell by 20.0 points against the period before (80.0 %); 5.2 to 33.4 with 95 % confidence."
        );
        assert_eq!(
            words(share(5, 56), share(0, 29)),
            "No evidence of a change against the period before (0.0 %): anything from −3.8 to +19.3 points fits."
        );
        assert_eq!(against(share(5, 56), share(0, 0)), None);
        assert_eq!(against(share(0, 0), share(5, 56)), None);
        let net = |promoters, passives, detractors| Counts::Net { promoters, passives, detractors };
        let rose = against(net(60, 20, 20), net(45, 25, 30)).unwrap();
        assert_eq!(
            rose.in_words(Unit::Points),
            "It rose by 25.0 points against the period before (15.0); 1.7 to 46.8 with 95 % confidence."
        );
        assert_eq!((rose.numerator, rose.denominator, rose.value), (15, 100, 15.0));
    }

    #[test]
    fn a_target_in_words() {
        let words =
            |hits, total| Target::of(share(hits, total), 0.85).unwrap().in_words(Unit::Share, "answers");
        assert_eq!(words(270, 300), "Above the target of 85.0 %.");
        assert_eq!(words(240, 300), "Below the target of 85.0 %.");
        assert_eq!(
            words(88, 100),
            "Not distinguishable from the target of 85.0 %; about 450 more answers like these would settle it."
        );
        assert_eq!(
            words(85, 100),
            "Not distinguishable from the target of 85.0 %, however many answers like these come in."
        );
        assert_eq!(Target::of(share(0, 0), 0.85), None);
    }

    #[test]
    fn a_weighted_figure_in_words() {
        let weighted = Weighted {
            value: 0.775,
            ci_low: 0.74,
            ci_high: 0.807,
            plain: 0.88,
            answers: 1_200,
            orders: 5_321,
            effective: 610.4,
            design_effect: 1_200.0 / 610.4,
            facts: vec!["new_or_returning", "country"],
            collapsed: Vec::new(),
            capped: 0,
            miss: 0.0,
        };
        let words = |weighted: &Weighted| {
            let certainty = Certainty { weighted: Some(weighted.clone()), ..Certainty::default() };
            certainty.weighted_in_words(Unit::Share).unwrap()
        };
        let all = "Weighted to all 5,321 orders that were due, by new or returning, country: 77.5 % (74.0 % to 80.7 %), worth 610 \
                   answers of equal weight; the same 1,200 answers unweighted: 88.0 %.";
        assert_eq!(words(&weighted), all);
        let silent = Silent { fact: "country", category: "BE".to_owned(), orders: 300 };
        let partly = Weighted { collapsed: vec![silent], capped: 3, miss: 0.1207, ..weighted };
        assert_eq!(
            words(&partly),
            format!(
                "{all} Nobody answered of: country BE. Not all shares of the orders could be met: one is off by 12.1 points, for no \
                 answer weighs more than 5 average ones."
            )
        );
        let bounds = Bounds { worst: 0.2, best: 0.95, asked: 1_200, answered: 300 };
        let certainty = Certainty { bounds: Some(bounds), ..Certainty::default() };
        assert_eq!(
            certainty.bounds_in_words(Unit::Share).unwrap(),
            "300 of 1,200 asked answered: 20.0 % had all the others said no, 95.0 % had they said yes."
        );
        assert_eq!(certainty.weighted_in_words(Unit::Share), None);
    }

    #[test]
    fn about_so_many_are_never_too_few() {
        assert_eq!(
            [1, 99, 100, 101, 445, 1_234, 999_999].map(about),
            [1, 99, 100, 110, 450, 1_300, 1_000_000]
        );
    }
}
