//! [2] What comes back by mail: what is made of it, and what follows from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once};
use std::time::{Duration, SystemTime};

use afterword::invitations::InvitationState;
use afterword::invitations::bounces::mailbox::Messages;
use afterword::invitations::bounces::{self, BounceKind};
use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use serde_json::Value;
use sqlx::PgPool;

use crate::support::factories::{self, Order, at};
use crate::support::program::{Program, Ran, command, ran, shipped_with};
use crate::support::smtp::{Accepted, Relay};
use crate::support::{data_dir, test_name};

/// Orders are delivered on 3 March; with a delay of seven days they are due on the 10th.
const NOW: &str = "2026-03-12T10:00:00Z";
const LATER: &str = "2026-03-13T10:00:00Z";

const KINDS: [BounceKind; 6] = [
    BounceKind::Hard,
    BounceKind::Soft,
    BounceKind::Delayed,
    BounceKind::Complaint,
    BounceKind::AutoReply,
    BounceKind::Other,
];

fn samples(kind: BounceKind) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data/bounces").join(kind.as_str());
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Runs `bounces read` where there is neither a configuration nor a database.
fn read(args: &[&str]) -> Ran {
    let dir = data_dir();
    ran(command(dir.path()).args(["bounces", "read"]).args(args).output().unwrap())
}

#[test]
fn every_sample_is_of_the_kind_that_its_folder_says() {
    let mut listing = String::new();
    for kind in KINDS {
        for file in samples(kind) {
            let name = file.file_stem().unwrap().to_string_lossy().into_owned();
            let report =
                bounces::read(&fs::read(&file).unwrap()).unwrap_or_else(|| panic!("{name} is no mail"));
            let finding = &report.findings[0];
            assert_eq!(finding.kind, kind, "{name}: {report:?}");
            if kind != BounceKind::Other {
                assert_eq!(finding.recipient(), Some("claire.dubois@customer.example"), "{name}: {report:?}");
            }
            for private in ["claire", "dubois", "@", "://"] {
                assert!(!finding.reason.to_lowercase().contains(private), "{name}: {}", finding.reason);
            }
            let status = finding.status.map(|status| status.to_string()).unwrap_or_default();
            listing.push_str(&format!("{} | {name} | {status} | {}\n", kind.as_str(), finding.reason));
        }
    }
    insta::assert_snapshot!(listing);
}

#[test]
fn bounces_read_wants_neither_configuration_nor_database() {
    let dir = data_dir();
    let sample = |kind, name: &str| {
        let file = samples(kind).into_iter().find(|file| file.file_stem().unwrap() == name).unwrap();
        fs::read(file).unwrap()
    };
    let (hard, soft) = (sample(BounceKind::Hard, "qmail"), sample(BounceKind::Soft, "too-large"));
    let from = b"From MAILER-DAEMON Mon Mar  2 10:00:00 2026\n";
    let write = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path.to_string_lossy().into_owned()
    };
    let mbox = write("mbox", &[&from[..], &hard, b"\n", from, &soft, b"\n"].concat());
    write("Maildir/new/1.host", &soft);
    write("Maildir/cur/0.host:2,S", &hard);
    write("Maildir/tmp/2.host", &hard);
    write("Maildir/dovecot-uidlist", b"3 V1");
    let maildir = dir.path().join("Maildir").to_string_lossy().into_owned();
    let noise = write("noise", b"\x00\xff no mail at all");
    let nowhere = dir.path().join("nowhere").to_string_lossy().into_owned();

    let ran = read(&[&nowhere, &mbox, &maildir, &noise, "--json"]).expect(3);
    assert!(ran.stderr.contains("nowhere") && ran.stderr.lines().count() == 1, "{}", ran.stderr);
    let json = ran.json();
    let rows = json.as_array().unwrap();
    let mut fields: Vec<&String> = rows[0].as_object().unwrap().keys().collect();
    fields.sort();
    assert_eq!(fields, ["file", "kind", "message", "reason", "recipient", "status"]);
    let brief: Vec<(String, u64, String)> = rows
        .iter()
        .map(|row| {
            let file =
                Path::new(row["file"].as_str().unwrap()).file_name().unwrap().to_string_lossy().into_owned();
            (file, row["message"].as_u64().unwrap(), row["kind"].as_str().unwrap().to_owned())
        })
        .collect();
    let expected = [
        ("mbox", 1, "hard"),
        ("mbox", 2, "soft"),
        ("1.host", 1, "soft"),
        ("0.host:2,S", 1, "hard"),
        ("noise", 1, "other"),
    ];
    assert_eq!(brief, expected.map(|(file, n, kind)| (file.to_owned(), n, kind.to_owned())));
    assert_eq!((rows[0]["status"].as_str(), &rows[4]["status"]), (Some("5.1.1"), &Value::Null));

    let table = read(&[&mbox]).expect(0).stdout;
    assert!(table.contains("claire.dubois@customer.example") && table.lines().count() == 3, "{table}");
    // Standard input.
    let mut child = command(dir.path());
    child.args(["bounces", "read", "-", "--json"]).stdin(fs::File::open(&mbox).unwrap());
    assert_eq!(ran_json(&mut child).as_array().unwrap().len(), 2);
}

