//! Bytes to records. A delimited text file comes in, in any encoding a shop's tools write; records of UTF-8 text with the line they
//! start on come out. Memory does not grow with the file.
//!
//! The file is read twice. The first pass makes the digest and finds out whether the file is valid UTF-8, which can only be known at
//! its end; the second decodes it into the csv reader. Standard input and pipes, which can be read only once, are first copied to a
//! temporary file that has no name and is gone when we are.
//!
//! Encoding: byte-order mark, else valid UTF-8, else what the format declares, else a guess, which the report shows. Bytes that the
//! encoding does not know never become U+FFFD: they make the row they stand in a reject.
//!
//! The csv reader neither says on which line a record starts when blank lines stand before it, nor when a quote is never closed, nor
//! does it stop at any length. [`Watch`] stands before it, follows the same rules byte by byte, and does these three.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use csv::ByteRecord;
use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE};
use nix::fcntl::OFlag;
use sha2::{Digest as _, Sha256};

use super::ImportError;
use crate::config::TextFormat;
use crate::types::EmailAddress;

/// Longest field in bytes of UTF-8; a row with a longer one is rejected.
const MAX_FIELD: usize = 64 * 1024;
/// Longest record in bytes of UTF-8; a longer one is rejected, or, inside a quote, the quote counts as never closed.
const MAX_RECORD: usize = 1024 * 1024;
/// Most columns of a header.
const MAX_COLUMNS: usize = 200;

const BLOCK: usize = 256 * 1024;
/// Stands for bytes that the encoding does not know. It is no UTF-8, so that the row that holds it is noticed.
const UNDECODABLE: u8 = 0xFF;

fn unusable<T>(reason: impl Into<String>) -> Result<T, ImportError> {
    Err(ImportError::Unusable(reason.into()))
}

/// What is wrong with a row: the column, if it is one, and the reason, which never repeats the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Counted from 0.
    pub column: Option<usize>,
    /// For people; reads after the name of the column.
    pub reason: std::borrow::Cow<'static, str>,
}

impl Fault {
    /// A fault of the row as a whole.
    pub fn row(reason: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self { column: None, reason: reason.into() }
    }

    /// A fault of one column.
    pub fn at(column: usize, reason: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self { column: Some(column), reason: reason.into() }
    }
}

/// A file that was opened, looked at and digested, and is not read yet.
pub struct Source {
    file: File,
    /// In bytes, as it stands on disk.
    pub length: u64,
    head: Vec<u8>,
    mark: Option<(&'static Encoding, usize)>,
    valid_utf8: bool,
    has_nul: bool,
    hash: Sha256,
}

/// How a file is written, once that is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// How its bytes are read.
    pub encoding: &'static Encoding,
    /// Whether the encoding is only a guess.
    pub guessed: bool,
    /// What stands between its fields.
    pub delimiter: u8,
}

/// How we come to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whence {
    /// Somebody who may run this program named it: links are followed, pipes are read.
    Named,
    /// It lay in a folder that others may write to, and is nothing but a regular file, or is left alone.
    Dropped,
}

impl Source {
    /// Opens a file, `-` being standard input where it was named, and reads it once.
    ///
    /// # Errors
    /// When it is not there, is a directory or empty, is something other than text, or has no header line of reasonable length.
    pub fn open(path: &Path, whence: Whence) -> Result<Self, ImportError> {
        let mut file = if whence == Whence::Named && path == Path::new("-") {
            spool(io::stdin().lock())?
        } else {
            let opened = match whence {
                Whence::Named => File::open(path),
                Whence::Dropped => open_dropped(path),
            };
            let file = match opened {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return unusable("is not there"),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return unusable("may not be read by this user");
                }
                other => other?,
            };
            let kind = file.metadata()?.file_type();
            if kind.is_dir() {
                return unusable("is a directory; name a file in it");
            }
            if kind.is_file() {
                file
            } else if std::os::unix::fs::FileTypeExt::is_fifo(&kind) {
                spool(file)?
            } else {
                return unusable("is neither a file nor a pipe");
            }
        };

        // What is plainly no table is told from its start, before a large file is read to its end.
        file.seek(SeekFrom::Start(0))?;
        let mut head = Vec::new();
        (&mut file).take(MAX_RECORD as u64).read_to_end(&mut head)?;
        if head.is_empty() {
            return unusable("is empty; a header line is expected");
        }
        if head.starts_with(b"PK\x03\x04") || head.starts_with(&[0xD0, 0xCF, 0x11, 0xE0]) {
            return unusable("is a workbook or an archive; save the sheet as CSV and import that");
        }
        if head.starts_with(&[0x1F, 0x8B]) {
            return unusable("is compressed; unpack it first");
        }
        let mark = Encoding::for_bom(&head);

