//! What is asked: a survey of jobs.toml, its questionnaire, and the versions of it that were asked.
//!
//! The questionnaire is stored as it was when it was asked (`survey_version`), so that an answer can always be read with the
//! questions its author saw. Changing the survey in jobs.toml starts a new version.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use chrono::{DateTime, NaiveTime, TimeDelta, Utc, Weekday};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;

use crate::types::{Locale, ShopId, SurveyVersionId};

/// One `[survey.<key>]`, validated.
#[derive(Debug, Clone)]
pub struct Survey {
    /// Its name in jobs.toml and in the database.
    pub key: String,
    /// The shops it is for; `None`: every shop.
    pub shops: Option<Vec<String>>,
    /// Whether we mail it; `false`: its answers only come in by file.
    pub mailed: bool,
    /// What starts the delay.
    pub trigger: Trigger,
    /// From the trigger to the first mail.
    pub delay: TimeDelta,
    /// The same for orders of these countries (ISO 3166-1 alpha-2, upper case).
    pub delay_by_country: BTreeMap<String, TimeDelta>,
    /// Later than this after it was due, an order is not asked any more.
    pub max_lateness: TimeDelta,
    /// One first mail per customer in this time.
    pub throttle: TimeDelta,
    /// Share of the due orders that is asked, 0 to 1, chosen by a keyed hash.
    pub sample: f64,
    /// First mails in a day of the shop's zone at most; who is beyond is not asked.
    pub max_per_day: Option<u32>,
    /// Mails in one run at most; those beyond wait for the next.
    pub max_per_run: Option<u32>,
    /// The waves after the first mail: from the sending of one to the next, while there is no answer.
    pub reminders: Vec<TimeDelta>,
    /// What a customer must have agreed to before being asked.
    pub consent: ConsentRule,
    /// How long after the mail the link takes an answer.
    pub answer_within: TimeDelta,
    /// How long after the first answer it may be changed.
    pub edit_within: TimeDelta,
    /// When mails may leave, in the shop's zone; `None`: always.
    pub send_window: Option<SendWindow>,
    /// Which answer counts as a recommendation; `None`: the survey has no such rate.
    pub recommendation: Option<Recommendation>,
    /// Whose answer calls for the shop's attention; `None`: the page goes by the questions.
    pub unhappy: Option<When>,
    /// What is asked.
    pub questionnaire: Questionnaire,
}

impl Survey {
    /// From the trigger to the first mail, for an order of this country.
    pub fn delay_for(&self, country: Option<&str>) -> TimeDelta {
        country.and_then(|country| self.delay_by_country.get(country)).copied().unwrap_or(self.delay)
    }

    /// Whether it is for this shop.
    pub fn is_for(&self, shop: &str) -> bool {
        self.shops.as_ref().is_none_or(|shops| shops.iter().any(|s| s == shop))
    }

    /// By which answers to this questionnaire a customer is known to be unhappy: one that jobs.toml names, else one against the rule of the
    /// recommendation, else a no or a low score on the first question that has such answers. Who gives seven or eight of ten does not
    /// recommend, and has no reason to be consoled.
    pub fn signs<'a>(&'a self, asked: &'a Questionnaire) -> Vec<Sign<'a>> {
        let sign = |key: &'a str, is_unhappy: &dyn Fn(&QuestionKind, &str) -> bool| {
            let kind = &asked.question(key)?.kind;
            let unhappy = kind.options()?.into_iter().filter(|answer| is_unhappy(kind, answer)).collect();
            Some(Sign { question: key, unhappy })
        };
        if let Some(When { question, answers }) = &self.unhappy {
            return sign(question, &|_, answer| answers.iter().any(|a| a == answer)).into_iter().collect();
        }
        if let Some(Recommendation { question, yes }) = &self.recommendation {
            let against = |kind: &QuestionKind, answer: &str| match yes {
                Yes::Scores { low, .. } => answer.parse().is_ok_and(|score: i16| {
                    score < *low && (!matches!(kind, QuestionKind::Nps) || score <= HIGHEST_DETRACTOR)
                }),
                Yes::Choices(yes) => kind.scores().is_none() && !yes.iter().any(|choice| choice == answer),
            };
            return sign(question, &against).into_iter().collect();
        }
        let low = |kind: &QuestionKind, answer: &str| match kind {
            QuestionKind::Recommend => answer == "no",
            QuestionKind::Nps => answer.parse().is_ok_and(|score: i16| score <= HIGHEST_DETRACTOR),
            QuestionKind::Rating => answer.parse().is_ok_and(|score: i16| score <= HIGHEST_UNHAPPY_RATING),
            QuestionKind::Choice { .. } | QuestionKind::Text { .. } | QuestionKind::Consent { .. } => false,
        };
        let says = |question: &&Question| {
            matches!(question.kind, QuestionKind::Recommend | QuestionKind::Nps | QuestionKind::Rating)
        };
        asked.questions.iter().filter(says).filter_map(|question| sign(&question.key, &low)).collect()
    }
}

