//! From what was typed to what is true. Every mistake is collected, so that one reading tells all of them.

mod alerts;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{NaiveTime, TimeDelta, Weekday};
use chrono_tz::Tz;
use toml::Spanned;

use super::network::Network;
use super::problem::Problems;
use super::raw::{self, Word};
use super::{
    Access, AccessToken, App, Brakes, CatchUp, Config, Credentials, Database, DisplayName, LogFormat, Mail,
    OrderMapping, RatingMapping, ResponseMapping, ReviewPlace, ScheduledJob, Shop, Smtp, Testimonials,
    TextFormat, Tls, Transport,
};
use crate::jobs;
use crate::mail::dkim::Signer;
use crate::mail::templates::check_wording;
use crate::mail::transport::Limits;
use crate::nearest::{self, did_you_mean};
use crate::orders::events::is_event;
use crate::orders::format::{ORDER_COLUMNS, ORDER_FORMATS, REQUIRED_ORDER_COLUMNS};
use crate::responses::import::format::{MAPPED_RESPONSE_COLUMNS, RESPONSE_COLUMNS, RESPONSE_FORMATS};
use crate::responses::ratings::{Decimal, RATING_COLUMNS, REQUIRED_RATING_COLUMNS};
use crate::scheduler::Schedule;
use crate::survey::{
    Choice, ConsentRule, Demand, Question, QuestionKind, Questionnaire, Recommendation, SendWindow, Survey,
    Texts, Trigger, When, Yes,
};
use crate::token::RETURN_PATH_TOKEN;

const DEFAULT_CONNECTIONS: usize = 4;
const DEFAULT_PER_CONNECTION: u32 = 500;
const DEFAULT_COLOR: &str = "#1f5d4c";
/// More would be a nuisance, whatever the answers are worth.
const MAX_REMINDERS: usize = 3;
const DAY: TimeDelta = TimeDelta::days(1);

/// Validates the whole file. `None` when something was wrong; the problems say what.
pub fn config(path: &Path, file: raw::File, problems: &mut Problems<'_>) -> Option<Config> {
    // Paths in the file are meant from where the file lies, not from where the program was started.
    let base = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
    let app = app(&base, &file.app, problems);
    let database = database(&base, &file.database, problems);
    let mail = mail(&base, file.mail.as_ref(), problems);
    let shops = shops(&file.shop, problems);
    let shop_keys: Vec<&str> = file.shop.iter().map(|shop| text(&shop.key)).collect();
    let surveys: Vec<_> = file
        .survey
        .iter()
        .filter_map(|(key, survey)| self::survey(key, survey, &shop_keys, problems))
        .collect();
    let order_formats: BTreeMap<_, _> = file
        .order_format
        .iter()
        .filter_map(|(name, format)| Some((name.clone(), order_format(name, format, problems)?)))
        .collect();
    let response_formats: BTreeMap<_, _> = file
        .response_format
        .iter()
        .filter_map(|(name, format)| Some((name.clone(), response_format(name, format, &surveys, problems)?)))
        .collect();
    let rating_formats: BTreeMap<_, _> = file
        .rating_format
        .iter()
        .filter_map(|(name, format)| Some((name.clone(), rating_format(name, format, problems)?)))
        .collect();
    let testimonials = Testimonials {
        display_name: file.testimonials.display_name.unwrap_or(DisplayName::FirstNameInitial),
    };
    let alerts = alerts::rules(&file.alert, &shop_keys, problems);
    let notify = alerts::notify(&base, &file.notify, problems);
    let access = accesses(&base, &file.access, &shop_keys, problems);
    if let Some(word) = file.app.private_listen.as_ref().filter(|_| file.access.is_empty()) {
        problems.add(
            word.span(),
            "nobody may use the private pages",
            Some("add an [[access]] with name, token_file and allow".to_owned()),
        );
    }
    let mut config = Config {
        path: path.to_owned(),
        app: app?,
        database: database?,
        mail: mail?,
        shops: shops?,
        order_formats,
        response_formats,
        rating_formats,
        surveys,
        testimonials,
        alerts,
        notify: notify?,
        jobs: Vec::new(),
        access,
    };
    // The jobs come last, because their parameters name shops, surveys and formats; those that were themselves wrong are not there, and
    // whoever names one would only be told the same mistake again.
    let all_there = problems.is_empty();
    config.jobs = file
        .jobs
        .iter()
        .filter_map(|(name, job)| self::job(name, job, &config, all_there, problems))
        .collect();
    Some(config)
}

fn text(word: &Word) -> &str {
    &word.get_ref().0
}

