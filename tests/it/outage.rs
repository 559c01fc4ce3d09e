//! The database is full, takes no writes, is busy with jobs, or takes a transaction back: nothing is lost, everything waits and goes on by
//! itself, and people are told.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use afterword::cli;
use afterword::config::Config;
use afterword::context::Context;
use afterword::db::again::{again, n_retries};
use afterword::db::embedded::{self, Durability, Server};
use afterword::db::outage::Outage;
use afterword::db::pools::{Filling, Whose};
use afterword::jobs::ledger::Occurrence;
use afterword::jobs::runner::{Outcome, run_occurrence};
use afterword::scheduler::{self, Schedule};
use afterword::token::Purpose;
use afterword::types::Clock;
use afterword::{vitals, web};
use chrono::{DateTime, TimeDelta, Timelike as _, Utc};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{Connection as _, PgPool};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use tokio_util::sync::CancellationToken;

use crate::support::factories::{self, Order, Response};
use crate::support::program::{Program, command, ran, shipped};
use crate::support::{TestDb, data_dir, http, say, test_name};

/// How many orders lie in the drop folder: more than fit into what is left of a full disk.
const N_ORDERS: usize = 3_000;
const WORDS: &str = "Très bien, mais <b>l'emballage</b> & le reste…";

#[expect(clippy::disallowed_methods, reason = "the program serves on the system's clock")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

/// The shipped configuration, its survey under the name that the factories' invitations have.
fn config() -> String {
    shipped().replace("satisfaction", factories::SURVEY)
}

