//! `afterword check`: what would go wrong tonight, told now.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::logging::Attendance;
use super::{Exit, Global, logging, output};
use crate::config::{Config, Shop, Transport, secret};
use crate::db;
use crate::invitations::compose::{self, ComposeError, Facts, Letterhead};
use crate::mail::templates::Templates;
use crate::mail::transport::Connection;
use crate::scheduler::Schedule;
use crate::survey::Survey;
use crate::token::Tokens;
use crate::types::{Clock, InvitationId, Locale, ShopId};

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
    /// Write every mail and page in each language into this folder: with samples, and each survey's mail with its own questions
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
    /// What works, and may not work well.
    warnings: Vec<String>,
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
            Ok(text) => renders.push((render.name, text.into_bytes())),
            Err(error) => {
                output::say(&format!("error: {error}"));
                wrong = true;
            }
        }
    }
    let n_samples = renders.len();
    for (shop, survey) in config.shops.iter().flat_map(|shop| config.surveys.iter().map(move |s| (shop, s))) {
        if wrong || !survey.mailed || !survey.is_for(&shop.key) {
            continue;
        }
        let waves = [false, true].into_iter().filter(|reminder| !reminder || !survey.reminders.is_empty());
        for (locale, reminder) in waves.flat_map(|wave| templates.locales().map(move |locale| (locale, wave)))
        {
            match mail(&config, &templates, shop, survey, locale, reminder, now) {
                Ok(files) => renders.extend(files),
                Err(error) => {
                    let (survey, shop) = (&survey.key, &shop.key);
                    output::say(&format!(
                        "error: the mail of the survey {survey} for {shop} in {locale}: {error}"
                    ));
                    wrong = true;
                }
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
        rendered: n_samples,
        mails: renders[n_samples..].iter().filter(|(name, _)| name.ends_with(".eml")).count(),
        warnings: warnings(&config, &templates),
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

fn write(folder: &Path, renders: &[(String, Vec<u8>)]) -> anyhow::Result<()> {
    for (name, text) in renders {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The mail that a survey of a shop sends in a language, about a made-up order: its texts, and the message itself.
fn mail(
    config: &Config,
    templates: &Templates,
    shop: &Shop,
    survey: &Survey,
    locale: &Locale,
    reminder: bool,
    now: DateTime<Utc>,
) -> Result<Vec<(String, Vec<u8>)>, ComposeError> {
    let tokens = Tokens::new(b"a sample");
    let letterhead = Letterhead {
        shop,
        base_url: &config.app.base_url,
        return_path: config.mail.return_path.as_deref(),
        signer: config.mail.signer.as_ref(),
    };
    let facts = Facts {
        shop_id: ShopId(1),
        invitation_id: InvitationId(1),
        questionnaire: &survey.questionnaire,
        order: "A-1001",
        ordered_at: now - survey.delay,
        reminder,
        message_id: None,
        first_name: Some("Claire"),
        locale: Some(locale.as_str()),
        email: "claire@customer.example",
    };
    let texts = compose::texts(templates, &tokens, &letterhead, &facts)?;
    let message = compose::compose(templates, &tokens, &letterhead, &facts, now)?;
    let wave = if reminder { ".reminder" } else { "" };
    let name = |part: &str| format!("mails/{}/{}{wave}.{locale}.{part}", shop.key, survey.key);
    Ok(vec![
        (name("subject.txt"), format!("{}\n", texts.subject).into_bytes()),
        (name("txt"), texts.text.into_bytes()),
        (name("html"), texts.html.into_bytes()),
        (name("eml"), message.bytes),
    ])
}

/// What a customer, a relay or a large mail provider may take offence at.
fn warnings(config: &Config, templates: &Templates) -> Vec<String> {
    let mut warnings: Vec<String> =
        config.shops.iter().filter_map(|shop| unspoken(shop, templates)).collect();
    if matches!(config.mail.transport, Transport::File) {
        return warnings;
    }
    if !config.app.base_url.starts_with("https://") {
        warnings.push(
            "[app] base_url is not https: mail providers want the one-click unsubscription of RFC 8058 behind https, and do not show it \
             otherwise"
                .to_owned(),
        );
    }
    let return_path = config.mail.return_path.as_deref().and_then(|path| path.rsplit_once('@'));
    if let Some((_, bounces)) = return_path {
        for shop in &config.shops {
            let from = shop.from.email.domain();
            if organisation(bounces) != organisation(from) {
                warnings.push(format!(
                    "[mail] return_path is at {bounces}, and the shop {} writes from {from}: SPF then speaks for another domain than \
                     the one customers see, so that DMARC rests on the DKIM signature alone",
                    shop.key
                ));
            }
        }
    }
    warnings
}

/// What customers read instead of the language of a shop for which there are no templates.
fn unspoken(shop: &Shop, templates: &Templates) -> Option<String> {
    let (instead, _) = templates.language(None, &shop.locale);
    (instead.language() != shop.locale.language()).then(|| {
        let (key, locale) = (&shop.key, &shop.locale);
        format!(
            "the shop {key} speaks {locale:?}, and there are no mails and pages in it: whoever's order names no other language reads them \
             in {instead:?}. A language is words.{locale}.toml and the files of each mail, in [app] templates_dir",
            locale = locale.as_str(),
            instead = instead.as_str(),
        )
    })
}

/// The part of a domain that somebody registered, as far as its shape tells: `shop.example` of `mail.shop.example`, `shop.co.uk` of
/// `mail.shop.co.uk`. (The list of public suffixes would know better, and changes weekly.)
fn organisation(domain: &str) -> String {
    let domain = domain.to_lowercase();
    let labels: Vec<&str> = domain.trim_end_matches('.').split('.').collect();
    let n = match labels[..] {
        [.., second, top] if top.len() == 2 && second.len() <= 3 => 3,
        _ => 2,
    };
    labels[labels.len().saturating_sub(n)..].join(".")
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
    for warning in &report.warnings {
        output::say(&format!("warning: {warning}"));
    }
    let mut text = format!(
        "configuration  {}: valid; shops: {}; surveys: {}\n\
         templates      {} mails and pages rendered; {} mails with the questions of the surveys\n\
         database       {}\n",
        report.configuration,
        report.shops.join(", "),
        report.surveys.join(", "),
        report.rendered,
        report.mails,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_organisation_of_a_domain() {
        for (domain, expected) in [
            ("shop.example", "shop.example"),
            ("mail.Shop.example", "shop.example"),
            ("mail.shop.co.uk", "shop.co.uk"),
            ("shop.fr", "shop.fr"),
            ("a.b.shop.fr", "shop.fr"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(organisation(domain), expected, "{domain}");
        }
    }
}
