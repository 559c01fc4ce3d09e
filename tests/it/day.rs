//! A day of `serve` in a minute: the real loop, pages and private pages under a clock that the test moves on. Files come in, mails leave,
//! somebody answers, a mail comes back, a report goes out, a job fails, the machine sleeps for two hours; and in the evening the digest and
//! the figures for machines say exactly what the tables say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use afterword::cli::serve;
use afterword::context::Context;
use afterword::jobs::ledger;
use afterword::types::Clock;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use tokio_util::sync::CancellationToken;

use crate::bounces::Dsn;
use crate::operations::{asked, findings, read};
use crate::support::factories::at;
use crate::support::http::{Page, get, post};
use crate::support::program::{Program, shipped_with};
use crate::support::smtp::{Accepted, Relay};

const TOKEN: &str = "a-token-of-thirty-two-characters-and-more";

/// What the clock of this day shows, in seconds since 1970.
static SHOWS: AtomicI64 = AtomicI64::new(0);

fn shown() -> DateTime<Utc> {
    DateTime::from_timestamp(SHOWS.load(Ordering::SeqCst), 0).unwrap()
}

/// The shipped configuration with every job that runs more than once an hour made hourly, so that the clock can be moved on by hours; the
/// report and the digest every day; and what no rule flags approved.
fn jobs_toml(relay: u16, public: u16, private: u16) -> String {
    let mut text = shipped_with(relay);
    for (from, to) in [
        (
            "listen = \"127.0.0.1:8080\"",
            format!("listen = \"127.0.0.1:{public}\"\nprivate_listen = \"127.0.0.1:{private}\""),
        ),
        ("\"*/10 * * * *\"", "\"0 * * * *\"".to_owned()),
        ("\"*/15 * * * *\"", "\"0 * * * *\"".to_owned()),
        (
            "\"0 8 * * 1\"\ntimezone = \"Europe/Paris\"\nenabled = false",
            "\"0 8 * * *\"\ntimezone = \"Europe/Paris\"".to_owned(),
        ),
        (
            "\"30 7 * * *\"\ntimezone = \"Europe/Paris\"\nenabled = false",
            "\"45 21 * * *\"\ntimezone = \"Europe/Paris\"".to_owned(),
        ),
        ("\"0 6 * * 1\"", "\"0 20 * * *\"".to_owned()),
        // An hour of this clock passes at once, so that every occurrence is late.
        ("catch_up = \"skip\"", "catch_up = \"once\"".to_owned()),
        ("moderation = \"manual\"", "moderation = \"flagged\"".to_owned()),
        ("# to = [\"team@maison.example\"]  ", "to = [\"team@maison.example\"]  ".to_owned()),
    ] {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, &to);
    }
    format!("{text}\n[[access]]\nname = \"watch\"\ntoken = \"{TOKEN}\"\nallow = [\"metrics\"]\n")
}

/// One running `serve`, and what happens around it.
struct Day {
    program: Program,
    context: Context,
    relay: Relay,
}

