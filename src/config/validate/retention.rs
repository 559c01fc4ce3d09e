//! `[retention]`, and how long what is published stays so.

use chrono::TimeDelta;

use super::words::{parse_duration, parsed, text};
use crate::config::problem::Problems;
use crate::config::raw::{self, Word};
use crate::config::{Retention, SuppressedAddresses};

/// Nothing that still matters is younger: mails come back within 30 days, and answers that came before their order wait for 90.
const LEAST: TimeDelta = TimeDelta::days(90);
/// What relays and mail systems said is of use while somebody looks for what went wrong.
const TRACES: TimeDelta = TimeDelta::days(365);
/// A year, and as much as it takes to compare with the same month of the year before.
const RUNS: TimeDelta = TimeDelta::days(400);

/// `None` where it is absent, or where something is wrong with it, which has then been noted.
pub(super) fn retention(typed: Option<&raw::Retention>, problems: &mut Problems<'_>) -> Option<Retention> {
    let typed = typed?;
    let responses = time(&typed.responses, problems)?;
    let mut other = |word: Option<&Word>, usual| word.map_or(Some(usual), |word| time(word, problems));
    let customers = other(typed.customers.as_ref(), responses);
    let traces = other(typed.traces.as_ref(), TRACES.min(responses));
    let runs = other(typed.runs.as_ref(), RUNS);
    let files = match &typed.files {
        Some(word) => Some(time(word, problems)?),
        None => None,
    };
    let suppressed_addresses = match &typed.suppressed_addresses {
        Some(word) if text(word) != "keep_hash" => SuppressedAddresses::For(time(word, problems)?),
        _ => SuppressedAddresses::KeepHash,
    };
    Some(Retention {
        responses,
        customers: customers?,
        traces: traces?,
        files,
        runs: runs?,
        suppressed_addresses,
    })
}

/// How long something is kept.
pub(super) fn time(word: &Word, problems: &mut Problems<'_>) -> Option<TimeDelta> {
    let time = parsed(word, problems, parse_duration)?;
    if time < LEAST {
        problems.add(
            word.span(),
            format!("{:?} is too short: what is younger is still worked with", text(word)),
            Some(format!("write {}d or more", LEAST.num_days())),
        );
        return None;
    }
    Some(time)
}
