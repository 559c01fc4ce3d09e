//! Many answers at a time, and what gets in their way: other writers, cut connections, full queues, crowds.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use afterword::config::Config;
use afterword::token::Purpose;
use afterword::types::{InvitationId, OrderId};
use chrono::TimeDelta;
use sqlx::Connection as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::pages::{CONFIG, Site, fetched};
use crate::support::factories::{self, Order, at};
use crate::support::{random, say};

/// Whether the long versions are asked for (`make soak`).
fn is_soak() -> bool {
    #[expect(clippy::disallowed_methods, reason = "the tests are told so by the environment")]
    std::env::var("AFTERWORD_SOAK").is_ok()
}

/// An order like the site's own, mailed at the same time.
pub async fn another_order(site: &Site, name: &str) -> (OrderId, InvitationId) {
    let pool = &site.database.pool;
    let customer = factories::customer(pool, site.shop, &format!("{name}@customer.example")).await;
    let order = Order::new(site.shop, customer, name).insert(pool).await;
    (order, factories::sent_invitation(pool, site.shop, order, at("2026-03-10T09:00:00Z")).await)
}

/// The POST of a form that was fetched a minute ago, as it goes over the wire.
pub fn post(site: &Site, invitation: InvitationId, fields: &str) -> String {
    let Site { context, shop, .. } = site;
    let token = context.tokens.issue(Purpose::Survey, *shop, invitation);
    let proof = fetched(&context.tokens, *shop, invitation, context.clock.now() - TimeDelta::minutes(1));
    post_with(&token, &format!("form.proof={proof}&{fields}"))
}

