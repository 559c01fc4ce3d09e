//! The way out: testimonials as CSV.
//!
//! In: approved testimonials, through the gate. Out: a file or a stream, and a row in `export_run` for each shop. They are written as
//! they are read; only the numbers of those that leave for the first time are kept, eight bytes each. One transaction: the publication
//! dates, the `export_run` rows. A file is complete and on the disk before the transaction is committed, and takes its name after
//! that; if we die in between, the dates stand and the next export writes the same ones. An older file under the name is there until
//! the new one takes its place.
//!
//! A new format is a file and a line in [`EXPORT_FORMATS`].

mod generic;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
use serde::Serialize;
use sqlx::{PgConnection, PgPool};

use super::TestimonialState;
use super::candidate::{self, Filter, Questionnaires};
use super::gate::{self, House, Publishable, Withheld};
use crate::config::{DisplayName, Shop};
use crate::csv_rows::{rows_into, write_row};
use crate::db::{self, Turn};
use crate::new_file::NewFile;
use crate::types::{ResponseId, ShopId};

/// How testimonials are written.
#[derive(Debug)]
pub struct ExportFormat {
    /// Its name on the command line and in jobs.toml.
    pub name: &'static str,
    /// Who reads it.
    pub description: &'static str,
    /// The header row.
    pub columns: &'static [&'static str],
    /// A row; as many fields as there are columns.
    record: fn(&Publishable) -> Vec<String>,
}

/// All formats.
pub const EXPORT_FORMATS: &[ExportFormat] = &[generic::FORMAT];

/// The format with this name.
pub fn format(name: &str) -> Option<&'static ExportFormat> {
    EXPORT_FORMATS.iter().find(|format| format.name == name)
}

/// What to export, and how.
#[derive(Debug, Clone, Copy)]
pub struct Export<'a> {
    /// Of these shops.
    pub shops: &'a [(ShopId, &'a Shop)],
    pub format: &'static ExportFormat,
    /// Under which names the authors appear.
    pub names: DisplayName,
    /// Only what was approved then or later.
    pub since: Option<DateTime<Utc>>,
}

/// Where it goes.
pub enum Destination<'a> {
    /// A file. It appears complete or not at all.
    File(PathBuf),
    /// Whoever reads from here. What was written counts as published once all is written.
    Stream(&'a mut (dyn Write + Send)),
}

/// What left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportReport {
    /// The file, or `-`.
    pub destination: String,
    pub format: &'static str,
    /// Testimonials that were written.
    pub n_rows: u64,
    /// Of these, how many had never left before.
    pub n_first_published: u64,
    /// Approved ones that may not leave now, by reason.
    pub withheld: BTreeMap<Withheld, u64>,
    /// Those that left before and may not be shown any more: whoever published them has to take them down.
    pub taken_back: Vec<ResponseId>,
}

/// Writes the publishable testimonials of some shops.
///
/// # Errors
/// When the database does not answer or the destination cannot be written. Then nothing counts as published, and a file that was
/// there before is there still.
pub async fn export_testimonials(
    pool: &PgPool,
    export: Export<'_>,
    destination: Destination<'_>,
    now: DateTime<Utc>,
) -> anyhow::Result<ExportReport> {
    match destination {
        Destination::File(path) => {
            let mut file = NewFile::create(&path)?;
            let tx = pool.begin().await?;
            let name = path.display().to_string();
            let (tx, report) = write(tx, export, &mut file, name, now, Order::InTurn).await?;
            file.sync()?;
            tx.commit().await?;
            file.publish()?;
            Ok(report)
        }
        Destination::Stream(out) => {
            let tx = pool.begin().await?;
            let (tx, report) = write(tx, export, out, "-".to_owned(), now, Order::InTurn).await?;
            tx.commit().await?;
            Ok(report)
        }
    }
}

/// Writes what [`export_testimonials`] writes; nothing of it counts until [`Written::commit`]. `destination` is who takes it.
///
/// # Errors
/// As [`export_testimonials`].
pub async fn write_export(
    pool: &PgPool,
    export: Export<'_>,
    out: &mut (dyn Write + Send),
    destination: String,
    now: DateTime<Utc>,
) -> anyhow::Result<Written> {
    let shops = export.shops.iter().map(|(id, _)| id.0).collect();
    let (tx, report) = write(pool.begin().await?, export, out, destination, now, Order::InTurn).await?;
    Ok(Written { tx, shops, report })
}

