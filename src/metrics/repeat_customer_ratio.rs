//! How many of the customers who ordered in the window ordered at least twice in it.

use sqlx::PgConnection;

use super::{Counted, Scope};

pub(super) async fn count(conn: &mut PgConnection, scope: &Scope<'_>) -> sqlx::Result<Counted> {
    let row = sqlx::query!(
        r#"select count(*) as "customers!", count(*) filter (where orders >= 2) as "repeat!"
           from (
               select count(*) as orders
               from "order"
               where shop_id = $1 and status not in ('cancelled', 'refunded') and ordered_at <= $2
                 and ($3::timestamptz is null or ordered_at >= $3)
                 and ($4::timestamptz is null or ordered_at < $4)
               group by customer_id
           ) as customer"#,
        scope.shop.0,
        scope.span.as_of,
        scope.span.from,
        scope.span.to,
    )
    .fetch_one(conn)
    .await?;
    Ok(Counted::share(row.repeat, row.customers))
}
