//! How many of those who were mailed answered, by two of the definitions of AAPOR (Standard Definitions, section "Internet surveys of
//! specifically named persons", <https://studylib.net/doc/11336690>): response rate 5, in which whoever could not be reached is not in the
//! denominator, and response rate 1, in which everybody is who was to be mailed. An answer counts as complete: the page takes none in
//! which a required question is left open.

use sqlx::PgConnection;

use super::figure::Counts;
use super::{Counted, Scope};

/// AAPOR's response rate 5. Who answered was reached, whatever came back.
pub(super) async fn count(conn: &mut PgConnection, scope: &Scope<'_>) -> sqlx::Result<Counted> {
    let FirstMails { reached, answered, unknown, .. } = first_mails(conn, scope).await?;
    let counts = Counts::Share { hits: answered, total: reached, unknown: Some(unknown) };
    Ok(Counted { counts, with_suspects: None, detail: None })
}

/// AAPOR's response rate 1.
pub(super) async fn count_rr1(conn: &mut PgConnection, scope: &Scope<'_>) -> sqlx::Result<Counted> {
    let FirstMails { all, complete, .. } = first_mails(conn, scope).await?;
    Ok(Counted::share(complete, all))
}

/// First mails of which the relay heard.
struct FirstMails {
    all: i64,
    /// Answered.
    complete: i64,
    unknown: i64,
    /// The relay took it, and it did not come back.
    reached: i64,
    /// Of these.
    answered: i64,
}

async fn first_mails(conn: &mut PgConnection, scope: &Scope<'_>) -> sqlx::Result<FirstMails> {
    // An answer belongs to the order and survey: it may have come through the link of a reminder.
    sqlx::query_as!(
        FirstMails,
        r#"select count(*) as "all!",
                  count(*) filter (where is_answered) as "complete!",
                  count(*) filter (where state = 'unknown') as "unknown!",
                  count(*) filter (where state = 'sent' and (is_answered or not exists (
                      select from bounce
                      where bounce.shop_id = $1 and bounce.invitation_id = mail.invitation_id and kind = 'hard' and received_at <= $2
                  ))) as "reached!",
                  count(*) filter (where state = 'sent' and is_answered) as "answered!"
           from (
               select state, invitation_id, exists (
                          select from response r
                          where r.shop_id = i.shop_id and r.order_id = i.order_id and r.survey = i.survey
                            and r.invitation_id is not null and r.verdict = 'human' and r.answered_at <= $2
                      ) as is_answered
               from invitation i
               where shop_id = $1 and wave = 0 and state in ('sent', 'unknown', 'failed')
                 and coalesce(sent_at, decided_at) <= $2
                 and ($3::timestamptz is null or coalesce(sent_at, decided_at) >= $3)
                 and ($4::timestamptz is null or coalesce(sent_at, decided_at) < $4)
           ) as mail"#,
        scope.shop.0,
        scope.span.as_of,
        scope.span.from,
        scope.span.to,
    )
    .fetch_one(conn)
    .await
}