/// Writes what [`export_testimonials`] writes, and forgets it. It does not wait for other exports, and none waits for it: who has seen
/// enough and refuses more may leave a query behind that has not ended.
///
/// # Errors
/// As [`export_testimonials`].
pub async fn preview_export(
    pool: &PgPool,
    export: Export<'_>,
    out: &mut (dyn Write + Send),
    now: DateTime<Utc>,
) -> anyhow::Result<ExportReport> {
    let (tx, report) = write(pool.begin().await?, export, out, "-".to_owned(), now, Order::Any).await?;
    tx.rollback().await?;
    Ok(report)
}

/// Whether exports of a shop wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Two at once would give a testimonial two first dates.
    InTurn,
    /// It will not count.
    Any,
}

/// An export that somebody may still take or leave. Dropped, it has never been.
#[derive(Debug)]
pub struct Written {
    tx: Transaction,
    shops: Vec<i32>,
    report: ExportReport,
}

impl Written {
    /// What was written.
    pub fn report(&self) -> &ExportReport {
        &self.report
    }

    /// When one of the shops' testimonials was last decided on or published. (An order that is cancelled or a person who is erased
    /// changes an export, too, and leaves no moment here.)
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn modified_at(&mut self) -> anyhow::Result<Option<DateTime<Utc>>> {
        let modified_at = sqlx::query_scalar!(
            "select max(greatest(decided_at, published_at)) from testimonial where shop_id = any($1)",
            &self.shops,
        )
        .fetch_one(&mut *self.tx)
        .await?;
        Ok(modified_at)
    }

    /// Lets whoever takes it take their time: otherwise the database ends a transaction that does nothing for a minute.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn hold(&mut self) -> anyhow::Result<()> {
        sqlx::raw_sql("set local idle_in_transaction_session_timeout = 0").execute(&mut *self.tx).await?;
        Ok(())
    }

    /// It was taken: it counts as published.
    ///
    /// # Errors
    /// When the database does not answer. Then nothing counts as published.
    pub async fn commit(self) -> anyhow::Result<ExportReport> {
        self.tx.commit().await?;
        Ok(self.report)
    }

    /// Nobody took it.
    ///
    /// # Errors
    /// When the database does not answer; it does not count then either.
    pub async fn forget(self) -> anyhow::Result<()> {
        Ok(self.tx.rollback().await?)
    }
}

type Transaction = sqlx::Transaction<'static, sqlx::Postgres>;

/// The header and the rows of all shops, and what is to be committed with them.
async fn write(
    mut tx: Transaction,
    export: Export<'_>,
    out: &mut (dyn Write + Send),
    destination: String,
    now: DateTime<Utc>,
    order: Order,
) -> anyhow::Result<(Transaction, ExportReport)> {
    let mut report = ExportReport {
        destination,
        format: export.format.name,
        n_rows: 0,
        n_first_published: 0,
        withheld: BTreeMap::new(),
        taken_back: Vec::new(),
    };
    db::lift_statement_timeout(&mut tx).await?;
    // What stands in a field is what the author wrote, even where a spreadsheet would take it for a formula: this is for programs.
    let mut rows = rows_into(out);
    write_row(&mut rows, export.format.columns).context("writing the testimonials")?;
    for (id, shop) in export.shops {
        let before = report.n_rows;
        if order == Order::InTurn {
            db::take_turn(&mut tx, Turn::Exports, *id).await?;
        }
        let house = House { shop, names: export.names, now };
        let first_published = write_shop(&mut tx, *id, house, export, &mut rows, &mut report).await?;
        report.n_first_published += first_published.len() as u64;
        mark_published(&mut tx, *id, &first_published, now).await?;
        sqlx::query!(
            "insert into export_run (shop_id, kind, format, n_rows, destination, created_at)
             values ($1, 'testimonials', $2, $3, $4, $5)",
            id.0,
            export.format.name,
            i64::try_from(report.n_rows - before)?,
            report.destination,
            now,
        )
        .execute(&mut *tx)
        .await?;
    }
    rows.flush().context("writing the testimonials")?;
    drop(rows);
    Ok((tx, report))
}

