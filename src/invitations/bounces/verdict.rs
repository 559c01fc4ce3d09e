//! Weighs what a report says about one recipient. The order of the tests is in the table of [`super`].

use super::delivery_status::Action;
use super::status::{self, Status};
use super::{BounceKind, wording};

/// What there is to weigh.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    pub action: Option<Action>,
    /// The field of a delivery report.
    pub status: Option<Status>,
    /// What the last server said, where the report has that apart.
    pub diagnostic: Option<&'a str>,
    /// What the report says to people about this recipient.
    pub text: &'a str,
}

/// What it comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub kind: BounceKind,
    pub status: Option<Status>,
    /// In the reporter's words, not masked yet; `None`: there was nothing to quote.
    pub quoted: Option<String>,
    /// In ours.
    pub words: &'static str,
    /// Whether anything was known in what it said: a phrase, a status, a reply code.
    pub is_understood: bool,
}

/// The verdict about one recipient.
pub fn weigh(evidence: Evidence<'_>) -> Verdict {
    let diagnostic = evidence.diagnostic.filter(|text| text.chars().any(char::is_alphanumeric));
    let text = wording::comparable(evidence.text);
    // A report with a status that names a cause needs no explanation for people, which may speak of much else.
    let is_stated = evidence.status.is_some_and(Status::is_specific);
    let said = match diagnostic {
        Some(diagnostic) => diagnostic,
        None if is_stated => "",
        None => evidence.text,
    };

    let code = status::reply_code(said);
    let in_words = Status::find(said).filter(|status| status.class != 2);
    let status = [evidence.status, in_words].into_iter().flatten().find(|status| status.is_specific());
    let status = status.or(evidence.status).or(in_words);
    let verdict = |kind, quoted: Option<String>, words| Verdict {
        kind,
        status,
        quoted: quoted.or_else(|| diagnostic.map(str::to_owned)),
        words,
        is_understood: true,
    };

    match evidence.action {
        Some(Action::Delayed) => {
            return verdict(BounceKind::Delayed, None, "it is delayed and still being tried");
        }
        Some(Action::Delivered) => return verdict(BounceKind::Other, None, "it was delivered or passed on"),
        None if wording::has_any(&text, wording::DELAYED) => {
            let quoted = quote(evidence.text, wording::DELAYED);
            return verdict(BounceKind::Delayed, quoted, "it is delayed and still being tried");
        }
        Some(Action::Failed) | None => {}
    }

    // The diagnosis first; the text for people where the diagnosis says nothing and the status names no cause.
    let in_said = wording::meaning(&wording::comparable(said));
    let known = in_said.map(|(meaning, phrase)| (meaning, quote(said, &[phrase])));
    let known = known.or_else(|| {
        let (meaning, phrase) =
            wording::meaning(&text).filter(|_| !status.is_some_and(Status::is_specific))?;
        Some((meaning, quote(evidence.text, &[phrase])))
    });

    // A reply that begins with 4 is no plain no, whatever its words; where there is no reply, the status tells, or that it was given up.
    let not_now = match (code, status) {
        (Some(code), _) => code < 500,
        (None, Some(status)) if status.class == 4 => true,
        (None, _) => wording::has_any(&text, wording::GIVEN_UP),
    };
    match known {
        Some((meaning, quoted)) => {
            let kind = if not_now { BounceKind::Soft } else { meaning.kind() };
            verdict(kind, quoted, meaning.words())
        }
        None if not_now => {
            let quoted = quote(evidence.text, wording::GIVEN_UP);
            verdict(BounceKind::Soft, quoted, wording::Meaning::Later.words())
        }
        None if status.is_some_and(Status::is_address_fault) => {
            verdict(BounceKind::Hard, None, wording::Meaning::NoAddress.words())
        }
        None => {
            let is_understood = status.is_some() || code.is_some() || evidence.action.is_some();
            Verdict {
                is_understood,
                ..verdict(BounceKind::Soft, None, "it was not delivered, in words that are not known here")
            }
        }
    }
}