        let mut source =
            Self { file, length: 0, head, mark, valid_utf8: true, has_nul: false, hash: Sha256::new() };
        source.first_pass()?;
        Ok(source)
    }

    fn first_pass(&mut self) -> Result<(), ImportError> {
        self.file.seek(SeekFrom::Start(0))?;
        let mut block = vec![0; BLOCK];
        let mut kept = 0; // bytes of a character that the end of the last block cut
        loop {
            let n = self.file.read(&mut block[kept..])?;
            if n == 0 {
                self.valid_utf8 &= kept == 0;
                return Ok(());
            }
            let fresh = &block[kept..kept + n];
            self.length += n as u64;
            self.hash.update(fresh);
            self.has_nul = self.has_nul || fresh.contains(&0);
            let filled = kept + n;
            kept = 0;
            if self.valid_utf8
                && let Err(error) = std::str::from_utf8(&block[..filled])
            {
                if error.error_len().is_some() {
                    self.valid_utf8 = false;
                } else {
                    kept = filled - error.valid_up_to();
                    block.copy_within(error.valid_up_to()..filled, 0);
                }
            }
        }
    }

    /// SHA-256 over the file's bytes and over the definition of how they are read.
    pub fn digest(&self, definition: &str) -> [u8; 32] {
        let mut hash = self.hash.clone();
        hash.update([0]);
        hash.update(definition.as_bytes());
        hash.finalize().into()
    }

    /// Settles how the file is written, where the format leaves it open.
    ///
    /// # Errors
    /// When it looks like UTF-16 and nothing says so, or the header line does not end.
    pub fn written(&mut self, declared: &TextFormat) -> Result<Written, ImportError> {
        let declared_wide = declared.encoding.filter(|e| [UTF_16LE, UTF_16BE].contains(e));
        let (encoding, guessed) = match (self.mark, declared_wide, declared.encoding) {
            (Some((encoding, _)), _, _) => (encoding, false),
            // Plain ASCII in UTF-16 is also valid UTF-8, full of NUL bytes.
            (None, Some(wide), _) if self.has_nul || !self.valid_utf8 => (wide, false),
            (None, _, _) if self.valid_utf8 => (UTF_8, false),
            (None, _, Some(encoding)) => (encoding, false),
            (None, _, None) => (self.guess()?, true),
        };
        if encoding != UTF_16LE && encoding != UTF_16BE {
            let header = self.head.split(|b| *b == b'\n').next().unwrap_or_default();
            if header.contains(&0) {
                return unusable(
                    "has NUL bytes in its header line; if it is UTF-16, state the encoding (utf-16le or utf-16be)",
                );
            }
        }
        let delimiter = match declared.delimiter {
            Some(delimiter) => delimiter,
            None => most_frequent_delimiter(&self.decoded_head(encoding)),
        };
        Ok(Written { encoding, guessed, delimiter })
    }

    fn guess(&mut self) -> Result<&'static Encoding, ImportError> {
        let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
        self.file.seek(SeekFrom::Start(0))?;
        let mut block = vec![0; BLOCK];
        loop {
            let n = self.file.read(&mut block)?;
            detector.feed(&block[..n], n == 0);
            if n == 0 {
                return Ok(detector.guess(None, Utf8Detection::Deny));
            }
        }
    }

    fn decoded_head(&self, encoding: &'static Encoding) -> Vec<u8> {
        let skip = self.mark.map_or(0, |(_, length)| length);
        let (text, _) = encoding.decode_without_bom_handling(&self.head[skip..]);
        text.into_owned().into_bytes()
    }

    /// The names of the columns, white space around them dropped.
    ///
    /// # Errors
    /// When the header line is too long, has too many columns or cannot be decoded, or holds values where names are expected.
    pub fn header(&mut self, written: Written) -> Result<Vec<String>, ImportError> {
        let names = self.first_line(written)?;
        if names.iter().any(|name| is_a_value(name)) {
            // What stands there is not repeated: these would be people's addresses.
            return unusable(
                "has no header line: its first line holds an address or a date where the names of the columns are expected",
            );
        }
        Ok(names)
    }

    /// The fields of the first line, whatever they are, white space around them dropped.
    ///
    /// # Errors
    /// When the line is too long, has too many columns or cannot be decoded.
    pub fn first_line(&mut self, written: Written) -> Result<Vec<String>, ImportError> {
        // The copy shares the position in the file with the original; every reader starts by seeking.
        let copy = self.file.try_clone()?;
        let skip = self.mark.map_or(0, |(_, length)| length);
        let mut records = Records::start(copy, skip, written)?;
        match records.next()? {
            None => return unusable("has no header line"),
            Some((_, Err(fault))) => return unusable(format!("has a header line that {}", fault.reason)),
            Some((_, Ok(()))) => {}
        }
        let record = records.record();
        if record.len() > MAX_COLUMNS {
            return unusable(format!(
                "has {} columns in its header line; at most {MAX_COLUMNS} are read",
                record.len()
            ));
        }
        // `next` has found it to be UTF-8.
        let mut names: Vec<_> =
            record.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
        // Tools that end each row with a delimiter end this one with it too. What then stands beyond is a row's own fault.
        while names.len() > 1 && names.last().is_some_and(String::is_empty) {
            names.pop();
        }
        Ok(names)
    }

    /// The rows, header line already passed.
    ///
    /// # Errors
    /// When the file cannot be read from its start again.
    pub fn records(self, written: Written) -> Result<Records, ImportError> {
        let skip = self.mark.map_or(0, |(_, length)| length);
        let mut records = Records::start(self.file, skip, written)?;
        records.next()?;
        let named = records.record.iter().rposition(|name| !name.trim_ascii().is_empty());
        records.columns = Some(named.map_or(1, |last| last + 1));
        Ok(records)
    }

    /// All rows of a file without a header line, each of one field.
    ///
    /// # Errors
    /// When the file cannot be read from its start again.
    pub fn lines(self, written: Written) -> Result<Records, ImportError> {
        let skip = self.mark.map_or(0, |(_, length)| length);
        let mut records = Records::start(self.file, skip, written)?;
        records.columns = Some(1);
        Ok(records)
    }
}

