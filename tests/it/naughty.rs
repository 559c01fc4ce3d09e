//! What people and other systems write, at its worst, goes through every field of text and comes out again: on the page, in the mail, in
//! the CSV file, on the terminal and in the report. It must come out as it went in, and must never become markup, a template, a header
//! line or a command to a terminal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use afterword::token::Purpose;
use afterword::types::{InvitationId, ShopId};
use afterword::web;
use chrono::{DateTime, TimeDelta, Utc};
use mail_parser::MessageParser;
use scraper::{Html, Node, Selector};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::factories::at;
use crate::support::http::{get, post};
use crate::support::program::{Program, shipped};

/// The shop's name is one of them.
const SHOP: &str = "Maison <b>&amp; \"Exemple\"</b> {{x}} '";

/// One customer: what is written into the order's fields, and into the survey's.
#[derive(Debug, Clone)]
struct Person {
    name: String,
    words: String,
}

/// The corpus, and the ways in which a page may look because something is not there.
fn people() -> Vec<Person> {
    let corpus: BTreeMap<String, Vec<String>> =
        serde_json::from_str(include_str!("data/naughty.json")).unwrap();
    let long = ["é", "x", "李", "\u{1f600}"].map(|text| text.repeat(4000));
    let both = |text: String| Person { name: text.clone(), words: text };
    let plain = [("Claire", "Merci"), ("Claire", ""), ("", "Merci"), ("", "")];
    let plain = plain.map(|(name, words)| Person { name: name.to_owned(), words: words.to_owned() });
    plain.into_iter().chain(corpus.into_values().flatten().chain(long).map(both)).collect()
}

/// The order's number, with the text in it where a number may have it and a mail does not shorten it.
fn order_id(n: usize, text: &str) -> String {
    let fits = text.chars().count() < 50 && !text.chars().any(char::is_control);
    if fits { format!("{n} {text}").trim().to_owned() } else { n.to_string() }
}

fn orders(people: &[Person]) -> Vec<u8> {
    let mut file = csv::Writer::from_writer(Vec::new());
    let header =
        ["order_id", "email", "ordered_at", "fulfilled_at", "first_name", "last_name", "items", "locale"];
    file.write_record(header.into_iter().chain(["attributes.note"])).unwrap();
    for (n, Person { name, words }) in people.iter().enumerate() {
        let (id, email) = (order_id(n, name), format!("n{n}@customer.example"));
        let (ordered, fulfilled) = ("2026-03-01T09:00:00Z", "2026-03-02T09:00:00Z");
        file.write_record([&id, &email, ordered, fulfilled, name, name, name, "en", words]).unwrap();
    }
    file.into_inner().unwrap()
}

/// The elements of a document with the names of their attributes, and of the attributes that a browser acts upon, the values.
fn skeleton(html: &Html) -> Vec<String> {
    let elements = html.tree.root().descendants().filter_map(|node| match node.value() {
        Node::Element(element) => {
            let acting = ["type", "name", "method", "rel", "src", "style"];
            let mut attributes: Vec<String> = element
                .attrs()
                .map(
                    |(name, value)| {
                        if acting.contains(&name) { format!("{name}={value}") } else { name.to_owned() }
                    },
                )
                .collect();
            attributes.sort();
            Some(format!("{} {}", element.name(), attributes.join(" ")))
        }
        Node::Comment(comment) => Some(format!("comment {}", &**comment)),
        _ => None,
    });
    elements.collect()
}

fn text_of(html: &Html) -> String {
    html.root_element().text().collect()
}

