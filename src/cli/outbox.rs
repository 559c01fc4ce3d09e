//! `afterword outbox`

use super::{Exit, Global, output};
use crate::invitations::InvitationState;
use crate::invitations::outbox::{self, Resolution};
use crate::types::InvitationId;

/// What is queued, deferred or unknown
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:\n  afterword outbox\n  afterword outbox --state unknown --json\n  \
    afterword outbox resolve 4711 --accept\n\n\
    Unknown: the connection or the program died between the end of the mail and the relay's answer. Such a mail is never sent again\n\
    by itself. Look it up in the relay's log by its Message-ID (--json shows it), or let an answer to it settle it.")]
pub struct Args {
    #[command(subcommand)]
    resolve: Option<Subcommand>,
    /// Only this state; absent: all that is not settled
    #[arg(long)]
    state: Option<InvitationState>,
    /// Show at most so many, the latest first
    #[arg(short, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..))]
    n: i64,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    /// Settle a mail of which nobody could know whether it arrived
    #[command(group = clap::ArgGroup::new("how").required(true))]
    Resolve {
        /// The mail's number in `afterword outbox`
        id: i64,
        /// The relay has it: it counts as sent
        #[arg(long, group = "how")]
        accept: bool,
        /// The relay does not have it: mail it again
        #[arg(long, group = "how")]
        resend: bool,
    },
}

/// Runs the command.
///
/// # Errors
/// When the database does not answer.
pub async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    if let Some(Subcommand::Resolve { id, accept, .. }) = args.resolve {
        let resolution = if accept { Resolution::Accept } else { Resolution::Resend };
        return resolve(InvitationId(id), resolution, global).await;
    }
    let opened = super::open(global).await?;
    let entries = outbox::list(&opened.context.pool, args.state, args.n.saturating_add(1)).await;
    opened.close().await;
    let mut entries = entries?;
    // One more than is shown was asked for, to know whether there are more.
    let shown = usize::try_from(args.n).unwrap_or_default();
    if entries.len() > shown {
        entries.truncate(shown);
        output::say(&format!("There are more than these {shown}; -n shows more."));
    }
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
            entry.next_attempt_at.map(|at| at.format("%F %R").to_string()).unwrap_or_default(),
            entry.last_error.unwrap_or_default(),
        ]
    });
    output::data(&output::table(
        ["id", "shop", "order", "survey", "state", "tries", "due (UTC)", "last error"],
        rows,
    ))?;
    Ok(Exit::Done)
}

async fn resolve(id: InvitationId, resolution: Resolution, global: &Global) -> anyhow::Result<Exit> {
    let opened = super::open(global).await?;
    let context = &opened.context;
    let resolved = outbox::resolve(&context.pool, id, resolution, context.clock.now()).await;
    opened.close().await;
    if !resolved? {
        output::say(&format!(
            "error: there is no unknown mail {id}; `afterword outbox --state unknown` lists them"
        ));
        return Ok(Exit::Failed);
    }
    output::say(match resolution {
        Resolution::Accept => "It counts as sent.",
        Resolution::Resend => "It is queued, and the next run mails it again.",
    });
    Ok(Exit::Done)
}
