//! Reads what came back by mail: bounces, complaints and automatic replies.
//!
//! Comes in: the messages of a Maildir (or a folder of message files), or of an mbox. Goes out: rows in `bounce`, the do-not-contact list,
//! `unknown` mails settled (see [`collect`]); the messages in `done/`, and what is no mail message
//! in `aside/`. Nothing is deleted. If it dies half way, what was not put away is read again, and counts once: each row keeps the digest
//! of its message.
//!
//! An mbox is taken as mail programs do it: under the locks that mail systems heed (a `.lock` file, `flock` and `fcntl`) it is copied and
//! emptied, so that nothing is appended to what is being read, and a large mailbox is read once and not every time. If it dies between
//! the two, the same messages come twice, and count once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use nix::fcntl::{FcntlArg, fcntl};
use serde::Deserialize;
use serde_json::json;

use super::{Job, JobError, Run, RunOutcome, RunReport, counted, inbox, named_or_all};
use crate::config::Config;
use crate::import::text::{open_dropped, open_regular};
use crate::invitations::bounces::collect::{self, NotOurs, Outcome};
use crate::invitations::bounces::mailbox::{self, Messages, RawMessage};
use crate::invitations::bounces::{self, BounceKind};
use crate::masked;
use crate::new_file::NewFile;
use crate::progress::Unit;
use crate::retention::PutAway;
use crate::types::Clock;

/// `[jobs.<name>.params]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectBounces {
    /// A Maildir, or a folder of message files.
    maildir: Option<PathBuf>,
    /// A mailbox file.
    mbox: Option<PathBuf>,
}

impl Job for CollectBounces {
    const KIND: &'static str = "collect_bounces";
    const ABOUT: &'static str = "Reads bounces, complaints and automatic replies from a mailbox";
    const SAMPLE: &'static str = r#"maildir = "./data/inbox/bounces""#;

    fn check(&self, _: &Config) -> Vec<String> {
        match (&self.maildir, &self.mbox) {
            (None, None) => vec!["name the mailbox: `maildir` (a folder) or `mbox` (a file)".to_owned()],
            (Some(_), Some(_)) => {
                vec!["`maildir` and `mbox` exclude each other; make two jobs of it".to_owned()]
            }
            _ => Vec::new(),
        }
    }

    fn shops(&self, config: &Config) -> Vec<String> {
        named_or_all(None, config)
    }

    fn files(&self) -> Vec<&Path> {
        self.maildir.as_deref().into_iter().chain(self.mbox.as_deref()).collect()
    }

    /// Of an mbox they lie beside it, in folders that need not be ours alone.
    fn put_away(&self) -> Vec<PutAway> {
        let Some(mbox) = &self.mbox else {
            return self.maildir.iter().flat_map(|maildir| PutAway::below(maildir)).collect();
        };
        let beginning = format!("{}.", mbox.file_name().unwrap_or_default().to_string_lossy());
        [("done", ".taken"), ("aside", ".eml")]
            .map(|(folder, ending)| PutAway {
                folder: mbox.with_file_name(folder),
                beginning: beginning.clone(),
                ending,
            })
            .into()
    }

    async fn run(&self, run: &Run<'_>) -> Result<RunReport, JobError> {
        let mut tally = Tally::default();
        let resolve = |path: &PathBuf| run.context.config.resolve(path);
        match (self.maildir.as_ref().map(resolve), self.mbox.as_ref().map(resolve)) {
            (Some(maildir), None) => from_folder(run, &maildir, &mut tally).await?,
            (None, Some(mbox)) => from_mbox(run, &mbox, &mut tally).await?,
            _ => anyhow::bail!("exactly one of `maildir` and `mbox` has to be there"),
        }
        if !run.dry_run {
            tally.n_settled += collect::settle_late(&run.context.pool).await?;
        }
        Ok(tally.report(run.dry_run))
    }
}

