//! The scanners' gauntlet: robots that ask for every link and send every form they find in a thousand mails, before, while and after
//! people answer. Not one figure changes, not one person's answer is lost, nobody is opted out.
//!
//! The mails are those that the program writes, and the robots know nothing but what stands in them and on the pages. They all go at the
//! same pace: between two steps the pages are served anew, three seconds later on their clock, so that a patient robot costs no patience.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use afterword::context::Context;
use afterword::types::Clock;
use afterword::web;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt as _, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::support::factories::at;
use crate::support::program::Program;
use crate::support::{random, say};

const MAILS: usize = 1_000;
/// When the mails leave.
const MAILED: &str = "2026-03-10T09:00:00Z";
/// Between two steps of the robots.
const STEP: TimeDelta = TimeDelta::seconds(3);
/// Between two steps of a robot that waits as long as a person would.
const PATIENCE: TimeDelta = TimeDelta::seconds(6);
/// Requests at the same time.
const AT_ONCE: usize = 32;

const CONFIG: &str = r#"
[app]
base_url = "https://avis.shop.example/feedback"

[database]

[mail]
transport = "file"

[[shop]]
key = "maison"
name = "Maison Exemple"
locale = "fr"
timezone = "Europe/Paris"
from = "Maison Exemple <avis@shop.example>"
url = "https://shop.example"

[survey.satisfaction]
delay = "7d"
recommendation = { question = "recommend", yes = ["yes"] }

[[survey.satisfaction.question]]
key = "recommend"
type = "recommend"
required = true
in_mail = true
text = { fr = "Recommanderiez-vous {{shop.name}} ?" }

[[survey.satisfaction.question]]
key = "overall"
type = "rating"
text = { fr = "Votre note" }

[[survey.satisfaction.question]]
key = "topic"
type = "choice"
choices = ["delivery", "product", "other"]
when = { recommend = ["no"] }
text = { fr = "Qu'est-ce qui vous a déplu ?" }

[[survey.satisfaction.question]]
key = "comment"
type = "text"
max_length = 4000
text = { fr = "Vos mots" }

[[survey.satisfaction.question]]
key = "publish"
type = "consent"
version = "2026-01"
text = { fr = "Vous pouvez publier mon avis" }

[jobs.send-invitations]
kind = "send_invitations"
[jobs.send-invitations.params]
survey = "satisfaction"
"#;

/// A mail as its recipient's machines see it.
struct Mail {
    order: String,
    /// Every link of ours, in order, each once: of the text, of the HTML, of the headers.
    links: Vec<String>,
}

impl Mail {
    fn read(bytes: &[u8]) -> Self {
        let mail = mail_parser::MessageParser::default().parse(bytes).unwrap();
        let mut found = String::new();
        for part in [mail.body_text(0).unwrap(), mail.body_html(0).unwrap()] {
            found.push_str(&part);
            found.push('\n');
        }
        found.push_str(mail.header_raw("List-Unsubscribe").unwrap());
        let text = unescaped(&found);
        let mut seen = BTreeSet::new();
        let links = text
            .split("https://avis.shop.example/feedback")
            .skip(1)
            .map(|rest| {
                rest.split(|c: char| c.is_whitespace() || "\"'<>".contains(c)).next().unwrap().to_owned()
            })
            .filter(|link| seen.insert(link.clone()))
            .collect();
        let order = text.split("A-").nth(1).unwrap();
        let order = order.split(|c: char| !c.is_ascii_digit()).next().unwrap();
        Self { order: format!("A-{order}"), links }
    }

    fn link(&self, what: &str) -> &str {
        self.links
            .iter()
            .find(|link| link.contains(what))
            .unwrap_or_else(|| panic!("no {what}: {:?}", self.links))
    }
}

/// A form of a page, as a program sees it that knows HTML.
#[derive(Debug, Clone)]
struct FoundForm {
    action: String,
    /// What is sent when nothing is touched, without the button.
    fields: Vec<(String, String)>,
    /// What could be chosen: radio buttons and check boxes.
    options: Vec<(String, String)>,
    button: Option<(String, String)>,
}

impl FoundForm {
    fn all(page: &str) -> Vec<Self> {
        page.split("<form").skip(1).map(|rest| Self::read(rest.split("</form>").next().unwrap())).collect()
    }

