//! `afterword report`

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::{Exit, Global, output};
use crate::metrics::funnel::Funnel;
use crate::metrics::loyalty::Loyalty;
use crate::metrics::period::Period;
use crate::metrics::segment::Segment;
use crate::metrics::series::{BySegment, FEW, Series};
use crate::metrics::window::Bound;
use crate::metrics::{self, Asked, Figures, METRICS, Report, report as page};
use crate::new_file::NewFile;
use crate::types::Locale;

/// The indicators, with their intervals
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afterword report
  afterword report --shop maison --from 2026-01-01 --to 2026-04-01
  afterword report --as-of 2026-03-31T22:00:00Z --json
  afterword report --by month --from 2026-01-01
  afterword report --segment country
  afterword report --from 2026-03-01 --to 2026-04-01 --target recommendation_rate=0.85
  afterword report --html report.html --locale fr

The window goes from --from up to but without --to; a date is the first moment of that day in the zone of each shop. Answers
count by when they were given, orders by when they were placed. With --as-of, what came later is not known; from the first run
of `compute_metrics` on, a report with --as-of of all time, or of one day, week, month, quarter or year, also with --by, is what the
last night before knew (\"frozen\"), and stays so whatever is cancelled, erased or brought in later.
Answers that a program seems to have sent (suspects) do not count; \"with suspects\" stands beside a figure that they would change.
With --from, each figure is compared with the one of the stretch before: of a day, week, month, quarter or year the one before,
else as much time. The answers are also weighted to look like all orders that were due to be asked about, answered or not.
Exit code: 0 done, 1 failed or (with --fail-on-alert) an alert is open, 2 no such shop or an empty window.")]
pub struct Args {
    /// Only this shop
    #[arg(long, value_name = "KEY")]
    shop: Option<String>,
    /// From this day or moment on; without it: everything
    #[arg(long, value_name = "T")]
    from: Option<Bound>,
    /// Before this day or moment
    #[arg(long, value_name = "T")]
    to: Option<Bound>,
    /// Also the figures of each day, week, month, quarter, year, or of the last so many days (28d)
    #[arg(long, value_name = "PERIOD")]
    by: Option<Period>,
    /// Also the figures of each country, locale, product, `new_or_returning`, or `attributes.<name>`
    #[arg(long, value_name = "SEGMENT")]
    segment: Option<Segment>,
    /// Also who comes back: by the month of the first order, after how long, and by what they had said
    #[arg(long)]
    loyalty: bool,
    /// Also how far the orders came: due, mailed, delivered, answered, commented, free to be published
    #[arg(long)]
    funnel: bool,
    /// End with 1 when an alert is open now, and say which
    #[arg(long)]
    fail_on_alert: bool,
    /// Also how a figure stands against a target: a share such as `recommendation_rate=0.85`, or `nps=40`; else against the limit of
    /// its `[[alert]]`
    #[arg(long = "target", value_name = "METRIC=VALUE", value_parser = target)]
    targets: Vec<(String, f64)>,
    /// Of each customer only the latest answer, in the window and in each period
    #[arg(long, conflicts_with = "segment")]
    one_per_customer: bool,
    /// Write a page that stands by itself
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// The language of that page: en or fr; without it, the first shop's
    #[arg(long, value_name = "LOCALE", requires = "html", value_parser = Locale::parse)]
    locale: Option<Locale>,
}

impl Args {
    /// The first option that says nothing about the page.
    fn about_what_is_printed(&self) -> Option<&'static str> {
        let given = [
            ("--by", self.by.is_some()),
            ("--segment", self.segment.is_some()),
            ("--loyalty", self.loyalty),
            ("--funnel", self.funnel),
            ("--target", !self.targets.is_empty()),
            ("--one-per-customer", self.one_per_customer),
        ];
        given.into_iter().find(|(_, is_given)| *is_given).map(|(option, _)| option)
    }
}

fn target(text: &str) -> Result<(String, f64), String> {
    let (key, value) =
        text.split_once('=').ok_or("expected a metric and a value, as recommendation_rate=0.85")?;
    let metric = METRICS.iter().find(|metric| metric.key == key).ok_or_else(|| {
        let keys: Vec<_> = METRICS.iter().map(|metric| metric.key).collect();
        format!("there is no “{key}”; there are {}", keys.join(", "))
    })?;
    let (low, high) = metric.unit.range();
    let value = value.parse().ok().filter(|value| (low..=high).contains(value));
    Ok((key.to_owned(), value.ok_or_else(|| format!("expected a value from {low} to {high}"))?))
}

/// Runs the command.
///
/// # Errors
/// When the configuration or the database cannot be used, or the page cannot be written.
pub async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let opened = super::open(global).await?;
    let exit = report(&args, global, &opened.context.for_reading()).await;
    opened.close().await;
    exit
}

