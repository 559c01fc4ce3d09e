//! A file of decisions, as a spreadsheet writes it: columns `id`, `decision` (approve, reject, withdraw, or empty), `reason` (of a
//! rejection) and `reply`. Comes in: the file. Goes out: for each row that could not be followed its line, its column and why.
//!
//! The columns of `testimonials list` may be in it too and are not looked at. Rows of one decision are one transaction; if we die half way,
//! reading the file again finishes it, because deciding again changes nothing.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use chrono::{DateTime, Utc};
use clap::ValueEnum as _;
use serde::Serialize;
use sqlx::PgPool;

use super::RejectReason;
use super::moderation::{self, Outcome, Ruling};
use crate::config::TextFormat;
use crate::import::ImportError;
use crate::import::header::Search;
use crate::import::row;
use crate::import::text::{Source, Whence};
use crate::nearest::did_you_mean;
use crate::types::{ResponseId, ShopId};

/// The columns that are read.
pub const COLUMNS: [&str; 4] = ["id", "decision", "reason", "reply"];

/// Those of `testimonials list`, which may stand there too.
const OTHERS: [&str; 14] = [
    "order",
    "shop",
    "state",
    "reject_reason",
    "by_rules",
    "rating",
    "recommend",
    "text",
    "display_name",
    "flags",
    "received_at",
    "decided_at",
    "published_at",
    "name",
];

/// A row that could not be followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The line it starts on, counted from 1.
    pub line: u64,
    /// One of [`COLUMNS`], if one is at fault.
    pub column: Option<&'static str>,
    /// Reads after the column's name. Repeats no words of a customer.
    pub problem: String,
}

/// What became of a file. Always: read = done + unchanged + the rows of `problems`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub n_read: u64,
    /// Rows that changed something.
    pub n_done: u64,
    /// Rows that said what was so already.
    pub n_unchanged: u64,
    pub problems: Vec<Problem>,
}

/// What a row says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Decision {
    line: u64,
    id: ResponseId,
    ruling: Option<Ruling>,
    reply: Option<String>,
}

