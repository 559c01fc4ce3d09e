//! `afterword init`: the first jobs.toml. On a terminal it asks for what every shop has to say; each answer can also be given as an option.

use std::fs;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::Path;

use anyhow::Context as _;
use nix::unistd::Uid;

use self::draft::Draft;
use super::{Exit, Global, output};
use crate::config::problem::ConfigError;
use crate::config::{Config, environment, secret};

mod draft;

/// The configuration that is shipped, with every key explained.
pub const SHIPPED: &str = include_str!("../../jobs.toml");

/// Write a commented jobs.toml and the secret
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "\
On a terminal it asks for what was not given as an option, and shows what it takes for granted.

Examples:
  afterword init
  afterword --config /etc/afterword/jobs.toml init
  afterword init --yes --shop-name \"Maison Exemple\" --shop-url https://maison.example --relay localhost:25")]
pub struct Args {
    /// Ask nothing
    #[arg(long, short)]
    pub yes: bool,
    /// The shop's name, as customers know it
    #[arg(long, value_name = "NAME")]
    pub shop_name: Option<String>,
    /// The shop's key in commands and files
    #[arg(long, value_name = "KEY")]
    pub shop_key: Option<String>,
    /// The shop's web address
    #[arg(long, value_name = "URL")]
    pub shop_url: Option<String>,
    /// Who the mails come from, such as "Maison Exemple <avis@maison.example>"
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// The language of customers whose orders name none: en, fr
    #[arg(long, value_name = "LOCALE")]
    pub locale: Option<String>,
    /// The time zone of the shop, and of its schedules
    #[arg(long, value_name = "ZONE")]
    pub timezone: Option<String>,
    /// Where customers reach the pages
    #[arg(long, value_name = "URL")]
    pub base_url: Option<String>,
    /// Where the pages listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// The Postgres to use, without a password: others could read it in the list of processes. Without it, a private one
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// The file that holds the database's URL
    #[arg(long, value_name = "FILE", conflicts_with = "database_url")]
    pub database_url_file: Option<String>,
    /// The mail relay. Without it, mails are written as files
    #[arg(long, value_name = "HOST[:PORT]")]
    pub relay: Option<String>,
    /// How the conversation with the relay is encrypted: none, opportunistic, required, implicit
    #[arg(long, value_name = "TLS", requires = "relay")]
    pub relay_tls: Option<String>,
    /// Where mails as files, the secret and the private Postgres are kept
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
}

/// Runs the command. It never replaces a file.
///
/// # Errors
/// When a file cannot be written, or the person goes away.
pub fn run(args: &Args, global: &Global) -> anyhow::Result<Exit> {
    let path = &global.config;
    let is_there = || {
        output::say(&format!("{} is there already; nothing was written.", path.display()));
        Ok(Exit::Refused)
    };
    if path.symlink_metadata().is_ok() {
        return is_there();
    }
    // Checked here, because clap would repeat the URL.
    if args.database_url.as_deref().is_some_and(secret::has_password) {
        output::say(
            "error: --database-url: everybody on this machine can read a password in a command; put the URL into a file \
             (--database-url-file), or into DATABASE_URL",
        );
        return Ok(Exit::Usage);
    }
    let attended = !args.yes && io::stdin().is_terminal() && io::stderr().is_terminal();
    if attended {
        output::say("Enter takes what stands in brackets. Everything can be changed in the file later.\n");
    }
    let mut asking = Asking { path, attended, draft: Draft::of(SHIPPED) };
    let Some(draft) = questions(args, &mut asking)? else { return Ok(Exit::Usage) };
    let config = Config::parse(path, draft.text())?;

    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    // It may come to hold a password. What root writes is read by the service's group, which is the folder's.
    let mode = if Uid::effective().is_root() { 0o640 } else { 0o600 };
    match fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path) {
        Ok(mut file) => file
            .write_all(draft.text().as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return is_there(),
        Err(error) => return Err(error).with_context(|| format!("cannot write {}", path.display())),
    }
    give_to_the_folders_owner(path)?;
    let is_new = !config.app.secret_file.exists();
    secret::load_or_make(&config.app.secret_file)?;
    if is_new && config.app.secret_file.exists() {
        give_to_the_folders_owner(&config.app.secret_file)?;
    }
    let command = if path == Path::new("jobs.toml") {
        "afterword".to_owned()
    } else {
        format!("afterword --config {}", path.display())
    };
    let shop = config.shops.first().map_or("maison", |shop| &shop.key);
    output::say(&format!(
        "Wrote {} and the secret {}.\n\
         Next: see whether it says what you mean, then\n\
         \n\
         \x20 {command} check       shows mistakes with their line, and when each job will run\n\
         \x20 {command} import orders orders.csv --shop {shop}\n\
         \x20 {command} run send-invitations --dry-run\n\
         \x20 {command} serve       runs the schedule and the pages",
        path.display(),
        config.app.secret_file.display(),
    ));
    Ok(Exit::Done)
}

