//! Real orders and real reviews, through the real program: the report must give the facts that were counted independently
//! (`../shared/data/olist/README.md`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use afterword::config::Config;
use afterword::import::run::{Destination, ImportOptions};
use afterword::orders::import::import_orders;
use afterword::responses::import::{Asked, import_responses};
use afterword::types::Clock;

use crate::support::program::Program;
use crate::support::{TestDb, factories, shared};

/// The shop, formats and survey of the reference configuration that are about this data.
const JOBS_TOML: &str = r#"
[app]
base_url = "http://127.0.0.1:8080"
data_dir = "./data"
[database]
[mail]
transport = "file"
[[shop]]
key = "olist"
name = "Olist sample"
locale = "en"
timezone = "America/Sao_Paulo"
from = "Olist sample <reviews@olist.example>"
url = "https://olist.example"
[order_format.olist]
delimiter = ","
encoding = "utf-8"
timezone = "America/Sao_Paulo"
date_format = "%Y-%m-%d %H:%M:%S"
[order_format.olist.columns]
order_id = "order_id"
email = "customer_email"
ordered_at = "order_purchase_timestamp"
fulfilled_at = "order_delivered_customer_date"
status = "order_status"
total = "order_total"
[order_format.olist.attributes]
state = "customer_state"
category = "product_categories"
[order_format.olist.status]
delivered = "fulfilled"
canceled = "cancelled"
unavailable = "cancelled"
"*" = "open"
[response_format.olist]
survey = "reviews"
[response_format.olist.columns]
order_id = "order_id"
answered_at = "review_answer_timestamp"
external_id = "review_id"
[response_format.olist.answers]
overall = "review_score"
comment = "review_comment_message"
[survey.reviews]
shops = ["olist"]
mailed = false
recommendation = { question = "overall", yes = "4-5" }
[[survey.reviews.question]]
key = "overall"
type = "rating"
text = { en = "Overall rating" }
[[survey.reviews.question]]
key = "comment"
type = "text"
text = { en = "Comment" }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_report_on_real_data_gives_the_facts() {
    let Some(shared) = shared() else { return };
    let data = shared.join("data/olist");
    let file = |name: &str| data.join(name).display().to_string();
    let program = Program::new(JOBS_TOML).await;
    let orders = program
        .run(&["import", "orders", &file("orders.csv"), "--format", "olist", "--json"])
        .expect(0)
        .json();
    assert_eq!((&orders[0]["n_read"], &orders[0]["n_inserted"]), (&4105.into(), &4105.into()), "{orders}");
    let reviews = program
        .run(&["import", "responses", &file("reviews.csv"), "--format", "olist", "--json"])
        .expect(0)
        .json();
    assert_eq!(reviews[0]["n_read"], 4163, "{reviews}");
    assert_eq!(reviews[0]["n_rejected"], 0, "{reviews}");

    let report = ["report", "--shop", "olist", "--as-of", "2018-12-31", "--json"];
    let first = program.run(&report).expect(0);
    let figures = &first.json()["shops"][0]["metrics"];
    let rate = &figures["recommendation_rate"];
    assert_eq!((&rate["numerator"], &rate["denominator"]), (&2241.into(), &4105.into()));
    let to_six_digits = |field: &str| format!("{:.6}", rate[field].as_f64().unwrap());
    assert_eq!(["value", "ci_low", "ci_high"].map(to_six_digits), ["0.545920", "0.530653", "0.561100"]);
    assert!(rate["definition"].as_str().unwrap().contains("a score from 4 to 5"), "{rate}");
    for key in ["repeat_customer_ratio", "returning_customer_rate"] {
        assert_eq!(
            (&figures[key]["numerator"], &figures[key]["denominator"]),
            (&22.into(), &3435.into()),
            "{key}"
        );
    }
    assert!(figures["nps"]["value"].is_null());
    assert_eq!(program.run(&report).expect(0).stdout, first.stdout, "the same again");

    // A year earlier less was known, and a window that holds all of it gives the same as no window.
    let earlier = program.run(&["report", "--as-of", "2017-12-31", "--json"]).expect(0).json();
    let known = earlier["shops"][0]["metrics"]["recommendation_rate"]["denominator"].as_i64().unwrap();
    assert!(0 < known && known < 4105, "{known}");
    let window = ["--from", "2016-01-01", "--to", "2019-01-01"];
    let whole = program.run(&[&report[..], &window[..]].concat()).expect(0).json();
    assert_eq!(&whole["shops"][0]["metrics"], figures);
}

