//! The whole way, once: an order file goes in at one end, figures and testimonials come out at the other, through the real program,
//! a real Postgres, a real conversation with a mail relay, and real HTTP. Import and sending run twice, and nothing is doubled.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

use chrono::{TimeDelta, Utc};

use crate::support::http::{Page, get, post};
use crate::support::program::{Program, ran, shipped_with};
use crate::support::smtp::{Accepted, Relay};

/// Orders around now, in the generic format: Claire bought twice, Hugo is unhappy, Léa says nothing, Tom opts out, Nora cancelled.
fn orders() -> String {
    #[expect(
        clippy::disallowed_methods,
        reason = "serve runs on the system's clock, so the orders lie around it"
    )]
    let now = Utc::now();
    let day = |days: i64| (now - TimeDelta::days(days)).to_rfc3339();
    let mut file = String::from(
        "order_id,email,ordered_at,fulfilled_at,status,first_name,last_name,locale,country,currency,total,items\n",
    );
    for (id, email, ordered, fulfilled, status, first, last, locale) in [
        ("A-0", "claire@customer.example", 200, Some(198), "fulfilled", "Claire", "Dubreuil", "fr"),
        ("A-1", "Claire@customer.example", 12, Some(9), "fulfilled", "Claire", "Dubreuil", "fr"),
        ("A-2", "hugo@customer.example", 12, Some(9), "fulfilled", "Hugo", "Marchetti", "fr"),
        ("A-3", "lea@customer.example", 11, Some(8), "fulfilled", "Léa", "Fontanel", "fr"),
        ("A-4", "tom@customer.example", 11, Some(8), "fulfilled", "Tom", "Ashdown", "en"),
        ("A-5", "nora@customer.example", 11, Some(8), "cancelled", "Nora", "Lindqvist", "en"),
    ] {
        let fulfilled = fulfilled.map(day).unwrap_or_default();
        file.push_str(&format!(
            "{id},{email},{},{fulfilled},{status},{first},{last},{locale},FR,EUR,49.90,bol-gres|plaid-laine\n",
            day(ordered)
        ));
    }
    file
}

