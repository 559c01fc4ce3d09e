//! Imports what happened about orders (closed customer-care cases and the like) from the files of a drop folder.
//!
//! Comes in: every file of the folder. Goes out: events, rejects beside the file, the file in `done/` or `failed/`. If it dies half way,
//! the file is still there and is imported again, which changes nothing (see [`inbox`]).

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Job, JobError, Run, RunReport, inbox};
use crate::config::Config;
use crate::import::run::{Destination, ImportOptions};
use crate::import::text::Whence;
use crate::nearest::unknown;
use crate::orders::events::import_events;

/// `[jobs.<name>.params]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportEvents {
    /// Whose orders.
    shop: String,
    /// The folder.
    inbox: PathBuf,
}

impl Job for ImportEvents {
    const KIND: &'static str = "import_events";
    const ABOUT: &'static str = "Imports what happened about orders from the files of a drop folder";
    const SAMPLE: &'static str = r#"
        shop = "maison"
        inbox = "./data/inbox/events"
    "#;

    fn check(&self, config: &Config) -> Vec<String> {
        let shops = config.shops.iter().map(|shop| shop.key.as_str());
        unknown("shop", &self.shop, shops).into_iter().collect()
    }

    fn shops(&self, _: &Config) -> Vec<String> {
        vec![self.shop.clone()]
    }

    fn files(&self) -> Vec<&Path> {
        vec![&self.inbox]
    }

    async fn run(&self, run: &Run<'_>) -> Result<RunReport, JobError> {
        let context = run.context;
        let (shop, config) = context.shops.by_key(&self.shop)?;
        let to = Destination { pool: &context.pool, shop, config };
        let inbox = context.config.resolve(&self.inbox);
        inbox::take_in(run, &inbox, |path, rejects, reading| async move {
            let options = ImportOptions {
                whence: Whence::Dropped,
                dry_run: run.dry_run,
                rejects,
                stop: run.stop.clone(),
                ..ImportOptions::default()
            };
            import_events(to, &path, &options, context.clock, &|n, _| reading.has_read(n)).await
        })
        .await
    }
}
