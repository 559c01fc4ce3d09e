//! The figures as they were known: what each day has is counted once, at night, and kept with from when to when it was known.
//!
//! In: what was written since the last time (`metric_change`, filled by triggers of the tables that are counted). Out: versions of rows in
//! `metric_day`, `metric_month` and `metric_customers`, and a row in `metric_freeze`. The days that were touched are counted anew from the rows
//! themselves, by the same queries as series and as a rebuild of everything, so that there is one way to count; the customers of months and
//! years, of whom a night changes few, are those that were kept, and what the changed orders make of them (`changed.rs`). What a month has is
//! the sum of its days, and is kept too, so that reports of years do not add up days (`known.rs`). One transaction: if we die, nothing was
//! taken and nothing was written.
//!
//! A day knows no "as of": what is dated in the future counts on its day, and reports read the days up to theirs.

mod changed;
mod known;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use sqlx::{PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use self::changed::Changed;
pub(super) use self::known::{
    first_day, frozen_window, is_whole_periods, known, known_customers, known_facts, known_facts_before,
    last_freeze, scores,
};
use super::customers;
use super::facts::{self, Bucket, Customers, Fact, Key, Rules};
use super::period::{Period, Stretch};
use super::series::whole;
use super::window::{Span, day_of};
use crate::config::Shop;
use crate::db;
use crate::stop::go_on;
use crate::survey::Survey;
use crate::types::ShopId;

/// A kind of period in which customers are counted. The database's `metric_period`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, sqlx::Type)]
#[sqlx(type_name = "metric_period", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum FrozenPeriod {
    Day,
    Week,
    Month,
    Quarter,
    Year,
    /// All there is.
    Ever,
}

impl FrozenPeriod {
    /// All of them, in the order of the database.
    pub const ALL: [Self; 6] = [Self::Day, Self::Week, Self::Month, Self::Quarter, Self::Year, Self::Ever];

    /// Its twin in the calendar.
    pub(super) fn of(period: Period) -> Option<Self> {
        match period {
            Period::Day => Some(Self::Day),
            Period::Week => Some(Self::Week),
            Period::Month => Some(Self::Month),
            Period::Quarter => Some(Self::Quarter),
            Period::Year => Some(Self::Year),
            Period::Rolling(_) => None,
        }
    }
}

/// What a night's counting did in a shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Frozen {
    /// As of which the figures can be read again.
    pub frozen_at: DateTime<Utc>,
    /// Days that were counted.
    pub n_days: usize,
    /// Of these and of the periods that were counted: rows that are not what they were.
    pub n_changed: usize,
    /// Whether everything was counted: for the first time, or because jobs.toml or the zone says something else.
    pub everything: bool,
}

/// Somebody else is counting, or has counted as of later.
#[derive(Debug, thiserror::Error)]
pub enum NotNow {
    /// By another process.
    #[error("the figures of {0} are being counted by somebody else just now")]
    Busy(String),
    /// What was known earlier is not changed any more.
    #[error(
        "the figures of {shop} are frozen as of {frozen_at} already; they cannot be frozen as of {now}, which is not later"
    )]
    Earlier { shop: String, frozen_at: DateTime<Utc>, now: DateTime<Utc> },
}

/// A row that a full count finds to be another than the one that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub shop: String,
    /// What it counts.
    pub what: String,
    /// A day, or the first day of a period.
    pub on: NaiveDate,
    /// What is kept; null: nothing.
    pub kept: Option<String>,
    /// What there is; null: nothing.
    pub counted: Option<String>,
}

/// What is counted anew.
#[derive(Debug, Default)]
struct Touched {
    days: BTreeSet<NaiveDate>,
    /// Days on which customers ordered who may be others now.
    ordered: BTreeSet<NaiveDate>,
    /// By which orders; empty: by so many that all are counted.
    changed: Vec<Changed>,
}

impl Touched {
    fn add(&mut self, kind: &str, hour: Option<DateTime<Utc>>, day: Option<NaiveDate>, zone: Tz) {
        let days = if kind == "ordered" { &mut self.ordered } else { &mut self.days };
        days.extend(day);
        if let Some(hour) = hour {
            // A day may begin within the hour.
            days.insert(day_of(hour, zone));
            days.insert(day_of(hour + TimeDelta::hours(1) - TimeDelta::microseconds(1), zone));
        }
    }

