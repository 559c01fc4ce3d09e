//! `afterword testimonials`

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::explain::{reason_words, told_words};
use super::{Exit, Global, output};
use crate::config::Shop;
use crate::context::Context;
use crate::import::ImportError;
use crate::testimonials::candidate::Filter;
use crate::testimonials::decisions::{self, Report};
use crate::testimonials::flags::{Flag, Part};
use crate::testimonials::moderation::{self, Entry, Outcome, Ruling};
use crate::testimonials::rejection::{self, Told};
use crate::testimonials::unattended::{self, Overdue, WaitsFor};
use crate::testimonials::{RejectReason, TestimonialState};
use crate::types::{ResponseId, ShopId};

/// Decide what may be published, and reply
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afterword testimonials list --state pending
  afterword testimonials show 12
  afterword testimonials approve 12 15
  afterword testimonials approve --all-pending --shop maison
  afterword testimonials reject 13 --reason personal_data
  afterword testimonials reply 12 \"Merci, et à bientôt !\"
  afterword testimonials decide decisions.csv
  afterword testimonials overdue

Deciding again changes nothing. What is rejected or withdrawn after it was published is missing from the
next export. Whose words are rejected is told why by mail, by the job of the kind moderate_testimonials;
approving before the mail has left calls it back. Flags say what to look at; they decide nothing.
Exit code: 0 done, 1 failed, 2 no such shop or no usable file, 3 some could not be decided on.")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// What customers wrote and agreed to publish, oldest first
    List {
        /// Only these
        #[arg(long)]
        state: Option<TestimonialState>,
        /// Only what a rule flags
        #[arg(long)]
        flagged: bool,
        /// Only of this shop
        #[arg(long, value_name = "KEY")]
        shop: Option<String>,
    },
    /// One of them, with what the flags point at, the reply, and what its author was told
    Show {
        /// Its number, as `list` prints it
        #[arg(value_name = "ID")]
        id: i64,
    },
    /// Let these be published
    Approve {
        /// Their numbers, as `list` prints them
        #[arg(value_name = "ID", required_unless_present = "all_pending")]
        ids: Vec<i64>,
        /// All that nobody has decided on yet
        #[arg(long, conflicts_with = "ids")]
        all_pending: bool,
        /// With --all-pending: only of this shop
        #[arg(long, value_name = "KEY", requires = "all_pending")]
        shop: Option<String>,
    },
    /// Do not let these be published; their authors are told why
    Reject {
        /// Their numbers, as `list` prints them
        #[arg(value_name = "ID", required = true)]
        ids: Vec<i64>,
        /// Why; a low score is no reason
        #[arg(long, value_name = "CODE")]
        reason: RejectReason,
    },
    /// Take these back, because their authors have asked you to; they cannot be approved again
    Withdraw {
        /// Their numbers, as `list` prints them
        #[arg(value_name = "ID", required = true)]
        ids: Vec<i64>,
    },
    /// Answer one of them in public; a second reply takes the place of the first
    Reply {
        /// Its number, as `list` prints it
        #[arg(value_name = "ID")]
        id: i64,
        /// The reply, published as it is written
        #[arg(value_name = "TEXT", required_unless_present = "remove")]
        text: Option<String>,
        /// Take the reply down
        #[arg(long, conflicts_with = "text")]
        remove: bool,
    },
    /// Follow a CSV file with the columns id, decision (approve, reject, withdraw), reason and reply
    Decide {
        /// The file; - is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// What waits longer than the shop announces (`publish_within` in jobs.toml)
    Overdue {
        /// Only of this shop
        #[arg(long, value_name = "KEY")]
        shop: Option<String>,
    },
}

/// Runs the command.
///
/// # Errors
/// When the configuration or the database cannot be used.
pub async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let opened = super::open(global).await?;
    let exit = act(args.action, global, &opened.context).await;
    opened.close().await;
    exit
}

