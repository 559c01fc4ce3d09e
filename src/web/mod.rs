//! The pages the customers see. Comes in: a link from a mail. Goes out: a page, and through a form's POST an answer or an opt-out.
//!
//! A GET changes nothing: no answer, no state. That somebody came is noted ([`crate::responses::hits`]). What touches the database runs
//! in tasks of its own: a browser that goes away cancels its request, and a query cancelled half way would leave its connection
//! unusable; so a write that was begun is finished, and the thank-you page is sent only after the commit. If we die before it, nothing is
//! stored and the browser shows an error instead of thanks.
//!
//! A link that is wrong, expired, or of an erased customer leads to one and the same page, byte for byte. No log line holds a path: it
//! would hold the token.
//!
//! How long a visitor may take, and how many there may be, is in `server.rs`.

pub mod outbox;
pub mod private;
mod assets;
mod form;
mod pages;
mod server;
mod survey;
mod unsubscribe;
mod withdraw;

pub use self::survey::preview;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::timeout::TimeoutLayer;

use self::pages::Pages;
use crate::context::Context;
use crate::db::outage::Outage;
use crate::db::pooler;
use crate::db::pools::Whose;
use crate::mail::templates::views::{AgainView, FieldView, MessagePage};
use crate::mail::templates::words::Words;
use crate::masked;
use crate::responses::collect::{self, Collector};
use crate::responses::hits::{Hit, HitLog, HitMethod, HitPage};
use crate::responses::submission::{Fields, is_option};
use crate::survey::{Question, QuestionKind, Survey, Versions};
use crate::token::Purpose;
use crate::types::Locale;
use crate::vitals;

/// The longest body that is read.
const BODY_LIMIT: usize = 16 * 1024;

/// What a character can take in a form, percent-encoded from four bytes.
const CHARACTER: usize = 12;

/// After the last request, what was handed in is written within this.
const LAST_WRITES: Duration = Duration::from_secs(15);

/// On every response. Scripts, frames and foreign resources are not allowed anywhere.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Answers on this listener until `stop` is asked for; then lets running requests end, for as long as `[app] shutdown_grace` says, and
/// writes what was handed in.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, context: Context, stop: CancellationToken) -> anyhow::Result<()> {
    let app = &context.config.app;
    let (grace, proxies) = (app.shutdown_grace, app.trusted_proxies.clone());
    let versions = Arc::new(Versions::default());
    let (collector, mut writing) = Collector::start(&context, &versions);
    let (hits, noting) = HitLog::start(&context.pool);
    // What the pages ask may go by way of a pooler; what was sent is written by the connections above, which have settings of their own.
    let database = &context.config.database;
    let context = match &database.pooled_url {
        Some(url) => {
            let pool = pooler::pages(url, database.max_connections).await?;
            context.beside.pools.add(Whose::Pages, &pool);
            Context { pool, ..context }
        }
        None => context,
    };
    let web = Web::new(context, versions, collector, hits);
    server::serve(listener, router(web), proxies, stop, grace).await;
    // The last request has dropped its hold on both by now, unless it was cut off; then what it began still ends.
    let written = async {
        // If one has failed, what the other is storing still ends.
        let mut ended = Ok(());
        while let Some(one) = writing.join_next().await {
            ended = ended.and(one);
        }
        noting.await.and(ended)
    };
    match tokio::time::timeout(LAST_WRITES, written).await {
        Ok(ended) => ended.context("writing what was sent"),
        Err(_) => {
            tracing::warn!("what was sent last was not stored in time");
            Ok(())
        }
    }
}

/// The longest body of the survey's form: whatever the questions allow to be written, in any alphabet, and as much again as other forms
/// have. Versions that were asked before may have allowed more; never less than one text of 4,000 characters.
fn survey_limit(surveys: &[Survey]) -> usize {
    let length = |question: &Question| match question.kind {
        QuestionKind::Text { max_length } => max_length,
        _ => 0,
    };
    let texts = surveys.iter().map(|survey| survey.questionnaire.questions.iter().map(length).sum());
    BODY_LIMIT + CHARACTER * texts.fold(4_000, usize::max)
}

/// The public pages.
fn router(web: Web) -> Router {
    let survey_limit = survey_limit(&web.context.config.surveys);
    Router::new()
        .route("/s/{token}", get(survey::show).post(survey::send).layer(DefaultBodyLimit::max(survey_limit)))
        .route("/s/{token}/thanks", get(survey::thanks))
        .route("/s/{token}/withdraw", get(withdraw::ask).post(withdraw::confirm))
        .route("/u/{token}", get(unsubscribe::ask).post(unsubscribe::confirm))
        .route("/assets/{name}", get(assets::serve))
        .route("/livez", get(async || "ok"))
        .fallback(async || Refusal::Gone)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, server::REQUEST_LIMIT))
        .layer(middleware::from_fn_with_state(web.clone(), finish))
        // Behind the layers, which would make a page for customers of a 503.
        .route("/readyz", get(async |State(web): State<Web>| readyz(web.context).await))
        .with_state(web)
}

