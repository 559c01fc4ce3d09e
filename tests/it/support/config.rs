//! A jobs.toml of a test's own: what every one has, and what the test is about.

use std::path::Path;

use afterword::config::Config;

/// Key, name, language and zone of a shop. Its addresses are under `<key>.example`.
pub type Shop<'a> = (&'a str, &'a str, &'a str, &'a str);

/// A file with these shops, whose mails go into files, and then what the test is about.
pub fn jobs_toml(shops: &[Shop<'_>], rest: &str) -> String {
    let shops = shops.iter().map(|(key, name, locale, timezone)| {
        format!(
            "[[shop]]\nkey = \"{key}\"\nname = \"{name}\"\nlocale = \"{locale}\"\ntimezone = \"{timezone}\"\n\
             from = \"reviews@{key}.example\"\nurl = \"https://{key}.example\"\n"
        )
    });
    let house =
        "[app]\nbase_url = \"http://127.0.0.1:8080\"\n[database]\n[mail]\ntransport = \"file\"\n".to_owned();
    house + &shops.collect::<String>() + rest
}

/// The same, read.
#[track_caller]
pub fn parsed(text: &str) -> Config {
    Config::parse(Path::new("jobs.toml"), text).unwrap_or_else(|error| panic!("{error:?}"))
}

/// What stands under `[mail]` for a relay on this machine.
pub fn smtp(port: u16) -> String {
    format!("transport = \"smtp\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\n")
}
