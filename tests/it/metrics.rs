//! The indicators: each on a small worked example, all together against a slow second opinion, and on real data.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use afterword::config::{Config, Shop};
use afterword::metrics::figure::Figure;
use afterword::metrics::window::{Bound, Window};
use afterword::metrics::{self, METRICS, Report};
use afterword::types::{OrderId, ShopId};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;

use crate::support::TestDb;
use crate::support::config;
use crate::support::factories::{self, Order, Response, at};

/// The shops of these tests: `plume` asks yes or no and has a promoter score, `scale` takes 4 and 5 for a yes, `both` does both, and
/// `mute` asks nothing that can be counted.
const SHOPS: &[config::Shop<'_>] = &[
    ("plume", "Plume", "fr", "Europe/Paris"),
    ("scale", "Scale", "en", "America/Sao_Paulo"),
    ("both", "Both", "en", "UTC"),
    ("mute", "Mute", "en", "UTC"),
];

const SURVEYS: &str = r#"
[survey.recommend]
shops = ["plume", "both"]
trigger = "fulfilled"
delay = "7d"
recommendation = { question = "recommend", yes = ["yes"] }
[[survey.recommend.question]]
key = "recommend"
type = "recommend"
text = { en = "Would you recommend us?" }
[[survey.recommend.question]]
key = "nps"
type = "nps"
text = { en = "How likely?" }
[[survey.recommend.question]]
key = "rating"
type = "rating"
text = { en = "Overall" }
[survey.scale]
shops = ["scale", "both"]
mailed = false
recommendation = { question = "rating", yes = "4-5" }
[[survey.scale.question]]
key = "rating"
type = "rating"
text = { en = "Overall" }
[survey.words]
shops = ["mute"]
mailed = false
[[survey.words.question]]
key = "comment"
type = "text"
text = { en = "Tell us" }
"#;

fn config() -> Config {
    config::parsed(&config::jobs_toml(SHOPS, SURVEYS))
}

struct Setting {
    db: TestDb,
    config: Config,
    id: ShopId,
    shop: Shop,
}

impl Setting {
    async fn of(key: &str) -> Self {
        let db = TestDb::new().await;
        let config = config();
        let id = factories::shop(&db.pool, key).await;
        let shop = config.shop(key).unwrap().clone();
        Self { db, config, id, shop }
    }

    async fn order(&self, customer: &str, number: &str, ordered_at: &str, status: &'static str) -> OrderId {
        let customer = factories::customer(&self.db.pool, self.id, customer).await;
        let order = Order { status, ..Order::new(self.id, customer, number) }.ordered_at(ordered_at);
        order.insert(&self.db.pool).await
    }

    /// Another answer: a customer with an order and what they said of it.
    async fn answer(&self, n: i32, change: impl FnOnce(Response) -> Response) {
        let customer = format!("customer{n}@shop.example");
        let order = self.order(&customer, &format!("A-{n}"), "2026-03-01T09:00:00Z", "fulfilled").await;
        change(Response::new(self.id, order)).insert(&self.db.pool).await;
    }

    async fn report_of(&self, window: Window, as_of: &str) -> Report {
        let shops = [(self.id, &self.shop)];
        metrics::report(&self.db.pool, &shops, &self.config.surveys, window, at(as_of)).await.unwrap()
    }

    async fn figure(&self, key: &str, window: Window, as_of: &str) -> Figure {
        self.report_of(window, as_of).await.shops[0].metrics.get(key).unwrap().clone()
    }

    /// Numerator and denominator.
    async fn check(&self, key: &str, window: Window, as_of: &str, numerator: i64, denominator: i64) {
        let figure = self.figure(key, window, as_of).await;
        assert_eq!(
            (figure.numerator, figure.denominator),
            (numerator, denominator),
            "{key} of {window:?} as of {as_of}"
        );
    }
}

const ALWAYS: Window = Window { from: None, to: None };
const LATER: &str = "2026-12-31T00:00:00Z";

fn window(from: &str, to: &str) -> Window {
    Window { from: from.parse().ok(), to: to.parse().ok() }
}

