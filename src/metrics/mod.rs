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
//! What there is so and so many of is counted once for all metrics ([`facts`], and customers, who do not add up); a metric says what it
//! makes of it. A new one is a file, and a line in [`METRICS`].

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

use chrono::{DateTime, Days, NaiveDate, Utc};
use chrono_tz::Tz;
use serde::{Serialize, Serializer};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use crate::config::Shop;
use crate::db;
use crate::invitations::outbox;
use crate::survey::Survey;
use crate::types::ShopId;
use answers::{Each, Tally, Whose};
use certainty::{Before, Certainty, Earlier, Frame, Target};
use facts::{Customers, Fact, Tallied};
use figure::{Counts, Figure, Measure, Unit};
use funnel::Funnel;
use loyalty::Loyalty;
use period::{Period, Stretch};
use rollup::FrozenPeriod;
use segment::Segment;
use series::{BySegment, Series, Subject, Topic};
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
    /// Whether it rises by itself for as long as a shop is known: who ordered before the first order that is known passes for new. So it has no
    /// usual level.
    grows: bool,
    counting: Counting,
}

/// What a metric makes its figure of.
enum Counting {
    /// Of answers to one question of each survey.
    Answers(OfAnswers),
    /// Of what else days have.
    Facts(fn(&Tallied) -> Counts),
    /// Of customers, who do not add up.
    Customers(fn(Customers) -> Counts),
}

/// After so many days hardly anything is added to what ripens: who answers does so in the first days, or after a reminder. Before, a period
/// would look worse than those it is held against, only because it is young.
const RIPE_AFTER: Days = Days::new(14);

/// How answers become a figure.
struct OfAnswers {
    /// The surveys that have such a question, and the question.
    asked: for<'a> fn(&[&'a Survey]) -> Vec<(&'a str, &'a str)>,
    counts: fn(&[&Survey], &[Tally]) -> Counts,
    /// What the definition does not know: which questions, which answers.
    detail: fn(&[&Survey]) -> String,
}

impl Metric {
    /// The one with this key.
    fn named(key: &str) -> Option<&'static Self> {
        METRICS.iter().find(|metric| metric.key == key)
    }

    /// Whether a period that ended on a day may be held against others.
    fn is_ripe(&self, ended_on: NaiveDate, today: NaiveDate) -> bool {
        !self.ripens || ended_on <= today - RIPE_AFTER
    }

    fn of_answers(&self) -> Option<&OfAnswers> {
        match &self.counting {
            Counting::Answers(of) => Some(of),
            Counting::Facts(_) | Counting::Customers(_) => None,
        }
    }

    /// What it counts of what was tallied, by people's answers or by everybody's.
    fn counts(&self, tallied: &Tallied, surveys: &[&Survey], answer: Fact) -> Counts {
        match &self.counting {
            Counting::Answers(of) => (of.counts)(surveys, &tallied.answers(&(of.asked)(surveys), answer)),
            Counting::Facts(counts) => counts(tallied),
            Counting::Customers(counts) => counts(tallied.customers),
        }
    }

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
        grows: false,
        counting: recommendation_rate::COUNTING,
    },
    Metric {
        key: "nps",
        name: "Net promoter score",
        noun: "answers",
        definition: "The percentage of promoters (9 and 10) minus the percentage of detractors (0 to 6), in points from −100 to 100.",
        unit: Unit::Points,
        ripens: false,
        grows: false,
        counting: nps::COUNTING,
    },
    Metric {
        key: "csat",
        name: "Customer satisfaction",
        noun: "answers",
        definition: "The share of ratings of 4 or 5, of all ratings from 1 to 5.",
        unit: Unit::Share,
        ripens: false,
        grows: false,
        counting: csat::COUNTING,
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
        grows: false,
        counting: response_rate::RR5,
    },
    Metric {
        key: "response_rate_rr1",
        name: "Response rate, all sent",
        noun: "mails",
        definition: "The share of first mails that were answered on the survey page, of all that were handed to the mail relay in the \
                     window, those that it refused, that came back, or of which nothing is known included (AAPOR response rate 1).",
        unit: Unit::Share,
        ripens: true,
        grows: false,
        counting: response_rate::RR1,
    },
    Metric {
        key: "repeat_customer_ratio",
        name: "Repeat customers",
        noun: "customers",
        definition: "The share of customers with two or more orders in the window, of those with one or more; cancelled and refunded \
                     orders do not count.",
        unit: Unit::Share,
        ripens: false,
        grows: false,
        counting: repeat_customer_ratio::COUNTING,
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
        grows: true,
        counting: returning_customer_rate::COUNTING,
    },
];

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
    /// The stretch of time before, for the page.
    #[serde(skip)]
    pub before: Option<ShopBefore>,
    /// Mails that are not settled, whatever the window.
    pub outbox: outbox::Open,
    /// What the unhappy named in the whole window, for the page.
    #[serde(skip)]
    pub topics: Vec<Topic>,
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

