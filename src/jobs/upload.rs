//! The files of an export, to storage that speaks S3. Only with the cargo feature `s3`; without it, a job that is told to is a mistake of
//! jobs.toml.
//!
//! Comes in: files that are complete. Goes out: an object each under the same name, put there whole or not at all. Larger ones go in
//! parts, a few at a time, so that memory stays flat. If we die half way, parts may lie there that no object has; a rule of the bucket
//! removes such. The next run puts everything there again.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

// Named in Cargo.toml for its features alone.
#[cfg(feature = "s3")]
use reqwest as _;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// Where to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(feature = "s3"), expect(dead_code, reason = "read where it is built with the feature"))]
pub(super) struct Upload {
    bucket: String,
    /// Before the name of each file, as `shop/testimonials`.
    #[serde(default)]
    prefix: String,
    /// The address of the service; absent: Amazon's, of the region.
    endpoint: Option<String>,
    #[serde(default = "any_region")]
    region: String,
    access_key_id: String,
    /// The file with the key's secret.
    secret_access_key_file: PathBuf,
}

/// What services without regions call theirs.
fn any_region() -> String {
    "us-east-1".to_owned()
}

impl Upload {
    /// What is wrong with it.
    pub(super) fn check(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if cfg!(not(feature = "s3")) {
            problems.push("upload: this afterword was built without the cargo feature `s3`".to_owned());
        }
        if self.endpoint.as_deref().is_some_and(|endpoint| !is_safe(endpoint)) {
            problems.push(
                "upload: expected an https endpoint, or an http one on this machine such as http://127.0.0.1:9000"
                    .to_owned(),
            );
        }
        problems
    }

    /// Puts the files there, one after the other, until `stop`; `false`: it was stopped, and some of them are not there.
    ///
    /// # Errors
    /// When the secret cannot be read, or the service does not take a file. Those before it are there.
    #[cfg(feature = "s3")]
    pub(super) async fn send(
        &self,
        config: &Config,
        files: &[&Path],
        stop: &CancellationToken,
    ) -> anyhow::Result<bool> {
        use std::sync::Arc;
        use std::time::Duration;

        use crate::config::secret;
        use anyhow::Context as _;
        use object_store::aws::AmazonS3Builder;
        use object_store::buffered::BufWriter;
        use object_store::{ClientOptions, RetryConfig};
        use tokio::io::AsyncWriteExt as _;

        /// Objects up to here are put at once, larger ones in parts of this.
        const PART: usize = 8 * 1024 * 1024;

        // The client takes the process's own; somebody may have named it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let secret = secret::read(&config.resolve(&self.secret_access_key_file))?;
        let retry =
            RetryConfig { max_retries: 3, retry_timeout: Duration::from_secs(120), ..RetryConfig::default() };
        let is_plain = self.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let mut service = AmazonS3Builder::new()
            .with_bucket_name(&self.bucket)
            .with_region(&self.region)
            .with_access_key_id(&self.access_key_id)
            .with_secret_access_key(secret.trim())
            .with_client_options(
                ClientOptions::new().with_timeout(Duration::from_secs(120)).with_allow_http(is_plain),
            )
            .with_retry(retry);
        if let Some(endpoint) = &self.endpoint {
            service = service.with_endpoint(endpoint);
        }
        let store = Arc::new(service.build().context("the upload")?);
        for file in files {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let place = object_store::path::Path::from(format!("{}/{name}", self.prefix));
            let uploading = || format!("uploading {name} to {}", self.bucket);
            let mut from = tokio::fs::File::open(file).await.with_context(uploading)?;
            let mut to = BufWriter::with_capacity(store.clone(), place, PART).with_max_concurrency(2);
            match stop.run_until_cancelled(tokio::io::copy(&mut from, &mut to)).await {
                // Its last step is not cut off: the parts would stay there.
                Some(Ok(_)) => to.shutdown().await.with_context(uploading)?,
                Some(Err(error)) => {
                    // What was put there in parts is of no use; the first error is the one to tell.
                    let _ = to.abort().await;
                    return Err(error).with_context(uploading);
                }
                None => {
                    let _ = to.abort().await;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// As with the feature.
    ///
    /// # Errors
    /// Always; [`Upload::check`] has said so before.
    #[cfg(not(feature = "s3"))]
    pub(super) async fn send(&self, _: &Config, _: &[&Path], _: &CancellationToken) -> anyhow::Result<bool> {
        anyhow::bail!("this afterword was built without the cargo feature `s3`")
    }
}

/// Whether what is sent there stays unread on the way.
fn is_safe(endpoint: &str) -> bool {
    endpoint.strip_prefix("https://").is_some_and(|host| !host.is_empty())
        || endpoint.strip_prefix("http://").is_some_and(|rest| {
            let host = rest.split('/').next().unwrap_or_default();
            let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
            host == "localhost" || host.parse().is_ok_and(|host: IpAddr| host.is_loopback())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sent_where_others_can_read_it() {
        for (endpoint, expected) in [
            ("https://s3.example", true),
            ("http://127.0.0.1:9000", true),
            ("http://[::1]:9000/", true),
            ("http://localhost", true),
            ("http://s3.example", false),
            ("http://127.0.0.1.example", false),
            ("https://", false),
            ("s3://bucket", false),
        ] {
            assert_eq!(is_safe(endpoint), expected, "{endpoint}");
        }
    }
}
