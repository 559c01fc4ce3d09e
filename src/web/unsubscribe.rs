//! Opting out: a page that asks, and the POST that does it, from the page's button or from a mail program (RFC 8058, one click).
//!
//! The link never expires. What a mail program sends is honoured at once, because it says exactly what the standard says and only the
//! mail's header tells where to send it. The page's button is a form like the survey's: what looks like a scanner's doing is asked once
//! more, so that a program that sends every form it finds opts nobody out.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use sqlx::PgConnection;

use super::form::FormOf;
use super::{Refusal, Web, detached};
use crate::db::again::again;
use crate::invitations::suppression::{self, SuppressionReason};
use crate::mail::templates::views::{UnsubscribePage, UnsubscribedPage};
use crate::responses::classify::{Past, Traces, classify};
use crate::responses::submission::Fields;
use crate::responses::{hits, store};
use crate::token::{Form, Occasion, Purpose};

/// `GET /u/{token}`
pub(super) async fn ask(State(web): State<Web>, Path(token): Path<String>) -> Result<Response, Refusal> {
    detached(respond(web, token, HeaderMap::new(), Wish::Look)).await
}

/// `POST /u/{token}`
pub(super) async fn confirm(
    State(web): State<Web>,
    Path(token): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let body = match body {
        Ok(body) => body,
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            return Err(Refusal::TooLarge);
        }
        Err(_) => Bytes::new(),
    };
    let wish = Wish::read(&headers, &body);
    detached(respond(web, token, headers, wish)).await
}

/// What a request wants.
#[derive(Debug)]
enum Wish {
    /// To see the page.
    Look,
    /// Somebody, or something, pressed the button.
    Button(Fields),
    /// A mail program opts out for its user.
    OneClick,
}

/// What a mail program sends (RFC 8058, section 3.2), and nothing else.
const ONE_CLICK: (&str, &str) = ("List-Unsubscribe", "One-Click");

impl Wish {
    fn read(headers: &HeaderMap, body: &[u8]) -> Self {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.trim_start().to_ascii_lowercase().starts_with("multipart/form-data") {
            return if is_one_click_part(body) { Self::OneClick } else { Self::Look };
        }
        let pairs = form_urlencoded::parse(body.trim_ascii()).into_owned().collect::<Vec<_>>();
        if matches!(&pairs[..], [(name, value)] if (name.as_str(), value.as_str()) == ONE_CLICK) {
            return Self::OneClick;
        }
        let fields = Fields::new(pairs);
        if fields.get("confirm") == Some("yes") { Self::Button(fields) } else { Self::Look }
    }
}

/// Whether a multipart form has one part, and it is [`ONE_CLICK`].
fn is_one_click_part(body: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(body) else { return false };
    let mut lines = text.trim().lines();
    let Some(boundary) = lines.next().filter(|line| line.starts_with("--")) else { return false };
    let mut named = false;
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        let (header, value) = line.split_once(':').unwrap_or_default();
        let mut parts = value.split(';').map(str::trim);
        named |= header.eq_ignore_ascii_case("content-disposition")
            && parts.next() == Some("form-data")
            && parts.any(|part| {
                part.split_once('=')
                    .is_some_and(|(key, name)| key == "name" && name.trim_matches('"') == ONE_CLICK.0)
            });
    }
    named
        && lines.next() == Some(ONE_CLICK.1)
        && lines.next().is_some_and(|line| line.strip_suffix("--") == Some(boundary))
        && lines.next().is_none()
}

async fn respond(web: Web, token: String, headers: HeaderMap, wish: Wish) -> Result<Response, Refusal> {
    let context = &web.context;
    let now = context.clock.now();
    let named = context.tokens.verify(Purpose::Unsubscribe, &token);
    let (shop_id, invitation) = named.ok_or(Refusal::Gone)?;
    let shop = context.shops.get(shop_id).ok_or(Refusal::Gone)?;
    let mut conn = context.pool.acquire().await?;
    let invited = store::invited(&mut conn, shop_id, invitation).await?.ok_or(Refusal::Gone)?;
    let wanted = invited.locale();
    let (locale, words) = web.pages.language(wanted.as_ref(), shop);
    let form = FormOf { form: Form::Unsubscribe, shop: shop_id, invitation };
    let occasion = match wish {
        Wish::OneClick => None,
        Wish::Look => Some(Occasion::Visit),
        Wish::Button(fields) => {
            let traces = form.traces(&context.tokens, &fields, &headers, now);
            let is_suspect = is_suspect(&mut conn, &invited, &traces).await?;
            is_suspect.then_some(Occasion::OnceMore)
        }
    };
    if let Some(occasion) = occasion {
        let action = format!("{}/u/{token}", web.pages.prefix);
        let view = UnsubscribePage { action, form: form.view(&context.tokens, occasion, now) };
        return Ok(web.pages.response(StatusCode::OK, shop, locale, words, &view)?);
    }
    drop(conn);
    again(|| async {
        let mut conn = context.pool.acquire().await?;
        let reason = SuppressionReason::Unsubscribed;
        Ok(suppression::add(&mut conn, shop_id, invited.customer, reason, now).await?)
    })
    .await?;
    Ok(web.pages.response(StatusCode::OK, shop, locale, words, &UnsubscribedPage {})?)
}

/// Whether the button was pressed by a program.
pub(super) async fn is_suspect(
    conn: &mut PgConnection,
    invited: &store::Invited,
    traces: &Traces,
) -> sqlx::Result<bool> {
    let key = (invited.shop, invited.invitation);
    let mut hits = hits::since(conn, std::iter::once((key.0, key.1, traces.looks_back_to()))).await?;
    let hits = hits.remove(&key).unwrap_or_default();
    let past = Past { mailed_at: invited.mailed_at, hits: &hits, ..Past::default() };
    Ok(classify(traces, &past).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &'static str, body: &str) -> Wish {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        Wish::read(&headers, body.as_bytes())
    }

    #[test]
    fn only_what_the_standard_says_is_one_click() {
        let form = "application/x-www-form-urlencoded";
        for body in ["List-Unsubscribe=One-Click", "List-Unsubscribe=One-Click\r\n"] {
            assert!(matches!(read(form, body), Wish::OneClick), "{body}");
        }
        for body in ["", "confirm", "List-Unsubscribe=no", "a=b&List-Unsubscribe=One-Click", "One-Click"] {
            assert!(matches!(read(form, body), Wish::Look), "{body}");
        }
        for body in ["confirm=yes", "form.proof=x&confirm=yes", "List-Unsubscribe=One-Click&confirm=yes"] {
            assert!(matches!(read(form, body), Wish::Button(_)), "{body}");
        }
        let multipart = "multipart/form-data; boundary=x";
        let part = "--x\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--x";
        assert!(matches!(read(multipart, &format!("{part}--\r\n")), Wish::OneClick));
        for body in [
            String::new(),
            part.to_owned(),
            format!("{part}\r\nContent-Disposition: form-data; name=\"confirm\"\r\n\r\nyes\r\n--x--\r\n"),
            format!("{part}--\r\n").replace("List-Unsubscribe", "confirm"),
            format!("{part}--\r\n").replace("One-Click", "One-Click "),
        ] {
            assert!(matches!(read(multipart, &body), Wish::Look), "{body}");
        }
    }
}
