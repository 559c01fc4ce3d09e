//! jobs.toml, read and found true. `raw.rs` holds what was typed, `validate.rs` judges it, `problem.rs` shows what is wrong and where;
//! this file holds what it means. Nobody else reads the file or the environment.

pub mod network;
pub mod problem;
mod raw;
pub mod secret;
mod text_format;
mod validate;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::TimeDelta;
use chrono_tz::Tz;
use sha2::{Digest as _, Sha256};

use self::network::Network;
use self::problem::{ConfigError, Problems};
pub use self::text_format::TextFormat;
use crate::mail::dkim::Signer;
use crate::mail::transport::Limits;
use crate::metrics::alerts::rule::{Rule, Subject};
use crate::responses::ratings::Decimal;
use crate::retention::PutAway;
use crate::survey::{Survey, Texts};
use crate::types::Locale;

/// Everything jobs.toml says, validated.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it was read from.
    pub path: PathBuf,
    /// `[app]`
    pub app: App,
    /// `[database]`
    pub database: Database,
    /// `[mail]`
    pub mail: Mail,
    /// `[[shop]]`, in the order of the file; at least one; keys are unique.
    pub shops: Vec<Shop>,
    /// `[order_format.<name>]`
    pub order_formats: BTreeMap<String, OrderMapping>,
    /// `[response_format.<name>]`
    pub response_formats: BTreeMap<String, ResponseMapping>,
    /// `[rating_format.<name>]`
    pub rating_formats: BTreeMap<String, RatingMapping>,
    /// `[survey.<key>]`
    pub surveys: Vec<Survey>,
    /// `[testimonials]`
    pub testimonials: Testimonials,
    /// `[[alert]]`; names are unique.
    pub alerts: Vec<Rule>,
    /// `[notify]`
    pub notify: Notify,
    /// `[retention]`; `None`: it does not say how long anything is kept.
    pub retention: Option<Retention>,
    /// `[jobs.<name>]`
    pub jobs: Vec<ScheduledJob>,
    /// `[[access]]`; names are unique.
    pub access: Vec<Access>,
    /// Whether the file itself holds a secret, and not only the name of a file or a variable that does.
    pub holds_secrets: bool,
}

