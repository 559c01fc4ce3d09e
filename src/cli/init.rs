//! `afterword init`

use std::fs;
use std::io::Write as _;

use anyhow::Context as _;

use super::{Exit, Global, output};
use crate::config::{Config, secret};

/// The configuration that is shipped, with every key explained.
pub const SHIPPED: &str = include_str!("../../jobs.toml");

/// Write a commented jobs.toml and the secret
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  afterword init\n  afterword --config /etc/afterword/jobs.toml init")]
pub struct Args {}

/// Runs the command. It never replaces a file.
///
/// # Errors
/// When a file cannot be written.
pub fn run(_: &Args, global: &Global) -> anyhow::Result<Exit> {
    let path = &global.config;
    let config = Config::parse(path, SHIPPED)?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    match fs::OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => {
            file.write_all(SHIPPED.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            output::say(&format!("{} is there already; nothing was written.", path.display()));
            return Ok(Exit::Refused);
        }
        Err(error) => return Err(error).with_context(|| format!("cannot write {}", path.display())),
    }
    secret::load_or_make(&config.app.secret_file)?;
    output::say(&format!(
        "Wrote {} and the secret {}.\n\
         Next: put your shop into it, then\n\
         \n\
         \x20 afterword check       shows mistakes with their line, and when each job will run\n\
         \x20 afterword import orders orders.csv --shop maison\n\
         \x20 afterword run send-invitations --dry-run\n\
         \x20 afterword serve       runs the schedule and the pages",
        path.display(),
        config.app.secret_file.display(),
    ));
    Ok(Exit::Done)
}
