#!/usr/bin/env bash
# Prints the path of pgbouncer, through which the tests send the pages. Where it is not installed, Debian's package is unpacked below
# target/ with the libraries it needs, and not installed: nobody asked for a pooler. It then wants LD_LIBRARY_PATH, which is the directory
# `lib` beside it.
set -euo pipefail
cd "$(dirname "$0")/.."

unpacked=${CARGO_TARGET_DIR:-target}/pgbouncer

# Whether a program starts here.
works() {
    [ -x "$1" ] && LD_LIBRARY_PATH="$(dirname "$1")/lib" "$1" --version 2>/dev/null | grep -q '^PgBouncer'
}

for place in /usr/sbin/pgbouncer /usr/local/bin/pgbouncer "$unpacked/pgbouncer"; do
    if works "$place"; then
        realpath "$place"
        exit
    fi
done
if command -v apt-get >/dev/null && command -v dpkg >/dev/null; then
    echo "No pgbouncer here: unpacking Debian's package into $unpacked" >&2
    rm -rf "$unpacked"
    mkdir -p "$unpacked/lib"
    libraries=$(apt-cache depends pgbouncer 2>/dev/null | sed -n 's/.*Depends: \(lib\(event\|cares\|c-ares\)[^ ]*\)$/\1/p')
    # shellcheck disable=SC2086
    fetch() { (cd "$unpacked" && apt-get -qq -o APT::Sandbox::User=root download pgbouncer $libraries); }
    # A package list that is old names a package that is gone; bringing it up to date needs to be allowed.
    if { fetch || { apt-get -qq update && fetch; }; } >&2; then
        for package in "$unpacked"/*.deb; do dpkg -x "$package" "$unpacked/tree"; done
        cp "$unpacked/tree/usr/sbin/pgbouncer" "$unpacked/"
        find "$unpacked/tree" -name 'lib*.so*' -exec cp -P {} "$unpacked/lib/" \;
        if works "$unpacked/pgbouncer"; then
            realpath "$unpacked/pgbouncer"
            exit
        fi
    fi
fi
echo "There is no pgbouncer here; tests that need it are skipped. Debian and Ubuntu have it in the package pgbouncer" >&2
exit 1
