//! `kill -9`, SIGTERM, a relay that hangs up and a database that falls over, in the middle of sending: nothing is lost, nothing is sent
//! twice, and no row says `sent` that the relay did not accept.
//!
//! With `AFTERWORD_SOAK` set (`make soak`) the same tests take longer: more mails, more kills.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use afterword::db::embedded::{self, Durability};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::postgres::PgPoolOptions;
use sqlx::{ConnectOptions as _, PgPool};

use crate::support::program::{Program, Ran, Serving, command, ran, shipped_with};
use crate::support::smtp::Relay;
use crate::support::{data_dir, random, say};

const N_CONNECTIONS: usize = 8;

/// How many there are of something: in `make test`, and in `make soak`.
pub fn scaled(test: usize, soak: usize) -> usize {
    if std::env::var_os("AFTERWORD_SOAK").is_some() { soak } else { test }
}

/// A relay that takes its time, so that there is a middle to be killed in.
fn slow() {
    std::thread::sleep(Duration::from_millis(15));
}

/// Two jobs that send the same invitations, so that two processes may be at it at once.
fn config(port: u16) -> String {
    let other = "\n[jobs.send-too]\nkind = \"send_invitations\"\nschedule = \"0 3 * * *\"\ntimezone = \"UTC\"\nenabled = false\n\
                 [jobs.send-too.params]\nsurvey = \"satisfaction\"\n";
    let shipped = shipped_with(port);
    let connections = "max_connections = 4 ";
    assert!(shipped.contains(connections));
    format!("{}{other}", shipped.replace(connections, &format!("max_connections = {N_CONNECTIONS} ")))
}

/// So many more orders that became due just now, by customers of their own. The program runs on the system's clock, so they lie around
/// it.
pub async fn due_orders(pool: &PgPool, n: usize) {
    let n = i32::try_from(n).unwrap();
    let sql = "select count(*)::int from customer";
    let before: i32 = sqlx::query_scalar(sql).fetch_one(pool).await.unwrap();
    for sql in [
        "insert into customer (shop_id, email, email_key)
         select shop_id, n || '@customer.example', n || '@customer.example' from shop, generate_series($1 + 1, $1 + $2) n",
        r#"insert into "order" (shop_id, external_id, customer_id, ordered_at, fulfilled_at, status, items, attributes, imported_at,
               updated_at)
           select shop_id, split_part(email, '@', 1), customer_id, now() - interval '10 days', now() - interval '7 days', 'fulfilled',
               '{}', '{}', now(), now()
           from customer where split_part(email, '@', 1)::int between $1 + 1 and $1 + $2"#,
    ] {
        sqlx::query(sql).bind(before).bind(n).execute(pool).await.unwrap();
    }
    // As an import does.
    sqlx::raw_sql("analyze").execute(pool).await.unwrap();
}

async fn n_unknown(pool: &PgPool) -> usize {
    let sql = "select count(*) from invitation where state in ('unknown', 'in_data')";
    usize::try_from(sqlx::query_scalar::<_, i64>(sql).fetch_one(pool).await.unwrap()).unwrap()
}

/// Waits until the relay gets mails from it, then to a moment that differs from time to time. `false`: it ended before.
async fn in_the_middle(child: &mut Child, relay: &Relay, before: usize, seed: usize) -> bool {
    in_the_middle_within(Duration::from_secs(60), child, relay, before, seed).await
}

