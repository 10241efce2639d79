#!/bin/sh
# Makes a virtual environment from the pins of one environment, and installs this checkout into it.
#
#     requirements/install.sh NAME DIRECTORY    for example: dev .venv
#
# The interpreter is $PYTHON, else the first of python3, python3.13 ... python3.10 that is new enough.
# Uses uv where it is on PATH, else venv and pip. Anything in DIRECTORY is lost.
set -eu
cd "$(dirname "$0")/.."
name=$1
directory=$2
export UV_PYTHON_DOWNLOADS=never PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

give_up() {
    printf '\n%s\n\n' "$1" >&2
    exit 1
}

least=10
[ "$name" != grafana ] || least=11 # Grafana's Foundation SDK needs it.

fits() { "$1" -c "import sys; sys.exit(sys.version_info < (3, $least))" >/dev/null 2>&1; }

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
        if fits "$candidate"; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
}

python=$(find_python)
[ -n "$python" ] || give_up "Python 3.$least or newer is needed, and ${PYTHON:-python3} is $("${PYTHON:-python3}" --version 2>/dev/null || echo missing).
Install one (Debian, Ubuntu: apt-get install python3 python3-venv; macOS: brew install python@3.13),
or name one: make PYTHON=/path/to/python3.12 ..."

with_uv() {
    command -v uv >/dev/null 2>&1 || return 1
    rm -rf "$directory"
    uv venv --quiet --python "$python" "$directory" &&
        uv pip install --quiet --python "$directory/bin/python" --require-hashes -r "requirements/$name.txt" &&
        uv pip install --quiet --python "$directory/bin/python" --no-deps --no-build-isolation -e .
}

with_pip() {
    if ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
        requirements/system.sh python3-venv || true
    fi
    "$python" -c 'import venv, ensurepip' >/dev/null 2>&1 ||
        give_up "$python has no venv. Install it (Debian, Ubuntu: apt-get install python3-venv), or install uv."
    rm -rf "$directory"
    "$python" -m venv "$directory" &&
        "$directory/bin/python" -m pip install -qq --require-hashes -r "requirements/$name.txt" &&
        "$directory/bin/python" -m pip install -qq --no-deps --no-build-isolation -e .
}

echo "Installing requirements/$name.txt into $directory ($("$python" --version))"
with_uv || with_pip || give_up "Could not install requirements/$name.txt; the reason stands above."
: >"$directory/.ready"
