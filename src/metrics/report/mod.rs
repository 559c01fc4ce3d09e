//! The report that people look at: one HTML page that stands by itself. No script, no request to anywhere; it prints well.
//!
//! Comes in: what [`gather`] reads for each shop (the figures of [`super::report()`] with their series, who comes back, how far the orders
//! came, what the unhappy name, the same figures as they were before), and what is configured (alarm levels) or was open then (alerts). Goes
//! out: the page, in a language of [`words`]. `chart.rs` draws, `view.rs` says what stands where, with a file per section in `view/`; the
//! templates and the stylesheet are in `templates/report/`. Nothing is written; a report that dies is asked for again.
//!
//! Where the figures are what a night knew, who comes back and the funnel are still counted from the rows as they are,
//! because no night keeps them; the page says so.

pub mod words;
mod chart;
mod view;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use handlebars::Handlebars;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;

use super::alerts::rule::{self, Condition};
use super::alerts::store;
use super::period::Period;
use super::series::{self, Subject};
use super::survival::{self, Median, Returned, Spell};
use super::window::{Span, Window, day_of};
use super::{Asked, Report, ShopReport, funnel, loyalty};
use crate::config::{Config, Shop};
use crate::context::Context;
use crate::invitations::compose::clean;
use crate::letters::{self, Attached, Letter};
use crate::mail;
use crate::mail::templates::palette::Palette;
use crate::mail::templates::views::{Direction, ReportMail, ShopView};
use crate::survey::Survey;
use crate::types::{Locale, ShopId};
use words::Words;

const PAGE: &str = include_str!("../../../templates/report/page.hbs");
const PARTS: [(&str, &str); 2] = [
    ("drawn", include_str!("../../../templates/report/drawn.hbs")),
    ("table", include_str!("../../../templates/report/table.hbs")),
];

/// The stylesheet, which stands in the page.
pub const STYLE: &str = include_str!("../../../templates/report/report.css");

/// So long before, a report without both ends is compared with itself.
const WEEK: TimeDelta = TimeDelta::days(7);

/// Within so many days a customer is said to have come back or not.
const HORIZONS: [u32; 2] = [90, 365];

/// What a page is about.
#[derive(Debug, Clone)]
pub struct Contents {
    /// With its series, loyalty and funnel.
    pub report: Report,
    /// What the figures are compared with under “What changed”.
    pub before: Before,
    /// What stands in no [`Report`]; the shops are in the same order.
    pub more: Vec<More>,
    /// From when on a figure is alarming.
    pub alarms: Vec<Alarm>,
    /// What was open at the moment of the report.
    pub alerts: Vec<store::Alert>,
}

/// What a report is compared with.
#[derive(Debug, Clone)]
pub enum Before {
    /// The stretch of time before, as each figure is ([`super::ShopReport::before`]).
    Stretch,
    /// What the last report that was mailed knew.
    Last(Report),
    /// The same window as it was known a week before.
    Week(Report),
}

/// What the page shows of a shop besides its figures.
#[derive(Debug, Clone, PartialEq)]
pub struct More {
    /// The time to the second order, of first orders of the window.
    pub second_order: Option<SecondOrder>,
}

/// When customers come back for the first time (Kaplan and Meier).
#[derive(Debug, Clone, PartialEq)]
pub struct SecondOrder {
    /// First orders it rests on.
    pub customers: u64,
    /// Of these, how many were followed by another one.
    pub returned: u64,
    pub median: Median,
    /// After so many days, how many have come back; `None`: nobody was watched for so long.
    pub by: [(u32, Option<Returned>); 2],
}

/// From when on a figure is alarming.
#[derive(Debug, Clone, PartialEq)]
pub struct Alarm {
    /// Of this shop; `None`: of all.
    pub shop: Option<String>,
    /// The key of the metric, or `third_party_score`.
    pub metric: String,
    /// Of this source; `None`: of all.
    pub source: Option<String>,
    /// In the unit of the figure.
    pub below: f64,
}

/// Which report is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scope {
    pub window: Window,
    /// As [`Asked::frozen`].
    pub frozen: bool,
    /// The report that its readers have had before.
    pub last: Option<Last>,
}

/// A report that somebody has had.
#[derive(Debug, Clone, Copy)]
pub struct Last {
    pub window: Window,
    pub as_of: DateTime<Utc>,
}

