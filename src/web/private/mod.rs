//! The pages for the shop's own people. Comes in: a request with a token of `[[access]]`. Goes out: the report, and what may leave the
//! house, made for this request. It listens only where `[app] private_listen` says.
//!
//! What there is stands in [`ROUTES`], with what an access must allow for it; the router is built from the table, and at the door of
//! each route stands the same check, so that none can be forgotten. Nobody who is not known learns what there is.
//!
//! Who asks shows a name and a token (HTTP Basic, so that a browser asks for them), or the token alone (Bearer). Tokens are compared by
//! their digests, each with each, in a time that tells nothing. What stands in the way (the web server with TLS, a private network) is
//! the installation's business, as for the public pages.

mod report;
mod exports;
mod exports_page;
mod page;
mod jobs;
mod jobs_page;
mod spool;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::timeout::TimeoutLayer;

use super::{HEADERS, server};
use crate::config::{Access, Right, Shop};
use crate::context::Context;
use crate::db;
use crate::db::outage::Outage;
use crate::masked;
use crate::metrics::window::Bound;
use crate::types::ShopId;
use crate::vitals;

/// Until an answer begins. A report of years of orders takes its time.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
/// So many reports are made at a time; a report keeps the database busy.
const MOST_REPORTS: usize = 2;
/// So many exports are made or taken at a time; each holds a connection to the database and a file on the disk.
const MOST_EXPORTS: usize = 2;
/// Nobody has more to say here, in bytes.
const BODY_LIMIT: usize = 4 * 1024;

/// A way in.
#[derive(Debug)]
pub struct Route {
    /// (What answers GET answers HEAD.)
    pub method: Method,
    pub path: &'static str,
    /// Who may come.
    pub who: Who,
    answers: fn() -> MethodRouter<House>,
}

/// Who may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Anybody who can reach the listener.
    Anybody,
    /// Who shows a token of `[[access]]`.
    Known,
    /// Who shows a token that allows this.
    May(Right),
}

/// All ways in, a line each; a test holds them against a list of its own and tries each without leave.
pub const ROUTES: &[Route] = &[
    Route::get("/livez", Who::Anybody, || get(async || "ok")),
    Route::get("/readyz", Who::Anybody, || {
        get(async |State(house): State<House>| super::readyz(house.context).await)
    }),
    Route::get("/metrics", Who::May(Right::Metrics), || get(metrics)),
    Route::get("/report", Who::May(Right::Report), || get(report::show)),
    Route::get("/exports", Who::May(Right::Export), || get(exports_page::show)),
    Route::get("/exports/testimonials.csv", Who::May(Right::Export), || get(exports::testimonials)),
    Route::get("/exports/testimonials.manifest.json", Who::May(Right::Export), || get(exports::manifest)),
    Route::get("/exports/testimonials.notice.fr.md", Who::May(Right::Export), || get(exports::notice_fr)),
    Route::get("/exports/testimonials.notice.en.md", Who::May(Right::Export), || get(exports::notice_en)),
    Route::get("/exports/metrics.csv", Who::May(Right::Report), || get(exports::metrics)),
    Route::get("/jobs", Who::May(Right::Run), || get(jobs::list)),
    Route::get("/jobs/{job}", Who::May(Right::Run), || get(jobs::one)),
    Route::post("/jobs/{job}/run", Who::May(Right::Run), || post(jobs::start)),
    Route::get("/runs/{run}", Who::May(Right::Run), || get(jobs::run)),
    Route::get("/openapi.json", Who::Known, || {
        get(async || ([(header::CONTENT_TYPE, "application/json")], OPENAPI))
    }),
];

/// What programs can ask here, as OpenAPI 3.1; a test holds it against [`ROUTES`].
pub const OPENAPI: &str = include_str!("openapi.json");

impl Route {
    const fn get(path: &'static str, who: Who, answers: fn() -> MethodRouter<House>) -> Self {
        Self { method: Method::GET, path, who, answers }
    }

    const fn post(path: &'static str, who: Who, answers: fn() -> MethodRouter<House>) -> Self {
        Self { method: Method::POST, path, who, answers }
    }
}

