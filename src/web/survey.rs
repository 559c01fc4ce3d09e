//! The survey: the form, what is sent with it, and the thanks.
//!
//! The link of a mail may carry an answer (`?recommend=yes`); it is chosen on the page and nothing more. A second submission is a new
//! revision, as long as the survey's `edit_within` allows; then the page says that it is closed. Scanners: see
//! [`crate::responses::classify`]; they are thanked like everybody, because what they see of us should not tell them what they are.

use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Form, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use super::{Refusal, Web, assets, detached};
use crate::config::{DisplayName, Shop};
use crate::invitations::compose;
use crate::mail::templates::render_wording;
use crate::mail::templates::views::{ClosedPage, OptionView, QuestionView, SurveyPage, ThanksPage};
use crate::mail::templates::words::{Words, fill};
use crate::responses::classify::{Traces, classify};
use crate::responses::store::{self, Arrival, Given, Invited, Stored};
use crate::responses::submission::{
    self, FieldError, FieldErrors, Fields, MAX_DISPLAY_NAME, is_name_field, is_option, name_field,
};
use crate::responses::{Answer, Value};
use crate::survey::{self, Question, QuestionKind, Questionnaire, Survey, Yes};
use crate::testimonials::display_name::{Author, display_name};
use crate::token::Purpose;
use crate::types::Locale;

/// Who sends the form sooner after it was made is no person. Both moments are the program's clock's: while it stands still, everybody is too fast.
const FASTEST: TimeDelta = TimeDelta::seconds(1);

/// The signed moment the form was made, in the form.
const PROOF: &str = "form.proof";
/// The field nobody can see. Not a name that browsers fill in by themselves.
const TRAP: &str = "form.more";

type Pairs = Vec<(String, String)>;

/// `GET /s/{token}`
pub(super) async fn show(
    State(web): State<Web>,
    Path(token): Path<String>,
    query: Result<Query<Pairs>, QueryRejection>,
) -> Result<Response, Refusal> {
    let query = query.map_or_else(|_| Vec::new(), |Query(pairs)| pairs);
    detached(async move {
        let visit = Visit::open(&web, token).await?;
        if visit.is_closed() {
            return visit.closed(&web, StatusCode::OK);
        }
        let fields = visit.prefilled(&query);
        visit.form(&web, StatusCode::OK, &fields, &FieldErrors::new())
    })
    .await
}

/// `POST /s/{token}`
pub(super) async fn send(
    State(web): State<Web>,
    Path(token): Path<String>,
    form: Result<Form<Pairs>, FormRejection>,
) -> Result<Response, Refusal> {
    let fields = match form {
        Ok(Form(mut pairs)) => {
            // A name that would not be published is not asked for, and not kept.
            if web.context.config.testimonials.display_name != DisplayName::AsGiven {
                pairs.retain(|(field, _)| !is_name_field(field));
            }
            Fields::new(pairs)
        }
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            return Err(Refusal::TooLarge);
        }
        // What is no form answers nothing, and the page says what is missing.
        Err(_) => Fields::default(),
    };
    detached(async move {
        let visit = Visit::open(&web, token).await?;
        if visit.is_closed() {
            return visit.closed(&web, StatusCode::CONFLICT);
        }
        let submission = match submission::read(&fields, &visit.questionnaire) {
            Ok(submission) => submission,
            Err(errors) => return visit.form(&web, StatusCode::UNPROCESSABLE_ENTITY, &fields, &errors),
        };
        let traces = Traces {
            rendered_at: visit.rendered_at(&web, &fields),
            trapped: fields.get(TRAP).is_some_and(|value| !value.is_empty()),
            sent_at: visit.now,
        };
        let (locale, _) = visit.language(&web);
        let arrival = Arrival {
            invited: &visit.invited,
            submission: &submission,
            verdict: classify(traces, FASTEST),
            locale,
            names: web.context.config.testimonials.display_name,
            edit_within: visit.survey.edit_within,
            now: visit.now,
        };
        match store::store(&web.context.pool, &arrival).await? {
            // Elsewhere, so that a reload does not send it again.
            Stored::Revision(_) | Stored::Unchanged => Ok(see_other(&visit.path(&web, "/thanks"))),
            Stored::Closed => visit.closed(&web, StatusCode::CONFLICT),
            Stored::Gone => Err(Refusal::Gone),
        }
    })
    .await
}

/// `GET /s/{token}/thanks`
pub(super) async fn thanks(State(web): State<Web>, Path(token): Path<String>) -> Result<Response, Refusal> {
    detached(async move {
        let visit = Visit::open(&web, token).await?;
        if !visit.given.any {
            return Ok(see_other(&visit.path(&web, "")));
        }
        let (locale, words) = visit.language(&web);
        let change_until = visit.changeable_until().filter(|until| *until > visit.now);
        let view = ThanksPage {
            unhappy: is_unhappy(&visit.survey, &visit.given.answers),
            change_until: change_until.map(|until| words.date(until, visit.shop.timezone)),
            survey: visit.path(&web, ""),
        };
        Ok(web.page(StatusCode::OK, &visit.shop, locale, words, &view)?)
    })
    .await
}

