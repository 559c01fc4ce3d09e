//! Messages in files: one message a file, or an mbox, whose messages begin with `From ` lines (RFC 4155); a Maildir, or a folder of
//! files. Memory stays flat: of each message only the beginning is kept, and the rest goes into its digest.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::report::READ_AT_MOST;

/// A line longer than this is read in pieces.
const PIECE: usize = 64 << 10;

/// One message.
pub struct RawMessage {
    /// Its beginning, at most [`READ_AT_MOST`] bytes.
    pub bytes: Vec<u8>,
    /// SHA-256 of its lines, whatever ends them, without the empty ones at its end: the same in a file of its own and in an mbox.
    pub digest: [u8; 32],
}

/// The messages of a file, one after the other.
pub struct Messages<R> {
    reader: BufReader<R>,
    is_mbox: bool,
    piece: Vec<u8>,
}

impl<R: Read> Messages<R> {
    /// Looks at the beginning to know what it is: an mbox begins with a `From ` line.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn new(reader: R) -> io::Result<Self> {
        let mut messages =
            Self { reader: BufReader::with_capacity(PIECE, reader), is_mbox: false, piece: Vec::new() };
        if messages.next_piece()? && is_from_line(&messages.piece) {
            messages.is_mbox = true;
            messages.piece.clear();
        }
        Ok(messages)
    }

    /// The next message.
    ///
    /// # Errors
    /// When the file cannot be read on.
    pub fn read_next(&mut self) -> io::Result<Option<RawMessage>> {
        let mut message = Growing::default();
        // Of `From ` lines only those count that follow an empty line, or stand at the beginning.
        let (mut at_line_start, mut after_empty) = (true, true);
        loop {
            if self.piece.is_empty() && !self.next_piece()? {
                return Ok(message.finish());
            }
            if self.is_mbox && at_line_start && after_empty && is_from_line(&self.piece) {
                self.piece.clear();
                match message.finish() {
                    Some(message) => return Ok(Some(message)),
                    // Two in a row: a message without anything in it.
                    None => {
                        message = Growing::default();
                        continue;
                    }
                }
            }
            let is_line = self.piece.ends_with(b"\n");
            let quoted = self.is_mbox && at_line_start && is_quoted_from_line(&self.piece);
            let line = self.piece.strip_suffix(b"\n").unwrap_or(&self.piece);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            after_empty = at_line_start && is_line && line.is_empty();
            message.add(if quoted { &line[1..] } else { line }, is_line);
            at_line_start = is_line;
            self.piece.clear();
        }
    }

    /// Fills `piece` with a line, or as much of it as fits. `false`: there is no more.
    fn next_piece(&mut self) -> io::Result<bool> {
        self.piece.clear();
        while self.piece.len() < PIECE && !self.piece.ends_with(b"\n") {
            let available = match self.reader.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if available.is_empty() {
                break;
            }
            let n = available.iter().position(|byte| *byte == b'\n').map_or(available.len(), |at| at + 1);
            let n = n.min(PIECE - self.piece.len());
            self.piece.extend_from_slice(&available[..n]);
            self.reader.consume(n);
        }
        Ok(!self.piece.is_empty())
    }
}

/// A message while it is read.
#[derive(Default)]
struct Growing {
    bytes: Vec<u8>,
    digest: Sha256,
    /// Empty lines that count only when something follows.
    n_empty: usize,
    is_begun: bool,
}

impl Growing {
    fn add(&mut self, line: &[u8], is_line: bool) {
        if line.is_empty() && is_line {
            self.n_empty += 1;
        } else {
            for _ in 0..std::mem::take(&mut self.n_empty) {
                self.digest.update(b"\n");
            }
            self.digest.update(line);
            if is_line {
                self.digest.update(b"\n");
            }
            self.is_begun = true;
        }
        let room = READ_AT_MOST - self.bytes.len();
        self.bytes.extend_from_slice(&line[..line.len().min(room)]);
        if is_line && self.bytes.len() < READ_AT_MOST {
            self.bytes.push(b'\n');
        }
    }

    fn finish(self) -> Option<RawMessage> {
        self.is_begun.then(|| RawMessage { bytes: self.bytes, digest: self.digest.finalize().into() })
    }
}

/// `From claire@customer.example Mon Mar  2 10:00:00 2026`; people begin lines with this word too, so there must be a time of day.
fn is_from_line(line: &[u8]) -> bool {
    let is_time = |word: &[u8]| {
        word.len() >= 4
            && word.contains(&b':')
            && word.iter().all(|byte| byte.is_ascii_digit() || *byte == b':')
    };
    line.starts_with(b"From ") && line.len() < 1_000 && line[5..].split(u8::is_ascii_whitespace).any(is_time)
}

