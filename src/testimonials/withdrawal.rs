//! Authors take their words back. In: what a link leads to. Out: one statement, after which no revision of the words leaves any more, and
//! no moderator can approve one.
//!
//! Consent can be taken back at any time, so no date is looked at, and neither is what jobs.toml says today. The answer itself stays, and
//! the figures with it. Whoever agrees to publication once more writes a new revision, which waits for a moderator like any other.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::RejectReason;
use crate::responses::store::Invited;

/// Where an author's words about an order stand, for their author.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// There are none that may be published.
    Nothing,
    /// They are published, or may be once somebody has approved them.
    Offered,
    /// They were taken back.
    Withdrawn,
}

/// Where they stand.
///
/// # Errors
/// When the database does not answer.
pub async fn standing(conn: &mut PgConnection, invited: &Invited) -> sqlx::Result<Standing> {
    let counted = sqlx::query!(
        r#"select t.reject_reason as "reason: RejectReason"
           from response r
           join testimonial t using (shop_id, response_id)
           where r.shop_id = $1 and r.order_id = $2 and r.survey = $3 and r.counted"#,
        invited.shop.0,
        invited.order.0,
        invited.survey,
    )
    .fetch_optional(conn)
    .await?;
    Ok(match counted {
        None => Standing::Nothing,
        Some(row) if row.reason == Some(RejectReason::AuthorRequest) => Standing::Withdrawn,
        Some(_) => Standing::Offered,
    })
}

/// Takes back all that was written about the order in this survey, also what a later answer replaced.
///
/// # Errors
/// When the database does not answer; then nothing changed, or, if the connection broke, perhaps all of it.
pub async fn withdraw(conn: &mut PgConnection, invited: &Invited, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        "update testimonial t set state = 'rejected', reject_reason = 'author_request', decided_at = $4
         from response r
         where r.shop_id = $1 and r.order_id = $2 and r.survey = $3
           and t.shop_id = r.shop_id and t.response_id = r.response_id
           and t.reject_reason is distinct from 'author_request'",
        invited.shop.0,
        invited.order.0,
        invited.survey,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}
