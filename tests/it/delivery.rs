//! [2] Delivery: what becomes of a mail, whatever the relay does, step by step of the conversation; and what becomes of the relay.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use afterword::config::{Config, Credentials, Mail, Smtp, Tls, Transport};
use afterword::context::Context;
use afterword::invitations::sender::{self, Delivery};
use afterword::invitations::{self, InvitationState, Manner, SendReport, relay};
use afterword::mail::transport::Limits;
use afterword::types::Clock;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::support::factories::{self, Order, at};
use crate::support::program::{Program, shipped};
use crate::support::scripted::{Behaviour, Scripted, Step};
use crate::support::sink::Sink;
use crate::support::{on_own_runtime, random};

/// Orders are delivered on 3 March; with a delay of seven days they are due on the 10th.
const NOW: &str = "2026-03-12T10:00:00Z";
/// How long the relay may take in these tests.
const LIMIT: Duration = Duration::from_secs(2);

/// A program and a context that sends to a relay as a test wants it.
struct House {
    program: Program,
    context: Context,
}

impl House {
    async fn new() -> Self {
        // These relays refuse most of what they are given, and the runs are to go on.
        let config = shipped()
            .replacen("max_connections = 16", "max_connections = 4", 1)
            .replace("max_refusal_rate = 0.05", "max_refusal_rate = 1.0")
            .replace("max_bounce_rate = 0.05", "max_bounce_rate = 1.0");
        let program = Program::new(&config).await;
        let context = program.context(at(NOW)).await;
        Self { program, context }
    }

    fn pool(&self) -> &PgPool {
        &self.program.db.pool
    }

    /// The context at a moment, with a relay at this port and what the test changes about it.
    fn sending_to(
        &self,
        port: u16,
        now: DateTime<Utc>,
        change: impl FnOnce(&mut Mail, &mut Smtp),
    ) -> Context {
        let mut mail = self.context.config.mail.clone();
        mail.max_connections = 1;
        let mut smtp = Smtp {
            host: "127.0.0.1".to_owned(),
            port,
            tls: Tls::None,
            credentials: None,
            // A relay of these tests is a thread of this process, and may have to wait for its turn.
            limits: Limits::all(Duration::from_secs(60)),
        };
        change(&mut mail, &mut smtp);
        mail.transport = Transport::Smtp(Box::new(smtp));
        let config = Config { mail, ..(*self.context.config).clone() };
        Context { config: Arc::new(config), clock: Clock::Fixed(now), ..self.context.clone() }
    }

    /// Orders of the shop `maison`, called by their addresses.
    async fn orders(&self, names: impl IntoIterator<Item = String>) {
        let shop = factories::shop(self.pool(), "maison").await;
        for name in names {
            let customer = factories::customer(self.pool(), shop, &format!("{name}@customer.example")).await;
            Order::new(shop, customer, &name).insert(self.pool()).await;
        }
    }

    /// So many orders of the shop `maison`, called by their numbers from 1 with leading zeros.
    async fn many_orders(&self, n: i32) {
        factories::shop(self.pool(), "maison").await;
        for sql in [
            "insert into customer (shop_id, email, email_key)
             select shop_id, to_char(n, 'FM00000') || '@customer.example', to_char(n, 'FM00000') || '@customer.example'
             from shop, generate_series(1, $1) n where key = 'maison' order by n",
            r#"insert into "order" (shop_id, external_id, customer_id, ordered_at, fulfilled_at, status, items, attributes, imported_at,
                   updated_at)
               select shop_id, split_part(email, '@', 1), customer_id, '2026-03-01', '2026-03-03', 'fulfilled', '{}', '{}', '2026-03-01',
                   '2026-03-01'
               from customer where $1 > 0 order by customer_id"#,
        ] {
            sqlx::query(sql).bind(n).execute(self.pool()).await.unwrap();
        }
        // As an import does.
        sqlx::raw_sql("analyze").execute(self.pool()).await.unwrap();
    }

    /// State and tries of every invitation, by the order's name.
    async fn states(&self) -> BTreeMap<String, (InvitationState, i16)> {
        let sql = r#"select o.external_id, i.state, i.attempts
                     from invitation i join "order" o using (shop_id, order_id)"#;
        let rows: Vec<(String, InvitationState, i16)> =
            sqlx::query_as(sql).fetch_all(self.pool()).await.unwrap();
        rows.into_iter().map(|(order, state, attempts)| (order, (state, attempts))).collect()
    }

    /// Everything that was sent or decided is forgotten.
    async fn clear(&self) {
        sqlx::raw_sql(
            r#"truncate "order", customer, invitation, attempt, decided_until, suppression, relay cascade"#,
        )
        .execute(self.pool())
        .await
        .unwrap();
    }
}

