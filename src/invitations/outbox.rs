//! The outbox: every change of an invitation's state after the decision happens here, and what is listed of it.
//!
//! ```text
//! queued ──► claimed ──► in_data ──► sent | failed | deferred | unknown
//!    ▲          │                               │
//!    └──────────┴───── lease ran out ◄──────────┘ due again
//! ```
//!
//! A sender owns a row by its fence, a number that grows with every claim; what a sender with an old fence writes changes nothing.
//! Leases run on the database's clock, due times on ours.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::Stream;
use serde::Serialize;
use sqlx::{PgConnection, PgExecutor, PgPool};

use super::{InvitationState, Reason, decide};
use crate::mail::transport::{Fault, Phase};
use crate::process::{self, Hold};
use crate::survey::Survey;
use crate::types::{CustomerId, InvitationId, OrderId, ShopId, SurveyVersionId};

/// How many rows a claim takes at most.
pub const BATCH: i64 = 200;

/// A claim reads its index from the front, and finds everything else by its key. With statistics of an hour in which nothing waited, all that
/// waits would be judged and sorted for each batch.
pub const FROM_THE_FRONT: &str = "set local enable_seqscan = off; set local enable_bitmapscan = off; set local enable_sort = off; set local enable_hashjoin = off";

/// A claimed row with what a mail needs.
#[derive(Debug, Clone)]
pub struct Claimed {
    pub shop: ShopId,
    pub invitation: InvitationId,
    pub fence: i64,
    pub wave: i16,
    pub attempts: i16,
    /// Its place in the queue.
    pub next_attempt_at: DateTime<Utc>,
    /// When the relay first said "later" to it.
    pub first_deferred_at: Option<DateTime<Utc>>,
    pub message_id: Option<String>,
    pub survey_version: SurveyVersionId,
    pub order: OrderId,
    pub customer: CustomerId,
    pub external_id: String,
    pub ordered_at: DateTime<Utc>,
    pub locale: Option<String>,
    pub first_name: Option<String>,
    pub email: String,
}

/// How a try ended. The database's `attempt_outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type)]
#[sqlx(type_name = "attempt_outcome", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    Sent,
    Deferred,
    Failed,
    Unknown,
}

impl AttemptOutcome {
    /// As the database writes it; the same word as the state that the invitation gets.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Deferred => "deferred",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// What was tidied up before a claim.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Settled {
    /// Left in `in_data` by a sender that died.
    pub n_unknown: u64,
    pub n_expired: u64,
    pub n_cancelled: u64,
    pub n_suppressed: u64,
    /// The last three, one by one.
    #[serde(skip)]
    pub given_up: Vec<InvitationId>,
}

/// Tidies up what changed while rows waited: leases that ran out or whose holder is known to be gone, orders that were cancelled or
/// have become another customer's, people who answered or opted out, mails that are too late.
///
/// # Errors
/// When the database does not answer.
pub async fn settle(
    conn: &mut PgConnection,
    shop: ShopId,
    survey: &Survey,
    now: DateTime<Utc>,
) -> anyhow::Result<Settled> {
    let n_unknown = reclaim(conn, shop, survey, now).await?;
    let (countries, delays) = decide::delays(survey);
    let (demanded, opposite) = decide::demanded(survey);
    let rows = sqlx::query_file!(
        "src/invitations/settle.sql",
        shop.0,
        survey.key,
        now,
        survey.trigger.kind(),
        decide::interval(survey.delay),
        &countries,
        &delays,
        decide::interval(survey.max_lateness),
        demanded,
        &opposite,
    )
    .fetch_all(conn)
    .await?;
    let mut settled = Settled { n_unknown, ..Settled::default() };
    for row in rows {
        match row.state {
            InvitationState::Expired => settled.n_expired += 1,
            InvitationState::Suppressed => settled.n_suppressed += 1,
            _ => settled.n_cancelled += 1,
        }
        settled.given_up.push(row.invitation);
    }
    Ok(settled)
}

