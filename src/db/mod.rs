//! The one Postgres: which one it is, how we connect to it, and whether its schema is the one this program knows.
//!
//! In: `[database]` of jobs.toml. Out: a pool, to an existing server when a URL is given, else to a private server under `data_dir`
//! ([`embedded`]). A URL that does not work is an error: writing to another database than the operator named would be worse than
//! not working.
//!
//! If we die half way: a migration is one transaction with the row that records it, so it is there or it is not.

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, PgPool};

use self::outage::Watch;
use self::pools::{Pools, Whose};
use crate::config::Config;
use crate::types::ShopId;

/// Connections to a replica: reports are made two at a time.
const READING: u32 = 4;

pub mod again;
pub mod backup;
pub mod embedded;
pub mod outage;
pub mod pooler;
pub mod pools;

/// The migrations, compiled in.
pub static MIGRATOR: Migrator = sqlx::migrate!();

/// An open database. Close it with [`Database::close`]; dropping it is safe, but does not wait.
#[derive(Debug)]
pub struct Database {
    /// The jobs' and the commands'.
    pub pool: PgPool,
    pub beside: Beside,
    options: PgConnectOptions,
    /// The embedded server, when that is what we use.
    server: Option<embedded::Server>,
}

/// Opens the database of the configuration.
///
/// # Errors
/// When it does not answer, in words that never contain the password.
pub async fn open(config: &Config) -> anyhow::Result<Database> {
    let (options, server) = match &config.database.url {
        Some(url) => (from_url(url)?, None),
        None => {
            let root = config.app.data_dir.join("postgres");
            let server = embedded::start(&root, embedded::Durability::Full).await?;
            (server.options(), Some(server))
        }
    };
    let name = describe(&options);
    // A pool repeats a refused connection until its time is up and then says only that; a single connection tells why. It belongs to
    // nobody, so that it may be cut off.
    let connected = tokio::time::timeout(Duration::from_secs(10), connect(&options)).await;
    let connected = connected
        .map_err(|_| anyhow::anyhow!("it does not answer within 10 seconds"))
        .and_then(|connected| connected.map_err(pooler::explained))
        .with_context(|| format!("cannot use the database {name}"));
    let mut connection = connected?;
    pooler::is_direct(&mut connection).await.with_context(|| format!("cannot use the database {name}"))?;
    connection.close().await.ok();
    match &server {
        Some(server) => {
            tracing::info!("using the embedded Postgres in {}, database {name}", server.root().display());
        }
        None => tracing::info!("using the database {name}"),
    }
    let (n_jobs, n_pages) = shares(config.database.max_connections);
    let pool = pool(options.clone(), n_jobs);
    let pools = Pools::default();
    let reading = match &config.database.read_url {
        Some(url) => {
            let reading = self::pool(from_url(url).context("[database] read_url")?, READING);
            pools.add(Whose::Reading, &reading);
            reading
        }
        None => pool.clone(),
    };
    let pages = pages_pool(options.clone(), n_pages);
    pools.add(Whose::Jobs, &pool);
    pools.add(Whose::Pages, &pages);
    let beside = Beside { pages, reading, outage: Watch::default(), pools };
    Ok(Database { pool, beside, options, server })
}

/// What there is of a database beside the jobs' pool. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Beside {
    /// The pages' own: a job that holds all of its connections, or waits in all of them, keeps no visitor waiting.
    pub pages: PgPool,
    /// Where figures are read: the replica that `read_url` names, else the jobs' pool.
    pub reading: PgPool,
    /// Whether the database is at fault just now.
    pub outage: Watch,
    /// All pools of this process.
    pub pools: Pools,
}

impl Beside {
    /// For a database of which only a pool is known.
    pub fn of(pool: &PgPool) -> Self {
        let pages = pages_pool(pool.connect_options().as_ref().clone(), 4);
        let pools = Pools::default();
        pools.add(Whose::Jobs, pool);
        pools.add(Whose::Pages, &pages);
        Self { pages, reading: pool.clone(), outage: Watch::default(), pools }
    }

    async fn close(&self) {
        self.pages.close().await;
        self.reading.close().await;
    }
}

/// How many of so many connections are the jobs', and how many the pages': these have a quarter, and at least two.
pub fn shares(max_connections: u32) -> (u32, u32) {
    let of_pages = (max_connections / 4).max(2);
    (max_connections.saturating_sub(of_pages), of_pages)
}

impl Database {
    /// Brings the schema up to date. Several processes may do so at once: they wait for each other.
    ///
    /// # Errors
    /// [`SchemaError`], or what the database says.
    pub async fn migrate(&self) -> Result<(), SchemaError> {
        migrate(&self.options).await
    }

