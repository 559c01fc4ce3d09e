//! `[mail]`: the relay, how fast it is used, what stops it, and with which key mails are signed.

use std::num::NonZeroU32;
use std::path::Path;

use toml::Spanned;

use super::words::{parsed, secret, share, text};
use crate::config::problem::Problems;
use crate::config::{Brakes, Credentials, Mail, Smtp, Tls, Transport, raw};
use crate::mail::dkim::Signer;
use crate::mail::transport::Limits;
use crate::token::RETURN_PATH_TOKEN;

const DEFAULT_CONNECTIONS: usize = 4;
const DEFAULT_PER_CONNECTION: u32 = 500;

pub(super) fn mail(base: &Path, mail: Option<&raw::Mail>, problems: &mut Problems<'_>) -> Option<Mail> {
    let Some(mail) = mail else {
        return Some(Mail {
            transport: Transport::File,
            max_connections: DEFAULT_CONNECTIONS,
            max_per_connection: DEFAULT_PER_CONNECTION,
            rate_per_minute: None,
            return_path: None,
            brakes: Brakes::default(),
            signer: None,
        });
    };
    let password = secret("password", base, mail.password.as_ref(), mail.password_file.as_ref(), problems);
    let credentials = match (&mail.username, password) {
        (Some(username), Some(password)) => {
            Some(Credentials { username: text(username).to_owned(), password })
        }
        (None, None) => None,
        // What is wrong with it was said.
        (Some(_), None) if mail.password.is_some() || mail.password_file.is_some() => None,
        (Some(username), None) => {
            problems.add(
                username.span(),
                "a username needs a password",
                Some("add `password_file`".to_owned()),
            );
            None
        }
        (None, Some(_)) => {
            problems.add(mail.transport.span(), "a password needs a `username`", None);
            None
        }
    };
    let transport = match mail.transport.get_ref() {
        raw::TransportName::File => Some(Transport::File),
        raw::TransportName::Smtp => match &mail.host {
            Some(host) => {
                let tls = mail.tls.unwrap_or(Tls::Opportunistic);
                let port = mail.port.unwrap_or(if tls == Tls::Implicit { 465 } else { 25 });
                let (host, limits) = (text(host).to_owned(), Limits::default());
                Some(Transport::Smtp(Box::new(Smtp { host, port, tls, credentials, limits })))
            }
            None => {
                problems.add(
                    mail.transport.span(),
                    "transport = \"smtp\" needs the relay's `host`",
                    Some("add host = \"localhost\" for a mail server on this machine".to_owned()),
                );
                None
            }
        },
    };
    let max_per_connection =
        mail.max_per_connection.as_ref().map_or(DEFAULT_PER_CONNECTION, |n| *n.get_ref());
    if max_per_connection == 0 {
        let span = mail.max_per_connection.as_ref().map_or(0..0, Spanned::span);
        problems.add(span, "max_per_connection must be 1 or more", None);
    }
    let max_connections = mail.max_connections.as_ref().map_or(DEFAULT_CONNECTIONS, |n| *n.get_ref());
    if !(1..=64).contains(&max_connections) {
        let span = mail.max_connections.as_ref().map_or(0..0, Spanned::span);
        problems.add(span, "max_connections must be between 1 and 64", None);
    }
    let return_path = mail
        .return_path
        .as_ref()
        .and_then(|word| parsed(word, problems, |text| return_path(text).map(|()| text.to_owned())));
    let usual = Brakes::default();
    let mut share_or = |typed: &Option<Spanned<f64>>, usual: f64| match typed {
        Some(typed) => share(typed, problems),
        None => usual,
    };
    let brakes = Brakes {
        max_bounce_rate: share_or(&mail.max_bounce_rate, usual.max_bounce_rate),
        max_complaint_rate: share_or(&mail.max_complaint_rate, usual.max_complaint_rate),
        max_refusal_rate: share_or(&mail.max_refusal_rate, usual.max_refusal_rate),
    };
    Some(Mail {
        transport: transport?,
        max_connections,
        max_per_connection,
        rate_per_minute: mail.rate_per_minute.and_then(NonZeroU32::new),
        return_path,
        brakes,
        signer: mail.dkim.as_ref().and_then(|dkim| signer(base, dkim, problems)),
    })
}

fn signer(base: &Path, dkim: &Spanned<raw::Dkim>, problems: &mut Problems<'_>) -> Option<Signer> {
    let raw::Dkim { domain, selector, key, key_file } = dkim.get_ref();
    let Some(place) = key_file.as_ref().or(key.as_ref()) else {
        problems.add(domain.span(), "[mail.dkim] needs the `key_file` to sign with", None);
        return None;
    };
    let secret = secret("key", base, key.as_ref(), key_file.as_ref(), problems)?;
    let labels = |text: &str| {
        text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
    };
    for word in [domain, selector].into_iter().filter(|word| !labels(text(word))) {
        problems.add(word.span(), format!("{:?} cannot stand in DNS", text(word)), None);
    }
    Signer::new(text(domain), text(selector), &secret)
        .inspect_err(|problem| problems.add(place.span(), format!("[mail.dkim] {problem}"), None))
        .ok()
}

/// Whether `text` can become `bounces+<token>@shop.example`: a local part has at most 64 octets (RFC 5321, 4.5.3.1.1), and mail systems
/// cut it at the first `+`.
fn return_path(text: &str) -> Result<(), String> {
    let address: lettre::Address = text.parse().map_err(|_| "is not a mail address".to_owned())?;
    let longest = 64 - 1 - RETURN_PATH_TOKEN;
    let local = address.user();
    if !local.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)) {
        return Err(
            "must have only letters, digits, dots, hyphens and underscores before the @; afterword puts \
                    a + and a token there"
                .to_owned(),
        );
    }
    if local.len() > longest {
        return Err(format!(
            "must not have more than {longest} characters before the @, because a token is put there"
        ));
    }
    Ok(())
}
