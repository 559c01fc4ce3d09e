//! `GET /exports`: where a person picks shop, format and period, sees the first rows, and downloads. It works without JavaScript and
//! writes nothing: the first rows are those of the beginning of an export that is then forgotten.

use std::io::{self, Write};
use std::sync::LazyLock;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};

use super::exports::Asked;
use super::page::Page;
use super::{House, Refusal, Visitor, seat, to_its_end};
use crate::config::{Right, Shop};
use crate::context::Context;
use crate::mail::templates::words::fill;
use crate::metrics::window::Bound;
use crate::testimonials::export::{EXPORT_FORMATS, Export, preview_export};
use crate::types::ShopId;

const TEMPLATE: &str = include_str!("../../../templates/exports/page.hbs");
const WORDS: [&str; 2] = [
    include_str!("../../../templates/exports/words.en.toml"),
    include_str!("../../../templates/exports/words.fr.toml"),
];

/// So many rows are shown.
const ROWS: usize = 8;
/// So much of the file is kept for them, in bytes.
const KEPT: usize = 64 * 1024;
/// A field that is longer, in characters, is shown on several lines.
const LONG: usize = 40;

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Words {
    title: String,
    wrong: String,
    intro: String,
    shop: String,
    all_shops: String,
    format: String,
    format_wrong: String,
    format_whole: String,
    since: String,
    since_how: String,
    since_wrong: String,
    show: String,
    download: String,
    rows: String,
    rows_all: String,
    rows_some: String,
    rows_none: String,
    notices: String,
    notices_how: String,
    notice_fr: String,
    notice_en: String,
    programs: String,
    programs_how: String,
    more: String,
    report: String,
    figures: String,
    languages: String,
}

static PAGE: LazyLock<Page<Words>> = LazyLock::new(|| Page::compiled(TEMPLATE, WORDS));

/// What the page shows.
#[derive(Debug, Serialize)]
struct View {
    shops: Vec<Choice>,
    formats: Vec<Choice>,
    since: String,
    /// A moment, which programs send, is no day.
    since_type: &'static str,
    is_wrong: bool,
    /// Whether it is the day that is wrong.
    is_wrong_day: bool,
    /// What is wrong with the format.
    problem: Option<String>,
    preview: Option<Preview>,
    /// For programs.
    address: String,
    /// What was picked, for the addresses of the notices.
    query: String,
    may_report: bool,
}

#[derive(Debug, Serialize)]
struct Choice {
    value: String,
    label: String,
    is_chosen: bool,
}

/// The first rows of a file: as a table, where it is one; else its first lines.
#[derive(Debug, Default, Serialize)]
struct Preview {
    told: String,
    columns: Vec<String>,
    rows: Vec<Vec<Field>>,
    lines: String,
}

#[derive(Debug, Serialize)]
struct Field {
    /// On a phone it stands before each field.
    column: String,
    text: String,
    is_long: bool,
}

pub(super) async fn show(
    State(house): State<House>,
    visitor: Visitor,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Refusal> {
    let asked = Asked::of(&uri)?;
    let seat = seat(&house.exports)?;
    to_its_end(async move {
        let _seat = seat;
        page(&house.context, &visitor, &asked, &headers).await
    })
    .await
}

async fn page(
    context: &Context,
    visitor: &Visitor,
    asked: &Asked,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let all = visitor.shops(context, None)?;
    let chosen = visitor.shops(context, asked.shop.as_deref())?;
    let (rules, surveys) = (&context.config.testimonials, &context.config.surveys);
    let shops_own = all.iter().map(|(_, shop)| shop.locale.clone());
    let language = PAGE.language(asked.locale.as_deref(), headers, shops_own);
    let words = &language.words;
    let since = asked.since(&chosen);
    let is_wrong_day = since.is_err();
    let can_be_written = |format| Export::new(&chosen, format, rules, surveys).check().is_ok();
    let (format, problem) = match asked.format().ok().filter(|format| can_be_written(format)) {
        Some(format) => (format, None),
        None => (&EXPORT_FORMATS[0], Some(said_of(&words.format_wrong, asked.format_name()))),
    };
    // The page comes in one of its languages whatever was asked for.
    let locale = asked.locale().unwrap_or_default();
    let since = since.unwrap_or_default();
    let export = Export { since, locale: locale.as_ref(), ..Export::new(&chosen, format, rules, surveys) };
    let is_part = problem.is_none() && export.check().is_err();
    let problem = problem.or_else(|| is_part.then(|| said_of(&words.format_whole, format.name)));
    let is_wrong = is_wrong_day || problem.is_some();
    let preview = if is_wrong { None } else { Some(preview(context, export, words).await?) };
    let of_one = |(_, shop): &(ShopId, &Shop)| Choice {
        value: shop.key.clone(),
        label: shop.name.clone(),
        is_chosen: asked.shop.as_ref() == Some(&shop.key),
    };
    let of_all =
        Choice { value: String::new(), label: words.all_shops.clone(), is_chosen: asked.shop.is_none() };
    let typed = asked.since.as_deref().filter(|_| !is_wrong_day).unwrap_or_default();
    let query = [("shop", asked.shop.as_deref()), ("format", Some(format.name)), ("since", Some(typed))];
    let query =
        query.into_iter().filter_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?)));
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    let view = View {
        // Of one shop there is nothing to choose.
        shops: std::iter::once(of_all).filter(|_| all.len() > 1).chain(all.iter().map(of_one)).collect(),
        // What cannot be written for these shops is no choice.
        formats: EXPORT_FORMATS
            .iter()
            .filter(|one| can_be_written(one))
            .map(|one| Choice {
                value: one.name.to_owned(),
                label: one.name.to_owned(),
                is_chosen: one.name == format.name,
            })
            .collect(),
        since: typed.to_owned(),
        since_type: if matches!(typed.parse(), Ok(Bound::Moment(_))) { "text" } else { "date" },
        is_wrong,
        is_wrong_day,
        problem,
        preview,
        address: format!("/exports/testimonials.csv?{query}"),
        query,
        may_report: all.iter().any(|(_, shop)| visitor.access.may(Right::Report, &shop.key)),
    };
    let status = if is_wrong { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    Ok((status, PAGE.fill(language, view)?).into_response())
}

