//! What a fault means: for the mail, for its address, and for the relay. Pure; the table is the whole of it.
//!
//! | where | what came | the mail | the relay |
//! |---|---|---|---|
//! | connecting, AUTH, MAIL | 5xx | waits, untried | refuses us: the breaker opens at once |
//! | | anything else | waits, untried | at fault |
//! | RCPT, DATA, before the final dot | 421 | waits, untried | at fault |
//! | | 4xx | deferred | works |
//! | | 5xx | failed | works |
//! | | nothing, or nonsense | deferred, so that a mail that breaks the relay is given up some day | at fault |
//! | after the final dot | 4xx | deferred | works |
//! | | 5xx | failed | works |
//! | | nothing, or nonsense | unknown | at fault |
//!
//! A 3xx or a 2xx where it makes no sense is nonsense. A deferred mail is given up by the first "later" after [`LIFETIME`]. An address is
//! suppressed only when the relay says at RCPT that it does not exist: 5.1.1, 5.1.2, 5.1.3, 5.1.6, 5.1.10, or 5.2.1; what was refused
//! for its content or by a policy (5.7.x, 5.3.4, 5.6.x, a 5xx without such a code) says nothing about the address. When a "later" is about
//! how many we send, the rate is halved; then the relay is not at fault either.

use chrono::{DateTime, TimeDelta, Utc};

use super::outbox::AttemptOutcome;
use crate::mail::transport::{Fault, Phase, Reply};

/// How long after its first "later" a mail is tried; then the next "later" is the last.
pub const LIFETIME: TimeDelta = TimeDelta::hours(72);

/// What a fault means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// What the try came to; `None`: it counts as none, and the mail waits as it did before.
    pub outcome: Option<AttemptOutcome>,
    /// Whether the address is not to be written to again.
    pub suppress: bool,
    pub relay: Standing,
}

/// What a fault says about the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It answers as it should; the fault is about one mail.
    Works,
    /// It answers, and wants fewer mails.
    TooMany,
    /// It did not do its part.
    Faulty,
    /// It refuses us, whatever the mail: nothing will change before somebody does something.
    Refuses,
}

