#!/bin/sh
# Lists the interpreters of the supported versions that are here, each as `VERSION=PATH`.
for version in 3.10 3.11 3.12 3.13; do
    for candidate in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
        # Ask it: a pyenv shim may stand for a version that is not there.
        path=$("$candidate" -c 'import sys; print(sys.executable, "%d.%d" % sys.version_info[:2])' 2>/dev/null)
        if [ "${path##* }" = "$version" ]; then
            echo "$version=${path% *}"
            break
        fi
    done
done
