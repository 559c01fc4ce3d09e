//! A do-not-contact list that another tool kept becomes lines of ours. Comes in: a file of addresses, one a line, or CSV with a column of
//! them; an address may also be a SHA-256 hash already. Goes out: which lines were new, and the rows that could not be taken.
//!
//! The rows go by COPY into a temporary table and from there, all at once, onto the list, in one transaction: if we die half way nothing
//! of the file is there. What is on the list already stays as it is, so that reading a file again changes nothing. The file itself is
//! not recorded: it is known by what is on the list.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use csv::ByteRecord;
use serde::Serialize;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::{Scope, SuppressionReason};
use crate::config::TextFormat;
use crate::db::{self, Table};
use crate::import::ImportError;
use crate::import::copy::CopyBuffer;
use crate::import::rejects::{Reject, Rejects};
use crate::import::row;
use crate::import::run;
use crate::import::text::{Fault, Source, Whence, Written};
use crate::nearest::did_you_mean;
use crate::types::{EmailAddress, ShopId};

/// What a column of addresses or of their hashes is called, in letters and digits alone; the first of these that a header has is taken,
/// because `address` may be a street where there is an `email` too.
const COLUMNS: [&str; 20] = [
    "email",
    "emailaddress",
    "adresseemail",
    "adressemail",
    "adressedemail",
    "courriel",
    "adressecourriel",
    "mail",
    "mailaddress",
    "subscriber",
    "recipient",
    "destinataire",
    "emailsha256",
    "emailhash",
    "addresshash",
    "sha256",
    "hash",
    "address",
    "adresse",
    "contact",
];

/// How a file is to be taken.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whose list it is for.
    pub scope: Scope,
    /// Why these addresses are not to be written to.
    pub reason: SuppressionReason,
    /// The column of the addresses, where its name is none that is recognised.
    pub column: Option<String>,
    /// How the file is written, where it does not show it.
    pub text: TextFormat,
    /// Do everything, commit nothing.
    pub dry_run: bool,
    /// Where the rejected rows are written as CSV, if there are any.
    pub rejects: Option<PathBuf>,
}

/// What became of a file. Always: read = inserted + unchanged + rejected.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImportReport {
    /// Its name without the folder; `-` is standard input.
    pub file_name: String,
    /// Where the addresses stand; `None`: one a line, without a header.
    pub column: Option<String>,
    pub reason: SuppressionReason,
    pub encoding: &'static str,
    /// Whether the encoding is only a guess.
    pub encoding_guessed: bool,
    pub n_read: u64,
    /// New on the list.
    pub n_inserted: u64,
    /// On the list already, or twice in the file.
    pub n_unchanged: u64,
    pub n_rejected: u64,
    /// The first rejects.
    pub rejects: Vec<Reject>,
    pub dry_run: bool,
}

