//! A person decides which testimonials may be published, and replies to them.
//!
//! In: the numbers of testimonials and a ruling. Out: for each number what became of it. A ruling is one transaction: it holds for all
//! or, if we die, for none, and giving it again changes nothing. A rejection queues the mail to the author in the same transaction, and
//! whatever is decided otherwise before it has left calls it back ([`rejection`]).

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
use serde::Serialize;
use sqlx::{PgConnection, PgPool};

use super::candidate::{self, Candidate, Filter, Questionnaires, Reply};
use super::display_name::{agreed, display_name, printed_as_given};
use super::flags::{self, About, Flag};
use super::{RejectReason, TestimonialState, rejection, withdrawal};
use crate::config::{Shop, Testimonials};
use crate::db::again;
use crate::types::{CustomerId, OrderId, ResponseId, ShopId};

/// The longest reply, in characters.
pub const LONGEST_REPLY: usize = 4_000;

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
    /// Approved because no rule flagged it.
    pub by_rules: bool,
    /// From 1 to 5.
    pub rating: Option<i16>,
    /// `yes` or `no`.
    pub recommend: Option<String>,
    /// The author's words, as they were written.
    pub text: String,
    /// The name it would be published under.
    pub display_name: String,
    /// What to look at before it is published, by today's rules.
    pub flags: Vec<Flag>,
    pub received_at: DateTime<Utc>,
    pub decided_at: Option<DateTime<Utc>>,
    /// When it first left in an export.
    pub published_at: Option<DateTime<Utc>>,
    /// What the shop answers to it.
    pub reply: Option<Reply>,
}

/// The testimonials of these shops, oldest first. What its author has changed since is left out; the changed one is there.
///
/// # Errors
/// When the database does not answer.
pub async fn list(
    pool: &PgPool,
    shops: &[(ShopId, &Shop)],
    filter: Filter,
    rules: &Testimonials,
) -> anyhow::Result<Vec<Entry>> {
    let mut conn = pool.acquire().await?;
    let mut entries = Vec::new();
    for (id, shop) in shops {
        let questionnaires = Questionnaires::of(&mut conn, *id).await?;
        let candidates: Vec<Candidate> = candidate::candidates(&mut conn, *id, filter)
            .try_filter(|candidate| std::future::ready(candidate.counted))
            .try_collect()
            .await?;
        entries.extend(looked_at(&mut conn, (*id, shop), &candidates, &questionnaires, rules).await?);
    }
    Ok(entries)
}

/// These testimonials of a shop, each with the rules it meets.
pub(super) async fn looked_at(
    conn: &mut PgConnection,
    (id, shop): (ShopId, &Shop),
    candidates: &[Candidate],
    questionnaires: &Questionnaires,
    rules: &Testimonials,
) -> anyhow::Result<Vec<Entry>> {
    let mut numbers = BTreeSet::new();
    for candidate in candidates {
        let said = candidate.said(questionnaires.seen_by(candidate)?);
        numbers.extend(flags::mentioned(said.words.unwrap_or_default()));
    }
    let owners = owners(conn, id, &numbers.into_iter().collect::<Vec<_>>()).await?;
    candidates
        .iter()
        .map(|candidate| {
            let said = candidate.said(questionnaires.seen_by(candidate)?);
            let text = said.words.unwrap_or_default();
            let other_orders: HashSet<String> = flags::mentioned(text)
                .into_iter()
                .filter(|number| owners.get(number).is_some_and(|owner| *owner != candidate.customer))
                .collect();
            let about = About {
                locale: &candidate.locale,
                rating: said.rating,
                recommend: said.recommend,
                order: &candidate.order,
                last_name: candidate.last_name.as_deref(),
                staff: &rules.staff,
                other_orders: &other_orders,
            };
            let mut flags = flags::flags(text, &about);
            let named = agreed(rules.display_name, candidate.agreed_names);
            if let Some(name) = printed_as_given(named, candidate.author()) {
                flags.extend(flags::flags_of_name(name, &about));
            }
            Ok(Entry {
                id: candidate.id,
                order: candidate.order.clone(),
                shop: shop.key.clone(),
                state: candidate.state,
                reject_reason: candidate.reject_reason,
                by_rules: candidate.by_rules,
                rating: said.rating,
                recommend: said.recommend.map(str::to_owned),
                text: text.to_owned(),
                display_name: display_name(named, candidate.author()),
                flags,
                received_at: candidate.received_at,
                decided_at: candidate.decided_at,
                published_at: candidate.published_at,
                reply: candidate.reply(),
            })
        })
        .collect()
}

