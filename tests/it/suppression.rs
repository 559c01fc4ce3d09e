//! [2] Whom not to write to: the lists of a shop and of every shop, and those that other tools kept.

use afterword::invitations::outbox;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;

use crate::support::factories::{self, Order, at};
use crate::support::program::{Program, shipped};

/// Orders are delivered on 3 March; with a delay of seven days they are due on the 10th.
const NOW: &str = "2026-03-12T10:00:00Z";

/// The shipped configuration with more shops like its own.
fn with_shops(keys: &[&str]) -> String {
    let text = shipped();
    let start = text.find("\n[[shop]]").unwrap();
    let shop = &text[start..text.find("# The order files").unwrap()];
    let more: String =
        keys.iter().map(|key| shop.replace("key = \"maison\"", &format!("key = {key:?}"))).collect();
    text.replacen("# The order files", &format!("{more}# The order files"), 1)
}

/// An order of each shop from each of these addresses, called `<shop>-<address>`.
async fn orders(pool: &PgPool, shops: &[&str], names: &[&str]) {
    for key in shops {
        let shop = factories::shop(pool, key).await;
        for name in names {
            let customer = factories::customer(pool, shop, &format!("{name}@customer.example")).await;
            Order::new(shop, customer, &format!("{key}-{name}")).insert(pool).await;
        }
    }
}

fn send(program: &Program, now: &str) {
    program.run(&["run", "send-invitations", "--as-of", now]).expect(0);
}

/// Of each order: whether its customer was mailed, and the reason if not.
fn fates(program: &Program) -> Vec<(String, String, String)> {
    let all = program.run(&["outbox", "--state", "all", "--json"]).expect(0).json();
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    let mut fates: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let mailed = if entry["state"] == "sent" { "mailed" } else { "not mailed" };
            (text(entry, "order"), mailed.to_owned(), text(entry, "reason"))
        })
        .collect();
    fates.sort();
    fates
}

fn fate(order: &str, mailed: &str, reason: &str) -> (String, String, String) {
    (order.to_owned(), mailed.to_owned(), reason.to_owned())
}