    /// Of each kind, those that have such a day, in order.
    fn periods(&self, zone: Tz) -> Vec<OfKind> {
        if self.ordered.is_empty() {
            return Vec::new();
        }
        let of_kind = |period: Period| {
            let frozen = FrozenPeriod::of(period)?;
            let stretches: BTreeSet<_> = self.ordered.iter().map(|day| period.around(*day)).collect();
            let periods = stretches.into_iter();
            Some(periods.map(|stretch| ((frozen, stretch.first_day), bucket(stretch, zone))).collect())
        };
        let ever = BTreeMap::from([((FrozenPeriod::Ever, EVER), whole(everything()))]);
        Period::CALENDAR.into_iter().filter_map(of_kind).chain([ever]).collect()
    }
}

/// The first day of all there is.
const EVER: NaiveDate = match NaiveDate::from_ymd_opt(1, 1, 1) {
    Some(day) => day,
    None => NaiveDate::MIN,
};

/// What a night knows has no limit in time.
fn everything() -> Span {
    let far = whole(Span { from: None, to: None, as_of: DateTime::UNIX_EPOCH }).ends_at;
    Span { from: None, to: None, as_of: far }
}

fn bucket(stretch: Stretch, zone: Tz) -> Bucket {
    let (starts_at, ends_at) = stretch.moments(zone);
    Bucket { starts_at, ends_at }
}

/// Periods of one kind, in order.
type OfKind = BTreeMap<(FrozenPeriod, NaiveDate), Bucket>;

fn buckets_of(periods: &[OfKind]) -> Vec<Vec<Bucket>> {
    periods.iter().map(|of_kind| of_kind.values().copied().collect()).collect()
}

/// From so many changed orders on it is quicker to count all.
const FEW_CHANGES: i64 = 200_000;

/// What a shop's days have, or its months, by the first of the month.
type Days = BTreeMap<(NaiveDate, Key), i64>;
/// How many customers its periods have.
type Periods = BTreeMap<(FrozenPeriod, NaiveDate), Customers>;

/// All that a shop has, counted or kept.
struct Figures {
    days: Days,
    months: Days,
    customers: Periods,
}

/// What months have: the sum of what their days have. Scores do not add up.
fn months_of(days: &Days) -> Days {
    let mut months = Days::new();
    for ((day, key), n) in days.iter().filter(|((_, key), _)| key.fact != Fact::Score) {
        *months.entry((Period::Month.around(*day).first_day, key.clone())).or_default() += n;
    }
    months
}

/// A shop whose figures are frozen.
#[derive(Debug, Clone, Copy)]
pub struct House<'a> {
    pub shop: ShopId,
    pub config: &'a Shop,
    /// All surveys of jobs.toml.
    pub surveys: &'a [Survey],
}

impl House<'_> {
    fn surveys(&self) -> Vec<&Survey> {
        super::of_shop(self.config, self.surveys)
    }

    /// What of jobs.toml the facts depend on.
    fn digest(&self) -> Vec<u8> {
        // The debug form says all of it. Should it change, everything is counted once more, which changes nothing.
        let rules = format!("{} {:?}", self.config.timezone, Rules::of(&self.surveys()));
        Sha256::digest(rules.as_bytes()).to_vec()
    }
}

/// Counts what was touched since the last time, and freezes the figures as of now. `stop` is looked at between two queries.
///
/// # Errors
/// [`NotNow`], [`Stopped`](crate::stop::Stopped), or when the database does not answer.
pub async fn freeze(
    pool: &PgPool,
    house: House<'_>,
    now: DateTime<Utc>,
    stop: &CancellationToken,
) -> anyhow::Result<Frozen> {
    let mut tx = begin(pool, house, now).await?;
    let frozen = count_touched(&mut tx, house, now, stop).await?;
    tx.commit().await?;
    Ok(frozen)
}