/// The messages of a Maildir or of a folder, a file after the other; each is put away when what follows from it is done.
async fn from_folder(run: &Run<'_>, folder: &Path, tally: &mut Tally) -> anyhow::Result<()> {
    // Whether a file is still growing is a matter of the machine's own time, whatever moment the command plays.
    let now = Clock::System.now();
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let places =
        mailbox::folders(folder).with_context(|| format!("cannot read the folder {}", folder.display()))?;
    for place in places {
        // What is in `new` or `cur` is whole. Any other folder is filled by whoever copies files there.
        let growing_for = if place == folder { inbox::STILL_GROWING } else { Duration::ZERO };
        let (files, n_growing) = inbox::waiting(&place, SystemTime::from(now), growing_for)
            .with_context(|| format!("cannot read the folder {}", place.display()))?;
        tally.n_growing += n_growing as u64;
        for path in files {
            if run.stop.is_cancelled() {
                tally.is_stopped = true;
                return Ok(());
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let (n_read, n_malformed) = (tally.n_read, tally.n_malformed);
            match open_dropped(&path).and_then(Messages::new) {
                Ok(messages) => match each(run, &name, messages, tally, |_| Ok(())).await? {
                    Ended::Whole => {}
                    Ended::Stopped => return Ok(()),
                    Ended::Unreadable(error) => {
                        tally.add_unreadable(&name, &error);
                        continue;
                    }
                },
                Err(error) => {
                    tally.add_unreadable(&name, &error);
                    continue;
                }
            }
            let nothing_in_it = tally.n_read - n_read == tally.n_malformed - n_malformed;
            if nothing_in_it {
                tally.say(&name, "is no mail message, and goes to aside");
            }
            if !run.dry_run {
                inbox::put_away(&path, &folder.join(if nothing_in_it { "aside" } else { "done" }), now)?;
            }
        }
    }
    Ok(())
}

/// The messages of an mbox: taken into a file of our own, which is put away at the end.
async fn from_mbox(run: &Run<'_>, mbox: &Path, tally: &mut Tally) -> anyhow::Result<()> {
    let now = Clock::System.now();
    let name = mbox.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let beside = mbox.parent().unwrap_or_else(|| Path::new("."));
    let taken = mbox.with_file_name(format!("{name}.taken"));
    if run.dry_run {
        for path in [&taken, mbox] {
            match open_dropped(path) {
                Ok(content) => {
                    if let Ended::Unreadable(error) =
                        each(run, &name, Messages::new(content)?, tally, |_| Ok(())).await?
                    {
                        tally.add_unreadable(&name, &error);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tally.add_unreadable(&name, &error),
            }
        }
        return Ok(());
    }
    // What a run that died had taken comes first; then what has come since.
    for is_left_over in [true, false] {
        if !is_left_over {
            match take_mbox(mbox, &taken) {
                Ok(Taking::Taken) => {}
                Ok(Taking::Empty) => return Ok(()),
                Ok(Taking::Locked(by)) => {
                    tally.is_locked = true;
                    tally.say(&name, &format!("is being written to ({by}), and waits for the next run"));
                    return Ok(());
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot take the mailbox {}", mbox.display()));
                }
            }
        } else if !taken.is_symlink() && !taken.exists() {
            continue;
        }
        let content = open_dropped(&taken).with_context(|| format!("cannot read {}", taken.display()))?;
        let messages = Messages::new(content).with_context(|| format!("cannot read {}", taken.display()))?;
        let keep_aside = |raw: &RawMessage| {
            let aside = beside.join("aside");
            inbox::make_folder(&aside)?;
            let digest: String = raw.digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
            let mut file = NewFile::create_private(&aside.join(format!("{name}.{digest}.eml")))?;
            file.write_all(&raw.bytes)?;
            file.publish()
        };
        match each(run, &name, messages, tally, keep_aside).await? {
            Ended::Whole => {
                inbox::put_away(&taken, &beside.join("done"), now)?;
            }
            Ended::Stopped => return Ok(()),
            Ended::Unreadable(error) => {
                return Err(error).with_context(|| format!("cannot read {}", taken.display()));
            }
        }
    }
    Ok(())
}

/// How the reading of a file ended.
enum Ended {
    Whole,
    Stopped,
    Unreadable(io::Error),
}

/// Reads every message of a file and does what follows from it. `aside` is given what is no mail message.
async fn each(
    run: &Run<'_>,
    name: &str,
    mut messages: Messages<File>,
    tally: &mut Tally,
    aside: impl Fn(&RawMessage) -> io::Result<()>,
) -> anyhow::Result<Ended> {
    let context = run.context;
    loop {
        if run.stop.is_cancelled() {
            tally.is_stopped = true;
            return Ok(Ended::Stopped);
        }
        let raw = match messages.read_next() {
            Ok(Some(raw)) => raw,
            Ok(None) => return Ok(Ended::Whole),
            Err(error) => return Ok(Ended::Unreadable(error)),
        };
        tally.n_read += 1;
        run.progress.one_more(Unit::Messages);
        let Some(report) = bounces::read(&raw.bytes) else {
            tally.n_malformed += 1;
            if !run.dry_run {
                aside(&raw).context("cannot put a message aside")?;
            }
            continue;
        };
        let now = context.clock.now();
        let outcome =
            collect::take(&context.pool, &context.tokens, &report, &raw.digest, now, run.dry_run).await?;
        tally.add(name, outcome);
    }
}

/// Whether a mailbox could be taken.
enum Taking {
    Taken,
    /// There is no such file, or nothing in it.
    Empty,
    /// Somebody else has it, by this lock.
    Locked(&'static str),
}

/// Moves what is in the mailbox into a file of ours: copied, on the disk, and only then emptied.
fn take_mbox(mbox: &Path, taken: &Path) -> io::Result<Taking> {
    let file = match open_regular(OpenOptions::new().read(true).write(true), mbox) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Taking::Empty),
        Err(error) => return Err(error),
    };
    let Some(_lock) = DotLock::take(mbox)? else { return Ok(Taking::Locked("its .lock file")) };
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Ok(Taking::Locked("flock")),
        Err(fs::TryLockError::Error(error)) => return Err(error),
    }
    let whole = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as nix::libc::c_short,
        l_whence: nix::libc::SEEK_SET as nix::libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(&file, FcntlArg::F_SETLK(&whole)) {
        Ok(_) => {}
        Err(nix::errno::Errno::EACCES | nix::errno::Errno::EAGAIN) => return Ok(Taking::Locked("fcntl")),
        Err(error) => return Err(error.into()),
    }
    if file.metadata()?.len() == 0 {
        return Ok(Taking::Empty);
    }
    let part = taken.with_extension("part");
    // Left by a run that died, or a link that somebody else put there: it is not written through.
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    fs::set_permissions(&part, file.metadata()?.permissions())?;
    io::copy(&mut &file, &mut copy)?;
    copy.flush()?;
    copy.sync_all()?;
    fs::rename(&part, taken)?;
    if let Some(folder) = taken.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        File::open(folder)?.sync_all()?;
    }
    file.set_len(0)?;
    file.sync_all()?;
    Ok(Taking::Taken)
}

