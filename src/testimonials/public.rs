//! What of what is kept may be published: every column of the tables that the gate's query reads from, and every field of a
//! [`Testimonial`](super::gate::Testimonial).
//!
//! A test holds [`COLUMNS`] against the schema, both ways: a new column has to be marked before anything else works, and is private until
//! somebody writes here that it is not. Another asks Postgres which columns `candidate.sql` reads: none that is private. A third holds
//! the fields against the columns they come from. What each column or element of a format shows is declared where it stands; a fourth
//! changes one field after the other and sees which of them change (`export/tests.rs`).

use serde::Serialize;

/// Where the content of a column may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Visibility {
    /// It leaves as it is.
    Public,
    /// Something that is made from it leaves: the initial of a name, the day of a moment, the latest of several, the answers to some of the questions.
    Part,
    /// The gate and moderators look at it; it never leaves.
    Inside,
    /// Nobody reads it on the way out.
    Private,
}

use Visibility::{Inside, Part, Private, Public};

/// Every column of the tables that testimonials are made from, by table.
pub const COLUMNS: &[(&str, &[(&str, Visibility)])] = &[
    (
        "customer",
        &[
            ("shop_id", Inside),
            ("customer_id", Inside),
            ("email", Private),
            ("email_key", Private),
            ("first_name", Part),
            ("last_name", Part),
            ("erased_at", Inside),
            ("erased_hash", Private),
        ],
    ),
    (
        "order",
        &[
            ("shop_id", Inside),
            ("order_id", Inside),
            ("external_id", Inside),
            ("customer_id", Inside),
            ("ordered_at", Part),
            ("fulfilled_at", Part),
            ("status", Inside),
            ("total", Private),
            ("currency", Private),
            ("items", Public),
            ("locale", Private),
            ("country", Public),
            ("consent", Private),
            ("attributes", Private),
            ("import_run_id", Private),
            ("imported_at", Private),
            ("updated_at", Part),
        ],
    ),
    (
        "invitation",
        &[
            ("shop_id", Inside),
            ("invitation_id", Inside),
            ("order_id", Private),
            ("customer_id", Inside),
            ("survey", Private),
            ("wave", Private),
            ("survey_version_id", Private),
            ("state", Private),
            ("reason", Private),
            ("due_at", Private),
            ("decided_at", Private),
            ("next_attempt_at", Private),
            ("attempts", Private),
            ("message_id", Private),
            ("claimed_by", Private),
            ("fence", Private),
            ("lease_until", Private),
            ("sent_at", Private),
            ("remind_at", Private),
        ],
    ),
    (
        "response",
        &[
            ("shop_id", Inside),
            ("response_id", Public),
            ("order_id", Inside),
            ("survey", Inside),
            ("survey_version_id", Inside),
            ("invitation_id", Inside),
            ("revision", Private),
            ("counted", Inside),
            ("via", Inside),
            ("verdict", Inside),
            ("suspicion", Private),
            ("form_nonce", Private),
            ("external_id", Private),
            ("locale", Part),
            ("answered_at", Public),
            ("received_at", Part),
            ("consent_version", Public),
            ("display_name", Public),
            ("display_name_rule", Inside),
        ],
    ),
    (
        "answer",
        &[
            ("shop_id", Inside),
            ("response_id", Inside),
            ("question", Inside),
            ("score", Part),
            ("choice", Part),
            ("body", Part),
        ],
    ),
    (
        "testimonial",
        &[
            ("shop_id", Inside),
            ("response_id", Public),
            ("state", Inside),
            ("reject_reason", Inside),
            ("decided_at", Part),
            ("by_rules", Inside),
            ("published_at", Public),
        ],
    ),
    (
        "reply",
        &[
            ("shop_id", Inside),
            ("response_id", Inside),
            ("revision", Inside),
            ("body", Public),
            ("replied_at", Public),
        ],
    ),
];

/// Where this column may go; `None`: nobody has marked it.
pub fn visibility(table: &str, column: &str) -> Option<Visibility> {
    let (_, columns) = COLUMNS.iter().find(|(name, _)| *name == table)?;
    columns.iter().find(|(name, _)| *name == column).map(|(_, visibility)| *visibility)
}