#[tokio::test]
async fn recommendation_rate_counts_yes_among_the_answers() {
    let setting = Setting::of("plume").await;
    for n in 0..5 {
        setting.answer(n, |r| Response { recommend: Some(if n < 3 { "yes" } else { "no" }), ..r }).await;
    }
    // Left open: neither a yes nor a no.
    setting.answer(5, |r| Response { recommend: None, ..r }).await;
    let figure = setting.figure("recommendation_rate", ALWAYS, LATER).await;
    assert_eq!((figure.numerator, figure.denominator, figure.value), (3, 5, Some(0.6)));
    assert!(figure.ci_low.unwrap() < 0.6 && figure.ci_high.unwrap() > 0.6);
    assert!(
        figure
            .definition
            .contains("A recommendation is: “yes” to question “recommend” of survey “recommend”.")
    );
    assert!(figure.verdict.starts_with("Too few answers to say: 3 of 5"), "{}", figure.verdict);
}

#[tokio::test]
async fn for_a_scale_the_configured_range_counts_as_yes_and_the_report_says_which() {
    let setting = Setting::of("scale").await;
    for (n, rating) in [1, 3, 4, 5, 5].into_iter().enumerate() {
        let survey = "scale".to_owned();
        setting.answer(n as i32, |r| Response { survey, via: "import", rating: Some(rating), ..r }).await;
    }
    let figure = setting.figure("recommendation_rate", ALWAYS, LATER).await;
    assert_eq!((figure.numerator, figure.denominator), (3, 5));
    assert!(figure.definition.contains("a score from 4 to 5 to question “rating” of survey “scale”"));
}

#[tokio::test]
async fn several_surveys_with_a_rule_are_counted_together_and_each_rule_is_named() {
    let setting = Setting::of("both").await;
    setting.answer(1, |r| Response { recommend: Some("no"), ..r }).await;
    setting
        .answer(2, |r| Response { survey: "scale".to_owned(), recommend: None, rating: Some(4), ..r })
        .await;
    // Of a survey that is not configured any more.
    setting.answer(3, |r| Response { survey: "forgotten".to_owned(), ..r }).await;
    let figure = setting.figure("recommendation_rate", ALWAYS, LATER).await;
    assert_eq!((figure.numerator, figure.denominator), (1, 2));
    assert!(
        figure.definition.contains("survey “recommend”; or a score from 4 to 5"),
        "{}",
        figure.definition
    );
    setting.check("csat", ALWAYS, LATER, 2, 2).await;
}

#[tokio::test]
async fn nps_and_csat_take_the_usual_classes() {
    let setting = Setting::of("plume").await;
    for (n, (nps, rating)) in
        [(10, Some(5)), (9, Some(4)), (8, Some(3)), (7, None), (6, Some(1)), (0, Some(2)), (9, Some(5))]
            .into_iter()
            .enumerate()
    {
        setting.answer(n as i32, |r| Response { nps: Some(nps), rating, ..r }).await;
    }
    let nps = serde_json::to_value(setting.figure("nps", ALWAYS, LATER).await).unwrap();
    assert_eq!((&nps["promoters"], &nps["passives"], &nps["detractors"]), (&3.into(), &2.into(), &2.into()));
    assert!((nps["value"].as_f64().unwrap() - 100.0 / 7.0).abs() < 1e-9);
    setting.check("csat", ALWAYS, LATER, 3, 6).await;
}

#[tokio::test]
async fn what_was_never_asked_is_listed_without_a_value() {
    let setting = Setting::of("mute").await;
    let report = setting.report_of(ALWAYS, LATER).await;
    for (metric, figure) in report.shops[0].metrics.iter() {
        assert_eq!(
            (figure.denominator, figure.value, figure.ci_low, figure.ci_high),
            (0, None, None, None),
            "{}",
            metric.key
        );
    }
    let nps = report.shops[0].metrics.get("nps").unwrap();
    assert!(nps.definition.contains("No survey of this shop has a question of type “nps”."));
}

