//! `afterword import`

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use chrono_tz::Tz;
use clap::Subcommand;
use encoding_rs::Encoding;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Exit, Global, output};
use crate::config::TextFormat;
use crate::context::Context;
use crate::import::ImportError;
use crate::import::rejects::Reject;
use crate::import::run::{Destination, ImportOptions, ImportReport, Waited, once_more_if_taken_back};
use crate::import::text::Whence;
use crate::orders::events::import_events;
use crate::orders::import::import_orders;
use crate::responses::import::{Asked, aside, import_responses};
use crate::responses::ratings::{Constants, Decimal, Rated, import_ratings};

/// Read a file of orders, events, answers or third-party ratings, once
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Orders of a shop
    #[command(after_help = "\
Examples:
  afterword import orders orders.csv
  afterword import orders --shop maison --format backoffice export-*.csv
  afterword import orders --map order_id=Numéro --map email=E-mail --map ordered_at=Date --date-format %d/%m/%Y orders.csv
  unzip -p export.zip | afterword import orders -

The formats generic, shopify, woocommerce, magento and prestashop are built in and recognised by their header (README.md, Files).
A file that was imported before is recognised and not read again. Rows that cannot be taken are listed; the others go in.
Exit code: 0 done, 1 a file could not be read, 2 no such shop, 3 some rows were rejected.")]
    Orders(File),
    /// Answers that another tool collected
    #[command(after_help = "\
Examples:
  afterword import responses --shop maison --survey satisfaction answers.csv
  afterword import responses --map order_id=Commande --map answered_at=Date --map overall=Note answers.csv

Answers belong to the order whose id they carry, else to the latest order of the address. All are kept; the latest counts.
An answer whose order is not there yet is kept aside for 90 days, and stored when the order is imported.
Exit code: 0 done, 1 a file could not be read, 2 no such shop, 3 some rows were rejected.")]
    Responses(Responses),
    /// What happened about orders: closed customer-care cases and the like
    #[command(after_help = "\
Examples:
  afterword import events --shop maison cases.csv
  afterword import events --map order_id=Order --map event=Type --map happened_at=Closed cases.csv

Columns: event_id, order_id, email, event, happened_at. An event belongs to the order it names, else to the latest order of the address.
A survey with `trigger = { event = \"case_closed\" }` asks about it.
Exit code: 0 done, 1 a file could not be read, 2 no such shop, 3 some rows were rejected.")]
    Events(File),
    /// Scores that other sites show
    #[command(after_help = "\
Examples:
  afterword import ratings --shop maison scores.csv
  afterword import ratings --source trustpilot --scale 5 --map rated_on=Date --map score=TrustScore trustpilot.csv

One score per source and day; another score for a day corrects the earlier one. A column `shop` says whose each row is; without it all
are of the shop that --shop names, or of the only one. Scores may be written 4.5, 4,5, 4.5/5 or 95 %.
Exit code: 0 done, 1 a file could not be read, 2 no such shop, 3 some rows were rejected.")]
    Ratings(Ratings),
}

#[derive(Debug, clap::Args)]
struct Ratings {
    /// Whose scores they are, where no column says it
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Of how much, such as 5 or 100, where nothing in the file says it
    #[arg(long, value_name = "NUMBER", value_parser = parse_scale)]
    scale: Option<Decimal>,
    #[command(flatten)]
    file: File,
}

#[derive(Debug, clap::Args)]
struct Responses {
    /// The survey that was answered; without it, the one that the format names, else the only one of the shop
    #[arg(long, value_name = "KEY")]
    survey: Option<String>,
    #[command(flatten)]
    file: File,
}

