//! [2] The rules of jobs.toml, seen from outside: order files in, mails out, and the dry run that tells it all beforehand.

use std::collections::BTreeMap;

use crate::support::factories;
use crate::support::program::{Program, shipped_with};
use crate::support::smtp::{Accepted, Relay};

const HEADER: &str = "order_id,email,ordered_at,fulfilled_at,status,country,consent\n";

/// The program with these changes to the shipped jobs.toml, and a relay.
async fn program(changes: &[(&str, &str)]) -> (Relay, Program) {
    let relay = Relay::start();
    let mut config = shipped_with(relay.port);
    for (from, to) in changes {
        assert!(config.contains(from), "jobs.toml has no {from}");
        config = config.replace(from, to);
    }
    let program = Program::new(&config).await;
    (relay, program)
}

fn import(program: &Program, rows: &[&str]) {
    let file = program.write("orders.csv", format!("{HEADER}{}\n", rows.join("\n")));
    program.run(&["import", "orders", file.to_str().unwrap(), "--shop", "maison"]).expect(0);
}

/// What the dry run says, order and wave by order and wave: `mail`, or what else with its reason.
fn plan(program: &Program, now: &str) -> BTreeMap<String, String> {
    let dry =
        program.run(&["run", "send-invitations", "--dry-run", "--json", "--as-of", now]).expect(0).json();
    let plan = dry["details"]["shops"][0]["plan"].as_array().cloned().unwrap_or_default();
    let line = |planned: &serde_json::Value| {
        let word = |key: &str| planned[key].as_str().unwrap_or_default().to_owned();
        let reason = if planned["why"].is_string() { word("why") } else { word("reason") };
        let said = if reason.is_empty() { word("action") } else { format!("{} {reason}", word("action")) };
        (format!("{} {}", word("order_id"), planned["wave"]), said)
    };
    let lines: BTreeMap<_, _> = plan.iter().map(line).collect();
    assert_eq!(lines.len(), plan.len(), "an order is planned twice: {plan:?}");
    lines
}

/// What the rows say, in the same words.
async fn rows(program: &Program) -> BTreeMap<String, String> {
    let sql = r#"select o.external_id || ' ' || i.wave, i.state::text, coalesce(i.reason::text, '')
                 from invitation i join "order" o using (shop_id, order_id)"#;
    let rows: Vec<(String, String, String)> = sqlx::query_as(sql).fetch_all(&program.db.pool).await.unwrap();
    let said = |state: String, reason: String| match state.as_str() {
        "skipped" => format!("skip {reason}"),
        "cancelled" | "suppressed" | "expired" => format!("give_up {reason}"),
        "sent" => "mail".to_owned(),
        state => state.to_owned(),
    };
    rows.into_iter().map(|(order, state, reason)| (order, said(state, reason))).collect()
}

/// Looks at the plan, runs, and compares: what was to be mailed was mailed, what was to wait waits, and whatever the plan does not name
/// stays as it was.
async fn run_as_planned(program: &Program, now: &str) -> BTreeMap<String, String> {
    let before = rows(program).await;
    let plan = plan(program, now);
    assert_eq!(rows(program).await, before, "a dry run changes nothing");
    program.run(&["run", "send-invitations", "--as-of", now]).expect(0);
    let mut expected = before;
    for (order, said) in &plan {
        let said = if said.starts_with("wait ") { "queued".to_owned() } else { said.clone() };
        expected.insert(order.clone(), said);
    }
    assert_eq!(rows(program).await, expected, "the plan was {plan:?}");
    plan
}

/// What the recipient's mail system writes when it has nobody of that name (RFC 3464).
fn no_such_user(mail: &Accepted) -> String {
    let (to, id) = (&mail.to, mail.header("Message-ID").unwrap());
    format!(
        "From: MAILER-DAEMON@mx.customer.example\r\nTo: avis@maison.example\r\nSubject: Undelivered Mail\r\n\
         MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\nIt could not be delivered.\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.customer.example\r\n\r\n\
         Final-Recipient: rfc822; {to}\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n\
         --b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: {id}\r\n\r\n--b--\r\n"
    )
}

