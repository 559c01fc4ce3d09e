//! What moderation and the gate look at: an answer with all that decides about its publication.
//!
//! Which of an answer's questions is the rating, the recommendation and the words is read from the questionnaire its author saw: the
//! first question of type `rating`, of type `recommend`, and the first question of type `text` that was answered.

use std::collections::HashMap;

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::stream::{BoxStream, StreamExt as _};
use serde::Serialize;
use sqlx::PgConnection;

use super::display_name::Author;
use super::{RejectReason, TestimonialState};
use crate::config::DisplayName;
use crate::orders::OrderStatus;
use crate::survey::{QuestionKind, Questionnaire};
use crate::types::{CustomerId, ResponseId, ShopId, SurveyVersionId};

/// A testimonial with its response, its order and its customer, as they are now.
pub struct Candidate {
    pub id: ResponseId,
    pub state: TestimonialState,
    pub reject_reason: Option<RejectReason>,
    /// Approved because no rule flagged it.
    pub by_rules: bool,
    pub decided_at: Option<DateTime<Utc>>,
    pub published_at: Option<DateTime<Utc>>,
    /// No later revision took its place.
    pub counted: bool,
    /// Submitted by a person, not by a mail scanner.
    pub human: bool,
    pub version: SurveyVersionId,
    pub locale: String,
    pub answered_at: DateTime<Utc>,
    pub received_at: DateTime<Utc>,
    pub consent_version: Option<String>,
    pub given_name: Option<String>,
    /// How the author was told to be named; `None`: no page told.
    pub agreed_names: Option<DisplayName>,
    /// The shop's name for the order.
    pub order: String,
    pub order_status: OrderStatus,
    pub ordered_at: DateTime<Utc>,
    pub fulfilled_at: Option<DateTime<Utc>>,
    pub country: Option<String>,
    pub items: Vec<String>,
    pub customer: CustomerId,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub erased: bool,
    /// The last thing that happened to it: somebody decided, a later answer came, the order changed, the customer was erased, or the time of
    /// its publication was over.
    pub changed_at: DateTime<Utc>,
    /// Whether the order is another customer's now than the one who was asked.
    pub of_another: bool,
    /// One entry per answered question, in these four alike.
    pub questions: Vec<String>,
    pub scores: Vec<Option<i16>>,
    pub choices: Vec<Option<String>>,
    pub bodies: Vec<Option<String>>,
    /// What the shop answers to these words, as it stands; these three alike. No text: it was taken down.
    pub reply: Option<String>,
    pub replied_at: Option<DateTime<Utc>>,
    pub reply_revision: Option<i32>,
}

/// What the shop answers to an author, in public.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reply {
    /// As it was written.
    pub text: String,
    pub replied_at: DateTime<Utc>,
    /// 1 for the first; it grows with every change.
    pub revision: i32,
}

/// Which candidates.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter {
    /// In this state.
    pub state: Option<TestimonialState>,
    /// Changed then or later, or never published.
    pub changed_since: Option<DateTime<Utc>>,
    /// Also those of another state that have left before.
    pub or_published: bool,
    /// This one alone.
    pub only: Option<ResponseId>,
    /// Only what still waits: for a decision, or, approved, for its first export.
    pub waiting: bool,
    /// How long what was published stays so, and what time it is. (Where jobs.toml has made it shorter since, a whole export says what is
    /// over by that, and one of changes does not.)
    pub retain: Option<(TimeDelta, DateTime<Utc>)>,
    /// No more than so many.
    pub at_most: Option<i64>,
}

/// The candidates of a shop, in the order of their numbers. They come one by one, however many there are.
pub fn candidates(
    conn: &mut PgConnection,
    shop: ShopId,
    filter: Filter,
) -> BoxStream<'_, sqlx::Result<Candidate>> {
    sqlx::query_file_as!(
        Candidate,
        "src/testimonials/candidate.sql",
        shop.0,
        filter.state as Option<TestimonialState>,
        filter.changed_since,
        filter.or_published,
        filter.only as Option<ResponseId>,
        filter.waiting,
        filter.retain.map(|(retain, _)| retain) as Option<TimeDelta>,
        filter.retain.map(|(_, now)| now),
        filter.at_most,
    )
    .fetch(conn)
    .boxed()
}

/// What an author answered, by what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Said<'a> {
    /// From 1 to 5.
    pub rating: Option<i16>,
    /// `yes` or `no`.
    pub recommend: Option<&'a str>,
    /// The words, as they were written.
    pub words: Option<&'a str>,
}

impl Candidate {
    /// What its author answered, by the questionnaire they saw.
    pub fn said(&self, asked: &Questionnaire) -> Said<'_> {
        let answer = |key: &str| self.questions.iter().position(|question| question == key);
        let mut said = Said::default();
        for question in &asked.questions {
            let Some(i) = answer(&question.key) else { continue };
            match question.kind {
                QuestionKind::Rating if said.rating.is_none() => said.rating = self.scores[i],
                QuestionKind::Recommend if said.recommend.is_none() => {
                    said.recommend = self.choices[i].as_deref();
                }
                QuestionKind::Text { .. } if said.words.is_none() => {
                    said.words = self.bodies[i].as_deref().filter(|body| !body.trim().is_empty());
                }
                _ => {}
            }
        }
        said
    }

    /// What the shop answers in public.
    pub fn reply(&self) -> Option<Reply> {
        let (text, replied_at, revision) = (self.reply.clone()?, self.replied_at?, self.reply_revision?);
        Some(Reply { text, replied_at, revision })
    }

    /// What is known of its author's name.
    pub fn author(&self) -> Author<'_> {
        Author {
            first_name: self.first_name.as_deref(),
            last_name: self.last_name.as_deref(),
            as_given: self.given_name.as_deref(),
        }
    }
}

/// All questionnaires that a shop ever asked.
pub struct Questionnaires(HashMap<SurveyVersionId, Questionnaire>);

impl Questionnaires {
    /// Reads them.
    ///
    /// # Errors
    /// When the database does not answer, or a stored questionnaire cannot be read.
    pub async fn of(conn: &mut PgConnection, shop: ShopId) -> anyhow::Result<Self> {
        let versions = sqlx::query!(
            r#"select survey_version_id as "version: SurveyVersionId", questionnaire
               from survey_version where shop_id = $1"#,
            shop.0,
        )
        .fetch_all(conn)
        .await?;
        versions
            .into_iter()
            .map(|row| {
                let questionnaire = serde_json::from_value(row.questionnaire).with_context(|| {
                    format!("reading the questionnaire of survey version {}", row.version)
                })?;
                Ok((row.version, questionnaire))
            })
            .collect::<anyhow::Result<_>>()
            .map(Self)
    }

    /// The one that the author of this answer saw.
    ///
    /// # Errors
    /// When it was asked for the first time since the questionnaires were read.
    pub fn seen_by(&self, candidate: &Candidate) -> anyhow::Result<&Questionnaire> {
        self.0.get(&candidate.version).with_context(|| {
            format!("survey version {} has just been made: please try again", candidate.version)
        })
    }
}
