//! [2] Who is asked, and what becomes of the mail: against a real Postgres and a real conversation with a relay.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use afterword::context::Context;
use afterword::invitations::plan::Action;
use afterword::invitations::{self, InvitationState, Manner, Reason, SendReport, outbox};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgPool};
use tokio_util::sync::CancellationToken;

use crate::support::factories::{self, Order, at};
use crate::support::on_own_runtime;
use crate::support::program::{Program, command, ran, shipped, shipped_with};
use crate::support::smtp::{self, Relay, Security};

/// Orders are delivered on 3 March; with a delay of seven days they are due on the 10th.
const NOW: &str = "2026-03-12T10:00:00Z";
/// A port of this machine where no relay is.
const NOBODY_LISTENS: u16 = 1;

async fn send(context: &Context, dry_run: bool) -> SendReport {
    let survey = context.config.survey("satisfaction").unwrap();
    let manner = Manner { dry_run, ..Manner::default() };
    invitations::send(context, survey, manner, &CancellationToken::new()).await.unwrap()
}

/// An order of the shop `maison` per address, called by its number from 1.
async fn orders(pool: &PgPool, emails: &[&str]) {
    let shop = factories::shop(pool, "maison").await;
    for (n, email) in emails.iter().enumerate() {
        let customer = factories::customer(pool, shop, email).await;
        Order::new(shop, customer, &(n + 1).to_string()).insert(pool).await;
    }
}

/// The state of every invitation, by the order's number.
async fn states(pool: &PgPool) -> BTreeMap<String, (InvitationState, Option<Reason>, i16)> {
    let sql = r#"select o.external_id, i.state, i.reason, i.attempts
                 from invitation i join "order" o using (shop_id, order_id)"#;
    let rows: Vec<(String, InvitationState, Option<Reason>, i16)> =
        sqlx::query_as(sql).fetch_all(pool).await.unwrap();
    rows.into_iter().map(|(order, state, reason, attempts)| (order, (state, reason, attempts))).collect()
}

async fn at_moment(program: &Program, now: DateTime<Utc>) -> Context {
    program.context(now).await
}

