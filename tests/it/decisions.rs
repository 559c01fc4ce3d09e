//! [2] Who is asked: the statements against a second, slow and obvious implementation, on made-up worlds in which everything happens.

use std::collections::{BTreeMap, BTreeSet};

use afterword::invitations::decide::{self, Terms};
use afterword::invitations::{InvitationState, Reason, outbox};
use afterword::survey::{ConsentRule, Demand, Questionnaire, Survey, Trigger};
use afterword::types::{CustomerId, OrderId, ShopId, SurveyVersionId};
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;

use crate::support::factories::{self, Order, at};
use crate::support::{TestDb, on_own_runtime};

const SAMPLING_KEY: &[u8] = b"a key";
const BEGIN: &str = "2026-03-01T10:00:00Z";
const ZONE: Tz = Tz::Europe__Paris;
const COUNTRIES: [Option<&str>; 4] = [None, Some("FR"), Some("DE"), Some("BR")];

/// One made-up world: a survey, orders, and what happens to them day after day.
#[derive(Debug, Clone)]
struct World {
    rules: Rules,
    orders: Vec<MadeUp>,
    steps: Vec<Step>,
}

#[derive(Debug, Clone)]
struct Rules {
    trigger: Trigger,
    delay: i64,
    delay_in_brazil: Option<i64>,
    max_lateness: i64,
    throttle: i64,
    sample: f64,
    max_per_day: Option<u32>,
    reminders: Vec<i64>,
    consent: Demand,
    consent_in_germany: Option<Demand>,
    asked_until: Option<i64>,
}

/// Times are days from [`BEGIN`].
#[derive(Debug, Clone)]
struct MadeUp {
    /// Imported before this step.
    step: usize,
    customer: usize,
    ordered: i64,
    fulfilled: Option<i64>,
    status: &'static str,
    country: Option<&'static str>,
    consent: Option<bool>,
}

#[derive(Debug, Clone)]
struct Step {
    days: i64,
    events: Vec<Event>,
    /// Whether what is queued leaves in this step's run.
    relay_is_up: bool,
}

#[derive(Debug, Clone)]
enum Event {
    Cancel { order: usize },
    Refund { order: usize },
    Deliver { order: usize, days_ago: i64 },
    TakeBack { order: usize },
    GiveTo { order: usize, customer: usize },
    Withdraw { order: usize },
    Answer { order: usize },
    AskElsewhere { order: usize },
    Unsubscribe { customer: usize },
    Suppress { customer: usize, everywhere: bool },
    Erase { customer: usize },
    CloseCase { order: usize, days_ago: i64 },
}

