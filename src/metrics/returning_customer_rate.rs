//! How many of the customers who ordered in the window had ordered before: one of their orders in it is the second or a later one of
//! all their orders. This is what Shopify calls by the name
//! (<https://projects.littlestreamsoftware.com/glossary/returning-customer-rate>).
//!
//! Orders from before the first file that was imported are not known, so that the rate is too low in the first months of a history.

use super::Counting;
use super::figure::Counts;

pub(super) const COUNTING: Counting =
    Counting::Customers(|of| Counts::Share { hits: of.returning, total: of.customers, unknown: None });
