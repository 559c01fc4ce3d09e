//! The file for importing reviews into `PowerReviews`: <https://help.powerreviews.com/hc/en-us/articles/7216638586651-Review-Import-Process>.
//!
//! Names and numbers of products have limits there; what is beyond is refused rather than cut. Nobody was asked for a title. `PowerReviews`
//! does not allow a choice by rating, which this format cannot be asked for.

use super::format::{
    About, Column, ExportFormat, Increments, Item, Layout, Refused, Table, at_most, harmless,
    name_or_anonymous, only_product, plain, rating,
};
use crate::testimonials::public::Field;

pub(super) const FORMAT: ExportFormat = ExportFormat {
    name: "powerreviews",
    description: "PowerReviews' import; refused are testimonials without a rating, and about orders of no or several products",
    extension: "csv",
    media_type: "text/csv; charset=utf-8",
    says_selection: false,
    increments: Increments::InManifest,
    layout: Layout::Table(Table { dialect: plain, columns: |_| COLUMNS.to_vec(), row, gone: None }),
};

const LONGEST_NAME: usize = 40;
const LONGEST_PRODUCT: usize = 50;

const COLUMNS: [Column; 10] = [
    ("Review Id", &[Field::TestimonialId]),
    ("Page Id", &[Field::ProductIds]),
    ("Review Display", &[Field::DisplayName, Field::Language]),
    ("Review Title", &[]),
    ("Review Date", &[Field::SubmittedAt]),
    ("Review Location", &[Field::Country]),
    ("Review Text", &[Field::Comment]),
    ("Rating", &[Field::Rating]),
    ("Verified Buyer", &[Field::Verified]),
    ("Review Status", &[]),
];

fn row(about: &About<'_>, item: Item<'_>, record: &mut csv::StringRecord) -> Result<(), Refused> {
    let testimonial = item.testimonial();
    let product = at_most(only_product(testimonial)?, LONGEST_PRODUCT)?;
    if !product.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
        return Err(Refused::WrongProduct);
    }
    record.push_field(&testimonial.id.to_string());
    record.push_field(harmless(product)?);
    record.push_field(harmless(at_most(name_or_anonymous(testimonial), LONGEST_NAME)?)?);
    record.push_field("");
    record.push_field(&about.submitted(testimonial).format("%m/%d/%Y").to_string());
    record.push_field(testimonial.country.as_deref().unwrap_or_default());
    record.push_field(harmless(&testimonial.comment)?);
    record.push_field(&rating(testimonial)?.to_string());
    record.push_field("Yes");
    record.push_field("Approved");
    Ok(())
}