fn world() -> impl Strategy<Value = World> {
    let demand = || prop_oneof![4 => Just(Demand::SoftOptIn), 1 => Just(Demand::Consent)];
    let rules = (
        (
            prop_oneof![
                2 => Just(Trigger::Fulfilled),
                2 => Just(Trigger::Ordered),
                1 => Just(Trigger::Event("case_closed".to_owned())),
            ],
            0..8_i64,
        ),
        (
            proptest::option::of(0..14_i64),
            4..30_i64,
            prop_oneof![1 => Just(0), 2 => 1..15_i64, 1 => 15..40_i64],
        ),
        (prop_oneof![Just(1.0), Just(0.5)], proptest::option::weighted(0.5, 1..4_u32)),
        proptest::collection::vec(1..6_i64, 0..3),
        (demand(), proptest::option::of(demand()), proptest::option::weighted(0.1, 0..10_i64)),
    );
    let rules =
        rules.prop_map(|((trigger, delay), (brazil, late, throttle), (sample, cap), reminders, rest)| {
            let (consent, consent_in_germany, asked_until) = rest;
            Rules {
                trigger,
                delay,
                delay_in_brazil: brazil,
                max_lateness: late,
                throttle,
                sample,
                max_per_day: cap,
                reminders,
                consent,
                consent_in_germany,
                asked_until,
            }
        });
    let order = (
        (0..4_usize, 0..6_usize, -15..15_i64, proptest::option::weighted(0.8, 0..8_i64)),
        prop_oneof![20 => Just("fulfilled"), 1 => Just("cancelled"), 1 => Just("refunded"), 3 => Just("open")],
        (0..COUNTRIES.len(), proptest::option::weighted(0.4, proptest::bool::weighted(0.8))),
    );
    let order = order.prop_map(|((step, customer, ordered, after), status, (country, consent))| MadeUp {
        step,
        customer,
        ordered,
        fulfilled: after.map(|days| ordered + days),
        status,
        country: COUNTRIES[country],
        consent,
    });
    (rules, proptest::collection::vec(order, 5..30)).prop_flat_map(|(rules, orders)| {
        let (order, customer) = (0..orders.len(), 0..6_usize);
        let event = prop_oneof![
            1 => order.clone().prop_map(|order| Event::Cancel { order }),
            1 => order.clone().prop_map(|order| Event::Refund { order }),
            1 => (order.clone(), -3..6_i64).prop_map(|(order, days_ago)| Event::Deliver { order, days_ago }),
            3 => order.clone().prop_map(|order| Event::TakeBack { order }),
            3 => (order.clone(), customer.clone()).prop_map(|(order, customer)| Event::GiveTo { order, customer }),
            1 => order.clone().prop_map(|order| Event::Withdraw { order }),
            2 => order.clone().prop_map(|order| Event::Answer { order }),
            1 => order.clone().prop_map(|order| Event::AskElsewhere { order }),
            6 => (order, 0..12_i64).prop_map(|(order, days_ago)| Event::CloseCase { order, days_ago }),
            1 => customer.clone().prop_map(|customer| Event::Unsubscribe { customer }),
            1 => (customer.clone(), any::<bool>())
                .prop_map(|(customer, everywhere)| Event::Suppress { customer, everywhere }),
            1 => customer.prop_map(|customer| Event::Erase { customer }),
        ];
        // A clock that was ahead is set back now and then.
        let step = (-2..7_i64, proptest::collection::vec(event, 0..5), proptest::bool::weighted(0.5));
        let step = step.prop_map(|(days, events, relay_is_up)| Step { days, events, relay_is_up });
        (Just(rules), Just(orders), proptest::collection::vec(step, 4..8))
            .prop_map(|(rules, orders, steps)| World { rules, orders, steps })
    })
}

fn day(days: i64) -> DateTime<Utc> {
    at(BEGIN) + TimeDelta::days(days)
}

fn survey(rules: &Rules) -> Survey {
    let days = |days: i64| TimeDelta::days(days);
    Survey {
        key: "satisfaction".to_owned(),
        shops: None,
        mailed: true,
        trigger: rules.trigger.clone(),
        delay: days(rules.delay),
        delay_by_country: rules
            .delay_in_brazil
            .map(|delay| ("BR".to_owned(), days(delay)))
            .into_iter()
            .collect(),
        max_lateness: days(rules.max_lateness),
        throttle: days(rules.throttle),
        sample: rules.sample,
        max_per_day: rules.max_per_day,
        max_per_run: None,
        reminders: rules.reminders.iter().copied().map(days).collect(),
        consent: ConsentRule {
            default: rules.consent,
            by_country: rules
                .consent_in_germany
                .map(|demand| ("DE".to_owned(), demand))
                .into_iter()
                .collect(),
        },
        answer_within: days(60),
        edit_within: days(14),
        send_window: None,
        recommendation: None,
        unhappy: None,
        questionnaire: Questionnaire { intro: None, questions: Vec::new() },
    }
}

/// The second implementation: everything in memory, order after order, nothing clever.
struct Model {
    rules: Rules,
    orders: Vec<ModelOrder>,
    /// By customer and whether it holds for every shop; the first reason stays.
    suppressed: BTreeMap<(usize, bool), Reason>,
    erased: BTreeSet<usize>,
    answered: BTreeSet<usize>,
    rows: Vec<ModelRow>,
}

#[derive(Clone)]
struct ModelOrder {
    customer: usize,
    ordered: DateTime<Utc>,
    fulfilled: Option<DateTime<Utc>>,
    status: &'static str,
    country: Option<&'static str>,
    consent: Option<bool>,
    /// When its cases were closed.
    cases: Vec<DateTime<Utc>>,
}

#[derive(Clone)]
struct ModelRow {
    order: usize,
    customer: usize,
    /// Of our survey, or of another one.
    ours: bool,
    wave: usize,
    state: InvitationState,
    reason: Option<Reason>,
    due: DateTime<Utc>,
    decided: DateTime<Utc>,
    /// Not mailed before.
    next: DateTime<Utc>,
    sent: Option<DateTime<Utc>>,
    remind: Option<DateTime<Utc>>,
}

