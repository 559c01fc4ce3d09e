//! Transactions that the database has taken back for the sake of others are done again.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::outage::from_database;

/// How often a transaction is begun anew at most.
const RETRIES: u32 = 5;

static N_RETRIES: AtomicU64 = AtomicU64::new(0);

/// How many transactions this process had to do again.
pub fn n_retries() -> u64 {
    N_RETRIES.load(Ordering::Relaxed)
}

/// Does a whole transaction; again, up to five times, when the database has ended it for the sake of another one: a deadlock (40P01), or a
/// snapshot that another one's commit has made untrue (40001). `work` begins its transaction itself and must change nothing else, because
/// what it did outside of it is not taken back.
///
/// # Errors
/// As `work`.
pub async fn again<T, F>(mut work: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let mut attempt = 0;
    loop {
        match work().await {
            Err(error) if is_worth_another(&*error, &mut attempt).await => {}
            ended => return ended,
        }
    }
}

/// Whether a transaction that ended so is to be begun again: it was ended for the sake of another one, and has not been begun too often
/// by now. Counts, and pauses before it says yes.
pub async fn is_worth_another(error: &(dyn Error + Send + Sync + 'static), n_before: &mut u32) -> bool {
    if *n_before >= RETRIES || !is_taken_back(error) {
        return false;
    }
    *n_before += 1;
    N_RETRIES.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(
        attempt = *n_before,
        "a transaction was taken back for the sake of another one, and is done again"
    );
    tokio::time::sleep(pause(*n_before)).await;
    true
}

fn is_taken_back(error: &(dyn Error + 'static)) -> bool {
    let chain = std::iter::successors(Some(error), |error| (**error).source());
    let codes = chain.filter_map(from_database).filter_map(sqlx::Error::as_database_error);
    codes.filter_map(|error| error.code()).any(|code| ["40001", "40P01"].contains(&code.as_ref()))
}

/// Between 10 and 20 ms at first, twice as long each time: two that have met do not meet again at once.
fn pause(attempt: u32) -> Duration {
    let mut byte = [0];
    // Without chance they may meet once more, which is what the tries are for.
    let chance = getrandom::fill(&mut byte).map_or(0, |()| u32::from(byte[0]));
    Duration::from_millis(10).saturating_mul(1 << attempt.saturating_sub(1)) * (256 + chance) / 256
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_differ() {
        for attempt in 1..=RETRIES {
            let shortest = Duration::from_millis(10 << (attempt - 1));
            let pauses: Vec<Duration> = (0..50).map(|_| pause(attempt)).collect();
            assert!(pauses.iter().all(|pause| (shortest..shortest * 2).contains(pause)), "{pauses:?}");
            assert!(pauses.iter().any(|pause| *pause != pauses[0]));
        }
    }

    #[tokio::test]
    async fn what_is_refused_for_another_reason_is_not_done_again() {
        let mut n = 0;
        let ended: anyhow::Result<()> = again(|| {
            n += 1;
            async { Err(sqlx::Error::RowNotFound.into()) }
        })
        .await;
        assert!(ended.is_err());
        assert_eq!(n, 1);
    }
}
