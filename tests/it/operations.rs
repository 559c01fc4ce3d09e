//! Being told how it goes: the digest, the heartbeat, the figures for machines, the logs of a day.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener as Listener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use afterword::context::Context;
use afterword::digest::{self, Finding, JobRuns, Since};
use afterword::jobs::ledger::{self, JobRunState, Occurrence};
use afterword::jobs::runner::run_occurrence;
use afterword::scheduler::planner::Skip;
use afterword::token::Purpose;
use afterword::types::{InvitationId, ShopId};
use afterword::web;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::factories::{self, Order, at};
use crate::support::http::{get, post};
use crate::support::program::{Program, Serving, command, ran, shipped_with};
use crate::support::scripted::{Behaviour, Scripted, Step};

pub const TOKEN: &str = "a-token-of-thirty-two-characters-and-more";

/// A dead man's switch that counts who calls, and answers as it is told to.
struct Switch {
    port: u16,
    status: Arc<AtomicU16>,
    n_calls: Arc<AtomicUsize>,
}

impl Switch {
    fn start() -> Self {
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (status, n_calls) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicUsize::new(0)));
        let (answer, count) = (Arc::clone(&status), Arc::clone(&n_calls));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let first = lines.next().unwrap().unwrap();
                assert_eq!(first, "GET /ping/canary-key HTTP/1.1");
                while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
                count.fetch_add(1, Ordering::SeqCst);
                let status = answer.load(Ordering::SeqCst);
                write!(stream, "HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    .unwrap();
            }
        });
        Self { port, status, n_calls }
    }
}

/// The shipped configuration, with people to tell, a switch and a private listener.
fn jobs_toml(relay: u16, switch: u16) -> String {
    let jobs = shipped_with(relay)
        .replace(
            "# heartbeat_url = \"https://watch.maison.example/ping/…\"",
            &format!("heartbeat_url = \"http://127.0.0.1:{switch}/ping/canary-key\""),
        )
        .replace("# to = [\"team@maison.example\"]  ", "to = [\"canary.team@maison.example\"]  ");
    assert!(jobs.contains("canary.team") && jobs.contains("canary-key"));
    watched(&jobs)
        + &format!("\n[[access]]\nname = \"care\"\ntoken = \"another-{TOKEN}\"\nallow = [\"report\"]\n")
}

/// With somebody who may read the figures.
pub fn watched(jobs: &str) -> String {
    jobs.to_owned() + &format!("\n[[access]]\nname = \"watch\"\ntoken = \"{TOKEN}\"\nallow = [\"metrics\"]\n")
}

/// One occurrence of a job as the schedule would run it.
async fn run(context: &Context, job: &str, moment: DateTime<Utc>) {
    let context = Context { clock: afterword::types::Clock::Fixed(moment), ..context.clone() };
    let job = context.config.jobs.iter().find(|other| other.name == job).unwrap();
    let stop = CancellationToken::new();
    run_occurrence(&context, job, Occurrence::Scheduled(moment), false, &stop).await.unwrap();
}

fn skip(scheduled_for: DateTime<Utc>, n_occurrences: u32) -> Skip {
    let first = (n_occurrences > 1).then(|| scheduled_for - chrono::TimeDelta::minutes(n_occurrences.into()));
    Skip { scheduled_for, reason: "missed: nothing was running then".to_owned(), n_occurrences, first }
}

async fn count(pool: &PgPool, sql: &'static str) -> u64 {
    let n: i64 = sqlx::query_scalar(sql).fetch_one(pool).await.unwrap();
    u64::try_from(n).unwrap()
}

/// Pages at a moment, until the value is dropped.
async fn pages(context: &Context, moment: DateTime<Utc>) -> (String, tokio_util::sync::DropGuard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let context = Context { clock: afterword::types::Clock::Fixed(moment), ..context.clone() };
    let stop = CancellationToken::new();
    tokio::spawn(web::serve(listener, context, stop.clone()));
    (format!("http://{address}"), stop.drop_guard())
}

pub async fn private(context: &Context, moment: DateTime<Utc>) -> (String, tokio_util::sync::DropGuard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let context = Context { clock: afterword::types::Clock::Fixed(moment), ..context.clone() };
    let stop = CancellationToken::new();
    tokio::spawn(web::private::serve(listener, context, stop.clone()));
    (format!("http://{address}"), stop.drop_guard())
}

