//! Stage 4, metrics: rates with their intervals.
//!
//! In: orders, invitations, responses. Out: a [`Report`], per shop and for a window of time, in which every figure carries what was
//! counted, its 95 % interval, its definition and a sentence. Nothing is written; a report that dies is asked for again.
//!
//! All figures of a report are read in one snapshot of the database, so that they belong together. A report can be asked for as of
//! a past moment: answers are placed by when they were given and orders by when they were placed, never by when they came in, so that
//! an imported history reports as if it had been here all along. Of an answer that was changed, the revision that stood at that
//! moment counts. What is not kept is the history of an order's status: an order that was cancelled later does not count in the
//! figures of earlier dates either.
//!
//! A new metric is a file that counts, and a line in [`METRICS`].

mod answers;
pub mod figure;
pub mod certainty;
pub mod normal;
pub mod interval;
pub mod weights;
pub mod comparison;
pub mod control_chart;
pub mod trend;
pub mod survival;
pub mod window;
pub mod period;
pub mod segment;
mod recommendation_rate;
mod nps;
mod csat;
mod response_rate;
mod repeat_customer_ratio;
mod returning_customer_rate;
mod customers;
pub mod facts;
pub mod series;
pub mod loyalty;
pub mod funnel;
pub mod rollup;
pub mod export;
pub mod alerts;
pub mod report;
#[cfg(test)]
mod chance;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use futures_util::future::BoxFuture;
use serde::{Serialize, Serializer};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use crate::config::Shop;
use crate::db;
use crate::invitations::outbox;
use crate::survey::Survey;
use crate::types::ShopId;
use certainty::{Before, Certainty, Earlier, Frame, Target};
use facts::{Fact, Tallied};
use figure::{Counts, Figure, Measure, Unit};
use funnel::Funnel;
use loyalty::Loyalty;
use period::{Period, Stretch};
use rollup::FrozenPeriod;
use segment::Segment;
use series::{BySegment, Series, Subject};
use window::{Bound, Span, Window};

/// One of the figures of a report.
pub struct Metric {
    /// Its name in JSON, files and the configuration.
    pub key: &'static str,
    /// Its name for people.
    pub name: &'static str,
    /// What is counted, in the plural.
    pub noun: &'static str,
    /// What it is, in a sentence. What the metric adds about this shop (which question, which answers) follows it in the report.
    pub definition: &'static str,
    /// How it is written.
    pub unit: Unit,
    /// Whether what a window has of it still grows after the window's end: mails are answered later.
    ripens: bool,
    count: Count,
}

impl Metric {
    /// With what the metric adds about this shop; only those of answers add something.
    fn defined(&self, detail: Option<String>, one_per_customer: bool) -> String {
        let Some(detail) = detail else { return self.definition.to_owned() };
        let latest = if one_per_customer {
            " Of a customer who gave several in the window, the latest counts."
        } else {
            ""
        };
        format!("{} {detail}{latest} {SAMPLE}", self.definition)
    }
}

/// About the intervals of answers.
const SAMPLE: &str = "The interval takes the answers as a sample of all customers, those to come included: it is not narrowed where many of \
                      those who were asked have answered.";

type Count = for<'a> fn(&'a mut PgConnection, &'a Scope<'a>) -> BoxFuture<'a, sqlx::Result<Counted>>;

