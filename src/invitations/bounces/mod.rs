//! What comes back by mail: reports that a mail was not delivered, complaints, and automatic replies.
//!
//! [`read`] makes a [`Report`] of the bytes of one message, and asks neither clock nor database: [`report`] takes the message apart (MIME
//! is `mail-parser`'s), [`delivery_status`] reads the fields of RFC 3464, [`wording`] knows what servers say in their own words, and
//! [`verdict`] weighs them. [`mailbox`] finds messages in files and folders. [`collect`] is the only one that changes anything: it
//! decides whether a report is about a mail of ours, and what follows from it.
//!
//! # The order of the tests
//!
//! The first that applies decides what a message is:
//!
//! | # | sign | kind |
//! |---|---|---|
//! | 1 | a `message/feedback-report` (RFC 5965) of the type `abuse`, `fraud`, `opt-out` or `opt-out-list`; a large provider's complaint in its own form | `complaint` |
//! | 2 | one of another type | `other` |
//! | 3 | delivery status fields (RFC 3464): per recipient by `Action`, see below | `hard`, `soft`, `delayed`, `other` |
//! | 4 | from a mail system, or `X-Failed-Recipients`: the words of the message, see below | `hard`, `soft`, `delayed` |
//! | 5 | a `message/disposition-notification` (RFC 8098) | `auto_reply` |
//! | 6 | `Auto-Submitted` other than `no` (RFC 3834), the older headers of the kind, the subject of a vacation note, or an empty `Return-Path` | `auto_reply` |
//! | 7 | the subject or first words of a bounce | `hard`, `soft`, `delayed` |
//! | 8 | anything else | `other` |
//!
//! 4 comes before 5 and 6, because Postfix and Exim mark their bounces as automatic replies, and Dovecot its as receipts; 6 before 7, because people who have left a company
//! say so in words that bounces use too.
//!
//! Then, for each recipient of a report:
//!
//! | # | sign | kind |
//! |---|---|---|
//! | 1 | `Action: delayed`; without an action, words that say the mail is still being tried | `delayed` |
//! | 2 | `Action: delivered`, `relayed`, `expanded` | `other` |
//! | 3 | the reply begins with 4, or the mail was given up after some time | `soft` |
//! | 4 | words that are known, in the diagnosis, or in the text where there is none and the status names no cause: [`wording::WORDINGS`], first match | `hard` or `soft` |
//! | 5 | status 5.1.x but 5.1.7, 5.1.8 and 5.1.9 (the sender's faults); 5.2.1 | `hard` |
//! | 6 | anything else that failed | `soft` |
//!
//! Words come before the status, because many servers say 5.1.1 or 5.2.1 of a full mailbox or of a sender they do not like, and 5.0.0,
//! 5.4.1 or 5.7.1 of an address that does not exist. When in doubt it is soft: that counts, and suppresses nobody.

pub mod mailbox;
pub mod report;
mod delivery_status;
mod status;
mod address;
pub mod wording;
mod verdict;
pub mod collect;

use serde::{Deserialize, Serialize};

pub use self::report::read;
pub use self::status::Status;

/// What a message is. The database's `bounce_kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type)]
#[sqlx(type_name = "bounce_kind", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum BounceKind {
    /// The address does not take mail.
    Hard,
    /// Not now, or not this mail.
    Soft,
    /// Still being tried; says nothing yet.
    Delayed,
    /// The recipient called the mail spam.
    Complaint,
    /// A vacation note and the like.
    AutoReply,
    /// No report, or one that says that all is well.
    Other,
}

impl BounceKind {
    /// As the database writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Soft => "soft",
            Self::Delayed => "delayed",
            Self::Complaint => "complaint",
            Self::AutoReply => "auto_reply",
            Self::Other => "other",
        }
    }

    /// What a person reads.
    pub fn words(self) -> &'static str {
        match self {
            Self::Hard => "the address does not take mail",
            Self::Soft => "the mail was not delivered, which may be different another time",
            Self::Delayed => "the mail is delayed and still being tried",
            Self::Complaint => "the customer called the mail spam",
            Self::AutoReply => "an automatic reply came",
            Self::Other => "a mail came that is no report",
        }
    }
}

/// What a message says.
#[derive(Clone, PartialEq, Eq)]
pub struct Report {
    /// About whom what; at least one, the gravest first.
    pub findings: Vec<Finding>,
    /// What may be the token in a return path of ours, wherever it stood.
    pub return_path_tokens: Vec<String>,
    /// The Message-IDs it names, without angle brackets: the original's, or those a reply refers to.
    pub message_ids: Vec<String>,
    /// Whether the message holds the original, or its headers, as a part of its own.
    pub has_original: bool,
}

/// What a message says about one recipient.
#[derive(Clone, PartialEq, Eq)]
pub struct Finding {
    pub kind: BounceKind,
    /// The addresses that stand for the recipient, the reporter's own word first; none: it names nobody.
    pub recipients: Vec<String>,
    pub status: Option<Status>,
    /// In the reporter's words or, where they could be a person's, in ours; without addresses.
    pub reason: String,
}

impl Finding {
    /// The recipient, as a person is to read it.
    pub fn recipient(&self) -> Option<&str> {
        self.recipients.first().map(String::as_str)
    }
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Report").field("findings", &self.findings).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Finding")
            .field("kind", &self.kind)
            .field("n_recipients", &self.recipients.len())
            .field("status", &self.status)
            .field("reason", &self.reason)
            .finish()
    }
}
