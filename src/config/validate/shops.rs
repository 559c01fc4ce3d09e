//! `[[shop]]`.

use super::questions::texts;
use super::words::{check_key, mailbox, parsed, text, timezone};
use crate::config::problem::Problems;
use crate::config::raw::{self, Word};
use crate::config::{ReviewPlace, Shop};

const DEFAULT_COLOR: &str = "#1f5d4c";

pub(super) fn shops(shops: &[raw::Shop], problems: &mut Problems<'_>) -> Option<Vec<Shop>> {
    if shops.is_empty() {
        problems.add(
            0..0,
            "there is no [[shop]]",
            Some("add one, with key, name, locale, timezone, from and url".to_owned()),
        );
        return None;
    }
    let mut valid: Vec<Shop> = Vec::new();
    for shop in shops {
        let key = text(&shop.key);
        check_key("shop", key, shop.key.span(), problems);
        if valid.iter().any(|other| other.key == key) {
            problems.add(shop.key.span(), format!("the shop {key:?} stands here twice"), None);
        }
        let timezone = timezone(&shop.timezone, problems);
        let from = mailbox(&shop.from, problems);
        let reply_to = shop.reply_to.as_ref().map(|word| mailbox(word, problems));
        web_address(&shop.url, "https://shop.example", problems);
        let logo =
            shop.logo.as_ref().map(|word| web_address(word, "https://shop.example/logo.png", problems));
        let privacy_url =
            shop.privacy_url.as_ref().map(|word| web_address(word, "https://shop.example/privacy", problems));
        let color = shop.color.as_ref().map_or(Some(DEFAULT_COLOR.to_owned()), |word| {
            parsed(word, problems, |text| {
                let hex = text.strip_prefix('#').unwrap_or_default();
                if hex.len() == 6 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
                    Ok(text.to_ascii_lowercase())
                } else {
                    Err("expected a colour such as #1f5d4c".to_owned())
                }
            })
        });
        let review_places = review_places(&shop.review_places, problems);
        let unhappy_next =
            shop.unhappy_next.as_ref().map(|wordings| texts(wordings.get_ref(), wordings.span(), problems));
        if let (Some(timezone), Some(from), Some(color)) = (timezone, from, color) {
            valid.push(Shop {
                key: key.to_owned(),
                name: shop.name.0.clone(),
                locale: shop.locale.get_ref().clone(),
                timezone,
                from,
                reply_to: reply_to.flatten(),
                url: text(&shop.url).to_owned(),
                color,
                logo,
                address: shop.address.as_ref().map(|address| on_one_line(&address.0)),
                privacy_url,
                review_places,
                unhappy_next,
            });
        }
    }
    (valid.len() == shops.len()).then_some(valid)
}

fn review_places(places: &[raw::ReviewPlace], problems: &mut Problems<'_>) -> Vec<ReviewPlace> {
    let mut valid: Vec<ReviewPlace> = Vec::new();
    for place in places {
        let name = text(&place.name).trim().to_owned();
        if name.is_empty() {
            problems.add(place.name.span(), "a place needs a name, which customers read as a link", None);
        } else if valid.iter().any(|other| other.name == name) {
            problems.add(place.name.span(), format!("the place {name:?} stands here twice"), None);
        }
        let url = web_address(&place.url, "https://reviews.example/your-shop", problems);
        valid.push(ReviewPlace { name, url });
    }
    valid
}

/// Notes what is no address of the web, and gives it back as it was typed.
fn web_address(word: &Word, example: &str, problems: &mut Problems<'_>) -> String {
    let typed = text(word);
    let host = typed.strip_prefix("https://").or_else(|| typed.strip_prefix("http://"));
    if host.is_none_or(|host| host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()))
    {
        problems.add(
            word.span(),
            format!("{typed:?} is not a web address"),
            Some(format!("write it as {example}")),
        );
    }
    typed.to_owned()
}

/// Lines, joined by commas.
fn on_one_line(text: &str) -> String {
    let lines = text.lines().map(|line| line.trim().trim_end_matches(',')).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(", ")
}
