#!/usr/bin/env bash
# A fresh machine -> .venv -> the small study on the embedded world -> its table, verdicts and figure.
# Safe to run again: what is installed and computed is kept. Flags are reproduce.py's (e.g. --seeds 42 43 44).
set -eu
cd "$(dirname "$0")"
sh install.sh requirements.txt
exec .venv/bin/python reproduce.py --profile toy "$@"
