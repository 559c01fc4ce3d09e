//! How this instance is, for machines that watch it: whether it is ready, and its figures as `OpenMetrics`.
//!
//! The figures are read from the ledger, the outbox and what came in when they are asked for, at most once in [`KEPT`], so that whoever
//! asks more often costs nothing. Everything is read by an index or from a small table, and what grows with the years is told of the last
//! day only; the ledger alone is counted whole. Labels are the keys of jobs.toml and words of this program: never an address, a name or a
//! token.

pub mod openmetrics;
pub mod room;
mod scrape;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::context::Context;
use crate::db::{self, SchemaError};

/// So long the figures, once read, are told again.
const KEPT: Duration = Duration::from_secs(10);
/// The same for whether it is ready, which anybody may ask.
const READY_KEPT: Duration = Duration::from_secs(1);
/// The scheduler wakes up every 15 seconds at the latest.
const SCHEDULER_MUST_LOOK: Duration = Duration::from_secs(60);
/// A scheduler that has not looked for so long will not do so by itself any more. Every question that it asks ends in less, by the limits
/// of its connections, unless the other end is lost without a word.
const SCHEDULER_IS_STUCK: Duration = Duration::from_secs(300);

/// What an instance knows of itself. One for all who share a context.
#[derive(Debug)]
pub struct Vitals {
    started: Instant,
    /// When the scheduler last looked at what is due; `None`: no schedule is followed here.
    looked: Mutex<Option<Instant>>,
    figures: tokio::sync::Mutex<Option<(Instant, String)>>,
    ready: tokio::sync::Mutex<Option<(Instant, Result<(), NotReady>)>>,
}

impl Default for Vitals {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            looked: Mutex::default(),
            figures: tokio::sync::Mutex::default(),
            ready: tokio::sync::Mutex::default(),
        }
    }
}

/// Why an instance cannot do its work now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotReady {
    /// The database does not answer.
    Database,
    /// Its schema lacks something that this program knows, or has changed it. What a newer program has added is none of it.
    Migrations,
    /// The scheduler has not looked for a while.
    Scheduler,
}

impl NotReady {
    /// One word, for whoever asks.
    pub fn word(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Migrations => "migrations",
            Self::Scheduler => "scheduler",
        }
    }
}

impl Vitals {
    /// The scheduler has looked at what is due.
    pub fn scheduler_looked(&self) {
        self.scheduler_looked_at(Instant::now());
    }

    /// The same, at this instant.
    pub fn scheduler_looked_at(&self, instant: Instant) {
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some(instant);
    }

    /// Whether the scheduler has stopped looking.
    fn scheduler_stands(&self) -> bool {
        self.since_look().is_some_and(|since| since > SCHEDULER_MUST_LOOK)
    }

    /// Whether the scheduler has stopped looking for so long that only a new start of the program helps. Where no schedule is followed,
    /// nothing can be stuck.
    pub fn scheduler_is_stuck(&self) -> bool {
        self.since_look().is_some_and(|since| since > SCHEDULER_IS_STUCK)
    }

    /// How long ago the scheduler last looked.
    fn since_look(&self) -> Option<Duration> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner).map(|looked| looked.elapsed())
    }
}

/// Whether this instance can do its work. The future holds a connection: it is to be let end.
///
/// # Errors
/// Why it cannot.
pub async fn ready(context: &Context) -> Result<(), NotReady> {
    let vitals = &context.vitals;
    if vitals.scheduler_stands() {
        return Err(NotReady::Scheduler);
    }
    // Whoever asks at the same moment waits for the same answer.
    let mut kept = vitals.ready.lock().await;
    if let Some((at, ready)) = *kept
        && at.elapsed() < READY_KEPT
    {
        return ready;
    }
    let ready = match db::still_fits(&context.pool).await {
        Ok(()) => Ok(()),
        Err(SchemaError::Database(_)) => Err(NotReady::Database),
        Err(_) => Err(NotReady::Migrations),
    };
    *kept = Some((Instant::now(), ready));
    ready
}

/// The figures as `OpenMetrics` text. The future holds a connection: it is to be let end.
///
/// # Errors
/// When the database does not answer.
pub async fn figures(context: &Context) -> anyhow::Result<String> {
    let mut kept = context.vitals.figures.lock().await;
    if let Some((at, text)) = &*kept
        && at.elapsed() < KEPT
    {
        return Ok(text.clone());
    }
    let text = scrape::text(context).await?;
    *kept = Some((Instant::now(), text.clone()));
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheduler_that_looks_no_more_is_noticed_and_one_that_was_never_there_is_not_missed() {
        let vitals = Vitals::default();
        assert!(!vitals.scheduler_stands());
        vitals.scheduler_looked();
        assert!(!vitals.scheduler_stands());
        *vitals.looked.lock().unwrap() =
            Instant::now().checked_sub(SCHEDULER_MUST_LOOK + Duration::from_secs(1));
        assert!(vitals.scheduler_stands() && !vitals.scheduler_is_stuck());
        vitals.scheduler_looked();
        assert!(!vitals.scheduler_stands());
    }
}
