//! What is older than `[retention]` says goes, and no figure changes, as of whatever date.

use std::collections::BTreeMap;
use std::time::Duration;

use afterword::jobs::ledger::{self, Hold, JobRunState, Occurrence};
use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};

use crate::erasure::holding;
use crate::operations;
use crate::support::factories::at;
use crate::support::program::{Program, shipped};

/// Of long ago, but for the last order of Hugo's.
const ORDERS: &str = "\
order_id,email,ordered_at,fulfilled_at,status,first_name,last_name,locale
A-1,Canary.Claire@customer.example,2020-03-01T10:00:00Z,2020-03-03T10:00:00Z,fulfilled,Canaryclaire,Canaryduval,fr
A-2,canary.claire@customer.example,2020-02-01T10:00:00Z,2020-02-25T10:00:00Z,fulfilled,Canaryclaire,Canaryduval,fr
A-3,lea@customer.example,2020-03-01T10:00:00Z,2020-03-03T10:00:00Z,fulfilled,Léa,Fontanel,fr
A-4,hugo@customer.example,2020-03-02T10:00:00Z,2020-03-03T10:00:00Z,fulfilled,Hugo,Marchetti,fr
A-5,canary.nobody@customer.example,not a date,,fulfilled,Canarynobody,,fr
A-6,canary.mute@customer.example,2019-11-02T10:00:00Z,,cancelled,Canarymute,,fr
";
const RESPONSES: &str = "\
order_id,answered_at,external_id,display_name,recommend,overall,comment,publish
A-1,2020-03-12T10:00:00Z,R-1,Canaryname,yes,4,canarywords of February,yes
A-3,2020-03-13T10:00:00Z,R-3,,yes,5,Well made,yes
A-4,2020-03-14T10:00:00Z,R-4,,no,1,canarywords of Hugo,
";
const LATELY: &str = "\
order_id,email,ordered_at,fulfilled_at,status,first_name,last_name,locale
B-1,hugo@customer.example,2025-12-01T10:00:00Z,2025-12-03T10:00:00Z,fulfilled,Hugo,Marchetti,fr
B-2,emma@customer.example,not a date,,fulfilled,Emma,,fr
";

