#!/usr/bin/env bash
# Prints the directory of Postfix's smtp-sink and smtp-source, which the tests and the figures use as a relay and a client that nobody
# here wrote. Where they are not installed, Debian's package is unpacked below target/ and not installed: nobody asked for a mail server.
# Its programs then want LD_LIBRARY_PATH=<directory>/../lib/postfix.
set -euo pipefail
cd "$(dirname "$0")/.."

unpacked=${CARGO_TARGET_DIR:-target}/postfix

# Whether the programs in a directory start here.
work() {
    [ -x "$1/smtp-sink" ] && [ -x "$1/smtp-source" ] || return 1
    # Called wrongly they say how they are called; a missing library says something else.
    [[ "$(LD_LIBRARY_PATH="$1/../lib/postfix" "$1/smtp-sink" 2>&1 || true)" == *usage:* ]]
}

for place in /usr/sbin /usr/local/sbin "$unpacked/usr/sbin"; do
    if work "$place"; then
        realpath "$place"
        exit
    fi
done
if command -v apt-get >/dev/null && command -v dpkg >/dev/null; then
    echo "No smtp-sink here: unpacking Debian's package postfix into $unpacked" >&2
    rm -rf "$unpacked"
    mkdir -p "$unpacked"
    fetch() { (cd "$unpacked" && apt-get -qq -o APT::Sandbox::User=root download postfix); }
    # A package list that is old names a package that is gone; bringing it up to date needs to be allowed.
    if { fetch || { apt-get -qq update && fetch; }; } >&2 && dpkg -x "$unpacked"/postfix_*.deb "$unpacked" && work "$unpacked/usr/sbin"; then
        realpath "$unpacked/usr/sbin"
        exit
    fi
fi
echo "There is no smtp-sink here; tests that need it are skipped. Debian and Ubuntu have it in the package postfix" >&2
exit 1
