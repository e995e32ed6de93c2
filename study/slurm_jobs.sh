# Sourced by the job scripts that `reproduce.py --slurm FILE` writes (study/slurm.py), which set what is used here.
#
# `bash FILE` submits: the data, then an array with a task per cell (and, but for a paper's grid, one that evaluates the
# base model, floor and ceiling), then the report, whether or not a cell failed. A study on the embedded world is one job.
# Finished work is not repeated, so a study is continued by submitting it again.
#
# A job that has to give way saves and is queued again. Slurm announces that in one of two ways, and the step ends with
# the signal's status in both: before the time limit, and before preemption with preempt_send_user_signal, it sends
# SIGUSR1 to this script alone (--signal=B:USR1@SECONDS); before preemption otherwise, SIGTERM to the step alone. Slurm
# takes a job that ended so for finished, so this script requeues it, unless Slurm has (or somebody cancelled it).
set -euf
script=$(realpath "$0")
cd "$repository"

# submit NAME FLAGS...: prints the job's number.
submit() {
    local job
    job=$(sbatch --parsable --job-name="$1" "${every[@]}" "${@:2}") || return # set -e does not reach in here
    echo "${job%%;*}"
}

if [ $# = 0 ]; then
    mkdir -p "$logs" # sbatch writes no log into a missing folder
    if [ "${#cells[@]}" = 0 ]; then
        told="study $(submit "$name" --output="$logs/%x-%j.log" "${cell[@]}" "$script" study)"
    else
        made=$(submit "$name-data" --output="$logs/%x-%j.log" "${data[@]}" "$script" data)
        array=$(submit "$name" --output="$logs/%x-%A_%a.log" --dependency="afterok:$made" --kill-on-invalid-dep=yes \
            --array="0-$last$at_once" "${cell[@]}" "$script" cell)
        told="data $made, cells $array (tasks 0 to $last), report $(submit "$name-report" \
            --output="$logs/%x-%j.log" --dependency="afterany:$array" "${report[@]}" "$script" report)"
    fi
    echo "submitted: $told; their output: $logs"
    exit
fi

step='' signals=0
pass_on() {
    signals=$((signals + 1))
    [ -z "$step" ] || kill -s USR1 "$step" 2>/dev/null || :
}
trap pass_on USR1 TERM

PATH=$repository/.venv/bin:$PATH
set +u # module and conda scripts use what is not set
setup
set -u

case $1 in
study) work=() ;;
cell)
    work=(--part rows)
    [ "$SLURM_ARRAY_TASK_ID" = "${#cells[@]}" ] || work=(--part cells --only "${cells[$SLURM_ARRAY_TASK_ID]}")
    ;;
*) work=(--part "$1") ;;
esac

# For launch.sh and eval.sh: NUM_PROCESSES counts those of all nodes. Two jobs on one node need two ports.
export NUM_MACHINES=$SLURM_JOB_NUM_NODES PORT=$((20000 + SLURM_JOB_ID % 10000))
export MAIN_PROCESS_IP=${MAIN_PROCESS_IP:-$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)}
on_node='export MACHINE_RANK=$SLURM_PROCID'
if [ -n "$scratch" ]; then # expanded on the node, for temporary files and compiled kernels
    folder="\"$scratch/study-\$SLURM_JOB_ID\""
    on_node+="; export TMPDIR=$folder; export TRITON_CACHE_DIR=\$TMPDIR/triton; mkdir -p \"\$TMPDIR\""
fi

# Every node's process may save to its end, even if another node's has ended.
on_each_node=(srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --kill-on-bad-exit=0 --wait=0)
on_each_node+=(${SLURM_CPUS_PER_TASK:+"--cpus-per-task=$SLURM_CPUS_PER_TASK"})
"${on_each_node[@]}" bash -c "$on_node"'; exec "$@"' bash "${study[@]}" "${work[@]}" "${flags[@]}" &
step=$!
status=138
if [ "$signals" != 0 ]; then kill -s USR1 "$step" 2>/dev/null || :; fi # one that came before the step
while :; do
    before=$signals
    wait "$step" && status=0 || status=$?
    [ "$signals" != "$before" ] || break # otherwise a signal ended the wait, not the step
done
step=''
[ -z "$scratch" ] || "${on_each_node[@]}" bash -c "rm -rf -- $folder" || : # a saved job comes back all the same

case $status in
138 | 143) # it saved after SIGUSR1 or SIGTERM
    if [ "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)" = RUNNING ]; then
        echo "saved; queued again"
        scontrol requeue "$SLURM_JOB_ID"
    fi
    ;;
esac
exit "$status"
