//! What may be published and what may not: moderation, the gate on real rows, and the file.

use std::collections::BTreeMap;
use std::fs;

use afterword::config::{DisplayName, Moderation, Shop, Testimonials};
use afterword::testimonials::candidate::Filter;
use afterword::testimonials::export::{
    self, Destination, EXPORT_FORMATS, Export, ExportReport, export_testimonials, notice_of_export,
};
use afterword::testimonials::gate::Withheld;
use afterword::testimonials::moderation::{self, Outcome, Ruling};
use afterword::testimonials::{RejectReason, TestimonialState};
use afterword::types::{Locale, ResponseId, ShopId};
use chrono::{DateTime, TimeDelta, Utc};
use clap::ValueEnum as _;
use sqlx::{AssertSqlSafe, PgPool};

use crate::private::CONFIG;
use crate::support::factories::{self, Order, Response, at};
use crate::support::program::{Program, shipped};
use crate::support::{TestDb, data_dir};

const NOW: &str = "2026-04-01T06:00:00Z";

pub fn maison() -> Shop {
    Shop {
        key: "maison".to_owned(),
        name: "Maison Exemple".to_owned(),
        locale: Locale::parse("fr").unwrap(),
        timezone: chrono_tz::Europe::Paris,
        from: "avis@maison.example".parse().unwrap(),
        reply_to: None,
        url: "https://maison.example".to_owned(),
        color: "#1f5d4c".to_owned(),
        logo: None,
        address: None,
        privacy_url: None,
        review_places: Vec::new(),
        unhappy_next: None,
    }
}

/// `[testimonials]` with nothing in it.
pub fn rules() -> Testimonials {
    Testimonials {
        display_name: DisplayName::FirstNameInitial,
        moderation: Moderation::Manual,
        staff: Vec::new(),
        publish_within: TimeDelta::days(10),
        product_urls: BTreeMap::from([(
            "maison".to_owned(),
            "https://shop.example/produits/{product}".to_owned(),
        )]),
        retain: None,
    }
}

/// Whoever read went away.
struct Gone;
impl std::io::Write for Gone {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn broke(error: &anyhow::Error) -> bool {
    let kind =
        error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::BrokenPipe)
}

/// An answer with its testimonial, as every way in writes them.
pub async fn store(pool: &PgPool, response: Response) -> ResponseId {
    let shop = response.shop;
    let id = response.insert(pool).await;
    sqlx::query("insert into testimonial (shop_id, response_id, state) values ($1, $2, 'pending')")
        .bind(shop)
        .bind(id)
        .execute(pool)
        .await
        .unwrap();
    id
}

struct Setting {
    db: TestDb,
    id: ShopId,
    shop: Shop,
}

impl Setting {
    async fn new() -> Self {
        let db = TestDb::new().await;
        let id = factories::shop(&db.pool, "maison").await;
        Self { db, id, shop: maison() }
    }

    /// A customer's consented answer with words; nobody has decided on it.
    async fn answer(&self, n: i32, change: impl FnOnce(Response) -> Response) -> ResponseId {
        let customer =
            factories::customer(&self.db.pool, self.id, &format!("customer{n}@shop.example")).await;
        let order = Order::new(self.id, customer, &format!("A-{n}")).insert(&self.db.pool).await;
        self.store(change(Response::new(self.id, order))).await
    }

    async fn store(&self, response: Response) -> ResponseId {
        store(&self.db.pool, response).await
    }

    async fn approved(&self, n: i32, change: impl FnOnce(Response) -> Response) -> ResponseId {
        let id = self.answer(n, change).await;
        assert_eq!(self.approve(&[id.0]).await, [(id, Outcome::Done)]);
        id
    }

    async fn approve(&self, ids: &[i64]) -> Vec<(ResponseId, Outcome)> {
        let ids: Vec<_> = ids.iter().copied().map(ResponseId).collect();
        moderation::approve(&self.db.pool, &[self.id], &ids, at(NOW)).await.unwrap()
    }

    async fn reject(&self, ids: &[i64], reason: RejectReason) -> Vec<(ResponseId, Outcome)> {
        let ids: Vec<_> = ids.iter().copied().map(ResponseId).collect();
        moderation::reject(&self.db.pool, &[self.id], &ids, reason, at(NOW)).await.unwrap()
    }

    async fn withdraw(&self, ids: &[i64]) -> Vec<(ResponseId, Outcome)> {
        let ids: Vec<_> = ids.iter().copied().map(ResponseId).collect();
        let ruling = Ruling::Withdraw;
        moderation::decide(&self.db.pool, &[self.id], &ids, ruling, at(NOW)).await.unwrap()
    }

    async fn export_to(
        &self,
        destination: Destination<'_>,
        since: Option<DateTime<Utc>>,
        now: &str,
    ) -> anyhow::Result<ExportReport> {
        let shops = [(self.id, &self.shop)];
        let format = export::format("generic").unwrap();
        let rules = Testimonials::default();
        let export = Export { since, ..Export::new(&shops, format, &rules, &[]) };
        // A job must be able to run this on any thread.
        fn send<F: Future + Send>(future: F) -> F {
            future
        }
        send(export_testimonials(&self.db.pool, export, destination, at(now))).await
    }

