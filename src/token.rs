//! The tokens in the links: who is meant, and a proof that we wrote the link.
//!
//! A token is `shop || invitation || HMAC-SHA256(key, purpose || shop || invitation)`, the code shortened to 128 bits, in base64url.
//! Nothing about it is stored: the secret makes it, and the secret proves it. Each purpose has its own code, so that a survey link
//! cannot unsubscribe and an unsubscribe link cannot answer.
//!
//! The token in a return path is written otherwise: the same content in hexadecimal digits and the code shortened to 64 bits, because mail
//! systems may change the case of a local part, and a local part has at most 64 octets.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::types::{InvitationId, ShopId};

const SHOP_BYTES: usize = 4;
const ID_BYTES: usize = SHOP_BYTES + 8;
const CODE_BYTES: usize = 16;
const MOMENT_BYTES: usize = 8;
const NONCE_BYTES: usize = 8;
/// Which form, how it came about, when, and a number of its own.
const FORM_BYTES: usize = ID_BYTES + 2 + MOMENT_BYTES + NONCE_BYTES;
const RETURN_PATH_CODE_BYTES: usize = 8;

/// How many characters a token in a return path has.
pub const RETURN_PATH_TOKEN: usize = 2 * (ID_BYTES + RETURN_PATH_CODE_BYTES);

/// What a link allows its holder to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// See and answer the survey.
    Survey,
    /// Opt out of further mails.
    Unsubscribe,
    /// Name the mail (its Message-ID); no page accepts it.
    MessageId,
    /// Prove that a form was fetched before it was sent.
    Form,
    /// Name the mail in the address that its bounces go to.
    ReturnPath,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Survey => b"survey",
            Self::Unsubscribe => b"unsubscribe",
            Self::MessageId => b"message-id",
            Self::Form => b"form",
            Self::ReturnPath => b"return-path",
        }
    }
}

/// A form of ours. What proves that one was fetched proves nothing about another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The survey's questions.
    Survey,
    /// The button that opts out.
    Unsubscribe,
    /// The button that takes a testimonial back.
    Withdrawal,
}

impl Form {
    fn byte(self) -> u8 {
        match self {
            Self::Survey => 1,
            Self::Unsubscribe => 2,
            Self::Withdrawal => 3,
        }
    }
}

/// How a form came to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// Somebody opened the page.
    Visit,
    /// Somebody opened it through an answer in the mail that is not the one that counts so far.
    OtherAnswer,
    /// What was sent before looked like a program's, and is asked once more.
    OnceMore,
}

impl Occasion {
    fn byte(self) -> u8 {
        match self {
            Self::Visit => 0,
            Self::OtherAnswer => 1,
            Self::OnceMore => 2,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        [Self::Visit, Self::OtherAnswer, Self::OnceMore].into_iter().find(|occasion| occasion.byte() == byte)
    }
}

/// What a form of ours says about itself when it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    pub occasion: Occasion,
    /// When it was made.
    pub made_at: DateTime<Utc>,
    /// Drawn at random, so that two forms are never the same, and a form that was sent is known again.
    pub nonce: i64,
}

impl Proof {
    /// Of a form that is made now.
    pub fn new(occasion: Occasion, made_at: DateTime<Utc>) -> Self {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).expect("the system has random numbers");
        Self { occasion, made_at, nonce: i64::from_be_bytes(nonce) }
    }
}

/// Makes and checks tokens with the installation's secret.
#[derive(Clone)]
pub struct Tokens {
    secret: Vec<u8>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(…)")
    }
}

impl Tokens {
    /// Uses this secret.
    pub fn new(secret: &[u8]) -> Self {
        Self { secret: secret.to_vec() }
    }

    /// The token for one invitation and purpose; always the same one.
    pub fn issue(&self, purpose: Purpose, shop: ShopId, invitation: InvitationId) -> String {
        self.sealed(purpose, &id(shop, invitation))
    }

