//! What an alert says in a language: the numbers put into the words of `words.<locale>.toml`. Pure.

use chrono::{NaiveDate, NaiveTime};
use chrono_tz::Tz;

use super::Found;
use super::rule::{Scale, Sign, Toward, What};
use crate::mail::templates::words::{Words, fill};

/// The name of what it is about: the metric, with its source or segment.
pub fn name(words: &Words, found: &Found) -> String {
    let alert = &words.alert;
    let metric = alert.metrics.get(&found.metric).unwrap_or(&found.metric);
    let metric = match &found.source {
        Some(source) => filled(&alert.of_source, &[("metric", metric), ("source", source)]),
        None => metric.clone(),
    };
    let Some(segment) = &found.segment else { return metric };
    let value = if found.segment_value.is_empty() { &alert.unsaid } else { &found.segment_value };
    let segment = alert.segments.get(segment).map_or(segment.as_str(), String::as_str);
    filled(&alert.of_segment, &[("metric", &metric), ("segment", segment), ("value", value)])
}

/// In a few words, for the subject of a mail.
pub fn title(words: &Words, found: &Found) -> String {
    let alert = &words.alert;
    let (wording, limit) = match &found.what {
        What::Limit { side, limit, .. } | What::Score { side, limit, .. } => match side {
            Toward::Below => (&alert.title_below, *limit),
            Toward::Above => (&alert.title_above, *limit),
        },
        What::Trend { direction: Toward::Below, .. } => (&alert.title_falling, 0.0),
        What::Trend { direction: Toward::Above, .. } => (&alert.title_rising, 0.0),
        What::Shift { .. } => (&alert.title_shift, 0.0),
    };
    let limit = limit_text(words, found, limit);
    filled(wording, &[("metric", &name(words, found)), ("limit", &limit)])
}

/// What was found, since when, and how sure it is.
pub fn sentence(words: &Words, found: &Found) -> String {
    let alert = &words.alert;
    let wording = match &found.what {
        What::Limit { side: Toward::Below, .. } => &alert.below,
        What::Limit { side: Toward::Above, .. } => &alert.above,
        What::Score { before: None, .. } => &alert.score_once,
        What::Score { side: Toward::Below, .. } => &alert.score_below,
        What::Score { side: Toward::Above, .. } => &alert.score_above,
        What::Trend { direction: Toward::Below, .. } if found.source.is_some() => &alert.score_falling,
        What::Trend { direction: Toward::Above, .. } if found.source.is_some() => &alert.score_rising,
        What::Trend { direction: Toward::Below, .. } => &alert.falling,
        What::Trend { direction: Toward::Above, .. } => &alert.rising,
        What::Shift { .. } => &alert.unordinary,
    };
    let sentence = put_in(words, found, wording);
    let why = match &found.what {
        What::Shift { signal: Some(Sign::Beyond), .. } => &alert.by_week,
        What::Shift { signal: Some(Sign::Drift), .. } => &alert.by_drift,
        What::Shift { signal: Some(Sign::Run), .. } => &alert.by_run,
        _ => return sentence,
    };
    format!("{sentence} {why}")
}

/// What is there again.
pub fn back(words: &Words, found: &Found) -> String {
    let alert = &words.alert;
    let wording = match &found.what {
        What::Limit { .. } => &alert.back_limit,
        What::Score { .. } => &alert.back_score,
        What::Trend { .. } => &alert.back_trend,
        What::Shift { .. } => &alert.back_shift,
    };
    put_in(words, found, wording)
}

/// What it is not.
pub fn caution(words: &Words, found: &Found) -> String {
    let alert = &words.alert;
    match &found.what {
        What::Limit { .. } => {
            let not = put_in(words, found, &alert.not_limit);
            if found.segment.is_some() { format!("{not} {}", alert.not_segment) } else { not }
        }
        What::Score { .. } => alert.not_score.clone(),
        What::Trend { .. } if found.source.is_some() => alert.not_score_trend.clone(),
        What::Trend { .. } => alert.not_trend.clone(),
        What::Shift { .. } => alert.not_shift.clone(),
    }
}

fn put_in(words: &Words, found: &Found, wording: &str) -> String {
    let scale = Scale::of(&found.metric);
    let number = |value: f64| text(words, scale, value);
    let date = |day: NaiveDate| words.date(day.and_time(NaiveTime::MIN).and_utc(), Tz::UTC);
    let mut values: Vec<(&str, String)> =
        vec![("metric", name(words, found)), ("days", found.days.to_string())];
    let mut last_day = found.last_day;
    match &found.what {
        What::Limit { limit, value, ci_low, ci_high, numerator, denominator, .. } => {
            let n = |n: i64| words.number(usize::try_from(n).unwrap_or_default());
            let counted = match scale {
                Scale::Share => format!("{} / {}", n(*numerator), n(*denominator)),
                Scale::Points | Scale::Number => n(*denominator),
            };
            values.extend([
                ("value", number(*value)),
                ("low", number(*ci_low)),
                ("high", number(*ci_high)),
                ("limit", limit_text(words, found, *limit)),
                ("counted", counted),
            ]);
        }
        What::Score { limit, value, rated_on, before, .. } => {
            last_day = *rated_on;
            values.extend([("value", number(*value)), ("limit", limit_text(words, found, *limit))]);
            values.extend(before.map(|before| ("before", date(before))));
        }
        What::Trend { direction, per_week, ci_low, ci_high, weeks, value, .. } => {
            // Said as what it falls or rises by, the smaller bound first.
            let sign = if *direction == Toward::Below { -1.0 } else { 1.0 };
            let (a, b) = (sign * ci_low, sign * ci_high);
            let by = |amount: f64| change_text(words, scale, amount);
            values.extend([
                ("per_week", by(sign * per_week)),
                ("low", by(a.min(b))),
                ("high", by(a.max(b))),
                ("weeks", weeks.to_string()),
                ("value", number(*value)),
            ]);
        }
        What::Shift { value, low, high, center, weeks, .. } => values.extend([
            ("value", number(*value)),
            ("low", number(low.max(scale.range().0))),
            ("high", number(*high)),
            ("center", number(*center)),
            ("weeks", weeks.to_string()),
        ]),
    }
    values.push(("last_day", date(last_day)));
    let values: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
    filled(wording, &values)
}

