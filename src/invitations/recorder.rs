//! Many small commits become few: the senders hand in what has to be durable, one task writes what came together, in one statement, over
//! a connection of its own, and every sender hears when its own is committed.
//!
//! While one statement is being committed, the next entries gather. What is handed in first is written first, or at the same time; so a
//! sender that has handed in what became of a mail may go on, and need only wait before the final dot of its next. What nobody waits for
//! is held back a moment to be written with what somebody waits for, and what somebody waits for is held back while others are likely to
//! come and it costs less than a commit of their own would.
//!
//! When the database is away, the task connects anew and writes the same again, for a minute: only we know what the relay said. Should it
//! stay away, nothing is written any more and everybody hears so; rows in `in_data` become unknown, which is then true.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, PgPool};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::outbox::{self, Claimed, Record, Try};
use crate::db;
use crate::masked;
use crate::types::InvitationId;

/// How many entries one statement takes at most.
const AT_ONCE: usize = 200;
/// How long what became of mails may wait for a final dot to be written with.
const UNHURRIED: Duration = Duration::from_millis(5);
/// Waits between the tries to write, in milliseconds: a minute altogether.
const WAITS: [u64; 8] = [50, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 30_000];

/// Where the senders hand in. When the last one is dropped, the task ends.
#[derive(Clone)]
pub struct Recorder(mpsc::Sender<Request>);

struct Request {
    row: Claimed,
    entry: Record,
    answer: oneshot::Sender<Answer>,
}

type Answer = Result<bool, Arc<sqlx::Error>>;

/// An entry that was handed in.
pub struct Handed(oneshot::Receiver<Answer>);

impl Handed {
    /// Waits until the entry is committed. `false`: the row was taken away from us, and the other's word stands.
    ///
    /// # Errors
    /// When the database stayed away.
    pub async fn written(self) -> anyhow::Result<bool> {
        self.0.await.map_err(|_| anyhow!("the recorder has ended"))?.map_err(anyhow::Error::from)
    }
}

impl Recorder {
    /// Starts the task, which connects as this pool does, but for no run: each row has a fence of its own, and what the relay has said
    /// is true even when the run was taken for dead. So many senders may wait for it at the same time.
    pub fn start(pool: &PgPool, n_senders: usize) -> Self {
        let (requests, received) = mpsc::channel(AT_ONCE);
        // The statement finds its rows by their keys, however many there are. Left to itself, the server decides by what the first five
        // batches happen to hold whether it plans each anew, which takes as long as writing a small one.
        let options =
            db::unfenced(&pool.connect_options()).options([("plan_cache_mode", "force_generic_plan")]);
        tokio::spawn(write_all(Arc::new(options), received, n_senders));
        Self(requests)
    }

    /// Says, durably, that the final dot is about to be written. `false`: the row is no longer ours, and nothing may be sent.
    ///
    /// # Errors
    /// When the database does not answer; then nothing may be sent.
    pub async fn enter_data(&self, row: &Claimed, message_id: &str) -> anyhow::Result<bool> {
        self.hand_in(row, Record::InData(message_id.to_owned())).await?.written().await
    }

    /// Hands in what became of a try.
    ///
    /// # Errors
    /// When the task has ended, which only a panic explains.
    pub async fn ended(&self, row: &Claimed, tried: Try) -> anyhow::Result<Handed> {
        self.hand_in(row, Record::Ended(tried)).await
    }

    async fn hand_in(&self, row: &Claimed, entry: Record) -> anyhow::Result<Handed> {
        let (answer, answered) = oneshot::channel();
        let request = Request { row: row.clone(), entry, answer };
        self.0.send(request).await.map_err(|_| anyhow!("the recorder has ended"))?;
        Ok(Handed(answered))
    }
}

async fn write_all(options: Arc<PgConnectOptions>, mut received: mpsc::Receiver<Request>, n_senders: usize) {
    let mut connection = None;
    let mut lost: Option<Arc<sqlx::Error>> = None;
    let mut batch = Vec::with_capacity(AT_ONCE);
    let mut write_took = Duration::ZERO;
    while received.recv_many(&mut batch, AT_ONCE).await > 0 {
        gather(&mut received, &mut batch, n_senders, write_took).await;
        let (answers, entries): (Vec<_>, Vec<_>) =
            batch.drain(..).map(|request| (request.answer, (request.row, request.entry))).unzip();
        // What could not be written has left its row in `in_data`; another row of the same sender must not get there too.
        let began = Instant::now();
        let written = match &lost {
            Some(error) => Err(Arc::clone(error)),
            None => write(&options, &mut connection, &entries).await.map_err(Arc::new),
        };
        write_took = began.elapsed();
        if let Err(error) = &written {
            lost.get_or_insert_with(|| Arc::clone(error));
        }
        for (answer, (row, _)) in answers.into_iter().zip(&entries) {
            let ours = written.as_ref().map(|ours| ours.contains(&row.invitation)).map_err(Arc::clone);
            // A sender that no longer listens has ended, and its row tells the rest.
            let _ = answer.send(ours);
        }
    }
    if let Some(connection) = connection {
        // Everything is written; a database that does not take leave is not worth a word.
        PgConnection::close(connection).await.ok();
    }
}

/// Waits for more, as long as that is worth it.
async fn gather(
    received: &mut mpsc::Receiver<Request>,
    batch: &mut Vec<Request>,
    n_senders: usize,
    write_took: Duration,
) {
    let began = Instant::now();
    while batch.len() < AT_ONCE {
        let patience = match batch.iter().filter(|request| matches!(request.entry, Record::InData(_))).count()
        {
            0 => UNHURRIED,
            n if n < n_senders => write_took / 2,
            _ => return,
        };
        let room = AT_ONCE - batch.len();
        let more = tokio::time::timeout_at(began + patience, received.recv_many(batch, room)).await;
        if matches!(more, Ok(0) | Err(_)) {
            return;
        }
    }
}

/// Writes a batch, again and again while the database is away.
async fn write(
    options: &PgConnectOptions,
    connection: &mut Option<PgConnection>,
    entries: &[(Claimed, Record)],
) -> sqlx::Result<HashSet<InvitationId>> {
    let mut waits = WAITS.into_iter();
    loop {
        let error = match try_write(options, connection, entries).await {
            Ok(ours) => return Ok(ours),
            Err(error) => error,
        };
        // It may be broken, or in the middle of something.
        *connection = None;
        let Some(wait) = waits.next() else { return Err(error) };
        tracing::warn!(
            "what became of {} mails cannot be written; trying again: {}",
            entries.len(),
            masked::reason(&error.into())
        );
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
}

async fn try_write(
    options: &PgConnectOptions,
    connection: &mut Option<PgConnection>,
    entries: &[(Claimed, Record)],
) -> sqlx::Result<HashSet<InvitationId>> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(options.connect().await?),
    };
    outbox::record(connection, entries).await
}
