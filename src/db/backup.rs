//! A copy of the whole database in a file, and back, by Postgres's own tools.
//!
//! In: `pg_dump`, `pg_restore` and `psql` of the server's version, from where the server programs are. Out: a file in `pg_dump`'s custom
//! format, for its owner alone, since it holds everything that is known of the customers; or a database that was empty and now holds what
//! the file does. The password goes through the environment, which only we and root can read, and never into the list of processes.
//!
//! If we die half way, there is no file; and a restore is one transaction with the mark that says that it was one
//! ([`installation`]), so that nothing is sent from a restored database until somebody has said what happened.

use std::ffi::OsString;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;
use nix::fcntl::OFlag;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgPool};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use super::{Database, describe, embedded};
use crate::installation;
use crate::new_file::NewFile;

/// So much is kept of what a tool says.
const LAST_WORDS: usize = 2_000;

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// A backup is not written over another one.
    #[error("{0} is there already; name another file")]
    Exists(PathBuf),
    /// What is there would be mixed with what comes.
    #[error(
        "the database {0} is not empty. A backup is restored into a new one: make one with `createdb` and put its address into jobs.toml, \
         or, for the private Postgres, stop `afterword serve` and move {1} away"
    )]
    NotEmpty(String, String),
}

/// Writes a backup, from one moment, while others go on working. How many bytes it has.
///
/// # Errors
/// [`Refused::Exists`] (inside); when there is no `pg_dump` for this server, it fails, or the file cannot be written.
pub async fn dump(database: &Database, to: &Path) -> anyhow::Result<u64> {
    if std::fs::symlink_metadata(to).is_ok() {
        return Err(Refused::Exists(to.to_owned()).into());
    }
    let tools = tools(&database.pool).await?;
    let file = NewFile::create_private(to)?;
    let mut pg_dump = tool(&tools, "pg_dump", &database.options);
    pg_dump
        .args(["--format=custom", "--no-owner", "--no-privileges"])
        .stdin(Stdio::null())
        .stdout(file.handle()?);
    ended("pg_dump", pg_dump.spawn().context("cannot run pg_dump")?).await?;
    file.sync()?;
    let n_bytes = file.handle()?.metadata()?.len();
    file.publish()?;
    Ok(n_bytes)
}

/// Puts a backup into an empty database, all of it or nothing.
///
/// # Errors
/// [`Refused::NotEmpty`] (inside); when the file is no backup of ours, or the tools fail.
pub async fn restore(database: &Database, from: &Path) -> anyhow::Result<()> {
    let named = || format!("cannot read {}", from.display());
    // Not a device or a pipe: the tools go back and forth in it.
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(from)
        .with_context(named)?;
    if !file.metadata().with_context(named)?.is_file() {
        anyhow::bail!("{} is not a file", from.display());
    }
    if !is_empty(&database.pool).await? {
        let place =
            database.embedded_root().map_or_else(|| "its data".to_owned(), |root| root.display().to_string());
        return Err(Refused::NotEmpty(describe(&database.options), place).into());
    }
    let tools = tools(&database.pool).await?;
    let mut pg_restore = tool(&tools, "pg_restore", &database.options);
    pg_restore.args(["--format=custom", "--no-owner", "--no-privileges", "--file=-"]).arg(from);
    let mut pg_restore =
        pg_restore.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot run pg_restore")?;
    let mut psql = tool(&tools, "psql", &database.options);
    // Terse, because the details of an error quote rows.
    psql.args([
        "--no-psqlrc",
        "--quiet",
        "--single-transaction",
        "--set=ON_ERROR_STOP=1",
        "--set=VERBOSITY=terse",
        "--file=-",
    ]);
    let mut psql = psql.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().context("cannot run psql")?;
    let (Some(mut script), Some(mut taken)) = (pg_restore.stdout.take(), psql.stdin.take()) else {
        anyhow::bail!("the tools cannot be connected to each other");
    };
    let copied = tokio::io::copy(&mut script, &mut taken).await;
    drop(script);
    let read = ended("pg_restore", pg_restore).await;
    if copied.is_ok() && read.is_err() {
        // The end of what it reads would make psql commit; killed, it leaves a transaction that the server rolls back.
        psql.start_kill().ok();
        psql.wait().await.ok();
        return read;
    }
    let marked = async {
        taken.write_all(installation::MARK_RESTORED.as_bytes()).await?;
        taken.shutdown().await
    };
    // A psql that has stopped reading says why.
    let marked = marked.await;
    drop(taken);
    ended("psql", psql).await?;
    copied.and(marked.map(|()| 0)).context("psql did not take everything")?;
    Ok(())
}