/// On the scale of the net promoter score.
const HIGHEST_DETRACTOR: i16 = 6;
/// Of one to five, where jobs.toml does not say.
const HIGHEST_UNHAPPY_RATING: i16 = 2;

/// A question by which the unhappy are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sign<'a> {
    /// Its key.
    pub question: &'a str,
    /// The answers of the unhappy, as they stand in forms.
    pub unhappy: Vec<String>,
}

/// Whether somebody who answered so is unhappy: the first of the signs that was answered says it. `answer` gives the answer to a question
/// as it stands in forms.
pub fn is_unhappy(signs: &[Sign<'_>], answer: impl Fn(&str) -> Option<String>) -> bool {
    signs
        .iter()
        .find_map(|sign| answer(sign.question).map(|answer| sign.unhappy.contains(&answer)))
        .unwrap_or(false)
}

/// The moment of an order from which the delay runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// `fulfilled_at`; an order without it is never due.
    Fulfilled,
    /// `ordered_at`, for shops that do not know delivery dates.
    Ordered,
    /// The first event of this name about the order; an order without one is never due.
    Event(String),
}

impl Trigger {
    /// Its kind, as the decision knows it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Fulfilled => "fulfilled",
            Self::Ordered => "ordered",
            Self::Event(_) => "event",
        }
    }

    /// The event that is waited for.
    pub fn event(&self) -> Option<&str> {
        match self {
            Self::Event(event) => Some(event),
            Self::Fulfilled | Self::Ordered => None,
        }
    }

    /// Whether an order that is not delivered, or not any more, is not to be asked about.
    pub fn needs_delivery(&self) -> bool {
        *self == Self::Fulfilled
    }
}

/// What customers must have agreed to, country by country. Whoever said no is never asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentRule {
    /// Where no country is named, or the order's is none of them.
    pub default: Demand,
    /// By ISO 3166-1 alpha-2, upper case.
    pub by_country: BTreeMap<String, Demand>,
}

/// What the law of a country demands before a customer is asked for an opinion by mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Demand {
    /// Nothing: an existing customer may be asked until they object (Directive 2002/58/EC, article 13(2)).
    SoftOptIn,
    /// A yes, kept with the order.
    Consent,
}

/// Weekdays and hours in which mails may leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendWindow {
    /// The days, Monday first.
    pub days: Vec<Weekday>,
    /// First moment of the day.
    pub from: NaiveTime,
    /// End of the day's window, exclusive.
    pub to: NaiveTime,
}

/// Which answers of which question count as "would recommend".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recommendation {
    /// The question's key.
    pub question: String,
    /// The answers that say yes.
    pub yes: Yes,
}

/// The answers that count as yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Yes {
    /// These choices.
    Choices(Vec<String>),
    /// Scores from `low` to `high`, both included.
    Scores { low: i16, high: i16 },
}

/// The questions, in the order they are asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Questionnaire {
    /// What mail and page say before they ask; may use `{{shop.name}}`. `None`: that it is about an order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intro: Option<Texts>,
    /// At least one; keys are unique.
    pub questions: Vec<Question>,
}

impl Questionnaire {
    /// The question with this key.
    pub fn question(&self, key: &str) -> Option<&Question> {
        self.questions.iter().find(|q| q.key == key)
    }

    /// The question whose answers are links in the mail.
    pub fn in_mail(&self) -> Option<&Question> {
        self.questions.iter().find(|q| q.in_mail)
    }
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Its name in forms, files and the database.
    pub key: String,
    /// What can be answered.
    #[serde(flatten)]
    pub kind: QuestionKind,
    /// Whether the form can be sent without it.
    pub required: bool,
    /// Whether its answers are links in the mail.
    pub in_mail: bool,
    /// Asked only when an earlier question got one of these answers.
    pub when: Option<When>,
    /// The wording per language; may use `{{shop.name}}`.
    pub text: Texts,
}

