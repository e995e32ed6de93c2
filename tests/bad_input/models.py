"""Model folders that are damaged, of a kind that cannot be trained or decoded, or whose tokenizer does not fit."""

import json
import shutil
from pathlib import Path
from typing import Any

from model_families import LONGROPE, MAMBA, Family
from study_for_bad_input import TRAIN, VALIDATE

from bad_input.flags import PRETRAIN
from bad_input.flags import REWARD as FROM_SCRATCH
from bad_input.table import BadInput, Change, cut, edit, edit_line, text

E = f"{TRAIN} --index e"
GENERATE = "generation.py --index trained --stage 4 --max_new_tokens 2"
REWARD = "rewarding.py --index trained --stage 4 --reward_model {root}/reward_model"
CHECKPOINT = "checkpoints/index_trained/stage_4/step_2"
TRAIN_FILE = "data/hh_train_len4_12/train.json"
TWELVE = "--global_batch_size 12 --per_device_train_batch_size 12"  # all rankings of the file in a step
WEIGHTS, CONFIG = "model/model.safetensors", "model/config.json"
LOADED = ("{root}/model: the model cannot be loaded",)
TOKENIZER = ("{root}/model: its tokenizer cannot be loaded",)


def setting(**values: Any) -> Change:
    """Changes the model's configuration."""
    return edit(CONFIG, lambda config: config.update(values))


def overwrite(name: str, place: int, content: bytes) -> Change:
    """Writes over a part of a file."""

    def change(root: Path) -> None:
        with open(root / name, "r+b") as file:
            file.seek(place)
            file.write(content)

    return change


def remove(name: str) -> Change:
    return lambda root: (root / name).unlink()


def dangling(name: str) -> Change:
    def change(root: Path) -> None:
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to("nowhere")

    return change


def weight(value: float) -> Change:
    """Sets one number of one weight."""

    def change(root: Path) -> None:
        from safetensors.torch import load_file, save_file

        weights = load_file(root / WEIGHTS)
        weights["model.decoder.layers.1.fc1.bias"][3] = value
        save_file(weights, root / WEIGHTS, {"format": "pt"})

    return change


def sharded(index: Any = None) -> Change:
    """The weights in two files of which the second is gone; or with an index of another content."""

    def change(root: Path) -> None:
        from safetensors.torch import load_file, save_file

        weights = load_file(root / WEIGHTS)
        (root / WEIGHTS).unlink()
        names = sorted(weights)
        save_file({name: weights[name] for name in names[:9]}, root / "model/model-00001-of-00002.safetensors")
        places = {name: f"model-0000{1 if name in names[:9] else 2}-of-00002.safetensors" for name in names}
        content = {"metadata": {}, "weight_map": places} if index is None else index
        (root / "model/model.safetensors.index.json").write_text(json.dumps(content), encoding="utf-8")

    return change


def family(kind: str, **settings: Any) -> Change:
    """A tiny model of another family in place of the model, with its tokenizer."""

    def change(root: Path) -> None:
        config = {"vocab_size": 400, **settings}
        model = Family(kind, settings=config).model()
        for name in (WEIGHTS, CONFIG, "model/generation_config.json"):
            (root / name).unlink(missing_ok=True)
        model.save_pretrained(root / "model")

    return change


def only_config(kind: str, **settings: Any) -> Change:
    """The configuration of another family, for what is refused before any weights are read."""

    def change(root: Path) -> None:
        from transformers import AutoConfig

        AutoConfig.for_model(kind, **settings).save_pretrained(root / "model")

    return change


def slow_tokenizer(root: Path) -> None:
    """A tokenizer written in Python, which knows no offsets."""
    from transformers import ByT5Tokenizer

    for path in (root / "model").glob("*token*"):
        path.unlink()
    ByT5Tokenizer().save_pretrained(root / "model")


def bin_weights(content: bytes) -> tuple[Change, ...]:
    return remove(WEIGHTS), text("model/pytorch_model.bin", content)


