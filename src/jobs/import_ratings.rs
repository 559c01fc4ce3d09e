//! Imports the scores that rating platforms publish from the files of a drop folder.
//!
//! Comes in: every file of the folder. Goes out: ratings, rejects beside the file, the file in `done/` or `failed/`. If it dies half way,
//! the file is still there and is imported again, which changes nothing (see [`inbox`]).

use std::path::PathBuf;

use serde::Deserialize;

use super::{Job, JobError, Run, RunOutcome, RunReport, inbox};
use crate::config::Config;
use crate::import::run::{Destination, ImportOptions};
use crate::nearest::unknown;
use crate::responses::ratings::import_ratings;

/// `[jobs.<name>.params]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportRatings {
    /// Whom they are about. Absent: the only shop, or, where there are several, the one whose key the folder in the folder has.
    shop: Option<String>,
    /// How the files are written; `auto` recognises it by the header.
    #[serde(default = "inbox::auto")]
    format: String,
    /// The folder.
    inbox: PathBuf,
}

impl Job for ImportRatings {
    const KIND: &'static str = "import_ratings";
    const ABOUT: &'static str =
        "Imports the scores that rating platforms publish from the files of a drop folder";
    const SAMPLE: &'static str = r#"
        shop = "maison"
        format = "auto"
        inbox = "./data/inbox/ratings"
    "#;

    fn check(&self, config: &Config) -> Vec<String> {
        let shops = || config.shops.iter().map(|shop| shop.key.as_str());
        let formats = ["auto", "generic"].into_iter().chain(config.rating_formats.keys().map(String::as_str));
        let shop = self.shop.as_ref().and_then(|shop| unknown("shop", shop, shops()));
        shop.into_iter().chain(unknown("rating format", &self.format, formats)).collect()
    }

    async fn run(&self, run: &Run<'_>) -> Result<RunReport, JobError> {
        let context = run.context;
        let inbox = context.config.resolve(&self.inbox);
        let shops = context.shops.named(self.shop.as_deref())?;
        let has_folders = shops.len() > 1;
        let mut reports = Vec::new();
        for (shop, config) in shops {
            let to = Destination { pool: &context.pool, shop, config };
            let folder = if has_folders { inbox.join(&config.key) } else { inbox.clone() };
            let report = inbox::take_in(run, &folder, |path, rejects| async move {
                let options = ImportOptions {
                    format: self.format.clone(),
                    dry_run: run.dry_run,
                    rejects,
                    ..ImportOptions::default()
                };
                let formats = &context.config.rating_formats;
                import_ratings(to, formats, &path, &options, context.clock, &|_, _| {}).await
            });
            reports.push((config.key.as_str(), report.await?));
        }
        match <[_; 1]>::try_from(reports) {
            Ok([(_, only)]) => Ok(only),
            Err(reports) => Ok(together(reports)),
        }
    }
}

/// One report of those of several shops.
fn together(reports: Vec<(&str, RunReport)>) -> RunReport {
    let is_partial = reports.iter().any(|(_, report)| report.outcome == RunOutcome::Partial);
    let text = reports.iter().map(|(shop, report)| format!("{shop}: {}", report.text)).collect::<Vec<_>>();
    let details = reports.iter().map(|(shop, report)| ((*shop).to_owned(), report.details.clone()));
    let mut whole = RunReport::done(text.join("; "), serde_json::Value::Object(details.collect()));
    if is_partial {
        whole.outcome = RunOutcome::Partial;
    }
    whole.listing = reports.into_iter().flat_map(|(_, report)| report.listing).collect();
    whole
}
