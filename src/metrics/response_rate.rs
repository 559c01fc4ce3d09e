//! How many of those who were mailed answered, by two of the definitions of AAPOR (Standard Definitions, section "Internet surveys of
//! specifically named persons", <https://studylib.net/doc/11336690>): response rate 5, in which whoever could not be reached is not in the
//! denominator, and response rate 1, in which everybody is who was to be mailed. An answer counts as complete: the page takes none in
//! which a required question is left open.

use super::Counting;
use super::facts::Fact;
use super::figure::Counts;

/// AAPOR's response rate 5. Who answered was reached, whatever came back.
pub(super) const RR5: Counting = Counting::Facts(|tallied| Counts::Share {
    hits: tallied.sum(Fact::FirstMailsAnswered),
    total: tallied.sum(Fact::FirstMailsReached),
    unknown: Some(tallied.sum(Fact::FirstMailsUnknown)),
});

/// AAPOR's response rate 1.
pub(super) const RR1: Counting = Counting::Facts(|tallied| Counts::Share {
    hits: tallied.sum(Fact::FirstMailsComplete),
    total: tallied.sum(Fact::FirstMails),
    unknown: None,
});
