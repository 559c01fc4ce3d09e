//! From rows to mails.
//!
//! One after the other, over a connection each: they are few. What the relay does not take is tried again by the runs that follow, for
//! three days ([`LIFETIME`](verdict::LIFETIME)). The relay's breaker and its rate are those of the invitations, and so is the question
//! whether this database may send at all.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::mail::{self, Unmailable};
use super::{Claimed, RejectionState};
use crate::config::Shop;
use crate::context::Context;
use crate::installation;
use crate::invitations::outbox::AttemptOutcome;
use crate::invitations::relay::{OneByOne, pause};
use crate::invitations::suppression::{self, SuppressionReason};
use crate::invitations::verdict::{self, Standing};
use crate::mail::transport::{Connection, Fault};
use crate::masked;
use crate::responses::store;
use crate::types::ShopId;

/// What became of the mails of one run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Delivered {
    pub n_sent: u64,
    pub n_failed: u64,
    pub n_unknown: u64,
    /// Authors who may not or cannot be written to.
    pub n_unmailable: u64,
    /// Those that wait for a later run.
    pub n_waiting: u64,
    /// Why no mail leaves for now.
    pub held: Option<String>,
}

struct Round<'a> {
    context: &'a Context,
    shops: HashMap<ShopId, &'a Shop>,
    relay: OneByOne,
    stop: &'a CancellationToken,
    delivered: Delivered,
}

/// Sends what is due of these shops.
///
/// # Errors
/// When the database is a copy that may not send ([`installation::Foreign`] inside) or does not answer, or a template cannot be used.
pub async fn deliver(
    context: &Context,
    shops: &[(ShopId, &Shop)],
    stop: &CancellationToken,
) -> anyhow::Result<Delivered> {
    let pool = &context.pool;
    let keys: Vec<i32> = shops.iter().map(|(shop, _)| shop.0).collect();
    let now = context.clock.now();
    let n_unknown = super::settle(pool, &keys, now).await?;
    let mut round = Round {
        context,
        shops: shops.iter().copied().collect(),
        relay: OneByOne::new(&context.config.mail),
        stop,
        delivered: Delivered { n_unknown, ..Delivered::default() },
    };
    let mut is_first = true;
    while !stop.is_cancelled() && round.delivered.held.is_none() {
        let Some(claimed) = super::claim(pool, &keys, now).await? else { break };
        if claimed.moot || claimed.unmailable.is_some() {
            round.drop(&claimed).await?;
            continue;
        }
        if std::mem::take(&mut is_first) && !round.may_begin(&claimed).await? {
            break;
        }
        round.send(&claimed).await?;
    }
    let n_waiting = super::n_waiting(pool, &keys).await?;
    Ok(Delivered { n_waiting, ..round.delivered })
}

