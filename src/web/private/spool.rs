//! What is sent is made first, in a file that has no name: so its validator is known before its first byte leaves, a reader who has it
//! already is told so, what goes wrong while it is made is an error and not half a file, and memory stays flat however long it is.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, Write};
use std::path::Path;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

/// What is read from the file and handed to the connection at a time.
const PIECE: usize = 64 * 1024;

/// How it is packed for the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Plain,
    Gzip,
}

impl Coding {
    /// What the reader takes (RFC 9110, section 12.5.3): packed, if they say so and do not add that they would rather not.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
        let takes = lines.flat_map(|line| line.split(',')).any(|one| {
            let mut parts = one.split(';').map(str::trim);
            let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
            let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
            is_gzip && weight.is_none_or(|weight| weight > 0.0)
        });
        if takes { Self::Gzip } else { Self::Plain }
    }
}

/// A file on its way.
pub(super) struct Spool {
    digest: Sha256,
    out: Out,
}

enum Out {
    Plain(BufWriter<File>),
    Gzip(GzEncoder<BufWriter<File>>),
}

impl Spool {
    /// Begins one in this folder, or below the folder where it will be. When the program dies, nothing is left behind.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(super) fn create(folder: &Path, coding: Coding) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let file = BufWriter::new(tempfile::tempfile_in(folder)?);
        let out = match coding {
            Coding::Plain => Out::Plain(file),
            Coding::Gzip => Out::Gzip(GzEncoder::new(file, Compression::fast())),
        };
        Ok(Self { digest: Sha256::new(), out })
    }

    /// It is complete.
    ///
    /// # Errors
    /// When the disk refuses, because it is full for example.
    pub(super) fn finish(self) -> io::Result<Spooled> {
        let (file, coding) = match self.out {
            Out::Plain(file) => (file, Coding::Plain),
            Out::Gzip(packed) => (packed.finish()?, Coding::Gzip),
        };
        let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        let (len, digest) = (file.metadata()?.len(), self.digest.finalize());
        Ok(Spooled { file, len, coding, tag: URL_SAFE_NO_PAD.encode(&digest[..16]) })
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = match &mut self.out {
            Out::Plain(file) => file.write(bytes)?,
            Out::Gzip(packed) => packed.write(bytes)?,
        };
        self.digest.update(&bytes[..n]);
        Ok(n)
    }

    /// There is nobody yet to read it, and to end a packed block early would only make it longer.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that is complete and was not sent.
#[derive(Debug)]
pub(super) struct Spooled {
    file: File,
    /// In bytes, packed as it is.
    pub(super) len: u64,
    pub(super) coding: Coding,
    /// Of what is in it, however it is packed.
    tag: String,
}

impl Spooled {
    /// The validator: it is other when a byte is. (Strong ones tell packed from not packed: RFC 9110, section 8.8.3.3.)
    pub(super) fn etag(&self) -> String {
        let suffix = if self.coding == Coding::Gzip { "-gzip" } else { "" };
        format!("\"{}{suffix}\"", self.tag)
    }

    /// Whether the reader has exactly this already, packed or not.
    pub(super) fn is_known(&self, headers: &HeaderMap) -> bool {
        let lines = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).map(str::trim).any(|one| {
            let tag = one.trim_start_matches("W/").trim_matches('"');
            one == "*" || tag.strip_suffix("-gzip").unwrap_or(tag) == self.tag
        })
    }

    /// What is sent. When the reader has taken the last of it, `settle` decides whether it counts; only if it does, the reader is told
    /// that this was the end. A reader who goes away before drops `settle`.
    pub(super) fn body(self, settle: impl Future<Output = io::Result<()>> + Send + 'static) -> Body {
        let file = tokio::fs::File::from_std(self.file);
        Body::from_stream(stream::try_unfold((file, settle), |(mut file, settle)| async move {
            let mut piece = vec![0; PIECE];
            let n = file.read(&mut piece).await?;
            if n > 0 {
                piece.truncate(n);
                return Ok::<_, io::Error>(Some((piece, (file, settle))));
            }
            // Lets the connection hand on what it holds, and learn that nobody is there any more.
            tokio::task::yield_now().await;
            settle.await?;
            Ok(None)
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use axum::http::HeaderValue;

    use super::*;

    fn spooled(coding: Coding, text: &str) -> Spooled {
        let mut spool = Spool::create(&std::env::temp_dir(), coding).unwrap();
        spool.write_all(text.as_bytes()).unwrap();
        spool.flush().unwrap();
        spool.finish().unwrap()
    }

    #[test]
    fn packed_or_not_it_is_the_same() {
        let text = "Très bien\r\n".repeat(10_000);
        let mut plain = spooled(Coding::Plain, &text);
        let mut packed = spooled(Coding::Gzip, &text);
        assert_eq!(plain.etag().replace("\"", ""), packed.etag().replace("\"", "").replace("-gzip", ""));
        assert_ne!(plain.etag(), packed.etag());
        let [mut read, mut unpacked] = [String::new(), String::new()];
        plain.file.read_to_string(&mut read).unwrap();
        flate2::read::GzDecoder::new(&mut packed.file).read_to_string(&mut unpacked).unwrap();
        assert!(read == text && unpacked == text);
        assert!(packed.file.metadata().unwrap().len() < 5_000);
        assert_ne!(spooled(Coding::Plain, "other").etag(), plain.etag());
    }

    #[test]
    fn what_the_reader_has_is_known() {
        let file = spooled(Coding::Gzip, "x");
        let headers = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_str(value).unwrap());
            headers
        };
        let etag = file.etag();
        let plain = etag.replace("-gzip", "");
        for known in
            [etag.clone(), plain.clone(), format!("W/{etag}"), format!("\"a\", {plain}"), "*".to_owned()]
        {
            assert!(file.is_known(&headers(&known)), "{known}");
        }
        for unknown in ["\"a\"", "", "\"\"", "W/\"a\", \"b\""] {
            assert!(!file.is_known(&headers(unknown)), "{unknown}");
        }
        assert!(!file.is_known(&HeaderMap::new()));
    }

    #[test]
    fn it_is_packed_for_who_says_so() {
        let check = |value: &str, expected: Coding| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_str(value).unwrap());
            assert_eq!(Coding::of(&headers), expected, "{value}");
        };
        check("gzip", Coding::Gzip);
        check("br, GZIP;q=0.5", Coding::Gzip);
        check("gzip;q=0", Coding::Plain);
        check("gzip; q=0.000, deflate", Coding::Plain);
        check("identity", Coding::Plain);
        check("*", Coding::Plain);
    }
}
