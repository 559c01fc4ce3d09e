//! The stylesheets: one for all pages, and a small one per shop with its colours, because the pages allow no style of their own. Their
//! names carry a hash of their content, so that a browser may keep them for ever.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

use super::{Refusal, Web};
use crate::config::Config;
use crate::mail::templates::Templates;
use crate::mail::templates::palette::Palette;

/// A follow-up can be hidden until its answer is chosen when the question is among the first so many, …
pub(super) const QUESTIONS: usize = 12;
/// … and the answer among the first so many. Others are always shown.
pub(super) const OPTIONS: usize = 12;

/// The stylesheets by file name.
pub(super) struct Assets {
    files: BTreeMap<String, String>,
    page: String,
    /// File name by the shop's key.
    shops: BTreeMap<String, String>,
}

impl Assets {
    pub(super) fn new(config: &Config, templates: &Templates) -> Self {
        let mut files = BTreeMap::new();
        let mut add = |stem: &str, css: String| {
            let digest = Sha256::digest(&css);
            let hash = digest[..6].iter().fold(String::new(), |mut hash, byte| {
                let _ = write!(hash, "{byte:02x}");
                hash
            });
            let name = format!("{stem}.{hash}.css");
            files.insert(name.clone(), css);
            name
        };
        let page = add("page", format!("{}\n{}", templates.page_css(), follow_ups()));
        let shops = config.shops.iter().map(|shop| {
            let css = colors(&Palette::of(&shop.color));
            (shop.key.clone(), add(&format!("shop-{}", shop.key), css))
        });
        let shops = shops.collect();
        Self { files, page, shops }
    }

    /// The stylesheet with this name.
    fn get(&self, name: &str) -> Option<&str> {
        self.files.get(name).map(String::as_str)
    }

    /// All of them, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(name, css)| (name.as_str(), css.as_str()))
    }

    /// The addresses of a page's stylesheets.
    pub(super) fn styles(&self, prefix: &str, shop: Option<&str>) -> Vec<String> {
        let shop = shop.and_then(|key| self.shops.get(key));
        std::iter::once(&self.page).chain(shop).map(|name| format!("{prefix}/assets/{name}")).collect()
    }
}

/// `GET /assets/{name}`
pub(super) async fn serve(State(web): State<Web>, Path(name): Path<String>) -> Result<Response, Refusal> {
    let css = web.pages.assets.get(&name).ok_or(Refusal::Gone)?;
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    Ok((headers, css.to_owned()).into_response())
}

fn colors(palette: &Palette) -> String {
    let Palette { accent, on_accent, link, link_dark } = palette;
    format!(
        ":root {{ --accent: {accent}; --on-accent: {on_accent}; --link: {link}; }}\n\
         @media (prefers-color-scheme: dark) {{ :root {{ --link: {link_dark}; }} }}\n"
    )
}

/// The rules that hide a follow-up until one of its answers is chosen. A style cannot compare names, so there is a rule per place of an
/// answer. A browser that does not know `:has` shows every question.
fn follow_ups() -> String {
    let mut css = "@supports selector(:has(*)) {\n.after{display:none}\n".to_owned();
    for question in 0..QUESTIONS {
        for option in 0..OPTIONS {
            let mark = format!("q{question}o{option}");
            // Writing to a string cannot fail.
            let _ = writeln!(css, "form:has(.{mark}:checked) .after.{mark}{{display:block}}");
        }
    }
    css.push_str("}\n");
    css
}
