//! An hour of `serve` with everything that goes wrong at the same time: its memory and its descriptors stay what they were, nobody but
//! those that the test kills ends, every mail leaves once, and every answer is stored.
//!
//! Beside it works a second instance, which is killed, stopped and hung up, and started again; the relay stalls, defers, refuses, and goes
//! away after the final dot; connections to the database are ended and the database falls over. Files come in, customers answer, `/metrics`
//! and `/report` are asked for; every job that has something to do here runs each minute.
//!
//! With `AFTERWORD_SOAK` set (`make soak`) it takes [`MINUTES`], or as many as `AFTERWORD_SOAK_MINUTES` says; else half a minute, after
//! which only what was sent and stored is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use afterword::db::embedded::{self, Durability, Server};
use chrono::{DateTime, TimeDelta, Utc};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};
use sqlx::postgres::PgPoolOptions;
use sqlx::{ConnectOptions as _, PgPool};
use tempfile::TempDir;
use tokio::task::block_in_place;

use crate::kill::fall_over;
use crate::operations::{asked, read};
use crate::support::http::{Page, get, post};
use crate::support::program::{Ran, Serving, command, ran, shipped_with};
use crate::support::smtp::Relay;
use crate::support::{data_dir, say};

/// How long it takes in `make soak`.
const MINUTES: u64 = 60;
const TOKEN: &str = "a-token-of-thirty-two-characters-and-more";
const N_CONNECTIONS: usize = 4;
/// So many orders come in with each file.
const N_ORDERS: usize = 10;
/// Of so many mails the relay hears one whole and hangs up.
const DROPPED: usize = 37;
/// A reader of mails takes longer than what only programs do.
const READING: Duration = Duration::from_secs(16);
const WRITING: Duration = Duration::from_secs(5);

/// How long, and whether it is long enough to judge memory.
fn length() -> (Duration, bool) {
    if std::env::var_os("AFTERWORD_SOAK").is_none() {
        return (Duration::from_secs(25), false);
    }
    let minutes = std::env::var_os("AFTERWORD_SOAK_MINUTES")
        .map_or(MINUTES, |minutes| minutes.into_string().unwrap().parse().unwrap());
    (Duration::from_secs(minutes * 60), true)
}

#[expect(clippy::disallowed_methods, reason = "the program serves on the system's clock")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

/// Something that is done again and again.
struct Every {
    pause: Duration,
    next: Instant,
    n: usize,
}

impl Every {
    fn new(pause: Duration) -> Self {
        Self { pause, next: Instant::now() + pause, n: 0 }
    }

    /// The how manyth time it is due now, if it is.
    fn due(&mut self) -> Option<usize> {
        if Instant::now() < self.next {
            return None;
        }
        self.next = Instant::now() + self.pause;
        self.n += 1;
        Some(self.n)
    }
}

/// What a process had at a moment.
#[derive(Clone, Copy)]
struct Sample {
    at: Duration,
    /// Memory that it really has, in KiB.
    resident: u64,
    /// Of this, what is not the program's file, of which more is read as more of it is used.
    own: u64,
    descriptors: u64,
}

/// Looks at a process each five seconds, from a thread of its own, until it is dropped.
struct Watch {
    samples: Arc<Mutex<Vec<Sample>>>,
    is_over: Arc<AtomicBool>,
}

