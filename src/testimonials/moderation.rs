//! A person decides which testimonials may be published.
//!
//! In: the numbers of testimonials and a ruling. Out: for each number what became of it. A ruling is one transaction: it holds for all
//! or, if we die, for none, and giving it again changes nothing.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
use serde::Serialize;
use sqlx::PgPool;

use super::candidate::{self, Filter, Questionnaires};
use super::display_name::{agreed, display_name};
use super::{RejectReason, TestimonialState};
use crate::config::{DisplayName, Shop};
use crate::types::{ResponseId, ShopId};

/// A testimonial, as a moderator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// What `approve` and `reject` want.
    pub id: ResponseId,
    /// The shop's name for the order.
    pub order: String,
    /// The shop's key.
    pub shop: String,
    pub state: TestimonialState,
    pub reject_reason: Option<RejectReason>,
    /// From 1 to 5.
    pub rating: Option<i16>,
    /// `yes` or `no`.
    pub recommend: Option<String>,
    /// The author's words, as they were written.
    pub text: String,
    /// The name it would be published under.
    pub display_name: String,
    pub received_at: DateTime<Utc>,
}

/// The testimonials of these shops, oldest first. What its author has changed since is left out; the changed one is there.
///
/// # Errors
/// When the database does not answer.
pub async fn list(
    pool: &PgPool,
    shops: &[(ShopId, &Shop)],
    state: Option<TestimonialState>,
    names: DisplayName,
) -> anyhow::Result<Vec<Entry>> {
    let mut conn = pool.acquire().await?;
    let mut entries = Vec::new();
    for (id, shop) in shops {
        let questionnaires = Questionnaires::of(&mut conn, *id).await?;
        let filter = Filter { state, ..Filter::default() };
        let mut candidates = candidate::candidates(&mut conn, *id, filter);
        while let Some(candidate) = candidates.try_next().await? {
            if !candidate.counted {
                continue;
            }
            let said = candidate.said(questionnaires.seen_by(&candidate)?);
            let (rating, recommend) = (said.rating, said.recommend.map(str::to_owned));
            let text = said.words.unwrap_or_default().to_owned();
            entries.push(Entry {
                id: candidate.id,
                shop: shop.key.clone(),
                state: candidate.state,
                reject_reason: candidate.reject_reason,
                rating,
                recommend,
                text,
                display_name: display_name(agreed(names, candidate.agreed_names), candidate.author()),
                received_at: candidate.received_at,
                order: candidate.order,
            });
        }
    }
    Ok(entries)
}

/// What became of a ruling on one testimonial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is so now.
    Done,
    /// It was so before.
    Already,
    /// It was rejected because its author asked for it, and stays rejected.
    AuthorRequest,
    /// There is none with this number.
    Unknown,
}

/// What a moderator decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ruling {
    Approve,
    Reject(RejectReason),
}

impl Ruling {
    fn outcome(self, state: TestimonialState, reason: Option<RejectReason>) -> Outcome {
        match (self, reason) {
            (Self::Approve, None) if state == TestimonialState::Approved => Outcome::Already,
            (Self::Reject(new), Some(old)) if new == old => Outcome::Already,
            (_, Some(RejectReason::AuthorRequest)) => Outcome::AuthorRequest,
            _ => Outcome::Done,
        }
    }
}