/// The scores of an NPS question.
pub const NPS: RangeInclusive<i16> = 0..=10;
/// The scores of a rating.
pub const RATING: RangeInclusive<i16> = 1..=5;

/// The kinds of questions, with what they allow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum QuestionKind {
    /// yes or no; stored as a choice.
    Recommend,
    /// 0 to 10; stored as a score.
    Nps,
    /// 1 to 5; stored as a score.
    Rating,
    /// One of these; stored as a choice.
    Choice { choices: Vec<Choice> },
    /// Free text of at most so many characters; stored as written.
    Text { max_length: usize },
    /// Agreement to publication, and the name to publish under. `version` names the wording.
    Consent { version: String },
}

impl QuestionKind {
    /// The scores that can be given; `None`: it is not answered with a number.
    pub fn scores(&self) -> Option<RangeInclusive<i16>> {
        match self {
            Self::Nps => Some(NPS),
            Self::Rating => Some(RATING),
            Self::Recommend | Self::Choice { .. } | Self::Text { .. } | Self::Consent { .. } => None,
        }
    }

    /// The answers that can be chosen, in their order, as they stand in forms, files and conditions; `None`: it is typed or ticked.
    pub fn options(&self) -> Option<Vec<String>> {
        match self {
            Self::Recommend => Some(vec!["yes".to_owned(), "no".to_owned()]),
            Self::Nps | Self::Rating => self.scores().map(|scores| scores.map(|n| n.to_string()).collect()),
            Self::Choice { choices } => Some(choices.iter().map(|choice| choice.key.clone()).collect()),
            Self::Text { .. } | Self::Consent { .. } => None,
        }
    }
}

/// One of the answers of a choice question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// Its name in forms, files and the database.
    pub key: String,
    /// Its wording; `None`: the built-in words for this key, or the key itself.
    pub text: Option<Texts>,
}

/// A condition on an earlier answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct When {
    /// The earlier question.
    pub question: String,
    /// Any of these answers.
    pub answers: Vec<String>,
}

/// A wording in several languages; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Texts(pub BTreeMap<Locale, String>);

impl Texts {
    /// The wording for a reader: the exact locale, else the same language, else `fallback`'s, else the first there is.
    pub fn get(&self, locale: &Locale, fallback: &Locale) -> &str {
        let exact = |wanted: &Locale| self.0.get(wanted);
        let language = |wanted: &Locale| {
            self.0.iter().find(|(l, _)| l.language() == wanted.language()).map(|(_, text)| text)
        };
        exact(locale)
            .or_else(|| language(locale))
            .or_else(|| exact(fallback))
            .or_else(|| language(fallback))
            .or_else(|| self.0.values().next())
            .map_or("", String::as_str)
    }
}

/// A consent whose wording changed under the name it had: nobody could say any more what was agreed to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the wording of the consent {question:?} in the survey {survey} changed ({locales}), and its version {version:?} did not: change \
     `version` with the text, so that it stays known who agreed to what"
)]
pub struct Reworded {
    survey: String,
    question: String,
    version: String,
    locales: String,
}

/// Looks whether customers of the shop were asked for the same version of a consent in other words. Wordings in further languages are no
/// change.
///
/// # Errors
/// When the database does not answer, or a stored questionnaire cannot be read.
pub async fn reworded(
    conn: &mut PgConnection,
    shop: ShopId,
    survey: &Survey,
) -> anyhow::Result<Option<Reworded>> {
    let consents = |questionnaire: &Questionnaire| -> Vec<(String, Question)> {
        let questions = questionnaire.questions.iter().cloned();
        questions
            .filter_map(|question| match &question.kind {
                QuestionKind::Consent { version } => Some((version.clone(), question)),
                _ => None,
            })
            .collect()
    };
    let now = consents(&survey.questionnaire);
    if now.is_empty() {
        return Ok(None);
    }
    let stored = sqlx::query_scalar!(
        "select questionnaire from survey_version where shop_id = $1 and survey = $2 order by survey_version_id",
        shop.0,
        survey.key,
    )
    .fetch_all(conn)
    .await?;
    for stored in stored {
        let asked: Questionnaire = serde_json::from_value(stored)
            .with_context(|| format!("reading a questionnaire that the survey {} asked", survey.key))?;
        for (version, then) in consents(&asked) {
            let Some((_, question)) = now.iter().find(|(other, _)| *other == version) else { continue };
            let changed =
                then.text.0.iter().filter(|(locale, text)| question.text.0.get(*locale) != Some(*text));
            let locales: Vec<_> = changed.map(|(locale, _)| locale.to_string()).collect();
            if !locales.is_empty() {
                let (survey, question) = (survey.key.clone(), question.key.clone());
                return Ok(Some(Reworded { survey, question, version, locales: locales.join(", ") }));
            }
        }
    }
    Ok(None)
}

