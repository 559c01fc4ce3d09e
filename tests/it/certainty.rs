//! What figures are worth, against a second, slow way over the rows themselves on random data; a shop whose happy customers answer more;
//! and how it is said.

use std::collections::{BTreeMap, BTreeSet};

use afterword::config::Config;
use afterword::metrics::certainty::{Certainty, ENOUGH, TargetVerdict, Weighted};
use afterword::metrics::comparison::{self, Change};
use afterword::metrics::figure::Figure;
use afterword::metrics::interval;
use afterword::metrics::rollup::{self, House};
use afterword::metrics::weights::{self, Cell, Margin, Settings};
use afterword::metrics::window::{Bound, Window};
use afterword::metrics::{self, Asked, Basis, ShopReport};
use afterword::types::ShopId;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::periods::Dice;
use crate::support::TestDb;
use crate::support::config;
use crate::support::factories::{self, at};
use crate::support::program::{Program, shipped};

/// Both surveys are mailed about the same orders: one asks for a yes, the other for a score of which 9 and 10 are a yes.
const SHOPS: &[config::Shop<'_>] = &[("plume", "Plume", "fr", "Europe/Paris")];

const SURVEYS: &str = r#"
[survey.recommend]
trigger = "fulfilled"
delay = "7d"
recommendation = { question = "recommend", yes = ["yes"] }
[[survey.recommend.question]]
key = "recommend"
type = "recommend"
text = { en = "Would you recommend us?" }
[[survey.recommend.question]]
key = "rating"
type = "rating"
text = { en = "Overall" }
[survey.scale]
trigger = "fulfilled"
delay = "30d"
recommendation = { question = "nps", yes = "9-10" }
[[survey.scale.question]]
key = "nps"
type = "nps"
text = { en = "How likely?" }
"#;

const ANSWERED: [&str; 3] = ["recommendation_rate", "nps", "csat"];

struct Setting {
    db: TestDb,
    config: Config,
}

impl Setting {
    async fn new() -> Self {
        Self { db: TestDb::new().await, config: config::parsed(&config::jobs_toml(SHOPS, SURVEYS)) }
    }

    async fn report(&self, id: ShopId, asked: impl Into<Asked>, as_of: DateTime<Utc>) -> ShopReport {
        let shops = [(id, self.config.shop("plume").unwrap())];
        let report =
            metrics::report(&self.db.pool, &shops, &self.config.surveys, asked, as_of).await.unwrap();
        report.shops.into_iter().next().unwrap()
    }

    async fn figure(&self, id: ShopId, key: &str, asked: impl Into<Asked>) -> Figure {
        let report = self.report(id, asked, at("2026-12-31T00:00:00Z")).await;
        report.metrics.get(key).unwrap().clone()
    }
}

fn window(from: &str, to: &str) -> Window {
    Window { from: from.parse().ok(), to: to.parse().ok() }
}

// ---- Random data, and how it is counted slowly.

struct World {
    orders: Vec<Order>,
    mails: Vec<Mail>,
    responses: Vec<Response>,
}

struct Order {
    customer: usize,
    ordered_at: DateTime<Utc>,
    status: &'static str,
    country: Option<&'static str>,
    total: Option<i64>,
    currency: Option<&'static str>,
}

struct Mail {
    order: usize,
    survey: &'static str,
    wave: i16,
    state: &'static str,
    reason: Option<&'static str>,
    due_at: DateTime<Utc>,
    decided_at: DateTime<Utc>,
    sent_at: Option<DateTime<Utc>>,
}

struct Response {
    order: usize,
    survey: &'static str,
    revision: i32,
    counted: bool,
    human: bool,
    answered_at: DateTime<Utc>,
    answers: BTreeMap<&'static str, String>,
}

impl World {
    fn random(dice: &mut Dice) -> Self {
        let n_customers = 60 + dice.below(200);
        let n_orders = 150 + dice.below(250);
        let answering = 1 + dice.below(3);
        let orders: Vec<_> = (0..n_orders)
            .map(|_| Order {
                customer: dice.below(n_customers),
                ordered_at: at("2026-01-01T00:00:00Z")
                    + TimeDelta::minutes(15 * dice.below(4 * 24 * 110) as i64),
                status: dice.pick(&["open", "fulfilled", "fulfilled", "fulfilled", "cancelled", "refunded"]),
                country: dice
                    .maybe(20, |dice| dice.pick(&["FR", "FR", "FR", "FR", "BE", "BE", "DE", "IT", "PT"])),
                total: dice.maybe(10, |dice| 500 * (1 + dice.below(30) as i64)),
                currency: dice.maybe(15, |dice| dice.pick(&["EUR", "EUR", "EUR", "CHF"])),
            })
            .collect();
        let (mut mails, mut responses) = (Vec::new(), Vec::new());
        for (id, order) in orders.iter().enumerate() {
            for survey in ["recommend", "scale"] {
                for wave in 0..dice.below(4).min(2) as i16 {
                    let (state, reason) = dice.pick(&[
                        ("sent", None),
                        ("sent", None),
                        ("sent", None),
                        ("sent", None),
                        ("unknown", None),
                        ("failed", None),
                        ("queued", None),
                        ("skipped", Some("throttled")),
                        ("skipped", Some("cancelled")),
                        ("cancelled", Some("refunded")),
                    ]);
                    let due_at = order.ordered_at + TimeDelta::hours(24 * 9 + dice.below(48) as i64);
                    let decided_at = due_at + TimeDelta::minutes(dice.below(600) as i64);
                    let sent_at =
                        (state == "sent").then(|| decided_at + TimeDelta::hours(dice.below(40) as i64));
                    mails.push(Mail { order: id, survey, wave, state, reason, due_at, decided_at, sent_at });
                }
                // Whoever orders more is happier and answers more.
                let happy = order.customer % 4 != 0 || order.total.is_some_and(|total| total > 9_000);
                if dice.below(6) > answering + usize::from(happy) {
                    continue;
                }
                let first = responses.len();
                for revision in 0..1 + dice.below(2) as i32 {
                    let mut answers = BTreeMap::new();
                    let good = if happy { !dice.one_in(6) } else { dice.one_in(2) };
                    if survey == "scale" {
                        answers.insert(
                            "nps",
                            (if good { 7 + dice.below(4) } else { dice.below(8) }).to_string(),
                        );
                    } else {
                        if !dice.one_in(8) {
                            answers.insert("recommend", if good { "yes" } else { "no" }.to_owned());
                        }
                        if !dice.one_in(4) {
                            answers.insert("rating", (1 + dice.below(5)).to_string());
                        }
                    }
                    responses.push(Response {
                        order: id,
                        survey,
                        revision: revision + 1,
                        counted: false,
                        human: !dice.one_in(6),
                        answered_at: order.ordered_at + TimeDelta::hours(24 * 8 + dice.below(24 * 20) as i64),
                        answers,
                    });
                }
                let mut human: Vec<_> =
                    responses[first..].iter_mut().filter(|r: &&mut Response| r.human).collect();
                human.sort_by_key(|r| (r.answered_at, r.revision));
                if let Some(last) = human.last_mut() {
                    last.counted = true;
                }
            }
        }
        Self { orders, mails, responses }
    }

    /// The answer of an order to a survey, as it stood.
    fn standing(&self, order: usize, survey: &str, as_of: DateTime<Utc>) -> Option<&Response> {
        self.responses
            .iter()
            .filter(|r| r.order == order && r.survey == survey && r.human && r.answered_at <= as_of)
            .max_by_key(|r| (r.counted, r.answered_at, r.revision))
    }

    fn is_returning(&self, id: usize) -> bool {
        let order = &self.orders[id];
        self.orders.iter().enumerate().any(|(other_id, other)| {
            other.customer == order.customer
                && !["cancelled", "refunded"].contains(&other.status)
                && (other.ordered_at, other_id) < (order.ordered_at, id)
        })
    }

    /// What an answer is worth to a figure: 1, 0 or −1.
    fn worth(metric: &str, response: &Response) -> Option<i64> {
        let said = |question| response.answers.get(question);
        let score = |question| said(question).map(|score| score.parse::<i64>().unwrap());
        match (metric, response.survey) {
            ("recommendation_rate", "recommend") => said("recommend").map(|said| i64::from(said == "yes")),
            ("recommendation_rate", "scale") => score("nps").map(|score| i64::from(score >= 9)),
            ("nps", "scale") => score("nps").map(|score| i64::from(score >= 9) - i64::from(score <= 6)),
            ("csat", "recommend") => score("rating").map(|score| i64::from(score >= 4)),
            _ => None,
        }
    }

    /// Numerator and denominator of the answers that were given in a stretch of time.
    fn counted(
        &self,
        metric: &str,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        as_of: DateTime<Utc>,
    ) -> (i64, i64) {
        let all = (0..self.orders.len()).flat_map(|id| ["recommend", "scale"].map(|survey| (id, survey)));
        let standing = all.filter_map(|(id, survey)| self.standing(id, survey, as_of));
        let given = standing.filter(|r| from <= r.answered_at && r.answered_at < to);
        let worth: Vec<_> = given.filter_map(|r| Self::worth(metric, r)).collect();
        (worth.iter().sum(), worth.len() as i64)
    }

    /// The mails that were due, of both surveys: they set the quarters of the baskets.
    fn due(
        &self,
        from: Option<DateTime<Utc>>,
        to: Option<DateTime<Utc>>,
        as_of: DateTime<Utc>,
    ) -> Vec<&Mail> {
        let due = self.mails.iter().filter(|mail| {
            mail.wave == 0
                && mail.due_at <= as_of
                && mail.decided_at <= as_of
                && from.is_none_or(|from| from <= mail.due_at)
                && to.is_none_or(|to| mail.due_at < to)
                && !matches!(mail.reason, Some("cancelled" | "refunded"))
        });
        due.collect()
    }

    /// What was due in a window, each with what is known of it whether or not it was answered, and with the answer.
    fn cases(
        &self,
        (from, to, as_of): (Option<DateTime<Utc>>, Option<DateTime<Utc>>, DateTime<Utc>),
    ) -> Vec<Case<'_>> {
        let due = self.due(from, to, as_of);
        // Both surveys together set the quarters of the baskets.
        let mut totals: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
        for order in due.iter().map(|mail| &self.orders[mail.order]) {
            if let (Some(total), Some(currency)) = (order.total, order.currency) {
                totals.entry(currency).or_default().push(total);
            }
        }
        for totals in totals.values_mut() {
            totals.sort_unstable();
        }
        let case = |mail: &&Mail| {
            let order = &self.orders[mail.order];
            let basket = match (order.total, order.currency) {
                (Some(total), Some(currency)) => {
                    let totals = &totals[currency];
                    // The smallest total that at least so many quarters of them do not exceed.
                    let quartile = |n: usize| totals[(n * totals.len()).div_ceil(4) - 1];
                    (1 + (1..=3).filter(|n| total > quartile(*n)).count()).to_string()
                }
                _ => "unknown".to_owned(),
            };
            let is_asked = matches!(mail.state, "sent" | "unknown");
            Case {
                survey: mail.survey,
                facts: [
                    self.is_returning(mail.order).to_string(),
                    order.country.unwrap_or("unknown").to_owned(),
                    basket,
                    mail.due_at.with_timezone(&chrono_tz::Europe::Paris).format("%Y-%m").to_string(),
                ],
                standing: self.standing(mail.order, mail.survey, as_of),
                is_asked: is_asked && mail.sent_at.unwrap_or(mail.decided_at) <= as_of,
            }
        };
        due.iter().map(case).collect()
    }

    async fn store(&self, pool: &PgPool, shop: ShopId) {
        let version = factories::survey_version(pool, shop, "recommend").await;
        let orders = self.orders.iter().enumerate().map(|(id, o)| {
            json!({ "n": id, "customer": o.customer, "ordered_at": o.ordered_at, "status": o.status, "country": o.country,
                    "total": o.total, "currency": o.currency })
        });
        let sql = r#"
            with c as (
                insert into customer (shop_id, email, email_key)
                select $1, n || '@shop.example', n || '@shop.example' from generate_series(0, 3000) n
                returning customer_id, email
            )
            insert into "order" (shop_id, external_id, customer_id, ordered_at, status, items, country, total, currency, attributes,
                                 imported_at, updated_at)
            select $1, o.n, c.customer_id, o.ordered_at, o.status::order_status, '{}', o.country, o.total, o.currency, '{}',
                   ordered_at, ordered_at
            from jsonb_to_recordset($2) as o (n int, customer int, ordered_at timestamptz, status text, country text, total bigint,
                                              currency text)
            join c on c.email = o.customer || '@shop.example'
            order by o.n"#;
        sqlx::query(sql).bind(shop).bind(json!(orders.collect::<Vec<_>>())).execute(pool).await.unwrap();
        let mails = self.mails.iter().map(|m| {
            json!({ "order": m.order, "survey": m.survey, "wave": m.wave, "state": m.state, "reason": m.reason, "due_at": m.due_at,
                    "decided_at": m.decided_at, "sent_at": m.sent_at })
        });
        let sql = r#"
            insert into invitation (shop_id, order_id, customer_id, survey, wave, survey_version_id, state, reason, due_at, decided_at,
                                    next_attempt_at, sent_at)
            select $1, o.order_id, o.customer_id, m.survey, m.wave, $2, m.state::invitation_state, m.reason::decision_reason, m.due_at,
                   m.decided_at, m.decided_at, m.sent_at
            from jsonb_to_recordset($3) as m ("order" int, survey text, wave smallint, state text, reason text, due_at timestamptz,
                                              decided_at timestamptz, sent_at timestamptz)
            join "order" o on o.shop_id = $1 and o.external_id = m."order"::text"#;
        let mails = json!(mails.collect::<Vec<_>>());
        sqlx::query(sql).bind(shop).bind(version).bind(mails).execute(pool).await.unwrap();
        let responses = self.responses.iter().map(|r| {
            json!({ "order": r.order, "survey": r.survey, "revision": r.revision, "counted": r.counted, "human": r.human,
                    "answered_at": r.answered_at, "answers": r.answers })
        });
        let sql = r#"
            with r as (
                select r.*, o.order_id, i.invitation_id
                from jsonb_to_recordset($3) as r ("order" int, survey text, revision int, counted boolean, human boolean,
                                                  answered_at timestamptz, answers jsonb)
                join "order" o on o.shop_id = $1 and o.external_id = r."order"::text
                left join invitation i on i.shop_id = $1 and i.order_id = o.order_id and i.survey = r.survey and i.wave = 0
            ), stored as (
                insert into response (shop_id, order_id, survey, survey_version_id, invitation_id, revision, counted, via, verdict,
                                      locale, answered_at, received_at)
                select $1, order_id, survey, $2, invitation_id, revision, counted, 'page',
                       case when human then 'human' else 'suspect' end::verdict, 'en', answered_at, now()
                from r
                returning response_id, order_id, survey, revision
            )
            insert into answer (shop_id, response_id, question, score, choice)
            select $1, stored.response_id, a.key, case when a.key <> 'recommend' then a.value::smallint end,
                   case when a.key = 'recommend' then a.value end
            from stored join r using (order_id, survey, revision)
            cross join lateral jsonb_each_text(r.answers) as a"#;
        let responses = json!(responses.collect::<Vec<_>>());
        sqlx::query(sql).bind(shop).bind(version).bind(responses).execute(pool).await.unwrap();
    }
}

