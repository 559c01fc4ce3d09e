//! [4] Alerts: opened once, told once, told again while they last, closed; whatever the relay, the receiver and the process do.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use afterword::config::Config;
use afterword::context::Context;
use afterword::jobs::{Run, RunReport};
use afterword::metrics::alerts::store::{self, Alert, Channel, ClosedBecause, DeliveryState, Occasion};
use afterword::metrics::alerts::{self, rule};
use afterword::metrics::rollup::{self, House};
use afterword::progress::Progress;
use afterword::types::{Clock, ShopId};
use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::support::config::smtp;
use crate::support::factories;
use crate::support::program::{Program, command, ran, shipped};
use crate::support::random;
use crate::support::smtp::{Relay, certificate};

const SECRET: &str = "a secret of sixteen or more";

/// A shop, a survey, a job, and what a test adds.
fn config(mail: &str, rest: &str) -> String {
    format!(
        r#"
[app]
base_url = "http://127.0.0.1:8080"
[database]
[mail]
{mail}
[[shop]]
key = "maison"
name = "Maison Exemple"
locale = "fr"
timezone = "Europe/Paris"
from = "avis@maison.example"
url = "https://maison.example"
[survey.recommend]
recommendation = {{ question = "recommend", yes = ["yes"] }}
[[survey.recommend.question]]
key = "recommend"
type = "recommend"
text = {{ en = "Would you recommend us?" }}
[jobs.nightly]
kind = "compute_metrics"
{rest}
"#
    )
}

const BELOW: &str = "[[alert]]\nmetric = \"recommendation_rate\"\nbelow = 0.80\n";

/// A shop and its nights.
struct Shop {
    program: Program,
    id: ShopId,
}

impl Shop {
    async fn new(mail: &str, rest: &str) -> Self {
        let program = Program::new(&config(mail, rest)).await;
        let id = factories::shop(&program.db.pool, "maison").await;
        Self { program, id }
    }

    fn pool(&self) -> &PgPool {
        &self.program.db.pool
    }

    /// So many orders and answers on a day, of which `yes` recommend.
    async fn answers(&self, day: &str, country: &str, n: i32, yes: i32) {
        answers(self.pool(), self.id, day.parse().unwrap(), country, (n, yes)).await;
    }

    /// The same on each of so many days up to this one.
    async fn days(&self, last: &str, n_days: u64, (n, yes): (i32, i32)) {
        let last: NaiveDate = last.parse().unwrap();
        for back in 0..n_days {
            answers(self.pool(), self.id, last - Days::new(back), "FR", (n, yes)).await;
        }
    }

    async fn context(&self, night: &str, change: impl FnOnce(&mut Config)) -> Context {
        let context = self.program.context(moment(night)).await;
        let mut config = (*context.config).clone();
        // Nobody waits for minutes here.
        config.notify.patience = Duration::ZERO;
        change(&mut config);
        Context { config: Arc::new(config), ..context }
    }

    /// The job at a quarter past three of a day.
    async fn night(&self, night: &str) -> RunReport {
        run(&self.context(night, |_| {}).await).await
    }

    async fn alerts(&self, all: bool) -> Vec<Alert> {
        store::list(self.pool(), &[self.id.0], all).await.unwrap()
    }

    /// The values of the segment for which an alert is open; of none: the empty text.
    async fn open(&self) -> Vec<String> {
        let mut open: Vec<_> =
            self.alerts(false).await.into_iter().map(|alert| alert.latest.segment_value).collect();
        open.sort();
        open
    }

    /// Recipient, occasion and state of every message.
    async fn messages(&self) -> Vec<(String, String, String)> {
        let sql =
            "select recipient, occasion::text, state::text from alert_delivery order by alert_delivery_id";
        sqlx::query_as(sql).fetch_all(self.pool()).await.unwrap()
    }
}

fn moment(night: &str) -> DateTime<Utc> {
    let day: NaiveDate = night.parse().unwrap();
    day.and_hms_opt(3, 15, 0).unwrap().and_utc()
}

async fn run(context: &Context) -> RunReport {
    let job = context.config.jobs.iter().find(|job| job.name == "nightly").unwrap();
    let run = Run {
        context,
        stop: CancellationToken::new(),
        dry_run: false,
        by_hand: true,
        job: "nightly",
        job_run: None,
        resumed_at: None,
        progress: Progress::default(),
    };
    job.job.run(&run).await.unwrap()
}

/// Many rows at once, as an import does.
async fn answers(pool: &PgPool, shop: ShopId, day: NaiveDate, country: &str, (n, yes): (i32, i32)) {
    let version = factories::survey_version(pool, shop, "recommend").await;
    let sql = r#"
        with made as (select $3 || '-' || $4 || '-' || n as name from generate_series(1, $5) n),
        c as (
            insert into customer (shop_id, email, email_key)
            select $1, name || '@customer.example', name || '@customer.example' from made
            returning customer_id, email
        ),
        o as (
            insert into "order" (shop_id, external_id, customer_id, ordered_at, fulfilled_at, status, items, country, attributes,
                imported_at, updated_at)
            select $1, split_part(email, '@', 1), customer_id, $2, $2, 'fulfilled', '{}', $4, '{}', $2, $2 from c
            returning order_id, external_id
        ),
        r as (
            insert into response (shop_id, order_id, survey, survey_version_id, revision, counted, via, verdict, locale, answered_at,
                received_at)
            select $1, order_id, 'recommend', $7, 1, true, 'page', 'human', 'fr', $2, $2 from o
            returning response_id, order_id
        )
        insert into answer (shop_id, response_id, question, choice)
        select $1, response_id, 'recommend', case when split_part(external_id, '-', -1)::int <= $6 then 'yes' else 'no' end
        from r join o using (order_id)"#;
    sqlx::query(sql)
        .bind(shop)
        .bind(day.and_hms_opt(12, 0, 0).unwrap().and_utc())
        .bind(day.format("%Y%m%d").to_string())
        .bind(country)
        .bind(n)
        .bind(yes)
        .bind(version)
        .execute(pool)
        .await
        .unwrap();
}

