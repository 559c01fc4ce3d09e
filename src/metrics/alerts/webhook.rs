//! The request about an alert: a POST of JSON that its receiver can check.
//!
//! `X-Afterword-Timestamp` is when it was sent, in seconds since 1970, and `X-Afterword-Signature` is
//! `sha256=<hex of HMAC-SHA256(secret, timestamp || "." || body)>`; a receiver that refuses old timestamps cannot be told twice by somebody
//! who listened. Any 2xx settles it; a redirection does not, because it could lead anywhere. `id` is the same in every try.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::Sha256;

use super::Found;
use super::store::{Claimed, Occasion};
use super::words;
use crate::config::Webhook;
use crate::mail::templates::Templates;
use crate::request;
use crate::types::Locale;

/// What is sent. No address, and no words of customers.
#[derive(Debug, Serialize)]
struct Body<'a> {
    /// The same in every try.
    id: String,
    occasion: Occasion,
    shop: &'a str,
    rule: &'a str,
    alert: String,
    opened_at: DateTime<Utc>,
    closed_at: Option<DateTime<Utc>>,
    #[serde(flatten)]
    found: &'a Found,
    /// The same in words, in English.
    title: String,
    text: String,
    sent_at: DateTime<Utc>,
}

/// The body of the request.
pub(super) fn body(
    templates: &Templates,
    shop: &str,
    claimed: &Claimed,
    now: DateTime<Utc>,
) -> anyhow::Result<String> {
    let english = Locale::parse("en").map_err(anyhow::Error::msg)?;
    let (_, words) = templates.language(Some(&english), &english);
    let found = match claimed.occasion {
        Occasion::Opened => &claimed.opening,
        Occasion::Reminder | Occasion::Closed => &claimed.latest,
    };
    let text = match claimed.occasion {
        Occasion::Closed => words::back(words, found),
        Occasion::Opened | Occasion::Reminder => words::sentence(words, found),
    };
    let body = Body {
        id: format!("{}-{}", claimed.shop, claimed.delivery),
        occasion: claimed.occasion,
        shop,
        rule: &claimed.rule,
        alert: format!("{}-{}", claimed.shop, claimed.alert),
        opened_at: claimed.opened_at,
        closed_at: claimed.closed_at.filter(|_| claimed.occasion == Occasion::Closed),
        found,
        title: words::title(words, &claimed.opening),
        text,
        sent_at: now,
    };
    Ok(serde_json::to_string(&body)?)
}

/// Makes the request.
///
/// # Errors
/// Says in words why it is not settled; nothing of what the receiver said is repeated.
pub(super) async fn post(webhook: &Webhook, body: String, now: DateTime<Utc>) -> Result<(), String> {
    let (webhook, timestamp) = (webhook.clone(), now.timestamp());
    let signature = signature(&webhook.secret, timestamp, &body)?;
    let request = move || {
        let agent = request::agent(&webhook.url, webhook.timeout);
        agent
            .post(&webhook.url)
            .header("Content-Type", "application/json")
            .header("X-Afterword-Timestamp", timestamp.to_string())
            .header("X-Afterword-Signature", signature)
            .send(body)
            .map(|response| response.status().as_u16())
            // The error may quote the address, which may hold a key.
            .map_err(|error| request::fault("the webhook", &error))
    };
    let status =
        tokio::task::spawn_blocking(request).await.map_err(|_| "the request broke off".to_owned())??;
    if (200..300).contains(&status) { Ok(()) } else { Err(format!("the webhook answered {status}")) }
}

/// `sha256=…` of a request.
fn signature(secret: &str, timestamp: i64, body: &str) -> Result<String, String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(|error| error.to_string())?;
    mac.update(timestamp.to_string().as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    let mut signature = "sha256=".to_owned();
    for byte in mac.finalize().into_bytes() {
        let _ = write!(signature, "{byte:02x}");
    }
    Ok(signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_that_others_make() {
        // printf '1767225600.{"a":1}' | openssl dgst -sha256 -hmac 'a secret of 16 or more'
        let made = signature("a secret of 16 or more", 1_767_225_600, "{\"a\":1}").unwrap();
        assert_eq!(made, "sha256=7d95497684b36aca1d5a36ff358e29a730d17c797c03cf4f820fede445e63284");
    }
}
