//! A form becomes answers. Comes in: the fields as the browser sent them, and the questionnaire they answer. Goes out: a
//! [`Submission`], or what is wrong with which field. Pure.
//!
//! A text is kept exactly as it was written, but for the line ends: browsers send CR LF whatever was typed, and a line ends in LF here.
//! A text of nothing but white space is no answer. Answers to a follow-up that was not asked are dropped: without a stylesheet all
//! questions can be seen and answered.

use std::collections::BTreeMap;

use super::{Answer, Value};
use crate::survey::{Question, QuestionKind, Questionnaire};

/// The longest name to publish under, in characters.
pub const MAX_DISPLAY_NAME: usize = 60;

/// The fields of a form in the order they were sent.
#[derive(Debug, Clone, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Names and values, decoded.
    pub fn new(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// All of them, as they came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value of a field; the first one where there are several.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn given(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.trim().is_empty())
    }
}

/// A form that answers its questionnaire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// In the order of the questions; at most one each.
    pub answers: Vec<Answer>,
    /// Agreement to publication.
    pub consent: Option<Consent>,
}

impl Submission {
    /// Whether there are words that could be published.
    pub fn has_text(&self) -> bool {
        self.answers.iter().any(|answer| matches!(answer.value, Value::Text(_)))
    }
}

/// Agreement to publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consent {
    /// Which wording was agreed to.
    pub version: String,
    /// The name to publish under, on one line; `None`: none was typed.
    pub display_name: Option<String>,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldError {
    /// It must be answered.
    Missing,
    /// Not one of the answers there are.
    NotAnOption,
    /// In characters.
    TooLong { max: usize, length: usize },
    /// It contains NUL, which the database cannot keep, or something that is no text.
    Unreadable,
}

/// What is wrong, by field: a question's key, or [`name_field`] of it.
pub type FieldErrors = BTreeMap<String, FieldError>;

/// The field of the name to publish under. Keys have no dots, so it cannot be a question's.
pub fn name_field(consent: &str) -> String {
    format!("{consent}.name")
}

/// Whether a field is a name to publish under.
pub fn is_name_field(field: &str) -> bool {
    field.ends_with(".name")
}

/// Reads the answers.
///
/// # Errors
/// Everything that is wrong, by field.
pub fn read(fields: &Fields, questionnaire: &Questionnaire) -> Result<Submission, FieldErrors> {
    let mut submission = Submission { answers: Vec::new(), consent: None };
    let mut errors = FieldErrors::new();
    for question in &questionnaire.questions {
        if !is_asked(question, &submission.answers) {
            continue;
        }
        if let QuestionKind::Consent { version } = &question.kind {
            read_consent(fields, question, version, &mut submission, &mut errors);
            continue;
        }
        let Some(given) = fields.given(&question.key) else {
            if question.required {
                errors.insert(question.key.clone(), FieldError::Missing);
            }
            continue;
        };
        match value(&question.kind, given) {
            Ok(value) => submission.answers.push(Answer { question: question.key.clone(), value }),
            Err(error) => {
                errors.insert(question.key.clone(), error);
            }
        }
    }
    if errors.is_empty() { Ok(submission) } else { Err(errors) }
}

/// What a form has for who may change nothing but words, because the shop could not publish those that there are: the questions for words
/// to which the other answers have led, and the consent.
pub fn only_words(questionnaire: &Questionnaire, before: &[Answer]) -> Questionnaire {
    let is_of_words = |question: &&Question| {
        matches!(question.kind, QuestionKind::Text { .. } | QuestionKind::Consent { .. })
    };
    let asked =
        questionnaire.questions.iter().filter(is_of_words).filter(|question| is_asked(question, before));
    let questions = asked.map(|question| Question { when: None, ..question.clone() }).collect();
    Questionnaire { questions, ..questionnaire.clone() }
}

/// Reads such a form. The other answers are those that were there, whatever is sent.
///
/// # Errors
/// Everything that is wrong, by field.
pub fn read_words(
    fields: &Fields,
    questionnaire: &Questionnaire,
    before: &[Answer],
) -> Result<Submission, FieldErrors> {
    let mut submission = read(fields, &only_words(questionnaire, before))?;
    let others = before.iter().filter(|answer| !matches!(answer.value, Value::Text(_)));
    submission.answers.extend(others.cloned());
    let place = |key: &str| questionnaire.questions.iter().position(|question| question.key == key);
    submission.answers.sort_by_key(|answer| place(&answer.question));
    Ok(submission)
}

