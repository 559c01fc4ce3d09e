#!/usr/bin/env bash
# Prints the path of schemathesis, which tries the private API with what its OpenAPI file allows, and what it does not. It is no part of the
# program and is not kept here: pip installs this version once below target/, where there is Python.
set -euo pipefail
cd "$(dirname "$0")/.."

version=4.32.5
folder=${CARGO_TARGET_DIR:-target}/schemathesis

works() {
    "$1" --version 2>/dev/null | grep -qF "$version"
}

program=$folder/bin/schemathesis
if ! works "$program" && [ "${1:-}" = --install ] && command -v python3 >/dev/null; then
    echo "Installing schemathesis $version into $folder" >&2
    { python3 -m venv "$folder" && "$folder/bin/pip" install --quiet "schemathesis==$version"; } >&2 || true
fi
if works "$program"; then
    realpath --no-symlinks "$program"
    exit
fi
echo "There is no schemathesis $version here, or Python cannot install it; what needs it is skipped" >&2
exit 1
