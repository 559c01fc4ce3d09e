//! PrestaShop's list of orders has no mail address and shortens the customer's name; the file that is read here is what its SQL manager
//! makes of the query in the README, `;` between the fields and the columns named as in the query
//! (<https://github.com/PrestaShop/PrestaShop/blob/develop/src/Core/SqlManager/Exporter/SqlRequestExporter.php>). The query joins each
//! order with its products, so that its fields stand on each of its rows.
//!
//! The states are the numbers a new PrestaShop has: 5 delivered, 6 cancelled, 7 refunded, 8 payment error; all others are open. Orders
//! that PrestaShop has split among carriers share a reference, and are one order here, as they were to the customer.

use crate::orders::OrderStatus;

use super::{BuiltIn, OrderFormat, Rows, has_all, has_any, statuses, words};

pub(super) const FORMAT: BuiltIn = BuiltIn {
    key: "prestashop",
    about: "the result of the README's query in PrestaShop's SQL manager",
    sample: include_str!("prestashop.csv"),
    format,
    is_header: |header| has_all(header, &["reference", "email", "date_add", "current_state"]),
    advice: |header| {
        let is_list = has_any(header, &["Reference", "Référence"])
            && has_any(header, &["New client", "Nouveau client"]);
        is_list.then_some(
            "is PrestaShop's list of orders, which has no mail addresses: export the query that stands in the README under PrestaShop \
             from its SQL manager (Advanced Parameters > Database; in French: Paramètres avancés > Base de données) instead",
        )
    },
};

fn format() -> OrderFormat {
    use OrderStatus::{Cancelled, Fulfilled, Open, Refunded};
    OrderFormat {
        rows: Rows::OnEach,
        item: words(&["product_id"]),
        status: statuses(&[
            ("5", Fulfilled),
            ("6", Cancelled),
            ("7", Refunded),
            ("8", Cancelled),
            // Waiting for a cheque, for a bank transfer, and out of stock before it is paid: a later file says when somebody has paid.
            ("1", Cancelled),
            ("10", Cancelled),
            ("12", Cancelled),
            ("*", Open),
        ]),
        ..OrderFormat::platform(
            FORMAT.key,
            &[
                ("order_id", &["reference"]),
                ("email", &["email"]),
                ("ordered_at", &["date_add"]),
                ("fulfilled_at", &["delivery_date"]),
                ("status", &["current_state"]),
                ("first_name", &["firstname"]),
                ("last_name", &["lastname"]),
                ("locale", &["lang_code"]),
                ("country", &["country_code"]),
                ("currency", &["currency_code"]),
                ("total", &["total_paid_tax_incl"]),
            ],
        )
    }
}
