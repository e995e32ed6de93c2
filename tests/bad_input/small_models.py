"""What pretrain.py and train_reward.py are given to learn from, and numbers on their way that are not finite."""

from pathlib import Path

from study_for_bad_input import ranking, write_rows

from bad_input.flags import PRETRAIN, REWARD
from bad_input.table import BadInput, Change, edit, edit_line, text

TRAIN, HELDOUT = "reward_train.json", "reward_heldout.json"
GOING_ON = (
    "train_reward.py --train_file {root}/reward_train.json --heldout_file {root}/reward_heldout.json "
    "--model_name_or_path {root}/reward_model --output_dir {root}/rm --max_steps 1 --batch_size 2"
)


def one_response(row: dict) -> None:
    row.update(prefix=row["prefix"][:1], suffix=row["suffix"][:1], reward=row["reward"][:1])


def ties(name: str) -> Change:
    return lambda root: write_rows(root / name, [{**ranking("moss"), "reward": [1.0] * 4}] * 3)


def without_eos(folder: str) -> Change:
    return edit(f"{folder}/tokenizer_config.json", lambda config: config.pop("eos_token") and None)


def large_id(folder: str, number: int, token: str) -> Change:
    """A token of the vocabulary has an id far beyond the others."""

    def change(tokenizer: dict) -> None:
        assert token in tokenizer["model"]["vocab"]
        tokenizer["model"]["vocab"][token] = number

    return edit(f"{folder}/tokenizer.json", change)


def nan_weight(folder: str, name: str) -> Change:
    def change(root: Path) -> None:
        from safetensors.torch import load_file, save_file

        file = root / folder / "model.safetensors"
        weights = load_file(file)
        weights[name].view(-1)[3] = float("nan")
        save_file(weights, file, {"format": "pt"})

    return change


ROWS = [
    BadInput("corpus without rows", PRETRAIN, ("{root}/corpus.jsonl", "holds no text"), (text("corpus.jsonl", ""),)),
    BadInput("corpus without a text", PRETRAIN, ("{root}/corpus.jsonl:2", "no text"),
             (edit_line("corpus.jsonl", 2, lambda row: {"txt": "a"}),)),
    BadInput("corpus folder without files", f"{PRETRAIN} --corpus {{root}}/data/hh_dev",
             ("data/hh_dev", "no such corpus")),
    BadInput("tokenizer without EOS", PRETRAIN, ("{root}/model", "has no EOS token"), (without_eos("model"),)),
    BadInput("tokenizer of huge ids", PRETRAIN, ("{root}/model", "an id of 2147483648"),
             (large_id("model", 2**31, "Ġis"),)),
    BadInput("pretrain.py: loss not finite", f"{PRETRAIN} --learning_rate 1e30 --max_steps 4",
             ("step 2: the loss is ", " of {root}/corpus.jsonl", "no model is saved"), status=1),
    BadInput("train_reward.py: loss not finite", f"{REWARD} --learning_rate 1e30 --max_steps 4",
             ("step 2: the loss is nan", "lines ", " of {root}/reward_train.json", "no model is saved"), status=1),
    BadInput("train_reward.py: measured, not finite", f"{REWARD} --learning_rate 1e30 --max_steps 4 --eval_steps 1",
             ("step 1: the model scores reward_heldout.json:1 with nan",), status=1),
    BadInput("NaN in the model to resume from", GOING_ON, ("{root}/reward_model", "score.weight", "not finite"),
             (nan_weight("reward_model", "score.weight"),)),
    BadInput("a ranking of one response", REWARD, ("{root}/reward_train.json:3", "one response"),
             (edit_line(TRAIN, 3, one_response),)),
    BadInput("a held-out ranking of one response", REWARD, ("{root}/reward_heldout.json:2", "one response"),
             (edit_line(HELDOUT, 2, one_response),)),
    BadInput("a reward beyond float32", REWARD, ("{root}/reward_train.json:4", "reward[0]", "1e+39"),
             (edit_line(TRAIN, 4, lambda row: row["reward"].__setitem__(0, 1e39)),)),
    BadInput("a held-out reward beyond float32", REWARD, ("{root}/reward_heldout.json:1", "reward[3]", "-4e+38"),
             (edit_line(HELDOUT, 1, lambda row: row["reward"].__setitem__(3, -4e38)),)),
    BadInput("a reward that is not finite", REWARD, ("{root}/reward_train.json:1", "reward[0]"),
             (edit_line(TRAIN, 1, lambda row: row["reward"].__setitem__(0, float("inf"))),)),
    BadInput("ties only", REWARD, ("{root}/reward_train.json", "no two responses"), (ties(TRAIN),)),
    BadInput("held-out ties only", REWARD, ("{root}/reward_heldout.json", "no two responses"), (ties(HELDOUT),)),
    BadInput("padding that is no row", GOING_ON, ("{root}/reward_model", "pad_token_id is 400000"),
             (edit("reward_model/config.json", lambda config: config.update(pad_token_id=400000)),)),
    BadInput("neither padding nor EOS", GOING_ON, ("{root}/reward_model", "neither "),
             (edit("reward_model/config.json", lambda config: config.update(pad_token_id=None)),
              edit("reward_model/tokenizer_config.json", lambda config: config.pop("pad_token") and None),
              without_eos("reward_model"))),
    BadInput("ids beyond the embedding", GOING_ON, ("token id 100000 is outside", "of 400 rows"),
             (large_id("reward_model", 100000, "Ġis"),)),
    BadInput("a model's settings that are a list", GOING_ON, ("{root}/reward_model", "list"),
             (edit("reward_model/config.json", lambda config: [1]),)),
    BadInput("a template of blanks", GOING_ON, ("{root}/reward_model: ", "leave out the response"),
             (text("reward_model/chat_template.jinja", "{% for m in messages %}  {% endfor %}"),)),
    BadInput("a dropout below 0", GOING_ON, ("{root}/reward_model: a ", "cannot be computed in training mode"),
             (edit("reward_model/config.json", lambda config: config.update(attention_dropout=-1)),)),
    BadInput("architectures that are a number", GOING_ON, ("{root}/reward_model: config.json: architectures is 5",),
             (edit("reward_model/config.json", lambda config: config.update(architectures=5)),)),
    BadInput("padding below 0", GOING_ON, ("{root}/reward_model", "pad_token_id is -1"),
             (edit("reward_model/config.json", lambda config: config.update(pad_token_id=-1)),)),
]  # fmt: skip
