//! What there is so and so many of: the one place where the rows of the earlier stages are counted: for figures, series, segments
//! and the nightly rollup. What follows is arithmetic.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use super::answers::Tally;
use super::customers;
use super::segment::Segment;
use crate::survey::{QuestionKind, Survey};
use crate::types::ShopId;

/// What is counted; `metric_fact` in the database, where each is explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
#[sqlx(type_name = "metric_fact", rename_all = "snake_case")]
pub enum Fact {
    Orders,
    MailsSent,
    FirstMails,
    FirstMailsComplete,
    FirstMailsUnknown,
    FirstMailsReached,
    FirstMailsAnswered,
    Answers,
    Comments,
    Answer,
    AnswerWithSuspects,
    Unhappy,
    Topic,
    Score,
}

impl Fact {
    /// All of them, in the order of the database.
    pub const ALL: [Self; 14] = [
        Self::Orders,
        Self::MailsSent,
        Self::FirstMails,
        Self::FirstMailsComplete,
        Self::FirstMailsUnknown,
        Self::FirstMailsReached,
        Self::FirstMailsAnswered,
        Self::Answers,
        Self::Comments,
        Self::Answer,
        Self::AnswerWithSuspects,
        Self::Unhappy,
        Self::Topic,
        Self::Score,
    ];
}

/// A stretch of time, without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) starts_at: DateTime<Utc>,
    pub(super) ends_at: DateTime<Utc>,
}

/// What exactly there is so and so many of. The texts are empty where the fact has no such part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) fact: Fact,
    pub(super) survey: String,
    pub(super) question: String,
    pub(super) value: String,
}

/// How many customers ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Customers {
    pub(super) customers: i64,
    /// Of these, how many did so twice or more.
    pub(super) repeat: i64,
    /// Of these, how many had ordered before, or did so twice or more.
    pub(super) returning: i64,
}

/// What was counted in one bucket (and of one value of a segment).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Tallied {
    pub(super) facts: BTreeMap<Key, i64>,
    pub(super) customers: Customers,
}

impl Tallied {
    /// How many there are of a fact that has no question, of all surveys.
    pub(super) fn sum(&self, fact: Fact) -> i64 {
        self.facts.iter().filter(|(key, _)| key.fact == fact).map(|(_, n)| n).sum()
    }

    /// How often these questions of these surveys were so answered.
    pub(super) fn answers(&self, asked: &[(&str, &str)], answer: Fact) -> Vec<Tally> {
        let is_asked = |key: &Key| asked.contains(&(key.survey.as_str(), key.question.as_str()));
        let facts = self.facts.iter().filter(|(key, _)| key.fact == answer && is_asked(key));
        facts
            .map(|(key, n)| Tally {
                survey: key.survey.clone(),
                // Whoever reads the tally knows by the question which of the two it is.
                score: key.value.parse().ok(),
                choice: Some(key.value.clone()),
                n: *n,
            })
            .collect()
    }

    /// Adds what was counted in another bucket. Customers do not add up: one who came twice is one.
    pub(super) fn add_facts(&mut self, other: &Self) {
        for (key, n) in &other.facts {
            *self.facts.entry(key.clone()).or_default() += n;
        }
    }
}

/// By bucket and value of the segment; what is missing has nothing.
pub(super) type ByBucket = BTreeMap<(usize, String), Tallied>;

/// Counts the facts in these buckets, which are in order and do not overlap.
pub(super) async fn facts(
    conn: &mut PgConnection,
    shop: ShopId,
    surveys: &[&Survey],
    buckets: &[Bucket],
    as_of: DateTime<Utc>,
    segment: Option<&Segment>,
) -> sqlx::Result<ByBucket> {
    let rules = Rules::of(surveys);
    let (kind, attribute) = Segment::key(segment);
    let mut found = ByBucket::new();
    for run in Run::of(buckets) {
        let rows = sqlx::query_file!(
            "src/metrics/facts.sql",
            shop.0,
            &run.starts,
            run.end,
            as_of,
            &rules.sign_survey,
            &rules.sign_position,
            &rules.sign_question,
            &rules.sign_answer,
            &rules.sign_is_unhappy,
            &rules.topic_survey,
            &rules.topic_question,
            kind,
            attribute,
        )
        .fetch_all(&mut *conn)
        .await?;
        for row in rows {
            let Some(n) = run.of.get(index(row.n)).copied().flatten() else { continue };
            let key = Key { fact: row.fact, survey: row.survey, question: row.question, value: row.value };
            found.entry((n, row.segment)).or_default().facts.insert(key, row.count);
        }
    }
    Ok(found)
}

