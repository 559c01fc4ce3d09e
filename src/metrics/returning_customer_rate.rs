//! How many of the customers who ordered in the window had ordered before: one of their orders in it is the second or a later one of
//! all their orders. This is what Shopify calls by the name
//! (<https://projects.littlestreamsoftware.com/glossary/returning-customer-rate>).
//!
//! Orders from before the first file that was imported are not known, so that the rate is too low in the first months of a history.

use sqlx::PgConnection;

use super::{Counted, Scope};

pub(super) async fn count(conn: &mut PgConnection, scope: &Scope<'_>) -> sqlx::Result<Counted> {
    // With one order in the window and two up to its end, the one in the window is not the first.
    let row = sqlx::query!(
        r#"select count(*) as "customers!", count(*) filter (where orders >= 2) as "returning!"
           from (
               select count(*) as orders
               from "order"
               where shop_id = $1 and status not in ('cancelled', 'refunded') and ordered_at <= $2
                 and ($4::timestamptz is null or ordered_at < $4)
               group by customer_id
               having $3::timestamptz is null or max(ordered_at) >= $3
           ) as customer"#,
        scope.shop.0,
        scope.span.as_of,
        scope.span.from,
        scope.span.to,
    )
    .fetch_one(conn)
    .await?;
    Ok(Counted::share(row.returning, row.customers))
}