    /// Whether the schema is exactly the one this program knows.
    ///
    /// # Errors
    /// [`SchemaError`] when it is not.
    pub async fn check_schema(&self) -> Result<(), SchemaError> {
        check_schema(&self.pool).await
    }

    /// Where the embedded server keeps its data, when that is what we use.
    pub fn embedded_root(&self) -> Option<&std::path::Path> {
        self.server.as_ref().map(embedded::Server::root)
    }

    /// Closes the connections, and stops the embedded server if nobody else uses it.
    pub async fn close(self) {
        self.pool.close().await;
        self.beside.close().await;
        if let Some(server) = self.server {
            server.close().await;
        }
    }
}

/// Why this program and this database do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Somebody newer was here.
    #[error(
        "the database has version {0} of the schema, which this program does not know; use the newer afterword that migrated it"
    )]
    Unknown(i64),
    /// We are newer.
    #[error("the database lacks version {version} of the schema ({description}); run `afterword migrate`")]
    Missing { version: i64, description: String },
    /// A migration is not what it was.
    #[error(
        "version {0} of the schema was applied with other contents than this program has; use the afterword that migrated the database"
    )]
    Changed(i64),
    /// The database did not answer, or refused.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// A migration failed.
    #[error(transparent)]
    Migration(MigrateError),
}

impl From<MigrateError> for SchemaError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::VersionMissing(version) => Self::Unknown(version),
            MigrateError::VersionMismatch(version) => Self::Changed(version),
            error => Self::Migration(error),
        }
    }
}

/// As [`Database::migrate`], on a connection of its own: other limits hold, and the lock that keeps two migrations apart belongs to
/// a session, which is no business of the pool's.
///
/// # Errors
/// As [`Database::migrate`].
pub async fn migrate(options: &PgConnectOptions) -> Result<(), SchemaError> {
    let mut connection = connect(options).await?;
    // Waiting for another instance's migration is waiting for a lock.
    sqlx::raw_sql("set statement_timeout = 0; set lock_timeout = '10min'").execute(&mut connection).await?;
    let migrated = MIGRATOR.run(&mut connection).await;
    connection.close().await.ok();
    Ok(migrated?)
}

/// As [`Database::check_schema`].
///
/// # Errors
/// As [`Database::check_schema`].
pub async fn check_schema(pool: &PgPool) -> Result<(), SchemaError> {
    compare_schema(pool, Asks::ToBegin).await
}

/// Whether the schema still has all that this program knows: what a newer program has added since is no fault, because a schema only
/// expands for as long as a running version needs what is there (CONTRIBUTING.md).
///
/// # Errors
/// [`SchemaError`] when something is missing or has changed.
pub async fn still_fits(pool: &PgPool) -> Result<(), SchemaError> {
    compare_schema(pool, Asks::ToGoOn).await
}

/// Who asks whether the schema fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// A program that starts: which newer programs there were, and whether they still expand what it knows, it cannot tell.
    ToBegin,
    /// One that was running when a newer one came.
    ToGoOn,
}

async fn compare_schema(pool: &PgPool, asks: Asks) -> Result<(), SchemaError> {
    // Not `query!`: the table is sqlx's, and is not there before the first migration.
    let applied =
        sqlx::query_as("select version, checksum from _sqlx_migrations where success").fetch_all(pool).await;
    let applied: Vec<(i64, Vec<u8>)> = match applied {
        Err(error) if is_code(&error, "42P01") => Vec::new(),
        applied => applied?,
    };
    let applied = BTreeMap::from_iter(applied);
    let is_unknown = |version: &i64| !MIGRATOR.version_exists(*version);
    if let (Asks::ToBegin, Some(version)) = (asks, applied.keys().copied().find(is_unknown)) {
        return Err(SchemaError::Unknown(version));
    }
    for migration in MIGRATOR.iter() {
        let version = migration.version;
        match applied.get(&version) {
            None => {
                return Err(SchemaError::Missing { version, description: migration.description.to_string() });
            }
            Some(checksum) if *checksum != *migration.checksum => return Err(SchemaError::Changed(version)),
            Some(_) => {}
        }
    }
    Ok(())
}

/// A pool with the limits that hold everywhere in this program. Connections are made when they are needed.
///
/// Nothing may cut off a future that uses a connection, so the time limits are the server's: a statement gets 30 s, a lock 5 s, an
/// open transaction that does nothing 60 s. Work that may take longer says [`lift_statement_timeout`].
pub fn pool(options: PgConnectOptions, max_connections: u32) -> PgPool {
    pool_as_is(limited(options), max_connections)
}

