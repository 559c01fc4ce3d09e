//! [1] What happens about an order later, and the survey that waits for it.

use crate::support::program::{Program, shipped, shipped_with};
use crate::support::smtp::Relay;

const ORDERS: &str = "\
order_id,email,ordered_at,fulfilled_at
A-1,claire@customer.example,2026-02-01T10:00:00Z,2026-02-03T10:00:00Z
A-2,claire@customer.example,2026-03-01T10:00:00Z,2026-03-03T10:00:00Z
A-3,hugo@customer.example,2026-03-01T10:00:00Z,2026-03-03T10:00:00Z
A-4,lea@customer.example,2026-03-01T10:00:00Z,2026-03-03T10:00:00Z
";

fn import(program: &Program, what: &str, content: &str, code: i32) -> serde_json::Value {
    let file = program.write("file.csv", content);
    program.run(&["import", what, file.to_str().unwrap(), "--shop", "maison", "--json"]).expect(code).json()
        [0]
    .clone()
}

fn counts(report: &serde_json::Value) -> [u64; 5] {
    ["n_read", "n_inserted", "n_updated", "n_unchanged", "n_rejected"]
        .map(|key| report[key].as_u64().unwrap())
}

fn reasons(report: &serde_json::Value) -> Vec<String> {
    let rejects = report["rejects"].as_array().unwrap().iter();
    rejects.map(|reject| format!("{} {} {}", reject["line"], reject["column"], reject["reason"])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_case_is_asked_about_whatever_was_asked_about_the_order() {
    let relay = Relay::start();
    let program = Program::new(&shipped_with(relay.port)).await;
    import(&program, "orders", ORDERS, 0);
    program.run(&["run", "send-invitations", "--as-of", "2026-03-11T10:00:00Z"]).expect(0);
    assert_eq!(relay.accepted().len(), 3, "the first survey asks each customer once");
    let waits = program.run(&["explain", "order", "A-3"]).expect(0).stdout;
    assert!(
        waits.contains("survey after-service: not decided yet, because no case_closed has come in"),
        "{waits}"
    );

    let cases = "\
event_id,order_id,email,event,happened_at
C-1,A-3,,case_closed,2026-03-20T10:00:00Z
C-2,A-3,,case_closed,2026-03-21T10:00:00Z
C-3,,Claire@customer.example,case_closed,2026-02-15T10:00:00Z
C-4,,lea@customer.example,case_opened,2026-03-20T10:00:00Z
";
    let report = import(&program, "events", cases, 0);
    assert_eq!((counts(&report), &report["kind"]), ([4, 4, 0, 0, 0], &"events".into()));
    let send = |now: &'static str| program.run(&["run", "send-after-service", "--as-of", now]).expect(0);
    send("2026-03-21T09:59:00Z");
    assert_eq!(relay.accepted().len(), 3, "not yet");
    let dry =
        program.run(&["run", "send-after-service", "--dry-run", "--as-of", "2026-03-21T10:00:00Z"]).expect(0);
    assert!(dry.stdout.contains("A-3") && dry.stdout.contains(": mail"), "{}", dry.stdout);
    send("2026-03-21T10:00:00Z");
    let mails = relay.accepted();
    assert_eq!(mails.len(), 4);
    assert_eq!(mails[3].to, "hugo@customer.example");
    assert!(mails[3].text().contains("a répondu à votre demande"), "{}", mails[3].text());
    // The second case about the same order asks nobody again, and neither does the same file.
    send("2026-04-02T10:00:00Z");
    assert_eq!(relay.accepted().len(), 4);
    let again = program
        .run(&["import", "events", "file.csv", "--shop", "maison", "--again", "--json"])
        .expect(0)
        .json();
    assert_eq!(counts(&again[0]), [4, 0, 0, 4, 0]);
    let story = program.run(&["explain", "order", "A-3"]).expect(0).stdout;
    for part in
        ["case closed", "survey satisfaction, first mail", "survey after-service, first mail: to be asked"]
    {
        assert!(story.contains(part), "no {part:?} in:\n{story}");
    }
    // An address names the latest order of its time.
    let story = program.run(&["explain", "order", "A-1"]).expect(0).stdout;
    assert!(
        story.contains("survey after-service, first mail: not asked, because it was due too long ago"),
        "{story}"
    );
    assert!(!program.run(&["explain", "order", "A-2"]).expect(0).stdout.contains("case closed"));
    // Nor does the closed case keep the next survey from asking about the order.
    let story = program.run(&["explain", "order", "A-4"]).expect(0).stdout;
    assert!(story.contains("case opened") && story.contains("no case_closed has come in"), "{story}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_taken_is_told_with_its_place() {
    let program = Program::new(&shipped()).await;
    import(&program, "orders", ORDERS, 0);
    let report = import(
        &program,
        "events",
        "order_id,email,event,happened_at\n\
         A-9,,case_closed,2026-03-20\n\
         ,nobody@customer.example,case_closed,2026-03-20\n\
         ,hugo@customer.example,case_closed,2026-02-20\n\
         ,,case_closed,2026-03-20\n\
         A-1,,Case closed,2026-03-20\n\
         A-1,,case_closed,20/03/2026\n\
         A-1,,case_closed,2026-03-20\n\
         A-1,,case_closed,2026-03-20\n",
        3,
    );
    assert_eq!(counts(&report), [8, 1, 0, 1, 6]);
    assert_eq!(
        reasons(&report),
        [
            r#"5 "order_id" "is empty, and so is the address""#,
            r#"6 "event" "is no name such as case_closed: lower-case letters, digits and _""#,
            r#"7 "happened_at" "has the day or the month first; state the date format, such as %d/%m/%Y %H:%M""#,
            r#"2 "order_id" "is no order of this shop""#,
            r#"3 "email" "is of no customer who had ordered by then""#,
            r#"4 "email" "is of no customer who had ordered by then""#,
        ]
    );
    let wrong = program.write("wrong.csv", "order_id,event\nA-1,case_closed\n");
    let ran = program.run(&["import", "events", wrong.to_str().unwrap()]).expect(1);
    assert!(ran.stderr.contains("\"happened_at\" is missing"), "{}", ran.stderr);
    let mapped =
        program.write("mapped.csv", "Commande;Quoi;Quand;Autre\nA-2;case_closed;20/03/2026 10:00;x\n");
    let map = [
        "--map",
        "order_id=Commande",
        "--map",
        "event=Quoi",
        "--map",
        "happened_at=Quand",
        "--date-format",
        "%d/%m/%Y %H:%M",
    ];
    let ran = program
        .run(&[&["import", "events", mapped.to_str().unwrap(), "--json"], &map[..]].concat())
        .expect(0);
    assert_eq!(counts(&ran.json()[0]), [1, 1, 0, 0, 0]);
}
