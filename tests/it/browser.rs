//! The pages in a real browser: the real program serves, the links are those of mails that it sent, and whoever answers waits as people
//! do. Screenshots of everything lie in `target/screenshots` afterwards.

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::Child;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::support::browser::{Browser, DESK, NARROW, PHONE};
use crate::support::program::{Program, shipped_with};
use crate::support::smtp::Relay;

/// The key that moves the focus on, in the letters of `WebDriver`.
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";

/// Nobody reads and answers a page in less.
const READING: Duration = Duration::from_millis(4200);
/// Nobody changes their mind in less.
const THINKING: Duration = Duration::from_millis(10_500);

/// The program, serving, and mails of an hour ago about these orders.
struct Site {
    program: Program,
    relay: Relay,
    server: Child,
    base: String,
}

impl Site {
    /// With the shipped configuration, changed so, and these orders: number and language.
    async fn new(change: impl Fn(String) -> String, orders: &[(&str, &str)]) -> Self {
        let relay = Relay::start();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let shop = "address = \"12 rue de l’Exemple, 75002 Paris\"\n\
            privacy_url = \"https://maison.example/confidentialite\"\n\
            review_places = [{ name = \"Le guide des boutiques\", url = \"https://guide.example/maison\" }]\n\
            color = ";
        let config =
            shipped_with(relay.port).replace("127.0.0.1:8080", &address).replacen("color = ", shop, 1);
        let program = Program::new(&change(config)).await;
        for (name, text) in pseudo_arabic() {
            program.write(&format!("templates/{name}"), text);
        }
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

    /// The link of the mail about this order that has and ends with this.
    fn link(&self, order: &str, containing: &str, ending: &str) -> String {
        let mails = self.relay.accepted();
        let about =
            |text: &str| text.split(|c: char| !c.is_alphanumeric() && c != '-').any(|word| word == order);
        let text = mails.iter().map(|mail| mail.text()).find(|text| about(text)).unwrap();
        text.split_whitespace()
            .find(|word| word.contains(containing) && word.ends_with(ending))
            .unwrap_or_else(|| panic!("no {containing}…{ending} in:\n{text}"))
            .to_owned()
    }

    /// The survey's link without an answer.
    fn survey(&self, order: &str) -> String {
        self.link(order, "/s/", "").split('?').next().unwrap().to_owned()
    }

    /// What counts for an order, as `question=value`.
    async fn counted(&self, order: &str) -> Vec<String> {
        sqlx::query_scalar(
            r#"select question || '=' || coalesce(score::text, choice, body)
               from answer join response using (shop_id, response_id) join "order" using (shop_id, order_id)
               where counted and "order".external_id = $1 order by question"#,
        )
        .bind(order)
        .fetch_all(&self.program.db.pool)
        .await
        .unwrap()
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

/// A set of templates that is read from right to left: English, each Latin letter replaced by an Arabic one, so that what is not
/// translated, or stands on the wrong side, can be seen by whoever reads neither.
fn pseudo_arabic() -> Vec<(&'static str, String)> {
    let letter = |c: char| match c {
        'a'..='z' => char::from_u32(0x628 + (c as u32 - 'a' as u32) % 18).unwrap(),
        'A'..='Z' => char::from_u32(0x628 + (c as u32 - 'A' as u32) % 18).unwrap(),
        other => other,
    };
    let english = include_str!("../../templates/words.en.toml");
    let words = english.lines().map(|line| {
        let Some((key, value)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) else {
            return line.to_owned();
        };
        let mut depth = 0;
        let value = value.chars().map(|c| {
            depth += match c {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            if depth == 0 { letter(c) } else { c }
        });
        format!("{key} = {}", value.collect::<String>())
    });
    vec![
        ("words.ar.toml", words.collect::<Vec<_>>().join("\n")),
        (
            "email/survey_invitation/subject.ar.txt.hbs",
            include_str!("../../templates/email/survey_invitation/subject.en.txt.hbs").to_owned(),
        ),
        (
            "email/survey_invitation/body.ar.txt.hbs",
            include_str!("../../templates/email/survey_invitation/body.en.txt.hbs").to_owned(),
        ),
        (
            "email/survey_invitation/body.ar.html.hbs",
            include_str!("../../templates/email/survey_invitation/body.en.html.hbs").to_owned(),
        ),
        (
            "email/alert/subject.ar.txt.hbs",
            include_str!("../../templates/email/alert/subject.en.txt.hbs").to_owned(),
        ),
        (
            "email/alert/body.ar.txt.hbs",
            include_str!("../../templates/email/alert/body.en.txt.hbs").to_owned(),
        ),
        (
            "email/alert/body.ar.html.hbs",
            include_str!("../../templates/email/alert/body.en.html.hbs").to_owned(),
        ),
        (
            "email/rejected/subject.ar.txt.hbs",
            include_str!("../../templates/email/rejected/subject.en.txt.hbs").to_owned(),
        ),
        (
            "email/rejected/body.ar.txt.hbs",
            include_str!("../../templates/email/rejected/body.en.txt.hbs").to_owned(),
        ),
        (
            "email/rejected/body.ar.html.hbs",
            include_str!("../../templates/email/rejected/body.en.html.hbs").to_owned(),
        ),
        (
            "email/report/subject.ar.txt.hbs",
            include_str!("../../templates/email/report/subject.en.txt.hbs").to_owned(),
        ),
        (
            "email/report/body.ar.txt.hbs",
            include_str!("../../templates/email/report/body.en.txt.hbs").to_owned(),
        ),
        (
            "email/report/body.ar.html.hbs",
            include_str!("../../templates/email/report/body.en.html.hbs").to_owned(),
        ),
        (
            "email/digest/subject.ar.txt.hbs",
            include_str!("../../templates/email/digest/subject.en.txt.hbs").to_owned(),
        ),
        (
            "email/digest/body.ar.txt.hbs",
            include_str!("../../templates/email/digest/body.en.txt.hbs").to_owned(),
        ),
        (
            "email/digest/body.ar.html.hbs",
            include_str!("../../templates/email/digest/body.en.html.hbs").to_owned(),
        ),
    ]
}

/// What can be said of any page, in light and dark, on phone and desk and on the narrowest screen; and its pictures.
#[track_caller]
fn look(browser: &Browser, name: &str) {
    let mut found = Vec::new();
    for theme in ["light", "dark"] {
        browser.prefers(&[("prefers-color-scheme", theme), ("prefers-reduced-motion", "reduce")]);
        for screen in [PHONE, DESK] {
            browser.resize(screen);
            browser.picture(&format!("{}-{name}-{theme}", screen.name));
        }
        found.extend(browser.axe().into_iter().flatten());
    }
    browser.prefers(&[("prefers-reduced-motion", "reduce")]);
    for screen in [NARROW, DESK, PHONE] {
        browser.resize(screen);
        // (A phone's window grows with what does not fit, so it is compared with the screen.)
        let wide = browser.script("return document.documentElement.scrollWidth");
        assert!(
            wide.as_u64() <= Some(screen.width.into()),
            "{name} is {wide} pixels wide on the {} screen",
            screen.name
        );
    }
    assert!(found.is_empty(), "{name}:\n{}", found.join("\n"));
    // What is chosen or pressed is as large as a thumb; every link on its own line as large as WCAG 2.2 asks.
    let small = browser.script(
        "return [...document.querySelectorAll('.option input, button, .links a, .onward a, summary, .consent input, .foot a, .imprint a')]
            .map(e => [e, e.getBoundingClientRect()]).filter(([e, r]) => r.width > 0)
            .filter(([e, r]) => r.height < (e.matches('.option input, button, .links a, .onward a') ? 44 : 24) || r.width < 24)
            .map(([e, r]) => `${e.outerHTML} ${r.width}x${r.height}`)",
    );
    assert_eq!(small, json!([]), "{name}: too small to touch");
    let language = browser.script(
        "return [document.documentElement.lang, document.documentElement.dir, document.scripts.length]",
    );
    assert!(
        language[0].as_str().is_some_and(|lang| !lang.is_empty()) && language[2] == 0,
        "{name}: {language}"
    );
}

/// Nothing was asked of anybody else.
#[track_caller]
fn asked_nobody_else(browser: &Browser, site: &Site) {
    let requests = browser.requests();
    assert!(requests.len() > 3, "{requests:?}");
    for url in requests {
        assert!(url.starts_with(&site.base), "{url} was asked for");
    }
}

/// From the mail's link to the withdrawal, on a phone, with the keyboard where that matters.
#[tokio::test(flavor = "multi_thread")]
async fn a_customer_answers_corrects_changes_and_withdraws() {
    let Some(browser) = Browser::start(PHONE) else { return };
    let site = Site::new(|config| config, &[("F-1", "fr"), ("F-2", "fr")]).await;

    // The mail's answer is chosen, and what it leads to is there without a round trip.
    browser.open(&site.link("F-1", "/s/", "?recommend=no"));
    assert!(browser.is_checked("#q0-1") && !browser.is_checked("#q0-0"));
    assert!(browser.shows("#q2-0 + label"), "the follow-up of a no");
    browser.click("#q0-0");
    assert!(!browser.shows("#q2-0 + label"), "a yes has none");
    browser.click("#q0-1");
    assert!(browser.shows("#q2-0 + label"));
    // A browser that understands none of the styles shows everything.
    browser.script("for (const style of document.styleSheets) style.disabled = true");
    browser.script("document.querySelector('#q0-0').click()");
    assert!(browser.shows("#q2-0") && browser.shows("#q3") && browser.shows("button"));

    // All of it on one screen.
    browser.open(&site.link("F-2", "/s/", "?recommend=yes"));
    let bottom = browser.script("return document.querySelector('button').getBoundingClientRect().bottom");
    assert!(bottom.as_f64().unwrap() <= f64::from(PHONE.height), "the button ends at {bottom}");

    // A mistake: said in the title, listed and focused above the form, named beside the field; what was typed is kept.
    browser.open(&site.survey("F-1"));
    browser.write("#q3", "Très beau linge, « comme promis ».");
    browser.click("#q4");
    std::thread::sleep(READING);
    browser.follow("button");
    assert!(browser.title().starts_with("Erreur\u{a0}: Votre avis"), "{}", browser.title());
    assert_eq!(browser.focused(), "errors");
    assert!(browser.text_of("#q0-error").contains("Merci de répondre à cette question."));
    assert_eq!(browser.value("#q3"), "Très beau linge, « comme promis ».");
    assert!(browser.is_checked("#q4"));
    browser.press(&[TAB]);
    assert_eq!(browser.focused(), "#q0-0", "the first thing behind the list's head is its first link");
    browser.press(&[ENTER]);
    let target = browser.script("return [location.hash, document.activeElement.id]");
    assert_eq!(target, json!(["#q0-0", "q0-0"]), "the link leads to the field");
    browser.press(&[" ", TAB]);
    assert!(browser.is_checked("#q0-0"), "the space bar chooses");
    assert_eq!(browser.focused(), "q1-0", "the next question");
    browser.press(&[TAB, TAB, TAB, ENTER]);
    assert!(browser.shows("details[open] li"), "what is published is told behind the consent");

    // Thanks, and where the answer can be changed.
    browser.follow("button");
    assert!(browser.url().ends_with("/thanks"), "{}", browser.url());
    assert!(browser.text().contains("Votre réponse est enregistrée"));
    assert!(!browser.text().contains("désolés"));
    let places = browser
        .script("return [...document.links].map(a => a.href).filter(a => a.includes('guide.example'))");
    assert_eq!(site.counted("F-1").await, ["comment=Très beau linge, « comme promis ».", "recommend=yes"]);

    // A changed mind.
    std::thread::sleep(THINKING);
    browser.follow(&format!(".links a[href='{}']", site.survey("F-1").trim_start_matches(&site.base)));
    assert!(browser.is_checked("#q0-0") && browser.is_checked("#q4"));
    browser.click("#q0-1");
    browser.click("#q2-2");
    std::thread::sleep(READING);
    browser.follow("button");
    assert!(browser.text().contains("Nous sommes désolés") && browser.text().contains("Service client"));
    let told = browser
        .script("return [...document.links].map(a => a.href).filter(a => a.includes('guide.example'))");
    assert_eq!(told, places, "the same places for everybody");
    let changed = ["comment=Très beau linge, « comme promis ».", "recommend=no", "topic=delivery"];
    assert_eq!(site.counted("F-1").await, changed);

    // Published, and taken back.
    let export = ["export", "testimonials", "--shop", "maison", "--out", "out.csv", "--json"];
    let list = site.program.run(&["testimonials", "list", "--json"]).expect(0).json();
    let id = list[0]["id"].to_string();
    site.program.run(&["testimonials", "approve", &id]).expect(0);
    let report = site.program.run(&export).expect(0).json();
    assert_eq!((&report["n_rows"], &report["taken_back"]), (&1.into(), &json!([])), "{report}");
    browser.follow(".links a[href$='/withdraw']");
    assert!(browser.text().contains("Retirer votre avis"));
    browser.follow("button");
    assert_eq!(browser.focused(), "errors");
    browser.click("#sure");
    std::thread::sleep(READING);
    browser.follow("button");
    assert!(browser.text().contains("Votre avis est retiré"), "{}", browser.text());
    let report = site.program.run(&export).expect(0).json();
    assert_eq!(
        (&report["n_rows"], &report["taken_back"]),
        (&0.into(), &json!([id.parse::<i64>().unwrap()])),
        "{report}"
    );
    assert_eq!(site.program.run(&["testimonials", "approve", &id, "--json"]).code, 3);
    assert_eq!(site.counted("F-1").await, changed, "the answer stays");
    browser.follow(".links a");
    assert!(!browser.is_checked("#q4"), "what was taken back is not given again unasked");

    // The way out, straight from the survey: a program that follows all links does so, too, and only a person ticks the box.
    browser.open(&site.link("F-2", "/s/", ""));
    browser.open(&site.link("F-2", "/u/", ""));
    assert!(browser.text().contains("Ne plus recevoir nos enquêtes"));
    std::thread::sleep(READING);
    browser.follow("button");
    assert!(browser.text().contains("Encore une étape"), "{}", browser.text());
    browser.click("#person");
    std::thread::sleep(READING);
    browser.follow("button");
    assert!(browser.text().contains("C’est noté") && browser.text().contains("service@maison.example"));
    asked_nobody_else(&browser, &site);
}

/// Every page, in this language.
async fn every_page(locale: &str, change: impl Fn(String) -> String) {
    let Some(browser) = Browser::start(PHONE) else { return };
    let site = Site::new(change, &[("A-1", locale), ("A-2", locale), ("A-3", locale)]).await;
    let look = |page: &str| look(&browser, &format!("{locale}-{page}"));

    browser.open(&site.survey("A-1"));
    look("survey");
    browser.click("#q4");
    browser.click("details summary");
    browser.follow("button");
    assert!(browser.shows("#errors"));
    look("survey-wrong");
    browser.open(&site.link("A-1", "/s/", "?recommend=no"));
    browser.click("#q2-2");
    browser.click("#q1-1");
    browser.write("#q3", "Nothing arrived for ten days.\nThen two of them came.");
    look("survey-unhappy");
    browser.follow("button");
    look("thanks-unhappy");
    browser.open(&site.link("A-2", "/s/", "?recommend=yes"));
    browser.click("#q1-4");
    browser.write("#q3", "Quick and well packed.");
    browser.click("#q4");
    std::thread::sleep(READING);
    browser.follow("button");
    look("thanks-happy");
    browser.open(&site.survey("A-2"));
    look("survey-answered");
    browser.follow(".note a");
    look("withdraw");
    browser.follow("button");
    look("withdraw-wrong");
    browser.click("#sure");
    browser.follow("button");
    look("withdrawn");
    browser.open(&site.survey("A-2"));
    look("survey-withdrawn");
    browser.open(&format!("{}/withdraw", site.survey("A-1")));
    look("nothing-to-withdraw");
    browser.open(&site.link("A-3", "/u/", ""));
    look("unsubscribe");
    browser.follow("button");
    look("unsubscribed");
    sqlx::query("update response set answered_at = answered_at - interval '20 days'")
        .execute(&site.program.db.pool)
        .await
        .unwrap();
    sqlx::query("update testimonial set state = 'pending', reject_reason = null, decided_at = null")
        .execute(&site.program.db.pool)
        .await
        .unwrap();
    browser.open(&site.survey("A-2"));
    look("closed");
    browser.open(&format!("{}/s/nothing", site.base));
    look("gone");
    asked_nobody_else(&browser, &site);
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_can_use_every_page_in_french() {
    every_page("fr", |config| config).await;
}

/// In a shop whose colour cannot be read on white, and that lets its customers choose the name they are published under.
#[tokio::test(flavor = "multi_thread")]
async fn everybody_can_use_every_page_in_english() {
    every_page("en", |config| {
        config
            .replace("color = \"#1f5d4c\"", "color = \"#ffd400\"")
            .replace("\"first_name_initial\" ", "\"as_given\" ")
    })
    .await;
}

/// From right to left, with the eleven answers of the net promoter score, in a shop whose colour is a middling grey.
#[tokio::test(flavor = "multi_thread")]
async fn everybody_can_use_the_pages_from_right_to_left_and_a_long_scale() {
    let Some(browser) = Browser::start(PHONE) else { return };
    let change = |config: String| {
        config
            .replace("color = \"#1f5d4c\"", "color = \"#8a8a8a\"")
            .replace("# templates_dir", "templates_dir")
            .replace("type = \"recommend\" ", "type = \"nps\" ")
            .replace("question = \"recommend\", yes = [\"yes\"]", "question = \"recommend\", yes = \"9-10\"")
            .replace(
                "when = { recommend = [\"no\"] }",
                "when = { recommend = [\"0\", \"1\", \"2\", \"3\", \"4\", \"5\", \"6\"] }",
            )
    };
    let site = Site::new(change, &[("A-1", "ar")]).await;
    let look = |page: &str| look(&browser, &format!("ar-{page}"));
    browser.open(&site.survey("A-1"));
    look("survey");
    let places = browser
        .script("return ['#q0-0', '#q0-1'].map(q => document.querySelector(q).getBoundingClientRect().left)");
    assert!(places[0].as_f64() > places[1].as_f64(), "the scale begins on the right: {places}");
    browser.follow("button");
    look("survey-wrong");
    browser.open(&site.link("A-1", "/s/", "=3"));
    assert!(browser.is_checked("#q0-3") && browser.shows("#q2-0 + label"));
    look("survey-three");
    browser.follow("button");
    look("thanks-unhappy");
    asked_nobody_else(&browser, &site);
}

/// Whoever may run jobs sees how they stand, and begins one with a button, without a script.
#[tokio::test(flavor = "multi_thread")]
async fn operations_see_the_jobs_and_run_one() {
    let Some(browser) = Browser::start(PHONE) else { return };
    let house =
        crate::private::House::with(&format!("{}{}", crate::private::CONFIG, crate::private_jobs::JOBS))
            .await;
    house.program.run(&["jobs", "pause", "maison", "--reason", "the books are closed"]).expect(0);
    let page = |locale: &str| {
        format!("http://team:{}@{}/jobs?locale={locale}", crate::private::token("team"), house.private)
    };
    browser.open(&page("fr"));
    assert!(
        browser.title().starts_with("Tâches") && browser.text().contains("en pause: the books are closed")
    );
    look(&browser, "fr-jobs");
    browser.open(&page("en"));
    assert_eq!(browser.script("return document.querySelectorAll('button').length"), 2, "not the paused one");
    browser.follow("form[action='jobs/metrics/run'] button");
    assert!(browser.url().ends_with("/jobs"), "{}", browser.url());
    let until = Instant::now() + Duration::from_secs(20);
    while !browser.text().contains("counted in 2 shops") {
        assert!(Instant::now() < until, "{}", browser.text());
        browser.open(&page("en"));
    }
    look(&browser, "en-jobs");
    let by: Option<String> =
        sqlx::query_scalar("select asked_by from job_run").fetch_one(house.pool()).await.unwrap();
    assert_eq!(by.as_deref(), Some("team"));
}

/// Whoever has a token picks, looks and downloads, with the keyboard and without a script.
#[tokio::test(flavor = "multi_thread")]
async fn marketing_picks_looks_and_downloads() {
    let Some(browser) = Browser::start(PHONE) else { return };
    let private = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let token = "k".repeat(32);
    let access = format!(
        "\n[[access]]\nname = \"marketing\"\ntoken = \"{token}\"\nallow = [\"report\", \"export\"]\n"
    );
    let change = |config: String| {
        config.replace("# private_listen = \"127.0.0.1:8081\"", &format!("private_listen = \"{private}\""))
            + &access
    };
    let site = Site::new(change, &[("X-1", "fr")]).await;
    let (pool, folder) = (&site.program.db.pool, site.program.path("downloads"));
    crate::private::approved(pool, "maison", 12, 150).await;
    std::fs::create_dir(&folder).unwrap();
    browser.downloads_to(&folder);
    let until = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(&private).is_err() {
        assert!(Instant::now() < until, "the private pages are not there");
        std::thread::sleep(Duration::from_millis(50));
    }
    let page = |query: &str| format!("http://marketing:{token}@{private}/exports?{query}");
    let rows = "return document.querySelectorAll('tbody tr').length";

    browser.open(&page("locale=fr"));
    assert!(browser.title().starts_with("Témoignages à publier"), "{}", browser.title());
    assert!(browser.text().contains("Témoignages dans ce fichier : 14"), "{}", browser.text());
    assert_eq!(browser.script(rows), 8);
    look(&browser, "fr-exports");

    // By the keyboard alone, from the top: each field once, then the buttons, then the rows, which can be scrolled.
    browser.resize(DESK);
    browser.script("document.activeElement.blur()");
    let mut order = Vec::new();
    for _ in 0..6 {
        browser.press(&[TAB]);
        // (A field for a day has a part for the day, the month and the year.)
        while browser.focused() == "since" && order.last().is_some_and(|last| last == "since") {
            browser.press(&[TAB]);
        }
        order.push(browser.focused());
    }
    assert_eq!(order[..3], ["shop", "format", "since"]);
    assert!(order[3..].iter().all(|focused| focused != "since"), "{order:?}");
    assert_eq!(order[5], "DIV", "{order:?}");
    assert_eq!(
        browser.script("return [...document.querySelectorAll('select, input:not([type=hidden])')].map(e => e.labels.length)"),
        json!([1, 1, 1])
    );

    // From a day on: what has never left is always among it.
    browser.script("document.querySelector('#since').value = '2026-03-13'");
    browser.follow("button:not(.first)");
    assert!(
        browser.url().contains("since=2026-03-13") && browser.url().contains("locale=fr"),
        "{}",
        browser.url()
    );
    assert_eq!(browser.value("#since"), "2026-03-13");
    assert!(browser.text().contains("Témoignages dans ce fichier : 14"), "{}", browser.text());

    // What cannot be read is named beside its field, which has the focus.
    browser.open(&page("locale=en&since=yesterday"));
    assert!(browser.title().starts_with("Error: Testimonials to publish"), "{}", browser.title());
    assert_eq!(browser.focused(), "since");
    assert!(browser.text_of("#since-wrong").contains("such as 2026-03-29"));
    look(&browser, "en-exports-wrong");
    // What cannot be written is told beside the field that says what.
    browser.open(&page("locale=fr&format=google-product"));
    assert_eq!(browser.focused(), "format");
    assert!(browser.text_of("#format-wrong").contains("google-product ne peut pas être écrit"));
    look(&browser, "fr-exports-wrong-format");
    browser.open(&page("locale=en&shop=maison"));
    browser.click("summary");
    assert!(browser.text_of("code").ends_with("/exports/testimonials.csv?shop=maison&format=generic"));
    look(&browser, "en-exports");

    // Nothing has left until the file has.
    let left = "select (select count(*) from export_run), count(published_at) from testimonial";
    let left = async || sqlx::query_as::<_, (i64, i64)>(left).fetch_one(pool).await.unwrap();
    assert_eq!(left().await, (0, 0));
    browser.click("button.first");
    let until = Instant::now() + Duration::from_secs(20);
    let file = loop {
        let mut names = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        match names.find(|path| path.extension().is_some_and(|ending| ending == "csv")) {
            Some(path) => break path,
            None => assert!(Instant::now() < until, "nothing was downloaded"),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let mut reader = csv::Reader::from_path(&file).unwrap();
    assert_eq!(reader.records().map(Result::unwrap).count(), 14);
    assert!(file.file_name().unwrap().to_str().unwrap().starts_with("testimonials-maison-20"), "{file:?}");
    assert_eq!(left().await, (1, 14));
    browser.open(&page("locale=fr&since=2999-01-01"));
    assert!(browser.text().contains("il n’y a rien à publier"), "{}", browser.text());
    look(&browser, "fr-exports-nothing");
    for url in browser.requests() {
        assert!(
            // (The browser's own picture of a calendar comes from nowhere.)
            url.starts_with(&format!("http://{private}/"))
                || url.contains(&format!("@{private}/"))
                || url.starts_with("data:image/svg+xml;"),
            "{url}"
        );
    }
}

/// Whoever has set the system's own colours, wants more contrast, or enlarges everything, still sees what is chosen.
#[tokio::test(flavor = "multi_thread")]
async fn readers_settings_are_respected() {
    let Some(browser) = Browser::start(DESK) else { return };
    let site = Site::new(|config| config, &[("E-1", "en")]).await;
    browser.open(&site.link("E-1", "/s/", "?recommend=yes"));
    let colors = |css: &str| {
        let style = "const s = getComputedStyle(document.querySelector(arguments[0])); return [s.backgroundColor, s.animationName]";
        browser.script_with(style, json!([css]))
    };
    browser.prefers(&[("forced-colors", "active")]);
    browser.picture("desk-en-survey-forced-colors");
    assert_ne!(colors("#q0-0 + label")[0], colors("#q0-1 + label")[0], "what is chosen can be told");
    browser.prefers(&[("prefers-reduced-motion", "no-preference")]);
    assert_eq!(colors(".after")[1], "appear");
    browser.prefers(&[("prefers-reduced-motion", "reduce")]);
    assert_eq!(colors(".after")[1], "none");
    browser.prefers(&[("prefers-contrast", "more")]);
    browser.picture("desk-en-survey-more-contrast");
    // Text twice as large, on a phone: nothing is cut off, and nothing lies beside the screen.
    browser.prefers(&[]);
    browser.resize(PHONE);
    browser.script("document.documentElement.style.fontSize = '200%'");
    browser.picture("phone-en-survey-200-percent");
    let cut = browser.script(
        "return [document.documentElement.scrollWidth].concat(
            [...document.querySelectorAll('label, legend, button, p')]
                .filter(e => e.checkVisibility() && !e.closest('.trap') && e.scrollWidth > e.clientWidth + 1).map(e => e.outerHTML))",
    );
    assert_eq!(cut, json!([PHONE.width]), "at 200 %");
}