fn app(base: &Path, app: &raw::App, problems: &mut Problems<'_>) -> Option<App> {
    let typed = text(&app.base_url);
    let base_url = typed.trim_end_matches('/').to_owned();
    let host = base_url.strip_prefix("https://").or_else(|| base_url.strip_prefix("http://"));
    if host.is_none_or(|host| {
        host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '?' || c == '#')
    }) {
        problems.add(
            app.base_url.span(),
            format!("{typed:?} is not an address customers could open"),
            Some("write it as https://feedback.shop.example".to_owned()),
        );
    }
    let address = |text: &str| {
        text.parse::<SocketAddr>()
            .map_err(|_| "expected an address and a port such as 127.0.0.1:8080".to_owned())
    };
    let listen = match &app.listen {
        None => Some(SocketAddr::from(([127, 0, 0, 1], 8080))),
        Some(word) => parsed(word, problems, address),
    };
    let private_listen = app.private_listen.as_ref().and_then(|word| parsed(word, problems, address));
    let trusted_proxies = match &app.trusted_proxies {
        None => vec![Network::of(Ipv4Addr::LOCALHOST.into()), Network::of(Ipv6Addr::LOCALHOST.into())],
        Some(words) => {
            let read = |text: &str| text.parse::<Network>().map_err(ToOwned::to_owned);
            words.iter().filter_map(|word| parsed(word, problems, read)).collect()
        }
    };
    let data_dir = base.join(app.data_dir.as_ref().map_or("data", |dir| dir.0.as_str()));
    let secret_file =
        app.secret_file.as_ref().map_or_else(|| data_dir.join("secret"), |file| base.join(&file.0));
    let templates_dir = app.templates_dir.as_ref().map(|dir| {
        let path = base.join(text(dir));
        if !path.is_dir() {
            problems.add(dir.span(), format!("there is no folder {}", path.display()), None);
        }
        path
    });
    let shutdown_grace = duration(app.shutdown_grace.as_ref(), TimeDelta::seconds(60), problems);
    Some(App {
        base_url,
        listen: listen?,
        private_listen,
        trusted_proxies,
        data_dir,
        secret_file,
        templates_dir,
        log_format: app.log_format.unwrap_or(LogFormat::Text),
        shutdown_grace: std_duration(shutdown_grace?),
    })
}

fn database(base: &Path, database: &raw::Database, problems: &mut Problems<'_>) -> Option<Database> {
    let url = secret("url", base, database.url.as_ref(), database.url_file.as_ref(), problems);
    if let (Some(url), Some(word)) = (&url, database.url.as_ref().or(database.url_file.as_ref()))
        && !(url.starts_with("postgres://") || url.starts_with("postgresql://"))
    {
        // It may hold a password, so it is not repeated.
        problems.add(
            word.span(),
            "this is not the address of a Postgres database",
            Some("write it as postgres://user:password@host:5432/database".to_owned()),
        );
    }
    let max_connections = database.max_connections.as_ref().map_or(16, |n| *n.get_ref());
    if max_connections < 4 {
        let span = database.max_connections.as_ref().map_or(0..0, Spanned::span);
        problems.add(
            span,
            "max_connections must be 4 or more: sending, heartbeat and pages need their own",
            None,
        );
    }
    Some(Database {
        url: url.or_else(|| super::environment("DATABASE_URL")),
        max_connections,
        auto_migrate: database.auto_migrate.unwrap_or(true),
    })
}

