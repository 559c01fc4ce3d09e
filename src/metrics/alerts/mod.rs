//! Alerts: what calls for somebody's attention, told once, told again while it lasts, and closed when it is over.
//!
//! In: the rules of jobs.toml and the figures of a night that is frozen. Out: rows in `alert`, and a row in `alert_delivery` for everybody
//! who is to be told, written in the same transaction; [`deliver`] sends these. What a rule looks for is in [`rule`] (pure), what is said
//! of it in [`words`] (pure).
//!
//! A night that is looked at twice, or by two at once, changes nothing the second time: a unique index lets one alert be open for a
//! rule, a shop and a value of a segment, and whoever has not opened, closed or reminded of it tells nobody. If we die before the
//! transaction, the next run looks again; if we die after it, the next run delivers.

pub mod rule;
pub mod words;
pub mod store;
pub mod deliver;
mod mail;
mod webhook;

use chrono::{DateTime, Days, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};

use self::rule::{Condition, Now, Rule, Subject, Week, What};
use super::control_chart::Side;
use super::facts::{self, Fact, Tallied};
use super::period::{Period, Stretch};
use super::rollup::{self, FrozenPeriod, House};
use super::segment::Segment;
use super::series::{self, Score, Subject as Counted};
use super::window::{Span, day_of};
use super::{Counting, Metric, RIPE_AFTER};
use crate::config::Notify;

/// What a rule has found, with what has to be known to read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Found {
    pub metric: String,
    /// The third party whose score it is.
    pub source: Option<String>,
    /// By what orders are told apart; absent: all orders.
    pub segment: Option<String>,
    /// Empty: the order does not say.
    pub segment_value: String,
    /// How many days were looked at.
    pub days: u16,
    /// The last of them.
    pub last_day: NaiveDate,
    #[serde(flatten)]
    pub what: What,
}

/// What a look at a shop's night came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Looked {
    pub n_opened: u64,
    pub n_reminded: u64,
    pub n_closed: u64,
    /// Alerts that are open now.
    pub n_open: u64,
}

/// What a rule sees in one value of its segment.
struct Seen<'a> {
    rule: &'a Rule,
    segment_value: String,
    now: Now,
    last_day: NaiveDate,
}

impl Seen<'_> {
    fn found(&self, what: &What) -> Found {
        let source = match &self.rule.subject {
            Subject::Score(source) => Some(source.clone()),
            Subject::Metric(_) | Subject::Volume(_) => None,
        };
        Found {
            metric: self.rule.subject.key().to_owned(),
            source,
            segment: self.rule.by.as_ref().map(ToString::to_string),
            segment_value: self.segment_value.clone(),
            days: self.rule.days,
            last_day: self.last_day,
            what: what.clone(),
        }
    }
}

/// Looks at a shop's figures as they were frozen, and opens, reminds of and closes alerts.
///
/// # Errors
/// When the database does not answer; then nothing was changed.
pub async fn look(
    pool: &PgPool,
    house: House<'_>,
    rules: &[Rule],
    notify: &Notify,
    frozen_at: DateTime<Utc>,
) -> anyhow::Result<Looked> {
    let rules: Vec<&Rule> = rules.iter().filter(|rule| rule.is_for(&house.config.key)).collect();
    let mut snapshot = super::begin(pool).await?;
    let mut seen = Vec::new();
    for rule in &rules {
        seen.extend(see(&mut snapshot, house, rule, frozen_at).await?);
    }
    snapshot.commit().await?;
    let mut looked = Looked::default();
    let mut transaction = pool.begin().await?;
    let conn = &mut *transaction;
    // A rule that is gone, or is about something else now, will never say that what it found is over.
    store::close_those_without_rule(conn, house.shop, &rules, frozen_at).await?;
    for seen in &seen {
        let (name, value) = (seen.rule.name.as_str(), seen.segment_value.as_str());
        match &seen.now {
            Now::Silent => {}
            Now::Beyond(what) => {
                let found = seen.found(what);
                let opened = store::open(conn, house.shop, name, &found, frozen_at).await?;
                if let Some(alert) = opened {
                    looked.n_opened += 1;
                    store::tell(conn, house.shop, &[alert], store::Occasion::Opened, notify, frozen_at)
                        .await?;
                } else {
                    store::see_again(conn, house.shop, (name, value), &found, frozen_at).await?;
                }
            }
            Now::Between(what) => {
                store::see_again(conn, house.shop, (name, value), &seen.found(what), frozen_at).await?;
            }
            Now::Back(what) => {
                let closed =
                    store::close(conn, house.shop, (name, value), &seen.found(what), frozen_at).await?;
                looked.n_closed += closed.len() as u64;
                store::tell(conn, house.shop, &closed, store::Occasion::Closed, notify, frozen_at).await?;
            }
        }
    }
    if let Some(after) = notify.remind_after {
        let due = store::remind(conn, house.shop, after, frozen_at).await?;
        looked.n_reminded = due.len() as u64;
        store::tell(conn, house.shop, &due, store::Occasion::Reminder, notify, frozen_at).await?;
    }
    looked.n_open = store::n_open(&mut *conn, house.shop).await?;
    transaction.commit().await?;
    Ok(looked)
}