/// Whose orders have these numbers.
async fn owners(
    conn: &mut PgConnection,
    shop: ShopId,
    numbers: &[String],
) -> sqlx::Result<HashMap<String, CustomerId>> {
    let rows = sqlx::query!(
        r#"select external_id, customer_id as "customer: CustomerId" from "order"
           where shop_id = $1 and external_id = any($2)"#,
        shop.0,
        numbers,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.external_id, row.customer)).collect())
}

/// What became of a ruling on one testimonial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is so now.
    Done,
    /// It was so before.
    Already,
    /// Its author has taken it back, and it stays so.
    Withdrawn,
    /// There is none with this number.
    Unknown,
}

/// What a moderator decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ruling {
    /// It may be published.
    Approve,
    /// It may not, approved before or not.
    Reject(RejectReason),
    /// Its author has asked the shop to take it back. Nobody can approve it again.
    Withdraw,
}

impl Ruling {
    fn outcome(self, state: TestimonialState, reason: Option<RejectReason>) -> Outcome {
        match (self, state) {
            (Self::Withdraw, TestimonialState::Withdrawn) => Outcome::Already,
            (_, TestimonialState::Withdrawn) => Outcome::Withdrawn,
            (Self::Approve, TestimonialState::Approved) => Outcome::Already,
            (Self::Reject(new), TestimonialState::Rejected) if reason == Some(new) => Outcome::Already,
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

/// Rejects these testimonials, approved or not, and queues a mail to each author. Those that were published are missing from the next
/// export.
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

/// Rules on these testimonials.
///
/// # Errors
/// When the database does not answer; then nothing changed.
pub async fn decide(
    pool: &PgPool,
    shops: &[ShopId],
    ids: &[ResponseId],
    ruling: Ruling,
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<(ResponseId, Outcome)>> {
    again::again(|| decide_once(pool, shops, ids, ruling, now)).await
}

async fn decide_once(
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
        r#"select t.shop_id as "shop: ShopId", t.response_id as "id: ResponseId", t.state as "state: TestimonialState",
                  t.reject_reason as "reason: RejectReason", r.order_id as "order: OrderId", r.survey
           from testimonial t join response r using (shop_id, response_id)
           where t.shop_id = any($1) and t.response_id = any($2)
           order by t.shop_id, t.response_id
           for update of t"#,
        &shop_ids,
        &numbers,
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut outcomes = HashMap::new();
    let mut changed = Vec::new();
    for row in &found {
        let outcome = ruling.outcome(row.state, row.reason);
        outcomes.insert(row.id, outcome);
        if outcome == Outcome::Done {
            changed.push(row.id.0);
            if ruling == Ruling::Withdraw {
                withdrawal::withdraw_all(&mut tx, row.shop, row.order, &row.survey, now).await?;
            }
        }
    }
    let decided = match ruling {
        Ruling::Approve => Some((TestimonialState::Approved, None)),
        Ruling::Reject(reason) => Some((TestimonialState::Rejected, Some(reason))),
        Ruling::Withdraw => None,
    };
    if let Some((state, reason)) = decided {
        sqlx::query!(
            "update testimonial set state = $3, reject_reason = $4, decided_at = $5, by_rules = false
             where shop_id = any($1) and response_id = any($2)",
            &shop_ids,
            &changed,
            state as TestimonialState,
            reason as Option<RejectReason>,
            now,
        )
        .execute(&mut *tx)
        .await?;
        rejection::call_back(&mut tx, &shop_ids, &changed, now).await?;
        if let Some(reason) = reason {
            rejection::queue(&mut tx, &shop_ids, &changed, reason, now).await?;
        }
    }
    tx.commit().await?;
    Ok(ids.iter().map(|id| (*id, outcomes.get(id).copied().unwrap_or(Outcome::Unknown))).collect())
}

/// What is wrong with a reply, if anything is; reads after "the reply".
pub fn reply_problem(text: &str) -> Option<String> {
    let length = text.chars().count();
    if text.trim().is_empty() {
        return Some("is empty".to_owned());
    }
    if text.contains('\0') {
        return Some("contains a NUL character".to_owned());
    }
    (length > LONGEST_REPLY).then(|| format!("has {length} characters, and {LONGEST_REPLY} are the most"))
}

/// Replies to a testimonial, or takes the reply down (`None`). A changed reply is a new revision of it; all are kept.
///
/// # Errors
/// When the reply is none ([`reply_problem`]), or the database does not answer; then nothing changed.
pub async fn reply(
    pool: &PgPool,
    shops: &[ShopId],
    id: ResponseId,
    text: Option<&str>,
    now: DateTime<Utc>,
) -> anyhow::Result<Outcome> {
    if let Some(problem) = text.and_then(reply_problem) {
        anyhow::bail!("the reply {problem}");
    }
    let shop_ids: Vec<i32> = shops.iter().map(|shop| shop.0).collect();
    let mut tx = pool.begin().await?;
    // Held, so that two replies at once are two revisions.
    let found = sqlx::query!(
        r#"select t.shop_id, t.state as "state: TestimonialState",
                  (select p.revision from reply p where p.shop_id = t.shop_id and p.response_id = t.response_id
                   order by p.revision desc limit 1) as revision,
                  (select p.body from reply p where p.shop_id = t.shop_id and p.response_id = t.response_id
                   order by p.revision desc limit 1) as body
           from testimonial t where t.shop_id = any($1) and t.response_id = $2
           for update of t"#,
        &shop_ids,
        id.0,
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(found) = found else { return Ok(Outcome::Unknown) };
    if found.body.as_deref() == text {
        return Ok(Outcome::Already);
    }
    if found.state == TestimonialState::Withdrawn && text.is_some() {
        return Ok(Outcome::Withdrawn);
    }
    sqlx::query!(
        "insert into reply (shop_id, response_id, revision, body, replied_at) values ($1, $2, $3, $4, $5)",
        found.shop_id,
        id.0,
        found.revision.unwrap_or_default() + 1,
        text,
        now,
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Outcome::Done)
}

/// What the shop answered to the words that these have replaced, if it did: it is not published any more, and may be given again.
///
/// # Errors
/// When the database does not answer.
pub async fn earlier_reply(pool: &PgPool, shops: &[ShopId], id: ResponseId) -> sqlx::Result<Option<String>> {
    let shop_ids: Vec<i32> = shops.iter().map(|shop| shop.0).collect();
    let latest = sqlx::query_scalar!(
        "select p.body
         from response r
         join response before using (shop_id, order_id, survey)
         join reply p on p.shop_id = r.shop_id and p.response_id = before.response_id
         where r.shop_id = any($1) and r.response_id = $2 and before.revision < r.revision
         order by before.revision desc, p.revision desc
         limit 1",
        &shop_ids,
        id.0,
    )
    .fetch_optional(pool)
    .await?;
    Ok(latest.flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rulings() {
        use RejectReason::{Promotional, Unlawful};
        use Ruling::{Approve, Reject, Withdraw};
        use TestimonialState::{Approved, Pending, Rejected, Withdrawn};
        let check = |ruling: Ruling, state, reason, outcome| {
            assert_eq!(ruling.outcome(state, reason), outcome, "{ruling:?} of {state:?} {reason:?}");
        };
        check(Approve, Pending, None, Outcome::Done);
        check(Approve, Approved, None, Outcome::Already);
        check(Approve, Rejected, Some(Unlawful), Outcome::Done);
        check(Approve, Withdrawn, None, Outcome::Withdrawn);
        check(Reject(Unlawful), Pending, None, Outcome::Done);
        check(Reject(Unlawful), Approved, None, Outcome::Done);
        check(Reject(Unlawful), Rejected, Some(Unlawful), Outcome::Already);
        check(Reject(Unlawful), Rejected, Some(Promotional), Outcome::Done);
        check(Reject(Unlawful), Withdrawn, None, Outcome::Withdrawn);
        check(Withdraw, Approved, None, Outcome::Done);
        check(Withdraw, Rejected, Some(Unlawful), Outcome::Done);
        check(Withdraw, Withdrawn, None, Outcome::Already);
    }

    #[test]
    fn replies_have_words_and_an_end() {
        assert_eq!(reply_problem("Merci !"), None);
        assert_eq!(reply_problem(&"é".repeat(LONGEST_REPLY)), None);
        for bad in [" \n", "", "a\0b", &"é".repeat(LONGEST_REPLY + 1)] {
            assert!(reply_problem(bad).is_some(), "{bad:?}");
        }
    }
}
