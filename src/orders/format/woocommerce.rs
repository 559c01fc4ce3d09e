//! WooCommerce, as its usual export plugins write it: columns by name, in any order. Names after the official suite
//! (<https://woocommerce.com/document/import-and-export-of-woocommerce-orders/>), the Order/Customer CSV Export
//! (<https://docs.woocommerce.com/document/ordercustomer-csv-export-developer-documentation/>) and the labels of Advanced Order Export.
//!
//! Some of them write dates as the site shows them, month first or day first; nobody can tell which, so such a file wants a `date_format`.

use super::{BuiltIn, OrderFormat, platform};
use crate::orders::OrderStatus;

pub(super) const FORMAT: BuiltIn = BuiltIn {
    key: "woocommerce",
    about: "WooCommerce's order exports, columns by name in any order",
    sample: include_str!("woocommerce.csv"),
    format,
    advice: |_| None,
};

fn format() -> OrderFormat {
    let columns: &[(&str, &[&str])] = &[
        ("order_id", &["order_number_formatted", "order_number", "order_id", "Order Number", "Order ID"]),
        ("email", &["billing_email", "customer_email", "Email (Billing)"]),
        ("ordered_at", &["order_date", "date", "Order Date"]),
        ("fulfilled_at", &["completed_date", "date_completed", "Completed Date"]),
        ("status", &["status", "order_status", "Order Status"]),
        ("first_name", &["billing_first_name", "First Name (Billing)"]),
        ("last_name", &["billing_last_name", "Last Name (Billing)"]),
        (
            "country",
            &["billing_country", "shipping_country", "Country Code (Billing)", "Country Code (Shipping)"],
        ),
        ("currency", &["order_currency", "currency", "Order Currency"]),
        ("total", &["order_total", "total", "Order Total Amount"]),
        ("items", &["item_sku", "SKU"]),
    ];
    use OrderStatus::{Cancelled, Fulfilled, Open, Refunded};
    let status: Vec<(String, OrderStatus)> = [
        (&["completed", "terminée", "terminé"][..], Fulfilled),
        (
            &["cancelled", "failed", "trash", "checkout-draft", "draft", "annulée", "échouée", "brouillon"],
            Cancelled,
        ),
        (&["refunded", "remboursée"], Refunded),
        (&["pending", "processing", "on-hold", "pending payment", "on hold", "en cours", "en attente"], Open),
    ]
    .into_iter()
    .flat_map(|(words, status)| {
        words.iter().flat_map(move |word| [(word.to_string(), status), (format!("wc-{word}"), status)])
    })
    .collect();
    let status: Vec<(&str, OrderStatus)> =
        status.iter().map(|(word, status)| (word.as_str(), *status)).collect();
    OrderFormat {
        // Plugins bring states of their own, such as "printed".
        vague_status: true,
        row_per_item: true,
        item_names: vec!["item_name".to_owned(), "Item Name".to_owned()],
        ..platform(FORMAT.key, columns, &["order_id", "email", "ordered_at", "status"], &status)
    }
}
