//! `afterword adopt`: what happened to a database that refuses to send.

use super::{Exit, Global, output};
use crate::installation::{self, Doubted, Foreign, Happened};

/// Let mails leave from a database that was moved or restored
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("how").required(true))]
#[command(after_help = "Examples:\n  afterword adopt --moved\n  afterword adopt --restored\n\n\
    A database that was copied to another place, or set back to a backup, sends nothing until you say what happened to it: it holds\n\
    mails that wait, and does not know which of them have left since the copy was made.\n\
    A copy for tests is not to be adopted: give it `transport = \"file\"` in a jobs.toml and a data_dir of its own, and then adopt it there.")]
pub struct Args {
    /// It is in another place now, and nothing was sent from the old one since it was copied: what waits is mailed
    #[arg(long, group = "how")]
    moved: bool,
    /// It was restored from a backup: what waits becomes `unknown`, and orders that were due until now are not asked about
    #[arg(long, group = "how")]
    restored: bool,
}

/// Runs the command.
///
/// # Errors
/// When the database does not answer, or the mark under `data_dir` cannot be written.
pub async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let opened = super::open(global).await?;
    let happened = if args.moved { Happened::Moved } else { Happened::Restored };
    let context = &opened.context;
    let adopted = installation::adopt(&context.pool, &context.config, happened, context.clock.now()).await;
    opened.close().await;
    let Doubted { n_invitations, n_rejections, n_alerts } = match adopted {
        Err(error) if error.is::<Foreign>() => {
            output::say(&format!("error: {error}"));
            return Ok(Exit::Refused);
        }
        adopted => adopted?,
    };
    output::say(if args.moved {
        "This database is the one now; the next run mails what waits."
    } else {
        "This database is the one now; the next run asks only about orders that become due from now on."
    });
    if args.restored {
        output::say(
            "Opt-outs, bounces and answers since the backup are lost with it: move the reports in `done/` of [jobs.collect-bounces] back. \
             Who has opted out on the pages is in no log, because links are kept out of logs: tell the do-not-contact list whom you know of \
             (`afterword suppress add`).",
        );
    }
    if n_alerts > 0 {
        output::say(&format!(
            "Mails about alerts that waited when the backup was made: {n_alerts}. They may have left since, and are not sent again; \
             `afterword alerts` shows what is open."
        ));
    }
    if n_rejections > 0 {
        output::say(&format!(
            "Mails to authors whose words were rejected, that waited when the backup was made: {n_rejections}. They may have left since, and \
             are not sent again; `afterword testimonials show` says of each what is known."
        ));
    }
    if n_invitations > 0 {
        output::say(&format!(
            "Mails that waited when the backup was made: {n_invitations}. Nobody can know whether they left since; \
             `afterword outbox --state unknown` lists them, and `afterword outbox resolve` settles them."
        ));
    }
    Ok(Exit::Done)
}
