//! What systemd is told of `afterword serve` (`sd_notify(3)`): that it is ready, that it is alive, that it stops. A datagram to a socket it
//! names; without one, nobody wants to know.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::config::environment;

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
/// that it falls silent when they no longer get their turn.
pub async fn say_alive() {
    let asked = environment("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
    let interval = environment("WATCHDOG_USEC").and_then(|microseconds| microseconds.parse().ok());
    let Some(interval) = interval.filter(|_| asked).map(Duration::from_micros) else { return };
    loop {
        tell(State::Alive);
        tokio::time::sleep(interval / 3).await;
    }
}