/// The connections of one run of a job, `most` of them or as many as this pool has. They connect as it does and say whose they are (`fence`),
/// so that the database can refuse what they write once the run is over (`migrations/20_fence.sql`). A transaction that does nothing is ended
/// after `idle`, which has to be shorter than the lease: of a program that was stopped, nothing is left open when another takes over.
pub fn pool_of_run(pool: &PgPool, fence: &str, idle: Duration, most: u32) -> PgPool {
    let idle = format!("{}ms", idle.as_millis());
    let options = (*pool.connect_options())
        .clone()
        .options([(FENCE, fence), ("idle_in_transaction_session_timeout", idle.as_str())]);
    pool_as_is(options, pool.options().get_max_connections().min(most))
}

/// The setting that says for which run a connection works.
const FENCE: &str = "afterword.job_run";

/// The same connection, but nobody's: for what has a fence of its own and must be written even when its run was taken for dead.
pub fn unfenced(options: &PgConnectOptions) -> PgConnectOptions {
    options.clone().options([(FENCE, "")])
}

/// Lets this transaction hold the fence of its run from here to its end, for one that reads all of its tables as of its beginning.
///
/// # Errors
/// When the run is over, or the database does not answer.
pub async fn hold_fence(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql("select hold_fence()").execute(connection).await?;
    Ok(())
}

/// The same for the pages, which give a request 15 s: what takes longer would be finished for nobody, and what waits for a lock that long
/// would keep others waiting.
fn pages_pool(options: PgConnectOptions, max_connections: u32) -> PgPool {
    let options = limited(options).options([
        ("statement_timeout", "10s"),
        ("lock_timeout", "3s"),
        ("idle_in_transaction_session_timeout", "15s"),
    ]);
    pool_as_is(options, max_connections)
}

fn pool_as_is(options: PgConnectOptions, max_connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(Duration::from_secs(5))
        // A wait is no warning: one that is too long is an error, and the metrics tell of pools that are full (`pools.rs`).
        .acquire_slow_threshold(Duration::MAX)
        .after_release(|connection, _| {
            Box::pin(async move {
                // A `begin` that was cut off (its web request was dropped) leaves a connection in the pool that is inside a
                // transaction sqlx does not know of; what the next borrower writes is then never committed, although each
                // statement succeeds. Outside a transaction this does nothing; without the `begin` each would be a warning in the
                // server's log. In one that has failed, where no ordinary way leads, it is refused, and the pool warns and lets go of the connection.
                sqlx::raw_sql("begin; rollback").execute(connection).await?;
                Ok(true)
            })
        })
        .connect_lazy_with(untold(options))
}

/// Lets the transaction that this connection is in run longer than a statement usually may: for imports and other long work.
///
/// # Errors
/// When the database does not answer.
pub async fn lift_statement_timeout(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql("set local statement_timeout = 0").execute(connection).await?;
    Ok(())
}

/// What is done by one at a time in a shop.
#[derive(Debug, Clone, Copy)]
pub enum Turn {
    Imports,
    Decisions,
    Exports,
}

impl Turn {
    /// How its lock is called.
    fn name(self) -> &'static str {
        match self {
            Self::Imports => "imports",
            Self::Decisions => "decisions",
            Self::Exports => "exports",
        }
    }
}

/// Waits for a turn and keeps it to the end of the transaction.
///
/// # Errors
/// When the database does not answer, or others take too long.
pub async fn take_turn(connection: &mut PgConnection, turn: Turn, shop: ShopId) -> sqlx::Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtext($1), $2)", turn.name(), shop.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes a turn and keeps it to the end of the transaction; `false`: somebody else has it.
///
/// # Errors
/// When the database does not answer.
pub async fn try_turn(connection: &mut PgConnection, turn: Turn, shop: ShopId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select pg_try_advisory_xact_lock(hashtext($1), $2) as "is_ours!""#,
        turn.name(),
        shop.0
    )
    .fetch_one(connection)
    .await
}

/// So many rows of a shop are worth statistics.
const MANY: u64 = 1000;

/// The tables that grow in leaps.
#[derive(Debug, Clone, Copy)]
pub enum Table {
    Customer,
    Order,
    Invitation,
    Response,
    Answer,
    ResponseAside,
    Suppression,
    Bounce,
}

impl Table {
    /// How it is called in SQL, and what brings its statistics up to date.
    const fn statements(self) -> (&'static str, &'static str) {
        match self {
            Self::Customer => ("customer", "analyze customer"),
            Self::Order => ("\"order\"", "analyze \"order\""),
            Self::Invitation => ("invitation", "analyze invitation"),
            Self::Response => ("response", "analyze response"),
            Self::Answer => ("answer", "analyze answer"),
            Self::ResponseAside => ("response_aside", "analyze response_aside"),
            Self::Suppression => ("suppression", "analyze suppression"),
            Self::Bounce => ("bounce", "analyze bounce"),
        }
    }
}

