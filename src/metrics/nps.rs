//! The net promoter score: of the first question of type `nps` of each survey.

use sqlx::PgConnection;

use super::answers;
use super::figure::Counts;
use super::{Counted, Scope};
use crate::survey::QuestionKind;

pub(super) async fn count(conn: &mut PgConnection, scope: &Scope<'_>) -> sqlx::Result<Counted> {
    let questions = answers::first_of(scope, |question| matches!(question.kind, QuestionKind::Nps));
    let (mut promoters, mut passives, mut detractors) = (0, 0, 0);
    for answer in answers::tally(conn, scope, &answers::keys(&questions)).await? {
        match answer.score {
            Some(9..) => promoters += answer.n,
            Some(7..9) => passives += answer.n,
            Some(_) => detractors += answer.n,
            None => {}
        }
    }
    Ok(Counted {
        counts: Counts::Net { promoters, passives, detractors },
        detail: Some(answers::sentence(&questions, "a question of type “nps”")),
    })
}
