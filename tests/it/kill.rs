//! `kill -9` in the middle of sending: nothing is lost, nothing is sent twice, and no row says `sent` that the relay did not accept.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{TimeDelta, Utc};

use crate::support::factories::{self, Order};
use crate::support::program::{Program, shipped_with};
use crate::support::smtp::Relay;

const N_MAILS: usize = 600;
const N_KILLS: usize = 25;
const N_CONNECTIONS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn whenever_it_is_killed_every_mail_has_a_state_and_none_leaves_twice() {
    // A relay that takes its time, so that there is a middle to be killed in.
    let relay = Relay::watched(|| std::thread::sleep(Duration::from_millis(15)));
    let config = shipped_with(relay.port)
        .replace("max_connections = 4 ", &format!("max_connections = {N_CONNECTIONS} "));
    let program = Program::new(&config).await;
    let pool = &program.db.pool;
    program.run(&["migrate"]).expect(0);
    let shop = factories::shop(pool, "maison").await;
    #[expect(
        clippy::disallowed_methods,
        reason = "the program runs on the system's clock, so the orders lie around it"
    )]
    let delivered = Utc::now() - TimeDelta::days(8);
    for n in 0..N_MAILS {
        let customer = factories::customer(pool, shop, &format!("c{n}@customer.example")).await;
        let order = Order::new(shop, customer, &n.to_string());
        Order { ordered_at: delivered - TimeDelta::days(2), fulfilled_at: Some(delivered), ..order }
            .insert(pool)
            .await;
    }

    let mut n_killed_sending = 0;
    for n in 0..N_KILLS {
        let before = relay.accepted().len();
        let mut child = program.spawn(&["run", "send-invitations"]);
        // Not before it has begun to send, then at a moment that differs from kill to kill.
        for _ in 0..500 {
            if relay.accepted().len() > before || child.try_wait().unwrap().is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis((n as u64 * 7) % 31)).await;
        n_killed_sending += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(
        n_killed_sending > N_KILLS / 2,
        "only {n_killed_sending} of {N_KILLS} kills found the program sending"
    );
    // The next run goes on at once: the dead are known to be dead.
    let last = program.run(&["run", "send-invitations", "--json"]);
    assert!([0, 3].contains(&last.code), "{last:?}");

    let mut accepted: BTreeMap<String, usize> = BTreeMap::new();
    for mail in relay.accepted() {
        *accepted.entry(mail.to).or_default() += 1;
    }
    let twice: Vec<_> = accepted.iter().filter(|(_, n)| **n > 1).collect();
    assert!(twice.is_empty(), "sent twice: {twice:?}");
    let rows: Vec<(String, String)> = sqlx::query_as(
        "select c.email, i.state::text from invitation i join customer c using (shop_id, customer_id)",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let of = |state: &str| {
        rows.iter().filter(|(_, other)| other == state).map(|(to, _)| to.clone()).collect::<BTreeSet<_>>()
    };
    let (sent, unknown) = (of("sent"), of("unknown"));
    assert_eq!(rows.len(), N_MAILS, "every order was decided about once");
    assert_eq!(sent.len() + unknown.len(), N_MAILS, "every mail is sent or unknown");
    assert!(
        sent.iter().all(|to| accepted.contains_key(to)),
        "a row says sent, and the relay does not have it"
    );
    assert!(
        unknown.len() <= n_killed_sending * N_CONNECTIONS,
        "{} unknown after {n_killed_sending} kills",
        unknown.len()
    );
    let n_listed = program.run(&["outbox", "--state", "unknown", "--json", "-n", "10000"]).expect(0).json();
    assert_eq!(n_listed.as_array().unwrap().len(), unknown.len(), "what is unknown is listed");
}
