#!/usr/bin/env bash
# Prints the directory of a Node queue that sending is measured beside (benches/graphile), with what it needs, which npm installs once below
# target/: the versions of its package-lock.json. It is no part of the program.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${CARGO_TARGET_DIR:-target}/graphile
mkdir -p "$folder"
if command -v node npm >/dev/null; then
    cp benches/graphile/queue.js benches/graphile/package.json "$folder"
    if ! cmp -s benches/graphile/package-lock.json "$folder/package-lock.json" || [ ! -e "$folder/node_modules/.package-lock.json" ]; then
        echo "Installing graphile-worker and nodemailer into $folder" >&2
        cp benches/graphile/package-lock.json "$folder"
        (cd "$folder" && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error) >&2 || rm -rf "$folder/package-lock.json" "$folder/node_modules"
    fi
    if [ -d "$folder/node_modules/graphile-worker" ]; then
        realpath "$folder"
        exit
    fi
fi
echo "There is no Node, or npm cannot install graphile-worker and nodemailer; what needs them is skipped" >&2
exit 1
