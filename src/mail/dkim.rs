//! Signing mails here, for those whose relay does not (RFC 6376, relaxed). Only with the cargo feature `dkim`; without it there is no
//! signer, and the compiler knows.
//!
//! The signature carries the moment it was made, so that a mail that is tried again has another signature over the same message.

#[cfg(feature = "dkim")]
pub use self::signing::Signer;

/// Nobody signs in this build.
#[cfg(not(feature = "dkim"))]
#[derive(Debug, Clone)]
pub enum Signer {}

#[cfg(not(feature = "dkim"))]
impl Signer {
    /// There is none.
    ///
    /// # Errors
    /// Always, and says how to build one that can sign.
    pub fn new(_domain: &str, _selector: &str, _key: &str) -> Result<Self, String> {
        Err("cannot be used: this program was built without signing. Let the relay sign, or build it with `cargo install --path . --features dkim`".to_owned())
    }

    /// Signs.
    pub fn sign(&self, _: &mut lettre::Message) {
        match *self {}
    }
}

#[cfg(feature = "dkim")]
mod signing {
    use std::fmt;
    use std::sync::Arc;

    use lettre::Message;
    use lettre::message::dkim::{
        DkimCanonicalization, DkimCanonicalizationType, DkimConfig, DkimSigningAlgorithm, DkimSigningKey,
    };
    use lettre::message::header::HeaderName;

    /// What a signature covers; the last two because RFC 8058 wants them covered. Not `Content-Type`: to the library that header belongs to
    /// the body, and it would be signed as if it were not there.
    const HEADERS: [&str; 10] = [
        "From",
        "Reply-To",
        "To",
        "Subject",
        "Date",
        "Message-ID",
        "MIME-Version",
        "Auto-Submitted",
        "List-Unsubscribe",
        "List-Unsubscribe-Post",
    ];

    /// Who signs, with what. Does not show the key.
    #[derive(Clone)]
    pub struct Signer(Arc<DkimConfig>);

    impl fmt::Debug for Signer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Signer(…)")
        }
    }

    impl Signer {
        /// With the private key whose public half stands in DNS at `<selector>._domainkey.<domain>`: an RSA key in PKCS #1 PEM, or the 32
        /// bytes of an Ed25519 key in base64.
        ///
        /// # Errors
        /// When it is no such key; the key is not repeated.
        pub fn new(domain: &str, selector: &str, key: &str) -> Result<Self, String> {
            let algorithm = if key.contains("-----BEGIN") {
                DkimSigningAlgorithm::Rsa
            } else {
                DkimSigningAlgorithm::Ed25519
            };
            let key = DkimSigningKey::new(key.trim(), algorithm).map_err(|_| {
                "has a key that is neither an RSA key that begins with -----BEGIN RSA PRIVATE KEY----- nor a 32-byte Ed25519 key in base64".to_owned()
            })?;
            let relaxed = DkimCanonicalization {
                header: DkimCanonicalizationType::Relaxed,
                body: DkimCanonicalizationType::Relaxed,
            };
            let headers = HEADERS.map(HeaderName::new_from_ascii_str).into();
            Ok(Self(Arc::new(DkimConfig::new(selector.to_owned(), domain.to_owned(), key, headers, relaxed))))
        }

        /// Adds the signature to the headers.
        pub fn sign(&self, message: &mut Message) {
            message.sign(&self.0);
        }
    }
}