/// Whether nothing was made in the database yet.
async fn is_empty(pool: &PgPool) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select not exists (
               select from pg_class c join pg_namespace n on n.oid = c.relnamespace
               where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
           ) as "is_empty!""#
    )
    .fetch_one(pool)
    .await
}

/// Where the tools are.
async fn tools(pool: &PgPool) -> anyhow::Result<PathBuf> {
    let version =
        sqlx::query_scalar!(r#"select current_setting('server_version_num')::int / 10000 as "version!""#)
            .fetch_one(pool)
            .await?;
    embedded::client_programs(u32::try_from(version)?).with_context(|| {
        format!(
            "there are no pg_dump, pg_restore and psql of Postgres {version} or newer: install Debian's postgresql-client, or set \
             PG_BIN_DIR to the directory that holds them"
        )
    })
}

/// A tool that finds the database by its environment.
fn tool(directory: &Path, name: &str, options: &PgConnectOptions) -> Command {
    let mut command = Command::new(directory.join(name));
    for foreign in ["PGSERVICE", "PGHOSTADDR", "PGOPTIONS", "PGPASSWORD"] {
        command.env_remove(foreign);
    }
    command.envs(address(options)).env("PGCONNECT_TIMEOUT", "10").env("PGCLIENTENCODING", "UTF8");
    command.stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Where the database is, in libpq's words.
fn address(options: &PgConnectOptions) -> Vec<(&'static str, OsString)> {
    let user = options.get_username();
    let host = match options.get_socket() {
        Some(socket) => socket.clone().into_os_string(),
        None => options.get_host().into(),
    };
    let mut address = vec![
        ("PGHOST", host),
        ("PGPORT", options.get_port().to_string().into()),
        ("PGUSER", user.into()),
        ("PGDATABASE", options.get_database().unwrap_or(user).into()),
        ("PGAPPNAME", "afterword".into()),
    ];
    // What the options do not tell otherwise.
    let url = options.to_url_lossy();
    if let Some(password) = url.password() {
        let decoded = form_urlencoded::parse(password.as_bytes()).next();
        address.extend(decoded.map(|(password, _)| ("PGPASSWORD", password.into_owned().into())));
    }
    for (key, value) in url.query_pairs() {
        let name = match key.as_ref() {
            "sslmode" => "PGSSLMODE",
            "sslrootcert" => "PGSSLROOTCERT",
            "sslcert" => "PGSSLCERT",
            "sslkey" => "PGSSLKEY",
            _ => continue,
        };
        // sqlx names a certificate as `file: /path`; one that stands in the URL itself libpq could not be given.
        let value = if name == "PGSSLMODE" { Some(&*value) } else { value.strip_prefix("file: ") };
        address.extend(value.map(|value| (name, value.into())));
    }
    address
}

/// Waits for a tool; its last words are the error when it has failed.
async fn ended(name: &str, mut child: Child) -> anyhow::Result<()> {
    let mut said = Vec::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_end(&mut said).await?;
    }
    let status = child.wait().await?;
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said);
    let from = said.char_indices().rev().nth(LAST_WORDS).map_or(0, |(at, _)| at);
    anyhow::bail!("{name} failed ({status}): {}", said[from..].trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::from_url;

    #[test]
    fn the_tools_are_told_what_the_url_says() {
        let url = "postgres://s%40hop:p%2B%40s%20s%25@db.example:6432/orders?sslmode=verify-full&sslrootcert=/etc/ca.pem";
        let address = address(&from_url(url).unwrap());
        for (name, value) in [
            ("PGHOST", "db.example"),
            ("PGPORT", "6432"),
            ("PGUSER", "s@hop"),
            ("PGPASSWORD", "p+@s s%"),
            ("PGDATABASE", "orders"),
            ("PGSSLMODE", "verify-full"),
            ("PGSSLROOTCERT", "/etc/ca.pem"),
        ] {
            let told = address.iter().find(|(other, _)| *other == name);
            assert_eq!(told.and_then(|(_, value)| value.to_str()), Some(value), "{name}");
        }
    }
}