/// The `.lock` file beside a mailbox, by which mail systems say that they write to it. It goes away with the value.
struct DotLock(PathBuf);

/// A lock file that is older was left behind by somebody who died: writing a mail takes seconds.
const ABANDONED: Duration = Duration::from_secs(3600);

impl DotLock {
    /// `None`: somebody else has it.
    fn take(mbox: &Path) -> io::Result<Option<Self>> {
        let mut path = mbox.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let now = SystemTime::from(Clock::System.now());
        let make = || OpenOptions::new().write(true).create_new(true).open(&path);
        match make() {
            Ok(_) => Ok(Some(Self(path))),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let age = fs::symlink_metadata(&path)
                    .and_then(|lock| lock.modified())
                    .ok()
                    .and_then(|at| now.duration_since(at).ok());
                if age.is_none_or(|age| age < ABANDONED) {
                    return Ok(None);
                }
                fs::remove_file(&path)?;
                make().map(|_| Some(Self(path.clone())))
            }
            Err(error) => Err(error),
        }
    }
}

impl Drop for DotLock {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!("the lock file of a mailbox could not be removed: {}", error.kind());
        }
    }
}

/// What a run did.
#[derive(Default)]
struct Tally {
    n_read: u64,
    kinds: std::collections::BTreeMap<BounceKind, u64>,
    n_settled: u64,
    n_known: u64,
    n_no_proof: u64,
    n_no_such_mail: u64,
    n_other_recipient: u64,
    n_malformed: u64,
    n_unreadable: u64,
    n_growing: u64,
    is_locked: bool,
    is_stopped: bool,
    listing: Vec<String>,
}