/// Control characters and marks of writing direction, which have no place in a name.
fn is_unseen(c: char) -> bool {
    c.is_control() || matches!(c, '\u{61c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A name or number as a mail has it: what would begin an encoded word is taken apart, and nothing in it is unseen.
fn in_mail(text: &str) -> String {
    let blank = |c: char| if c.is_whitespace() { ' ' } else { c };
    text.replace("=?", "= ?").chars().map(blank).filter(|c| !is_unseen(*c)).collect()
}

/// Shop, invitation, address, first name, product ids, and an attribute of the order.
type Mailed = (i32, i64, String, Option<String>, Vec<String>, Option<String>);

/// What a browser shows of it: white space is one blank.
fn flat(text: &str) -> String {
    text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

async fn listen(program: &Program, now: DateTime<Utc>) -> (String, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    tokio::spawn(web::serve(listener, program.context(now).await, stop.clone()));
    (base, stop)
}

/// Of what stands for everything of one kind, which shapes there are; `kind` says what may make a difference.
#[derive(Default)]
struct Shapes(BTreeMap<(&'static str, bool, bool), Vec<String>>);

impl Shapes {
    /// The first of a kind is a plain one and sets the shape.
    fn check(&mut self, kind: (&'static str, bool, bool), html: &Html, of: &str) {
        let shape = skeleton(html);
        let expected = self.0.entry(kind).or_insert_with(|| shape.clone());
        assert_eq!(*expected, shape, "{kind:?}: {of:?}");
    }
}

fn mails(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    let by_recipient = files.map(|mail| {
        let parsed = MessageParser::new().parse(&mail).unwrap();
        (parsed.to().unwrap().first().unwrap().address().unwrap().to_owned(), mail)
    });
    by_recipient.collect()
}

/// Nothing that a terminal would obey.
#[track_caller]
fn speaks_to_no_terminal(printed: &str) {
    let found = printed.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(found, None, "in {:?}", printed.lines().find(|line| line.chars().any(char::is_control)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_write_comes_out_as_they_wrote_it() {
    let people = people();
    let config = shipped()
        .replace("name = \"Maison Exemple\"", &format!("name = {SHOP:?}"))
        .replace("display_name = \"first_name_initial\"", "display_name = \"as_given\"");
    let program = Program::new(&config).await;
    program.write("orders.csv", orders(&people));

    // In: a row with a NUL byte is refused, and says where; the others are taken, names without what cannot stand in a header.
    let refused = people.iter().filter(|person| person.name.contains('\0')).count();
    let import = ["import", "orders", "orders.csv", "--shop", "maison", "--json"];
    let imported = program.run(&import).expect(3).json();
    assert_eq!(imported[0]["n_read"], people.len());
    assert_eq!(imported[0]["n_rejected"], refused);
    assert_eq!(imported[0]["n_inserted"], people.len() - refused);
    let as_of = "2026-03-10T09:00:00Z";
    let dry = program.run(&["run", "send-invitations", "--dry-run", "--as-of", as_of]).expect(0);
    speaks_to_no_terminal(&dry.stdout);
    program.run(&["run", "send-invitations", "--as-of", as_of]).expect(0);

    let rows: Vec<Mailed> = sqlx::query_as(
        r#"select i.shop_id, i.invitation_id, c.email, c.first_name, o.items, o.attributes ->> 'note'
           from invitation i join "order" o using (shop_id, order_id)
           join customer c on c.shop_id = i.shop_id and c.customer_id = i.customer_id order by o.order_id"#,
    )
    .fetch_all(&program.db.pool)
    .await
    .unwrap();
    assert_eq!(rows.len(), people.len() - refused);

    let mails = mails(&program.path("data/outbox"));
    let open_at = at("2026-03-11T09:00:00Z");
    let (page, stop) = listen(&program, open_at).await;
    let (later, stop_later) = listen(&program, open_at + TimeDelta::minutes(5)).await;
    let tokens = program.context(open_at).await.tokens;
    let mut shapes = Shapes::default();
    let mut headers: BTreeSet<Vec<String>> = BTreeSet::new();
    let mut answered: BTreeMap<i64, (String, String)> = BTreeMap::new();
    for (shop, invitation, email, first_name, items, note) in &rows {
        let n: usize = email.strip_prefix('n').unwrap().split('@').next().unwrap().parse().unwrap();
        let Person { name, words } = &people[n];
        if !name.trim().contains(is_unseen) && name.chars().count() <= 100 {
            assert_eq!(first_name.as_deref().unwrap_or_default(), name.trim());
        }
        let kept: Vec<&str> = name.split('|').map(str::trim).filter(|item| !item.is_empty()).collect();
        assert_eq!(*items, kept);
        assert_eq!(note.as_deref().unwrap_or_default().trim(), words.trim(), "attributes");

        // The mail: the same header lines for everybody, the same elements, and the name as it is.
        let mail = MessageParser::new().parse(&mails[email]).unwrap();
        headers.insert(mail.headers().iter().map(|header| header.name().to_owned()).collect());
        assert_eq!(mail.to().unwrap().iter().count(), 1, "{name:?}");
        let html = Html::parse_document(&mail.body_html(0).unwrap());
        shapes.check(("mail", first_name.is_some(), false), &html, name);
        let (shown, plain) = (flat(&text_of(&html)), flat(&mail.body_text(0).unwrap()));
        for part in [SHOP, &in_mail(&order_id(n, name))] {
            assert!(shown.contains(&flat(part)), "{part:?} in the mail's HTML: {shown}");
            assert!(plain.contains(&flat(part)), "{part:?} in the mail's text: {plain}");
        }
        // A mail greets nobody by what could be a link, and a name there has no unseen characters.
        let called = first_name.as_deref().unwrap_or_default();
        if !called.contains(['@', ':', '.', '=']) && !called.contains(is_unseen) {
            assert!(plain.contains(&flat(&in_mail(called))), "{called:?} in the mail's text: {plain}");
        }

        // The page, before and after an answer.
        let token = tokens.issue(Purpose::Survey, ShopId(*shop), InvitationId(*invitation));
        let form = get(&format!("{page}/s/{token}"));
        assert_eq!(form.status, 200);
        let html = Html::parse_document(&form.body);
        shapes.check(("form", first_name.is_some(), false), &html, name);
        let shown = flat(&text_of(&html));
        for part in [first_name.as_deref().unwrap_or_default(), SHOP, &order_id(n, name)] {
            assert!(shown.contains(&flat(part)), "{part:?} on the page: {shown}");
        }
        let short: String = name.chars().take(60).collect();
        let fields = [("recommend", "yes"), ("comment", words), ("publish", "yes"), ("publish.name", &short)];
        let fields = form.with_hidden(&fields);
        assert_eq!(post(&format!("{later}/s/{token}"), &fields).status, 200, "{words:?}");
        let html = Html::parse_document(&get(&format!("{later}/s/{token}")).body);
        shapes.check(("answered", first_name.is_some(), !words.trim().is_empty()), &html, words);
        let one = |css: &str| html.select(&Selector::parse(css).unwrap()).next().unwrap();
        let typed: String = one("textarea").text().collect();
        let written = words.replace("\r\n", "\n");
        let written = if written.trim().is_empty() { "" } else { &written };
        assert_eq!(typed, written, "on the page again");
        let called =
            short.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
        let called = called.collect::<Vec<_>>().join(" ");
        assert_eq!(one("input[name='publish.name']").attr("value").unwrap(), called);
        answered.insert(*invitation, (written.to_owned(), called));
    }
    assert_eq!(headers.len(), 1, "{headers:?}");
    stop.cancel();
    stop_later.cancel();

    // A text that the database cannot keep is not kept in another form: the page says so, and what was typed is still there.
    let (shop, invitation, ..) = &rows[0];
    let (page, stop) = listen(&program, open_at + TimeDelta::hours(1)).await;
    let token = tokens.issue(Purpose::Survey, ShopId(*shop), InvitationId(*invitation));
    let fields =
        get(&format!("{page}/s/{token}")).with_hidden(&[("recommend", "yes"), ("comment", "kept a\0b")]);
    let refused = post(&format!("{page}/s/{token}"), &fields);
    assert_eq!(refused.status, 422);
    assert!(refused.body.contains("kept a"), "{}", refused.body);
    stop.cancel();

    // On the terminal, to a moderator.
    let listed = program.run(&["testimonials", "list"]).expect(0);
    speaks_to_no_terminal(&listed.stdout);
    for (n, person) in people.iter().enumerate().step_by(7) {
        let id = order_id(n, &person.name);
        if !person.name.contains('\0') && !id.starts_with('-') {
            speaks_to_no_terminal(&program.run(&["explain", "order", &id]).expect(0).stdout);
        }
    }

    // Out: the file has the words and the name, byte for byte.
    program.run(&["testimonials", "approve", "--all-pending"]).expect(0);
    program.run(&["export", "testimonials", "--shop", "maison", "--out", "out.csv"]).expect(0);
    let invitations: Vec<(i64, i64)> =
        sqlx::query_as("select response_id, invitation_id from response where counted")
            .fetch_all(&program.db.pool)
            .await
            .unwrap();
    let invitations: BTreeMap<i64, i64> = invitations.into_iter().collect();
    let mut exported = csv::Reader::from_path(program.path("out.csv")).unwrap();
    let mut n_exported = 0;
    for row in exported.deserialize() {
        let row: BTreeMap<String, String> = row.unwrap();
        let (words, name) = &answered[&invitations[&row["testimonial_id"].parse::<i64>().unwrap()]];
        assert_eq!(row["comment"], *words);
        if !name.is_empty() {
            assert_eq!(row["display_name"], *name);
        }
        n_exported += 1;
    }
    assert_eq!(n_exported, answered.values().filter(|(words, _)| !words.is_empty()).count());

    // The report names the shop and nobody else.
    program.run(&["report", "--html", "report.html", "--as-of", "2026-03-12"]).expect(0);
    let report = Html::parse_document(&std::fs::read_to_string(program.path("report.html")).unwrap());
    assert!(flat(&text_of(&report)).contains(&flat(SHOP)));
    assert!(report.select(&Selector::parse("b").unwrap()).next().is_none());
    speaks_to_no_terminal(&program.run(&["report"]).expect(0).stdout);
}
