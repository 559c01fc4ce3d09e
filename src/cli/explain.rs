//! `afterword explain`: the whole story of an order, from the file it came in to the testimonial it became. It only reads.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use clap::ValueEnum as _;
use serde::Serialize;
use sqlx::PgPool;

use super::{Exit, Global, output};
use crate::config::Shop;
use crate::context::Context;
use crate::invitations::outbox::AttemptOutcome;
use crate::invitations::suppression::SuppressionReason;
use crate::invitations::{InvitationState, SkipReason};
use crate::orders::OrderStatus;
use crate::responses::{ResponseVia, Verdict};
use crate::survey::{Survey, Trigger};
use crate::testimonials::{RejectReason, TestimonialState};
use crate::types::{CustomerId, InvitationId, OrderId, ResponseId, ShopId};

/// Everything that was decided about an order, and why
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  afterword explain order 100017\n  afterword explain order 100017 --shop maison --json"
)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The story of one order, by the shop's name for it
    Order {
        /// The order, as the shop calls it
        id: String,
        /// The shop; absent: every shop that has such an order
        #[arg(long)]
        shop: Option<String>,
    },
}

/// The story of one order.
#[derive(Debug, Serialize)]
struct Story {
    shop: String,
    order_id: String,
    ordered_at: DateTime<Utc>,
    fulfilled_at: Option<DateTime<Utc>>,
    status: OrderStatus,
    imported_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    /// The file it was last read from, while that is remembered.
    file: Option<String>,
    /// Whether, when and why the customer may not be written to.
    suppressed: Option<Suppressed>,
    erased_at: Option<DateTime<Utc>>,
    invitations: Vec<Invitation>,
    /// Surveys that have decided nothing about it yet, and why.
    undecided: Vec<Undecided>,
    responses: Vec<Response>,
}

#[derive(Debug, Serialize)]
struct Suppressed {
    reason: SuppressionReason,
    created_at: DateTime<Utc>,
}

#[derive(Debug, Serialize)]
struct Invitation {
    invitation_id: InvitationId,
    survey: String,
    wave: i16,
    state: InvitationState,
    skip_reason: Option<SkipReason>,
    due_at: DateTime<Utc>,
    decided_at: DateTime<Utc>,
    next_attempt_at: DateTime<Utc>,
    sent_at: Option<DateTime<Utc>>,
    message_id: Option<String>,
    attempts: Vec<Attempt>,
}

#[derive(Debug, Serialize)]
struct Attempt {
    attempt: i16,
    started_at: DateTime<Utc>,
    phase: String,
    outcome: AttemptOutcome,
    code: Option<i16>,
    enhanced_code: Option<String>,
    text: String,
}

#[derive(Debug, Serialize)]
struct Undecided {
    survey: String,
    why: String,
}

#[derive(Debug, Serialize)]
struct Response {
    response_id: ResponseId,
    survey: String,
    revision: i32,
    counted: bool,
    via: ResponseVia,
    verdict: Verdict,
    answered_at: DateTime<Utc>,
    received_at: DateTime<Utc>,
    consent_version: Option<String>,
    answers: Vec<Answer>,
    testimonial: Option<Testimonial>,
}

#[derive(Debug, Serialize)]
struct Answer {
    question: String,
    value: String,
}

#[derive(Debug, Serialize)]
struct Testimonial {
    state: TestimonialState,
    reject_reason: Option<RejectReason>,
    decided_at: Option<DateTime<Utc>>,
    published_at: Option<DateTime<Utc>>,
}

/// Runs the command.
///
/// # Errors
/// When the database does not answer.
pub async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let What::Order { id, shop } = args.what;
    let opened = super::open(global).await?;
    let stories = match super::shops(&opened.context, shop.as_deref()) {
        Some(shops) => Some(stories(&opened.context, &shops, &id).await),
        None => None,
    };
    opened.close().await;
    let Some(stories) = stories.transpose()? else { return Ok(Exit::Usage) };
    if stories.is_empty() {
        output::say(&format!(
            "No order is called {id:?}. It has not been imported, or its file calls it otherwise."
        ));
        return Ok(Exit::Failed);
    }
    if global.json {
        output::json(&stories.iter().map(|(story, _)| story).collect::<Vec<_>>())?;
    } else {
        for (story, zone) in &stories {
            output::data(&told(story, *zone))?;
        }
    }
    Ok(Exit::Done)
}

async fn stories(context: &Context, shops: &[(ShopId, &Shop)], id: &str) -> anyhow::Result<Vec<(Story, Tz)>> {
    let mut stories = Vec::new();
    for (shop_id, shop) in shops {
        if let Some(story) = story(context, *shop_id, &shop.key, id).await? {
            stories.push((story, shop.timezone));
        }
    }
    Ok(stories)
}

