//! How it went since the last time somebody was told: what ran, was skipped, failed, is unknown, was rejected, is overdue.
//!
//! In: the ledger, the outbox, what came in. Out: figures and [findings](Finding), which [`words`] puts into a language; [`store`] keeps
//! what was told, [`heartbeat`] tells the dead man's switch that all is well. Nothing is changed by looking.
//!
//! Runs are told by their rows in the ledger, in the order in which these were written: a row is in one digest, and in the next one
//! again if it had not ended. Everything else is told by its time; what is wrong as things stand (unknown mails, paused and overdue jobs,
//! overdue testimonials, a relay that fails) is told every day until it is over.

pub mod heartbeat;
pub mod store;
pub mod words;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;

use crate::config::Config;
use crate::context::Context;
use crate::import::run::ImportKind;
use crate::installation::{self, Foreign};
use crate::invitations::bounces::BounceKind;
use crate::invitations::relay;
use crate::jobs::ledger::{self, JobRunState};
use crate::jobs::overview;
use crate::process;
use crate::testimonials::unattended;
use crate::types::{JobRunId, ShopId};

/// From where on it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    pub moment: DateTime<Utc>,
    /// The last row of the ledger that was told; `None`: rows are told by when they were due.
    pub last_run: Option<i64>,
    /// Those that had not ended then.
    pub open_runs: Vec<i64>,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Digest {
    pub from: DateTime<Utc>,
    pub until: DateTime<Utc>,
    /// Whether the unattended part works as it should: nothing below is [bad](Finding::is_bad).
    pub is_good: bool,
    /// What somebody should look at; empty: nothing is wrong.
    pub findings: Vec<Finding>,
    /// By the name of the job.
    pub jobs: BTreeMap<String, JobRuns>,
    /// By the key of the shop.
    pub shops: BTreeMap<String, ShopDay>,
    /// Up to which row of the ledger it tells, and those before that had not ended.
    #[serde(skip)]
    pub last_run: i64,
    #[serde(skip)]
    pub open_runs: Vec<i64>,
}

/// What became of a job's runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct JobRuns {
    pub n_done: u64,
    pub n_partial: u64,
    pub n_failed: u64,
    pub n_skipped: u64,
    pub n_interrupted: u64,
    pub n_running: u64,
}

/// What happened in a shop.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ShopDay {
    /// Tries to mail, by what became of them.
    pub n_sent: u64,
    pub n_deferred: u64,
    pub n_failed: u64,
    pub n_unknown: u64,
    /// Mails that wait, as things stand.
    pub n_waiting: u64,
    /// Mails of which nobody knows whether they left, as things stand.
    pub n_unknown_open: u64,
    /// Forms that were sent, and answers that files have brought; programs' not counted.
    pub n_answers: u64,
    /// Forms that programs seem to have sent.
    pub n_suspects: u64,
    /// People who are not to be written to any more, whatever the reason.
    pub n_suppressed: u64,
    /// Reports about mails that came back, by their kind.
    pub bounces: BTreeMap<&'static str, u64>,
    /// By what came in.
    pub imports: BTreeMap<&'static str, Imported>,
    /// Messages to the shop's own people about alerts that did not arrive, or of which nobody knows.
    pub n_messages_lost: u64,
    /// Testimonials that have waited for longer than the shop announces, as things stand.
    pub n_overdue: u64,
    /// Mails that tell authors why their words are not published, and that did not arrive or of which nobody knows.
    pub n_authors_not_told: u64,
}

/// Files that came in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Imported {
    pub n_files: u64,
    pub n_read: u64,
    pub n_rejected: u64,
}

/// Something that somebody should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// Runs that failed, or that their program left behind.
    Failed {
        job: String,
        n: u64,
        reason: String,
        /// Whether a later run of the job has done its work.
        is_over: bool,
    },
    /// Occurrences that did not run.
    Skipped { job: String, n: u64, reason: String },
    /// Runs that did a part of their work.
    Partial { job: String, n: u64, reason: String },
    /// It should have begun, and the ledger knows nothing of it.
    Overdue { job: String, due_at: DateTime<Utc> },
    /// It does not run until somebody says so.
    Paused { job: String, since: DateTime<Utc>, reason: String },
    /// Mails of which nobody knows whether they left.
    Unknown { shop: String, n: u64 },
    /// Rows of files that could not be taken.
    Rejected { shop: String, what: &'static str, n: u64, n_files: u64 },
    /// Messages about alerts that did not arrive.
    MessagesLost { shop: String, n: u64 },
    /// Testimonials that have waited for longer than the shop announces.
    TestimonialsOverdue { shop: String, n: u64 },
    /// Mails that tell authors why their words are not published, and that may not have arrived.
    AuthorsNotTold { shop: String, n: u64 },
    /// Mails of this kind to the shop's own people that did not arrive.
    ReportsLost { n: u64 },
    /// The relay does not take mails.
    Relay { since: DateTime<Utc>, reason: String },
    /// No mail leaves from this database.
    Held { reason: String },
}

