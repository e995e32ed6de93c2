"""A bad line in a file of lines: every entry that reads one names the file and the line."""

import json
from pathlib import Path

from study_for_bad_input import GENERATED, RESULT, SCORED, TRAIN, VALIDATE

from bad_input.data_files import RAW, raw
from bad_input.table import BadInput, Change, edit, text

TURNS = ["<|prompter|>What is amber?", "<|assistant|>"]
ROW = {"prefix": [TURNS] * 4, "suffix": ["a", "b", "c", "d"], "reward": [2.0, 1.0, 1.0, -1.0], "meta": {}}
TESTED = {"prefix": [TURNS] * 2, "suffix": ["a", ""], "reward": [0.0, 1.0], "meta": {}}


def line_2(name: str, content: bytes) -> Change:
    """Puts another second line into a file."""

    def change(root: Path) -> None:
        lines = (root / name).read_bytes().splitlines()
        (root / name).write_bytes(b"\n".join([lines[0], content, *lines[2:]]) + b"\n")

    return change


def changed(**fields) -> bytes:
    return json.dumps({**ROW, **fields}).encode()


def without(key: str) -> bytes:
    return json.dumps({name: value for name, value in ROW.items() if name != key}).encode()


def tested(**fields) -> bytes:
    return json.dumps({**TESTED, **fields}).encode()


ALWAYS = {  # what no reader takes: the line, and what the message says of it
    "cut short": (b'{"prefix": [["<|prompter|>Wh', "not valid JSON"),
    "no object": (b"[1, 2]", "expected a JSON object"),
    "blank": (b"", "blank line"),
    "latin-1": (json.dumps(ROW, ensure_ascii=False).replace("amber", "caf\xe9").encode("latin-1"), "not UTF-8"),
}
RANKING = ALWAYS | {  # what no ranking may be
    "missing key": (without("reward"), "missing reward"),
    "extra key": (changed(score=1), "unknown key 'score'"),
    "lengths": (changed(reward=[2.0, 1.0, 1.0]), "lengths differ"),
    "nan": (changed(reward=[2.0, 1.0, float("nan"), -1.0]), "expected a finite number"),
    "forged turn": (changed(prefix=[["What is amber?", "<|assistant|>"]] * 4), "turn 0 of the prefix"),
    "two prompts": (changed(prefix=[TURNS] * 3 + [["<|prompter|>Hi", "<|assistant|>"]]), "differs from prefix[0]"),
}
TRAINING = RANKING | {
    "unsorted": (changed(reward=[2.0, 1.0, 1.5, -1.0]), "rewards increase"),
    "empty suffix": (changed(suffix=["a", " ", "c", "d"]), "suffix[1] is empty"),
}
RESULTS = ALWAYS | {  # of the step before: generated texts, and their scores
    "no infer": (tested(), "infer"),
    "infer no object": (tested(infer="b"), "infer"),
    "no text": (tested(infer={"score": 0.5}), "infer.t "),
    "text": (tested(infer={"t": 5, "score": 0.5}), "infer.t "),
    "lengths": (tested(infer={"t": "b", "score": 0.5}, reward=[1.0]), "lengths differ"),
}
SCORES = RESULTS | {"score": (tested(infer={"t": "b", "score": float("nan")}), "infer.score ")}
PROMPTS = RANKING | {"missing key": (without("reward"), "")}  # they need no more than a prompt
TOKENIZER = "--tokenizer {root}/model"
REWARD = (
    "train_reward.py --train_file {root}/reward_train.json --heldout_file {root}/reward_heldout.json "
    f"{TOKENIZER} --output_dir {{root}}/output"
)
STEP = "--index trained --stage 4"
READERS = {  # entry: (command, file, defects)
    "split": ("split.py", "data/original/hh_train_len4/train.json", TRAINING),
    "sample": (f"sample.py 4 --sizes 2 {TOKENIZER}", "data/original/hh_train_len4/train.json", TRAINING),
    "main.py": (f"{TRAIN} --index e", "data/hh_train_len4_12/train.json", TRAINING),
    "main.py's dev file": (f"{TRAIN} {VALIDATE} --index e", "data/hh_dev/sampled_dev.json", RANKING),
    "train_reward": (REWARD, "reward_train.json", TRAINING),
    "train_reward heldout": (REWARD, "reward_heldout.json", RANKING),
    "generation": (f"generation.py {STEP}", "data/hh_test/helpful_online.json", RANKING),
    "diversity": (f"diversity.py {{root}}/reward_train.json {TOKENIZER}", "reward_train.json", PROMPTS),
    "rewarding": (f"rewarding.py {STEP} --reward_model {{root}}/reward_model", GENERATED, RESULTS),
    "scoring": (f"scoring.py {STEP}", SCORED, SCORES),
    "pretrain": (
        f"pretrain.py --corpus {{root}}/corpus.jsonl {TOKENIZER} --output_dir {{root}}/output", "corpus.jsonl",
        ALWAYS | {"no text": (b'{"txt": "a"}', "no text")},
    ),
}  # fmt: skip
PAIRS = ALWAYS | {"no rejected": (b'{"chosen": "a"}', "rejected is not a text")}
PAIR = b'{"chosen": "\\n\\nHuman: Hi\\n\\nAssistant: Yes", "rejected": "\\n\\nHuman: Hi\\n\\nAssistant: No"}\n'
# A result file stands on one line, so the field takes the line number's place.
CELL = {
    "missing": (edit(RESULT, lambda cell: cell.pop("seed") and None), "seed: missing"),
    "extra": (edit(RESULT, lambda cell: cell.update(sede=1)), "sede: not a field"),
    "nan": (
        edit(RESULT, lambda cell: cell["files"]["helpful_base"]["reward"].__setitem__(3, float("nan"))),
        "files.helpful_base.reward",
    ),
    "lengths": (
        edit(RESULT, lambda cell: cell["files"]["helpful_base"]["reward"].pop() and None), "files.helpful_base.reward",
    ),
    "cut short": (text(RESULT, '{"schema": 2, "files": {'), "not valid JSON"),
}  # fmt: skip
SHOWN = {
    "report": "report.py --results {root}/eval_hh/results --output {root}/output",
    "figures": "figures.py --results {root}/eval_hh/results --output {root}/output.png",
}
ROWS = [
    *(
        BadInput(f"{entry}: {defect}", command, (f"{{root}}/{name}:2: ", message), (line_2(name, content),))
        for entry, (command, name, defects) in READERS.items()
        for defect, (content, message) in defects.items()
    ),
    *(
        BadInput(
            f"raw pairs: {defect}", RAW, ("{root}/raw/helpful-base/test.jsonl:2: ", message),
            raw("helpful-base/test.jsonl", PAIR + content + b"\n" + PAIR),
        )
        for defect, (content, message) in PAIRS.items()
    ),
    *(
        BadInput(f"{entry}: result file, {defect}", command, ("{root}/" + RESULT, message), (change,))
        for entry, command in SHOWN.items()
        for defect, (change, message) in CELL.items()
    ),
]  # fmt: skip
