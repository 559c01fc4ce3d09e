//! Many forms, few commits: the pages hand in what was sent, two tasks store what has come together, in one transaction each, and every
//! page hears when its own is committed.
//!
//! A form that comes while nothing is being stored is stored at once. While one batch is, the next gathers: the other task begins with
//! enough for a batch of its own, because a batch costs as much by itself as ten or twenty forms in it, or a few milliseconds later, because
//! the first may be held up. The channel is bounded; who finds it full is told to come again. What was handed in is stored whether or not
//! the browser still waits. A batch that fails is stored one by one, so that one that cannot be stored hurts only itself. What somebody
//! else holds (an import of the same order) is tried again a little later, and the others do not wait for it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tokio::sync::{Mutex, Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::store::{self, Fate, Sent};
use super::submission::Fields;
use crate::context::Context;
use crate::db::again;
use crate::db::outage::Outage;
use crate::masked;
use crate::survey::Versions;

/// How many forms are stored by one transaction at most.
const AT_ONCE: usize = 200;
/// How many wait to be taken at most: more than there can be connections in an ordinary hour, and a bound for what they hold in memory.
const WAITING: usize = 512;
/// While one waits for the disk, another goes on.
pub const WRITERS: u32 = 2;
/// So many forms begin a batch beside another one.
const ENOUGH: usize = 32;
/// So long fewer wait for more, or for the other batch to end.
const GATHER: Duration = Duration::from_millis(5);
/// So long what another one holds is tried again, before its sender is told to come back.
const PATIENCE: Duration = Duration::from_secs(5);
/// Everything that is read is looked up by its key. Plans are made once, for the tables as they are then, and made anew when they have
/// grown ([`Writer::store`]): a table that was empty a minute ago would be read whole for each batch.
const BY_KEY: &str = "set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off; \
                      set plan_cache_mode = force_generic_plan; set jit = off";
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// Where pages hand in. When it is dropped, the tasks store what is left, and end.
#[derive(Debug)]
pub struct Collector(mpsc::Sender<Arrival>);

#[derive(Debug)]
struct Arrival {
    sent: Sent,
    answer: oneshot::Sender<Result<Settled, Refused>>,
    /// When it was handed in.
    since: Instant,
}

/// What became of a form, and the form again, for a page that shows it once more.
#[derive(Debug)]
pub struct Settled {
    pub fate: Fate,
    pub fields: Fields,
}

/// Why a form was not stored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refused {
    /// Too many wait.
    #[error("too many answers wait to be stored")]
    Full,
    /// Its order was held by another for too long.
    #[error("the order is being imported")]
    Held,
    /// The database does not answer, or refuses.
    #[error("the answer could not be stored")]
    Failed(Arc<anyhow::Error>),
    /// We are stopping.
    #[error("answers are not taken any more")]
    Ended,
}

impl Collector {
    /// Starts the tasks, which connect as the context's pool does. They end when everything is stored after the collector was dropped.
    pub fn start(context: &Context, versions: &Arc<Versions>) -> (Self, JoinSet<()>) {
        let (arrivals, received) = mpsc::channel(WAITING);
        let queue = Arc::new(Queue {
            received: Mutex::new(received),
            n_busy: AtomicU32::new(0),
            ended: Notify::new(),
        });
        let mut tasks = JoinSet::new();
        for _ in 0..WRITERS {
            let writer = Writer {
                context: context.clone(),
                versions: Arc::clone(versions),
                options: context.pool.connect_options(),
                connection: None,
                n_stored: 0,
            };
            tasks.spawn(writer.run(Arc::clone(&queue)));
        }
        (Self(arrivals), tasks)
    }

    /// Hands in a form and waits until it is committed, or it is known why not. Dropping the future changes nothing about the form.
    ///
    /// # Errors
    /// [`Refused`]
    pub async fn store(&self, sent: Sent) -> Result<Settled, Refused> {
        let (answer, answered) = oneshot::channel();
        let arrival = Arrival { sent, answer, since: Instant::now() };
        self.0.try_send(arrival).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refused::Full,
            mpsc::error::TrySendError::Closed(_) => Refused::Ended,
        })?;
        answered.await.map_err(|_| Refused::Ended)?
    }
}

/// What waits to be stored, and how many of the tasks are storing.
struct Queue {
    received: Mutex<mpsc::Receiver<Arrival>>,
    n_busy: AtomicU32,
    /// One of the batches under way has ended.
    ended: Notify,
}

impl Queue {
    /// Waits for forms, and takes so many at most; 0 when there will be none, or none is wanted. Being cut off loses none: what is not in the
    /// batch is in the channel.
    async fn take(&self, batch: &mut Vec<Arrival>, most: usize) -> usize {
        let mut received = self.received.lock().await;
        if received.recv_many(batch, most).await == 0 {
            return 0;
        }
        let gather = async {
            while batch.len() < ENOUGH.min(most) && self.n_busy.load(Ordering::SeqCst) > 0 {
                tokio::select! {
                    n = received.recv_many(batch, most - batch.len()) => if n == 0 { break },
                    () = self.ended.notified() => {}
                }
            }
        };
        // Cut off or not, what has come is taken.
        let _ = tokio::time::timeout(GATHER, gather).await;
        batch.len()
    }
}

/// As long as this lives, one of the tasks is storing.
struct Busy<'a>(&'a Queue);

