#!/bin/sh
# Evaluates the best checkpoint of an experiment: generates responses, scores them with the reward model, prints the
# table and writes the result file. RANKING_LEN is 1 for SFT. Run it again to resume.
# usage: sh eval.sh EXP RANKING_LEN [FLAGS]
#
# Evaluates a model of no run, which gets a row NAME of its own: the base model, one from elsewhere, or an adapter. With
# --best_responses it is the test data's own first responses that are scored: what a model could reach, the ceiling. With
# --worst_responses it is their last ones, the floor.
# usage: sh eval.sh --model MODEL NAME [FLAGS]
#        sh eval.sh --best_responses NAME [FLAGS]
#        sh eval.sh --worst_responses NAME [FLAGS]
#
#   --checkpoint NAME      evaluates this folder of the run, e.g. step_500; it gets its own result file
#   --test_files NAME...   only these files of data/hh_test; the result file is written once all are done
#   --max_new_tokens N     maximum number of generated tokens (default: 128, as in the paper)
#   --prompt_format NAME   hh, chat or auto; default: the format in which the run was trained
#   --model_path MODEL     generates with this model instead of the run's; the result keeps the run's name, and is
#                          refused where the run has one of its own
#   --endpoint URL         asks a server for the responses, which has the model under the name --endpoint_model NAME;
#                          a key is taken from ENDPOINT_API_KEY
#
# Limits of the machine are environment variables, with the paper's values as defaults:
#   NUM_PROCESSES (8)     processes, over all machines; 1 runs without the launcher
#   BATCH_SIZE            prompts or dialogues per batch of a process; default: 16; to decode on a GPU up to 64, by
#                         memory (README.md)
#   TEST_REWARD_MODEL     folder or hub name of the reward model
#   MIXED_PRECISION       bf16, fp16 or no, for the weights; default: on a GPU bf16 to generate, otherwise float32. A
#                         CPU has bf16 if it has instructions for it, and no fp16
#   PROFILE               profile of the result; with opt-1.3b or llama-7b, report.py --compare_paper shows the paper's
#                         values beside it; default: none
#   STUDY_ROOT            folder of data/, checkpoints/ and eval_hh/; default: the repository
#   PORT (29500)          of the launcher
#   NUM_MACHINES (1), MACHINE_RANK (0), MAIN_PROCESS_IP: start it on each machine; the first writes the result file
set -euf # -f: names are never expanded as file patterns
usage() {
    echo "usage: sh eval.sh EXP RANKING_LEN [--checkpoint NAME] [--test_files NAME...] [--max_new_tokens N]" \
        "[--prompt_format NAME] [--model_path MODEL] [--endpoint URL --endpoint_model NAME];" \
        "or sh eval.sh --model MODEL NAME [--test_files NAME...] [--max_new_tokens N] [--prompt_format NAME]" \
        "[--endpoint URL --endpoint_model NAME];" \
        "or sh eval.sh --best_responses NAME; or sh eval.sh --worst_responses NAME" >&2
    exit 2
}
[ $# -ge 2 ] || usage
here=$(cd "$(dirname "$0")" && pwd)
repository=$(dirname "$here")
processes=${NUM_PROCESSES:-8}
port=${PORT:-29500}
row='' name='' model_path='' own=''
case $1 in
--model)
    [ $# -ge 3 ] || usage
    row=yes model_path=$2 name=$3
    shift 3
    ;;
--best_responses | --worst_responses)
    row=yes own=$1 name=$2
    shift 2
    ;;
*)
    exp=$1 ranking_len=$2
    shift 2
    ;;