/// A receiver of webhooks that keeps what it is sent and answers as it is told to.
struct Hook {
    port: u16,
    status: Arc<AtomicU16>,
    requests: Arc<Mutex<Vec<Request>>>,
}

#[derive(Debug, Clone)]
struct Request {
    headers: BTreeMap<String, String>,
    body: String,
}

impl Hook {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (status, requests) = (Arc::new(AtomicU16::new(204)), Arc::new(Mutex::new(Vec::new())));
        let (answer, kept) = (Arc::clone(&status), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut input = BufReader::new(stream);
                let mut headers = BTreeMap::new();
                let mut line = String::new();
                input.read_line(&mut line).unwrap();
                assert!(line.starts_with("POST /alerts HTTP/1.1"), "{line}");
                loop {
                    let mut line = String::new();
                    input.read_line(&mut line).unwrap();
                    let Some((name, value)) = line.trim_end().split_once(": ") else { break };
                    headers.insert(name.to_ascii_lowercase(), value.to_owned());
                }
                let mut body = vec![0; headers["content-length"].parse().unwrap()];
                input.read_exact(&mut body).unwrap();
                // Before the request can be seen: a test changes it when it has seen one.
                let status = answer.load(Ordering::Relaxed);
                kept.lock().unwrap().push(Request { headers, body: String::from_utf8(body).unwrap() });
                let answer = format!(
                    "HTTP/1.1 {status} x\r\nLocation: http://127.0.0.1:{port}/elsewhere\r\nContent-Length: 0\r\n\
                     Connection: close\r\n\r\n"
                );
                let _ = input.get_mut().write_all(answer.as_bytes());
            }
        });
        Self { port, status, requests }
    }

    fn config(&self) -> String {
        format!("webhook = \"http://127.0.0.1:{}/alerts\"\nwebhook_secret = \"{SECRET}\"\n", self.port)
    }

    fn answers(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    /// What was sent, each with a signature that fits.
    fn bodies(&self) -> Vec<Value> {
        let requests = self.requests.lock().unwrap().clone();
        requests
            .iter()
            .map(|request| {
                let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
                mac.update(request.headers["x-afterword-timestamp"].as_bytes());
                mac.update(b".");
                mac.update(request.body.as_bytes());
                let code: String =
                    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(request.headers["x-afterword-signature"], format!("sha256={code}"));
                assert_eq!(request.headers["content-type"], "application/json");
                serde_json::from_str(&request.body).unwrap()
            })
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_is_told_once_reminded_of_and_closed() {
    let (relay, hook) = (Relay::start(), Hook::start());
    let notify = format!("{BELOW}[notify]\nto = [\"team@maison.example\"]\n{}", hook.config());
    let shop = Shop::new(&smtp(relay.port), &notify).await;
    // 70 % of 280.
    shop.days("2026-03-01", 28, (10, 7)).await;

    let report = shop.night("2026-03-02").await;
    assert!(report.text.ends_with("; 1 alert open, 1 new; messages: 2 sent"), "{}", report.text);
    // The same night once more, and the next one: nothing new.
    let later = Clock::Fixed(moment("2026-03-02") + TimeDelta::hours(1));
    run(&Context { clock: later, ..shop.context("2026-03-02", |_| {}).await }).await;
    for night in ["2026-03-03", "2026-03-08"] {
        let report = shop.night(night).await;
        assert!(report.text.ends_with("; 1 alert open"), "{}", report.text);
    }
    let report = shop.night("2026-03-09").await;
    assert!(report.text.ends_with("; 1 alert open, 1 reminded of; messages: 2 sent"), "{}", report.text);
    shop.night("2026-03-10").await;
    assert_eq!(relay.n_accepted(), 2);
    // 100 % of many.
    shop.days("2026-03-12", 3, (100, 100)).await;
    let report = shop.night("2026-03-13").await;
    assert!(report.text.ends_with("; 0 alerts open, 1 closed; messages: 2 sent"), "{}", report.text);
    shop.night("2026-03-20").await;

    let mails = relay.accepted();
    let subjects: Vec<_> = mails
        .iter()
        .map(|mail| {
            let message = mail_parser::MessageParser::default().parse(&mail.message).unwrap();
            message.subject().unwrap().to_owned()
        })
        .collect();
    assert_eq!(
        subjects,
        [
            "Maison Exemple : Taux de recommandation sous 80 %",
            "Maison Exemple : toujours : Taux de recommandation sous 80 %",
            "Maison Exemple : terminé : Taux de recommandation sous 80 %",
        ]
    );
    assert!(mails.iter().all(|mail| mail.to == "team@maison.example" && mail.from == "avis@maison.example"));
    assert_eq!(mails[0].header("Auto-Submitted").as_deref(), Some("auto-generated"));
    insta::assert_snapshot!("mail_opened", mails[0].text().replace('\r', ""));
    insta::assert_snapshot!("mail_closed", mails[2].text().replace('\r', ""));

    let bodies = hook.bodies();
    let occasions: Vec<_> = bodies.iter().map(|body| body["occasion"].as_str().unwrap()).collect();
    assert_eq!(occasions, ["opened", "reminder", "closed"]);
    let first = &bodies[0];
    assert_eq!(
        (&first["shop"], &first["rule"], &first["metric"], &first["kind"]),
        (
            &"maison".into(),
            &"recommendation-rate-below".into(),
            &"recommendation_rate".into(),
            &"limit".into()
        )
    );
    assert_eq!((&first["numerator"], &first["denominator"]), (&196.into(), &280.into()));
    assert_eq!(first["value"], 0.7);
    assert!(
        first["text"]
            .as_str()
            .unwrap()
            .starts_with("Recommendation rate: 70.0 % in the 28 days up to 1 March 2026")
    );
    assert!(bodies.iter().all(|body| body["alert"] == first["alert"]));
    assert!(hook.requests.lock().unwrap().iter().all(|request| !request.body.contains('@')));

    let all = shop.alerts(true).await;
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].closed_because, Some(ClosedBecause::Back));
    assert_eq!(all[0].opened_at, moment("2026-03-02"));
}