/// Gives the planner statistics of those of these tables that have rows and were never looked at, as after a restore (which brings none before Postgres 18):
/// without any it takes a join of two histories for one of a few rows, which then takes minutes. A standby gets its statistics from its
/// primary.
///
/// # Errors
/// When the database does not answer.
pub async fn analyze_unknown(pool: &PgPool, tables: &[Table]) -> sqlx::Result<()> {
    let names: Vec<_> = tables.iter().map(|table| table.statements().0.to_owned()).collect();
    let unknown = sqlx::query_scalar!(
        r#"select name as "name!"
           from (
               select name, oid, reltuples from unnest($1::text[]) as t (name) join pg_class on oid = name::regclass
               offset 0 -- or the sizes of all files there are would be asked for
           ) as t
           where reltuples < 0 and pg_relation_size(oid) > 0 and not pg_is_in_recovery()"#,
        &names,
    )
    .fetch_all(pool)
    .await?;
    for table in tables {
        let (name, analyze) = table.statements();
        if unknown.iter().any(|unknown| unknown == name) {
            sqlx::raw_sql(analyze).execute(pool).await?;
        }
    }
    Ok(())
}

/// Brings the planner's statistics up to date after rows of a shop were added, when they are a tenth or more of what it knows of, or many
/// and the first it would know of this shop. Postgres does so by itself within a minute or so, of a new shop beside a large one after a
/// tenth more; until then it plans as if there were one row, and what runs next takes a hundred times as long.
///
/// # Errors
/// When the database does not answer.
pub async fn analyze_grown(
    connection: &mut PgConnection,
    table: Table,
    shop: ShopId,
    n_added: u64,
) -> sqlx::Result<()> {
    let (name, analyze) = table.statements();
    let known = sqlx::query!(
        r#"select greatest(t.reltuples, 0)::float8 as "n!",
             exists (
               select from pg_stats s
               where s.schemaname = t.relnamespace::regnamespace::text and s.tablename = t.relname and s.attname = 'shop_id'
                 and $2 = any(s.most_common_vals::text::int[])
             ) as "has_shop!"
           from pg_class t where t.oid = $1::text::regclass"#,
        name,
        shop.0,
    )
    .fetch_one(&mut *connection)
    .await?;
    #[expect(clippy::cast_precision_loss, reason = "a tenth more or less decides nothing")]
    let has_grown = n_added as f64 > known.n / 10.0;
    if has_grown || (n_added >= MANY && !known.has_shop) {
        sqlx::raw_sql(analyze).execute(connection).await?;
    }
    Ok(())
}

async fn connect(options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
    untold(limited(options.clone())).connect().await
}

/// No statement is ever logged by us: sqlx would warn, with its whole text, of each that takes a second. Work that takes its time says so
/// itself, and of the rest the server can tell (README.md, When the database is away).
fn untold(options: PgConnectOptions) -> PgConnectOptions {
    options.disable_statement_logging()
}

fn limited(options: PgConnectOptions) -> PgConnectOptions {
    options.application_name("afterword").options([
        ("statement_timeout", "30s"),
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "60s"),
        // Compiling a query costs more than it saves on statements that take a second or less.
        ("jit", "off"),
        pooler::KEPT,
        // Otherwise a `begin` that was cut off is a warning in our log once more, when its connection is given back.
        ("client_min_messages", "error"),
    ])
}

fn from_url(url: &str) -> anyhow::Result<PgConnectOptions> {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    if !matches!(scheme, Some("postgres" | "postgresql")) {
        anyhow::bail!("the database url must start with postgres://");
    }
    // The words of the error are about a part of the URL and do not repeat it; its source might.
    PgConnectOptions::from_str(url).map_err(|error| match error {
        sqlx::Error::Configuration(_) => anyhow::anyhow!(
            "the database url cannot be read; it looks like postgres://user:password@host:5432/database, \
             with special characters in the password written as %XX"
        ),
        error => anyhow::anyhow!(error),
    })
}

/// The database as people know it, without the password.
fn describe(options: &PgConnectOptions) -> String {
    let user = options.get_username();
    let database = options.get_database().unwrap_or(user);
    match options.get_socket() {
        Some(socket) => format!("{database} of {user} through the socket in {}", socket.display()),
        None => format!("postgres://{user}@{}:{}/{database}", options.get_host(), options.get_port()),
    }
}

/// Whether the database said this, by its SQLSTATE.
pub(crate) fn is_code(error: &sqlx::Error, code: &str) -> bool {
    error.as_database_error().and_then(|error| error.code()).as_deref() == Some(code)
}
