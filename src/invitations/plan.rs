//! What a run would do, order by order: read from the rows that its own statements wrote, before they are rolled back.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use super::{InvitationState, Reason};
use crate::survey::Survey;
use crate::types::{InvitationId, ShopId};

/// One line of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// The shop's name for the order.
    pub order_id: String,
    /// 0: the first mail.
    pub wave: i16,
    pub due_at: DateTime<Utc>,
    #[serde(flatten)]
    pub action: Action,
}

/// What would be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// It is mailed.
    Mail,
    /// It is to be mailed, and not in this run.
    Wait { why: Wait },
    /// It is decided against.
    Skip { reason: Reason },
    /// It waited, and is not mailed any more.
    GiveUp { reason: Reason },
}

/// What a mail waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// The shop's hours.
    SendWindow,
    /// Somebody to look, because a brake is pulled.
    Brake,
    /// The run's cap was reached before.
    MaxPerRun,
    /// Its next try, or its order's delivery, is later.
    NextAttempt,
}

/// What the statements of this transaction left to do.
#[derive(Debug, Clone, Copy)]
pub struct Left<'a> {
    pub shop: ShopId,
    pub survey: &'a Survey,
    /// The last invitation there was before them.
    pub before: InvitationId,
    /// Those they gave up.
    pub given_up: &'a [InvitationId],
    pub is_open: bool,
    pub is_braked: bool,
    pub now: DateTime<Utc>,
}

/// The last invitation of a shop.
///
/// # Errors
/// When the database does not answer.
pub async fn last_invitation(conn: &mut PgConnection, shop: ShopId) -> sqlx::Result<InvitationId> {
    sqlx::query_scalar!(
        r#"select coalesce(max(invitation_id), 0) as "last!: InvitationId" from invitation where shop_id = $1"#,
        shop.0
    )
    .fetch_one(conn)
    .await
}

/// The plan, in the order in which mails leave.
///
/// # Errors
/// When the database does not answer.
pub async fn plan(conn: &mut PgConnection, left: Left<'_>) -> sqlx::Result<Vec<Planned>> {
    let given_up: Vec<i64> = left.given_up.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"select o.external_id, i.wave, i.due_at, i.state as "state: InvitationState", i.reason as "reason: Reason",
               i.next_attempt_at
           from invitation i join "order" o using (shop_id, order_id)
           where i.shop_id = $1 and i.survey = $2
             and (i.invitation_id > $3 or i.state in ('queued', 'deferred') or i.invitation_id = any($4))
           order by i.next_attempt_at, i.invitation_id"#,
        left.shop.0,
        left.survey.key,
        left.before.0,
        &given_up,
    )
    .fetch_all(conn)
    .await?;
    let mut room = left.survey.max_per_run.map_or(u64::MAX, u64::from);
    let planned = rows.into_iter().map(|row| {
        let action = match (row.state, row.reason) {
            (InvitationState::Skipped, Some(reason)) => Action::Skip { reason },
            (_, Some(reason)) => Action::GiveUp { reason },
            (..) if row.next_attempt_at > left.now => Action::Wait { why: Wait::NextAttempt },
            (..) if !left.is_open => Action::Wait { why: Wait::SendWindow },
            (..) if left.is_braked => Action::Wait { why: Wait::Brake },
            (..) if room == 0 => Action::Wait { why: Wait::MaxPerRun },
            (..) => {
                room -= 1;
                Action::Mail
            }
        };
        Planned { order_id: row.external_id, wave: row.wave, due_at: row.due_at, action }
    });
    Ok(planned.collect())
}

impl Action {
    /// What a person reads.
    pub fn words(self) -> String {
        match self {
            Self::Mail => "mail".to_owned(),
            Self::Wait { why: Wait::SendWindow } => "mail later, inside the send window".to_owned(),
            Self::Wait { why: Wait::Brake } => "mail after somebody has looked".to_owned(),
            Self::Wait { why: Wait::MaxPerRun } => {
                "mail in a later run, this one's cap is reached".to_owned()
            }
            Self::Wait { why: Wait::NextAttempt } => "mail later, its time has not come".to_owned(),
            Self::Skip { reason } => format!("skip, {}", reason.words()),
            Self::GiveUp { reason } => format!("give up, {}", reason.words()),
        }
    }
}
