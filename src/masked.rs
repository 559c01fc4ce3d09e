//! What may be logged and kept of the words of others: errors, file names, replies of relays.

use serde_json::Value;

use crate::db::outage::from_database;

/// An error with its causes in one line, without what may be personal: of a database error only its code and constraint are kept,
/// because its message can quote a value, and a word with an at sign is masked.
pub fn reason(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        if let Some(sqlx::Error::Database(database)) = from_database(cause) {
            let code = database.code().unwrap_or_default();
            let place = database.constraint().or(database.table());
            let in_words = if code == "53300" { ": it has no connection left for us" } else { "" };
            parts.push(format!(
                "the database refused it with {code}{}{in_words}",
                place.map(|place| format!(" ({place})")).unwrap_or_default()
            ));
            break;
        }
        let text = cause.to_string();
        // A cause that its effect has quoted already says nothing new.
        if !parts.last().is_some_and(|last| last.ends_with(&text)) {
            parts.push(text);
        }
    }
    words(&parts.join(": "))
}

/// The text in one line, without the words that look like an address.
pub fn words(text: &str) -> String {
    text.split_whitespace()
        .map(|word| if word.contains('@') { "(…)" } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Masks every text in a value; a second line of defence, for what relays and files have put in there.
pub fn json(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('@') => *text = words(text),
        Value::Array(values) => values.iter_mut().for_each(json),
        Value::Object(fields) => fields.values_mut().for_each(json),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn a_reason_keeps_the_causes_and_drops_addresses() {
        let error = anyhow!("row 3: claire@maison.example is odd").context("cannot read orders.csv");
        assert_eq!(reason(&error), "cannot read orders.csv: row 3: (…) is odd");
        let io = std::fs::read("/nonexistent/x").context("cannot open the folder").unwrap_err();
        assert!(reason(&io).starts_with("cannot open the folder: No such file"), "{}", reason(&io));
    }

    #[test]
    fn a_report_is_masked_wherever_an_address_stands() {
        let mut details =
            serde_json::json!({ "files": [{ "file": "claire@maison.example.csv", "n_read": 3 }] });
        json(&mut details);
        assert_eq!(details, serde_json::json!({ "files": [{ "file": "(…)", "n_read": 3 }] }));
    }
}
