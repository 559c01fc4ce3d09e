//! The fields of a delivery report (RFC 3464): groups of `Name: value`, a blank line between groups, one group per recipient after one
//! about the whole message. Read tolerantly: some servers leave out the blank lines, or the group about the message.

use super::address;
use super::status::Status;

/// What a report says about one recipient.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// `Final-Recipient`: where the mail was to go in the end.
    pub last: Option<String>,
    /// `Original-Recipient`: whom it was sent to.
    pub original: Option<String>,
    pub action: Option<Action>,
    pub status: Option<Status>,
    /// `Diagnostic-Code` without its type, on one line.
    pub diagnostic: Option<String>,
    /// The value of `Status`, where it is more than a status.
    pub comment: Option<String>,
}

impl Recipient {
    fn has_address(&self) -> bool {
        self.last.is_some() || self.original.is_some()
    }
}

/// `Action`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Failed,
    Delayed,
    /// `delivered`, `relayed` or `expanded`: all is well.
    Delivered,
}

/// The recipients of a report.
pub fn recipients(fields: &str) -> Vec<Recipient> {
    let mut recipients: Vec<Recipient> = Vec::new();
    let mut current = Recipient::default();
    for line in unfolded(fields) {
        if line.trim().is_empty() && current.has_address() {
            recipients.push(std::mem::take(&mut current));
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        match name.as_str() {
            // Without a blank line between them, a second field of the same name begins the next recipient.
            "final-recipient" | "original-recipient" => {
                let is_last = name == "final-recipient";
                let there = if is_last { &current.last } else { &current.original };
                if there.is_some() {
                    recipients.push(std::mem::take(&mut current));
                }
                let address = address_of(value);
                if is_last { current.last = address } else { current.original = address }
            }
            "action" if current.action.is_none() => current.action = action(value),
            "status" if current.status.is_none() => {
                current.status = Status::find(value);
                // Some say it here in words, and nowhere else.
                current.comment = value.contains(' ').then(|| value.to_owned());
            }
            "diagnostic-code" if current.diagnostic.is_none() => current.diagnostic = Some(diagnosis(value)),
            _ => {}
        }
        if recipients.len() == MOST {
            break;
        }
    }
    recipients.push(current);
    recipients.retain(|recipient| *recipient != Recipient::default());
    recipients
}

/// More recipients than this in one report are of no interest: our mails have one.
const MOST: usize = 200;

fn action(value: &str) -> Option<Action> {
    let word = value.to_ascii_lowercase();
    let word = word.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    match word {
        "failed" | "failure" | "deliverable" | "undeliverable" | "expired" => Some(Action::Failed),
        "delayed" | "deferred" => Some(Action::Delayed),
        "delivered" | "relayed" | "expanded" => Some(Action::Delivered),
        _ => None,
    }
}

/// `smtp; 550 5.1.1 no such user` without the type, and a reply of several lines as one: each repeats the code (RFC 5321, 4.2.1), and
/// would stand in the middle of a phrase.
fn diagnosis(value: &str) -> String {
    let text =
        value.split_once(';').filter(|(kind, _)| kind.trim().len() <= 20).map_or(value, |(_, text)| text);
    let mut words: Vec<&str> = Vec::new();
    let mut code: Option<(&str, &str)> = None;
    for word in text.split_whitespace() {
        if let Some((number, status)) = word.split_once('-').filter(|(number, status)| {
            number.len() == 3
                && number.bytes().all(|byte| byte.is_ascii_digit())
                && Status::find(status).is_some()
        }) {
            if code.is_none() {
                words.extend([number, status]);
            }
            code = Some((number, status));
        } else if code.is_some_and(|(number, status)| word == number || (word == status && words.len() > 2)) {
            // The code again.
        } else {
            words.push(word);
        }
    }
    words.join(" ")
}

/// The address in `rfc822; claire@customer.example`; with `utf-8`, characters may be written `\x{E9}` (RFC 6533).
fn address_of(value: &str) -> Option<String> {
    let mut plain = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("\\x{") {
        plain.push_str(before);
        match after
            .split_once('}')
            .and_then(|(code, behind)| Some((char::from_u32(u32::from_str_radix(code, 16).ok()?)?, behind)))
        {
            Some((c, behind)) => {
                plain.push(c);
                rest = behind;
            }
            None => rest = after,
        }
    }
    plain.push_str(rest);
    address::all(&plain).into_iter().next()
}

/// The lines, those that go on in the next one made one.
fn unfolded(fields: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in fields.lines().take(MOST_LINES) {
        match lines.last_mut() {
            Some(last) if line.starts_with([' ', '\t']) && !line.trim().is_empty() => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

const MOST_LINES: usize = 5_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_a_recipient() {
        let fields = "Reporting-MTA: dns; mx.shop.example\nArrival-Date: Mon, 2 Mar 2026 10:00:00 +0100\n\n\
            Original-Recipient: rfc822;claire@customer.example\nFinal-Recipient: rfc822;\n <claire@Other.example>\n\
            Action: failed\nStatus: 5.1.1 (no such address)\nDiagnostic-Code: smtp; 550 5.1.1\n\t no such user\n\n\
            Final-Recipient: LOCAL; bob@customer.example\nAction: DELAYED (still trying)\nStatus: 4.4.1\n";
        let found = recipients(fields);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].original.as_deref(), Some("claire@customer.example"));
        assert_eq!(found[0].last.as_deref(), Some("claire@Other.example"));
        assert_eq!((found[0].action, found[1].action), (Some(Action::Failed), Some(Action::Delayed)));
        assert_eq!(found[0].diagnostic.as_deref(), Some("550 5.1.1 no such user"));
        assert_eq!(found[1].status.unwrap().to_string(), "4.4.1");
    }

    #[test]
    fn a_reply_of_several_lines_is_one() {
        assert_eq!(
            diagnosis("smtp; 550-5.2.1 at a rate that\n 550 5.2.1 prevents. x1"),
            "550 5.2.1 at a rate that prevents. x1"
        );
        assert_eq!(diagnosis("smtp; 550-5.1.1 one 550-5.1.1 two 550 5.1.1 three"), "550 5.1.1 one two three");
        assert_eq!(diagnosis("550 5.1.1 one 550 5.1.1"), "550 5.1.1 one 550 5.1.1");
        assert_eq!(diagnosis("X-Postfix; unknown user"), "unknown user");
    }

    #[test]
    fn odd_reports_are_read_too() {
        // No blank line between the recipients, none before the first; the action before both addresses; a status in words.
        let fields = "Action: failed\nStatus: 553 too large\nOriginal-Recipient: a@b.example\nFinal-Recipient: a@c.example\n";
        let found = recipients(fields);
        assert_eq!((found.len(), found[0].comment.as_deref()), (1, Some("553 too large")));
        let fields = "Reporting-MTA: dns; x\nFinal-Recipient: a@b.example\nAction: failed\nFinal-Recipient: c@d.example\nAction: delayed";
        assert_eq!(recipients(fields).len(), 2);
        let fields = "Action: failed\nFinal-Recipient: utf-8; \\x{E9}lise@exemple.example";
        let found = recipients(fields);
        assert_eq!((found.len(), found[0].action), (1, Some(Action::Failed)));
        assert_eq!(found[0].last.as_deref(), Some("élise@exemple.example"));
        assert_eq!(recipients("Reporting-MTA: dns; x\n\n\n"), []);
        assert_eq!(recipients("Final-Recipient: utf-8; \\x{ \\x{zz} \\x{110000}").len(), 0);
    }
}
