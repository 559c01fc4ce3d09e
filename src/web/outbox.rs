//! The demo's outbox: the mails that were "sent" into a folder, as a person would see them. Comes in: a folder of .eml files. Goes out:
//! a list, and per mail its HTML, its text and its source.
//!
//! It shows whole mails with their addresses to whoever can reach it, so only the demo has it. Nothing is written. A file is found by
//! its name in the folder's listing and never by a path that was sent, so no name leads out of the folder. A mail's HTML is shown in a
//! frame without scripts, under a policy of its own, because mails carry their styles in their elements.

use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::get;
use handlebars::Handlebars;
use mail_parser::{Message, MessageParser};
use serde::Serialize;

const PAGE_POLICY: &str =
    "default-src 'none'; style-src 'self'; frame-src 'self'; frame-ancestors 'none'; base-uri 'none'";
const FRAME_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; \
                            sandbox allow-popups allow-popups-to-escape-sandbox";

/// The viewer of one folder, under `/outbox`; `/` leads there.
pub fn router(outbox_dir: PathBuf) -> Router {
    Router::new()
        .route("/", get(async || Redirect::temporary("/outbox")))
        .route("/outbox", get(list))
        .route("/outbox/style.css", get(style))
        .route("/outbox/{file}", get(async |s: State<_>, Path(file)| mail(s, file, View::Html).await))
        .route("/outbox/{file}/phone", get(async |s: State<_>, Path(file)| mail(s, file, View::Phone).await))
        .route("/outbox/{file}/text", get(async |s: State<_>, Path(file)| mail(s, file, View::Text).await))
        .route(
            "/outbox/{file}/source",
            get(async |s: State<_>, Path(file)| mail(s, file, View::Source).await),
        )
        .route("/outbox/{file}/frame", get(frame))
        .fallback(async || Trouble::NotFound)
        .with_state(Arc::from(outbox_dir))
}

type Folder = Arc<FilePath>;

static TEMPLATES: LazyLock<Handlebars<'static>> = LazyLock::new(|| {
    let mut templates = Handlebars::new();
    templates.set_strict_mode(true);
    for (name, text) in [("list", include_str!("outbox/list.hbs")), ("mail", include_str!("outbox/mail.hbs"))]
    {
        templates.register_template_string(name, text).expect("compiled in, and compiled by a test");
    }
    templates
});

/// The ways to look at a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    Html,
    Phone,
    Text,
    Source,
}

/// A mail in the list.
#[derive(Debug, Serialize)]
struct Mail {
    file: String,
    from: String,
    to: String,
    to_name: Option<String>,
    subject: String,
    date: String,
    #[serde(skip)]
    timestamp: i64,
}

impl Mail {
    fn of(file: &str, message: &Message<'_>) -> Self {
        let to = message.to().and_then(|to| to.first());
        let from = message.from().and_then(|from| from.first());
        let timestamp = message.date().map_or(0, mail_parser::DateTime::to_timestamp);
        let date = chrono::DateTime::from_timestamp(timestamp, 0)
            .map_or_else(String::new, |date| date.format("%-d %b %Y, %H:%M UTC").to_string());
        Self {
            file: file.to_owned(),
            from: from.map_or_else(String::new, |from| {
                format!("{} <{}>", from.name().unwrap_or_default(), from.address().unwrap_or_default())
            }),
            to: to.and_then(|to| to.address()).unwrap_or_default().to_owned(),
            to_name: to.and_then(|to| to.name()).map(ToOwned::to_owned),
            subject: message.subject().unwrap_or("(no subject)").to_owned(),
            date,
            timestamp,
        }
    }
}

/// A folder that cannot be read, or a mail that is not there.
enum Trouble {
    NotFound,
    Io(std::io::Error),
    Page(handlebars::RenderError),
}

impl axum::response::IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "There is no such mail.".to_owned()),
            Self::Io(error) => {
                (StatusCode::INTERNAL_SERVER_ERROR, format!("The outbox cannot be read: {error}"))
            }
            Self::Page(error) => {
                (StatusCode::INTERNAL_SERVER_ERROR, format!("The page cannot be made: {error}"))
            }
        };
        guarded((status, text).into_response(), PAGE_POLICY)
    }
}

