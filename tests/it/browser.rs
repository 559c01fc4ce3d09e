//! The pages in a real browser: the real program serves, the links are those of mails that it sent, and whoever answers waits as people
//! do. Screenshots of everything lie in `target/screenshots` afterwards.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::Child;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::browser::{Browser, DESK, PHONE};
use crate::support::program::{Program, shipped_with};
use crate::support::smtp::Relay;

/// The program, serving, and mails of an hour ago: an order for each name.
struct Site {
    program: Program,
    relay: Relay,
    server: Child,
    base: String,
}

impl Site {
    /// With the shipped configuration, changed so, and these orders: number and language.
    async fn new(change: impl Fn(&str) -> String, orders: &[(&str, &str)]) -> Self {
        let relay = Relay::start();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let config = change(&shipped_with(relay.port).replace("127.0.0.1:8080", &address));
        let program = Program::new(&config).await;
        let now = now();
        let day = |days: i64| (now - TimeDelta::days(days)).to_rfc3339();
        let mut file =
            "order_id,email,ordered_at,fulfilled_at,status,first_name,last_name,locale,country\n".to_owned();
        for (n, (order, locale)) in orders.iter().enumerate() {
            file.push_str(&format!(
                "{order},customer{n}@customer.example,{},{},fulfilled,Claire,Dubreuil,{locale},FR\n",
                day(12),
                day(9)
            ));
        }
        program.write("orders.csv", file);
        program.run(&["import", "orders", "orders.csv", "--shop", "maison"]).expect(0);
        let an_hour_ago = (now - TimeDelta::hours(1)).to_rfc3339();
        program.run(&["--as-of", &an_hour_ago, "run", "send-invitations"]).expect(0);
        assert_eq!(relay.accepted().len(), orders.len());
        let server = serve(&program);
        Self { program, relay, server, base: format!("http://{address}") }
    }

    /// The link of the mail about this order that begins and ends so.
    fn link(&self, order: &str, containing: &str, ending: &str) -> String {
        let mails = self.relay.accepted();
        let about =
            |text: &str| text.split(|c: char| !c.is_alphanumeric() && c != '-').any(|word| word == order);
        let text = mails.iter().map(|mail| mail.text()).find(|text| about(text)).unwrap();
        let mut words = text.split_whitespace();
        words
            .find(|word| word.contains(containing) && word.ends_with(ending))
            .unwrap_or_else(|| panic!("no {containing}…{ending} in:\n{text}"))
            .to_owned()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.server.id().try_into().unwrap()), Signal::SIGTERM);
        let _ = self.server.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "the program serves on the system's clock")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

fn serve(program: &Program) -> Child {
    let mut child = program.spawn(&["serve"]);
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let (ready, is_ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            if line.contains("ready") {
                let _ = ready.send(());
            }
        }
    });
    is_ready.recv_timeout(Duration::from_secs(30)).expect("serve did not get ready");
    child
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures() {
    let Some(browser) = Browser::start(PHONE) else { return };
    let site = Site::new(str::to_owned, &[("F-1", "fr"), ("E-1", "en")]).await;
    for (order, locale) in [("F-1", "fr"), ("E-1", "en")] {
        for screen in [PHONE, DESK] {
            browser.resize(screen);
            browser.open(&site.link(order, "/s/", "?recommend=yes"));
            browser.picture(&format!("{}-{locale}-survey", screen.name));
        }
    }
    for line in browser.axe().unwrap() {
        println!("{line}");
    }
    println!("{:?}", browser.requests());
}
