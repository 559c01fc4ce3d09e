//! Imports the order files of a drop folder.
//!
//! Comes in: every file of the folder. Goes out: orders, rejects beside the file, the file in `done/` or `failed/`, and the answers that
//! have waited for these orders. If it dies half way, the file is still there and is imported again, which changes nothing (see
//! [`inbox`]).

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Job, JobError, Run, RunReport, inbox};
use crate::config::Config;
use crate::import::run::{Destination, ImportOptions};
use crate::import::text::Whence;
use crate::nearest::unknown;
use crate::orders::format::ORDER_FORMATS;
use crate::orders::import::import_orders;
use crate::responses::import::aside;

/// `[jobs.<name>.params]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportOrders {
    /// Whose orders they are.
    shop: String,
    /// How the files are written; `auto` recognises it by the header.
    #[serde(default = "inbox::auto")]
    format: String,
    /// The folder.
    inbox: PathBuf,
}

impl Job for ImportOrders {
    const KIND: &'static str = "import_orders";
    const ABOUT: &'static str = "Imports the order files of a drop folder";
    const SAMPLE: &'static str = r#"
        shop = "maison"
        format = "auto"
        inbox = "./data/inbox/orders"
    "#;

    fn check(&self, config: &Config) -> Vec<String> {
        let shops = config.shops.iter().map(|shop| shop.key.as_str());
        let built_in = ORDER_FORMATS.iter().map(|format| format.key);
        let formats =
            ["auto"].into_iter().chain(built_in).chain(config.order_formats.keys().map(String::as_str));
        unknown("shop", &self.shop, shops)
            .into_iter()
            .chain(unknown("order format", &self.format, formats))
            .collect()
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
                format: self.format.clone(),
                dry_run: run.dry_run,
                rejects,
                stop: run.stop.clone(),
                ..ImportOptions::default()
            };
            let formats = &context.config.order_formats;
            let mut report =
                import_orders(to, formats, &path, &options, context.clock, &|n, _| reading.has_read(n))
                    .await?;
            if !run.dry_run {
                aside::try_after(&mut report, to, context.clock.now()).await;
            }
            Ok(report)
        })
        .await
    }
}
