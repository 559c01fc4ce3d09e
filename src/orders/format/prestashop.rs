//! PrestaShop. Its order list abbreviates the customers and has no addresses, so the orders come from a query in its SQL manager (the
//! README has it), whose columns are those of the database. Order list: `Controller/Admin/Sell/Order/OrderController.php` of
//! <https://github.com/PrestaShop/PrestaShop>; the numbers of the order states are those of a new shop.

use super::{BuiltIn, OrderFormat, platform};
use crate::orders::OrderStatus;

pub(super) const FORMAT: BuiltIn = BuiltIn {
    key: "prestashop",
    about: "the result of a query in PrestaShop's SQL manager (README.md has the query)",
    sample: include_str!("prestashop.csv"),
    format,
    advice,
};

fn format() -> OrderFormat {
    let columns: &[(&str, &[&str])] = &[
        ("order_id", &["reference"]),
        ("email", &["email"]),
        ("ordered_at", &["date_add"]),
        ("fulfilled_at", &["delivery_date"]),
        ("status", &["current_state"]),
        ("first_name", &["firstname"]),
        ("last_name", &["lastname"]),
        ("locale", &["language"]),
        ("country", &["country"]),
        ("currency", &["currency"]),
        ("total", &["total_paid"]),
        ("items", &["product_reference"]),
    ];
    use OrderStatus::{Cancelled, Fulfilled, Refunded};
    let status = [("4", Fulfilled), ("5", Fulfilled), ("6", Cancelled), ("7", Refunded), ("8", Cancelled)];
    OrderFormat {
        // Shops add states of their own.
        vague_status: true,
        row_per_item: true,
        item_names: vec!["product_name".to_owned()],
        ..platform(FORMAT.key, columns, &["order_id", "email", "ordered_at", "status"], &status)
    }
}

fn advice(header: &[String]) -> Option<&'static str> {
    let has = |names: &[&str]| header.iter().any(|column| names.contains(&column.as_str()));
    let is_list = has(&["Reference", "Référence"])
        && has(&["New client", "Nouveau client"])
        && has(&["Payment", "Paiement"]);
    is_list.then_some(
        "is PrestaShop's order list, which has no addresses: run the query that README.md has for its SQL manager (Advanced Parameters > \
         Database), and import what that exports",
    )
}
