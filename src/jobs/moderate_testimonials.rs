//! What moderation does without a person: approves what no rule flags (where jobs.toml says so), tells authors why their words were
//! rejected, and counts what waits longer than the shop announces.
//!
//! Comes in: answers that nobody has decided on, and the mails that rejections have queued. Goes out: decisions, and a mail for each
//! rejection. If it dies half way, each decision and each mail stands as it was committed, and the next run goes on; nobody is told twice.

use serde::Deserialize;

use super::{Job, JobError, Refused, Run, RunOutcome, RunReport, counted, named_or_all};
use crate::config::Config;
use crate::installation::Foreign;
use crate::nearest::unknown;
use crate::testimonials::rejection::{self, deliver};
use crate::testimonials::unattended;
use crate::types::ShopId;

/// `[jobs.<name>.params]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModerateTestimonials {
    /// Of which shop; absent: all shops.
    shop: Option<String>,
}

impl Job for ModerateTestimonials {
    const KIND: &'static str = "moderate_testimonials";
    const ABOUT: &'static str =
        "Approves what no rule flags, where that is configured, and tells authors why words are rejected";
    const SAMPLE: &'static str = r#"shop = "maison""#;

    fn check(&self, config: &Config) -> Vec<String> {
        let shops = config.shops.iter().map(|shop| shop.key.as_str());
        self.shop.as_ref().and_then(|shop| unknown("shop", shop, shops)).into_iter().collect()
    }

    fn shops(&self, config: &Config) -> Vec<String> {
        named_or_all(self.shop.as_ref(), config)
    }

    async fn run(&self, run: &Run<'_>) -> Result<RunReport, JobError> {
        let context = run.context;
        let (pool, now) = (&context.pool, context.clock.now());
        let rules = &context.config.testimonials;
        let shops = context.shops.named(self.shop.as_deref())?;
        let unflagged = unattended::approve_unflagged(pool, &shops, rules, run.dry_run, now).await?;
        let n_overdue = unattended::overdue(pool, &shops, rules, now).await?.len() as u64;
        let approved = counted(unflagged.n_approved, "testimonial");
        let waits = format!("{} for a person, {n_overdue} overdue", unflagged.n_left);
        if run.dry_run {
            let ids: Vec<i32> = shops.iter().map(|(ShopId(id), _)| *id).collect();
            let n_mails = counted(rejection::n_waiting(pool, &ids).await?, "author");
            let text = format!("would approve {approved} and tell {n_mails}; {waits}");
            return Ok(RunReport::done(text, serde_json::Value::Null));
        }
        let delivered = deliver::deliver(context, &shops, &run.stop).await.map_err(refused)?;
        let mut text = format!("{approved} approved, {waits}; {} told", counted(delivered.n_sent, "author"));
        for (n, word) in [
            (delivered.n_failed, "failed"),
            (delivered.n_unknown, "unknown"),
            (delivered.n_unmailable, "unmailable"),
            (delivered.n_waiting, "waiting"),
        ] {
            if n > 0 {
                text.push_str(&format!(", {n} {word}"));
            }
        }
        if let Some(held) = &delivered.held {
            text.push_str(&format!("; {held}"));
        }
        let is_partial = delivered.n_failed + delivered.n_unknown > 0 || delivered.held.is_some();
        let details =
            serde_json::json!({ "unflagged": unflagged, "n_overdue": n_overdue, "delivered": delivered });
        Ok(RunReport {
            outcome: if is_partial { RunOutcome::Partial } else { RunOutcome::Done },
            ..RunReport::done(text, details)
        })
    }
}

/// A database that mails may not leave from is a refusal, not a failure.
fn refused(error: anyhow::Error) -> JobError {
    match error.downcast::<Foreign>() {
        Ok(foreign) => Refused(foreign.to_string()).into(),
        Err(error) => error,
    }
}
