//! When the database is at fault, and not what was asked of it: it does not answer, its disk is full, or it takes no writes.
//!
//! Comes in: errors, from whoever met them. Goes out: whether jobs may begin. The first error of an outage is logged, the others say
//! nothing new; while it lasts no job begins, and now and then the database is asked to do what it refused. Nothing of this is in the
//! database, which could not take it: each process finds out by itself, and a new one begins without knowing anything.
//!
//! Who got no connection in time does not know why: all may have been in use, which is no outage, or none could be made. So it is only
//! counted, and the next who wants to know whether jobs may begin asks over a connection of its own.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::Instant;

use crate::masked;

/// The first waits between two questions whether it is over; each is twice the one before, up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// A disk or a setting that comes back within this time had never been over.
const RELAPSE: Duration = Duration::from_secs(120);
/// A stopped server takes connections and never answers.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Takes 8 MiB of disk for a moment, and a transaction's number. A database that takes no writes makes no table either; and a disk that
/// has just room for a row is still full.
const TRY: &str = "begin; \
    create temporary table is_there_room (filler text) on commit drop; \
    insert into is_there_room select repeat('x', 1000) from generate_series(1, 8192); \
    commit";

/// What is wrong with the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outage {
    /// It does not answer, has ended our connection, or has none for us.
    Away,
    /// Its disk is full.
    Full,
    /// It takes no writes: it is a standby, or somebody has set it so.
    ReadOnly,
}

impl Outage {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Away, Self::Full, Self::ReadOnly];

    /// Which outage this error tells of; `None`: the database has said no to what was asked, and would say so again.
    pub fn of(error: &sqlx::Error) -> Option<Self> {
        match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Some(Self::Away),
            // By appendix A of Postgres's manual.
            sqlx::Error::Database(error) => match error.code().as_deref() {
                Some("53100") => Some(Self::Full),
                Some("25006") => Some(Self::ReadOnly),
                // Connection exceptions; too many connections and the like; shutting down or starting up.
                Some(code) if ["08", "53", "57P"].iter().any(|class| code.starts_with(class)) => {
                    Some(Self::Away)
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// The same of an error that may have the database's among its causes.
    pub fn behind(error: &anyhow::Error) -> Option<Self> {
        error.chain().filter_map(from_database).find_map(Self::of)
    }

    /// The longest wait between two questions. A restart is short, and a connection that ends says nothing about the next one.
    fn longest_wait(self) -> Duration {
        match self {
            Self::Away => Duration::from_secs(4),
            Self::Full | Self::ReadOnly => Duration::from_secs(30),
        }
    }

    /// One word, for labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Full => "full",
            Self::ReadOnly => "read_only",
        }
    }

    /// What a person reads.
    pub fn words(self) -> &'static str {
        match self {
            Self::Away => "the database does not answer",
            Self::Full => "the database's disk is full",
            Self::ReadOnly => "the database takes no writes",
        }
    }
}

/// The database's error, if this is one; several who wait for the same thing share one.
pub fn from_database<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a sqlx::Error> {
    error
        .downcast_ref::<sqlx::Error>()
        .or_else(|| error.downcast_ref::<Arc<sqlx::Error>>().map(AsRef::as_ref))
}

/// What this process knows of outages. Cheap to clone; all clones know the same.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    episode: Arc<Mutex<Option<Episode>>>,
    /// Somebody has waited for a connection in vain, and nobody has asked since.
    is_suspected: Arc<AtomicBool>,
    counts: Arc<Mutex<Counts>>,
}

/// What there was since this process began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Outages, by what they were; one that comes back within two minutes is the same.
    pub outages: BTreeMap<Outage, u64>,
    /// How often somebody got no connection in time: all that a pool may have were in use, or no new one could be made.
    pub n_waited_in_vain: u64,
}

#[derive(Debug, Clone, Copy)]
struct Episode {
    what: Outage,
    since: Instant,
    /// When it is asked next.
    ask_at: Instant,
    wait: Duration,
    /// When it was found to be over.
    over_at: Option<Instant>,
}

impl Episode {
    fn longer_wait(&self) -> Duration {
        (self.wait * 2).min(self.what.longest_wait())
    }
}

impl Watch {
    /// Hears of an error. Comes back with what it is to whoever met it, if it is no fault of what was asked; the first to tell of an outage
    /// is logged. A connection that was waited for in vain begins none, but lets [`Self::is_over`] ask.
    pub fn hear(&self, error: &anyhow::Error) -> Option<Outage> {
        let what = Outage::behind(error)?;
        if error.chain().filter_map(from_database).any(|error| matches!(error, sqlx::Error::PoolTimedOut)) {
            self.counting().n_waited_in_vain += 1;
            self.is_suspected.store(true, Ordering::Relaxed);
        } else {
            self.begin(what, error);
        }
        Some(what)
    }

    /// There is an outage, and if it is not known it begins now.
    fn begin(&self, what: Outage, error: &anyhow::Error) {
        let now = Instant::now();
        let mut episode = self.lock();
        match &mut *episode {
            Some(Episode { over_at: None, .. }) => {}
            Some(known)
                if known.what == what && known.over_at.is_some_and(|over_at| now - over_at < RELAPSE) =>
            {
                known.wait = if what == Outage::Away { FIRST_WAIT } else { known.longer_wait() };
                known.ask_at = now + known.wait;
                known.over_at = None;
                tracing::debug!("{} again", what.words());
            }
            _ => {
                *episode = Some(Episode {
                    what,
                    since: now,
                    ask_at: now + FIRST_WAIT,
                    wait: FIRST_WAIT,
                    over_at: None,
                });
                drop(episode);
                *self.counting().outages.entry(what).or_default() += 1;
                tracing::error!(
                    outage = what.words(),
                    error = %masked::reason(error),
                    "{}: no job begins until it is over, and the pages ask their visitors to come back",
                    what.words()
                );
            }
        }
    }

