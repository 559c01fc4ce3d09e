//! An invitation's mail. Comes in: the facts of one order and its shop. Goes out: the bytes of one message and its envelope.
//!
//! Nothing here asks a clock, a database or a random number: the same facts at the same moment give the same bytes, and a mail that is
//! tried again differs in its date alone (where the mails are signed here, in the signature, too). The message names who asks and why, about which order, what the answer is used for, and how to opt out; the headers
//! carry the same opt-out for the mail programs (RFC 8058).

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use lettre::Address;
use lettre::address::Envelope;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message, MultiPart};

use crate::config::Shop;
use crate::mail::dkim::Signer;
use crate::mail::quoted_printable;
use crate::mail::templates::palette::Palette;
use crate::mail::templates::views::{Direction, MailAnswer, MailQuestion, ShopView, SurveyInvitation};
use crate::mail::templates::words::Words;
use crate::mail::templates::{MailTexts, TemplateError, Templates, render_wording};
use crate::survey::{Choice, Question, QuestionKind, Questionnaire};
use crate::token::{Purpose, Tokens};
use crate::types::{InvitationId, Locale, ShopId, for_envelope};

/// What is asked, of whom, about which order.
pub struct Facts<'a> {
    pub shop_id: ShopId,
    pub invitation_id: InvitationId,
    pub questionnaire: &'a Questionnaire,
    /// The shop's own number of the order.
    pub order: &'a str,
    pub ordered_at: DateTime<Utc>,
    /// Whether it asks once more.
    pub reminder: bool,
    /// Without angle brackets, when an earlier try has fixed it.
    pub message_id: Option<&'a str>,
    pub first_name: Option<&'a str>,
    /// The order's; what is no language tag counts as none.
    pub locale: Option<&'a str>,
    pub email: &'a str,
}

/// A message that can be handed to a relay.
pub struct Composed {
    /// Without angle brackets; the same for every attempt.
    pub message_id: String,
    pub envelope_from: Address,
    pub envelope_to: Address,
    pub bytes: Vec<u8>,
}

/// Why there is no message. Holds no address.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// This recipient cannot be written to; others can.
    #[error("the customer's address cannot be put into an envelope")]
    Recipient,
    /// No mail of this shop can be sent.
    #[error("{0:?}, the return path or an address of the shop, cannot be put into an envelope")]
    ReturnPath(String),
    /// No mail in this language can be sent.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A wording of the survey cannot be used.
    #[error("the wording of the question {question:?}: {problem}")]
    Wording { question: String, problem: String },
    /// The mail library refused the message.
    #[error("the message cannot be built: {0}")]
    Build(#[from] lettre::error::Error),
}

/// How the mails of a shop leave: what is the same for all of them.
pub struct Letterhead<'a> {
    pub shop: &'a Shop,
    /// Where customers reach the pages.
    pub base_url: &'a str,
    /// The envelope sender; `None`: the shop's `from`.
    pub return_path: Option<&'a str>,
    /// Who signs; `None`: the relay, or nobody.
    pub signer: Option<&'a Signer>,
}

/// Where what comes back of an invitation's mail goes: the address says which mail it is about.
pub fn with_token(path: &str, tokens: &Tokens, shop: ShopId, invitation: InvitationId) -> String {
    path.replacen('@', &format!("+{}@", tokens.issue_return_path(shop, invitation)), 1)
}

