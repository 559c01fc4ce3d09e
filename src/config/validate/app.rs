//! `[app]` and `[database]`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use chrono::TimeDelta;
use toml::Spanned;

use super::words::{duration, parsed, secret, std_duration, text};
use crate::config::network::Network;
use crate::config::problem::Problems;
use crate::config::{App, Database, LogFormat, environment, raw};

pub(super) fn app(base: &Path, app: &raw::App, problems: &mut Problems<'_>) -> Option<App> {
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

pub(super) fn database(
    base: &Path,
    database: &raw::Database,
    problems: &mut Problems<'_>,
) -> Option<Database> {
    let raw::Database { url, url_file, pooled_url, pooled_url_file, read_url, read_url_file, .. } = database;
    let mut address = |key, word: &Option<raw::Word>, file: &Option<raw::Word>| {
        database_url(key, base, word.as_ref(), file.as_ref(), problems)
    };
    let url = address("url", url, url_file);
    let pooled_url = address("pooled_url", pooled_url, pooled_url_file);
    let read_url = address("read_url", read_url, read_url_file);
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
        url: url.or_else(|| environment("DATABASE_URL")),
        pooled_url,
        read_url,
        max_connections,
        auto_migrate: database.auto_migrate.unwrap_or(true),
    })
}

fn database_url(
    key: &str,
    base: &Path,
    given: Option<&raw::Word>,
    file: Option<&raw::Word>,
    problems: &mut Problems<'_>,
) -> Option<String> {
    let url = secret(key, base, given, file, problems);
    if let (Some(url), Some(word)) = (&url, given.or(file))
        && !(url.starts_with("postgres://") || url.starts_with("postgresql://"))
    {
        // It may hold a password, so it is not repeated.
        problems.add(
            word.span(),
            "this is not the address of a Postgres database",
            Some("write it as postgres://user:password@host:5432/database".to_owned()),
        );
    }
    url
}