fn see_other(path: &str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, path)]).into_response()
}

/// A link that can be answered, and all that is known about it.
struct Visit {
    token: String,
    shop: Shop,
    survey: Survey,
    invited: Invited,
    questionnaire: Questionnaire,
    given: Given,
    now: DateTime<Utc>,
}

impl Visit {
    async fn open(web: &Web, token: String) -> Result<Self, Refusal> {
        let context = &web.context;
        let now = context.clock.now();
        let (shop_id, invitation) = context.tokens.verify(Purpose::Survey, &token).ok_or(Refusal::Gone)?;
        let shop = context.shops.get(shop_id).ok_or(Refusal::Gone)?;
        let mut conn = context.pool.acquire().await?;
        let conn: &mut PgConnection = &mut conn;
        let invited = store::invited(conn, shop_id, invitation).await?.ok_or(Refusal::Gone)?;
        // A survey that is no longer in jobs.toml is over.
        let survey = context.config.survey(&invited.survey).ok_or(Refusal::Gone)?;
        if now > invited.asked_at + survey.answer_within {
            return Err(Refusal::Gone);
        }
        let questionnaire = survey::asked(conn, shop_id, invited.survey_version).await?;
        let given = store::given(conn, &invited).await?;
        Ok(Self { token, shop: shop.clone(), survey: survey.clone(), invited, questionnaire, given, now })
    }