/// Something that an export may show. Whatever a format calls its columns, each shows one of these or nothing of a customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    TestimonialId,
    Shop,
    Rating,
    Recommend,
    Comment,
    DisplayName,
    Country,
    Language,
    ProductIds,
    OrderedOn,
    ExperienceDate,
    SubmittedAt,
    PublishedAt,
    ChangedAt,
    Verified,
    ConsentVersion,
    Reply,
    RepliedAt,
}

impl Field {
    /// Every field.
    pub const ALL: [Self; 18] = [
        Self::TestimonialId,
        Self::Shop,
        Self::Rating,
        Self::Recommend,
        Self::Comment,
        Self::DisplayName,
        Self::Country,
        Self::Language,
        Self::ProductIds,
        Self::OrderedOn,
        Self::ExperienceDate,
        Self::SubmittedAt,
        Self::PublishedAt,
        Self::ChangedAt,
        Self::Verified,
        Self::ConsentVersion,
        Self::Reply,
        Self::RepliedAt,
    ];

    /// What our own format calls it, or would.
    pub fn name(self) -> &'static str {
        match self {
            Self::TestimonialId => "testimonial_id",
            Self::Shop => "shop",
            Self::Rating => "rating",
            Self::Recommend => "recommend",
            Self::Comment => "comment",
            Self::DisplayName => "display_name",
            Self::Country => "country",
            Self::Language => "language",
            Self::ProductIds => "product_ids",
            Self::OrderedOn => "ordered_on",
            Self::ExperienceDate => "experience_date",
            Self::SubmittedAt => "submitted_at",
            Self::PublishedAt => "published_at",
            Self::ChangedAt => "changed_at",
            Self::Verified => "verified",
            Self::ConsentVersion => "consent_version",
            Self::Reply => "reply",
            Self::RepliedAt => "replied_at",
        }
    }

    /// The columns it is made from, with their tables; none: it is the same for every customer.
    pub fn sources(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::TestimonialId => &[("testimonial", "response_id"), ("response", "response_id")],
            Self::Shop | Self::Verified => &[],
            Self::Rating => &[("answer", "score")],
            Self::Recommend => &[("answer", "choice")],
            Self::Comment => &[("answer", "body")],
            Self::DisplayName => {
                &[("response", "display_name"), ("customer", "first_name"), ("customer", "last_name")]
            }
            Self::Country => &[("order", "country")],
            Self::Language => &[("response", "locale")],
            Self::ProductIds => &[("order", "items")],
            Self::OrderedOn => &[("order", "ordered_at")],
            Self::ExperienceDate => &[("order", "fulfilled_at"), ("order", "ordered_at")],
            Self::SubmittedAt => &[("response", "answered_at")],
            Self::PublishedAt => &[("testimonial", "published_at")],
            Self::ChangedAt => &[
                ("testimonial", "decided_at"),
                ("response", "received_at"),
                ("order", "updated_at"),
                ("reply", "replied_at"),
            ],
            Self::ConsentVersion => &[("response", "consent_version")],
            Self::Reply => &[("reply", "body")],
            Self::RepliedAt => &[("reply", "replied_at")],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What leaves is made of columns that may leave, and what may leave has a field that shows it.
    #[test]
    fn fields_and_columns_agree() {
        let sources: BTreeSet<_> = Field::ALL.iter().flat_map(|field| field.sources()).copied().collect();
        for (table, column) in &sources {
            let visibility = visibility(table, column);
            assert!(matches!(visibility, Some(Public | Part)), "{table}.{column} is {visibility:?}");
        }
        for (table, columns) in COLUMNS {
            for (column, visibility) in *columns {
                let leaves = matches!(visibility, Public | Part);
                assert_eq!(
                    sources.contains(&(*table, *column)),
                    leaves,
                    "{table}.{column} is {visibility:?}"
                );
            }
        }
        let names: BTreeSet<_> = Field::ALL.iter().map(|field| field.name()).collect();
        assert_eq!(names.len(), Field::ALL.len());
    }
}
