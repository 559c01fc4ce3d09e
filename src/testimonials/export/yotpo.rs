//! Yotpo's import: <https://support.yotpo.com/docs/importing-reviews-to-yotpo>.
//!
//! Yotpo matches columns by their names and lets a person correct that. A row without a product is a review of the site, which is what was
//! asked about. It also wants an address for each row; addresses never leave, and that column is empty, to be filled by whoever may.

use super::format::{
    About, Column, ExportFormat, Increments, Item, Layout, Refused, Table, harmless, name_or_anonymous,
    plain, rating,
};
use crate::testimonials::public::Field;

pub(super) const FORMAT: ExportFormat = ExportFormat {
    name: "yotpo",
    description: "Yotpo's import, as reviews of the site; testimonials without a rating are refused",
    extension: "csv",
    media_type: "text/csv; charset=utf-8",
    says_selection: false,
    increments: Increments::InManifest,
    layout: Layout::Table(Table { dialect: plain, columns: |_| COLUMNS.to_vec(), row, gone: None }),
};

const COLUMNS: [Column; 12] = [
    ("Product ID", &[]),
    ("Review Creation Date", &[Field::SubmittedAt]),
    ("Review Content", &[Field::Comment]),
    ("Review Score", &[Field::Rating]),
    ("Review Title", &[]),
    ("Reviewer Display Name", &[Field::DisplayName, Field::Language]),
    ("Reviewer Email", &[]),
    ("Customer Country", &[Field::Country]),
    ("Publish Review", &[]),
    ("Comment Content", &[Field::Reply]),
    ("Comment Date", &[Field::RepliedAt]),
    ("Review Image URLs", &[]),
];

fn row(about: &About<'_>, item: Item<'_>, record: &mut csv::StringRecord) -> Result<(), Refused> {
    let testimonial = item.testimonial();
    record.push_field("");
    record.push_field(&about.submitted(testimonial).format("%F").to_string());
    record.push_field(harmless(&testimonial.comment)?);
    record.push_field(&rating(testimonial)?.to_string());
    record.push_field("");
    record.push_field(harmless(name_or_anonymous(testimonial))?);
    record.push_field("");
    record.push_field(testimonial.country.as_deref().unwrap_or_default());
    record.push_field("TRUE");
    match &testimonial.reply {
        Some(reply) => {
            record.push_field(harmless(&reply.text)?);
            record.push_field(&about.local(testimonial, reply.replied_at).format("%F").to_string());
        }
        None => (0..2).for_each(|_| record.push_field("")),
    }
    record.push_field("");
    Ok(())
}
