//! The survey: the form, what is sent with it, and the thanks.
//!
//! The link of a mail may carry an answer (`?recommend=yes`); it is chosen on the page and nothing more. A second submission is a new
//! revision, as long as the survey's `edit_within` allows; then the page says that it is closed, or, where the shop could not publish the
//! words, asks for others and leaves all other answers as they are. What looks like a scanner's
//! ([`crate::responses::classify`]) gets the form back as it was filled in, and is asked to send it once more: who is a person loses
//! nothing by it.
//!
//! When a survey is over, its link still leads to the words that may be published, for as long as they are there ([`super::withdraw`]).

pub mod preview;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::form::FormOf;
use super::pages::Pages;
use super::{Refusal, Unsent, Web, assets, detached, withdraw};
use crate::config::{DisplayName, Shop};
use crate::invitations::compose;
use crate::mail::templates::render_wording;
use crate::mail::templates::views::{
    ClosedPage, ErrorView, FormView, OptionView, PlaceView, QuestionView, SurveyPage, ThanksPage, View,
};
use crate::mail::templates::words::{Words, fill};
use crate::responses::Value;
use crate::responses::collect::Settled;
use crate::responses::store::{self, Fate, Given, Invited, Known, Outcome, Sent};
use crate::responses::submission::{
    self, FieldError, FieldErrors, Fields, MAX_DISPLAY_NAME, is_name_field, is_option, name_field,
};
use crate::survey::{Question, QuestionKind, Questionnaire, Survey, is_unhappy};
use crate::testimonials::display_name::{Author, display_name};
use crate::testimonials::rejection::sentence;
use crate::testimonials::withdrawal::{self, Standing};
use crate::token::{Form, Occasion, Purpose};
use crate::types::Locale;

type Pairs = Vec<(String, String)>;

/// For an answer to be stored; less than a request gets in all.
const STORE_LIMIT: Duration = Duration::from_secs(12);

/// `GET /s/{token}`
pub(super) async fn show(
    State(web): State<Web>,
    Path(token): Path<String>,
    query: Result<Query<Pairs>, QueryRejection>,
) -> Result<Response, Refusal> {
    let query = query.map_or_else(|_| Vec::new(), |Query(pairs)| pairs);
    detached(async move {
        let visit = match Visit::open(&web, token.clone()).await {
            Err(Refusal::Gone) => return withdraw::closed(&web, token).await,
            visit => visit?,
        };
        if visit.is_closed() {
            return visit.closed(&web.pages, StatusCode::OK);
        }
        let fields = visit.prefilled(&query);
        let occasion = if visit.is_other_answer(&query) { Occasion::OtherAnswer } else { Occasion::Visit };
        let form = visit.form_of().view(&web.context.tokens, occasion, visit.now);
        visit.respond(
            &web.pages,
            StatusCode::OK,
            &visit.form(&web.pages, form, &fields, &FieldErrors::new())?,
        )
    })
    .await
}

