//! Answers that another tool collected. A file comes in, one row an answered questionnaire; revisions, their answers and pending
//! testimonials go out. How files are read and what happens if we die half way: as for orders, see [`crate::import::run`].
//!
//! A row belongs to the order it names, or, where it names none, to the customer's latest order before the answer. All rows are kept
//! as revisions; of an order's human answers to a survey the one answered last counts, in whatever order they are imported, and also
//! if it came from the page. An answer that is there with the same time, id and content is not stored again.
//!
//! Answers about the orders of an erased customer are left out and count as unchanged: their words must not come back.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use chrono::{DateTime, Utc};
use csv::ByteRecord;
use futures_util::TryStreamExt as _;
use serde_json::{Map, Value};
use sqlx::{PgConnection, Row as _};

use crate::config::{ResponseMapping, TextFormat};
use crate::db::Table;
use crate::import::ImportError;
use crate::import::copy::CopyBuffer;
use crate::import::header::{Search, one_of, unknown_format};
use crate::import::rejects::Rejects;
use crate::import::row::{self, given, on, refuse_nul, text};
use crate::import::run::{self, Destination, ImportKind, ImportOptions, ImportReport, Run};
use crate::import::text::{Fault, Source, Written};
use crate::import::times::Times;
use crate::nearest::did_you_mean;
use crate::survey::{self, Question, QuestionKind, Survey};
use crate::types::{Clock, EmailAddress, ShopId, SurveyVersionId};

/// The columns a file of answers can fill, besides its answers.
pub const RESPONSE_COLUMNS: &[&str] = &["order_id", "email", "answered_at", "external_id", "display_name"];
/// Those that a format of jobs.toml has to name.
pub const MAPPED_RESPONSE_COLUMNS: &[&str] = &["order_id", "answered_at"];

/// What may have been asked, and how the answers may be written.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub formats: &'a BTreeMap<String, ResponseMapping>,
    pub surveys: &'a [Survey],
    /// The survey that was answered; `None`: the one the format names, else the one whose questions
    /// the file answers.
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
        run::off_the_runtime(move || settle(&path, candidates, &options, zone)).await?
    };
    let Settled { source, format, written, header, reader, digest } = settled;
    let mut report = ImportReport::new(ImportKind::Responses, path, &format.name, written, options.dry_run);
    if !options.again {
        report.already_imported = run::earlier(to.pool, to.shop, ImportKind::Responses, &digest).await?;
        if report.already_imported.is_some() {
            return Ok(report);
        }
    }

    let length = source.length;
    // The column that is at fault when no order is found.
    let columns = [reader.columns.order_id, reader.columns.email];
    let rejects = Rejects::new(header, written.delimiter)?;
    let records = source.records(written)?;
    let mut transaction = run::begin(to.pool).await?;
    sqlx::raw_sql(include_str!("import/stage.sql")).execute(&mut *transaction).await?;
    let row = move |line, record: &ByteRecord, rows: &mut CopyBuffer, rejects: &Rejects| {
        let response = reader.read(record)?;
        stage_row(line, &rejects.as_it_stands(record), &response, rows);
        Ok::<(), Fault>(())
    };
    let staged =
        run::stage(&mut transaction, STAGE, records, rejects, row, |done| progress(done, length)).await?;
    let (n_read, mut rejects) = staged;

    let run = Run::begin(&mut transaction, to.shop, digest, started_at).await?;
    let version =
        survey::version(&mut transaction, to.shop, &format.survey, clock.now()).await.map_err(|error| {
            match error.downcast::<sqlx::Error>() {
                Ok(error) => ImportError::Database(error),
                Err(error) => ImportError::Unusable(format!("has a survey that cannot be stored: {error}")),
            }
        })?;
    match_orders(&mut transaction, to.shop, columns, &mut rejects).await?;
    let merge = Merge {
        shop: to.shop,
        survey: &format.survey,
        version,
        locale: to.config.locale.as_str(),
        now: clock.now(),
    };
    report.n_inserted = merge.run(&mut transaction).await?;
    report.n_read = n_read;
    run.finish(transaction, &mut report, rejects, options, &[Table::Response, Table::Answer], clock.now())
        .await?;
    progress(length, length);
    Ok(report)
}

/// How a file of answers is read.
#[derive(Debug, Clone)]
struct ResponseFormat {
    name: String,
    text: TextFormat,
    survey: Survey,
    /// Ours (one of [`RESPONSE_COLUMNS`]) = theirs.
    columns: BTreeMap<String, String>,
    /// Question key = their column.
    answers: BTreeMap<String, String>,
    /// Ours, or question keys, that must be there.
    required: Vec<String>,
    /// Whether a column that is none of these is an error.
    closed: bool,
}

