#!/usr/bin/env bash
# A fresh machine -> .venv with the test requirements -> lint and tests. `bash test.sh --all` adds the slow tests;
# what else is given goes to pytest. REQUIRE_SHARED=1 fails, rather than skips, where ../shared is absent.
set -eu
cd "$(dirname "$0")"
requirements="requirements.txt tests/requirements.txt"
if [ "${1:-}" = --all ]; then
    shift
    requirements="$requirements benchmarks/requirements.txt"
else
    set -- -m "not slow" "$@"
fi
sh install.sh $requirements
.venv/bin/python -m ruff check .
exec .venv/bin/python -m pytest "$@"
