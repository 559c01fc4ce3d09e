#!/usr/bin/env bash
# Whether what is built in may be (deny.toml): crates, licences, and where they come from. Known vulnerabilities are not asked about here,
# because their list is fetched and changes every day: `cargo deny check` asks about them, too. Without cargo-deny it is skipped, and says so.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo deny --version >/dev/null 2>&1; then
    echo "SKIPPED deny.toml: there is no cargo-deny (cargo install cargo-deny)" >&2
    exit 0
fi
cargo deny check bans licenses sources
