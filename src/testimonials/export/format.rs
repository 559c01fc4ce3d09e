//! What a format is made of: a table or a document, what of a selection and of withdrawals it can say, and what it cannot carry.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use chrono_tz::Tz;
use serde::Serialize;

use super::super::gate::{Publishable, Testimonial};
use super::super::public::Field;
use super::super::selection::Selected;
use crate::config::Shop;
use crate::types::{Locale, ResponseId, ShopId};

/// How testimonials are written.
#[derive(Debug)]
pub struct ExportFormat {
    /// Its name on the command line and in jobs.toml.
    pub name: &'static str,
    /// Who reads it.
    pub description: &'static str,
    /// Of its files, without the dot.
    pub extension: &'static str,
    /// As HTTP calls it.
    pub media_type: &'static str,
    /// Whether it can say that it is a selection. What cannot must not be one.
    pub says_selection: bool,
    /// What becomes of it when only what has changed is asked for.
    pub increments: Increments,
    pub(super) layout: Layout,
}

impl ExportFormat {
    /// Whether some column or element shows this of a testimonial.
    pub(super) fn shows(&self, about: &About<'_>, field: Field) -> bool {
        let columns = match &self.layout {
            Layout::Table(table) => (table.columns)(about),
            Layout::Document(document) => document.elements.to_vec(),
        };
        columns.iter().any(|(_, fields)| fields.contains(&field))
    }
}

/// What a format makes of `--since`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Increments {
    /// It says itself what was withdrawn.
    Tombstones,
    /// What was withdrawn stands in the manifest alone.
    InManifest,
    /// Its reader takes whatever is missing for deleted, so it has to be whole.
    Never,
}

/// How a file is built up.
#[derive(Debug)]
pub(super) enum Layout {
    Table(Table),
    Document(Document),
}

/// The name of a column or an element, and what it shows of a testimonial. Nothing: whatever stands there is the same for all of a file.
pub(super) type Column = (&'static str, &'static [Field]);

/// A header, then a row for each testimonial.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    pub(super) dialect: fn(&About<'_>) -> Dialect,
    pub(super) columns: fn(&About<'_>) -> Vec<Column>,
    /// Fills a row that is empty; as many fields as there are columns.
    pub(super) row: fn(&About<'_>, Item<'_>, &mut csv::StringRecord) -> Result<(), Refused>,
    /// The same for one that was withdrawn.
    pub(super) gone: Option<fn(&About<'_>, &Gone<'_>, &mut csv::StringRecord)>,
}

/// A frame around a piece for each testimonial.
#[derive(Debug, Clone, Copy)]
pub(super) struct Document {
    /// What a piece can be made of, attributes (with an `@`) and elements alike, each with all that is in it; and what of the frame shows
    /// something of testimonials.
    pub(super) elements: &'static [Column],
    pub(super) open: fn(&About<'_>, &mut String),
    pub(super) piece: fn(&About<'_>, Item<'_>, &mut String) -> Result<(), Refused>,
    /// Before each piece.
    pub(super) between: &'static str,
    pub(super) close: fn(&About<'_>, &Written, &[Gone<'_>], &mut String),
}

/// What a table looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dialect {
    pub(super) delimiter: u8,
    /// Spreadsheets take a file without it for one of the system's own encoding.
    pub(super) byte_order_mark: bool,
}

/// As RFC 4180 has it, in UTF-8.
pub(super) fn plain(_: &About<'_>) -> Dialect {
    Dialect { delimiter: b',', byte_order_mark: false }
}

/// What is the same for a whole file.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    pub shops: &'a [(ShopId, &'a Shop)],
    /// Of whoever reads the file, where it is for people.
    pub locale: &'a Locale,
    /// Where a product is shown, by the shop's key.
    pub product_urls: &'a BTreeMap<String, String>,
    /// Only what has changed since then.
    pub since: Option<DateTime<Utc>>,
    /// What it is a selection of.
    pub selected: Option<&'a Selected>,
    /// When somebody last decided on one that may be published, or was.
    pub decided_at: Option<DateTime<Utc>>,
}

