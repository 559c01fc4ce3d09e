//! `[[survey.<key>.question]]`: what is asked, in which words and after which answers.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;

use super::words::{check_key, text};
use crate::config::problem::Problems;
use crate::config::raw;
use crate::mail::templates::check_wording;
use crate::nearest::did_you_mean;
use crate::survey::{Choice, Question, QuestionKind, Texts, When};

/// A question after these, and before those that are not read yet.
pub(super) fn question(
    question: &raw::Question,
    earlier: &[Question],
    later: &[raw::Question],
    problems: &mut Problems<'_>,
) -> Option<Question> {
    let key = text(&question.key);
    check_key("question", key, question.key.span(), problems);
    if earlier.iter().any(|other| other.key == key) {
        problems.add(question.key.span(), format!("the question {key:?} stands here twice"), None);
        return None;
    }
    let kind_span = question.kind.span();
    let kind = match question.kind.get_ref() {
        raw::QuestionType::Recommend => QuestionKind::Recommend,
        raw::QuestionType::Nps => QuestionKind::Nps,
        raw::QuestionType::Rating => QuestionKind::Rating,
        raw::QuestionType::Choice => {
            let Some(choices) = question.choices.as_ref().filter(|choices| choices.get_ref().len() >= 2)
            else {
                problems.add(kind_span, "a choice needs two or more `choices`", None);
                return None;
            };
            QuestionKind::Choice { choices: self::choices(choices, problems) }
        }
        raw::QuestionType::Text => {
            let max_length = question.max_length.as_ref().map_or(4000, |length| *length.get_ref());
            if !(1..=4000).contains(&max_length) {
                let span = question.max_length.as_ref().map_or(kind_span.clone(), Spanned::span);
                problems.add(span, "max_length must be between 1 and 4000 characters", None);
            }
            QuestionKind::Text { max_length }
        }
        raw::QuestionType::Consent => {
            let Some(version) = &question.version else {
                problems.add(
                    kind_span,
                    "a consent needs a `version`, the name of its wording",
                    Some("add version = \"2026-11\", and change it when you change the text".to_owned()),
                );
                return None;
            };
            if question.required.unwrap_or(false) {
                problems.add(
                    kind_span.clone(),
                    "a consent cannot be required: it would not be given freely (GDPR, article 7(4))",
                    Some("leave out `required`".to_owned()),
                );
            }
            QuestionKind::Consent { version: text(version).to_owned() }
        }
    };
    if let Some(choices) = question.choices.as_ref().filter(|_| !matches!(kind, QuestionKind::Choice { .. }))
    {
        problems.add(choices.span(), "only a question of type \"choice\" has `choices`", None);
    }
    if let Some(length) = question.max_length.as_ref().filter(|_| !matches!(kind, QuestionKind::Text { .. }))
    {
        problems.add(length.span(), "only a question of type \"text\" has a `max_length`", None);
    }
    if let Some(version) = question.version.as_ref().filter(|_| !matches!(kind, QuestionKind::Consent { .. }))
    {
        problems.add(version.span(), "only a question of type \"consent\" has a `version`", None);
    }
    let in_mail = question.in_mail.as_ref().is_some_and(|in_mail| *in_mail.get_ref());
    if in_mail {
        let span = question.in_mail.as_ref().map_or(kind_span, Spanned::span);
        if matches!(kind, QuestionKind::Text { .. } | QuestionKind::Consent { .. }) {
            problems.add(span, "the answers of this question cannot be links in a mail", None);
        } else if earlier.iter().any(|other| other.in_mail) {
            problems.add(span, "only one question can have its answers in the mail", None);
        }
    }
    Some(Question {
        key: key.to_owned(),
        kind,
        required: question.required.unwrap_or(false),
        in_mail,
        when: question.when.as_ref().and_then(|when| self::when("when", when, earlier, later, problems)),
        text: texts(question.text.get_ref(), question.text.span(), problems),
    })
}

/// What each question alone is allowed, and is wrong among the others.
pub(super) fn misplaced(questions: &[raw::Question], problems: &mut Problems<'_>) {
    let is_consent =
        |question: &&raw::Question| matches!(question.kind.get_ref(), raw::QuestionType::Consent);
    if let Some(second) = questions.iter().filter(is_consent).nth(1) {
        problems.add(
            second.kind.span(),
            "a survey asks for one consent: an answer is published, or it is not",
            Some("put what is agreed to into one wording, or ask in two surveys".to_owned()),
        );
    }
    for question in questions {
        let Some(in_mail) = question.in_mail.as_ref().filter(|in_mail| *in_mail.get_ref()) else { continue };
        if question.when.is_some() {
            problems.add(
                in_mail.span(),
                "a mail cannot ask what is only asked after another answer",
                Some("leave out `when`, or set `in_mail` at the question it depends on".to_owned()),
            );
        }
    }
}

fn choices(choices: &Spanned<Vec<raw::Choice>>, problems: &mut Problems<'_>) -> Vec<Choice> {
    let mut valid: Vec<Choice> = Vec::new();
    for choice in choices.get_ref() {
        let choice = match choice {
            raw::Choice::Key(key) => Choice { key: key.clone(), text: None },
            raw::Choice::Worded(worded) => {
                Choice { key: worded.key.clone(), text: Some(texts(&worded.text, choices.span(), problems)) }
            }
        };
        check_key("choice", &choice.key, choices.span(), problems);
        if valid.iter().any(|other| other.key == choice.key) {
            problems.add(choices.span(), format!("the choice {:?} stands here twice", choice.key), None);
        }
        valid.push(choice);
    }
    valid
}

pub(super) fn texts(
    wordings: &BTreeMap<crate::types::Locale, String>,
    span: Range<usize>,
    problems: &mut Problems<'_>,
) -> Texts {
    if wordings.is_empty() {
        problems.add(span.clone(), "there is no wording", Some("write text = { en = \"…\" }".to_owned()));
    }
    for (locale, wording) in wordings {
        if let Err(error) = check_wording(wording) {
            problems.add(span.clone(), format!("the wording for {locale} cannot be used: {error}"), None);
        }
    }
    Texts(wordings.clone())
}

/// A question among these, and some of its answers.
pub(super) fn when(
    key: &str,
    when: &Spanned<BTreeMap<String, Vec<String>>>,
    earlier: &[Question],
    later: &[raw::Question],
    problems: &mut Problems<'_>,
) -> Option<When> {
    let span = when.span();
    let mut conditions = when.get_ref().iter();
    let (Some((question, answers)), None) = (conditions.next(), conditions.next()) else {
        problems.add(
            span,
            format!("`{key}` names one question that stands before it"),
            Some(format!("write {key} = {{ recommend = [\"no\"] }}")),
        );
        return None;
    };
    let Some(asked) = earlier.iter().find(|other| other.key == *question) else {
        if later.iter().any(|other| text(&other.key) == question) {
            let help = format!("move {question:?} before it");
            problems.add(span, format!("{question:?} is not answered yet when this is asked"), Some(help));
        } else {
            let help = did_you_mean(question, earlier.iter().map(|other| other.key.as_str()));
            problems.add(span, format!("no earlier question is called {question:?}"), help);
        }
        return None;
    };
    let possible = asked.kind.options().unwrap_or_default();
    for answer in answers.iter().filter(|answer| !possible.contains(answer)) {
        let help = did_you_mean(answer, possible.iter().map(String::as_str))
            .or_else(|| Some(format!("its answers are {}", possible.join(", "))));
        problems.add(span.clone(), format!("{answer:?} is no answer to {question:?}"), help);
    }
    Some(When { question: question.clone(), answers: answers.clone() })
}