impl Day {
    /// Moves the clock on, and waits until everything that is due then has been settled.
    async fn passes_to(&self, time: &str) {
        let now = at(&format!("2026-03-10T{time}:00Z"));
        assert!(now > shown());
        SHOWS.store(now.timestamp(), Ordering::SeqCst);
        let begun = Instant::now();
        while let Some(job) = self.unsettled(now).await {
            assert!(begun.elapsed() < Duration::from_secs(60), "{job} is not settled at {now}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A job of which an occurrence is due or running.
    async fn unsettled(&self, now: DateTime<Utc>) -> Option<String> {
        for job in self.context.config.jobs.iter().filter(|job| job.enabled) {
            let Some(standing) = ledger::standing(&self.context.pool, &job.name, now).await.unwrap() else {
                return Some(job.name.clone());
            };
            let after = standing.last.map_or(standing.since, |last| last.max(standing.since));
            let next = job.schedule.as_ref().and_then(|schedule| schedule.next_after(after));
            if standing.running.is_some() || next.is_some_and(|next| next <= now) {
                return Some(job.name.clone());
            }
        }
        None
    }

    /// The mails to customers whose rows say `sent`.
    async fn sent(&self) -> Vec<Accepted> {
        let sql = "select email from customer join invitation using (shop_id, customer_id) where invitation.state = 'sent'";
        let to: BTreeSet<String> =
            sqlx::query_scalar(sql).fetch_all(&self.context.pool).await.unwrap().into_iter().collect();
        self.relay.accepted().into_iter().filter(|mail| to.contains(&mail.to)).collect()
    }

    fn drop_file(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.program.write(&format!("data/inbox/{name}"), content);
        // Nobody has written to it for a while.
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600)).unwrap();
    }
}

async fn count(pool: &PgPool, sql: &str) -> u64 {
    let n: i64 = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(pool).await.unwrap();
    u64::try_from(n).unwrap()
}

/// How many runs of each job ended in each way; of all, or of those before the digest's.
async fn runs(pool: &PgPool, before_the_digest: bool) -> BTreeMap<(String, String), u64> {
    let sql = "select job, state::text, count(*) from job_run
               where not $1 or job_run_id < (select job_run_id from job_run where job = 'daily-digest') group by 1, 2";
    let rows: Vec<(String, String, i64)> =
        sqlx::query_as(sql).bind(before_the_digest).fetch_all(pool).await.unwrap();
    rows.into_iter().map(|(job, state, n)| ((job, state), u64::try_from(n).unwrap())).collect()
}

fn survey(mail: &Accepted) -> String {
    let text = mail.text();
    let link = text.split_whitespace().find(|word| word.contains("/s/")).unwrap();
    link.split('?').next().unwrap().to_owned()
}

/// A customer's mail program and browser.
fn opened(mail: &Accepted, public: u16) -> (String, Page) {
    // The mail's link leads to `base_url`.
    let link = survey(mail);
    let link = format!("http://127.0.0.1:{public}/s/{}", link.split("/s/").nth(1).unwrap());
    let page = get(&link);
    assert_eq!(page.status, 200, "{}", page.body);
    (link, page)
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_evening_digest_and_figures_say_what_the_tables_say() {
    // The fourth mail is taken, and its sender never hears so.
    let relay = Relay::dropping(&[4], || {});
    let [public, private] = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [public, private] = [public, private].map(|free| free.local_addr().unwrap().port());
    let program = Program::new(&jobs_toml(relay.port, public, private)).await;
    let midnight = at("2026-03-10T00:12:00Z");
    SHOWS.store(midnight.timestamp(), Ordering::SeqCst);
    let context = Context { clock: Clock::Told(shown), ..program.context(midnight).await };
    let pool = context.pool.clone();
    let day = Day { program, context: context.clone(), relay };

    let mut orders = "order_id,email,ordered_at,fulfilled_at,status,first_name,last_name\n".to_owned();
    for n in 1..=5 {
        // The fifth mail is due at half past five only: by then its answer, which comes by a file, has been taken.
        let fulfilled = if n < 5 { "2026-03-02T23:00:00Z" } else { "2026-03-03T05:30:00Z" };
        orders.push_str(&format!(
            "A-{n},customer{n}@customer.example,2026-03-01T10:00:00Z,{fulfilled},fulfilled,Claire,Duval\n"
        ));
    }
    day.drop_file("orders/a.csv", orders + "A-9,nobody,2026-03-01T10:00:00Z,,fulfilled,,\n");
    day.drop_file(
        "responses/b.csv",
        "order_id,answered_at,external_id,recommend\nA-5,2026-03-09T10:00:00Z,R-5,no\n",
    );
    for inbox in ["events", "bounces/new"] {
        std::fs::create_dir_all(day.program.path(&format!("data/inbox/{inbox}"))).unwrap();
    }
    day.program.write("data/inbox/ratings", "a file where a folder should be");

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", public)).await.unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve::serve(context, listener, stop.clone()));
    day.passes_to("01:12").await;
    // Two o'clock and three are slept through.
    day.passes_to("04:12").await;
    day.passes_to("05:12").await;
    day.passes_to("06:12").await;
    let sent = day.sent().await;
    assert_eq!(sent.len(), 3, "{sent:?}");
    let form = tokio::task::block_in_place(|| opened(&sent[0], public));
    day.passes_to("07:12").await;
    let (link, page) = form;
    let words = [("recommend", "yes"), ("overall", "5"), ("comment", "Well made"), ("publish", "yes")];
    let answered = tokio::task::block_in_place(|| post(&link, &page.with_hidden(&words)));
    assert_eq!(answered.status, 200, "{}", answered.body);
    // Another one is opened and sent by a program, at once.
    tokio::task::block_in_place(|| {
        let (link, page) = opened(&sent[1], public);
        post(&link, &page.with_hidden(&[("recommend", "no")]));
    });
    day.program.write("data/inbox/bounces/new/1.host", Dsn::about(&sent[2]).message());
    for hour in 8..=20 {
        day.passes_to(&format!("{hour:02}:12")).await;
    }
    // The digest alone is due at a quarter to nine (UTC).
    day.passes_to("20:50").await;
    day.passes_to("21:12").await;
    let contents: Vec<Value> =
        sqlx::query_scalar("select contents from digest").fetch_all(&pool).await.unwrap();
    let [digest] = &contents[..] else { panic!("{contents:?}") };
    let shop = &digest["shops"]["maison"];
    for (field, sql) in [
        ("n_sent", "select count(*) from attempt where outcome = 'sent'"),
        ("n_unknown", "select count(*) from attempt where outcome = 'unknown'"),
        ("n_unknown_open", "select count(*) from invitation where state = 'unknown'"),
        ("n_answers", "select count(*) from response where verdict = 'human'"),
        ("n_suspects", "select count(*) from response where verdict = 'suspect'"),
        ("n_suppressed", "select count(*) from suppression"),
    ] {
        let n = count(&pool, sql).await;
        assert_eq!(shop[field], n, "{field}: {digest}");
        assert!(n > 0, "{field} was to happen");
    }
    for (field, sql) in [
        ("n_failed", "select count(*) from attempt where outcome = 'failed'"),
        ("n_deferred", "select count(*) from attempt where outcome = 'deferred'"),
        (
            "n_waiting",
            "select count(*) from invitation where state in ('queued', 'deferred', 'claimed', 'in_data')",
        ),
    ] {
        assert_eq!(shop[field], count(&pool, sql).await, "{field}: {digest}");
    }
    assert_eq!(
        shop["bounces"],
        json!({ "hard": count(&pool, "select count(*) from bounce where kind = 'hard'").await })
    );
    assert_eq!(shop["imports"]["orders"], json!({ "n_files": 1, "n_read": 6, "n_rejected": 1 }));
    assert_eq!(shop["imports"]["responses"], json!({ "n_files": 1, "n_read": 1, "n_rejected": 0 }));
    let runs = runs(&pool, false).await;
    let mut told = BTreeMap::new();
    for (job, of_job) in digest["jobs"].as_object().unwrap() {
        for state in ["done", "partial", "failed", "skipped", "interrupted", "running"] {
            let n = of_job[format!("n_{state}")].as_u64().unwrap();
            told.extend((n > 0).then(|| ((job.clone(), state.to_owned()), n)));
        }
    }
    assert_eq!(told, self::runs(&pool, true).await);
    assert_eq!(runs[&("collect-ratings".to_owned(), "failed".to_owned())], 1);
    assert_eq!(runs[&("import-orders".to_owned(), "skipped".to_owned())], 2, "two and three o'clock");
    let mut expected: BTreeSet<String> = told
        .keys()
        .filter(|(_, state)| ["failed", "partial", "skipped"].contains(&state.as_str()))
        .map(|(job, state)| format!("{state} {job}"))
        .collect();
    expected.extend(["unknown maison", "rejected maison"].map(str::to_owned));
    let findings = findings(digest);
    assert_eq!(findings, expected, "{digest}");
    assert!(
        expected.contains("failed collect-ratings") && expected.contains("skipped import-orders"),
        "{expected:?}"
    );

    // What people got: the report, and the digest.
    let of_team: Vec<Accepted> =
        day.relay.accepted().into_iter().filter(|mail| mail.to == "team@maison.example").collect();
    assert_eq!(of_team.len(), 2);
    let exported = std::fs::read_to_string(day.program.path("data/exports/testimonials/latest.csv")).unwrap();
    assert!(exported.contains("Well made"), "{exported}");

    // The figures for machines, of the same day.
    let url = format!("http://127.0.0.1:{private}/metrics");
    let (status, _, text) = tokio::task::block_in_place(|| asked(&url, Some(TOKEN)));
    assert_eq!(status, 200, "{text}");
    let samples = read(&text);
    let mut n_told = 0;
    for job in &day.context.config.jobs {
        for state in ["done", "partial", "failed", "skipped", "interrupted"] {
            let name = format!("afterword_job_runs_total{{job_name=\"{}\",state=\"{state}\"}}", job.name);
            let n = runs.get(&(job.name.clone(), state.to_owned())).copied().unwrap_or_default();
            assert_eq!(samples.get(&name), Some(&(n as f64)), "{name} in\n{text}");
            n_told += n;
        }
    }
    assert_eq!(n_told, runs.values().sum::<u64>(), "no run is left out");
    for (name, sql) in [
        (
            "afterword_mail_attempts_last_day{shop=\"maison\",outcome=\"sent\",class=\"2xx\"}",
            "select count(*) from attempt where outcome = 'sent'",
        ),
        (
            "afterword_mail_attempts_last_day{shop=\"maison\",outcome=\"unknown\",class=\"none\"}",
            "select count(*) from attempt where outcome = 'unknown'",
        ),
        (
            "afterword_outbox_mails{shop=\"maison\",state=\"unknown\"}",
            "select count(*) from invitation where state = 'unknown'",
        ),
        ("afterword_bounces_last_day{shop=\"maison\",kind=\"hard\"}", "select count(*) from bounce"),
        (
            "afterword_responses_last_day{shop=\"maison\",via=\"page\",verdict=\"human\"}",
            "select count(*) from response where via = 'page' and verdict = 'human'",
        ),
        (
            "afterword_responses_last_day{shop=\"maison\",via=\"page\",verdict=\"suspect\"}",
            "select count(*) from response where verdict = 'suspect'",
        ),
        (
            "afterword_import_files_last_day{shop=\"maison\",kind=\"orders\"}",
            "select count(*) from import_run where kind = 'orders'",
        ),
        (
            "afterword_import_rows_last_day{shop=\"maison\",kind=\"orders\",outcome=\"taken\"}",
            r#"select count(*) from "order""#,
        ),
        (
            "afterword_import_rows_last_day{shop=\"maison\",kind=\"orders\",outcome=\"rejected\"}",
            "select count(*) from import_reject",
        ),
        (
            "afterword_testimonials_waiting{shop=\"maison\",for=\"decision\"}",
            "select count(*) from testimonial where state = 'pending'",
        ),
    ] {
        assert_eq!(samples.get(name), Some(&(count(&pool, sql).await as f64)), "{name} in\n{text}");
    }
    for (name, value) in [
        ("afterword_database_outage_seconds", 0.0),
        ("afterword_relay_failing", 0.0),
        ("afterword_digest_timestamp_seconds", at("2026-03-10T20:12:00Z").timestamp() as f64),
    ] {
        let told = samples.get(name).copied().unwrap();
        let is_so = if name.contains("digest") { told > value } else { told == value };
        assert!(is_so, "{name} is {told}");
    }
    let overdue =
        samples.iter().filter(|(name, value)| name.starts_with("afterword_job_overdue") && **value > 0.0);
    assert_eq!(overdue.count(), 0, "{text}");

    stop.cancel();
    serving.await.unwrap().unwrap();
}