/// The mail that asks for an opinion on one order.
///
/// # Errors
/// See [`ComposeError`]; only `Recipient` is about this one mail.
pub fn compose(
    templates: &Templates,
    tokens: &Tokens,
    letterhead: &Letterhead<'_>,
    facts: &Facts<'_>,
    now: DateTime<Utc>,
) -> Result<Composed, ComposeError> {
    let shop = letterhead.shop;
    let token = |purpose| tokens.issue(purpose, facts.shop_id, facts.invitation_id);
    let unsubscribe_url = format!("{}/u/{}", letterhead.base_url, token(Purpose::Unsubscribe));
    let texts = texts(templates, tokens, letterhead, facts)?;

    let to: Address = facts.email.parse().map_err(|_| ComposeError::Recipient)?;
    let to = for_envelope(&to).ok_or(ComposeError::Recipient)?;
    let from = in_envelope(&shop.from)?;
    let envelope_from = match letterhead.return_path {
        Some(path) => {
            let path = with_token(path, tokens, facts.shop_id, facts.invitation_id);
            let address = path.parse().ok().and_then(|path| for_envelope(&path));
            address.ok_or(ComposeError::ReturnPath(path))?
        }
        None => from.email.clone(),
    };
    let id = token(Purpose::MessageId);
    let message_id = facts.message_id.map_or_else(|| format!("{id}@{}", from.email.domain()), str::to_owned);
    let mut builder = Message::builder()
        // Given, so that it is not read out of the headers once more.
        .envelope(Envelope::new(Some(envelope_from.clone()), vec![to.clone()])?)
        .date(SystemTime::from(now))
        .from(from)
        .to(Mailbox::new(greeting(facts.first_name), to.clone()))
        .subject(clean(&texts.subject, 200))
        .message_id(Some(format!("<{message_id}>")));
    if let Some(reply_to) = &shop.reply_to {
        builder = builder.reply_to(in_envelope(reply_to)?);
    }
    let mut message = builder
        .raw_header(verbatim("List-Unsubscribe", format!("<{unsubscribe_url}>")))
        .raw_header(verbatim("List-Unsubscribe-Post", "List-Unsubscribe=One-Click".to_owned()))
        .raw_header(verbatim("Auto-Submitted", "auto-generated".to_owned()))
        .multipart(
            MultiPart::alternative()
                .boundary(format!("=_{id}"))
                .singlepart(quoted_printable::part(ContentType::TEXT_PLAIN, &texts.text))
                .singlepart(quoted_printable::part(ContentType::TEXT_HTML, &texts.html)),
        )?;
    if let Some(signer) = letterhead.signer {
        signer.sign(&mut message);
    }
    Ok(Composed { message_id, envelope_from, envelope_to: to, bytes: message.formatted() })
}

/// What the mail says, in the customer's language.
///
/// # Errors
/// When a template or a wording cannot be used.
pub fn texts(
    templates: &Templates,
    tokens: &Tokens,
    letterhead: &Letterhead<'_>,
    facts: &Facts<'_>,
) -> Result<MailTexts, ComposeError> {
    let Letterhead { shop, base_url, .. } = letterhead;
    let wanted = facts.locale.and_then(|locale| Locale::parse(locale).ok());
    let (locale, words) = templates.language(wanted.as_ref(), &shop.locale);
    let token = |purpose| tokens.issue(purpose, facts.shop_id, facts.invitation_id);
    let survey_url = format!("{base_url}/s/{}", token(Purpose::Survey));
    let shop_view = ShopView { name: clean(&shop.name, 100), ..ShopView::of(shop) };
    let question = match facts.questionnaire.in_mail() {
        Some(question) => mail_question(question, shop, &shop_view.name, locale, words, &survey_url)?,
        None => None,
    };
    let intro = match &facts.questionnaire.intro {
        Some(texts) => {
            let wording = render_wording(texts.get(locale, &shop.locale), &shop_view.name);
            let question = "(intro)".to_owned();
            Some(wording.map_err(|problem| ComposeError::Wording { question, problem })?)
        }
        None => None,
    };
    let view = SurveyInvitation {
        locale: locale.to_string(),
        direction: Direction::of(locale),
        shop: shop_view,
        palette: Palette::of(&shop.color),
        reminder: facts.reminder,
        intro,
        first_name: greeting(facts.first_name),
        order: clean(facts.order, 60),
        date: words.date(facts.ordered_at, shop.timezone),
        question,
        survey_url,
        unsubscribe_url: format!("{base_url}/u/{}", token(Purpose::Unsubscribe)),
    };
    Ok(templates.mail(locale, &view)?)
}

