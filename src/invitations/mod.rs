//! Stage 2, invitations out: one decision per order, then the mails through an outbox.
//!
//! [`decide`] writes a row per due order: queued, or skipped with its reason. [`sender`] takes queued rows under a lease and speaks
//! with the relay; [`outbox`] holds every change of a row's state, and the recorder
//! gathers them into few commits. If we die, the rows say where: a claimed row goes back to the queue,
//! because no final dot was written; a row in `in_data` becomes `unknown`, is listed, and is never sent again by itself.

pub mod bounces;
pub mod compose;
pub mod decide;
pub mod outbox;
mod recorder;
pub mod sender;
pub mod suppression;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::db::{self, Table};
use crate::survey::{self, Survey};

/// Where an invitation stands. The database's `invitation_state`.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    sqlx::Type,
    clap::ValueEnum,
)]
#[sqlx(type_name = "invitation_state", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum InvitationState {
    /// Decided against.
    Skipped,
    /// To be mailed.
    Queued,
    /// In a sender's hands; no final dot was written.
    Claimed,
    /// Committed before the final dot.
    InData,
    /// The relay answered 2xx.
    Sent,
    /// The relay said later.
    Deferred,
    /// The relay said no.
    Failed,
    /// Nobody can know; never sent again by itself.
    Unknown,
    /// Waited too long.
    Expired,
    /// The order was cancelled or refunded while it waited.
    Cancelled,
    /// The customer opted out while it waited.
    Suppressed,
}

impl InvitationState {
    /// As the database writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Queued => "queued",
            Self::Claimed => "claimed",
            Self::InData => "in_data",
            Self::Sent => "sent",
            Self::Deferred => "deferred",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Suppressed => "suppressed",
        }
    }
}

/// Why an order is not asked, or not any more. The database's `decision_reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type)]
#[sqlx(type_name = "decision_reason", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    Cancelled,
    Refunded,
    NoAddress,
    BadAddress,
    Unsubscribed,
    Suppressed,
    NoConsent,
    TooLate,
    Answered,
    AlreadyAsked,
    NotSampled,
    Throttled,
    OverCap,
    OrderChanged,
}

impl Reason {
    /// What a person reads.
    pub fn words(self) -> &'static str {
        match self {
            Self::Cancelled => "the order was cancelled",
            Self::Refunded => "the order was refunded",
            Self::NoAddress => "there is no address; the customer was erased",
            Self::BadAddress => "the address cannot be mailed",
            Self::Unsubscribed => "the customer unsubscribed",
            Self::Suppressed => "the address is on the do-not-contact list",
            Self::NoConsent => "the customer did not agree to be asked, which their country demands",
            Self::TooLate => "it was due too long ago",
            Self::Answered => "the customer has answered",
            Self::AlreadyAsked => "the customer was, or may have been, asked about this order before",
            Self::NotSampled => "it is not in the sample",
            Self::Throttled => "the customer was asked recently, or is asked about another order",
            Self::OverCap => "as many as allowed were asked on that day",
            Self::OrderChanged => "the order changed: it is another customer's now, or no longer delivered",
        }
    }
}

/// What one run did, shop by shop.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SendReport {
    pub shops: Vec<ShopReport>,
}

/// What one run did for one shop.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ShopReport {
    pub shop: String,
    /// Orders newly decided to be asked.
    pub n_queued: u64,
    /// Orders newly decided against, by reason.
    pub n_skipped: BTreeMap<Reason, u64>,
    /// What became of the mails of this run.
    #[serde(flatten)]
    pub delivery: sender::Delivery,
    /// The decisions, where they were asked for (a dry run).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<decide::Decision>,
}

impl SendReport {
    /// Whether some mails could not be delivered.
    pub fn is_partial(&self) -> bool {
        self.shops.iter().any(|shop| {
            let delivery = &shop.delivery;
            delivery.n_failed + delivery.n_unknown + delivery.settled.n_unknown > 0
                || delivery.relay_fault.is_some()
        })
    }
}

/// Decides about every due order of the survey, then delivers what is queued. A dry run writes and mails nothing, and reports the
/// decisions that a run at the same moment would make.
///
/// # Errors
/// When the database does not answer. What goes wrong with a mail is counted, not an error.
pub async fn send(
    context: &Context,
    survey: &Survey,
    dry_run: bool,
    stop: &CancellationToken,
) -> anyhow::Result<SendReport> {
    let mut report = SendReport::default();
    for (shop_id, shop) in context.shops.iter().filter(|(_, shop)| survey.is_for(&shop.key)) {
        let now = context.clock.now();
        let mut shop_report = ShopReport { shop: shop.key.clone(), ..ShopReport::default() };
        let mut transaction = context.pool.begin().await?;
        // The first decision of a shop goes through its whole history.
        db::lift_statement_timeout(&mut transaction).await?;
        let version = survey::version(&mut transaction, shop_id, survey, now).await?;
        let sampling_key = context.tokens.derived_key(&format!("sample {}", survey.key));
        let decided =
            decide::decide(&mut transaction, shop_id, survey, version, &sampling_key, now, dry_run).await?;
        shop_report.n_queued = decided.n_queued;
        shop_report.n_skipped = decided.n_skipped;
        shop_report.decisions = decided.decisions;
        if dry_run {
            let window = survey.send_window.as_ref();
            shop_report.delivery.window_closed = !sender::is_open(window, now, shop.timezone);
            transaction.rollback().await?;
        } else {
            let n_decided = decided.n_queued + shop_report.n_skipped.values().sum::<u64>();
            db::analyze_grown(&mut transaction, Table::Invitation, n_decided).await?;
            transaction.commit().await?;
            shop_report.delivery = sender::deliver(context, shop_id, shop, survey, stop).await?;
        }
        report.shops.push(shop_report);
    }
    Ok(report)
}
