//! Whether the database is the one that this installation has been sending from.
//!
//! A copy of a database (a clone for tests, a restored backup) holds mails that wait, and knows nothing of those that left since it was
//! made. Whoever sent from it would mail people twice. So the database carries its fingerprint, which a copy elsewhere does not fit, and
//! a mark that grows while mails are sent; the last mark lies in a file under `data_dir`, too. A database that was set back is behind the
//! file, and one that was copied with its server has a mark where the file is missing, or is another machine's. A run that finds any of
//! these refuses, until somebody says what happened: `afterword adopt`.
//!
//! Limits: a machine that was set back as a whole, with its files and its database, finds nothing wrong. A new instance beside others has no
//! file either, and is adopted once.
//!
//! If we die between the mark in the database and the one in the file, the file is behind, which is in order.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use sqlx::{Connection as _, PgConnection, PgPool};

use crate::config::Config;
use crate::invitations::outbox;
use crate::metrics::alerts::store;
use crate::new_file::NewFile;
use crate::testimonials::rejection;

/// Marks a database as restored, in the transaction that restores it: as if it carried the fingerprint of another one, until it is adopted.
/// For psql, which has no parameters to give.
pub const MARK_RESTORED: &str = "\nreset search_path;\n\
    insert into installation (fingerprint, mark, adopted_at) values ('restored', 0, now())\n\
    on conflict (is_only) do update set fingerprint = excluded.fingerprint;\n";
/// The fingerprint that [`MARK_RESTORED`] writes; a real one has slashes.
const RESTORED: &str = "restored";

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
    /// It came out of a backup, by our own hand.
    #[error(
        "this database was restored from a backup. No mail leaves from it until you say so: `afterword adopt --restored` lists as unknown \
         what it may have mailed since the backup was made, and asks about no order that was due until now; `afterword adopt --moved` is \
         for a backup after which nothing more was sent, anywhere"
    )]
    Restored,
    /// Mails were sent from it, and not from here.
    #[error(
        "mails were sent from this database before, and not from this machine and data_dir: it may be a copy, with its server, of one \
         that still sends. No mail leaves from it until you say which it is: `afterword adopt --moved` when this is the only one, or an \
         instance beside others on the same database, `afterword adopt --restored` when mails may have left since a copy was made"
    )]
    Elsewhere,
    /// It has lost the latest runs.
    #[error(
        "this database was set back: it does not know the last mails that were sent from here. No mail leaves from it until you say so: \
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