impl Model {
    fn due(&self, order: &ModelOrder) -> Option<DateTime<Utc>> {
        let start = match self.rules.trigger {
            Trigger::Ordered => Some(order.ordered),
            Trigger::Fulfilled => order.fulfilled,
            Trigger::Event(_) => order.cases.iter().min().copied(),
        };
        let delay = match (order.country, self.rules.delay_in_brazil) {
            (Some("BR"), Some(delay)) => delay,
            _ => self.rules.delay,
        };
        start.map(|start| start + TimeDelta::days(delay))
    }

    fn about_the_order_and_person(&self, order: usize, customer: usize) -> Option<Reason> {
        let facts = &self.orders[order];
        match facts.status {
            "cancelled" => return Some(Reason::Cancelled),
            "refunded" => return Some(Reason::Refunded),
            _ => {}
        }
        if facts.customer != customer {
            return Some(Reason::OrderChanged);
        }
        if self.erased.contains(&customer) {
            return Some(Reason::NoAddress);
        }
        let reasons = [true, false].map(|everywhere| self.suppressed.get(&(customer, everywhere)).copied());
        let unsubscribed = reasons.contains(&Some(Reason::Unsubscribed)).then_some(Reason::Unsubscribed);
        unsubscribed.or(reasons[0]).or(reasons[1])
    }

    /// Whether the survey waits for a delivery that the order no longer has.
    fn has_no_delivery(&self, order: usize) -> bool {
        self.rules.trigger == Trigger::Fulfilled && self.orders[order].fulfilled.is_none()
    }

    fn draw(order: usize) -> u32 {
        let digest = Sha256::digest([SAMPLING_KEY, format!("O{order}").as_bytes()].concat());
        u32::from_be_bytes(digest[..4].try_into().unwrap())
    }

    /// Whether a first mail to this customer is under way, or left after this moment.
    fn is_asked_since(&self, customer: usize, since: DateTime<Utc>) -> bool {
        let asked_until = self.rules.asked_until.map(day);
        self.rows.iter().filter(|row| row.customer == customer && row.wave == 0).any(|row| match row.state {
            InvitationState::Queued => true,
            InvitationState::Sent => row.sent.is_some_and(|sent| sent > since),
            _ => {
                row.reason == Some(Reason::AlreadyAsked)
                    && asked_until.is_some_and(|until| row.due <= until)
                    && row.decided > since
            }
        })
    }

    fn may_be_asked(&self, order: usize) -> bool {
        let facts = &self.orders[order];
        let demanded = match (facts.country, self.rules.consent_in_germany) {
            (Some("DE"), Some(demand)) => demand,
            _ => self.rules.consent,
        } == Demand::Consent;
        facts.consent.unwrap_or(!demanded)
    }

