//! `afterword digest`

use chrono::{DateTime, Utc};

use super::{Exit, Global, output, parse_moment};
use crate::context::Context;
use crate::digest::{self, Since, store, words};
use crate::types::Locale;

/// How it went: what ran, failed, was skipped, rejected, is unknown or overdue
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afterword digest
  afterword digest --since 2026-03-01 --json

It tells what has happened since the last digest that somebody has got (of the job `send_digest`), else of the last 24 hours; what is
wrong as things stand is told whenever it began. Looking changes nothing.
Exit code: 0 done, 1 failed.")]
pub struct Args {
    /// From this moment on
    #[arg(long, value_name = "T", value_parser = parse_moment)]
    since: Option<DateTime<Utc>>,
}

/// Runs the command.
///
/// # Errors
/// When the configuration or the database cannot be used.
pub async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let opened = super::open(global).await?;
    let exit = tell(&args, global, &opened.context).await;
    opened.close().await;
    exit
}

async fn tell(args: &Args, global: &Global, context: &Context) -> anyhow::Result<Exit> {
    let now = context.clock.now();
    let since = match args.since {
        Some(moment) => Since { moment, last_run: None, open_runs: Vec::new() },
        None => store::since(&context.pool, now).await?,
    };
    let digest = digest::gather(context, &since, now, None).await?;
    if global.json {
        output::json(&digest)?;
        return Ok(Exit::Done);
    }
    let english = Locale::parse("en").map_err(anyhow::Error::msg)?;
    let (_, english) = context.templates.language(Some(&english), &english);
    let (title, summary) = (words::title(english, &digest), words::summary(english, &digest));
    if digest.findings.is_empty() {
        output::data(&format!("{title} {summary}\n"))?;
        return Ok(Exit::Done);
    }
    let zone = context.shops.iter().next().map_or(chrono_tz::UTC, |(_, shop)| shop.timezone);
    let mut text = format!("{title}\n");
    for finding in &digest.findings {
        text.push_str(&output::paragraph(&format!("! {}", words::sentence(english, finding, zone))));
    }
    text.push_str(&format!("{summary}\n"));
    output::data(&text)?;
    Ok(Exit::Done)
}