/// Takes over a file; `-` is standard input. `progress` is told how many bytes of how many are read.
///
/// # Errors
/// When the file cannot be read as a list of addresses, or the database fails; nothing is taken then. A bad row is no error but a reject.
pub async fn import(
    pool: &PgPool,
    path: &Path,
    options: &Options,
    now: DateTime<Utc>,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<ImportReport, ImportError> {
    let settled = {
        let (path, text, column) = (path.to_owned(), options.text.clone(), options.column.clone());
        run::off_the_runtime(move || settle(&path, &text, column.as_deref())).await?
    };
    let Settled { source, written, header, column } = settled;
    let length = source.length;
    let (names, records) = match &header {
        Some(names) => (names.clone(), source.records(written)?),
        None => (vec!["email".to_owned()], source.lines(written)?),
    };
    let rejects = Rejects::new(names, written.delimiter)?;
    let mut transaction = run::begin(pool).await?;
    sqlx::raw_sql("create temporary table staged_suppression (address_hash bytea not null) on commit drop")
        .execute(&mut *transaction)
        .await?;
    let stage = move |_: u64, record: &ByteRecord, rows: &mut CopyBuffer, _: &Rejects| -> Result<(), Fault> {
        let hash = row::on(column, record, address_hash)?;
        rows.row(1);
        rows.bytes(&hash);
        Ok(())
    };
    // Only a person asks for this, whose Ctrl-C ends the program.
    let (n_read, mut rejects, _) = run::stage(
        &mut transaction,
        "copy staged_suppression (address_hash) from stdin (format binary)",
        records,
        rejects,
        stage,
        &CancellationToken::new(),
        |done| progress(done, length),
    )
    .await?;
    // In the order of the key, so that two imports at once wait for each other and never for each other's end.
    let n_inserted = sqlx::query(
        "insert into suppression (shop_id, address_hash, reason, created_at)
         select distinct $1::int, address_hash, $2::suppression_reason, $3::timestamptz from staged_suppression
         order by address_hash
         on conflict do nothing",
    )
    .persistent(false)
    .bind(options.scope.shop_id())
    .bind(options.reason)
    .bind(now)
    .execute(&mut *transaction)
    .await?
    .rows_affected();
    if let Some(path) = &options.rejects {
        rejects.write(path)?;
    }
    if options.dry_run {
        transaction.rollback().await?;
    } else {
        db::analyze_grown(&mut transaction, Table::Suppression, ShopId(options.scope.shop_id()), n_inserted)
            .await?;
        transaction.commit().await?;
    }
    Ok(ImportReport {
        file_name: path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
        column: header.and_then(|names| names.get(column).cloned()),
        reason: options.reason,
        encoding: written.encoding.name(),
        encoding_guessed: written.guessed,
        n_read,
        n_inserted,
        n_unchanged: n_read - rejects.n - n_inserted,
        n_rejected: rejects.n,
        rejects: rejects.first,
        dry_run: options.dry_run,
    })
}

/// A file whose shape is known and whose rows are not read yet.
struct Settled {
    source: Source,
    written: Written,
    /// `None`: one address a line.
    header: Option<Vec<String>>,
    /// Counted from 0.
    column: usize,
}

fn settle(path: &Path, text: &TextFormat, column: Option<&str>) -> Result<Settled, ImportError> {
    let mut source = Source::open(path, Whence::Named)?;
    let written = source.written(text)?;
    let first = source.first_line(written)?;
    // A single field that is an address, or means to be one, or a hash, is the first row of a file without a header.
    if let [only] = &first[..]
        && column.is_none()
        && (only.contains('@') || hash(only).is_some())
    {
        return Ok(Settled { source, written, header: None, column: 0 });
    }
    let header = source.header(written)?;
    let column = find_column(&header, column).map_err(ImportError::Unusable)?;
    Ok(Settled { source, written, header: Some(header), column })
}

/// Where the addresses stand.
fn find_column(header: &[String], named: Option<&str>) -> Result<usize, String> {
    let simple = |name: &str| {
        name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>()
    };
    let places = |wanted: &str, read: &dyn Fn(&str) -> String| {
        let named = header.iter().enumerate().filter(|(_, name)| read(name) == wanted);
        named.map(|(place, _)| place).collect::<Vec<_>>()
    };
    let (found, what) = match named {
        Some(named) => (places(named.trim(), &str::to_owned), named),
        None => COLUMNS
            .iter()
            .map(|known| (places(known, &simple), *known))
            .find(|(found, _)| !found.is_empty())
            .unwrap_or((Vec::new(), "email")),
    };
    match found[..] {
        [place] => Ok(place),
        [] => {
            let hint = did_you_mean(what, header.iter().map(String::as_str));
            let hint = hint.map_or_else(String::new, |hint| format!(" ({hint})"));
            Err(format!(
                "has no column {what:?}{hint}; it has {}. Name the column of the addresses with --column",
                header.join(", ")
            ))
        }
        _ => Err(format!("has several columns {what:?}; name the one of the addresses with --column")),
    }
}

/// Reads an address, or its hash as another tool wrote it.
fn address_hash(text: &str) -> Result<[u8; 32], std::borrow::Cow<'static, str>> {
    match hash(text) {
        Some(hash) => Ok(hash),
        None => row::email(text).map(|address: EmailAddress| address.hash()),
    }
}

/// 64 hexadecimal digits.
fn hash(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_column_of_the_addresses_is_found() {
        let find = |header: &[&str], named: Option<&str>| {
            find_column(&header.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), named)
        };
        assert_eq!(find(&["id", "E-Mail"], None), Ok(1));
        assert_eq!(find(&["Address", "email"], None), Ok(1), "a street is no address of ours");
        assert_eq!(find(&["Adresse e-mail", "Raison"], None), Ok(0));
        assert_eq!(find(&["address"], None), Ok(0));
        assert_eq!(find(&["Kontakt", "seit"], Some("Kontakt")), Ok(0));
        assert!(find(&["Kontakt"], None).unwrap_err().contains("--column"));
        assert!(find(&["Kontakt"], Some("Kontak")).unwrap_err().contains("did you mean `Kontakt`?"));
        assert!(find(&["email", "E-mail"], None).unwrap_err().contains("several"));
    }

    #[test]
    fn a_hash_is_taken_as_it_is() {
        let address = EmailAddress::parse("Claire@customer.example").unwrap();
        let digits: String = address.hash().iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(address_hash(&digits), Ok(address.hash()));
        assert_eq!(address_hash("claire@customer.example"), Ok(address.hash()));
        assert!(address_hash(&digits[1..]).is_err());
        assert!(address_hash(&digits.replace('A', "g").replace('0', "z")).is_err());
    }
}
