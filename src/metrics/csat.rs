//! Customer satisfaction: the two best of five, of the first question of type `rating` of each survey.

use sqlx::PgConnection;

use super::answers::{self, Tally, Whose};
use super::figure::Counts;
use super::{Counted, Scope};
use crate::survey::{Question, QuestionKind, Survey};

pub(super) async fn count(conn: &mut PgConnection, scope: &Scope<'_>) -> sqlx::Result<Counted> {
    let questions = questions(&scope.surveys);
    let keys = answers::keys(&questions);
    let people = answers::tally(conn, scope, &keys, Whose::People).await?;
    let everybody = answers::tally(conn, scope, &keys, Whose::Everybody).await?;
    Ok(Counted {
        counts: counts(&people),
        with_suspects: Some(counts(&everybody)),
        detail: Some(detail(&scope.surveys)),
    })
}

/// Of each survey that has such a question, the first.
pub(super) fn questions<'a>(surveys: &[&'a Survey]) -> Vec<(&'a Survey, &'a Question)> {
    answers::first_of(surveys, |question| matches!(question.kind, QuestionKind::Rating))
}

/// Which questions are counted, as a sentence.
pub(super) fn detail(surveys: &[&Survey]) -> String {
    answers::sentence(&questions(surveys), "a question of type “rating”")
}

pub(super) fn counts(tally: &[Tally]) -> Counts {
    let rated = tally.iter().filter_map(|answer| Some((answer.score?, answer.n)));
    let satisfied = rated.clone().filter(|(score, _)| *score >= 4);
    Counts::Share { hits: satisfied.map(|(_, n)| n).sum(), total: rated.map(|(_, n)| n).sum(), unknown: None }
}
