#!/bin/sh
# Samples the subsets of rankings of 4, 3 and 2 responses.
# Run: cd data_preprocess; sh sample.sh [TOKENIZER] [--sizes M ...]
# TOKENIZER: folder or name of a tokenizer; default $LLaMA_path, else LLaMA's name on the hub. PYTHON: which python.
set -eu

if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    if [ -x ../.venv/bin/python ]; then
        PYTHON=../.venv/bin/python
    fi
fi

case "${1:-}" in
"") ;;
-*) ;;
*)
    tokenizer=$1
    shift
    set -- "$@" --tokenizer "$tokenizer"
    ;;
esac
# An empty first argument (an unset variable in quotes) means the default.
if [ $# -gt 0 ] && [ -z "$1" ]; then
    shift
fi

# One process: the three rankings of a prompt share it, so it is tokenised once.
exec "$PYTHON" sample.py 4 3 2 "$@"
