//! How many of the customers who ordered in the window ordered at least twice in it.

use super::Counting;
use super::figure::Counts;

pub(super) const COUNTING: Counting =
    Counting::Customers(|of| Counts::Share { hits: of.repeat, total: of.customers, unknown: None });
