//! What is no longer needed goes, in every stage, as `[retention]` says; the figures stay.
//!
//! Goes: the words of old answers, what was replied to them and the names given with them; address and names of customers of whom nothing was heard for long; what
//! relays and mail systems said, notes about visits, rows that could not be taken, and messages to the shop's own people; files that were
//! imported, and mails that were written as files; rows of the ledger. Stays: orders, decisions, scores and choices, all that is counted (runs
//! in `job_tally`), and the hashes of the do-not-contact list. What is published stays until `[testimonials] retain`.
//!
//! A table is walked in the order of its keys, so many rows a transaction, so that nobody waits for long and whoever dies half way has only
//! to begin again: what has gone is not found a second time. A dry run walks the same way with the same statements, which then only count.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use nix::fcntl::OFlag;
use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Retention, SuppressedAddresses};
use crate::db::{self, Turn};
use crate::types::ShopId;

/// So many rows are looked at in one transaction.
const BATCH: i64 = 2000;
/// So many imports, because each may have left many rows behind.
const RUNS: i64 = 10;

/// What went, or would go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Purged {
    /// Of whom neither address nor name is left.
    pub n_customers: u64,
    /// Answers in words, and what the shop replied to them.
    pub n_texts: u64,
    /// Names that were given with an answer.
    pub n_names: u64,
    /// What relays said, and what else was in the way of a mail.
    pub n_replies: u64,
    /// What mail systems wrote.
    pub n_reports: u64,
    /// Notes about visits.
    pub n_visits: u64,
    /// Rows that could not be taken, or whose order has not come.
    pub n_rejects: u64,
    /// Messages to the shop's own people.
    pub n_messages: u64,
    /// Rows of the ledger of the jobs.
    pub n_runs: u64,
    /// Hashes of the do-not-contact list.
    pub n_suppressed: u64,
    /// Files that were imported, and mails that were written as files.
    pub n_files: u64,
    /// What was left for the next run, because this one was to stop or an import was under way; or a folder that is none of ours.
    pub left: Option<String>,
}

/// From before when what goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    pub responses: DateTime<Utc>,
    pub customers: DateTime<Utc>,
    pub traces: DateTime<Utc>,
    pub runs: DateTime<Utc>,
    /// What was published from then on stays.
    pub published: DateTime<Utc>,
}

impl Limits {
    /// As of `now`.
    pub fn of(retention: &Retention, config: &Config, now: DateTime<Utc>) -> Self {
        Self {
            responses: now - retention.responses,
            customers: now - retention.customers,
            traces: now - retention.traces,
            runs: now - retention.runs,
            published: now - config.testimonials.retain.unwrap_or(retention.responses),
        }
    }
}

/// What is walked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Words,
    Customers,
    Replies,
    Rejections,
    Reports,
    Visits,
    Rejects,
    Aside,
    Messages,
}

impl Step {
    const ALL: [Self; 9] = [
        Self::Words,
        Self::Customers,
        Self::Replies,
        Self::Rejections,
        Self::Reports,
        Self::Visits,
        Self::Rejects,
        Self::Aside,
        Self::Messages,
    ];

    /// How many rows of its table are looked at in one transaction.
    fn batch(self) -> i64 {
        if self == Self::Rejects { RUNS } else { BATCH }
    }
}

/// What became of one batch.
struct Batch {
    n_looked: i64,
    /// The key of the last row that was looked at.
    last: Option<i64>,
    last_minor: Option<i64>,
    n: i64,
    n_names: i64,
}

/// A folder into which files were put that are no longer needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutAway {
    pub folder: PathBuf,
    /// How the names of these files begin and end, where others may have put theirs into the same folder; empty: all are of them.
    pub beginning: String,
    pub ending: &'static str,
}

impl PutAway {
    /// All files of a folder of our own.
    pub fn all_of(folder: PathBuf) -> Self {
        Self { folder, beginning: String::new(), ending: "" }
    }

    /// Those of the folders into which jobs put what they have read, below this one.
    pub fn below(folder: &Path) -> [Self; 3] {
        ["done", "failed", "aside"].map(|put_away| Self::all_of(folder.join(put_away)))
    }

    fn holds(&self, name: &OsStr) -> bool {
        let name = name.as_bytes();
        name.starts_with(self.beginning.as_bytes()) && name.ends_with(self.ending.as_bytes())
    }
}

/// A round through everything.
#[derive(Debug, Clone, Copy)]
pub struct Round<'a> {
    pub pool: &'a PgPool,
    pub config: &'a Config,
    pub retention: &'a Retention,
    /// Where jobs put files that they have read.
    pub put_away: &'a [PutAway],
    pub now: DateTime<Utc>,
    /// Change nothing.
    pub only_count: bool,
}

