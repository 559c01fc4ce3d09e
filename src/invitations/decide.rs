//! Who is asked: one statement decides about every order of a shop that became due, and writes why.
//!
//! Everything the decision needs is an argument or a row, so the same moment and the same rows give the same decision; a dry run is
//! the real statement, rolled back. Two deciders at once wait for each other, because the throttle looks at what the other writes.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use sqlx::postgres::types::PgInterval;

use super::SkipReason;
use crate::survey::{Survey, Trigger};
use crate::types::{ShopId, SurveyVersionId};

/// What was decided.
#[derive(Debug, Default)]
pub struct Decided {
    pub n_queued: u64,
    pub n_skipped: BTreeMap<SkipReason, u64>,
    /// Order by order, when listed.
    pub decisions: Vec<Decision>,
}

/// The decision about one order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The shop's name for the order.
    pub order_id: String,
    pub due_at: DateTime<Utc>,
    /// `None`: it is asked.
    pub skip_reason: Option<SkipReason>,
}

/// Decides about every order that became due and has no decision yet. `list`: also tell them one by one.
///
/// # Errors
/// When the database does not answer.
pub async fn decide(
    conn: &mut PgConnection,
    shop: ShopId,
    survey: &Survey,
    version: SurveyVersionId,
    sampling_key: &[u8],
    now: DateTime<Utc>,
    list: bool,
) -> anyhow::Result<Decided> {
    sqlx::query_scalar!(r#"select pg_advisory_xact_lock(hashtext('decide'), $1) as "lock!: ()""#, shop.0)
        .fetch_one(&mut *conn)
        .await?;
    let before = sqlx::query_scalar!(
        r#"select coalesce(max(invitation_id), 0) as "before!" from invitation where shop_id = $1"#,
        shop.0
    )
    .fetch_one(&mut *conn)
    .await?;
    // A share of the 2^32 values that the first 32 bits of a hash can have.
    #[expect(clippy::cast_possible_truncation, reason = "the share lies between 0 and 1")]
    let threshold = (survey.sample * 4_294_967_296.0).round() as i64;
    let counts = sqlx::query_file!(
        "src/invitations/decide.sql",
        shop.0,
        survey.key,
        version.0,
        now,
        survey.trigger == Trigger::Ordered,
        interval(survey.delay),
        interval(survey.max_lateness),
        interval(survey.throttle),
        threshold,
        sampling_key,
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut decided = Decided::default();
    for row in counts {
        let n = u64::try_from(row.n).unwrap_or_default();
        match row.reason {
            None => decided.n_queued = n,
            Some(reason) => {
                decided.n_skipped.insert(reason, n);
            }
        }
    }
    if list {
        decided.decisions = sqlx::query_as!(
            Decision,
            r#"select o.external_id as order_id, i.due_at, i.skip_reason as "skip_reason: SkipReason"
               from invitation i join "order" o using (shop_id, order_id)
               where i.shop_id = $1 and i.survey = $2 and i.invitation_id > $3
               order by i.invitation_id"#,
            shop.0,
            survey.key,
            before,
        )
        .fetch_all(conn)
        .await?;
    }
    Ok(decided)
}

fn interval(delta: TimeDelta) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: delta.num_microseconds().unwrap_or(i64::MAX) }
}
