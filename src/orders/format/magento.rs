//! The order grid of Magento 2 and Adobe Commerce (Sales, Orders, Export). It exports the columns that are switched on, and the customers'
//! addresses are not: somebody has to switch on `Customer Email` once. Columns:
//! `app/code/Magento/Sales/view/adminhtml/ui_component/sales_order_grid.xml`, dates and headers:
//! `app/code/Magento/Ui/Model/Export/MetadataProvider.php` of <https://github.com/magento/magento2>. The grid knows no date of delivery.

use super::{BuiltIn, OrderFormat, platform};
use crate::orders::OrderStatus;

pub(super) const FORMAT: BuiltIn = BuiltIn {
    key: "magento",
    about: "the order grid of Magento 2, with the column Customer Email switched on",
    sample: include_str!("magento.csv"),
    format,
    advice,
};

const ORDERED_AT: &[&str] = &["Purchase Date", "Date d'achat", "Date d’achat"];
const EMAIL: &[&str] = &[
    "Customer Email",
    "Email du client",
    "E-mail du client",
    "Adresse e-mail du client",
    "Adresse email du client",
];

fn format() -> OrderFormat {
    let columns: &[(&str, &[&str])] = &[
        ("order_id", &["ID"]),
        ("email", EMAIL),
        ("ordered_at", ORDERED_AT),
        ("status", &["Status", "Statut", "État"]),
        ("name", &["Customer Name", "Nom du client", "Bill-to Name"]),
        ("total", &["Grand Total (Purchased)", "Grand Total (Base)"]),
    ];
    use OrderStatus::{Cancelled, Fulfilled, Open, Refunded};
    let status = [
        ("complete", Fulfilled),
        ("terminé", Fulfilled),
        ("terminée", Fulfilled),
        ("canceled", Cancelled),
        ("annulé", Cancelled),
        ("annulée", Cancelled),
        ("suspected fraud", Cancelled),
        ("fraud", Cancelled),
        // A closed order was refunded as a whole.
        ("closed", Refunded),
        ("fermé", Refunded),
        ("fermée", Refunded),
        ("pending", Open),
        ("pending payment", Open),
        ("pending_payment", Open),
        ("payment review", Open),
        ("payment_review", Open),
        ("processing", Open),
        ("on hold", Open),
        ("holded", Open),
        ("en attente", Open),
        ("en cours", Open),
        ("en cours de traitement", Open),
    ];
    platform(FORMAT.key, columns, &["order_id", "email", "ordered_at", "status"], &status)
}

fn advice(header: &[String]) -> Option<&'static str> {
    let has = |names: &[&str]| header.iter().any(|column| names.contains(&column.as_str()));
    (has(ORDERED_AT) && has(&["ID"]) && !has(EMAIL)).then_some(
        "is Magento's order grid, which hides the customers' addresses: in Sales > Orders open Columns, switch on Customer Email, and \
         export again",
    )
}
