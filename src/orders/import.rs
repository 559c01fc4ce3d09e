//! A file of orders becomes rows: settle how it is written and what its columns are, read it into a temporary table by binary COPY,
//! merge that into what is there, record the run. All in one transaction; see [`crate::import::run`] for what happens if we die half way.
//!
//! A row whose order stands again further down in the same file counts as unchanged: the later row is the one that holds. A column
//! the file does not have is left as it is in the database; an empty cell of a column it has empties it there, except names, which
//! are only ever replaced.
//!
//! Where an order has several rows, one for each of its items, its first row is the order and the others add their item to it and count as
//! unchanged. The rows of an order whose first row is rejected are rejected with it, so that the file of rejects has the whole order; so is
//! a row whose order does not stand above it, because somebody cut the file there.
//!
//! Orders of an erased customer are left alone, and so are orders from before the erasure that come in later: a file that is older than
//! the erasure does not bring the person back. An order from after it makes a new customer.

use std::collections::BTreeMap;
use std::path::Path;

use csv::ByteRecord;

use super::format::{OrderFormat, Rows, advice, choose};
use super::parse::{NewOrder, OrderReader};
use super::store;
use crate::config::OrderMapping;
use crate::db::Table;
use crate::import::ImportError;
use crate::import::copy::CopyBuffer;
use crate::import::rejects::Rejects;
use crate::import::row::{refuse_nul, text};
use crate::import::run::{self, Destination, ImportKind, ImportOptions, ImportReport, Run, Stage};
use crate::import::text::{Fault, Source, Written};
use crate::import::times::Times;
use crate::types::Clock;

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
    let progress_of = |done| progress(done, length);
    let (n_read, rejects) = match format.rows {
        Rows::One => {
            let row = move |line: u64, record: &ByteRecord, rows: &mut CopyBuffer, _: &Rejects| {
                let order = reader.read(record)?;
                stage_order(line, &order, reader.attributes(record), rows);
                rows.texts(order.items());
                Ok::<(), Fault>(())
            };
            let staged =
                run::stage(&mut transaction, store::STAGE, records, rejects, row, &options.stop, progress_of);
            let (n_read, rejects, _) = staged.await?;
            (n_read, rejects)
        }
        rows @ (Rows::OnFirst | Rows::OnEach) => {
            let orders = Orders { reader, rows, above: Above::Nothing, unreadable: None, n_lines: 0 };
            let staged = run::stage(
                &mut transaction,
                store::STAGE,
                records,
                rejects,
                orders,
                &options.stop,
                progress_of,
            );
            let (n_read, rejects, orders) = staged.await?;
            report.n_lines = orders.n_lines;
            (n_read, rejects)
        }
    };

    let run = Run::begin(&mut transaction, to.shop, digest, started_at).await?;
    let merged = store::merge(&mut transaction, to.shop, run.id, &columns, clock.now()).await?;
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
    let mut source = Source::open(path, options.whence)?;
    let format = choose(&options.format, formats, &options.columns, |format| {
        let written = source.written(&options.laid_over(&format.text))?;
        source.header(written)
    })?;
    let text = options.laid_over(&format.text);
    let written = source.written(&text)?;
    let header = source.header(written)?;
    let columns = format.bind(&header).map_err(|problem| {
        ImportError::Unusable(match advice(&header) {
            Some(advice) => advice.to_owned(),
            None => format!("does not fit the format {}: {problem}", format.name),
        })
    })?;
    let zone = text.timezone.unwrap_or(shops_zone);
    let times = Times::new(zone, text.date_format.as_deref())
        .and_then(|times| times.with_usual(&format.dates))
        .map_err(|reason| ImportError::Unusable(format!("has a format whose date_format {reason}")))?;
    // The debug form of a format says all of it. Should it change, files are read again, which changes nothing.
    let digest = source.digest(&format!("orders {format:?} {text:?} {written:?} {zone}"));
    let reader = OrderReader::new(&format, columns, times);
    Ok(Settled { source, format, written, header, reader, digest })
}

/// Orders that have several rows.
struct Orders {
    reader: OrderReader,
    /// Where their fields stand.
    rows: Rows,
    above: Above,
    /// The line of a row behind it that could not be read, and may have been another order's.
    unreadable: Option<u64>,
    n_lines: u64,
}

/// The order whose rows are being read.
enum Above {
    Nothing,
    Order {
        id: String,
        /// Its row in the COPY, but for the items.
        staged: CopyBuffer,
        items: Vec<String>,
    },
    Rejected {
        id: String,
        line: u64,
    },
}

impl Stage for Orders {
    fn row(
        &mut self,
        line: u64,
        record: &ByteRecord,
        rows: &mut CopyBuffer,
        _: &Rejects,
    ) -> Result<(), Fault> {
        let columns = self.reader.columns();
        let its_id = text(record, columns.order_id).trim();
        let has_no_date = text(record, columns.ordered_at).trim().is_empty();
        if let Some(line) = self.unreadable
            && has_no_date
            && its_id.is_empty()
        {
            return Err(Fault::row(format!(
                "belongs to the order above it, which may be that of line {line}, which was rejected"
            )));
        }
        match &mut self.above {
            Above::Order { id, items, .. }
                if *id == its_id && (has_no_date || self.rows == Rows::OnEach)
                    || its_id.is_empty() && has_no_date =>
            {
                refuse_nul(record, columns.item.iter().copied())?;
                if let Some(item) = self.reader.item(record)
                    && !items.iter().any(|known| known == item)
                {
                    items.push(item.to_owned());
                }
                self.n_lines += 1;
                return Ok(());
            }
            Above::Rejected { id, line } if has_no_date && (*id == its_id || its_id.is_empty()) => {
                return Err(Fault::row(format!("belongs to the order on line {line}, which was rejected")));
            }
            _ if has_no_date => {
                return Err(Fault::at(
                    columns.ordered_at,
                    "is empty, and the first row of this order does not stand above",
                ));
            }
            _ => {}
        }
        self.end(rows);
        self.unreadable = None;
        match self.reader.read(record) {
            Ok(order) => {
                let mut staged = CopyBuffer::piece();
                stage_order(line, &order, self.reader.attributes(record), &mut staged);
                let items = self.reader.item(record).map(str::to_owned).into_iter().collect();
                self.above = Above::Order { id: order.external_id.to_owned(), staged, items };
                Ok(())
            }
            Err(fault) => {
                self.above = Above::Rejected { id: its_id.to_owned(), line };
                Err(fault)
            }
        }
    }

    fn skipped(&mut self, line: u64) {
        self.unreadable = Some(line);
    }

    fn end(&mut self, rows: &mut CopyBuffer) {
        if let Above::Order { staged, items, .. } = std::mem::replace(&mut self.above, Above::Nothing) {
            rows.append(&staged);
            rows.texts(items.iter().map(String::as_str));
        }
    }
}

/// All of an order but its items, which come last.
fn stage_order<'a>(
    line: u64,
    order: &NewOrder<'_>,
    attributes: impl Iterator<Item = (&'a str, &'a str)>,
    rows: &mut CopyBuffer,
) {
    rows.row(store::STAGED_COLUMNS);
    rows.bigint(i64::try_from(line).unwrap_or(i64::MAX));
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
    rows.bigint_or_null(order.total);
    rows.text_or_null(order.currency.as_ref().map(|currency| currency.as_str()));
    rows.text_or_null(order.locale.as_ref().map(|locale| locale.as_str()));
    rows.text_or_null(order.country.as_ref().and_then(|country| std::str::from_utf8(country).ok()));
    rows.json_object(attributes);
    rows.boolean_or_null(order.consent);
}