/// Takes rows back from senders that are gone: what was claimed waits again, what was in data is unknown, unless it was answered. How many
/// are unknown.
async fn reclaim(
    conn: &mut PgConnection,
    shop: ShopId,
    survey: &Survey,
    now: DateTime<Utc>,
) -> sqlx::Result<u64> {
    let owners = sqlx::query_scalar!(
        r#"select distinct i.claimed_by as "claimed_by?" from invitation i
           where i.shop_id = $1 and i.invitation_id in (
               select held.invitation_id from invitation held
               where held.shop_id = $1 and held.survey = $2 and held.state in ('claimed', 'in_data')
           )"#,
        shop.0,
        survey.key,
    )
    .fetch_all(&mut *conn)
    .await?;
    let n_lost = match owners.is_empty() {
        true => 0,
        false => take_back(conn, shop, survey, owners.into_iter().flatten().collect(), now).await?,
    };
    // Who has answered meanwhile has the mail. (As text, so that they are found by their key, as in settle.sql.)
    let answered = sqlx::query!(
        "update invitation i
         set state = 'sent',
             sent_at = (select max(a.started_at) from attempt a
                        where a.shop_id = i.shop_id and a.invitation_id = i.invitation_id)
         where i.shop_id = $1 and i.state::text = 'unknown' and i.invitation_id in (
             select u.invitation_id from invitation u
             join response r
                 on r.shop_id = $1 and r.order_id = u.order_id and r.survey = $2 and r.counted and r.invitation_id = u.invitation_id
             where u.shop_id = $1 and u.survey = $2 and u.state = 'unknown'
         )",
        shop.0,
        survey.key,
    )
    .execute(conn)
    .await?;
    Ok(n_lost.saturating_sub(answered.rows_affected()))
}

/// The same of those owners that are gone, or whose leases have run out. How many are unknown.
async fn take_back(
    conn: &mut PgConnection,
    shop: ShopId,
    survey: &Survey,
    owners: Vec<String>,
    now: DateTime<Utc>,
) -> sqlx::Result<u64> {
    let gone: Vec<String> = owners.iter().filter(|owner| process::is_gone(owner)).cloned().collect();
    // A round of ours that has failed sends nothing any more. What it had in data is left to its lease, because what the relay said may
    // still be written.
    let left: Vec<String> =
        owners.into_iter().filter(|owner| gone.contains(owner) || Hold::is_dropped(owner)).collect();
    sqlx::query!(
        "update invitation set state = 'queued', claimed_by = null, lease_until = null
         where shop_id = $1 and survey = $2 and state = 'claimed' and (lease_until < now() or claimed_by = any($3))",
        shop.0,
        survey.key,
        &left,
    )
    .execute(&mut *conn)
    .await?;
    let lost = sqlx::query!(
        "with lost as (
             update invitation set state = 'unknown', attempts = attempts + 1, claimed_by = null, lease_until = null
             where shop_id = $1 and survey = $2 and state = 'in_data' and (lease_until < now() or claimed_by = any($5))
             returning shop_id, invitation_id, attempts
         )
         insert into attempt (shop_id, invitation_id, attempt, started_at, phase, outcome, text)
         select shop_id, invitation_id, attempts, $3, $4, 'unknown', 'the sender died before the relay answered' from lost",
        shop.0,
        survey.key,
        now,
        Phase::Final.as_str(),
        &gone,
    )
    .execute(conn)
    .await?;
    Ok(lost.rows_affected())
}