impl ResponseFormat {
    fn generic(survey: &Survey) -> Self {
        let itself = |name: &str| (name.to_owned(), name.to_owned());
        Self {
            name: "generic".to_owned(),
            text: TextFormat::default(),
            survey: survey.clone(),
            columns: RESPONSE_COLUMNS.iter().map(|column| itself(column)).collect(),
            answers: survey.questionnaire.questions.iter().map(|question| itself(&question.key)).collect(),
            required: vec!["answered_at".to_owned()],
            closed: true,
        }
    }

    fn mapped(name: &str, mapping: &ResponseMapping, survey: &Survey) -> Self {
        Self {
            name: name.to_owned(),
            text: mapping.text.clone(),
            survey: survey.clone(),
            columns: mapping.columns.clone(),
            answers: mapping.answers.clone(),
            required: mapping.columns.keys().chain(mapping.answers.keys()).cloned().collect(),
            closed: false,
        }
    }

    fn with_columns(mut self, columns: &BTreeMap<String, String>) -> Result<Self, ImportError> {
        for (ours, theirs) in columns {
            if RESPONSE_COLUMNS.contains(&ours.as_str()) {
                self.columns.insert(ours.clone(), theirs.clone());
            } else if self.survey.questionnaire.question(ours).is_some() {
                self.answers.insert(ours.clone(), theirs.clone());
            } else {
                let known = RESPONSE_COLUMNS.iter().copied().chain(self.question_keys());
                let hint = did_you_mean(ours, known).unwrap_or_else(|| {
                    let keys: Vec<&str> = self.question_keys().collect();
                    format!("the columns are {}, {}", RESPONSE_COLUMNS.join(", "), keys.join(", "))
                });
                return Err(ImportError::Unusable(format!("there is no column {ours:?} to fill; {hint}")));
            }
            self.required.push(ours.clone());
            self.closed = false;
        }
        Ok(self)
    }

    fn question_keys(&self) -> impl Iterator<Item = &str> {
        self.survey.questionnaire.questions.iter().map(|question| question.key.as_str())
    }

    fn bind(&self, header: &[String]) -> Result<ResponseColumns, String> {
        let mut search = Search::new(header);
        let mut find = |ours: &str, theirs: Option<&String>| {
            let required = self.required.iter().any(|column| column == ours);
            theirs.and_then(|theirs| search.find(ours, theirs, required))
        };
        let order_id = find("order_id", self.columns.get("order_id"));
        let email = find("email", self.columns.get("email"));
        let answered_at = find("answered_at", self.columns.get("answered_at"));
        let external_id = find("external_id", self.columns.get("external_id"));
        let display_name = find("display_name", self.columns.get("display_name"));
        let mut answers = Vec::new();
        for question in &self.survey.questionnaire.questions {
            if let Some(column) = find(&question.key, self.answers.get(&question.key)) {
                answers.push((question.clone(), column));
            }
        }
        if order_id.is_none() && email.is_none() && !self.required.iter().any(|column| column == "order_id") {
            search.add("neither \"order_id\" nor \"email\" is there".to_owned());
        }
        if answers.is_empty() {
            search.add(format!("no column is a question of the survey {:?}", self.survey.key));
        }
        let known: Vec<&str> = RESPONSE_COLUMNS.iter().copied().chain(self.question_keys()).collect();
        search.finish(self.closed.then_some(&known))?;
        Ok(ResponseColumns {
            order_id,
            email,
            answered_at: answered_at.unwrap_or_default(),
            external_id,
            display_name,
            answers,
        })
    }
}

/// The formats the file may be in; with those that are out of the question and why.
struct Candidates {
    formats: Vec<ResponseFormat>,
    excluded: Vec<(String, String)>,
    /// Whether `auto` has to choose.
    open: bool,
}