fn digits(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_every_shop_holds_for_all_and_that_of_one_for_one() {
    let program = Program::new(&with_shops(&["atelier"])).await;
    program.run(&["suppress", "add", "Alice@Customer.example"]).expect(0);
    program.run(&["suppress", "add", "bob@customer.example", "--shop", "maison"]).expect(0);
    let again = program.run(&["suppress", "add", "alice@customer.example"]).expect(0);
    assert!(again.stderr.contains("already"), "{}", again.stderr);
    orders(&program.db.pool, &["maison", "atelier"], &["alice", "bob", "claire"]).await;
    send(&program, NOW);
    let expected = [
        fate("atelier-alice", "not mailed", "suppressed"),
        fate("atelier-bob", "mailed", ""),
        fate("atelier-claire", "mailed", ""),
        fate("maison-alice", "not mailed", "suppressed"),
        fate("maison-bob", "not mailed", "suppressed"),
        fate("maison-claire", "mailed", ""),
    ];
    assert_eq!(fates(&program), expected);

    // A shop that comes later minds the list of every shop, too.
    program.configure(&with_shops(&["atelier", "jardin"]));
    orders(&program.db.pool, &["jardin"], &["alice", "bob"]).await;
    send(&program, NOW);
    let fates = fates(&program);
    assert!(fates.contains(&fate("jardin-alice", "not mailed", "suppressed")), "{fates:?}");
    assert!(fates.contains(&fate("jardin-bob", "mailed", "")), "{fates:?}");

    let list = |args: &[&str]| program.run(&[&["suppress", "list"], args].concat()).expect(0);
    let lines = |args: &[&str]| -> Vec<(String, Value, String)> {
        let json = list(&[args, &["--json"]].concat()).json();
        let line = |line: &Value| {
            let text = |field: &str| line[field].as_str().unwrap().to_owned();
            (text("scope"), line["shop"].clone(), text("email"))
        };
        let mut lines: Vec<_> = json.as_array().unwrap().iter().map(line).collect();
        lines.sort_by(|a, b| a.0.cmp(&b.0));
        lines
    };
    let (alice, bob) = ("alice@customer.example".to_owned(), "bob@customer.example".to_owned());
    let every = ("every_shop".to_owned(), Value::Null, alice);
    let one = ("shop".to_owned(), Value::from("maison"), bob);
    assert_eq!(lines(&[]), [every.clone(), one.clone()], "an address of several shops stands there once");
    assert_eq!(lines(&["--shop", "maison"]), [every.clone(), one]);
    assert_eq!(lines(&["--shop", "jardin"]), [every]);
    let shown = list(&["-n", "1"]);
    assert!(shown.stderr.contains("more than these 1"), "{}", shown.stderr);
    assert_eq!(list(&["-n", "1", "--json"]).json().as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn taking_off_one_list_leaves_the_other_and_says_so() {
    let program = Program::new(&with_shops(&["atelier"])).await;
    let suppress = |action: &str, args: &[&str]| {
        program.run(&[&["suppress", action, "claire@customer.example"], args].concat()).expect(0).stderr
    };
    suppress("add", &[]);
    suppress("add", &["--shop", "maison"]);
    suppress("add", &["--shop", "atelier"]);
    let count = async || -> i64 {
        sqlx::query_scalar("select count(*) from suppression").fetch_one(&program.db.pool).await.unwrap()
    };
    assert_eq!(count().await, 3);
    let said = suppress("remove", &["--shop", "maison"]);
    assert!(said.contains("still on the list of every shop"), "{said}");
    assert_eq!(count().await, 2);
    let said = suppress("remove", &[]);
    assert!(said.contains("may be written to again"), "{said}");
    assert_eq!(count().await, 0, "off the list of every shop, and off each shop's");
    assert!(suppress("remove", &[]).contains("was not on the list"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_claim_itself_looks_at_both_lists() {
    // Nobody listens at port 1, so that what is decided waits.
    let program = Program::new(&crate::support::program::shipped_with(1)).await;
    let pool = &program.db.pool;
    orders(pool, &["maison"], &["alice", "bob", "claire"]).await;
    program.run(&["run", "send-invitations", "--as-of", NOW]).expect(3);
    program.run(&["suppress", "add", "alice@customer.example"]).expect(0);
    program.run(&["suppress", "add", "bob@customer.example", "--shop", "maison"]).expect(0);
    // Without the tidying up that comes before it in a run.
    let context = program.context(at("2026-03-12T11:00:00Z")).await;
    let (shop, _) = context.shops.by_key("maison").unwrap();
    let survey = context.config.survey("satisfaction").unwrap();
    let claimed = outbox::claim(pool, shop, survey, "a test", context.clock.now(), 10).await.unwrap();
    let orders: Vec<&str> = claimed.iter().map(|row| row.external_id.as_str()).collect();
    assert_eq!(orders, ["maison-claire"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_another_tool_is_taken_over_with_what_cannot_be() {
    let program = Program::new(&with_shops(&["atelier"])).await;
    let pool = &program.db.pool;
    let import = |args: &[&str], code: i32| {
        let report = program.run(&[&["suppress", "import", "--json"], args].concat()).expect(code).json();
        let count = |name: &str| report[name].as_i64().unwrap();
        let counts = [count("n_read"), count("n_inserted"), count("n_unchanged"), count("n_rejected")];
        assert_eq!(counts[0], counts[1] + counts[2] + counts[3], "{report}");
        (counts, report)
    };
    let hashed = async || -> Vec<(i32, String, String)> {
        let sql = "select shop_id, encode(address_hash, 'hex'), reason::text from suppression order by 1, 2";
        sqlx::query_as(sql).fetch_all(pool).await.unwrap()
    };

    // One address a line; a hash is one, in capitals too; nothing of a dry run stays.
    let mut lines = vec!["Claire@Customer.example".to_owned(), digits("bob@customer.example").to_uppercase()];
    lines.extend(
        ["", " dora@bücher.example ", "claire@customer.example", "not an address", "eve@customer"]
            .map(str::to_owned),
    );
    program.write("list.txt", lines.join("\r\n"));
    let (dry, _) = import(&["list.txt", "--dry-run"], 3);
    assert_eq!((dry, hashed().await.len()), ([6, 3, 1, 2], 0));
    let (counts, report) = import(&["list.txt", "--reason", "unsubscribed", "--rejects", "rejects.csv"], 3);
    assert_eq!(counts, [6, 3, 1, 2]);
    let places: Vec<_> = report["rejects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|reject| (reject["line"].as_i64(), reject["column"].as_str(), reject["reason"].as_str()))
        .collect();
    let not = Some("is not a mail address");
    assert_eq!(places, [(Some(6), Some("email"), not), (Some(7), Some("email"), not)]);
    let rejects = std::fs::read_to_string(program.path("rejects.csv")).unwrap();
    assert!(rejects.starts_with("email,line,column,reason\nnot an address,6,email,"), "{rejects}");
    let mut expected = ["claire@customer.example", "bob@customer.example", "dora@xn--bcher-kva.example"]
        .map(digits)
        .to_vec();
    expected.sort();
    let expected: Vec<_> = expected.into_iter().map(|hash| (0, hash, "unsubscribed".to_owned())).collect();
    assert_eq!(hashed().await, expected);

    // Again, and with another reason: nothing changes.
    assert_eq!(import(&["list.txt", "--reason", "bounced"], 3).0, [6, 0, 4, 2]);
    assert_eq!(hashed().await, expected);

    // CSV as other tools write it: other delimiters, names, encodings; a street is not taken for an address.
    let windows: &[u8] =
        b"Pr\xe9nom;Adresse;Adresse e-mail\r\n\xc9lo\xefse;1, rue de la Paix;eloise@customer.example\r\n";
    program.write("windows.csv", windows);
    assert_eq!(import(&["windows.csv", "--shop", "atelier"], 0).0, [1, 1, 0, 0]);
    program.write(
        "marked.csv",
        "\u{feff}\"id\",\"E-Mail\"\n1,\"fay@customer.example\"\n2,\n3,gus@customer.example,x\n",
    );
    let (counts, report) = import(&["marked.csv", "--shop", "atelier"], 3);
    assert_eq!(counts, [3, 1, 0, 2]);
    assert_eq!(report["rejects"][0]["column"], "E-Mail");
    assert_eq!(report["rejects"][1]["column"], Value::Null, "the row as a whole");
    let of_shops = hashed().await.into_iter().filter(|(shop, ..)| *shop != 0).count();
    assert_eq!(of_shops, 2);
    // Our own list, as another installation exports it.
    program.write("ours.csv", format!("shop,address_hash\nx,{}\n", digits("hal@customer.example")));
    assert_eq!(import(&["ours.csv"], 0).0, [1, 1, 0, 0]);

    // What is no such file is named, with what to do; nothing is taken.
    program.write("other.csv", "Kontakt,seit\nirma@customer.example,2020\n");
    let failed = program.run(&["suppress", "import", "other.csv"]).expect(1);
    assert!(
        failed.stderr.contains("--column") && failed.stderr.contains("Kontakt, seit"),
        "{}",
        failed.stderr
    );
    assert_eq!(import(&["other.csv", "--column", "Kontakt"], 0).0, [1, 1, 0, 0]);
    program.write("bare.csv", "irma@customer.example,2020\n");
    let failed = program.run(&["suppress", "import", "bare.csv"]).expect(1);
    assert!(failed.stderr.contains("no header line") && !failed.stderr.contains("irma"), "{}", failed.stderr);
    program.run(&["suppress", "import", "list.txt", "--shop", "masion"]).expect(2);
    program.run(&["suppress", "import", "nowhere.txt"]).expect(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_outlives_an_erasure() {
    let program = Program::new(&shipped()).await;
    let pool = &program.db.pool;
    orders(pool, &["maison"], &["claire"]).await;
    program.write("former.csv", "email\nClaire@customer.example\n");
    program.run(&["suppress", "import", "former.csv", "--reason", "unsubscribed"]).expect(0);
    sqlx::query("update customer set email = null, email_key = null, first_name = null, last_name = null, erased_at = now()")
        .execute(pool)
        .await
        .unwrap();
    // A new order from the address makes a new customer: who is not written to either.
    program.write(
        "orders.csv",
        "order_id,email,ordered_at,fulfilled_at\nB-1,claire@customer.example,2026-03-01T09:00:00Z,2026-03-03T09:00:00Z\n",
    );
    program.run(&["import", "orders", "orders.csv"]).expect(0);
    send(&program, NOW);
    let fates = fates(&program);
    assert_eq!(fates[0], fate("B-1", "not mailed", "unsubscribed"));
    assert!(fates.iter().all(|(_, mailed, _)| mailed == "not mailed"), "{fates:?}");
    let outbox = program.path("data/outbox");
    assert!(!outbox.exists() || std::fs::read_dir(outbox).unwrap().count() == 0);
}