/// One row of a file, by its header.
type Row = BTreeMap<String, String>;

fn rows(path: &Path) -> Vec<Row> {
    csv::Reader::from_path(path).unwrap().deserialize().map(|row| row.unwrap()).collect()
}

/// Of how many, and of these how many.
type Counted = BTreeMap<String, (i64, i64)>;

fn add(counted: &mut Counted, key: &str, hit: bool) {
    let (hits, total) = counted.entry(key.to_owned()).or_default();
    *total += 1;
    *hits += i64::from(hit);
}

/// The figures of each month and each state, beside what is counted here from the files themselves. Their times are the shop's.
#[tokio::test(flavor = "multi_thread")]
async fn the_months_and_the_states_of_real_data_are_those_of_the_files() {
    let Some(shared) = shared() else { return };
    let data = shared.join("data/olist");
    let program = Program::new(JOBS_TOML).await;
    for (what, file) in [("orders", "orders.csv"), ("responses", "reviews.csv")] {
        program.run(&["import", what, &data.join(file).display().to_string(), "--format", "olist"]).expect(0);
    }
    let (orders, reviews) = (rows(&data.join("orders.csv")), rows(&data.join("reviews.csv")));
    let month = |row: &Row, column: &str| row[column][..7].to_owned();

    // The latest answer of each order; of two at a time, the one further down.
    let mut answers: BTreeMap<&str, &Row> = BTreeMap::new();
    for review in &reviews {
        let answer = answers.entry(&review["order_id"]).or_insert(review);
        if review["review_answer_timestamp"] >= answer["review_answer_timestamp"] {
            *answer = review;
        }
    }
    let states: BTreeMap<&str, &str> =
        orders.iter().map(|order| (order["order_id"].as_str(), order["customer_state"].as_str())).collect();
    let (mut by_month, mut by_state) = (Counted::new(), Counted::new());
    for (order, answer) in &answers {
        let yes = answer["review_score"].parse::<u8>().unwrap() >= 4;
        add(&mut by_month, &month(answer, "review_answer_timestamp"), yes);
        add(&mut by_state, states[order], yes);
    }
    // The customers of each month, and which of them ordered twice in it, or had ordered before.
    let mut months: BTreeMap<String, BTreeMap<&str, i64>> = BTreeMap::new();
    for order in
        orders.iter().filter(|order| !["canceled", "unavailable"].contains(&order["order_status"].as_str()))
    {
        let customers = months.entry(month(order, "order_purchase_timestamp")).or_default();
        *customers.entry(&order["customer_email"]).or_default() += 1;
    }
    let (mut n_orders, mut repeat, mut returning) = (BTreeMap::new(), Counted::new(), Counted::new());
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for (month, customers) in &months {
        n_orders.insert(month.clone(), customers.values().sum::<i64>());
        for (customer, n) in customers {
            add(&mut repeat, month, *n > 1);
            add(&mut returning, month, *n > 1 || known.contains(customer));
        }
        known.extend(customers.keys());
    }
    assert!(repeat.values().any(|(hits, _)| *hits > 0) && returning.values().any(|(hits, _)| *hits > 0));

    let report =
        ["report", "--as-of", "2018-12-31", "--by", "month", "--segment", "attributes.state", "--json"];
    let shop = program.run(&report).expect(0).json()["shops"][0].clone();
    let points = shop["series"]["points"].as_array().unwrap();
    let count = |figure: &serde_json::Value| {
        (figure["numerator"].as_i64().unwrap(), figure["denominator"].as_i64().unwrap())
    };
    for (key, expected) in [
        ("recommendation_rate", &by_month),
        ("repeat_customer_ratio", &repeat),
        ("returning_customer_rate", &returning),
    ] {
        let found: Counted = points
            .iter()
            .map(|point| (point["period"].as_str().unwrap().to_owned(), count(&point["metrics"][key])))
            .filter(|(_, (_, total))| *total > 0)
            .collect();
        assert_eq!(&found, expected, "{key}");
    }
    let found: BTreeMap<String, i64> = points
        .iter()
        .map(|point| {
            (point["period"].as_str().unwrap().to_owned(), point["volumes"]["orders"].as_i64().unwrap())
        })
        .filter(|(_, n)| *n > 0)
        .collect();
    assert_eq!(found, n_orders);
    let segments = shop["segments"]["metrics"]["recommendation_rate"].as_array().unwrap();
    let found: Counted = segments
        .iter()
        .map(|figure| (figure["segment_value"].as_str().unwrap().to_owned(), count(figure)))
        .collect();
    assert_eq!(found, by_state);
}

