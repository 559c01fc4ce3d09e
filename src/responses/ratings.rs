//! How third parties rate the shop: the scores that review sites and price comparisons show. A file comes in, a row for each source and
//! day; rows of `rating` go out. How files are read and what happens if we die half way: as for orders, see [`crate::import::run`].
//!
//! There is one score per shop, source and day. The same row again changes nothing; another score for the same day is a correction and
//! replaces the earlier one. Of two rows about the same day in a file the later one holds.
//!
//! Whoever has several shops keeps their scores in one sheet: a column `shop` says whose each row is, and the file is recorded with the
//! first shop of jobs.toml. Where a shop is asked for, all rows are its own, and a row that says otherwise is rejected.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, NaiveDate, Utc};
use csv::ByteRecord;
use sqlx::{PgConnection, PgPool};

use crate::config::{RatingMapping, Shop, TextFormat};
use crate::import::ImportError;
use crate::import::copy::CopyBuffer;
use crate::import::header::{Search, one_of, unknown_format};
use crate::import::rejects::Rejects;
use crate::import::row::{given, on};
use crate::import::run::{self, ImportKind, ImportOptions, ImportReport, Run};
use crate::import::text::{Fault, Source, Written};
use crate::import::times::Times;
use crate::nearest::did_you_mean;
use crate::types::{Clock, ShopId};

/// The columns a file of ratings can fill.
pub const RATING_COLUMNS: &[&str] = &["source", "rated_on", "score", "scale", "ratings", "shop"];
/// Those without which a rating is none; the source may be the same for all rows.
pub const REQUIRED_RATING_COLUMNS: &[&str] = &["rated_on", "score"];

/// A number with up to four decimals, in ten-thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal(i64);

impl Decimal {
    /// Reads a number such as `4.5`, `4,5` or `95`.
    ///
    /// # Errors
    /// When it is none, is negative or has more decimals.
    pub fn parse(text: &str) -> Result<Self, Cow<'static, str>> {
        const EXPECTED: &str = "is not a number such as 4.5 or 4,5";
        let (whole, fraction) = text.trim().split_once(['.', ',']).unwrap_or((text.trim(), ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 6 || !digits(whole) || !digits(fraction) {
            return Err(EXPECTED.into());
        }
        if fraction.trim_end_matches('0').len() > 4 {
            return Err("has more than four decimals".into());
        }
        let padded = fraction.bytes().chain(std::iter::repeat(b'0')).take(4);
        let units = whole.bytes().chain(padded).fold(0, |units, byte| units * 10 + i64::from(byte - b'0'));
        Ok(Self(units))
    }

    /// A scale: a number above 0, up to 1000.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse_scale(text: &str) -> Result<Self, Cow<'static, str>> {
        match Self::parse(text)? {
            scale @ Self(1..=10_000_000) => Ok(scale),
            _ => Err("is not a scale between 0 and 1000".into()),
        }
    }
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = format!("{}.{:04}", self.0 / 10_000, self.0 % 10_000);
        f.write_str(number.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// Where the rows go.
#[derive(Debug, Clone, Copy)]
pub struct Rated<'a> {
    pub pool: &'a PgPool,
    /// All shops, in the order of jobs.toml.
    pub shops: &'a [(ShopId, &'a Shop)],
    /// The shop that was asked for.
    pub only: Option<ShopId>,
}

/// What is the same for all rows of a file, where it was said by hand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Constants {
    pub source: Option<String>,
    pub scale: Option<Decimal>,
}

