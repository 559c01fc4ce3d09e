//! Tells the shop's own people how it went since the last time, and the dead man's switch that it went well.
//!
//! Comes in: the ledger, the outbox, what came in ([`crate::digest`]). Goes out: a mail to each of them, and, when nothing is bad and the
//! mail has left, a request to `[notify] heartbeat_url`. The digest is kept before it is told; if we die before somebody has got it, the
//! next one tells it again.

use anyhow::Context as _;
use lettre::Address;
use serde::Deserialize;
use serde_json::json;

use super::{Job, JobError, Run, RunOutcome, RunReport, named_or_all};
use crate::config::{Config, Shop};
use crate::context::Context;
use crate::digest::{self, Digest, Finding, heartbeat, store, words};
use crate::invitations::compose::clean;
use crate::letters::{self, Delivered, Letter};
use crate::mail::templates::palette::Palette;
use crate::mail::templates::views::{DigestMail, Direction, ShopView};

/// `[jobs.<name>.params]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendDigest {
    /// Who gets it; absent: `[notify] to`.
    to: Option<Vec<String>>,
}

impl SendDigest {
    fn recipients(&self, config: &Config) -> Result<Vec<Address>, lettre::address::AddressError> {
        match &self.to {
            Some(to) => to.iter().map(|to| to.parse()).collect(),
            None => Ok(config.notify.to.clone()),
        }
    }
}

impl Job for SendDigest {
    const KIND: &'static str = "send_digest";
    const ABOUT: &'static str = "Mails how it went, and calls the heartbeat after a good day";
    const SAMPLE: &'static str = r#"
        to = ["ops@shop.example"]
    "#;

    fn check(&self, config: &Config) -> Vec<String> {
        let to = self.to.iter().flatten();
        let mut problems: Vec<String> = to
            .filter(|to| to.parse::<Address>().is_err())
            .map(|to| format!("{to:?} is not a mail address"))
            .collect();
        // The shipped file has the job and nobody to tell; it is wrong only once somebody wants it to run, which the run then says.
        if self.to.as_ref().is_some_and(Vec::is_empty) && config.notify.heartbeat.is_none() {
            problems.push("`to` names nobody, and [notify] has no heartbeat_url".to_owned());
        }
        problems
    }

    fn shops(&self, config: &Config) -> Vec<String> {
        named_or_all(None, config)
    }

    async fn run(&self, run: &Run<'_>) -> Result<RunReport, JobError> {
        let context = run.context;
        let (pool, notify) = (&context.pool, &context.config.notify);
        let Some((_, letterhead)) = context.shops.iter().next() else { anyhow::bail!("there is no shop") };
        let to = self.recipients(&context.config)?;
        if to.is_empty() && notify.heartbeat.is_none() {
            anyhow::bail!(
                "nobody is to be told: neither `to` nor [notify] names anybody, and there is no heartbeat_url"
            );
        }
        let now = context.clock.now();
        let since = store::since(pool, now).await?;
        let mut digest = digest::gather(context, &since, now, run.job_run).await?;
        let (_, english) =
            context.templates.language(None, &crate::types::Locale::parse("en").map_err(JobError::msg)?);
        if run.dry_run {
            let mut report = RunReport::done(
                format!("would tell {} people: {}", to.len(), words::title(english, &digest)),
                json!(digest),
            );
            report.listing = digest
                .findings
                .iter()
                .map(|finding| words::sentence(english, finding, letterhead.timezone))
                .collect();
            return Ok(report);
        }
        let Some(job_run) = run.job_run else { anyhow::bail!("this run has no row in the ledger") };
        let id = store::keep(pool, &digest).await?;
        let is_held = digest.findings.iter().any(|finding| matches!(finding, Finding::Held { .. }));
        let delivered = if is_held {
            Delivered { n_left: to.len() as u64, ..Delivered::default() }
        } else {
            let letter = letter(context, letterhead, &digest, run.job)?;
            letters::deliver(context, letterhead, &letter, job_run, &to, &run.stop).await?
        };
        // A run that is begun anew may have mailed it before.
        let is_told =
            to.is_empty() || delivered.n_sent > 0 || letters::has_reached_anybody(pool, job_run).await?;
        if is_told {
            store::told(pool, id).await?;
        }
        // A day on which nobody could be told is not a good one.
        digest.is_good &= is_told;
        let mut text = words::title(english, &digest);
        text.push_str(&format!("; {} of {} mailed", delivered.n_sent, to.len()));
        let mut is_called = None;
        if let Some(heartbeat) = notify.heartbeat.as_ref().filter(|_| digest.is_good) {
            let called = heartbeat::call(heartbeat, notify.patience, &run.stop).await;
            let noted = called.as_ref().map(|()| context.clock.now()).map_err(String::as_str);
            store::heartbeat(pool, id, noted).await?;
            match &called {
                Ok(()) => text.push_str("; the heartbeat was called"),
                Err(fault) => text.push_str(&format!("; the heartbeat was not called: {fault}")),
            }
            is_called = Some(called.is_ok());
        } else if notify.heartbeat.is_some() {
            text.push_str("; the heartbeat is not called after such a day");
        }
        let is_done = delivered.n_sent == to.len() as u64 && is_called != Some(false);
        let details = json!({
            "digest": id, "is_good": digest.is_good, "findings": digest.findings, "mails": delivered, "heartbeat": is_called,
        });
        Ok(RunReport {
            outcome: if is_done { RunOutcome::Done } else { RunOutcome::Partial },
            ..RunReport::done(text, details)
        })
    }
}

/// The mail, in the language of the shop whose letterhead it has.
fn letter(context: &Context, letterhead: &Shop, digest: &Digest, job: &str) -> anyhow::Result<Letter> {
    let (locale, in_language) = context.templates.language(None, &letterhead.locale);
    let zone = letterhead.timezone;
    let at = |moment: chrono::DateTime<chrono::Utc>| moment.with_timezone(&zone).format("%F %R").to_string();
    let view = DigestMail {
        locale: locale.to_string(),
        direction: Direction::of(locale),
        shop: ShopView { name: clean(&letterhead.name, 100), ..ShopView::of(letterhead) },
        palette: Palette::of(&letterhead.color),
        title: words::title(in_language, digest),
        summary: words::summary(in_language, digest),
        findings: digest.findings.iter().map(|finding| words::sentence(in_language, finding, zone)).collect(),
        from: at(digest.from),
        until: at(digest.until),
        job: job.to_owned(),
    };
    let texts = context.templates.mail(locale, &view).context("the digest cannot be written")?;
    Ok(Letter {
        what: "digest",
        texts,
        attached: None,
        job: view.job,
        shops: Vec::new(),
        as_of: digest.until,
    })
}
