//! A row becomes an order, or a fault that names its column. Nothing here knows about files or the database.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use csv::ByteRecord;

use super::OrderStatus;
use super::amount::{Currency, amount};
use super::format::{OrderColumns, OrderFormat, Rows};
use crate::import::row::{email, external_id, given, name, on, refuse_nul, text};
use crate::import::text::Fault;
use crate::import::times::Times;
use crate::types::{EmailAddress, Locale};

/// An order as a file has it. What the file leaves empty is `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct NewOrder<'r> {
    pub external_id: &'r str,
    pub email: EmailAddress,
    pub ordered_at: DateTime<Utc>,
    pub fulfilled_at: Option<DateTime<Utc>>,
    pub status: OrderStatus,
    pub first_name: Option<Cow<'r, str>>,
    pub last_name: Option<Cow<'r, str>>,
    pub locale: Option<Locale>,
    pub country: Option<[u8; 2]>,
    pub currency: Option<Currency>,
    /// In minor units of the currency.
    pub total: Option<i64>,
    /// Product ids joined with `|`.
    pub items: &'r str,
    /// Whether the customer agreed to be asked by mail.
    pub consent: Option<bool>,
}

impl NewOrder<'_> {
    /// The product ids.
    pub fn items(&self) -> impl Iterator<Item = &str> + Clone {
        self.items.split('|').map(str::trim).filter(|item| !item.is_empty())
    }
}

/// Everything that is needed to read the rows of one file.
#[derive(Debug)]
pub struct OrderReader {
    columns: OrderColumns,
    status: Status,
    times: Times,
    /// Whether the file comes from a tool that protects numbers from spreadsheets with an apostrophe.
    guards: bool,
}

/// Their words and ours.
#[derive(Debug)]
struct Status {
    words: BTreeMap<String, OrderStatus>,
    others: Option<OrderStatus>,
    expected: String,
}

impl OrderReader {
    /// A reader for a file with these columns.
    pub fn new(format: &OrderFormat, columns: OrderColumns, times: Times) -> Self {
        let mut words: BTreeMap<String, OrderStatus> =
            format.status.iter().map(|(theirs, ours)| (theirs.trim().to_lowercase(), *ours)).collect();
        if words.is_empty() {
            words = OrderStatus::ALL.map(|status| (status.as_str().to_owned(), status)).into();
        }
        let others = words.remove("*");
        let known: Vec<&str> = words.keys().map(String::as_str).collect();
        let expected = format!("is none of {}", known.join(", "));
        let guards = format.rows != Rows::One;
        Self { columns, status: Status { words, others, expected }, times, guards }
    }

    /// Where the columns are.
    pub fn columns(&self) -> &OrderColumns {
        &self.columns
    }

