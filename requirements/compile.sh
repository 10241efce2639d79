#!/bin/sh
# Pins each environment anew: requirements/*.in and pyproject.toml in, requirements/*.txt out.
#
#     requirements/compile.sh            keep the pins that still fit
#     requirements/compile.sh --upgrade  take the newest of everything
#
# Hashes, but no addresses: a lock file that records where files came from records whose machine it was.
# One file serves every supported Python and system, by markers.
set -eu
cd "$(dirname "$0")/.."
export UV_PYTHON_DOWNLOADS=never
if ! uv --version >/dev/null 2>&1; then
    echo "Pinning needs uv: pip install uv" >&2
    exit 1
fi

pin() {
    name=$1
    shift
    python=3.10
    [ "$name" != grafana ] || python=3.11 # The Foundation SDK needs it.
    uv pip compile --quiet pyproject.toml "requirements/$name.in" --output-file "requirements/$name.txt" \
        --universal --python-version "$python" --generate-hashes --no-emit-index-url --no-header "$@"
    echo "requirements/$name.txt"
}

pin core "$@"
pin otel-oldest --extra otel --extra prometheus "$@"
for name in demo dev grafana mcp1 mcp1-oldest recipes; do
    pin "$name" --extra all "$@"
done