/// What the figures of the window are compared with ([`certainty::Before`]), also where one of the two has nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct ShopBefore {
    /// The start of the stretch.
    pub from: DateTime<Utc>,
    /// Its end, exclusive.
    pub to: DateTime<Utc>,
    /// By the key of the metric; what is not known is not there.
    pub metrics: BTreeMap<&'static str, Measure>,
}

impl ShopBefore {
    fn of(stretch: Span, counts: &[Option<Counts>]) -> Option<Self> {
        let metrics = METRICS.iter().zip(counts);
        let metrics = metrics.filter_map(|(metric, counts)| Some((metric.key, Measure::of((*counts)?))));
        Some(Self { from: stretch.from?, to: stretch.to?, metrics: metrics.collect() })
    }
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
    /// Only the figures, for who compares with them: neither the stretch before nor weights.
    pub bare: bool,
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
        let surveys = of_shop(shop, surveys);
        let span = window.span(shop.timezone, as_of)?;
        let subject = Subject { shop: *id, zone: shop.timezone, surveys: &surveys, span };
        reports.push(report_shop(snapshot, shop, subject, asked).await?);
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
    prepare_to_count(conn).await?;
    let metric = &METRICS[0];
    let (mut hits, mut total) = (0, 0);
    for (id, shop) in shops {
        let surveys = of_shop(shop, surveys);
        let span = Span { from: None, to: None, as_of };
        let subject = Subject { shop: *id, zone: shop.timezone, surveys: &surveys, span };
        let (yes, all) = recommendation_rate::yes_of_all(conn, &subject).await?;
        hits += yes;
        total += all;
    }
    // What comes after it in the transaction is planned as if this had not been.
    sqlx::raw_sql(
        "set local plan_cache_mode to default; set local work_mem to default; set local random_page_cost to default",
    )
    .execute(conn)
    .await?;
    let surveys: Vec<&Survey> =
        surveys.iter().filter(|survey| shops.iter().any(|(_, shop)| survey.is_for(&shop.key))).collect();
    let definition = metric.defined(Some(recommendation_rate::detail(&surveys)), false);
    Ok(Figure::new(Counts::Share { hits, total, unknown: None }, metric.noun, definition))
}

/// The surveys that this shop sends, in the order of jobs.toml.
fn of_shop<'a>(shop: &Shop, surveys: &'a [Survey]) -> Vec<&'a Survey> {
    surveys.iter().filter(|survey| survey.is_for(&shop.key)).collect()
}

