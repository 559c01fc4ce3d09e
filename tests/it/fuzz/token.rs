//! The tokens of the links: bytes that are not ours prove nothing, however close they come.

use afterword::token::{Form, Purpose, Tokens};
use afterword::types::{InvitationId, ShopId};

/// The secret that the files of this target were made with.
pub const SECRET: &[u8] = b"the secret of the fuzz targets";

pub fn run(link: &[u8]) {
    let Ok(token) = std::str::from_utf8(link) else { return };
    let tokens = Tokens::new(SECRET);
    // There is one way to write a token.
    for purpose in [Purpose::Survey, Purpose::Unsubscribe, Purpose::MessageId] {
        if let Some((shop, invitation)) = tokens.verify(purpose, token) {
            assert_eq!(tokens.issue(purpose, shop, invitation), token);
            let others = [Purpose::Survey, Purpose::Unsubscribe, Purpose::MessageId]
                .into_iter()
                .filter(|other| *other != purpose);
            assert!(others.into_iter().all(|other| tokens.verify(other, token).is_none()));
        }
    }
    if let Some((shop, invitation)) = tokens.verify_return_path(token) {
        assert_eq!(tokens.issue_return_path(shop, invitation), token.to_lowercase(), "but for its case");
    }
    assert_eq!(
        tokens.verify_form(Form::Survey, ShopId(1), InvitationId(2), token),
        None,
        "no form is made with this secret"
    );
}
