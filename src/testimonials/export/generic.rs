//! The program's own format: everything that may be published, under the names this project uses. Nothing is refused.

use std::fmt::Write as _;

use super::format::{
    About, Change, Column, ExportFormat, Gone, Increments, Item, Layout, Refused, Table, plain, rfc3339,
};
use crate::testimonials::gate::Testimonial;
use crate::testimonials::public::Field;

pub(super) const FORMAT: ExportFormat = ExportFormat {
    name: "generic",
    description: "every column there is, for programs: UTF-8, commas, RFC 4180",
    extension: "csv",
    media_type: "text/csv; charset=utf-8",
    says_selection: true,
    increments: Increments::Tombstones,
    layout: Layout::Table(Table { dialect: plain, columns, row, gone: Some(gone) }),
};

const COLUMNS: [Column; 15] = [
    ("testimonial_id", &[Field::TestimonialId]),
    ("shop", &[Field::Shop]),
    ("rating", &[Field::Rating]),
    ("recommend", &[Field::Recommend]),
    ("comment", &[Field::Comment]),
    ("display_name", &[Field::DisplayName]),
    ("country", &[Field::Country]),
    ("language", &[Field::Language]),
    ("product_ids", &[Field::ProductIds]),
    ("experience_date", &[Field::ExperienceDate]),
    ("submitted_at", &[Field::SubmittedAt]),
    ("published_at", &[Field::PublishedAt]),
    ("verified", &[Field::Verified]),
    ("consent_version", &[Field::ConsentVersion]),
    ("reply", &[Field::Reply]),
];

/// What stands in every row of a selection.
const OF_SELECTION: [Column; 5] = [
    ("selection_label", &[]),
    ("selection_rule", &[]),
    ("eligible", &[]),
    ("recommendation_rate", &[]),
    ("recommendation_answers", &[]),
];

fn columns(about: &About<'_>) -> Vec<Column> {
    let mut columns = COLUMNS.to_vec();
    if about.since.is_some() {
        columns.push(("change", &[Field::PublishedAt]));
    }
    if about.selected.is_some() {
        columns.extend(OF_SELECTION);
    }
    columns
}

fn row(about: &About<'_>, item: Item<'_>, record: &mut csv::StringRecord) -> Result<(), Refused> {
    let Testimonial {
        id,
        shop,
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
    let mut number = String::new();
    let mut push_number = |record: &mut csv::StringRecord, value: &dyn std::fmt::Display| {
        number.clear();
        // Writing into a string does not fail.
        let _ = write!(number, "{value}");
        record.push_field(&number);
    };
    push_number(record, id);
    record.push_field(shop);
    match rating {
        Some(rating) => push_number(record, rating),
        None => record.push_field(""),
    }
    record.push_field(recommend.as_deref().unwrap_or_default());
    record.push_field(comment);
    record.push_field(display_name);
    record.push_field(country.as_deref().unwrap_or_default());
    record.push_field(language);
    match product_ids.as_slice() {
        [] => record.push_field(""),
        [product] => record.push_field(product),
        products => record.push_field(&products.join("|")),
    }
    push_number(record, experience_date);
    record.push_field(&rfc3339(*submitted_at));
    record.push_field(&rfc3339(*published_at));
    // The gate lets nothing through that does not belong to an order.
    record.push_field("true");
    record.push_field(consent_version);
    record.push_field(reply.as_ref().map(|reply| reply.text.as_str()).unwrap_or_default());
    if about.since.is_some() {
        record.push_field(item.change.as_str());
    }
    if let Some(selected) = about.selected {
        record.push_field(&selected.label);
        record.push_field(&selected.rule);
        push_number(record, &selected.n_eligible);
        record.push_field(&selected.recommendation.value.map(|value| value.to_string()).unwrap_or_default());
        push_number(record, &selected.recommendation.denominator);
    }
    Ok(())
}

/// Its number, its shop, and that it is withdrawn; nothing else of it may be known any more.
fn gone(about: &About<'_>, gone: &Gone<'_>, record: &mut csv::StringRecord) {
    for (column, _) in columns(about) {
        match column {
            "testimonial_id" => record.push_field(&gone.id.to_string()),
            "shop" => record.push_field(gone.shop),
            "change" => record.push_field(Change::Withdrawn.as_str()),
            _ => record.push_field(""),
        }
    }
}
