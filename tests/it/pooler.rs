//! Through pgbouncer in transaction mode: the pages work, if it is new enough; what does not work says so at the start.
//!
//! `scripts/pgbouncer.sh` finds or unpacks one; `make test` calls it. `PGBOUNCER` names another.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use afterword::config::Config;
use afterword::context::Context;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::collect::{another_order, exchange, post};
use crate::pages::{Site, listen};
use crate::support::program::{Program, shipped};
use crate::support::{TestDb, data_dir, say, test_name};

/// A running pgbouncer. It ends with this value.
struct Pooler {
    /// Major and minor.
    version: (u32, u32),
    port: u16,
    child: Child,
    _dir: TempDir,
}

impl Pooler {
    /// Starts one in transaction mode before the server of a test's database, which lends three connections to all of its clients;
    /// `None`, with a line that cannot be overlooked, where there is none.
    fn start(db: &TestDb, more: &str) -> Option<Self> {
        let Some(program) = program() else {
            say(&format!("SKIPPED {}: there is no pgbouncer; see scripts/pgbouncer.sh", test_name()));
            return None;
        };
        let output = Command::new(&program).arg("--version").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut numbers = text.split_whitespace().nth(1).unwrap().split('.').map(|n| n.parse().unwrap());
        let version = (numbers.next().unwrap(), numbers.next().unwrap());

        let dir = data_dir();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let options = db.options();
        let socket = options.get_socket().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let prepared = if is_able(version) { "max_prepared_statements = 100" } else { "" };
        let ini = format!(
            "[databases]\n* = host={} port={} user={} connect_query='{CONNECT_QUERY}'\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = 3\n{prepared}\n{more}\n",
            socket.display(),
            options.get_port(),
            options.get_username(),
        );
        let path = dir.path().join("pgbouncer.ini");
        std::fs::write(&path, ini).unwrap();
        let mut command = Command::new(&program);
        command.arg("-q").arg(&path);
        if nix::unistd::Uid::effective().is_root() {
            // It refuses to be root; the server's own user may open the socket.
            let uid = nix::unistd::Uid::from_raw(std::fs::metadata(socket).unwrap().uid());
            command.args(["-u", &nix::unistd::User::from_uid(uid).unwrap().unwrap().name]);
        }
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(Self { version, port, child, _dir: dir });
            }
            assert!(child.try_wait().unwrap().is_none(), "pgbouncer has ended");
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("pgbouncer does not listen")
    }

    fn url(&self, db: &TestDb) -> String {
        let database = db.options().get_database().unwrap().to_owned();
        format!("postgres://afterword@127.0.0.1:{}/{database}", self.port)
    }
}

/// Whether it keeps the prepared statements of its clients apart.
fn is_able(version: (u32, u32)) -> bool {
    version >= (1, 21)
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn program() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "the tests are told so by the environment")]
    if let Ok(named) = std::env::var("PGBOUNCER") {
        return Some(PathBuf::from(named));
    }
    let target = Path::new(env!("CARGO_BIN_EXE_afterword")).ancestors().nth(2).unwrap();
    // Unpacked where what is installed is too old.
    let places =
        [target.join("pgbouncer/pgbouncer"), "/usr/sbin/pgbouncer".into(), "/usr/local/bin/pgbouncer".into()];
    places.into_iter().find(|place| place.exists())
}

/// As README.md says.
const CONNECT_QUERY: &str = "set statement_timeout to 30000; set lock_timeout to 5000; \
                             set idle_in_transaction_session_timeout to 60000; set client_min_messages to error";

const FLOATS: &str = "ignore_startup_parameters = extra_float_digits";

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_the_place_of_postgres_is_refused_in_words() {
    let program = Program::new(&shipped()).await;
    // One that refuses our settings, and one that swallows them.
    for more in ["", FLOATS, "ignore_startup_parameters = extra_float_digits,options"] {
        let Some(pooler) = Pooler::start(&program.db, more) else { return };
        let direct = format!("url = {:?}", program.db.url);
        let jobs_toml = std::fs::read_to_string(program.path("jobs.toml")).unwrap();
        program.write(
            "pooled.toml",
            jobs_toml.replace(&direct, &format!("url = {:?}", pooler.url(&program.db))),
        );
        let refused = program.run(&["--config", "pooled.toml", "jobs"]).expect(1);
        assert!(refused.stderr.contains("as pooled_url, for the pages"), "{}", refused.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_work_through_a_pooler_that_keeps_prepared_statements_apart() {
    let site = Site::new().await;
    let Some(pooler) = Pooler::start(&site.database, FLOATS) else { return };
    let through = |url: String| {
        let mut config = Config::clone(&site.context.config);
        config.database.pooled_url = Some(url);
        Context { config: Arc::new(config), ..site.context.clone() }
    };
    let (address, stop, served) = listen(&through(pooler.url(&site.database))).await;
    if !is_able(pooler.version) {
        let error = format!("{:#}", served.await.unwrap().unwrap_err());
        assert!(error.contains("has to be 1.21 or newer") && error.contains("pooled_url"), "{error}");
        let (major, minor) = pooler.version;
        say(&format!(
            "SKIPPED the pages through a pooler: pgbouncer is {major}.{minor}, and has to be 1.21 or newer"
        ));
        return;
    }
    // More clients than the pooler has connections, each page more than once.
    let mut posts = JoinSet::new();
    for n in 0..60 {
        let (_, invitation) = another_order(&site, &format!("P-{n}")).await;
        let request = post(&site, invitation, "recommend=yes&comment=through+a+pooler");
        let survey = site.survey();
        posts.spawn(async move {
            let looked =
                exchange(address, &format!("GET {survey} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
                    .await
                    .0;
            (looked, exchange(address, &request).await.0)
        });
    }
    assert_eq!(posts.join_all().await, [(200, 303); 60]);
    assert_eq!(site.count("response").await, 60);
    // The settings of the connection that writes the answers are left behind in none that others get.
    let left_behind: Vec<String> = {
        let options = pooler.url(&site.database).parse::<PgConnectOptions>().unwrap();
        let mut settings = Vec::new();
        for _ in 0..9 {
            let mut connection = options.connect().await.unwrap();
            let sql = "select current_setting('enable_seqscan')";
            settings.push(sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap());
            connection.close().await.unwrap();
        }
        settings
    };
    assert_eq!(left_behind, ["on"; 9]);
    stop.cancel();
    served.await.unwrap().unwrap();
    // Without the pooler's leave to ignore a setting that every connection of ours names; and told to be as it was before 1.21.
    let mixing = format!("{FLOATS}\nmax_prepared_statements = 0");
    for (more, words) in [
        ("", "ignore_startup_parameters = extra_float_digits"),
        (&mixing, "does not keep prepared statements apart"),
    ] {
        let Some(wrong) = Pooler::start(&site.database, more) else { return };
        let (_, _, served) = listen(&through(wrong.url(&site.database))).await;
        let error = format!("{:#}", served.await.unwrap().unwrap_err());
        assert!(error.contains(words), "{error}");
    }
}
