//! The jobs: `GET /jobs`, `GET /jobs/{job}`, `GET /runs/{run}`, and `POST /jobs/{job}/run`, which runs one now.
//!
//! A run on request takes the same way as those of the schedule, in this program: its row in the ledger is there before the answer, which
//! says where to look. Whoever sends a request again with the same `Idempotency-Key` gets the run that it began. When the program is to
//! stop, so is the run.
//!
//! A browser sends a name and a token along by itself, also with a form that a stranger's page has made. So a request with them has to
//! carry something that no such form can: an `Idempotency-Key`, or the proof that is in our own page (`jobs_page.rs`). A token that was
//! sent as Bearer is proof enough, because no browser does that by itself.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::json;

use super::{House, Refusal, Visitor, jobs_page, to_its_end};
use crate::config::ScheduledJob;
use crate::context::Context;
use crate::jobs::ledger::{self, JobRun, Occurrence, Request};
use crate::jobs::overview::{self, Standing};
use crate::jobs::runner::{self, Pace};
use crate::progress::Progress;
use crate::types::JobRunId;

/// So many runs of a job are shown, the latest.
const RUNS_SHOWN: i64 = 20;
/// The longest key of a request, in characters.
const LONGEST_KEY: usize = 255;

/// `GET /jobs`: a page for who asks for one, else JSON.
pub(super) async fn list(
    State(house): State<House>,
    visitor: Visitor,
    headers: HeaderMap,
    uri: axum::http::Uri,
) -> Result<Response, Refusal> {
    to_its_end(async move {
        let context = &house.context;
        let standings = standings(context, &visitor).await?;
        let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
        let wants_page =
            accepted.flat_map(|line| line.split([',', ';'])).any(|one| one.trim() == "text/html");
        let mut response = match wants_page {
            true => jobs_page::page(context, &visitor, &standings, &headers, &uri)?.into_response(),
            false => Json(&standings).into_response(),
        };
        response
            .headers_mut()
            .insert(header::VARY, HeaderValue::from_static("accept, accept-language, authorization"));
        Ok(response)
    })
    .await
}

/// Those that the visitor may see.
async fn standings<'a>(context: &'a Context, visitor: &Visitor) -> Result<Vec<Standing<'a>>, Refusal> {
    let all = overview::overview(&context.config, &context.pool, context.clock.now()).await;
    let is_theirs = |standing: &Standing<'_>| job(context, visitor, standing.job).is_ok();
    Ok(all.map_err(failed)?.into_iter().filter(is_theirs).collect())
}

/// `GET /jobs/{job}`: how it stands, and its last runs.
pub(super) async fn one(
    State(house): State<House>,
    visitor: Visitor,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    #[derive(Serialize)]
    struct One<'a> {
        #[serde(flatten)]
        standing: Standing<'a>,
        runs: Vec<JobRun>,
    }
    to_its_end(async move {
        let context = &house.context;
        let name = &job(context, &visitor, &name)?.name;
        let all = overview::overview(&context.config, &context.pool, context.clock.now());
        let standing = all.await.map_err(failed)?.into_iter().find(|standing| standing.job == name);
        let runs = ledger::history(&context.pool, Some(name), RUNS_SHOWN).await.map_err(failed)?;
        let standing = standing.ok_or_else(|| absent(&visitor))?;
        Ok(Json(One { standing, runs }).into_response())
    })
    .await
}

/// `GET /runs/{run}`
pub(super) async fn run(
    State(house): State<House>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    to_its_end(async move {
        let id = id.parse().map_err(|_| absent(&visitor))?;
        let run = ledger::run(&house.context.pool, JobRunId(id)).await.map_err(failed)?;
        let run = run.ok_or_else(|| absent(&visitor))?;
        // A job that is no longer configured is of no shop that could be told.
        let is_theirs = visitor.access.shops.is_none() || job(&house.context, &visitor, &run.job).is_ok();
        if is_theirs { Ok(Json(run).into_response()) } else { Err(absent(&visitor)) }
    })
    .await
}

/// `POST /jobs/{job}/run`
pub(super) async fn start(
    State(house): State<House>,
    visitor: Visitor,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    to_its_end(async move {
        let button = jobs_page::pressed(&headers, &body)?;
        let key = match &button {
            Some(button) => Some(button.key.clone()),
            None => key(&headers)?,
        };
        let is_meant = match &button {
            Some(button) => jobs_page::is_ours(&house.context, &visitor, button),
            None => key.is_some() || visitor.is_bearer,
        };
        if !is_meant {
            return Err(Refusal::Wrong(
                "with a name and a token (HTTP Basic), a header Idempotency-Key is needed, or the token as Bearer".to_owned(),
            ));
        }
        let job = job(&house.context, &visitor, &name)?.clone();
        if house.stop.is_cancelled() {
            return Err(Refusal::Busy);
        }
        let request = Request { by: &visitor.access.name, key: key.as_deref() };
        let answer = begin(&house, job, request).await?;
        Ok(match button {
            // Back to the page, which shows how it stands, whatever came of it.
            Some(_) => (StatusCode::SEE_OTHER, [(header::LOCATION, "../../jobs")]).into_response(),
            None => answer,
        })
    })
    .await
}

