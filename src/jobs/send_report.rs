//! Mails the report: the first screen in the mail, the whole page attached.
//!
//! Comes in: the figures, and the addresses in the parameters, or those of `[notify]`. Goes out: a mail to each of them. An occurrence runs once, and a run
//! mails nobody twice; if it dies half way, who had no mail yet gets none before the next occurrence, whose report is newer.

use chrono::{Days, NaiveDate};
use lettre::Address;
use serde::Deserialize;

use super::{Job, JobError, Refused, Run, RunOutcome, RunReport, counted, named_or_all};
use crate::config::Config;
use crate::installation::{self, Foreign};
use crate::letters;
use crate::metrics::period::Period;
use crate::metrics::report::{self, Last, Scope};
use crate::metrics::window::{Bound, Window, day_of};
use crate::nearest::unknown;
use crate::types::Locale;

/// `[jobs.<name>.params]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendReport {
    /// Who gets it; absent: who is told of alerts, `[notify] to`.
    #[serde(default)]
    to: Vec<String>,
    /// About which shop; absent: all shops.
    shop: Option<String>,
    /// About how long a time that is over: `28d` up to last midnight, or the last `week`, `month`, `quarter` or `year`; absent: everything.
    window: Option<String>,
    /// In which language; absent: the first shop's.
    locale: Option<Locale>,
}

impl Job for SendReport {
    const KIND: &'static str = "send_report";
    const ABOUT: &'static str = "Mails the report to the shop's own people";
    const SAMPLE: &'static str = r#"
        to = ["team@shop.example"]
        shop = "maison"
        window = "182d"
    "#;

    fn check(&self, config: &Config) -> Vec<String> {
        let mut problems = Vec::new();
        if self.to.is_empty() && config.notify.to.is_empty() {
            problems.push("neither `to` nor `[notify] to` names anybody".to_owned());
        }
        let bad = self.to.iter().filter(|to| to.parse::<Address>().is_err());
        problems.extend(bad.map(|to| format!("{to:?} is not a mail address")));
        let shops = config.shops.iter().map(|shop| shop.key.as_str());
        problems.extend(self.shop.as_ref().and_then(|shop| unknown("shop", shop, shops)));
        if let Some(Err(problem)) = self.window.as_ref().map(|window| window.parse::<Period>()) {
            problems.push(format!("window: {problem}"));
        }
        problems
    }

    fn shops(&self, config: &Config) -> Vec<String> {
        named_or_all(self.shop.as_ref(), config)
    }

    async fn run(&self, run: &Run<'_>) -> Result<RunReport, JobError> {
        let context = run.context;
        let shops = context.shops.named(self.shop.as_deref())?;
        let Some((_, first)) = shops.first() else { anyhow::bail!("there is no shop") };
        let now = context.clock.now();
        let period: Option<Period> =
            self.window.as_ref().map(|window| window.parse().map_err(JobError::msg)).transpose()?;
        let window_at = |moment| {
            period.map_or_else(Window::default, |period| last(period, day_of(moment, first.timezone)))
        };
        let to: Vec<Address> = match &self.to[..] {
            [] => context.config.notify.to.clone(),
            named => named.iter().map(|to| to.parse()).collect::<Result<_, _>>()?,
        };
        let recipients = counted(to.len() as u64, "address").replace("addresss", "addresses");
        if run.dry_run {
            return Ok(RunReport::done(
                format!("would mail the report to {recipients}"),
                serde_json::Value::Null,
            ));
        }
        let Some(job_run) = run.job_run else { anyhow::bail!("this run has no row in the ledger") };
        installation::check(&mut *context.pool.acquire().await?, &context.config).await.map_err(refused)?;
        let locale = self.locale.as_ref().unwrap_or(&first.locale);
        let keys: Vec<_> = shops.iter().map(|(_, shop)| shop.key.clone()).collect();
        let seen = letters::last(&context.pool, &keys, Some(run.job), now).await?;
        let scope = Scope {
            window: window_at(now),
            frozen: false,
            last: seen.map(|as_of| Last { window: window_at(as_of), as_of }),
        };
        let contents = report::gather(context, &shops, scope, now).await?;
        let letter = report::letter(&contents, context, first, locale, run.job)?;
        let delivered = letters::deliver(context, first, &letter, job_run, &to, &run.stop).await?;
        let mut text = format!("{} of {recipients} mailed", delivered.n_sent);
        for (n, word) in
            [(delivered.n_failed, "failed"), (delivered.n_unknown, "unknown"), (delivered.n_left, "left")]
        {
            if n > 0 {
                text.push_str(&format!(", {n} {word}"));
            }
        }
        if let Some(held) = &delivered.held {
            text.push_str(&format!("; {held}"));
        }
        let is_done = delivered.n_sent == to.len() as u64;
        Ok(RunReport {
            outcome: if is_done { RunOutcome::Done } else { RunOutcome::Partial },
            ..RunReport::done(text, serde_json::to_value(delivered)?)
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

/// The last such period that was over when this day began.
fn last(period: Period, today: NaiveDate) -> Window {
    let before = match period {
        Period::Rolling(_) => today,
        _ => period.around(today).first_day,
    };
    let stretch = period.around(before - Days::new(1));
    let bound = |day: NaiveDate| Some(Bound::Date(day));
    Window { from: bound(stretch.first_day), to: bound(stretch.last_day + Days::new(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_the_last_that_is_over() {
        let check = |period: &str, from: &str, to: &str| {
            // A Monday.
            let window = last(period.parse().unwrap(), "2026-06-01".parse().unwrap());
            let bounds = [window.from, window.to].map(|bound| bound.unwrap().to_string());
            assert_eq!(bounds, [from, to], "{period}");
        };
        check("28d", "2026-05-04", "2026-06-01");
        check("day", "2026-05-31", "2026-06-01");
        check("week", "2026-05-25", "2026-06-01");
        check("month", "2026-05-01", "2026-06-01");
        check("quarter", "2026-01-01", "2026-04-01");
        check("year", "2025-01-01", "2026-01-01");
    }
}
