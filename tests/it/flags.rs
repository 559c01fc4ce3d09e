//! How often the rules see something where there is nothing, on words that people wrote.

use std::collections::{BTreeMap, HashSet};

use afterword::testimonials::flags::{About, Flag, Rule, flags};

use crate::support::shared;

fn looked_at(text: &str, rating: Option<i16>, none: &HashSet<String>) -> Vec<Flag> {
    let about = About {
        locale: "pt-BR",
        rating,
        recommend: None,
        order: "A-1001",
        last_name: Some("Silva"),
        staff: &[],
        other_orders: none,
    };
    flags(text, &about)
}

/// The comments are in Portuguese, which no table knows: what can be measured is contact data, links and capitals, and how often French and
/// English words are seen in them by mistake. Of 2,114 comments 14 have contact data (read by hand: six telephone numbers and three mail
/// addresses, and five long numbers of orders and deliveries that are none), 17 a link (all of them a shop that is called like its
/// address), 74 are in capitals, 5 seem to contradict their score (`super` before a word that denies it), 1 has a name (`M.Boa`), and none
/// is profane.
#[test]
fn false_alarms_on_real_comments() {
    let Some(shared) = shared() else { return };
    let none = HashSet::new();
    let mut reader = csv::Reader::from_path(shared.join("data/olist/reviews.csv")).unwrap();
    let header = reader.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|column| column == name).unwrap();
    let (words, score) = (column("review_comment_message"), column("review_score"));
    let (mut n, mut counted) = (0, BTreeMap::new());
    for record in reader.records() {
        let record = record.unwrap();
        let text = &record[words];
        if text.trim().is_empty() {
            continue;
        }
        n += 1;
        let flags = looked_at(text, record[score].parse().ok(), &none);
        let rules: HashSet<Rule> = flags.iter().map(|flag| flag.rule).collect();
        for rule in rules.into_iter().filter(|rule| *rule != Rule::Language) {
            *counted.entry(rule).or_insert(0) += 1;
        }
    }
    assert!(n > 1_000, "{n}");
    let share = |rule| f64::from(counted.get(&rule).copied().unwrap_or(0)) / f64::from(n);
    assert!(share(Rule::Contact) < 0.01, "{counted:?}");
    assert!(share(Rule::Link) < 0.01, "{counted:?}");
    assert!(share(Rule::Profanity) < 0.001, "{counted:?}");
    assert!(share(Rule::Contradiction) < 0.02, "{counted:?}");
}

/// The strings that break other programs (naughty.rs sends them through every field): each can be looked at, and each flag points into it.
#[test]
fn naughty_strings_can_be_looked_at() {
    let none = HashSet::new();
    let corpus: BTreeMap<String, Vec<String>> =
        serde_json::from_str(include_str!("data/naughty.json")).unwrap();
    for text in corpus.values().flatten() {
        for flag in looked_at(text, Some(1), &none) {
            assert!(flag.start < flag.end && flag.end <= text.chars().count(), "{flag:?} of {text:?}");
        }
    }
}