    /// The attributes of a row that are not empty: name and value.
    pub fn attributes<'r>(&'r self, record: &'r ByteRecord) -> impl Iterator<Item = (&'r str, &'r str)> {
        self.columns.attributes.iter().filter_map(|(name, column)| {
            let value = text(record, *column).trim();
            let value = if self.guards { unguarded(value) } else { value };
            (!value.is_empty()).then_some((name.as_str(), value))
        })
    }

    /// Reads a row whose fields are known to be UTF-8.
    ///
    /// # Errors
    /// The first fault, from left to right in the order of [`NewOrder`].
    pub fn read<'r>(&self, record: &'r ByteRecord) -> Result<NewOrder<'r>, Fault> {
        let columns = &self.columns;
        self.refuse_nul(record)?;
        let external_id = on(columns.order_id, record, external_id)?;
        let email = on(columns.email, record, email)?;
        let ordered_at = on(columns.ordered_at, record, |text| self.times.parse(text))?;
        let fulfilled_at = given(columns.fulfilled_at, record, |text| {
            if is_no_date(text) { Ok(None) } else { self.times.parse(text).map(Some) }
        })?
        .flatten();
        let status = match self.verdict(record) {
            Some(verdict) => Some(verdict),
            None => given(columns.status, record, |text| self.status(text))?,
        };
        // Where the file has no word, the delivery date speaks.
        let status =
            status.unwrap_or(if fulfilled_at.is_some() { OrderStatus::Fulfilled } else { OrderStatus::Open });
        let locale = given(columns.locale, record, |text| {
            // The error of the type repeats the text, which may be anything.
            Locale::parse(text).map_err(|_| Cow::from("is not a language tag such as fr or pt-BR"))
        })?;
        let filled = |column: &&usize| !text(record, **column).trim().is_empty();
        let country = given(columns.country.iter().find(filled).copied(), record, country)?;
        let currency = given(columns.currency, record, Currency::parse)?;
        let total = given(columns.total, record, |text| amount(text, currency))?;
        let consent = given(columns.consent, record, consent)?;
        let [first_name, last_name] = match columns.full_name {
            // Nobody can tell where the first name ends; in most it is one word.
            Some(column) => {
                let full = text(record, column).trim();
                let (first, last) = full.split_once(char::is_whitespace).unwrap_or((full, ""));
                [name(first), name(last)]
            }
            None => [columns.first_name, columns.last_name]
                .map(|column| column.and_then(|column| name(text(record, column)))),
        };
        Ok(NewOrder {
            external_id,
            email,
            ordered_at,
            fulfilled_at,
            status,
            first_name,
            last_name,
            locale,
            country,
            currency: currency.or(total.and_then(|(_, named)| named)),
            total: total.map(|(units, _)| units),
            items: columns.items.map_or("", |column| text(record, column)),
            consent,
        })
    }

    /// The item of a row, where an order has several rows.
    pub fn item<'r>(&self, record: &'r ByteRecord) -> Option<&'r str> {
        self.columns.item.iter().map(|column| text(record, *column).trim()).find(|item| !item.is_empty())
    }

    /// What the columns say that go before the status.
    fn verdict(&self, record: &ByteRecord) -> Option<OrderStatus> {
        self.columns.verdicts.iter().find_map(|(column, words)| {
            let word = text(record, *column).trim();
            let known = || words.get(&word.to_lowercase()).or_else(|| words.get("*")).copied();
            if word.is_empty() { None } else { known() }
        })
    }

    fn status(&self, text: &str) -> Result<OrderStatus, Cow<'static, str>> {
        let Status { words, others, expected } = &self.status;
        let found = words.get(text).or_else(|| words.get(&text.to_lowercase())).copied();
        found.or(*others).ok_or_else(|| expected.clone().into())
    }

    /// Postgres cannot store NUL. In a name it becomes a space; the other columns that are read without a look at each character are
    /// looked at here.
    pub(super) fn refuse_nul(&self, record: &ByteRecord) -> Result<(), Fault> {
        if !record.as_slice().contains(&0) {
            return Ok(());
        }
        let attributes = self.columns.attributes.iter().map(|(_, column)| *column);
        let items = self.columns.items.into_iter().chain(self.columns.item.iter().copied());
        let verdicts = self.columns.verdicts.iter().map(|(column, _)| *column);
        let read = attributes.chain(items).chain(self.columns.status).chain(verdicts);
        refuse_nul(record, read)
    }
}

/// A number without the apostrophe that Shopify and others put before it, so that a spreadsheet shows its zeros.
fn unguarded(value: &str) -> &str {
    value
        .strip_prefix('\'')
        .filter(|number| number.starts_with(|c: char| c.is_ascii_digit()))
        .unwrap_or(value)
}

/// What MySQL writes where there is no date.
fn is_no_date(text: &str) -> bool {
    text.starts_with("0000-00-00")
}

/// ISO 3166-1 alpha-2, upper case.
fn country(text: &str) -> Result<[u8; 2], Cow<'static, str>> {
    match text.as_bytes() {
        [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => {
            Ok([a.to_ascii_uppercase(), b.to_ascii_uppercase()])
        }
        _ => Err("is not a country of two letters such as FR".into()),
    }
}

/// Yes or no, as shops write it.
fn consent(text: &str) -> Result<bool, Cow<'static, str>> {
    match text.to_lowercase().as_str() {
        "yes" | "true" | "1" | "oui" => Ok(true),
        "no" | "false" | "0" | "non" => Ok(false),
        _ => Err("is neither yes nor no".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn countries() {
        assert_eq!(country("fr"), Ok(*b"FR"));
        assert!(country("FRA").is_err());
        assert!(country("é").is_err());
    }

    #[test]
    fn consents() {
        assert_eq!((consent("Yes"), consent("non")), (Ok(true), Ok(false)));
        assert!(consent("maybe").is_err());
    }
}
