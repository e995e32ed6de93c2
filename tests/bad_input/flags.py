"""Values of flags that no command can use: refused by name before anything is read or written."""

import shlex

from bad_input.table import BadInput

PRETRAIN = (
    "pretrain.py --corpus {root}/corpus.jsonl --tokenizer {root}/model --output_dir {root}/base --hidden_size 16 "
    "--num_layers 1 --num_heads 2 --max_steps 1 --batch_size 2"
)
REWARD = (
    "train_reward.py --train_file {root}/reward_train.json --heldout_file {root}/reward_heldout.json "
    "--tokenizer {root}/model --output_dir {root}/rm --hidden_size 16 --num_layers 1 --num_heads 2 --max_steps 1 "
    "--batch_size 2"
)
PLAN = "plan.py {root}/prompts.jsonl --law paper-pro --tokenizer {root}/model --trust_tokenizer --extrapolate"
MONEY = f"{PLAN} --budget 90 --response_cost 1"
PILOT = "plan.py {root}/prompts.jsonl --responses 90 --tokenizer {root}/model"
AUGMENT = (
    "augment.py hh_train_len4_12 --pool {root}/prompts.jsonl --add 1 --answer_model {root}/model "
    "--reward_model {root}/reward_model --tokenizer {root}/model"
)
PREPARE = "prepare.py --source {root}/reward_train.json"
ANNOTATE = "annotate.py --source {root}/reward_train.json --reward_model {root}/reward_model"
SAMPLE = "sample.py 4 --sizes 4 --tokenizer {root}/model"
DIVERSITY = "diversity.py {root}/prompts.jsonl --tokenizer {root}/model"
GENERATION = "generation.py --index trained --stage 4"
REWARDING = "rewarding.py --index trained --stage 4 --reward_model {root}/reward_model"
SCORING = "scoring.py --index trained --stage 4"
RESULTS = "{root}/eval_hh/results"
REPRODUCE = "reproduce.py --profile toy"
HUGE = str(10**30)
BEYOND_FLOAT = str(10**400)

# By command: flags, and values that each of them refuses.
VALUES = {
    PRETRAIN: {
        "hidden_size": ("0", "-4", HUGE), "num_layers": ("0", HUGE), "num_heads": ("0", "-2", "3"),
        "max_positions": ("0", "1", "-1", HUGE), "max_steps": ("0", BEYOND_FLOAT), "batch_size": ("0", "-1"),
        "learning_rate": ("nan", "inf", "0", "-1", "1e39", "1e400"), "seed": ("-1", HUGE), "corpus": ("", " "),
        "tokenizer": ("",), "output_dir": ("", " "),
    },
    REWARD: {
        "hidden_size": ("0", "-16"), "num_layers": ("-1",), "num_heads": ("0", "5"), "max_steps": ("0", HUGE),
        "batch_size": ("0", BEYOND_FLOAT), "per_device_train_batch_size": ("0",), "eval_steps": ("-1",),
        "per_device_eval_batch_size": ("0",), "mixed_precision": ("fp8",), "learning_rate": ("nan", "-1", "1e39"),
        "state_minutes": ("0", "nan"), "keep_states": ("0",), "report_to": ("nobody",),
        "lr_scheduler_type": ("never",), "warmup_steps": ("-1", "nan"), "weight_decay": ("-1", "1e39"),
        "push_to_hub": ("",),
        "lm_weight": ("inf", "-0.5", "1e39"), "seed": ("-3",),
        "output_dir": ("",), "train_file": ("",), "heldout_file": ("",),
    },
    PLAN: {"responses": ("0", "-3", HUGE)},
    MONEY: {
        "budget": ("1e400", "nan", "-1", "0", "", "1e-10"), "response_cost": ("1e-400", "inf", "sNaN", "1e16"),
        "comparisons": ("0", HUGE), "select": ("", "best"), "pilot": ("0.2",), "labelled": ("{root}/prompts.jsonl",),
        "ranking_len": ("0", "7"), "output": ("",), "column": ("",),
    },
    PILOT: {"pilot": ("0", "-1", "nan", "0.6", "0.01")},
    f"{PILOT} --pilot": {"ranking_lens": ("1", "2", HUGE), "model": ("", "m"), "study": ("", "{root}/new.yaml")},
    f"{PILOT} --labelled {{root}}/prompts.jsonl": {"pilot_results": ("",)},
    AUGMENT: {
        "add": ("0", HUGE), "temperature": ("0", "nan", "inf"), "top_p": ("0", "1.5"), "max_new_tokens": ("-1",),
        "batch_size": ("0",), "num_per_prompt": ("0",), "max_jaccard": ("1", "nan", "-0.1"), "seed": ("-1",),
        "reward_model": ("",),
    },
    PREPARE: {
        "train_rows": ("0", HUGE), "test_rows": ("-1", HUGE, "99999"), "dev_rows": ("-1",),
        "ranking_len": ("1", HUGE), "seed": ("-7",),
        "prompt_from": ("",), "tokenizer": ("",),
    },
    ANNOTATE: {
        "num_per_model": ("0",), "temperature": ("-1",), "top_p": ("nan",), "seed": ("-7",), "candidates": ("",),
        "show": ("widest", "closest"),
    },
    SAMPLE: {"sizes": ("0", "-4", HUGE), "max_tokens": ("-1",)},
    DIVERSITY: {"n": ("0", HUGE), "sizes": ("-1", HUGE)},
    GENERATION: {
        "index": ("..", "", "a/b", "a\nb"), "stage": ("-1", "0", HUGE), "checkpoint": ("../step_2", "."),
        "test_files": ("../hh_dev/sampled_dev", "..", "a\tb"), "max_new_tokens": ("0", HUGE), "batch_size": ("0",),
        "model_path": ("",), "mixed_precision": ("fp8", "fp16"),
    },
    REWARDING: {
        "index": (".",), "test_files": ("a/b",), "batch_size": ("-2",), "reward_model": ("",),
        "mixed_precision": ("fp16",),
    },
    SCORING: {"index": ("../trained",), "stage": ("0",), "test_files": ("",), "profile": ("a/b", "a\nb")},
    f"report.py --results {RESULTS} --output {{root}}/report": {"profile": ("nope", "")},
    f"figures.py --results {RESULTS} --output {{root}}/out.png": {"profile": ("nope",)},
    f"plan.py {{root}}/prompts.jsonl --results {RESULTS} --responses 9": {"profile": ("nope",)},
    REPRODUCE: {
        "sizes": ("-4", "0", "3001", HUGE), "fixed_size": ("-1", "3001"), "seeds": ("-3", HUGE),
        "replicates": ("0", "-1", HUGE), "workers": ("0", "-2", HUGE), "only": ("nothing", ""),
    },
    f"{REPRODUCE} --dry_run": {"sizes": ("-4",), "fixed_size": ("-1",), "seeds": ("-3",)},
    "reproduce.py": {"study": ("nowhere.yaml",)},
    "split.py": {"ranking_len": ("2", HUGE)},
    "reproduce.py --profile opt-1.3b --dry_run": {
        "peak": ("0", "nan"), "sizes": ("-4",), "seeds": ("-1",), "model": ("",),
    },
    "run.py --quick --only study_cost": {"threads": ("0", "-2", HUGE)},
}  # fmt: skip