    fn decide(&mut self, now: DateTime<Utc>) {
        let asked_until = self.rules.asked_until.map(day);
        let undecided =
            |order: usize| !self.rows.iter().any(|row| row.ours && row.wave == 0 && row.order == order);
        let mut due: Vec<(DateTime<Utc>, usize)> = (0..self.orders.len())
            .filter(|order| undecided(*order))
            .filter_map(|order| Some((self.due(&self.orders[order])?, order)))
            .filter(|(due, _)| *due <= now)
            .collect();
        due.sort();
        let mut verdicts: Vec<(usize, DateTime<Utc>, Option<Reason>)> = Vec::new();
        for (due, order) in due {
            let facts = &self.orders[order];
            let since = now - TimeDelta::days(self.rules.throttle);
            let throttled = self.rules.throttle > 0 && self.is_asked_since(facts.customer, since);
            let reason = self.about_the_order_and_person(order, facts.customer).or_else(|| {
                // A survey about something else than the order is held off by nothing but the throttle.
                let asked_about = self.rules.trigger.event().is_none()
                    && self
                        .rows
                        .iter()
                        .any(|row| row.order == order && row.wave == 0 && row.reason.is_none());
                if !self.may_be_asked(order) {
                    Some(Reason::NoConsent)
                } else if self.answered.contains(&order) {
                    Some(Reason::Answered)
                } else if asked_about || asked_until.is_some_and(|until| due <= until) {
                    Some(Reason::AlreadyAsked)
                } else if due < now - TimeDelta::days(self.rules.max_lateness) {
                    Some(Reason::TooLate)
                } else if self.rules.sample < 1.0 && Self::draw(order) >= 1 << 31 {
                    Some(Reason::NotSampled)
                } else if throttled {
                    Some(Reason::Throttled)
                } else {
                    None
                }
            });
            verdicts.push((order, due, reason));
        }
        // One order a customer, the one that was due first.
        if self.rules.throttle > 0 {
            let mut seen = BTreeSet::new();
            for (order, _, reason) in &mut verdicts {
                if reason.is_none() && !seen.insert(self.orders[*order].customer) {
                    *reason = Some(Reason::Throttled);
                }
            }
        }
        // The day's cap, by lot.
        if let Some(cap) = self.rules.max_per_day {
            let today = |moment: DateTime<Utc>| moment.with_timezone(&ZONE).date_naive();
            let counts = |row: &&ModelRow| row.ours && row.wave == 0 && today(row.decided) == today(now);
            // What was queued and given up later was asked for all the same.
            let n_today =
                self.rows.iter().filter(counts).filter(|row| row.state != InvitationState::Skipped).count();
            let mut drawn: Vec<usize> =
                verdicts.iter().filter(|(_, _, reason)| reason.is_none()).map(|(order, ..)| *order).collect();
            drawn.sort_by_key(|order| (Self::draw(*order), *order));
            let room = (cap as usize).saturating_sub(n_today);
            for order in drawn.into_iter().skip(room) {
                verdicts.iter_mut().find(|(other, ..)| *other == order).unwrap().2 = Some(Reason::OverCap);
            }
        }
        for (order, due, reason) in verdicts {
            let customer = self.orders[order].customer;
            self.rows.push(ModelRow::new(order, customer, 0, due, now, reason));
        }
    }

    fn remind(&mut self, now: DateTime<Utc>) {
        let asked_until = self.rules.asked_until.map(day);
        let mut reminders = Vec::new();
        for n in 0..self.rows.len() {
            let row = self.rows[n].clone();
            let Some(due) = row.remind.filter(|due| *due <= now) else { continue };
            self.rows[n].remind = None;
            let reason = self.about_the_order_and_person(row.order, row.customer).or_else(|| {
                if self.answered.contains(&row.order) {
                    Some(Reason::Answered)
                } else if self.has_no_delivery(row.order) {
                    Some(Reason::OrderChanged)
                } else if !self.may_be_asked(row.order) {
                    Some(Reason::NoConsent)
                } else if asked_until.is_some_and(|until| due <= until) {
                    Some(Reason::AlreadyAsked)
                } else if due < now - TimeDelta::days(self.rules.max_lateness) {
                    Some(Reason::TooLate)
                } else {
                    None
                }
            });
            reminders.push(ModelRow::new(row.order, row.customer, row.wave + 1, due, now, reason));
        }
        self.rows.extend(reminders);
    }

    fn settle(&mut self, now: DateTime<Utc>) {
        for n in 0..self.rows.len() {
            let row = self.rows[n].clone();
            if !row.ours || row.state != InvitationState::Queued {
                continue;
            }
            let order = &self.orders[row.order];
            let reason = self.about_the_order_and_person(row.order, row.customer).or_else(|| {
                if self.answered.contains(&row.order) {
                    Some(Reason::Answered)
                } else if self.has_no_delivery(row.order) {
                    Some(Reason::OrderChanged)
                } else if !self.may_be_asked(row.order) {
                    Some(Reason::NoConsent)
                } else if row.due < now - TimeDelta::days(self.rules.max_lateness) {
                    Some(Reason::TooLate)
                } else {
                    None
                }
            });
            match reason {
                None if row.wave == 0 => {
                    let due = self.due(order).unwrap();
                    if due > row.due {
                        (self.rows[n].due, self.rows[n].next) = (due, due);
                    }
                }
                None => {}
                Some(reason) => {
                    self.rows[n].reason = Some(reason);
                    self.rows[n].state = match reason {
                        Reason::Unsubscribed | Reason::Suppressed | Reason::NoAddress => {
                            InvitationState::Suppressed
                        }
                        Reason::TooLate => InvitationState::Expired,
                        _ => InvitationState::Cancelled,
                    };
                }
            }
        }
    }

