//! The drop folder: files come in, are imported in the order of their names, and are moved to `done/` or `failed/` beside them.
//!
//! A file is moved after it was imported. If we die between the two, it is offered again, and the import recognises it. Nothing is
//! ever overwritten: where the name is taken, the time of the run goes into it. Beside a file in `done/` lies `<stem>.rejects.csv` with
//! the rows that were not taken, if there are any; beside a file in `failed/` lies `<name>.reason.txt`.
//!
//! Others write to this folder. Only regular files are taken, of which is made sure once they are open; `done/` and `failed/` are folders
//! and no links to some; what is written has a new name, or replaces a regular file.

use std::ffi::OsStr;
use std::fs;
use std::future::Future;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{JobError, Run, RunOutcome, RunReport, counted};
use crate::import::ImportError;
use crate::import::rejects;
use crate::import::run::ImportReport;
use crate::masked;
use crate::new_file::NewFile;
use crate::progress::{Progress, Unit};
use crate::types::Clock;

/// The format of the files where the parameters name none.
pub(super) fn auto() -> String {
    "auto".to_owned()
}

/// A file that was written to within this time may still be growing, and waits for the next run.
pub(super) const STILL_GROWING: Duration = Duration::from_secs(2);

/// Offers every file of the folder to `import`, one after the other, together with where to write the rejects and whom to tell how many
/// bytes of how many are read.
///
/// # Errors
/// When the folder cannot be read or written, or the database fails: then the file stays where it is. What is wrong with a single file
/// is in the report.
pub async fn take_in<Importing>(
    run: &Run<'_>,
    inbox: &Path,
    import: impl Fn(PathBuf, Option<PathBuf>, Reading) -> Importing + Send + Sync,
) -> Result<RunReport, JobError>
where
    Importing: Future<Output = Result<ImportReport, ImportError>> + Send,
{
    // Whether a file is still growing is a matter of the machine's own time, whatever moment the command plays.
    let now = Clock::System.now();
    let (files, n_growing) = waiting(inbox, now.into(), STILL_GROWING)
        .with_context(|| format!("cannot read the folder {}", inbox.display()))?;
    let mut report = Report::default();
    let sizes: Vec<u64> = files.iter().map(|path| fs::metadata(path).map_or(0, |file| file.len())).collect();
    let mut reading = Reading { progress: run.progress.clone(), n_before: 0, n_all: sizes.iter().sum() };
    for (path, size) in files.into_iter().zip(sizes) {
        reading.has_read(0);
        if run.stop.is_cancelled() {
            report.is_stopped = true;
            break;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Beside the file and hidden, until the file has its final name.
        let rejects = (!run.dry_run).then(|| inbox.join(format!(".{name}.rejects")));
        let imported = import(path.clone(), rejects.clone(), reading.clone()).await;
        reading.n_before += size;
        match imported {
            Ok(imported) => {
                if let Some(rejects) = rejects {
                    let moved = put_away(&path, &inbox.join("done"), now)?;
                    if rejects.exists() {
                        let beside = rejects::beside(&moved);
                        fs::rename(&rejects, &beside)
                            .with_context(|| format!("cannot write {}", beside.display()))?;
                    }
                }
                report.add_imported(imported)?;
            }
            Err(ImportError::Stopped) => {
                report.is_stopped = true;
                break;
            }
            // The file may be read better later, and the others now.
            Err(ImportError::Io(error)) => {
                report.add_failed(&name, &format!("{error}; it stays where it is"))
            }
            Err(ImportError::Database(error)) if !is_fault_of_the_file(&error) => return Err(error.into()),
            Err(error) => {
                let mut why = match error {
                    ImportError::Database(error) => masked::reason(&error.into()),
                    other => other.to_string(),
                };
                if !run.dry_run {
                    let moved = put_away(&path, &inbox.join("failed"), now)?;
                    if let Err(error) = write_reason(&moved, &why) {
                        why.push_str(&format!(" ({error})"));
                    }
                }
                report.add_failed(&name, &why);
            }
        }
    }
    Ok(report.finish(n_growing, run.dry_run))
}

/// How much of the files of a folder is read.
#[derive(Debug, Clone)]
pub struct Reading {
    progress: Progress,
    /// In the files before this one, in bytes.
    n_before: u64,
    n_all: u64,
}

impl Reading {
    /// So many bytes of this file are read.
    pub fn has_read(&self, n_bytes: u64) {
        self.progress.at(Unit::Bytes, self.n_before + n_bytes, Some(self.n_all));
    }
}

/// The regular files that may be taken, in the order of their names, and how many are still growing, being written to within
/// `growing_for`. A folder that is not there yet is made.
pub(super) fn waiting(
    inbox: &Path,
    now: SystemTime,
    growing_for: Duration,
) -> io::Result<(Vec<PathBuf>, usize)> {
    fs::create_dir_all(inbox)?;
    let (mut files, mut n_growing) = (Vec::new(), 0);
    for entry in fs::read_dir(inbox)? {
        let entry = entry?;
        // Of the entry itself: a link is not followed, it could lead anywhere.
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if !metadata.is_file() || is_private(&entry.file_name()) {
            continue;
        }
        // A time in the future is a wrong clock somewhere, not a growing file.
        let is_growing = now.duration_since(metadata.modified()?).is_ok_and(|age| age < growing_for);
        if is_growing {
            n_growing += 1;
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok((files, n_growing))
}

/// Names that mean "not yet" or "not for you".
fn is_private(name: &OsStr) -> bool {
    let name = name.to_string_lossy().to_lowercase();
    name.starts_with('.') || [".part", ".tmp", ".rejects.csv"].iter().any(|end| name.ends_with(end))
}

/// Makes a folder among what others may write to, or sees that it is one.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ if fs::symlink_metadata(folder)?.is_dir() => Ok(()),
        _ => Err(io::Error::other("it is no folder, but a link or a file")),
    }
}

/// Moves a file into a folder under its own name, or under one with the time where that is taken; answers where it is now.
pub(super) fn put_away(path: &Path, folder: &Path, now: DateTime<Utc>) -> anyhow::Result<PathBuf> {
    let move_it = || -> io::Result<PathBuf> {
        make_folder(folder)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (stem, ending) =
            name.rsplit_once('.').map_or((&*name, String::new()), |(stem, e)| (stem, format!(".{e}")));
        let time = now.format("%Y%m%dT%H%M%SZ");
        let mut target = folder.join(&*name);
        let mut n = 1;
        loop {
            // Reserves the name, so that the move replaces nothing but our own empty file.
            match fs::OpenOptions::new().write(true).create_new(true).open(&target) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let counter = if n == 1 { String::new() } else { format!("-{n}") };
                    target = folder.join(format!("{stem}.{time}{counter}{ending}"));
                    n += 1;
                }
                Err(error) => return Err(error),
            }
        }
        fs::rename(path, &target)?;
        Ok(target)
    };
    move_it().with_context(|| format!("cannot move a file into {}", folder.display()))
}