impl<'a> Busy<'a> {
    fn with(queue: &'a Queue) -> Self {
        queue.n_busy.fetch_add(1, Ordering::SeqCst);
        Self(queue)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.n_busy.fetch_sub(1, Ordering::SeqCst);
        self.0.ended.notify_one();
    }
}

/// What has to be tried again.
#[derive(Default)]
struct Left {
    arrivals: Vec<Arrival>,
    /// Whether some of it only waited for its turn.
    has_next: bool,
}

struct Writer {
    context: Context,
    versions: Arc<Versions>,
    options: Arc<PgConnectOptions>,
    connection: Option<PgConnection>,
    /// How many were stored over the connection.
    n_stored: usize,
}

impl Writer {
    async fn run(mut self, queue: Arc<Queue>) {
        let mut left = Left::default();
        loop {
            let mut batch = Vec::with_capacity(AT_ONCE);
            if left.arrivals.is_empty() {
                if queue.take(&mut batch, AT_ONCE).await == 0 {
                    break;
                }
            } else {
                let pause = if left.has_next { Duration::ZERO } else { PAUSE };
                // Taking can be cut off: what was not taken stays in the channel, and so does what there is no room for.
                let room = AT_ONCE - left.arrivals.len();
                let taken = tokio::time::timeout(pause, queue.take(&mut batch, room)).await;
                if taken == Ok(0) {
                    tokio::time::sleep(pause).await;
                }
            }
            // What has waited goes first.
            batch.splice(0..0, left.arrivals.drain(..));
            let busy = Busy::with(&queue);
            left = self.settle(batch).await;
            drop(busy);
        }
        if let Some(connection) = self.connection {
            // Everything is stored; a database that does not take leave is not worth a word.
            PgConnection::close(connection).await.ok();
        }
    }

    /// Stores a batch and tells the pages. What has to be tried again comes back.
    async fn settle(&mut self, batch: Vec<Arrival>) -> Left {
        let (sent, waiting): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|arrival| (arrival.sent, (arrival.answer, arrival.since))).unzip();
        let fates = match self.store(&sent).await {
            Ok(fates) => fates.into_iter().map(Ok).collect(),
            // The database said no, as opposed to nothing.
            Err(error) if sent.len() > 1 && Outage::behind(&error).is_none() => {
                tracing::warn!(
                    n_answers = sent.len(),
                    error = %masked::reason(&error),
                    "a batch of answers was refused, and is stored one by one"
                );
                let mut fates = Vec::with_capacity(sent.len());
                for one in &sent {
                    let stored = self.store(std::slice::from_ref(one)).await;
                    fates.push(stored.map(|mut fates| fates.pop().unwrap_or(Fate::Gone)).map_err(Arc::new));
                }
                fates
            }
            Err(error) => {
                let error = Arc::new(error);
                sent.iter().map(|_| Err(Arc::clone(&error))).collect::<Vec<_>>()
            }
        };
        let mut left = Left::default();
        for ((sent, (answer, since)), fate) in sent.into_iter().zip(waiting).zip(fates) {
            let told = match fate {
                Ok(Fate::Next) => {
                    left.has_next = true;
                    left.arrivals.push(Arrival { sent, answer, since });
                    continue;
                }
                Ok(Fate::Held) if since.elapsed() < PATIENCE => {
                    left.arrivals.push(Arrival { sent, answer, since });
                    continue;
                }
                Ok(Fate::Held) => Err(Refused::Held),
                Ok(fate) => Ok(Settled { fate, fields: sent.fields }),
                Err(error) => Err(Refused::Failed(error)),
            };
            // A browser that has gone away hears nothing; its answer is stored.
            let _ = answer.send(told);
        }
        left
    }

    /// Stores a batch; again, when the database has taken it back for the sake of another transaction; and once more, over a new connection, when the one that was there is found to be broken. Should the first try have been
    /// committed all the same, the second finds equal answers there, and changes nothing.
    async fn store(&mut self, batch: &[Sent]) -> anyhow::Result<Vec<Fate>> {
        let mut was_connected = self.connection.is_some();
        let mut n_taken_back = 0;
        loop {
            match self.try_store(batch).await {
                Err(error) if was_connected && Outage::behind(&error) == Some(Outage::Away) => {
                    was_connected = false;
                }
                Err(error) if again::is_worth_another(&*error, &mut n_taken_back).await => {}
                stored => return stored,
            }
        }
    }

    async fn try_store(&mut self, batch: &[Sent]) -> anyhow::Result<Vec<Fate>> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let mut new = self.options.connect().await?;
                sqlx::raw_sql(BY_KEY).execute(&mut new).await?;
                self.n_stored = 0;
                self.connection.insert(new)
            }
        };
        let n_before = self.n_stored;
        self.n_stored += batch.len();
        let has_doubled = self.n_stored.ilog2() > n_before.max(1).ilog2();
        let store = async {
            if has_doubled {
                sqlx::raw_sql("discard plans").execute(&mut *connection).await?;
            }
            store::store(connection, &self.context, &self.versions, batch).await
        };
        // The task outlives whatever a form made us do.
        let stored = AssertUnwindSafe(store).catch_unwind().await;
        let stored = stored.unwrap_or_else(|_| Err(anyhow::anyhow!("storing an answer has panicked")));
        if stored.is_err() {
            // It may be broken, or in the middle of something.
            self.connection = None;
        }
        stored
    }
}
