//! Answers that another tool collected. A file comes in, one row an answered questionnaire; revisions, their answers and pending
//! testimonials go out. How files are read and what happens if we die half way: as for orders, see [`crate::import::run`].
//!
//! A row belongs to the order it names, or, where it names none, to the customer's latest order before the answer. A row whose order is
//! not there yet is kept aside and waits for it ([`aside`]). All others are kept as revisions; of an order's human answers to a survey
//! the one answered last counts, in whatever order they are imported, and also if it came from the page. An answer that is there with the
//! same time, id and content is not stored again.
//!
//! Answers about the orders of an erased customer are left out and count as unchanged: their words must not come back.
//!
//! The page waits while an answer to the same order is stored. A file may be large, so the orders that the page may be asked about, those
//! with an invitation, are locked last and for as short as can be ([`Merge`]); nobody waits for the others.

pub mod format;
pub mod aside;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use csv::ByteRecord;
use serde_json::{Map, Value};
use sqlx::PgConnection;

use self::format::{Candidates, ResponseColumns, ResponseFormat, candidates};
use crate::config::ResponseMapping;
use crate::db::{self, Table};
use crate::import::ImportError;
use crate::import::copy::CopyBuffer;
use crate::import::rejects::Rejects;
use crate::import::row::{self, given, on, refuse_nul, text};
use crate::import::run::{self, Destination, ImportKind, ImportOptions, ImportReport, Run};
use crate::import::text::{Fault, Source, Written};
use crate::import::times::Times;
use crate::survey::{self, QuestionKind, Questionnaire, Survey};
use crate::types::{Clock, EmailAddress, ShopId, SurveyVersionId};

/// What may have been asked, and how the answers may be written.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub formats: &'a BTreeMap<String, ResponseMapping>,
    pub surveys: &'a [Survey],
    /// The survey that was answered; `None`: the one the format names, else the one whose questions the file answers.
    pub survey: Option<&'a str>,
}

