//! How a file of events is written, and where its columns are.

use std::collections::BTreeMap;
use std::path::Path;

use chrono_tz::Tz;
use csv::ByteRecord;

use super::EVENT_COLUMNS;
use crate::import::ImportError;
use crate::import::header::{Search, unknown_format};
use crate::import::row;
use crate::import::run::{self, ImportOptions};
use crate::import::text::{Source, Written};
use crate::import::times::Times;
use crate::nearest::did_you_mean;

/// The only format; `--map` names other columns.
pub(super) const FORMAT: &str = "generic";
/// Without which it is no file of events.
const REQUIRED: [&str; 2] = ["event", "happened_at"];

/// A file that can be read.
pub(super) struct EventFile {
    pub source: Source,
    pub written: Written,
    pub header: Vec<String>,
    pub columns: Columns,
    pub times: Times,
    pub digest: [u8; 32],
}

/// Where in a row the columns are, in the order of [`EVENT_COLUMNS`], counted from 0.
#[derive(Debug)]
pub(super) struct Columns(Vec<Option<usize>>);

impl Columns {
    /// Where the `n`th of [`EVENT_COLUMNS`] is.
    pub(super) fn place(&self, n: usize) -> Option<usize> {
        self.0[n]
    }

    /// The text of the `n`th of [`EVENT_COLUMNS`]; empty where there is none.
    pub(super) fn text<'r>(&self, n: usize, record: &'r ByteRecord) -> &'r str {
        self.0[n].map_or("", |place| row::text(record, place).trim())
    }
}

impl EventFile {
    /// Looks at a file.
    ///
    /// # Errors
    /// When it cannot be read, or is no file of events.
    pub(super) async fn open(path: &Path, options: &ImportOptions, zone: Tz) -> Result<Self, ImportError> {
        let (path, options) = (path.to_owned(), options.clone());
        run::off_the_runtime(move || Self::look_at(&path, &options, zone)).await
    }

    fn look_at(path: &Path, options: &ImportOptions, shops_zone: Tz) -> Result<Self, ImportError> {
        if !["auto", FORMAT].contains(&options.format.as_str()) {
            return Err(unknown_format(&options.format, std::iter::once(FORMAT.to_owned())));
        }
        if let Some(ours) = options.columns.keys().find(|ours| !EVENT_COLUMNS.contains(&ours.as_str())) {
            let hint = did_you_mean(ours, EVENT_COLUMNS.iter().copied())
                .unwrap_or_else(|| format!("the columns are {}", EVENT_COLUMNS.join(", ")));
            return Err(ImportError::Unusable(format!("there is no column {ours:?} to fill; {hint}")));
        }
        let mut source = Source::open(path, options.whence)?;
        let text = options.laid_over(&Default::default());
        let written = source.written(&text)?;
        let header = source.header(written)?;
        let columns = bind(&header, &options.columns)
            .map_err(|problem| ImportError::Unusable(format!("is no file of events: {problem}")))?;
        let zone = text.timezone.unwrap_or(shops_zone);
        let times = Times::new(zone, text.date_format.as_deref()).map_err(|reason| {
            ImportError::Unusable(format!("cannot be read with a date format that {reason}"))
        })?;
        let digest = source.digest(&format!("events {columns:?} {text:?} {written:?} {zone}"));
        Ok(Self { source, written, header, columns, times, digest })
    }
}

/// Finds the columns; a file whose columns nobody named has ours and no others, because another one must be a typing mistake.
fn bind(header: &[String], named: &BTreeMap<String, String>) -> Result<Columns, String> {
    let mut search = Search::new(header);
    let place = |ours: &&str| match named.get(*ours) {
        Some(theirs) => search.find(ours, theirs, true),
        None => search.find(ours, ours, REQUIRED.contains(ours)),
    };
    let places = EVENT_COLUMNS.iter().map(place).collect();
    search.finish(named.is_empty().then_some(EVENT_COLUMNS))?;
    Ok(Columns(places))
}