/// Whether a value is an answer that can be chosen for this question.
pub fn is_option(question: &Question, given: &str) -> bool {
    question.kind.options().is_some_and(|options| options.iter().any(|option| option == given))
}

/// Whether the answers so far lead to this question.
fn is_asked(question: &Question, answers: &[Answer]) -> bool {
    let Some(when) = &question.when else { return true };
    answers.iter().filter(|answer| answer.question == when.question).any(|answer| match &answer.value {
        Value::Choice(choice) => when.answers.contains(choice),
        Value::Score(score) => when.answers.contains(&score.to_string()),
        Value::Text(_) => false,
    })
}

fn value(kind: &QuestionKind, given: &str) -> Result<Value, FieldError> {
    if let QuestionKind::Text { max_length } = kind {
        let text = given.replace("\r\n", "\n");
        check_text(&text, *max_length)?;
        return Ok(Value::Text(text));
    }
    // A consent has no options: it is read in a place of its own, and has no value.
    if !kind.options().is_some_and(|options| options.iter().any(|option| option == given)) {
        return Err(FieldError::NotAnOption);
    }
    match kind.scores() {
        Some(_) => given.parse().map(Value::Score).map_err(|_| FieldError::NotAnOption),
        None => Ok(Value::Choice(given.to_owned())),
    }
}

fn read_consent(
    fields: &Fields,
    question: &Question,
    version: &str,
    submission: &mut Submission,
    errors: &mut FieldErrors,
) {
    match fields.given(&question.key) {
        Some("yes") => {}
        Some(_) => {
            errors.insert(question.key.clone(), FieldError::NotAnOption);
            return;
        }
        None => {
            if question.required {
                errors.insert(question.key.clone(), FieldError::Missing);
            }
            return;
        }
    }
    let field = name_field(&question.key);
    let typed = fields.get(&field).unwrap_or_default();
    let name = typed.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let name = name.collect::<Vec<_>>().join(" ");
    if let Err(error) = check_text(&name, MAX_DISPLAY_NAME) {
        errors.insert(field, error);
        return;
    }
    let display_name = (!name.is_empty()).then_some(name);
    submission.consent = Some(Consent { version: version.to_owned(), display_name });
}