    /// Whom a token names, when we issued it for this purpose. Compares in constant time.
    pub fn verify(&self, purpose: Purpose, token: &str) -> Option<(ShopId, InvitationId)> {
        named(self.opened(purpose, token)?)
    }

    /// The token for the return path of one invitation's mail: [`RETURN_PATH_TOKEN`] hexadecimal digits.
    pub fn issue_return_path(&self, shop: ShopId, invitation: InvitationId) -> String {
        let id = id(shop, invitation);
        let code = self.mac(Purpose::ReturnPath, &id).finalize().into_bytes();
        [&id[..], &code[..RETURN_PATH_CODE_BYTES]].concat().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whose mail a return path names, when we issued it, in whatever case it came back. Compares in constant time.
    pub fn verify_return_path(&self, token: &str) -> Option<(ShopId, InvitationId)> {
        if token.len() != RETURN_PATH_TOKEN || !token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let digits = |at| u8::from_str_radix(token.get(at..at + 2)?, 16).ok();
        let bytes: Vec<u8> = (0..RETURN_PATH_TOKEN).step_by(2).map(digits).collect::<Option<_>>()?;
        let (id, code) = bytes.split_first_chunk::<ID_BYTES>()?;
        self.mac(Purpose::ReturnPath, id).verify_truncated_left(code).ok()?;
        named(*id)
    }

    /// Seals what a form for one invitation says about itself.
    pub fn issue_form(&self, form: Form, shop: ShopId, invitation: InvitationId, proof: &Proof) -> String {
        let kind = [form.byte(), proof.occasion.byte()];
        let moment = proof.made_at.timestamp_millis().to_be_bytes();
        let nonce = proof.nonce.to_be_bytes();
        self.sealed(Purpose::Form, &[&id(shop, invitation)[..], &kind, &moment, &nonce].concat())
    }

    /// What a form says about itself, when we made it, and as this form for this invitation.
    pub fn verify_form(
        &self,
        form: Form,
        shop: ShopId,
        invitation: InvitationId,
        token: &str,
    ) -> Option<Proof> {
        let content: [u8; FORM_BYTES] = self.opened(Purpose::Form, token)?;
        let content = content.strip_prefix(&id(shop, invitation))?.strip_prefix(&[form.byte()])?;
        let (occasion, content) = content.split_first()?;
        let (moment, nonce) = content.split_at(MOMENT_BYTES);
        Some(Proof {
            occasion: Occasion::of(*occasion)?,
            made_at: DateTime::from_timestamp_millis(i64::from_be_bytes(moment.try_into().ok()?))?,
            nonce: i64::from_be_bytes(nonce.try_into().ok()?),
        })
    }

    /// A content with its code.
    fn sealed(&self, purpose: Purpose, content: &[u8]) -> String {
        let code = self.mac(purpose, content).finalize().into_bytes();
        URL_SAFE_NO_PAD.encode([content, &code[..CODE_BYTES]].concat())
    }

    /// The content, when it is of the right length and its code is ours.
    fn opened<const N: usize>(&self, purpose: Purpose, token: &str) -> Option<[u8; N]> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (content, code) = bytes.split_first_chunk::<N>()?;
        if code.len() != CODE_BYTES {
            return None;
        }
        self.mac(purpose, content).verify_truncated_left(code).ok()?;
        Some(*content)
    }

    /// A key for something other than tokens, such as the sampling of orders, derived so that it tells nothing about the secret.
    pub fn derived_key(&self, what: &str) -> [u8; 32] {
        let mut mac = self.keyed(b"derived");
        mac.update(what.as_bytes());
        mac.finalize().into_bytes().into()
    }

    fn mac(&self, purpose: Purpose, content: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.keyed(purpose.label());
        mac.update(content);
        mac
    }

    fn keyed(&self, label: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes keys of any length");
        mac.update(label);
        mac.update(&[0]);
        mac
    }
}

