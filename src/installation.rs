//! Whether the database is the one that this installation has been sending from.
//!
//! A copy of a database (a clone for tests, a restored backup) holds mails that wait, and knows nothing of those that left since it was
//! made. Whoever sent from it would mail people twice. So the database carries its fingerprint, which a copy elsewhere does not fit, and
//! a mark that grows with every run that sends; the last mark lies in a file under `data_dir`, too, and a database that was set back is
//! behind it. A run that finds either refuses, until somebody says what happened: `afterword adopt`.
//!
//! Limits: a machine that was set back as a whole, with its files and its database, finds nothing wrong. Several instances each keep a
//! file of their own; one that has never sent knows no mark.
//!
//! If we die between the mark in the database and the one in the file, the file is behind, which is in order.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use sqlx::{Connection as _, PgConnection, PgPool};

use crate::config::Config;
use crate::invitations::outbox;
use crate::new_file::NewFile;

/// Why nothing may be sent from this database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// It carries the fingerprint of another one.
    #[error(
        "this database is a copy: it was made from, or restored out of, one on another server or with another name. \
         No mail leaves from it until you say which it is: `afterword adopt --moved` when the old one is gone for good, \
         `afterword adopt --restored` when mails may have left since the copy was made"
    )]
    Copied,
    /// It has lost the latest runs.
    #[error(
        "this database was set back: it does not know the last runs that sent from here. No mail leaves from it until you say so: \
         `afterword adopt --restored` lists as unknown what it may have mailed before, and asks about no order that was due until now"
    )]
    SetBack,
}

/// What happened to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// It went to another place, and nothing was sent since: what waits may be mailed.
    Moved,
    /// It was restored: what waits may have been mailed already, and what was due since may have been asked.
    Restored,
}

/// Whether mails may leave from this database; and until when orders may have been asked by a past it has lost. Changes nothing.
///
/// # Errors
/// [`Foreign`] (inside) when nothing may be sent; or when the database or the file under `data_dir` cannot be read.
pub async fn check(conn: &mut PgConnection, config: &Config) -> anyhow::Result<Option<DateTime<Utc>>> {
    // The file first: another run may leave its mark meanwhile, in the database before the file.
    let left = read_mark(&path(config))?;
    let known = sqlx::query!("select fingerprint, mark, asked_until from installation")
        .fetch_optional(&mut *conn)
        .await?;
    if known.as_ref().is_some_and(|known| left.is_some_and(|left| left > known.mark)) {
        return Err(Foreign::SetBack.into());
    }
    let fingerprint = fingerprint(conn).await?;
    if known.as_ref().is_some_and(|known| known.fingerprint != fingerprint) {
        return Err(Foreign::Copied.into());
    }
    Ok(known.and_then(|known| known.asked_until))
}

/// Leaves the mark of a run that is about to send: in the database, then in the file. The first run makes the database the
/// installation's. The connection is in no transaction, so that the one is committed before the other is written.
///
/// # Errors
/// When one of them cannot be written; then nothing may be sent.
pub async fn leave_mark(conn: &mut PgConnection, config: &Config, now: DateTime<Utc>) -> anyhow::Result<()> {
    // Of the time, so that it is ahead of every file's after an adoption, whatever a restored database has forgotten.
    let mark = sqlx::query_scalar!(
        "insert into installation as i (fingerprint, mark, adopted_at)
         values ($1, (extract(epoch from clock_timestamp()) * 1000)::bigint, $2)
         on conflict (is_only) do update set mark = greatest(i.mark + 1, excluded.mark)
         returning mark",
        fingerprint(conn).await?,
        now,
    )
    .fetch_one(conn)
    .await?;
    write_mark(&path(config), mark)
}

/// Makes this database the installation's. How many mails waited, of which nobody can know any more whether they left.
///
/// # Errors
/// [`Foreign::SetBack`] (inside) when it is said to have moved, and does not know the last runs that sent from here; or when the database
/// or the file cannot be written.
pub async fn adopt(
    pool: &PgPool,
    config: &Config,
    happened: Happened,
    now: DateTime<Utc>,
) -> anyhow::Result<u64> {
    let mut conn = pool.acquire().await?;
    if happened == Happened::Moved
        && let Err(error) = check(&mut conn, config).await
        && error.downcast_ref::<Foreign>() != Some(&Foreign::Copied)
    {
        return Err(error);
    }
    let fingerprint = fingerprint(&mut conn).await?;
    let asked_until = (happened == Happened::Restored).then_some(now);
    let mut transaction = conn.begin().await?;
    sqlx::query!(
        "insert into installation as i (fingerprint, mark, adopted_at, asked_until) values ($1, 0, $2, $3)
         on conflict (is_only) do update
         set fingerprint = excluded.fingerprint, adopted_at = excluded.adopted_at,
             asked_until = coalesce(excluded.asked_until, i.asked_until)",
        fingerprint,
        now,
        asked_until,
    )
    .execute(&mut *transaction)
    .await?;
    let n_doubted = match happened {
        Happened::Moved => 0,
        Happened::Restored => outbox::doubt_all(&mut transaction, now).await?,
    };
    transaction.commit().await?;
    leave_mark(&mut conn, config, now).await?;
    Ok(n_doubted)
}

/// The server's own number, when it tells it, and the database's: a database that is dropped and made again has another.
async fn fingerprint(conn: &mut PgConnection) -> sqlx::Result<String> {
    let database = sqlx::query!(
        r#"select datname::text as "name!", oid::bigint as "oid!",
               has_function_privilege('pg_catalog.pg_control_system()', 'execute') as "tells!"
           from pg_database where datname = current_database()"#
    )
    .fetch_one(&mut *conn)
    .await?;
    let server = if database.tells {
        sqlx::query_scalar!(r#"select system_identifier as "server!" from pg_control_system()"#)
            .fetch_one(conn)
            .await?
    } else {
        0
    };
    Ok(format!("{server}/{}/{}", database.oid, database.name))
}

fn path(config: &Config) -> PathBuf {
    config.app.data_dir.join("installation")
}

fn read_mark(path: &Path) -> anyhow::Result<Option<i64>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mark = text.trim().parse();
    mark.map(Some)
        .with_context(|| format!("{} does not hold the number that was written there", path.display()))
}

fn write_mark(path: &Path, mark: i64) -> anyhow::Result<()> {
    // Two jobs of one process would write beside the file under the same name.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut file = NewFile::create(path)?;
    writeln!(file, "{mark}")?;
    file.sync()?;
    Ok(file.publish()?)
}
