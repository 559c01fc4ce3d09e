//! What runs unattended, and can be run once by hand.
//!
//! A job is a struct of its parameters, as they stand in jobs.toml under `[jobs.<name>.params]`, and nothing else comes in: the
//! schedule and the person at the keyboard run the same thing. It asks what is due now, not what became due since the last time; it
//! may die anywhere and be run again; it is not tried again within a run, the next occurrence is the retry, but for a database that was
//! away for a moment; it runs once at a time
//! ([`runner`] sees to it); between two items it looks whether it should stop; and it says in a [`RunReport`] what it did.
//!
//! To add a kind: a file here, and a line in [`JOB_KINDS`].

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::context::Context;
use crate::progress::Progress;
use crate::retention::PutAway;
use crate::types::JobRunId;

pub mod runner;
pub mod ledger;
pub mod overview;
mod inbox;
mod import_orders;
mod import_events;
mod send_invitations;
mod collect_bounces;
mod import_responses;
mod import_ratings;
mod compute_metrics;
mod send_report;
mod moderate_testimonials;
mod export_testimonials;
mod upload;
mod send_digest;
mod purge;

/// Every kind of job.
pub static JOB_KINDS: &[JobKind] = &[
    JobKind::of::<import_orders::ImportOrders>(),
    JobKind::of::<import_events::ImportEvents>(),
    JobKind::of::<send_invitations::SendInvitations>(),
    JobKind::of::<collect_bounces::CollectBounces>(),
    JobKind::of::<import_responses::ImportResponses>(),
    JobKind::of::<import_ratings::ImportRatings>(),
    JobKind::of::<compute_metrics::ComputeMetrics>(),
    JobKind::of::<send_report::SendReport>(),
    JobKind::of::<moderate_testimonials::ModerateTestimonials>(),
    JobKind::of::<export_testimonials::ExportTestimonials>(),
    JobKind::of::<send_digest::SendDigest>(),
    JobKind::of::<purge::Purge>(),
];

/// A kind of job. `Self` is its parameters; what is in [`JOB_KINDS`] is read from TOML.
pub trait Job: fmt::Debug + Send + Sync + 'static {
    /// Its name in jobs.toml, `verb_noun`.
    const KIND: &'static str;
    /// One line that says what it does, for the help.
    const ABOUT: &'static str;
    /// A params table as TOML, for the documents and for the list's test about itself.
    const SAMPLE: &'static str;
    /// How many connections a run opens at most. Most jobs do one thing after the other, in a transaction that may ask for something outside
    /// of it.
    const CONNECTIONS: Connections = Connections { pool: 4, beside: 1 };

    /// What is wrong with the parameters in this configuration, a sentence each.
    fn check(&self, config: &Config) -> Vec<String>;

    /// The shops that it works for, by their keys: who may work with some shops only may ask for the jobs of these.
    fn shops(&self, config: &Config) -> Vec<String>;

    /// The folders and files that it reads or writes besides the database, as its parameters name them: an erasure looks there.
    fn files(&self) -> Vec<&Path> {
        Vec::new()
    }

    /// Where it puts files that it has read, which `[retention] files` says how long to keep: below the folders that its parameters name.
    fn put_away(&self) -> Vec<PutAway> {
        self.files().into_iter().flat_map(PutAway::below).collect()
    }

    /// Does the work, once.
    fn run(&self, run: &Run<'_>) -> impl Future<Output = Result<RunReport, JobError>> + Send;
}

/// How many connections a run opens at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// Of its own pool: what it does side by side.
    pub pool: u32,
    /// Outside of it: the one that renews its lease, and whatever else must write even when the run was taken for dead.
    pub beside: u32,
}

/// What one run works with.
pub struct Run<'a> {
    pub context: &'a Context,
    /// Looked at between two items: once it is cancelled, the job ends at the next place where that costs nothing.
    pub stop: CancellationToken,
    /// Say what would be done, change nothing.
    pub dry_run: bool,
    /// Whether a person asked for this run.
    pub by_hand: bool,
    /// The name of the job in jobs.toml.
    pub job: &'a str,
    /// The row of this run in the ledger; a dry run has none.
    pub job_run: Option<JobRunId>,
    /// When the job was last resumed after a pause.
    pub resumed_at: Option<DateTime<Utc>>,
    /// Told how far it is, for whoever waits.
    pub progress: Progress,
}

/// What a run did. None of it may contain personal data: it is kept in the ledger and logged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunReport {
    pub outcome: RunOutcome,
    /// One line for people.
    pub text: String,
    /// The figures, for machines.
    pub details: serde_json::Value,
    /// What a dry run would do, a line each; it is shown and not kept.
    #[serde(skip)]
    pub listing: Vec<String>,
    /// Why the job is not to run again until somebody has looked and resumes it. `None`: it may.
    pub pause: Option<String>,
}

impl RunReport {
    /// All went well.
    pub fn done(text: String, details: serde_json::Value) -> Self {
        Self { outcome: RunOutcome::Done, text, details, listing: Vec::new(), pause: None }
    }
}

