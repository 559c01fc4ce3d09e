//! From the bytes of a message to a [`Report`].

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mail_parser::{
    Header, HeaderName, HeaderValue, Message, MessageParser, MessagePart, MimeHeaders as _, PartType,
};

use super::delivery_status::{self, Recipient};
use super::verdict::{self, Evidence};
use super::{BounceKind, Finding, Report, address, wording};
use crate::masked;
use crate::token::RETURN_PATH_TOKEN;

/// What is read of a message; the beginning decides.
pub const READ_AT_MOST: usize = 1 << 20;
/// What is read of the text for people.
const TEXT_AT_MOST: usize = 32 << 10;
/// A message within more messages than this is not taken apart: each level costs stack.
const NESTED_AT_MOST: usize = 40;
/// The length of a reason, in characters.
const REASON_AT_MOST: usize = 300;

/// What a message says. `None`: it is no mail message at all. Never panics, whatever the bytes are.
pub fn read(bytes: &[u8]) -> Option<Report> {
    let bytes = &bytes[..bytes.len().min(READ_AT_MOST)];
    // Lines that end in nothing but a carriage return, as old Macintosh programs wrote them.
    let has_no_lines = bytes.contains(&b'\r') && !bytes.contains(&b'\n');
    let bytes: &[u8] = &if has_no_lines {
        Cow::Owned(bytes.iter().map(|byte| if *byte == b'\r' { b'\n' } else { *byte }).collect::<Vec<u8>>())
    } else {
        Cow::Borrowed(bytes)
    };
    // The parser promises not to panic, and does so on some malformed messages where its own assertions are compiled in. Then, and
    // where messages lie in too many others, the headers are parsed alone, and what follows them is taken for text.
    let nested = count(bytes, b"message/") + count(bytes, b"multipart/");
    let whole =
        (nested <= NESTED_AT_MOST).then(|| catch_unwind(|| MessageParser::new().parse(bytes)).ok().flatten());
    catch_unwind(AssertUnwindSafe(|| {
        let message = whole.flatten().or_else(|| MessageParser::new().parse_headers(bytes));
        let message = message.filter(|message| looks_like_mail(message))?;
        let taken = Taken::apart(&message, bytes);
        // A gateway may wrap a report into a message of its own.
        let wrapped = message.parts.iter().find_map(|part| match &part.body {
            PartType::Message(nested) if taken.fields.is_none() && taken.is_from_a_mail_system() => {
                let nested = Taken::apart(nested, &nested.raw_message);
                (nested.fields.is_some() && nested.is_from_a_mail_system()).then_some(nested)
            }
            _ => None,
        });
        let taken = wrapped.unwrap_or(taken);
        let mut report = taken.report();
        report.return_path_tokens = return_path_tokens(bytes, &taken);
        report.message_ids = taken.message_ids();
        Some(report)
    }))
    .ok()
    .flatten()
}

/// Whether it has a header that a mail has; anything at all with a colon in it would otherwise do.
fn looks_like_mail(message: &Message<'_>) -> bool {
    use HeaderName::{Date, From, MessageId, Received, ReturnPath, Subject, To};
    let Some(root) = message.parts.first() else { return false };
    root.headers
        .iter()
        .any(|header| matches!(header.name, Date | From | MessageId | Received | ReturnPath | Subject | To))
}

/// A message taken apart: what the tests look at.
struct Taken {
    headers: Vec<(String, String)>,
    from: Vec<String>,
    /// Comparable.
    subject: String,
    /// What it says to people, before the original is quoted.
    text: String,
    /// The same, [comparable](wording::comparable).
    comparable: String,
    /// What follows: the original, or a piece of it, in the same part.
    quoted: String,
    /// The fields of RFC 3464.
    fields: Option<String>,
    /// The fields of RFC 5965.
    feedback: Option<String>,
    /// RFC 8098
    is_receipt: bool,
    original: Option<Vec<(String, String)>>,
}

