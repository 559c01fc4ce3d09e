//! `[[alert]]` and `[notify]`.

use std::path::Path;
use std::time::Duration;

use chrono::TimeDelta;
use lettre::Address;
use toml::Spanned;

use super::words::{check_key, duration, known, mailbox, parse_duration, parsed, secret, text};
use crate::config::problem::Problems;
use crate::config::raw::{self, ChangeName, TrendName, Word};
use crate::config::{Heartbeat, Notify, Webhook};
use crate::metrics::alerts::rule::{
    Condition, Rule, SHIFT_WEEKS, Scale, Subject, THIRD_PARTY_SCORE, TREND_WEEKS,
};
use crate::metrics::segment::Segment;

/// More would be a count of years.
const LONGEST_WINDOW: u16 = 3 * 364;
/// Fewer characters can be guessed.
const LEAST_SECRET: usize = 16;
/// How long the receiver of a webhook may take.
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a run waits for who does not take what it is given: as long as greylisting usually takes.
const PATIENCE: Duration = Duration::from_secs(8 * 60);

/// The rules that can be used; the others are among the problems.
pub(super) fn rules(
    alerts: &[Spanned<raw::Alert>],
    shop_keys: &[&str],
    problems: &mut Problems<'_>,
) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for alert in alerts {
        let Some(rule) = rule(alert, shop_keys, problems) else { continue };
        if rules.iter().any(|other| other.name == rule.name) {
            let named = alert.get_ref().name.as_ref();
            problems.add(
                named.map_or(alert.get_ref().metric.span(), Spanned::span),
                format!("there are two alerts with the name {:?}", rule.name),
                Some("give one of them another `name`".to_owned()),
            );
        }
        rules.push(rule);
    }
    rules
}

fn rule(alert: &Spanned<raw::Alert>, shop_keys: &[&str], problems: &mut Problems<'_>) -> Option<Rule> {
    let alert = alert.get_ref();
    for shop in alert.shops.iter().flatten() {
        known("shop", shop, shop_keys.iter().copied(), problems);
    }
    known("metric", &alert.metric, Subject::keys(), problems)?;
    let subject = subject(alert, problems)?;
    let condition = condition(alert, &subject, problems)?;
    let by = match &alert.by {
        Some(word) => Some(by(word, &subject, condition, problems)?),
        None => None,
    };
    if let Some(name) = &alert.name {
        check_key("alert", text(name), name.span(), problems);
    }
    let is_limit = matches!(condition, Condition::Below(_) | Condition::Above(_));
    let usual = match condition {
        Condition::Below(_) | Condition::Above(_) | Condition::Shift => 30,
        Condition::Falling | Condition::Rising => 10,
    };
    if let (Some(typed), Subject::Volume(_) | Subject::Score(_)) = (&alert.min_answers, &subject) {
        problems.add(
            typed.span(),
            format!("{} does not rest on answers", subject.key()),
            Some("leave `min_answers` out".to_owned()),
        );
    }
    let min_answers = alert.min_answers.as_ref().map_or(usual, |typed| (*typed.get_ref()).max(1));
    let days = window(alert.window.as_ref(), condition, is_limit, problems)?;
    Some(Rule {
        name: match &alert.name {
            Some(name) => text(name).to_owned(),
            None => Rule::derived_name(&subject, condition, by.as_ref()),
        },
        subject,
        condition,
        days,
        min_answers: i64::from(min_answers),
        shops: alert.shops.as_ref().map(|shops| shops.iter().map(|shop| text(shop).to_owned()).collect()),
        by,
    })
}

fn subject(alert: &raw::Alert, problems: &mut Problems<'_>) -> Option<Subject> {
    let key = text(&alert.metric);
    match (&alert.source, key == THIRD_PARTY_SCORE) {
        (None, true) => {
            problems.add(
                alert.metric.span(),
                "nothing says whose score is meant",
                Some("add source = \"<name>\", as the files of scores write it".to_owned()),
            );
            None
        }
        (Some(source), false) => {
            problems.add(
                source.span(),
                format!("{key} has no source"),
                Some(format!("leave `source` out, or write metric = {THIRD_PARTY_SCORE:?}")),
            );
            None
        }
        // As the scores are stored.
        (source, _) => {
            Subject::parse(key, source.as_ref().map(|source| text(source).trim().to_lowercase()).as_deref())
        }
    }
}