    /// What is wrong now, as far as this process knows, and for how long it has been.
    pub fn now(&self) -> Option<(Outage, Duration)> {
        self.lock().filter(|episode| episode.over_at.is_none()).map(|e| (e.what, e.since.elapsed()))
    }

    /// Whether jobs may begin. Asks the database, when that is due or there is a suspicion; not more than one caller at a time should.
    pub async fn is_over(&self, options: &PgConnectOptions) -> bool {
        let known = self.lock().filter(|episode| episode.over_at.is_none());
        let Some(episode) = known else {
            if !self.is_suspected.load(Ordering::Relaxed) {
                return true;
            }
            let answer = ask(options).await;
            self.is_suspected.store(false, Ordering::Relaxed);
            let Err(error) = answer else { return true };
            let Some(what) = Outage::behind(&error) else { return true };
            self.begin(what, &error);
            return false;
        };
        if Instant::now() < episode.ask_at {
            return false;
        }
        let answer = ask(options).await;
        let is_over = answer.as_ref().err().is_none_or(|error| Outage::behind(error).is_none());
        let now = Instant::now();
        if let Some(episode) = &mut *self.lock() {
            if is_over {
                episode.over_at = Some(now);
            } else {
                episode.wait = episode.longer_wait();
                episode.ask_at = now + episode.wait;
            }
        }
        if is_over {
            let seconds = episode.since.elapsed().as_secs();
            tracing::info!(
                outage = episode.what.words(),
                seconds,
                "the database works again after {seconds} s; jobs go on"
            );
        }
        is_over
    }

    /// What there was since this process began.
    pub fn counts(&self) -> Counts {
        self.counting().clone()
    }

    fn counting(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Episode>> {
        self.episode.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is wrong with the database, as far as it tells who asks now and knows nothing from before.
pub async fn seen_now(options: &PgConnectOptions) -> Option<Outage> {
    ask(options).await.err().and_then(|error| Outage::behind(&error))
}

/// Asks the database to do what it does all day, over a connection that nobody else has, so that waiting for it may be given up.
async fn ask(options: &PgConnectOptions) -> anyhow::Result<()> {
    let asked = async {
        let mut connection = options.connect().await?;
        sqlx::raw_sql(TRY).execute(&mut connection).await?;
        connection.close().await
    };
    match tokio::time::timeout(ANSWER_LIMIT, asked).await {
        Ok(answered) => Ok(answered?),
        Err(_) => Err(sqlx::Error::PoolTimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken() -> anyhow::Error {
        anyhow::Error::from(Arc::new(sqlx::Error::WorkerCrashed)).context("writing")
    }

    #[test]
    fn an_outage_is_seen_behind_other_errors() {
        assert_eq!(Outage::behind(&broken()), Some(Outage::Away));
        let io = sqlx::Error::Io(std::io::ErrorKind::BrokenPipe.into());
        assert_eq!(Outage::behind(&anyhow::Error::from(io)), Some(Outage::Away));
        assert_eq!(Outage::behind(&sqlx::Error::RowNotFound.into()), None);
        assert_eq!(Outage::behind(&anyhow::anyhow!("the relay says no")), None);
    }

    #[tokio::test]
    async fn it_lasts_until_the_database_has_answered() {
        let nowhere = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(1);
        let watch = Watch::default();
        assert_eq!(watch.hear(&anyhow::anyhow!("something else")), None);
        assert!(watch.is_over(&nowhere).await, "nobody asks when nothing is wrong");
        assert_eq!(watch.hear(&broken()), Some(Outage::Away));
        assert!(!watch.is_over(&nowhere).await);
        assert_eq!(watch.clone().now().unwrap().0, Outage::Away);
        tokio::time::sleep(FIRST_WAIT).await;
        assert!(!watch.is_over(&nowhere).await, "nobody answers");
        let wait = watch.lock().unwrap().wait;
        assert_eq!(wait, 2 * FIRST_WAIT);

        // However many hear of it, it is one; and only who has waited for a connection has waited in vain.
        watch.hear(&broken());
        watch.hear(&sqlx::Error::PoolTimedOut.into());
        let counts = Counts { outages: BTreeMap::from([(Outage::Away, 1)]), n_waited_in_vain: 1 };
        assert_eq!(watch.counts(), counts);
        assert_eq!(seen_now(&nowhere).await, Some(Outage::Away));
    }

    #[tokio::test]
    async fn who_waited_for_a_connection_in_vain_lets_others_ask() {
        let nowhere = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(1);
        let watch = Watch::default();
        assert_eq!(watch.hear(&sqlx::Error::PoolTimedOut.into()), Some(Outage::Away));
        assert_eq!(watch.now(), None, "it may only be that all are in use");
        assert_eq!(watch.counts(), Counts { outages: BTreeMap::new(), n_waited_in_vain: 1 });
        assert!(!watch.is_over(&nowhere).await, "but nobody answers");
        assert_eq!(watch.now().unwrap().0, Outage::Away);
        assert_eq!(watch.counts().outages, BTreeMap::from([(Outage::Away, 1)]));
    }
}
