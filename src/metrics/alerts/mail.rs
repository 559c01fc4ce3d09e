//! The mail about an alert, in the shop's language. Pure: the same row at the same moment gives the same bytes.

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use lettre::Address;
use lettre::message::{Mailbox, Message, MultiPart, SinglePart};

use super::store::{Claimed, Occasion};
use super::words;
use crate::config::{Config, Shop};
use crate::invitations::compose::{Composed, clean, in_envelope, verbatim};
use crate::mail::templates::Templates;
use crate::mail::templates::palette::Palette;
use crate::mail::templates::views::{Alert, Direction, ShopView};
use crate::types::for_envelope;

/// This recipient cannot be written to; others can.
#[derive(Debug, thiserror::Error)]
#[error("the recipient's address cannot be put into an envelope")]
pub(super) struct Unmailable;

/// The mail.
///
/// # Errors
/// [`Unmailable`] (inside), or what is wrong with the template or an address of the shop.
pub(super) fn compose(
    templates: &Templates,
    config: &Config,
    shop: &Shop,
    claimed: &Claimed,
    now: DateTime<Utc>,
) -> anyhow::Result<Composed> {
    let (locale, words) = templates.language(None, &shop.locale);
    let found = match claimed.occasion {
        Occasion::Opened => &claimed.opening,
        Occasion::Reminder | Occasion::Closed => &claimed.latest,
    };
    let closed = claimed.occasion == Occasion::Closed;
    let date = |moment: DateTime<Utc>| words.date(moment, shop.timezone);
    let view = Alert {
        locale: locale.to_string(),
        direction: Direction::of(locale),
        shop: ShopView { name: clean(&shop.name, 100), ..ShopView::of(shop) },
        palette: Palette::of(&shop.color),
        reminder: claimed.occasion == Occasion::Reminder,
        closed,
        rule: claimed.rule.clone(),
        title: clean(&words::title(words, &claimed.opening), 150),
        found: if closed { words::back(words, found) } else { words::sentence(words, found) },
        caution: (!closed).then(|| words::caution(words, found)),
        opened: date(claimed.opened_at),
    };
    let texts = templates.mail(locale, &view)?;
    let to: Address = claimed.recipient.parse().map_err(|_| Unmailable)?;
    let to = for_envelope(&to).ok_or(Unmailable)?;
    let from = in_envelope(&shop.from)?;
    // What comes back is about no customer, so it carries no token.
    let return_path = config.mail.return_path.as_deref().and_then(|path| path.parse().ok());
    let envelope_from =
        return_path.and_then(|path| for_envelope(&path)).unwrap_or_else(|| from.email.clone());
    let id = format!("alert-{}-{}-{}", claimed.shop, claimed.delivery, claimed.queued_at.timestamp_micros());
    let message_id = format!("{id}@{}", from.email.domain());
    let mut message = Message::builder()
        .date(SystemTime::from(now))
        .from(from)
        .to(Mailbox::new(None, to.clone()))
        .subject(clean(&texts.subject, 200))
        .message_id(Some(format!("<{message_id}>")))
        .raw_header(verbatim("Auto-Submitted", "auto-generated".to_owned()))
        .multipart(
            MultiPart::alternative()
                .boundary(format!("=_{id}"))
                .singlepart(SinglePart::plain(texts.text))
                .singlepart(SinglePart::html(texts.html)),
        )?;
    if let Some(signer) = &config.mail.signer {
        signer.sign(&mut message);
    }
    Ok(Composed { message_id, envelope_from, envelope_to: to, bytes: message.formatted() })
}
