//! From what was typed to what is true. Every mistake is collected, so that one reading tells all of them.

mod access;
mod alerts;
mod app;
mod formats;
mod jobs;
mod mail;
mod questions;
mod retention;
mod shops;
mod surveys;
mod testimonials;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use self::words::text;
use super::Config;
use super::problem::Problems;
use super::raw;

/// Validates the whole file. `None` when something was wrong; the problems say what.
pub fn config(path: &Path, file: raw::File, problems: &mut Problems<'_>) -> Option<Config> {
    // Paths in the file are meant from where the file lies, not from where the program was started.
    let base = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
    let app = app::app(&base, &file.app, problems);
    let database = app::database(&base, &file.database, problems);
    let mail = mail::mail(&base, file.mail.as_ref(), problems);
    let shops = shops::shops(&file.shop, problems);
    let shop_keys: Vec<&str> = file.shop.iter().map(|shop| text(&shop.key)).collect();
    let surveys: Vec<_> = file
        .survey
        .iter()
        .filter_map(|(key, survey)| surveys::survey(key, survey, &shop_keys, problems))
        .collect();
    let order_formats: BTreeMap<_, _> = file
        .order_format
        .iter()
        .filter_map(|(name, format)| Some((name.clone(), formats::order_format(name, format, problems)?)))
        .collect();
    let response_formats: BTreeMap<_, _> = file
        .response_format
        .iter()
        .filter_map(|(name, format)| {
            Some((name.clone(), formats::response_format(name, format, &surveys, problems)?))
        })
        .collect();
    let rating_formats: BTreeMap<_, _> = file
        .rating_format
        .iter()
        .filter_map(|(name, format)| Some((name.clone(), formats::rating_format(name, format, problems)?)))
        .collect();
    let mut testimonials = testimonials::testimonials(&file.testimonials, &shop_keys, problems);
    let alerts = alerts::rules(&file.alert, &shop_keys, problems);
    let notify = alerts::notify(&base, &file.notify, problems);
    let retention = retention::retention(file.retention.as_ref(), problems);
    if let (Some(testimonials), Some(retention)) = (&mut testimonials, &retention) {
        testimonials.retain.get_or_insert(retention.responses);
    }
    let access = access::accesses(&base, &file.access, &shop_keys, problems);
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
        testimonials: testimonials?,
        alerts,
        notify: notify?,
        retention,
        jobs: Vec::new(),
        access,
        holds_secrets: problems.holds_secrets(),
    };
    // The jobs come last, because their parameters name shops, surveys and formats; those that were themselves wrong are not there, and
    // whoever names one would only be told the same mistake again.
    let all_there = problems.is_empty();
    config.jobs = file
        .jobs
        .iter()
        .filter_map(|(name, job)| jobs::job(name, job, &config, all_there, problems))
        .collect();
    Some(config)
}