fn mail(base: &Path, mail: Option<&raw::Mail>, problems: &mut Problems<'_>) -> Option<Mail> {
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

/// A share of a whole.
fn share(typed: &Spanned<f64>, problems: &mut Problems<'_>) -> f64 {
    let share = *typed.get_ref();
    if !(0.0..=1.0).contains(&share) {
        problems.add(
            typed.span(),
            format!("{share} is not a share"),
            Some("write a number between 0 and 1".to_owned()),
        );
    }
    share
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

/// Who may use the private pages. The token is not repeated in what is wrong with it.
fn accesses(
    base: &Path,
    typed: &[raw::Access],
    shop_keys: &[&str],
    problems: &mut Problems<'_>,
) -> Vec<Access> {
    let mut valid: Vec<Access> = Vec::new();
    for access in typed {
        let name = text(&access.name);
        check_key("access", name, access.name.span(), problems);
        if valid.iter().any(|other| other.name == name) {
            problems.add(access.name.span(), format!("the access {name:?} stands here twice"), None);
        }
        for shop in access.shops.iter().flatten() {
            if let Some(problem) = nearest::unknown("shop", text(shop), shop_keys.iter().copied()) {
                problems.add(shop.span(), problem, None);
            }
        }
        let Some(place) = access.token.as_ref().or(access.token_file.as_ref()) else {
            problems.add(access.name.span(), "an access needs a `token_file`", None);
            continue;
        };
        let token = secret("token", base, access.token.as_ref(), access.token_file.as_ref(), problems);
        let Some(token) = token else { continue };
        if token.chars().count() < AccessToken::SHORTEST {
            let help = "`openssl rand -hex 32` makes one";
            let problem = format!("a token has {} characters or more", AccessToken::SHORTEST);
            problems.add(place.span(), problem, Some(help.to_owned()));
        }
        let shops =
            access.shops.as_ref().map(|shops| shops.iter().map(|shop| text(shop).to_owned()).collect());
        valid.push(Access {
            name: name.to_owned(),
            token: AccessToken::new(&token),
            allow: access.allow.clone(),
            shops,
        });
    }
    valid
}

/// A secret is written in the file, or in a file of its own; not in both.
fn secret(
    key: &str,
    base: &Path,
    direct: Option<&Word>,
    in_file: Option<&Word>,
    problems: &mut Problems<'_>,
) -> Option<String> {
    match (direct, in_file) {
        (Some(word), Some(_)) => {
            problems.add(word.span(), format!("`{key}` and `{key}_file` exclude each other"), None);
            None
        }
        (Some(word), None) => Some(text(word).to_owned()),
        (None, Some(word)) => {
            let path = base.join(text(word));
            std::fs::read_to_string(&path)
                .map(|content| content.trim_end_matches(['\r', '\n']).to_owned())
                .inspect_err(|error| {
                    problems.add(word.span(), format!("cannot read {}: {error}", path.display()), None)
                })
                .ok()
        }
        (None, None) => None,
    }
}

fn shops(shops: &[raw::Shop], problems: &mut Problems<'_>) -> Option<Vec<Shop>> {
    if shops.is_empty() {
        problems.add(
            0..0,
            "there is no [[shop]]",
            Some("add one, with key, name, locale, timezone, from and url".to_owned()),
        );
        return None;
    }
    let mut valid: Vec<Shop> = Vec::new();
    for shop in shops {
        let key = text(&shop.key);
        check_key("shop", key, shop.key.span(), problems);
        if valid.iter().any(|other| other.key == key) {
            problems.add(shop.key.span(), format!("the shop {key:?} stands here twice"), None);
        }
        let timezone = timezone(&shop.timezone, problems);
        let from = mailbox(&shop.from, problems);
        let reply_to = shop.reply_to.as_ref().map(|word| mailbox(word, problems));
        web_address(&shop.url, "https://shop.example", problems);
        let logo =
            shop.logo.as_ref().map(|word| web_address(word, "https://shop.example/logo.png", problems));
        let privacy_url =
            shop.privacy_url.as_ref().map(|word| web_address(word, "https://shop.example/privacy", problems));
        let color = shop.color.as_ref().map_or(Some(DEFAULT_COLOR.to_owned()), |word| {
            parsed(word, problems, |text| {
                let hex = text.strip_prefix('#').unwrap_or_default();
                if hex.len() == 6 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
                    Ok(text.to_ascii_lowercase())
                } else {
                    Err("expected a colour such as #1f5d4c".to_owned())
                }
            })
        });
        let review_places = review_places(&shop.review_places, problems);
        let unhappy_next =
            shop.unhappy_next.as_ref().map(|wordings| texts(wordings.get_ref(), wordings.span(), problems));
        if let (Some(timezone), Some(from), Some(color)) = (timezone, from, color) {
            valid.push(Shop {
                key: key.to_owned(),
                name: shop.name.0.clone(),
                locale: shop.locale.get_ref().clone(),
                timezone,
                from,
                reply_to: reply_to.flatten(),
                url: text(&shop.url).to_owned(),
                color,
                logo,
                address: shop.address.as_ref().map(|address| on_one_line(&address.0)),
                privacy_url,
                review_places,
                unhappy_next,
            });
        }
    }
    (valid.len() == shops.len()).then_some(valid)
}

fn review_places(places: &[raw::ReviewPlace], problems: &mut Problems<'_>) -> Vec<ReviewPlace> {
    let mut valid: Vec<ReviewPlace> = Vec::new();
    for place in places {
        let name = text(&place.name).trim().to_owned();
        if name.is_empty() {
            problems.add(place.name.span(), "a place needs a name, which customers read as a link", None);
        } else if valid.iter().any(|other| other.name == name) {
            problems.add(place.name.span(), format!("the place {name:?} stands here twice"), None);
        }
        let url = web_address(&place.url, "https://reviews.example/your-shop", problems);
        valid.push(ReviewPlace { name, url });
    }
    valid
}

/// Notes what is no address of the web, and gives it back as it was typed.
fn web_address(word: &Word, example: &str, problems: &mut Problems<'_>) -> String {
    let typed = text(word);
    let host = typed.strip_prefix("https://").or_else(|| typed.strip_prefix("http://"));
    if host.is_none_or(|host| host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()))
    {
        problems.add(
            word.span(),
            format!("{typed:?} is not a web address"),
            Some(format!("write it as {example}")),
        );
    }
    typed.to_owned()
}

/// Lines, joined by commas.
fn on_one_line(text: &str) -> String {
    let lines = text.lines().map(|line| line.trim().trim_end_matches(',')).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(", ")
}

fn mailbox(word: &Word, problems: &mut Problems<'_>) -> Option<lettre::message::Mailbox> {
    parsed(word, problems, |text| {
        text.parse().map_err(|_| "expected an address such as Maison Exemple <avis@shop.example>".to_owned())
    })
}

