//! The program's own format for orders: one row an order, the columns of the README, in any order.

use std::collections::BTreeMap;

use super::{BuiltIn, ORDER_COLUMNS, OrderFormat, REQUIRED_ORDER_COLUMNS};
use crate::config::TextFormat;

pub(super) const FORMAT: BuiltIn = BuiltIn {
    key: "generic",
    about: "afterword's own columns: order_id, email, ordered_at, and what else is known",
    sample: include_str!("generic.csv"),
    format,
};

fn format() -> OrderFormat {
    OrderFormat {
        name: FORMAT.key.to_owned(),
        text: TextFormat::default(),
        columns: ORDER_COLUMNS.iter().map(|column| ((*column).to_owned(), (*column).to_owned())).collect(),
        required: REQUIRED_ORDER_COLUMNS.iter().map(|column| (*column).to_owned()).collect(),
        attributes: BTreeMap::new(),
        open_attributes: true,
        closed: true,
        status: BTreeMap::new(),
    }
}