/// Takes the row, and lets the run go on by itself.
async fn begin(house: &House, job: ScheduledJob, request: Request<'_>) -> Result<Response, Refusal> {
    let context = &house.context;
    let pace = Pace::usual(context.config.app.shutdown_grace);
    let name = job.name.clone();
    let begun = runner::begin(context, &job, Occurrence::Requested(request), Progress::default(), pace).await;
    let (status, id, problem) = match begun.map_err(failed)? {
        Ok(begun) => {
            let (id, stop) = (begun.id, house.stop.clone());
            house.runs.spawn(async move { begun.carry_out(&stop).await });
            (StatusCode::ACCEPTED, Some(id), None)
        }
        Err(ledger::Refusal::Known { run }) => (StatusCode::ACCEPTED, Some(run), None),
        Err(ledger::Refusal::Running { run, .. }) => {
            (StatusCode::CONFLICT, Some(run), Some(format!("{name} is running already")))
        }
        Err(ledger::Refusal::Paused { reason, .. }) => {
            (StatusCode::CONFLICT, None, Some(format!("{name} is paused: {reason}")))
        }
        Err(ledger::Refusal::Taken) => {
            (StatusCode::CONFLICT, None, Some(format!("another run of {name} began at the same moment")))
        }
    };
    let place = id.map(|id| format!("/runs/{id}"));
    let mut answer =
        Json(json!({ "job": name, "job_run_id": id, "run": place, "problem": problem })).into_response();
    *answer.status_mut() = status;
    if let Some(place) = place.and_then(|place| HeaderValue::try_from(place).ok()) {
        answer.headers_mut().insert(header::LOCATION, place);
    }
    Ok(answer)
}

/// The job of this name, if the visitor may do all that it does.
fn job<'a>(context: &'a Context, visitor: &Visitor, name: &str) -> Result<&'a ScheduledJob, Refusal> {
    let job = context.config.jobs.iter().find(|job| job.name == name);
    let is_theirs =
        |job: &&ScheduledJob| visitor.access.may_with_all(visitor.right, &job.job.shops(&context.config));
    job.filter(is_theirs).ok_or_else(|| absent(visitor))
}

/// What is not there, or not theirs, which is the same to who may see some shops only.
fn absent(visitor: &Visitor) -> Refusal {
    match visitor.access.shops {
        Some(_) => Refusal::Forbidden,
        None => Refusal::NotThere,
    }
}

/// The key by which a request that is sent again is known (draft-ietf-httpapi-idempotency-key-header: a string in quotes; without them it
/// is taken as well).
fn key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(shown) = headers.get("idempotency-key") else { return Ok(None) };
    let bare = shown.to_str().unwrap_or_default().trim();
    let bare = bare.strip_prefix('"').and_then(|bare| bare.strip_suffix('"')).unwrap_or(bare);
    let is_plain = bare.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte));
    if bare.is_empty() || bare.len() > LONGEST_KEY || !is_plain {
        return Err(Refusal::Wrong(format!(
            "Idempotency-Key: 1 to {LONGEST_KEY} visible characters of ASCII, without quotes and backslashes in it"
        )));
    }
    Ok(Some(bare.to_owned()))
}

fn failed(error: sqlx::Error) -> Refusal {
    Refusal::of(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_with_quotes_and_without() {
        let check = |shown: &[u8], expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert("idempotency-key", HeaderValue::from_bytes(shown).unwrap());
            assert_eq!(key(&headers).ok().map(Option::unwrap).as_deref(), expected, "{shown:?}");
        };
        check(b"\"8e03978e-40d5\"", Some("8e03978e-40d5"));
        check(b" nightly/2026-03-01 ", Some("nightly/2026-03-01"));
        let long = "k".repeat(LONGEST_KEY);
        check(long.as_bytes(), Some(&long));
        for wrong in
            [&b""[..], b"\"\"", b"two words", b"\"half", b"a\\b", b"\xe9", format!("{long}k").as_bytes()]
        {
            check(wrong, None);
        }
        assert!(key(&HeaderMap::new()).is_ok_and(|key| key.is_none()));
    }
}
