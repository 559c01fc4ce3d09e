//! `GET /report`: the report as a page, made for this request. Nothing is written.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Html;
use serde::Deserialize;

use super::{House, Refusal, Visitor, bound, fields, read, seat, to_its_end};
use crate::context::Context;
use crate::metrics::report;
use crate::metrics::window::Window;
use crate::types::Locale;

/// What is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Asked {
    shop: Option<String>,
    from: Option<String>,
    to: Option<String>,
    as_of: Option<String>,
    locale: Option<String>,
}

pub(super) async fn show(
    State(house): State<House>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Html<String>, Refusal> {
    let asked = read(&fields(&uri)?, "shop, from, to, as-of and locale")?;
    let seat = seat(&house.reports)?;
    to_its_end(async move {
        let _seat = seat;
        page(&house.context.for_reading(), &visitor, asked).await.map(Html)
    })
    .await
}

async fn page(context: &Context, visitor: &Visitor, asked: Asked) -> Result<String, Refusal> {
    let shops = visitor.shops(context, asked.shop.as_deref())?;
    let window = Window { from: bound("from", asked.from)?, to: bound("to", asked.to)? };
    let as_of = bound("as-of", asked.as_of)?;
    let frozen = as_of.is_some();
    let as_of = as_of.map_or_else(|| context.clock.now(), |as_of| as_of.at(chrono_tz::UTC));
    let zones = shops.iter().map(|(_, shop)| shop.timezone);
    window.check(zones, as_of).map_err(|empty| Refusal::Wrong(empty.to_string()))?;
    let locale = asked.locale.map(|typed| Locale::parse(&typed)).transpose().map_err(Refusal::Wrong)?;
    let locale = locale.as_ref().or(shops.first().map(|(_, shop)| &shop.locale));
    let contents = report::gather(context, &shops, report::Scope { window, frozen, last: None }, as_of).await;
    let page = contents.and_then(|contents| report::render(&contents, context, locale));
    page.map_err(Refusal::of)
}
