//! Stage 5, testimonials: what may be published goes out as CSV.
//!
//! In: the counted answers of customers who consented to publication and wrote something; each has its `testimonial` row from the
//! moment it was stored. A person approves or rejects each ([`moderation`]); its author may take it back
//! ([`withdrawal`]); the [`gate`] lets through what may lawfully leave;
//! [`export`] writes it. The words of an author are never changed on the way.

pub mod candidate;
pub mod moderation;
pub mod withdrawal;
pub mod gate;
pub mod display_name;
pub mod selection;
pub mod export;
pub mod manifest;
pub mod notice;

use serde::{Deserialize, Serialize};

/// Where a testimonial stands. The database's `testimonial_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, clap::ValueEnum)]
#[sqlx(type_name = "testimonial_state", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum TestimonialState {
    /// Nobody has decided yet
    Pending,
    /// May be published
    Approved,
    /// May not be published
    Rejected,
}

/// Why a testimonial may not be published. The database's `reject_reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, clap::ValueEnum)]
#[sqlx(type_name = "reject_reason", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum RejectReason {
    /// Not about an experience with this shop
    NoExperience,
    /// Unlawful or insulting content
    Unlawful,
    /// Contact data or other people's data
    PersonalData,
    /// Advertising, links, spam
    Promotional,
    /// Score and words contradict each other
    Contradictory,
    /// Cannot be understood
    Unintelligible,
    /// The author asked for it; such a testimonial cannot be approved again
    AuthorRequest,
}
