"""Bad input to a training run: its flags, rewards that float32 cannot hold, and damaged files of the run itself."""

import shutil

from study_for_bad_input import RUN, TRAIN, TRAINED, VALIDATE

from bad_input.table import BadInput, cut, edit, edit_line, text

DATA = "data/hh_train_len4_12/train.json"
METRICS = "logs/trained/4/metrics.jsonl"
GROWN = TRAINED.replace("--max_train_steps 2", "--max_train_steps 3")
# Looking at the states happens in the run, whose folders are there already.
WHILE_RESUMING = ("logs/trained/4/train.log", "logs/trained/4/lock", "checkpoints/*/lock")
COUNTS = (
    "training_stage_num", "global_batch_size", "per_device_train_batch_size", "gradient_accumulation_steps",
    "per_device_eval_batch_size", "block_size", "max_new_tokens", "max_train_steps", "num_train_epochs",
    "checkpointing_step", "keep_states",
)  # fmt: skip
NUMBERS = ("learning_rate", "sft_weight", "max_grad_norm", "state_minutes")


def flag(name, value):
    return BadInput(f"--{name} {value}"[:40], f"{TRAIN} --index e --{name}={value}", (f"--{name}", "expected"))


def without(*names):
    """Removes files or folders of the run."""

    def change(root):
        for name in names:
            path = root / RUN / name
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    return change


def link(target):
    def change(root):
        (root / RUN / "best_checkpoint").unlink()
        (root / RUN / "best_checkpoint").symlink_to(target)

    return change


def folder(name):
    return lambda root: (root / name).mkdir(parents=True)


def rewards(*values):
    return edit_line(DATA, 3, lambda row: row.update(reward=list(values)))


def record(name, change):
    return BadInput(f"run.json: {name}", TRAINED, ("{root}/" + RUN + "/run.json",), (change,))


def metrics(name, content, line=1):
    where = "{root}/" + METRICS + f":{line}"
    return BadInput(f"metrics.jsonl: {name}", GROWN, (where, "numbers of a step"), (text(METRICS, content),))


def dev_rewards(name, content):
    path = f"{RUN}/dev_rewards.json"
    return BadInput(f"dev_rewards.json: {name}", TRAINED, ("{root}/" + path,), (text(path, content),))


def damaged(name, file, *changes, expected=(), command=TRAINED):
    """A run with no intact state to resume from."""
    parts = ("{root}/" + f"{RUN}/{file}".rstrip("/"), *expected)
    return BadInput(f"damaged: {name}", command, parts, changes, keeps=WHILE_RESUMING)


def list_of_state(root):
    """A file that torch reads, but that holds no state."""
    import torch

    torch.save([1], root / RUN / "state_2/optimizer.bin")


def chat_template(template):
    """Gives the model's tokenizer a chat template."""
    return edit("model/tokenizer_config.json", lambda saved: saved.update(chat_template=template))


