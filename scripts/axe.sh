#!/usr/bin/env bash
# Prints the path of axe-core's script, with which the tests judge whether everybody can use the pages. It is no part of the program and
# is not kept here: npm fetches it once below target/, this version and no other, and it counts only with this digest.
set -euo pipefail
cd "$(dirname "$0")/.."

version=4.14.1
digest=29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c
folder=${CARGO_TARGET_DIR:-target}/axe
script=$folder/axe-core-$version.min.js

is_ours() {
    [ -f "$1" ] && echo "$digest  $1" | sha256sum --check --status
}

if ! is_ours "$script" && command -v npm >/dev/null; then
    echo "Fetching axe-core $version into $folder" >&2
    mkdir -p "$folder"
    if (cd "$folder" && npm pack --silent "axe-core@$version" >/dev/null && tar -xzf "axe-core-$version.tgz" package/axe.min.js) >&2; then
        mv "$folder/package/axe.min.js" "$script"
    fi
    rm -rf "$folder/package" "$folder/axe-core-$version.tgz"
fi
if is_ours "$script"; then
    realpath "$script"
    exit
fi
echo "There is no axe-core $version here, or what npm fetched is not what it should be; what needs it is skipped" >&2
exit 1