fn survey(
    key: &str,
    survey: &Spanned<raw::Survey>,
    shop_keys: &[&str],
    problems: &mut Problems<'_>,
) -> Option<Survey> {
    let span = survey.span();
    let survey = survey.get_ref();
    check_key("survey", key, span.clone(), problems);
    for shop in survey.shops.iter().flatten() {
        known("shop", shop, shop_keys.iter().copied(), problems);
    }
    let mut questions: Vec<Question> = Vec::new();
    for (n, question) in survey.question.iter().enumerate() {
        let later = &survey.question[n..];
        if let Some(question) = self::question(question, &questions, later, problems) {
            questions.push(question);
        }
    }
    misplaced(&survey.question, problems);
    if survey.question.is_empty() {
        problems.add(
            span.clone(),
            format!("the survey {key:?} asks nothing"),
            Some(format!("add a [[survey.{key}.question]]")),
        );
    }
    let mut complete = questions.len() == survey.question.len();
    let intro = survey.intro.as_ref().map(|intro| texts(intro.get_ref(), intro.span(), problems));
    let questionnaire = Questionnaire { intro, questions };
    // A rule about a question that was itself wrong would only say the same twice.
    let recommendation = match &survey.recommendation {
        Some(rule) if complete => Some(recommendation(rule, &questionnaire, problems)),
        _ => None,
    };
    let unhappy = match &survey.unhappy {
        Some(unhappy) if complete => Some(when("unhappy", unhappy, &questionnaire.questions, &[], problems)),
        _ => None,
    };
    let mailed = survey.mailed.unwrap_or(true);
    let sample = survey.sample.as_ref().map_or(1.0, |sample| share(sample, problems));
    for cap in [&survey.max_per_day, &survey.max_per_run].into_iter().flatten() {
        if *cap.get_ref() == 0 {
            problems.add(
                cap.span(),
                "a cap of 0 asks nobody",
                Some("leave it out for no cap; `enabled = false` stops the job".to_owned()),
            );
        }
    }
    let delay_by_country = survey
        .delay_by_country
        .iter()
        .filter_map(|(code, word)| {
            Some((country(code, problems)?, duration(Some(word), TimeDelta::zero(), problems)?))
        })
        .collect();
    let reminders: Vec<TimeDelta> = survey
        .reminders
        .iter()
        .filter_map(|word| {
            let wait = duration(Some(word), TimeDelta::zero(), problems)?;
            if wait < DAY {
                problems.add(word.span(), "a reminder needs a day or more after the mail before it", None);
            }
            Some(wait)
        })
        .collect();
    if let Some(word) = survey.reminders.get(MAX_REMINDERS) {
        problems.add(word.span(), format!("a customer is reminded {MAX_REMINDERS} times at most"), None);
    }
    let consent = consent(&survey.consent, problems);
    let delay = duration(survey.delay.as_ref(), DAY * 7, problems);
    let max_lateness = duration(survey.max_lateness.as_ref(), DAY * 30, problems);
    let throttle = duration(survey.throttle.as_ref(), DAY * 90, problems);
    let answer_within = duration(survey.answer_within.as_ref(), DAY * 60, problems);
    let edit_within = duration(survey.edit_within.as_ref(), DAY * 14, problems);
    if let (Some(word), Some(edit), Some(answer)) = (&survey.edit_within, edit_within, answer_within)
        && edit > answer
    {
        let help = "the link stops working after `answer_within`; make `edit_within` no longer than that";
        problems.add(
            word.span(),
            "an answer cannot be changed for longer than it can be given".to_owned(),
            Some(help.to_owned()),
        );
        complete = false;
    }
    let trigger = trigger(survey.trigger.as_ref(), problems);
    let send_window = survey.send_window.as_ref().map(|window| self::send_window(window, problems));
    let recommendation = settle(recommendation)?;
    let unhappy = settle(unhappy)?;
    if !complete {
        return None;
    }
    Some(Survey {
        key: key.to_owned(),
        shops: survey.shops.as_ref().map(|shops| shops.iter().map(|shop| text(shop).to_owned()).collect()),
        mailed,
        trigger: trigger?,
        delay: delay?,
        delay_by_country,
        max_lateness: max_lateness?,
        throttle: throttle?,
        sample,
        max_per_day: survey.max_per_day.as_ref().map(|cap| *cap.get_ref()),
        max_per_run: survey.max_per_run.as_ref().map(|cap| *cap.get_ref()),
        reminders,
        consent,
        answer_within: answer_within?,
        edit_within: edit_within?,
        send_window: send_window.flatten(),
        recommendation,
        unhappy,
        questionnaire,
    })
}

fn consent(typed: &BTreeMap<Spanned<String>, Demand>, problems: &mut Problems<'_>) -> ConsentRule {
    let mut rule = ConsentRule { default: Demand::SoftOptIn, by_country: BTreeMap::new() };
    for (code, demand) in typed {
        if code.get_ref() == "default" {
            rule.default = *demand;
        } else if let Some(code) = country(code, problems) {
            rule.by_country.insert(code, *demand);
        }
    }
    rule
}

/// ISO 3166-1 alpha-2, as orders have it.
fn country(code: &Spanned<String>, problems: &mut Problems<'_>) -> Option<String> {
    let typed = code.get_ref();
    if typed.len() == 2 && typed.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Some(typed.to_ascii_uppercase());
    }
    problems.add(
        code.span(),
        format!("{typed:?} is not a country"),
        Some("write two letters such as DE".to_owned()),
    );
    None
}