REFUSES = (
    "{% for m in messages %}{% if 'harp' in m.content %}{{ raise_exception('no harp') }}{% endif %}"
    "{{ m.role + ': ' + m.content + '</s>' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
HARP = [["<|prompter|>What is a harp?", "<|assistant|>"]] * 4
UNFINISHED = without("step_2", "best_checkpoint", "dev_rewards.json")
NO_MANIFEST = without("state_2/manifest.json")
LONE_LINE = '{"step": 1, "sft_loss": 2.0}\n'
ROWS = [
    *(flag(name, value) for name in COUNTS for value in (0, -3, 10**30)),
    *(flag(name, value) for name in NUMBERS for value in ("nan", "inf", -1, "1e39")),
    *(flag(name, 0) for name in NUMBERS if name != "sft_weight"),
    *(flag("seed", value) for value in (-1, 2**32, 10**30)),
    *(flag("index", value) for value in ("..", ".", "a/b", "../x", "'a\tb'", "' a'", "'a\x1b[31mb'", "x" * 201)),
    *(flag("validation_file_name", value) for value in ("../sampled_dev.json", "..", "''", "x" * 300)),
    *(flag(name, "/tmp/\udcff") for name in ("output_dir", "log_path", "train_file_path", "model_name_or_path")),
    flag("stop_criterion", "never"),
    *(flag(name, value) for name in ("weight_decay", "warmup_steps") for value in ("nan", "inf", -1)),
    BadInput("trackers and none", f"{TRAIN} --index e --report_to none wandb", ("--report_to none wandb", "expected")),
    flag("push_to_hub", "a/b/c"),
    flag("lr_scheduler_kwargs", "{{"),
    BadInput("a schedule without steps", f"{TRAIN} --index e --lr_scheduler_type linear --warmup_steps 2",
             ("--warmup_steps 2: of 2 steps in all, none is left for --lr_scheduler_type linear",)),
    BadInput("a schedule without steps in the preflight",
             f"{TRAIN} --index e --lr_scheduler_type cosine --warmup_steps 1e3 --preflight 1",
             ("--warmup_steps 1000: of 2 steps in all, none is left",)),
    BadInput("a schedule that lacks an argument", f"{TRAIN} --index e --lr_scheduler_type warmup_stable_decay",
             ("--lr_scheduler_type warmup_stable_decay", "num_decay_steps")),
    BadInput("a hub that is offline", f"{TRAIN} --index e --push_to_hub me/model",
             ("--push_to_hub me/model: HF_HUB_OFFLINE is set",)),
    BadInput("chat without a template", f"{TRAIN} --index e --prompt_format chat",
             ("--prompt_format chat: the tokenizer of {root}/model has no chat template",)),
    BadInput("a row that the template refuses", f"{TRAIN} --index e --prompt_format auto",
             ("{root}/" + DATA + ":3: the chat template refuses the dialogue (no harp)",),
             (chat_template(REFUSES), edit_line(DATA, 3, lambda row: row.update(prefix=HARP)))),
    BadInput("a template without end", f"{TRAIN} --index e --prompt_format chat",
             ("{root}/model: the chat template", "refuses the dialogue"), (chat_template("{% if"),)),
    BadInput("tested in another format", "generation.py --index trained --stage 4 --prompt_format chat",
             ("--prompt_format chat: {root}/" + RUN + "/run.json says that the run was trained in hh",)),
    BadInput("trained in no format", "generation.py --index trained --stage 4",
             ("{root}/" + RUN + "/run.json: config: prompt_format is 'nope'", "hh or chat"),
             (edit(f"{RUN}/run.json", lambda run: run["config"].update(prompt_format="nope")),)),
    BadInput(
        "max_prompt not below block_size", f"{TRAIN} --index e --block_size 40 --max_prompt 40", ("--max_prompt 40",)
    ),
    *(BadInput(f"--{name} below a file", f"{TRAIN} --index e --{name} {{root}}/corpus.jsonl/x",
               (f"--{name}", "corpus.jsonl is a file")) for name in ("output_dir", "log_path")),
    *(flag(name, "''") for name in ("train_file_path", "model_name_or_path", "output_dir", "log_path")),
    BadInput("reward beyond float32", f"{TRAIN} --index e", ("{root}/" + DATA + ":3", "reward[0]", "1e+39"),
             (rewards(1e39, 1, 0, 0),)),
    BadInput("reward below float32", f"{TRAIN} --index e", ("{root}/" + DATA + ":3", "reward[3]", "-1e+39"),
             (rewards(1, 1, 0, -1e39),)),
    BadInput("reward an integer beyond float32", f"{TRAIN} --index e", ("{root}/" + DATA + ":3", "reward[0]"),
             (rewards(10**39, 1, 0, 0),)),
    BadInput("difference of rewards beyond float32", f"{TRAIN} --index e", ("{root}/" + DATA + ":3", "difference"),
             (rewards(3e38, 1, 0, -3e38),)),
    BadInput("reward beyond float32 in the preflight", f"{TRAIN} --index e --preflight 1", (DATA + ":3", "reward[0]"),
             (rewards(1e39, 1, 0, 0),)),
    BadInput("a learning rate that overflows", f"{TRAIN} {VALIDATE} --index e --learning_rate 1e30 --max_train_steps 4",
             ("step 2: the loss is", "{root}/" + DATA, "lines "), status=1,
             keeps=("checkpoints/index_e*", "logs/e*")),
    *(record(name, text(f"{RUN}/run.json", content)) for name, content in {
        "empty": "", "no fields": "{}", "a list": "[1]", "null": "null", "a number": "3", "cut": '{"config": {',
        "config a list": '{"config": [], "launch": {}, "data_sha256": {}, "versions": {}}',
        "not UTF-8": b"\xff\xfe",
    }.items()),
    record("no launch", edit(f"{RUN}/run.json", lambda it: it.pop("launch") and None)),
    record("history a number", edit(f"{RUN}/run.json", lambda it: it.update(history=3))),
    record("is gone, beside a state", without("run.json")),
    record("other data", edit(f"{RUN}/run.json", lambda it: it["data_sha256"].update(train="0"))),
    BadInput("fewer steps than before", TRAINED.replace("--max_train_steps 2", "--max_train_steps 1"),
             ("max_train_steps was 2, is 1, and may only grow",)),
    BadInput("another learning rate", f"{TRAINED} --learning_rate 0.5",
             ("run.json", "learning_rate was 2e-05, is 0.5")),
    BadInput("another learning rate and more steps", f"{GROWN} --learning_rate 0.5",
             ("run.json", "learning_rate was 2e-05, is 0.5")),
    BadInput("another schedule", f"{GROWN} --lr_scheduler_type inverse_sqrt",
             ("run.json", "lr_scheduler_type was 'constant', is 'inverse_sqrt'")),
    BadInput("another weight decay", f"{TRAINED} --weight_decay 0", ("run.json", "weight_decay was 0.01, is 0.0")),
    BadInput("another precision of the dev reward model", f"{TRAINED} --reward_dtype bfloat16",
             ("run.json", "reward_dtype was 'float32', is 'bfloat16'")),
    BadInput("another seed in the preflight", f"{TRAINED} --seed 7 --preflight 1", ("run.json", "seed was 42, is 7")),
    metrics("no step", '{"a": 1}\n'),
    metrics("a list", "[1]\n"),
    metrics("a text", '"step"\n'),
    metrics("step a text", '{"step": "1", "sft_loss": 2.0}\n'),
    metrics("step not whole", '{"step": 1.5, "sft_loss": 2.0}\n'),
    metrics("step true", '{"step": true, "sft_loss": 2.0}\n'),
    metrics("no SFT loss", '{"step": 1, "loss": 2.0}\n'),
    metrics("loss NaN", LONE_LINE + '{"step": 2, "sft_loss": NaN}\n', 2),
    metrics("loss a text", LONE_LINE + '{"step": 2, "sft_loss": "2"}\n', 2),
    metrics("a number of no float", LONE_LINE + '{"step": 2, "sft_loss": 1' + "0" * 400 + "}\n", 2),
    metrics("steps twice", LONE_LINE * 2, 2),
    metrics("torn in the middle", '{"step": 1, "sf\n' + LONE_LINE),
    metrics("not UTF-8", b'{"step": 1, "\xff": 2}\n'),
    metrics("deep", "[" * 100_000 + "\n"),
    BadInput("metrics.jsonl: a folder", f"{TRAIN} --index odd", ("{root}/logs/odd/4/metrics.jsonl", "folder"),
             (folder("logs/odd/4/metrics.jsonl"),)),
    BadInput("metrics.jsonl: of a run that is not there", f"{TRAIN} --index odd",
             ("{root}/logs/odd/4/metrics.jsonl:1",), (text("logs/odd/4/metrics.jsonl", '{"a": 1}\n'),)),
    BadInput("metrics.jsonl: in the preflight", f"{GROWN} --preflight 1", ("{root}/" + METRICS + ":1",),
             (text(METRICS, "{}\n"),)),
    *(dev_rewards(name, content) for name, content in {
        "empty": "", "a list": "[1]", "step a word": '{"two": 0.5}', "reward a text": '{"2": "0.5"}',
        "reward NaN": '{"2": NaN}', "reward true": '{"2": true}', "cut": '{"2": 0.5', "reward above 1": '{"2": 7}',
        "reward below 0": '{"2": -0.5}', "step of 5000 digits": '{"' + "9" * 5000 + '": 0.5}',
        "best without weights": '{"2": 0.5, "999": 0.9}', "later than all weights": '{"2": 0.5, "3": 0.1}',
    }.items()),
    BadInput("best_checkpoint: a folder", TRAINED, ("{root}/" + f"{RUN}/best_checkpoint: is not a link",),
             (without("best_checkpoint"), folder(f"{RUN}/best_checkpoint"))),
    BadInput("best_checkpoint: a file", TRAINED, ("{root}/" + f"{RUN}/best_checkpoint: is not a link",),
             (without("best_checkpoint"), text(f"{RUN}/best_checkpoint", "step_2"))),
    *(BadInput(f"best_checkpoint: to {target}", TRAINED, (f"{RUN}/best_checkpoint: is a link to {target}",),
               (link(target),)) for target in ("elsewhere", "step_x", "../step_2", "/tmp")),
    damaged("best_checkpoint dangles", "step_7: is missing", link("step_7"),
            expected=("since the state of step 7 is missing",)),
    damaged("optimizer cut", "state_2/optimizer.bin: 1000 bytes", UNFINISHED,
            cut(f"{RUN}/state_2/optimizer.bin", 1000)),
    damaged("weights of the state cut", "state_2/model.safetensors: 500 bytes", UNFINISHED,
            cut(f"{RUN}/state_2/model.safetensors", 500)),
    damaged("optimizer gone", "state_2/optimizer.bin: is missing", UNFINISHED, without("state_2/optimizer.bin")),
    damaged("manifest cut", "state_2/manifest.json: is damaged", UNFINISHED, cut(f"{RUN}/state_2/manifest.json", 40)),
    damaged("manifest a list", "state_2/manifest.json: is damaged", UNFINISHED,
            text(f"{RUN}/state_2/manifest.json", "[1]")),
    damaged("optimizer cut, without a manifest", "state_2: the state cannot be loaded", UNFINISHED, NO_MANIFEST,
            cut(f"{RUN}/state_2/optimizer.bin", 1000)),
    damaged("optimizer empty, without a manifest", "state_2: the state cannot be loaded", UNFINISHED, NO_MANIFEST,
            cut(f"{RUN}/state_2/optimizer.bin", 0)),
    damaged("weights cut, without a manifest", "state_2: the state cannot be loaded", UNFINISHED, NO_MANIFEST,
            cut(f"{RUN}/state_2/model.safetensors", 500)),
    damaged("optimizer gone, without a manifest", "state_2: the state cannot be loaded", UNFINISHED, NO_MANIFEST,
            without("state_2/optimizer.bin")),
    damaged("another object, without a manifest", "state_2: the state cannot be loaded", UNFINISHED, NO_MANIFEST,
            text(f"{RUN}/state_2/optimizer.bin", "not a state")),
    damaged("a list, without a manifest", "state_2: the state cannot be loaded", UNFINISHED, NO_MANIFEST,
            list_of_state),
    damaged("manifest deep", "state_2/manifest.json: is damaged", UNFINISHED,
            text(f"{RUN}/state_2/manifest.json", "[" * 100_000)),
    damaged("manifest of no file", "state_2/manifest.json: is damaged", UNFINISHED,
            text(f"{RUN}/state_2/manifest.json", '{"checksum": "xxh3_128", "files": {}}')),
    damaged("a finished run's weights, and no state", "step_2/model.safetensors: 500 bytes", without("state_2"),
            cut(f"{RUN}/step_2/model.safetensors", 500)),
    damaged("more steps without a state", "", without("state_2"), expected=("states were removed",), command=GROWN),
]  # fmt: skip
