//! Customer satisfaction: the two best of five, of the first question of type `rating` of each survey.

use sqlx::PgConnection;

use super::answers;
use super::{Counted, Scope};
use crate::survey::QuestionKind;

pub(super) async fn count(conn: &mut PgConnection, scope: &Scope<'_>) -> sqlx::Result<Counted> {
    let questions = answers::first_of(scope, |question| matches!(question.kind, QuestionKind::Rating));
    let (mut satisfied, mut rated) = (0, 0);
    for answer in answers::tally(conn, scope, &answers::keys(&questions)).await? {
        let Some(score) = answer.score else { continue };
        rated += answer.n;
        if score >= 4 {
            satisfied += answer.n;
        }
    }
    let detail = Some(answers::sentence(&questions, "a question of type “rating”"));
    Ok(Counted { detail, ..Counted::share(satisfied, rated) })
}
