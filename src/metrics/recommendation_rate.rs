//! Would they recommend the shop?
//!
//! Each survey says in its `recommendation` rule which answers to which question are a yes. A shop with several such surveys gets one
//! figure of all their answers together, and the report names each rule.

use sqlx::PgConnection;

use super::answers::{self, Each, Tally, Whose};
use super::figure::Counts;
use super::series::Subject;
use super::{Counting, OfAnswers};
use crate::survey::{Recommendation, Survey, Yes};

pub(super) const COUNTING: Counting =
    Counting::Answers(OfAnswers { asked, counts: |surveys, tally| counts(&rules(surveys), tally), detail });

/// How many of the people's answers are a recommendation, and of how many.
pub(super) async fn yes_of_all(conn: &mut PgConnection, subject: &Subject<'_>) -> sqlx::Result<(i64, i64)> {
    let (rules, asked) = (rules(subject.surveys), asked(subject.surveys));
    let people = answers::tally(conn, subject, &asked, Whose::People, Each::Order).await?;
    let all = people.iter().map(|answer| answer.n).sum();
    Ok((people.iter().filter(|answer| recommends(&rules, answer)).map(|answer| answer.n).sum(), all))
}

fn asked<'a>(surveys: &[&'a Survey]) -> Vec<(&'a str, &'a str)> {
    rules(surveys).into_iter().map(|(survey, rule)| (survey, rule.question.as_str())).collect()
}

/// The rule of each survey that has one.
pub(super) fn rules<'a>(surveys: &[&'a Survey]) -> Vec<(&'a str, &'a Recommendation)> {
    surveys.iter().filter_map(|survey| Some((survey.key.as_str(), survey.recommendation.as_ref()?))).collect()
}

fn counts(rules: &[(&str, &Recommendation)], tally: &[Tally]) -> Counts {
    Counts::Share {
        hits: tally.iter().filter(|answer| recommends(rules, answer)).map(|answer| answer.n).sum(),
        total: tally.iter().map(|answer| answer.n).sum(),
        unknown: None,
    }
}

fn recommends(rules: &[(&str, &Recommendation)], answer: &Tally) -> bool {
    rules.iter().any(|(survey, rule)| {
        *survey == answer.survey
            && match &rule.yes {
                Yes::Choices(choices) => {
                    answer.choice.as_ref().is_some_and(|choice| choices.contains(choice))
                }
                Yes::Scores { low, high } => {
                    answer.score.is_some_and(|score| (*low..=*high).contains(&score))
                }
            }
    })
}

/// The rules, as a sentence.
pub(super) fn detail(surveys: &[&Survey]) -> String {
    let rules = rules(surveys);
    let named: Vec<_> = rules
        .iter()
        .map(|(survey, rule)| {
            let yes = match &rule.yes {
                Yes::Choices(choices) => {
                    choices.iter().map(|c| format!("“{c}”")).collect::<Vec<_>>().join(" or ")
                }
                Yes::Scores { low, high } if low == high => format!("a score of {low}"),
                Yes::Scores { low, high } => format!("a score from {low} to {high}"),
            };
            format!("{yes} to question “{}” of survey “{survey}”", rule.question)
        })
        .collect();
    if named.is_empty() {
        "No survey of this shop says which answer is a recommendation.".to_owned()
    } else {
        format!("A recommendation is: {}.", named.join("; or "))
    }
}
