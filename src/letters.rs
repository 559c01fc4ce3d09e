//! Mails to the shop's own people: the report, its first screen in the mail and the page attached, and the digest.
//!
//! A row is committed before the final dot and settled after it. Who has had the mail of this run gets no second one, and what nobody
//! can know (we died, or the relay did not answer the final dot) stays so and is not sent again: the next occurrence has a report of its
//! own. Whom the relay defers, or cannot be asked about because it does not work, is tried again by the same run for as long as
//! `[notify]` has patience; a refusal is final. The relay's breaker and its rate are those of all mails ([`OneByOne`]).

use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use lettre::Address;
use lettre::message::header::ContentType;
use lettre::message::{Attachment, Mailbox, Message, MultiPart, SinglePart};
use sha2::{Digest as _, Sha256};
use sqlx::{PgExecutor, PgPool};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Shop};
use crate::context::Context;
use crate::installation;
use crate::invitations::compose::{Composed, clean, in_envelope, verbatim};
use crate::invitations::outbox::AttemptOutcome;
use crate::invitations::relay::{OneByOne, pause};
use crate::invitations::verdict;
use crate::mail::templates::MailTexts;
use crate::mail::transport::{Connection, Fault};
use crate::masked;
use crate::types::{JobRunId, for_envelope};

/// What became of a mail; `report_delivery_state` in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "report_delivery_state", rename_all = "snake_case")]
pub enum DeliveryState {
    /// It may be on its way; of a run that has ended nobody knows.
    InData,
    Sent,
    /// The relay refused, or did not take it for as long as the run was patient.
    Failed,
    /// The relay did not answer the final dot.
    Unknown,
}

/// A page that goes with a letter.
pub struct Attached {
    /// The name of the file.
    pub file: String,
    pub page: String,
}

/// A mail to the shop's own people that is ready to be sent.
pub struct Letter {
    /// What it is, in one word, for the names of files and messages.
    pub what: &'static str,
    pub texts: MailTexts,
    pub attached: Option<Attached>,
    /// Which job sends it.
    pub job: String,
    /// The shops that it is about; of what is no report, none.
    pub shops: Vec<String>,
    /// The moment that it is about.
    pub as_of: DateTime<Utc>,
}

/// What became of the mails of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Delivered {
    pub n_sent: u64,
    pub n_failed: u64,
    pub n_unknown: u64,
    /// Those that were not begun, because the run was to stop, or that this run has sent before.
    pub n_left: u64,
    /// Why no mail leaves for now.
    pub held: Option<String>,
}

/// When a report about these shops last reached anybody: one of this job, or any.
///
/// # Errors
/// When the database does not answer.
pub async fn last(
    database: impl PgExecutor<'_>,
    shops: &[String],
    job: Option<&str>,
    before: DateTime<Utc>,
) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar!(
        "select max(as_of) from report_delivery
         where state = 'sent' and shops @> $1 and ($2::text is null or job = $2) and as_of < $3",
        shops,
        job,
        before,
    )
    .fetch_one(database)
    .await
}

/// Whether a mail of this run was taken by the relay.
///
/// # Errors
/// When the database does not answer.
pub async fn has_reached_anybody(pool: &PgPool, run: JobRunId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from report_delivery where job_run_id = $1 and state = 'sent') as "has!""#,
        run.0,
    )
    .fetch_one(pool)
    .await
}

/// Sends the letter to each of these addresses, one mail each.
///
/// # Errors
/// When the letter cannot be written, or the database does not answer; then nothing more is sent.
pub async fn deliver(
    context: &Context,
    shop: &Shop,
    letter: &Letter,
    run: JobRunId,
    to: &[Address],
    stop: &CancellationToken,
) -> anyhow::Result<Delivered> {
    let mut round = Round {
        context,
        shop,
        letter,
        run,
        stop,
        begun: Instant::now(),
        relay: OneByOne::new(&context.config.mail),
        is_marked: false,
        delivered: Delivered::default(),
    };
    let mut waiting: Vec<Waiting<'_>> = to.iter().map(|to| Waiting { to, has_failed: false }).collect();
    for n_rounds in 1.. {
        let until_probe = round.send_all(&mut waiting).await?;
        let wait = until_probe.unwrap_or_else(|| pause(n_rounds).to_std().unwrap_or_default());
        if waiting.is_empty()
            || stop.is_cancelled()
            || round.begun.elapsed() + wait > context.config.notify.patience
        {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(wait.max(Duration::from_millis(10))) => {}
            () = stop.cancelled() => {}
        }
    }
    let mut delivered = round.delivered;
    for Waiting { has_failed, .. } in waiting {
        *if has_failed { &mut delivered.n_failed } else { &mut delivered.n_left } += 1;
    }
    Ok(delivered)
}