/// Lets go of what these shops no longer need.
///
/// # Errors
/// When the database does not answer, or a file cannot be looked at or removed.
pub async fn purge(
    round: Round<'_>,
    shops: &[ShopId],
    stop: &CancellationToken,
) -> anyhow::Result<(Purged, Limits)> {
    let Round { pool, config, retention, put_away, now, only_count } = round;
    let limits = Limits::of(retention, config, now);
    let mut purged = Purged::default();
    for shop in shops {
        for step in Step::ALL {
            walk(round, step, *shop, limits, stop, &mut purged).await?;
        }
    }
    if stop.is_cancelled() {
        purged.left = Some("the run was to stop".to_owned());
        return Ok((purged, limits));
    }
    purged.n_messages += reports(pool, limits.traces, only_count).await?;
    purged.n_runs = runs(pool, limits, only_count, stop).await?;
    if stop.is_cancelled() {
        purged.left = Some("the run was to stop".to_owned());
        return Ok((purged, limits));
    }
    if let SuppressedAddresses::For(time) = retention.suppressed_addresses {
        // Shop 0 is every shop.
        for shop in shops.iter().map(|shop| shop.0).chain([0]) {
            purged.n_suppressed += suppressed(pool, shop, now - time, only_count).await?;
        }
    }
    let mails = vec![PutAway::all_of(config.outbox_dir())];
    for (folders, age) in [(mails, Some(retention.traces)), (put_away.to_vec(), retention.files)] {
        let Some(before) = age.map(|age| now - age) else { continue };
        let removed = tokio::task::spawn_blocking(move || files(&folders, before.into(), only_count));
        let (n, links) = removed.await??;
        purged.n_files += n;
        if let Some(link) = links.first() {
            purged.left = Some(format!("{} is a link, and links are not followed", link.display()));
        }
    }
    Ok((purged, limits))
}

/// Through one table of one shop.
async fn walk(
    round: Round<'_>,
    step: Step,
    shop: ShopId,
    limits: Limits,
    stop: &CancellationToken,
    purged: &mut Purged,
) -> anyhow::Result<()> {
    let mut behind = (0, 0);
    while !stop.is_cancelled() {
        let mut tx = round.pool.begin().await?;
        if step == Step::Customers && !round.only_count {
            // An import that has looked for its customers already would give one of them an order meanwhile.
            if let Err(error) = db::take_turn(&mut tx, Turn::Imports, shop).await {
                if !is_busy(&error) {
                    return Err(error.into());
                }
                purged.left = Some("an import was under way".to_owned());
                return Ok(());
            }
        }
        let batch = look(&mut tx, step, shop, behind, limits, round).await?;
        tx.commit().await?;
        let n = u64::try_from(batch.n)?;
        match step {
            Step::Words => {
                purged.n_texts += n;
                purged.n_names += u64::try_from(batch.n_names)?;
            }
            Step::Customers => purged.n_customers += n,
            Step::Replies | Step::Rejections => purged.n_replies += n,
            Step::Reports => purged.n_reports += n,
            Step::Visits => purged.n_visits += n,
            Step::Rejects | Step::Aside => purged.n_rejects += n,
            Step::Messages => purged.n_messages += n,
        }
        match batch.last {
            Some(last) if batch.n_looked == step.batch() => {
                behind = (last, batch.last_minor.unwrap_or_default());
            }
            _ => break,
        }
    }
    Ok(())
}

/// Whether somebody else had the turn for too long.
fn is_busy(error: &sqlx::Error) -> bool {
    db::is_code(error, "55P03")
}

/// One batch of a table, behind this key.
async fn look(
    conn: &mut PgConnection,
    step: Step,
    shop: ShopId,
    (behind, minor): (i64, i64),
    limits: Limits,
    Round { now, only_count, .. }: Round<'_>,
) -> sqlx::Result<Batch> {
    let Limits { responses, customers, traces, published, .. } = limits;
    let n = step.batch();
    macro_rules! batch {
        ($file:literal, $($argument:expr),*) => {
            sqlx::query_file_as!(Batch, $file, $($argument),*).fetch_one(conn).await
        };
    }
    match step {
        Step::Words => {
            batch!("src/retention/words.sql", shop.0, behind, n, responses, traces, published, only_count)
        }
        Step::Customers => {
            batch!("src/retention/customers.sql", shop.0, behind, n, customers, published, only_count, now)
        }
        Step::Replies => batch!("src/retention/attempts.sql", shop.0, behind, minor, n, traces, only_count),
        Step::Rejections => batch!("src/retention/rejections.sql", shop.0, behind, n, traces, only_count),
        Step::Reports => batch!("src/retention/bounces.sql", shop.0, behind, n, traces, only_count),
        Step::Visits => batch!("src/retention/visits.sql", shop.0, behind, minor, n, traces, only_count),
        Step::Rejects => batch!("src/retention/rejects.sql", shop.0, behind, n, traces, only_count),
        Step::Aside => batch!("src/retention/aside.sql", shop.0, behind, n, traces, only_count),
        Step::Messages => batch!("src/retention/messages.sql", shop.0, behind, n, traces, only_count),
    }
}

