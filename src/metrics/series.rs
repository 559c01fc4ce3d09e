//! Figures by period and by segment: the same metrics as in a report, once for each month, or for each country.
//!
//! Answers, mails and orders are placed as in a report. A period of the calendar that lies in the window only in part, or is not over,
//! counts what lies in it and says that it is not complete. A stretch of so many days reaches back before the window's start where it has to.

use std::collections::BTreeMap;

use chrono::{Days, NaiveDate, NaiveTime, TimeDelta};
use chrono_tz::Tz;
use serde::{Serialize, Serializer};
use sqlx::PgConnection;

use super::facts::{self, Bucket, ByBucket, Fact, Tallied};
use super::figure::Measure;
use super::period::{Period, Stretch};
use super::rollup::{self, FrozenPeriod};
use super::segment::Segment;
use super::window::{Span, day_of};
use super::{METRICS, Metric};
use crate::survey::Survey;
use crate::types::ShopId;

/// Figures by period.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    pub period: Period,
    /// Without gaps, in the order of time.
    pub points: Vec<Point>,
}

/// The figures of one period.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// What people call it.
    #[serde(rename = "period")]
    pub label: String,
    #[serde(flatten)]
    pub days: DaySpan,
    /// Whether all of it lies in the window and is over.
    pub complete: bool,
    pub volumes: Volumes,
    pub metrics: Measures,
    /// By source: the latest score on or before the period's last day.
    pub third_party_scores: BTreeMap<String, Score>,
    /// What the unhappy named.
    pub topics: Vec<Topic>,
}

/// Figures by the values of a segment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BySegment {
    pub segment: Segment,
    /// By the key of the metric.
    pub metrics: PerMetric<Vec<ValueMeasure>>,
    /// By the segment's value.
    pub volumes: BTreeMap<String, Volumes>,
}

/// A figure of one value of a segment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ValueMeasure {
    /// Empty: the order does not say.
    pub segment_value: String,
    #[serde(flatten)]
    pub measure: Measure,
}

/// Under so many, a figure says nothing about its segment; it is listed all the same.
pub const FEW: i64 = 10;

/// The days of a period, as they stand in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DaySpan {
    pub starts_on: NaiveDate,
    /// Included.
    pub ends_on: NaiveDate,
}

/// How much there was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Volumes {
    /// Placed, and not cancelled or refunded.
    pub orders: i64,
    /// Who placed them.
    pub customers: i64,
    /// First mails and reminders.
    pub mails_sent: i64,
    /// Questionnaires that people answered.
    pub answers: i64,
    /// Of these, those with words.
    pub comments: i64,
    /// Of these, those that call for the shop's attention.
    pub unhappy: i64,
}

/// How a third party rated the shop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Score {
    pub rated_on: NaiveDate,
    /// From 0 to 1: the share of the source's scale.
    pub score: f64,
    /// Of how many ratings it was made; null: the source does not say.
    pub ratings: Option<i64>,
}

/// How often the unhappy gave an answer to a question of type choice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Topic {
    pub survey: String,
    pub question: String,
    pub option: String,
    pub n: i64,
    /// Of so many unhappy ones who answered this survey.
    pub unhappy: i64,
}

/// Something for each of [`METRICS`], in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct PerMetric<T>(Vec<T>);

/// A figure for each of [`METRICS`].
pub type Measures = PerMetric<Measure>;

impl<T> PerMetric<T> {
    fn new(of: impl FnMut(&'static Metric) -> T) -> Self {
        Self(METRICS.iter().map(of).collect())
    }

    /// Each metric with what it has.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Metric, &T)> {
        METRICS.iter().zip(&self.0)
    }

    /// What the metric with this key has.
    pub fn get(&self, key: &str) -> Option<&T> {
        self.iter().find(|(metric, _)| metric.key == key).map(|(_, value)| value)
    }
}

impl Measures {
    /// Another figure for the metric with this key.
    pub(super) fn set(&mut self, key: &str, measure: Measure) {
        if let Some(n) = METRICS.iter().position(|metric| metric.key == key) {
            self.0[n] = measure;
        }
    }
}

impl<T: Serialize> Serialize for PerMetric<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(metric, value)| (metric.key, value)))
    }
}

/// Whose figures, of which time.
#[derive(Debug, Clone)]
pub(super) struct Subject<'a> {
    pub(super) shop: ShopId,
    pub(super) zone: Tz,
    pub(super) surveys: &'a [&'a Survey],
    pub(super) span: Span,
}