/// Buckets that are counted together, because they lie side by side, or nearly so.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    /// The first moments of the buckets, and of the gaps between them.
    starts: Vec<DateTime<Utc>>,
    /// The first moment after the last bucket.
    end: DateTime<Utc>,
    /// For each start, which bucket begins there; `None`: a gap.
    of: Vec<Option<usize>>,
}

/// So much time between two buckets is counted in vain sooner than asked about apart.
const GAP: TimeDelta = TimeDelta::days(7);

impl Run {
    fn of(buckets: &[Bucket]) -> Vec<Self> {
        let mut runs: Vec<Self> = Vec::new();
        for (n, Bucket { starts_at, ends_at }) in buckets.iter().enumerate() {
            if starts_at >= ends_at {
                continue;
            }
            match runs.last_mut().filter(|run| *starts_at - run.end <= GAP) {
                None => {
                    runs.push(Self { starts: vec![*starts_at], end: *ends_at, of: vec![Some(n)] });
                }
                Some(run) => {
                    if run.end < *starts_at {
                        run.starts.push(run.end);
                        run.of.push(None);
                    }
                    run.starts.push(*starts_at);
                    run.of.push(Some(n));
                    run.end = *ends_at;
                }
            }
        }
        runs
    }
}

/// Counts the customers in these buckets, which may overlap.
pub(super) async fn customers(
    conn: &mut PgConnection,
    shop: ShopId,
    buckets: &[Bucket],
    as_of: DateTime<Utc>,
    segment: Option<&Segment>,
) -> sqlx::Result<BTreeMap<(usize, String), Customers>> {
    if segment.is_none() && is_one_pass(buckets, as_of) {
        let counted = customers::of_each(conn, shop, &[buckets], as_of).await?;
        let counted = counted.into_iter().flatten().enumerate();
        return Ok(counted
            .filter(|(_, of)| of.customers > 0)
            .map(|(n, of)| ((n, String::new()), of))
            .collect());
    }
    let (starts, ends, (kind, attribute)) = (starts(buckets), ends(buckets), Segment::key(segment));
    let shop = shop.0;
    let rows = if is_one_pass(buckets, as_of) {
        let all = sqlx::query_file_as!(
            CustomersRow,
            "src/metrics/customers_all.sql",
            shop,
            &starts,
            &ends,
            as_of,
            kind,
            attribute,
        );
        all.fetch_all(conn).await?
    } else {
        let few = sqlx::query_file_as!(
            CustomersRow,
            "src/metrics/customers.sql",
            shop,
            &starts,
            &ends,
            as_of,
            kind,
            attribute,
        );
        few.fetch_all(conn).await?
    };
    let found = rows.into_iter().map(|row| {
        let CustomersRow { n, segment, customers, repeat, returning } = row;
        ((index(n), segment), Customers { customers, repeat, returning })
    });
    Ok(found.collect())
}

struct CustomersRow {
    n: i32,
    segment: String,
    customers: i64,
    repeat: i64,
    returning: i64,
}

/// Counts the customers of periods, which are in order and do not overlap, by their number, and of the whole window.
pub(super) async fn customers_and_all(
    conn: &mut PgConnection,
    shop: ShopId,
    periods: &[Bucket],
    window: Bucket,
    as_of: DateTime<Utc>,
) -> sqlx::Result<(BTreeMap<usize, Customers>, Customers)> {
    let window = [window];
    if is_one_pass(periods, as_of) {
        let mut counted = customers::of_each(conn, shop, &[periods, &window], as_of).await?.into_iter();
        let of_periods = counted.next().unwrap_or_default().into_iter().enumerate();
        let all = counted.flatten().next().unwrap_or_default();
        return Ok((of_periods.filter(|(_, of)| of.customers > 0).collect(), all));
    }
    let of_periods = customers(conn, shop, periods, as_of, None).await?;
    let all = customers(conn, shop, &window, as_of, None).await?;
    let of_periods = of_periods.into_iter().map(|((n, _), of)| (n, of));
    Ok((of_periods.collect(), all.into_values().next().unwrap_or_default()))
}