#[tokio::test]
async fn the_imports_of_real_data_give_the_facts() {
    let Some(shared) = shared() else { return };
    let data = shared.join("data/olist");
    let config =
        Config::parse(Path::new("jobs.toml"), JOBS_TOML).unwrap_or_else(|e| panic!("{:#?}", e.lines()));
    let db = TestDb::new().await;
    let shop = factories::shop(&db.pool, "olist").await;
    let to = Destination { pool: &db.pool, shop, config: &config.shops[0] };
    let clock = Clock::Fixed(factories::at("2018-12-31T00:00:00Z"));
    let asked = Asked { formats: &config.response_formats, surveys: &config.surveys, survey: None };
    let (orders, reviews) = (data.join("orders.csv"), data.join("reviews.csv"));

    // Twice: the second time changes nothing.
    for (again, inserted) in [(false, [4105, 4163]), (true, [0, 0])] {
        let options = ImportOptions { again, ..ImportOptions::default() };
        let report =
            import_orders(to, &config.order_formats, &orders, &options, clock, &|_, _| {}).await.unwrap();
        assert_eq!(
            (report.format.as_str(), report.n_read, report.n_rejected),
            ("olist", 4105, 0),
            "{report:?}"
        );
        assert_eq!((report.n_inserted, report.n_updated), (inserted[0], 0));
        let report = import_responses(to, asked, &reviews, &options, clock, &|_, _| {}).await.unwrap();
        assert_eq!(
            (report.format.as_str(), report.n_read, report.n_rejected),
            ("olist", 4163, 0),
            "{report:?}"
        );
        assert_eq!((report.n_inserted, report.n_updated), (inserted[1], 0));
    }

    let check = async |fact: &str, sql: &'static str, expected: i64| {
        let found: i64 = sqlx::query_scalar(sql).fetch_one(&db.pool).await.unwrap();
        assert_eq!(found, expected, "{fact}");
    };
    let orders = r#"select count(*) from "order""#;
    check("orders", orders, 4105).await;
    check("customers", "select count(*) from customer", 4047).await;
    let counting = r#"select count(*) from "order" where status not in ('cancelled', 'refunded')"#;
    check("orders that count", counting, 3478).await;
    let customers =
        r#"select count(distinct customer_id) from "order" where status not in ('cancelled', 'refunded')"#;
    check("customers", customers, 3435).await;
    let repeat = r#"select count(*) from (select from "order" where status not in ('cancelled', 'refunded')
                    group by customer_id having count(*) > 1) r"#;
    check("repeat customers", repeat, 22).await;
    // The README's "delivered" are those with a delivery date; five more say so without giving one.
    let delivered = r#"select count(*) from "order"
                       where fulfilled_at is not null and status not in ('cancelled', 'refunded')"#;
    check("delivered", delivered, 2608).await;
    let customers = r#"select count(distinct customer_id) from "order"
                       where fulfilled_at is not null and status not in ('cancelled', 'refunded')"#;
    check("customers of delivered orders", customers, 2570).await;
    check("their word is delivered", r#"select count(*) from "order" where status = 'fulfilled'"#, 2613)
        .await;
    let first = r#"select count(*) from "order" where ordered_at in
                   ('2016-09-13 15:24:19 America/Sao_Paulo', '2018-10-16 20:16:02 America/Sao_Paulo')"#;
    check("first and last purchase", first, 2).await;
    check("answered", "select count(*) from response where counted", 4105).await;
    check("revisions", "select count(*) from response", 4163).await;
    let yes = "select count(*) from response join answer using (shop_id, response_id)
               where counted and question = 'overall' and score >= 4";
    check("score 4 or 5", yes, 2241).await;
    let comments = "select count(*) from response join answer using (shop_id, response_id)
                    where counted and question = 'comment' and body is not null";
    check("with a comment", comments, 2095).await;
    check("nobody was asked whether it may be published", "select count(*) from testimonial", 0).await;
}
