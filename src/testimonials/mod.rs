//! Stage 5, testimonials: what may be published goes out as CSV.
//!
//! In: the counted answers of customers who consented to publication and wrote something; each has its `testimonial` row from the
//! moment it was stored. Rules point out what a person should look at ([`flags`]); a person approves or rejects each, and may reply
//! ([`moderation`], [`decisions`] by the file), unless jobs.toml says that what no rule flags is approved by itself ([`unattended`]); whose words are rejected is told why ([`rejection`]); an author may take them back
//! ([`withdrawal`]); the [`gate`] lets through what may lawfully leave, of what [`public`] says is public;
//! [`export`] writes it. The words of an author are never changed on the way: they are published whole or not at all.

pub mod candidate;
pub mod flags;
pub mod moderation;
pub mod decisions;
pub mod unattended;
pub mod rejection;
pub mod withdrawal;
pub mod public;
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
    /// The shop may not publish it, for one of the reasons there are
    Rejected,
    /// Its author took it back; it cannot be approved again
    Withdrawn,
}

/// Why a testimonial may not be published. The database's `reject_reason`.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    sqlx::Type,
    clap::ValueEnum,
)]
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
}
