//! A file of orders becomes rows: settle how it is written and what its columns are, read it into a temporary table by binary COPY,
//! merge that into what is there, record the run. All in one transaction; see [`crate::import::run`] for what happens if we die half way.
//!
//! Where a platform writes a row for each item, the first row of an order is the order and the others bring their item; they count as
//! unchanged rows.
//!
//! A row whose order stands again further down in the same file counts as unchanged: the later row is the one that holds. A column
//! the file does not have is left as it is in the database; an empty cell of a column it has empties it there, except names, which
//! are only ever replaced.
//!
//! Orders of an erased customer are left alone, and so are orders from before the erasure that come in later: a file that is older than
//! the erasure does not bring the person back. An order from after it makes a new customer.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, Utc};
use csv::ByteRecord;

use super::format::{OrderFormat, advice, choose};
use super::parse::{NewOrder, OrderReader};
use super::store;
use crate::config::OrderMapping;
use crate::db::Table;
use crate::import::ImportError;
use crate::import::copy::CopyBuffer;
use crate::import::rejects::Rejects;
use crate::import::run::{self, Destination, ImportKind, ImportOptions, ImportReport, Run};
use crate::import::text::{Fault, Source, Written};
use crate::import::times::Times;
use crate::orders::OrderStatus;
use crate::types::{Clock, EmailAddress};

