//! The words every room uses: ids, addresses, locales and the clock.

use std::fmt;
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Declares a typed id, so that an order's number cannot be passed where a customer's is wanted.
macro_rules! decl_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type)]
        #[sqlx(transparent)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

decl_id!(/// The number the database gave to a shop's key.
    ShopId(i32));
decl_id!(/// A customer of one shop.
    CustomerId(i64));
decl_id!(/// An order, as the database numbers it; the shop's own name for it is its `external_id`.
    OrderId(i64));
decl_id!(/// One decision about one order, survey and wave.
    InvitationId(i64));
decl_id!(/// A questionnaire as it was when it was asked.
    SurveyVersionId(i64));
decl_id!(/// One revision of an answered questionnaire.
    ResponseId(i64));
decl_id!(/// A file that was read.
    ImportRunId(i64));
decl_id!(/// One occurrence of a job.
    JobRunId(i64));

/// A mail address that can be written to. It does not show itself: `Debug` is masked, there is no `Display`, and whoever needs the
/// address says [`EmailAddress::expose`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EmailAddress(String);

impl EmailAddress {
    /// Reads an address; white space around it is dropped.
    ///
    /// # Errors
    /// Says in words what is wrong, without repeating the address.
    pub fn parse(text: &str) -> Result<Self, BadAddress> {
        let text = text.trim();
        if text.len() > 254 {
            return Err(BadAddress("is longer than 254 characters"));
        }
        if text.chars().any(char::is_control) {
            return Err(BadAddress("contains a control character"));
        }
        let options = email_address::Options::default()
            .with_required_tld()
            .without_display_text()
            .without_domain_literal();
        match email_address::EmailAddress::parse_with_options(text, options) {
            // The mail library is the second judge: what it cannot put into an envelope is no address for us.
            Ok(_) if text.parse::<lettre::Address>().is_ok_and(|address| has_domain(&address)) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(BadAddress("is not a mail address")),
        }
    }

    /// The address itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The form under which addresses are compared: lower case, the domain as DNS writes it, so that `jörg@bücher.example` and
    /// `jörg@xn--bcher-kva.example` are one customer.
    pub fn key(&self) -> String {
        let lower = self.0.to_lowercase();
        match lower.rsplit_once('@') {
            Some((user, domain)) if !domain.is_ascii() => {
                // It was judged when it was parsed.
                let domain = idna::domain_to_ascii(domain).unwrap_or_else(|_| domain.to_owned());
                format!("{user}@{domain}")
            }
            _ => lower,
        }
    }

    /// SHA-256 of [`EmailAddress::key`], under which the do-not-contact list knows the address.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.key().as_bytes()).into()
    }
}

/// Whether the domain can be written as DNS wants it.
fn has_domain(address: &lettre::Address) -> bool {
    address.domain().is_ascii() || for_envelope(address).is_some()
}

/// An address with its domain as DNS writes it (RFC 5891's A-labels): any relay takes that, while a domain in other characters
/// would need SMTPUTF8. `None`: it is no domain.
pub fn for_envelope(address: &lettre::Address) -> Option<lettre::Address> {
    if address.domain().is_ascii() {
        return Some(address.clone());
    }
    let domain = idna::domain_to_ascii(address.domain()).ok()?;
    lettre::Address::new(address.user(), domain).ok()
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmailAddress(…)")
    }
}

/// Why a text is no address, as the end of a sentence that starts with the name of the column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadAddress(pub &'static str);

/// A BCP 47 language tag as the shops write it: `fr`, `en`, `pt-BR`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Locale(String);

impl Locale {
    /// Reads a tag; `fr_FR` is taken for `fr-FR`.
    ///
    /// # Errors
    /// When it does not look like a tag.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.trim().split(['-', '_']);
        let language = parts.next().unwrap_or_default().to_ascii_lowercase();
        let well_formed = |part: &str, longest: usize| {
            (2..=longest).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
        };
        if !well_formed(&language, 3) || !language.bytes().all(|b| b.is_ascii_lowercase()) {
            return Err(format!("{text:?} is not a language tag such as \"fr\" or \"pt-BR\""));
        }
        let mut tag = language;
        for part in parts {
            if !well_formed(part, 8) {
                return Err(format!("{text:?} is not a language tag such as \"fr\" or \"pt-BR\""));
            }
            tag.push('-');
            tag.push_str(&if part.len() == 2 { part.to_ascii_uppercase() } else { part.to_owned() });
        }
        Ok(Self(tag))
    }

    /// `en`
    pub fn english() -> Self {
        Self("en".to_owned())
    }

    /// The whole tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag's language alone: `pt` of `pt-BR`.
    pub fn language(&self) -> &str {
        self.0.split('-').next().unwrap_or(&self.0)
    }

    /// Whether it is written from right to left: by its script where the tag names one (`az-Arab`), else by its language.
    pub fn is_right_to_left(&self) -> bool {
        const SCRIPTS: [&str; 7] = ["adlm", "arab", "hebr", "nkoo", "rohg", "syrc", "thaa"];
        const LANGUAGES: [&str; 12] =
            ["ar", "arc", "ckb", "dv", "fa", "he", "ps", "sd", "syr", "ug", "ur", "yi"];
        let script = self
            .0
            .split('-')
            .skip(1)
            .find(|part| part.len() == 4 && !part.starts_with(|c: char| c.is_ascii_digit()));
        match script {
            Some(script) => SCRIPTS.contains(&script.to_ascii_lowercase().as_str()),
            None => LANGUAGES.contains(&self.language()),
        }
    }
}

