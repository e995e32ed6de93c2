#!/bin/sh
# Makes .venv beside this file and installs pinned requirements into it; does nothing where that is done already.
# usage: sh install.sh REQUIREMENTS_FILE...        environment: PYTHON, a Python 3.11 to 3.13 (default: python3)
set -eu
cd "$(dirname "$0")"
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || {
    echo "error: $python is $("$python" -V 2>&1): Python 3.11 to 3.13 is needed (set PYTHON=/path/to/python3.11)" >&2
    exit 2
}
# What was installed is remembered per list of files, by their content.
wanted=$(cat constraints.txt "$@" | cksum)
stamp=.venv/installed-$(echo "$*" | cksum | cut -d ' ' -f 1)
if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then # none yet, or one that was cut short
    "$python" -m venv .venv || {
        echo "error: $python cannot make a virtual environment (on Debian and Ubuntu: apt install python3-venv)" >&2
        rm -rf .venv
        exit 1
    }
fi
echo "installing into $(pwd)/.venv; the first time takes some minutes" >&2
# FILE... becomes -r FILE...: each round appends one pair and drops one of the originals.
for file in "$@"; do
    set -- "$@" -r "$file"
    shift
done
.venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"
echo "$wanted" >"$stamp"