fn check_text(text: &str, max: usize) -> Result<(), FieldError> {
    if text.contains('\0') {
        return Err(FieldError::Unreadable);
    }
    let length = text.chars().count();
    if length > max { Err(FieldError::TooLong { max, length }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survey::{Choice, Texts, When};

    fn questionnaire() -> Questionnaire {
        let question = |key: &str, kind, required, when| Question {
            key: key.to_owned(),
            kind,
            required,
            in_mail: false,
            when,
            text: Texts(BTreeMap::new()),
        };
        let when = When { question: "recommend".to_owned(), answers: vec!["no".to_owned()] };
        let choices = ["delivery", "other"].map(|key| Choice { key: key.to_owned(), text: None });
        Questionnaire {
            intro: None,
            questions: vec![
                question("recommend", QuestionKind::Recommend, true, None),
                question("overall", QuestionKind::Rating, false, None),
                question("topic", QuestionKind::Choice { choices: choices.to_vec() }, true, Some(when)),
                question("nps", QuestionKind::Nps, false, None),
                question("comment", QuestionKind::Text { max_length: 10 }, false, None),
                question("publish", QuestionKind::Consent { version: "v1".to_owned() }, false, None),
            ],
        }
    }

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        Fields::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    type Answers<'a> = &'a [(&'a str, Value)];
    type Errors<'a> = &'a [(&'a str, FieldError)];

    fn check(pairs: &[(&str, &str)], expected: Result<Answers<'_>, Errors<'_>>) {
        let read = read(&fields(pairs), &questionnaire());
        match expected {
            Ok(answers) => {
                let answer = |(question, value): &(&str, Value)| Answer {
                    question: (*question).to_owned(),
                    value: value.clone(),
                };
                assert_eq!(
                    read.unwrap().answers,
                    answers.iter().map(answer).collect::<Vec<_>>(),
                    "{pairs:?}"
                );
            }
            Err(errors) => {
                let errors = errors.iter().map(|(field, error)| ((*field).to_owned(), error.clone()));
                assert_eq!(read.unwrap_err(), errors.collect(), "{pairs:?}");
            }
        }
    }

    fn choice(text: &str) -> Value {
        Value::Choice(text.to_owned())
    }

    #[test]
    fn answers_are_read_by_the_kind_of_their_question() {
        check(
            &[
                ("recommend", "yes"),
                ("overall", "5"),
                ("nps", "0"),
                ("comment", "Très bien"),
                ("unknown", "x"),
            ],
            Ok(&[
                ("recommend", choice("yes")),
                ("overall", Value::Score(5)),
                ("nps", Value::Score(0)),
                ("comment", Value::Text("Très bien".to_owned())),
            ]),
        );
    }

    #[test]
    fn what_was_not_offered_is_not_taken() {
        for (key, value) in [("overall", "0"), ("overall", "+5"), ("overall", "05"), ("nps", "11")] {
            check(&[("recommend", "yes"), (key, value)], Err(&[(key, FieldError::NotAnOption)]));
        }
        check(&[("recommend", "maybe")], Err(&[("recommend", FieldError::NotAnOption)]));
        check(&[], Err(&[("recommend", FieldError::Missing)]));
        check(&[("recommend", " ")], Err(&[("recommend", FieldError::Missing)]));
        check(
            &[("recommend", "no"), ("recommend", "yes"), ("topic", "other")],
            Ok(&[("recommend", choice("no")), ("topic", choice("other"))]),
        );
    }

    #[test]
    fn a_follow_up_is_asked_only_after_its_answer() {
        check(&[("recommend", "no")], Err(&[("topic", FieldError::Missing)]));
        check(&[("recommend", "yes"), ("topic", "delivery")], Ok(&[("recommend", choice("yes"))]));
    }

    #[test]
    fn texts_are_kept_as_written() {
        let text = |given: &str, kept: &str| {
            let value = Value::Text(kept.to_owned());
            check(
                &[("recommend", "yes"), ("comment", given)],
                Ok(&[("recommend", choice("yes")), ("comment", value)]),
            );
        };
        text("  a\r\nb\n ", "  a\nb\n ");
        text("<b>{{x}}", "<b>{{x}}");
        text("\u{1f600}éééééééé\u{301}", "\u{1f600}éééééééé\u{301}");
        check(&[("recommend", "yes"), ("comment", " \r\n ")], Ok(&[("recommend", choice("yes"))]));
        let too_long = FieldError::TooLong { max: 10, length: 11 };
        check(&[("recommend", "yes"), ("comment", "12345678901")], Err(&[("comment", too_long)]));
        check(&[("recommend", "yes"), ("comment", "a\0b")], Err(&[("comment", FieldError::Unreadable)]));
    }

    #[test]
    fn consent_carries_its_version_and_a_name_on_one_line() {
        let consent = |pairs: &[(&str, &str)]| {
            let pairs = [&[("recommend", "yes")], pairs].concat();
            read(&fields(&pairs), &questionnaire()).map(|submission| submission.consent)
        };
        let with = |name: Option<&str>| {
            Ok(Some(Consent { version: "v1".to_owned(), display_name: name.map(ToOwned::to_owned) }))
        };
        assert_eq!(
            consent(&[("publish", "yes"), ("publish.name", " Claire\t\0 D. \r\n")]),
            with(Some("Claire D."))
        );
        assert_eq!(consent(&[("publish", "yes")]), with(None));
        assert_eq!(consent(&[("publish.name", "Claire")]), Ok(None));
        let long = "x".repeat(61);
        let errors = consent(&[("publish", "yes"), ("publish.name", &long)]).unwrap_err();
        assert!(errors.contains_key("publish.name"));
        assert!(consent(&[("publish", "on")]).unwrap_err().contains_key("publish"));
    }

    /// Whose words alone may change cannot change a score with them, nor answer what the score did not lead to.
    #[test]
    fn of_words_alone_nothing_else_is_read() {
        let words = |key: &str, when| Question {
            key: key.to_owned(),
            kind: QuestionKind::Text { max_length: 100 },
            required: false,
            in_mail: false,
            when,
            text: Texts(BTreeMap::new()),
        };
        let when =
            |answer: &str| Some(When { question: "recommend".to_owned(), answers: vec![answer.to_owned()] });
        let score = Question { kind: QuestionKind::Recommend, required: true, ..words("recommend", None) };
        let asked = Questionnaire {
            questions: vec![score, words("why", when("no")), words("more", when("yes"))],
            intro: None,
        };
        let answer = |key: &str, value| Answer { question: key.to_owned(), value };
        let yes = || answer("recommend", Value::Choice("yes".to_owned()));
        let text = |key: &str, text: &str| answer(key, Value::Text(text.to_owned()));
        let sent = [("recommend", "no"), ("why", "late"), ("more", "well made")];
        let sent = Fields::new(sent.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec());
        let read = read_words(&sent, &asked, &[text("more", "call me"), yes()]).unwrap();
        assert_eq!(read.answers, [yes(), text("more", "well made")]);
    }
}