/// Counts everything anew, after what was touched. Says what the nights had got wrong, and puts it right; with `check`, only says it.
///
/// # Errors
/// As [`freeze`].
pub async fn rebuild(
    pool: &PgPool,
    house: House<'_>,
    now: DateTime<Utc>,
    check: bool,
) -> anyhow::Result<(Frozen, Vec<Difference>)> {
    let unstopped = CancellationToken::new();
    let mut tx = begin(pool, house, now).await?;
    let mut frozen = count_touched(&mut tx, house, now, &unstopped).await?;
    if frozen.everything {
        // For the first time, or by other rules: there is nothing with which to compare.
        if check {
            tx.rollback().await?
        } else {
            tx.commit().await?
        }
        return Ok((frozen, Vec::new()));
    }
    let touched = all(&mut tx, house).await?;
    let kept = kept(&mut tx, house.shop).await?;
    let counted = count(&mut tx, house, &touched, &unstopped).await?;
    let (days, customers) = counted;
    let counted = Figures { months: months_of(&days), days, customers };
    let differences = differences(&house.config.key, &kept, &counted);
    if check {
        tx.rollback().await?;
    } else {
        if !differences.is_empty() {
            // A version that begins and ends in the same moment never was.
            discard(&mut tx, house.shop, now).await?;
            frozen.n_changed =
                keep(&mut tx, house.shop, &touched, &counted.days, &counted.customers, now).await?;
        }
        tx.commit().await?;
    }
    frozen.n_days = touched.days.len();
    frozen.everything = true;
    Ok((frozen, differences))
}

type Transaction = sqlx::Transaction<'static, sqlx::Postgres>;

async fn begin(pool: &PgPool, house: House<'_>, now: DateTime<Utc>) -> anyhow::Result<Transaction> {
    db::analyze_unknown(pool, &super::COUNTED).await?;
    let mut tx = pool.begin_with("begin isolation level repeatable read").await?;
    db::hold_fence(&mut tx).await?;
    db::lift_statement_timeout(&mut tx).await?;
    super::prepare_to_count(&mut tx).await?;
    let shop = &house.config.key;
    let is_ours = sqlx::query_scalar!(
        r#"select pg_try_advisory_xact_lock(hashtext('metrics'), $1) as "is_ours!""#,
        house.shop.0
    )
    .fetch_one(&mut *tx)
    .await?;
    anyhow::ensure!(is_ours, NotNow::Busy(shop.clone()));
    let last =
        sqlx::query_scalar!("select max(frozen_at) from metric_freeze where shop_id = $1", house.shop.0)
            .fetch_one(&mut *tx)
            .await?;
    if let Some(frozen_at) = last.filter(|last| *last >= now) {
        return Err(NotNow::Earlier { shop: shop.clone(), frozen_at, now }.into());
    }
    Ok(tx)
}

async fn count_touched(
    conn: &mut PgConnection,
    house: House<'_>,
    now: DateTime<Utc>,
    stop: &CancellationToken,
) -> anyhow::Result<Frozen> {
    let digest = house.digest();
    let rules = sqlx::query_scalar!(
        "select rules from metric_freeze where shop_id = $1 order by frozen_at desc limit 1",
        house.shop.0,
    )
    .fetch_optional(&mut *conn)
    .await?;
    let everything = rules.as_ref() != Some(&digest);
    let mut touched = Touched::default();
    let zone = house.config.timezone;
    if everything {
        sqlx::query!("delete from metric_change where shop_id = $1", house.shop.0)
            .execute(&mut *conn)
            .await?;
        touched = all(conn, house).await?;
    } else {
        let drained = sqlx::query_file!("src/metrics/rollup/drain.sql", house.shop.0, FEW_CHANGES);
        for row in drained.fetch_all(&mut *conn).await? {
            match (row.customer, row.moment, row.sign) {
                (Some(customer), Some(moment), Some(sign)) => {
                    touched.changed.push(Changed { customer, moment, more: sign.into() });
                }
                _ => touched.add(&row.kind, row.moment, row.day, zone),
            }
        }
    }
    let (days, customers) = count(conn, house, &touched, stop).await?;
    go_on(stop)?;
    let n_changed = keep(conn, house.shop, &touched, &days, &customers, now).await?;
    sqlx::query!(
        "insert into metric_freeze (shop_id, frozen_at, rules) values ($1, $2, $3)",
        house.shop.0,
        now,
        digest,
    )
    .execute(conn)
    .await?;
    Ok(Frozen { frozen_at: now, n_days: touched.days.len(), n_changed, everything })
}

