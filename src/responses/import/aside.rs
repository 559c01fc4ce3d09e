//! Answers whose order is not there yet. They come in with a file, are kept as they were read, and go out when their order has come: as
//! the responses they would have been at once, of the version of the survey that they were read with. Each import of orders and of
//! answers tries them again; where nothing waits, that is one look at an index.
//!
//! One transaction stores them and takes them away from here, so that they are in one place if we die half way; one that did not happen
//! is made up for by the next import, and takes nothing from what the report says of the file that went in before it. After [`PATIENCE`] a row is a reject of the run that read it.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use super::{Merge, texts};
use crate::db::{self, Table, Turn, again};
use crate::import::ImportError;
use crate::import::rejects::Reject;
use crate::import::run::{self, Destination, ImportReport, Waited};
use crate::masked;
use crate::survey;
use crate::types::{ImportRunId, ShopId, SurveyVersionId};

/// So long a row waits for its order.
pub const PATIENCE: TimeDelta = TimeDelta::days(90);

/// What the rows of a file have in common that are kept aside.
pub(super) struct Kept<'a> {
    pub shop: ShopId,
    pub run: ImportRunId,
    pub survey: &'a str,
    pub version: SurveyVersionId,
    /// What the file calls the columns that an order is looked for by: its id, the address.
    pub by: [Option<String>; 2],
}

impl Kept<'_> {
    /// Keeps the staged rows without an order. Returns how many there are that did not wait already.
    pub async fn keep(&self, connection: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<u64> {
        let [order_id, email] = &self.by;
        let kept = sqlx::query(include_str!("keep_aside.sql"))
            .persistent(false)
            .bind(self.shop)
            .bind(self.run)
            .bind(self.survey)
            .bind(self.version)
            .bind(now)
            .bind(order_id)
            .bind(email)
            .execute(connection)
            .await?;
        Ok(kept.rows_affected())
    }
}

/// [`try_again`] once a file is in, which is so whatever becomes of this: a fault goes into its report.
pub async fn try_after(report: &mut ImportReport, to: Destination<'_>, now: DateTime<Utc>) {
    match try_again(to, now).await {
        Ok(waited) => report.waited = waited,
        Err(ImportError::Database(error)) => report.not_tried = Some(masked::reason(&error.into())),
        Err(error) => report.not_tried = Some(masked::words(&error.to_string())),
    }
}

/// Brings the planner up to date about what waits; after the commit, because it would lengthen the locks. The rows are in by then, and where
/// this fails Postgres does it by itself some time later.
pub(super) async fn grown(to: Destination<'_>, n_aside: u64) {
    let analyze = async {
        let mut connection = to.pool.acquire().await?;
        db::analyze_grown(&mut connection, Table::ResponseAside, to.shop, n_aside).await
    };
    if let Err(error) = analyze.await {
        let error = masked::reason(&error.into());
        tracing::warn!(error, "the planner's figures of answers that wait could not be brought up to date");
    }
}

/// Stores the answers whose order has come, and gives up on those that have waited too long. `None`: nothing was waiting. Is begun anew
/// by itself where the database has ended its transaction for the sake of another one.
///
/// # Errors
/// When the database fails; then they go on waiting.
pub async fn try_again(to: Destination<'_>, now: DateTime<Utc>) -> Result<Option<Waited>, ImportError> {
    let mut n_before = 0;
    loop {
        match try_once(to, now).await {
            Err(ImportError::Database(error)) if again::is_worth_another(&error, &mut n_before).await => {}
            ended => return ended,
        }
    }
}

async fn try_once(to: Destination<'_>, now: DateTime<Utc>) -> Result<Option<Waited>, ImportError> {
    let waits = sqlx::query_scalar!(
        r#"select exists (select from response_aside where shop_id = $1) as "waits!""#,
        to.shop.0
    )
    .fetch_one(to.pool)
    .await?;
    if !waits {
        return Ok(None);
    }

    let mut transaction = run::begin(to.pool).await?;
    db::take_turn(&mut transaction, Turn::Imports, to.shop).await?;
    sqlx::raw_sql(include_str!("stage.sql")).execute(&mut *transaction).await?;
    sqlx::raw_sql(
        "create temporary table found_aside (
             response_aside_id bigint not null, survey text not null, survey_version_id bigint not null,
             order_id bigint not null, locale text, erased boolean not null
         ) on commit drop",
    )
    .execute(&mut *transaction)
    .await?;
    let n_matched = sqlx::query(include_str!("find_aside.sql"))
        .persistent(false)
        .bind(to.shop)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
    if n_matched > 0 {
        store_found(&mut transaction, to, now).await?;
    }
    let expired = expire(&mut transaction, to.shop, now).await?;
    let n_waiting =
        sqlx::query_scalar!(r#"select count(*) as "n!" from response_aside where shop_id = $1"#, to.shop.0)
            .fetch_one(&mut *transaction)
            .await?;
    transaction.commit().await?;
    Ok(Some(Waited { n_matched, n_waiting: u64::try_from(n_waiting).unwrap_or_default(), ..expired }))
}

/// Stores what was found, survey by survey and version by version.
async fn store_found(
    connection: &mut PgConnection,
    to: Destination<'_>,
    now: DateTime<Utc>,
) -> Result<(), ImportError> {
    let found: Vec<(String, SurveyVersionId)> =
        sqlx::query_as("select distinct survey, survey_version_id from found_aside order by 1, 2")
            .persistent(false)
            .fetch_all(&mut *connection)
            .await?;
    for (survey, version) in found {
        let asked = survey::asked(connection, to.shop, version).await.map_err(|error| {
            match error.downcast::<sqlx::Error>() {
                Ok(error) => ImportError::Database(error),
                Err(error) => ImportError::Unusable(error.to_string()),
            }
        })?;
        sqlx::raw_sql("truncate staged_response, staged_answer").execute(&mut *connection).await?;
        sqlx::query(include_str!("stage_aside.sql"))
            .persistent(false)
            .bind(to.shop)
            .bind(&survey)
            .bind(version)
            .execute(&mut *connection)
            .await?;
        let merge = Merge {
            shop: to.shop,
            survey: &survey,
            version,
            texts: texts(&asked),
            locale: to.config.locale.as_str(),
            now,
        };
        let prepared = merge.prepare(connection).await?;
        merge.store(connection, prepared).await?;
    }
    sqlx::query(
        "delete from response_aside w using found_aside f
         where w.shop_id = $1 and w.response_aside_id = f.response_aside_id",
    )
    .persistent(false)
    .bind(to.shop)
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives up on what has waited too long.
async fn expire(connection: &mut PgConnection, shop: ShopId, now: DateTime<Utc>) -> sqlx::Result<Waited> {
    let days = PATIENCE.num_days();
    let rows = sqlx::query_file!(
        "src/responses/import/expire.sql",
        shop.0,
        now - PATIENCE,
        format!("is an order that has not come within {days} days"),
        format!(
            "is of a customer of whom no order has come within {days} days that is older than the answer"
        ),
    )
    .fetch_all(connection)
    .await?;
    Ok(Waited {
        n_expired: rows.first().map_or(0, |row| u64::try_from(row.n).unwrap_or_default()),
        rejects: rows
            .into_iter()
            .map(|row| Reject {
                line: u64::try_from(row.line).unwrap_or_default(),
                column: row.column,
                reason: row.reason,
            })
            .collect(),
        ..Waited::default()
    })
}