impl Taken {
    fn apart(message: &Message<'_>, raw: &[u8]) -> Self {
        let headers =
            message.parts.first().map(|root| headers(root, &message.raw_message)).unwrap_or_default();
        let (mut plain, mut html) = (String::new(), String::new());
        let (mut fields, mut feedback, mut original, mut is_receipt) = (None, None, None, false);
        for part in &message.parts {
            let kind = part.content_type().map(|kind| {
                format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or_default()).to_ascii_lowercase()
            });
            let content = || match &part.body {
                PartType::Text(text) | PartType::Html(text) => text.to_string(),
                PartType::Binary(bytes) | PartType::InlineBinary(bytes) => {
                    String::from_utf8_lossy(bytes).into_owned()
                }
                PartType::Message(_) | PartType::Multipart(_) => {
                    let (from, to) = (part.offset_body as usize, part.offset_end as usize);
                    String::from_utf8_lossy(message.raw_message.get(from..to).unwrap_or_default())
                        .into_owned()
                }
            };
            match (kind.as_deref().unwrap_or_default(), &part.body) {
                ("message/delivery-status" | "message/global-delivery-status", _) => {
                    fields.get_or_insert_with(String::new).push_str(&format!("{}\n\n", content()));
                }
                ("message/feedback-report", _) => feedback = feedback.or_else(|| Some(content())),
                ("message/disposition-notification" | "message/global-disposition-notification", _) => {
                    is_receipt = true
                }
                (
                    "text/rfc822-headers"
                    | "text/rfc822"
                    | "message/rfc822-headers"
                    | "message/global-headers",
                    _,
                ) => {
                    let content = content();
                    let parsed = MessageParser::new().parse_headers(content.as_bytes()).map(|message| {
                        message
                            .parts
                            .first()
                            .map(|root| self::headers(root, &message.raw_message))
                            .unwrap_or_default()
                    });
                    // Headers without the blank line that ends them are none for the parser.
                    original = original
                        .or(parsed.filter(|headers| !headers.is_empty()))
                        .or_else(|| Some(header_lines(&content)));
                }
                (_, PartType::Message(nested)) => {
                    original = original.or_else(|| {
                        nested.parts.first().map(|root| self::headers(root, &nested.raw_message))
                    });
                }
                (_, PartType::Text(text)) if plain.len() < TEXT_AT_MOST => {
                    plain.push_str(text);
                    plain.push('\n');
                }
                (_, PartType::Html(text)) if html.len() < TEXT_AT_MOST => {
                    html.push_str(&mail_parser::decoders::html::html_to_text(text));
                    html.push('\n');
                }
                _ => {}
            }
        }
        if message.parts.iter().all(|part| matches!(part.body, PartType::Multipart(_))) {
            // No part was found, or none was looked for: the text is all that follows the headers.
            let body = message.parts.first().map_or(0, |root| root.offset_body as usize);
            plain.push_str(&String::from_utf8_lossy(raw.get(body..).unwrap_or_default()));
        }
        let whole = if plain.trim().is_empty() { html } else { plain };
        let (text, quoted) = split_original(&whole);
        if fields.is_none() {
            fields = field_lines(&whole);
        }
        let text = cut(text, TEXT_AT_MOST).to_owned();
        let subject = values(&headers, &["subject"]).next().unwrap_or_default().to_owned();
        Self {
            from: values(&headers, &["from"]).flat_map(address::all).collect(),
            subject: wording::comparable(&subject),
            comparable: wording::comparable(&text),
            text,
            quoted: cut(quoted, TEXT_AT_MOST).to_owned(),
            fields,
            feedback,
            is_receipt,
            original,
            headers,
        }
    }

    /// The tests, in the order of the table of [`super`].
    fn report(&self) -> Report {
        let findings = self.complaint().or_else(|| self.delivery_report());
        let findings = findings.or_else(|| if self.is_from_a_mail_system() { self.bounce() } else { None });
        let findings = findings
            .or_else(|| self.is_receipt.then(|| self.reply("a receipt: the mail was displayed, or deleted")));
        let findings = findings.or_else(|| self.automatic().map(|sign| self.reply(&sign)));
        let findings = findings.or_else(|| {
            // From anybody else, it has to say whom it is about: people write about mail, too.
            let bounce = if self.begins_like_a_bounce() { self.bounce()? } else { return None };
            bounce.iter().any(|finding| !finding.recipients.is_empty()).then_some(bounce)
        });
        let mut findings = findings.unwrap_or_else(|| vec![other("no report")]);
        // The gravest first; what was said first stays first among equals.
        findings.sort_by_key(|finding| finding.kind);
        Report {
            findings,
            return_path_tokens: Vec::new(),
            message_ids: Vec::new(),
            has_original: self.original.is_some(),
        }
    }

    /// A complaint: RFC 5965, or in a provider's own form.
    fn complaint(&self) -> Option<Vec<Finding>> {
        let headers_of_feedback = self.feedback.as_deref().map(header_lines).unwrap_or_default();
        let own_form = self.feedback.is_none()
            && self.subject.starts_with("complaint about message from")
            && (self.junk_mail_recipient().next().is_some());
        if self.feedback.is_none() && !own_form {
            return None;
        }
        let kind = values(&headers_of_feedback, &["feedback-type"])
            .next()
            .unwrap_or("abuse")
            .trim()
            .to_ascii_lowercase();
        if !own_form && !["abuse", "fraud", "opt-out", "opt-out-list"].contains(&kind.as_str()) {
            return Some(vec![other("a report, but no complaint")]);
        }
        let named = values(&headers_of_feedback, &["original-rcpt-to", "removal-recipient"])
            .chain(self.junk_mail_recipient())
            .flat_map(address::all)
            .chain(self.original_to());
        let mut recipients: Vec<String> = Vec::new();
        for address in named.filter(|address| !address::is_redacted(address)) {
            if !recipients.iter().any(|known| address::is_same(known, &address)) {
                recipients.push(address);
            }
        }
        let reason = if own_form { "a complaint".to_owned() } else { format!("a complaint ({kind})") };
        Some(vec![Finding { kind: BounceKind::Complaint, recipients, status: None, reason }])
    }

    /// Whom Outlook.com's junk mail reports name, in the report or in the mail that is in it.
    fn junk_mail_recipient(&self) -> impl Iterator<Item = &str> {
        let places = std::iter::once(&self.headers).chain(&self.original);
        places.flat_map(|headers| values(headers, &["x-hmxmroriginalrecipient"]))
    }

    /// A delivery report: RFC 3464.
    fn delivery_report(&self) -> Option<Vec<Finding>> {
        let recipients = delivery_status::recipients(self.fields.as_deref()?);
        if recipients.is_empty() {
            return None;
        }
        let is_alone = recipients.len() == 1;
        let findings = recipients.into_iter().map(|recipient| {
            let Recipient { last, original, action, status, diagnostic, comment } = recipient;
            let diagnostic = diagnostic.or(comment);
            // Whom it was sent to, rather than where an alias had led it.
            let mut named: Vec<String> = original.into_iter().collect();
            named.extend(last.filter(|address| !named.iter().any(|known| address::is_same(known, address))));
            // The text for people is about all of the recipients.
            let text = if is_alone { self.text.as_str() } else { "" };
            let evidence = Evidence { action, status, diagnostic: diagnostic.as_deref(), text };
            let unnamed = named.is_empty();
            let mut finding = finding(evidence, named);
            if unnamed && is_alone {
                finding.recipients = self.named_in_text();
            }
            finding
        });
        Some(findings.collect())
    }

    /// A bounce in words. `None`: nothing in it says that a mail was not delivered.
    fn bounce(&self) -> Option<Vec<Finding>> {
        let failed: Vec<String> =
            values(&self.headers, &["x-failed-recipients"]).flat_map(address::all).collect();
        let subject = values(&self.headers, &["subject"]).next().unwrap_or_default();
        let weigh = |text: &str, recipients: Vec<String>| {
            finding_if_understood(Evidence { action: None, status: None, diagnostic: None, text }, recipients)
        };
        let (is_understood, whole) = weigh(&format!("{}\n{subject}", self.text), Vec::new());
        let named = if failed.is_empty() { self.named_in_text() } else { failed.clone() };
        // What a mail system says of an address is a bounce, however it begins.
        let is_plain = is_understood && whole.kind == BounceKind::Hard && !named.is_empty();
        if failed.is_empty() && !self.begins_like_a_bounce() && !is_plain {
            return None;
        }
        let whole = Finding { reason: mask(&whole.reason, &named), ..whole };
        let blocks = if whole.kind == BounceKind::Delayed { Vec::new() } else { blocks(&self.text, &named) };
        if blocks.is_empty() {
            return Some(vec![Finding { recipients: named, ..whole }]);
        }
        let is_alone = blocks.len() == 1;
        let findings = blocks.into_iter().map(|(recipient, text)| {
            let recipients = if is_alone { named.clone() } else { vec![recipient] };
            match weigh(&text, recipients.clone()) {
                (true, finding) => finding,
                // The words around the recipients may say more; if not, the first of its own are shown.
                (false, _) if is_understood => Finding { recipients, ..whole.clone() },
                (false, finding) => {
                    let own = text
                        .lines()
                        .skip(1)
                        .map(|line| mask(line, &recipients))
                        .find(|line| line.contains(' '));
                    Finding { reason: own.unwrap_or_else(|| finding.reason.clone()), ..finding }
                }
            }
        });
        Some(findings.collect())
    }

    /// Whom the text for people names, or else the original's headers.
    fn named_in_text(&self) -> Vec<String> {
        let to = self.original_to();
        let ours = ["to", "delivered-to", "cc"];
        let ours: Vec<String> = values(&self.headers, &ours)
            .chain(
                self.original
                    .iter()
                    .flat_map(|original| values(original, &["from", "return-path", "sender", "reply-to"])),
            )
            .flat_map(address::all)
            .chain(self.from.iter().cloned())
            .chain(quoted_headers(&self.quoted, "from"))
            .collect();
        let is_of_others = |address: &String| {
            !address::is_of_a_mail_system(address)
                && !ours.iter().any(|known| address::is_same(known, address))
        };
        // Some quote the original's `To` before they name those who were not reached.
        let list = ["following recipient", "following address", "undeliverable to", "not delivered to"];
        let list =
            list.iter().filter_map(|phrase| find_ignoring_case(&self.text, phrase)).min().unwrap_or_default();
        let named_in = |text: &str| -> Vec<String> {
            let named = address::all(text).into_iter().filter(is_of_others);
            named.filter(|address| !is_a_message_id(text, address)).collect()
        };
        let named = Some(named_in(&self.text[list..])).filter(|named| !named.is_empty());
        let named = named.unwrap_or_else(|| named_in(&self.text));
        // Whom the original was sent to is meant, if the text names them; otherwise whoever stands at the beginning of a line.
        let sent_to: Vec<String> = named
            .iter()
            .filter(|address| to.iter().any(|to| address::is_same(to, address)))
            .cloned()
            .collect();
        if !sent_to.is_empty() {
            return sent_to;
        }
        let listed: Vec<String> = named
            .iter()
            .filter(|address| self.text.lines().any(|line| begins_with(line, address)))
            .cloned()
            .collect();
        match (listed.is_empty(), named.is_empty()) {
            (false, _) => listed,
            (true, false) => named.into_iter().take(1).collect(),
            (true, true) => to.into_iter().filter(is_of_others).collect(),
        }
    }

    /// Whom the original was sent to, as far as the report holds it.
    fn original_to(&self) -> Vec<String> {
        let in_part =
            self.original.iter().flat_map(|original| values(original, &["to"])).flat_map(address::all);
        in_part.chain(quoted_headers(&self.quoted, "to")).collect()
    }

    /// Whether a program that carries mail wrote it.
    fn is_from_a_mail_system(&self) -> bool {
        let name = values(&self.headers, &["from"]).next().map(wording::comparable).unwrap_or_default();
        let names = [
            "mail delivery",
            "mailer-daemon",
            "mail administrator",
            "postmaster",
            "system administrator",
            "mail system",
            "systemadministrator",
            "administrateur système",
            "administrador del sistema",
            "microsoft outlook",
            "exchange",
        ];
        values(&self.headers, &["x-failed-recipients"]).next().is_some()
            || self.from.iter().any(|address| address::is_of_a_mail_system(address))
            || names.iter().any(|known| name.contains(known))
            || (self.from.is_empty()
                && values(&self.headers, &["from"]).next().is_none_or(|from| !from.contains('@')))
    }

    fn begins_like_a_bounce(&self) -> bool {
        wording::has_any(&self.subject, wording::SUBJECTS)
            || wording::has_any(cut(&self.comparable, 2_000), wording::OPENINGS)
    }

    /// The sign that nobody wrote it: RFC 3834, or what was used before.
    fn automatic(&self) -> Option<String> {
        let header =
            |name: &str| values(&self.headers, &[name]).next().map(|value| value.trim().to_ascii_lowercase());
        if let Some(value) = header("auto-submitted").filter(|value| !value.starts_with("no")) {
            let word: String =
                value.chars().take_while(|c| c.is_ascii_alphabetic() || *c == '-').take(20).collect();
            return Some(format!("an automatic reply (Auto-Submitted: {word})"));
        }
        let names = [
            "x-autoreply",
            "x-autorespond",
            "x-autoresponder",
            "x-auto-reply",
            "x-autoreply-from",
            "x-mail-autoreply",
            "x-vacation",
            "x-ms-exchange-inbox-rules-loop",
            "x-auto-response",
        ];
        if let Some(name) =
            names.iter().find(|name| header(name).is_some_and(|value| !value.starts_with("no")))
        {
            return Some(format!("an automatic reply ({name})"));
        }
        let says_so = |value: &String| {
            ["auto_reply", "auto-reply", "autoreply", "vacation"].iter().any(|word| value.contains(word))
        };
        if ["precedence", "x-precedence", "x-mailer"]
            .iter()
            .filter_map(|name| header(name))
            .any(|value| says_so(&value))
        {
            return Some("an automatic reply (Precedence)".to_owned());
        }
        let subject = self.subject.trim_start_matches(['[', '(', '*', ' ']);
        if wording::AUTOMATIC_SUBJECTS.iter().any(|start| subject.starts_with(start)) {
            return Some("an automatic reply, by its subject".to_owned());
        }
        // The sender that says "do not answer" is no person's (RFC 5321, 4.5.5).
        let is_null = header("return-path").is_some_and(|value| value == "<>");
        (is_null && !self.begins_like_a_bounce()).then(|| "an automatic reply (Return-Path: <>)".to_owned())
    }

    fn reply(&self, sign: &str) -> Vec<Finding> {
        vec![Finding {
            kind: BounceKind::AutoReply,
            recipients: self.from.iter().take(1).cloned().collect(),
            status: None,
            reason: sign.to_owned(),
        }]
    }

    /// The Message-IDs of what it is about.
    fn message_ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = Vec::new();
        let in_original = self.original.iter().flat_map(|original| values(original, &["message-id"]));
        let in_reply = values(&self.headers, &["in-reply-to", "references"]);
        let quoted = [Some(&self.quoted), Some(&self.text), self.fields.as_ref(), self.feedback.as_ref()];
        let quoted = quoted.into_iter().flatten().flat_map(|text| text.lines()).filter(|line| {
            line.split(':')
                .next()
                .is_some_and(|name| name.to_ascii_lowercase().trim_end().ends_with("message-id"))
        });
        for id in in_original.chain(in_reply).chain(quoted).flat_map(in_angle_brackets) {
            if ids.len() < 20 && !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }
}

