#!/usr/bin/env bash
# A fresh machine -> .venv with the test requirements -> lint and tests. `bash test.sh --all` adds the slow tests;
# what else is given goes to pytest. REQUIRE_SHARED=1 fails, rather than skips, where ../shared is absent, and
# REQUIRE_CHROMIUM=1 where no browser is.
set -eu
cd "$(dirname "$0")"
requirements="requirements.txt tests/requirements.txt"
if [ "${1:-}" = --all ]; then
    shift
    requirements="$requirements benchmarks/requirements.txt"
    # The study's page is tested in Chromium, its jobs under Slurm; what is absent and cannot be had is not tested.
    lacking=
    command -v chromium >/dev/null || lacking="chromium fonts-dejavu-core"
    command -v slurmctld >/dev/null || lacking="$lacking slurm-wlm munge"
    if [ -n "$lacking" ] && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update && apt-get install -y --no-install-recommends $lacking; } >/dev/null 2>&1 || true
    fi
else
    set -- -m "not slow" "$@"
fi
sh install.sh $requirements
.venv/bin/python -m ruff check .
.venv/bin/python -m ruff format --check --quiet .
# Side by side, a file at a time: every process of the tests has one thread.
exec .venv/bin/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder "$@"
