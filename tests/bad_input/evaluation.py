"""Bad input to an evaluation: test files, generations, scores, notes and records that do not fit or are damaged."""

from collections.abc import Callable
from pathlib import Path

from study_for_bad_input import GENERATED, RUN, SCORED

from bad_input.table import BadInput, Change, cut, edit, edit_line, text

RUN_FLAGS = "--index trained --stage 4"
GENERATION = f"generation.py {RUN_FLAGS} --max_new_tokens 2"
REWARDING = f"rewarding.py {RUN_FLAGS} --reward_model {{root}}/reward_model"
SCORING = f"scoring.py {RUN_FLAGS}"
TEST = "data/hh_test/harmless_base.json"
RECORD = "data/record_hh_train.json"
RECORD_TOKENIZERS = "data/record_hh_train_tokenizers.json"
NOTE, GENERATED_NOTE = f"{SCORED}.done.json", f"{GENERATED}.done.json"
TOKENIZER = "reward_model/tokenizer_config.json"
AT = "{root}/"


def lines(name: str, function: Callable[[list[str]], list[str]]) -> Change:
    """Changes the lines of a file as a list."""

    def change(root: Path) -> None:
        kept = function((root / name).read_text(encoding="utf-8").splitlines())
        (root / name).write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    return change


def chat_template(template: str) -> Change:
    """Gives the reward model's tokenizer a chat template."""
    return edit(TOKENIZER, lambda saved: saved.update(chat_template=template))


ONLY_USER = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}</s>{% endif %}{% endfor %}"


def shifted(row: dict) -> dict:
    row["prefix"] = [["<|prompter|>Another question?", "<|assistant|>"]] * 2
    return row


