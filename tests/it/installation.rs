//! [2] A database that was copied or set back sends nothing until somebody says what happened to it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use afterword::invitations::Reason;

use crate::support::TestDb;
use crate::support::factories::{self, Order};
use crate::support::program::{Program, command, ran, shipped_with};
use crate::support::smtp::Relay;

const NOW: &str = "2026-03-12T10:00:00Z";
const LATER: &str = "2026-03-13T10:00:00Z";

/// One of the database's own tools, told where it is.
fn tool(name: &str, db: &TestDb) -> Command {
    let options = db.options();
    let mut command = Command::new(name);
    command
        .env("PGHOST", options.get_socket().unwrap())
        .env("PGPORT", options.get_port().to_string())
        .env("PGUSER", options.get_username())
        .env("PGDATABASE", options.get_database().unwrap());
    command
}

/// What [`restore`] reads back.
fn backup(db: &TestDb) -> Vec<u8> {
    let dump = tool("pg_dump", db).args(["--clean", "--if-exists"]).output().unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    dump.stdout
}

fn restore(db: &TestDb, backup: &[u8]) {
    let mut psql = tool("psql", db)
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    psql.stdin.take().unwrap().write_all(backup).unwrap();
    assert!(psql.wait().unwrap().success());
}

async fn order(db: &TestDb, number: &str, ordered_at: &str) {
    let shop = factories::shop(&db.pool, "maison").await;
    let customer = factories::customer(&db.pool, shop, &format!("c{number}@customer.example")).await;
    Order::new(shop, customer, number).ordered_at(ordered_at).insert(&db.pool).await;
}