async fn list(State(folder): State<Folder>) -> Result<Response, Trouble> {
    // Without the dots that a relative `data_dir` leaves in it.
    let place = folder.components().collect::<PathBuf>().display().to_string();
    let mails = blocking(move || read_all(&folder)).await?;
    let page =
        serde_json::json!({ "one": mails.len() == 1, "count": mails.len(), "mails": mails, "folder": place });
    page_of("list", &page)
}

async fn style() -> Response {
    let css = include_str!("outbox/style.css");
    guarded(([(header::CONTENT_TYPE, "text/css; charset=utf-8")], css).into_response(), PAGE_POLICY)
}

async fn mail(State(folder): State<Folder>, file: String, view: View) -> Result<Response, Trouble> {
    let name = file.clone();
    let bytes = blocking(move || read_one(&folder, &name)).await?;
    let message = MessageParser::new().parse(&bytes).ok_or(Trouble::NotFound)?;
    let text = match view {
        View::Html | View::Phone => None,
        View::Text => Some(message.body_text(0).unwrap_or_default().into_owned()),
        View::Source => Some(String::from_utf8_lossy(&bytes).into_owned()),
    };
    let views = [
        (View::Html, "HTML", ""),
        (View::Phone, "HTML on a phone", "/phone"),
        (View::Text, "Text", "/text"),
        (View::Source, "Source", "/source"),
    ];
    let views = views.map(|(other, label, path)| {
        serde_json::json!({ "href": format!("/outbox/{file}{path}"), "label": label, "current": other == view })
    });
    let width = if view == View::Phone { "phone" } else { "desk" };
    let page = serde_json::json!({
        "mail": Mail::of(&file, &message), "views": views, "text": text, "width": width,
    });
    page_of("mail", &page)
}

/// The mail's HTML as it is, but that its links open a window of their own.
async fn frame(State(folder): State<Folder>, Path(file): Path<String>) -> Result<Response, Trouble> {
    let bytes = blocking(move || read_one(&folder, &file)).await?;
    let message = MessageParser::new().parse(&bytes).ok_or(Trouble::NotFound)?;
    let html = message.body_html(0).unwrap_or_default();
    let html = html.replacen("<head>", "<head><base target=\"_blank\">", 1);
    let mut response = guarded(Html(html).into_response(), FRAME_POLICY);
    response.headers_mut().insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
    Ok(response)
}

/// All mails, the newest first. A file that is no mail is left out.
fn read_all(folder: &FilePath) -> Result<Vec<Mail>, Trouble> {
    let mut mails = Vec::new();
    for file in names(folder)? {
        let bytes = std::fs::read(folder.join(&file)).map_err(Trouble::Io)?;
        if let Some(message) = MessageParser::new().parse_headers(&bytes) {
            mails.push(Mail::of(&file, &message));
        }
    }
    mails.sort_by(|a, b| (b.timestamp, &b.file).cmp(&(a.timestamp, &a.file)));
    Ok(mails)
}

fn read_one(folder: &FilePath, file: &str) -> Result<Vec<u8>, Trouble> {
    let known = names(folder)?.into_iter().find(|name| name == file).ok_or(Trouble::NotFound)?;
    std::fs::read(folder.join(known)).map_err(Trouble::Io)
}

/// The .eml files. A folder that is not there yet has none.
fn names(folder: &FilePath) -> Result<Vec<String>, Trouble> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Trouble::Io(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Trouble::Io)?;
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if let Some(name) = entry.file_name().to_str().filter(|name| is_file && name.ends_with(".eml")) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Trouble::Io(error.into()))?
}

fn page_of(template: &str, page: &serde_json::Value) -> Result<Response, Trouble> {
    let html = TEMPLATES.render(template, page).map_err(Trouble::Page)?;
    Ok(guarded(Html(html).into_response(), PAGE_POLICY))
}

fn guarded(mut response: Response, policy: &'static str) -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