impl Watch {
    fn over(pid: u32) -> Self {
        let watch = Self { samples: Arc::default(), is_over: Arc::default() };
        let (samples, is_over) = (Arc::clone(&watch.samples), Arc::clone(&watch.is_over));
        let kib = u64::try_from(sysconf(SysconfVar::PAGE_SIZE).unwrap().unwrap()).unwrap() / 1024;
        let mut every = Every::new(Duration::from_secs(5));
        let begun = Instant::now();
        std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(200));
                if every.due().is_none() {
                    continue;
                }
                let Ok(memory) = std::fs::read_to_string(format!("/proc/{pid}/statm")) else { return };
                let pages: Vec<u64> = memory.split_whitespace().map(|n| n.parse().unwrap()).collect();
                let (resident, own) = (pages[1] * kib, (pages[1] - pages[2]) * kib);
                let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return };
                let descriptors = descriptors.count() as u64;
                samples.lock().unwrap().push(Sample { at: begun.elapsed(), resident, own, descriptors });
            }
        });
        watch
    }

    /// The median of something between two moments.
    fn median(&self, from: Duration, to: Duration, of: impl Fn(&Sample) -> u64) -> u64 {
        let samples = self.samples.lock().unwrap();
        let mut values: Vec<u64> =
            samples.iter().filter(|sample| (from..to).contains(&sample.at)).map(of).collect();
        values.sort_unstable();
        values[values.len() / 2]
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// A customer who answers on the page.
struct Visit {
    link: String,
    order: String,
    /// From when on the mail is opened.
    from: Instant,
    /// The page, and when it was opened.
    page: Option<(Page, Instant)>,
}

/// The shop, its relay, its database, and the two instances.
struct House {
    dir: TempDir,
    relay: Relay,
    root: PathBuf,
    server: Option<Server>,
    pool: PgPool,
    private: String,
    first: Serving,
    second: Option<Serving>,
    is_hung: bool,
    n_orders: usize,
    n_files: usize,
    /// How many mails were looked at.
    n_read: usize,
    visits: Vec<Visit>,
    /// Who answers in another tool, and will be in its next file.
    elsewhere: Vec<String>,
    /// By order, the words of those who were thanked or whose file lies in the inbox.
    answered: BTreeMap<String, String>,
    /// Processes that were in the middle of something when they were gone, or for so long that others took over.
    n_cut_off: usize,
}

impl House {
    async fn new() -> Self {
        let n = AtomicUsize::new(0);
        // Most mails take a moment, and every so often the relay is asleep.
        let relay = Relay::dropping(&[DROPPED], move || {
            let is_asleep = n.fetch_add(1, Ordering::Relaxed) % 100 == 99;
            std::thread::sleep(Duration::from_millis(if is_asleep { 3000 } else { 15 }));
        });
        let dir = data_dir();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let root = dir.path().join("postgres");
        let server = embedded::start(&root, Durability::Full).await.unwrap();
        let url = server.options().to_url_lossy().to_string();
        let [public, private, other] = [(); 3].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let [public, private, other] =
            [public, private, other].map(|free| free.local_addr().unwrap().to_string());
        let mut shipped = shipped_with(relay.port);
        for often in
            ["\"*/10 * * * *\"", "\"*/15 * * * *\"", "\"5 * * * *\"", "\"15 3 * * *\"", "\"0 6 * * 1\""]
        {
            assert!(shipped.contains(often), "{often}");
            shipped = shipped.replace(often, "\"* * * * *\"");
        }
        let access = format!(
            "\n[[access]]\nname = \"watch\"\ntoken = \"{TOKEN}\"\nallow = [\"metrics\", \"report\"]\n"
        );
        let jobs_toml = shipped.replace("127.0.0.1:8080", &public).replacen(
            "[database]",
            &format!("private_listen = {private:?}\n[database]\nurl = {url:?}"),
            1,
        ) + &access;
        let second = jobs_toml
            .replace(&format!("\nlisten = {public:?}"), &format!("\nlisten = {other:?}"))
            .replace(&format!("private_listen = {private:?}"), "");
        assert!(second.contains(&other));
        for (name, text) in [("jobs.toml", &jobs_toml), ("second.toml", &second)] {
            std::fs::write(dir.path().join(name), text).unwrap();
            let only_ours = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(dir.path().join(name), only_ours).unwrap();
        }
        std::fs::create_dir(dir.path().join("second")).unwrap();
        ran(command(dir.path()).arg("jobs").output().unwrap()).expect(0);
        let mut first = Serving::start(dir.path());
        first.until("ready");
        let mut house = Self {
            pool: PgPoolOptions::new().connect_lazy_with(server.options()),
            dir,
            relay,
            root,
            server: Some(server),
            private: format!("http://{private}"),
            first,
            second: None,
            is_hung: false,
            n_orders: 0,
            n_files: 0,
            n_read: 0,
            visits: Vec::new(),
            elsewhere: Vec::new(),
            answered: BTreeMap::new(),
            n_cut_off: 0,
        };
        house.start_second();
        house
    }

    fn start_second(&mut self) {
        let mut command = command(self.dir.path());
        command.args(["--config", "second.toml", "serve"]);
        let mut second = Serving::of(&mut command, &self.dir.path().join("second"));
        // Before that it has not yet said what it does when it is asked to stop.
        second.until("ready");
        self.second = Some(second);
    }

    /// Runs a job by hand, when no other run of it is going.
    fn run(&self, job: &str) -> Ran {
        let ran = ran(command(self.dir.path()).args(["run", job, "--wait"]).output().unwrap());
        assert!([0, 3].contains(&ran.code), "{ran:?}");
        ran
    }

    /// Drops a file, complete and not being written to any more.
    fn drop_file(&mut self, inbox: &str, content: &str) {
        self.n_files += 1;
        let (path, name) = (self.dir.path().join("a-file"), format!("{:05}.csv", self.n_files));
        std::fs::write(&path, content).unwrap();
        let old = SystemTime::now() - Duration::from_secs(3600);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        let inbox = self.dir.path().join("data/inbox").join(inbox);
        std::fs::create_dir_all(&inbox).unwrap();
        std::fs::rename(path, inbox.join(name)).unwrap();
    }

    /// Orders that are due, by customers of their own, and a row that says nothing.
    fn drop_orders(&mut self) {
        let [ordered, fulfilled] = [10, 8].map(|days| (now() - TimeDelta::days(days)).to_rfc3339());
        let mut file = "order_id,email,ordered_at,fulfilled_at,status\n".to_owned();
        for n in self.n_orders..self.n_orders + N_ORDERS {
            file.push_str(&format!("A-{n},{},{ordered},{fulfilled},fulfilled\n", address(n)));
        }
        self.n_orders += N_ORDERS;
        self.drop_file("orders", &(file + "B,nobody at all,yesterday,,\n"));
    }

    /// Of five customers one answers on the page, and one in another tool.
    fn read_mails(&mut self) {
        let mails = self.relay.accepted();
        for mail in &mails[self.n_read..] {
            let Some(n) = number(&mail.to) else { panic!("a mail to {:?}", mail.to) };
            let order = format!("A-{n}");
            match n % 5 {
                0 => {
                    let text = mail.text();
                    let link = text.split_whitespace().find(|word| word.contains("/s/")).unwrap();
                    let (link, from) = (Page::without_query(link), Instant::now() + READING);
                    self.visits.push(Visit { link, order, from, page: None });
                }
                1 => self.elsewhere.push(order),
                _ => {}
            }
        }
        self.n_read = mails.len();
    }

    /// Opens pages and sends forms, as far as it is time. Who is told that it does not work comes back.
    fn answer(&mut self) {
        for mut visit in std::mem::take(&mut self.visits) {
            let is_time = visit.from <= Instant::now();
            match visit.page.take() {
                None if is_time => {
                    let page = get(&visit.link);
                    assert!([200, 503].contains(&page.status), "{}: {}", page.status, page.body);
                    if page.status == 200 {
                        visit.page = Some((page, Instant::now()));
                    }
                }
                Some((page, at)) if at.elapsed() > WRITING => {
                    let words = format!("The words about {}", visit.order);
                    let fields = page.with_hidden(&[("recommend", "yes"), ("comment", &words)]);
                    let sent = post(&visit.link, &fields);
                    assert!([200, 503].contains(&sent.status), "{}: {}", sent.status, sent.body);
                    if sent.status == 200 {
                        self.answered.insert(visit.order, words);
                        continue;
                    }
                }
                waiting => visit.page = waiting,
            }
            self.visits.push(visit);
        }
    }

    fn drop_answers(&mut self) {
        let mut file = "order_id,answered_at,external_id,recommend,comment\n".to_owned();
        for order in std::mem::take(&mut self.elsewhere) {
            let words = format!("Elsewhere about {order}");
            file.push_str(&format!("{order},{},R-{order},no,{words}\n", now().to_rfc3339()));
            self.answered.insert(order, words);
        }
        self.drop_file("responses", &file);
    }

    /// What machines and people look at; `true`: it was told. While the database is away it need not be.
    fn scrape(&self, page: &str) -> bool {
        let (status, _, text) = asked(&format!("{}{page}", self.private), Some(TOKEN));
        assert!([200, 503].contains(&status), "{page}: {status}: {text}");
        if status == 200 && page == "/metrics" {
            read(&text);
        }
        status == 200
    }

    /// The second instance dies, is asked to end, or hangs for as long as nothing else happens to it.
    fn hurt_second(&mut self, n: usize) {
        self.wake_second();
        let mut second = self.second.take().unwrap();
        second.expect_alive();
        match n % 3 {
            1 => {
                // Its drop kills it.
                drop(second);
                self.n_cut_off += 1;
                self.start_second();
            }
            2 => {
                assert_eq!(second.stop(), Some(0));
                self.start_second();
            }
            _ => {
                signal(&second, Signal::SIGSTOP);
                self.n_cut_off += 1;
                self.is_hung = true;
                self.second = Some(second);
            }
        }
    }

    fn wake_second(&mut self) {
        if std::mem::take(&mut self.is_hung) {
            signal(self.second.as_ref().unwrap(), Signal::SIGCONT);
        }
    }

    /// Some connections of the instances end; every second time the whole server falls over and is started again.
    async fn hurt_database(&mut self, n: usize) {
        let sql = "select count(pg_terminate_backend(pid)) from (
                       select pid from pg_stat_activity
                       where application_name = 'afterword' and pid <> pg_backend_pid() order by random() limit 5
                   ) any_of_them";
        let n_ended: i64 = sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap();
        assert!(n_ended > 0, "there was nothing to end");
        if n.is_multiple_of(2) {
            fall_over(self.server.as_ref().unwrap().root());
            self.server = Some(embedded::start(&self.root, Durability::Full).await.unwrap());
        }
    }

    async fn count(&self, sql: &'static str) -> usize {
        usize::try_from(sqlx::query_scalar::<_, i64>(sql).fetch_one(&self.pool).await.unwrap()).unwrap()
    }

    /// Every order was decided about once, every mail left once, and every row says what became of its mail. Comes back with how many
    /// are unknown.
    async fn check_mails(&self) -> usize {
        let mut accepted = BTreeSet::new();
        for mail in self.relay.accepted() {
            assert!(accepted.insert(mail.to.clone()), "sent twice: {}", mail.to);
        }
        let rows: Vec<(String, String)> = sqlx::query_as(
            "select c.email, i.state::text from invitation i join customer c using (shop_id, customer_id)",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        assert_eq!(rows.len(), self.n_orders, "every order was decided about once");
        let mut n_unknown = 0;
        for (to, state) in &rows {
            match (to.split('@').next().unwrap(), state.as_str()) {
                ("later", "deferred") | ("nobody", "failed") => {
                    assert!(!accepted.contains(to), "{to} is {state} and was taken");
                }
                (_, "sent") => assert!(accepted.contains(to), "falsely sent: {to}"),
                (_, "unknown") => n_unknown += 1,
                (_, state) => panic!("{to} is {state}"),
            }
        }
        let n_dropped = accepted.len() / DROPPED;
        assert!(
            n_unknown <= n_dropped + self.n_cut_off * N_CONNECTIONS,
            "{n_unknown} unknown, {n_dropped} dropped, {} cut off",
            self.n_cut_off
        );
        n_unknown
    }

    /// Every answer is stored as a person's, and counts once.
    async fn check_answers(&self) {
        let rows: Vec<(String, String)> = sqlx::query_as(
            r#"select o.external_id, a.body from response r join "order" o using (shop_id, order_id)
               join answer a using (shop_id, response_id)
               where r.counted and r.verdict = 'human' and a.question = 'comment'"#,
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        let n_stored = rows.len();
        let stored: BTreeMap<String, String> = rows.into_iter().collect();
        assert_eq!(stored.len(), n_stored, "an answer counts twice");
        assert_eq!(stored, self.answered);
    }
}

/// Of forty customers one has no mailbox, and one's server greylists.
fn address(n: usize) -> String {
    match n % 40 {
        17 => format!("nobody@n{n}.customer.example"),
        33 => format!("later@n{n}.customer.example"),
        _ => format!("customer@n{n}.customer.example"),
    }
}

fn number(address: &str) -> Option<usize> {
    address.split_once("@n")?.1.split('.').next()?.parse().ok()
}

fn signal(serving: &Serving, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(serving.child.id()).unwrap()), signal).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_everything_going_wrong_it_neither_grows_nor_loses_nor_doubles() {
    let (length, is_long) = length();
    let mut house = House::new().await;
    house.drop_orders();
    block_in_place(|| {
        house.run("import-orders");
        house.run("send-invitations");
    });
    assert!(house.relay.n_accepted() > 0, "{}", house.first.log());
    house.read_mails();

    let watch = Watch::over(house.first.child.id());
    let seconds = Duration::from_secs;
    let mut orders = Every::new(seconds(10));
    let mut answers = Every::new(seconds(15));
    let mut scrapes = Every::new(seconds(5));
    let mut second = Every::new(seconds(90).min(length / 4));
    let mut database = Every::new(seconds(150).min(length / 5));
    let (mut n_told, mut n_untold) = (0, 0);
    let begun = Instant::now();
    while begun.elapsed() < length {
        tokio::time::sleep(Duration::from_millis(500)).await;
        block_in_place(|| {
            house.first.expect_alive();
            if orders.due().is_some() {
                house.drop_orders();
            }
            house.answer();
            if let Some(n) = scrapes.due() {
                house.read_mails();
                for page in ["/metrics", "/report"].iter().take(1 + usize::from(n % 3 == 0)) {
                    let is_told = house.scrape(page);
                    n_told += usize::from(is_told);
                    n_untold += usize::from(!is_told);
                }
            }
            if answers.due().is_some() {
                house.drop_answers();
            }
            if let Some(n) = second.due() {
                house.hurt_second(n);
            }
        });
        if let Some(n) = database.due() {
            house.hurt_database(n).await;
        }
    }

    // Who would have come by now still does, and what is still to be done is done as the next minute would.
    let is_over = Instant::now();
    while house.visits.iter().any(|visit| visit.from <= is_over) {
        assert!(is_over.elapsed() < seconds(60), "{}", house.first.log());
        block_in_place(|| house.answer());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    block_in_place(|| {
        house.wake_second();
        house.second.as_mut().unwrap().expect_alive();
        assert_eq!(house.second.take().unwrap().stop(), Some(0));
        house.run("import-orders");
        house.run("send-invitations");
        house.drop_answers();
        house.run("collect-responses");
        assert!(house.scrape("/metrics") && house.scrape("/report"));
        house.first.expect_alive();
    });
    let n_unknown = house.check_mails().await;
    house.check_answers().await;
    let n_on_pages = house.count("select count(*) from response where via = 'page' and counted").await;
    assert!((1..house.answered.len()).contains(&n_on_pages), "{n_on_pages} of {}", house.answered.len());
    let n_runs = house.count("select count(*) from job_run where state in ('done', 'partial')").await;
    let failed: Vec<(String, String)> =
        sqlx::query_as("select job, coalesce(reason, '') from job_run where state = 'failed'")
            .fetch_all(&house.pool)
            .await
            .unwrap();
    assert!(failed.is_empty(), "{failed:?}");
    say(&format!(
        "{length:?}: {} orders, {} mails once each, {n_unknown} unknown; {} answers, {n_on_pages} on the pages; {n_runs} runs; the second instance hurt {} times, the \
         database {}; {n_told} pages told, {n_untold} not",
        house.n_orders,
        house.relay.n_accepted(),
        house.answered.len(),
        second.n,
        database.n,
    ));
    if is_long {
        let third = length / 3;
        let of_thirds =
            |of: fn(&Sample) -> u64| [0, 1, 2].map(|n| watch.median(third * n, third * (n + 1), of));
        let memory = of_thirds(|sample| sample.resident);
        let own = of_thirds(|sample| sample.own);
        let descriptors = of_thirds(|sample| sample.descriptors);
        say(&format!(
            "medians of the thirds: {memory:?} KiB resident, {own:?} of it its own; {descriptors:?} descriptors"
        ));
        assert!(memory[1].abs_diff(memory[2]) * 10 <= memory[1], "memory: {memory:?} KiB");
        // Most of what is resident is the program's file, and a tenth of that is half of its own memory.
        assert!(own[2] * 4 <= own[1] * 5, "its own memory: {own:?} KiB");
        assert!(descriptors[1].abs_diff(descriptors[2]) <= 10, "descriptors: {descriptors:?}");
    }
    drop(watch);
    assert_eq!(house.first.stop(), Some(0));
    house.pool.close().await;
    house.server.take().unwrap().close().await;
}
