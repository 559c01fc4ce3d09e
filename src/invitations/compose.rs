//! (to come)
use crate::config::{Config, Shop};
use crate::mail::templates::Templates;
use crate::survey::Questionnaire;
use crate::token::Tokens;
use crate::types::ShopId;
pub struct Composed {
    pub message_id: String,
    pub envelope_from: lettre::Address,
    pub envelope_to: lettre::Address,
    pub bytes: Vec<u8>,
}
#[expect(clippy::too_many_arguments, reason = "stub")]
pub fn compose(
    _: &Templates,
    _: &Tokens,
    _: &Config,
    _: ShopId,
    _: &Shop,
    _: &Questionnaire,
    _: &super::outbox::Claimed,
    _: chrono::DateTime<chrono::Utc>,
) -> Result<Composed, String> {
    Err(String::new())
}
