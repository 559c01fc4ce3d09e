//! A row becomes an order, or a fault that names its column. Nothing here knows about files or the database.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use csv::ByteRecord;

use super::OrderStatus;
use super::amount::{Currency, amount};
use super::format::{OrderColumns, OrderFormat};
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
    row_per_item: bool,
}

/// Their words and ours.
#[derive(Debug)]
struct Status {
    words: BTreeMap<String, OrderStatus>,
    others: Option<OrderStatus>,
    /// Whether other words say nothing.
    is_vague: bool,
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
        let is_vague = format.vague_status;
        let row_per_item = format.row_per_item;
        Self { columns, status: Status { words, others, is_vague, expected }, times, row_per_item }
    }

    /// Whether an order has a row for each of its items.
    pub fn is_row_per_item(&self) -> bool {
        self.row_per_item
    }

    /// The order that a row names; `None`: it names none.
    pub fn order_id<'r>(&self, record: &'r ByteRecord) -> Option<&'r str> {
        Some(text(record, self.columns.order_id).trim()).filter(|id| !id.is_empty())
    }

    /// Whether a row has nothing but an item: it goes with a row before it.
    pub fn is_item_only(&self, record: &ByteRecord) -> bool {
        text(record, self.columns.ordered_at).trim().is_empty()
    }

    /// What was bought, product ids joined with `|`.
    ///
    /// # Errors
    /// When the database could not keep it.
    pub fn items<'r>(&self, record: &'r ByteRecord) -> Result<&'r str, Fault> {
        refuse_nul(record, self.columns.items.into_iter().chain(self.columns.item_names))?;
        let of = |column: Option<usize>| column.map_or("", |column| text(record, column));
        let ids = of(self.columns.items);
        Ok(if ids.trim().is_empty() { of(self.columns.item_names) } else { ids })
    }

    /// Where the columns are.
    pub fn columns(&self) -> &OrderColumns {
        &self.columns
    }

    /// The attributes of a row that are not empty: name and value.
    pub fn attributes<'r>(&'r self, record: &'r ByteRecord) -> impl Iterator<Item = (&'r str, &'r str)> {
        self.columns.attributes.iter().filter_map(|(name, column)| {
            let value = text(record, *column).trim();
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
        let fulfilled_at = given(columns.fulfilled_at, record, |text| self.moment(text))?.flatten();
        let is_cancelled = given(columns.cancelled_at, record, |text| self.moment(text))?.flatten().is_some();
        let said = given(columns.status, record, |text| self.status(text))?.flatten();
        let status = match said {
            _ if is_cancelled => OrderStatus::Cancelled,
            Some(status) => status,
            // Where the file has no word, the delivery date speaks.
            None if fulfilled_at.is_some() => OrderStatus::Fulfilled,
            None => OrderStatus::Open,
        };
        if let Some(column) = columns.payment
            && is_test(text(record, column))
        {
            return Err(Fault::at(column, "shows that this is a test order"));
        }
        let locale = given(columns.locale, record, |text| {
            // The error of the type repeats the text, which may be anything.
            Locale::parse(text).map_err(|_| Cow::from("is not a language tag such as fr or pt-BR"))
        })?;
        let country = given(columns.country, record, country)?;
        let currency = given(columns.currency, record, Currency::parse)?;
        let total = given(columns.total, record, |text| amount(text, currency))?;
        let consent = given(columns.consent, record, consent)?;
        let (first_name, last_name) =
            columns.name.map(|column| both_names(text(record, column))).unwrap_or_default();
        Ok(NewOrder {
            external_id,
            email,
            ordered_at,
            fulfilled_at,
            status,
            first_name: columns.first_name.and_then(|column| name(text(record, column))).or(first_name),
            last_name: columns.last_name.and_then(|column| name(text(record, column))).or(last_name),
            locale,
            country,
            currency: currency.or(total.and_then(|(_, named)| named)),
            total: total.map(|(units, _)| units),
            items: self.items(record)?,
            consent,
        })
    }

    /// A moment; `None` is the zero that MySQL writes where there is none.
    fn moment(&self, text: &str) -> Result<Option<DateTime<Utc>>, Cow<'static, str>> {
        if text.starts_with("0000-00-00") { Ok(None) } else { self.times.parse(text).map(Some) }
    }

    fn status(&self, text: &str) -> Result<Option<OrderStatus>, Cow<'static, str>> {
        let Status { words, others, is_vague, expected } = &self.status;
        let found = words.get(text).or_else(|| words.get(&text.to_lowercase())).copied().or(*others);
        if found.is_some() || *is_vague { Ok(found) } else { Err(expected.clone().into()) }
    }

    /// Postgres cannot store NUL. In a name it becomes a space; the other columns that are read without a look at each character are
    /// looked at here.
    fn refuse_nul(&self, record: &ByteRecord) -> Result<(), Fault> {
        if !record.as_slice().contains(&0) {
            return Ok(());
        }
        let attributes = self.columns.attributes.iter().map(|(_, column)| *column);
        let read = attributes.chain(self.columns.status);
        refuse_nul(record, read)
    }
}

/// A first and a last name in one: the first word, and the others.
fn both_names(both: &str) -> (Option<Cow<'_, str>>, Option<Cow<'_, str>>) {
    let both = both.trim();
    let (first, last) = both.split_once(char::is_whitespace).unwrap_or((both, ""));
    (name(first), name(last))
}

/// Whether a way of payment is the one that Shopify has for trying out a shop, `(for testing) Bogus Gateway`.
fn is_test(payment: &str) -> bool {
    payment.to_lowercase().contains("bogus")
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
    fn names_in_one() {
        let both = |text| {
            let (first, last) = both_names(text);
            (first.map(Cow::into_owned), last.map(Cow::into_owned))
        };
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(both(" Claire  de la Tour "), (some("Claire"), some("de la Tour")));
        assert_eq!(both("Claire"), (some("Claire"), None));
        assert_eq!(both(" "), (None, None));
    }

    #[test]
    fn consents() {
        assert_eq!((consent("Yes"), consent("non")), (Ok(true), Ok(false)));
        assert!(consent("maybe").is_err());
    }
}