/// Answers on this listener until `stop` is asked for; then lets running requests end, for as long as `[app] shutdown_grace` says, and
/// waits for the runs that were asked for here, which are told to stop as well.
pub async fn serve(listener: TcpListener, context: Context, stop: CancellationToken) {
    let app = &context.config.app;
    let (grace, proxies) = (app.shutdown_grace, app.trusted_proxies.clone());
    let seats = |n| Arc::new(Semaphore::new(n));
    let (reports, exports, runs) = (seats(MOST_REPORTS), seats(MOST_EXPORTS), TaskTracker::new());
    let house = House { context, reports, exports, runs: runs.clone(), stop: stop.clone() };
    server::serve(listener, router(house), proxies, stop, grace).await;
    runs.close();
    runs.wait().await;
}

fn router(house: House) -> Router {
    let door = |who, path| middleware::from_fn_with_state(Door { house: house.clone(), who, path }, admit);
    let mut router = Router::new();
    for Route { path, who, answers, .. } in ROUTES {
        // Around the whole of a path: who is not known is not told which methods it has.
        router = router.route(path, answers().layer(door(*who, path)));
    }
    let nothing = get(async || StatusCode::NOT_FOUND).fallback(async || StatusCode::NOT_FOUND);
    let router = router
        .fallback_service(nothing.layer(door(Who::Known, "(no route)")).with_state(house.clone()))
        .with_state(house);
    // In a router of its own, because what axum says of verbs is added outside of all layers of the inner one.
    Router::new()
        .fallback_service(router)
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, ANSWER_LIMIT))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn(finish))
}

/// `GET /metrics`: the figures of the whole installation, for a program that watches it.
async fn metrics(
    State(house): State<House>,
) -> Result<([(header::HeaderName, &'static str); 1], String), Refusal> {
    let text =
        to_its_end(async move { vitals::figures(&house.context).await.map_err(Refusal::Failed) }).await?;
    Ok(([(header::CONTENT_TYPE, vitals::openmetrics::CONTENT_TYPE)], text))
}

/// What the handlers work with. Cheap to clone.
#[derive(Clone)]
struct House {
    context: Context,
    reports: Arc<Semaphore>,
    exports: Arc<Semaphore>,
    /// The runs that were asked for here.
    runs: TaskTracker,
    /// Cancelled when the program is to end.
    stop: CancellationToken,
}

/// A seat for as long as the value lives.
fn seat(seats: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
    Arc::clone(seats).try_acquire_owned().map_err(|_| Refusal::Busy)
}

/// Where a request is let in.
#[derive(Clone)]
struct Door {
    house: House,
    who: Who,
    path: &'static str,
}

/// Who came in, and for what: given by the door, so that a handler cannot ask for another right than its route's.
#[derive(Debug, Clone)]
struct Visitor {
    access: Arc<Access>,
    right: Right,
    /// Whether the token came in a way in which no browser sends it by itself.
    is_bearer: bool,
}

impl Visitor {
    /// The shops that the visitor named, or may see where none is named.
    ///
    /// # Errors
    /// When there is no such shop or it is not theirs, which is the same to them.
    fn shops<'a>(
        &self,
        context: &'a Context,
        named: Option<&str>,
    ) -> Result<Vec<(ShopId, &'a Shop)>, Refusal> {
        let shops: Vec<_> = context
            .shops
            .iter()
            .filter(|(_, shop)| {
                named.is_none_or(|key| key == shop.key) && self.access.may(self.right, &shop.key)
            })
            .collect();
        if shops.is_empty() { Err(Refusal::Forbidden) } else { Ok(shops) }
    }
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        parts.extensions.get().cloned().ok_or(Refusal::Unknown)
    }
}

/// Why a request gets nothing, as a status and a sentence.
#[derive(Debug)]
enum Refusal {
    Unknown,
    Forbidden,
    NotThere,
    Wrong(String),
    Busy,
    Failed(anyhow::Error),
}

impl Refusal {
    /// Of what the database said: whoever is away or busy may be asked again.
    fn of(error: anyhow::Error) -> Self {
        // Somebody else has the turn.
        let is_locked = |error: &sqlx::Error| db::is_code(error, "55P03");
        let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<sqlx::Error>());
        if Outage::behind(&error).is_some() || causes.any(is_locked) {
            Self::Busy
        } else {
            Self::Failed(error)
        }
    }
}

