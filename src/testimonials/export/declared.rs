//! What the columns and elements of each format say they show, held against the files: one thing about a testimonial is changed after the
//! other, and what becomes different has to be what was declared, all of it and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use quick_xml::events::Event;

use super::EXPORT_FORMATS;
use super::format::{ExportFormat, Layout};
use super::tests::{Asked, about, testimonial, written};
use crate::testimonials::candidate::Reply;
use crate::testimonials::gate::Testimonial;
use crate::testimonials::public::Field;
use crate::types::ResponseId;

/// The name of what is around the testimonials, where it shows nothing of them.
const FRAME: &str = "(frame)";

/// What a file of one testimonial holds, by the name of the column, element or attribute.
fn parts(format: &ExportFormat, file: &str) -> BTreeMap<String, String> {
    match &format.layout {
        Layout::Table(_) => {
            let file = file.strip_prefix('\u{feff}').unwrap_or(file);
            let delimiter = if file.lines().next().unwrap().contains(';') { b';' } else { b',' };
            let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(file.as_bytes());
            let names = reader.headers().unwrap().clone();
            let row = reader.records().next().unwrap().unwrap();
            names.iter().zip(&row).map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
        }
        Layout::Document(_) if file.starts_with('<') => of_xml(file),
        Layout::Document(_) => of_json(file),
    }
}

/// The attributes of a review, and what it consists of, each with its tags and all in it.
fn of_xml(file: &str) -> BTreeMap<String, String> {
    const REVIEW: usize = 3;
    let mut reader = quick_xml::Reader::from_str(file);
    let (mut parts, mut open): (BTreeMap<String, String>, Vec<String>) = Default::default();
    loop {
        let event = reader.read_event().unwrap();
        match &event {
            Event::Eof => return parts,
            Event::Start(start) => {
                let name = start.name().into_inner().to_owned();
                open.push(name);
                if open.len() == REVIEW && open[2] == "review" {
                    for attribute in start.attributes() {
                        let attribute = attribute.unwrap();
                        let name = attribute.key.into_inner();
                        let value = attribute.value.into_owned();
                        parts.insert(format!("@{name}"), value);
                    }
                    continue;
                }
            }
            _ => {}
        }
        let within_review = open.len() > REVIEW && open[2] == "review";
        let part = if within_review { open[REVIEW].clone() } else { FRAME.to_owned() };
        parts.entry(part).or_default().push_str(&format!("{event:?}"));
        if matches!(event, Event::End(_)) {
            open.pop();
        }
    }
}

/// The properties of a review, and what is said of the shop's rating as a whole.
fn of_json(file: &str) -> BTreeMap<String, String> {
    let value: serde_json::Value = serde_json::from_str(file).unwrap();
    let mut parts = BTreeMap::new();
    for node in value["@graph"].as_array().unwrap() {
        let is_review = node["@type"] == "Review";
        let of_all = node.get("aggregateRating").map(|_| "aggregateRating");
        for (name, value) in node.as_object().unwrap() {
            let part = of_all.unwrap_or(if is_review { name } else { FRAME });
            let text: &mut String = parts.entry(part.to_owned()).or_default();
            text.push_str(&value.to_string());
        }
    }
    parts
}

