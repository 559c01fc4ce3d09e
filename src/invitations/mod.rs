//! Stage 2, invitations out: one decision per order, then the mails through an outbox.
//!
//! [`decide`] writes a row per due order: queued, or skipped with its reason. [`sender`] takes queued rows under a lease and speaks
//! with the relay; [`verdict`] says what its faults mean, [`relay`] whether it works at all; [`outbox`] holds every change of a row's
//! state, and the recorder gathers them into few commits. If we die, the rows say where: a claimed row goes back to the queue,
//! because no final dot was written; a row in `in_data` becomes `unknown`, is listed, and is never sent again by itself.

pub mod decide;
pub mod plan;
pub mod outbox;
pub mod brakes;
pub mod compose;
mod recorder;
pub mod relay;
pub mod sender;
pub mod bounces;
pub mod suppression;
pub mod verdict;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use self::decide::{Decided, Terms};
use self::plan::{Left, Planned};
use crate::config::Shop;
use crate::context::Context;
use crate::db::outage::Outage;
use crate::db::{self, Table, Turn};
use crate::installation;
use crate::masked;
use crate::progress::Progress;
use crate::survey::{self, Survey};
use crate::types::ShopId;

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
    /// While it waited the order was cancelled, refunded or changed, or the customer answered or withdrew the consent.
    Cancelled,
    /// While it waited the customer opted out or was erased.
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
    /// The order was.
    Cancelled,
    /// The order was.
    Refunded,
    /// The customer was erased.
    NoAddress,
    /// No mail can be written to the address, whoever tries.
    BadAddress,
    /// The customer has opted out.
    Unsubscribed,
    /// On the do-not-contact list for another reason.
    Suppressed,
    /// Said no, or said nothing where a yes is demanded.
    NoConsent,
    /// Due longer ago than the survey's `max_lateness`.
    TooLate,
    /// There is an answer about the order already.
    Answered,
    /// Another survey has asked about the order, or a past that a restored database has lost may have.
    AlreadyAsked,
    /// Drawn by lot.
    NotSampled,
    /// The customer was asked within the survey's `throttle`, or is asked about another order.
    Throttled,
    /// Drawn by lot from those beyond `max_per_day`.
    OverCap,
    /// It is another customer's now, or has lost the delivery that the survey waits for.
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
    /// Orders newly decided to be asked about, and those decided against, by reason.
    #[serde(flatten)]
    pub first: Decided,
    /// The same for reminders.
    pub reminders: Decided,
    /// What became of the mails of this run.
    #[serde(flatten)]
    pub delivery: sender::Delivery,
    /// Order by order, what would be done (a dry run).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<Planned>,
    /// Why nothing more could be done for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl SendReport {
    /// Whether some mails could not be delivered.
    pub fn is_partial(&self) -> bool {
        self.shops.iter().any(|shop| {
            let delivery = &shop.delivery;
            delivery.n_failed + delivery.n_unknown + delivery.settled.n_unknown > 0
                || delivery.relay_fault.is_some()
                || delivery.outage.is_some()
                || shop.error.is_some()
        })
    }

    /// Why the job is not to run again until somebody has looked; `None`: it may.
    pub fn brake(&self) -> Option<String> {
        let pulled = |shop: &ShopReport| Some(format!("{}: {}", shop.shop, shop.delivery.brake.as_ref()?));
        self.shops.iter().find_map(pulled)
    }
}

/// How a run is to go about it.
#[derive(Debug, Clone, Default)]
pub struct Manner {
    /// Write and mail nothing; say what a run at the same moment would do.
    pub dry_run: bool,
    /// The brakes look only at what happened since.
    pub resumed_at: Option<DateTime<Utc>>,
    /// A relay that was at fault is tried now, whenever it would be its time.
    pub probe_now: bool,
    /// Told how many mails are done.
    pub progress: Progress,
}

