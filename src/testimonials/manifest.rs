//! What lies beside an exported file and says what it holds: which rule, how many, of when, and what all customers answered.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::export::{ExportReport, Refused};
use super::gate::Withheld;
use super::selection::Selected;
use crate::metrics::figure::Figure;
use crate::new_file::NewFile;
use crate::types::ResponseId;

/// A decision is stamped a little before it is committed. Whoever asks for changes asks from this much earlier than the last file; what comes
/// twice is the same.
const OVERLAP: TimeDelta = TimeDelta::minutes(5);

/// `<name>.manifest.json`
#[derive(Debug, Serialize)]
pub struct Manifest<'a> {
    /// The name of the file.
    file: String,
    format: &'static str,
    /// Of its bytes.
    sha256: &'a str,
    created_at: DateTime<Utc>,
    shops: Vec<&'a str>,
    /// Only what changed from then on; `null`: everything.
    since: Option<DateTime<Utc>>,
    /// What to ask for as `since` the next time.
    next_since: DateTime<Utc>,
    /// `null`: all that may be published.
    selection: Option<&'a Selected>,
    n_rows: u64,
    n_first_published: u64,
    /// When the words in it were submitted.
    submitted_from: Option<DateTime<Utc>>,
    submitted_to: Option<DateTime<Utc>>,
    /// How many agreed to which wording.
    consent_versions: &'a BTreeMap<String, u64>,
    /// What all customers of these shops answered up to now, not only those whose words are in the file.
    recommendation_rate: Option<&'a Figure>,
    /// Approved, but not to be shown now.
    withheld: &'a BTreeMap<Withheld, u64>,
    /// Fit to be shown, but not by this format.
    n_refused: u64,
    refused: &'a BTreeMap<Refused, Vec<ResponseId>>,
    /// To be taken down where they were shown.
    withdrawn: &'a [ResponseId],
}

/// The name of what lies beside a file: `reviews.csv` has `reviews.manifest.json`.
pub fn beside(path: &Path, what: &str) -> PathBuf {
    path.with_extension(what)
}

impl<'a> Manifest<'a> {
    /// Of a file that was just written.
    pub(super) fn of(
        path: &Path,
        sha256: &'a str,
        report: &'a ExportReport,
        shops: Vec<&'a str>,
        since: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            format: report.format,
            sha256,
            created_at: now,
            shops,
            since,
            next_since: now - OVERLAP,
            selection: report.selection.as_ref(),
            n_rows: report.n_rows,
            n_first_published: report.n_first_published,
            submitted_from: report.submitted.map(|(from, _)| from),
            submitted_to: report.submitted.map(|(_, to)| to),
            consent_versions: &report.consent_versions,
            recommendation_rate: report.recommendation.as_ref(),
            withheld: &report.withheld,
            n_refused: report.n_refused(),
            refused: &report.refused,
            withdrawn: &report.taken_back,
        }
    }

    /// As it is written.
    pub(super) fn text(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self).context("writing the manifest")? + "\n")
    }

    /// Writes it beside its file, without giving it its name yet.
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<NewFile> {
        let mut file = NewFile::create(&beside(path, "manifest.json"))?;
        file.write_all(self.text()?.as_bytes())?;
        file.sync()?;
        Ok(file)
    }
}