/// Imports a file of orders; `-` is standard input. `progress` is told how many bytes of how many are read.
///
/// # Errors
/// When the file cannot be read as orders, or the database fails; nothing is imported then. A bad row is no error but a reject.
pub async fn import_orders(
    to: Destination<'_>,
    formats: &BTreeMap<String, OrderMapping>,
    path: &Path,
    options: &ImportOptions,
    clock: Clock,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<ImportReport, ImportError> {
    let started_at = clock.now();
    let settled = {
        let (path, formats, options) = (path.to_owned(), formats.clone(), options.clone());
        let zone = to.config.timezone;
        run::off_the_runtime(move || settle(&path, &formats, &options, zone)).await?
    };
    let Settled { source, format, written, header, reader, digest } = settled;
    let mut report = ImportReport::new(ImportKind::Orders, path, &format.name, written, options.dry_run);
    if !options.again {
        report.already_imported = run::earlier(to.pool, to.shop, ImportKind::Orders, &digest).await?;
        if report.already_imported.is_some() {
            return Ok(report);
        }
    }

    let length = source.length;
    let columns = reader.columns().clone();
    let rejects = Rejects::new(header, written.delimiter)?;
    let records = source.records(written)?;
    let mut transaction = run::begin(to.pool).await?;
    store::create_staging(&mut transaction).await?;
    let row_per_item = reader.is_row_per_item();
    let mut before = None;
    let row = move |line, record: &ByteRecord, rows: &mut CopyBuffer, _: &Rejects| {
        if reader.is_row_per_item() {
            return stage_item_row(&reader, &mut before, line, record, rows);
        }
        let order = reader.read(record)?;
        stage_row(line, line, &order, reader.attributes(record), rows);
        Ok::<(), Fault>(())
    };
    let staged =
        run::stage(&mut transaction, store::STAGE, records, rejects, row, |done| progress(done, length))
            .await?;
    let (n_read, rejects) = staged;

    let run = Run::begin(&mut transaction, to.shop, digest, started_at).await?;
    let merged = store::merge(&mut transaction, to.shop, run.id, &columns, row_per_item, clock.now()).await?;
    report.n_read = n_read;
    report.n_inserted = merged.n_inserted;
    report.n_updated = merged.n_updated;
    run.finish(transaction, &mut report, rejects, options, &[Table::Customer, Table::Order], clock.now())
        .await?;
    progress(length, length);
    Ok(report)
}

struct Settled {
    source: Source,
    format: OrderFormat,
    written: Written,
    header: Vec<String>,
    reader: OrderReader,
    digest: [u8; 32],
}

fn settle(
    path: &Path,
    formats: &BTreeMap<String, OrderMapping>,
    options: &ImportOptions,
    shops_zone: chrono_tz::Tz,
) -> Result<Settled, ImportError> {
    let mut source = Source::open(path)?;
    let format = choose(&options.format, formats, &options.columns, |format| {
        let written = source.written(&options.laid_over(&format.text))?;
        source.header(written)
    })?;
    let text = options.laid_over(&format.text);
    let written = source.written(&text)?;
    let header = source.header(written)?;
    let columns = format.bind(&header).map_err(|problem| {
        let advice = advice(&header).map(|advice| format!(". It {advice}")).unwrap_or_default();
        ImportError::Unusable(format!("does not fit the format {}: {problem}{advice}", format.name))
    })?;
    let zone = text.timezone.unwrap_or(shops_zone);
    let times = Times::new(zone, text.date_format.as_deref())
        .map_err(|reason| ImportError::Unusable(format!("has a format whose date_format {reason}")))?;
    // The debug form of a format says all of it. Should it change, files are read again, which changes nothing.
    let digest = source.digest(&format!("orders {format:?} {text:?} {written:?} {zone}"));
    let reader = OrderReader::new(&format, columns, times);
    Ok(Settled { source, format, written, header, reader, digest })
}

/// The order of the row before.
struct Before {
    external_id: String,
    line: u64,
    /// What its further rows need; `None`: it was rejected.
    taken: Option<(EmailAddress, DateTime<Utc>)>,
}

/// A row of a file that has one for each item: the first of an order, or a further one, which only brings its item.
fn stage_item_row(
    reader: &OrderReader,
    before: &mut Option<Before>,
    line: u64,
    record: &ByteRecord,
    rows: &mut CopyBuffer,
) -> Result<(), Fault> {
    let id = reader.order_id(record);
    match before {
        Some(Before { external_id, line: first, taken }) if id == Some(external_id.as_str()) => {
            let Some((email, ordered_at)) = taken else {
                return Err(Fault::row(format!("belongs to the order of line {first}, which was rejected")));
            };
            let further = NewOrder {
                external_id,
                email: email.clone(),
                ordered_at: *ordered_at,
                fulfilled_at: None,
                status: OrderStatus::Open,
                first_name: None,
                last_name: None,
                locale: None,
                country: None,
                currency: None,
                total: None,
                items: reader.items(record)?,
                consent: None,
            };
            stage_row(line, *first, &further, std::iter::empty(), rows);
            return Ok(());
        }
        _ if id.is_some() && reader.is_item_only(record) => {
            return Err(Fault::row("is a further line of an order whose first line is not before it"));
        }
        _ => {}
    }
    let order = reader.read(record);
    let taken = order.as_ref().ok().map(|order| (order.email.clone(), order.ordered_at));
    *before = id.map(|id| Before { external_id: id.to_owned(), line, taken });
    stage_row(line, line, &order?, reader.attributes(record), rows);
    Ok(())
}

fn stage_row<'a>(
    line: u64,
    first_line: u64,
    order: &NewOrder<'_>,
    attributes: impl Iterator<Item = (&'a str, &'a str)>,
    rows: &mut CopyBuffer,
) {
    rows.row(store::STAGED_COLUMNS);
    rows.bigint(i64::try_from(line).unwrap_or(i64::MAX));
    rows.bigint(i64::try_from(first_line).unwrap_or(i64::MAX));
    rows.text(order.external_id);
    rows.text(order.email.expose());
    rows.text(&order.email.key());
    rows.text_or_null(order.first_name.as_deref());
    rows.text_or_null(order.last_name.as_deref());
    rows.time(order.ordered_at);
    match order.fulfilled_at {
        Some(time) => rows.time(time),
        None => rows.null(),
    }
    rows.text(order.status.as_str());
    match order.total {
        Some(total) => rows.bigint(total),
        None => rows.null(),
    }
    rows.text_or_null(order.currency.as_ref().map(|currency| currency.as_str()));
    rows.texts(order.items());
    rows.text_or_null(order.locale.as_ref().map(|locale| locale.as_str()));
    rows.text_or_null(order.country.as_ref().and_then(|country| std::str::from_utf8(country).ok()));
    rows.json_object(attributes);
    rows.boolean_or_null(order.consent);
}
