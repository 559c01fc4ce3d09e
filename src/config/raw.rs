//! What was typed in jobs.toml, key by key, before anybody asked whether it makes sense. Every struct refuses keys it does not know.
//! [`Text`] is a string in which `${NAME}` was replaced from the environment.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

use super::{CatchUp, DisplayName, LogFormat, Moderation, Overlap, Right, Tls};
use crate::orders::OrderStatus;
use crate::survey::Demand;
use crate::types::Locale;

/// A string, `${NAME}` replaced.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let typed = String::deserialize(deserializer)?;
        expand(&typed).map(Self).map_err(de::Error::custom)
    }
}

/// Replaces `${NAME}` from the environment.
fn expand(typed: &str) -> Result<String, String> {
    let mut expanded = String::with_capacity(typed.len());
    let mut rest = typed;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, behind) = after.split_once('}').ok_or_else(|| "`${` is not closed by a `}`".to_owned())?;
        expanded.push_str(before);
        expanded.push_str(
            &super::environment(name).ok_or_else(|| format!("the environment variable {name} is not set"))?,
        );
        rest = behind;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// A text and where it stands.
pub type Word = Spanned<Text>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub app: App,
    #[serde(default)]
    pub database: Database,
    pub mail: Option<Mail>,
    #[serde(default)]
    pub shop: Vec<Shop>,
    #[serde(default)]
    pub order_format: BTreeMap<String, Spanned<OrderFormat>>,
    #[serde(default)]
    pub response_format: BTreeMap<String, Spanned<ResponseFormat>>,
    #[serde(default)]
    pub rating_format: BTreeMap<String, Spanned<RatingFormat>>,
    #[serde(default)]
    pub survey: BTreeMap<String, Spanned<Survey>>,
    #[serde(default)]
    pub testimonials: Testimonials,
    #[serde(default)]
    pub alert: Vec<Spanned<Alert>>,
    #[serde(default)]
    pub notify: Notify,
    pub retention: Option<Retention>,
    #[serde(default)]
    pub jobs: BTreeMap<String, Spanned<Job>>,
    #[serde(default)]
    pub access: Vec<Access>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    pub base_url: Word,
    pub listen: Option<Word>,
    pub private_listen: Option<Word>,
    pub trusted_proxies: Option<Vec<Word>>,
    pub data_dir: Option<Text>,
    pub secret_file: Option<Text>,
    pub templates_dir: Option<Word>,
    pub log_format: Option<LogFormat>,
    pub shutdown_grace: Option<Word>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    pub url: Option<Word>,
    pub url_file: Option<Word>,
    pub pooled_url: Option<Word>,
    pub pooled_url_file: Option<Word>,
    pub read_url: Option<Word>,
    pub read_url_file: Option<Word>,
    pub max_connections: Option<Spanned<u32>>,
    pub auto_migrate: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransportName {
    File,
    Smtp,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    pub transport: Spanned<TransportName>,
    pub host: Option<Word>,
    pub port: Option<u16>,
    pub tls: Option<Tls>,
    pub username: Option<Word>,
    pub password: Option<Word>,
    pub password_file: Option<Word>,
    pub max_connections: Option<Spanned<usize>>,
    pub max_per_connection: Option<Spanned<u32>>,
    pub rate_per_minute: Option<u32>,
    pub max_bounce_rate: Option<Spanned<f64>>,
    pub max_complaint_rate: Option<Spanned<f64>>,
    pub max_refusal_rate: Option<Spanned<f64>>,
    pub return_path: Option<Word>,
    pub dkim: Option<Spanned<Dkim>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dkim {
    pub domain: Word,
    pub selector: Word,
    pub key: Option<Word>,
    pub key_file: Option<Word>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shop {
    pub key: Word,
    pub name: Text,
    pub locale: Spanned<Locale>,
    pub timezone: Word,
    pub from: Word,
    pub reply_to: Option<Word>,
    pub url: Word,
    pub color: Option<Word>,
    pub logo: Option<Word>,
    pub address: Option<Text>,
    pub privacy_url: Option<Word>,
    #[serde(default)]
    pub review_places: Vec<ReviewPlace>,
    pub unhappy_next: Option<Spanned<BTreeMap<Locale, String>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewPlace {
    pub name: Word,
    pub url: Word,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderFormat {
    pub delimiter: Option<Word>,
    pub encoding: Option<Word>,
    pub timezone: Option<Word>,
    pub date_format: Option<Word>,
    pub columns: Spanned<BTreeMap<String, Word>>,
    #[serde(default)]
    pub attributes: BTreeMap<String, Word>,
    #[serde(default)]
    pub status: BTreeMap<String, OrderStatus>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResponseFormat {
    pub delimiter: Option<Word>,
    pub encoding: Option<Word>,
    pub timezone: Option<Word>,
    pub date_format: Option<Word>,
    pub survey: Word,
    pub columns: Spanned<BTreeMap<String, Word>>,
    pub answers: BTreeMap<String, Word>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RatingFormat {
    pub delimiter: Option<Word>,
    pub encoding: Option<Word>,
    pub timezone: Option<Word>,
    pub date_format: Option<Word>,
    pub source: Option<Word>,
    pub scale: Option<Spanned<f64>>,
    pub columns: Spanned<BTreeMap<String, Word>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Survey {
    pub shops: Option<Vec<Word>>,
    pub mailed: Option<bool>,
    pub trigger: Option<Spanned<Trigger>>,
    pub delay: Option<Word>,
    #[serde(default)]
    pub delay_by_country: BTreeMap<Spanned<String>, Word>,
    pub max_lateness: Option<Word>,
    pub throttle: Option<Word>,
    pub sample: Option<Spanned<f64>>,
    pub max_per_day: Option<Spanned<u32>>,
    pub max_per_run: Option<Spanned<u32>>,
    #[serde(default)]
    pub reminders: Vec<Word>,
    #[serde(default)]
    pub consent: BTreeMap<Spanned<String>, Demand>,
    pub answer_within: Option<Word>,
    pub edit_within: Option<Word>,
    pub send_window: Option<SendWindow>,
    pub recommendation: Option<Recommendation>,
    pub unhappy: Option<Spanned<BTreeMap<String, Vec<String>>>>,
    pub intro: Option<Spanned<BTreeMap<Locale, String>>>,
    #[serde(default)]
    pub question: Vec<Question>,
}

/// `"fulfilled"`, `"ordered"`, or `{ event = "case_closed" }`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Trigger {
    Word(String),
    Event(Event),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    pub event: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendWindow {
    pub days: Option<Word>,
    pub from: Word,
    pub to: Word,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recommendation {
    pub question: Word,
    pub yes: Spanned<Yes>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Yes {
    Choices(Vec<String>),
    Range(String),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuestionType {
    Recommend,
    Nps,
    Rating,
    Choice,
    Text,
    Consent,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    pub key: Word,
    #[serde(rename = "type")]
    pub kind: Spanned<QuestionType>,
    pub required: Option<bool>,
    pub in_mail: Option<Spanned<bool>>,
    pub when: Option<Spanned<BTreeMap<String, Vec<String>>>>,
    pub choices: Option<Spanned<Vec<Choice>>>,
    pub max_length: Option<Spanned<usize>>,
    pub version: Option<Word>,
    pub text: Spanned<BTreeMap<Locale, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Choice {
    Key(String),
    Worded(WordedChoice),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WordedChoice {
    pub key: String,
    pub text: BTreeMap<Locale, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Testimonials {
    pub display_name: Option<DisplayName>,
    pub moderation: Option<Moderation>,
    #[serde(default)]
    pub staff: Vec<Word>,
    pub publish_within: Option<Word>,
    #[serde(default)]
    pub product_urls: BTreeMap<String, Word>,
    pub retain: Option<Word>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    pub name: Option<Word>,
    pub metric: Word,
    pub source: Option<Word>,
    pub below: Option<Spanned<f64>>,
    pub above: Option<Spanned<f64>>,
    pub trend: Option<Spanned<TrendName>>,
    pub change: Option<Spanned<ChangeName>>,
    pub window: Option<Word>,
    pub min_answers: Option<Spanned<u32>>,
    pub shops: Option<Vec<Word>>,
    pub by: Option<Word>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrendName {
    Falling,
    Rising,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeName {
    Shift,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    #[serde(default)]
    pub to: Vec<Word>,
    pub webhook: Option<Word>,
    pub webhook_secret: Option<Word>,
    pub webhook_secret_file: Option<Word>,
    pub remind_after: Option<Word>,
    pub heartbeat_url: Option<Word>,
    pub heartbeat_url_file: Option<Word>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    pub responses: Word,
    pub customers: Option<Word>,
    pub traces: Option<Word>,
    pub files: Option<Word>,
    pub runs: Option<Word>,
    pub suppressed_addresses: Option<Word>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    pub kind: Word,
    pub schedule: Option<Word>,
    pub timezone: Option<Word>,
    pub enabled: Option<bool>,
    pub catch_up: Option<CatchUp>,
    pub catch_up_window: Option<Word>,
    pub overlap: Option<Overlap>,
    pub jitter: Option<Word>,
    pub timeout: Option<Word>,
    pub params: Option<Spanned<toml::Table>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    pub name: Word,
    pub token: Option<Word>,
    pub token_file: Option<Word>,
    pub allow: Vec<Right>,
    pub shops: Option<Vec<Word>>,
}