/// Whether this instance can do its work, or one word why it cannot.
async fn readyz(context: Context) -> (StatusCode, &'static str) {
    // In a task of its own, so that whoever goes away leaves no query half way.
    match tokio::spawn(async move { vitals::ready(&context).await }).await {
        Ok(Ok(())) => (StatusCode::OK, "ok"),
        Ok(Err(why)) => (StatusCode::SERVICE_UNAVAILABLE, why.word()),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
    }
}

/// What the handlers work with. Cheap to clone.
#[derive(Clone)]
struct Web {
    context: Context,
    pages: Arc<Pages>,
    versions: Arc<Versions>,
    collector: Arc<Collector>,
    hits: Arc<HitLog>,
}

impl Web {
    fn new(context: Context, versions: Arc<Versions>, collector: Collector, hits: HitLog) -> Self {
        let base_url = &context.config.app.base_url;
        let host = base_url.split_once("://").map_or(base_url.as_str(), |(_, host)| host);
        let prefix = host.find('/').map_or("", |slash| &host[slash..]).trim_end_matches('/');
        let (config, templates) = (Arc::clone(&context.config), Arc::clone(&context.templates));
        let pages = Arc::new(Pages::new(config, templates, context.tokens.clone(), prefix));
        Self { context, pages, versions, collector: Arc::new(collector), hits: Arc::new(hits) }
    }

    /// Notes that somebody came, if it was by a link of ours.
    fn note(&self, request: &Request) {
        let path = request.uri().path();
        let mut parts = path.strip_prefix('/').unwrap_or(path).split('/');
        let (place, token, rest) = (parts.next(), parts.next().unwrap_or_default(), parts.next());
        let (purpose, page) = match (place, rest) {
            (Some("s"), None) => (Purpose::Survey, HitPage::Survey),
            (Some("s"), Some("thanks")) => (Purpose::Survey, HitPage::Thanks),
            (Some("s"), Some("withdraw")) => (Purpose::Survey, HitPage::Withdrawal),
            (Some("u"), None) => (Purpose::Unsubscribe, HitPage::Unsubscribe),
            _ => return,
        };
        let Some((shop, invitation)) = self.context.tokens.verify(purpose, token) else { return };
        let method = match *request.method() {
            Method::GET => HitMethod::Get,
            Method::HEAD => HitMethod::Head,
            Method::OPTIONS => HitMethod::Options,
            Method::POST => HitMethod::Post,
            _ => HitMethod::Other,
        };
        let hit = Hit {
            at: self.context.clock.now(),
            method,
            page,
            answer: self.linked_answer(request.uri()),
            agent: form::agent(request.headers()),
        };
        self.hits.note(shop, invitation, hit);
    }

    /// The answer that a link carries, as `recommend=yes`, if it is one of a survey; what else stands in an address is nobody's business.
    fn linked_answer(&self, uri: &Uri) -> Option<String> {
        uri.query()?;
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).ok()?;
        let is_answer = |key: &str, value: &str| {
            let mut surveys = self.context.config.surveys.iter();
            surveys.any(|survey| {
                survey.questionnaire.question(key).is_some_and(|question| is_option(question, value))
            })
        };
        pairs.iter().find(|(key, value)| is_answer(key, value)).map(|(key, value)| format!("{key}={value}"))
    }

    /// The page that says why there is none. It knows no shop, so that it tells nothing about the link.
    fn message(&self, status: StatusCode, request: &HeaderMap, refusal: &Refusal) -> Response {
        let (locale, words) = self.language(request);
        let again = match refusal {
            Refusal::Unsent(unsent) => Some(unsent.view()),
            _ => None,
        };
        let (title, text) = match refusal.why() {
            Refusal::Gone => (&words.gone_title, &words.gone_text),
            Refusal::TooLarge => (&words.too_large_title, &words.too_large_text),
            Refusal::Unavailable(_) | Refusal::Busy(_) => (&words.unavailable_title, &words.unavailable_text),
            Refusal::Failed(_) | Refusal::Unsent(_) => (&words.error_title, &words.error_text),
        };
        let view = MessagePage { title: title.clone(), text: text.clone(), again };
        match self.pages.html(None, locale, words, &view) {
            Ok(html) => (status, Html(html)).into_response(),
            // The page was rendered when the templates were read; should it fail all the same, the status must still arrive.
            Err(_) => status.into_response(),
        }
    }

    /// The first language the browser asks for that we have, else the first shop's.
    fn language(&self, request: &HeaderMap) -> (&Locale, &Words) {
        let templates = &self.context.templates;
        let shop = &self.context.config.shops[0].locale;
        let asked =
            request.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        asked
            .split(',')
            .filter_map(|range| Locale::parse(range.split(';').next()?).ok())
            .map(|wanted| (templates.language(Some(&wanted), shop), wanted))
            .find(|((found, _), wanted)| found.language() == wanted.language())
            .map_or_else(|| templates.language(None, shop), |(found, _)| found)
    }
}

