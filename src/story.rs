//! The whole story of an order, or of all orders of a customer, across all stages: from the file it came in to the testimonial it became.
//! It only reads.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;

use crate::config::Shop;
use crate::context::Context;
use crate::invitations::bounces::BounceKind;
use crate::invitations::outbox::AttemptOutcome;
use crate::invitations::suppression::{self, Suppressed};
use crate::invitations::{InvitationState, Reason};
use crate::orders::OrderStatus;
use crate::responses::classify::Suspicion;
use crate::responses::hits::{AgentFamily, HitMethod, HitPage};
use crate::responses::{ResponseVia, Verdict};
use crate::survey::{Survey, Trigger};
use crate::testimonials::rejection::{self, Told};
use crate::testimonials::{RejectReason, TestimonialState};
use crate::types::{CustomerId, EmailAddress, InvitationId, OrderId, ResponseId, ShopId};

/// The story of one order.
#[derive(Debug, Serialize)]
pub struct Story {
    pub shop: String,
    pub order_id: String,
    pub ordered_at: DateTime<Utc>,
    pub fulfilled_at: Option<DateTime<Utc>>,
    pub status: OrderStatus,
    pub imported_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// The file it was last read from, while that is remembered.
    pub file: Option<String>,
    /// Why and since when the customer may not be written to, by this shop and by every shop.
    pub suppressed: Vec<Suppressed>,
    pub erased_at: Option<DateTime<Utc>>,
    /// What happened about it later, in the order of time.
    pub events: Vec<Event>,
    pub invitations: Vec<Invitation>,
    /// Surveys that have decided nothing about it yet, and why.
    pub undecided: Vec<Undecided>,
    pub responses: Vec<Response>,
}

/// What happened about an order after it was placed.
#[derive(Debug, Serialize)]
pub struct Event {
    pub event: String,
    pub happened_at: DateTime<Utc>,
}

/// What one survey decided, and what became of its mail.
#[derive(Debug, Serialize)]
pub struct Invitation {
    pub invitation_id: InvitationId,
    pub survey: String,
    pub wave: i16,
    pub state: InvitationState,
    pub reason: Option<Reason>,
    pub due_at: DateTime<Utc>,
    pub decided_at: DateTime<Utc>,
    pub next_attempt_at: DateTime<Utc>,
    pub sent_at: Option<DateTime<Utc>>,
    /// When the next wave is decided about, if there is to be one.
    pub remind_at: Option<DateTime<Utc>>,
    pub message_id: Option<String>,
    pub attempts: Vec<Attempt>,
    /// What came back by mail about it.
    pub bounces: Vec<Bounce>,
    /// Who opened its links, with what kind of program.
    pub hits: Vec<HitLine>,
    /// How many more such notes there would be, had they not been too many.
    pub n_hits_dropped: i64,
}

/// A link of a mail that was opened.
#[derive(Debug, Serialize)]
pub struct HitLine {
    pub at: DateTime<Utc>,
    pub method: HitMethod,
    pub page: HitPage,
    /// The answer that the link carries, as `recommend=yes`.
    pub answer: Option<String>,
    pub agent: AgentFamily,
}

/// One try to send it.
#[derive(Debug, Serialize)]
pub struct Attempt {
    pub attempt: i16,
    pub started_at: DateTime<Utc>,
    pub phase: String,
    pub outcome: AttemptOutcome,
    pub code: Option<i16>,
    pub enhanced_code: Option<String>,
    pub text: String,
}

/// What came back by mail.
#[derive(Debug, Serialize)]
pub struct Bounce {
    pub kind: BounceKind,
    pub status: Option<String>,
    pub reason: String,
    pub received_at: DateTime<Utc>,
}

/// A survey without a decision.
#[derive(Debug, Serialize)]
pub struct Undecided {
    pub survey: String,
    pub why: String,
}