STRICT = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('user and assistant take turns') }}{% endif %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}"
)
BEGUN_BY_ASSISTANT = [["<|assistant|>Hello.", "<|prompter|>Hi", "<|assistant|>"]] * 2
ROWS = [
    # scored and generated files against the test file
    BadInput("score 2", SCORING, (AT + SCORED + ":1", "infer.score is 2", "0 to 1"),
             (edit_line(SCORED, 1, lambda row: row["infer"].update(score=2)),)),
    BadInput("score -0.5", SCORING, (AT + SCORED + ":3", "infer.score is -0.5"),
             (edit_line(SCORED, 3, lambda row: row["infer"].update(score=-0.5)),)),
    BadInput("score nan", SCORING, (AT + SCORED + ":2", "infer.score is nan"),
             (edit_line(SCORED, 2, lambda row: row["infer"].update(score=float("nan"))),)),
    BadInput("score 10**400", SCORING, (AT + SCORED + ":2", "infer.score", "finite"),
             (edit_line(SCORED, 2, lambda row: row["infer"].update(score=10**400)),)),
    BadInput("score true", SCORING, (AT + SCORED + ":4", "infer.score is True"),
             (edit_line(SCORED, 4, lambda row: row["infer"].update(score=True)),)),
    BadInput("score a text", SCORING, (AT + SCORED + ":4", "infer.score is '0.5'"),
             (edit_line(SCORED, 4, lambda row: row["infer"].update(score="0.5")),)),
    BadInput("no score", SCORING, (AT + SCORED + ":1", "infer.score is missing"),
             (edit_line(SCORED, 1, lambda row: row["infer"].__delitem__("score")),)),
    BadInput("no infer", SCORING, (AT + SCORED + ":1", "infer.t is missing"),
             (edit_line(SCORED, 1, lambda row: row.__delitem__("infer")),)),
    BadInput("infer a list", SCORING, (AT + SCORED + ":1", "infer.t is missing"),
             (edit_line(SCORED, 1, lambda row: row.update(infer=[1])),)),
    BadInput("scored rows fewer", SCORING, (AT + SCORED + ": 3 rows", AT + TEST + " has 4", "rewarding.py"),
             (lines(SCORED, lambda rows: rows[:-1]),)),
    BadInput("scored rows more", SCORING, (AT + SCORED + ": 5 rows", AT + TEST + " has 4"),
             (lines(SCORED, lambda rows: [*rows, rows[0]]),)),
    BadInput("scored rows in another order", SCORING, (AT + SCORED + ":1", "does not match " + AT + TEST + ":1 ("),
             (lines(SCORED, lambda rows: rows[::-1]),)),
    BadInput("scored row of another prompt", SCORING, (AT + SCORED + ":3", "does not match " + AT + TEST + ":3 ("),
             (edit_line(SCORED, 3, shifted),)),
    BadInput("scored row of another text", SCORING, (AT + SCORED + ":2", "does not match " + AT + GENERATED + ":2 ("),
             (edit_line(SCORED, 2, lambda row: row["infer"].update(t="Another text.")),)),
    BadInput("scored file cut", SCORING, (AT + SCORED + ":1", "not valid JSON"), (cut(SCORED, 100),)),
    BadInput("scored file empty", SCORING, (AT + SCORED + ": 0 rows", "has 4"), (text(SCORED, ""),)),
    BadInput("generated file changed", SCORING, (AT + SCORED, "scores do not match the texts in"),
             (lines(GENERATED, lambda rows: rows[:-1]),)),
    BadInput("generated rows fewer", REWARDING, (AT + GENERATED + ": 3 rows", AT + TEST + " has 4", "generation.py"),
             (lines(GENERATED, lambda rows: rows[:-1]),)),
    BadInput("generated rows more", REWARDING, (AT + GENERATED + ": 5 rows", AT + TEST + " has 4"),
             (lines(GENERATED, lambda rows: [*rows, rows[0]]),)),
    BadInput("generated rows in another order", REWARDING, (AT + GENERATED + ":1", "match " + AT + TEST + ":1"),
             (lines(GENERATED, lambda rows: rows[::-1]),)),
    BadInput("generated row of another prompt", REWARDING, (AT + GENERATED + ":2", "match " + AT + TEST + ":2"),
             (edit_line(GENERATED, 2, shifted),)),
    BadInput("generated text a number", REWARDING, (AT + GENERATED + ":2", "infer.t is 5", "a text"),
             (edit_line(GENERATED, 2, lambda row: row["infer"].update(t=5)),)),
    BadInput("generated file cut", REWARDING, (AT + GENERATED + ":1", "not valid JSON"), (cut(GENERATED, 100),)),
    BadInput("generated file gone", REWARDING, (AT + GENERATED, "no such file", "generation.py"),
             (lambda root: (root / GENERATED).unlink(),)),
    BadInput("test file gone", SCORING, (AT + TEST, "no such file"), (lambda root: (root / TEST).unlink(),)),
    BadInput("test file changed", SCORING, (AT + GENERATED + ":1", "does not match " + AT + TEST + ":1 ("),
             (edit_line(TEST, 1, shifted),)),
    BadInput("test rows more", SCORING, (AT + GENERATED + ": 4 rows", AT + TEST + " has 5"),
             (lines(TEST, lambda rows: [*rows, rows[0]]),)),
    # notes
    BadInput("note empty", SCORING, (AT + NOTE, "fingerprint and settings"), (text(NOTE, "{}"),)),
    BadInput("note a list", SCORING, (AT + NOTE, "fingerprint and settings"), (text(NOTE, "[]"),)),
    BadInput("note without settings", SCORING, (AT + NOTE,), (edit(NOTE, lambda note: note.__delitem__("settings")),)),
    BadInput("note with a number for a fingerprint", SCORING, (AT + NOTE,),
             (edit(NOTE, lambda note: note.update(fingerprint=5)),)),
    BadInput("note cut", SCORING, (AT + NOTE + ":2", "not valid JSON"), (cut(NOTE, 20),)),
    BadInput("note of no model", SCORING, (AT + GENERATED_NOTE, "model: missing"),
             (edit(GENERATED_NOTE, lambda note: note["settings"].__delitem__("model")),)),
    BadInput("note of a model without name", SCORING, (AT + GENERATED_NOTE, "settings.model: name: missing"),
             (edit(GENERATED_NOTE, lambda note: note["settings"].update(model={})),)),
    BadInput("note of tokens in words", SCORING, (AT + GENERATED_NOTE, "max_new_tokens: expected int"),
             (edit(GENERATED_NOTE, lambda note: note["settings"].update(max_new_tokens="two")),)),
    BadInput("note of a reward model as a text", SCORING, (AT + NOTE, "reward_model: expected dict"),
             (edit(NOTE, lambda note: note["settings"].update(reward_model="rm")),)),
    # the run and its data
    BadInput("run.json empty, scored", SCORING, (AT + RUN + "/run.json", "config: missing"),
             (text(f"{RUN}/run.json", "{}"),)),
    BadInput("run.json a list, scored", SCORING, (AT + RUN + "/run.json", "expected a JSON object"),
             (text(f"{RUN}/run.json", "[]"),)),
    BadInput("run.json without a seed, scored", SCORING, (AT + RUN + "/run.json", "config: seed: missing"),
             (edit(f"{RUN}/run.json", lambda run: run["config"].__delitem__("seed")),)),
    BadInput("run.json with a data file in numbers, scored", SCORING, (AT + RUN + "/run.json", "train_file_path"),
             (edit(f"{RUN}/run.json", lambda run: run["config"].update(train_file_path=5)),)),
    BadInput("run.json without versions, scored", SCORING, (AT + RUN + "/run.json", "versions: missing"),
             (edit(f"{RUN}/run.json", lambda run: run.__delitem__("versions")),)),
    BadInput("run.json launched by a list, scored", SCORING, (AT + RUN + "/run.json", "launch: expected dict"),
             (edit(f"{RUN}/run.json", lambda run: run.update(launch=[1])),)),
    BadInput("run.json cut, scored", SCORING, (AT + RUN + "/run.json:", "not valid JSON"),
             (cut(f"{RUN}/run.json", 50),)),
    BadInput("record's entry a number", SCORING, (AT + RECORD + ": entry 12", "found int"),
             (text(RECORD, '{"12": 5}'),)),
    BadInput("record's bigrams null", SCORING, (AT + RECORD + ": entry 12", "2: expected dict"),
             (text(RECORD, '{"12": {"2": null}}'),)),
    BadInput("record without D", SCORING, (AT + RECORD + ": entry 12", "diversity: missing"),
             (edit(RECORD, lambda record: record["12"]["2"].__delitem__("diversity")),)),
    BadInput("record's D a text", SCORING, (AT + RECORD + ": entry 12", "diversity: expected int or float"),
             (edit(RECORD, lambda record: record["12"]["2"].update(diversity="2")),)),
    BadInput("record's D nan", SCORING, (AT + RECORD + ": entry 12", "diversity.score"),
             (edit(RECORD, lambda record: record["12"]["2"].update(diversity=float("nan"))),)),
    BadInput("record of other prompts", SCORING, (AT + RECORD + ": entry 12", "diversity.samples: 13 prompts"),
             (edit(RECORD, lambda record: record["12"]["2"].update({"#samples": 13})),)),
    BadInput("record a list", SCORING, (AT + RECORD, "expected a JSON object, found list"), (text(RECORD, "[]"),)),
    BadInput("record cut", SCORING, (AT + RECORD + ":", "not valid JSON"), (cut(RECORD, 30),)),
    BadInput("record of tokenizers a number", SCORING, (AT + RECORD_TOKENIZERS, "expected a JSON object, found int"),
             (text(RECORD_TOKENIZERS, "5"),)),
    BadInput("record of a tokenizer in numbers", SCORING, (AT + RECORD, "tokenizer"),
             (text(RECORD_TOKENIZERS, '{"12": 5}'),)),
    BadInput("world.json empty", SCORING, ("{root}/data/toy/world.json", "hash: missing"),
             (text("data/toy/world.json", "{}"),)),
    # reward models
    BadInput("template refuses a dialogue", REWARDING, (AT + GENERATED + ":2", "chat template", "take turns"),
             (chat_template(STRICT), edit_line(TEST, 2, lambda row: row.update(prefix=BEGUN_BY_ASSISTANT)),
              edit_line(GENERATED, 2, lambda row: row.update(prefix=BEGUN_BY_ASSISTANT)))),
    BadInput("template refuses all", REWARDING, ("{root}/reward_model", "chat template", "never"),
             (chat_template("{{ raise_exception('never') }}"),)),
    BadInput("template is none", REWARDING, ("{root}/reward_model", "chat template"), (chat_template("{% for %}"),)),
    BadInput("template adds a text to a number", REWARDING, ("{root}/reward_model", "chat template"),
             (chat_template("{{ 1 + messages[0]['content'] }}"),)),
    BadInput("template makes nothing", REWARDING, ("{root}/reward_model", "no token"), (chat_template("{{ '' }}"),)),
    BadInput("template without the response", REWARDING, ("{root}/reward_model: ", "leave out the response"),
             (chat_template(ONLY_USER),)),
    BadInput("too few positions to read a response", REWARDING, ("{root}/reward_model: ", "at most 2 tokens"),
             (edit("reward_model/config.json", lambda config: config.update(max_position_embeddings=2)),)),
    BadInput("reward model pads with an id too high", REWARDING, ("{root}/reward_model", "pad_token_id is 100000"),
             (edit("reward_model/config.json", lambda config: config.update(pad_token_id=100000)),)),
    BadInput("reward model pads with -1", REWARDING, ("{root}/reward_model", "pad_token_id is -1"),
             (edit("reward_model/config.json", lambda config: config.update(pad_token_id=-1)),)),
    BadInput("reward model with two labels", REWARDING, ("{root}/reward_model", "2 labels"),
             (edit("reward_model/config.json", lambda config: config.update(id2label={"0": "a", "1": "b"})),)),
]  # fmt: skip