fn other(words: &str) -> Finding {
    Finding { kind: BounceKind::Other, recipients: Vec::new(), status: None, reason: words.to_owned() }
}

fn finding(evidence: Evidence<'_>, recipients: Vec<String>) -> Finding {
    finding_if_understood(evidence, recipients).1
}

/// The finding, and whether anything in the evidence was known.
fn finding_if_understood(evidence: Evidence<'_>, recipients: Vec<String>) -> (bool, Finding) {
    let verdict = verdict::weigh(evidence);
    let reason = verdict.quoted.as_deref().map_or(String::new(), |quoted| mask(quoted, &recipients));
    let reason = if reason.chars().any(char::is_alphanumeric) { reason } else { verdict.words.to_owned() };
    (verdict.is_understood, Finding { kind: verdict.kind, recipients, status: verdict.status, reason })
}

/// The words of a server without what could be personal: addresses, links, and what the recipient's address is made of.
pub fn mask(text: &str, private: &[String]) -> String {
    let pieces: Vec<String> = private
        .iter()
        .flat_map(|address| {
            let local = address.split('@').next().unwrap_or_default().to_lowercase();
            let pieces = local.split(['.', '_', '-', '+', ' ']).map(str::to_owned).collect::<Vec<_>>();
            std::iter::once(local).chain(pieces)
        })
        .filter(|piece| piece.chars().count() >= 3)
        .collect();
    let is_private = |word: &str| {
        let word = word.to_lowercase();
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        word.contains("://")
            || word.contains("%40")
            || word.contains("&#64;")
            || word.len() > 80
            || pieces.iter().any(|piece| {
                bare.split(|c: char| !c.is_alphanumeric()).any(|part| part == piece) || bare == piece
            })
            || pieces.iter().any(|piece| piece.chars().count() >= 6 && word.contains(piece.as_str()))
    };
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let masked: Vec<&str> =
        plain.split_whitespace().map(|word| if is_private(word) { "(…)" } else { word }).collect();
    let masked = masked::words(&masked.join(" "));
    masked.chars().take(REASON_AT_MOST).collect()
}