/// Imports a file of answers; `-` is standard input. `progress` is told how many bytes of how many are read.
///
/// # Errors
/// When the file cannot be read as answers, or the database fails; nothing is imported then. A bad row is no error but a reject.
pub async fn import_responses(
    to: Destination<'_>,
    asked: Asked<'_>,
    path: &Path,
    options: &ImportOptions,
    clock: Clock,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<ImportReport, ImportError> {
    let started_at = clock.now();
    let settled = {
        let candidates = candidates(asked, &to.config.key, options)?;
        let (path, options) = (path.to_owned(), options.clone());
        let zone = to.config.timezone;
        run::off_the_runtime(move || settle(&path, candidates, &options, zone, started_at)).await?
    };
    let Settled { source, format, written, header, reader, digest } = settled;
    let mut report = ImportReport::new(ImportKind::Responses, path, &format.name, written, options.dry_run);
    if !options.again {
        report.already_imported = run::earlier(to.pool, to.shop, ImportKind::Responses, &digest).await?;
        if report.already_imported.is_some() {
            if !options.dry_run {
                aside::try_after(&mut report, to, clock.now()).await;
            }
            return Ok(report);
        }
    }

    let length = source.length;
    // The columns that an order is looked for by.
    let by = [reader.columns.order_id, reader.columns.email]
        .map(|column| column.and_then(|column| header.get(column)).cloned());
    let rejects = Rejects::new(header, written.delimiter)?;
    let records = source.records(written)?;
    let mut transaction = run::begin(to.pool).await?;
    sqlx::raw_sql(include_str!("import/stage.sql")).execute(&mut *transaction).await?;
    let row = move |line: u64, record: &ByteRecord, rows: &mut CopyBuffer, rejects: &Rejects| {
        let response = reader.read(record)?;
        stage_row(line, &rejects.as_it_stands(record), &response, rows);
        Ok::<(), Fault>(())
    };
    let staged = run::stage(&mut transaction, STAGE, records, rejects, row, &options.stop, |done| {
        progress(done, length)
    })
    .await?;
    let (n_read, rejects, _) = staged;

    let run = Run::begin(&mut transaction, to.shop, digest, started_at).await?;
    let version =
        survey::version(&mut transaction, to.shop, &format.survey, clock.now()).await.map_err(|error| {
            match error.downcast::<sqlx::Error>() {
                Ok(error) => ImportError::Database(error),
                Err(error) => ImportError::Unusable(format!("has a survey that cannot be stored: {error}")),
            }
        })?;
    match_orders(&mut transaction, to.shop).await?;
    report.n_read = n_read;
    let kept = aside::Kept { shop: to.shop, run: run.id, survey: &format.survey.key, version, by };
    report.n_aside = kept.keep(&mut transaction, clock.now()).await?;
    let merge = Merge {
        shop: to.shop,
        survey: &format.survey.key,
        version,
        texts: texts(&format.survey.questionnaire),
        locale: to.config.locale.as_str(),
        now: clock.now(),
    };
    let prepared = merge.prepare(&mut transaction).await?;
    report.n_inserted = prepared.n_new;
    run.write_up(&mut transaction, &mut report, rejects, options, clock.now()).await?;
    if options.dry_run {
        transaction.rollback().await?;
        progress(length, length);
        return Ok(report);
    }
    merge.store(&mut transaction, prepared).await?;
    transaction.commit().await?;
    aside::grown(to, report.n_aside).await;
    aside::try_after(&mut report, to, clock.now()).await;
    progress(length, length);
    Ok(report)
}

struct Settled {
    source: Source,
    format: ResponseFormat,
    written: Written,
    header: Vec<String>,
    reader: ResponseReader,
    digest: [u8; 32],
}

fn settle(
    path: &Path,
    candidates: Candidates,
    options: &ImportOptions,
    shops_zone: chrono_tz::Tz,
    now: DateTime<Utc>,
) -> Result<Settled, ImportError> {
    let mut source = Source::open(path, options.whence)?;
    let format = candidates.choose(|format| {
        let written = source.written(&options.laid_over(&format.text))?;
        source.header(written)
    })?;
    let text = options.laid_over(&format.text);
    let written = source.written(&text)?;
    let header = source.header(written)?;
    let columns = format.bind(&header).map_err(|problem| {
        ImportError::Unusable(format!("does not fit the format {}: {problem}", format.name))
    })?;
    let zone = text.timezone.unwrap_or(shops_zone);
    let times = Times::new(zone, text.date_format.as_deref())
        .map_err(|reason| ImportError::Unusable(format!("has a format whose date_format {reason}")))?;
    let definition = format!(
        "responses {} {:?} {:?} {:?} {text:?} {written:?} {zone}",
        format.survey.key, format.survey.questionnaire, format.columns, format.answers
    );
    let digest = source.digest(&definition);
    let reader = ResponseReader { columns, times, no_time: format.no_time, now };
    Ok(Settled { source, format, written, header, reader, digest })
}

struct ResponseReader {
    columns: ResponseColumns,
    times: Times,
    no_time: Option<&'static str>,
    now: DateTime<Utc>,
}

/// An answered questionnaire as a file has it.
struct NewResponse<'r> {
    order: Option<&'r str>,
    email: Option<EmailAddress>,
    answered_at: DateTime<Utc>,
    /// The end of the day, where the file says no time of it.
    answered_by: DateTime<Utc>,
    external_id: Option<&'r str>,
    display_name: Option<Cow<'r, str>>,
    is_consent: bool,
    /// Question key = a number, or a text.
    answers: Value,
}

impl ResponseReader {
    fn read<'r>(&'r self, record: &'r ByteRecord) -> Result<NewResponse<'r>, Fault> {
        let columns = &self.columns;
        if record.as_slice().contains(&0) {
            refuse_nul(record, columns.answers.iter().map(|(_, column)| *column))?;
        }
        let order = given(columns.order_id, record, row::external_id)?;
        let email = match order {
            Some(_) => None,
            None => given(columns.email, record, row::email)?,
        };
        if order.is_none() && email.is_none() {
            let column = columns.order_id.or(columns.email);
            return Err(Fault { column, reason: "is empty".into() });
        }
        let mut answers = Map::new();
        let mut is_consent = false;
        for (question, column) in &columns.answers {
            let Some(value) =
                answer(&question.kind, text(record, *column)).map_err(|reason| Fault::at(*column, reason))?
            else {
                continue;
            };
            match &question.kind {
                // What its author has read is known to the tool that asked.
                QuestionKind::Consent { .. } => is_consent = value == "yes",
                _ => {
                    answers.insert(question.key.clone(), value);
                }
            }
        }
        if answers.is_empty() {
            return Err(Fault::row("answers no question"));
        }
        let answered_at = on(columns.answered_at, record, |text| {
            if self.no_time.is_some_and(|no_time| text.starts_with(no_time)) {
                return Err("is what stands where the tool kept no time of the answer".into());
            }
            let answered_at = self.times.parse(text)?;
            if answered_at > self.now { Err("is in the future".into()) } else { Ok(answered_at) }
        })?;
        let has_time = text(record, columns.answered_at).contains(':');
        Ok(NewResponse {
            order,
            email,
            answered_at,
            answered_by: if has_time { answered_at } else { answered_at + TimeDelta::days(1) },
            external_id: given(columns.external_id, record, row::external_id)?,
            display_name: columns.display_name.and_then(|column| row::name(text(record, column))),
            is_consent,
            answers: Value::Object(answers),
        })
    }
}

