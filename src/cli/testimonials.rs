//! `afterword testimonials`

use clap::Subcommand;
use serde_json::json;

use super::{Exit, Global, output};
use crate::context::Context;
use crate::testimonials::moderation::{self, Entry, Outcome};
use crate::testimonials::{RejectReason, TestimonialState};
use crate::types::{ResponseId, ShopId};

/// Decide what may be published
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afterword testimonials list --state pending
  afterword testimonials approve 12 15
  afterword testimonials approve --all-pending --shop maison
  afterword testimonials reject 13 --reason personal_data

Deciding again changes nothing. What is rejected after it was published is missing from the next export.
Exit code: 0 done, 1 failed, 2 no such shop, 3 some numbers could not be decided on.")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// What customers wrote and agreed to publish, oldest first
    List {
        /// Only these
        #[arg(long)]
        state: Option<TestimonialState>,
        /// Only of this shop
        #[arg(long, value_name = "KEY")]
        shop: Option<String>,
    },
    /// Let these be published
    Approve {
        /// Their numbers, as `list` prints them
        #[arg(value_name = "ID", required_unless_present = "all_pending")]
        ids: Vec<i64>,
        /// All that nobody has decided on yet
        #[arg(long, conflicts_with = "ids")]
        all_pending: bool,
        /// With --all-pending: only of this shop
        #[arg(long, value_name = "KEY", requires = "all_pending")]
        shop: Option<String>,
    },
    /// Do not let these be published
    Reject {
        /// Their numbers, as `list` prints them
        #[arg(value_name = "ID", required = true)]
        ids: Vec<i64>,
        /// Why; a low score is no reason
        #[arg(long, value_name = "CODE")]
        reason: RejectReason,
    },
}

/// Runs the command.
///
/// # Errors
/// When the configuration or the database cannot be used.
pub async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let opened = super::open(global).await?;
    let exit = act(args.action, global, &opened.context).await;
    opened.close().await;
    exit
}

async fn act(action: Action, global: &Global, context: &Context) -> anyhow::Result<Exit> {
    let shop = match &action {
        Action::List { shop, .. } | Action::Approve { shop, .. } => shop.as_deref(),
        Action::Reject { .. } => None,
    };
    let Some(shops) = super::shops(context, shop) else { return Ok(Exit::Usage) };
    let shop_ids: Vec<ShopId> = shops.iter().map(|(id, _)| *id).collect();
    let (pool, now) = (&context.pool, context.clock.now());
    match action {
        Action::List { state, .. } => {
            let names = context.config.testimonials.display_name;
            tell_entries(&moderation::list(pool, &shops, state, names).await?, global.json)
        }
        Action::Approve { all_pending: true, .. } => {
            let ids = moderation::approve_all_pending(pool, &shop_ids, now).await?;
            let outcomes: Vec<_> = ids.into_iter().map(|id| (id, Outcome::Done)).collect();
            tell_outcomes(&outcomes, TestimonialState::Approved, global.json)
        }
        Action::Approve { ids, .. } => {
            let outcomes = moderation::approve(pool, &shop_ids, &numbers(&ids), now).await?;
            tell_outcomes(&outcomes, TestimonialState::Approved, global.json)
        }
        Action::Reject { ids, reason } => {
            let outcomes = moderation::reject(pool, &shop_ids, &numbers(&ids), reason, now).await?;
            tell_outcomes(&outcomes, TestimonialState::Rejected, global.json)
        }
    }
}

fn numbers(ids: &[i64]) -> Vec<ResponseId> {
    ids.iter().copied().map(ResponseId).collect()
}

fn tell_entries(entries: &[Entry], as_json: bool) -> anyhow::Result<Exit> {
    if as_json {
        output::json(&entries)?;
        return Ok(Exit::Done);
    }
    let rows = entries.iter().map(|entry| {
        [
            entry.id.to_string(),
            entry.shop.clone(),
            entry.order.clone(),
            entry
                .reject_reason
                .map_or_else(|| word(entry.state), |reason| format!("rejected: {}", word(reason))),
            entry.rating.map(|rating| rating.to_string()).unwrap_or_default(),
            entry.display_name.clone(),
            output::plain(&entry.text),
        ]
    });
    output::data(&output::table(["Id", "Shop", "Order", "State", "Rating", "Name", "Text"], rows))?;
    Ok(Exit::Done)
}

fn tell_outcomes(
    outcomes: &[(ResponseId, Outcome)],
    state: TestimonialState,
    as_json: bool,
) -> anyhow::Result<Exit> {
    let state = word(state);
    let mut exit = Exit::Done;
    let mut done = 0;
    for (id, outcome) in outcomes {
        match outcome {
            Outcome::Done | Outcome::Already => done += 1,
            Outcome::AuthorRequest => {
                output::say(&format!("{id}: stays rejected, because its author asked for it"));
                exit = Exit::Partial;
            }
            Outcome::Unknown => {
                output::say(&format!("{id}: there is no testimonial with this number"));
                exit = Exit::Partial;
            }
        }
    }
    if as_json {
        let outcomes: Vec<_> =
            outcomes.iter().map(|(id, outcome)| json!({ "id": id, "outcome": outcome })).collect();
        output::json(&json!({ "state": state, "n": done, "testimonials": outcomes }))?;
    } else {
        output::say(&format!("{done} {state}"));
    }
    Ok(exit)
}

/// The word of the command line for a state or a reason.
fn word(value: impl clap::ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