#[derive(Debug, clap::Args)]
struct File {
    /// The files; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Whose they are; may be left out where there is only one shop
    #[arg(long, value_name = "KEY")]
    shop: Option<String>,
    /// The format: auto, one that is built in (README.md, Files), or one of jobs.toml
    #[arg(long, value_name = "NAME", default_value = "auto")]
    format: String,
    /// Which of the file's columns is ours, such as email=E-mail or attributes.city=Ville
    #[arg(long, value_name = "FIELD=COLUMN", value_parser = parse_map)]
    map: Vec<(String, String)>,
    /// What stands between the fields: one character, or tab; without it, recognised
    #[arg(long, value_name = "CHARACTER", value_parser = TextFormat::parse_delimiter)]
    delimiter: Option<u8>,
    /// Such as utf-8, windows-1252, utf-16le, for files that do not show it; without it, recognised
    #[arg(long, value_name = "NAME", value_parser = TextFormat::parse_encoding)]
    encoding: Option<&'static Encoding>,
    /// Of times without one, such as Europe/Paris; without it, the format's, else the shop's
    #[arg(long, value_name = "ZONE", value_parser = parse_timezone)]
    timezone: Option<Tz>,
    /// Such as "%d/%m/%Y %H:%M"; without it, recognised, but never day-first
    #[arg(long, value_name = "FORMAT", value_parser = TextFormat::parse_date_format)]
    date_format: Option<String>,
    /// Do everything, and then take nothing
    #[arg(long)]
    dry_run: bool,
    /// Read the file even if it was imported before
    #[arg(long)]
    again: bool,
    /// Write the rejected rows to this file, to be corrected and imported
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When the configuration or the database cannot be used.
pub async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let opened = super::open(global).await?;
    let context = &opened.context;
    let (file, kind) = match args.what {
        What::Orders(file) => (file, Kind::Orders),
        What::Events(file) => (file, Kind::Events),
        What::Responses(responses) => (responses.file, Kind::Responses { survey: responses.survey }),
        What::Ratings(ratings) => {
            (ratings.file, Kind::Ratings(Constants { source: ratings.source, scale: ratings.scale }))
        }
    };
    if file.rejects.is_some() && file.files.len() > 1 {
        output::say("error: --rejects takes the rows of one file; import the files one by one");
        opened.close().await;
        return Ok(Exit::Usage);
    }
    let shops: Vec<_> = context.shops.iter().collect();
    let chosen = match (&file.shop, &shops[..]) {
        (None, [only]) => Ok(Some(*only)),
        (None, _) => Ok(None),
        (Some(key), _) => context.shops.by_key(key).map(Some).map_err(|unknown| unknown.to_string()),
    };
    let chosen = chosen.and_then(|chosen| match (chosen, &kind) {
        // Their file may say whose each row is.
        (None, Kind::Ratings(_)) => Ok(None),
        (None, _) => Err("there are several shops; name one with --shop".to_owned()),
        (chosen, _) => Ok(chosen),
    });
    let chosen = match chosen {
        Ok(chosen) => chosen,
        Err(problem) => {
            output::say(&format!("error: {problem}"));
            opened.close().await;
            return Ok(Exit::Usage);
        }
    };
    let rated = Rated {
        pool: &context.pool,
        shops: &shops,
        only: file.shop.is_some().then_some(chosen).flatten().map(|(shop, _)| shop),
    };
    let to = chosen.map(|(shop, config)| Destination { pool: &context.pool, shop, config });
    let options = ImportOptions {
        whence: Whence::Named,
        format: file.format,
        text: TextFormat {
            delimiter: file.delimiter,
            encoding: file.encoding,
            timezone: file.timezone,
            date_format: file.date_format,
        },
        columns: file.map.into_iter().collect::<BTreeMap<_, _>>(),
        dry_run: file.dry_run,
        again: file.again,
        rejects: file.rejects,
        // Ctrl-C ends the program, and with it the transaction.
        ..ImportOptions::default()
    };
    let mut reports = Vec::new();
    let mut failed = false;
    for path in &file.files {
        let bar = progress_bar(path);
        let progress = |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        };
        let import = || async {
            match (&kind, to) {
                (Kind::Orders, Some(to)) => orders(to, context, path, &options, &progress).await,
                (Kind::Events, Some(to)) => import_events(to, path, &options, context.clock, &progress).await,
                (Kind::Responses { survey }, Some(to)) => {
                    let asked = Asked {
                        formats: &context.config.response_formats,
                        surveys: &context.config.surveys,
                        survey: survey.as_deref(),
                    };
                    import_responses(to, asked, path, &options, context.clock, &progress).await
                }
                (Kind::Ratings(constants), _) => {
                    let formats = &context.config.rating_formats;
                    import_ratings(rated, formats, constants, path, &options, context.clock, &progress).await
                }
                (Kind::Orders | Kind::Events | Kind::Responses { .. }, None) => {
                    Err(ImportError::Unusable("is of no shop; name one with --shop".to_owned()))
                }
            }
        };
        let imported = once_more_if_taken_back(path, import).await;
        bar.finish_and_clear();
        match imported {
            Ok(report) => {
                if report.encoding_guessed {
                    output::say(&format!(
                        "{}: the encoding {} is a guess; state it with --encoding if names look wrong",
                        path.display(),
                        report.encoding
                    ));
                }
                reports.push(report);
            }
            Err(error) => {
                failed = true;
                output::say(&format!("error: {}", sentence(path, &error)));
            }
        }
    }
    let any_rejected = reports.iter().any(|report: &ImportReport| {
        report.n_rejected > 0 || report.waited.as_ref().is_some_and(|waited| waited.n_expired > 0)
    });
    failed |= reports.iter().any(|report| report.not_tried.is_some());
    if global.json {
        output::json(&reports)?;
    } else {
        print(&reports)?;
    }
    opened.close().await;
    Ok(match (failed, any_rejected) {
        (true, _) => Exit::Failed,
        (false, true) => Exit::Partial,
        (false, false) => Exit::Done,
    })
}

/// What the files hold, and what was said about it.
enum Kind {
    Orders,
    Events,
    Responses { survey: Option<String> },
    Ratings(Constants),
}

