//! Staged rows become customers and orders. What comes in lies in a temporary table of this transaction; what goes out is inserted
//! where it is missing and updated only where it differs, so that reading a file again writes nothing. No statement runs once per row.
//!
//! The macros check queries against the migrations, which know no temporary tables; these statements are checked by the tests.
//!
//! The inserts are plain ones that follow an anti-join: an `on conflict` costs four tenths of the speed. The imports' lock makes that
//! safe; should something else insert the same customer at the same moment, the constraint refuses, nothing of the file is taken, and
//! reading it again heals.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::format::OrderColumns;
use crate::types::{ImportRunId, ShopId};

/// The COPY that fills the staging table.
pub const STAGE: &str = "copy staged_order from stdin (format binary)";
/// How many columns the staging table has.
pub const STAGED_COLUMNS: i16 = 16;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merged {
    pub n_inserted: u64,
    pub n_updated: u64,
}

/// Makes the staging tables, which are gone with the transaction.
///
/// # Errors
/// When the database does not answer.
pub async fn create_staging(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql(include_str!("stage.sql")).execute(connection).await?;
    Ok(())
}

/// Merges the staged rows.
///
/// # Errors
/// When the database refuses.
pub async fn merge(
    connection: &mut PgConnection,
    shop: ShopId,
    run: ImportRunId,
    columns: &OrderColumns,
    now: DateTime<Utc>,
) -> sqlx::Result<Merged> {
    // Only what the statements join by; looking at the other columns takes three times as long.
    sqlx::raw_sql("analyze staged_order (line, external_id, email_key)").execute(&mut *connection).await?;
    let present = present(columns);
    let known = find_known(connection, shop, &present).await?;
    if known.is_all_there_is {
        return Ok(Merged { n_inserted: 0, n_updated: 0 });
    }
    sqlx::query(include_str!("drop_overtaken.sql")).persistent(false).execute(&mut *connection).await?;
    if known.n_erased > 0 {
        sqlx::query("delete from staged_order s using known_order k where k.line = s.line and k.is_erased")
            .persistent(false)
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query(include_str!("drop_erased.sql"))
        .persistent(false)
        .bind(shop)
        .execute(&mut *connection)
        .await?;
    merge_customers(connection, shop).await?;
    let n_inserted = sqlx::query(include_str!("insert_orders.sql"))
        .persistent(false)
        .bind(shop)
        .bind(run)
        .bind(now)
        .execute(&mut *connection)
        .await?
        .rows_affected();
    if known.n_differing == 0 {
        return Ok(Merged { n_inserted, n_updated: 0 });
    }
    let n_updated = sqlx::query(include_str!("update_orders.sql"))
        .persistent(false)
        .bind(shop)
        .bind(run)
        .bind(now)
        .bind(present)
        .execute(&mut *connection)
        .await?
        .rows_affected();
    Ok(Merged { n_inserted, n_updated })
}

/// How many of the staged rows have an order that is there already; some of them may be overtaken.
#[derive(Debug, Default, sqlx::FromRow)]
struct Known {
    /// Of them, those whose customer was erased.
    n_erased: i64,
    /// Of them, those that the file says something else about.
    n_differing: i64,
    /// Every staged order is there, and orders and customers are as the file has them or erased: nothing is left to do.
    is_all_there_is: bool,
}

async fn find_known(
    connection: &mut PgConnection,
    shop: ShopId,
    present: &[&'static str],
) -> sqlx::Result<Known> {
    let n_known = sqlx::query(include_str!("find_known.sql"))
        .persistent(false)
        .bind(shop)
        .bind(present)
        .execute(&mut *connection)
        .await?
        .rows_affected();
    if n_known == 0 {
        return Ok(Known::default());
    }
    let known: Known = sqlx::query_as(
        "select count(*) filter (where is_erased) as n_erased,
                count(*) filter (where order_differs and not is_erased) as n_differing,
                count(*) filter (where is_erased or not (order_differs or customer_differs))
                    = (select count(*) from staged_order) as is_all_there_is
         from known_order",
    )
    .persistent(false)
    .fetch_one(&mut *connection)
    .await?;
    if !known.is_all_there_is {
        sqlx::raw_sql("analyze known_order").execute(connection).await?;
    }
    Ok(known)
}

/// Enters the customers who are not there yet, and what the file says of the others.
async fn merge_customers(connection: &mut PgConnection, shop: ShopId) -> sqlx::Result<()> {
    sqlx::query(include_str!("insert_customers.sql"))
        .persistent(false)
        .bind(shop)
        .execute(&mut *connection)
        .await?;
    // Few files change what is known of a customer; those that do are read for it once more.
    let n_touched = sqlx::query(include_str!("find_touched.sql"))
        .persistent(false)
        .bind(shop)
        .execute(&mut *connection)
        .await?
        .rows_affected();
    if n_touched > 0 {
        sqlx::raw_sql("analyze touched_customer").execute(&mut *connection).await?;
        sqlx::query(include_str!("update_customers.sql"))
            .persistent(false)
            .bind(shop)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// The columns about which the file says something, under our names. A total brings its currency.
fn present(columns: &OrderColumns) -> Vec<&'static str> {
    [
        ("fulfilled_at", columns.fulfilled_at.is_some()),
        ("status", columns.status.is_some()),
        ("total", columns.total.is_some()),
        ("currency", columns.currency.is_some() || columns.total.is_some()),
        ("items", columns.items.is_some()),
        ("consent", columns.consent.is_some()),
        ("locale", columns.locale.is_some()),
        ("country", !columns.country.is_empty()),
        ("attributes", !columns.attributes.is_empty()),
    ]
    .into_iter()
    .filter_map(|(name, is_present)| is_present.then_some(name))
    .collect()
}
