#!/bin/sh
# PRO on OPT-1.3B, with the paper's settings.
# usage: sh train_hh_pro_1b3.sh MODEL EXP DATA RANKING_LEN SEED [flags of main.py]
set -eu
if [ $# -lt 5 ]; then
    echo "usage: sh train_hh_pro_1b3.sh MODEL EXP DATA RANKING_LEN SEED [flags of main.py]" >&2
    exit 2
fi
export BATCH_SIZE="${BATCH_SIZE:-14}"
model=$1 exp=$2 data=$3 ranking_len=$4 seed=$5
shift 5
exec sh "$(dirname "$0")/launch.sh" "$model" "$exp" "$data" "$ranking_len" "$seed" --learning_rate 2e-5 "$@"