/// A question after these, and before those that are not read yet.
fn question(
    question: &raw::Question,
    earlier: &[Question],
    later: &[raw::Question],
    problems: &mut Problems<'_>,
) -> Option<Question> {
    let key = text(&question.key);
    check_key("question", key, question.key.span(), problems);
    if earlier.iter().any(|other| other.key == key) {
        problems.add(question.key.span(), format!("the question {key:?} stands here twice"), None);
        return None;
    }
    let kind_span = question.kind.span();
    let kind = match question.kind.get_ref() {
        raw::QuestionType::Recommend => QuestionKind::Recommend,
        raw::QuestionType::Nps => QuestionKind::Nps,
        raw::QuestionType::Rating => QuestionKind::Rating,
        raw::QuestionType::Choice => {
            let Some(choices) = question.choices.as_ref().filter(|choices| choices.get_ref().len() >= 2)
            else {
                problems.add(kind_span, "a choice needs two or more `choices`", None);
                return None;
            };
            QuestionKind::Choice { choices: self::choices(choices, problems) }
        }
        raw::QuestionType::Text => {
            let max_length = question.max_length.as_ref().map_or(4000, |length| *length.get_ref());
            if !(1..=4000).contains(&max_length) {
                let span = question.max_length.as_ref().map_or(kind_span.clone(), Spanned::span);
                problems.add(span, "max_length must be between 1 and 4000 characters", None);
            }
            QuestionKind::Text { max_length }
        }
        raw::QuestionType::Consent => {
            let Some(version) = &question.version else {
                problems.add(
                    kind_span,
                    "a consent needs a `version`, the name of its wording",
                    Some("add version = \"2026-11\", and change it when you change the text".to_owned()),
                );
                return None;
            };
            if question.required.unwrap_or(false) {
                problems.add(
                    kind_span.clone(),
                    "a consent cannot be required: it would not be given freely (GDPR, article 7(4))",
                    Some("leave out `required`".to_owned()),
                );
            }
            QuestionKind::Consent { version: text(version).to_owned() }
        }
    };
    if let Some(choices) = question.choices.as_ref().filter(|_| !matches!(kind, QuestionKind::Choice { .. }))
    {
        problems.add(choices.span(), "only a question of type \"choice\" has `choices`", None);
    }
    if let Some(length) = question.max_length.as_ref().filter(|_| !matches!(kind, QuestionKind::Text { .. }))
    {
        problems.add(length.span(), "only a question of type \"text\" has a `max_length`", None);
    }
    if let Some(version) = question.version.as_ref().filter(|_| !matches!(kind, QuestionKind::Consent { .. }))
    {
        problems.add(version.span(), "only a question of type \"consent\" has a `version`", None);
    }
    let in_mail = question.in_mail.as_ref().is_some_and(|in_mail| *in_mail.get_ref());
    if in_mail {
        let span = question.in_mail.as_ref().map_or(kind_span, Spanned::span);
        if matches!(kind, QuestionKind::Text { .. } | QuestionKind::Consent { .. }) {
            problems.add(span, "the answers of this question cannot be links in a mail", None);
        } else if earlier.iter().any(|other| other.in_mail) {
            problems.add(span, "only one question can have its answers in the mail", None);
        }
    }
    Some(Question {
        key: key.to_owned(),
        kind,
        required: question.required.unwrap_or(false),
        in_mail,
        when: question.when.as_ref().and_then(|when| self::when("when", when, earlier, later, problems)),
        text: texts(question.text.get_ref(), question.text.span(), problems),
    })
}

/// What each question alone is allowed, and is wrong among the others.
fn misplaced(questions: &[raw::Question], problems: &mut Problems<'_>) {
    let is_consent =
        |question: &&raw::Question| matches!(question.kind.get_ref(), raw::QuestionType::Consent);
    if let Some(second) = questions.iter().filter(is_consent).nth(1) {
        problems.add(
            second.kind.span(),
            "a survey asks for one consent: an answer is published, or it is not",
            Some("put what is agreed to into one wording, or ask in two surveys".to_owned()),
        );
    }
    for question in questions {
        let Some(in_mail) = question.in_mail.as_ref().filter(|in_mail| *in_mail.get_ref()) else { continue };
        if question.when.is_some() {
            problems.add(
                in_mail.span(),
                "a mail cannot ask what is only asked after another answer",
                Some("leave out `when`, or set `in_mail` at the question it depends on".to_owned()),
            );
        }
    }
}

fn choices(choices: &Spanned<Vec<raw::Choice>>, problems: &mut Problems<'_>) -> Vec<Choice> {
    let mut valid: Vec<Choice> = Vec::new();
    for choice in choices.get_ref() {
        let choice = match choice {
            raw::Choice::Key(key) => Choice { key: key.clone(), text: None },
            raw::Choice::Worded(worded) => {
                Choice { key: worded.key.clone(), text: Some(texts(&worded.text, choices.span(), problems)) }
            }
        };
        check_key("choice", &choice.key, choices.span(), problems);
        if valid.iter().any(|other| other.key == choice.key) {
            problems.add(choices.span(), format!("the choice {:?} stands here twice", choice.key), None);
        }
        valid.push(choice);
    }
    valid
}

fn texts(
    wordings: &BTreeMap<crate::types::Locale, String>,
    span: Range<usize>,
    problems: &mut Problems<'_>,
) -> Texts {
    if wordings.is_empty() {
        problems.add(span.clone(), "there is no wording", Some("write text = { en = \"…\" }".to_owned()));
    }
    for (locale, wording) in wordings {
        if let Err(error) = check_wording(wording) {
            problems.add(span.clone(), format!("the wording for {locale} cannot be used: {error}"), None);
        }
    }
    Texts(wordings.clone())
}

/// A question among these, and some of its answers.
fn when(
    key: &str,
    when: &Spanned<BTreeMap<String, Vec<String>>>,
    earlier: &[Question],
    later: &[raw::Question],
    problems: &mut Problems<'_>,
) -> Option<When> {
    let span = when.span();
    let mut conditions = when.get_ref().iter();
    let (Some((question, answers)), None) = (conditions.next(), conditions.next()) else {
        problems.add(
            span,
            format!("`{key}` names one question that stands before it"),
            Some(format!("write {key} = {{ recommend = [\"no\"] }}")),
        );
        return None;
    };
    let Some(asked) = earlier.iter().find(|other| other.key == *question) else {
        if later.iter().any(|other| text(&other.key) == question) {
            let help = format!("move {question:?} before it");
            problems.add(span, format!("{question:?} is not answered yet when this is asked"), Some(help));
        } else {
            let help = did_you_mean(question, earlier.iter().map(|other| other.key.as_str()));
            problems.add(span, format!("no earlier question is called {question:?}"), help);
        }
        return None;
    };
    let possible = asked.kind.options().unwrap_or_default();
    for answer in answers.iter().filter(|answer| !possible.contains(answer)) {
        let help = did_you_mean(answer, possible.iter().map(String::as_str))
            .or_else(|| Some(format!("its answers are {}", possible.join(", "))));
        problems.add(span.clone(), format!("{answer:?} is no answer to {question:?}"), help);
    }
    Some(When { question: question.clone(), answers: answers.clone() })
}

