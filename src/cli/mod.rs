//! What a person types. A file per command; this one holds what they share: the options before the command, the way from jobs.toml to
//! a working [`Context`], and the exit codes.

pub mod adopt;
pub mod alerts;
pub mod bounces;
pub mod check;
pub mod db;
pub mod demo;
pub mod digest;
pub mod erase;
pub mod explain;
pub mod export;
pub mod import;
pub mod init;
pub mod jobs;
pub mod logging;
pub mod metrics;
pub mod migrate;
pub mod outbox;
pub mod output;
pub mod report;
pub mod run;
pub mod serve;
pub mod shell;
pub mod suppress;
pub mod systemd;
pub mod testimonials;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use clap::{Parser, Subcommand};

use self::logging::Attendance;
use crate::config::problem::ConfigError;
use crate::config::{Config, Shop, Unreadable, secret};
use crate::context::{Context, Shops};
use crate::db::Database;
use crate::db::outage::Outage;
use crate::installation;
use crate::mail::templates::Templates;
use crate::metrics::window::{Bound, Window};
use crate::token::Tokens;
use crate::types::{Clock, EmailAddress, ShopId};

/// Asks a shop's customers whether they would recommend it, and keeps, counts and publishes what they answer.
#[derive(Debug, Parser)]
#[command(name = "afterword", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// The options that every command takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE", default_value = "jobs.toml")]
    pub config: PathBuf,
    /// Print JSON instead of tables
    #[arg(long, global = true)]
    pub json: bool,
    /// Do as if it were this moment (2026-03-29T09:00:00Z, or a date)
    #[arg(long, global = true, value_name = "T", value_parser = parse_moment)]
    pub as_of: Option<DateTime<Utc>>,
}

/// The commands, in the order of the help.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the whole way with a made-up shop: orders, mails, answers, figures, testimonials
    Demo(demo::Args),
    /// Write a commented jobs.toml and the secret
    Init(init::Args),
    /// Check the configuration, the templates, the schedules and the database
    Check(check::Args),
    /// Bring the database up to date
    Migrate(migrate::Args),
    /// Back up the database, restore a backup
    Db(db::Args),
    /// Run unattended: the schedule and the pages
    Serve(serve::Args),
    /// Run one job once, now
    Run(run::Args),
    /// What is scheduled, will run, did run
    Jobs(jobs::Args),
    /// Read a file of orders, events, answers or scores, once
    Import(import::Args),
    /// Write testimonials or figures, once
    Export(export::Args),
    /// The figures, with their intervals
    Report(report::Args),
    /// What calls for somebody's attention
    Alerts(alerts::Args),
    /// How it went: what ran, failed, was skipped, rejected, is unknown or overdue
    Digest(digest::Args),
    /// What the nights have counted: count it anew, compare
    Metrics(metrics::Args),
    /// Everything that was decided about an order or a customer, and why
    Explain(explain::Args),
    /// What is queued, deferred or unknown
    Outbox(outbox::Args),
    /// Let mails leave from a database that was moved or restored
    Adopt(adopt::Args),
    /// What came back by mail: say what each message is
    Bounces(bounces::Args),
    /// Whom not to write to any more
    Suppress(suppress::Args),
    /// Look through, approve or reject what may be published
    Testimonials(testimonials::Args),
    /// Erase a person: address, names, words and mails go, the figures stay
    Erase(erase::Args),
    /// Write completions for a shell
    Completions(shell::CompletionsArgs),
    /// Write the manual page
    Man,
}

/// Runs a command and says what went wrong with it.
pub fn main(cli: Cli) -> Exit {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::say(&format!("error: the program cannot start: {error}"));
            return Exit::Failed;
        }
    };
    match runtime.block_on(dispatch(cli)) {
        Ok(exit) => exit,
        Err(error) => match error.downcast::<ConfigError>() {
            Ok(error) => {
                output::say(&format!("{:?}", miette::Report::new(error)));
                Exit::Usage
            }
            Err(error) => {
                output::say(&format!("error: {}", told(&error)));
                if error.is::<Unreadable>() { Exit::Usage } else { Exit::Failed }
            }
        },
    }
}

/// The error and its causes, each said once: some errors repeat their cause in their own words.
fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| {
        if told.is_empty() {
            cause
        } else if told.contains(&cause) {
            told
        } else {
            format!("{told}: {cause}")
        }
    })
}

