//! Mails as texts and as conversations: templates, and the transport that carries them.

pub mod templates;
pub mod transport;
pub mod dkim;
pub mod quoted_printable;
