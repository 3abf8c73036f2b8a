# Sourced: what scripts say, and how they get what a machine does not have.

say() { printf '\n== %s\n' "$*"; }
fail() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# install_debian PACKAGE…
install_debian() {
    command -v apt-get >/dev/null || fail "install what Debian calls $* and run this again"
    as_root apt-get update -qq
    as_root apt-get install -qq -y --no-install-recommends "$@"
}

# provide COMMAND PACKAGE: has Debian install the package if the command is missing.
provide() {
    command -v "$1" >/dev/null && return
    say "'$1' is missing: installing Debian's $2"
    install_debian "$2"
}

# What users run, built together, so that cargo builds what the programs have in common once.
released=(-p remotemedia-cli -p remotemedia-gateway -p remotemedia-worker -p remotemedia-python)
