//! The program's own format for orders: one row an order, the columns of the README, in any order.

use super::{BuiltIn, ORDER_COLUMNS, OrderFormat, REQUIRED_ORDER_COLUMNS, platform};

pub(super) const FORMAT: BuiltIn = BuiltIn {
    key: "generic",
    about: "afterword's own columns: order_id, email, ordered_at, and what else is known",
    sample: include_str!("generic.csv"),
    format,
    advice: |_| None,
};

fn format() -> OrderFormat {
    let columns: Vec<(&str, [&str; 1])> = ORDER_COLUMNS.iter().map(|column| (*column, [*column])).collect();
    let columns: Vec<(&str, &[&str])> = columns.iter().map(|(ours, theirs)| (*ours, &theirs[..])).collect();
    OrderFormat {
        open_attributes: true,
        closed: true,
        ..platform(FORMAT.key, &columns, REQUIRED_ORDER_COLUMNS, &[])
    }
}
