//! `afterword metrics`

use clap::Subcommand;

use super::{Exit, Global, output};
use crate::context::Context;
use crate::db::again;
use crate::metrics::rollup::{self, Difference, Frozen, House, NotNow};

/// What the nights have counted
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Count everything anew, and put right what the nights had got wrong
    Rebuild(Rebuild),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afterword metrics rebuild --check
  afterword metrics rebuild --shop maison

The job `compute_metrics` counts the days that were touched since its last run. This command does the same, then counts all days from
the orders, mails and answers themselves, and lists where the two differ: they should not. With --check nothing is written. What earlier
nights knew stays as it is.
Exit code: 0 done and no difference, 1 failed or (with --check) a difference, 2 no such shop, 4 somebody else is counting.")]
struct Rebuild {
    /// Only this shop
    #[arg(long, value_name = "KEY")]
    shop: Option<String>,
    /// Only compare
    #[arg(long)]
    check: bool,
}

/// Runs the command.
///
/// # Errors
/// When the configuration or the database cannot be used.
pub async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let What::Rebuild(args) = args.what;
    let opened = super::open(global).await?;
    let exit = rebuild(&args, global, &opened.context).await;
    opened.close().await;
    exit
}

async fn rebuild(args: &Rebuild, global: &Global, context: &Context) -> anyhow::Result<Exit> {
    let Some(shops) = super::shops(context, args.shop.as_deref()) else { return Ok(Exit::Usage) };
    let mut differences: Vec<Difference> = Vec::new();
    for (shop, config) in shops {
        let house = House { shop, config, surveys: &context.config.surveys };
        let rebuilt =
            again::again(|| rollup::rebuild(&context.pool, house, context.clock.now(), args.check)).await;
        let (Frozen { n_days, .. }, found) = match rebuilt {
            Err(error) if error.is::<NotNow>() => {
                output::say(&format!("error: {error}"));
                return Ok(Exit::Refused);
            }
            rebuilt => rebuilt?,
        };
        output::say(&format!("{}: {n_days} days counted, {} differences", config.key, found.len()));
        differences.extend(found);
    }
    if global.json {
        output::json(&differences)?;
    } else if !differences.is_empty() {
        let dash = |n: &Option<String>| n.clone().unwrap_or_else(|| "–".to_owned());
        let rows = differences.iter().map(|difference| {
            let Difference { shop, what, on, kept, counted } = difference;
            [shop.clone(), on.to_string(), what.clone(), dash(kept), dash(counted)]
        });
        output::data(&output::table(["Shop", "Day", "What", "Kept", "Counted"], rows))?;
    }
    Ok(if args.check && !differences.is_empty() { Exit::Failed } else { Exit::Done })
}
