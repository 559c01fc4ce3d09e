#!/usr/bin/env bash
# Builds the Debian package, target/debian/*.deb: the program, its manual page and completions, which it writes itself, and the units.
# Wants `cargo install cargo-deb`.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --locked
made=target/package
mkdir -p "$made"
target/release/afterword man | gzip -9n >"$made/afterword.1.gz"
target/release/afterword completions bash >"$made/afterword.bash"
target/release/afterword completions zsh >"$made/_afterword"
target/release/afterword completions fish >"$made/afterword.fish"
gzip -9nc CHANGELOG.md >"$made/changelog.gz"
cargo deb --no-build "$@"
