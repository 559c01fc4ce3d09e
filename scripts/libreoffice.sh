#!/usr/bin/env bash
# Prints the path of LibreOffice's soffice, with which the tests open exported files as a person with a spreadsheet would. Where it is not
# installed, installs Debian's package libreoffice-calc if that is allowed and done within two minutes, and otherwise says what to do.
set -euo pipefail

find_program() {
    command -v "${SOFFICE:-soffice}" || command -v libreoffice
}

if find_program; then
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
        echo "No LibreOffice here: installing Debian's package libreoffice-calc" >&2
        {
            # The download may take its time or be given up; unpacking must not be cut off in the middle.
            $as_root apt-get update -qq -o Acquire::Retries=3 -o Acquire::http::Timeout=30 &&
                timeout 120 $as_root apt-get install -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120 --yes --no-install-recommends --download-only libreoffice-calc &&
                $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120 --yes --no-install-recommends libreoffice-calc
        } >&2 || echo "Installing the package libreoffice-calc failed" >&2
        if find_program; then
            exit
        fi
    fi
fi
echo "There is no LibreOffice here; tests that need it are skipped. Debian has it in the package libreoffice-calc; SOFFICE names another" >&2
exit 1
