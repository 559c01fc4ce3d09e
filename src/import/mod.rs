//! How a file comes in, whatever it holds: orders and what happened about them (stage 1), answers and scores (stage 3) share it.
//!
//! [`text`] makes records of bytes, [`header`] finds columns, [`row`] and [`times`] read fields, [`rejects`] keeps the rows that could
//! not be taken, [`copy`] brings the others to Postgres, and [`run`] records that the file was read.

pub mod run;
pub mod text;
pub mod header;
pub mod row;
pub mod times;
pub mod rejects;
pub mod copy;

/// Why a file was not imported. No message repeats a value of the file, so that all of them may be logged.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file, or how it is meant to be read, is at fault: trying again will not help. Reads after the name of the file.
    #[error("{0}")]
    Unusable(String),
    /// Reading or writing failed: trying again may help.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Whoever asked for it wants it no more; nothing of the file is in the database.
    #[error("was not read to its end, because it was to stop")]
    Stopped,
    /// The database failed; nothing of the file is in it. Trying again may help.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}
