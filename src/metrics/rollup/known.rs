//! Reading what was known at a night: days, months, customers and scores.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike as _, NaiveDate, Utc};
use chrono_tz::Tz;
use sqlx::PgConnection;

use super::{EVER, FrozenPeriod, everything};
use crate::metrics::facts::{ByBucket, Customers, Fact, Key, Tallied};
use crate::metrics::period::{Period, Stretch};
use crate::metrics::series::{Score, Subject};
use crate::metrics::window::{Span, Window, day_of};
use crate::types::ShopId;

/// The last moment at or before this one as of which a shop's figures are frozen.
pub(in crate::metrics) async fn last_freeze(
    conn: &mut PgConnection,
    shop: ShopId,
    as_of: DateTime<Utc>,
) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar!(
        "select max(frozen_at) from metric_freeze where shop_id = $1 and frozen_at <= $2",
        shop.0,
        as_of,
    )
    .fetch_one(conn)
    .await
}

/// The period that a window is, if it is one in which customers were counted.
pub(in crate::metrics) fn frozen_window(span: Span, zone: Tz) -> Option<(FrozenPeriod, Stretch)> {
    let (from, to) = match (span.from, span.to) {
        (None, None) => {
            let last_day = day_of(everything().as_of, Tz::UTC);
            return Some((FrozenPeriod::Ever, Stretch { first_day: EVER, last_day }));
        }
        (Some(from), Some(to)) => (from, to),
        _ => return None,
    };
    Period::CALENDAR.into_iter().find_map(|period| {
        let stretch = period.around(day_of(from, zone));
        (stretch.moments(zone) == (from, to)).then_some((FrozenPeriod::of(period)?, stretch))
    })
}

/// Whether a window begins and ends with a period, so that a series of them can be read from what was known.
pub(in crate::metrics) fn is_whole_periods(window: Window, zone: Tz, period: Period) -> bool {
    let is_bound = |moment: DateTime<Utc>| {
        let stretch = period.around(day_of(moment, zone));
        stretch.moments(zone).0 == moment
    };
    let bounds = [window.from, window.to];
    bounds.into_iter().flatten().all(|bound| is_bound(bound.at(zone)))
}

/// The first day that had anything that counts, as it was known at a freeze.
pub(in crate::metrics) async fn first_day(
    conn: &mut PgConnection,
    shop: ShopId,
    frozen_at: DateTime<Utc>,
) -> sqlx::Result<Option<NaiveDate>> {
    sqlx::query_scalar!(
        "select day from metric_day
         where shop_id = $1 and known_from <= $2 and known_to > $2 and fact <> 'answer_with_suspects'
         order by day limit 1",
        shop.0,
        frozen_at,
    )
    .fetch_optional(conn)
    .await
}

/// The scores of third parties that were known at a freeze, by source and in the order of time.
pub(in crate::metrics) async fn scores(
    conn: &mut PgConnection,
    subject: &Subject<'_>,
    frozen_at: DateTime<Utc>,
) -> sqlx::Result<Vec<(String, Score)>> {
    let rows = sqlx::query!(
        r#"select survey as source, day, value::float8 as "score!", nullif(n, -1) as ratings
           from metric_day
           where shop_id = $1 and known_from <= $2 and known_to > $2 and day <= $3 and fact = 'score'
           order by survey, day"#,
        subject.shop.0,
        frozen_at,
        day_of(frozen_at, subject.zone),
    )
    .fetch_all(conn)
    .await?;
    let score = |row: (NaiveDate, f64, Option<i64>)| Score { rated_on: row.0, score: row.1, ratings: row.2 };
    Ok(rows.into_iter().map(|row| (row.source, score((row.day, row.score, row.ratings)))).collect())
}

/// What was known at a freeze of the days of these stretches, which lie side by side.
pub(in crate::metrics) async fn known_facts(
    conn: &mut PgConnection,
    subject: &Subject<'_>,
    frozen_at: DateTime<Utc>,
    stretches: &[Stretch],
) -> sqlx::Result<ByBucket> {
    let (Some(first), Some(last)) = (stretches.first(), stretches.last()) else {
        return Ok(ByBucket::new());
    };
    let starts: Vec<_> = stretches.iter().map(|stretch| stretch.first_day).collect();
    let last_day = last.last_day.min(day_of(frozen_at, subject.zone));
    let rows = sqlx::query!(
        r#"select width_bucket(starts_on, $6::date[]) as "n!", fact as "fact!: Fact", survey as "survey!", question as "question!",
               value as "value!", sum(n)::bigint as "count!"
           from (
               select month as starts_on, fact, survey, question, value, n
               from metric_month
               where shop_id = $1 and known_from <= $2 and known_to > $2 and month >= $3 and month < $4
               union all
               select day, fact, survey, question, value, n
               from metric_day
               where shop_id = $1 and known_from <= $2 and known_to > $2 and day >= $4 and day <= $5 and fact <> 'score'
           ) as known
           group by 1, 2, 3, 4, 5"#,
        subject.shop.0,
        frozen_at,
        first.first_day,
        end_of_months(first.first_day, &starts, last_day),
        last_day,
        &starts,
    )
    .fetch_all(conn)
    .await?;
    let index = |n: i32| usize::try_from(n - 1).unwrap_or_default();
    let mut known = ByBucket::new();
    for row in rows {
        let key = Key { fact: row.fact, survey: row.survey, question: row.question, value: row.value };
        let tallied: &mut Tallied = known.entry((index(row.n), String::new())).or_default();
        tallied.facts.insert(key, row.count);
    }
    Ok(known)
}

