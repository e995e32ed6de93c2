#!/bin/sh
# SFT on OPT-1.3B, with the paper's settings.
# usage: sh train_hh_sft_1b3.sh MODEL EXP DATA SEED [flags of main.py]
set -eu
if [ $# -lt 4 ]; then
    echo "usage: sh train_hh_sft_1b3.sh MODEL EXP DATA SEED [flags of main.py]" >&2
    exit 2
fi
export BATCH_SIZE="${BATCH_SIZE:-14}"
model=$1 exp=$2 data=$3 seed=$4
shift 4
# SFT is stage 1: the best response alone.
exec sh "$(dirname "$0")/launch.sh" "$model" "$exp" "$data" 1 "$seed" --learning_rate 2e-5 "$@"
