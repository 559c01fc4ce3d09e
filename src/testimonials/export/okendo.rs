//! Okendo's import template: <https://support.okendo.io/en/articles/2057320-importing-reviews-using-the-okendo-import-template>.
//!
//! A review there is of a product, which a stock-keeping unit names: what orders call their items. The names of the further columns are
//! those of the template, as programs of others write it. Addresses never leave, and nobody was asked for a title.

use super::format::{
    About, Column, ExportFormat, Increments, Item, Layout, Refused, Table, harmless, name_or_anonymous,
    only_product, plain, rating, rfc3339,
};
use crate::testimonials::public::Field;

pub(super) const FORMAT: ExportFormat = ExportFormat {
    name: "okendo",
    description: "Okendo's import; refused are testimonials without a rating, and about orders of no or several products",
    extension: "csv",
    media_type: "text/csv; charset=utf-8",
    says_selection: false,
    increments: Increments::InManifest,
    layout: Layout::Table(Table { dialect: plain, columns: |_| COLUMNS.to_vec(), row, gone: None }),
};

const COLUMNS: [Column; 22] = [
    ("name", &[Field::DisplayName, Field::Language]),
    ("body", &[Field::Comment]),
    ("handle", &[]),
    ("productId", &[]),
    ("rating", &[Field::Rating]),
    ("sku", &[Field::ProductIds]),
    ("dateCreated", &[Field::SubmittedAt]),
    ("countryCode", &[Field::Country]),
    ("email", &[]),
    ("imageUrls", &[]),
    ("isApproved", &[]),
    ("isIncentivized", &[]),
    ("isRecommended", &[Field::Recommend]),
    ("rejectedImageUrls", &[]),
    ("reply", &[Field::Reply]),
    ("replyDateCreated", &[Field::RepliedAt]),
    ("replyIsPublic", &[Field::Reply]),
    ("title", &[]),
    ("videoUrls", &[]),
    ("isVerifiedBuyer", &[Field::Verified]),
    ("variantId", &[]),
    ("status", &[]),
];

fn row(_: &About<'_>, item: Item<'_>, record: &mut csv::StringRecord) -> Result<(), Refused> {
    let testimonial = item.testimonial();
    record.push_field(harmless(name_or_anonymous(testimonial))?);
    record.push_field(harmless(&testimonial.comment)?);
    record.push_field("");
    record.push_field("");
    record.push_field(&rating(testimonial)?.to_string());
    record.push_field(harmless(only_product(testimonial)?)?);
    record.push_field(&rfc3339(testimonial.submitted_at));
    record.push_field(testimonial.country.as_deref().unwrap_or_default());
    record.push_field("");
    record.push_field("");
    record.push_field("true");
    record.push_field("false");
    record.push_field(match testimonial.recommend.as_deref() {
        Some("yes") => "true",
        Some("no") => "false",
        _ => "",
    });
    record.push_field("");
    match &testimonial.reply {
        Some(reply) => {
            record.push_field(harmless(&reply.text)?);
            record.push_field(&rfc3339(reply.replied_at));
            record.push_field("true");
        }
        None => (0..3).for_each(|_| record.push_field("")),
    }
    for _ in ["title", "videoUrls"] {
        record.push_field("");
    }
    record.push_field("true");
    record.push_field("");
    record.push_field("approved");
    Ok(())
}