/// Of stretches that lie side by side, the first of which begins on `first_day`, and that are read up to a last day: the first day that has
/// to be read as a day, because it lies in no whole month of one stretch.
fn end_of_months(first_day: NaiveDate, starts: &[NaiveDate], last_day: NaiveDate) -> NaiveDate {
    if starts.iter().any(|start| start.day() != 1) {
        return first_day;
    }
    let end = last_day.succ_opt().unwrap_or(last_day);
    Period::Month.around(end).first_day.max(first_day)
}

/// What was known at a freeze of all days before this one.
pub(in crate::metrics) async fn known_facts_before(
    conn: &mut PgConnection,
    subject: &Subject<'_>,
    frozen_at: DateTime<Utc>,
    day: NaiveDate,
) -> sqlx::Result<Tallied> {
    let Some(last_day) = day.pred_opt() else { return Ok(Tallied::default()) };
    let before = [Stretch { first_day: EVER, last_day }];
    Ok(known_facts(conn, subject, frozen_at, &before).await?.into_values().next().unwrap_or_default())
}

/// What was known at a freeze of these periods, which lie side by side: also of their customers.
pub(in crate::metrics) async fn known(
    conn: &mut PgConnection,
    subject: &Subject<'_>,
    frozen_at: DateTime<Utc>,
    period: FrozenPeriod,
    stretches: &[Stretch],
) -> sqlx::Result<ByBucket> {
    let mut known = known_facts(conn, subject, frozen_at, stretches).await?;
    for (n, customers) in known_customers(conn, subject, frozen_at, period, stretches).await? {
        known.entry((n, String::new())).or_default().customers = customers;
    }
    Ok(known)
}

/// What was known at a freeze of the customers of these periods, by the number of the period; nothing of those that had not begun.
pub(in crate::metrics) async fn known_customers(
    conn: &mut PgConnection,
    subject: &Subject<'_>,
    frozen_at: DateTime<Utc>,
    period: FrozenPeriod,
    stretches: &[Stretch],
) -> sqlx::Result<BTreeMap<usize, Customers>> {
    let day = day_of(frozen_at, subject.zone);
    let starts: Vec<_> =
        stretches.iter().map(|stretch| stretch.first_day).filter(|first| *first <= day).collect();
    let rows = sqlx::query!(
        r#"select starts_on, customers, "repeat", "returning"
           from metric_customers
           where shop_id = $1 and period = $3 and known_from <= $2 and known_to > $2 and starts_on = any($4)"#,
        subject.shop.0,
        frozen_at,
        period as FrozenPeriod,
        &starts,
    )
    .fetch_all(conn)
    .await?;
    let of_each = rows.into_iter().filter_map(|row| {
        let customers = Customers { customers: row.customers, repeat: row.repeat, returning: row.returning };
        Some((starts.binary_search(&row.starts_on).ok()?, customers))
    });
    Ok(of_each.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(starts: &[&str], last_day: &str, end: &str) {
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        let starts: Vec<_> = starts.iter().map(|start| day(start)).collect();
        assert_eq!(end_of_months(starts[0], &starts, day(last_day)), day(end));
    }

    #[test]
    fn whole_months_are_read_as_such() {
        check(&["2026-01-01", "2026-02-01"], "2026-02-28", "2026-03-01");
        check(&["2026-01-01", "2026-02-01"], "2026-02-27", "2026-02-01");
        check(&["2026-01-01", "2026-04-01"], "2026-05-15", "2026-05-01");
        check(&["2026-01-01"], "2026-01-15", "2026-01-01");
        check(&["0001-01-01"], "2026-12-31", "2027-01-01");
        // Of weeks, and of a stretch that begins within a month.
        check(&["2026-01-05", "2026-01-12"], "2026-02-28", "2026-01-05");
        check(&["2026-06-01", "2026-06-08"], "2026-06-14", "2026-06-01");
        // Nothing of it was over.
        check(&["2026-03-01"], "2026-02-10", "2026-03-01");
    }
}
