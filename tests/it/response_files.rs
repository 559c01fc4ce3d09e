//! [3] Answers of other tools: files into a real database.

use std::path::Path;
use std::time::Duration;

use afterword::config::Config;
use afterword::import::ImportError;
use afterword::import::run::{Destination, ImportOptions, ImportReport, Waited};
use afterword::responses::import::format::RESPONSE_FORMATS;
use afterword::responses::import::{Asked, aside, import_responses};
use afterword::types::{Clock, ShopId};
use tempfile::TempDir;

use crate::support::program::{Program, shipped};
use crate::support::{TestDb, data_dir, factories, factories::at};

const JOBS_TOML: &str = r#"
[app]
base_url = "http://127.0.0.1:8080"
listen = "127.0.0.1:8080"
data_dir = "./data"

[mail]
transport = "file"

[[shop]]
key = "maison"
name = "Maison Exemple"
locale = "fr"
timezone = "Europe/Paris"
from = "Maison Exemple <avis@maison.example>"
url = "https://maison.example"

[response_format.tool]
survey = "other"
[response_format.tool.columns]
order_id = "Commande"
answered_at = "Le"
[response_format.tool.answers]
overall = "Note"

[survey.satisfaction]
mailed = false
recommendation = { question = "recommend", yes = ["yes"] }
[[survey.satisfaction.question]]
key = "recommend"
type = "recommend"
text = { en = "Would you recommend us?" }
[[survey.satisfaction.question]]
key = "overall"
type = "rating"
text = { en = "Your rating" }
[[survey.satisfaction.question]]
key = "likely"
type = "nps"
text = { en = "How likely?" }
[[survey.satisfaction.question]]
key = "topic"
type = "choice"
choices = ["contact", "delivery"]
text = { en = "What went wrong?" }
[[survey.satisfaction.question]]
key = "comment"
type = "text"
max_length = 40
text = { en = "Tell us more" }
[[survey.satisfaction.question]]
key = "publish"
type = "consent"
version = "2026-11"
text = { en = "You may publish my words" }

[survey.other]
mailed = false
[[survey.other.question]]
key = "overall"
type = "rating"
text = { en = "Your rating" }
"#;

struct Shop {
    db: TestDb,
    id: ShopId,
    dir: TempDir,
    config: Config,
}

impl Shop {
    /// With the orders A-1 and A-2 of one customer and B-1 of another.
    async fn new() -> Self {
        let db = TestDb::new().await;
        let id = factories::shop(&db.pool, "maison").await;
        let claire = factories::customer(&db.pool, id, "claire@customer.example").await;
        let tom = factories::customer(&db.pool, id, "tom@customer.example").await;
        for (customer, order, ordered_at) in [
            (claire, "A-1", "2026-03-01T09:00:00Z"),
            (claire, "A-2", "2026-04-01T09:00:00Z"),
            (tom, "B-1", "2026-03-05T09:00:00Z"),
        ] {
            factories::Order::new(id, customer, order).ordered_at(ordered_at).insert(&db.pool).await;
        }
        let config =
            Config::parse(Path::new("jobs.toml"), JOBS_TOML).unwrap_or_else(|e| panic!("{:#?}", e.lines()));
        Self { db, id, dir: data_dir(), config }
    }

    async fn import(&self, content: &str) -> ImportReport {
        self.try_import(content, Some("satisfaction"), &ImportOptions::default()).await.unwrap()
    }

    async fn again(&self, content: &str) -> ImportReport {
        let options = ImportOptions { again: true, ..ImportOptions::default() };
        self.try_import(content, Some("satisfaction"), &options).await.unwrap()
    }

    async fn try_import(
        &self,
        content: &str,
        survey: Option<&str>,
        options: &ImportOptions,
    ) -> Result<ImportReport, ImportError> {
        let path = self.dir.path().join("answers.csv");
        std::fs::write(&path, content).unwrap();
        let to = self.destination();
        let asked = Asked { formats: &self.config.response_formats, surveys: &self.config.surveys, survey };
        let clock = Clock::Fixed(at("2026-06-01T12:00:00Z"));
        let report = import_responses(to, asked, &path, options, clock, &|_, _| {}).await?;
        let accepted = report.n_inserted + report.n_updated + report.n_unchanged;
        assert_eq!(accepted + report.n_aside + report.n_rejected, report.n_read, "{report:?}");
        Ok(report)
    }

