//! [5] Moderation: what is public, what a person is shown, and what the authors are told, once.

use std::collections::BTreeSet;
use std::sync::Arc;

use afterword::config::{Config, Moderation};
use afterword::context::Context;
use afterword::jobs::{Run, RunOutcome, RunReport};
use afterword::progress::Progress;
use afterword::testimonials::export::{self, Destination, EXPORT_FORMATS, Export, export_testimonials};
use afterword::testimonials::moderation::{self, Outcome, Ruling};
use afterword::testimonials::public::{COLUMNS, Visibility, visibility};
use afterword::testimonials::rejection::RejectionState;
use afterword::testimonials::unattended::{self, Waits, WaitsFor};
use afterword::testimonials::{RejectReason, TestimonialState};
use afterword::types::{ResponseId, ShopId};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{AssertSqlSafe, PgPool};
use tokio_util::sync::CancellationToken;

use crate::support::TestDb;
use crate::support::factories::{self, Order, Response, at};
use crate::support::program::Program;
use crate::support::scripted::{Behaviour, Scripted, Step};
use crate::support::smtp::Relay;
use crate::testimonials::{maison, rules, store};

const NOW: &str = "2026-03-12T10:00:00Z";

/// A column that nobody has marked can be neither published nor forgotten.
#[tokio::test]
async fn every_column_says_whether_it_is_public() {
    let db = TestDb::new().await;
    let tables: Vec<String> = COLUMNS.iter().map(|(table, _)| (*table).to_owned()).collect();
    let of_schema: Vec<(String, String)> = sqlx::query_as(
        "select table_name::text, column_name::text from information_schema.columns
         where table_schema = 'public' and table_name = any($1)",
    )
    .bind(&tables)
    .fetch_all(&db.pool)
    .await
    .unwrap();
    let of_schema: BTreeSet<_> = of_schema.into_iter().collect();
    let marked: BTreeSet<_> = COLUMNS
        .iter()
        .flat_map(|(table, columns)| {
            columns.iter().map(|(column, _)| ((*table).to_owned(), (*column).to_owned()))
        })
        .collect();
    let unmarked: Vec<_> = of_schema.difference(&marked).collect();
    assert!(unmarked.is_empty(), "say in testimonials/public.rs where these may go: {unmarked:?}");
    let gone: Vec<_> = marked.difference(&of_schema).collect();
    assert!(gone.is_empty(), "testimonials/public.rs marks what is not there: {gone:?}");
}

