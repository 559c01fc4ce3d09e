//! The report that people look at: of a shop with much, with little and with nothing to tell.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use afterword::config::Config;
use afterword::context::Context;
use afterword::invitations::relay::{self, Admission};
use afterword::jobs::RunOutcome;
use afterword::jobs::ledger::{Occurrence, Refusal};
use afterword::jobs::runner::{self, Outcome};
use afterword::letters::{self, DeliveryState};
use afterword::metrics::report;
use afterword::metrics::window::Window;
use afterword::types::JobRunId;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;
use mail_parser::{MessageParser, MimeHeaders as _};
use scraper::{ElementRef, Html, Selector};
use serde_json::Value;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::support::TestDb;
use crate::support::browser::{self, Browser, DESK, NARROW, PHONE};
use crate::support::config;
use crate::support::factories::{self, at};
use crate::support::program::Program;
use crate::support::smtp::Relay;

const SHOPS: &[config::Shop<'_>] = &[
    ("much", "Maison <Exemple> & fils", "fr", "Europe/Paris"),
    ("little", "Little", "en", "UTC"),
    ("none", "None", "en", "America/Sao_Paulo"),
];

const SURVEYS: &str = r#"
[survey.recommend]
trigger = "fulfilled"
delay = "7d"
recommendation = { question = "recommend", yes = ["yes"] }
[[survey.recommend.question]]
key = "recommend"
type = "recommend"
text = { en = "Would you recommend us?", fr = "Nous recommanderiez-vous ?" }
[[survey.recommend.question]]
key = "rating"
type = "rating"
text = { en = "Overall", fr = "En général" }
[[survey.recommend.question]]
key = "nps"
type = "nps"
text = { en = "How likely?", fr = "Quelle probabilité ?" }
[[survey.recommend.question]]
key = "topic"
type = "choice"
choices = ["delivery", "product", { key = "price", text = { en = "The price <&>", fr = "Le prix <&>" } }]
text = { en = "What went wrong?", fr = "Qu’est-ce qui n’allait pas ?" }
[[survey.recommend.question]]
key = "comment"
type = "text"
text = { en = "Tell us", fr = "Dites-nous" }
"#;

fn jobs_toml() -> String {
    config::jobs_toml(SHOPS, SURVEYS)
}

/// The moment of all reports here.
const AS_OF: &str = "2026-06-03T10:00:00Z";

/// So many orders of two years with what followed them, the same in every run: nine of ten recommend, and fewer in the last weeks.
async fn fill(pool: &PgPool, key: &str, orders: i32) {
    let shop = factories::shop(pool, key).await;
    let version = factories::survey_version(pool, shop, factories::SURVEY).await;
    let fill = r#"
        create function pg_temp.dice(n int, salt int) returns float8 language sql immutable
            as $$ select (hashint4(n * 31 + salt * 7919) & 2147483647) / 2147483648.0 $$;
        insert into customer (shop_id, email, email_key)
            select SHOP, 'c' || n || '@shop.example', 'c' || n || '@shop.example' from generate_series(1, greatest(ORDERS / 2, 1)) n;
        insert into "order" (shop_id, external_id, customer_id, ordered_at, fulfilled_at, status, total, currency, items, locale, country,
                             attributes, import_run_id, imported_at, updated_at)
            select SHOP, 'A-' || n, c.customer_id, t, t + interval '2 days',
                   case when pg_temp.dice(n, 9) < 0.03 then 'cancelled' else 'fulfilled' end::order_status, 4990, 'EUR', '{P-1}', 'fr', 'FR', '{}', 1, t, t
            from generate_series(1, ORDERS) n
            cross join lateral (select timestamptz '2024-06-05 08:00Z' + interval '727 days' * (n::float8 / ORDERS) as t) m
            join customer c on c.shop_id = SHOP and c.email_key = 'c' || (1 + floor(pg_temp.dice(n, 1) ^ 1.6 * greatest(ORDERS / 2, 1)))::int || '@shop.example';
        insert into invitation (shop_id, order_id, customer_id, survey, wave, survey_version_id, state, due_at, decided_at, next_attempt_at,
                                attempts, message_id, sent_at)
            select shop_id, order_id, customer_id, 'recommend', 0, VERSION, 'sent', t, t, t, 1, '<' || shop_id || '.' || order_id || '@shop.example>', t
            from "order" cross join lateral (select fulfilled_at + interval '7 days' as t) m
            where shop_id = SHOP and status = 'fulfilled' and fulfilled_at + interval '7 days' < '2026-06-03';
        insert into response (shop_id, order_id, survey, survey_version_id, invitation_id, revision, counted, via, verdict, locale,
                              answered_at, received_at, consent_version)
            select shop_id, order_id, 'recommend', VERSION, invitation_id, 1, true, 'page', 'human', 'fr', t, t,
                   case when pg_temp.dice(order_id::int, 3) < 0.5 then '2026-01' end
            from invitation cross join lateral (select sent_at + interval '1 day' as t) m
            where shop_id = SHOP and sent_at < '2026-06-02' and pg_temp.dice(order_id::int, 2) < 0.38;
        create temp table said as
            select response_id, order_id::int as n,
                   pg_temp.dice(order_id::int, 4) < case when answered_at > '2026-02-10' then 0.72 else 0.9 end as yes
            from response where shop_id = SHOP;
        insert into answer (shop_id, response_id, question, score, choice, body)
            select SHOP, response_id, 'recommend', null::int, case when yes then 'yes' else 'no' end, null from said
            union all
            select SHOP, response_id, 'rating', case when yes then 4 + (n % 2) else 1 + n % 3 end, null, null from said
            union all
            select SHOP, response_id, 'nps', case when yes then 8 + (n % 3) else n % 7 end, null, null from said
            union all
            select SHOP, response_id, 'topic', null, case when n % 3 = 0 then 'product' when n % 7 = 1 then 'price' else 'delivery' end, null from said where not yes
            union all
            select SHOP, response_id, 'comment', null, null, 'Well.' from said where pg_temp.dice(n, 5) < 0.6;
        drop table said;
        drop function pg_temp.dice;
    "#;
    let fill = fill
        .replace("ORDERS", &orders.to_string())
        .replace("SHOP", &shop.0.to_string())
        .replace("VERSION", &version.0.to_string());
    if orders > 0 {
        sqlx::raw_sql(sqlx::AssertSqlSafe(fill)).execute(pool).await.unwrap();
        // As the database does by itself a minute after an import; without, its plans are those for empty tables.
        sqlx::raw_sql("analyze").execute(pool).await.unwrap();
    }
}