async fn report(args: &Args, global: &Global, context: &crate::context::Context) -> anyhow::Result<Exit> {
    let Some(shops) = super::shops(context, args.shop.as_deref()) else { return Ok(Exit::Usage) };
    let as_of = context.clock.now();
    let Some(window) = super::window(args.from, args.to, &shops, as_of) else { return Ok(Exit::Usage) };
    let asked = Asked {
        window,
        by: args.by,
        segment: args.segment.clone(),
        loyalty: args.loyalty,
        funnel: args.funnel,
        targets: args.targets.clone(),
        targets_of_shop: shops
            .iter()
            .map(|(_, shop)| (shop.key.clone(), context.config.targets(&shop.key)))
            .collect(),
        one_per_customer: args.one_per_customer,
        frozen: global.as_of.is_some(),
        bare: false,
    };
    if args.html.is_some()
        && !global.json
        && let Some(option) = args.about_what_is_printed()
    {
        output::say(&format!(
            "error: {option} is about the figures that are printed, and with --html only the page is written: leave it out, or have the figures too \
             with --json"
        ));
        return Ok(Exit::Usage);
    }
    if let Some(path) = &args.html {
        let contents =
            page::gather(context, &shops, page::Scope { window, frozen: asked.frozen, last: None }, as_of)
                .await?;
        let locale = args.locale.as_ref().or(shops.first().map(|(_, shop)| &shop.locale));
        write_page(&page::render(&contents, context, locale)?, path)?;
        output::say(&format!("The report is in {}.", path.display()));
    }
    if args.html.is_none() || global.json {
        let report = metrics::report(&context.pool, &shops, &context.config.surveys, asked, as_of).await?;
        if global.json {
            output::json(&report)?;
        } else {
            output::data(&in_tables(&report))?;
        }
    }
    if args.fail_on_alert && super::alerts::say_open(context, &shops).await? > 0 {
        return Ok(Exit::Failed);
    }
    Ok(Exit::Done)
}

