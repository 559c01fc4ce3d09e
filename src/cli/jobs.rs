//! `afterword jobs`

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::Serialize;
use sqlx::PgPool;

use super::{Exit, Global, output};
use crate::config::{Config, ScheduledJob};
use crate::context::Context;
use crate::jobs::ledger::{self, JobRun, JobRunState};
use crate::jobs::overview;
use crate::nearest;
use crate::types::JobRunId;

/// What is scheduled, will run, did run
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  afterword jobs
  afterword jobs next -n 3
  afterword jobs history send-invitations -n 10
  afterword jobs show 1234
  afterword jobs pause send-invitations
  afterword jobs resume send-invitations
  afterword jobs --json

Times are shown in the zone of the job, in JSON as UTC.")]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// When each job runs next
    Next {
        /// So many times of each job
        #[arg(short, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
        n: u16,
    },
    /// What did run, the latest first
    History {
        /// Only this job
        job: Option<String>,
        /// So many runs
        #[arg(short, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
        n: u16,
    },
    /// One run: who asked for it, how far it is, what it did
    Show {
        /// Its number, as `jobs history` shows it
        run: i64,
    },
    /// Keep a job from running, on schedule and by hand, until it is resumed; a run that is under way goes on
    Pause {
        /// The job
        job: String,
        /// Why, for whoever looks next
        #[arg(long, default_value = "by hand")]
        reason: String,
    },
    /// Let a paused job run again: one that was paused by hand, or by a brake of its own
    Resume {
        /// The job
        job: String,
    },
}

/// Runs the command.
///
/// # Errors
/// When the configuration or the database cannot be used.
pub async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let opened = super::open(global).await?;
    let (config, pool, now) = (&opened.context.config, &opened.context.pool, opened.context.clock.now());
    let done = match args.what {
        None => overview(&opened.context, now, global.json).await,
        Some(What::Next { n }) => next(config, now, usize::from(n), global.json),
        Some(What::History { job, n }) => history(config, pool, job.as_deref(), n.into(), global.json).await,
        Some(What::Show { run }) => show(config, pool, JobRunId(run), global.json).await,
        Some(What::Pause { job, reason }) => match known(config, &job) {
            true => pause(pool, &job, &reason, now).await,
            false => Ok(Exit::Usage),
        },
        Some(What::Resume { job }) => match known(config, &job) {
            true => resume(pool, &job, now).await,
            false => Ok(Exit::Usage),
        },
    };
    opened.close().await;
    done
}

/// Whether there is such a job; otherwise the person is told.
fn known(config: &Config, job: &str) -> bool {
    let problem = nearest::unknown("job", job, config.jobs.iter().map(|job| job.name.as_str()));
    if let Some(problem) = &problem {
        output::say(&format!("error: {problem}"));
    }
    problem.is_none()
}

async fn pause(pool: &PgPool, job: &str, reason: &str, now: DateTime<Utc>) -> anyhow::Result<Exit> {
    output::say(&if ledger::set_pause(pool, job, reason, now).await? {
        format!("{job} is paused; `afterword jobs resume {job}` lets it run again.")
    } else {
        format!("{job} was paused already.")
    });
    Ok(Exit::Done)
}

async fn resume(pool: &PgPool, job: &str, now: DateTime<Utc>) -> anyhow::Result<Exit> {
    output::say(&if ledger::resume(pool, job, now).await? {
        format!("{job} runs again.")
    } else {
        format!("{job} was not paused.")
    });
    Ok(Exit::Done)
}

async fn overview(context: &Context, now: DateTime<Utc>, as_json: bool) -> anyhow::Result<Exit> {
    let config = &context.config;
    let standings = overview::overview(config, &context.pool, now).await?;
    for hindrance in overview::hindrances(context).await? {
        output::say(&hindrance);
    }
    if as_json {
        output::json(&standings)?;
        return Ok(Exit::Done);
    }
    let rows = standings.iter().map(|standing| {
        let zone = zone_of(config, standing.job);
        let last = standing
            .last
            .as_ref()
            .map(|run| format!("{}, {}", run.state.as_str(), shown(run.started_at, zone)));
        [
            standing.job.to_owned(),
            standing.kind.to_owned(),
            standing.schedule.unwrap_or("by hand").to_owned(),
            standing.timezone.unwrap_or_default().to_owned(),
            match &standing.paused {
                Some(pause) => format!("paused: {}", pause.reason),
                None => if standing.enabled { "yes" } else { "no" }.to_owned(),
            },
            last.unwrap_or_else(|| "never ran".to_owned()),
            standing.next.map(|next| shown(next, zone)).unwrap_or_default(),
        ]
    });
    output::data(&output::table(
        ["job", "kind", "schedule", "zone", "enabled", "last run", "next run"],
        rows,
    ))?;
    Ok(Exit::Done)
}

/// The next occurrences of a job.
#[derive(Debug, Serialize)]
struct Upcoming<'a> {
    job: &'a str,
    timezone: &'a str,
    next: Vec<DateTime<Utc>>,
}