async fn all(conn: &mut PgConnection, house: House<'_>) -> sqlx::Result<Touched> {
    let mut touched = Touched::default();
    let rows = sqlx::query_file!("src/metrics/rollup/all.sql", house.shop.0).fetch_all(conn).await?;
    rows.iter().for_each(|row| touched.add(&row.kind, row.moment, row.day, house.config.timezone));
    Ok(touched)
}

/// Counts what was touched, from the rows themselves.
async fn count(
    conn: &mut PgConnection,
    house: House<'_>,
    touched: &Touched,
    stop: &CancellationToken,
) -> anyhow::Result<(Days, Periods)> {
    go_on(stop)?;
    let zone = house.config.timezone;
    let surveys = house.surveys();
    let as_of = everything().as_of;
    let days: Vec<NaiveDate> = touched.days.iter().copied().collect();
    let buckets: Vec<_> = days.iter().map(|day| bucket(Period::Day.around(*day), zone)).collect();
    let mut counted = Days::new();
    for ((n, _), tallied) in facts::facts(conn, house.shop, &surveys, &buckets, as_of, None).await? {
        counted.extend(tallied.facts.into_iter().map(|(key, count)| ((days[n], key), count)));
    }
    let scores = sqlx::query!(
        r#"select rated_on, source, trim_scale(score / scale)::text as "share!", coalesce(ratings, -1) as "ratings!"
           from rating where shop_id = $1 and rated_on = any($2)"#,
        house.shop.0,
        &days,
    )
    .fetch_all(&mut *conn)
    .await?;
    for row in scores {
        let key = Key { fact: Fact::Score, survey: row.source, question: String::new(), value: row.share };
        counted.insert((row.rated_on, key), row.ratings);
    }
    go_on(stop)?;
    let periods = touched.periods(zone);
    let customers = match changed::customers(conn, house.shop, &touched.changed, &periods).await? {
        Some(customers) => customers,
        None if periods.is_empty() => Periods::new(),
        None => {
            let sets = buckets_of(&periods);
            let sets: Vec<_> = sets.iter().map(Vec::as_slice).collect();
            let found = customers::of_each(conn, house.shop, &sets, as_of).await?;
            let keys = periods.into_iter().flat_map(BTreeMap::into_keys);
            keys.zip(found.into_iter().flatten()).filter(|(_, of)| of.customers > 0).collect()
        }
    };
    Ok((counted, customers))
}

/// What is kept as the latest of what is known.
async fn kept(conn: &mut PgConnection, shop: ShopId) -> sqlx::Result<Figures> {
    let rows = sqlx::query!(
        r#"select day, fact as "fact: Fact", survey, question, value, n
           from metric_day where shop_id = $1 and known_to = 'infinity'"#,
        shop.0,
    )
    .fetch_all(&mut *conn)
    .await?;
    let days = rows.into_iter().map(|row| {
        let key = Key { fact: row.fact, survey: row.survey, question: row.question, value: row.value };
        ((row.day, key), row.n)
    });
    let days = days.collect();
    let rows = sqlx::query!(
        r#"select month, fact as "fact: Fact", survey, question, value, n
           from metric_month where shop_id = $1 and known_to = 'infinity'"#,
        shop.0,
    )
    .fetch_all(&mut *conn)
    .await?;
    let months = rows.into_iter().map(|row| {
        let key = Key { fact: row.fact, survey: row.survey, question: row.question, value: row.value };
        ((row.month, key), row.n)
    });
    let months = months.collect();
    let rows = sqlx::query!(
        r#"select period as "period: FrozenPeriod", starts_on, customers, "repeat", "returning"
           from metric_customers where shop_id = $1 and known_to = 'infinity'"#,
        shop.0,
    )
    .fetch_all(conn)
    .await?;
    let periods = rows.into_iter().map(|row| {
        let customers = Customers { customers: row.customers, repeat: row.repeat, returning: row.returning };
        ((row.period, row.starts_on), customers)
    });
    Ok(Figures { days, months, customers: periods.collect() })
}

