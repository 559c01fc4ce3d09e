//! LimeSurvey's export of responses as CSV, with the questions' codes as headings and the answers' codes as values
//! (<https://github.com/LimeSurvey/LimeSurvey/blob/master/application/helpers/admin/export/Writer.php>, `CsvWriter.php`). Its first columns
//! are `id`, `submitdate`, `lastpage`, `startlanguage`; those of the participants' list (`email`, `attribute_1`, …) are there where they
//! were chosen. A question whose code is the key of ours is its answer; codes have no underscores, so that `easyreturn` is `easy_return`.
//!
//! A survey that keeps no time of day writes 1980-01-01 as the time of every response: such a row is rejected, because it could be matched
//! to no order and would count in no period.

use super::{BuiltIn, ResponseFormat};
use crate::survey::Survey;

pub(super) const FORMAT: BuiltIn = BuiltIn {
    key: "limesurvey",
    about: "LimeSurvey's response export, with question codes as headings and answer codes as values",
    sample: include_str!("limesurvey.csv"),
    format,
    is_header: |header| {
        ["id", "submitdate", "lastpage", "startlanguage"]
            .iter()
            .all(|name| header.iter().any(|column| column == name))
    },
    advice: |header| {
        let has = |name: &str| header.iter().any(|column| column == name);
        (has("Response ID") && has("Date submitted")).then_some(
            "is LimeSurvey's export with the texts of the questions as headings: export again with Headings: Question code, and \
             Responses: Answer codes",
        )
    },
};

fn format(survey: &Survey) -> ResponseFormat {
    let columns = [
        ("order_id", &["orderid", "order_id"][..]),
        ("email", &["email"]),
        ("answered_at", &["submitdate"]),
        ("external_id", &["id"]),
    ];
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let answers = survey.questionnaire.questions.iter().map(|question| {
        let code = question.key.replace('_', "");
        (question.key.clone(), vec![question.key.clone(), code])
    });
    ResponseFormat {
        columns: columns.map(|(ours, theirs)| (ours.to_owned(), words(theirs))).into(),
        answers: answers.collect(),
        no_time: Some("1980-01-01"),
        ..ResponseFormat::built_in(FORMAT.key, survey)
    }
}