/// A shop with six years behind it, kept by commands that were given at their time.
async fn shop() -> Program {
    let program = Program::new(&shipped()).await;
    program.write("orders.csv", ORDERS);
    program.write("responses.csv", RESPONSES);
    program.write("lately.csv", LATELY);
    let at = |as_of: &str, args: &[&str], code: i32| {
        program.run(&[args, &["--as-of", as_of]].concat()).expect(code);
    };
    let shop = ["--shop", "maison"];
    at("2020-03-10T12:00:00Z", &[&["import", "orders", "orders.csv"], shop.as_slice()].concat(), 3);
    at("2020-03-11T10:00:00Z", &["run", "send-invitations"], 0);
    let responses = ["import", "responses", "responses.csv", "--survey", "satisfaction"];
    at("2020-03-20T10:00:00Z", &[responses.as_slice(), &shop].concat(), 0);
    at("2020-06-02T01:15:00Z", &["run", "nightly-metrics"], 0);
    // Of the two with consent, one is approved and leaves the house four years later.
    let id: i64 = sqlx::query_scalar("select response_id from response where external_id = 'R-3'")
        .fetch_one(&program.db.pool)
        .await
        .unwrap();
    at("2024-06-02T09:00:00Z", &["testimonials", "approve", &id.to_string()], 0);
    let export = ["export", "testimonials", "--out", "published.csv"];
    at("2024-06-03T09:00:00Z", &[export.as_slice(), &shop].concat(), 0);
    at("2025-12-10T12:00:00Z", &[&["import", "orders", "lately.csv"], shop.as_slice()].concat(), 3);
    at("2025-12-11T10:00:00Z", &["run", "send-invitations"], 0);
    // What relays and mail systems have said, who opened what, and who was told of an alert: then and lately.
    for (year, word) in [("2020-03-12", "canaryduval"), ("2025-12-12", "lately")] {
        for sql in [
            "update attempt set text = '{word} is unknown' where started_at < '{year}'::date + 1 and text not like '%unknown'",
            "insert into bounce (shop_id, invitation_id, digest, kind, reason, received_at)
             select shop_id, min(invitation_id), sha256('{word}'), 'soft', 'no room for {word}', '{year}'
             from invitation group by shop_id",
            "insert into hit (shop_id, invitation_id, at, method, page, agent)
             select shop_id, invitation_id, '{year}', 'get', 'survey', 'phone' from invitation",
            "insert into alert (shop_id, rule, metric, opened_at, seen_at, closed_at, closed_because, opening, latest)
             values (1, '{word}', 'nps', '{year}', '{year}', '{year}', 'back', '{}', '{}')",
            "insert into alert_delivery (shop_id, alert_id, channel, recipient, occasion, state, queued_at, next_try_at)
             select 1, alert_id, 'mail', '{word}@shop.example', 'opened', 'sent', '{year}', '{year}'
             from alert where rule = '{word}'",
            // What the shop replied to words that are not published, and answers whose order never came.
            "insert into reply (shop_id, response_id, revision, body, replied_at)
             select shop_id, response_id, case '{word}' when 'lately' then 2 else 1 end,
                 case external_id when 'R-1' then 'canaryreply to {word}' else 'Merci' end, '{year}'
             from response where external_id in ('R-1', 'R-3')",
            "insert into response_aside (shop_id, import_run_id, line, \"row\", survey, survey_version_id, email_key, answered_at,
                 answered_by, display_name, answers, digest, kept_at)
             select shop_id, 1, 1, 'canaryaside of {word}', survey, survey_version_id, 'canary.aside.{word}@customer.example', '{year}',
                 '{year}', 'Canaryaside of {word}', '{\"comment\": \"canaryaside of {word}\"}', sha256('{word}'), '{year}'
             from survey_version limit 1",
            "insert into rejection (shop_id, response_id, reason, state, queued_at, next_try_at, settled_at, fault)
             select shop_id, response_id, case '{word}' when 'lately' then 'unlawful' else 'contradictory' end::reject_reason,
                 'failed', '{year}', '{year}', '{year}', 'rcpt: {word} is unknown'
             from response where external_id = 'R-1'",
        ] {
            let sql = sql.replace("{year}", year).replace("{word}", word);
            sqlx::query(AssertSqlSafe(sql)).execute(&program.db.pool).await.unwrap();
        }
    }
    sqlx::query("update alert set rule = 'a rule'").execute(&program.db.pool).await.unwrap();
    at("2026-01-14T02:15:00Z", &["run", "nightly-metrics"], 0);
    program
}

/// What reports say as of several dates, of everything and of windows, frozen and not.
fn figures(program: &Program) -> Vec<Value> {
    let report = |args: &[&str]| {
        program.run(&[&["report", "--json"], args].concat()).expect(0).json()["shops"].clone()
    };
    let extras = ["--loyalty", "--funnel", "--by", "year"];
    ["2020-03-13", "2020-06-03", "2024-06-01", "2026-01-14T12:00:00Z"]
        .into_iter()
        .flat_map(|as_of| {
            let window = ["--from", "2020-03-01", "--to", "2020-04-01", "--as-of", as_of];
            [report(&["--as-of", as_of]), report(&[extras.as_slice(), &["--as-of", as_of]].concat())]
                .into_iter()
                .chain((as_of > "2020-04-01").then(|| report(&window)))
        })
        .collect()
}

/// Every row of every table as text, but for the ledger.
async fn everything(pool: &PgPool) -> Vec<String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.tables
         where table_schema = 'public' and table_type = 'BASE TABLE' and table_name <> 'job_run' order by 1",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let mut rows = Vec::new();
    for table in tables {
        let sql = format!(r#"select row_to_json(t)::text from "{table}" t order by 1"#);
        let of_table: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(pool).await.unwrap();
        rows.extend(of_table.into_iter().map(|row| format!("{table}: {row}")));
    }
    rows
}

const NOW: &str = "2026-01-15T04:00:00Z";