/// Whether what looks like an address is the Message-ID that the text quotes.
fn is_a_message_id(text: &str, address: &str) -> bool {
    text.lines().any(|line| line.contains(address) && line.to_ascii_lowercase().contains("message-id:"))
}

/// Where a phrase in lower case stands, in whatever case.
fn find_ignoring_case(text: &str, phrase: &str) -> Option<usize> {
    // Only ASCII changes here, so that places stay where they are.
    text.to_ascii_lowercase().find(phrase)
}

/// The text in pieces, one per recipient, where each has its own line with what follows.
fn blocks(text: &str, recipients: &[String]) -> Vec<(String, String)> {
    let mut blocks: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let begun = recipients.iter().find(|address| begins_with(line, address));
        match (begun, blocks.last_mut()) {
            (Some(address), Some((known, block))) if address::is_same(known, address) => {
                block.push_str(line);
                block.push('\n');
            }
            (Some(address), _) => match blocks.iter().position(|(known, _)| address::is_same(known, address))
            {
                // Named again behind others, as in a transcript: what follows is this one's.
                Some(at) => {
                    let (address, mut block) = blocks.remove(at);
                    block.push_str(line);
                    block.push('\n');
                    blocks.push((address, block));
                }
                None => blocks.push((address.clone(), format!("{line}\n"))),
            },
            (None, Some((_, block))) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

/// Whether a line begins with this address, apart from what stands around addresses.
fn begins_with(line: &str, address: &str) -> bool {
    let line = line.trim_start_matches(|c: char| c.is_whitespace() || "<*-•·'\"([>|".contains(c));
    let line = line.strip_prefix("mailto:").unwrap_or(line);
    line.get(..address.len()).is_some_and(|start| start.eq_ignore_ascii_case(address))
}

/// The text for people, and what of the original stands behind it in the same part.
fn split_original(text: &str) -> (&str, &str) {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if begins_the_original(line) {
            return text.split_at(at);
        }
        at += line.len();
    }
    (text, "")
}

fn begins_the_original(line: &str) -> bool {
    const MARKERS: &[&str] = &[
        "is a copy of",
        "copy of the message:",
        "copy of the message follows",
        "copy of the original message follows",
        "original message follows",
        "original message header",
        "original message is included",
        "header of the original message",
        "headers of the original message",
        "message header follows",
        "message headers follow",
        "returned message follows",
        "unsent message follows",
        "unsent message below",
        "returned message below",
        "start of returned",
        "returned message header",
        "original mail header",
        "original message text",
        "original message body",
        "text of your message",
        "the body of your message",
        "message d'origine",
        "en-tête du message",
        "ursprünglichen nachricht",
        "ursprüngliche nachricht",
        "mensaje original",
        "mensagem original",
        "messaggio originale",
        "oorspronkelijk bericht",
        "included is a copy",
        "followed by the message header",
        "your message begins",
        "message text follows",
        "message follows",
        "here is your returned mail",
    ];
    let line = line.trim();
    if line.len() < 200 && line.to_ascii_lowercase().starts_with("return-path:")
        || line.starts_with("Received: from ")
    {
        return true;
    }
    // The longest of these lines is a sentence; a paragraph on one line is none.
    if line.len() > 160 || !line.contains(' ') {
        return false;
    }
    let comparable = wording::comparable(line);
    let is_ruled = comparable.starts_with("--")
        && comparable.contains("original message")
        && !comparable.contains("received");
    is_ruled || MARKERS.iter().any(|marker| comparable.contains(marker))
}

/// The fields of RFC 3464 where they stand in the text itself.
fn field_lines(text: &str) -> Option<String> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let name = line.split(':').next().unwrap_or_default().trim().to_ascii_lowercase();
        if name == "final-recipient" || name == "original-recipient" {
            return Some(cut(&text[at..], TEXT_AT_MOST).to_owned());
        }
        at += line.len();
    }
    None
}