    fn send(&mut self, now: DateTime<Utc>) {
        for row in &mut self.rows {
            if row.ours && row.state == InvitationState::Queued && row.next <= now {
                row.state = InvitationState::Sent;
                row.sent = Some(now);
                row.remind = self.rules.reminders.get(row.wave).map(|days| now + TimeDelta::days(*days));
            }
        }
    }
}

impl ModelRow {
    fn new(
        order: usize,
        customer: usize,
        wave: usize,
        due: DateTime<Utc>,
        now: DateTime<Utc>,
        reason: Option<Reason>,
    ) -> Self {
        let state = if reason.is_none() { InvitationState::Queued } else { InvitationState::Skipped };
        Self {
            order,
            customer,
            ours: true,
            wave,
            state,
            reason,
            due,
            decided: now,
            next: now,
            sent: None,
            remind: None,
        }
    }
}

/// The same world in the database.
struct Real<'a> {
    pool: &'a PgPool,
    shop: ShopId,
    customers: Vec<CustomerId>,
    orders: BTreeMap<usize, OrderId>,
    import_run: i64,
}

impl Real<'_> {
    async fn import(&mut self, n: usize, made_up: &MadeUp) {
        let order = Order {
            ordered_at: day(made_up.ordered),
            fulfilled_at: made_up.fulfilled.map(day),
            status: made_up.status,
            country: made_up.country,
            ..Order::new(self.shop, self.customers[made_up.customer], &format!("O{n}"))
        };
        let id = order.insert(self.pool).await;
        self.orders.insert(n, id);
        self.change(n, "consent = $3::text::boolean", made_up.consent.map(|consent| consent.to_string()))
            .await;
    }

    /// As an import changes an order: with the number of its run.
    async fn change(&mut self, order: usize, change: &str, value: Option<String>) {
        let sql = format!(
            r#"update "order" set {change}, import_run_id = $2 where order_id = $1 and $3::text is not distinct from $3"#
        );
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(self.orders[&order])
            .bind(self.import_run)
            .bind(value)
            .execute(self.pool)
            .await
            .unwrap();
    }

    async fn suppress(&self, customer: usize, reason: &str, everywhere: bool) {
        let sql = "insert into suppression select $1, sha256(convert_to(email_key, 'UTF8')), $3::suppression_reason, now()
                   from customer where customer_id = $2 and email_key is not null on conflict do nothing";
        let shop = if everywhere { ShopId(0) } else { self.shop };
        sqlx::query(sql)
            .bind(shop)
            .bind(self.customers[customer])
            .bind(reason)
            .execute(self.pool)
            .await
            .unwrap();
    }

    async fn rows(&self) -> Vec<(String, i16, InvitationState, Option<Reason>, DateTime<Utc>)> {
        let sql = r#"select o.external_id, i.wave, i.state, i.reason, i.due_at
                     from invitation i join "order" o using (shop_id, order_id)
                     where i.shop_id = $1 and i.survey = 'satisfaction' order by o.order_id, i.wave"#;
        sqlx::query_as(sql).bind(self.shop).fetch_all(self.pool).await.unwrap()
    }
}

