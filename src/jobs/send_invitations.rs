//! Decides about the orders that are due, and mails the invitations that are queued.
//!
//! Comes in: the orders. Goes out: one decision per order, and mails through the outbox. If it dies half way, the rows of
//! `invitation` say where each mail stood, and the next run goes on from there; no mail is sent twice (see
//! [`invitations`]).

use serde::Deserialize;

use super::{Connections, Job, JobError, Refused, Run, RunOutcome, RunReport, counted};
use crate::config::Config;
use crate::installation::Foreign;
use crate::invitations::plan::{Action, Planned};
use crate::invitations::{self, Manner, SendReport};
use crate::nearest::unknown;

/// `[jobs.<name>.params]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendInvitations {
    /// The survey that is sent, to the shops it is for.
    survey: String,
}

impl Job for SendInvitations {
    const KIND: &'static str = "send_invitations";
    const ABOUT: &'static str = "Decides which orders are asked, and mails the invitations";
    const SAMPLE: &'static str = r#"survey = "satisfaction""#;
    /// Senders work side by side; what the relay said is written beside them.
    const CONNECTIONS: Connections = Connections { pool: 8, beside: 2 };

    fn check(&self, config: &Config) -> Vec<String> {
        let known = config.surveys.iter().map(|survey| survey.key.as_str());
        match config.survey(&self.survey) {
            Some(survey) if !survey.mailed => {
                vec![format!("the survey {:?} has mailed = false: its answers come by file", self.survey)]
            }
            _ => unknown("survey", &self.survey, known).into_iter().collect(),
        }
    }

    fn shops(&self, config: &Config) -> Vec<String> {
        let asked = config.survey(&self.survey);
        let shops = config.shops.iter().map(|shop| &shop.key);
        shops.filter(|key| asked.is_some_and(|survey| survey.is_for(key))).cloned().collect()
    }

    async fn run(&self, run: &Run<'_>) -> Result<RunReport, JobError> {
        let context = run.context;
        let survey = context
            .config
            .survey(&self.survey)
            .ok_or_else(|| anyhow::anyhow!("there is no survey {:?} in jobs.toml", self.survey))?;
        let manner = Manner {
            dry_run: run.dry_run,
            resumed_at: run.resumed_at,
            probe_now: run.by_hand,
            progress: run.progress.clone(),
        };
        let report = invitations::send(context, survey, manner, &run.stop).await.map_err(refused)?;
        let is_partial = report.is_partial() || report.brake().is_some() || run.stop.is_cancelled();
        Ok(RunReport {
            outcome: if is_partial { RunOutcome::Partial } else { RunOutcome::Done },
            text: text(&report, run.dry_run),
            details: serde_json::to_value(&report)?,
            listing: listing(&report),
            pause: report.brake(),
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

fn listing(report: &SendReport) -> Vec<String> {
    let planned =
        report.shops.iter().flat_map(|shop| shop.plan.iter().map(move |planned| (&shop.shop, planned)));
    planned
        .map(|(shop, planned)| {
            let Planned { order_id, wave, due_at, action } = planned;
            let due = due_at.format("%F %R UTC");
            let which = if *wave == 0 { String::new() } else { format!(", reminder {wave}") };
            format!("{shop} {order_id}{which}, due {due}: {}", action.words())
        })
        .collect()
}

fn text(report: &SendReport, dry_run: bool) -> String {
    let sum = |count: fn(&invitations::ShopReport) -> u64| report.shops.iter().map(count).sum::<u64>();
    let n_asked = sum(|shop| shop.first.n_queued);
    let n_skipped = sum(|shop| shop.first.n() - shop.first.n_queued);
    let n_reminders = sum(|shop| shop.reminders.n_queued);
    let reminders = match n_reminders {
        0 => String::new(),
        n => format!(", {}", counted(n, "reminder")),
    };
    if dry_run {
        let n_now = report
            .shops
            .iter()
            .flat_map(|shop| &shop.plan)
            .filter(|planned| planned.action == Action::Mail)
            .count();
        let brakes = report.shops.iter().filter_map(|shop| shop.delivery.brake.as_ref());
        let brakes: String = brakes.map(|brake| format!("; the job would stop, because {brake}")).collect();
        let closed = if report.shops.iter().any(|shop| shop.delivery.window_closed) {
            "; no mail would leave now, outside the send window"
        } else {
            ""
        };
        let n_now = counted(n_now as u64, "mail");
        return format!(
            "would ask about {}{reminders} and skip {n_skipped}; {n_now} would leave{closed}{brakes}",
            counted(n_asked, "order")
        );
    }
    let mut text = format!(
        "{} to be asked about{reminders}, {n_skipped} skipped; {} sent",
        counted(n_asked, "order"),
        counted(sum(|shop| shop.delivery.n_sent), "mail")
    );
    for (n, word) in [
        (sum(|shop| shop.delivery.n_deferred), "deferred"),
        (sum(|shop| shop.delivery.n_failed), "failed"),
        (sum(|shop| shop.delivery.n_unknown + shop.delivery.settled.n_unknown), "unknown"),
        (sum(|shop| shop.delivery.n_waiting), "waiting"),
    ] {
        if n > 0 {
            text.push_str(&format!(", {n} {word}"));
        }
    }
    for shop in &report.shops {
        if let Some(error) = &shop.error {
            text.push_str(&format!("; {}: failed: {error}", shop.shop));
        } else if let Some(brake) = &shop.delivery.brake {
            text.push_str(&format!("; {}: stopped, because {brake}", shop.shop));
        } else if shop.delivery.stopped {
            text.push_str(&format!("; {}: stopped when asked to", shop.shop));
        } else if let Some(outage) = &shop.delivery.outage {
            text.push_str(&format!("; {}: {outage}", shop.shop));
        } else if let Some(fault) = &shop.delivery.relay_fault {
            text.push_str(&format!("; {}: the relay was at fault: {fault}", shop.shop));
        } else if shop.delivery.cap_reached {
            text.push_str(&format!("; {}: as many as one run may send", shop.shop));
        } else if shop.delivery.window_closed {
            text.push_str(&format!("; {}: outside the send window", shop.shop));
        }
    }
    text
}