/// `POST /s/{token}`
pub(super) async fn send(
    State(web): State<Web>,
    Path(token): Path<String>,
    headers: HeaderMap,
    form: Result<axum::Form<Pairs>, FormRejection>,
) -> Result<Response, Refusal> {
    let fields = match form {
        Ok(axum::Form(mut pairs)) => {
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
    let Web { context, .. } = &web;
    let (shop, invitation) = context.tokens.verify(Purpose::Survey, &token).ok_or(Refusal::Gone)?;
    let now = context.clock.now();
    let form = FormOf { form: Form::Survey, shop, invitation };
    let traces = form.traces(&context.tokens, &fields, &headers, now);
    let kept = fields.clone();
    // From here on the answer is on its way, whether or not the browser waits. If it takes too long we say so, before the request is cut
    // off, and bring back what was written; sent again, an answer that was stored after all changes nothing.
    let stored = web.collector.store(Sent { shop, invitation, fields, traces });
    let settled = match tokio::time::timeout(STORE_LIMIT, stored).await {
        Ok(settled) => settled.map_err(Refusal::stored_not),
        Err(_) => Err(Refusal::Unavailable(None)),
    };
    let Settled { fate, fields } = settled.map_err(|why| {
        let action = format!("{}/s/{token}", web.pages.prefix);
        Refusal::Unsent(Box::new(Unsent { why, action, fields: kept }))
    })?;
    let Fate::Judged(known, outcome) = fate else { return Err(Refusal::Gone) };
    if outcome == Outcome::Counts {
        // Elsewhere, so that a reload does not send it again.
        return Ok(see_other(&format!("{}/s/{token}/thanks", web.pages.prefix)));
    }
    let visit = Visit::of(&web, token, *known, now)?;
    match outcome {
        Outcome::Counts | Outcome::Closed => visit.closed(&web.pages, StatusCode::CONFLICT),
        Outcome::Invalid(errors) => {
            let form = form.view_again(&context.tokens, &traces);
            visit.respond(
                &web.pages,
                StatusCode::UNPROCESSABLE_ENTITY,
                &visit.form(&web.pages, form, &fields, &errors)?,
            )
        }
        Outcome::Suspect(_) => {
            let form = form.view(&context.tokens, Occasion::OnceMore, now);
            visit.respond(
                &web.pages,
                StatusCode::OK,
                &visit.form(&web.pages, form, &fields, &FieldErrors::new())?,
            )
        }
    }
}

/// `GET /s/{token}/thanks`
pub(super) async fn thanks(State(web): State<Web>, Path(token): Path<String>) -> Result<Response, Refusal> {
    detached(async move {
        let visit = Visit::open(&web, token).await?;
        if visit.given.first_answered_at.is_none() {
            return Ok(see_other(&visit.path(&web.pages, "")));
        }
        visit.respond(&web.pages, StatusCode::OK, &visit.thanks(&web.pages)?)
    })
    .await
}

pub(super) fn see_other(path: &str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, path)]).into_response()
}

/// A link that can be answered, and all that is known about it.
#[derive(Clone)]
pub(super) struct Visit {
    token: String,
    shop: Shop,
    survey: Survey,
    invited: Invited,
    questionnaire: Arc<Questionnaire>,
    given: Given,
    standing: Standing,
    now: DateTime<Utc>,
}

impl Visit {
    pub(super) async fn open(web: &Web, token: String) -> Result<Self, Refusal> {
        let context = &web.context;
        let now = context.clock.now();
        let (shop_id, invitation) = context.tokens.verify(Purpose::Survey, &token).ok_or(Refusal::Gone)?;
        let mut conn = context.pool.acquire().await?;
        let conn: &mut PgConnection = &mut conn;
        let invited = store::invited(conn, shop_id, invitation).await?.ok_or(Refusal::Gone)?;
        let questionnaire = web.versions.get(conn, shop_id, invited.survey_version).await?;
        let given = store::given(conn, &invited).await?;
        let standing = withdrawal::standing(conn, &invited).await?;
        let visit = Self::of(web, token, Known { invited, questionnaire, given }, now)?;
        let visit = Self { standing, ..visit };
        if now > visit.invited.asked_at + visit.survey.answer_within {
            return Err(Refusal::Gone);
        }
        Ok(visit)
    }

    fn of(web: &Web, token: String, known: Known, now: DateTime<Utc>) -> Result<Self, Refusal> {
        let Known { invited, questionnaire, given } = known;
        let shop = web.context.shops.get(invited.shop).ok_or(Refusal::Gone)?.clone();
        // A survey that is no longer in jobs.toml is over.
        let survey = web.context.config.survey(&invited.survey).ok_or(Refusal::Gone)?.clone();
        // Who agreed to publication may have words to take back; the page that this leads to knows.
        let standing = given.consent_version.as_ref().map_or(Standing::Nothing, |_| Standing::Offered);
        Ok(Self { token, shop, survey, invited, questionnaire, given, standing, now })
    }

