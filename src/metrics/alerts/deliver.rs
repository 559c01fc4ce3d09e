//! From rows to mails and requests.
//!
//! A mail is committed `in_data` before its final dot; what nobody can know after it is `unknown` and not sent again, as with
//! invitations. A request is committed, too, and made again when there was no answer: its receiver knows a message by its number. Who
//! does not take what it is given is tried again after 10 seconds, a minute and five minutes by the same run, then by those that follow,
//! for three days ([`LIFETIME`](verdict::LIFETIME)). The relay's breaker and its rate are those of the invitations, and so is the
//! question whether this database may send at all.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::store::{self, Channel, Claimed, DeliveryState};
use super::{mail, webhook};
use crate::config::{Shop, Webhook};
use crate::context::Context;
use crate::installation::{self, Foreign};
use crate::invitations::outbox::AttemptOutcome;
use crate::invitations::relay::{OneByOne, pause};
use crate::invitations::verdict::{self, Standing};
use crate::mail::transport::{Connection, Fault};
use crate::masked;
use crate::types::ShopId;

/// What became of the messages of one run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Delivered {
    pub n_sent: u64,
    pub n_failed: u64,
    pub n_unknown: u64,
    /// Those that wait for a later run.
    pub n_waiting: u64,
    /// What the relay did wrong last.
    pub relay_fault: Option<String>,
    /// Why no mail leaves for now.
    pub held: Option<String>,
}

/// Everything is delivered in one of these rounds, by one run.
struct Round<'a> {
    context: &'a Context,
    shops: Vec<(ShopId, &'a Shop)>,
    keys: Vec<i32>,
    begun: Instant,
    stop: &'a CancellationToken,
    relay: OneByOne,
    /// Whether mails may leave; `false` from the moment on that the relay fails.
    mails: bool,
    is_marked: bool,
    delivered: Delivered,
}

/// Sends what is due of these shops.
///
/// # Errors
/// When the database does not answer, or a template cannot be used.
pub async fn deliver(
    context: &Context,
    shops: &[(ShopId, &Shop)],
    stop: &CancellationToken,
) -> anyhow::Result<Delivered> {
    let keys: Vec<i32> = shops.iter().map(|(shop, _)| shop.0).collect();
    let n_unknown = store::settle(&context.pool, &keys, context.clock.now()).await?;
    let mut round = Round {
        context,
        shops: shops.to_vec(),
        keys,
        begun: Instant::now(),
        stop,
        relay: OneByOne::new(&context.config.mail),
        mails: true,
        is_marked: false,
        delivered: Delivered { n_unknown, ..Delivered::default() },
    };
    if store::waiting(&context.pool, &round.keys, &Channel::ALL).await?.0 > 0 {
        let mut conn = context.pool.acquire().await?;
        let checked = installation::check(&mut conn, &context.config).await;
        drop(conn);
        match checked {
            Ok(_) => round.send_all().await?,
            Err(error) => match error.downcast::<Foreign>() {
                Ok(foreign) => round.delivered.held = Some(foreign.to_string()),
                Err(error) => return Err(error),
            },
        }
    }
    let (n_waiting, _) = store::waiting(&context.pool, &round.keys, &Channel::ALL).await?;
    Ok(Delivered { n_waiting, ..round.delivered })
}