/// All metrics, in the order of the report.
pub const METRICS: &[Metric] = &[
    Metric {
        key: "recommendation_rate",
        name: "Recommendation rate",
        noun: "answers",
        definition: "The share of answers that recommend the shop, of all answers to that question; of an answer that was changed, \
                     the revision that stood last.",
        unit: Unit::Share,
        ripens: false,
        count: |conn, scope| Box::pin(recommendation_rate::count(conn, scope)),
    },
    Metric {
        key: "nps",
        name: "Net promoter score",
        noun: "answers",
        definition: "The percentage of promoters (9 and 10) minus the percentage of detractors (0 to 6), in points from −100 to 100.",
        unit: Unit::Points,
        ripens: false,
        count: |conn, scope| Box::pin(nps::count(conn, scope)),
    },
    Metric {
        key: "csat",
        name: "Customer satisfaction",
        noun: "answers",
        definition: "The share of ratings of 4 or 5, of all ratings from 1 to 5.",
        unit: Unit::Share,
        ripens: false,
        count: |conn, scope| Box::pin(csat::count(conn, scope)),
    },
    Metric {
        key: "response_rate",
        name: "Response rate",
        noun: "mails",
        definition: "The share of first mails that were answered on the survey page, of those that the mail relay accepted in the \
                     window and that did not come back (AAPOR response rate 5); mails of which it is unknown whether the relay has \
                     them are in neither and stand beside as “unknown”, placed by when they were decided.",
        unit: Unit::Share,
        ripens: true,
        count: |conn, scope| Box::pin(response_rate::count(conn, scope)),
    },
    Metric {
        key: "response_rate_rr1",
        name: "Response rate, all sent",
        noun: "mails",
        definition: "The share of first mails that were answered on the survey page, of all that were handed to the mail relay in the \
                     window, those that it refused, that came back, or of which nothing is known included (AAPOR response rate 1).",
        unit: Unit::Share,
        ripens: true,
        count: |conn, scope| Box::pin(response_rate::count_rr1(conn, scope)),
    },
    Metric {
        key: "repeat_customer_ratio",
        name: "Repeat customers",
        noun: "customers",
        definition: "The share of customers with two or more orders in the window, of those with one or more; cancelled and refunded \
                     orders do not count.",
        unit: Unit::Share,
        ripens: false,
        count: |conn, scope| Box::pin(repeat_customer_ratio::count(conn, scope)),
    },
    Metric {
        key: "returning_customer_rate",
        name: "Returning customers",
        noun: "customers",
        definition: "The share of customers for whom at least one of their orders in the window was not their first ever, of those \
                     with an order in the window; cancelled and refunded orders do not count; without a start of the window it \
                     equals “repeat_customer_ratio”.",
        unit: Unit::Share,
        ripens: false,
        count: |conn, scope| Box::pin(returning_customer_rate::count(conn, scope)),
    },
];

/// What a metric looks at.
struct Scope<'a> {
    shop: ShopId,
    /// The surveys of the shop, in the order of jobs.toml.
    surveys: Vec<&'a Survey>,
    span: Span,
    /// Of each customer, the latest answer only.
    one_per_customer: bool,
}

/// What a metric found.
struct Counted {
    counts: Counts,
    /// The same, had programs not been told from people.
    with_suspects: Option<Counts>,
    /// What the definition does not know: which questions, which answers.
    detail: Option<String>,
}

impl Counted {
    fn share(hits: i64, total: i64) -> Self {
        Self { counts: Counts::Share { hits, total, unknown: None }, with_suspects: None, detail: None }
    }
}

/// The figures of some shops.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Nothing later is known.
    pub as_of: DateTime<Utc>,
    /// The start of the window; a day that begins at different moments in the shops' zones is left a day.
    pub from: Option<Bound>,
    /// The end of the window, exclusive.
    pub to: Option<Bound>,
    /// In the order they were asked for.
    pub shops: Vec<ShopReport>,
}

/// The figures of one shop.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShopReport {
    /// Its key.
    pub shop: String,
    /// Its name for people.
    pub name: String,
    /// In which its days are counted.
    pub timezone: Tz,
    /// The start of the window in this shop.
    pub from: Option<DateTime<Utc>>,
    /// The end of the window in this shop, exclusive.
    pub to: Option<DateTime<Utc>>,
    /// Whence the figures are.
    pub basis: Basis,
    /// As of which they were known; null: they are counted from the rows.
    pub frozen_at: Option<DateTime<Utc>>,
    /// By key, in the order of [`METRICS`].
    pub metrics: Figures,
    /// Mails that are not settled, whatever the window.
    pub outbox: outbox::Open,
    /// The figures by period, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series: Option<Series>,
    /// The figures by segment, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segments: Option<BySegment>,
    /// Who comes back, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loyalty: Option<Loyalty>,
    /// How far the orders came, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub funnel: Option<Funnel>,
}

