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
use crate::import::ImportError;
use crate::import::rejects::Reject;
use crate::import::run::{Destination, ImportKind, ImportOptions, ImportReport};
use crate::orders::events::import_events;
use crate::orders::import::import_orders;
use crate::responses::import::{Asked, import_responses};
use crate::responses::ratings::import_ratings;

/// Read a file of orders, events, answers or scores, once
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

A file that was imported before is recognised and not read again. Rows that cannot be taken are listed; the others go in.
Exit code: 0 done, 1 a file could not be read, 2 no such shop, 3 some rows were rejected.")]
    Orders(File),
    /// Answers that another tool collected
    #[command(after_help = "\
Examples:
  afterword import responses --shop maison --survey satisfaction answers.csv
  afterword import responses --map order_id=Commande --map answered_at=Date --map overall=Note answers.csv

Answers belong to the order whose id they carry, else to the latest order of the address. All are kept; the latest counts.
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
    /// Scores that rating platforms publish about the shop
    #[command(after_help = "\
Examples:
  afterword import ratings --shop maison scores.csv
  afterword import ratings --map rated_on=Date --map score=Note --date-format %d/%m/%Y scores.csv

Columns: source, rated_on, score, scale (the best score there is), ratings (how many). A corrected score replaces the one of that day.
Exit code: 0 done, 1 a file could not be read, 2 no such shop, 3 some rows were rejected.")]
    Ratings(File),
}

#[derive(Debug, clap::Args)]
struct Responses {
    /// The survey that was answered; without it, the one that the format names, else the one whose questions the file answers
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
    /// The format: auto, generic, or one of jobs.toml
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
    let (file, survey, kind) = match args.what {
        What::Orders(file) => (file, None, ImportKind::Orders),
        What::Events(file) => (file, None, ImportKind::Events),
        What::Responses(responses) => (responses.file, responses.survey, ImportKind::Responses),
        What::Ratings(file) => (file, None, ImportKind::Ratings),
    };
    if file.rejects.is_some() && file.files.len() > 1 {
        output::say("error: --rejects takes the rows of one file; import the files one by one");
        opened.close().await;
        return Ok(Exit::Usage);
    }
    let shops: Vec<_> = context.shops.iter().collect();
    let chosen = match (&file.shop, &shops[..]) {
        (None, [only]) => Ok(*only),
        (None, _) => Err("there are several shops; name one with --shop".to_owned()),
        (Some(key), _) => context.shops.by_key(key).map_err(|unknown| unknown.to_string()),
    };
    let (shop, config) = match chosen {
        Ok(chosen) => chosen,
        Err(problem) => {
            output::say(&format!("error: {problem}"));
            opened.close().await;
            return Ok(Exit::Usage);
        }
    };
    let to = Destination { pool: &context.pool, shop, config };
    let options = ImportOptions {
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
    };
    let asked = Asked {
        formats: &context.config.response_formats,
        surveys: &context.config.surveys,
        survey: survey.as_deref(),
    };

    let mut reports = Vec::new();
    let mut failed = false;
    for path in &file.files {
        let bar = progress_bar(path);
        let progress = |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        };
        let (config, clock) = (&context.config, context.clock);
        let imported = match kind {
            ImportKind::Orders => {
                import_orders(to, &config.order_formats, path, &options, clock, &progress).await
            }
            ImportKind::Events => import_events(to, path, &options, clock, &progress).await,
            ImportKind::Responses => import_responses(to, asked, path, &options, clock, &progress).await,
            ImportKind::Ratings => {
                import_ratings(to, &config.rating_formats, path, &options, clock, &progress).await
            }
        };
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
    let any_rejected = reports.iter().any(|report| report.n_rejected > 0);
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

/// Why a file was not taken, as a sentence that names it.
pub(super) fn sentence(path: &Path, error: &ImportError) -> String {
    match error {
        ImportError::Unusable(reason) => format!("{}: {reason}", path.display()),
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
    let header =
        ["file", "format", "encoding", "delimiter", "read", "inserted", "updated", "unchanged", "rejected"];
    let rows = reports.iter().map(|report| {
        let delimiter =
            if report.delimiter == '\t' { "tab".to_owned() } else { report.delimiter.to_string() };
        let counts =
            [report.n_read, report.n_inserted, report.n_updated, report.n_unchanged, report.n_rejected];
        let [read, inserted, updated, unchanged, rejected] = counts.map(|n| n.to_string());
        let (file, format, encoding) =
            (report.file_name.clone(), report.format.clone(), report.encoding.to_owned());
        [file, format, encoding, delimiter, read, inserted, updated, unchanged, rejected]
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
        if report.dry_run {
            output::say(&format!("{}: dry run: nothing was taken", report.file_name));
        }
    }
    Ok(())
}

/// Says the first rejects of a file, and how many more there are.
pub(super) fn say_rejects(file_name: &str, rejects: &[Reject], n_rejected: u64) {
    for reject in rejects {
        let column = reject.column.as_ref().map(|column| format!(", {column}")).unwrap_or_default();
        output::say(&format!("{file_name}: line {}{column}: {}", reject.line, reject.reason));
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

fn parse_timezone(text: &str) -> Result<Tz, String> {
    text.parse().map_err(|_| "expected a time zone such as Europe/Paris".to_owned())
}
