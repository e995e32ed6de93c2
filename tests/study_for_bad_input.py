"""A whole tiny study, made once, that tests copy and spoil: data, models, a finished run and its evaluation."""

import importlib
import json
import shlex
import shutil
from pathlib import Path

ENTRIES = {
    "main.py": "training.main", "pretrain.py": "training.pretrain", "train_reward.py": "training.train_reward",
    "split.py": "data_preprocess.split", "sample.py": "data_preprocess.sample", "plan.py": "labelling.plan",
    "prepare.py": "data_preprocess.prepare", "diversity.py": "data_preprocess.diversity",
    "augment.py": "labelling.augment", "annotate.py": "labelling.annotate", "generation.py": "eval_hh.generation",
    "rewarding.py": "eval_hh.rewarding", "scoring.py": "eval_hh.scoring", "report.py": "eval_hh.report",
    "judge.py": "eval_hh.judge", "calibrate.py": "eval_hh.calibrate",
    "convert_weights.py": "eval_hh.convert_weights", "merge_adapter.py": "eval_hh.merge_adapter",
    "figures.py": "pics.figures", "reproduce.py": "reproduce", "run.py": "benchmarks.run",
    "gpu.py": "benchmarks.gpu",
    "tiny_study.py": "tiny_study", "rank.py": "labelling.rank", "select_prompts.py": "labelling.select_prompts",
}  # fmt: skip
THINGS = (
    "amber", "granite", "rust", "felt", "basil", "chalk", "yeast", "cork", "slate", "linen", "copper", "moss",
    "coral", "wax", "peat", "flint",
)  # fmt: skip
TEST_FILES = ("harmless_base", "helpful_base", "helpful_online", "helpful_rejection")
RUN = "checkpoints/index_trained/stage_4"
RESULT = "eval_hh/results/trained_4.json"
SCORED = "eval_hh/inference_res/infer_main_trained_4_best_checkpoint_harmless_base.json"
GENERATED = "eval_hh/inference_res/cache/infer_generate_main_trained_4_best_checkpoint_harmless_base.json"
TRAIN = (
    "main.py --do_train --model_name_or_path {root}/model --train_file_path {root}/data/hh_train_len4_12 "
    "--training_stage_num 4 --max_train_steps 2 --checkpointing_step 2 --global_batch_size 2 "
    "--per_device_train_batch_size 2"
)
VALIDATE = "--do_validation --dev_reward_model {root}/reward_model --max_new_tokens 2"
TRAINED = f"{TRAIN} {VALIDATE} --index trained"


def run_entry(command: str) -> None:
    """Runs one command in this process."""
    name, *argv = shlex.split(command)
    importlib.import_module(ENTRIES[name]).main(argv)


def ranking(thing: str, n_responses: int = 4, ask: str = "What is {}?") -> dict:
    """A ranking about a thing, best response first."""
    answers = [f"{thing} is a thing that people use.", f"{thing} is old.", "I do not know.", "It is a bread."]
    prefix = [[f"<|prompter|>{ask.format(thing)}", "<|assistant|>"]] * n_responses
    return {"prefix": prefix, "suffix": answers[:n_responses], "reward": [1.5, 0.5, -0.5, -1.0][:n_responses],
            "meta": {}}  # fmt: skip


def write_rows(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def build_root(root: Path, model: Path, reward_model: Path) -> None:
    """Fills `root`, which STUDY_ROOT names.

    model, reward_model, corpus.jsonl, prompts.jsonl, reward_train.json, reward_heldout.json, data/ with subsets of
    12 prompts for K = 2, 3, 4, and the run `trained`, stage 4, with its generations, scores and result file.
    """
    shutil.copytree(model, root / "model")
    shutil.copytree(reward_model, root / "reward_model")
    full = [ranking(thing) for thing in THINGS]
    write_rows(root / "data/original/hh_train_len4/train.json", full)
    write_rows(root / "data/hh_dev/sampled_dev.json", [ranking(thing, 2, "Tell me of {}.") for thing in THINGS[:4]])
    for i, name in enumerate(TEST_FILES):
        rows = [ranking(thing, 2, "Can you explain {}?") for thing in THINGS[3 * i : 3 * i + 4]]
        write_rows(root / f"data/hh_test/{name}.json", rows)
    write_rows(root / "reward_train.json", full[:12])
    write_rows(root / "reward_heldout.json", full[12:])
    write_rows(root / "corpus.jsonl", [{"text": f"{thing} is a thing."} for thing in THINGS])
    write_rows(root / "prompts.jsonl", [{"prompt": f"How is {thing} found?"} for thing in THINGS])
    run_entry("split.py")
    for ranking_len in (4, 3, 2):
        run_entry(f"sample.py {ranking_len} --sizes 12 --tokenizer {root}/model")
    run_entry(TRAINED.format(root=root))
    run_entry("generation.py --index trained --stage 4 --max_new_tokens 2")
    run_entry(f"rewarding.py --index trained --stage 4 --reward_model {root}/reward_model")
    run_entry("scoring.py --index trained --stage 4")
