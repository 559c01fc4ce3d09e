//! Who comes back: by the month of the first order, after how long, and by what they had said.
//!
//! Only what is fully observed is counted: a customer of last week has not had the time to come back within ninety days, and would pass
//! for one who did not. Cancelled and refunded orders are none. Orders from before the first file that was imported are not known, so
//! that in the first months of a history too many orders pass for first ones.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::PgConnection;

use super::answers;
use super::figure::{Counts, Measure};
use super::period::Period;
use super::series::Subject;
use super::window::{day_of, first_moment};
use crate::survey::{QuestionKind, Yes};

/// So many months after the first order's, at most, a cohort is looked at.
const MONTHS: usize = 24;

/// The days within which somebody comes back.
const HORIZONS: [i32; 3] = [90, 180, 365];

/// Who comes back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Loyalty {
    /// By the month of the first order, in the order of time; first orders of the window.
    pub cohorts: Vec<Cohort>,
    pub days_to_next_order: Gaps,
    /// By what customers had said of the first order of the window that they were asked about, and of those who had said nothing of it.
    pub repeat_by_answer: Vec<Repeat>,
}

/// The customers whose first order was in a month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cohort {
    /// Of the first order, in the shop's zone.
    pub month: String,
    pub customers: i64,
    /// How many of them had ordered again by the end of that month, of the next one, of the one after that …; null: that month is not
    /// over, or not known.
    pub ordered_again: Vec<Option<i64>>,
}

/// The time from one order of a customer to the next one: a plain median of the gaps that were observed. Who has not come back yet is
/// not in it, so that it is shorter than the true one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Gaps {
    /// In days of 24 hours; null: nobody came back.
    pub median: Option<f64>,
    /// Orders of the window that another one of the same customer followed.
    pub n: i64,
}

/// How many customers who said something ordered again, or who said nothing.
///
/// Each customer counts with one order: the first of the window that they were asked about. Its answer tells the class, and the days are
/// counted from it, whatever is said of later orders. Otherwise who comes back would have more chances to be among those who answered. A
/// customer who answered other questions of that order only is in no class. An order that was answered without a mail of ours (from an
/// imported file, or by somebody who came by another link) counts as asked about; of whom others asked in vain nothing is known.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Repeat {
    /// `nps`, `recommendation`, or `no_answer`.
    pub by: &'static str,
    /// `promoters`, `passives`, `detractors`; `yes`, `no`; `no_answer`.
    pub answer: &'static str,
    /// Within so many days of the order that they were asked about.
    pub days: i32,
    /// Of those whose order is that long ago.
    #[serde(flatten)]
    pub measure: Measure,
}

pub(super) async fn count(conn: &mut PgConnection, subject: &Subject<'_>) -> sqlx::Result<Loyalty> {
    Ok(Loyalty {
        cohorts: cohorts(conn, subject).await?,
        days_to_next_order: gaps(conn, subject).await?,
        repeat_by_answer: repeat_by_answer(conn, subject).await?,
    })
}

async fn cohorts(conn: &mut PgConnection, subject: &Subject<'_>) -> sqlx::Result<Vec<Cohort>> {
    let (zone, span) = (subject.zone, subject.span);
    let first = sqlx::query_scalar!(
        r#"select min(ordered_at) from "order" where shop_id = $1 and status not in ('cancelled', 'refunded') and ordered_at <= $2"#,
        subject.shop.0,
        span.as_of,
    )
    .fetch_one(&mut *conn)
    .await?;
    let Some(first) = first else { return Ok(Vec::new()) };
    let months = Period::Month.between(day_of(first, zone), day_of(span.as_of, zone));
    let starts: Vec<_> = months.iter().map(|month| first_moment(month.first_day, zone)).collect();
    let rows = sqlx::query!(
        r#"select width_bucket(ordered_at, $5::timestamptz[]) as "month!", width_bucket(next_at, $5::timestamptz[]) as next,
                  count(*) as "customers!"
           from (
               select ordered_at, lead(ordered_at) over customers as next_at, row_number() over customers as n
               from "order"
               where shop_id = $1 and status not in ('cancelled', 'refunded') and ordered_at <= $2
               window customers as (partition by customer_id order by ordered_at)
           ) as o
           where n = 1 and ($3::timestamptz is null or ordered_at >= $3) and ($4::timestamptz is null or ordered_at < $4)
           group by 1, 2"#,
        subject.shop.0,
        span.as_of,
        span.from,
        span.to,
        &starts,
    )
    .fetch_all(conn)
    .await?;
    let mut by_month: BTreeMap<i32, BTreeMap<Option<i32>, i64>> = BTreeMap::new();
    for row in rows {
        by_month.entry(row.month).or_default().insert(row.next, row.customers);
    }
    // The month that contains the moment of the report is not over.
    let n_over = months.len() as i32 - 1;
    let cohorts = by_month.into_iter().filter_map(|(month, by_next)| {
        let stretch = *months.get(usize::try_from(month - 1).ok()?)?;
        let again_by =
            |last: i32| by_next.iter().filter(move |(next, _)| next.is_some_and(|next| next <= last));
        let ordered_again = (month..)
            .take(months.len().min(MONTHS + 1))
            .map(|last| (last <= n_over).then(|| again_by(last).map(|(_, n)| n).sum()));
        Some(Cohort {
            month: Period::Month.label(stretch),
            customers: by_next.values().sum(),
            ordered_again: ordered_again.collect(),
        })
    });
    Ok(cohorts.collect())
}