/// Whether this is no name of a column but a mail address, or begins like a day in figures.
fn is_a_value(name: &str) -> bool {
    let is_address = EmailAddress::parse(name).is_ok();
    let day = name.split_once([' ', 'T']).map_or(name, |(day, _)| day);
    let parts: Vec<&str> = day.split(['-', '/', '.']).collect();
    let is_day = parts.len() == 3
        && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    is_address || is_day
}

/// Opens a file of a folder that others may write to, to read it.
///
/// # Errors
/// As [`open_regular`].
pub fn open_dropped(path: &Path) -> io::Result<File> {
    open_regular(File::options().read(true), path)
}

/// Opens a file where others may write, in this way. Whatever was listed there may be something else by now, so it is the open file that is
/// looked at: a link would lead anywhere, a pipe would keep us waiting for ever.
///
/// # Errors
/// When it cannot be opened, or is no regular file.
pub fn open_regular(how: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let no_file = || io::Error::other("it is no regular file, and is left alone");
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = how.custom_flags(flags.bits()).open(path);
    let file = opened.map_err(|error| match error.raw_os_error().map(nix::errno::Errno::from_raw) {
        // A link; a socket, or a device that nothing stands behind; a folder that was to be written to.
        Some(nix::errno::Errno::ELOOP | nix::errno::Errno::ENXIO | nix::errno::Errno::EISDIR) => no_file(),
        _ => error,
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(no_file()) }
}

/// Copies what can be read only once to a temporary file without a name.
fn spool(mut from: impl Read) -> io::Result<File> {
    let mut file = unnamed_file()?;
    io::copy(&mut from, &mut file)?;
    file.flush()?;
    Ok(file)
}

/// A temporary file that nobody else can open and that is gone when it is closed, however that happens.
pub fn unnamed_file() -> io::Result<File> {
    let mut name = [0; 8];
    getrandom::fill(&mut name).map_err(io::Error::other)?;
    let path = std::env::temp_dir().join(format!("afterword-{:016x}", u64::from_ne_bytes(name)));
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// The most frequent of `,` `;` tab `|` in the header line, outside quotes; the comma where there is none of them.
fn most_frequent_delimiter(text: &[u8]) -> u8 {
    const CANDIDATES: [u8; 4] = [b',', b';', b'\t', b'|'];
    let mut counts = [0_usize; 4];
    let mut quoted = false;
    let start = text.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(0);
    for byte in &text[start..] {
        match byte {
            b'"' => quoted = !quoted,
            b'\r' | b'\n' if !quoted => break,
            _ if quoted => {}
            _ => {
                if let Some(i) = CANDIDATES.iter().position(|candidate| candidate == byte) {
                    counts[i] += 1;
                }
            }
        }
    }
    // The first of equals wins, so that the comma is preferred.
    let mut best = 0;
    for i in 1..CANDIDATES.len() {
        if counts[i] > counts[best] {
            best = i;
        }
    }
    CANDIDATES[best]
}

/// The line a row starts on, counted from 1, and what is wrong with it as a whole, if anything is.
pub type Judged = (u64, Result<(), Fault>);

/// The records of a file, one after the other, in one buffer.
pub struct Records {
    reader: csv::Reader<Watch<Decode>>,
    record: ByteRecord,
    columns: Option<usize>,
    written: Written,
}

impl Records {
    fn start(mut file: File, skip: usize, written: Written) -> Result<Self, ImportError> {
        file.seek(SeekFrom::Start(skip as u64))?;
        let watch = Watch::new(Decode::new(file, written.encoding), written.delimiter);
        let reader = csv::ReaderBuilder::new()
            .delimiter(written.delimiter)
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(BLOCK)
            .from_reader(watch);
        Ok(Self { reader, record: ByteRecord::new(), columns: None, written })
    }

    /// Moves to the next row; `None` at the end. Rows without a single value are passed over.
    ///
    /// # Errors
    /// When a quote is not closed, or the file cannot be read.
    #[expect(
        clippy::should_implement_trait,
        reason = "the record lies in `self`, so that this cannot be an iterator"
    )]
    pub fn next(&mut self) -> Result<Option<Judged>, ImportError> {
        loop {
            let more = self.reader.read_byte_record(&mut self.record).map_err(read_error)?;
            if !more {
                return Ok(None);
            }
            let Some(start) = self.reader.get_mut().starts.pop_front() else {
                return unusable("cannot be divided into rows");
            };
            if self.record.as_slice().is_empty() && self.columns.is_some() {
                continue;
            }
            return Ok(Some((start.line, self.judge(start))));
        }
    }

    fn judge(&mut self, start: Start) -> Result<(), Fault> {
        if start.too_long {
            return Err(Fault::row(format!("is longer than {} KiB", MAX_RECORD / 1024)));
        }
        if let Some(columns) = self.columns {
            // Tools that end each row with a delimiter are forgiven.
            if self.record.len() > columns && self.record.iter().skip(columns).all(<[u8]>::is_empty) {
                self.record.truncate(columns);
            }
            if self.record.len() != columns {
                return Err(Fault::row(format!(
                    "has {} columns where the header has {columns}",
                    self.record.len()
                )));
            }
        }
        if self.record.as_slice().len() > MAX_FIELD
            && let Some(column) = self.record.iter().position(|field| field.len() > MAX_FIELD)
        {
            return Err(Fault::at(column, format!("is longer than {} KiB", MAX_FIELD / 1024)));
        }
        // Field by field: the halves of a character that a delimiter divides would be a whole one together.
        if !self.record.as_slice().is_ascii()
            && let Some(column) = self.record.iter().position(|field| std::str::from_utf8(field).is_err())
        {
            return Err(Fault::at(column, format!("has bytes that are no {}", self.written.encoding.name())));
        }
        Ok(())
    }

    /// The present row. Where [`Records::next`] found nothing wrong, its fields are UTF-8.
    pub fn record(&self) -> &ByteRecord {
        &self.record
    }

    /// How much of the file has been read, in bytes on disk.
    pub fn bytes_read(&self) -> u64 {
        self.reader.get_ref().inner.bytes_read
    }
}