/// A revision of the answer.
#[derive(Debug, Serialize)]
pub struct Response {
    pub response_id: ResponseId,
    pub survey: String,
    pub revision: i32,
    pub counted: bool,
    pub via: ResponseVia,
    pub verdict: Verdict,
    /// Why it is suspect.
    pub suspicion: Option<Suspicion>,
    pub answered_at: DateTime<Utc>,
    pub received_at: DateTime<Utc>,
    pub consent_version: Option<String>,
    pub answers: Vec<Answer>,
    pub testimonial: Option<Testimonial>,
}

/// What was answered to one question.
#[derive(Debug, Serialize)]
pub struct Answer {
    pub question: String,
    pub value: String,
}

/// Where the answer stands as a testimonial.
#[derive(Debug, Serialize)]
pub struct Testimonial {
    pub state: TestimonialState,
    pub reject_reason: Option<RejectReason>,
    pub decided_at: Option<DateTime<Utc>>,
    pub published_at: Option<DateTime<Utc>>,
    /// When the shop last changed its reply.
    pub replied_at: Option<DateTime<Utc>>,
    /// What its author was told about a rejection.
    pub told: Vec<Told>,
}

/// The story of the order that the shop calls so; `None`: it has none.
///
/// # Errors
/// When the database does not answer.
pub async fn of_order(
    context: &Context,
    shop_id: ShopId,
    shop: &str,
    id: &str,
) -> sqlx::Result<Option<Story>> {
    let pool = &context.pool;
    let Some(order) = sqlx::query!(
        r#"select o.order_id as "order_id: OrderId", o.customer_id as "customer_id: CustomerId", o.ordered_at, o.fulfilled_at, o.country,
               o.status as "status: OrderStatus", o.imported_at, o.updated_at, c.erased_at, r.file_name as "file_name?"
           from "order" o
           join customer c using (shop_id, customer_id)
           left join import_run r on r.shop_id = o.shop_id and r.import_run_id = o.import_run_id
           where o.shop_id = $1 and o.external_id = $2"#,
        shop_id.0,
        id,
    )
    .fetch_optional(pool)
    .await?
    else {
        return Ok(None);
    };
    let invitations = invitations(pool, shop_id, order.order_id).await?;
    let now = context.clock.now();
    let events = sqlx::query_as!(
        Event,
        "select event, happened_at from order_event where shop_id = $1 and order_id = $2 order by happened_at",
        shop_id.0,
        order.order_id.0,
    )
    .fetch_all(pool)
    .await?;
    let undecided = context
        .config
        .surveys
        .iter()
        .filter(|survey| survey.mailed && survey.is_for(shop))
        .filter(|survey| !invitations.iter().any(|invitation| invitation.survey == survey.key))
        .map(|survey| Undecided {
            survey: survey.key.clone(),
            why: why_undecided(
                survey,
                order.ordered_at,
                order.fulfilled_at,
                &events,
                order.country.as_deref(),
                now,
            ),
        })
        .collect();
    Ok(Some(Story {
        shop: shop.to_owned(),
        order_id: id.to_owned(),
        ordered_at: order.ordered_at,
        fulfilled_at: order.fulfilled_at,
        status: order.status,
        imported_at: order.imported_at,
        updated_at: order.updated_at,
        file: order.file_name,
        suppressed: suppression::of_customer(pool, shop_id, order.customer_id).await?,
        erased_at: order.erased_at,
        events,
        invitations,
        undecided,
        responses: responses(pool, shop_id, order.order_id).await?,
    }))
}

/// What is known of an address.
#[derive(Debug, Serialize)]
pub struct CustomerStory {
    /// Why and since when it may not be written to: by every shop, and shop by shop.
    pub suppressed: Vec<Suppressed>,
    /// The shops it is a customer of.
    pub shops: Vec<AtShop>,
}

/// What a shop has had to do with a customer.
#[derive(Debug, Serialize)]
pub struct AtShop {
    pub shop: String,
    /// Surveys that do not ask the customer yet, because they, or another survey of the shop, were asked about lately.
    pub throttled: Vec<Throttled>,
    /// By when they were placed.
    pub orders: Vec<Story>,
}