/// Imports a file of third-party ratings; `-` is standard input. `progress` is told how many bytes of how many are read.
///
/// # Errors
/// When the file cannot be read as ratings, or the database fails; nothing is imported then. A bad row is no error but a reject.
pub async fn import_ratings(
    rated: Rated<'_>,
    formats: &BTreeMap<String, RatingMapping>,
    constants: &Constants,
    path: &Path,
    options: &ImportOptions,
    clock: Clock,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<ImportReport, ImportError> {
    let started_at = clock.now();
    let shops = Shops::new(rated)?;
    // The one that the run is recorded with.
    let home = shops.home;
    let settled = {
        let (path, formats, options) = (path.to_owned(), formats.clone(), options.clone());
        let constants = constants.clone();
        run::off_the_runtime(move || settle(&path, &formats, constants, &options, shops, started_at)).await?
    };
    let Settled { source, name, written, header, reader, digest } = settled;
    let mut report = ImportReport::new(ImportKind::Ratings, path, &name, written, options.dry_run);
    if !options.again {
        report.already_imported = run::earlier(rated.pool, home, ImportKind::Ratings, &digest).await?;
        if report.already_imported.is_some() {
            return Ok(report);
        }
    }

    let length = source.length;
    let has_counts = reader.columns.ratings.is_some();
    let rejects = Rejects::new(header, written.delimiter)?;
    let records = source.records(written)?;
    let mut transaction = run::begin(rated.pool).await?;
    sqlx::raw_sql(include_str!("ratings/stage.sql")).execute(&mut *transaction).await?;
    let row = move |line: u64, record: &ByteRecord, rows: &mut CopyBuffer, _: &Rejects| {
        let rating = reader.read(record)?;
        rows.row(7);
        rows.bigint(i64::try_from(line).unwrap_or(i64::MAX));
        rows.int(rating.shop.0);
        rows.text(&rating.source);
        rows.date(rating.rated_on);
        rows.text(&rating.score.to_string());
        rows.text(&rating.scale.to_string());
        rows.bigint_or_null(rating.ratings);
        Ok::<(), Fault>(())
    };
    const STAGE: &str = "copy staged_rating from stdin (format binary)";
    let staged = run::stage(&mut transaction, STAGE, records, rejects, row, &options.stop, |done| {
        progress(done, length)
    })
    .await?;
    let (n_read, rejects, _) = staged;

    let run = Run::begin(&mut transaction, home, digest, started_at).await?;
    report.n_read = n_read;
    [report.n_updated, report.n_inserted] = merge(&mut transaction, has_counts, clock.now()).await?;
    run.finish(transaction, &mut report, rejects, options, &[], clock.now()).await?;
    progress(length, length);
    Ok(report)
}

/// Returns how many were corrected and how many are new. The statements are checked by the tests: they need a temporary table.
async fn merge(
    connection: &mut PgConnection,
    has_counts: bool,
    now: DateTime<Utc>,
) -> sqlx::Result<[u64; 2]> {
    sqlx::query(include_str!("ratings/drop_overtaken.sql"))
        .persistent(false)
        .execute(&mut *connection)
        .await?;
    let corrected = sqlx::query(include_str!("ratings/update.sql"))
        .persistent(false)
        .bind(now)
        .bind(has_counts)
        .execute(&mut *connection)
        .await?;
    let inserted = sqlx::query(include_str!("ratings/insert.sql"))
        .persistent(false)
        .bind(now)
        .execute(connection)
        .await?;
    Ok([corrected.rows_affected(), inserted.rows_affected()])
}

/// The shops whose ratings may come.
struct Shops {
    by_key: BTreeMap<String, ShopId>,
    /// All rows are of this one.
    only: Option<ShopId>,
    /// Whose the rows are that name none, where that can be told.
    default: Option<ShopId>,
    /// The one that the run is recorded with.
    home: ShopId,
    zone: chrono_tz::Tz,
}

impl Shops {
    fn new(rated: Rated<'_>) -> Result<Self, ImportError> {
        let sole = match rated.shops {
            [(sole, _)] => Some(*sole),
            _ => None,
        };
        let default = rated.only.or(sole);
        let home = rated.shops.iter().find(|(id, _)| default.is_none_or(|default| *id == default));
        let Some((home, shop)) = home else {
            return Err(ImportError::Unusable("cannot be of any shop: none is configured".to_owned()));
        };
        Ok(Self {
            by_key: rated.shops.iter().map(|(id, shop)| (shop.key.clone(), *id)).collect(),
            only: rated.only,
            default,
            home: *home,
            zone: shop.timezone,
        })
    }

    /// Whose a row is that says so.
    fn named(&self, key: &str) -> Result<ShopId, Cow<'static, str>> {
        let shop = *self.by_key.get(key).ok_or("is no shop of jobs.toml")?;
        match self.only {
            Some(only) if only != shop => Err("is another shop than the one that was asked for".into()),
            _ => Ok(shop),
        }
    }
}