/// Judges a fault. `first_deferred_at`: when the relay first said "later" to this mail.
pub fn judge(fault: &Fault, first_deferred_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Verdict {
    let code = fault.reply.as_ref().map(|reply| reply.code);
    let too_many = fault.reply.as_ref().is_some_and(|reply| says_too_many(reply, &fault.text));
    let is_old = first_deferred_at.is_some_and(|first| now - first >= LIFETIME);
    let later = if is_old { AttemptOutcome::Failed } else { AttemptOutcome::Deferred };
    let (outcome, standing) = match (fault.phase, code) {
        (Phase::Connect | Phase::Auth | Phase::Mail, Some(500..)) => (None, Standing::Refuses),
        (Phase::Connect | Phase::Auth | Phase::Mail, _) => (None, Standing::Faulty),
        (Phase::Rcpt | Phase::Data | Phase::Body, Some(421)) => (None, Standing::Faulty),
        (Phase::Rcpt | Phase::Data | Phase::Body, None) => (Some(later), Standing::Faulty),
        (Phase::Final, None) => (Some(AttemptOutcome::Unknown), Standing::Faulty),
        (_, Some(500..)) => (Some(AttemptOutcome::Failed), Standing::Works),
        (_, Some(_)) => (Some(later), Standing::Works),
    };
    let enhanced = fault.reply.as_ref().and_then(|reply| reply.enhanced);
    let no_such_address = matches!(enhanced, Some((5, 1, 1 | 2 | 3 | 6 | 10) | (5, 2, 1)));
    Verdict {
        outcome,
        suppress: fault.phase == Phase::Rcpt
            && no_such_address
            && outcome == Some(AttemptOutcome::Failed)
            && code >= Some(500),
        relay: if too_many { Standing::TooMany } else { standing },
    }
}

/// Whether a "later" is about how many mails come from us. "Try again later" alone is not: greylisting says so too.
fn says_too_many(reply: &Reply, text: &str) -> bool {
    if reply.enhanced == Some((4, 7, 28)) {
        return true;
    }
    let text = text.to_ascii_lowercase();
    matches!(reply.code, 421 | 450 | 451 | 452)
        && ["too many", "rate limit", "rate-limit", "ratelimit", "too fast", "throttl"]
            .iter()
            .any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;
    const PHASES: [Phase; 7] =
        [Phase::Connect, Phase::Auth, Phase::Mail, Phase::Rcpt, Phase::Data, Phase::Body, Phase::Final];

    /// Reply code, enhanced code, text; `None`: no answer, or nonsense.
    type Said = Option<(u16, Option<(u8, u16, u16)>, &'static str)>;

    fn fault(phase: Phase, said: Said) -> Fault {
        let reply = said.map(|(code, enhanced, _)| Reply { code, enhanced });
        Fault { phase, reply, text: said.map_or_else(String::new, |(_, _, text)| text.to_owned()) }
    }

    /// The verdicts on the same answer in each of the [`PHASES`], a letter each, beside the table above: `-` untried, `d` deferred,
    /// `f` failed, `s` failed and suppressed, `u` unknown; `.` the relay works, `<` too many, `!` at fault, `X` refuses.
    fn check(said: Said, outcomes: &str, standings: &str) {
        let verdicts = PHASES.map(|phase| judge(&fault(phase, said), None, NOW));
        let letters: String = verdicts
            .iter()
            .map(|verdict| match (verdict.outcome, verdict.suppress) {
                (None, false) => '-',
                (Some(AttemptOutcome::Deferred), false) => 'd',
                (Some(AttemptOutcome::Failed), false) => 'f',
                (Some(AttemptOutcome::Failed), true) => 's',
                (Some(AttemptOutcome::Unknown), false) => 'u',
                other => panic!("{said:?}: {other:?}"),
            })
            .collect();
        assert_eq!(letters, outcomes, "{said:?}");
        let letters: String = verdicts
            .iter()
            .map(|verdict| match verdict.relay {
                Standing::Works => '.',
                Standing::TooMany => '<',
                Standing::Faulty => '!',
                Standing::Refuses => 'X',
            })
            .collect();
        assert_eq!(letters, standings, "{said:?}");
    }

    #[test]
    fn the_table() {
        // Connect, Auth, Mail, Rcpt, Data, Body, Final.
        check(None, "---dddu", "!!!!!!!");
        check(Some((421, None, "closing")), "------d", "!!!!!!.");
        check(Some((421, Some((4, 7, 0)), "too many connections")), "------d", "<<<<<<<");
        check(Some((450, None, "mailbox busy")), "---dddd", "!!!....");
        check(Some((451, Some((4, 7, 1)), "greylisted, try again later")), "---dddd", "!!!....");
        check(Some((452, Some((4, 2, 2)), "mailbox full")), "---dddd", "!!!....");
        check(Some((452, Some((4, 5, 3)), "too many recipients this hour")), "---dddd", "<<<<<<<");
        check(Some((450, Some((4, 7, 28)), "unusual traffic")), "---dddd", "<<<<<<<");
        check(Some((454, None, "cannot check passwords now")), "---dddd", "!!!....");
        check(Some((530, Some((5, 7, 0)), "who are you?")), "---ffff", "XXX....");
        check(Some((535, Some((5, 7, 8)), "wrong")), "---ffff", "XXX....");
        check(Some((550, None, "no")), "---ffff", "XXX....");
        check(Some((552, None, "too big")), "---ffff", "XXX....");
        check(Some((554, None, "no")), "---ffff", "XXX....");
        for detail in [1, 2, 3, 6, 10] {
            check(Some((550, Some((5, 1, detail)), "no such user")), "---sfff", "XXX....");
        }
        check(Some((550, Some((5, 2, 1)), "closed")), "---sfff", "XXX....");
        for (subject, detail) in [(1, 0), (1, 8), (2, 0), (2, 2), (3, 4), (6, 0), (6, 7), (7, 1), (7, 26)] {
            check(Some((550, Some((5, subject, detail)), "not this")), "---ffff", "XXX....");
        }
        // Only a "later" slows us down: who refuses for ever is not asked more slowly.
        check(Some((554, Some((5, 7, 1)), "too many complaints about you")), "---ffff", "XXX....");
    }

    #[test]
    fn later_is_given_up_after_the_lifetime() {
        let later = Some((451, Some((4, 7, 1)), "greylisted"));
        let outcome = |said, phase, first: TimeDelta| {
            judge(&fault(phase, said), Some(NOW - first), NOW).outcome.unwrap()
        };
        let minute = TimeDelta::minutes(1);
        assert_eq!(outcome(later, Phase::Rcpt, LIFETIME - minute), AttemptOutcome::Deferred);
        for phase in [Phase::Rcpt, Phase::Data, Phase::Final] {
            assert_eq!(outcome(later, phase, LIFETIME), AttemptOutcome::Failed);
        }
        assert_eq!(outcome(None, Phase::Data, LIFETIME), AttemptOutcome::Failed);
        assert_eq!(outcome(None, Phase::Final, LIFETIME), AttemptOutcome::Unknown, "however old it is");
        let tired = judge(&fault(Phase::Rcpt, later), Some(NOW - LIFETIME), NOW);
        assert!(!tired.suppress, "the address said later, not never");
        let relay = judge(&fault(Phase::Mail, later), Some(NOW - LIFETIME), NOW);
        assert_eq!(relay.outcome, None, "the relay's fault makes no mail older");
    }
}
