//! `afterword db`: a backup of the database, and back.

use std::path::PathBuf;

use super::logging::Attendance;
use super::{Exit, Global, logging, output};
use crate::config::Config;
use crate::db::backup::{self, Refused};
use crate::db::{self, Database};

/// Back up the database, restore a backup
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  afterword db dump /var/backups/afterword-$(date +%F).dump\n  \
    afterword db restore /var/backups/afterword-2026-03-12.dump\n\n\
    The file is in pg_dump's custom format, for its owner alone (mode 0600); it holds everything that is known of the customers.\n\
    The key that signs all links is not in the database: keep a copy of [app] secret_file, too.\n\
    A restored database sends nothing until `afterword adopt` says what happened.")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Write everything into a file, while others go on working
    Dump {
        /// The file, which must not be there yet
        file: PathBuf,
    },
    /// Put a backup into an empty database
    Restore {
        /// What `db dump`, or `pg_dump --format=custom`, has written
        file: PathBuf,
    },
}

/// Runs the command.
///
/// # Errors
/// When the database, the file or Postgres's tools cannot be used.
pub async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let config = Config::load(&global.config)?;
    logging::start(config.app.log_format, Attendance::Attended);
    let database = db::open(&config).await?;
    let done = act(&args.action, &config, &database).await;
    database.close().await;
    match done {
        Err(error) if error.is::<Refused>() => {
            output::say(&format!("error: {error}"));
            Ok(Exit::Refused)
        }
        done => done.map(|()| Exit::Done),
    }
}

async fn act(action: &Action, config: &Config, database: &Database) -> anyhow::Result<()> {
    match action {
        Action::Dump { file } => {
            let n_bytes = backup::dump(database, file).await?;
            output::say(&format!("The backup is in {} ({n_bytes} bytes).", file.display()));
        }
        Action::Restore { file } => {
            backup::restore(database, file).await?;
            if config.database.auto_migrate {
                database.migrate().await?;
            } else {
                database.check_schema().await?;
            }
            output::say(
                "The backup is restored. Nothing is sent until you say what happened: `afterword adopt --restored`, or `--moved` when \
                 nothing was sent after the backup was made.",
            );
        }
    }
    Ok(())
}
