//! Writes the testimonials that may be published into a folder: a dated file, and `latest.csv`.
//!
//! Comes in: approved testimonials. Goes out: `testimonials-<date>.csv`, and the same as `latest.csv`, or with the ending of another format;
//! beside each its manifest and notices. All appear complete or not at all: they are written beside and then given their name. If it dies
//! half way, a hidden file is left behind that the next run replaces. If it is told to stop while it writes the dated file, nothing has
//! left.
//!
//! Where it is told to (`upload`), they go to storage that speaks S3 as well, the dated ones first. A file that is there counts as
//! published, whether or not its upload succeeds or is stopped; the next run uploads again.
//!
//! What is older than the `keep` newest days is removed, with all that lies beside it; what another program has put there stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chrono::NaiveDate;
use chrono_tz::Tz;
use serde::Deserialize;

use super::upload::Upload;
use super::{Job, JobError, Run, RunOutcome, RunReport, counted, named_or_all};
use crate::config::Config;
use crate::nearest::unknown;
use crate::new_file::NewFile;
use crate::stop::Stopped;
use crate::testimonials::export::{self, Destination, EXPORT_FORMATS, Export, ExportFormat, ExportReport};
use crate::testimonials::selection::Selection;
use crate::types::Locale;

/// `[jobs.<name>.params]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportTestimonials {
    /// Whose testimonials; absent: those of all shops.
    shop: Option<String>,
    /// For whom.
    #[serde(default = "generic")]
    format: String,
    /// Only with this rating or a better one.
    min_rating: Option<i16>,
    /// Only of those who chose this answer.
    topic: Option<String>,
    /// What such a choice is called where it is shown; it must have a name.
    selected_label: Option<String>,
    /// The language of a file for people; absent: the shop's.
    locale: Option<Locale>,
    /// The folder.
    out: PathBuf,
    /// Of so many days files are kept.
    #[serde(default = "a_month")]
    keep: NonZeroUsize,
    /// Where else to.
    upload: Option<Upload>,
}

fn a_month() -> NonZeroUsize {
    const { NonZeroUsize::new(30).expect("it is not zero") }
}

fn generic() -> String {
    "generic".to_owned()
}

impl ExportTestimonials {
    fn selection(&self, config: &Config) -> Result<Option<Selection>, String> {
        let (label, topic) = (self.selected_label.as_deref(), self.topic.as_deref());
        Selection::parse(label, self.min_rating, topic, &config.surveys)
    }

    /// Whether such a file may and can be written.
    fn judge(&self, config: &Config, format: &ExportFormat) -> Result<(), String> {
        let selection = self.selection(config)?;
        let of_shop = |key: &&str| self.shop.as_ref().is_none_or(|shop| shop == key);
        let shops = config.shops.iter().map(|shop| shop.key.as_str()).filter(of_shop);
        export::check(format, shops, &config.testimonials, selection.as_ref(), false)
    }
}

impl Job for ExportTestimonials {
    const KIND: &'static str = "export_testimonials";
    const ABOUT: &'static str = "Writes the testimonials that may be published as a file";
    const SAMPLE: &'static str = r#"
        shop = "maison"
        format = "generic"
        min_rating = 4
        selected_label = "Avis sélectionnés"
        locale = "fr"
        out = "./data/exports/testimonials"
        keep = 30
    "#;

    fn check(&self, config: &Config) -> Vec<String> {
        let shops = || config.shops.iter().map(|shop| shop.key.as_str());
        self.shop
            .as_ref()
            .and_then(|shop| unknown("shop", shop, shops()))
            .into_iter()
            .chain(unknown(
                "testimonial format",
                &self.format,
                EXPORT_FORMATS.iter().map(|format| format.name),
            ))
            .chain(export::format(&self.format).and_then(|format| self.judge(config, format).err()))
            .chain(self.upload.iter().flat_map(Upload::check))
            .collect()
    }

    fn shops(&self, config: &Config) -> Vec<String> {
        named_or_all(self.shop.as_ref(), config)
    }

    fn files(&self) -> Vec<&Path> {
        vec![&self.out]
    }