/// A survey that waits.
#[derive(Debug, Serialize)]
pub struct Throttled {
    pub survey: String,
    /// From when on the customer may be asked about another order.
    pub until: DateTime<Utc>,
}

/// The story of the customer with this address in these shops. Empty when nobody has it; erased customers have none.
///
/// # Errors
/// When the database does not answer.
pub async fn of_customer(
    context: &Context,
    shops: &[(ShopId, &Shop)],
    address: &EmailAddress,
) -> sqlx::Result<CustomerStory> {
    let pool = &context.pool;
    let mut suppressed = suppression::of_address(pool, address).await?;
    suppressed
        .retain(|line| line.shop.as_ref().is_none_or(|key| shops.iter().any(|(_, shop)| shop.key == *key)));
    let mut story = CustomerStory { suppressed, shops: Vec::new() };
    for (shop_id, shop) in shops {
        let customer = sqlx::query!(
            r#"select c.customer_id as "customer_id: CustomerId", (
                   select max(coalesce(i.sent_at, i.decided_at)) from "order" o join invitation i using (shop_id, order_id)
                   where o.shop_id = c.shop_id and o.customer_id = c.customer_id and i.wave = 0
                     and i.state in ('queued', 'claimed', 'in_data', 'sent', 'deferred', 'unknown')
               ) as asked_at
               from customer c where c.shop_id = $1 and c.email_key = $2"#,
            shop_id.0,
            address.key(),
        )
        .fetch_optional(pool)
        .await?;
        let Some(customer) = customer else { continue };
        let now = context.clock.now();
        let surveys =
            context.config.surveys.iter().filter(|survey| survey.mailed && survey.is_for(&shop.key));
        let throttled = surveys
            .filter_map(|survey| {
                let until = customer.asked_at? + survey.throttle;
                (until > now).then(|| Throttled { survey: survey.key.clone(), until })
            })
            .collect();
        let ids = sqlx::query_scalar!(
            r#"select external_id from "order" where shop_id = $1 and customer_id = $2 order by ordered_at, order_id"#,
            shop_id.0,
            customer.customer_id.0,
        )
        .fetch_all(pool)
        .await?;
        let mut orders = Vec::with_capacity(ids.len());
        for id in ids {
            // One that went to another customer meanwhile is no longer this customer's.
            orders.extend(of_order(context, *shop_id, &shop.key, &id).await?);
        }
        story.shops.push(AtShop { shop: shop.key.clone(), throttled, orders });
    }
    Ok(story)
}

async fn invitations(pool: &PgPool, shop: ShopId, order: OrderId) -> sqlx::Result<Vec<Invitation>> {
    let rows = sqlx::query!(
        r#"select invitation_id as "invitation_id: InvitationId", survey, wave, state as "state: InvitationState",
               reason as "reason: Reason", due_at, decided_at, next_attempt_at, sent_at, remind_at,
               message_id
           from invitation where shop_id = $1 and order_id = $2
           order by decided_at, invitation_id"#,
        shop.0,
        order.0,
    )
    .fetch_all(pool)
    .await?;
    let mut invitations = Vec::with_capacity(rows.len());
    for row in rows {
        let attempts = sqlx::query_as!(
            Attempt,
            r#"select attempt, started_at, phase, outcome as "outcome: AttemptOutcome", code, enhanced_code, text
               from attempt where shop_id = $1 and invitation_id = $2 order by attempt"#,
            shop.0,
            row.invitation_id.0,
        )
        .fetch_all(pool)
        .await?;
        let bounces = sqlx::query_as!(
            Bounce,
            r#"select kind as "kind: BounceKind", status, reason, received_at
               from bounce where shop_id = $1 and invitation_id = $2 order by received_at, bounce_id"#,
            shop.0,
            row.invitation_id.0,
        )
        .fetch_all(pool)
        .await?;
        let hits = sqlx::query_as!(
            HitLine,
            r#"select at, method as "method: HitMethod", page as "page: HitPage", answer, agent as "agent: AgentFamily"
               from hit where shop_id = $1 and invitation_id = $2 order by hit_id"#,
            shop.0,
            row.invitation_id.0,
        )
        .fetch_all(pool)
        .await?;
        let n_hits_dropped = sqlx::query_scalar!(
            "select n from hit_dropped where shop_id = $1 and invitation_id = $2",
            shop.0,
            row.invitation_id.0,
        )
        .fetch_optional(pool)
        .await?;
        invitations.push(Invitation {
            invitation_id: row.invitation_id,
            survey: row.survey,
            wave: row.wave,
            state: row.state,
            reason: row.reason,
            due_at: row.due_at,
            decided_at: row.decided_at,
            next_attempt_at: row.next_attempt_at,
            sent_at: row.sent_at,
            remind_at: row.remind_at,
            message_id: row.message_id,
            attempts,
            bounces,
            hits,
            n_hits_dropped: n_hits_dropped.unwrap_or(0),
        });
    }
    Ok(invitations)
}