/// What went wrong, for the log; the door knows where.
#[derive(Debug, Clone)]
struct Fault(Arc<anyhow::Error>);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = match self {
            Self::Unknown => {
                (StatusCode::UNAUTHORIZED, "a name and a token of [[access]] are needed\n").into_response()
            }
            Self::Forbidden => (StatusCode::FORBIDDEN, "this access does not allow that\n").into_response(),
            Self::NotThere => (StatusCode::NOT_FOUND, "there is no such job or run\n").into_response(),
            Self::Wrong(why) => (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
            Self::Busy => {
                (StatusCode::SERVICE_UNAVAILABLE, "too much is asked for just now\n").into_response()
            }
            Self::Failed(error) => {
                let mut response =
                    (StatusCode::INTERNAL_SERVER_ERROR, "this could not be made\n").into_response();
                response.extensions_mut().insert(Fault(Arc::new(error)));
                response
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

/// Lets in who may come. Who is not known is told only that, whatever was asked.
async fn admit(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    let access = known(&door.house.context.config.access, request.headers()).cloned();
    match (door.who, access) {
        (Who::Anybody, _) | (Who::Known, Some(_)) => {}
        (Who::May(right), Some(access)) if access.allow.contains(&right) => {
            let is_bearer =
                scheme(request.headers()).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer"));
            request.extensions_mut().insert(Visitor { access: Arc::new(access), right, is_bearer });
        }
        (Who::May(_), Some(_)) => return Refusal::Forbidden.into_response(),
        (Who::Known | Who::May(_), None) => return Refusal::Unknown.into_response(),
    }
    let path = door.path;
    let mut response = next.run(request).await;
    if let Some(Fault(error)) = response.extensions_mut().remove::<Fault>() {
        tracing::error!(http.route = path, "a request to {path} failed: {}", masked::reason(&error));
    }
    response
}

/// What is asked for, in the order of the address. An empty field, as a form sends it, is one that is not there.
fn fields(uri: &Uri) -> Result<Vec<(String, String)>, Refusal> {
    let Query(fields) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| Refusal::Wrong("what is asked cannot be read".to_owned()))?;
    Ok(fields.into_iter().filter(|(_, value)| !value.is_empty()).collect())
}

/// Reads [`fields`]; `known` names those there are, for who asked for another or for one twice.
fn read<T: DeserializeOwned>(fields: &[(String, String)], known: &str) -> Result<T, Refusal> {
    let typed = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    format!("/?{typed}")
        .parse()
        .ok()
        .and_then(|typed: Uri| Query::try_from_uri(&typed).ok())
        .map(|Query(asked)| asked)
        .ok_or_else(|| Refusal::Wrong(format!("known are {known}, each once")))
}

/// One end of a stretch of time, as it was typed.
fn bound(name: &str, typed: Option<String>) -> Result<Option<Bound>, Refusal> {
    typed
        .map(|typed| typed.parse::<Bound>())
        .transpose()
        .map_err(|why| Refusal::Wrong(format!("{name}: {why}")))
}

/// In a task of its own: a reader who goes away must not leave a query half way.
async fn to_its_end<T: Send + 'static>(
    answer: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::spawn(answer).await.map_err(|error| Refusal::Failed(error.into()))?
}

/// In which way a token is shown.
fn scheme(headers: &HeaderMap) -> Option<&str> {
    Some(headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?.0)
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

/// Puts the headers of the public pages on everything; the stylesheets that pages have in themselves are known by their digests.
async fn finish(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let is_told_verbs = response.status() == StatusCode::METHOD_NOT_ALLOWED;
    let headers = response.headers_mut();
    if !is_told_verbs {
        // It is there whatever the door has answered.
        headers.remove(header::ALLOW);
    }
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let policy = format!(
        "default-src 'none'; style-src {} {}; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        crate::metrics::report::style_hash(),
        page::style_hash(),
    );
    if let Ok(policy) = HeaderValue::try_from(policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
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

    #[test]
    fn what_a_form_leaves_empty_is_not_asked() {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Asked {
            shop: Option<String>,
            since: Option<String>,
        }
        let ask = |query: &str| {
            fields(&format!("/exports?{query}").parse().unwrap())
                .and_then(|fields| read::<Asked>(&fields, "shop and since"))
        };
        let both = |shop: Option<&str>, since: Option<&str>| Asked {
            shop: shop.map(str::to_owned),
            since: since.map(str::to_owned),
        };
        for (query, expected) in [
            ("", both(None, None)),
            ("shop=&since=", both(None, None)),
            (
                "shop=a%26b&since=2026-01-01T00%3A00%3A00%2B02%3A00",
                both(Some("a&b"), Some("2026-01-01T00:00:00+02:00")),
            ),
        ] {
            assert_eq!(ask(query).unwrap(), expected, "{query}");
        }
        for query in ["shpo=a", "shop=a&shop=b", "shop=a&x=1"] {
            assert!(matches!(ask(query), Err(Refusal::Wrong(_))), "{query}");
        }
    }
}
