//! JSON-LD of schema.org: <https://schema.org/Review>, for the shop's own pages.
//!
//! Search engines show no stars for what a shop says of itself
//! (<https://developers.google.com/search/docs/appearance/structured-data/review-snippet>); machines and people read it nevertheless. `<`
//! is written by its number, so that the file can stand in a page's `script` whatever the words are.

use serde_json::{Value, json};

use super::format::{
    About, Column, Document, ExportFormat, Gone, Increments, Item, Layout, Refused, Written, rfc3339,
};
use crate::testimonials::public::Field;

pub(super) const FORMAT: ExportFormat = ExportFormat {
    name: "schema-org",
    description: "JSON-LD of schema.org, for the shop's own pages",
    extension: "jsonld",
    media_type: "application/ld+json",
    says_selection: true,
    increments: Increments::InManifest,
    layout: Layout::Document(Document { elements: &ELEMENTS, open, piece, between: BETWEEN, close }),
};

const ELEMENTS: [Column; 12] = [
    ("@type", &[]),
    ("identifier", &[Field::TestimonialId]),
    ("itemReviewed", &[Field::Shop]),
    ("reviewBody", &[Field::Comment]),
    ("inLanguage", &[Field::Language]),
    ("dateCreated", &[Field::SubmittedAt]),
    ("datePublished", &[Field::PublishedAt]),
    ("temporalCoverage", &[Field::ExperienceDate]),
    ("reviewRating", &[Field::Rating]),
    ("author", &[Field::DisplayName]),
    ("isPartOf", &[]),
    ("aggregateRating", &[Field::Rating]),
];

const BETWEEN: &str = ",\n";
const SELECTION: &str = "#selection";

fn push(out: &mut String, value: &Value) {
    out.push_str(&value.to_string().replace('<', "\\u003c"));
}

fn open(about: &About<'_>, out: &mut String) {
    out.push_str("{\"@context\":\"https://schema.org\",\"@graph\":[\n");
    for (n, (_, shop)) in about.shops.iter().enumerate() {
        out.push_str(if n == 0 { "" } else { BETWEEN });
        push(out, &json!({ "@type": "OnlineStore", "@id": shop.url, "name": shop.name, "url": shop.url }));
    }
    // What a reader must not miss about a selection comes before what was selected.
    if let Some(selected) = about.selected {
        out.push_str(BETWEEN);
        let (name, rule) = (&selected.label, selected.to_string());
        push(out, &json!({ "@type": "CreativeWork", "@id": SELECTION, "name": name, "abstract": rule }));
    }
}

fn piece(about: &About<'_>, item: Item<'_>, out: &mut String) -> Result<(), Refused> {
    let testimonial = item.testimonial();
    let url = about.shop(&testimonial.shop).map(|shop| shop.url.as_str());
    let mut review = json!({
        "@type": "Review",
        "identifier": testimonial.id.to_string(),
        "itemReviewed": { "@id": url },
        "reviewBody": testimonial.comment,
        "inLanguage": testimonial.language,
        "dateCreated": rfc3339(testimonial.submitted_at),
        "datePublished": rfc3339(testimonial.published_at),
        "temporalCoverage": testimonial.experience_date.to_string(),
    });
    if let Some(rating) = testimonial.rating {
        review["reviewRating"] =
            json!({ "@type": "Rating", "ratingValue": rating, "bestRating": 5, "worstRating": 1 });
    }
    if !testimonial.display_name.is_empty() {
        review["author"] = json!({ "@type": "Person", "name": testimonial.display_name });
    }
    if about.selected.is_some() {
        review["isPartOf"] = json!({ "@id": SELECTION });
    }
    push(out, &review);
    Ok(())
}

/// The rating of the whole, where this is the whole.
fn close(about: &About<'_>, written: &Written, _: &[Gone<'_>], out: &mut String) {
    let whole = about.since.is_none() && about.selected.is_none();
    if let [(_, shop)] = about.shops
        && whole
        && written.n_ratings > 0
    {
        #[expect(clippy::cast_precision_loss, reason = "a mean of fewer ratings than 2^53")]
        let mean = written.sum_ratings as f64 / written.n_ratings as f64;
        let rating = json!({
            "@type": "AggregateRating", "ratingValue": (mean * 100.0).round() / 100.0, "bestRating": 5, "worstRating": 1,
            "ratingCount": written.n_ratings, "reviewCount": written.n,
        });
        out.push_str(BETWEEN);
        push(out, &json!({ "@id": shop.url, "aggregateRating": rating }));
    }
    out.push_str("\n]}\n");
}
