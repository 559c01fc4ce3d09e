//! For a person with a spreadsheet: columns with words for names, in French or English, and texts that no spreadsheet takes for a formula,
//! a number or a date.
//!
//! The separator and the decimals are those of the reader's language, because a spreadsheet goes by these when it opens a file: where
//! decimals have a comma, fields are separated by semicolons. Dates are written 2026-03-10, which every spreadsheet takes for a date
//! whatever its language. The byte-order mark says UTF-8.

use std::borrow::Cow;

use super::format::{
    About, Change, Column, Dialect, ExportFormat, Gone, Increments, Item, Layout, Refused, Table, at_most,
};
use crate::csv_rows::guarded_text;
use crate::testimonials::gate::Testimonial;
use crate::testimonials::public::Field;
use crate::types::Locale;

pub(super) const FORMAT: ExportFormat = ExportFormat {
    name: "excel",
    description: "for people with a spreadsheet, in their language; words that look like a formula, a number or a date get an apostrophe before them",
    extension: "csv",
    media_type: "text/csv; charset=utf-8",
    says_selection: true,
    increments: Increments::Tombstones,
    layout: Layout::Table(Table { dialect, columns, row, gone: Some(gone) }),
};

/// Excel's limit for a cell
/// (<https://support.microsoft.com/en-us/office/excel-specifications-and-limits-1672b34d-7043-467e-8e27-269d656771c3>).
const LONGEST_CELL: usize = 32_767;