    async fn export(&self, now: &str) -> (Vec<csv::StringRecord>, ExportReport) {
        let mut file = Vec::new();
        let report = self.export_to(Destination::Stream(&mut file), None, now).await.unwrap();
        let records: Vec<_> =
            csv::Reader::from_reader(file.as_slice()).records().collect::<Result<_, _>>().unwrap();
        assert_eq!(records.len() as u64, report.n_rows);
        (records, report)
    }

    /// The numbers in the file.
    async fn exported(&self) -> Vec<String> {
        self.export(NOW).await.0.iter().map(|record| record[0].to_owned()).collect()
    }

    async fn execute(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.db.pool).await.unwrap();
    }
}

#[tokio::test]
async fn the_words_of_the_code_are_those_of_the_database() {
    let db = TestDb::new().await;
    let words = async |name: &str| -> Vec<String> {
        let sql = format!("select unnest(enum_range(null::{name}))::text");
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&db.pool).await.unwrap()
    };
    let mut states = Vec::new();
    for state in TestimonialState::value_variants() {
        let (back, word): (TestimonialState, String) =
            sqlx::query_as("select $1::testimonial_state, $1::text")
                .bind(state)
                .fetch_one(&db.pool)
                .await
                .unwrap();
        assert_eq!(back, *state);
        assert_eq!(state.to_possible_value().unwrap().get_name(), word);
        states.push(word);
    }
    assert_eq!(states, words("testimonial_state").await);
    let mut reasons = Vec::new();
    for reason in RejectReason::value_variants() {
        let (back, word): (RejectReason, String) = sqlx::query_as("select $1::reject_reason, $1::text")
            .bind(reason)
            .fetch_one(&db.pool)
            .await
            .unwrap();
        assert_eq!(back, *reason);
        assert_eq!(reason.to_possible_value().unwrap().get_name(), word);
        reasons.push(word);
    }
    assert_eq!(reasons, words("reject_reason").await);
}

#[tokio::test]
async fn moderation_sees_what_stands() {
    let setting = Setting::new().await;
    let id = setting.answer(1, |r| r).await;
    // Its author has changed it since.
    setting.answer(2, |r| Response { counted: false, ..r }).await;
    let shops = [(setting.id, &setting.shop)];
    let list = async |state| {
        let filter = Filter { state, ..Filter::default() };
        moderation::list(&setting.db.pool, &shops, filter, &rules()).await.unwrap()
    };
    let all = list(None).await;
    assert_eq!(
        serde_json::to_value(&all).unwrap(),
        serde_json::json!([{
            "id": id.0, "order": "A-1", "shop": "maison", "state": "pending", "reject_reason": null, "rating": 5,
            "by_rules": false, "recommend": "yes", "text": "Livraison rapide, produit soigné.", "display_name": "Claire D.",
            "flags": [], "received_at": "2026-03-10T18:30:00Z", "decided_at": null, "published_at": null, "reply": null,
        }])
    );
    assert_eq!(list(Some(TestimonialState::Approved)).await, []);
    setting.approve(&[id.0]).await;
    assert_eq!(list(Some(TestimonialState::Pending)).await, []);
    assert_eq!(list(Some(TestimonialState::Approved)).await.len(), 1);
}

#[tokio::test]
async fn deciding_twice_changes_nothing_and_unknown_numbers_are_told_one_by_one() {
    let setting = Setting::new().await;
    let a = setting.answer(1, |r| r).await;
    let b = setting.answer(2, |r| r).await;
    let unknown = ResponseId(999_999);
    let expected = [(b, Outcome::Done), (unknown, Outcome::Unknown), (a, Outcome::Done)];
    assert_eq!(setting.approve(&[b.0, unknown.0, a.0]).await, expected);
    setting.execute("update testimonial set decided_at = '2026-01-01'").await;
    assert_eq!(setting.approve(&[a.0]).await, [(a, Outcome::Already)]);
    assert_eq!(setting.reject(&[a.0], RejectReason::Promotional).await, [(a, Outcome::Done)]);
    assert_eq!(setting.reject(&[a.0], RejectReason::Promotional).await, [(a, Outcome::Already)]);
    assert_eq!(setting.approve(&[a.0]).await, [(a, Outcome::Done)]);
    assert_eq!(setting.withdraw(&[a.0]).await, [(a, Outcome::Done)]);
    assert_eq!(setting.withdraw(&[a.0]).await, [(a, Outcome::Already)]);
    assert_eq!(setting.approve(&[a.0]).await, [(a, Outcome::Withdrawn)]);
    assert_eq!(setting.reject(&[a.0], RejectReason::Unlawful).await, [(a, Outcome::Withdrawn)]);
    let decided_at: DateTime<Utc> =
        sqlx::query_scalar("select decided_at from testimonial where response_id = $1")
            .bind(b)
            .fetch_one(&setting.db.pool)
            .await
            .unwrap();
    assert_eq!(decided_at, at("2026-01-01T00:00:00Z"), "what was so before keeps its date");
    // Another shop's numbers are unknown here.
    let elsewhere = factories::shop(&setting.db.pool, "elsewhere").await;
    let outcomes = moderation::approve(&setting.db.pool, &[elsewhere], &[a], at(NOW)).await.unwrap();
    assert_eq!(outcomes, [(a, Outcome::Unknown)]);
}

