#!/usr/bin/env bash
# `cargo test`, and at the end what was not tested.
set -uo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test "$@" 2>&1 | tee "$log"
status=$?
echo
if grep -aq -e 'SKIPPED ' -e ' \.\.\. ignored' "$log"; then
    echo "Skipped:"
    grep -aoh -e 'SKIPPED .*' -e '^test .* \.\.\. ignored.*' "$log" | sed -E 's/^(SKIPPED|test) /  /' | sort -u
else
    echo "Nothing was skipped."
fi
exit "$status"
