//! Authors whose words are rejected are told why, by mail, once (French consumer code, D111-19).
//!
//! A row in `rejection` is written in the transaction that rejects, one for each reason; [`deliver`] takes the rows up. A mail is committed
//! `in_data` before its final dot; what nobody can know after it is `unknown`, is shown with the testimonial and in the digest, and is not sent again. What is
//! decided otherwise before the mail has left calls it back. Who may not be written to is not told by mail; the row says so. The
//! survey's page tells the reason to whoever comes back by the link, mailed or not.

pub mod deliver;
mod mail;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgPool};

pub(crate) use self::mail::sentence;
use super::RejectReason;
use crate::process;
use crate::types::{CustomerId, InvitationId, ResponseId, ShopId};

/// What became of the mail to an author. The database's `rejection_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type)]
#[sqlx(type_name = "rejection_state", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum RejectionState {
    Queued,
    /// Committed before the final dot.
    InData,
    Sent,
    /// Given up.
    Failed,
    /// Nobody can know whether it arrived; it is not sent again.
    Unknown,
    /// Somebody decided otherwise before it left.
    Cancelled,
    /// The author may not or cannot be written to.
    Unmailable,
}

impl RejectionState {
    /// Every state, in the order of the database.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::InData,
        Self::Sent,
        Self::Failed,
        Self::Unknown,
        Self::Cancelled,
        Self::Unmailable,
    ];
}

/// Queues a mail about each of these, for this reason. Who was told of it before, or is being told, is not told again.
pub(super) async fn queue(
    conn: &mut PgConnection,
    shops: &[i32],
    responses: &[i64],
    reason: RejectReason,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into rejection (shop_id, response_id, reason, queued_at, next_try_at)
         select t.shop_id, t.response_id, $3, $4, $4
         from testimonial t join response r using (shop_id, response_id)
         where t.shop_id = any($1) and t.response_id = any($2) and r.counted
         on conflict (shop_id, response_id, reason) do update
         set state = 'queued', queued_at = excluded.queued_at, next_try_at = excluded.next_try_at, attempts = 0, settled_at = null,
             fault = null
         where rejection.state = 'cancelled'",
        shops,
        responses,
        reason as RejectReason,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Calls back what is queued about these; what is on its way cannot be.
pub(super) async fn call_back(
    conn: &mut PgConnection,
    shops: &[i32],
    responses: &[i64],
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update rejection set state = 'cancelled', settled_at = $3, claimed_by = null, lease_until = null
         where shop_id = any($1) and response_id = any($2) and state = 'queued'",
        shops,
        responses,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What an author was told, or will be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    pub reason: RejectReason,
    pub state: RejectionState,
    pub queued_at: DateTime<Utc>,
    pub settled_at: Option<DateTime<Utc>>,
    /// What went wrong, or why there is no mail; without addresses.
    pub fault: Option<String>,
}

/// What the author of this testimonial was told, the oldest first.
///
/// # Errors
/// When the database does not answer.
pub async fn told(pool: &PgPool, shops: &[ShopId], id: ResponseId) -> sqlx::Result<Vec<Told>> {
    let shops: Vec<i32> = shops.iter().map(|shop| shop.0).collect();
    sqlx::query_as!(
        Told,
        r#"select reason as "reason: RejectReason", state as "state: RejectionState", queued_at, settled_at, fault
           from rejection where shop_id = any($1) and response_id = $2 order by queued_at, reason"#,
        &shops,
        id.0,
    )
    .fetch_all(pool)
    .await
}

/// After a restore nobody can know whether the mails that wait have left in the time that was lost. How many these were.
///
/// # Errors
/// When the database does not answer.
pub async fn doubt_all(conn: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<u64> {
    let doubted = sqlx::query!(
        "update rejection
         set state = 'unknown', claimed_by = null, lease_until = null, settled_at = $1,
             fault = 'the database was restored; it may have been mailed in the time that was lost'
         where state in ('queued', 'in_data')",
        now,
    )
    .execute(conn)
    .await?;
    Ok(doubted.rows_affected())
}

/// The testimonials about whose rejection nobody knows whether the mail arrived, the latest first.
///
/// # Errors
/// When the database does not answer.
pub async fn unknown(pool: &PgPool) -> sqlx::Result<Vec<ResponseId>> {
    sqlx::query_scalar!(
        r#"select response_id as "response: ResponseId" from rejection where state = 'unknown' order by settled_at desc"#
    )
    .fetch_all(pool)
    .await
}

/// A mail in our hands, and what it is about.
#[derive(Clone)]
struct Claimed {
    shop: ShopId,
    response: ResponseId,
    reason: RejectReason,
    queued_at: DateTime<Utc>,
    /// This try included.
    attempts: i16,
    /// There is nothing to tell any more.
    moot: bool,
    /// Why the author cannot be told.
    unmailable: Option<String>,
    invitation: Option<InvitationId>,
    customer: CustomerId,
    answered_at: DateTime<Utc>,
    external_id: String,
    locale: String,
    email: Option<String>,
    first_name: Option<String>,
}

/// Puts right what was in the hands of a process that is gone. How many mails are unknown now.
async fn settle(pool: &PgPool, shops: &[i32], now: DateTime<Utc>) -> sqlx::Result<u64> {
    let owners = sqlx::query_scalar!(
        r#"select distinct claimed_by as "claimed_by!" from rejection
           where shop_id = any($1) and state in ('queued', 'in_data') and claimed_by is not null"#,
        shops,
    )
    .fetch_all(pool)
    .await?;
    let gone: Vec<String> = owners.into_iter().filter(|owner| process::is_gone(owner)).collect();
    let lost = sqlx::query_scalar!(
        r#"with settled as (
               update rejection
               set state = case state when 'in_data' then 'unknown' else 'queued' end::rejection_state,
                   settled_at = case state when 'in_data' then $3::timestamptz end,
                   fault = case state when 'in_data' then 'the program ended before the relay answered' else fault end,
                   claimed_by = null, lease_until = null
               where shop_id = any($1) and state in ('queued', 'in_data')
                 and (lease_until < clock_timestamp() or claimed_by = any($2))
               returning state
           )
           select count(*) filter (where state = 'unknown') as "n!" from settled"#,
        shops,
        &gone,
        now,
    )
    .fetch_one(pool)
    .await?;
    Ok(lost.unsigned_abs())
}

/// Takes the mail that has waited longest, if one of these shops is due.
async fn claim(pool: &PgPool, shops: &[i32], now: DateTime<Utc>) -> sqlx::Result<Option<Claimed>> {
    sqlx::query_as!(
        Claimed,
        r#"with due as (
               select shop_id, response_id, reason from rejection
               where shop_id = any($1) and state = 'queued' and next_try_at <= $2 and claimed_by is null
               order by next_try_at, response_id
               limit 1
               for update skip locked
           ), claimed as (
               update rejection j
               set claimed_by = $3, lease_until = clock_timestamp() + interval '15 minutes', attempts = attempts + 1
               from due
               where j.shop_id = due.shop_id and j.response_id = due.response_id and j.reason = due.reason
               returning j.*
           )
           select j.shop_id as "shop!: ShopId", j.response_id as "response!: ResponseId", j.reason as "reason!: RejectReason",
               j.queued_at as "queued_at!", j.attempts as "attempts!", b.moot as "moot!", b.unmailable,
               r.invitation_id as "invitation: InvitationId", c.customer_id as "customer: CustomerId", r.answered_at, o.external_id,
               coalesce(o.locale, r.locale) as "locale!", c.email, c.first_name
           from claimed j
           join rejection_obstacle b using (shop_id, response_id, reason)
           join response r using (shop_id, response_id)
           join "order" o using (shop_id, order_id)
           join customer c using (shop_id, customer_id)"#,
        shops,
        now,
        process::name(),
    )
    .fetch_optional(pool)
    .await
}