/// `[app]`
#[derive(Debug, Clone)]
pub struct App {
    /// Where customers reach the pages; without a slash at the end.
    pub base_url: String,
    /// Where the pages listen.
    pub listen: SocketAddr,
    /// Where the shop's own people are served; `None`: nowhere.
    pub private_listen: Option<SocketAddr>,
    /// The proxies whose word is taken for who the visitor is.
    pub trusted_proxies: Vec<Network>,
    /// Embedded Postgres, outbox, exports.
    pub data_dir: PathBuf,
    /// The secret the tokens are made with.
    pub secret_file: PathBuf,
    /// Overrides built-in templates file by file.
    pub templates_dir: Option<PathBuf>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// How long running work may take to end after a stop was asked for.
    pub shutdown_grace: Duration,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[database]`
#[derive(Debug, Clone)]
pub struct Database {
    /// `url`, else the environment's `DATABASE_URL`, else `None`: the embedded one under `data_dir`.
    pub url: Option<String>,
    /// The same database by way of a pooler, for the pages; `None`: they connect as everybody else.
    pub pooled_url: Option<String>,
    /// A replica of the same database, from which reports are read; `None`: from the database itself.
    pub read_url: Option<String>,
    /// How many connections the pools of one process have together: a quarter of them (two or more) is the pages'. The few that hold
    /// leases, record what became of mails, and store answers come on top.
    pub max_connections: u32,
    /// Whether commands bring the schema up to date by themselves.
    pub auto_migrate: bool,
}

/// `[mail]`
#[derive(Debug, Clone)]
pub struct Mail {
    /// How mails leave.
    pub transport: Transport,
    /// How many connections send at the same time.
    pub max_connections: usize,
    /// After so many mails a connection is replaced; relays drop it after a count of their own.
    pub max_per_connection: u32,
    /// How many mails the relay gets in a minute at most, from all instances together; `None`: as many as it takes.
    pub rate_per_minute: Option<NonZeroU32>,
    /// The envelope sender, where bounces go, before the token is put into it (`bounces@` becomes `bounces+<token>@`); `None`: the
    /// shop's `from`.
    pub return_path: Option<String>,
    /// Above which shares of the mails a job that sends stops by itself.
    pub brakes: Brakes,
    /// `[mail.dkim]`: who signs here; `None`: the relay does.
    pub signer: Option<Signer>,
}

/// The shares of mails, 0 to 1, above which a job that sends is paused until somebody has looked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Brakes {
    /// To addresses that do not take mail, of the last 1000 mails, and of those of the last 7 days.
    pub max_bounce_rate: f64,
    /// Called spam by their recipients, of the mails of the last 7 days.
    pub max_complaint_rate: f64,
    /// Refused by the relay for other reasons than the address, of the last 100 mails.
    pub max_refusal_rate: f64,
}

impl Default for Brakes {
    /// A bounce rate of 5 % and a complaint rate of 0.3 % are where large mail providers begin to block a sender.
    fn default() -> Self {
        Self { max_bounce_rate: 0.05, max_complaint_rate: 0.003, max_refusal_rate: 0.05 }
    }
}

/// How mails leave.
#[derive(Debug, Clone)]
pub enum Transport {
    /// An .eml file per mail under `data_dir/outbox`.
    File,
    /// To a relay.
    Smtp(Box<Smtp>),
}

/// The relay.
#[derive(Debug, Clone)]
pub struct Smtp {
    pub host: String,
    pub port: u16,
    pub tls: Tls,
    /// User name and password, when the relay wants them.
    pub credentials: Option<Credentials>,
    /// How long it may take; not in jobs.toml, where they would only be made worse.
    pub limits: Limits,
}

/// User name and password at the relay.
#[derive(Clone)]
pub struct Credentials {
    pub username: String,
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// When the conversation with the relay is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// Never.
    None,
    /// STARTTLS when the relay offers it.
    Opportunistic,
    /// STARTTLS, or nothing is sent.
    Required,
    /// From the first byte.
    Implicit,
}

/// `[[shop]]`
#[derive(Debug, Clone)]
pub struct Shop {
    /// Its name in commands, files and the database.
    pub key: String,
    /// Its name for people.
    pub name: String,
    /// Of the customers whose orders name none.
    pub locale: Locale,
    /// In which its days and hours are counted.
    pub timezone: Tz,
    /// Who asks.
    pub from: lettre::message::Mailbox,
    /// Who reads answers to the mail.
    pub reply_to: Option<lettre::message::Mailbox>,
    /// Its web site.
    pub url: String,
    /// The colour of buttons and links, as `#rrggbb`.
    pub color: String,
    /// The web address of its picture, for the mails.
    pub logo: Option<String>,
    /// Its postal address, on one line.
    pub address: Option<String>,
    /// Where it says what it does with people's data.
    pub privacy_url: Option<String>,
    /// Where customers can say it aloud, whatever they answered.
    pub review_places: Vec<ReviewPlace>,
    /// What an unhappy customer is told about what happens next; `None`: the built-in words.
    pub unhappy_next: Option<Texts>,
}

/// Where customers can say it aloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReviewPlace {
    pub name: String,
    pub url: String,
}

/// `[order_format.<name>]`: which of a file's columns is what.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderMapping {
    /// How the file is written.
    pub text: TextFormat,
    /// Our column = theirs. Always has `order_id`, `email` and `ordered_at`.
    pub columns: BTreeMap<String, String>,
    /// Attribute = their column.
    pub attributes: BTreeMap<String, String>,
    /// Their status = ours; `"*"` stands for all others. Empty: they write ours.
    pub status: BTreeMap<String, crate::orders::OrderStatus>,
}

