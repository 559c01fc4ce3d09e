//! Rows in the binary form of Postgres' COPY, and the pump that fills one end of a COPY while the other end is being read.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use sqlx::PgConnection;
use tokio::sync::mpsc;

use super::ImportError;

const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
/// Seconds from 1970 to 2000, where Postgres begins to count.
const POSTGRES_EPOCH: i64 = 946_684_800;
/// A buffer is sent once it is this long.
const FULL: usize = 256 * 1024;

/// Rows on their way to Postgres.
#[derive(Debug)]
pub struct CopyBuffer {
    bytes: Vec<u8>,
}

impl CopyBuffer {
    fn new() -> Self {
        Self { bytes: HEADER.to_vec() }
    }

    /// A piece of a row that waits for the rest of it.
    pub fn piece() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Adds what was gathered as a piece.
    pub fn append(&mut self, piece: &Self) {
        self.bytes.extend_from_slice(&piece.bytes);
    }

    /// Starts a row of so many columns.
    pub fn row(&mut self, columns: i16) {
        self.bytes.extend_from_slice(&columns.to_be_bytes());
    }

    /// Adds null.
    pub fn null(&mut self) {
        self.length(-1);
    }

    /// Adds a text, or an enum's label.
    pub fn text(&mut self, text: &str) {
        self.value(text.as_bytes());
    }

