//! What stands where on the page: figures become sentences, tables and drawings. Here is the order of the sections and what they share;
//! each section is a file in `view/`.

mod headline;
mod changes;
mod course;
mod control;
mod volumes;
mod sources;
mod cohorts;
mod loyalty;
mod topics;
mod funnel;
mod definitions;

use serde::Serialize;

use self::course::Signals;
use self::definitions::Definition;
use self::headline::Headline;
use self::loyalty::{RepeatView, Stat};
use super::words::Words;
use super::{Contents, More, Reader, STYLE};
use crate::mail::templates::views::ReportShop;
use crate::metrics::figure::Unit;
use crate::metrics::period::{Period, Stretch};
use crate::metrics::series::Point;
use crate::metrics::{Metric, ShopReport, alerts};
use crate::survey::Survey;

#[derive(Serialize)]
pub(super) struct Page<'a> {
    words: &'a Words,
    style: &'static str,
    title: String,
    as_of: String,
    shops: Vec<ShopView>,
    is_several: bool,
}

#[derive(Serialize)]
struct ShopView {
    /// Unique in the page.
    id: String,
    name: String,
    window: String,
    alerts: Vec<AlertView>,
    /// What a person has to do about mails of which nothing is known.
    outbox: Option<String>,
    headlines: Vec<Headline>,
    headline_table: Table,
    changed_since: String,
    changes: Vec<String>,
    course_how: String,
    course: Vec<Drawn>,
    volumes: Vec<Drawn>,
    scores: Vec<Drawn>,
    cohorts: Option<Drawn>,
    waits: Vec<Stat>,
    repeat: Vec<RepeatView>,
    topics: Option<Drawn>,
    funnel: Option<Drawn>,
    definitions: Vec<Definition>,
    unknowns: Vec<String>,
}

#[derive(Serialize)]
struct AlertView {
    text: String,
    since: String,
}

/// A drawing, what there is to say about it, and the numbers behind it.
#[derive(Serialize)]
struct Drawn {
    /// Whose it is, because a page may have the same of several.
    shop: String,
    title: String,
    svg: String,
    /// Whether it is wider than a phone, and scrolls there.
    is_wide: bool,
    notes: Vec<String>,
    remarks: Vec<String>,
    table: Table,
}

#[derive(Serialize)]
struct Table {
    /// Whose it is, because a page may have the same of several.
    shop: String,
    caption: String,
    head: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

#[derive(Serialize)]
struct Cell {
    text: String,
    /// The number as it is, for machines; absent where it is none.
    value: Option<String>,
    is_head: bool,
}

impl Cell {
    fn head(text: impl Into<String>) -> Self {
        Self { text: text.into(), value: None, is_head: true }
    }

    fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), value: None, is_head: false }
    }
}

impl<'a> Page<'a> {
    pub(super) fn of(contents: &Contents, reader: Reader<'a>) -> Self {
        let words = reader.words;
        let report = &contents.report;
        let names: Vec<_> = report.shops.iter().map(|shop| shop.name.as_str()).collect();
        let shops: Vec<_> = report
            .shops
            .iter()
            .zip(&contents.more)
            .enumerate()
            .map(|(n, (shop, more))| {
                let surveys: Vec<_> =
                    reader.surveys.iter().filter(|survey| survey.is_for(&shop.shop)).collect();
                let about = About {
                    words,
                    reader,
                    shop,
                    more,
                    surveys: &surveys,
                    contents,
                    id: format!("s{}", n + 1),
                };
                about.view()
            })
            .collect();
        let zone = report.shops.first().map_or(chrono_tz::UTC, |shop| shop.timezone);
        Self {
            words,
            style: STYLE,
            title: words.say(&words.title, &[("shops", &names.join(", "))]),
            as_of: words.say(&words.as_of, &[("moment", &zoned(words, report.as_of, zone))]),
            is_several: shops.len() > 1,
            shops,
        }
    }
}

impl Page<'_> {
    /// The names of the shops.
    pub(super) fn names(&self) -> String {
        self.shops.iter().map(|shop| shop.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Of which moment it is, in words.
    pub(super) fn as_of(&self) -> &str {
        &self.as_of
    }

    /// The first screen, for a mail.
    pub(super) fn in_short(&self) -> Vec<ReportShop> {
        let in_short = |shop: &ShopView| ReportShop {
            name: shop.name.clone(),
            window: shop.window.clone(),
            alerts: shop
                .alerts
                .iter()
                .map(|alert| format!("{} {}", alert.text, alert.since))
                .chain(shop.outbox.clone())
                .collect(),
            rows: shop.headlines.iter().map(Headline::in_short).collect(),
            changed_since: shop.changed_since.clone(),
            changes: shop.changes.clone(),
        };
        self.shops.iter().map(in_short).collect()
    }
}

fn zoned(words: &Words, moment: chrono::DateTime<chrono::Utc>, zone: chrono_tz::Tz) -> String {
    format!("{} ({zone})", words.moment(moment, zone))
}

/// A shop, and all that is needed to tell about it.
struct About<'a> {
    words: &'a Words,
    reader: Reader<'a>,
    shop: &'a ShopReport,
    more: &'a More,
    surveys: &'a [&'a Survey],
    contents: &'a Contents,
    id: String,
}