async fn story(context: &Context, shop_id: ShopId, shop: &str, id: &str) -> anyhow::Result<Option<Story>> {
    let pool = &context.pool;
    let Some(order) = sqlx::query!(
        r#"select o.order_id as "order_id: OrderId", o.customer_id as "customer_id: CustomerId", o.ordered_at, o.fulfilled_at,
               o.status as "status: OrderStatus", o.imported_at, o.updated_at, c.erased_at, r.file_name as "file_name?",
               s.reason as "reason?: SuppressionReason", s.created_at as "suppressed_at?"
           from "order" o
           join customer c using (shop_id, customer_id)
           left join import_run r on r.shop_id = o.shop_id and r.import_run_id = o.import_run_id
           left join suppression s on s.shop_id = o.shop_id and s.address_hash = sha256(convert_to(c.email_key, 'UTF8'))
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
    let undecided = context
        .config
        .surveys
        .iter()
        .filter(|survey| survey.mailed && survey.is_for(shop))
        .filter(|survey| !invitations.iter().any(|invitation| invitation.survey == survey.key))
        .map(|survey| Undecided {
            survey: survey.key.clone(),
            why: why_undecided(survey, order.ordered_at, order.fulfilled_at, now),
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
        suppressed: order
            .reason
            .zip(order.suppressed_at)
            .map(|(reason, created_at)| Suppressed { reason, created_at }),
        erased_at: order.erased_at,
        invitations,
        undecided,
        responses: responses(pool, shop_id, order.order_id).await?,
    }))
}

async fn invitations(pool: &PgPool, shop: ShopId, order: OrderId) -> anyhow::Result<Vec<Invitation>> {
    let rows = sqlx::query!(
        r#"select invitation_id as "invitation_id: InvitationId", survey, wave, state as "state: InvitationState",
               skip_reason as "skip_reason: SkipReason", due_at, decided_at, next_attempt_at, sent_at, message_id
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
        invitations.push(Invitation {
            invitation_id: row.invitation_id,
            survey: row.survey,
            wave: row.wave,
            state: row.state,
            skip_reason: row.skip_reason,
            due_at: row.due_at,
            decided_at: row.decided_at,
            next_attempt_at: row.next_attempt_at,
            sent_at: row.sent_at,
            message_id: row.message_id,
            attempts,
        });
    }
    Ok(invitations)
}

async fn responses(pool: &PgPool, shop: ShopId, order: OrderId) -> anyhow::Result<Vec<Response>> {
    let rows = sqlx::query!(
        r#"select r.response_id as "response_id: ResponseId", r.survey, r.revision, r.counted, r.via as "via: ResponseVia",
               r.verdict as "verdict: Verdict", r.answered_at, r.received_at, r.consent_version,
               t.state as "state?: TestimonialState", t.reject_reason as "reject_reason?: RejectReason",
               t.decided_at as "decided_at?", t.published_at as "published_at?"
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
            answered_at: row.answered_at,
            received_at: row.received_at,
            consent_version: row.consent_version,
            answers,
            testimonial: row.state.map(|state| Testimonial {
                state,
                reject_reason: row.reject_reason,
                decided_at: row.decided_at,
                published_at: row.published_at,
            }),
        });
    }
    Ok(responses)
}

fn why_undecided(
    survey: &Survey,
    ordered_at: DateTime<Utc>,
    fulfilled_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> String {
    let start = match survey.trigger {
        Trigger::Ordered => Some(ordered_at),
        Trigger::Fulfilled => fulfilled_at,
    };
    match start.map(|start| start + survey.delay) {
        None => "it has no delivery date, and the survey waits for one".to_owned(),
        Some(due) if due > now => format!("it becomes due on {}", due.format("%F %R UTC")),
        Some(_) => "it is due; the next run of the sending job decides".to_owned(),
    }
}

/// The story as lines, in the shop's time.
fn told(story: &Story, zone: Tz) -> String {
    let mut text = format!("Order {} of {} (times in {zone})\n", story.order_id, story.shop);
    let mut lines: Vec<(DateTime<Utc>, String)> = vec![(story.ordered_at, "ordered".to_owned())];
    if let Some(fulfilled_at) = story.fulfilled_at {
        lines.push((fulfilled_at, "delivered".to_owned()));
    }
    let file = story.file.as_deref().map(|file| format!(" from {file}")).unwrap_or_default();
    lines.push((story.imported_at, format!("imported{file}; status now: {}", story.status.as_str())));
    if let Some(suppressed) = &story.suppressed {
        let why = match suppressed.reason {
            SuppressionReason::Unsubscribed => "the customer unsubscribed",
            SuppressionReason::Bounced => "the address does not exist; it is not written to again",
            SuppressionReason::Manual => "the address was put on the do-not-contact list by hand",
        };
        lines.push((suppressed.created_at, why.to_owned()));
    }
    if let Some(erased_at) = story.erased_at {
        lines.push((erased_at, "the customer was erased".to_owned()));
    }
    for invitation in &story.invitations {
        invitation_lines(invitation, &mut lines);
    }
    for response in &story.responses {
        response_lines(response, &mut lines);
    }
    lines.sort_by_key(|(moment, _)| *moment);
    for (moment, line) in lines {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "  {}  {line}", moment.with_timezone(&zone).format("%F %R"));
    }
    for undecided in &story.undecided {
        let _ = writeln!(text, "  survey {}: not decided yet, because {}", undecided.survey, undecided.why);
    }
    text
}