/// A link of a mail's text.
fn link(mail: &Accepted, containing: &str, ending: &str) -> String {
    let text = mail.text();
    text.split_whitespace()
        .find(|word| word.contains(containing) && word.ends_with(ending))
        .unwrap_or_else(|| panic!("no {containing}…{ending} in:\n{text}"))
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_an_order_file_to_testimonials() {
    let relay = Relay::start();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let program = Program::new(&shipped_with(relay.port).replace("127.0.0.1:8080", &address)).await;

    // [1] Orders in, twice.
    program.write("orders.csv", orders());
    let import = ["import", "orders", "orders.csv", "--shop", "maison", "--json"];
    let first = program.run(&import).expect(0).json();
    assert_eq!(
        (&first[0]["n_read"], &first[0]["n_inserted"], &first[0]["n_rejected"]),
        (&6.into(), &6.into(), &0.into()),
        "{first}"
    );
    program.run(&import).expect(0);
    let again = program.run(&[import.as_slice(), &["--again"]].concat()).expect(0).json();
    assert_eq!((&again[0]["n_inserted"], &again[0]["n_updated"]), (&0.into(), &0.into()), "{again}");

    // [2] Invitations out: what the dry run says, the real run does, and a second run does nothing.
    let dry = program.run(&["run", "send-invitations", "--dry-run"]).expect(0);
    assert_eq!(dry.stdout.lines().count(), 6, "{}", dry.stdout);
    assert_eq!(dry.stdout.matches(": mail").count(), 4, "{}", dry.stdout);
    assert!(
        dry.stdout.contains("A-5, due") && dry.stdout.contains(": skip, the order was cancelled"),
        "{}",
        dry.stdout
    );
    assert!(dry.stdout.contains(": skip, it was due too long ago"), "{}", dry.stdout);
    assert_eq!(relay.accepted().len(), 0);
    program.run(&["run", "send-invitations"]).expect(0);
    program.run(&["run", "send-invitations"]).expect(0);
    let mails: BTreeMap<String, Accepted> =
        relay.accepted().into_iter().map(|mail| (mail.to.to_lowercase(), mail)).collect();
    assert_eq!(relay.accepted().len(), 4);
    assert_eq!(mails.len(), 4);
    let mail = &mails["claire@customer.example"];
    assert_eq!(mail.header("List-Unsubscribe-Post").unwrap(), "List-Unsubscribe=One-Click");
    assert_eq!(mail.from, "avis@maison.example");
    assert!(mail.text().contains("Claire"), "{}", mail.text());

    // [3] Responses in, from people who read their mail an hour after it came.
    sqlx::query("update invitation set sent_at = sent_at - interval '1 hour' where state = 'sent'")
        .execute(&program.db.pool)
        .await
        .unwrap();
    let server = program.serve("ready");
    let yes = link(mail, "/s/", "?recommend=yes");
    let open = get(&yes);
    assert_eq!(open.status, 200);
    let no = get(&link(&mails["hugo@customer.example"], "/s/", "?recommend=no"));
    std::thread::sleep(Duration::from_millis(4100));
    let words = "Très beau linge, \"comme promis\".\nJe recommande ; merci !";
    let sent = post(
        &Page::without_query(&yes),
        &open.with_hidden(&[("recommend", "yes"), ("overall", "5"), ("comment", words), ("publish", "yes")]),
    );
    assert_eq!(sent.status, 200, "{}", sent.body);
    let hugo = Page::without_query(&no.url);
    let unhappy = no.with_hidden(&[
        ("recommend", "no"),
        ("overall", "2"),
        ("topic", "delivery"),
        ("comment", "Trop long."),
    ]);
    assert_eq!(post(&hugo, &unhappy).status, 200);
    let unsubscribe = link(&mails["tom@customer.example"], "/u/", "");
    assert_eq!(get(&unsubscribe).status, 200);
    assert_eq!(post(&unsubscribe, &[("List-Unsubscribe".to_owned(), "One-Click".to_owned())]).status, 200);
    assert_eq!(server.stop(), Some(0));

    // [4] Figures.
    let report = program.run(&["report", "--json"]).expect(0).json();
    let metrics = &report["shops"][0]["metrics"];
    let ratio = |key: &str| {
        (metrics[key]["numerator"].as_i64().unwrap(), metrics[key]["denominator"].as_i64().unwrap())
    };
    assert_eq!(ratio("recommendation_rate"), (1, 2));
    assert_eq!(ratio("csat"), (1, 2));
    assert_eq!(ratio("response_rate"), (2, 4));
    assert_eq!(ratio("repeat_customer_ratio"), (1, 4));
    assert_eq!(ratio("returning_customer_rate"), (1, 4));
    assert!(metrics["nps"]["value"].is_null());
    assert_eq!(
        program.run(&["report", "--json", "--as-of", report["as_of"].as_str().unwrap()]).expect(0).json(),
        report
    );

    // [5] Testimonials out: nothing before approval, then the words exactly as they were written.
    let export = ["export", "testimonials", "--shop", "maison"];
    assert_eq!(program.run(&export).expect(0).stdout.lines().count(), 1, "only the header");
    let waiting = program.run(&["testimonials", "list", "--json"]).expect(0).json();
    assert_eq!(waiting.as_array().unwrap().len(), 1, "{waiting}");
    let id = waiting[0]["id"].to_string();
    program.run(&["testimonials", "approve", &id]).expect(0);
    let exported = program.run(&export).expect(0).stdout;
    let mut rows = csv::Reader::from_reader(exported.as_bytes());
    let rows: Vec<BTreeMap<String, String>> = rows.deserialize().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["comment"], words);
    assert_eq!(
        (rows[0]["display_name"].as_str(), rows[0]["rating"].as_str(), rows[0]["verified"].as_str()),
        ("Claire D.", "5", "true")
    );
    assert_eq!(program.run(&export).expect(0).stdout, exported, "the same again");

    // The story of one order.
    let story = program.run(&["explain", "order", "A-1"]).expect(0).stdout;
    for part in [
        "imported from orders.csv",
        "to be asked",
        "the relay took the mail",
        "recommend = yes",
        "approved",
        "first exported",
    ] {
        assert!(story.contains(part), "no {part:?} in:\n{story}");
    }
    assert!(
        program
            .run(&["explain", "order", "A-5"])
            .expect(0)
            .stdout
            .contains("not asked, because the order was cancelled")
    );
    program.run(&["explain", "order", "nothing"]).expect(1);
    assert_eq!(
        program.run(&["explain", "order", "nothing", "--json"]).expect(1).json(),
        serde_json::json!([])
    );
    let no_shop = program.run(&["explain", "order", "A-1", "--shop", "nowhere"]).expect(2);
    assert!(no_shop.stderr.contains("there is no shop"), "{}", no_shop.stderr);
    let checked = program.run(&["check", "--json"]).expect(0).json();
    let next = checked["jobs"][0]["next"][0].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>();
    assert!(next.is_ok(), "a moment, as everywhere in JSON: {checked}");

    // Who opted out is not asked about a later order.
    let later = orders()
        .replace("A-4,", "B-4,")
        .lines()
        .filter(|line| !line.starts_with('A'))
        .collect::<Vec<_>>()
        .join("\n");
    program.write("later.csv", later);
    program.run(&["import", "orders", "later.csv", "--shop", "maison"]).expect(0);
    program.run(&["run", "send-invitations"]).expect(0);
    assert_eq!(relay.accepted().len(), 4);
    assert!(program.run(&["explain", "order", "B-4"]).expect(0).stdout.contains("the customer unsubscribed"));

    // What ran is in the ledger, and the file that was offered twice was read once.
    let history = program.run(&["jobs", "history", "send-invitations", "--json"]).expect(0).json();
    assert_eq!(history.as_array().unwrap().len(), 3, "{history}");
}

#[tokio::test]
async fn a_log_line_holds_nothing_personal() {
    let relay = Relay::start();
    let program = Program::new(&shipped_with(relay.port)).await;
    let canary = orders()
        .replace("claire@", "nobody@")
        .replace("hugo@", "later@")
        .replace("Dubreuil", "Canaryname")
        .replace("Claire", "Canaryfirst");
    program.write("orders.csv", canary);
    let mut said = String::new();
    for args in [
        &["import", "orders", "orders.csv", "--shop", "maison"][..],
        &["run", "send-invitations"],
        &["report"],
        &["outbox"],
        &["jobs", "history"],
    ] {
        let mut command = crate::support::program::command(program.dir.path());
        let run = ran(command.env("RUST_LOG", "debug").env_remove("NO_COLOR").args(args).output().unwrap());
        said.push_str(&run.stderr);
        said.push_str(&run.stdout);
    }
    for personal in ["@customer.example", "Canaryname", "Canaryfirst"] {
        assert!(!said.contains(personal), "{personal:?} was said:\n{said}");
    }
    assert!(said.contains("DEBUG") && !said.contains('\x1b'), "colours are for terminals:\n{said}");
}