async fn report_shop(
    conn: &mut PgConnection,
    shop: &Shop,
    mut subject: Subject<'_>,
    asked: &Asked,
) -> sqlx::Result<ShopReport> {
    let (id, surveys, span, once) = (subject.shop, subject.surveys, subject.span, asked.one_per_customer);
    let night = match known_at_night(asked, &subject) {
        Some(night) => rollup::last_freeze(conn, id, span.as_of).await?.map(|at| (at, night)),
        None => None,
    };
    let (tallied, mut series) = match night {
        Some((frozen_at, night)) => {
            subject.span.as_of = frozen_at;
            known(conn, &subject, night, asked.by).await?
        }
        None => match asked.by {
            Some(period) => {
                series::by_period(conn, &subject, period).await.map(|(series, all)| (all, Some(series)))?
            }
            None => (series::of_window(conn, &subject).await?, None),
        },
    };
    let metrics = figures(counts(conn, &subject, &tallied, once).await?, surveys, once);
    if let Some(series) = series.as_mut().filter(|_| once) {
        count_once(conn, &subject, series).await?;
    }
    let earlier = Earlier::than(subject.span, shop.timezone).filter(|_| !asked.bare);
    let before = match (earlier, night) {
        (None, _) => None,
        (Some(earlier), None) => Some(counts_before(conn, &subject, earlier, once).await?),
        (Some(earlier), Some((_, night))) => known_before(conn, &subject, night.period, earlier).await?,
    };
    let is_weighted = night.is_none() && !once && !asked.bare;
    let frame = if is_weighted { Some(Frame::count(conn, &subject).await?) } else { None };
    let metrics = metrics.with_certainty(|n, metric, figure| {
        let of_frame = match &frame {
            Some(frame) => frame.certainty(metric, surveys),
            None if asked.bare => Certainty::default(),
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
        before: earlier.zip(before).and_then(|(earlier, before)| ShopBefore::of(earlier.span, &before)),
        outbox: outbox::open_by(conn, id, span.as_of).await?,
        topics: series::topics(&tallied),
        series,
        segments,
        loyalty: if asked.loyalty { Some(loyalty::count(conn, &subject).await?) } else { None },
        funnel: if asked.funnel { Some(funnel::count(conn, &subject).await?) } else { None },
    })
}

/// What a metric counts.
struct Counted {
    counts: Counts,
    /// The same, had programs not been told from people; only what people say differs from what programs say.
    with_suspects: Option<Counts>,
}

/// What all metrics count in the subject's window, of which this is the tally. `once`: of each customer the latest answer only.
async fn counts(
    conn: &mut PgConnection,
    subject: &Subject<'_>,
    tallied: &Tallied,
    once: bool,
) -> sqlx::Result<Vec<Counted>> {
    let surveys = subject.surveys;
    let mut counted = Vec::with_capacity(METRICS.len());
    for metric in METRICS {
        let with_suspects = match metric.of_answers() {
            None => None,
            Some(_) if !once => Some(metric.counts(tallied, surveys, Fact::AnswerWithSuspects)),
            Some(of) => Some(once_per_customer(conn, subject, of, Whose::Everybody).await?),
        };
        counted.push(Counted { counts: peoples(conn, subject, metric, tallied, once).await?, with_suspects });
    }
    Ok(counted)
}

/// What a metric counts of people.
async fn peoples(
    conn: &mut PgConnection,
    subject: &Subject<'_>,
    metric: &Metric,
    tallied: &Tallied,
    once: bool,
) -> sqlx::Result<Counts> {
    match metric.of_answers().filter(|_| once) {
        Some(of) => once_per_customer(conn, subject, of, Whose::People).await,
        None => Ok(metric.counts(tallied, subject.surveys, Fact::Answer)),
    }
}

async fn once_per_customer(
    conn: &mut PgConnection,
    subject: &Subject<'_>,
    of: &OfAnswers,
    whose: Whose,
) -> sqlx::Result<Counts> {
    let asked = (of.asked)(subject.surveys);
    Ok((of.counts)(subject.surveys, &answers::tally(conn, subject, &asked, whose, Each::Customer).await?))
}

fn figures(counted: Vec<Counted>, surveys: &[&Survey], once: bool) -> Figures {
    let figures = METRICS.iter().zip(counted).map(|(metric, Counted { counts, with_suspects })| {
        let detail = metric.of_answers().map(|of| (of.detail)(surveys));
        Figure::new(counts, metric.noun, metric.defined(detail, once)).with_suspects(with_suspects)
    });
    Figures(figures.collect())
}

/// What a night knew of the window, and of its periods. It is as of the subject's moment.
async fn known(
    conn: &mut PgConnection,
    subject: &Subject<'_>,
    night: Night,
    by: Option<Period>,
) -> sqlx::Result<(Tallied, Option<Series>)> {
    let frozen_at = subject.span.as_of;
    let window = [night.stretch];
    let Some(by) = by.zip(night.by) else {
        let known = rollup::known(conn, subject, frozen_at, night.period, &window).await?;
        return Ok((known.into_values().next().unwrap_or_default(), None));
    };
    let (series, facts) = series::known_by_period(conn, subject, by).await?;
    let facts = match facts {
        Some(facts) => facts,
        // There is no period, but programs may have answered.
        None => rollup::known_facts(conn, subject, frozen_at, &window)
            .await?
            .into_values()
            .next()
            .unwrap_or_default(),
    };
    let customers = rollup::known_customers(conn, subject, frozen_at, night.period, &window).await?;
    Ok((Tallied { customers: customers.into_values().next().unwrap_or_default(), ..facts }, Some(series)))
}

/// What the metrics count in the stretch before, in their order.
async fn counts_before(
    conn: &mut PgConnection,
    subject: &Subject<'_>,
    earlier: Earlier,
    once: bool,
) -> sqlx::Result<Vec<Option<Counts>>> {
    let then = Subject { span: earlier.span, ..*subject };
    let tallied = series::of_window(conn, &then).await?;
    // Only facts ripen: whether a mail was answered.
    let Span { as_of, .. } = earlier.at_that_age;
    let window = [series::whole(earlier.at_that_age)];
    let ripe = facts::facts(conn, subject.shop, subject.surveys, &window, as_of, None).await?;
    let ripe = ripe.into_values().next().unwrap_or_default();
    let mut before = Vec::with_capacity(METRICS.len());
    for metric in METRICS {
        before.push(Some(if metric.ripens {
            metric.counts(&ripe, subject.surveys, Fact::Answer)
        } else {
            peoples(conn, &then, metric, &tallied, once).await?
        }));
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
        Some(metric.counts(tallied, subject.surveys, Fact::Answer))
    });
    Ok(Some(counts.collect()))
}

