//! `afterword outbox`

use super::{Exit, Global, output};
use crate::invitations::InvitationState;
use crate::invitations::outbox;

/// What is queued, deferred or unknown
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  afterword outbox\n  afterword outbox --state unknown --json\n  afterword outbox --state sent"
)]
pub struct Args {
    /// Only this state; absent: all that is not settled
    #[arg(long)]
    state: Option<InvitationState>,
    /// Show at most so many, the latest first
    #[arg(short, default_value_t = 50)]
    n: i64,
}

/// Runs the command.
///
/// # Errors
/// When the database does not answer.
pub async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let opened = super::open(global).await?;
    let entries = outbox::list(&opened.context.pool, args.state, args.n).await?;
    opened.close().await;
    if global.json {
        output::json(&entries)?;
        return Ok(Exit::Done);
    }
    if entries.is_empty() {
        output::say("Nothing waits.");
        return Ok(Exit::Done);
    }
    let rows = entries.into_iter().map(|entry| {
        [
            entry.id.to_string(),
            entry.shop,
            entry.order,
            entry.survey,
            entry.state.as_str().to_owned(),
            entry.attempts.to_string(),
            entry.next_attempt_at.format("%F %R").to_string(),
            entry.last_error.unwrap_or_default(),
        ]
    });
    output::data(&output::table(
        ["id", "shop", "order", "survey", "state", "tries", "due (UTC)", "last error"],
        rows,
    ))?;
    Ok(Exit::Done)
}
