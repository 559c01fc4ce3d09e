//! Being told to stop: looked at between two steps of something long, which then keeps nothing by halves.

use tokio_util::sync::CancellationToken;

/// It was told to stop before its work was done, and has kept nothing of it. An occurrence of the schedule that ends so is begun once more.
#[derive(Debug, thiserror::Error)]
#[error("it was stopped before its end")]
pub struct Stopped;

/// Whether there is time for the next step.
///
/// # Errors
/// [`Stopped`]
pub fn go_on(stop: &CancellationToken) -> Result<(), Stopped> {
    if stop.is_cancelled() { Err(Stopped) } else { Ok(()) }
}