/// How a file of ratings is read.
#[derive(Debug, Clone)]
struct RatingFormat {
    name: String,
    text: TextFormat,
    /// Ours (one of [`RATING_COLUMNS`]) = theirs.
    columns: BTreeMap<String, String>,
    required: Vec<String>,
    constants: Constants,
    closed: bool,
}

impl RatingFormat {
    fn generic() -> Self {
        Self {
            name: "generic".to_owned(),
            text: TextFormat::default(),
            columns: RATING_COLUMNS
                .iter()
                .map(|column| ((*column).to_owned(), (*column).to_owned()))
                .collect(),
            required: REQUIRED_RATING_COLUMNS.iter().map(|column| (*column).to_owned()).collect(),
            constants: Constants::default(),
            closed: true,
        }
    }

    fn mapped(name: &str, mapping: &RatingMapping) -> Self {
        Self {
            name: name.to_owned(),
            text: mapping.text.clone(),
            columns: mapping.columns.clone(),
            required: mapping.columns.keys().cloned().collect(),
            constants: Constants { source: mapping.source.clone(), scale: mapping.scale },
            closed: false,
        }
    }

    fn with(mut self, constants: Constants, columns: &BTreeMap<String, String>) -> Result<Self, ImportError> {
        for (ours, theirs) in columns {
            if !RATING_COLUMNS.contains(&ours.as_str()) {
                let hint = did_you_mean(ours, RATING_COLUMNS.iter().copied())
                    .unwrap_or_else(|| format!("the columns are {}", RATING_COLUMNS.join(", ")));
                return Err(ImportError::Unusable(format!("there is no column {ours:?} to fill; {hint}")));
            }
            self.columns.insert(ours.clone(), theirs.clone());
            self.required.push(ours.clone());
            self.closed = false;
        }
        self.constants = Constants {
            source: constants.source.or(self.constants.source),
            scale: constants.scale.or(self.constants.scale),
        };
        Ok(self)
    }

    fn bind(&self, header: &[String]) -> Result<RatingColumns, String> {
        let mut search = Search::new(header);
        let mut find = |ours: &str| {
            let needs_source = ours == "source" && self.constants.source.is_none();
            let required = needs_source || self.required.iter().any(|column| column == ours);
            let itself = ours.to_owned();
            let theirs = self.columns.get(ours).or(required.then_some(&itself))?;
            search.find(ours, theirs, required)
        };
        let (rated_on, score) = (find("rated_on"), find("score"));
        let columns = RatingColumns {
            source: find("source"),
            rated_on: rated_on.unwrap_or_default(),
            score: score.unwrap_or_default(),
            scale: find("scale"),
            ratings: find("ratings"),
            shop: find("shop"),
        };
        search.finish(self.closed.then_some(RATING_COLUMNS))?;
        Ok(columns)
    }
}

/// Where in a row the columns are, counted from 0.
#[derive(Debug)]
struct RatingColumns {
    source: Option<usize>,
    rated_on: usize,
    score: usize,
    scale: Option<usize>,
    ratings: Option<usize>,
    shop: Option<usize>,
}

struct Settled {
    source: Source,
    name: String,
    written: Written,
    header: Vec<String>,
    reader: RatingReader,
    digest: [u8; 32],
}

