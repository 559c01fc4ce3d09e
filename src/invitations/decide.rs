//! Who is asked: one statement decides about every order of a shop that became due, another about every reminder, and both write why.
//!
//! Everything the decision needs is an argument or a row, so the same moment and the same rows give the same decision; a dry run is
//! the real statements, rolled back. A run looks at what became due or was imported since the last one, not at the whole history. Two
//! deciders at once wait for each other, because the throttle looks at what the other writes.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::Serialize;
use sqlx::PgConnection;
use sqlx::postgres::types::PgInterval;

use super::Reason;
use crate::survey::{Demand, Survey};
use crate::types::{ShopId, SurveyVersionId};

/// Before any shop's first order.
const BEGINNING: DateTime<Utc> = DateTime::UNIX_EPOCH;

/// What was decided, in figures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Decided {
    pub n_queued: u64,
    pub n_skipped: BTreeMap<Reason, u64>,
}

impl Decided {
    /// How many decisions that is.
    pub fn n(&self) -> u64 {
        self.n_queued + self.n_skipped.values().sum::<u64>()
    }

    fn note(&mut self, reason: Option<Reason>, n: i64) {
        let n = u64::try_from(n).unwrap_or_default();
        match reason {
            None => self.n_queued += n,
            Some(reason) => *self.n_skipped.entry(reason).or_default() += n,
        }
    }
}

/// What a decision is made with, beside the rows.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    pub shop: ShopId,
    pub timezone: Tz,
    pub survey: &'a Survey,
    /// What is asked.
    pub version: SurveyVersionId,
    /// Of the installation, so that nobody outside can tell who is in the sample.
    pub sampling_key: &'a [u8],
    /// What was due by then may have been asked by a past that a restored database does not know.
    pub asked_until: Option<DateTime<Utc>>,
    /// The surveys that wait for an event. They ask about something else than the order, so only the throttle stands between them and the
    /// others.
    pub by_event: &'a [String],
    pub now: DateTime<Utc>,
}