#[tokio::test]
async fn all_pending_can_be_approved_at_once() {
    let setting = Setting::new().await;
    let rejected = setting.answer(1, |r| r).await;
    setting.reject(&[rejected.0], RejectReason::Unlawful).await;
    let a = setting.answer(2, |r| r).await;
    let b = setting.answer(3, |r| r).await;
    let approve =
        async || moderation::approve_all_pending(&setting.db.pool, &[setting.id], at(NOW)).await.unwrap();
    assert_eq!(approve().await, [a, b]);
    assert_eq!(approve().await, []);
    assert_eq!(setting.exported().await, [a.to_string(), b.to_string()]);
}

#[tokio::test]
async fn whatever_is_missing_keeps_it_out_of_the_next_export() {
    for (sql, reason) in [
        ("update testimonial set state = 'pending', decided_at = null", None),
        ("update testimonial set state = 'withdrawn'", None),
        ("update testimonial set state = 'rejected', reject_reason = 'unlawful'", None),
        ("update response set consent_version = null", Some(Withheld::NoConsent)),
        ("update response set counted = false, verdict = 'suspect'", Some(Withheld::Suspect)),
        ("update response set counted = false", Some(Withheld::Superseded)),
        (r#"update "order" set status = 'cancelled'"#, Some(Withheld::OrderCancelled)),
        (
            "update customer set email = null, email_key = null, first_name = null, last_name = null, erased_at = '2026-03-31'",
            Some(Withheld::Erased),
        ),
        ("update response set consent_version = ''", Some(Withheld::NoConsent)),
        ("update answer set body = '' where question = 'comment'", Some(Withheld::NoWords)),
        ("delete from answer where question = 'comment'", Some(Withheld::NoWords)),
    ] {
        let setting = Setting::new().await;
        let id = setting.approved(1, |r| r).await;
        assert_eq!(setting.exported().await, [id.to_string()], "before: {sql}");
        setting.execute(sql).await;
        let (records, report) = setting.export(NOW).await;
        assert!(records.is_empty(), "{sql}");
        assert_eq!(report.taken_back, [id], "who published it is told: {sql}");
        assert_eq!(
            report.withheld.into_iter().collect::<Vec<_>>(),
            reason.map(|r| (r, 1)).into_iter().collect::<Vec<_>>()
        );
    }
}

/// Who agreed to appear without a name does so, whatever is configured later.
#[tokio::test]
async fn nobody_is_named_otherwise_than_agreed() {
    let setting = Setting::new().await;
    setting.approved(1, |r| r).await;
    let named = setting.export(NOW).await.0[0][5].to_owned();
    assert_eq!(named, "Claire D.");
    setting.execute("update response set display_name_rule = 'anonymous'").await;
    assert_eq!(&setting.export(NOW).await.0[0][5], "");
}

#[tokio::test]
async fn a_changed_answer_has_to_be_approved_anew() {
    let setting = Setting::new().await;
    let first = setting.approved(1, |r| r).await;
    setting.execute("update response set counted = false").await;
    let order =
        sqlx::query_scalar(r#"select order_id from "order""#).fetch_one(&setting.db.pool).await.unwrap();
    let changed = Response {
        revision: 2,
        comment: Some("Finalement, non.".to_owned()),
        ..Response::new(setting.id, order)
    };
    let changed = setting.store(changed).await;
    assert_eq!(setting.exported().await, Vec::<String>::new());
    assert_eq!(
        setting.approve(&[first.0, changed.0]).await,
        [(first, Outcome::Already), (changed, Outcome::Done)]
    );
    assert_eq!(setting.exported().await, [changed.to_string()]);
}

#[tokio::test]
async fn the_publication_date_is_that_of_the_first_export() {
    let setting = Setting::new().await;
    let first = setting.approved(1, |r| r).await;
    let (records, report) = setting.export("2026-04-01T06:00:00Z").await;
    assert_eq!(&records[0][11], "2026-04-01T06:00:00Z");
    assert_eq!(report.n_first_published, 1);
    setting.approved(2, |r| r).await;
    let (records, report) = setting.export("2026-05-01T06:00:00Z").await;
    assert_eq!((&records[0][0], &records[0][11]), (first.to_string().as_str(), "2026-04-01T06:00:00Z"));
    assert_eq!(&records[1][11], "2026-05-01T06:00:00Z");
    assert_eq!((report.n_rows, report.n_first_published), (2, 1));
    // Also after it was rejected and approved again.
    setting.reject(&[first.0], RejectReason::Promotional).await;
    setting.approve(&[first.0]).await;
    assert_eq!(&setting.export("2026-06-01T06:00:00Z").await.0[0][11], "2026-04-01T06:00:00Z");
    let runs: Vec<(String, i64, String)> =
        sqlx::query_as("select kind, n_rows, destination from export_run order by export_run_id")
            .fetch_all(&setting.db.pool)
            .await
            .unwrap();
    let run = |n| ("testimonials".to_owned(), n, "-".to_owned());
    assert_eq!(runs, [run(1), run(2), run(2)]);
}

#[tokio::test]
async fn two_exports_at_once_agree_on_the_first_date() {
    let setting = Setting::new().await;
    for n in 0..20 {
        setting.answer(n, |r| r).await;
    }
    moderation::approve_all_pending(&setting.db.pool, &[setting.id], at(NOW)).await.unwrap();
    let (one, other) =
        tokio::join!(setting.export("2026-04-01T06:00:00Z"), setting.export("2026-04-01T06:00:01Z"));
    assert_eq!(one.0, other.0);
    assert_eq!(one.1.n_first_published + other.1.n_first_published, 20);
}

#[tokio::test]
async fn words_leave_as_they_were_written() {
    let setting = Setting::new().await;
    let hostile = [
        "=HYPERLINK(\"http://evil.example\",\"x\")",
        "+1 -1 @SUM(A1)",
        "Il a dit \"bien\", puis \"très bien\"; fin",
        "ligne 1\r\nligne 2\nligne 3\rligne 4",
        "  des blancs autour \t",
        "emoji 🎉🏳️‍🌈, combining e\u{301}, right-to-left \u{202e}txet, bom \u{feff}",
        "'quoted', |pipes|, \\backslashes\\ and \u{1}control\u{7f}",
        "\"",
        ",",
    ];
    for (n, words) in hostile.iter().enumerate() {
        setting.approved(n as i32, |r| Response { comment: Some((*words).to_owned()), ..r }).await;
    }
    let (records, _) = setting.export(NOW).await;
    let written: Vec<_> = records.iter().map(|record| &record[4]).collect();
    assert_eq!(written, hostile);
}

#[tokio::test]
async fn a_file_appears_whole_or_not_at_all() {
    let setting = Setting::new().await;
    let dir = data_dir();
    let path = dir.path().join("exports/testimonials.csv");
    let to_file = |since| setting.export_to(Destination::File(path.clone()), since, NOW);
    let id = setting.approved(1, |r| Response { locale: "pt-BR", ..r }).await;
    let report = to_file(None).await.unwrap();
    assert_eq!((report.n_rows, report.destination.as_str()), (1, path.to_str().unwrap()));
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        format!(
            "testimonial_id,shop,rating,recommend,comment,display_name,country,language,product_ids,experience_date,\
             submitted_at,published_at,verified,consent_version,reply\r\n\
             {id},maison,5,yes,\"Livraison rapide, produit soigné.\",Claire D.,FR,pt,P-100,2026-03-03,\
             2026-03-10T18:30:00Z,2026-04-01T06:00:00Z,true,2026-01,\r\n"
        )
    );
    // What goes wrong leaves the file that was there, and publishes nothing.
    let before = fs::read(&path).unwrap();
    let second = setting.approved(2, |r| r).await;
    setting.execute("update survey_version set questionnaire = '{}'").await;
    to_file(None).await.unwrap_err();
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(
        fs::read_dir(path.parent().unwrap()).unwrap().count(),
        4,
        "the file, its manifest and two notices"
    );
    let published: Option<DateTime<Utc>> =
        sqlx::query_scalar("select published_at from testimonial where response_id = $1")
            .bind(second)
            .fetch_one(&setting.db.pool)
            .await
            .unwrap();
    assert_eq!(published, None);
}

#[tokio::test]
async fn a_reader_that_goes_away_has_published_nothing() {
    let setting = Setting::new().await;
    setting.approved(1, |r| r).await;
    let error = setting.export_to(Destination::Stream(&mut Gone), None, NOW).await.unwrap_err();
    assert!(broke(&error), "{error:?}");
    assert_eq!(setting.export(NOW).await.1.n_first_published, 1);
}

#[tokio::test]
async fn since_takes_what_was_approved_then_or_later() {
    let setting = Setting::new().await;
    setting.approved(1, |r| r).await;
    setting.execute("update testimonial set decided_at = '2026-03-15T00:00:00Z'").await;
    let mut count = Vec::new();
    for since in ["2026-03-15T00:00:00Z", "2026-03-15T00:00:01Z"] {
        let mut sink = std::io::sink();
        let report = setting.export_to(Destination::Stream(&mut sink), Some(at(since)), NOW).await.unwrap();
        count.push(report.n_rows);
    }
    assert_eq!(count, [1, 0]);
}

#[tokio::test]
async fn many_leave_whole_and_each_once() {
    let setting = Setting::new().await;
    let id = setting.approved(1, |r| r).await;
    // 2,500 more of the same kind, in one statement.
    setting
        .execute(
            r#"with o as (
                   insert into "order" (shop_id, external_id, customer_id, ordered_at, status, items, attributes, imported_at, updated_at)
                   select shop_id, 'B-' || n, customer_id, ordered_at, 'open', '{}', '{}', imported_at, updated_at
                   from "order", generate_series(1, 2500) n returning shop_id, order_id
               ), r as (
                   insert into response (shop_id, order_id, survey, survey_version_id, revision, counted, via, verdict, locale,
                                         answered_at, received_at, consent_version)
                   select o.shop_id, o.order_id, survey, survey_version_id, 1, true, 'page', 'human', 'fr', answered_at, received_at,
                          consent_version
                   from o, response returning shop_id, response_id
               ), t as (
                   insert into testimonial (shop_id, response_id, state) select shop_id, response_id, 'pending' from r
               )
               insert into answer (shop_id, response_id, question, body) select shop_id, response_id, 'comment', 'Très bien' from r"#,
        )
        .await;
    moderation::approve_all_pending(&setting.db.pool, &[setting.id], at(NOW)).await.unwrap();
    let error = setting.export_to(Destination::Stream(&mut Gone), None, NOW).await.unwrap_err();
    assert!(broke(&error), "{error:?}");
    let (records, report) = setting.export(NOW).await;
    assert_eq!((report.n_rows, report.n_first_published), (2_501, 2_501));
    let mut ids: Vec<_> = records.iter().map(|record| record[0].to_owned()).collect();
    assert_eq!(ids[0], id.to_string());
    ids.dedup();
    assert_eq!(ids.len(), 2_501);
    let shops = [(setting.id, &setting.shop)];
    let list = moderation::list(&setting.db.pool, &shops, Filter::default(), &rules()).await.unwrap();
    assert_eq!(list.len(), 2_501);
}

