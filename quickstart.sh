#!/usr/bin/env bash
# A fresh machine -> .venv -> a small study on the embedded world -> its table, verdicts and figure.
# Safe to run again: what is installed and computed is kept. Without flags it runs what claim 1 needs in four replicates
# (K=4 with 120 prompts, K=2 with 240), and other sizes in the first. Flags, if any, are reproduce.py's instead:
# `bash quickstart.sh --replicates 8` runs the whole grid in eight replicates.
set -eu
cd "$(dirname "$0")"
sh install.sh requirements.txt
if [ $# -eq 0 ]; then
    set -- --sizes 48 120 240 --replicates 4 --only '*_len[24]_*_seed42' '*_len4_120_*' '*_len2_240_*'
fi
exec .venv/bin/python reproduce.py --profile toy "$@"