fn purge(program: &Program, more: &[&str]) -> Value {
    let args = [&["run", "purge", "--json", "--as-of", NOW], more].concat();
    program.run(&args).expect(0).json()["details"]["purged"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_old_goes_and_no_figure_changes() {
    let program = shop().await;
    let pool = &program.db.pool;
    let words = [
        "canary.claire",
        "canaryclaire",
        "canaryduval",
        "canaryname",
        "canarywords",
        "canarynobody",
        "canaryaside of canaryduval",
        "canary.aside.canaryduval",
    ];
    let held = holding(pool, &words).await;
    let tables = [
        "customer",
        "answer",
        "response",
        "import_reject",
        "attempt",
        "bounce",
        "alert_delivery",
        "rejection",
        "reply",
        "response_aside",
    ];
    for table in tables {
        assert!(held.iter().any(|found| found.starts_with(&format!("{table}:"))), "{table}: {held:?}");
    }
    let figures_before = figures(&program);

    let rows = everything(pool).await;
    let would = purge(&program, &["--dry-run"]);
    assert_eq!(everything(pool).await, rows, "a dry run changes nothing");
    let done = purge(&program, &[]);
    assert_eq!(would, done, "a dry run counts what the run then does");
    let expected = serde_json::json!({
        // Claire, and whoever had called an order off. Léa's words are published, Hugo ordered lately.
        // To Claire's words the shop had replied, and replied anew lately; the reply goes with the words, Léa's stays with hers.
        "n_customers": 2, "n_texts": 2 + 2, "n_names": 1,
        "n_replies": done["n_replies"], "n_reports": 1, "n_visits": done["n_visits"], "n_rejects": 1 + 1,
        "n_messages": 1, "n_runs": 0, "n_suppressed": 0, "n_files": 0, "left": null,
    });
    assert_eq!(done, expected);
    let n_old: i64 = sqlx::query_scalar(
        "select count(*) from invitation where decided_at < '2021-01-01' and state = 'sent'",
    )
    .fetch_one(pool)
    .await
    .unwrap();
    assert!(n_old > 1);
    // And why the author of rejected words could not be told.
    assert_eq!(done["n_replies"], n_old + 1);
    let faults: Vec<String> = sqlx::query_scalar("select fault from rejection where fault is not null")
        .fetch_all(pool)
        .await
        .unwrap();
    assert_eq!(faults, ["rcpt: lately is unknown"]);

    assert_eq!(holding(pool, &words).await, [""; 0]);
    assert_eq!(figures(&program), figures_before);
    let kept =
        holding(pool, &["hugo@customer.example", "fontanel", "well made", "emma@", "lately@shop.example"])
            .await;
    let replies: Vec<String> = sqlx::query_scalar(
        "select distinct external_id from reply join response using (shop_id, response_id)",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert_eq!(replies, ["R-3"]);
    assert_eq!(holding(pool, &["canaryaside of lately"]).await.len(), 1);
    let kept: Vec<&str> = kept.iter().map(|found| found.split(':').next().unwrap()).collect();
    assert_eq!(kept, ["alert_delivery", "answer", "customer", "customer", "import_reject"]);

    // What was done is in the ledger, and there is nothing left to do.
    let run = ledger::history(pool, Some("purge"), 1).await.unwrap().remove(0);
    assert_eq!(run.report.unwrap()["details"]["purged"], done);
    let again = purge(&program, &[]);
    let n: u64 = again.as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(n, 0, "{again}");

    // The next night counts what was touched, and finds what every night has found.
    let night = ["run", "nightly-metrics", "--json", "--as-of", "2026-01-16T02:15:00Z"];
    let night = program.run(&night).expect(0).json();
    assert_eq!(night["details"]["shops"][0]["frozen"]["n_changed"], 0, "{night}");
    program.run(&["metrics", "rebuild", "--check", "--as-of", "2026-01-17"]).expect(0);
    assert_eq!(figures(&program), figures_before);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_files_bring_nobody_back_and_a_new_order_makes_a_new_customer() {
    let program = shop().await;
    let pool = &program.db.pool;
    purge(&program, &[]);
    let import = |kind: &str, file: &str, code: i32| {
        let args = ["import", kind, file, "--shop", "maison", "--again", "--json", "--as-of", "2026-01-16"];
        let survey: &[&str] = if kind == "responses" { &["--survey", "satisfaction"] } else { &[] };
        program.run(&[args.as_slice(), survey].concat()).expect(code).json()[0].clone()
    };
    assert_eq!(import("orders", "orders.csv", 3)["n_inserted"], 0);
    import("responses", "responses.csv", 0);
    let words = ["canary.claire@", "canaryclaire", "canaryname", "canarywords of february"];
    assert_eq!(holding(pool, &words).await, [""; 0]);
    program.write(
        "new.csv",
        "order_id,email,ordered_at,fulfilled_at\n\
         C-1,canary.claire@customer.example,2026-01-10T10:00:00Z,2026-01-12T10:00:00Z\n",
    );
    assert_eq!(import("orders", "new.csv", 0)["n_inserted"], 1);
    program.run(&["run", "send-invitations", "--as-of", "2026-01-21T10:00:00Z"]).expect(0);
    let story = program.run(&["explain", "order", "C-1", "--as-of", "2026-01-22"]).expect(0).stdout;
    assert!(story.contains("the relay took the mail"), "{story}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_were_read_go_when_they_are_old_enough_and_others_stay() {
    let jobs = shipped().replace("# files = \"90d\"", "files = \"90d\"");
    let program = Program::new(&jobs).await;
    for name in ["done/a.csv", "failed/b.csv", "c.csv", "kept/d.csv"] {
        program.write(&format!("data/inbox/orders/{name}"), "canary@customer.example");
    }
    program.write("data/outbox/1-1.eml", "To: canary@customer.example");
    std::os::unix::fs::symlink(
        program.path("data/inbox/orders/c.csv"),
        program.path("data/inbox/orders/done/link"),
    )
    .unwrap();
    let far = "2096-01-01T04:00:00Z";
    let soon = program.run(&["run", "purge", "--json"]).expect(0).json();
    assert_eq!(soon["details"]["purged"]["n_files"], 0);
    for (more, left) in [(vec!["--dry-run"], true), (vec![], false)] {
        let args = [&["run", "purge", "--json", "--as-of", far], more.as_slice()].concat();
        assert_eq!(program.run(&args).expect(0).json()["details"]["purged"]["n_files"], 3);
        for name in ["data/inbox/orders/done/a.csv", "data/inbox/orders/failed/b.csv", "data/outbox/1-1.eml"]
        {
            assert_eq!(program.path(name).exists(), left, "{name}");
        }
    }
    for name in ["c.csv", "kept/d.csv", "done/link"] {
        assert!(program.path(&format!("data/inbox/orders/{name}")).exists(), "{name}");
    }
}

/// What came from an mbox lies beside it, perhaps in a folder of others.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_from_an_mbox_goes_and_what_lies_beside_it_stays() {
    let jobs = shipped()
        .replace("# files = \"90d\"", "files = \"90d\"")
        .replace("maildir = \"./data/inbox/bounces\"", "mbox = \"./mail/returned\"");
    let program = Program::new(&jobs).await;
    let mail = "From MAILER-DAEMON Thu Jan  1 00:00:00 2026\n";
    program.write(
        "mail/returned",
        format!("{mail}From: postmaster@relay.example\nSubject: canary\n\ncanary.claire@customer.example\n\n{mail}\n\u{0}\n"),
    );
    program.run(&["run", "collect-bounces"]);
    let lies = |folder: &str| -> Vec<String> {
        let entries = std::fs::read_dir(program.path(folder)).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!(lies("mail/done"), ["returned.taken"]);
    assert_eq!(lies("mail/aside").len(), 1);
    // An erasure looks there, too.
    let erased =
        program.run(&["erase", "canary.claire@customer.example", "--yes", "--json"]).expect(0).json();
    assert!(erased.to_string().contains("mail/done/returned.taken"), "{erased}");
    for strange in ["done/photo.eml", "done/returned.txt", "aside/letter.eml", "done/other.taken"] {
        program.write(&format!("mail/{strange}"), "somebody's own");
    }
    let far = ["run", "purge", "--json", "--as-of", "2096-01-01T04:00:00Z"];
    assert_eq!(program.run(&far).expect(0).json()["details"]["purged"]["n_files"], 2);
    let mut left = lies("mail/done");
    left.sort();
    assert_eq!(left, ["other.taken", "photo.eml", "returned.txt"]);
    assert_eq!(lies("mail/aside"), ["letter.eml"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_things_are_kept_is_said_and_not_too_short() {
    let check = |jobs: &str, expected: &str| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jobs.toml");
        let error = afterword::config::Config::parse(&path, jobs).unwrap_err();
        let shown = format!("{:?}", miette::Report::new(error));
        assert!(shown.contains(expected), "{shown}");
    };
    let shipped = shipped();
    check(&shipped.replace("responses = \"5y\"", "responses = \"30d\""), "is too short");
    check(
        &shipped.replace("suppressed_addresses = \"keep_hash\"", "suppressed_addresses = \"forget\""),
        "expected a time",
    );
    let (before, rest) = shipped.split_once("[retention]").unwrap();
    let rest = &rest[rest.find("# The jobs.").unwrap()..];
    check(&format!("{before}{rest}"), "is to be said in [retention]");
}

/// A ledger of long ago, and what is to become of each row; the mails that a run refers to, and what has run since.
const RUNS: &str = "
create temporary table run (job text, trigger job_trigger, state job_run_state, n int, at timestamptz, stays boolean);
insert into run
select 'send-invitations', 'schedule', 'done', 1, at, false from generate_series('2024-03-01 00:00Z', '2024-03-16 00:00Z', interval '10 min') at
union all values
    ('send-invitations', 'schedule'::job_trigger, 'failed'::job_run_state, 1, '2024-03-01T00:05Z'::timestamptz, false),
    ('send-invitations', 'schedule', 'failed', 1, '2024-03-02T00:05Z', true), -- the last that failed
    ('send-invitations', 'schedule', 'skipped', 40, '2024-03-01T00:07Z', false),
    ('send-invitations', 'schedule', 'skipped', 2, '2024-03-02T00:07Z', true),
    ('send-invitations', 'schedule', 'done', 1, '2025-12-01T10:00Z', true),
    ('weekly-testimonials', 'schedule', 'done', 1, '2023-12-18 00:00Z', false),
    ('weekly-testimonials', 'schedule', 'done', 1, '2023-12-25 00:00Z', true),
    ('weekly-testimonials', 'schedule', 'interrupted', 1, '2024-01-01 00:00Z', true), -- the last occurrence
    ('collect-bounces', 'hand', 'done', 1, '2024-02-01 00:00Z', false),
    ('collect-bounces', 'hand', 'done', 1, '2024-02-02 00:00Z', true),
    ('monday-report', 'schedule', 'done', 1, '2024-02-05 00:00Z', true), -- a letter of it was tried again lately
    ('monday-report', 'schedule', 'done', 1, '2024-02-12 00:00Z', false),
    ('monday-report', 'schedule', 'done', 1, '2024-02-19 00:00Z', true),
    -- For an hour of February 2024 the clock was ahead by 73 years.
    ('send-invitations', 'schedule', 'done', 1, '2097-02-10 00:00Z', true),
    ('send-invitations', 'schedule', 'done', 1, '2097-02-10 00:10Z', true);
insert into job_run (job, trigger, state, n_occurrences, first_for, scheduled_for, started_at, finished_at, owner)
select job, trigger, state, n, case when n > 1 then at - interval '1 min' end, at, began + interval '1 s', began + interval '3 s', 'gone'
from (select *, case when at > '2097-01-01' then at - interval '73 years' else at end as began from run) run order by began;
insert into report_delivery (job_run_id, recipient_hash, job, shops, as_of, state, message_id, begun_at, settled_at)
select job_run_id, '', job, '{}', scheduled_for, 'sent', '', begun_at, begun_at
from job_run join (values ('2024-02-05 00:00Z'::timestamptz, '2025-12-01 00:00Z'::timestamptz), ('2024-02-12 00:00Z', '2024-02-12 00:00Z')) d (at, begun_at)
    on job = 'monday-report' and scheduled_for = at;
";

#[tokio::test(flavor = "multi_thread")]
async fn old_runs_go_and_what_they_say_together_stays() {
    let program = Program::new(&operations::watched(&shipped())).await;
    let mut conn = program.db.pool.acquire().await.unwrap();
    let pool = &program.db.pool;
    sqlx::raw_sql(RUNS).execute(&mut *conn).await.unwrap();
    let figures = async || -> BTreeMap<String, f64> {
        // One that has told nothing yet: what was told is told again for ten seconds.
        let context = program.context(at(NOW)).await;
        let (watch, _watch) = operations::private(&context, at(NOW)).await;
        let url = format!("{watch}/metrics");
        let (_, _, text) = tokio::task::block_in_place(|| operations::asked(&url, Some(operations::TOKEN)));
        let of_runs = ["job_runs", "job_duration", "job_last", "job_lateness"];
        let is_of_runs = |name: &str| of_runs.iter().any(|part| name.contains(part));
        operations::read(&text).into_iter().filter(|(name, _)| is_of_runs(name)).collect()
    };
    let last = || {
        let standings = program.run(&["jobs", "--json"]).expect(0).json();
        let others = standings.as_array().unwrap().iter().filter(|standing| standing["job"] != "purge");
        others.map(|standing| standing["last"].clone()).collect::<Vec<_>>()
    };
    let (before, last_before) = (figures().await, last());
    for (name, n) in [
        ("afterword_job_runs_total{job_name=\"send-invitations\",state=\"done\"}", 15.0 * 144.0 + 2.0 + 2.0),
        ("afterword_job_runs_total{job_name=\"send-invitations\",state=\"skipped\"}", 42.0),
        ("afterword_job_duration_seconds_sum{job_name=\"monday-report\"}", 3.0 * 2.0),
        ("afterword_job_lateness_seconds{job_name=\"send-invitations\"}", 1.0),
    ] {
        assert_eq!(before.get(name), Some(&n), "{name} in {before:?}");
    }

    let expected: i64 =
        sqlx::query_scalar("select count(*) from run where not stays").fetch_one(&mut *conn).await.unwrap();
    assert!(expected > 2_000, "more than one batch");
    let n_rows = "select count(*) from job_run";
    let n_before: i64 = sqlx::query_scalar(n_rows).fetch_one(pool).await.unwrap();
    assert_eq!(purge(&program, &["--dry-run"])["n_runs"], expected);
    assert_eq!(sqlx::query_scalar::<_, i64>(n_rows).fetch_one(pool).await.unwrap(), n_before);
    let done = purge(&program, &[]);
    assert_eq!((&done["n_runs"], &done["n_messages"]), (&Value::from(expected), &Value::from(1)));
    let wrong: Vec<String> = sqlx::query_scalar(
        "select concat_ws(' ', job, state, at, stays) from run left join job_run r using (job, state)
         where r.scheduled_for = at and not stays
         union all
         select concat_ws(' ', job, state, at, stays) from run
         where stays and not exists (select from job_run r where r.job = run.job and r.scheduled_for = run.at)",
    )
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    assert_eq!(wrong, [""; 0]);

    // Its own run is the only one that was added.
    let of_others = |mut figures: BTreeMap<String, f64>| {
        figures.retain(|name, _| !name.contains("\"purge\""));
        figures
    };
    assert_eq!(of_others(figures().await), of_others(before));
    assert_eq!(last(), last_before);
    assert_eq!(purge(&program, &[])["n_runs"], 0);

    // What was interrupted is begun anew in its row, and no figure falls.
    let counted = async |state: &str| {
        figures().await
            [&format!("afterword_job_runs_total{{job_name=\"weekly-testimonials\",state=\"{state}\"}}")]
    };
    let occurrence = Occurrence::Scheduled(at("2024-01-01T00:00:00Z"));
    let hold: Hold = ledger::claim(
        pool,
        "weekly-testimonials",
        occurrence,
        afterword::process::name(),
        Duration::from_secs(60),
    )
    .await
    .unwrap()
    .unwrap();
    assert_eq!(hold.attempt, 2);
    assert_eq!((counted("interrupted").await, counted("done").await), (1.0, 2.0));
    // The clock, which was ahead at the end before and at this beginning, is set back.
    sqlx::raw_sql(
        "update job_run set started_at = clock_timestamp() + interval '1 h' where state = 'running';
         update job_tally set last_at = '2097-01-01' where (job, state) = ('weekly-testimonials', 'done')",
    )
    .execute(pool)
    .await
    .unwrap();
    let took =
        async || figures().await["afterword_job_duration_seconds_sum{job_name=\"weekly-testimonials\"}"];
    let seconds = took().await;
    assert!(ledger::settle(pool, hold, JobRunState::Done, None, None).await.unwrap());
    assert_eq!((counted("interrupted").await, counted("done").await), (1.0, 3.0));
    assert!((took().await - seconds).abs() < 1e-9);
    let (last, ended): (DateTime<Utc>, DateTime<Utc>) = sqlx::query_as(
        "select last_at, finished_at from job_tally t join job_run r on r.job_run_id = t.last_run
         where (t.job, t.state) = ('weekly-testimonials', 'done')",
    )
    .fetch_one(pool)
    .await
    .unwrap();
    assert_eq!(last, ended);
}
