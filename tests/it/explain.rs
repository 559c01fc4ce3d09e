//! What was decided, and why: told to a person who asks about an order or a customer, and in every report.

use sqlx::PgPool;

use crate::support::factories::{self, Order, Response};
use crate::support::program::{Program, shipped_with};
use crate::support::smtp::Relay;

/// Orders are delivered on 3 March; with a delay of seven days they are due on the 10th.
const NOW: &str = "2026-03-12T10:00:00Z";

async fn order(pool: &PgPool, email: &str, id: &str) {
    let shop = factories::shop(pool, "maison").await;
    let customer = factories::customer(pool, shop, email).await;
    Order::new(shop, customer, id).insert(pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_is_told_with_all_orders_tries_and_lists() {
    let relay = Relay::start();
    let program = Program::new(&shipped_with(relay.port)).await;
    let pool = &program.db.pool;
    order(pool, "later@customer.example", "A-1").await;
    let shop = factories::shop(pool, "maison").await;
    let customer = factories::customer(pool, shop, "later@customer.example").await;
    Order { status: "cancelled", ..Order::new(shop, customer, "A-2") }.insert(pool).await;
    order(pool, "vanish@customer.example", "B-1").await;
    program.run(&["run", "send-invitations", "--as-of", NOW]).expect(3);
    program.run(&["run", "send-invitations", "--as-of", "2026-03-12T11:00:00Z"]).expect(0);
    program.run(&["suppress", "add", "Later@Customer.example", "--as-of", "2026-03-13T08:00:00Z"]).expect(0);

    let explain =
        |args: &[&str]| program.run(&[&["explain", "customer", "--as-of", "2026-03-14"], args].concat());
    let told = explain(&["LATER@customer.example"]).expect(0).stdout;
    for part in [
        "On the do-not-contact list of every shop since 2026-03-13 08:00 UTC: put on the do-not-contact list by hand.",
        "Customer of maison with 2 orders",
        "survey satisfaction: may be asked about another order from 2026-06-10 12:00 on",
        "Order A-1 of maison",
        "survey satisfaction, first mail: try 1: deferred at rcpt 451: ",
        "survey satisfaction, first mail: try 2: deferred at rcpt 451: ",
        "Order A-2 of maison",
        "survey satisfaction, first mail: not asked, because the order was cancelled",
    ] {
        assert!(told.contains(part), "no {part:?} in:\n{told}");
    }
    assert!(!told.to_lowercase().contains("later@"), "the address is not repeated:\n{told}");
    assert!(!told.contains("B-1"));

    let json = explain(&["later@customer.example", "--json"]).expect(0).json();
    assert_eq!(json["suppressed"][0]["shop"], serde_json::Value::Null, "{json}");
    assert_eq!(json["suppressed"][0]["reason"], "manual");
    let orders = json["shops"][0]["orders"].as_array().unwrap();
    assert_eq!(orders.len(), 2);
    assert_eq!(orders[0]["invitations"][0]["attempts"].as_array().unwrap().len(), 2);
    let throttled = json["shops"][0]["throttled"].as_array().unwrap();
    let by = |survey: &str| throttled.iter().find(|throttled| throttled["survey"] == survey).unwrap();
    assert_eq!(by("satisfaction")["until"], "2026-06-10T10:00:00Z");
    assert_eq!(by("after-service")["until"], "2026-03-19T10:00:00Z", "each by its own rule");
    // After that, nothing holds them back.
    let later =
        program.run(&["explain", "customer", "later@customer.example", "--as-of", "2026-06-12", "--json"]);
    assert_eq!(later.expect(0).json()["shops"][0]["throttled"], serde_json::json!([]));

    let unknown = explain(&["vanish@customer.example"]).expect(0).stdout;
    assert!(
        unknown.contains("is not sent again by itself; `afterword outbox resolve` settles it"),
        "{unknown}"
    );

    // Who is on the list alone is told so; who is nobody is not even repeated.
    program.run(&["suppress", "add", "stranger@other.example", "--shop", "maison"]).expect(0);
    let listed = explain(&["stranger@other.example"]).expect(0).stdout;
    assert!(
        listed.contains("do-not-contact list of the shop maison")
            && listed.contains("No customer has this address"),
        "{listed}"
    );
    let nobody = explain(&["nobody@other.example"]).expect(1);
    assert_eq!(nobody.stdout, "");
    assert!(nobody.stderr.contains("No customer") && !nobody.stderr.contains("nobody@"), "{}", nobody.stderr);
    let nobody = explain(&["nobody@other.example", "--json"]).expect(1).json();
    assert_eq!(nobody, serde_json::json!({ "suppressed": [], "shops": [] }));
    explain(&["no address"]).expect(2);
    explain(&["later@customer.example", "--shop", "masion"]).expect(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_told_wave_by_wave_with_why_it_was_given_up() {
    // Nobody listens at port 1, so that the mail waits.
    let program = Program::new(&shipped_with(1)).await;
    let pool = &program.db.pool;
    order(pool, "claire@customer.example", "A-1").await;
    order(pool, "bob@customer.example", "A-2").await;
    program.run(&["run", "send-invitations", "--as-of", NOW]).expect(3);
    let sql = r#"update "order" set status = 'refunded' where external_id = 'A-1'"#;
    sqlx::query(sql).execute(pool).await.unwrap();
    program.run(&["suppress", "add", "bob@customer.example"]).expect(0);
    program.run(&["run", "send-invitations", "--as-of", "2026-03-13T10:00:00Z"]).expect(0);
    // The waves that come after: one that was sent, one that was not.
    let shop = factories::shop(pool, "maison").await;
    let customer = factories::customer(pool, shop, "dora@customer.example").await;
    let id = Order::new(shop, customer, "A-3").insert(pool).await;
    factories::sent_invitation(pool, shop, id, factories::at("2026-03-10T09:00:00Z")).await;
    let sql = "insert into invitation (shop_id, order_id, customer_id, survey, wave, survey_version_id, state, reason, due_at, decided_at,
                   next_attempt_at, sent_at, remind_at)
               select shop_id, order_id, customer_id, survey, wave.n, survey_version_id, wave.state::invitation_state,
                   wave.reason::decision_reason, decided_at + wave.after, decided_at + wave.after, decided_at + wave.after,
                   case when wave.state = 'sent' then decided_at + wave.after end, null
               from invitation, (values
                   (1::smallint, 'sent', null, interval '7 days'), (2::smallint, 'skipped', 'answered', interval '14 days')
               ) as wave (n, state, reason, after)
               where order_id = $1";
    sqlx::query(sql).bind(id).execute(pool).await.unwrap();
    sqlx::query("update invitation set remind_at = '2026-03-31T09:00:00Z' where order_id = $1 and wave = 1")
        .bind(id)
        .execute(pool)
        .await
        .unwrap();
    Response::new(shop, id).answered_at("2026-03-20T10:00:00Z").insert(pool).await;

    let told = |id: &str| program.run(&["explain", "order", id]).expect(0).stdout;
    let refunded = told("A-1");
    assert!(
        refunded.contains("survey satisfaction, first mail: to be asked")
            && refunded.contains(
                "survey satisfaction, first mail: will not be mailed any more, because the order was refunded"
            ),
        "{refunded}"
    );
    let listed = told("A-2");
    assert!(
        listed.contains("will not be mailed any more, because the address is on the do-not-contact list")
            && listed.contains("put on the do-not-contact list by hand (on the list of every shop)"),
        "{listed}"
    );
    let reminded = told("A-3");
    for part in [
        "survey recommend, first mail: to be asked",
        "survey recommend, first reminder: to be sent",
        "survey recommend, second reminder: not sent, because the customer has answered",
        "survey recommend, second reminder: is decided about",
    ] {
        assert!(reminded.contains(part), "no {part:?} in:\n{reminded}");
    }
    let all = program.run(&["outbox", "--state", "all", "--json"]).expect(0).json();
    let reason = |order: &str, wave: i64| {
        let found =
            all.as_array().unwrap().iter().find(|entry| entry["order"] == order && entry["wave"] == wave);
        (found.unwrap()["state"].clone(), found.unwrap()["reason"].clone())
    };
    assert_eq!(reason("A-1", 0), ("cancelled".into(), "refunded".into()));
    assert_eq!(reason("A-2", 0), ("suppressed".into(), "suppressed".into()));
    assert_eq!(reason("A-3", 2), ("skipped".into(), "answered".into()));
    for field in ["id", "order", "survey", "wave", "state", "message_id", "attempts", "last_error", "reason"]
    {
        assert!(all[0].get(field).is_some(), "{field}: {all}");
    }
    assert_eq!(program.run(&["outbox", "--json"]).expect(0).json(), serde_json::json!([]));
    let table = program.run(&["outbox", "--state", "all"]).expect(0).stdout;
    assert!(table.contains("the order was refunded"), "{table}");
    assert!(program.run(&["outbox", "--state", "al"]).expect(2).stderr.contains("all"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_report_counts_what_nobody_knows_and_says_what_to_do() {
    let relay = Relay::start();
    let program = Program::new(&shipped_with(relay.port)).await;
    let pool = &program.db.pool;
    for (n, name) in
        ["vanish@a.example", "vanish@b.example", "later@c.example", "alice@d.example"].iter().enumerate()
    {
        order(pool, name, &format!("A-{n}")).await;
    }
    program.run(&["run", "send-invitations", "--as-of", NOW]).expect(3);
    let outbox = |as_of: &str| {
        program.run(&["report", "--json", "--as-of", as_of]).expect(0).json()["shops"][0]["outbox"].clone()
    };
    assert_eq!(outbox("2026-03-13"), serde_json::json!({ "unknown": 2, "waiting": 1 }));
    assert_eq!(
        outbox("2026-03-12"),
        serde_json::json!({ "unknown": 0, "waiting": 0 }),
        "before it was tried"
    );
    let told = program
        .run(&["report", "--as-of", "2026-03-13", "--html", "report.html", "--locale", "en"])
        .expect(0);
    assert_eq!(told.stdout, "");
    let page = std::fs::read_to_string(program.path("report.html")).unwrap();
    let table = program.run(&["report", "--as-of", "2026-03-13"]).expect(0).stdout;
    for text in [page, table] {
        assert!(text.contains("Of 2 mails nobody knows") && text.contains("outbox resolve"), "{text}");
    }
    let ids = program.run(&["outbox", "--state", "unknown", "--json"]).expect(0).json();
    for entry in ids.as_array().unwrap() {
        program.run(&["outbox", "resolve", &entry["id"].to_string(), "--accept"]).expect(0);
    }
    assert_eq!(outbox("2026-03-13"), serde_json::json!({ "unknown": 0, "waiting": 1 }));
}
