//! Log lines, on standard error. What may be in them is written in CONTRIBUTING.md: ids and counts, never an address, a name, a
//! comment or a token.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, environment};

/// How much is said when `RUST_LOG` does not say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attendance {
    /// A person typed a command and sees how it ends: only what is wrong.
    Attended,
    /// Nobody is there: also what was done.
    Unattended,
}

/// Starts logging. A second call changes nothing.
pub fn start(format: LogFormat, attendance: Attendance) {
    let filter = environment("RUST_LOG").map_or_else(
        || EnvFilter::new(if attendance == Attendance::Unattended { "warn,afterword=info" } else { "warn" }),
        |filter| EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info")),
    );
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && environment("NO_COLOR").is_none())
        .with_target(false);
    // Set directly, and not with `try_init`: that would also let in what crates say through `log`, and handlebars says every value it
    // renders there. It fails only when logging was started before, by a command that runs another.
    let _ = match format {
        LogFormat::Text => tracing::subscriber::set_global_default(lines.finish()),
        LogFormat::Json => tracing::subscriber::set_global_default(lines.json().finish()),
    };
}
