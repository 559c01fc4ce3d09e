//! `afterword explain`: the [`story`] of an order or of a customer, in words.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use clap::ValueEnum as _;

use super::{Exit, Global, output};
use crate::config::Shop;
use crate::context::Context;
use crate::invitations::InvitationState;
use crate::invitations::outbox::AttemptOutcome;
use crate::responses::hits::{AgentFamily, HitMethod, HitPage};
use crate::responses::{ResponseVia, Verdict};
use crate::story::{self, CustomerStory, Invitation, Response, Story};
use crate::testimonials::rejection::RejectionState;
use crate::testimonials::{RejectReason, TestimonialState};
use crate::types::{EmailAddress, ShopId};

/// Everything that was decided about an order or a customer, and why
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  afterword explain order 100017\n  afterword explain order 100017 --shop maison --json\n  \
    afterword explain customer claire@customer.example"
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
    /// All orders of a customer, whether they may be written to, and when they may be asked again
    Customer {
        /// The address
        #[arg(value_parser = super::address)]
        email: EmailAddress,
        /// The shop; absent: every shop
        #[arg(long)]
        shop: Option<String>,
    },
}

/// Runs the command.
///
/// # Errors
/// When the database does not answer.
pub async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let opened = super::open(global).await?;
    let exit = explain(args.what, global, &opened.context).await;
    opened.close().await;
    exit
}

async fn explain(what: What, global: &Global, context: &Context) -> anyhow::Result<Exit> {
    let (What::Order { shop, .. } | What::Customer { shop, .. }) = &what;
    let Some(shops) = super::shops(context, shop.as_deref()) else { return Ok(Exit::Usage) };
    match &what {
        What::Order { id, .. } => order(id, &shops, global, context).await,
        What::Customer { email, .. } => customer(email, &shops, global, context).await,
    }
}

