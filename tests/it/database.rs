//! The database: the embedded server through everything that can happen to it, the schema, and the pool.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use afterword::config::Config;
use afterword::db::embedded::{self, Durability, Server};
use afterword::db::{self, SchemaError};
use afterword::types::ShopId;
use chrono::TimeDelta;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions as _, PgPool};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};

use crate::support::factories::{self, Order, Response};
use crate::support::program::{Program, command, install, ran, shipped};
use crate::support::{TestDb, data_dir, on_own_runtime, say, shared, test_name};

async fn count(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn every_test_has_a_migrated_database_of_its_own() {
    let (one, other) = tokio::join!(TestDb::new(), TestDb::new());
    factories::shop(&one.pool, "plume").await;
    assert_eq!(count(&one.pool, "select count(*) from shop").await, 1);
    assert_eq!(count(&other.pool, "select count(*) from shop").await, 0);
    // The URL is for programs that the test starts: it leads to the same database.
    let by_url = PgPool::connect(&one.url).await.unwrap();
    assert_eq!(count(&by_url, "select count(*) from shop").await, 1);
}

#[tokio::test]
async fn the_factories_make_a_whole_story() {
    let db = TestDb::new().await;
    let shop = factories::shop(&db.pool, "plume").await;
    let customer = factories::customer(&db.pool, shop, "Claire@shop.example").await;
    assert_eq!(factories::customer(&db.pool, shop, "claire@shop.example").await, customer);
    let order = Order::new(shop, customer, "A-1").ordered_at("2026-02-01T10:00:00Z").insert(&db.pool).await;
    let sent_at = factories::at("2026-02-01T10:00:00Z") + TimeDelta::days(10);
    let invitation = factories::sent_invitation(&db.pool, shop, order, sent_at).await;
    let response =
        Response { invitation: Some(invitation), nps: Some(9), topic: None, ..Response::new(shop, order) };
    response.answered_at("2026-02-12T08:00:00Z").insert(&db.pool).await;
    assert_eq!(count(&db.pool, "select count(*) from answer").await, 4);
    // What the program reads back is the questionnaire it knows.
    let version = factories::survey_version(&db.pool, shop, factories::SURVEY).await;
    let mut connection = db.pool.acquire().await.unwrap();
    let asked = afterword::survey::asked(&mut connection, shop, version).await.unwrap();
    assert_eq!(asked.in_mail().unwrap().key, "recommend");
}

#[tokio::test]
async fn a_questionnaire_that_was_asked_before_is_found_without_waiting() {
    let program = Program::new(&shipped()).await;
    let context = program.context(factories::at("2026-03-12T10:00:00Z")).await;
    let (shop, _) = context.shops.by_key("maison").unwrap();
    let survey = context.config.survey("satisfaction").unwrap();
    let (mut one, mut other) = (context.pool.begin().await.unwrap(), context.pool.begin().await.unwrap());
    let first = afterword::survey::version(&mut one, shop, survey, context.clock.now()).await.unwrap();
    one.commit().await.unwrap();
    let mut one = context.pool.begin().await.unwrap();
    // A transaction that takes minutes, and another one meanwhile: whoever waits is refused after `lock_timeout`.
    for transaction in [&mut one, &mut other] {
        let again = afterword::survey::version(transaction, shop, survey, context.clock.now()).await;
        assert_eq!(again.unwrap(), first);
    }
}

#[tokio::test]
async fn what_the_database_quotes_is_not_repeated() {
    let db = TestDb::new().await;
    let refused: Result<i32, _> = sqlx::query_scalar("select 'Canary'::text::int").fetch_one(&db.pool).await;
    let error = anyhow::Error::from(refused.unwrap_err()).context("reading");
    assert!(format!("{error:#}").contains("Canary"), "{error:#}");
    assert_eq!(afterword::masked::reason(&error), "reading: the database refused it with 22P02");
}

#[test]
fn directories_and_data_sets() {
    let directory = data_dir();
    assert!(directory.path().is_dir());
    if let Some(shared) = shared() {
        assert!(shared.join("data").is_dir());
    }
}

#[tokio::test]
async fn the_program_knows_its_schema() {
    let db = TestDb::empty().await;
    let error = db::check_schema(&db.pool).await.unwrap_err().to_string();
    assert!(error.contains("afterword migrate"), "{error}");
    let options = db.options();
    // Instances that start together migrate together.
    let (one, other, third) =
        tokio::join!(db::migrate(&options), db::migrate(&options), db::migrate(&options),);
    one.and(other).and(third).unwrap();
    db::check_schema(&db.pool).await.unwrap();
}

/// A directory that a server's user can reach, whoever we are.
fn open_dir() -> TempDir {
    let directory = data_dir();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

async fn start(root: &Path) -> Server {
    embedded::start(root, Durability::None).await.unwrap()
}

/// Tells one run of a server from another.
async fn started_at(options: PgConnectOptions) -> String {
    let mut connection = options.connect().await.unwrap();
    let sql = "select pg_postmaster_start_time()::text";
    sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
}

fn server_pid(root: &Path) -> Option<Pid> {
    let text = fs::read_to_string(root.join("data/postmaster.pid")).ok()?;
    Some(Pid::from_raw(text.lines().next()?.parse().ok()?))
}

/// Waits until the server of this directory has gone.
async fn gone(root: &Path, pid: Pid) {
    for _ in 0..1000 {
        if server_pid(root).is_none() && !Path::new(&format!("/proc/{pid}/cwd")).exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the server {pid} is still there after ten seconds");
}

/// Another process that uses a server: this test binary, running [`holder`] alone.
struct Holder {
    process: Child,
    /// When the server it uses was started.
    started_at: String,
}

impl Holder {
    fn spawn(root: &Path) -> Child {
        Self::command(&std::env::current_exe().unwrap(), root).spawn().unwrap()
    }

    fn command(program: &Path, root: &Path) -> Command {
        let mut command = Command::new(program);
        command.args(["--exact", "database::holder", "--ignored", "--nocapture"]);
        command.env("HOLD", root).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    }

    /// Waits until it uses the server.
    fn ready(mut process: Child) -> Self {
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut lines = lines.map_while(Result::ok);
        let line = lines.find_map(|line| line.split_once("holding ").map(|(_, rest)| rest.to_owned()));
        Self { process, started_at: line.expect("the other process uses the server") }
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Not a test: the body of [`Holder`]. Uses the server in the directory `HOLD` until its standard input ends.
#[test]
#[ignore = "no test: started by tests"]
#[expect(clippy::print_stdout, reason = "tells the test that started it")]
fn holder() {
    let Some(root) = std::env::var_os("HOLD") else { return };
    let server = on_own_runtime(async {
        let server = start(Path::new(&root)).await;
        println!("\nholding {}", started_at(server.options()).await);
        server
    });
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    on_own_runtime(server.close());
}

#[tokio::test]
async fn a_server_starts_is_shared_and_stops_after_its_last_user() {
    let dir = open_dir();
    let root = dir.path().join("postgres");
    let first = start(&root).await;
    assert_eq!(first.root(), root.canonicalize().unwrap());
    let second = start(&root).await;
    let running = started_at(first.options()).await;
    assert_eq!(started_at(second.options()).await, running);
    let pid = server_pid(&root).unwrap();
    // The one who started it goes, and takes no notice of the other.
    first.close().await;
    assert_eq!(started_at(second.options()).await, running);
    second.close().await;
    assert_eq!(server_pid(&root), None, "close waits for the end");
    gone(&root, pid).await;
    let again = start(&root).await;
    assert_ne!(started_at(again.options()).await, running);
    // Nobody else may look in.
    for private in [root.clone(), root.join("run"), root.join("data")] {
        assert_eq!(fs::metadata(&private).unwrap().mode() & 0o077, 0, "{}", private.display());
    }
    // Memory that is written and then executed is what packaging/systemd forbids.
    let mut connection = again.options().connect().await.unwrap();
    let jit: String = sqlx::query_scalar("show jit").fetch_one(&mut connection).await.unwrap();
    assert_eq!(jit, "off");
}

#[tokio::test]
async fn a_killed_process_leaves_no_server_behind() {
    let dir = open_dir();
    let root = dir.path().join("postgres");
    let holder = Holder::ready(Holder::spawn(&root));
    let pid = server_pid(&root).unwrap();
    // While we use it too, it stays.
    let server = start(&root).await;
    let first_run = holder.started_at.clone();
    assert_eq!(started_at(server.options()).await, first_run);
    holder.kill();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut connection = server.options().connect().await.unwrap();
    sqlx::raw_sql("create table kept (id int)").execute(&mut connection).await.unwrap();
    drop(connection);
    drop(server);
    gone(&root, pid).await;
    // Whoever comes at any moment after the kill gets a server that works and stays: the old one when there was still time to say
    // so, else a new one.
    for delay in [0, 5, 10, 20, 40, 80] {
        let holder = Holder::ready(Holder::spawn(&root));
        assert_ne!(holder.started_at, first_run);
        holder.kill();
        tokio::time::sleep(Duration::from_millis(delay)).await;
        let server = start(&root).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut connection = server.options().connect().await.unwrap();
        sqlx::raw_sql("select from kept").execute(&mut connection).await.unwrap();
        server.close().await;
        assert_eq!(server_pid(&root), None);
    }
}

#[tokio::test]
async fn two_first_starts_at_once_share_one_server() {
    let dir = open_dir();
    let root = dir.path().join("postgres");
    let processes = [(); 3].map(|()| Holder::spawn(&root));
    let [a, b, c] = processes.map(Holder::ready);
    assert_eq!(a.started_at, b.started_at);
    assert_eq!(b.started_at, c.started_at);
    let pid = server_pid(&root).unwrap();
    for holder in [c, a, b] {
        holder.kill();
    }
    gone(&root, pid).await;
}

#[tokio::test]
async fn what_an_accident_left_behind_is_no_obstacle() {
    let dir = open_dir();
    let root = dir.path().join("postgres");
    let server = start(&root).await;
    server.close().await;
    fs::remove_dir_all(root.join("data")).unwrap();
    // Initialising was interrupted.
    fs::create_dir_all(root.join("data.tmp/base")).unwrap();
    fs::write(root.join("data.tmp/PG_VERSION"), "15\n").unwrap();
    start(&root).await.close().await;
    assert!(!root.join("data.tmp").exists());
    // The machine went down, and the number of the server now belongs to another process; or its file is empty.
    for left_over in [format!("{}\n/elsewhere\n", std::process::id()), String::new(), "4194000\n".to_owned()]
    {
        fs::write(root.join("data/postmaster.pid"), left_over).unwrap();
        let server = start(&root).await;
        started_at(server.options()).await;
        server.close().await;
    }
    // The server itself was killed, while its user goes on.
    let user = start(&root).await;
    kill(server_pid(&root).unwrap(), Signal::SIGKILL).unwrap();
    let other = start(&root).await;
    started_at(user.options()).await;
    other.close().await;
    user.close().await;
    // Somebody else's files are not thrown away.
    let dir = open_dir();
    let root = dir.path().join("postgres");
    start(&root).await.close().await;
    fs::remove_file(root.join("data/PG_VERSION")).unwrap();
    let error = embedded::start(&root, Durability::Full).await.unwrap_err().to_string();
    assert!(error.contains("no Postgres cluster"), "{error}");
    // Neither is a cluster of another version.
    fs::write(root.join("data/PG_VERSION"), "12\n").unwrap();
    let error = embedded::start(&root, Durability::Full).await.unwrap_err().to_string();
    assert!(error.contains("made by Postgres 12") && error.contains("pg_dump"), "{error}");
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let dir = open_dir();
    let root = dir.path().join("postgres");
    start(&root).await.close().await;
    fs::write(root.join("data/postgresql.conf"), "no_such_setting = 1\n").unwrap();
    let error = embedded::start(&root, Durability::Full).await.unwrap_err().to_string();
    assert!(error.contains("no_such_setting"), "{error}");
    // In tests a cluster that does not start is made anew.
    start(&root).await.close().await;
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_works() {
    let dir = open_dir();
    let root = dir.path().join("x".repeat(100)).join("a, b").join("postgres");
    let server = start(&root).await;
    started_at(server.options()).await;
    assert_eq!(server.root(), root.canonicalize().unwrap());
    let sockets = server.options().get_socket().unwrap().clone();
    assert_eq!(fs::metadata(&sockets).unwrap().mode() & 0o777, 0o700);
    server.close().await;
    fs::remove_dir_all(sockets).unwrap();
}

#[tokio::test]
async fn as_root_the_server_goes_where_its_user_can_reach() {
    if !Uid::effective().is_root() {
        return say(&format!("SKIPPED {}: only root has this problem", test_name()));
    }
    let dir = data_dir();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let root = dir.path().join("postgres");
    let server = start(&root).await;
    started_at(server.options()).await;
    let elsewhere = server.root().to_owned();
    assert_eq!(elsewhere.parent().unwrap(), Path::new("/var/lib/afterword"));
    // The same directory leads to the same place.
    let second = start(&root).await;
    assert_eq!(second.root(), elsewhere);
    second.close().await;
    server.close().await;
    fs::remove_dir_all(elsewhere).unwrap();
}

#[tokio::test]
async fn a_plain_user_has_a_server_too() {
    if !Uid::effective().is_root() {
        return say(&format!("SKIPPED {}: the other tests show it", test_name()));
    }
    let Ok(Some(nobody)) = User::from_name("nobody") else {
        return say(&format!("SKIPPED {}: there is no user nobody", test_name()));
    };
    let dir = open_dir();
    // The user cannot necessarily reach the place where this binary lies.
    let program = dir.path().join("it");
    install(&std::env::current_exe().unwrap(), &program);
    let home = dir.path().join("home");
    fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(nobody.uid.as_raw()), Some(nobody.gid.as_raw())).unwrap();
    let root = home.join("postgres");
    let mut command = Holder::command(&program, &root);
    let holder = Holder::ready(command.uid(nobody.uid.as_raw()).gid(nobody.gid.as_raw()).spawn().unwrap());
    let pid = server_pid(&root).unwrap();
    assert_eq!(fs::metadata(format!("/proc/{pid}")).unwrap().uid(), nobody.uid.as_raw());
    // It is that user's; we do not touch it.
    let error = embedded::start(&root, Durability::Full).await.unwrap_err().to_string();
    assert!(error.contains("not a directory of the user"), "{error}");
    holder.kill();
    gone(&root, pid).await;
}

/// A configuration with this database; the rest is as shipped.
fn config(dir: &Path, url: Option<&str>) -> Config {
    let mut config = Config::parse(&dir.join("jobs.toml"), afterword::cli::init::SHIPPED).unwrap();
    config.app.data_dir = dir.to_owned();
    config.database.url = url.map(str::to_owned);
    config
}

#[tokio::test]
async fn without_a_url_the_embedded_server_is_used() {
    let dir = open_dir();
    let database = db::open(&config(dir.path(), None)).await.unwrap();
    database.migrate().await.unwrap();
    database.check_schema().await.unwrap();
    assert_eq!(database.embedded_root().unwrap(), dir.path().join("postgres").canonicalize().unwrap());
    database.close().await;
    assert_eq!(server_pid(&dir.path().join("postgres")), None);
}

#[tokio::test]
async fn a_url_that_does_not_work_is_an_error_and_keeps_its_password() {
    let dir = open_dir();
    for url in [
        "postgres://shop:hush-hush@127.0.0.1:1/shop",
        "postgres://shop:hush-hush@db.invalid/shop",
        "postgres://shop:hush-hush@127.0.0.1:hush-hush/shop",
        "postgres://shop:hush-hush@[/shop",
        "mysql://shop:hush-hush@127.0.0.1/shop",
        "hush-hush",
    ] {
        let error = db::open(&config(dir.path(), Some(url))).await.unwrap_err();
        let shown = format!("{error:#} {error:?}");
        assert!(shown.contains("database"), "{shown}");
        assert!(!shown.contains("hush"), "{shown}");
        assert!(!dir.path().join("postgres").exists(), "no silent fallback");
    }
    let db = TestDb::new().await;
    let wrong = db.url.replace("/test_", "/no_such_");
    let error = db::open(&config(dir.path(), Some(&wrong))).await.unwrap_err();
    assert!(format!("{error:#}").contains("does not exist"), "{error:#}");
    db::open(&config(dir.path(), Some(&db.url))).await.unwrap().close().await;
}

#[tokio::test]
async fn a_schema_of_another_program_is_refused() {
    let db = TestDb::new().await;
    let run = |sql| sqlx::raw_sql(sql).execute(&db.pool);
    run("insert into _sqlx_migrations values (9000, 'later', now(), true, '\\x00', 1)").await.unwrap();
    for refused in [db::check_schema(&db.pool).await, db::migrate(&db.options()).await] {
        let error = refused.unwrap_err();
        assert!(matches!(error, SchemaError::Unknown(9000)), "{error}");
        assert!(error.to_string().contains("does not know"), "{error}");
    }
    run("delete from _sqlx_migrations where version = 9000").await.unwrap();
    db::check_schema(&db.pool).await.unwrap();
    run("update _sqlx_migrations set checksum = '\\x00' where version = 2").await.unwrap();
    for refused in [db::check_schema(&db.pool).await, db::migrate(&db.options()).await] {
        assert!(matches!(refused, Err(SchemaError::Changed(2))), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_migrate_says_what_to_do_and_two_that_may_both_start() {
    let program = Program::new(&shipped()).await;
    let empty = TestDb::empty().await;
    let jobs = || {
        let mut jobs = command(program.dir.path());
        jobs.env("DATABASE_URL", &empty.url).arg("jobs").stdout(Stdio::piped()).stderr(Stdio::piped());
        jobs
    };
    let configure = |auto_migrate: bool| {
        let migrates = format!("auto_migrate = {auto_migrate} ");
        program.write("jobs.toml", shipped().replace("auto_migrate = true ", &migrates));
    };
    let refused = |expected: &str| {
        let said = ran(jobs().output().unwrap()).expect(1).stderr;
        assert!(said.contains(expected) && said.contains("run `afterword migrate`"), "{said}");
    };
    configure(false);
    refused("the database lacks version 1 of the schema");
    assert_eq!(count(&empty.pool, "select count(*) from pg_tables where schemaname = 'public'").await, 0);

    configure(true);
    for ended in [jobs().spawn().unwrap(), jobs().spawn().unwrap()] {
        ran(ended.wait_with_output().unwrap()).expect(0);
    }
    configure(false);
    ran(jobs().output().unwrap()).expect(0);
    // As an older program has left it.
    sqlx::raw_sql("delete from _sqlx_migrations where version = (select max(version) from _sqlx_migrations)")
        .execute(&empty.pool)
        .await
        .unwrap();
    refused("the database lacks version 20 of the schema (fence)");
}

#[tokio::test]
async fn the_server_limits_what_we_may_not_cut_off() {
    let db = TestDb::new().await;
    let mut transaction = db.pool.begin().await.unwrap();
    let show = |name: &'static str| sqlx::query_scalar::<_, String>("select current_setting($1)").bind(name);
    for (name, value) in [
        ("statement_timeout", "30s"),
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "1min"),
        ("application_name", "afterword"),
    ] {
        assert_eq!(show(name).fetch_one(&mut *transaction).await.unwrap(), value, "{name}");
    }
    let pages = db::Beside::of(&db.pool).pages;
    for (name, value) in
        [("statement_timeout", "10s"), ("lock_timeout", "3s"), ("idle_in_transaction_session_timeout", "15s")]
    {
        assert_eq!(show(name).fetch_one(&pages).await.unwrap(), value, "{name} of the pages");
    }
    db::lift_statement_timeout(&mut transaction).await.unwrap();
    assert_eq!(show("statement_timeout").fetch_one(&mut *transaction).await.unwrap(), "0");
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn work_that_may_take_long_is_not_cut_off() {
    let program = Program::new(&shipped()).await;
    program.run(&["migrate"]).expect(0);
    // Whoever writes these rows says how long its statements may take.
    sqlx::raw_sql(
        "create function refuse_haste() returns trigger language plpgsql as $$
         begin
             if current_setting('statement_timeout') <> '0' then
                 raise exception 'cut off after %', current_setting('statement_timeout');
             end if;
             return new;
         end $$;
         create trigger t before insert on import_run for each row execute function refuse_haste();
         create trigger t before insert on invitation for each row execute function refuse_haste();
         create trigger t before insert on export_run for each row execute function refuse_haste();",
    )
    .execute(&program.db.pool)
    .await
    .unwrap();
    let orders =
        "order_id,email,ordered_at,fulfilled_at\nA-1,claire@customer.example,2026-03-01,2026-03-03\n";
    program.write("orders.csv", orders);
    program.write("answers.csv", "order_id,answered_at,recommend\nA-1,2026-03-12,yes\n");
    for args in [
        &["import", "orders", "orders.csv"][..],
        &["import", "responses", "answers.csv"],
        &["--as-of", "2026-03-12", "run", "send-invitations"],
        &["export", "testimonials"],
    ] {
        program.run(args).expect(0);
    }
    assert_eq!(count(&program.db.pool, "select count(*) from invitation").await, 1);
}

/// A line to the server of this database that takes a while, so that there is time to cut something off.
async fn slow_line(options: &PgConnectOptions) -> PgConnectOptions {
    async fn carry(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin) {
        let mut bytes = vec![0; 8192];
        while let Ok(n @ 1..) = from.read(&mut bytes).await {
            tokio::time::sleep(Duration::from_millis(3)).await;
            if to.write_all(&bytes[..n]).await.is_err() {
                return;
            }
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let socket = options.get_socket().unwrap().join(".s.PGSQL.5432");
    tokio::spawn(async move {
        while let Ok((ours, _)) = listener.accept().await {
            let (from_us, to_us) = ours.into_split();
            let (from_server, to_server) = UnixStream::connect(&socket).await.unwrap().into_split();
            tokio::spawn(carry(from_us, to_server));
            tokio::spawn(carry(from_server, to_us));
        }
    });
    PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port)
        .ssl_mode(PgSslMode::Disable)
        .username(options.get_username())
        .database(options.get_database().unwrap())
}

/// How many of a hundred writes that succeeded are there, after as many `begin`s that were cut off, and how many were made.
async fn writes_after_cut_off_begins(make_pool: impl FnOnce(PgConnectOptions) -> PgPool) -> (i64, i64) {
    let db = TestDb::new().await;
    sqlx::raw_sql("create table note (id int)").execute(&db.pool).await.unwrap();
    let pool = make_pool(slow_line(&db.options()).await);
    let mut written = 0;
    for i in 0..100 {
        // What a web server does to a handler whose client went away.
        let cut_off = tokio::time::timeout(Duration::from_millis(i % 20), pool.begin()).await;
        drop(cut_off);
        if i % 4 == 0 && sqlx::query("insert into note values (1)").execute(&pool).await.is_ok() {
            written += 1;
        }
    }
    // What was not committed is gone once the connection is.
    pool.close().await;
    (count(&db.pool, "select count(*) from note").await, written)
}

#[tokio::test]
async fn a_cut_off_begin_does_not_swallow_later_writes() {
    let (kept, written) = writes_after_cut_off_begins(|options| db::pool(options, 4)).await;
    assert_eq!((kept, written), (25, 25));
}

/// Each use of a connection would be a line in the log of a server that has Postgres's settings.
#[tokio::test]
async fn giving_back_a_connection_is_no_warning_in_the_servers_log() {
    let dir = open_dir();
    let root = dir.path().join("postgres");
    let server = start(&root).await;
    let pool = db::pool(server.options().options([("log_min_messages", "warning")]), 1);
    for _ in 0..3 {
        sqlx::raw_sql("select 1").execute(&pool).await.unwrap();
    }
    sqlx::raw_sql("do $$ begin raise warning 'so it would look'; end $$").execute(&pool).await.unwrap();
    pool.close().await;
    let log = fs::read_to_string(root.join("postgres.log")).unwrap();
    let warnings: Vec<_> = log.lines().filter(|line| line.contains("WARNING")).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("so it would look"), "{warnings:?}");
    server.close().await;
}

/// The reason for the `rollback` after each use of a connection. When this fails, sqlx has mended it and the `rollback` can go.
#[tokio::test]
async fn without_the_rollback_it_would() {
    let (kept, written) = writes_after_cut_off_begins(|options| {
        PgPoolOptions::new().max_connections(4).connect_lazy_with(options)
    })
    .await;
    assert!(kept < written, "{kept} of {written}");
}

/// Postgres looks at a table by itself after a tenth more of it; until then a new shop beside a large one passes for a single row.
#[tokio::test]
async fn a_new_shop_beside_a_large_one_is_known_as_soon_as_it_has_many_rows() {
    let db = TestDb::new().await;
    let mut conn = db.pool.acquire().await.unwrap();
    let rows = |shop: i32, from: i32, n: i32| {
        format!(
            "insert into suppression (shop_id, address_hash, reason, created_at)
             select {shop}, int4send(n), 'manual', now() from generate_series({from}, {from} + {n} - 1) n;"
        )
    };
    let large = rows(1, 1, 20_000);
    let large =
        format!("alter table suppression set (autovacuum_enabled = false); {large} analyze suppression");
    sqlx::raw_sql(sqlx::AssertSqlSafe(large)).execute(&mut *conn).await.unwrap();
    for (from, n, is_known) in [(1, 900, false), (1_001, 1_500, true)] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(rows(2, from, n))).execute(&mut *conn).await.unwrap();
        let added = u64::try_from(n).unwrap();
        db::analyze_grown(&mut conn, db::Table::Suppression, ShopId(2), added).await.unwrap();
        let known = "select count(*) from pg_stats
                     where tablename = 'suppression' and attname = 'shop_id' and 2 = any(most_common_vals::text::int[])";
        assert_eq!(
            sqlx::query_scalar::<_, i64>(known).fetch_one(&mut *conn).await.unwrap() == 1,
            is_known,
            "{n}"
        );
    }
}
