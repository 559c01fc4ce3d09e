//! `afterword alerts`

use super::{Exit, Global, output};
use crate::config::Shop;
use crate::context::Context;
use crate::mail::templates::words::Words;
use crate::metrics::alerts::store::{self, Alert, ClosedBecause};
use crate::metrics::alerts::words;
use crate::types::{Locale, ShopId};

/// What calls for somebody's attention
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afterword alerts
  afterword alerts --all --json

The job `compute_metrics` looks at every [[alert]] of jobs.toml after it has counted a night. `afterword check` says in words when each
opens and closes; `afterword report --fail-on-alert` ends with 1 when one is open.
Exit code: 0 done, 1 failed, 2 no such shop.")]
pub struct Args {
    /// Only this shop
    #[arg(long, value_name = "KEY")]
    shop: Option<String>,
    /// Also those that are over
    #[arg(long)]
    all: bool,
}

/// Runs the command.
///
/// # Errors
/// When the configuration or the database cannot be used.
pub async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let opened = super::open(global).await?;
    let exit = list(&args, global, &opened.context).await;
    opened.close().await;
    exit
}

async fn list(args: &Args, global: &Global, context: &Context) -> anyhow::Result<Exit> {
    let Some(shops) = super::shops(context, args.shop.as_deref()) else { return Ok(Exit::Usage) };
    let alerts = store::list(&context.pool, &keys(&shops), args.all).await?;
    if global.json {
        output::json(&alerts)?;
        return Ok(Exit::Done);
    }
    if alerts.is_empty() {
        output::say(if args.all { "There has been no alert." } else { "No alert is open." });
        return Ok(Exit::Done);
    }
    let english = english(context)?;
    let rows = alerts.iter().map(|alert| {
        let day = |moment: chrono::DateTime<chrono::Utc>| moment.format("%F").to_string();
        let state = match (alert.closed_at, alert.closed_because) {
            (Some(at), Some(ClosedBecause::RuleGone)) => format!("{}, its rule is gone", day(at)),
            (Some(at), _) => day(at),
            (None, _) => "open".to_owned(),
        };
        [alert.shop.clone(), alert.rule.clone(), day(alert.opened_at), state, in_words(english, alert)]
    });
    output::data(&output::table(["Shop", "Alert", "Since", "Until", "In words"], rows))?;
    Ok(Exit::Done)
}

/// Says which alerts of these shops are open. Comes back with how many.
///
/// # Errors
/// When the database does not answer.
pub(super) async fn say_open(context: &Context, shops: &[(ShopId, &Shop)]) -> anyhow::Result<usize> {
    let alerts = store::list(&context.pool, &keys(shops), false).await?;
    let english = english(context)?;
    for alert in &alerts {
        let since = alert.opened_at.format("%F");
        output::say(&format!(
            "alert: {}, {}, since {since}: {}",
            alert.shop,
            alert.rule,
            in_words(english, alert)
        ));
    }
    Ok(alerts.len())
}

fn keys(shops: &[(ShopId, &Shop)]) -> Vec<i32> {
    shops.iter().map(|(shop, _)| shop.0).collect()
}

fn english(context: &Context) -> anyhow::Result<&Words> {
    let english = Locale::parse("en").map_err(anyhow::Error::msg)?;
    Ok(context.templates.language(Some(&english), &english).1)
}

/// What it has come to, and messages that somebody should have got.
fn in_words(english: &Words, alert: &Alert) -> String {
    let mut text = if alert.closed_because == Some(ClosedBecause::Back) {
        words::back(english, &alert.latest)
    } else {
        words::sentence(english, &alert.latest)
    };
    for (n, word) in [
        (alert.n_waiting, "wait"),
        (alert.n_unknown, "may or may not have arrived, and are not sent again"),
        (alert.n_failed, "could not be delivered"),
    ] {
        if n > 0 {
            text.push_str(&format!(" Messages that {word}: {n}."));
        }
    }
    text
}
