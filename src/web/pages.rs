//! What a page is made with: the templates, the stylesheets, and what jobs.toml says of the shops. It knows no database, so that `check`
//! can make the pages of a survey before anybody is asked.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{Html, IntoResponse as _, Response};

use super::assets::Assets;
use crate::config::{Config, Shop};
use crate::mail::templates::views::{Direction, Page, ShopView, View};
use crate::mail::templates::words::Words;
use crate::mail::templates::{TemplateError, Templates};
use crate::token::Tokens;
use crate::types::Locale;

/// Set up once and then only read.
pub(super) struct Pages {
    pub config: Arc<Config>,
    pub templates: Arc<Templates>,
    pub tokens: Tokens,
    pub assets: Assets,
    /// What stands before every path: the path of `base_url`, for pages that live below one.
    pub prefix: String,
}

impl Pages {
    pub(super) fn new(
        config: Arc<Config>,
        templates: Arc<Templates>,
        tokens: Tokens,
        prefix: impl Into<String>,
    ) -> Self {
        let assets = Assets::new(&config, &templates);
        Self { config, templates, tokens, assets, prefix: prefix.into() }
    }

    /// The language for a reader who wants this one, in this shop.
    pub(super) fn language(&self, wanted: Option<&Locale>, shop: &Shop) -> (&Locale, &Words) {
        self.templates.language(wanted, &shop.locale)
    }

    /// A page, as HTML; without a shop where it must not tell links apart.
    pub(super) fn html<V: View>(
        &self,
        shop: Option<&Shop>,
        locale: &Locale,
        words: &Words,
        view: &V,
    ) -> Result<String, TemplateError> {
        let styles = self.assets.styles(&self.prefix, shop.map(|shop| shop.key.as_str()));
        let (direction, shop) = (Direction::of(locale), shop.map(ShopView::of));
        self.templates.page(&Page { locale: locale.as_str(), direction, words, styles, shop, page: view })
    }

    /// A page of a shop, as a response.
    pub(super) fn response<V: View>(
        &self,
        status: StatusCode,
        shop: &Shop,
        locale: &Locale,
        words: &Words,
        view: &V,
    ) -> Result<Response, TemplateError> {
        Ok((status, Html(self.html(Some(shop), locale, words, view)?)).into_response())
    }
}
