//! The private pages: who gets in, and what can be pulled there.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Child;
use std::time::{Duration, Instant};

use afterword::config::Right;
use afterword::web::private::{ROUTES, Who};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::Digest as _;
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::factories;
use crate::support::program::Program;

/// Two shops and a survey.
pub const CONFIG: &str = r#"
[app]
base_url = "http://127.0.0.1:8080"
[database]
[mail]
transport = "file"
[[shop]]
key = "maison"
name = "Maison Exemple"
locale = "fr"
timezone = "Europe/Paris"
from = "avis@maison.example"
url = "https://maison.example"
[[shop]]
key = "atelier"
name = "Atelier Exemple"
locale = "en"
timezone = "America/Sao_Paulo"
from = "reviews@atelier.example"
url = "https://atelier.example"
[survey.recommend]
trigger = "fulfilled"
delay = "7d"
recommendation = { question = "recommend", yes = ["yes"] }
[[survey.recommend.question]]
key = "recommend"
type = "recommend"
text = { en = "Would you recommend us?", fr = "Nous recommanderiez-vous ?" }
[[survey.recommend.question]]
key = "comment"
type = "text"
text = { en = "Tell us", fr = "Dites-nous" }
"#;

/// A token of this access.
pub fn token(name: &str) -> String {
    name.repeat(40)[..32].to_owned()
}

pub fn bearer(name: &str) -> String {
    format!("Bearer {}", token(name))
}

pub fn basic(name: &str, token: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{token}")))
}

/// The program, serving.
pub struct House {
    pub program: Program,
    pub server: Child,
    public: String,
    pub private: String,
}

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The first column, but for its head.
    fn ids(&self) -> Vec<String> {
        let mut reader = csv::Reader::from_reader(self.body.as_slice());
        reader.records().map(|record| record.unwrap()[0].to_owned()).collect()
    }
}

impl House {
    /// Everybody's: `team` may all, `marketing` takes the testimonials of one shop, `reader` reads, `atelier` runs the jobs of that shop,
    /// `idle` may nothing.
    async fn new() -> Self {
        Self::with(CONFIG).await
    }

    /// The same with this jobs.toml, which has the shops `maison` and `atelier`.
    pub async fn with(jobs_toml: &str) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let (public, private) = (free(), free());
        let access = |name: &str, rest: &str| {
            format!("\n[[access]]\nname = \"{name}\"\ntoken = \"{}\"\n{rest}\n", token(name))
        };
        let listen = format!("listen = \"{public}\"\nprivate_listen = \"{private}\"\n[database]");
        let config = jobs_toml.replace("[database]", &listen)
            + &access("team", "allow = [\"report\", \"export\", \"run\", \"metrics\"]")
            + &access("marketing", "allow = [\"export\"]\nshops = [\"maison\"]")
            + &access("reader", "allow = [\"report\"]\nshops = [\"maison\"]")
            + &access("atelier", "allow = [\"run\"]\nshops = [\"atelier\"]")
            + &access("idle", "allow = []");
        let program = Program::new(&config).await;
        let mut server = program.spawn(&["serve"]);
        let stderr = BufReader::new(server.stderr.take().unwrap());
        let (ready, is_ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if line.contains("private pages on") {
                    let _ = ready.send(());
                }
            }
        });
        is_ready.recv_timeout(Duration::from_secs(30)).expect("serve did not get ready");
        Self { program, server, public, private }
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        ask(&self.private, method, path, headers)
    }

    /// As this access.
    pub fn get(&self, name: &str, path: &str) -> Answer {
        self.ask("GET", path, &[("authorization", &bearer(name))])
    }

    pub fn pool(&self) -> &PgPool {
        &self.program.db.pool
    }

    pub async fn count(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {sql}")))
            .fetch_one(self.pool())
            .await
            .unwrap()
    }

    /// How many exports are recorded, and how many testimonials have left.
    async fn left(&self) -> (i64, i64) {
        (self.count("export_run").await, self.count("testimonial where published_at is not null").await)
    }

    /// Waits until nobody is exporting.
    async fn quiet(&self) {
        let until = Instant::now() + Duration::from_secs(30);
        while self.count("pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())").await > 0 {
            assert!(Instant::now() < until, "an export goes on");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A connection that has asked for this and takes no more than the head of the answer.
    fn stalled(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.private).unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: {}\r\n\r\n", bearer("team"));
        stream.write_all(head.as_bytes()).unwrap();
        let mut begin = [0; 1000];
        stream.read_exact(&mut begin).unwrap();
        assert!(begin.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&begin));
        stream
    }

    /// The most memory that the program has used, in bytes.
    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.server.id().try_into().unwrap()), Signal::SIGTERM);
        let _ = self.server.wait();
    }
}