async fn dispatch(cli: Cli) -> anyhow::Result<Exit> {
    let global = cli.global;
    match cli.command {
        Command::Demo(args) => demo::run(args).await,
        Command::Init(args) => init::run(&args, &global),
        Command::Check(args) => check::run(&args, &global).await,
        Command::Migrate(args) => migrate::run(args, &global).await,
        Command::Db(args) => db::run(args, &global).await,
        Command::Serve(args) => serve::run(args, &global).await,
        Command::Run(args) => run::run(args, &global).await,
        Command::Jobs(args) => jobs::run(args, &global).await,
        Command::Import(args) => import::run(args, &global).await,
        Command::Export(args) => export::run(args, &global).await,
        Command::Report(args) => report::run(args, &global).await,
        Command::Alerts(args) => alerts::run(args, &global).await,
        Command::Digest(args) => digest::run(args, &global).await,
        Command::Metrics(args) => metrics::run(args, &global).await,
        Command::Explain(args) => explain::run(args, &global).await,
        Command::Outbox(args) => outbox::run(args, &global).await,
        Command::Adopt(args) => adopt::run(args, &global).await,
        Command::Bounces(args) => bounces::run(args, &global),
        Command::Suppress(args) => suppress::run(args, &global).await,
        Command::Testimonials(args) => testimonials::run(args, &global).await,
        Command::Erase(args) => erase::run(args, &global).await,
        Command::Completions(args) => shell::completions(&args),
        Command::Man => shell::man(),
    }
}

/// What a command works with, and the database it has to close.
pub struct Opened {
    pub context: Context,
    pub database: Database,
}

impl Opened {
    /// Lets go of the database; the private one stops when nobody else uses it.
    pub async fn close(self) {
        self.database.close().await;
    }
}

/// From jobs.toml to a working context: reads the configuration, opens the database and brings it up to date (or checks that it is).
///
/// # Errors
/// What is wrong with the configuration, the templates, the secret or the database.
pub async fn open(global: &Global) -> anyhow::Result<Opened> {
    let config = Config::load(&global.config)?;
    logging::start(config.app.log_format, Attendance::Attended);
    open_config(config, global.as_of.map_or(Clock::System, Clock::Fixed)).await
}

/// The same from a configuration that was read already.
///
/// # Errors
/// As [`open`].
pub async fn open_config(config: Config, clock: Clock) -> anyhow::Result<Opened> {
    let templates =
        Templates::load(config.app.templates_dir.as_deref()).context("the templates cannot be used")?;
    let tokens = Tokens::new(&secret::load_or_make(&config.app.secret_file)?);
    let database = crate::db::open(&config).await?;
    let pool = database.pool.clone();
    let shops =
        prepare(&database, &config, clock.now()).await.map_err(|error| match Outage::behind(&error) {
            Some(outage @ (Outage::Full | Outage::ReadOnly)) => {
                error.context(format!("{}, so that no job begins until that is over", outage.words()))
            }
            _ => error,
        })?;
    let context = Context {
        config: Arc::new(config),
        pool,
        beside: database.beside.clone(),
        shops: Arc::new(shops),
        templates: Arc::new(templates),
        tokens,
        clock,
        vitals: Arc::default(),
    };
    Ok(Opened { context, database })
}

/// Brings the database up to date, and makes itself and the shops known there.
async fn prepare(database: &Database, config: &Config, now: DateTime<Utc>) -> anyhow::Result<Shops> {
    if config.database.auto_migrate {
        database.migrate().await?;
    } else {
        database.check_schema().await?;
    }
    let shops = Shops::store(&database.pool, config).await?;
    installation::introduce(&mut *database.pool.acquire().await?, now).await?;
    Ok(shops)
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0
    Done,
    /// 1: it did not work.
    Failed,
    /// 2: the command or the configuration is wrong.
    Usage,
    /// 3: some rows were rejected, some mails failed; the rest is done.
    Partial,
    /// 4: already running, paused, wrong database.
    Refused,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Partial => 3,
            Exit::Refused => 4,
        })
    }
}

/// The shops of `--shop`, or all; `None` when there is none of this name, which the person has then been told.
fn shops<'a>(context: &'a Context, key: Option<&str>) -> Option<Vec<(ShopId, &'a Shop)>> {
    context.shops.named(key).inspect_err(|unknown| output::say(&format!("error: {unknown}"))).ok()
}

/// The window of `--from` and `--to`; `None` when it is empty for one of these shops, which the person has then been told.
fn window(
    from: Option<Bound>,
    to: Option<Bound>,
    shops: &[(ShopId, &Shop)],
    as_of: DateTime<Utc>,
) -> Option<Window> {
    let window = Window { from, to };
    window
        .check(shops.iter().map(|(_, shop)| shop.timezone), as_of)
        .inspect_err(|empty| output::say(&format!("error: {empty}")))
        .ok()
        .map(|()| window)
}

/// Reads a mail address.
fn address(text: &str) -> Result<EmailAddress, String> {
    EmailAddress::parse(text).map_err(|wrong| format!("it {wrong}"))
}

/// Reads a moment as RFC 3339, or a date as its first moment in UTC.
fn parse_moment(text: &str) -> Result<DateTime<Utc>, String> {
    text.parse::<Bound>().map(|bound| bound.at(Tz::UTC))
}
