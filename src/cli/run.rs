//! `afterword run`

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Exit, Global, output, serve};
use crate::config::ScheduledJob;
use crate::context::Context;
use crate::jobs::ledger::{Occurrence, Refusal};
use crate::jobs::runner::{self, Outcome, Pace};
use crate::jobs::{RunOutcome, RunReport};
use crate::nearest;
use crate::progress::{Progress, Step, Unit};

/// While a job runs elsewhere, `--wait` asks this often whether it still does.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Run one job once, now
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afterword run send-invitations --dry-run
  afterword run send-invitations
  afterword run weekly-testimonials --json
  afterword run nightly-metrics --wait

The job is one of [jobs.<name>] in jobs.toml, with its parameters; whether it is enabled or has a schedule does not matter.
It takes the same way as the schedule's runs, and is written into the same ledger; a dry run is not.
Ctrl-C ends it after the mail in hand, or in the middle of a file, of which nothing is taken then, or of an export, of which nothing is
published; it says what was done. A second one ends it at once.
Exit code: 0 done, 1 failed, 2 no such job, 3 done in part, 4 it is running already, is paused, or\nmay not send from this database.")]
pub struct Args {
    /// The job's name in jobs.toml
    job: String,
    /// Say what would be done, change nothing
    #[arg(long)]
    dry_run: bool,
    /// When it is running already, wait until it has ended, and run it then
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
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
    let outcome = match args.dry_run {
        true => runner::run_occurrence(&opened.context, &job, Occurrence::ByHand, true, &stop).await,
        false => carry_out(&opened.context, &job, args.wait, &stop).await,
    };
    opened.close().await;
    tell(&job.name, &outcome?, global.json)
}

/// Runs it, showing how far it is.
async fn carry_out(
    context: &Context,
    job: &ScheduledJob,
    wait: bool,
    stop: &CancellationToken,
) -> sqlx::Result<Outcome> {
    let pace = Pace::usual(context.config.app.shutdown_grace);
    let progress = Progress::default();
    let mut is_waiting = false;
    let begun = loop {
        let begun = runner::begin(context, job, Occurrence::ByHand, progress.clone(), pace).await?;
        match begun {
            Ok(begun) => break begun,
            Err(Refusal::Running { .. } | Refusal::Taken) if wait && !stop.is_cancelled() => {}
            Err(refusal) => return Ok(Outcome::Refused(refusal)),
        }
        if !is_waiting {
            output::say(&format!("{} is running already; waiting for it to end. Ctrl-C gives up.", job.name));
            is_waiting = true;
        }
        let _ = stop.run_until_cancelled(tokio::time::sleep(ASK_AGAIN)).await;
    };
    let name = job.name.clone();
    let (shown, ended) = (progress.watch(), CancellationToken::new());
    let screen = tokio::spawn(show(name, shown, stop.clone(), ended.clone()));
    let outcome = begun.carry_out(stop).await;
    ended.cancel();
    // It cannot fail; should it have panicked, the run has ended all the same.
    let _ = screen.await;
    Ok(outcome)
}

/// Shows how far a run is, on a terminal only, until it has ended; and says that it was heard, when the run is to stop.
async fn show(
    job: String,
    mut progress: watch::Receiver<Option<Step>>,
    stop: CancellationToken,
    ended: CancellationToken,
) {
    let bar = match io::stderr().is_terminal() {
        true => ProgressBar::new_spinner().with_message(format!("{job} is running")),
        false => ProgressBar::hidden(),
    };
    bar.enable_steady_tick(Duration::from_millis(120));
    let mut is_told = false;
    loop {
        tokio::select! {
            // Whoever asked it to stop is told so, though it ended at once.
            biased;
            () = stop.cancelled(), if !is_told => {
                is_told = true;
                let told = "stopping after what is in hand; Ctrl-C once more ends at once";
                bar.suspend(|| output::say(&format!("{job}: {told}")));
            }
            () = ended.cancelled() => break,
            Ok(()) = progress.changed() => {
                if let Some(step) = *progress.borrow_and_update() {
                    draw(&bar, step);
                }
            }
            else => break,
        }
    }
    bar.finish_and_clear();
}

/// A bar where it is known how much there is; else a number.
fn draw(bar: &ProgressBar, step: Step) {
    let counted = match step.unit {
        Unit::Bytes => "{bytes}/{total_bytes}".to_owned(),
        unit => format!("{{pos}}/{{len}} {}", unit.as_str()),
    };
    let template = match step.n_all {
        Some(_) => format!("{{msg}} {{wide_bar}} {counted} {{eta}}"),
        None => format!("{{spinner}} {{msg}} {{pos}} {}", step.unit.as_str()),
    };
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    if let Some(n_all) = step.n_all {
        bar.set_length(n_all);
    }
    bar.set_position(step.n_done);
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
        Outcome::Refused(Refusal::Running { run, since, owner }) => {
            let since = since.format("%F %T UTC");
            let text = format!(
                "it is running already, since {since}, in {owner}; nothing was done (`afterword jobs show {run}` says how far it is, \
                 --wait waits for it)"
            );
            (Exit::Refused, "refused", text, None)
        }
        Outcome::Refused(Refusal::Paused { since, reason }) => {
            let since = since.format("%F %R UTC");
            let text =
                format!("it is paused since {since}: {reason}; `afterword jobs resume {job}` lets it run");
            (Exit::Refused, "refused", text, None)
        }
        Outcome::Refused(Refusal::Taken | Refusal::Known { .. }) => {
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
