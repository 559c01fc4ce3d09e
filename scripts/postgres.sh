#!/usr/bin/env bash
# Prints the directory of Postgres's server programs, looked for where the program itself looks (src/db/embedded.rs). Where there are
# none, installs Debian's if that is allowed, and otherwise says what to do.
set -euo pipefail

oldest=14

# The major version of the server programs in a directory; nothing when they are not there or too old.
version() {
    [ -f "$1/initdb" ] && [ -x "$1/postgres" ] || return 1
    local major
    major=$("$1/postgres" --version 2>/dev/null | sed -n 's/^.*(PostgreSQL) \([0-9]*\).*$/\1/p')
    [ -n "$major" ] && [ "$major" -ge "$oldest" ]
}

find_programs() {
    if [ -n "${PG_BIN_DIR:-}" ]; then
        if ! version "$PG_BIN_DIR"; then
            echo "PG_BIN_DIR is $PG_BIN_DIR, but there are no Postgres server programs of version $oldest or newer there" >&2
            exit 1
        fi
        echo "$PG_BIN_DIR"
        return
    fi
    local places=() place
    for place in $(ls /usr/lib/postgresql 2>/dev/null | grep -E '^[0-9]+$' | sort -rn); do
        places+=("/usr/lib/postgresql/$place/bin")
    done
    if command -v pg_config >/dev/null; then
        places+=("$(pg_config --bindir)")
    fi
    local on_path
    IFS=: read -ra on_path <<<"$PATH"
    for place in ${places[@]+"${places[@]}"} "${on_path[@]}"; do
        if version "$place"; then
            echo "$place"
            return
        fi
    done
    return 1
}

# Debian's package makes and starts a cluster of its own, which nobody asked for: it is told not to, unless the package was there
# before us. (The file that says so belongs to postgresql-common, hence two steps.)
install_programs() {
    local as_root="$1" common_was_there=true
    dpkg-query --show --showformat='${Status}' postgresql-common 2>/dev/null | grep -q ' installed$' || common_was_there=false
    $as_root apt-get update -qq -o Acquire::Retries=3 -o Acquire::http::Timeout=30
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120 --yes --no-install-recommends postgresql-common
    if ! $common_was_there; then
        $as_root sed -i 's/^#\?create_main_cluster.*$/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
    fi
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120 --yes --no-install-recommends postgresql
}

if find_programs; then
    exit
elif [ -n "${PG_BIN_DIR:-}" ]; then
    exit 1
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
        echo "No Postgres server programs here: installing Debian's package postgresql" >&2
        install_programs "$as_root" >&2 || echo "Installing the package postgresql failed" >&2
        if find_programs; then
            exit
        fi
    fi
fi
cat >&2 <<'MESSAGE'
No Postgres server programs (initdb, postgres) of version 14 or newer were found. Either
  install them: `sudo apt-get install postgresql` on Debian and Ubuntu
  or set PG_BIN_DIR to the directory that holds them
MESSAGE
exit 1