/// Whence the figures of a report are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// What a night knew; it stays the same, whatever happens to the rows.
    Frozen,
    /// The rows as they are.
    Computed,
}

/// What a report is about, and how its figures are taken apart besides.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    pub window: Window,
    /// Also the figures of each such period.
    pub by: Option<Period>,
    /// Also the figures of each value of this segment.
    pub segment: Option<Segment>,
    /// Also who comes back.
    pub loyalty: bool,
    /// Also how far the orders came.
    pub funnel: bool,
    /// Which figure of a metric is aimed at: its key and a value in its unit. The first for each metric.
    pub targets: Vec<(String, f64)>,
    /// The same of each shop, by its key; `targets` goes before.
    pub targets_of_shop: BTreeMap<String, Vec<(String, f64)>>,
    /// Of each customer only the latest answer, in the window and in each period. Not for segments.
    pub one_per_customer: bool,
    /// What the last night at or before the moment of the report knew, where a night knows what is asked: the figures of all time or of one
    /// period of the calendar, and those by period. Else, and before the first such night, what the rows say.
    pub frozen: bool,
}

impl From<Window> for Asked {
    fn from(window: Window) -> Self {
        Self { window, ..Self::default() }
    }
}

impl ShopReport {
    /// What waits, and what a person has to do about it.
    pub fn outbox_in_words(&self) -> String {
        let mails = |n: i64| format!("{} {}", figure::grouped(n), if n == 1 { "mail" } else { "mails" });
        let waiting = format!("{} in the outbox", mails(self.outbox.waiting));
        if self.outbox.unknown == 0 {
            return format!("{waiting}; of none is it unknown whether it arrived.");
        }
        format!(
            "{waiting}. Of {} nobody knows whether the relay has it, and none is sent again by itself: `afterword outbox --state \
             unknown` lists them; look them up in the relay's log by their Message-ID, then settle each with `afterword outbox \
             resolve <id> --accept` or `--resend`.",
            mails(self.outbox.unknown)
        )
    }
}

/// A figure for each of [`METRICS`], in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures(Vec<Figure>);

impl Figures {
    /// Each metric with its figure.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Metric, &Figure)> {
        METRICS.iter().zip(&self.0)
    }

    fn with_certainty(self, of: impl Fn(usize, &Metric, &Figure) -> Certainty) -> Self {
        let figures = self.0.into_iter().zip(METRICS).enumerate().map(|(n, (figure, metric))| {
            let certainty = of(n, metric, &figure);
            figure.with_certainty(certainty)
        });
        Self(figures.collect())
    }

    /// The figure of the metric with this key.
    pub fn get(&self, key: &str) -> Option<&Figure> {
        self.iter().find(|(metric, _)| metric.key == key).map(|(_, figure)| figure)
    }
}

impl Serialize for Figures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(metric, figure)| (metric.key, figure)))
    }
}

/// Computes all metrics of the shops, as of a moment.
///
/// # Errors
/// When the window is empty, or the database does not answer.
pub async fn report(
    pool: &PgPool,
    shops: &[(ShopId, &Shop)],
    surveys: &[Survey],
    asked: impl Into<Asked>,
    as_of: DateTime<Utc>,
) -> anyhow::Result<Report> {
    let mut snapshot = begin(pool).await?;
    let report = report_of(&mut snapshot, shops, surveys, &asked.into(), as_of).await?;
    snapshot.commit().await?;
    Ok(report)
}

