//! Shopify's own export (Orders > Export): a row for each line item, the order's fields on the first of them only, the rows of an order
//! joined by `Name`. <https://docs.xbp.app/docs/development/integrations/shopify/order-format>; the financial and the fulfilment states:
//! <https://help.shopify.com/en/manual/migrating-to-shopify/transporter-app/csv-orders>.
//!
//! `Accepts Marketing` is kept as an attribute and is no consent of ours: it says whether somebody wants advertising, and most of those
//! who do not may still be asked how their order was. A shop that wants it all the same says `--map consent="Accepts Marketing"`.
//!
//! An order of the Bogus Gateway, Shopify's provider for tests, counts as cancelled: it is asked about nothing and in no figure. Its name
//! in the column is from experience; no document was found that states it.

use crate::orders::OrderStatus;

use super::{BuiltIn, OrderFormat, Rows, has_all, statuses, words};

pub(super) const FORMAT: BuiltIn = BuiltIn {
    key: "shopify",
    about: "Shopify's order export, a row for each line item",
    sample: include_str!("shopify.csv"),
    format,
    is_header: |header| has_all(header, &["Name", "Financial Status", "Lineitem name"]),
    advice: |_| None,
};

fn format() -> OrderFormat {
    use OrderStatus::{Cancelled, Fulfilled, Open, Refunded};
    let verdict = |column: &str, words: &[(&str, OrderStatus)]| (column.to_owned(), statuses(words));
    OrderFormat {
        full_name: words(&["Billing Name", "Shipping Name"]),
        rows: Rows::OnFirst,
        item: words(&["Lineitem sku", "Lineitem name"]),
        other_attributes: [("accepts_marketing", "Accepts Marketing"), ("channel", "Source")]
            .map(|(ours, theirs)| (ours.to_owned(), theirs.to_owned()))
            .into(),
        verdicts: vec![
            verdict("Cancelled at", &[("*", Cancelled)]),
            verdict("Payment Method", &[("bogus", Cancelled), ("(for testing) bogus gateway", Cancelled)]),
            verdict("Financial Status", &[("refunded", Refunded), ("voided", Cancelled)]),
            verdict("Fulfillment Status", &[("fulfilled", Fulfilled), ("*", Open)]),
        ],
        ..OrderFormat::platform(
            FORMAT.key,
            &[
                ("order_id", &["Name"]),
                ("email", &["Email"]),
                ("ordered_at", &["Created at"]),
                ("fulfilled_at", &["Fulfilled at"]),
                ("country", &["Shipping Country", "Billing Country"]),
                ("currency", &["Currency"]),
                ("total", &["Total"]),
            ],
        )
    }
}
