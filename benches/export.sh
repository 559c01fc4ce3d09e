#!/usr/bin/env bash
# How fast testimonials leave, beside psql's `\copy` of the same query, contestants interleaved, medians. The ratio is the result; rows per
# second say something about this machine only. Everything is published already, so that both only read.
#
#     benches/export.sh [testimonials, 1000000] [rounds, 5] [program, target/release/afterword]
#     SIZE=small benches/export.sh      50,000 testimonials, for daily use
set -euo pipefail
cd "$(dirname "$0")/.."

default=1000000
[ "${SIZE:-}" != small ] || default=50000
rows=${1:-$default}
rounds=${2:-5}
program=${3:-${CARGO_TARGET_DIR:-target}/release/afterword}
[ -x "$program" ] || { echo "there is no $program; cargo build --release makes it" >&2; exit 1; }
program=$(realpath "$program")
programs=$(scripts/postgres.sh)
query=$(pwd)/src/testimonials/candidate.sql
psql=$(command -v psql || echo "$programs/psql")
unset DATABASE_URL AFTERWORD_SECRET RUST_LOG

# Not below TMPDIR, which may be a place that Postgres's user cannot reach.
work=$(mktemp -d /tmp/afterword-bench.XXXXXX)
chmod 755 "$work"
as_server=()
if [ "$(id -u)" -eq 0 ]; then
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
trap 'exit 130' INT TERM
server initdb -D "$work/data" -U afterword -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$work/log"
server pg_ctl start -D "$work/data" -w -t 60 -l "$work/data/log" \
    -o "-k $work -p 5432 -c listen_addresses= -c shared_buffers=512MB -c fsync=off -c max_wal_size=8GB" >>"$work/log"
export DATABASE_URL="postgres://afterword@localhost/postgres?host=$work"
sql() { "$psql" -X -q -v ON_ERROR_STOP=1 -h "$work" -p 5432 -U afterword -d postgres "$@"; }
cd "$work"
mkdir "$work/shop" && cd "$work/shop"
"$program" init >/dev/null 2>&1
"$program" migrate >/dev/null 2>&1
# The shops of jobs.toml are entered by the first command that looks for them.
"$program" testimonials list >/dev/null 2>&1

echo "Making $rows testimonials" >&2
sql -v n="$rows" <<'SQL'
insert into survey_version (shop_id, survey, digest, questionnaire, created_at)
select shop_id, 'satisfaction', sha256('bench'), '{"questions":[
    {"key":"recommend","type":"recommend","required":true,"in_mail":true,"when":null,"text":{}},
    {"key":"overall","type":"rating","required":false,"in_mail":false,"when":null,"text":{}},
    {"key":"comment","type":"text","max_length":4000,"required":false,"in_mail":false,"when":null,"text":{}}]}', '2025-01-01'
from shop where key = 'maison';
insert into customer (shop_id, email, email_key, first_name, last_name)
select shop_id, 'c' || n || '@customer.example', 'c' || n || '@customer.example', 'Claire', 'Dubois'
from shop, generate_series(1, :n) n where key = 'maison';
insert into "order" (shop_id, external_id, customer_id, ordered_at, fulfilled_at, status, items, country, attributes, imported_at, updated_at)
select shop_id, 'A-' || customer_id, customer_id, timestamptz '2025-01-01' + customer_id * interval '20 seconds',
       timestamptz '2025-01-03' + customer_id * interval '20 seconds', 'fulfilled', array['P-' || customer_id % 500], 'FR', '{}',
       '2025-01-01', '2025-01-01'
from customer;
insert into response (shop_id, order_id, survey, survey_version_id, revision, counted, via, verdict, locale, answered_at, received_at,
                      consent_version)
select o.shop_id, order_id, 'satisfaction', survey_version_id, 1, true, 'page', 'human', 'fr', fulfilled_at + interval '7 days',
       fulfilled_at + interval '7 days', '2026-11'
from "order" o join survey_version v on v.shop_id = o.shop_id and v.digest = sha256('bench') order by order_id;
insert into answer (shop_id, response_id, question, score, choice, body)
select shop_id, response_id, q.question, case q.question when 'overall' then 1 + response_id % 5 end,
       case q.question when 'recommend' then case when response_id % 9 = 0 then 'no' else 'yes' end end,
       case q.question when 'comment' then 'Livraison rapide, produit "soigné" ; je reviendrai, avis ' || response_id end
from response cross join (values ('recommend'), ('overall'), ('comment')) q (question) order by shop_id, response_id;
insert into testimonial (shop_id, response_id, state, decided_at, published_at)
select shop_id, response_id, 'approved', '2026-01-01', '2026-01-01' from response order by shop_id, response_id;
vacuum analyze;
SQL

# The program's own query, with its parameters as values.
shop=$(sql -At -c "select shop_id from shop where key = 'maison'")
sed -e '/^--/d' -e 's/--.*$//' -e "s/\$1/$shop/g" -e "s/\$2/'approved'/g" -e 's/\$3/null/g' -e 's/\$4/true/g' -e 's/\$5/null/g' -e 's/\$6/false/g' \
    -e "s/\$7/interval '1825 days'/g" -e "s/\$8/timestamptz '2026-02-01'/g" -e 's/\$9/null/g' "$query" | tr '\n' ' ' >query
ours() { "$program" export testimonials --shop maison --as-of 2026-02-01 --format "$1" --out "$2" 2>ours.log || [ $? -eq 3 ] || { cat ours.log >&2; exit 1; }; }
peak() { # KiB that a command takes at most
    /usr/bin/time -f %M -o peak "$@" >/dev/null 2>&1 || true
    tail -1 peak
}
seconds() {
    local from to
    from=$(date +%s%N)
    "$@" >out 2>command.log || { cat command.log >&2; exit 1; }
    to=$(date +%s%N)
    awk -v from="$from" -v to="$to" 'BEGIN { printf "%.3f", (to - from) / 1e9 }'
}
copy() { sql -c "\\copy ($(cat query)) to stdout with (format csv, header)"; }
median() { sort -n | awk '{ v[NR] = $1 } END { print (NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2) }'; }

echo "$rows testimonials, $rounds rounds, $(nproc) cores; rows per second, and the ratio to \\copy of the same round"
printf '%-7s %10s %18s %18s %18s\n' round '\copy' 'generic, stream' 'generic, file' 'google-merchant'
for contestant in stream file feed; do : >"ratios.$contestant"; done
for round in $(seq "$rounds"); do
    copied=$(seconds copy)
    stream=$(seconds ours generic -)
    file=$(seconds ours generic testimonials.csv)
    feed=$(seconds ours google-merchant -)
    for contestant in "stream $stream" "file $file" "feed $feed"; do
        awk -v c="$copied" -v o="${contestant#* }" 'BEGIN { print c / o }' >>"ratios.${contestant% *}"
    done
    awk -v n="$rows" -v r="$round" -v c="$copied" -v s="$stream" -v f="$file" -v x="$feed" \
        'BEGIN { printf "%-7s %10.0f %10.0f  (%.2f) %10.0f  (%.2f) %10.0f  (%.2f)\n", r, n / c, n / s, c / s, n / f, c / f, n / x, c / x }'
done
printf '%-7s %10s %10s  (%.2f) %10s  (%.2f) %10s  (%.2f)\n' median '' '' "$(median <ratios.stream)" '' "$(median <ratios.file)" '' "$(median <ratios.feed)"
if [ -x /usr/bin/time ]; then
    echo "peak: $(peak "$program" export testimonials --shop maison --as-of 2026-02-01 --out testimonials.csv) KiB"
fi