#[tokio::test]
async fn suspect_answers_are_kept_and_left_out() {
    let setting = Setting::of("plume").await;
    setting.answer(1, |r| Response { recommend: Some("yes"), ..r }).await;
    setting.answer(2, |r| Response { recommend: Some("no"), verdict: "suspect", counted: false, ..r }).await;
    setting.check("recommendation_rate", ALWAYS, LATER, 1, 1).await;
    setting.check("csat", ALWAYS, LATER, 1, 1).await;
    // A scanner that answers after a person.
    let order = setting.order("hugo@shop.example", "B-1", "2026-03-01T09:00:00Z", "fulfilled").await;
    let answer = Response::new(setting.id, order);
    answer.clone().insert(&setting.db.pool).await;
    Response { revision: 2, recommend: Some("no"), verdict: "suspect", counted: false, ..answer }
        .answered_at("2026-03-10T18:30:09Z")
        .insert(&setting.db.pool)
        .await;
    let figure = serde_json::to_value(setting.figure("recommendation_rate", ALWAYS, LATER).await).unwrap();
    assert_eq!((&figure["numerator"], &figure["denominator"]), (&2.into(), &2.into()));
    assert_eq!(
        figure["with_suspects"],
        serde_json::json!({ "numerator": 1, "denominator": 3, "value": 1.0 / 3.0 })
    );
    let then = setting.figure("recommendation_rate", ALWAYS, "2026-03-10T18:30:05Z").await;
    let then = serde_json::to_value(then).unwrap();
    assert_eq!((&then["numerator"], &then["with_suspects"]["denominator"]), (&2.into(), &3.into()));
}

#[tokio::test]
async fn of_a_changed_answer_the_revision_that_stood_at_the_date_counts() {
    let setting = Setting::of("plume").await;
    let order = setting.order("claire@shop.example", "A-1", "2026-03-01T09:00:00Z", "fulfilled").await;
    let pool = &setting.db.pool;
    let revision = |n, recommend| Response {
        revision: n,
        recommend: Some(recommend),
        ..Response::new(setting.id, order)
    };
    Response { counted: false, ..revision(1, "no") }.answered_at("2026-03-10T10:00:00Z").insert(pool).await;
    Response { counted: false, verdict: "suspect", ..revision(2, "no") }
        .answered_at("2026-03-11T10:00:00Z")
        .insert(pool)
        .await;
    revision(3, "yes").answered_at("2026-03-12T10:00:00Z").insert(pool).await;
    let key = "recommendation_rate";
    setting.check(key, ALWAYS, "2026-03-10T09:59:59Z", 0, 0).await;
    setting.check(key, ALWAYS, "2026-03-10T10:00:00Z", 0, 1).await;
    setting.check(key, ALWAYS, "2026-03-12T09:59:59Z", 0, 1).await;
    setting.check(key, ALWAYS, "2026-03-12T10:00:00Z", 1, 1).await;
    setting.check(key, ALWAYS, LATER, 1, 1).await;
    // The answer as it stands was given on the 12th.
    setting.check(key, window("2026-03-10", "2026-03-11"), LATER, 0, 0).await;
    setting.check(key, window("2026-03-12", "2026-03-13"), LATER, 1, 1).await;
}

#[tokio::test]
async fn the_response_rate_counts_sent_mails_and_the_answers_to_them() {
    let setting = Setting::of("plume").await;
    let pool = &setting.db.pool;
    for n in 0..4 {
        let customer = format!("customer{n}@shop.example");
        let order = setting.order(&customer, &format!("A-{n}"), "2026-03-01T09:00:00Z", "fulfilled").await;
        let invitation =
            factories::sent_invitation(pool, setting.id, order, at("2026-03-10T09:00:00Z")).await;
        let answer = Response { invitation: Some(invitation), ..Response::new(setting.id, order) };
        match n {
            0 => drop(answer.answered_at("2026-03-10T18:00:00Z").insert(pool).await),
            // A mail scanner does not answer.
            1 => drop(Response { verdict: "suspect", counted: false, ..answer }.insert(pool).await),
            // Came by file, not because we asked.
            2 => drop(Response { invitation: None, via: "import", ..answer }.insert(pool).await),
            _ => {}
        }
    }
    // Not a first mail; its fate is unknown; refused.
    for (n, (state, wave)) in [("sent", 1), ("unknown", 0), ("failed", 0)].into_iter().enumerate() {
        let order =
            setting.order("more@shop.example", &format!("B-{n}"), "2026-03-01T09:00:00Z", "fulfilled").await;
        let invitation =
            factories::sent_invitation(pool, setting.id, order, at("2026-03-10T09:00:00Z")).await;
        sqlx::query(
            "update invitation set state = $2::invitation_state, wave = $3, sent_at = case when $2 = 'sent' then sent_at end
             where invitation_id = $1",
        )
        .bind(invitation)
        .bind(state)
        .bind(wave as i16)
        .execute(pool)
        .await
        .unwrap();
    }
    let figure = serde_json::to_value(setting.figure("response_rate", ALWAYS, LATER).await).unwrap();
    assert_eq!(
        (&figure["numerator"], &figure["denominator"], &figure["unknown"]),
        (&1.into(), &4.into(), &1.into())
    );
    // Of all that were asked: also the one of which nobody knows, and the one that was refused.
    setting.check("response_rate_rr1", ALWAYS, LATER, 1, 6).await;
    // What comes back was not reached; who answered was, whatever comes back.
    let sql = "insert into bounce (shop_id, invitation_id, digest, kind, reason, received_at)
               select shop_id, invitation_id, sha256(invitation_id::text::bytea), 'hard', '', '2026-03-11'
               from invitation where wave = 0 and state = 'sent' order by invitation_id limit 2";
    sqlx::query(sql).execute(pool).await.unwrap();
    setting.check("response_rate", ALWAYS, LATER, 1, 3).await;
    setting.check("response_rate_rr1", ALWAYS, LATER, 1, 6).await;
    setting.check("response_rate", ALWAYS, "2026-03-10T23:00:00Z", 1, 4).await;
    sqlx::query("delete from bounce").execute(pool).await.unwrap();
    setting.check("response_rate", ALWAYS, "2026-03-10T17:59:59Z", 0, 4).await;
    setting.check("response_rate", ALWAYS, "2026-03-10T08:59:59Z", 0, 0).await;
    // An answer belongs to its mail, not to the day it came.
    setting.check("response_rate", window("2026-03-10T09:00:00Z", "2026-03-10T10:00:00Z"), LATER, 1, 4).await;
    setting.check("response_rate", window("2026-03-10T10:00:00Z", ""), LATER, 0, 0).await;
}

