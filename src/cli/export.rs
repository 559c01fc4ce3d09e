//! `afterword export`

use std::io;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::Subcommand;
use clap::builder::{PossibleValue, PossibleValuesParser};

use super::{Exit, Global, output};
use crate::context::Context;
use crate::metrics;
use crate::metrics::period::Period;
use crate::metrics::segment::Segment;
use crate::metrics::window::Bound;
use crate::new_file::NewFile;
use crate::testimonials::export::{
    self, Destination, EXPORT_FORMATS, Export, ExportFormat, ExportReport, export_testimonials,
};
use crate::testimonials::selection::Selection;
use crate::types::Locale;

/// Write a file, once
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// What may be published, for whoever reads it
    Testimonials(Testimonials),
    /// The figures by period, and by segment, as CSV
    Metrics(Metrics),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afterword export metrics --out exports/metrics.csv
  afterword export metrics --by week --from 2026-01-01 --segment country --segment attributes.channel

A row per shop, metric, period and value of a segment: shop, metric, period, starts_on, ends_on, segment, segment_value, numerator,
denominator, value, ci_low, ci_high. Shares are from 0 to 1, the net promoter score from -100 to 100; a cell is empty where there is
nothing to divide by. Scores of other sites are rows of the metric third_party_score. A value that a spreadsheet would take for a
formula has an apostrophe before it.
Exit code: 0 done, 1 failed, 2 no such shop or an empty window.")]
struct Metrics {
    /// Only of this shop
    #[arg(long, value_name = "KEY")]
    shop: Option<String>,
    /// Each day, week, month, quarter, year, or the last so many days (28d)
    #[arg(long, value_name = "PERIOD", default_value = "month")]
    by: Period,
    /// Also each country, locale, product, `new_or_returning`, or `attributes.<name>`; may be repeated
    #[arg(long, value_name = "SEGMENT")]
    segment: Vec<Segment>,
    /// From this day or moment on; without it: everything
    #[arg(long, value_name = "T")]
    from: Option<Bound>,
    /// Before this day or moment
    #[arg(long, value_name = "T")]
    to: Option<Bound>,
    /// Where to; `-` is standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afterword export testimonials
  afterword export testimonials --shop maison --out exports/testimonials.csv
  afterword export testimonials --format excel --locale fr --out exports/avis.csv
  afterword export testimonials --since 2026-03-01 --out exports/changes.csv
  afterword export testimonials --min-rating 4 --topic delivery --selected-label \"Avis sélectionnés\" --out exports/avis.csv

Only approved answers of people, with consent, about orders that were not cancelled, and all of them. A choice has to be called one
where it is shown: it needs a label, and the file then says the rule, how many there were, and what all customers answered.

A file appears complete or not at all. Beside exports/avis.csv lie exports/avis.manifest.json (rule, counts, checksum, what was refused
or withdrawn) and exports/avis.notice.fr.md and .en.md, what French and European law wants to be told near reviews.

Exit code: 0 done, 1 failed, 2 no such shop or not to be written so, 3 the format could not carry some; the others are in the file.")]
struct Testimonials {
    /// Only of this shop
    #[arg(long, value_name = "KEY")]
    shop: Option<String>,
    /// For whom
    #[arg(long, default_value = "generic", value_parser = formats())]
    format: String,
    /// Only what was added, changed or withdrawn at this moment or later (2026-03-29T09:00:00Z, or a date)
    #[arg(long, value_name = "T", value_parser = super::parse_moment)]
    since: Option<DateTime<Utc>>,
    /// Only with this rating of 5 or a better one; wants --selected-label
    #[arg(long, value_name = "N")]
    min_rating: Option<i16>,
    /// Only of those who chose this answer; wants --selected-label
    #[arg(long, value_name = "CHOICE")]
    topic: Option<String>,
    /// What the selection is called where it is shown
    #[arg(long, value_name = "TEXT")]
    selected_label: Option<String>,
    /// The language of a file for people; without it that of the shop
    #[arg(long, value_name = "TAG", value_parser = Locale::parse)]
    locale: Option<Locale>,
    /// Where to; `-` is standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    out: PathBuf,
}

/// The formats' names, with who reads each.
fn formats() -> PossibleValuesParser {
    let values = EXPORT_FORMATS.iter().map(|format| PossibleValue::new(format.name).help(format.description));
    PossibleValuesParser::new(values)
}

/// Runs the command.
///
/// # Errors
/// When the configuration or the database cannot be used, or the file cannot be written.
pub async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let opened = super::open(global).await?;
    let exit = match &args.what {
        What::Testimonials(args) => testimonials(args, global, &opened.context).await,
        What::Metrics(args) => figures(args, global, &opened.context).await,
    };
    opened.close().await;
    exit
}

