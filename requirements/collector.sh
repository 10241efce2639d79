#!/bin/sh
# Builds a real OpenTelemetry Collector (its core: OTLP in, filter, OTLP out) without a module proxy:
# from Debian's own Go packages, which are newest in sid. Nothing is installed on the system.
#
#     requirements/collector.sh [DIRECTORY]    default: .engines
#
# Afterwards DIRECTORY/bin/otelcol is there; it takes some minutes and half a gigabyte while it builds.
# Does nothing if it is there already. Fails with a sentence when it cannot be had here.
set -u
cd "$(dirname "$0")/.." || exit 1
directory=${1:-.engines}
mkdir -p "$directory/bin" || exit 1
directory=$(cd "$directory" && pwd)
log=$directory/collector.log
work=$directory/collector-build

give_up() {
    rm -rf "$work"
    echo "No Collector: $1; see ${directory##*/}/collector.log. Its test will be skipped, and says so." >&2
    exit 1
}

"$directory/bin/otelcol" --version >/dev/null 2>&1 && exit 0
command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 ||
    give_up "it is built from Debian's packages, and this is no Debian"
echo "Building a Collector into $(basename "$directory")/; this takes some minutes"
: >"$log"
rm -rf "$work"

# An apt of its own: sid must never become a source of the system's packages.
apt=$work/apt
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/etc/preferences.d" "$work/unpacked" || exit 1
: >"$apt/status"
server=$(sed -n 's/^URIs: *\(http[^ ]*\/debian\)\/*$/\1/p; s/^deb \(\[[^]]*\] \)*\(http[^ ]*\/debian\)\/* .*/\2/p' \
    /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1)
key=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$key] ${server:-http://deb.debian.org/debian} sid main" >"$apt/etc/sources.list"
cat >"$apt/apt.conf" <<END
Dir::State "$apt";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Etc::sourcelist "$apt/etc/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferencesparts "$apt/etc/preferences.d";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
END
export APT_CONFIG="$apt/apt.conf"
apt-get update -qq </dev/null >>"$log" 2>&1 || give_up "Debian sid cannot be reached"

# Only the Go packages of what apt would install: sources and the compiler, no C library, no init system.
apt-get install -s --no-install-recommends golang-opentelemetry-collector-dev golang-go </dev/null >"$work/plan" 2>>"$log"
packages=$(sed -n 's/^Inst \(golang-[^ ]*\) .*/\1/p' "$work/plan" | sort -u)
[ -n "$packages" ] || give_up "Debian sid has no golang-opentelemetry-collector-dev"
# shellcheck disable=SC2086  # Words on purpose.
(cd "$apt/cache/archives" && apt-get download -qq $packages </dev/null >>"$log" 2>&1) ||
    give_up "its sources could not be fetched"
for package in "$apt"/cache/archives/*.deb; do
    dpkg-deb -x "$package" "$work/unpacked" >>"$log" 2>&1 || give_up "$(basename "$package") could not be unpacked"
done
rm -rf "$apt/cache"

GOROOT=$(echo "$work"/unpacked/usr/lib/go-1.*)
export GOROOT GOPATH="$work/go" GO111MODULE=off GOFLAGS= GOTOOLCHAIN=local CGO_ENABLED=0
export GOCACHE="$work/cache" GOTMPDIR="$work"
mkdir -p "$GOPATH"
ln -s "$work/unpacked/usr/share/gocode/src" "$GOPATH/src" || give_up "the sources are not where they should be"
mkdir -p "$work/main" && cp requirements/collector.go "$work/main/main.go"
(cd "$work/main" && "$GOROOT/bin/go" build -p 2 -o "$directory/bin/otelcol" . >>"$log" 2>&1) || give_up "it does not build"
"$directory/bin/otelcol" --version >>"$log" 2>&1 || give_up "what was built does not run"
rm -rf "$work"
