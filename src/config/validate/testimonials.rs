//! `[testimonials]`

use chrono::TimeDelta;

use super::retention::time;
use super::words::{duration, text};
use crate::config::problem::Problems;
use crate::config::{Moderation, Testimonials, raw};
use crate::nearest::unknown;
use crate::testimonials::export::PLACE_OF_PRODUCT;

/// How long after it came an answer is published or refused, where nothing else is announced.
const PUBLISH_WITHIN: TimeDelta = TimeDelta::days(10);

/// What moderation and exports go by.
pub(super) fn testimonials(
    typed: &raw::Testimonials,
    shop_keys: &[&str],
    problems: &mut Problems<'_>,
) -> Option<Testimonials> {
    for word in typed.staff.iter().filter(|word| text(word).trim().is_empty()) {
        problems.add(word.span(), "a name of nobody", None);
    }
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
    let publish_within = duration(typed.publish_within.as_ref(), PUBLISH_WITHIN, problems);
    Some(Testimonials {
        display_name: typed.display_name.unwrap_or_default(),
        moderation: typed.moderation.unwrap_or(Moderation::Manual),
        staff: typed.staff.iter().map(|word| text(word).to_owned()).collect(),
        publish_within: publish_within?,
        product_urls: typed
            .product_urls
            .iter()
            .map(|(shop, word)| (shop.clone(), text(word).to_owned()))
            .collect(),
        retain: typed.retain.as_ref().and_then(|word| time(word, problems)),
    })
}