/// A small filesystem of its own; goes away with the value.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None`: the system does not let us make one.
    fn new(megabytes: u32) -> Option<Self> {
        let place = data_dir();
        let size = format!("size={megabytes}m,mode=755");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(place.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(place))
    }

    /// Takes all the room that is left.
    fn fill(&self) -> PathBuf {
        let path = self.0.path().join("filler");
        let mut filler = File::create(&path).unwrap();
        for size in [1 << 20, 4096, 1] {
            let block = vec![b'x'; size];
            while filler.write_all(&block).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// A shop that serves, on a server of its own, with a customer who was mailed and a file of orders that waits.
struct Site {
    dir: TempDir,
    server: Option<Server>,
    pool: PgPool,
    address: String,
    link: String,
    serving: Option<Child>,
}

impl Drop for Site {
    /// A test that fails leaves no program behind.
    fn drop(&mut self) {
        if let Some(serving) = &mut self.serving {
            let _ = serving.kill();
            let _ = serving.wait();
        }
    }
}

impl Site {
    async fn new(root: &Path) -> Self {
        let server = embedded::start(root, Durability::Full).await.unwrap();
        let url = server.options();
        let url = sqlx::ConnectOptions::to_url_lossy(&url).to_string();
        let dir = data_dir();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = "listen = \"127.0.0.1:8080\"";
        let due = "schedule = \"*/15 * * * *\"";
        assert!(shipped().contains(listen) && shipped().contains(due));
        let jobs_toml = config()
            .replacen(due, "schedule = \"* * * * *\"", 1)
            .replace(listen, &format!("listen = \"127.0.0.1:{port}\""))
            .replacen("[database]", &format!("[database]\nurl = {url:?}"), 1);
        let path = dir.path().join("jobs.toml");
        std::fs::write(&path, &jobs_toml).unwrap();
        // The program has its paths relative to where it runs; here only the secret matters.
        let mut config = Config::parse(&path, &jobs_toml).unwrap();
        config.app.data_dir = dir.path().join("data");
        config.app.secret_file = dir.path().join("data/secret");
        let opened = cli::open_config(config, Clock::Fixed(now())).await.unwrap();
        let pool = opened.context.pool.clone();
        let shop = factories::shop(&pool, "maison").await;
        let customer = factories::customer(&pool, shop, "claire@customer.example").await;
        let order = Order::new(shop, customer, "A-1").insert(&pool).await;
        let invitation = factories::sent_invitation(&pool, shop, order, now() - TimeDelta::days(2)).await;
        let token = opened.context.tokens.issue(Purpose::Survey, shop, invitation);
        let address = format!("http://127.0.0.1:{port}");
        let link = format!("{address}/s/{token}");
        Self { dir, server: Some(server), pool, address, link, serving: None }
    }

    async fn serve(&mut self) {
        let log = File::create(self.dir.path().join("log")).unwrap();
        self.serving = Some(command(self.dir.path()).arg("serve").stderr(log).spawn().unwrap());
        let url = format!("{}/livez", self.address);
        until("it serves", 30, async || ureq::get(&url).call().is_ok()).await;
    }

    /// Drops a file of orders, which is taken at once, because it is not being written to any more.
    fn drop_orders(&self) {
        let inbox = self.dir.path().join("data/inbox/orders");
        let mut orders = "order_id,email,ordered_at,fulfilled_at\n".to_owned();
        for n in 0..N_ORDERS {
            orders.push_str(&format!("{n},{n}@customer.example,2026-03-01,2026-03-03\n"));
        }
        std::fs::create_dir_all(&inbox).unwrap();
        std::fs::write(inbox.join("orders.csv"), orders).unwrap();
        let old = std::time::SystemTime::now() - Duration::from_secs(3600);
        File::options().write(true).open(inbox.join("orders.csv")).unwrap().set_modified(old).unwrap();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// Whether the server takes writes from now on.
    async fn takes_writes(&self, does: bool) {
        let mut connection = self.pool.acquire().await.unwrap();
        let sql = match does {
            true => "alter system reset default_transaction_read_only",
            false => "alter system set default_transaction_read_only = on",
        };
        sqlx::raw_sql(sql).execute(&mut *connection).await.unwrap();
        sqlx::raw_sql("select pg_reload_conf()").execute(&mut *connection).await.unwrap();
    }

    /// The program has not ended by itself.
    #[track_caller]
    fn expect_alive(&mut self) {
        let ended = self.serving.as_mut().unwrap().try_wait().unwrap();
        assert_eq!(ended, None, "{}", self.log());
    }

    /// Asks the program to end, which has not done so by itself.
    async fn close(mut self) {
        self.expect_alive();
        let mut serving = self.serving.take().unwrap();
        kill(Pid::from_raw(serving.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        assert_eq!(serving.wait().unwrap().code(), Some(0), "{}", self.log());
        self.pool.close().await;
        self.server.take().unwrap().close().await;
    }
}

/// Waits until something is so.
async fn until(what: &str, seconds: u64, mut is_so: impl AsyncFnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(seconds), "still not, after {seconds} s: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    begun.elapsed()
}

/// What was sent and how it was answered: status, `Retry-After`, page.
fn send(link: &str, fields: &[(String, String)]) -> (u16, Option<String>, String) {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build().into();
    let form = fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let request = agent.post(link).header("accept-language", "en-GB,en;q=0.9");
    let mut reply = request.send_form(form).unwrap();
    let retry = reply.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    (reply.status().as_u16(), retry, reply.body_mut().read_to_string().unwrap())
}

/// What a form of a page would send again.
fn hidden_fields(page: &str) -> Vec<(String, String)> {
    let page = scraper::Html::parse_document(page);
    let hidden = scraper::Selector::parse("form input[type=hidden]").unwrap();
    let attribute = |field: &scraper::ElementRef<'_>, name| field.value().attr(name).unwrap().to_owned();
    page.select(&hidden).map(|field| (attribute(&field, "name"), attribute(&field, "value"))).collect()
}

/// Begins an outage while a form is open and a job is due, and ends it. `words` are what the log calls it.
async fn is_waited_out<T>(
    mut site: Site,
    words: &str,
    begin: impl AsyncFnOnce(&mut Site) -> T,
    end: impl AsyncFnOnce(&mut Site, T),
) {
    site.serve().await;
    let page = http::get(&site.link);
    assert_eq!(page.status, 200, "{}", page.body);
    let outage = begin(&mut site).await;
    site.drop_orders();
    // As a person: not at once.
    tokio::time::sleep(Duration::from_secs(5)).await;
    site.expect_alive();
    let (status, retry, body) =
        send(&site.link, &page.with_hidden(&[("recommend", "yes"), ("comment", WORDS)]));
    assert_eq!((status, retry.as_deref()), (503, Some("30")), "{body}");
    assert!(body.contains("Please try again") && body.contains("It is not lost"), "{body}");
    let again = hidden_fields(&body);
    assert!(again.contains(&("comment".to_owned(), WORDS.to_owned())), "{again:?}");
    let told = || site.log().matches(&format!("{words}: no job begins")).count();
    until("the log says it", 30, async || told() == 1).await;
    // Past the next minute, when the job is due.
    let seconds = u64::from(60 - now().second()) + 5;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    assert_eq!(told(), 1, "once: {}", site.log());
    if site.server.is_some() {
        assert_eq!(site.count("select count(*) from response").await, 0);
        assert_eq!(site.count(r#"select count(*) from "order""#).await, 1, "no job has done anything");
    }
    // Who asks how the jobs stand is told, whether or not the program can begin at all.
    let jobs = ran(command(site.dir.path()).arg("jobs").output().unwrap());
    match &site.server {
        Some(_) => assert!(
            jobs.stderr.contains(words) && jobs.stderr.to_lowercase().contains("no job begins"),
            "{jobs:?}"
        ),
        None => assert!(jobs.code == 1 && jobs.stderr.contains("cannot use the database"), "{jobs:?}"),
    }

    end(&mut site, outage).await;
    let mut answered = (0, None, String::new());
    let back = until("an answer is taken", 30, async || {
        answered = send(&site.link, &again);
        answered.0 == 303
    })
    .await;
    let orders = i64::try_from(N_ORDERS).unwrap() + 1;
    let jobs =
        until("the job has run", 60, async || site.count(r#"select count(*) from "order""#).await == orders)
            .await;
    say(&format!("{words}: answers are taken after {back:?}, the job is done {jobs:?} later"));
    let log = site.log();
    assert_eq!(log.matches("the database works again").count(), 1, "{log}");
    let comments = "select count(*) from answer where question = 'comment'";
    assert_eq!(site.count(comments).await, 1, "once, whatever was sent again");
    let stored: String = sqlx::query_scalar("select body from answer where question = 'comment'")
        .fetch_one(&site.pool)
        .await
        .unwrap();
    assert_eq!(stored, WORDS);
    until("the ledger is settled", 20, async || {
        site.count("select count(*) from job_run where state = 'running'").await == 0
    })
    .await;
    assert_eq!(
        site.count("select count(*) from job_run where state = 'failed'").await,
        0,
        "it is nobody's failure"
    );
    site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_waited_out() {
    let Some(disk) = SmallDisk::new(160) else {
        return say(&format!("SKIPPED {}: no filesystem can be mounted here", test_name()));
    };
    let site = Site::new(&disk.0.path().join("postgres")).await;
    is_waited_out(
        site,
        "the database's disk is full",
        async |_| disk.fill(),
        async |_, filler| std::fs::remove_file(filler).unwrap(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_takes_no_writes_is_waited_out() {
    let place = data_dir();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let site = Site::new(&place.path().join("postgres")).await;
    is_waited_out(
        site,
        "the database takes no writes",
        async |site| site.takes_writes(false).await,
        async |site, ()| site.takes_writes(true).await,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_stopped_and_started_again_is_waited_out() {
    let place = data_dir();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let root = place.path().join("postgres");
    let site = Site::new(&root).await;
    is_waited_out(
        site,
        "the database does not answer",
        async |site| site.server.take().unwrap().close().await,
        async |site, ()| site.server = Some(embedded::start(&root, Durability::Full).await.unwrap()),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_cannot_be_written_down_yet_is_waited_for() {
    let place = data_dir();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut site = Site::new(&place.path().join("postgres")).await;
    let (mut job, _) = crate::jobs::counting();
    job.schedule = Some(Schedule::parse("0 3 * * *", chrono_tz::UTC).unwrap());
    let context = crate::jobs::context(&site.pool, vec![job]).await;
    site.takes_writes(false).await;
    until("the server takes no writes", 10, async || {
        let sql = "select current_setting('default_transaction_read_only')::bool::int::bigint";
        site.count(sql).await == 1
    })
    .await;
    let stop = CancellationToken::new();
    let following = tokio::spawn(scheduler::run(context.clone(), stop.clone()));
    until("it is noticed", 10, async || context.beside.outage.now().is_some() || following.is_finished())
        .await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(!following.is_finished(), "it gives up");
    site.takes_writes(true).await;
    let written = "select count(*) from job_schedule where job = 'probe'";
    until("the schedule is written down", 40, async || site.count(written).await == 1).await;
    stop.cancel();
    following.await.unwrap().unwrap();
    context.beside.pages.close().await;
    site.pool.close().await;
    site.server.take().unwrap().close().await;
}

/// A server that is stopped in the middle of whatever it does: it takes connections and answers nothing. Goes on with the end of the value.
struct Frozen(Vec<Pid>);

impl Frozen {
    fn new(root: &Path) -> Self {
        let text = std::fs::read_to_string(root.join("data/postmaster.pid")).unwrap();
        let server = Pid::from_raw(text.lines().next().unwrap().parse().unwrap());
        // The first, so that it makes no more.
        kill(server, Signal::SIGSTOP).unwrap();
        let children = std::fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap();
        let mut frozen = Self(vec![server]);
        for child in children.split_whitespace() {
            let child = Pid::from_raw(child.parse().unwrap());
            if kill(child, Signal::SIGSTOP).is_ok() {
                frozen.0.push(child);
            }
        }
        frozen
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for process in self.0.iter().rev() {
            let _ = kill(*process, Signal::SIGCONT);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_nothing_for_a_while_holds_up_nobody_for_long() {
    let place = data_dir();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut site = Site::new(&place.path().join("postgres")).await;
    site.serve().await;
    let page = http::get(&site.link);
    assert_eq!(page.status, 200, "{}", page.body);
    // A few seconds before the job is due, and as a person, who does not answer at once.
    let until_then = (115 - u64::from(now().second())) % 60;
    let until_then = if until_then < 5 { until_then + 60 } else { until_then };
    tokio::time::sleep(Duration::from_secs(until_then)).await;
    site.drop_orders();
    let frozen_at = now();
    let frozen = Frozen::new(site.server.as_ref().unwrap().root());
    assert!(frozen.0.len() > 5, "the server and its processes: {:?}", frozen.0);
    let asked = Instant::now();
    let fields = page.with_hidden(&[("recommend", "yes"), ("comment", WORDS)]);
    let sent = std::thread::spawn({
        let link = site.link.clone();
        move || (send(&link, &fields), asked.elapsed())
    });
    let pages: Vec<_> = (0..6)
        .map(|_| {
            let link = site.link.clone();
            std::thread::spawn(move || (http::get(&link), asked.elapsed()))
        })
        .collect();
    let mut slowest = Duration::ZERO;
    for page in pages {
        let (page, took) = page.join().unwrap();
        assert_eq!(page.status, 503, "{}", page.body);
        assert!(page.body.contains("Merci de réessayer"), "{}", page.body);
        slowest = slowest.max(took);
    }
    let ((status, retry, body), took) = sent.join().unwrap();
    slowest = slowest.max(took);
    assert_eq!((status, retry.as_deref()), (503, Some("30")), "{body}");
    assert!(body.contains("It is not lost"), "{body}");
    // A request's limit is 15 s, whatever it waits for.
    assert!(slowest < Duration::from_secs(19), "{slowest:?}");
    let again = hidden_fields(&body);
    let left =
        Duration::from_secs(u64::from(60 - frozen_at.second() % 60) + 3).saturating_sub(asked.elapsed());
    tokio::time::sleep(left.max(Duration::from_secs(8).saturating_sub(asked.elapsed()))).await;
    let frozen_for = asked.elapsed();
    drop(frozen);

    let back = until("an answer is taken", 60, async || send(&site.link, &again).0 == 303).await;
    let orders = i64::try_from(N_ORDERS).unwrap() + 1;
    until("the job has run", 90, async || site.count(r#"select count(*) from "order""#).await == orders)
        .await;
    until("the ledger is settled", 20, async || {
        site.count("select count(*) from job_run where state = 'running'").await == 0
    })
    .await;
    let due = frozen_at.with_second(0).unwrap().with_nanosecond(0).unwrap() + TimeDelta::minutes(1);
    let runs: Vec<(String, i32)> = sqlx::query_as(
        "select state::text, attempt from job_run where job = 'import-orders' and scheduled_for = $1",
    )
    .bind(due)
    .fetch_all(&site.pool)
    .await
    .unwrap();
    assert_eq!(runs, [("done".to_owned(), 1)], "what came due meanwhile ran once: {}", site.log());
    assert_eq!(site.count("select count(*) from job_run where state = 'failed'").await, 0);
    let comments = "select count(*) from answer where question = 'comment'";
    assert_eq!(site.count(comments).await, 1, "once, whatever was sent again");
    say(&format!(
        "frozen for {frozen_for:?}: the slowest page took {slowest:?}; answers are taken after {back:?}"
    ));
    site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_answer_at_once_while_jobs_hold_every_connection() {
    let program = Program::new(&config()).await;
    let context = program.context(now()).await;
    let shop = factories::shop(&program.db.pool, "maison").await;
    let customer = factories::customer(&program.db.pool, shop, "claire@customer.example").await;
    let order = Order::new(shop, customer, "A-1").insert(&program.db.pool).await;
    let invitation =
        factories::sent_invitation(&program.db.pool, shop, order, now() - TimeDelta::days(2)).await;
    let path = format!("/s/{}", context.tokens.issue(Purpose::Survey, shop, invitation));
    let listen = async |context: Context| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let link = format!("http://{}{path}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(web::serve(listener, context, stop.clone()));
        (link, stop.drop_guard())
    };
    let (link, _stop) = listen(context.for_pages()).await;
    let (shared_link, _stop_too) = listen(context.clone()).await;
    // What a job does that has much to do.
    let mut held = Vec::new();
    while let Ok(connection) = tokio::time::timeout(Duration::from_secs(4), context.pool.acquire())
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
    {
        held.push(connection);
    }
    assert_eq!(held.len(), 12, "of 16, four are the pages'");
    let jobs = context.beside.pools.filling(Whose::Jobs).unwrap();
    assert_eq!(jobs, Filling { n_used: 12, n_idle: 0, limit: 12, n_full: 1 });
    assert_eq!(context.beside.pools.filling(Whose::Pages).unwrap().n_full, 0);
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let asked = Instant::now();
        assert_eq!(http::get(&link).status, 200);
        slowest = slowest.max(asked.elapsed());
    }
    // Without connections of their own they would wait five seconds, and say that they cannot.
    assert!(slowest < Duration::from_secs(4), "{slowest:?}");
    assert_eq!(http::get(&shared_link).status, 503);
    // The figures for machines cannot be read either, but this process's own are told, and the rule for this fires.
    let figures = vitals::figures(&context).await.unwrap();
    for line in [
        "afterword_pools_full{pool=\"jobs\"} 1",
        "afterword_pools_full{pool=\"pages\"} 0",
        "afterword_pool_connections{pool=\"jobs\",state=\"used\"} 12",
        "afterword_pool_connections{pool=\"jobs\",state=\"idle\"} 0",
        "afterword_pool_connections{pool=\"reading\",state=\"used\"} 0",
        "afterword_pool_connections_limit{pool=\"jobs\"} 12",
        "afterword_pool_connections_limit{pool=\"pages\"} 4",
    ] {
        assert!(figures.lines().any(|told| told == line), "{line} in\n{figures}");
    }
    let in_vain =
        figures.lines().find_map(|line| line.strip_prefix("afterword_pool_timeouts_total ")).unwrap();
    assert!(in_vain.parse::<f64>().unwrap() >= 2.0, "the page and whoever asked for figures: {figures}");
    assert!(!figures.contains("afterword_job_runs"), "{figures}");
    // The database is well, and who asks it is told so: nothing of this is an outage.
    let watch = &context.beside.outage;
    for line in ["afterword_database_outages_total{outage=\"away\"} 0", "afterword_database_outage_seconds 0"]
    {
        assert!(figures.lines().any(|told| told == line), "{line} in\n{figures}");
    }
    assert!(watch.is_over(&program.db.options()).await, "jobs may begin");
    assert_eq!((watch.now(), watch.counts().outages.len()), (None, 0));
    say(&format!("the slowest page beside 12 busy connections took {slowest:?}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_was_taken_back_is_done_again() {
    let db = TestDb::new().await;
    sqlx::raw_sql(
        "create table purse (id int primary key, coins int); insert into purse values (1, 0), (2, 0)",
    )
    .execute(&db.pool)
    .await
    .unwrap();
    let before = n_retries();
    // Each has one row and wants the other's.
    let both = Barrier::new(2);
    let transfer = async |first: i32, then: i32| {
        let mut n = 0;
        again(|| {
            n += 1;
            let (is_first, both, pool) = (n == 1, &both, &db.pool);
            async move {
                let mut tx = pool.begin().await?;
                let add = "update purse set coins = coins + 1 where id = $1";
                sqlx::query(add).bind(first).execute(&mut *tx).await?;
                if is_first {
                    both.wait().await;
                }
                sqlx::query(add).bind(then).execute(&mut *tx).await?;
                Ok(tx.commit().await?)
            }
        })
        .await
        .unwrap();
    };
    tokio::join!(transfer(1, 2), transfer(2, 1));
    // Each has read what the other then changes.
    let both = Barrier::new(2);
    let snapshot = async || {
        let mut n = 0;
        again(|| {
            n += 1;
            let (is_first, both, pool) = (n == 1, &both, &db.pool);
            async move {
                let mut tx = pool.begin_with("begin isolation level repeatable read").await?;
                let coins: i32 =
                    sqlx::query_scalar("select coins from purse where id = 1").fetch_one(&mut *tx).await?;
                if is_first {
                    both.wait().await;
                }
                let set = sqlx::query("update purse set coins = $1 where id = 1").bind(coins + 1);
                set.execute(&mut *tx).await?;
                Ok(tx.commit().await?)
            }
        })
        .await
        .unwrap();
    };
    tokio::join!(snapshot(), snapshot());
    let coins: Vec<i32> =
        sqlx::query_scalar("select coins from purse order by id").fetch_all(&db.pool).await.unwrap();
    assert_eq!(coins, [4, 2], "each was done once");
    assert!(n_retries() >= before + 2, "one of each pair was taken back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_a_connection_left_says_so_and_is_waited_for() {
    let db = TestDb::new().await;
    // A role that is limited stands for a server that is: both refuse with the same code.
    let role = format!("crowded_{}", std::process::id());
    let as_root = async |sql: String| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&db.pool).await.unwrap();
    };
    as_root(format!(
        "drop role if exists {role}; create role {role} login; grant all on all tables in schema public to {role}"
    ))
    .await;
    let options = db.options().username(&role);
    // One connection, so that whoever needs it waits for it instead of asking for a second one.
    let pool = afterword::db::pool(options.clone(), 1);
    let context = crate::jobs::context(&pool, vec![]).await;
    let limit = async |n: i32| as_root(format!("alter role {role} connection limit {n}")).await;
    limit(1).await;

    // At the start a person is told.
    let url = sqlx::ConnectOptions::to_url_lossy(&options);
    let jobs_toml = shipped().replacen("[database]", &format!("[database]\nurl = \"{url}\""), 1);
    let config = Config::parse(Path::new("jobs.toml"), &jobs_toml).unwrap();
    let refused = afterword::db::open(&config).await.unwrap_err();
    let words = format!("{refused:#}");
    assert!(
        words.contains("it has no connection left for us") && words.contains("max_connections"),
        "{words}"
    );
    assert_eq!(Outage::behind(&refused), Some(Outage::Away));

    // A run that finds none waits, and is begun anew when there is one.
    let job = crate::jobs::probe({
        let options = options.clone();
        move |_| {
            let options = options.clone();
            async move {
                sqlx::ConnectOptions::connect(&options).await?.close().await?;
                Ok(crate::jobs::done("connected"))
            }
        }
    });
    let run = tokio::spawn({
        let context = context.clone();
        async move { run_occurrence(&context, &job, Occurrence::ByHand, false, &CancellationToken::new()).await }
    });
    let outage = &context.beside.outage;
    let begun = Instant::now();
    while outage.now().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(10), "nobody has noticed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(outage.now().unwrap().0, Outage::Away);
    // Somebody asks in the meantime, and is refused as well.
    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert!(!run.is_finished() && outage.now().is_some());
    limit(-1).await;
    let Outcome::Ended(report) = run.await.unwrap().unwrap() else { panic!("it was not begun anew") };
    assert!(
        report.text.starts_with("connected; begun anew 1 time, because of the database"),
        "{}",
        report.text
    );
    assert_eq!(outage.now(), None);
    let error = anyhow::Error::from(refused.downcast::<sqlx::Error>().unwrap());
    let masked = afterword::masked::reason(&error);
    assert_eq!(masked, "the database refused it with 53300: it has no connection left for us");

    pool.close().await;
    context.beside.pages.close().await;
    as_root(format!("drop owned by {role}; drop role {role}")).await;
}

/// Whether a value has this key with this number, at any depth.
fn has(value: &serde_json::Value, key: &str, number: i64) -> bool {
    match value {
        serde_json::Value::Object(fields) => {
            fields.get(key) == Some(&number.into()) || fields.values().any(|value| has(value, key, number))
        }
        serde_json::Value::Array(values) => values.iter().any(|value| has(value, key, number)),
        _ => false,
    }
}

#[tokio::test]
async fn reports_are_read_from_the_replica() {
    let program = Program::new(&config()).await;
    program.run(&["migrate"]).expect(0);
    // A replica takes no writes; and this one has an answer that the database lacks, so that the two can be told apart.
    let replica = TestDb::new().await;
    let shop = factories::shop(&replica.pool, "maison").await;
    let customer = factories::customer(&replica.pool, shop, "claire@customer.example").await;
    let order = Order::new(shop, customer, "A-1").insert(&replica.pool).await;
    Response::new(shop, order).insert(&replica.pool).await;
    let mut admin = replica.pool.acquire().await.unwrap().detach();
    let name = replica.options().get_database().unwrap().to_owned();
    let sql = format!("alter database {name} set default_transaction_read_only = on");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
    admin.close().await.unwrap();
    let sees_it = |program: &Program| {
        let report = program.run(&["report", "--json"]).expect(0).json();
        has(&report, "denominator", 1)
    };
    assert!(!sees_it(&program));
    let with = |url: &str| config().replacen("[database]", &format!("[database]\nread_url = {url:?}"), 1);
    program.configure(&with(&replica.url));
    assert!(sees_it(&program));
    program.run(&["report", "--html", "r.html"]).expect(0);
    program.configure(&with("mysql://x"));
    let refused = program.run(&["check"]).expect(2);
    assert!(refused.stderr.contains("not the address of a Postgres database"), "{}", refused.stderr);
}