def without(name: str) -> Change:
    return edit("model/tokenizer_config.json", lambda config: {key: config[key] for key in config if key != name})


def copied_tokenizer(root: Path) -> None:
    """The tokenizer of the model on top of a model of fewer embeddings."""
    family("llama", vocab_size=259)(root)


def few_words(root: Path) -> None:
    """A tokenizer of one word, and no token for others."""
    vocabulary = {"<s>": 0, "</s>": 1, "<pad>": 2, "a": 3}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}
    edit("model/tokenizer.json", lambda saved: saved.update(model=model))(root)


def dropped(text: str) -> Change:
    """The tokenizer makes nothing of a text."""
    normalizer = {"type": "Replace", "pattern": {"String": text}, "content": ""}
    return edit("model/tokenizer.json", lambda saved: saved.update(normalizer=normalizer))


def few_letters(root: Path) -> None:
    """The tokenizer drops all but two letters, and begins no text with BOS."""
    vocabulary = {"<s>": 0, "</s>": 1, "<pad>": 2, "g": 3, "y": 4}
    model = {"type": "BPE", "vocab": vocabulary, "merges": []}
    edit("model/tokenizer.json", lambda saved: saved.update(model=model, pre_tokenizer=None, post_processor=None))(root)
    without("bos_token")(root)


def reward_copy(root: Path) -> None:
    """The reward model's weights in place of the language model's."""
    shutil.copy(root / "reward_model/model.safetensors", root / WEIGHTS)


def train(name: str, expected: tuple[str, ...], *change: Change, flags: str = "") -> BadInput:
    return BadInput(name, f"{E} {flags}", expected, change)