/// The name to greet by, if it is one.
pub fn greeting(first_name: Option<&str>) -> Option<String> {
    let name = first_name.and_then(SafeName::new).filter(|name| !name.leads_somewhere());
    name.map(|name| name.0)
}

/// The answers of a question that can be given with one touch; `None` for a question that needs typing.
fn mail_question(
    question: &Question,
    shop: &Shop,
    shop_name: &str,
    locale: &Locale,
    words: &Words,
    survey_url: &str,
) -> Result<Option<MailQuestion>, ComposeError> {
    let Some(options) = options(question, locale, &shop.locale, words) else { return Ok(None) };
    // On one line: it is also the subject.
    let text = render_wording(question.text.get(locale, &shop.locale), shop_name)
        .map(|text| clean(&text, 500))
        .map_err(|problem| ComposeError::Wording { question: question.key.clone(), problem })?;
    // Far from the numbers they stand for, the words at the ends need these numbers.
    let numbered = |option: Option<&(String, String)>, word: String| match option {
        Some((_, number)) if !word.is_empty() => format!("{number} = {word}"),
        _ => word,
    };
    let (low, high) = ends(question, words);
    let (low, high) = (numbered(options.first(), low), numbered(options.last(), high));
    let answers = options
        .into_iter()
        .map(|(value, label)| MailAnswer { label, url: format!("{survey_url}?{}={value}", question.key) });
    let list = matches!(question.kind, QuestionKind::Choice { .. });
    Ok(Some(MailQuestion { text, answers: answers.collect(), scale: !low.is_empty(), list, low, high }))
}

/// What can be chosen, as value and label; `None` when the answer is typed or ticked.
pub fn options(
    question: &Question,
    locale: &Locale,
    fallback: &Locale,
    words: &Words,
) -> Option<Vec<(String, String)>> {
    match &question.kind {
        QuestionKind::Recommend => {
            Some(vec![("yes".to_owned(), words.yes.clone()), ("no".to_owned(), words.no.clone())])
        }
        QuestionKind::Nps | QuestionKind::Rating => {
            question.kind.options().map(|scores| scores.into_iter().map(|n| (n.clone(), n)).collect())
        }
        QuestionKind::Choice { choices } => {
            let label = |choice: &Choice| match &choice.text {
                Some(texts) => texts.get(locale, fallback).to_owned(),
                None => words.choices.get(&choice.key).unwrap_or(&choice.key).clone(),
            };
            Some(choices.iter().map(|choice| (choice.key.clone(), label(choice))).collect())
        }
        QuestionKind::Text { .. } | QuestionKind::Consent { .. } => None,
    }
}

/// The words at the ends of a scale; empty for what is no scale.
pub fn ends(question: &Question, words: &Words) -> (String, String) {
    match question.kind {
        QuestionKind::Rating => (words.rating_low.clone(), words.rating_high.clone()),
        QuestionKind::Nps => (words.nps_low.clone(), words.nps_high.clone()),
        _ => (String::new(), String::new()),
    }
}

/// A header that goes out exactly as it is: on one line, because mail programs read the address in it with less patience than the
/// standard asks for.
pub fn verbatim(name: &'static str, value: String) -> HeaderValue {
    HeaderValue::dangerous_new_pre_encoded(HeaderName::new_from_ascii_str(name), value.clone(), value)
}

/// A mailbox of the shop as any relay takes it.
pub fn in_envelope(mailbox: &Mailbox) -> Result<Mailbox, ComposeError> {
    let name = mailbox.name.as_deref().and_then(SafeName::new);
    let email =
        for_envelope(&mailbox.email).ok_or_else(|| ComposeError::ReturnPath(mailbox.email.to_string()))?;
    Ok(Mailbox::new(name.map(|name| name.0), email))
}

