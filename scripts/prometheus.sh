#!/usr/bin/env bash
# Prints the directory of prometheus and promtool, which try the rules of packaging/monitoring. Where they are not installed, Debian's
# package is unpacked below target/ and not installed: nobody asked for a service that watches.
set -euo pipefail
cd "$(dirname "$0")/.."

unpacked=${CARGO_TARGET_DIR:-target}/prometheus

# Whether both programs start here.
work() {
    "$1/prometheus" --version >/dev/null 2>&1 && "$1/promtool" --version >/dev/null 2>&1
}

for place in /usr/bin /usr/local/bin "$unpacked/usr/bin"; do
    if work "$place"; then
        realpath "$place"
        exit
    fi
done
if [ "${1:-}" = --install ] && command -v apt-get >/dev/null && command -v dpkg >/dev/null; then
    echo "No prometheus here: unpacking Debian's package into $unpacked" >&2
    rm -rf "$unpacked"
    mkdir -p "$unpacked"
    # promtool has a package of its own in newer ones.
    # shellcheck disable=SC2046
    fetch() { (cd "$unpacked" && apt-get -qq -o APT::Sandbox::User=root download prometheus $(apt-cache pkgnames promtool | grep -x promtool)); }
    # A package list that is old names a package that is gone; bringing it up to date needs to be allowed.
    if { fetch || { apt-get -qq update && fetch; }; } >&2; then
        for package in "$unpacked"/*.deb; do dpkg -x "$package" "$unpacked"; done
        rm -f "$unpacked"/*.deb
        if work "$unpacked/usr/bin"; then
            realpath "$unpacked/usr/bin"
            exit
        fi
    fi
fi
echo "There is no prometheus here; tests that need it are skipped. Debian and Ubuntu have it in the package prometheus" >&2
exit 1
