//! Stage 3, responses in: what customers answer on the page, and what comes in by file.
//!
//! [`submission`] reads a form, [`classify`] says whether a person sent it, [`store`] keeps it. Answers are append-only: a changed
//! answer is a new revision, and at most one revision per order and survey counts.

pub mod submission;
pub mod classify;
pub mod store;
pub mod import;
pub mod ratings;

use serde::{Deserialize, Serialize};

/// How an answer came in. The database's `response_via`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[sqlx(type_name = "response_via", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ResponseVia {
    /// On the survey page.
    Page,
    /// In a file of another tool.
    Import,
}

/// Whether a person answered. The database's `verdict`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[sqlx(type_name = "verdict", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Counts.
    Human,
    /// Kept, and left out of every figure.
    Suspect,
}

/// What was answered to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The question's key.
    pub question: String,
    pub value: Value,
}

/// An answer's value, in the column of `answer` that it is stored in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Of a rating (1 to 5) or an NPS question (0 to 10).
    Score(i16),
    /// Of a recommendation (yes, no) or a choice.
    Choice(String),
    /// As it was written.
    Text(String),
}