fn condition(alert: &raw::Alert, subject: &Subject, problems: &mut Problems<'_>) -> Option<Condition> {
    let key = subject.key();
    let limit = |typed: &Spanned<f64>, of: fn(f64) -> Condition, problems: &mut Problems<'_>| {
        let value = *typed.get_ref();
        let (low, high) = subject.scale().range();
        if let Subject::Volume(_) = subject {
            let help = "how many there are is compared with the weeks before: write change = \"shift\" or trend = \"falling\"";
            problems.add(typed.span(), format!("{key} has no limit"), Some(help.to_owned()));
            return None;
        }
        if !(low..=high).contains(&value) {
            let example = match subject.scale() {
                Scale::Share => " (80 % is 0.80)",
                Scale::Points | Scale::Number => "",
            };
            problems.add(
                typed.span(),
                format!("{value} is no {key}"),
                Some(format!("write a number between {low} and {high}{example}")),
            );
            return None;
        }
        Some(of(value))
    };
    let is_score = matches!(subject, Subject::Score(_));
    match (&alert.below, &alert.above, &alert.trend, &alert.change) {
        (Some(typed), None, None, None) => limit(typed, Condition::Below, problems),
        (None, Some(typed), None, None) => limit(typed, Condition::Above, problems),
        (None, None, None, Some(typed)) if is_score => {
            let help = "a score of another site is no sample: write `below`, `above` or trend = \"falling\"";
            problems.add(typed.span(), format!("{key} has no shift"), Some(help.to_owned()));
            None
        }
        (None, None, Some(typed), None) => Some(match typed.get_ref() {
            TrendName::Falling => Condition::Falling,
            TrendName::Rising => Condition::Rising,
        }),
        (None, None, None, Some(typed)) => Some(match typed.get_ref() {
            ChangeName::Shift => Condition::Shift,
        }),
        _ => {
            problems.add(
                alert.metric.span(),
                "an alert has one of `below`, `above`, `trend` and `change`",
                Some(
                    "write below = 0.80, above = 0.10, trend = \"falling\" (or \"rising\"), or change = \"shift\""
                        .to_owned(),
                ),
            );
            None
        }
    }
}

fn by(word: &Word, subject: &Subject, condition: Condition, problems: &mut Problems<'_>) -> Option<Segment> {
    let is_limit = matches!(condition, Condition::Below(_) | Condition::Above(_));
    if !is_limit || !matches!(subject, Subject::Metric(_)) {
        problems.add(
            word.span(),
            "only a metric of the shop's own with `below` or `above` can be looked at by segment",
            Some("leave `by` out".to_owned()),
        );
        return None;
    }
    parsed(word, problems, str::parse)
}

/// So many days.
fn window(
    word: Option<&Word>,
    condition: Condition,
    is_limit: bool,
    problems: &mut Problems<'_>,
) -> Option<u16> {
    let (usual, least) = match condition {
        Condition::Below(_) | Condition::Above(_) => (28, 1),
        Condition::Falling | Condition::Rising => (180, 7 * TREND_WEEKS),
        Condition::Shift => (364, 7 * SHIFT_WEEKS),
    };
    let Some(word) = word else { return Some(usual) };
    let days = parsed(word, problems, parse_duration)?;
    let n = u16::try_from(days.num_days()).unwrap_or(u16::MAX);
    if days != TimeDelta::days(i64::from(n)) || usize::from(n) < least || n > LONGEST_WINDOW {
        let why = if is_limit { "" } else { ": weeks are compared, and fewer say nothing" };
        problems.add(
            word.span(),
            format!("{:?} cannot be the window{why}", text(word)),
            Some(format!("write whole days, from {least}d to {LONGEST_WINDOW}d")),
        );
        return None;
    }
    Some(n)
}

