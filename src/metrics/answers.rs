//! The answers that stand: one per order and survey, as of a moment.

use sqlx::PgConnection;

use super::series::Subject;
use crate::survey::{Question, Survey};

/// How often a question got an answer.
pub(super) struct Tally {
    pub(super) survey: String,
    pub(super) score: Option<i16>,
    pub(super) choice: Option<String>,
    pub(super) n: i64,
}

/// Whose submissions are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// People's.
    People,
    /// Everybody's, as if programs were not told from people.
    Everybody,
}

/// Of whom only the latest answer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Each {
    /// One answer an order and survey.
    Order,
    /// And of these, one a customer.
    Customer,
}

/// How often each answer was given to these questions (at most one per survey) in the window, looked up answer by answer; what days have of
/// them is among the [facts](super::facts).
///
/// What became of the order is of no interest: who was disappointed and sent everything back has
/// an opinion too.
pub(super) async fn tally(
    conn: &mut PgConnection,
    subject: &Subject<'_>,
    asked: &[(&str, &str)],
    whose: Whose,
    each: Each,
) -> sqlx::Result<Vec<Tally>> {
    let (surveys, questions): (Vec<_>, Vec<_>) =
        asked.iter().map(|(survey, question)| ((*survey).to_owned(), (*question).to_owned())).unzip();
    sqlx::query_file_as!(
        Tally,
        "src/metrics/answers.sql",
        subject.shop.0,
        &surveys,
        &questions,
        subject.span.as_of,
        subject.span.from,
        subject.span.to,
        whose == Whose::Everybody,
        each == Each::Customer,
    )
    .fetch_all(conn)
    .await
}

/// The first question of a kind in each of the shop's surveys. One per survey, so that an order with two ratings does not count twice.
pub(super) fn first_of<'a>(
    surveys: &[&'a Survey],
    kind: impl Fn(&Question) -> bool,
) -> Vec<(&'a Survey, &'a Question)> {
    let first = |survey: &'a Survey| survey.questionnaire.questions.iter().find(|question| kind(question));
    surveys.iter().filter_map(|survey| Some((*survey, first(survey)?))).collect()
}

/// The keys that [`tally`] wants.
pub(super) fn keys<'a>(questions: &[(&'a Survey, &'a Question)]) -> Vec<(&'a str, &'a str)> {
    questions.iter().map(|(survey, question)| (survey.key.as_str(), question.key.as_str())).collect()
}

/// Which questions a figure is about, as a sentence.
pub(super) fn sentence(questions: &[(&Survey, &Question)], kind: &str) -> String {
    let named: Vec<_> = questions
        .iter()
        .map(|(survey, question)| format!("question “{}” of survey “{}”", question.key, survey.key))
        .collect();
    if named.is_empty() {
        format!("No survey of this shop has {kind}.")
    } else {
        format!("Counted: {}.", named.join(", "))
    }
}
