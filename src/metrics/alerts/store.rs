//! The alerts and the messages about them: every change of a row.

use std::cmp::Reverse;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor, PgPool};

use super::Found;
use super::rule::Rule;
use crate::config::Notify;
use crate::process;
use crate::types::ShopId;

/// Why somebody is told. The database's `alert_occasion`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type)]
#[sqlx(type_name = "alert_occasion", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    Opened,
    Reminder,
    Closed,
}

impl Occasion {
    /// All of them, in the order of the database.
    pub const ALL: [Self; 3] = [Self::Opened, Self::Reminder, Self::Closed];

    /// As the database writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Reminder => "reminder",
            Self::Closed => "closed",
        }
    }
}

/// How somebody is told. The database's `alert_channel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type)]
#[sqlx(type_name = "alert_channel", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    Mail,
    Webhook,
}

impl Channel {
    /// All of them, in the order of the database.
    pub const ALL: [Self; 2] = [Self::Mail, Self::Webhook];
}

/// Where a message stands. The database's `alert_delivery_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type)]
#[sqlx(type_name = "alert_delivery_state", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    Queued,
    /// Committed before the final dot, or before the request.
    InData,
    Sent,
    Failed,
    /// A mail of which nobody can know; it is not sent again.
    Unknown,
}

impl DeliveryState {
    /// All of them, in the order of the database.
    pub const ALL: [Self; 5] = [Self::Queued, Self::InData, Self::Sent, Self::Failed, Self::Unknown];
}

/// Why an alert is closed. The database's `alert_closed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type)]
#[sqlx(type_name = "alert_closed", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ClosedBecause {
    /// What was found is no longer there.
    Back,
    /// jobs.toml does not ask for it any more.
    RuleGone,
}

impl ClosedBecause {
    /// All of them, in the order of the database.
    pub const ALL: [Self; 2] = [Self::Back, Self::RuleGone];
}

/// An alert, and how its messages stand.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alert {
    pub shop: String,
    pub rule: String,
    pub opened_at: DateTime<Utc>,
    /// When a night last looked at it.
    pub seen_at: DateTime<Utc>,
    pub closed_at: Option<DateTime<Utc>>,
    pub closed_because: Option<ClosedBecause>,
    pub reminded_at: Option<DateTime<Utc>>,
    /// The numbers that opened it.
    pub opening: Found,
    /// The same as they were last seen.
    pub latest: Found,
    /// Messages that wait, of which nobody knows, that were given up.
    pub n_waiting: i64,
    pub n_unknown: i64,
    pub n_failed: i64,
}

/// Opens an alert, if none is open. Comes back with its number if it did.
pub(super) async fn open(
    conn: &mut PgConnection,
    shop: ShopId,
    rule: &str,
    found: &Found,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        "insert into alert (shop_id, rule, metric, segment, segment_value, opened_at, seen_at, opening, latest)
         values ($1, $2, $3, $4, $5, $6, $6, $7, $7)
         on conflict (shop_id, rule, segment_value) where closed_at is null do nothing
         returning alert_id",
        shop.0,
        rule,
        found.metric,
        found.segment.as_deref().unwrap_or_default(),
        found.segment_value,
        now,
        Json(found) as _,
    )
    .fetch_optional(conn)
    .await
}

/// Notes what an open alert has come to.
pub(super) async fn see_again(
    conn: &mut PgConnection,
    shop: ShopId,
    (rule, segment_value): (&str, &str),
    found: &Found,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update alert set seen_at = $4, latest = $5
         where shop_id = $1 and rule = $2 and segment_value = $3 and closed_at is null",
        shop.0,
        rule,
        segment_value,
        now,
        Json(found) as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Closes an open alert. Comes back with its number if there was one.
pub(super) async fn close(
    conn: &mut PgConnection,
    shop: ShopId,
    (rule, segment_value): (&str, &str),
    found: &Found,
    now: DateTime<Utc>,
) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar!(
        "update alert set seen_at = $4, closed_at = $4, closed_because = 'back', latest = $5
         where shop_id = $1 and rule = $2 and segment_value = $3 and closed_at is null
         returning alert_id",
        shop.0,
        rule,
        segment_value,
        now,
        Json(found) as _,
    )
    .fetch_all(conn)
    .await
}

