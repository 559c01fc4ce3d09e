//! Writes the testimonials that may be published into a folder: a dated file, and `latest.csv`.
//!
//! Comes in: approved testimonials. Goes out: `testimonials-<date>.csv`, and the same as `latest.csv`, or with the ending of another format;
//! beside each its manifest and notices. All appear complete or not at all: they are written beside and then given their name. If it dies
//! half way, a hidden file is left behind that the next run replaces.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chrono_tz::Tz;
use serde::Deserialize;

use super::{Job, JobError, Run, RunOutcome, RunReport, counted};
use crate::config::Config;
use crate::nearest::unknown;
use crate::new_file::NewFile;
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
            .collect()
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
            ..Export::new(&shops, format, &config.testimonials, &config.surveys)
        };
        let report =
            export::export_testimonials(&context.pool, export, Destination::File(dated.clone()), now).await?;
        replace(&latest, &dated)?;
        for (latest, dated) in export::beside(&latest).iter().zip(export::beside(&dated)) {
            replace(latest, &dated)?;
        }
        let outcome = if report.refused.is_empty() { RunOutcome::Done } else { RunOutcome::Partial };
        Ok(RunReport { outcome, ..RunReport::done(text(&report), serde_json::to_value(&report)?) })
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