fn next(config: &Config, now: DateTime<Utc>, n: usize, as_json: bool) -> anyhow::Result<Exit> {
    let scheduled = config.jobs.iter().filter(|job| job.enabled);
    let upcoming: Vec<(Tz, Upcoming<'_>)> = scheduled
        .filter_map(|job| {
            let schedule = job.schedule.as_ref()?;
            let next = schedule.after(now).take(n).collect();
            let timezone = schedule.timezone();
            Some((timezone, Upcoming { job: &job.name, timezone: timezone.name(), next }))
        })
        .collect();
    if as_json {
        output::json(&upcoming.iter().map(|(_, upcoming)| upcoming).collect::<Vec<_>>())?;
        return Ok(Exit::Done);
    }
    if upcoming.is_empty() {
        output::say("No enabled job has a schedule.");
        return Ok(Exit::Done);
    }
    let rows = upcoming.iter().flat_map(|(zone, upcoming)| {
        upcoming.next.iter().map(|at| {
            let local = at.with_timezone(zone);
            [upcoming.job.to_owned(), local.format("%a %F %R %Z").to_string(), upcoming.timezone.to_owned()]
        })
    });
    output::data(&output::table(["job", "next", "zone"], rows))?;
    Ok(Exit::Done)
}

async fn history(
    config: &Config,
    pool: &PgPool,
    job: Option<&str>,
    n: i64,
    as_json: bool,
) -> anyhow::Result<Exit> {
    let runs = ledger::history(pool, job, n).await?;
    // A job that is no longer configured still has its history; only a name that nobody knows is a mistake.
    if let Some(job) = job.filter(|_| runs.is_empty()) {
        let names = config.jobs.iter().map(|job| job.name.as_str());
        if let Some(problem) = nearest::unknown("job", job, names) {
            output::say(&format!("error: {problem}"));
            return Ok(Exit::Usage);
        }
    }
    if as_json {
        output::json(&runs)?;
        return Ok(Exit::Done);
    }
    if runs.is_empty() {
        output::say("Nothing has run yet.");
        return Ok(Exit::Done);
    }
    let rows = runs.iter().map(|run| {
        let zone = zone_of(config, &run.job);
        [
            run.job_run_id.to_string(),
            run.job.clone(),
            shown(run.scheduled_for, zone),
            by(run),
            run.state.as_str().to_owned(),
            took(run).unwrap_or_default(),
            what(run),
        ]
    });
    output::data(&output::table(["run", "job", "scheduled for", "by", "state", "took", "what"], rows))?;
    Ok(Exit::Done)
}

async fn show(config: &Config, pool: &PgPool, id: JobRunId, as_json: bool) -> anyhow::Result<Exit> {
    let Some(run) = ledger::run(pool, id).await? else {
        output::say(&format!("error: there is no run {id}; `afterword jobs history` lists them"));
        return Ok(Exit::Usage);
    };
    if as_json {
        output::json(&run)?;
        return Ok(Exit::Done);
    }
    let zone = zone_of(config, &run.job);
    let details = run.report.as_ref().map(|report| serde_json::to_string_pretty(&report["details"]));
    let progress = run.progress.as_ref().map(|progress| match progress["n_all"].as_u64() {
        Some(n_all) => {
            format!("{} of {n_all} {}", progress["n_done"], progress["unit"].as_str().unwrap_or_default())
        }
        None => format!("{} {}", progress["n_done"], progress["unit"].as_str().unwrap_or_default()),
    });
    let rows = [
        ("run", Some(run.job_run_id.to_string())),
        ("job", Some(run.job.clone())),
        ("state", Some(run.state.as_str().to_owned())),
        ("what", Some(what(&run)).filter(|what| !what.is_empty())),
        ("by", Some(by(&run))),
        ("scheduled for", Some(shown(run.scheduled_for, zone))),
        ("began", Some(shown(run.started_at, zone)).filter(|_| run.state != JobRunState::Skipped)),
        ("took", took(&run)),
        ("so far", progress),
        ("attempt", Some(run.attempt.to_string()).filter(|_| run.attempt > 1)),
        ("in", Some(run.owner.clone())),
        ("details", details.transpose()?.filter(|details| details != "null")),
    ];
    let rows = rows.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value?]));
    output::data(&output::table(["", ""], rows))?;
    Ok(Exit::Done)
}

/// Who made it happen.
fn by(run: &JobRun) -> String {
    match &run.asked_by {
        Some(access) => format!("{}: {access}", run.trigger.as_str()),
        None => run.trigger.as_str().to_owned(),
    }
}

fn took(run: &JobRun) -> Option<String> {
    let finished = run.finished_at.filter(|_| run.state != JobRunState::Skipped)?;
    Some(format!("{:.1} s", (finished - run.started_at).as_seconds_f64()))
}

/// What became of it, in words.
fn what(run: &JobRun) -> String {
    let text = run.report.as_ref().and_then(|report| report["text"].as_str());
    run.reason.as_deref().or(text).unwrap_or_default().to_owned()
}

fn zone_of(config: &Config, job: &str) -> Tz {
    let job: Option<&ScheduledJob> = config.jobs.iter().find(|candidate| candidate.name == job);
    job.and_then(|job| job.schedule.as_ref()).map_or(Tz::UTC, |schedule| schedule.timezone())
}

fn shown(at: DateTime<Utc>, zone: Tz) -> String {
    at.with_timezone(&zone).format("%F %R %Z").to_string()
}
