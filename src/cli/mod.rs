//! What a person types. A file per command; this one holds what they share: the options before the command, the way from jobs.toml to
//! a working [`Context`], and the exit codes.

pub mod output;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use clap::{Parser, Subcommand};

use crate::context::{Context, Shops};
use crate::types::Clock;

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
pub enum Command {}

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

/// Reads a moment as RFC 3339, or a date as its first moment in UTC.
fn parse_moment(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        return Ok(moment.to_utc());
    }
    let date: chrono::NaiveDate = text.parse().map_err(|_| {
        "expected a moment such as 2026-03-29T09:00:00Z or a date such as 2026-03-29".to_owned()
    })?;
    Ok(date.and_time(chrono::NaiveTime::MIN).and_utc())
}
