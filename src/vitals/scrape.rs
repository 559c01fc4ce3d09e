//! The figures, read at this moment.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};

use super::openmetrics::{Exposition, Kind};
use super::room;
use crate::context::Context;
use crate::db::again;
use crate::db::outage::Outage;
use crate::db::pools::Whose;
use crate::import::run::ImportKind;
use crate::invitations::InvitationState;
use crate::invitations::bounces::BounceKind;
use crate::invitations::outbox::AttemptOutcome;
use crate::invitations::relay;
use crate::jobs::ledger::{self, JobRunState};
use crate::jobs::overview;
use crate::metrics::alerts;
use crate::testimonials::unattended::{self, Waits};
use crate::types::ShopId;

const DAY: TimeDelta = TimeDelta::days(1);

/// What can become of an occurrence.
const SETTLED: [JobRunState; 5] = [
    JobRunState::Done,
    JobRunState::Partial,
    JobRunState::Failed,
    JobRunState::Skipped,
    JobRunState::Interrupted,
];

/// Counts, which are far from where a float loses ones.
#[expect(clippy::cast_precision_loss, reason = "no count comes near 2^53")]
fn float(n: impl TryInto<i64>) -> f64 {
    n.try_into().map_or(f64::MAX, |n| n as f64)
}

fn timestamp(moment: DateTime<Utc>) -> f64 {
    float(moment.timestamp_millis()) / 1000.0
}

/// All of them; while the database is at fault or has no connection left for us, those of this process. A job's label is `job_name`: `job` is Prometheus's own word for
/// what it asks.
pub(super) async fn text(context: &Context) -> anyhow::Result<String> {
    let now = context.clock.now();
    let mut out = Exposition::default();
    if let Err(error) = from_database(&mut out, context, now).await {
        if context.beside.outage.hear(&error).is_none() {
            return Err(error);
        }
        out = Exposition::default();
    }
    process(&mut out, context, now);
    Ok(out.finish())
}

async fn from_database(out: &mut Exposition, context: &Context, now: DateTime<Utc>) -> anyhow::Result<()> {
    jobs(out, context, now).await?;
    mails(out, context, now).await?;
    answers(out, context, now).await?;
    testimonials(out, context, now).await?;
    people(out, context).await
}

/// This process.
fn process(out: &mut Exposition, context: &Context, now: DateTime<Utc>) {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    out.family("afterword_build", Kind::Info, "Which program this is").sample(&version, 1.0);
    let up = context.vitals.started.elapsed();
    let started = now - TimeDelta::from_std(up).unwrap_or_default();
    let help = "When this process began, in seconds since 1970";
    out.family("afterword_process_start_time_seconds", Kind::Gauge, help).sample(&[], timestamp(started));
    if let Some(bytes) = resident() {
        let help = "Memory of this process that is not swapped out";
        out.family("afterword_process_resident_memory_bytes", Kind::Gauge, help).sample(&[], bytes);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        let n = i64::try_from(open.count()).unwrap_or_default();
        out.family("afterword_process_open_fds", Kind::Gauge, "Open files and connections")
            .sample(&[], float(n));
    }
    if let Some(since) = context.vitals.since_look() {
        let help = "How long ago the scheduler last looked at what is due";
        out.family("afterword_scheduler_idle_seconds", Kind::Gauge, help).sample(&[], since.as_secs_f64());
    }
    database(out, context);
}