/// The version under which this questionnaire is asked in this shop: the stored one if it was asked before, else a new one.
///
/// # Errors
/// When the database does not answer, or a consent is [`Reworded`].
pub async fn version(
    conn: &mut PgConnection,
    shop: ShopId,
    survey: &Survey,
    now: DateTime<Utc>,
) -> anyhow::Result<SurveyVersionId> {
    let questionnaire =
        serde_json::to_value(&survey.questionnaire).context("writing the questionnaire as JSON")?;
    let digest = Sha256::digest(questionnaire.to_string().as_bytes()).to_vec();
    // The usual case writes nothing: a lock on the row would make a run that sends and an import that takes minutes wait for each other.
    let asked_before = sqlx::query_scalar!(
        r#"select survey_version_id as "id: SurveyVersionId" from survey_version
           where shop_id = $1 and survey = $2 and digest = $3"#,
        shop.0,
        survey.key,
        digest,
    )
    .fetch_optional(&mut *conn)
    .await?;
    if let Some(id) = asked_before {
        return Ok(id);
    }
    if let Some(reworded) = reworded(&mut *conn, shop, survey).await? {
        return Err(reworded.into());
    }
    // The update changes nothing; it makes `returning` answer when another one has made the row meanwhile.
    let id = sqlx::query_scalar!(
        r#"insert into survey_version (shop_id, survey, digest, questionnaire, created_at)
           values ($1, $2, $3, $4, $5)
           on conflict on constraint survey_version_digest_key do update set survey = excluded.survey
           returning survey_version_id as "id: SurveyVersionId""#,
        shop.0,
        survey.key,
        digest,
        questionnaire,
        now,
    )
    .fetch_one(conn)
    .await?;
    Ok(id)
}

/// Which surveys were ever asked in these shops, or had answers brought by a file.
///
/// # Errors
/// When the database does not answer.
pub async fn ever_asked(
    conn: &mut PgConnection,
    shops: impl IntoIterator<Item = ShopId>,
) -> sqlx::Result<BTreeSet<(ShopId, String)>> {
    let shops: Vec<i32> = shops.into_iter().map(|shop| shop.0).collect();
    let rows = sqlx::query!(
        r#"select distinct shop_id as "shop: ShopId", survey from survey_version where shop_id = any ($1)"#,
        &shops
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.shop, row.survey)).collect())
}

/// The questionnaires that were asked, read once each: a version never changes.
#[derive(Debug, Default)]
pub struct Versions(Mutex<HashMap<(ShopId, SurveyVersionId), Arc<Questionnaire>>>);

impl Versions {
    /// The questionnaire of a version, as it was asked.
    ///
    /// # Errors
    /// As [`asked`].
    pub async fn get(
        &self,
        conn: &mut PgConnection,
        shop: ShopId,
        version: SurveyVersionId,
    ) -> anyhow::Result<Arc<Questionnaire>> {
        let read = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = read().get(&(shop, version)) {
            return Ok(Arc::clone(known));
        }
        let questionnaire = Arc::new(asked(conn, shop, version).await?);
        read().insert((shop, version), Arc::clone(&questionnaire));
        Ok(questionnaire)
    }
}

/// The questionnaire of a version, as it was asked.
///
/// # Errors
/// When the database does not answer, or the stored questionnaire cannot be read.
pub async fn asked(
    conn: &mut PgConnection,
    shop: ShopId,
    version: SurveyVersionId,
) -> anyhow::Result<Questionnaire> {
    let stored = sqlx::query_scalar!(
        "select questionnaire from survey_version where shop_id = $1 and survey_version_id = $2",
        shop.0,
        version.0,
    )
    .fetch_one(conn)
    .await?;
    serde_json::from_value(stored)
        .with_context(|| format!("reading the questionnaire of survey version {version}"))
}