/// Who has no mail yet.
struct Waiting<'a> {
    to: &'a Address,
    /// Whether it was tried, and a row says so.
    has_failed: bool,
}

/// What a try came to.
enum Tried {
    Settled(DeliveryState),
    /// It was tried and is worth another try.
    Later,
    /// It was not tried, because the run is to stop or a row says that this run has sent it.
    Not {
        has_row: bool,
    },
}

/// All mails of one run.
struct Round<'a> {
    context: &'a Context,
    shop: &'a Shop,
    letter: &'a Letter,
    run: JobRunId,
    stop: &'a CancellationToken,
    begun: Instant,
    relay: OneByOne,
    is_marked: bool,
    delivered: Delivered,
}

impl Round<'_> {
    fn now(&self) -> DateTime<Utc> {
        self.context.clock.now_since(self.begun)
    }

    /// Tries everybody who waits; those who have to wait on remain. Comes back with how long until the relay may be asked again, if it
    /// does not work.
    async fn send_all(&mut self, waiting: &mut Vec<Waiting<'_>>) -> anyhow::Result<Option<Duration>> {
        let now = self.now();
        self.delivered.held = None;
        if let Some(outage) = self.relay.ask(&self.context.pool, now).await? {
            self.delivered.held = Some(outage.to_string());
            return Ok(Some((outage.next_probe_at - now).to_std().unwrap_or_default()));
        }
        for mut each in std::mem::take(waiting) {
            if self.stop.is_cancelled() || self.delivered.held.is_some() {
                waiting.push(each);
                continue;
            }
            match self.send(each.to).await? {
                Tried::Settled(DeliveryState::Sent) => self.delivered.n_sent += 1,
                Tried::Settled(DeliveryState::Failed) => self.delivered.n_failed += 1,
                Tried::Settled(DeliveryState::Unknown | DeliveryState::InData) => {
                    self.delivered.n_unknown += 1;
                }
                Tried::Not { has_row: true } => self.delivered.n_left += 1,
                Tried::Not { has_row: false } => waiting.push(each),
                Tried::Later => {
                    each.has_failed = true;
                    waiting.push(each);
                }
            }
        }
        Ok(None)
    }

    async fn send(&mut self, to: &Address) -> anyhow::Result<Tried> {
        let Self { context, letter, run, .. } = *self;
        let pool = &context.pool;
        let hash = hash(to);
        let mail = compose(&context.config, self.shop, letter, run, to, self.now())?;
        if !self.relay.turn(pool, self.stop).await? {
            return Ok(Tried::Not { has_row: false });
        }
        if !self.is_marked {
            // A database that loses what it knew of these mails is noticed, as with any mail.
            let mut conn = pool.acquire().await?;
            installation::leave_mark(&mut conn, &context.config, None, self.now()).await?;
            self.is_marked = true;
        }
        let mut connection = match ready(context, &mail).await {
            Ok(connection) => connection,
            // Nothing has left. The row says so, and that it was tried.
            Err(fault) => {
                if !enter_data(pool, letter, run, &hash, &mail.message_id, self.now()).await? {
                    return Ok(Tried::Not { has_row: true });
                }
                return self.at_fault(&hash, &fault).await;
            }
        };
        if !enter_data(pool, letter, run, &hash, &mail.message_id, self.now()).await? {
            return Ok(Tried::Not { has_row: true });
        }
        let short: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        match connection.transmit(&mail.bytes, &format!("{}-{run}-{short}", letter.what)).await {
            Ok(()) => {
                settle(pool, run, &hash, DeliveryState::Sent, None, self.now()).await?;
                connection.close().await;
                self.relay.works(pool).await?;
                Ok(Tried::Settled(DeliveryState::Sent))
            }
            Err(fault) => self.at_fault(&hash, &fault).await,
        }
    }

    /// What a fault means for the mail and for the relay.
    async fn at_fault(&mut self, hash: &[u8], fault: &Fault) -> anyhow::Result<Tried> {
        let (pool, run, now) = (&self.context.pool, self.run, self.now());
        let text = format!("{}: {}", fault.phase.as_str(), masked::words(&fault.text));
        tracing::warn!(job_run.id = %run, "a mail of run {run} was not sent: {text}");
        let verdict = verdict::judge(fault, None, now);
        let tried = match verdict.outcome {
            None | Some(AttemptOutcome::Deferred) => Tried::Later,
            Some(AttemptOutcome::Failed | AttemptOutcome::Sent) => Tried::Settled(DeliveryState::Failed),
            Some(AttemptOutcome::Unknown) => Tried::Settled(DeliveryState::Unknown),
        };
        let state = match tried {
            Tried::Settled(state) => state,
            Tried::Later | Tried::Not { .. } => DeliveryState::Failed,
        };
        settle(pool, run, hash, state, Some(&text), now).await?;
        if let Some(held) = self.relay.heard(pool, verdict.relay, &text, now).await? {
            self.delivered.held = Some(held);
        }
        Ok(tried)
    }
}

