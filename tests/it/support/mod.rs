//! What the tests stand on: a database each, made-up rows, a directory, and the shared data sets.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use afterword::db::{self, embedded};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, PgPool};
use tempfile::TempDir;

pub mod browser;
pub mod config;
pub mod factories;
pub mod http;
pub mod program;
pub mod scripted;
pub mod sink;
pub mod smtp;

/// A migrated database of a test's own. It is dropped with this value.
///
/// All tests of all processes share one server, and each database is a copy of a template that is migrated once per content of the
/// migrations. The server stops when the last process that uses it has ended.
pub struct TestDb {
    pub pool: PgPool,
    /// For programs that the test starts.
    pub url: String,
    name: String,
}

impl TestDb {
    /// A new one with the schema of this program and nothing in it.
    pub async fn new() -> Self {
        Self::copy_of(Some(template_name())).await
    }

    /// A new one without anything, not even the schema.
    pub async fn empty() -> Self {
        Self::copy_of(None).await
    }

    /// A copy under another name, as somebody makes one to try something. The connections of this one are closed.
    pub async fn copy(&self) -> Self {
        self.pool.close().await;
        let mut copy = Self::copy_of(Some(self.name.clone())).await;
        copy.pool = db::pool(copy.options(), 10);
        copy
    }

    async fn copy_of(template: Option<String>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut admin = admin().await;
        let template = template.unwrap_or_else(|| "template0".to_owned());
        execute(&mut admin, format!("create database {name} template {template}")).await;
        admin.close().await.unwrap();
        let options = server_options().database(&name);
        let url = options.to_url_lossy().to_string();
        Self { pool: db::pool(options, 10), url, name }
    }

    /// How to connect to it.
    pub fn options(&self) -> PgConnectOptions {
        server_options().database(&self.name)
    }
}

impl Drop for TestDb {
    /// Best effort: what a killed test leaves behind is dropped by the next run.
    fn drop(&mut self) {
        let name = self.name.clone();
        let dropped = std::thread::spawn(move || {
            on_own_runtime(async {
                let mut admin = server_options().database("postgres").connect().await?;
                let sql = format!("drop database if exists {name} with (force)");
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await?;
                admin.close().await
            })
        });
        let _ = dropped.join();
    }
}

/// A directory that goes away with the value.
pub fn data_dir() -> TempDir {
    TempDir::with_prefix("afterword-").unwrap()
}

/// The data sets beside the checkout, or `None` with a line that cannot be overlooked.
pub fn shared() -> Option<PathBuf> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    if shared.is_dir() {
        return Some(shared);
    }
    say(&format!("SKIPPED {}: there is no {}", test_name(), shared.display()));
    None
}

/// Writes a line that the test harness does not swallow.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The name of the test that is running; the harness names its threads so.
pub fn test_name() -> String {
    std::thread::current().name().unwrap_or("a test").to_owned()
}

/// The same random numbers in every run (`SplitMix64`).
pub fn random(seed: usize) -> usize {
    let mut z = (seed as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from((z ^ (z >> 31)) >> 32).unwrap()
}

/// Runs a future on a runtime and a thread of its own, which works inside another runtime too.
pub fn on_own_runtime<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The server that all tests share. It lives until the process ends: each test has its own runtime, the server belongs to none.
fn server() -> &'static embedded::Server {
    static SERVER: OnceLock<embedded::Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let started = std::thread::spawn(|| {
            on_own_runtime(async {
                let user = nix::unistd::Uid::effective();
                let root = std::env::temp_dir().join(format!("afterword-test-{user}"));
                let server = embedded::start(&root, embedded::Durability::None).await;
                let server = server.unwrap_or_else(|error| panic!("the tests need Postgres: {error}"));
                prepare(&server).await;
                server
            })
        });
        started.join().expect("the tests need Postgres; see above")
    })
}

fn server_options() -> PgConnectOptions {
    server().options()
}

async fn admin() -> PgConnection {
    server_options().database("postgres").connect().await.unwrap()
}

async fn execute(connection: &mut PgConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

/// The template's name changes with any migration's content.
fn template_name() -> String {
    let mut content = std::hash::DefaultHasher::new();
    for migration in db::MIGRATOR.iter() {
        std::hash::Hash::hash(&(migration.version, &migration.checksum), &mut content);
    }
    format!("template_{:016x}", std::hash::Hasher::finish(&content))
}

/// Makes the template if need be, and drops what earlier runs left behind: the databases of dead processes, and the templates that
/// nobody used for a day (other checkouts may have other migrations). One process at a time does so.
async fn prepare(server: &embedded::Server) {
    let mut admin = server.options().database("postgres").connect().await.unwrap();
    execute(&mut admin, "select pg_advisory_lock(hashtext('afterword tests'))".to_owned()).await;
    let now: i64 =
        sqlx::query_scalar("select extract(epoch from now())::bigint").fetch_one(&mut admin).await.unwrap();
    let databases: Vec<(String, Option<String>)> =
        sqlx::query_as("select datname::text, shobj_description(oid, 'pg_database') from pg_database")
            .fetch_all(&mut admin)
            .await
            .unwrap();
    let template = template_name();
    for (name, last_used) in &databases {
        let left_over = if let Some(rest) = name.strip_prefix("test_") {
            let pid = rest.split('_').next().and_then(|pid| pid.parse().ok());
            pid.is_none_or(|pid| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None).is_err())
        } else {
            let last_used = last_used.as_deref().and_then(|time| time.parse().ok()).unwrap_or(0);
            name.starts_with("template_") && *name != template && now - last_used > 24 * 3600
        };
        if left_over {
            execute(&mut admin, format!("drop database if exists {name} with (force)")).await;
        }
    }
    if !databases.iter().any(|(name, _)| *name == template) {
        let unfinished = format!("{template}_unfinished");
        execute(&mut admin, format!("drop database if exists {unfinished} with (force)")).await;
        execute(&mut admin, format!("create database {unfinished}")).await;
        db::migrate(&server.options().database(&unfinished)).await.unwrap();
        // A closed connection's session may need a moment to end, and a database in use cannot be renamed.
        let rename = format!("alter database {unfinished} rename to {template}");
        for attempt in 1.. {
            match sqlx::raw_sql(AssertSqlSafe(rename.clone())).execute(&mut admin).await {
                Ok(_) => break,
                Err(error) if attempt == 100 => panic!("{error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
    execute(&mut admin, format!("comment on database {template} is '{now}'")).await;
    admin.close().await.unwrap();
}
