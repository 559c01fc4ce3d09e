//! `afterword outbox`

use std::pin::pin;

use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use futures_util::TryStreamExt as _;

use super::{Exit, Global, output};
use crate::context::Context;
use crate::db;
use crate::invitations::InvitationState;
use crate::invitations::outbox::{self, Entry, Resolution};
use crate::testimonials::rejection;
use crate::types::{InvitationId, ResponseId};

/// What is queued, deferred or unknown
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:\n  afterword outbox\n  afterword outbox --state unknown --json\n  \
    afterword outbox --state all -n 200\n  afterword outbox resolve 4711 4712 --accept\n\n\
    Unknown: the connection or the program died between the end of the mail and the relay's answer. Such a mail is never sent again\n\
    by itself. Look it up in the relay's log by its Message-ID (--json shows it), or let an answer to it settle it.")]
pub struct Args {
    #[command(subcommand)]
    resolve: Option<Subcommand>,
    /// Only this state, or `all`; absent: all that is not settled
    #[arg(long, value_parser = States::possible())]
    state: Option<States>,
    /// Show at most so many, the latest first; absent: 50 on the screen, all of them with --json
    #[arg(short, value_parser = clap::value_parser!(i64).range(1..))]
    n: Option<i64>,
}

/// So many are shown on the screen unless more are asked for.
const SHOWN: i64 = 50;

/// Which states are asked for.
#[derive(Debug, Clone, Copy)]
enum States {
    All,
    One(InvitationState),
}

impl States {
    /// The states as they can be typed, and `all`.
    fn possible() -> impl TypedValueParser<Value = Self> {
        let states = InvitationState::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let all = PossibleValue::new("all").help("Whatever its state");
        PossibleValuesParser::new(states.chain([all])).map(|typed| {
            // What is not `all` was among the states.
            InvitationState::from_str(&typed, false).map_or(Self::All, Self::One)
        })
    }
}

#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    /// Settle a mail of which nobody could know whether it arrived
    #[command(group = clap::ArgGroup::new("how").required(true))]
    Resolve {
        /// The mails' numbers in `afterword outbox`
        #[arg(required = true, value_name = "ID")]
        ids: Vec<i64>,
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
    if let Some(Subcommand::Resolve { ids, accept, .. }) = &args.resolve {
        let resolution = if *accept { Resolution::Accept } else { Resolution::Resend };
        return resolve(ids, resolution, global).await;
    }
    let opened = super::open(global).await?;
    let listed = list(&args, global, &opened.context).await;
    opened.close().await;
    listed
}

async fn list(args: &Args, global: &Global, context: &Context) -> anyhow::Result<Exit> {
    let states = match &args.state {
        None => Some(&outbox::OPEN[..]),
        Some(States::All) => None,
        Some(States::One(state)) => Some(std::slice::from_ref(state)),
    };
    let shown = args.n.or((!global.json).then_some(SHOWN));
    let mut transaction = context.pool.begin().await?;
    db::lift_statement_timeout(&mut transaction).await?;
    // One more than is shown is asked for, to know whether there are more.
    let limit = shown.map(|shown| shown.saturating_add(1));
    let entries = pin!(outbox::list(&mut *transaction, states, limit));
    if global.json {
        output::json_array(entries, shown).await?;
        return Ok(Exit::Done);
    }
    let mut entries: Vec<Entry> = entries.try_collect().await?;
    let shown = usize::try_from(shown.unwrap_or(SHOWN)).unwrap_or(usize::MAX);
    if entries.len() > shown {
        entries.truncate(shown);
        output::say(&format!("There are more than these {shown}; -n shows more, --json all of them."));
    }
    if args.state.is_none() || matches!(args.state, Some(States::One(InvitationState::Unknown))) {
        tell_rejections(&rejection::unknown(&context.pool).await?);
    }
    if entries.is_empty() {
        output::say(if args.state.is_none() { "Nothing waits." } else { "There is none." });
        return Ok(Exit::Done);
    }
    let rows = entries.into_iter().map(|entry| {
        let why = entry.reason.map(|reason| reason.words().to_owned());
        [
            entry.id.to_string(),
            entry.shop,
            entry.order,
            entry.survey,
            entry.wave.to_string(),
            entry.state.as_str().to_owned(),
            entry.attempts.to_string(),
            entry.next_attempt_at.map(|at| at.format("%F %R").to_string()).unwrap_or_default(),
            why.or(entry.last_error).unwrap_or_default(),
        ]
    });
    output::data(&output::table(
        ["id", "shop", "order", "survey", "wave", "state", "tries", "due (UTC)", "why, or last error"],
        rows,
    ))?;
    Ok(Exit::Done)
}

/// What lies elsewhere, but is looked for here.
fn tell_rejections(unknown: &[ResponseId]) {
    if let Some(latest) = unknown.first() {
        output::say(&format!(
            "Mails that tell authors why their words are not published, and of which nobody knows whether they left: {}. \
             They are not sent again; `afterword testimonials show {latest}` says so of the latest.",
            unknown.len()
        ));
    }
}

async fn resolve(ids: &[i64], resolution: Resolution, global: &Global) -> anyhow::Result<Exit> {
    let opened = super::open(global).await?;
    let resolved = resolve_each(ids, resolution, &opened.context).await;
    opened.close().await;
    let n_resolved = resolved?;
    let them = if n_resolved == 1 { "It counts" } else { "They count" };
    match (n_resolved, resolution) {
        (0, _) => {}
        (_, Resolution::Accept) => output::say(&format!("{them} as sent.")),
        (n, Resolution::Resend) => output::say(&format!("Queued for the next run to mail again: {n}.")),
    }
    Ok(if n_resolved == ids.len() { Exit::Done } else { Exit::Failed })
}

async fn resolve_each(ids: &[i64], resolution: Resolution, context: &Context) -> anyhow::Result<usize> {
    let Context { pool, config, clock, .. } = context;
    let mut n_resolved = 0;
    for id in ids {
        if outbox::resolve(pool, &config.surveys, InvitationId(*id), resolution, clock.now()).await? {
            n_resolved += 1;
        } else {
            output::say(&format!(
                "error: there is no unknown mail {id}; `afterword outbox --state unknown` lists them"
            ));
        }
    }
    Ok(n_resolved)
}