/// Follows a file; `-` is standard input.
///
/// # Errors
/// When the file cannot be read as one of decisions; then nothing changed. When the database does not answer; then some of it may be done.
pub async fn follow(
    pool: &PgPool,
    shops: &[ShopId],
    path: &Path,
    now: DateTime<Utc>,
) -> Result<Report, ImportError> {
    let owned = path.to_owned();
    let (decisions, problems) =
        tokio::task::spawn_blocking(move || read(&owned)).await.map_err(std::io::Error::other)??;
    let mut report =
        Report { n_read: (decisions.len() + problems.len()) as u64, problems, ..Report::default() };
    // What became of each row so far; a row is done when one of its parts is, and at fault when one of them is.
    let mut outcomes: HashMap<u64, Vec<(&'static str, Outcome)>> = HashMap::new();
    let mut by_ruling: BTreeMap<Ruling, Vec<&Decision>> = BTreeMap::new();
    for decision in &decisions {
        if let Some(ruling) = decision.ruling {
            by_ruling.entry(ruling).or_default().push(decision);
        }
    }
    for (ruling, group) in by_ruling {
        let ids: Vec<ResponseId> = group.iter().map(|decision| decision.id).collect();
        let ruled = moderation::decide(pool, shops, &ids, ruling, now).await.map_err(failed)?;
        for (decision, (_, outcome)) in group.iter().zip(ruled) {
            outcomes.entry(decision.line).or_default().push(("decision", outcome));
        }
    }
    for decision in &decisions {
        if let Some(reply) = &decision.reply {
            let outcome =
                moderation::reply(pool, shops, decision.id, Some(reply), now).await.map_err(failed)?;
            outcomes.entry(decision.line).or_default().push(("reply", outcome));
        }
    }
    for decision in &decisions {
        let of_row = outcomes.remove(&decision.line).unwrap_or_default();
        let problem = of_row.iter().find_map(|(column, outcome)| match outcome {
            Outcome::Unknown => Some(("id", "there is no testimonial with this number")),
            Outcome::Withdrawn => Some((*column, "its author has taken it back, and it stays so")),
            Outcome::Done | Outcome::Already => None,
        });
        match problem {
            Some((column, problem)) => report.problems.push(Problem {
                line: decision.line,
                column: Some(column),
                problem: problem.to_owned(),
            }),
            None if of_row.iter().any(|(_, outcome)| *outcome == Outcome::Done) => report.n_done += 1,
            None => report.n_unchanged += 1,
        }
    }
    report.problems.sort_by_key(|problem| problem.line);
    Ok(report)
}

fn failed(error: anyhow::Error) -> ImportError {
    match error.downcast::<sqlx::Error>() {
        Ok(error) => ImportError::Database(error),
        Err(error) => ImportError::Io(std::io::Error::other(error)),
    }
}

/// Reads a file: what its rows say, and those that say nothing.
fn read(path: &Path) -> Result<(Vec<Decision>, Vec<Problem>), ImportError> {
    let mut source = Source::open(path, Whence::Named)?;
    let written = source.written(&TextFormat::default())?;
    let header: Vec<String> = source.header(written)?.iter().map(|name| name.to_lowercase()).collect();
    let mut search = Search::new(&header);
    let places = COLUMNS.map(|column| search.find(column, column, column == "id"));
    for other in OTHERS {
        search.find(other, other, false);
    }
    if places[1].is_none() && places[3].is_none() {
        search.add("there is neither a column decision nor a column reply".to_owned());
    }
    search.finish(Some(&COLUMNS)).map_err(ImportError::Unusable)?;
    let (mut decisions, mut problems) = (Vec::new(), Vec::new());
    let mut lines: HashMap<ResponseId, u64> = HashMap::new();
    let mut records = source.records(written)?;
    while let Some((line, judged)) = records.next()? {
        let record = records.record();
        let read = judged.map_err(|fault| (None, fault.reason.into_owned())).and_then(|()| {
            let field = |n: usize| places[n].map(|column| row::text(record, column)).unwrap_or_default();
            decision(line, [field(0), field(1), field(2), field(3)])
        });
        let read = read.and_then(|decision| match lines.insert(decision.id, line) {
            None => Ok(decision),
            Some(before) => {
                lines.insert(decision.id, before);
                Err((Some("id"), format!("line {before} decides on this one already")))
            }
        });
        match read {
            Ok(decision) => decisions.push(decision),
            Err((column, problem)) => problems.push(Problem { line, column, problem }),
        }
    }
    Ok((decisions, problems))
}

/// What a row says.
fn decision(
    line: u64,
    [id, decision, reason, reply]: [&str; 4],
) -> Result<Decision, (Option<&'static str>, String)> {
    let id = id.trim().parse().map(ResponseId);
    let id =
        id.map_err(|_| (Some("id"), "expected a number, as `testimonials list` prints it".to_owned()))?;
    let reason = reason.trim().to_lowercase();
    let reason = match reason.as_str() {
        "" => None,
        word => {
            Some(RejectReason::from_str(word, false).map_err(|_| (Some("reason"), unknown_reason(word)))?)
        }
    };
    let ruling = match (decision.trim().to_lowercase().as_str(), reason) {
        ("reject", Some(reason)) => Some(Ruling::Reject(reason)),
        ("reject", None) => {
            return Err((Some("reason"), format!("a rejection needs one of {}", reasons().join(", "))));
        }
        (_, Some(_)) => return Err((Some("reason"), "only a rejection has a reason".to_owned())),
        ("approve", None) => Some(Ruling::Approve),
        ("withdraw", None) => Some(Ruling::Withdraw),
        ("", None) => None,
        _ => return Err((Some("decision"), "expected approve, reject or withdraw".to_owned())),
    };
    let reply = Some(reply).filter(|reply| !reply.trim().is_empty());
    if let Some(problem) = reply.and_then(moderation::reply_problem) {
        return Err((Some("reply"), problem));
    }
    Ok(Decision { line, id, ruling, reply: reply.map(str::to_owned) })
}

fn reasons() -> Vec<String> {
    RejectReason::value_variants()
        .iter()
        .filter_map(|reason| reason.to_possible_value())
        .map(|value| value.get_name().to_owned())
        .collect()
}

fn unknown_reason(word: &str) -> String {
    let known = reasons();
    let hint = did_you_mean(word, known.iter().map(String::as_str));
    hint.map_or_else(
        || format!("expected one of {}", known.join(", ")),
        |hint| format!("is not known; {hint}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn at_fault(row: [&str; 4], column: &str) {
        let (found, problem) = decision(2, row).unwrap_err();
        assert_eq!(found, Some(column), "{row:?}: {problem}");
    }

    #[test]
    fn rows() {
        let said = |row| decision(2, row).map(|decision| (decision.id.0, decision.ruling, decision.reply));
        assert_eq!(said([" 7 ", "Approve", "", ""]), Ok((7, Some(Ruling::Approve), None)));
        assert_eq!(
            said(["7", "reject", "Unlawful ", " Désolé.\n"]),
            Ok((7, Some(Ruling::Reject(RejectReason::Unlawful)), Some(" Désolé.\n".to_owned())))
        );
        assert_eq!(said(["7", "withdraw", "", " "]), Ok((7, Some(Ruling::Withdraw), None)));
        assert_eq!(said(["7", "", "", "Merci"]), Ok((7, None, Some("Merci".to_owned()))));
        at_fault(["", "approve", "", ""], "id");
        at_fault(["7.0", "approve", "", ""], "id");
        at_fault(["7", "yes", "", ""], "decision");
        at_fault(["7", "reject", "", ""], "reason");
        at_fault(["7", "reject", "low_score", ""], "reason");
        at_fault(["7", "approve", "unlawful", ""], "reason");
        at_fault(["7", "approve", "", &"x".repeat(moderation::LONGEST_REPLY + 1)], "reply");
        assert!(decision(2, ["7", "reject", "unlawfull", ""]).unwrap_err().1.contains("unlawful"));
    }
}
