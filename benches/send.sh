#!/usr/bin/env bash
# How fast invitations leave, end to end: decide, write, SMTP and ledger, into Postfix's smtp-sink; beside Postfix's smtp-source, which only
# speaks SMTP, with mails of the same size into the same sink, in the same run. The ratio is the result; mails per second say something
# about this machine only.
#
#     benches/send.sh [mails in a round, 20000] [rounds, 3] [program, target/release/afterword]
#
# The private Postgres of a throwaway directory is used, with its commits as durable as an operator's.
set -euo pipefail
cd "$(dirname "$0")/.."

mails=${1:-20000}
rounds=${2:-3}
program=${3:-${CARGO_TARGET_DIR:-target}/release/afterword}
[ -x "$program" ] || { echo "there is no $program; cargo build --release makes it" >&2; exit 1; }
program=$(realpath "$program")
postfix=$(scripts/postfix.sh)
scripts/postgres.sh >/dev/null
export LD_LIBRARY_PATH="$postfix/../lib/postfix"
unset DATABASE_URL AFTERWORD_SECRET RUST_LOG

work=$(mktemp -d /tmp/afterword-bench.XXXXXX)
chmod 755 "$work"
sink=
clean_up() {
    [ -z "$sink" ] || kill "$sink" 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM
cd "$work"

# A port that was free a moment ago.
port=$((20000 + RANDOM % 20000))
as_user=()
[ "$(id -u)" -ne 0 ] || as_user=(-u nobody)
"$postfix/smtp-sink" ${as_user[@]+"${as_user[@]}"} "127.0.0.1:$port" 1000 &
sink=$!

# The private Postgres stays up as long as somebody uses it: a program that only waits, so that no round pays for a start.
"$program" init >/dev/null 2>&1
configure() { # transport and connections
    sed -e '/^send_window/d' -e "s/^max_connections = 4 .*/max_connections = $2/" \
        -e "s/^transport = \"file\".*/$1/" -e "s/^schedule = .*/&\nenabled = false/" -e 's/^listen = .*/listen = "127.0.0.1:0"/' jobs.shipped >jobs.toml
}
cp jobs.toml jobs.shipped
configure 'transport = "file"' 4
"$program" serve >serve.log 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; clean_up' EXIT
until "$program" jobs >/dev/null 2>&1; do sleep 0.2; kill -0 "$server"; done

batch=0
orders() { # so many orders that became due, by customers who were never asked
    batch=$((batch + 1))
    local delivered ordered
    delivered=$(date -u -d '8 days ago' +%Y-%m-%dT%H:%M:%SZ)
    ordered=$(date -u -d '10 days ago' +%Y-%m-%dT%H:%M:%SZ)
    {
        echo "order_id,email,ordered_at,fulfilled_at,status,first_name,locale"
        seq 1 "$1" | awk -v b="$batch" -v o="$ordered" -v f="$delivered" \
            '{ print "A-" b "-" $1 ",c" b "x" $1 "@customer.example," o "," f ",fulfilled,Claire," ($1 % 2 ? "fr" : "en") }'
    } >orders.csv
    "$program" import orders --shop maison orders.csv >/dev/null 2>import.log || { cat import.log >&2; exit 1; }
}
seconds() { # that a command takes
    local from to
    from=$(date +%s%N)
    "$@" >command.log 2>&1 || { cat command.log >&2; exit 1; }
    to=$(date +%s%N)
    awk -v from="$from" -v to="$to" 'BEGIN { printf "%.3f", (to - from) / 1e9 }'
}
median() { sort -n | awk '{ v[NR] = $1 } END { print (NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2) }'; }

# The size of a mail, from one that is written as a file.
orders 1
"$program" run send-invitations >/dev/null 2>&1
size=$(cat data/outbox/*.eml | wc -c)

echo "$mails mails of $size bytes in a round, $rounds rounds, $(nproc) cores"
printf '%-12s %-7s %12s %12s %8s\n' connections round source/s afterword/s ratio
for connections in 8 32; do
    : >ratios
    for round in $(seq "$rounds"); do
        orders "$mails"
        configure "transport = \"smtp\"\\nhost = \"127.0.0.1\"\\nport = $port\\ntls = \"none\"" "$connections"
        source=$(seconds "$postfix/smtp-source" -s 8 -d -m "$mails" -l "$size" -f a@shop.example -t b@customer.example "127.0.0.1:$port")
        ours=$(seconds "$program" run send-invitations)
        grep -q "$mails mails sent" command.log || { echo "not all were sent:" >&2; cat command.log >&2; exit 1; }
        awk -v n="$mails" -v s="$source" -v a="$ours" -v c="$connections" -v r="$round" \
            'BEGIN { printf "%-12s %-7s %12.0f %12.0f %8.3f\n", c, r, n / s, n / a, s / a; print s / a >>"ratios" }'
    done
    printf '%-12s %-7s %12s %12s %8.3f\n' "$connections" median "" "" "$(median <ratios)"
done