#[tokio::test(flavor = "multi_thread")]
async fn between_open_and_closed_nothing_changes() {
    let shop = Shop::new("transport = \"file\"", BELOW).await;
    // 77 of 100: below, and the interval reaches above.
    shop.answers("2026-03-01", "FR", 100, 77).await;
    shop.night("2026-03-02").await;
    assert!(shop.open().await.is_empty());
    // 97 of 140, from 61.2 to 76.3 %.
    shop.answers("2026-03-02", "FR", 40, 20).await;
    shop.night("2026-03-03").await;
    assert_eq!(shop.open().await, [""]);
    // 187 of 240, 77.9 %: not back.
    shop.answers("2026-03-03", "FR", 100, 90).await;
    shop.night("2026-03-04").await;
    assert_eq!(shop.open().await, [""]);
    let latest = serde_json::to_value(&shop.alerts(false).await[0].latest).unwrap();
    assert_eq!(latest["denominator"], 240);
    // 192 of 240 is 80 %.
    shop.answers("2026-03-04", "FR", 50, 45).await;
    shop.night("2026-03-05").await;
    assert!(shop.open().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn few_answers_say_nothing() {
    let shop = Shop::new("transport = \"file\"", &format!("{BELOW}min_answers = 30\n")).await;
    shop.answers("2026-03-01", "FR", 29, 0).await;
    // Today does not count before it is over.
    shop.answers("2026-03-02", "FR", 1, 0).await;
    shop.night("2026-03-02").await;
    assert!(shop.open().await.is_empty());
    shop.night("2026-03-03").await;
    assert_eq!(shop.open().await, [""]);
    // It stays open while nothing says that it is over.
    shop.night("2026-06-01").await;
    assert_eq!(shop.open().await, [""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_countries_those_that_are_no_chance() {
    let shop = Shop::new("transport = \"file\"", &format!("{BELOW}by = \"country\"\n")).await;
    let countries = [
        "AT", "BE", "CH", "DE", "DK", "ES", "FI", "GB", "GR", "IE", "IT", "LU", "NL", "NO", "PL", "PT", "SE",
    ];
    for country in countries {
        shop.answers("2026-03-01", country, 50, 45).await;
    }
    // By itself 33 of 50 would open an alert.
    shop.answers("2026-03-01", "FR", 50, 33).await;
    shop.answers("2026-03-01", "CZ", 50, 20).await;
    shop.answers("2026-03-01", "SK", 20, 0).await;
    shop.night("2026-03-02").await;
    assert_eq!(shop.open().await, ["CZ"]);
    let alert = &shop.alerts(false).await[0];
    assert_eq!(alert.rule, "recommendation-rate-below-by-country");
    assert_eq!(alert.latest.segment.as_deref(), Some("country"));
    // One that is back leaves the others open.
    shop.answers("2026-03-02", "SK", 20, 0).await;
    shop.answers("2026-03-02", "CZ", 200, 200).await;
    shop.night("2026-03-03").await;
    assert_eq!(shop.open().await, ["SK"]);
}

/// Customers do not add up from days: the window's are counted.
#[tokio::test(flavor = "multi_thread")]
async fn customers_who_do_not_come_back_are_told_of_all_together_and_by_country() {
    let below = |by: &str| format!("[[alert]]\nmetric = \"repeat_customer_ratio\"\nbelow = 0.20\n{by}");
    let rules = format!("{}{}", below(""), below("by = \"country\"\n"));
    let shop = Shop::new("transport = \"file\"", &rules).await;
    shop.answers("2026-03-01", "FR", 100, 100).await;
    shop.night("2026-03-02").await;
    let open = || async {
        let mut open = shop.open().await;
        open.sort();
        open
    };
    assert_eq!(open().await, ["", "FR"]);
    let all_come_back = r#"
        insert into "order" (shop_id, external_id, customer_id, ordered_at, status, items, country, attributes, imported_at, updated_at)
        select shop_id, external_id || '-2', customer_id, '2026-03-02 12:00+00', 'fulfilled', '{}', country, '{}', now(), now()
        from "order""#;
    sqlx::raw_sql(all_come_back).execute(shop.pool()).await.unwrap();
    shop.night("2026-03-03").await;
    assert!(open().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_is_gone_closes_what_it_opened_and_tells_nobody() {
    let relay = Relay::start();
    let notify = format!("{BELOW}[notify]\nto = [\"team@maison.example\"]\n");
    let shop = Shop::new(&smtp(relay.port), &notify).await;
    shop.answers("2026-03-01", "FR", 100, 20).await;
    shop.night("2026-03-02").await;
    let context = shop.context("2026-03-03", |config| config.alerts.clear()).await;
    run(&context).await;
    let all = shop.alerts(true).await;
    assert_eq!(all[0].closed_because, Some(ClosedBecause::RuleGone));
    assert_eq!(relay.n_accepted(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dies_before_delivering_delivers_the_next_time() {
    let (relay, hook) = (Relay::start(), Hook::start());
    let notify = format!("{BELOW}[notify]\nto = [\"team@maison.example\"]\n{}", hook.config());
    let shop = Shop::new(&smtp(relay.port), &notify).await;
    shop.answers("2026-03-01", "FR", 100, 20).await;
    let context = shop.context("2026-03-02", |_| {}).await;
    let (id, of) = context.shops.iter().next().unwrap();
    let house = House { shop: id, config: of, surveys: &context.config.surveys };
    let frozen =
        rollup::freeze(&context.pool, house, context.clock.now(), &CancellationToken::new()).await.unwrap();
    let Config { alerts: rules, notify, .. } = &*context.config;
    // By two at once: one alert, one message to each.
    let (one, other) = tokio::join!(
        alerts::look(&context.pool, house, rules, notify, frozen.frozen_at),
        alerts::look(&context.pool, house, rules, notify, frozen.frozen_at),
    );
    assert_eq!(one.unwrap().n_opened + other.unwrap().n_opened, 1);
    assert_eq!((relay.n_accepted(), hook.bodies().len()), (0, 0));
    shop.program.run(&["--as-of", "2026-03-03T03:15:00Z", "run", "nightly"]).expect(0);
    assert_eq!((relay.n_accepted(), hook.bodies().len()), (1, 1));
    let states: Vec<_> = shop.messages().await.into_iter().map(|(.., state)| state).collect();
    assert_eq!(states, ["sent", "sent"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_killed_at_the_final_dot_does_not_send_again() {
    // The dot has come, and the answer takes for ever.
    let relay = Relay::watched(|| std::thread::sleep(Duration::from_secs(60)));
    let notify = format!("{BELOW}[notify]\nto = [\"team@maison.example\"]\n");
    let shop = Shop::new(&smtp(relay.port), &notify).await;
    shop.answers("2026-03-01", "FR", 100, 20).await;
    let mut child = shop.program.spawn(&["--as-of", "2026-03-02T03:15:00Z", "run", "nightly"]);
    let begun = Instant::now();
    while shop.messages().await.first().is_none_or(|(.., state)| state != "in_data") {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not send");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let connections = relay.n_connections();
    for night in ["2026-03-03", "2026-03-04"] {
        shop.night(night).await;
        assert_eq!(shop.messages().await[0].2, "unknown");
    }
    assert_eq!(relay.n_connections(), connections, "nobody spoke with the relay again");
    assert_eq!(shop.alerts(false).await[0].n_unknown, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_recipient_stands_for_itself() {
    let relay = Relay::start();
    let to =
        ["vanish", "nobody", "later", "refused", "team"].map(|name| format!("\"{name}@maison.example\""));
    let notify = format!("{BELOW}[notify]\nto = [{}]\n", to.join(", "));
    let shop = Shop::new(&smtp(relay.port), &notify).await;
    shop.answers("2026-03-01", "FR", 100, 20).await;
    let report = shop.night("2026-03-02").await;
    let told = "; messages: 1 sent, 2 failed, 1 unknown, 1 waiting; the relay was at fault: final";
    assert!(report.text.contains(told), "{}", report.text);
    let states = |messages: Vec<(String, String, String)>| -> Vec<String> {
        messages.into_iter().map(|(.., state)| state).collect()
    };
    assert_eq!(states(shop.messages().await), ["unknown", "failed", "queued", "failed", "sent"]);
    // Tried again every night; given up after three days.
    shop.night("2026-03-03").await;
    assert_eq!(states(shop.messages().await), ["unknown", "failed", "queued", "failed", "sent"]);
    shop.night("2026-03-06").await;
    assert_eq!(states(shop.messages().await), ["unknown", "failed", "failed", "failed", "sent"]);
    let mut to: Vec<_> = relay.accepted().into_iter().map(|mail| mail.to).collect();
    to.sort();
    assert_eq!(to, ["team@maison.example", "vanish@maison.example"]);
    let fault: String =
        sqlx::query_scalar("select fault from alert_delivery where recipient like 'nobody@%'")
            .fetch_one(shop.pool())
            .await
            .unwrap();
    assert!(fault.starts_with("rcpt: ") && !fault.contains("customer.example"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_does_not_take_it_is_asked_again() {
    let hook = Hook::start();
    let shop = Shop::new("transport = \"file\"", &format!("{BELOW}[notify]\n{}", hook.config())).await;
    shop.answers("2026-03-01", "FR", 100, 20).await;
    for (night, status, state) in [
        ("2026-03-02", 500, "queued"),
        // What leads elsewhere is not followed.
        ("2026-03-03", 302, "queued"),
        ("2026-03-04", 204, "sent"),
    ] {
        hook.answers(status);
        shop.night(night).await;
        assert_eq!(shop.messages().await[0].2, state, "after {status}");
    }
    shop.night("2026-03-05").await;
    let bodies = hook.bodies();
    assert_eq!(bodies.len(), 3);
    assert!(bodies.iter().all(|body| body["id"] == bodies[0]["id"]), "the same message in every try");
    // With patience the same run tries again.
    hook.answers(503);
    shop.answers("2026-03-05", "FR", 900, 900).await;
    let context = shop.context("2026-03-06", |config| config.notify.patience = Duration::from_secs(30)).await;
    let (run, ()) = tokio::join!(run(&context), async {
        while hook.bodies().len() < 4 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        hook.answers(200);
    });
    assert!(run.text.ends_with("; messages: 1 sent"), "{}", run.text);
    assert_eq!(hook.bodies().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_not_there_or_does_not_answer_waits() {
    // Taken by nobody: the port of a listener that is gone; and one that listens and says nothing.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for port in [gone, silent.local_addr().unwrap().port()] {
        let notify = format!(
            "{BELOW}[notify]\nwebhook = \"http://127.0.0.1:{port}/x\"\nwebhook_secret = \"{SECRET}\"\n"
        );
        let shop = Shop::new("transport = \"file\"", &notify).await;
        shop.answers("2026-03-01", "FR", 100, 20).await;
        let context = shop
            .context("2026-03-02", |config| {
                config.notify.webhook.as_mut().unwrap().timeout = Duration::from_millis(300);
            })
            .await;
        let report = run(&context).await;
        assert!(report.text.ends_with("; messages: 1 waiting"), "{}", report.text);
        // After three days nobody is told any more.
        shop.night("2026-03-06").await;
        assert_eq!(shop.messages().await[0].2, "failed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_is_trusted_by_its_certificate() {
    let (tls, pem) = certificate();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let received = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&received);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = rustls::ServerConnection::new(Arc::clone(&tls)).unwrap();
            let mut input = BufReader::new(rustls::StreamOwned::new(connection, stream));
            let mut line = String::new();
            // Whoever does not trust us goes away before it says anything.
            if input.read_line(&mut line).is_ok() && !line.is_empty() {
                kept.lock().unwrap().push(line);
                let _ = input
                    .get_mut()
                    .write_all(b"HTTP/1.1 200 ok\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                let _ = input.get_mut().flush();
                // What is left of the request is read, so that the answer is not lost with the connection.
                let _ = input.read_to_end(&mut Vec::new());
            }
        }
    });
    let notify =
        format!("{BELOW}[notify]\nwebhook = \"https://localhost:{port}/x\"\nwebhook_secret = \"{SECRET}\"\n");
    let shop = Shop::new("transport = \"file\"", &notify).await;
    shop.answers("2026-03-01", "FR", 100, 20).await;
    let report = shop.night("2026-03-02").await;
    assert!(report.text.ends_with("; messages: 1 waiting"), "{}", report.text);
    let fault: String =
        sqlx::query_scalar("select fault from alert_delivery").fetch_one(shop.pool()).await.unwrap();
    assert_eq!(fault, "the webhook's certificate is not trusted");
    assert!(received.lock().unwrap().is_empty());
    // The same, by a machine that trusts it.
    shop.program.write("trusted.pem", pem);
    let mut command = command(shop.program.dir.path());
    let args = ["--as-of", "2026-03-03T03:15:00Z", "run", "nightly"];
    ran(command.env("SSL_CERT_FILE", shop.program.path("trusted.pem")).args(args).output().unwrap())
        .expect(0);
    assert_eq!(*received.lock().unwrap(), ["POST /x HTTP/1.1\r\n"]);
    assert_eq!(shop.messages().await[0].2, "sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_down_keeps_the_mails_waiting() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let notify = format!("{BELOW}[notify]\nto = [\"team@maison.example\"]\n");
    let shop = Shop::new(&smtp(gone), &notify).await;
    shop.answers("2026-03-01", "FR", 100, 20).await;
    let report = shop.night("2026-03-02").await;
    assert!(report.text.contains("messages: 1 waiting; the relay was at fault: connect"), "{}", report.text);
    let relay = Relay::start();
    let context = shop
        .context("2026-03-03", |config| {
            let afterword::config::Transport::Smtp(smtp) = &mut config.mail.transport else { panic!() };
            smtp.port = relay.port;
        })
        .await;
    run(&context).await;
    assert_eq!(shop.messages().await[0].2, "sent");
    assert_eq!(relay.n_accepted(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_database_tells_nobody() {
    let relay = Relay::start();
    let notify = format!("{BELOW}[notify]\nto = [\"team@maison.example\"]\n");
    let shop = Shop::new(&smtp(relay.port), &notify).await;
    shop.answers("2026-03-01", "FR", 100, 20).await;
    shop.context("2026-03-02", |_| {}).await;
    sqlx::query("update installation set fingerprint = 'another'").execute(shop.pool()).await.unwrap();
    let report = shop.night("2026-03-02").await;
    assert!(report.text.contains("no mail leaves: this database is a copy"), "{}", report.text);
    assert_eq!(shop.open().await, [""]);
    assert_eq!(relay.n_accepted(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_mails_that_waited_are_unknown_and_requests_are_made() {
    let (relay, hook) = (Relay::start(), Hook::start());
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let notify = format!("{BELOW}[notify]\nto = [\"team@maison.example\"]\n{}", hook.config());
    let shop = Shop::new(&smtp(gone), &notify).await;
    shop.answers("2026-03-01", "FR", 100, 20).await;
    hook.answers(500);
    shop.night("2026-03-02").await;
    let states =
        async || shop.messages().await.into_iter().map(|(to, _, state)| (to, state)).collect::<Vec<_>>();
    let [mail, request] = [("team@maison.example", "queued"), ("", "queued")];
    let told = |(to, state): (&str, &str)| (to.to_owned(), state.to_owned());
    assert_eq!(states().await, [told(mail), told(request)]);

    // The relay works again; somebody says that the database was restored.
    shop.program.configure(&config(&smtp(relay.port), &notify));
    let adopted = shop.program.run(&["--as-of", "2026-03-03T00:00:00Z", "adopt", "--restored"]).expect(0);
    assert!(
        adopted.stderr.contains("Mails about alerts that waited when the backup was made: 1."),
        "{adopted:?}"
    );
    hook.answers(204);
    shop.night("2026-03-03").await;
    assert_eq!(states().await, [told((mail.0, "unknown")), told((request.0, "sent"))]);
    assert_eq!(relay.n_accepted(), 0);
    // The receiver knows messages by their numbers: none of those that the lost time may have given is given again.
    shop.answers("2026-03-04", "FR", 900, 900).await;
    shop.night("2026-03-05").await;
    let numbers: Vec<i64> = hook
        .bodies()
        .iter()
        .map(|body| body["id"].as_str().unwrap().split_once('-').unwrap().1.parse().unwrap())
        .collect();
    assert_eq!(numbers.len(), 3, "twice the first, once that it is over");
    assert!(numbers[0] == numbers[1] && numbers[2] > 1_000_000_000_000, "{numbers:?}");
    assert_eq!(relay.n_accepted(), 1, "what comes later is mailed");
}

// ---- Trends, shifts, scores.

#[tokio::test(flavor = "multi_thread")]
async fn a_score_of_another_site_that_falls_a_little_every_week_is_told() {
    let falling = "[[alert]]\nmetric = \"third_party_score\"\nsource = \"fianet\"\ntrend = \"falling\"\n";
    let shop = Shop::new("transport = \"file\"", falling).await;
    // From 97 % on, a twentieth of a point less each week; another site's rises.
    let sql = "insert into rating (shop_id, source, rated_on, score, scale, ratings, imported_at, updated_at)
        select $1, source, date '2026-01-07' + 7 * week, 97 + sign * 0.05 * week, 100, 900, date '2026-01-07' + 7 * week, date '2026-01-07' + 7 * week
        from generate_series(0, 24) week, (values ('fianet', -1), ('guide', 1)) of (source, sign)";
    sqlx::query(sql).bind(shop.id).execute(shop.pool()).await.unwrap();
    shop.night("2026-02-16").await;
    assert!(shop.open().await.is_empty(), "six weeks are too few");
    shop.night("2026-06-29").await;
    let alerts = shop.alerts(false).await;
    let found = serde_json::to_value(&alerts[0].latest).unwrap();
    assert_eq!((alerts.len(), alerts[0].rule.as_str()), (1, "third-party-score-fianet-falling"));
    assert!((found["per_week"].as_f64().unwrap() + 0.0005).abs() < 1e-9, "{found}");
    assert!((found["value"].as_f64().unwrap() - 0.958).abs() < 1e-9, "{found}");
}

/// So many weeks that end with a Sunday, 100 answers each, as random as the seed says.
async fn history(shop: &Shop, last_sunday: &str, seed: usize, shares: &[f64]) {
    let last: NaiveDate = last_sunday.parse().unwrap();
    for (n, share) in shares.iter().rev().enumerate() {
        let draws = (0..100).filter(|k| {
            let drawn = random(seed * 1_000_003 + n * 1009 + k) % 100_000;
            (drawn as f64) < share * 100_000.0
        });
        let yes = i32::try_from(draws.count()).unwrap();
        answers(shop.pool(), shop.id, last - Days::new(7 * n as u64 + 3), "FR", (100, yes)).await;
    }
}

/// Which week's night is the first with an alert; each Monday is looked at.
async fn first_alert(shop: &Shop, first_monday: &str, n_weeks: i64) -> Option<i64> {
    let context = shop.context(first_monday, |_| {}).await;
    for week in 0..n_weeks {
        let clock = Clock::Fixed(context.clock.now() + TimeDelta::weeks(week));
        run(&Context { clock, ..context.clone() }).await;
        if !shop.open().await.is_empty() {
            return Some(week + 1);
        }
    }
    None
}

const WATCHFUL: &str = "[[alert]]\nmetric = \"recommendation_rate\"\ntrend = \"falling\"\nwindow = \"180d\"\n\
    [[alert]]\nmetric = \"recommendation_rate\"\nchange = \"shift\"\nwindow = \"52w\"\n\
    [[alert]]\nmetric = \"recommendation_rate\"\nbelow = 0.80\nwindow = \"28d\"\n\
    [[alert]]\nmetric = \"orders\"\ntrend = \"falling\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_flat_year_raises_nothing() {
    let shop = Shop::new("transport = \"file\"", WATCHFUL).await;
    history(&shop, "2026-12-27", 5, &[0.9; 104]).await;
    // 2025 is the past, and every Monday of 2026 is looked at.
    assert_eq!(first_alert(&shop, "2026-01-05", 52).await, None, "{:?}", shop.alerts(false).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_decline_is_found_in_the_stated_time() {
    let trend = &WATCHFUL[..WATCHFUL.find("[[alert]]\nmetric = \"recommendation_rate\"\nchange").unwrap()];
    let shop = Shop::new("transport = \"file\"", trend).await;
    let mut shares = vec![0.9; 52];
    shares.extend((1..=40).map(|week| 0.9 - 0.003 * f64::from(week)));
    history(&shop, "2026-10-04", 7, &shares).await;
    // The first week of the decline ends with 4 January.
    let found = first_alert(&shop, "2026-01-05", 40).await.unwrap();
    assert!((5..=28).contains(&found), "found after {found} weeks");
    let alert = &shop.alerts(false).await[0];
    let found = serde_json::to_value(&alert.latest).unwrap();
    assert_eq!(alert.rule, "recommendation-rate-falling");
    let per_week = found["per_week"].as_f64().unwrap();
    assert!((-0.006..-0.001).contains(&per_week), "{found}");
    assert!(found["ci_low"].as_f64().unwrap() <= per_week && per_week <= found["ci_high"].as_f64().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_stop_are_a_shift() {
    let shift = "[[alert]]\nmetric = \"orders\"\nchange = \"shift\"\nwindow = \"52w\"\n";
    let shop = Shop::new("transport = \"file\"", shift).await;
    history(&shop, "2026-01-04", 11, &[0.9; 40]).await;
    shop.night("2026-01-05").await;
    assert!(shop.open().await.is_empty());
    // A week in which nothing comes.
    shop.night("2026-01-12").await;
    let found = serde_json::to_value(&shop.alerts(false).await[0].latest).unwrap();
    assert_eq!(
        (&found["value"], &found["signal"], &found["side"]),
        (&0.0.into(), &"beyond".into(), &"below".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_score_of_another_site_has_to_last_two_days() {
    let score = "[[alert]]\nmetric = \"third_party_score\"\nsource = \"Fianet\"\nbelow = 0.95\n";
    let shop = Shop::new("transport = \"file\"", score).await;
    let rated = |day: &'static str, score: i64| {
        let sql =
            "insert into rating (shop_id, source, rated_on, score, scale, ratings, imported_at, updated_at)
                   values ($1, 'fianet', $2::date, $3, 100, 900, $2::date, $2::date)";
        let day: NaiveDate = day.parse().unwrap();
        sqlx::query(sql).bind(shop.id).bind(day).bind(score).execute(shop.pool())
    };
    for (day, score, night, open) in [
        ("2026-03-01", 96, "2026-03-02", false),
        ("2026-03-02", 94, "2026-03-03", false),
        ("2026-03-03", 94, "2026-03-04", true),
        ("2026-03-04", 95, "2026-03-05", false),
    ] {
        rated(day, score).await.unwrap();
        shop.night(night).await;
        assert_eq!(!shop.open().await.is_empty(), open, "{score} on {day}");
    }
    // Long ago is not now.
    shop.night("2026-06-01").await;
    assert!(shop.open().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_rate_is_looked_at_when_it_is_ripe() {
    let shop =
        Shop::new("transport = \"file\"", "[[alert]]\nmetric = \"response_rate\"\nbelow = 0.10\n").await;
    for n in 0..50 {
        let customer = factories::customer(shop.pool(), shop.id, &format!("{n}@customer.example")).await;
        let order = factories::Order::new(shop.id, customer, &n.to_string()).insert(shop.pool()).await;
        factories::sent_invitation(shop.pool(), shop.id, order, moment("2026-03-10")).await;
    }
    let said = "closes when response_rate itself is back at 10 %. Mails of the last two weeks are left out";
    let checked = shop.program.run(&["check"]).expect(0);
    assert!(checked.stdout.contains(said), "{}", checked.stdout);
    // Who was mailed lately may still answer.
    for (night, open) in [("2026-03-12", false), ("2026-03-24", false), ("2026-03-25", true)] {
        shop.night(night).await;
        assert_eq!(!shop.open().await.is_empty(), open, "{night}");
    }
}

// ---- What people type and read.

#[tokio::test(flavor = "multi_thread")]
async fn commands_show_what_is_open() {
    let shop = Shop::new("transport = \"file\"", BELOW).await;
    shop.answers("2026-03-01", "FR", 100, 20).await;
    let program = &shop.program;
    let report = ["--as-of", "2026-03-05", "report", "--fail-on-alert"];
    program.run(&report).expect(0);
    assert!(program.run(&["alerts"]).expect(0).stderr.contains("No alert is open."));
    let ran = program.run(&["--as-of", "2026-03-02T03:15:00Z", "run", "nightly"]).expect(0);
    assert!(
        ran.stdout.contains("1 alert open, 1 new") || ran.stderr.contains("1 alert open, 1 new"),
        "{ran:?}"
    );
    let failed = program.run(&report).expect(1);
    assert!(failed.stdout.contains("Recommendation rate"), "the report is printed all the same");
    let said = "alert: maison, recommendation-rate-below, since 2026-03-02: Recommendation rate: 20.0 % in the 28 days up to 1 March 2026";
    assert!(failed.stderr.contains(said), "{}", failed.stderr);
    let page = ["--as-of", "2026-03-05", "report", "--html", "page.html", "--fail-on-alert"];
    let failed = program.run(&page).expect(1);
    assert!(failed.stderr.contains(said) && failed.stdout.is_empty(), "{failed:?}");
    assert!(program.path("page.html").exists());
    let refused = program.run(&[&page[..], &["--by", "month"]].concat()).expect(2);
    assert!(refused.stderr.contains("--by is about the figures that are printed"), "{refused:?}");
    program.run(&[&page[..], &["--by", "month", "--json"]].concat()).expect(1).json();
    let listed = program.run(&["alerts"]).expect(0).stdout;
    assert!(listed.contains("recommendation-rate-below") && listed.contains("2026-03-02"), "{listed}");
    let json = program.run(&["--json", "alerts", "--all"]).expect(0).json();
    assert_eq!(json[0]["opening"]["denominator"], 100);
    assert_eq!(json[0]["closed_at"], Value::Null);
    program.run(&["alerts", "--shop", "nosuch"]).expect(2);

    let checked = program.run(&["check"]).expect(0);
    let words = "alert          recommendation-rate-below opens when the whole 95 % interval of recommendation_rate over the last 28 days is \
                 below 80 %, with 30 or more that count; closes when recommendation_rate itself is back at 80 %";
    assert!(checked.stdout.contains(words), "{}", checked.stdout);
    assert!(
        checked.stderr.contains("no job of the kind compute_metrics with a schedule"),
        "{}",
        checked.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_lists_what_was_open_at_its_moment() {
    let shop = Shop::new("transport = \"file\"", BELOW).await;
    let check = |as_of: &str, expected: Option<&str>| {
        let page = ["--as-of", as_of, "report", "--html", "report.html", "--locale", "en"];
        shop.program.run(&page).expect(0);
        let page = std::fs::read_to_string(shop.program.path("report.html")).unwrap();
        let page = page.replace(['\u{a0}', '\u{202f}'], " ");
        let told: Vec<_> = page.split("Recommendation rate: ").skip(1).collect();
        let told =
            told.iter().filter_map(|rest| rest.split_once(" in the 28 days up to")).map(|(value, _)| value);
        assert_eq!(told.collect::<Vec<_>>(), Vec::from_iter(expected), "as of {as_of}");
    };
    shop.answers("2026-03-01", "FR", 100, 20).await;
    shop.night("2026-03-02").await;
    shop.answers("2026-03-04", "FR", 100, 30).await;
    shop.night("2026-03-05").await;
    check("2026-03-01T12:00:00Z", None);
    check("2026-03-03", Some("20.0 %"));
    check("2026-03-06", Some("25.0 %"));
    shop.answers("2026-03-07", "FR", 1000, 1000).await;
    shop.night("2026-03-08").await;
    assert!(shop.open().await.is_empty());
    check("2026-03-01T12:00:00Z", None);
    check("2026-03-03", Some("20.0 %"));
    // That it was 25 % is not kept.
    check("2026-03-06", Some("20.0 %"));
    check("2026-03-08T12:00:00Z", None);
}

#[test]
fn mistakes_are_shown_where_they_are() {
    for (lines, problem) in [
        ("[[alert]]\nmetric = \"npz\"\nbelow = 1", "there is no metric \"npz\""),
        ("[[alert]]\nmetric = \"csat\"", "an alert has one of"),
        ("[[alert]]\nmetric = \"csat\"\nbelow = 0.5\nabove = 0.6", "an alert has one of"),
        ("[[alert]]\nmetric = \"csat\"\nbelow = 80", "80 is no csat"),
        ("[[alert]]\nmetric = \"orders\"\nbelow = 80", "orders has no limit"),
        ("[[alert]]\nmetric = \"orders\"\ntrend = \"falling\"\nmin_answers = 3", "does not rest on answers"),
        ("[[alert]]\nmetric = \"third_party_score\"\nbelow = 0.9", "nothing says whose score"),
        ("[[alert]]\nmetric = \"nps\"\nsource = \"x\"\nbelow = 0", "nps has no source"),
        (
            "[[alert]]\nmetric = \"third_party_score\"\nsource = \"x\"\nchange = \"shift\"",
            "third_party_score has no shift",
        ),
        ("[[alert]]\nmetric = \"nps\"\nbelow = 0\nby = \"planet\"", "expected country, locale"),
        (
            "[[alert]]\nmetric = \"nps\"\ntrend = \"rising\"\nby = \"country\"",
            "only a metric of the shop's own",
        ),
        ("[[alert]]\nmetric = \"nps\"\ntrend = \"rising\"\nwindow = \"4w\"", "cannot be the window"),
        ("[[alert]]\nmetric = \"nps\"\nbelow = 0\nwindow = \"36h\"", "cannot be the window"),
        ("[[alert]]\nmetric = \"nps\"\nbelow = 0\nshops = [\"nosuch\"]", "there is no shop \"nosuch\""),
        (
            "[[alert]]\nmetric = \"nps\"\nbelow = 0\n[[alert]]\nmetric = \"nps\"\nbelow = 10",
            "two alerts with the name \"nps-below\"",
        ),
        ("[notify]\nto = [\"team\"]", "expected an address"),
        ("[notify]\nwebhook = \"https://hooks.example/\"", "a webhook needs a secret"),
        ("[notify]\nwebhook_secret = \"0123456789abcdef\"", "a secret needs the `webhook`"),
        ("[notify]\nwebhook = \"https://hooks.example/\"\nwebhook_secret = \"short\"", "fewer than 16"),
        (
            "[notify]\nwebhook = \"http://hooks.example/\"\nwebhook_secret = \"0123456789abcdef\"",
            "expected an https address",
        ),
    ] {
        let text = config("transport = \"file\"", lines);
        let error = Config::parse(std::path::Path::new("jobs.toml"), &text).unwrap_err();
        let said = error.lines();
        assert!(said.iter().any(|said| said.contains(problem)), "{lines}\n{said:?}");
        // At a line of ours, and not at the beginning of the file.
        let first = text.lines().position(|line| line == lines.lines().next().unwrap()).unwrap() + 1;
        for said in said {
            let line: usize = said.split(':').nth(1).unwrap().parse().unwrap();
            assert!(line > first, "{said}");
        }
    }
}

#[test]
fn the_shipped_alerts_are_what_they_say() {
    let config = Config::parse(std::path::Path::new("jobs.toml"), &shipped()).unwrap();
    let names: Vec<_> = config.alerts.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["recommendation-rate-below", "recommendation-rate-falling"]);
    assert_eq!(config.targets("maison"), [("recommendation_rate".to_owned(), 0.8)]);
    assert_eq!(config.alerts[1].condition, rule::Condition::Falling);
    assert_eq!(config.notify.remind_after, Some(TimeDelta::days(7)));
}

#[tokio::test(flavor = "multi_thread")]
async fn enums_and_their_twins_agree() {
    let shop = Shop::new("transport = \"file\"", "").await;
    macro_rules! same {
        ($($name:literal: $twin:ty),*) => {$(
            let theirs: Vec<$twin> =
                sqlx::query_scalar(concat!("select unnest(enum_range(null::", $name, "))")).fetch_all(shop.pool()).await.unwrap();
            assert_eq!(theirs, <$twin>::ALL);
        )*};
    }
    same!(
        "alert_occasion": Occasion,
        "alert_channel": Channel,
        "alert_delivery_state": DeliveryState,
        "alert_closed": ClosedBecause
    );
    for occasion in Occasion::ALL {
        assert_eq!(serde_json::to_value(occasion).unwrap(), occasion.as_str());
    }
}
