//! The program's own format for answers: one row an answered questionnaire, and a column per question of the survey, called as its key.

use super::{BuiltIn, RESPONSE_COLUMNS, ResponseFormat};
use crate::survey::Survey;

pub(super) const FORMAT: BuiltIn = BuiltIn {
    key: "generic",
    about: "afterword's own columns: order_id or email, answered_at, and a column per question of the survey",
    sample: include_str!("generic.csv"),
    format,
    is_header: |_| true,
    advice: |_| None,
};

fn format(survey: &Survey) -> ResponseFormat {
    let itself = |name: &str| (name.to_owned(), vec![name.to_owned()]);
    ResponseFormat {
        columns: RESPONSE_COLUMNS.iter().map(|column| itself(column)).collect(),
        answers: survey.questionnaire.questions.iter().map(|question| itself(&question.key)).collect(),
        closed: true,
        ..ResponseFormat::built_in(FORMAT.key, survey)
    }
}