#[tokio::test]
async fn repeat_and_returning_customers_differ_by_what_was_before_the_window() {
    let setting = Setting::of("plume").await;
    for (customer, number, ordered_at, status) in [
        ("twice@shop.example", "1", "2026-03-05T09:00:00Z", "fulfilled"),
        ("TWICE@shop.example", "2", "2026-03-06T09:00:00Z", "open"),
        ("before@shop.example", "3", "2026-01-05T09:00:00Z", "fulfilled"),
        ("before@shop.example", "4", "2026-03-05T09:00:00Z", "fulfilled"),
        ("once@shop.example", "5", "2026-03-05T09:00:00Z", "fulfilled"),
        ("once@shop.example", "6", "2026-04-05T09:00:00Z", "fulfilled"),
        ("cancelled@shop.example", "7", "2026-02-05T09:00:00Z", "cancelled"),
        ("cancelled@shop.example", "8", "2026-03-05T09:00:00Z", "fulfilled"),
        ("cancelled@shop.example", "9", "2026-03-06T09:00:00Z", "refunded"),
        ("never@shop.example", "10", "2026-03-06T09:00:00Z", "cancelled"),
        ("gone@shop.example", "11", "2026-02-06T09:00:00Z", "fulfilled"),
    ] {
        setting.order(customer, number, ordered_at, status).await;
    }
    let march = window("2026-03-01", "2026-04-01");
    setting.check("repeat_customer_ratio", march, LATER, 1, 4).await;
    setting.check("returning_customer_rate", march, LATER, 2, 4).await;
    setting.check("repeat_customer_ratio", ALWAYS, LATER, 3, 5).await;
    setting.check("returning_customer_rate", ALWAYS, LATER, 3, 5).await;
    setting.check("repeat_customer_ratio", ALWAYS, "2026-03-05T12:00:00Z", 1, 5).await;
    // Whoever is erased was a customer all the same.
    sqlx::query("update customer set email = null, email_key = null, first_name = null, last_name = null, erased_at = '2026-05-01'")
        .execute(&setting.db.pool)
        .await
        .unwrap();
    setting.check("returning_customer_rate", march, LATER, 2, 4).await;
}

