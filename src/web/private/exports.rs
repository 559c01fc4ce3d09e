//! Files to pull: `GET /exports/testimonials.csv` and `GET /exports/metrics.csv`; and what is to be said of the first,
//! `GET /exports/testimonials.manifest.json`, and near its reviews, `GET /exports/testimonials.notice.fr.md` and `.en.md`.
//!
//! A file is made first (`spool.rs`), and then sent. Testimonials count as published, and the export is recorded, when the reader has
//! taken the whole file: the transaction that wrote it stays open until then, and the end of the file is sent when it is committed. A
//! reader who goes away, or who takes longer than [`TAKING_LIMIT`], leaves nothing behind. Who has the file already (`If-None-Match`),
//! who only looks (HEAD, the manifest, the notices, and the page), and figures write nothing.
//!
//! A file says in its head how many testimonials its format cannot carry (`X-Refused`), and where it is said which ones and why (`Link`):
//! in the manifest of the same question. Manifest and notices are what lies beside a file that a job writes.

use std::io;
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::spool::{Coding, Spool, Spooled};
use super::{House, Refusal, Visitor, bound, fields, read, seat, to_its_end};
use crate::config::{Config, Shop};
use crate::masked;
use crate::metrics;
use crate::metrics::period::Period;
use crate::metrics::segment::Segment;
use crate::metrics::window::Window;
use crate::testimonials::export::{
    self, Export, ExportFormat, Written, describe_export, notice_of_export, write_export,
};
use crate::types::{Locale, ShopId};

/// In which a reader takes the whole file. While they do, other exports of the shop wait.
const TAKING_LIMIT: Duration = Duration::from_secs(300);

/// Which testimonials are asked for.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    pub(super) shop: Option<String>,
    format: Option<String>,
    pub(super) since: Option<String>,
    /// The language of the page, which the form sends along, and of a file for people.
    pub(super) locale: Option<String>,
}

impl Asked {
    pub(super) fn of(uri: &Uri) -> Result<Self, Refusal> {
        read(&fields(uri)?, "shop, format, since and locale")
    }

    /// What was asked for as a format, or is taken where nothing was.
    pub(super) fn format_name(&self) -> &str {
        self.format.as_deref().unwrap_or(export::EXPORT_FORMATS[0].name)
    }

    pub(super) fn format(&self) -> Result<&'static ExportFormat, Refusal> {
        export::format(self.format_name()).ok_or_else(|| {
            let known: Vec<_> = export::EXPORT_FORMATS.iter().map(|format| format.name).collect();
            Refusal::Wrong(format!("format: known are {}", known.join(", ")))
        })
    }

    /// A day is the shop's, or the one that several can agree on.
    pub(super) fn since(&self, shops: &[(ShopId, &Shop)]) -> Result<Option<DateTime<Utc>>, Refusal> {
        Ok(bound("since", self.since.clone())?.map(|since| since.at(zone(shops))))
    }

    /// What was asked for as a language: one that headings come in. Nothing: the shop's.
    pub(super) fn locale(&self) -> Result<Option<Locale>, Refusal> {
        let Some(typed) = self.locale.as_deref().filter(|typed| !typed.is_empty()) else { return Ok(None) };
        let locale = Locale::parse(typed).ok().filter(|locale| matches!(locale.language(), "fr" | "en"));
        locale.map(Some).ok_or_else(|| Refusal::Wrong("locale: known are fr and en".to_owned()))
    }

    /// The export that is asked for, if its format can be written so.
    fn export<'a>(
        &self,
        shops: &'a [(ShopId, &'a Shop)],
        config: &'a Config,
        locale: Option<&'a Locale>,
    ) -> Result<Export<'a>, Refusal> {
        let (format, since) = (self.format()?, self.since(shops)?);
        let export =
            Export { since, locale, ..Export::new(shops, format, &config.testimonials, &config.surveys) };
        export.check().map_err(Refusal::Wrong)?;
        Ok(export)
    }
}

/// Of one shop, its own; of several, one for all.
fn zone(shops: &[(ShopId, &Shop)]) -> Tz {
    if let [(_, shop)] = shops { shop.timezone } else { Tz::UTC }
}

