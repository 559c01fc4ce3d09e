//! The way out: testimonials as files that others read.
//!
//! In: approved testimonials, through the gate. Out: a file with its manifest and notices beside it, or a stream; and a row in `export_run`
//! for each shop. They are written as they are read; only numbers are kept, eight bytes each. One transaction: the publication dates, the
//! `export_run` rows. A file is complete and on the disk before the transaction is committed, and takes its name after that; if we die in
//! between, the dates stand and the next export writes the same ones. An older file under the name is there until the new one takes its
//! place.
//!
//! All that may be published is written, or what a [`Selection`] with a name takes. What a format cannot carry is refused, counted, and
//! named; nothing is shortened to fit.
//!
//! A new format is a file and a line in [`EXPORT_FORMATS`].

mod format;
mod writing;
mod xml;
mod generic;
mod excel;
mod judgeme;
mod loox;
mod yotpo;
mod okendo;
mod powerreviews;
mod feefo;
mod google_product;
mod google_merchant;
mod schema_org;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod declared;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

pub use format::{Change, ExportFormat, Increments, Refused};

use self::format::{About, Gone, Item};
use self::writing::{Hashed, Writing};
use super::TestimonialState;
use super::candidate::{self, Candidate, Filter, Questionnaires};
use super::gate::{self, House, Publishable, Withheld};
use super::manifest::Manifest;
use super::notice;
use super::public::Field;
use super::selection::{Selected, Selection};
use crate::config::{self, Shop};
use crate::db::{self, Turn};
use crate::metrics;
use crate::metrics::figure::Figure;
use crate::new_file::NewFile;
use crate::stop::{self, Stopped};
use crate::survey::{self, Questionnaire, Survey};
use crate::types::{Locale, ResponseId, ShopId};

pub(crate) use google_product::PLACE_OF_PRODUCT;

/// All formats.
pub const EXPORT_FORMATS: &[ExportFormat] = &[
    generic::FORMAT,
    excel::FORMAT,
    judgeme::FORMAT,
    loox::FORMAT,
    yotpo::FORMAT,
    okendo::FORMAT,
    powerreviews::FORMAT,
    feefo::FORMAT,
    google_product::FORMAT,
    google_merchant::FORMAT,
    schema_org::FORMAT,
];

/// The format with this name.
pub fn format(name: &str) -> Option<&'static ExportFormat> {
    EXPORT_FORMATS.iter().find(|format| format.name == name)
}

/// What to export, and how.
#[derive(Debug, Clone, Copy)]
pub struct Export<'a> {
    /// Of these shops.
    pub shops: &'a [(ShopId, &'a Shop)],
    pub format: &'static ExportFormat,
    /// Under which names the authors appear, and what else jobs.toml says about testimonials.
    pub rules: &'a config::Testimonials,
    /// What the manifest and the notices tell about.
    pub surveys: &'a [Survey],
    /// Only what was added, changed or withdrawn then or later.
    pub since: Option<DateTime<Utc>>,
    /// Not all of them.
    pub selection: Option<&'a Selection>,
    /// The language of a file for people; `None`: that of the first shop.
    pub locale: Option<&'a Locale>,
    /// Looked at between two testimonials, and while other exports are waited for. `None`: nobody can stop it.
    pub stop: Option<&'a CancellationToken>,
}

/// So long another export is waited for.
const PATIENCE: Duration = Duration::from_secs(600);
/// An export that may be stopped asks so often whether it is its turn.
const ASK_AGAIN: Duration = Duration::from_millis(200);

impl<'a> Export<'a> {
    /// All that may be published.
    pub fn new(
        shops: &'a [(ShopId, &'a Shop)],
        format: &'static ExportFormat,
        rules: &'a config::Testimonials,
        surveys: &'a [Survey],
    ) -> Self {
        Self { shops, format, rules, surveys, since: None, selection: None, locale: None, stop: None }
    }

    fn go_on(&self) -> Result<(), Stopped> {
        self.stop.map_or(Ok(()), stop::go_on)
    }

    /// Whether such a file may and can be written.
    ///
    /// # Errors
    /// A sentence with what is wrong.
    pub fn check(&self) -> Result<(), String> {
        let shops = self.shops.iter().map(|(_, shop)| shop.key.as_str());
        check(self.format, shops, self.rules, self.selection, self.since.is_some())
    }

    /// Whether such a file shows this of each testimonial.
    pub(super) fn shows(&self, field: Field) -> bool {
        let about = About {
            shops: self.shops,
            locale: &Locale::english(),
            product_urls: &self.rules.product_urls,
            since: None,
            selected: None,
            decided_at: None,
        };
        self.format.shows(&about, field)
    }
}

