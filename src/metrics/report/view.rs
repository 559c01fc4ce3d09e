//! What stands where on the page: figures become sentences, tables and drawings.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use super::chart::{self, Bar, Dot, Gauge, HeatRow, Line, Row, Told};
use super::words::Words;
use super::{Alarm, Before, Contents, More, Reader, STYLE, SecondOrder};
use crate::mail::templates::views::{ReportRow, ReportShop};
use crate::metrics::comparison::Share;
use crate::metrics::control_chart::{self, Baseline, Observation, Side, Signal};
use crate::metrics::figure::{Figure, Measure, TELLING, Unit};
use crate::metrics::funnel::Funnel;
use crate::metrics::loyalty::{Cohort, Loyalty};
use crate::metrics::normal::Z_95;
use crate::metrics::period::{Period, Stretch};
use crate::metrics::series::{FEW, Point, Series, Topic};
use crate::metrics::{Basis, METRICS, Metric, Report, ShopReport, alerts, answers, recommendation_rate};
use crate::survey::{QuestionKind, Survey, Yes};
use crate::types::Locale;

/// So many months after the first order's are drawn at most; all are in the table.
const DRAWN_MONTHS: usize = 13;
/// So many cohorts, the latest, are drawn at most.
const DRAWN_COHORTS: usize = 24;
/// So many signals of a series are told at most.
const MOST_SIGNALS: usize = 5;
/// So many topics are drawn at most.
const MOST_TOPICS: usize = 10;

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

/// A figure at the top of the page.
#[derive(Serialize)]
struct Headline {
    name: String,
    value: String,
    interval: Option<String>,
    /// The same without its name.
    range: Option<String>,
    gauge: Option<String>,
    verdict: String,
    /// Against the period before, against the target, weighted, with suspects.
    notes: Vec<Note>,
}