fn limit_text(words: &Words, found: &Found, limit: f64) -> String {
    decimal(words, &Scale::of(&found.metric).limit_text(limit))
}

/// A value.
fn text(words: &Words, scale: Scale, value: f64) -> String {
    // A rounded −0.0 is 0.
    let rounded = |value: f64| (10.0 * value).round() / 10.0 + 0.0;
    match scale {
        Scale::Share => format!("{} %", decimal(words, &format!("{:.1}", rounded(100.0 * value)))),
        Scale::Points => decimal(words, &format!("{:.1}", rounded(value))),
        Scale::Number => {
            let n = words.number(value.abs().round() as usize);
            if value < -0.5 { format!("−{n}") } else { n }
        }
    }
}

/// By how much a value changes, which is less than a value.
fn change_text(words: &Words, scale: Scale, value: f64) -> String {
    let rounded = |value: f64| (100.0 * value).round() / 100.0 + 0.0;
    match scale {
        Scale::Share => {
            let n = decimal(words, &format!("{:.2}", rounded(100.0 * value)));
            filled(&words.alert.points, &[("n", &n)])
        }
        Scale::Points | Scale::Number => decimal(words, &format!("{:.2}", rounded(value))),
    }
}

fn decimal(words: &Words, number: &str) -> String {
    number.replace('-', "−").replace('.', &words.alert.decimal)
}

/// A name that has no value here stays as it is written: the tests see to it that none is left.
fn filled(wording: &str, values: &[(&str, &str)]) -> String {
    fill(wording, values).unwrap_or_else(|_| wording.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::rule::Subject;
    use super::*;
    use crate::mail::templates::Templates;
    use crate::types::Locale;

    fn each(what: What) -> Found {
        Found {
            metric: "recommendation_rate".to_owned(),
            source: None,
            segment: None,
            segment_value: String::new(),
            days: 28,
            last_day: "2026-03-01".parse().unwrap(),
            what,
        }
    }

    fn all() -> Vec<Found> {
        let limit = |side| What::Limit {
            side,
            limit: 0.8,
            value: 0.71,
            ci_low: 0.656,
            ci_high: 0.759,
            numerator: 2130,
            denominator: 3000,
        };
        let day = |text: &str| text.parse().unwrap();
        let score = |side, before| What::Score {
            side,
            limit: 0.955,
            value: 0.94,
            rated_on: day("2026-02-27"),
            before,
        };
        let trend = |direction, sign: f64| What::Trend {
            direction,
            per_week: sign * 0.003,
            ci_low: sign * 0.003 - 0.001,
            ci_high: sign * 0.003 + 0.001,
            p: 0.002,
            weeks: 25,
            value: 0.84,
        };
        let shift = |signal| What::Shift {
            signal,
            side: Toward::Below,
            value: 0.8,
            low: 0.85,
            high: 0.95,
            center: 0.9,
            weeks: 39,
        };
        let mut all = vec![
            each(limit(Toward::Below)),
            each(limit(Toward::Above)),
            Found {
                segment: Some("country".to_owned()),
                segment_value: "BE".to_owned(),
                ..each(limit(Toward::Below))
            },
            Found { segment: Some("attributes.channel".to_owned()), ..each(limit(Toward::Below)) },
        ];
        for what in [
            score(Toward::Below, Some(day("2026-02-20"))),
            score(Toward::Above, Some(day("2026-02-20"))),
            score(Toward::Below, None),
        ] {
            let metric = "third_party_score".to_owned();
            all.push(Found { metric, source: Some("fianet".to_owned()), ..each(what) });
        }
        all.extend([each(trend(Toward::Below, -1.0)), each(trend(Toward::Above, 1.0))]);
        all.extend([Some(Sign::Beyond), Some(Sign::Drift), Some(Sign::Run), None].map(|s| each(shift(s))));
        let orders = What::Shift {
            signal: Some(Sign::Beyond),
            side: Toward::Below,
            value: 12.0,
            low: -3.0,
            high: 1540.4,
            center: 900.0,
            weeks: 39,
        };
        all.push(Found { metric: "orders".to_owned(), ..each(orders) });
        all
    }

    #[test]
    fn in_every_language() {
        let templates = Templates::load(None).unwrap();
        for locale in ["en", "fr"] {
            let (_, words) =
                templates.language(Some(&Locale::parse(locale).unwrap()), &Locale::parse("en").unwrap());
            for key in Subject::keys() {
                assert!(words.alert.metrics.contains_key(key), "words.{locale}.toml has no name for {key}");
            }
            let said: Vec<String> = all()
                .iter()
                .flat_map(|found| {
                    [title(words, found), sentence(words, found), back(words, found), caution(words, found)]
                })
                .collect();
            for said in &said {
                assert!(!said.contains('{') && !said.contains("  "), "{said}");
            }
            insta::assert_snapshot!(format!("words_{locale}"), said.join("\n"));
        }
    }
}
