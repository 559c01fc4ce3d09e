//! The demo is the first thing that anybody sees.

use std::collections::BTreeMap;

use crate::support::data_dir;
use crate::support::program::{command, ran};

#[test]
fn the_demo_shows_the_whole_way_and_starts_afresh() {
    let dir = data_dir();
    let demo = || {
        // It empties its database, so it must never be somebody's: a database of the environment is not even looked at.
        let mut command = command(dir.path());
        ran(command
            .env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/shop")
            .args(["demo", "--exit"])
            .output()
            .unwrap())
        .expect(0)
    };
    let first = demo();
    for shown in ["report.html", "latest.csv", "outbox", "jobs.toml"] {
        assert!(first.stdout.contains(shown), "no {shown} in:\n{}", first.stdout);
    }
    let out = dir.path().join(".demo");
    let n_mails = std::fs::read_dir(out.join("outbox")).unwrap().count();
    assert!(n_mails > 200, "{n_mails} mails");
    let mut rows = csv::Reader::from_path(out.join("exports/testimonials/latest.csv")).unwrap();
    let rows: Vec<BTreeMap<String, String>> = rows.deserialize().map(Result::unwrap).collect();
    assert!(rows.len() > 20, "{} testimonials", rows.len());
    assert!(rows.iter().any(|row| row["recommend"] == "no"), "not only the happy ones");
    let spreadsheet = std::fs::read_to_string(out.join("exports/testimonials/spreadsheet.csv")).unwrap();
    assert!(spreadsheet.starts_with("\u{feff}Numéro;"), "{spreadsheet}");
    let manifest =
        std::fs::read_to_string(out.join("exports/testimonials/spreadsheet.manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["n_rows"].as_u64(), Some(rows.len() as u64), "{manifest}");
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(out.join("report.json")).unwrap()).unwrap();
    let answered = report["shops"][0]["metrics"]["recommendation_rate"]["denominator"].as_i64().unwrap();

    // The story of an order is told in the order in which it happened.
    let explain = command(dir.path())
        .args(["--config", ".demo/jobs.toml", "explain", "order", "100042"])
        .output()
        .unwrap();
    let story = ran(explain).expect(0).stdout;
    let place = |what: &str| story.find(what).unwrap_or_else(|| panic!("no {what:?} in:\n{story}"));
    assert!(place("ordered") < place("imported") && place("imported") < place("to be asked"), "{story}");

    // Again: the same shop, nothing doubled.
    demo();
    assert_eq!(std::fs::read_dir(out.join("outbox")).unwrap().count(), n_mails);
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(out.join("report.json")).unwrap()).unwrap();
    assert_eq!(report["shops"][0]["metrics"]["recommendation_rate"]["denominator"].as_i64(), Some(answered));
}