impl Finding {
    /// Whether the unattended part does not work as it should. What is not bad is still told.
    pub fn is_bad(&self) -> bool {
        match self {
            Self::Failed { is_over, .. } => !is_over,
            Self::Overdue { .. }
            | Self::Paused { .. }
            | Self::MessagesLost { .. }
            | Self::ReportsLost { .. }
            | Self::Relay { .. }
            | Self::Held { .. } => true,
            Self::Skipped { .. }
            | Self::Partial { .. }
            | Self::Unknown { .. }
            | Self::Rejected { .. }
            | Self::TestimonialsOverdue { .. }
            | Self::AuthorsNotTold { .. } => false,
        }
    }
}

/// Looks at what happened. `own`: the run that asks, which does not tell of itself.
///
/// # Errors
/// When the database does not answer.
pub async fn gather(
    context: &Context,
    since: &Since,
    now: DateTime<Utc>,
    own: Option<JobRunId>,
) -> anyhow::Result<Digest> {
    let pool = &context.pool;
    let ran = runs(pool, since, own).await?;
    let shops = shops(context, since.moment, now).await?;
    let mut findings = ran.findings;
    for job in &context.config.jobs {
        findings.extend(
            overview::overdue(pool, job, now)
                .await?
                .map(|due_at| Finding::Overdue { job: job.name.clone(), due_at }),
        );
    }
    findings.extend(paused(pool, &context.config).await?);
    let outage = relay::outage(pool, &relay::name(&context.config.mail.transport)).await?;
    findings.extend(outage.map(|outage| Finding::Relay { since: outage.since, reason: outage.last_fault }));
    let n_lost = lost_reports(pool, since.moment, now).await?;
    findings.extend((n_lost > 0).then_some(Finding::ReportsLost { n: n_lost }));
    findings.extend(held(context).await?.map(|foreign| Finding::Held { reason: foreign.to_string() }));
    for (shop, day) in &shops {
        let shop = || shop.clone();
        findings.extend(
            (day.n_unknown_open > 0).then(|| Finding::Unknown { shop: shop(), n: day.n_unknown_open }),
        );
        findings.extend(
            (day.n_messages_lost > 0).then(|| Finding::MessagesLost { shop: shop(), n: day.n_messages_lost }),
        );
        findings.extend(
            (day.n_overdue > 0).then(|| Finding::TestimonialsOverdue { shop: shop(), n: day.n_overdue }),
        );
        findings.extend(
            (day.n_authors_not_told > 0)
                .then(|| Finding::AuthorsNotTold { shop: shop(), n: day.n_authors_not_told }),
        );
        let rejected = day.imports.iter().filter(|(_, imported)| imported.n_rejected > 0);
        findings.extend(rejected.map(|(what, imported)| Finding::Rejected {
            shop: shop(),
            what,
            n: imported.n_rejected,
            n_files: imported.n_files,
        }));
    }
    // What is bad comes first.
    findings.sort_by_key(|finding| !finding.is_bad());
    Ok(Digest {
        from: since.moment,
        until: now,
        is_good: !findings.iter().any(Finding::is_bad),
        findings,
        jobs: ran.jobs,
        shops,
        last_run: ran.last,
        open_runs: ran.open,
    })
}

struct Ran {
    jobs: BTreeMap<String, JobRuns>,
    findings: Vec<Finding>,
    last: i64,
    open: Vec<i64>,
}

/// What the ledger says.
async fn runs(pool: &PgPool, since: &Since, own: Option<JobRunId>) -> sqlx::Result<Ran> {
    // One look, so that no row is between the two. What this process runs itself is alive, whatever its lease says: it is told again
    // when it has ended.
    let rows = sqlx::query!(
        r#"with told as materialized (
               select job_run_id, job, reason, report, n_occurrences,
                   case when state = 'running' and lease_until < now() and owner <> all ($5) then 'interrupted' else state end as state
               from job_run
               where job_run_id is distinct from $4
                 and case when $1::bigint is null then scheduled_for > $3 else job_run_id > $1 or job_run_id = any ($2)
                         -- Interrupted and told so, and begun again since.
                         or attempt > 1 and started_at > $3 end
           )
           select job, state as "state!: JobRunState", sum(n_occurrences) as "n!", max(job_run_id) as "last!",
               (array_agg(coalesce(reason, report ->> 'text', '') order by job_run_id desc))[1] as "said!",
               coalesce(array_agg(job_run_id) filter (where state = 'running'), '{}') as "open!"
           from told
           group by job, state
           order by job, state"#,
        since.last_run,
        &since.open_runs,
        since.moment,
        own.map(|own| own.0),
        &process::Hold::names(),
    )
    .fetch_all(pool)
    .await?;
    let mut ran = Ran {
        jobs: BTreeMap::new(),
        findings: Vec::new(),
        last: since.last_run.unwrap_or_default(),
        open: Vec::new(),
    };
    let mut worked: BTreeMap<&str, i64> = BTreeMap::new();
    for row in &rows {
        if matches!(row.state, JobRunState::Done | JobRunState::Partial) {
            let last = worked.entry(&row.job).or_default();
            *last = row.last.max(*last);
        }
    }
    for row in &rows {
        let n = u64::try_from(row.n).unwrap_or_default();
        let (job, reason) = (row.job.clone(), row.said.clone());
        let runs = ran.jobs.entry(job.clone()).or_default();
        ran.last = ran.last.max(row.last);
        match row.state {
            JobRunState::Done => runs.n_done += n,
            JobRunState::Running => {
                runs.n_running += n;
                ran.open.extend(&row.open);
            }
            JobRunState::Partial => {
                runs.n_partial += n;
                ran.findings.push(Finding::Partial { job, n, reason });
            }
            JobRunState::Skipped => {
                runs.n_skipped += n;
                ran.findings.push(Finding::Skipped { job, n, reason });
            }
            JobRunState::Failed | JobRunState::Interrupted => {
                if row.state == JobRunState::Failed {
                    runs.n_failed += n;
                } else {
                    runs.n_interrupted += n;
                }
                let is_over = worked.get(row.job.as_str()).is_some_and(|worked| *worked > row.last);
                ran.findings.push(Finding::Failed { job, n, reason, is_over });
            }
        }
    }
    // Its own row is told by nobody.
    ran.last = ran.last.max(own.map_or(0, |own| own.0));
    Ok(ran)
}