/// The first lines `name: …` of a quoted original.
fn quoted_headers(quoted: &str, name: &str) -> Vec<String> {
    let mut lines = quoted.lines().map(|line| line.trim_start_matches(['>', ' ', '\t', '|']));
    let line = lines.find(|line| {
        line.get(..name.len() + 1).is_some_and(|start| start.eq_ignore_ascii_case(&format!("{name}:")))
    });
    line.map(address::all).unwrap_or_default()
}

/// Headers as lines, for what has no blank line behind them.
fn header_lines(text: &str) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in text.lines().take(500) {
        if let (Some((_, value)), true) = (headers.last_mut(), line.starts_with([' ', '\t'])) {
            value.push(' ');
            value.push_str(line.trim());
        } else if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    headers
}

/// The headers of a part, names in lower case, values decoded and on one line.
fn headers(part: &MessagePart<'_>, raw: &[u8]) -> Vec<(String, String)> {
    part.headers
        .iter()
        .take(500)
        .map(|header| (header.name.as_str().to_ascii_lowercase(), value(header, raw)))
        .collect()
}

fn value(header: &Header<'_>, raw: &[u8]) -> String {
    let as_text = match (&header.name, &header.value) {
        (HeaderName::Subject, HeaderValue::Text(text)) => Some(text.to_string()),
        _ => None,
    };
    as_text.unwrap_or_else(|| {
        let (from, to) = (header.offset_start as usize, header.offset_end as usize);
        let raw = String::from_utf8_lossy(raw.get(from..to).unwrap_or_default());
        cut(&raw, 10_000).split_whitespace().collect::<Vec<_>>().join(" ")
    })
}

