//! Writes the testimonials that may be published into a folder: a dated file, and `latest.csv`.
//!
//! Comes in: approved testimonials. Goes out: `testimonials-<date>.csv`, and the same as `latest.csv`. Both appear complete or not at
//! all: they are written beside and then given their name. If it dies half way, a hidden file is left behind that the next run
//! replaces.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Job, JobError, Run, RunReport, unknown};
use crate::config::Config;

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
            .chain(unknown("testimonial format", &self.format, ["generic"]))
            .collect()
    }

    async fn run(&self, run: &Run<'_>) -> Result<RunReport, JobError> {
        let _out = run.context.config.resolve(&self.out);
        anyhow::bail!("not connected yet")
    }
}