fn candidates(asked: Asked<'_>, shop: &str, options: &ImportOptions) -> Result<Candidates, ImportError> {
    let Asked { formats, surveys, survey } = asked;
    let of_shop = || surveys.iter().filter(|survey| survey.is_for(shop));
    let named = match survey {
        None => None,
        Some(key) => Some(of_shop().find(|survey| survey.key == key).ok_or_else(|| {
            let hint = did_you_mean(key, of_shop().map(|survey| survey.key.as_str()));
            let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            ImportError::Unusable(format!("the shop {shop:?} has no survey {key:?}{hint}"))
        })?),
    };
    let mut candidates =
        Candidates { formats: Vec::new(), excluded: Vec::new(), open: options.format == "auto" };
    // Where none is named, the questions that the file answers tell the survey.
    let possible = of_shop().filter(|survey| named.is_none_or(|named| named.key == survey.key));
    candidates.formats.extend(possible.map(ResponseFormat::generic));
    for (name, mapping) in formats {
        let survey = of_shop().find(|survey| survey.key == mapping.survey);
        match survey {
            Some(survey) if named.is_none_or(|named| named.key == survey.key) => {
                candidates.formats.push(ResponseFormat::mapped(name, mapping, survey));
            }
            _ => candidates.excluded.push((
                name.clone(),
                format!("it is for the survey {:?}, which is not asked for", mapping.survey),
            )),
        }
    }
    if candidates.open && options.columns.is_empty() {
        return Ok(candidates);
    }

    // Columns given by hand describe the file: where no format is named, they complete the built-in one.
    let name = if candidates.open { "generic" } else { options.format.as_str() };
    candidates.open = false;
    if let Some((_, why)) = candidates.excluded.iter().find(|(excluded, _)| excluded == name) {
        return Err(ImportError::Unusable(format!("the format {name:?} cannot be used: {why}")));
    }
    let names: Vec<String> = candidates.formats.iter().map(|format| format.name.clone()).collect();
    candidates.formats.retain(|format| format.name == name);
    if candidates.formats.is_empty() {
        return Err(unknown_format(name, names.into_iter()));
    }
    let is_one = candidates.formats.len() == 1;
    let formats = candidates.formats.into_iter().map(|format| format.with_columns(&options.columns));
    // A question that is named tells the survey, too.
    candidates.formats =
        if is_one { formats.collect::<Result<_, _>>()? } else { formats.flatten().collect() };
    if candidates.formats.is_empty() {
        let columns = options.columns.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(ImportError::Unusable(format!(
            "no survey of the shop has all of the questions {columns}"
        )));
    }
    // What does not fit one survey may fit another.
    candidates.open = !is_one;
    Ok(candidates)
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
) -> Result<Settled, ImportError> {
    let mut source = Source::open(path)?;
    let mut fitting = Vec::new();
    let mut lacks = candidates.excluded;
    let mut seen = Vec::new();
    for format in candidates.formats {
        let text = options.laid_over(&format.text);
        let written = source.written(&text)?;
        let header = source.header(written)?;
        seen.clone_from(&header);
        match format.bind(&header) {
            Ok(columns) => fitting.push((format, text, written, header, columns)),
            Err(problem) if candidates.open => {
                let name = if format.name == "generic" {
                    format!("generic, of the survey {}", format.survey.key)
                } else {
                    format.name
                };
                lacks.push((name, problem));
            }
            Err(problem) => {
                let name = format.name;
                return Err(ImportError::Unusable(format!("does not fit the format {name}: {problem}")));
            }
        }
    }
    // Our own columns go before those that jobs.toml describes.
    if fitting.iter().any(|fit| fit.0.name == "generic") {
        fitting.retain(|fit| fit.0.name == "generic");
        if fitting.len() > 1 {
            let surveys: Vec<&str> = fitting.iter().map(|fit| fit.0.survey.key.as_str()).collect();
            return Err(ImportError::Unusable(format!(
                "could be answers to several surveys ({}); name one with --survey",
                surveys.join(", ")
            )));
        }
    }
    let (format, text, written, header, columns) = one_of(fitting, |fit| &fit.0.name, lacks, &seen)?;
    let zone = text.timezone.unwrap_or(shops_zone);
    let times = Times::new(zone, text.date_format.as_deref())
        .map_err(|reason| ImportError::Unusable(format!("has a format whose date_format {reason}")))?;
    let definition = format!(
        "responses {} {:?} {:?} {:?} {text:?} {written:?} {zone}",
        format.survey.key, format.survey.questionnaire, format.columns, format.answers
    );
    let digest = source.digest(&definition);
    Ok(Settled { source, format, written, header, reader: ResponseReader { columns, times }, digest })
}

/// Where in a row the columns are, counted from 0.
#[derive(Debug)]
struct ResponseColumns {
    order_id: Option<usize>,
    email: Option<usize>,
    answered_at: usize,
    external_id: Option<usize>,
    display_name: Option<usize>,
    answers: Vec<(Question, usize)>,
}

struct ResponseReader {
    columns: ResponseColumns,
    times: Times,
}

