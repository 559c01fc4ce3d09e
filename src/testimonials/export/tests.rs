//! Every format: what it looks like, and that whoever reads it gets what the author wrote or nothing.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use proptest::prelude::*;
use quick_xml::events::Event;

use super::format::{Gone, Layout};
use super::*;
use crate::csv_rows::guarded_text;
use crate::metrics::figure::Counts;
use crate::testimonials::candidate::Reply;
use crate::testimonials::gate::Testimonial;

pub(super) fn testimonial(id: i64) -> Testimonial {
    Testimonial {
        id: ResponseId(id),
        shop: "maison".to_owned(),
        rating: Some(5),
        recommend: Some("yes".to_owned()),
        comment: "Très bien".to_owned(),
        display_name: "Claire D.".to_owned(),
        country: Some("FR".to_owned()),
        language: "fr".to_owned(),
        product_ids: vec!["P-100".to_owned()],
        ordered_on: "2026-03-01".parse().unwrap(),
        experience_date: "2026-03-03".parse().unwrap(),
        submitted_at: "2026-03-10T23:30:00Z".parse().unwrap(),
        published_at: "2026-04-01T06:00:00Z".parse().unwrap(),
        changed_at: "2026-03-12T23:30:00Z".parse().unwrap(),
        consent_version: "2026-11".to_owned(),
        reply: Some(Reply {
            text: "Merci, et à bientôt !".to_owned(),
            replied_at: "2026-03-12T23:30:00Z".parse().unwrap(),
            revision: 1,
        }),
    }
}

const NOW: &str = "2026-04-01T06:00:00Z";

fn maison() -> Shop {
    Shop {
        key: "maison".to_owned(),
        name: "Maison & Exemple".to_owned(),
        locale: Locale::parse("fr").unwrap(),
        timezone: chrono_tz::Europe::Paris,
        from: "avis@maison.example".parse().unwrap(),
        reply_to: None,
        url: "https://maison.example".to_owned(),
        color: "#1f5d4c".to_owned(),
        logo: None,
        address: None,
        privacy_url: None,
        review_places: Vec::new(),
        unhappy_next: None,
    }
}

/// How a file is asked for.
#[derive(Default, Clone, Copy)]
pub(super) struct Asked {
    pub(super) selected: bool,
    pub(super) since: bool,
    pub(super) english: bool,
    /// Not of one shop alone.
    pub(super) of_both: bool,
}