pub fn asked(url: &str, token: Option<&str>) -> (u16, String, String) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut request = agent.get(url);
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let mut response = request.call().unwrap();
    let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
    (response.status().as_u16(), kind.unwrap_or_default(), response.body_mut().read_to_string().unwrap())
}

/// A strict reader of the part of `OpenMetrics` that we write: samples by name and labels.
pub fn read(text: &str) -> BTreeMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").expect("the text ends with # EOF");
    let mut samples = BTreeMap::new();
    let mut families = BTreeSet::new();
    let (mut name, mut kind) = (String::new(), String::new());
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (family, of_kind) = rest.split_once(' ').unwrap();
            assert!(families.insert(family.to_owned()), "{family} is there twice");
            (name, kind) = (family.to_owned(), of_kind.to_owned());
        } else if let Some(rest) = line.strip_prefix("# UNIT ").or_else(|| line.strip_prefix("# HELP ")) {
            let (family, text) = rest.split_once(' ').unwrap();
            assert_eq!(family, name);
            assert!(!text.is_empty());
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let bare = sample.split('{').next().unwrap();
            let suffixes: &[&str] = match kind.as_str() {
                "gauge" => &[""],
                "counter" => &["_total"],
                "summary" => &["_count", "_sum"],
                "info" => &["_info"],
                other => panic!("{other}"),
            };
            assert!(suffixes.iter().any(|suffix| bare == format!("{name}{suffix}")), "{line} in {name}");
            assert!(samples.insert(sample.to_owned(), value.parse().unwrap()).is_none(), "{sample} twice");
        }
    }
    samples
}