/// What this process has to do with its database.
fn database(out: &mut Exposition, context: &Context) {
    let pools = &context.beside.pools;
    let fillings = Whose::ALL.map(|whose| (whose.word(), pools.filling(whose).unwrap_or_default()));
    let help = "Connections to the database that are in use or wait to be used, by whose they are: the schedule's (jobs), the pages', of \
                runs of jobs, of who reads from a replica (reading)";
    let mut family = out.family("afterword_pool_connections", Kind::Gauge, help);
    for (pool, filling) in fillings {
        family.sample(&[("pool", pool), ("state", "used")], float(filling.n_used));
        family.sample(&[("pool", pool), ("state", "idle")], float(filling.n_idle));
    }
    let help = "How many of them there may be, of the pools that there are now";
    let mut family = out.family("afterword_pool_connections_limit", Kind::Gauge, help);
    for (pool, filling) in fillings {
        family.sample(&[("pool", pool)], float(filling.limit));
    }
    let help =
        "Pools of which every connection that they may have is in use, so that whoever needs one waits";
    let mut family = out.family("afterword_pools_full", Kind::Gauge, help);
    for (pool, filling) in fillings {
        family.sample(&[("pool", pool)], float(filling.n_full));
    }
    let help = "How many connections this instance opens at most, when every enabled job runs at the same time and the pages are full";
    out.family("afterword_database_connections_at_most", Kind::Gauge, help)
        .sample(&[], float(room::most_connections(&context.config)));

    let counts = context.beside.outage.counts();
    let help = "How often somebody got no connection in time, because all were in use or none could be made";
    out.family("afterword_pool_timeouts", Kind::Counter, help).sample(&[], float(counts.n_waited_in_vain));
    let help = "Outages of the database that this process has met: it did not answer (away), its disk was full (full), it took no writes (read_only)";
    let mut family = out.family("afterword_database_outages", Kind::Counter, help);
    for what in Outage::ALL {
        let n = counts.outages.get(&what).copied().unwrap_or_default();
        family.sample(&[("outage", what.word())], float(n));
    }
    let help = "For how long the database has been at fault, so that no job begins; 0: it is not";
    let outage = context.beside.outage.now();
    out.family("afterword_database_outage_seconds", Kind::Gauge, help)
        .sample(&[], outage.map_or(0.0, |(_, since)| since.as_secs_f64()));
    let help = "Transactions that the database took back for the sake of others, and that were done again";
    out.family("afterword_database_retries", Kind::Counter, help).sample(&[], float(again::n_retries()));
}

/// Linux's own count of pages of 4 KiB.
fn resident() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(float(pages) * 4096.0)
}

