#!/usr/bin/env bash
# How fast the figures are counted and read: `metrics rebuild --check`, which counts every day of a shop from its rows, beside DuckDB,
# which counts the same from the same tables, in turns and in the same run. The ratio is the result; seconds say something about this
# machine only. What the two counted must be equal. Then what a night costs after so and so many orders have changed, and how long
# reports take.
#
#     benches/metrics.sh [small or full, small] [rounds, 3] [program, target/release/afterword]
#
# small: 100,000 orders and 20,000 answers; full: 5 million and 1 million, which takes 10 GB below /tmp and half an hour. The shop is
# made up by benches/metrics/shop.sql and is the same each time. Postgres is a throwaway one with the settings of the private one. DuckDB
# comes from PyPI into target/duckdb; where that cannot be had, only our own figures are shown, with a line that says so.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-small}" in
    small) orders=100000 answers=20000 ;;
    full) orders=5000000 answers=1000000 ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" | sed '$d' >&2; exit 2 ;;
esac
rounds=${2:-3}
program=${3:-${CARGO_TARGET_DIR:-target}/release/afterword}
[ -x "$program" ] || { echo "there is no $program; cargo build --release makes it" >&2; exit 1; }
program=$(realpath "$program")
sources=$(realpath benches/metrics)
programs=$(scripts/postgres.sh)
unset AFTERWORD_SECRET
export RUST_LOG=error

duckdb=target/duckdb/bin/python
if ! "$duckdb" -c 'import duckdb' 2>/dev/null; then
    { python3 -m venv target/duckdb && "$duckdb" -m pip install --quiet duckdb; } >&2 ||
        { echo "SKIPPED: there is no DuckDB beside which to measure" >&2; duckdb=; }
fi
[ -z "$duckdb" ] || duckdb=$(realpath -s "$duckdb")

work=$(mktemp -d /tmp/afterword-bench.XXXXXX)
chmod 755 "$work"
as_server=()
if [ "$(id -u)" -eq 0 ]; then
    # Postgres refuses to run as root.
    user=postgres
    id "$user" >/dev/null 2>&1 || user=nobody
    as_server=(setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups)
    mkdir "$work/server" && chown "$user" "$work/server"
else
    mkdir "$work/server"