/// Commits that the mail is about to leave. `false`: it is not ours any more, or must not.
async fn enter_data(pool: &PgPool, claimed: &Claimed) -> sqlx::Result<bool> {
    let entered = sqlx::query!(
        "update rejection j set state = 'in_data'
         from rejection_obstacle b
         where j.shop_id = $1 and j.response_id = $2 and j.reason = $3 and j.state = 'queued' and j.claimed_by = $4
           and j.lease_until > clock_timestamp()
           and b.shop_id = j.shop_id and b.response_id = j.response_id and b.reason = j.reason
           and not b.moot and b.unmailable is null",
        claimed.shop.0,
        claimed.response.0,
        claimed.reason as RejectReason,
        process::name(),
    )
    .execute(pool)
    .await?;
    Ok(entered.rows_affected() == 1)
}

/// What became of a mail. `false`: it was not ours any more.
async fn settled(
    pool: &PgPool,
    claimed: &Claimed,
    state: RejectionState,
    fault: Option<&str>,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let settled = sqlx::query!(
        "update rejection set state = $4, fault = $5, settled_at = $6, claimed_by = null, lease_until = null
         where shop_id = $1 and response_id = $2 and reason = $3 and claimed_by = $7 and state in ('queued', 'in_data')",
        claimed.shop.0,
        claimed.response.0,
        claimed.reason as RejectReason,
        state as RejectionState,
        fault,
        now,
        process::name(),
    )
    .execute(pool)
    .await?;
    Ok(settled.rows_affected() == 1)
}

/// Puts a mail back, to be tried again from then on. `untried`: this try counts as none.
async fn put_back(
    pool: &PgPool,
    claimed: &Claimed,
    fault: Option<&str>,
    next_try_at: DateTime<Utc>,
    untried: bool,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update rejection
         set state = 'queued', fault = coalesce($4, fault), next_try_at = $5, claimed_by = null, lease_until = null,
             attempts = attempts - $6::int::smallint
         where shop_id = $1 and response_id = $2 and reason = $3 and claimed_by = $7 and state in ('queued', 'in_data')",
        claimed.shop.0,
        claimed.response.0,
        claimed.reason as RejectReason,
        fault,
        next_try_at,
        i32::from(untried),
        process::name(),
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// How many mails of these shops wait.
///
/// # Errors
/// When the database does not answer.
pub async fn n_waiting(pool: &PgPool, shops: &[i32]) -> sqlx::Result<u64> {
    let n = sqlx::query_scalar!(
        r#"select count(*) as "n!" from rejection where shop_id = any($1) and state in ('queued', 'in_data')"#,
        shops,
    )
    .fetch_one(pool)
    .await?;
    Ok(n.unsigned_abs())
}