/// Reads one answer; `None` when there is none. Texts are kept as they were written.
fn answer(kind: &QuestionKind, text: &str) -> Result<Option<Value>, Cow<'static, str>> {
    let word = text.trim();
    if word.is_empty() {
        return Ok(None);
    }
    let score = |scores: RangeInclusive<i16>| {
        let score = word.parse::<i16>().ok().filter(|score| scores.contains(score));
        score.map(Value::from).ok_or_else(|| {
            Cow::from(format!("is no whole number from {} to {}", scores.start(), scores.end()))
        })
    };
    match kind {
        QuestionKind::Rating => score(survey::RATING),
        QuestionKind::Nps => score(survey::NPS),
        QuestionKind::Recommend | QuestionKind::Consent { .. } => match word.to_lowercase().as_str() {
            "yes" | "y" | "oui" | "true" | "1" => Ok(Value::from("yes")),
            "no" | "n" | "non" | "false" | "0" => Ok(Value::from("no")),
            _ => Err("is neither yes nor no".into()),
        },
        QuestionKind::Choice { choices } => {
            let known = || choices.iter().map(|choice| choice.key.as_str());
            known()
                .find(|key| *key == word)
                .map(Value::from)
                .ok_or_else(|| Cow::from(format!("is none of {}", known().collect::<Vec<_>>().join(", "))))
        }
        QuestionKind::Text { max_length } => {
            if text.chars().count() > *max_length {
                Err(format!("is longer than {max_length} characters").into())
            } else {
                Ok(Value::from(text))
            }
        }
    }
    .map(Some)
}

/// The version of a consent that was given elsewhere: to whatever was asked there.
const CONSENT_ELSEWHERE: &str = "import";

const STAGE: &str = r#"copy staged_response (
    line, "row", order_external_id, email_key, answered_at, answered_by, external_id, display_name, consent_version, answers
) from stdin (format binary)"#;

fn stage_row(line: u64, row: &str, response: &NewResponse<'_>, rows: &mut CopyBuffer) {
    rows.row(10);
    rows.bigint(i64::try_from(line).unwrap_or(i64::MAX));
    rows.text(row);
    rows.text_or_null(response.order);
    rows.text_or_null(response.email.as_ref().map(EmailAddress::key).as_deref());
    rows.time(response.answered_at);
    rows.time(response.answered_by);
    rows.text_or_null(response.external_id);
    rows.text_or_null(response.display_name.as_deref());
    rows.text_or_null(response.is_consent.then_some(CONSENT_ELSEWHERE));
    rows.json(&response.answers);
}

/// Finds the order of each staged row.
async fn match_orders(connection: &mut PgConnection, shop: ShopId) -> sqlx::Result<()> {
    sqlx::raw_sql("analyze staged_response").execute(&mut *connection).await?;
    for statement in [
        include_str!("import/match_order_id.sql"),
        include_str!("import/match_address.sql"),
        include_str!("import/match_erased.sql"),
    ] {
        sqlx::query(statement).persistent(false).bind(shop).execute(&mut *connection).await?;
    }
    Ok(())
}

/// The questions that are answered in the author's own words.
fn texts(questionnaire: &Questionnaire) -> Vec<String> {
    let texts =
        questionnaire.questions.iter().filter(|question| matches!(question.kind, QuestionKind::Text { .. }));
    texts.map(|question| question.key.clone()).collect()
}

/// Staged rows become responses. What can be done before anybody has to wait is done first: what is stored already is dropped, the rows
/// get their ids, and their answers are unfolded. Then the responses and their answers are inserted, and those of orders without an
/// invitation are finished: no link leads to these. Those of the others, which the page may be asked about at the same moment, lie there
/// under a number that nobody else uses. Only then their invitations are locked, which the page does too before it stores an answer; they
/// get their numbers, and the latest of each order counts.
struct Merge<'a> {
    shop: ShopId,
    survey: &'a str,
    version: SurveyVersionId,
    /// The questions that are answered in the author's own words.
    texts: Vec<String>,
    locale: &'a str,
    now: DateTime<Utc>,
}