fn ran_json(command: &mut std::process::Command) -> Value {
    ran(command.output().unwrap()).expect(0).json()
}

/// How often this test has panicked in our own code since [`note_panics`], though it was caught: `read` catches what the parser of
/// MIME does, and reads on without it.
fn n_panics() -> usize {
    PANICKED.lock().unwrap().iter().filter(|name| **name == test_name()).count()
}

static PANICKED: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.location().is_some_and(|at| !at.file().contains("/mail-parser-")) {
                PANICKED.lock().unwrap().push(test_name());
                usual(panic);
            }
        }));
    });
}

#[test]
fn panics_are_noted_though_they_are_caught() {
    note_panics();
    assert!(std::panic::catch_unwind(|| panic!("caught")).is_err());
    assert_eq!(n_panics(), 1);
}

#[test]
fn nothing_that_comes_makes_it_panic() {
    note_panics();
    let all: Vec<Vec<u8>> = KINDS.into_iter().flat_map(samples).map(|file| fs::read(file).unwrap()).collect();
    // Every sample, cut off at many places, and with bytes that do not belong there.
    for sample in &all {
        for at in (0..sample.len()).step_by(sample.len() / 10 + 1) {
            bounces::read(&sample[..at]);
            for odd in
                [&b"\0"[..], b"\xff\xfe", b"\r", b"\n\n", b"<", b"@", b"\x80", b"=?utf-8?q?", b"--=_part\n"]
            {
                bounces::read(&[&sample[..at], odd, &sample[at..]].concat());
            }
        }
    }
    let head = b"From: MAILER-DAEMON@mx.shop.example\nSubject: Undeliverable\n";
    let with_head = |rest: &[u8]| [&head[..], rest].concat();
    // A message in a message in a message …, and a part in a part in a part ….
    let nested = with_head(&b"Content-Type: message/rfc822\n\n".repeat(34_000));
    assert_eq!(bounces::read(&nested).unwrap().findings.len(), 1);
    let parts: String =
        (0..15_000).map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n")).collect();
    assert!(bounces::read(&with_head(parts.as_bytes())).is_some());
    let digests: String =
        (0..15_000).map(|n| format!("Content-Type: multipart/digest; boundary=b{n}\n\n--b{n}\n\n")).collect();
    assert!(bounces::read(&with_head(digests.as_bytes())).is_some());
    // 100,000 lines, each with an address; a header of a megabyte; 8-bit headers; a charset that there is not.
    let lines: String = (0..100_000).map(|n| format!("<c{n}@customer.example>:\n")).collect();
    let report = bounces::read(&with_head(format!("\n{lines}").as_bytes())).unwrap();
    assert!(report.findings.len() <= 50 && report.findings[0].recipient() == Some("c0@customer.example"));
    assert!(bounces::read(&with_head(&b"X: y\n ".repeat(200_000))).is_some());
    assert!(bounces::read(&with_head("To: Zoë\u{0} <z@customer.example>\n\n".as_bytes())).is_some());
    let latin = with_head(
        b"Content-Type: text/plain; charset=x-none\n\n<c@customer.example>: bo\xeete pleine \xe9\n",
    );
    assert_eq!(bounces::read(&latin).unwrap().findings[0].kind, BounceKind::Soft);
    for nothing in [&b""[..], b"\n", b"\0\0\0", b"no header here\n\ntext", b"one: two\n\n"] {
        assert!(bounces::read(nothing).is_none(), "{nothing:?}");
    }
    assert_eq!(n_panics(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn whatever_is_changed_in_a_report_it_is_read(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..60),
    ) {
        let all: Vec<PathBuf> = KINDS.into_iter().flat_map(samples).collect();
        let mut bytes = fs::read(which.get(&all)).unwrap();
        for (at, byte, how) in changes {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => {
                    let piece = bytes[at..(at + usize::from(byte)).min(bytes.len())].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        note_panics();
        let report = bounces::read(&bytes);
        prop_assert_eq!(n_panics(), 0);
        for finding in report.iter().flat_map(|report| &report.findings) {
            prop_assert!(!finding.reason.contains('@') && !finding.reason.contains('\0'));
            prop_assert!(finding.reason.chars().count() <= 300);
        }
        let mut messages = Messages::new(&bytes[..]).unwrap();
        while messages.read_next().unwrap().is_some() {}
    }
}

/// The shipped jobs.toml with a relay and a return path, and its folder for bounces.
fn configured(relay: &Relay) -> String {
    shipped_with(relay.port)
        .replace("# return_path = \"bounces@shop.example\"", "return_path = \"bounces@shop.example\"")
}

/// A program that has mailed each of these customers, about an order called as the part before the @.
async fn mailed(relay: &Relay, emails: &[&str]) -> Program {
    let program = Program::new(&configured(relay)).await;
    orders(&program.db.pool, emails).await;
    // A mail that the relay did not answer is unknown, and the run then ended in part.
    let code = program.run(&["run", "send-invitations", "--as-of", NOW]).code;
    assert!([0, 3].contains(&code), "{code}");
    program
}

async fn orders(pool: &PgPool, emails: &[&str]) {
    let shop = factories::shop(pool, "maison").await;
    for email in emails {
        let customer = factories::customer(pool, shop, email).await;
        Order::new(shop, customer, email.split('@').next().unwrap()).insert(pool).await;
    }
}

/// What the relay accepted for this recipient.
fn accepted(relay: &Relay, to: &str) -> Accepted {
    relay.accepted().into_iter().find(|mail| mail.to == to).unwrap_or_else(|| panic!("no mail to {to}"))
}

/// A delivery report about a mail.
pub struct Dsn<'a> {
    to: &'a str,
    recipient: &'a str,
    action: &'a str,
    status: &'a str,
    original: &'a [u8],
}

impl<'a> Dsn<'a> {
    /// Hard, and all that it says is true.
    pub fn about(mail: &'a Accepted) -> Self {
        Self {
            to: &mail.from,
            recipient: &mail.to,
            action: "failed",
            status: "5.1.1",
            original: &mail.message,
        }
    }

    pub fn message(&self) -> Vec<u8> {
        let Self { to, recipient, action, status, .. } = self;
        let head = format!(
            "Return-Path: <>\r\nFrom: MAILER-DAEMON@mx.customer.example\r\nTo: {to}\r\nSubject: Undelivered Mail\r\n\
             Content-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n\
             --b\r\nContent-Type: text/plain\r\n\r\nSorry.\r\n\
             --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.customer.example\r\n\r\n\
             Final-Recipient: rfc822; {recipient}\r\nAction: {action}\r\nStatus: {status}\r\n\
             Diagnostic-Code: smtp; 550 {status} <{recipient}>: Claire Duval is not here\r\n\r\n\
             --b\r\nContent-Type: message/rfc822\r\n\r\n"
        );
        [head.as_bytes(), self.original, b"\r\n--b--\r\n"].concat()
    }
}

fn collect(program: &Program) -> Value {
    let ran = program.run(&["run", "collect-bounces", "--json", "--as-of", LATER]);
    assert!([0, 3].contains(&ran.code), "{ran:?}");
    assert!(!ran.stdout.contains('@') && !ran.stderr.contains('@'), "{ran:?}");
    ran.json()
}

/// A figure of the report.
fn n(report: &Value, name: &str) -> u64 {
    report["details"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {report}"))
}

async fn rows(pool: &PgPool) -> Vec<(String, BounceKind, Option<String>, String)> {
    let sql = r#"select o.external_id, b.kind, b.status, b.reason from bounce b
                 join invitation i using (shop_id, invitation_id) join "order" o using (shop_id, order_id)
                 order by o.external_id, b.bounce_id"#;
    sqlx::query_as(sql).fetch_all(pool).await.unwrap()
}

async fn suppressed(pool: &PgPool) -> Vec<(String, String)> {
    let sql = "select split_part(c.email, '@', 1), s.reason::text from customer c join suppression s
               on s.shop_id = c.shop_id and s.address_hash = sha256(convert_to(c.email_key, 'UTF8')) order by 1";
    sqlx::query_as(sql).fetch_all(pool).await.unwrap()
}

async fn state(pool: &PgPool, order: &str) -> (InvitationState, Option<DateTime<Utc>>) {
    let sql = r#"select i.state, i.sent_at from invitation i join "order" o using (shop_id, order_id) where o.external_id = $1"#;
    sqlx::query_as(sql).bind(order).fetch_one(pool).await.unwrap()
}

fn folder(program: &Program, name: &str) -> usize {
    fs::read_dir(program.path("data/inbox/bounces").join(name)).map_or(0, |entries| entries.count())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_has_the_effect_of_its_kind_and_counts_once() {
    let relay = Relay::start();
    let names = ["hard", "upper", "lower", "byid", "soft", "delayed", "complaint", "away", "vanish", "fine"];
    let emails = names.map(|name| format!("{name}@customer.example"));
    let program = mailed(&relay, &emails.each_ref().map(String::as_str)).await;
    let pool = &program.db.pool;
    assert_eq!(state(pool, "vanish").await.0, InvitationState::Unknown);
    let mail = |name: &str| accepted(&relay, &format!("{name}@customer.example"));
    let put = |name: &str, content: &[u8]| program.write(&format!("data/inbox/bounces/new/{name}"), content);

    let hard = mail("hard");
    assert!(hard.from.starts_with("bounces+") && hard.from.ends_with("@shop.example"), "{}", hard.from);
    assert!(hard.from.split('@').next().unwrap().len() <= 64);
    put("hard", &Dsn::about(&hard).message());
    // Only the return path proves these two, and it comes back in another case; the recipient does, too.
    let (upper, lower) = (mail("upper"), mail("lower"));
    let cased = Dsn {
        to: &upper.from.to_uppercase(),
        recipient: "Upper@CUSTOMER.example",
        original: b"",
        ..Dsn::about(&upper)
    };
    put("upper", &cased.message());
    put("lower", &Dsn { to: &lower.from.to_lowercase(), original: b"", ..Dsn::about(&lower) }.message());
    // And only the Message-ID this one.
    put("byid", &Dsn { to: "avis@maison.example", ..Dsn::about(&mail("byid")) }.message());
    put("soft", &Dsn { status: "5.2.2", ..Dsn::about(&mail("soft")) }.message());
    put("delayed", &Dsn { action: "delayed", status: "4.4.1", ..Dsn::about(&mail("delayed")) }.message());
    // A report proves that the relay had the mail, whatever else it says.
    put("vanish", &Dsn { status: "5.7.1", ..Dsn::about(&mail("vanish")) }.message());
    let complaint = mail("complaint");
    let arf = "From: fbl@customer.example\r\nTo: abuse@shop.example\r\nSubject: FW\r\n\
         Content-Type: multipart/report; report-type=feedback-report; boundary=\"b\"\r\n\r\n\
         --b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nUser-Agent: x\r\nVersion: 1\r\n\r\n\
         --b\r\nContent-Type: message/rfc822\r\n\r\n";
    // Feedback loops take the address out.
    let redacted = String::from_utf8(complaint.message.clone())
        .unwrap()
        .replace("complaint@customer", "redacted@customer");
    put("complaint", &[arf.as_bytes(), redacted.as_bytes(), b"\r\n--b--\r\n"].concat());
    let away = mail("away");
    let vacation = format!(
        "Return-Path: <>\r\nFrom: Away <away@customer.example>\r\nTo: {}\r\nSubject: Re: hello\r\nAuto-Submitted: auto-replied\r\n\
         In-Reply-To: {}\r\n\r\nThe user is unknown to work on Fridays.\r\n",
        away.from,
        away.header("Message-ID").unwrap()
    );
    put("away", vacation.as_bytes());

    let dry =
        program.run(&["run", "collect-bounces", "--dry-run", "--json", "--as-of", LATER]).expect(0).json();
    assert_eq!((rows(pool).await.len(), suppressed(pool).await.len(), folder(&program, "new")), (0, 0, 9));
    let report = collect(&program);
    for name in
        ["n_hard", "n_soft", "n_delayed", "n_complaint", "n_auto_reply", "n_other", "n_not_ours", "n_settled"]
    {
        assert_eq!(n(&dry, name), n(&report, name), "{name}");
    }
    assert_eq!((n(&report, "n_hard"), n(&report, "n_soft"), n(&report, "n_delayed")), (4, 2, 1), "{report}");
    assert_eq!(
        (n(&report, "n_complaint"), n(&report, "n_auto_reply"), n(&report, "n_settled")),
        (1, 1, 1),
        "{report}"
    );
    let found = rows(pool).await;
    let kinds: Vec<(&str, BounceKind)> =
        found.iter().map(|(order, kind, ..)| (order.as_str(), *kind)).collect();
    use BounceKind::{AutoReply, Complaint, Delayed, Hard, Soft};
    let expected = [
        ("away", AutoReply),
        ("byid", Hard),
        ("complaint", Complaint),
        ("delayed", Delayed),
        ("hard", Hard),
        ("lower", Hard),
        ("soft", Soft),
        ("upper", Hard),
        ("vanish", Soft),
    ];
    assert_eq!(kinds, expected);
    for (order, _, _, reason) in &found {
        // Neither the address nor the name of the customer is kept.
        assert!(
            !reason.contains('@') && !reason.contains("Claire") && !reason.contains("Duval"),
            "{order}: {reason}"
        );
    }
    let expected = [
        ("byid", "bounced"),
        ("complaint", "complained"),
        ("hard", "bounced"),
        ("lower", "bounced"),
        ("upper", "bounced"),
    ];
    assert_eq!(suppressed(pool).await, expected.map(|(name, reason)| (name.to_owned(), reason.to_owned())));
    assert_eq!(
        state(pool, "vanish").await,
        (InvitationState::Sent, Some(at(NOW))),
        "it counts as sent when it was tried"
    );
    assert_eq!((folder(&program, "new"), folder(&program, "done")), (0, 9), "nothing is deleted");

    // The same messages again, from another place and with other line ends: known.
    for entry in fs::read_dir(program.path("data/inbox/bounces/done")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap().replace("\r\n", "\n");
        put(&format!("again-{}", path.file_name().unwrap().to_string_lossy()), text.as_bytes());
    }
    let again = collect(&program);
    assert_eq!((n(&again, "n_known"), n(&again, "n_hard"), rows(pool).await.len()), (9, 0, 9), "{again}");

    let story = program.run(&["explain", "order", "hard", "--json"]).expect(0).json();
    assert_eq!(story[0]["invitations"][0]["bounces"][0]["kind"], "hard", "{story}");
    let told = program.run(&["explain", "order", "hard"]).expect(0).stdout;
    assert!(told.contains("the address does not take mail 5.1.1"), "{told}");
    // Whoever is on the list is not mailed about another order.
    let listed = program.run(&["suppress", "list", "--json"]).expect(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forged_has_no_effect() {
    let relay = Relay::start();
    let program =
        mailed(&relay, &["alice@customer.example", "bob@customer.example", "old@customer.example"]).await;
    let pool = &program.db.pool;
    let (alice, bob) = (accepted(&relay, "alice@customer.example"), accepted(&relay, "bob@customer.example"));
    let old = accepted(&relay, "old@customer.example");
    let sql = r#"update invitation i set sent_at = $1 from "order" o where o.order_id = i.order_id and o.external_id = 'old'"#;
    sqlx::query(sql).bind(at(LATER) - TimeDelta::days(31)).execute(pool).await.unwrap();
    let mut n_forged = 0;
    let mut put = |content: Vec<u8>| {
        n_forged += 1;
        program.write(&format!("data/inbox/bounces/{n_forged}.eml"), content);
    };
    let plain = |to: &str, text: &str| {
        format!("From: MAILER-DAEMON@mx.customer.example\nTo: {to}\nSubject: failure notice\n\n{text}\n")
            .into_bytes()
    };
    // No proof at all: the address alone, a token that is not ours, one of another purpose, a changed one.
    put(plain("bounces@shop.example", "<alice@customer.example>:\nno such user"));
    put(plain(
        &format!("bounces+{}@shop.example", "0".repeat(40)),
        "<alice@customer.example>:\nno such user",
    ));
    let changed = alice.from.replace("+0", "+1");
    put(Dsn { to: &changed, original: b"Message-ID: <x@shop.example>\r\n\r\n", ..Dsn::about(&alice) }
        .message());
    let message_id = alice.header("Message-ID").unwrap();
    let foreign = message_id.replace("@maison.example", "@elsewhere.example");
    assert_ne!(foreign, message_id);
    let original = format!("Message-ID: {foreign}\r\n\r\n");
    put(Dsn { to: "avis@maison.example", original: original.as_bytes(), ..Dsn::about(&alice) }.message());
    // Bob knows the token of his own mail, and says that it is about Alice; or about nobody's mailbox.
    put(Dsn { recipient: "alice@customer.example", ..Dsn::about(&bob) }.message());
    put(Dsn { recipient: "carol@customer.example", ..Dsn::about(&bob) }.message());
    // Who knows only a Message-ID and names nobody: Bob's answer to everybody could quote it.
    put(plain(
        "avis@maison.example",
        &format!("no such user\n\n--- This is a copy of the message.\nMessage-ID: {message_id}"),
    ));
    // Too late.
    put(Dsn::about(&old).message());
    // Files that were just written might be growing, in a folder that is no Maildir.
    let written = SystemTime::now() - Duration::from_secs(60);
    for n in 1..=n_forged {
        let file = fs::File::options()
            .append(true)
            .open(program.path(&format!("data/inbox/bounces/{n}.eml")))
            .unwrap();
        file.set_modified(written).unwrap();
    }
    let report = collect(&program);
    assert_eq!((n(&report, "n_read"), n(&report, "n_not_ours")), (8, 8), "{report}");
    let why = &report["details"]["not_ours"];
    assert_eq!(
        (why["no_proof"].as_u64(), why["no_such_mail"].as_u64(), why["other_recipient"].as_u64()),
        (Some(3), Some(2), Some(3)),
        "{report}"
    );
    assert_eq!((rows(pool).await.len(), suppressed(pool).await.len()), (0, 0));
    assert_eq!(folder(&program, "done"), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_message_stops_nobody_and_is_kept_aside() {
    let relay = Relay::start();
    let program = mailed(&relay, &["alice@customer.example"]).await;
    let alice = accepted(&relay, "alice@customer.example");
    let put = |name: &str, content: &[u8]| program.write(&format!("data/inbox/bounces/new/{name}"), content);
    put("1-empty", b"");
    put("2-noise", &[0, 159, 146, 150].repeat(1_000));
    put("3-nested", &[b"Subject: x\n", &b"Content-Type: message/rfc822\n\n".repeat(34_000)[..]].concat());
    // 60 MB: the beginning decides.
    let large = [Dsn::about(&alice).message(), b"x".repeat(60 << 20)].concat();
    put("4-large", &large);
    let report = collect(&program);
    assert_eq!(
        (n(&report, "n_hard"), n(&report, "n_aside"), n(&report, "n_not_ours")),
        (1, 1, 1),
        "{report}"
    );
    assert_eq!((folder(&program, "aside"), folder(&program, "done")), (2, 2));
    assert_eq!(collect(&program)["text"], "no message was waiting");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_not_there_is_no_failure() {
    let relay = Relay::start();
    let program = mailed(&relay, &[]).await;
    assert_eq!(collect(&program)["text"], "no message was waiting");
    program.configure(&configured(&relay).replace("maildir = \"./data", "mbox = \"./data"));
    fs::remove_dir(program.path("data/inbox/bounces")).unwrap();
    assert_eq!(collect(&program)["text"], "no message was waiting");
    program.configure(&configured(&relay).replace("maildir = \"./data", "mbox = \"x\"\nmaildir = \"./data"));
    let ran = program.run(&["run", "collect-bounces"]).expect(2);
    assert!(ran.stderr.contains("exclude each other"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_came_before_the_sender_died_settles_the_mail_afterwards() {
    let relay = Relay::start();
    let program = mailed(&relay, &["alice@customer.example"]).await;
    let pool = &program.db.pool;
    // As it stands while the relay has the mail and the sender has not heard so yet.
    let sql = "update invitation set state = 'in_data', sent_at = null, claimed_by = 'somebody', lease_until = now()";
    sqlx::query(sql).execute(pool).await.unwrap();
    sqlx::query("delete from attempt").execute(pool).await.unwrap();
    let alice = accepted(&relay, "alice@customer.example");
    program.write("data/inbox/bounces/new/1", Dsn { status: "5.2.2", ..Dsn::about(&alice) }.message());
    assert_eq!(n(&collect(&program), "n_settled"), 0);
    assert_eq!(
        state(pool, "alice").await.0,
        InvitationState::InData,
        "it is the sender's as long as it may live"
    );
    program.run(&["run", "send-invitations", "--as-of", LATER]).expect(3);
    assert_eq!(state(pool, "alice").await.0, InvitationState::Unknown);
    assert_eq!(n(&collect(&program), "n_settled"), 1);
    assert_eq!(state(pool, "alice").await.0, InvitationState::Sent);
}

/// Appends a message to an mbox, as a mail system does.
fn append(mbox: &Path, message: &[u8]) {
    use std::io::Write as _;
    let mut file = fs::File::options().create(true).append(true).open(mbox).unwrap();
    file.write_all(b"From MAILER-DAEMON Thu Mar 12 11:00:00 2026\n").unwrap();
    file.write_all(message).unwrap();
    file.write_all(if message.ends_with(b"\n") { b"\n" } else { b"\n\n" }).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_mbox_is_taken_when_nobody_writes_to_it() {
    let relay = Relay::start();
    let program =
        mailed(&relay, &["alice@customer.example", "bob@customer.example", "carol@customer.example"]).await;
    program.configure(
        &configured(&relay).replace("maildir = \"./data/inbox/bounces\"", "mbox = \"./mail/bounces\""),
    );
    let mbox = program.write("mail/bounces", b"");
    let report_about =
        |name: &str| Dsn::about(&accepted(&relay, &format!("{name}@customer.example"))).message();
    append(&mbox, &report_about("alice"));
    append(&mbox, b"\x00\x01 this is no message");
    append(&mbox, &report_about("bob"));

    let lock = program.write("mail/bounces.lock", b"");
    let waiting = collect(&program);
    assert!(waiting["text"].as_str().unwrap().contains("waits for the next run"), "{waiting}");
    fs::remove_file(lock).unwrap();
    let file = fs::File::open(&mbox).unwrap();
    file.lock().unwrap();
    assert_eq!(n(&collect(&program), "n_read"), 0, "somebody else holds it");
    drop(file);

    let report = collect(&program);
    assert_eq!((n(&report, "n_read"), n(&report, "n_hard"), n(&report, "n_aside")), (3, 2, 1), "{report}");
    assert_eq!(fs::metadata(&mbox).unwrap().len(), 0, "it is there, and empty");
    assert!(!program.path("mail/bounces.lock").exists());
    let count = |name: &str| fs::read_dir(program.path(name)).map_or(0, |entries| entries.count());
    assert_eq!((count("mail/done"), count("mail/aside")), (1, 1));

    // A run died after it had copied the mailbox and before it had emptied it; meanwhile, more came.
    append(&mbox, &report_about("alice"));
    fs::copy(&mbox, program.path("mail/bounces.taken")).unwrap();
    append(&mbox, &report_about("carol"));
    let report = collect(&program);
    assert_eq!((n(&report, "n_read"), n(&report, "n_hard"), n(&report, "n_known")), (3, 1, 2), "{report}");
    assert_eq!((count("mail/done"), rows(&program.db.pool).await.len()), (3, 3));
    assert!(!program.path("mail/bounces.taken").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn whenever_it_is_killed_every_message_counts_once() {
    const N: usize = 300;
    let relay = Relay::start();
    let emails: Vec<String> = (0..N).map(|n| format!("c{n}@customer.example")).collect();
    let program = mailed(&relay, &emails.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for mail in relay.accepted() {
        let name = mail.to.split('@').next().unwrap().to_owned();
        program.write(&format!("data/inbox/bounces/new/{name}"), Dsn::about(&mail).message());
    }
    let args = ["run", "collect-bounces", "--as-of", LATER];
    let mut n_killed_working = 0;
    for n in 0..12_usize {
        let before = folder(&program, "done");
        let mut child = program.spawn(&args);
        // Not before it has begun to put messages away, then after some more, a number that differs from kill to kill.
        let wanted = before + 1 + (n * 7) % 19;
        while folder(&program, "done") < wanted && child.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        n_killed_working += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(n_killed_working > 6, "only {n_killed_working} kills found it at work");
    let last = collect(&program);
    assert_eq!(n(&last, "n_not_ours"), 0, "{last}");
    let pool = &program.db.pool;
    assert_eq!((rows(pool).await.len(), suppressed(pool).await.len()), (N, N));
    // A kill between two steps of a move leaves an empty file under the name that was to be taken.
    let done = fs::read_dir(program.path("data/inbox/bounces/done")).unwrap();
    let whole = done.filter(|entry| entry.as_ref().unwrap().metadata().unwrap().len() > 0).count();
    assert_eq!((folder(&program, "new"), whole), (0, N));
}