async fn happen(
    event: &Event,
    model: &mut Model,
    real: &mut Real<'_>,
    present: &BTreeSet<usize>,
    now: DateTime<Utc>,
) {
    let order = match event {
        Event::Cancel { order }
        | Event::Refund { order }
        | Event::Deliver { order, .. }
        | Event::TakeBack { order }
        | Event::GiveTo { order, .. }
        | Event::Withdraw { order }
        | Event::Answer { order }
        | Event::AskElsewhere { order }
        | Event::CloseCase { order, .. } => Some(*order),
        _ => None,
    };
    if order.is_some_and(|order| !present.contains(&order)) {
        return;
    }
    match *event {
        Event::Cancel { order } => {
            model.orders[order].status = "cancelled";
            real.change(order, "status = 'cancelled'", None).await;
        }
        Event::Refund { order } => {
            model.orders[order].status = "refunded";
            real.change(order, "status = 'refunded'", None).await;
        }
        Event::Deliver { order, days_ago } => {
            let moment = now - TimeDelta::days(days_ago);
            model.orders[order].fulfilled = Some(moment);
            real.change(order, "fulfilled_at = $3::timestamptz", Some(moment.to_rfc3339())).await;
        }
        Event::TakeBack { order } => {
            model.orders[order].fulfilled = None;
            real.change(order, "fulfilled_at = null", None).await;
        }
        Event::GiveTo { order, customer } if !model.erased.contains(&customer) => {
            model.orders[order].customer = customer;
            let id = real.customers[customer];
            real.change(order, "customer_id = $3::bigint", Some(id.to_string())).await;
        }
        Event::GiveTo { .. } => {}
        Event::Withdraw { order } => {
            model.orders[order].consent = Some(false);
            real.change(order, "consent = false", None).await;
        }
        Event::Answer { order } if model.answered.insert(order) => {
            let response = factories::Response {
                survey: "satisfaction".to_owned(),
                ..factories::Response::new(real.shop, real.orders[&order])
            };
            response.insert(real.pool).await;
        }
        Event::Answer { .. } => {}
        Event::AskElsewhere { order } => {
            if model.rows.iter().any(|row| !row.ours && row.order == order) {
                return;
            }
            // The factory's mails are another survey's.
            factories::sent_invitation(real.pool, real.shop, real.orders[&order], now).await;
            let customer = model.orders[order].customer;
            let row = ModelRow::new(order, customer, 0, now, now, None);
            model.rows.push(ModelRow { ours: false, state: InvitationState::Sent, sent: Some(now), ..row });
        }
        Event::Unsubscribe { customer } if !model.erased.contains(&customer) => {
            model.suppressed.entry((customer, false)).or_insert(Reason::Unsubscribed);
            real.suppress(customer, "unsubscribed", false).await;
        }
        Event::Suppress { customer, everywhere } if !model.erased.contains(&customer) => {
            model.suppressed.entry((customer, everywhere)).or_insert(Reason::Suppressed);
            real.suppress(customer, "manual", everywhere).await;
        }
        Event::Unsubscribe { .. } | Event::Suppress { .. } => {}
        Event::CloseCase { order, days_ago } => {
            let moment = now - TimeDelta::days(days_ago);
            model.orders[order].cases.push(moment);
            let sql = "insert into order_event (shop_id, order_id, event, external_id, happened_at, import_run_id)
                       values ($1, $2, 'case_closed', $3, $3::timestamptz, $4), ($1, $2, 'another', $3, '2020-01-01', $4)
                       on conflict do nothing";
            sqlx::query(sql)
                .bind(real.shop)
                .bind(real.orders[&order])
                .bind(moment.to_rfc3339())
                .bind(real.import_run)
                .execute(real.pool)
                .await
                .unwrap();
        }
        Event::Erase { customer } => {
            model.erased.insert(customer);
            let sql = "update customer set email = null, email_key = null, erased_at = now() where customer_id = $1";
            sqlx::query(sql).bind(real.customers[customer]).execute(real.pool).await.unwrap();
        }
    }
}