/// What the ledger says of every job that ever ran, and how those of jobs.toml stand.
async fn jobs(out: &mut Exposition, context: &Context, now: DateTime<Utc>) -> anyhow::Result<()> {
    let pool = &context.pool;
    // Never from the rows themselves, which are many, and old ones of which are let go of.
    let runs = sqlx::query!(
        r#"select job, state as "state: JobRunState", sum(n)::bigint as "n!", sum(seconds) as "seconds!", max(last_at) as last
           from job_tally group by job, state order by job, state"#
    )
    .fetch_all(pool)
    .await?;
    let running =
        sqlx::query_scalar!("select job from job_run where state = 'running' and lease_until >= now()")
            .fetch_all(pool)
            .await?;
    let mut family = out.family(
        "afterword_job_runs",
        Kind::Counter,
        "Occurrences of jobs that are settled, by what became of them, from all instances together; each of many that were missed counts, and so does each end of one that was interrupted and begun anew",
    );
    // Every state of every job, so that the first failure is an increase.
    let names: BTreeSet<&str> = runs
        .iter()
        .map(|run| run.job.as_str())
        .chain(context.config.jobs.iter().map(|job| job.name.as_str()))
        .collect();
    for job in names {
        for state in SETTLED {
            let n = runs.iter().find(|run| run.job == job && run.state == state).map_or(0, |run| run.n);
            family.sample(&[("job_name", job), ("state", state.as_str())], float(n));
        }
    }
    let mut family = out.family("afterword_job_duration_seconds", Kind::Summary, "How long runs took");
    let ended = [JobRunState::Done, JobRunState::Partial, JobRunState::Failed];
    for job in runs.chunk_by(|a, b| a.job == b.job) {
        let (n, seconds) = job
            .iter()
            .filter(|run| ended.contains(&run.state))
            .fold((0, 0.0), |(n, seconds), run| (n + run.n, seconds + run.seconds));
        if let Some(first) = job.first() {
            family.summary(&[("job_name", &first.job)], float(n), seconds);
        }
    }
    let help = "When a job last did its work, all or a part of it, in seconds since 1970";
    let mut family = out.family("afterword_job_last_success_timestamp_seconds", Kind::Gauge, help);
    for job in runs.chunk_by(|a, b| a.job == b.job) {
        let worked = job.iter().filter(|run| matches!(run.state, JobRunState::Done | JobRunState::Partial));
        if let (Some(first), Some(last)) = (job.first(), worked.filter_map(|run| run.last).max()) {
            family.sample(&[("job_name", &first.job)], timestamp(last));
        }
    }

    let help = "Which jobs there are in jobs.toml, and of which kind";
    let mut family = out.family("afterword_job", Kind::Info, help);
    for job in &context.config.jobs {
        family.sample(&[("job_name", &job.name), ("kind", job.kind)], 1.0);
    }

    let mut standings = Vec::with_capacity(context.config.jobs.len());
    for job in &context.config.jobs {
        let last = sqlx::query_scalar!(
            r#"select extract(epoch from started_at - scheduled_for)::float8 as "late!" from job_run
               where job_run_id in (select last_run from job_tally where job = $1
                                    union all select job_run_id from job_run where job = $1 and state = 'running')
                 and trigger = 'schedule' and state <> 'skipped'
               order by started_at desc limit 1"#,
            job.name,
        )
        .fetch_optional(pool)
        .await?;
        let paused = ledger::paused(pool, &job.name).await?.is_some();
        let is_running = running.contains(&job.name);
        let overdue = overview::overdue(pool, job, now).await?;
        let overdue = overdue.map_or(0.0, |begins| float((now - begins).num_seconds()));
        standings.push((job.name.as_str(), last, paused, is_running, overdue));
    }
    let help = "How long after its time the last occurrence began that ran";
    let mut family = out.family("afterword_job_lateness_seconds", Kind::Gauge, help);
    for (job, late, ..) in &standings {
        if let Some(late) = late {
            family.sample(&[("job_name", job)], *late);
        }
    }
    let help = "How long ago an occurrence should have begun, its jitter included, of which the ledger knows nothing; 0 for a quarter of an hour";
    let mut family = out.family("afterword_job_overdue_seconds", Kind::Gauge, help);
    for (job, .., overdue) in &standings {
        family.sample(&[("job_name", job)], *overdue);
    }
    let mut family = out.family("afterword_job_running", Kind::Gauge, "Whether a job runs");
    for (job, _, _, is_running, _) in &standings {
        family.sample(&[("job_name", job)], f64::from(u8::from(*is_running)));
    }
    let mut family = out.family("afterword_job_paused", Kind::Gauge, "Whether a job is paused");
    for (job, _, paused, ..) in &standings {
        family.sample(&[("job_name", job)], f64::from(u8::from(*paused)));
    }
    Ok(())
}

/// The key of a shop of jobs.toml; rows of others are left out.
fn key(context: &Context, shop: i32) -> Option<&str> {
    context.shops.get(ShopId(shop)).map(|shop| shop.key.as_str())
}