/// What was answered, in the file; `None` when an option is wrong, which the person has then been told.
fn questions<'a>(args: &Args, asking: &'a mut Asking<'_>) -> anyhow::Result<Option<&'a Draft>> {
    match ask_all(args, asking) {
        Ok(()) => Ok(Some(&asking.draft)),
        Err(Unsettled::Option(why)) => {
            output::say(&format!("error: {why}"));
            Ok(None)
        }
        Err(Unsettled::Failed(error)) => Err(error),
    }
}

fn ask_all(args: &Args, asking: &mut Asking<'_>) -> Result<(), Unsettled> {
    let said = Option::as_deref;
    let name = asking.settle(
        "Name of the shop",
        ("--shop-name", said(&args.shop_name)),
        "Maison Exemple",
        |draft, name| draft.set("[[shop]]", "name", name),
    )?;
    let key = key_of(&name);
    asking.settle(
        "Its key in commands and files",
        ("--shop-key", said(&args.shop_key)),
        &key,
        Draft::rename_shop,
    )?;
    let url = format!("https://{key}.example");
    let url =
        asking.settle("Its web address", ("--shop-url", said(&args.shop_url)), &url, |draft, url| {
            draft.set("[[shop]]", "url", url)
        })?;
    let from = format!("{name} <avis@{}>", host_of(&url));
    asking.settle("Who mails come from", ("--from", said(&args.from)), &from, Draft::set_sender)?;
    let locale = "Language of customers whose orders name none (en, fr)";
    asking.settle(locale, ("--locale", said(&args.locale)), "fr", |draft, locale| {
        draft.set("[[shop]]", "locale", locale)
    })?;
    let zone = "Time zone of the shop and its schedules";
    asking.settle(zone, ("--timezone", said(&args.timezone)), "Europe/Paris", Draft::move_to_zone)?;
    let pages = "Where customers reach the pages, https:// in real use";
    asking.settle(pages, ("--base-url", said(&args.base_url)), "http://127.0.0.1:8080", |draft, url| {
        draft.set("[app]", "base_url", url)
    })?;
    let listen = "Where the pages listen; a web server with TLS stands in front";
    asking.settle(listen, ("--listen", said(&args.listen)), "127.0.0.1:8080", |draft, address| {
        draft.set("[app]", "listen", address)
    })?;
    if let Some(file) = &args.database_url_file {
        let option = ("--database-url-file", Some(file.as_str()));
        asking.settle("", option, "", |draft, file| draft.set("[database]", "url_file", file))?;
    } else if args.database_url.is_some() || environment("DATABASE_URL").is_none() {
        let database = "URL of your Postgres, postgres://user:password@host/database; nothing: a private one";
        asking.settle(database, ("--database-url", said(&args.database_url)), "", |draft, url| {
            if url.is_empty() { Ok(()) } else { draft.set("[database]", "url", url) }
        })?;
    }
    let relay = "Mail relay, host:port; nothing: mails are written as files";
    let relay = asking.settle(relay, ("--relay", said(&args.relay)), "", Draft::set_relay)?;
    if !relay.is_empty() {
        let tls = match relay.rsplit_once(':') {
            Some((_, "465")) => "implicit",
            Some((_, "587")) => "required",
            _ => "opportunistic",
        };
        let question = "Its TLS (none, opportunistic, required, implicit)";
        asking.settle(question, ("--relay-tls", said(&args.relay_tls)), tls, |draft, tls| {
            draft.set("[mail]", "tls", tls)
        })?;
    }
    // Where distributions keep what a program in /etc works with (FHS 3.0, 5.8).
    let data = if asking.path.starts_with("/etc") { "/var/lib/afterword" } else { "./data" };
    let question = "Where the secret, mails as files and the private Postgres are kept";
    asking.settle(question, ("--data-dir", said(&args.data_dir)), data, Draft::move_data)?;
    Ok(())
}

/// Why there is no answer.
enum Unsettled {
    /// An option is wrong, in words.
    Option(String),
    Failed(anyhow::Error),
}

/// What is asked of whom.
struct Asking<'a> {
    path: &'a Path,
    attended: bool,
    draft: Draft,
}

impl Asking<'_> {
    /// Puts an answer into the draft: the option's, or the person's, or what goes without saying. The file's own reading decides whether
    /// it will do; a person is asked again.
    fn settle(
        &mut self,
        question: &str,
        (option, said): (&str, Option<&str>),
        otherwise: &str,
        put: impl Fn(&mut Draft, &str) -> anyhow::Result<()>,
    ) -> Result<String, Unsettled> {
        loop {
            let answer = match said {
                Some(said) => said.to_owned(),
                None if self.attended => ask(question, otherwise).map_err(Unsettled::Failed)?,
                None => otherwise.to_owned(),
            };
            let mut draft = self.draft.clone();
            let wrong = match put(&mut draft, &answer) {
                Ok(()) => Config::parse(self.path, draft.text()).err().map(|error| in_words(&error)),
                Err(error) => Some(error.to_string()),
            };
            match wrong {
                None => {
                    self.draft = draft;
                    return Ok(answer);
                }
                Some(why) if said.is_none() && self.attended => output::say(&format!("  {why}")),
                Some(why) => return Err(Unsettled::Option(format!("{option}: {why}"))),
            }
        }
    }
}

