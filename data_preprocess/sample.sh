#!/bin/sh
# Samples the subsets for rankings of 4, 3 and 2 responses.
# Run: cd data_preprocess; sh sample.sh [TOKENIZER] [--sizes M ...]
# TOKENIZER: folder or hub name; default: $LLaMA_path, else LLaMA's hub name. PYTHON: the interpreter to use.
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

# One process, so that a prompt is tokenised once for all three ranking lengths.
exec "$PYTHON" sample.py 4 3 2 "$@"
