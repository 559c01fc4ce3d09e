//! What happened about an order after it was placed, from the files of other systems: a customer-care case that was closed, a repair that
//! was sent back. A survey can wait for such an event instead of for the delivery.
//!
//! A row belongs to the order it names or, where it names none, to the customer's latest order at the time. An event that is there is not
//! stored again: it is known by its id or, where the file has none, by its time. How files are read: as for orders, see
//! [`crate::import::run`].

mod file;

use std::borrow::Cow;
use std::path::Path;

use csv::ByteRecord;
use futures_util::TryStreamExt as _;
use sqlx::{PgConnection, Row as _};

use self::file::{Columns, EventFile};
use crate::import::ImportError;
use crate::import::copy::CopyBuffer;
use crate::import::rejects::Rejects;
use crate::import::row;
use crate::import::run::{self, Destination, ImportKind, ImportOptions, ImportReport, Run};
use crate::import::text::Fault;
use crate::import::times::Times;
use crate::types::{Clock, EmailAddress, ShopId};

/// The columns of a file of events.
pub const EVENT_COLUMNS: &[&str] = &["event_id", "order_id", "email", "event", "happened_at"];
// Their places in it.
const EVENT_ID: usize = 0;
const ORDER_ID: usize = 1;
const EMAIL: usize = 2;
const EVENT: usize = 3;
const HAPPENED_AT: usize = 4;

const STAGE: &str = r#"copy staged_event (line, "row", order_external_id, email_key, event, external_id, happened_at)
    from stdin (format binary)"#;

/// Whether this can be the name of what happened: lower-case letters, digits and `_`, beginning with a letter.
pub fn is_event(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.len() <= 64
        && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Imports a file of events; `-` is standard input. `progress` is told how many bytes of how many are read.
///
/// # Errors
/// When the file cannot be read as events, or the database fails; nothing is imported then. A bad row is no error but a reject.
pub async fn import_events(
    to: Destination<'_>,
    path: &Path,
    options: &ImportOptions,
    clock: Clock,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<ImportReport, ImportError> {
    let started_at = clock.now();
    let EventFile { source, written, header, columns, times, digest } =
        EventFile::open(path, options, to.config.timezone).await?;
    let mut report = ImportReport::new(ImportKind::Events, path, file::FORMAT, written, options.dry_run);
    if !options.again {
        report.already_imported = run::earlier(to.pool, to.shop, ImportKind::Events, &digest).await?;
        if report.already_imported.is_some() {
            return Ok(report);
        }
    }

    let length = source.length;
    let places = [columns.place(ORDER_ID), columns.place(EMAIL)];
    let rejects = Rejects::new(header, written.delimiter)?;
    let records = source.records(written)?;
    let mut transaction = run::begin(to.pool).await?;
    sqlx::raw_sql(include_str!("events/stage.sql")).execute(&mut *transaction).await?;
    let row = move |line, record: &ByteRecord, rows: &mut CopyBuffer, rejects: &Rejects| {
        stage_row(line, record, &columns, &times, rejects, rows)
    };
    let staged = run::stage(&mut transaction, STAGE, records, rejects, row, &options.stop, |done| {
        progress(done, length)
    })
    .await?;
    let (n_read, mut rejects, _) = staged;

    let run = Run::begin(&mut transaction, to.shop, digest, started_at).await?;
    match_orders(&mut transaction, to.shop, places, &mut rejects).await?;
    report.n_read = n_read;
    report.n_inserted = sqlx::query(include_str!("events/insert.sql"))
        .persistent(false)
        .bind(to.shop)
        .bind(run.id)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
    run.finish(transaction, &mut report, rejects, options, &[], clock.now()).await?;
    progress(length, length);
    Ok(report)
}

fn stage_row(
    line: u64,
    record: &ByteRecord,
    columns: &Columns,
    times: &Times,
    rejects: &Rejects,
    rows: &mut CopyBuffer,
) -> Result<(), Fault> {
    let fault = |n: usize, reason: Cow<'static, str>| Fault { column: columns.place(n), reason };
    let given = |n: usize| Some(columns.text(n, record)).filter(|text| !text.is_empty());
    let order = given(ORDER_ID)
        .map(|id| row::external_id(id).map_err(|reason| fault(ORDER_ID, reason)))
        .transpose()?;
    let email = match order {
        Some(_) => None,
        None => {
            given(EMAIL).map(|text| row::email(text).map_err(|reason| fault(EMAIL, reason))).transpose()?
        }
    };
    if order.is_none() && email.is_none() {
        return Err(fault(ORDER_ID, "is empty, and so is the address".into()));
    }
    let event = given(EVENT).ok_or_else(|| fault(EVENT, "is empty".into()))?;
    if !is_event(event) {
        return Err(fault(EVENT, "is no name such as case_closed: lower-case letters, digits and _".into()));
    }
    let happened_at = given(HAPPENED_AT).ok_or_else(|| fault(HAPPENED_AT, "is empty".into()))?;
    let happened_at = times.parse(happened_at).map_err(|reason| fault(HAPPENED_AT, reason))?;
    let id = given(EVENT_ID)
        .map(|id| row::external_id(id).map_err(|reason| fault(EVENT_ID, reason)))
        .transpose()?;
    rows.row(7);
    rows.bigint(i64::try_from(line).unwrap_or(i64::MAX));
    rows.text(&rejects.as_it_stands(record));
    rows.text_or_null(order);
    rows.text_or_null(email.as_ref().map(EmailAddress::key).as_deref());
    rows.text(event);
    rows.text(&id.map_or_else(|| happened_at.to_rfc3339(), str::to_owned));
    rows.time(happened_at);
    Ok(())
}

/// Finds the order of each staged row; a row without one becomes a reject.
async fn match_orders(
    connection: &mut PgConnection,
    shop: ShopId,
    [order_id, email]: [Option<usize>; 2],
    rejects: &mut Rejects,
) -> Result<(), ImportError> {
    sqlx::raw_sql("analyze staged_event").execute(&mut *connection).await?;
    sqlx::query(include_str!("events/match_orders.sql"))
        .persistent(false)
        .bind(shop)
        .execute(&mut *connection)
        .await?;
    let mut unmatched = sqlx::query(
        r#"select line, "row", order_external_id is not null from staged_event where order_id is null order by line"#,
    )
    .persistent(false)
    .fetch(&mut *connection);
    while let Some(row) = unmatched.try_next().await? {
        let (line, text): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
        let fault = if row.try_get(2)? {
            Fault { column: order_id, reason: "is no order of this shop".into() }
        } else {
            Fault { column: email, reason: "is of no customer who had ordered by then".into() }
        };
        rejects.add_row(u64::try_from(line).unwrap_or_default(), &fault, &text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_events() {
        for good in ["case_closed", "repair2"] {
            assert!(is_event(good), "{good}");
        }
        for bad in ["", "Case", "2nd", "_x", "case closed", "é"] {
            assert!(!is_event(bad), "{bad}");
        }
    }
}