/// Postgres says which columns the export's query reads.
#[tokio::test]
async fn nothing_private_is_read_on_the_way_out() {
    let db = TestDb::new().await;
    let query = include_str!("../../src/testimonials/candidate.sql")
        .replace("$1", "1")
        .replace("$2", "null")
        .replace("$3", "null")
        .replace("$4", "false")
        .replace("$5", "null")
        .replace("$6", "false")
        .replace("$7", "null")
        .replace("$8", "now()")
        .replace("$9", "null");
    sqlx::raw_sql(AssertSqlSafe(format!("create view way_out as {query}"))).execute(&db.pool).await.unwrap();
    let read: Vec<(String, String)> = sqlx::query_as(
        "select table_name::text, column_name::text from information_schema.view_column_usage where view_name = 'way_out'",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();
    assert!(read.len() > 30, "{read:?}");
    for (table, column) in &read {
        let visibility = visibility(table, column);
        assert!(
            !matches!(visibility, None | Some(Visibility::Private)),
            "{table}.{column} is {visibility:?}"
        );
    }
    // And what may leave is read, or it would be missing from every export.
    for (table, columns) in COLUMNS {
        for (column, visibility) in *columns {
            if matches!(visibility, Visibility::Public | Visibility::Part) {
                assert!(read.contains(&((*table).to_owned(), (*column).to_owned())), "{table}.{column}");
            }
        }
    }
}

/// Whatever stands in the columns that are not public: no format shows it.
#[tokio::test]
async fn what_is_not_public_is_in_no_format() {
    let setting = Setting::new("", &[]).await;
    let id = setting.answer(1).await;
    moderation::approve(setting.pool(), &[setting.id], &[id], at(NOW)).await.unwrap();
    moderation::reply(setting.pool(), &[setting.id], id, Some("Merci !"), at(NOW)).await.unwrap();
    for sql in [
        r#"update "order" set external_id = 'CANARY-order', locale = 'CANARY-locale', currency = 'CANARY-currency',
               attributes = '{"CANARY-name": "CANARY-value"}', total = 424242"#,
        "update customer set email = 'CANARY-email@x.example', email_key = 'canary-email@x.example', last_name = 'Dubois-CANARY-last',
             first_name = 'Claire CANARY-first'",
        "update response set external_id = 'CANARY-external', form_nonce = 424242",
        "insert into answer (shop_id, response_id, question, body) select shop_id, response_id, 'zz', 'CANARY-other' from response",
        "update answer set choice = 'CANARY-topic' where question = 'topic'",
    ] {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(setting.pool()).await.unwrap();
    }
    let shop = maison();
    let shops = [(setting.id, &shop)];
    let rules = rules();
    for format in EXPORT_FORMATS {
        let mut file = Vec::new();
        let export = Export::new(&shops, format, &rules, &[]);
        let destination = Destination::Stream(&mut file);
        let report = export_testimonials(setting.pool(), export, destination, at(NOW)).await.unwrap();
        let file = String::from_utf8_lossy(&file);
        assert_eq!(report.n_rows, 1, "{}", format.name);
        assert!(
            !file.to_lowercase().contains("canary") && !file.contains("424242"),
            "{}: {file}",
            format.name
        );
    }
}

/// A shop with its program, and what a test adds to jobs.toml.
struct Setting {
    program: Program,
    id: ShopId,
}

fn config(mail: &str, testimonials: &str) -> String {
    format!(
        r#"
[app]
base_url = "https://avis.shop.example"
[database]
[mail]
{mail}
[[shop]]
key = "maison"
name = "Maison Exemple"
locale = "fr"
timezone = "Europe/Paris"
from = "Maison Exemple <avis@maison.example>"
reply_to = "service@maison.example"
url = "https://maison.example"
[testimonials]
{testimonials}
[survey.recommend]
recommendation = {{ question = "recommend", yes = ["yes"] }}
[[survey.recommend.question]]
key = "recommend"
type = "recommend"
text = {{ en = "Would you recommend us?" }}
[jobs.moderation]
kind = "moderate_testimonials"
"#
    )
}

fn smtp(port: u16) -> String {
    format!("transport = \"smtp\"\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"", port)
}

impl Setting {
    async fn new(mail: &str, testimonials: &[&str]) -> Self {
        let mail = if mail.is_empty() { "transport = \"file\"" } else { mail };
        let program = Program::new(&config(mail, &testimonials.join("\n"))).await;
        let id = factories::shop(&program.db.pool, "maison").await;
        Self { program, id }
    }

    fn pool(&self) -> &PgPool {
        &self.program.db.pool
    }

    async fn answer(&self, n: i32) -> ResponseId {
        self.answer_with(n, "fr", |response| response).await
    }

    /// A customer's answer to a mail of ours, with words and consent; nobody has decided on it.
    async fn answer_with(
        &self,
        n: i32,
        locale: &'static str,
        change: impl FnOnce(Response) -> Response,
    ) -> ResponseId {
        let pool = self.pool();
        let customer = factories::customer(pool, self.id, &format!("customer{n}@customer.example")).await;
        let order = Order { locale: Some(locale), ..Order::new(self.id, customer, &format!("A-{n}")) };
        let order = order.insert(pool).await;
        let invitation = factories::sent_invitation(pool, self.id, order, at("2026-03-08T09:00:00Z")).await;
        let response = Response { invitation: Some(invitation), locale, ..Response::new(self.id, order) };
        store(pool, change(response)).await
    }

    async fn decide(&self, id: ResponseId, ruling: Ruling) {
        let outcomes = moderation::decide(self.pool(), &[self.id], &[id], ruling, at(NOW)).await.unwrap();
        assert_eq!(outcomes, [(id, Outcome::Done)]);
    }

    async fn reject(&self, id: ResponseId, reason: RejectReason) {
        self.decide(id, Ruling::Reject(reason)).await;
    }

    async fn job(&self, now: &str) -> RunReport {
        run(&self.program.context(at(now)).await, false).await.unwrap()
    }

    /// Reason and state of what the author was told.
    async fn told(&self, id: ResponseId) -> Vec<(String, String)> {
        sqlx::query_as("select reason::text, state::text from rejection where response_id = $1 order by 1")
            .bind(id)
            .fetch_all(self.pool())
            .await
            .unwrap()
    }

    async fn state(&self, id: ResponseId) -> (String, bool) {
        sqlx::query_as("select state::text, by_rules from testimonial where response_id = $1")
            .bind(id)
            .fetch_one(self.pool())
            .await
            .unwrap()
    }

    async fn execute(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(self.pool()).await.unwrap();
    }
}

async fn run(context: &Context, dry_run: bool) -> anyhow::Result<RunReport> {
    let job = context.config.jobs.iter().find(|job| job.name == "moderation").unwrap();
    let run = Run {
        context,
        stop: CancellationToken::new(),
        dry_run,
        by_hand: true,
        job: "moderation",
        job_run: None,
        resumed_at: None,
        progress: Progress::default(),
    };
    job.job.run(&run).await
}

fn is(reason: &str, state: &str) -> (String, String) {
    (reason.to_owned(), state.to_owned())
}

#[tokio::test]
async fn the_states_of_the_code_are_those_of_the_database() {
    let db = TestDb::new().await;
    let words: Vec<String> = sqlx::query_scalar("select unnest(enum_range(null::rejection_state))::text")
        .fetch_all(&db.pool)
        .await
        .unwrap();
    let mut known = Vec::new();
    for state in RejectionState::ALL {
        let (back, word): (RejectionState, String) = sqlx::query_as("select $1::rejection_state, $1::text")
            .bind(state)
            .fetch_one(&db.pool)
            .await
            .unwrap();
        assert_eq!(back, state);
        known.push(word);
    }
    assert_eq!(known, words);
}

#[tokio::test]
async fn authors_are_told_why_once_in_their_language() {
    let relay = Relay::start();
    let setting = Setting::new(&smtp(relay.port), &[]).await;
    let french = setting.answer(1).await;
    let english = setting.answer_with(2, "en", |r| r).await;
    let by_file = setting.answer_with(3, "fr", |r| Response { invitation: None, via: "import", ..r }).await;
    setting.reject(french, RejectReason::PersonalData).await;
    setting.reject(english, RejectReason::Unlawful).await;
    setting.reject(by_file, RejectReason::Unintelligible).await;
    let report = setting.job(NOW).await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report:?}");
    assert!(report.text.contains("3 authors told"), "{}", report.text);
    let mails = relay.accepted();
    let to = |address: &str| mails.iter().find(|mail| mail.header("To").unwrap().contains(address)).unwrap();
    let mail = to("customer1@");
    let text = mail.text();
    assert!(text.contains("coordonnées") && text.contains("A-1") && text.contains("26 mars 2026"), "{text}");
    assert!(text.contains("https://avis.shop.example/s/") && text.contains("pas du tout"), "{text}");
    assert!(!text.contains("Livraison rapide"), "the words are not repeated: {text}");
    assert_eq!(mail.header("Reply-To").unwrap(), "service@maison.example");
    assert!(mail.header("List-Unsubscribe").unwrap().starts_with("<https://avis.shop.example/u/"));
    let text = to("customer2@").text();
    assert!(text.contains("unlawful or insulting"), "{text}");
    assert!(
        text.contains("write it anew until 26 March 2026") && text.contains("https://avis.shop.example/s/"),
        "{text}"
    );
    let text = to("customer3@").text();
    assert!(text.contains("répondez à ce message") && !text.contains("https://avis.shop.example"), "{text}");
    // Never twice: not by the next run, not by the same decision, not after a change of mind and back.
    setting.job(NOW).await;
    moderation::reject(setting.pool(), &[setting.id], &[french], RejectReason::PersonalData, at(NOW))
        .await
        .unwrap();
    setting.decide(french, Ruling::Approve).await;
    setting.reject(french, RejectReason::PersonalData).await;
    setting.job("2026-03-13T10:00:00Z").await;
    assert_eq!(relay.n_accepted(), 3);
    assert_eq!(setting.told(french).await, [is("personal_data", "sent")]);
    // Another reason is another thing to say.
    setting.reject(french, RejectReason::Promotional).await;
    setting.job("2026-03-13T10:00:00Z").await;
    assert_eq!(relay.n_accepted(), 4);
    let shown =
        setting.program.run(&["testimonials", "show", &french.to_string(), "--json"]).expect(0).json();
    assert_eq!(shown["told"][1]["state"], "sent", "{shown}");
    let story = setting.program.run(&["explain", "order", "A-1"]).expect(0).stdout;
    assert!(story.contains("mail about the rejection: sent"), "{story}");
}

#[tokio::test]
async fn what_is_decided_otherwise_before_the_mail_has_left_calls_it_back() {
    let relay = Relay::start();
    let setting = Setting::new(&smtp(relay.port), &[]).await;
    let ids =
        [setting.answer(1).await, setting.answer(2).await, setting.answer(3).await, setting.answer(4).await];
    for id in ids {
        setting.reject(id, RejectReason::Unlawful).await;
    }
    setting.decide(ids[0], Ruling::Approve).await;
    setting.decide(ids[1], Ruling::Withdraw).await;
    setting.reject(ids[2], RejectReason::Promotional).await;
    setting.execute(&format!("update response set counted = false where response_id = {}", ids[3])).await;
    let report = setting.job(NOW).await;
    assert!(report.text.contains("1 author told"), "{}", report.text);
    assert_eq!(setting.told(ids[0]).await, [is("unlawful", "cancelled")]);
    assert_eq!(setting.told(ids[1]).await, [is("unlawful", "cancelled")]);
    assert_eq!(setting.told(ids[2]).await, [is("promotional", "sent"), is("unlawful", "cancelled")]);
    assert_eq!(setting.told(ids[3]).await, [is("unlawful", "cancelled")]);
    // Rejected after all: then it is told.
    setting.reject(ids[0], RejectReason::Unlawful).await;
    setting.job(NOW).await;
    assert_eq!(setting.told(ids[0]).await, [is("unlawful", "sent")]);
    assert_eq!(relay.n_accepted(), 2);
}

#[tokio::test]
async fn who_may_not_be_written_to_is_not_and_the_row_says_so() {
    let relay = Relay::start();
    let setting = Setting::new(&smtp(relay.port), &[]).await;
    let suppressed = setting.answer(1).await;
    let everywhere = setting.answer(2).await;
    let erased = setting.answer(3).await;
    let other = setting.answer(4).await;
    for id in [suppressed, everywhere, erased, other] {
        setting.reject(id, RejectReason::Unlawful).await;
    }
    setting.program.run(&["suppress", "add", "Customer1@customer.example", "--shop", "maison"]).expect(0);
    setting.program.run(&["suppress", "add", "customer2@customer.example"]).expect(0);
    setting.program.run(&["erase", "customer3@customer.example", "--yes"]).expect(0);
    factories::customer(setting.pool(), setting.id, "new@customer.example").await;
    setting
        .execute(
            r#"update "order" set customer_id = (select customer_id from customer where email_key = 'new@customer.example')
               where external_id = 'A-4'"#,
        )
        .await;
    setting.job(NOW).await;
    assert_eq!(relay.n_accepted(), 0);
    for (id, state) in
        [(suppressed, "unmailable"), (everywhere, "unmailable"), (erased, "cancelled"), (other, "unmailable")]
    {
        assert_eq!(setting.told(id).await, [is("unlawful", state)]);
    }
    let stories = setting.program.run(&["explain", "order", "A-1"]).expect(0).stdout;
    assert!(stories.contains("not sent (the customer may not be written to)"), "{stories}");
}

/// Who does not exist is not written to again, and where mail comes back to says which customer it is about, also long after the invitation.
#[tokio::test]
async fn an_address_that_is_gone_is_not_written_to_again() {
    let refusing = Scripted::start("", |step, _| match step {
        Step::Rcpt => Behaviour::Say("550 5.1.1 no such user\r\n"),
        _ => Behaviour::Accept,
    });
    let setting = Setting::new(&smtp(refusing.port), &[]).await;
    let id = setting.answer(1).await;
    setting.reject(id, RejectReason::Unlawful).await;
    let report = setting.job(NOW).await;
    assert_eq!(report.outcome, RunOutcome::Partial, "{report:?}");
    assert_eq!(setting.told(id).await, [is("unlawful", "failed")]);
    assert_eq!(bounced(&setting).await, ["customer1@customer.example"]);

    let relay = Relay::start();
    let mail = smtp(relay.port) + "\nreturn_path = \"bounces@maison.example\"";
    let lines =
        ["[jobs.bounces]", "kind = \"collect_bounces\"", "[jobs.bounces.params]", "maildir = \"./returned\""];
    let setting = Setting::new(&mail, &lines).await;
    let id = setting.answer(2).await;
    setting
        .execute(
            "update invitation set sent_at = '2026-01-02T09:00:00Z', decided_at = '2026-01-02T08:00:00Z'",
        )
        .await;
    setting.reject(id, RejectReason::Unlawful).await;
    setting.job(NOW).await;
    assert_eq!(setting.told(id).await, [is("unlawful", "sent")]);
    // It comes back to the address of the envelope that it was sent with.
    let from = relay.accepted()[0].from.clone();
    assert!(from.starts_with("bounces+") && from.ends_with("@maison.example"), "{from}");
    std::fs::create_dir_all(setting.program.path("returned")).unwrap();
    let report = format!(
        "Return-Path: <>\r\nFrom: MAILER-DAEMON@mx.customer.example\r\nTo: {from}\r\nSubject: Undelivered Mail\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\nSorry.\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.customer.example\r\n\r\n\
         Final-Recipient: rfc822; customer2@customer.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--b--\r\n"
    );
    setting.program.write("returned/1", report);
    let aged = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    let file = std::fs::File::options().write(true).open(setting.program.path("returned/1")).unwrap();
    file.set_modified(aged).unwrap();
    let ran = setting.program.run(&["run", "bounces", "--json", "--as-of", "2026-03-13T10:00:00Z"]).expect(0);
    assert_eq!(ran.json()["details"]["n_hard"], 1, "{}", ran.stdout);
    assert_eq!(bounced(&setting).await, ["customer2@customer.example"]);
}

/// Who is on the shop's list because mail to them came back.
async fn bounced(setting: &Setting) -> Vec<String> {
    sqlx::query_scalar(
        "select c.email_key from suppression s
         join customer c on s.address_hash = sha256(convert_to(c.email_key, 'UTF8')) where s.reason = 'bounced'",
    )
    .fetch_all(setting.pool())
    .await
    .unwrap()
}

/// The row is committed before the final dot; what the relay does not answer is unknown, is shown, and is not sent again.
#[tokio::test]
async fn what_nobody_can_know_is_not_sent_again() {
    let relay = Relay::dropping(&[1], || {});
    let setting = Setting::new(&smtp(relay.port), &[]).await;
    let id = setting.answer(1).await;
    setting.reject(id, RejectReason::Unlawful).await;
    let report = setting.job(NOW).await;
    assert_eq!(report.outcome, RunOutcome::Partial, "{report:?}");
    assert_eq!(setting.told(id).await, [is("unlawful", "unknown")]);
    for now in ["2026-03-13T10:00:00Z", "2026-03-20T10:00:00Z"] {
        setting.job(now).await;
    }
    assert_eq!(relay.n_accepted(), 1);
    let shown = setting.program.run(&["testimonials", "show", &id.to_string()]).expect(0).stdout;
    assert!(shown.contains("may have arrived; it is not sent again"), "{shown}");
    let outbox = setting.program.run(&["outbox"]).expect(0).stderr;
    assert!(
        outbox.contains("why their words are not published") && outbox.contains(&format!("show {id}")),
        "{outbox}"
    );
    // So does what was in the hands of a process that is gone.
    let other = setting.answer(2).await;
    setting.reject(other, RejectReason::Unlawful).await;
    setting
        .execute(&format!(
            "update rejection set state = 'in_data', claimed_by = 'gone', lease_until = clock_timestamp() - interval '1 minute'
             where response_id = {other}"
        ))
        .await;
    setting.job("2026-03-20T10:00:00Z").await;
    assert_eq!(setting.told(other).await, [is("unlawful", "unknown")]);
}

/// A mail that waited when the backup was made may have left since.
#[tokio::test]
async fn what_waited_in_a_restored_database_is_not_sent_again() {
    let relay = Relay::start();
    let setting = Setting::new(&smtp(relay.port), &[]).await;
    let id = setting.answer(1).await;
    setting.reject(id, RejectReason::Unlawful).await;
    let adopted = setting.program.run(&["--as-of", NOW, "adopt", "--restored"]).expect(0);
    assert!(
        adopted.stderr.contains("words were rejected, that waited when the backup was made: 1."),
        "{adopted:?}"
    );
    assert_eq!(setting.told(id).await, [is("unlawful", "unknown")]);
    setting.job("2026-03-20T10:00:00Z").await;
    assert_eq!(relay.n_accepted(), 0);
}

#[tokio::test]
async fn a_committed_row_stands_before_the_final_dot() {
    let (seen, watched) = std::sync::mpsc::channel();
    let pool: Arc<std::sync::OnceLock<String>> = Arc::default();
    let url = Arc::clone(&pool);
    let relay = Relay::watched(move || {
        // Another connection sees what is committed, and nothing else.
        let url = url.get().unwrap().clone();
        let state = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let pool = PgPool::connect(&url).await.unwrap();
                sqlx::query_scalar::<_, String>("select state::text from rejection")
                    .fetch_one(&pool)
                    .await
                    .unwrap()
            })
        });
        seen.send(state.join().unwrap()).unwrap();
    });
    let setting = Setting::new(&smtp(relay.port), &[]).await;
    pool.set(setting.program.db.url.clone()).unwrap();
    let id = setting.answer(1).await;
    setting.reject(id, RejectReason::Unlawful).await;
    setting.job(NOW).await;
    assert_eq!(watched.try_iter().collect::<Vec<_>>(), ["in_data"]);
    assert_eq!(setting.told(id).await, [is("unlawful", "sent")]);
}

