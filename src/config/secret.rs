//! Files that hold a secret, and the installation's own: the key of every link we write. Losing it makes all links in mails that are under
//! way invalid; showing it lets anybody answer for anybody.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

const BYTES: usize = 32;

/// Why the secret in a file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("cannot read {}: {error}", .file.display())]
    Unreadable { file: PathBuf, error: io::Error },
    #[error("{} can be read by others; {}", .file.display(), hidden(.file))]
    Exposed { file: PathBuf },
}

/// What a file holds that must be a secret to be used.
///
/// # Errors
/// When it cannot be read, or others may read it as well.
pub fn read(path: &Path) -> Result<String, Unusable> {
    let unreadable = |error| Unusable::Unreadable { file: path.to_owned(), error };
    let mut file = fs::File::open(path).map_err(unreadable)?;
    if is_for_others(&file.metadata().map_err(unreadable)?) {
        return Err(Unusable::Exposed { file: path.to_owned() });
    }
    let mut secret = String::new();
    file.read_to_string(&mut secret).map_err(unreadable)?;
    Ok(secret)
}

/// Whether others than its owner may read or change a file. The group may read what is root's: so a service reads what it may not change.
/// Where users have namespaces of their own, as in a container without root, root's file is that of another number (65534); so the group
/// may also read what is not ours, if it is a group of ours.
pub fn is_for_others(metadata: &fs::Metadata) -> bool {
    let is_ours = |group| {
        let is_one = |ours: nix::unistd::Gid| ours.as_raw() == group;
        is_one(nix::unistd::getegid())
            || nix::unistd::getgroups().is_ok_and(|all| all.into_iter().any(is_one))
    };
    let us = nix::unistd::geteuid().as_raw();
    is_exposed(metadata.mode(), metadata.uid(), us, || is_ours(metadata.gid()))
}

fn is_exposed(mode: u32, owner: u32, us: u32, is_our_group: impl FnOnce() -> bool) -> bool {
    let may_group_read = owner == 0 || owner != us && is_our_group();
    mode & if may_group_read { 0o027 } else { 0o077 } != 0
}

/// What to do about a file that others can read.
pub fn hidden(file: &Path) -> String {
    format!(
        "run `chmod 600 {0}`, or `chmod 640 {0}` where it is root's and its group is the service's; \
         a secret that a container mounts needs mode 0440 and the program's group (README.md, Docker)",
        file.display()
    )
}

/// Whether a password stands in an address.
pub fn has_password(url: &str) -> bool {
    let user = url.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')).map(|(user, _)| user);
    user.is_some_and(|user| user.contains(':')) || url.contains("password=")
}

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
    let secret = read(file)?;
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
    use std::os::unix::fs::PermissionsExt as _;

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

    #[test]
    fn the_group_reads_what_is_roots_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        fs::write(&file, "hush").unwrap();
        let is_root = fs::metadata(&file).unwrap().uid() == 0;
        for (mode, is_kept) in [
            (0o600, true),
            (0o400, true),
            (0o640, is_root),
            (0o660, false),
            (0o644, false),
            (0o604, false),
            (0o602, false),
        ] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&file).is_ok(), is_kept, "{mode:o}");
        }
    }

    #[test]
    fn a_secret_that_a_container_mounts_is_kept_by_its_group() {
        const US: u32 = 65532;
        for (mode, owner, is_our_group, is_kept) in [
            // Root's: as Swarm, Podman and Kubernetes mount it where they are told, and where they are not.
            (0o440, 0, true, true),
            (0o444, 0, true, false),
            (0o644, 0, true, false),
            // Root's, seen from within another namespace.
            (0o440, 65534, true, true),
            (0o460, 65534, true, false),
            (0o440, 65534, false, false),
            // Our own file needs no group.
            (0o440, US, true, false),
            (0o400, US, false, true),
        ] {
            let is_exposed = is_exposed(mode, owner, US, || is_our_group);
            assert_eq!(is_exposed, !is_kept, "{mode:o} of {owner}, {is_our_group}");
        }
    }

    #[test]
    fn a_password_is_seen_in_an_address() {
        for url in ["postgres://u:hush@db/x", "postgres://db/x?user=u&password=hush"] {
            assert!(has_password(url), "{url}");
        }
        assert!(!has_password("postgres://u@db:5432/x"));
    }
}
