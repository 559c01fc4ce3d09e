#!/usr/bin/env bash
# Prints the path of a pgbouncer that keeps the prepared statements of its clients apart (1.21 and newer), through which the tests send
# the pages. Where none is installed, a Debian package is unpacked below target/ and not installed: nobody asked for a pooler. Debian 12's
# own is too old; Debian 13's is taken in its place, which runs with the loader and the libraries that are unpacked with it.
set -euo pipefail
cd "$(dirname "$0")/.."

wanted=1.21
unpacked=${CARGO_TARGET_DIR:-target}/pgbouncer

# Whether a version is new enough.
is_new_enough() {
    [ -n "$1" ] && [ "$(printf '%s\n' "$wanted" "$1" | sort -V | head -n 1)" = "$wanted" ]
}
# Prints where it is, if it starts here and is new enough.
take() {
    [ -x "$1" ] && is_new_enough "$("$1" --version 2>/dev/null | sed -n 's/^PgBouncer //p')" && realpath "$1"
}

for place in /usr/sbin/pgbouncer /usr/local/bin/pgbouncer "$unpacked/pgbouncer"; do
    if take "$place"; then exit; fi
done

apt=(-qq -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::http::Timeout=20)
candidate() {
    apt-cache "${apt[@]}" show --no-all-versions pgbouncer 2>/dev/null | sed -n 's/^Version: //p'
}
# Has apt look at Debian 13 on the mirror that this Debian comes from, with lists of its own: what is installed here stays what it is.
look_at_debian_13() {
    local mirror own=$unpacked/apt
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
    [ -n "$mirror" ] || return 1
    mkdir -p "$own"/{lists/partial,cache/archives/partial}
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$own/sources.list"
    : >"$own/status"
    apt+=(-o "Dir::Etc::SourceList=$own/sources.list" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$own/lists"
        -o "Dir::State::status=$own/status" -o "Dir::Cache=$own/cache" -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false)
    apt-get "${apt[@]}" update
}
# Prints a package, the libraries that it needs, and those that these need.
with_libraries() {
    apt-cache "${apt[@]}" depends --recurse --important "$1" | awk -v first="$1" '
        /^[^ ]/ { package = $1 }
        /^ .*Depends: lib/ { needs[package] = needs[package] " " $NF }
        function visit(name, parts, n, i) {
            if (name in seen) return
            seen[name]; print name
            n = split(needs[name], parts)
            for (i = 1; i <= n; i++) visit(parts[i])
        }
        END { visit(first) }'
}
unpack() {
    local loader
    # shellcheck disable=SC2046
    (cd "$unpacked" && apt-get "${apt[@]}" download $(with_libraries pgbouncer)) || return 1
    for package in "$unpacked"/*.deb; do dpkg -x "$package" "$unpacked/tree" || return 1; done
    loader=$(find "$unpacked/tree" -name 'ld-linux*.so.*' -type f | head -n 1)
    printf '#!/bin/sh\nexec %q --library-path %q %q "$@"\n' \
        "$loader" "$(dirname "$loader")" "$unpacked/tree/usr/sbin/pgbouncer" >"$unpacked/pgbouncer"
    chmod +x "$unpacked/pgbouncer"
    rm -rf "$unpacked"/*.deb "$unpacked/apt"
}

if command -v apt-get >/dev/null && command -v dpkg >/dev/null; then
    echo "No pgbouncer of $wanted or newer here: unpacking Debian's package into $unpacked" >&2
    rm -rf "$unpacked"
    mkdir -p "$unpacked"
    unpacked=$(realpath "$unpacked")
    if { is_new_enough "$(candidate)" || { look_at_debian_13 && is_new_enough "$(candidate)"; }; } >&2 && unpack >&2; then
        if take "$unpacked/pgbouncer"; then exit; fi
    fi
fi
echo "There is no pgbouncer of $wanted or newer here; tests that need it are skipped" >&2
exit 1