/// The line in which one of the phrases stands, together with the next where it goes on there. The phrases are
/// [comparable](wording::comparable).
fn quote(text: &str, phrases: &[&str]) -> Option<String> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).peekable();
    while let Some(line) = lines.next() {
        if wording::has_any(&wording::comparable(line), phrases) {
            return Some(line.to_owned());
        }
        if let Some(next) = lines.peek()
            && !wording::has_any(&wording::comparable(next), phrases)
        {
            let two = format!("{line} {next}");
            if wording::has_any(&wording::comparable(&two), phrases) {
                return Some(two);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kind, when the field and the diagnosis say this.
    fn check(status: &str, diagnostic: &str) -> BounceKind {
        let status = Status::find(status);
        weigh(Evidence { action: Some(Action::Failed), status, diagnostic: Some(diagnostic), text: "" }).kind
    }

    #[test]
    fn words_before_status_and_status_before_nothing() {
        use BounceKind::{Hard, Soft};
        for (status, diagnostic, expected) in [
            ("5.1.1", "550 5.1.1 no such user", Hard),
            ("5.1.1", "550 5.1.1 odd words", Hard),
            ("5.1.10", "", Hard),
            ("5.2.1", "550 5.2.1 odd words", Hard),
            ("5.1.8", "550 5.1.8 odd words", Soft),
            ("5.1.7", "550 5.1.7 odd words", Soft),
            ("5.0.0", "550 Requested action not taken: mailbox unavailable", Hard),
            ("5.0.0", "450 Requested action not taken: mailbox unavailable", Soft),
            ("5.0.0", "550 odd words", Soft),
            ("5.4.1", "550 5.4.1 Recipient address rejected: Access denied. [mx.example]", Hard),
            (
                "5.2.1",
                "550-5.2.1 The user you are trying to contact is receiving mail at a rate that prevents",
                Soft,
            ),
            ("5.1.1", "552 5.1.1 mailbox full", Soft),
            ("5.2.2", "552 5.2.2 odd words", Soft),
            ("4.2.2", "452 4.2.2 The email account is over quota", Soft),
            ("5.7.1", "550 5.7.1 message blocked: see the list", Soft),
            ("5.7.1", "550 5.7.1 odd words", Soft),
            ("5.1.1", "550 5.1.1 Sender address rejected: Domain not found", Soft),
            ("5.3.4", "552 5.3.4 Message size exceeds fixed limit", Soft),
            ("5.6.0", "554 5.6.0 odd words", Soft),
            ("4.4.1", "connect to mx.customer.example[192.0.2.1]:25: Connection timed out", Soft),
            (
                "5.4.4",
                "Host or domain name not found. Name service error for name=x type=A: Host not found",
                Hard,
            ),
            (
                "4.4.3",
                "Host or domain name not found. Name service error for name=x type=MX: Host not found, try again",
                Soft,
            ),
            // A host can be called anything.
            ("5.1.1", "host spam.customer.example[192.0.2.1] said: 550 5.1.1 odd words", Hard),
            ("5.0.0", "host unknown.customer.example[192.0.2.1] said: 554 odd words", Soft),
        ] {
            assert_eq!(check(status, diagnostic), expected, "{status} {diagnostic}");
        }
    }

    #[test]
    fn the_action_stands_before_everything() {
        let weighed = |action| {
            let status = Status::find("5.1.1");
            weigh(Evidence { action, status, diagnostic: Some("550 5.1.1 no such user"), text: "" }).kind
        };
        assert_eq!(weighed(Some(Action::Delayed)), BounceKind::Delayed);
        assert_eq!(weighed(Some(Action::Delivered)), BounceKind::Other);
        assert_eq!(weighed(Some(Action::Failed)), BounceKind::Hard);
        assert_eq!(weighed(None), BounceKind::Hard);
    }
}