async fn order(
    id: &str,
    shops: &[(ShopId, &Shop)],
    global: &Global,
    context: &Context,
) -> anyhow::Result<Exit> {
    let stories = stories(context, shops, id).await?;
    if stories.is_empty() {
        if global.json {
            output::json(&[(); 0])?;
        }
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

/// The address is not repeated: whoever asks has it, and what is printed may be passed on.
async fn customer(
    email: &EmailAddress,
    shops: &[(ShopId, &Shop)],
    global: &Global,
    context: &Context,
) -> anyhow::Result<Exit> {
    let story = story::of_customer(context, shops, email).await?;
    let is_known = !story.shops.is_empty() || !story.suppressed.is_empty();
    if global.json {
        output::json(&story)?;
    }
    if !is_known {
        output::say(
            "No customer has this address, and it is on no do-not-contact list. A customer who was erased is not found by it any more.",
        );
        return Ok(Exit::Failed);
    }
    if !global.json {
        output::data(&customer_told(&story, shops))?;
    }
    Ok(Exit::Done)
}

fn customer_told(story: &CustomerStory, shops: &[(ShopId, &Shop)]) -> String {
    let mut text = String::new();
    for line in &story.suppressed {
        let whose =
            line.shop.as_ref().map_or_else(|| "every shop".to_owned(), |shop| format!("the shop {shop}"));
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "On the do-not-contact list of {whose} since {}: {}.",
            line.created_at.format("%F %R UTC"),
            line.reason.words()
        );
    }
    if story.shops.is_empty() {
        text.push_str("No customer has this address.\n");
    }
    for at_shop in &story.shops {
        let zone = shops
            .iter()
            .find(|(_, shop)| shop.key == at_shop.shop)
            .map_or(Tz::UTC, |(_, shop)| shop.timezone);
        let n = at_shop.orders.len();
        let orders = if n == 1 { "order" } else { "orders" };
        let _ = writeln!(text, "Customer of {} with {n} {orders}", at_shop.shop);
        for throttled in &at_shop.throttled {
            let until = throttled.until.with_timezone(&zone).format("%F %R");
            let _ = writeln!(
                text,
                "  survey {}: may be asked about another order from {until} on",
                throttled.survey
            );
        }
        for order in &at_shop.orders {
            let _ = write!(text, "\n{}", told(order, zone));
        }
    }
    text
}

async fn stories(context: &Context, shops: &[(ShopId, &Shop)], id: &str) -> anyhow::Result<Vec<(Story, Tz)>> {
    let mut stories = Vec::new();
    for (shop_id, shop) in shops {
        if let Some(story) = story::of_order(context, *shop_id, &shop.key, id).await? {
            stories.push((story, shop.timezone));
        }
    }
    Ok(stories)
}

/// The story as lines, in the shop's time.
fn told(story: &Story, zone: Tz) -> String {
    let order = output::plain(&story.order_id);
    let mut text = format!("Order {order} of {} (times in {zone})\n", story.shop);
    let mut lines: Vec<(DateTime<Utc>, String)> = vec![(story.ordered_at, "ordered".to_owned())];
    if let Some(fulfilled_at) = story.fulfilled_at {
        lines.push((fulfilled_at, "delivered".to_owned()));
    }
    let file = story.file.as_deref().map(|file| format!(" from {file}")).unwrap_or_default();
    lines.push((story.imported_at, format!("imported{file}; status now: {}", story.status.as_str())));
    for suppressed in &story.suppressed {
        let whose = if suppressed.shop.is_some() { "" } else { " (on the list of every shop)" };
        lines.push((suppressed.created_at, format!("{}{whose}", suppressed.reason.words())));
    }
    if let Some(erased_at) = story.erased_at {
        lines
            .push((erased_at, "address and name of the customer went: erased, or no longer kept".to_owned()));
    }
    for event in &story.events {
        lines.push((event.happened_at, event.event.replace('_', " ")));
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
        let moment = moment.with_timezone(&zone).format("%F %R");
        let _ = writeln!(text, "  {moment}  {}", output::plain(&line));
    }
    for undecided in &story.undecided {
        let _ = writeln!(text, "  survey {}: not decided yet, because {}", undecided.survey, undecided.why);
    }
    text
}

/// What a wave is called.
fn wave_words(wave: i16) -> String {
    match wave {
        0 => "first mail".to_owned(),
        1 => "first reminder".to_owned(),
        2 => "second reminder".to_owned(),
        3 => "third reminder".to_owned(),
        n => format!("reminder {n}"),
    }
}

fn invitation_lines(invitation: &Invitation, lines: &mut Vec<(DateTime<Utc>, String)>) {
    let survey = format!("survey {}, {}", invitation.survey, wave_words(invitation.wave));
    let because = invitation.reason.map(|reason| format!(", because {}", reason.words())).unwrap_or_default();
    if invitation.state == InvitationState::Skipped {
        let what = if invitation.wave == 0 { "not asked" } else { "not sent" };
        lines.push((invitation.decided_at, format!("{survey}: {what}{because}")));
        return;
    }
    let what = if invitation.wave == 0 { "to be asked" } else { "to be sent" };
    lines
        .push((invitation.decided_at, format!("{survey}: {what} (invitation {})", invitation.invitation_id)));
    for attempt in &invitation.attempts {
        let code = attempt.code.map(|code| format!(" {code}")).unwrap_or_default();
        let what = match attempt.outcome {
            AttemptOutcome::Sent => "the relay took the mail".to_owned(),
            AttemptOutcome::Deferred => format!("deferred at {}{code}: {}", attempt.phase, attempt.text),
            AttemptOutcome::Failed => format!("refused at {}{code}: {}", attempt.phase, attempt.text),
            AttemptOutcome::Unknown => format!("unknown whether the relay has it: {}", attempt.text),
        };
        lines.push((attempt.started_at, format!("{survey}: try {}: {what}", attempt.attempt)));
    }
    if let Some(remind_at) = invitation.remind_at {
        let next = wave_words(invitation.wave + 1);
        lines.push((remind_at, format!("survey {}, {next}: is decided about", invitation.survey)));
    }
    for bounce in &invitation.bounces {
        let status = bounce.status.as_deref().map(|status| format!(" {status}")).unwrap_or_default();
        lines.push((
            bounce.received_at,
            format!("{survey}: {}{status}: {}", bounce.kind.words(), bounce.reason),
        ));
    }
    hit_lines(invitation, &survey, lines);
    let now = match invitation.state {
        InvitationState::Queued => "waits to be mailed".to_owned(),
        InvitationState::Claimed | InvitationState::InData => "is being mailed".to_owned(),
        InvitationState::Deferred => "waits for its next try".to_owned(),
        InvitationState::Unknown => {
            "is not sent again by itself; `afterword outbox resolve` settles it".to_owned()
        }
        InvitationState::Expired | InvitationState::Cancelled | InvitationState::Suppressed => {
            format!("will not be mailed any more{because}")
        }
        InvitationState::Sent | InvitationState::Failed | InvitationState::Skipped => return,
    };
    // What waits is told at the time it waits for, everything else after what was tried last.
    let last = invitation.attempts.last().map_or(invitation.decided_at, |attempt| attempt.started_at);
    let waits = matches!(invitation.state, InvitationState::Queued | InvitationState::Deferred);
    lines.push((if waits { invitation.next_attempt_at } else { last }, format!("{survey}: {now}")));
}

/// The first hits on a mail's links; a scanner leaves dozens, of which the first tell enough.
fn hit_lines(invitation: &Invitation, survey: &str, lines: &mut Vec<(DateTime<Utc>, String)>) {
    const SHOWN: usize = 20;
    for hit in invitation.hits.iter().take(SHOWN) {
        let what = match hit.method {
            HitMethod::Get => "opened",
            HitMethod::Head | HitMethod::Options => "probed",
            HitMethod::Post => "sent a form",
            HitMethod::Other => "asked for oddly",
        };
        let page = match hit.page {
            HitPage::Survey => "the survey",
            HitPage::Thanks => "the thanks",
            HitPage::Withdrawal => "the withdrawal",
            HitPage::Unsubscribe => "the opting out",
        };
        let answer = hit.answer.as_deref().map(|answer| format!(" with {answer}")).unwrap_or_default();
        let agent = match hit.agent {
            AgentFamily::Browser => "a browser",
            AgentFamily::Phone => "a phone",
            AgentFamily::Scanner => "a scanner",
            AgentFamily::Tool => "a command or library",
            AgentFamily::None => "something that does not say what it is",
            AgentFamily::Other => "some other program",
        };
        lines.push((hit.at, format!("{survey}: {page}{answer} was {what} by {agent}")));
    }
    let rest = invitation.hits.len().saturating_sub(SHOWN);
    if let Some(last) = invitation.hits.last()
        && rest > 0
    {
        let dropped = match invitation.n_hits_dropped {
            0 => String::new(),
            n => format!(", and {n} of which nothing more is kept"),
        };
        lines.push((last.at, format!("{survey}: {rest} more such visits{dropped}")));
    }
}

fn response_lines(response: &Response, lines: &mut Vec<(DateTime<Utc>, String)>) {
    let answers: Vec<String> =
        response.answers.iter().map(|answer| format!("{} = {}", answer.question, answer.value)).collect();
    let counted = match (response.verdict, response.counted) {
        (Verdict::Suspect, _) => match response.suspicion {
            Some(suspicion) => format!("suspect, kept but not counted, because {}", suspicion.words()),
            None => "suspect, kept but not counted".to_owned(),
        },
        (Verdict::Human, true) => "counted".to_owned(),
        (Verdict::Human, false) => "replaced by a later one".to_owned(),
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
        (TestimonialState::Withdrawn, Some(moment)) => {
            lines.push((moment, "withdrawn by its author as a testimonial".to_owned()));
        }
        (_, None) => {}
    }
    for told in &testimonial.told {
        let fault = told.fault.as_ref().map(|fault| format!(" ({fault})")).unwrap_or_default();
        let moment = told.settled_at.unwrap_or(told.queued_at);
        lines.push((moment, format!("mail about the rejection: {}{fault}", told_words(told.state))));
    }
    if let Some(replied_at) = testimonial.replied_at {
        lines.push((replied_at, "the shop replied to it, or changed its reply".to_owned()));
    }
    if let Some(published_at) = testimonial.published_at {
        lines.push((published_at, "first exported as a testimonial".to_owned()));
    }
}

/// What became of a mail to an author.
pub(super) fn told_words(state: RejectionState) -> &'static str {
    match state {
        RejectionState::Queued => "waits",
        RejectionState::InData => "is being sent",
        RejectionState::Sent => "sent",
        RejectionState::Failed => "given up",
        RejectionState::Unknown => "may have arrived; it is not sent again",
        RejectionState::Cancelled => "called back",
        RejectionState::Unmailable => "not sent",
    }
}

/// A reason as the help of `testimonials reject` words it.
pub(super) fn reason_words(reason: RejectReason) -> String {
    let value = reason.to_possible_value();
    value.and_then(|value| value.get_help().map(|help| help.to_string().to_lowercase())).unwrap_or_default()
}