/// The name of a column in French and in English, and what it shows.
type Bilingual = (&'static str, &'static str, &'static [Field]);

const COLUMNS: [Bilingual; 15] = [
    ("Numéro", "Number", &[Field::TestimonialId]),
    ("Boutique", "Shop", &[Field::Shop]),
    ("Note (sur 5)", "Rating (of 5)", &[Field::Rating]),
    ("Recommande", "Recommends", &[Field::Recommend]),
    ("Avis", "Comment", &[Field::Comment]),
    ("Nom affiché", "Displayed name", &[Field::DisplayName]),
    ("Pays", "Country", &[Field::Country]),
    ("Langue", "Language", &[Field::Language]),
    ("Produits", "Products", &[Field::ProductIds]),
    ("Date de l’expérience", "Date of the experience", &[Field::ExperienceDate]),
    ("Déposé le", "Submitted on", &[Field::SubmittedAt]),
    ("Publié le", "Published on", &[Field::PublishedAt]),
    ("Achat vérifié", "Verified purchase", &[Field::Verified]),
    ("Version du consentement", "Consent version", &[Field::ConsentVersion]),
    ("Réponse de la boutique", "Reply of the shop", &[Field::Reply]),
];
const CHANGE: Bilingual = ("Changement", "Change", &[Field::PublishedAt]);
const OF_SELECTION: [Bilingual; 5] = [
    ("Sélection", "Selection", &[]),
    ("Règle de la sélection", "Rule of the selection", &[]),
    ("Avis publiables", "Publishable in all", &[]),
    ("Taux de recommandation de toutes les réponses", "Recommendation rate of all answers", &[]),
    ("Réponses à cette question", "Answers to that question", &[]),
];

fn is_french(locale: &Locale) -> bool {
    locale.language() == "fr"
}

/// Languages whose spreadsheets write 1.5; elsewhere it is 1,5 (Unicode CLDR, symbols of the default numbering system, at the level of the
/// language).
fn has_decimal_point(locale: &Locale) -> bool {
    matches!(
        locale.language(),
        "en" | "ja" | "zh" | "ko" | "th" | "he" | "hi" | "bn" | "ms" | "cy" | "ga" | "mt"
    ) || matches!(
        locale.as_str(),
        "es-MX" | "es-US" | "es-GT" | "es-PE" | "es-DO" | "de-CH" | "de-LI" | "it-CH"
    )
}

fn dialect(about: &About<'_>) -> Dialect {
    Dialect { delimiter: if has_decimal_point(about.locale) { b',' } else { b';' }, byte_order_mark: true }
}

fn columns(about: &About<'_>) -> Vec<Column> {
    let change = about.since.map(|_| CHANGE);
    let of_selection = about.selected.iter().flat_map(|_| OF_SELECTION);
    let french = is_french(about.locale);
    let named = COLUMNS.into_iter().chain(change).chain(of_selection);
    named.map(|(fr, en, shows)| (if french { fr } else { en }, shows)).collect()
}

fn row(about: &About<'_>, item: Item<'_>, record: &mut csv::StringRecord) -> Result<(), Refused> {
    let Testimonial {
        id,
        shop: key,
        rating,
        recommend,
        comment,
        display_name,
        country,
        language,
        product_ids,
        ordered_on: _,
        experience_date,
        submitted_at,
        published_at,
        changed_at: _,
        consent_version,
        reply,
    } = item.testimonial();
    let (yes, no) = if is_french(about.locale) { ("oui", "non") } else { ("yes", "no") };
    let zone = about.shop(key).map_or(chrono_tz::Tz::UTC, |shop| shop.timezone);
    let day = |moment: &chrono::DateTime<chrono::Utc>| moment.with_timezone(&zone).format("%F").to_string();
    record.push_field(&id.to_string());
    record.push_field(&cell(key)?);
    record.push_field(&rating.map(|rating| rating.to_string()).unwrap_or_default());
    record.push_field(match recommend.as_deref() {
        Some("yes") => yes,
        Some("no") => no,
        _ => "",
    });
    record.push_field(&cell(comment)?);
    record.push_field(&cell(display_name)?);
    record.push_field(&cell(country.as_deref().unwrap_or_default())?);
    record.push_field(&cell(language)?);
    record.push_field(&cell(&product_ids.join(", "))?);
    record.push_field(&experience_date.to_string());
    record.push_field(&day(submitted_at));
    record.push_field(&day(published_at));
    record.push_field(yes);
    record.push_field(&cell(consent_version)?);
    record.push_field(&cell(reply.as_ref().map(|reply| reply.text.as_str()).unwrap_or_default())?);
    if about.since.is_some() {
        record.push_field(change(about, item.change));
    }
    if let Some(selected) = about.selected {
        record.push_field(&cell(&selected.label)?);
        record.push_field(&cell(&selected.rule)?);
        record.push_field(&selected.n_eligible.to_string());
        record.push_field(&selected.recommendation.value.map(|rate| number(about, rate)).unwrap_or_default());
        record.push_field(&selected.recommendation.denominator.to_string());
    }
    Ok(())
}

/// A share with four decimals, in the reader's way of writing.
fn number(about: &About<'_>, value: f64) -> String {
    let text = format!("{value:.4}");
    if has_decimal_point(about.locale) { text } else { text.replace('.', ",") }
}

fn change(about: &About<'_>, change: Change) -> &'static str {
    match change {
        Change::Added if is_french(about.locale) => "ajouté",
        Change::Changed if is_french(about.locale) => "modifié",
        Change::Withdrawn if is_french(about.locale) => "retiré",
        other => other.as_str(),
    }
}

/// A text in a cell: whole, or the row is refused. Spreadsheets silently drop the characters that are refused here.
fn cell(text: &str) -> Result<Cow<'_, str>, Refused> {
    let unprintable = |c: char| {
        (c.is_control() && !matches!(c, '\t' | '\n' | '\r')) || matches!(c, '\u{fffe}' | '\u{ffff}')
    };
    if text.contains(unprintable) {
        return Err(Refused::Unprintable);
    }
    // One more is the apostrophe's.
    at_most(text, LONGEST_CELL - 1).map(guarded_text)
}

fn gone(about: &About<'_>, gone: &Gone<'_>, record: &mut csv::StringRecord) {
    record.push_field(&gone.id.to_string());
    record.push_field(&guarded_text(gone.shop));
    for _ in 2..COLUMNS.len() {
        record.push_field("");
    }
    if about.since.is_some() {
        record.push_field(change(about, Change::Withdrawn));
    }
    if about.selected.is_some() {
        OF_SELECTION.iter().for_each(|_| record.push_field(""));
    }
}
