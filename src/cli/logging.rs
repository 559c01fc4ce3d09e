//! Log lines, on standard error. What may be in them is written in CONTRIBUTING.md: ids and counts, never an address, a name, a
//! comment or a token.

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, environment};

/// Starts logging: `RUST_LOG`, else what is worth knowing of ours and warnings of others. A second call changes nothing.
pub fn start(format: LogFormat) {
    let filter = environment("RUST_LOG").map_or_else(
        || EnvFilter::new("warn,afterword=info"),
        |filter| EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info")),
    );
    let lines =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // It fails only when logging was started before, by a command that runs another.
    let _ = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
}