/// Decides about the first mail for every order that became due and has no decision yet.
///
/// # Errors
/// When the database does not answer.
pub async fn decide(conn: &mut PgConnection, terms: &Terms<'_>) -> anyhow::Result<Decided> {
    let Terms { shop, survey, now, .. } = *terms;
    // Read before the decision is made: what an import commits while we decide is looked at by the next run.
    let latest_import = latest_import(conn, shop).await?;
    let today = now.with_timezone(&terms.timezone).date_naive();
    let progress = progress(conn, shop, survey, today).await?;
    let room = survey.max_per_day.map(|cap| (i64::from(cap) - i64::from(progress.n_asked)).max(0));
    // A share of the 2^32 values that the first 32 bits of a hash can have.
    #[expect(clippy::cast_possible_truncation, reason = "the share lies between 0 and 1")]
    let threshold = (survey.sample * 4_294_967_296.0).round() as i64;
    let (countries, delays) = delays(survey);
    let all_delays = || survey.delay_by_country.values().chain([&survey.delay]);
    let (demanded, opposite) = demanded(survey);
    let counts = sqlx::query_file!(
        "src/invitations/decide.sql",
        shop.0,
        survey.key,
        terms.version.0,
        now,
        survey.trigger.kind(),
        interval(survey.delay),
        &countries,
        &delays,
        interval(survey.max_lateness),
        interval(survey.throttle),
        threshold,
        terms.sampling_key,
        progress.due_until,
        progress.import_run_id,
        all_delays().min().copied().map(interval),
        all_delays().max().copied().map(interval),
        demanded,
        &opposite,
        room,
        terms.asked_until,
        survey.trigger.event(),
        terms.by_event,
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut decided = Decided::default();
    for row in counts {
        decided.note(row.reason, row.n);
    }
    let reached = Progress {
        // Also when the clock was ahead once: what is due between then and now is looked at again, and has its decision.
        due_until: now,
        import_run_id: latest_import,
        n_asked: progress.n_asked.saturating_add(i32::try_from(decided.n_queued).unwrap_or(i32::MAX)),
    };
    note_progress(conn, shop, survey, today, &reached).await?;
    Ok(decided)
}

/// Decides about the next wave for every mail whose reminder became due.
///
/// # Errors
/// When the database does not answer.
pub async fn remind(conn: &mut PgConnection, terms: &Terms<'_>) -> anyhow::Result<Decided> {
    let survey = terms.survey;
    let (demanded, opposite) = demanded(survey);
    let counts = sqlx::query_file!(
        "src/invitations/remind.sql",
        terms.shop.0,
        survey.key,
        terms.now,
        i16::try_from(survey.reminders.len())?,
        !survey.trigger.needs_delivery(),
        interval(survey.max_lateness),
        terms.asked_until,
        demanded,
        &opposite,
    )
    .fetch_all(conn)
    .await?;
    let mut decided = Decided::default();
    for row in counts {
        decided.note(row.reason, row.n);
    }
    Ok(decided)
}

/// How far this survey has decided.
struct Progress {
    due_until: DateTime<Utc>,
    import_run_id: i64,
    /// On this day, in the shop's zone.
    n_asked: i32,
}

async fn progress(
    conn: &mut PgConnection,
    shop: ShopId,
    survey: &Survey,
    today: NaiveDate,
) -> sqlx::Result<Progress> {
    let known = sqlx::query!(
        r#"select rule, due_until, import_run_id, case when day = $3 then n_asked else 0 end as "n_asked!"
           from decided_until where shop_id = $1 and survey = $2"#,
        shop.0,
        survey.key,
        today,
    )
    .fetch_optional(conn)
    .await?;
    Ok(match known {
        Some(known) if known.rule == rule(survey) => Progress {
            due_until: known.due_until,
            import_run_id: known.import_run_id,
            n_asked: known.n_asked,
        },
        // What was asked today counts, by whichever rule.
        known => Progress {
            due_until: BEGINNING,
            import_run_id: 0,
            n_asked: known.map_or(0, |known| known.n_asked),
        },
    })
}

/// The number of the last import that can be seen. Imports of a shop are committed one after the other in the order of their numbers, so
/// all before it can be seen, too.
async fn latest_import(conn: &mut PgConnection, shop: ShopId) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select greatest(
               (select max(import_run_id) from "order" where shop_id = $1),
               (select max(import_run_id) from order_event where shop_id = $1),
               0
           ) as "latest!""#,
        shop.0
    )
    .fetch_one(conn)
    .await
}

async fn note_progress(
    conn: &mut PgConnection,
    shop: ShopId,
    survey: &Survey,
    today: NaiveDate,
    reached: &Progress,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into decided_until (shop_id, survey, rule, due_until, import_run_id, day, n_asked)
         values ($1, $2, $3, $4, $5, $6, $7)
         on conflict (shop_id, survey) do update
         set rule = excluded.rule, due_until = excluded.due_until, import_run_id = excluded.import_run_id,
             day = excluded.day, n_asked = excluded.n_asked",
        shop.0,
        survey.key,
        rule(survey),
        reached.due_until,
        reached.import_run_id,
        today,
        reached.n_asked,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// By what an order becomes due, in one text: when it changes, what was not due may be, whatever its age.
fn rule(survey: &Survey) -> String {
    let delays = survey.delay_by_country.iter().map(|(country, delay)| format!(" {country}={delay}"));
    let event = survey.trigger.event().unwrap_or_default();
    format!("{}{event} {}{}", survey.trigger.kind(), survey.delay, delays.collect::<String>())
}

/// The countries with a delay of their own, and these delays.
pub(super) fn delays(survey: &Survey) -> (Vec<String>, Vec<PgInterval>) {
    survey.delay_by_country.iter().map(|(country, delay)| (country.clone(), interval(*delay))).unzip()
}

/// Whether a yes is demanded, and the countries where the opposite holds.
pub(super) fn demanded(survey: &Survey) -> (bool, Vec<String>) {
    let usual = survey.consent.default;
    let opposite = survey.consent.by_country.iter().filter(|(_, demand)| **demand != usual);
    (usual == Demand::Consent, opposite.map(|(country, _)| country.clone()).collect())
}

pub(super) fn interval(delta: TimeDelta) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: delta.num_microseconds().unwrap_or(i64::MAX) }
}