/// The rows of a shop. Returns the numbers of those that never left before.
async fn write_shop(
    conn: &mut PgConnection,
    id: ShopId,
    house: House<'_>,
    export: Export<'_>,
    rows: &mut csv::Writer<&mut (dyn Write + Send)>,
    report: &mut ExportReport,
) -> anyhow::Result<Vec<i64>> {
    let questionnaires = Questionnaires::of(conn, id).await?;
    let filter = Filter {
        state: Some(TestimonialState::Approved),
        decided_since: export.since,
        or_published: true,
        ..Filter::default()
    };
    let mut first_published = Vec::new();
    let mut candidates = candidate::candidates(conn, id, filter);
    while let Some(candidate) = candidates.try_next().await? {
        match gate::admit(&candidate, questionnaires.seen_by(&candidate)?, house) {
            Ok(publishable) => {
                let row = (export.format.record)(&publishable);
                write_row(rows, row).context("writing the testimonials")?;
                report.n_rows += 1;
                if candidate.published_at.is_none() {
                    first_published.push(candidate.id.0);
                }
            }
            Err(reason) => {
                if candidate.state == TestimonialState::Approved {
                    *report.withheld.entry(reason).or_default() += 1;
                }
                if candidate.published_at.is_some() {
                    report.taken_back.push(candidate.id);
                }
            }
        }
    }
    Ok(first_published)
}

async fn mark_published(
    conn: &mut PgConnection,
    shop: ShopId,
    ids: &[i64],
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update testimonial set published_at = $3 where shop_id = $1 and response_id = any($2)",
        shop.0,
        ids,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::gate::Testimonial;
    use super::*;

    fn publishable(comment: &str, display_name: &str, items: Vec<String>) -> Publishable {
        Publishable::sample(Testimonial {
            id: ResponseId(7),
            shop: "maison".to_owned(),
            rating: Some(5),
            recommend: None,
            comment: comment.to_owned(),
            display_name: display_name.to_owned(),
            country: Some("FR".to_owned()),
            language: "fr".to_owned(),
            product_ids: items,
            experience_date: "2026-03-03".parse().unwrap(),
            submitted_at: "2026-03-10T10:00:00Z".parse().unwrap(),
            published_at: "2026-04-01T06:00:00Z".parse().unwrap(),
            consent_version: "2026-11".to_owned(),
            reply: None,
        })
    }

    fn written(format: &ExportFormat, publishable: &Publishable) -> Vec<u8> {
        let mut rows = rows_into(Vec::new());
        rows.write_record(format.columns).unwrap();
        rows.write_record((format.record)(publishable)).unwrap();
        rows.into_inner().unwrap()
    }

    #[test]
    fn the_list_of_formats_is_sound() {
        let names: BTreeSet<_> = EXPORT_FORMATS.iter().map(|format| format.name).collect();
        assert_eq!(names.len(), EXPORT_FORMATS.len(), "names are unique");
        for ExportFormat { name, description, columns, record } in EXPORT_FORMATS {
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{name}");
            assert!(!description.is_empty(), "{name} is described");
            assert_eq!(
                columns.iter().collect::<BTreeSet<_>>().len(),
                columns.len(),
                "{name}: columns are unique"
            );
            let sample = publishable("Très bien", "Claire D.", vec![]);
            assert_eq!(record(&sample).len(), columns.len(), "{name}: a field for each column");
        }
    }

    #[test]
    fn a_generic_file() {
        let items = vec!["p1".to_owned(), "p2".to_owned()];
        let file =
            written(&generic::FORMAT, &publishable("=1+1, \"très\" bien\r\nVraiment", "Claire D.", items));
        assert_eq!(
            String::from_utf8(file).unwrap(),
            "testimonial_id,shop,rating,recommend,comment,display_name,country,language,product_ids,experience_date,\
             submitted_at,published_at,verified,consent_version,reply\r\n\
             7,maison,5,,\"=1+1, \"\"très\"\" bien\r\nVraiment\",Claire D.,FR,fr,p1|p2,2026-03-03,\
             2026-03-10T10:00:00Z,2026-04-01T06:00:00Z,true,2026-11,\r\n"
        );
    }

    proptest! {
        #[test]
        fn what_was_written_reads_back_exactly(
            comment in r#"(?s)[=+\-@'", ;|\t\r\n\u{0}-\u{10ffff}]{1,60}"#,
            name in r#"(?s)[\n"a-z,\u{feff}é]{0,10}"#,
        ) {
            for format in EXPORT_FORMATS {
                let file = written(format, &publishable(&comment, &name, vec![]));
                let mut reader = csv::Reader::from_reader(file.as_slice());
                prop_assert_eq!(reader.headers().unwrap(), &csv::StringRecord::from(format.columns.to_vec()));
                let records: Vec<_> = reader.records().collect::<Result<_, _>>().unwrap();
                prop_assert_eq!(records.len(), 1);
                prop_assert!(records[0].iter().any(|field| field == comment));
                prop_assert!(records[0].iter().any(|field| field == name));
            }
        }
    }
}