#[tokio::test]
async fn a_window_has_its_first_moment_and_not_its_last_in_the_zone_of_the_shop() {
    let setting = Setting::of("plume").await;
    // Midnight in Paris is 22:00 UTC in summer.
    setting.order("a@shop.example", "1", "2026-06-30T21:59:59Z", "open").await;
    setting.order("b@shop.example", "2", "2026-06-30T22:00:00Z", "open").await;
    setting.order("c@shop.example", "3", "2026-07-31T21:59:59Z", "open").await;
    setting.order("d@shop.example", "4", "2026-07-31T22:00:00Z", "open").await;
    let key = "repeat_customer_ratio";
    setting.check(key, window("2026-07-01", "2026-08-01"), LATER, 0, 2).await;
    setting.check(key, window("2026-07-01", ""), LATER, 0, 3).await;
    setting.check(key, window("", "2026-07-01"), LATER, 0, 1).await;
    let shops = [(setting.id, &setting.shop)];
    let nothing = window("2026-07-01", "2026-07-01");
    let empty = metrics::report(&setting.db.pool, &shops, &setting.config.surveys, nothing, at(LATER)).await;
    assert!(empty.unwrap_err().to_string().contains("the window is empty"));
}

#[tokio::test]
async fn the_json_has_the_shape_that_others_read() {
    let setting = Setting::of("plume").await;
    setting.answer(1, |r| Response { nps: Some(9), ..r }).await;
    let scale = (factories::shop(&setting.db.pool, "scale").await, setting.config.shop("scale").unwrap());
    let shops = [(setting.id, &setting.shop), scale];
    let july = Window { from: Some("2026-02-01".parse::<Bound>().unwrap()), to: None };
    let report =
        metrics::report(&setting.db.pool, &shops, &setting.config.surveys, july, at("2026-12-31T00:00:00Z"))
            .await
            .unwrap();
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["as_of"], "2026-12-31T00:00:00Z");
    // The day begins at different moments in Paris and in São Paulo.
    assert_eq!(json["from"], "2026-02-01");
    assert_eq!(json["to"], serde_json::Value::Null);
    assert_eq!(json["shops"][0]["shop"], "plume");
    assert_eq!(json["shops"][0]["from"], "2026-01-31T23:00:00Z");
    assert_eq!(json["shops"][1]["from"], "2026-02-01T03:00:00Z");
    let metrics = json["shops"][0]["metrics"].as_object().unwrap();
    let keys: BTreeSet<&str> = metrics.keys().map(String::as_str).collect();
    assert_eq!(keys, METRICS.iter().map(|metric| metric.key).collect());
    for (key, figure) in metrics {
        for field in ["numerator", "denominator", "value", "ci_low", "ci_high", "definition", "verdict"] {
            assert!(figure.get(field).is_some(), "{key}.{field}");
        }
    }
    let alone = setting.report_of(july, LATER).await;
    assert_eq!(serde_json::to_value(&alone).unwrap()["from"], "2026-01-31T23:00:00Z");
}