async fn act(action: Action, global: &Global, context: &Context) -> anyhow::Result<Exit> {
    let shop = match &action {
        Action::List { shop, .. } | Action::Approve { shop, .. } | Action::Overdue { shop } => {
            shop.as_deref()
        }
        _ => None,
    };
    let Some(shops) = super::shops(context, shop) else { return Ok(Exit::Usage) };
    let shop_ids: Vec<ShopId> = shops.iter().map(|(id, _)| *id).collect();
    let (pool, now, rules) = (&context.pool, context.clock.now(), &context.config.testimonials);
    let (ruling, ids) = match action {
        Action::List { state, flagged, .. } => {
            let filter = Filter { state, ..Filter::default() };
            let mut entries = moderation::list(pool, &shops, filter, rules).await?;
            entries.retain(|entry| !flagged || !entry.flags.is_empty());
            return tell_entries(&entries, global.json);
        }
        Action::Show { id } => return show(context, &shops, ResponseId(id), global.json).await,
        Action::Overdue { .. } => {
            return tell_overdue(&unattended::overdue(pool, &shops, rules, now).await?, global.json);
        }
        Action::Reply { id, text, .. } => {
            if let Some(problem) = text.as_deref().and_then(moderation::reply_problem) {
                output::say(&format!("the reply {problem}"));
                return Ok(Exit::Usage);
            }
            let id = ResponseId(id);
            let outcome = moderation::reply(pool, &shop_ids, id, text.as_deref(), now).await?;
            let word = if text.is_some() { "replied to" } else { "without a reply" };
            return tell_outcomes(&[(id, outcome)], word, global.json);
        }
        Action::Decide { file } => {
            return match decisions::follow(pool, &shop_ids, &file, now).await {
                Ok(report) => tell_report(&report, global.json),
                Err(ImportError::Unusable(problem)) => {
                    output::say(&format!("{} {problem}", file.display()));
                    Ok(Exit::Usage)
                }
                Err(error) => Err(error.into()),
            };
        }
        Action::Approve { all_pending: true, .. } => {
            let ids = moderation::approve_all_pending(pool, &shop_ids, now).await?;
            let outcomes: Vec<_> = ids.into_iter().map(|id| (id, Outcome::Done)).collect();
            return tell_outcomes(&outcomes, "approved", global.json);
        }
        Action::Approve { ids, .. } => (Ruling::Approve, ids),
        Action::Reject { ids, reason } => (Ruling::Reject(reason), ids),
        Action::Withdraw { ids } => (Ruling::Withdraw, ids),
    };
    let ids: Vec<ResponseId> = ids.into_iter().map(ResponseId).collect();
    let outcomes = moderation::decide(pool, &shop_ids, &ids, ruling, now).await?;
    let word = match ruling {
        Ruling::Approve => "approved",
        Ruling::Reject(_) => "rejected",
        Ruling::Withdraw => "withdrawn",
    };
    tell_outcomes(&outcomes, word, global.json)
}

fn tell_entries(entries: &[Entry], as_json: bool) -> anyhow::Result<Exit> {
    if as_json {
        output::json(&entries)?;
        return Ok(Exit::Done);
    }
    let rows = entries.iter().map(|entry| {
        [
            entry.id.to_string(),
            entry.shop.clone(),
            entry.order.clone(),
            state_words(entry),
            entry.rating.map(|rating| rating.to_string()).unwrap_or_default(),
            flag_words(&entry.flags),
            entry.display_name.clone(),
            output::plain(&entry.text),
        ]
    });
    output::data(&output::table(["Id", "Shop", "Order", "State", "Rating", "Flags", "Name", "Text"], rows))?;
    Ok(Exit::Done)
}

fn state_words(entry: &Entry) -> String {
    match entry.reject_reason {
        Some(reason) => format!("rejected: {}", word(reason)),
        None if entry.by_rules => "approved by rules".to_owned(),
        None => word(entry.state),
    }
}

/// The rules that were met, each once.
fn flag_words(flags: &[Flag]) -> String {
    let mut words: Vec<String> = flags.iter().map(flag_word).collect();
    words.sort_unstable();
    words.dedup();
    words.join(", ")
}

fn flag_word(flag: &Flag) -> String {
    match flag.part {
        Part::Text => flag.rule.text().to_owned(),
        Part::DisplayName => format!("{} in the name", flag.rule.text()),
    }
}