impl<'a> About<'a> {
    /// When it was submitted, as the shop's clocks had it: for readers whose dates have no zone.
    pub(super) fn submitted(&self, testimonial: &Testimonial) -> DateTime<Tz> {
        self.local(testimonial, testimonial.submitted_at)
    }

    /// A moment as the clocks of the testimonial's shop had it.
    pub(super) fn local(&self, testimonial: &Testimonial, moment: DateTime<Utc>) -> DateTime<Tz> {
        let zone = self.shop(&testimonial.shop).map_or(Tz::UTC, |shop| shop.timezone);
        moment.with_timezone(&zone)
    }

    /// The shop with this key; they are all there.
    pub(super) fn shop(&self, key: &str) -> Option<&'a Shop> {
        self.shops.iter().map(|(_, shop)| *shop).find(|shop| shop.key == key)
    }
}

/// A testimonial on its way into a file.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    pub(super) publishable: &'a Publishable,
    pub(super) change: Change,
}

impl<'a> Item<'a> {
    pub(super) fn testimonial(&self) -> &'a Testimonial {
        self.publishable.testimonial()
    }
}

/// What has become of a testimonial since the moment that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It had not left before then.
    Added,
    /// It had, and something about it is not what it was.
    Changed,
    /// It has to be taken down.
    Withdrawn,
}

impl Change {
    /// Its name in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// A testimonial that left before and may not be shown any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone<'a> {
    pub(super) id: ResponseId,
    /// The shop's key.
    pub(super) shop: &'a str,
    /// The last thing that happened to it.
    pub(super) at: DateTime<Utc>,
}

/// What a file holds, when all is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Written {
    pub(super) n: u64,
    /// Of these, with a rating.
    pub(super) n_ratings: u64,
    pub(super) sum_ratings: u64,
}

/// Why a testimonial is not in a file. Nothing is shortened, replaced or made up to get it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// The format needs a rating, and the author gave none.
    NoRating,
    /// The format is about products, and the order names none.
    NoProduct,
    /// The format is about one product, and the order has several: which one the words are about is not known.
    SeveralProducts,
    /// The format needs a country, and the order names none.
    NoCountry,
    /// Something is longer than the reader takes.
    TooLong,
    /// A product's number is not one as the reader takes.
    WrongProduct,
    /// There is a character that this kind of file cannot hold.
    Unprintable,
    /// A spreadsheet on the way would run it.
    Formula,
}

impl Refused {
    /// For people, after "refused:".
    pub fn text(self) -> &'static str {
        match self {
            Self::NoRating => "without a rating",
            Self::NoProduct => "about an order without products",
            Self::SeveralProducts => "about an order of several products",
            Self::NoCountry => "about an order without a country",
            Self::TooLong => "longer than the reader takes",
            Self::WrongProduct => "with a product number that the reader does not take",
            Self::Unprintable => "with a character that such a file cannot hold",
            Self::Formula => "with a formula that a spreadsheet would run",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// The rating, where the reader cannot do without.
pub(super) fn rating(testimonial: &Testimonial) -> Result<i16, Refused> {
    testimonial.rating.ok_or(Refused::NoRating)
}

/// The product the words can be about: that of an order of one.
pub(super) fn only_product(testimonial: &Testimonial) -> Result<&str, Refused> {
    match testimonial.product_ids.as_slice() {
        [] => Err(Refused::NoProduct),
        [product] => Ok(product),
        [_, ..] => Err(Refused::SeveralProducts),
    }
}

/// A text for a tool's file. Such a file is read by a program but often opened in a spreadsheet before, so what a spreadsheet would run is
/// refused; the apostrophe that makes it harmless would be shown to everybody.
pub(super) fn harmless(text: &str) -> Result<&str, Refused> {
    if would_run(text) { Err(Refused::Formula) } else { Ok(text) }
}

/// Whether a spreadsheet would call a function, or another program, when it opens this as a cell: it begins as a formula does, and somewhere
/// a function is called ([`calls`]), or a program by its topic (`cmd|'…'!A1`). "- Très bien !" does neither.
fn would_run(text: &str) -> bool {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}' || c == '\'');
    let Some(rest) = text.strip_prefix(['=', '+', '-', '@', '＝', '＋', '－', '＠']) else {
        return false;
    };
    let talks = rest.find('|').is_some_and(|at| rest[at..].contains('!'));
    talks || rest.char_indices().any(|(at, c)| matches!(c, '(' | '（') && calls(rest, at))
}