/// What a rule sees: once, or for each value of its segment.
async fn see<'a>(
    conn: &mut PgConnection,
    house: House<'_>,
    rule: &'a Rule,
    frozen_at: DateTime<Utc>,
) -> sqlx::Result<Vec<Seen<'a>>> {
    let zone = house.config.timezone;
    let surveys = super::of_shop(house.config, house.surveys);
    let span = Span { from: None, to: None, as_of: frozen_at };
    let counted = Counted { shop: house.shop, zone, surveys: &surveys, span };
    // Today is not over, and what ripens takes longer.
    let yesterday = day_of(frozen_at, zone) - Days::new(1);
    let last_day = if rule.subject.ripens() { yesterday - RIPE_AFTER } else { yesterday };
    let window = Period::Rolling(rule.days).around(last_day);
    let limit = match rule.condition {
        Condition::Below(limit) => Some((Side::Below, limit)),
        Condition::Above(limit) => Some((Side::Above, limit)),
        Condition::Falling | Condition::Rising | Condition::Shift => None,
    };
    let one =
        |now: Now, last_day: NaiveDate| vec![Seen { rule, segment_value: String::new(), now, last_day }];
    match (&rule.subject, limit) {
        (Subject::Score(source), Some(limit)) => {
            let all = rollup::scores(conn, &counted, frozen_at).await?;
            let scores: Vec<_> = all
                .into_iter()
                .filter(|(of, score)| of == source && window.first_day <= score.rated_on)
                .map(|(_, score)| score)
                .collect();
            Ok(one(rule::score(&scores, limit), last_day))
        }
        (Subject::Metric(key), Some(limit)) => {
            // The configuration sees to it that there is such a metric.
            let Some(metric) = Metric::named(key) else { return Ok(Vec::new()) };
            let tallied = over(conn, &counted, metric, window, rule.by.as_ref()).await?;
            let counts = |tallied: &Tallied| metric.counts(tallied, &surveys, Fact::Answer);
            let values: Vec<_> =
                tallied.iter().map(|(value, tallied)| (value.clone(), counts(tallied))).collect();
            if rule.by.is_some() {
                let judged = rule::limits(values, limit, rule.min_answers);
                let seen = judged.into_iter().map(|(segment_value, now)| Seen {
                    rule,
                    segment_value,
                    now,
                    last_day,
                });
                return Ok(seen.collect());
            }
            let now = values
                .first()
                .map_or(Now::Silent, |(_, counts)| rule::limit(*counts, limit, rule.min_answers));
            Ok(one(now, last_day))
        }
        (Subject::Score(source), None) => {
            let Some(sunday) = last_sunday(last_day) else { return Ok(Vec::new()) };
            let all = rollup::scores(conn, &counted, frozen_at).await?;
            let scores: Vec<Score> =
                all.into_iter().filter(|(of, _)| of == source).map(|(_, score)| score).collect();
            let weeks = weeks_of_score(&scores, (rule.n_weeks(), sunday));
            Ok(one(rule::trend(&weeks, rule.condition == Condition::Falling, rule.min_answers), sunday))
        }
        (subject, _) => {
            let Some(sunday) = last_sunday(last_day) else { return Ok(Vec::new()) };
            let weeks = weeks(conn, &counted, subject, (rule.n_weeks(), sunday)).await?;
            let now = match rule.condition {
                Condition::Shift => rule::shift(&weeks, rule.min_answers),
                Condition::Falling => rule::trend(&weeks, true, rule.min_answers),
                Condition::Rising => rule::trend(&weeks, false, rule.min_answers),
                // Volumes have no limit; the configuration sees to it.
                Condition::Below(_) | Condition::Above(_) => Now::Silent,
            };
            Ok(one(now, sunday))
        }
    }
}

