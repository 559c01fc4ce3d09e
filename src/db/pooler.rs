//! What works through a connection pooler, and what does not.
//!
//! pgbouncer in transaction mode gives each transaction whatever connection is free. What the pages ask can live with that: each
//! transaction stands alone, prepared statements are pgbouncer's business from 1.21 on (`max_prepared_statements`), and the limits of
//! time are set by its `connect_query`. Everything else needs Postgres itself: the few connections that write down what was sent and who
//! came, whose settings say how durable and how patient they are, and must not be left behind in a connection that others get; the jobs,
//! whose connections say for which run they write ([`pool_of_run`](super::pool_of_run)); the migrations, which wait for each other with
//! a session's lock. So `[database] url` leads to Postgres, and `pooled_url` may lead to a pooler; what leads to the wrong one is told
//! at the start.

use anyhow::{Context as _, bail};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, PgPool};

use super::{describe, from_url, is_code, pool_as_is};

/// What to do when `url` leads to a pooler.
const DIRECT: &str = "[database] url has to lead to Postgres itself, because jobs and migrations need connections of their own; \
                      give the pooler's address as pooled_url, for the pages";

/// What a connection asks for at its beginning, to see whether it is kept. A pooler may have the limits of time from elsewhere.
pub(super) const KEPT: (&str, &str) = ("afterword.kept", "yes");

/// Makes sure that a new connection has taken what it asked for: a pooler refuses or forgets it.
pub(super) async fn is_direct(connection: &mut PgConnection) -> anyhow::Result<()> {
    let kept: Option<String> =
        sqlx::query_scalar("select current_setting($1, true)").bind(KEPT.0).fetch_one(connection).await?;
    if kept.as_deref() != Some(KEPT.1) {
        bail!("its connections do not keep what is set at their beginning, so it is a pooler: {DIRECT}");
    }
    Ok(())
}

/// In words, where the error of a connection that could not be made is a pooler's, or says that there is no room for it.
pub(super) fn explained(error: sqlx::Error) -> anyhow::Error {
    let is_poolers = is_code(&error, "08P01")
        && error.as_database_error().is_some_and(|error| error.message().contains("startup parameter"));
    if is_poolers {
        anyhow::anyhow!("it is a pooler and refuses the settings of our connections: {DIRECT}")
    } else if is_code(&error, "53300") {
        anyhow::Error::from(error).context(
            "it has no connection left for us: as many are open as its max_connections, or the limit of our role or database, allows",
        )
    } else {
        error.into()
    }
}

/// The connections of the pages through `pooled_url`.
///
/// # Errors
/// When it does not answer, or does not keep prepared statements apart.
pub async fn pages(url: &str, max_connections: u32) -> anyhow::Result<PgPool> {
    let options = super::untold(from_url(url)?.application_name("afterword"));
    probe(&options).await.with_context(|| {
        format!("the pages cannot use the database {} ([database] pooled_url)", describe(&options))
    })?;
    Ok(pool_as_is(options, max_connections))
}

/// Two clients, one after the other, prepare what each of them calls the same: a pooler that does not know of it hands the second one a
/// connection where that name is taken.
async fn probe(options: &PgConnectOptions) -> anyhow::Result<()> {
    let mut first = options.connect().await.map_err(in_words)?;
    let limit: String = sqlx::query_scalar("select current_setting('statement_timeout')")
        .fetch_one(&mut first)
        .await
        .map_err(in_words)?;
    let mut second = options.connect().await.map_err(in_words)?;
    for connection in [&mut second, &mut first] {
        sqlx::query_scalar::<_, i32>("select 1").fetch_one(connection).await.map_err(in_words)?;
    }
    if limit == "0" {
        tracing::warn!(
            "the pages' statements have no limit of time, which a pooler does not let us set; give pgbouncer a connect_query \
             that does (README.md, Several instances)"
        );
    }
    first.close().await.ok();
    second.close().await.ok();
    Ok(())
}

fn in_words(error: sqlx::Error) -> anyhow::Error {
    if ["42P05", "26000"].iter().any(|code| is_code(&error, code)) {
        anyhow::anyhow!(
            "it is a pooler that does not keep prepared statements apart: pgbouncer in transaction mode has to be 1.21 or newer, \
             with max_prepared_statements = 100"
        )
    } else if is_code(&error, "08P01") {
        anyhow::anyhow!(
            "it is a pooler that refuses our connections: pgbouncer needs ignore_startup_parameters = extra_float_digits"
        )
    } else {
        error.into()
    }
}