/// What is the same for a whole file, for who wants to know it.
pub(super) fn about<T>(asked: Asked, then: impl FnOnce(About<'_>) -> T) -> T {
    let (maison, now) = (maison(), NOW.parse::<DateTime<Utc>>().unwrap());
    let url = |key: &str| format!("https://{key}.example");
    let atelier = Shop { key: "atelier".to_owned(), url: url("atelier"), ..maison.clone() };
    let shops = [(ShopId(1), &maison), (ShopId(2), &atelier)];
    let urls = ["maison", "atelier"].map(|key| (key.to_owned(), format!("{}/p/{{product}}?a&b", url(key))));
    let counts = Counts::Share { hits: 93, total: 100, unknown: None };
    let selected = Selected {
        label: "Avis sélectionnés".to_owned(),
        rule: "rating >= 4".to_owned(),
        n_eligible: 12,
        recommendation: Figure::new(counts, "answers", "Of all.".to_owned()),
    };
    let (fr, en) = (Locale::parse("fr").unwrap(), Locale::english());
    then(About {
        shops: if asked.of_both { &shops } else { &shops[..1] },
        locale: if asked.english { &en } else { &fr },
        product_urls: &BTreeMap::from(urls),
        since: asked.since.then_some(now + TimeDelta::seconds(1)),
        selected: asked.selected.then_some(&selected),
        decided_at: Some("2026-03-12T10:00:00Z".parse().unwrap()),
    })
}

pub(super) fn written(
    format: &'static ExportFormat,
    asked: Asked,
    testimonials: &[Testimonial],
) -> (String, Vec<Refused>) {
    about(asked, |about| {
        let (mut file, mut refused) = (Vec::new(), Vec::new());
        let mut writing = Writing::begin(format, about, &mut file).unwrap();
        for testimonial in testimonials {
            let publishable = Publishable::sample(testimonial.clone());
            let is_new = about.since.is_some_and(|since| since <= testimonial.published_at);
            let change = if is_new { Change::Added } else { Change::Changed };
            refused.extend(writing.item(Item { publishable: &publishable, change }).unwrap().err());
        }
        writing.gone(Gone { id: ResponseId(99), shop: "maison", at: NOW.parse().unwrap() }).unwrap();
        writing.end().unwrap();
        (String::from_utf8(file).unwrap(), refused)
    })
}

/// In which column a table has the words and the name.
const TEXTS: [(&str, &str, &str); 8] = [
    ("generic", "comment", "display_name"),
    ("excel", "Avis", "Nom affiché"),
    ("judgeme", "body", "reviewer_name"),
    ("loox", "body", "author"),
    ("yotpo", "Review Content", "Reviewer Display Name"),
    ("okendo", "body", "name"),
    ("powerreviews", "Review Text", "Review Display"),
    ("feefo", "Service Comment", "Name"),
];

/// The words and the names in a file, read with somebody else's parser.
fn read_back(format: &ExportFormat, file: &str) -> Vec<(String, String)> {
    if let Some((_, words, name)) = TEXTS.iter().find(|(of, ..)| *of == format.name) {
        let (file, delimiter) = match file.strip_prefix('\u{feff}') {
            Some(file) => (file, b';'),
            None => (file, b','),
        };
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(file.as_bytes());
        let columns = reader.headers().unwrap().clone();
        let at = |column: &str| columns.iter().position(|other| other == column).unwrap();
        let (words, name) = (at(words), at(name));
        return reader
            .records()
            .map(|row| row.unwrap())
            .map(|row| (row[words].to_owned(), row[name].to_owned()))
            .collect();
    }
    match format.name {
        "google-product" | "google-merchant" => {
            let name = if format.name == "google-product" { "name" } else { "reviewer_name" };
            let of_reviews = |name: &str| -> Vec<String> {
                let ending = format!("/{name}");
                let found = elements(file)
                    .into_iter()
                    .filter(|(path, _)| path.contains("/review/") && path.ends_with(&ending));
                found.map(|(_, text)| text).collect()
            };
            of_reviews("content").into_iter().zip(of_reviews(name)).collect()
        }
        "schema-org" => {
            let value: serde_json::Value = serde_json::from_str(file).unwrap();
            let graph = value["@graph"].as_array().unwrap();
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let reviews = graph.iter().filter(|node| node["@type"] == "Review");
            reviews.map(|review| (text(&review["reviewBody"]), text(&review["author"]["name"]))).collect()
        }
        other => panic!("how is {other} read back?"),
    }
}

/// Each element of a document with its path and the text directly in it, in the order of their ends.
fn elements(xml: &str) -> Vec<(String, String)> {
    let mut reader = quick_xml::Reader::from_str(xml);
    let (mut open, mut done): (Vec<(String, String)>, _) = (Vec::new(), Vec::new());
    loop {
        match reader.read_event().unwrap() {
            Event::Start(start) => {
                let path = open.last().map(|(path, _)| path.clone()).unwrap_or_default();
                open.push((format!("{path}/{}", start.name().into_inner()), String::new()));
            }
            Event::Text(text) => {
                if let Some((_, into)) = open.last_mut() {
                    into.push_str(&text.xml10_content());
                }
            }
            Event::GeneralRef(reference) => {
                let (_, into) = open.last_mut().unwrap();
                match reference.resolve_char_ref().unwrap() {
                    Some(c) => into.push(c),
                    None => into.push_str(
                        quick_xml::escape::resolve_predefined_entity(&reference.xml10_content()).unwrap(),
                    ),
                }
            }
            Event::End(_) => done.push(open.pop().unwrap()),
            Event::Eof => return done,
            _ => {}
        }
    }
}

#[test]
fn the_list_of_formats_is_sound() {
    let names: BTreeSet<_> = EXPORT_FORMATS.iter().map(|format| format.name).collect();
    assert_eq!(names.len(), EXPORT_FORMATS.len(), "names are unique");
    for format in EXPORT_FORMATS {
        let name = format.name;
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{name}");
        assert!(!format.description.is_empty() && !format.extension.is_empty(), "{name} is described");
        for asked in
            [Asked::default(), Asked { selected: true, since: true, english: true, ..Asked::default() }]
        {
            let (file, refused) = written(format, asked, &[testimonial(7)]);
            assert_eq!(refused, [], "{name} carries what has everything");
            if let Layout::Table(_) = format.layout {
                let (file, delimiter) = match file.strip_prefix('\u{feff}') {
                    Some(file) if !asked.english => (file.to_owned(), b';'),
                    Some(file) => (file.to_owned(), b','),
                    None => (file, b','),
                };
                let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(file.as_bytes());
                let columns: BTreeSet<_> = reader.headers().unwrap().iter().map(str::to_owned).collect();
                assert_eq!(columns.len(), reader.headers().unwrap().len(), "{name}: columns are unique");
                // The reader fails where a row has more or fewer fields than the header.
                let rows = reader.records().collect::<Result<Vec<_>, _>>().unwrap().len();
                let says_gone = asked.since && format.increments == Increments::Tombstones;
                assert_eq!(rows, if says_gone { 2 } else { 1 }, "{name}");
            }
        }
    }
}

/// The first line that each reader looks for; where it comes from stands in the format's module.
#[test]
fn the_headers_are_those_that_readers_look_for() {
    for (name, header) in [
        (
            "generic",
            "testimonial_id,shop,rating,recommend,comment,display_name,country,language,product_ids,experience_date,submitted_at,\
             published_at,verified,consent_version,reply",
        ),
        (
            "excel",
            "\u{feff}Numéro;Boutique;Note (sur 5);Recommande;Avis;Nom affiché;Pays;Langue;Produits;Date de l’expérience;Déposé le;\
             Publié le;Achat vérifié;Version du consentement;Réponse de la boutique",
        ),
        (
            "judgeme",
            "title,body,rating,review_date,reviewer_name,reviewer_email,product_id,product_handle,reply,picture_urls",
        ),
        (
            "loox",
            "product_handle,product_Id,rating,author,email,body,created_at,photo_url,reply,replied_at,verified_purchase,incentivized",
        ),
        (
            "yotpo",
            "Product ID,Review Creation Date,Review Content,Review Score,Review Title,Reviewer Display Name,Reviewer Email,\
             Customer Country,Publish Review,Comment Content,Comment Date,Review Image URLs",
        ),
        (
            "okendo",
            "name,body,handle,productId,rating,sku,dateCreated,countryCode,email,imageUrls,isApproved,isIncentivized,isRecommended,\
             rejectedImageUrls,reply,replyDateCreated,replyIsPublic,title,videoUrls,isVerifiedBuyer,variantId,status",
        ),
        (
            "powerreviews",
            "Review Id,Page Id,Review Display,Review Title,Review Date,Review Location,Review Text,Rating,Verified Buyer,Review Status",
        ),
        (
            "feefo",
            "Name,Email,Sale Date,Feedback Date,Product Id,Service Rating,Service Comment,Product Rating,Product Comment,\
             Product Attributes",
        ),
    ] {
        let (file, _) = written(format(name).unwrap(), Asked::default(), &[]);
        assert_eq!(file, format!("{header}\r\n"));
    }
}

/// Our own format shows what there is under our own names.
#[test]
fn our_own_columns_have_our_own_names() {
    let Layout::Table(table) = &generic::FORMAT.layout else { panic!("a table") };
    for (name, shows) in about(Asked::default(), |about| (table.columns)(&about)) {
        assert_eq!(shows.iter().map(|field| field.name()).collect::<Vec<_>>(), [name]);
    }
}

#[test]
fn a_file_of_each_format() {
    let full = Testimonial {
        comment: "Rapide, \"soigné\" ; <b>& merci</b>\r\n\nà bientôt".to_owned(),
        ..testimonial(7)
    };
    let bare = Testimonial {
        rating: None,
        recommend: None,
        display_name: String::new(),
        country: None,
        product_ids: vec![],
        ..testimonial(8)
    };
    let hostile = Testimonial {
        comment: "=HYPERLINK(\"http://evil.example\",\"x\")".to_owned(),
        recommend: Some("no".to_owned()),
        rating: Some(1),
        language: "en".to_owned(),
        display_name: String::new(),
        ..testimonial(9)
    };
    let several = Testimonial { product_ids: vec!["a".to_owned(), "b".to_owned()], ..testimonial(10) };
    for format in EXPORT_FORMATS {
        let (file, refused) = written(
            format,
            Asked::default(),
            &[full.clone(), bare.clone(), hostile.clone(), several.clone()],
        );
        insta::assert_snapshot!(format.name, format!("{file}\nrefused: {refused:?}"));
    }
}

#[test]
fn selections_and_withdrawals_in_a_file() {
    for name in ["generic", "excel", "schema-org"] {
        let asked = Asked { selected: true, since: true, english: true, ..Asked::default() };
        let (file, _) = written(format(name).unwrap(), asked, &[testimonial(7)]);
        insta::assert_snapshot!(format!("{name} of a selection since"), file);
    }
    let asked = Asked { since: true, ..Asked::default() };
    let (file, _) = written(format("google-merchant").unwrap(), asked, &[]);
    insta::assert_snapshot!("google-merchant since", file);
    let (french, _) =
        written(format("excel").unwrap(), Asked { selected: true, ..Asked::default() }, &[testimonial(7)]);
    assert!(french.contains(";0,9300;100"), "decimals have a comma: {french}");
}

/// What each feed's documents require of a review, in their order.
#[test]
fn the_feeds_have_what_their_schema_requires_in_its_order() {
    let product = [
        "review_id",
        "reviewer",
        "is_verified_purchase",
        "review_timestamp",
        "content",
        "review_language",
        "review_country",
        "review_url",
        "ratings",
        "products",
        "collection_method",
    ];
    let merchant = [
        "reviewer_name",
        "create_timestamp",
        "last_update_timestamp",
        "country_code",
        "content",
        "ratings",
        "collection_method",
    ];
    for (name, expected) in [("google-product", product.as_slice()), ("google-merchant", &merchant)] {
        let (file, _) = written(format(name).unwrap(), Asked::default(), &[testimonial(7), testimonial(8)]);
        let elements = elements(&file);
        let inside: Vec<&str> = elements
            .iter()
            .filter_map(|(path, _)| path.strip_prefix("/feed/reviews/review/"))
            .filter(|rest| !rest.contains('/'))
            .collect();
        assert_eq!(inside, [expected, expected].concat(), "{name}");
        let text =
            |path: &str| elements.iter().find(|(other, _)| other == path).map(|(_, text)| text.as_str());
        assert_eq!(text("/feed/reviews/review/ratings/overall"), Some("5"));
        if name == "google-product" {
            assert_eq!(text("/feed/version"), Some("2.4"));
            assert_eq!(text("/feed/publisher/name"), Some("Maison & Exemple"));
            assert_eq!(text("/feed/reviews/review/review_timestamp"), Some("2026-03-10T23:30:00Z"));
            let url = Some("https://maison.example/p/P-100?a&b");
            assert_eq!(text("/feed/reviews/review/products/product/product_url"), url);
            assert_eq!(text("/feed/reviews/review/products/product/product_ids/skus/sku"), Some("P-100"));
        } else {
            assert_eq!(text("/feed/merchants/merchant/name"), Some("Maison & Exemple"));
            assert_eq!(text("/feed/merchants/merchant/last_update_timestamp"), Some("2026-03-12T10:00:00Z"));
            assert_eq!(text("/feed/reviews/review/create_timestamp"), Some("2026-03-10T23:30:00Z"));
            assert_eq!(text("/feed/reviews/review/last_update_timestamp"), Some("2026-03-12T23:30:00Z"));
        }
    }
}

#[test]
fn what_readers_limit_is_refused_and_not_cut() {
    let refused = |name: &str, testimonial: Testimonial| {
        written(format(name).unwrap(), Asked::default(), &[testimonial]).1
    };
    let long = Testimonial { display_name: "é".repeat(41), ..testimonial(7) };
    assert_eq!(refused("powerreviews", long.clone()), [Refused::TooLong]);
    assert_eq!(refused("judgeme", long), []);
    let product = Testimonial { product_ids: vec!["P 100".to_owned()], ..testimonial(7) };
    assert_eq!(refused("powerreviews", product), [Refused::WrongProduct]);
    let cell = Testimonial { comment: "x".repeat(40_000), ..testimonial(7) };
    assert_eq!(refused("excel", cell.clone()), [Refused::TooLong]);
    assert_eq!(refused("generic", cell), []);
    let country = Testimonial { country: None, ..testimonial(7) };
    assert_eq!(refused("google-merchant", country), [Refused::NoCountry]);
}

#[test]
fn what_must_not_be_written_is_said_before() {
    let rules = config::Testimonials::default();
    let selection = Selection::parse(Some("Avis"), Some(4), None, &[]).unwrap();
    for format in EXPORT_FORMATS.iter().filter(|format| format.name != "google-product") {
        assert_eq!(check(format, ["maison"], &rules, None, false), Ok(()));
        assert_eq!(
            check(format, ["maison"], &rules, selection.as_ref(), false).is_ok(),
            format.says_selection
        );
        assert_eq!(
            check(format, ["maison"], &rules, None, true).is_ok(),
            format.increments != Increments::Never
        );
    }
    let product = format("google-product").unwrap();
    assert!(check(product, ["maison"], &rules, None, false).unwrap_err().contains("product_urls"));
    let product_urls = BTreeMap::from([("maison".to_owned(), "https://maison.example/{product}".to_owned())]);
    let rules = config::Testimonials { product_urls, ..rules };
    assert_eq!(check(product, ["maison"], &rules, None, false), Ok(()));
    assert!(check(product, ["maison"], &rules, None, true).unwrap_err().contains("whole"));
    assert!(check(product, ["maison", "other"], &rules, None, false).is_err());
}

/// What people type, at its worst.
fn typed() -> impl Strategy<Value = String> {
    prop_oneof![
        r#"(?s)[=+\-@＝'", ;|<>&(!)\]\t\r\n\u{0}-\u{10ffff}]{1,60}"#,
        r#"[=+\-@]?[a-zA-Zé (|!]{0,20}"#,
        Just("]]><!--</script>&amp;\u{2028}\u{85}".to_owned()),
    ]
    .prop_filter("the gate lets no blank words through", |text| !text.trim().is_empty())
}

proptest! {
    #[test]
    fn what_was_typed_comes_back_or_is_refused(
        comment in typed(), name in typed(), reply in typed(), product in "[a-zA-Z0-9=@(|!&<é -]{1,12}",
    ) {
        let one = Testimonial {
            reply: testimonial(7).reply.map(|said| Reply { text: reply.clone(), ..said }),
            comment: comment.clone(),
            display_name: name.clone(),
            product_ids: vec![product],
            ..testimonial(7)
        };
        // Whatever becomes of the first, the one after it is whole.
        let other = testimonial(8);
        for format in EXPORT_FORMATS {
            let (file, refused) = written(format, Asked::default(), &[one.clone(), other.clone()]);
            let mut read = read_back(format, &file);
            prop_assert_eq!(read.pop(), Some((other.comment.clone(), other.display_name.clone())), "{}", format.name);
            let expected = match refused.as_slice() {
                [] if format.name == "excel" => vec![(guarded_text(&comment).into_owned(), guarded_text(&name).into_owned())],
                [] => vec![(comment.clone(), name.clone())],
                [_] => vec![],
                [_, ..] => panic!("{refused:?}"),
            };
            prop_assert_eq!(read, expected, "{}", format.name);
            if format.name == "generic" {
                prop_assert!(refused.is_empty());
                let mut reader = csv::Reader::from_reader(file.as_bytes());
                let at = reader.headers().unwrap().iter().position(|column| column == "reply").unwrap();
                let first = reader.records().next().unwrap().unwrap();
                prop_assert_eq!(&first[at], reply.as_str());
            }
            if format.name == "schema-org" {
                prop_assert!(!file.contains('<'));
            }
        }
    }

    /// The guard can be taken off again, and what it leaves begins no formula.
    #[test]
    fn a_guarded_text_is_no_formula_and_not_lost(text in typed()) {
        let cell = guarded_text(&text);
        let begins = |text: &str| text.trim_start_matches([' ', '\u{a0}', '\u{feff}', '\u{3000}']).starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
        prop_assert!(!begins(&cell));
        prop_assert_eq!(if cell.len() > text.len() { cell.strip_prefix('\'').unwrap() } else { &*cell }, text.as_str());
    }
}
