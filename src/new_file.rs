//! A file that appears complete or not at all: written beside its name, made durable, then renamed.
//!
//! Others may be able to write to the folder. What they put there under our names is not followed: the file beside is always a new one,
//! and only a regular file is replaced, because to replace `/dev/null` or what a link leads to is never what was meant.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A file on its way. Dropped before [`NewFile::publish`], it leaves nothing behind; if the process is killed, a hidden `.….part` stays
/// beside the name.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    part: PathBuf,
    file: File,
    published: bool,
}

impl NewFile {
    /// Begins a file, and its folder if need be. Its group may read it, the rest of the world may not.
    ///
    /// # Errors
    /// When the folder cannot be written, or the name is that of something else than a file. Every error names the file.
    pub fn create(path: &Path) -> io::Result<Self> {
        Self::with_mode(path, 0o640)
    }

    /// As [`NewFile::create`], for everybody to read.
    ///
    /// # Errors
    /// As [`NewFile::create`].
    pub fn create_public(path: &Path) -> io::Result<Self> {
        Self::with_mode(path, 0o644)
    }

    /// As [`NewFile::create`], for its owner alone.
    ///
    /// # Errors
    /// As [`NewFile::create`].
    pub fn create_private(path: &Path) -> io::Result<Self> {
        Self::with_mode(path, 0o600)
    }

    fn with_mode(path: &Path, mode: u32) -> io::Result<Self> {
        let Some(name) = path.file_name().filter(|_| !path.is_dir()) else {
            return Err(io::Error::other(format!("{} is a folder: name a file in it", path.display())));
        };
        match fs::symlink_metadata(path).map(|there| there.file_type()) {
            Ok(kind) if kind.is_symlink() => {
                return Err(io::Error::other(format!("{} is a link: name the file itself", path.display())));
            }
            Ok(kind) if !kind.is_file() => {
                return Err(io::Error::other(format!(
                    "{} is a device or a pipe, and a file would take its place",
                    path.display()
                )));
            }
            _ => {}
        }
        let folder = folder(path);
        fs::create_dir_all(folder).map_err(|error| writing(path, &error))?;
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.part", std::process::id()));
        let part = folder.join(hidden);
        let create = || OpenOptions::new().write(true).create_new(true).mode(mode).open(&part);
        let file = match create() {
            // Left by a process that had our number and was killed; or put there by somebody else.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&part).and_then(|()| create())
            }
            created => created,
        };
        let file = file.map_err(|error| writing(path, &error))?;
        Ok(Self { path: path.to_owned(), part, file, published: false })
    }

    /// The file itself, for another program to write to.
    ///
    /// # Errors
    /// When the system has no more handles to give.
    pub fn handle(&self) -> io::Result<File> {
        self.file.try_clone().map_err(|error| writing(&self.path, &error))
    }

    /// Makes what was written survive a loss of power.
    ///
    /// # Errors
    /// When the disk refuses, because it is full for example.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all().map_err(|error| writing(&self.path, &error))
    }

    /// Gives it its name; a file that had it is replaced.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn publish(mut self) -> io::Result<()> {
        fs::rename(&self.part, &self.path).map_err(|error| writing(&self.path, &error))?;
        self.published = true;
        // The name is on the disk once its folder is.
        File::open(folder(&self.path))
            .and_then(|folder| folder.sync_all())
            .map_err(|error| writing(&self.path, &error))
    }
}

/// Says which file it was, and stays the error that it is.
fn writing(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("writing {}: {error}", path.display()))
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.published {
            // Whatever brought us here is the error to report.
            let _ = fs::remove_file(&self.part);
        }
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn appears_when_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("exports/latest.csv");
        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"old").unwrap();
        assert!(!path.exists());
        file.sync().unwrap();
        file.publish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o007, 0, "not for the world");

        let private = folder.path().join("exports/private.csv");
        let file = NewFile::create_private(&private).unwrap();
        file.publish().unwrap();
        assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_file(private).unwrap();

        let mut given_up = NewFile::create(&path).unwrap();
        given_up.write_all(b"half").unwrap();
        drop(given_up);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = NewFile::create(folder.path()).unwrap_err();
        assert!(error.to_string().contains("is a folder"), "{error}");
        assert!(NewFile::create(Path::new("/proc/afterword/x.csv")).is_err());
    }

    #[test]
    fn nothing_but_a_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, link) = (folder.path().join("victim"), folder.path().join("latest.csv"));
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (other, why) in [(&*link, "is a link"), (&pipe, "is a device or a pipe")] {
            let error = NewFile::create(other).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        assert!(NewFile::create(Path::new("/dev/null")).is_err(), "who is root would take it from everybody");

        // A link under the name that is written beside.
        let part = folder.path().join(format!(".new.csv.{}.part", std::process::id()));
        std::os::unix::fs::symlink(&victim, part).unwrap();
        let mut file = NewFile::create(&folder.path().join("new.csv")).unwrap();
        file.write_all(b"ours").unwrap();
        file.publish().unwrap();
        assert_eq!(fs::read(folder.path().join("new.csv")).unwrap(), b"ours");
        assert_eq!(fs::read(&victim).unwrap(), b"precious");

        for name in ["x".repeat(300), "nul\0.csv".to_owned()] {
            assert!(NewFile::create(&folder.path().join(name)).is_err());
        }
    }
}
