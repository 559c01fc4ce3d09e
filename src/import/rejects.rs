//! The rows that could not be taken. They come one by one while a file is read, wait in a temporary file without a name, so that a
//! file of nothing but bad rows needs no memory, and leave in two directions: into `import_reject`, and as a CSV file that a person
//! can correct and import again. If we die before, they are found again when the file is read again.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use csv::ByteRecord;
use serde::Serialize;

use super::text::{Fault, unnamed_file};
use crate::new_file::NewFile;

/// So many rejects are shown in a report.
const SHOWN: usize = 20;

/// A row that could not be taken, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reject {
    /// The line it starts on, counted from 1.
    pub line: u64,
    /// The name of the column as the file has it; `None`: the row as a whole.
    pub column: Option<String>,
    /// What is wrong with it. It does not repeat what stands there.
    pub reason: String,
}

impl Reject {
    /// Its place and what is wrong, on one line.
    pub fn sentence(&self) -> String {
        let column = self.column.as_deref().map(|column| format!(", {column}")).unwrap_or_default();
        format!("line {}{column}: {}", self.line, self.reason)
    }
}

/// The rejects of one file.
#[derive(Debug)]
pub struct Rejects {
    header: Vec<String>,
    delimiter: u8,
    waiting: csv::Writer<BufWriter<File>>,
    row: ByteRecord,
    /// The first of them.
    pub first: Vec<Reject>,
    /// All of them.
    pub n: u64,
}

impl Rejects {
    /// None yet.
    ///
    /// # Errors
    /// When there is no room for temporary files.
    pub fn new(header: Vec<String>, delimiter: u8) -> io::Result<Self> {
        let waiting = csv::WriterBuilder::new().flexible(true).from_writer(BufWriter::new(unnamed_file()?));
        Ok(Self { header, delimiter, waiting, row: ByteRecord::new(), first: Vec::new(), n: 0 })
    }

    /// Takes a row that was just read.
    ///
    /// # Errors
    /// When there is no room for temporary files.
    pub fn add(&mut self, line: u64, fault: &Fault, record: &ByteRecord) -> io::Result<()> {
        let row = self.as_it_stands(record);
        self.add_row(line, fault, &row)
    }

    /// Takes a row that was made a text with [`Rejects::as_it_stands`] before.
    ///
    /// # Errors
    /// When there is no room for temporary files.
    pub fn add_row(&mut self, line: u64, fault: &Fault, row: &str) -> io::Result<()> {
        let column = fault.column.and_then(|column| self.header.get(column)).map(String::as_str);
        self.n += 1;
        if self.first.len() < SHOWN {
            let column = column.map(str::to_owned);
            self.first.push(Reject { line, column, reason: fault.reason.to_string() });
        }
        self.row.clear();
        for field in [line.to_string().as_str(), column.unwrap_or_default(), &fault.reason, row] {
            self.row.push_field(field.as_bytes());
        }
        self.waiting.write_byte_record(&self.row).map_err(io::Error::from)
    }

    /// A row as delimited text, with the file's own delimiter. What Postgres or UTF-8 cannot hold is shown by a sign.
    pub fn as_it_stands(&self, record: &ByteRecord) -> String {
        let mut line = csv::WriterBuilder::new()
            .delimiter(self.delimiter)
            .terminator(csv::Terminator::Any(b'\n'))
            .from_writer(Vec::new());
        // Writing to memory does not fail.
        let bytes = line.write_byte_record(record).ok().and_then(|()| line.into_inner().ok());
        let text = String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).replace('\0', "\u{2400}");
        text.strip_suffix('\n').unwrap_or(&text).to_owned()
    }

    /// Reads them back, the first first: line, column (empty: the row as a whole), reason, row.
    ///
    /// # Errors
    /// When the temporary file cannot be read.
    pub fn read(&mut self) -> io::Result<csv::Reader<BufReader<File>>> {
        self.waiting.flush()?;
        let mut file = self.waiting.get_ref().get_ref().try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        Ok(csv::ReaderBuilder::new().has_headers(false).from_reader(BufReader::new(file)))
    }

    /// Writes them as a file: the columns as they stood, then `line`, `column` and `reason`; with the delimiter of the file they come
    /// from, so that it can be corrected and imported with the same format. The file is there in whole or not at all; where there are
    /// no rejects, none is made.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, path: &Path) -> io::Result<()> {
        if self.n == 0 {
            return Ok(());
        }
        // Customers' data: for the owner alone.
        let mut file = NewFile::create_private(path)
            // Named, because whoever reads the error thinks of the file that was read.
            .map_err(|error| {
                let said = format!("the rejects cannot be written to {}: {error}", path.display());
                io::Error::new(error.kind(), said)
            })?;
        let mut out = csv::WriterBuilder::new()
            .delimiter(self.delimiter)
            .flexible(true)
            .from_writer(BufWriter::new(&mut file));
        out.write_record(self.header.iter().map(String::as_str).chain(ADDED))?;
        let columns = self.header.len();
        let mut record = csv::StringRecord::new();
        let mut waiting = self.read()?;
        let delimiter = self.delimiter;
        while waiting.read_record(&mut record)? {
            let mut row = ByteRecord::new();
            csv::ReaderBuilder::new()
                .delimiter(delimiter)
                .has_headers(false)
                .flexible(true)
                .from_reader(record[3].as_bytes())
                .read_byte_record(&mut row)?;
            // A row with too few columns is filled up, so that the added columns stand under their names.
            while row.len() < columns {
                row.push_field(b"");
            }
            for i in 0..3 {
                row.push_field(record[i].as_bytes());
            }
            out.write_byte_record(&row)?;
        }
        out.flush()?;
        drop(out);
        file.sync()?;
        file.publish()
    }
}

/// What [`Rejects::write`] adds to a file's columns; a corrected file may keep them.
pub const ADDED: [&str; 3] = ["line", "column", "reason"];

/// Where the rejects of a file go by default: `<stem>.rejects.csv` beside it.
pub fn beside(file: &Path) -> PathBuf {
    file.with_extension("rejects.csv")
}