#[tokio::test]
async fn every_due_order_gets_one_decision_with_its_reason() {
    let relay = Relay::start();
    let program = Program::new(&shipped_with(relay.port)).await;
    let pool = &program.db.pool;
    let shop = factories::shop(pool, "maison").await;
    let mut customers = BTreeMap::new();
    for name in [
        "asked",
        "cancelled",
        "refunded",
        "late",
        "twice",
        "unsubscribed",
        "bounced",
        "open",
        "soon",
        "erased",
    ] {
        customers.insert(name, factories::customer(pool, shop, &format!("{name}@customer.example")).await);
    }
    let order = |name: &str| Order::new(shop, customers[name], name);
    order("asked").insert(pool).await;
    Order { status: "cancelled", ..order("cancelled") }.insert(pool).await;
    Order { status: "refunded", ..order("refunded") }.insert(pool).await;
    order("late").ordered_at("2026-01-01T10:00:00Z").insert(pool).await;
    order("twice").insert(pool).await;
    Order { external_id: "twice-later".to_owned(), ..order("twice").ordered_at("2026-03-02T10:00:00Z") }
        .insert(pool)
        .await;
    Order { fulfilled_at: None, status: "open", ..order("open") }.insert(pool).await;
    order("soon").ordered_at("2026-03-09T10:00:00Z").insert(pool).await;
    for (name, reason) in [("unsubscribed", "unsubscribed"), ("bounced", "bounced")] {
        order(name).insert(pool).await;
        let sql = "insert into suppression values ($1, sha256($2), $3::suppression_reason, now())";
        let address = format!("{name}@customer.example").into_bytes();
        sqlx::query(sql).bind(shop).bind(address).bind(reason).execute(pool).await.unwrap();
    }
    order("erased").insert(pool).await;
    sqlx::query(
        "update customer set email = null, email_key = null, erased_at = now() where customer_id = $1",
    )
    .bind(customers["erased"])
    .execute(pool)
    .await
    .unwrap();

    let context = at_moment(&program, at(NOW)).await;
    let dry = send(&context, true).await;
    assert_eq!(states(pool).await.len(), 0, "a dry run writes nothing");
    assert_eq!(relay.accepted().len(), 0, "and mails nothing");
    let real = send(&context, false).await;
    assert_eq!(dry.shops[0].first, real.shops[0].first);

    let skipped = |reason| (InvitationState::Skipped, Some(reason), 0);
    let expected = BTreeMap::from(
        [
            ("asked", (InvitationState::Sent, None, 1)),
            ("cancelled", skipped(Reason::Cancelled)),
            ("refunded", skipped(Reason::Refunded)),
            ("late", skipped(Reason::TooLate)),
            ("twice", (InvitationState::Sent, None, 1)),
            ("twice-later", skipped(Reason::Throttled)),
            ("unsubscribed", skipped(Reason::Unsubscribed)),
            ("bounced", skipped(Reason::Suppressed)),
            ("erased", skipped(Reason::NoAddress)),
        ]
        .map(|(order, state)| (order.to_owned(), state)),
    );
    assert_eq!(states(pool).await, expected);
    let reason = |action| match action {
        Action::Skip { reason } => Some(reason),
        action => {
            assert_eq!(action, Action::Mail);
            None
        }
    };
    let plan = dry.shops[0].plan.iter();
    let listed: BTreeMap<_, _> =
        plan.map(|planned| (planned.order_id.clone(), reason(planned.action))).collect();
    assert_eq!(listed, expected.iter().map(|(order, (_, reason, _))| (order.clone(), *reason)).collect());

    // Again, the same day and the next: nobody is decided about or mailed twice.
    send(&context, false).await;
    send(&at_moment(&program, at(NOW) + TimeDelta::days(1)).await, false).await;
    assert_eq!(states(pool).await, expected);
    assert_eq!(relay.accepted().len(), 2);
    // The throttle looks back: the later order of "soon" is due now, its customer was never asked; "twice" was.
    Order { external_id: "twice-again".to_owned(), ..order("twice").ordered_at("2026-03-10T10:00:00Z") }
        .insert(pool)
        .await;
    send(&at_moment(&program, at("2026-03-20T10:00:00Z")).await, false).await;
    let now = states(pool).await;
    assert_eq!(now["soon"].0, InvitationState::Sent);
    assert_eq!(now["twice-again"], skipped(Reason::Throttled));
}