KINDS = [
    train(f"kind {kind}", ("{root}/model: a ", "ForCausalLM cannot be trained on shared prompts", reason), change)
    for kind, reason, change in (
        ("with a state", "LinearAttention", only_config("falcon_h1", **{**MAMBA, "mamba_n_heads": 4})),
        ("with convolutions", "LinearAttention", only_config("lfm2", layer_types=["conv", "full_attention"],
                                                              num_hidden_layers=2)),
        ("with an own attention", "attention interface", family("falcon", num_key_value_heads=4)),
        ("that keeps keywords", "no keyword arguments", family("stablelm")),
        ("with places by column", "position_ids", only_config("bart", vocab_size=400)),
        ("of long RoPE", "RoPE depends on a text's length beyond 64 tokens",
         only_config("phi3", vocab_size=400, hidden_size=32, num_attention_heads=4, pad_token_id=0,
                     max_position_embeddings=1024, rope_parameters=LONGROPE, original_max_position_embeddings=64)),
    )
]  # fmt: skip
ROWS = [
    *(train(f"weights cut to {size}", (*LOADED, "Safetensor"), cut(WEIGHTS, size)) for size in (0, 4, 100, 20000)),
    train("weights header huge", (*LOADED, "header too large"), overwrite(WEIGHTS, 0, b"\xff" * 8)),
    train("weights header garbage", (*LOADED, "header"), overwrite(WEIGHTS, 8, b"garbage!")),
    train("weights are text", LOADED, text(WEIGHTS, "weights " * 99)),
    train("no weights", (*LOADED, "model.safetensors"), remove(WEIGHTS)),
    train("weights of another model", ("{root}/model: ", "missing or misshapen"), reward_copy),
    train("shard missing", (*LOADED, "model-00002-of-00002"), sharded()),
    train("index a list", LOADED, sharded([1])),
    train("index without a map", (*LOADED, "weight_map"), sharded({})),
    train("index of numbers", LOADED, sharded({"metadata": {}, "weight_map": {"a": 5}})),
    train("weight not a number", ("{root}/model: the weight model.decoder.layers.1.fc1.bias",), weight(float("nan"))),
    train("weight infinite", ("{root}/model: the weight model.decoder.layers.1.fc1.bias",), weight(float("-inf"))),
    train("bin damaged", ("{root}/model", "convert_weights.py {root}/model"), *bin_weights(b"damaged")),
    train("bin empty", ("{root}/model", "convert_weights.py {root}/model"), *bin_weights(b"")),
    *(
        train(f"config {name}", LOADED, text(CONFIG, content))
        for name, content in (("empty", ""), ("a list", "[1]"), ("null", "null"), ("a number", "5"), ("cut", '{"a":'),
                              ("without a type", "{}"), ("not UTF-8", b"\xff\xfe\x00"))
    ),
    *(
        train(f"config {name} {value!r}", LOADED, setting(**{name: value}))
        for name, value in (
            ("num_attention_heads", 0), ("num_attention_heads", "four"), ("num_attention_heads", 3),
            ("num_attention_heads", None), ("hidden_size", 0), ("hidden_size", -32), ("hidden_size", 10**15),
            ("num_hidden_layers", "2"), ("vocab_size", 0), ("vocab_size", 500), ("max_position_embeddings", "x"),
            ("model_type", 5), ("model_type", ["opt"]), ("model_type", "nope"), ("activation_function", "nope"),
            ("pad_token_id", 10**6), ("quantization_config", [1]),
        )
    ),
    train("config of a dropout below 0", ("{root}/model: a OPTForCausalLM cannot", "fails in training mode"),
          setting(attention_dropout=-1)),
    train("config of an endless dropout", ("{root}/model: a OPTForCausalLM cannot", "fails in training mode", "1e+308"),
          setting(attention_dropout=1e308)),
    train("config of layers below 0", ("{root}/model: a OPTForCausalLM cannot", "makes no layers"),
          setting(num_hidden_layers=-1)),
    train("config of chunks without a size", ("{root}/model: a Qwen3ForCausalLM cannot", "makes no layers", "chunk"),
          only_config("qwen3", vocab_size=400, num_hidden_layers=2),
          edit(CONFIG, lambda config: config.update(layer_types=["chunked_attention", "full_attention"]))),
    train("config without layers", ("{root}/model: config.json: num_hidden_layers is 0",),
          setting(num_hidden_layers=0)),
    train("config with a layer less", ("{root}/model: ", "not used by the model", "layers.1"),
          setting(num_hidden_layers=1)),
    train("config without the biases of the weights", ("{root}/model: 8 weights are not used", "k_proj.bias"),
          family("llama", attention_bias=True), setting(attention_bias=False)),
    train("config without the last norm", ("{root}/model: 2 weights are not used", "decoder.final_layer_norm.bias"),
          setting(_remove_final_layer_norm=True)),
    train("config with a layer more", ("{root}/model: ", "missing", "layers.2"), setting(num_hidden_layers=3)),
    train("generation config a list", LOADED, text("model/generation_config.json", "[1]")),
    *(
        train(f"generation config {name}", ("{root}/model/generation_config.json", expected), change)
        for name, expected, change in (
            ("cut", "not valid JSON", text("model/generation_config.json", "{")),
            ("empty", "not valid JSON", text("model/generation_config.json", "")),
            ("not UTF-8", "not UTF-8", text("model/generation_config.json", b"\xff")),
            ("a link to nothing", "no such file", dangling("model/generation_config.json")),
        )
    ),
    *(
        train(f"tokenizer config {content}", TOKENIZER, text("model/tokenizer_config.json", content))
        for content in ("[1]", "null", "5", "{", '{"tokenizer_class": 5}')
    ),
    *(
        train(f"tokenizer.json {content}", TOKENIZER, text("model/tokenizer.json", content))
        for content in ("[1]", "null", "", '{"model": {"type": "Nope"}}')
    ),
    train("tokenizer that panics", TOKENIZER, edit("model/tokenizer.json", lambda saved: saved.update(
        normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}))),
    train("tokenizer of a length in words", TOKENIZER,
          edit("model/tokenizer_config.json", lambda saved: saved.update(model_max_length="x"))),
    train("tokenizer whose unknown token is empty", TOKENIZER,
          edit("model/tokenizer_config.json", lambda saved: saved.update(unk_token=""))),
    train("tokenizer without a word", ("error: {root}/model: its tokenizer cannot encode", "Missing [UNK]"), few_words),
    *(
        BadInput(f"tokenizer without a word: {command.partition(' ')[0]}", command,
                 ("{root}/" + line, "{root}/model: its tokenizer cannot encode the text", "Missing [UNK]"),
                 (few_words,))
        for command, line in ((PRETRAIN, "corpus.jsonl:1: "), (FROM_SCRATCH, "reward_train.json:1: "))
    ),
    train("tokenizer without a token of the prompt", ("{root}/model: its tokenizer makes no token of the prompt",),
          few_letters),
    BadInput("tokenizer without a token of a response", f"{E} --no_append_eos {TWELVE}",
             (f"{{root}}/{TRAIN_FILE}:3: {{root}}/model: its tokenizer makes no token of suffix[3]",),
             (dropped(" zzz"), edit_line(TRAIN_FILE, 3, lambda row: row["suffix"].__setitem__(3, "zzz"))),
             keeps=("checkpoints/index_e*", "logs/e*")),
    train("tokenizer slow", ("{root}/model: its tokenizer gives no offsets",), slow_tokenizer),
    train("tokenizer without EOS", ("{root}/model: its tokenizer has no EOS token", "--no_append_eos"),
          without("eos_token")),
    train("tokenizer of more ids", ("{root}/model: its tokenizer has token ids up to 399", "259"), copied_tokenizer),
    *KINDS,
    train("an encoder", ("{root}/model: a BertLMHeadModel cannot be trained", "see later ones"), family("bert")),
    train("without sdpa", (*LOADED, "no sdpa attention"), only_config("gemma2", vocab_size=400)),
    train("not to be decoded", ("a llama4_text model cannot be decoded here", "chunked_attention"),
          only_config("llama4_text", vocab_size=400, attention_chunk_size=16, num_local_experts=2,
                      num_hidden_layers=2), flags=VALIDATE),
    train("windows that are none of the model's", ("a llama model cannot be decoded here", "than alone"),
          family("llama", sliding_window=8), flags=VALIDATE),
    train("windows of some layers that are none of the model's", ("a llama model cannot be decoded here",),
          family("llama", sliding_window=8, layer_types=["sliding_attention", "full_attention"]), flags=VALIDATE),
    train("EOS ids nested", ("{root}/model: eos_token_id [1] (expected a token id",),
          text("model/generation_config.json", '{"eos_token_id": [[1]]}'), flags=VALIDATE),
    train("LoRA beside tied output embeddings", ("--lora_target_modules lm_head: ", "tied to the input's"),
          flags="--lora_r 2 --lora_target_modules lm_head"),
    BadInput("checkpoint cut", GENERATE, ("{root}/" + CHECKPOINT.rpartition("/")[0], "cannot be loaded"),
             (cut(f"{CHECKPOINT}/model.safetensors", 1000), remove(f"{CHECKPOINT}/manifest.json"))),
    BadInput("reward model cut", f"{E} {VALIDATE}", ("{root}/reward_model: the model cannot be loaded",),
             (cut("reward_model/model.safetensors", 1000),)),
    BadInput("reward model without heads", f"{E} {VALIDATE}", ("{root}/reward_model: ", "cannot be loaded (Zero"),
             (edit("reward_model/config.json", lambda config: config.update(num_attention_heads=0)),)),
    *(
        BadInput(f"tokenizer config a list: {command.partition(' ')[0]}", command, TOKENIZER,
                 (text("model/tokenizer_config.json", "[1]"),))
        for command in ("sample.py 4 --sizes 4 --tokenizer {root}/model",
                        "pretrain.py --corpus {root}/corpus.jsonl --tokenizer {root}/model --output_dir {root}/base")
    ),
]  # fmt: skip