async fn gaps(conn: &mut PgConnection, subject: &Subject<'_>) -> sqlx::Result<Gaps> {
    let span = subject.span;
    sqlx::query_as!(
        Gaps,
        r#"select percentile_cont(0.5) within group (order by extract(epoch from next_at - ordered_at)::float8 / 86400) as median,
                  count(*) as "n!"
           from (
               select ordered_at, lead(ordered_at) over (partition by customer_id order by ordered_at) as next_at
               from "order"
               where shop_id = $1 and status not in ('cancelled', 'refunded') and ordered_at <= $2
           ) as o
           where next_at is not null
             and ($3::timestamptz is null or ordered_at >= $3) and ($4::timestamptz is null or ordered_at < $4)"#,
        subject.shop.0,
        span.as_of,
        span.from,
        span.to,
    )
    .fetch_one(conn)
    .await
}

/// An answer that puts a customer into a class.
struct Class {
    by: &'static str,
    answer: &'static str,
    survey: String,
    question: String,
    value: String,
}

fn classes(subject: &Subject<'_>) -> Vec<Class> {
    let mut classes = Vec::new();
    for (survey, question) in
        answers::first_of(subject.surveys, |question| question.kind == QuestionKind::Nps)
    {
        for score in question.kind.scores().into_iter().flatten() {
            let answer = match score {
                9.. => "promoters",
                7..9 => "passives",
                _ => "detractors",
            };
            let (survey, question, value) = (survey.key.clone(), question.key.clone(), score.to_string());
            classes.push(Class { by: "nps", answer, survey, question, value });
        }
    }
    for survey in subject.surveys {
        let Some(rule) = &survey.recommendation else { continue };
        let question = survey.questionnaire.question(&rule.question);
        for value in question.and_then(|question| question.kind.options()).unwrap_or_default() {
            let is_yes = match &rule.yes {
                Yes::Choices(choices) => choices.contains(&value),
                Yes::Scores { low, high } => value.parse().is_ok_and(|score| (*low..=*high).contains(&score)),
            };
            let answer = if is_yes { "yes" } else { "no" };
            let (survey, question) = (survey.key.clone(), rule.question.clone());
            classes.push(Class { by: "recommendation", answer, survey, question, value });
        }
    }
    classes
}

async fn repeat_by_answer(conn: &mut PgConnection, subject: &Subject<'_>) -> sqlx::Result<Vec<Repeat>> {
    let classes = classes(subject);
    let column =
        |of: fn(&Class) -> &str| classes.iter().map(|class| of(class).to_owned()).collect::<Vec<_>>();
    let span = subject.span;
    let rows = sqlx::query_file!(
        "src/metrics/repeat_by_answer.sql",
        subject.shop.0,
        span.as_of,
        span.from,
        span.to,
        &HORIZONS,
        &column(|class| class.by),
        &column(|class| class.answer),
        &column(|class| &class.survey),
        &column(|class| &class.question),
        &column(|class| &class.value),
    )
    .fetch_all(conn)
    .await?;
    // What nobody said is there, too, if somebody could have.
    let mut said: Vec<(&'static str, &'static str)> = Vec::new();
    for Class { by, answer, .. } in classes {
        if !said.contains(&(by, answer)) {
            said.push((by, answer));
        }
    }
    said.push(("no_answer", "no_answer"));
    let repeat = said.into_iter().flat_map(|(by, answer)| {
        let rows = &rows;
        HORIZONS.into_iter().map(move |days| {
            let row = rows
                .iter()
                .find(|row| (row.kind.as_str(), row.class.as_str(), row.days) == (by, answer, days));
            let (hits, total) = row.map_or((0, 0), |row| (row.again, row.customers));
            Repeat { by, answer, days, measure: Measure::of(Counts::Share { hits, total, unknown: None }) }
        })
    });
    Ok(repeat.collect())
}