fn write_reason(path: &Path, why: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".reason.txt");
    let mut file = NewFile::create(&path.with_file_name(name))?;
    writeln!(file, "{why}")?;
    file.publish()
}

/// Whether the database objects to what stands in the file, which must then not keep the files behind it waiting. Otherwise it was
/// away, out of space or in another's hands, and the same file may well be imported later.
fn is_fault_of_the_file(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    // Data exceptions, broken constraints, limits of the program.
    code.is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
}

#[derive(Default)]
struct Report {
    files: Vec<Value>,
    listing: Vec<String>,
    n_known: u64,
    n_failed: u64,
    n_read: u64,
    n_aside: u64,
    n_rejected: u64,
    /// Answers that earlier files have brought: whose order has come, and which have waited too long.
    n_matched: u64,
    n_expired: u64,
    /// After so many files nobody could look for them.
    n_not_tried: u64,
    is_stopped: bool,
}

impl Report {
    fn add_imported(&mut self, imported: ImportReport) -> anyhow::Result<()> {
        self.n_known += u64::from(imported.already_imported.is_some());
        self.n_read += imported.n_read;
        self.n_aside += imported.n_aside;
        self.n_rejected += imported.n_rejected;
        let file = &imported.file_name;
        let aside =
            if imported.n_aside > 0 { format!(", {} kept aside", imported.n_aside) } else { String::new() };
        self.listing
            .push(format!("{file}: {} rows read{aside}, {} rejected", imported.n_read, imported.n_rejected));
        for reject in &imported.rejects {
            self.listing.push(format!("{file}: {}", reject.sentence()));
        }
        if let Some(waited) = &imported.waited {
            self.n_matched += waited.n_matched;
            self.n_expired += waited.n_expired;
            for reject in &waited.rejects {
                self.listing.push(format!("a file of before: {}", reject.sentence()));
            }
        }
        if let Some(why) = &imported.not_tried {
            self.n_not_tried += 1;
            self.listing.push(format!("{file}: the answers that wait could not be looked through: {why}"));
        }
        self.files.push(serde_json::to_value(&imported)?);
        Ok(())
    }

    fn add_failed(&mut self, name: &str, why: &str) {
        tracing::warn!(file = %masked::words(name), why, "a file could not be imported");
        self.n_failed += 1;
        self.listing.push(format!("{name}: {why}"));
        self.files.push(json!({ "file_name": name, "error": why }));
    }

