//! `/jobs` for a person: how each job stands, with a button that runs it now. It works without JavaScript.
//!
//! The button's form carries a proof that it is from our page: who may see the page can read it, and nobody else's page can. It carries a
//! key as well, so that a form that is sent twice begins one run.

use std::sync::LazyLock;

use axum::http::{HeaderMap, Uri, header};
use axum::response::Html;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::page::Page;
use super::{Refusal, Visitor, fields, read};
use crate::config::AccessToken;
use crate::context::Context;
use crate::jobs::ledger::JobRunState;
use crate::jobs::overview::Standing;

const TEMPLATE: &str = include_str!("../../../templates/jobs/page.hbs");
const WORDS: [&str; 2] = [
    include_str!("../../../templates/jobs/words.en.toml"),
    include_str!("../../../templates/jobs/words.fr.toml"),
];

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Words {
    title: String,
    intro: String,
    none: String,
    job: String,
    schedule: String,
    by_hand: String,
    last: String,
    next: String,
    run: String,
    run_which: String,
    paused: String,
    never: String,
    again: String,
    more: String,
    languages: String,
    state: States,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct States {
    running: String,
    done: String,
    partial: String,
    failed: String,
    skipped: String,
    interrupted: String,
}

static PAGE: LazyLock<Page<Words>> = LazyLock::new(|| Page::compiled(TEMPLATE, WORDS));

/// What the page shows.
#[derive(Debug, Serialize)]
struct View<'a> {
    jobs: Vec<Shown<'a>>,
    proof: String,
}

#[derive(Debug, Serialize)]
struct Shown<'a> {
    job: &'a str,
    schedule: String,
    last: String,
    /// What the last run says it did, or why it did not.
    what: String,
    next: String,
    may_run: bool,
    /// One for each time the page is made.
    key: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    locale: Option<String>,
}

/// The page.
pub(super) fn page(
    context: &Context,
    visitor: &Visitor,
    standings: &[Standing<'_>],
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<Html<String>, Refusal> {
    let asked: Asked = read(&fields(uri)?, "locale")?;
    let language = PAGE.language(asked.locale.as_deref(), headers, std::iter::empty());
    let jobs = standings.iter().map(|standing| shown(standing, &language.words)).collect::<Result<_, _>>()?;
    PAGE.fill(language, View { jobs, proof: proof(context, visitor) })
}

fn shown<'a>(standing: &'a Standing<'_>, words: &Words) -> Result<Shown<'a>, Refusal> {
    let zone = standing.timezone.and_then(|zone| zone.parse().ok()).unwrap_or(Tz::UTC);
    let at = |moment: DateTime<Utc>| moment.with_timezone(&zone).format("%F %R %Z").to_string();
    let last = standing.last.as_ref();
    let text = last.and_then(|run| run.report.as_ref()?["text"].as_str());
    let what = last.and_then(|run| run.reason.as_deref()).or(text).unwrap_or_default();
    let mut key = [0; 16];
    getrandom::fill(&mut key)
        .map_err(|error| Refusal::Failed(anyhow::anyhow!("no random bytes: {error}")))?;
    let is_running = last.is_some_and(|run| run.state == JobRunState::Running);
    Ok(Shown {
        job: standing.job,
        schedule: match (standing.schedule, standing.timezone) {
            (Some(schedule), Some(zone)) if standing.enabled => format!("{schedule} {zone}"),
            _ => words.by_hand.clone(),
        },
        last: match last {
            Some(run) => format!("{}, {}", words.of(run.state), at(run.started_at)),
            None => words.never.clone(),
        },
        what: what.to_owned(),
        next: match &standing.paused {
            Some(pause) => format!("{}: {}", words.paused, pause.reason),
            None => standing.next.map(at).unwrap_or_default(),
        },
        may_run: standing.paused.is_none() && !is_running,
        key: URL_SAFE_NO_PAD.encode(key),
    })
}

impl Words {
    fn of(&self, state: JobRunState) -> &str {
        match state {
            JobRunState::Running => &self.state.running,
            JobRunState::Done => &self.state.done,
            JobRunState::Partial => &self.state.partial,
            JobRunState::Failed => &self.state.failed,
            JobRunState::Skipped => &self.state.skipped,
            JobRunState::Interrupted => &self.state.interrupted,
        }
    }
}

/// What the button sends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Button {
    proof: String,
    /// The request's.
    pub(super) key: String,
}

/// What was sent, if it was the button's form. A run takes no other parameters than those in jobs.toml, so that nothing else is taken.
pub(super) fn pressed(headers: &HeaderMap, body: &[u8]) -> Result<Option<Button>, Refusal> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if body.is_empty() {
        return Ok(None);
    }
    if !kind.starts_with("application/x-www-form-urlencoded") {
        return Err(Refusal::Wrong("a run takes no parameters: they stand in jobs.toml".to_owned()));
    }
    let sent: Vec<(String, String)> = form_urlencoded::parse(body).into_owned().collect();
    let button: Button = read(&sent, "proof and key")?;
    let is_key =
        (1..=64).contains(&button.key.len()) && button.key.bytes().all(|byte| byte.is_ascii_graphic());
    if is_key { Ok(Some(button)) } else { Err(Refusal::Wrong("key: not one of this page".to_owned())) }
}

/// Whether it was sent by the page that this visitor was shown.
pub(super) fn is_ours(context: &Context, visitor: &Visitor, button: &Button) -> bool {
    AccessToken::new(&proof(context, visitor)).is(&button.proof)
}

/// It is the visitor's own, and nobody can make it who does not have the secret.
fn proof(context: &Context, visitor: &Visitor) -> String {
    URL_SAFE_NO_PAD.encode(context.tokens.derived_key(&format!("run button of {}", visitor.access.name)))
}

#[cfg(test)]
mod tests {
    use super::super::page::assert_template;
    use super::*;

    #[test]
    fn every_language_has_every_word() {
        assert_eq!(PAGE.words().map(|(language, _)| language).collect::<Vec<_>>(), ["en", "fr"]);
        assert_template(TEMPLATE);
    }

    #[test]
    fn what_is_sent_is_the_button_or_nothing() {
        let check = |kind: &'static str, body: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
            pressed(&headers, body.as_bytes()).map(|button| button.map(|button| (button.proof, button.key)))
        };
        let form = "application/x-www-form-urlencoded";
        assert!(check("application/json", "").is_ok_and(|button| button.is_none()));
        let both = ("p".to_owned(), "k".to_owned());
        assert!(check(form, "proof=p&key=k").is_ok_and(|button| button == Some(both)));
        for (kind, body) in [
            ("application/json", "{}"),
            ("text/plain", "proof=p&key=k"),
            (form, "proof=p"),
            (form, "proof=p&key="),
            (form, "proof=p&key=k&shop=maison"),
            (form, "proof=p&key=%00"),
        ] {
            assert!(matches!(check(kind, body), Err(Refusal::Wrong(_))), "{kind} {body}");
        }
    }
}
