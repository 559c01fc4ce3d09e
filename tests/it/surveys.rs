//! Questionnaires: what `check` shows of them before anybody is asked, and what stays as it was asked.

use std::collections::BTreeSet;

use crate::pages;
use crate::support::factories::at;
use crate::support::http;
use crate::support::program::{Program, shipped, shipped_with};
use crate::support::smtp::{Accepted, Relay};

/// The text of a page, without its markup, its runs of white space as one space.
fn text_of(html: &str) -> String {
    let document = scraper::Html::parse_document(html);
    let body = scraper::Selector::parse("body").unwrap();
    let words = document.select(&body).flat_map(|body| body.text()).flat_map(str::split_whitespace);
    words.collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn check_shows_the_pages_of_each_survey_in_each_language() {
    let program = Program::new(&shipped()).await;
    let report = program.run(&["check", "--json", "--render", "renders"]).expect(0).json();
    let folder = program.path("renders/pages/maison");
    let names: BTreeSet<String> =
        folder.read_dir().unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    let mut expected = BTreeSet::new();
    for (survey, low, high) in
        [("satisfaction", "no", "yes"), ("nps", "0", "10"), ("after-service", "no", "yes")]
    {
        for case in ["form", "errors"] {
            expected.extend(["en", "fr"].map(|locale| format!("{survey}.{case}.{locale}.html")));
        }
        for (case, answer) in [("form", low), ("form", high), ("thanks", low), ("thanks", high)] {
            expected.extend(["en", "fr"].map(|locale| format!("{survey}.{case}.{answer}.{locale}.html")));
        }
    }
    assert_eq!(names, expected);
    assert_eq!(report["pages"], expected.len());

    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    assert!(
        text_of(&read("satisfaction.form.fr.html"))
            .contains("Recommanderiez-vous Maison Exemple à un proche ?")
    );
    assert!(
        text_of(&read("satisfaction.form.en.html"))
            .contains("Would you recommend Maison Exemple to a friend?")
    );
    let checked = |name: &str| {
        let document = scraper::Html::parse_document(&read(name));
        let checked = scraper::Selector::parse("input[type=radio][checked]").unwrap();
        document
            .select(&checked)
            .filter_map(|input| input.attr("value").map(str::to_owned))
            .collect::<Vec<_>>()
    };
    assert_eq!(checked("nps.form.en.html"), Vec::<String>::new());
    assert_eq!(checked("nps.form.10.en.html"), ["10"], "as the mail's link opens it");
    // What is missing is said, and what was typed is still there.
    let errors = read("satisfaction.errors.en.html");
    assert!(errors.contains("aria-invalid") && errors.contains("…………"), "{errors}");
    assert_ne!(
        text_of(&read("satisfaction.thanks.no.en.html")),
        text_of(&read("satisfaction.thanks.yes.en.html"))
    );

    // The pages find their stylesheets on disk, and the index finds the pages.
    let document = scraper::Html::parse_document(&errors);
    let styles = scraper::Selector::parse("link[rel=stylesheet]").unwrap();
    let styles: Vec<_> = document.select(&styles).filter_map(|link| link.attr("href")).collect();
    assert_eq!(styles.len(), 2, "{styles:?}");
    for style in styles {
        assert!(folder.join(style).is_file(), "{style}");
    }
    let index = std::fs::read_to_string(program.path("renders/index.html")).unwrap();
    let document = scraper::Html::parse_document(&index);
    let links = scraper::Selector::parse("a").unwrap();
    let links: Vec<_> = document.select(&links).filter_map(|link| link.attr("href")).collect();
    assert!(links.len() > expected.len(), "{index}");
    for link in links {
        assert!(program.path("renders").join(link).is_file(), "{link}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wording_that_a_shops_customers_cannot_read_is_told() {
    let english_only = shipped().replacen("fr = \"Votre note globale\", ", "", 1).replacen(
        "choices = [",
        "choices = [\"smell\", ",
        1,
    );
    assert_ne!(english_only, shipped());
    let program = Program::new(&english_only).await;
    let report = program.run(&["check", "--json"]).expect(0).json();
    let warnings: Vec<_> =
        report["warnings"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    for part in ["the question \"overall\"", "the choice \"smell\""] {
        let told =
            warnings.iter().filter(|w| w.contains(part) && w.contains("\"fr\"") && w.contains("maison"));
        assert_eq!(told.count(), 1, "{part}: {warnings:#?}");
    }
    program.configure(&shipped());
    let report = program.run(&["check", "--json"]).expect(0).json();
    assert_eq!(report["warnings"].as_array().unwrap().len(), 0, "{report}");
}

/// The survey's link of a mail, below this address.
fn link(mail: &Accepted, address: std::net::SocketAddr) -> String {
    let text = mail.text();
    let at = text.find("/s/").unwrap_or_else(|| panic!("{text}"));
    let path: String = text[at..].chars().take_while(|c| !c.is_whitespace() && *c != '?').collect();
    format!("http://{address}{path}")
}

/// The shipped jobs.toml, and a program that has mailed the customer of A-1; that of A-2 is due two days later.
async fn one_of_two_mailed(relay: &Relay) -> (String, Program) {
    let config = shipped_with(relay.port);
    let program = Program::new(&config).await;
    let file = program.write(
        "orders.csv",
        "order_id,email,ordered_at,fulfilled_at\n\
         A-1,claire@customer.example,2026-03-01T10:00:00Z,2026-03-03T10:00:00Z\n\
         A-2,hugo@customer.example,2026-03-02T10:00:00Z,2026-03-05T10:00:00Z\n",
    );
    program.run(&["import", "orders", file.to_str().unwrap(), "--shop", "maison"]).expect(0);
    program.run(&["run", "send-invitations", "--as-of", "2026-03-11T10:00:00Z"]).expect(0);
    (config, program)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_stays_as_it_was_asked() {
    let relay = Relay::start();
    let (old, program) = one_of_two_mailed(&relay).await;
    assert_eq!(relay.accepted().len(), 1);

    // Another question, and one that is new.
    let wording = "Recommanderiez-vous {{shop.name}}";
    let new = old.replacen(wording, "Parleriez-vous de {{shop.name}}", 1).replacen(
        "[[survey.satisfaction.question]]\nkey = \"overall\"",
        "[[survey.satisfaction.question]]\nkey = \"packaging\"\ntype = \"rating\"\ntext = { fr = \"L’emballage ?\", en = \"The parcel?\" }\n\n\
         [[survey.satisfaction.question]]\nkey = \"overall\"",
        1,
    );
    assert!(new.contains("packaging") && new.contains("Parleriez-vous"));
    program.configure(&new);
    program.run(&["run", "send-invitations", "--as-of", "2026-03-13T10:00:00Z"]).expect(0);
    let mails = relay.accepted();
    assert_eq!(mails.len(), 2);
    assert!(mails[0].text().contains("Recommanderiez-vous") && mails[1].text().contains("Parleriez-vous"));

    let context = program.context(at("2026-03-14T10:00:00Z")).await;
    let (address, stop, served) = pages::listen(&context).await;
    let (asked_old, asked_new) = (http::get(&link(&mails[0], address)), http::get(&link(&mails[1], address)));
    assert!(asked_old.body.contains("Recommanderiez-vous") && !asked_old.body.contains("emballage"));
    assert!(asked_new.body.contains("Parleriez-vous") && asked_new.body.contains("emballage"));
    for page in [&asked_old, &asked_new] {
        http::post(&page.url, &page.with_hidden(&[("recommend", "yes"), ("packaging", "2")]));
    }
    stop.cancel();
    served.await.unwrap().unwrap();

    // Each answer belongs to the questions it answered; neither set was changed by the other.
    let answers: Vec<(String, String, String)> = sqlx::query_as(
        "select o.external_id, string_agg(question, ',' order by question),
                split_part(questionnaire->'questions'->0->'text'->>'fr', ' ', 1)
         from response r join answer using (shop_id, response_id) join \"order\" o using (shop_id, order_id)
         join survey_version v on v.shop_id = r.shop_id and v.survey_version_id = r.survey_version_id
         group by o.external_id, questionnaire order by 1",
    )
    .fetch_all(&program.db.pool)
    .await
    .unwrap();
    let expected =
        [("A-1", "recommend", "Recommanderiez-vous"), ("A-2", "packaging,recommend", "Parleriez-vous")];
    let expected = expected.map(|(order, keys, word)| (order.to_owned(), keys.to_owned(), word.to_owned()));
    assert_eq!(answers, expected);
    // The old words again are the old version again.
    program.configure(&old);
    program.run(&["run", "send-invitations", "--as-of", "2026-03-15T10:00:00Z"]).expect(0);
    let versions: i64 =
        sqlx::query_scalar("select count(*) from survey_version where survey = 'satisfaction'")
            .fetch_one(&program.db.pool)
            .await
            .unwrap();
    assert_eq!(versions, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_in_other_words_needs_another_version() {
    let relay = Relay::start();
    let (old, program) = one_of_two_mailed(&relay).await;

    let consent = old.find("[[survey.satisfaction.question]]\nkey = \"publish\"").unwrap();
    let (before, question) = old.split_at(consent);
    let reworded = format!("{before}{}", question.replacen("fr = \"", "fr = \"Oui : ", 1));
    program.configure(&reworded);
    let said = program.run(&["check"]).expect(2).stderr;
    for part in ["satisfaction", "\"publish\"", "(fr)", "\"2026-11\"", "change `version`"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    // Nobody is asked for what nobody could tell later.
    let said = program.run(&["run", "send-invitations", "--as-of", "2026-03-13T10:00:00Z"]).expect(1).stderr;
    assert!(said.contains("change `version`"), "{said}");
    assert_eq!(relay.accepted().len(), 1);

    // In a further language it is the same; under another name it may say anything.
    let translated = format!("{before}{}", question.replacen("fr = \"", "de = \"Ja\", fr = \"", 1));
    let renamed = reworded.replacen("version = \"2026-11\"", "version = \"2026-12\"", 1);
    for config in [translated, renamed] {
        program.configure(&config);
        program.run(&["check"]).expect(0);
    }
    program.run(&["run", "send-invitations", "--as-of", "2026-03-13T10:00:00Z"]).expect(0);
    assert_eq!(relay.accepted().len(), 2);
}