fn ask(at: &str, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    send(at, method, path, headers, "")
}

pub fn send(at: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(60)))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .allow_non_standard_methods(true)
        .build()
        .into();
    let mut request = ureq::http::Request::builder().method(method).uri(format!("http://{at}{path}"));
    // What ureq unpacks by itself could not be looked at.
    if !headers.iter().any(|(name, _)| *name == "accept-encoding") {
        request = request.header("accept-encoding", "identity");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let sent = match body {
        "" => agent.run(request.body(()).unwrap()),
        body => agent.run(request.body(body).unwrap()),
    };
    let mut response = sent.unwrap();
    let headers = response.headers().iter();
    let headers =
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    let status = response.status().as_u16();
    let mut body = Vec::new();
    response.body_mut().as_reader().read_to_end(&mut body).unwrap();
    Answer { status, headers, body }
}

/// So many approved testimonials of a shop, each with words of about this length.
pub async fn approved(pool: &PgPool, key: &str, n: i32, length: i32) {
    let shop = factories::shop(pool, key).await;
    let version = factories::survey_version(pool, shop, factories::SURVEY).await;
    let fill = r#"
        insert into customer (shop_id, email, email_key, first_name, last_name)
            select SHOP, 'c' || n || '@shop.example', 'c' || n || '@shop.example', 'Claire', 'Dubois' from generate_series(1, COUNT) n;
        insert into "order" (shop_id, external_id, customer_id, ordered_at, fulfilled_at, status, total, currency, items, locale, country,
                             attributes, import_run_id, imported_at, updated_at)
            select shop_id, 'A-' || customer_id, customer_id, '2026-03-01', '2026-03-03', 'fulfilled', 4990, 'EUR', '{P-1}', 'fr', 'FR', '{}', 1,
                   '2026-03-01', '2026-03-01'
            from customer where shop_id = SHOP;
        insert into response (shop_id, order_id, survey, survey_version_id, revision, counted, via, verdict, locale,
                              answered_at, received_at, consent_version, display_name_rule)
            select shop_id, order_id, 'recommend', VERSION, 1, true, 'page', 'human', 'fr', '2026-03-10', '2026-03-10', '2026-01', 'first_name_initial'
            from "order" where shop_id = SHOP;
        insert into answer (shop_id, response_id, question, body)
            select shop_id, response_id, 'comment', response_id || ' très bien, ' || left(md5(response_id::text) || repeat(' merci beaucoup', LENGTH / 15), LENGTH)
            from response where shop_id = SHOP;
        insert into testimonial (shop_id, response_id, state, decided_at)
            select shop_id, response_id, 'approved', '2026-03-12' from response where shop_id = SHOP;
    "#;
    let fill = fill
        .replace("SHOP", &shop.0.to_string())
        .replace("VERSION", &version.0.to_string())
        .replace("COUNT", &n.to_string())
        .replace("LENGTH", &length.to_string());
    sqlx::raw_sql(AssertSqlSafe(fill)).execute(pool).await.unwrap();
    sqlx::raw_sql("analyze").execute(pool).await.unwrap();
}

