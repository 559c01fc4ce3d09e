//! `afterword run`

use std::time::Duration;

use serde_json::json;

use super::{Exit, Global, output, serve};
use crate::jobs::ledger::{Occurrence, Refusal};
use crate::jobs::runner::{self, Outcome};
use crate::jobs::{RunOutcome, RunReport};
use crate::nearest;

/// Run one job once, now
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afterword run send-invitations --dry-run
  afterword run send-invitations
  afterword run weekly-testimonials --json

The job is one of [jobs.<name>] in jobs.toml, with its parameters; whether it is enabled or has a schedule does not matter.
It takes the same way as the schedule's runs, and is written into the same ledger; a dry run is not.
Exit code: 0 done, 1 failed, 2 no such job, 3 done in part, 4 it is running already, is paused, or\nmay not send from this database.")]
pub struct Args {
    /// The job's name in jobs.toml
    job: String,
    /// Say what would be done, change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// When the configuration or the database cannot be used; what goes wrong in the job is an exit code.
pub async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let opened = super::open(global).await?;
    let configured = &opened.context.config.jobs;
    let Some(job) = configured.iter().find(|job| job.name == args.job).cloned() else {
        let names = configured.iter().map(|job| job.name.as_str());
        output::say(&format!("error: {}", nearest::unknown("job", &args.job, names).unwrap_or_default()));
        opened.close().await;
        return Ok(Exit::Usage);
    };
    let stop = serve::stop_on_signals()?;
    let spinner = indicatif::ProgressBar::new_spinner().with_message(format!("{} is running", job.name));
    spinner.enable_steady_tick(Duration::from_millis(120));
    let outcome =
        runner::run_occurrence(&opened.context, &job, Occurrence::ByHand, args.dry_run, &stop).await;
    spinner.finish_and_clear();
    opened.close().await;
    tell(&job.name, &outcome?, global.json)
}

fn tell(job: &str, outcome: &Outcome, as_json: bool) -> anyhow::Result<Exit> {
    let (exit, word, text, report) = match outcome {
        Outcome::Ended(report) => {
            let (exit, word) = match report.outcome {
                RunOutcome::Done => (Exit::Done, "done"),
                RunOutcome::Partial => (Exit::Partial, "partial"),
            };
            (exit, word, report.text.clone(), Some(report))
        }
        Outcome::Failed { reason } => (Exit::Failed, "failed", reason.clone(), None),
        Outcome::Declined { reason } => (Exit::Refused, "refused", reason.clone(), None),
        Outcome::Interrupted { reason } => (Exit::Failed, "interrupted", reason.clone(), None),
        Outcome::Refused(Refusal::Running { since, owner }) => {
            let since = since.format("%F %T UTC");
            let text = format!("it is running already, since {since}, in {owner}; nothing was done");
            (Exit::Refused, "refused", text, None)
        }
        Outcome::Refused(Refusal::Paused { since, reason }) => {
            let since = since.format("%F %R UTC");
            let text =
                format!("it is paused since {since}: {reason}; `afterword jobs resume {job}` lets it run");
            (Exit::Refused, "refused", text, None)
        }
        Outcome::Refused(Refusal::Taken) => {
            (Exit::Refused, "refused", "another run of it began at the same moment".to_owned(), None)
        }
    };
    if as_json {
        let details = report.map(|report: &RunReport| &report.details);
        output::json(&json!({ "job": job, "outcome": word, "text": text, "details": details }))?;
    } else {
        if let Some(report) = report.filter(|report| !report.listing.is_empty()) {
            output::data(&format!("{}\n", report.listing.join("\n")))?;
        }
        output::say(&format!("{job}: {word}: {text}"));
    }
    Ok(exit)
}