async fn decision(db: &TestDb, order: &str) -> (String, Option<Reason>) {
    let sql = r#"select i.state::text, i.reason from invitation i join "order" o using (shop_id, order_id) where o.external_id = $1"#;
    sqlx::query_as(sql).bind(order).fetch_one(&db.pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_set_back_mails_nobody_again() {
    let relay = Relay::start();
    let program = Program::new(&shipped_with(relay.port)).await;
    let db = &program.db;
    program.run(&["migrate"]).expect(0);
    // One mail leaves before the backup; one waits in it, greylisted; one is due only after it.
    order(db, "1", "2026-03-01T10:00:00Z").await;
    program.run(&["run", "send-invitations", "--as-of", NOW]).expect(0);
    let shop = factories::shop(&db.pool, "maison").await;
    let customer = factories::customer(&db.pool, shop, "later@customer.example").await;
    Order::new(shop, customer, "2").insert(&db.pool).await;
    program.run(&["run", "send-invitations", "--as-of", NOW]).expect(0);
    let backup = backup(db);
    order(db, "3", "2026-03-04T09:00:00Z").await;
    program.run(&["run", "send-invitations", "--as-of", LATER]).expect(0);
    assert_eq!(relay.accepted().len(), 2);

    restore(db, &backup);
    order(db, "3", "2026-03-04T09:00:00Z").await;
    let refused = program.run(&["run", "send-invitations", "--as-of", LATER]).expect(4);
    assert!(
        refused.stderr.contains("set back") && refused.stderr.contains("adopt --restored"),
        "{}",
        refused.stderr
    );
    assert_eq!(relay.accepted().len(), 2, "nothing leaves");
    let history = program.run(&["jobs", "history", "-n", "1", "--json"]).expect(0).json();
    assert_eq!(history[0]["state"], "failed", "and the ledger knows: {history}");

    program.run(&["adopt"]).expect(2);
    // It has not just moved, and saying so would mail people twice.
    program.run(&["adopt", "--moved"]).expect(4);
    let adopted = program.run(&["adopt", "--restored", "--as-of", LATER]).expect(0);
    assert!(adopted.stderr.contains("when the backup was made: 1."), "{}", adopted.stderr);
    order(db, "4", "2026-03-06T10:00:00Z").await;
    let next = program.run(&["run", "send-invitations", "--as-of", "2026-03-15T11:00:00Z"]).expect(0);
    assert_eq!(relay.accepted().len(), 3, "{next:?}");
    assert_eq!(decision(db, "2").await, ("unknown".to_owned(), None));
    assert_eq!(decision(db, "3").await, ("skipped".to_owned(), Some(Reason::AlreadyAsked)));
    assert_eq!(decision(db, "4").await, ("sent".to_owned(), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_database_mails_nobody() {
    let relay = Relay::start();
    let program = Program::new(&shipped_with(relay.port)).await;
    program.run(&["jobs"]).expect(0);
    order(&program.db, "1", "2026-03-01T10:00:00Z").await;

    // Somebody makes a copy, to try something, before the first mail has left.
    let copy = Program { db: program.db.copy().await, dir: crate::support::data_dir() };
    copy.configure(&shipped_with(relay.port));
    let refused = copy.run(&["run", "send-invitations", "--as-of", NOW]).expect(4);
    assert!(refused.stderr.contains("is a copy"), "{}", refused.stderr);
    copy.run(&["run", "send-invitations", "--dry-run", "--as-of", NOW]).expect(4);
    assert_eq!(relay.accepted().len(), 0);
    // The original goes on, and does not mind.
    program.run(&["run", "send-invitations", "--as-of", NOW]).expect(0);
    assert_eq!(relay.accepted().len(), 1);
    // It was a move after all; what waits is mailed, in the knowledge of whoever said so.
    copy.run(&["adopt", "--moved"]).expect(0);
    copy.run(&["run", "send-invitations", "--as-of", NOW]).expect(0);
    assert_eq!(relay.accepted().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_never_sent_from_here_is_asked_about_once() {
    let relay = Relay::start();
    let program = Program::new(&shipped_with(relay.port)).await;
    program.run(&["jobs"]).expect(0);
    order(&program.db, "1", "2026-03-01T10:00:00Z").await;
    program.run(&["run", "send-invitations", "--as-of", NOW]).expect(0);
    // The same database, as it is after its server was copied: only the files beside it are missing.
    let elsewhere = crate::support::data_dir();
    let jobs_toml = std::fs::read_to_string(program.path("jobs.toml")).unwrap();
    std::fs::write(elsewhere.path().join("jobs.toml"), jobs_toml).unwrap();
    let run = |args: &[&str]| ran(command(elsewhere.path()).args(args).output().unwrap());
    let send = ["run", "send-invitations", "--as-of", NOW];
    let refused = run(&send).expect(4);
    assert!(refused.stderr.contains("not from this machine and data_dir"), "{}", refused.stderr);
    run(&["adopt", "--moved"]).expect(0);
    run(&send).expect(0);
    // Both send from now on.
    program.run(&send).expect(0);
    run(&send).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_was_mailed_in_the_lost_time_leads_to_nobody_else() {
    let relay = Relay::start();
    let program = Program::new(&shipped_with(relay.port)).await;
    let db = &program.db;
    program.run(&["jobs"]).expect(0);
    let backup = backup(db);
    order(db, "lost", "2026-03-01T10:00:00Z").await;
    program.run(&["run", "send-invitations", "--as-of", NOW]).expect(0);
    restore(db, &backup);
    program.run(&["adopt", "--restored", "--as-of", NOW]).expect(0);
    order(db, "later", "2026-03-05T10:00:00Z").await;
    program.run(&["run", "send-invitations", "--as-of", "2026-03-16T10:00:00Z"]).expect(0);
    let links: Vec<String> =
        relay.accepted().iter().map(|mail| mail.header("List-Unsubscribe").unwrap()).collect();
    let ids: Vec<String> = relay.accepted().iter().map(|mail| mail.header("Message-ID").unwrap()).collect();
    assert_eq!(links.len(), 2);
    assert!(links[0] != links[1] && ids[0] != ids[1], "{links:?}");
}