/// A sentence about a format.
fn said_of(wording: &str, format: &str) -> String {
    fill(wording, &[("format", format)]).unwrap_or_default()
}

/// The first rows of an export, which then never was.
async fn preview(context: &Context, export: Export<'_>, words: &Words) -> Result<Preview, Refusal> {
    let mut first = First::default();
    let now = context.clock.now();
    let n_rows = preview_export(&context.pool, export, &mut first, now).await.map_err(Refusal::of)?;
    let mut preview = first_rows(&String::from_utf8_lossy(&first.bytes), first.is_full);
    preview.told = match n_rows {
        Some(0) => words.rows_none.clone(),
        Some(n) => fill(&words.rows_all, &[("n", &n.to_string())]).unwrap_or_default(),
        None => words.rows_some.clone(),
    };
    Ok(preview)
}

/// Takes the beginning of a file, and lets go of the rest.
#[derive(Debug, Default)]
struct First {
    bytes: Vec<u8>,
    is_full: bool,
}

impl Write for First {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = KEPT.saturating_sub(self.bytes.len());
        self.is_full |= bytes.len() > room;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The first rows of a text, which may end in the middle of one.
fn first_rows(text: &str, is_cut: bool) -> Preview {
    let text = text.trim_start_matches('\u{feff}');
    if text.starts_with(['<', '{', '[']) {
        let lines: Vec<_> = text.lines().take(5 * ROWS).collect();
        return Preview { lines: lines.join("\n"), ..Preview::default() };
    }
    let head = text.lines().next().unwrap_or_default();
    let delimiter =
        b",;\t".iter().max_by_key(|delimiter| head.bytes().filter(|byte| byte == *delimiter).count());
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter.copied().unwrap_or(b','))
        .from_reader(text.as_bytes());
    let mut records: Vec<csv::StringRecord> =
        reader.records().take(ROWS + 2).filter_map(Result::ok).collect();
    if is_cut && records.len() < ROWS + 2 {
        records.pop();
    }
    let mut records = records.into_iter();
    let columns: Vec<String> =
        records.next().map(|record| record.iter().map(str::to_owned).collect()).unwrap_or_default();
    let field = |(column, text): (&String, &str)| Field {
        column: column.clone(),
        text: text.to_owned(),
        is_long: text.chars().count() > LONG,
    };
    let rows = records.take(ROWS).map(|record| columns.iter().zip(&record).map(field).collect()).collect();
    Preview { columns, rows, ..Preview::default() }
}

#[cfg(test)]
mod tests {
    use super::super::page::assert_template;
    use super::*;

    #[test]
    fn every_language_has_every_word() {
        assert_eq!(PAGE.words().map(|(language, _)| language).collect::<Vec<_>>(), ["en", "fr"]);
        for (_, words) in PAGE.words() {
            assert!(fill(&words.rows_all, &[("n", "7")]).unwrap().ends_with('7'));
            for wording in [&words.format_wrong, &words.format_whole] {
                assert!(said_of(wording, "feefo").contains("feefo"));
            }
        }
        assert_template(TEMPLATE);
    }

    #[test]
    fn a_file_that_is_cut_shows_whole_rows() {
        let texts = |preview: &Preview| -> Vec<Vec<String>> {
            preview.rows.iter().map(|row| row.iter().map(|field| field.text.clone()).collect()).collect()
        };
        let cut = first_rows("a,b\r\n1,\"x\ny\"\r\n2,\"half", true);
        assert_eq!(
            (cut.columns.clone(), texts(&cut)),
            (vec!["a".to_owned(), "b".to_owned()], vec![vec!["1".to_owned(), "x\ny".to_owned()]])
        );
        let whole = first_rows("\u{feff}a;b\n1;2,5\n", false);
        assert_eq!((whole.columns.len(), texts(&whole)), (2, vec![vec!["1".to_owned(), "2,5".to_owned()]]));
        let many = first_rows(&format!("a\n{}", "1\n".repeat(100)), true);
        assert_eq!(many.rows.len(), ROWS);
        assert!(first_rows("a,b\n", false).rows.is_empty());
        let xml = first_rows("<?xml version=\"1.0\"?>\n<feed>", true);
        assert!(xml.rows.is_empty() && xml.lines.ends_with("<feed>"));
    }
}
