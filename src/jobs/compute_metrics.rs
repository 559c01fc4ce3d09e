//! Counts what has changed since the last night, and keeps it as it is known now.
//!
//! Comes in: what was written since the last run. Goes out: versions of the days' counts, so that a report of this night can be read
//! again later ([`crate::metrics::rollup`]). One transaction per shop: if it dies half way, that shop is counted by the next run.

use serde::Deserialize;
use serde_json::json;

use super::{Job, JobError, Refused, Run, RunOutcome, RunReport, counted};
use crate::config::Config;
use crate::metrics::rollup::{self, House, NotNow};
use crate::nearest::unknown;

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

    async fn run(&self, run: &Run<'_>) -> Result<RunReport, JobError> {
        let context = run.context;
        let shops = context.shops.named(self.shop.as_deref())?;
        if run.dry_run {
            let text = format!("would count {}", counted(shops.len() as u64, "shop"));
            return Ok(RunReport::done(text, serde_json::Value::Null));
        }
        let now = context.clock.now();
        let mut frozen = Vec::with_capacity(shops.len());
        for (shop, config) in &shops {
            if run.stop.is_cancelled() {
                break;
            }
            let house = House { shop: *shop, config, surveys: &context.config.surveys };
            match rollup::freeze(&context.pool, house, now).await {
                Ok(done) => frozen.push((&config.key, done)),
                Err(error) => match error.downcast::<NotNow>() {
                    Ok(not_now) => return Err(Refused(not_now.to_string()).into()),
                    Err(error) => return Err(error),
                },
            }
        }
        let n_days: usize = frozen.iter().map(|(_, done)| done.n_days).sum();
        let n_changed: usize = frozen.iter().map(|(_, done)| done.n_changed).sum();
        let text = format!(
            "{} counted in {}, {} changed; frozen as of {}",
            counted(n_days as u64, "day"),
            counted(frozen.len() as u64, "shop"),
            counted(n_changed as u64, "row"),
            now.format("%F %T UTC"),
        );
        let details = json!({ "shops": frozen.iter().map(|(shop, done)| json!({ "shop": shop, "frozen": done })).collect::<Vec<_>>() });
        let mut report = RunReport::done(text, details);
        if frozen.len() < shops.len() {
            report.outcome = RunOutcome::Partial;
        }
        Ok(report)
    }
}