/// Why a request gets no page of its own.
#[derive(Debug, Clone)]
enum Refusal {
    /// The link is wrong, expired, or of an erased customer.
    Gone,
    /// The body is longer than [`BODY_LIMIT`].
    TooLarge,
    /// The database is away.
    Unavailable(Option<Arc<anyhow::Error>>),
    /// Too much is going on.
    Busy(&'static str),
    /// The fault is ours.
    Failed(Option<Arc<anyhow::Error>>),
    /// A form was not stored, for one of the other reasons; the page holds it, to be sent again.
    Unsent(Box<Unsent>),
}

/// A form that was not stored.
#[derive(Debug, Clone)]
struct Unsent {
    why: Refusal,
    /// Where it was sent.
    action: String,
    fields: Fields,
}

impl Unsent {
    fn view(&self) -> AgainView {
        let field =
            |(name, value): (&str, &str)| FieldView { name: name.to_owned(), value: value.to_owned() };
        AgainView { action: self.action.clone(), fields: self.fields.iter().map(field).collect() }
    }
}

impl Refusal {
    fn of(error: Arc<anyhow::Error>) -> Self {
        match Outage::behind(&error) {
            Some(_) => Self::Unavailable(Some(error)),
            None => Self::Failed(Some(error)),
        }
    }

    /// The reason itself.
    fn why(&self) -> &Self {
        match self {
            Self::Unsent(unsent) => &unsent.why,
            other => other,
        }
    }

    fn stored_not(refused: collect::Refused) -> Self {
        match refused {
            collect::Refused::Full => Self::Busy("too many answers wait to be stored"),
            collect::Refused::Held => Self::Busy("the order of the answer is held by an import"),
            collect::Refused::Ended => Self::Busy("we are stopping"),
            collect::Refused::Failed(error) => Self::of(error),
        }
    }
}

impl IntoResponse for Refusal {
    /// Only the status; [`finish`] makes it a page, because it knows the reader's language.
    fn into_response(self) -> Response {
        let status = match self.why() {
            Self::Gone => StatusCode::NOT_FOUND,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unavailable(_) | Self::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Failed(_) | Self::Unsent(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl<E: Into<anyhow::Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::of(Arc::new(error.into()))
    }
}

/// Runs what touches the database to its end, whether or not the browser still waits.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::spawn(work).await?
}

/// Makes pages of bare errors, logs the faults, and puts the headers on everything.
async fn finish(State(web): State<Web>, request: Request, next: Next) -> Response {
    let route = pattern(request.uri().path());
    web.note(&request);
    let headers = request.headers().clone();
    let mut response = next.run(request).await;
    // A path that is no text is a wrong link like any other.
    let status = match response.status() {
        StatusCode::BAD_REQUEST => StatusCode::NOT_FOUND,
        status => status,
    };
    let refusal = response.extensions_mut().remove::<Refusal>().or(match status {
        StatusCode::PAYLOAD_TOO_LARGE => Some(Refusal::TooLarge),
        StatusCode::SERVICE_UNAVAILABLE => Some(Refusal::Unavailable(None)),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Some(Refusal::Gone),
        _ if status.is_server_error() => Some(Refusal::Failed(None)),
        _ => None,
    });
    if let Some(refusal) = refusal {
        match refusal.why() {
            // The first of an outage is logged, with what it means.
            Refusal::Unavailable(Some(error)) if web.context.beside.outage.hear(error).is_some() => {
                tracing::debug!(
                    http.route = route,
                    "a request to {route} was asked to come back: the database"
                );
            }
            Refusal::Failed(error) | Refusal::Unavailable(error) => {
                let error = error
                    .as_ref()
                    .map_or_else(|| "no answer in time".to_owned(), |error| masked::reason(error));
                tracing::error!(
                    http.route = route,
                    http.status = status.as_u16(),
                    "a request to {route} failed: {error}"
                );
            }
            Refusal::Busy(reason) => {
                tracing::warn!(http.route = route, "a request to {route} was asked to come back: {reason}");
            }
            Refusal::Gone | Refusal::TooLarge | Refusal::Unsent(_) => {}
        }
        let allow = response.headers_mut().remove(header::ALLOW);
        response = web.message(status, &headers, &refusal);
        if let Some(allow) = allow {
            response.headers_mut().insert(header::ALLOW, allow);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("30"));
        }
    }
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// A path without its token, for the log.
fn pattern(path: &str) -> &'static str {
    match path.split('/').nth(1) {
        Some("s") if path.ends_with("/thanks") => "/s/{token}/thanks",
        Some("s") => "/s/{token}",
        Some("u") => "/u/{token}",
        Some("assets") => "/assets/{name}",
        Some("livez") => "/livez",
        _ => "(no route)",
    }
}