fn read_error(error: csv::Error) -> ImportError {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => match error.downcast::<NeverClosed>() {
            Ok(quote) => ImportError::Unusable(quote.to_string()),
            Err(error) => ImportError::Io(error),
        },
        // The reader is flexible and reads bytes: nothing else can go wrong.
        _ => ImportError::Unusable("cannot be read as delimited text".to_owned()),
    }
}

/// Decodes to UTF-8.
struct Decode {
    file: File,
    /// `None`: it is meant to be UTF-8 and goes through as it is.
    decoder: Option<Decoder>,
    raw: Vec<u8>,
    position: usize,
    filled: usize,
    finished: bool,
    bytes_read: u64,
}

impl Decode {
    fn new(file: File, encoding: &'static Encoding) -> Self {
        let decoder = (encoding != UTF_8).then(|| encoding.new_decoder_without_bom_handling());
        let raw = if decoder.is_some() { vec![0; BLOCK] } else { Vec::new() };
        Self { file, decoder, raw, position: 0, filled: 0, finished: false, bytes_read: 0 }
    }
}

impl Read for Decode {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Some(decoder) = &mut self.decoder else {
            let n = self.file.read(out)?;
            self.bytes_read += n as u64;
            return Ok(n);
        };
        // One byte is kept free for the mark of undecodable bytes.
        let Some(room) = out.len().checked_sub(1) else { return Ok(0) };
        loop {
            if self.finished {
                return Ok(0);
            }
            if self.position == self.filled {
                self.filled = self.file.read(&mut self.raw)?;
                self.position = 0;
                self.bytes_read += self.filled as u64;
            }
            let last = self.filled == 0;
            let (result, read, mut written) = decoder.decode_to_utf8_without_replacement(
                &self.raw[self.position..self.filled],
                &mut out[..room],
                last,
            );
            self.position += read;
            match result {
                DecoderResult::InputEmpty => self.finished = last,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => {
                    out[written] = UNDECODABLE;
                    written += 1;
                }
            }
            if written > 0 {
                return Ok(written);
            }
        }
    }
}