struct Expected {
    orders: u64,
    answers: u64,
    bounds: Option<(f64, f64)>,
    asked: i64,
    /// Value, effective number of answers, and what was raked on.
    weighted: Option<(f64, f64, Vec<&'static str>)>,
}

struct Case<'a> {
    survey: &'static str,
    facts: [String; 4],
    standing: Option<&'a Response>,
    is_asked: bool,
}

fn expected(metric: &str, cases: &[Case<'_>]) -> Expected {
    let asking: &[&str] = match metric {
        "recommendation_rate" => &["recommend", "scale"],
        "nps" => &["scale"],
        _ => &["recommend"],
    };
    let rows: Vec<_> = cases
        .iter()
        .filter(|case| asking.contains(&case.survey))
        .map(|case| (case, case.standing.and_then(|response| World::worth(metric, response))))
        .collect();
    let asked: Vec<_> = rows.iter().filter(|(case, _)| case.is_asked).map(|(_, worth)| *worth).collect();
    let all = |silent: i64| {
        let sum: i64 = asked.iter().map(|worth| worth.unwrap_or(silent)).sum();
        let scale = if metric == "nps" { 100.0 } else { 1.0 };
        scale * sum as f64 / asked.len() as f64
    };
    let bounds = (!asked.is_empty()).then(|| (all(if metric == "nps" { -1 } else { 0 }), all(1)));
    let answers = rows.iter().filter(|(_, worth)| worth.is_some()).count() as u64;
    Expected {
        orders: rows.len() as u64,
        answers,
        bounds,
        asked: asked.len() as i64,
        weighted: (answers >= ENOUGH).then(|| weighted(metric, &rows)),
    }
}

type Row<'a> = (&'a Case<'a>, Option<i64>);

/// Each answer is a cell of its own.
fn weighted(metric: &str, rows: &[Row<'_>]) -> (f64, f64, Vec<&'static str>) {
    let mut labels: Vec<[String; 4]> = rows.iter().map(|(case, _)| case.facts.clone()).collect();
    for fact in 0..4 {
        let mut counted: BTreeMap<String, usize> = BTreeMap::new();
        for labels in &labels {
            *counted.entry(labels[fact].clone()).or_default() += 1;
        }
        for labels in &mut labels {
            if 20 * counted[&labels[fact]] < rows.len() {
                "other".clone_into(&mut labels[fact]);
            }
        }
    }
    let names: Vec<Vec<String>> = (0..4)
        .map(|fact| {
            let all: BTreeSet<_> = labels.iter().map(|labels| labels[fact].clone()).collect();
            all.into_iter().collect()
        })
        .collect();
    let telling: Vec<usize> = (0..4).filter(|fact| names[*fact].len() > 1).collect();
    let margins: Vec<_> = telling
        .iter()
        .map(|fact| {
            let orders = |name: &String| labels.iter().filter(|labels| labels[*fact] == *name).count() as u64;
            Margin { fact: fact.to_string(), orders: names[*fact].iter().map(orders).collect() }
        })
        .collect();
    let (mut cells, mut good, mut bad) = (Vec::new(), Vec::new(), Vec::new());
    for (labels, (_, worth)) in labels.iter().zip(rows) {
        let Some(worth) = worth else { continue };
        let index = |fact: &usize| names[*fact].iter().position(|name| *name == labels[*fact]).unwrap();
        cells.push(Cell { categories: telling.iter().map(index).collect(), answers: 1 });
        good.push(u64::from(*worth == 1));
        bad.push(u64::from(*worth == -1));
    }
    let raked = weights::rake(&margins, &cells, Settings::default()).unwrap();
    let total: f64 = raked.weights.iter().sum();
    let worth = |n: usize| good[n] as f64 - bad[n] as f64;
    let mean = (0..cells.len()).map(|n| raked.weights[n] * worth(n)).sum::<f64>() / total;
    let variance =
        (0..cells.len()).map(|n| (raked.weights[n] * (worth(n) - mean) / total).powi(2)).sum::<f64>();
    let simple = (0..cells.len()).map(|n| raked.weights[n] * (worth(n) - mean).powi(2)).sum::<f64>() / total;
    let squares: f64 = raked.weights.iter().map(|weight| weight * weight).sum();
    let effective = (total * total / squares).min(simple / variance);
    let scale = if metric == "nps" { 100.0 } else { 1.0 };
    let facts = ["new_or_returning", "country", "basket", "month"];
    (scale * mean, effective, telling.into_iter().map(|fact| facts[fact]).collect())
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * (1.0 + a.abs())
}

#[tokio::test]
async fn a_second_opinion_agrees_on_weights_and_bounds() {
    let setting = Setting::new().await;
    let (mut n_weighted, mut n_not, mut n_bounds, mut n_moved) = (0, 0, 0, 0);
    for seed in 0..12 {
        let mut dice = Dice { seed, rolled: 0 };
        let world = World::random(&mut dice);
        let id = factories::shop(&setting.db.pool, &format!("plume-{seed}")).await;
        world.store(&setting.db.pool, id).await;
        for (from, to) in [(None, None), (Some("2026-02-01"), Some("2026-04-01")), (Some("2026-02-11"), None)]
        {
            let as_of = at("2026-03-01T00:00:00Z") + TimeDelta::hours(dice.below(90 * 24) as i64);
            let bound = |day: Option<&str>| day.map(|day| day.parse::<Bound>().unwrap());
            let report = setting.report(id, Window { from: bound(from), to: bound(to) }, as_of).await;
            let cases = world.cases((report.from, report.to, as_of));
            for metric in ANSWERED {
                let about = format!("seed {seed}, {metric} from {from:?} to {to:?} as of {as_of}");
                let Certainty { weighted, not_weighted, bounds, .. } =
                    &report.metrics.get(metric).unwrap().certainty;
                let expected = expected(metric, &cases);
                assert_eq!(weighted.is_some(), expected.weighted.is_some(), "{about}: {not_weighted:?}");
                assert_eq!(weighted.is_some(), not_weighted.is_none(), "{about}");
                if let (Some(found), Some((value, effective, facts))) = (weighted, expected.weighted) {
                    let Weighted { ci_low, ci_high, plain, .. } = *found;
                    assert_eq!((found.orders, found.answers), (expected.orders, expected.answers), "{about}");
                    assert_eq!(found.facts, facts, "{about}");
                    assert!(near(found.value, value), "{about}: {found:?}, expected {value}");
                    assert!(near(found.effective, effective), "{about}: {found:?}, expected {effective}");
                    assert!(
                        ci_low < value
                            && value < ci_high
                            && near(found.design_effect * effective, found.answers as f64)
                    );
                    n_weighted += 1;
                    n_moved += usize::from(!near(plain, value));
                } else {
                    n_not += 1;
                }
                assert_eq!(bounds.is_some(), expected.bounds.is_some(), "{about}");
                if let (Some(bounds), Some((worst, best))) = (bounds, expected.bounds) {
                    assert!(
                        near(bounds.worst, worst) && near(bounds.best, best),
                        "{about}: {bounds:?} {worst} {best}"
                    );
                    assert_eq!(bounds.asked, expected.asked, "{about}");
                    n_bounds += 1;
                }
            }
            let other = report.metrics.get("response_rate").unwrap().certainty.clone();
            assert_eq!((other.weighted, other.not_weighted, other.bounds), (None, None, None));
        }
    }
    assert!(
        n_weighted >= 20 && n_not >= 20 && n_bounds >= 90 && n_moved >= 20,
        "{n_weighted} {n_not} {n_bounds} {n_moved}"
    );
}

#[tokio::test]
async fn a_second_opinion_agrees_on_the_stretch_before() {
    let setting = Setting::new().await;
    let (mut n_compared, mut n_changed) = (0, 0);
    for seed in 0..8 {
        let mut dice = Dice { seed: 100 + seed, rolled: 0 };
        let world = World::random(&mut dice);
        let id = factories::shop(&setting.db.pool, &format!("plume-{seed}")).await;
        world.store(&setting.db.pool, id).await;
        // Window, moment of the report, the stretch before, and when its mails are looked at.
        for (from, to, as_of, start, end, ripe) in [
            ("2026-03-01", "2026-04-01", "2026-04-10", "2026-02-01", "2026-03-01", "2026-03-10"),
            ("2026-02-20", "2026-03-10", "2026-03-12", "2026-02-02", "2026-02-20", "2026-02-22"),
            ("2026-03-01", "2026-04-01", "2026-03-16", "2026-02-01", "2026-02-16", "2026-02-16"),
        ] {
            let midnight = |day: &str| day.parse::<Bound>().unwrap().at(chrono_tz::Europe::Paris);
            let ripe = midnight(ripe);
            let report = setting.report(id, window(from, to), midnight(as_of)).await;
            let before = setting.report(id, window(start, end), ripe).await;
            for (metric, figure) in report.metrics.iter() {
                let about = format!("seed {seed}, {} from {from} to {to} as of {as_of}", metric.key);
                let (numerator, denominator) = if ANSWERED.contains(&metric.key) {
                    world.counted(metric.key, midnight(start), midnight(end), midnight(as_of))
                } else {
                    let before = before.metrics.get(metric.key).unwrap();
                    (before.numerator, before.denominator)
                };
                let Some(found) = figure.certainty.before else {
                    assert!(denominator == 0 || figure.denominator == 0, "{about}");
                    continue;
                };
                assert_eq!((found.from, found.to), (midnight(start), midnight(end)), "{about}");
                assert_eq!((found.numerator, found.denominator), (numerator, denominator), "{about}");
                let scale = if metric.key == "nps" { 100.0 } else { 1.0 };
                assert!(near(found.value, scale * numerator as f64 / denominator as f64), "{about}");
                assert!(near(found.value + found.difference, figure.value.unwrap()), "{about}");
                let change = if found.ci_low > 0.0 {
                    Change::Rose
                } else if found.ci_high < 0.0 {
                    Change::Fell
                } else {
                    Change::NoEvidence
                };
                assert_eq!(found.change, change, "{about}");
                if metric.key != "nps" {
                    let share = |hits, total| comparison::Share::counted(hits, total).unwrap();
                    let now = share(figure.numerator, figure.denominator);
                    let difference = comparison::shares(now, share(numerator, denominator)).unwrap();
                    assert!(
                        near(found.ci_low, difference.interval.low)
                            && near(found.ci_high, difference.interval.high)
                    );
                }
                let said = match change {
                    Change::Rose => "It rose by",
                    Change::Fell => "It fell by",
                    Change::NoEvidence => "No evidence of a change against the period before",
                };
                assert!(
                    figure.verdict.contains(said) && !figure.verdict.contains("unchanged"),
                    "{}",
                    figure.verdict
                );
                n_compared += 1;
                n_changed += usize::from(change != Change::NoEvidence);
            }
        }
        let endless = setting.report(id, Window::default(), at("2026-04-10T00:00:00Z")).await;
        assert!(endless.metrics.iter().all(|(_, figure)| figure.certainty.before.is_none()));
    }
    assert!(n_compared >= 150 && n_changed >= 10, "{n_compared} {n_changed}");
}

// ---- A shop whose happy customers answer more.

/// Half of the orders are of customers who come back: 95 % of these like the shop and 60 % of them answer. Of the new ones 60 % like it,
/// and 15 % answer.
fn biased(dice: &mut Dice) -> (World, f64) {
    let n_customers = 1_000;
    let mut world = World { orders: Vec::new(), mails: Vec::new(), responses: Vec::new() };
    let mut n_happy = 0;
    for id in 0..2 * n_customers {
        // The second thousand orders are second orders.
        let is_returning = id >= n_customers;
        let ordered_at = at("2026-01-02T00:00:00Z") + TimeDelta::minutes(40 * id as i64);
        world.orders.push(Order {
            customer: id % n_customers,
            ordered_at,
            status: "fulfilled",
            country: Some("FR"),
            total: Some(4_990),
            currency: Some("EUR"),
        });
        let due_at = at("2026-03-03T00:00:00Z") + TimeDelta::minutes(id as i64);
        let (state, sent_at) = ("sent", Some(due_at));
        let mail = Mail {
            order: id,
            survey: "recommend",
            wave: 0,
            state,
            reason: None,
            due_at,
            decided_at: due_at,
            sent_at,
        };
        world.mails.push(mail);
        let is_happy = dice.below(100) < if is_returning { 95 } else { 60 };
        n_happy += usize::from(is_happy);
        if dice.below(100) < if is_returning { 60 } else { 15 } {
            let said = if is_happy { "yes" } else { "no" };
            world.responses.push(Response {
                order: id,
                survey: "recommend",
                revision: 1,
                counted: true,
                human: true,
                answered_at: due_at + TimeDelta::hours(5),
                answers: BTreeMap::from([("recommend", said.to_owned())]),
            });
        }
    }
    (world, n_happy as f64 / (2 * n_customers) as f64)
}

#[tokio::test]
async fn weights_repair_what_comes_of_the_happy_answering_more() {
    let setting = Setting::new().await;
    let (mut n_right, mut n_plain_right) = (0, 0);
    for seed in 0..8 {
        let (world, truth) = biased(&mut Dice { seed: 500 + seed, rolled: 0 });
        let id = factories::shop(&setting.db.pool, &format!("plume-{seed}")).await;
        world.store(&setting.db.pool, id).await;
        let figure = setting.figure(id, "recommendation_rate", window("2026-03-01", "2026-04-01")).await;
        let weighted = figure.certainty.weighted.clone().unwrap();
        n_right += usize::from(weighted.ci_low <= truth && truth <= weighted.ci_high);
        n_plain_right += usize::from(figure.ci_low.unwrap() <= truth && truth <= figure.ci_high.unwrap());
        assert_eq!(weighted.facts, ["new_or_returning"], "all else is the same");
        assert!(near(weighted.plain, figure.value.unwrap()), "the same answers");
        assert!((figure.value.unwrap() - truth) > 0.07, "{truth}: {figure:?}");
        assert!((weighted.value - truth).abs() < 0.05, "{truth}: {weighted:?}");
        assert!(
            weighted.design_effect > 1.2
                && weighted.ci_high - weighted.ci_low > figure.ci_high.unwrap() - figure.ci_low.unwrap()
        );
        let bounds = figure.certainty.bounds.unwrap();
        assert!(bounds.worst <= truth && truth <= bounds.best);
        assert_eq!((bounds.asked, bounds.answered as u64), (2_000, weighted.answers));
    }
    assert!(n_right >= 7 && n_plain_right == 0, "{n_right} and {n_plain_right} of 8");
}

#[tokio::test]
async fn what_was_never_answered_is_said() {
    let setting = Setting::new().await;
    let (mut world, _) = biased(&mut Dice { seed: 900, rolled: 0 });
    // Nobody of Belgium answers.
    for order in 0..world.orders.len() {
        if order % 5 == 0 {
            world.orders[order].country = Some("BE");
        }
    }
    world.responses.retain(|response| response.order % 5 != 0);
    let id = factories::shop(&setting.db.pool, "plume").await;
    world.store(&setting.db.pool, id).await;
    let figure = setting.figure(id, "recommendation_rate", Window::default()).await;
    let weighted = figure.certainty.weighted.clone().unwrap();
    assert_eq!(weighted.facts, ["new_or_returning", "country"]);
    let silent: Vec<_> = weighted.collapsed.iter().map(|s| (s.fact, s.category.as_str(), s.orders)).collect();
    assert_eq!(silent, [("country", "BE", 400)]);
    let words = figure.certainty.weighted_in_words(figure.unit).unwrap();
    assert!(words.ends_with("Nobody answered of: country BE."), "{words}");
    // The other survey was never mailed.
    let nps = setting.figure(id, "nps", Window::default()).await.certainty;
    assert_eq!(nps.not_weighted.as_deref(), Some("Not weighted: no order was due to be asked about."));
    assert_eq!(nps.bounds, None);
}

#[tokio::test]
async fn a_night_knows_the_period_before_and_not_who_was_silent() {
    let setting = Setting::new().await;
    let world = World::random(&mut Dice { seed: 7, rolled: 0 });
    let id = factories::shop(&setting.db.pool, "plume").await;
    world.store(&setting.db.pool, id).await;
    let config = setting.config.shop("plume").unwrap();
    let house = House { shop: id, config, surveys: &setting.config.surveys };
    let march = Asked { frozen: true, ..window("2026-03-01", "2026-04-01").into() };
    let mut n_compared = 0;
    for (night, noon) in [
        // Nobody knew February as it was thirty days after its end; then a night knew it as it was sixty days after.
        ("2026-05-01T01:00:00Z", "2026-05-01T12:00:00Z"),
        ("2026-06-01T01:00:00Z", "2026-06-01T12:00:00Z"),
    ] {
        let computed = setting.report(id, Asked { frozen: false, ..march.clone() }, at(night)).await;
        rollup::freeze(&setting.db.pool, house, at(night), &CancellationToken::new()).await.unwrap();
        let frozen = setting.report(id, march.clone(), at(noon)).await;
        assert_eq!((computed.basis, frozen.basis), (Basis::Computed, Basis::Frozen));
        for (metric, figure) in frozen.metrics.iter() {
            let Certainty { before, weighted, not_weighted, bounds, .. } = figure.certainty.clone();
            if metric.key.starts_with("response_rate") && night.starts_with("2026-05") {
                assert_eq!(before, None, "{}", metric.key);
            } else {
                let before = before.map(|before| (before.from, before.to, before.denominator));
                let of_rows = computed.metrics.get(metric.key).unwrap().certainty.before;
                assert_eq!(before, of_rows.map(|b| (b.from, b.to, b.denominator)), "{}", metric.key);
                n_compared += usize::from(before.is_some());
            }
            assert_eq!((weighted, bounds), (None, None));
            assert_eq!(not_weighted.is_some(), ANSWERED.contains(&metric.key));
        }
    }
    assert_eq!(n_compared, 5 + 7);
    // What is not over is compared with nothing: no night knows half of a quarter.
    let unfinished = Asked { frozen: true, ..window("2026-04-01", "2026-07-01").into() };
    let as_of = at("2026-06-01T12:00:00Z");
    let frozen = setting.report(id, unfinished.clone(), as_of).await;
    assert_eq!(frozen.basis, Basis::Frozen);
    assert!(frozen.metrics.iter().all(|(_, figure)| figure.certainty.before.is_none()));
    let computed = setting.report(id, Asked { frozen: false, ..unfinished }, as_of).await;
    assert!(computed.metrics.iter().all(|(_, figure)| figure.certainty.before.is_some()));
}

// ---- One answer per customer.

#[tokio::test]
async fn of_each_customer_the_latest_answer_of_each_period_counts() {
    let setting = Setting::new().await;
    let pool = &setting.db.pool;
    let id = factories::shop(pool, "plume").await;
    let answer = async |customer: &str, moment: &str, said: &'static str, rating: Option<i16>| {
        let customer = factories::customer(pool, id, &format!("{customer}@customer.example")).await;
        let order = factories::Order::new(id, customer, moment).insert(pool).await;
        let response =
            factories::Response { recommend: Some(said), rating, ..factories::Response::new(id, order) };
        response.answered_at(moment).insert(pool).await;
    };
    answer("claire", "2026-03-03T10:00:00Z", "no", Some(1)).await;
    answer("claire", "2026-03-09T10:00:00Z", "no", Some(2)).await;
    // The latest of March says nothing about the rating; the one before it does.
    answer("claire", "2026-03-20T10:00:00Z", "yes", None).await;
    answer("claire", "2026-04-02T10:00:00Z", "no", Some(5)).await;
    answer("hugo", "2026-03-05T10:00:00Z", "no", Some(4)).await;
    let ask = |from, to, one_per_customer| Asked {
        one_per_customer,
        by: "month".parse().ok(),
        ..window(from, to).into()
    };
    let counted = async |key: &str, from, to, one_per_customer| {
        let report = setting.report(id, ask(from, to, one_per_customer), at("2026-12-31T00:00:00Z")).await;
        let months = report.series.unwrap().points.into_iter().filter(|p| p.volumes.answers > 0);
        let months = months.map(|p| p.metrics.get(key).map(|m| (m.numerator, m.denominator)).unwrap());
        let figure = report.metrics.get(key).unwrap();
        ((figure.numerator, figure.denominator), months.collect::<Vec<_>>())
    };
    let (march, may) = ("2026-03-01", "2026-05-01");
    assert_eq!(counted("recommendation_rate", march, may, false).await, ((1, 5), vec![(1, 4), (0, 1)]));
    assert_eq!(counted("recommendation_rate", march, may, true).await, ((0, 2), vec![(1, 2), (0, 1)]));
    assert_eq!(counted("csat", march, may, true).await, ((2, 2), vec![(1, 2), (1, 1)]));
    let figure = setting.figure(id, "csat", ask("2026-04-01", may, true)).await;
    assert_eq!(figure.certainty.before.map(|b| (b.numerator, b.denominator)), Some((1, 2)));
    assert!(figure.definition.contains("the latest counts"), "{}", figure.definition);
    assert!(figure.certainty.not_weighted.unwrap().contains("each customer counts once"));
}

// ---- Targets, and the program.

#[tokio::test]
async fn a_figure_is_held_against_its_target() {
    let setting = Setting::new().await;
    let (world, _) = biased(&mut Dice { seed: 1, rolled: 0 });
    let id = factories::shop(&setting.db.pool, "plume").await;
    world.store(&setting.db.pool, id).await;
    for (target, verdict) in [(0.7, TargetVerdict::Above), (0.99, TargetVerdict::Below)] {
        let asked = Asked { targets: vec![("recommendation_rate".to_owned(), target)], ..Asked::default() };
        let figure = setting.figure(id, "recommendation_rate", asked.clone()).await;
        let found = figure.certainty.target.unwrap();
        assert_eq!((found.target, found.verdict, found.more), (target, verdict, None));
        assert!(figure.verdict.contains("the target of"), "{}", figure.verdict);
        let other = setting.figure(id, "response_rate", asked).await;
        assert_eq!(other.certainty.target, None);
    }
    let figure = setting.figure(id, "recommendation_rate", Window::default()).await;
    let near = (figure.value.unwrap() * 100.0).round() / 100.0;
    let asked = Asked { targets: vec![("recommendation_rate".to_owned(), near)], ..Asked::default() };
    let undecided = setting.figure(id, "recommendation_rate", asked).await.certainty.target.unwrap();
    assert_eq!(undecided.verdict, TargetVerdict::Undecided);
    if let Some(more) = undecided.more {
        // With so many more answers like these the target is outside, without the last of them it is not.
        let interval = |more: u64| {
            interval::wilson_effective(figure.value.unwrap(), figure.denominator as f64 + more as f64)
                .unwrap()
        };
        let contains = |more| interval(more).low <= near && near <= interval(more).high;
        assert!(contains(more - 1) && !contains(more), "{more}");
    }
}

#[tokio::test]
async fn the_report_fits_100_columns_and_says_what_figures_are_worth() {
    let program = Program::new(&shipped()).await;
    program.write(
        "orders.csv",
        "order_id,email,ordered_at,status\n1,claire@customer.example,2026-03-03T10:00:00+01:00,fulfilled\n\
         2,claire@customer.example,2026-04-03T10:00:00+02:00,fulfilled\n3,hugo@customer.example,2026-04-04T10:00:00+02:00,fulfilled\n",
    );
    program.run(&["import", "orders", "orders.csv", "--shop", "maison"]).expect(0);
    let april = ["--from", "2026-04-01", "--to", "2026-05-01", "--as-of", "2026-05-02"];
    let targets = ["--target", "repeat_customer_ratio=0.2", "--target", "nps=40"];
    let printed = program.run(&[&["report"][..], &april, &targets].concat()).expect(0).stdout;
    for line in printed.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    let said = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("Indicator Value 95 % interval Counted"), "{printed}");
    assert!(said.contains("No evidence of a change against the period before (0.0 %)"), "{printed}");
    assert!(said.contains("Not distinguishable from the target of 20.0 %"), "{printed}");
    assert!(said.contains("Not weighted: no order was due to be asked about."), "{printed}");
    let json = program.run(&[&["report", "--json"][..], &april, &targets].concat()).expect(0).json();
    let certainty = &json["shops"][0]["metrics"]["returning_customer_rate"]["certainty"];
    assert_eq!(certainty["before"]["change"], "no_evidence");
    assert_eq!(
        (&certainty["before"]["numerator"], &certainty["before"]["denominator"]),
        (&0.into(), &1.into())
    );
    assert_eq!(certainty["before"]["from"], "2026-02-28T23:00:00Z");
    let certainty = &json["shops"][0]["metrics"]["repeat_customer_ratio"]["certainty"];
    assert_eq!(
        (&certainty["target"]["target"], &certainty["target"]["verdict"]),
        (&0.2.into(), &"undecided".into())
    );
    for bad in [
        &["--target", "recommendation_rate"][..],
        &["--target", "happiness=0.5"],
        &["--target", "nps=101"],
        &["--target", "csat=85"],
        &["--target", "csat=NaN"],
        &["--one-per-customer", "--segment", "country"],
    ] {
        program.run(&[&["report"][..], bad].concat()).expect(2);
    }
    program.run(&["report", "--one-per-customer", "--by", "month"]).expect(0);
}