fn write_page(page: &str, path: &Path) -> anyhow::Result<()> {
    let mut file = NewFile::create(path)?;
    file.write_all(page.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
    file.sync()?;
    Ok(file.publish()?)
}

fn in_tables(report: &Report) -> String {
    let mut text = String::new();
    for shop in &report.shops {
        let as_of = report.as_of.format("%Y-%m-%d %H:%M UTC");
        let window = page::in_words(shop);
        let rows = shop.metrics.iter().map(|(metric, figure)| {
            [metric.name.to_owned(), figure.value_text(), figure.interval_text(), figure.counted_text()]
        });
        let table = output::table(["Indicator", "Value", "95 % interval", "Counted"], rows);
        let words = in_words(&shop.metrics);
        let outbox = shop.outbox_in_words();
        let known = match shop.frozen_at {
            Some(at) => format!(" (frozen: as it was known at {})", at.format("%Y-%m-%d %H:%M UTC")),
            None => String::new(),
        };
        text.push_str(&format!(
            "{} ({}), {window},\nas of {as_of}{known}\n\n{table}\n{words}{}\n",
            output::plain(&shop.name),
            shop.shop,
            output::paragraph(&outbox)
        ));
        if let Some(series) = &shop.series {
            text.push_str(&by_period(series));
        }
        if let Some(segments) = &shop.segments {
            text.push_str(&by_segment(segments));
        }
        if let Some(loyalty) = &shop.loyalty {
            text.push_str(&who_comes_back(loyalty));
        }
        if let Some(funnel) = &shop.funnel {
            text.push_str(&how_far(funnel));
        }
    }
    text
}

/// What the figures say, a paragraph each.
fn in_words(figures: &Figures) -> String {
    let mut text = String::new();
    for (metric, figure) in figures.iter() {
        let with_suspects = figure.with_suspects_text().map(|text| format!("{text}."));
        let sentences = [Some(figure.verdict.clone()), with_suspects]
            .into_iter()
            .chain([
                figure.certainty.weighted_in_words(figure.unit),
                figure.certainty.bounds_in_words(figure.unit),
            ])
            .flatten();
        let said = sentences.collect::<Vec<_>>().join(" ");
        text.push_str(&output::paragraph(&format!("{}: {said}", metric.name)));
        text.push('\n');
    }
    text
}

/// A row per period; a period that is not complete has a star.
fn by_period(series: &Series) -> String {
    let Some(first) = series.points.first() else { return "No period has anything yet.\n\n".to_owned() };
    let names = first.metrics.iter().map(|(metric, _)| metric.name);
    let header = ["Period", "Orders", "Mails", "Answers", "Comments"].into_iter().chain(names);
    let rows = series.points.iter().map(|point| {
        let star = if point.complete { "" } else { "*" };
        let volumes = &point.volumes;
        let counts = [volumes.orders, volumes.mails_sent, volumes.answers, volumes.comments];
        let figures = point.metrics.iter().map(|(_, measure)| measure.value_text());
        let label = format!("{}{star}", point.label);
        [label].into_iter().chain(counts.map(|n| n.to_string())).chain(figures).collect()
    });
    let mut text = format!("By {}\n\n{}", series.period, output::wide_table(header, rows));
    text.push_str("* in the window only in part, or not over\n\n");
    let scores: Vec<_> = series
        .points
        .iter()
        .flat_map(|point| {
            point.third_party_scores.iter().map(|(source, score)| {
                let ratings = score.ratings.map(|n| n.to_string()).unwrap_or_default();
                let share = format!("{:.1} %", 100.0 * score.score);
                [point.label.clone(), source.clone(), share, ratings, score.rated_on.to_string()]
            })
        })
        .collect();
    if !scores.is_empty() {
        let header = ["Period", "Source", "Of its scale", "Ratings", "As of"];
        text.push_str(&format!("Scores on other sites\n\n{}\n", output::table(header, scores)));
    }
    let topics: Vec<_> = series
        .points
        .iter()
        .flat_map(|point| {
            point.topics.iter().map(|topic| {
                let of = format!("{} of {} unhappy", topic.n, topic.unhappy);
                [point.label.clone(), topic.survey.clone(), topic.question.clone(), topic.option.clone(), of]
            })
        })
        .collect();
    if !topics.is_empty() {
        let header = ["Period", "Survey", "Question", "Answer", "Given by"];
        text.push_str(&format!("What the unhappy name\n\n{}\n", output::table(header, topics)));
    }
    text
}

/// A block of rows per metric, the value of most first.
fn by_segment(segments: &BySegment) -> String {
    let name = segments.segment.to_string();
    let rows = segments.metrics.iter().flat_map(|(metric, values)| {
        values.iter().map(|value| {
            let measure = &value.measure;
            let few = if measure.denominator < FEW { " (few)" } else { "" };
            let of = if value.segment_value.is_empty() { "–" } else { &value.segment_value };
            let counted = format!("{} {}{few}", measure.denominator, metric.noun);
            [metric.name.to_owned(), of.to_owned(), measure.value_text(), measure.interval_text(), counted]
        })
    });
    let table = output::table(["Indicator", &name, "Value", "95 % interval", "Counted"], rows);
    format!("By {name}\n\n{table}\n")
}

fn who_comes_back(loyalty: &Loyalty) -> String {
    let n_months = loyalty.cohorts.iter().map(|cohort| cohort.ordered_again.len()).max().unwrap_or_default();
    let months: Vec<String> = (0..n_months).map(|n| format!("+{n}")).collect();
    let header = ["First order", "Customers"].into_iter().chain(months.iter().map(String::as_str));
    let rows = loyalty.cohorts.iter().map(|cohort| {
        let share = |again: &Option<i64>| match again {
            Some(again) => format!("{:.1} %", 100.0 * *again as f64 / cohort.customers as f64),
            None => String::new(),
        };
        let shares = cohort.ordered_again.iter().map(share);
        [cohort.month.clone(), cohort.customers.to_string()].into_iter().chain(shares).collect()
    });
    let table = output::wide_table(header, rows);
    let gaps = loyalty.days_to_next_order;
    let median = gaps.median.map_or_else(|| "–".to_owned(), |days| format!("{days:.1}"));
    let said = loyalty.repeat_by_answer.iter().map(|repeat| {
        let measure = &repeat.measure;
        [
            format!("{} ({})", repeat.answer, repeat.by),
            format!("{} days", repeat.days),
            measure.value_text(),
            measure.interval_text(),
            format!("{} of {}", measure.numerator, measure.denominator),
        ]
    });
    let said = output::table(["Customers who said", "Within", "Value", "95 % interval", "Counted"], said);
    format!(
        "Ordered again by the end of that many months after the one of the first order\n\n{table}\nMedian of the {} observed gaps \
         between two orders: {median} days\n\nOrdered again, by what they had said\n\n{said}\n",
        gaps.n
    )
}

fn how_far(funnel: &Funnel) -> String {
    let share = |n: i64, of: i64| {
        if of > 0 { format!("{:.1} %", 100.0 * n as f64 / of as f64) } else { "–".to_owned() }
    };
    let mut before = funnel.orders;
    let rows: Vec<_> = funnel
        .steps()
        .into_iter()
        .map(|(name, n)| {
            let row = [name.to_owned(), n.to_string(), share(n, before), share(n, funnel.orders)];
            before = n;
            row
        })
        .collect();
    format!(
        "How far the orders came\n\n{}\n",
        output::table(["Step", "Orders", "Of the step before", "Of all"], rows)
    )
}