/// The same for a file that is not asked for yet.
///
/// # Errors
/// A sentence with what is wrong.
pub fn check<'a>(
    format: &ExportFormat,
    shops: impl IntoIterator<Item = &'a str>,
    rules: &config::Testimonials,
    selection: Option<&Selection>,
    since: bool,
) -> Result<(), String> {
    let name = format.name;
    if selection.is_some() && !format.says_selection {
        let others = EXPORT_FORMATS.iter().filter(|format| format.says_selection).map(|format| format.name);
        return Err(format!(
            "a file for {name} cannot say that it is a selection, and its readers would take it for all there is; \
             formats that can: {}",
            others.collect::<Vec<_>>().join(", ")
        ));
    }
    if since && format.increments == Increments::Never {
        return Err(format!(
            "whoever reads {name} takes whatever is missing for deleted: it can only be written whole"
        ));
    }
    if name == google_product::FORMAT.name
        && let Some(shop) = shops.into_iter().find(|shop| !rules.product_urls.contains_key(*shop))
    {
        return Err(format!(
            "{name} needs to know where {shop} shows its products: \
             [testimonials] product_urls = {{ {shop} = \"https://…/{PLACE_OF_PRODUCT}\" }}"
        ));
    }
    Ok(())
}

/// Where it goes.
pub enum Destination<'a> {
    /// A file, with its manifest and notices beside it. It appears complete or not at all.
    File(PathBuf),
    /// Whoever reads from here. What was written counts as published once all is written.
    Stream(&'a mut (dyn Write + Send)),
}

/// What left.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExportReport {
    /// The file, or `-`.
    pub destination: String,
    pub format: &'static str,
    /// Testimonials that were written.
    pub n_rows: u64,
    /// Of these, how many had never left before.
    pub n_first_published: u64,
    /// What it is a selection of; `null`: it is none.
    pub selection: Option<Selected>,
    /// Approved ones that may not leave now, by reason.
    pub withheld: BTreeMap<Withheld, u64>,
    /// Those that may leave but that the format cannot carry, by reason.
    pub refused: BTreeMap<Refused, Vec<ResponseId>>,
    /// Those that left before and may not be shown any more: whoever published them has to take them down.
    pub taken_back: Vec<ResponseId>,
    /// Which surveys were ever asked in which of these shops; looked up for files only, whose notices name them.
    #[serde(skip)]
    pub asked: BTreeSet<(ShopId, String)>,
    /// The part of each shop, in their order, for the notices.
    #[serde(skip)]
    pub parts: Vec<Part>,
    /// What all customers answered; counted for files and selections only.
    pub recommendation: Option<Figure>,
    /// How many agreed to which wording.
    pub consent_versions: BTreeMap<String, u64>,
    /// When the first and the last were submitted.
    pub submitted: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

/// What is one shop's of what left.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Part {
    /// Testimonials that were written.
    pub n_rows: u64,
    /// How many may be published, among those that were looked at.
    pub n_eligible: u64,
    /// How many of them the format cannot carry, by reason.
    pub refused: BTreeMap<Refused, u64>,
    /// What the shop's customers answered; counted for files only.
    pub recommendation: Option<Figure>,
}

impl ExportReport {
    /// How many the format cannot carry.
    pub fn n_refused(&self) -> u64 {
        self.refused.values().map(|ids| ids.len() as u64).sum()
    }

    fn note(&mut self, publishable: &Publishable) {
        let testimonial = publishable.testimonial();
        self.n_rows += 1;
        match self.consent_versions.get_mut(&testimonial.consent_version) {
            Some(n) => *n += 1,
            None => {
                self.consent_versions.insert(testimonial.consent_version.clone(), 1);
            }
        }
        let at = testimonial.submitted_at;
        self.submitted = Some(self.submitted.map_or((at, at), |(from, to)| (from.min(at), to.max(at))));
    }
}

