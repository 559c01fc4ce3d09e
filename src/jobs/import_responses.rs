//! Imports answers given elsewhere from the files of a drop folder.
//!
//! Comes in: every file of the folder. Goes out: responses, what is kept aside until its order comes, rejects beside the file, the file
//! in `done/` or `failed/`. If it dies half way, the file is still there and is imported again, which changes nothing (see [`inbox`]).

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Job, JobError, Run, RunReport, inbox};
use crate::config::Config;
use crate::import::run::{Destination, ImportOptions};
use crate::import::text::Whence;
use crate::nearest::unknown;
use crate::responses::import::format::RESPONSE_FORMATS;
use crate::responses::import::{Asked, import_responses};

/// `[jobs.<name>.params]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportResponses {
    /// Whose customers answered.
    shop: String,
    /// What they answered; absent: the survey that the format names, or the one whose questions a file answers.
    survey: Option<String>,
    /// How the files are written; `auto` recognises it by the header.
    #[serde(default = "inbox::auto")]
    format: String,
    /// The folder.
    inbox: PathBuf,
}

impl Job for ImportResponses {
    const KIND: &'static str = "import_responses";
    const ABOUT: &'static str = "Imports answers given elsewhere from the files of a drop folder";
    const SAMPLE: &'static str = r#"
        shop = "maison"
        survey = "satisfaction"
        format = "auto"
        inbox = "./data/inbox/responses"
    "#;

    fn check(&self, config: &Config) -> Vec<String> {
        let shops = config.shops.iter().map(|shop| shop.key.as_str());
        let built_in = RESPONSE_FORMATS.iter().map(|format| format.key);
        let formats =
            ["auto"].into_iter().chain(built_in).chain(config.response_formats.keys().map(String::as_str));
        let surveys = || config.surveys.iter().map(|survey| survey.key.as_str());
        unknown("shop", &self.shop, shops)
            .into_iter()
            .chain(unknown("response format", &self.format, formats))
            .chain(self.survey.as_ref().and_then(|survey| unknown("survey", survey, surveys())))
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
        let asked = Asked {
            formats: &context.config.response_formats,
            surveys: &context.config.surveys,
            survey: self.survey.as_deref(),
        };
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
            import_responses(to, asked, &path, &options, context.clock, &|n, _| reading.has_read(n)).await
        })
        .await
    }
}
