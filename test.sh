#!/usr/bin/env bash
# A fresh machine -> .venv with the test requirements -> lint and tests. `bash test.sh --all` adds the slow tests;
# what else is given goes to pytest. REQUIRE_SHARED=1 fails, rather than skips, where ../shared is absent.
set -eu
cd "$(dirname "$0")"
if [ "${1:-}" = --all ]; then
    shift
    sh install.sh requirements.txt tests/requirements.txt benchmarks/requirements.txt
    .venv/bin/python -m ruff check .
    exec .venv/bin/python -m pytest "$@"
fi
sh install.sh requirements.txt tests/requirements.txt
.venv/bin/python -m ruff check .
exec .venv/bin/python -m pytest -m "not slow" "$@"
