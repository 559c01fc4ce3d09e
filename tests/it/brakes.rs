//! [2] When a job that sends stops by itself, and how it goes on.

use chrono::TimeDelta;
use sqlx::PgPool;

use crate::support::factories::{self, Order, at};
use crate::support::program::{Program, Ran, shipped_with};
use crate::support::smtp::Relay;

const NOW: &str = "2026-03-12T10:00:00Z";

async fn orders(pool: &PgPool, addresses: impl IntoIterator<Item = String>) {
    let shop = factories::shop(pool, "maison").await;
    for (n, email) in addresses.into_iter().enumerate() {
        let customer = factories::customer(pool, shop, &email).await;
        Order::new(shop, customer, &format!("{email} {n}")).insert(pool).await;
    }
}

fn addresses(name: &str, n: usize) -> Vec<String> {
    (0..n).map(|i| format!("{name}@c{i}.customer.example")).collect()
}

fn send(program: &Program, now: &str) -> Ran {
    program.run(&["run", "send-invitations", "--as-of", now])
}

fn resume(program: &Program, now: &str) {
    let resumed = program.run(&["jobs", "resume", "send-invitations", "--as-of", now]).expect(0);
    assert!(resumed.stderr.contains("runs again"), "{}", resumed.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_refusals_pause_the_job_until_somebody_resumes_it() {
    let relay = Relay::start();
    let program = Program::new(&shipped_with(relay.port)).await;
    let pool = &program.db.pool;
    program.run(&["migrate"]).expect(0);
    // Addresses that do not exist are the addresses' fault, and those put off are not refused: neither counts here.
    let names = [("alice", 38), ("nobody", 10), ("policy", 2), ("refused", 1), ("later", 5)];
    orders(pool, names.map(|(name, n)| addresses(name, n)).concat()).await;
    let reason =
        "maison: 3 of the last 51 mails were refused by the relay, more than max_refusal_rate = 0.05 allows";
    let stopped = send(&program, NOW).expect(3);
    assert!(stopped.stderr.contains("3 of the last 51 mails were refused"), "{}", stopped.stderr);
    let jobs = program.run(&["jobs", "--json"]).expect(0).json();
    let paused = jobs.as_array().unwrap().iter().find(|job| job["job"] == "send-invitations").unwrap();
    assert_eq!(paused["paused"]["reason"], reason);

    orders(pool, addresses("bob", 1)).await;
    let refused = send(&program, NOW).expect(4);
    assert!(refused.stderr.contains(reason) && refused.stderr.contains("jobs resume"), "{}", refused.stderr);
    assert_eq!(relay.accepted().len(), 38);
    // What was looked at and judged does not stop it a second time.
    resume(&program, NOW);
    send(&program, NOW).expect(0);
    assert_eq!(relay.accepted().len(), 39);
}

/// It is done before every batch, however much was ever mailed, and before Postgres has looked at what was mailed a minute ago.
#[tokio::test(flavor = "multi_thread")]
async fn the_latest_mails_are_looked_at_and_no_others_whatever_the_statistics_say() {
    let program = Program::new(&shipped_with(1)).await;
    let pool = &program.db.pool;
    let shop = factories::shop(pool, "maison").await;
    let made = "with of_attempts as (
            insert into invitation (shop_id, order_id, customer_id, survey, wave, survey_version_id, state, due_at, decided_at,
                next_attempt_at, sent_at)
            select $1, n, n, 'satisfaction', 0, 1, 'sent', '2026-03-10', '2026-03-10', '2026-03-10', '2026-03-10'
            from generate_series(1, 50000) n
            returning shop_id, invitation_id
        )
        insert into attempt (shop_id, invitation_id, attempt, started_at, phase, outcome, text)
        select shop_id, invitation_id, 1, timestamptz '2026-03-10' + invitation_id * interval '1 second', 'final', 'sent', '2.0.0 Ok'
        from of_attempts";
    sqlx::raw_sql("alter table attempt set (autovacuum_enabled = false)").execute(pool).await.unwrap();
    sqlx::query(made).bind(shop).execute(pool).await.unwrap();
    let explain = "explain (analyze, buffers, format json)
        select * from latest_attempts((select shop_id from shop limit 1), '1970-01-01', 1000)";
    let plan: serde_json::Value = sqlx::query_scalar(explain).fetch_one(pool).await.unwrap();
    let top = &plan[0]["Plan"];
    let pages = top["Shared Hit Blocks"].as_u64().unwrap() + top["Shared Read Blocks"].as_u64().unwrap();
    let all: i64 =
        sqlx::query_scalar("select pg_relation_size('attempt') / 8192").fetch_one(pool).await.unwrap();
    assert_eq!(top["Actual Rows"].as_f64(), Some(1000.0), "{plan}");
    assert!(i64::try_from(2 * pages).unwrap() < all, "{pages} of {all} pages: {plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_addresses_that_do_not_exist_pause_the_job() {
    let relay = Relay::start();
    let program = Program::new(&shipped_with(relay.port)).await;
    program.run(&["migrate"]).expect(0);
    orders(&program.db.pool, [addresses("alice", 95), addresses("nobody", 5)].concat()).await;
    send(&program, NOW).expect(3);
    // Exactly the limit is allowed. One more is one too many, and the next batch does not begin.
    orders(&program.db.pool, addresses("nobody2", 1)).await;
    sqlx::query("update customer set email = 'nobody@late.customer.example', email_key = 'nobody@late.customer.example' where email like 'nobody2@%'")
        .execute(&program.db.pool)
        .await
        .unwrap();
    let stopped = send(&program, NOW).expect(3);
    assert!(
        stopped.stderr.contains("6 of the last 101 mails went to addresses that do not take mail"),
        "{}",
        stopped.stderr
    );
    send(&program, NOW).expect(4);
}

#[tokio::test(flavor = "multi_thread")]
async fn complaints_pause_the_job() {
    let relay = Relay::start();
    let program = Program::new(&shipped_with(relay.port)).await;
    let pool = &program.db.pool;
    program.run(&["migrate"]).expect(0);
    orders(pool, addresses("alice", 10)).await;
    send(&program, NOW).expect(0);
    let complain = async |n: i64| {
        let sql = "insert into bounce (shop_id, invitation_id, digest, kind, reason, received_at)
                   select shop_id, invitation_id, int8send($1), 'complaint', 'abuse', $2 from invitation order by invitation_id offset $1 limit 1";
        sqlx::query(sql).bind(n).bind(at(NOW)).execute(pool).await.unwrap();
    };
    complain(0).await;
    complain(1).await;
    let later = "2026-03-12T11:00:00Z";
    send(&program, later).expect(0);
    // Two may be chance; three of ten are not.
    complain(2).await;
    let stopped = send(&program, later).expect(3);
    assert!(stopped.stderr.contains("3 of the last 10 mails were called spam"), "{}", stopped.stderr);
    // A week later they are forgotten, but for the pause.
    let much_later = (at(NOW) + TimeDelta::days(8)).to_rfc3339();
    send(&program, &much_later).expect(4);
    resume(&program, &much_later);
    send(&program, &much_later).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_can_pause_a_job_too() {
    let program = Program::new(&shipped_with(1)).await;
    program.run(&["jobs", "pause", "send-invitatons"]).expect(2);
    program.run(&["jobs", "pause", "send-invitations", "--reason", "the relay moves"]).expect(0);
    let again = program.run(&["jobs", "pause", "send-invitations"]).expect(0);
    assert!(again.stderr.contains("was paused already"), "{}", again.stderr);
    let refused = program.run(&["run", "send-invitations", "--json"]).expect(4);
    assert!(refused.json()["text"].as_str().unwrap().contains("the relay moves"), "{}", refused.stdout);
    // Looking is allowed.
    program.run(&["run", "send-invitations", "--dry-run"]).expect(0);
    resume(&program, NOW);
    program.run(&["run", "send-invitations"]).expect(0);
}
