#!/usr/bin/env bash
# Runs an image as compose.yaml does (another user, nothing to write to but two volumes, no rights) against a Postgres that listens here, and
# looks whether it asks, checks, serves, and ends in order: DATABASE_URL=postgres://… packaging/docker/try.sh IMAGE. The database should be
# new. DOCKER names what runs it, with options (DOCKER="podman --runtime runc"), MORE more options of each run.
set -euo pipefail

image=${1:?names the image}
read -ra docker <<<"${DOCKER:-docker}"
read -ra more <<<"${MORE:-}"
name=afterword-try-$$
port=$((20000 + $$ % 20000))
finish() {
    "${docker[@]}" rm --force "$name" >/dev/null 2>&1 || true
    "${docker[@]}" volume rm --force "$name-configuration" "$name-data" >/dev/null 2>&1 || true
}
trap finish EXIT

# As compose.yaml says it.
run() {
    "${docker[@]}" run --network host --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --env DATABASE_URL \
        --volume "$name-configuration:/etc/afterword" --volume "$name-data:/var/lib/afterword" "${more[@]}" "$@"
}
ok() {
    echo "ok: $1"
}

run --rm "$image" --version
run --rm "$image" init "--listen=127.0.0.1:$port" --relay=127.0.0.1:1025 --relay-tls=none
run --rm "$image" check >/dev/null
ok "configured, and the configuration passes the check"

run --detach --name "$name" "$image" >/dev/null
for _ in $(seq 60); do
    ready=$(curl --silent "http://127.0.0.1:$port/readyz" || true)
    [ "$ready" = ok ] && break || sleep 1
done
[ "$ready" = ok ]
ok "it serves"

pid=$("${docker[@]}" inspect --format '{{.State.Pid}}' "$name")
grep -q "^Uid:[[:space:]]*65532[[:space:]]*65532" "/proc/$pid/status"
grep -q "^CapEff:[[:space:]]*0*$" "/proc/$pid/status"
grep -q "^NoNewPrivs:[[:space:]]*1" "/proc/$pid/status"
[ ! -e "/proc/$pid/root/bin/sh" ]
ok "as a user without rights, and there is no shell"

begun=$SECONDS
"${docker[@]}" stop --time 90 "$name" >/dev/null
[ "$("${docker[@]}" inspect --format '{{.State.ExitCode}}' "$name")" = 0 ]
"${docker[@]}" logs "$name" 2>&1 | tail -1 | grep -q stopped
ok "stopped in order, after $((SECONDS - begun)) s"

run --rm "$image" jobs >/dev/null
ok "what it has written is there for the next one"
