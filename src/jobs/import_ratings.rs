//! Imports the scores that other sites show from the files of a drop folder.
//!
//! Comes in: every file of the folder. Goes out: ratings, rejects beside the file, the file in `done/` or `failed/`. If it dies half way,
//! the file is still there and is imported again, which changes nothing (see [`inbox`]).

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Job, JobError, Run, RunReport, inbox, named_or_all};
use crate::config::Config;
use crate::import::run::ImportOptions;
use crate::import::text::Whence;
use crate::nearest::unknown;
use crate::responses::ratings::{Constants, Rated, import_ratings};

/// `[jobs.<name>.params]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportRatings {
    /// Whose scores they are; absent: the shop that the column `shop` names, or the only one.
    shop: Option<String>,
    /// How the files are written; `auto` recognises it by the header.
    #[serde(default = "inbox::auto")]
    format: String,
    /// The folder.
    inbox: PathBuf,
}

impl Job for ImportRatings {
    const KIND: &'static str = "import_ratings";
    const ABOUT: &'static str = "Imports the scores of other sites from the files of a drop folder";
    const SAMPLE: &'static str = r#"
        shop = "maison"
        format = "auto"
        inbox = "./data/inbox/ratings"
    "#;

    fn check(&self, config: &Config) -> Vec<String> {
        let shops = || config.shops.iter().map(|shop| shop.key.as_str());
        let formats = ["auto", "generic"].into_iter().chain(config.rating_formats.keys().map(String::as_str));
        self.shop
            .as_ref()
            .and_then(|shop| unknown("shop", shop, shops()))
            .into_iter()
            .chain(unknown("rating format", &self.format, formats))
            .collect()
    }

    fn shops(&self, config: &Config) -> Vec<String> {
        named_or_all(self.shop.as_ref(), config)
    }

    fn files(&self) -> Vec<&Path> {
        vec![&self.inbox]
    }

    async fn run(&self, run: &Run<'_>) -> Result<RunReport, JobError> {
        let context = run.context;
        let shops: Vec<_> = context.shops.iter().collect();
        let only = self.shop.as_ref().map(|shop| context.shops.by_key(shop)).transpose()?;
        let rated = Rated { pool: &context.pool, shops: &shops, only: only.map(|(shop, _)| shop) };
        let constants = Constants::default();
        let constants = &constants;
        let inbox = context.config.resolve(&self.inbox);
        inbox::take_in(run, &inbox, |path, rejects, reading| async move {
            let options = ImportOptions {
                whence: Whence::Dropped,
                format: self.format.clone(),
                dry_run: run.dry_run,
                rejects,
                stop: run.stop.clone(),
                ..ImportOptions::default()
            };
            let formats = &context.config.rating_formats;
            import_ratings(rated, formats, constants, &path, &options, context.clock, &|n, _| {
                reading.has_read(n)
            })
            .await
        })
        .await
    }
}
