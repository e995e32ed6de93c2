#!/bin/sh
# Shared by the train_hh_*.sh launchers in this folder.
# usage: sh launch.sh MODEL EXP DATA RANKING_LEN SEED [flags of main.py]
#
# Limits of the machine are environment variables, with the paper's values as defaults:
#   NUM_PROCESSES (8)     processes, over all machines; must divide the global batch of 112 prompts
#   BATCH_SIZE            maximum prompts per forward pass of a process; each launcher has its own default
#   MIXED_PRECISION       bf16 (default) or no, which is float32; bf16 without a GPU needs a CPU with instructions for it
#   ZERO_STAGE            2 (default), 3 (shards the weights too), or 0: plain DDP without DeepSpeed
#   DEV_REWARD_MODEL      folder or hub name of the reward model that selects the best checkpoint
#   STUDY_ROOT            folder of data/, checkpoints/ and logs/; default: the repository. Shared by all machines
#   NUM_MACHINES (1), MACHINE_RANK (0), MAIN_PROCESS_IP, PORT
set -eu
here=$(cd "$(dirname "$0")" && pwd)
repository=$(dirname "$here")
root=${STUDY_ROOT:-$repository}
num_processes=${NUM_PROCESSES:-8}
zero_stage=${ZERO_STAGE:-2}
precision=${MIXED_PRECISION:-bf16}
port=${PORT:-29500}

. "$repository/eval_hh/launcher.sh"
check_machines "$num_processes"
check_whole PORT "$port" 1 65535
check_whole BATCH_SIZE "${BATCH_SIZE-}" 1 999999
case $precision in bf16 | no) ;; *) fail "MIXED_PRECISION $precision: expected bf16 or no" ;; esac
case $zero_stage in
0) config=$repository/eval_hh/dp_config.yaml ;;
2 | 3) config=$here/ds_config.yaml ;;
*) fail "ZERO_STAGE $zero_stage: expected 0, 2 or 3" ;;
esac

model=$1 exp=$2 data=$3 ranking_len=$4 seed=$5
shift 5
case /$data/ in
*//* | */./* | */../* | *[[:cntrl:]]*) fail "DATA $data: expected the name of a folder under $root/data" ;;
esac
set -- \
    --do_train --do_validation \
    --model_name_or_path "$model" --index "$exp" --train_file_path "$root/data/$data" \
    --training_stage_num "$ranking_len" --seed "$seed" \
    --per_device_train_batch_size "$BATCH_SIZE" \
    ${DEV_REWARD_MODEL:+--dev_reward_model "$DEV_REWARD_MODEL"} \
    "$@"

# One process without ZeRO needs no launcher: main.py checks settings and data before it loads a model.
if [ "$num_processes" = 1 ] && [ "$zero_stage" = 0 ]; then
    export ACCELERATE_MIXED_PRECISION="$precision"
    if [ -z "${OMP_NUM_THREADS:-}" ] && [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then # a job has the cores of its allocation
        check_whole SLURM_CPUS_PER_TASK "$SLURM_CPUS_PER_TASK" 1 99999
        export OMP_NUM_THREADS="$SLURM_CPUS_PER_TASK"
    fi
    exec "$python" "$here/main.py" "$@"
fi

# Check settings and data before any process is started.
ACCELERATE_MIXED_PRECISION=$precision "$python" "$here/main.py" "$@" --preflight "$num_processes"

if [ "$zero_stage" != 0 ]; then
    set -- --zero_stage "$zero_stage" "$here/main.py" "$@"
else
    set -- "$here/main.py" "$@"
fi
exec "$python" "$here/launch.py" --config_file "$config" \
    --mixed_precision "$precision" --num_processes "$num_processes" \
    --num_machines "$num_machines" --machine_rank "$machine_rank" \
    --main_process_ip "$main_process_ip" --main_process_port "$port" \
    "$@"
