//! `afterword check`: what would go wrong tonight, told now.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::logging::Attendance;
use super::{Exit, Global, logging, output};
use crate::config::{Config, Transport, secret};
use crate::db;
use crate::mail::templates::Templates;
use crate::mail::transport::Connection;
use crate::scheduler::Schedule;
use crate::types::Clock;

/// How many firings of each job are shown.
const FIRINGS: usize = 5;

/// Check the configuration, the templates, the schedules and the database
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  afterword check\n  afterword check --online\n  afterword check --render /tmp/renders\n\n\
    Mistakes are shown with file, line and column. Exit code 2: the configuration or a template is wrong; 1: the database or\n\
    the relay does not answer."
)]
pub struct Args {
    /// Also greet the mail relay
    #[arg(long)]
    online: bool,
    /// Write every mail and page, rendered with samples in each language, into this folder
    #[arg(long, value_name = "DIR")]
    render: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Report {
    configuration: String,
    shops: Vec<String>,
    surveys: Vec<String>,
    rendered: usize,
    jobs: Vec<Job>,
    database: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    relay: Option<String>,
}

#[derive(Debug, Serialize)]
struct Job {
    job: String,
    kind: &'static str,
    schedule: Option<String>,
    timezone: Option<String>,
    enabled: bool,
    next: Vec<DateTime<Utc>>,
    /// The same in the job's zone, for the screen.
    #[serde(skip)]
    next_shown: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// What is wrong, with its place; or that the database or the relay does not answer.
pub async fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    let config = Config::load(&global.config)?;
    logging::start(config.app.log_format, Attendance::Attended);
    let now = global.as_of.map_or(Clock::System, Clock::Fixed).now();
    let templates = match Templates::read(config.app.templates_dir.as_deref()) {
        Ok(templates) => templates,
        Err(error) => {
            output::say(&format!("error: {error}"));
            return Ok(Exit::Usage);
        }
    };
    let mut renders = Vec::new();
    let mut wrong = false;
    for render in templates.check() {
        match render.result {
            Ok(text) => renders.push((render.name, text)),
            Err(error) => {
                output::say(&format!("error: {error}"));
                wrong = true;
            }
        }
    }
    if wrong {
        return Ok(Exit::Usage);
    }
    if let Some(folder) = &args.render {
        write(folder, &renders)?;
    }
    secret::load_or_make(&config.app.secret_file)?;
    let relay = if args.online { Some(relay(&config).await?) } else { None };
    let database = database(&config).await?;
    let report = Report {
        configuration: config.path.display().to_string(),
        shops: config.shops.iter().map(|shop| shop.key.clone()).collect(),
        surveys: config.surveys.iter().map(|survey| survey.key.clone()).collect(),
        rendered: renders.len(),
        jobs: jobs(&config, now),
        database,
        relay,
    };
    if global.json {
        output::json(&report)?;
    } else {
        show(&report)?;
    }
    Ok(Exit::Done)
}

fn write(folder: &Path, renders: &[(String, String)]) -> anyhow::Result<()> {
    for (name, text) in renders {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn jobs(config: &Config, now: DateTime<Utc>) -> Vec<Job> {
    config
        .jobs
        .iter()
        .map(|job| {
            let upcoming = job.schedule.as_ref().filter(|_| job.enabled);
            let next: Vec<DateTime<Utc>> =
                upcoming.map(|schedule| schedule.after(now).take(FIRINGS).collect()).unwrap_or_default();
            let shown = |schedule: &Schedule| {
                let local = |at: &DateTime<Utc>| at.with_timezone(&schedule.timezone());
                next.iter().map(|at| local(at).format("%a %F %R %Z").to_string()).collect()
            };
            let next_shown = upcoming.map(shown).unwrap_or_default();
            Job {
                job: job.name.clone(),
                kind: job.kind,
                schedule: job.schedule.as_ref().map(|schedule| schedule.expression().to_owned()),
                timezone: job.schedule.as_ref().map(|schedule| schedule.timezone().to_string()),
                enabled: job.enabled,
                next,
                next_shown,
            }
        })
        .collect()
}

async fn database(config: &Config) -> anyhow::Result<String> {
    let database = db::open(config).await?;
    let checked =
        if config.database.auto_migrate { database.migrate().await } else { database.check_schema().await };
    let version = sqlx::query_scalar!(r#"select current_setting('server_version') as "version!""#)
        .fetch_one(&database.pool)
        .await;
    database.close().await;
    checked?;
    let whose = if config.database.url.is_some() { "the configured one" } else { "the private one" };
    Ok(format!("{whose}, Postgres {}, up to date", version?))
}

async fn relay(config: &Config) -> anyhow::Result<String> {
    let connection =
        Connection::open(&config.mail.transport, &config.outbox_dir()).await.map_err(|fault| {
            anyhow::anyhow!("the mail relay failed at {}: {}", fault.phase.as_str(), fault.text)
        })?;
    connection.close().await;
    Ok(match &config.mail.transport {
        Transport::File => format!("mails are written to {}", config.outbox_dir().display()),
        Transport::Smtp(relay) => format!("{}:{} greets us", relay.host, relay.port),
    })
}

fn show(report: &Report) -> anyhow::Result<()> {
    let mut text = format!(
        "configuration  {}: valid; shops: {}; surveys: {}\n\
         templates      {} mails and pages rendered\n\
         database       {}\n",
        report.configuration,
        report.shops.join(", "),
        report.surveys.join(", "),
        report.rendered,
        report.database,
    );
    if let Some(relay) = &report.relay {
        text.push_str(&format!("relay          {relay}\n"));
    }
    text.push('\n');
    let rows = report.jobs.iter().map(|job| {
        let next = match (&job.schedule, job.enabled) {
            (None, _) => "only by hand".to_owned(),
            (_, false) => "not enabled".to_owned(),
            _ => job.next_shown.join("\n"),
        };
        [job.job.clone(), job.kind.to_owned(), job.schedule.clone().unwrap_or_default(), next]
    });
    text.push_str(&output::table(["job", "kind", "schedule", "next runs"], rows));
    output::data(&text)
}