#[tokio::test]
async fn shops_without_testimonials_give_a_header() {
    let setting = Setting::new().await;
    let mut file = Vec::new();
    setting.export_to(Destination::Stream(&mut file), None, NOW).await.unwrap();
    let file = String::from_utf8(file).unwrap();
    assert!(
        file.starts_with("testimonial_id,shop,") && file.ends_with(",reply\r\n") && file.lines().count() == 1,
        "{file}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_command_line() {
    let program = Program::new(&shipped()).await;
    program.run(&["migrate"]).expect(0);
    let shop = factories::shop(&program.db.pool, "maison").await;
    let mut ids = Vec::new();
    for n in 0..2 {
        let customer =
            factories::customer(&program.db.pool, shop, &format!("customer{n}@shop.example")).await;
        let order = Order::new(shop, customer, &format!("A-{n}")).insert(&program.db.pool).await;
        let response = Response { survey: "satisfaction".to_owned(), ..Response::new(shop, order) };
        ids.push(store(&program.db.pool, response).await.to_string());
    }
    let help = program.run(&["testimonials", "--help"]).expect(0).stdout;
    for command in ["list", "show", "approve", "reject", "withdraw", "reply", "decide", "overdue"] {
        assert!(help.contains(&format!("\n  {command}")), "{command} is not in:\n{help}");
    }
    let states = |args: &[&str]| -> Vec<String> {
        let list = program.run(&[&["testimonials", "list", "--json"], args].concat()).expect(0).json();
        list.as_array().unwrap().iter().map(|entry| entry["state"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(states(&[]), ["pending", "pending"]);
    // What cannot be decided is told, and the rest is done.
    let some = program.run(&["testimonials", "approve", &ids[0], "999999"]).expect(3);
    assert!(some.stderr.contains("999999: there is no testimonial with this number"), "{}", some.stderr);
    program.run(&["testimonials", "reject", &ids[1], "--reason", "personal_data"]).expect(0);
    assert_eq!(states(&[]), ["approved", "rejected"]);
    assert_eq!(states(&["--state", "rejected"]), ["rejected"]);
    program.run(&["testimonials", "reject", &ids[1], "--reason", "low_score"]).expect(2);
    program.run(&["testimonials", "approve"]).expect(2);
    program.run(&["testimonials", "approve", "--all-pending", &ids[0]]).expect(2);
    let unknown = program.run(&["testimonials", "list", "--shop", "masion"]).expect(2);
    assert!(
        unknown.stderr.contains("there is no shop \"masion\"; did you mean `maison`?"),
        "{}",
        unknown.stderr
    );

    let exported = program.run(&["export", "testimonials"]).expect(0);
    assert_eq!(exported.stdout.lines().count(), 2);
    assert!(
        exported.stderr.contains("1 testimonials exported, 1 of them for the first time"),
        "{}",
        exported.stderr
    );
    program.run(&["export", "testimonials", "--out", "exports/latest.csv"]).expect(0);
    assert_eq!(fs::read_to_string(program.path("exports/latest.csv")).unwrap(), exported.stdout);
    sqlx::query("update \"order\" set status = 'cancelled'").execute(&program.db.pool).await.unwrap();
    let withheld = program.run(&["export", "testimonials", "--out", "exports/latest.csv"]).expect(0);
    assert!(withheld.stderr.contains("Approved but withheld: 1 order cancelled."), "{}", withheld.stderr);
    program.run(&["export", "testimonials", "--format", "excl"]).expect(2);
    program.run(&["export", "testimonials", "--shop", "masion"]).expect(2);
    program.run(&["export", "testimonials", "--out", "exports"]).expect(1);

    let table = program.run(&["report"]).expect(0).stdout;
    assert!(table.contains("Maison Exemple (maison), since the first order"), "{table}");
    assert!(table.contains("Recommendation rate") && table.contains("2 of 2 answers"), "{table}");
    program.run(&["report", "--html", "report.html"]).expect(0);
    assert!(fs::read_to_string(program.path("report.html")).unwrap().contains("Maison Exemple"));
    program.run(&["report", "--shop", "masion"]).expect(2);
    program.run(&["report", "--from", "2026-02-01", "--to", "2026-01-01"]).expect(2);
    program.run(&["report", "--from", "yesterday"]).expect(2);
}

/// Beside a file lies what it holds, and what has to be told near the reviews.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_comes_with_its_manifest_and_its_notices() {
    let program = Program::new(&shipped()).await;
    program.run(&["migrate"]).expect(0);
    let shop = factories::shop(&program.db.pool, "maison").await;
    let answers = [
        (Some("yes"), Some(5), None, "Parfait."),
        (Some("yes"), Some(4), None, "=HYPERLINK(\"http://evil.example\")"),
        (Some("yes"), None, None, "Sans note."),
        (Some("no"), Some(2), Some("delivery"), "En retard."),
    ];
    for (n, (recommend, rating, topic, words)) in answers.into_iter().enumerate() {
        let customer =
            factories::customer(&program.db.pool, shop, &format!("customer{n}@shop.example")).await;
        let order = Order::new(shop, customer, &format!("A-{n}")).insert(&program.db.pool).await;
        let response = Response::new(shop, order);
        let comment = Some(words.to_owned());
        let survey = "satisfaction".to_owned();
        store(&program.db.pool, Response { survey, recommend, rating, topic, comment, ..response }).await;
    }
    let now = ["--as-of", "2026-04-01T06:00:00Z"];
    program.run(&[["testimonials", "approve", "--all-pending"].as_slice(), &now].concat()).expect(0);
    let export = |args: &[&str], code: i32| {
        program
            .run(&[["export", "testimonials", "--shop", "maison"].as_slice(), args, &now].concat())
            .expect(code)
    };
    let manifest = |name: &str| -> serde_json::Value {
        serde_json::from_str(&fs::read_to_string(program.path(&format!("out/{name}.manifest.json"))).unwrap())
            .unwrap()
    };
    let notice = |name: &str| fs::read_to_string(program.path(&format!("out/{name}.md"))).unwrap();

    // Everything: nothing is left out, and the manifest's digest is that of the file.
    export(&["--out", "out/all.csv"], 0);
    let all = manifest("all");
    assert_eq!(
        (&all["n_rows"], &all["selection"], &all["n_refused"]),
        (&4.into(), &serde_json::Value::Null, &0.into())
    );
    let file = fs::read(program.path("out/all.csv")).unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA256, &file);
    let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(all["sha256"].as_str(), Some(digest.as_str()));
    assert_eq!(all["consent_versions"], serde_json::json!({ "2026-01": 4 }));
    let rate = &all["recommendation_rate"];
    assert_eq!((&rate["numerator"], &rate["denominator"]), (&3.into(), &4.into()));
    assert!(rate["ci_low"].as_f64().unwrap() < 0.75 && rate["ci_high"].as_f64().unwrap() > 0.75);
    insta::assert_snapshot!("notice_fr", notice("all.notice.fr"));
    insta::assert_snapshot!("notice_en", notice("all.notice.en"));

    // A choice needs a name, and says what it is.
    for args in [
        ["--min-rating", "4"].as_slice(),
        &["--topic", "delivery"],
        &["--selected-label", "Avis sélectionnés"],
        &["--min-rating", "9", "--selected-label", "Avis"],
        &["--topic", "livraison", "--selected-label", "Avis"],
        &["--min-rating", "4", "--selected-label", "Avis", "--format", "judgeme"],
        &["--format", "google-product"],
    ] {
        export(args, 2);
    }
    let selected = ["--min-rating", "4", "--selected-label", "Avis sélectionnés", "--out", "out/some.csv"];
    export(&selected, 0);
    let some = manifest("some");
    assert_eq!(some["n_rows"], 2);
    let selection = &some["selection"];
    assert_eq!(
        (&selection["label"], &selection["rule"], &selection["n_eligible"]),
        (&"Avis sélectionnés".into(), &"rating >= 4".into(), &4.into())
    );
    assert_eq!(selection["recommendation"]["denominator"], 4);
    let mut rows = csv::Reader::from_path(program.path("out/some.csv")).unwrap();
    let rows: Vec<BTreeMap<String, String>> = rows.deserialize().map(Result::unwrap).collect();
    for row in &rows {
        assert_eq!((row["selection_label"].as_str(), row["eligible"].as_str()), ("Avis sélectionnés", "4"));
        assert_eq!(row["recommendation_rate"], "0.75");
    }
    assert_eq!(rows.len(), 2);
    let french = notice("some.notice.fr");
    assert!(
        french.contains("sont une sélection, « Avis sélectionnés »") && french.contains("2 avis sur 4"),
        "{french}"
    );
    export(&["--topic", "delivery", "--selected-label", "Livraison", "--out", "out/topic.csv"], 0);
    assert_eq!(manifest("topic")["n_rows"], 1);

    // What a format cannot carry is refused, and named.
    let refused = export(&["--format", "judgeme", "--out", "out/judgeme.csv"], 3);
    assert!(refused.stderr.contains("Refused by judgeme, without a rating: "), "{}", refused.stderr);
    let judgeme = manifest("judgeme");
    assert_eq!((&judgeme["n_rows"], &judgeme["n_refused"]), (&2.into(), &2.into()));
    let french = notice("judgeme.notice.fr");
    assert!(french.contains("2 avis publiables manquent ici") && french.contains("1 sans note"), "{french}");
    let of = |reason: &str| judgeme["refused"][reason].as_array().unwrap().len();
    assert_eq!((of("no_rating"), of("formula")), (1, 1));
    let json = export(&["--format", "judgeme", "--out", "out/judgeme.csv", "--json"], 3).json();
    assert_eq!(json["refused"], judgeme["refused"]);

    // The job takes the same choice, and says when some could not be carried.
    let job = "[jobs.selected]\nkind = \"export_testimonials\"\n[jobs.selected.params]\nshop = \"maison\"\n\
               format = \"excel\"\nlocale = \"en\"\nmin_rating = 4\nout = \"./data/selected\"\n";
    program.configure(&format!("{}\n{job}", shipped()));
    let wrong = program.run(&["run", "selected"]).expect(2);
    assert!(wrong.stderr.contains("give the selection a label"), "{}", wrong.stderr);
    let labelled = job.replace("min_rating", "selected_label = \"Best\"\nmin_rating");
    let feed = "[jobs.feed]\nkind = \"export_testimonials\"\n[jobs.feed.params]\nformat = \"google-merchant\"\nout = \"./data/feed\"\n";
    program.configure(&format!("{}\n{labelled}\n{feed}", shipped()));
    program.run(&["run", "selected"]).expect(0);
    let latest = fs::read_to_string(program.path("data/selected/latest.csv")).unwrap();
    assert!(
        latest.starts_with("\u{feff}Number,") && latest.contains(",Best,rating >= 4,4,0.7500,4"),
        "{latest}"
    );
    assert!(program.path("data/selected/latest.manifest.json").exists());
    let partly = program.run(&["run", "feed"]).expect(3);
    assert!(partly.stderr.contains("1 refused that google-merchant cannot carry"), "{}", partly.stderr);
    assert!(program.path("data/feed/latest.xml").exists());
}

/// A notice says of a file's reviews only what the file shows, of each shop its own figures, and of authors who were mailed no link another
/// way to come back.
#[tokio::test(flavor = "multi_thread")]
async fn notices_tell_what_is_true_of_the_file_and_of_each_shop() {
    let consent = "[[survey.recommend.question]]\nkey = \"consent\"\ntype = \"consent\"\nversion = \"2026-01\"\n\
                   text = { en = \"You may publish my words.\", fr = \"Vous pouvez publier mes mots.\" }\n";
    let survey = format!("[survey.recommend]{}{consent}", CONFIG.split_once("[survey.recommend]").unwrap().1);
    let taken = survey
        .replace("survey.recommend", "survey.taken")
        .replace("trigger = \"fulfilled\"\ndelay = \"7d\"", "mailed = false");
    let program = Program::new(&format!("{CONFIG}{consent}{taken}")).await;
    for (key, survey, yes_or_no) in
        [("maison", "recommend", ["yes", "yes"]), ("atelier", "taken", ["yes", "no"])]
    {
        let shop = factories::shop(&program.db.pool, key).await;
        for (n, recommend) in yes_or_no.into_iter().enumerate() {
            let customer = factories::customer(&program.db.pool, shop, &format!("{n}@shop.example")).await;
            let order = Order::new(shop, customer, &format!("A-{n}")).insert(&program.db.pool).await;
            let (recommend, rating) = (Some(recommend), Some(if recommend == "yes" { 5 } else { 2 }));
            let rating = rating.filter(|_| key == "maison" || n == 1);
            let survey = survey.to_owned();
            store(&program.db.pool, Response { survey, recommend, rating, ..Response::new(shop, order) })
                .await;
        }
    }
    let as_of = ["--as-of", "2026-04-01T06:00:00Z"];
    program.run(&[["testimonials", "approve", "--all-pending"].as_slice(), &as_of].concat()).expect(0);
    let context = program.context(at(NOW)).await;
    let shops: Vec<_> = context.shops.iter().collect();
    let (rules, surveys) = (rules(), &context.config.surveys);
    let notice = async |shops: &[(ShopId, &Shop)], format: &str, locale: &str| {
        let export = Export::new(shops, export::format(format).unwrap(), &rules, surveys);
        notice_of_export(&program.db.pool, export, locale, at(NOW)).await.unwrap()
    };

    // Both dates, or what the shop has to show itself.
    let maison: Vec<_> = shops.iter().copied().filter(|(_, shop)| shop.key == "maison").collect();
    let mut with_dates = Vec::new();
    for format in EXPORT_FORMATS {
        let (french, english) =
            (notice(&maison, format.name, "fr").await, notice(&maison, format.name, "en").await);
        let shows = french.contains("Chaque avis porte la date de sa publication et la date de l’expérience");
        assert_eq!(shows, english.contains("Each review shows the date of its publication and the date of"));
        assert_eq!(!shows, french.contains("ne contient ni la date de publication de chaque avis, ni celle"));
        assert_eq!(!shows, english.contains("holds neither the date of publication of each review nor"));
        if shows {
            with_dates.push(format.name);
        }
    }
    assert_eq!(with_dates, ["generic", "excel", "schema-org"]);

    // Of each shop its own.
    let parts = |notice: &str| -> [String; 2] {
        let atelier =
            notice.find("# Les avis sur Atelier").or_else(|| notice.find("# Reviews of Atelier")).unwrap();
        let maison =
            notice.find("# Les avis sur Maison").or_else(|| notice.find("# Reviews of Maison")).unwrap();
        let cut = atelier.max(maison);
        let [first, second] = [&notice[..cut], &notice[cut..]].map(str::to_owned);
        if maison < atelier { [first, second] } else { [second, first] }
    };
    let [maison, atelier] = parts(&notice(&shops, "judgeme", "fr").await);
    assert!(
        maison.contains("100,0\u{a0}% des 2 clients") && !maison.contains("publiable manque"),
        "{maison}"
    );
    assert!(
        atelier.contains("50,0\u{a0}% des 2 clients") && atelier.contains("1 avis publiable manque ici"),
        "{atelier}"
    );
    for (part, way) in [
        (&maison, "modifier son avis par le lien personnel qu’il a reçu, pendant"),
        (&maison, "le retirer à tout moment par ce même lien."),
        (&atelier, "modifier son avis en écrivant à reviews@atelier.example ;"),
        (&atelier, "le retirer à tout moment en écrivant à reviews@atelier.example."),
    ] {
        assert!(part.contains(way), "{way}: {part}");
    }
    assert!(!atelier.contains("lien personnel"), "{atelier}");
    assert!(
        maison.contains("si aucun courriel ne peut lui être envoyé, sur la page de l’enquête"),
        "{maison}"
    );
    let [maison, atelier] = parts(&notice(&shops, "generic", "en").await);
    assert!(
        maison.contains("the oldest first, shop after shop.") && !maison.contains("by writing to"),
        "{maison}"
    );
    assert!(atelier.contains("withdraw it at any time by writing to reviews@atelier.example."), "{atelier}");
    assert!(!atelier.contains("personal link"), "{atelier}");

    // How many of how many is known of the whole, not of what has changed.
    let file = |since: &[&str]| {
        let args =
            ["export", "testimonials", "--min-rating", "4", "--selected-label", "Choix", "--out", "some.csv"];
        program.run(&[&args, since, &as_of].concat()).expect(0);
        fs::read_to_string(program.path("some.notice.fr.md")).unwrap()
    };
    let [maison, atelier] = parts(&file(&[]));
    assert!(maison.contains("Elle retient 2 avis sur 2 qui"), "{maison}");
    assert!(atelier.contains("Elle retient 0 avis sur 2 qui"), "{atelier}");
    let increment = file(&["--since", "2026-03-31"]);
    assert!(increment.contains("une sélection, « Choix »") && !increment.contains("retient"), "{increment}");
}

/// Whoever keeps a copy asks for what has changed, and learns what to take down, whatever the reason.
#[tokio::test]
async fn since_tells_what_was_added_changed_and_withdrawn() {
    let setting = Setting::new().await;
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(setting.approved(n, |r| r).await);
    }
    setting.execute("update testimonial set decided_at = '2026-03-15'").await;
    setting.export("2026-03-16T06:00:00Z").await;
    let changes = async || {
        let mut file = Vec::new();
        let since = Some(at("2026-03-20T00:00:00Z"));
        setting.export_to(Destination::Stream(&mut file), since, "2026-04-01T06:00:00Z").await.unwrap();
        let mut reader = csv::Reader::from_reader(file.as_slice());
        assert_eq!(reader.headers().unwrap().iter().next_back(), Some("change"));
        let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
        rows.iter().map(|row| (row[0].parse().unwrap(), row[15].to_owned())).collect::<Vec<(i64, String)>>()
    };
    assert_eq!(changes().await, [], "nothing has happened since");
    let change = async |n: usize, sql: &str| {
        let (id, of) = (ids[n], "(select order_id from response where response_id = $)");
        setting.execute(&sql.replace("ORDER", of).replace('$', &id.to_string())).await;
    };
    change(0, r#"update "order" set status = 'cancelled', updated_at = '2026-03-21' where order_id = ORDER"#)
        .await;
    change(1, "update testimonial set state = 'rejected', reject_reason = 'unlawful', decided_at = '2026-03-21' where response_id = $").await;
    change(
        2,
        "update customer set email = null, email_key = null, first_name = null, last_name = null, erased_at = '2026-03-21'
         where customer_id = (select customer_id from \"order\" where order_id = ORDER)",
    )
    .await;
    change(3, r#"update "order" set country = 'BE', updated_at = '2026-03-21' where order_id = ORDER"#).await;
    // The author has written anew: the old words go, the new ones come once they are approved.
    change(4, "update response set counted = false where response_id = $").await;
    let order = sqlx::query_scalar("select order_id from response where response_id = $1")
        .bind(ids[4])
        .fetch_one(&setting.db.pool)
        .await
        .unwrap();
    let anew =
        Response { revision: 2, answered_at: at("2026-03-21T06:00:00Z"), ..Response::new(setting.id, order) };
    let anew = setting.store(anew).await;
    setting.approve(&[anew.0]).await;
    let expected = ["withdrawn", "withdrawn", "withdrawn", "changed", "withdrawn"].map(str::to_owned);
    let mut expected: Vec<_> = ids.iter().map(|id| id.0).zip(expected).collect();
    expected.push((anew.0, "added".to_owned()));
    assert_eq!(changes().await, expected);
    assert_eq!(changes().await, expected, "and again, for whoever asks again");
}
