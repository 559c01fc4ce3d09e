//! The documents say what is true now, as far as a test can tell.

use std::path::{Path, PathBuf};

use afterword::cli::Cli;
use afterword::jobs::JOB_KINDS;
use clap::CommandFactory as _;

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn every_invariant_names_tests_that_exist() {
    let architecture = read("ARCHITECTURE.md");
    let rows: Vec<&str> =
        architecture.lines().filter(|line| line.starts_with("| ") && line.contains("::")).collect();
    assert_eq!(rows.len(), 11, "one row an invariant");
    for row in rows {
        check_tests(row);
    }
}

/// The last cell of a table's row names tests, all of which must be there.
fn check_tests(row: &str) {
    let names: Vec<&str> = row.rsplit('|').nth(1).unwrap().split('`').skip(1).step_by(2).collect();
    assert!(!names.is_empty(), "no test: {row}");
    for name in names {
        let (module, test) = name.split_once("::").unwrap();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/{module}.rs"));
        // A file, or a folder of them.
        let sources: Vec<PathBuf> = match std::fs::read_dir(file.with_extension("")) {
            Ok(files) => files.map(|file| file.unwrap().path()).collect(),
            Err(_) => vec![file],
        };
        let is_there = sources.iter().any(|source| {
            let source = read(source);
            let after =
                source.split(&format!("fn {test}(")).next().filter(|before| before.len() < source.len());
            // With the attribute of a test just before it.
            after.is_some_and(|before| before.trim_end_matches("async ").trim_end().ends_with(']'))
        });
        assert!(is_there, "{name} is gone");
    }
}

#[test]
fn every_threat_names_tests_that_exist() {
    let security = read("SECURITY.md");
    let rows: Vec<&str> =
        security.lines().filter(|line| line.starts_with("| ") && line.contains("::")).collect();
    let n_rows =
        security.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| threat")).count();
    assert_eq!(rows.len(), n_rows, "each threat has tests");
    assert!(n_rows > 20);
    for row in rows {
        check_tests(row);
    }
}

#[test]
fn the_readme_lists_every_command() {
    let readme = read("README.md");
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        assert!(readme.contains(&format!("`{name}")), "README.md does not say what `{name}` does");
    }
}

#[test]
fn the_shipped_configuration_shows_every_kind_of_job() {
    let shipped = read("jobs.toml");
    for kind in JOB_KINDS {
        assert!(shipped.contains(&format!("kind = {:?}", kind.name)), "jobs.toml has no {}", kind.name);
    }
}

#[test]
fn every_room_is_described() {
    let architecture = read("ARCHITECTURE.md");
    let rooms = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let rooms = rooms
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with("lib.rs") && !path.ends_with("main.rs"));
    for room in rooms {
        let slash = if room.is_dir() { "/" } else { "" };
        let name: PathBuf = Path::new("src").join(room.file_name().unwrap());
        assert!(
            architecture.contains(&format!("`{}{slash}`", name.display())),
            "ARCHITECTURE.md lacks {}",
            name.display()
        );
    }
}

#[test]
fn rules_and_dashboard_ask_for_metrics_that_there_are() {
    let scrape = read("src/vitals/scrape.rs");
    let (rules, dashboard) =
        (read("packaging/monitoring/alert-rules.yml"), read("packaging/monitoring/dashboard.json"));
    let parsed: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    assert!(parsed["panels"].as_array().unwrap().len() > 10);
    for text in [rules, dashboard] {
        let mut n = 0;
        for word in text.split(|c: char| !c.is_ascii_lowercase() && c != '_') {
            if !word.starts_with("afterword_") || word == "afterword_token" {
                continue;
            }
            let suffixes = ["_total", "_count", "_sum", "_info", ""];
            let family = suffixes.iter().find_map(|suffix| {
                word.strip_suffix(suffix).filter(|family| scrape.contains(&format!("\"{family}\"")))
            });
            assert!(family.is_some(), "nothing gives {word}");
            n += 1;
        }
        assert!(n > 10);
    }
}