/// Decides about every due order and reminder of the survey, then delivers what is queued.
///
/// # Errors
/// [`Foreign`](crate::installation::Foreign) (inside) when nothing may be sent from this database; or when the database does not answer.
/// What goes wrong with a mail is counted, not an error.
pub async fn send(
    context: &Context,
    survey: &Survey,
    manner: Manner,
    stop: &CancellationToken,
) -> anyhow::Result<SendReport> {
    let asked_until = {
        let mut conn = context.pool.acquire().await?;
        let asked_until = installation::check(&mut conn, &context.config).await?;
        if !manner.dry_run {
            installation::leave_mark(&mut conn, &context.config, None, context.clock.now()).await?;
        }
        asked_until
    };
    let mut report = SendReport::default();
    let mut first_error = None;
    for (shop_id, shop) in context.shops.iter().filter(|(_, shop)| survey.is_for(&shop.key)) {
        match send_for(context, shop_id, shop, survey, asked_until, manner.clone(), stop).await {
            Ok(of_shop) => report.shops.push(of_shop),
            // That concerns every shop.
            Err(error) if error.is::<installation::Foreign>() || Outage::behind(&error).is_some() => {
                return Err(error);
            }
            Err(error) => {
                report.shops.push(ShopReport {
                    shop: shop.key.clone(),
                    error: Some(masked::reason(&error)),
                    ..ShopReport::default()
                });
                first_error.get_or_insert(error);
            }
        }
    }
    match first_error {
        // None was served.
        Some(error) if report.shops.iter().all(|shop| shop.error.is_some()) => Err(error),
        _ => Ok(report),
    }
}

/// The same for one shop.
async fn send_for(
    context: &Context,
    shop_id: ShopId,
    shop: &Shop,
    survey: &Survey,
    asked_until: Option<DateTime<Utc>>,
    manner: Manner,
    stop: &CancellationToken,
) -> anyhow::Result<ShopReport> {
    let mut report = decide_and_settle(context, shop_id, shop, survey, asked_until, &manner).await?;
    if !manner.dry_run {
        let at_most = survey.max_per_run.map(u64::from);
        let settled = std::mem::take(&mut report.delivery.settled);
        report.delivery = sender::deliver(context, shop_id, shop, survey, at_most, manner, stop).await?;
        report.delivery.settled = settled;
    }
    Ok(report)
}

/// One transaction: what became of those who waited, and the decisions. A dry run reads what it would do from it, and rolls it back.
async fn decide_and_settle(
    context: &Context,
    shop_id: ShopId,
    shop: &Shop,
    survey: &Survey,
    asked_until: Option<DateTime<Utc>>,
    manner: &Manner,
) -> anyhow::Result<ShopReport> {
    let mut report = ShopReport { shop: shop.key.clone(), ..ShopReport::default() };
    let mut transaction = context.pool.begin().await?;
    // The first decision of a shop goes through its whole history.
    db::lift_statement_timeout(&mut transaction).await?;
    // The throttle looks at what others decide. A first decision, or a dry run of one, may take a while.
    sqlx::raw_sql("set local lock_timeout = '10min'").execute(&mut *transaction).await?;
    db::take_turn(&mut transaction, Turn::Decisions, shop_id).await?;
    let now = context.clock.now();
    let by_event = context.config.surveys.iter().filter(|survey| survey.trigger.event().is_some());
    let by_event: Vec<String> = by_event.map(|survey| survey.key.clone()).collect();
    let terms = Terms {
        shop: shop_id,
        timezone: shop.timezone,
        survey,
        version: survey::version(&mut transaction, shop_id, survey, now).await?,
        sampling_key: &context.tokens.derived_key(&format!("sample {}", survey.key)),
        asked_until,
        by_event: &by_event,
        now,
    };
    // First, so that a mail that is given up stands in no other order's way, and what is decided below is not looked at twice.
    report.delivery.settled = outbox::settle(&mut transaction, shop_id, survey, now).await?;
    let before = plan::last_invitation(&mut transaction, shop_id).await?;
    report.first = decide::decide(&mut transaction, &terms).await?;
    report.reminders = decide::remind(&mut transaction, &terms).await?;
    // Before anything looks at the new rows: thousands of them would be joined as if there were none.
    let n_decided = report.first.n() + report.reminders.n();
    db::analyze_grown(&mut transaction, Table::Invitation, shop_id, n_decided).await?;
    if manner.dry_run {
        let watched = brakes::Watched {
            shop: shop_id,
            limits: context.config.mail.brakes,
            resumed_at: manner.resumed_at,
        };
        let returned = brakes::returned(&mut *transaction, watched, now).await?;
        let brake = returned.or(brakes::latest(&mut *transaction, watched).await?);
        report.delivery.brake = brake.map(|brake| brake.to_string());
        let is_open = sender::is_open(survey.send_window.as_ref(), now, shop.timezone);
        report.delivery.window_closed = !is_open;
        let given_up = &report.delivery.settled.given_up;
        let is_braked = report.delivery.brake.is_some();
        let left = Left { shop: shop_id, survey, before, given_up, is_open, is_braked, now };
        report.plan = plan::plan(&mut transaction, left).await?;
        transaction.rollback().await?;
    } else {
        transaction.commit().await?;
    }
    Ok(report)
}