/// A day: two files of orders with rows that cannot be taken, mails of which one is refused and one's fate is unknown, an answer and a
/// program's, a report of a mail that came back, a job that fails, one that is skipped, one that is paused and one that is overdue.
/// What a digest as JSON has found, and about which job or shop.
pub fn findings(digest: &Value) -> BTreeSet<String> {
    let of = |finding: &Value| {
        let about = [&finding["job"], &finding["shop"]].into_iter().find_map(Value::as_str).unwrap();
        format!("{} {about}", finding["finding"].as_str().unwrap())
    };
    digest["findings"].as_array().unwrap().iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_digest_and_the_metrics_say_what_happened() {
    let switch = Switch::start();
    let relay = Scripted::start("", |step, seen| match step {
        Step::Rcpt if seen.to.starts_with("canary.gone") => Behaviour::Say("550 5.1.1 no such user\r\n"),
        Step::Dot if seen.to.starts_with("canary.lost") => Behaviour::Close,
        _ => Behaviour::Accept,
    });
    let program = Program::new(&jobs_toml(relay.port, switch.port)).await;
    let context = program.context(at("2026-03-10T06:00:00Z")).await;
    let (pool, day) = (&program.db.pool, |time: &str| at(&format!("2026-03-10T{time}:00Z")));
    let header = "order_id,email,ordered_at,fulfilled_at,status,first_name,last_name\n";
    let order = |n: usize, name: &str| {
        format!(
            "A-{n},canary.{name}@customer.example,2026-03-01T10:00:00Z,2026-03-03T06:00:00Z,fulfilled,Canary{name},Canarylast\n"
        )
    };
    let orders = ["claire", "lea", "gone", "lost"].iter().enumerate().map(|(n, name)| order(n, name));
    program.write("data/inbox/orders/a.csv", header.to_owned() + &orders.collect::<String>());
    program.write(
        "data/inbox/orders/b.csv",
        format!("{header}A-9,canary.bad@customer.example,never,,fulfilled,,\n"),
    );
    for inbox in ["events", "responses", "ratings", "bounces"] {
        std::fs::create_dir_all(program.path(&format!("data/inbox/{inbox}"))).unwrap();
    }
    // Files are still growing for two seconds.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    run(&context, "import-orders", day("07:00")).await;
    run(&context, "send-invitations", day("10:00")).await;
    // A program sends the form as it finds it; Claire answers a little later.
    let invitation: i64 = sqlx::query_scalar(
        r#"select invitation_id from invitation join "order" using (shop_id, order_id) where external_id = 'A-0'"#,
    )
    .fetch_one(pool)
    .await
    .unwrap();
    let token = context.tokens.issue(Purpose::Survey, ShopId(1), InvitationId(invitation));
    let (early, _early) = pages(&context, day("12:00")).await;
    let (late, _late) = pages(&context, day("12:05")).await;
    let form = get(&format!("{early}/s/{token}"));
    let words = [("recommend", "yes"), ("comment", "canarywords of today")];
    post(&format!("{early}/s/{token}"), &form.with_hidden(&words));
    let form = get(&format!("{early}/s/{token}"));
    post(&format!("{late}/s/{token}"), &form.with_hidden(&words));
    // A file of answers that is none, an occurrence nobody was there for, a job that somebody stopped.
    std::fs::remove_dir_all(program.path("data/inbox/ratings")).unwrap();
    program.write("data/inbox/ratings", "a file where a folder should be");
    run(&context, "collect-ratings", day("13:00")).await;
    ledger::skip(pool, "collect-bounces", &skip(day("14:00"), 150)).await.unwrap();
    ledger::set_pause(pool, "import-events", "somebody looks", day("15:00")).await.unwrap();
    let metrics = context.config.jobs.iter().find(|job| job.name == "nightly-metrics").unwrap();
    let schedule = metrics.schedule.as_ref().unwrap();
    ledger::note_schedule(pool, "nightly-metrics", schedule, at("2026-03-10T01:00:00Z")).await.unwrap();

    // Words that came with a file should have been published or refused two days ago, and nobody knows whether their author was told why
    // earlier ones were not.
    for sql in [
        r#"with given as (
               insert into response (shop_id, order_id, survey, survey_version_id, revision, counted, via, verdict, locale,
                                     answered_at, received_at, consent_version)
               select shop_id, order_id, survey, survey_version_id, 1, true, 'import', 'human', 'fr', '2026-02-26', '2026-02-26', '2026-01'
               from invitation join "order" using (shop_id, order_id) where external_id = 'A-1'
               returning shop_id, response_id
           ), words as (
               insert into answer (shop_id, response_id, question, body) select shop_id, response_id, 'comment', 'canarywords' from given
           )
           insert into testimonial (shop_id, response_id, state) select shop_id, response_id, 'pending' from given"#,
        "insert into rejection (shop_id, response_id, reason, state, queued_at, next_try_at, settled_at)
         select shop_id, response_id, 'unlawful', 'unknown', '2026-03-10T08:00:00Z', '2026-03-10T08:00:00Z', '2026-03-10T09:00:00Z'
         from testimonial",
    ] {
        sqlx::query(sql).execute(pool).await.unwrap();
    }

    let until = "2026-03-10T18:00:00Z";
    let digest = program.run(&["digest", "--json", "--as-of", until]).expect(0).json();
    // The same, counted here.
    let shop = &digest["shops"]["maison"];
    for (field, sql) in [
        ("n_sent", "select count(*) from attempt where outcome = 'sent'"),
        ("n_failed", "select count(*) from attempt where outcome = 'failed'"),
        ("n_unknown", "select count(*) from attempt where outcome = 'unknown'"),
        ("n_unknown_open", "select count(*) from invitation where state = 'unknown'"),
        ("n_answers", "select count(*) from response where verdict = 'human' and via = 'page'"),
        ("n_suspects", "select count(*) from response where verdict = 'suspect'"),
        ("n_suppressed", "select count(*) from suppression"),
        ("n_overdue", "select count(*) from testimonial"),
        ("n_authors_not_told", "select count(*) from rejection"),
    ] {
        let n = count(pool, sql).await;
        assert_eq!(shop[field], n, "{field}: {digest}");
        assert!(n > 0, "{field} was to happen");
    }
    assert_eq!((shop["n_sent"].as_u64(), shop["n_failed"].as_u64()), (Some(2), Some(1)));
    assert_eq!(shop["imports"]["orders"], serde_json::json!({ "n_files": 2, "n_read": 5, "n_rejected": 1 }));
    let findings = findings(&digest);
    let expected = [
        "failed collect-ratings",
        "skipped collect-bounces",
        "partial import-orders",
        "partial send-invitations",
        "overdue nightly-metrics",
        "paused import-events",
        "unknown maison",
        "rejected maison",
        "testimonials_overdue maison",
        "authors_not_told maison",
    ];
    assert_eq!(findings, expected.iter().map(|finding| (*finding).to_owned()).collect(), "{digest}");
    assert_eq!(digest["jobs"]["collect-bounces"]["n_skipped"], 150, "each of one row's counts");
    assert_eq!(digest["is_good"], false);
    let shown = program.run(&["digest", "--as-of", until]).expect(0).stdout;
    assert!(shown.starts_with("10 things to look at\n! "), "{shown}");
    assert!(!shown.contains("canary"), "{shown}");

    // For machines.
    let (watch, _watch) = private(&context, at(until)).await;
    assert_eq!(asked(&format!("{watch}/metrics"), None).0, 401);
    assert_eq!(asked(&format!("{watch}/metrics"), Some(&format!("another-{TOKEN}"))).0, 403);
    let (status, kind, text) = asked(&format!("{watch}/metrics"), Some(TOKEN));
    assert_eq!((status, kind.as_str()), (200, "application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let samples = read(&text);
    for (sample, value) in [
        ("afterword_job_runs_total{job_name=\"collect-ratings\",state=\"failed\"}", 1.0),
        ("afterword_job_runs_total{job_name=\"collect-bounces\",state=\"skipped\"}", 150.0),
        ("afterword_job_runs_total{job_name=\"import-orders\",state=\"partial\"}", 1.0),
        ("afterword_job_runs_total{job_name=\"import-orders\",state=\"failed\"}", 0.0),
        ("afterword_job_duration_seconds_count{job_name=\"send-invitations\"}", 1.0),
        ("afterword_job_paused{job_name=\"import-events\"}", 1.0),
        ("afterword_job_paused{job_name=\"import-orders\"}", 0.0),
        // 03:15 in Paris.
        ("afterword_job_overdue_seconds{job_name=\"nightly-metrics\"}", (15.0 * 60.0 + 45.0) * 60.0),
        ("afterword_outbox_mails{shop=\"maison\",state=\"unknown\"}", 1.0),
        ("afterword_outbox_mails{shop=\"maison\",state=\"queued\"}", 0.0),
        ("afterword_mail_attempts_last_day{shop=\"maison\",outcome=\"sent\",class=\"2xx\"}", 2.0),
        ("afterword_mail_attempts_last_day{shop=\"maison\",outcome=\"failed\",class=\"5xx\"}", 1.0),
        ("afterword_mail_attempts_last_day{shop=\"maison\",outcome=\"unknown\",class=\"none\"}", 1.0),
        ("afterword_responses_last_day{shop=\"maison\",via=\"page\",verdict=\"human\"}", 1.0),
        ("afterword_import_files_last_day{shop=\"maison\",kind=\"orders\"}", 2.0),
        ("afterword_import_rows_last_day{shop=\"maison\",kind=\"orders\",outcome=\"taken\"}", 4.0),
        ("afterword_import_rows_last_day{shop=\"maison\",kind=\"orders\",outcome=\"rejected\"}", 1.0),
        ("afterword_relay_failing", 0.0),
        ("afterword_testimonials_waiting{shop=\"maison\",for=\"decision\"}", 1.0),
        ("afterword_testimonials_waiting{shop=\"maison\",for=\"export\"}", 0.0),
        ("afterword_testimonials_overdue{shop=\"maison\"}", 1.0),
        ("afterword_alerts_open{shop=\"maison\"}", 0.0),
        ("afterword_build_info{version=\"0.1.0\"}", 1.0),
        ("afterword_job_info{job_name=\"daily-digest\",kind=\"send_digest\"}", 1.0),
    ] {
        assert_eq!(samples.get(sample), Some(&value), "{sample} in\n{text}");
    }
    assert!(!text.contains("canary") && !text.contains('@') && !text.contains(&token), "{text}");

    // By mail; the heartbeat stays silent.
    run(&context, "daily-digest", at(until)).await;
    let told = |relay: &Scripted| relay.accepted().iter().filter(|to| to.starts_with("canary.team")).count();
    assert_eq!((told(&relay), switch.n_calls.load(Ordering::SeqCst)), (1, 0));

    // A day on which what was wrong is put right and nothing else happens: one line, and the heartbeat.
    ledger::resume(pool, "import-events", at("2026-03-10T19:00:00Z")).await.unwrap();
    program.run(&["testimonials", "approve", "--all-pending", "--as-of", "2026-03-10T19:00:00Z"]).expect(0);
    program.run(&["export", "testimonials", "--out", "out.csv", "--as-of", "2026-03-10T19:30:00Z"]).expect(0);
    run(&context, "nightly-metrics", at("2026-03-11T02:15:00Z")).await;
    let lost: i64 = sqlx::query_scalar("select invitation_id from invitation where state = 'unknown'")
        .fetch_one(pool)
        .await
        .unwrap();
    program
        .run(&["outbox", "resolve", &lost.to_string(), "--accept", "--as-of", "2026-03-11T05:00:00Z"])
        .expect(0);
    let next = "2026-03-11T06:30:00Z";
    let line = program.run(&["digest", "--as-of", next]).expect(0).stdout;
    assert!(line.starts_with("Everything went as it should. Runs: ") && line.lines().count() == 1, "{line}");
    run(&context, "daily-digest", at(next)).await;
    assert_eq!((told(&relay), switch.n_calls.load(Ordering::SeqCst)), (2, 1));
    let beats =
        "select count(*) from digest where is_good and is_told and heartbeat_at = '2026-03-11T06:30:00Z'";
    assert_eq!(count(pool, beats).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_says_that_the_relay_is_given_nothing() {
    let program = Program::new(&shipped_with(1)).await;
    let quiet = program.run(&["jobs"]).expect(0);
    assert_eq!(quiet.stderr, "");
    sqlx::query(
        "insert into relay (relay, n_faults, failing_since, last_fault, next_probe_at, probe_after)
         values ('127.0.0.1:1', 5, '2026-03-10T09:00Z', 'connect: refused', '2026-03-10T09:05Z', '4 minutes')",
    )
    .execute(&program.db.pool)
    .await
    .unwrap();
    let expected = "No mail leaves: the relay has been failing since 2026-03-10 09:00 UTC, last: connect: refused; \
                    next probe at 2026-03-10 09:05 UTC.\n";
    for args in [&["jobs"][..], &["jobs", "--json"]] {
        let told = program.run(args).expect(0);
        assert_eq!(told.stderr, expected);
        assert!(!told.stdout.contains("refused"), "data are as they were: {}", told.stdout);
    }
}

/// A switch that does not answer is called by the next run; people who cannot be told are told it later, and until then no day is good.
#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_that_fails_is_recorded_and_called_by_the_next_run() {
    let switch = Switch::start();
    let mut is_first = true;
    let relay = Scripted::start("", move |step, _| match step {
        Step::Rcpt if std::mem::take(&mut is_first) => Behaviour::Say("451 4.3.0 not now\r\n"),
        _ => Behaviour::Accept,
    });
    let program = Program::new(&jobs_toml(relay.port, switch.port)).await;
    let mut context = program.context(at("2026-03-10T06:00:00Z")).await;
    let mut config = (*context.config).clone();
    // Nobody waits for minutes here.
    config.notify.patience = Duration::ZERO;
    context.config = Arc::new(config);
    let pool = &program.db.pool;
    let days: [DateTime<Utc>; 4] =
        std::array::from_fn(|n| at("2026-03-10T06:30:00Z") + TimeDelta::days(i64::try_from(n).unwrap()));
    ledger::skip(pool, "collect-bounces", &skip(days[0] - TimeDelta::hours(1), 1)).await.unwrap();
    switch.status.store(503, Ordering::SeqCst);
    for day in days {
        if day == days[3] {
            switch.status.store(204, Ordering::SeqCst);
        }
        run(&context, "daily-digest", day).await;
    }
    let rows: Vec<(bool, bool, i64, Option<String>)> = sqlx::query_as(
        "select is_good, is_told, jsonb_array_length(contents -> 'findings')::bigint, heartbeat_fault from digest order by until_at",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let fault = Some("the heartbeat answered 503".to_owned());
    // Nobody got the first, whose skipped occurrence the second tells; that the first was lost is told by it, too.
    assert_eq!(rows[0], (true, false, 1, None), "{rows:?}");
    assert_eq!((rows[1].0, rows[1].1), (false, true), "{rows:?}");
    assert_eq!(rows[1].2, 3, "skipped, lost, and that the run told only a part: {rows:?}");
    assert_eq!(rows[2].3, fault, "{rows:?}");
    assert_eq!(rows[3].3, None);
    assert_eq!(switch.n_calls.load(Ordering::SeqCst), 2);
    let beat: Option<DateTime<Utc>> =
        sqlx::query_scalar("select max(heartbeat_at) from digest").fetch_one(pool).await.unwrap();
    assert_eq!(beat, Some(days[3]));
}

/// A run that was interrupted, told so, and begun again is told as it ended; a digest that is begun anew after its mail has left is told.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_begun_anew_is_told_as_it_ended() {
    let switch = Switch::start();
    let relay = Scripted::start("", |_, _| Behaviour::Accept);
    let program = Program::new(&jobs_toml(relay.port, switch.port)).await;
    let (first, next) = (at("2026-03-10T06:30:00Z"), at("2026-03-11T06:30:00Z"));
    let context = program.context(first).await;
    let pool = &program.db.pool;
    let execute = async |sql: &'static str| {
        sqlx::raw_sql(sql).execute(pool).await.unwrap();
    };
    run(&context, "daily-digest", first).await;
    assert_eq!((relay.accepted().len(), switch.n_calls.load(Ordering::SeqCst)), (1, 1));
    // As if the database had gone away between the mail and the end.
    execute("update job_run set state = 'interrupted' where job = 'daily-digest'").await;
    execute("delete from digest").await;
    run(&context, "daily-digest", first).await;
    assert_eq!((relay.accepted().len(), switch.n_calls.load(Ordering::SeqCst)), (1, 2));
    assert_eq!(count(pool, "select count(*) from digest where is_told and is_good").await, 1);

    execute(
        "insert into job_run (job, scheduled_for, trigger, state, reason, owner, started_at, finished_at)
         values ('collect-ratings', '2026-03-10T09:00Z', 'schedule', 'interrupted', 'its program ended', 'gone', now(), now())",
    )
    .await;
    run(&context, "daily-digest", next).await;
    let told = |digest: Value| digest["findings"].to_string();
    let as_of = ["--as-of", "2026-03-12T06:30:00Z", "digest", "--json"];
    assert!(!told(program.run(&as_of).expect(0).json()).contains("collect-ratings"));
    execute(
        "update job_run set state = 'failed', reason = 'no such folder', attempt = 2, started_at = clock_timestamp()
         where job = 'collect-ratings'",
    )
    .await;
    let findings = told(program.run(&as_of).expect(0).json());
    assert!(findings.contains("collect-ratings") && findings.contains("no such folder"), "{findings}");
}

#[tokio::test(flavor = "multi_thread")]
async fn for_how_long_the_oldest_mail_waits_is_told() {
    let now = at("2026-03-10T18:00:00Z");
    let program = Program::new(&watched(&shipped_with(1))).await;
    let pool = &program.db.pool;
    let told = async || {
        let context = program.context(now).await;
        let (watch, _watch) = private(&context, now).await;
        let url = format!("{watch}/metrics");
        let (_, _, text) = tokio::task::block_in_place(|| asked(&url, Some(TOKEN)));
        read(&text)["afterword_outbox_age_seconds{shop=\"maison\"}"]
    };
    assert_eq!(told().await, 0.0);
    let shop = factories::shop(pool, "maison").await;
    let customer = factories::customer(pool, shop, "claire@customer.example").await;
    let due = async |state: &str, moment| {
        let order = Order::new(shop, customer, &format!("A-{state}")).insert(pool).await;
        let invitation = factories::sent_invitation(pool, shop, order, moment).await;
        sqlx::query(
            "update invitation set state = $2::invitation_state, sent_at = null where invitation_id = $1",
        )
        .bind(invitation)
        .bind(state)
        .execute(pool)
        .await
        .unwrap();
    };
    // What is not due yet, and what may have left, does not wait.
    due("queued", at("2026-03-10T19:00:00Z")).await;
    due("unknown", at("2026-03-09T18:00:00Z")).await;
    assert_eq!(told().await, 0.0);
    due("deferred", at("2026-03-10T15:00:00Z")).await;
    assert_eq!(told().await, 3.0 * 60.0 * 60.0);
}

/// Where the machine slept, the leases of its own runs have run out on the database's clock; they live, and their end is yet to be told.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_our_own_whose_lease_ran_out_is_told_as_it_ended() {
    let program = Program::new(&shipped_with(1)).await;
    let (first, next) = (at("2026-03-10T06:30:00Z"), at("2026-03-11T06:30:00Z"));
    let context = program.context(first).await;
    let pool = &program.db.pool;
    let owner = afterword::process::Hold::new();
    let due = Occurrence::Scheduled(at("2026-03-10T06:00:00Z"));
    let lease = Duration::from_secs(60);
    let hold = ledger::claim(pool, "import-orders", due, owner.name(), lease).await.unwrap().unwrap();
    sqlx::query("update job_run set lease_until = now() - interval '1 hour'").execute(pool).await.unwrap();
    let told = async |since: &Since, now| {
        let digest = digest::gather(&context, since, now, None).await.unwrap();
        let of_job = digest.jobs.get("import-orders").cloned().unwrap_or_default();
        let n_failed =
            digest.findings.iter().filter(|finding| matches!(finding, Finding::Failed { .. })).count();
        let since = Since { moment: now, last_run: Some(digest.last_run), open_runs: digest.open_runs };
        (of_job, n_failed, since)
    };
    let shown = async || {
        let of_job = ledger::history(pool, Some("import-orders"), 1).await.unwrap();
        let of_all = ledger::history(pool, None, 1).await.unwrap();
        let run = ledger::run(pool, hold.id).await.unwrap();
        let last = ledger::last_runs(pool).await.unwrap();
        of_job.into_iter().chain(of_all).chain(run).chain(last).map(|run| run.state).collect::<Vec<_>>()
    };
    let from_start = Since { moment: first - TimeDelta::days(1), last_run: None, open_runs: vec![] };
    let (of_job, n_failed, since) = told(&from_start, first).await;
    assert_eq!((of_job, n_failed), (JobRuns { n_running: 1, ..JobRuns::default() }, 0));
    assert_eq!(shown().await, [JobRunState::Running; 4]);
    assert!(ledger::settle(pool, hold, JobRunState::Failed, Some("no such folder"), None).await.unwrap());
    let (of_job, n_failed, _) = told(&since, next).await;
    assert_eq!((of_job, n_failed), (JobRuns { n_failed: 1, ..JobRuns::default() }, 1));

    // Of one that was dropped, or is another process's, nobody knows better.
    let again = Occurrence::Scheduled(at("2026-03-10T06:15:00Z"));
    ledger::claim(pool, "import-orders", again, owner.name(), lease).await.unwrap().unwrap();
    sqlx::query("update job_run set lease_until = now() - interval '1 hour' where state = 'running'")
        .execute(pool)
        .await
        .unwrap();
    drop(owner);
    let (of_job, _, _) = told(&since, next).await;
    assert_eq!(of_job, JobRuns { n_failed: 1, n_interrupted: 1, ..JobRuns::default() });
    assert_eq!(ledger::history(pool, None, 1).await.unwrap()[0].state, JobRunState::Interrupted);
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_says_in_one_word_what_is_missing() {
    let program = Program::new(&shipped_with(1)).await;
    let context = program.context(at("2026-03-10T06:00:00Z")).await;
    let (public, _public) = pages(&context, at("2026-03-10T06:00:00Z")).await;
    let (private, _private) = private(&context, at("2026-03-10T06:00:00Z")).await;
    let says = async |expected: (u16, &str)| {
        // It is told for a second.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        for listener in [&public, &private] {
            let (status, _, body) = asked(&format!("{listener}/readyz"), None);
            assert_eq!((status, body.as_str()), expected, "{listener}");
        }
    };
    says((200, "ok")).await;
    for (sql, expected) in [
        // A newer program has migrated while this one runs, which goes on.
        (
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
             values (9000, 'newer', true, '', 0)",
            (200, "ok"),
        ),
        ("update _sqlx_migrations set success = false where version = 5", (503, "migrations")),
        ("update _sqlx_migrations set success = true where version = 5", (200, "ok")),
        ("update _sqlx_migrations set checksum = sha256(checksum) where version = 5", (503, "migrations")),
    ] {
        sqlx::query(sql).execute(&program.db.pool).await.unwrap();
        says(expected).await;
    }
    // One that starts is refused, also where it is not to migrate.
    for jobs in [shipped_with(1), shipped_with(1).replace("auto_migrate = true ", "auto_migrate = false ")] {
        program.configure(&jobs);
        let refused = program.run(&["jobs"]).expect(1).stderr;
        assert!(
            refused.contains("version 9000 of the schema, which this program does not know"),
            "{refused}"
        );
    }
    context.pool.close().await;
    says((503, "database")).await;
    assert_eq!(asked(&format!("{public}/livez"), None).0, 200);
}

/// Serves a customer's visit for a second, and says everything that the log holds then.
fn serve_and_listen(program: &Program, visit: impl FnOnce(&str, &str)) -> String {
    let port = |listener: &Listener| listener.local_addr().unwrap().port();
    let (public, private) = (Listener::bind("127.0.0.1:0").unwrap(), Listener::bind("127.0.0.1:0").unwrap());
    let (public, private) = {
        let ports = (port(&public), port(&private));
        drop((public, private));
        ports
    };
    let jobs = std::fs::read_to_string(program.path("jobs.toml")).unwrap();
    let listen = format!(
        "[app]\nlisten = \"127.0.0.1:{public}\"\nprivate_listen = \"127.0.0.1:{private}\"\nlog_format = \"json\"\n"
    );
    let kept: Vec<&str> = jobs
        .lines()
        .filter(|line| {
            !["listen =", "private_listen =", "log_format ="].iter().any(|key| line.starts_with(key))
        })
        .collect();
    program.write("jobs.toml", kept.join("\n").replacen("[app]", &listen, 1));
    let mut command = command(program.dir.path());
    let serving = Serving::of(command.args(["serve"]).env("RUST_LOG", "debug"), program.dir.path());
    let (public, private) = (format!("http://127.0.0.1:{public}"), format!("http://127.0.0.1:{private}"));
    let is_up = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        agent.get(format!("{public}/readyz")).call().is_ok_and(|answer| answer.status() == 200)
    });
    if is_up {
        visit(&public, &private);
    }
    assert!(is_up, "{}", serving.log());
    assert_eq!(serving.stop(), Some(0));
    std::fs::read_to_string(program.path("serve.log")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_line_of_a_day_holds_an_address_a_name_a_comment_or_a_token() {
    let switch = Switch::start();
    let relay = Scripted::start("", |step, seen| match step {
        Step::Rcpt if seen.to.starts_with("canary.gone") => {
            Behaviour::Say("550 5.1.1 <canary.gone@customer.example> is unknown here\r\n")
        }
        Step::Dot if seen.to.starts_with("canary.lost") => Behaviour::Close,
        _ => Behaviour::Accept,
    });
    let program = Program::new(&jobs_toml(relay.port, switch.port)).await;
    let now = afterword::types::Clock::System.now();
    let ordered = (now - TimeDelta::days(12)).to_rfc3339();
    let rows = ["claire", "gone", "lost"].iter().enumerate().map(|(n, name)| {
        format!(
            "A-{n},canary.{name}@customer.example,{ordered},{ordered},fulfilled,Canary{name},Canarylast\n"
        )
    });
    let header = "order_id,email,ordered_at,fulfilled_at,status,first_name,last_name\n";
    let bad = "A-9,canary.bad@customer.example,canarydate,,fulfilled,Canarybad,\n";
    program.write("orders.csv", header.to_owned() + &rows.collect::<String>() + bad);
    program.write(
        "answers.csv",
        "order_id,email,answered_at,recommend,comment\nA-1,,canarydate,yes,canarywords\n",
    );
    let mut said = String::new();
    let responses = ["import", "responses", "answers.csv", "--shop", "maison", "--survey", "satisfaction"];
    for args in [
        &["import", "orders", "orders.csv", "--shop", "maison"][..],
        &["run", "send-invitations"],
        &responses,
        &["run", "nightly-metrics"],
        &["run", "daily-digest"],
        &["run", "purge"],
        &["digest"],
    ] {
        let run = ran(command(program.dir.path()).env("RUST_LOG", "debug").args(args).output().unwrap());
        assert!([0, 3].contains(&run.code), "{args:?}: {}", run.stderr);
        said.push_str(&run.stderr);
        said.push_str(&run.stdout);
    }
    let context = program.context(now).await;
    let invitation: i64 = sqlx::query_scalar("select invitation_id from invitation where state = 'sent'")
        .fetch_one(&program.db.pool)
        .await
        .unwrap();
    let token = |purpose| context.tokens.issue(purpose, ShopId(1), InvitationId(invitation)).to_string();
    let (survey, leave) = (token(Purpose::Survey), token(Purpose::Unsubscribe));
    let log = serve_and_listen(&program, |public, private| {
        let form = get(&format!("{public}/s/{survey}?recommend=yes"));
        assert_eq!(form.status, 200);
        std::thread::sleep(Duration::from_millis(4200));
        let answer = form.with_hidden(&[
            ("recommend", "yes"),
            ("comment", "canarywords"),
            ("publish", "yes"),
            ("display_name", "Canaryclaire"),
        ]);
        assert_eq!(post(&format!("{public}/s/{survey}"), &answer).status, 200);
        post(&format!("{public}/s/{survey}"), &[("comment".to_owned(), "canarywords".repeat(9000))]);
        get(&format!("{public}/s/{survey}x"));
        post(&format!("{public}/u/{leave}"), &[]);
        assert_eq!(asked(&format!("{private}/metrics"), Some(TOKEN)).0, 200);
        assert_eq!(asked(&format!("{private}/metrics"), Some("canary-token")).0, 401);
    });
    let n_lines = log.lines().count();
    assert!(n_lines > 5, "{log}");
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
    }
    said.push_str(&log);
    let n_answers = count(&program.db.pool, "select count(*) from answer where body = 'canarywords'").await;
    assert_eq!(n_answers, 1);
    for personal in ["canary", "Canary", "@customer.example", TOKEN, survey.as_str(), leave.as_str()] {
        assert!(!said.contains(personal), "{personal:?} was said:\n{said}");
    }
}
