//! `afterword check`: what would go wrong tonight, told now.

mod render;
mod warnings;

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::logging::Attendance;
use super::{Exit, Global, logging, output};
use crate::config::{Config, Transport, secret};
use crate::db::{self, Database};
use crate::mail::templates::Templates;
use crate::mail::transport::Connection;
use crate::scheduler::Schedule;
use crate::survey::{self, Reworded};
use crate::types::{Clock, ShopId};
use crate::vitals::room;

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
    /// Write every mail and page in each language into this folder, with an index.html that leads to each survey's own
    #[arg(long, value_name = "DIR")]
    render: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Report {
    configuration: String,
    shops: Vec<String>,
    surveys: Vec<String>,
    /// Mails and pages rendered with samples.
    rendered: usize,
    /// Mails written with the shops' own questions: for each shop, survey and language.
    mails: usize,
    /// Pages with the shops' own questions: for each shop, survey and language, in each state.
    pages: usize,
    /// What works, and may not work well.
    warnings: Vec<String>,
    alerts: Vec<AlertRule>,
    jobs: Vec<Job>,
    database: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    relay: Option<String>,
}

/// A rule of `[[alert]]`, in words.
#[derive(Debug, Serialize)]
struct AlertRule {
    alert: String,
    /// Empty: every shop.
    shops: Vec<String>,
    rule: String,
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
    let config = Arc::new(Config::load(&global.config)?);
    logging::start(config.app.log_format, Attendance::Attended);
    let now = global.as_of.map_or(Clock::System, Clock::Fixed).now();
    let templates = match Templates::read(config.app.templates_dir.as_deref()) {
        Ok(templates) => Arc::new(templates),
        Err(error) => {
            output::say(&format!("error: {error}"));
            return Ok(Exit::Usage);
        }
    };
    let rendered = match render::all(&config, &templates, now) {
        Ok(rendered) => rendered,
        Err(problems) => {
            for problem in problems {
                output::say(&format!("error: {problem}"));
            }
            return Ok(Exit::Usage);
        }
    };
    if let Some(folder) = &args.render {
        rendered.write(folder)?;
    }
    secret::load_or_make(&config.app.secret_file)?;
    let relay = if args.online { Some(relay(&config).await?) } else { None };
    let (database, room, reworded) = database(&config).await?;
    if !reworded.is_empty() {
        for reworded in reworded {
            output::say(&format!("error: {reworded}"));
        }
        return Ok(Exit::Usage);
    }
    let mut warnings = warnings::all(&config, &templates);
    warnings.extend(room::too_few(&config, room));
    let report = Report {
        configuration: config.path.display().to_string(),
        shops: config.shops.iter().map(|shop| shop.key.clone()).collect(),
        surveys: config.surveys.iter().map(|survey| survey.key.clone()).collect(),
        rendered: rendered.n_samples,
        mails: rendered.n_mails,
        pages: rendered.n_pages,
        warnings,
        alerts: alerts(&config),
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

fn alerts(config: &Config) -> Vec<AlertRule> {
    let rules = config.alerts.iter();
    rules
        .map(|rule| AlertRule {
            alert: rule.name.clone(),
            shops: rule.shops.clone().unwrap_or_default(),
            rule: rule.to_string(),
        })
        .collect()
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

/// What the database says of itself, and which consents were asked for in other words.
async fn database(config: &Config) -> anyhow::Result<(String, u32, Vec<Reworded>)> {
    let database = db::open(config).await?;
    let looked = look_at(&database, config).await;
    database.close().await;
    let (version, room, reworded) = looked?;
    let whose = if config.database.url.is_some() { "the configured one" } else { "the private one" };
    let most = room::most_connections(config);
    let database =
        format!("{whose}, Postgres {version}, up to date; at most {most} of its {room} connections are used");
    Ok((database, room, reworded))
}

async fn look_at(database: &Database, config: &Config) -> anyhow::Result<(String, u32, Vec<Reworded>)> {
    if config.database.auto_migrate {
        database.migrate().await?;
    } else {
        database.check_schema().await?;
    }
    let mut conn = database.pool.acquire().await?;
    let version = sqlx::query_scalar!(r#"select current_setting('server_version') as "version!""#)
        .fetch_one(&mut *conn)
        .await?;
    let mut reworded = Vec::new();
    for shop in &config.shops {
        let id = sqlx::query_scalar!(r#"select shop_id as "id: ShopId" from shop where key = $1"#, shop.key)
            .fetch_optional(&mut *conn)
            .await?;
        // A shop that the database has not seen yet has asked nobody.
        let Some(id) = id else { continue };
        for survey in config.surveys.iter().filter(|survey| survey.is_for(&shop.key)) {
            reworded.extend(survey::reworded(&mut conn, id, survey).await?);
        }
    }
    Ok((version, db::pools::room(&mut *conn).await?, reworded))
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
    for warning in &report.warnings {
        output::say(&format!("warning: {warning}"));
    }
    let mut text = format!(
        "configuration  {}: valid; shops: {}; surveys: {}\n\
         templates      {} mails and pages rendered; {} mails and {} pages with the questions of the surveys\n\
         database       {}\n",
        report.configuration,
        report.shops.join(", "),
        report.surveys.join(", "),
        report.rendered,
        report.mails,
        report.pages,
        report.database,
    );
    if let Some(relay) = &report.relay {
        text.push_str(&format!("relay          {relay}\n"));
    }
    for AlertRule { alert, shops, rule } in &report.alerts {
        let of = if shops.is_empty() { String::new() } else { format!(" ({})", shops.join(", ")) };
        text.push_str(&format!("alert          {alert}{of} {rule}\n"));
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