/// Whoever adds a way in says here who may come.
#[test]
fn the_ways_in_are_these() {
    let ways: Vec<String> =
        ROUTES.iter().map(|route| format!("{} {} {:?}", route.method, route.path, route.who)).collect();
    assert_eq!(
        ways,
        [
            "GET /livez Anybody",
            "GET /readyz Anybody",
            "GET /metrics May(Metrics)",
            "GET /report May(Report)",
            "GET /exports May(Export)",
            "GET /exports/testimonials.csv May(Export)",
            "GET /exports/testimonials.manifest.json May(Export)",
            "GET /exports/testimonials.notice.fr.md May(Export)",
            "GET /exports/testimonials.notice.en.md May(Export)",
            "GET /exports/metrics.csv May(Report)",
            "GET /jobs May(Run)",
            "GET /jobs/{job} May(Run)",
            "POST /jobs/{job}/run May(Run)",
            "GET /runs/{run} May(Run)",
            "GET /openapi.json Known",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_gets_nothing_anywhere() {
    let house = House::new().await;
    approved(house.pool(), "maison", 3, 30).await;
    approved(house.pool(), "atelier", 3, 30).await;
    let silent = |answer: &Answer, what: &str| {
        let body = String::from_utf8_lossy(&answer.body);
        for word in ["Exemple", "maison", "atelier", "testimonial", "csv", "merci", "panicked"] {
            assert!(!body.contains(word), "{what} says {body}");
        }
        assert!(body.len() < 60, "{what} says {body}");
        for secret in ["etag", "last-modified", "content-disposition", "content-encoding"] {
            assert_eq!(answer.header(secret), None, "{what}");
        }
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
        assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{what}");
        assert!(
            answer
                .header("content-security-policy")
                .is_some_and(|policy| policy.starts_with("default-src 'none'"))
        );
    };
    let strangers = [
        None,
        Some("Bearer ".to_owned()),
        Some(bearer("nobody")),
        Some(format!("Bearer {}x", token("team"))),
        Some(basic("team", &token("marketing"))),
        Some(basic("marketing", "")),
        Some(basic("' or 1=1 --", &token("nobody"))),
        Some(format!("Digest {}", token("team"))),
    ];
    let verbs = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"];
    let unknown =
        ["/", "/nothing", "/exports/", "/exports/../report", "/s/anything", "/exports/testimonials.xml"];
    let filled = |path: &str| path.replace("{job}", "metrics").replace("{run}", "1");
    let known = ROUTES.iter().filter(|route| route.who != Who::Anybody).map(|route| filled(route.path));
    for path in known.chain(unknown.map(str::to_owned)) {
        let path = path.as_str();
        for verb in verbs {
            for shown in &strangers {
                let shown: Vec<_> = shown.iter().map(|shown| ("authorization", shown.as_str())).collect();
                let answer = house.ask(verb, path, &shown);
                let what = format!("{verb} {path} of {shown:?}");
                assert_eq!(answer.status, 401, "{what}");
                assert!(answer.header("www-authenticate").is_some_and(|way| way.starts_with("Basic realm=")));
                assert_eq!(answer.header("allow"), None, "{what}");
                silent(&answer, &what);
            }
        }
    }
    for path in unknown {
        assert_eq!(house.get("team", path).status, 404, "{path}");
    }
    for route in ROUTES {
        let Who::May(right) = route.who else { continue };
        let path = filled(route.path);
        let path = path.as_str();
        // Known, but not for this.
        let others = match right {
            Right::Report => ["marketing", "atelier", "idle"],
            Right::Export => ["reader", "atelier", "idle"],
            Right::Run => ["marketing", "reader", "idle"],
            Right::Metrics => ["marketing", "atelier", "reader"],
        };
        for verb in verbs {
            for other in others {
                let answer = house.ask(verb, path, &[("authorization", &bearer(other))]);
                assert_eq!(answer.status, 403, "{verb} {path} of {other}");
                silent(&answer, path);
            }
            // With the right, but another verb.
            if ![route.method.as_str(), "HEAD"].contains(&verb) {
                let answer = house.ask(verb, path, &[("authorization", &bearer("team"))]);
                assert_eq!((answer.status, answer.body.len()), (405, 0), "{verb} {path}");
            }
        }
        // What is of which shop is another matter with jobs: tests/it/private_jobs.rs.
        if matches!(right, Right::Run | Right::Metrics) {
            continue;
        }
        // For this, but of another shop, which cannot be told from one that is not there.
        let mine = if right == Right::Report { "reader" } else { "marketing" };
        let refused = house.get(mine, &format!("{path}?shop=atelier"));
        assert_eq!(refused.status, 403, "{path}");
        silent(&refused, path);
        assert_eq!(house.get(mine, &format!("{path}?shop=nowhere")).body, refused.body);
        assert_eq!(house.get("team", &format!("{path}?shop=nowhere")).status, 403);
        // And without a name, only of the own shop.
        let answer = house.get(mine, path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(!String::from_utf8_lossy(&answer.body).to_lowercase().contains("atelier"), "{path}");
        assert_eq!(house.get("team", &format!("{path}?shpo=maison")).status, 400, "{path}");
    }
    assert_eq!(house.ask("GET", "/livez", &[]).body, b"ok");
    for route in ROUTES.iter().filter(|route| route.who == Who::Anybody) {
        for verb in verbs.iter().filter(|verb| !["GET", "HEAD"].contains(verb)) {
            let answer = house.ask(verb, route.path, &[]);
            assert_eq!((answer.status, answer.body.len()), (405, 0), "{verb} {}", route.path);
        }
    }
    for route in ROUTES.iter().filter(|route| route.who != Who::Anybody) {
        assert_eq!(
            ask(&house.public, "GET", &filled(route.path), &[("authorization", &bearer("team"))]).status,
            404
        );
    }
    // Only the one who had the right to has taken anything.
    let taken: Vec<(String, i64)> =
        sqlx::query_as("select destination, n_rows from export_run").fetch_all(house.pool()).await.unwrap();
    assert_eq!(taken, [("access marketing".to_owned(), 3)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn testimonials_are_pulled_once_and_again_only_when_something_has_changed() {
    let house = House::new().await;
    approved(house.pool(), "maison", 5, 40).await;
    approved(house.pool(), "atelier", 2, 40).await;
    let path = "/exports/testimonials.csv?shop=maison&format=generic&since=";
    let marketing = bearer("marketing");
    let ask = |method: &str, path: &str, more: &[(&str, &str)]| {
        house.ask(method, path, &[&[("authorization", marketing.as_str())], more].concat())
    };

    // Whoever only looks takes nothing.
    let looked = ask("HEAD", path, &[]);
    assert_eq!((looked.status, looked.body.len()), (200, 0));
    assert!(looked.header("content-length").unwrap().parse::<usize>().unwrap() > 500);
    let page = ask("GET", "/exports?shop=maison", &[]);
    assert!(String::from_utf8_lossy(&page.body).contains("très bien"));
    house.quiet().await;
    assert_eq!(house.left().await, (0, 0));

    let answer = ask("GET", path, &[]);
    assert_eq!((answer.status, answer.ids().len()), (200, 5));
    assert_eq!(answer.header("content-type"), Some("text/csv; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
    assert_eq!(answer.header("vary"), Some("accept-encoding, authorization"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    let disposition = answer.header("content-disposition").unwrap();
    assert!(disposition.starts_with("attachment; filename=\"testimonials-maison-20"), "{disposition}");
    let modified = answer.header("last-modified").unwrap();
    assert!(
        chrono::DateTime::parse_from_rfc2822(modified).is_ok() && modified.ends_with("GMT"),
        "{modified}"
    );
    house.quiet().await;
    assert_eq!(house.left().await, (1, 5));
    let etag = answer.header("etag").unwrap().to_owned();

    // The file that the command writes is the same, byte for byte.
    house.program.run(&["export", "testimonials", "--shop", "maison", "--out", "out.csv"]).expect(0);
    assert_eq!(std::fs::read(house.program.path("out.csv")).unwrap(), answer.body);
    assert_eq!(house.left().await, (2, 5));

    // Nothing has changed: not a byte, not a row, not a date.
    for known in [etag.as_str(), &format!("W/{etag}"), &format!("\"other\", {etag}"), "*"] {
        let again = ask("GET", path, &[("if-none-match", known)]);
        assert_eq!((again.status, again.body.len()), (304, 0), "{known}");
        assert_eq!(again.header("etag"), Some(etag.as_str()));
        assert_eq!(again.header("content-type"), None);
    }
    house.quiet().await;
    assert_eq!(house.left().await, (2, 5));

    // Packed, it is the same file under a tag of its own, which is known as well.
    let packed = ask("GET", path, &[("accept-encoding", "gzip, br")]);
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(packed.body.as_slice()).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, answer.body);
    let tag_of_packed = packed.header("etag").unwrap();
    assert_ne!(tag_of_packed, etag);
    let again = ask("GET", path, &[("accept-encoding", "gzip"), ("if-none-match", tag_of_packed)]);
    assert_eq!((again.status, again.header("content-encoding")), (304, None));
    house.quiet().await;
    assert_eq!(house.left().await, (3, 5));

    // One is taken back: the tag no longer holds, and the file lacks it.
    let gone = &answer.ids()[2];
    let sql = format!("update response set consent_version = null where response_id = {gone}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(house.pool()).await.unwrap();
    let changed = ask("GET", path, &[("if-none-match", &etag)]);
    assert_eq!(changed.status, 200);
    assert!(!changed.ids().contains(gone) && changed.ids().len() == 4);

    // From a moment on.
    let since = |since: &str| ask("GET", &format!("/exports/testimonials.csv?since={since}"), &[]);
    let changed = since("2026-03-12");
    assert_eq!(changed.ids().len(), 5, "midnight in Paris was before midnight in UTC");
    assert_eq!(String::from_utf8(changed.body).unwrap().matches(",withdrawn").count(), 1);
    assert_eq!(since("2026-03-12T00:00:01Z").ids().len(), 0);
    for wrong in ["since=yesterday", "format=exel", "format=generic&format=generic", "limit=1"] {
        let refused = ask("GET", &format!("/exports/testimonials.csv?{wrong}"), &[]);
        assert_eq!(refused.status, 400, "{wrong}");
        assert!(refused.body.len() < 300);
    }
    // Who may see both shops and names none gets both.
    let both =
        house.ask("GET", "/exports/testimonials.csv", &[("authorization", &basic("team", &token("team")))]);
    assert_eq!(both.ids().len(), 6);
    house.quiet().await;
    let destinations: Vec<String> =
        sqlx::query_scalar("select distinct destination from export_run order by 1")
            .fetch_all(house.pool())
            .await
            .unwrap();
    assert_eq!(destinations, ["access marketing", "access team", "out.csv"]);
}

/// Its timestamps are those of what it shows, and not of the moment it was asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_feed_with_timestamps_is_known_again_later() {
    let house = House::new().await;
    approved(house.pool(), "maison", 2, 40).await;
    let rated = "insert into answer (shop_id, response_id, question, score) select shop_id, response_id, 'rating', 5 from response";
    sqlx::raw_sql(rated).execute(house.pool()).await.unwrap();
    let path = "/exports/testimonials.csv?shop=maison&format=google-merchant";
    let pull = |known: &str| {
        let headers = [("authorization", bearer("marketing")), ("if-none-match", known.to_owned())];
        house.ask("GET", path, &headers.each_ref().map(|(name, value)| (*name, value.as_str())))
    };
    let first = pull("");
    let body = String::from_utf8(first.body.clone()).unwrap();
    assert_eq!((first.status, body.matches("<review ").count()), (200, 2), "{body}");
    assert_eq!(
        body.matches("<create_timestamp>2026-03-10T00:00:00Z</create_timestamp>").count(),
        2,
        "{body}"
    );
    // Decided on two days later; two reviews and the shop.
    let updated = "<last_update_timestamp>2026-03-12T00:00:00Z</last_update_timestamp>";
    assert_eq!(body.matches(updated).count(), 3, "{body}");
    house.quiet().await;
    assert_eq!(house.left().await, (1, 2));
    // Timestamps have seconds.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let etag = first.header("etag").unwrap();
    let again = pull(etag);
    assert_eq!((again.status, again.header("etag")), (304, Some(etag)));
    let reply = "insert into reply (shop_id, response_id, revision, body, replied_at)
                 select shop_id, min(response_id), 1, 'Merci', '2026-03-15' from testimonial group by shop_id";
    sqlx::raw_sql(reply).execute(house.pool()).await.unwrap();
    let changed = pull(etag);
    let body = String::from_utf8(changed.body).unwrap();
    assert_eq!((changed.status, body.matches("2026-03-15T00:00:00Z").count()), (200, 1), "{body}");
}

/// Separator, decimals and headings are those of who asks, and the shop's where nobody says.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_for_people_comes_in_the_language_that_is_asked_for() {
    let house = House::new().await;
    approved(house.pool(), "maison", 1, 40).await;
    let path = "/exports/testimonials.csv?shop=maison&format=excel";
    for (more, head) in [
        ("", "\u{feff}Numéro;Boutique;"),
        ("&locale=", "\u{feff}Numéro;Boutique;"),
        ("&locale=fr", "\u{feff}Numéro;Boutique;"),
        ("&locale=en", "\u{feff}Number,Shop,"),
        ("&locale=en-GB", "\u{feff}Number,Shop,"),
    ] {
        let answer = house.get("marketing", &format!("{path}{more}"));
        let body = String::from_utf8(answer.body).unwrap();
        assert!(answer.status == 200 && body.starts_with(head), "{more}: {body}");
        house.quiet().await;
    }
    // The manifest is that of the same file.
    let file = house.get("marketing", &format!("{path}&locale=en")).body;
    house.quiet().await;
    let manifest = path.replace(".csv", ".manifest.json");
    let manifest = house.get("marketing", &format!("{manifest}&locale=en")).body;
    let sum: String = sha2::Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(String::from_utf8(manifest).unwrap().contains(&sum), "{sum}");
    for wrong in ["&locale=xx", "&locale=%00", "&locale=french"] {
        let answer = house.get("marketing", &format!("{path}{wrong}"));
        let body = String::from_utf8(answer.body).unwrap();
        assert!(answer.status == 400 && body.contains("locale: known are fr and en"), "{wrong}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_goes_away_leaves_nothing_and_memory_stays_flat() {
    let house = House::new().await;
    let n = 2_500;
    approved(house.pool(), "maison", n, 6_000).await;
    let path = "/exports/testimonials.csv?shop=maison";
    // The first request makes the program as large as it is when it works.
    assert_eq!(house.get("team", "/exports").status, 200);
    house.quiet().await;
    let before = house.peak();
    for _ in 0..3 {
        drop(house.stalled(path));
        house.quiet().await;
        assert_eq!(house.left().await, (0, 0));
    }
    let whole = house.get("team", path);
    assert_eq!(whole.ids().len(), usize::try_from(n).unwrap());
    house.quiet().await;
    assert_eq!(house.left().await, (1, n.into()));
    let grown = house.peak().saturating_sub(before);
    let size = whole.body.len() as u64;
    assert!(size > 15_000_000 && grown < size / 2, "{grown} bytes more for a file of {size}");
}

/// While a reader takes a file, its authors take their words back, and whoever exports besides waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_keeps_no_author_waiting() {
    let house = House::new().await;
    approved(house.pool(), "maison", 2_500, 6_000).await;
    let reader = house.stalled("/exports/testimonials.csv?shop=maison");
    let id: i64 =
        sqlx::query_scalar("select min(response_id) from testimonial").fetch_one(house.pool()).await.unwrap();
    house.program.run(&["testimonials", "withdraw", &id.to_string()]).expect(0);
    let began = Instant::now();
    let let_go = std::thread::spawn(move || {
        // Longer than others wait for a lock.
        std::thread::sleep(Duration::from_secs(7));
        drop(reader);
    });
    house.program.run(&["export", "testimonials", "--shop", "maison", "--out", "out.csv"]).expect(0);
    assert!(began.elapsed() > Duration::from_secs(5), "nobody was in its way");
    let_go.join().unwrap();
    let written = std::fs::read_to_string(house.program.path("out.csv")).unwrap();
    assert!(!written.lines().any(|line| line.starts_with(&format!("{id},"))));
    assert_eq!(house.left().await, (1, 2_499));
}

/// What a format cannot carry is told with the file, and said in full in the manifest, which counts nothing as published.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_format_refuses_is_told() {
    let house = House::new().await;
    approved(house.pool(), "maison", 5, 40).await;
    sqlx::raw_sql("insert into answer (shop_id, response_id, question, score) select shop_id, response_id, 'overall', 5 from response where response_id % 2 = 0")
        .execute(house.pool())
        .await
        .unwrap();
    sqlx::raw_sql(
        r#"update survey_version set questionnaire = jsonb_set(questionnaire, '{questions}', questionnaire -> 'questions' ||
               '[{"key": "overall", "type": "rating", "required": false, "in_mail": false, "when": null, "text": {}}]')"#,
    )
    .execute(house.pool())
    .await
    .unwrap();
    let without: Vec<i64> =
        sqlx::query_scalar("select response_id from response where response_id % 2 = 1 order by 1")
            .fetch_all(house.pool())
            .await
            .unwrap();
    let query = "?shop=maison&format=feefo";
    let looked = house.ask(
        "HEAD",
        &format!("/exports/testimonials.csv{query}"),
        &[("authorization", &bearer("marketing"))],
    );
    assert_eq!(looked.header("x-refused"), Some(without.len().to_string().as_str()));
    let link = format!("<testimonials.manifest.json{query}>; rel=\"describedby\"");
    assert_eq!(looked.header("link"), Some(link.as_str()));
    let manifest = house.get("marketing", &format!("/exports/testimonials.manifest.json{query}"));
    assert_eq!(manifest.header("content-type"), Some("application/json"));
    let manifest: serde_json::Value = serde_json::from_slice(&manifest.body).unwrap();
    assert_eq!(manifest["refused"], serde_json::json!({ "no_rating": without }), "{manifest}");
    assert_eq!(manifest["n_rows"], 5 - without.len());
    house.quiet().await;
    assert_eq!(house.left().await, (0, 0));
    // It is of the very file.
    let file = house.get("marketing", &format!("/exports/testimonials.csv{query}"));
    let digest: String = sha2::Sha256::digest(&file.body).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(manifest["sha256"], digest);
    assert_eq!(file.header("x-refused"), Some(without.len().to_string().as_str()));
    let whole = house.get("marketing", "/exports/testimonials.csv?shop=maison");
    assert_eq!(whole.header("x-refused"), Some("0"));
}

/// What is to be shown near the reviews can be pulled, too, and is what lies beside a file; the page leads there.
#[tokio::test(flavor = "multi_thread")]
async fn notices_are_pulled_as_the_command_writes_them() {
    let house = House::new().await;
    approved(house.pool(), "maison", 3, 40).await;
    approved(house.pool(), "atelier", 2, 40).await;
    let query = "?shop=maison&format=schema-org";
    let page = house.get("marketing", &format!("/exports{query}&locale=fr"));
    let page = String::from_utf8(page.body).unwrap().replace("&#x3D;", "=").replace("&amp;", "&");
    let mut pulled = Vec::new();
    for locale in ["fr", "en"] {
        let path = format!("exports/testimonials.notice.{locale}.md{query}");
        assert!(page.contains(&format!("href=\"{path}\"")), "{page}");
        let notice = house.get("marketing", &format!("/{path}"));
        assert_eq!(notice.header("content-type"), Some("text/markdown; charset=utf-8"));
        pulled.push((locale, String::from_utf8(notice.body).unwrap()));
    }
    house.quiet().await;
    assert_eq!(house.left().await, (0, 0));
    let export =
        ["export", "testimonials", "--shop", "maison", "--format", "schema-org", "--out", "out.jsonld"];
    house.program.run(&export).expect(0);
    for (locale, pulled) in pulled {
        let written =
            std::fs::read_to_string(house.program.path(&format!("out.notice.{locale}.md"))).unwrap();
        assert_eq!(pulled, written);
        assert!(written.contains("Maison Exemple"), "{written}");
    }
    for (query, status) in [("?format=google-product", 400), ("?since=hier", 400), ("?shop=atelier", 403)] {
        let refused = house.get("marketing", &format!("/exports/testimonials.notice.fr.md{query}"));
        assert_eq!(refused.status, status, "{query}");
    }
}

/// A wrong choice is told on the page, also to who has gone for the file.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_choice_is_told_on_the_page() {
    let house = House::new().await;
    let person = bearer("team");
    let ask = |path: &str| {
        house.ask(
            "GET",
            path,
            &[("authorization", &person), ("accept", "text/html,*/*"), ("accept-language", "fr")],
        )
    };
    for (query, says) in [
        ("format=google-product", "google-product ne peut pas être écrit pour ces boutiques"),
        ("format=exel", "exel ne peut pas être écrit"),
        ("format=%3Cb%3E", "&lt;b&gt; ne peut pas"),
        ("since=hier", "Indiquez un jour"),
    ] {
        let answer = ask(&format!("/exports?{query}"));
        let body = String::from_utf8(answer.body).unwrap();
        assert_eq!(answer.status, 400, "{query}");
        assert!(
            body.contains(says) && body.contains("<title>Erreur: ") && body.matches("autofocus").count() == 1,
            "{body}"
        );
        assert!(!body.contains("value=\"google-product\""), "what cannot be written is no choice: {body}");
        // Who wants a file by a browser is sent there.
        let answer = ask(&format!("/exports/testimonials.csv?{query}"));
        let page = format!("../exports?{query}");
        assert_eq!((answer.status, answer.header("location")), (303, Some(page.as_str())));
        // A program is told in a line.
        let answer = house.get("team", &format!("/exports/testimonials.csv?{query}"));
        assert!(answer.status == 400 && answer.body.len() < 300, "{query}");
    }
}

/// Of a look, no query is left behind that reads on.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_many_ends_when_it_is_shown() {
    let house = House::new().await;
    approved(house.pool(), "maison", 20_000, 600).await;
    let page = house.get("marketing", "/exports?locale=en");
    let reading = house
        .count(
            "pg_stat_activity where datname = current_database() and state <> 'idle' and query like '%from testimonial t%'
             and pid <> pg_backend_pid()",
        )
        .await;
    let body = String::from_utf8(page.body).unwrap();
    assert!(page.status == 200 && body.contains("There are more in the file"), "{body}");
    assert_eq!((reading, body.matches("<tr").count()), (0, 9));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_are_exported_at_a_time() {
    let house = House::new().await;
    approved(house.pool(), "maison", 2_500, 6_000).await;
    approved(house.pool(), "atelier", 2_500, 6_000).await;
    // Both at once: nobody is given more than some seconds to take a file.
    let stalled = std::thread::scope(|scope| {
        let house = &house;
        let stalled = ["maison", "atelier"].map(|shop| {
            scope.spawn(move || house.stalled(&format!("/exports/testimonials.csv?shop={shop}")))
        });
        stalled.map(|stalled| stalled.join().unwrap())
    });
    for path in ["/exports/testimonials.csv?shop=maison", "/exports", "/exports/metrics.csv"] {
        let answer = house.get("team", path);
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("30")), "{path}");
    }
    drop(stalled);
    house.quiet().await;
    assert_eq!(house.left().await, (0, 0));
    // One who does not take the file keeps the others of the shop waiting for a while, and nobody for ever.
    let stalled = house.stalled("/exports/testimonials.csv?shop=maison");
    let answer = house.get("team", "/exports/testimonials.csv?shop=maison");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("30")));
    assert_eq!(house.get("team", "/exports/testimonials.csv?shop=atelier").status, 200);
    house.quiet().await;
    assert_eq!(house.left().await, (1, 2_500));
    assert_eq!(house.get("team", "/exports/testimonials.csv?shop=maison").ids().len(), 2_500);
    drop(stalled);
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_pulled_as_the_command_writes_them() {
    let house = House::new().await;
    approved(house.pool(), "maison", 30, 30).await;
    approved(house.pool(), "atelier", 3, 30).await;
    let query = "shop=maison&by=week&segment=country&segment=product&from=2026-02-01&to=2026-05-01";
    let answer = house.get("reader", &format!("/exports/metrics.csv?{query}"));
    assert_eq!(answer.status, 200);
    let command = [
        "export",
        "metrics",
        "--shop",
        "maison",
        "--by",
        "week",
        "--segment",
        "country",
        "--segment",
        "product",
        "--from",
        "2026-02-01",
        "--to",
        "2026-05-01",
    ];
    let written = house.program.run(&command).expect(0).stdout;
    assert_eq!(String::from_utf8_lossy(&answer.body), written);
    assert!(written.lines().count() > 20);
    let etag = answer.header("etag").unwrap();
    let headers = [("authorization", bearer("reader")), ("if-none-match", etag.to_owned())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(house.ask("GET", &format!("/exports/metrics.csv?{query}"), &headers).status, 304);
    for wrong in ["by=fortnight", "segment=shoe", "from=2026-02-01&to=2026-01-01"] {
        assert_eq!(house.get("reader", &format!("/exports/metrics.csv?{wrong}")).status, 400, "{wrong}");
    }
    assert!(!String::from_utf8_lossy(&house.get("reader", "/exports/metrics.csv").body).contains("atelier"));
    assert_eq!(house.left().await, (0, 0));
}
