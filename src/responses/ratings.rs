//! What others say about the shop: the scores that rating platforms publish. A file comes in, one row a score of one source on one day.
//!
//! A score that is there is not stored again; one that was corrected replaces it. How files are read: as for orders, see
//! [`crate::import::run`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use csv::ByteRecord;

use crate::import::ImportError;
use crate::import::copy::CopyBuffer;
use crate::import::rejects::Rejects;
use crate::import::run::{self, Destination, ImportKind, ImportOptions, ImportReport, Run};
use crate::import::table::{self, Columns, Fields, TableFormat};
use crate::import::text::Fault;
use crate::import::times::Times;
use crate::types::Clock;

/// The columns of a file of scores.
pub const RATING_COLUMNS: &[&str] = &["source", "rated_on", "score", "scale", "ratings"];
/// Those that a format of jobs.toml has to name, or to give one value for all rows.
pub const REQUIRED_RATING_COLUMNS: &[&str] = &["source", "rated_on", "score", "scale"];
// Their places among the columns.
const SOURCE: usize = 0;
const RATED_ON: usize = 1;
const SCORE: usize = 2;
const SCALE: usize = 3;
const RATINGS: usize = 4;

const COLUMNS: Columns = Columns { kind: "ratings", all: RATING_COLUMNS, required: REQUIRED_RATING_COLUMNS };

const STAGE: &str =
    "copy staged_rating (line, source, rated_at, score, scale, n_ratings) from stdin (format binary)";

/// Imports a file of scores; `-` is standard input. `progress` is told how many bytes of how many are read.
///
/// # Errors
/// When the file cannot be read as scores, or the database fails; nothing is imported then. A bad row is no error but a reject.
pub async fn import_ratings(
    to: Destination<'_>,
    formats: &BTreeMap<String, TableFormat>,
    path: &Path,
    options: &ImportOptions,
    clock: Clock,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<ImportReport, ImportError> {
    let started_at = clock.now();
    let settled = table::settle(path, COLUMNS, formats, options, to.config.timezone).await?;
    let mut report =
        ImportReport::new(ImportKind::Ratings, path, &settled.format, settled.written, options.dry_run);
    if !options.again {
        report.already_imported =
            run::earlier(to.pool, to.shop, ImportKind::Ratings, &settled.digest).await?;
        if report.already_imported.is_some() {
            return Ok(report);
        }
    }

    let length = settled.source.length;
    let rejects = Rejects::new(settled.header, settled.written.delimiter)?;
    let records = settled.source.records(settled.written)?;
    let mut transaction = run::begin(to.pool).await?;
    sqlx::raw_sql(include_str!("ratings/stage.sql")).execute(&mut *transaction).await?;
    let reader =
        Reader { fields: settled.fields, times: settled.times, zone: to.config.timezone, now: clock.now() };
    let row = move |line, record: &ByteRecord, rows: &mut CopyBuffer, _: &Rejects| {
        let rating = reader.read(record)?;
        rows.row(6);
        rows.bigint(i64::try_from(line).unwrap_or(i64::MAX));
        rows.text(rating.source);
        rows.text(&rating.rated_on.to_string());
        rows.text(&rating.score.to_string());
        rows.text(&rating.scale.to_string());
        match rating.n_ratings {
            Some(n) => rows.bigint(n),
            None => rows.null(),
        }
        Ok::<(), Fault>(())
    };
    let staged =
        run::stage(&mut transaction, STAGE, records, rejects, row, |done| progress(done, length)).await?;
    let (n_read, rejects) = staged;

    let run = Run::begin(&mut transaction, to.shop, settled.digest, started_at).await?;
    report.n_read = n_read;
    let merged: (i64, i64) = sqlx::query_as(include_str!("ratings/merge.sql"))
        .persistent(false)
        .bind(to.shop)
        .bind(clock.now())
        .fetch_one(&mut *transaction)
        .await?;
    report.n_inserted = u64::try_from(merged.0).unwrap_or_default();
    report.n_updated = u64::try_from(merged.1).unwrap_or_default();
    run.finish(transaction, &mut report, rejects, options, &[], clock.now()).await?;
    progress(length, length);
    Ok(report)
}

/// A score as a file has it.
#[derive(Debug, PartialEq)]
struct Rating<'r> {
    source: &'r str,
    rated_on: NaiveDate,
    score: f64,
    /// The best there is.
    scale: f64,
    n_ratings: Option<i64>,
}

struct Reader {
    fields: Fields,
    times: Times,
    zone: Tz,
    now: DateTime<Utc>,
}

impl Reader {
    fn read<'r>(&'r self, record: &'r ByteRecord) -> Result<Rating<'r>, Fault> {
        let fault =
            |n: usize, reason: &'static str| Fault { column: self.fields.place(n), reason: reason.into() };
        let given = |n: usize| match self.fields.text(n, record) {
            "" => Err(fault(n, "is empty")),
            text if text.contains('\0') => Err(fault(n, "contains a NUL byte")),
            text => Ok(text),
        };
        let source = given(SOURCE)?;
        if source.chars().count() > 100 {
            return Err(fault(SOURCE, "is longer than 100 characters"));
        }
        let moment = self
            .times
            .parse(given(RATED_ON)?)
            .map_err(|reason: Cow<'static, str>| Fault { column: self.fields.place(RATED_ON), reason })?;
        if moment > self.now {
            return Err(fault(RATED_ON, "lies in the future"));
        }
        let rated_on = moment.with_timezone(&self.zone).date_naive();
        let score = number(given(SCORE)?).ok_or_else(|| fault(SCORE, "is no number such as 4.7 or 97,5"))?;
        let scale = number(given(SCALE)?)
            .filter(|scale| *scale > 0.0)
            .ok_or_else(|| fault(SCALE, "is no number such as 5 or 100, the best score there is"))?;
        if score < 0.0 || score > scale {
            return Err(fault(SCORE, "does not lie between 0 and the scale"));
        }
        let n_ratings = match self.fields.text(RATINGS, record) {
            "" => None,
            text => {
                let digits: String =
                    text.chars().filter(|c| !matches!(c, ' ' | '\u{a0}' | '\u{202f}')).collect();
                let n = digits.parse().ok().filter(|n: &i64| *n >= 0);
                Some(n.ok_or_else(|| fault(RATINGS, "is no count of ratings"))?)
            }
        };
        Ok(Rating { source, rated_on, score, scale, n_ratings })
    }
}

/// A number with a point or a comma, and perhaps a percent sign behind it.
fn number(text: &str) -> Option<f64> {
    let text = text.strip_suffix('%').unwrap_or(text).trim();
    let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b','));
    is_plain.then(|| text.replace(',', ".").parse().ok()).flatten().filter(|n: &f64| n.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (text, expected) in [("4.7", 4.7), ("97,5", 97.5), ("97,5 %", 97.5), ("95%", 95.0), ("5", 5.0)] {
            assert_eq!(number(text), Some(expected), "{text}");
        }
        for bad in ["", "%", "1,000.5", "-1", "1e3", "inf", "4/5", "vier"] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }
}
