#!/usr/bin/env bash
# `cargo test`, and at the end what was not tested.
set -uo pipefail
cd "$(dirname "$0")/.."

# Many tests wait most of the time: for a relay that is slow, for the next minute.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(nproc) + 1))}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test "$@" 2>&1 | tee "$log"
status=$?
# Some functions are only tests so that a test can start them as a process of its own; they say "no test".
skipped=$(grep -aoh -e 'SKIPPED .*' -e '^test .* \.\.\. ignored.*' "$log" | grep -av 'no test:' | sed -E 's/^(SKIPPED|test) /  /' | sort -u)
echo
if [ -n "$skipped" ]; then
    printf 'Skipped:\n%s\n' "$skipped"
else
    echo "Nothing was skipped."
fi
exit "$status"