/// The outbox, and what relays said.
async fn mails(out: &mut Exposition, context: &Context, now: DateTime<Utc>) -> anyhow::Result<()> {
    let pool = &context.pool;
    let open = sqlx::query!(
        r#"select shop_id, state as "state: InvitationState", count(*) as "n!", min(next_attempt_at) as "oldest!"
           from invitation where state in ('queued', 'deferred', 'claimed', 'in_data', 'unknown')
           group by shop_id, state order by shop_id, state"#
    )
    .fetch_all(pool)
    .await?;
    let help =
        "Mails that wait, are in a sender's hands, or of which nobody knows whether they left (unknown)";
    let mut family = out.family("afterword_outbox_mails", Kind::Gauge, help);
    let states = [
        InvitationState::Queued,
        InvitationState::Deferred,
        InvitationState::Claimed,
        InvitationState::InData,
        InvitationState::Unknown,
    ];
    for (shop, config) in context.shops.iter() {
        for state in states {
            let n =
                open.iter().find(|row| row.shop_id == shop.0 && row.state == state).map_or(0, |row| row.n);
            family.sample(&[("shop", &config.key), ("state", state.as_str())], float(n));
        }
    }
    let help = "For how long the oldest mail has been due that waits; 0: none is due";
    let mut family = out.family("afterword_outbox_age_seconds", Kind::Gauge, help);
    for (shop, config) in context.shops.iter() {
        let waits = |state| matches!(state, InvitationState::Queued | InvitationState::Deferred);
        let oldest =
            open.iter().filter(|row| row.shop_id == shop.0 && waits(row.state)).map(|row| row.oldest).min();
        let age = oldest.map_or(0, |oldest| (now - oldest).num_seconds().max(0));
        family.sample(&[("shop", &config.key)], float(age));
    }
    let tries = sqlx::query!(
        r#"select shop_id, outcome as "outcome: AttemptOutcome", coalesce(code / 100, 0)::int as "class!", count(*) as "n!"
           from attempt where shop_id = any ($1) and started_at > $2 and started_at <= $3
           group by 1, 2, 3 order by 1, 2, 3"#,
        &shops(context),
        now - DAY,
        now,
    )
    .fetch_all(pool)
    .await?;
    let help =
        "Tries to mail in the last 24 hours, by what became of them and by the class of the relay's answer";
    let mut family = out.family("afterword_mail_attempts_last_day", Kind::Gauge, help);
    for row in &tries {
        // Of a yes, no code is kept.
        let class = match (row.outcome, row.class) {
            (AttemptOutcome::Sent, _) => "2xx".to_owned(),
            (_, 0) => "none".to_owned(),
            (_, class) => format!("{class}xx"),
        };
        if let Some(shop) = key(context, row.shop_id) {
            let labels = [("shop", shop), ("outcome", row.outcome.as_str()), ("class", class.as_str())];
            family.sample(&labels, float(row.n));
        }
    }
    let bounces = sqlx::query!(
        r#"select shop_id, kind as "kind: BounceKind", count(*) as "n!" from bounce
           where shop_id = any ($1) and received_at > $2 and received_at <= $3 group by 1, 2 order by 1, 2"#,
        &shops(context),
        now - DAY,
        now,
    )
    .fetch_all(pool)
    .await?;
    let help = "What came back by mail in the last 24 hours, by its kind";
    let mut family = out.family("afterword_bounces_last_day", Kind::Gauge, help);
    for row in &bounces {
        if let Some(shop) = key(context, row.shop_id) {
            family.sample(&[("shop", shop), ("kind", row.kind.as_str())], float(row.n));
        }
    }
    let is_open = relay::outage(pool, &relay::name(&context.config.mail.transport)).await?.is_some();
    out.family(
        "afterword_relay_failing",
        Kind::Gauge,
        "Whether the mail relay is not given mails, because it fails",
    )
    .sample(&[], f64::from(u8::from(is_open)));
    Ok(())
}

fn shops(context: &Context) -> Vec<i32> {
    context.shops.iter().map(|(shop, _)| shop.0).collect()
}

/// What came in.
async fn answers(out: &mut Exposition, context: &Context, now: DateTime<Utc>) -> anyhow::Result<()> {
    let pool = &context.pool;
    let responses = sqlx::query!(
        r#"select shop_id, via::text as "via!", verdict::text as "verdict!", count(*) as "n!" from response
           where shop_id = any ($1) and answered_at > $2 and answered_at <= $3
           group by 1, 2, 3 order by 1, 2, 3"#,
        &shops(context),
        now - DAY,
        now,
    )
    .fetch_all(pool)
    .await?;
    let help = "Answers given in the last 24 hours, by how they came in and whether a person or (suspect) a program gave them";
    let mut family = out.family("afterword_responses_last_day", Kind::Gauge, help);
    for row in &responses {
        if let Some(shop) = key(context, row.shop_id) {
            family.sample(&[("shop", shop), ("via", &row.via), ("verdict", &row.verdict)], float(row.n));
        }
    }
    let imports = sqlx::query!(
        r#"select shop_id, kind as "kind: ImportKind", count(*) as "n_files!", sum(n_read)::bigint as "n_read!",
               sum(n_rejected)::bigint as "n_rejected!"
           from import_run where shop_id = any ($1) and finished_at > $2 and finished_at <= $3
           group by 1, 2 order by 1, 2"#,
        &shops(context),
        now - DAY,
        now,
    )
    .fetch_all(pool)
    .await?;
    let mut family = out.family(
        "afterword_import_files_last_day",
        Kind::Gauge,
        "Files that were read in the last 24 hours",
    );
    let known = |shop| key(context, shop);
    for row in &imports {
        if let Some(shop) = known(row.shop_id) {
            family.sample(&[("shop", shop), ("kind", row.kind.as_str())], float(row.n_files));
        }
    }
    let help = "Rows of files of the last 24 hours: those that were understood (taken), and those that were not (rejected)";
    let mut family = out.family("afterword_import_rows_last_day", Kind::Gauge, help);
    for row in &imports {
        if let Some(shop) = known(row.shop_id) {
            let labels = |outcome| [("shop", shop), ("kind", row.kind.as_str()), ("outcome", outcome)];
            family.sample(&labels("taken"), float(row.n_read - row.n_rejected));
            family.sample(&labels("rejected"), float(row.n_rejected));
        }
    }
    Ok(())
}

