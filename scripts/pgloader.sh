#!/usr/bin/env bash
# Prints the path of pgloader, which imports are measured beside. Where it is not installed, Debian's package is unpacked below target/ with
# the libraries for SQL Server that it does not start without, and not installed: nothing but the figures needs it.
set -euo pipefail
cd "$(dirname "$0")/.."

unpacked=${CARGO_TARGET_DIR:-target}/pgloader

# Prints where it is, if it starts here.
take() {
    [ -x "$1" ] && "$1" --version >/dev/null 2>&1 && realpath "$1"
}

for place in /usr/bin/pgloader /usr/local/bin/pgloader "$unpacked/pgloader"; do
    if take "$place"; then exit; fi
done
if command -v apt-get >/dev/null && command -v dpkg >/dev/null; then
    echo "No pgloader here: unpacking Debian's package into $unpacked" >&2
    rm -rf "$unpacked"
    mkdir -p "$unpacked"
    unpacked=$(realpath "$unpacked")
    fetch() { (cd "$unpacked" && apt-get -qq -o APT::Sandbox::User=root download pgloader libct4 libsybdb5); }
    unpack() {
        for package in "$unpacked"/*.deb; do dpkg -x "$package" "$unpacked/tree" || return 1; done
        libraries=$(dirname "$(find "$unpacked/tree" -name 'libsybdb.so.5' | head -n 1)")
        printf '#!/usr/bin/env bash\nLD_LIBRARY_PATH=%q exec %q "$@"\n' "$libraries" "$unpacked/tree/usr/bin/pgloader" >"$unpacked/pgloader"
        chmod +x "$unpacked/pgloader"
        rm -f "$unpacked"/*.deb
    }
    # A package list that is old names a package that is gone; bringing it up to date needs to be allowed.
    if { fetch || { apt-get -qq update && fetch; }; } >&2 && unpack >&2; then
        if take "$unpacked/pgloader"; then exit; fi
    fi
fi
echo "There is no pgloader here; imports are not measured beside it. Debian and Ubuntu have it in the package pgloader" >&2
exit 1
