//! What is wrong with jobs.toml, shown at its line with what to do about it.

use std::ops::Range;

use miette::{Diagnostic, NamedSource, SourceSpan};

use crate::nearest::did_you_mean;

/// Everything found wrong in one reading of the file.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{file} is not valid")]
pub struct ConfigError {
    pub file: String,
    #[related]
    pub problems: Vec<Problem>,
}

/// One mistake: where, what, and what to do.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{message}")]
pub struct Problem {
    pub message: String,
    #[source_code]
    pub source_code: NamedSource<String>,
    #[label]
    pub at: SourceSpan,
    #[help]
    pub help: Option<String>,
}

impl ConfigError {
    /// The first line and column of each problem with its message, one a line: `jobs.toml:12:5: …`.
    pub fn lines(&self) -> Vec<String> {
        self.problems
            .iter()
            .map(|problem| {
                let (line, column) = position(problem.source_code.inner(), problem.at.offset());
                let help = problem.help.as_deref().map(|help| format!(" ({help})")).unwrap_or_default();
                format!("{}:{line}:{column}: {}{help}", self.file, problem.message)
            })
            .collect()
    }
}

/// Line and column of a byte, both counted from 1; the column in characters.
pub fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Collects problems while the file is being read on.
pub struct Problems<'a> {
    file: &'a str,
    text: &'a str,
    found: Vec<Problem>,
    holds_secrets: bool,
}

impl<'a> Problems<'a> {
    pub fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, found: Vec::new(), holds_secrets: false }
    }

    /// Notes a problem at a span.
    pub fn add(&mut self, span: Range<usize>, message: impl Into<String>, help: Option<String>) {
        self.found.push(Problem {
            message: message.into(),
            source_code: NamedSource::new(self.file, self.text.to_owned()).with_language("TOML"),
            at: span.into(),
            help,
        });
    }

    /// Notes what the TOML reader found, with the nearest known word where it names the words it knows.
    pub fn add_toml(&mut self, error: &toml::de::Error) {
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        let help = suggestion_in(&message);
        self.add(error.span().unwrap_or(0..0), message, help);
    }

    /// Notes that the file itself holds a secret here, unless it comes from the environment.
    pub fn note_secret(&mut self, span: Range<usize>) {
        self.holds_secrets |= self.text.get(span).is_some_and(|typed| !typed.contains("${"));
    }

    /// Whether the file itself holds a secret.
    pub fn holds_secrets(&self) -> bool {
        self.holds_secrets
    }

    /// Whether nothing was found so far.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Where a key of a table is written, for problems whose reader no longer knows its place; else the table itself.
    pub fn find_key(&self, table: Range<usize>, key: &str) -> Range<usize> {
        self.find_line(&table, |typed, _| typed == key)
            .map_or(table, |line| line.start..line.start + key.len())
    }

    /// Where a table says this word as a value; else the table itself.
    pub fn find_word(&self, table: Range<usize>, word: &str) -> Range<usize> {
        let quoted = format!("\"{word}\"");
        let at = self.find_line(&table, |_, value| value.starts_with(&quoted)).and_then(|line| {
            let start = line.start + self.text.get(line)?.find(&quoted)?;
            Some(start..start + quoted.len())
        });
        at.unwrap_or(table)
    }

    /// The first `key = value` line of a table that fits. The span of a table reaches over its header only; its lines go on to the
    /// next header.
    fn find_line(&self, table: &Range<usize>, fits: impl Fn(&str, &str) -> bool) -> Option<Range<usize>> {
        let mut offset = table.start;
        for line in self.text.get(table.start..)?.split_inclusive('\n') {
            let trimmed = line.trim_start();
            if offset >= table.end && trimmed.starts_with('[') {
                return None;
            }
            let start = offset + (line.len() - trimmed.len());
            offset += line.len();
            if let Some((key, value)) = trimmed.split_once('=')
                && fits(key.trim_end(), value.trim_start())
            {
                return Some(start..offset);
            }
        }
        None
    }

    /// The value, if there is one and nothing was found wrong.
    ///
    /// # Errors
    /// All problems noted so far.
    pub fn finish<T>(mut self, value: Option<T>) -> Result<T, ConfigError> {
        match value {
            Some(value) if self.found.is_empty() => Ok(value),
            _ => {
                // Whoever gave no value noted why; if that was forgotten, the file must still not pass.
                if self.found.is_empty() {
                    self.add(0..0, "something in this file cannot be used", None);
                }
                self.found.sort_by_key(|problem| problem.at.offset());
                Err(ConfigError { file: self.file.to_owned(), problems: self.found })
            }
        }
    }
}

/// serde names the wrong word and the words it knows in backticks: "unknown field `a`, expected one of `b`, `c`".
fn suggestion_in(message: &str) -> Option<String> {
    let mut words = message.split('`').skip(1).step_by(2);
    let wrong = words.next()?;
    did_you_mean(wrong, words)
}