    fn destination(&self) -> Destination<'_> {
        Destination { pool: &self.db.pool, shop: self.id, config: &self.config.shops[0] }
    }

    async fn try_again(&self, now: &str) -> Option<Waited> {
        aside::try_again(self.destination(), at(now)).await.unwrap()
    }

    async fn order(&self, email: &str, order: &str, ordered_at: &str) {
        let customer = factories::customer(&self.db.pool, self.id, email).await;
        factories::Order::new(self.id, customer, order).ordered_at(ordered_at).insert(&self.db.pool).await;
    }

    async fn n_aside(&self) -> String {
        self.select("select count(*)::text from response_aside where shop_id = $1").await.remove(0)
    }

    async fn select(&self, sql: &'static str) -> Vec<String> {
        sqlx::query_scalar(sql).bind(self.id).fetch_all(&self.db.pool).await.unwrap()
    }

    async fn responses(&self) -> Vec<String> {
        self.select(
            r#"select concat_ws('|', o.external_id, r.revision, case when r.counted then 'counts' end, r.via,
                 r.answered_at at time zone 'UTC', r.external_id, r.consent_version, r.display_name, (
                   select string_agg(a.question || '=' || concat(a.score, a.choice, a.body), ',' order by a.question)
                   from answer a where a.shop_id = r.shop_id and a.response_id = r.response_id))
               from response r join "order" o using (shop_id, order_id)
               where r.shop_id = $1 order by o.external_id, r.revision"#,
        )
        .await
    }
}

fn counts(report: &ImportReport) -> [u64; 5] {
    [report.n_read, report.n_inserted, report.n_updated, report.n_unchanged, report.n_rejected]
}

const FILE: &str =
    "order_id,email,answered_at,external_id,display_name,recommend,overall,likely,topic,comment,publish
A-1,,2026-03-20 10:00,x-1,Claire D.,Oui,5,10,,\"Très bien,
\"\"merci\"\" \",yes
B-1,,2026-03-21T10:00:00Z,x-2,,non,2,,delivery,,non
,Claire@Customer.example,2026-04-20,x-3,,yes,,,,,
";

#[tokio::test]
async fn a_generic_file_becomes_answers() {
    let shop = Shop::new().await;
    let report = shop.import(FILE).await;
    assert_eq!(counts(&report), [3, 3, 0, 0, 0], "{report:?}");
    let expected = [
        "A-1|1|counts|import|2026-03-20 09:00:00|x-1|import|Claire D.|comment=Très bien,\n\"merci\" ,likely=10,overall=5,recommend=yes",
        "A-2|1|counts|import|2026-04-19 22:00:00|x-3|recommend=yes",
        "B-1|1|counts|import|2026-03-21 10:00:00|x-2|overall=2,recommend=no,topic=delivery",
    ];
    assert_eq!(shop.responses().await, expected);
    let testimonials =
        "select o.external_id || ' ' || t.state from testimonial t join response using (shop_id, response_id)
                        join \"order\" o using (shop_id, order_id) where shop_id = $1";
    assert_eq!(shop.select(testimonials).await, ["A-1 pending"]);

    assert!(shop.import(FILE).await.already_imported.is_some());
    let report = shop.again(FILE).await;
    assert_eq!(counts(&report), [3, 0, 0, 3, 0]);
    assert_eq!(shop.responses().await, expected);
    // One row twice in a file is one answer.
    let doubled = format!("{FILE}{}\n", FILE.lines().last().unwrap());
    assert_eq!(counts(&shop.import(&doubled).await), [4, 0, 0, 4, 0]);
}