/// Of everything that waits, nobody can know any more whether it was mailed: the database was restored. How many mails that are.
///
/// # Errors
/// When the database does not answer.
pub async fn doubt_all(conn: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<u64> {
    let doubted = sqlx::query!(
        "with doubted as (
             update invitation set state = 'unknown', attempts = attempts + 1, claimed_by = null, lease_until = null
             where state in ('queued', 'deferred', 'claimed', 'in_data')
             returning shop_id, invitation_id, attempts
         )
         insert into attempt (shop_id, invitation_id, attempt, started_at, phase, outcome, text)
         select shop_id, invitation_id, attempts, $1, $2, 'unknown',
             'the database was restored; it may have been mailed in the time that was lost'
         from doubted",
        now,
        Phase::Final.as_str(),
    )
    .execute(conn)
    .await?;
    Ok(doubted.rows_affected())
}

/// Takes up to `limit` due rows under a lease. The order's and the customer's state are looked at once more, in the statement that
/// takes them.
///
/// # Errors
/// When the database does not answer; then nothing may be sent.
pub async fn claim(
    pool: &PgPool,
    shop: ShopId,
    survey: &Survey,
    owner: &str,
    now: DateTime<Utc>,
    limit: i64,
) -> anyhow::Result<Vec<Claimed>> {
    let (demanded, opposite) = decide::demanded(survey);
    let mut transaction = pool.begin().await?;
    sqlx::raw_sql(FROM_THE_FRONT).execute(&mut *transaction).await?;
    let rows = sqlx::query_file!(
        "src/invitations/claim.sql",
        shop.0,
        survey.key,
        now,
        limit,
        owner,
        !survey.trigger.needs_delivery(),
        decide::interval(survey.max_lateness),
        demanded,
        &opposite,
    )
    .fetch_all(&mut *transaction)
    .await?;
    transaction.commit().await?;
    let mut claimed: Vec<Claimed> = rows
        .into_iter()
        .map(|row| Claimed {
            shop,
            invitation: row.invitation,
            fence: row.fence,
            wave: row.wave,
            attempts: row.attempts,
            next_attempt_at: row.next_attempt_at,
            first_deferred_at: row.first_deferred_at,
            message_id: row.message_id,
            survey_version: row.survey_version,
            order: row.order,
            customer: row.customer,
            external_id: row.external_id,
            ordered_at: row.ordered_at,
            locale: row.locale,
            first_name: row.first_name,
            email: row.email,
        })
        .collect();
    // `returning` keeps no order; first due, first mailed.
    claimed.sort_by_key(|row| (row.next_attempt_at, row.invitation));
    Ok(claimed)
}

/// How many mails of a survey wait to be sent, now or later.
///
/// # Errors
/// When the database does not answer.
pub async fn n_waiting(pool: &PgPool, shop: ShopId, survey: &Survey) -> sqlx::Result<u64> {
    let n = sqlx::query_scalar!(
        r#"select count(*) as "n!" from invitation where shop_id = $1 and survey = $2 and state in ('queued', 'deferred')"#,
        shop.0,
        survey.key,
    )
    .fetch_one(pool)
    .await?;
    Ok(u64::try_from(n).unwrap_or_default())
}

/// Whether a mail of a survey is to be sent now.
///
/// # Errors
/// When the database does not answer.
pub async fn is_due(pool: &PgPool, shop: ShopId, survey: &Survey, now: DateTime<Utc>) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists(
               select from invitation
               where shop_id = $1 and survey = $2 and state in ('queued', 'deferred') and next_attempt_at <= $3
           ) as "is_due!""#,
        shop.0,
        survey.key,
        now,
    )
    .fetch_one(pool)
    .await
}

/// How many mails relays took since a moment, for these shops.
///
/// # Errors
/// When the database does not answer.
pub async fn n_sent_since(pool: &PgPool, shops: &[i32], since: DateTime<Utc>) -> sqlx::Result<f64> {
    sqlx::query_scalar!(
        r#"select count(*)::float8 as "n!" from attempt
           where shop_id = any($1) and started_at >= $2 and outcome = 'sent'"#,
        shops,
        since,
    )
    .fetch_one(pool)
    .await
}