/// Closes the versions that hold no more and begins the new ones. Comes back with how many began or ended.
async fn keep(
    conn: &mut PgConnection,
    shop: ShopId,
    touched: &Touched,
    days: &Days,
    customers: &Periods,
    now: DateTime<Utc>,
) -> sqlx::Result<usize> {
    let touched_days: Vec<_> = touched.days.iter().copied().collect();
    let of_day: Vec<_> = days.keys().map(|(day, _)| *day).collect();
    let facts: Vec<_> = days.keys().map(|(_, key)| key.fact).collect();
    let text = |of: fn(&Key) -> &String| days.keys().map(|(_, key)| of(key).clone()).collect::<Vec<_>>();
    let (surveys, questions, values) =
        (text(|key| &key.survey), text(|key| &key.question), text(|key| &key.value));
    let counts: Vec<_> = days.values().copied().collect();
    // `not in` is looked up in a hash, whatever the statistics say; a join of two histories that are taken for short ones would take minutes.
    let ended = sqlx::query!(
        "update metric_day d set known_to = $2
         where d.shop_id = $1 and d.known_to = 'infinity' and d.day = any($3)
           and (d.day, d.fact, d.survey, d.question, d.value, d.n) not in (
               select f.* from unnest($4::date[], $5::metric_fact[], $6::text[], $7::text[], $8::text[], $9::bigint[])
                   as f (day, fact, survey, question, value, n)
           )",
        shop.0,
        now,
        &touched_days,
        &of_day,
        &facts as &[Fact],
        &surveys,
        &questions,
        &values,
        &counts,
    )
    .execute(&mut *conn)
    .await?;
    // What is as it was has its row already. (To look for those first would be planned by statistics that the first night lacks.)
    let begun = sqlx::query!(
        "insert into metric_day (shop_id, day, fact, survey, question, value, n, known_from)
         select $1, f.*, $2
         from unnest($3::date[], $4::metric_fact[], $5::text[], $6::text[], $7::text[], $8::bigint[])
             as f (day, fact, survey, question, value, n)
         on conflict (shop_id, day, fact, survey, question, value) where known_to = 'infinity' do nothing",
        shop.0,
        now,
        &of_day,
        &facts as &[Fact],
        &surveys,
        &questions,
        &values,
        &counts,
    )
    .execute(&mut *conn)
    .await?;
    keep_months(conn, shop, touched, now).await?;
    let n_periods = keep_periods(conn, shop, touched, customers, now).await?;
    Ok(usize::try_from(ended.rows_affected() + begun.rows_affected()).unwrap_or(usize::MAX) + n_periods)
}