/// Who was sent which report, from before then; a handful of rows a week.
async fn reports(pool: &PgPool, before: DateTime<Utc>, only_count: bool) -> sqlx::Result<u64> {
    let n = sqlx::query_scalar!(
        r#"with due as (select job_run_id, recipient_hash from report_delivery where begun_at < $1),
           gone as (
               delete from report_delivery d using due
               where not $2::boolean and d.job_run_id = due.job_run_id and d.recipient_hash = due.recipient_hash
           )
           select count(*) as "n!" from due"#,
        before,
        only_count,
    )
    .fetch_one(pool)
    .await?;
    Ok(u64::try_from(n).unwrap_or_default())
}

/// Rows of the ledger, which is of no shop. They come last of the tables, because a letter may refer to one.
async fn runs(
    pool: &PgPool,
    limits: Limits,
    only_count: bool,
    stop: &CancellationToken,
) -> anyhow::Result<u64> {
    let (mut n, mut behind) = (0, 0);
    while !stop.is_cancelled() {
        let Limits { runs, traces, .. } = limits;
        let batch =
            sqlx::query_file_as!(Batch, "src/retention/runs.sql", behind, BATCH, runs, traces, only_count)
                .fetch_one(pool)
                .await?;
        n += u64::try_from(batch.n)?;
        match batch.last {
            Some(last) if batch.n_looked == BATCH => behind = last,
            _ => break,
        }
    }
    Ok(n)
}

/// The hashes that were put on a list before then.
async fn suppressed(pool: &PgPool, shop: i32, before: DateTime<Utc>, only_count: bool) -> sqlx::Result<u64> {
    let n = sqlx::query_scalar!(
        r#"with due as (select address_hash from suppression where shop_id = $1 and created_at < $2),
           gone as (
               delete from suppression s using due
               where not $3::boolean and s.shop_id = $1 and s.address_hash = due.address_hash
           )
           select count(*) as "n!" from due"#,
        shop,
        before,
        only_count,
    )
    .fetch_one(pool)
    .await?;
    Ok(u64::try_from(n).unwrap_or_default())
}

/// Removes the files that lie in these folders since before then. Comes back with how many, and with the folders that are links.
fn files(folders: &[PutAway], before: SystemTime, only_count: bool) -> anyhow::Result<(u64, Vec<PathBuf>)> {
    let (mut n, mut links) = (0, Vec::new());
    for put_away in folders {
        let removed = files_of(put_away, before, only_count)
            .with_context(|| format!("letting go of old files in {}", put_away.folder.display()))?;
        match removed {
            Some(removed) => n += removed,
            None => links.push(put_away.folder.clone()),
        }
    }
    Ok((n, links))
}

/// `None`: it is a link. Whoever may write to an inbox could have put it there, and lead us to files of others.
fn files_of(put_away: &PutAway, before: SystemTime, only_count: bool) -> io::Result<Option<u64>> {
    let folder = &put_away.folder;
    let flags = (OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits();
    let opened = match OpenOptions::new().read(true).custom_flags(flags).open(folder) {
        Err(_) if folder.symlink_metadata().is_ok_and(|folder| folder.is_symlink()) => return Ok(None),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Some(0));
        }
        opened => opened?,
    };
    // By what was opened and not by its name, under which something else may lie by now.
    let entries = std::fs::read_dir(format!("/proc/self/fd/{}", opened.as_raw_fd()))?;
    let mut n = 0;
    for entry in entries {
        let entry = entry?;
        if !put_away.holds(&entry.file_name()) {
            continue;
        }
        // Of a link, the link's own; where it leads is nobody's business.
        let metadata = entry.metadata()?;
        // Written, or moved to where it lies.
        let moved =
            SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(metadata.ctime()).unwrap_or_default());
        if metadata.is_file() && metadata.modified()?.max(moved) < before {
            if !only_count {
                std::fs::remove_file(entry.path())?;
            }
            n += 1;
        }
    }
    Ok(Some(n))
}
