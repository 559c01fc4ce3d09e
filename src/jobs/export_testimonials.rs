//! Writes the testimonials that may be published into a folder: a dated file, and `latest.csv`.
//!
//! Comes in: approved testimonials. Goes out: `testimonials-<date>.csv`, and the same as `latest.csv`. Both appear complete or not at
//! all: they are written beside and then given their name. If it dies half way, a hidden file is left behind that the next run
//! replaces.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chrono_tz::Tz;
use serde::Deserialize;

use super::{Job, JobError, Run, RunReport, counted};
use crate::config::Config;
use crate::nearest::unknown;
use crate::new_file::NewFile;
use crate::testimonials::export::{self, Destination, EXPORT_FORMATS, Export, ExportReport};

/// `[jobs.<name>.params]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportTestimonials {
    /// Whose testimonials; absent: those of all shops.
    shop: Option<String>,
    /// The columns.
    #[serde(default = "generic")]
    format: String,
    /// The folder.
    out: PathBuf,
}

fn generic() -> String {
    "generic".to_owned()
}

impl Job for ExportTestimonials {
    const KIND: &'static str = "export_testimonials";
    const ABOUT: &'static str = "Writes the testimonials that may be published as a CSV file";
    const SAMPLE: &'static str = r#"
        shop = "maison"
        format = "generic"
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
        let dated = folder.join(format!("testimonials-{}.csv", now.with_timezone(&zone).format("%F")));
        let latest = folder.join("latest.csv");
        if run.dry_run {
            let text = format!("would write {} and latest.csv", dated.display());
            return Ok(RunReport::done(text, serde_json::Value::Null));
        }
        let names = context.config.testimonials.display_name;
        let export = Export { shops: &shops, format, names, since: None };
        let report =
            export::export_testimonials(&context.pool, export, Destination::File(dated.clone()), now).await?;
        replace(&latest, &dated)?;
        Ok(RunReport::done(text(&report), serde_json::to_value(&report)?))
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
    format!(
        "{} written to {}, {} for the first time{withheld}{taken_back}",
        counted(report.n_rows, "testimonial"),
        report.destination,
        report.n_first_published
    )
}