/// `[response_format.<name>]`: which of a file's columns is what.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseMapping {
    /// How the file is written.
    pub text: TextFormat,
    /// The survey that was answered.
    pub survey: String,
    /// Our column (`order_id`, `email`, `answered_at`, `external_id`, `display_name`) = theirs.
    pub columns: BTreeMap<String, String>,
    /// Question key = their column.
    pub answers: BTreeMap<String, String>,
}

/// `[rating_format.<name>]`: which of a file's columns is what.
#[derive(Debug, Clone, PartialEq)]
pub struct RatingMapping {
    /// How the file is written.
    pub text: TextFormat,
    /// Our column (`source`, `rated_on`, `score`, `scale`, `ratings`, `shop`) = theirs. Always has `rated_on` and `score`.
    pub columns: BTreeMap<String, String>,
    /// Whose score all rows are that name no source.
    pub source: Option<String>,
    /// Of how much all scores are that do not say it themselves.
    pub scale: Option<Decimal>,
}

/// `[testimonials]`
#[derive(Debug, Clone, Default)]
pub struct Testimonials {
    /// Under which name an author appears.
    pub display_name: DisplayName,
    /// What a person has to look at.
    pub moderation: Moderation,
    /// Names of those who work in the shop, which a moderator should notice in a text.
    pub staff: Vec<String>,
    /// How long after it was received an answer is published or refused, as the shop announces near the reviews.
    pub publish_within: TimeDelta,
    /// Where a product is shown, by the shop's key, with `{product}` for its number.
    pub product_urls: BTreeMap<String, String>,
    /// How long what was published stays so, from when it first left the house; where it is not said, as long as `[retention]` keeps
    /// answers. `None`: without end.
    pub retain: Option<TimeDelta>,
}

/// What a person has to look at before it is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moderation {
    /// Everything.
    #[default]
    Manual,
    /// What a rule has flagged; the rest is approved by itself.
    Flagged,
}

/// Under which name an author appears. The database's `display_name_rule`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, sqlx::Type)]
#[sqlx(type_name = "display_name_rule", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum DisplayName {
    /// `Claire D.`
    #[default]
    FirstNameInitial,
    /// `Claire`
    FirstName,
    /// No name.
    Anonymous,
    /// The name the author typed, else `first_name_initial`.
    AsGiven,
}

/// `[notify]`: who is told of an alert.
#[derive(Debug, Clone)]
pub struct Notify {
    /// People of the shop.
    pub to: Vec<lettre::Address>,
    /// A program.
    pub webhook: Option<Webhook>,
    /// What is called after a good day.
    pub heartbeat: Option<Heartbeat>,
    /// After how long an alert that is still open is told again; `None`: never.
    pub remind_after: Option<TimeDelta>,
    /// How long a run waits for a relay or a receiver that does not take what it is given; not in jobs.toml.
    pub patience: Duration,
}

/// A program that is told of alerts.
#[derive(Clone)]
pub struct Webhook {
    /// https, or http on this machine.
    pub url: String,
    /// What it knows us by.
    pub secret: String,
    /// How long it may take to answer; not in jobs.toml.
    pub timeout: Duration,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may hold a key, too.
        f.write_str("Webhook(…)")
    }
}

/// A dead man's switch.
#[derive(Clone)]
pub struct Heartbeat {
    /// https, or http on this machine.
    pub url: String,
    /// How long it may take to answer; not in jobs.toml.
    pub timeout: Duration,
}

impl fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address is the key.
        f.write_str("Heartbeat(…)")
    }
}

