//! What a digest says in a language: the figures put into the words of `words.<locale>.toml`. Pure.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::{Digest, Finding};
use crate::mail::templates::words::{DigestWords, Words, fill};

/// The one line of a day on which nothing is wrong, or what the subject says else.
pub fn title(words: &Words, digest: &Digest) -> String {
    let words = &words.digest;
    match digest.findings.len() {
        0 => words.all_well.clone(),
        1 => words.one_thing.clone(),
        n => filled(&words.things, &[("n", &n.to_string())]),
    }
}

/// What happened, in one line: runs, mails, answers, files.
pub fn summary(words: &Words, digest: &Digest) -> String {
    let total = |n: &dyn Fn(&super::ShopDay) -> u64| digest.shops.values().map(n).sum::<u64>();
    let n_runs: u64 = digest.jobs.values().map(|runs| runs.n_done + runs.n_partial).sum();
    let n_jobs = digest.jobs.values().filter(|runs| runs.n_done + runs.n_partial > 0).count() as u64;
    let n_files = total(&|day| day.imports.values().map(|imported| imported.n_files).sum());
    let n_rows = total(&|day| day.imports.values().map(|imported| imported.n_read).sum());
    let values = [
        ("runs", n_runs),
        ("jobs", n_jobs),
        ("sent", total(&|day| day.n_sent)),
        ("waiting", total(&|day| day.n_waiting)),
        ("answers", total(&|day| day.n_answers)),
        ("files", n_files),
        ("rows", n_rows),
    ];
    let values = values.map(|(name, n)| (name, words.number(usize::try_from(n).unwrap_or(usize::MAX))));
    let values: Vec<(&str, &str)> = values.iter().map(|(name, n)| (*name, n.as_str())).collect();
    filled(&words.digest.summary, &values)
}

/// What somebody should look at, in a sentence.
pub fn sentence(words: &Words, finding: &Finding, zone: Tz) -> String {
    let digest = &words.digest;
    let at = |moment: DateTime<Utc>| moment.with_timezone(&zone).format("%F %R").to_string();
    match finding {
        Finding::Failed { job, n, reason, is_over } => {
            let wording = if *is_over { &digest.failed_over } else { &digest.failed };
            of_job(wording, job, *n, reason)
        }
        Finding::Skipped { job, n, reason } => of_job(&digest.skipped, job, *n, reason),
        Finding::Partial { job, n, reason } => of_job(&digest.partial, job, *n, reason),
        Finding::Overdue { job, due_at } => filled(&digest.overdue, &[("job", job), ("at", &at(*due_at))]),
        Finding::Paused { job, since, reason } => {
            filled(&digest.paused, &[("job", job), ("at", &at(*since)), ("reason", reason)])
        }
        Finding::Unknown { shop, n } => of_shop(&digest.unknown, shop, *n),
        Finding::Rejected { shop, what, n, n_files } => {
            let what = what_came_in(digest, what);
            let (n, n_files) = (n.to_string(), n_files.to_string());
            filled(&digest.rejected, &[("shop", shop), ("what", what), ("n", &n), ("files", &n_files)])
        }
        Finding::MessagesLost { shop, n } => of_shop(&digest.messages_lost, shop, *n),
        Finding::TestimonialsOverdue { shop, n } => of_shop(&digest.testimonials_overdue, shop, *n),
        Finding::AuthorsNotTold { shop, n } => of_shop(&digest.authors_not_told, shop, *n),
        Finding::ReportsLost { n } => filled(&digest.reports_lost, &[("n", &n.to_string())]),
        Finding::Relay { since, reason } => filled(&digest.relay, &[("at", &at(*since)), ("reason", reason)]),
        Finding::Held { reason } => filled(&digest.held, &[("reason", reason)]),
    }
}

fn of_job(wording: &str, job: &str, n: u64, reason: &str) -> String {
    filled(wording, &[("job", job), ("n", &n.to_string()), ("reason", reason)])
}

fn of_shop(wording: &str, shop: &str, n: u64) -> String {
    filled(wording, &[("shop", shop), ("n", &n.to_string())])
}

fn what_came_in<'a>(words: &'a DigestWords, what: &'a str) -> &'a str {
    words.imports.get(what).map_or(what, String::as_str)
}

/// The wordings were tried with all their values when they were read.
fn filled(wording: &str, values: &[(&str, &str)]) -> String {
    fill(wording, values).unwrap_or_else(|_| wording.to_owned())
}