/// Adds up the months of the days that were touched, which are kept already.
async fn keep_months(
    conn: &mut PgConnection,
    shop: ShopId,
    touched: &Touched,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let months: BTreeSet<_> = touched.days.iter().map(|day| Period::Month.around(*day)).collect();
    let days: Vec<_> = months
        .iter()
        .flat_map(|month| month.first_day.iter_days().take_while(|day| *day <= month.last_day))
        .collect();
    let months: Vec<_> = months.iter().map(|month| month.first_day).collect();
    sqlx::query!(
        "update metric_month m set known_to = $2
         where m.shop_id = $1 and m.known_to = 'infinity' and m.month = any($3)
           and (m.month, m.fact, m.survey, m.question, m.value, m.n) not in (
               select date_trunc('month', day::timestamp)::date, fact, survey, question, value, sum(n)::bigint
               from metric_day
               where shop_id = $1 and known_to = 'infinity' and fact <> 'score' and day = any($4)
               group by 1, 2, 3, 4, 5
           )",
        shop.0,
        now,
        &months,
        &days,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "insert into metric_month (shop_id, month, fact, survey, question, value, n, known_from)
         select $1, date_trunc('month', day::timestamp)::date, fact, survey, question, value, sum(n)::bigint, $2
         from metric_day
         where shop_id = $1 and known_to = 'infinity' and fact <> 'score' and day = any($3)
         group by 2, 3, 4, 5, 6
         on conflict (shop_id, month, fact, survey, question, value) where known_to = 'infinity' do nothing",
        shop.0,
        now,
        &days,
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn keep_periods(
    conn: &mut PgConnection,
    shop: ShopId,
    touched: &Touched,
    periods: &Periods,
    now: DateTime<Utc>,
) -> sqlx::Result<usize> {
    // What has no customers any more is not among those that were counted.
    let (kinds, starts): (Vec<_>, Vec<_>) =
        touched.periods(Tz::UTC).into_iter().flat_map(BTreeMap::into_keys).unzip();
    let customers: Vec<_> =
        kinds.iter().zip(&starts).map(|(kind, start)| periods.get(&(*kind, *start)).copied()).collect();
    let column = |of: fn(Customers) -> i64| customers.iter().map(|c| c.map(of)).collect::<Vec<_>>();
    let (all, repeat, returning) = (column(|c| c.customers), column(|c| c.repeat), column(|c| c.returning));
    let ended = sqlx::query!(
        r#"update metric_customers c set known_to = $2
           from unnest($3::metric_period[], $4::date[], $5::bigint[], $6::bigint[], $7::bigint[])
               as f (period, starts_on, customers, "repeat", "returning")
           where c.shop_id = $1 and c.known_to = 'infinity' and (c.period, c.starts_on) = (f.period, f.starts_on)
             and (c.customers, c."repeat", c."returning") is distinct from (f.customers, f."repeat", f."returning")"#,
        shop.0,
        now,
        &kinds as &[FrozenPeriod],
        &starts,
        &all as &[Option<i64>],
        &repeat as &[Option<i64>],
        &returning as &[Option<i64>],
    )
    .execute(&mut *conn)
    .await?;
    let begun = sqlx::query!(
        r#"insert into metric_customers (shop_id, period, starts_on, customers, "repeat", "returning", known_from)
           select $1, f.*, $2
           from unnest($3::metric_period[], $4::date[], $5::bigint[], $6::bigint[], $7::bigint[])
               as f (period, starts_on, customers, "repeat", "returning")
           where f.customers is not null
           on conflict (shop_id, period, starts_on) where known_to = 'infinity' do nothing"#,
        shop.0,
        now,
        &kinds as &[FrozenPeriod],
        &starts,
        &all as &[Option<i64>],
        &repeat as &[Option<i64>],
        &returning as &[Option<i64>],
    )
    .execute(conn)
    .await?;
    Ok(usize::try_from(ended.rows_affected() + begun.rows_affected()).unwrap_or(usize::MAX))
}

/// Takes back what this run has written itself, so that it can be written otherwise: what it began goes, what it ended goes on.
async fn discard(conn: &mut PgConnection, shop: ShopId, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!("delete from metric_day where shop_id = $1 and known_from = $2", shop.0, now)
        .execute(&mut *conn)
        .await?;
    sqlx::query!(
        "update metric_day set known_to = 'infinity' where shop_id = $1 and known_to = $2",
        shop.0,
        now
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!("delete from metric_month where shop_id = $1 and known_from = $2", shop.0, now)
        .execute(&mut *conn)
        .await?;
    sqlx::query!(
        "update metric_month set known_to = 'infinity' where shop_id = $1 and known_to = $2",
        shop.0,
        now
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!("delete from metric_customers where shop_id = $1 and known_from = $2", shop.0, now)
        .execute(&mut *conn)
        .await?;
    sqlx::query!(
        "update metric_customers set known_to = 'infinity' where shop_id = $1 and known_to = $2",
        shop.0,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

fn differences(shop: &str, kept: &Figures, counted: &Figures) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut differ = |what: String, on: NaiveDate, kept: Option<String>, counted: Option<String>| {
        if kept != counted {
            found.push(Difference { shop: shop.to_owned(), what, on, kept, counted });
        }
    };
    for (of, kept, counted) in
        [("", &kept.days, &counted.days), ("of the month", &kept.months, &counted.months)]
    {
        for key in kept.keys().chain(counted.keys()).collect::<BTreeSet<_>>() {
            let (on, Key { fact, survey, question, value }) = key;
            let fact = format!("{fact:?}");
            let parts = [fact.as_str(), survey, question, value, of];
            let what = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
            let n = |days: &Days| days.get(key).map(ToString::to_string);
            differ(what, *on, n(kept), n(counted));
        }
    }
    for of in kept.customers.keys().chain(counted.customers.keys()).collect::<BTreeSet<_>>() {
        let in_words = |periods: &Periods| {
            let Customers { customers, repeat, returning } = periods.get(of)?;
            Some(format!("{customers}, {repeat} repeat, {returning} returning"))
        };
        let what = format!("customers of the {:?}", of.0).to_lowercase();
        differ(what, of.1, in_words(&kept.customers), in_words(&counted.customers));
    }
    found
}