/// Puts claimed rows back as they were: no try was made, or the fault was the relay's and not these mails'. They keep their places in
/// the queue, unless they are to wait until a later moment.
///
/// # Errors
/// When the database does not answer; the lease then frees the rows.
pub async fn release(
    pool: &PgPool,
    rows: &[Claimed],
    not_before: Option<DateTime<Utc>>,
) -> anyhow::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let shops: Vec<i32> = rows.iter().map(|row| row.shop.0).collect();
    let invitations: Vec<i64> = rows.iter().map(|row| row.invitation.0).collect();
    let fences: Vec<i64> = rows.iter().map(|row| row.fence).collect();
    sqlx::query!(
        "update invitation i
         set state = 'queued', claimed_by = null, lease_until = null, next_attempt_at = greatest(i.next_attempt_at, $4)
         from unnest($1::int[], $2::bigint[], $3::bigint[]) as held (shop_id, invitation_id, fence)
         where i.shop_id = held.shop_id and i.invitation_id = held.invitation_id and i.fence = held.fence
           -- As text, so that the rows are found by their key: the index of the outbox fits too, and is as long as the queue.
           and i.state::text = 'claimed'",
        &shops,
        &invitations,
        &fences,
        not_before,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The mails of a shop that are not settled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Open {
    /// Nobody knows whether they arrived; a person has to settle them.
    pub unknown: i64,
    /// Queued, deferred, or in a sender's hands.
    pub waiting: i64,
}

/// What of a shop is not settled, of what was tried (unknown) or decided (waiting) by a moment. When something was settled is not kept,
/// so what has been settled since is not counted.
///
/// # Errors
/// When the database does not answer.
pub async fn open_by(conn: &mut PgConnection, shop: ShopId, moment: DateTime<Utc>) -> sqlx::Result<Open> {
    sqlx::query_as!(
        Open,
        r#"select
               count(*) filter (where i.state = 'unknown' and exists (
                   select from attempt a
                   where a.shop_id = i.shop_id and a.invitation_id = i.invitation_id
                     and a.outcome = 'unknown' and a.started_at <= $2
               )) as "unknown!",
               count(*) filter (where i.state <> 'unknown') as "waiting!"
           from invitation i
           where i.shop_id = $1 and i.state in ('queued', 'deferred', 'claimed', 'in_data', 'unknown') and i.decided_at <= $2"#,
        shop.0,
        moment,
    )
    .fetch_one(conn)
    .await
}

/// What became of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub outcome: AttemptOutcome,
    /// `None`: the relay took it.
    pub fault: Option<Fault>,
    /// Whether the address is not to be written to again.
    pub suppress: bool,
}

/// A try, from its beginning to its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Try {
    pub outcome: Outcome,
    pub started_at: DateTime<Utc>,
    pub ended_at: DateTime<Utc>,
    /// When the next wave is to be decided, should the relay have taken this one.
    pub remind_at: Option<DateTime<Utc>>,
}

/// What has to be durable about a row.
#[derive(Debug, Clone)]
pub enum Record {
    /// Its final dot is about to be written; with the Message-ID.
    InData(String),
    /// A try has ended.
    Ended(Try),
}