/// Reads everything that a page shows, as of a moment.
///
/// # Errors
/// When the window is empty, or the database does not answer.
pub async fn gather(
    context: &Context,
    shops: &[(ShopId, &Shop)],
    scope: Scope,
    as_of: DateTime<Utc>,
) -> anyhow::Result<Contents> {
    let Context { pool, config, .. } = context;
    let Scope { window, frozen, .. } = scope;
    let surveys = &config.surveys;
    let mut more = Vec::with_capacity(shops.len());
    let mut ways = Vec::with_capacity(shops.len());
    let mut longest = 0;
    let mut snapshot = super::begin(pool).await?;
    for (id, shop) in shops {
        let surveys = super::of_shop(shop, surveys);
        let span = window.span(shop.timezone, as_of)?;
        let subject = Subject { shop: *id, zone: shop.timezone, surveys: &surveys, span };
        longest = longest.max(days(&mut snapshot, &subject).await?);
        more.push(More { second_order: second_order(&mut snapshot, *id, span).await? });
        let loyalty = loyalty::count(&mut snapshot, &subject).await?;
        ways.push((loyalty, funnel::count(&mut snapshot, &subject).await?));
    }
    let by = Some(period_for(longest));
    let targets_of_shop: BTreeMap<_, _> =
        shops.iter().map(|(_, shop)| (shop.key.clone(), config.targets(&shop.key))).collect();
    let asked = Asked { window, by, frozen, targets_of_shop, ..Asked::default() };
    let mut report = super::report_of(&mut snapshot, shops, surveys, &asked, as_of).await?;
    // Who comes back and how far the orders came are counted from the rows in any case.
    for (shop, (loyalty, funnel)) in report.shops.iter_mut().zip(ways) {
        (shop.loyalty, shop.funnel) = (Some(loyalty), Some(funnel));
    }
    let before = before(&mut snapshot, shops, surveys, scope, as_of).await?;
    snapshot.commit().await?;
    let keys: Vec<_> = shops.iter().map(|(id, _)| id.0).collect();
    let alerts = store::open_at(pool, &keys, as_of).await?;
    Ok(Contents { report, before, more, alarms: alarms(config), alerts })
}

/// From when on the scores of other sites are alarming.
fn alarms(config: &Config) -> Vec<Alarm> {
    let of_score = config.alerts.iter().filter_map(|rule| match (&rule.subject, rule.condition) {
        (rule::Subject::Score(source), Condition::Below(below)) => Some((rule, source, below)),
        _ => None,
    });
    of_score
        .flat_map(|(rule, source, below)| {
            let shops = match &rule.shops {
                None => vec![None],
                Some(shops) => shops.iter().cloned().map(Some).collect(),
            };
            let metric = rule::THIRD_PARTY_SCORE.to_owned();
            let alarm =
                move |shop| Alarm { shop, metric: metric.clone(), source: Some(source.clone()), below };
            shops.into_iter().map(alarm)
        })
        .collect()
}

/// What the page is compared with: the report that its readers have had before; else the stretch before, if the window has both ends; else
/// what the last report that was mailed about these shops knew, and what was known a week ago where there was none.
async fn before(
    snapshot: &mut PgConnection,
    shops: &[(ShopId, &Shop)],
    surveys: &[Survey],
    scope: Scope,
    as_of: DateTime<Utc>,
) -> anyhow::Result<Before> {
    let Scope { window, frozen, last } = scope;
    let (window, as_of, named): (_, _, fn(Report) -> Before) = if let Some(last) = last {
        (last.window, last.as_of, Before::Last)
    } else if window.from.is_some() && window.to.is_some() {
        return Ok(Before::Stretch);
    } else {
        let keys: Vec<_> = shops.iter().map(|(_, shop)| shop.key.clone()).collect();
        match letters::last(&mut *snapshot, &keys, None, as_of).await? {
            Some(last) => (window, last, Before::Last),
            None => (window, as_of - WEEK, Before::Week),
        }
    };
    let asked = Asked { window, frozen, bare: true, ..Asked::default() };
    Ok(named(super::report_of(snapshot, shops, surveys, &asked, as_of).await?))
}

