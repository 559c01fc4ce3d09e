//! The pages of a survey as its customers would see them, about a made-up order: what `check --render` writes.

use std::sync::Arc;

use anyhow::Context as _;
use chrono::{DateTime, Utc};

use super::{Pages, Visit};
use crate::config::{Config, Shop};
use crate::invitations::InvitationState;
use crate::mail::templates::Templates;
use crate::mail::templates::views::View;
use crate::responses::store::{Given, Invited};
use crate::responses::submission::{self, Fields};
use crate::survey::{QuestionKind, Survey};
use crate::testimonials::withdrawal::Standing;
use crate::token::{Occasion, Tokens};
use crate::types::{CustomerId, InvitationId, Locale, OrderId, ShopId, SurveyVersionId};

/// Makes the pages of surveys.
pub struct Previews(Pages);

/// A page.
pub struct Preview {
    /// What it shows: `form`, `form.no` (opened by the mail's link for that answer), `errors`, `once-more`,
    /// `thanks.no`.
    pub case: String,
    /// The page.
    pub html: String,
}

impl Previews {
    /// The pages link to their stylesheets below `prefix`.
    pub fn new(config: Arc<Config>, templates: Arc<Templates>, prefix: &str) -> Self {
        Self(Pages::new(config, templates, Tokens::new(b"a sample"), prefix))
    }

    /// The stylesheets, by their paths below the prefix.
    pub fn stylesheets(&self) -> impl Iterator<Item = (String, &str)> {
        self.0.assets.iter().map(|(name, css)| (format!("assets/{name}"), css))
    }

    /// The pages of a survey of a shop in a language.
    ///
    /// # Errors
    /// What is wrong with a template or a wording.
    pub fn of(
        &self,
        shop: &Shop,
        survey: &Survey,
        locale: &Locale,
        now: DateTime<Utc>,
    ) -> anyhow::Result<Vec<Preview>> {
        let visit = visit(shop, survey, locale, now);
        let form = visit.form_of();
        let page = |case: &str, fields: &Fields| -> anyhow::Result<Preview> {
            let (is_sent, errors) = (case == "errors", submission::read(fields, &visit.questionnaire).err());
            let errors = errors.filter(|_| is_sent).unwrap_or_default();
            let occasion = if case == "once-more" { Occasion::OnceMore } else { Occasion::Visit };
            let form = form.view(&self.0.tokens, occasion, now);
            self.preview(&visit, case, &visit.form(&self.0, form, fields, &errors)?)
        };
        let mut previews = vec![
            page("form", &Fields::default())?,
            page("errors", &mistakes(&visit))?,
            page("once-more", &Fields::default())?,
        ];
        for (key, answer) in leading_answers(&visit) {
            let fields = Fields::new(vec![(key, answer.clone())]);
            previews.push(page(&format!("form.{answer}"), &fields)?);
            let answers = answers(&fields, &visit);
            let given = Given { first_answered_at: Some(now), answers, ..Given::default() };
            let thanked = Visit { given, ..visit.clone() };
            previews.push(self.preview(&thanked, &format!("thanks.{answer}"), &thanked.thanks(&self.0)?)?);
        }
        Ok(previews)
    }

    fn preview<V: View>(&self, visit: &Visit, case: &str, view: &V) -> anyhow::Result<Preview> {
        let (locale, words) = visit.language(&self.0);
        let html = self.0.html(Some(&visit.shop), locale, words, view);
        Ok(Preview { case: case.to_owned(), html: html.with_context(|| format!("the page {case}"))? })
    }
}

fn visit(shop: &Shop, survey: &Survey, locale: &Locale, now: DateTime<Utc>) -> Visit {
    let invited = Invited {
        shop: ShopId(1),
        invitation: InvitationId(1),
        order: OrderId(1),
        customer: CustomerId(1),
        survey: survey.key.clone(),
        survey_version: SurveyVersionId(1),
        state: InvitationState::Sent,
        mailed_at: Some(now),
        asked_at: now,
        external_id: "A-1001".to_owned(),
        ordered_at: now - survey.delay,
        locale: Some(locale.to_string()),
        first_name: Some("Claire".to_owned()),
        last_name: Some("Exemple".to_owned()),
    };
    Visit {
        token: "sample".to_owned(),
        shop: shop.clone(),
        survey: survey.clone(),
        invited,
        questionnaire: Arc::new(survey.questionnaire.clone()),
        given: Given::default(),
        standing: Standing::Nothing,
        now,
    }
}

/// The first and the last answer of the question that the mail asks, or of the first that can be answered with a click: the two that
/// differ most.
fn leading_answers(visit: &Visit) -> Vec<(String, String)> {
    let questionnaire = &visit.questionnaire;
    let can_be_clicked = || questionnaire.questions.iter().find(|question| question.kind.options().is_some());
    let Some(question) = questionnaire.in_mail().or_else(can_be_clicked) else { return Vec::new() };
    let options = question.kind.options().unwrap_or_default();
    let ends = [options.first(), options.last()];
    ends.into_iter().flatten().map(|option| (question.key.clone(), option.clone())).collect()
}

/// A form with as much wrong in it as there can be.
fn mistakes(visit: &Visit) -> Fields {
    let questions = visit.questionnaire.questions.iter();
    let too_long = questions.filter_map(|question| match question.kind {
        QuestionKind::Text { max_length } => Some((question.key.clone(), "…".repeat(max_length + 1))),
        _ => None,
    });
    Fields::new(too_long.collect())
}

/// What these fields answer, whatever else is required.
fn answers(fields: &Fields, visit: &Visit) -> Vec<crate::responses::Answer> {
    let mut questionnaire = (*visit.questionnaire).clone();
    for question in &mut questionnaire.questions {
        question.required = false;
    }
    submission::read(fields, &questionnaire).map(|submission| submission.answers).unwrap_or_default()
}