/// Both live through the same world, and must say the same after every step.
async fn live(pool: &PgPool, world: &World, n: usize) {
    let shop = factories::shop(pool, &format!("shop{n}")).await;
    let mut customers = Vec::new();
    for customer in 0..6 {
        customers.push(factories::customer(pool, shop, &format!("c{customer}.{n}@customer.example")).await);
    }
    let survey = survey(&world.rules);
    let version: SurveyVersionId = factories::survey_version(pool, shop, &survey.key).await;
    let mut real = Real { pool, shop, customers, orders: BTreeMap::new(), import_run: 0 };
    let mut model = Model {
        rules: world.rules.clone(),
        orders: Vec::new(),
        suppressed: BTreeMap::new(),
        erased: BTreeSet::new(),
        answered: BTreeSet::new(),
        rows: Vec::new(),
    };
    // In the order of their arrival, so that numbers and places agree.
    let mut arrivals = world.orders.clone();
    arrivals.sort_by_key(|order| order.step);
    let mut present = BTreeSet::new();
    let mut today = 0;
    for (n, step) in world.steps.iter().enumerate() {
        // A clock that goes back to another day begins its cap anew; the model counts every day's decisions.
        today += if world.rules.max_per_day.is_some() { step.days.max(0) } else { step.days };
        // Hours after midnight in Paris, so that a day is a day.
        let now = day(today) + TimeDelta::minutes(n as i64);
        real.import_run += 1;
        for (place, order) in arrivals.iter().enumerate().filter(|(_, order)| order.step == n) {
            real.import(place, order).await;
            model.orders.push(ModelOrder {
                customer: order.customer,
                ordered: day(order.ordered),
                fulfilled: order.fulfilled.map(day),
                status: order.status,
                country: order.country,
                consent: order.consent,
                cases: Vec::new(),
            });
            present.insert(place);
        }
        for event in &step.events {
            happen(event, &mut model, &mut real, &present, now).await;
        }

        let mut transaction = pool.begin().await.unwrap();
        let terms = Terms {
            shop,
            timezone: ZONE,
            survey: &survey,
            version,
            sampling_key: SAMPLING_KEY,
            asked_until: world.rules.asked_until.map(day),
            by_event: &[],
            now,
        };
        outbox::settle(&mut transaction, shop, &survey, now).await.unwrap();
        decide::decide(&mut transaction, &terms).await.unwrap();
        decide::remind(&mut transaction, &terms).await.unwrap();
        transaction.commit().await.unwrap();
        model.settle(now);
        model.decide(now);
        model.remind(now);
        if step.relay_is_up {
            // As the sender leaves a mail that the relay took.
            let reminders: Vec<i64> = world.rules.reminders.clone();
            sqlx::query(
                "update invitation set state = 'sent', sent_at = $2, attempts = 1,
                   remind_at = $2 + ($3::bigint[])[wave + 1] * interval '24 hours'
                 where shop_id = $1 and survey = 'satisfaction' and state = 'queued' and next_attempt_at <= $2",
            )
            .bind(shop)
            .bind(now)
            .bind(&reminders)
            .execute(pool)
            .await
            .unwrap();
            model.send(now);
        }

        let mut expected: Vec<_> = model
            .rows
            .iter()
            .filter(|row| row.ours)
            .map(|row| (row.order, row.wave as i16, row.state, row.reason, row.due))
            .collect();
        expected.sort_by_key(|(order, wave, ..)| (*order, *wave));
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(order, wave, state, reason, due)| (format!("O{order}"), wave, state, reason, due))
            .collect();
        assert_eq!(real.rows().await, expected, "after step {n}, on {now}");
    }
}

#[test]
fn a_second_implementation_decides_the_same() {
    let db = on_own_runtime(TestDb::new());
    let options = db.options();
    let mut n = 0;
    let n = std::cell::RefCell::new(&mut n);
    let config = ProptestConfig {
        cases: 100,
        failure_persistence: None,
        max_shrink_iters: 100,
        ..ProptestConfig::default()
    };
    let reasons = std::cell::RefCell::new(BTreeMap::<Option<Reason>, u32>::new());
    // The same worlds each time, so that what is asked of them at the end is no matter of luck.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let outcome = TestRunner::new_with_rng(config, rng).run(&world(), |world| {
        let n = {
            let mut n = n.borrow_mut();
            **n += 1;
            **n
        };
        on_own_runtime(async {
            let pool = sqlx::PgPool::connect_with(options.clone()).await.unwrap();
            live(&pool, &world, n).await;
            let found: Vec<(Option<Reason>, i64)> = sqlx::query_as(
                "select reason, count(*) from invitation where shop_id = (select max(shop_id) from shop) group by reason",
            )
            .fetch_all(&pool)
            .await
            .unwrap();
            for (reason, n) in found {
                *reasons.borrow_mut().entry(reason).or_default() += u32::try_from(n).unwrap();
            }
            pool.close().await;
        });
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    // Every reason has occurred, or the worlds are too dull to prove anything. An address that cannot be mailed is refused by imports.
    let reasons = reasons.into_inner();
    for reason in [
        None,
        Some(Reason::Cancelled),
        Some(Reason::Refunded),
        Some(Reason::NoAddress),
        Some(Reason::Unsubscribed),
        Some(Reason::Suppressed),
        Some(Reason::NoConsent),
        Some(Reason::TooLate),
        Some(Reason::Answered),
        Some(Reason::AlreadyAsked),
        Some(Reason::NotSampled),
        Some(Reason::Throttled),
        Some(Reason::OverCap),
        Some(Reason::OrderChanged),
    ] {
        assert!(reasons.get(&reason).is_some_and(|n| *n > 1), "{reason:?}: {reasons:?}");
    }
}