    fn language<'a>(&self, web: &'a Web) -> (&'a Locale, &'a Words) {
        web.context.templates.language(self.invited.locale().as_ref(), &self.shop.locale)
    }

    fn path(&self, web: &Web, rest: &str) -> String {
        format!("{}/s/{}{rest}", web.prefix, self.token)
    }

    /// Until when the answer that is there can be changed.
    fn changeable_until(&self) -> Option<DateTime<Utc>> {
        let first = self.given.first_answered_at?;
        Some((first + self.survey.edit_within).min(self.invited.asked_at + self.survey.answer_within))
    }

    fn is_closed(&self) -> bool {
        self.changeable_until().is_some_and(|until| self.now > until)
    }

    fn closed(&self, web: &Web, status: StatusCode) -> Result<Response, Refusal> {
        let (locale, words) = self.language(web);
        let view = ClosedPage { order: self.invited.external_id.clone() };
        Ok(web.page(status, &self.shop, locale, words, &view)?)
    }

    /// The answers that are there, and over them the one that the link carries.
    fn prefilled(&self, query: &Pairs) -> Fields {
        let linked = query.iter().filter(|(key, value)| {
            self.questionnaire.question(key).is_some_and(|question| is_option(question, value))
        });
        let mut pairs: Pairs = linked.cloned().collect();
        pairs.extend(self.given.answers.iter().map(|answer| {
            let value = match &answer.value {
                Value::Score(score) => score.to_string(),
                Value::Choice(text) | Value::Text(text) => text.clone(),
            };
            (answer.question.clone(), value)
        }));
        for question in &self.questionnaire.questions {
            let QuestionKind::Consent { version } = &question.kind else { continue };
            if self.given.consent_version.as_ref() == Some(version) {
                pairs.push((question.key.clone(), "yes".to_owned()));
                pairs.push((name_field(&question.key), self.given.display_name.clone().unwrap_or_default()));
            }
        }
        // The first of several counts, so the link comes before what is there.
        Fields::new(pairs)
    }

    /// When the form was made, if it was ours and for this invitation.
    fn rendered_at(&self, web: &Web, fields: &Fields) -> Option<DateTime<Utc>> {
        web.context.tokens.verify_form(self.invited.shop, self.invited.invitation, fields.get(PROOF)?)
    }

    fn form(
        &self,
        web: &Web,
        status: StatusCode,
        fields: &Fields,
        errors: &FieldErrors,
    ) -> Result<Response, Refusal> {
        let (locale, words) = self.language(web);
        let tokens = &web.context.tokens;
        let Invited { shop, invitation, .. } = self.invited;
        // A form that comes back with mistakes keeps the moment it was first made: whoever corrects one quickly is still a person.
        let rendered_at = self.rendered_at(web, fields).unwrap_or(self.now);
        let date = |moment| words.date(moment, self.shop.timezone);
        let questions = self
            .questionnaire
            .questions
            .iter()
            .enumerate()
            .map(|(n, question)| self.question(web, n, question, fields, errors));
        let view = SurveyPage {
            action: self.path(web, ""),
            unsubscribe: format!("{}/u/{}", web.prefix, tokens.issue(Purpose::Unsubscribe, shop, invitation)),
            proof: tokens.issue_form(shop, invitation, rendered_at),
            intro: self.intro(locale)?,
            first_name: self.invited.first_name.clone().filter(|name| !name.trim().is_empty()),
            order: self.invited.external_id.clone(),
            date: date(self.invited.ordered_at),
            answered_until: self.changeable_until().map(date),
            has_errors: !errors.is_empty(),
            questions: questions.collect::<Result<_, _>>()?,
        };
        Ok(web.page(status, &self.shop, locale, words, &view)?)
    }

    /// What the survey says it is about.
    fn intro(&self, locale: &Locale) -> Result<Option<String>, Refusal> {
        let Some(texts) = &self.questionnaire.intro else { return Ok(None) };
        let wording = render_wording(texts.get(locale, &self.shop.locale), &self.shop.name);
        Ok(Some(wording.map_err(|problem| anyhow::anyhow!("the wording of the intro: {problem}"))?))
    }

    fn question(
        &self,
        web: &Web,
        n: usize,
        question: &Question,
        fields: &Fields,
        errors: &FieldErrors,
    ) -> Result<QuestionView, Refusal> {
        let (locale, words) = self.language(web);
        let text = render_wording(question.text.get(locale, &self.shop.locale), &self.shop.name).map_err(
            |problem| anyhow::anyhow!("the wording of the question {:?}: {problem}", question.key),
        )?;
        let value = fields.get(&question.key).unwrap_or_default();
        let error = |field: &str| errors.get(field).map(|error| in_words(error, words));
        let (low, high) = compose::ends(question, words);
        let name_field = name_field(&question.key);
        let names = web.context.config.testimonials.display_name;
        let options = compose::options(question, locale, &self.shop.locale, words).unwrap_or_default();
        let options: Vec<_> = options
            .into_iter()
            .enumerate()
            .map(|(o, (option, label))| OptionView {
                id: format!("q{n}-{o}"),
                mark: format!("q{n}o{o}"),
                checked: option == value,
                value: option,
                label,
            })
            .collect();
        Ok(QuestionView {
            id: format!("q{n}"),
            kind: match question.kind {
                QuestionKind::Recommend | QuestionKind::Choice { .. } => "choice",
                QuestionKind::Nps | QuestionKind::Rating => "scale",
                QuestionKind::Text { .. } => "text",
                QuestionKind::Consent { .. } => "consent",
            },
            text,
            required: question.required,
            error: error(&question.key),
            n_options: options.len(),
            options,
            low,
            high,
            value: value.to_owned(),
            max_length: match question.kind {
                QuestionKind::Text { max_length } => max_length,
                _ => MAX_DISPLAY_NAME,
            },
            checked: value == "yes",
            chooses_name: names == DisplayName::AsGiven,
            published_as: display_name(names, self.author()),
            name_value: fields.get(&name_field).unwrap_or_default().to_owned(),
            name_error: error(&name_field),
            name_field,
            after: self.after(question),
            key: question.key.clone(),
        })
    }

    /// What an export would know of the author's name if none were typed: whoever consents must know the name that appears.
    fn author(&self) -> Author<'_> {
        Author {
            first_name: self.invited.first_name.as_deref(),
            last_name: self.invited.last_name.as_deref(),
            as_given: None,
        }
    }

    /// The marks of the answers that lead to this question; `None` when it is always asked, or cannot be hidden by a stylesheet.
    fn after(&self, question: &Question) -> Option<String> {
        let when = question.when.as_ref()?;
        let questions = &self.questionnaire.questions;
        let n = questions.iter().take(assets::QUESTIONS).position(|other| other.key == when.question)?;
        let keys = questions[n].kind.options()?;
        let mark = |answer: &String| {
            let o = keys.iter().take(assets::OPTIONS).position(|key| key == answer)?;
            Some(format!("q{n}o{o}"))
        };
        let marks: Option<Vec<_>> = when.answers.iter().map(mark).collect();
        marks.map(|marks| marks.join(" "))
    }
}

fn in_words(error: &FieldError, words: &Words) -> String {
    match error {
        FieldError::Missing => words.error_missing.clone(),
        FieldError::NotAnOption => words.error_not_an_option.clone(),
        FieldError::Unreadable => words.error_unreadable.clone(),
        FieldError::TooLong { max, length } => {
            let values = [("max", max.to_string()), ("length", length.to_string())];
            let values = values.each_ref().map(|(name, value)| (*name, value.as_str()));
            fill(&words.error_too_long, &values).unwrap_or_else(|_| words.error_not_an_option.clone())
        }
    }
}

/// Whether the answer to the survey's recommendation is not a yes.
fn is_unhappy(survey: &Survey, answers: &[Answer]) -> bool {
    let Some(rule) = &survey.recommendation else { return false };
    let answer = answers.iter().find(|answer| answer.question == rule.question);
    answer.is_some_and(|answer| match (&rule.yes, &answer.value) {
        (Yes::Choices(yes), Value::Choice(choice)) => !yes.contains(choice),
        (Yes::Scores { low, high }, Value::Score(score)) => !(*low..=*high).contains(score),
        _ => false,
    })
}