    /// Adds a text or null.
    pub fn text_or_null(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.null(),
        }
    }

    /// Adds a `boolean` or null.
    pub fn boolean_or_null(&mut self, value: Option<bool>) {
        match value {
            Some(value) => self.value(&[u8::from(value)]),
            None => self.null(),
        }
    }

    /// Adds an `int`.
    pub fn int(&mut self, value: i32) {
        self.value(&value.to_be_bytes());
    }

    /// Adds a `bigint`.
    pub fn bigint(&mut self, value: i64) {
        self.value(&value.to_be_bytes());
    }

    /// Adds a `bytea`.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.value(bytes);
    }

    /// Adds a `timestamptz`.
    pub fn time(&mut self, time: DateTime<Utc>) {
        let since = time.signed_duration_since(DateTime::UNIX_EPOCH) - TimeDelta::seconds(POSTGRES_EPOCH);
        // The parsers admit no moment that microseconds in 64 bits could not tell.
        self.bigint(since.num_microseconds().unwrap_or(i64::MAX));
    }

    /// Adds a `date`.
    pub fn date(&mut self, day: NaiveDate) {
        // The parsers admit no day that 32 bits could not tell.
        let since = day.signed_duration_since(NaiveDate::default()).num_days() - POSTGRES_EPOCH / 86_400;
        self.int(i32::try_from(since).unwrap_or(i32::MAX));
    }

    /// Adds a `bigint` or null.
    pub fn bigint_or_null(&mut self, value: Option<i64>) {
        match value {
            Some(value) => self.bigint(value),
            None => self.null(),
        }
    }

    /// Adds a `text[]`.
    pub fn texts<'t>(&mut self, texts: impl Iterator<Item = &'t str> + Clone) {
        const TEXT_OID: i32 = 25;
        self.nested(|buffer| {
            let n = i32::try_from(texts.clone().count()).unwrap_or(i32::MAX);
            // Dimensions (an empty array has none), no nulls, the type of the elements, then length and lower bound.
            for word in [i32::from(n > 0), 0, TEXT_OID] {
                buffer.length(word);
            }
            if n > 0 {
                buffer.length(n);
                buffer.length(1);
            }
            for text in texts {
                buffer.text(text);
            }
        });
    }

    /// Adds a `jsonb`: an object of texts, in the order given.
    pub fn json_object<'t>(&mut self, members: impl Iterator<Item = (&'t str, &'t str)>) {
        self.nested(|buffer| {
            const VERSION: u8 = 1;
            buffer.bytes.push(VERSION);
            buffer.bytes.push(b'{');
            for (i, (name, text)) in members.enumerate() {
                if i > 0 {
                    buffer.bytes.push(b',');
                }
                buffer.json_text(name);
                buffer.bytes.push(b':');
                buffer.json_text(text);
            }
            buffer.bytes.push(b'}');
        });
    }

    /// Adds a `jsonb`.
    pub fn json(&mut self, value: &serde_json::Value) {
        self.nested(|buffer| {
            const VERSION: u8 = 1;
            buffer.bytes.push(VERSION);
            buffer.bytes.extend_from_slice(value.to_string().as_bytes());
        });
    }

    fn json_text(&mut self, text: &str) {
        self.bytes.push(b'"');
        for byte in text.bytes() {
            match byte {
                b'"' | b'\\' => self.bytes.extend_from_slice(&[b'\\', byte]),
                0..=0x1f => self.bytes.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
                _ => self.bytes.push(byte),
            }
        }
        self.bytes.push(b'"');
    }

    fn nested(&mut self, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.length(0);
        fill(self);
        let length = i32::try_from(self.bytes.len() - start - 4).unwrap_or(i32::MAX);
        self.bytes[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    fn value(&mut self, bytes: &[u8]) {
        // A field is at most 64 KiB long; nothing that is longer comes here.
        self.length(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
        self.bytes.extend_from_slice(bytes);
    }

    fn length(&mut self, length: i32) {
        self.bytes.extend_from_slice(&length.to_be_bytes());
    }
}

/// What [`copy_in`] gives to the function that makes the rows.
pub struct Sink {
    buffer: CopyBuffer,
    to: mpsc::Sender<(Vec<u8>, u64)>,
    done: u64,
}

/// Why rows stopped being made before their end.
#[derive(Debug)]
pub enum Stop {
    /// The database's end went away; what happened there is the error that counts.
    Hung,
    /// Their source failed.
    Source(ImportError),
}

impl From<ImportError> for Stop {
    fn from(error: ImportError) -> Self {
        Self::Source(error)
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Source(error.into())
    }
}

impl Sink {
    /// Where the next row goes.
    pub fn rows(&mut self) -> &mut CopyBuffer {
        &mut self.buffer
    }

    /// To be called after each row: sends what has gathered, if it is much. `done` is how much of the source has been read.
    ///
    /// # Errors
    /// When the database's end is gone.
    pub fn row_done(&mut self, done: u64) -> Result<(), Stop> {
        self.done = done;
        if self.buffer.bytes.len() < FULL { Ok(()) } else { self.send() }
    }

    fn send(&mut self) -> Result<(), Stop> {
        let bytes = std::mem::replace(&mut self.buffer.bytes, Vec::with_capacity(FULL + FULL / 4));
        self.to.blocking_send((bytes, self.done)).map_err(|_| Stop::Hung)
    }
}

/// Copies the rows that `make` makes on a thread of its own, while Postgres takes them. Nothing is in the table unless this returns
/// `Ok`.
///
/// # Errors
/// When `make` fails or the database does not take a row; in the second case the connection's transaction is lost.
pub async fn copy_in<T: Send + 'static>(
    connection: &mut PgConnection,
    statement: &'static str,
    make: impl FnOnce(&mut Sink) -> Result<T, Stop> + Send + 'static,
    progress: impl Fn(u64),
) -> Result<T, ImportError> {
    // Two buffers on the way are enough to keep both ends busy.
    let (to, mut from) = mpsc::channel(2);
    let mut copy = connection.copy_in_raw(statement).await?;
    let maker = tokio::task::spawn_blocking(move || {
        let mut sink = Sink { buffer: CopyBuffer::new(), to, done: 0 };
        let made = make(&mut sink)?;
        sink.buffer.bytes.extend_from_slice(&TRAILER);
        sink.send()?;
        Ok(made)
    });
    while let Some((bytes, done)) = from.recv().await {
        copy.send(bytes).await?;
        progress(done);
    }
    match maker.await {
        Ok(Ok(made)) => {
            copy.finish().await?;
            Ok(made)
        }
        Ok(Err(Stop::Source(error))) => {
            copy.abort("the rows could not be made").await?;
            Err(error)
        }
        Ok(Err(Stop::Hung)) => Err(sqlx::Error::WorkerCrashed.into()),
        Err(died) => std::panic::resume_unwind(died.into_panic()),
    }
}
