#!/bin/sh
# Tests the best checkpoint of an experiment: generates, scores with the reward model, prints the table and writes the
# cell's result file. SFT runs have RANKING_LEN 1. Run again, it goes on where it was stopped.
#   sh eval.sh EXP RANKING_LEN [flags of generation.py, such as --max_new_tokens 64]
# Environment: NUM_PROCESSES (8), BATCH_SIZE (16 per process), TEST_REWARD_MODEL (folder or hub name),
# MIXED_PRECISION (bf16, fp16 or no: weights on a GPU; unset, bf16 generates and float32 scores), STUDY_ROOT,
# PORT (29500), PYTHON.
set -eu
if [ $# -lt 2 ]; then
    echo "usage: sh eval.sh EXP RANKING_LEN [flags of generation.py]" >&2
    exit 2
fi
cd "$(dirname "$0")"
exp=$1 ranking_len=$2
shift 2
python=${PYTHON:-../.venv/bin/python}
[ -n "${PYTHON:-}" ] || [ -x "$python" ] || python=python3
processes=${NUM_PROCESSES:-8}

launch() {
    if [ "$processes" = 1 ]; then
        "$python" "$@"
    else
        "$python" -m accelerate.commands.launch --config_file dp_config.yaml --num_processes "$processes" \
            --main_process_port "${PORT:-29500}" "$@"
    fi
}

# Two words or none, so it stands without quotes below.
precision=${MIXED_PRECISION:+--mixed_precision $MIXED_PRECISION}
# All inputs are looked at first: hours of generation should not end in a misspelt reward model.
"$python" generation.py --check --index "$exp" --stage "$ranking_len" $precision "$@"
"$python" rewarding.py --check --index "$exp" --stage "$ranking_len"
launch generation.py --index "$exp" --stage "$ranking_len" $precision "$@"
launch rewarding.py --index "$exp" --stage "$ranking_len" $precision
"$python" scoring.py --index "$exp" --stage "$ranking_len"
