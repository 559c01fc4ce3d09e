//! Opting out: a page that asks, and the POST that does it, from the page's button or from a mail program (RFC 8058, one click).
//!
//! The link never expires. A POST is honoured without any doubt about who sent it: an opt-out too many does less harm than one that
//! was not heard. What says neither `confirm` nor `List-Unsubscribe=One-Click` is asked again.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::form::FormOf;
use super::{Refusal, Web, detached};
use crate::invitations::suppression::{self, SuppressionReason};
use crate::mail::templates::views::{UnsubscribePage, UnsubscribedPage};
use crate::responses::store;
use crate::token::{Form, Occasion, Purpose};

/// `GET /u/{token}`
pub(super) async fn ask(State(web): State<Web>, Path(token): Path<String>) -> Result<Response, Refusal> {
    detached(respond(web, token, false)).await
}

/// `POST /u/{token}`
pub(super) async fn confirm(
    State(web): State<Web>,
    Path(token): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let body = match body {
        Ok(body) => body,
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            return Err(Refusal::TooLarge);
        }
        Err(_) => Bytes::new(),
    };
    detached(respond(web, token, is_confirmed(&body))).await
}

/// The body of the button, or of a mail program, which may come as a form or as multipart.
fn is_confirmed(body: &[u8]) -> bool {
    let contains = |text: &str| body.windows(text.len()).any(|window| window == text.as_bytes());
    body.starts_with(b"confirm=") || (contains("List-Unsubscribe") && contains("One-Click"))
}

async fn respond(web: Web, token: String, confirmed: bool) -> Result<Response, Refusal> {
    let context = &web.context;
    let named = context.tokens.verify(Purpose::Unsubscribe, &token);
    let (shop_id, invitation) = named.ok_or(Refusal::Gone)?;
    let shop = context.shops.get(shop_id).ok_or(Refusal::Gone)?;
    let mut conn = context.pool.acquire().await?;
    let invited = store::invited(&mut conn, shop_id, invitation).await?.ok_or(Refusal::Gone)?;
    let wanted = invited.locale();
    let (locale, words) = context.templates.language(wanted.as_ref(), &shop.locale);
    let page = if confirmed {
        let now = context.clock.now();
        suppression::add(&mut conn, shop_id, invited.customer, SuppressionReason::Unsubscribed, now).await?;
        web.page(StatusCode::OK, shop, locale, words, &UnsubscribedPage {})
    } else {
        let form = FormOf { form: Form::Unsubscribe, shop: shop_id, invitation };
        let view = UnsubscribePage {
            action: format!("{}/u/{token}", web.prefix),
            form: form.view(&context.tokens, Occasion::Visit, context.clock.now()),
        };
        web.page(StatusCode::OK, shop, locale, words, &view)
    };
    Ok(page?.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_request_counts() {
        assert!(is_confirmed(b"confirm=yes"));
        assert!(is_confirmed(b"List-Unsubscribe=One-Click"));
        assert!(is_confirmed(
            b"--x\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--x--\r\n"
        ));
        assert!(!is_confirmed(b""));
        assert!(!is_confirmed(b"confirm"));
        assert!(!is_confirmed(b"a=b&List-Unsubscribe=no"));
    }
}