/// `[retention]`: how long is kept what is personal, or what grows with the days. A job of the kind `purge` lets go of what is older.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The words of an answer, and the name given with it, from when it was given.
    pub responses: TimeDelta,
    /// Address and name of a customer, from the last order, mail or answer.
    pub customers: TimeDelta,
    /// What relays and mail systems said, notes about visits, rejected rows, answers whose order never came, words that programs sent,
    /// messages to the shop's own people.
    pub traces: TimeDelta,
    /// Files that jobs have read and put away; `None`: somebody else looks after them.
    pub files: Option<TimeDelta>,
    /// Rows of the ledger, from when the run ended; how many there were is kept.
    pub runs: TimeDelta,
    pub suppressed_addresses: SuppressedAddresses,
}

/// What becomes of the do-not-contact list, which holds hashes of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuppressedAddresses {
    /// The hash stays, or its owner would be written to again.
    KeepHash,
    /// From when it was put on the list.
    For(TimeDelta),
}

/// `[jobs.<name>]`
#[derive(Debug, Clone)]
pub struct ScheduledJob {
    pub name: String,
    /// Its kind, one of `JOB_KINDS`.
    pub kind: &'static str,
    /// What it does, with its parameters.
    pub job: crate::jobs::AnyJob,
    /// When it runs by itself; `None`: only by hand.
    pub schedule: Option<crate::scheduler::Schedule>,
    /// `false`: it does not run by itself for now.
    pub enabled: bool,
    /// What happens to occurrences that nobody was there to run.
    pub catch_up: CatchUp,
    /// Occurrences older than this are not caught up.
    pub catch_up_window: Duration,
    /// What happens to occurrences that come due while the one before runs.
    pub overlap: Overlap,
    /// Each occurrence begins later by up to this, so that not everything begins at once; shorter than the time between two.
    pub jitter: Duration,
    /// Longer than this, and the job is told to stop.
    pub timeout: Duration,
}

/// `[[access]]`: who may use the private pages.
#[derive(Debug, Clone)]
pub struct Access {
    pub name: String,
    pub token: AccessToken,
    /// What they may do.
    pub allow: Vec<Right>,
    /// With which shops; `None`: all.
    pub shops: Option<Vec<String>>,
}

impl Access {
    /// Whether they may do this with a shop.
    pub fn may(&self, right: Right, shop: &str) -> bool {
        self.allow.contains(&right) && self.shops.as_ref().is_none_or(|shops| shops.iter().any(|s| s == shop))
    }

    /// Whether they may do it with what concerns these shops, none of them left out. What concerns no shop is for who has all.
    pub fn may_with_all(&self, right: Right, shops: &[String]) -> bool {
        let is_of_shops = self.shops.is_none() || !shops.is_empty();
        self.allow.contains(&right) && is_of_shops && shops.iter().all(|shop| self.may(right, shop))
    }
}

/// What an access allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// To read the report, and its figures as a file.
    Report,
    /// To take the testimonials that may be published.
    Export,
    /// To see the jobs that work for these shops alone, and to run one now.
    Run,
    /// To read how the installation is, as figures for machines; they are of all shops.
    Metrics,
}

/// What an access is known by. It is kept as a digest, so that nothing can show it, and a comparison takes as long whatever is alike.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken([u8; 32]);

impl AccessToken {
    /// The shortest that is taken, in characters.
    pub const SHORTEST: usize = 32;

    pub fn new(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Whether this is the token. All of the digests is looked at, whatever differs.
    pub fn is(&self, token: &str) -> bool {
        let other = Self::new(token);
        self.0.iter().zip(other.0).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(…)")
    }
}

/// What happens to occurrences that nobody was there to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// The latest runs, the earlier ones are recorded as skipped.
    Once,
    /// All are recorded as skipped.
    Skip,
    /// Each runs, the earliest first.
    All,
}

/// What happens to occurrences that come due while the run before them is still going. A run is only taken for going when it is
/// the process's own or shows a sign of life after that; until then the occurrence waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// They are recorded as skipped.
    Skip,
    /// The latest runs when the other has ended, the earlier ones are recorded as skipped.
    QueueOne,
    /// Each runs when the one before it has ended.
    QueueAll,
}