#[tokio::test]
async fn the_latest_answer_counts_in_whatever_order_they_come() {
    let shop = Shop::new().await;
    let header = "order_id,answered_at,overall\n";
    shop.import(&format!("{header}A-1,2026-03-20,4\nB-1,2026-03-20,1\nB-1,2026-03-22,3\n")).await;
    shop.import(&format!("{header}A-1,2026-03-10,1\n")).await;
    shop.import(&format!("{header}A-1,2026-03-25,5\n")).await;
    shop.import(&format!("{header}A-1,2026-03-24,2\n")).await;
    assert_eq!(
        shop.responses().await,
        [
            "A-1|1|import|2026-03-19 23:00:00|overall=4",
            "A-1|2|import|2026-03-09 23:00:00|overall=1",
            "A-1|3|counts|import|2026-03-24 23:00:00|overall=5",
            "A-1|4|import|2026-03-23 23:00:00|overall=2",
            "B-1|1|import|2026-03-19 23:00:00|overall=1",
            "B-1|2|counts|import|2026-03-21 23:00:00|overall=3",
        ]
    );
    // What a person answered on the page stands in the same line; what a scanner answered does not.
    sqlx::query(
        "update response set via = 'page', verdict = case when answered_at = '2026-03-24 23:00:00Z' then 'suspect'::verdict else 'human' end,
           counted = counted and answered_at <> '2026-03-24 23:00:00Z'",
    )
    .execute(&shop.db.pool)
    .await
    .unwrap();
    shop.import(&format!("{header}A-1,2026-03-01,3\nB-1,2026-03-23,4\n")).await;
    let counting: Vec<String> =
        shop.responses().await.into_iter().filter(|response| response.contains("counts")).collect();
    assert_eq!(
        counting,
        [
            "A-1|4|counts|page|2026-03-23 23:00:00|overall=2",
            "B-1|3|counts|import|2026-03-22 23:00:00|overall=4"
        ]
    );
}

#[tokio::test]
async fn bad_rows_are_rejected_with_their_place() {
    let shop = Shop::new().await;
    let long = "x".repeat(41);
    let text = format!(
        "order_id,email,answered_at,recommend,overall,likely,topic,comment,publish
A-1,,2026-03-20,maybe,,,,,
A-1,,2026-03-20,,6,,,,
A-1,,2026-03-20,,4.5,,,,
A-1,,2026-03-20,,,11,,,
A-1,,2026-03-20,,,,weather,,
A-1,,2026-03-20,,,,,{long},
A-1,,2026-03-20,,5,,,\0,
A-1,,2026-03-20,,,,,,yes
A-1,,yesterday,,5,,,,
Z-9,,2026-03-20,,5,,,,
,nobody@customer.example,2026-03-20,,5,,,,
,tom@customer.example,2026-03-01,,5,,,,
,,2026-03-20,,5,,,,
A-1,,2026-03-20,,5,,,,
"
    );
    let rejects = shop.dir.path().join("answers.rejects.csv");
    let options = ImportOptions { rejects: Some(rejects.clone()), ..ImportOptions::default() };
    let report = shop.try_import(&text, Some("satisfaction"), &options).await.unwrap();
    assert_eq!((counts(&report), report.n_aside), ([14, 1, 0, 0, 10], 3));
    let mut shown: Vec<String> = report
        .rejects
        .iter()
        .map(|r| format!("{:02} {} {}", r.line, r.column.as_deref().unwrap_or("-"), r.reason))
        .collect();
    shown.sort();
    assert_eq!(
        shown,
        [
            "02 recommend is neither yes nor no",
            "03 overall is no whole number from 1 to 5",
            "04 overall is no whole number from 1 to 5",
            "05 likely is no whole number from 0 to 10",
            "06 topic is none of contact, delivery",
            "07 comment is longer than 40 characters",
            "08 comment contains a NUL byte",
            "09 - answers no question",
            "10 answered_at is not a time such as 2026-05-01 10:00:00, 2026-05-01T10:00:00+02:00 or 2026-05-01",
            "14 order_id is empty",
        ]
    );
    let written = std::fs::read_to_string(rejects).unwrap();
    assert!(written.contains(",,2026-03-20,,5,,,,,14,order_id,is empty\n"), "{written}");
    let stored = shop.select("select count(*)::text from import_reject where shop_id = $1").await;
    assert_eq!(stored, ["10"]);
}

