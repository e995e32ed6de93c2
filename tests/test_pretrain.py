"""Base models from scratch: the loss reaches the corpus's entropy, the folder is plain transformers, and a finished
one is kept only while nothing that it was made from changes."""

import json
import math
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

import pytest
import torch

from data_preprocess.command import InputError, RunError
from eval_hh.inference.models import load_causal_lm, padded, wrong_weight
from training import pretrain
from training.saving.model_folder import ModelFolder
from training.small_models import batch_order, check_finite, linear_schedule, lines_of

WORDS = ("red", "blue")
SMALL = ["--hidden_size", "16", "--num_layers", "1", "--num_heads", "2", "--max_positions", "32", "--batch_size", "16"]


@pytest.fixture(scope="module")
def tokenizer_dir(tmp_path_factory) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    vocab = {token: i for i, token in enumerate([*special.values(), "a", "b", "is", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return folder


def test_a_model_is_saved_without_deepspeed(tiny_causal_lm_dir, monkeypatch, tmp_path):
    """save_pretrained would import it, which takes longer than to save a small model."""
    model = load_causal_lm(tiny_causal_lm_dir("opt"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "deepspeed"]:
        monkeypatch.delitem(sys.modules, name)
    ModelFolder(str(tmp_path / "model"), "pretrain.py", {}, []).write(model.save_pretrained)
    assert (tmp_path / "model" / "model.safetensors").is_file() and "deepspeed" not in sys.modules


def write_corpus(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def arguments(corpus: Path, tokenizer: Path, output: Path, *more: str) -> list[str]:
    return ["--corpus", str(corpus), "--tokenizer", str(tokenizer), "--output_dir", str(output), *SMALL, *more]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tokenizer_dir) -> Path:
    """A model of 400 steps on "a is red" (always) and "b is red|blue" (3 to 1), so that its optimum is known."""
    folder = tmp_path_factory.mktemp("trained")
    corpus = write_corpus(folder / "corpus.jsonl", ["a is red"] * 80 + ["b is red"] * 60 + ["b is blue"] * 20)
    more = ("--max_steps", "400", "--learning_rate", "2e-2")
    pretrain.main(arguments(corpus, tokenizer_dir, folder / "model", *more))
    return folder / "model"


def next_token_probabilities(folder: Path, text: str) -> torch.Tensor:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(text)["input_ids"]]])
    return model(ids).logits[0, -1].softmax(-1)


def test_model_learns_the_frequencies_of_its_corpus(trained):
    # ids: <pad> 0, <s> 1, </s> 2, <unk> 3, a 4, b 5, is 6, red 7, blue 8
    assert next_token_probabilities(trained, "")[4].item() == pytest.approx(0.50, abs=0.1)
    assert next_token_probabilities(trained, "a is")[7].item() == pytest.approx(1.0, abs=0.05)
    assert next_token_probabilities(trained, "b is")[7].item() == pytest.approx(0.75, abs=0.1)
    assert next_token_probabilities(trained, "b is")[8].item() == pytest.approx(0.25, abs=0.1)
    assert next_token_probabilities(trained, "b is blue")[2].item() == pytest.approx(1.0, abs=0.05)


def test_folder_is_plain_and_has_no_dropout(trained):
    config = json.loads((trained / "config.json").read_text())
    assert config["model_type"] == "opt" and config["dropout"] == config["attention_dropout"] == 0.0
    assert config["hidden_size"] == 16 and config["num_hidden_layers"] == 1 and config["pad_token_id"] == 0
    assert (trained / "model.safetensors").is_file() and (trained / "tokenizer.json").is_file()
    assert not [p for p in trained.parent.iterdir() if p.name.startswith(".")]


def test_same_settings_same_weights_and_no_second_training(tmp_path, tokenizer_dir, capsys):
    corpus = write_corpus(tmp_path / "corpus.jsonl", ["a is red", "b is blue"] * 20)
    for name in ("one", "two"):
        pretrain.main(arguments(corpus, tokenizer_dir, tmp_path / name, "--max_steps", "3"))
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two")]
    assert weights[0] == weights[1]

    stamp = (tmp_path / "one" / "model.safetensors").stat().st_mtime_ns
    capsys.readouterr()
    pretrain.main(arguments(corpus, tokenizer_dir, tmp_path / "one", "--max_steps", "3"))
    assert "already trained" in capsys.readouterr().out
    assert (tmp_path / "one" / "model.safetensors").stat().st_mtime_ns == stamp

    pretrain.main(arguments(corpus, tokenizer_dir, tmp_path / "one", "--max_steps", "3", "--seed", "7"))
    assert (tmp_path / "one" / "model.safetensors").read_bytes() != weights[0]
    write_corpus(corpus, ["a is red", "b is red"] * 20)
    pretrain.main(arguments(corpus, tokenizer_dir, tmp_path / "two", "--max_steps", "3"))
    assert (tmp_path / "two" / "model.safetensors").read_bytes() != weights[1]


@pytest.mark.parametrize(
    ("line", "message"), [('{"txt": "a"}', r"corpus.jsonl:2: no text"), ("{", r"corpus.jsonl:2: not valid JSON")]
)
def test_a_bad_line_is_named(tmp_path, tokenizer_dir, line, message):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"text": "a is red"}\n' + line + "\n")
    with pytest.raises(InputError, match=message):
        pretrain.main(arguments(corpus, tokenizer_dir, tmp_path / "model"))
    assert not (tmp_path / "model").exists()