/// As [`report()`], in a snapshot in which more is asked.
async fn report_of(
    snapshot: &mut PgConnection,
    shops: &[(ShopId, &Shop)],
    surveys: &[Survey],
    asked: &Asked,
    as_of: DateTime<Utc>,
) -> anyhow::Result<Report> {
    let window = asked.window;
    let mut reports = Vec::with_capacity(shops.len());
    for (id, shop) in shops {
        let scope = Scope {
            shop: *id,
            surveys: surveys.iter().filter(|survey| survey.is_for(&shop.key)).collect(),
            span: window.span(shop.timezone, as_of)?,
            one_per_customer: asked.one_per_customer,
        };
        reports.push(report_shop(snapshot, shop, &scope, asked).await?);
    }
    Ok(Report {
        as_of,
        from: window.from.map(|bound| in_all(bound, shops)),
        to: window.to.map(|bound| in_all(bound, shops)),
        shops: reports,
    })
}

/// The recommendation rate of all these shops together, of everything that was answered up to a moment.
///
/// # Errors
/// When the database does not answer.
pub async fn recommendation_rate_of(
    conn: &mut PgConnection,
    shops: &[(ShopId, &Shop)],
    surveys: &[Survey],
    as_of: DateTime<Utc>,
) -> sqlx::Result<Figure> {
    let metric = &METRICS[0];
    let (mut hits, mut total) = (0, 0);
    for (id, shop) in shops {
        let scope = Scope {
            shop: *id,
            surveys: surveys.iter().filter(|survey| survey.is_for(&shop.key)).collect(),
            span: Span { from: None, to: None, as_of },
            one_per_customer: false,
        };
        let (yes, all) = recommendation_rate::yes_of_all(conn, &scope).await?;
        hits += yes;
        total += all;
    }
    let surveys: Vec<&Survey> =
        surveys.iter().filter(|survey| shops.iter().any(|(_, shop)| survey.is_for(&shop.key))).collect();
    let definition = metric.defined(Some(recommendation_rate::detail(&surveys)), false);
    Ok(Figure::new(Counts::Share { hits, total, unknown: None }, metric.noun, definition))
}

async fn report_shop(
    conn: &mut PgConnection,
    shop: &Shop,
    scope: &Scope<'_>,
    asked: &Asked,
) -> sqlx::Result<ShopReport> {
    let Scope { shop: id, surveys, span, one_per_customer } = scope;
    let mut subject = Subject { shop: *id, zone: shop.timezone, surveys, span: *span };
    let night = match known_at_night(asked, &subject) {
        Some(night) => rollup::last_freeze(conn, *id, span.as_of).await?.map(|at| (at, night)),
        None => None,
    };
    let metrics = match night {
        Some((frozen_at, Night { period, stretch, .. })) => {
            subject.span.as_of = frozen_at;
            let known = rollup::known(conn, &subject, frozen_at, period, &[stretch]).await?;
            figures_of(&known.into_values().next().unwrap_or_default(), surveys)
        }
        None => figures(conn, scope).await?,
    };
    let earlier = Earlier::than(subject.span, shop.timezone);
    let before = match (earlier, night) {
        (None, _) => None,
        (Some(earlier), None) => Some(counts_before(conn, scope, earlier).await?),
        (Some(earlier), Some((_, night))) => known_before(conn, &subject, night.period, earlier).await?,
    };
    let frame =
        if night.is_none() && !one_per_customer { Some(Frame::count(conn, &subject).await?) } else { None };
    let metrics = metrics.with_certainty(|n, metric, figure| {
        let of_frame = match &frame {
            Some(frame) => frame.certainty(metric, surveys),
            None => Certainty::without_frame(metric.key, night.is_some()),
        };
        let of_shop = asked.targets_of_shop.get(&shop.key).into_iter().flatten();
        let target = asked.targets.iter().chain(of_shop).find(|(key, _)| key == metric.key);
        Certainty {
            before: earlier
                .zip(before.as_ref())
                .and_then(|(earlier, before)| Before::of(figure.counts, before[n]?, earlier.span)),
            target: target.and_then(|(_, target)| Target::of(figure.counts, *target)),
            ..of_frame
        }
    });
    let series = match (asked.by, night) {
        (None, _) => None,
        (Some(period), Some((_, Night { by: Some(frozen), .. }))) => {
            Some(series::known_by_period(conn, &subject, (period, frozen)).await?)
        }
        (Some(period), _) => {
            let mut series = series::by_period(conn, &subject, period).await?;
            if *one_per_customer {
                count_once(conn, scope, &subject, &mut series).await?;
            }
            Some(series)
        }
    };
    let segments = match &asked.segment {
        Some(segment) => Some(series::by_segment(conn, &subject, segment).await?),
        None => None,
    };
    Ok(ShopReport {
        shop: shop.key.clone(),
        name: shop.name.clone(),
        timezone: shop.timezone,
        from: span.from,
        to: span.to,
        basis: if night.is_some() { Basis::Frozen } else { Basis::Computed },
        frozen_at: night.map(|(at, _)| at),
        metrics,
        outbox: outbox::open_by(conn, *id, span.as_of).await?,
        series,
        segments,
        loyalty: if asked.loyalty { Some(loyalty::count(conn, &subject).await?) } else { None },
        funnel: if asked.funnel { Some(funnel::count(conn, &subject).await?) } else { None },
    })
}