    fn finish(self, n_growing: usize, dry_run: bool) -> RunReport {
        let n_files = self.files.len();
        let mut text = match n_files {
            0 => "no file was waiting".to_owned(),
            _ => format!(
                "{}{}, {} read, {} rejected",
                counted(n_files as u64, "file"),
                if dry_run { " looked at" } else { "" },
                counted(self.n_read, "row"),
                self.n_rejected
            ),
        };
        for (n, words) in [
            (self.n_aside, "kept aside until their order comes"),
            (self.n_matched, "that waited have their order now"),
            (self.n_expired, "that waited are given up"),
            (self.n_known, "known from before"),
            (self.n_failed, "failed"),
            (n_growing as u64, "still growing"),
        ] {
            if n > 0 {
                text.push_str(&format!(", {n} {words}"));
            }
        }
        if self.n_not_tried > 0 {
            text.push_str("; the answers that wait could not be looked through, which the next import does");
        }
        if self.is_stopped {
            text.push_str("; stopped before the end, the others wait for the next run");
        }
        let has_failed = self.n_failed > 0 || self.n_not_tried > 0;
        let is_partial = self.n_rejected > 0 || self.n_expired > 0 || has_failed || self.is_stopped;
        RunReport {
            outcome: if is_partial { RunOutcome::Partial } else { RunOutcome::Done },
            text,
            details: json!({
                "n_files": n_files,
                "n_known": self.n_known,
                "n_failed": self.n_failed,
                "n_growing": n_growing,
                "n_read": self.n_read,
                "n_aside": self.n_aside,
                "n_rejected": self.n_rejected,
                "n_matched": self.n_matched,
                "n_expired": self.n_expired,
                "files": self.files,
            }),
            // What a person sees at once; a run by the schedule has nobody to show it to.
            listing: self.listing,
            pause: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &[PathBuf]) -> Vec<String> {
        files.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn only_finished_regular_files_are_taken_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let inbox = folder.path().join("inbox");
        fs::create_dir_all(inbox.join("folder.csv")).unwrap();
        for name in ["b.csv", "a.csv", ".hidden", "c.csv.part", "d.TMP", "a.csv.rejects.csv"] {
            fs::write(inbox.join(name), "x").unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", inbox.join("link.csv")).unwrap();
        let modified = fs::metadata(inbox.join("b.csv")).unwrap().modified().unwrap();

        let (files, n_growing) =
            waiting(&inbox, modified + Duration::from_millis(500), STILL_GROWING).unwrap();
        assert_eq!((names(&files), n_growing), (Vec::new(), 2));
        let (files, n_growing) = waiting(&inbox, modified + Duration::from_secs(3), STILL_GROWING).unwrap();
        assert_eq!((names(&files), n_growing), (vec!["a.csv".to_owned(), "b.csv".to_owned()], 0));
        let (files, _) = waiting(&inbox, modified - Duration::from_secs(3600), STILL_GROWING).unwrap();
        assert_eq!(files.len(), 2, "a file of the future is no growing file");
        assert_eq!(waiting(&folder.path().join("new"), modified, STILL_GROWING).unwrap(), (Vec::new(), 0));
    }

    #[test]
    fn nothing_leaves_by_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (elsewhere, file) = (folder.path().join("elsewhere"), folder.path().join("orders.csv"));
        fs::create_dir(&elsewhere).unwrap();
        fs::write(&file, "x").unwrap();
        let now = "2026-11-22T03:00:00Z".parse().unwrap();
        let done = folder.path().join("done");
        std::os::unix::fs::symlink(&elsewhere, &done).unwrap();
        let error = format!("{:#}", put_away(&file, &done, now).unwrap_err());
        assert!(error.contains("it is no folder"), "{error}");
        assert!(file.exists() && fs::read_dir(&elsewhere).unwrap().next().is_none());

        let victim = folder.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, folder.path().join("orders.csv.reason.txt")).unwrap();
        assert!(write_reason(&file, "why").is_err());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        // A link under the name of a file that is moved is a taken name, as any other.
        let failed = folder.path().join("failed");
        fs::create_dir(&failed).unwrap();
        std::os::unix::fs::symlink(&victim, failed.join("orders.csv")).unwrap();
        let moved = put_away(&file, &failed, now).unwrap();
        assert_eq!(moved, failed.join("orders.20261122T030000Z.csv"));
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    }

    #[test]
    fn nothing_is_overwritten_when_files_are_put_away() {
        let folder = tempfile::tempdir().unwrap();
        let done = folder.path().join("done");
        let now = "2026-11-22T03:00:00Z".parse().unwrap();
        for content in ["first", "second", "third"] {
            let path = folder.path().join("orders.csv");
            fs::write(&path, content).unwrap();
            put_away(&path, &done, now).unwrap();
            assert!(!path.exists());
        }
        for (name, content) in [
            ("orders.csv", "first"),
            ("orders.20261122T030000Z.csv", "second"),
            ("orders.20261122T030000Z-2.csv", "third"),
        ] {
            assert_eq!(fs::read_to_string(done.join(name)).unwrap(), content);
        }
    }
}