#[tokio::test]
async fn two_runs_at_once_tell_each_author_once() {
    let relay = Relay::start();
    let setting = Setting::new(&smtp(relay.port), &[]).await;
    for n in 0..12 {
        let id = setting.answer(n).await;
        setting.reject(id, RejectReason::Unlawful).await;
    }
    let context = setting.program.context(at(NOW)).await;
    let (one, other) = tokio::join!(run(&context, false), run(&context, false));
    one.unwrap();
    other.unwrap();
    assert_eq!(relay.n_accepted(), 12);
}

#[tokio::test]
async fn a_copy_of_a_database_tells_nobody() {
    let relay = Relay::start();
    let setting = Setting::new(&smtp(relay.port), &[]).await;
    let first = setting.answer(1).await;
    setting.reject(first, RejectReason::Unlawful).await;
    setting.job(NOW).await;
    std::fs::remove_dir_all(setting.program.path("data")).ok();
    let second = setting.answer(2).await;
    setting.reject(second, RejectReason::Unlawful).await;
    run(&setting.program.context(at(NOW)).await, false).await.unwrap_err();
    assert_eq!(relay.n_accepted(), 1);
    assert_eq!(setting.told(second).await, [is("unlawful", "queued")]);
}

#[tokio::test]
async fn what_no_rule_flags_is_approved_by_itself_where_that_is_configured() {
    let all = Setting::new("", &[]).await;
    let waits = all.answer(1).await;
    all.job(NOW).await;
    assert_eq!(all.state(waits).await, ("pending".to_owned(), false));

    let setting = Setting::new("", &["moderation = \"flagged\"", "staff = [\"Zoé\"]"]).await;
    let with = async |n, comment: &str| {
        let comment = Some(comment.to_owned());
        setting.answer_with(n, "fr", |r| Response { comment, ..r }).await
    };
    let plain = with(1, "Livraison rapide, produit soigné.").await;
    let flagged = [
        with(2, "Appelez-moi au 06 12 34 56 78").await,
        with(3, "Merci zoe").await,
        with(4, "Comme la commande A-1").await,
        with(5, "Quelle arnaque").await,
        setting.answer_with(6, "pt", |r| r).await,
    ];
    let cancelled = with(7, "Très bien").await;
    setting.execute(r#"update "order" set status = 'cancelled' where external_id = 'A-7'"#).await;
    let dry = run(&setting.program.context(at(NOW)).await, true).await.unwrap();
    assert!(dry.text.contains("would approve 1 testimonial"), "{}", dry.text);
    assert_eq!(setting.state(plain).await.0, "pending");
    let report = setting.job(NOW).await;
    assert!(report.text.contains("1 testimonial approved, 5 for a person"), "{}", report.text);
    assert_eq!(setting.state(plain).await, ("approved".to_owned(), true));
    for id in flagged.into_iter().chain([cancelled]) {
        assert_eq!(setting.state(id).await, ("pending".to_owned(), false));
    }
    let list = setting.program.run(&["testimonials", "list", "--flagged", "--json"]).expect(0).json();
    let rules: Vec<_> =
        list.as_array().unwrap().iter().map(|entry| entry["flags"][0]["rule"].clone()).collect();
    assert_eq!(rules, ["contact", "name", "other_order", "contradiction", "language"]);
    let table = setting.program.run(&["testimonials", "list"]).expect(0).stdout;
    assert!(table.contains("approved by rules") && table.contains("contact data"), "{table}");
    // A moderator can still refuse it; the words were never touched.
    setting.reject(plain, RejectReason::Unlawful).await;
    assert_eq!(setting.state(plain).await, ("rejected".to_owned(), false));
}

/// A name that the author typed is printed as typed, so a person reads it first where a rule sees something in it; a name that is not
/// printed is nobody's business.
#[tokio::test]
async fn a_flagged_name_waits_for_a_person_where_it_is_printed() {
    let setting = Setting::new("", &["moderation = \"flagged\"", "display_name = \"as_given\""]).await;
    let with = async |n, name, rule: &str| {
        let id = setting.answer_with(n, "fr", |r| Response { display_name: Some(name), ..r }).await;
        setting
            .execute(&format!("update response set display_name_rule = '{rule}' where response_id = {id}"))
            .await;
        id
    };
    let plain = with(1, "la Parisienne", "as_given").await;
    let flagged = [
        with(2, "0612345678", "as_given").await,
        with(3, " spam.example", "as_given").await,
        with(4, "gros connard", "as_given").await,
    ];
    let not_printed = with(5, "0612345678", "first_name_initial").await;
    setting.job(NOW).await;
    for id in [plain, not_printed] {
        assert_eq!(setting.state(id).await, ("approved".to_owned(), true));
    }
    for id in flagged {
        assert_eq!(setting.state(id).await, ("pending".to_owned(), false));
    }
    let list = setting.program.run(&["testimonials", "list", "--flagged", "--json"]).expect(0).json();
    let flags: Vec<_> = list.as_array().unwrap().iter().map(|entry| entry["flags"].clone()).collect();
    let flag = |rule, start, end| serde_json::json!([{ "rule": rule, "part": "display_name", "start": start, "end": end }]);
    assert_eq!(flags, [flag("contact", 0, 10), flag("link", 0, 12), flag("profanity", 5, 12)]);
    let table = setting.program.run(&["testimonials", "list"]).expect(0).stdout;
    assert!(table.contains("link in the name"), "{table}");
    let shown = setting.program.run(&["testimonials", "show", &flagged[1].to_string()]).expect(0).stdout;
    assert!(shown.contains("link in the name at character 0: spam.example"), "{shown}");
}

/// From the job that approves what no rule flags to the end of the time for which words are published.
#[tokio::test]
async fn unflagged_words_are_published_for_as_long_as_announced_and_then_taken_back() {
    let lines = [
        "moderation = \"flagged\"",
        "retain = \"2y\"",
        "[retention]",
        "responses = \"1y\"",
        "[jobs.tidy]",
        "kind = \"purge\"",
    ];
    let setting = Setting::new("", &lines).await;
    let with = async |n, comment: &str| {
        let comment = Some(comment.to_owned());
        setting.answer_with(n, "fr", |r| Response { comment, ..r }).await
    };
    let plain = with(1, "Livraison rapide, produit soigné.").await;
    let flagged = with(2, "Appelez-moi au 06 12 34 56 78").await;
    let run =
        |as_of: &str, args: &[&str]| setting.program.run(&[args, &["--as-of", as_of]].concat()).expect(0);
    let export = |as_of: &str, more: &[&str]| -> (Vec<(String, String)>, serde_json::Value) {
        run(as_of, &[&["export", "testimonials", "--out", "out.csv"], more].concat());
        let file = std::fs::read(setting.program.path("out.csv")).unwrap();
        let mut reader = csv::Reader::from_reader(file.as_slice());
        let at = reader.headers().unwrap().iter().position(|column| column == "change");
        let rows = reader.records().map(Result::unwrap);
        let rows = rows.map(|row| (row[0].to_owned(), at.map_or("", |at| &row[at]).to_owned())).collect();
        let manifest = std::fs::read(setting.program.path("out.manifest.json")).unwrap();
        (rows, serde_json::from_slice(&manifest).unwrap())
    };
    run(NOW, &["run", "moderation"]);
    assert_eq!(setting.state(plain).await, ("approved".to_owned(), true));
    assert_eq!(setting.state(flagged).await, ("pending".to_owned(), false));
    assert_eq!(export("2026-03-13T06:00:00Z", &[]).0, [(plain.to_string(), String::new())]);
    for (notice, says) in [
        (
            "out.notice.fr.md",
            "Durée maximale de publication d’un avis : 2 ans à compter de sa première publication",
        ),
        ("out.notice.en.md", "published: 2 years from its first publication"),
    ] {
        let text = std::fs::read_to_string(setting.program.path(notice)).unwrap();
        assert!(text.contains(says) && !text.contains("limit"), "{text}");
    }
    let words = async || -> Vec<String> {
        sqlx::query_scalar("select body from answer where body is not null order by response_id")
            .fetch_all(setting.pool())
            .await
            .unwrap()
    };
    // After a year the other words go; those that are published stay.
    run("2027-06-01T06:00:00Z", &["run", "tidy"]);
    assert_eq!(words().await, ["Livraison rapide, produit soigné.", ""]);
    assert_eq!(export("2027-06-02T06:00:00Z", &[]).0.len(), 1);
    // To the second, whether or not anything was purged; and whoever takes only what has changed is told, too.
    let (last, over) = ("2028-03-12T05:59:59Z", "2028-03-12T06:00:00Z");
    assert_eq!(export(last, &[]).0.len(), 1);
    assert_eq!(export(last, &["--since", "2028-03-01"]).0, []);
    let gone = serde_json::json!([plain.0]);
    let (rows, manifest) = export(over, &["--since", "2028-03-01"]);
    assert_eq!(rows, [(plain.to_string(), "withdrawn".to_owned())]);
    assert_eq!((&manifest["withdrawn"], &manifest["withheld"]["over"]), (&gone, &1.into()), "{manifest}");
    run("2028-03-13T06:00:00Z", &["run", "tidy"]);
    assert_eq!(words().await, ["", ""]);
    let (rows, manifest) = export("2028-03-14T06:00:00Z", &[]);
    assert_eq!((rows.len(), &manifest["withdrawn"]), (0, &gone), "{manifest}");
}

#[tokio::test]
async fn the_announced_delay_is_watched() {
    let setting = Setting::new("", &[]).await;
    let (pending, approved, exported, rejected, cancelled) = (
        setting.answer(1).await,
        setting.answer(2).await,
        setting.answer(3).await,
        setting.answer(4).await,
        setting.answer(5).await,
    );
    setting.decide(exported, Ruling::Approve).await;
    let shop = maison();
    let shops = [(setting.id, &shop)];
    let rules = rules();
    let export = Export::new(&shops, export::format("generic").unwrap(), &rules, &[]);
    let mut file = Vec::new();
    export_testimonials(setting.pool(), export, Destination::Stream(&mut file), at(NOW)).await.unwrap();
    setting.decide(approved, Ruling::Approve).await;
    setting.reject(rejected, RejectReason::Unlawful).await;
    setting.execute(r#"update "order" set status = 'cancelled' where external_id = 'A-5'"#).await;
    let overdue = async |now: DateTime<Utc>| {
        let overdue = unattended::overdue(setting.pool(), &shops, &rules, now).await.unwrap();
        overdue.into_iter().map(|overdue| (overdue.entry.id, overdue.waits_for)).collect::<Vec<_>>()
    };
    let due = at("2026-03-10T18:30:00Z") + TimeDelta::days(10);
    assert_eq!(overdue(due).await, []);
    let late = [(pending, WaitsFor::Decision), (approved, WaitsFor::Export)];
    assert_eq!(overdue(due + TimeDelta::seconds(1)).await, late);
    let counted = async |now| unattended::waits(setting.pool(), &[setting.id.0], &rules, now).await.unwrap();
    let waits = Waits { shop: setting.id, n_for_decision: 1, n_for_export: 1, n_overdue: 0 };
    assert_eq!(counted(due).await, [waits]);
    assert_eq!(counted(due + TimeDelta::seconds(1)).await, [Waits { n_overdue: 2, ..waits }]);
    assert_eq!(setting.state(cancelled).await.0, "pending");
    let as_of = ["--as-of", "2026-04-01"];
    let listed = setting.program.run(&[&as_of[..], &["testimonials", "overdue", "--json"]].concat());
    let listed = listed.expect(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    assert_eq!(listed[0]["due_at"], "2026-03-20T18:30:00Z");
}

#[tokio::test]
async fn replies_are_kept_with_their_time_and_revision_and_leave_with_the_words() {
    let setting = Setting::new("", &[]).await;
    let id = setting.answer(1).await;
    setting.decide(id, Ruling::Approve).await;
    let reply = async |text: Option<&str>, now: &str| {
        moderation::reply(setting.pool(), &[setting.id], id, text, at(now)).await.unwrap()
    };
    let shop = maison();
    let exported = async |since: Option<&str>| {
        let shops = [(setting.id, &shop)];
        let format = export::format("generic").unwrap();
        let rules = rules();
        let export = Export { since: since.map(at), ..Export::new(&shops, format, &rules, &[]) };
        let mut file = Vec::new();
        export_testimonials(setting.pool(), export, Destination::Stream(&mut file), at(NOW)).await.unwrap();
        let mut reader = csv::Reader::from_reader(file.as_slice());
        reader.records().map(|record| record.unwrap()[14].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(exported(None).await, [""]);
    assert_eq!(reply(Some("=Merci,\n\"Claire\" !"), "2026-03-13T10:00:00Z").await, Outcome::Done);
    assert_eq!(reply(Some("=Merci,\n\"Claire\" !"), "2026-03-14T10:00:00Z").await, Outcome::Already);
    assert_eq!(exported(None).await, ["=Merci,\n\"Claire\" !"]);
    // A changed reply is a change for whoever asks since when.
    assert_eq!(exported(Some("2026-03-13T10:00:00Z")).await.len(), 1);
    assert_eq!(exported(Some("2026-03-13T10:00:01Z")).await.len(), 0);
    assert_eq!(reply(Some("Merci !"), "2026-03-15T10:00:00Z").await, Outcome::Done);
    assert_eq!(exported(None).await, ["Merci !"]);
    assert_eq!(reply(None, "2026-03-16T10:00:00Z").await, Outcome::Done);
    assert_eq!(exported(None).await, [""]);
    let kept: Vec<(i32, Option<String>)> =
        sqlx::query_as("select revision, body from reply order by revision")
            .fetch_all(setting.pool())
            .await
            .unwrap();
    let expected = [(1, Some("=Merci,\n\"Claire\" !")), (2, Some("Merci !")), (3, None)];
    assert_eq!(kept, expected.map(|(revision, body)| (revision, body.map(str::to_owned))));
    moderation::reply(setting.pool(), &[setting.id], id, Some(" "), at(NOW)).await.unwrap_err();
    let unknown = ResponseId(999_999);
    let outcome =
        moderation::reply(setting.pool(), &[setting.id], unknown, Some("x"), at(NOW)).await.unwrap();
    assert_eq!(outcome, Outcome::Unknown);
    // By hand, and gone with the person.
    setting.program.run(&["testimonials", "reply", &id.to_string(), "À bientôt"]).expect(0);
    assert_eq!(exported(None).await, ["À bientôt"]);
    setting.program.run(&["erase", "customer1@customer.example", "--yes"]).expect(0);
    let n: i64 = sqlx::query_scalar("select count(*) from reply").fetch_one(setting.pool()).await.unwrap();
    assert_eq!(n, 0);
}

#[tokio::test]
async fn a_file_of_decisions_is_followed_row_by_row() {
    let setting = Setting::new("", &[]).await;
    let mut ids = Vec::new();
    for n in 1..=5 {
        ids.push(setting.answer(n).await);
    }
    setting.decide(ids[4], Ruling::Withdraw).await;
    let [a, b, c, d, e] = ids[..] else { unreachable!() };
    // As a French spreadsheet writes it: a byte-order mark, semicolons, a line break in a field.
    let file = format!(
        "\u{feff}id;decision;reason;reply\r\n{a};approve;;\"Merci,\r\net à bientôt !\"\r\n{b};Reject;personal_data;\r\n\
         {c};reject;low_score;\r\n{d};withdraw;;\r\n{e};approve;;\r\nx;approve;;\r\n999999;approve;;\r\n{a};reject;unlawful;\r\n"
    );
    setting.program.write("decisions.csv", file);
    let followed = setting.program.run(&["testimonials", "decide", "decisions.csv", "--json"]).expect(3);
    let report = followed.json();
    assert_eq!(
        (&report["n_read"], &report["n_done"], &report["n_unchanged"]),
        (&8.into(), &3.into(), &0.into())
    );
    let problems: Vec<(i64, String)> = report["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| (problem["line"].as_i64().unwrap(), problem["column"].as_str().unwrap().to_owned()))
        .collect();
    let expected = [(5, "reason"), (7, "decision"), (8, "id"), (9, "id"), (10, "id")];
    assert_eq!(problems, expected.map(|(line, column)| (line, column.to_owned())), "{}", followed.stderr);
    assert!(followed.stderr.contains("line 5, column reason: "), "{}", followed.stderr);
    for (id, state) in [(a, "approved"), (b, "rejected"), (c, "pending"), (d, "withdrawn"), (e, "withdrawn")]
    {
        assert_eq!(setting.state(id).await.0, state);
    }
    let reply: String = sqlx::query_scalar("select body from reply").fetch_one(setting.pool()).await.unwrap();
    assert_eq!(reply, "Merci,\r\net à bientôt !");
    assert_eq!(setting.told(b).await, [is("personal_data", "queued")]);
    // Once more: nothing changes.
    setting.program.write("again.csv", format!("id,decision,text\n{a},approve,whatever\n"));
    let again = setting.program.run(&["testimonials", "decide", "again.csv", "--json"]).expect(0).json();
    assert_eq!((&again["n_done"], &again["n_unchanged"]), (&0.into(), &1.into()));
    // What is no such file changes nothing.
    for bad in ["decision\napprove\n", "id,decison\n1,approve\n", "id\n1\n"] {
        setting.program.write("bad.csv", bad);
        setting.program.run(&["testimonials", "decide", "bad.csv"]).expect(2);
    }
    setting.program.run(&["testimonials", "decide", "nothing.csv"]).expect(2);
}

/// Withdrawn by the shop on the author's behalf: every revision, for good, and told apart from rejected.
#[tokio::test]
async fn a_moderator_takes_words_back_for_their_author() {
    let setting = Setting::new("", &[]).await;
    let first = setting.answer_with(1, "fr", |r| Response { counted: false, ..r }).await;
    let order =
        sqlx::query_scalar(r#"select order_id from "order""#).fetch_one(setting.pool()).await.unwrap();
    let second = Response { revision: 2, ..Response::new(setting.id, order) };
    let second = store(setting.pool(), second).await;
    setting.decide(second, Ruling::Approve).await;
    setting.program.run(&["testimonials", "withdraw", &second.to_string()]).expect(0);
    for id in [first, second] {
        assert_eq!(setting.state(id).await.0, "withdrawn");
    }
    setting.program.run(&["testimonials", "approve", &second.to_string()]).expect(3);
    setting.program.run(&["testimonials", "reject", &second.to_string(), "--reason", "unlawful"]).expect(3);
    let list =
        setting.program.run(&["testimonials", "list", "--state", "withdrawn", "--json"]).expect(0).json();
    assert_eq!(list[0]["state"], serde_json::json!(TestimonialState::Withdrawn));
    assert_eq!(list[0]["reject_reason"], serde_json::Value::Null);
}

#[test]
fn the_configuration_of_moderation() {
    let parse = |testimonials: &str| {
        Config::parse(std::path::Path::new("jobs.toml"), &config("transport = \"file\"", testimonials))
    };
    let read =
        parse("moderation = \"flagged\"\nstaff = [\"Camille Roux\"]\npublish_within = \"5d\"").unwrap();
    assert_eq!(read.testimonials.moderation, Moderation::Flagged);
    assert_eq!(read.testimonials.staff, ["Camille Roux"]);
    assert_eq!(read.testimonials.publish_within, TimeDelta::days(5));
    let none = parse("").unwrap().testimonials;
    assert_eq!((none.moderation, none.publish_within), (Moderation::Manual, TimeDelta::days(10)));
    for bad in ["moderation = \"none\"", "staff = [\" \"]", "publish_within = \"soon\"", "staf = []"] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}
