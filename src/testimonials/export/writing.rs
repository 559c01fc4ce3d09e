//! A file on its way out, in whatever format: each testimonial is written when it comes, and little is kept.

use std::io::{self, Write};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use super::format::{
    About, Dialect, Document, ExportFormat, Gone, Increments, Item, Layout, Refused, Table, Written,
};
use crate::csv_rows::{rows_separated_by, write_row};

/// Enough for a write to be worth its while.
const BUFFER: usize = 64 * 1024;

const WRITING: &str = "writing the testimonials";

/// A file that has begun.
pub(super) struct Writing<'a> {
    about: About<'a>,
    says_gone: bool,
    written: Written,
    target: Target<'a>,
}

enum Target<'a> {
    Table {
        rows: Box<csv::Writer<&'a mut (dyn Write + Send)>>,
        record: csv::StringRecord,
        table: Table,
    },
    Document {
        out: &'a mut (dyn Write + Send),
        pending: String,
        /// Said at the end.
        gone: Vec<Gone<'a>>,
        document: Document,
    },
}

impl<'a> Writing<'a> {
    /// Writes what comes before the first testimonial.
    pub(super) fn begin(
        format: &'static ExportFormat,
        about: About<'a>,
        out: &'a mut (dyn Write + Send),
    ) -> anyhow::Result<Self> {
        let target = match format.layout {
            Layout::Table(table) => {
                let Dialect { delimiter, byte_order_mark } = (table.dialect)(&about);
                if byte_order_mark {
                    out.write_all("\u{feff}".as_bytes()).context(WRITING)?;
                }
                let mut rows = Box::new(rows_separated_by(delimiter, out));
                write_row(&mut rows, (table.columns)(&about).into_iter().map(|(name, _)| name))
                    .context(WRITING)?;
                Target::Table { rows, record: csv::StringRecord::new(), table }
            }
            Layout::Document(document) => {
                let mut pending = String::with_capacity(2 * BUFFER);
                (document.open)(&about, &mut pending);
                Target::Document { out, pending, gone: Vec::new(), document }
            }
        };
        let says_gone = about.since.is_some() && format.increments == Increments::Tombstones;
        Ok(Self { about, says_gone, written: Written::default(), target })
    }

    /// Writes one, or says why the format cannot carry it; then nothing of it is in the file.
    pub(super) fn item(&mut self, item: Item<'_>) -> anyhow::Result<Result<(), Refused>> {
        let fits = match &mut self.target {
            Target::Table { rows, record, table } => {
                record.clear();
                let fits = (table.row)(&self.about, item, record);
                if fits.is_ok() {
                    write_row(rows.as_mut(), &*record).context(WRITING)?;
                }
                fits
            }
            Target::Document { out, pending, document, .. } => {
                let before = pending.len();
                pending.push_str(document.between);
                let fits = (document.piece)(&self.about, item, pending);
                if fits.is_err() {
                    pending.truncate(before);
                }
                if pending.len() >= BUFFER {
                    out.write_all(pending.as_bytes()).context(WRITING)?;
                    pending.clear();
                }
                fits
            }
        };
        if fits.is_ok() {
            self.written.n += 1;
            if let Some(rating) = item.testimonial().rating {
                self.written.n_ratings += 1;
                self.written.sum_ratings += u64::from(rating.unsigned_abs());
            }
        }
        Ok(fits)
    }

    /// Says that one was withdrawn, where the format can and only changes were asked for.
    pub(super) fn gone(&mut self, gone: Gone<'a>) -> anyhow::Result<()> {
        if !self.says_gone {
            return Ok(());
        }
        match &mut self.target {
            Target::Table { rows, record, table: Table { gone: Some(row), .. } } => {
                record.clear();
                row(&self.about, &gone, record);
                write_row(rows.as_mut(), &*record).context(WRITING)
            }
            Target::Table { .. } => Ok(()),
            Target::Document { gone: all, .. } => {
                all.push(gone);
                Ok(())
            }
        }
    }

    /// Writes what comes after the last.
    pub(super) fn end(self) -> anyhow::Result<()> {
        match self.target {
            Target::Table { mut rows, .. } => rows.flush().context(WRITING),
            Target::Document { out, mut pending, gone, document } => {
                (document.close)(&self.about, &self.written, &gone, &mut pending);
                out.write_all(pending.as_bytes()).and_then(|()| out.flush()).context(WRITING)
            }
        }
    }
}

/// Passes bytes on and remembers their digest.
pub(super) struct Hashed<W> {
    out: W,
    digest: Sha256,
}

impl<W: Write> Hashed<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, digest: Sha256::new() }
    }

    /// The SHA-256 of all that was written, in hexadecimal.
    pub(super) fn finish(self) -> String {
        self.digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.digest.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
