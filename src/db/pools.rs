//! The pools of this process, for whoever watches them.
//!
//! A pool says how many connections it has and how many of them are idle; this only knows which pools there are. A run's pool is here from
//! its beginning until it is closed.

use std::sync::{Arc, Mutex, PoisonError};

use sqlx::{PgExecutor, PgPool};

/// Whose a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The schedule's, the ledger's and the commands'.
    Jobs,
    /// The pages'.
    Pages,
    /// Of who reads figures from a replica.
    Reading,
    /// Of one run of a job.
    Run,
}

impl Whose {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::Jobs, Self::Pages, Self::Reading, Self::Run];

    /// One word, for labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::Pages => "pages",
            Self::Reading => "reading",
            Self::Run => "runs",
        }
    }
}

/// What the pools of one kind have together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filling {
    pub n_used: u32,
    pub n_idle: u32,
    /// How many there may be.
    pub limit: u32,
    /// How many of the pools have all the connections they may have, and every one of them in use: whoever comes now waits.
    pub n_full: u32,
}

/// Which pools there are. Cheap to clone; all clones know the same.
#[derive(Debug, Clone, Default)]
pub struct Pools(Arc<Mutex<Vec<(Whose, PgPool)>>>);

impl Pools {
    /// Notes a pool.
    pub fn add(&self, whose: Whose, pool: &PgPool) {
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|(_, pool)| !pool.is_closed());
        pools.push((whose, pool.clone()));
    }

    /// What those of this kind have now; `None`: there is none.
    pub fn filling(&self, of: Whose) -> Option<Filling> {
        let pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = pools.iter().filter(|(whose, pool)| *whose == of && !pool.is_closed());
        let fillings = open.map(|(_, pool)| {
            let n_idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
            // The two are read one after the other, while connections come and go.
            let n_used = pool.size().saturating_sub(n_idle);
            let limit = pool.options().get_max_connections();
            Filling { n_used, n_idle, limit, n_full: u32::from(n_used >= limit) }
        });
        fillings.reduce(|a, b| Filling {
            n_used: a.n_used + b.n_used,
            n_idle: a.n_idle + b.n_idle,
            limit: a.limit + b.limit,
            n_full: a.n_full + b.n_full,
        })
    }
}

/// How many connections Postgres has for programs such as this one, all of them together.
///
/// # Errors
/// When the database does not answer.
pub async fn room(db: impl PgExecutor<'_>) -> sqlx::Result<u32> {
    // The second reserve is there from Postgres 16 on.
    let n = sqlx::query_scalar!(
        r#"select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
               - coalesce(current_setting('reserved_connections', true)::int, 0) as "n!""#
    )
    .fetch_one(db)
    .await?;
    Ok(u32::try_from(n).unwrap_or_default())
}
