//! Loox's file for importing reviews: <https://help.loox.io/support/solutions/articles/501000162508-importing-reviews-using-a-custom-file>.
//!
//! A review there is of a product, which is named by its handle: orders have to name their items so. Columns and dates are those that
//! programs of others write by that article. Addresses never leave.

use super::format::{
    About, Column, ExportFormat, Increments, Item, Layout, Refused, Table, harmless, name_or_anonymous,
    only_product, plain, rating,
};
use crate::testimonials::public::Field;

pub(super) const FORMAT: ExportFormat = ExportFormat {
    name: "loox",
    description: "Loox's import; refused are testimonials without a rating, and about orders of no or several products",
    extension: "csv",
    media_type: "text/csv; charset=utf-8",
    says_selection: false,
    increments: Increments::InManifest,
    layout: Layout::Table(Table { dialect: plain, columns: |_| COLUMNS.to_vec(), row, gone: None }),
};

const COLUMNS: [Column; 12] = [
    ("product_handle", &[Field::ProductIds]),
    ("product_Id", &[]),
    ("rating", &[Field::Rating]),
    ("author", &[Field::DisplayName, Field::Language]),
    ("email", &[]),
    ("body", &[Field::Comment]),
    ("created_at", &[Field::SubmittedAt]),
    ("photo_url", &[]),
    ("reply", &[Field::Reply]),
    ("replied_at", &[Field::RepliedAt]),
    ("verified_purchase", &[Field::Verified]),
    ("incentivized", &[]),
];

fn row(about: &About<'_>, item: Item<'_>, record: &mut csv::StringRecord) -> Result<(), Refused> {
    let testimonial = item.testimonial();
    record.push_field(harmless(only_product(testimonial)?)?);
    record.push_field("");
    record.push_field(&rating(testimonial)?.to_string());
    record.push_field(harmless(name_or_anonymous(testimonial))?);
    record.push_field("");
    record.push_field(harmless(&testimonial.comment)?);
    record.push_field(&about.submitted(testimonial).format("%F").to_string());
    record.push_field("");
    match &testimonial.reply {
        Some(reply) => {
            record.push_field(harmless(&reply.text)?);
            record.push_field(&about.local(testimonial, reply.replied_at).format("%F").to_string());
        }
        None => (0..2).for_each(|_| record.push_field("")),
    }
    record.push_field("TRUE");
    record.push_field("FALSE");
    Ok(())
}