/// A quote was opened on this line and the file, or the longest record, ended before it was closed.
#[derive(Debug)]
struct NeverClosed {
    line: u64,
    at_end: bool,
}

impl fmt::Display for NeverClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, at_end } = self;
        let within = if *at_end { String::new() } else { format!(" within {} KiB", MAX_RECORD / 1024) };
        write!(f, "has a quote (\") on line {line} that is not closed{within}; nothing of the file was taken")
    }
}

impl std::error::Error for NeverClosed {}

/// Where a record starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Start {
    /// Counted from 1.
    line: u64,
    /// Its end was left out.
    too_long: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    BeforeRecord,
    BeforeField,
    Plain,
    Quoted,
    /// After a quote inside a quoted field: its end, or the first half of a doubled quote.
    QuoteInQuoted,
}

/// Passes bytes on and notes where records start; see the module's documentation.
struct Watch<R> {
    inner: R,
    delimiter: u8,
    state: State,
    line: u64,
    after_cr: bool,
    quote_line: u64,
    length: usize,
    starts: VecDeque<Start>,
}

impl<R: Read> Watch<R> {
    fn new(inner: R, delimiter: u8) -> Self {
        Self {
            inner,
            delimiter,
            state: State::BeforeRecord,
            line: 1,
            after_cr: false,
            quote_line: 0,
            length: 0,
            starts: VecDeque::new(),
        }
    }

    /// Follows `bytes`; returns how many of them remain, moved to the front.
    fn follow(&mut self, bytes: &mut [u8]) -> Result<usize, NeverClosed> {
        let mut kept = 0;
        for i in 0..bytes.len() {
            let byte = bytes[i];
            let line = self.line;
            // A line ends with LF, CR LF or CR.
            if byte == b'\n' {
                self.line += u64::from(!self.after_cr);
            } else if byte == b'\r' {
                self.line += 1;
            }
            // The LF of a CR LF still belongs to the line before.
            self.after_cr = byte == b'\r';

            let ends = matches!(byte, b'\r' | b'\n');
            if self.state == State::BeforeRecord && !ends {
                self.starts.push_back(Start { line, too_long: false });
                self.length = 0;
                self.state = State::BeforeField;
            }
            self.state = match self.state {
                State::BeforeRecord => State::BeforeRecord,
                State::Quoted if byte == b'"' => State::QuoteInQuoted,
                State::Quoted => State::Quoted,
                State::BeforeField if byte == b'"' => {
                    self.quote_line = line;
                    State::Quoted
                }
                State::QuoteInQuoted if byte == b'"' => State::Quoted,
                _ if byte == self.delimiter => State::BeforeField,
                _ if ends => State::BeforeRecord,
                _ => State::Plain,
            };
            self.length += 1;
            // The rest of a long row is left out up to its end, but never from within a quote, because then the csv reader would take
            // the end for a part of the field.
            if self.length > MAX_RECORD
                && let Some(start) = self.starts.back_mut()
            {
                match self.state {
                    State::Quoted if !start.too_long => {
                        return Err(NeverClosed { line: self.quote_line, at_end: false });
                    }
                    State::BeforeRecord => {}
                    State::QuoteInQuoted if !start.too_long => {}
                    _ => {
                        start.too_long = true;
                        continue;
                    }
                }
            }
            bytes[kept] = byte;
            kept += 1;
        }
        Ok(kept)
    }
}