/// Writes the publishable testimonials of some shops.
///
/// # Errors
/// When it must not be written so ([`Export::check`]), it is [`Stopped`], the database does not answer, or the destination cannot be
/// written. Then nothing counts as published, and a file that was there before is there still.
pub async fn export_testimonials(
    pool: &PgPool,
    export: Export<'_>,
    destination: Destination<'_>,
    now: DateTime<Utc>,
) -> anyhow::Result<ExportReport> {
    export.check().map_err(anyhow::Error::msg)?;
    match destination {
        Destination::File(path) => {
            let mut file = NewFile::create(&path)?;
            let tx = begin_patiently(pool).await?;
            let name = path.display().to_string();
            let mut hashed = Hashed::new(&mut file);
            let All { mut tx, report, first_published, .. } =
                write(tx, export, &mut hashed, name, now, Purpose::File).await?;
            let sha256 = hashed.finish();
            file.sync()?;
            let companions = companions(&path, &sha256, export, &report, now)?;
            mark_published(&mut tx, &first_published, now).await?;
            tx.commit().await?;
            file.publish()?;
            companions.into_iter().try_for_each(NewFile::publish)?;
            Ok(report)
        }
        Destination::Stream(out) => {
            let tx = begin_patiently(pool).await?;
            let All { mut tx, report, first_published, .. } =
                write(tx, export, out, "-".to_owned(), now, Purpose::Stream).await?;
            mark_published(&mut tx, &first_published, now).await?;
            tx.commit().await?;
            Ok(report)
        }
    }
}

/// The names of what lies beside a file, the file itself not among them.
pub fn beside(path: &Path) -> Vec<PathBuf> {
    let notices = notice::LOCALES.map(|locale| format!("notice.{locale}.md"));
    ["manifest.json".to_owned()]
        .iter()
        .chain(&notices)
        .map(|what| super::manifest::beside(path, what))
        .collect()
}

/// The manifest and the notices, written and not yet named.
fn companions(
    path: &Path,
    sha256: &str,
    export: Export<'_>,
    report: &ExportReport,
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<NewFile>> {
    let shops = export.shops.iter().map(|(_, shop)| shop.key.as_str()).collect();
    let mut files = vec![Manifest::of(path, sha256, report, shops, export.since, now).write(path)?];
    for locale in notice::LOCALES {
        let text = notice::render(locale, &export, report, now)?;
        let mut file = NewFile::create(&super::manifest::beside(path, &format!("notice.{locale}.md")))?;
        file.write_all(text.as_bytes())?;
        file.sync()?;
        files.push(file);
    }
    Ok(files)
}

/// Writes what [`export_testimonials`] writes; nothing of it counts until [`Written::commit`]. `destination` is who takes it.
///
/// # Errors
/// As [`export_testimonials`].
pub async fn write_export(
    pool: &PgPool,
    export: Export<'_>,
    out: &mut (dyn Write + Send),
    destination: String,
    now: DateTime<Utc>,
) -> anyhow::Result<Written> {
    let shops = export.shops.iter().map(|(id, _)| id.0).collect();
    let All { tx, report, first_published, .. } =
        write(pool.begin().await?, export, out, destination, now, Purpose::Stream).await?;
    Ok(Written { tx, shops, report, first_published, now })
}

/// The manifest of the file that [`export_testimonials`] would write under this name, as JSON. Nothing counts as published.
///
/// # Errors
/// As [`export_testimonials`].
pub async fn describe_export(
    pool: &PgPool,
    export: Export<'_>,
    name: &str,
    now: DateTime<Utc>,
) -> anyhow::Result<String> {
    let mut hashed = Hashed::new(io::sink());
    let All { tx, report, .. } =
        write(pool.begin().await?, export, &mut hashed, name.to_owned(), now, Purpose::File).await?;
    tx.rollback().await?;
    let shops = export.shops.iter().map(|(_, shop)| shop.key.as_str()).collect();
    Manifest::of(Path::new(name), &hashed.finish(), &report, shops, export.since, now).text()
}

/// The notice that [`export_testimonials`] would write beside such a file, in one of [`notice::LOCALES`]. Nothing counts as published.
///
/// # Errors
/// As [`export_testimonials`].
pub async fn notice_of_export(
    pool: &PgPool,
    export: Export<'_>,
    locale: &str,
    now: DateTime<Utc>,
) -> anyhow::Result<String> {
    let All { tx, report, .. } =
        write(pool.begin().await?, export, &mut io::sink(), "-".to_owned(), now, Purpose::File).await?;
    tx.rollback().await?;
    notice::render(locale, &export, &report, now)
}

/// Of each shop, so many are looked at for a preview.
const LOOKED_AT: i64 = 500;

/// Writes the beginning of what [`export_testimonials`] writes, and forgets it. It does not wait for other exports, and none waits for it.
/// How many are in the whole file; `None`: more than were looked at.
///
/// # Errors
/// As [`export_testimonials`].
pub async fn preview_export(
    pool: &PgPool,
    export: Export<'_>,
    out: &mut (dyn Write + Send),
    now: DateTime<Utc>,
) -> anyhow::Result<Option<u64>> {
    let written = write(pool.begin().await?, export, out, "-".to_owned(), now, Purpose::Preview).await?;
    written.tx.rollback().await?;
    Ok(written.is_whole.then_some(written.report.n_rows))
}

/// What an export is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// A file, with a manifest beside it that tells the figures of all who answered.
    File,
    /// Whoever reads it.
    Stream,
    /// A look. It does not count, and so it need not wait for other exports.
    Preview,
}

