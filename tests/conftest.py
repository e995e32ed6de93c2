"""Fixtures, built once per session: the shared data, tiny random models with a byte-level tokenizer, a whole study."""

import os
import shutil
from collections import Counter
from pathlib import Path
from stat import S_ISDIR

import pytest

# One thread in this process and all that it starts, set before torch is loaded: results that are compared bit for bit
# must be summed in the same order.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"  # read when the hub's client is imported
# A GPU is hidden, and so from all that the tests start, unless TEST_DEVICE=cuda asks for it (tests/test_cuda.py).
if os.environ.get("TEST_DEVICE") != "cuda":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"
SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
SAMPLE_TEXT = [
    "\n\nHuman: What is amber made of?\n\nAssistant: Amber is made of resin, and it is found in old forests.",
    "\n\nHuman: How do I fix a leaking tap?\n\nAssistant: Turn the water off first, then change the worn washer.",
    "\n\nHuman: Tell me about whales.\n\nAssistant: Whales are mammals; they breathe air and sing under water.",
    "<|prompter|>Can you help me?<|assistant|>Of course! Human: no. Assistant: yes.",
]


# Files whose slow tests take five minutes and more, the longest first.
LONGEST = [
    f"test_{name}.py"
    for name in (
        "readme", "reproduce", "kill_events", "slurm", "launched_training", "reward_trainer", "trainer", "benchmarks",
    )
]  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files come first, so that processes that run files side by side end at about one time.

    These are the longest, then the others by their number of slow tests.
    """
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))

    def rank(item: pytest.Item) -> tuple[int, int]:
        is_long = slow[item.path] and item.path.name in LONGEST
        return LONGEST.index(item.path.name) if is_long else len(LONGEST), -slow[item.path]

    items.sort(key=rank)


@pytest.fixture(autouse=True)
def _own_study_root(monkeypatch, tmp_path):
    """No test ever writes into the repository's data/ or checkpoints/, nor asks a network."""
    monkeypatch.setenv("STUDY_ROOT", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and golden files; CI demands it, elsewhere its tests skip."""
    if not SHARED.is_dir():
        message = f"{SHARED} is absent"
        if os.environ.get("REQUIRE_SHARED") == "1":
            pytest.fail(message + " and REQUIRE_SHARED=1")
        pytest.skip(message)
    return SHARED


@pytest.fixture(scope="session")
def byte_tokenizer():
    """A byte-level BPE of 400 tokens that puts no special token in by itself."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SAMPLE_TEXT, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS)


def _config(family: str, tokenizer, **more):
    from transformers import AutoConfig

    width = {
        "opt": {"hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 64, "dropout": 0.0},
        "llama": {"hidden_size": 32, "intermediate_size": 64},
        "gpt_neox": {"hidden_size": 32, "intermediate_size": 64, "rotary_pct": 0.5},
        "gpt2": {"n_embd": 32, "n_inner": 64, "n_layer": 2, "n_head": 4, "resid_pdrop": 0.0, "embd_pdrop": 0.0,
                 "attn_pdrop": 0.0},
        "qwen2": {"hidden_size": 32, "intermediate_size": 64, "num_key_value_heads": 2},
    }[family]  # fmt: skip
    if family != "gpt2":
        width |= {"num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {name + "_id": getattr(tokenizer, name + "_id") for name in SPECIAL_TOKENS}
    return AutoConfig.for_model(family, vocab_size=len(tokenizer), **width, **ids, **more)


@pytest.fixture(scope="session")
def tiny_causal_lm_dir(tmp_path_factory, byte_tokenizer):
    """tiny_causal_lm_dir(family) -> folder of a random two-layer model (dropout 0) with its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM

    folders: dict[str, Path] = {}

    def build(family: str = "opt") -> Path:
        if family not in folders:
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(_config(family, byte_tokenizer))
            with torch.no_grad():  # the usual small initialisation makes every next token about as likely
                for parameter in model.parameters():
                    if parameter.dim() == 2:
                        parameter.normal_(std=0.3)
            folders[family] = tmp_path_factory.mktemp(family)
            model.save_pretrained(folders[family])
            byte_tokenizer.save_pretrained(folders[family])
        return folders[family]

    return build


@pytest.fixture(scope="session")
def tiny_reward_dir(tmp_path_factory, byte_tokenizer) -> Path:
    """A random GPT-NeoX with one label, as plain transformers saves it, with its tokenizer."""
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_config(_config("gpt_neox", byte_tokenizer, num_labels=1))
    with torch.no_grad():
        model.score.weight.normal_(std=0.5)
    folder = tmp_path_factory.mktemp("reward_model")
    model.save_pretrained(folder)
    byte_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def whole_study(tmp_path_factory, tiny_causal_lm_dir, tiny_reward_dir):
    """A study root, made once; it lies at one place, since what is made names its inputs by path."""
    from study_for_bad_input import build_root

    root = tmp_path_factory.mktemp("study") / "root"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_ROOT", str(root))
        patch.setenv("HF_HUB_OFFLINE", "1")
        build_root(root, tiny_causal_lm_dir("opt"), tiny_reward_dir)
    shutil.copytree(root, root.with_name("fresh"), symlinks=True)
    return root


def _stamps(root: Path) -> dict[Path, tuple]:
    """What tells whether a path below `root` was changed; of a folder only its rights."""
    stats = {path.relative_to(root): path.lstat() for path in root.rglob("*")}
    return {
        path: (stat.st_mode,) if S_ISDIR(stat.st_mode) else (stat.st_mode, stat.st_size, stat.st_mtime_ns)
        for path, stat in stats.items()
    }


def _restore(root: Path, fresh: Path) -> None:
    """Makes `root` what `fresh` is: to copy the little that a test changed takes a twentieth of copying all."""
    now, then = _stamps(root), _stamps(fresh)
    changed = sorted(path for path in now.keys() | then.keys() if now.get(path) != then.get(path))
    for path in reversed(changed):  # what lies in a folder before the folder
        old = root / path
        shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink(missing_ok=True)
    for path in changed:
        if path in then and S_ISDIR(then[path][0]):
            shutil.copytree(fresh / path, root / path, symlinks=True)
        elif path in then and not (root / path).exists():
            shutil.copy2(fresh / path, root / path, follow_symlinks=False)


@pytest.fixture
def study(whole_study, monkeypatch):
    """The study root as it was made, for one test to spoil."""
    _restore(whole_study, whole_study.with_name("fresh"))
    monkeypatch.setenv("STUDY_ROOT", str(whole_study))
    return whole_study


@pytest.fixture(scope="module")
def browser():
    """Debian's or another installed Chromium, without a window and without a network."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        message = "no chromium on PATH"
        if os.environ.get("REQUIRE_CHROMIUM") == "1":
            pytest.fail(message + " and REQUIRE_CHROMIUM=1")
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]  # root has no sandbox
        chromium = playwright.chromium.launch(executable_path=path, args=options)
        yield chromium
        chromium.close()
