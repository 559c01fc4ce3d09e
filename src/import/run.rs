//! What the imports of orders and of answers share: what is asked for, what is reported, and the row in `import_run` that says a file
//! was read to its end.
//!
//! A file is one transaction: its rows, its rejects and its `import_run` row are committed together or not at all. If we die half way
//! nothing of the file is there, the file counts as not read, and reading it again does the whole of it. A digest over its bytes and
//! over the definition of its format recognises a file that was read before; a corrected format is another definition.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use csv::ByteRecord;
use serde::Serialize;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use tokio_util::sync::CancellationToken;

use super::ImportError;
use super::copy::{CopyBuffer, Sink, Stop, copy_in};
use super::rejects::{Reject, Rejects};
use super::text::{Fault, Records, Whence, Written};
use crate::config::{Shop, TextFormat};
use crate::db::{self, Table, Turn, again};
use crate::types::{ImportRunId, ShopId};

/// What a file holds. The database's `import_kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type)]
#[sqlx(type_name = "import_kind", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ImportKind {
    Orders,
    Events,
    Responses,
    Ratings,
}

impl ImportKind {
    /// As the database writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Events => "events",
            Self::Responses => "responses",
            Self::Ratings => "ratings",
        }
    }
}

/// Where a file goes.
#[derive(Debug, Clone, Copy)]
pub struct Destination<'a> {
    pub pool: &'a PgPool,
    pub shop: ShopId,
    pub config: &'a Shop,
}

/// How a file is to be imported.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// How we come to the file.
    pub whence: Whence,
    /// A format's name, or `auto`.
    pub format: String,
    /// How the file is written, where that was said by hand; it goes before what the format says.
    pub text: TextFormat,
    /// Our column = theirs, where that was said by hand.
    pub columns: BTreeMap<String, String>,
    /// Do everything, commit nothing.
    pub dry_run: bool,
    /// Read the file even if it was read before.
    pub again: bool,
    /// Where the rejected rows are written as CSV, if there are any.
    pub rejects: Option<PathBuf>,
    /// When it is cancelled, the file is read no further, and nothing of it is taken.
    pub stop: CancellationToken,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            whence: Whence::Named,
            format: "auto".to_owned(),
            text: TextFormat::default(),
            columns: BTreeMap::new(),
            dry_run: false,
            again: false,
            rejects: None,
            stop: CancellationToken::new(),
        }
    }
}

impl ImportOptions {
    /// What a format says about how its files are written, and what was said by hand laid over it.
    pub fn laid_over(&self, format: &TextFormat) -> TextFormat {
        TextFormat {
            delimiter: self.text.delimiter.or(format.delimiter),
            encoding: self.text.encoding.or(format.encoding),
            timezone: self.text.timezone.or(format.timezone),
            date_format: self.text.date_format.clone().or_else(|| format.date_format.clone()),
        }
    }
}

/// What became of a file. Always: read = inserted + updated + unchanged + kept aside + rejected; a row is what has a line of its own in
/// the file, whether it is an order or a further line of one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImportReport {
    pub kind: ImportKind,
    /// Its name without the folder; `-` is standard input.
    pub file_name: String,
    pub format: String,
    pub encoding: &'static str,
    /// Whether the encoding is only a guess: it should be looked at.
    pub encoding_guessed: bool,
    pub delimiter: char,
    pub n_read: u64,
    pub n_inserted: u64,
    pub n_updated: u64,
    /// They were there like this, or a later row of the file has the same key, or they are further lines of the order above them.
    pub n_unchanged: u64,
    /// Of the unchanged: those that are further lines of the order above them, and only add to its items.
    pub n_lines: u64,
    /// Answers without an order so far. They wait for it, and then become responses.
    pub n_aside: u64,
    pub n_rejected: u64,
    /// The first rejects.
    pub rejects: Vec<Reject>,
    /// The same file was read before; nothing was read now.
    pub already_imported: Option<EarlierRun>,
    /// What became of the answers that were waiting for their order before; `None`: none was waiting.
    pub waited: Option<Waited>,
    /// Why it is not known what became of them, while all the rest of this is so. The next import looks again.
    pub not_tried: Option<String>,
    pub dry_run: bool,
}

/// What became of answers that earlier files have brought and that were kept aside. They count in none of the report's other figures:
/// they were read before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Waited {
    /// Their order has come, and they are responses now.
    pub n_matched: u64,
    /// They have waited too long and are rejects now, of the file that brought them.
    pub n_expired: u64,
    /// They go on waiting.
    pub n_waiting: u64,
    /// The first of the expired, each with the line of its own file.
    pub rejects: Vec<Reject>,
}

