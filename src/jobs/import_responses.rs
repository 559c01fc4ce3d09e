//! Imports answers given elsewhere from the files of a drop folder.
//!
//! Comes in: every file of the folder. Goes out: responses, rejects beside the file, the file in `done/` or `failed/`. If it dies half
//! way, the file is still there and is imported again, which changes nothing (see [`inbox`]).

use std::path::PathBuf;

use serde::Deserialize;

use super::{Job, JobError, Run, RunReport, beside_config, inbox, unknown};
use crate::config::Config;

/// `[jobs.<name>.params]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportResponses {
    /// Whose customers answered.
    shop: String,
    /// What they answered; absent: the survey that the format names, or the only one of the shop.
    survey: Option<String>,
    /// How the files are written; `auto` recognises it by the header.
    #[serde(default = "auto")]
    format: String,
    /// The folder.
    inbox: PathBuf,
}

fn auto() -> String {
    "auto".to_owned()
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
        let formats =
            ["auto", "generic"].into_iter().chain(config.response_formats.keys().map(String::as_str));
        let surveys = || config.surveys.iter().map(|survey| survey.key.as_str());
        unknown("shop", &self.shop, shops)
            .into_iter()
            .chain(unknown("response format", &self.format, formats))
            .chain(self.survey.as_ref().and_then(|survey| unknown("survey", survey, surveys())))
            .collect()
    }

    async fn run(&self, run: &Run<'_>) -> Result<RunReport, JobError> {
        let inbox = beside_config(&run.context.config, &self.inbox);
        inbox::take_in(run, &inbox, |_path, _rejects| async move {
            Err(crate::orders::ImportError::Unusable("not connected yet".to_owned()))
        })
        .await
    }
}