esac
case $name in -*) usage ;; esac
. "$here/launcher.sh"
check_machines "$processes"
[ -n "$row" ] || check_whole RANKING_LEN "$ranking_len" 1 99999
check_whole PORT "$port" 1 65535
check_whole BATCH_SIZE "${BATCH_SIZE:-16}" 1 999999
check_whole OMP_NUM_THREADS "${OMP_NUM_THREADS:-1}" 1 99999
case ${MIXED_PRECISION:-no} in
bf16 | fp16 | no) ;;
*) fail "MIXED_PRECISION $MIXED_PRECISION: expected bf16, fp16 or no" ;;
esac
checkpoint='' test_files='' max_new_tokens='' prompt_format='' endpoint='' endpoint_model=''
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || usage
    flag=$1 value=$2
    shift 2
    case $flag in
    --checkpoint) checkpoint=$value ;;
    --max_new_tokens) max_new_tokens=$value ;;
    --model_path) model_path=$value ;;
    --prompt_format) prompt_format=$value ;;
    --endpoint) endpoint=$value ;;
    --endpoint_model) endpoint_model=$value ;;
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

# A signal to this script alone is forwarded to the running step, which stops at its next safe point; no other step is
# started. A step runs in the background, where the shell makes it ignore Ctrl-C, so it is sent SIGTERM instead.
step='' signals=0 stopped=''
pass_on() { # SIGNAL STATUS
    signals=$((signals + 1)) stopped=$2
    [ -z "$step" ] || kill -s "$1" "$step" 2>/dev/null || :
}
trap 'pass_on TERM 143' TERM
trap 'pass_on TERM 130' INT
trap 'pass_on USR1 138' USR1

# run COMMAND...: exits with the command's status if it fails, or if a signal has arrived.
run() {
    "$@" &
    step=$!
    while :; do
        before=$signals
        wait "$step" && status=0 || status=$?
        [ "$signals" != "$before" ] || break # otherwise a signal ended the wait, not the step
    done
    step=''
    if [ -n "$stopped" ] && [ "$status" = 0 ]; then
        echo "stopped: between two steps (run the same command to resume)" >&2
    fi
    if [ -n "$stopped" ] && { [ "$status" = 0 ] || [ "$status" -ge 127 ]; }; then status=$stopped; fi
    [ "$status" = 0 ] || exit "$status"
}

# launch SCRIPT FLAGS...
launch() {
    if [ "$processes" = 1 ]; then
        run "$python" "$@"
    else
        if [ "$num_machines" != 1 ]; then
            set -- --num_machines "$num_machines" --machine_rank "$machine_rank" \
                --main_process_ip "$main_process_ip" "$@"
        fi
        run "$python" "$repository/training/launch.py" --num_processes "$processes" --main_process_port "$port" "$@"
    fi
}

# Arguments of all steps. Unquoted words expand to flags with their values, or to nothing.
precision=${MIXED_PRECISION:+--mixed_precision $MIXED_PRECISION}
if [ -n "$row" ]; then set -- --name "$name"; else set -- --index "$exp" --stage "$ranking_len"; fi
set -- "$@" ${checkpoint:+--checkpoint "$checkpoint"} ${test_files:+--test_files $test_files}

# A server decides on its model's precision, and one process asks it.
alone() { run "$python" "$@"; }
decoding=launch decoding_precision=$precision
[ -z "$endpoint" ] || decoding=alone decoding_precision=''
generation() {
    "$@" $decoding_precision ${max_new_tokens:+--max_new_tokens "$max_new_tokens"} \
        ${model_path:+--model_path "$model_path"} ${prompt_format:+--prompt_format "$prompt_format"} $own \
        ${endpoint:+--endpoint "$endpoint"} ${endpoint_model:+--endpoint_model "$endpoint_model"}
}

# Check all inputs first, so that a misspelt reward model does not end hours of generation.
generation run "$python" "$here/generation.py" --check "$@"
run "$python" "$here/rewarding.py" --check "$@" $precision
run "$python" "$here/scoring.py" --check "$@" ${PROFILE:+--profile "$PROFILE"}
generation $decoding "$here/generation.py" "$@"
launch "$here/rewarding.py" "$@" $precision
[ "$machine_rank" != 0 ] || run "$python" "$here/scoring.py" "$@" ${PROFILE:+--profile "$PROFILE"}
