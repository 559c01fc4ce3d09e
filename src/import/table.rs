//! Files with a handful of columns, which need no formats of their own beside a list of what their columns are called: events, scores.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono_tz::Tz;
use csv::ByteRecord;

use super::ImportError;
use super::header::{Search, one_of, unknown_format};
use super::run::{self, ImportOptions};
use super::text::{Source, Written};
use super::times::Times;
use crate::config::TextFormat;
use crate::nearest::did_you_mean;

/// Which columns a kind of file has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Columns {
    /// What the file holds, for the digest.
    pub(crate) kind: &'static str,
    /// All there are.
    pub(crate) all: &'static [&'static str],
    /// Without which it is no such file.
    pub(crate) required: &'static [&'static str],
}

/// How a file may be written.
#[derive(Debug, Clone, PartialEq)]
pub struct TableFormat {
    /// As it is reported and recorded.
    pub name: String,
    pub text: TextFormat,
    /// Ours = theirs.
    pub columns: BTreeMap<String, String>,
    /// Ours = what holds for every row, where the file has no such column.
    pub constants: BTreeMap<String, String>,
    /// Whether a column that is none of these is an error, because it must be a typing mistake.
    pub closed: bool,
}

/// A file that was settled: how it is written, and where its columns are.
pub(crate) struct Settled {
    pub(crate) source: Source,
    pub(crate) format: String,
    pub(crate) written: Written,
    pub(crate) header: Vec<String>,
    pub(crate) fields: Fields,
    pub(crate) times: Times,
    pub(crate) digest: [u8; 32],
}

/// Where in a row the columns are, and what holds for every row.
pub(crate) struct Fields {
    /// In the order of [`Columns::all`], counted from 0.
    places: Vec<Option<usize>>,
    constants: Vec<Option<String>>,
}

impl Fields {
    /// Where the `n`th of our columns is.
    pub(crate) fn place(&self, n: usize) -> Option<usize> {
        self.places[n]
    }

    /// The text of the `n`th of our columns; empty where there is none.
    pub(crate) fn text<'r>(&'r self, n: usize, record: &'r ByteRecord) -> &'r str {
        match (self.places[n], &self.constants[n]) {
            (Some(place), _) => super::row::text(record, place).trim(),
            (None, Some(constant)) => constant,
            (None, None) => "",
        }
    }
}

impl TableFormat {
    fn generic(columns: Columns) -> Self {
        Self {
            name: "generic".to_owned(),
            text: TextFormat::default(),
            columns: columns.all.iter().map(|name| ((*name).to_owned(), (*name).to_owned())).collect(),
            constants: BTreeMap::new(),
            closed: true,
        }
    }

    fn bind(&self, columns: Columns, header: &[String]) -> Result<Fields, String> {
        let mut search = Search::new(header);
        let places = columns.all.iter().map(|ours| {
            let required = columns.required.contains(ours) && !self.constants.contains_key(*ours);
            let theirs = self.columns.get(*ours).map_or(*ours, String::as_str);
            let is_named = self.columns.contains_key(*ours) && !self.closed;
            search.find(ours, theirs, required || is_named)
        });
        let places = places.collect();
        search.finish(self.closed.then_some(columns.all))?;
        let constants = columns.all.iter().map(|ours| self.constants.get(*ours).cloned()).collect();
        Ok(Fields { places, constants })
    }
}

/// Looks at a file, and finds which of the formats it is in: `generic`, or one of those that jobs.toml describes.
///
/// # Errors
/// When it cannot be read, or fits none of them.
pub(crate) async fn settle(
    path: &Path,
    columns: Columns,
    configured: &BTreeMap<String, TableFormat>,
    options: &ImportOptions,
    shops_zone: Tz,
) -> Result<Settled, ImportError> {
    let (path, options) = (path.to_owned(), options.clone());
    let configured: Vec<TableFormat> = configured.values().cloned().collect();
    run::off_the_runtime(move || settle_here(path, columns, configured, &options, shops_zone)).await
}

fn settle_here(
    path: PathBuf,
    columns: Columns,
    configured: Vec<TableFormat>,
    options: &ImportOptions,
    shops_zone: Tz,
) -> Result<Settled, ImportError> {
    let mut source = Source::open(&path)?;
    let is_open = options.format == "auto" && options.columns.is_empty();
    // Columns given by hand describe the file: where no format is named, they complete the built-in one.
    let wanted = if options.format == "auto" { "generic" } else { &options.format };
    let formats = std::iter::once(TableFormat::generic(columns)).chain(configured);
    let (formats, others): (Vec<_>, Vec<_>) = formats.partition(|format| is_open || format.name == wanted);
    if formats.is_empty() {
        return Err(unknown_format(wanted, others.into_iter().map(|format| format.name)));
    }
    let (mut fitting, mut lacks, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    for mut format in formats {
        for (ours, theirs) in &options.columns {
            if !columns.all.contains(&ours.as_str()) {
                let hint = did_you_mean(ours, columns.all.iter().copied())
                    .unwrap_or_else(|| format!("the columns are {}", columns.all.join(", ")));
                return Err(ImportError::Unusable(format!("there is no column {ours:?} to fill; {hint}")));
            }
            format.columns.insert(ours.clone(), theirs.clone());
            format.closed = false;
        }
        if !options.columns.is_empty() {
            // Those that were not named may be there under our names.
            format.columns.retain(|ours, theirs| options.columns.contains_key(ours) || ours != theirs);
        }
        let text = options.laid_over(&format.text);
        let written = source.written(&text)?;
        let header = source.header(written)?;
        seen.clone_from(&header);
        match format.bind(columns, &header) {
            Ok(fields) => {
                let is_generic = format.name == "generic";
                fitting.push((format, text, written, header, fields));
                if is_generic {
                    break;
                }
            }
            Err(problem) if is_open => lacks.push((format.name, problem)),
            Err(problem) => {
                let name = format.name;
                return Err(ImportError::Unusable(format!("does not fit the format {name}: {problem}")));
            }
        }
    }
    let (format, text, written, header, fields) = one_of(fitting, |fit| &fit.0.name, lacks, &seen)?;
    let zone = text.timezone.unwrap_or(shops_zone);
    let times = Times::new(zone, text.date_format.as_deref())
        .map_err(|reason| ImportError::Unusable(format!("has a format whose date_format {reason}")))?;
    let digest = source.digest(&format!("{} {format:?} {text:?} {written:?} {zone}", columns.kind));
    Ok(Settled { source, format: format.name, written, header, fields, times, digest })
}
