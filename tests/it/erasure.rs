//! A person's right to be forgotten: nothing that names them is left, no figure changes, and no file brings them back.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use afterword::token::Purpose;
use afterword::types::{InvitationId, ShopId};
use afterword::web;
use chrono::TimeDelta;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::factories::at;
use crate::support::http::{get, post};
use crate::support::program::{Program, command, ran, shipped, shipped_with};
use crate::support::scripted::{Behaviour, Scripted, Step};

const ORDERS: &str = "\
order_id,email,ordered_at,fulfilled_at,status,first_name,last_name,locale
A-1,Canary.Claire@customer.example,2026-03-01T10:00:00Z,2026-03-03T10:00:00Z,fulfilled,Canaryclaire,Canaryduval,fr
A-2,canary.claire@customer.example,2026-02-01T10:00:00Z,2026-02-25T10:00:00Z,fulfilled,Canaryclaire,Canaryduval,fr
A-3,hugo@customer.example,2026-03-01T10:00:00Z,2026-03-03T10:00:00Z,fulfilled,Hugo,Marchetti,fr
A-4,lea@customer.example,2026-03-01T10:00:00Z,2026-03-03T10:00:00Z,cancelled,Léa,Fontanel,fr
A-5,canary.claire@customer.example,not a date,,fulfilled,Canaryclaire,Canaryduval,fr
";
const RESPONSES: &str = "\
order_id,email,answered_at,external_id,recommend,overall,comment,publish
A-2,,2026-03-05T10:00:00Z,R-1,yes,4,canarywords of February,yes
,canary.claire@customer.example,2026-03-06T10:00:00Z,R-2,no,1,canarywords of March,
,hugo@customer.example,2026-03-06T10:00:00Z,R-3,yes,5,Hugo's own,yes
";

/// The tables with a row that holds one of these words, in whatever case.
pub async fn holding(pool: &PgPool, words: &[&str]) -> Vec<String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.tables where table_schema = 'public' order by 1",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(tables.len() > 15, "{tables:?}");
    let mut found = Vec::new();
    for table in tables {
        for word in words {
            let sql = format!(
                r#"select count(*) from "{table}" t where strpos(lower(row_to_json(t)::text), $1) > 0"#
            );
            let n: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).bind(word).fetch_one(pool).await.unwrap();
            if n > 0 {
                found.push(format!("{table}: {word}"));
            }
        }
    }
    found
}

fn import(program: &Program, what: &str, file: &str, code: i32) -> serde_json::Value {
    let import = ["import", what, file, "--shop", "maison", "--survey", "satisfaction", "--again", "--json"];
    let import = if what == "orders" { [&import[..5], &import[7..]].concat() } else { import.to_vec() };
    program.run(&import).expect(code).json()[0].clone()
}