/// `GET /exports/testimonials.csv?shop=&format=&since=&locale=`
pub(super) async fn testimonials(
    State(house): State<House>,
    visitor: Visitor,
    method: Method,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Refusal> {
    match pulled(house, visitor, method, &headers, &uri).await {
        // A person came from the page, which says what is wrong in their language.
        Err(Refusal::Wrong(_)) if is_persons(&headers) => {
            let page = format!("../exports?{}", uri.query().unwrap_or_default());
            Ok((StatusCode::SEE_OTHER, [(header::LOCATION, page)]).into_response())
        }
        answer => answer,
    }
}

/// Whether a browser shows what comes back.
fn is_persons(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accepted.is_some_and(|accepted| accepted.contains("text/html"))
}

async fn pulled(
    house: House,
    visitor: Visitor,
    method: Method,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<Response, Refusal> {
    let asked = Asked::of(uri)?;
    let seat = seat(&house.exports)?;
    let (headers, query) = (headers.clone(), uri.query().unwrap_or_default().to_owned());
    to_its_end(async move {
        let context = &house.context;
        let shops = visitor.shops(context, asked.shop.as_deref())?;
        let locale = asked.locale()?;
        let export = asked.export(&shops, &context.config, locale.as_ref())?;
        let (format, now) = (export.format, context.clock.now());
        let mut spool = spool(&house, &headers)?;
        let destination = format!("access {}", visitor.access.name);
        let mut written =
            write_export(&context.pool, export, &mut spool, destination, now).await.map_err(Refusal::of)?;
        let modified = written.modified_at().await.map_err(Refusal::of)?;
        let file = spool.finish().map_err(|error| Refusal::Failed(error.into()))?;
        let mut shown =
            Shown::new(&file, name("testimonials", &shops, now, format.extension), format.media_type);
        shown.modified = modified;
        shown.n_refused = Some(written.report().n_refused());
        shown.described_by = Some(format!("<testimonials.manifest.json?{query}>; rel=\"describedby\""));
        if file.is_known(&headers) || method == Method::HEAD {
            written.forget().await.map_err(Refusal::of)?;
            return Ok(shown.without_body(file.is_known(&headers)));
        }
        written.hold().await.map_err(Refusal::of)?;
        let (taken, is_taken) = oneshot::channel();
        let (counted, counts) = oneshot::channel();
        let access = visitor.access.name.clone();
        tokio::spawn(settle(written, access, is_taken, counted, seat));
        let settled = async move {
            // Whoever settles has given up waiting, or could not commit.
            let given_up = |_| io::Error::from(io::ErrorKind::TimedOut);
            taken.send(()).map_err(given_up)?;
            counts.await.map_err(|_| given_up(()))
        };
        Ok(shown.with_body(file.body(settled)))
    })
    .await
}

/// `GET /exports/testimonials.manifest.json?shop=&format=&since=&locale=`: of the file that the same question would get now.
pub(super) async fn manifest(
    State(house): State<House>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, Refusal> {
    beside(house, visitor, &uri, Beside::Manifest).await
}

/// `GET /exports/testimonials.notice.fr.md?shop=&format=&since=`: of the same file.
pub(super) async fn notice_fr(
    State(house): State<House>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, Refusal> {
    beside(house, visitor, &uri, Beside::Notice("fr")).await
}

/// `GET /exports/testimonials.notice.en.md?shop=&format=&since=`: of the same file.
pub(super) async fn notice_en(
    State(house): State<House>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, Refusal> {
    beside(house, visitor, &uri, Beside::Notice("en")).await
}

/// What lies beside a file.
#[derive(Debug, Clone, Copy)]
enum Beside {
    Manifest,
    /// In this language.
    Notice(&'static str),
}

async fn beside(house: House, visitor: Visitor, uri: &Uri, what: Beside) -> Result<Response, Refusal> {
    let asked = Asked::of(uri)?;
    let seat = seat(&house.exports)?;
    to_its_end(async move {
        let _seat = seat;
        let context = &house.context;
        let shops = visitor.shops(context, asked.shop.as_deref())?;
        let locale = asked.locale()?;
        let export = asked.export(&shops, &context.config, locale.as_ref())?;
        let (pool, format, now) = (&context.pool, export.format, context.clock.now());
        let (media_type, text) = match what {
            Beside::Manifest => {
                let name = name("testimonials", &shops, now, format.extension);
                ("application/json", describe_export(pool, export, &name, now).await)
            }
            Beside::Notice(locale) => {
                ("text/markdown; charset=utf-8", notice_of_export(pool, export, locale, now).await)
            }
        };
        let text = text.map_err(Refusal::of)?;
        Ok(([(header::CONTENT_TYPE, media_type)], text).into_response())
    })
    .await
}

/// Counts what was sent as published, once the reader has taken it.
async fn settle(
    written: Written,
    access: String,
    is_taken: oneshot::Receiver<()>,
    counted: oneshot::Sender<()>,
    _seat: OwnedSemaphorePermit,
) {
    let n_rows = written.report().n_rows;
    let taken = tokio::time::timeout(TAKING_LIMIT, is_taken).await;
    let is_taken = matches!(taken, Ok(Ok(())));
    let ended = if is_taken { written.commit().await.map(drop) } else { written.forget().await };
    match ended {
        Ok(()) if is_taken => {
            tracing::info!(access, n_rows, "{access} has taken {n_rows} testimonials");
            // The reader may be gone by now; what was counted is counted.
            let _ = counted.send(());
        }
        Ok(()) => tracing::info!(access, n_rows, "{access} went away before the end of the testimonials"),
        Err(error) => {
            let reason = masked::reason(&error);
            tracing::error!(
                access,
                n_rows,
                "the testimonials for {access} do not count as published: {reason}"
            );
        }
    }
}

/// Which figures are asked for, but for the segments.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedFigures {
    shop: Option<String>,
    by: Option<String>,
    from: Option<String>,
    to: Option<String>,
}

/// `GET /exports/metrics.csv?shop=&by=&segment=&from=&to=`
pub(super) async fn metrics(
    State(house): State<House>,
    visitor: Visitor,
    method: Method,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Refusal> {
    let (segments, others): (Vec<_>, Vec<_>) =
        fields(&uri)?.into_iter().partition(|(name, _)| name == "segment");
    let asked: AskedFigures = read(&others, "shop, by, from and to, and segment any number of times")?;
    let segments = segments.iter().map(|(_, typed)| typed.parse::<Segment>()).collect::<Result<Vec<_>, _>>();
    let segments = segments.map_err(|why| Refusal::Wrong(format!("segment: {why}")))?;
    let by = asked.by.as_deref().unwrap_or("month").parse::<Period>();
    let by = by.map_err(|why| Refusal::Wrong(format!("by: {why}")))?;
    let seat = seat(&house.exports)?;
    to_its_end(async move {
        let context = &house.context;
        let shops = visitor.shops(context, asked.shop.as_deref())?;
        let window = Window { from: bound("from", asked.from)?, to: bound("to", asked.to)? };
        let as_of = context.clock.now();
        let zones = shops.iter().map(|(_, shop)| shop.timezone);
        window.check(zones, as_of).map_err(|empty| Refusal::Wrong(empty.to_string()))?;
        let surveys = &context.config.surveys;
        let export = metrics::export::Export { shops: &shops, surveys, window, by, segments: &segments };
        let mut spool = spool(&house, &headers)?;
        metrics::export::export_metrics(&context.pool, &export, as_of, &mut spool)
            .await
            .map_err(Refusal::of)?;
        let file = spool.finish().map_err(|error| Refusal::Failed(error.into()))?;
        let shown = Shown::new(&file, name("metrics", &shops, as_of, "csv"), "text/csv; charset=utf-8");
        if file.is_known(&headers) || method == Method::HEAD {
            return Ok(shown.without_body(file.is_known(&headers)));
        }
        Ok(shown.with_body(file.body(async move {
            drop(seat);
            Ok(())
        })))
    })
    .await
}

fn spool(house: &House, headers: &HeaderMap) -> Result<Spool, Refusal> {
    let folder = &house.context.config.app.data_dir;
    Spool::create(folder, Coding::of(headers))
        .with_context(|| format!("making a file in {}", folder.display()))
        .map_err(Refusal::Failed)
}

/// What the file is called where the reader keeps it.
fn name(what: &str, shops: &[(ShopId, &Shop)], now: DateTime<Utc>, extension: &str) -> String {
    let day = now.with_timezone(&zone(shops)).date_naive();
    let shop = if let [(_, shop)] = shops { format!("-{}", shop.key) } else { String::new() };
    format!("{what}{shop}-{}.{extension}", day.format("%F"))
}

/// The head of an answer.
struct Shown {
    etag: String,
    len: u64,
    coding: Coding,
    name: String,
    media_type: &'static str,
    modified: Option<DateTime<Utc>>,
    /// How many the format cannot carry.
    n_refused: Option<u64>,
    /// Where more is said of it.
    described_by: Option<String>,
}

impl Shown {
    fn new(file: &Spooled, name: String, media_type: &'static str) -> Self {
        let (etag, len, coding) = (file.etag(), file.len, file.coding);
        Self { etag, len, coding, name, media_type, modified: None, n_refused: None, described_by: None }
    }

    fn with_body(self, body: Body) -> Response {
        // Without a length: the end is told only when the file counts.
        self.head(StatusCode::OK, body.into_response())
    }

    /// For who has the file already, and for who only looks.
    fn without_body(self, is_known: bool) -> Response {
        let status = if is_known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
        let mut response = Body::empty().into_response();
        if !is_known {
            response.headers_mut().insert(header::CONTENT_LENGTH, self.len.into());
        }
        self.head(status, response)
    }

    fn head(self, status: StatusCode, mut response: Response) -> Response {
        *response.status_mut() = status;
        let modified = self.modified.map(|moment| moment.format("%a, %d %b %Y %H:%M:%S GMT").to_string());
        let packed = (self.coding == Coding::Gzip).then(|| "gzip".to_owned());
        let is_here = status == StatusCode::OK;
        let values = [
            (header::LINK, self.described_by),
            (HeaderName::from_static("x-refused"), self.n_refused.map(|n| n.to_string())),
            (header::ETAG, Some(self.etag)),
            (header::LAST_MODIFIED, modified),
            (header::VARY, Some("accept-encoding, authorization".to_owned())),
            // To be kept by who asked, and asked for again each time.
            (header::CACHE_CONTROL, Some("private, no-cache".to_owned())),
            (header::CONTENT_ENCODING, packed.filter(|_| is_here)),
            (header::CONTENT_TYPE, is_here.then(|| self.media_type.to_owned())),
            (header::CONTENT_DISPOSITION, is_here.then(|| format!("attachment; filename=\"{}\"", self.name))),
        ];
        for (name, value) in values {
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}