fi
server() {
    (cd "$work/server" && exec ${as_server[@]+"${as_server[@]}"} env -i PATH=/usr/bin:/bin LC_ALL=C.UTF-8 TZ=UTC "$programs/$1" "${@:2}")
}
clean_up() {
    server pg_ctl stop -D "$work/server/data" -m immediate >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM
server initdb -D "$work/server/data" -U afterword -A trust -E UTF8 --locale=C.UTF-8 >"$work/log"
server pg_ctl start -D "$work/server/data" -w -t 60 -l "$work/server/log" -o "-k $work/server -c listen_addresses=" >"$work/log"
sql() { "$programs/psql" -X -q -v ON_ERROR_STOP=1 -h "$work/server" -U afterword -d postgres "$@"; }
export DATABASE_URL="postgres://afterword@localhost/postgres?host=$work/server"

cd "$work"
"$program" init >/dev/null 2>&1
sed -i 's/^timezone = "Europe\/Paris".*/timezone = "UTC"/' jobs.toml
"$program" migrate >/dev/null 2>&1
"$program" jobs >/dev/null 2>&1 # a shop of jobs.toml is in the database once something was asked about it
echo "making a shop of $orders orders …" >&2
sql -v orders="$orders" -v answers="$answers" -f "$sources/shop.sql"
sql -c 'vacuum analyze'

# No two nights are at the same moment.
night=$(date -u -d '2026-01-02 02:00' +%s)
at() { date -u -d "@$night" +%Y-%m-%dT%H:%M:%SZ; }
# Seconds, and the greatest resident memory in MiB.
measured() {
    python3 - "$@" <<'PYTHON'
import resource, subprocess, sys, time
began = time.monotonic()
done = subprocess.run(sys.argv[1:], stdout=open("out", "w"), stderr=open("err", "w"))
if done.returncode != 0:
    sys.exit(open("err").read())
print(f"{time.monotonic() - began:.3f} {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f}")
PYTHON
}
median() { sort -n | awk '{ v[NR] = $1 } END { print (NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2) }'; }

next_night() { night=$((night + 3600)); }
count_night() { measured "$program" --as-of "$(at)" run nightly-metrics; }
next_night
read -r seconds mib <<<"$(count_night)"
printf '%-34s %8.2f s %6.0f MiB\n' "the first night, counts everything" "$seconds" "$mib"

if [ -n "$duckdb" ]; then
    sql -v folder="$work" -f "$sources/export.sql"
    "$duckdb" "$sources/beside.py" load "$work/duckdb" "$work"
    rm -f ./*.csv
fi
echo "$orders orders, $answers answers, $rounds rounds, $(nproc) cores"
printf '%-10s %12s %12s %14s %14s %8s\n' round duckdb/s rebuild/s duckdb/MiB rebuild/MiB ratio
for round in $(seq "$rounds"); do
    beside="nan nan"
    [ -z "$duckdb" ] || beside=$("$duckdb" "$sources/beside.py" count "$work/duckdb" "$work/theirs")
    next_night
    ours=$(measured "$program" --as-of "$(at)" metrics rebuild --check)
    echo "$round $beside $ours" | awk '{ printf "%-10s %12.2f %12.2f %14.0f %14.0f %8.2f\n", $1, $2, $4, $3 / 1024, $5, $4 / $2; print $4 / $2 >>"ratios" }'
done
[ -z "$duckdb" ] || printf '%-10s %12s %12s %14s %14s %8.2f\n' median "" "" "" "" "$(median <ratios)"

if [ -n "$duckdb" ]; then
    sql -Atc "copy (select day, fact, survey, question, value, n from metric_day where known_to = 'infinity') to stdout csv" >ours.day.csv
    sql -Atc "copy (select period, starts_on, customers, \"repeat\", \"returning\" from metric_customers where known_to = 'infinity') to stdout csv" >ours.customers.csv
    for what in day customers; do
        for whose in ours theirs; do tr -d '"' <"$whose.$what.csv" | LC_ALL=C sort >"$whose.$what"; done
        cmp "ours.$what" "theirs.$what" || { echo "the two have counted different things" >&2; exit 1; }
    done
    echo "both counted the same: $(wc -l <ours.day) counts of days, $(wc -l <ours.customers) of customers"
fi

echo
printf '%-34s %10s %10s\n' "a night after" seconds MiB
for changed in 0 1000 100000; do
    # The latest orders, as files bring them; of a small shop no more than half.
    sql -c "update \"order\" set status = case status when 'cancelled' then 'fulfilled' else 'cancelled' end::order_status
            where order_id > $orders - least($changed, $orders / 2)"
    next_night
    count_night | awk -v n="$changed" '{ printf "%-34s %10.2f %10.0f\n", n " changed orders", $1, $2 }'
done
sql -c "update \"order\" set status = 'fulfilled' where order_id % ($orders / 1000) = 0"
next_night
count_night | awk '{ printf "%-34s %10.2f %10.0f\n", "1000 changed orders of all years", $1, $2 }'

echo
printf '%-34s %10s %10s\n' "a report" seconds MiB
asked() { # how often, what
    for _ in $(seq "$1"); do measured "$program" "${@:3}"; done | sort -n | awk -v what="$2" '{ s[NR] = $1; m[NR] = $2 }
        END { printf "%-34s %10.3f %10.0f\n", what, s[int((NR + 1) / 2)], m[int((NR + 1) / 2)] }'
}
asked 11 "only the start of the program" alerts
asked 11 "of a night, by month" --as-of "$(at)" --json report --by month
asked 11 "of a night, a month" --as-of "$(at)" --json report --from 2025-11-01 --to 2025-12-01
asked 1 "from the rows, a month" --json report --from 2025-11-01 --to 2025-12-01
asked 1 "from the rows, everything" --json report
asked 1 "the page, from the rows" report --html page.html