#[derive(Serialize)]
struct Note {
    /// `good`, `bad`, or empty.
    kind: &'static str,
    /// Says the same as the kind, for whoever does not see colours.
    sign: &'static str,
    text: String,
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

#[derive(Serialize)]
struct Stat {
    name: String,
    value: String,
    interval: Option<String>,
    text: String,
}

#[derive(Serialize)]
struct RepeatView {
    title: String,
    rows: Vec<RepeatRow>,
}

#[derive(Serialize)]
struct RepeatRow {
    said: String,
    within: String,
    value: Cell,
    gauge: Option<String>,
    interval: String,
    counted: String,
}

#[derive(Serialize)]
struct Definition {
    name: String,
    text: String,
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

impl Headline {
    fn in_short(&self) -> ReportRow {
        ReportRow {
            name: self.name.clone(),
            value: self.value.clone(),
            interval: self.range.clone(),
            verdict: self.verdict.clone(),
        }
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

/// What the figure says about its certainty, as far as it does.
#[derive(Debug, Default, Deserialize)]
struct Certainty {
    before: Option<Compared>,
    target: Option<Target>,
    weighted: Option<Weighted>,
    bounds: Option<Bounds>,
}

#[derive(Debug, Deserialize)]
struct Compared {
    value: Option<f64>,
    difference: Option<f64>,
    ci_low: Option<f64>,
    ci_high: Option<f64>,
    change: String,
}

#[derive(Debug, Deserialize)]
struct Target {
    target: f64,
    verdict: String,
    more: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Weighted {
    value: Option<f64>,
    ci_low: Option<f64>,
    ci_high: Option<f64>,
    effective: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Bounds {
    worst: Option<f64>,
    best: Option<f64>,
}

impl Certainty {
    /// Read from what the figure tells machines, so that a figure without it is shown without it.
    fn of(figure: &Figure) -> Self {
        let told = serde_json::to_value(figure).ok();
        Self::read(told.and_then(|mut told| Some(told.get_mut("certainty")?.take())).unwrap_or_default())
    }

    fn read(told: serde_json::Value) -> Self {
        serde_json::from_value(told).unwrap_or_default()
    }
}

impl About<'_> {
    fn view(&self) -> ShopView {
        let Self { words, shop, .. } = *self;
        let series = shop.series.as_ref();
        let course: Vec<_> = series.map(|series| self.courses(series)).unwrap_or_default();
        let period = series.map_or(Period::Month, |series| series.period);
        let period_word = self.period_word(period);
        let n_signals = course.iter().map(|(_, n)| n).sum();
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
            changes: self.changes(n_signals),
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

    fn verdict(&self, noun: &str, figure: &Figure) -> String {
        let words = self.words;
        let (Some(low), Some(high)) = (figure.ci_low, figure.ci_high) else {
            return words.say(&words.verdict_none, &[("noun", noun)]);
        };
        let (bottom, top) = figure.unit.range();
        let is_telling = high - low <= TELLING * (top - bottom);
        let wording = if is_telling { &words.verdict_sure } else { &words.verdict_few };
        let counted = self.counted(noun, figure.unit, figure.numerator, figure.denominator);
        let (low, high) = (words.value(figure.unit, low), words.value(figure.unit, high));
        words.say(wording, &[("low", &low), ("high", &high), ("counted", &counted), ("noun", noun)])
    }

    fn headline(&self, metric: &Metric, figure: &Figure) -> Headline {
        let words = self.words;
        let (name, noun) = self.named(metric);
        let certainty = Certainty::of(figure);
        let value = self.value_text(figure.unit, figure.value);
        let interval = figure.ci_low.zip(figure.ci_high);
        let target = certainty.target.as_ref().map(|target| target.target);
        let gauge = figure.value.zip(interval).map(|(number, interval)| {
            let range = words.range(figure.unit, interval);
            let mut text = words.say(&words.gauge_text, &[("interval", &range)]);
            if let Some(target) = target {
                let target = words.value(figure.unit, target);
                text = format!("{text} {}", words.say(&words.gauge_target, &[("target", &target)]));
            }
            let title = words.say(&words.gauge_title, &[("name", name), ("value", &value)]);
            let told = Told { id: &self.id(&format!("gauge-{}", metric.key)), title: &title, text: &text };
            chart::gauge(told, &Gauge { value: number, interval, range: figure.unit.range(), target })
        });
        Headline {
            name: name.to_owned(),
            interval: interval.map(|interval| {
                words.say(&words.interval, &[("interval", &words.range(figure.unit, interval))])
            }),
            range: interval.map(|interval| words.range(figure.unit, interval)),
            gauge,
            verdict: self.verdict(noun, figure),
            notes: self.notes(figure, &certainty),
            value,
        }
    }

    fn notes(&self, figure: &Figure, certainty: &Certainty) -> Vec<Note> {
        let words = self.words;
        let unit = figure.unit;
        let mut notes = Vec::new();
        if let Some(Compared { value, difference, ci_low, ci_high, change }) = &certainty.before {
            let (wording, kind, sign) = match change.as_str() {
                "rose" => (&words.before_rose, "good", "▲"),
                "fell" => (&words.before_fell, "bad", "▼"),
                _ => (&words.before_no_evidence, "", "≈"),
            };
            // How far it fell is told as a distance, so the bounds change places.
            let (sign_of, low, high) =
                if change == "fell" { (-1.0, ci_high, ci_low) } else { (1.0, ci_low, ci_high) };
            let in_points = if unit == Unit::Share { 100.0 } else { 1.0 };
            let points =
                |number: &Option<f64>| self.value_text(Unit::Points, number.map(|n| sign_of * in_points * n));
            let values = [
                ("before", self.value_text(unit, *value)),
                ("difference", points(difference)),
                ("low", points(low)),
                ("high", points(high)),
            ];
            let values: Vec<_> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
            notes.push(Note { kind, sign, text: words.say(wording, &values) });
        }
        if let Some(Target { target, verdict, more }) = &certainty.target {
            let target = words.value(unit, *target);
            let (wording, kind, sign) = match verdict.as_str() {
                "above" => (&words.target_above, "good", "✓"),
                "below" => (&words.target_below, "bad", "!"),
                _ => (&words.target_undecided, "", "?"),
            };
            let mut text = words.say(wording, &[("target", &target)]);
            if let Some(more) = more {
                let more = words.count(i64::try_from(*more).unwrap_or(i64::MAX));
                text = format!("{text} {}", words.say(&words.target_more, &[("n", &more)]));
            }
            notes.push(Note { kind, sign, text });
        }
        let plain = |text| Note { kind: "", sign: "", text };
        if let Some(Weighted { value: Some(value), ci_low: Some(low), ci_high: Some(high), effective }) =
            certainty.weighted
        {
            let effective = effective.map_or_else(|| words.none.clone(), |n| words.decimal(n, 0));
            let (value, interval) = (words.value(unit, value), words.range(unit, (low, high)));
            let values = [("value", value.as_str()), ("interval", &interval), ("effective", &effective)];
            notes.push(plain(words.say(&words.weighted, &values)));
        }
        if let Some(Bounds { worst: Some(worst), best: Some(best) }) = certainty.bounds {
            let (worst, best) = (words.value(unit, worst), words.value(unit, best));
            notes.push(plain(words.say(&words.bounds, &[("worst", &worst), ("best", &best)])));
        }
        if let Some(suspects) = figure.with_suspects
            && (suspects.numerator, suspects.denominator) != (figure.numerator, figure.denominator)
        {
            let value = self.value_text(unit, suspects.value);
            let n = words.count(suspects.denominator);
            notes.push(plain(words.say(&words.suspects, &[("value", &value), ("n", &n)])));
        }
        notes
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

    fn headline_table(&self) -> Table {
        let words = self.words;
        let rows = self.shop.metrics.iter().map(|(metric, figure)| {
            let name = Cell::head(self.named(metric).0);
            let [value, low, high] =
                [figure.value, figure.ci_low, figure.ci_high].map(|number| self.cell(figure.unit, number));
            vec![
                name,
                value,
                low,
                high,
                self.count_cell(figure.numerator),
                self.count_cell(figure.denominator),
            ]
        });
        Table {
            shop: self.shop.name.clone(),
            caption: words.headlines.clone(),
            head: [
                &words.col_figure,
                &words.col_value,
                &words.col_low,
                &words.col_high,
                &words.col_n,
                &words.col_of,
            ]
            .map(Clone::clone)
            .to_vec(),
            rows: rows.collect(),
        }
    }

    fn changed_since(&self) -> String {
        let words = self.words;
        match &self.contents.before {
            Before::Window(_) => words.changed_window.clone(),
            Before::Week(before) => {
                let day = words.moment(before.as_of, self.shop.timezone);
                words.say(&words.changed_week, &[("date", &day)])
            }
        }
    }

    /// What is not as it was, in three sentences at most.
    fn changes(&self, n_signals: usize) -> Vec<String> {
        let Self { words, shop, .. } = *self;
        let before: &Report = self.contents.before.report();
        let Some(before) = before.shops.iter().find(|other| other.shop == shop.shop) else {
            return Vec::new();
        };
        let was_there = before.metrics.iter().any(|(_, figure)| figure.denominator > 0);
        if !was_there {
            return vec![words.changed_nothing_before.clone()];
        }
        let mut sentences = vec![self.changed_figures(before)];
        // What is counted by answers, mails and customers, each named once.
        let mut nouns = BTreeSet::new();
        let added: Vec<_> = shop
            .metrics
            .iter()
            .filter_map(|(metric, figure)| {
                let earlier = before.metrics.get(metric.key)?.denominator;
                let is_new = figure.denominator != earlier && nouns.insert(metric.noun);
                let values = [words.count(figure.denominator), words.count(earlier)];
                is_new.then(|| {
                    let [now, then] = values;
                    words.say(
                        &words.changed_volumes,
                        &[("now", &now), ("then", &then), ("noun", self.named(metric).1)],
                    )
                })
            })
            .collect();
        if !added.is_empty() {
            sentences.push(capitalised(&format!("{}.", listed(words, &added))));
        }
        if n_signals > 0 {
            let n = words.count(i64::try_from(n_signals).unwrap_or(i64::MAX));
            sentences.push(words.say(&words.changed_signals, &[("n", &n)]));
        }
        sentences
    }

    /// The figures that moved by more than what is rounded away, the ones that moved most first.
    fn changed_figures(&self, before: &ShopReport) -> String {
        const MOST: usize = 3;
        let words = self.words;
        let mut moved: Vec<_> = self
            .shop
            .metrics
            .iter()
            .filter_map(|(metric, figure)| {
                let (now, then) = (figure.value?, before.metrics.get(metric.key)?.value?);
                let (bottom, top) = figure.unit.range();
                let share = (now - then).abs() / (top - bottom);
                let [now, then] = [now, then].map(|value| words.value(figure.unit, value));
                (now != then).then(|| {
                    let name = self.named(metric).0;
                    let text =
                        words.say(&words.changed_figure, &[("name", name), ("then", &then), ("now", &now)]);
                    (share, text)
                })
            })
            .collect();
        if moved.is_empty() {
            return words.changed_none.clone();
        }
        moved.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let moved: Vec<_> = moved.into_iter().take(MOST).map(|(_, text)| text).collect();
        words.say(&words.changed_figures, &[("figures", &listed(words, &moved))])
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

    /// A drawing of each figure of which there is anything, and how many signals it has.
    fn courses(&self, series: &Series) -> Vec<(Drawn, usize)> {
        METRICS.iter().filter_map(|metric| self.course(metric, series)).collect()
    }

    fn course(&self, metric: &Metric, series: &Series) -> Option<(Drawn, usize)> {
        let words = self.words;
        let (name, _) = self.named(metric);
        let measures: Vec<Measure> = series
            .points
            .iter()
            .map(|point| point.metrics.get(metric.key).copied())
            .collect::<Option<_>>()?;
        let unit = measures.first()?.unit;
        if measures.iter().all(|measure| measure.value.is_none()) {
            return None;
        }
        let control = Control::of(&series.points, &measures, unit);
        let mut remarks = control.remarks(self, series);
        let n_signals = remarks.len();
        let marks: BTreeMap<usize, usize> =
            remarks.iter().take(MOST_SIGNALS).enumerate().map(|(n, (i, _))| (*i, n + 1)).collect();
        let dots: Vec<Dot> = series
            .points
            .iter()
            .zip(&measures)
            .enumerate()
            .map(|(i, (point, measure))| Dot {
                label: words.period_short(series.period, point.days.starts_on),
                value: measure.value,
                interval: measure.ci_low.zip(measure.ci_high),
                limits: control.limits.get(&i).copied(),
                is_whole: point.complete,
                mark: marks.get(&i).copied(),
            })
            .collect();
        let title =
            words.say(&words.course_title, &[("name", name), ("period", self.period_word(series.period))]);
        let text = self.course_text(&series.points, &measures, series.period, unit);
        let figure = self.shop.metrics.get(metric.key)?;
        let target = Certainty::of(figure).target.map(|target| target.target);
        let level = words.say(&words.gauge_target, &[("target", &self.value_text(unit, target))]);
        let svg = chart::line(&Line {
            told: Told { id: &self.id(metric.key), title: &title, text: &text },
            dots: &dots,
            center: control.center,
            level: target.map(|target| (target, level.as_str())),
            range: unit.range(),
            number: &|value| words.tick(unit, value),
        });
        let mut notes = Vec::new();
        match control.center {
            Some(center) => {
                let center = words.value(unit, center);
                notes.push(words.say(&words.course_center, &[("center", &center)]));
                if remarks.is_empty() {
                    notes.push(words.course_quiet.clone());
                }
            }
            None => {
                let least = words.count(control_chart::LEAST as i64);
                notes.push(words.say(&words.course_too_few, &[("n", &least)]));
            }
        }
        let table = self.course_table(&title, series, &measures, &control, &marks);
        let hidden = remarks.len().saturating_sub(MOST_SIGNALS);
        remarks.truncate(MOST_SIGNALS);
        let remarks = remarks.into_iter().map(|(_, text)| text).collect();
        if hidden > 0 {
            let n = words.count(i64::try_from(hidden).unwrap_or(i64::MAX));
            notes.push(words.say(&words.course_more_signals, &[("n", &n)]));
        }
        Some((
            Drawn {
                shop: self.shop.name.clone(),
                title: name.to_owned(),
                svg,
                is_wide: false,
                notes,
                remarks,
                table,
            },
            n_signals,
        ))
    }

    fn course_text(&self, points: &[Point], measures: &[Measure], period: Period, unit: Unit) -> String {
        let words = self.words;
        let known: Vec<_> = points
            .iter()
            .zip(measures)
            .filter_map(|(point, measure)| Some((point, measure.value?)))
            .collect();
        let (Some((first, from)), Some((last, to))) = (known.first(), known.last()) else {
            return words.course_text_empty.clone();
        };
        let by = |a: &&(&Point, f64), b: &&(&Point, f64)| a.1.total_cmp(&b.1);
        let (Some((_, low)), Some((_, high))) = (known.iter().min_by(by), known.iter().max_by(by)) else {
            return words.course_text_empty.clone();
        };
        let [from, to, low, high] = [from, to, low, high].map(|value| words.value(unit, *value));
        let [first, last] = [first, last].map(|point| words.period_long(period, stretch(point)));
        let values = [
            ("first", &first),
            ("from", &from),
            ("last", &last),
            ("to", &to),
            ("low", &low),
            ("high", &high),
        ];
        words.say(&words.course_text, &values.map(|(name, value)| (name, value.as_str())))
    }

    fn course_table(
        &self,
        caption: &str,
        series: &Series,
        measures: &[Measure],
        control: &Control,
        marks: &BTreeMap<usize, usize>,
    ) -> Table {
        let words = self.words;
        let rows = series.points.iter().zip(measures).enumerate().map(|(i, (point, measure))| {
            let limits = control.limits.get(&i);
            let limits =
                limits.map_or_else(|| words.none.clone(), |limits| words.range(measure.unit, *limits));
            let mark = marks.get(&i).map_or_else(String::new, ToString::to_string);
            let [value, low, high] = [measure.value, measure.ci_low, measure.ci_high]
                .map(|number| self.cell(measure.unit, number));
            vec![
                Cell::head(self.period_name(series.period, point)),
                value,
                low,
                high,
                self.count_cell(measure.numerator),
                self.count_cell(measure.denominator),
                Cell::text(limits),
                Cell::text(mark),
            ]
        });
        let head = [
            &words.col_period,
            &words.col_value,
            &words.col_low,
            &words.col_high,
            &words.col_n,
            &words.col_of,
            &words.col_limits,
            &words.col_remark,
        ];
        Table {
            shop: self.shop.name.clone(),
            caption: caption.to_owned(),
            head: head.map(Clone::clone).to_vec(),
            rows: rows.collect(),
        }
    }

    fn volumes(&self, series: &Series) -> Vec<Drawn> {
        let words = self.words;
        let kinds: [(&str, &str, CountOf); 4] = [
            ("orders", &words.volume_orders, |point| point.volumes.orders),
            ("mails", &words.volume_mails, |point| point.volumes.mails_sent),
            ("answers", &words.volume_answers, |point| point.volumes.answers),
            ("comments", &words.volume_comments, |point| point.volumes.comments),
        ];
        let drawn = kinds.into_iter().map(|(key, name, of)| {
            let bars: Vec<_> = series
                .points
                .iter()
                .map(|point| Bar {
                    label: words.period_short(series.period, point.days.starts_on),
                    n: of(point),
                    is_whole: point.complete,
                })
                .collect();
            let most = bars.iter().map(|bar| bar.n).max().unwrap_or_default();
            let all: i64 = bars.iter().map(|bar| bar.n).sum();
            let (all, most) = (words.count(all), words.count(most));
            let period = self.period_word(series.period);
            let title = words.say(&words.volume_title, &[("name", name), ("period", period)]);
            let text = words.say(&words.volume_text, &[("all", &all), ("most", &most)]);
            let told = Told { id: &self.id(&format!("volume-{key}")), title: &title, text: &text };
            let rows = series.points.iter().map(|point| {
                vec![Cell::head(self.period_name(series.period, point)), self.count_cell(of(point))]
            });
            Drawn {
                shop: self.shop.name.clone(),
                title: name.to_owned(),
                svg: chart::bars(told, &bars, &|n| words.decimal(n, 0)),
                is_wide: false,
                notes: vec![text.clone()],
                remarks: Vec::new(),
                table: Table {
                    shop: self.shop.name.clone(),
                    caption: title.clone(),
                    head: vec![words.col_period.clone(), name.to_owned()],
                    rows: rows.collect(),
                },
            }
        });
        if series.points.is_empty() { Vec::new() } else { drawn.collect() }
    }

    /// A drawing for each source that said anything.
    fn scores(&self, series: &Series) -> Vec<Drawn> {
        let sources: BTreeSet<&String> =
            series.points.iter().flat_map(|point| point.third_party_scores.keys()).collect();
        sources.into_iter().map(|source| self.score(source, series)).collect()
    }

    fn score(&self, source: &str, series: &Series) -> Drawn {
        let words = self.words;
        let alarm = self.alarm("third_party_score", Some(source)).map(|alarm| alarm.below);
        let known: Vec<_> = series
            .points
            .iter()
            .filter_map(|point| Some((point, *point.third_party_scores.get(source)?)))
            .collect();
        let dots: Vec<Dot> = series
            .points
            .iter()
            .map(|point| Dot {
                label: words.period_short(series.period, point.days.starts_on),
                value: point.third_party_scores.get(source).map(|score| score.score),
                is_whole: true,
                ..Dot::default()
            })
            .collect();
        let level = alarm.map(|below| {
            (below, words.say(&words.score_alarm, &[("level", &words.value(Unit::Share, below))]))
        });
        let mut notes = Vec::new();
        if let Some((_, latest)) = known.last() {
            let (value, day) = (words.value(Unit::Share, latest.score), words.day(latest.rated_on));
            let mut text = words.say(&words.score_latest, &[("value", &value), ("date", &day)]);
            if let Some(n) = latest.ratings {
                text = format!("{text} {}", words.say(&words.score_ratings, &[("n", &words.count(n))]));
            }
            notes.push(text);
            notes.push(match alarm {
                Some(below) => {
                    let level = words.value(Unit::Share, below);
                    let wording =
                        if latest.score < below { &words.score_alarming } else { &words.score_not_alarming };
                    words.say(wording, &[("level", &level)])
                }
                None => words.score_no_alarm.clone(),
            });
        }
        let title = words.say(&words.score_title, &[("source", source)]);
        let text = notes.join(" ");
        let told = Told { id: &self.id(&format!("score-{source}")), title: &title, text: &text };
        let svg = chart::line(&Line {
            told,
            dots: &dots,
            center: None,
            level: level.as_ref().map(|(level, name)| (*level, name.as_str())),
            range: Unit::Share.range(),
            number: &|value| words.tick(Unit::Share, value),
        });
        let rows = known.iter().map(|(point, score)| {
            let ratings =
                score.ratings.map_or_else(|| Cell::text(words.none.clone()), |n| self.count_cell(n));
            vec![
                Cell::head(self.words.period_long(series.period, stretch(point))),
                self.cell(Unit::Share, Some(score.score)),
                Cell::text(words.day(score.rated_on)),
                ratings,
            ]
        });
        let head = [&words.col_period, &words.col_score, &words.col_rated_on, &words.col_ratings];
        let table = Table {
            shop: self.shop.name.clone(),
            caption: title.clone(),
            head: head.map(Clone::clone).to_vec(),
            rows: rows.collect(),
        };
        Drawn {
            shop: self.shop.name.clone(),
            title: source.to_owned(),
            svg,
            is_wide: false,
            notes,
            remarks: Vec::new(),
            table,
        }
    }

    fn alarm(&self, metric: &str, source: Option<&str>) -> Option<&Alarm> {
        let is_it = |alarm: &&Alarm| {
            alarm.metric == metric
                && alarm.shop.as_ref().is_none_or(|shop| *shop == self.shop.shop)
                && alarm.source.as_deref().is_none_or(|of| Some(of) == source)
        };
        self.contents.alarms.iter().find(is_it)
    }

    fn cohorts(&self, cohorts: &[Cohort]) -> Option<Drawn> {
        let words = self.words;
        let share = |cohort: &Cohort, month: usize| -> Option<f64> {
            let again = (*cohort.ordered_again.get(month)?)?;
            (cohort.customers > 0).then(|| again as f64 / cohort.customers as f64)
        };
        // A month without new customers is no row; a last column in which nothing is known, none.
        let n_months = cohorts
            .iter()
            .filter_map(|cohort| cohort.ordered_again.iter().rposition(Option::is_some))
            .max()
            .map_or(0, |last| last + 1);
        let cohorts: Vec<_> = cohorts.iter().filter(|cohort| cohort.customers > 0).collect();
        if cohorts.is_empty() || n_months == 0 {
            return None;
        }
        let name = |cohort: &Cohort| {
            let first: Option<NaiveDate> = format!("{}-01", cohort.month).parse().ok();
            first.map_or_else(|| cohort.month.clone(), |first| words.period_short(Period::Month, first))
        };
        let column = |month: usize| match month {
            0 => words.cohort_same_month.clone(),
            month => words.say(&words.cohort_month, &[("n", &month.to_string())]),
        };
        let drawn_months = n_months.min(DRAWN_MONTHS);
        let latest = &cohorts[cohorts.len().saturating_sub(DRAWN_COHORTS)..];
        let rows: Vec<_> = latest
            .iter()
            .map(|cohort| HeatRow {
                name: name(cohort),
                size: words.count(cohort.customers),
                cells: (0..drawn_months).map(|month| share(cohort, month)).collect(),
            })
            .collect();
        let columns: Vec<_> = (0..drawn_months).map(column).collect();
        let last_known = cohorts.iter().rev().find_map(|cohort| {
            let month = cohort.ordered_again.iter().rposition(Option::is_some)?;
            Some((*cohort, month, share(cohort, month)?))
        });
        let first_known = cohorts.first().and_then(|cohort| {
            let month = cohort.ordered_again.iter().rposition(Option::is_some)?;
            Some((*cohort, month, share(cohort, month)?))
        });
        let text = first_known.or(last_known).map_or_else(String::new, |(cohort, month, share)| {
            let values = [
                ("n", words.count(cohort.customers)),
                ("month", name(cohort)),
                ("share", words.percent(share, 0)),
                ("months", month.to_string()),
            ];
            words.say(&words.cohorts_text, &values.each_ref().map(|(name, value)| (*name, value.as_str())))
        });
        let mut notes = vec![words.cohorts_how.clone()];
        if cohorts.len() > latest.len() || n_months > drawn_months {
            let (rows, months) = (latest.len().to_string(), (drawn_months - 1).to_string());
            notes.push(words.say(&words.cohorts_cut, &[("rows", &rows), ("months", &months)]));
        }
        let id = self.id("cohorts");
        let told = Told { id: &id, title: &words.cohorts_title, text: &text };
        let head = [words.col_first_order.clone(), words.col_customers.clone()];
        let table_rows = cohorts.iter().map(|cohort| {
            let shares = (0..n_months).map(|month| match share(cohort, month) {
                Some(share) => self.cell(Unit::Share, Some(share)),
                None => Cell::text(""),
            });
            [Cell::head(name(cohort)), self.count_cell(cohort.customers)].into_iter().chain(shares).collect()
        });
        Some(Drawn {
            shop: self.shop.name.clone(),
            title: words.cohorts.clone(),
            svg: chart::heat(told, &columns, &rows, &|share| words.percent(share, 0)),
            is_wide: true,
            notes,
            remarks: Vec::new(),
            table: Table {
                shop: self.shop.name.clone(),
                caption: words.cohorts_title.clone(),
                head: head.into_iter().chain((0..n_months).map(column)).collect(),
                rows: table_rows.collect(),
            },
        })
    }

    fn waits(&self, loyalty: &Loyalty) -> Vec<Stat> {
        let words = self.words;
        let days = |n: &str| words.say(&words.days, &[("n", n)]);
        let mut stats = Vec::new();
        if let Some(SecondOrder { customers, returned, median, by }) = &self.more.second_order {
            let count = |n: u64| words.count(i64::try_from(n).unwrap_or(i64::MAX));
            let values = [("customers", count(*customers)), ("returned", count(*returned))];
            let values = values.each_ref().map(|(name, value)| (*name, value.as_str()));
            let day = |day: u32| words.count(i64::from(day));
            stats.push(Stat {
                name: words.next_km.clone(),
                value: median.day.map_or_else(|| words.none.clone(), |n| days(&day(n))),
                interval: match (median.day, median.from, median.to) {
                    (Some(_), Some(from), Some(to)) => {
                        Some(words.say(&words.days_interval, &[("low", &day(from)), ("high", &day(to))]))
                    }
                    (Some(_), Some(from), None) => {
                        Some(words.say(&words.days_interval_open, &[("low", &day(from))]))
                    }
                    _ => None,
                },
                text: match median.day {
                    Some(_) => words.say(&words.next_km_how, &values),
                    None => words.say(&words.next_km_unreached, &values),
                },
            });
            for (horizon, returned) in by {
                let name = words.say(&words.next_by, &[("n", &horizon.to_string())]);
                stats.push(match returned {
                    Some(returned) => {
                        let range = words.range(Unit::Share, (returned.interval.low, returned.interval.high));
                        let at_risk = count(returned.at_risk);
                        Stat {
                            name,
                            value: words.percent(returned.share, 1),
                            interval: Some(words.say(&words.interval, &[("interval", &range)])),
                            text: words.say(&words.next_by_how, &[("n", &at_risk)]),
                        }
                    }
                    None => Stat {
                        name,
                        value: words.none.clone(),
                        interval: None,
                        text: words.next_by_none.clone(),
                    },
                });
            }
        }
        let gaps = loyalty.days_to_next_order;
        if gaps.n > 0 {
            stats.push(Stat {
                name: words.next_plain.clone(),
                value: gaps.median.map_or_else(|| words.none.clone(), |n| days(&words.decimal(n, 1))),
                interval: None,
                text: words.say(&words.next_plain_how, &[("n", &words.count(gaps.n))]),
            });
        }
        stats
    }

    /// A table for each kind of answer that anybody can give.
    fn repeat(&self, loyalty: &Loyalty) -> Vec<RepeatView> {
        let words = self.words;
        let titles = [
            ("recommendation", &words.repeat_by_recommendation),
            ("nps", &words.repeat_by_nps),
            ("no_answer", &words.repeat_by_no_answer),
        ];
        let views = titles.into_iter().map(|(by, title)| {
            let rows = loyalty.repeat_by_answer.iter().filter(|repeat| repeat.by == by);
            let rows = rows.filter(|repeat| repeat.measure.denominator > 0).map(|repeat| {
                let measure = &repeat.measure;
                let said = words.said.get(repeat.answer).map_or(repeat.answer, String::as_str);
                let interval = measure.ci_low.zip(measure.ci_high);
                let range = interval.map(|interval| words.range(measure.unit, interval));
                let days = words.say(&words.days, &[("n", &repeat.days.to_string())]);
                let value = self.value_text(measure.unit, measure.value);
                let gauge = measure.value.zip(interval).map(|(number, interval)| {
                    let title = words
                        .say(&words.gauge_title, &[("name", &format!("{said}, {days}")), ("value", &value)]);
                    let text =
                        words.say(&words.gauge_text, &[("interval", range.as_deref().unwrap_or_default())]);
                    let id = self.id(&format!("repeat-{by}-{}-{}", repeat.answer, repeat.days));
                    let told = Told { id: &id, title: &title, text: &text };
                    chart::gauge(
                        told,
                        &Gauge { value: number, interval, range: measure.unit.range(), target: None },
                    )
                });
                let (n, of) = (words.count(measure.numerator), words.count(measure.denominator));
                let mut counted = words
                    .say(&words.counted_share, &[("n", &n), ("of", &of), ("noun", "")])
                    .trim()
                    .to_owned();
                if measure.denominator < FEW {
                    counted = format!("{counted} {}", words.repeat_few);
                }
                RepeatRow {
                    said: said.to_owned(),
                    within: days,
                    value: self.cell(measure.unit, measure.value),
                    gauge,
                    interval: range.unwrap_or_else(|| words.none.clone()),
                    counted,
                }
            });
            RepeatView { title: title.clone(), rows: rows.collect() }
        });
        views.filter(|view| !view.rows.is_empty()).collect()
    }

    fn topics(&self) -> Option<Drawn> {
        let words = self.words;
        let topics = &self.more.topics;
        if topics.is_empty() {
            return None;
        }
        let share = |topic: &Topic| {
            if topic.unhappy > 0 { topic.n as f64 / topic.unhappy as f64 } else { 0.0 }
        };
        let rows: Vec<_> = topics
            .iter()
            .take(MOST_TOPICS)
            .map(|topic| {
                let (share, n) = (share(topic), words.count(topic.n));
                let number = format!("{n} · {}", words.percent(share, 0));
                Row { name: self.wording(topic).1, share, number }
            })
            .collect();
        let (_, first) = self.wording(&topics[0]);
        let values =
            [("topic", first), ("n", words.count(topics[0].n)), ("of", words.count(topics[0].unhappy))];
        let text =
            words.say(&words.topics_text, &values.each_ref().map(|(name, value)| (*name, value.as_str())));
        let id = self.id("topics");
        let told = Told { id: &id, title: &words.topics_title, text: &text };
        let table = topics.iter().map(|topic| {
            let (question, answer) = self.wording(topic);
            vec![
                Cell::head(answer),
                Cell::text(question),
                self.count_cell(topic.n),
                self.count_cell(topic.unhappy),
                self.cell(Unit::Share, Some(share(topic))),
            ]
        });
        let head =
            [&words.col_answer, &words.col_question, &words.col_n, &words.col_unhappy, &words.col_value];
        Some(Drawn {
            shop: self.shop.name.clone(),
            title: words.topics.clone(),
            svg: chart::rows(told, &rows),
            is_wide: false,
            notes: vec![words.topics_how.clone()],
            remarks: Vec::new(),
            table: Table {
                shop: self.shop.name.clone(),
                caption: words.topics_title.clone(),
                head: head.map(Clone::clone).to_vec(),
                rows: table.collect(),
            },
        })
    }

    /// How the survey words the question and the answer of a topic, as far as it still asks so.
    fn wording(&self, topic: &Topic) -> (String, String) {
        let locale = Locale::parse(&self.words.language);
        let survey = self.surveys.iter().find(|survey| survey.key == topic.survey);
        let question = survey.and_then(|survey| survey.questionnaire.question(&topic.question));
        let (Ok(locale), Some(question)) = (locale, question) else {
            return (topic.question.clone(), topic.option.clone());
        };
        let asked = question.text.get(&locale, &locale).replace("{{shop.name}}", &self.shop.name);
        let QuestionKind::Choice { choices } = &question.kind else { return (asked, topic.option.clone()) };
        let chosen =
            choices.iter().find(|choice| choice.key == topic.option).and_then(|choice| choice.text.as_ref());
        let answer = match chosen {
            Some(texts) => texts.get(&locale, &locale).to_owned(),
            None => self.reader.built_in.choices.get(&topic.option).unwrap_or(&topic.option).clone(),
        };
        (asked, answer)
    }

    fn funnel(&self, funnel: &Funnel) -> Option<Drawn> {
        let words = self.words;
        if funnel.orders == 0 {
            return None;
        }
        let share = |n: i64, of: i64| (of > 0).then(|| n as f64 / of as f64);
        let steps: Vec<(&String, i64)> =
            words.funnel_steps.iter().zip(funnel.steps()).map(|(name, (_, n))| (name, n)).collect();
        let rows: Vec<_> = steps
            .iter()
            .map(|(name, n)| {
                let share = share(*n, funnel.orders).unwrap_or_default();
                let number = format!("{} · {}", words.count(*n), words.percent(share, 0));
                Row { name: (*name).clone(), share, number }
            })
            .collect();
        let before = std::iter::once(None).chain(steps.iter().map(|(_, n)| Some(*n)));
        let table = steps.iter().zip(before).map(|((name, n), before)| {
            vec![
                Cell::head((*name).clone()),
                self.count_cell(*n),
                self.cell(Unit::Share, before.and_then(|before| share(*n, before))),
                self.cell(Unit::Share, share(*n, funnel.orders)),
            ]
        });
        let (orders, answered) = (words.count(funnel.orders), words.count(funnel.answered));
        let text = words.say(&words.funnel_text, &[("orders", &orders), ("answered", &answered)]);
        let id = self.id("funnel");
        let told = Told { id: &id, title: &words.funnel_title, text: &text };
        let head = [&words.col_step, &words.col_n, &words.col_of_before, &words.col_of_all];
        Some(Drawn {
            shop: self.shop.name.clone(),
            title: words.funnel.clone(),
            svg: chart::rows(told, &rows),
            is_wide: false,
            notes: vec![words.funnel_how.clone()],
            remarks: Vec::new(),
            table: Table {
                shop: self.shop.name.clone(),
                caption: words.funnel_title.clone(),
                head: head.map(Clone::clone).to_vec(),
                rows: table.collect(),
            },
        })
    }

    fn definitions(&self) -> Vec<Definition> {
        let words = self.words;
        let metrics = METRICS.iter().map(|metric| {
            let (name, _) = self.named(metric);
            let text = words.metrics.get(metric.key).map_or(metric.definition, |words| &words.definition);
            let text = match self.detail(metric.key) {
                Some(detail) => format!("{text} {detail}"),
                None => text.to_owned(),
            };
            Definition { name: name.to_owned(), text }
        });
        let others = [
            (&words.interval_name, &words.interval_definition),
            (&words.limits_name, &words.limits_definition),
            (&words.suspects_name, &words.suspects_definition),
        ];
        let named = |(name, text): (&String, &String)| Definition { name: name.clone(), text: text.clone() };
        metrics.chain(others.map(named)).collect()
    }

    /// Which questions and answers a figure is about.
    fn detail(&self, metric: &str) -> Option<String> {
        let words = self.words;
        let of_kind = |kind: QuestionKind| {
            let questions = answers::first_of(self.surveys, |question| question.kind == kind);
            let named: Vec<_> = questions
                .iter()
                .map(|(survey, question)| {
                    words.say(&words.detail_question, &[("question", &question.key), ("survey", &survey.key)])
                })
                .collect();
            if named.is_empty() {
                words.detail_none.clone()
            } else {
                words.say(&words.detail_counted, &[("questions", &named.join(", "))])
            }
        };
        match metric {
            "recommendation_rate" => {
                let rules: Vec<_> = recommendation_rate::rules(self.surveys)
                    .into_iter()
                    .map(|(survey, rule)| {
                        let yes = match &rule.yes {
                            Yes::Choices(choices) => choices
                                .iter()
                                .map(|choice| words.say(&words.detail_choice, &[("choice", choice)]))
                                .collect::<Vec<_>>()
                                .join(", "),
                            Yes::Scores { low, high } if low == high => {
                                words.say(&words.detail_score, &[("score", &low.to_string())])
                            }
                            Yes::Scores { low, high } => {
                                let values = [("low", low.to_string()), ("high", high.to_string())];
                                words.say(
                                    &words.detail_scores,
                                    &values.each_ref().map(|(n, v)| (*n, v.as_str())),
                                )
                            }
                        };
                        let values =
                            [("yes", yes.as_str()), ("question", &rule.question), ("survey", survey)];
                        words.say(&words.detail_rule, &values)
                    })
                    .collect();
                Some(if rules.is_empty() {
                    words.detail_recommendation_none.clone()
                } else {
                    words.say(&words.detail_recommendation, &[("rules", &rules.join("; "))])
                })
            }
            "nps" => Some(of_kind(QuestionKind::Nps)),
            "csat" => Some(of_kind(QuestionKind::Rating)),
            _ => None,
        }
    }

    fn unknowns(&self) -> Vec<String> {
        let Self { words, shop, .. } = *self;
        let basis = match (shop.basis, shop.frozen_at) {
            (Basis::Frozen, Some(at)) => {
                words.say(&words.basis_frozen, &[("moment", &zoned(words, at, shop.timezone))])
            }
            (Basis::Frozen | Basis::Computed, _) => words.basis_computed.clone(),
        };
        let zone = words.say(&words.unknown_zone, &[("zone", shop.timezone.name())]);
        let mut unknowns = vec![basis, zone, words.unknown_history.clone(), words.unknown_status.clone()];
        if shop.basis == Basis::Frozen {
            unknowns.push(words.unknown_rows.clone());
        }
        unknowns
    }
}

/// How many there were in a period.
type CountOf = fn(&Point) -> i64;

fn stretch(point: &Point) -> Stretch {
    Stretch { first_day: point.days.starts_on, last_day: point.days.ends_on }
}

/// `a, b and c`.
fn listed(words: &Words, items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [others @ .., last] => format!("{} {} {last}", others.join(", "), words.and),
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// What is ordinary for a series, and what is not.
struct Control {
    center: Option<f64>,
    /// By the index of the point.
    limits: BTreeMap<usize, (f64, f64)>,
    /// By the index of the point.
    signals: Vec<(usize, Vec<Signal>)>,
}

impl Control {
    /// Of the periods that are over and have answers, which are compared with each other.
    fn of(points: &[Point], measures: &[Measure], unit: Unit) -> Self {
        let told: Vec<usize> =
            (0..points.len()).filter(|i| points[*i].complete && measures[*i].denominator > 0).collect();
        let chart = match unit {
            Unit::Share => {
                let shares: Option<Vec<_>> = told
                    .iter()
                    .map(|i| Share::counted(measures[*i].numerator, measures[*i].denominator))
                    .collect();
                shares.and_then(|shares| control_chart::shares(&shares, Baseline::Whole))
            }
            Unit::Points => {
                // A series keeps no promoters and detractors; the interval, made of them, gives the error.
                let of = |i: &usize| {
                    let measure = &measures[*i];
                    let error = (measure.ci_high? - measure.ci_low?) / (2.0 * Z_95);
                    Some(Observation { value: measure.value?, error })
                };
                let observations: Option<Vec<_>> = told.iter().map(of).collect();
                observations.and_then(|weeks| control_chart::observations(&weeks, Baseline::Whole))
            }
        };
        let Some(chart) = chart else {
            return Self { center: None, limits: BTreeMap::new(), signals: Vec::new() };
        };
        let (bottom, top) = unit.range();
        let clipped = |low: f64, high: f64| (low.max(bottom), high.min(top));
        let told = || told.iter().copied().zip(&chart.points);
        Self {
            center: Some(chart.center),
            limits: told().map(|(i, point)| (i, clipped(point.limits.low, point.limits.high))).collect(),
            signals: told().map(|(i, point)| (i, point.signals.clone())).collect(),
        }
    }

    /// What is out of the ordinary, in words, each with the index of the point it begins at. What goes on over neighbouring periods is
    /// told once.
    fn remarks(&self, about: &About<'_>, series: &Series) -> Vec<(usize, String)> {
        let words = about.words;
        let mut remarks: Vec<(usize, String)> = Vec::new();
        let mut open: Vec<(Signal, usize, usize)> = Vec::new();
        let mut ended: Vec<(Signal, usize, usize)> = Vec::new();
        for (i, signals) in &self.signals {
            let (going_on, over): (Vec<_>, Vec<_>) =
                open.drain(..).partition(|(signal, ..)| signals.contains(signal));
            ended.extend(over);
            open = going_on.into_iter().map(|(signal, first, _)| (signal, first, *i)).collect();
            for signal in signals {
                if !open.iter().any(|(other, ..)| other == signal) {
                    open.push((*signal, *i, *i));
                }
            }
        }
        ended.extend(open);
        ended.sort_by_key(|(_, first, _)| *first);
        for (signal, first, last) in ended {
            let name = |i: usize| {
                series
                    .points
                    .get(i)
                    .map_or_else(String::new, |point| words.period_long(series.period, stretch(point)))
            };
            let when = if first == last {
                name(first)
            } else {
                words.say(&words.signal_from_to, &[("from", &name(first)), ("to", &name(last))])
            };
            let wording = match signal {
                Signal::Beyond(Side::Above) => &words.signal_beyond_above,
                Signal::Beyond(Side::Below) => &words.signal_beyond_below,
                Signal::Drift(Side::Above) => &words.signal_drift_above,
                Signal::Drift(Side::Below) => &words.signal_drift_below,
                Signal::Run(Side::Above) => &words.signal_run_above,
                Signal::Run(Side::Below) => &words.signal_run_below,
            };
            let text = capitalised(&words.say(wording, &[("when", &when)]));
            // A point has one mark, whatever begins at it.
            match remarks.last_mut() {
                Some((at, told)) if *at == first => *told = format!("{told} {text}"),
                _ => remarks.push((first, text)),
            }
        }
        remarks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certainty_is_read_as_figures_tell_it() {
        let told = serde_json::json!({
            "before": { "value": 0.8, "numerator": 8, "denominator": 10, "difference": 0.1, "ci_low": 0.01, "ci_high": 0.19,
                        "change": "rose" },
            "target": { "target": 0.9, "verdict": "undecided", "more": 120 },
            "weighted": { "value": 0.81, "ci_low": 0.7, "ci_high": 0.9, "effective": 88.5, "design_effect": 1.1,
                          "facts": ["country"], "collapsed": [] },
            "bounds": { "worst": 0.3, "best": 0.95 },
        });
        let certainty = Certainty::read(told);
        assert_eq!(certainty.before.unwrap().change, "rose");
        assert_eq!(certainty.target.unwrap().more, Some(120));
        assert_eq!(certainty.weighted.unwrap().effective, Some(88.5));
        assert_eq!(certainty.bounds.unwrap().best, Some(0.95));
        // A figure without it is shown without it.
        assert!(Certainty::read(serde_json::Value::Null).before.is_none());
        assert!(Certainty::read(serde_json::json!({ "target": null })).target.is_none());
    }

    #[test]
    fn lists_are_written_as_people_write_them() {
        let words = super::super::words::words(None).unwrap();
        let items = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(listed(words, &items), "a, b and c");
        assert_eq!(listed(words, &items[..1]), "a");
        assert_eq!(listed(words, &[]), "");
        assert_eq!(capitalised("état"), "État");
    }
}