def row(command: str, flag: str, value: str) -> BadInput:
    """A row whose line names the flag; `value` is what it is given."""
    kind = command if command.startswith("reproduce.py") else command.partition(" ")[0]
    name = f"{kind} --{flag} {value!r}"[:80]
    return BadInput(name, f"{command} --{flag} {shlex.quote(value)}", (f"--{flag}",))


ROWS = [
    *(row(command, flag, value) for command, flags in VALUES.items() for flag in flags for value in flags[flag]),
    BadInput("sample.py K of 1", "sample.py 1 --sizes 4 --tokenizer {root}/model", ("--ranking_len 1",)),
    BadInput("profiles that are there", f"report.py --results {RESULTS} --profile nope", ("nope", "no profile")),
    BadInput("plan.py without a basis", PILOT, ("--law, --results, --pilot, --pilot_results", "none")),
    BadInput("plan.py without what is labelled", f"{PILOT} --pilot_results {RESULTS}", ("needs --labelled",)),
    BadInput("plan.py without results", f"{PILOT} --labelled {{root}}/prompts.jsonl --pilot_results {{root}}/no",
             ("{root}/no: no such file or folder of results",)),
    BadInput("plan.py labelled elsewhere", f"{PILOT} --labelled {{root}}/reward_train.json --pilot_results {RESULTS}",
             ("--labelled {root}/reward_train.json", "not in the pool")),
    BadInput("convert_weights.py without arguments", "convert_weights.py", ("arguments are required: FOLDER",)),
    BadInput("figures.py without a figure", "figures.py", ("--paper, --intro, --results", "expected one of them")),
    BadInput("calibrate.py --judged simulates no studies", "calibrate.py --judged --replicates 3",
             ("--replicates: does not apply to --judged",)),
    BadInput("run.py without a size", "run.py --threads 1", ("one of the arguments --quick --full is required",)),
    BadInput("gpu.py without a folder", "gpu.py --only nothing", ("argument --only: invalid choice: 'nothing'",)),
    BadInput("convert_weights.py without a folder", "convert_weights.py ''", ("--FOLDER",)),
]  # fmt: skip