/// How many days the window has in which there is something.
async fn days(conn: &mut PgConnection, subject: &Subject<'_>) -> sqlx::Result<i64> {
    let Span { from, to, as_of } = subject.span;
    let first = match from {
        Some(from) => Some(day_of(from, subject.zone)),
        None => series::first_day(conn, subject).await?,
    };
    let last = day_of(to.map_or(as_of, |to| to.min(as_of)), subject.zone);
    Ok(first.map_or(0, |first| (last - first).num_days()))
}

/// By what a window of so many days is cut, so that there are neither too few points to see a course nor too many to see anything.
fn period_for(days: i64) -> Period {
    match days {
        ..=20 => Period::Day,
        21..=300 => Period::Week,
        301..=3_000 => Period::Month,
        _ => Period::Quarter,
    }
}

/// How long after their first order, if it is in the window, customers ordered again, or have not so far.
async fn second_order(
    conn: &mut PgConnection,
    shop: ShopId,
    span: Span,
) -> sqlx::Result<Option<SecondOrder>> {
    // Whoever has not come back is watched up to the moment of the report.
    let rows = sqlx::query!(
        r#"select floor(extract(epoch from coalesce(next_at, $2) - ordered_at) / 86400)::int as "days!",
                  count(next_at) as "returned!", count(*) filter (where next_at is null) as "away!"
           from (
               select ordered_at, lead(ordered_at) over customers as next_at, row_number() over customers as n
               from "order"
               where shop_id = $1 and status not in ('cancelled', 'refunded') and ordered_at <= $2
               -- Of two orders of one moment it does not matter which is the first.
               window customers as (partition by customer_id order by ordered_at)
           ) as o
           where n = 1 and ($3::timestamptz is null or ordered_at >= $3) and ($4::timestamptz is null or ordered_at < $4)
           group by 1"#,
        shop.0,
        span.as_of,
        span.from,
        span.to,
    )
    .fetch_all(conn)
    .await?;
    let count = |n: i64| u64::try_from(n).unwrap_or_default();
    let spells: Vec<_> = rows
        .iter()
        .map(|row| Spell {
            days: u32::try_from(row.days).unwrap_or_default(),
            returned: count(row.returned),
            away: count(row.away),
        })
        .collect();
    Ok(survival::kaplan_meier(&spells).map(|curve| SecondOrder {
        customers: spells.iter().map(|spell| spell.returned + spell.away).sum(),
        returned: spells.iter().map(|spell| spell.returned).sum(),
        median: curve.median(),
        by: HORIZONS.map(|day| (day, curve.returned_by(day))),
    }))
}

/// Who reads the page.
#[derive(Clone, Copy)]
struct Reader<'a> {
    words: &'a Words,
    /// The built-in words of mails and pages, in the reader's language: for the choices of a survey, and for alerts.
    built_in: &'a mail::templates::words::Words,
    surveys: &'a [Survey],
}

/// The page, in the language of this locale if there is one, else in English.
///
/// # Errors
/// When the template and the contents do not fit; a test renders every case there is.
pub fn render(contents: &Contents, context: &Context, locale: Option<&Locale>) -> anyhow::Result<String> {
    written(&view::Page::of(contents, reader(context, locale)?))
}

fn reader<'a>(context: &'a Context, locale: Option<&Locale>) -> anyhow::Result<Reader<'a>> {
    let words = words::words(locale)?;
    let language = Locale::parse(&words.language).map_err(anyhow::Error::msg)?;
    let (_, interface) = context.templates.language(Some(&language), &language);
    Ok(Reader { words, built_in: interface, surveys: &context.config.surveys })
}

/// The mail with the page attached, in the language of this locale if the report has it, else in English.
///
/// # Errors
/// As [`render`].
pub fn letter(
    contents: &Contents,
    context: &Context,
    letterhead: &Shop,
    locale: &Locale,
    job: &str,
) -> anyhow::Result<Letter> {
    let reader = reader(context, Some(locale))?;
    let page = view::Page::of(contents, reader);
    let day = contents.report.as_of.with_timezone(&letterhead.timezone).format("%F");
    let language = Locale::parse(&reader.words.language).map_err(anyhow::Error::msg)?;
    let view = ReportMail {
        locale: language.to_string(),
        direction: Direction::of(&language),
        shop: ShopView { name: clean(&letterhead.name, 100), ..ShopView::of(letterhead) },
        palette: Palette::of(&letterhead.color),
        title: clean(&page.names(), 100),
        as_of: page.as_of().to_owned(),
        shops: page.in_short(),
        attached: format!("afterword-{day}.html"),
        job: job.to_owned(),
    };
    let texts = context.templates.mail(&language, &view)?;
    Ok(Letter {
        what: "report",
        texts,
        attached: Some(Attached { file: view.attached, page: written(&page)? }),
        job: view.job,
        shops: contents.report.shops.iter().map(|shop| shop.shop.clone()).collect(),
        as_of: contents.report.as_of,
    })
}