async fn in_the_middle_within(
    patience: Duration,
    child: &mut Child,
    relay: &Relay,
    before: usize,
    seed: usize,
) -> bool {
    let begun = Instant::now();
    while relay.n_accepted() <= before {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(begun.elapsed() < patience, "it does not send");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    tokio::time::sleep(Duration::from_micros(random(seed) as u64 % 70_000)).await;
    child.try_wait().unwrap().is_none()
}

/// Every mail has a state and is sent or unknown; none left twice; no row says `sent` that the relay does not have. Comes back with how
/// many are unknown.
pub async fn check(pool: &PgPool, relay: &Relay, n_mails: usize) -> usize {
    let mut accepted: BTreeMap<String, usize> = BTreeMap::new();
    for mail in relay.accepted() {
        *accepted.entry(mail.to).or_default() += 1;
    }
    let twice: Vec<_> = accepted.iter().filter(|(_, n)| **n > 1).collect();
    assert!(twice.is_empty(), "sent twice: {twice:?}");
    let rows: Vec<(String, String)> = sqlx::query_as(
        "select c.email, i.state::text from invitation i join customer c using (shop_id, customer_id)",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let of = |state: &str| {
        rows.iter().filter(|(_, other)| other == state).map(|(to, _)| to.clone()).collect::<BTreeSet<_>>()
    };
    let (sent, unknown) = (of("sent"), of("unknown"));
    assert_eq!(rows.len(), n_mails, "every order was decided about once");
    assert_eq!(sent.len() + unknown.len(), n_mails, "every mail is sent or unknown");
    let falsely: Vec<_> = sent.iter().filter(|to| !accepted.contains_key(*to)).collect();
    assert!(falsely.is_empty(), "falsely sent: {falsely:?}");
    unknown.len()
}

/// The run that sends what is left.
pub fn run_to_the_end(program: &Program) -> Ran {
    let last = program.run(&["run", "send-invitations", "--json"]);
    assert!([0, 3].contains(&last.code), "{last:?}");
    last
}

/// Starts these jobs and kills them, until so many processes were killed while they sent, and some at whatever other moment. Comes back
/// with how many were killed.
async fn kill_again_and_again(program: &Program, relay: &Relay, n_kills: usize, jobs: &[&str]) -> usize {
    let (mut n_sending, mut n_killed) = (0, 0);
    for n in 0.. {
        if n_sending >= n_kills {
            break;
        }
        assert!(n < 3 * n_kills, "only {n_sending} of {n} kills found the program sending");
        let before = relay.n_accepted();
        let mut children: Vec<Child> = jobs.iter().map(|job| program.spawn(&["run", job])).collect();
        if n % 6 == 5 {
            // At whatever moment: while it starts, decides, claims.
            tokio::time::sleep(Duration::from_micros(random(n) as u64 % 300_000)).await;
        } else {
            in_the_middle(&mut children[n % jobs.len()], relay, before, n).await;
        }
        for child in &mut children {
            if child.try_wait().unwrap().is_none() {
                n_killed += 1;
                n_sending += usize::from(relay.n_accepted() > before);
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
    n_killed
}

#[tokio::test(flavor = "multi_thread")]
async fn whenever_it_is_killed_every_mail_has_a_state_and_none_leaves_twice() {
    let (n_mails, n_kills) = (scaled(2_000, 10_000), scaled(40, 200));
    let relay = Relay::watched(slow);
    let program = Program::new(&config(relay.port)).await;
    program.run(&["jobs"]).expect(0);
    due_orders(&program.db.pool, n_mails).await;
    let n_killed = kill_again_and_again(&program, &relay, n_kills, &["send-invitations"]).await;
    let n_left = n_mails.saturating_sub(relay.n_accepted());
    // The next run goes on at once: the dead are known to be dead.
    run_to_the_end(&program);
    let n_unknown = check(&program.db.pool, &relay, n_mails).await;
    assert!(n_unknown <= n_killed * N_CONNECTIONS, "{n_unknown} unknown after {n_killed} kills");
    let n_in_one_piece = relay.accepted().iter().filter(|mail| mail.is_pipelined).count();
    assert!((n_mails / 10..n_mails * 9 / 10).contains(&n_in_one_piece), "{n_in_one_piece} in one piece");
    say(&format!("{n_killed} kills, {n_mails} mails, {n_left} left for the last run: {n_unknown} unknown"));
    let listed = program.run(&["outbox", "--state", "unknown", "--json", "-n", "100000"]).expect(0).json();
    assert_eq!(listed.as_array().unwrap().len(), n_unknown, "what is unknown is listed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_may_hang_up_after_the_dot_and_the_program_be_killed() {
    let (n_mails, n_kills) = (scaled(500, 5_000), scaled(8, 60));
    let relay = Relay::dropping(&[7, 97], slow);
    let program = Program::new(&config(relay.port)).await;
    program.run(&["jobs"]).expect(0);
    due_orders(&program.db.pool, n_mails).await;
    let n_killed = kill_again_and_again(&program, &relay, n_kills, &["send-invitations"]).await;
    run_to_the_end(&program);
    let n_unknown = check(&program.db.pool, &relay, n_mails).await;
    let n_dropped = (1..=relay.n_accepted()).filter(|n| n % 7 == 0 || n % 97 == 0).count();
    assert!(
        n_unknown <= n_dropped + n_killed * N_CONNECTIONS,
        "{n_unknown} unknown, {n_dropped} dropped, {n_killed} kills"
    );
    assert!(n_dropped > n_mails / 8 && n_unknown >= n_dropped, "{n_unknown} unknown, {n_dropped} dropped");
    say(&format!("{n_killed} kills, {n_dropped} of {n_mails} answers dropped: {n_unknown} unknown"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_at_once_each_may_be_killed() {
    let (n_mails, n_kills) = (scaled(1_000, 10_000), scaled(16, 200));
    let relay = Relay::watched(slow);
    let program = Program::new(&config(relay.port)).await;
    program.run(&["jobs"]).expect(0);
    due_orders(&program.db.pool, n_mails).await;
    let n_killed = kill_again_and_again(&program, &relay, n_kills, &["send-invitations", "send-too"]).await;
    run_to_the_end(&program);
    let n_unknown = check(&program.db.pool, &relay, n_mails).await;
    assert!(n_unknown <= n_killed * N_CONNECTIONS, "{n_unknown} unknown after {n_killed} kills");
    say(&format!("{n_killed} kills of two at once, {n_mails} mails: {n_unknown} unknown"));
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_stop_it_settles_every_mail_in_its_hands() {
    let (n_mails, n_stops) = (scaled(1_500, 8_000), scaled(20, 100));
    let relay = Relay::watched(slow);
    let program = Program::new(&config(relay.port)).await;
    program.run(&["jobs"]).expect(0);
    due_orders(&program.db.pool, n_mails).await;
    let mut n_stopped = 0;
    for n in 0..n_stops {
        let before = relay.n_accepted();
        let mut child = program.spawn(&["run", "send-invitations"]);
        n_stopped += usize::from(in_the_middle(&mut child, &relay, before, n).await);
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
        let asked = Instant::now();
        let code = child.wait().unwrap().code();
        // The shipped grace is a minute; the mails in hand take moments.
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
        assert_eq!(code, Some(3), "stopped half way");
        assert_eq!(n_unknown(&program.db.pool).await, 0, "after {} stops", n + 1);
    }
    assert_eq!(n_stopped, n_stops, "every one was stopped in the middle");
    run_to_the_end(&program);
    assert_eq!(check(&program.db.pool, &relay, n_mails).await, 0);
    assert_eq!(relay.n_accepted(), n_mails);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_may_fall_over_in_the_middle() {
    let (n_mails, n_restarts) = (scaled(600, 6_000), scaled(4, 30));
    let relay = Relay::watched(slow);
    // A server of its own, that keeps what it committed.
    let place = data_dir();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let root = place.path().join("postgres");
    let mut server = embedded::start(&root, Durability::Full).await.unwrap();
    let url = server.options().to_url_lossy().to_string();
    let dir = data_dir();
    let with_url = config(relay.port).replacen("[database]", &format!("[database]\nurl = {url:?}"), 1);
    std::fs::write(dir.path().join("jobs.toml"), with_url).unwrap();
    let run = |args: &[&str]| ran(command(dir.path()).args(args).output().unwrap());
    run(&["jobs"]).expect(0);
    let pool = PgPoolOptions::new().connect_lazy_with(server.options());

    let mut codes = BTreeMap::<i32, usize>::new();
    for n in 0..n_restarts {
        due_orders(&pool, n_mails / n_restarts).await;
        let before = relay.n_accepted();
        let mut child = command(dir.path()).args(["run", "send-invitations"]).spawn().unwrap();
        assert!(in_the_middle(&mut child, &relay, before, n).await, "it ended before the database fell over");
        fall_over(server.root());
        server = embedded::start(&root, Durability::Full).await.unwrap();
        let back = Instant::now();
        let code = child.wait().unwrap().code().unwrap();
        assert!(back.elapsed() < Duration::from_secs(30), "{:?}", back.elapsed());
        // It recovers, or ends with an error.
        assert!([0, 1, 3].contains(&code), "{code}");
        *codes.entry(code).or_default() += 1;
    }
    let last = run(&["run", "send-invitations", "--json"]);
    assert!([0, 3].contains(&last.code), "{last:?}");
    let n_unknown = check(&pool, &relay, n_mails).await;
    say(&format!("{n_restarts} times without a database: {n_unknown} unknown; exit codes {codes:?}"));
    assert_eq!(n_unknown, 0, "what the relay said is written when the database is back");
    pool.close().await;
    server.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unattended_program_outlives_its_database_and_sends_on() {
    let (n_mails, n_restarts) = (scaled(4_000, 20_000), scaled(2, 10));
    let n_ended = i64::try_from(scaled(5, 10)).unwrap();
    let relay = Relay::watched(slow);
    let place = data_dir();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let root = place.path().join("postgres");
    let mut server = embedded::start(&root, Durability::Full).await.unwrap();
    let url = server.options().to_url_lossy().to_string();
    let dir = data_dir();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let jobs_toml = config(relay.port)
        .replacen("[database]", &format!("[database]\nurl = {url:?}"), 1)
        .replace("listen = \"127.0.0.1:8080\"", &format!("listen = \"127.0.0.1:{port}\""))
        .replace("schedule = \"*/10 * * * *\"", "schedule = \"* * * * *\"");
    std::fs::write(dir.path().join("jobs.toml"), jobs_toml).unwrap();
    ran(command(dir.path()).arg("jobs").output().unwrap()).expect(0);
    let pool = PgPoolOptions::new().connect_lazy_with(server.options());
    due_orders(&pool, n_mails).await;
    let mut serving = Serving::start(dir.path());

    // The next full minute has to come, and all of the orders are decided about before the first mail leaves.
    let first = Duration::from_secs(180);
    let begun = Instant::now();
    let is_sending = in_the_middle_within(first, &mut serving.child, &relay, 0, 0).await;
    assert!(is_sending, "{}", serving.log());
    let sql = "select extract(epoch from clock_timestamp() - min(started_at))::float8 from job_run where job = 'send-invitations'";
    let deciding: f64 = sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap();
    say(&format!("the first mail after {:.1?}, {deciding:.1} s after its run had begun", begun.elapsed()));
    let (mut slowest, mut n_terminated) = (Duration::ZERO, 0_i64);
    for n in 0..n_restarts {
        assert!(in_the_middle(&mut serving.child, &relay, relay.n_accepted(), n).await, "{}", serving.log());
        // Connections are ended one after the other, whatever they are used for; then the whole server falls over.
        let enough = n_terminated + n_ended;
        while n_terminated < enough {
            let sql = "select count(pg_terminate_backend(pid)) from (
                           select pid from pg_stat_activity
                           where application_name = 'afterword' and pid <> pg_backend_pid() order by random() limit 1
                       ) any_of_them";
            n_terminated += sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await.unwrap();
            tokio::time::sleep(Duration::from_millis(random(n) as u64 % 200)).await;
        }
        fall_over(server.root());
        server = embedded::start(&root, Durability::Full).await.unwrap();
        let (back, before) = (Instant::now(), relay.n_accepted());
        // What was in the senders' hands may still leave; this is more than they can hold.
        while relay.n_accepted() <= before + 2 * N_CONNECTIONS {
            serving.expect_alive();
            assert!(back.elapsed() < Duration::from_secs(30), "{}", serving.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        slowest = slowest.max(back.elapsed());
    }
    let (mut last, mut at) = (0, Instant::now());
    while last < n_mails {
        let n = relay.n_accepted();
        if n > last {
            (last, at) = (n, Instant::now());
        }
        // What a run has left, the next full minute's takes up.
        assert!(at.elapsed() < Duration::from_secs(120), "{n} of {n_mails} mails: {}", serving.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The last answers are still to be written.
    let open = "select exists (select from invitation where state in ('claimed', 'in_data'))";
    while sqlx::query_scalar(open).fetch_one(&pool).await.unwrap() {
        assert!(at.elapsed() < Duration::from_secs(60), "{}", serving.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    serving.expect_alive();
    assert_eq!(serving.stop(), Some(0));
    let n_unknown = check(&pool, &relay, n_mails).await;
    assert_eq!(n_unknown, 0, "what the relay said is written when the database is back");
    assert_eq!(relay.n_accepted(), n_mails, "nothing is lost");
    let sql = "select count(*) from job_run where state = 'failed'";
    let n_failed: i64 = sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap();
    assert_eq!(n_failed, 0, "it is no job's failure");
    say(&format!(
        "{n_restarts} restarts and {n_terminated} connections ended: {n_mails} mails once each, sending again after {slowest:?} at most"
    ));
    pool.close().await;
    server.close().await;
}

/// As `pg_ctl stop -m immediate` does: no checkpoint, connections cut. Comes back when the server is gone.
pub fn fall_over(root: &Path) {
    let text = std::fs::read_to_string(root.join("data/postmaster.pid")).unwrap();
    let server = Pid::from_raw(text.lines().next().unwrap().parse().unwrap());
    kill(server, Signal::SIGQUIT).unwrap();
    let begun = Instant::now();
    while kill(server, None).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the server does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}
