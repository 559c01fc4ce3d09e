#!/usr/bin/env bash
# Installs the Debian package in a clean Debian that is booted for it, and looks whether it starts, runs, survives, upgrades and leaves what it
# should: packaging/try.sh target/debian/afterword_….deb. Wants root, debootstrap and systemd-container; takes some minutes. DEBIAN names a folder
# with an unpacked Debian to copy instead of making one.
set -euo pipefail

deb=$(realpath "${1:?names the package}")
root=$(mktemp -d /var/tmp/afterword-try.XXXXXX)
container=
finish() {
    [ -z "$container" ] || { kill "$container" && wait "$container" || true; }
    rm -rf --one-file-system "$root"
}
trap finish EXIT

# With what the package depends on, because the one that is booted has no network.
if [ -n "${DEBIAN:-}" ]; then
    cp --archive "$DEBIAN/." "$root"
else
    echo "making a Debian"
    # Its root has to be everybody's to enter, or no service that is not root's finds anything.
    chmod 755 "$root"
    debootstrap --variant=minbase --include=systemd-sysv,dbus,adduser,ca-certificates,postgresql,curl bookworm "$root" >/dev/null
fi
# The package's service makes a server of its own; Debian's is in nobody's way here.
chroot "$root" systemctl disable postgresql >/dev/null 2>&1
systemd-nspawn --quiet --directory="$root" --register=no --keep-unit --private-network --console=pipe --boot >/dev/null 2>&1 &
container=$!

# Runs a command in there.
inside() {
    nsenter --target "$(pgrep --parent "$container")" --mount --uts --ipc --net --pid --cgroup /bin/bash -euc "$1"
}
afterword() {
    inside "cd /var/lib/afterword; runuser -u afterword -- afterword --config /etc/afterword/jobs.toml $1"
}
ok() {
    echo "ok: $1"
}
# Waits, three minutes at most (the machine may have other work), until a command succeeds.
until_true() {
    for _ in $(seq 180); do
        if inside "$1" >/dev/null 2>&1; then return; fi
        sleep 1
    done
    echo "never came true: $1" >&2
    inside "journalctl --no-pager --lines 30 --unit afterword" >&2
    exit 1
}
for _ in $(seq 180); do inside true 2>/dev/null && break || sleep 1; done
# What of that Debian has failed is not ours to judge.
until_true 'systemctl is-system-running | grep -qE "^(running|degraded)$"'

cp "$deb" "$root/root/first.deb"
inside "dpkg --install /root/first.deb" >/dev/null
inside "! systemctl is-active --quiet afterword && systemctl is-enabled --quiet afterword"
ok "installed; it waits for its configuration"

inside "gzip --test /usr/share/man/man1/afterword.1.gz /usr/share/doc/afterword/changelog.gz"
for completions in bash-completion/completions/afterword zsh/vendor-completions/_afterword fish/vendor_completions.d/afterword.fish; do
    inside "grep -q testimonials /usr/share/$completions"
done
# What the README links to; what is for who works on the program is not in the package.
inside 'cd /usr/share/doc/afterword; links=$(grep -o "](\(packaging/[^)]*\|SECURITY.md\))" README.md | tr -d "]()"); [ -n "$links" ] && ls $links >/dev/null'
ok "the manual page, the completions and what the README links to are there"

inside "afterword --config /etc/afterword/jobs.toml init --shop-name 'Atelier Rive'" 2>/dev/null
inside "systemctl start afterword && curl --silent --output /dev/null http://127.0.0.1:8080/"
afterword check >/dev/null
ok "configured and started, with the private Postgres; systemd knows when the pages are there"

inside "cat >/tmp/orders.csv; chmod 644 /tmp/orders.csv" <<'ORDERS'
order_id,email,ordered_at,fulfilled_at,status
B-1,claire@customer.example,2026-03-01T10:00:00Z,2026-03-02T10:00:00Z,fulfilled
ORDERS
afterword "import orders /tmp/orders.csv --shop atelier" >/dev/null 2>&1
inside "systemctl start afterword-run@nightly-metrics.service"
[ "$(afterword "jobs history nightly-metrics --json" 2>/dev/null | grep -c '"done"')" -ge 1 ]
ok "orders are imported, and a job runs by its own unit, beside the service"

inside 'kill -KILL "$(systemctl show --property MainPID --value afterword)"'
until_true '[ "$(systemctl show --property NRestarts --value afterword)" = 1 ] && curl --silent http://127.0.0.1:8080/'
afterword "explain order B-1" >/dev/null 2>&1
ok "killed, it comes back with everything it knew"

inside "systemctl stop afterword"
inside "tail -1 /var/lib/afterword/postgres/postgres.log | grep -q 'database system is shut down'"
ok "stopped, and its Postgres shut down in order"

inside "sed -i.right 's/^base_url/base_ulr/' /etc/afterword/jobs.toml; ! systemctl start afterword 2>/dev/null; sleep 12; systemctl is-failed --quiet afterword"
[ "$(inside 'systemctl show --property NRestarts --value afterword')" = 0 ]
inside "mv /etc/afterword/jobs.toml.right /etc/afterword/jobs.toml; systemctl reset-failed afterword; systemctl start afterword"
ok "a wrong configuration is not tried again and again"

# The next version, as far as dpkg can tell.
dpkg-deb --raw-extract "$deb" "$root/root/next"
sed -i 's/^Version: .*/&+next/' "$root/root/next/DEBIAN/control"
dpkg-deb -Zgzip -z1 --build "$root/root/next" "$root/root/next.deb" >/dev/null
before=$(inside 'systemctl show --property MainPID --value afterword')
inside "dpkg --install /root/next.deb" >/dev/null
after=$(inside 'systemctl show --property MainPID --value afterword')
[ "$before" != "$after" ] && inside "systemctl is-active --quiet afterword && curl --silent --output /dev/null http://127.0.0.1:8080/"
afterword "explain order B-1" >/dev/null 2>&1
ok "upgraded: restarted, with everything it knew"

inside "dpkg --purge afterword" >/dev/null
inside "! systemctl is-active --quiet afterword && [ -f /etc/afterword/jobs.toml ] && [ -d /var/lib/afterword/postgres/data ]"
inside "dpkg --install /root/next.deb" >/dev/null
until_true "curl --silent http://127.0.0.1:8080/"
afterword "explain order B-1" >/dev/null 2>&1
ok "purged and installed again: configuration and data had stayed"
