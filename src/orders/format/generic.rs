//! The program's own format for orders: one row an order, the columns of the README, in any order.

use super::{BuiltIn, ORDER_COLUMNS, OrderFormat, REQUIRED_ORDER_COLUMNS, words};

pub(super) const FORMAT: BuiltIn = BuiltIn {
    key: "generic",
    about: "afterword's own columns: order_id, email, ordered_at, and what else is known",
    sample: include_str!("generic.csv"),
    format,
    is_header: |_| true,
    advice: |_| None,
};

fn format() -> OrderFormat {
    OrderFormat {
        columns: ORDER_COLUMNS.iter().map(|column| ((*column).to_owned(), words(&[column]))).collect(),
        required: words(REQUIRED_ORDER_COLUMNS),
        open_attributes: true,
        closed: true,
        ..OrderFormat::empty(FORMAT.key)
    }
}