impl fmt::Display for Locale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Locale {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Locale> for String {
    fn from(locale: Locale) -> Self {
        locale.0
    }
}

/// Where the time comes from: the system, or the moment given with `--as-of`. Every stage takes its time from here; only leases use
/// the database's clock.
#[derive(Debug, Clone, Copy, Default)]
pub enum Clock {
    /// The system's clock.
    #[default]
    System,
    /// It is always this moment.
    Fixed(DateTime<Utc>),
    /// Whatever this says: a day that passes in a minute.
    Told(fn() -> DateTime<Utc>),
}

impl Clock {
    /// The present moment.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
    pub fn now(self) -> DateTime<Utc> {
        match self {
            Self::System => Utc::now(),
            Self::Fixed(moment) => moment,
            Self::Told(now) => now(),
        }
    }

    /// The present moment for whoever waits: it moves on from `begun` even where `--as-of` has stopped the clock, because a pause is a
    /// pause.
    pub fn now_since(self, begun: Instant) -> DateTime<Utc> {
        match self {
            Self::System | Self::Told(_) => self.now(),
            Self::Fixed(moment) => moment + TimeDelta::from_std(begun.elapsed()).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_judged_and_never_shown() {
        for good in ["a@shop.example", " A.B+c@Shop.Example ", "jörg@shop.example"] {
            assert!(EmailAddress::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            "a@b",
            "a@localhost",
            "a@[127.0.0.1]",
            "a b@shop.example",
            "a..b@shop.example",
            "a@shop.example\r\nBcc: x@y.example",
        ] {
            assert!(EmailAddress::parse(bad).is_err(), "{bad}");
        }
        let address = EmailAddress::parse("Canary@shop.example").unwrap();
        assert_eq!(address.key(), "canary@shop.example");
        assert!(!format!("{address:?}").to_lowercase().contains("canary"));
    }

    #[test]
    fn a_domain_is_the_same_in_any_characters() {
        let key = |text: &str| EmailAddress::parse(text).unwrap().key();
        assert_eq!(key("Jörg@Bücher.example"), "jörg@xn--bcher-kva.example");
        assert_eq!(key("Jörg@Bücher.example"), key("jörg@XN--BCHER-KVA.example"));
        assert_eq!(key("a@ΒΙΒΛΊΟ.example"), key("a@βιβλίο.example"));
        let address = |text: &str| text.parse::<lettre::Address>().unwrap();
        let mailed = for_envelope(&address("Jörg@Bücher.example")).unwrap();
        assert_eq!(mailed.to_string(), "Jörg@xn--bcher-kva.example");
        assert_eq!(for_envelope(&address("A@Shop.example")).unwrap().to_string(), "A@Shop.example");
        // A space that nobody sees, a label that DNS does not have.
        for bad in ["a@b\u{200b}.example\u{3000}", "a@xn--\u{e9}.example"] {
            assert!(EmailAddress::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_direction_of_a_language() {
        for tag in ["ar", "he-IL", "fa", "az-Arab", "ur-PK"] {
            assert!(Locale::parse(tag).unwrap().is_right_to_left(), "{tag}");
        }
        for tag in ["fr", "en-GB", "az", "ar-Latn", "pt-BR", "de-1996"] {
            assert!(!Locale::parse(tag).unwrap().is_right_to_left(), "{tag}");
        }
    }

    #[test]
    fn locales() {
        assert_eq!(Locale::parse("fr_FR").unwrap().as_str(), "fr-FR");
        assert_eq!(Locale::parse("pt-br").unwrap().language(), "pt");
        assert!(Locale::parse("french").is_err());
        assert!(Locale::parse("f").is_err());
        assert!(Locale::parse("").is_err());
    }
}