/// All metrics, counted from the rows.
async fn figures(conn: &mut PgConnection, scope: &Scope<'_>) -> sqlx::Result<Figures> {
    let mut figures = Vec::with_capacity(METRICS.len());
    for metric in METRICS {
        let counted = (metric.count)(conn, scope).await?;
        let definition = metric.defined(counted.detail, scope.one_per_customer);
        let figure = Figure::new(counted.counts, metric.noun, definition);
        figures.push(figure.with_suspects(counted.with_suspects));
    }
    Ok(Figures(figures))
}

/// All metrics, from what was counted before.
fn figures_of(tallied: &Tallied, surveys: &[&Survey]) -> Figures {
    let nothing = Counts::Share { hits: 0, total: 0, unknown: None };
    let figures = METRICS.iter().map(|metric| {
        let counts = |answer| tallied.counts(metric.key, surveys, answer).unwrap_or(nothing);
        let detail = facts::detail(metric.key, surveys);
        // Only what people say differs from what programs say.
        let with_suspects = detail.is_some().then(|| counts(Fact::AnswerWithSuspects));
        let figure = Figure::new(counts(Fact::Answer), metric.noun, metric.defined(detail, false));
        figure.with_suspects(with_suspects)
    });
    Figures(figures.collect())
}

/// What the metrics count in the stretch before, in their order.
async fn counts_before(
    conn: &mut PgConnection,
    scope: &Scope<'_>,
    earlier: Earlier,
) -> sqlx::Result<Vec<Option<Counts>>> {
    let mut before = Vec::with_capacity(METRICS.len());
    for metric in METRICS {
        let span = if metric.ripens { earlier.at_that_age } else { earlier.span };
        let scope = Scope { span, surveys: scope.surveys.clone(), ..*scope };
        before.push(Some((metric.count)(conn, &scope).await?.counts));
    }
    Ok(before)
}

/// The same, as it was known at a freeze, which is the subject's `as_of`; `None`: the window was not over then. What ripens is there if a
/// night knew it at that age.
async fn known_before(
    conn: &mut PgConnection,
    subject: &Subject<'_>,
    period: FrozenPeriod,
    earlier: Earlier,
) -> sqlx::Result<Option<Vec<Option<Counts>>>> {
    let Some(stretch) = earlier.stretch else { return Ok(None) };
    let ripe = rollup::last_freeze(conn, subject.shop, earlier.at_that_age.as_of).await?;
    let mut known = async |at| {
        let known = rollup::known(conn, subject, at, period, &[stretch]).await?;
        Ok::<_, sqlx::Error>(known.into_values().next().unwrap_or_default())
    };
    let now = known(subject.span.as_of).await?;
    let at_that_age = match ripe {
        Some(at) => Some(known(at).await?),
        None => None,
    };
    let counts = METRICS.iter().map(|metric| {
        let tallied = if metric.ripens { at_that_age.as_ref()? } else { &now };
        tallied.counts(metric.key, subject.surveys, Fact::Answer)
    });
    Ok(Some(counts.collect()))
}