/// An answered questionnaire as a file has it.
struct NewResponse<'r> {
    order: Option<&'r str>,
    email: Option<EmailAddress>,
    answered_at: DateTime<Utc>,
    external_id: Option<&'r str>,
    display_name: Option<Cow<'r, str>>,
    consent_version: Option<&'r str>,
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
        let mut consent_version = None;
        for (question, column) in &columns.answers {
            let Some(value) =
                answer(&question.kind, text(record, *column)).map_err(|reason| Fault::at(*column, reason))?
            else {
                continue;
            };
            match &question.kind {
                QuestionKind::Consent { version } => {
                    if value == "yes" {
                        consent_version = Some(version.as_str());
                    }
                }
                _ => {
                    answers.insert(question.key.clone(), value);
                }
            }
        }
        if answers.is_empty() {
            return Err(Fault::row("answers no question"));
        }
        Ok(NewResponse {
            order,
            email,
            answered_at: on(columns.answered_at, record, |text| self.times.parse(text))?,
            external_id: given(columns.external_id, record, row::external_id)?,
            display_name: columns.display_name.and_then(|column| row::name(text(record, column))),
            consent_version,
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
            "yes" | "oui" | "true" | "1" => Ok(Value::from("yes")),
            "no" | "non" | "false" | "0" => Ok(Value::from("no")),
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

const STAGE: &str = r#"copy staged_response (
    line, "row", order_external_id, email_key, answered_at, external_id, display_name, consent_version, answers
) from stdin (format binary)"#;

fn stage_row(line: u64, row: &str, response: &NewResponse<'_>, rows: &mut CopyBuffer) {
    rows.row(9);
    rows.bigint(i64::try_from(line).unwrap_or(i64::MAX));
    rows.text(row);
    rows.text_or_null(response.order);
    rows.text_or_null(response.email.as_ref().map(EmailAddress::key).as_deref());
    rows.time(response.answered_at);
    rows.text_or_null(response.external_id);
    rows.text_or_null(response.display_name.as_deref());
    rows.text_or_null(response.consent_version);
    rows.json(&response.answers);
}

/// Finds the order of each staged row; a row without one becomes a reject.
async fn match_orders(
    connection: &mut PgConnection,
    shop: ShopId,
    [order_id, email]: [Option<usize>; 2],
    rejects: &mut Rejects,
) -> Result<(), ImportError> {
    sqlx::raw_sql("analyze staged_response").execute(&mut *connection).await?;
    for statement in [
        include_str!("import/match_order_id.sql"),
        include_str!("import/match_address.sql"),
        include_str!("import/match_erased.sql"),
    ] {
        sqlx::query(statement).persistent(false).bind(shop).execute(&mut *connection).await?;
    }
    let mut unmatched = sqlx::query(
        r#"select line, "row", order_external_id is not null from staged_response where order_id is null order by line"#,
    )
    .persistent(false)
    .fetch(&mut *connection);
    while let Some(row) = unmatched.try_next().await? {
        let (line, text): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
        let fault = if row.try_get(2)? {
            Fault { column: order_id, reason: "is no order of this shop".into() }
        } else {
            Fault { column: email, reason: "is of no customer who had ordered by then".into() }
        };
        rejects.add_row(u64::try_from(line).unwrap_or_default(), &fault, &text)?;
    }
    drop(unmatched);
    // Those of erased customers go with them; nobody is told about these.
    sqlx::query("delete from staged_response where order_id is null or erased")
        .persistent(false)
        .execute(connection)
        .await?;
    Ok(())
}

struct Merge<'a> {
    shop: ShopId,
    survey: &'a Survey,
    version: SurveyVersionId,
    locale: &'a str,
    now: DateTime<Utc>,
}

impl Merge<'_> {
    /// Stores what is new and lets the latest answer of each order count. Returns how many are new.
    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<u64> {
        // The page takes this lock before it stores an answer.
        sqlx::query(include_str!("import/lock_invitations.sql"))
            .persistent(false)
            .bind(self.shop)
            .bind(&self.survey.key)
            .execute(&mut *connection)
            .await?;
        for statement in [include_str!("import/drop_stored.sql"), include_str!("import/number_revisions.sql")]
        {
            sqlx::query(statement)
                .persistent(false)
                .bind(self.shop)
                .bind(&self.survey.key)
                .execute(&mut *connection)
                .await?;
        }
        let n_inserted = sqlx::query(include_str!("import/insert_responses.sql"))
            .persistent(false)
            .bind(self.shop)
            .bind(&self.survey.key)
            .bind(self.version)
            .bind(self.locale)
            .bind(self.now)
            .execute(&mut *connection)
            .await?
            .rows_affected();
        let questions = &self.survey.questionnaire.questions;
        let texts: Vec<&str> = questions
            .iter()
            .filter(|question| matches!(question.kind, QuestionKind::Text { .. }))
            .map(|question| question.key.as_str())
            .collect();
        sqlx::query(include_str!("import/insert_answers.sql"))
            .persistent(false)
            .bind(self.shop)
            .bind(&self.survey.key)
            .bind(texts)
            .execute(&mut *connection)
            .await?;
        // The index allows one counted answer at any moment: the old one steps down before the new one steps up.
        for statement in [
            include_str!("import/uncount.sql"),
            include_str!("import/count.sql"),
            include_str!("import/insert_testimonials.sql"),
        ] {
            sqlx::query(statement)
                .persistent(false)
                .bind(self.shop)
                .bind(&self.survey.key)
                .execute(&mut *connection)
                .await?;
        }
        Ok(n_inserted)
    }
}