async fn testimonials(args: &Testimonials, global: &Global, context: &Context) -> anyhow::Result<Exit> {
    let Some(shops) = super::shops(context, args.shop.as_deref()) else { return Ok(Exit::Usage) };
    // The command line knows the names of the list only.
    let format: &'static ExportFormat = export::format(&args.format).unwrap_or(&EXPORT_FORMATS[0]);
    let config = &context.config;
    let label = args.selected_label.as_deref();
    let selection = match Selection::parse(label, args.min_rating, args.topic.as_deref(), &config.surveys) {
        Ok(selection) => selection,
        Err(wrong) => {
            output::say(&format!("error: {wrong}"));
            return Ok(Exit::Usage);
        }
    };
    let export = Export {
        since: args.since,
        selection: selection.as_ref(),
        locale: args.locale.as_ref(),
        ..Export::new(&shops, format, &config.testimonials, &config.surveys)
    };
    if let Err(wrong) = export.check() {
        output::say(&format!("error: {wrong}"));
        return Ok(Exit::Usage);
    }
    let to_file = args.out.as_os_str() != "-";
    let mut stdout = io::stdout();
    let destination =
        if to_file { Destination::File(args.out.clone()) } else { Destination::Stream(&mut stdout) };
    let report = match export_testimonials(&context.pool, export, destination, context.clock.now()).await {
        Err(error) if is_broken_pipe(&error) => {
            output::say("The reader went away before the end; nothing counts as published.");
            return Ok(Exit::Done);
        }
        report => report?,
    };
    if global.json && to_file {
        output::json(&report)?;
    } else {
        output::say(&in_words(&report));
    }
    Ok(if report.refused.is_empty() { Exit::Done } else { Exit::Partial })
}

async fn figures(args: &Metrics, global: &Global, context: &Context) -> anyhow::Result<Exit> {
    let Some(shops) = super::shops(context, args.shop.as_deref()) else { return Ok(Exit::Usage) };
    let as_of = context.clock.now();
    let Some(window) = super::window(args.from, args.to, &shops, as_of) else { return Ok(Exit::Usage) };
    let export = metrics::export::Export {
        shops: &shops,
        surveys: &context.config.surveys,
        window,
        by: args.by,
        segments: &args.segment,
    };
    let to_file = args.out.as_os_str() != "-";
    let n_rows = if to_file {
        let mut file = NewFile::create(&args.out)?;
        let n_rows = metrics::export::export_metrics(&context.pool, &export, as_of, &mut file).await?;
        file.sync()?;
        file.publish()?;
        n_rows
    } else {
        match metrics::export::export_metrics(&context.pool, &export, as_of, &mut io::stdout()).await {
            Err(error) if is_broken_pipe(&error) => return Ok(Exit::Done),
            n_rows => n_rows?,
        }
    };
    if global.json && to_file {
        output::json(&serde_json::json!({ "destination": args.out, "n_rows": n_rows }))?;
    } else {
        output::say(&format!("{n_rows} rows of figures exported."));
    }
    Ok(Exit::Done)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn in_words(report: &ExportReport) -> String {
    let to = if report.destination == "-" { String::new() } else { format!(" to {}", report.destination) };
    let mut text = format!(
        "{} testimonials exported{to}, {} of them for the first time.",
        report.n_rows, report.n_first_published
    );
    if !report.taken_back.is_empty() {
        let ids: Vec<String> = report.taken_back.iter().map(ToString::to_string).collect();
        text.push_str(&format!(" Published before and to be taken down now: {}.", ids.join(", ")));
    }
    if !report.withheld.is_empty() {
        let reasons: Vec<_> =
            report.withheld.iter().map(|(reason, n)| format!("{n} {}", reason.text())).collect();
        text.push_str(&format!(" Approved but withheld: {}.", reasons.join(", ")));
    }
    for (reason, ids) in &report.refused {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        text.push_str(&format!(" Refused by {}, {reason}: {}.", report.format, ids.join(", ")));
    }
    if let Some(selected) = &report.selection {
        text.push_str(&format!(" {selected}"));
    }
    text
}
