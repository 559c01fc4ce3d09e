#!/usr/bin/env bash
# Writes .sqlx, what the compiler must know about the queries, from the migrations: a throwaway Postgres gets the schema, and the
# `query!` macros ask it while the whole package is checked. With --check nothing is written; it fails when .sqlx is not what it
# should be. Plain cargo does all of it, so that nobody has to install sqlx-cli.
set -euo pipefail
cd "$(dirname "$0")/.."

check=false
case "${1:-}" in
    "") ;;
    --check) check=true ;;
    *) echo "usage: scripts/sqlx.sh [--check]" >&2; exit 2 ;;
esac

programs=$(scripts/postgres.sh)
# Not below TMPDIR, which may be a place that Postgres's user cannot reach.
work=$(mktemp -d /tmp/afterword-sqlx.XXXXXX)
as_server=()
if [ "$(id -u)" -eq 0 ]; then
    # Postgres refuses to run as root.
    user=postgres
    id "$user" >/dev/null 2>&1 || user=nobody
    as_server=(setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups)
    chown "$user" "$work"
fi
server() {
    (cd "$work" && exec ${as_server[@]+"${as_server[@]}"} env -i PATH=/usr/bin:/bin LC_ALL=C.UTF-8 TZ=UTC "$programs/$1" "${@:2}")
}
clean_up() {
    server pg_ctl stop -D "$work/data" -m immediate >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

server initdb -D "$work/data" -U afterword -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$work/log" || { cat "$work/log" >&2; exit 1; }
server pg_ctl start -D "$work/data" -w -t 60 -l "$work/data/log" -o "-k $work -p 5432 -c listen_addresses= -c fsync=off" >"$work/log" ||
    { cat "$work/log" "$work/data/log" >&2; exit 1; }
for migration in $(printf '%s\n' migrations/*.sql | sort -V); do
    server psql -X -q -v ON_ERROR_STOP=1 -h "$work" -p 5432 -U afterword -d postgres --single-transaction -f - <"$migration"
done

# The macros write when the compiler runs, and it runs only on what has changed. Everything depends on src/lib.rs; it gets its
# time back afterwards, unless somebody wrote to it meanwhile, so that other builds stay as fresh as they were.
written="$work/written"
mkdir "$written"
touch -r src/lib.rs "$work/before"
touch src/lib.rs
touch -r src/lib.rs "$work/touched"
status=0
SQLX_OFFLINE=false SQLX_OFFLINE_DIR="$written" DATABASE_URL="postgres://afterword@localhost/postgres?host=$work" \
    cargo check --quiet --all-targets || status=$?
[ src/lib.rs -nt "$work/touched" ] || touch -r "$work/before" src/lib.rs
[ "$status" -eq 0 ] || exit "$status"
if [ -z "$(ls "$written")" ]; then
    echo "scripts/sqlx.sh: the macros wrote nothing; is there a query! in src/ at all?" >&2
    exit 1
fi

if diff -rq .sqlx "$written" >"$work/differences" 2>&1; then
    echo ".sqlx is up to date ($(ls "$written" | wc -l) queries)"
elif $check; then
    echo ".sqlx is not what the queries and migrations need; run \`make sqlx\` and commit it:" >&2
    sed "s|$written|(needed)|" "$work/differences" | head -20 >&2
    exit 1
else
    rm -rf .sqlx
    cp -r "$written" .sqlx
    echo "Wrote .sqlx ($(ls .sqlx | wc -l) queries); commit it"
fi
