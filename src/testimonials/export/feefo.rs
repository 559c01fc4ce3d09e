//! Feefo's file for importing reviews of a service: <https://help.feefo.com/knowledge-base/importing-service-reviews>.
//!
//! The columns stand in that order. Feefo also wants an address for each row, and writes to it; addresses never leave, and that column is
//! empty, to be filled by whoever may. What was asked is about the shop: the rating and the words are those of the service.

use super::format::{
    About, Column, ExportFormat, Increments, Item, Layout, Refused, Table, harmless, name_or_anonymous,
    only_product, plain, rating,
};
use crate::testimonials::public::Field;

pub(super) const FORMAT: ExportFormat = ExportFormat {
    name: "feefo",
    description: "Feefo's import of service reviews; testimonials without a rating are refused",
    extension: "csv",
    media_type: "text/csv; charset=utf-8",
    says_selection: false,
    increments: Increments::InManifest,
    layout: Layout::Table(Table { dialect: plain, columns: |_| COLUMNS.to_vec(), row, gone: None }),
};

const COLUMNS: [Column; 10] = [
    ("Name", &[Field::DisplayName, Field::Language]),
    ("Email", &[]),
    ("Sale Date", &[Field::OrderedOn]),
    ("Feedback Date", &[Field::SubmittedAt]),
    ("Product Id", &[Field::ProductIds]),
    ("Service Rating", &[Field::Rating]),
    ("Service Comment", &[Field::Comment]),
    ("Product Rating", &[]),
    ("Product Comment", &[]),
    ("Product Attributes", &[]),
];

fn row(about: &About<'_>, item: Item<'_>, record: &mut csv::StringRecord) -> Result<(), Refused> {
    let testimonial = item.testimonial();
    record.push_field(harmless(name_or_anonymous(testimonial))?);
    record.push_field("");
    record.push_field(&testimonial.ordered_on.format("%d/%m/%Y").to_string());
    record.push_field(&about.submitted(testimonial).format("%d/%m/%Y").to_string());
    record.push_field(harmless(only_product(testimonial).unwrap_or_default())?);
    record.push_field(&rating(testimonial)?.to_string());
    record.push_field(harmless(&testimonial.comment)?);
    for _ in ["Product Rating", "Product Comment", "Product Attributes"] {
        record.push_field("");
    }
    Ok(())
}
