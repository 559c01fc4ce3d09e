//! `[order_format.<name>]`, `[response_format.<name>]` and `[rating_format.<name>]`.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;

use super::words::{check_key, known, parsed, settle, text, timezone};
use crate::config::problem::Problems;
use crate::config::raw::{self, Word};
use crate::config::{OrderMapping, RatingMapping, ResponseMapping, TextFormat};
use crate::nearest::did_you_mean;
use crate::orders::format::{ORDER_COLUMNS, ORDER_FORMATS, REQUIRED_ORDER_COLUMNS};
use crate::responses::import::format::{MAPPED_RESPONSE_COLUMNS, RESPONSE_COLUMNS, RESPONSE_FORMATS};
use crate::responses::ratings::{Decimal, RATING_COLUMNS, REQUIRED_RATING_COLUMNS};
use crate::survey::Survey;

pub(super) fn order_format(
    name: &str,
    format: &Spanned<raw::OrderFormat>,
    problems: &mut Problems<'_>,
) -> Option<OrderMapping> {
    let span = format.span();
    let format = format.get_ref();
    check_format_name(name, span, ORDER_FORMATS.iter().map(|format| format.key), problems);
    let text_format =
        text_format([&format.delimiter, &format.encoding, &format.timezone, &format.date_format], problems);
    let columns = columns(&format.columns, ORDER_COLUMNS, REQUIRED_ORDER_COLUMNS, problems);
    for (attribute, word) in &format.attributes {
        check_key("attribute", attribute, word.span(), problems);
    }
    Some(OrderMapping {
        text: text_format?,
        columns: columns?,
        attributes: plain(&format.attributes),
        status: format.status.clone(),
    })
}

pub(super) fn response_format(
    name: &str,
    format: &Spanned<raw::ResponseFormat>,
    surveys: &[Survey],
    problems: &mut Problems<'_>,
) -> Option<ResponseMapping> {
    let span = format.span();
    let format = format.get_ref();
    check_format_name(name, span, RESPONSE_FORMATS.iter().map(|format| format.key), problems);
    let text_format =
        text_format([&format.delimiter, &format.encoding, &format.timezone, &format.date_format], problems);
    let columns = columns(&format.columns, RESPONSE_COLUMNS, MAPPED_RESPONSE_COLUMNS, problems);
    let typed = format.columns.get_ref();
    if !typed.contains_key("order_id") && !typed.contains_key("email") {
        problems.add(
            format.columns.span(),
            "nothing says which order an answer is about: neither `order_id` nor `email` has a column"
                .to_owned(),
            Some("add order_id = \"<their column>\", or email = … to match by address and date".to_owned()),
        );
    }
    known("survey", &format.survey, surveys.iter().map(|survey| survey.key.as_str()), problems)?;
    let survey = surveys.iter().find(|survey| survey.key == text(&format.survey))?;
    for (question, word) in &format.answers {
        if survey.questionnaire.question(question).is_none() {
            let keys = survey.questionnaire.questions.iter().map(|question| question.key.as_str());
            problems.add(
                word.span(),
                format!("the survey {:?} has no question {question:?}", survey.key),
                did_you_mean(question, keys),
            );
        }
    }
    Some(ResponseMapping {
        text: text_format?,
        survey: survey.key.clone(),
        columns: columns?,
        answers: plain(&format.answers),
    })
}

pub(super) fn rating_format(
    name: &str,
    format: &Spanned<raw::RatingFormat>,
    problems: &mut Problems<'_>,
) -> Option<RatingMapping> {
    let span = format.span();
    let format = format.get_ref();
    check_format_name(name, span.clone(), ["generic"].into_iter(), problems);
    let text_format =
        text_format([&format.delimiter, &format.encoding, &format.timezone, &format.date_format], problems);
    let columns = columns(&format.columns, RATING_COLUMNS, REQUIRED_RATING_COLUMNS, problems);
    if format.source.is_none() && !format.columns.get_ref().contains_key("source") {
        problems.add(
            span,
            "nothing says whose scores these are: there is neither `source` nor a column for it".to_owned(),
            Some("add source = \"<name>\"".to_owned()),
        );
    }
    let scale = format.scale.as_ref().map(|typed| match Decimal::parse_scale(&typed.get_ref().to_string()) {
        Ok(scale) => Some(scale),
        Err(reason) => {
            problems.add(typed.span(), format!("`scale` {reason}"), None);
            None
        }
    });
    Some(RatingMapping {
        text: text_format?,
        columns: columns?,
        source: format.source.as_ref().map(|source| text(source).trim().to_owned()),
        scale: settle(scale)?,
    })
}

fn check_format_name<'k>(
    name: &str,
    span: Range<usize>,
    mut built_in: impl Iterator<Item = &'k str>,
    problems: &mut Problems<'_>,
) {
    check_key("format", name, span.clone(), problems);
    if name == "auto" || built_in.any(|key| key == name) {
        problems.add(
            span,
            format!("{name:?} is the name of a built-in format"),
            Some("choose another name".to_owned()),
        );
    }
}

fn plain(words: &BTreeMap<String, Word>) -> BTreeMap<String, String> {
    words.iter().map(|(key, word)| (key.clone(), text(word).to_owned())).collect()
}

fn columns(
    columns: &Spanned<BTreeMap<String, Word>>,
    possible: &[&str],
    required: &[&str],
    problems: &mut Problems<'_>,
) -> Option<BTreeMap<String, String>> {
    let mut complete = true;
    for (column, word) in columns.get_ref() {
        if !possible.contains(&column.as_str()) {
            let help = did_you_mean(column, possible.iter().copied())
                .or_else(|| Some(format!("the columns are {}", possible.join(", "))));
            problems.add(word.span(), format!("there is no column {column:?} to fill"), help);
            complete = false;
        }
    }
    for column in required {
        if !columns.get_ref().contains_key(*column) {
            problems.add(
                columns.span(),
                format!("the column for `{column}` is missing"),
                Some(format!("add {column} = \"<their column>\"")),
            );
            complete = false;
        }
    }
    complete.then(|| plain(columns.get_ref()))
}

fn text_format(
    [delimiter, encoding, zone, date_format]: [&Option<Word>; 4],
    problems: &mut Problems<'_>,
) -> Option<TextFormat> {
    let delimiter = delimiter.as_ref().map(|word| parsed(word, problems, TextFormat::parse_delimiter));
    let encoding = encoding.as_ref().map(|word| parsed(word, problems, TextFormat::parse_encoding));
    let zone = zone.as_ref().map(|word| timezone(word, problems));
    let date_format = date_format.as_ref().map(|word| parsed(word, problems, TextFormat::parse_date_format));
    // A value that was given and was wrong has been noted; the format is then not usable.
    Some(TextFormat {
        delimiter: settle(delimiter)?,
        encoding: settle(encoding)?,
        timezone: settle(zone)?,
        date_format: settle(date_format)?,
    })
}
