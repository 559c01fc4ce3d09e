//! What systemd is told of `afterword serve` (`sd_notify(3)`): that it is ready, that it is alive, that it stops. A datagram to a socket it
//! names; without one, nobody wants to know.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::environment;
use crate::vitals::Vitals;

/// What there is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Ready,
    Alive,
    Stopping,
}

impl State {
    fn words(self) -> &'static str {
        match self {
            Self::Ready => "READY=1",
            Self::Alive => "WATCHDOG=1",
            Self::Stopping => "STOPPING=1",
        }
    }
}

/// Tells it to whoever started us, if they asked.
pub fn tell(state: State) {
    let Some(socket) = environment("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&socket, state) {
        tracing::warn!("systemd cannot be told {}: {}", state.words(), error.kind());
    }
}

fn send(socket: &str, state: State) -> io::Result<()> {
    // A name that begins with @ is one of the kernel's, and of no file.
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.words().as_bytes(), &address).map(drop)
}

/// Says that we are alive, three times in each interval in which systemd wants to hear it (`WatchdogSec`). It is a task like the others, so
/// that it falls silent when they no longer get their turn; and it does so when the scheduler is stuck, unless the program ends in any
/// case: then nobody looks any more, and what is running has its time.
pub async fn say_alive(vitals: Arc<Vitals>, stop: CancellationToken) {
    let asked = environment("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
    let interval = environment("WATCHDOG_USEC").and_then(|microseconds| microseconds.parse().ok());
    let Some(interval) = interval.filter(|_| asked).map(Duration::from_micros) else { return };
    say_alive_by(|| tell(State::Alive), interval, &vitals, &stop).await;
}

/// The same, by `say`, to somebody who wants to hear it once in each interval.
pub async fn say_alive_by(say: impl Fn(), interval: Duration, vitals: &Vitals, stop: &CancellationToken) {
    let mut was_stuck = false;
    loop {
        let is_stuck = vitals.scheduler_is_stuck() && !stop.is_cancelled();
        if is_stuck && !was_stuck {
            tracing::error!(
                "the scheduler has not looked for minutes; systemd is no longer told that this program is alive, and starts it again"
            );
        }
        was_stuck = is_stuck;
        if !is_stuck {
            say();
        }
        tokio::time::sleep(interval / 3).await;
    }
}