/// What a metric needs of a stretch of days, by the values of a segment (of none: under the empty text). Nights keep what days have, of all
/// orders together; customers, who do not add up, and segments are counted from the rows.
async fn over(
    conn: &mut PgConnection,
    counted: &Counted<'_>,
    metric: &Metric,
    window: Stretch,
    by: Option<&Segment>,
) -> sqlx::Result<Vec<(String, Tallied)>> {
    let Counted { shop, zone, surveys, span } = counted;
    let (from, to) = window.moments(*zone);
    let bucket = [series::whole(Span { from: Some(from), to: Some(to), ..*span })];
    let tallied = if let Counting::Customers(_) = metric.counting {
        let of_each = facts::customers(conn, *shop, &bucket, span.as_of, by).await?.into_iter();
        of_each.map(|(of, customers)| (of, Tallied { customers, ..Tallied::default() })).collect()
    } else if by.is_some() {
        facts::facts(conn, *shop, surveys, &bucket, span.as_of, by).await?
    } else {
        rollup::known_facts(conn, counted, span.as_of, &[window]).await?
    };
    Ok(tallied.into_iter().map(|((_, value), tallied)| (value, tallied)).collect())
}

/// The last Sunday that is not after this day.
fn last_sunday(day: NaiveDate) -> Option<NaiveDate> {
    let week = Period::Week.around(day);
    if week.last_day == day { Some(day) } else { week.first_day.pred_opt() }
}

/// So many weeks up to a Sunday, as they were frozen, without those that the shop was not there for from their beginning.
async fn weeks(
    conn: &mut PgConnection,
    counted: &Counted<'_>,
    subject: &Subject,
    (n, sunday): (usize, NaiveDate),
) -> sqlx::Result<Vec<Week>> {
    let frozen_at = counted.span.as_of;
    let Some(first_day) = rollup::first_day(conn, counted.shop, frozen_at).await? else {
        return Ok(Vec::new());
    };
    let first = sunday - Days::new(7 * n as u64 - 1);
    let mut stretches = Period::Week.between(first, sunday);
    stretches.retain(|week| first_day <= week.first_day);
    let known = rollup::known(conn, counted, frozen_at, FrozenPeriod::Week, &stretches).await?;
    let nothing = Tallied::default();
    let of = |n: usize| known.get(&(n, String::new())).unwrap_or(&nothing);
    Ok((0..stretches.len()).filter_map(|n| Week::of(subject, of(n), counted.surveys)).collect())
}

/// The last score of each of so many weeks up to a Sunday, without the weeks before the first score.
fn weeks_of_score(scores: &[Score], (n, sunday): (usize, NaiveDate)) -> Vec<Week> {
    let first = sunday - Days::new(7 * n as u64 - 1);
    let weeks = Period::Week.between(first, sunday).into_iter();
    let of = |week: &Stretch| {
        let in_it = |score: &&Score| (week.first_day..=week.last_day).contains(&score.rated_on);
        Week::Score(scores.iter().rfind(in_it).map(|score| score.score))
    };
    weeks
        .skip_while(|week| scores.first().is_none_or(|score| week.last_day < score.rated_on))
        .map(|week| of(&week))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_has_the_last_of_its_scores() {
        let score = |day: &str, score: f64| Score { rated_on: day.parse().unwrap(), score, ratings: None };
        let scores = [score("2026-02-11", 0.9), score("2026-02-15", 0.8), score("2026-03-02", 0.7)];
        let weeks = weeks_of_score(&scores, (5, "2026-03-08".parse().unwrap()));
        let expected = [Some(0.8), None, None, Some(0.7)].map(Week::Score);
        assert_eq!(weeks, expected, "the week of 2 February was before the first");
    }

    #[test]
    fn weeks_end_with_a_sunday() {
        let sunday = |day: &str| last_sunday(day.parse().unwrap()).unwrap().to_string();
        assert_eq!(sunday("2026-03-01"), "2026-03-01");
        assert_eq!(sunday("2026-03-02"), "2026-03-01");
        assert_eq!(sunday("2026-03-07"), "2026-03-01");
        assert_eq!(sunday("2026-03-08"), "2026-03-08");
    }
}
