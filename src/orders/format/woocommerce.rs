//! WooCommerce has no order export of its own that has addresses; these are the files of the usual plugins, told by the names of their
//! columns, which may stand in any order (<https://docs.woocommerce.com/document/ordercustomer-csv-export-developer-documentation/>):
//!
//! - Import Export Suite and its kin: `order_id`, `order_number`, `order_date`, `status`, `customer_email`, `billing_…`, a column
//!   `line_item_1`, … for each item; dates are month-first. <https://woocommerce.com/document/import-and-export-of-woocommerce-orders/>
//! - Customer/Order/Coupon Export: the same names, with `billing_email`, and all items in one column, or a row for each.
//! - Advanced Order Export: names for people, in the language of the shop, a row for each item whose order fields stand on each row or on
//!   the first only. The names, in English and French, are from its source
//!   (`classes/core/class-wc-order-export-data-extractor-ui.php` and its `fr_FR.po`).
//!
//! The order's number goes before its id, because it is what customers know and what every one of these plugins exports.

use crate::orders::OrderStatus;

use super::{BuiltIn, OrderFormat, Rows, has_any, statuses, words};

pub(super) const FORMAT: BuiltIn = BuiltIn {
    key: "woocommerce",
    about: "WooCommerce orders from the usual export plugins, in English or French",
    sample: include_str!("woocommerce.csv"),
    format,
    is_header: |header| {
        header.iter().any(|name| name.starts_with("billing_"))
            || has_any(
                header,
                &["First Name (Billing)", "Email (Billing)", "Email (facturation)", "Billing Email"],
            )
    },
    advice: |_| None,
};

fn format() -> OrderFormat {
    use OrderStatus::{Cancelled, Fulfilled, Open, Refunded};
    OrderFormat {
        // As the first of these plugins documents it.
        dates: words(&["%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y"]),
        full_name: words(&["Full Name (Billing)", "Nom complet (facturation)"]),
        rows: Rows::OnEach,
        item: words(&[
            "item_sku",
            "item_product_id",
            "item_name",
            "SKU",
            "UGS",
            "Item Name",
            "Nom de l'article",
            "Item ID",
            "ID de l'article",
        ]),
        // With and without the prefix that the database has, and as people read them.
        status: statuses(&[
            ("wc-completed", Fulfilled),
            ("completed", Fulfilled),
            ("terminée", Fulfilled),
            ("terminé", Fulfilled),
            ("wc-cancelled", Cancelled),
            ("cancelled", Cancelled),
            ("annulée", Cancelled),
            ("annulé", Cancelled),
            ("wc-failed", Cancelled),
            ("failed", Cancelled),
            ("échouée", Cancelled),
            ("échoué", Cancelled),
            ("trash", Cancelled),
            // Nobody has paid; a later file says when somebody has.
            ("wc-pending", Cancelled),
            ("pending", Cancelled),
            ("pending payment", Cancelled),
            ("attente paiement", Cancelled),
            ("en attente de paiement", Cancelled),
            ("wc-checkout-draft", Cancelled),
            ("checkout-draft", Cancelled),
            ("draft", Cancelled),
            ("brouillon", Cancelled),
            ("wc-refunded", Refunded),
            ("refunded", Refunded),
            ("remboursée", Refunded),
            ("remboursé", Refunded),
            ("*", Open),
        ]),
        ..OrderFormat::platform(
            FORMAT.key,
            &[
                (
                    "order_id",
                    &[
                        "order_number",
                        "order_id",
                        "Order Number",
                        "Numéro de commande",
                        "Order ID",
                        "numéro de commande",
                    ],
                ),
                (
                    "email",
                    &[
                        "billing_email",
                        "customer_email",
                        "Email (Billing)",
                        "Email (facturation)",
                        "Billing Email",
                    ],
                ),
                ("ordered_at", &["order_date", "date", "Order Date", "Date de commande"]),
                ("fulfilled_at", &["completed_date", "date_completed", "Completed Date", "Date de fin"]),
                ("status", &["status", "order_status", "Order Status", "Statut de la commande"]),
                (
                    "first_name",
                    &[
                        "billing_first_name",
                        "First Name (Billing)",
                        "Prénom (facturation)",
                        "Billing First Name",
                    ],
                ),
                (
                    "last_name",
                    &[
                        "billing_last_name",
                        "Last Name (Billing)",
                        "Nom de famille (facturation)",
                        "Billing Last Name",
                    ],
                ),
                (
                    "country",
                    &[
                        "billing_country",
                        "Country Code (Billing)",
                        "Code de pays (facturation)",
                        "shipping_country",
                    ],
                ),
                ("currency", &["order_currency", "currency", "Currency", "Devise"]),
                ("total", &["order_total", "Order Total Amount", "Montant total de la commande"]),
            ],
        )
    }
}