/// A line that was no beginning of a message, and was marked as none: `>From `, `>>From ` and so on.
fn is_quoted_from_line(line: &[u8]) -> bool {
    let n_marks = line.iter().take_while(|byte| **byte == b'>').count();
    n_marks > 0 && line[n_marks..].starts_with(b"From ")
}

/// Where the messages of a folder lie: `new` and `cur` of a Maildir, or the folder itself.
///
/// # Errors
/// When one of the two is a link: whoever may write to the Maildir could have put it there, and lead us to files of others.
pub fn folders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut of_maildir = Vec::new();
    for path in ["new", "cur"].map(|name| folder.join(name)) {
        match path.symlink_metadata() {
            Ok(there) if there.is_symlink() => {
                let why = format!("{} is a link, and links are not followed", path.display());
                return Err(io::Error::other(why));
            }
            Ok(there) if there.is_dir() => of_maildir.push(path),
            _ => {}
        }
    }
    Ok(if of_maildir.is_empty() { vec![folder.to_owned()] } else { of_maildir })
}

/// The files that a path stands for: itself, or those of the folder, in the order of their names; hidden ones are left out.
///
/// # Errors
/// When a folder cannot be listed.
pub fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for folder in folders(path)? {
        let mut here = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if !is_hidden && path.is_file() {
                here.push(path);
            }
        }
        here.sort();
        files.append(&mut here);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(content: &[u8]) -> Vec<RawMessage> {
        let mut messages = Messages::new(content).unwrap();
        std::iter::from_fn(|| messages.read_next().unwrap()).collect()
    }

    fn texts(content: &str) -> Vec<String> {
        messages(content.as_bytes()).into_iter().map(|m| String::from_utf8(m.bytes).unwrap()).collect()
    }

    const FROM: &str = "From MAILER-DAEMON Mon Mar  2 10:00:00 2026\n";

    #[test]
    fn an_mbox_is_split_where_messages_begin() {
        let mbox = format!(
            "{FROM}Subject: one\n\nFrom here on it is text\n\n>From quoted\n>>From twice\n\n{FROM}Subject: two\n\nx\n\n"
        );
        assert_eq!(
            texts(&mbox),
            [
                "Subject: one\n\nFrom here on it is text\n\nFrom quoted\n>From twice\n\n",
                "Subject: two\n\nx\n\n"
            ]
        );
        assert_eq!(texts("Subject: alone\n\nFrom here\n"), ["Subject: alone\n\nFrom here\n"]);
        assert_eq!(texts(""), Vec::<String>::new());
        assert_eq!(texts("\n\n"), Vec::<String>::new());
        assert_eq!(texts(FROM), Vec::<String>::new());
        assert_eq!(texts(&format!("{FROM}\n{FROM}Subject: x\n")), ["Subject: x\n"]);
        assert_eq!(
            texts("From: claire@customer.example\n\nFrom 10:00 on\n").len(),
            1,
            "a header is no From line"
        );
    }

    #[test]
    fn the_digest_is_the_messages_wherever_it_lies() {
        let digest = |content: &str| messages(content.as_bytes())[0].digest;
        let alone = digest("Subject: x\n\n>From y\n");
        assert_eq!(alone, digest("Subject: x\r\n\r\n>From y\r\n"));
        assert_eq!(alone, digest(&format!("{FROM}Subject: x\n\n>>From y\n\n\n")));
        assert_ne!(alone, digest("Subject: x\n\n\n>From y\n"));
    }

    #[test]
    fn what_is_too_long_is_cut_and_still_told_apart() {
        let long = |end: &str| format!("Subject: x\n\n{}{end}", "a".repeat(2 * READ_AT_MOST));
        let (one, two) = (messages(long("1").as_bytes()), messages(long("2\n").as_bytes()));
        assert_eq!((one[0].bytes.len(), two[0].bytes.len()), (READ_AT_MOST, READ_AT_MOST));
        assert_ne!(one[0].digest, two[0].digest);
        let lines = format!("{FROM}Subject: x\n\n{}\n{FROM}Subject: y\n", "line\n".repeat(400_000));
        let both = messages(lines.as_bytes());
        assert_eq!((both.len(), both[0].bytes.len()), (2, READ_AT_MOST));
    }
}
