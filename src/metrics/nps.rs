//! The net promoter score: of the first question of type `nps` of each survey.

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
    answers::first_of(surveys, |question| matches!(question.kind, QuestionKind::Nps))
}

/// Which questions are counted, as a sentence.
fn detail(surveys: &[&Survey]) -> String {
    answers::sentence(&questions(surveys), "a question of type “nps”")
}

fn counts(tally: &[Tally]) -> Counts {
    let (mut promoters, mut passives, mut detractors) = (0, 0, 0);
    for answer in tally {
        match answer.score {
            Some(9..) => promoters += answer.n,
            Some(7..9) => passives += answer.n,
            Some(_) => detractors += answer.n,
            None => {}
        }
    }
    Counts::Net { promoters, passives, detractors }
}