/// Whether to go once over all orders, instead of looking up those of each bucket and what their customers ordered before. Which of the
/// two changes no figure.
fn is_one_pass(buckets: &[Bucket], as_of: DateTime<Utc>) -> bool {
    is_long(buckets.iter().map(|bucket| bucket.ends_at.min(as_of) - bucket.starts_at).sum())
        && buckets.windows(2).all(|pair| pair[0].ends_at <= pair[1].starts_at)
}

/// Whether so much time is taken for most of what a shop has.
pub(super) fn is_long(time: TimeDelta) -> bool {
    time > TimeDelta::days(180)
}

fn starts(buckets: &[Bucket]) -> Vec<DateTime<Utc>> {
    buckets.iter().map(|bucket| bucket.starts_at).collect()
}

fn ends(buckets: &[Bucket]) -> Vec<DateTime<Utc>> {
    buckets.iter().map(|bucket| bucket.ends_at).collect()
}

/// The database counts from 1.
fn index(n: i32) -> usize {
    usize::try_from(n - 1).unwrap_or_default()
}

/// What of jobs.toml the facts depend on, as the query wants it.
#[derive(Debug, Default)]
pub(super) struct Rules {
    sign_survey: Vec<String>,
    sign_position: Vec<i32>,
    sign_question: Vec<String>,
    sign_answer: Vec<String>,
    sign_is_unhappy: Vec<bool>,
    topic_survey: Vec<String>,
    topic_question: Vec<String>,
}

impl Rules {
    pub(super) fn of(surveys: &[&Survey]) -> Self {
        let mut rules = Self::default();
        for survey in surveys {
            for (position, sign) in (0..).zip(survey.signs(&survey.questionnaire)) {
                let options = survey.questionnaire.question(sign.question).and_then(|q| q.kind.options());
                for answer in options.unwrap_or_default() {
                    rules.sign_survey.push(survey.key.clone());
                    rules.sign_position.push(position);
                    rules.sign_question.push(sign.question.to_owned());
                    rules.sign_is_unhappy.push(sign.unhappy.contains(&answer));
                    rules.sign_answer.push(answer);
                }
            }
            for question in &survey.questionnaire.questions {
                if matches!(question.kind, QuestionKind::Choice { .. }) {
                    rules.topic_survey.push(survey.key.clone());
                    rules.topic_question.push(question.key.clone());
                }
            }
        }
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::hours(hours)
    }

    #[test]
    fn buckets_that_lie_near_each_other_are_counted_together() {
        let bucket = |starts_at: i64, ends_at: i64| Bucket { starts_at: at(starts_at), ends_at: at(ends_at) };
        let run = |starts: &[i64], end: i64, of: &[Option<usize>]| Run {
            starts: starts.iter().map(|start| at(*start)).collect(),
            end: at(end),
            of: of.to_vec(),
        };
        assert_eq!(Run::of(&[]), []);
        assert_eq!(
            Run::of(&[bucket(0, 24), bucket(24, 47), bucket(71, 95)]),
            [run(&[0, 24, 47, 71], 95, &[Some(0), Some(1), None, Some(2)])],
            "a day is missing"
        );
        let week = 24 * 7;
        assert_eq!(
            Run::of(&[bucket(0, 24), bucket(24 + week, 48 + week), bucket(49 + 2 * week, 73 + 2 * week)]),
            [
                run(&[0, 24, 24 + week], 48 + week, &[Some(0), None, Some(1)]),
                run(&[49 + 2 * week], 73 + 2 * week, &[Some(2)])
            ],
            "a week at most"
        );
        assert_eq!(
            Run::of(&[bucket(24, 24), bucket(24, 48)]),
            [run(&[24], 48, &[Some(1)])],
            "nothing is in the first"
        );
    }
}
