//! Lets go of what is no longer needed, as `[retention]` says; the figures stay.
//!
//! Comes in: what is older than it may be. Goes out: nothing; what went is counted in the ledger. It goes in small transactions, and if it dies
//! half way, the next run goes on with what is left ([`crate::retention`]).

use serde::Deserialize;
use serde_json::json;

use super::{Job, JobError, Run, RunOutcome, RunReport, named_or_all};
use crate::config::Config;
use crate::retention::{self, Purged, Round};
use crate::types::ShopId;

/// `[jobs.<name>.params]`: none, so that nothing is kept longer here than there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Purge {}

impl Job for Purge {
    const KIND: &'static str = "purge";
    const ABOUT: &'static str = "Lets go of what is older than [retention] says; the figures stay";
    const SAMPLE: &'static str = "";

    fn check(&self, config: &Config) -> Vec<String> {
        let says_nothing =
            "how long things are kept is to be said in [retention], such as responses = \"5y\"";
        config.retention.is_none().then(|| says_nothing.to_owned()).into_iter().collect()
    }

    fn shops(&self, config: &Config) -> Vec<String> {
        named_or_all(None, config)
    }

    async fn run(&self, run: &Run<'_>) -> Result<RunReport, JobError> {
        let context = run.context;
        let config = &context.config;
        let Some(retention) = &config.retention else { anyhow::bail!("there is no [retention]") };
        let shops: Vec<ShopId> = context.shops.iter().map(|(shop, _)| shop).collect();
        let put_away = config.put_away();
        let round = Round {
            pool: &context.pool,
            config,
            retention,
            put_away: &put_away,
            now: context.clock.now(),
            only_count: run.dry_run,
        };
        let (purged, limits) = retention::purge(round, &shops, &run.stop).await?;
        let mut report =
            RunReport::done(text(&purged, run.dry_run), json!({ "purged": purged, "before": limits }));
        if purged.left.is_some() {
            report.outcome = RunOutcome::Partial;
        }
        Ok(report)
    }
}

/// One line; what there was nothing of is left out.
fn text(purged: &Purged, dry_run: bool) -> String {
    let went = [
        (purged.n_customers, "customer", "customers"),
        (purged.n_texts, "answer or reply in words", "answers and replies in words"),
        (purged.n_names, "name given with an answer", "names given with an answer"),
        (purged.n_replies, "reply of a relay", "replies of a relay"),
        (purged.n_reports, "report of a mail system", "reports of mail systems"),
        (purged.n_visits, "note about a visit", "notes about visits"),
        (purged.n_rejects, "row that could not be taken", "rows that could not be taken"),
        (purged.n_messages, "message to the shop's people", "messages to the shop's people"),
        (purged.n_runs, "row of the ledger", "rows of the ledger"),
        (purged.n_suppressed, "hash of the do-not-contact list", "hashes of the do-not-contact list"),
        (purged.n_files, "file", "files"),
    ];
    let went: Vec<String> = went
        .iter()
        .filter(|(n, ..)| *n > 0)
        .map(|(n, one, many)| format!("{n} {}", if *n == 1 { one } else { many }))
        .collect();
    let verb = if dry_run { "would let go of" } else { "let go of" };
    let mut text = format!("{verb} {}", if went.is_empty() { "nothing".to_owned() } else { went.join(", ") });
    if let Some(left) = &purged.left {
        text.push_str(&format!("; not all was looked at: {left}"));
    }
    text
}