fn recommendation(
    rule: &raw::Recommendation,
    questionnaire: &Questionnaire,
    problems: &mut Problems<'_>,
) -> Option<Recommendation> {
    let keys = questionnaire.questions.iter().map(|question| question.key.as_str());
    known("question", &rule.question, keys, problems)?;
    let question = questionnaire.question(text(&rule.question))?;
    let span = rule.yes.span();
    let yes = match (rule.yes.get_ref(), &question.kind) {
        (raw::Yes::Choices(choices), QuestionKind::Recommend | QuestionKind::Choice { .. }) => {
            let possible = question.kind.options().unwrap_or_default();
            for choice in choices.iter().filter(|choice| !possible.contains(choice)) {
                let help = did_you_mean(choice, possible.iter().map(String::as_str));
                problems.add(span.clone(), format!("{choice:?} is no answer to {:?}", question.key), help);
            }
            Yes::Choices(choices.clone())
        }
        (raw::Yes::Range(range), QuestionKind::Nps | QuestionKind::Rating) => {
            let Some((low, high)) = score_range(range, &question.kind) else {
                problems.add(
                    span,
                    format!("{range:?} is no range of scores of {:?}", question.key),
                    Some("write a range such as \"4-5\"".to_owned()),
                );
                return None;
            };
            Yes::Scores { low, high }
        }
        (_, QuestionKind::Nps | QuestionKind::Rating) => {
            problems.add(
                span,
                "a question with scores needs a range",
                Some("write yes = \"4-5\"".to_owned()),
            );
            return None;
        }
        _ => {
            problems.add(span, "expected a list of answers", Some("write yes = [\"yes\"]".to_owned()));
            return None;
        }
    };
    Some(Recommendation { question: question.key.clone(), yes })
}

fn score_range(range: &str, kind: &QuestionKind) -> Option<(i16, i16)> {
    let (low, high) = range.split_once('-').unwrap_or((range, range));
    let (low, high) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
    let scores = kind.scores()?;
    (low <= high && scores.contains(&low) && scores.contains(&high)).then_some((low, high))
}

fn send_window(window: &raw::SendWindow, problems: &mut Problems<'_>) -> Option<SendWindow> {
    let days = window.days.as_ref().map_or_else(
        || {
            Some(vec![
                Weekday::Mon,
                Weekday::Tue,
                Weekday::Wed,
                Weekday::Thu,
                Weekday::Fri,
                Weekday::Sat,
                Weekday::Sun,
            ])
        },
        |word| parsed(word, problems, weekdays),
    );
    let mut time = |word: &Word| {
        parsed(word, problems, |text| {
            if text == "24:00" {
                // The day's last moment: the window's end is exclusive, and a minute at midnight decides nothing.
                return Ok(NaiveTime::from_hms_opt(23, 59, 59).unwrap_or_default());
            }
            NaiveTime::parse_from_str(text, "%H:%M").map_err(|_| "expected a time such as 09:00".to_owned())
        })
    };
    let (from, to) = (time(&window.from), time(&window.to));
    let (days, from, to) = (days?, from?, to?);
    if from >= to {
        problems.add(window.to.span(), "the window ends before it begins", None);
        return None;
    }
    Some(SendWindow { days, from, to })
}

/// Reads `mon-sat`, or `mon,wed,fri`, or both mixed.
fn weekdays(text: &str) -> Result<Vec<Weekday>, String> {
    let day = |name: &str| {
        name.trim()
            .parse::<Weekday>()
            .map_err(|_| format!("{name:?} is no weekday; expected days such as mon-sat"))
    };
    let mut days = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            None => days.push(day(part)?),
            Some((first, last)) => {
                let (mut current, last) = (day(first)?, day(last)?);
                days.push(current);
                while current != last {
                    current = current.succ();
                    days.push(current);
                }
            }
        }
    }
    days.sort_by_key(Weekday::num_days_from_monday);
    days.dedup();
    Ok(days)
}

fn order_format(
    name: &str,
    format: &Spanned<raw::OrderFormat>,
    problems: &mut Problems<'_>,
) -> Option<OrderMapping> {
    let span = format.span();
    let format = format.get_ref();
    check_format_name(name, span, ORDER_FORMATS.iter().map(|format| format.key), problems);
    let text_format =
        text_format([&format.delimiter, &format.encoding, &format.timezone, &format.date_format], problems);
    let columns = columns(&format.columns, ORDER_COLUMNS, REQUIRED_ORDER_COLUMNS, problems);
    for (attribute, word) in &format.attributes {
        check_key("attribute", attribute, word.span(), problems);
    }
    Some(OrderMapping {
        text: text_format?,
        columns: columns?,
        attributes: plain(&format.attributes),
        status: format.status.clone(),
    })
}