async fn ratings(pool: &PgPool, key: &str) {
    let shop = factories::shop(pool, key).await;
    let sql = "insert into rating (shop_id, source, rated_on, score, scale, ratings, imported_at, updated_at)
               select $1, source, day::date, high - 0.1 * (n % 5) - case when n > 90 then 0.3 else 0 end, 10, 1000 + 12 * n, day, day
               from generate_series(0, 103) n, (values ('fianet', 9.7), ('other guide', 9.1)) s (source, high),
                    lateral (select timestamptz '2024-06-06' + n * interval '7 days' as day) d";
    sqlx::query(sql).bind(shop).execute(pool).await.unwrap();
}

/// The three shops.
async fn program() -> Program {
    let program = Program::new(&jobs_toml()).await;
    fill(&program.db.pool, "much", 4000).await;
    ratings(&program.db.pool, "much").await;
    fill(&program.db.pool, "little", 9).await;
    program
}

/// Writes the page and gives it back.
fn page(program: &Program, args: &[&str]) -> String {
    let all = [&["--as-of", AS_OF, "report", "--html", "report.html"][..], args].concat();
    program.run(&all).expect(0);
    std::fs::read_to_string(program.path("report.html")).unwrap()
}

fn all<'a>(of: ElementRef<'a>, css: &str) -> Vec<ElementRef<'a>> {
    let selector = Selector::parse(css).unwrap();
    of.select(&selector).collect()
}

fn text(element: ElementRef<'_>) -> String {
    element.text().collect::<String>().trim().to_owned()
}

/// What holds of every page, whatever is in it.
#[track_caller]
fn check_page(page: &str, language: &str) -> Html {
    let html = Html::parse_document(page);
    assert_eq!(html.errors, Vec::<String>::new(), "the page is no valid HTML");
    let root = html.root_element();
    assert_eq!(root.value().attr("lang"), Some(language));
    for foreign in ["<script", "http://", "https://", "url(\"", "@import", "{{", "style=", "<img", "<link"] {
        assert!(!page.contains(foreign), "{foreign} in the page");
    }
    // A wording whose value is missing would show its name.
    let body = all(root, "body")[0];
    assert!(!body.text().any(|text| text.contains('{')), "a value is missing");
    let ids: Vec<_> = all(root, "[id]").iter().map(|element| element.value().attr("id").unwrap()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "an id is there twice");
    for svg in all(root, "svg") {
        let [title, desc] = ["title", "desc"].map(|css| all(svg, css)[0]);
        assert!(!text(title).is_empty() && !text(desc).is_empty(), "{}", svg.html());
        let named = format!("{} {}", title.value().attr("id").unwrap(), desc.value().attr("id").unwrap());
        assert_eq!(svg.value().attr("aria-labelledby"), Some(named.as_str()));
        // The numbers behind it: of its figure, of its section, or of the row it stands in.
        let has_table = svg.ancestors().filter_map(ElementRef::wrap).any(|around| {
            matches!(around.value().name(), "figure" | "section" | "tr") && !all(around, "data").is_empty()
                || around.value().name() == "tr"
        }) || svg
            .ancestors()
            .filter_map(ElementRef::wrap)
            .any(|around| around.value().name() == "section" && !all(around, "details table").is_empty());
        assert!(has_table, "no table behind {}", text(title));
        for number in svg.html().split(|c: char| !c.is_ascii_alphanumeric()) {
            assert!(!["NaN", "inf"].contains(&number), "{}", svg.html());
        }
    }
    html
}