impl<R: Read> Read for Watch<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.inner.read(buffer)?;
            if n == 0 && self.state == State::Quoted {
                return Err(io::Error::other(NeverClosed { line: self.quote_line, at_end: true }));
            }
            let kept = self.follow(&mut buffer[..n]).map_err(io::Error::other)?;
            // All of a long row's rest was left out: that is not the end of the file.
            if kept > 0 || n == 0 {
                return Ok(kept);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn source(bytes: &[u8]) -> Result<Source, ImportError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file.csv");
        std::fs::write(&path, bytes).unwrap();
        Source::open(&path, Whence::Named)
    }

    #[test]
    fn what_was_dropped_is_a_regular_file_or_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link, pipe) =
            (dir.path().join("a.csv"), dir.path().join("b.csv"), dir.path().join("c.csv"));
        std::fs::write(&file, "order_id,email\n").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(Source::open(&file, Whence::Dropped).is_ok());
        assert!(Source::open(&link, Whence::Named).is_ok(), "who names a link means what it leads to");
        // Opening the pipe for reading would wait until somebody writes to it.
        for other in [&link, &pipe, Path::new("/dev/zero"), dir.path()] {
            let refused = Source::open(other, Whence::Dropped).err().map(|error| error.to_string());
            assert!(refused.is_some_and(|why| why.contains("no regular file")), "{}", other.display());
        }
    }

    /// The header and the rows of a file: line and fields, or line and fault.
    fn read(bytes: &[u8], declared: &TextFormat) -> Result<(String, Vec<String>), ImportError> {
        let mut source = source(bytes)?;
        let written = source.written(declared)?;
        let header = source.header(written)?;
        let mut records = source.records(written)?;
        let mut rows = Vec::new();
        while let Some((line, judged)) = records.next()? {
            rows.push(match judged {
                Ok(()) => {
                    let fields: Vec<_> = records.record().iter().map(String::from_utf8_lossy).collect();
                    format!("{line}: {}", fields.join("/"))
                }
                Err(Fault { column, reason }) => match column {
                    Some(column) => format!("{line}: {} {reason}", header[column]),
                    None => format!("{line}: {reason}"),
                },
            });
        }
        let guessed = if written.guessed { " guessed" } else { "" };
        let delimiter = char::from(written.delimiter).escape_debug();
        Ok((format!("{}{guessed} {delimiter} {}", written.encoding.name(), header.join("/")), rows))
    }

    #[test]
    fn a_header_that_ends_with_a_delimiter_names_no_column_there() {
        let auto = TextFormat::default();
        check(
            b"a;b;\n1;2;\n3;4\n5;6;;;7\n",
            &auto,
            "UTF-8 ; a/b",
            &["2: 1/2", "3: 3/4", "4: has 5 columns where the header has 2"],
        );
        check(b"a, ,\"\"\n1\n", &auto, "UTF-8 , a", &["2: 1"]);
    }

    #[test]
    fn a_file_without_a_header_line_is_refused_without_repeating_what_stands_there() {
        for first in [
            "A1,ada@shop.example,2026-09-01",
            "A1,1/9/26",
            "A1,2026-09-01 10:00:00",
            "2026-09-01T10:00:00Z,x",
        ] {
            let error = read(first.as_bytes(), &TextFormat::default()).unwrap_err().to_string();
            assert!(error.contains("no header line"), "{first}: {error}");
            assert!(!error.contains("ada@") && !error.contains("A1"), "{error}");
        }
        for name in ["e-mail", "e-mail (@)", "2026", "1.2", "v1.2.3", "Total €"] {
            assert!(!is_a_value(name), "{name}");
        }
    }

    #[track_caller]
    fn check(bytes: &[u8], declared: &TextFormat, header: &str, rows: &[&str]) {
        let (got_header, got_rows) = read(bytes, declared).unwrap();
        assert_eq!(got_header, header);
        assert_eq!(got_rows, rows);
    }

    #[track_caller]
    fn check_unusable(bytes: &[u8], reason: &str) {
        match read(bytes, &TextFormat::default()) {
            Err(ImportError::Unusable(message)) => assert!(message.contains(reason), "{message}"),
            other => panic!("{other:?}"),
        }
    }

    fn declared(encoding: &'static Encoding) -> TextFormat {
        TextFormat { encoding: Some(encoding), ..TextFormat::default() }
    }

    fn utf_16(text: &str, bytes_of: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes_of).collect()
    }

    #[test]
    fn encodings() {
        let open = TextFormat::default();
        check("a,b\n1,é\n".as_bytes(), &open, "UTF-8 , a/b", &["2: 1/é"]);
        check("\u{feff}a,b\n1,é\n".as_bytes(), &open, "UTF-8 , a/b", &["2: 1/é"]);
        // What is valid UTF-8 is UTF-8, whatever the format says.
        check("a,b\n1,é\n".as_bytes(), &declared(encoding_rs::WINDOWS_1252), "UTF-8 , a/b", &["2: 1/é"]);

        let text = "Bestellnr;Name;Summe\n1001;Jörg Müßig;1.299,00 €\n1002;Süß & Söhne;5\n";
        let cp1252 = encoding_rs::WINDOWS_1252.encode(text).0;
        let rows = ["2: 1001/Jörg Müßig/1.299,00 €", "3: 1002/Süß & Söhne/5"];
        check(&cp1252, &open, "windows-1252 guessed ; Bestellnr/Name/Summe", &rows);
        check(&cp1252, &declared(encoding_rs::WINDOWS_1252), "windows-1252 ; Bestellnr/Name/Summe", &rows);

        let text = "a\tb\r\n1\tœuf 😀\r\n";
        for (mark, bytes_of, encoding) in [
            (&[0xFF, 0xFE], u16::to_le_bytes as fn(u16) -> [u8; 2], UTF_16LE),
            (&[0xFE, 0xFF], u16::to_be_bytes, UTF_16BE),
        ] {
            let bytes = utf_16(text, bytes_of);
            let name = encoding.name();
            check(&[&mark[..], &bytes].concat(), &open, &format!("{name} \\t a/b"), &["2: 1/œuf 😀"]);
            check(&bytes, &declared(encoding), &format!("{name} \\t a/b"), &["2: 1/œuf 😀"]);
        }
        check_unusable(&utf_16("a,b\n1,2\n", u16::to_le_bytes), "if it is UTF-16");
    }

    #[test]
    fn undecodable_bytes_reject_their_row_alone() {
        let rows = ["2: b has bytes that are no UTF-8", "3: 2/ok"];
        check(b"a,b\n1,\xe9t\xe9\n2,ok\n", &declared(UTF_8), "UTF-8 , a/b", &rows);
        let rows = ["2: b has bytes that are no Shift_JIS", "3: 2/ok"];
        check(b"a,b\n1,\x81\x20\n2,ok\n", &declared(encoding_rs::SHIFT_JIS), "Shift_JIS , a/b", &rows);
        let mut half = vec![0xFF, 0xFE];
        half.extend(utf_16("a,b\n1,x", u16::to_le_bytes));
        half.push(0x41);
        check(&half, &TextFormat::default(), "UTF-16LE , a/b", &["2: b has bytes that are no UTF-16LE"]);
    }

    #[test]
    fn delimiters() {
        let open = TextFormat::default();
        check(b"a;b;c,d\n1;2;3\n", &open, "UTF-8 ; a/b/c,d", &["2: 1/2/3"]);
        check(b"a|b\n1|2\n", &open, "UTF-8 | a/b", &["2: 1/2"]);
        check(b"\"a;;;\",b\n1,2\n", &open, "UTF-8 , a;;;/b", &["2: 1/2"]);
        check(b"alone\n1\n", &open, "UTF-8 , alone", &["2: 1"]);
        let stated = TextFormat { delimiter: Some(b'#'), ..open };
        check(b"a#b,c\n1#2\n", &stated, "UTF-8 # a/b,c", &["2: 1/2"]);
    }

    #[test]
    fn lines_are_physical() {
        let open = TextFormat::default();
        check(b"a,b\n\"1\n1\",\"x\n\ny\"\n2,z\n", &open, "UTF-8 , a/b", &["2: 1\n1/x\n\ny", "6: 2/z"]);
        check(b"\r\n\r\na,b\r\n\r\n\r\n1,2\r\n\r\n3,4", &open, "UTF-8 , a/b", &["6: 1/2", "8: 3/4"]);
        check(b"a,b\r1,2\r\r3,4", &open, "UTF-8 , a/b", &["2: 1/2", "4: 3/4"]);
        check(
            b"a,b\n,\n1,5\" pipe\n2,\"say \"\"hi\"\"\"\n",
            &open,
            "UTF-8 , a/b",
            &["3: 1/5\" pipe", "4: 2/say \"hi\""],
        );
        check(b"a,b\n", &open, "UTF-8 , a/b", &[]);
        check(b"a,b", &open, "UTF-8 , a/b", &[]);
    }

    #[test]
    fn rows_of_another_width() {
        let rows =
            ["2: has 1 columns where the header has 2", "3: has 3 columns where the header has 2", "4: 1/2"];
        check(b"a,b\n1\n1,2,3\n1,2,,\n", &TextFormat::default(), "UTF-8 , a/b", &rows);
    }

    #[test]
    fn files_that_cannot_be_read() {
        check_unusable(b"", "is empty");
        check_unusable(b"\xef\xbb\xbf", "has no header line");
        check_unusable(b"\n\n", "has no header line");
        check_unusable(b"PK\x03\x04....", "is a workbook");
        check_unusable(b"\x1f\x8b....", "is compressed");
        check_unusable(&[0; 5000], "NUL bytes in its header");
        check_unusable("c,".repeat(10_000).as_bytes(), "has 10001 columns");
        check_unusable(&vec![b'x'; 2 * MAX_RECORD], "a header line that is longer than 1024 KiB");
        check_unusable(b"a,b\n1,2\n3,\"x\n4,5\n6,7\n", "a quote (\") on line 3 that is not closed;");
        let mut endless = b"a,b\n1,2\n3,4\n5,\"".to_vec();
        endless.extend(b"6,7\n".repeat(MAX_RECORD));
        check_unusable(&endless, "on line 4 that is not closed within 1024 KiB");

        let dir = tempfile::tempdir().unwrap();
        let open = |path: &Path| Source::open(path, Whence::Named).map(|_| ()).unwrap_err().to_string();
        assert!(open(dir.path()).contains("is a directory"));
        assert!(open(&dir.path().join("nowhere.csv")).contains("is not there"));
        assert!(open(Path::new("/dev/null")).contains("neither a file nor a pipe"));
    }

    #[test]
    fn long_fields_and_rows_are_rejected_and_the_next_is_read() {
        let long = "x".repeat(MAX_FIELD + 1);
        let longer = "x".repeat(3 * MAX_RECORD);
        let almost = "y".repeat(MAX_RECORD - 100);
        let text = format!("a,b\n1,{long}\n2,\"{long}\"\n3,{longer},\"q\n\"\n{almost},\"{almost}\"\n5,ok\n");
        // The quote of the fourth row would be open at the limit.
        let error = read(text.as_bytes(), &TextFormat::default()).unwrap_err().to_string();
        assert!(error.contains("on line 6"), "{error}");
        let text = text.replace(&format!("{almost},\"{almost}\"\n"), "");
        let rows = [
            "2: b is longer than 64 KiB",
            "3: b is longer than 64 KiB",
            "4: is longer than 1024 KiB",
            "6: 5/ok",
        ];
        check(text.as_bytes(), &TextFormat::default(), "UTF-8 , a/b", &rows);
    }

    #[test]
    fn a_character_cut_by_the_end_of_a_block() {
        for shift in 0..4 {
            let text = format!("a,b\n{},{}\n", "x".repeat(shift), "😀".repeat(10_000));
            let text = format!("{text}{}", format!("1,{}\n", "é".repeat(30_000)).repeat(10));
            let (header, rows) = read(text.as_bytes(), &TextFormat::default()).unwrap();
            assert_eq!((header.as_str(), rows.len()), ("UTF-8 , a/b", 11));
        }
    }

    proptest! {
        /// The watch divides a file exactly as the csv reader does.
        #[test]
        fn the_watch_and_the_reader_agree(text in "[a,\"\r\n]{0,60}", blocks in 1_usize..8) {
            struct Slow<'a>(&'a [u8], usize);
            impl Read for Slow<'_> {
                fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                    let n = self.1.min(self.0.len()).min(buffer.len());
                    buffer[..n].copy_from_slice(&self.0[..n]);
                    self.0 = &self.0[n..];
                    Ok(n)
                }
            }
            let mut builder = csv::ReaderBuilder::new();
            builder.has_headers(false).flexible(true);
            let plain: Vec<ByteRecord> =
                builder.from_reader(text.as_bytes()).byte_records().map(Result::unwrap).collect();
            let mut watched = builder.from_reader(Watch::new(Slow(text.as_bytes(), blocks), b','));
            let mut record = ByteRecord::new();
            let mut n = 0;
            loop {
                match watched.read_byte_record(&mut record) {
                    Ok(true) => {
                        prop_assert_eq!(&record, &plain[n]);
                        prop_assert!(watched.get_mut().starts.pop_front().is_some());
                        n += 1;
                    }
                    Ok(false) => {
                        prop_assert_eq!(n, plain.len());
                        prop_assert!(watched.get_mut().starts.is_empty());
                        break;
                    }
                    Err(error) => {
                        prop_assert!(matches!(read_error(error), ImportError::Unusable(_)));
                        break;
                    }
                }
            }
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes, &TextFormat::default());
        }
    }
}