fn said(plan: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
    plan.iter().map(|(order, said)| (order.as_str(), said.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_the_run_then_does() {
    let (relay, program) = program(&[
        ("# delay_by_country = { BR = \"10d\" }", "delay_by_country = { BR = \"10d\" }"),
        ("# max_per_run = 5000", "max_per_run = 2"),
    ])
    .await;
    import(
        &program,
        &[
            "1,a@customer.example,2026-03-01T10:00:00Z,2026-03-03T10:00:00Z,fulfilled,FR,",
            "2,b@customer.example,2026-03-01T10:00:00Z,2026-03-03T11:00:00Z,fulfilled,FR,",
            "3,c@customer.example,2026-03-01T10:00:00Z,2026-03-03T12:00:00Z,fulfilled,FR,",
            "4,d@customer.example,2026-03-01T10:00:00Z,2026-03-03T10:00:00Z,fulfilled,DE,",
            "5,e@customer.example,2026-03-01T10:00:00Z,2026-03-03T13:00:00Z,fulfilled,DE,yes",
            "6,f@customer.example,2026-03-01T10:00:00Z,2026-03-03T10:00:00Z,fulfilled,FR,no",
            "7,g@customer.example,2026-03-01T10:00:00Z,2026-03-03T14:00:00Z,fulfilled,BR,",
            "8,h@customer.example,2026-03-01T10:00:00Z,2026-03-03T10:00:00Z,cancelled,FR,",
            "9,a@customer.example,2026-03-01T11:00:00Z,2026-03-03T15:00:00Z,fulfilled,FR,",
            "bad,bad@customer.example,2026-03-01T11:00:00Z,2026-03-03T15:00:00Z,fulfilled,FR,",
        ],
    );
    // No import takes such an address; but a row may have been written by something else.
    sqlx::query("update customer set email = 'nobody', email_key = 'nobody' where email_key like 'bad@%'")
        .execute(&program.db.pool)
        .await
        .unwrap();
    let now = "2026-03-11T10:00:00Z";
    let first = run_as_planned(&program, now).await;
    let expected = [
        ("1 0", "mail"),
        ("2 0", "mail"),
        ("3 0", "wait max_per_run"),
        ("4 0", "skip no_consent"),
        ("5 0", "wait max_per_run"),
        ("6 0", "skip no_consent"),
        ("8 0", "skip cancelled"),
        ("9 0", "skip throttled"),
        ("bad 0", "skip bad_address"),
    ];
    assert_eq!(said(&first), expected);
    // While they wait: one order is cancelled, one is delivered later after all; Brazil's delay has passed.
    import(
        &program,
        &[
            "3,c@customer.example,2026-03-01T10:00:00Z,2026-03-03T12:00:00Z,refunded,FR,",
            "5,e@customer.example,2026-03-01T10:00:00Z,2026-03-09T13:00:00Z,fulfilled,DE,yes",
        ],
    );
    let second = run_as_planned(&program, "2026-03-14T10:00:00Z").await;
    assert_eq!(said(&second), [("3 0", "give_up refunded"), ("5 0", "wait next_attempt"), ("7 0", "mail")]);
    // Its time has come; and the two of the first day are reminded, up to the run's cap.
    let third = run_as_planned(&program, "2026-03-16T14:00:00Z").await;
    assert_eq!(said(&third), [("1 1", "mail"), ("2 1", "wait max_per_run"), ("5 0", "mail")]);
    assert_eq!(relay.accepted().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn reminders_stop_when_there_is_an_answer_an_opt_out_or_a_cancellation() {
    let (relay, program) = program(&[("reminders = [\"5d\"] ", "reminders = [\"5d\", \"7d\"] ")]).await;
    let names = ["silent", "answers", "optsout", "cancels", "moves", "bounces"];
    let row = |name: &&str| {
        format!("{name},{name}@customer.example,2026-03-01T10:00:00Z,2026-03-03T10:00:00Z,fulfilled,FR,")
    };
    let rows: Vec<String> = names.iter().map(row).collect();
    import(&program, &rows.iter().map(String::as_str).collect::<Vec<_>>());
    run_as_planned(&program, "2026-03-11T10:00:00Z").await;
    assert_eq!(relay.accepted().len(), 6);
    assert!(plan(&program, "2026-03-16T09:59:00Z").is_empty(), "not yet");

    let responses = program
        .write("responses.csv", "order_id,email,answered_at,recommend\nanswers,,2026-03-12T10:00:00Z,yes\n");
    let responses = responses.to_str().unwrap();
    program
        .run(&["import", "responses", responses, "--shop", "maison", "--survey", "satisfaction"])
        .expect(0);
    program.run(&["suppress", "add", "optsout@customer.example"]).expect(0);
    let mail = relay.accepted().into_iter().find(|mail| mail.to.starts_with("bounces@")).unwrap();
    let message = program.write("data/inbox/bounces/1.eml", no_such_user(&mail));
    // A file that was written a moment ago may still grow.
    let yesterday = factories::at("2026-03-11T10:00:00Z").into();
    std::fs::File::options().write(true).open(message).unwrap().set_modified(yesterday).unwrap();
    program.run(&["run", "collect-bounces", "--as-of", "2026-03-12T10:00:00Z"]).expect(0);
    import(
        &program,
        &[
            "cancels,cancels@customer.example,2026-03-01T10:00:00Z,2026-03-03T10:00:00Z,cancelled,FR,",
            "moves,somebody@customer.example,2026-03-01T10:00:00Z,2026-03-03T10:00:00Z,fulfilled,FR,",
        ],
    );
    let first = run_as_planned(&program, "2026-03-16T10:00:00Z").await;
    let expected = [
        ("answers 1", "skip answered"),
        ("bounces 1", "skip suppressed"),
        ("cancels 1", "skip cancelled"),
        ("moves 1", "skip order_changed"),
        ("optsout 1", "skip suppressed"),
        ("silent 1", "mail"),
    ];
    assert_eq!(said(&first), expected);
    let second = run_as_planned(&program, "2026-03-23T10:00:00Z").await;
    assert_eq!(said(&second), [("silent 2", "mail")]);
    assert!(plan(&program, "2026-05-01T10:00:00Z").is_empty(), "there is no third");

    let to_silent: Vec<_> =
        relay.accepted().into_iter().filter(|mail| mail.to.starts_with("silent@")).collect();
    assert_eq!(to_silent.len(), 3);
    let subjects: Vec<String> = to_silent.iter().map(|mail| mail.header("Subject").unwrap()).collect();
    assert!(subjects[0] != subjects[1] && subjects[1] == subjects[2], "{subjects:?}");
    let ids: std::collections::BTreeSet<_> = to_silent.iter().map(|mail| mail.header("Message-ID")).collect();
    assert_eq!(ids.len(), 3, "each is a mail of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_beyond_the_days_cap_is_drawn_by_lot_and_told_apart() {
    let (relay, program) = program(&[("# max_per_day = 500", "max_per_day = 3")]).await;
    let row = |n: usize, day: usize| {
        format!("{n},c{n}@customer.example,2026-03-01T10:00:00Z,2026-03-0{day}T10:00:00Z,fulfilled,FR,")
    };
    let rows: Vec<String> = (0..10).map(|n| row(n, 3)).chain((10..14).map(|n| row(n, 4))).collect();
    import(&program, &rows.iter().map(String::as_str).collect::<Vec<_>>());
    let first = run_as_planned(&program, "2026-03-10T12:00:00Z").await;
    let n = |plan: &BTreeMap<String, String>, what: &str| plan.values().filter(|said| *said == what).count();
    assert_eq!((n(&first, "mail"), n(&first, "skip over_cap")), (3, 7));
    // The same day is over; in Paris the next one begins at 23:00 UTC.
    let same_day = run_as_planned(&program, "2026-03-10T22:59:00Z").await;
    assert!(same_day.is_empty());
    let next_day = run_as_planned(&program, "2026-03-11T12:00:00Z").await;
    assert_eq!((n(&next_day, "mail"), n(&next_day, "skip over_cap")), (3, 1));
    assert_eq!(relay.accepted().len(), 6);
}
