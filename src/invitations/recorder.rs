//! Many small commits become few: the senders hand in what has to be durable, one task writes what came together, in one transaction,
//! and every sender hears when its own is committed.
//!
//! No timer: while one transaction is being committed, the next ones gather. A sender waits for its answer, so nothing is sent that was
//! not committed, and nothing is told that was not written.

use std::sync::Arc;

use anyhow::anyhow;
use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};

use super::outbox::{self, Claimed, Try};

/// How many entries one transaction takes at most.
const AT_ONCE: usize = 200;

/// Where the senders hand in. When the last one is dropped, the task ends.
#[derive(Clone)]
pub struct Recorder(mpsc::Sender<Request>);

struct Request {
    row: Claimed,
    entry: Entry,
    answer: oneshot::Sender<Result<bool, Arc<sqlx::Error>>>,
}

enum Entry {
    /// The final dot is about to be written; with the Message-ID.
    InData(String),
    Ended(Try),
}

impl Recorder {
    /// Starts the task.
    pub fn start(pool: PgPool) -> Self {
        let (requests, mut received) = mpsc::channel(AT_ONCE);
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(AT_ONCE);
            while received.recv_many(&mut batch, AT_ONCE).await > 0 {
                write(&pool, std::mem::take(&mut batch)).await;
            }
        });
        Self(requests)
    }

    /// Says, durably, that the final dot is about to be written. `false`: the row is no longer ours, and nothing may be sent.
    ///
    /// # Errors
    /// When the database does not answer; then nothing may be sent.
    pub async fn enter_data(&self, row: &Claimed, message_id: &str) -> anyhow::Result<bool> {
        self.ask(row, Entry::InData(message_id.to_owned())).await
    }

    /// Writes what became of a try. `false`: the row was taken away from us meanwhile, and the other's word stands.
    ///
    /// # Errors
    /// When the database does not answer; the caller tries again.
    pub async fn finish(&self, row: &Claimed, tried: &Try) -> anyhow::Result<bool> {
        self.ask(row, Entry::Ended(tried.clone())).await
    }

    async fn ask(&self, row: &Claimed, entry: Entry) -> anyhow::Result<bool> {
        let (answer, answered) = oneshot::channel();
        let gone = || anyhow!("the recorder has ended");
        self.0.send(Request { row: row.clone(), entry, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?.map_err(anyhow::Error::from)
    }
}

async fn write(pool: &PgPool, batch: Vec<Request>) {
    let written = try_write(pool, &batch).await.map_err(Arc::new);
    for (n, request) in batch.into_iter().enumerate() {
        let answer = written.as_ref().map(|ours| ours[n]).map_err(Arc::clone);
        // A sender that no longer listens has ended, and its row tells the rest.
        let _ = request.answer.send(answer);
    }
}

/// Whether each entry was written, in the order of the batch.
async fn try_write(pool: &PgPool, batch: &[Request]) -> sqlx::Result<Vec<bool>> {
    let (mut entering, mut ended) = (Vec::new(), Vec::new());
    for Request { row, entry, .. } in batch {
        match entry {
            Entry::InData(message_id) => entering.push((row, message_id.as_str())),
            Entry::Ended(tried) => ended.push((row, tried)),
        }
    }
    let mut transaction = pool.begin().await?;
    let mut ours = outbox::enter_data(&mut transaction, &entering).await?;
    ours.extend(outbox::finish(&mut transaction, &ended).await?);
    transaction.commit().await?;
    Ok(batch.iter().map(|request| ours.contains(&request.row.invitation)).collect())
}