fn post_with(token: &str, body: &str) -> String {
    format!(
        "POST /s/{token} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// What is answered to a request; its status and everything.
pub async fn exchange(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    read_reply(&mut stream).await
}

async fn read_reply(stream: &mut TcpStream) -> (u16, String) {
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.unwrap();
    let reply = String::from_utf8(reply).unwrap();
    (reply.split(' ').nth(1).unwrap().parse().unwrap(), reply)
}

/// Sessions of this database that are in a transaction and do nothing.
async fn stale_sessions(site: &Site) -> i64 {
    let sql = "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'";
    sqlx::query_scalar(sql).fetch_one(&site.database.pool).await.unwrap()
}

/// Waits until somebody waits for a lock.
async fn until_somebody_waits(site: &Site) {
    let sql = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    for _ in 0..1_000 {
        let n: i64 = sqlx::query_scalar(sql).fetch_one(&site.database.pool).await.unwrap();
        if n > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody waits");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_equal_posts_at_once_are_one_answer() {
    let site = Site::new().await;
    for round in 0..100 {
        let (order, invitation) = another_order(&site, &format!("R-{round}")).await;
        // Half of the rounds are one form sent fifty times, the others fifty forms that say the same.
        let request = |_| post(&site, invitation, "recommend=yes&comment=once");
        let same = request(0);
        let mut posts = JoinSet::new();
        for n in 0..50 {
            let request = if round % 2 == 0 { same.clone() } else { request(n) };
            let address = site.address;
            posts.spawn(async move { exchange(address, &request).await.0 });
        }
        assert_eq!(posts.join_all().await, [303; 50], "round {round}");
        let stored: Vec<bool> = sqlx::query_scalar("select counted from response where order_id = $1")
            .bind(order)
            .fetch_all(&site.database.pool)
            .await
            .unwrap();
        assert_eq!(stored, [true], "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_cut_leave_whole_answers_or_none() {
    let site = Site::new().await;
    let mut invitations = Vec::new();
    for n in 0..50 {
        invitations.push(another_order(&site, &format!("C-{n}")).await.1);
    }
    let site = {
        let whole = Arc::new(site);
        let mut cut = JoinSet::new();
        for n in 0..5_000_usize {
            let site = Arc::clone(&whole);
            let request = post(&site, invitations[n % 50], &format!("recommend=yes&rating=4&comment=n{n}"));
            cut.spawn(async move {
                tokio::time::sleep(Duration::from_micros(n as u64 * 400)).await;
                let mut stream = TcpStream::connect(site.address).await.unwrap();
                // Somewhere in the request, or some time after it.
                let length = request.len() * (1 + random(n) % 200) / 100;
                let part = &request.as_bytes()[..length.min(request.len())];
                stream.write_all(part).await.unwrap();
                tokio::time::sleep(Duration::from_micros(random(n + 1) as u64 % 20_000)).await;
            });
            if cut.len() > 500 {
                cut.join_next().await.unwrap().unwrap();
            }
        }
        cut.join_all().await;
        Arc::into_inner(whole).unwrap()
    };
    // Everything that was begun has ended.
    let mut site = site;
    site.wait().await;
    let torn: i64 = sqlx::query_scalar(
        "select count(*) from response r where 3 <> (
           select count(*) from answer a where a.shop_id = r.shop_id and a.response_id = r.response_id)",
    )
    .fetch_one(&site.database.pool)
    .await
    .unwrap();
    assert_eq!(torn, 0);
    assert_eq!(stale_sessions(&site).await, 0);
    let stored = site.count("response").await;
    assert!(stored > 100, "some arrived whole: {stored}");
    assert!(site.count("response where counted").await <= 50);
    for invitation in invitations {
        let (status, reply) =
            exchange(site.address, &post(&site, invitation, "recommend=no&topic=service")).await;
        assert_eq!(status, 303, "{reply}");
    }
    assert_eq!(site.count("response where counted").await, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_connections_hold_up_nobody() {
    let site = Site::new().await;
    let held = Duration::from_secs(if is_soak() { 60 } else { 4 });
    // Twenty from each of fifty addresses of this machine, some silent, some in the middle of a head, some of a body.
    let open = async |n: usize| {
        let socket = TcpSocket::new_v4().unwrap();
        let from = format!("127.0.{}.{}:0", 1 + n / 20 / 250, 2 + n / 20 % 250);
        socket.bind(from.parse().unwrap()).unwrap();
        let mut stream = socket.connect(site.address).await.unwrap();
        let part: &[u8] = match n % 3 {
            0 => b"",
            1 => b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ",
            _ => {
                b"POST /s/x HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                  Content-Length: 1000\r\n\r\nrecommend="
            }
        };
        stream.write_all(part).await.unwrap();
        (Instant::now(), stream)
    };
    let mut half_open = Vec::new();
    for n in 0..1_000 {
        half_open.push(open(n).await);
    }
    let began = Instant::now();
    let mut took = Vec::new();
    let mut n_closed = 0;
    while began.elapsed() < held {
        let asked = Instant::now();
        assert_eq!(site.get(&site.survey()).await.status, 200);
        took.push(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
        // Who was closed comes back at once.
        for (n, (_, stream)) in half_open.iter_mut().enumerate() {
            let mut reply = [0; 4096];
            if !matches!(stream.try_read(&mut reply), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
            {
                n_closed += 1;
                *stream = open(n).await.1;
            }
        }
    }
    took.sort_unstable();
    let (median, slowest) = (took[took.len() / 2], took[took.len() - 1]);
    say(&format!(
        "the page beside 1,000 half-open connections: {median:?} in the middle, {slowest:?} at worst, {n_closed} closed meanwhile"
    ));
    assert!(median < Duration::from_secs(1), "{took:?}");
    // All are closed, the body's too, within the time that a request has.
    let mut closing = JoinSet::new();
    for (_, mut stream) in half_open {
        closing.spawn(async move {
            let mut rest = Vec::new();
            let closed = tokio::time::timeout(Duration::from_secs(25), stream.read_to_end(&mut rest)).await;
            closed.is_ok()
        });
    }
    assert!(closing.join_all().await.into_iter().all(|closed| closed));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_all_the_seats() {
    let mut site = Site::new().await;
    let config = CONFIG.replace("[mail]", "trusted_proxies = [\"127.0.0.9\"]\n\n[mail]");
    site.context.config = Arc::new(Config::parse(Path::new("jobs.toml"), &config).unwrap());
    site.wait().await;
    let connect = async |from: &str| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        socket.connect(site.address).await.unwrap()
    };
    let asked = async |mut stream: TcpStream, visitor: &str| {
        let request = format!(
            "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: 198.51.100.9, {visitor}\r\n\r\n"
        );
        // One too many is closed before it can ask.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply).await;
        String::from_utf8(reply).unwrap()
    };
    // A stranger, whatever it says about whom it speaks for.
    let mut seats = Vec::new();
    for _ in 0..20 {
        seats.push(connect("127.0.0.2").await);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let refused = asked(connect("127.0.0.2").await, "192.0.2.1").await;
    assert!(refused.is_empty() || refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(
        asked(connect("127.0.0.3").await, "192.0.2.1").await.starts_with("HTTP/1.1 200"),
        "others are let in"
    );
    seats.truncate(10);
    // Whoever went away is not missed at once.
    let begun = Instant::now();
    while !asked(connect("127.0.0.2").await, "192.0.2.1").await.starts_with("HTTP/1.1 200") {
        assert!(begun.elapsed() < Duration::from_secs(20), "no seat was given back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // A proxy has any number of connections; each visitor behind it has twenty requests at a time.
    let slow = |visitor: &str| {
        format!(
            "POST /s/x HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {visitor}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 10\r\n\r\n"
        )
    };
    let mut crowd = Vec::new();
    for _ in 0..20 {
        let mut stream = connect("127.0.0.9").await;
        stream.write_all(slow("192.0.2.7").as_bytes()).await.unwrap();
        crowd.push(stream);
    }
    let begun = Instant::now();
    let refused = loop {
        let answer = asked(connect("127.0.0.9").await, "192.0.2.7").await;
        if !answer.starts_with("HTTP/1.1 200") || begun.elapsed() > Duration::from_secs(5) {
            break answer;
        }
    };
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 30"), "{refused}");
    assert!(asked(connect("127.0.0.9").await, "192.0.2.8").await.starts_with("HTTP/1.1 200"));
    drop(crowd);
    let begun = Instant::now();
    while !asked(connect("127.0.0.9").await, "192.0.2.7").await.starts_with("HTTP/1.1 200") {
        assert!(begun.elapsed() < Duration::from_secs(20), "no turn was given back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// An import takes minutes, and the answers to other orders do not wait for it; those to its own wait a little.
#[tokio::test(flavor = "multi_thread")]
async fn an_import_holds_up_no_answers_but_those_to_its_orders() {
    let mut site = Site::new().await;
    let (free_order, free) = another_order(&site, "B-1").await;
    // The import stops where it numbers its answers, with their invitations locked.
    sqlx::raw_sql(
        "create function wait_at_the_gate() returns trigger language plpgsql as $$
         begin
             perform pg_advisory_xact_lock_shared(1);
             return new;
         end $$;
         create trigger gate before update on response for each row execute function wait_at_the_gate()",
    )
    .execute(&site.database.pool)
    .await
    .unwrap();
    let mut gate = site.database.pool.acquire().await.unwrap();
    let mut gate = gate.begin().await.unwrap();
    sqlx::query("select pg_advisory_xact_lock(1)").execute(&mut *gate).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("answers.csv");
    std::fs::write(&file, "order_id,answered_at,recommend\nA-1001,2026-03-12T10:00:00Z,no\n").unwrap();
    let import = tokio::spawn({
        let (context, shop) = (site.context.clone(), site.shop);
        async move {
            use afterword::import::run::{Destination, ImportOptions};
            use afterword::responses::import::{Asked, import_responses};
            let config = &context.config.shops[0];
            let to = Destination { pool: &context.pool, shop, config };
            let formats = std::collections::BTreeMap::new();
            let asked = Asked { formats: &formats, surveys: &context.config.surveys, survey: None };
            import_responses(to, asked, &file, &ImportOptions::default(), context.clock, &|_, _| {}).await
        }
    });
    until_somebody_waits(&site).await;

    // Both at once, so that they come into one batch: the free one is stored, whatever holds the other.
    let answer = "recommend=yes&comment=a+person";
    let held = (1..=2).map(|_| post(&site, site.invitation, answer)).collect::<Vec<_>>();
    let mut waiting = JoinSet::new();
    for request in held {
        let address = site.address;
        waiting.spawn(async move { exchange(address, &request).await });
    }
    // They do not wait for the import, which cannot go on.
    for n in 0..5 {
        let (status, reply) = exchange(site.address, &post(&site, free, answer)).await;
        assert_eq!(status, 303, "{n}: {reply}");
    }
    // Who waits too long is told to come back, and nothing is stored.
    for (status, reply) in waiting.join_all().await {
        assert_eq!(status, 503);
        assert!(reply.contains("retry-after: 30") && reply.contains("réessayer"), "{reply}");
    }
    assert_eq!(site.count("response").await, 1, "the free one");
    // The next one waits, and is stored when the import is done: it is the later answer, so it counts.
    let last = tokio::spawn({
        let (address, request) = (site.address, post(&site, site.invitation, answer));
        async move { exchange(address, &request).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!last.is_finished());
    gate.commit().await.unwrap();
    assert_eq!(import.await.unwrap().unwrap().n_inserted, 1);
    assert_eq!(last.await.unwrap().0, 303);
    let rows: Vec<(i32, bool, String)> = sqlx::query_as(
        "select revision, counted, via::text from response where order_id <> $1 order by revision",
    )
    .bind(free_order)
    .fetch_all(&site.database.pool)
    .await
    .unwrap();
    assert_eq!(rows, [(1, false, "import".to_owned()), (2, true, "page".to_owned())]);
    site.wait().await;
    assert_eq!(stale_sessions(&site).await, 0);
}

/// When more come than can be stored, they are told to come back; those that were taken are stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_says_so() {
    let site = Site::new().await;
    let mut requests = Vec::new();
    for n in 0..100 {
        let invitation = another_order(&site, &format!("F-{n}")).await.1;
        requests.push(post(&site, invitation, "recommend=yes"));
    }
    let mut gate = site.database.pool.acquire().await.unwrap();
    let mut gate = gate.begin().await.unwrap();
    sqlx::query("lock table response in access exclusive mode").execute(&mut *gate).await.unwrap();
    // More than two batches and the queue between them hold, fewer than there may be connections.
    let mut posts = JoinSet::new();
    for n in 0..980 {
        let (address, request) = (site.address, requests[n % 100].clone());
        posts.spawn(async move { (n % 100, exchange(address, &request).await) });
    }
    let (_, (status, reply)) = posts.join_next().await.unwrap().unwrap();
    assert_eq!(status, 503, "the first to hear anything are those that were not taken");
    assert!(reply.contains("retry-after: 30"), "{reply}");
    gate.commit().await.unwrap();
    let answers: Vec<(usize, u16)> =
        posts.join_all().await.into_iter().map(|(order, (status, _))| (order, status)).collect();
    let taken: Vec<usize> =
        answers.iter().filter(|(_, status)| *status == 303).map(|(order, _)| *order).collect();
    assert!(taken.len() >= 512, "{} were taken", taken.len());
    assert!(answers.iter().all(|(_, status)| [303, 503].contains(status)), "{answers:?}");
    let orders: BTreeSet<usize> = taken.into_iter().collect();
    assert_eq!(site.count("response where counted").await, orders.len() as i64);
}

/// An answer that cannot be stored hurts nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_poison_answer_hurts_only_itself() {
    let site = Site::new().await;
    let pool = &site.database.pool;
    sqlx::query("insert into survey_version (shop_id, survey, digest, questionnaire, created_at) select shop_id, survey, 'x', '{}', created_at from survey_version")
        .execute(pool)
        .await
        .unwrap();
    let mut requests = Vec::new();
    for n in 0..40 {
        let invitation = another_order(&site, &format!("P-{n}")).await.1;
        if n % 10 == 3 {
            sqlx::query("update invitation set survey_version_id = (select max(survey_version_id) from survey_version) where invitation_id = $1")
                .bind(invitation)
                .execute(pool)
                .await
                .unwrap();
        }
        requests.push((n % 10 == 3, post(&site, invitation, "recommend=yes&comment=whole")));
    }
    let mut posts = JoinSet::new();
    for (is_poison, request) in requests {
        let address = site.address;
        posts.spawn(async move { (is_poison, exchange(address, &request).await.0) });
    }
    for (is_poison, status) in posts.join_all().await {
        assert_eq!(status, if is_poison { 500 } else { 303 });
    }
    assert_eq!(site.count("response where counted").await, 36);
    assert_eq!(site.count("answer").await, 72);
}

/// Notes that cannot be written hold up no page and no answer.
#[tokio::test(flavor = "multi_thread")]
async fn notes_about_visits_hold_up_nobody() {
    let site = Site::new().await;
    let mut gate = site.database.pool.acquire().await.unwrap();
    let mut gate = gate.begin().await.unwrap();
    sqlx::query("lock table hit in exclusive mode").execute(&mut *gate).await.unwrap();
    let began = Instant::now();
    for _ in 0..5 {
        assert_eq!(site.get(&site.survey()).await.status, 200);
    }
    assert_eq!(site.send(&[("recommend", "yes")]).await.status, 303);
    assert!(began.elapsed() < Duration::from_secs(4), "they did not wait for the lock");
    gate.commit().await.unwrap();
}
