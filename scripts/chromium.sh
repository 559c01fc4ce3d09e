#!/usr/bin/env bash
# Prints the paths of chromium and chromedriver, a line each, with which the tests look at the pages. Where they are not installed,
# installs Debian's packages if that is allowed, and otherwise says what to do.
set -euo pipefail

# The driver says which browser it is for, and does not drive another: both come from one package source, or both are named.
find_programs() {
    local browser driver
    for browser in "${CHROMIUM:-}" chromium chromium-browser google-chrome; do
        browser=$([ -n "$browser" ] && command -v "$browser") || continue
        driver=$(command -v "${CHROMEDRIVER:-chromedriver}") || return 1
        # A wrapper that wants a package of another kind, or a missing library, shows here.
        if [ "$(major "$browser")" = "$(major "$driver")" ]; then
            printf '%s\n%s\n' "$browser" "$driver"
            return
        fi
    done
    return 1
}

major() {
    "$1" --version 2>/dev/null | sed -nE 's/^[A-Za-z ]*([0-9]+)\..*$/\1/p' | head -1
}

if find_programs; then
    exit
fi
if command -v apt-get >/dev/null; then
    if [ "$(id -u)" -eq 0 ]; then
        as_root=""
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        as_root="sudo -n"
    else
        as_root=none
    fi
    if [ "$as_root" != none ]; then
        echo "No chromium with its driver here: installing Debian's packages chromium and chromium-driver" >&2
        {
            $as_root apt-get update -qq -o Acquire::Retries=3 -o Acquire::http::Timeout=30 &&
                $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120 --yes --no-install-recommends chromium chromium-driver fonts-liberation fonts-dejavu-core
        } >&2 || echo "Installing the packages chromium and chromium-driver failed" >&2
        if find_programs; then
            exit
        fi
    fi
fi
echo "There is no chromium with a chromedriver of the same version here; tests that need them are skipped. Debian has them in the packages" \
    "chromium and chromium-driver; CHROMIUM and CHROMEDRIVER name others" >&2
exit 1
