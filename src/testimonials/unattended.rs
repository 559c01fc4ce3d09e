//! What happens to testimonials without a person: what no rule flags is approved where jobs.toml says so, and what waits longer than the
//! shop announces is found.

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
use serde::Serialize;
use sqlx::PgPool;

use super::candidate::{self, Candidate, Filter, Questionnaires};
use super::moderation::{Entry, looked_at};
use super::{TestimonialState, gate};
use crate::config::{Moderation, Shop, Testimonials};
use crate::types::{ResponseId, ShopId};

/// What became of those that nobody has decided on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Unflagged {
    /// No rule flagged them, and they are approved.
    pub n_approved: u64,
    /// Those that wait for a person.
    pub n_left: u64,
}

/// Approves what no rule flags, where `moderation = "flagged"`; else nothing. With `dry_run` it says what it would do.
///
/// # Errors
/// When the database does not answer; then nothing of the shop at hand changed.
pub async fn approve_unflagged(
    pool: &PgPool,
    shops: &[(ShopId, &Shop)],
    rules: &Testimonials,
    dry_run: bool,
    now: DateTime<Utc>,
) -> anyhow::Result<Unflagged> {
    let mut report = Unflagged::default();
    for (id, shop) in shops {
        let pending = waiting(pool, *id, shop, rules, Some(TestimonialState::Pending)).await?;
        let clear: Vec<ResponseId> = pending
            .iter()
            .filter(|(_, entry)| rules.moderation == Moderation::Flagged && entry.flags.is_empty())
            .map(|(_, entry)| entry.id)
            .collect();
        let n_approved = if dry_run { clear.len() as u64 } else { approve(pool, *id, &clear, now).await? };
        report.n_approved += n_approved;
        report.n_left += pending.len() as u64 - n_approved;
    }
    Ok(report)
}

/// A person, or the author, may have been faster; then it stays as they have decided.
async fn approve(pool: &PgPool, shop: ShopId, ids: &[ResponseId], now: DateTime<Utc>) -> sqlx::Result<u64> {
    let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
    let approved = sqlx::query!(
        "update testimonial t set state = 'approved', decided_at = $3, by_rules = true
         from response r
         where t.shop_id = $1 and t.response_id = any($2) and t.state = 'pending'
           and r.shop_id = t.shop_id and r.response_id = t.response_id and r.counted",
        shop.0,
        &ids,
        now,
    )
    .execute(pool)
    .await?;
    Ok(approved.rows_affected())
}

/// What an overdue testimonial waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitsFor {
    /// Somebody who approves or rejects it.
    Decision,
    /// Approved, it has not left in an export yet.
    Export,
}

/// A testimonial that is neither published nor refused, though the announced delay is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Overdue {
    #[serde(flatten)]
    pub entry: Entry,
    /// When the delay was over.
    pub due_at: DateTime<Utc>,
    pub waits_for: WaitsFor,
}

/// What has waited for longer than `[testimonials] publish_within`, the longest first. What the gate would not let through anyway, approved
/// or not, is not waited for.
///
/// # Errors
/// When the database does not answer.
pub async fn overdue(
    pool: &PgPool,
    shops: &[(ShopId, &Shop)],
    rules: &Testimonials,
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<Overdue>> {
    let mut overdue = Vec::new();
    for (id, shop) in shops {
        for (due_at, entry) in waiting(pool, *id, shop, rules, None).await? {
            if due_at >= now {
                continue;
            }
            let waits_for = match entry.state {
                TestimonialState::Approved => WaitsFor::Export,
                _ => WaitsFor::Decision,
            };
            overdue.push(Overdue { entry, due_at, waits_for });
        }
    }
    overdue.sort_by_key(|overdue| (overdue.due_at, overdue.entry.id));
    Ok(overdue)
}

/// How many wait in a shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    pub shop: ShopId,
    /// For somebody who approves or rejects them.
    pub n_for_decision: i64,
    /// Approved, for their first export.
    pub n_for_export: i64,
    /// Of both, how many for longer than announced.
    pub n_overdue: i64,
}

/// How many wait in these shops, counted by an index however many are published. A shop without any is not there. What [`overdue`] reads
/// from each answer itself is left out: words that are only blanks, and orders that have become another customer's, count here.
///
/// # Errors
/// When the database does not answer.
pub async fn waits(
    pool: &PgPool,
    shops: &[i32],
    rules: &Testimonials,
    now: DateTime<Utc>,
) -> sqlx::Result<Vec<Waits>> {
    sqlx::query_as!(
        Waits,
        r#"select t.shop_id as "shop: ShopId", count(*) filter (where t.state = 'pending') as "n_for_decision!",
               count(*) filter (where t.state = 'approved') as "n_for_export!",
               count(*) filter (where r.received_at < $2) as "n_overdue!"
           from testimonial t
           join response r using (shop_id, response_id)
           join "order" o using (shop_id, order_id)
           join customer c using (shop_id, customer_id)
           where t.shop_id = any($1) and t.state in ('pending', 'approved') and t.published_at is null
             and r.counted and r.verdict = 'human' and r.consent_version is not null and o.status <> 'cancelled'
             and c.erased_at is null
           group by t.shop_id"#,
        shops,
        now - rules.publish_within,
    )
    .fetch_all(pool)
    .await
}

/// Those of a shop that wait and that nothing but a decision or an export keeps from being published, each with the end of its delay.
async fn waiting(
    pool: &PgPool,
    id: ShopId,
    shop: &Shop,
    rules: &Testimonials,
    state: Option<TestimonialState>,
) -> anyhow::Result<Vec<(DateTime<Utc>, Entry)>> {
    let mut conn = pool.acquire().await?;
    let questionnaires = Questionnaires::of(&mut conn, id).await?;
    let filter = Filter { state, waiting: true, ..Filter::default() };
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut rows = candidate::candidates(&mut conn, id, filter);
    while let Some(candidate) = rows.try_next().await? {
        if gate::admissible(&candidate, questionnaires.seen_by(&candidate)?).is_ok() {
            candidates.push(candidate);
        }
    }
    drop(rows);
    let entries = looked_at(&mut conn, (id, shop), &candidates, &questionnaires, rules).await?;
    Ok(entries.into_iter().map(|entry| (entry.received_at + rules.publish_within, entry)).collect())
}