/// The rows of the table behind a figure: what the row is, and the numbers in it.
fn table(html: &Html, svg: &str) -> Vec<(String, Vec<Option<f64>>)> {
    let svg = Selector::parse(&format!("figure svg[aria-labelledby='{svg}-t {svg}-d']")).unwrap();
    let svg = html.select(&svg).next().unwrap_or_else(|| panic!("no such drawing"));
    let figure = svg.ancestors().filter_map(ElementRef::wrap).find(|e| e.value().name() == "figure").unwrap();
    rows(all(figure, "details table")[0])
}

fn rows(table: ElementRef<'_>) -> Vec<(String, Vec<Option<f64>>)> {
    let number = |cell: ElementRef<'_>| {
        all(cell, "data").first().map(|data| rounded(data.value().attr("value").unwrap().parse().unwrap()))
    };
    let row =
        |row: ElementRef<'_>| (text(all(row, "th")[0]), all(row, "td").into_iter().map(number).collect());
    all(table, "tbody tr").into_iter().map(row).collect()
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64().map(rounded)
}

/// Reading JSON may be off by the last digit.
fn rounded(value: f64) -> f64 {
    (1e12 * value).round() / 1e12
}

#[tokio::test(flavor = "multi_thread")]
async fn the_numbers_of_the_page_are_those_of_the_report() {
    let program = program().await;
    let page = page(&program, &["--shop", "much"]);
    let html = check_page(&page, "fr");
    let json =
        ["--as-of", AS_OF, "report", "--shop", "much", "--by", "month", "--loyalty", "--funnel", "--json"];
    let report = program.run(&json).expect(0).json()["shops"][0].take();

    // The headlines.
    let headlines = Selector::parse(".headlines details table").unwrap();
    let headlines = rows(html.select(&headlines).next().unwrap());
    let metrics = report["metrics"].as_object().unwrap();
    assert_eq!(headlines.len(), metrics.len());
    for metric in afterword::metrics::METRICS {
        let figure = &metrics[metric.key];
        let expected =
            ["value", "ci_low", "ci_high", "numerator", "denominator"].map(|key| number(&figure[key]));
        assert!(headlines.iter().any(|(_, row)| *row == expected), "{}: {expected:?}", metric.key);
        // The course of it, month by month.
        let course = table(&html, &format!("s1-{}", metric.key.replace('_', "-")));
        let points = report["series"]["points"].as_array().unwrap();
        assert_eq!(course.len(), points.len());
        for ((period, row), point) in course.iter().zip(points) {
            let measure = &point["metrics"][metric.key];
            let expected =
                ["value", "ci_low", "ci_high", "numerator", "denominator"].map(|key| number(&measure[key]));
            assert_eq!(row[..5], expected, "{} in {period}", metric.key);
        }
    }
    // What rises by itself has no usual level; the others have one.
    let told = page.split("Niveau habituel").skip(1);
    let n_levels = told.filter(|rest| rest.trim_start().starts_with(':')).count();
    assert_eq!((n_levels, page.matches("Il n’a pas de niveau habituel").count()), (metrics.len() - 1, 1));
    // Volumes, scores, cohorts, funnel.
    for (key, volume) in
        [("orders", "orders"), ("mails", "mails_sent"), ("answers", "answers"), ("comments", "comments")]
    {
        let shown: Vec<_> = table(&html, &format!("s1-volume-{key}")).iter().map(|(_, row)| row[0]).collect();
        let points = report["series"]["points"].as_array().unwrap();
        let expected: Vec<_> = points.iter().map(|point| number(&point["volumes"][volume])).collect();
        assert_eq!(shown, expected, "{key}");
        assert!(shown.iter().flatten().sum::<f64>() > 0.0);
    }
    let scores: Vec<_> = table(&html, "s1-score-other-guide").iter().map(|(_, row)| row[0]).collect();
    let points = report["series"]["points"].as_array().unwrap();
    let expected: Vec<_> =
        points.iter().map(|point| number(&point["third_party_scores"]["other guide"]["score"])).collect();
    assert_eq!(scores, expected);
    let cohorts = table(&html, "s1-cohorts");
    let expected = report["loyalty"]["cohorts"].as_array().unwrap();
    for ((_, row), cohort) in cohorts.iter().zip(expected) {
        let customers = number(&cohort["customers"]);
        assert_eq!(row[0], customers);
        let again = cohort["ordered_again"].as_array().unwrap().iter();
        for (shown, again) in row[1..].iter().zip(again) {
            assert_eq!(*shown, number(again).map(|again| rounded(again / customers.unwrap())));
        }
    }
    // May is over, and so its customers were watched to its end; nobody knows about June yet.
    let (_, last) = cohorts.last().unwrap();
    assert!(last[1].is_some() && last[2..].iter().all(Option::is_none), "{last:?}");
    let funnel: Vec<_> = table(&html, "s1-funnel").iter().map(|(_, row)| row[0]).collect();
    let steps = ["orders", "due", "sent", "delivered", "answered", "commented", "consented"];
    assert_eq!(funnel, steps.map(|step| number(&report["funnel"][step])));
    let topics = table(&html, "s1-topics");
    let expected: f64 = points
        .iter()
        .flat_map(|point| point["topics"].as_array().unwrap())
        .map(|topic| topic["n"].as_f64().unwrap())
        .sum();
    assert_eq!(topics.iter().map(|(_, row)| row[1].unwrap()).sum::<f64>(), expected);
    assert_eq!(topics[0].0, "La livraison");
    assert!(page.contains("Le prix &lt;&amp;&gt;"), "an answer of the survey in its own words");

    // The answers of the last months are worse, and the page says so in words.
    let remarks = Selector::parse("#s1 .remarks li").unwrap();
    assert!(html.select(&remarks).any(|remark| text(remark).contains("plus bas")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_with_little_and_with_nothing_is_whole() {
    let program = program().await;
    let little = page(&program, &["--shop", "little"]);
    let html = check_page(&little, "en");
    assert!(little.contains("Too few answers to say"), "{little}");
    assert!(little.contains("nobody can say yet what is ordinary"));
    assert!(all(html.root_element(), "svg.line-chart").len() >= 3);
    let none = page(&program, &["--shop", "none"]);
    let html = check_page(&none, "en");
    assert_eq!(all(html.root_element(), "svg").len(), 0);
    assert!(none.contains("Nothing to say yet") && none.contains("There is nothing to show here yet."));
    // All of them, one after the other, in another language; a window; as it was before anything was.
    let three = check_page(&page(&program, &["--locale", "fr"]), "fr");
    assert_eq!(all(three.root_element(), "article").len(), 3);
    assert_eq!(all(three.root_element(), "nav a").len(), 3);
    let window = ["--shop", "much", "--from", "2025-12-01", "--to", "2026-06-01", "--locale", "en"];
    let page = page(&program, &window);
    check_page(&page, "en");
    assert!(page.contains("from 1\u{a0}December 2025 to before 1\u{a0}June 2026"));
    let before = "Against the period before, from 2\u{a0}June 2025 to before 1\u{a0}December 2025";
    assert!(page.contains(before));
    program.run(&["--as-of", "2020-01-01", "report", "--html", "early.html", "--locale", "de"]).expect(0);
    check_page(&std::fs::read_to_string(program.path("early.html")).unwrap(), "en");
    program.run(&["report", "--locale", "fr"]).expect(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_is_told_against_what_the_figures_are_compared_with() {
    let program = program().await;
    // Two days and ten hours of June are not held against thirty days.
    let june = ["--shop", "much", "--from", "2026-06-01", "--to", "2026-07-01"];
    let page = page(&program, &[&june[..], &["--locale", "en"]].concat());
    let told = text(check_page(&page, "en").root_element());
    assert!(
        told.contains("Against the period before, from 1\u{a0}May 2026 to before 3\u{a0}May 2026"),
        "{told}"
    );
    let json = [&["--as-of", AS_OF, "report", "--json"][..], &june].concat();
    let report = program.run(&json).expect(0).json()["shops"][0].take();
    let counted = ["recommendation_rate", "response_rate", "repeat_customer_ratio"].map(|key| {
        let figure = &report["metrics"][key];
        [&figure["denominator"], &figure["certainty"]["before"]["denominator"]].map(|n| n.as_i64().unwrap())
    });
    let expected: Vec<_> = counted.iter().filter(|[now, then]| now != then).map(|[_, then]| *then).collect();
    let volumes = told.split(" instead of ").skip(1);
    let volumes = volumes.map(|rest| rest.split([',', '.', ' ']).next().unwrap().parse::<i64>().unwrap());
    assert_eq!(volumes.collect::<Vec<_>>(), expected);
    assert!(!expected.is_empty() && expected.iter().all(|n| *n < 50), "{expected:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_has_the_signals_that_are_new() {
    let program = program().await;
    let of = |args: &[&str]| {
        let page = page(&program, &[&["--shop", "much", "--locale", "en"], args].concat());
        let html = check_page(&page, "en");
        let told = text(html.root_element());
        let n_explained = all(html.root_element(), ".remarks li").len();
        let earlier = told.split("Earlier signals, not explained here: ").skip(1);
        let digits =
            |rest: &str| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse::<usize>().unwrap();
        let n_hidden: usize = earlier.map(digits).sum();
        (told, n_explained, n_hidden)
    };
    // In the week since the report it is compared with, no month has ended that is out of the ordinary.
    let (told, n_explained, _) = of(&[]);
    assert!(told.contains("Against the same report a week ago") && n_explained > 0, "{told}");
    assert!(!told.contains("out of the ordinary; "), "{told}");
    // In a window that is compared with the one before, all are new.
    let (told, n_explained, n_hidden) = of(&["--from", "2025-12-01", "--to", "2026-06-01"]);
    let n = n_explained + n_hidden;
    let are_explained = if n_hidden == 0 { "they".to_owned() } else { format!("{n_explained} of them") };
    let expected = format!("{n} signals are out of the ordinary; {are_explained} are explained below.");
    assert!(n > 1 && told.contains(&expected), "{expected} {told}");
}

/// What axe-core finds, without the contrasts that it cannot decide because something is drawn there; the colours of the stylesheet are
/// measured by a test of its own.
fn found(browser: &Browser) -> Vec<String> {
    let is_undecided = |line: &String| line.starts_with("incomplete \"color-contrast\"");
    browser.axe().unwrap_or_default().into_iter().filter(|line| !is_undecided(line)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_looks_right_and_can_be_read_by_everybody() {
    let Some(browser) = Browser::start(DESK) else { return };
    let program = program().await;
    let windows: [(&str, &[&str]); 3] = [
        ("report-months", &["--shop", "much"]),
        ("report-weeks", &["--shop", "much", "--from", "2025-12-01", "--to", "2026-06-01", "--locale", "en"]),
        ("report-three", &["--locale", "en"]),
    ];
    for (name, args) in windows {
        let written = page(&program, args);
        browser::keep(&format!("{name}.html"), written.as_bytes());
        browser.open(&format!("file://{}", program.path("report.html").display()));
        browser.requests();
        for screen in [DESK, PHONE, NARROW] {
            browser.resize(screen);
            let fits = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth";
            assert_eq!(browser.script(fits), true, "{name} on {} is too wide", screen.name);
            for scheme in ["light", "dark"] {
                browser.prefers(&[("prefers-color-scheme", scheme)]);
                browser.picture(&format!("{name}-{}-{scheme}", screen.name));
                assert_eq!(found(&browser), Vec::<String>::new(), "{name} on {}, {scheme}", screen.name);
            }
        }
        browser.prefers(&[]);
        browser.print(name);
        // With all tables open, too.
        browser.script("document.querySelectorAll('details').forEach(d => d.open = true)");
        assert_eq!(found(&browser), Vec::<String>::new(), "{name} with its tables");
        assert_eq!(browser.requests(), Vec::<String>::new(), "{name} asks for something");
    }
}

/// The configuration with a job that sends the report to these.
fn with_job(to: &str, transport: &str) -> String {
    let job = format!(
        "\n[jobs.monday-report]\nkind = \"send_report\"\nschedule = \"0 8 * * 1\"\ntimezone = \"Europe/Paris\"\n\
         [jobs.monday-report.params]\nto = [{to}]\nshop = \"much\"\nwindow = \"182d\"\n"
    );
    jobs_toml().replace("transport = \"file\"\n", transport) + &job
}

async fn deliveries(program: &Program) -> Vec<(i64, DeliveryState)> {
    sqlx::query_as("select job_run_id, state from report_delivery order by begun_at, state")
        .fetch_all(&program.db.pool)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_is_mailed_once_for_each_occurrence() {
    let relay = Relay::start();
    let smtp = config::smtp(relay.port);
    let to = r#""team@much.example", "nobody@much.example", "vanish@much.example""#;
    let program = Program::new(&with_job(to, &smtp)).await;
    fill(&program.db.pool, "much", 400).await;
    let now = at("2026-06-01T06:00:00Z");
    let context = program.context(now).await;
    let job = context.config.jobs.iter().find(|job| job.name == "monday-report").unwrap();
    let run = async |occurrence| {
        runner::run_occurrence(&context, job, occurrence, false, &CancellationToken::new()).await.unwrap()
    };
    let Outcome::Ended(report) = run(Occurrence::Scheduled(now)).await else { panic!("it did not end") };
    assert_eq!(report.outcome, RunOutcome::Partial);
    assert_eq!(report.text, "1 of 3 addresses mailed, 1 failed, 1 unknown");
    let states: BTreeSet<_> =
        deliveries(&program).await.into_iter().map(|(_, state)| format!("{state:?}")).collect();
    assert_eq!(states, ["Failed", "Sent", "Unknown"].map(str::to_owned).into());
    // The same occurrence again, as another instance would: nobody gets anything.
    let accepted = relay.accepted().len();
    assert!(matches!(run(Occurrence::Scheduled(now)).await, Outcome::Refused(Refusal::Taken)));
    assert_eq!(relay.accepted().len(), accepted);

    // What a run has sent, or may have sent, it does not send again, even if it were to try.
    let (id, _) = deliveries(&program).await[0];
    let id = JobRunId(id);
    let shops = context.shops.named(Some("much")).unwrap();
    let window = Window { from: "2025-12-01".parse().ok(), to: "2026-06-01".parse().ok() };
    let contents =
        report::gather(&context, &shops, report::Scope { window, ..report::Scope::default() }, now)
            .await
            .unwrap();
    let shop = context.config.shop("much").unwrap();
    let letter = report::letter(&contents, &context, shop, &shop.locale, "monday-report").unwrap();
    let to = ["TEAM@much.example", "vanish@much.example"].map(|to| to.parse().unwrap());
    let again = letters::deliver(&context, shop, &letter, id, &to, &CancellationToken::new()).await.unwrap();
    assert_eq!((again.n_sent, again.n_left), (0, 2));
    assert_eq!(relay.accepted().len(), accepted);

    // The mail.
    let mails = relay.accepted();
    let mail = mails.iter().find(|mail| mail.to.contains("team@")).unwrap();
    let message = MessageParser::default().parse(&mail.message).unwrap();
    assert_eq!(message.subject(), Some("Ce que disent les clients : Maison <Exemple> & fils"));
    let html = message.body_html(0).unwrap();
    let words = message.body_text(0).unwrap();
    let shown = context_figure(&contents);
    assert!(html.contains(&shown) && words.contains(&shown), "{shown} in {words}");
    assert!(!html.contains("<img") && !html.contains("<script"));
    let attached = message.attachment(0).unwrap();
    assert_eq!(attached.attachment_name(), Some("afterword-2026-06-01.html"));
    check_page(attached.text_contents().unwrap(), "fr");

    // A dry run sends nothing.
    let dry = program.run(&["--as-of", AS_OF, "run", "monday-report", "--dry-run"]).expect(0);
    let told = dry.stdout + &dry.stderr;
    assert!(told.contains("would mail the report to 3 addresses"), "{told}");
    assert_eq!(relay.accepted().len(), accepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_goes_to_whom_notify_names_as_soon_as_the_relay_works() {
    let relay = Relay::start();
    let smtp = config::smtp(relay.port);
    let config = with_job("", &smtp).replace("to = []\n", "") + "\n[notify]\nto = [\"team@much.example\"]\n";
    let nobody = config.replace("[\"team@much.example\"]", "[]");
    let told = format!("{:?}", Config::parse(Path::new("jobs.toml"), &nobody).unwrap_err());
    assert!(told.contains("neither `to` nor `[notify] to` names anybody"), "{told}");
    let program = Program::new(&config).await;
    fill(&program.db.pool, "much", 40).await;
    let now = at("2026-06-01T06:00:00Z");
    let context = |patience| {
        let program = &program;
        async move {
            let context = program.context(now).await;
            let mut config = (*context.config).clone();
            config.notify.patience = patience;
            Context { config: Arc::new(config), ..context }
        }
    };
    let run = async |context: &Context| {
        let job = context.config.jobs.iter().find(|job| job.name == "monday-report").unwrap();
        let ended =
            runner::run_occurrence(context, job, Occurrence::ByHand, false, &CancellationToken::new()).await;
        let Outcome::Ended(report) = ended.unwrap() else { panic!("it did not end") };
        report
    };
    // The breaker is open: nobody knocks, and the run says why.
    let impatient = context(Duration::ZERO).await;
    let name = relay::name(&impatient.config.mail.transport);
    relay::at_fault(&program.db.pool, &name, "connect: refused", true, false, now).await.unwrap();
    let report = run(&impatient).await;
    assert_eq!(report.outcome, RunOutcome::Partial);
    let said = "0 of 1 address mailed, 1 left; the relay has been failing since 2026-06-01 06:00 UTC";
    assert!(report.text.starts_with(said), "{}", report.text);
    assert_eq!((relay.n_accepted(), deliveries(&program).await.len()), (0, 0));
    // Who is patient waits until the relay may be tried, and closes the breaker for all.
    sqlx::query("update relay set next_probe_at = $1")
        .bind(now + TimeDelta::seconds(2))
        .execute(&program.db.pool)
        .await
        .unwrap();
    let patient = context(Duration::from_secs(20)).await;
    assert_eq!(run(&patient).await.text, "1 of 1 address mailed");
    assert_eq!(relay.accepted()[0].to, "team@much.example");
    let known = relay::admit(&program.db.pool, &name, false, now).await.unwrap();
    assert_eq!((known.admission, known.has_faults), (Admission::Open, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_relay_did_not_take_is_tried_again_and_sent_once() {
    let relay = Relay::start();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let program = Program::new(&with_job("\"team@much.example\"", &config::smtp(gone))).await;
    fill(&program.db.pool, "much", 40).await;
    let now = at("2026-06-01T06:00:00Z");
    let deliver = async |port: u16| {
        program.configure(&with_job("\"team@much.example\"", &config::smtp(port)));
        let context = program.context(now).await;
        let mut config = (*context.config).clone();
        config.notify.patience = Duration::ZERO;
        let context = Context { config: Arc::new(config), ..context };
        let shops = context.shops.named(Some("much")).unwrap();
        let contents = report::gather(&context, &shops, report::Scope::default(), now).await.unwrap();
        let shop = context.config.shop("much").unwrap();
        let letter = report::letter(&contents, &context, shop, &shop.locale, "monday-report").unwrap();
        let to = ["team@much.example".parse().unwrap()];
        let stop = CancellationToken::new();
        letters::deliver(&context, shop, &letter, JobRunId(1), &to, &stop).await.unwrap()
    };
    let tried = deliver(gone).await;
    assert_eq!((tried.n_failed, tried.n_left), (1, 0));
    assert_eq!(deliveries(&program).await, [(1, DeliveryState::Failed)]);
    assert_eq!(deliver(relay.port).await.n_sent, 1);
    assert_eq!(deliver(relay.port).await.n_left, 1);
    assert_eq!(deliveries(&program).await, [(1, DeliveryState::Sent)]);
    assert_eq!(relay.n_accepted(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_is_what_the_last_report_did_not_say() {
    let relay = Relay::start();
    let smtp = config::smtp(relay.port);
    let program = Program::new(&with_job("\"team@much.example\"", &smtp)).await;
    fill(&program.db.pool, "much", 1500).await;
    let monday = async |now: &str| {
        program.run(&["--as-of", now, "run", "monday-report"]).expect(0);
        let mail = relay.accepted().pop().unwrap();
        let message = MessageParser::default().parse(&mail.message).unwrap();
        browser::keep("report-monday.html", message.body_html(0).unwrap().as_bytes());
        message
            .body_text(0)
            .unwrap()
            .replace(['\u{a0}', '\u{202f}'], " ")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    let first = monday("2026-05-18T06:00:00Z").await;
    assert!(first.contains("Par rapport à la période précédente, du "), "there was none before: {first}");
    // A Monday was left out.
    let second = monday("2026-06-01T06:00:00Z").await;
    assert!(second.contains("Depuis le dernier rapport envoyé (18 mai 2026"), "{second}");
    // What it was is what the mail of that day says it is.
    let said: Vec<_> = second
        .split(" → ")
        .map(|before| before.rsplit(|c: char| c.is_alphabetic()).next().unwrap().trim())
        .collect();
    let said = &said[..said.len() - 1];
    assert!(!said.is_empty(), "{second}");
    for then in said {
        assert!(first.contains(then), "{then} of {second} in {first}");
    }
    // Who asks by hand for everything is told against the same report; another shop was in none.
    let check = |shop: &str, heading: &str| {
        let page = page(&program, &["--shop", shop, "--locale", "en"]);
        assert!(page.contains(heading), "{shop}");
    };
    check("much", "Since the last report that was mailed (1\u{a0}June 2026");
    check("little", "Against the same report a week ago (27\u{a0}May 2026");
}

/// The recommendation rate as the page writes it in French.
fn context_figure(contents: &report::Contents) -> String {
    let figure = contents.report.shops[0].metrics.get("recommendation_rate").unwrap();
    format!("{:.1}\u{202f}%", 100.0 * figure.value.unwrap()).replace('.', ",")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_the_report_does_not() {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (public, private) = (free(), free());
    let (team, other, idle) = ("t".repeat(32), "o".repeat(40), "i".repeat(32));
    let access = format!(
        "\n[[access]]\nname = \"team\"\ntoken = \"{team}\"\nallow = [\"report\"]\n\
         [[access]]\nname = \"other\"\ntoken_file = \"token\"\nallow = [\"report\"]\nshops = [\"little\"]\n\
         [[access]]\nname = \"idle\"\ntoken = \"{idle}\"\nallow = []\n"
    );
    let listen = format!("listen = \"{public}\"\nprivate_listen = \"{private}\"\n[database]");
    let dir_token = format!("{other}\n");
    let config = jobs_toml().replace("[database]", &listen) + &access;
    // The token's file must be there before the configuration is read.
    let program =
        Program::new(&config.replace("token_file = \"token\"", &format!("token = \"{other}\""))).await;
    program.write_secret("token", dir_token);
    program.configure(&config);
    fill(&program.db.pool, "little", 5).await;
    let server = program.serve("private pages on");
    let get = |path: &str, authorization: Option<&str>| {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let request = agent.get(&format!("http://{private}{path}"));
        let request = match authorization {
            Some(shown) => request.header("authorization", shown),
            None => request,
        };
        let mut response = request.call().unwrap();
        let header = |name: &str| {
            response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        let headers =
            ["www-authenticate", "content-security-policy", "cache-control", "x-frame-options"].map(header);
        (response.status().as_u16(), headers, response.body_mut().read_to_string().unwrap())
    };
    let basic = |name: &str, token: &str| format!("Basic {}", STANDARD.encode(format!("{name}:{token}")));
    // Without a token, with a wrong one, with somebody else's name.
    for shown in [None, Some(basic("team", "wrong")), Some(basic("other", &team)), Some("Bearer ".to_owned())]
    {
        let (status, [wanted, ..], body) = get("/report", shown.as_deref());
        assert_eq!(status, 401, "{shown:?}");
        assert!(wanted.starts_with("Basic realm="), "{wanted}");
        assert!(!body.contains("Little"));
    }
    // Somebody known, who may not.
    assert_eq!(get("/report?shop=much", Some(&basic("other", &other))).0, 403);
    assert_eq!(get("/report", Some(&format!("Bearer {idle}"))).0, 403);
    assert_eq!(get("/report?shop=nowhere", Some(&basic("team", &team))).0, 403);
    // Somebody who may: only their shops, under a policy that knows the stylesheet and nothing else.
    let (status, [_, policy, cached, framed], page) = get("/report", Some(&format!("Bearer {other}")));
    assert_eq!((status, cached.as_str(), framed.as_str()), (200, "no-store", "DENY"));
    let html = check_page(&page, "en");
    assert_eq!(all(html.root_element(), "article").len(), 1);
    let style = all(html.root_element(), "style")[0].text().collect::<String>();
    let digest = STANDARD.encode(ring::digest::digest(&ring::digest::SHA256, style.as_bytes()));
    assert!(
        policy.contains("default-src 'none'") && policy.contains(&format!("style-src 'sha256-{digest}'")),
        "{policy}"
    );
    let query = "/report?shop=little&from=2025-01-01&to=2026-01-01&as-of=2026-03-01T00:00:00Z&locale=fr";
    let (status, _, page) = get(query, Some(&basic("team", &team)));
    assert_eq!(status, 200);
    check_page(&page, "fr");
    // What makes no sense is said, and nothing else is there.
    for wrong in ["from=yesterday", "from=2026-02-01&to=2026-01-01", "shpo=little", "locale=%00"] {
        assert_eq!(get(&format!("/report?{wrong}"), Some(&basic("team", &team))).0, 400, "{wrong}");
    }
    assert_eq!(get("/s/anything", Some(&basic("team", &team))).0, 404);
    let on_public = crate::support::http::get(&format!("http://{public}/report"));
    assert_eq!(on_public.status, 404);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn what_is_wrong_with_an_access_is_said() {
    let check = |change: &str, problem: &str| {
        let text = jobs_toml().replace("[database]", "private_listen = \"127.0.0.1:0\"\n[database]") + change;
        let error = Config::parse(Path::new("jobs.toml"), &text).unwrap_err();
        let told = format!("{:?}", miette::Report::new(error));
        assert!(told.contains(problem), "{problem} in:\n{told}");
    };
    let access = |rest: &str| format!("\n[[access]]\nname = \"team\"\nallow = [\"report\"]\n{rest}\n");
    check("", "nobody may use the private pages");
    check(&access(""), "an access needs a `token_file`");
    check(&access("token = \"short\""), "32 characters or more");
    let good = access(&format!("token = \"{}\"", "t".repeat(32)));
    check(&format!("{good}{good}"), "stands here twice");
    check(&access(&format!("token = \"{}\"\nshops = [\"mcuh\"]", "t".repeat(32))), "did you mean `much`?");
    check(&good.replace("[\"report\"]", "[\"reprot\"]"), "reprot");
    let whole = jobs_toml().replace("[database]", "private_listen = \"127.0.0.1:0\"\n[database]") + &good;
    let config = Config::parse(Path::new("jobs.toml"), &whole).unwrap();
    assert!(!format!("{config:?}").contains(&"t".repeat(32)), "a token is shown");
}

#[tokio::test]
async fn the_states_of_a_delivery_are_those_of_the_database() {
    let db = TestDb::new().await;
    let states: Vec<DeliveryState> =
        sqlx::query_scalar("select unnest(enum_range(null::report_delivery_state))")
            .fetch_all(&db.pool)
            .await
            .unwrap();
    let known = [DeliveryState::InData, DeliveryState::Sent, DeliveryState::Failed, DeliveryState::Unknown];
    assert_eq!(states, known);
}