/// From when on the delay runs.
fn trigger(typed: Option<&Spanned<raw::Trigger>>, problems: &mut Problems<'_>) -> Option<Trigger> {
    let Some(typed) = typed else { return Some(Trigger::Fulfilled) };
    match typed.get_ref() {
        raw::Trigger::Word(word) if word == "fulfilled" => Some(Trigger::Fulfilled),
        raw::Trigger::Word(word) if word == "ordered" => Some(Trigger::Ordered),
        raw::Trigger::Word(word) => {
            let help = did_you_mean(word, ["fulfilled", "ordered"]).unwrap_or_else(|| {
                "expected \"fulfilled\", \"ordered\", or an event such as { event = \"case_closed\" }"
                    .to_owned()
            });
            problems.add(typed.span(), format!("there is no trigger {word:?}"), Some(help));
            None
        }
        raw::Trigger::Event(raw::Event { event }) if is_event(event) => Some(Trigger::Event(event.clone())),
        raw::Trigger::Event(_) => {
            let help = "expected a name such as case_closed: lower-case letters, digits and _".to_owned();
            problems.add(typed.span(), "this is no name of an event".to_owned(), Some(help));
            None
        }
    }
}

fn response_format(
    name: &str,
    format: &Spanned<raw::ResponseFormat>,
    surveys: &[Survey],
    problems: &mut Problems<'_>,
) -> Option<ResponseMapping> {
    let span = format.span();
    let format = format.get_ref();
    check_format_name(name, span, RESPONSE_FORMATS.iter().map(|format| format.key), problems);
    let text_format =
        text_format([&format.delimiter, &format.encoding, &format.timezone, &format.date_format], problems);
    let columns = columns(&format.columns, RESPONSE_COLUMNS, MAPPED_RESPONSE_COLUMNS, problems);
    let typed = format.columns.get_ref();
    if !typed.contains_key("order_id") && !typed.contains_key("email") {
        problems.add(
            format.columns.span(),
            "nothing says which order an answer is about: neither `order_id` nor `email` has a column"
                .to_owned(),
            Some("add order_id = \"<their column>\", or email = … to match by address and date".to_owned()),
        );
    }
    known("survey", &format.survey, surveys.iter().map(|survey| survey.key.as_str()), problems)?;
    let survey = surveys.iter().find(|survey| survey.key == text(&format.survey))?;
    for (question, word) in &format.answers {
        if survey.questionnaire.question(question).is_none() {
            let keys = survey.questionnaire.questions.iter().map(|question| question.key.as_str());
            problems.add(
                word.span(),
                format!("the survey {:?} has no question {question:?}", survey.key),
                did_you_mean(question, keys),
            );
        }
    }
    Some(ResponseMapping {
        text: text_format?,
        survey: survey.key.clone(),
        columns: columns?,
        answers: plain(&format.answers),
    })
}

fn rating_format(
    name: &str,
    format: &Spanned<raw::RatingFormat>,
    problems: &mut Problems<'_>,
) -> Option<RatingMapping> {
    let span = format.span();
    let format = format.get_ref();
    check_format_name(name, span.clone(), ["generic"].into_iter(), problems);
    let text_format =
        text_format([&format.delimiter, &format.encoding, &format.timezone, &format.date_format], problems);
    let columns = columns(&format.columns, RATING_COLUMNS, REQUIRED_RATING_COLUMNS, problems);
    if format.source.is_none() && !format.columns.get_ref().contains_key("source") {
        problems.add(
            span,
            "nothing says whose scores these are: there is neither `source` nor a column for it".to_owned(),
            Some("add source = \"<name>\"".to_owned()),
        );
    }
    let scale = format.scale.as_ref().map(|typed| match Decimal::parse_scale(&typed.get_ref().to_string()) {
        Ok(scale) => Some(scale),
        Err(reason) => {
            problems.add(typed.span(), format!("`scale` {reason}"), None);
            None
        }
    });
    Some(RatingMapping {
        text: text_format?,
        columns: columns?,
        source: format.source.as_ref().map(|source| text(source).trim().to_owned()),
        scale: settle(scale)?,
    })
}

fn check_format_name<'k>(
    name: &str,
    span: Range<usize>,
    mut built_in: impl Iterator<Item = &'k str>,
    problems: &mut Problems<'_>,
) {
    check_key("format", name, span.clone(), problems);
    if name == "auto" || built_in.any(|key| key == name) {
        problems.add(
            span,
            format!("{name:?} is the name of a built-in format"),
            Some("choose another name".to_owned()),
        );
    }
}

fn plain(words: &BTreeMap<String, Word>) -> BTreeMap<String, String> {
    words.iter().map(|(key, word)| (key.clone(), text(word).to_owned())).collect()
}

fn columns(
    columns: &Spanned<BTreeMap<String, Word>>,
    possible: &[&str],
    required: &[&str],
    problems: &mut Problems<'_>,
) -> Option<BTreeMap<String, String>> {
    let mut complete = true;
    for (column, word) in columns.get_ref() {
        if !possible.contains(&column.as_str()) {
            let help = did_you_mean(column, possible.iter().copied())
                .or_else(|| Some(format!("the columns are {}", possible.join(", "))));
            problems.add(word.span(), format!("there is no column {column:?} to fill"), help);
            complete = false;
        }
    }
    for column in required {
        if !columns.get_ref().contains_key(*column) {
            problems.add(
                columns.span(),
                format!("the column for `{column}` is missing"),
                Some(format!("add {column} = \"<their column>\"")),
            );
            complete = false;
        }
    }
    complete.then(|| plain(columns.get_ref()))
}