/// Imports orders, and then the answers that have waited for them.
async fn orders(
    to: Destination<'_>,
    context: &Context,
    path: &Path,
    options: &ImportOptions,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<ImportReport, ImportError> {
    let formats = &context.config.order_formats;
    let mut report = import_orders(to, formats, path, options, context.clock, progress).await?;
    if !options.dry_run {
        aside::try_after(&mut report, to, context.clock.now()).await;
    }
    Ok(report)
}

/// Why a file was not taken, as a sentence that names it.
pub(super) fn sentence(path: &Path, error: &ImportError) -> String {
    match error {
        ImportError::Unusable(reason) => format!("{}: {reason}", path.display()),
        ImportError::Stopped => format!("{}: {error}", path.display()),
        ImportError::Io(error) => format!("{}: cannot be imported: {error}", path.display()),
        ImportError::Database(error) => {
            format!("{}: the database failed, nothing of the file was taken: {error}", path.display())
        }
    }
}

/// Shown only on a terminal, and only while there is something to see.
pub(super) fn progress_bar(path: &Path) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}") {
        bar.set_style(style);
    }
    bar.set_message(path.display().to_string());
    bar
}

fn print(reports: &[ImportReport]) -> anyhow::Result<()> {
    if reports.is_empty() {
        return Ok(());
    }
    let header = [
        "file",
        "format",
        "encoding",
        "delimiter",
        "read",
        "inserted",
        "updated",
        "unchanged",
        "aside",
        "rejected",
    ];
    let rows = reports.iter().map(|report| {
        let delimiter =
            if report.delimiter == '\t' { "tab".to_owned() } else { report.delimiter.to_string() };
        let counts = [
            report.n_read,
            report.n_inserted,
            report.n_updated,
            report.n_unchanged,
            report.n_aside,
            report.n_rejected,
        ];
        let [read, inserted, updated, unchanged, aside, rejected] = counts.map(|n| n.to_string());
        let (file, format, encoding) =
            (report.file_name.clone(), report.format.clone(), report.encoding.to_owned());
        [file, format, encoding, delimiter, read, inserted, updated, unchanged, aside, rejected]
    });
    output::data(&output::table(header, rows))?;
    for report in reports {
        if let Some(earlier) = &report.already_imported {
            output::say(&format!(
                "{}: was imported on {} ({} rows) and has not been read again; --again reads it all the same",
                report.file_name,
                earlier.finished_at.format("%Y-%m-%d %H:%M UTC"),
                earlier.n_read
            ));
        }
        say_rejects(&report.file_name, &report.rejects, report.n_rejected);
        if report.n_lines > 0 {
            output::say(&format!(
                "{}: {} of the unchanged rows are further lines of the orders above them",
                report.file_name, report.n_lines
            ));
        }
        if report.n_aside > 0 {
            output::say(&format!(
                "{}: kept aside: {}, whose order is not there yet; they are stored when it is imported",
                report.file_name, report.n_aside
            ));
        }
        if let Some(waited) = &report.waited {
            say_waited(waited);
        }
        if let Some(why) = &report.not_tried {
            output::say(&format!(
                "{}: the answers that wait for their order could not be looked through: {why}; the next import does it",
                report.file_name
            ));
        }
        if report.dry_run {
            output::say(&format!("{}: dry run: nothing was taken", report.file_name));
        }
    }
    Ok(())
}

/// Says what became of the answers that had been waiting.
fn say_waited(waited: &Waited) {
    if waited.n_matched > 0 {
        output::say(&format!("answers that waited for their order and have it now: {}", waited.n_matched));
    }
    if waited.n_expired > 0 {
        output::say(&format!("answers that waited too long and are given up: {}", waited.n_expired));
        for reject in &waited.rejects {
            output::say(&format!("a file of before: {}", reject.sentence()));
        }
    }
}

/// Says the first rejects of a file, and how many more there are.
pub(super) fn say_rejects(file_name: &str, rejects: &[Reject], n_rejected: u64) {
    for reject in rejects {
        output::say(&format!("{file_name}: {}", reject.sentence()));
    }
    let more = n_rejected - rejects.len() as u64;
    if more > 0 {
        output::say(&format!("{file_name}: and {more} more rejected rows"));
    }
}

fn parse_map(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((ours, theirs)) if !ours.trim().is_empty() && !theirs.trim().is_empty() => {
            Ok((ours.trim().to_owned(), theirs.trim().to_owned()))
        }
        _ => Err("expected FIELD=COLUMN, such as email=E-mail".to_owned()),
    }
}

fn parse_scale(text: &str) -> Result<Decimal, String> {
    Decimal::parse_scale(text).map_err(|_| "expected a number such as 5 or 100".to_owned())
}

fn parse_timezone(text: &str) -> Result<Tz, String> {
    text.parse().map_err(|_| "expected a time zone such as Europe/Paris".to_owned())
}