fn settle(
    path: &Path,
    formats: &BTreeMap<String, RatingMapping>,
    constants: Constants,
    options: &ImportOptions,
    shops: Shops,
    now: DateTime<Utc>,
) -> Result<Settled, ImportError> {
    let mut source = Source::open(path, options.whence)?;
    let format = {
        let mut header = |format: &RatingFormat| {
            let written = source.written(&options.laid_over(&format.text))?;
            source.header(written)
        };
        choose(formats, &constants, options, &mut header)?
    };
    let text = options.laid_over(&format.text);
    let written = source.written(&text)?;
    let header = source.header(written)?;
    let columns = format.bind(&header).map_err(|problem| {
        ImportError::Unusable(format!("does not fit the format {}: {problem}", format.name))
    })?;
    if columns.shop.is_none() && shops.default.is_none() {
        return Err(ImportError::Unusable(
            "does not say whose ratings it has: give it a column `shop`, or name the shop with --shop"
                .to_owned(),
        ));
    }
    let zone = text.timezone.unwrap_or(shops.zone);
    let times = Times::new(zone, text.date_format.as_deref())
        .map_err(|reason| ImportError::Unusable(format!("has a format whose date_format {reason}")))?;
    let digest = source.digest(&format!("ratings {format:?} {text:?} {written:?} {zone} {:?}", shops.only));
    let name = format.name.clone();
    let today = now.with_timezone(&zone).date_naive();
    let reader = RatingReader { columns, constants: format.constants, shops, times, zone, today };
    Ok(Settled { source, name, written, header, reader, digest })
}

fn choose(
    formats: &BTreeMap<String, RatingMapping>,
    constants: &Constants,
    options: &ImportOptions,
    header: &mut dyn FnMut(&RatingFormat) -> Result<Vec<String>, ImportError>,
) -> Result<RatingFormat, ImportError> {
    let all = || {
        let mapped = formats.iter().map(|(name, mapping)| RatingFormat::mapped(name, mapping));
        std::iter::once(RatingFormat::generic()).chain(mapped)
    };
    let is_open = options.format == "auto" && options.columns.is_empty();
    if !is_open {
        // Columns given by hand describe the file: where no format is named, they complete the built-in one.
        let name = if options.format == "auto" { "generic" } else { options.format.as_str() };
        let Some(format) = all().find(|format| format.name == name) else {
            return Err(unknown_format(name, all().map(|format| format.name)));
        };
        return format.with(constants.clone(), &options.columns);
    }
    let (mut fitting, mut lacks, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    for format in all() {
        let format = format.with(constants.clone(), &options.columns)?;
        seen = header(&format)?;
        match format.bind(&seen) {
            Ok(_) if format.name == "generic" => return Ok(format),
            Ok(_) => fitting.push(format),
            Err(problem) => lacks.push((format.name, problem)),
        }
    }
    one_of(fitting, |format| &format.name, lacks, &seen)
}

struct RatingReader {
    columns: RatingColumns,
    constants: Constants,
    shops: Shops,
    times: Times,
    zone: chrono_tz::Tz,
    today: NaiveDate,
}

/// A score as a file has it.
struct NewRating {
    shop: ShopId,
    source: String,
    rated_on: NaiveDate,
    score: Decimal,
    scale: Decimal,
    ratings: Option<i64>,
}

impl RatingReader {
    fn read(&self, record: &ByteRecord) -> Result<NewRating, Fault> {
        let columns = &self.columns;
        let shop = match given(columns.shop, record, |key| self.shops.named(key))?.or(self.shops.default) {
            Some(shop) => shop,
            None => return Err(Fault { column: columns.shop, reason: "is empty".into() }),
        };
        let source = match (given(columns.source, record, source)?, &self.constants.source) {
            (Some(source), _) => source,
            (None, Some(source)) => source.to_lowercase(),
            (None, None) => return Err(Fault { column: columns.source, reason: "is empty".into() }),
        };
        let rated_on = on(columns.rated_on, record, |text| {
            let day = self.times.parse(text)?.with_timezone(&self.zone).date_naive();
            if day > self.today { Err("lies in the future".into()) } else { Ok(day) }
        })?;
        let (score, its_scale) = on(columns.score, record, score)?;
        let scale = given(columns.scale, record, Decimal::parse_scale)?;
        let scale = match (its_scale, scale.or(self.constants.scale)) {
            (Some(its), Some(scale)) if its != scale => {
                return Err(Fault::at(columns.score, format!("is of {its}, and the scale is {scale}")));
            }
            (Some(scale), _) | (None, Some(scale)) => scale,
            (None, None) => {
                let column = columns.scale.unwrap_or(columns.score);
                return Err(Fault::at(
                    column,
                    "does not say of how much: a scale such as 5 or 100 is missing",
                ));
            }
        };
        if score > scale {
            return Err(Fault::at(columns.score, format!("is more than its scale, {scale}")));
        }
        let ratings = given(columns.ratings, record, count)?;
        Ok(NewRating { shop, source, rated_on, score, scale, ratings })
    }
}

/// A source's name, in lower case.
fn source(text: &str) -> Result<String, Cow<'static, str>> {
    crate::import::row::external_id(text).map(str::to_lowercase)
}