async fn send(context: &Context) -> SendReport {
    let survey = context.config.survey("satisfaction").unwrap();
    invitations::send(context, survey, Manner::default(), &CancellationToken::new()).await.unwrap()
}

/// As a run does, after the decision, with a cap and a probe by hand.
async fn deliver(context: &Context, at_most: Option<u64>, probe_now: bool) -> Delivery {
    let survey = context.config.survey("satisfaction").unwrap();
    let (shop_id, shop) = context.shops.by_key("maison").unwrap();
    let stop = CancellationToken::new();
    let manner = Manner { probe_now, ..Manner::default() };
    sender::deliver(context, shop_id, shop, survey, at_most, manner, &stop).await.unwrap()
}

/// One fault of the relay's, and what is to become of the mail that meets it, in the run that meets it.
#[derive(Debug, Clone, Copy)]
struct Case {
    step: Step,
    behaviour: Behaviour,
    /// States and tries that are right for it; more than one where it depends on what arrives first.
    expected: &'static [(InvitationState, i16)],
    /// Whether the breaker opens at once, and nothing else is sent in this run.
    opens: bool,
    /// Whether the relay takes MAIL, RCPT and DATA in one piece.
    is_pipelining: bool,
}

/// Every step with every behaviour that it can have.
fn cases() -> Vec<Case> {
    use Behaviour::{
        Accept, Close, Drip, Endless, Garbage, Hang, Later, LongLine, Misplaced, Never, Reset, Twice,
    };
    use InvitationState::{Deferred, Failed, Queued, Sent, Unknown};
    const SENT: &[(InvitationState, i16)] = &[(Sent, 1)];
    const WAITS: &[(InvitationState, i16)] = &[(Queued, 0)];
    const LATER: &[(InvitationState, i16)] = &[(Deferred, 1)];
    const NO: &[(InvitationState, i16)] = &[(Failed, 1)];
    const WHO_KNOWS: &[(InvitationState, i16)] = &[(Unknown, 1)];
    let speechless = [Garbage, LongLine, Endless, Reset, Close, Hang, Drip];
    let mut cases = Vec::new();
    let mut case = |step, behaviour, expected, opens| {
        cases.push(Case { step, behaviour, expected, opens, is_pipelining: false });
    };
    for behaviour in [Reset, Close, Hang] {
        // The same mail leaves over the next connection: nothing about it was said.
        case(Step::Connect, behaviour, SENT, false);
    }
    for step in [Step::Greeting, Step::Ehlo, Step::Starttls, Step::Auth] {
        case(step, Accept, SENT, false);
        case(step, Later, SENT, false);
        case(step, Never, WAITS, true);
        case(step, Misplaced, SENT, false);
        for behaviour in speechless {
            case(step, behaviour, SENT, false);
        }
    }
    // The answers belong to other questions from then on. It is found out at the next question, or at the latest at DATA.
    case(Step::Greeting, Twice, &[(Queued, 0), (Deferred, 1)], false);
    // Or at the second EHLO, with which no mail has to do.
    case(Step::Ehlo, Twice, &[(Queued, 0), (Sent, 1)], false);
    case(Step::EhloAgain, Twice, &[(Queued, 0), (Deferred, 1)], false);
    // Who has greeted us once need not do it again, and is in step.
    case(Step::EhloAgain, Never, SENT, false);
    case(Step::EhloAgain, Behaviour::Say("503 5.5.1 Invalid command: Duplicate EHLO\r\n"), SENT, false);
    // Who says no before the second one has answered something else.
    case(Step::Ehlo, Behaviour::AndThen("554 5.7.1 not ever\r\n"), WAITS, true);
    for behaviour in speechless.into_iter().chain([Accept, Later, Misplaced]) {
        case(Step::EhloAgain, behaviour, SENT, false);
    }
    case(Step::Auth, Twice, WAITS, false);
    case(Step::Mail, Accept, SENT, false);
    case(Step::Mail, Later, WAITS, false);
    case(Step::Mail, Never, WAITS, true);
    case(Step::Mail, Misplaced, WAITS, false);
    case(Step::Mail, Twice, LATER, false);
    for behaviour in speechless {
        case(Step::Mail, behaviour, WAITS, false);
    }
    for step in [Step::Rcpt, Step::Data] {
        case(step, Accept, SENT, false);
        case(step, Later, LATER, false);
        case(step, Never, NO, false);
        case(step, Behaviour::Say("421 4.3.0 closing\r\n"), WAITS, false);
        case(step, Misplaced, LATER, false);
        case(step, Twice, LATER, false);
        for behaviour in speechless {
            case(step, behaviour, LATER, false);
        }
    }
    // Before its dot was written here, a mail is deferred; most are written at once, dot and all, and then nobody can know.
    const BROKEN_OFF: &[(InvitationState, i16)] = &[(Unknown, 1), (Deferred, 1)];
    case(Step::Body, Later, LATER, false);
    case(Step::Body, Never, NO, false);
    for behaviour in speechless.into_iter().chain([Misplaced]) {
        case(Step::Body, behaviour, BROKEN_OFF, false);
    }
    case(Step::Dot, Later, LATER, false);
    case(Step::Dot, Behaviour::Say("421 4.3.0 closing\r\n"), LATER, false);
    case(Step::Dot, Never, NO, false);
    case(Step::Dot, Twice, SENT, false);
    for step in [Step::Dot, Step::Kept] {
        for behaviour in speechless.into_iter().chain([Misplaced]) {
            case(step, behaviour, WHO_KNOWS, false);
        }
    }
    for behaviour in speechless.into_iter().chain([Accept, Later, Never, Misplaced, Twice]) {
        case(Step::Quit, behaviour, SENT, false);
    }
    let of_a_mail = cases.iter().filter(|case| (Step::Mail..=Step::Kept).contains(&case.step));
    let at_once: Vec<Case> = of_a_mail.map(|case| Case { is_pipelining: true, ..*case }).collect();
    cases.extend(at_once);
    cases
}

