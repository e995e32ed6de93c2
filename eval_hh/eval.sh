#!/bin/sh
# Tests the best checkpoint of an experiment: generates, scores with the reward model, prints the table and writes
# the result file. SFT runs have RANKING_LEN 1. Run again, it goes on where it was stopped.
# usage: sh eval.sh EXP RANKING_LEN [flags of generation.py, such as --max_new_tokens 64]
#
# Machine limits come from the environment, with the paper's values as defaults:
#   NUM_PROCESSES (8)     processes on this machine; 1 needs no launcher
#   BATCH_SIZE (16)       prompts or dialogues in one batch of a process
#   TEST_REWARD_MODEL     folder or hub name of the reward model
#   MIXED_PRECISION       bf16, fp16 or no: weights on a GPU; unset, bf16 generates and float32 scores
#   STUDY_ROOT            where data/, checkpoints/ and eval_hh/ lie; default: the repository
#   PORT (29500)          of the launcher
set -eu
if [ $# -lt 2 ]; then
    echo "usage: sh eval.sh EXP RANKING_LEN [flags of generation.py]" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
repository=$(dirname "$here")
processes=${NUM_PROCESSES:-8}
case $processes in '' | 0 | *[!0-9]*)
    echo "error: NUM_PROCESSES $processes: expected a whole number above 0" >&2
    exit 2
    ;;
esac
exp=$1 ranking_len=$2
shift 2

# What quickstart.sh installed serves where no other environment is active.
PATH=$PATH:$repository/.venv/bin
python=${PYTHON:-$repository/.venv/bin/python}
[ -x "$python" ] || python=python3

if ! command -v nvidia-smi >/dev/null; then
    export DS_ACCELERATOR="${DS_ACCELERATOR:-cpu}"
    threads=$(($(getconf _NPROCESSORS_ONLN) / processes))
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}"
fi

launch() {
    if [ "$processes" = 1 ]; then
        "$python" "$@"
    else
        accelerate launch --config_file "$here/dp_config.yaml" --num_processes "$processes" \
            --main_process_port "${PORT:-29500}" "$@"
    fi
}

# Two words or none, so it stands without quotes below.
precision=${MIXED_PRECISION:+--mixed_precision $MIXED_PRECISION}
# All inputs are looked at first: hours of generation should not end in a misspelt reward model.
"$python" "$here/generation.py" --check --index "$exp" --stage "$ranking_len" $precision "$@"
"$python" "$here/rewarding.py" --check --index "$exp" --stage "$ranking_len" $precision
launch "$here/generation.py" --index "$exp" --stage "$ranking_len" $precision "$@"
launch "$here/rewarding.py" --index "$exp" --stage "$ranking_len" $precision
"$python" "$here/scoring.py" --index "$exp" --stage "$ranking_len"
