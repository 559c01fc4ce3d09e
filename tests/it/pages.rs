//! The pages over real HTTP on a real database.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use afterword::config::Config;
use afterword::context::{Context, Shops};
use afterword::db::Beside;
use afterword::invitations::compose;
use afterword::mail::templates::Templates;
use afterword::testimonials::export::{self, Destination, Export};
use afterword::testimonials::{RejectReason, moderation};
use afterword::token::{Form, Occasion, Proof, Purpose, Tokens};
use afterword::types::{Clock, InvitationId, OrderId, ResponseId, ShopId};
use afterword::web;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::TestDb;
use crate::support::factories::{self, Order, Response, at};

pub const CONFIG: &str = r##"
[app]
base_url = "https://avis.shop.example"

[mail]
transport = "file"

[[shop]]
key = "maison"
name = "Maison <Exemple>"
locale = "fr"
timezone = "Europe/Paris"
from = "Maison Exemple <avis@shop.example>"
reply_to = "service@shop.example"
url = "https://shop.example"
color = "#0b6b5c"
review_places = [
    { name = "Le guide des boutiques", url = "https://guide.example/maison" },
    { name = "Dites-le ici", url = "https://ici.example/?a=1&b=2" },
]

[testimonials]
display_name = "as_given"

[survey.recommend]
answer_within = "60d"
edit_within = "14d"
delay = "7d"
recommendation = { question = "recommend", yes = ["yes"] }

[[survey.recommend.question]]
key = "recommend"
type = "recommend"
required = true
in_mail = true
text = { fr = "Recommander ?", en = "Recommend?" }
"##;

/// Nine days after the mail.
const NOW: &str = "2026-03-19T10:00:00Z";

/// The pages, listening, and one order whose customer was mailed on 10 March.
pub struct Site {
    pub database: TestDb,
    pub context: Context,
    pub address: SocketAddr,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<anyhow::Result<()>>,
    pub shop: ShopId,
    order: OrderId,
    pub invitation: InvitationId,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Site {
    pub async fn new() -> Self {
        let database = TestDb::new().await;
        let config = Config::parse(Path::new("jobs.toml"), CONFIG).unwrap();
        let shops = Shops::store(&database.pool, &config).await.unwrap();
        let shop = shops.iter().next().unwrap().0;
        let customer = factories::customer(&database.pool, shop, "Claire.Canary@customer.example").await;
        let order = Order::new(shop, customer, "A-1001").insert(&database.pool).await;
        let invitation =
            factories::sent_invitation(&database.pool, shop, order, at("2026-03-10T09:00:00Z")).await;
        let context = Context {
            config: Arc::new(config),
            pool: database.pool.clone(),
            beside: Beside::of(&database.pool),
            shops: Arc::new(shops),
            templates: Arc::new(Templates::load(None).unwrap()),
            tokens: Tokens::new(b"secret"),
            clock: Clock::Fixed(at(NOW)),
            vitals: Arc::default(),
        };
        let (address, stop, served) = listen(&context).await;
        Self { database, context, address, stop, served, shop, order, invitation }
    }

    /// The same site at another moment, after everything that was begun has ended.
    async fn moved_to(&mut self, moment: DateTime<Utc>) {
        self.stop.cancel();
        (&mut self.served).await.unwrap().unwrap();
        self.context.clock = Clock::Fixed(moment);
        (self.address, self.stop, self.served) = listen(&self.context).await;
    }

    /// The same site a minute later: nobody answers twice in a moment.
    pub async fn wait(&mut self) {
        self.moved_to(self.context.clock.now() + TimeDelta::minutes(1)).await;
    }

    pub fn survey(&self) -> String {
        format!("/s/{}", self.token(Purpose::Survey))
    }

    fn unsubscribe(&self) -> String {
        format!("/u/{}", self.token(Purpose::Unsubscribe))
    }

    fn token(&self, purpose: Purpose) -> String {
        self.context.tokens.issue(purpose, self.shop, self.invitation)
    }

    /// A proof of a form that was made a minute ago.
    fn proof(&self) -> String {
        let made = self.context.clock.now() - TimeDelta::minutes(1);
        fetched(&self.context.tokens, self.shop, self.invitation, made)
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.request("GET", path, None, &[]).await
    }

    /// Sends the form as a person: with its proof.
    pub async fn send(&self, fields: &[(&str, &str)]) -> Reply {
        let proof = self.proof();
        self.post(&self.survey(), &[&[("form.proof", proof.as_str())], fields].concat()).await
    }

    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let body = fields.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
        let body = body.collect::<Vec<_>>().join("&");
        self.request("POST", path, Some(body), &[("content-type", "application/x-www-form-urlencoded")]).await
    }

    async fn request(
        &self,
        method: &'static str,
        path: &str,
        body: Option<String>,
        headers: &[(&'static str, &'static str)],
    ) -> Reply {
        request(self.address, method, path, body, headers).await
    }

    /// The stored revisions, oldest first: revision, counted, verdict, and the answers as `question=value`.
    async fn stored(&self) -> Vec<(i32, bool, String, Vec<String>)> {
        sqlx::query_as(
            "select revision, counted, verdict::text, array(
               select question || '=' || coalesce(score::text, choice, body) from answer a
               where a.shop_id = r.shop_id and a.response_id = r.response_id order by question)
             from response r order by revision",
        )
        .fetch_all(&self.database.pool)
        .await
        .unwrap()
    }

    pub async fn count(&self, table: &'static str) -> i64 {
        let sql = format!("select count(*) from {table}");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&self.database.pool).await.unwrap()
    }

    /// Every row of every table as text, but for the notes about visits.
    async fn everything(&self) -> Vec<String> {
        let tables: Vec<String> = sqlx::query_scalar(
            "select table_name::text from information_schema.tables
             where table_schema = 'public' and table_name not in ('hit', 'hit_dropped') order by 1",
        )
        .fetch_all(&self.database.pool)
        .await
        .unwrap();
        let mut rows = Vec::new();
        for table in tables {
            let sql = format!(r#"select '{table} ' || row_to_json(t)::text from "{table}" t order by 1"#);
            let of_table: Vec<String> =
                sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&self.database.pool).await.unwrap();
            rows.extend(of_table);
        }
        rows
    }
}

