//! Customer satisfaction: the two best of five, of the first question of type `rating` of each survey.

use super::answers::{self, Tally};
use super::figure::Counts;
use super::{Counting, OfAnswers};
use crate::survey::{Question, QuestionKind, Survey};

pub(super) const COUNTING: Counting =
    Counting::Answers(OfAnswers { asked, counts: |_, tally| counts(tally), detail });

fn asked<'a>(surveys: &[&'a Survey]) -> Vec<(&'a str, &'a str)> {
    answers::keys(&questions(surveys))
}

/// Of each survey that has such a question, the first.
fn questions<'a>(surveys: &[&'a Survey]) -> Vec<(&'a Survey, &'a Question)> {
    answers::first_of(surveys, |question| matches!(question.kind, QuestionKind::Rating))
}

/// Which questions are counted, as a sentence.
fn detail(surveys: &[&Survey]) -> String {
    answers::sentence(&questions(surveys), "a question of type “rating”")
}

fn counts(tally: &[Tally]) -> Counts {
    let rated = tally.iter().filter_map(|answer| Some((answer.score?, answer.n)));
    let satisfied = rated.clone().filter(|(score, _)| *score >= 4);
    Counts::Share { hits: satisfied.map(|(_, n)| n).sum(), total: rated.map(|(_, n)| n).sum(), unknown: None }
}