/// An export that somebody may still take or leave. Dropped, it has never been.
#[derive(Debug)]
pub struct Written {
    tx: Transaction,
    shops: Vec<i32>,
    report: ExportReport,
    first_published: Vec<(ShopId, Vec<i64>)>,
    now: DateTime<Utc>,
}

impl Written {
    /// What was written.
    pub fn report(&self) -> &ExportReport {
        &self.report
    }

    /// When one of the shops' testimonials was last decided on or published. (An order that is cancelled or a person who is erased
    /// changes an export, too, and leaves no moment here.)
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn modified_at(&mut self) -> anyhow::Result<Option<DateTime<Utc>>> {
        if self.report.n_first_published > 0 {
            return Ok(Some(self.now));
        }
        let modified_at = sqlx::query_scalar!(
            "select max(greatest(decided_at, published_at)) from testimonial where shop_id = any($1)",
            &self.shops,
        )
        .fetch_one(&mut *self.tx)
        .await?;
        Ok(modified_at)
    }

    /// Lets whoever takes it take their time: otherwise the database ends a transaction that does nothing for a minute.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn hold(&mut self) -> anyhow::Result<()> {
        sqlx::raw_sql("set local idle_in_transaction_session_timeout = 0").execute(&mut *self.tx).await?;
        Ok(())
    }

    /// It was taken: it counts as published. (The dates are written only now, so that nobody who takes words back or decides on them waits
    /// for the reader.)
    ///
    /// # Errors
    /// When the database does not answer. Then nothing counts as published.
    pub async fn commit(mut self) -> anyhow::Result<ExportReport> {
        mark_published(&mut self.tx, &self.first_published, self.now).await?;
        self.tx.commit().await?;
        Ok(self.report)
    }

    /// Nobody took it.
    ///
    /// # Errors
    /// When the database does not answer; it does not count then either.
    pub async fn forget(self) -> anyhow::Result<()> {
        Ok(self.tx.rollback().await?)
    }
}

type Transaction = sqlx::Transaction<'static, sqlx::Postgres>;

/// A file, and what is to be committed with it.
struct All {
    tx: Transaction,
    report: ExportReport,
    /// Of each shop, the numbers of those that never left before.
    first_published: Vec<(ShopId, Vec<i64>)>,
    /// A preview may end before the end.
    is_whole: bool,
}

