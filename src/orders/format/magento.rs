//! Magento's list of orders (Sales > Orders > Export). It exports the columns of the list; the customer's address is among those that are
//! hidden until somebody switches them on
//! (<https://github.com/magento/magento2/blob/2.4-develop/app/code/Magento/Sales/view/adminhtml/ui_component/sales_order_grid.xml>).
//!
//! The file has no delivery date, no currency and no products: the survey's trigger has to be the order. Times are in the zone of the
//! shop, the months always in English, the hour of some versions in 24 hours and with AM or PM behind it all the same
//! (`app/code/Magento/Ui/Model/Export/MetadataProvider.php`). French names of columns and states are those of the community's
//! translation (<https://github.com/lalbert/magento2-fr_fr>).

use crate::orders::OrderStatus;

use super::{BuiltIn, OrderFormat, has_all, has_any, statuses, words};

const ADDRESS: &[&str] = &["Customer Email", "E-mail du client"];
const DATE: &[&str] = &["Purchase Date", "Date d'achat", "Date d’achat"];

pub(super) const FORMAT: BuiltIn = BuiltIn {
    key: "magento",
    about: "Magento's list of orders, with the column Customer Email switched on",
    sample: include_str!("magento.csv"),
    format,
    is_header: |header| has_all(header, &["ID"]) && has_any(header, DATE),
    advice: |header| {
        (has_all(header, &["ID"]) && has_any(header, DATE) && !has_any(header, ADDRESS)).then_some(
            "is Magento's list of orders without the customers' addresses: in Sales > Orders, open Columns above the list, switch on \
             Customer Email (in French: Colonnes, E-mail du client), and export again",
        )
    },
};

fn format() -> OrderFormat {
    use OrderStatus::{Cancelled, Fulfilled, Open, Refunded};
    OrderFormat {
        dates: words(&["%b %d, %Y %I:%M:%S %p", "%b %d, %Y %H:%M:%S %p", "%b %d, %Y"]),
        full_name: words(&["Customer Name", "Nom du client", "Bill-to Name"]),
        other_attributes: [("purchase_point".to_owned(), "Purchase Point".to_owned())].into(),
        // `closed` is an order that was paid back in whole.
        status: statuses(&[
            ("complete", Fulfilled),
            ("terminée", Fulfilled),
            ("terminé", Fulfilled),
            ("canceled", Cancelled),
            ("cancelled", Cancelled),
            ("annulée", Cancelled),
            ("annulé", Cancelled),
            ("suspected fraud", Cancelled),
            ("fraude suspectée", Cancelled),
            ("fraud", Cancelled),
            // Nobody has paid; a later file says when somebody has.
            ("pending payment", Cancelled),
            ("pending_payment", Cancelled),
            ("paiement en attente", Cancelled),
            ("en attente de paiement", Cancelled),
            ("closed", Refunded),
            ("fermée", Refunded),
            ("fermé", Refunded),
            ("*", Open),
        ]),
        ..OrderFormat::platform(
            FORMAT.key,
            &[
                ("order_id", &["ID"]),
                ("email", ADDRESS),
                ("ordered_at", DATE),
                ("status", &["Status", "Statut", "État"]),
                ("total", &["Grand Total (Purchased)", "Total (Devise de la commande)"]),
            ],
        )
    }
}