    fn read(html: &str) -> Self {
        let attribute = |tag: &str, name: &str| {
            let value = tag.split_once(&format!(" {name}=\""))?.1.split_once('"')?.0;
            Some(unescaped(value))
        };
        let mut form = Self {
            action: attribute(html, "action").unwrap(),
            fields: Vec::new(),
            options: Vec::new(),
            button: None,
        };
        for element in html.split('<').skip(1) {
            let (tag, text) = element.split_once('>').unwrap();
            let Some(name) = attribute(tag, "name") else { continue };
            let value = attribute(tag, "value").unwrap_or_default();
            if tag.starts_with("textarea") {
                form.fields.push((name, unescaped(text.strip_prefix('\n').unwrap_or(text))));
            } else if tag.starts_with("button") {
                form.button = form.button.or(Some((name, value)));
            } else if tag.starts_with("input") && (tag.contains("\"radio\"") || tag.contains("\"checkbox\""))
            {
                if tag.contains(" checked") {
                    form.fields.push((name.clone(), value.clone()));
                }
                form.options.push((name, value));
            } else if tag.starts_with("input") {
                form.fields.push((name, value));
            }
        }
        form
    }

    /// What is sent, with some fields set otherwise.
    fn with(&self, set: &[(&str, &str)]) -> Action {
        let is_set = |name: &str| set.iter().any(|(other, _)| *other == name);
        let kept = self.fields.iter().filter(|(name, _)| !is_set(name)).cloned();
        let set = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let fields = kept.chain(set).chain(self.button.clone()).collect();
        Action::Post(self.action.clone(), fields)
    }
}

fn unescaped(text: &str) -> String {
    let names = [
        ("&quot;", "\""),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&#x27;", "'"),
        ("&#x3D;", "="),
        ("&#x60;", "`"),
        ("&amp;", "&"),
    ];
    names.iter().fold(text.to_owned(), |text, (name, character)| text.replace(name, character))
}