/// The proof in a page's form.
fn hidden_proof(page: &str) -> String {
    page.split("name=\"form.proof\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

/// What the survey's form carries that somebody fetched at this moment.
pub fn fetched(tokens: &Tokens, shop: ShopId, invitation: InvitationId, made_at: DateTime<Utc>) -> String {
    tokens.issue_form(Form::Survey, shop, invitation, &Proof::new(Occasion::Visit, made_at))
}

pub struct Reply {
    pub status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

async fn request(
    address: SocketAddr,
    method: &'static str,
    path: &str,
    body: Option<String>,
    headers: &[(&'static str, &'static str)],
) -> Reply {
    let url = format!("http://{}{path}", address);
    let headers = headers.to_vec();
    let sent = tokio::task::spawn_blocking(move || {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build().into();
        let mut request = ureq::http::Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut response = match body {
            Some(body) => agent.run(request.body(body).unwrap()),
            None => agent.run(request.body(()).unwrap()),
        }
        .unwrap();
        let headers = response.headers().iter();
        let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        Reply {
            status: response.status().as_u16(),
            headers: headers.collect(),
            body: response.body_mut().read_to_string().unwrap(),
        }
    });
    sent.await.unwrap()
}

pub async fn listen(
    context: &Context,
) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<anyhow::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let served = tokio::spawn(web::serve(listener, context.clone(), stop.clone()));
    (address, stop, served)
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b == b'-' {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

fn answers(answers: &[&str]) -> Vec<String> {
    answers.iter().map(|answer| (*answer).to_owned()).collect()
}

#[tokio::test]
async fn only_a_post_changes_anything() {
    let site = Site::new().await;
    let before = site.everything().await;
    let (survey, unsubscribe) = (site.survey(), site.unsubscribe());
    let paths = [
        survey.clone(),
        format!("{survey}?recommend=yes"),
        format!("{survey}?recommend=no&comment=x"),
        format!("{survey}/thanks"),
        unsubscribe.clone(),
        format!("{unsubscribe}?List-Unsubscribe=One-Click"),
        "/livez".to_owned(),
        "/".to_owned(),
    ];
    for _ in 0..3 {
        for path in &paths {
            for method in ["GET", "HEAD", "OPTIONS"] {
                let reply = site.request(method, path, None, &[]).await;
                assert!(reply.status < 500, "{method} {path}: {}", reply.status);
            }
        }
    }
    // Nor does a POST that says nothing.
    site.post(&unsubscribe, &[]).await;
    site.post(&survey, &[]).await;
    assert_eq!(site.everything().await, before);
}

#[tokio::test]
async fn the_link_of_the_mail_chooses_an_answer() {
    let site = Site::new().await;
    let chosen = |reply: &Reply, value: &str| {
        let input =
            reply.body.split("<input").find(|tag| tag.contains(&format!("value=\"{value}\""))).unwrap();
        input.split('>').next().unwrap().contains(" checked")
    };
    let page = site.get(&format!("{}?recommend=no", site.survey())).await;
    assert_eq!(page.status, 200);
    assert!(chosen(&page, "no") && !chosen(&page, "yes"));
    assert!(page.body.contains(r#"<html lang="fr" dir="ltr">"#), "the order's language");
    assert!(
        page.body.contains("Recommanderiez-vous Maison &lt;Exemple&gt; ?"),
        "the question as it was asked"
    );
    let page = site.get(&format!("{}?recommend=maybe&unknown=1&comment=x", site.survey())).await;
    assert!(!chosen(&page, "no") && !chosen(&page, "yes"));
    assert!(!page.body.contains(">x<"), "a link fills in no text");
}

/// As when an import held its order while another instance took the next.
#[tokio::test]
async fn a_form_that_is_stored_late_does_not_replace_what_was_sent_after_it() {
    let mut site = Site::new().await;
    let sent_at = site.context.clock.now();
    site.wait().await;
    assert_eq!(site.send(&[("recommend", "yes")]).await.status, 303);
    for late in [sent_at, sent_at - TimeDelta::minutes(1)] {
        site.moved_to(late).await;
        assert_eq!(site.send(&[("recommend", "no")]).await.status, 200, "its author is asked once more");
        let counted: Vec<_> = site.stored().await.into_iter().filter(|row| row.1).collect();
        assert_eq!(counted, [(1, true, "human".to_owned(), answers(&["recommend=yes"]))]);
    }
}

#[tokio::test]
async fn an_answer_is_stored_before_the_thanks() {
    let site = Site::new().await;
    let reply = site
        .send(&[
            ("recommend", "yes"),
            ("rating", "5"),
            ("topic", "delivery"),
            ("comment", "  Très bien,\r\nmerci ! \u{1f600}"),
            ("consent", "yes"),
            ("consent.name", " Claire \t D. "),
        ])
        .await;
    assert_eq!(reply.status, 303);
    let expected = ["comment=  Très bien,\nmerci ! \u{1f600}", "rating=5", "recommend=yes"];
    assert_eq!(site.stored().await, [(1, true, "human".to_owned(), answers(&expected))]);
    let (consent, name, via, locale): (String, String, String, String) =
        sqlx::query_as("select consent_version, display_name, via::text, locale from response")
            .fetch_one(&site.database.pool)
            .await
            .unwrap();
    let stored = (consent.as_str(), name.as_str(), via.as_str(), locale.as_str());
    assert_eq!(stored, ("2026-01", "Claire D.", "page", "fr"));
    assert_eq!(site.count("testimonial where state = 'pending'").await, 1);

    let thanks = site.get(&reply.headers["location"]).await;
    assert_eq!(thanks.status, 200);
    assert!(thanks.body.contains("Votre réponse est enregistrée"), "{}", thanks.body);
    assert!(!thanks.body.contains("désolés"), "{}", thanks.body);
}

/// Unhappy customers are told more; where to say it aloud is told to everybody.
#[tokio::test]
async fn what_happens_next_is_told_to_the_unhappy_and_the_places_to_everybody() {
    let mut site = Site::new().await;
    let mut thanks = Vec::new();
    for recommend in ["yes", "no"] {
        let reply = site.send(&[("recommend", recommend), ("topic", "delivery")]).await;
        thanks.push(site.get(&reply.headers["location"]).await.body);
        site.wait().await;
    }
    let [happy, unhappy] = &thanks[..] else { panic!() };
    let lines = |page: &str| page.lines().map(ToOwned::to_owned).collect::<Vec<_>>();
    assert!(lines(happy).iter().all(|line| lines(unhappy).contains(line)), "{happy}");
    let links = |page: &str| {
        let links = page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
        links.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(links(happy), links(unhappy), "the same places for everybody");
    assert!(links(happy).contains("https://guide.example/maison"), "{happy}");
    assert!(links(happy).contains("https://ici.example/?a&#x3D;1&amp;b&#x3D;2"), "{happy}");
    for told in
        ["Nous sommes désolés", "Une personne de l’équipe de Maison &lt;Exemple&gt;", "Service client"]
    {
        assert!(unhappy.contains(told) && !happy.contains(told), "{told}: {unhappy}");
    }

    let own = "review_places = [";
    let config = CONFIG
        .replace(own, &format!("unhappy_next = {{ fr = \"{{{{shop.name}}}} vous rappelle.\" }}\n{own}"));
    site.context.config = Arc::new(Config::parse(Path::new("jobs.toml"), &config).unwrap());
    site.context.shops = Arc::new(Shops::store(&site.database.pool, &site.context.config).await.unwrap());
    site.wait().await;
    let page = site.get(&format!("{}/thanks", site.survey())).await.body;
    assert!(
        page.contains("Maison &lt;Exemple&gt; vous rappelle.") && !page.contains("Une personne de"),
        "{page}"
    );
}

/// Seven or eight of ten is no recommendation, and nothing to be consoled for.
#[tokio::test]
async fn on_a_scale_the_unhappy_are_those_below() {
    let mut site = Site::new().await;
    let config = CONFIG
        .replace("question = \"recommend\", yes = [\"yes\"]", "question = \"recommend\", yes = \"9-10\"");
    let config = config.replace("type = \"recommend\"", "type = \"nps\"");
    site.context.config = Arc::new(Config::parse(Path::new("jobs.toml"), &config).unwrap());
    sqlx::query(
        "update survey_version set questionnaire = jsonb_set(
           jsonb_set(questionnaire, '{questions,0,type}', '\"nps\"'), '{questions,2,when}', 'null')",
    )
    .execute(&site.database.pool)
    .await
    .unwrap();
    for (score, unhappy) in
        [("0", true), ("6", true), ("7", false), ("8", false), ("9", false), ("10", false)]
    {
        site.wait().await;
        let reply = site.send(&[("recommend", score)]).await;
        assert_eq!(reply.status, 303, "{score}: {}", reply.body);
        let thanks = site.get(&reply.headers["location"]).await.body;
        assert_eq!(thanks.contains("désolés"), unhappy, "{score}: {thanks}");
    }
    // The answer is a ten. Without a rule, the question itself says who is unhappy; a list of answers goes before both.
    let rule = "recommendation = { question = \"recommend\", yes = \"9-10\" }";
    for (instead, score, unhappy) in [
        ("", "6", true),
        ("", "7", false),
        ("unhappy = { recommend = [\"7\", \"8\"] }", "7", true),
        (&format!("{rule}\nunhappy = {{ recommend = [\"8\"] }}"), "6", false),
    ] {
        let config = Config::parse(Path::new("jobs.toml"), &config.replace(rule, instead)).unwrap();
        site.context.config = Arc::new(config);
        site.wait().await;
        let reply = site.send(&[("recommend", score)]).await;
        let thanks = site.get(&reply.headers["location"]).await.body;
        assert_eq!(thanks.contains("désolés"), unhappy, "{instead}: {score}");
    }
}

#[tokio::test]
async fn no_answer_means_no_thanks() {
    let site = Site::new().await;
    let reply = site.get(&format!("{}/thanks", site.survey())).await;
    assert_eq!((reply.status, reply.headers["location"].clone()), (303, site.survey()));
}

#[tokio::test]
async fn a_second_answer_is_a_new_revision_until_the_time_is_over() {
    let mut site = Site::new().await;
    site.send(&[("recommend", "yes"), ("comment", "first"), ("consent", "yes")]).await;
    let page = site.get(&site.survey()).await;
    assert!(page.body.contains("first</textarea>"), "what was written is there again");
    assert!(page.body.contains("2 avril 2026"), "until when it can be changed");

    site.moved_to(at("2026-04-02T09:00:00Z")).await;
    assert_eq!(site.send(&[("recommend", "no"), ("topic", "delivery")]).await.status, 303);
    let expected = [
        (1, false, "human".to_owned(), answers(&["comment=first", "recommend=yes"])),
        (2, true, "human".to_owned(), answers(&["recommend=no", "topic=delivery"])),
    ];
    assert_eq!(site.stored().await, expected);

    site.moved_to(at("2026-04-02T11:00:00Z")).await;
    let page = site.get(&site.survey()).await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("A-1001. Elle ne peut plus être modifiée"), "{}", page.body);
    assert_eq!(site.send(&[("recommend", "yes")]).await.status, 409);
    assert_eq!(site.stored().await, expected);
}

#[tokio::test]
async fn sent_twice_is_stored_once() {
    let site = Arc::new(Site::new().await);
    let mut posts = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let site = Arc::clone(&site);
        posts.spawn(async move { site.send(&[("recommend", "yes"), ("comment", "once")]).await.status });
    }
    assert!(posts.join_all().await.iter().all(|status| *status == 303));
    assert_eq!(site.stored().await.len(), 1);
}

/// Somebody who holds a link, and a program, cannot fill the disk; and whoever does it with scanner's answers shuts nobody out.
#[tokio::test]
async fn a_link_takes_no_answers_without_end() {
    let mut site = Site::new().await;
    for n in 0..105 {
        let fields = [("form.proof", "no proof"), ("recommend", "yes"), ("comment", &n.to_string())];
        assert_eq!(site.post(&site.survey(), &fields).await.status, 200);
    }
    assert_eq!((site.count("response").await, site.count("response where counted").await), (100, 0));
    site.wait().await;
    let send = async |site: &Site, words: &str| {
        site.send(&[("recommend", "no"), ("topic", "service"), ("comment", words)]).await.status
    };
    assert_eq!(send(&site, "1").await, 303);
    // As if the customer had changed their mind 98 times since.
    sqlx::query(
        "insert into response (shop_id, order_id, survey, survey_version_id, revision, counted, via, verdict, locale, answered_at,
           received_at)
         select shop_id, order_id, survey, survey_version_id, revision + n, false, via, verdict, locale, answered_at, received_at
         from response, generate_series(1, 98) n where counted",
    )
    .execute(&site.database.pool)
    .await
    .unwrap();
    for (words, status) in [("100", 303), ("101", 409)] {
        site.wait().await;
        assert_eq!(send(&site, words).await, status);
    }
    assert_eq!((site.count("response").await, site.count("response where counted").await), (200, 1));
}

#[tokio::test]
async fn of_many_different_answers_at_once_one_counts() {
    let site = Arc::new(Site::new().await);
    // A second mail about the same order, so that not all go through the same invitation.
    sqlx::query(
        "insert into invitation (shop_id, order_id, customer_id, survey, wave, survey_version_id, state, due_at, decided_at,
           next_attempt_at, sent_at)
         select shop_id, order_id, customer_id, survey, 1, survey_version_id, state, due_at, decided_at, next_attempt_at, sent_at
         from invitation",
    )
    .execute(&site.database.pool)
    .await
    .unwrap();
    let second: InvitationId = sqlx::query_scalar("select invitation_id from invitation where wave = 1")
        .fetch_one(&site.database.pool)
        .await
        .unwrap();
    let mut posts = tokio::task::JoinSet::new();
    for n in 0..20 {
        let site = Arc::clone(&site);
        posts.spawn(async move {
            let invitation = if n % 2 == 0 { site.invitation } else { second };
            let tokens = &site.context.tokens;
            let path = format!("/s/{}", tokens.issue(Purpose::Survey, site.shop, invitation));
            let made = site.context.clock.now() - TimeDelta::minutes(1);
            let proof = fetched(tokens, site.shop, invitation, made);
            let comment = n.to_string();
            let fields = [("form.proof", proof.as_str()), ("recommend", "yes"), ("comment", &comment)];
            site.post(&path, &fields).await.status
        });
    }
    let mut statuses = posts.join_all().await;
    statuses.sort_unstable();
    assert_eq!(
        statuses,
        [&[200; 19][..], &[303]].concat(),
        "whoever sends another one in a moment is asked again"
    );
    let stored = site.stored().await;
    assert_eq!(
        stored.iter().map(|(revision, ..)| *revision).collect::<Vec<_>>(),
        (1..=20).collect::<Vec<_>>()
    );
    assert_eq!(stored.iter().filter(|(_, counted, ..)| *counted).count(), 1);
    assert!(stored[0].1, "the first one counts");
    assert_eq!(site.count("response where suspicion = 'different_answers'").await, 19);
}

#[tokio::test]
async fn a_scanner_that_sends_the_form_changes_no_figure() {
    let mut site = Site::new().await;
    let scan = async |site: &Site, fields: &[(&str, &str)]| {
        let reply = site.post(&site.survey(), fields).await;
        assert_eq!(reply.status, 200);
        assert!(reply.body.contains("Encore une étape") && !reply.body.contains("faulty"), "{}", reply.body);
        assert_eq!(reply.body.matches("name=\"form.proof\"").count(), 1);
        let thanks = site.get(&format!("{}/thanks", site.survey())).await;
        assert_eq!(thanks.status, if site.count("response where counted").await > 0 { 200 } else { 303 });
    };
    // At once after fetching the page, with everything that is hidden in it.
    let page = site.get(&site.survey()).await.body;
    let proof = hidden_proof(&page);
    scan(&site, &[("form.proof", &proof), ("recommend", "no"), ("topic", "delivery")]).await;
    assert_eq!(site.count("response where counted").await, 0);

    site.wait().await;
    assert_eq!(site.send(&[("recommend", "yes"), ("comment", "a person")]).await.status, 303);
    let person = site.stored().await.pop().unwrap();
    assert!(person.1);
    // Without a proof, with another invitation's, and with the field nobody sees.
    let another = InvitationId(site.invitation.0 + 1);
    let foreign = fetched(&site.context.tokens, site.shop, another, at("2026-03-19T09:59:00Z"));
    let proof = site.proof();
    scan(&site, &[("recommend", "no"), ("topic", "product")]).await;
    scan(&site, &[("form.proof", &foreign), ("recommend", "no"), ("topic", "service")]).await;
    for _ in 0..2 {
        let fields =
            [("form.proof", &*proof), ("form.more", "x"), ("recommend", "no"), ("topic", "delivery")];
        scan(&site, &fields).await;
    }
    let stored = site.stored().await;
    assert_eq!(stored.len(), 5, "kept, and an identical one not again");
    assert_eq!(stored.iter().filter(|row| row.1).collect::<Vec<_>>(), [&person]);
    let reasons: Vec<String> = sqlx::query_scalar(
        "select suspicion::text from response where verdict = 'suspect' order by revision",
    )
    .fetch_all(&site.database.pool)
    .await
    .unwrap();
    assert_eq!(reasons, ["too_fast", "proof_missing", "proof_foreign", "trapped"]);
    assert_eq!(site.count("testimonial").await, 0);
}

/// Who is taken for a program though they are none loses a click: their answer comes back as they wrote it, and counts when it is sent
/// once more. A program that sends it once more at once is still one.
#[tokio::test]
async fn a_wrong_verdict_costs_a_click_and_no_answer() {
    let mut site = Site::new().await;
    let survey = site.survey();
    let hasty = hidden_proof(&site.get(&survey).await.body);
    let words = "Très bien, <b>vraiment</b>";
    let answer = |proof: &str| {
        [
            ("form.proof", proof),
            ("form.person", "yes"),
            ("recommend", "no"),
            ("topic", "delivery"),
            ("comment", words),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let post = async |site: &Site, proof: &str| {
        let fields = answer(proof);
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        site.post(&survey, &fields).await
    };
    let seconds =
        async |site: &mut Site, n| site.moved_to(site.context.clock.now() + TimeDelta::seconds(n)).await;
    let asked = post(&site, &hasty).await;
    assert_eq!(asked.status, 200);
    assert!(asked.body.contains("Très bien, &lt;b&gt;vraiment&lt;/b&gt;</textarea>"), "{}", asked.body);
    assert!(asked.body.contains("value=\"delivery\" checked"), "{}", asked.body);
    // A double click on what was judged is judged the same.
    let twice = post(&site, &hasty).await;
    assert_eq!(twice.status, 200);
    // Neither at once, nor after a robot's pause.
    let again = post(&site, &hidden_proof(&asked.body)).await;
    assert_eq!(again.status, 200);
    seconds(&mut site, 3).await;
    let again = post(&site, &hidden_proof(&again.body)).await;
    assert_eq!((again.status, site.count("response where counted").await), (200, 0));
    seconds(&mut site, 5).await;
    // Nor without the tick, which no form brings along.
    let kept = hidden_proof(&again.body);
    assert!(again.body.contains("name=\"form.person\" value=\"yes\" required>"), "{}", again.body);
    let unticked =
        [("form.proof", kept.as_str()), ("recommend", "no"), ("topic", "delivery"), ("comment", words)];
    let again = site.post(&survey, &unticked).await;
    assert_eq!((again.status, site.count("response where counted").await), (200, 0));
    seconds(&mut site, 5).await;
    let kept = hidden_proof(&again.body);
    let thanked = post(&site, &kept).await;
    assert_eq!((thanked.status, site.count("response where counted").await), (303, 1));
    // A double click there is the same answer.
    assert_eq!(post(&site, &kept).await.status, 303);
    assert_eq!(site.stored().await.iter().filter(|row| row.1).count(), 1);

    // Back in the browser, something else, sent with the form that was sent already: asked once more, and then it is a revision.
    site.wait().await;
    let fields = |proof: &str| {
        [("form.proof", proof), ("form.person", "yes"), ("recommend", "yes")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let back = |proof: &str| fields(proof);
    let send = async |site: &Site, proof: &str| {
        let fields = back(proof);
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        site.post(&survey, &fields).await
    };
    let asked = send(&site, &kept).await;
    assert_eq!(asked.status, 200);
    assert_eq!(site.count("response where suspicion = 'proof_reused'").await, 1);
    seconds(&mut site, 5).await;
    assert_eq!(send(&site, &hidden_proof(&asked.body)).await.status, 303);
    let counted = site.stored().await.into_iter().filter(|row| row.1).collect::<Vec<_>>();
    assert_eq!(counted.len(), 1);
    assert_eq!(counted[0].3, answers(&["recommend=yes"]));
}

/// After an answer counts, another answer of the mail changes it only when that is confirmed: scanners open them all.
#[tokio::test]
async fn another_link_of_the_mail_does_not_change_the_answer_by_itself() {
    let mut site = Site::new().await;
    site.send(&[("recommend", "yes"), ("comment", "mine")]).await;
    site.wait().await;
    let opened = site.get(&format!("{}?recommend=no", site.survey())).await.body;
    site.wait().await;
    let fields = |proof| {
        let answer = [("recommend", "no"), ("topic", "delivery"), ("comment", "mine")];
        [&[("form.proof", proof), ("form.person", "yes")], &answer[..]].concat()
    };
    let proof = hidden_proof(&opened);
    let asked = site.post(&site.survey(), &fields(&proof)).await;
    assert_eq!(asked.status, 200);
    assert_eq!(site.count("response where suspicion = 'other_answer'").await, 1);
    site.wait().await;
    let proof = hidden_proof(&asked.body);
    assert_eq!(site.post(&site.survey(), &fields(&proof)).await.status, 303);
    let counted = site.stored().await.into_iter().find(|row| row.1).unwrap();
    assert_eq!(counted.3, answers(&["comment=mine", "recommend=no", "topic=delivery"]));
}

/// What a link was asked for is noted, without who asked; and a program that hammers a link fills no disk.
#[tokio::test]
async fn every_hit_is_noted_and_not_without_end() {
    let mut site = Site::new().await;
    let survey = site.survey();
    let agent =
        [("user-agent", "Mozilla/5.0 (iPhone; canary@phone.example)"), ("x-forwarded-for", "192.0.2.77")];
    for (method, path) in [
        ("GET", format!("{survey}?recommend=no&name=canary@customer.example")),
        ("HEAD", format!("{survey}?recommend=maybe")),
        ("OPTIONS", survey.clone()),
        ("POST", survey.clone()),
        ("GET", format!("{survey}/thanks")),
        ("GET", site.unsubscribe()),
        ("GET", format!("/s/{}", site.token(Purpose::Unsubscribe))),
        ("GET", "/livez".to_owned()),
    ] {
        site.request(method, &path, None, &agent).await;
    }
    site.wait().await;
    let hits: Vec<(String, String, Option<String>, String)> =
        sqlx::query_as("select method::text, page::text, answer, agent::text from hit order by hit_id")
            .fetch_all(&site.database.pool)
            .await
            .unwrap();
    let hit = |method: &str, page: &str, answer: Option<&str>| {
        (method.to_owned(), page.to_owned(), answer.map(ToOwned::to_owned), "phone".to_owned())
    };
    let expected = [
        hit("get", "survey", Some("recommend=no")),
        hit("head", "survey", None),
        hit("options", "survey", None),
        hit("post", "survey", None),
        hit("get", "thanks", None),
        hit("get", "unsubscribe", None),
    ];
    assert_eq!(hits, expected);
    for _ in 0..220 {
        site.get(&survey).await;
    }
    site.wait().await;
    assert_eq!(site.count("hit").await, 200);
    let dropped: i64 =
        sqlx::query_scalar("select n from hit_dropped").fetch_one(&site.database.pool).await.unwrap();
    assert_eq!(dropped, 26);
}

#[tokio::test]
async fn mistakes_come_back_with_what_was_typed() {
    let site = Site::new().await;
    let long = "é".repeat(2001);
    let fields =
        [("comment", long.as_str()), ("rating", "3"), ("consent", "yes"), ("consent.name", "<Claire>")];
    let proof = site.proof();
    let sent = [&[("form.proof", proof.as_str())], &fields[..]].concat();
    let reply = site.post(&site.survey(), &sent).await;
    assert_eq!(reply.status, 422);
    assert!(reply.body.contains("Merci de répondre à cette question."), "{}", reply.body);
    assert!(reply.body.contains("2\u{202f}000 caractères\u{a0}; il y en a 2\u{202f}001"));
    assert!(reply.body.contains(&format!("{long}</textarea>")));
    assert!(reply.body.contains(r#"value="&lt;Claire&gt;""#));
    assert!(reply.body.contains(r#"aria-describedby="q0-error""#) && reply.body.contains(r#"id="q0-error""#));
    assert!(reply.body.contains(&proof), "the moment it was first made is kept");
    assert_eq!(site.stored().await, []);
    // Not a form at all, a character that cannot be kept, and one byte too many for the server.
    let path = site.survey();
    let reply =
        site.request("POST", &path, Some("{}".to_owned()), &[("content-type", "application/json")]).await;
    assert_eq!(reply.status, 422);
    assert_eq!(site.send(&[("recommend", "yes"), ("comment", "a\0b")]).await.status, 422);
    let reply = site.send(&[("recommend", "yes"), ("comment", &"x".repeat(65 * 1024))]).await;
    assert_eq!(reply.status, 413);
    assert!(reply.body.contains("C’était trop long"), "{}", reply.body);
    // The longest answer there can be still fits.
    assert_eq!(site.send(&[("recommend", "yes"), ("comment", &"漢".repeat(2000))]).await.status, 303);
}

#[tokio::test]
async fn what_a_customer_types_stays_text() {
    let mut site = Site::new().await;
    sqlx::query("update customer set first_name = '<img src=x onerror=alert(1)>'")
        .execute(&site.database.pool)
        .await
        .unwrap();
    for hostile in [
        "</textarea><script>alert(1)</script>",
        "\" autofocus onfocus=alert(1) x=\"",
        "{{#each}}{{> layout}}{{page.proof}}",
        "<!--<svg/onload=alert(1)>",
    ] {
        site.wait().await;
        site.send(&[
            ("recommend", "yes"),
            ("comment", hostile),
            ("consent", "yes"),
            ("consent.name", hostile),
        ])
        .await;
        let kept = site.count("answer where question = 'comment'").await;
        assert!(kept > 0);
        let page = site.get(&site.survey()).await.body;
        for forbidden in ["<script", "<img", "<svg", "onfocus=alert(1) x=\"", "<!--"] {
            assert!(!page.contains(forbidden), "{hostile}: {forbidden}");
        }
        assert_eq!(page.matches("<textarea").count(), 1);
        assert_eq!(page.matches("</textarea>").count(), 1);
        let last: String = sqlx::query_scalar(
            "select body from answer join response using (shop_id, response_id) where counted and question = 'comment'",
        )
        .fetch_one(&site.database.pool)
        .await
        .unwrap();
        assert_eq!(last, hostile);
    }
}

/// Whoever agrees to publication is told the name that an export would print, whatever the shop has configured.
#[tokio::test]
async fn consent_names_the_name_that_is_published() {
    let mut site = Site::new().await;
    sqlx::query("update customer set first_name = 'Zoë', last_name = 'O<Hara>'")
        .execute(&site.database.pool)
        .await
        .unwrap();
    for (rule, asked, told) in [
        ("first_name_initial", false, "Sous le nom «\u{a0}Zoë O.\u{a0}», avec la date de votre commande."),
        ("first_name", false, "Sous le nom «\u{a0}Zoë\u{a0}»"),
        ("anonymous", false, "Sans votre nom, avec la date de votre commande."),
        (
            "as_given",
            true,
            "Si vous laissez ce champ vide, votre avis paraîtra sous le nom «\u{a0}Zoë O.\u{a0}».",
        ),
    ] {
        let config = CONFIG.replace("\"as_given\"", &format!("{rule:?}"));
        site.context.config = Arc::new(Config::parse(Path::new("jobs.toml"), &config).unwrap());
        site.wait().await;
        let page = site.get(&site.survey()).await.body;
        assert!(page.contains(told), "{rule}: {page}");
        assert_eq!(page.contains("name=\"consent.name\""), asked, "{rule}");
        assert!(
            page.contains("le retirer à tout moment") && page.contains("en écrivant à service@shop.example"),
            "{rule}"
        );
        // A name is kept only where it will be printed; one that was not asked for is no mistake either.
        let name = if asked { "la Parisienne" } else { &"x".repeat(100) };
        let fields = [("recommend", "yes"), ("comment", rule), ("consent", "yes"), ("consent.name", name)];
        assert_eq!(site.send(&fields).await.status, 303, "{rule}");
        let kept: (Option<String>, String) =
            sqlx::query_as("select display_name, display_name_rule::text from response where counted")
                .fetch_one(&site.database.pool)
                .await
                .unwrap();
        assert_eq!((kept.0.as_deref(), kept.1.as_str()), (asked.then_some("la Parisienne"), rule));
    }
}

#[tokio::test]
async fn opting_out_by_button_and_by_mail_program() {
    let mut site = Site::new().await;
    let path = site.unsubscribe();
    let asks = site.get(&path).await;
    assert!(
        asks.body.contains("Ne plus recevoir") && asks.body.contains(r#"name="confirm""#),
        "{}",
        asks.body
    );
    // The button, pressed by what does not read, and by what has not even looked.
    let proof = hidden_proof(&asks.body);
    for fields in [&[("confirm", "yes")][..], &[("form.proof", &proof), ("confirm", "yes")]] {
        let asked = site.post(&path, fields).await;
        assert_eq!(asked.status, 200);
        assert!(asked.body.contains("Encore une étape") && asked.body.contains(r#"name="confirm""#));
    }
    assert_eq!(site.count("suppression").await, 0);
    site.wait().await;
    for fields in [&[("List-Unsubscribe", "One-Click")][..], &[("form.proof", &proof), ("confirm", "yes")]] {
        let reply = site.post(&path, fields).await;
        assert_eq!(reply.status, 200, "a mail program is not sent elsewhere");
        assert!(reply.body.contains("C’est noté"), "{}", reply.body);
    }
    let rows: Vec<(String, Vec<u8>, DateTime<Utc>)> =
        sqlx::query_as("select reason::text, address_hash, created_at from suppression")
            .fetch_all(&site.database.pool)
            .await
            .unwrap();
    assert_eq!(rows.len(), 1, "twice is once");
    use sha2::Digest as _;
    let hash = sha2::Sha256::digest("claire.canary@customer.example").to_vec();
    assert_eq!(rows[0], ("unsubscribed".to_owned(), hash, at(NOW) + TimeDelta::minutes(1)));
    // A link to answer does not opt out, and the other way round.
    let crossed = format!("/u/{}", site.token(Purpose::Survey));
    assert_eq!(site.post(&crossed, &[("confirm", "yes")]).await.status, 404);
    let crossed = format!("/s/{}", site.token(Purpose::Unsubscribe));
    assert_eq!(site.get(&crossed).await.status, 404);
}

/// The database takes back the next four transactions that write so, as it does for the sake of others: an import, a moderator.
async fn taken_back_four_times(pool: &sqlx::PgPool, writes: &str) {
    let sql = format!(
        "create sequence if not exists taken_back;
        alter sequence taken_back restart;
        create or replace function take_back() returns trigger language plpgsql as $f$ declare n bigint := nextval('taken_back'); begin
            if n <= 4 then
                raise exception using errcode = case when n % 2 = 0 then '40001' else '40P01' end;
            end if;
            return null;
        end $f$;
        create trigger take_back before {writes} for each statement execute function take_back()"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(pool).await.unwrap();
}

#[tokio::test]
async fn opting_out_and_taking_words_back_survive_being_taken_back_by_the_database() {
    let site = Site::new().await;
    site.send(&[("recommend", "yes"), ("comment", "Très bien"), ("consent", "yes")]).await;
    let pool = site.database.pool.clone();
    let n_tries = async || -> i64 {
        sqlx::query_scalar("select last_value from taken_back").fetch_one(&pool).await.unwrap()
    };
    taken_back_four_times(&pool, "update on testimonial").await;
    site.get(&site.withdrawal()).await;
    let reply = site.withdraw(&[("sure", "yes")]).await;
    assert_eq!((reply.status, n_tries().await), (303, 5), "{}", reply.body);
    assert!(is_taken_back(&site.testimonials().await[0]));

    taken_back_four_times(&pool, "insert on suppression").await;
    let one_click = [("List-Unsubscribe", "One-Click")];
    let reply = site.post(&site.unsubscribe(), &one_click).await;
    assert_eq!((reply.status, n_tries().await), (200, 5), "{}", reply.body);
    assert_eq!(site.count("suppression").await, 1);
}

impl Site {
    fn withdrawal(&self) -> String {
        format!("{}/withdraw", self.survey())
    }

    /// Sends the form that takes words back as a person: a minute after it was fetched.
    async fn withdraw(&self, fields: &[(&str, &str)]) -> Reply {
        let made = Proof::new(Occasion::Visit, self.context.clock.now() - TimeDelta::minutes(1));
        let proof = self.context.tokens.issue_form(Form::Withdrawal, self.shop, self.invitation, &made);
        self.post(&self.withdrawal(), &[&[("form.proof", proof.as_str())], fields].concat()).await
    }

    /// The testimonials, oldest first: state and reason.
    async fn testimonials(&self) -> Vec<(String, Option<String>)> {
        sqlx::query_as("select state::text, reject_reason::text from testimonial order by response_id")
            .fetch_all(&self.database.pool)
            .await
            .unwrap()
    }

    /// Approves everything that can be approved, and exports: the file, and what has to be taken down.
    async fn publish(&self) -> (String, usize) {
        let ids: Vec<ResponseId> = sqlx::query_scalar("select response_id from testimonial")
            .fetch_all(&self.database.pool)
            .await
            .unwrap();
        let now = self.context.clock.now();
        moderation::approve(&self.database.pool, &[self.shop], &ids, now).await.unwrap();
        let shops = [(self.shop, &self.context.config.shops[0])];
        let config = &self.context.config;
        let format = export::format("generic").unwrap();
        let export = Export::new(&shops, format, &config.testimonials, &config.surveys);
        let mut file = Vec::new();
        let destination = Destination::Stream(&mut file);
        let report =
            export::export_testimonials(&self.database.pool, export, destination, now).await.unwrap();
        (String::from_utf8(file).unwrap(), report.taken_back.len())
    }
}

const TAKEN_BACK: (&str, Option<&str>) = ("withdrawn", None);

fn is_taken_back(testimonial: &(String, Option<String>)) -> bool {
    (testimonial.0.as_str(), testimonial.1.as_deref()) == TAKEN_BACK
}

#[tokio::test]
async fn words_are_taken_back_with_a_tick_and_a_button() {
    let mut site = Site::new().await;
    let nothing = site.get(&site.withdrawal()).await.body;
    assert!(nothing.contains("Aucun avis de vous n’est publié") && !nothing.contains("<form"), "{nothing}");

    let answer = [("recommend", "yes"), ("comment", "Très bien"), ("consent", "yes")];
    let reply = site.send(&answer).await;
    for page in [site.get(&reply.headers["location"]).await, site.get(&site.survey()).await] {
        assert!(page.body.contains(&format!("href=\"{}\"", site.withdrawal())), "{}", page.body);
    }
    assert_eq!(site.publish().await, (site.publish().await.0, 0));
    assert!(site.publish().await.0.contains("Très bien"));

    // Asking takes nothing back, and neither does the form as it comes, nor what looks like a program's.
    let asks = site.get(&site.withdrawal()).await;
    assert!(
        asks.body.contains("Retirer votre avis\u{a0}?") && !asks.body.contains(" checked"),
        "{}",
        asks.body
    );
    let unsure = site.withdraw(&[]).await;
    assert_eq!(unsure.status, 422);
    assert!(unsure.body.contains("<title>Erreur\u{a0}: Retirer votre avis"), "{}", unsure.body);
    assert!(
        unsure.body.contains("href=\"#sure\"") && unsure.body.contains("aria-describedby=\"sure-error\"")
    );
    let proof = hidden_proof(&asks.body);
    for fields in [
        &[("sure", "yes")][..],
        &[("form.proof", proof.as_str()), ("sure", "yes")],
        &[("form.proof", &site.proof()), ("sure", "yes")],
    ] {
        let asked = site.post(&site.withdrawal(), fields).await;
        assert_eq!(asked.status, 200);
        assert!(
            asked.body.contains("Encore une étape") && !asked.body.contains(" checked"),
            "{}",
            asked.body
        );
    }
    assert_eq!(site.testimonials().await, [("approved".to_owned(), None)]);

    let reply = site.withdraw(&[("sure", "yes")]).await;
    assert_eq!((reply.status, &reply.headers["location"]), (303, &site.withdrawal()));
    let done = site.get(&site.withdrawal()).await.body;
    assert!(done.contains("Votre avis est retiré") && done.contains("jusqu’au 2 avril 2026"), "{done}");
    assert!(is_taken_back(&site.testimonials().await[0]));
    // Once more changes nothing, nor does a moderator; the next export leaves it out and says so.
    assert_eq!(site.withdraw(&[("sure", "yes")]).await.status, 200);
    let (file, taken_back) = site.publish().await;
    assert!(!file.contains("Très bien") && file.lines().count() == 1, "{file}");
    assert_eq!(taken_back, 1);
    assert_eq!(site.count("response where counted").await, 1, "the answer stays");
    assert_eq!(
        site.count("response where consent_version is not null").await,
        1,
        "and what was agreed to, when"
    );

    // Whoever wants it after all says so; the form does not say it for them.
    site.wait().await;
    let form = site.get(&site.survey()).await.body;
    let consent = form.split("<input").find(|tag| tag.contains("name=\"consent\"")).unwrap();
    assert!(!consent.split('>').next().unwrap().contains(" checked"), "{consent}");
    assert!(form.contains("Votre avis est retiré") && !form.contains(&site.withdrawal()), "{form}");
    assert_eq!(site.send(&answer).await.status, 303);
    let testimonials = site.testimonials().await;
    assert_eq!((testimonials.len(), testimonials[1].0.as_str()), (2, "pending"));
    assert!(is_taken_back(&testimonials[0]));
    // And back again: what was written before goes with it.
    assert!(site.publish().await.0.contains("Très bien"));
    assert_eq!(site.withdraw(&[("sure", "yes")]).await.status, 303);
    assert!(site.testimonials().await.iter().all(is_taken_back));
}

/// What a page says to whose words named somebody.
const PERSONAL_DATA: &str =
    "Votre avis n’a pas été publié. Motif du refus\u{a0}: Il contient des coordonnées ou nomme une personne.";

/// The reason is told on the page as well, whatever was answered beside the words and as long as the link leads to the answer: the author
/// may be one whom no mail may tell.
#[tokio::test]
async fn the_page_tells_why_words_were_refused() {
    let mut site = Site::new().await;
    let answer = |words| [("recommend", "yes"), ("comment", words), ("consent", "yes")];
    assert_eq!(site.send(&answer("Écrivez-moi à claire@customer.example")).await.status, 303);
    assert!(!site.get(&site.survey()).await.body.contains("Motif du refus"));
    let refuse = async |site: &Site| {
        let id: ResponseId = sqlx::query_scalar("select max(response_id) from testimonial")
            .fetch_one(&site.database.pool)
            .await
            .unwrap();
        let (reason, now) = (RejectReason::PersonalData, site.context.clock.now());
        moderation::reject(&site.database.pool, &[site.shop], &[id], reason, now).await.unwrap();
    };
    refuse(&site).await;
    // While everything can be changed; also when the form comes back.
    let form = site.get(&site.survey()).await.body;
    assert!(form.contains("name=\"recommend\"") && form.contains(PERSONAL_DATA), "{form}");
    site.wait().await;
    let faulty = site.send(&[("comment", "Très bien")]).await;
    assert!(faulty.status == 422 && faulty.body.contains(PERSONAL_DATA), "{}", faulty.body);
    // Other words are other words.
    assert_eq!(site.send(&answer("Très bien")).await.status, 303);
    assert!(!site.get(&site.survey()).await.body.contains("Motif du refus"));
    // And when nothing can be changed any more.
    refuse(&site).await;
    site.moved_to(at("2026-04-25T10:00:00Z")).await;
    let closed = site.get(&site.survey()).await.body;
    assert!(closed.contains("ne peut plus être modifiée") && closed.contains(PERSONAL_DATA), "{closed}");
}

/// Whoever agrees is told of the checks what holds whether a person reads all words or only those that a program found something in.
#[tokio::test]
async fn consent_says_of_the_checks_what_is_true_of_both_ways() {
    let mut site = Site::new().await;
    for moderation in ["manual", "flagged"] {
        let rules = format!("[testimonials]\nmoderation = \"{moderation}\"");
        let config = CONFIG.replace("[testimonials]", &rules);
        site.context.config = Arc::new(Config::parse(Path::new("jobs.toml"), &config).unwrap());
        site.wait().await;
        let page = site.get(&site.survey()).await.body;
        assert!(
            page.contains("Votre avis est contrôlé avant d’être publié. Maison &lt;Exemple&gt; ne peut le refuser que pour les motifs"),
            "{page}"
        );
        assert!(!page.contains("lit avant") && !page.contains("choisir de ne pas"), "{page}");
    }
}

/// Whose words were refused has as long again to write others; these wait for a moderator, and the reply stays with what it answers.
#[tokio::test]
async fn refused_words_can_be_written_anew_after_the_time_to_change_an_answer() {
    let mut site = Site::new().await;
    let answer = |words| [("recommend", "yes"), ("comment", words), ("consent", "yes")];
    assert_eq!(site.send(&answer("Écrivez-moi à claire@customer.example")).await.status, 303);
    let first: ResponseId = sqlx::query_scalar("select response_id from testimonial")
        .fetch_one(&site.database.pool)
        .await
        .unwrap();
    // Fourteen days to change it are over on 2 April; on 4 April a moderator refuses it, and that gives as long again.
    site.moved_to(at("2026-04-04T10:00:00Z")).await;
    assert!(site.get(&site.survey()).await.body.contains("ne peut plus être modifiée"));
    let (pool, now) = (&site.database.pool, site.context.clock.now());
    moderation::reply(pool, &[site.shop], first, Some("Merci !"), now).await.unwrap();
    let reason = RejectReason::PersonalData;
    moderation::reject(pool, &[site.shop], &[first], reason, now).await.unwrap();
    site.moved_to(at("2026-04-18T09:00:00Z")).await;
    let form = site.get(&site.survey()).await;
    assert!(form.body.contains("name=\"comment\""), "{}", form.body);
    // The words alone: the score counts already, and stays what it was, when it was.
    assert!(
        !form.body.contains("name=\"recommend\"") && form.body.contains("name=\"consent\""),
        "{}",
        form.body
    );
    assert!(form.body.contains("Vos autres réponses restent telles quelles"), "{}", form.body);
    assert!(form.body.contains(PERSONAL_DATA), "{}", form.body);
    let other_score = [("recommend", "no"), ("comment", "Très bien"), ("consent", "yes")];
    assert_eq!(site.send(&other_score).await.status, 303);
    let counted = "select count(distinct answered_at), count(*), max(choice), min(choice), count(*) filter (where counted)
                   from response join answer using (shop_id, response_id) where question = 'recommend'";
    let counted: (i64, i64, String, String, i64) =
        sqlx::query_as(counted).fetch_one(&site.database.pool).await.unwrap();
    assert_eq!(counted, (1, 2, "yes".to_owned(), "yes".to_owned(), 1));
    assert_eq!(
        site.testimonials().await,
        [("rejected".to_owned(), Some("personal_data".to_owned())), ("pending".to_owned(), None)]
    );
    let (file, _) = site.publish().await;
    assert!(file.contains("Très bien") && !file.contains("Merci !") && !file.contains("claire@"), "{file}");
    let second: ResponseId = sqlx::query_scalar("select max(response_id) from testimonial")
        .fetch_one(&site.database.pool)
        .await
        .unwrap();
    let earlier = moderation::earlier_reply(&site.database.pool, &[site.shop], second).await.unwrap();
    assert_eq!(earlier.as_deref(), Some("Merci !"));
    // The link itself has an end, whatever is refused when.
    site.moved_to(at("2026-05-10T10:00:00Z")).await;
    moderation::reject(&site.database.pool, &[site.shop], &[second], reason, site.context.clock.now())
        .await
        .unwrap();
    assert!(!site.get(&site.survey()).await.body.contains("name=\"comment\""));
}

/// Consent can be taken back for as long as there are words: after the time to change the answer, after the time to answer, and after
/// the survey has gone from jobs.toml. Only what was erased is nobody's any more.
#[tokio::test]
async fn words_can_be_taken_back_when_everything_else_is_over() {
    for (moment, is_configured) in
        [("2026-04-20T09:00:00Z", true), ("2026-07-20T09:00:00Z", true), ("2029-03-10T09:00:00Z", false)]
    {
        let mut site = Site::new().await;
        site.send(&[("recommend", "yes"), ("comment", "Très bien"), ("consent", "yes")]).await;
        site.publish().await;
        if !is_configured {
            let config = CONFIG
                .replace("[survey.recommend]", "[survey.other]")
                .replace("[[survey.recommend.", "[[survey.other.");
            site.context.config = Arc::new(Config::parse(Path::new("jobs.toml"), &config).unwrap());
        }
        site.moved_to(at(moment)).await;
        let closed = site.get(&site.survey()).await;
        assert_eq!(closed.status, 200, "{moment}");
        assert!(closed.body.contains("ne peut plus être modifiée"), "{moment}: {}", closed.body);
        assert!(closed.body.contains(&site.withdrawal()), "{moment}: {}", closed.body);
        assert_eq!(site.get(&site.withdrawal()).await.status, 200);
        assert_eq!(site.withdraw(&[("sure", "yes")]).await.status, 303, "{moment}");
        assert!(is_taken_back(&site.testimonials().await[0]), "{moment}");
        let done = site.get(&site.withdrawal()).await.body;
        assert!(done.contains("Votre avis est retiré") && !done.contains("de nouveau accepter"), "{done}");
        let closed = site.get(&site.survey()).await;
        assert_eq!((closed.status, closed.body.contains(&site.withdrawal())), (200, false), "{moment}");
        let wrong = site.get("/s/x").await.body;
        sqlx::query(
            "update customer set email = null, email_key = null, first_name = null, erased_at = now()",
        )
        .execute(&site.database.pool)
        .await
        .unwrap();
        for path in [site.survey(), site.withdrawal()] {
            let reply = site.get(&path).await;
            assert_eq!((reply.status, &reply.body), (404, &wrong), "{moment}");
        }
        assert_eq!(site.withdraw(&[("sure", "yes")]).await.body, wrong, "{moment}");
    }
    // A link that is over, and has no words behind it, is as wrong as any other.
    let mut site = Site::new().await;
    site.send(&[("recommend", "yes"), ("comment", "for the shop")]).await;
    site.moved_to(at("2026-07-20T09:00:00Z")).await;
    let wrong = site.get("/s/x").await.body;
    for path in [site.survey(), site.withdrawal()] {
        let reply = site.get(&path).await;
        assert_eq!((reply.status, &reply.body), (404, &wrong), "{path}");
    }
}

/// It follows the links of every page and sends the forms as it finds them, however long it waits in between.
#[tokio::test]
async fn a_robot_that_sends_the_form_as_it_finds_it_withdraws_nothing() {
    let mut site = Site::new().await;
    site.send(&[("recommend", "yes"), ("comment", "Très bien"), ("consent", "yes")]).await;
    site.publish().await;
    for wait in [0, 1, 3, 30, 3600, 90_000] {
        let mut page = site.get(&site.withdrawal()).await.body;
        for _ in 0..4 {
            site.moved_to(site.context.clock.now() + TimeDelta::seconds(wait)).await;
            let found = page.split("<input ").skip(1).filter_map(|tag| {
                let tag = tag.split('>').next()?;
                let attribute = |name: &str| {
                    tag.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split('"').next())
                };
                let chosen = attribute("type") != Some("checkbox") || tag.contains(" checked");
                chosen.then(|| {
                    Some((attribute("name")?.to_owned(), attribute("value").unwrap_or_default().to_owned()))
                })?
            });
            let found: Vec<_> = found.collect();
            let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert!(found.iter().any(|(name, _)| *name == "form.proof"), "{page}");
            page = site.post(&site.withdrawal(), &found).await.body;
        }
        assert_eq!(site.testimonials().await, [("approved".to_owned(), None)], "after {wait} s each");
    }
}

/// The page and its styles travel over mobile networks.
#[tokio::test]
async fn the_heaviest_page_with_its_styles_weighs_less_than_thirty_kilobytes() {
    let site = Site::new().await;
    let page = site
        .send(&[("comment", &"é".repeat(2001)), ("consent", "yes"), ("consent.name", &"x".repeat(99))])
        .await;
    assert_eq!(page.status, 422);
    let typed = 2 * 2001 + 99;
    let weight = |reply: &Reply| {
        let headers: usize = reply.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        reply.body.len() + headers
    };
    let mut sum = weight(&page) - typed;
    for style in page.body.split("rel=\"stylesheet\" href=\"").skip(1) {
        sum += weight(&site.get(style.split('"').next().unwrap()).await);
    }
    assert!(sum < 30 * 1024, "{sum} bytes");
    assert!(!page.body.contains("<script") && !page.body.contains(" on"), "no scripts");
}

#[tokio::test]
async fn wrong_expired_and_erased_links_look_the_same() {
    let mut site = Site::new().await;
    let (survey, unsubscribe) = (site.survey(), site.unsubscribe());
    let wrong = site.get("/s/AAAAAQAAAAAAAAAqQzhqpUjA0OUE8OV48EMyxg").await;
    assert_eq!(wrong.status, 404);
    assert!(!wrong.body.contains("Exemple"), "no shop shows");
    let unknown = InvitationId(site.invitation.0 + 1000);
    let unknown = format!("/s/{}", site.context.tokens.issue(Purpose::Survey, site.shop, unknown));
    let same = async |site: &Site, path: &str| {
        for (method, body) in [("GET", None), ("POST", Some("recommend=yes&confirm=yes".to_owned()))] {
            let form = [("content-type", "application/x-www-form-urlencoded")];
            let reply = site.request(method, path, body, &form).await;
            assert_eq!((reply.status, &reply.body), (404, &wrong.body), "{method} {path}");
            let without_date = |reply: &Reply| {
                let mut headers = reply.headers.clone();
                headers.remove("date");
                headers
            };
            assert_eq!(without_date(&reply), without_date(&wrong), "{method} {path}");
        }
    };
    for path in
        ["/s/x", "/u/x", "/s/%ff", "/u/%ff%00", "/s/x/thanks", "/nothing", &unknown, &format!("{survey}x")]
    {
        if path == "/s/x/thanks" || path == "/nothing" {
            assert_eq!(site.get(path).await.body, wrong.body);
        } else {
            same(&site, path).await;
        }
    }
    site.moved_to(at("2026-05-10T09:00:00Z")).await;
    same(&site, &survey).await;
    assert_eq!(site.get(&unsubscribe).await.status, 200, "opting out has no end");
    site.moved_to(at(NOW)).await;
    assert_eq!(site.get(&survey).await.status, 200);
    sqlx::query("update customer set email = null, email_key = null, first_name = null, erased_at = now()")
        .execute(&site.database.pool)
        .await
        .unwrap();
    same(&site, &survey).await;
    same(&site, &unsubscribe).await;
    assert_eq!(site.count("response").await + site.count("suppression").await, 0);
}

#[tokio::test]
async fn a_page_without_a_shop_speaks_the_browsers_language() {
    let site = Site::new().await;
    let title = async |accepted: &'static str| {
        let reply = site.request("GET", "/s/x", None, &[("accept-language", accepted)]).await;
        reply.body.split("<h1>").nth(1).unwrap().split('<').next().unwrap().to_owned()
    };
    assert_eq!(title("de, en-GB;q=0.8, fr;q=0.5").await, "This link is not valid");
    assert_eq!(title("de").await, "Ce lien n’est pas valable");
}

#[tokio::test]
async fn every_response_is_guarded() {
    let site = Site::new().await;
    let page = site.get(&site.survey()).await.body;
    let styles: Vec<_> = page
        .split("rel=\"stylesheet\" href=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert_eq!(styles.len(), 2);
    let survey = site.survey();
    let unsubscribe = site.unsubscribe();
    let long = "x".repeat(70_000);
    let mut replies = vec![
        ("survey", site.get(&survey).await),
        ("thanks", site.get(&format!("{survey}/thanks")).await),
        ("unsubscribe", site.get(&unsubscribe).await),
        ("gone", site.get("/s/x").await),
        ("no route", site.get("/").await),
        ("health", site.get("/livez").await),
        ("method", site.request("DELETE", &survey, None, &[]).await),
        ("too long", site.send(&[("comment", &long)]).await),
        ("mistakes", site.send(&[]).await),
        ("stored", site.send(&[("recommend", "yes")]).await),
    ];
    for style in styles {
        let reply = site.get(style).await;
        assert_eq!(reply.status, 200);
        assert!(reply.headers["cache-control"].contains("immutable"));
        assert!(reply.headers["content-type"].starts_with("text/css"));
        replies.push(("style", reply));
    }
    // A database that is away: everybody is told, and asked to come back.
    site.database.pool.close().await;
    let away = site.get(&survey).await;
    assert_eq!((away.status, away.headers["retry-after"].as_str()), (503, "30"));
    assert!(away.body.contains("Merci de réessayer"), "{}", away.body);
    replies.push(("away", away));
    for (what, reply) in &replies {
        let policy = &reply.headers["content-security-policy"];
        for rule in [
            "default-src 'none'",
            "style-src 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(rule), "{what}: {policy}");
        }
        assert_eq!(reply.headers["referrer-policy"], "no-referrer", "{what}");
        assert_eq!(reply.headers["x-content-type-options"], "nosniff", "{what}");
        assert_eq!(reply.headers["x-frame-options"], "DENY", "{what}");
        assert!(reply.headers["x-robots-tag"].contains("noindex"), "{what}");
        assert!(*what == "style" || reply.headers["cache-control"] == "no-store", "{what}");
        assert!(
            !reply.body.contains("style=\"") && !reply.body.contains("<style"),
            "{what} would break its own policy"
        );
        assert!(!reply.body.contains("anary"), "{what} shows an address");
    }
}

#[tokio::test]
async fn an_answer_from_a_file_can_be_changed_on_the_page() {
    let site = Site::new().await;
    Response { via: "import", comment: None, consent_version: None, ..Response::new(site.shop, site.order) }
        .insert(&site.database.pool)
        .await;
    assert_eq!(site.send(&[("recommend", "no"), ("topic", "service")]).await.status, 303);
    let stored = site.stored().await;
    assert_eq!(stored.iter().map(|row| (row.0, row.1)).collect::<Vec<_>>(), [(1, false), (2, true)]);
}

#[tokio::test]
async fn a_browser_that_goes_away_leaves_all_or_nothing() {
    use tokio::io::AsyncWriteExt as _;
    let mut site = Site::new().await;
    for n in 0..30_u64 {
        let body = format!("form.proof={}&recommend=yes&comment=n{n}", site.proof());
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            site.survey(),
            body.len()
        );
        let mut stream = tokio::net::TcpStream::connect(site.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_micros(n * 300)).await;
        drop(stream);
    }
    site.wait().await;
    // Another request is answered, so no connection was spoilt; then every response has all of its answers.
    assert_eq!(site.send(&[("recommend", "yes"), ("comment", "last")]).await.status, 303);
    let stored = site.stored().await;
    assert!(stored.iter().all(|row| row.3.len() == 2), "{stored:?}");
    assert_eq!(stored.iter().filter(|row| row.1).count(), 1);
}

#[tokio::test]
async fn the_outbox_shows_the_mails_of_its_folder_and_nothing_else() {
    let site = Site::new().await;
    let folder = tempfile::tempdir().unwrap();
    let outbox = folder.path().join("outbox");
    std::fs::create_dir(&outbox).unwrap();
    std::fs::write(folder.path().join("secret.eml"), "Subject: secret\r\n\r\nsecret").unwrap();
    std::fs::write(outbox.join("notes.txt"), "secret").unwrap();
    let questionnaire = serde_json::from_value(factories::questionnaire()).unwrap();
    for (n, name) in ["Claire", "<b>Hugo</b>"].into_iter().enumerate() {
        let facts = compose::Facts {
            reminder: false,
            message_id: None,
            shop_id: site.shop,
            invitation_id: site.invitation,
            questionnaire: &questionnaire,
            order: "A-1001",
            ordered_at: at("2026-03-01T09:00:00Z"),
            first_name: Some(name),
            locale: Some("en"),
            email: "someone@customer.example",
        };
        let Context { config, templates, tokens, .. } = &site.context;
        let now = at("2026-03-10T09:00:00Z") + TimeDelta::minutes(n.try_into().unwrap());
        let letterhead = compose::Letterhead {
            shop: &config.shops[0],
            base_url: &config.app.base_url,
            return_path: None,
            signer: None,
        };
        let mail = compose::compose(templates, tokens, &letterhead, &facts, now).unwrap();
        std::fs::write(outbox.join(format!("{n}.eml")), mail.bytes).unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, web::outbox::router(outbox)).await });
    let viewer = async |path: &str| request(address, "GET", path, None, &[]).await;

    for path in [
        "/nothing",
        "/outbox/",
        "/outbox/..%2fsecret.eml",
        "/outbox/%2e%2e%2fsecret.eml",
        "/outbox/notes.txt",
    ] {
        let reply = viewer(path).await;
        assert_eq!((reply.status, reply.body.as_str()), (404, "There is no such mail."), "{path}");
        assert_eq!(reply.headers["x-content-type-options"], "nosniff", "{path}");
    }
    assert_eq!(viewer("/").await.headers["location"], "/outbox");
    let list = viewer("/outbox").await.body;
    assert!(list.find("&lt;b&gt;Hugo").unwrap() < list.find("Claire").unwrap(), "the newest first: {list}");
    assert!(list.contains("2 mails") && !list.contains("notes") && !list.contains("<b>"), "{list}");
    let mail = viewer("/outbox/0.eml").await;
    assert!(mail.body.contains("sandbox=\"allow-popups") && mail.body.contains("/outbox/0.eml/frame"));
    let frame = viewer("/outbox/0.eml/frame").await;
    assert!(frame.body.contains("?recommend&#x3D;yes") && frame.body.contains("<base target=\"_blank\">"));
    assert!(frame.headers["content-security-policy"].contains("sandbox"));
    assert!(viewer("/outbox/0.eml/text").await.body.contains("Unsubscribe: https://avis.shop.example/u/"));
    assert!(
        viewer("/outbox/0.eml/source")
            .await
            .body
            .contains("List-Unsubscribe-Post: List-Unsubscribe&#x3D;One-Click")
    );
    assert!(viewer("/outbox/0.eml/phone").await.body.contains("class=\"phone\""));
    for path in ["notes.txt", "2.eml", "..%2Fsecret.eml", "%2E%2E%2Fsecret.eml", "..", ".%00", "0.eml%00"] {
        let reply = viewer(&format!("/outbox/{path}/source")).await;
        assert_eq!(reply.status, 404, "{path}");
        assert!(!reply.body.contains("secret"), "{path}");
    }
}

#[tokio::test]
async fn the_database_knows_the_same_words() {
    use afterword::responses::classify::Suspicion;
    use afterword::responses::hits::{AgentFamily, HitMethod, HitPage};
    use afterword::responses::{ResponseVia, Verdict};
    let database = TestDb::new().await;
    for via in [ResponseVia::Page, ResponseVia::Import] {
        let back: ResponseVia =
            sqlx::query_scalar("select $1::response_via").bind(via).fetch_one(&database.pool).await.unwrap();
        assert_eq!(back, via);
    }
    for verdict in [Verdict::Human, Verdict::Suspect] {
        let back: Verdict =
            sqlx::query_scalar("select $1::verdict").bind(verdict).fetch_one(&database.pool).await.unwrap();
        assert_eq!(back, verdict);
    }
    macro_rules! same_words {
        ($type:ty, $cast:literal, $all:expr) => {
            for one in $all {
                let back: $type = sqlx::query_scalar(concat!("select $1::", $cast))
                    .bind(one)
                    .fetch_one(&database.pool)
                    .await
                    .unwrap();
                assert_eq!(back, one);
            }
            let words: Vec<String> =
                sqlx::query_scalar(concat!("select unnest(enum_range(null::", $cast, "))::text"))
                    .fetch_all(&database.pool)
                    .await
                    .unwrap();
            assert_eq!(words.len(), $all.len(), "{}", $cast);
        };
    }
    same_words!(Suspicion, "suspicion", Suspicion::ALL);
    use {AgentFamily as A, HitMethod as M, HitPage as P};
    same_words!(HitMethod, "hit_method", [M::Get, M::Head, M::Options, M::Post, M::Other]);
    same_words!(HitPage, "hit_page", [P::Survey, P::Thanks, P::Withdrawal, P::Unsubscribe]);
    let families = [A::Browser, A::Phone, A::Scanner, A::Tool, A::None, A::Other];
    same_words!(AgentFamily, "agent_family", families);
}
