//! Whether a person sent a form. Pure.
//!
//! Mail scanners open the links of a mail, and some of them send the forms they find. The rules, each of which alone makes a submission
//! suspect:
//!
//! 1. The proof is missing or not ours: the page was never fetched, or another invitation's page was.
//! 2. The field that nobody can see was filled in.
//! 3. It was sent sooner after the page was made than a person can read one question.
//!
//! A suspect submission is kept, does not count and replaces nothing, so that a wrong verdict loses no answer and changes no figure.
//! The limit: a scanner that waits, and leaves the invisible field alone, counts as a person.

use chrono::{DateTime, TimeDelta, Utc};

use super::Verdict;

/// What is known about how a form was sent.
#[derive(Debug, Clone, Copy)]
pub struct Traces {
    /// When the page was made, as its proof says; `None`: no proof of ours for this invitation.
    pub rendered_at: Option<DateTime<Utc>>,
    /// Whether the invisible field has something in it.
    pub trapped: bool,
    pub sent_at: DateTime<Utc>,
}

/// The verdict, when a person needs at least `fastest` for the page.
pub fn classify(traces: Traces, fastest: TimeDelta) -> Verdict {
    let Traces { rendered_at, trapped, sent_at } = traces;
    match rendered_at {
        Some(rendered_at) if !trapped && sent_at - rendered_at >= fastest => Verdict::Human,
        _ => Verdict::Suspect,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_alone_makes_it_suspect() {
        let check = |proof: bool, trapped: bool, milliseconds: i64, expected: Verdict| {
            let rendered = DateTime::UNIX_EPOCH;
            let traces = Traces {
                rendered_at: proof.then_some(rendered),
                trapped,
                sent_at: rendered + TimeDelta::milliseconds(milliseconds),
            };
            assert_eq!(classify(traces, TimeDelta::seconds(1)), expected, "{traces:?}");
        };
        check(true, false, 1_000, Verdict::Human);
        check(true, false, 86_400_000, Verdict::Human);
        check(true, false, 999, Verdict::Suspect);
        check(true, false, -5_000, Verdict::Suspect);
        check(false, false, 60_000, Verdict::Suspect);
        check(true, true, 60_000, Verdict::Suspect);
    }
}