    async fn run(&self, run: &Run<'_>) -> Result<RunReport, JobError> {
        let context = run.context;
        let shops = context.shops.named(self.shop.as_deref())?;
        let format = export::format(&self.format)
            .with_context(|| format!("there is no testimonial format {:?}", self.format))?;
        let now = context.clock.now();
        // Of one shop, its own day; of several, the one day they can agree on.
        let zone = if let [(_, shop)] = shops[..] { shop.timezone } else { Tz::UTC };
        let folder = context.config.resolve(&self.out);
        let (day, extension) = (now.with_timezone(&zone).format("%F"), format.extension);
        let dated = folder.join(format!("testimonials-{day}.{extension}"));
        let latest = folder.join(format!("latest.{extension}"));
        if run.dry_run {
            let text = format!("would write {} and latest.{extension}", dated.display());
            return Ok(RunReport::done(text, serde_json::Value::Null));
        }
        let config = &context.config;
        let selection = self.selection(config).map_err(anyhow::Error::msg)?;
        let export = Export {
            selection: selection.as_ref(),
            locale: self.locale.as_ref(),
            stop: Some(&run.stop),
            ..Export::new(&shops, format, &config.testimonials, &config.surveys)
        };
        let destination = Destination::File(dated.clone());
        let report = match export::export_testimonials(&context.pool, export, destination, now).await {
            Err(error) if error.is::<Stopped>() && run.by_hand => {
                let text =
                    "stopped when asked to; nothing was published, the files are what they were".to_owned();
                let report = RunReport::done(text, serde_json::Value::Null);
                return Ok(RunReport { outcome: RunOutcome::Partial, ..report });
            }
            ended => ended?,
        };
        replace(&latest, &dated)?;
        let (beside_dated, beside_latest) = (export::beside(&dated), export::beside(&latest));
        for (latest, dated) in beside_latest.iter().zip(&beside_dated) {
            replace(latest, dated)?;
        }
        let mut is_uploaded = true;
        if let Some(upload) = &self.upload {
            let files = |file, beside: &'_ [PathBuf]| -> Vec<PathBuf> {
                std::iter::once(file).chain(beside.iter().cloned()).collect()
            };
            let all = [files(dated, &beside_dated), files(latest, &beside_latest)].concat();
            let all: Vec<&Path> = all.iter().map(PathBuf::as_path).collect();
            is_uploaded = upload.send(&context.config, &all, &run.stop).await?;
            if !is_uploaded && !run.by_hand {
                return Err(Stopped.into());
            }
        }
        let n_removed = prune(&folder, self.keep).context("removing old files")?;
        let removed = if n_removed > 0 {
            format!(", {} removed", counted(n_removed, "old file"))
        } else {
            String::new()
        };
        let is_done = report.refused.is_empty() && is_uploaded;
        let outcome = if is_done { RunOutcome::Done } else { RunOutcome::Partial };
        let mut text = text(&report) + &removed;
        if !is_uploaded {
            text.push_str("; the upload was stopped when asked to; run the job again for the rest");
        }
        Ok(RunReport { outcome, ..RunReport::done(text, serde_json::to_value(&report)?) })
    }
}

/// Makes `latest` the same as `dated`, in one step for whoever reads it.
fn replace(latest: &Path, dated: &Path) -> anyhow::Result<()> {
    let mut dated = File::open(dated).with_context(|| format!("reading {}", dated.display()))?;
    let mut file = NewFile::create(latest)?;
    io::copy(&mut dated, &mut file).with_context(|| format!("writing {}", latest.display()))?;
    file.sync()?;
    Ok(file.publish()?)
}

/// Removes the files of all days but the newest `keep`; comes back with how many they were.
fn prune(folder: &Path, keep: NonZeroUsize) -> io::Result<u64> {
    let mut of_days: BTreeMap<NaiveDate, BTreeSet<PathBuf>> = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let day = entry.file_name().to_str().and_then(day_of);
        if let Some(day) = day.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_file())) {
            of_days.entry(day).or_default().insert(entry.path());
        }
    }
    let mut n_removed = 0;
    for path in of_days.into_values().rev().skip(keep.get()).flatten() {
        match fs::remove_file(path) {
            Ok(()) => n_removed += 1,
            // Another run was here first.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(n_removed)
}

/// The day of a file of ours: `testimonials-2026-03-02.csv`, and what lies beside it.
fn day_of(name: &str) -> Option<NaiveDate> {
    let (day, _) = name.strip_prefix("testimonials-")?.split_once('.')?;
    day.parse().ok().filter(|date: &NaiveDate| date.to_string() == day)
}

fn text(report: &ExportReport) -> String {
    let n_withheld: u64 = report.withheld.values().sum();
    let taken_back = match report.taken_back.len() {
        0 => String::new(),
        n => format!(", {n} published before to be taken down (their numbers are in the run's details)"),
    };
    let withheld =
        if n_withheld > 0 { format!(", {n_withheld} approved ones withheld") } else { String::new() };
    let refused = match report.n_refused() {
        0 => String::new(),
        n => format!(
            ", {n} refused that {} cannot carry (their numbers are in the run's details)",
            report.format
        ),
    };
    format!(
        "{} written to {}, {} for the first time{withheld}{refused}{taken_back}",
        counted(report.n_rows, "testimonial"),
        report.destination,
        report.n_first_published
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_files_of_ours_go() {
        let folder = tempfile::tempdir().unwrap();
        let ours = ["02", "03", "04"].map(|day| format!("testimonials-2026-03-{day}"));
        let endings = [".csv", ".manifest.json", ".notice.fr.md"];
        let of_others = [
            "latest.csv",
            "testimonials-2026-03-01",
            "testimonials-2026-3-1.csv",
            "testimonials-2026-03-01b.csv",
            "testimonials-2025.csv",
            "my-testimonials-2026-03-01.csv",
            ".testimonials-2026-03-01.csv.7.part",
        ];
        let names = ours.iter().flat_map(|stem| endings.map(|ending| format!("{stem}{ending}")));
        for name in names.chain(of_others.map(str::to_owned)) {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        fs::create_dir(folder.path().join("testimonials-2026-02-01.csv")).unwrap();
        let keep = |n| prune(folder.path(), NonZeroUsize::new(n).unwrap()).unwrap();
        assert_eq!(keep(3), 0);
        assert_eq!(keep(1), 6);
        assert_eq!(keep(1), 0);
        let mut left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut expected: Vec<_> = endings.iter().map(|ending| format!("{}{ending}", ours[2])).collect();
        expected.extend(of_others.map(str::to_owned));
        expected.push("testimonials-2026-02-01.csv".to_owned());
        expected.sort();
        assert_eq!(left, expected);
    }
}
