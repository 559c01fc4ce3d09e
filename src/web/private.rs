//! The pages for the shop's own people. Comes in: a request with a token of `[[access]]`. Goes out: the report, made for this request.
//! Nothing is written. It listens only where `[app] private_listen` says.
//!
//! Who asks shows a name and a token (HTTP Basic, so that a browser asks for them), or the token alone (Bearer). Tokens are compared by
//! their digests, each with each, in a time that tells nothing. What stands in the way (the web server with TLS, a private network) is
//! the installation's business, as for the public pages.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::timeout::TimeoutLayer;

use super::{HEADERS, server};
use crate::config::{Access, Right};
use crate::context::Context;
use crate::masked;
use crate::metrics::report;
use crate::metrics::window::{Bound, Window};
use crate::types::Locale;

/// A report of years of orders takes its time.
const REPORT_LIMIT: Duration = Duration::from_secs(120);
/// So many reports are made at a time; a report keeps the database busy.
const MOST_REPORTS: usize = 2;

/// Answers on this listener until `stop` is asked for; then lets running requests end, for as long as `[app] shutdown_grace` says.
pub async fn serve(listener: TcpListener, context: Context, stop: CancellationToken) {
    let app = &context.config.app;
    let (grace, proxies) = (app.shutdown_grace, app.trusted_proxies.clone());
    server::serve(listener, router(context), proxies, stop, grace).await;
}

fn router(context: Context) -> Router {
    let house = House { context, seats: Arc::new(Semaphore::new(MOST_REPORTS)) };
    Router::new()
        .route("/report", get(show))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REPORT_LIMIT))
        .route("/livez", get(async || "ok"))
        .fallback(async || StatusCode::NOT_FOUND)
        .layer(middleware::from_fn(finish))
        .with_state(house)
}

#[derive(Clone)]
struct House {
    context: Context,
    seats: Arc<Semaphore>,
}

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

/// Why there is no report, as a status and a sentence.
enum Refusal {
    Unknown,
    Forbidden,
    Wrong(String),
    Busy,
    Failed(anyhow::Error),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = match self {
            Self::Unknown => {
                (StatusCode::UNAUTHORIZED, "a name and a token of [[access]] are needed\n").into_response()
            }
            Self::Forbidden => (StatusCode::FORBIDDEN, "this access does not allow that\n").into_response(),
            Self::Wrong(why) => (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "other reports are being made\n").into_response(),
            Self::Failed(error) => {
                let reason = masked::reason(&error);
                tracing::error!(http.route = "/report", "a request to /report failed: {reason}");
                (StatusCode::INTERNAL_SERVER_ERROR, "the report could not be made\n").into_response()
            }
        };
        let said = match response.status() {
            StatusCode::UNAUTHORIZED => {
                Some((header::WWW_AUTHENTICATE, "Basic realm=\"afterword\", charset=\"UTF-8\""))
            }
            StatusCode::SERVICE_UNAVAILABLE => Some((header::RETRY_AFTER, "30")),
            _ => None,
        };
        if let Some((name, value)) = said {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

async fn show(
    State(house): State<House>,
    headers: HeaderMap,
    request: Request,
) -> Result<Html<String>, Refusal> {
    let access = known(&house.context.config.access, &headers).ok_or(Refusal::Unknown)?.clone();
    // What is asked is read only when it is known who asks.
    let Query(asked) = Query::<Asked>::try_from_uri(request.uri())
        .map_err(|_| Refusal::Wrong("known are shop, from, to, as-of and locale, each once".to_owned()))?;
    let seat = Arc::clone(&house.seats).try_acquire_owned().map_err(|_| Refusal::Busy)?;
    // A reader who goes away must not leave a query half way.
    let made = tokio::spawn(async move {
        let _seat = seat;
        page(&house.context.for_reading(), &access, asked).await
    });
    made.await.map_err(|error| Refusal::Failed(error.into()))?.map(Html)
}

async fn page(context: &Context, access: &Access, asked: Asked) -> Result<String, Refusal> {
    let named = asked.shop.as_deref();
    let shops: Vec<_> = context
        .shops
        .iter()
        .filter(|(_, shop)| named.is_none_or(|key| key == shop.key) && access.may(Right::Report, &shop.key))
        .collect();
    if shops.is_empty() {
        return Err(Refusal::Forbidden);
    }
    let bound = |name: &str, typed: Option<String>| {
        typed
            .map(|typed| typed.parse::<Bound>())
            .transpose()
            .map_err(|why| Refusal::Wrong(format!("{name}: {why}")))
    };
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
    page.map_err(Refusal::Failed)
}

/// Whose token this is. Every access is looked at, so that the time tells nothing about which one it was, or whether there is such a name.
fn known<'a>(all: &'a [Access], headers: &HeaderMap) -> Option<&'a Access> {
    let shown = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = shown.split_once(' ')?;
    let (name, token) = if scheme.eq_ignore_ascii_case("basic") {
        let decoded = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
        let (name, token) = decoded.split_once(':')?;
        (Some(name.to_owned()), token.to_owned())
    } else if scheme.eq_ignore_ascii_case("bearer") {
        (None, rest.trim().to_owned())
    } else {
        return None;
    };
    all.iter().fold(None, |found, access| {
        let is_token = access.token.is(&token);
        let is_name = name.as_ref().is_none_or(|name| *name == access.name);
        if is_token && is_name { Some(access) } else { found }
    })
}

/// Puts the headers of the public pages on everything; the one stylesheet that the report has in itself is known by its digest.
async fn finish(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let policy = format!(
        "default-src 'none'; style-src {}; form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
        report::style_hash()
    );
    if let Ok(policy) = HeaderValue::try_from(policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AccessToken;

    #[test]
    fn who_asks_is_known_by_the_token() {
        let access = |name: &str, token: &str| Access {
            name: name.to_owned(),
            token: AccessToken::new(token),
            allow: vec![Right::Report],
            shops: None,
        };
        let all = [access("marketing", "one-token"), access("care", "another:token")];
        let check = |shown: &str, expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(shown).unwrap());
            assert_eq!(known(&all, &headers).map(|access| access.name.as_str()), expected, "{shown}");
        };
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        check("Bearer one-token", Some("marketing"));
        check("bearer another:token", Some("care"));
        check("Bearer one-toke", None);
        check("Bearer ", None);
        check(&basic("marketing:one-token"), Some("marketing"));
        check(&basic("care:another:token"), Some("care"));
        check(&basic("care:one-token"), None);
        check(&basic("one-token"), None);
        check("Basic !!!", None);
        check("Digest one-token", None);
        assert!(known(&all, &HeaderMap::new()).is_none());
    }
}