/// The figures by period, counted from the rows, and what the whole window has.
pub(super) async fn by_period(
    conn: &mut PgConnection,
    subject: &Subject<'_>,
    period: Period,
) -> sqlx::Result<(Series, Tallied)> {
    let first = first_day(conn, subject).await?;
    let Some(cut) = Cut::of(subject, period, first) else {
        return Ok((Series { period, points: Vec::new() }, of_window(conn, subject).await?));
    };
    let (tallied, all) = if let Period::Rolling(_) = period {
        (cut.tally(conn, subject, None).await?, of_window(conn, subject).await?)
    } else {
        cut.tally_with_window(conn, subject).await?
    };
    let scores = Scores::of(conn, subject).await?;
    Ok((cut.series(subject, &tallied, &scores), all))
}

/// The figures by period, as they were known at a freeze, which is the subject's `as_of`, and the facts of the whole window, which begins
/// and ends with a period or has no bound; `None`: there is no period.
pub(super) async fn known_by_period(
    conn: &mut PgConnection,
    subject: &Subject<'_>,
    (period, frozen): (Period, FrozenPeriod),
) -> sqlx::Result<(Series, Option<Tallied>)> {
    let frozen_at = subject.span.as_of;
    let first = rollup::first_day(conn, subject.shop, frozen_at).await?;
    let Some(cut) = Cut::of(subject, period, first) else {
        return Ok((Series { period, points: Vec::new() }, None));
    };
    let Some(first) = cut.stretches.first() else {
        return Ok((Series { period, points: Vec::new() }, None));
    };
    let tallied = rollup::known(conn, subject, frozen_at, frozen, &cut.stretches).await?;
    let mut all = Tallied::default();
    tallied.values().for_each(|of_period| all.add_facts(of_period));
    // Before the first day that counts, programs may have answered.
    if subject.span.from.is_none() {
        all.add_facts(&rollup::known_facts_before(conn, subject, frozen_at, first.first_day).await?);
    }
    let scores = Scores::from(rollup::scores(conn, subject, frozen_at).await?);
    Ok((cut.series(subject, &tallied, &scores), Some(all)))
}

/// What the whole window has, counted from the rows.
pub(super) async fn of_window(conn: &mut PgConnection, subject: &Subject<'_>) -> sqlx::Result<Tallied> {
    let tallied = tally(conn, subject, &[whole(subject.span)], None).await?;
    Ok(tallied.into_values().next().unwrap_or_default())
}

/// The figures of the whole window by the values of a segment: those of most first.
pub(super) async fn by_segment(
    conn: &mut PgConnection,
    subject: &Subject<'_>,
    segment: &Segment,
) -> sqlx::Result<BySegment> {
    let tallied = tally(conn, subject, &[whole(subject.span)], Some(segment)).await?;
    let of_each: Vec<_> =
        tallied.iter().map(|((_, value), tallied)| (value, measures(tallied, subject.surveys))).collect();
    let metrics = PerMetric::new(|metric| {
        let mut values: Vec<_> = of_each
            .iter()
            .filter_map(|(value, measures)| {
                let measure = *measures.get(metric.key)?;
                Some(ValueMeasure { segment_value: (*value).clone(), measure })
            })
            .filter(|value| value.measure.denominator > 0)
            .collect();
        // Stable: of equally many, in the order of the alphabet.
        values.sort_by_key(|value| std::cmp::Reverse(value.measure.denominator));
        values
    });
    let volumes = tallied.iter().map(|((_, value), tallied)| (value.clone(), Volumes::of(tallied)));
    Ok(BySegment { segment: segment.clone(), metrics, volumes: volumes.collect() })
}

/// How a window is cut into periods.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) period: Period,
    pub(super) stretches: Vec<Stretch>,
}

impl Cut {
    /// From the start of the window, or the first day of what there is, to its end. `None`: there is nothing.
    pub(super) fn of(subject: &Subject<'_>, period: Period, first: Option<NaiveDate>) -> Option<Self> {
        let Span { from, to, as_of } = subject.span;
        let first = from.map(|from| day_of(from, subject.zone)).or(first)?;
        let end = to.map_or(as_of, |to| as_of.min(to - TimeDelta::microseconds(1)));
        let last = day_of(end, subject.zone);
        let stretches = if first <= last { period.between(first, last) } else { Vec::new() };
        Some(Self { period, stretches })
    }

    /// The figures of each stretch.
    fn series(&self, subject: &Subject<'_>, tallied: &ByBucket, scores: &Scores) -> Series {
        let period = self.period;
        let nothing = Tallied::default();
        let points = self.stretches.iter().enumerate().map(|(n, stretch)| {
            let tallied = tallied.get(&(n, String::new())).unwrap_or(&nothing);
            let (starts_at, ends_at) = stretch.moments(subject.zone);
            let Span { from, to, as_of } = subject.span;
            let is_whole = matches!(period, Period::Rolling(_))
                || from.is_none_or(|from| from <= starts_at) && to.is_none_or(|to| ends_at <= to);
            Point {
                label: period.label(*stretch),
                days: DaySpan { starts_on: stretch.first_day, ends_on: stretch.last_day },
                complete: is_whole && ends_at <= as_of,
                volumes: Volumes::of(tallied),
                metrics: measures(tallied, subject.surveys),
                third_party_scores: scores.on(stretch.last_day),
                topics: topics(tallied),
            }
        });
        Series { period, points: points.collect() }
    }