pub(super) fn notify(base: &Path, notify: &raw::Notify, problems: &mut Problems<'_>) -> Option<Notify> {
    let to: Vec<Address> =
        notify.to.iter().filter_map(|word| mailbox(word, problems)).map(|mailbox| mailbox.email).collect();
    let secret_word = notify.webhook_secret.as_ref().or(notify.webhook_secret_file.as_ref());
    let secret = secret(
        "webhook_secret",
        base,
        notify.webhook_secret.as_ref(),
        notify.webhook_secret_file.as_ref(),
        problems,
    );
    let webhook = match (&notify.webhook, secret_word) {
        (None, None) => None,
        (None, Some(word)) => {
            problems.add(word.span(), "a secret needs the `webhook` that it is for", None);
            None
        }
        (Some(word), None) => {
            problems.add(
                word.span(),
                "a webhook needs a secret, or its receiver cannot know that it is us",
                Some("add `webhook_secret_file`, with 16 characters or more in the file".to_owned()),
            );
            None
        }
        (Some(word), Some(secret_word)) => {
            let url = parsed(word, problems, |text| web_hook(text).map(|()| text.to_owned()));
            if secret.as_ref().is_some_and(|secret| secret.len() < LEAST_SECRET) {
                // It is not repeated.
                problems.add(
                    secret_word.span(),
                    format!("the webhook's secret has fewer than {LEAST_SECRET} characters"),
                    None,
                );
            }
            url.zip(secret).map(|(url, secret)| Webhook { url, secret, timeout: WEBHOOK_TIMEOUT })
        }
    };
    let heartbeat = heartbeat(base, notify, problems);
    let remind_after = duration(notify.remind_after.as_ref(), TimeDelta::days(7), problems)?;
    Some(Notify {
        to,
        webhook,
        heartbeat,
        remind_after: Some(remind_after).filter(|after| *after > TimeDelta::zero()),
        patience: PATIENCE,
    })
}

fn heartbeat(base: &Path, notify: &raw::Notify, problems: &mut Problems<'_>) -> Option<Heartbeat> {
    let (direct, in_file) = (notify.heartbeat_url.as_ref(), notify.heartbeat_url_file.as_ref());
    let url = secret("heartbeat_url", base, direct, in_file, problems)?;
    let word = direct.or(in_file)?;
    // Whoever knows it can call it; so what a file says is not repeated either.
    if direct.is_some() {
        problems.note_secret(word.span());
    }
    web_hook(&url).inspect_err(|why| problems.add(word.span(), why.clone(), None)).ok()?;
    Some(Heartbeat { url, timeout: WEBHOOK_TIMEOUT })
}

/// What is said of a shop is nobody else's business on the way.
fn web_hook(text: &str) -> Result<(), String> {
    let plain = |rest: &str| !rest.is_empty() && !rest.contains(char::is_whitespace) && !rest.contains('@');
    if text.strip_prefix("https://").is_some_and(plain) {
        return Ok(());
    }
    let local = text.strip_prefix("http://").filter(|rest| plain(rest)).is_some_and(|rest| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = match authority.strip_prefix('[') {
            Some(v6) => v6.split(']').next().unwrap_or_default(),
            None => authority.split(':').next().unwrap_or_default(),
        };
        host == "localhost" || host.parse().is_ok_and(|host: std::net::IpAddr| host.is_loopback())
    });
    if local {
        return Ok(());
    }
    Err("expected an https address, or an http one on this machine such as http://127.0.0.1:9000/alerts"
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_heartbeat_may_come_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("heartbeat");
        let read = |notify: &str, content: &str| {
            std::fs::write(&key, content).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&key, mode).unwrap();
            let shipped = crate::cli::init::SHIPPED.replacen("[notify]", &format!("[notify]\n{notify}"), 1);
            let config = Config::parse(&folder.path().join("jobs.toml"), &shipped);
            config
                .map(|config| config.notify.heartbeat.unwrap().url)
                .map_err(|error| error.lines().join("\n"))
        };
        let from_file = "heartbeat_url_file = \"heartbeat\"";
        let url = "https://watch.example/ping/hush";
        assert_eq!(read(from_file, &format!("{url}\n")).unwrap(), url);
        let refused = read(from_file, "http://watch.example/ping/hush").unwrap_err();
        assert!(refused.contains("expected an https address") && !refused.contains("hush"), "{refused}");
        let both = format!("{from_file}\nheartbeat_url = {url:?}");
        assert!(read(&both, url).unwrap_err().contains("exclude each other"));
    }

    #[test]
    fn only_this_machine_is_told_in_the_clear() {
        for good in [
            "https://hooks.example/a?b=c",
            "http://127.0.0.1:9000/x",
            "http://localhost",
            "http://[::1]:80/",
            "http://127.3.2.1/",
        ] {
            assert!(web_hook(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "https://",
            "http://hooks.example/",
            "http://127.0.0.1.example/",
            "http://localhost.example",
            "http://127.0.0.1@hooks.example/",
            "http://10.0.0.1/",
            "ftp://localhost/",
            "https://user:password@hooks.example/",
        ] {
            assert!(web_hook(bad).is_err(), "{bad}");
        }
    }
}
