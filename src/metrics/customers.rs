//! How many customers ordered in each of many periods: one pass over all orders of a shop, for periods of several kinds at once.
//!
//! The database sends the moments, customer by customer and in the order of time; whose first or second order of a period a row is, is
//! decided here. Asked in SQL, each kind of period would sort all orders once more. Nothing is kept but the counts.

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
use sqlx::PgConnection;

use super::facts::{Bucket, Customers};
use crate::types::ShopId;

/// Counts the customers in the buckets of each set. The buckets of one set are in order and do not overlap.
pub(super) async fn of_each(
    conn: &mut PgConnection,
    shop: ShopId,
    sets: &[&[Bucket]],
    as_of: DateTime<Utc>,
) -> sqlx::Result<Vec<Vec<Customers>>> {
    let mut pass = Pass::over(sets);
    // An index has just these columns in this order.
    let mut orders = sqlx::query!(
        r#"select customer_id, ordered_at from "order"
           where shop_id = $1 and status not in ('cancelled', 'refunded') and ordered_at <= $2
           order by customer_id, ordered_at"#,
        shop.0,
        as_of,
    )
    .fetch(conn);
    while let Some(order) = orders.try_next().await? {
        pass.add(order.customer_id, order.ordered_at);
    }
    Ok(pass.counts())
}

/// The same of these orders: customers with moments, customer by customer and in the order of time.
pub(super) fn of(
    sets: &[&[Bucket]],
    orders: impl Iterator<Item = (i64, DateTime<Utc>)>,
) -> Vec<Vec<Customers>> {
    let mut pass = Pass::over(sets);
    orders.for_each(|(customer, moment)| pass.add(customer, moment));
    pass.counts()
}

/// All sets, in the middle of the orders.
#[derive(Debug)]
struct Pass<'a> {
    sets: Vec<Counting<'a>>,
    customer: Option<i64>,
}

impl<'a> Pass<'a> {
    fn over(sets: &[&'a [Bucket]]) -> Self {
        Self { sets: sets.iter().map(|buckets| Counting::of(buckets)).collect(), customer: None }
    }

    fn add(&mut self, customer: i64, moment: DateTime<Utc>) {
        let is_later = self.customer.replace(customer) == Some(customer);
        self.sets.iter_mut().for_each(|set| set.add(moment, is_later));
    }

    fn counts(self) -> Vec<Vec<Customers>> {
        self.sets.into_iter().map(|set| set.counts).collect()
    }
}

/// One set of buckets, in the middle of a customer's orders.
#[derive(Debug)]
struct Counting<'a> {
    buckets: &'a [Bucket],
    counts: Vec<Customers>,
    /// Of the customer's latest order that lay in a bucket.
    current: Option<Current>,
}

#[derive(Debug, Clone, Copy)]
struct Current {
    bucket: usize,
    is_repeat: bool,
    is_returning: bool,
}

impl<'a> Counting<'a> {
    fn of(buckets: &'a [Bucket]) -> Self {
        Self { buckets, counts: vec![Customers::default(); buckets.len()], current: None }
    }

    /// The next order; `is_later`: the customer had ordered before.
    fn add(&mut self, moment: DateTime<Utc>, is_later: bool) {
        if !is_later {
            self.current = None;
        }
        let Some(bucket) = self.buckets.partition_point(|bucket| bucket.starts_at <= moment).checked_sub(1)
        else {
            return;
        };
        if moment >= self.buckets[bucket].ends_at {
            return;
        }
        let counts = &mut self.counts[bucket];
        let was = self.current.filter(|current| current.bucket == bucket);
        counts.customers += i64::from(was.is_none());
        counts.repeat += i64::from(was.is_some_and(|was| !was.is_repeat));
        counts.returning += i64::from(is_later && !was.is_some_and(|was| was.is_returning));
        self.current = Some(Current { bucket, is_repeat: was.is_some(), is_returning: is_later });
    }
}
