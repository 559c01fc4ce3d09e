//! Stage 1, orders in: a shop's file becomes customers and orders.
//!
//! [`mod@format`] says which column is what, [`parse`] makes a row an order, [`import`] does it for a file, [`store`] merges it into what
//! is there; [`events`] is what happened about an order later. How files are read, whatever they hold: [`crate::import`].

pub mod import;
pub mod format;
pub mod parse;
pub mod amount;
pub mod store;
pub mod events;

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