/// Closes the open alerts whose rule is gone, or is about another metric or segment now. Nobody is told: whoever changed the rule knows.
pub(super) async fn close_those_without_rule(
    conn: &mut PgConnection,
    shop: ShopId,
    rules: &[&Rule],
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let names: Vec<String> = rules.iter().map(|rule| rule.name.clone()).collect();
    let metrics: Vec<String> = rules.iter().map(|rule| rule.subject.key().to_owned()).collect();
    let segments: Vec<String> =
        rules.iter().map(|rule| rule.by.as_ref().map(ToString::to_string).unwrap_or_default()).collect();
    sqlx::query!(
        "update alert a set closed_at = $2, closed_because = 'rule_gone'
         where a.shop_id = $1 and a.closed_at is null and not exists (
             select from unnest($3::text[], $4::text[], $5::text[]) as r (rule, metric, segment)
             where (r.rule, r.metric, r.segment) = (a.rule, a.metric, a.segment)
         )",
        shop.0,
        now,
        &names,
        &metrics,
        &segments,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The open alerts of which nobody was told for so long; they count as told now.
pub(super) async fn remind(
    conn: &mut PgConnection,
    shop: ShopId,
    after: TimeDelta,
    now: DateTime<Utc>,
) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar!(
        "update alert set reminded_at = $2
         where shop_id = $1 and closed_at is null and coalesce(reminded_at, opened_at) <= $2::timestamptz - $3::interval
         returning alert_id",
        shop.0,
        now,
        after as TimeDelta,
    )
    .fetch_all(conn)
    .await
}

/// Queues a message about each of these alerts to everybody.
pub(super) async fn tell(
    conn: &mut PgConnection,
    shop: ShopId,
    alerts: &[i64],
    occasion: Occasion,
    notify: &Notify,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let mut recipients: Vec<String> = notify.to.iter().map(ToString::to_string).collect();
    let mut channels = vec![Channel::Mail; recipients.len()];
    if notify.webhook.is_some() {
        recipients.push(String::new());
        channels.push(Channel::Webhook);
    }
    sqlx::query!(
        "insert into alert_delivery (shop_id, alert_id, channel, recipient, occasion, queued_at, next_try_at)
         select $1, alert_id, channel, recipient, $3, $4, $4
         from unnest($2::bigint[]) as alert_id, unnest($5::alert_channel[], $6::text[]) as told (channel, recipient)
         on conflict on constraint alert_delivery_once_key do nothing",
        shop.0,
        alerts,
        occasion as Occasion,
        now,
        &channels as &[Channel],
        &recipients,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// How many alerts of a shop are open.
///
/// # Errors
/// When the database does not answer.
pub async fn n_open(db: impl PgExecutor<'_>, shop: ShopId) -> sqlx::Result<u64> {
    let n = sqlx::query_scalar!(
        r#"select count(*) as "n!" from alert where shop_id = $1 and closed_at is null"#,
        shop.0
    )
    .fetch_one(db)
    .await?;
    Ok(n.unsigned_abs())
}

/// The alerts of these shops, the latest first; without `all`, those that are open.
///
/// # Errors
/// When the database does not answer.
pub async fn list(pool: &PgPool, shops: &[i32], all: bool) -> sqlx::Result<Vec<Alert>> {
    let rows = sqlx::query!(
        r#"select s.key as shop, a.rule, a.opened_at, a.seen_at, a.closed_at, a.closed_because as "closed_because: ClosedBecause",
               a.reminded_at, a.opening as "opening: Json<Found>", a.latest as "latest: Json<Found>",
               count(*) filter (where d.state in ('queued', 'in_data')) as "n_waiting!",
               count(*) filter (where d.state = 'unknown') as "n_unknown!", count(*) filter (where d.state = 'failed') as "n_failed!"
           from alert a
           join shop s using (shop_id)
           left join alert_delivery d using (shop_id, alert_id)
           where a.shop_id = any($1) and ($2 or a.closed_at is null)
           group by s.shop_id, a.shop_id, a.alert_id
           order by a.closed_at is not null, a.opened_at desc, a.alert_id desc"#,
        shops,
        all,
    )
    .fetch_all(pool)
    .await?;
    let alerts = rows.into_iter().map(|row| Alert {
        shop: row.shop,
        rule: row.rule,
        opened_at: row.opened_at,
        seen_at: row.seen_at,
        closed_at: row.closed_at,
        closed_because: row.closed_because,
        reminded_at: row.reminded_at,
        opening: row.opening.0,
        latest: row.latest.0,
        n_waiting: row.n_waiting,
        n_unknown: row.n_unknown,
        n_failed: row.n_failed,
    });
    Ok(alerts.collect())
}

/// The alerts of these shops that were open at a moment, the latest first, with the numbers that were known then: those that opened it,
/// where what was seen since has taken the place of what was between.
///
/// # Errors
/// When the database does not answer.
pub async fn open_at(pool: &PgPool, shops: &[i32], moment: DateTime<Utc>) -> sqlx::Result<Vec<Alert>> {
    let mut alerts = list(pool, shops, true).await?;
    alerts.retain(|alert| {
        alert.opened_at <= moment && alert.closed_at.is_none_or(|closed_at| closed_at > moment)
    });
    alerts.sort_by_key(|alert| Reverse(alert.opened_at));
    for alert in alerts.iter_mut().filter(|alert| alert.seen_at > moment) {
        alert.latest = alert.opening.clone();
    }
    Ok(alerts)
}

/// A message in our hands.
#[derive(Debug, Clone)]
pub(super) struct Claimed {
    pub(super) shop: ShopId,
    pub(super) delivery: i64,
    pub(super) alert: i64,
    pub(super) channel: Channel,
    pub(super) recipient: String,
    pub(super) occasion: Occasion,
    pub(super) queued_at: DateTime<Utc>,
    /// This try included.
    pub(super) attempts: i16,
    pub(super) rule: String,
    pub(super) opened_at: DateTime<Utc>,
    pub(super) closed_at: Option<DateTime<Utc>>,
    pub(super) opening: Found,
    pub(super) latest: Found,
}

/// Puts right what was in the hands of a process that is gone: a mail may have left, so it is unknown; a request is made again, because
/// its receiver knows it by its number. How many mails are unknown now.
pub(super) async fn settle(pool: &PgPool, shops: &[i32], now: DateTime<Utc>) -> sqlx::Result<u64> {
    let owners = sqlx::query_scalar!(
        r#"select distinct claimed_by as "claimed_by!" from alert_delivery
           where shop_id = any($1) and state in ('queued', 'in_data') and claimed_by is not null"#,
        shops,
    )
    .fetch_all(pool)
    .await?;
    let gone: Vec<String> = owners.into_iter().filter(|owner| process::is_gone(owner)).collect();
    sqlx::query!(
        "update alert_delivery set state = 'queued', claimed_by = null, lease_until = null
         where shop_id = any($1) and (lease_until < clock_timestamp() or claimed_by = any($2))
           and (state = 'queued' or state = 'in_data' and channel = 'webhook')",
        shops,
        &gone,
    )
    .execute(pool)
    .await?;
    let lost = sqlx::query!(
        "update alert_delivery
         set state = 'unknown', claimed_by = null, lease_until = null, settled_at = $3,
             fault = 'the program ended before the relay answered'
         where shop_id = any($1) and state = 'in_data' and channel = 'mail'
           and (lease_until < clock_timestamp() or claimed_by = any($2))",
        shops,
        &gone,
        now,
    )
    .execute(pool)
    .await?;
    Ok(lost.rows_affected())
}

/// After a restore nobody can know whether the mails that wait have left in the time that was lost. A request is made again: its receiver
/// knows it by its number, and numbers that were given in that time are not given again. How many mails these were.
///
/// # Errors
/// When the database does not answer.
pub async fn doubt_all(conn: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<u64> {
    sqlx::query_scalar!(
        "select setval(pg_get_serial_sequence('alert_delivery', 'alert_delivery_id'), greatest(
             (select max(alert_delivery_id) from alert_delivery), (extract(epoch from clock_timestamp()) * 1000)::bigint
         ))"
    )
    .fetch_one(&mut *conn)
    .await?;
    let doubted = sqlx::query!(
        "update alert_delivery
         set state = 'unknown', claimed_by = null, lease_until = null, settled_at = $1,
             fault = 'the database was restored; it may have been mailed in the time that was lost'
         where channel = 'mail' and state in ('queued', 'in_data')",
        now,
    )
    .execute(conn)
    .await?;
    Ok(doubted.rows_affected())
}

/// Takes the message that has waited longest, if one of these shops and channels is due.
pub(super) async fn claim(
    pool: &PgPool,
    shops: &[i32],
    channels: &[Channel],
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Claimed>> {
    let row = sqlx::query!(
        r#"with due as (
               select shop_id, alert_delivery_id from alert_delivery
               where shop_id = any($1) and channel = any($2) and state = 'queued' and next_try_at <= $3 and claimed_by is null
               order by next_try_at, alert_delivery_id
               limit 1
               for update skip locked
           ),
           claimed as (
               update alert_delivery d
               set claimed_by = $4, lease_until = clock_timestamp() + interval '15 minutes', attempts = attempts + 1
               from due
               where d.shop_id = due.shop_id and d.alert_delivery_id = due.alert_delivery_id
               returning d.*
           )
           select d.shop_id as "shop!: ShopId", d.alert_delivery_id as "delivery!", d.alert_id as "alert!",
               d.channel as "channel!: Channel", d.recipient as "recipient!", d.occasion as "occasion!: Occasion",
               d.queued_at as "queued_at!", d.attempts as "attempts!", a.rule, a.opened_at, a.closed_at,
               a.opening as "opening: Json<Found>", a.latest as "latest: Json<Found>"
           from claimed d join alert a using (shop_id, alert_id)"#,
        shops,
        channels as &[Channel],
        now,
        process::name(),
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| Claimed {
        shop: row.shop,
        delivery: row.delivery,
        alert: row.alert,
        channel: row.channel,
        recipient: row.recipient,
        occasion: row.occasion,
        queued_at: row.queued_at,
        attempts: row.attempts,
        rule: row.rule,
        opened_at: row.opened_at,
        closed_at: row.closed_at,
        opening: row.opening.0,
        latest: row.latest.0,
    }))
}

/// Commits that the message is about to leave. `false`: it is not ours any more, and must not.
pub(super) async fn enter_data(pool: &PgPool, claimed: &Claimed) -> sqlx::Result<bool> {
    let entered = sqlx::query!(
        "update alert_delivery set state = 'in_data'
         where shop_id = $1 and alert_delivery_id = $2 and state = 'queued' and claimed_by = $3 and lease_until > clock_timestamp()",
        claimed.shop.0,
        claimed.delivery,
        process::name(),
    )
    .execute(pool)
    .await?;
    Ok(entered.rows_affected() == 1)
}

/// What became of a message.
pub(super) async fn settled(
    pool: &PgPool,
    claimed: &Claimed,
    state: DeliveryState,
    fault: Option<&str>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update alert_delivery set state = $4, fault = $5, settled_at = $6, claimed_by = null, lease_until = null
         where shop_id = $1 and alert_delivery_id = $2 and claimed_by = $3 and state in ('queued', 'in_data')",
        claimed.shop.0,
        claimed.delivery,
        process::name(),
        state as DeliveryState,
        fault,
        now,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Puts a message back, to be tried again from then on. `untried`: this try counts as none.
pub(super) async fn put_back(
    pool: &PgPool,
    claimed: &Claimed,
    fault: Option<&str>,
    next_try_at: DateTime<Utc>,
    untried: bool,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update alert_delivery
         set state = 'queued', fault = coalesce($4, fault), next_try_at = $5, claimed_by = null, lease_until = null,
             attempts = attempts - $6::int::smallint
         where shop_id = $1 and alert_delivery_id = $2 and claimed_by = $3 and state in ('queued', 'in_data')",
        claimed.shop.0,
        claimed.delivery,
        process::name(),
        fault,
        next_try_at,
        i32::from(untried),
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// How many messages of these shops wait, and when the next of these channels is due.
pub(super) async fn waiting(
    pool: &PgPool,
    shops: &[i32],
    channels: &[Channel],
) -> sqlx::Result<(u64, Option<DateTime<Utc>>)> {
    let row = sqlx::query!(
        r#"select count(*) as "n!", min(next_try_at) filter (where channel = any($2) and state = 'queued') as next
           from alert_delivery where shop_id = any($1) and state in ('queued', 'in_data')"#,
        shops,
        channels as &[Channel],
    )
    .fetch_one(pool)
    .await?;
    Ok((row.n.unsigned_abs(), row.next))
}
