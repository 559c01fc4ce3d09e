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
    sqlx::raw_sql("analyze staged_order").execute(&mut *connection).await?;
    sqlx::query(include_str!("drop_overtaken.sql")).persistent(false).execute(&mut *connection).await?;
    let n_known = sqlx::query(include_str!("find_known.sql"))
        .persistent(false)
        .bind(shop)
        .execute(&mut *connection)
        .await?
        .rows_affected();
    if n_known > 0 {
        sqlx::raw_sql("analyze known_order").execute(&mut *connection).await?;
        sqlx::query("delete from staged_order s using known_order k where k.line = s.line and k.erased")
            .persistent(false)
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query(include_str!("drop_erased.sql"))
        .persistent(false)
        .bind(shop)
        .execute(&mut *connection)
        .await?;
    sqlx::query(include_str!("insert_customers.sql"))
        .persistent(false)
        .bind(shop)
        .execute(&mut *connection)
        .await?;
    sqlx::query(include_str!("update_customers.sql"))
        .persistent(false)
        .bind(shop)
        .execute(&mut *connection)
        .await?;
    let n_inserted = sqlx::query(include_str!("insert_orders.sql"))
        .persistent(false)
        .bind(shop)
        .bind(run)
        .bind(now)
        .execute(&mut *connection)
        .await?
        .rows_affected();
    if n_known == 0 {
        return Ok(Merged { n_inserted, n_updated: 0 });
    }
    let n_updated = sqlx::query(include_str!("update_orders.sql"))
        .persistent(false)
        .bind(shop)
        .bind(run)
        .bind(now)
        .bind(present(columns))
        .execute(&mut *connection)
        .await?
        .rows_affected();
    Ok(Merged { n_inserted, n_updated })
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
