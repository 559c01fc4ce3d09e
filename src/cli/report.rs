//! `afterword report`

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::{Exit, Global, output};
use crate::metrics::window::{Bound, Window};
use crate::metrics::{self, Report, report_html};
use crate::new_file::NewFile;

/// The indicators, with their intervals
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afterword report
  afterword report --shop maison --from 2026-01-01 --to 2026-04-01
  afterword report --as-of 2026-03-31T22:00:00Z --json
  afterword report --html report.html

The window goes from --from up to but without --to; a date is the first moment of that day in the zone of each shop. Answers
count by when they were given, orders by when they were placed. With --as-of, what came later is not known.
Answers that a program seems to have sent (suspects) do not count; \"with suspects\" stands beside a figure that they would change.
Exit code: 0 done, 1 failed, 2 no such shop or an empty window.")]
pub struct Args {
    /// Only this shop
    #[arg(long, value_name = "KEY")]
    shop: Option<String>,
    /// From this day or moment on; without it: everything
    #[arg(long, value_name = "T")]
    from: Option<Bound>,
    /// Before this day or moment
    #[arg(long, value_name = "T")]
    to: Option<Bound>,
    /// Write a page that stands by itself
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When the configuration or the database cannot be used, or the page cannot be written.
pub async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let opened = super::open(global).await?;
    let exit = report(&args, global, &opened.context).await;
    opened.close().await;
    exit
}

async fn report(args: &Args, global: &Global, context: &crate::context::Context) -> anyhow::Result<Exit> {
    let Some(shops) = super::shops(context, args.shop.as_deref()) else { return Ok(Exit::Usage) };
    let window = Window { from: args.from, to: args.to };
    let as_of = context.clock.now();
    if let Some(empty) = shops.iter().find_map(|(_, shop)| window.span(shop.timezone, as_of).err()) {
        output::say(&format!("error: {empty}"));
        return Ok(Exit::Usage);
    }
    let report = metrics::report(&context.pool, &shops, &context.config.surveys, window, as_of).await?;
    if let Some(path) = &args.html {
        write_page(&report, path)?;
        output::say(&format!("The report is in {}.", path.display()));
    }
    if global.json {
        output::json(&report)?;
    } else if args.html.is_none() {
        output::data(&in_tables(&report))?;
    }
    Ok(Exit::Done)
}

fn write_page(report: &Report, path: &Path) -> anyhow::Result<()> {
    let page = report_html::render(report)?;
    let mut file = NewFile::create(path)?;
    file.write_all(page.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
    file.sync()?;
    Ok(file.publish()?)
}

fn in_tables(report: &Report) -> String {
    let mut text = String::new();
    for shop in &report.shops {
        let as_of = report.as_of.format("%Y-%m-%d %H:%M UTC");
        let window = report_html::in_words(shop);
        let rows = shop.metrics.iter().map(|(metric, figure)| {
            let mut counted = figure.counted_text();
            if let Some(with_suspects) = figure.with_suspects_text() {
                counted.push_str(&format!(" ({with_suspects})"));
            }
            [metric.name.to_owned(), figure.value_text(), counted, figure.verdict.clone()]
        });
        let table = output::table(["Indicator", "Value", "Counted", "In words"], rows);
        let outbox = shop.outbox_in_words();
        text.push_str(&format!(
            "{} ({}), {window}, as of {as_of}\n\n{table}{outbox}\n\n",
            shop.name, shop.shop
        ));
    }
    text
}