/// The configuration file cannot be read.
#[derive(Debug)]
pub struct Unreadable {
    path: PathBuf,
    error: std::io::Error,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use std::io::ErrorKind;
        let path = self.path.display();
        match self.error.kind() {
            ErrorKind::NotFound => write!(
                f,
                "there is no {path}; `afterword init` writes a commented one, or name yours with --config"
            ),
            ErrorKind::InvalidData => write!(f, "{path} is not UTF-8 text; save it as UTF-8"),
            _ => write!(f, "cannot read {path}: {}", self.error),
        }
    }
}

impl std::error::Error for Unreadable {}

impl Config {
    /// Reads and validates a file.
    ///
    /// # Errors
    /// [`ConfigError`] (inside) with everything that is wrong and where, or [`Unreadable`].
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).map_err(|error| Unreadable { path: path.to_owned(), error })?;
        Ok(Self::parse(path, &text)?)
    }

    /// Validates a text that stands in, or could stand in, the file `path`.
    ///
    /// # Errors
    /// Everything that is wrong and where.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let file_name = path.display().to_string();
        let mut problems = Problems::new(&file_name, text);
        let config = match toml::from_str(text) {
            Ok(typed) => validate::config(path, typed, &mut problems),
            Err(error) => {
                problems.add_toml(&error);
                None
            }
        };
        problems.finish(config)
    }

    /// What is to be said when the file holds secrets and others can read it.
    pub fn exposed(&self) -> Option<String> {
        let is_for_others = || std::fs::metadata(&self.path).is_ok_and(|file| secret::is_for_others(&file));
        (self.holds_secrets && is_for_others()).then(|| {
            format!(
                "{} holds a password or a token, and can be read by others; {}",
                self.path.display(),
                secret::hidden(&self.path)
            )
        })
    }

    /// The folder mails are written to when none leaves.
    pub fn outbox_dir(&self) -> PathBuf {
        self.app.data_dir.join("outbox")
    }

    /// A path of the file, meant from where the file lies.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        let path = path.strip_prefix(".").unwrap_or(path);
        self.path.parent().map_or_else(|| path.to_owned(), |base| base.join(path))
    }

    /// Where files lie that may hold what customers have written or are called: the data directory, and what jobs read and write.
    pub fn folders(&self) -> Vec<PathBuf> {
        let of_jobs = self.jobs.iter().flat_map(|job| job.job.files()).map(|path| self.resolve(path));
        let mut folders: Vec<PathBuf> = std::iter::once(self.app.data_dir.clone()).chain(of_jobs).collect();
        for PutAway { folder, .. } in self.put_away() {
            if !folders.iter().any(|above| folder.starts_with(above)) {
                folders.push(folder);
            }
        }
        folders
    }

    /// Where jobs put files that they have read.
    pub fn put_away(&self) -> Vec<PutAway> {
        let of_jobs = self.jobs.iter().flat_map(|job| job.job.put_away());
        of_jobs.map(|put_away| PutAway { folder: self.resolve(&put_away.folder), ..put_away }).collect()
    }

    /// The shop with this key.
    pub fn shop(&self, key: &str) -> Option<&Shop> {
        self.shops.iter().find(|shop| shop.key == key)
    }

    /// What the figures of a shop are measured by: the limit of the first `[[alert]]` for all orders of each metric, by its key.
    pub fn targets(&self, shop: &str) -> Vec<(String, f64)> {
        let mut targets: Vec<(String, f64)> = Vec::new();
        for rule in self.alerts.iter().filter(|rule| rule.is_for(shop)) {
            if let (Subject::Metric(key), Some(target)) = (&rule.subject, rule.target())
                && targets.iter().all(|(other, _)| other != key)
            {
                targets.push(((*key).to_owned(), target));
            }
        }
        targets
    }

    /// The survey with this key.
    pub fn survey(&self, key: &str) -> Option<&Survey> {
        self.surveys.iter().find(|survey| survey.key == key)
    }
}

/// A variable of the environment, if it is set and not empty.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