/// What [`Merge::prepare`] has found.
#[derive(Debug, Clone, Copy)]
struct Prepared {
    /// Rows that are not stored yet.
    n_new: u64,
    /// Of these, those about orders with an invitation.
    n_invited: u64,
}

impl Merge<'_> {
    /// Drops the staged rows that are not to be stored, and makes the others ready. Nobody waits for it.
    async fn prepare(&self, connection: &mut PgConnection) -> sqlx::Result<Prepared> {
        // Those without an order wait elsewhere, those of erased customers go; nobody is told about these.
        sqlx::query("delete from staged_response where order_id is null or erased")
            .persistent(false)
            .execute(&mut *connection)
            .await?;
        self.execute(connection, include_str!("import/drop_stored.sql")).await?;
        self.execute(connection, include_str!("import/prepare.sql")).await?;
        let (n_new, n_invited): (i64, i64) =
            sqlx::query_as("select count(*), count(*) filter (where invited) from staged_response")
                .persistent(false)
                .fetch_one(&mut *connection)
                .await?;
        sqlx::query(include_str!("import/unfold_answers.sql"))
            .persistent(false)
            .bind(&self.texts)
            .execute(&mut *connection)
            .await?;
        sqlx::raw_sql("analyze staged_response").execute(connection).await?;
        let count = |n: i64| u64::try_from(n).unwrap_or_default();
        Ok(Prepared { n_new: count(n_new), n_invited: count(n_invited) })
    }

    /// Stores them. The commit that follows ends the locks.
    async fn store(&self, connection: &mut PgConnection, prepared: Prepared) -> sqlx::Result<()> {
        if prepared.n_new == 0 {
            return Ok(());
        }
        self.number(connection, false).await?;
        sqlx::query(include_str!("import/insert_responses.sql"))
            .persistent(false)
            .bind(self.shop)
            .bind(self.survey)
            .bind(self.version)
            .bind(self.locale)
            .bind(self.now)
            .execute(&mut *connection)
            .await?;
        sqlx::query(include_str!("import/insert_answers.sql"))
            .persistent(false)
            .bind(self.shop)
            .execute(&mut *connection)
            .await?;
        // Before the new rows are looked at: thousands of them would be compared with each other, as if there were one.
        for table in [Table::Response, Table::Answer] {
            db::analyze_grown(connection, table, self.shop, prepared.n_new).await?;
        }
        self.count(connection, false).await?;
        if prepared.n_invited > 0 {
            self.execute(connection, include_str!("import/lock_invitations.sql")).await?;
            self.number(connection, true).await?;
            sqlx::query(include_str!("import/set_revisions.sql"))
                .persistent(false)
                .bind(self.shop)
                .execute(&mut *connection)
                .await?;
            self.count(connection, true).await?;
        }
        Ok(())
    }

    async fn number(&self, connection: &mut PgConnection, invited: bool) -> sqlx::Result<()> {
        self.execute_for(connection, include_str!("import/number_revisions.sql"), invited).await
    }

    /// Lets the latest answer of each order count. The index allows one at any moment: the old one steps down before the new one steps up.
    async fn count(&self, connection: &mut PgConnection, invited: bool) -> sqlx::Result<()> {
        for statement in [
            include_str!("import/uncount.sql"),
            include_str!("import/count.sql"),
            include_str!("import/insert_testimonials.sql"),
        ] {
            self.execute_for(connection, statement, invited).await?;
        }
        Ok(())
    }

    async fn execute(&self, connection: &mut PgConnection, statement: &'static str) -> sqlx::Result<()> {
        sqlx::query(statement)
            .persistent(false)
            .bind(self.shop)
            .bind(self.survey)
            .execute(connection)
            .await?;
        Ok(())
    }

    async fn execute_for(
        &self,
        connection: &mut PgConnection,
        statement: &'static str,
        invited: bool,
    ) -> sqlx::Result<()> {
        sqlx::query(statement)
            .persistent(false)
            .bind(self.shop)
            .bind(self.survey)
            .bind(invited)
            .execute(connection)
            .await?;
        Ok(())
    }
}