fn invitation_lines(invitation: &Invitation, lines: &mut Vec<(DateTime<Utc>, String)>) {
    let survey = &invitation.survey;
    if let Some(reason) = invitation.skip_reason {
        lines
            .push((invitation.decided_at, format!("survey {survey}: not asked, because {}", reason.words())));
        return;
    }
    lines.push((
        invitation.decided_at,
        format!("survey {survey}: to be asked (invitation {})", invitation.invitation_id),
    ));
    for attempt in &invitation.attempts {
        let code = attempt.code.map(|code| format!(" {code}")).unwrap_or_default();
        let what = match attempt.outcome {
            AttemptOutcome::Sent => "the relay took the mail".to_owned(),
            AttemptOutcome::Deferred => format!("deferred at {}{code}: {}", attempt.phase, attempt.text),
            AttemptOutcome::Failed => format!("refused at {}{code}: {}", attempt.phase, attempt.text),
            AttemptOutcome::Unknown => format!("unknown whether the relay has it: {}", attempt.text),
        };
        lines.push((attempt.started_at, format!("survey {survey}: try {}: {what}", attempt.attempt)));
    }
    let now = match invitation.state {
        InvitationState::Queued => "waits to be mailed",
        InvitationState::Claimed | InvitationState::InData => "is being mailed",
        InvitationState::Deferred => "waits for its next try",
        InvitationState::Unknown => "is not sent again by itself",
        InvitationState::Expired => "waited too long and will not be mailed",
        InvitationState::Cancelled => "will not be mailed: the order was cancelled or refunded meanwhile",
        InvitationState::Suppressed => "will not be mailed: the customer opted out meanwhile",
        InvitationState::Sent | InvitationState::Failed | InvitationState::Skipped => return,
    };
    lines.push((invitation.next_attempt_at, format!("survey {survey}: {now}")));
}

fn response_lines(response: &Response, lines: &mut Vec<(DateTime<Utc>, String)>) {
    let answers: Vec<String> =
        response.answers.iter().map(|answer| format!("{} = {}", answer.question, answer.value)).collect();
    let counted = match (response.verdict, response.counted) {
        (Verdict::Suspect, _) => "suspect, kept but not counted",
        (Verdict::Human, true) => "counted",
        (Verdict::Human, false) => "replaced by a later one",
    };
    lines.push((
        response.answered_at,
        format!(
            "survey {}: answer {} ({}, revision {}, {counted}): {}",
            response.survey,
            response.response_id,
            match response.via {
                ResponseVia::Page => "on the page",
                ResponseVia::Import => "by file",
            },
            response.revision,
            answers.join(", "),
        ),
    ));
    if let Some(version) = &response.consent_version {
        lines.push((response.answered_at, format!("may be published (consent {version})")));
    }
    let Some(testimonial) = &response.testimonial else { return };
    match (testimonial.state, testimonial.decided_at) {
        (TestimonialState::Pending, _) => {
            lines.push((response.received_at, "waits for approval as a testimonial".to_owned()));
        }
        (TestimonialState::Approved, Some(moment)) => {
            lines.push((moment, "approved as a testimonial".to_owned()))
        }
        (TestimonialState::Rejected, Some(moment)) => {
            let reason = testimonial
                .reject_reason
                .map(|reason| format!(": {}", reason_words(reason)))
                .unwrap_or_default();
            lines.push((moment, format!("rejected as a testimonial{reason}")));
        }
        (_, None) => {}
    }
    if let Some(published_at) = testimonial.published_at {
        lines.push((published_at, "first exported as a testimonial".to_owned()));
    }
}

/// A reason as the help of `testimonials reject` words it.
fn reason_words(reason: RejectReason) -> String {
    let value = reason.to_possible_value();
    value.and_then(|value| value.get_help().map(|help| help.to_string().to_lowercase())).unwrap_or_default()
}
