//! A report as one HTML page that stands by itself: no script, no file beside it, and it prints well.

use anyhow::Context as _;
use chrono::{DateTime, NaiveTime, Utc};
use handlebars::Handlebars;
use serde::Serialize;

use super::figure::Figure;
use super::{Report, ShopReport};

const PAGE: &str = include_str!("../../templates/report/report.html.hbs");

/// Length of the scale in the drawing, in its own units.
const SCALE: f64 = 200.0;

/// The page.
///
/// # Errors
/// When the template and the report do not fit; a test renders every case there is.
pub fn render(report: &Report) -> anyhow::Result<String> {
    let mut templates = Handlebars::new();
    templates.set_strict_mode(true);
    templates.register_template_string("report", PAGE).context("reading the template of the report")?;
    templates.render("report", &Page::of(report)).context("writing the report as HTML")
}

#[derive(Serialize)]
struct Page {
    title: String,
    as_of: String,
    shops: Vec<Shop>,
}

#[derive(Serialize)]
struct Shop {
    name: String,
    window: String,
    rows: Vec<Row>,
    outbox: String,
    /// Whether somebody has to do something about the outbox.
    has_unknown: bool,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    value: String,
    interval: String,
    counted: String,
    /// Absent where no suspect submission matters.
    with_suspects: Option<String>,
    verdict: String,
    definition: String,
    /// Absent where there is nothing to draw.
    bar: Option<Bar>,
}

/// The interval and the value on the scale, in units of the drawing.
#[derive(Serialize)]
struct Bar {
    scale: f64,
    x: f64,
    width: f64,
    value: f64,
    middle: f64,
}

impl Page {
    fn of(report: &Report) -> Self {
        let names: Vec<_> = report.shops.iter().map(|shop| shop.name.as_str()).collect();
        Self {
            title: format!("What customers say: {}", names.join(", ")),
            as_of: day_and_minute(report.as_of),
            shops: report.shops.iter().map(Shop::of).collect(),
        }
    }
}

impl Shop {
    fn of(shop: &ShopReport) -> Self {
        let rows = shop.metrics.iter().map(|(metric, figure)| Row {
            name: metric.name,
            value: figure.value_text(),
            interval: figure.interval_text(),
            counted: figure.counted_text(),
            with_suspects: figure.with_suspects_text(),
            verdict: figure.verdict.clone(),
            definition: figure.definition.clone(),
            bar: Bar::of(figure),
        });
        Self {
            name: shop.name.clone(),
            window: in_words(shop),
            rows: rows.collect(),
            outbox: shop.outbox_in_words(),
            has_unknown: shop.outbox.unknown > 0,
        }
    }
}

impl Bar {
    fn of(figure: &Figure) -> Option<Self> {
        let (bottom, top) = figure.unit.range();
        let at = |value: f64| (10.0 * SCALE * (value - bottom) / (top - bottom)).round() / 10.0;
        let (value, low, high) = (at(figure.value?), at(figure.ci_low?), at(figure.ci_high?));
        // However sure we are, there is something to see.
        Some(Self { scale: SCALE, x: low, width: (high - low).max(1.0), value, middle: SCALE / 2.0 })
    }
}

/// The window of a shop, in words and in its zone.
pub fn in_words(shop: &ShopReport) -> String {
    let day = |moment: DateTime<Utc>| {
        let local = moment.with_timezone(&shop.timezone).naive_local();
        let form = if local.time() == NaiveTime::MIN { "%Y-%m-%d" } else { "%Y-%m-%d %H:%M:%S" };
        local.format(form).to_string()
    };
    match (shop.from.map(day), shop.to.map(day)) {
        (None, None) => "since the first order".to_owned(),
        (Some(from), None) => format!("from {from} on, {}", shop.timezone),
        (None, Some(to)) => format!("before {to}, {}", shop.timezone),
        (Some(from), Some(to)) => format!("from {from} to before {to}, {}", shop.timezone),
    }
}

fn day_and_minute(moment: DateTime<Utc>) -> String {
    moment.format("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::super::figure::Counts;
    use super::super::{Basis, Figures, METRICS};
    use super::*;
    use crate::invitations::outbox::Open;

    #[test]
    fn a_report_with_and_without_answers_becomes_a_page() {
        let figures = |n: i64| {
            let counts = |i: usize| match (METRICS[i].key, n) {
                ("nps", n) => Counts::Net { promoters: 30 * n, passives: 5 * n, detractors: 15 * n },
                (_, n) => Counts::Share { hits: 40 * n, total: 50 * n, unknown: None },
            };
            let suspects = Counts::Share { hits: 45 * n, total: 60 * n, unknown: None };
            let figure = |i: usize| {
                Figure::new(counts(i), METRICS[i].noun, METRICS[i].definition.to_owned())
                    .with_suspects((METRICS[i].key == "csat").then_some(suspects))
            };
            Figures((0..METRICS.len()).map(figure).collect())
        };
        let shop = |name: &str, n| ShopReport {
            shop: "shop".to_owned(),
            name: name.to_owned(),
            timezone: chrono_tz::Europe::Paris,
            from: "2026-03-28T23:00:00Z".parse().ok(),
            to: "2026-04-01T10:00:00Z".parse().ok(),
            basis: Basis::Computed,
            frozen_at: None,
            metrics: figures(n),
            outbox: Open { unknown: 3 * n, waiting: 12 },
            series: None,
            segments: None,
            loyalty: None,
            funnel: None,
        };
        let moment = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let shops = vec![shop("Maison <Exemple> & fils", 1), shop("Empty", 0)];
        let page = render(&Report { as_of: moment, from: None, to: None, shops }).unwrap();
        assert!(page.contains("Maison &lt;Exemple&gt; &amp; fils"));
        assert!(page.contains("from 2026-03-29 to before 2026-04-01 12:00:00, Europe/Paris"));
        assert!(
            page.contains("12 mails in the outbox. Of 3 mails nobody knows")
                && page.contains("--state unknown")
        );
        assert!(page.contains("12 mails in the outbox; of none"));
        assert_eq!(page.matches("75.0 % of 60 with suspects").count(), 1);
        assert!(page.contains("80.0 %") && page.contains("Nothing to say yet"));
        assert_eq!(page.matches("<svg").count(), METRICS.len(), "a bar for each figure that has a value");
        for foreign in ["<script", "http://", "https://", "{{"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }
}
