//! A person at the machine: how far a run is, Ctrl-C in the middle of it, and a run that was asked for when the program is to end.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use afterword::jobs::ledger;
use afterword::testimonials::moderation;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::PgPool;

use crate::private::{CONFIG, House, bearer};
use crate::support::config::smtp;
use crate::support::factories::{self, Order, Response, at};
use crate::support::program::{Program, shipped, shipped_with};
use crate::support::say;
use crate::support::smtp::Relay;
use crate::testimonials::store;

/// A relay that takes its time, so that there is a middle.
fn slow() {
    std::thread::sleep(Duration::from_millis(60));
}

/// So many orders of the first shop that are due now.
async fn due_orders(pool: &PgPool, n: i32) {
    for sql in [
        "insert into customer (shop_id, email, email_key)
         select min(shop_id), n || '@customer.example', n || '@customer.example' from shop, generate_series(1, $1) n group by n",
        r#"insert into "order" (shop_id, external_id, customer_id, ordered_at, fulfilled_at, status, items, attributes, imported_at,
               updated_at)
           select shop_id, customer_id, customer_id, now() - interval '10 days', now() - interval '7 days', 'fulfilled', '{}', '{}',
               now(), now()
           from customer where $1 > 0"#,
    ] {
        sqlx::query(sql).bind(n).execute(pool).await.unwrap();
    }
    sqlx::raw_sql("analyze").execute(pool).await.unwrap();
}

/// How many mails the text says were sent.
fn n_sent(text: &str) -> usize {
    let before = text.split(" mails sent").next().unwrap();
    before.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap_or_else(|_| panic!("{text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_a_run_after_what_is_in_hand_and_says_what_was_done() {
    // `script` gives the program a terminal, and takes its keys from us. It starts a shell, which makes way: some shells would hear the
    // keys too, and answer with an exit code of their own.
    if !Command::new("script").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return say(
            "SKIPPED by_hand::ctrl_c_ends_a_run_after_what_is_in_hand_and_says_what_was_done: there is no `script` here",
        );
    }
    const MAILS: usize = 400;
    let relay = Relay::watched(slow);
    let program = Program::new(&shipped_with(relay.port)).await;
    program.run(&["jobs"]).expect(0);
    due_orders(&program.db.pool, MAILS as i32).await;
    let mut child = Command::new("script")
        .args([
            "-qefc",
            concat!("exec '", env!("CARGO_BIN_EXE_afterword"), "' run send-invitations"),
            "/dev/null",
        ])
        .current_dir(program.dir.path())
        .env_remove("DATABASE_URL")
        .env_remove("RUST_LOG")
        .env("COLUMNS", "100")
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keys = child.stdin.take().unwrap();
    let mut screen = child.stdout.take().unwrap();
    let (seen, is_seen) = mpsc::channel();
    let reading = std::thread::spawn(move || {
        let (mut all, mut some) = (Vec::new(), [0; 4096]);
        while let Ok(n @ 1..) = screen.read(&mut some) {
            all.extend_from_slice(&some[..n]);
            let _ = seen.send(String::from_utf8_lossy(&all).into_owned());
        }
        String::from_utf8_lossy(&all).into_owned()
    });
    let (begun, bar) = (Instant::now(), format!("/{MAILS} mails"));
    let mut so_far = String::new();
    while relay.n_accepted() < 20 || !so_far.contains(&bar) {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it does not send, or there is no bar: {so_far:?}"
        );
        so_far = is_seen.recv_timeout(Duration::from_millis(20)).unwrap_or(so_far);
    }
    keys.write_all(b"\x03").unwrap();
    let asked = Instant::now();
    let code = child.wait().unwrap().code();
    drop(keys);
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    let shown = reading.join().unwrap();
    assert_eq!(code, Some(3), "{shown}");
    assert!(shown.contains("stopping after what is in hand"), "{shown:?}");
    let last = shown.lines().rfind(|line| line.contains("send-invitations: partial: ")).unwrap();
    assert!(last.contains("stopped when asked to"), "{last}");
    // What it says was sent is what has arrived, and what the ledger says.
    let n = n_sent(last);
    assert!((20..MAILS).contains(&n), "{last}");
    assert_eq!(relay.n_accepted(), n);
    let run = &ledger::history(&program.db.pool, Some("send-invitations"), 1).await.unwrap()[0];
    assert_eq!(run.state, ledger::JobRunState::Partial);
    let text = run.report.as_ref().unwrap()["text"].as_str().unwrap();
    assert_eq!((n_sent(text), &run.progress), (n, &None));
    // The rest leaves with the next, which nobody looks at: no bar, one line.
    let rest = program.run(&["run", "send-invitations"]).expect(0);
    assert_eq!(n_sent(&rest.stderr), MAILS - n);
    assert_eq!((rest.stdout.as_str(), rest.stderr.lines().count()), ("", 1), "{rest:?}");
    assert_eq!(relay.n_accepted(), MAILS);
}