impl ImportReport {
    pub(crate) fn new(kind: ImportKind, path: &Path, format: &str, written: Written, dry_run: bool) -> Self {
        Self {
            kind,
            file_name: path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
            format: format.to_owned(),
            encoding: written.encoding.name(),
            encoding_guessed: written.guessed,
            delimiter: char::from(written.delimiter),
            n_read: 0,
            n_inserted: 0,
            n_updated: 0,
            n_unchanged: 0,
            n_lines: 0,
            n_aside: 0,
            n_rejected: 0,
            rejects: Vec::new(),
            already_imported: None,
            waited: None,
            not_tried: None,
            dry_run,
        }
    }
}

/// When the same file was read before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EarlierRun {
    pub import_run_id: ImportRunId,
    pub file_name: String,
    pub n_read: i64,
    pub finished_at: DateTime<Utc>,
}

/// The latest run over a file with this digest.
///
/// # Errors
/// When the database does not answer.
pub async fn earlier(
    pool: &PgPool,
    shop: ShopId,
    kind: ImportKind,
    digest: &[u8],
) -> sqlx::Result<Option<EarlierRun>> {
    sqlx::query_as!(
        EarlierRun,
        r#"select import_run_id as "import_run_id: ImportRunId", file_name, n_read, finished_at
           from import_run where shop_id = $1 and kind = $2 and digest = $3
           order by import_run_id desc limit 1"#,
        shop.0,
        kind as ImportKind,
        digest,
    )
    .fetch_optional(pool)
    .await
}

/// Imports a file by hand: anew, when the database has ended its transaction for the sake of another one. A job is begun anew as a whole,
/// and does without this; so does what can be read only once.
///
/// # Errors
/// As `import`.
pub async fn once_more_if_taken_back<T, Importing>(
    path: &Path,
    mut import: impl FnMut() -> Importing,
) -> Result<T, ImportError>
where
    Importing: Future<Output = Result<T, ImportError>>,
{
    let mut n_before = 0;
    loop {
        match import().await {
            Err(ImportError::Database(error))
                if path.is_file() && again::is_worth_another(&error, &mut n_before).await => {}
            ended => return ended,
        }
    }
}

/// The transaction of an import, which may take as long as the file is long, and may wait for another import of the same shop. How long
/// altogether is the business of the job that runs it, or of the person who looks on.
pub(crate) async fn begin(pool: &PgPool) -> sqlx::Result<Transaction<'static, Postgres>> {
    let mut transaction = pool.begin().await?;
    db::lift_statement_timeout(&mut transaction).await?;
    sqlx::raw_sql("set local lock_timeout = '1h'").execute(&mut *transaction).await?;
    Ok(transaction)
}

/// A file whose rows are staged and now go into the shop's tables.
pub(crate) struct Run {
    shop: ShopId,
    /// The number it will be recorded under; the rows it writes carry it.
    pub(crate) id: ImportRunId,
    digest: [u8; 32],
    started_at: DateTime<Utc>,
}

impl Run {
    /// Takes the shop's turn, to the end of the transaction: between looking whether a customer or an order is there and inserting
    /// it, no other import may do the same.
    pub(crate) async fn begin(
        connection: &mut PgConnection,
        shop: ShopId,
        digest: [u8; 32],
        started_at: DateTime<Utc>,
    ) -> sqlx::Result<Self> {
        db::take_turn(&mut *connection, Turn::Imports, shop).await?;
        let id = sqlx::query_scalar!(
            r#"select nextval(pg_get_serial_sequence('import_run', 'import_run_id')) as "id!: ImportRunId""#
        )
        .fetch_one(connection)
        .await?;
        Ok(Self { shop, id, digest, started_at })
    }

    /// Writes the rejects to their file and records the run, with what the report says so far was inserted and updated; a dry run leaves
    /// no record. Nothing is committed.
    pub(crate) async fn write_up(
        &self,
        connection: &mut PgConnection,
        report: &mut ImportReport,
        mut rejects: Rejects,
        options: &ImportOptions,
        finished_at: DateTime<Utc>,
    ) -> Result<(), ImportError> {
        report.n_rejected = rejects.n;
        report.rejects.clone_from(&rejects.first);
        report.n_unchanged =
            report.n_read - report.n_rejected - report.n_aside - report.n_inserted - report.n_updated;
        if let Some(path) = &options.rejects {
            rejects.write(path)?;
        }
        if options.dry_run {
            return Ok(());
        }
        self.record(connection, report, rejects, finished_at).await
    }