impl About<'_> {
    fn view(&self) -> ShopView {
        let Self { words, shop, .. } = *self;
        let series = shop.series.as_ref();
        let course: Vec<_> = series.map(|series| self.courses(series)).unwrap_or_default();
        let period = series.map_or(Period::Month, |series| series.period);
        let period_word = self.period_word(period);
        let signals = course.iter().fold(Signals::default(), |all, (_, signals)| all.and(*signals));
        ShopView {
            id: self.id.clone(),
            name: shop.name.clone(),
            window: self.window(),
            alerts: self
                .contents
                .alerts
                .iter()
                .filter(|alert| alert.shop == shop.shop)
                .map(|alert| self.alert(alert))
                .collect(),
            outbox: (shop.outbox.unknown > 0).then(|| {
                let wording =
                    if shop.outbox.unknown == 1 { &words.outbox_unknown_one } else { &words.outbox_unknown };
                words.say(wording, &[("n", &words.count(shop.outbox.unknown))])
            }),
            headlines: shop.metrics.iter().map(|(metric, figure)| self.headline(metric, figure)).collect(),
            headline_table: self.headline_table(),
            changed_since: self.changed_since(),
            changes: self.changes(signals),
            course_how: words.say(&words.course_how, &[("period", period_word)]),
            course: course.into_iter().map(|(drawn, _)| drawn).collect(),
            volumes: series.map(|series| self.volumes(series)).unwrap_or_default(),
            scores: series.map(|series| self.scores(series)).unwrap_or_default(),
            cohorts: shop.loyalty.as_ref().and_then(|loyalty| self.cohorts(&loyalty.cohorts)),
            waits: shop.loyalty.as_ref().map(|loyalty| self.waits(loyalty)).unwrap_or_default(),
            repeat: shop.loyalty.as_ref().map(|loyalty| self.repeat(loyalty)).unwrap_or_default(),
            topics: self.topics(),
            funnel: shop.funnel.as_ref().and_then(|funnel| self.funnel(funnel)),
            definitions: self.definitions(),
            unknowns: self.unknowns(),
        }
    }

    fn id(&self, part: &str) -> String {
        format!("{}-{}", self.id, part.replace(|c: char| !c.is_ascii_alphanumeric(), "-"))
    }

    fn window(&self) -> String {
        let Self { words, shop, .. } = *self;
        let at = |moment| words.moment(moment, shop.timezone);
        match (shop.from.map(at), shop.to.map(at)) {
            (None, None) => words.window_all.clone(),
            (Some(from), None) => words.say(&words.window_from, &[("from", &from)]),
            (None, Some(to)) => words.say(&words.window_to, &[("to", &to)]),
            (Some(from), Some(to)) => words.say(&words.window_between, &[("from", &from), ("to", &to)]),
        }
    }

    fn alert(&self, alert: &alerts::store::Alert) -> AlertView {
        let since = self.words.moment(alert.opened_at, self.shop.timezone);
        let since = self.words.say(&self.words.alert_since, &[("date", &since)]);
        AlertView { text: alerts::words::sentence(self.reader.built_in, &alert.latest), since }
    }

    /// The name of a metric and what it counts, in the reader's language.
    fn named(&self, metric: &Metric) -> (&str, &str) {
        let words = self.words.metrics.get(metric.key);
        words.map_or((metric.name, metric.noun), |words| (&words.name, &words.noun))
    }

    /// What was counted, in words.
    fn counted(&self, noun: &str, unit: Unit, numerator: i64, denominator: i64) -> String {
        let words = self.words;
        let wording = match unit {
            Unit::Share => &words.counted_share,
            Unit::Points => &words.counted_net,
        };
        let (n, of) = (words.count(numerator), words.count(denominator));
        words.say(wording, &[("n", &n), ("of", &of), ("noun", noun)])
    }

    fn value_text(&self, unit: Unit, value: Option<f64>) -> String {
        value.map_or_else(|| self.words.none.clone(), |value| self.words.value(unit, value))
    }

    fn cell(&self, unit: Unit, value: Option<f64>) -> Cell {
        Cell {
            text: self.value_text(unit, value),
            value: value.map(|value| value.to_string()),
            is_head: false,
        }
    }

    fn count_cell(&self, n: i64) -> Cell {
        Cell { text: self.words.count(n), value: Some(n.to_string()), is_head: false }
    }

    fn period_word(&self, period: Period) -> &str {
        let words = self.words;
        match period {
            Period::Day | Period::Rolling(_) => &words.period_day,
            Period::Week => &words.period_week,
            Period::Month => &words.period_month,
            Period::Quarter | Period::Year => &words.period_quarter,
        }
    }

    fn period_name(&self, period: Period, point: &Point) -> String {
        let name = self.words.period_long(period, stretch(point));
        if point.complete { name } else { self.words.say(&self.words.partial, &[("period", &name)]) }
    }
}

fn stretch(point: &Point) -> Stretch {
    Stretch { first_day: point.days.starts_on, last_day: point.days.ends_on }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
