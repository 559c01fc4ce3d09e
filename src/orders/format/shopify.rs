//! Shopify's order export (Orders, Export): a row for each item, the order's own fields on its first row only. Its headers are English
//! whatever the language of the shop. Columns: <https://help.shopify.com/en/manual/fulfillment/managing-orders/exporting-orders>.
//!
//! `Accepts Marketing` is not taken for the consent to be asked: who did not want a newsletter has not objected to a question about the
//! order. Orders without an address (sold at the counter) are rejected, test orders too.

use super::{BuiltIn, OrderFormat, platform};
use crate::orders::OrderStatus;

pub(super) const FORMAT: BuiltIn = BuiltIn {
    key: "shopify",
    about: "Shopify's order export, a row for each item",
    sample: include_str!("shopify.csv"),
    format,
    advice: |_| None,
};

fn format() -> OrderFormat {
    let columns: &[(&str, &[&str])] = &[
        ("order_id", &["Name"]),
        ("email", &["Email"]),
        ("ordered_at", &["Created at"]),
        ("fulfilled_at", &["Fulfilled at"]),
        ("cancelled_at", &["Cancelled at"]),
        ("status", &["Financial Status"]),
        ("name", &["Billing Name"]),
        ("country", &["Shipping Country"]),
        ("currency", &["Currency"]),
        ("total", &["Total"]),
        ("items", &["Lineitem sku"]),
    ];
    let status = [
        ("refunded", OrderStatus::Refunded),
        ("voided", OrderStatus::Cancelled),
        ("expired", OrderStatus::Cancelled),
    ];
    OrderFormat {
        vague_status: true,
        row_per_item: true,
        item_names: vec!["Lineitem name".to_owned()],
        payment: vec!["Payment Method".to_owned()],
        ..platform(FORMAT.key, columns, &["order_id", "email", "ordered_at", "status", "items"], &status)
    }
}