/// A name that can stand in a header. The mail library panics on a line break in a name, and what a shop's file calls a name can hold
/// anything.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SafeName(String);

impl SafeName {
    /// At most 100 characters of it, on one line; `None` when nothing is left.
    fn new(name: &str) -> Option<Self> {
        let name = clean(name, 100);
        (!name.is_empty()).then_some(Self(name))
    }

    /// Whether a mail program could make a link of it. Anybody can order under the name of an address, and have it sent by the shop.
    fn leads_somewhere(&self) -> bool {
        let is_domain = |word: &str| {
            let letters = |label: &str| label.chars().take_while(|c| c.is_alphanumeric()).count();
            word.split('.').skip(1).any(|label| letters(label) >= 2)
        };
        self.0.contains('@') || self.0.contains("://") || self.0.split(' ').any(is_domain)
    }
}

/// On one line: control characters and line separators become spaces, characters that turn the direction of the text around are
/// dropped, spaces are not repeated. What would begin an encoded word (RFC 2047) is taken apart: it is written as it is, and a mail program
/// would show what it stands for.
pub fn clean(text: &str, longest: usize) -> String {
    let mut cleaned = String::with_capacity(text.len().min(4 * longest));
    for c in text.chars() {
        match c {
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{feff}' => {}
            c if c.is_control() || c.is_whitespace() => {
                if !cleaned.is_empty() && !cleaned.ends_with(' ') {
                    cleaned.push(' ');
                }
            }
            '?' if cleaned.ends_with('=') => cleaned.push_str(" ?"),
            c => cleaned.push(c),
        }
    }
    let end = cleaned.char_indices().nth(longest).map_or(cleaned.len(), |(at, _)| at);
    cleaned[..end].trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use mail_parser::MessageParser;
    use proptest::prelude::*;

    use super::*;
    use crate::survey::Texts;

    fn texts(pairs: &[(&str, &str)]) -> Texts {
        Texts(pairs.iter().map(|(l, t)| (Locale::parse(l).unwrap(), (*t).to_owned())).collect())
    }

    fn question(kind: QuestionKind) -> Question {
        Question {
            key: "recommend".to_owned(),
            kind,
            required: true,
            in_mail: true,
            when: None,
            text: texts(&[
                ("fr", "Recommanderiez-vous {{shop.name}} à un proche ?"),
                ("en", "Would you recommend {{shop.name}} to a friend?"),
            ]),
        }
    }

    fn shop() -> Shop {
        Shop {
            key: "maison".to_owned(),
            name: "Maison Exemple".to_owned(),
            locale: Locale::parse("fr").unwrap(),
            timezone: chrono_tz::Europe::Paris,
            from: "Maison Exemple <avis@shop.example>".parse().unwrap(),
            reply_to: Some("service@shop.example".parse().unwrap()),
            url: "https://shop.example".to_owned(),
            color: "#0b6b5c".to_owned(),
            logo: Some("https://shop.example/logo.png".to_owned()),
            address: Some("12 rue de l’Exemple, 75002 Paris".to_owned()),
            privacy_url: Some("https://shop.example/confidentialite".to_owned()),
            review_places: Vec::new(),
            unhappy_next: None,
        }
    }

    fn templates() -> &'static Templates {
        static TEMPLATES: std::sync::LazyLock<Templates> =
            std::sync::LazyLock::new(|| Templates::load(None).unwrap());
        &TEMPLATES
    }

    fn letterhead(shop: &Shop) -> Letterhead<'_> {
        Letterhead { shop, base_url: "https://avis.shop.example", return_path: None, signer: None }
    }

    fn composed(kind: QuestionKind, locale: Option<&str>, hostile: Option<&str>) -> Composed {
        composed_for(&shop(), kind, locale, hostile, "claire.dubois@customer.example")
    }

    fn composed_for(
        shop: &Shop,
        kind: QuestionKind,
        locale: Option<&str>,
        hostile: Option<&str>,
        email: &str,
    ) -> Composed {
        let questionnaire = Questionnaire { intro: None, questions: vec![question(kind)] };
        let facts = Facts {
            reminder: false,
            message_id: None,
            shop_id: ShopId(1),
            invitation_id: InvitationId(42),
            questionnaire: &questionnaire,
            order: hostile.unwrap_or("A-1001"),
            ordered_at: "2026-02-28T23:30:00Z".parse().unwrap(),
            first_name: Some(hostile.unwrap_or("Claire")),
            locale,
            email,
        };
        let now = "2026-03-09T08:00:00Z".parse().unwrap();
        compose(templates(), &Tokens::new(b"secret"), &letterhead(shop), &facts, now).unwrap()
    }

    /// The mail as a person would read it: its headers as they are, then its two parts.
    fn readable(composed: &Composed) -> String {
        let raw = String::from_utf8(composed.bytes.clone()).unwrap();
        let headers = raw.split_once("\r\n\r\n").unwrap().0.replace("\r\n", "\n");
        let parsed = MessageParser::new().parse(&composed.bytes).unwrap();
        let part = |text: std::borrow::Cow<'_, str>| text.replace("\r\n", "\n");
        format!("{headers}\n\n{}\n{}", part(parsed.body_text(0).unwrap()), part(parsed.body_html(0).unwrap()))
    }

    #[test]
    fn the_mail_in_french() {
        insta::assert_snapshot!(readable(&composed(QuestionKind::Recommend, None, None)));
    }

    #[test]
    fn the_mail_in_english() {
        insta::assert_snapshot!(readable(&composed(QuestionKind::Recommend, Some("en-GB"), None)));
    }

    #[test]
    fn the_mail_without_a_question_leads_to_the_page() {
        let mail = readable(&composed(QuestionKind::Text { max_length: 10 }, Some("en"), None));
        assert!(mail.contains("Give my opinion") && !mail.contains("recommend"), "{mail}");
    }

    #[test]
    fn a_scale_has_a_link_per_number() {
        let mail = readable(&composed(QuestionKind::Nps, None, None));
        for score in 0..=10 {
            assert!(mail.contains(&format!("\n{score} : https://")), "{score}: {mail}");
        }
        assert!(mail.contains("0 = Pas du tout probable, 10 = Très probable"), "{mail}");
    }

    #[test]
    fn the_same_facts_give_the_same_bytes() {
        let once = composed(QuestionKind::Recommend, None, None);
        let again = composed(QuestionKind::Recommend, None, None);
        assert_eq!(once.bytes, again.bytes);
        assert!(once.message_id.ends_with("@shop.example"), "{}", once.message_id);
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_shown() {
        let questionnaire = Questionnaire { intro: None, questions: vec![question(QuestionKind::Recommend)] };
        let facts = Facts {
            reminder: false,
            message_id: None,
            shop_id: ShopId(1),
            invitation_id: InvitationId(1),
            questionnaire: &questionnaire,
            order: "1",
            ordered_at: DateTime::UNIX_EPOCH,
            first_name: None,
            locale: None,
            email: "canary@shop.example\r\nBcc: x@y.example",
        };
        let tokens = Tokens::new(b"secret");
        let error = compose(templates(), &tokens, &letterhead(&shop()), &facts, DateTime::UNIX_EPOCH);
        let error = error.err().unwrap();
        assert!(matches!(error, ComposeError::Recipient));
        assert!(!format!("{error} {error:?}").contains("canary"));
    }

    /// The names of the headers, in their order.
    fn header_names(composed: &Composed) -> Vec<String> {
        let raw = String::from_utf8(composed.bytes.clone()).unwrap();
        let head = raw.split_once("\r\n\r\n").unwrap().0.to_owned();
        let lines = head.split("\r\n").filter(|line| !line.starts_with([' ', '\t']));
        lines.map(|line| line.split(':').next().unwrap().to_owned()).collect()
    }

    /// Whatever the name, the order, the question and the shop are called: as many headers as ever, one recipient, and the links on one
    /// line.
    fn check_hostile(text: &str) {
        let plain = composed(QuestionKind::Recommend, None, None);
        let mut hostile_shop = shop();
        hostile_shop.name = text.to_owned();
        hostile_shop.from.name = Some(text.to_owned());
        hostile_shop.reply_to.as_mut().unwrap().name = Some(text.to_owned());
        let address = "claire.dubois@customer.example";
        for shop in [shop(), hostile_shop] {
            let hostile = composed_for(&shop, QuestionKind::Recommend, None, Some(text), address);
            let mut names = header_names(&hostile);
            assert_eq!(header_names(&plain), names, "{text:?}");
            names.dedup();
            assert_eq!(names.len(), 11, "{names:?}");
            let parsed = MessageParser::new().parse(&hostile.bytes).unwrap();
            assert_eq!(parsed.to().unwrap().as_list().unwrap().len(), 1, "{text:?}");
            assert_eq!(parsed.to().unwrap().first().unwrap().address(), Some(address), "{text:?}");
            assert_eq!(
                parsed.from().unwrap().first().unwrap().address(),
                Some("avis@shop.example"),
                "{text:?}"
            );
            for decoded in
                [parsed.subject(), parsed.to().unwrap().first().unwrap().name()].into_iter().flatten()
            {
                assert!(!decoded.contains(char::is_control), "{text:?}");
            }
            let raw = String::from_utf8(hostile.bytes).unwrap();
            let line = raw.lines().find(|line| line.starts_with("List-Unsubscribe: ")).unwrap();
            assert!(
                line.starts_with("List-Unsubscribe: <https://avis.shop.example/u/") && line.ends_with('>')
            );
        }
    }

    #[test]
    fn no_control_character_makes_a_header() {
        let controls: Vec<char> = (0..=0x9f).filter_map(char::from_u32).filter(|c| c.is_control()).collect();
        assert_eq!(controls.len(), 65);
        for c in controls {
            check_hostile(&format!("Eve{c}Bcc: victim@shop.example{c}{c} x"));
            check_hostile(&c.to_string());
        }
    }

    #[test]
    fn a_domain_in_other_characters_is_mailed_as_dns_writes_it() {
        let mut shop = shop();
        shop.from = Mailbox::new(None, "avis@bücher.example".parse().unwrap());
        let mail = composed_for(&shop, QuestionKind::Recommend, None, None, "claire@Épicerie.example");
        assert_eq!(mail.envelope_to.to_string(), "claire@xn--picerie-9xa.example");
        assert_eq!(mail.envelope_from.to_string(), "avis@xn--bcher-kva.example");
        assert!(mail.message_id.ends_with("@xn--bcher-kva.example"));
        let raw = String::from_utf8(mail.bytes).unwrap();
        let head = raw.split_once("\r\n\r\n").unwrap().0;
        assert!(head.contains("\nTo: Claire <claire@xn--picerie-9xa.example>\r\n"), "{head}");
        assert!(head.is_ascii(), "any relay takes it: {head}");
        // Only what stands before the @ may need SMTPUTF8.
        let mail = composed_for(&shop, QuestionKind::Recommend, None, None, "zoë@épicerie.example");
        assert_eq!(mail.envelope_to.to_string(), "zoë@xn--picerie-9xa.example");
    }

    #[test]
    fn the_mail_is_small_and_holds_without_a_stylesheet() {
        let long = "Répondez « oui » & <non> ".repeat(12);
        let mail = composed_for(&shop(), QuestionKind::Nps, None, Some(&long), "claire@customer.example");
        let html = MessageParser::new().parse(&mail.bytes).unwrap().body_html(0).unwrap().into_owned();
        // Gmail cuts what is longer than 102 KB.
        assert!(html.len() < 60_000, "{} bytes", html.len());
        // What Outlook's Word needs said as attributes, and what no program may lose with the stylesheet.
        let body = &html[html.find("<body").unwrap()..];
        for part in [
            "bgcolor=\"#0b6b5c\"",
            "bgcolor=\"#ffffff\"",
            "width=\"560\"",
            "mso-padding-alt: 10px 0",
            "alt=\"Maison Exemple\"",
            "height=\"40\"",
            "role=\"presentation\"",
        ] {
            assert!(body.contains(part), "no {part}");
        }
        for tag in body.split("<a ").skip(1).map(|rest| rest.split('>').next().unwrap()) {
            assert!(tag.contains("style=\"") && tag.contains("color:"), "a link without its colour: {tag}");
        }
        for tag in body.split("<table ").skip(1).map(|rest| rest.split('>').next().unwrap()) {
            assert!(tag.contains("role=\"presentation\""), "a table that is read out as one: {tag}");
        }
        let preheader = body.find("Au sujet de votre commande").unwrap();
        assert!(preheader < body.find("Bonjour").unwrap() && body[..preheader].contains("display: none"));
    }

    #[test]
    fn answers_in_words_stand_below_each_other() {
        let choice = |key: &str| Choice { key: key.to_owned(), text: None };
        let kind = QuestionKind::Choice { choices: vec![choice("delivery"), choice("returns")] };
        let mail = readable(&composed(kind, None, None));
        assert!(mail.contains("Le retour ou le remboursement") && mail.contains("width=\"360\""), "{mail}");
    }

    #[test]
    fn a_shop_that_says_less_about_itself_leaves_no_gap() {
        let bare = Shop { logo: None, address: None, privacy_url: None, ..shop() };
        let mail = composed_for(&bare, QuestionKind::Recommend, Some("en"), None, "claire@customer.example");
        let mail = readable(&mail);
        for part in ["<img", "privacy", "rue de", "\n\n\n\n"] {
            assert!(!mail.contains(part), "{part:?} in {mail}");
        }
    }

    #[test]
    fn hostile_names_stay_names() {
        let long = "x".repeat(300);
        for text in [
            "Eve\r\nBcc: victim@shop.example",
            "Eve\nSubject: hello",
            "\0\u{85}\u{2028}\u{2029}",
            "\"Eve\" <eve@other.example>",
            "Eve, Adam; Seth: @ \\ \" ( <",
            "👩\u{200d}👩\u{200d}👧 Éloïse 王小明",
            "\u{202e}evil",
            "{{#each}} {{> x}} <script>alert(1)</script>",
            "=?utf-8?q?=0d=0aBcc:_x?=",
            &long,
            "",
        ] {
            check_hostile(text);
        }
        assert_eq!(SafeName::new(&long).unwrap().0.len(), 100);
        assert_eq!(SafeName::new(" \r\n\t"), None);
    }

    #[test]
    fn a_name_that_is_an_address_is_not_greeted() {
        for text in
            ["win at prize.example", "https://prize.example/x", "www.prize.example", "eve@other.example"]
        {
            let mail = readable(&composed(QuestionKind::Recommend, None, Some(text)));
            assert!(mail.contains("\nBonjour,") && !mail.contains("Bonjour win"), "{text}: {mail}");
            assert!(mail.contains("\nTo: claire.dubois@customer.example\n"), "{text}: {mail}");
        }
        for name in ["Jean-Pierre", "J.P.", "J. R. R.", "Dr. Claire", "M.", "Zoë"] {
            assert!(!SafeName::new(name).unwrap().leads_somewhere(), "{name}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_name_is_a_name(text in any::<String>()) {
            check_hostile(&text);
        }
    }
}