/// Asks once; `otherwise` is what Enter means.
fn ask(question: &str, otherwise: &str) -> anyhow::Result<String> {
    let mut stderr = io::stderr();
    let shown = if otherwise.is_empty() { String::new() } else { format!(" [{otherwise}]") };
    write!(stderr, "{question}{shown}: ")?;
    stderr.flush()?;
    let mut answer = String::new();
    anyhow::ensure!(
        io::stdin().lock().read_line(&mut answer)? > 0,
        "the questions were not answered; nothing was written"
    );
    let answer = answer.trim();
    Ok(if answer.is_empty() { otherwise } else { answer }.to_owned())
}

/// What is wrong, without the place in a file that is not there yet.
fn in_words(error: &ConfigError) -> String {
    let problem = |problem: &crate::config::problem::Problem| match &problem.help {
        Some(help) => format!("{} ({help})", problem.message),
        None => problem.message.clone(),
    };
    error.problems.iter().map(problem).collect::<Vec<_>>().join("; ")
}

/// As root, a file belongs to whom its folder belongs to: the service's user has to read what was prepared for it.
fn give_to_the_folders_owner(path: &Path) -> anyhow::Result<()> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::metadata(folder)
        .and_then(|folder| chown(path, Some(folder.uid()), Some(folder.gid())))
        .with_context(|| format!("cannot give {} to the owner of its folder", path.display()))
}

/// `Maison Exemple` becomes `maison`: the first word, of the letters that a key may have.
fn key_of(name: &str) -> String {
    let word = name.split_whitespace().next().unwrap_or_default().to_lowercase();
    let key: String = word.chars().filter(char::is_ascii_alphanumeric).collect();
    if key.starts_with(|c: char| c.is_ascii_alphabetic()) { key } else { "shop".to_owned() }
}

/// `shop.example` of `https://www.shop.example/fr`.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', ':', '?']).next().unwrap_or_default();
    host.strip_prefix("www.").unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_and_a_host_are_found_in_what_was_said() {
        for (name, key) in
            [("Maison Exemple", "maison"), ("L'Étoile", "ltoile"), ("2 Rives", "shop"), ("", "shop")]
        {
            assert_eq!(key_of(name), key, "{name}");
        }
        for url in ["https://shop.example", "https://www.shop.example/fr?x", "http://shop.example:8443/"] {
            assert_eq!(host_of(url), "shop.example", "{url}");
        }
    }

    #[test]
    fn answers_stand_in_a_valid_file() {
        let args = Args {
            shop_name: Some("Études \"du\" Midi".to_owned()),
            timezone: Some("America/Guadeloupe".to_owned()),
            database_url: Some("postgres://afterword@db.example/afterword".to_owned()),
            relay: Some("mail.example:587".to_owned()),
            data_dir: Some("/srv/after word".to_owned()),
            ..Args::default()
        };
        let path = Path::new("jobs.toml");
        let mut asking = Asking { path, attended: false, draft: Draft::of(SHIPPED) };
        let draft = questions(&args, &mut asking).unwrap().unwrap();
        let config = Config::parse(path, draft.text()).unwrap_or_else(|error| panic!("{:#?}", error.lines()));
        let shop = &config.shops[0];
        assert_eq!((shop.name.as_str(), shop.key.as_str()), ("Études \"du\" Midi", "tudes"));
        assert_eq!(shop.timezone, chrono_tz::America::Guadeloupe);
        assert_eq!(shop.from.email.to_string(), "avis@tudes.example");
        assert_eq!(config.app.data_dir, Path::new("/srv/after word"));
        assert!(config.folders().iter().all(|folder| folder.starts_with("/srv/after word")));
        assert_eq!(draft.text().lines().count(), SHIPPED.lines().count(), "every comment is still there");
        for line in
            ["transport = \"smtp\"  ", "host = \"mail.example\"  ", "port = 587", "tls = \"required\"  "]
        {
            assert!(draft.text().lines().any(|written| written.starts_with(line)), "{line}");
        }
        assert!(!draft.text().contains("Europe/Paris") && !draft.text().contains("\"maison\""));

        for (option, args) in [
            ("--timezone", Args { timezone: Some("Mars/Olympus".to_owned()), ..Args::default() }),
            ("--relay", Args { relay: Some("mail:many".to_owned()), ..Args::default() }),
        ] {
            let mut asking = Asking { path, attended: false, draft: Draft::of(SHIPPED) };
            match ask_all(&args, &mut asking) {
                Err(Unsettled::Option(why)) => assert!(why.starts_with(option), "{why}"),
                _ => panic!("{option} was taken"),
            }
        }
    }

    #[test]
    fn without_answers_it_is_the_shipped_file() {
        let mut asking = Asking { path: Path::new("jobs.toml"), attended: false, draft: Draft::of(SHIPPED) };
        assert_eq!(questions(&Args::default(), &mut asking).unwrap().unwrap().text(), SHIPPED);
    }
}