    /// What was counted in each stretch.
    pub(super) async fn tally(
        &self,
        conn: &mut PgConnection,
        subject: &Subject<'_>,
        segment: Option<&Segment>,
    ) -> sqlx::Result<ByBucket> {
        if let Period::Rolling(_) = self.period {
            return self.tally_rolling(conn, subject, segment).await;
        }
        let buckets: Vec<_> = self.stretches.iter().map(|stretch| clipped(*stretch, subject)).collect();
        tally(conn, subject, &buckets, segment).await
    }

    /// The same of periods of the calendar, and what the whole window has: its days are counted once.
    async fn tally_with_window(
        &self,
        conn: &mut PgConnection,
        subject: &Subject<'_>,
    ) -> sqlx::Result<(ByBucket, Tallied)> {
        let Subject { shop, surveys, span, .. } = subject;
        let window = whole(*span);
        let periods: Vec<_> = self.stretches.iter().map(|stretch| clipped(*stretch, subject)).collect();
        let Some(first) = periods.first() else {
            return Ok((ByBucket::new(), of_window(conn, subject).await?));
        };
        // Before the first day that counts, programs may have answered.
        let before = Bucket { ends_at: first.starts_at, ..window };
        let buckets: Vec<_> = [before].iter().chain(&periods).copied().collect();
        let (mut tallied, mut all) = (ByBucket::new(), Tallied::default());
        for ((n, value), of_bucket) in facts::facts(conn, *shop, surveys, &buckets, span.as_of, None).await? {
            all.add_facts(&of_bucket);
            if let Some(n) = n.checked_sub(1) {
                tallied.insert((n, value), of_bucket);
            }
        }
        let (of_periods, of_window) =
            facts::customers_and_all(conn, *shop, &periods, window, span.as_of).await?;
        for (n, customers) in of_periods {
            tallied.entry((n, String::new())).or_default().customers = customers;
        }
        all.customers = of_window;
        Ok((tallied, all))
    }

    /// Days are counted once and added up; customers are counted for each stretch, because they do not add up.
    async fn tally_rolling(
        &self,
        conn: &mut PgConnection,
        subject: &Subject<'_>,
        segment: Option<&Segment>,
    ) -> sqlx::Result<ByBucket> {
        let Subject { shop, zone, surveys, span } = subject;
        let (Some(first), Some(last)) = (self.stretches.first(), self.stretches.last()) else {
            return Ok(ByBucket::new());
        };
        let days = Period::Day.between(first.first_day, last.last_day);
        let buckets: Vec<_> = days.iter().map(|day| bucket(*day, *zone)).collect();
        let by_day = facts::facts(conn, *shop, surveys, &buckets, span.as_of, segment).await?;
        let mut tallied = ByBucket::new();
        for ((day, value), of_day) in &by_day {
            let day = days[*day].first_day;
            for (n, stretch) in self.stretches.iter().enumerate() {
                if stretch.first_day <= day && day <= stretch.last_day {
                    tallied.entry((n, value.clone())).or_default().add_facts(of_day);
                }
            }
        }
        let buckets: Vec<_> = self.stretches.iter().map(|stretch| bucket(*stretch, *zone)).collect();
        for (of, customers) in facts::customers(conn, *shop, &buckets, span.as_of, segment).await? {
            tallied.entry(of).or_default().customers = customers;
        }
        Ok(tallied)
    }
}

/// What of a stretch lies in the window.
fn clipped(stretch: Stretch, subject: &Subject<'_>) -> Bucket {
    let (starts_at, ends_at) = stretch.moments(subject.zone);
    Bucket {
        starts_at: subject.span.from.map_or(starts_at, |from| from.max(starts_at)),
        ends_at: subject.span.to.map_or(ends_at, |to| to.min(ends_at)),
    }
}

/// What of the subject's time a point of a series counts.
pub(super) fn span_of(period: Period, point: &Point, subject: &Subject<'_>) -> Span {
    let stretch = Stretch { first_day: point.days.starts_on, last_day: point.days.ends_on };
    let Bucket { starts_at, ends_at } = match period {
        Period::Rolling(_) => bucket(stretch, subject.zone),
        _ => clipped(stretch, subject),
    };
    Span { from: Some(starts_at), to: Some(ends_at), as_of: subject.span.as_of }
}

fn bucket(stretch: Stretch, zone: Tz) -> Bucket {
    let (starts_at, ends_at) = stretch.moments(zone);
    Bucket { starts_at, ends_at }
}