/// A relay that does it once, and from then on is as it should be.
fn once(case: Case) -> Scripted {
    let offers = match case.step {
        Step::Auth => "AUTH PLAIN",
        _ if case.is_pipelining => "PIPELINING",
        // Who has spoilt it no longer offers it: there is no encryption here.
        _ => "",
    };
    let mut is_done = false;
    let mut n_ehlo = 0;
    Scripted::start(offers, move |step, _| {
        if step == Step::Ehlo && case.step == Step::Starttls {
            n_ehlo += 1;
            if n_ehlo == 1 {
                return Behaviour::Say("250-relay.example\r\n250 STARTTLS\r\n");
            }
        }
        if step == case.step && !is_done {
            is_done = true;
            return case.behaviour;
        }
        Behaviour::Accept
    })
}

async fn check(house: &House, case: Case, patience: Duration) -> Duration {
    house.clear().await;
    let relay = once(case);
    let names = ["a", "b", "c"];
    house.orders(names.map(str::to_owned)).await;
    let context = |now| {
        house.sending_to(relay.port, now, |_, smtp| {
            smtp.limits = Limits::all(LIMIT);
            if case.step == Step::Starttls {
                smtp.tls = Tls::Opportunistic;
            }
            if case.step == Step::Auth {
                let (username, password) = ("shop".to_owned(), "correct horse".to_owned());
                smtp.credentials = Some(Credentials { username, password });
            }
        })
    };
    let begun = Instant::now();
    send(&context(at(NOW))).await;
    let took = begun.elapsed();
    assert!(took <= LIMIT + Duration::from_secs(1) + patience, "{case:?} took {took:?}");

    let states = house.states().await;
    assert!(case.expected.contains(&states["a"]), "{case:?}: {:?}", states["a"]);
    let others = if case.opens { (InvitationState::Queued, 0) } else { (InvitationState::Sent, 1) };
    assert_eq!((states["b"], states["c"]), (others, others), "{case:?}");
    let breaker: Option<bool> = sqlx::query_scalar("select next_probe_at is not null from relay")
        .fetch_optional(house.pool())
        .await
        .unwrap();
    assert_eq!(breaker.unwrap_or(false), case.opens, "{case:?}");
    let suppressed: i64 =
        sqlx::query_scalar("select count(*) from suppression").fetch_one(house.pool()).await.unwrap();
    assert_eq!(suppressed, 0, "{case:?}");
    tell_the_same(&relay, &states, case);
    let is_refused = matches!(case.behaviour, Behaviour::Never | Behaviour::Say(_));
    if case.step == Step::EhloAgain && is_refused {
        assert_eq!(relay.n_connections(), 1, "{case:?}: the conversation goes on");
    }
    if case.behaviour == Behaviour::Endless && case.step == Step::Rcpt {
        let text: String = sqlx::query_scalar("select text from attempt order by attempt limit 1")
            .fetch_one(house.pool())
            .await
            .unwrap();
        assert!(text.contains("no end"), "it is cut off by its length, not by the time: {text}");
    }

    // What waited leaves later, what is settled stays as it is.
    send(&context(at(NOW) + TimeDelta::minutes(10))).await;
    let later = house.states().await;
    let settled = [InvitationState::Failed, InvitationState::Unknown].contains(&states["a"].0);
    let expected = if settled { states["a"].0 } else { InvitationState::Sent };
    assert_eq!(later["a"].0, expected, "{case:?}");
    assert!(later["b"] == (InvitationState::Sent, 1) && later["c"] == later["b"], "{case:?}: {later:?}");
    tell_the_same(&relay, &later, case);
    took
}