/// The jobs of jobs.toml that are paused.
async fn paused(pool: &PgPool, config: &Config) -> sqlx::Result<Vec<Finding>> {
    let mut paused = Vec::new();
    for job in &config.jobs {
        let pause = ledger::paused(pool, &job.name).await?;
        paused.extend(pause.map(|pause| Finding::Paused {
            job: job.name.clone(),
            since: pause.paused_at,
            reason: pause.reason,
        }));
    }
    Ok(paused)
}

/// Mails with reports or digests that did not arrive, or of which nobody knows.
async fn lost_reports(pool: &PgPool, from: DateTime<Utc>, until: DateTime<Utc>) -> sqlx::Result<u64> {
    let n = sqlx::query_scalar!(
        r#"select count(*) as "n!" from report_delivery
           where begun_at > $1 and begun_at <= $2 and state in ('failed', 'unknown')"#,
        from,
        until,
    )
    .fetch_one(pool)
    .await?;
    Ok(u64::try_from(n).unwrap_or_default())
}

/// Why no mail leaves from this database.
async fn held(context: &Context) -> anyhow::Result<Option<Foreign>> {
    let mut conn = context.pool.acquire().await?;
    match installation::check(&mut conn, &context.config).await {
        Ok(_) => Ok(None),
        Err(error) => error.downcast::<Foreign>().map(Some),
    }
}

/// What happened in the shops of jobs.toml.
async fn shops(
    context: &Context,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> anyhow::Result<BTreeMap<String, ShopDay>> {
    let mut days = BTreeMap::new();
    let rules = &context.config.testimonials;
    for (shop, config) in context.shops.iter() {
        let overdue = unattended::overdue(&context.pool, &[(shop, config)], rules, until).await?;
        let day = day(&context.pool, shop, from, until).await?;
        days.insert(config.key.clone(), ShopDay { n_overdue: overdue.len() as u64, ..day });
    }
    Ok(days)
}

async fn day(
    pool: &PgPool,
    shop: ShopId,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> sqlx::Result<ShopDay> {
    let counted = sqlx::query_file!("src/digest/day.sql", shop.0, from, until).fetch_one(pool).await?;
    let n = |n: i64| u64::try_from(n).unwrap_or_default();
    let mut day = ShopDay {
        n_sent: n(counted.n_sent),
        n_deferred: n(counted.n_deferred),
        n_failed: n(counted.n_failed),
        n_unknown: n(counted.n_unknown),
        n_waiting: n(counted.n_waiting),
        n_unknown_open: n(counted.n_unknown_open),
        n_answers: n(counted.n_answers),
        n_suspects: n(counted.n_suspects),
        n_suppressed: n(counted.n_suppressed),
        n_messages_lost: n(counted.n_messages_lost),
        n_authors_not_told: n(counted.n_authors_not_told),
        ..ShopDay::default()
    };
    let bounces = sqlx::query!(
        r#"select kind as "kind: BounceKind", count(*) as "n!" from bounce
           where shop_id = $1 and received_at > $2 and received_at <= $3 group by kind"#,
        shop.0,
        from,
        until,
    )
    .fetch_all(pool)
    .await?;
    day.bounces = bounces.into_iter().map(|row| (row.kind.as_str(), n(row.n))).collect();
    let imports = sqlx::query!(
        r#"select kind as "kind: ImportKind", count(*) as "n_files!", sum(n_read)::bigint as "n_read!",
               sum(n_rejected)::bigint as "n_rejected!"
           from import_run
           where shop_id = $1 and finished_at > $2 and finished_at <= $3 group by kind"#,
        shop.0,
        from,
        until,
    )
    .fetch_all(pool)
    .await?;
    let imported = imports.into_iter().map(|row| {
        let imported =
            Imported { n_files: n(row.n_files), n_read: n(row.n_read), n_rejected: n(row.n_rejected) };
        (row.kind.as_str(), imported)
    });
    day.imports = imported.collect();
    Ok(day)
}
