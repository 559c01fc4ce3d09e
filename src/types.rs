//! The words every room uses: ids, addresses, locales and the clock.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

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
            Ok(_) if text.parse::<lettre::Address>().is_ok() => Ok(Self(text.to_owned())),
            _ => Err(BadAddress("is not a mail address")),
        }
    }

    /// The address itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The form under which addresses are compared: lower case.
    pub fn key(&self) -> String {
        self.0.to_lowercase()
    }
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

    /// The whole tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag's language alone: `pt` of `pt-BR`.
    pub fn language(&self) -> &str {
        self.0.split('-').next().unwrap_or(&self.0)
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
}

impl Clock {
    /// The present moment.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
    pub fn now(self) -> DateTime<Utc> {
        match self {
            Self::System => Utc::now(),
            Self::Fixed(moment) => moment,
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
    fn locales() {
        assert_eq!(Locale::parse("fr_FR").unwrap().as_str(), "fr-FR");
        assert_eq!(Locale::parse("pt-br").unwrap().language(), "pt");
        assert!(Locale::parse("french").is_err());
        assert!(Locale::parse("f").is_err());
        assert!(Locale::parse("").is_err());
    }
}
