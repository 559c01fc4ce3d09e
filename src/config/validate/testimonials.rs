//! `[testimonials]`

use super::words::{parse_duration, parsed, text};
use crate::config::problem::Problems;
use crate::config::{Testimonials, raw};
use crate::nearest::unknown;
use crate::testimonials::export::PLACE_OF_PRODUCT;

/// What can be used of it; the rest is among the problems.
pub(super) fn testimonials(
    typed: &raw::Testimonials,
    shop_keys: &[&str],
    problems: &mut Problems<'_>,
) -> Testimonials {
    for (shop, word) in &typed.product_urls {
        if let Some(unknown) = unknown("shop", shop, shop_keys.iter().copied()) {
            problems.add(word.span(), unknown, None);
        }
        if !text(word).starts_with("https://") || !text(word).contains(PLACE_OF_PRODUCT) {
            let help = format!("such as https://shop.example/products/{PLACE_OF_PRODUCT}");
            problems.add(
                word.span(),
                "not the https address of a product's page with a place for its number",
                Some(help),
            );
        }
    }
    Testimonials {
        display_name: typed.display_name.unwrap_or_default(),
        publish_within: typed.publish_within.as_ref().and_then(|word| parsed(word, problems, parse_duration)),
        product_urls: typed
            .product_urls
            .iter()
            .map(|(shop, word)| (shop.clone(), text(word).to_owned()))
            .collect(),
    }
}
