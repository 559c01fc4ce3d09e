//! The mail to an author, in the language of the order. Pure: the same row at the same moment gives the same bytes.

use std::time::SystemTime;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use lettre::Address;
use lettre::message::{Mailbox, Message, MultiPart, SinglePart};

use super::Claimed;
use crate::config::Shop;
use crate::context::Context;
use crate::invitations::compose::{Composed, clean, greeting, in_envelope, verbatim, with_token};
use crate::mail::templates::palette::Palette;
use crate::mail::templates::views::{Amend, Direction, Rejected, ShopView};
use crate::mail::templates::words::RejectedWords;
use crate::testimonials::RejectReason;
use crate::token::Purpose;
use crate::types::{Locale, for_envelope};

/// This author cannot be written to; others can.
#[derive(Debug, thiserror::Error)]
#[error("the customer's address cannot be put into an envelope")]
pub(super) struct Unmailable;

/// The reason, as a sentence to the author; the survey's page says it, too.
pub(crate) fn sentence(words: &RejectedWords, reason: RejectReason) -> &str {
    match reason {
        RejectReason::NoExperience => &words.no_experience,
        RejectReason::Unlawful => &words.unlawful,
        RejectReason::PersonalData => &words.personal_data,
        RejectReason::Promotional => &words.promotional,
        RejectReason::Contradictory => &words.contradictory,
        RejectReason::Unintelligible => &words.unintelligible,
    }
}

/// The mail. `amend_until`: until when the author can change the answer by the survey's link, if that is so.
///
/// # Errors
/// [`Unmailable`] (inside), or what is wrong with the template or an address of the shop.
pub(super) fn compose(
    context: &Context,
    shop: &Shop,
    claimed: &Claimed,
    amend_until: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> anyhow::Result<Composed> {
    let config = &context.config;
    let wanted = Locale::parse(&claimed.locale).ok();
    let (locale, words) = context.templates.language(wanted.as_ref(), &shop.locale);
    let date = |moment: DateTime<Utc>| words.date(moment, shop.timezone);
    let link = |path: &str, purpose| {
        let token = context.tokens.issue(purpose, claimed.shop, claimed.invitation?);
        Some(format!("{}/{path}/{token}", config.app.base_url))
    };
    let unsubscribe_url = link("u", Purpose::Unsubscribe);
    let view = Rejected {
        locale: locale.to_string(),
        direction: Direction::of(locale),
        shop: ShopView { name: clean(&shop.name, 100), ..ShopView::of(shop) },
        palette: Palette::of(&shop.color),
        first_name: greeting(claimed.first_name.as_deref()),
        order: clean(&claimed.external_id, 60),
        date: date(claimed.answered_at),
        reason: sentence(&words.rejected, claimed.reason).to_owned(),
        amend: amend_until
            .and_then(|until| Some(Amend { url: link("s", Purpose::Survey)?, until: date(until) })),
        unsubscribe_url: unsubscribe_url.clone(),
    };
    let texts = context.templates.mail(locale, &view)?;
    let to: Address = claimed.email.as_deref().and_then(|email| email.parse().ok()).ok_or(Unmailable)?;
    let to = for_envelope(&to).ok_or(Unmailable)?;
    let from = in_envelope(&shop.from)?;
    // What comes back is about the invitation that the author has answered: its report finds the same customer.
    let return_path = config.mail.return_path.as_deref().map(|path| match claimed.invitation {
        Some(invitation) => with_token(path, &context.tokens, claimed.shop, invitation),
        None => path.to_owned(),
    });
    let return_path = return_path.and_then(|path| path.parse().ok());
    let envelope_from =
        return_path.and_then(|path| for_envelope(&path)).unwrap_or_else(|| from.email.clone());
    let id = format!("{}-{}", name(claimed), claimed.queued_at.timestamp_micros());
    let message_id = format!("{id}@{}", from.email.domain());
    let mut builder = Message::builder()
        .date(SystemTime::from(now))
        .from(from)
        .to(Mailbox::new(None, to.clone()))
        .subject(clean(&texts.subject, 200))
        .message_id(Some(format!("<{message_id}>")));
    if let Some(reply_to) = &shop.reply_to {
        builder = builder.reply_to(in_envelope(reply_to)?);
    }
    if let Some(url) = unsubscribe_url {
        builder = builder
            .raw_header(verbatim("List-Unsubscribe", format!("<{url}>")))
            .raw_header(verbatim("List-Unsubscribe-Post", "List-Unsubscribe=One-Click".to_owned()));
    }
    let mut message = builder
        .raw_header(verbatim("Auto-Submitted", "auto-generated".to_owned()))
        .multipart(
            MultiPart::alternative()
                .boundary(format!("=_{id}"))
                .singlepart(SinglePart::plain(texts.text))
                .singlepart(SinglePart::html(texts.html)),
        )
        .context("the message cannot be built")?;
    if let Some(signer) = &config.mail.signer {
        signer.sign(&mut message);
    }
    Ok(Composed { message_id, envelope_from, envelope_to: to, bytes: message.formatted() })
}

/// What the mail is called where it is written as a file.
pub(super) fn name(claimed: &Claimed) -> String {
    let reason = serde_json::to_value(claimed.reason).ok();
    let reason = reason.as_ref().and_then(|reason| reason.as_str()).unwrap_or_default();
    format!("rejected-{}-{}-{}", claimed.shop, claimed.response, reason.replace('_', "-"))
}