fn written(page: &view::Page<'_>) -> anyhow::Result<String> {
    templates()?.render("page", page).context("writing the report as HTML")
}

fn templates() -> anyhow::Result<Handlebars<'static>> {
    let mut templates = Handlebars::new();
    templates.set_strict_mode(true);
    for (name, text) in PARTS.into_iter().chain([("page", PAGE)]) {
        templates
            .register_template_string(name, text)
            .with_context(|| format!("reading the template {name} of the report"))?;
    }
    Ok(templates)
}

/// By which a Content-Security-Policy knows the page's stylesheet: `'sha256-…'`.
pub fn style_hash() -> &'static str {
    static HASH: LazyLock<String> =
        LazyLock::new(|| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(STYLE))));
    &HASH
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::mail::templates::palette::contrast_of;

    #[test]
    fn a_course_has_a_number_of_points_that_can_be_seen() {
        let check = |days, period, most: i64| {
            assert_eq!(period_for(days), period, "{days} days");
            let each = match period {
                Period::Day => 1,
                Period::Week => 7,
                Period::Month => 30,
                _ => 91,
            };
            assert!(days / each <= most, "{days} days");
        };
        check(0, Period::Day, 20);
        check(20, Period::Day, 20);
        check(28, Period::Week, 43);
        check(300, Period::Week, 43);
        check(365, Period::Month, 100);
        check(3_000, Period::Month, 100);
        check(7_300, Period::Quarter, 100);
    }

    /// The variables of the stylesheet, by name.
    fn colours(css: &str) -> BTreeMap<&str, &str> {
        let values = css.split("--").filter_map(|rest| rest.split_once(": "));
        values
            .filter_map(|(name, value)| Some((name, value.get(..7)?)))
            .filter(|(_, v)| v.starts_with('#'))
            .collect()
    }

    #[test]
    fn everything_on_the_page_can_be_read_in_light_and_dark() {
        let (light, rest) = STYLE.split_once("@media screen and (prefers-color-scheme: dark)").unwrap();
        let dark = rest.split_once("\n}\n").unwrap().0;
        for (scheme, css) in [("light", light), ("dark", dark)] {
            let colours = colours(css);
            let check = |ink: &str, paper: &str, wanted: f64| {
                let contrast = contrast_of(colours[ink], colours[paper]).unwrap();
                assert!(contrast >= wanted, "{scheme}: {ink} on {paper}: {contrast:.2}");
            };
            for paper in ["paper", "card"] {
                for ink in ["ink", "text", "quiet", "accent", "mark", "good", "bad"] {
                    check(ink, paper, 4.5);
                }
            }
            for ink in ["ink", "text", "quiet"] {
                check(ink, "alarm-paper", 4.5);
            }
            for shade in 0..chart::SHADES {
                let ink = if shade < 4 { "on-light" } else { "on-dark" };
                check(ink, &format!("q{shade}"), 4.5);
            }
            // What is drawn and not written: WCAG 1.4.11 wants 3.
            for line in ["center", "limit"] {
                check(line, "card", 3.0);
            }
            check("accent", "band", 3.0);
        }
    }

    #[test]
    fn the_stylesheet_is_known_by_its_digest() {
        assert!(style_hash().starts_with("'sha256-") && style_hash().len() == 53);
        // What stands between the tags is what was digested.
        assert!(PAGE.contains("<style>{{{style}}}</style>"));
        assert!(!STYLE.contains("</"));
    }

    #[test]
    fn only_drawings_and_the_stylesheet_are_put_in_as_they_are() {
        let parts = PARTS.iter().map(|(_, text)| *text).chain([PAGE]);
        for text in parts {
            for raw in text.split("{{{").skip(1) {
                let name = raw.split("}}}").next().unwrap();
                assert!(["style", "gauge", "svg"].contains(&name), "{name}");
            }
        }
    }
}
