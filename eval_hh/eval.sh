#!/bin/sh
# Tests the best checkpoint of an experiment: generates, scores with the reward model, prints the table and writes
# the result file. SFT runs have RANKING_LEN 1. Run again, it goes on where it was stopped.
# usage: sh eval.sh EXP RANKING_LEN [FLAGS]
#
#   --checkpoint NAME      tests this folder of the run, such as step_500; its result has a file of its own
#   --test_files NAME...   only these of data/hh_test; a result file is written once all four are done
#   --max_new_tokens N     decodes at most so many tokens (default: the paper's 128)
#   --model_path MODEL     generates with this model instead of the run's; the result keeps the run's name
#
# Machine limits come from the environment, with the paper's values as defaults:
#   NUM_PROCESSES (8)     processes on this machine; 1 needs no launcher
#   BATCH_SIZE (16)       prompts or dialogues in one batch of a process
#   TEST_REWARD_MODEL     folder or hub name of the reward model
#   MIXED_PRECISION       bf16, fp16 or no: weights on a GPU; unset, bf16 generates and float32 scores
#   PROFILE               profile that the result belongs to: opt-1.3b or llama-7b lets report.py --compare_paper put
#                         the paper's values beside it; default: none
#   STUDY_ROOT            where data/, checkpoints/ and eval_hh/ lie; default: the repository
#   PORT (29500)          of the launcher
set -euf # -f: a name is never taken for a pattern of files
usage() {
    echo "usage: sh eval.sh EXP RANKING_LEN [--checkpoint NAME] [--test_files NAME...] [--max_new_tokens N]" \
        "[--model_path MODEL]" >&2
    exit 2
}
[ $# -ge 2 ] || usage
here=$(cd "$(dirname "$0")" && pwd)
repository=$(dirname "$here")
processes=${NUM_PROCESSES:-8}
port=${PORT:-29500}
exp=$1 ranking_len=$2
shift 2
. "$here/launcher.sh"
check_whole NUM_PROCESSES "$processes" 1 99999
check_whole RANKING_LEN "$ranking_len" 1 99999
check_whole PORT "$port" 1 65535
check_whole BATCH_SIZE "${BATCH_SIZE:-16}" 1 999999
check_whole OMP_NUM_THREADS "${OMP_NUM_THREADS:-1}" 1 99999
case ${MIXED_PRECISION:-no} in
bf16 | fp16 | no) ;;
*) fail "MIXED_PRECISION $MIXED_PRECISION: expected bf16, fp16 or no" ;;
esac
checkpoint='' test_files='' max_new_tokens='' model_path=''
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || usage
    flag=$1 value=$2
    shift 2
    case $flag in
    --checkpoint) checkpoint=$value ;;
    --max_new_tokens) max_new_tokens=$value ;;
    --model_path) model_path=$value ;;
    --test_files)
        test_files=$value
        while [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; do
            test_files="$test_files $1"
            shift
        done
        ;;
    *) usage ;;
    esac
done

share_cores "$processes"

# A signal to this script alone is passed on to the step at work, which stops at its next safe point; no other step is
# begun. A step runs in the background, where a shell makes it deaf to Ctrl-C: SIGTERM stands for it.
step='' signals=0 stopped=''
pass_on() { # SIGNAL STATUS
    signals=$((signals + 1)) stopped=$2
    [ -z "$step" ] || kill -s "$1" "$step" 2>/dev/null || :
}
trap 'pass_on TERM 143' TERM
trap 'pass_on TERM 130' INT
trap 'pass_on USR1 138' USR1

# run COMMAND...: ends this script with the command's status where it fails, and where a signal has come.
run() {
    "$@" &
    step=$!
    while :; do
        before=$signals
        wait "$step" && status=0 || status=$?
        [ "$signals" != "$before" ] || break # else a signal has ended the wait, not the step
    done
    step=''
    if [ -n "$stopped" ] && [ "$status" = 0 ]; then
        echo "stopped: between two steps (the same command goes on)" >&2
    fi
    if [ -n "$stopped" ] && { [ "$status" = 0 ] || [ "$status" -ge 127 ]; }; then status=$stopped; fi
    [ "$status" = 0 ] || exit "$status"
}

# launch SCRIPT FLAGS...
launch() {
    if [ "$processes" = 1 ]; then
        run "$python" "$@"
    else
        run "$python" "$repository/training/launch.py" --num_processes "$processes" --main_process_port "$port" "$@"
    fi
}

# What is tested, for all steps. Words without quotes are flags with their values, or nothing.
precision=${MIXED_PRECISION:+--mixed_precision $MIXED_PRECISION}
set -- --index "$exp" --stage "$ranking_len" ${checkpoint:+--checkpoint "$checkpoint"} \
    ${test_files:+--test_files $test_files}

generation() {
    "$@" $precision ${max_new_tokens:+--max_new_tokens "$max_new_tokens"} ${model_path:+--model_path "$model_path"}
}

# All inputs are looked at first: hours of generation should not end in a misspelt reward model.
generation run "$python" "$here/generation.py" --check "$@"
run "$python" "$here/rewarding.py" --check "$@" $precision
run "$python" "$here/scoring.py" --check "$@"
generation launch "$here/generation.py" "$@"
launch "$here/rewarding.py" "$@" $precision
run "$python" "$here/scoring.py" "$@" ${PROFILE:+--profile "$PROFILE"}
