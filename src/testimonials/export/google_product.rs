//! Google's product review feed, version 2.4: <https://developers.google.com/product-review-feeds/schema>. The elements stand in the order
//! of its sample (<https://developers.google.com/product-review-feeds/sample>).
//!
//! Google takes each file for the whole: a review that is missing is deleted there. It finds the product by its number and by the address of
//! its page, which `[testimonials] product_urls` says.

use std::fmt::Write as _;

use super::format::{
    About, Column, Document, ExportFormat, Gone, Increments, Item, Layout, Refused, Written,
    name_or_anonymous, only_product, rating, rfc3339,
};
use super::xml::{element, own};
use crate::testimonials::public::Field;

pub(super) const FORMAT: ExportFormat = ExportFormat {
    name: "google-product",
    description: "Google's product review feed 2.4; refused are testimonials without a rating, and about orders of no or several products",
    extension: "xml",
    media_type: "application/xml",
    says_selection: false,
    increments: Increments::Never,
    layout: Layout::Document(Document { elements: &ELEMENTS, open, piece, between: "", close }),
};

const ELEMENTS: [Column; 11] = [
    ("review_id", &[Field::TestimonialId]),
    ("reviewer", &[Field::DisplayName, Field::Language]),
    ("is_verified_purchase", &[Field::Verified]),
    ("review_timestamp", &[Field::SubmittedAt]),
    ("content", &[Field::Comment]),
    ("review_language", &[Field::Language]),
    ("review_country", &[Field::Country]),
    ("review_url", &[Field::Shop, Field::ProductIds]),
    ("ratings", &[Field::Rating]),
    ("products", &[Field::Shop, Field::ProductIds]),
    ("collection_method", &[]),
];

/// What stands in an address for the product's number.
pub(crate) const PLACE_OF_PRODUCT: &str = "{product}";

fn open(about: &About<'_>, out: &mut String) {
    out.push_str(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <feed xmlns:vc=\"http://www.w3.org/2007/XMLSchema-versioning\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
         xsi:noNamespaceSchemaLocation=\"http://www.google.com/shopping/reviews/schema/product/2.4/product_reviews.xsd\">\n\
         <version>2.4</version>\n<publisher>",
    );
    let names: Vec<&str> = about.shops.iter().map(|(_, shop)| shop.name.as_str()).collect();
    own(out, "name", &names.join(", "));
    out.push_str("</publisher>\n<reviews>\n");
}

fn piece(about: &About<'_>, item: Item<'_>, out: &mut String) -> Result<(), Refused> {
    let testimonial = item.testimonial();
    let product = only_product(testimonial)?;
    let rating = rating(testimonial)?;
    // Whoever asks for this format has said where each shop shows its products.
    let page = about.product_urls.get(&testimonial.shop).map(String::as_str).unwrap_or_default();
    let page = page
        .replace(PLACE_OF_PRODUCT, &form_urlencoded::byte_serialize(product.as_bytes()).collect::<String>());
    out.push_str("<review>");
    element(out, "review_id", &testimonial.id.to_string())?;
    out.push_str("<reviewer>");
    if testimonial.display_name.is_empty() {
        out.push_str("<name is_anonymous=\"true\">");
        out.push_str(name_or_anonymous(testimonial));
        out.push_str("</name>");
    } else {
        element(out, "name", &testimonial.display_name)?;
    }
    out.push_str("</reviewer><is_verified_purchase>true</is_verified_purchase>");
    element(out, "review_timestamp", &rfc3339(testimonial.submitted_at))?;
    element(out, "content", &testimonial.comment)?;
    element(out, "review_language", &testimonial.language)?;
    if let Some(country) = &testimonial.country {
        element(out, "review_country", country)?;
    }
    out.push_str("<review_url type=\"group\">");
    super::xml::text(out, &page)?;
    // Writing into a string does not fail.
    let _ = write!(out, "</review_url><ratings><overall min=\"1\" max=\"5\">{rating}</overall></ratings>");
    out.push_str("<products><product><product_ids><skus>");
    element(out, "sku", product)?;
    out.push_str("</skus></product_ids>");
    element(out, "product_url", &page)?;
    out.push_str("</product></products><collection_method>post_fulfillment</collection_method></review>\n");
    Ok(())
}

fn close(_: &About<'_>, _: &Written, _: &[Gone<'_>], out: &mut String) {
    out.push_str("</reviews>\n</feed>\n");
}