/// Writes entries, a row each, in one statement that is a transaction of its own. Comes back with the rows that are still ours: of the
/// others nothing may be sent, or somebody else's word stands. The same entries may be written again, when nobody heard what became of
/// the first time.
///
/// # Errors
/// When the database does not answer; then nothing may be sent, and what ended is to be written again, because only this tells what the
/// relay said.
pub async fn record(
    conn: &mut PgConnection,
    entries: &[(Claimed, Record)],
) -> sqlx::Result<HashSet<InvitationId>> {
    let (mut entering, mut ended) = (Vec::new(), Vec::new());
    for (row, entry) in entries {
        match entry {
            Record::InData(message_id) => entering.push((row, message_id.clone())),
            Record::Ended(tried) => ended.push((row, tried)),
        }
    }
    let entering_shops: Vec<i32> = entering.iter().map(|(row, _)| row.shop.0).collect();
    let entering_invitations: Vec<i64> = entering.iter().map(|(row, _)| row.invitation.0).collect();
    let entering_fences: Vec<i64> = entering.iter().map(|(row, _)| row.fence).collect();
    let message_ids: Vec<String> = entering.into_iter().map(|(_, message_id)| message_id).collect();

    let shops: Vec<i32> = ended.iter().map(|(row, _)| row.shop.0).collect();
    let invitations: Vec<i64> = ended.iter().map(|(row, _)| row.invitation.0).collect();
    let fences: Vec<i64> = ended.iter().map(|(row, _)| row.fence).collect();
    let attempts: Vec<i16> = ended.iter().map(|(row, _)| row.attempts + 1).collect();
    let outcomes: Vec<String> =
        ended.iter().map(|(_, tried)| tried.outcome.outcome.as_str().to_owned()).collect();
    let suppress: Vec<bool> = ended.iter().map(|(_, tried)| tried.outcome.suppress).collect();
    let started: Vec<DateTime<Utc>> = ended.iter().map(|(_, tried)| tried.started_at).collect();
    let ended_at: Vec<DateTime<Utc>> = ended.iter().map(|(_, tried)| tried.ended_at).collect();
    let due: Vec<DateTime<Utc>> =
        ended.iter().map(|(row, tried)| tried.ended_at + backoff(row.attempts + 1)).collect();
    let remind: Vec<Option<DateTime<Utc>>> = ended.iter().map(|(_, tried)| tried.remind_at).collect();
    let faults = || ended.iter().map(|(_, tried)| tried.outcome.fault.as_ref());
    let replies = || faults().map(|fault| fault.and_then(|fault| fault.reply.as_ref()));
    let phases: Vec<String> =
        faults().map(|fault| fault.map_or(Phase::Final, |fault| fault.phase).as_str().to_owned()).collect();
    let codes: Vec<Option<i16>> =
        replies().map(|reply| reply.and_then(|reply| i16::try_from(reply.code).ok())).collect();
    let enhanced: Vec<Option<String>> = replies()
        .map(|reply| reply?.enhanced.map(|(class, subject, detail)| format!("{class}.{subject}.{detail}")))
        .collect();
    let texts: Vec<String> =
        faults().map(|fault| fault.map_or("accepted", |fault| fault.text.as_str()).to_owned()).collect();
    let ours = sqlx::query_file_scalar!(
        "src/invitations/record.sql",
        &entering_shops,
        &entering_invitations,
        &entering_fences,
        &message_ids,
        &shops,
        &invitations,
        &fences,
        &attempts,
        &outcomes,
        &suppress,
        &due,
        &ended_at,
        &started,
        &phases,
        &codes as &[Option<i16>],
        &enhanced as &[Option<String>],
        &texts,
        &remind as &[Option<DateTime<Utc>>],
    )
    .fetch_all(conn)
    .await?;
    Ok(ours.into_iter().collect())
}

/// The wait after the n-th try: 5, 15, 30 minutes, then doubling up to 4 hours.
pub fn backoff(attempt: i16) -> TimeDelta {
    TimeDelta::minutes(match attempt {
        ..=1 => 5,
        2 => 15,
        3 => 30,
        4 => 60,
        5 => 120,
        _ => 240,
    })
}

/// How an unknown mail is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// The relay has it: the mail counts as sent, when it was tried.
    Accept,
    /// The relay does not have it: it is mailed again.
    Resend,
}

