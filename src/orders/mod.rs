//! Stage 1, orders in: a shop's file becomes customers and orders.
//!
//! [`text`] makes records of bytes, [`mod@format`] says which column is what, [`field`] reads one field, [`parse`] makes a row an order,
//! [`import`] does it for a file, [`store`] merges it into what is there. [`run`] is what the imports of orders and of answers share.

pub mod run;
pub mod import;
pub mod format;
pub mod parse;
pub mod field;
pub mod text;
pub mod rejects;
pub mod copy;
pub mod store;

use serde::{Deserialize, Serialize};

/// Where an order stands. The database's `order_status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[sqlx(type_name = "order_status", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// Ordered, not delivered yet.
    Open,
    /// Delivered.
    Fulfilled,
    /// Called off; does not count in any figure.
    Cancelled,
    /// Paid back; does not count in any figure.
    Refunded,
}

impl OrderStatus {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Open, Self::Fulfilled, Self::Cancelled, Self::Refunded];

    /// Its word in files and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Fulfilled => "fulfilled",
            Self::Cancelled => "cancelled",
            Self::Refunded => "refunded",
        }
    }
}

/// Why a file was not imported. No message repeats a value of the file, so that all of them may be logged.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file, or how it is meant to be read, is at fault: trying again will not help. Reads after the name of the file.
    #[error("{0}")]
    Unusable(String),
    /// Reading or writing failed: trying again may help.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The database failed; nothing of the file is in it. Trying again may help.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}
