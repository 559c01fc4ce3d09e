//! Who is asked: one statement decides about every order of a shop that became due, and writes why.
//!
//! Everything the decision needs is an argument or a row, so the same moment and the same rows give the same decision; a dry run is
//! the real statement, rolled back. A run looks at what became due or was imported since the last one, not at the whole history. Two deciders at once wait for each other, because the throttle looks at what the other writes.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use sqlx::postgres::types::PgInterval;

use super::Reason;
use crate::survey::{Survey, Trigger};
use crate::types::{ShopId, SurveyVersionId};

/// Before any shop's first order.
const BEGINNING: DateTime<Utc> = DateTime::UNIX_EPOCH;

/// What was decided.
#[derive(Debug, Default)]
pub struct Decided {
    pub n_queued: u64,
    pub n_skipped: BTreeMap<Reason, u64>,
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
    pub reason: Option<Reason>,
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
    // Read before the decision is made: what an import commits while we decide is looked at by the next run.
    let latest_import = latest_import(conn, shop).await?;
    let progress = progress(conn, shop, survey).await?;
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
        progress.due_until,
        progress.import_run_id,
    )
    .fetch_all(&mut *conn)
    .await?;
    let reached = Progress { due_until: now.max(progress.due_until), import_run_id: latest_import };
    note_progress(conn, shop, survey, &reached).await?;
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
            r#"select o.external_id as order_id, i.due_at, i.reason as "reason: Reason"
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

/// How far this survey has decided.
struct Progress {
    due_until: DateTime<Utc>,
    import_run_id: i64,
}

async fn progress(conn: &mut PgConnection, shop: ShopId, survey: &Survey) -> sqlx::Result<Progress> {
    let known = sqlx::query_as!(
        Progress,
        "select due_until, import_run_id from decided_until
         where shop_id = $1 and survey = $2 and rule = $3",
        shop.0,
        survey.key,
        rule(survey),
    )
    .fetch_optional(conn)
    .await?;
    Ok(known.unwrap_or(Progress { due_until: BEGINNING, import_run_id: 0 }))
}

/// The number of the last import that can be seen. Imports of a shop are committed one after the other in the order of their numbers, so
/// all before it can be seen, too.
async fn latest_import(conn: &mut PgConnection, shop: ShopId) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select coalesce(max(import_run_id), 0) as "latest!" from "order" where shop_id = $1"#,
        shop.0
    )
    .fetch_one(conn)
    .await
}

async fn note_progress(
    conn: &mut PgConnection,
    shop: ShopId,
    survey: &Survey,
    reached: &Progress,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into decided_until (shop_id, survey, rule, due_until, import_run_id, day, n_asked)
         values ($1, $2, $3, $4, $5, current_date, 0)
         on conflict (shop_id, survey) do update
         set rule = excluded.rule, due_until = excluded.due_until, import_run_id = excluded.import_run_id",
        shop.0,
        survey.key,
        rule(survey),
        reached.due_until,
        reached.import_run_id,
    )
    .execute(conn)
    .await?;
    Ok(())
}

fn rule(survey: &Survey) -> String {
    format!("{} {}s", survey.trigger.as_str(), survey.delay.num_seconds())
}

fn interval(delta: TimeDelta) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: delta.num_microseconds().unwrap_or(i64::MAX) }
}