fn text_format(
    [delimiter, encoding, zone, date_format]: [&Option<Word>; 4],
    problems: &mut Problems<'_>,
) -> Option<TextFormat> {
    let delimiter = delimiter.as_ref().map(|word| parsed(word, problems, TextFormat::parse_delimiter));
    let encoding = encoding.as_ref().map(|word| parsed(word, problems, TextFormat::parse_encoding));
    let zone = zone.as_ref().map(|word| timezone(word, problems));
    let date_format = date_format.as_ref().map(|word| parsed(word, problems, TextFormat::parse_date_format));
    // A value that was given and was wrong has been noted; the format is then not usable.
    Some(TextFormat {
        delimiter: settle(delimiter)?,
        encoding: settle(encoding)?,
        timezone: settle(zone)?,
        date_format: settle(date_format)?,
    })
}

/// Absent is fine; given and wrong is not.
fn settle<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(Some(value)) => Some(Some(value)),
        Some(None) => None,
    }
}

fn job(
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
    Some(ScheduledJob {
        name: name.to_owned(),
        kind: kind.name,
        job: parsed,
        schedule,
        enabled: job.enabled.unwrap_or(true),
        catch_up: job.catch_up.unwrap_or(CatchUp::Once),
        catch_up_window: std_duration(catch_up_window?),
        timeout: std_duration(timeout?),
    })
}

/// Reads a word; what `read` finds wrong with it is noted at its place.
fn parsed<T>(
    word: &Word,
    problems: &mut Problems<'_>,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    read(text(word))
        .inspect_err(|error| problems.add(word.span(), format!("{:?}: {error}", text(word)), None))
        .ok()
}

fn timezone(word: &Word, problems: &mut Problems<'_>) -> Option<Tz> {
    let typed = text(word);
    typed
        .parse::<Tz>()
        .inspect_err(|_| {
            let help = did_you_mean(typed, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()))
                .or_else(|| Some("write an IANA name such as Europe/Paris".to_owned()));
            problems.add(word.span(), format!("{typed:?} is not a time zone"), help);
        })
        .ok()
}

/// Notes a name that is not among those that are known.
fn known<'k>(
    what: &str,
    word: &Word,
    mut names: impl Iterator<Item = &'k str> + Clone,
    problems: &mut Problems<'_>,
) -> Option<()> {
    let typed = text(word);
    let help = nearest::hint(typed, names.clone());
    if names.any(|name| name == typed) {
        return Some(());
    }
    problems.add(word.span(), format!("there is no {what} {typed:?}"), help);
    None
}

/// Keys go into addresses, forms, file names and commands, so they stay plain.
fn check_key(what: &str, key: &str, span: Range<usize>, problems: &mut Problems<'_>) {
    let plain = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && key.len() <= 64;
    if !plain {
        problems.add(
            span,
            format!("{key:?} cannot be the key of a {what}"),
            Some("use letters, digits, - and _, starting with a letter".to_owned()),
        );
    }
}

fn duration(word: Option<&Word>, default: TimeDelta, problems: &mut Problems<'_>) -> Option<TimeDelta> {
    word.map_or(Some(default), |word| parsed(word, problems, parse_duration))
}

/// Reads `45s`, `50m`, `12h`, `7d`, `2w` or `3y` (years of 365 days).
fn parse_duration(text: &str) -> Result<TimeDelta, String> {
    let wrong = || "expected a time such as 7d, 12h or 50m".to_owned();
    let (number, unit) = text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
    let number: u32 = number.trim().parse().map_err(|_| wrong())?;
    let seconds: i64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        "y" => 365 * 86_400,
        _ => return Err(wrong()),
    };
    TimeDelta::try_seconds(i64::from(number) * seconds)
        .filter(|delta| *delta <= TimeDelta::days(365 * 100))
        .ok_or_else(wrong)
}

fn std_duration(delta: TimeDelta) -> Duration {
    delta.to_std().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("7d"), Ok(TimeDelta::days(7)));
        assert_eq!(parse_duration("50m"), Ok(TimeDelta::minutes(50)));
        assert_eq!(parse_duration("3y"), Ok(TimeDelta::days(1095)));
        for wrong in ["", "7", "d", "-1d", "1.5h", "7 days", "7é", "4000000000y"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn days_of_the_week() {
        use Weekday::{Fri, Mon, Sat, Sun, Wed};
        assert_eq!(weekdays("mon,wed,fri"), Ok(vec![Mon, Wed, Fri]));
        assert_eq!(weekdays("fri-mon"), Ok(vec![Mon, Fri, Sat, Sun]));
        assert_eq!(weekdays("mon-sat").map(|days| days.len()), Ok(6));
        assert!(weekdays("mon-").is_err());
        assert!(weekdays("").is_err());
    }

    #[test]
    fn text_is_used() {
        // `Text` expands before anything else looks at it.
        let file: raw::Database = toml::from_str("url = \"postgres://u@h/${CARGO_PKG_NAME}\"").unwrap();
        assert_eq!(text(&file.url.unwrap()), "postgres://u@h/afterword");
        assert!(toml::from_str::<raw::Database>("url = \"${AFTERWORD_NOT_SET}\"").is_err());
    }
}
