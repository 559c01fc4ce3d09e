//! The installation's secret: the key of every link we write. Losing it makes all links in mails that are under way invalid; showing
//! it lets anybody answer for anybody.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

const BYTES: usize = 32;

/// `AFTERWORD_SECRET`, else what the file holds, else a new one that is written there (mode 0600).
///
/// # Errors
/// When the file cannot be read or written, is readable by others, or holds too little.
pub fn load_or_make(file: &Path) -> anyhow::Result<Vec<u8>> {
    if let Some(secret) = super::environment("AFTERWORD_SECRET") {
        ensure!(secret.len() >= BYTES, "AFTERWORD_SECRET is shorter than {BYTES} characters");
        return Ok(secret.into_bytes());
    }
    match make(file) {
        Ok(secret) => return Ok(secret),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => {
            return Err(error).with_context(|| format!("cannot write the secret to {}", file.display()));
        }
    }
    let mode =
        fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!("{} can be read by others; run `chmod 600 {}`", file.display(), file.display());
    }
    let secret = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let secret = secret.trim();
    ensure!(
        secret.len() >= BYTES,
        "{} holds less than {BYTES} characters; is it the secret?",
        file.display()
    );
    Ok(secret.as_bytes().to_vec())
}

/// Writes a new secret; fails when the file is there already. It appears whole or not at all, because two first starts may race.
fn make(file: &Path) -> io::Result<Vec<u8>> {
    if file.exists() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut random = [0; BYTES];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let secret = URL_SAFE_NO_PAD.encode(random);
    let unfinished = file.with_extension(format!("{}.part", std::process::id()));
    let mut out =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    out.write_all(secret.as_bytes())?;
    out.sync_all()?;
    // A link, unlike a rename, refuses to replace what another start has put there meanwhile.
    let linked = fs::hard_link(&unfinished, file);
    fs::remove_file(&unfinished)?;
    linked.map(|()| secret.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data/secret");
        let made = load_or_make(&file).unwrap();
        assert_eq!(load_or_make(&file).unwrap(), made);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(load_or_make(&file).unwrap_err().to_string().contains("chmod 600"));
    }
}