/// Whether the bracket at this place is that of a function: its name stands right before it (`HYPERLINK(`), or with blanks between
/// (`HYPERLINK (`), which spreadsheets run as well. With blanks it may also be a remark, as in "- Livraison (rapide)" and "-1 étoile
/// (2 jours)". A function's name follows a sign and not another word, and what it is given has a digit, a quotation mark or another
/// bracket, or is nothing.
fn calls(text: &str, at: usize) -> bool {
    let is_blank = |c: char| c.is_whitespace() || c == '\u{feff}';
    let before = text[..at].trim_end_matches(is_blank);
    let around = before.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_' || c == '.');
    if around.len() == before.len() {
        return false;
    }
    if before.len() == at {
        return true;
    }
    const SIGNS: &str = "=+-*/^&<>(;,~:@＝＋－＊／＾＆＜＞（；，＠";
    let sign = around.trim_end_matches(is_blank).chars().next_back();
    let given = text[at..].trim_start_matches(['(', '（']).trim_start_matches(is_blank);
    let given = given.split([')', '）']).next().unwrap_or_default();
    let is_remark = |c: char| !(c.is_numeric() || matches!(c, '"' | '(' | ':' | '＂' | '（' | '：'));
    sign.is_none_or(|sign| SIGNS.contains(sign)) && (given.is_empty() || !given.chars().all(is_remark))
}

/// Not longer than so many characters.
pub(super) fn at_most(text: &str, characters: usize) -> Result<&str, Refused> {
    if text.chars().nth(characters).is_some() { Err(Refused::TooLong) } else { Ok(text) }
}

/// The author's name, or what stands for none in the language of the words.
pub(super) fn name_or_anonymous(testimonial: &Testimonial) -> &str {
    match (testimonial.display_name.as_str(), testimonial.language.as_str()) {
        ("", "fr") => "Anonyme",
        ("", _) => "Anonymous",
        (name, _) => name,
    }
}

/// `2026-03-10T18:30:00Z`
pub(super) fn rfc3339(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// `2026-03-10 18:30:00 UTC`
pub(super) fn spoken_utc(moment: DateTime<Utc>) -> String {
    moment.format("%F %T UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_spreadsheet_would_run() {
        for text in [
            "=HYPERLINK(\"http://evil.example\",\"x\")",
            "@SUM(A1)",
            "+cmd|' /C calc'!A0",
            "-2+3+cmd|' /C calc'!A0",
            "\t=WEBSERVICE(\"http://evil.example\")",
            "\u{feff}=IMPORTXML(1)",
            " \r\n=NOW()",
            "＝HYPERLINK(1)",
            "'=NOW()",
            "=HYPERLINK (\"http://evil.example\",\"x\")",
            "=\"x\"&WEBSERVICE (\"http://evil.example\")",
            "-1+hyperlink\t\u{a0}\n(A1)",
            "- SERVICEWEB (B2)",
            "+NOW ( )",
            "=1;A1 INDEX (WEBSERVICE (\"http://evil.example\");1)",
            "＝HYPERLINK （1）",
        ] {
            assert_eq!(harmless(text), Err(Refused::Formula), "{text}");
        }
        for text in [
            "- Très bien !",
            "=) merci",
            "+1",
            "-1 étoile (dommage)",
            "-1 étoile (2 jours de retard)",
            "- Livraison (rapide) et colis soigné (vraiment !)",
            "=) merci (5/5)",
            "@Claire merci",
            "bien =NOW()",
            "",
            "a|b!",
        ] {
            assert_eq!(harmless(text), Ok(text));
        }
    }

    #[test]
    fn lengths_are_of_characters() {
        assert_eq!(at_most("éé", 2), Ok("éé"));
        assert_eq!(at_most("ééé", 2), Err(Refused::TooLong));
    }
}