fn values<'a>(headers: &'a [(String, String)], names: &'a [&str]) -> impl Iterator<Item = &'a str> {
    headers.iter().filter(|(name, _)| names.contains(&name.as_str())).map(|(_, value)| value.as_str())
}

/// What stands between `<` and `>` and could be a Message-ID.
fn in_angle_brackets(text: &str) -> Vec<String> {
    let pieces = text.split('<').skip(1).filter_map(|piece| piece.split_once('>')).map(|(id, _)| id);
    pieces
        .filter(|id| id.contains('@') && id.len() < 250 && !id.contains(char::is_whitespace))
        .map(str::to_owned)
        .collect()
}

/// What may be the token of a return path, wherever it stands: in the headers of the report, in the fields, in the original.
fn return_path_tokens(bytes: &[u8], taken: &Taken) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let decoded = [Some(&taken.text), taken.fields.as_ref(), taken.feedback.as_ref()];
    let texts = decoded.into_iter().flatten().map(|text| text.as_bytes());
    for text in std::iter::once(bytes).chain(texts) {
        for (at, _) in text.iter().enumerate().filter(|(_, byte)| **byte == b'+') {
            let Some(token) = text.get(at + 1..at + 1 + RETURN_PATH_TOKEN) else { continue };
            // `=` is how relays that rewrite senders put the at sign.
            let ends = matches!(text.get(at + 1 + RETURN_PATH_TOKEN), Some(b'@' | b'='));
            if ends && token.iter().all(u8::is_ascii_hexdigit) {
                let token = String::from_utf8_lossy(token).to_ascii_lowercase();
                if tokens.len() < 20 && !tokens.contains(&token) {
                    tokens.push(token);
                }
            }
        }
    }
    tokens
}

/// How often a word in lower case occurs, in whatever case.
fn count(bytes: &[u8], word: &[u8]) -> usize {
    bytes.windows(word.len()).filter(|window| window.eq_ignore_ascii_case(word)).count()
}

/// The beginning of a text, at most so many bytes.
fn cut(text: &str, longest: usize) -> &str {
    let mut end = text.len().min(longest);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