/// The whole window; one without a start or an end has all there can be.
pub(super) fn whole(span: Span) -> Bucket {
    // Later than the clock of any shop, and a moment that the database can compare.
    let end = NaiveDate::from_ymd_opt(9999, 12, 31).unwrap_or(NaiveDate::MAX);
    let midnight = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc();
    Bucket {
        starts_at: span.from.unwrap_or_else(|| midnight(NaiveDate::default() - Days::new(365 * 1900))),
        ends_at: span.to.unwrap_or_else(|| midnight(end)),
    }
}

/// Facts and customers of buckets that do not overlap.
pub(super) async fn tally(
    conn: &mut PgConnection,
    subject: &Subject<'_>,
    buckets: &[Bucket],
    segment: Option<&Segment>,
) -> sqlx::Result<ByBucket> {
    let Subject { shop, surveys, span, .. } = subject;
    let mut tallied = facts::facts(conn, *shop, surveys, buckets, span.as_of, segment).await?;
    for (of, customers) in facts::customers(conn, *shop, buckets, span.as_of, segment).await? {
        tallied.entry(of).or_default().customers = customers;
    }
    Ok(tallied)
}

pub(super) fn measures(tallied: &Tallied, surveys: &[&Survey]) -> Measures {
    PerMetric::new(|metric| Measure::of(metric.counts(tallied, surveys, Fact::Answer)))
}

impl Volumes {
    pub(super) fn of(tallied: &Tallied) -> Self {
        Self {
            orders: tallied.sum(Fact::Orders),
            customers: tallied.customers.customers,
            mails_sent: tallied.sum(Fact::MailsSent),
            answers: tallied.sum(Fact::Answers),
            comments: tallied.sum(Fact::Comments),
            unhappy: tallied.sum(Fact::Unhappy),
        }
    }
}

/// What the unhappy named, by survey, question and option.
pub(super) fn topics(tallied: &Tallied) -> Vec<Topic> {
    let unhappy = |survey: &str| {
        let of_survey =
            tallied.facts.iter().filter(|(key, _)| key.fact == Fact::Unhappy && key.survey == survey);
        of_survey.map(|(_, n)| n).sum()
    };
    let topics = tallied.facts.iter().filter(|(key, _)| key.fact == Fact::Topic);
    topics
        .map(|(key, n)| Topic {
            survey: key.survey.clone(),
            question: key.question.clone(),
            option: key.value.clone(),
            n: *n,
            unhappy: unhappy(&key.survey),
        })
        .collect()
}

/// The day of the first thing that is counted.
pub(super) async fn first_day(
    conn: &mut PgConnection,
    subject: &Subject<'_>,
) -> sqlx::Result<Option<NaiveDate>> {
    let first = sqlx::query!(
        r#"select least(
               (select min(ordered_at) from "order" where shop_id = $1 and status not in ('cancelled', 'refunded')),
               (select min(answered_at) from response where shop_id = $1 and verdict = 'human'),
               (select min(coalesce(sent_at, decided_at)) from invitation
                where shop_id = $1 and state in ('sent', 'unknown', 'failed'))
           ) as moment,
           (select min(rated_on) from rating where shop_id = $1) as rated_on"#,
        subject.shop.0,
    )
    .fetch_one(conn)
    .await?;
    let day = first.moment.map(|moment| day_of(moment, subject.zone));
    Ok(day.into_iter().chain(first.rated_on).min())
}

/// What third parties said, by source, in the order of time.
pub(super) struct Scores(BTreeMap<String, Vec<Score>>);

impl Scores {
    pub(super) async fn of(conn: &mut PgConnection, subject: &Subject<'_>) -> sqlx::Result<Self> {
        let rows = sqlx::query!(
            r#"select source, rated_on, (score / scale)::float8 as "score!", ratings
               from rating where shop_id = $1 and rated_on <= $2
               order by source, rated_on"#,
            subject.shop.0,
            day_of(subject.span.as_of, subject.zone),
        )
        .fetch_all(conn)
        .await?;
        let scores = rows.into_iter().map(|row| {
            (row.source, Score { rated_on: row.rated_on, score: row.score, ratings: row.ratings })
        });
        Ok(Self::from(scores.collect()))
    }

    fn from(scores: Vec<(String, Score)>) -> Self {
        let mut by_source: BTreeMap<String, Vec<Score>> = BTreeMap::new();
        for (source, score) in scores {
            by_source.entry(source).or_default().push(score);
        }
        Self(by_source)
    }

    pub(super) fn on(&self, day: NaiveDate) -> BTreeMap<String, Score> {
        let latest = |scores: &Vec<Score>| scores.iter().rfind(|score| score.rated_on <= day).copied();
        self.0.iter().filter_map(|(source, scores)| Some((source.clone(), latest(scores)?))).collect()
    }
}