async fn show(
    context: &Context,
    shops: &[(ShopId, &Shop)],
    id: ResponseId,
    as_json: bool,
) -> anyhow::Result<Exit> {
    let filter = Filter { only: Some(id), ..Filter::default() };
    let entries = moderation::list(&context.pool, shops, filter, &context.config.testimonials).await?;
    let Some(entry) = entries.first() else {
        output::say(&format!(
            "{id}: there is no testimonial with this number, or its author has written another since"
        ));
        return Ok(Exit::Failed);
    };
    let ids: Vec<ShopId> = shops.iter().map(|(id, _)| *id).collect();
    let told = rejection::told(&context.pool, &ids, id).await?;
    let earlier = moderation::earlier_reply(&context.pool, &ids, id).await?;
    if as_json {
        let mut value = serde_json::to_value(entry)?;
        value["told"] = json!(told);
        value["earlier_reply"] = json!(earlier);
        output::json(&value)?;
        return Ok(Exit::Done);
    }
    let date = |moment: chrono::DateTime<chrono::Utc>| moment.format("%F %R UTC").to_string();
    let mut lines: Vec<(String, String)> = vec![
        ("Testimonial".to_owned(), format!("{}, of order {} at {}", entry.id, entry.order, entry.shop)),
        ("State".to_owned(), state_words(entry)),
        ("Received".to_owned(), date(entry.received_at)),
    ];
    let mut add = |name: &str, value: Option<String>| {
        lines.extend(value.map(|value| (name.to_owned(), value)));
    };
    add("Decided", entry.decided_at.map(date));
    add("Published", entry.published_at.map(date));
    add("Reason", entry.reject_reason.map(reason_words));
    add("Rating", entry.rating.map(|rating| rating.to_string()));
    add("Recommends", entry.recommend.clone());
    add("Name", Some(entry.display_name.clone()).filter(|name| !name.is_empty()));
    add("Text", Some(entry.text.clone()));
    for flag in &entry.flags {
        let part = match flag.part {
            Part::Text => &entry.text,
            Part::DisplayName => &entry.display_name,
        };
        let found: String = flag.found(part).chars().take(80).collect();
        add("Flag", Some(format!("{} at character {}: {found}", flag_word(flag), flag.start)));
    }
    if let Some(reply) = &entry.reply {
        add(
            "Reply",
            Some(format!("{} (revision {}, {})", reply.text, reply.revision, date(reply.replied_at))),
        );
    }
    add("Earlier reply", earlier.map(|text| format!("{text} (to words that were changed since)")));
    for Told { reason, state, queued_at, settled_at, fault } in &told {
        let fault = fault.as_ref().map(|fault| format!(": {fault}")).unwrap_or_default();
        let moment = date(settled_at.unwrap_or(*queued_at));
        add("Author told", Some(format!("{}: {}{fault}, {moment}", word(*reason), told_words(*state))));
    }
    output::data(&output::table(["", ""], lines.into_iter().map(|(name, value)| [name, value])))?;
    Ok(Exit::Done)
}

fn tell_overdue(overdue: &[Overdue], as_json: bool) -> anyhow::Result<Exit> {
    if as_json {
        output::json(&overdue)?;
        return Ok(Exit::Done);
    }
    let rows = overdue.iter().map(|Overdue { entry, due_at, waits_for }| {
        [
            entry.id.to_string(),
            entry.shop.clone(),
            entry.order.clone(),
            due_at.format("%F").to_string(),
            match waits_for {
                WaitsFor::Decision => "a decision".to_owned(),
                WaitsFor::Export => "an export".to_owned(),
            },
            flag_words(&entry.flags),
        ]
    });
    output::data(&output::table(["Id", "Shop", "Order", "Due", "Waits for", "Flags"], rows))?;
    Ok(Exit::Done)
}

fn tell_report(report: &Report, as_json: bool) -> anyhow::Result<Exit> {
    for problem in &report.problems {
        let column = problem.column.map(|column| format!(", column {column}")).unwrap_or_default();
        output::say(&format!("line {}{column}: {}", problem.line, problem.problem));
    }
    if as_json {
        output::json(report)?;
    } else {
        output::say(&format!(
            "{} read: {} done, {} unchanged, {} not followed",
            crate::jobs::counted(report.n_read, "row"),
            report.n_done,
            report.n_unchanged,
            report.problems.len()
        ));
    }
    Ok(if report.problems.is_empty() { Exit::Done } else { Exit::Partial })
}

fn tell_outcomes(outcomes: &[(ResponseId, Outcome)], state: &str, as_json: bool) -> anyhow::Result<Exit> {
    let mut exit = Exit::Done;
    let mut done = 0;
    for (id, outcome) in outcomes {
        match outcome {
            Outcome::Done | Outcome::Already => done += 1,
            Outcome::Withdrawn => {
                output::say(&format!("{id}: its author has taken it back, and it stays so"));
                exit = Exit::Partial;
            }
            Outcome::Unknown => {
                output::say(&format!("{id}: there is no testimonial with this number"));
                exit = Exit::Partial;
            }
        }
    }
    if as_json {
        let outcomes: Vec<_> =
            outcomes.iter().map(|(id, outcome)| json!({ "id": id, "outcome": outcome })).collect();
        output::json(&json!({ "state": state, "n": done, "testimonials": outcomes }))?;
    } else {
        output::say(&format!("{done} {state}"));
    }
    Ok(exit)
}

/// The word of the command line for a state or a reason.
fn word(value: impl clap::ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