/// One request.
#[derive(Debug, Clone)]
enum Action {
    Ask(&'static str, String),
    Post(String, Vec<(String, String)>),
}

struct Reply {
    status: u16,
    body: String,
}

async fn request(address: SocketAddr, action: &Action) -> Reply {
    let (method, path, body) = match action {
        Action::Ask(method, path) => (*method, path, None),
        Action::Post(path, fields) => {
            let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
            let pairs = fields.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
            ("POST", path, Some(pairs.collect::<Vec<_>>().join("&")))
        }
    };
    // The proxy in front takes its folder off; links and forms have it.
    let path = path.strip_prefix("/feedback").unwrap_or(path);
    let form = body.map_or_else(String::new, |body| {
        format!(
            "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    });
    let end = if form.is_empty() { "\r\n" } else { "" };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nUser-Agent: Mozilla/5.0 (Windows NT 10.0)\r\n{form}{end}"
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.unwrap();
    let reply = String::from_utf8(reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(status < 500, "{method} {path}: {head}");
    Reply { status, body: body.to_owned() }
}

/// How a robot goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    /// Asks for every link in all ways, one after the other; then sends every form it has found.
    InOrder,
    /// Opens every link and sends the form it finds as it is, and the one it gets back, too.
    AsFound,
    /// The same with every option of every form.
    EveryOption,
    /// As the second, twice at the same time.
    TwoAtOnce,
    /// As the first, three seconds between two requests.
    PatientInOrder,
    /// As the second, three seconds between two requests.
    PatientAsFound,
}

const BEHAVIOURS: [Behaviour; 6] = [
    Behaviour::InOrder,
    Behaviour::AsFound,
    Behaviour::EveryOption,
    Behaviour::TwoAtOnce,
    Behaviour::PatientInOrder,
    Behaviour::PatientAsFound,
];

impl Behaviour {
    fn is_patient(self) -> bool {
        matches!(self, Self::PatientInOrder | Self::PatientAsFound)
    }
}

/// A robot at work on one mail.
struct Robot {
    behaviour: Behaviour,
    todo: VecDeque<Action>,
    /// Forms that wait until all links were followed.
    found: Vec<FoundForm>,
    n_requests: usize,
}

impl Robot {
    fn new(behaviour: Behaviour, mail: &Mail) -> Self {
        let ask = |method| move |link: &String| Action::Ask(method, link.clone());
        let todo = match behaviour {
            Behaviour::InOrder | Behaviour::PatientInOrder => {
                let each = mail.links.iter().flat_map(|link| {
                    let asks = ["HEAD", "OPTIONS", "GET"].map(|method| Action::Ask(method, link.clone()));
                    asks.into_iter().chain([Action::Post(link.clone(), Vec::new())])
                });
                each.collect()
            }
            _ => mail.links.iter().map(ask("GET")).collect(),
        };
        Self { behaviour, todo, found: Vec::new(), n_requests: 0 }
    }

    /// Does the next thing; `false`: there is none.
    async fn act(&mut self, address: SocketAddr) -> bool {
        let Some(action) = self.todo.pop_front() else { return false };
        self.n_requests += 1;
        let reply = match self.behaviour {
            Behaviour::TwoAtOnce => {
                self.n_requests += 1;
                let (one, other) = tokio::join!(request(address, &action), request(address, &action));
                if one.body.len() > other.body.len() { one } else { other }
            }
            _ => request(address, &action).await,
        };
        let forms = FoundForm::all(&reply.body);
        let is_reply = matches!(action, Action::Post(..));
        match self.behaviour {
            Behaviour::InOrder | Behaviour::PatientInOrder => self.found.extend(forms),
            Behaviour::AsFound | Behaviour::TwoAtOnce | Behaviour::PatientAsFound => {
                // What comes back is sent once more, but not for ever.
                let is_second = matches!(&action, Action::Post(_, fields) if fields.iter().any(|(name, _)| name == "again"));
                for form in forms.iter().filter(|_| !is_second) {
                    let again: &[(&str, &str)] = if is_reply { &[("again", "1")] } else { &[] };
                    self.todo.push_front(form.with(again));
                }
            }
            Behaviour::EveryOption => {
                for form in forms.iter().filter(|_| !is_reply) {
                    self.todo.push_front(form.with(&[]));
                    for (name, value) in &form.options {
                        self.todo.push_front(form.with(&[("recommend", "no"), (name, value)]));
                    }
                }
            }
        }
        if self.todo.is_empty() {
            self.todo.extend(std::mem::take(&mut self.found).iter().map(|form| form.with(&[])));
            // The forms that come back now are not followed any more.
            if self.behaviour == Behaviour::InOrder || self.behaviour == Behaviour::PatientInOrder {
                self.behaviour =
                    if self.behaviour.is_patient() { Behaviour::PatientAsFound } else { Behaviour::AsFound };
            }
        }
        true
    }
}

/// Serves the pages at a moment, while something is done with them.
async fn pages<T>(context: &Context, moment: DateTime<Utc>, visit: impl AsyncFnOnce(SocketAddr) -> T) -> T {
    let context = Context { clock: Clock::Fixed(moment), ..context.clone() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let served = tokio::spawn(web::serve(listener, context, stop.clone()));
    let visited = visit(address).await;
    stop.cancel();
    served.await.unwrap().unwrap();
    visited
}

/// Lets the robots loose from a moment on; how many requests they made.
async fn scan(context: &Context, from: DateTime<Utc>, mut robots: Vec<Robot>, step: TimeDelta) -> usize {
    let mut moment = from;
    let mut n_requests = 0;
    while !robots.is_empty() {
        let ended = pages(context, moment, async |address| {
            stream::iter(robots.drain(..))
                .map(async |mut robot| {
                    let mut goes_on = robot.act(address).await;
                    while goes_on && !robot.behaviour.is_patient() {
                        goes_on = robot.act(address).await;
                    }
                    (goes_on, robot)
                })
                .buffer_unordered(AT_ONCE)
                .collect::<Vec<_>>()
                .await
        });
        for (goes_on, robot) in ended.await {
            if goes_on {
                robots.push(robot);
            } else {
                n_requests += robot.n_requests;
            }
        }
        moment += step;
    }
    n_requests
}

/// What a person says: nothing, or an answer.
struct Person<'m> {
    mail: &'m Mail,
    recommend: &'static str,
    overall: String,
    comment: String,
    publishes: bool,
}

impl<'m> Person<'m> {
    fn new(n: usize, mail: &'m Mail) -> Self {
        Self {
            mail,
            recommend: if random(n).is_multiple_of(3) { "no" } else { "yes" },
            overall: (1 + random(n + 1) % 5).to_string(),
            comment: format!("Mes mots, n° {n} : « bien » & <b>vite</b>"),
            publishes: n.is_multiple_of(4),
        }
    }

    async fn open(&self, address: SocketAddr) -> FoundForm {
        let link = self.mail.link(&format!("recommend={}", self.recommend)).to_owned();
        let page = request(address, &Action::Ask("GET", link)).await;
        assert_eq!(page.status, 200);
        FoundForm::all(&page.body).remove(0)
    }

    fn filled_in(&self, form: &FoundForm) -> Action {
        let mut set = vec![
            ("recommend", self.recommend),
            ("overall", self.overall.as_str()),
            ("comment", self.comment.as_str()),
        ];
        // Who is asked once more ticks that they are a person.
        if form.options.iter().any(|(name, _)| name == "form.person") {
            set.push(("form.person", "yes"));
        }
        if self.publishes {
            set.push(("publish", "yes"));
        }
        form.with(&set)
    }

    /// What has to be there in the end.
    fn expected(&self) -> (String, String, Option<String>) {
        let answers =
            format!("comment={}|overall={}|recommend={}", self.comment, self.overall, self.recommend);
        (self.mail.order.clone(), answers, self.publishes.then(|| "2026-01".to_owned()))
    }
}

async fn all<T, R>(things: impl IntoIterator<Item = T>, each: impl AsyncFn(T) -> R) -> Vec<R> {
    let each = &each;
    stream::iter(things).map(async |thing| each(thing).await).buffer_unordered(AT_ONCE).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_mails_are_scanned_and_no_figure_changes() {
    let program = Program::new(CONFIG).await;
    let mut orders = "order_id,email,ordered_at,fulfilled_at,status,first_name,last_name\n".to_owned();
    for n in 0..MAILS {
        orders.push_str(&format!(
            "A-{},c{n}@customer.example,2026-02-25T09:00:00Z,2026-03-01T09:00:00Z,fulfilled,Claire,Duval\n",
            100_000 + n
        ));
    }
    program.write("orders.csv", orders);
    program.run(&["import", "orders", "orders.csv", "--shop", "maison", "--as-of", MAILED]).expect(0);
    program.run(&["run", "send-invitations", "--as-of", MAILED]).expect(0);
    let mut mails: Vec<Mail> = std::fs::read_dir(program.path("data/outbox"))
        .unwrap()
        .map(|entry| Mail::read(&std::fs::read(entry.unwrap().path()).unwrap()))
        .collect();
    mails.sort_by(|a, b| a.order.cmp(&b.order));
    assert_eq!(mails.len(), MAILS);
    assert_eq!(mails[0].links.len(), 3, "yes, no, the way out: {:?}", mails[0].links);
    let context = Arc::new(program.context(at(MAILED)).await);
    let pool = &program.db.pool;
    let robots = |mails: &[&Mail], shift: usize| {
        let each = mails.iter().enumerate();
        each.map(|(n, mail)| Robot::new(BEHAVIOURS[(n + shift) % BEHAVIOURS.len()], mail)).collect::<Vec<_>>()
    };

    // Before: the mails have hardly arrived.
    let everybody: Vec<&Mail> = mails.iter().collect();
    let mut n_requests =
        scan(&context, at(MAILED) + TimeDelta::seconds(2), robots(&everybody, 0), STEP).await;
    let counted = async || {
        let sql = "select count(*) from response where counted";
        sqlx::query_scalar::<_, i64>(sql).fetch_one(pool).await.unwrap()
    };
    assert_eq!(counted().await, 0);
    let n_suspect: i64 = sqlx::query_scalar("select count(*) from response where verdict = 'suspect'")
        .fetch_one(pool)
        .await
        .unwrap();
    assert!(n_suspect > 1_000, "the robots have sent something: {n_suspect}");

    // People: six in ten answer an hour later. On some of them a scanner looks in while they write; those are asked once more.
    let people: Vec<Person<'_>> = mails.iter().enumerate().map(|(n, mail)| Person::new(n, mail)).collect();
    let (people, quiet) = people.split_at(MAILS * 6 / 10);
    let opened_at = at(MAILED) + TimeDelta::hours(1);
    let forms = pages(&context, opened_at, async |address| {
        all(people, async |person| (person, person.open(address).await)).await
    })
    .await;
    let watched: Vec<&Mail> = people.iter().take(120).map(|person| person.mail).collect();
    let watched_orders: BTreeSet<&str> = watched.iter().map(|mail| mail.order.as_str()).collect();
    n_requests += scan(&context, opened_at + TimeDelta::seconds(10), robots(&watched, 1), STEP).await;
    let sent_at = opened_at + TimeDelta::minutes(5);
    let replies = pages(&context, sent_at, async |address| {
        all(&forms, async |(person, form)| (*person, request(address, &person.filled_in(form)).await)).await
    })
    .await;
    let (thanked, asked): (Vec<_>, Vec<_>) = replies.into_iter().partition(|(_, reply)| reply.status == 303);
    for (person, reply) in &asked {
        assert!(
            watched_orders.contains(person.mail.order.as_str()),
            "{} was asked once more",
            person.mail.order
        );
        assert!(reply.body.contains("&lt;b&gt;vite&lt;/b&gt;"), "what was typed is there again");
    }
    assert_eq!(thanked.len() + asked.len(), people.len());
    pages(&context, sent_at + TimeDelta::seconds(8), async |address| {
        all(&asked, async |(person, reply)| {
            let form = FoundForm::all(&reply.body).remove(0);
            let reply = request(address, &person.filled_in(&form)).await;
            assert_eq!(reply.status, 303, "once more is enough");
        })
        .await
    })
    .await;
    // And a few use the way out, at a person's pace: one press is enough.
    let leavers = &quiet[..20];
    let doors = pages(&context, opened_at, async |address| {
        all(leavers, async |person| {
            let page = request(address, &Action::Ask("GET", person.mail.link("/u/").to_owned())).await;
            FoundForm::all(&page.body).remove(0)
        })
        .await
    })
    .await;
    pages(&context, opened_at + TimeDelta::seconds(3), async |address| {
        all(&doors, async |form| request(address, &form.with(&[])).await.status).await
    })
    .await;
    let suppressed = async || {
        let sql = "select count(*) from suppression";
        sqlx::query_scalar::<_, i64>(sql).fetch_one(pool).await.unwrap()
    };
    assert_eq!((counted().await, suppressed().await), (600, 20));
    let figures = async || {
        let report = program.run(&["report", "--json", "--as-of", "2026-03-11T09:00:00Z"]).expect(0).json();
        let mut metrics = report["shops"][0]["metrics"].clone();
        for (_, figure) in metrics.as_object_mut().unwrap() {
            // This one says what the robots would have changed.
            figure.as_object_mut().unwrap().remove("with_suspects");
        }
        metrics
    };
    let before = figures().await;
    let n_yes = people.iter().filter(|person| person.recommend == "yes").count();
    assert_eq!(before["recommendation_rate"]["numerator"], n_yes);
    assert_eq!(before["recommendation_rate"]["denominator"], 600);
    assert_eq!(before["response_rate"]["numerator"], 600);

    // After: again all of them, on the heels of the people.
    let all_mails: Vec<&Mail> =
        mails.iter().filter(|mail| leavers.iter().all(|person| person.mail.order != mail.order)).collect();
    let rest = |mails: &[&'_ Mail]| robots(mails, 2);
    n_requests += scan(&context, sent_at + TimeDelta::seconds(12), rest(&all_mails), STEP).await;
    // And patiently, where somebody has answered: a program that waits as long as a person would changes no answer and opts nobody out.
    let answered: Vec<&Mail> = people.iter().map(|person| person.mail).collect();
    let much_later = sent_at + TimeDelta::hours(2);
    let patient = answered.iter().map(|mail| Robot::new(Behaviour::PatientAsFound, mail)).collect();
    n_requests += scan(&context, much_later, patient, PATIENCE).await;
    say(&format!("the robots made {n_requests} requests"));
    let after = figures().await;
    let quiet_counted: Vec<String> = sqlx::query_scalar(
        r#"select o.external_id || ' ' || r.answered_at::text from response r join "order" o using (shop_id, order_id)
           where r.counted and r.answered_at > $1 order by 1"#,
    )
    .bind(sent_at + TimeDelta::seconds(10))
    .fetch_all(pool)
    .await
    .unwrap();
    assert_eq!(quiet_counted, Vec::<String>::new(), "no robot was taken for a person");
    assert_eq!(after, before);
    assert_eq!((counted().await, suppressed().await), (600, 20));
    let stored: Vec<(String, String, Option<String>)> = sqlx::query_as(
        r#"select o.external_id, string_agg(a.question || '=' || coalesce(a.score::text, a.choice, a.body), '|' order by a.question),
                  r.consent_version
           from response r join "order" o using (shop_id, order_id) join answer a using (shop_id, response_id)
           where r.counted group by o.external_id, r.consent_version order by 1"#,
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert_eq!(stored, people.iter().map(Person::expected).collect::<Vec<_>>());
    let reasons: BTreeMap<String, i64> = sqlx::query_as::<_, (String, i64)>(
        "select suspicion::text, count(*) from response where verdict = 'suspect' group by 1",
    )
    .fetch_all(pool)
    .await
    .unwrap()
    .into_iter()
    .collect();
    say(&format!("suspect by reason: {reasons:?}"));
    let story = program.run(&["explain", "order", &mails[0].order]).expect(0).stdout;
    assert!(story.contains("suspect, kept but not counted, because"), "{story}");
}