/// A connection over which the relay has said that it takes the message.
async fn ready(context: &Context, mail: &Composed) -> Result<Connection, Fault> {
    let config = &context.config;
    let mut connection = Connection::open(&config.mail.transport, &config.outbox_dir()).await?;
    connection.prepare(&mail.envelope_from, &mail.envelope_to).await?;
    Ok(connection)
}

/// Writes that the mail is about to leave. `false`: this run has had one for this recipient, which may have arrived.
async fn enter_data(
    pool: &PgPool,
    letter: &Letter,
    run: JobRunId,
    hash: &[u8],
    message_id: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let written = sqlx::query!(
        "insert into report_delivery as d (job_run_id, recipient_hash, job, shops, as_of, state, message_id, begun_at)
         values ($1, $2, $3, $4, $5, 'in_data', $6, $7)
         on conflict (job_run_id, recipient_hash) do update
         set state = 'in_data', message_id = excluded.message_id, begun_at = excluded.begun_at, settled_at = null, fault = null
         where d.state = 'failed'",
        run.0,
        hash,
        letter.job,
        &letter.shops,
        letter.as_of,
        message_id,
        now,
    )
    .execute(pool)
    .await?;
    Ok(written.rows_affected() == 1)
}

/// Writes what became of it.
async fn settle(
    pool: &PgPool,
    run: JobRunId,
    hash: &[u8],
    state: DeliveryState,
    fault: Option<&str>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update report_delivery set state = $3, fault = $4, settled_at = $5
         where job_run_id = $1 and recipient_hash = $2 and state = 'in_data'",
        run.0,
        hash,
        state as DeliveryState,
        fault,
        now,
    )
    .execute(pool)
    .await?;
    Ok(())
}

fn hash(address: &Address) -> Vec<u8> {
    Sha256::digest(address.to_string().to_lowercase()).to_vec()
}

/// The message.
fn compose(
    config: &Config,
    shop: &Shop,
    letter: &Letter,
    run: JobRunId,
    to: &Address,
    now: DateTime<Utc>,
) -> anyhow::Result<Composed> {
    let to = for_envelope(to).context("a recipient's address cannot be put into an envelope")?;
    let from = in_envelope(&shop.from)?;
    // What comes back is about no customer, so it carries no token.
    let return_path = config.mail.return_path.as_deref().and_then(|path| path.parse().ok());
    let envelope_from =
        return_path.and_then(|path| for_envelope(&path)).unwrap_or_else(|| from.email.clone());
    let id: String = hash(&to).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let id = format!("{}-{run}-{id}-{}", letter.what, now.timestamp_micros());
    let message_id = format!("{id}@{}", from.email.domain());
    let texts = MultiPart::alternative()
        .boundary(format!("=_{id}-texts"))
        .singlepart(SinglePart::plain(letter.texts.text.clone()))
        .singlepart(SinglePart::html(letter.texts.html.clone()));
    let mut message = Message::builder()
        .date(SystemTime::from(now))
        .from(from)
        .to(Mailbox::new(None, to.clone()))
        .subject(clean(&letter.texts.subject, 200))
        .message_id(Some(format!("<{message_id}>")))
        .raw_header(verbatim("Auto-Submitted", "auto-generated".to_owned()))
        .multipart(match &letter.attached {
            Some(Attached { file, page }) => MultiPart::mixed()
                .boundary(format!("=_{id}"))
                .multipart(texts)
                .singlepart(Attachment::new(file.clone()).body(page.clone(), ContentType::TEXT_HTML)),
            None => texts,
        })?;
    if let Some(signer) = &config.mail.signer {
        signer.sign(&mut message);
    }
    Ok(Composed { message_id, envelope_from, envelope_to: to, bytes: message.formatted() })
}