/// Makes a database that no installation has yet this one's, so that a copy of it is known for one even before the first mail.
///
/// # Errors
/// When the database does not answer.
pub async fn introduce(conn: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<()> {
    let is_known = sqlx::query_scalar!(r#"select exists (select from installation) as "is_known!""#)
        .fetch_one(&mut *conn)
        .await?;
    if !is_known {
        sqlx::query!(
            "insert into installation (fingerprint, mark, adopted_at) values ($1, 0, $2) on conflict do nothing",
            fingerprint(conn).await?,
            now,
        )
        .execute(conn)
        .await?;
    }
    Ok(())
}

/// Whether mails may leave from this database; and until when orders may have been asked by a past it has lost. Changes nothing.
///
/// # Errors
/// [`Foreign`] (inside) when nothing may be sent; or when the database or the file under `data_dir` cannot be read.
pub async fn check(conn: &mut PgConnection, config: &Config) -> anyhow::Result<Option<DateTime<Utc>>> {
    let fingerprint = fingerprint(conn).await?;
    let file = File::of(config, &fingerprint);
    // The very first run of an installation may be between the mark in the database and the one in the file.
    for pause in [50, 100, 200, 400, 800, 0] {
        // The file first: another run may leave its mark meanwhile, in the database before the file.
        let left = file.read()?;
        let known = sqlx::query!("select fingerprint, mark, asked_until from installation")
            .fetch_optional(&mut *conn)
            .await?;
        // A database that was never opened by a command.
        let Some(known) = known else { return Ok(None) };
        if known.fingerprint == RESTORED {
            return Err(Foreign::Restored.into());
        }
        if known.fingerprint != fingerprint {
            return Err(Foreign::Copied.into());
        }
        match left {
            Some(left) if left.machine != machine() => return Err(Foreign::Elsewhere.into()),
            Some(left) if left.mark > known.mark => return Err(Foreign::SetBack.into()),
            Some(_) => return Ok(known.asked_until),
            // Nothing was sent yet.
            None if known.mark == 0 => return Ok(known.asked_until),
            None => tokio::time::sleep(Duration::from_millis(pause)).await,
        }
    }
    Err(Foreign::Elsewhere.into())
}

/// Leaves the mark of mails that are about to be sent: in the database, then in the file. `after`: the mark that this run left last, which
/// the database still has to know. The first mark makes the database the installation's. The connection is in no transaction, so that the
/// one is committed before the other is written.
///
/// # Errors
/// [`Foreign::SetBack`] (inside) when the database has lost the last mark; or when one of the two cannot be written. Then nothing may be
/// sent.
pub async fn leave_mark(
    conn: &mut PgConnection,
    config: &Config,
    after: Option<i64>,
    now: DateTime<Utc>,
) -> anyhow::Result<i64> {
    let fingerprint = fingerprint(conn).await?;
    // Of the time, so that it is ahead of every file's after an adoption, whatever a restored database has forgotten.
    let mark = sqlx::query_scalar!(
        "insert into installation as i (fingerprint, mark, adopted_at)
         values ($1, (extract(epoch from clock_timestamp()) * 1000)::bigint, $2)
         on conflict (is_only) do update set mark = greatest(i.mark + 1, excluded.mark) where i.mark >= $3
         returning mark",
        fingerprint,
        now,
        after.unwrap_or_default(),
    )
    .fetch_optional(conn)
    .await?
    .ok_or(Foreign::SetBack)?;
    File::of(config, &fingerprint).write(mark)?;
    Ok(mark)
}

/// Brings the file of an instance that has sent before up to the mark that others have left since, so that it, too, notices a database
/// that was set back.
///
/// # Errors
/// When the database or the file cannot be read or written.
pub async fn keep_up(pool: &PgPool, config: &Config) -> anyhow::Result<()> {
    let mut conn = pool.acquire().await?;
    let file = File::of(config, &fingerprint(&mut conn).await?);
    let Some(left) = file.read()? else { return Ok(()) };
    let mark = sqlx::query_scalar!("select mark from installation").fetch_optional(&mut *conn).await?;
    match mark {
        Some(mark) if mark > left.mark && left.machine == machine() => file.write(mark),
        _ => Ok(()),
    }
}

/// The mails that waited in a database that was restored, of which nobody can know any more whether they left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Doubted {
    /// To customers.
    pub n_invitations: u64,
    /// To authors whose words were rejected.
    pub n_rejections: u64,
    /// To the shop's own people.
    pub n_alerts: u64,
}

/// Makes this database the installation's.
///
/// # Errors
/// [`Foreign::SetBack`] (inside) when it is said to have moved, and does not know the last mails that were sent from here; or when the
/// database or the file cannot be written.
pub async fn adopt(
    pool: &PgPool,
    config: &Config,
    happened: Happened,
    now: DateTime<Utc>,
) -> anyhow::Result<Doubted> {
    let mut conn = pool.acquire().await?;
    if happened == Happened::Moved
        && let Err(error) = check(&mut conn, config).await
        && !matches!(error.downcast_ref(), Some(Foreign::Copied | Foreign::Restored | Foreign::Elsewhere))
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
    // A link in a mail names an invitation by its number. Those that were given in the time that was lost must not be given again, to
    // somebody else; the time is beyond all of them, and beyond those of another restore.
    sqlx::query_scalar!(
        "select setval(pg_get_serial_sequence('invitation', 'invitation_id'), greatest(
             (select max(invitation_id) from invitation), (extract(epoch from clock_timestamp()) * 1000)::bigint
         ))"
    )
    .fetch_one(&mut *transaction)
    .await?;
    let doubted = match happened {
        Happened::Moved => Doubted::default(),
        Happened::Restored => Doubted {
            n_invitations: outbox::doubt_all(&mut transaction, now).await?,
            n_rejections: rejection::doubt_all(&mut transaction, now).await?,
            n_alerts: store::doubt_all(&mut transaction, now).await?,
        },
    };
    transaction.commit().await?;
    leave_mark(&mut conn, config, None, now).await?;
    Ok(doubted)
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

/// Where the system keeps a number of its own that a clone is given anew; empty where it has none.
fn machine() -> String {
    std::fs::read_to_string("/etc/machine-id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// The file under `data_dir` for one database: the last mark, and the machine it was left on.
struct File(PathBuf);

struct Left {
    mark: i64,
    machine: String,
}

impl File {
    fn of(config: &Config, fingerprint: &str) -> Self {
        let mut name = String::new();
        for byte in &Sha256::digest(fingerprint)[..6] {
            let _ = write!(name, "{byte:02x}");
        }
        Self(config.app.data_dir.join("installation").join(name))
    }

    fn read(&self) -> anyhow::Result<Option<Left>> {
        let text = match std::fs::read_to_string(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", self.0.display())),
        };
        let (mark, machine) = text.trim_end().split_once(' ').unwrap_or((text.trim_end(), ""));
        let mark = mark.parse().with_context(|| {
            format!("{} does not hold the number that was written there", self.0.display())
        })?;
        Ok(Some(Left { mark, machine: machine.to_owned() }))
    }

    fn write(&self, mark: i64) -> anyhow::Result<()> {
        // Two jobs of one process would write beside the file under the same name.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever runs the next job has to read it, and it tells nobody anything.
        let mut file = NewFile::create_public(&self.0)?;
        writeln!(file, "{mark} {}", machine())?;
        file.sync()?;
        Ok(file.publish()?)
    }
}