/// Counts the answers of a series anew, of each customer and period the latest.
async fn count_once(conn: &mut PgConnection, subject: &Subject<'_>, series: &mut Series) -> sqlx::Result<()> {
    for point in &mut series.points {
        let subject = Subject { span: series::span_of(series.period, point, subject), ..*subject };
        for (metric, of) in METRICS.iter().filter_map(|metric| Some((metric, metric.of_answers()?))) {
            let counts = once_per_customer(conn, &subject, of, Whose::People).await?;
            point.metrics.set(metric.key, Measure::of(counts));
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
    // A plan for any window and any segment would be a bad one for all of them. What is looked up by an index mostly is in memory, or on
    // a disk without a head: taken for as dear as Postgres does (4), a month would be counted by reading all years. Whoever has told
    // Postgres about the disk knows better.
    sqlx::raw_sql(
        "set local plan_cache_mode = force_custom_plan; set local work_mem = '64MB';
         select set_config('random_page_cost', '1.1', true) where current_setting('random_page_cost') = '4'",
    )
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
    fn response_rates_ripen() {
        let is_ripe = |key: &str, ended_on: &str| {
            Metric::named(key).unwrap().is_ripe(ended_on.parse().unwrap(), "2026-03-16".parse().unwrap())
        };
        assert!(is_ripe("response_rate", "2026-03-02") && !is_ripe("response_rate", "2026-03-03"));
        assert!(!is_ripe("response_rate_rr1", "2026-03-15") && is_ripe("recommendation_rate", "2026-03-15"));
    }

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