/// What waits to be published.
async fn testimonials(out: &mut Exposition, context: &Context, now: DateTime<Utc>) -> anyhow::Result<()> {
    let waits = unattended::waits(&context.pool, &shops(context), &context.config.testimonials, now).await?;
    let of = |shop: ShopId, n: fn(&Waits) -> i64| {
        waits.iter().find(|waits| waits.shop == shop).map_or(0.0, |waits| float(n(waits)))
    };
    let help = "Testimonials that wait for somebody to approve or reject them (decision), or, approved, for their first export (export)";
    let mut family = out.family("afterword_testimonials_waiting", Kind::Gauge, help);
    for (shop, config) in context.shops.iter() {
        family.sample(&[("shop", &config.key), ("for", "decision")], of(shop, |waits| waits.n_for_decision));
        family.sample(&[("shop", &config.key), ("for", "export")], of(shop, |waits| waits.n_for_export));
    }
    let help = "Those of them that have waited for longer than the shop announces";
    let mut family = out.family("afterword_testimonials_overdue", Kind::Gauge, help);
    for (shop, config) in context.shops.iter() {
        family.sample(&[("shop", &config.key)], of(shop, |waits| waits.n_overdue));
    }
    Ok(())
}

/// What people are told, and whether figures are counted.
async fn people(out: &mut Exposition, context: &Context) -> anyhow::Result<()> {
    let pool = &context.pool;
    let mut open_alerts = Vec::new();
    let mut frozen = Vec::new();
    for (shop, config) in context.shops.iter() {
        open_alerts.push((config.key.as_str(), alerts::store::n_open(pool, shop).await?));
        let at = sqlx::query_scalar!("select max(frozen_at) from metric_freeze where shop_id = $1", shop.0)
            .fetch_one(pool)
            .await?;
        frozen.extend(at.map(|at| (config.key.as_str(), at)));
    }
    let mut family = out.family("afterword_alerts_open", Kind::Gauge, "Alerts about figures that are open");
    for (shop, n) in open_alerts {
        family.sample(&[("shop", shop)], float(n));
    }
    let help = "As of when the figures were last counted, in seconds since 1970";
    let mut family = out.family("afterword_figures_timestamp_seconds", Kind::Gauge, help);
    for (shop, at) in frozen {
        family.sample(&[("shop", shop)], timestamp(at));
    }
    let digest = sqlx::query!(
        "select max(until_at) filter (where is_told) as told, max(heartbeat_at) as beat from digest"
    )
    .fetch_one(pool)
    .await?;
    let told = [
        (
            "afterword_digest_timestamp_seconds",
            "Until when the last digest tells that somebody has got",
            digest.told,
        ),
        ("afterword_heartbeat_timestamp_seconds", "When the heartbeat was last called", digest.beat),
    ];
    for (name, help, at) in told {
        if let Some(at) = at {
            out.family(name, Kind::Gauge, help).sample(&[], timestamp(at));
        }
    }
    Ok(())
}
