#!/bin/sh
# Installs Debian packages where that is allowed, else says what to install; fails if one is still missing.
#
#     requirements/system.sh PACKAGE ...
set -u

installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

missing=""
for package in "$@"; do
    installed "$package" || command -v "$package" >/dev/null 2>&1 || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing the system's packages:$missing"
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086  # Words on purpose.
    if { apt-get update -qq && apt-get install -qq -y --no-install-recommends $missing; } </dev/null >/dev/null; then
        exit 0
    fi
fi
echo "Not installed, and not allowed or able to install here:$missing. Tests that need them will say so." >&2
exit 1
