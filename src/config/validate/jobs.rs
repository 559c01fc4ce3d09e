//! `[jobs.<name>]`.

use chrono::TimeDelta;
use chrono_tz::Tz;
use toml::Spanned;

use super::words::{DAY, check_key, duration, known, parsed, settle, std_duration, text, timezone};
use crate::config::problem::Problems;
use crate::config::{CatchUp, Config, Overlap, ScheduledJob, raw};
use crate::jobs;
use crate::nearest::did_you_mean;
use crate::scheduler::Schedule;

pub(super) fn job(
    name: &str,
    job: &Spanned<raw::Job>,
    config: &Config,
    all_there: bool,
    problems: &mut Problems<'_>,
) -> Option<ScheduledJob> {
    let span = job.span();
    let job = job.get_ref();
    check_key("job", name, span, problems);
    known("job kind", &job.kind, jobs::JOB_KINDS.iter().map(|kind| kind.name), problems)?;
    let kind = jobs::kind(text(&job.kind))?;
    let zone = job.timezone.as_ref().map_or(Some(Tz::UTC), |word| timezone(word, problems));
    let schedule = match (&job.schedule, zone) {
        (Some(word), Some(zone)) => settle(Some(parsed(word, problems, |text| {
            Schedule::parse(text, zone).map_err(|error| error.to_string())
        })))?,
        _ => None,
    };
    let params = job.params.as_ref().map(|params| params.get_ref().clone()).unwrap_or_default();
    let params_span = job.params.as_ref().map_or(job.kind.span(), Spanned::span);
    let parsed = (kind.parse)(toml::Value::Table(params));
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let message = error.message().to_owned();
            let wrong = message.split('`').nth(1).unwrap_or_default().to_owned();
            let words: Vec<&str> = message.split('`').skip(3).step_by(2).collect();
            // Of a value of the wrong type the reader names the key in its long form only: "… in `format`".
            let long = error.to_string();
            let key = long
                .rsplit_once("in `")
                .map_or(wrong.as_str(), |(_, key)| key.trim_end().trim_end_matches('`'));
            let at = problems.find_key(params_span, key);
            problems.add(at, message.clone(), did_you_mean(&wrong, words));
            return None;
        }
    };
    for problem in parsed.check(config).into_iter().filter(|_| all_there) {
        // What is wrong is the first word that the problem quotes.
        let at = problem
            .split('"')
            .nth(1)
            .map_or(params_span.clone(), |word| problems.find_word(params_span.clone(), word));
        problems.add(at, problem, None);
    }
    let catch_up_window = duration(job.catch_up_window.as_ref(), DAY, problems);
    let timeout = duration(job.timeout.as_ref(), TimeDelta::hours(1), problems);
    let jitter = duration(job.jitter.as_ref(), TimeDelta::zero(), problems);
    if let (Some(word), Some(jitter), Some(schedule)) = (&job.jitter, jitter, &schedule)
        && let Some(gap) = schedule.shortest_gap().filter(|gap| jitter >= *gap)
    {
        let problem = format!("there are only {} s from one run to the next", gap.num_seconds());
        problems.add(word.span(), problem, Some("a jitter is shorter than that".to_owned()));
    }
    let catch_up = job.catch_up.unwrap_or(CatchUp::Once);
    let usual = if catch_up == CatchUp::All { Overlap::QueueAll } else { Overlap::Skip };
    Some(ScheduledJob {
        name: name.to_owned(),
        kind: kind.name,
        job: parsed,
        schedule,
        enabled: job.enabled.unwrap_or(true),
        catch_up,
        catch_up_window: std_duration(catch_up_window?),
        overlap: job.overlap.unwrap_or(usual),
        jitter: std_duration(jitter?),
        timeout: std_duration(timeout?),
    })
}
