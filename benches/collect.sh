#!/usr/bin/env bash
# How fast answers are taken, beside pgbench's single-row insert: builds what is released, and runs benches/collect.rs, which says how it
# measures.
#
#     benches/collect.sh [answers in a round, 40000] [rounds, 5]
set -euo pipefail
cd "$(dirname "$0")/.."

programs=$(scripts/postgres.sh)
[ -x "$programs/pgbench" ] || { echo "there is no pgbench in $programs" >&2; exit 1; }
export PATH="$programs:$PATH"
exec cargo bench --quiet --bench collect -- "$@"
