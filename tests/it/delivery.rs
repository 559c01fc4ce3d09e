//! [2] Delivery: what becomes of a mail, whatever the relay does, step by step of the conversation; and what becomes of the relay.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use afterword::config::{Config, Credentials, Mail, Smtp, Tls, Transport};
use afterword::context::Context;
use afterword::invitations::sender::{self, Delivery};
use afterword::invitations::{self, InvitationState, SendReport};
use afterword::mail::transport::Limits;
use afterword::types::Clock;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::support::factories::{self, Order, at};
use crate::support::program::{Program, shipped};
use crate::support::on_own_runtime;
use crate::support::scripted::{Behaviour, Scripted, Step};

/// Orders are delivered on 3 March; with a delay of seven days they are due on the 10th.
const NOW: &str = "2026-03-12T10:00:00Z";
/// How long the relay may take in these tests.
const LIMIT: Duration = Duration::from_secs(1);

/// A program and a context that sends to a relay as a test wants it.
struct House {
    program: Program,
    context: Context,
}

impl House {
    async fn new() -> Self {
        let config =
            shipped().replacen("max_connections = 16", "max_connections = 4", 1);
        let program = Program::new(&config).await;
        let context = program.context(at(NOW)).await;
        Self { program, context }
    }

    fn pool(&self) -> &PgPool {
        &self.program.db.pool
    }

    /// The context at a moment, with a relay at this port and what the test changes about it.
    fn sending_to(&self, port: u16, now: DateTime<Utc>, change: impl FnOnce(&mut Mail, &mut Smtp)) -> Context {
        let mut mail = self.context.config.mail.clone();
        mail.max_connections = 1;
        let mut smtp = Smtp {
            host: "127.0.0.1".to_owned(),
            port,
            tls: Tls::None,
            credentials: None,
            limits: Limits::all(LIMIT),
        };
        change(&mut mail, &mut smtp);
        mail.transport = Transport::Smtp(smtp);
        let config = Config { mail, ..(*self.context.config).clone() };
        Context { config: Arc::new(config), clock: Clock::Fixed(now), ..self.context.clone() }
    }

    /// Orders of the shop `maison`, called by their addresses.
    async fn orders(&self, names: impl IntoIterator<Item = String>) {
        let shop = factories::shop(self.pool(), "maison").await;
        for name in names {
            let customer =
                factories::customer(self.pool(), shop, &format!("{name}@customer.example")).await;
            Order::new(shop, customer, &name).insert(self.pool()).await;
        }
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
        sqlx::raw_sql(r#"truncate "order", customer, invitation, attempt, decided_until, suppression, relay cascade"#)
            .execute(self.pool())
            .await
            .unwrap();
    }
}

async fn send(context: &Context) -> SendReport {
    let survey = context.config.survey("satisfaction").unwrap();
    invitations::send(context, survey, false, &CancellationToken::new()).await.unwrap()
}

/// As a run does, after the decision, with a cap and a probe by hand.
async fn deliver(context: &Context, at_most: Option<u64>, probe_now: bool) -> Delivery {
    let survey = context.config.survey("satisfaction").unwrap();
    let (shop_id, shop) = context.shops.by_key("maison").unwrap();
    let stop = CancellationToken::new();
    sender::deliver(context, shop_id, shop, survey, at_most, probe_now, &stop).await.unwrap()
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
    let mut case = |step, behaviour, expected, opens| cases.push(Case { step, behaviour, expected, opens });
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
    case(Step::Ehlo, Twice, WAITS, false);
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
    cases
}

/// A relay that does it once, and from then on is as it should be.
fn once(case: Case) -> Scripted {
    let offers = match case.step {
        Step::Auth => "AUTH PLAIN",
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
        let good = Case { step, behaviour, expected: &[(InvitationState::Sent, 1)], opens };
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
    assert!(n_checked > 120, "only {n_checked} cases");
}
