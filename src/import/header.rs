//! The header of a file against the formats it may be in.

use std::fmt::Write as _;

use super::ImportError;
use super::rejects::ADDED;
use crate::nearest::did_you_mean;

/// A search for columns in a header, which gathers everything that does not fit.
#[derive(Debug)]
pub struct Search<'h> {
    header: &'h [String],
    taken: Vec<bool>,
    problems: Vec<String>,
}

impl<'h> Search<'h> {
    /// Nothing found yet.
    pub fn new(header: &'h [String]) -> Self {
        Self { header, taken: vec![false; header.len()], problems: Vec::new() }
    }

    /// Where the column `theirs` is, which we call `ours`.
    pub fn find(&mut self, ours: &str, theirs: &str, required: bool) -> Option<usize> {
        let theirs = theirs.trim();
        let mut places = self.header.iter().enumerate().filter(|(_, name)| *name == theirs).map(|(i, _)| i);
        let place = places.next();
        if places.next().is_some() {
            let problem = format!("the column {theirs:?} stands there twice");
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
            self.header.iter().zip(&mut self.taken).for_each(|(name, taken)| *taken |= name == theirs);
            return place;
        }
        match place {
            Some(place) => self.taken[place] = true,
            None if required => {
                let what = if ours == theirs { String::new() } else { format!(" for {ours}") };
                let hint = did_you_mean(theirs, self.header.iter().map(String::as_str));
                let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
                self.problems.push(format!("the column {theirs:?}{what} is missing{hint}"));
            }
            None => {}
        }
        place
    }

    /// Where the first of the columns is that is there, of those that may be called this way; we call it `ours`.
    pub fn find_any(&mut self, ours: &str, theirs: &[String], required: bool) -> Option<usize> {
        match theirs.iter().find(|name| self.header.iter().any(|column| column == name.trim())) {
            Some(there) => self.find(ours, there, required),
            None => self.find(ours, theirs.first()?, required),
        }
    }

    /// Notes something else that does not fit.
    pub fn add(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// Ends the search. With `known`, columns that nobody looked for are problems too, except those that a file of rejects has more.
    ///
    /// # Errors
    /// Says all the problems.
    pub fn finish(mut self, known: Option<&[&str]>) -> Result<(), String> {
        if let Some(known) = known {
            for (name, taken) in self.header.iter().zip(&self.taken) {
                if !taken && !ADDED.contains(&name.as_str()) {
                    let hint = did_you_mean(name, known.iter().copied());
                    let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
                    self.problems.push(format!("the column {name:?} is not known{hint}"));
                }
            }
        }
        if self.problems.is_empty() { Ok(()) } else { Err(self.problems.join("; ")) }
    }
}

/// The only one of the formats that fit.
///
/// # Errors
/// When none or several fit: says what was found and what each format lacks.
pub fn one_of<F>(
    mut fitting: Vec<F>,
    name: impl Fn(&F) -> &str,
    lacks: Vec<(String, String)>,
    header: &[String],
) -> Result<F, ImportError> {
    if fitting.len() == 1
        && let Some(format) = fitting.pop()
    {
        return Ok(format);
    }
    let mut message = if fitting.is_empty() {
        format!("fits no known format. It has the columns {}.", header.join(", "))
    } else {
        let names: Vec<&str> = fitting.iter().map(name).collect();
        return Err(ImportError::Unusable(format!(
            "fits several formats; name one with --format: {}",
            names.join(", ")
        )));
    };
    for (name, problem) in lacks {
        // Writing to a text does not fail.
        let _ = write!(message, "\n  {name}: {problem}");
    }
    Err(ImportError::Unusable(message))
}

/// The error about a format that is not there.
pub fn unknown_format(name: &str, known: impl Iterator<Item = String>) -> ImportError {
    let known: Vec<String> = known.collect();
    let hint = did_you_mean(name, known.iter().map(String::as_str))
        .unwrap_or_else(|| format!("the formats are auto, {}", known.join(", ")));
    ImportError::Unusable(format!("there is no format {name:?}; {hint}"))
}
