//! What the pages of this listener share: one stylesheet, and a template that is filled in the reader's language. They work without
//! JavaScript.

use std::sync::LazyLock;

use axum::http::{HeaderMap, header};
use axum::response::Html;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use handlebars::Handlebars;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Refusal;
use crate::types::Locale;

/// The stylesheet of all of them.
const STYLE: &str = include_str!("../../../templates/exports/exports.css");

/// By which a Content-Security-Policy knows the stylesheet: `'sha256-…'`.
pub(super) fn style_hash() -> &'static str {
    static HASH: LazyLock<String> =
        LazyLock::new(|| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(STYLE))));
    &HASH
}

/// A page, with its words in each language; English comes first.
#[derive(Debug)]
pub(super) struct Page<W> {
    languages: Vec<Language<W>>,
    template: Handlebars<'static>,
}

/// A language, and what a page says in it. The files say what each word is for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Language<W> {
    language: String,
    name: String,
    pub(super) words: W,
}

/// What a template is filled with.
#[derive(Debug, Serialize)]
struct Filling<'a, W, V> {
    language: &'a str,
    words: &'a W,
    style: &'static str,
    languages: Vec<Choice<'a>>,
    #[serde(flatten)]
    view: V,
}

#[derive(Debug, Serialize)]
struct Choice<'a> {
    language: &'a str,
    name: &'a str,
    is_chosen: bool,
}

impl<W: DeserializeOwned + Serialize> Page<W> {
    /// Of what is compiled in: a template, and a file of words for each language.
    ///
    /// # Panics
    /// When one of them is wrong, which a test of each page sees to.
    pub(super) fn compiled(template: &str, words: [&str; 2]) -> Self {
        let mut compiled = Handlebars::new();
        compiled.set_strict_mode(true);
        compiled.register_template_string("page", template).expect("compiled in, and compiled by a test");
        let languages = words.map(|text| toml::from_str(text).expect("compiled in, and read by a test"));
        Self { languages: languages.into(), template: compiled }
    }

    /// The language that is asked for, else the browser's, else the first of `usual`, else English.
    pub(super) fn language(
        &self,
        asked: Option<&str>,
        headers: &HeaderMap,
        usual: impl Iterator<Item = Locale>,
    ) -> &Language<W> {
        let accepted =
            headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let accepted = accepted.split(',').filter_map(|range| range.split(';').next());
        let wanted = asked.into_iter().chain(accepted).filter_map(|typed| Locale::parse(typed.trim()).ok());
        wanted
            .chain(usual)
            .find_map(|locale| self.languages.iter().find(|one| one.language == locale.language()))
            .unwrap_or(&self.languages[0])
    }

    /// The page in this language.
    ///
    /// # Errors
    /// When the template asks for what `view` does not have.
    pub(super) fn fill(&self, chosen: &Language<W>, view: impl Serialize) -> Result<Html<String>, Refusal> {
        let languages = self.languages.iter().map(|one| Choice {
            language: &one.language,
            name: &one.name,
            is_chosen: one.language == chosen.language,
        });
        let filling = Filling {
            language: &chosen.language,
            words: &chosen.words,
            style: STYLE,
            languages: languages.collect(),
            view,
        };
        self.template.render("page", &filling).map(Html).map_err(|error| Refusal::Failed(error.into()))
    }

    /// What a test of each page asks: the words of all languages, in the order of the files.
    #[cfg(test)]
    pub(super) fn words(&self) -> impl Iterator<Item = (&str, &W)> {
        self.languages.iter().map(|one| (one.language.as_str(), &one.words))
    }
}

/// What a test of each page asks of its template: the stylesheet stands in it as it was digested, and nothing else is taken as it is.
#[cfg(test)]
pub(super) fn assert_template(template: &str) {
    assert!(template.contains("<style>{{{style}}}</style>") && !STYLE.contains("</"));
    assert_eq!(template.matches("{{{").count(), 1);
}