#[tokio::test]
async fn the_words_of_an_erased_customer_do_not_come_back() {
    let shop = Shop::new().await;
    sqlx::query("update customer set email = null, email_key = null, erased_at = now() where email_key = 'claire@customer.example'")
        .execute(&shop.db.pool)
        .await
        .unwrap();
    let report = shop.import("order_id,answered_at,overall,comment\nA-1,2026-03-20,5,Canary\n").await;
    assert_eq!(counts(&report), [1, 0, 0, 1, 0]);
    assert!(shop.responses().await.is_empty());
}

#[tokio::test]
async fn formats_and_surveys() {
    let shop = Shop::new().await;
    let auto = ImportOptions::default();
    let check = async |content: &str, survey: Option<&str>, expected: Result<&str, &str>| match (
        shop.try_import(content, survey, &auto).await,
        expected,
    ) {
        (Ok(report), Ok(format)) => assert_eq!((report.format.as_str(), report.n_inserted), (format, 1)),
        (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
        (other, _) => panic!("{other:?}"),
    };
    let tool = "Commande;Le;Note\nA-1;2026-03-20;5\n";
    check(tool, None, Ok("tool")).await;
    check(tool, Some("satisfaction"), Err("fits no known format. It has the columns Commande, Le, Note."))
        .await;
    let generic = "order_id,answered_at,overall\nA-2,2026-03-20,5\n";
    check(generic, None, Err("name one with --survey")).await;
    check(generic, Some("other"), Ok("generic")).await;
    check("order_id,answered_at,recommend\nB-1,2026-03-20,yes\n", None, Ok("generic")).await;
    check(generic, Some("othr"), Err("has no survey \"othr\"; did you mean `other`?")).await;
    check("order_id,answered_at\n", Some("other"), Err("no column is a question")).await;
    check("answered_at,overall\n", Some("other"), Err("neither \"order_id\" nor \"email\"")).await;
    check("order_id,answered_at,overal\n", Some("other"), Err("did you mean `overall`?")).await;
    let columns = [("order_id", "Nr"), ("answered_at", "Tag"), ("overall", "Note")];
    let options = ImportOptions {
        columns: columns.map(|(a, b)| (a.to_owned(), b.to_owned())).into(),
        dry_run: true,
        ..ImportOptions::default()
    };
    let report =
        shop.try_import("Nr;Tag;Note;Rest\nB-1;2026-03-20;5;x\n", Some("other"), &options).await.unwrap();
    assert_eq!(counts(&report), [1, 1, 0, 0, 0]);
    assert_eq!(shop.responses().await.len(), 3);
}

const EARLY: &str = "order_id,email,answered_at,external_id,overall,comment,publish
C-1,,2026-03-20,x-1,5,Parfait,yes
,lea@customer.example,2026-03-21,x-2,2,,
,claire@customer.example,2026-02-01,x-3,3,,
A-1,,2026-03-20,x-4,4,,
C-1,,2026-03-20,x-1,5,Parfait,yes
";

#[tokio::test]
async fn answers_without_an_order_are_kept_aside_and_stored_when_it_comes() {
    let shop = Shop::new().await;
    assert_eq!(shop.try_again("2026-06-01T12:00:00Z").await, None);
    let dry = ImportOptions { dry_run: true, ..ImportOptions::default() };
    let tried = shop.try_import(EARLY, Some("satisfaction"), &dry).await.unwrap();
    assert_eq!((counts(&tried), tried.n_aside, shop.n_aside().await.as_str()), ([5, 1, 0, 1, 0], 3, "0"));
    let report = shop.import(EARLY).await;
    assert_eq!((counts(&report), report.n_aside), ([5, 1, 0, 1, 0], 3), "{report:?}");
    let waited = report.waited.unwrap();
    assert_eq!((waited.n_matched, waited.n_expired, waited.n_waiting), (0, 0, 3));
    let run = "select concat_ws('|', n_read, n_inserted, n_unchanged, n_aside, n_rejected) from import_run where shop_id = $1";
    assert_eq!(shop.select(run).await, ["5|1|1|3|0"]);

    // Imported again, nothing is kept twice.
    let report = shop.again(EARLY).await;
    assert_eq!((counts(&report), report.n_aside, shop.n_aside().await.as_str()), ([5, 0, 0, 5, 0], 0, "3"));

    // An order after the answer is none that the answer could be about; of those before it, the latest is.
    shop.order("lea@customer.example", "L-3", "2026-03-22T09:00:00Z").await;
    assert_eq!(shop.try_again("2026-06-02T12:00:00Z").await.unwrap().n_matched, 0);
    shop.order("lea@customer.example", "L-1", "2026-03-01T09:00:00Z").await;
    shop.order("lea@customer.example", "L-2", "2026-03-10T09:00:00Z").await;
    shop.order("lea@customer.example", "C-1", "2026-03-02T09:00:00Z").await;
    let waited = shop.try_again("2026-06-02T12:00:00Z").await.unwrap();
    assert_eq!((waited.n_matched, waited.n_expired, waited.n_waiting), (2, 0, 1));
    assert_eq!(
        shop.responses().await,
        [
            "A-1|1|counts|import|2026-03-19 23:00:00|x-4|overall=4",
            "C-1|1|counts|import|2026-03-19 23:00:00|x-1|import|comment=Parfait,overall=5",
            "L-2|1|counts|import|2026-03-20 23:00:00|x-2|overall=2",
        ]
    );
    let testimonials = "select count(*)::text from testimonial where shop_id = $1 and state = 'pending'";
    assert_eq!(shop.select(testimonials).await, ["1"]);

    // And the whole file again changes nothing any more.
    let before = shop.responses().await;
    let report = shop.again(EARLY).await;
    assert_eq!((counts(&report), report.n_aside), ([5, 0, 0, 5, 0], 0), "{report:?}");
    assert_eq!((shop.responses().await, shop.n_aside().await.as_str()), (before, "1"));
}

#[tokio::test]
async fn what_is_said_of_a_file_of_orders_stands_when_looking_for_waiting_answers_is_taken_back() {
    let program = Program::new(&shipped()).await;
    program.write("answers.csv", "order_id,answered_at,recommend\nA-1,2026-03-12,yes\nA-2,2026-03-12,no\n");
    program.run(&["import", "responses", "answers.csv"]).expect(0);
    // Of the tries to look, so many are taken back.
    sqlx::raw_sql(
        "create sequence tries;
         create table taken_back (n int not null);
         insert into taken_back values (1);
         create function be_taken_back() returns trigger language plpgsql as $$
         begin
             if nextval('tries') <= (select n from taken_back) then
                 raise exception 'for the sake of another' using errcode = '40P01';
             end if;
             return null;
         end $$;
         create trigger be_taken_back after delete on response_aside for each statement execute function be_taken_back()",
    )
    .execute(&program.db.pool)
    .await
    .unwrap();
    let orders = |id: &str| {
        format!(
            "order_id,email,ordered_at\n{id},claire@customer.example,2026-03-01\n,x@customer.example,2026-03-01\n"
        )
    };
    program.write("one.csv", orders("A-1"));
    let ran = program.run(&["--json", "import", "orders", "one.csv"]).expect(3);
    let report = &ran.json()[0];
    assert!(report["already_imported"].is_null(), "{report}");
    assert_eq!((&report["n_inserted"], &report["n_rejected"]), (&1.into(), &1.into()), "{report}");
    assert_eq!((&report["waited"]["n_matched"], &report["waited"]["n_waiting"]), (&1.into(), &1.into()));
    assert!(report["not_tried"].is_null(), "{report}");

    // However often it is taken back: the file is in.
    sqlx::raw_sql("update taken_back set n = 1000").execute(&program.db.pool).await.unwrap();
    program.write("two.csv", orders("A-2"));
    let ran = program.run(&["import", "orders", "two.csv"]).expect(1);
    let [read, inserted] = [" 2 ", " 1 "].map(|n| ran.stdout.contains(n));
    assert!(read && inserted && !ran.stderr.contains("nothing of the file"), "{} {}", ran.stdout, ran.stderr);
    for words in ["line 3, order_id", "could not be looked through: the database refused it with 40P01"] {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
    let file = program.write("data/inbox/orders/three.csv", orders("A-3"));
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(long_ago).unwrap();
    let ran = program.run(&["run", "import-orders"]).expect(3);
    let told = format!("{}{}", ran.stdout, ran.stderr);
    assert!(
        told.contains("2 rows read, 1 rejected") && told.contains("could not be looked through"),
        "{told}"
    );
    assert!(!told.contains("known from before") && !told.contains("begun anew"), "{told}");
    assert!(!file.exists());

    // The next import, of a file that is known or not, makes up for it.
    sqlx::raw_sql("drop trigger be_taken_back on response_aside").execute(&program.db.pool).await.unwrap();
    let report = program.run(&["--json", "import", "responses", "answers.csv"]).expect(0).json();
    assert_eq!(report[0]["waited"]["n_matched"], 1, "{report}");
}

/// As when a shop brings in its years of answers: before its rows were known to Postgres, each was compared with each, for an hour.
#[tokio::test]
async fn the_first_file_of_a_shop_may_be_long() {
    let shop = Shop::new().await;
    let made = r#"
        with c as (
            insert into customer (shop_id, email, email_key)
            select $1, n || '@customer.example', n || '@customer.example' from generate_series(1, 60000) n
            returning customer_id
        )
        insert into "order" (shop_id, external_id, customer_id, ordered_at, fulfilled_at, status, items, attributes, imported_at, updated_at)
        select $1, 'L-' || row_number() over (), customer_id, '2026-03-01', '2026-03-03', 'fulfilled', '{}', '{}', now(), now() from c"#;
    sqlx::query(made).bind(shop.id).execute(&shop.db.pool).await.unwrap();
    let rows: String = (1..=60_000).map(|n| format!("L-{n},2026-04-01T10:00:00Z,yes\n")).collect();
    let file = format!("order_id,answered_at,recommend\n{rows}");
    let imported = tokio::time::timeout(Duration::from_secs(300), shop.import(&file)).await;
    assert_eq!(imported.expect("it takes some seconds").n_inserted, 60_000);
    let counted = "select count(*)::text from response where shop_id = $1 and counted";
    assert_eq!(shop.select(counted).await, ["60000"]);
}

#[tokio::test]
async fn an_answer_that_waited_is_of_the_version_it_was_read_with() {
    let mut shop = Shop::new().await;
    shop.import("order_id,answered_at,comment\nC-1,2026-03-20,Words\n").await;
    // The question is another one since, and no text any more.
    let changed = JOBS_TOML.replace("type = \"text\"\nmax_length = 40\n", "type = \"rating\"\n");
    assert_ne!(changed, JOBS_TOML);
    shop.config = Config::parse(Path::new("jobs.toml"), &changed).unwrap();
    shop.order("lea@customer.example", "C-1", "2026-03-02T09:00:00Z").await;
    shop.import("order_id,answered_at,comment\nA-1,2026-03-20,5\n").await;
    assert_eq!(
        shop.responses().await,
        [
            "A-1|1|counts|import|2026-03-19 23:00:00|comment=5",
            "C-1|1|counts|import|2026-03-19 23:00:00|comment=Words"
        ]
    );
    let versions = "select count(distinct survey_version_id)::text from response where shop_id = $1";
    assert_eq!(shop.select(versions).await, ["2"]);
    let bodies = "select count(*)::text from answer where shop_id = $1 and body is not null";
    assert_eq!(shop.select(bodies).await, ["1"]);
}

#[tokio::test]
async fn what_waits_too_long_is_a_reject_of_the_file_that_brought_it() {
    let shop = Shop::new().await;
    shop.import(
        "email,order_id,answered_at,overall\n,Z-9,2026-03-20,5\nnobody@customer.example,,2026-03-20,4\n",
    )
    .await;
    let waited = shop.try_again("2026-08-30T11:00:00Z").await.unwrap();
    assert_eq!((waited.n_expired, waited.n_waiting), (0, 2));
    let waited = shop.try_again("2026-08-30T13:00:00Z").await.unwrap();
    assert_eq!((waited.n_matched, waited.n_expired, waited.n_waiting), (0, 2, 0));
    let shown: Vec<String> = waited.rejects.iter().map(|reject| reject.sentence()).collect();
    assert_eq!(
        shown,
        [
            "line 2, order_id: is an order that has not come within 90 days",
            "line 3, email: is of a customer of whom no order has come within 90 days that is older than the answer",
        ]
    );
    let stored = "select j.line || ' ' || j.\"row\" from import_reject j join import_run r using (shop_id, import_run_id)
                  where shop_id = $1 and r.file_name = 'answers.csv' order by j.line";
    assert_eq!(shop.select(stored).await, ["2 ,Z-9,2026-03-20,5", "3 nobody@customer.example,,2026-03-20,4"]);
    assert_eq!(shop.try_again("2026-08-30T13:00:00Z").await, None);
}

#[tokio::test]
async fn an_answer_that_waited_for_the_order_of_an_erased_customer_is_gone() {
    let shop = Shop::new().await;
    shop.import("order_id,answered_at,comment\nC-1,2026-03-20,Canary\n").await;
    shop.order("lea@customer.example", "C-1", "2026-03-02T09:00:00Z").await;
    sqlx::query("update customer set email = null, email_key = null, erased_at = now() where email_key = 'lea@customer.example'")
        .execute(&shop.db.pool)
        .await
        .unwrap();
    assert_eq!(shop.try_again("2026-06-02T12:00:00Z").await.unwrap().n_matched, 1);
    assert!(shop.responses().await.is_empty());
    assert_eq!(shop.n_aside().await, "0");
}

#[tokio::test]
async fn the_page_waits_for_a_file_only_where_it_may_be_asked_about_the_same_order() {
    let shop = Shop::new().await;
    let order = "select order_id from \"order\" where external_id = 'A-1'";
    let order = sqlx::query_scalar(order).fetch_one(&shop.db.pool).await.unwrap();
    factories::sent_invitation(&shop.db.pool, shop.id, order, at("2026-03-10T09:00:00Z")).await;
    sqlx::query("update invitation set survey = 'satisfaction'").execute(&shop.db.pool).await.unwrap();
    // The page is about to store an answer to A-1.
    let mut page = shop.db.pool.begin().await.unwrap();
    sqlx::query("select from invitation for no key update").execute(&mut *page).await.unwrap();
    let importing = shop.import("order_id,answered_at,overall\nA-1,2026-03-20,4\nB-1,2026-03-20,1\n");
    let meanwhile = async {
        // The file comes as far as it can: what it has inserted stands in nobody's way.
        let waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
        for _ in 0..600 {
            let n: i64 = sqlx::query_scalar(waiting).fetch_one(&shop.db.pool).await.unwrap();
            if n > 0 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let sql = "insert into response (shop_id, order_id, survey, survey_version_id, invitation_id, revision, counted, via, verdict,
                     locale, answered_at, received_at)
                   select i.shop_id, i.order_id, i.survey, i.survey_version_id, i.invitation_id, 1, true, 'page', 'human', 'fr',
                     '2026-03-21Z', '2026-03-21Z'
                   from invitation i";
        sqlx::query("set local lock_timeout = '2s'").execute(&mut *page).await.unwrap();
        sqlx::query(sql).execute(&mut *page).await.expect("the page waits for the file");
        page.commit().await.unwrap();
    };
    let (report, ()) = tokio::join!(importing, meanwhile);
    assert_eq!(counts(&report), [2, 2, 0, 0, 0]);
    assert_eq!(
        shop.responses().await,
        [
            "A-1|1|counts|page|2026-03-21 00:00:00",
            "A-1|2|import|2026-03-19 23:00:00|overall=4",
            "B-1|1|counts|import|2026-03-19 23:00:00|overall=1",
        ]
    );
}

#[tokio::test]
async fn limesurvey_answers_are_matched_by_order_or_address() {
    let shop = Shop::new().await;
    shop.order("claire.dubois@customer.example", "M-1001", "2026-05-01T09:00:00Z").await;
    shop.order("tom.baker@customer.example", "M-1002", "2026-05-01T09:00:00Z").await;
    let sample = RESPONSE_FORMATS.iter().find(|format| format.key == "limesurvey").unwrap().sample;
    let no_time = r#""15","1980-01-01 00:00:00","3","fr","1","","","","M-1001","Y","5","""#;
    // It begins with a byte-order mark and ends with an empty line.
    let report = shop.import(&format!("\u{feff}{sample}{no_time}\r\n\r\n")).await;
    assert_eq!((report.format.as_str(), counts(&report)), ("limesurvey", [4, 2, 0, 0, 2]));
    let shown: Vec<String> = report.rejects.iter().map(|reject| reject.sentence()).collect();
    assert_eq!(
        shown,
        [
            "line 4: answers no question",
            "line 5, submitdate: is what stands where the tool kept no time of the answer"
        ]
    );
    assert_eq!(
        shop.responses().await,
        [
            "M-1001|1|counts|import|2026-05-12 07:30:00|12|comment=Tout était parfait.,overall=5,recommend=yes",
            "M-1002|1|counts|import|2026-05-13 16:00:00|13|comment=It came late.,overall=2,recommend=no",
        ]
    );
    let texts = "Response ID,Date submitted,Last page,Start language,Would you recommend us?\n";
    let error = shop.try_import(texts, Some("satisfaction"), &ImportOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("Headings: Question code"), "{error}");
}

#[tokio::test]
async fn answers_of_the_future_are_refused_and_an_address_names_no_order_of_long_ago() {
    let shop = Shop::new().await;
    let report = shop
        .import(
            "email,answered_at,overall\n\
             tom@customer.example,2099-01-01,5\n\
             tom@customer.example,2026-06-01T12:00:01Z,4\n\
             tom@customer.example,2026-03-05,3\n\
             tom@customer.example,2026-03-04,2\n\
             claire@customer.example,2026-06-01T12:00:00Z,1\n",
        )
        .await;
    let refused: Vec<_> = report.rejects.iter().map(|reject| (reject.line, reject.reason.as_str())).collect();
    assert_eq!(refused, [(2, "is in the future"), (3, "is in the future")]);
    // A day without a time is all of it: B-1 was placed on it, in the morning. The day before, there was nothing to answer about.
    assert_eq!((report.n_inserted, report.n_aside), (2, 1));
    let stored = shop.responses().await;
    assert!(
        stored.iter().any(|row| row.starts_with("B-1|1|counts|") && row.ends_with("|overall=3")),
        "{stored:?}"
    );
    assert!(
        stored.iter().any(|row| row.starts_with("A-2|1|counts|") && row.ends_with("|overall=1")),
        "{stored:?}"
    );
    // Half a year later, the order is one that has not come yet.
    shop.order("late@customer.example", "L-1", "2025-10-01T09:00:00Z").await;
    let report =
        shop.import("email,answered_at,overall\nlate@customer.example,2026-05-20T10:00:00Z,5\n").await;
    assert_eq!((report.n_inserted, report.n_aside), (0, 1));
}

#[tokio::test]
async fn words_that_were_taken_back_do_not_come_back_by_a_file() {
    let shop = Shop::new().await;
    let row = |id: &str, answered: &str| {
        format!(
            "order_id,answered_at,external_id,overall,comment,publish\nA-1,{answered},{id},5,Canary words,yes\n"
        )
    };
    shop.import(&row("x-1", "2026-03-20T10:00:00Z")).await;
    sqlx::query("update testimonial set state = 'withdrawn', decided_at = '2026-04-01T10:00:00Z'")
        .execute(&shop.db.pool)
        .await
        .unwrap();
    // The same words under another number, from before; and others, said since.
    for (id, answered) in [("x-2", "2026-03-21T10:00:00Z"), ("x-3", "2026-05-01T10:00:00Z")] {
        assert_eq!(shop.import(&row(id, answered)).await.n_inserted, 1);
    }
    let states: Vec<(String, String)> = sqlx::query_as(
        "select external_id, t.state::text from testimonial t join response using (shop_id, response_id) order by 1",
    )
    .fetch_all(&shop.db.pool)
    .await
    .unwrap();
    let expected = [("x-1", "withdrawn"), ("x-2", "withdrawn"), ("x-3", "pending")];
    assert_eq!(states, expected.map(|(id, state)| (id.to_owned(), state.to_owned())));
}
