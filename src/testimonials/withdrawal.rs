//! Authors take their words back. In: what a link leads to. Out: one statement, after which no revision of the words leaves any more, and
//! no moderator can approve one.
//!
//! Consent can be taken back at any time, so no date is looked at, and neither is what jobs.toml says today. The answer itself stays, and
//! the figures with it. Whoever agrees to publication once more writes a new revision, which waits for a moderator like any other.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::TestimonialState;
use crate::responses::store::Invited;
use crate::types::{OrderId, ShopId};

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
        r#"select t.state as "state: TestimonialState"
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
        Some(row) if row.state == TestimonialState::Withdrawn => Standing::Withdrawn,
        Some(_) => Standing::Offered,
    })
}

/// Takes back all that was written about the order in this survey, also what a later answer replaced.
///
/// # Errors
/// When the database does not answer; then nothing changed, or, if the connection broke, perhaps all of it.
pub async fn withdraw(conn: &mut PgConnection, invited: &Invited, now: DateTime<Utc>) -> sqlx::Result<()> {
    withdraw_all(conn, invited.shop, invited.order, &invited.survey, now).await
}

/// The same, for whoever knows the order. A mail that says that the words were rejected is called back.
pub(super) async fn withdraw_all(
    conn: &mut PgConnection,
    shop: ShopId,
    order: OrderId,
    survey: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "with withdrawn as (
             update testimonial t
             set state = 'withdrawn', reject_reason = null, decided_at = $4, by_rules = false
             from response r
             where r.shop_id = $1 and r.order_id = $2 and r.survey = $3
               and t.shop_id = r.shop_id and t.response_id = r.response_id and t.state <> 'withdrawn'
             returning t.shop_id, t.response_id
         )
         update rejection j set state = 'cancelled', settled_at = $4, claimed_by = null, lease_until = null
         from withdrawn w
         where j.shop_id = w.shop_id and j.response_id = w.response_id and j.state = 'queued'",
        shop.0,
        order.0,
        survey,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}