/// How well it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    Done,
    /// Some rows were rejected, some mails failed, or it was stopped; the rest is done.
    Partial,
}

/// A job that could not do its work. What it says is kept in the ledger, after [`masked`](crate::masked) has taken out what may be personal.
pub type JobError = anyhow::Error;

/// As things stand, the job may not do its work, and has done nothing.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// A line of [`JOB_KINDS`].
#[derive(Debug)]
pub struct JobKind {
    pub name: &'static str,
    pub about: &'static str,
    pub sample: &'static str,
    /// Reads the params table.
    pub parse: fn(toml::Value) -> Result<AnyJob, toml::de::Error>,
}

impl JobKind {
    /// The line of this kind.
    pub const fn of<J: Job + DeserializeOwned>() -> Self {
        Self {
            name: J::KIND,
            about: J::ABOUT,
            sample: J::SAMPLE,
            parse: |value| value.try_into::<J>().map(AnyJob::new),
        }
    }
}

/// The kind with this name.
pub fn kind(name: &str) -> Option<&'static JobKind> {
    JOB_KINDS.iter().find(|kind| kind.name == name)
}

/// A job of whatever kind, with its parameters. Cheap to clone.
#[derive(Clone)]
pub struct AnyJob(Arc<dyn ErasedJob>);

impl AnyJob {
    pub fn new(job: impl Job) -> Self {
        Self(Arc::new(job))
    }

    /// The name of its kind.
    pub fn kind(&self) -> &'static str {
        self.0.kind()
    }

    /// What is wrong with its parameters in this configuration, a sentence each.
    pub fn check(&self, config: &Config) -> Vec<String> {
        self.0.check(config)
    }

    /// The shops that it works for, by their keys.
    pub fn shops(&self, config: &Config) -> Vec<String> {
        self.0.shops(config)
    }

    /// How many connections a run opens at most.
    pub fn connections(&self) -> Connections {
        self.0.connections()
    }

    /// What it reads or writes besides the database, as its parameters name it.
    pub fn files(&self) -> Vec<&Path> {
        self.0.files()
    }

    /// As [`Job::put_away`].
    pub fn put_away(&self) -> Vec<PutAway> {
        self.0.put_away()
    }

    /// Does the work, once, without ledger, lease, or limit of time; those are [`runner::run_occurrence`]'s.
    ///
    /// # Errors
    /// When the work could not be done.
    pub async fn run(&self, run: &Run<'_>) -> Result<RunReport, JobError> {
        self.0.run(run).await
    }
}

impl fmt::Debug for AnyJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// [`Job`] without what a trait object cannot have.
trait ErasedJob: fmt::Debug + Send + Sync {
    fn kind(&self) -> &'static str;
    fn connections(&self) -> Connections;
    fn check(&self, config: &Config) -> Vec<String>;
    fn shops(&self, config: &Config) -> Vec<String>;
    fn files(&self) -> Vec<&Path>;
    fn put_away(&self) -> Vec<PutAway>;
    fn run<'a>(&'a self, run: &'a Run<'a>) -> BoxFuture<'a, Result<RunReport, JobError>>;
}

impl<J: Job> ErasedJob for J {
    fn kind(&self) -> &'static str {
        J::KIND
    }
    fn connections(&self) -> Connections {
        J::CONNECTIONS
    }
    fn check(&self, config: &Config) -> Vec<String> {
        Job::check(self, config)
    }
    fn shops(&self, config: &Config) -> Vec<String> {
        Job::shops(self, config)
    }
    fn files(&self) -> Vec<&Path> {
        Job::files(self)
    }
    fn put_away(&self) -> Vec<PutAway> {
        Job::put_away(self)
    }
    fn run<'a>(&'a self, run: &'a Run<'a>) -> BoxFuture<'a, Result<RunReport, JobError>> {
        Job::run(self, run).boxed()
    }
}

/// The shop that parameters name, or all.
fn named_or_all(shop: Option<&String>, config: &Config) -> Vec<String> {
    match shop {
        Some(shop) => vec![shop.clone()],
        None => config.shops.iter().map(|shop| shop.key.clone()).collect(),
    }
}

/// `1 order`, `2 orders`.
pub fn counted(n: u64, word: &str) -> String {
    format!("{n} {word}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_list_of_kinds_is_sound() {
        let names: BTreeSet<&str> = JOB_KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), JOB_KINDS.len(), "a name is there twice");
        for job_kind in JOB_KINDS {
            assert!(
                job_kind.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{} is not in snake case",
                job_kind.name
            );
            assert!(!job_kind.about.is_empty() && !job_kind.about.contains('\n'), "{}", job_kind.name);
            let sample: toml::Table = job_kind.sample.parse().unwrap();
            let job = (job_kind.parse)(toml::Value::Table(sample.clone())).unwrap();
            assert_eq!(job.kind(), job_kind.name);
            let mut with_a_typo = sample;
            with_a_typo.insert("shpo".to_owned(), "x".into());
            assert!(
                (job_kind.parse)(toml::Value::Table(with_a_typo)).is_err(),
                "{} takes any key",
                job_kind.name
            );
        }
    }
}