/// Writes a file.
async fn write(
    mut tx: Transaction,
    export: Export<'_>,
    out: &mut (dyn Write + Send),
    destination: String,
    now: DateTime<Utc>,
    purpose: Purpose,
) -> anyhow::Result<All> {
    let mut report = ExportReport {
        destination,
        format: export.format.name,
        n_rows: 0,
        n_first_published: 0,
        selection: None,
        withheld: BTreeMap::new(),
        refused: BTreeMap::new(),
        taken_back: Vec::new(),
        asked: BTreeSet::new(),
        parts: Vec::new(),
        recommendation: None,
        consent_versions: BTreeMap::new(),
        submitted: None,
    };
    db::lift_statement_timeout(&mut tx).await?;
    if purpose != Purpose::Preview {
        for (id, _) in export.shops {
            // Two at once would give a testimonial two first dates.
            take_turn(&mut tx, export, *id).await?;
        }
    }
    if purpose == Purpose::File {
        report.asked = survey::ever_asked(&mut tx, export.shops.iter().map(|(shop, _)| *shop)).await?;
    }
    if purpose == Purpose::File || export.selection.is_some() {
        let figure = metrics::recommendation_rate_of(&mut tx, export.shops, export.surveys, now).await?;
        report.recommendation = Some(figure);
    }
    if let (Some(selection), Some(recommendation)) = (export.selection, &report.recommendation) {
        report.selection = Some(Selected {
            label: selection.label().to_owned(),
            rule: selection.rule(),
            n_eligible: n_eligible(&mut tx, export, now).await?,
            recommendation: recommendation.clone(),
        });
    }
    let selected = report.selection.clone();
    let default_locale = export.shops.first().map(|(_, shop)| &shop.locale);
    let english = Locale::english();
    let decided_at = if purpose == Purpose::Preview { None } else { decided_at(&mut tx, export).await? };
    let about = About {
        shops: export.shops,
        locale: export.locale.or(default_locale).unwrap_or(&english),
        product_urls: &export.rules.product_urls,
        since: export.since,
        selected: selected.as_ref(),
        decided_at,
    };
    let mut writing = Writing::begin(export.format, about, out)?;
    let at_most = (purpose == Purpose::Preview).then_some(LOOKED_AT);
    let (mut n_eligible, mut is_whole, mut first_published) = (0, true, Vec::new());
    for of_one @ (id, shop) in export.shops {
        let before = report.n_rows;
        let shop_export = OfShop { id: *id, house: house(export, shop, now), export, at_most };
        let written = shop_export.write(&mut tx, &mut writing, &mut report).await?;
        n_eligible += written.n_eligible;
        is_whole &= at_most.is_none_or(|at_most| written.n_looked < at_most);
        report.n_first_published += written.first_published.len() as u64;
        let recommendation = match export.shops {
            _ if purpose != Purpose::File => None,
            [_] => report.recommendation.clone(),
            _ => {
                let of_one = std::slice::from_ref(of_one);
                Some(metrics::recommendation_rate_of(&mut tx, of_one, export.surveys, now).await?)
            }
        };
        report.parts.push(Part {
            n_rows: report.n_rows - before,
            n_eligible: written.n_eligible,
            refused: written.refused,
            recommendation,
        });
        first_published.push((*id, written.first_published));
        sqlx::query!(
            "insert into export_run (shop_id, kind, format, n_rows, destination, created_at)
             values ($1, 'testimonials', $2, $3, $4, $5)",
            id.0,
            export.format.name,
            i64::try_from(report.n_rows - before)?,
            report.destination,
            now,
        )
        .execute(&mut *tx)
        .await?;
    }
    // The file says how many there were to choose from before the first row, and somebody may have decided on one since.
    if about.since.is_none() && selected.as_ref().is_some_and(|selected| selected.n_eligible != n_eligible) {
        anyhow::bail!("a decision came in while the selection was written: please try again");
    }
    writing.end()?;
    Ok(All { tx, report, first_published, is_whole })
}

/// Waits for other exports of the shop to end, as long as [`PATIENCE`]. Where somebody may stop it, it asks again and again instead,
/// because what waits in the database does not hear them.
async fn take_turn(tx: &mut Transaction, export: Export<'_>, shop: ShopId) -> anyhow::Result<()> {
    let Some(stop) = export.stop else { return Ok(db::take_turn(tx, Turn::Exports, shop).await?) };
    let begun = Instant::now();
    while !db::try_turn(tx, Turn::Exports, shop).await? {
        anyhow::ensure!(
            begun.elapsed() < PATIENCE,
            "another export of this shop has not ended for ten minutes"
        );
        stop.run_until_cancelled(tokio::time::sleep(ASK_AGAIN)).await;
        export.go_on()?;
    }
    Ok(())
}

/// For what nobody waits for: another export, or a reader who takes his time with one, is waited for.
async fn begin_patiently(pool: &PgPool) -> sqlx::Result<Transaction> {
    let mut tx = pool.begin().await?;
    sqlx::raw_sql("set local lock_timeout = '10min'").execute(&mut *tx).await?;
    Ok(tx)
}

fn house<'a>(export: Export<'_>, shop: &'a Shop, now: DateTime<Utc>) -> House<'a> {
    House { shop, names: export.rules.display_name, retain: export.rules.retain, now }
}