/// Approves these testimonials.
///
/// # Errors
/// When the database does not answer; then nothing changed.
pub async fn approve(
    pool: &PgPool,
    shops: &[ShopId],
    ids: &[ResponseId],
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<(ResponseId, Outcome)>> {
    decide(pool, shops, ids, Ruling::Approve, now).await
}

/// Rejects these testimonials, approved or not. Those that were published are missing from the next export.
///
/// # Errors
/// When the database does not answer; then nothing changed.
pub async fn reject(
    pool: &PgPool,
    shops: &[ShopId],
    ids: &[ResponseId],
    reason: RejectReason,
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<(ResponseId, Outcome)>> {
    decide(pool, shops, ids, Ruling::Reject(reason), now).await
}

/// Approves all that nobody has decided on yet. Returns them.
///
/// # Errors
/// When the database does not answer; then nothing changed.
pub async fn approve_all_pending(
    pool: &PgPool,
    shops: &[ShopId],
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<ResponseId>> {
    let shop_ids: Vec<i32> = shops.iter().map(|shop| shop.0).collect();
    let mut approved = sqlx::query_scalar!(
        r#"update testimonial t set state = 'approved', decided_at = $2
           from response r
           where t.shop_id = any($1) and t.state = 'pending'
             and r.shop_id = t.shop_id and r.response_id = t.response_id and r.counted
           returning t.response_id as "id: ResponseId""#,
        &shop_ids,
        now,
    )
    .fetch_all(pool)
    .await?;
    approved.sort();
    Ok(approved)
}

async fn decide(
    pool: &PgPool,
    shops: &[ShopId],
    ids: &[ResponseId],
    ruling: Ruling,
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<(ResponseId, Outcome)>> {
    let shop_ids: Vec<i32> = shops.iter().map(|shop| shop.0).collect();
    let numbers: Vec<i64> = ids.iter().map(|id| id.0).collect();
    let mut tx = pool.begin().await?;
    let found = sqlx::query!(
        r#"select response_id as "id: ResponseId", state as "state: TestimonialState",
                  reject_reason as "reason: RejectReason"
           from testimonial
           where shop_id = any($1) and response_id = any($2)
           order by shop_id, response_id
           for update"#,
        &shop_ids,
        &numbers,
    )
    .fetch_all(&mut *tx)
    .await?;
    let outcomes: HashMap<ResponseId, Outcome> =
        found.into_iter().map(|row| (row.id, ruling.outcome(row.state, row.reason))).collect();
    let changed: Vec<i64> =
        outcomes.iter().filter(|(_, outcome)| **outcome == Outcome::Done).map(|(id, _)| id.0).collect();
    let (state, reason) = match ruling {
        Ruling::Approve => (TestimonialState::Approved, None),
        Ruling::Reject(reason) => (TestimonialState::Rejected, Some(reason)),
    };
    sqlx::query!(
        "update testimonial set state = $3, reject_reason = $4, decided_at = $5
         where shop_id = any($1) and response_id = any($2)",
        &shop_ids,
        &changed,
        state as TestimonialState,
        reason as Option<RejectReason>,
        now,
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(ids.iter().map(|id| (*id, outcomes.get(id).copied().unwrap_or(Outcome::Unknown))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rulings() {
        use RejectReason::{AuthorRequest, Promotional, Unlawful};
        use TestimonialState::{Approved, Pending, Rejected};
        let check = |ruling: Ruling, state, reason, outcome| {
            assert_eq!(ruling.outcome(state, reason), outcome, "{ruling:?} of {state:?} {reason:?}");
        };
        check(Ruling::Approve, Pending, None, Outcome::Done);
        check(Ruling::Approve, Approved, None, Outcome::Already);
        check(Ruling::Approve, Rejected, Some(Unlawful), Outcome::Done);
        check(Ruling::Approve, Rejected, Some(AuthorRequest), Outcome::AuthorRequest);
        check(Ruling::Reject(Unlawful), Pending, None, Outcome::Done);
        check(Ruling::Reject(Unlawful), Approved, None, Outcome::Done);
        check(Ruling::Reject(Unlawful), Rejected, Some(Unlawful), Outcome::Already);
        check(Ruling::Reject(Unlawful), Rejected, Some(Promotional), Outcome::Done);
        check(Ruling::Reject(Unlawful), Rejected, Some(AuthorRequest), Outcome::AuthorRequest);
        check(Ruling::Reject(AuthorRequest), Rejected, Some(AuthorRequest), Outcome::Already);
    }
}
