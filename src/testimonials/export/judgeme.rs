//! Judge.me's template for importing reviews: <https://judge.me/help/en/articles/8415368-importing-reviews-using-judge-me-template>.
//!
//! What was asked is about the shop, and a row without a product becomes a review of the shop, so the columns of products stay empty: a
//! product that Judge.me does not know would be lost without a word. The columns and the way dates are written are those of its sample
//! file, as programs of others write it. Addresses never leave, and nobody was asked for a title.

use super::format::{
    About, Column, ExportFormat, Increments, Item, Layout, Refused, Table, harmless, name_or_anonymous,
    plain, rating, spoken_utc,
};
use crate::testimonials::public::Field;

pub(super) const FORMAT: ExportFormat = ExportFormat {
    name: "judgeme",
    description: "Judge.me's import, as reviews of the shop; testimonials without a rating are refused",
    extension: "csv",
    media_type: "text/csv; charset=utf-8",
    says_selection: false,
    increments: Increments::InManifest,
    layout: Layout::Table(Table { dialect: plain, columns: |_| COLUMNS.to_vec(), row, gone: None }),
};

const COLUMNS: [Column; 10] = [
    ("title", &[]),
    ("body", &[Field::Comment]),
    ("rating", &[Field::Rating]),
    ("review_date", &[Field::SubmittedAt]),
    ("reviewer_name", &[Field::DisplayName, Field::Language]),
    ("reviewer_email", &[]),
    ("product_id", &[]),
    ("product_handle", &[]),
    ("reply", &[Field::Reply]),
    ("picture_urls", &[]),
];

fn row(_: &About<'_>, item: Item<'_>, record: &mut csv::StringRecord) -> Result<(), Refused> {
    let testimonial = item.testimonial();
    record.push_field("");
    record.push_field(harmless(&testimonial.comment)?);
    record.push_field(&rating(testimonial)?.to_string());
    record.push_field(&spoken_utc(testimonial.submitted_at));
    record.push_field(harmless(name_or_anonymous(testimonial))?);
    for _ in ["reviewer_email", "product_id", "product_handle"] {
        record.push_field("");
    }
    record.push_field(harmless(
        testimonial.reply.as_ref().map(|reply| reply.text.as_str()).unwrap_or_default(),
    )?);
    record.push_field("");
    Ok(())
}
