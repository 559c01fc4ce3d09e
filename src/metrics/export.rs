//! The way out: figures as CSV, a row per shop, metric, period and value of a segment.
//!
//! Read in one snapshot and written as they are read. Numbers are for programs: shares from 0 to 1, the net promoter score from −100 to
//! 100. A value of a segment that nobody asked about or answered for in a period has no row; a period without a segment always has one.

use std::io::Write;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::facts;
use super::figure::Measure;
use super::period::{Period, Stretch};
use super::segment::Segment;
use super::series::{self, Cut, Scores, Subject};
use super::window::Window;
use crate::config::Shop;
use crate::csv_rows::{guarded, rows_into, write_row};
use crate::survey::Survey;
use crate::types::ShopId;

/// The columns.
pub const COLUMNS: [&str; 12] = [
    "shop",
    "metric",
    "period",
    "starts_on",
    "ends_on",
    "segment",
    "segment_value",
    "numerator",
    "denominator",
    "value",
    "ci_low",
    "ci_high",
];

/// What to export.
#[derive(Debug, Clone)]
pub struct Export<'a> {
    /// Of these shops.
    pub shops: &'a [(ShopId, &'a Shop)],
    /// All surveys of jobs.toml.
    pub surveys: &'a [Survey],
    pub window: Window,
    pub by: Period,
    /// Besides the whole: each value of each of these.
    pub segments: &'a [Segment],
}

/// Writes the figures; comes back with how many rows they are.
///
/// # Errors
/// When the window is empty, the database does not answer, or the destination cannot be written.
pub async fn export_metrics(
    pool: &PgPool,
    export: &Export<'_>,
    as_of: DateTime<Utc>,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<u64> {
    let mut snapshot = super::begin(pool).await?;
    let mut rows = rows_into(out);
    write_row(&mut rows, COLUMNS).context("writing the figures")?;
    let mut n_rows = 0;
    for (shop, config) in export.shops {
        let surveys: Vec<_> = export.surveys.iter().filter(|survey| survey.is_for(&config.key)).collect();
        let span = export.window.span(config.timezone, as_of)?;
        let subject = Subject { shop: *shop, zone: config.timezone, surveys: &surveys, span };
        let first = series::first_day(&mut snapshot, &subject).await?;
        let Some(cut) = Cut::of(&subject, export.by, first) else { continue };
        let mut write = |metric: &str, stretch: Stretch, segment: [&str; 2], measure: Measured| {
            n_rows += 1;
            let [segment, value] = segment.map(guarded);
            let (label, starts_on) = (export.by.label(stretch), stretch.first_day.to_string());
            let fields =
                [&*config.key, metric, &label, &starts_on, &stretch.last_day.to_string(), &segment, &value];
            let fields = fields.into_iter().map(str::to_owned).chain(measure.fields());
            write_row(&mut rows, fields).context("writing the figures")
        };
        let whole = cut.tally(&mut snapshot, &subject, None).await?;
        let scores = Scores::of(&mut snapshot, &subject).await?;
        let nothing = facts::Tallied::default();
        for (n, stretch) in cut.stretches.iter().enumerate() {
            let tallied = whole.get(&(n, String::new())).unwrap_or(&nothing);
            for (metric, measure) in series::measures(tallied, &surveys).iter() {
                write(metric.key, *stretch, ["", ""], Measured::Figure(*measure))?;
            }
            for (source, score) in scores.on(stretch.last_day) {
                let score = Measured::Score { score: score.score, ratings: score.ratings };
                write("third_party_score", *stretch, ["source", &source], score)?;
            }
        }
        for segment in export.segments {
            let name = segment.to_string();
            for ((n, value), tallied) in cut.tally(&mut snapshot, &subject, Some(segment)).await? {
                for (metric, measure) in series::measures(&tallied, &surveys).iter() {
                    if measure.denominator > 0 {
                        write(metric.key, cut.stretches[n], [&name, &value], Measured::Figure(*measure))?;
                    }
                }
            }
        }
    }
    rows.flush().context("writing the figures")?;
    drop(rows);
    snapshot.commit().await?;
    Ok(n_rows)
}

/// What a row has in its last five columns.
enum Measured {
    Figure(Measure),
    /// Of a scale from 0 to 1, made of so many ratings.
    Score {
        score: f64,
        ratings: Option<i64>,
    },
}

impl Measured {
    fn fields(self) -> [String; 5] {
        let number = |n: Option<f64>| n.map(|n| n.to_string()).unwrap_or_default();
        match self {
            Self::Figure(Measure { numerator, denominator, value, ci_low, ci_high, .. }) => [
                numerator.to_string(),
                denominator.to_string(),
                number(value),
                number(ci_low),
                number(ci_high),
            ],
            Self::Score { score, ratings } => {
                let ratings = ratings.map(|n| n.to_string()).unwrap_or_default();
                [String::new(), ratings, number(Some(score)), String::new(), String::new()]
            }
        }
    }
}
