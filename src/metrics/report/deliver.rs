//! The report as a mail: the first screen in it, the page attached.
//!
//! A row is committed before the final dot and settled after it. Who has a row of this run gets no second mail, and what nobody can know
//! (we died, or the relay did not answer the final dot) stays so and is not sent again: the next occurrence has a report of its own.
//! A refusal is final, too. The relay's rate is shared with the invitations.

use std::time::SystemTime;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use lettre::Address;
use lettre::message::header::ContentType;
use lettre::message::{Attachment, Mailbox, Message, MultiPart, SinglePart};
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Shop};
use crate::context::Context;
use crate::invitations::compose::{Composed, clean, in_envelope, verbatim};
use crate::invitations::relay;
use crate::mail::templates::MailTexts;
use crate::mail::transport::{Connection, Fault, Phase};
use crate::masked;
use crate::types::{JobRunId, for_envelope};

/// What became of a mail; `report_delivery_state` in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "report_delivery_state", rename_all = "snake_case")]
pub enum DeliveryState {
    /// It may be on its way; of a run that has ended nobody knows.
    InData,
    Sent,
    /// The relay refused, or could not be reached.
    Failed,
    /// The relay did not answer the final dot.
    Unknown,
}

/// A report that is ready to be sent.
pub struct Letter {
    pub texts: MailTexts,
    /// The name of the attached file.
    pub file: String,
    /// The page.
    pub page: String,
}

/// What became of the mails of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Delivered {
    pub n_sent: u64,
    pub n_failed: u64,
    pub n_unknown: u64,
    /// Those that were not begun, because the run was to stop, or that this run has sent before.
    pub n_left: u64,
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
    let mut delivered = Delivered::default();
    for address in to {
        let state =
            if stop.is_cancelled() { None } else { send(context, shop, letter, run, address, stop).await? };
        let n = match state {
            Some(DeliveryState::Sent) => &mut delivered.n_sent,
            Some(DeliveryState::Failed) => &mut delivered.n_failed,
            Some(DeliveryState::Unknown | DeliveryState::InData) => &mut delivered.n_unknown,
            None => &mut delivered.n_left,
        };
        *n += 1;
    }
    Ok(delivered)
}

/// One mail; `None`: it was not begun.
async fn send(
    context: &Context,
    shop: &Shop,
    letter: &Letter,
    run: JobRunId,
    to: &Address,
    stop: &CancellationToken,
) -> anyhow::Result<Option<DeliveryState>> {
    let pool = &context.pool;
    let hash = hash(to);
    let mail = compose(&context.config, shop, letter, run, to, context.clock.now())?;
    if !turn(context, stop).await? {
        return Ok(None);
    }
    let mut connection = match ready(context, &mail).await {
        Ok(connection) => connection,
        Err(fault) => {
            // Nothing has left. The row says so, and that it was tried.
            if !enter_data(pool, run, &hash, &mail.message_id, context.clock.now()).await? {
                return Ok(None);
            }
            return settled(context, run, &hash, DeliveryState::Failed, Some(&fault)).await.map(Some);
        }
    };
    if !enter_data(pool, run, &hash, &mail.message_id, context.clock.now()).await? {
        return Ok(None);
    }
    let name =
        format!("report-{run}-{}", hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<String>());
    match connection.transmit(&mail.bytes, &name).await {
        Ok(()) => {
            let state = settled(context, run, &hash, DeliveryState::Sent, None).await?;
            connection.close().await;
            Ok(Some(state))
        }
        Err(fault) => {
            // Without an answer to the final dot nobody knows whether the relay has the mail.
            let is_unknown = fault.phase == Phase::Final && fault.reply.is_none();
            let state = if is_unknown { DeliveryState::Unknown } else { DeliveryState::Failed };
            settled(context, run, &hash, state, Some(&fault)).await.map(Some)
        }
    }
}

/// Waits until the rate that all mails share has room for one. `false`: we were asked to stop.
async fn turn(context: &Context, stop: &CancellationToken) -> anyhow::Result<bool> {
    let mail = &context.config.mail;
    let limit = mail.rate_per_minute.map(|rate| f64::from(rate.get()));
    loop {
        let taken = relay::take(&context.pool, &relay::name(&mail.transport), limit, 1).await?;
        if taken.n > 0 {
            return Ok(true);
        }
        tokio::select! {
            () = tokio::time::sleep(taken.wait) => {}
            () = stop.cancelled() => return Ok(false),
        }
    }
}

/// A connection over which the relay has said that it takes the message.
async fn ready(context: &Context, mail: &Composed) -> Result<Connection, Fault> {
    let config = &context.config;
    let mut connection = Connection::open(&config.mail.transport, &config.outbox_dir()).await?;
    connection.prepare(&mail.envelope_from, &mail.envelope_to).await?;
    Ok(connection)
}

/// Writes that the mail is about to leave. `false`: this run has had one for this recipient.
async fn enter_data(
    pool: &PgPool,
    run: JobRunId,
    hash: &[u8],
    message_id: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let written = sqlx::query!(
        "insert into report_delivery (job_run_id, recipient_hash, state, message_id, begun_at)
         values ($1, $2, 'in_data', $3, $4) on conflict do nothing",
        run.0,
        hash,
        message_id,
        now,
    )
    .execute(pool)
    .await?;
    Ok(written.rows_affected() == 1)
}

/// Writes what became of it.
async fn settled(
    context: &Context,
    run: JobRunId,
    hash: &[u8],
    state: DeliveryState,
    fault: Option<&Fault>,
) -> anyhow::Result<DeliveryState> {
    let fault = fault.map(|fault| format!("{}: {}", fault.phase.as_str(), masked::words(&fault.text)));
    if let Some(fault) = &fault {
        tracing::warn!(job_run.id = %run, "a report of run {run} was not sent: {fault}");
    }
    sqlx::query!(
        "update report_delivery set state = $3, fault = $4, settled_at = $5
         where job_run_id = $1 and recipient_hash = $2 and state = 'in_data'",
        run.0,
        hash,
        state as DeliveryState,
        fault,
        context.clock.now(),
    )
    .execute(&context.pool)
    .await?;
    Ok(state)
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
    let id = format!("report-{run}-{id}-{}", now.timestamp_micros());
    let message_id = format!("{id}@{}", from.email.domain());
    let attached = Attachment::new(letter.file.clone()).body(letter.page.clone(), ContentType::TEXT_HTML);
    let mut message = Message::builder()
        .date(SystemTime::from(now))
        .from(from)
        .to(Mailbox::new(None, to.clone()))
        .subject(clean(&letter.texts.subject, 200))
        .message_id(Some(format!("<{message_id}>")))
        .raw_header(verbatim("Auto-Submitted", "auto-generated".to_owned()))
        .multipart(
            MultiPart::mixed()
                .boundary(format!("=_{id}"))
                .multipart(
                    MultiPart::alternative()
                        .boundary(format!("=_{id}-texts"))
                        .singlepart(SinglePart::plain(letter.texts.text.clone()))
                        .singlepart(SinglePart::html(letter.texts.html.clone())),
                )
                .singlepart(attached),
        )?;
    if let Some(signer) = &config.mail.signer {
        signer.sign(&mut message);
    }
    Ok(Composed { message_id, envelope_from, envelope_to: to, bytes: message.formatted() })
}