/// How many may be published of all, whenever they changed.
async fn n_eligible(conn: &mut PgConnection, export: Export<'_>, now: DateTime<Utc>) -> anyhow::Result<u64> {
    let mut n = 0;
    for (id, shop) in export.shops {
        let questionnaires = Questionnaires::of(conn, *id).await?;
        let house = house(export, shop, now);
        let filter = Filter { state: Some(TestimonialState::Approved), ..Filter::default() };
        let mut candidates = candidate::candidates(conn, *id, filter);
        while let Some(candidate) = candidates.try_next().await? {
            export.go_on()?;
            n += u64::from(gate::admit(&candidate, questionnaires.seen_by(&candidate)?, house).is_ok());
        }
    }
    Ok(n)
}

/// When somebody last decided on one that may be published, or was.
async fn decided_at(conn: &mut PgConnection, export: Export<'_>) -> sqlx::Result<Option<DateTime<Utc>>> {
    let shops: Vec<i32> = export.shops.iter().map(|(shop, _)| shop.0).collect();
    sqlx::query_scalar!(
        "select max(decided_at) from testimonial
         where shop_id = any($1) and (state = 'approved' or published_at is not null)",
        &shops,
    )
    .fetch_one(conn)
    .await
}

/// An export, as far as it is of one shop.
struct OfShop<'a> {
    id: ShopId,
    house: House<'a>,
    export: Export<'a>,
    at_most: Option<i64>,
}

/// What a shop had.
#[derive(Default)]
struct OfShopWritten {
    /// The numbers of those that never left before.
    first_published: Vec<i64>,
    n_eligible: u64,
    /// How many the format cannot carry, by reason.
    refused: BTreeMap<Refused, u64>,
    n_looked: i64,
}

impl<'a> OfShop<'a> {
    async fn write(
        &self,
        conn: &mut PgConnection,
        writing: &mut Writing<'a>,
        report: &mut ExportReport,
    ) -> anyhow::Result<OfShopWritten> {
        let questionnaires = Questionnaires::of(conn, self.id).await?;
        let filter = Filter {
            state: Some(TestimonialState::Approved),
            changed_since: self.export.since,
            or_published: true,
            retain: self.house.retain.map(|retain| (retain, self.house.now)),
            at_most: self.at_most,
            ..Filter::default()
        };
        let mut written = OfShopWritten::default();
        let mut candidates = candidate::candidates(conn, self.id, filter);
        while let Some(candidate) = candidates.try_next().await? {
            self.export.go_on()?;
            written.n_looked += 1;
            self.one(&candidate, questionnaires.seen_by(&candidate)?, writing, report, &mut written)?;
        }
        Ok(written)
    }

    fn one(
        &self,
        candidate: &Candidate,
        asked: &Questionnaire,
        writing: &mut Writing<'a>,
        report: &mut ExportReport,
        written: &mut OfShopWritten,
    ) -> anyhow::Result<()> {
        let publishable = match gate::admit(candidate, asked, self.house) {
            Ok(publishable) => publishable,
            Err(reason) => {
                if candidate.state == TestimonialState::Approved {
                    *report.withheld.entry(reason).or_default() += 1;
                }
                if candidate.published_at.is_some() {
                    report.taken_back.push(candidate.id);
                    let shop = &self.house.shop.key;
                    writing.gone(Gone { id: candidate.id, shop, at: candidate.changed_at })?;
                }
                return Ok(());
            }
        };
        written.n_eligible += 1;
        let takes = |selection: &Selection| selection.takes(publishable.testimonial(), candidate, asked);
        if !self.export.selection.is_none_or(takes) {
            return Ok(());
        }
        let is_new = |since| candidate.published_at.is_none_or(|published| published >= since);
        let change = if self.export.since.is_none_or(is_new) { Change::Added } else { Change::Changed };
        match writing.item(Item { publishable: &publishable, change })? {
            Ok(()) => {
                report.note(&publishable);
                if candidate.published_at.is_none() {
                    written.first_published.push(candidate.id.0);
                }
            }
            Err(refused) => {
                *written.refused.entry(refused).or_default() += 1;
                report.refused.entry(refused).or_default().push(candidate.id);
            }
        }
        Ok(())
    }
}

async fn mark_published(
    conn: &mut PgConnection,
    first_published: &[(ShopId, Vec<i64>)],
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    for (shop, ids) in first_published {
        sqlx::query!(
            "update testimonial set published_at = $3 where shop_id = $1 and response_id = any($2)",
            shop.0,
            ids,
            now,
        )
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}