/// A score and, where it says so, of how much: `4.5`, `4,5/5`, `95 %`.
fn score(text: &str) -> Result<(Decimal, Option<Decimal>), Cow<'static, str>> {
    if let Some(percent) = text.strip_suffix('%') {
        return Ok((Decimal::parse(percent)?, Some(Decimal(1_000_000))));
    }
    match text.split_once('/') {
        Some((score, scale)) => Ok((Decimal::parse(score)?, Some(Decimal::parse_scale(scale)?))),
        None => Ok((Decimal::parse(text)?, None)),
    }
}

/// A whole number, its thousands grouped or not.
fn count(text: &str) -> Result<i64, Cow<'static, str>> {
    const EXPECTED: &str = "is not a whole number such as 1234";
    let is_separator = |c: char| matches!(c, ' ' | '\u{a0}' | '\u{202f}' | '.' | ',' | '\'' | '\u{2019}');
    let mut groups = text.split(is_separator);
    let first = groups.next().unwrap_or_default();
    let rest: Vec<&str> = groups.collect();
    let is_grouped = (rest.is_empty() || first.len() <= 3) && rest.iter().all(|group| group.len() == 3);
    let digits: String = std::iter::once(first).chain(rest.iter().copied()).collect();
    if first.is_empty() || !is_grouped || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(EXPECTED.into());
    }
    digits.parse().map_err(|_| EXPECTED.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores() {
        let check = |text: &str, expected: Result<(&str, Option<&str>), &str>| match (score(text), expected) {
            (Ok((score, scale)), Ok((expected, of))) => {
                assert_eq!(
                    (score.to_string().as_str(), scale.map(|s| s.to_string()).as_deref()),
                    (expected, of)
                );
            }
            (Err(error), Err(reason)) => assert!(error.contains(reason), "{text}: {error}"),
            (read, _) => panic!("{text}: {read:?}"),
        };
        check("4.5", Ok(("4.5", None)));
        check("4,70", Ok(("4.7", None)));
        check("0", Ok(("0", None)));
        check("95 %", Ok(("95", Some("100"))));
        check("95,5%", Ok(("95.5", Some("100"))));
        check("9.1/10", Ok(("9.1", Some("10"))));
        check("4,5 / 5", Ok(("4.5", Some("5"))));
        check("4.12345", Err("more than four decimals"));
        check("4.50000000", Ok(("4.5", None)));
        for wrong in ["", "-1", "four", "1.234,5", "4..5", "4/", "/5", "%", "1e3", "12345678"] {
            check(wrong, Err("is not a number"));
        }
        check("4/0", Err("is not a scale"));
        check("4/2000", Err("is not a scale"));
    }

    #[test]
    fn counts() {
        for (text, expected) in
            [("0", 0), ("1234", 1234), ("1 234", 1234), ("1.234.567", 1_234_567), ("12,345", 12345)]
        {
            assert_eq!(count(text), Ok(expected), "{text}");
        }
        for wrong in ["-1", "1.5", "1234 567", "many", "1,23", ",123", "99999999999999999999"] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
    }
}
