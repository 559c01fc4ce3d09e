//! The customers of the periods that some changed orders touch, without counting everybody: what is kept, and by how much the customers of
//! the changed orders now count otherwise. So a night costs what has changed, and not what there is.
//!
//! What the orders of these customers were before is what they are now, less what the notes of the triggers say has come, and with what
//! they say has gone. If that does not fit, nobody guesses: everything is counted.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgConnection;

use super::{FrozenPeriod, OfKind, Periods, buckets_of};
use crate::metrics::customers;
use crate::metrics::facts::Customers;
use crate::types::ShopId;

/// A customer's orders at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) customer: i64,
    pub(super) moment: DateTime<Utc>,
    /// So many more there are now than there were.
    pub(super) more: i64,
}

/// How many customers these periods have now; those that have none are missing. `None`: it takes a full count to know.
pub(super) async fn customers(
    conn: &mut PgConnection,
    shop: ShopId,
    changed: &[Changed],
    periods: &[OfKind],
) -> sqlx::Result<Option<Periods>> {
    if changed.is_empty() || periods.is_empty() {
        return Ok(None);
    }
    let mut whose: Vec<_> = changed.iter().map(|changed| changed.customer).collect();
    whose.sort_unstable();
    whose.dedup();
    let orders = sqlx::query!(
        r#"select customer_id, ordered_at, count(*) as "n!" from "order"
           where shop_id = $1 and customer_id = any($2) and status not in ('cancelled', 'refunded')
           group by customer_id, ordered_at"#,
        shop.0,
        &whose,
    )
    .fetch_all(&mut *conn)
    .await?;
    let now: Orders = orders.into_iter().map(|row| ((row.customer_id, row.ordered_at), row.n)).collect();
    let Some(before) = before(&now, changed) else { return Ok(None) };
    let kept = kept(conn, shop, periods).await?;
    let sets = buckets_of(periods);
    let sets: Vec<_> = sets.iter().map(Vec::as_slice).collect();
    let (now, before) = (customers::of(&sets, one_by_one(&now)), customers::of(&sets, one_by_one(&before)));
    let keys = periods.iter().flat_map(BTreeMap::keys);
    let counted = now.into_iter().flatten().zip(before.into_iter().flatten());
    let counted = keys.zip(counted).map(|(key, (now, before))| {
        let kept = kept.get(key).copied().unwrap_or_default();
        Some((*key, instead(kept, before, now)?))
    });
    let counted: Option<Periods> = counted.collect();
    Ok(counted.map(|counted| counted.into_iter().filter(|(_, of)| of.customers > 0).collect()))
}

/// How many orders customers have at each moment.
type Orders = BTreeMap<(i64, DateTime<Utc>), i64>;

/// `None`: more has come than there is.
fn before(now: &Orders, changed: &[Changed]) -> Option<Orders> {
    let mut before = now.clone();
    for Changed { customer, moment, more } in changed {
        *before.entry((*customer, *moment)).or_default() -= more;
    }
    before.values().all(|n| *n >= 0).then_some(before)
}

fn one_by_one(orders: &Orders) -> impl Iterator<Item = (i64, DateTime<Utc>)> {
    orders.iter().flat_map(|(order, n)| (0..*n).map(|_| *order))
}

/// What is kept, with some customers counting as they do now and not as before. `None`: they had not been in what is kept.
fn instead(kept: Customers, before: Customers, now: Customers) -> Option<Customers> {
    let of = |count: fn(Customers) -> i64| Some(count(kept) - count(before) + count(now)).filter(|n| *n >= 0);
    Some(Customers {
        customers: of(|of| of.customers)?,
        repeat: of(|of| of.repeat)?,
        returning: of(|of| of.returning)?,
    })
}

async fn kept(conn: &mut PgConnection, shop: ShopId, periods: &[OfKind]) -> sqlx::Result<Periods> {
    let (kinds, starts): (Vec<FrozenPeriod>, Vec<NaiveDate>) =
        periods.iter().flat_map(BTreeMap::keys).copied().unzip();
    let rows = sqlx::query!(
        r#"select c.period as "period: FrozenPeriod", c.starts_on, c.customers, c."repeat", c."returning"
           from unnest($2::metric_period[], $3::date[]) as p (period, starts_on)
           join metric_customers c on c.shop_id = $1 and c.period = p.period and c.starts_on = p.starts_on and c.known_to = 'infinity'"#,
        shop.0,
        &kinds as &[FrozenPeriod],
        &starts,
    )
    .fetch_all(conn)
    .await?;
    let kept = rows.into_iter().map(|row| {
        let of = Customers { customers: row.customers, repeat: row.repeat, returning: row.returning };
        ((row.period, row.starts_on), of)
    });
    Ok(kept.collect())
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn at(days: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(days)
    }

    #[test]
    fn what_was_there_is_what_is_there_less_what_has_come() {
        let now = Orders::from([((1, at(1)), 2), ((2, at(1)), 1)]);
        let changed = |customer, moment, more| Changed { customer, moment, more };
        let was =
            before(&now, &[changed(1, at(1), 1), changed(2, at(1), -1), changed(3, at(4), -1)]).unwrap();
        assert_eq!(
            one_by_one(&was).collect::<Vec<_>>(),
            [(1, at(1)), (2, at(1)), (2, at(1)), (3, at(4))],
            "one of two has come, one of two and the only one have gone"
        );
        assert_eq!(before(&now, &[changed(2, at(1), 2)]), None, "there is but one");
    }

    #[test]
    fn who_was_not_counted_is_not_taken_off() {
        let some = |customers, repeat, returning| Customers { customers, repeat, returning };
        assert_eq!(instead(some(10, 4, 5), some(2, 1, 1), some(3, 1, 2)), Some(some(11, 4, 6)));
        assert_eq!(instead(some(1, 0, 0), some(2, 0, 0), some(0, 0, 0)), None);
    }
}
