//! The net promoter score: of the first question of type `nps` of each survey.

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
    answers::first_of(surveys, |question| matches!(question.kind, QuestionKind::Nps))
}

/// Which questions are counted, as a sentence.
pub(super) fn detail(surveys: &[&Survey]) -> String {
    answers::sentence(&questions(surveys), "a question of type “nps”")
}

pub(super) fn counts(tally: &[Tally]) -> Counts {
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
