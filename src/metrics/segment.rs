//! By which the orders of a shop are told apart. An answer and a mail belong to where their order belongs.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// What is known of an order when it is placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// ISO 3166-1 alpha-2.
    Country,
    /// The customer's language.
    Locale,
    /// Whether it was the customer's first order; cancelled and refunded ones do not count.
    NewOrReturning,
    /// Each of its products: an order of two products is in two values.
    Product,
    /// What the shop's file says in `attributes.<name>`.
    Attribute(String),
}

impl Segment {
    /// What the queries call it, and the name of the attribute.
    pub(super) fn key(segment: Option<&Self>) -> (&'static str, Option<&str>) {
        match segment {
            None => ("none", None),
            Some(Self::Country) => ("country", None),
            Some(Self::Locale) => ("locale", None),
            Some(Self::NewOrReturning) => ("new_or_returning", None),
            Some(Self::Product) => ("product", None),
            Some(Self::Attribute(name)) => ("attribute", Some(name)),
        }
    }
}

impl FromStr for Segment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "country" => Ok(Self::Country),
            "locale" => Ok(Self::Locale),
            "new_or_returning" => Ok(Self::NewOrReturning),
            "product" => Ok(Self::Product),
            _ => text
                .strip_prefix("attributes.")
                .filter(|name| !name.is_empty())
                .map(|name| Self::Attribute(name.to_owned()))
                .ok_or_else(|| {
                    "expected country, locale, new_or_returning, product or attributes.<name>".to_owned()
                }),
        }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attribute(name) => write!(f, "attributes.{name}"),
            other => f.write_str(Self::key(Some(other)).0),
        }
    }
}

impl Serialize for Segment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_called_what_they_are() {
        for name in ["country", "locale", "new_or_returning", "product", "attributes.channel"] {
            assert_eq!(name.parse::<Segment>().unwrap().to_string(), name);
        }
        for bad in ["", "channel", "attributes.", "none", "Country"] {
            assert!(bad.parse::<Segment>().is_err(), "{bad}");
        }
    }
}