impl Tally {
    fn add(&mut self, name: &str, outcome: Outcome) {
        match outcome {
            Outcome::Counted { kind, invitation, is_settled, .. } => {
                *self.kinds.entry(kind).or_default() += 1;
                self.n_settled += u64::from(is_settled);
                tracing::info!(invitation.id = %invitation, "invitation {invitation}: {}", kind.words());
                self.say(name, &format!("{}, about invitation {invitation}", kind.as_str()));
            }
            Outcome::Known => {
                self.n_known += 1;
                self.say(name, "counted before");
            }
            Outcome::NotOurs(why) => {
                let (n, words) = match why {
                    NotOurs::NoProof => (&mut self.n_no_proof, "names no mail of ours"),
                    NotOurs::NoSuchMail => {
                        (&mut self.n_no_such_mail, "names a mail that was not sent, or too long ago")
                    }
                    NotOurs::OtherRecipient => {
                        (&mut self.n_other_recipient, "is about another recipient than that mail had")
                    }
                };
                *n += 1;
                self.say(name, &format!("{words}; no effect"));
            }
        }
    }

    fn add_unreadable(&mut self, name: &str, error: &io::Error) {
        self.n_unreadable += 1;
        tracing::warn!(file = %masked::words(name), "a message cannot be read: {error}; it stays where it is");
        self.say(name, &format!("cannot be read: {error}; it stays where it is"));
    }

    fn say(&mut self, name: &str, words: &str) {
        // The list is for a person at a screen.
        if self.listing.len() < 1_000 {
            self.listing.push(format!("{}: {words}", masked::words(name)));
        }
    }

    fn report(self, dry_run: bool) -> RunReport {
        let n_not_ours = self.n_no_proof + self.n_no_such_mail + self.n_other_recipient;
        let mut text = match self.n_read {
            0 => "no message was waiting".to_owned(),
            n => format!("{}{}", counted(n, "message"), if dry_run { " looked at" } else { "" }),
        };
        let kind = |kind| self.kinds.get(&kind).copied().unwrap_or_default();
        for (n, words) in [
            (kind(BounceKind::Hard), "hard"),
            (kind(BounceKind::Soft), "soft"),
            (kind(BounceKind::Delayed), "delayed"),
            (kind(BounceKind::Complaint), "of complaint"),
            (kind(BounceKind::AutoReply), "automatic"),
            (kind(BounceKind::Other), "of another kind"),
            (self.n_known, "counted before"),
            (n_not_ours, "not about a mail of ours"),
            (self.n_malformed, "put aside as no mail message"),
            (self.n_unreadable, "unreadable"),
            (self.n_growing, "still growing"),
            (self.n_settled, "settled a mail that was unknown"),
        ] {
            if n > 0 {
                text.push_str(&format!(", {n} {words}"));
            }
        }
        if self.is_locked {
            text.push_str("; the mailbox was being written to and waits for the next run");
        }
        if self.is_stopped {
            text.push_str("; stopped before the end, the others wait for the next run");
        }
        let is_partial = self.n_malformed > 0 || self.n_unreadable > 0 || self.is_stopped;
        RunReport {
            outcome: if is_partial { RunOutcome::Partial } else { RunOutcome::Done },
            text,
            details: json!({
                "n_read": self.n_read,
                "n_hard": kind(BounceKind::Hard),
                "n_soft": kind(BounceKind::Soft),
                "n_delayed": kind(BounceKind::Delayed),
                "n_complaint": kind(BounceKind::Complaint),
                "n_auto_reply": kind(BounceKind::AutoReply),
                "n_other": kind(BounceKind::Other),
                "n_known": self.n_known,
                "n_not_ours": n_not_ours,
                "not_ours": {
                    "no_proof": self.n_no_proof,
                    "no_such_mail": self.n_no_such_mail,
                    "other_recipient": self.n_other_recipient,
                },
                "n_aside": self.n_malformed,
                "n_unreadable": self.n_unreadable,
                "n_growing": self.n_growing,
                "n_settled": self.n_settled,
            }),
            listing: self.listing,
            pause: None,
        }
    }
}