/// A testimonial, and the same with other values of these fields, which cannot change apart from each other.
type Change = (&'static [Field], Testimonial, Testimonial);

fn changes() -> Vec<Change> {
    let full = || testimonial(7);
    let unnamed = || Testimonial { display_name: String::new(), ..full() };
    let reply = || full().reply.unwrap();
    let text = |text: &str| text.to_owned();
    let one = |fields: &'static [Field], changed: Testimonial| (fields, full(), changed);
    vec![
        one(&[Field::TestimonialId], Testimonial { id: ResponseId(8), ..full() }),
        one(&[Field::Shop], Testimonial { shop: text("atelier"), ..full() }),
        one(&[Field::Rating], Testimonial { rating: Some(4), ..full() }),
        one(&[Field::Rating], Testimonial { rating: None, ..full() }),
        one(&[Field::Recommend], Testimonial { recommend: Some(text("no")), ..full() }),
        one(&[Field::Recommend], Testimonial { recommend: None, ..full() }),
        one(&[Field::Comment], Testimonial { comment: text("Bien"), ..full() }),
        one(&[Field::DisplayName], Testimonial { display_name: text("Nour"), ..full() }),
        one(&[Field::DisplayName], unnamed()),
        one(&[Field::Country], Testimonial { country: Some(text("BE")), ..full() }),
        one(&[Field::Country], Testimonial { country: None, ..full() }),
        one(&[Field::Language], Testimonial { language: text("en"), ..full() }),
        (&[Field::Language], unnamed(), Testimonial { language: text("en"), ..unnamed() }),
        one(&[Field::ProductIds], Testimonial { product_ids: vec![text("P-200")], ..full() }),
        one(&[Field::ProductIds], Testimonial { product_ids: vec![], ..full() }),
        one(&[Field::ProductIds], Testimonial { product_ids: vec![text("a"), text("b")], ..full() }),
        one(&[Field::OrderedOn], Testimonial { ordered_on: "2026-02-20".parse().unwrap(), ..full() }),
        one(
            &[Field::ExperienceDate],
            Testimonial { experience_date: "2026-03-05".parse().unwrap(), ..full() },
        ),
        one(
            &[Field::SubmittedAt],
            Testimonial { submitted_at: "2026-03-20T10:00:00Z".parse().unwrap(), ..full() },
        ),
        one(
            &[Field::PublishedAt],
            Testimonial { published_at: "2026-04-02T06:00:00Z".parse().unwrap(), ..full() },
        ),
        one(
            &[Field::ChangedAt],
            Testimonial { changed_at: "2026-03-20T10:00:00Z".parse().unwrap(), ..full() },
        ),
        one(&[Field::ConsentVersion], Testimonial { consent_version: text("2027-01"), ..full() }),
        one(&[Field::Reply], Testimonial { reply: Some(Reply { text: text("Merci"), ..reply() }), ..full() }),
        one(
            &[Field::RepliedAt],
            Testimonial {
                reply: Some(Reply { replied_at: "2026-03-22T10:00:00Z".parse().unwrap(), ..reply() }),
                ..full()
            },
        ),
        // Of how often a reply was changed nobody learns.
        one(&[], Testimonial { reply: Some(Reply { revision: 2, ..reply() }), ..full() }),
        one(&[Field::Reply, Field::RepliedAt], Testimonial { reply: None, ..full() }),
    ]
}

const EVERY_WAY: [Asked; 3] = [
    Asked { selected: false, since: false, english: false, of_both: false },
    Asked { selected: false, since: false, english: false, of_both: true },
    Asked { selected: true, since: true, english: true, of_both: true },
];

#[test]
fn every_column_shows_what_it_declares_and_nothing_else() {
    // That an order was verified is the gate's doing, and never otherwise.
    let mut tried: BTreeSet<Field> = changes().iter().flat_map(|(fields, ..)| *fields).copied().collect();
    tried.insert(Field::Verified);
    assert_eq!(tried, Field::ALL.into_iter().collect(), "every field is changed");
    let mut shown_somewhere = BTreeSet::new();
    for format in EXPORT_FORMATS {
        let (mut found, mut changed) = (BTreeSet::new(), BTreeSet::new());
        let mut declared: BTreeMap<&str, BTreeSet<Field>> = BTreeMap::new();
        for asked in EVERY_WAY {
            let columns = match &format.layout {
                Layout::Table(table) => about(asked, |about| (table.columns)(&about)),
                Layout::Document(document) => document.elements.to_vec(),
            };
            declared
                .extend(columns.into_iter().map(|(name, fields)| (name, fields.iter().copied().collect())));
            for (fields, before, after) in changes() {
                if fields == [Field::Shop] && !asked.of_both {
                    continue; // There is no other.
                }
                let [before, after] = [before, after].map(|one| written(format, asked, &[one]));
                if !after.1.is_empty() {
                    continue; // The format cannot carry it so.
                }
                let [before, after] = [before.0, after.0].map(|file| parts(format, &file));
                for name in before.keys().chain(after.keys()) {
                    found.insert(name.clone());
                    if before.get(name) == after.get(name) {
                        continue;
                    }
                    let shows = declared.get(name.as_str());
                    assert!(
                        shows.is_some_and(|shows| fields.iter().any(|field| shows.contains(field))),
                        "{}: {name} declares {shows:?} and shows {fields:?}",
                        format.name
                    );
                    changed.extend(fields.iter().map(|field| (name.clone(), *field)));
                }
            }
        }
        found.remove(FRAME);
        let names: BTreeSet<_> = declared.keys().map(|name| (*name).to_owned()).collect();
        assert_eq!(found, names, "{}: what there is, and what is declared", format.name);
        for (name, fields) in declared {
            for field in fields.into_iter().filter(|field| *field != Field::Verified) {
                assert!(
                    changed.contains(&(name.to_owned(), field)),
                    "{}: {name} does not show {field:?}",
                    format.name
                );
                shown_somewhere.insert(field);
            }
        }
    }
    shown_somewhere.insert(Field::Verified);
    assert_eq!(
        shown_somewhere,
        Field::ALL.into_iter().collect(),
        "what may be shown is shown by some format"
    );
}
