//! The dead man's switch: an address that is called after each good day, so that somebody else notices when it is not.
//!
//! Any 2xx is a yes. Whoever does not answer is asked again after 10 seconds, a minute and five minutes, for as long as a run waits; then
//! it stays uncalled until the next run, which calls it when its day was good.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::config::Heartbeat;
use crate::request;

/// Between two tries.
const PAUSES: [Duration; 3] = [Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(300)];

/// Calls it, more than once where need be, for as long as `patience` lasts.
///
/// # Errors
/// Says in words why it could not be called; nothing of what it said, and not where it is.
pub async fn call(heartbeat: &Heartbeat, patience: Duration, stop: &CancellationToken) -> Result<(), String> {
    let begun = Instant::now();
    let mut pauses = PAUSES.into_iter();
    loop {
        let fault = match once(heartbeat).await {
            Ok(()) => return Ok(()),
            Err(fault) => fault,
        };
        let Some(pause) = pauses.next().filter(|pause| begun.elapsed() + *pause <= patience) else {
            return Err(fault);
        };
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return Err(fault);
        }
    }
}

async fn once(heartbeat: &Heartbeat) -> Result<(), String> {
    let heartbeat = heartbeat.clone();
    let request = move || {
        let agent = request::agent(&heartbeat.url, heartbeat.timeout);
        let response = agent.get(&heartbeat.url).call();
        response
            .map(|response| response.status().as_u16())
            .map_err(|error| request::fault("the heartbeat", &error))
    };
    let status =
        tokio::task::spawn_blocking(request).await.map_err(|_| "the request broke off".to_owned())??;
    if (200..300).contains(&status) { Ok(()) } else { Err(format!("the heartbeat answered {status}")) }
}