def test_settings_that_contradict_are_refused(tmp_path, tokenizer_dir):
    corpus = write_corpus(tmp_path / "corpus.jsonl", ["a is red"])
    with pytest.raises(InputError, match="--hidden_size 16: not a multiple of --num_heads 3"):
        pretrain.main(arguments(corpus, tokenizer_dir, tmp_path / "model", "--num_heads", "3"))
    with pytest.raises(InputError, match="no such corpus"):
        pretrain.main(arguments(tmp_path / "absent.jsonl", tokenizer_dir, tmp_path / "model"))


@pytest.mark.parametrize("entry", ["pretrain.py", "train_reward.py"])
def test_help_is_quick(entry):
    folder = Path(pretrain.__file__).parent
    start = time.perf_counter()
    subprocess.run([sys.executable, entry, "--help"], check=True, capture_output=True, cwd=folder)
    assert time.perf_counter() - start < 2


def test_batches_use_every_text_once_a_pass_and_hold_like_lengths():
    rng = Random(3)
    lengths = [rng.randrange(1, 100) for _ in range(640)]
    batches = batch_order(lengths, batch_size=16, n_batches=80, seed=0)
    assert Counter(i for batch in batches for i in batch) == dict.fromkeys(range(640), 2)
    assert {len(batch) for batch in batches} == {16} and batches[:40] != batches[40:]
    waste = sum(max(lengths[i] for i in batch) * 16 - sum(lengths[i] for i in batch) for batch in batches)
    assert waste / (2 * sum(lengths)) < 0.2  # batches in a random order of texts would pad about 0.9 of it
    assert batch_order(lengths, 16, 80, seed=0) == batches != batch_order(lengths, 16, 80, seed=1)


def test_fewer_texts_than_a_batch_still_make_one():
    assert [sorted(batch) for batch in batch_order([5, 5, 5], batch_size=16, n_batches=2, seed=0)] == [[0, 1, 2]] * 2


def test_padding_by_hand():
    ids, mask = padded([[5, 6, 7], [8]], pad=1, where=torch.device("cpu"))
    assert ids.tolist() == [[5, 6, 7], [8, 1, 1]] and mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_learning_rate_by_hand():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = linear_schedule(optimizer, 20)
    rates = []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    # two steps of warm-up, then from 1 at step 2 down to 1/18 at step 19
    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0]) and rates[19] == pytest.approx(1 / 18)
    assert math.isclose(rates[10], 10 / 18)


def edited(tokenizer_dir: Path, folder: Path, **config) -> Path:
    """A copy of a tokenizer's folder with other entries in its settings; None removes one."""
    shutil.copytree(tokenizer_dir, folder)
    saved = json.loads((folder / "tokenizer_config.json").read_text()) | config
    saved = {name: value for name, value in saved.items() if value is not None}
    (folder / "tokenizer_config.json").write_text(json.dumps(saved))
    return folder


def test_without_a_padding_token_the_same_is_learnt(tmp_path, tokenizer_dir):
    """Padding is masked, so its id is nothing to the model: the corpus's frequencies come out, EOS included."""
    corpus = write_corpus(tmp_path / "corpus.jsonl", ["a"] * 40 + ["b is blue"] * 40)
    tokenizer = edited(tokenizer_dir, tmp_path / "no_pad", pad_token=None)
    more = ("--max_steps", "300", "--learning_rate", "2e-2")
    pretrain.main(arguments(corpus, tokenizer, tmp_path / "model", *more))
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config.get("pad_token_id") is None and config["eos_token_id"] == 2
    assert next_token_probabilities(tmp_path / "model", "")[4].item() == pytest.approx(0.5, abs=0.1)
    assert next_token_probabilities(tmp_path / "model", "a")[2].item() == pytest.approx(1.0, abs=0.05)
    assert next_token_probabilities(tmp_path / "model", "b is blue")[2].item() == pytest.approx(1.0, abs=0.05)


def test_ids_beyond_the_number_of_tokens_have_a_row_of_the_embedding(tmp_path, tokenizer_dir):
    tokenizer = edited(tokenizer_dir, tmp_path / "sparse")
    saved = json.loads((tokenizer / "tokenizer.json").read_text())
    saved["model"]["vocab"]["blue"] = 29
    (tokenizer / "tokenizer.json").write_text(json.dumps(saved))
    corpus = write_corpus(tmp_path / "corpus.jsonl", ["b is blue"] * 4)
    pretrain.main(arguments(corpus, tokenizer, tmp_path / "model", "--max_steps", "2"))
    assert json.loads((tmp_path / "model" / "config.json").read_text())["vocab_size"] == 30


def test_lines_and_weights_at_fault_are_named(tmp_path):
    assert lines_of("a.jsonl", [4]) == "line 5 of a.jsonl" and lines_of("a.jsonl", {8, 2}) == "lines 3, 9 of a.jsonl"
    places = [(Path("a"), 0), (Path("b"), 0), (Path("a"), 6)]
    assert pretrain.named(places, [2, 1, 0]) == "lines 1, 7 of a; line 1 of b"
    check_finite(3, lambda: "", loss=1e38, gradient_norm=0.0)
    with pytest.raises(RunError, match=r"step 3: the gradient norm is inf \(line 5 of a\); no model is saved"):
        check_finite(3, lambda: "line 5 of a", loss=0.5, gradient_norm=math.inf)
    model = torch.nn.Linear(2, 2)
    assert wrong_weight(model) is None
    with torch.no_grad():
        model.bias[1] = math.nan
    assert wrong_weight(model) == "bias"