    /// Writes the rejects to their file, records the run and commits; a dry run takes everything back instead. `grown` are the tables
    /// the new rows went into.
    pub(crate) async fn finish(
        self,
        mut transaction: Transaction<'_, Postgres>,
        report: &mut ImportReport,
        rejects: Rejects,
        options: &ImportOptions,
        grown: &[Table],
        finished_at: DateTime<Utc>,
    ) -> Result<(), ImportError> {
        self.write_up(&mut transaction, report, rejects, options, finished_at).await?;
        if options.dry_run {
            transaction.rollback().await?;
            return Ok(());
        }
        for table in grown {
            db::analyze_grown(&mut transaction, *table, self.shop, report.n_inserted).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Writes the run and its rejects, with the figures of the report.
    async fn record(
        &self,
        connection: &mut PgConnection,
        report: &ImportReport,
        mut rejects: Rejects,
        finished_at: DateTime<Utc>,
    ) -> Result<(), ImportError> {
        let (shop, id) = (self.shop, self.id);
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        sqlx::query!(
            "insert into import_run (
                 shop_id, import_run_id, kind, file_name, digest, format, encoding, delimiter,
                 n_read, n_inserted, n_updated, n_unchanged, n_aside, n_rejected, started_at, finished_at)
             overriding system value
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
            shop.0,
            id.0,
            report.kind as ImportKind,
            report.file_name,
            &self.digest,
            report.format,
            report.encoding,
            report.delimiter.to_string(),
            count(report.n_read),
            count(report.n_inserted),
            count(report.n_updated),
            count(report.n_unchanged),
            count(report.n_aside),
            count(report.n_rejected),
            self.started_at,
            finished_at,
        )
        .execute(&mut *connection)
        .await?;
        if rejects.n == 0 {
            return Ok(());
        }
        const REJECTS: &str = r#"copy import_reject (shop_id, import_run_id, line, "column", reason, "row")
            from stdin (format binary)"#;
        let make = move |sink: &mut Sink| -> Result<(), Stop> {
            let mut reader = rejects.read()?;
            let mut reject = csv::StringRecord::new();
            while reader.read_record(&mut reject).map_err(std::io::Error::from)? {
                let rows = sink.rows();
                rows.row(6);
                rows.int(shop.0);
                rows.bigint(id.0);
                rows.bigint(reject[0].parse().unwrap_or_default());
                rows.text_or_null((!reject[1].is_empty()).then_some(&reject[1]));
                rows.text(&reject[2]);
                rows.text(&reject[3]);
                sink.row_done(0)?;
            }
            Ok(())
        };
        copy_in(&mut *connection, REJECTS, make, |_| {}).await?;
        // Nobody is brought back who was erased, and be it as a row that could not be taken.
        sqlx::query!(
            r#"update import_reject set "row" = '(erased)'
               where shop_id = $1 and import_run_id = $2 and names_erased($1, "row")"#,
            shop.0,
            id.0,
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// Makes rows of a COPY of the rows of a file.
pub(crate) trait Stage: Send + 'static {
    /// Takes a row. Puts into the COPY what is complete with it, or names its fault.
    fn row(
        &mut self,
        line: u64,
        record: &ByteRecord,
        rows: &mut CopyBuffer,
        rejects: &Rejects,
    ) -> Result<(), Fault>;

    /// Is told of a row that could not be read as a row at all.
    fn skipped(&mut self, _line: u64) {}

    /// Puts into the COPY what was not complete before the last row.
    fn end(&mut self, _rows: &mut CopyBuffer) {}
}

/// Where each row is complete in itself.
impl<F> Stage for F
where
    F: FnMut(u64, &ByteRecord, &mut CopyBuffer, &Rejects) -> Result<(), Fault> + Send + 'static,
{
    fn row(
        &mut self,
        line: u64,
        record: &ByteRecord,
        rows: &mut CopyBuffer,
        rejects: &Rejects,
    ) -> Result<(), Fault> {
        self(line, record, rows, rejects)
    }
}

/// After so many rows it is looked whether to stop.
const ROWS_BETWEEN_LOOKS: u64 = 1000;

/// Reads all rows of a file. Returns how many were read, those that have a fault, and what made rows of the others.
///
/// # Errors
/// When the file cannot be read to its end, the database fails, or `stop` is cancelled meanwhile.
pub(crate) async fn stage<S: Stage>(
    connection: &mut PgConnection,
    statement: &'static str,
    mut records: Records,
    mut rejects: Rejects,
    mut stage: S,
    stop: &CancellationToken,
    progress: impl Fn(u64),
) -> Result<(u64, Rejects, S), ImportError> {
    let stop = stop.clone();
    let make = move |sink: &mut Sink| -> Result<(u64, Rejects, S), Stop> {
        let mut n_read = 0;
        while let Some((line, judged)) = records.next()? {
            if n_read % ROWS_BETWEEN_LOOKS == 0 && stop.is_cancelled() {
                return Err(ImportError::Stopped.into());
            }
            n_read += 1;
            let staged = match judged {
                Ok(()) => stage.row(line, records.record(), sink.rows(), &rejects),
                Err(fault) => {
                    stage.skipped(line);
                    Err(fault)
                }
            };
            match staged {
                Ok(()) => sink.row_done(records.bytes_read())?,
                Err(fault) => rejects.add(line, &fault, records.record())?,
            }
        }
        stage.end(sink.rows());
        Ok((n_read, rejects, stage))
    };
    copy_in(connection, statement, make, progress).await
}

/// Runs what reads files on a thread where that holds nobody up.
pub(crate) async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(made) => made,
        Err(died) => std::panic::resume_unwind(died.into_panic()),
    }
}