/// A statement that waits more than a second is none of the reader's business.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waited_for_the_database_says_one_line_all_the_same() {
    let program = Program::new(&shipped()).await;
    program.run(&["jobs"]).expect(0);
    let mut held = program.db.pool.begin().await.unwrap();
    sqlx::raw_sql("lock table customer in access exclusive mode").execute(&mut *held).await.unwrap();
    let mut child = program.spawn(&["run", "send-invitations"]);
    let (begun, longer_than_that) = (Instant::now(), Duration::from_millis(1_500));
    let waits = "select exists (select from pg_locks where not granted and relation = 'customer'::regclass)";
    let mut waited_since = None;
    while waited_since.is_none_or(|since: Instant| since.elapsed() < longer_than_that) {
        let is_waiting: bool = sqlx::query_scalar(waits).fetch_one(&mut *held).await.unwrap();
        waited_since = is_waiting.then(|| waited_since.unwrap_or_else(Instant::now));
        assert!(
            begun.elapsed() < Duration::from_secs(30) && child.try_wait().unwrap().is_none(),
            "it does not wait"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    held.rollback().await.unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.lines().count()), (Some(0), 1), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_is_stopped_publishes_nothing_and_leaves_the_file_that_was_there() {
    let program = Program::new(&shipped()).await;
    program.run(&["jobs"]).expect(0);
    let pool = &program.db.pool;
    let shop = factories::shop(pool, "maison").await;
    let another = async |n: i32| {
        let customer = factories::customer(pool, shop, &format!("customer{n}@customer.example")).await;
        let order = Order::new(shop, customer, &format!("A-{n}")).insert(pool).await;
        store(pool, Response::new(shop, order)).await;
        moderation::approve_all_pending(pool, &[shop], at("2026-04-01T06:00:00Z")).await.unwrap();
    };
    another(1).await;
    let run = ["run", "weekly-testimonials"];
    program.run(&run).expect(0);
    let folder = program.path("data/exports/testimonials");
    let files = || {
        let files = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
        files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect::<BTreeMap<_, _>>()
    };
    let before = files();
    another(2).await;

    // It comes to the testimonials, and gets them only when it was told to stop.
    let mut held = pool.begin().await.unwrap();
    sqlx::raw_sql("lock table testimonial in access exclusive mode").execute(&mut *held).await.unwrap();
    let mut child = program.spawn(&run);
    let begun = Instant::now();
    let waits = "select exists (select from pg_locks join pg_database d on d.oid = database
                                where not granted and relation = 'testimonial'::regclass and datname = current_database())";
    while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut *held).await.unwrap() {
        assert_eq!(child.try_wait().unwrap(), None);
        assert!(begun.elapsed() < Duration::from_secs(30), "it does not come to the testimonials");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.contains("stopping after what is in hand"), "{line}");
    held.rollback().await.unwrap();
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3), "{rest}");
    assert!(rest.contains("partial: stopped when asked to; nothing was published"), "{rest}");
    assert_eq!(files(), before);
    let n_published = "select count(*) from testimonial where published_at is not null";
    assert_eq!(sqlx::query_scalar::<_, i64>(n_published).fetch_one(pool).await.unwrap(), 1);
    // The next run has them all.
    program.run(&run).expect(0);
    let latest = std::fs::read_to_string(folder.join("latest.csv")).unwrap();
    assert_eq!(latest.lines().count(), 3, "{latest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_on_request_says_how_far_it_is_and_ends_with_the_program() {
    const MAILS: usize = 2_000;
    let relay = Relay::watched(slow);
    let by_mail = CONFIG.replace("transport = \"file\"", &format!("{}max_connections = 4", smtp(relay.port)));
    let job = "\n[jobs.send-invitations]\nkind = \"send_invitations\"\n[jobs.send-invitations.params]\nsurvey = \"recommend\"\n";
    let mut house = House::with(&format!("{by_mail}{job}")).await;
    due_orders(house.pool(), MAILS as i32).await;
    let headers = [("authorization", bearer("team"))];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let answer = house.ask("POST", "/jobs/send-invitations/run", &headers);
    let place = answer.header("location").unwrap().to_owned();
    // At its second sign of life, twenty seconds on.
    let until = Instant::now() + Duration::from_secs(40);
    let step = loop {
        let run: serde_json::Value = serde_json::from_slice(&house.get("team", &place).body).unwrap();
        assert_eq!(run["state"], "running", "{run}");
        if run["progress"]["n_done"].as_u64().is_some_and(|n| n > 0) {
            break run["progress"].clone();
        }
        assert!(Instant::now() < until, "{run}");
        std::thread::sleep(Duration::from_millis(200));
    };
    assert_eq!((&step["unit"], &step["n_all"]), (&"mails".into(), &MAILS.into()));
    kill(Pid::from_raw(i32::try_from(house.server.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(house.server.wait().unwrap().code(), Some(0));
    let run = &ledger::history(house.pool(), Some("send-invitations"), 1).await.unwrap()[0];
    let text = run.report.as_ref().unwrap()["text"].as_str().unwrap();
    assert_eq!(run.state, ledger::JobRunState::Partial, "{text}");
    assert!(text.contains("stopped when asked to"), "{text}");
    assert_eq!(n_sent(text), relay.n_accepted());
}