async fn responses(pool: &PgPool, shop: ShopId, order: OrderId) -> sqlx::Result<Vec<Response>> {
    let rows = sqlx::query!(
        r#"select r.response_id as "response_id: ResponseId", r.survey, r.revision, r.counted, r.via as "via: ResponseVia",
               r.verdict as "verdict: Verdict", r.suspicion as "suspicion: Suspicion", r.answered_at, r.received_at, r.consent_version,
               t.state as "state?: TestimonialState", t.reject_reason as "reject_reason?: RejectReason",
               t.decided_at as "decided_at?", t.published_at as "published_at?",
               (select max(p.replied_at) from reply p where p.shop_id = r.shop_id and p.response_id = r.response_id) as replied_at
           from response r left join testimonial t using (shop_id, response_id)
           where r.shop_id = $1 and r.order_id = $2
           order by r.received_at, r.response_id"#,
        shop.0,
        order.0,
    )
    .fetch_all(pool)
    .await?;
    let mut responses = Vec::with_capacity(rows.len());
    for row in rows {
        let told = rejection::told(pool, &[shop], row.response_id).await?;
        let answers = sqlx::query_as!(
            Answer,
            r#"select question, coalesce(choice, score::text, body) as "value!"
               from answer where shop_id = $1 and response_id = $2 order by question"#,
            shop.0,
            row.response_id.0,
        )
        .fetch_all(pool)
        .await?;
        responses.push(Response {
            response_id: row.response_id,
            survey: row.survey,
            revision: row.revision,
            counted: row.counted,
            via: row.via,
            verdict: row.verdict,
            suspicion: row.suspicion,
            answered_at: row.answered_at,
            received_at: row.received_at,
            consent_version: row.consent_version,
            answers,
            testimonial: row.state.map(|state| Testimonial {
                state,
                reject_reason: row.reject_reason,
                decided_at: row.decided_at,
                published_at: row.published_at,
                replied_at: row.replied_at,
                told,
            }),
        });
    }
    Ok(responses)
}

fn why_undecided(
    survey: &Survey,
    ordered_at: DateTime<Utc>,
    fulfilled_at: Option<DateTime<Utc>>,
    events: &[Event],
    country: Option<&str>,
    now: DateTime<Utc>,
) -> String {
    let (start, lacking) = match &survey.trigger {
        Trigger::Ordered => (Some(ordered_at), String::new()),
        Trigger::Fulfilled => {
            (fulfilled_at, "it has no delivery date, and the survey waits for one".to_owned())
        }
        Trigger::Event(name) => {
            let first =
                events.iter().filter(|event| event.event == *name).map(|event| event.happened_at).min();
            (first, format!("no {name} has come in, and the survey waits for one"))
        }
    };
    match start.map(|start| start + survey.delay_for(country)) {
        None => lacking,
        Some(due) if due > now => format!("it becomes due on {}", due.format("%F %R UTC")),
        Some(_) => "it is due; the next run of the sending job decides".to_owned(),
    }
}
