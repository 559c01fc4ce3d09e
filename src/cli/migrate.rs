//! `afterword migrate`

use super::logging::Attendance;
use super::{Exit, Global, logging, output};
use crate::config::Config;
use crate::db;

/// Bring the database up to date
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  afterword migrate\n\nWith `auto_migrate = true` every command does this by itself."
)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// When the database cannot be reached or brought up to date.
pub async fn run(_: Args, global: &Global) -> anyhow::Result<Exit> {
    let config = Config::load(&global.config)?;
    logging::start(config.app.log_format, Attendance::Attended);
    let database = db::open(&config).await?;
    let migrated = database.migrate().await;
    database.close().await;
    migrated?;
    output::say("The database is up to date.");
    Ok(Exit::Done)
}