#[tokio::test]
async fn a_report_of_a_past_date_is_the_same_whenever_it_is_asked_for() {
    let setting = Setting::of("plume").await;
    for n in 0..10 {
        let moment = format!("2026-03-{:02}T10:00:00Z", 10 + n);
        setting.answer(n, |r| Response { nps: Some(n as i16), ..r }.answered_at(&moment)).await;
    }
    let as_of = "2026-03-15T00:00:00Z";
    let before = setting.report_of(ALWAYS, as_of).await;
    assert_eq!(before, setting.report_of(ALWAYS, as_of).await);
    // Life goes on: answers are changed and added, customers come back.
    let order = setting.order("new@shop.example", "C-1", "2026-03-16T10:00:00Z", "open").await;
    Response::new(setting.id, order).answered_at("2026-03-20T10:00:00Z").insert(&setting.db.pool).await;
    setting.order("customer1@shop.example", "B-1", "2026-03-21T10:00:00Z", "open").await;
    sqlx::query("update response set counted = false where revision = 1 and answered_at < '2026-03-12'")
        .execute(&setting.db.pool)
        .await
        .unwrap();
    for n in 0..2 {
        let order: OrderId = sqlx::query_scalar(r#"select order_id from "order" where external_id = $1"#)
            .bind(format!("A-{n}"))
            .fetch_one(&setting.db.pool)
            .await
            .unwrap();
        let changed =
            Response { revision: 2, recommend: Some("no"), nps: Some(0), ..Response::new(setting.id, order) };
        changed.answered_at("2026-03-22T10:00:00Z").insert(&setting.db.pool).await;
    }
    assert_eq!(before, setting.report_of(ALWAYS, as_of).await);
    assert_ne!(before.shops, setting.report_of(ALWAYS, LATER).await.shops);
}

// ---- The second opinion: the same figures, counted slowly in Rust over the rows themselves.

/// xorshift64*: the same data sets in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// On a coarse grid, so that moments coincide and fall on the bounds of windows.
    fn moment(&mut self) -> DateTime<Utc> {
        at("2026-01-01T00:00:00Z") + TimeDelta::hours(12 * self.below(40) as i64)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

struct World {
    orders: Vec<WorldOrder>,
    responses: Vec<WorldResponse>,
    invitations: Vec<WorldInvitation>,
}

struct WorldOrder {
    customer: usize,
    ordered_at: DateTime<Utc>,
    status: &'static str,
}

struct WorldResponse {
    order: usize,
    survey: &'static str,
    revision: i32,
    counted: bool,
    human: bool,
    invited: bool,
    answered_at: DateTime<Utc>,
    recommend: Option<&'static str>,
    rating: Option<i16>,
    nps: Option<i16>,
}

struct WorldInvitation {
    order: usize,
    wave: i16,
    state: &'static str,
    at: DateTime<Utc>,
}

impl World {
    fn random(random: &mut Random) -> Self {
        let n_customers = 1 + random.below(8) as usize;
        let n_orders = random.below(25) as usize;
        let orders: Vec<_> = (0..n_orders)
            .map(|_| WorldOrder {
                customer: random.below(n_customers as u64) as usize,
                ordered_at: random.moment(),
                status: random.pick(&["open", "fulfilled", "fulfilled", "cancelled", "refunded"]),
            })
            .collect();
        let mut invitations = Vec::new();
        let mut responses: Vec<WorldResponse> = Vec::new();
        for order in 0..n_orders {
            for wave in 0..random.below(3) as i16 {
                let state = random.pick(&["sent", "sent", "unknown", "failed", "queued"]);
                invitations.push(WorldInvitation { order, wave, state, at: random.moment() });
            }
            let invited = invitations.iter().any(|invitation| invitation.order == order);
            for survey in ["recommend", "scale"] {
                let first = responses.len();
                for revision in 0..random.below(4) as i32 {
                    responses.push(WorldResponse {
                        order,
                        survey,
                        revision: revision + 1,
                        counted: false,
                        human: !random.one_in(4),
                        invited: invited && survey == "recommend" && !random.one_in(4),
                        answered_at: random.moment(),
                        recommend: (survey == "recommend" && !random.one_in(5))
                            .then(|| random.pick(&["yes", "no"])),
                        rating: (!random.one_in(3)).then(|| 1 + random.below(5) as i16),
                        nps: (survey == "recommend" && !random.one_in(3)).then(|| random.below(11) as i16),
                    });
                }
                // Mostly the latest counts; sometimes an earlier one, because the time to change it was over.
                let mut human: Vec<_> = responses[first..].iter_mut().filter(|r| r.human).collect();
                human.sort_by_key(|r| (r.answered_at, r.revision));
                let n = human.len();
                if n > 0 {
                    let i = if random.one_in(5) { random.below(n as u64) as usize } else { n - 1 };
                    human[i].counted = true;
                }
            }
        }
        Self { orders, responses, invitations }
    }

    /// The answer that stands, per order and survey.
    fn standing(&self, as_of: DateTime<Utc>) -> Vec<&WorldResponse> {
        let mut standing: BTreeMap<(usize, &str), &WorldResponse> = BTreeMap::new();
        for response in self.responses.iter().filter(|r| r.human && r.answered_at <= as_of) {
            let rank = |r: &WorldResponse| (r.counted, r.answered_at, r.revision);
            let best = standing.entry((response.order, response.survey)).or_insert(response);
            if rank(response) > rank(best) {
                *best = response;
            }
        }
        standing.into_values().collect()
    }

    /// Numerator and denominator of each metric.
    fn expected(
        &self,
        from: Option<DateTime<Utc>>,
        to: Option<DateTime<Utc>>,
        as_of: DateTime<Utc>,
    ) -> BTreeMap<&'static str, (i64, i64)> {
        let within = |moment: DateTime<Utc>| {
            moment <= as_of && from.is_none_or(|from| moment >= from) && to.is_none_or(|to| moment < to)
        };
        let count = |n: usize| i64::try_from(n).unwrap();
        let answers: Vec<_> = self.standing(as_of).into_iter().filter(|r| within(r.answered_at)).collect();
        let recommends: Vec<bool> = answers
            .iter()
            .filter_map(|r| match r.survey {
                "recommend" => r.recommend.map(|choice| choice == "yes"),
                _ => r.rating.map(|score| score >= 4),
            })
            .collect();
        let nps: Vec<i16> =
            answers.iter().filter(|r| r.survey == "recommend").filter_map(|r| r.nps).collect();
        let ratings: Vec<i16> = answers.iter().filter_map(|r| r.rating).collect();
        let mailed: Vec<_> =
            self.invitations.iter().filter(|i| i.wave == 0 && i.state == "sent" && within(i.at)).collect();
        let asked: Vec<_> =
            self.invitations.iter().filter(|i| i.wave == 0 && i.state != "queued" && within(i.at)).collect();
        let answered = |invitation: &&&WorldInvitation| {
            self.responses.iter().any(|r| {
                r.order == invitation.order
                    && r.survey == "recommend"
                    && r.human
                    && r.invited
                    && r.answered_at <= as_of
            })
        };
        let counting: Vec<_> =
            self.orders.iter().filter(|o| matches!(o.status, "open" | "fulfilled")).collect();
        let customers: HashSet<usize> =
            counting.iter().filter(|o| within(o.ordered_at)).map(|o| o.customer).collect();
        let repeat = customers.iter().filter(|customer| {
            counting.iter().filter(|o| o.customer == **customer && within(o.ordered_at)).count() >= 2
        });
        // One of the orders in the window has another one before it, or is one of several at the same moment.
        let returning = customers.iter().filter(|customer| {
            let theirs: Vec<_> = counting.iter().filter(|o| o.customer == **customer).collect();
            theirs.iter().enumerate().any(|(i, order)| {
                within(order.ordered_at)
                    && theirs.iter().enumerate().any(|(j, other)| {
                        (other.ordered_at, j) < (order.ordered_at, i) && other.ordered_at <= as_of
                    })
            })
        });
        let net = nps
            .iter()
            .map(|score| match score {
                9.. => 1,
                7..9 => 0,
                _ => -1,
            })
            .sum();
        BTreeMap::from([
            (
                "recommendation_rate",
                (count(recommends.iter().filter(|yes| **yes).count()), count(recommends.len())),
            ),
            ("nps", (net, count(nps.len()))),
            ("csat", (count(ratings.iter().filter(|score| **score >= 4).count()), count(ratings.len()))),
            ("response_rate", (count(mailed.iter().filter(answered).count()), count(mailed.len()))),
            ("response_rate_rr1", (count(asked.iter().filter(answered).count()), count(asked.len()))),
            ("repeat_customer_ratio", (count(repeat.count()), count(customers.len()))),
            ("returning_customer_rate", (count(returning.count()), count(customers.len()))),
        ])
    }

    async fn store(&self, pool: &PgPool, shop: ShopId) {
        let version = factories::survey_version(pool, shop, "recommend").await;
        let sql = r#"
            with c as (
                insert into customer (shop_id, email, email_key)
                select $1, n || '@shop.example', n || '@shop.example' from generate_series(0, 9) n
                returning customer_id, email
            )
            insert into "order" (shop_id, external_id, customer_id, ordered_at, status, items, attributes, imported_at, updated_at)
            select $1, n - 1, c.customer_id, o.ordered_at, o.status::order_status, '{}', '{}', ordered_at, ordered_at
            from unnest($2::int[], $3::timestamptz[], $4::text[]) with ordinality as o (customer, ordered_at, status, n)
            join c on c.email = o.customer || '@shop.example'"#;
        sqlx::query(sql)
            .bind(shop)
            .bind(self.orders.iter().map(|o| o.customer as i32).collect::<Vec<_>>())
            .bind(self.orders.iter().map(|o| o.ordered_at).collect::<Vec<_>>())
            .bind(self.orders.iter().map(|o| o.status).collect::<Vec<_>>())
            .execute(pool)
            .await
            .unwrap();
        let sql = r#"
            insert into invitation (shop_id, order_id, customer_id, survey, wave, survey_version_id, state, due_at, decided_at,
                                    next_attempt_at, sent_at)
            select $1, o.order_id, o.customer_id, 'recommend', i.wave, $2, i.state::invitation_state, i.at, i.at, i.at,
                   case when i.state = 'sent' then i.at end
            from unnest($3::int[], $4::smallint[], $5::text[], $6::timestamptz[]) as i (number, wave, state, at)
            join "order" o on o.shop_id = $1 and o.external_id = i.number::text"#;
        sqlx::query(sql)
            .bind(shop)
            .bind(version)
            .bind(self.invitations.iter().map(|i| i.order as i32).collect::<Vec<_>>())
            .bind(self.invitations.iter().map(|i| i.wave).collect::<Vec<_>>())
            .bind(self.invitations.iter().map(|i| i.state).collect::<Vec<_>>())
            .bind(self.invitations.iter().map(|i| i.at).collect::<Vec<_>>())
            .execute(pool)
            .await
            .unwrap();
        let sql = r#"
            with given as (
                select r.*, o.order_id,
                       (select max(invitation_id) from invitation i where i.shop_id = $1 and i.order_id = o.order_id) as invitation_id
                from unnest($3::int[], $4::text[], $5::int[], $6::bool[], $7::bool[], $8::bool[], $9::timestamptz[], $10::text[],
                            $11::smallint[], $12::smallint[])
                     as r (number, survey, revision, counted, human, invited, answered_at, recommend, rating, nps)
                join "order" o on o.shop_id = $1 and o.external_id = r.number::text
            ), stored as (
                insert into response (shop_id, order_id, survey, survey_version_id, invitation_id, revision, counted, via, verdict,
                                      locale, answered_at, received_at)
                select $1, order_id, survey, $2, case when invited then invitation_id end, revision, counted, 'page',
                       case when human then 'human' else 'suspect' end::verdict, 'en', answered_at, now()
                from given
                returning response_id, order_id, survey, revision
            )
            insert into answer (shop_id, response_id, question, score, choice)
            select $1, stored.response_id, a.question, a.score, a.choice
            from stored join given using (order_id, survey, revision)
            cross join lateral (values ('recommend', null::smallint, given.recommend), ('rating', given.rating, null),
                                       ('nps', given.nps, null)) as a (question, score, choice)
            where num_nonnulls(a.score, a.choice) = 1"#;
        let r = &self.responses;
        sqlx::query(sql)
            .bind(shop)
            .bind(version)
            .bind(r.iter().map(|r| r.order as i32).collect::<Vec<_>>())
            .bind(r.iter().map(|r| r.survey).collect::<Vec<_>>())
            .bind(r.iter().map(|r| r.revision).collect::<Vec<_>>())
            .bind(r.iter().map(|r| r.counted).collect::<Vec<_>>())
            .bind(r.iter().map(|r| r.human).collect::<Vec<_>>())
            .bind(r.iter().map(|r| r.invited).collect::<Vec<_>>())
            .bind(r.iter().map(|r| r.answered_at).collect::<Vec<_>>())
            .bind(r.iter().map(|r| r.recommend).collect::<Vec<_>>())
            .bind(r.iter().map(|r| r.rating).collect::<Vec<_>>())
            .bind(r.iter().map(|r| r.nps).collect::<Vec<_>>())
            .execute(pool)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_second_opinion_agrees_on_random_data() {
    const DATA_SETS: u64 = 300;
    let db = TestDb::new().await;
    let config = config();
    let shop = config.shop("both").unwrap();
    let mut counted = 0;
    for seed in 1..=DATA_SETS {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let world = World::random(&mut random);
        let id = factories::shop(&db.pool, &format!("both-{seed}")).await;
        world.store(&db.pool, id).await;
        for _ in 0..3 {
            let (as_of, a, b) = (random.moment(), random.moment(), random.moment());
            let (from, to) = (a.min(b), a.max(b) + TimeDelta::hours(12));
            let from = (!random.one_in(3)).then_some(from);
            let to = (!random.one_in(3)).then_some(to);
            let window = Window { from: from.map(Bound::Moment), to: to.map(Bound::Moment) };
            let report =
                metrics::report(&db.pool, &[(id, shop)], &config.surveys, window, as_of).await.unwrap();
            let found: BTreeMap<&str, (i64, i64)> = report.shops[0]
                .metrics
                .iter()
                .map(|(metric, figure)| (metric.key, (figure.numerator, figure.denominator)))
                .collect();
            counted += found.values().map(|(_, denominator)| denominator).sum::<i64>();
            assert_eq!(found, world.expected(from, to, as_of), "seed {seed}, {window:?} as of {as_of}");
        }
    }
    assert!(counted > 10_000, "the data sets are not empty: {counted}");
}
