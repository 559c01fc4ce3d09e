//! `afterword explain`: the [`story`] of an order, in words.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use clap::ValueEnum as _;

use super::{Exit, Global, output};
use crate::config::Shop;
use crate::context::Context;
use crate::invitations::InvitationState;
use crate::invitations::outbox::AttemptOutcome;
use crate::responses::{ResponseVia, Verdict};
use crate::story::{self, Invitation, Response, Story};
use crate::testimonials::{RejectReason, TestimonialState};
use crate::types::ShopId;

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
    if let Some(suppressed) = &story.suppressed {
        lines.push((suppressed.created_at, suppressed.reason.words().to_owned()));
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
        let moment = moment.with_timezone(&zone).format("%F %R");
        let _ = writeln!(text, "  {moment}  {}", output::plain(&line));
    }
    for undecided in &story.undecided {
        let _ = writeln!(text, "  survey {}: not decided yet, because {}", undecided.survey, undecided.why);
    }
    text
}

fn invitation_lines(invitation: &Invitation, lines: &mut Vec<(DateTime<Utc>, String)>) {
    let survey = &invitation.survey;
    if let Some(reason) = invitation.reason {
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
    for bounce in &invitation.bounces {
        let status = bounce.status.as_deref().map(|status| format!(" {status}")).unwrap_or_default();
        lines.push((
            bounce.received_at,
            format!("survey {survey}: {}{status}: {}", bounce.kind.words(), bounce.reason),
        ));
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
    // What waits is told at the time it waits for, everything else after what was tried last.
    let last = invitation.attempts.last().map_or(invitation.decided_at, |attempt| attempt.started_at);
    let waits = matches!(invitation.state, InvitationState::Queued | InvitationState::Deferred);
    lines.push((if waits { invitation.next_attempt_at } else { last }, format!("survey {survey}: {now}")));
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