/// The relay's record equals the rows that say `sent`; of what is unknown it may have each or not.
fn tell_the_same(relay: &Scripted, states: &BTreeMap<String, (InvitationState, i16)>, case: Case) {
    let accepted = relay.accepted();
    let names: BTreeSet<&str> = accepted.iter().filter_map(|to| to.split('@').next()).collect();
    assert_eq!(names.len(), accepted.len(), "{case:?}: sent twice: {accepted:?}");
    for (name, (state, _)) in states {
        let is_there = names.contains(name.as_str());
        match state {
            InvitationState::Sent => assert!(is_there, "{case:?}: {name} is falsely sent"),
            InvitationState::Unknown => {
                assert!(case.step != Step::Kept || is_there, "{case:?}");
            }
            _ => assert!(!is_there, "{case:?}: {name} is {state:?}, and the relay has it"),
        }
    }
}

#[test]
fn whatever_the_relay_does_at_whatever_step_the_state_is_true() {
    const N_WORKERS: usize = 8;
    let cases = cases();
    let next = AtomicUsize::new(0);
    let work = async || {
        let house = House::new().await;
        // How long a run takes here when the relay does as it should: the machine may be busy.
        let (step, behaviour, opens) = (Step::Dot, Behaviour::Accept, false);
        let expected = &[(InvitationState::Sent, 1)];
        let good = Case { step, behaviour, expected, opens, is_pipelining: false };
        let mut usual = check(&house, good, Duration::from_secs(60)).await;
        let mut n = 0;
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let took = check(&house, *case, usual * 3).await;
            if case.behaviour == Behaviour::Accept {
                usual = usual.max(took);
            }
            n += 1;
        }
        n
    };
    let n_checked: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..N_WORKERS).map(|_| scope.spawn(|| on_own_runtime(work()))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert_eq!(n_checked, cases.len());
    let n = |is_pipelining| cases.iter().filter(|case| case.is_pipelining == is_pipelining).count();
    assert!(n(false) > 110 && n(true) > 60, "{} one by one, {} in one piece", n(false), n(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_asked_for_are_never_taken_for_a_yes() {
    tokio::join!(check_unasked(""), check_unasked("PIPELINING"));
}

async fn check_unasked(offers: &'static str) {
    const N: i32 = 1_000;
    let house = House::new().await;
    house.many_orders(N).await;
    let relay = Scripted::start(offers, |step, seen| {
        use Behaviour::{Accept, AndThen, Never, Say, Twice};
        match (random(seen.mail) % 16, step) {
            (0, Step::Mail) => AndThen("250 2.1.5 ok\r\n"),
            (1, Step::Rcpt) => Twice,
            (2, Step::Rcpt) => AndThen("354 go ahead\r\n250 2.0.0 queued\r\n"),
            (3, Step::Rcpt) => Say("554 5.7.1 no\r\n250 2.1.5 ok\r\n"),
            // The one that would be believed: the answer to the dot is there before the dot, and the message is refused.
            (4 | 5, Step::Data) => AndThen("250 2.0.0 queued\r\n"),
            (6, Step::Data) => AndThen("354 go ahead\r\n250 2.0.0 queued\r\n"),
            (4..=8, Step::Dot) => Never,
            (9, Step::Dot) => Twice,
            (10, Step::Dot) => AndThen("250 2.0.0 queued\r\n250 2.0.0 queued\r\n"),
            (11, Step::Rcpt) => AndThen("354 go ahead\r\n"),
            _ => Accept,
        }
    });
    let settled = |states: &BTreeMap<String, (InvitationState, i16)>| {
        let is_open = |state| matches!(state, InvitationState::Queued | InvitationState::Deferred);
        !states.values().any(|(state, _)| is_open(*state))
    };
    let mut now = at(NOW);
    let states = loop {
        send(&house.sending_to(relay.port, now, |mail, _| mail.max_connections = 4)).await;
        let states = house.states().await;
        if settled(&states) {
            break states;
        }
        now += TimeDelta::hours(1);
        assert!(now < at(NOW) + TimeDelta::hours(60), "mails are left: {states:?}");
    };
    assert_eq!(states.len(), usize::try_from(N).unwrap());
    let of = |wanted: InvitationState| -> BTreeSet<String> {
        let names = states.iter().filter(|(_, (state, _))| *state == wanted);
        names.map(|(name, _)| format!("{name}@customer.example")).collect()
    };
    let (sent, unknown) = (of(InvitationState::Sent), of(InvitationState::Unknown));
    let accepted = relay.accepted();
    let has: BTreeSet<String> = accepted.iter().cloned().collect();
    assert_eq!(sent.difference(&has).count(), 0, "{offers}: 0 falsely sent");
    let not_sent: BTreeSet<String> = has.difference(&sent).cloned().collect();
    assert!(not_sent.is_subset(&unknown), "{offers}: 0 falsely failed");
    assert_eq!(accepted.len(), has.len(), "{offers}: 0 sent twice");
    // A 354 too many, when the right one is late: it is then no answer to the dot.
    let most_unknown = if offers.is_empty() { 0 } else { 100 };
    assert!(unknown.len() <= most_unknown, "{offers}: {} unknown", unknown.len());
    assert!((300..900).contains(&sent.len()), "{offers}: {} sent, the others refused", sent.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_down_for_six_hours_is_probed_and_then_gets_everything_in_order() {
    const N: i32 = 2_000;
    let house = House::new().await;
    house.many_orders(N).await;
    let is_down = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let down = Arc::clone(&is_down);
    let relay = Scripted::start("", move |step, _| {
        let closes = step == Step::Connect && down.load(Ordering::Relaxed);
        if closes { Behaviour::Close } else { Behaviour::Accept }
    });
    let mut now = at(NOW);
    let first = send(&house.sending_to(relay.port, now, |_, _| ())).await;
    assert_eq!(relay.n_connections(), 5, "five faults in a row open the breaker");
    let outage = first.shops[0].delivery.outage.clone().expect("the breaker is open");
    assert_eq!((outage.since, outage.next_probe_at), (now, now + TimeDelta::minutes(1)));
    assert!(first.is_partial());

    // Every ten seconds for ten minutes, then every ten minutes for six hours.
    let mut probes = Vec::new();
    while now < at(NOW) + TimeDelta::hours(6) {
        let is_early = now < at(NOW) + TimeDelta::minutes(10);
        now += if is_early { TimeDelta::seconds(10) } else { TimeDelta::minutes(10) };
        let before = relay.n_connections();
        let report = send(&house.sending_to(relay.port, now, |mail, _| mail.max_connections = 4)).await;
        assert!(report.shops[0].delivery.outage.is_some(), "it says so in every run");
        assert_eq!(report.shops[0].delivery.n_waiting, 2_000);
        match relay.n_connections() - before {
            0 => {}
            1 => probes.push(now - at(NOW)),
            n => panic!("{n} connections in one run"),
        }
    }
    let minutes: Vec<i64> = probes.iter().map(TimeDelta::num_minutes).collect();
    // One, two, four minutes apart; then eight and a quarter of an hour, as soon as a run comes by.
    assert_eq!(minutes[..6], [1, 3, 7, 20, 40, 60], "{minutes:?}");
    let untouched = (InvitationState::Queued, 0);
    assert!(house.states().await.values().all(|row| *row == untouched), "0 tries were used");

    // A run by hand does not wait for the time.
    let context = house.sending_to(relay.port, now + TimeDelta::seconds(1), |_, _| ());
    let before = relay.n_connections();
    assert!(deliver(&context, None, false).await.outage.is_some());
    assert_eq!(relay.n_connections(), before);
    assert!(deliver(&context, None, true).await.outage.is_some());
    assert_eq!(relay.n_connections(), before + 1);

    is_down.store(false, Ordering::Relaxed);
    let report = send(&house.sending_to(relay.port, now + TimeDelta::minutes(20), |_, _| ())).await;
    assert_eq!((report.shops[0].delivery.n_sent, report.is_partial()), (2_000, false));
    let in_order: Vec<String> = house.states().await.into_keys().collect();
    let accepted: Vec<String> =
        relay.accepted().iter().map(|to| to.split('@').next().unwrap().to_owned()).collect();
    assert_eq!(accepted, in_order, "the order is kept");
}

#[tokio::test]
async fn a_probe_is_given_to_one() {
    let house = House::new().await;
    house.many_orders(20).await;
    let relay =
        Scripted::start("", |step, _| if step == Step::Mail { Behaviour::Never } else { Behaviour::Accept });
    // One refusal of us opens the breaker, and costs nobody a try.
    let report = send(&house.sending_to(relay.port, at(NOW), |_, _| ())).await;
    assert!(report.shops[0].delivery.outage.is_some());
    assert_eq!(relay.n_connections(), 1);
    let later =
        house.sending_to(relay.port, at(NOW) + TimeDelta::minutes(2), |mail, _| mail.max_connections = 4);
    let (one, two, three) = tokio::join!(
        deliver(&later, None, false),
        deliver(&later, None, false),
        deliver(&later, None, false)
    );
    assert!([one, two, three].iter().all(|delivery| delivery.outage.is_some()));
    assert_eq!(relay.n_connections(), 2, "three ask, one probes");
    assert!(house.states().await.values().all(|row| *row == (InvitationState::Queued, 0)));
}

#[tokio::test]
async fn a_connection_that_was_closed_while_it_was_idle_is_replaced() {
    for behaviour in [Behaviour::Close, Behaviour::Reset, Behaviour::Say("421 4.4.2 idle for too long\r\n")] {
        let house = House::new().await;
        house.many_orders(20).await;
        let mut used = BTreeSet::new();
        let relay = Scripted::start("", move |step, seen| {
            if step == Step::Mail && !used.insert(seen.connection) { behaviour } else { Behaviour::Accept }
        });
        let delivery = send(&house.sending_to(relay.port, at(NOW), |_, _| ())).await.shops.remove(0).delivery;
        assert_eq!((delivery.n_sent, delivery.relay_fault), (20, None), "{behaviour:?}");
        assert!(house.states().await.values().all(|row| *row == (InvitationState::Sent, 1)));
        let faults: i64 =
            sqlx::query_scalar("select count(*) from relay").fetch_one(house.pool()).await.unwrap();
        assert_eq!(faults, 0, "nobody is to blame");
    }
}

#[tokio::test]
async fn a_run_sends_no_more_than_it_may() {
    let house = House::new().await;
    house.many_orders(7).await;
    let relay = Scripted::start("", |_, _| Behaviour::Accept);
    let context = house.sending_to(relay.port, at(NOW), |mail, _| mail.max_connections = 4);
    // Decides; and is outside of any window, so that nothing leaves.
    let stop = CancellationToken::new();
    stop.cancel();
    let survey = context.config.survey("satisfaction").unwrap();
    let report = invitations::send(&context, survey, Manner::default(), &stop).await.unwrap();
    assert_eq!((report.shops[0].delivery.n_sent, report.shops[0].delivery.stopped), (0, true));

    let capped = deliver(&context, Some(3), false).await;
    assert_eq!((capped.n_sent, capped.n_waiting, capped.cap_reached), (3, 4, true));
    let none = deliver(&context, Some(0), false).await;
    assert_eq!((none.n_sent, none.n_waiting, none.cap_reached), (0, 4, true));
    let rest = deliver(&context, Some(4), false).await;
    assert_eq!((rest.n_sent, rest.n_waiting, rest.cap_reached), (4, 0, false), "nothing is held back");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_halves_the_rate_and_it_grows_back() {
    let house = House::new().await;
    house.many_orders(10).await;
    let mut n_refused = 0;
    let relay = Scripted::start("", move |step, _| {
        if step == Step::Rcpt && n_refused < 3 {
            n_refused += 1;
            return Behaviour::Say("452 4.5.3 too many mails from you\r\n");
        }
        Behaviour::Accept
    });
    let rate = |mail: &mut Mail| mail.rate_per_minute = std::num::NonZeroU32::new(1200);
    let context = house.sending_to(relay.port, at(NOW), |mail, _| rate(mail));
    let delivery = send(&context).await.shops.remove(0).delivery;
    assert_eq!((delivery.n_sent, delivery.n_deferred), (7, 3));
    assert_eq!((delivery.relay_fault, delivery.outage), (None, None), "it works, and takes less");
    let learnt = async || -> (Option<f64>, Option<f64>) {
        sqlx::query_as("select rate_per_minute, full_rate from relay").fetch_one(house.pool()).await.unwrap()
    };
    assert_eq!(learnt().await, (Some(600.0), Some(1200.0)), "said three times at once, heard once");

    let name = relay::name(&context.config.mail.transport);
    let minutes_pass = async |n: f64| {
        let sql = "update relay set rate_changed_at = rate_changed_at - $1 * interval '1 minute', tokens = 0,
                   refilled_at = clock_timestamp() - interval '1 minute'";
        sqlx::query(sql).bind(n).execute(house.pool()).await.unwrap();
    };
    // 600 a minute, and 120 more after one: a second's worth is 12.
    minutes_pass(1.0).await;
    let taken = relay::take(house.pool(), &name, Some(1200.0), 200).await.unwrap();
    assert_eq!((taken.n, taken.is_slowed), (12, true));
    // After five minutes it is what jobs.toml says, and nothing is learnt any more.
    minutes_pass(4.1).await;
    let taken = relay::take(house.pool(), &name, Some(1200.0), 200).await.unwrap();
    assert_eq!((taken.n, taken.is_slowed), (20, false));
    assert_eq!(learnt().await, (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_limit_the_rate_that_was_measured_is_halved() {
    // With one connection nothing is under way when "too many" is heard. With four the others go on until they hear of it.
    for (n_connections, under_way) in [(1, 0), (4, 20)] {
        let house = House::new().await;
        house.many_orders(120).await;
        let said = Arc::new(std::sync::OnceLock::new());
        let heard = Arc::clone(&said);
        let relay = Scripted::start("", move |step, seen| {
            if step == Step::Rcpt && seen.mail == 50 && heard.set(Instant::now()).is_ok() {
                return Behaviour::Say("451 4.7.28 unusual traffic\r\n");
            }
            Behaviour::Accept
        });
        let stop = CancellationToken::new();
        let context = house.sending_to(relay.port, at(NOW), |mail, _| mail.max_connections = n_connections);
        let survey = context.config.survey("satisfaction").unwrap();
        // It takes seconds for each mail now. When there was time for one, somebody asks to stop, and does not wait for the next one's turn.
        let ended = async {
            while said.get().is_none_or(|said| said.elapsed() < Duration::from_secs(4)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            stop.cancel();
            Instant::now()
        };
        let (report, asked) =
            tokio::join!(invitations::send(&context, survey, Manner::default(), &stop), ended);
        assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
        let delivery = report.unwrap().shops.remove(0).delivery;
        assert!(delivery.stopped && delivery.n_deferred == 1, "{delivery:?}");
        let (rate, full): (f64, f64) = sqlx::query_as("select rate_per_minute, full_rate from relay")
            .fetch_one(house.pool())
            .await
            .unwrap();
        assert!((rate - full / 2.0).abs() < 1e-9 && (40.0..=70.0).contains(&full), "{full} halved is {rate}");
        // It has grown a little since: by a tenth of what it was per minute.
        let minutes = said.get().unwrap().elapsed().as_secs_f64() / 60.0;
        let by_the_new_rate = (minutes * (rate + full * 0.1 * minutes)).floor();
        let (n_sent, most) = (delivery.n_sent as f64, 50.0 + f64::from(under_way) + by_the_new_rate);
        assert!((51.0..=most).contains(&n_sent), "{n_connections} connections, at most {most}: {delivery:?}");
        assert_eq!(delivery.n_waiting, 120 - delivery.n_sent, "what was called back waits");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_says_too_many_before_the_first_mail_is_not_asked_again_at_once() {
    let house = House::new().await;
    house.many_orders(50).await;
    let relay = Scripted::start("", |step, _| match step {
        Step::Greeting => Behaviour::Say("421 4.7.0 too many connections from you\r\n"),
        _ => Behaviour::Accept,
    });
    let context = house.sending_to(relay.port, at(NOW), |mail, _| mail.max_connections = 2);
    let (survey, stop) = (context.config.survey("satisfaction").unwrap(), CancellationToken::new());
    let ended = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        stop.cancel();
    };
    let (report, ()) = tokio::join!(invitations::send(&context, survey, Manner::default(), &stop), ended);
    let delivery = report.unwrap().shops.remove(0).delivery;
    assert_eq!((delivery.n_sent, delivery.n_waiting), (0, 50), "{delivery:?}");
    // Once by each sender, and once more with what the new rate gives in a moment.
    assert!((1..=6).contains(&relay.n_connections()), "{}", relay.n_connections());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_brake_calls_back_what_was_handed_out() {
    let house = House::new().await;
    house.many_orders(400).await;
    let relay =
        Scripted::start("", |step, _| if step == Step::Rcpt { Behaviour::Never } else { Behaviour::Accept });
    let context = house.sending_to(relay.port, at(NOW), |mail, _| mail.brakes.max_refusal_rate = 0.05);
    let delivery = send(&context).await.shops.remove(0).delivery;
    assert!(delivery.brake.is_some(), "{delivery:?}");
    // A batch is handed out when half of it is begun; then the brakes are looked at.
    assert!((20..150).contains(&delivery.n_failed), "{delivery:?}");
    assert_eq!(delivery.n_waiting, 400 - delivery.n_failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_do_not_pile_up_while_a_relay_stalls() {
    const STALL: Duration = Duration::from_secs(3);
    let house = House::new().await;
    house.many_orders(90).await;
    let begun = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen_by_relay = Arc::clone(&begun);
    let relay = Scripted::start("", move |step, seen| {
        if step == Step::Mail {
            if seen.mail == 10 {
                // Nobody else is answered either.
                std::thread::sleep(STALL);
            }
            seen_by_relay.lock().unwrap().push(Instant::now());
        }
        Behaviour::Accept
    });
    let context = house.sending_to(relay.port, at(NOW), |mail, smtp| {
        mail.max_connections = 2;
        mail.rate_per_minute = std::num::NonZeroU32::new(1200);
        smtp.limits = Limits::all(Duration::from_secs(60));
    });
    let delivery = send(&context).await.shops.remove(0).delivery;
    assert_eq!(delivery.n_sent, 90, "{delivery:?}");
    let begun = begun.lock().unwrap();
    let stall = begun.windows(2).position(|two| two[1] - two[0] >= STALL).unwrap();
    let after = &begun[stall + 1..];
    let n = after.iter().filter(|moment| **moment - after[0] < Duration::from_secs(1)).count();
    // A second's worth of turns, another that came meanwhile, and what was in hand; three more seconds' worth would be all there is.
    assert!(n <= 50, "{n} of {} left in the second after the stall", after.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_instances_share_one_rate() {
    let house = House::new().await;
    let n_taken = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let mut takers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (pool, n_taken) = (house.pool().clone(), Arc::clone(&n_taken));
        takers.spawn(async move {
            while begun.elapsed() < Duration::from_secs(2) {
                let taken = relay::take(&pool, "relay.example:25", Some(3_000.0), 7).await.unwrap();
                n_taken.fetch_add(usize::try_from(taken.n).unwrap(), Ordering::Relaxed);
                tokio::time::sleep(taken.wait).await;
            }
        });
    }
    takers.join_all().await;
    // Fifty a second, and one that was there at the beginning.
    let most = 1.0 + 50.0 * begun.elapsed().as_secs_f64();
    let n = n_taken.load(Ordering::Relaxed);
    assert!(n as f64 <= most, "{n} taken, {most:.1} allowed");
    assert!(n >= 50, "{n} taken in two seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn postfixs_sink_gets_every_mail_once() {
    let Some(sink) = Sink::start(&[]) else { return };
    let house = House::new().await;
    house.many_orders(400).await;
    let context = house.sending_to(sink.port, at(NOW), |mail, _| mail.max_connections = 8);
    let delivery = send(&context).await.shops.remove(0).delivery;
    assert_eq!((delivery.n_sent, delivery.relay_fault), (400, None));
    let mut accepted = sink.accepted();
    accepted.sort();
    let expected: Vec<String> =
        house.states().await.keys().map(|name| format!("{name}@customer.example")).collect();
    assert_eq!(accepted, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_postfixs_sink_refuses_and_cuts_off_is_judged_by_the_table() {
    use InvitationState::{Deferred, Failed, Queued, Unknown};
    // How the sink behaves, whether the relay's breaker opens, and what becomes of mails that were tried.
    for (options, opens, tried) in [
        (["-f", "CONNECT"], true, Queued),
        (["-f", "EHLO"], true, Queued),
        (["-f", "MAIL"], true, Queued),
        (["-f", "RCPT"], false, Failed),
        (["-f", "DATA"], false, Failed),
        (["-f", "."], false, Failed),
        (["-r", "EHLO"], true, Queued),
        (["-r", "MAIL"], true, Queued),
        (["-r", "RCPT"], false, Deferred),
        (["-r", "DATA"], false, Deferred),
        (["-r", "."], false, Deferred),
        (["-q", "EHLO"], true, Queued),
        (["-q", "MAIL"], true, Queued),
        (["-q", "RCPT"], true, Deferred),
        (["-q", "DATA"], true, Deferred),
        (["-q", "."], true, Unknown),
    ] {
        let Some(sink) = Sink::start(&options) else { return };
        let house = House::new().await;
        house.many_orders(30).await;
        let context = house.sending_to(sink.port, at(NOW), |mail, _| mail.max_connections = 4);
        let delivery = send(&context).await.shops.remove(0).delivery;
        assert_eq!(delivery.outage.is_some(), opens, "{options:?}: {delivery:?}");
        let states = house.states().await;
        let n_tried = states.values().filter(|(state, attempts)| (*state, *attempts) == (tried, 1)).count();
        let n_waiting = states.values().filter(|row| **row == (Queued, 0)).count();
        if tried == Queued {
            assert_eq!((n_tried, n_waiting), (0, 30), "{options:?}");
        } else if opens {
            // Five in a row, and what the other connections had in hand.
            assert!((5..=8).contains(&n_tried) && n_tried + n_waiting == 30, "{options:?}: {states:?}");
        } else {
            assert_eq!((n_tried, n_waiting), (30, 0), "{options:?}");
        }
        let n_suppressed: i64 =
            sqlx::query_scalar("select count(*) from suppression").fetch_one(house.pool()).await.unwrap();
        assert_eq!(n_suppressed, 0, "{options:?}");
    }
}