fn figures(program: &Program) -> serde_json::Value {
    let report = program.run(&["report", "--json", "--as-of", "2026-06-01"]).expect(0).json();
    report["shops"][0]["metrics"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_names_an_erased_person_and_no_figure_changes() {
    let program = Program::new(&shipped()).await;
    program.write("orders.csv", ORDERS);
    program.write("responses.csv", RESPONSES);
    import(&program, "orders", "orders.csv", 3);
    program.run(&["run", "send-invitations", "--as-of", "2026-03-11T10:00:00Z"]).expect(0);
    import(&program, "responses", "responses.csv", 0);

    // She changes her mind on the page, in other words; and a mail about another order waits.
    let (shop, invitation): (i32, i64) = sqlx::query_as(
        r#"select i.shop_id, i.invitation_id from invitation i join "order" o using (shop_id, order_id)
           where o.external_id = 'A-2' and i.state = 'sent'"#,
    )
    .fetch_one(&program.db.pool)
    .await
    .unwrap();
    let context = program.context(at("2026-03-12T10:00:00Z")).await;
    let token = context.tokens.issue(Purpose::Survey, ShopId(shop), InvitationId(invitation));
    let stop = CancellationToken::new();
    let mut pages = Vec::new();
    for minutes in [0, 5] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        pages.push(format!("http://{}/s/{token}", listener.local_addr().unwrap()));
        let now = at("2026-03-12T10:00:00Z") + TimeDelta::minutes(minutes);
        tokio::spawn(web::serve(listener, program.context(now).await, stop.clone()));
    }
    let form = get(&pages[0]);
    let answer =
        form.with_hidden(&[("recommend", "yes"), ("comment", "canarywords of today"), ("publish", "yes")]);
    assert_eq!(post(&pages[1], &answer).status, 200);
    sqlx::query(
        "update invitation set state = 'queued', reason = null, next_attempt_at = '2026-03-20'
         where reason = 'too_late' or reason = 'throttled'",
    )
    .execute(&program.db.pool)
    .await
    .unwrap();
    program.run(&["testimonials", "approve", "--all-pending", "--as-of", "2026-03-13"]).expect(0);
    let export = ["export", "testimonials", "--shop", "maison", "--as-of", "2026-03-14", "--json"];
    assert!(program.run(&[export.as_slice(), &["--out", "before.csv"]].concat()).expect(0).code == 0);
    let exported = std::fs::read_to_string(program.path("before.csv")).unwrap();
    assert!(exported.contains("canarywords"), "{exported}");
    program.write("data/inbox/orders/done/old.csv", ORDERS);
    let words = ["canary.claire", "canaryclaire", "canaryduval", "canarywords"];
    let before = holding(&program.db.pool, &words).await;
    for table in ["customer", "answer", "import_reject"] {
        assert!(before.iter().any(|found| found.starts_with(table)), "{before:?}");
    }
    let figures_before = figures(&program);

    // Without a word that it is meant, nothing.
    program.run(&["erase", "canary.claire@customer.example"]).expect(2);
    assert_eq!(holding(&program.db.pool, &words).await, before);
    let erase = ["erase", "CANARY.claire@customer.example", "--yes", "--as-of", "2026-03-15", "--json"];
    let erased = program.run(&erase).expect(0).json();
    assert_eq!(erased["n_customers"], 1);
    assert_eq!(erased["n_orders"], 2);
    assert_eq!(erased["n_texts"], 3);
    assert_eq!(erased["n_mails_stopped"], 1);
    assert_eq!(erased["n_mail_files"], 1);
    assert_eq!(erased["n_rejects"], 1);
    assert_eq!(erased["n_published"].as_u64().unwrap(), exported.matches("canarywords").count() as u64);
    let left = erased["files_left"].as_array().unwrap();
    assert!(left.len() == 1 && left[0].as_str().unwrap().ends_with("done/old.csv"), "{erased}");

    let nothing: [String; 0] = [];
    assert_eq!(holding(&program.db.pool, &words).await, nothing);
    assert_eq!(figures(&program), figures_before);
    let again = program.run(&erase).expect(0).json();
    assert_eq!(again["n_customers"], 0);
    let link = get(&pages[1]);
    assert_eq!((link.status, link.body), {
        let other = get(&format!("{}x", pages[1]));
        (other.status, other.body)
    });
    let export = [export.as_slice(), &["--out", "after.csv"]].concat();
    program
        .run(
            &export
                .iter()
                .map(|arg| if *arg == "2026-03-14" { "2026-03-16" } else { arg })
                .collect::<Vec<_>>(),
        )
        .expect(0);
    let exported = std::fs::read_to_string(program.path("after.csv")).unwrap();
    assert!(!exported.contains("canary") && exported.contains("Hugo"), "{exported}");
    program.run(&["run", "send-invitations", "--as-of", "2026-03-21T10:00:00Z"]).expect(0);
    let mails: i64 =
        sqlx::query_scalar("select count(*) from invitation where state = 'sent' and customer_id = 1")
            .fetch_one(&program.db.pool)
            .await
            .unwrap();
    assert_eq!(mails, 1, "the one from before");

    // The same files again, and an older one with an order that nobody had heard of: nothing comes back, nothing is counted.
    let unheard_of = ORDERS.replace("A-1,", "B-1,").replace("A-2,", "B-2,");
    program.write(
        "older.csv",
        unheard_of.lines().filter(|line| !line.starts_with("A-")).collect::<Vec<_>>().join("\n"),
    );
    for (file, code) in [("orders.csv", 3), ("older.csv", 0)] {
        let imported = import(&program, "orders", file, code);
        assert_eq!((&imported["n_inserted"], &imported["n_updated"]), (&0.into(), &0.into()), "{imported}");
    }
    // Not as a row that could not be taken, and not as one that waits for its order.
    program.write(
        "elsewhere.csv",
        "order_id,email,answered_at,recommend,comment\n\
         Z-9,Canary.Claire@customer.example,2026-03-12T10:00:00Z,yes,canarywords\n\
         A-2,canary.claire@customer.example,2026-03-12T10:00:00Z,perhaps,canarywords\n",
    );
    let imported = import(&program, "responses", "elsewhere.csv", 3);
    assert_eq!((&imported["n_aside"], &imported["n_rejected"]), (&0.into(), &1.into()), "{imported}");
    let imported = import(&program, "responses", "responses.csv", 0);
    assert_eq!((&imported["n_inserted"], &imported["n_rejected"]), (&0.into(), &0.into()), "{imported}");
    assert_eq!(holding(&program.db.pool, &words).await, nothing);
    assert_eq!(figures(&program), figures_before);

    // Whoever orders again is a customer again, and is not asked.
    program.write(
        "new.csv",
        "order_id,email,ordered_at,fulfilled_at\nC-1,canary.claire@customer.example,2026-04-01T10:00:00Z,2026-04-02T10:00:00Z\n",
    );
    assert_eq!(import(&program, "orders", "new.csv", 0)["n_inserted"], 1);
    program.run(&["run", "send-invitations", "--as-of", "2026-04-12T10:00:00Z"]).expect(0);
    let story = program.run(&["explain", "order", "C-1"]).expect(0).stdout;
    assert!(story.contains("not asked"), "{story}");
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_to_erase_is_no_mistake() {
    let program = Program::new(&shipped()).await;
    let ran = program.run(&["erase", "nobody@customer.example", "--yes"]).expect(0);
    assert_eq!(ran.stdout, "Nobody has this address.\n");
    program.run(&["erase", "no address", "--yes"]).expect(2);
    program.run(&["erase", "a@customer.example", "--yes", "--shop", "nowhere"]).expect(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_in_a_senders_hands_does_not_leave_any_more() {
    let erase = Arc::new(OnceLock::<PathBuf>::new());
    let dir = Arc::clone(&erase);
    let relay = Scripted::start("", move |step, seen| {
        // The sender waits for the 354; it has not said yet that it is about to send.
        if step == Step::Data && seen.to.starts_with("canary") {
            let args = ["erase", "canary.claire@customer.example", "--yes"];
            ran(command(dir.get().unwrap()).args(args).output().unwrap()).expect(0);
        }
        Behaviour::Accept
    });
    let program = Program::new(&shipped_with(relay.port)).await;
    erase.set(program.dir.path().to_owned()).unwrap();
    program.write(
        "orders.csv",
        ORDERS.lines().filter(|line| !line.starts_with("A-5")).collect::<Vec<_>>().join("\n"),
    );
    import(&program, "orders", "orders.csv", 0);
    program.run(&["run", "send-invitations", "--as-of", "2026-03-11T10:00:00Z"]).expect(0);
    assert_eq!(relay.accepted(), ["hugo@customer.example"]);
    let states: Vec<(String, String)> = sqlx::query_as(
        "select state::text, coalesce(reason::text, '') from invitation where customer_id = 1 and reason is distinct from 'throttled'",
    )
    .fetch_all(&program.db.pool)
    .await
    .unwrap();
    assert_eq!(states, [("suppressed".to_owned(), "no_address".to_owned())]);
}

/// A number that the shop corrected: the order is another customer's now. The words stay those of whoever was asked.
#[tokio::test(flavor = "multi_thread")]
async fn words_about_an_order_that_changed_hands_are_found_and_not_published_under_another_name() {
    let program = Program::new(&shipped()).await;
    let orders = |email: &str, name: &str| {
        format!(
            "order_id,email,ordered_at,fulfilled_at,first_name,last_name\n\
             W-1,{email},2026-03-01T10:00:00Z,2026-03-03T10:00:00Z,{name}\n"
        )
    };
    program.write("orders.csv", orders("erin@customer.example", "Erin,Early"));
    import(&program, "orders", "orders.csv", 0);
    program.run(&["run", "send-invitations", "--as-of", "2026-03-11T10:00:00Z"]).expect(0);
    let invitation: i64 =
        sqlx::query_scalar("select invitation_id from invitation").fetch_one(&program.db.pool).await.unwrap();
    let (opened, sent) = (at("2026-03-12T10:00:00Z"), at("2026-03-12T10:05:00Z"));
    let stop = CancellationToken::new();
    let mut pages = Vec::new();
    for now in [opened, sent] {
        let context = program.context(now).await;
        let token = context.tokens.issue(Purpose::Survey, ShopId(1), InvitationId(invitation));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        pages.push(format!("http://{}/s/{token}", listener.local_addr().unwrap()));
        tokio::spawn(web::serve(listener, context, stop.clone()));
    }
    let answer = [("recommend", "yes"), ("comment", "canarywords of Erin"), ("publish", "yes")];
    assert_eq!(post(&pages[1], &get(&pages[0]).with_hidden(&answer)).status, 200);
    program.run(&["testimonials", "approve", "--all-pending", "--as-of", "2026-03-13"]).expect(0);
    let export = |out: &str| {
        let args = ["export", "testimonials", "--shop", "maison", "--as-of", "2026-03-14", "--out", out];
        program.run(&args).expect(0);
        std::fs::read_to_string(program.path(out)).unwrap()
    };
    assert!(export("before.csv").contains("Erin E."));

    program.write("orders.csv", orders("otto@customer.example", "Otto,Other"));
    import(&program, "orders", "orders.csv", 0);
    let after = export("after.csv");
    assert!(!after.contains("canarywords") && !after.contains("Otto"), "{after}");
    let link = get(&pages[1]);
    assert_eq!((link.status, link.body), (404, get(&format!("{}x", pages[1])).body));
    assert_eq!(post(&pages[1], &[("recommend".to_owned(), "no".to_owned())]).status, 404);

    let erased = program.run(&["erase", "erin@customer.example", "--yes", "--json"]).expect(0).json();
    assert_eq!(erased["n_texts"], 1, "{erased}");
    assert_eq!(holding(&program.db.pool, &["canarywords", "erin"]).await, [""; 0]);
    stop.cancel();
}
