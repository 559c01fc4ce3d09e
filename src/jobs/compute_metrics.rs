//! Counts what has changed since the last night, keeps it as it is known now, and looks for what calls for somebody's attention.
//!
//! Comes in: what was written since the last run. Goes out: versions of the days' counts, so that a report of this night can be read
//! again later ([`crate::metrics::rollup`]); then alerts, and the messages about them ([`crate::metrics::alerts`]). A transaction per shop
//! for each of the two: if it dies or is stopped half way, that shop is counted or looked at by the next run, and messages that are queued
//! leave with it.

use serde::Deserialize;
use serde_json::json;

use super::{Job, JobError, Refused, Run, RunOutcome, RunReport, counted, named_or_all};
use crate::config::Config;
use crate::metrics::alerts::deliver::Delivered;
use crate::metrics::alerts::{self, Looked};
use crate::metrics::rollup::{self, House, NotNow};
use crate::nearest::unknown;
use crate::progress::Unit;
use crate::stop::Stopped;

/// `[jobs.<name>.params]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComputeMetrics {
    /// Whose figures; absent: those of all shops.
    shop: Option<String>,
}

impl Job for ComputeMetrics {
    const KIND: &'static str = "compute_metrics";
    const ABOUT: &'static str = "Counts what has changed, and keeps the figures as they are known";
    const SAMPLE: &'static str = r#"
        shop = "maison"
    "#;

    fn check(&self, config: &Config) -> Vec<String> {
        let shops = config.shops.iter().map(|shop| shop.key.as_str());
        self.shop.as_ref().and_then(|shop| unknown("shop", shop, shops)).into_iter().collect()
    }

    fn shops(&self, config: &Config) -> Vec<String> {
        named_or_all(self.shop.as_ref(), config)
    }

    async fn run(&self, run: &Run<'_>) -> Result<RunReport, JobError> {
        let context = run.context;
        let shops = context.shops.named(self.shop.as_deref())?;
        if run.dry_run {
            let text = format!("would count {}", counted(shops.len() as u64, "shop"));
            return Ok(RunReport::done(text, serde_json::Value::Null));
        }
        let now = context.clock.now();
        let mut frozen = Vec::with_capacity(shops.len());
        let mut looked = Vec::with_capacity(shops.len());
        let mut is_stopped = false;
        for (shop, config) in &shops {
            run.progress.at(Unit::Shops, frozen.len() as u64, Some(shops.len() as u64));
            if run.stop.is_cancelled() {
                is_stopped = true;
                break;
            }
            let house = House { shop: *shop, config, surveys: &context.config.surveys };
            match rollup::freeze(&context.pool, house, now, &run.stop).await {
                Ok(done) => {
                    frozen.push((&config.key, done));
                    let Config { alerts, notify, .. } = &*context.config;
                    let found = alerts::look(&context.pool, house, alerts, notify, done.frozen_at).await?;
                    looked.push((&config.key, found));
                }
                // Nothing of this shop's night was kept.
                Err(error) if error.is::<Stopped>() => {
                    is_stopped = true;
                    break;
                }
                Err(error) => match error.downcast::<NotNow>() {
                    Ok(not_now) => return Err(Refused(not_now.to_string()).into()),
                    Err(error) => return Err(error),
                },
            }
        }
        if is_stopped && !run.by_hand {
            return Err(Stopped.into());
        }
        let n_days: usize = frozen.iter().map(|(_, done)| done.n_days).sum();
        let n_changed: usize = frozen.iter().map(|(_, done)| done.n_changed).sum();
        let told = alerts::deliver::deliver(context, &shops, &run.stop).await?;
        let mut text = format!(
            "{} counted in {}, {} changed; frozen as of {}",
            counted(n_days as u64, "day"),
            counted(frozen.len() as u64, "shop"),
            counted(n_changed as u64, "row"),
            now.format("%F %T UTC"),
        );
        text.push_str(&in_words(looked.iter().map(|(_, looked)| *looked), &told));
        let of_shop = |((shop, done), (_, looked)): (&(&String, _), &(&String, Looked))| json!({ "shop": shop, "frozen": done, "alerts": looked });
        let of_shops: Vec<_> = frozen.iter().zip(&looked).map(of_shop).collect();
        let mut report = RunReport::done(text, json!({ "shops": of_shops, "messages": told }));
        if is_stopped {
            report.text.push_str("; stopped when asked to, the other shops wait for the next run");
        }
        if is_stopped || told.held.is_some() || told.n_failed + told.n_unknown + told.n_waiting > 0 {
            report.outcome = RunOutcome::Partial;
        }
        Ok(report)
    }
}

/// What became of the alerts; nothing, where there are none.
fn in_words(looked: impl Iterator<Item = Looked>, told: &Delivered) -> String {
    let all = looked.fold(Looked::default(), |all, one| Looked {
        n_opened: all.n_opened + one.n_opened,
        n_reminded: all.n_reminded + one.n_reminded,
        n_closed: all.n_closed + one.n_closed,
        n_open: all.n_open + one.n_open,
    });
    let mut text = String::new();
    if all != Looked::default() {
        text.push_str(&format!("; {} open", counted(all.n_open, "alert")));
        for (n, word) in [(all.n_opened, "new"), (all.n_reminded, "reminded of"), (all.n_closed, "closed")] {
            if n > 0 {
                text.push_str(&format!(", {n} {word}"));
            }
        }
    }
    let Delivered { n_sent, n_failed, n_unknown, n_waiting, relay_fault, held } = told;
    let messages = [(n_sent, "sent"), (n_failed, "failed"), (n_unknown, "unknown"), (n_waiting, "waiting")];
    let messages: Vec<String> =
        messages.iter().filter(|(n, _)| **n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    if !messages.is_empty() {
        text.push_str(&format!("; messages: {}", messages.join(", ")));
    }
    if let Some(held) = held {
        text.push_str(&format!("; no mail leaves: {held}"));
    } else if let Some(fault) = relay_fault {
        text.push_str(&format!("; the relay was at fault: {fault}"));
    }
    text
}
