//! A request to a program of somebody else's, whose address is in jobs.toml and may hold a key.

use std::sync::Arc;
use std::time::Duration;

use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// What makes a request. No redirection is followed, because it could lead anywhere, and a status is no error.
pub fn agent(url: &str, timeout: Duration) -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(timeout))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        // A proxy of the environment would be asked for this machine, too.
        .proxy(None)
        .tls_config(if url.starts_with("https://") { tls() } else { TlsConfig::default() })
        .user_agent(concat!("afterword/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// Whom this machine trusts.
fn tls() -> TlsConfig {
    let found = rustls_native_certs::load_native_certs();
    let roots: Vec<Certificate<'static>> =
        found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build()
}

/// What kind of error it was, of `whom` it was asked; the error itself may quote the address.
pub fn fault(whom: &str, error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("{whom} did not answer in time"),
        ureq::Error::HostNotFound => format!("{whom}'s host is not known"),
        ureq::Error::ConnectionFailed => format!("{whom} does not take connections"),
        ureq::Error::Io(error) if is_certificate(error) => format!("{whom}'s certificate is not trusted"),
        ureq::Error::Io(error) => format!("{whom} cannot be reached: {}", error.kind()),
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => format!("{whom} cannot be spoken to over TLS"),
        _ => format!("{whom} cannot be reached"),
    }
}

fn is_certificate(error: &std::io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}
