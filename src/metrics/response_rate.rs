//! How many of those who were mailed answered.
//!
//! Close to the response rates 5 and 6 of AAPOR's Standard Definitions: who could not be reached is not in the denominator. A first
//! mail that bounced after the relay had accepted it is, because nothing here reads bounces.

use sqlx::PgConnection;

use super::figure::Counts;
use super::{Counted, Scope};

pub(super) async fn count(conn: &mut PgConnection, scope: &Scope<'_>) -> sqlx::Result<Counted> {
    // An answer belongs to the order and survey: it may have come through the link of a reminder.
    let row = sqlx::query!(
        r#"select count(*) filter (where state = 'sent') as "sent!",
                  count(*) filter (where state = 'unknown') as "unknown!",
                  count(*) filter (where state = 'sent' and exists (
                      select from response r
                      where r.shop_id = i.shop_id and r.order_id = i.order_id and r.survey = i.survey
                        and r.invitation_id is not null and r.verdict = 'human' and r.answered_at <= $2
                  )) as "answered!"
           from invitation i
           where shop_id = $1 and wave = 0 and state in ('sent', 'unknown')
             and coalesce(sent_at, decided_at) <= $2
             and ($3::timestamptz is null or coalesce(sent_at, decided_at) >= $3)
             and ($4::timestamptz is null or coalesce(sent_at, decided_at) < $4)"#,
        scope.shop.0,
        scope.span.as_of,
        scope.span.from,
        scope.span.to,
    )
    .fetch_one(conn)
    .await?;
    let counts = Counts::Share { hits: row.answered, total: row.sent, unknown: Some(row.unknown) };
    Ok(Counted { counts, with_suspects: None, detail: None })
}