#[tokio::test]
async fn what_the_relay_says_decides_the_outcome() {
    let relay = Relay::start();
    let program = Program::new(&shipped_with(relay.port)).await;
    let pool = &program.db.pool;
    let names = ["alice", "nobody", "policy", "later", "refused", "vanish"];
    orders(pool, &names.map(|name| format!("{name}@customer.example")).each_ref().map(String::as_str)).await;
    let report = send(&at_moment(&program, at(NOW)).await, false).await;
    let delivery = &report.shops[0].delivery;
    assert_eq!((delivery.n_sent, delivery.n_deferred, delivery.n_failed, delivery.n_unknown), (1, 1, 3, 1));
    assert!(report.is_partial());

    let found = states(pool).await;
    let state =
        |name: &str| found[&(names.iter().position(|other| *other == name).unwrap() + 1).to_string()].0;
    assert_eq!(state("alice"), InvitationState::Sent);
    assert_eq!(state("nobody"), InvitationState::Failed);
    assert_eq!(state("policy"), InvitationState::Failed);
    assert_eq!(state("later"), InvitationState::Deferred);
    assert_eq!(state("refused"), InvitationState::Failed);
    assert_eq!(state("vanish"), InvitationState::Unknown);

    // Only the address that does not exist is not written to again.
    let suppressed: Vec<String> = sqlx::query_scalar(
        "select c.email from customer c join suppression s
         on s.shop_id = c.shop_id and s.address_hash = sha256(convert_to(c.email_key, 'UTF8'))",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert_eq!(suppressed, ["nobody@customer.example"]);
    // What the relay said is kept, the address in it is not.
    let text: String =
        sqlx::query_scalar("select text from attempt where code = 550 and enhanced_code = '5.1.1'")
            .fetch_one(pool)
            .await
            .unwrap();
    assert!(text.contains("no such user") && !text.contains('@'), "{text}");

    // Days of further runs: the deferred one is tried again, the unknown one never.
    for hours in [1, 5, 24, 48] {
        send(&at_moment(&program, at(NOW) + TimeDelta::hours(hours)).await, false).await;
    }
    let to_vanish = relay.accepted().iter().filter(|mail| mail.to.starts_with("vanish@")).count();
    assert_eq!(to_vanish, 1, "what nobody can know is not sent again");
    assert_eq!(states(pool).await["4"], (InvitationState::Deferred, None, 5));
    assert_eq!(states(pool).await["6"], (InvitationState::Unknown, None, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_row_stands_before_the_final_dot() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (noted, options) = (Arc::clone(&seen), Arc::new(OnceLock::<PgConnectOptions>::new()));
    let from_elsewhere = Arc::clone(&options);
    let relay = Relay::watched(move || {
        // Another connection sees only what was committed.
        let states: Vec<String> = on_own_runtime(async {
            let mut conn = from_elsewhere.get().unwrap().connect().await.unwrap();
            sqlx::query_scalar("select state::text from invitation").fetch_all(&mut conn).await.unwrap()
        });
        noted.lock().unwrap().push(states);
    });
    let program = Program::new(&shipped_with(relay.port)).await;
    options.set(program.db.options()).unwrap();
    orders(&program.db.pool, &["alice@customer.example"]).await;
    send(&at_moment(&program, at(NOW)).await, false).await;
    assert_eq!(*seen.lock().unwrap(), [["in_data"]]);
    assert_eq!(states(&program.db.pool).await["1"].0, InvitationState::Sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_relay_is_spoken_to_as_configured() {
    let (server, pem) = smtp::certificate();
    let check = async |relay: Relay, tls: &str, password: &str, trusts: bool| {
        let config =
            shipped_with(relay.port).replace("host = \"127.0.0.1\"", "host = \"localhost\"").replace(
                "tls = \"none\"",
                &format!("tls = {tls:?}\nusername = \"shop\"\npassword_file = \"password\""),
            );
        let program = Program::new(&config).await;
        program.write_secret("password", format!("{password}\n"));
        program.write("trusted.pem", if trusts { &pem } else { "" });
        program.run(&["migrate"]).expect(0);
        orders(&program.db.pool, &["alice@customer.example"]).await;
        let mut command = command(program.dir.path());
        let sending = command.env("SSL_CERT_FILE", program.path("trusted.pem")).args([
            "run",
            "send-invitations",
            "--as-of",
            NOW,
        ]);
        let code = ran(sending.output().unwrap()).code;
        let accepted = relay.accepted();
        assert!(accepted.iter().all(|mail| mail.is_encrypted), "{tls}");
        assert!(accepted.iter().all(|mail| mail.is_pipelined == (tls != "implicit")), "{tls}");
        let (state, _, attempts) = states(&program.db.pool).await["1"];
        assert_eq!(
            attempts,
            i16::from(state == InvitationState::Sent),
            "the relay's fault is not the recipient's"
        );
        (code, accepted.len(), state)
    };
    let (sent, waits) = ((0, 1, InvitationState::Sent), (3, 0, InvitationState::Queued));
    let starttls = || Relay::secure(Security::Starttls(Arc::clone(&server)));
    let implicit = || Relay::secure(Security::Implicit(Arc::clone(&server)));
    assert_eq!(check(starttls(), "required", "correct horse", true).await, sent);
    assert_eq!(check(starttls(), "opportunistic", "correct horse", true).await, sent);
    assert_eq!(check(implicit(), "implicit", "correct horse", true).await, sent);
    // A certificate that nobody vouches for, a wrong password, a relay that does not encrypt: no mail leaves, and none is lost.
    assert_eq!(check(starttls(), "required", "correct horse", false).await, waits);
    assert_eq!(check(implicit(), "implicit", "correct horse", false).await, waits);
    assert_eq!(check(starttls(), "required", "wrong", true).await, waits);
    assert_eq!(check(Relay::start(), "required", "correct horse", true).await, waits);
}

#[tokio::test]
async fn a_relay_that_is_away_is_held_against_nobody() {
    let relay = Relay::start();
    let program = Program::new(&shipped_with(NOBODY_LISTENS)).await;
    orders(&program.db.pool, &["a@customer.example", "b@customer.example"]).await;
    let report = send(&at_moment(&program, at(NOW)).await, false).await;
    assert!(report.is_partial());
    let waiting = (InvitationState::Queued, None, 0);
    assert_eq!(states(&program.db.pool).await.into_values().collect::<Vec<_>>(), [waiting, waiting]);

    // It is back, and the mails leave.
    program.configure(&shipped_with(relay.port));
    send(&at_moment(&program, at(NOW) + TimeDelta::minutes(5)).await, false).await;
    assert_eq!(relay.accepted().len(), 2);
}

#[tokio::test]
async fn an_order_cancelled_or_a_customer_gone_while_the_mail_waits_is_not_mailed() {
    let program = Program::new(&shipped_with(NOBODY_LISTENS)).await;
    let pool = &program.db.pool;
    orders(pool, &["a@customer.example", "b@customer.example", "c@customer.example"]).await;
    send(&at_moment(&program, at(NOW)).await, false).await;
    sqlx::query(r#"update "order" set status = 'cancelled' where external_id = '1'"#)
        .execute(pool)
        .await
        .unwrap();
    sqlx::query(
        "insert into suppression select shop_id, sha256('b@customer.example'), 'manual', now() from shop",
    )
    .execute(pool)
    .await
    .unwrap();
    let later = at(NOW) + TimeDelta::days(40);
    send(&at_moment(&program, later).await, false).await;
    let found = states(pool).await;
    assert_eq!(found["1"].0, InvitationState::Cancelled);
    assert_eq!(found["2"].0, InvitationState::Suppressed);
    assert_eq!(found["3"].0, InvitationState::Expired);
}

#[tokio::test]
async fn a_mail_that_is_given_up_stands_in_no_other_orders_way() {
    let program = Program::new(&shipped_with(NOBODY_LISTENS)).await;
    let pool = &program.db.pool;
    let shop = factories::shop(pool, "maison").await;
    let customer = factories::customer(pool, shop, "a@customer.example").await;
    Order::new(shop, customer, "1").insert(pool).await;
    send(&at_moment(&program, at(NOW)).await, false).await;
    sqlx::query(r#"update "order" set status = 'cancelled'"#).execute(pool).await.unwrap();
    Order::new(shop, customer, "2").insert(pool).await;
    send(&at_moment(&program, at(NOW) + TimeDelta::minutes(5)).await, false).await;
    let found = states(pool).await;
    let [one, two] = ["1", "2"].map(|order| found[order].0);
    assert_eq!((one, two), (InvitationState::Cancelled, InvitationState::Queued));
}

#[tokio::test]
async fn two_runs_at_once_mail_everybody_once() {
    let relay = Relay::start();
    let program = Program::new(&shipped_with(relay.port)).await;
    let emails: Vec<String> = (0..120).map(|n| format!("c{n}@customer.example")).collect();
    orders(&program.db.pool, &emails.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let context = at_moment(&program, at(NOW)).await;
    let (one, two) = tokio::join!(send(&context, false), send(&context, false));
    let n_sent = |report: &SendReport| report.shops[0].delivery.n_sent;
    assert_eq!(n_sent(&one) + n_sent(&two), 120);
    let mut recipients: Vec<String> = relay.accepted().into_iter().map(|mail| mail.to).collect();
    recipients.sort();
    recipients.dedup();
    assert_eq!((recipients.len(), relay.accepted().len()), (120, 120));
}

#[tokio::test]
async fn a_sender_that_died_leaves_an_unknown_or_a_queued_row() {
    let relay = Relay::start();
    let program = Program::new(&shipped_with(NOBODY_LISTENS)).await;
    let pool = &program.db.pool;
    orders(pool, &["a@customer.example", "b@customer.example"]).await;
    send(&at_moment(&program, at(NOW)).await, false).await;
    // As a kill would leave them: one claimed, one committed before its final dot; both leases ran out.
    sqlx::query(
        "update invitation set lease_until = now() - interval '1 second', fence = fence + 1,
         state = (case when order_id = (select min(order_id) from \"order\") then 'claimed' else 'in_data' end)::invitation_state",
    )
    .execute(pool)
    .await
    .unwrap();
    program.configure(&shipped_with(relay.port));
    let report = send(&at_moment(&program, at(NOW) + TimeDelta::minutes(5)).await, false).await;
    assert_eq!(report.shops[0].delivery.settled.n_unknown, 1);
    let found = states(pool).await;
    assert_eq!((found["1"].0, found["2"].0), (InvitationState::Sent, InvitationState::Unknown));
    assert_eq!(relay.accepted().len(), 1);
}

/// The database's statistics are of an hour in which nothing waited. Compared with each other, 20,000 mails take half a minute.
#[tokio::test]
async fn a_long_queue_is_settled_whatever_the_statistics_say() {
    let program = Program::new(&shipped()).await;
    let pool = &program.db.pool;
    let shop = factories::shop(pool, "maison").await;
    let version = factories::survey_version(pool, shop, "satisfaction").await;
    sqlx::raw_sql("alter table invitation set (autovacuum_enabled = false)").execute(pool).await.unwrap();
    let made = r#"
        with c as (
            insert into customer (shop_id, email, email_key)
            select $1, n || '@customer.example', n || '@customer.example' from generate_series(1, 20000) n
            returning customer_id
        ),
        o as (
            insert into "order" (shop_id, external_id, customer_id, ordered_at, fulfilled_at, status, items, attributes, imported_at,
                updated_at)
            select $1, customer_id, customer_id, '2026-03-01', '2026-03-03',
                (case when customer_id % 4 = 0 then 'cancelled' else 'fulfilled' end)::order_status, '{}', '{}', now(), now()
            from c
            returning order_id, customer_id
        )
        insert into invitation (shop_id, order_id, customer_id, survey, wave, survey_version_id, state, due_at, decided_at,
            next_attempt_at, sent_at)
        select $1, order_id, customer_id, 'satisfaction', 0, $2, 'sent', '2026-03-10', '2026-03-10', '2026-03-10', '2026-03-10' from o"#;
    sqlx::query(made).bind(shop).bind(version).execute(pool).await.unwrap();
    sqlx::raw_sql(
        r#"analyze; update invitation set state = 'queued', sent_at = null;
           update "order" set fulfilled_at = '2026-03-04' where customer_id % 4 = 1"#,
    )
    .execute(pool)
    .await
    .unwrap();
    let context = at_moment(&program, at(NOW)).await;
    let survey = context.config.survey("satisfaction").unwrap();
    let mut transaction = pool.begin().await.unwrap();
    sqlx::raw_sql("set local statement_timeout = '15s'").execute(&mut *transaction).await.unwrap();
    let settled = outbox::settle(&mut transaction, shop, survey, at(NOW)).await.unwrap();
    assert_eq!((settled.n_cancelled, settled.given_up.len()), (5_000, 5_000));
    let moved = "select count(*) from invitation where due_at = '2026-03-11'";
    assert_eq!(sqlx::query_scalar::<_, i64>(moved).fetch_one(&mut *transaction).await.unwrap(), 5_000);
}

/// Also those of a shop that Postgres's statistics have never seen, beside one that they know.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_finds_its_rows_by_their_keys_whatever_the_statistics_say() {
    let program = Program::new(&shipped()).await;
    let mut conn = program.db.pool.begin().await.unwrap();
    let rows = |shop: i32, from: i32, n: i32, state: &str, sent_at: &str| {
        format!(
            "insert into invitation (shop_id, order_id, customer_id, survey, wave, survey_version_id, state, due_at, decided_at,
                 next_attempt_at, sent_at)
             select {shop}, n, n, 'satisfaction', 0, 1, '{state}', '2026-03-10', '2026-03-10', '2026-03-10', {sent_at}
             from generate_series({from}, {from} + {n} - 1) n;"
        )
    };
    let known = rows(1, 1, 60_000, "sent", "'2026-03-10'");
    let made =
        format!("alter table invitation set (autovacuum_enabled = false); {known} analyze invitation;");
    let claim = format!("prepare claim as {};", include_str!("../../src/invitations/claim.sql"));
    for (shop, from) in [(1, 60_001), (2, 1)] {
        let waiting = rows(shop, from, 20_000, "queued", "null");
        let settings = outbox::FROM_THE_FRONT;
        let before = if shop == 1 { made.as_str() } else { "deallocate claim;" };
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("{before} {waiting} {settings}; {claim}")))
            .execute(&mut *conn)
            .await
            .unwrap();
        let explain = format!(
            "explain (format json) execute claim ({shop}, 'satisfaction', '2026-03-12', 200, 1, false, '7 days', false, '{{}}')"
        );
        let plan: serde_json::Value = sqlx::query_scalar(sqlx::AssertSqlSafe(explain))
            .persistent(false)
            .fetch_one(&mut *conn)
            .await
            .unwrap();
        let plan = serde_json::to_string_pretty(&plan).unwrap();
        let by_key = |line: &str| line.contains("\"Index Cond\"") && line.contains("invitation_id = ANY");
        assert!(plan.lines().any(by_key), "{plan}");
        assert!(!["Hash", "\"Sort\"", "Bitmap", "Seq Scan"].iter().any(|node| plan.contains(node)), "{plan}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unknown_is_settled_by_hand() {
    let relay = Relay::start();
    let program = Program::new(&shipped_with(relay.port)).await;
    orders(&program.db.pool, &["vanish@customer.example", "vanish@other.example"]).await;
    send(&at_moment(&program, at(NOW)).await, false).await;
    let listed = program.run(&["outbox", "--state", "unknown", "--json"]).expect(0).json();
    let mut ids: Vec<String> =
        listed.as_array().unwrap().iter().map(|entry| entry["id"].to_string()).collect();
    ids.sort();
    assert_eq!(ids.len(), 2, "{listed}");
    assert!(listed[0]["message_id"].as_str().is_some_and(|id| id.ends_with("@maison.example")), "{listed}");
    program.run(&["outbox", "resolve", &ids[0]]).expect(2);
    program.run(&["outbox", "resolve", &ids[0], "--accept"]).expect(0);
    program.run(&["outbox", "resolve", &ids[1], "--resend"]).expect(0);
    program.run(&["outbox", "resolve", &ids[0], "--resend"]).expect(1);
    let found = states(&program.db.pool).await;
    assert_eq!((found["1"].0, found["2"].0), (InvitationState::Sent, InvitationState::Queued));
    let sent_at: DateTime<Utc> = sqlx::query_scalar("select sent_at from invitation where state = 'sent'")
        .fetch_one(&program.db.pool)
        .await
        .unwrap();
    assert_eq!(sent_at, at(NOW), "when it was tried");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_is_not_written_to_any_more() {
    let program = Program::new(&shipped()).await;
    program.run(&["suppress", "add", "Alice@Customer.example"]).expect(0);
    program.run(&["suppress", "add", "bob@customer.example", "--shop", "maison"]).expect(0);
    program.run(&["suppress", "add", "nobody"]).expect(2);
    program.run(&["suppress", "add", "bob@customer.example", "--shop", "masion"]).expect(2);
    program.run(&["suppress", "remove", "bob@customer.example"]).expect(0);
    orders(&program.db.pool, &["alice@customer.example", "bob@customer.example"]).await;
    send(&at_moment(&program, at(NOW)).await, false).await;
    let found = states(&program.db.pool).await;
    assert_eq!(found["1"], (InvitationState::Skipped, Some(Reason::Suppressed), 0));
    assert_eq!(found["2"].0, InvitationState::Sent);
    let list = program.run(&["suppress", "list", "--json"]).expect(0).json();
    assert_eq!(list[0]["email"], "alice@customer.example");
    assert_eq!((list[0]["reason"].as_str(), list.as_array().unwrap().len()), (Some("manual"), 1), "{list}");
}

#[tokio::test]
async fn connections_wear_out_and_mails_keep_to_the_rate() {
    let relay = Relay::start();
    let config = shipped_with(relay.port)
        .replace("max_connections = 4 ", "max_connections = 1 ")
        .replace("max_per_connection = 500", "max_per_connection = 5")
        .replace("rate_per_minute = 0", "rate_per_minute = 1200");
    let program = Program::new(&config).await;
    let emails: Vec<String> = (0..12).map(|n| format!("c{n}@customer.example")).collect();
    orders(&program.db.pool, &emails.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let begun = Instant::now();
    send(&at_moment(&program, at(NOW)).await, false).await;
    // Twelve mails at twenty a second: eleven waits of 50 ms. Never faster, however fast the machine.
    assert!(begun.elapsed() >= Duration::from_millis(550), "{:?}", begun.elapsed());
    assert_eq!((relay.accepted().len(), relay.n_connections()), (12, 3), "five, five, two");
}

#[tokio::test]
async fn the_sample_is_the_same_in_every_rerun() {
    let program = Program::new(&shipped().replace("sample = 1.0", "sample = 0.25")).await;
    let pool = &program.db.pool;
    let emails: Vec<String> = (0..400).map(|n| format!("c{n}@customer.example")).collect();
    orders(pool, &emails.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let context = at_moment(&program, at(NOW)).await;
    let (first, second) = (send(&context, true).await, send(&context, true).await);
    assert_eq!(first.shops[0].plan, second.shops[0].plan);
    let asked = first.shops[0].first.n_queued;
    assert!((70..=130).contains(&asked), "a quarter of 400, give or take: {asked}");
}

#[tokio::test]
async fn another_delay_is_another_beginning() {
    let program = Program::new(&shipped().replace("delay = \"7d\"", "delay = \"14d\"")).await;
    orders(&program.db.pool, &["alice@customer.example"]).await;
    send(&at_moment(&program, at(NOW)).await, false).await;
    assert_eq!(states(&program.db.pool).await.len(), 0, "delivered nine days ago, asked after fourteen");
    program.configure(&shipped().replace("delay = \"7d\"", "delay = \"2d\""));
    send(&at_moment(&program, at(NOW)).await, false).await;
    assert_eq!(states(&program.db.pool).await["1"].0, InvitationState::Sent);
}

#[tokio::test]
async fn mails_are_written_as_files_when_none_may_leave() {
    let program = Program::new(&shipped()).await;
    orders(&program.db.pool, &["alice@customer.example"]).await;
    send(&at_moment(&program, at(NOW)).await, false).await;
    let files: Vec<_> =
        std::fs::read_dir(program.path("data/outbox")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    let mail = std::fs::read(&files[0]).unwrap();
    let mail = mail_parser::MessageParser::default().parse(&mail).unwrap();
    assert_eq!(mail.to().unwrap().first().unwrap().address(), Some("alice@customer.example"));
    assert!(mail.header_raw("List-Unsubscribe").is_some_and(|value| value.contains("/u/")));
}

#[tokio::test]
async fn outside_the_send_window_mails_wait() {
    let window = shipped().replace(
        "sample = 1.0",
        "sample = 1.0\nsend_window = { days = \"mon-fri\", from = \"09:00\", to = \"19:00\" }",
    );
    let program = Program::new(&window).await;
    orders(&program.db.pool, &["alice@customer.example"]).await;
    // 21:00 in Paris.
    let report = send(&at_moment(&program, at("2026-03-12T20:00:00Z")).await, false).await;
    assert!(report.shops[0].delivery.window_closed);
    assert_eq!(states(&program.db.pool).await["1"].0, InvitationState::Queued);
    send(&at_moment(&program, at("2026-03-13T08:30:00Z")).await, false).await;
    assert_eq!(states(&program.db.pool).await["1"].0, InvitationState::Sent);
}

#[tokio::test]
async fn the_enums_are_the_databases() {
    use afterword::invitations::outbox::AttemptOutcome;
    use afterword::invitations::suppression::SuppressionReason;
    let db = crate::support::TestDb::new().await;
    let labels = |name: &'static str| {
        let pool = db.pool.clone();
        async move {
            let sql =
                "select enumlabel::text from pg_enum where enumtypid = $1::regtype order by enumsortorder";
            sqlx::query_scalar::<_, String>(sql).bind(name).fetch_all(&pool).await.unwrap()
        }
    };
    // Reading each label back as the Rust enum, and writing it again, must give the label.
    macro_rules! check {
        ($name:literal, $kind:ty) => {
            for label in labels($name).await {
                let sql = concat!("select $1::", $name);
                let read: $kind = sqlx::query_scalar(concat!("select ($1::text)::", $name))
                    .bind(&label)
                    .fetch_one(&db.pool)
                    .await
                    .unwrap();
                let written: $kind = sqlx::query_scalar(sql).bind(read).fetch_one(&db.pool).await.unwrap();
                assert_eq!(serde_json::to_value(written).unwrap(), label);
            }
        };
    }
    check!("invitation_state", InvitationState);
    check!("decision_reason", Reason);
    check!("attempt_outcome", AttemptOutcome);
    check!("suppression_reason", SuppressionReason);
    check!("bounce_kind", afterword::invitations::bounces::BounceKind);
    check!("display_name_rule", afterword::config::DisplayName);
}
