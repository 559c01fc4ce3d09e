//! Google's merchant review feed, version 5.0, for the ratings of sellers: <https://developers.google.com/merchant-review-feeds/xmlschema>.
//! The elements stand in the order of its sample (<https://developers.google.com/merchant-review-feeds/v5samplefeed>).
//!
//! An update has to change its timestamp (<https://developers.google.com/merchant-review-feeds/qachecklist>), and what has not changed must not, or
//! nobody who pulls the file would ever have it already. When a shop's own name or address was changed is not kept anywhere; its entry is as
//! new as the latest decision about a testimonial.

use std::fmt::Write as _;

use super::format::{
    About, Column, Document, ExportFormat, Gone, Increments, Item, Layout, Refused, Written, rating, rfc3339,
};
use super::xml::{element, own, text};
use crate::testimonials::public::Field;

pub(super) const FORMAT: ExportFormat = ExportFormat {
    name: "google-merchant",
    description: "Google's merchant review feed 5.0; refused are testimonials without a rating, and about orders without a country",
    extension: "xml",
    media_type: "application/xml",
    says_selection: false,
    increments: Increments::Tombstones,
    layout: Layout::Document(Document { elements: &ELEMENTS, open, piece, between: "", close }),
};

const ELEMENTS: [Column; 9] = [
    ("@id", &[Field::TestimonialId]),
    ("@mid", &[Field::Shop]),
    ("reviewer_name", &[Field::DisplayName]),
    ("create_timestamp", &[Field::SubmittedAt]),
    ("last_update_timestamp", &[Field::ChangedAt]),
    ("country_code", &[Field::Country]),
    ("content", &[Field::Comment]),
    ("ratings", &[Field::Rating]),
    ("collection_method", &[]),
];

fn open(about: &About<'_>, out: &mut String) {
    out.push_str(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <feed xmlns=\"http://schemas.google.com/merchant_reviews/5.0\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
         xsi:schemaLocation=\"http://schemas.google.com/merchant_reviews/5.0 \
         http://www.gstatic.com/productsearch/static/reviews/5.0/merchant_reviews.xsd\">\n<merchants>\n",
    );
    for (_, shop) in about.shops {
        out.push_str("<merchant id=\"");
        // A key is of letters, digits, dashes and underscores.
        let _ = text(out, &shop.key);
        out.push_str("\">");
        own(out, "name", &shop.name);
        own(out, "merchant_url", &shop.url);
        own(out, "rating_url", &shop.url);
        if let Some(decided_at) = about.decided_at {
            own(out, "last_update_timestamp", &rfc3339(decided_at));
        }
        out.push_str("</merchant>\n");
    }
    out.push_str("</merchants>\n<reviews>\n");
}

fn piece(_: &About<'_>, item: Item<'_>, out: &mut String) -> Result<(), Refused> {
    let testimonial = item.testimonial();
    let rating = rating(testimonial)?;
    let country = testimonial.country.as_deref().ok_or(Refused::NoCountry)?;
    // Writing into a string does not fail.
    let _ = write!(out, "<review id=\"{}\" mid=\"", testimonial.id);
    text(out, &testimonial.shop)?;
    out.push_str("\">");
    if !testimonial.display_name.is_empty() {
        element(out, "reviewer_name", &testimonial.display_name)?;
    }
    element(out, "create_timestamp", &rfc3339(testimonial.submitted_at))?;
    element(out, "last_update_timestamp", &rfc3339(testimonial.changed_at))?;
    element(out, "country_code", country)?;
    element(out, "content", &testimonial.comment)?;
    let _ = write!(out, "<ratings><overall min=\"1\" max=\"5\">{rating}</overall></ratings>");
    out.push_str("<collection_method>after_fulfillment</collection_method></review>\n");
    Ok(())
}

fn close(_: &About<'_>, _: &Written, gone: &[Gone<'_>], out: &mut String) {
    out.push_str("</reviews>\n");
    if !gone.is_empty() {
        out.push_str("<deleted_reviews>\n");
        for gone in gone {
            let _ = write!(out, "<deleted_review id=\"{}\">", gone.id);
            own(out, "last_update_timestamp", &rfc3339(gone.at));
            out.push_str("</deleted_review>\n");
        }
        out.push_str("</deleted_reviews>\n");
    }
    out.push_str("</feed>\n");
}