/// Counts the answers of a series anew, of each customer and period the latest.
async fn count_once(
    conn: &mut PgConnection,
    scope: &Scope<'_>,
    subject: &Subject<'_>,
    series: &mut Series,
) -> sqlx::Result<()> {
    for point in &mut series.points {
        let span = series::span_of(series.period, point, subject);
        let scope = Scope { span, surveys: scope.surveys.clone(), ..*scope };
        for metric in METRICS.iter().filter(|metric| certainty::is_of_answers(metric.key)) {
            let counted = (metric.count)(conn, &scope).await?;
            point.metrics.set(metric.key, Measure::of(counted.counts));
        }
    }
    Ok(())
}

/// What of the nights' counting answers what is asked.
#[derive(Debug, Clone, Copy)]
struct Night {
    period: FrozenPeriod,
    stretch: Stretch,
    by: Option<FrozenPeriod>,
}

/// `None`: no night knows what is asked.
fn known_at_night(asked: &Asked, subject: &Subject<'_>) -> Option<Night> {
    if !asked.frozen || asked.one_per_customer || asked.segment.is_some() || asked.loyalty || asked.funnel {
        return None;
    }
    let (period, stretch) = rollup::frozen_window(subject.span, subject.zone)?;
    let by = match asked.by {
        Some(by) if rollup::is_whole_periods(asked.window, subject.zone, by) => Some(FrozenPeriod::of(by)?),
        Some(_) => return None,
        None => None,
    };
    Some(Night { period, stretch, by })
}

/// What is counted.
const COUNTED: [db::Table; 5] =
    [db::Table::Order, db::Table::Invitation, db::Table::Bounce, db::Table::Response, db::Table::Answer];

/// A snapshot of the database in which counting may take its time.
async fn begin(pool: &PgPool) -> sqlx::Result<Transaction<'static, Postgres>> {
    db::analyze_unknown(pool, &COUNTED).await?;
    let mut snapshot = pool.begin_with("begin isolation level repeatable read read only").await?;
    db::lift_statement_timeout(&mut snapshot).await?;
    prepare_to_count(&mut snapshot).await?;
    Ok(snapshot)
}

/// Settings of a transaction in which much is counted. One at a time does so: it may have more memory to sort and join in than a statement
/// of many.
async fn prepare_to_count(conn: &mut PgConnection) -> sqlx::Result<()> {
    // A plan for any window and any segment would be a bad one for all of them.
    sqlx::raw_sql("set local plan_cache_mode = force_custom_plan; set local work_mem = '64MB'")
        .execute(conn)
        .await?;
    Ok(())
}

/// A day as a moment, if it begins at the same moment in all shops.
fn in_all(bound: Bound, shops: &[(ShopId, &Shop)]) -> Bound {
    let mut moments = shops.iter().map(|(_, shop)| bound.at(shop.timezone));
    match moments.next() {
        Some(first) if moments.all(|moment| moment == first) => Bound::Moment(first),
        _ => bound,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_list_of_metrics_is_sound() {
        let keys: BTreeSet<_> = METRICS.iter().map(|metric| metric.key).collect();
        assert_eq!(keys.len(), METRICS.len(), "keys are unique");
        for Metric { key, name, noun, definition, .. } in METRICS {
            assert!(
                key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{key} is in snake case"
            );
            assert!(!name.is_empty() && !noun.is_empty(), "{key} has its words");
            assert!(definition.ends_with('.') && !definition.contains("  "), "{key}: {definition}");
            assert_eq!(definition.matches(". ").count(), 0, "{key} is defined in one sentence");
        }
    }
}