/// Settles an unknown mail, as nothing else does by itself but an answer to it. `false`: there is no such unknown mail.
///
/// # Errors
/// When the database does not answer.
pub async fn resolve(
    pool: &PgPool,
    surveys: &[Survey],
    id: InvitationId,
    resolution: Resolution,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let mut transaction = pool.begin().await?;
    let found = sqlx::query!(
        r#"select shop_id as "shop: ShopId", survey, wave from invitation
           where invitation_id = $1 and state = 'unknown' for update"#,
        id.0
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(found) = found else { return Ok(false) };
    match resolution {
        Resolution::Accept => {
            accept(&mut transaction, found.shop, id).await?;
            let survey = surveys.iter().find(|survey| survey.key == found.survey);
            let reminder = survey.zip(usize::try_from(found.wave).ok()).and_then(|(s, n)| s.reminders.get(n));
            sqlx::query!(
                "update invitation set remind_at = $3 where shop_id = $1 and invitation_id = $2",
                found.shop.0,
                id.0,
                reminder.map(|wait| now + *wait),
            )
            .execute(&mut *transaction)
            .await?;
        }
        Resolution::Resend => {
            sqlx::query!(
                "update invitation set state = 'queued', due_at = $3, next_attempt_at = $3
                 where shop_id = $1 and invitation_id = $2",
                found.shop.0,
                id.0,
                now,
            )
            .execute(&mut *transaction)
            .await?;
        }
    }
    transaction.commit().await?;
    Ok(true)
}

/// An unknown mail did arrive: its answer came, or somebody looked it up. It counts as sent when it was tried. `false`: it was not
/// unknown.
///
/// # Errors
/// When the database does not answer.
pub async fn accept(conn: &mut PgConnection, shop: ShopId, id: InvitationId) -> sqlx::Result<bool> {
    let accepted = sqlx::query!(
        "update invitation i
         set state = 'sent',
             sent_at = (select max(a.started_at) from attempt a
                        where a.shop_id = i.shop_id and a.invitation_id = i.invitation_id)
         where i.shop_id = $1 and i.invitation_id = $2
           -- As text: see `release`.
           and i.state::text = 'unknown'",
        shop.0,
        id.0,
    )
    .execute(conn)
    .await?;
    Ok(accepted.rows_affected() == 1)
}

/// A row of the outbox as a person sees it.
#[derive(Debug, Serialize)]
pub struct Entry {
    pub id: InvitationId,
    pub shop: String,
    /// The shop's name for the order.
    pub order: String,
    pub survey: String,
    pub wave: i16,
    pub state: InvitationState,
    /// Why it is not mailed, or not any more.
    pub reason: Option<Reason>,
    pub message_id: Option<String>,
    pub attempts: i16,
    /// When it is tried next, while it waits.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// What the relay said last, when it did not take the mail.
    pub last_error: Option<String>,
}

/// The states of what is not settled.
pub const OPEN: [InvitationState; 5] = [
    InvitationState::Queued,
    InvitationState::Claimed,
    InvitationState::InData,
    InvitationState::Deferred,
    InvitationState::Unknown,
];

/// The rows in one of these states, or in any, the latest first. One after the other: all of a shop's history may be asked for.
pub fn list<'c>(
    db: impl PgExecutor<'c> + 'c,
    states: Option<&[InvitationState]>,
    limit: Option<i64>,
) -> impl Stream<Item = sqlx::Result<Entry>> + 'c {
    sqlx::query_as!(
        Entry,
        r#"select i.invitation_id as "id: InvitationId", s.key as shop, o.external_id as "order", i.survey, i.wave,
               i.state as "state: InvitationState", i.reason as "reason: Reason", i.message_id, i.attempts,
               case when i.state in ('queued', 'deferred') then i.next_attempt_at end as next_attempt_at,
               (select a.text from attempt a
                where a.shop_id = i.shop_id and a.invitation_id = i.invitation_id and a.outcome <> 'sent'
                order by a.attempt desc limit 1) as last_error
           from invitation i
           join shop s using (shop_id)
           join "order" o using (shop_id, order_id)
           where $1::invitation_state[] is null or i.state = any($1)
           order by i.invitation_id desc
           limit $2"#,
        states as Option<&[InvitationState]>,
        limit,
    )
    .fetch(db)
}