fn id(shop: ShopId, invitation: InvitationId) -> [u8; ID_BYTES] {
    let mut id = [0; ID_BYTES];
    id[..SHOP_BYTES].copy_from_slice(&shop.0.to_be_bytes());
    id[SHOP_BYTES..].copy_from_slice(&invitation.0.to_be_bytes());
    id
}

/// The reverse of [`id`].
fn named(id: [u8; ID_BYTES]) -> Option<(ShopId, InvitationId)> {
    let (shop, invitation) = id.split_at(SHOP_BYTES);
    Some((
        ShopId(i32::from_be_bytes(shop.try_into().ok()?)),
        InvitationId(i64::from_be_bytes(invitation.try_into().ok()?)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_its_own_purpose_only() {
        let tokens = Tokens::new(b"secret");
        let token = tokens.issue(Purpose::Survey, ShopId(3), InvitationId(77));
        assert_eq!(tokens.verify(Purpose::Survey, &token), Some((ShopId(3), InvitationId(77))));
        assert_eq!(tokens.verify(Purpose::Unsubscribe, &token), None);
        assert_eq!(Tokens::new(b"another").verify(Purpose::Survey, &token), None);
    }

    #[test]
    fn a_form_belongs_to_its_invitation() {
        let tokens = Tokens::new(b"secret");
        let moment = DateTime::from_timestamp_millis(1_772_532_000_123).unwrap();
        let (shop, invitation) = (ShopId(3), InvitationId(77));
        for occasion in [Occasion::Visit, Occasion::OtherAnswer, Occasion::OnceMore] {
            let proof = Proof::new(occasion, moment);
            assert_ne!(proof.nonce, Proof::new(occasion, moment).nonce);
            let token = tokens.issue_form(Form::Survey, shop, invitation, &proof);
            assert_eq!(tokens.verify_form(Form::Survey, shop, invitation, &token), Some(proof));
            for other in [Form::Unsubscribe, Form::Withdrawal] {
                assert_eq!(tokens.verify_form(other, shop, invitation, &token), None);
            }
            assert_eq!(tokens.verify_form(Form::Survey, shop, InvitationId(78), &token), None);
            assert_eq!(Tokens::new(b"other").verify_form(Form::Survey, shop, invitation, &token), None);
            assert_eq!(tokens.verify(Purpose::Survey, &token), None);
        }
        let survey = tokens.issue(Purpose::Survey, shop, invitation);
        assert_eq!(tokens.verify_form(Form::Survey, shop, invitation, &survey), None);
    }

    #[test]
    fn one_changed_character_is_refused() {
        let tokens = Tokens::new(b"secret");
        let token = tokens.issue(Purpose::Survey, ShopId(1), InvitationId(1));
        for position in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[position] = if changed[position] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(tokens.verify(Purpose::Survey, &changed), None, "position {position}");
        }
        assert_eq!(tokens.verify(Purpose::Survey, ""), None);
        assert_eq!(tokens.verify(Purpose::Survey, &token[1..]), None);
    }

    #[test]
    fn a_return_path_survives_a_change_of_case_and_nothing_else() {
        let tokens = Tokens::new(b"secret");
        let named = (ShopId(i32::MAX), InvitationId(i64::MAX));
        let token = tokens.issue_return_path(named.0, named.1);
        assert_eq!(token.len(), RETURN_PATH_TOKEN);
        assert_eq!(tokens.verify_return_path(&token), Some(named));
        assert_eq!(tokens.verify_return_path(&token.to_uppercase()), Some(named));
        assert_eq!(Tokens::new(b"other").verify_return_path(&token), None);
        assert_eq!(tokens.verify(Purpose::ReturnPath, &token), None);
        for position in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[position] = if changed[position] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(tokens.verify_return_path(&changed), None, "position {position}");
        }
        for wrong in ["", &token[2..], &format!("{token}00"), &token.replace('f', "+"), &"é".repeat(20)] {
            assert_eq!(tokens.verify_return_path(wrong), None, "{wrong}");
        }
    }
}