    fn language<'a>(&self, pages: &'a Pages) -> (&'a Locale, &'a Words) {
        pages.language(self.invited.locale().as_ref(), &self.shop)
    }

    fn path(&self, pages: &Pages, rest: &str) -> String {
        format!("{}/s/{}{rest}", pages.prefix, self.token)
    }

    /// Until when the answer that is there can be changed.
    fn changeable_until(&self) -> Option<DateTime<Utc>> {
        self.given.changeable_until(&self.invited, &self.survey)
    }

    /// The same, in words, if it can be changed now.
    pub(super) fn changeable(&self, pages: &Pages) -> Option<String> {
        let until = self.changeable_until().filter(|until| *until > self.now)?;
        Some(self.language(pages).1.date(until, self.shop.timezone))
    }

    /// Where words can be taken back that may be published.
    fn withdraw(&self, pages: &Pages) -> Option<String> {
        (self.standing == Standing::Offered).then(|| self.path(pages, "/withdraw"))
    }

    fn is_closed(&self) -> bool {
        self.changeable_until().is_some_and(|until| self.now > until)
    }

    fn closed(&self, pages: &Pages, status: StatusCode) -> Result<Response, Refusal> {
        let view = ClosedPage {
            order: self.invited.external_id.clone(),
            reason: self.refused_because(pages),
            withdraw: self.withdraw(pages),
        };
        self.respond(pages, status, &view)
    }

    /// Why the shop refused to publish the words, if it did: their author may be one who cannot be told by mail.
    fn refused_because(&self, pages: &Pages) -> Option<String> {
        let words = &self.language(pages).1.rejected;
        self.given.reject_reason.map(|reason| sentence(words, reason).to_owned())
    }

    /// Whether what was answered calls for the shop's attention.
    fn is_unhappy(&self) -> bool {
        is_unhappy(&self.survey.signs(&self.questionnaire), |question| {
            let answer = self.given.answers.iter().find(|answer| answer.question == question)?;
            match &answer.value {
                Value::Score(score) => Some(score.to_string()),
                Value::Choice(choice) => Some(choice.clone()),
                Value::Text(_) => None,
            }
        })
    }

    fn thanks(&self, pages: &Pages) -> anyhow::Result<ThanksPage> {
        Ok(ThanksPage {
            next: if self.is_unhappy() { Some(self.next(pages)?) } else { None },
            places: PlaceView::of(&self.shop),
            change_until: self.changeable(pages),
            survey: self.path(pages, ""),
            withdraw: self.withdraw(pages),
        })
    }

    fn respond<V: View>(&self, pages: &Pages, status: StatusCode, view: &V) -> Result<Response, Refusal> {
        let (locale, words) = self.language(pages);
        Ok(pages.response(status, &self.shop, locale, words, view)?)
    }

    /// What an unhappy customer is told about what happens next.
    fn next(&self, pages: &Pages) -> anyhow::Result<String> {
        let (locale, words) = self.language(pages);
        let told = match &self.shop.unhappy_next {
            Some(wordings) => render_wording(wordings.get(locale, &self.shop.locale), &self.shop.name),
            None => fill(&words.unhappy_next, &[("shop", &self.shop.name)]),
        };
        told.map_err(|problem| anyhow::anyhow!("the wording of what happens next: {problem}"))
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
            // What was taken back is given again only by whoever ticks it again.
            if self.given.consent_version.as_ref() == Some(version) && self.standing != Standing::Withdrawn {
                pairs.push((question.key.clone(), "yes".to_owned()));
                pairs.push((name_field(&question.key), self.given.display_name.clone().unwrap_or_default()));
            }
        }
        // The first of several counts, so the link comes before what is there.
        Fields::new(pairs)
    }

    /// Whether the link carries another answer than the one that counts.
    fn is_other_answer(&self, query: &Pairs) -> bool {
        let given = |key: &str| self.given.answers.iter().find(|answer| answer.question == key);
        query.iter().any(|(key, value)| {
            given(key).is_some_and(|answer| match &answer.value {
                Value::Score(score) => score.to_string() != *value,
                Value::Choice(choice) => choice != value,
                Value::Text(_) => false,
            })
        })
    }

    /// The form of this visit.
    fn form_of(&self) -> FormOf {
        FormOf { form: Form::Survey, shop: self.invited.shop, invitation: self.invited.invitation }
    }

    fn form(
        &self,
        pages: &Pages,
        form: FormView,
        fields: &Fields,
        errors: &FieldErrors,
    ) -> anyhow::Result<SurveyPage> {
        let (locale, words) = self.language(pages);
        let tokens = &pages.tokens;
        let Invited { shop, invitation, .. } = self.invited;
        let date = |moment| words.date(moment, self.shop.timezone);
        let only_words = self.given.only_words(&self.survey, self.now);
        let asked = if only_words {
            Cow::Owned(submission::only_words(&self.questionnaire, &self.given.answers))
        } else {
            Cow::Borrowed(&*self.questionnaire)
        };
        let questions = asked
            .questions
            .iter()
            .enumerate()
            .map(|(n, question)| self.question(pages, n, question, fields, errors))
            .collect::<Result<Vec<_>, _>>()?;
        let errors: Vec<_> = questions.iter().flat_map(|question| errors_of(question, words)).collect();
        Ok(SurveyPage {
            title: page_title(&words.survey_title, &errors, words),
            action: self.path(pages, ""),
            unsubscribe: format!(
                "{}/u/{}",
                pages.prefix,
                tokens.issue(Purpose::Unsubscribe, shop, invitation)
            ),
            intro: self.intro(locale)?,
            form,
            first_name: self.invited.first_name.clone().filter(|name| !name.trim().is_empty()),
            order: self.invited.external_id.clone(),
            date: date(self.invited.ordered_at),
            answered_until: self.changeable_until().map(date),
            only_words,
            reason: self.refused_because(pages),
            withdraw: self.withdraw(pages),
            withdrawn: self.standing == Standing::Withdrawn,
            errors,
            asks_consent: questions.iter().any(|question| question.kind == "consent"),
            questions,
        })
    }

    /// What the survey says it is about.
    fn intro(&self, locale: &Locale) -> anyhow::Result<Option<String>> {
        let Some(texts) = &self.questionnaire.intro else { return Ok(None) };
        let wording = render_wording(texts.get(locale, &self.shop.locale), &self.shop.name);
        Ok(Some(wording.map_err(|problem| anyhow::anyhow!("the wording of the intro: {problem}"))?))
    }

    fn question(
        &self,
        pages: &Pages,
        n: usize,
        question: &Question,
        fields: &Fields,
        errors: &FieldErrors,
    ) -> anyhow::Result<QuestionView> {
        let (locale, words) = self.language(pages);
        let text = render_wording(question.text.get(locale, &self.shop.locale), &self.shop.name).map_err(
            |problem| anyhow::anyhow!("the wording of the question {:?}: {problem}", question.key),
        )?;
        let value = fields.get(&question.key).unwrap_or_default();
        let error = |field: &str| errors.get(field).map(|error| in_words(error, words));
        let name_field = name_field(&question.key);
        let names = pages.config.testimonials.display_name;
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
        let (low, high) = compose::ends(question, words);
        let end = |option: Option<&OptionView>, meaning: String| match option {
            Some(option) if !meaning.is_empty() => scale_end(&option.label, &meaning, words),
            _ => meaning,
        };
        let (low, high) = (end(options.first(), low), end(options.last(), high));
        let max_length = match question.kind {
            QuestionKind::Text { max_length } => max_length,
            _ => MAX_DISPLAY_NAME,
        };
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
            max_length,
            limit: words.number(max_length),
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
            let values = [("max", words.number(*max)), ("length", words.number(*length))];
            let values = values.each_ref().map(|(name, value)| (*name, value.as_str()));
            fill(&words.error_too_long, &values).unwrap_or_else(|_| words.error_not_an_option.clone())
        }
    }
}

/// The title of a form's window: a screen reader says it first, so it says first what is wrong.
pub(super) fn page_title(title: &str, errors: &[ErrorView], words: &Words) -> String {
    if errors.is_empty() { title.to_owned() } else { format!("{} {title}", words.error_mark) }
}

/// What is wrong with a question, for the list above the form.
fn errors_of(question: &QuestionView, words: &Words) -> Vec<ErrorView> {
    let field = question.options.first().map_or(&question.id, |option| &option.id);
    let of_question = question.error.as_ref().map(|_| (field.clone(), question.text.clone()));
    let name = question.name_error.as_ref();
    let of_name = name.map(|_| (format!("{}-name", question.id), words.display_name.clone()));
    of_question.into_iter().chain(of_name).map(|(field, label)| ErrorView { field, label }).collect()
}

/// What the number at an end of a scale means: `1 = Poor`.
fn scale_end(score: &str, meaning: &str, words: &Words) -> String {
    fill(&words.scale_end, &[("score", score), ("meaning", meaning)]).unwrap_or_else(|_| meaning.to_owned())
}
