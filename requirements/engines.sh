#!/bin/sh
# Fetches the engines that Grafana's tests run, without installing anything on the system:
# Prometheus and promtool, Alertmanager and amtool, and docker compose (whose `config` needs no Docker).
#
#     requirements/engines.sh [DIRECTORY]    default: .engines
#
# Afterwards DIRECTORY/bin holds them. Debian's newest packages (sid) are unpacked there, in an apt of their
# own; where they cannot be had, this Debian's older ones serve. Programs on PATH are the last resort.
# Does nothing if DIRECTORY/bin is complete. Fails with a sentence if Prometheus or Alertmanager is missing.
set -u
cd "$(dirname "$0")/.." || exit 1
directory=${1:-.engines}
mkdir -p "$directory/bin" || exit 1
directory=$(cd "$directory" && pwd)

needed="prometheus promtool alertmanager amtool"
wanted="$needed docker-compose"
packages="prometheus promtool prometheus-alertmanager docker-compose" # promtool: a part of the first until 2025

missing() {
    for program in "$@"; do
        "$directory/bin/$program" --version >/dev/null 2>&1 || "$directory/bin/$program" version >/dev/null 2>&1 ||
            printf '%s ' "$program"
    done
}

# An apt of its own: sid must never become a source of the system's packages.
separate_apt() {
    root=$directory/apt
    mkdir -p "$root/lists/partial" "$root/cache/archives/partial" "$root/etc/preferences.d" || return 1
    : >"$root/status"
    server=$(sed -n 's/^URIs: *\(http[^ ]*\/debian\)\/*$/\1/p; s/^deb \(\[[^]]*\] \)*\(http[^ ]*\/debian\)\/* .*/\2/p' \
        /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1)
    key=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb [signed-by=$key] ${server:-http://deb.debian.org/debian} $1 main" >"$root/etc/sources.list"
    # The system's own configuration goes on to name its proxy, if it has one.
    cat >"$root/apt.conf" <<END
Dir::State "$root";
Dir::State::lists "$root/lists";
Dir::State::status "$root/status";
Dir::Cache "$root/cache";
Dir::Etc::sourcelist "$root/etc/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferencesparts "$root/etc/preferences.d";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
END
    APT_CONFIG=$root/apt.conf apt-get update -qq </dev/null >"$directory/apt.log" 2>&1
}

unpack() {
    for package in $packages; do
        (
            cd "$directory/apt" && rm -f "$package"_*.deb &&
                APT_CONFIG=$directory/apt/apt.conf apt-get download -qq "$package" </dev/null >>"$directory/apt.log" 2>&1 &&
                dpkg-deb -x "$package"_*.deb "$directory/$1" && rm -f "$package"_*.deb
        ) || echo "$package could not be fetched from Debian $1" >>"$directory/apt.log"
    done
    link_from "$directory/$1"
}

link_from() {
    for pair in prometheus=usr/bin/prometheus promtool=usr/bin/promtool amtool=usr/bin/amtool \
        alertmanager=usr/bin/prometheus-alertmanager docker-compose=usr/libexec/docker/cli-plugins/docker-compose \
        docker-compose=usr/bin/docker-compose; do
        program=${pair%%=*} path=$1/${pair#*=}
        [ -x "$path" ] && [ -n "$(missing "$program")" ] && ln -sf "$path" "$directory/bin/$program"
    done
    relocate_alertmanager "$1"
}

# Debian's Alertmanager reads its templates below /usr/share, which is not ours to write to. It gets a path of
# the same length that begins where it is started, and a script that starts it there.
relocate_alertmanager() {
    program=$1/usr/bin/prometheus-alertmanager
    [ -x "$program" ] && [ -d "$1/usr/share/prometheus/alertmanager" ] || return 0
    LC_ALL=C sed 's|/usr/share/prometheus/alertmanager|.//./share/prometheus/alertmanager|g' "$program" >"$program.here" &&
        chmod +x "$program.here" && rm -f "$directory/bin/alertmanager" &&
        printf '#!/bin/sh\ncd "%s" && exec ./bin/prometheus-alertmanager.here "$@"\n' "$1/usr" >"$directory/bin/alertmanager" &&
        chmod +x "$directory/bin/alertmanager"
}

from_path() {
    for program in $(missing $wanted); do
        path=$(command -v "$program" || command -v "prometheus-$program") && ln -sf "$path" "$directory/bin/$program"
    done
    return 0
}

# shellcheck disable=SC2046,SC2086  # Words on purpose, here and below.
[ -n "$(missing $wanted)" ] || exit 0
if command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1; then
    echo "Fetching Prometheus, Alertmanager and docker compose into $(basename "$directory")/"
    for suite in sid "$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)"; do
        [ -n "$suite" ] && [ -n "$(missing $wanted)" ] && separate_apt "$suite" && unpack "$suite"
    done
    rm -rf "$directory/apt"
fi
from_path
if [ -n "$(missing $needed)" ]; then
    echo "Missing: $(missing $needed). They come from Debian's packages, or may be on PATH; see ${directory##*/}/apt.log." >&2
    exit 1
fi
[ -z "$(missing docker-compose)" ] || echo "docker compose could not be fetched: its test will say so." >&2
exit 0