impl Round<'_> {
    fn now(&self) -> DateTime<Utc> {
        self.context.clock.now()
    }

    /// Whether this database and the relay let mails leave; asked when there is one. If not, it is put back.
    async fn may_begin(&mut self, claimed: &Claimed) -> anyhow::Result<bool> {
        let pool = &self.context.pool;
        let mut conn = pool.acquire().await?;
        let checked = installation::check(&mut conn, &self.context.config).await;
        if let Err(error) = checked {
            drop(conn);
            self.put_back(claimed, None).await?;
            return Err(error);
        }
        if let Some(outage) = self.relay.ask(pool, self.now()).await? {
            drop(conn);
            self.put_back(claimed, None).await?;
            self.delivered.held = Some(outage.to_string());
            return Ok(false);
        }
        // A database that loses what it knew of these mails is noticed, as with any mail.
        installation::leave_mark(&mut conn, &self.context.config, None, self.now()).await?;
        Ok(true)
    }

    /// There is nothing to tell, or nobody who may be told.
    async fn drop(&mut self, claimed: &Claimed) -> anyhow::Result<()> {
        let (state, fault) = match &claimed.unmailable {
            _ if claimed.moot => (RejectionState::Cancelled, None),
            why => (RejectionState::Unmailable, why.as_deref()),
        };
        let is_ours = super::settled(&self.context.pool, claimed, state, fault, self.now()).await?;
        self.delivered.n_unmailable += u64::from(is_ours && state == RejectionState::Unmailable);
        Ok(())
    }

    async fn send(&mut self, claimed: &Claimed) -> anyhow::Result<()> {
        let (context, pool) = (self.context, &self.context.pool);
        let Some(shop) = self.shops.get(&claimed.shop).copied() else {
            return self.put_back(claimed, None).await;
        };
        let until = amend_until(context, claimed).await?;
        let composed = match mail::compose(context, shop, claimed, until, self.now()) {
            Ok(composed) => composed,
            Err(error) if error.is::<Unmailable>() => {
                let fault = error.to_string();
                super::settled(pool, claimed, RejectionState::Unmailable, Some(&fault), self.now()).await?;
                self.delivered.n_unmailable += 1;
                return Ok(());
            }
            Err(error) => {
                self.put_back(claimed, None).await?;
                return Err(error);
            }
        };
        if !self.relay.turn(pool, self.stop).await? {
            return self.put_back(claimed, None).await;
        }
        let prepared = async {
            let transport = &context.config.mail.transport;
            let mut connection = Connection::open(transport, &context.config.outbox_dir()).await?;
            connection.prepare(&composed.envelope_from, &composed.envelope_to).await?;
            Ok(connection)
        };
        let mut connection = match prepared.await {
            Ok(connection) => connection,
            Err(fault) => return self.at_fault(claimed, fault).await,
        };
        if !super::enter_data(pool, claimed).await? {
            // Decided otherwise since, or in other hands; whoever claims it next sees which. The connection is of no more use.
            return self.put_back(claimed, None).await;
        }
        match connection.transmit(&composed.bytes, &mail::name(claimed)).await {
            Ok(()) => {
                super::settled(pool, claimed, RejectionState::Sent, None, self.now()).await?;
                self.delivered.n_sent += 1;
                connection.close().await;
                Ok(self.relay.works(pool).await?)
            }
            Err(fault) => self.at_fault(claimed, fault).await,
        }
    }

    /// What a fault means for the mail and for the relay.
    async fn at_fault(&mut self, claimed: &Claimed, fault: Fault) -> anyhow::Result<()> {
        let (pool, now) = (&self.context.pool, self.now());
        let text = format!("{}: {}", fault.phase.as_str(), masked::words(&fault.text));
        let first_tried_at = (claimed.attempts > 1).then_some(claimed.queued_at);
        let verdict = verdict::judge(&fault, first_tried_at, now);
        let id = claimed.response;
        match verdict.outcome {
            None => self.put_back(claimed, Some(&text)).await?,
            Some(AttemptOutcome::Deferred) => {
                super::put_back(pool, claimed, Some(&text), now + pause(claimed.attempts), false).await?;
            }
            Some(AttemptOutcome::Failed | AttemptOutcome::Sent) => {
                tracing::warn!(response.id = id.0, "the author of testimonial {id} was not told: {text}");
                super::settled(pool, claimed, RejectionState::Failed, Some(&text), now).await?;
                if verdict.suppress {
                    let mut conn = pool.acquire().await?;
                    let why = SuppressionReason::Bounced;
                    suppression::add(&mut conn, claimed.shop, claimed.customer, why, now).await?;
                }
                self.delivered.n_failed += 1;
            }
            Some(AttemptOutcome::Unknown) => {
                super::settled(pool, claimed, RejectionState::Unknown, Some(&text), now).await?;
                self.delivered.n_unknown += 1;
            }
        }
        let is_at_fault = matches!(verdict.relay, Standing::Faulty | Standing::Refuses);
        let held = self.relay.heard(pool, verdict.relay, &text, now).await?;
        // One fault is enough: the next run tries the others.
        self.delivered.held = held.or_else(|| is_at_fault.then_some(text));
        Ok(())
    }

    /// Nothing was tried that has to do with this mail.
    async fn put_back(&mut self, claimed: &Claimed, fault: Option<&str>) -> anyhow::Result<()> {
        let next = self.now() + pause(claimed.attempts);
        super::put_back(&self.context.pool, claimed, fault, next, true).await?;
        Ok(())
    }
}

/// Until when the author can change the answer by the survey's link; `None`: not, or not any more.
async fn amend_until(context: &Context, claimed: &Claimed) -> anyhow::Result<Option<DateTime<Utc>>> {
    let Some(invitation) = claimed.invitation else { return Ok(None) };
    let mut conn = context.pool.acquire().await?;
    let Some(invited) = store::invited(&mut conn, claimed.shop, invitation).await? else { return Ok(None) };
    let Some(survey) = context.config.survey(&invited.survey) else { return Ok(None) };
    let given = store::given(&mut conn, &invited).await?;
    Ok(given.changeable_until(&invited, survey).filter(|until| *until > context.clock.now()))
}