impl Round<'_> {
    fn now(&self) -> DateTime<Utc> {
        self.context.clock.now_since(self.begun)
    }

    fn channels(&self) -> &'static [Channel] {
        if self.mails { &Channel::ALL } else { &[Channel::Webhook] }
    }

    /// Until nothing is due, and nothing will be for as long as this run has patience.
    async fn send_all(&mut self) -> anyhow::Result<()> {
        let pool = &self.context.pool;
        self.ask_the_relay().await?;
        while !self.stop.is_cancelled() {
            let now = self.now();
            if let Some(claimed) = store::claim(pool, &self.keys, self.channels(), now).await? {
                self.send(&claimed).await?;
                continue;
            }
            let (_, next) = store::waiting(pool, &self.keys, self.channels()).await?;
            let Some(wait) = next.and_then(|next| (next - now).to_std().ok()) else { break };
            if self.begun.elapsed() + wait > self.context.config.notify.patience {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(wait.max(Duration::from_millis(10))) => {}
                () = self.stop.cancelled() => {}
            }
        }
        Ok(())
    }

    /// Whether mails may leave at all.
    async fn ask_the_relay(&mut self) -> anyhow::Result<()> {
        let (_, next) = store::waiting(&self.context.pool, &self.keys, &[Channel::Mail]).await?;
        // A probe is for whoever has something to send.
        if next.is_none_or(|next| next > self.now()) {
            return Ok(());
        }
        let now = self.now();
        if let Some(outage) = self.relay.ask(&self.context.pool, now).await? {
            self.mails = false;
            self.delivered.held = Some(outage.to_string());
        }
        Ok(())
    }

    async fn send(&mut self, claimed: &Claimed) -> anyhow::Result<()> {
        let Some(shop) = self.shops.iter().find(|(id, _)| *id == claimed.shop).map(|(_, shop)| *shop) else {
            return self.put_back(claimed, None).await;
        };
        match claimed.channel {
            Channel::Mail => self.send_mail(claimed, shop).await,
            Channel::Webhook => match &self.context.config.notify.webhook {
                Some(webhook) => self.request(claimed, shop, webhook).await,
                None => self.failed(claimed, "jobs.toml names no webhook any more").await,
            },
        }
    }

    async fn send_mail(&mut self, claimed: &Claimed, shop: &Shop) -> anyhow::Result<()> {
        let (context, pool) = (self.context, &self.context.pool);
        let config = &context.config;
        let composed = match mail::compose(&context.templates, config, shop, claimed, self.now()) {
            Ok(composed) => composed,
            Err(error) if error.is::<mail::Unmailable>() => {
                return self.failed(claimed, &error.to_string()).await;
            }
            Err(error) => {
                self.put_back(claimed, None).await?;
                return Err(error);
            }
        };
        if !self.relay.turn(pool, self.stop).await? {
            return self.put_back(claimed, None).await;
        }
        if !self.is_marked {
            // A database that loses what it knew of these mails is noticed, as with any mail.
            let mut conn = pool.acquire().await?;
            installation::leave_mark(&mut conn, config, None, self.now()).await?;
            self.is_marked = true;
        }
        let prepared = async {
            let mut connection = Connection::open(&config.mail.transport, &config.outbox_dir()).await?;
            connection.prepare(&composed.envelope_from, &composed.envelope_to).await?;
            Ok(connection)
        };
        let mut connection = match prepared.await {
            Ok(connection) => connection,
            Err(fault) => return self.at_fault(claimed, fault).await,
        };
        if !store::enter_data(pool, claimed).await? {
            // Somebody else has it; the connection expects a message now, so it is of no more use.
            return Ok(());
        }
        let name = format!("alert-{}-{}", claimed.shop, claimed.delivery);
        match connection.transmit(&composed.bytes, &name).await {
            Ok(()) => {
                store::settled(pool, claimed, DeliveryState::Sent, None, self.now()).await?;
                self.delivered.n_sent += 1;
                connection.close().await;
                Ok(self.relay.works(pool).await?)
            }
            Err(fault) => self.at_fault(claimed, fault).await,
        }
    }

    /// What a fault means for the mail and for the relay.
    async fn at_fault(&mut self, claimed: &Claimed, fault: Fault) -> anyhow::Result<()> {
        let now = self.now();
        let text = format!("{}: {}", fault.phase.as_str(), masked::words(&fault.text));
        let first_tried_at = (claimed.attempts > 1).then_some(claimed.queued_at);
        let verdict = verdict::judge(&fault, first_tried_at, now);
        match verdict.outcome {
            None => self.put_back(claimed, Some(&text)).await?,
            Some(AttemptOutcome::Deferred) => self.later(claimed, &text).await?,
            Some(AttemptOutcome::Failed | AttemptOutcome::Sent) => self.failed(claimed, &text).await?,
            Some(AttemptOutcome::Unknown) => {
                let state = DeliveryState::Unknown;
                store::settled(&self.context.pool, claimed, state, Some(&text), now).await?;
                self.delivered.n_unknown += 1;
            }
        }
        let now = self.now();
        if let Some(held) = self.relay.heard(&self.context.pool, verdict.relay, &text, now).await? {
            self.delivered.held = Some(held);
            self.mails = false;
        }
        if matches!(verdict.relay, Standing::Faulty | Standing::Refuses) {
            self.delivered.relay_fault = Some(text);
        }
        Ok(())
    }

    async fn request(&mut self, claimed: &Claimed, shop: &Shop, webhook: &Webhook) -> anyhow::Result<()> {
        let now = self.now();
        let body = webhook::body(&self.context.templates, &shop.key, claimed, now)?;
        if !store::enter_data(&self.context.pool, claimed).await? {
            return Ok(());
        }
        match webhook::post(webhook, body, now).await {
            Ok(()) => {
                store::settled(&self.context.pool, claimed, DeliveryState::Sent, None, now).await?;
                self.delivered.n_sent += 1;
                Ok(())
            }
            Err(fault) => self.later(claimed, &fault).await,
        }
    }

    /// To be tried again, if it is not too old for that.
    async fn later(&mut self, claimed: &Claimed, fault: &str) -> anyhow::Result<()> {
        let now = self.now();
        if claimed.attempts > 1 && now - claimed.queued_at >= verdict::LIFETIME {
            return self.failed(claimed, fault).await;
        }
        tracing::warn!(
            alert.delivery = claimed.delivery,
            "message {} about an alert waits: {fault}",
            claimed.delivery
        );
        let next = now + pause(claimed.attempts);
        store::put_back(&self.context.pool, claimed, Some(fault), next, false).await?;
        Ok(())
    }

    /// Nothing was tried that has to do with this message.
    async fn put_back(&mut self, claimed: &Claimed, fault: Option<&str>) -> anyhow::Result<()> {
        let next = self.now() + pause(claimed.attempts);
        store::put_back(&self.context.pool, claimed, fault, next, fault.is_none()).await?;
        Ok(())
    }

    async fn failed(&mut self, claimed: &Claimed, fault: &str) -> anyhow::Result<()> {
        tracing::warn!(
            alert.delivery = claimed.delivery,
            "message {} about an alert failed: {fault}",
            claimed.delivery
        );
        store::settled(&self.context.pool, claimed, DeliveryState::Failed, Some(fault), self.now()).await?;
        self.delivered.n_failed += 1;
        Ok(())
    }
}
