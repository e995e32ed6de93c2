"""Embeds prompts as unit vectors: by wordllama, which works offline, or by any embedding model in a folder.

A folder is one of sentence-transformers (a transformer with mean or CLS pooling) or of static embeddings
(tokenizer.json and one table of token vectors in model.safetensors, as model2vec writes). wordllama's code is under the
MIT licence; its vectors were made from the token embeddings of Llama 2 70B, phi-3-medium and others, so that Llama 2's
licence bears on them.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from data_preprocess.command import InputError
from data_preprocess.files import atomic_write, read_json
from data_preprocess.hub import load_or_refuse, load_tokenizer, source_options

WORDLLAMA = "wordllama"  # the default model, from a package
REQUIREMENTS = "pip install -r labelling/requirements-select.txt"
BATCH = 64  # texts per forward pass of a transformer
CHUNK = 50_000  # texts embedded between two progress lines
MAX_TOKENS = 512  # of a text that a transformer reads
# In 1_Pooling/config.json: names of what is pooled by. The means differ in length only, and vectors have length one.
POOLING, CLS, MEANS = "pooling_mode_", "cls_token", {"mean_tokens", "mean_sqrt_len_tokens"}

Embed = Callable[[Sequence[str]], np.ndarray]  # texts -> [N, dimensions]


def embedded(texts: Sequence[str], model: str, cache: Path | None = None) -> np.ndarray:
    """Returns one unit vector per text: [N, dimensions] float32; zero for a text without a known token.

    Args:
        texts: N texts.
        model: WORDLLAMA, or the folder of a model.
        cache: .npz file from which the vectors are read, or to which they are written.

    Raises:
        InputError: a model that is not there or cannot be read, or whose vectors are not finite, or a cache of other
            texts or of another model.
    """
    made_of = {"model": model, "texts": hashlib.sha256("\0".join(texts).encode("utf-8")).hexdigest()}
    embed, dimensions = load_embedder(model)
    if cache and cache.exists():
        return _cached(cache, made_of, (len(texts), dimensions))
    parts = []
    for start in range(0, len(texts), CHUNK):
        part = np.asarray(embed(texts[start : start + CHUNK]), dtype=np.float32)
        if not np.isfinite(part).all():
            raise InputError(f"--embeddings {model}: its vectors are not finite (expected a model with finite weights)")
        parts.append(_unit(part))
        if len(texts) > CHUNK:
            print(f"embedded {min(start + CHUNK, len(texts)):,} of {len(texts):,} prompts", flush=True)
    vectors = np.concatenate(parts) if parts else np.zeros((0, dimensions), dtype=np.float32)
    if cache:
        with atomic_write(cache, "wb") as file:
            np.savez(file, vectors=vectors, made_of=json.dumps(made_of))
    return vectors


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)


def _cached(path: Path, made_of: dict[str, str], shape: tuple[int, int]) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as saved:
            vectors, known = saved["vectors"], dict(json.loads(str(saved["made_of"])))
        if not np.isfinite(vectors).all():
            raise ValueError("numbers that are not finite")
    except Exception as error:  # zipfile, numpy and json raise many kinds for a damaged file
        raise InputError(f"{path}: not a file of embeddings that can be read ({type(error).__name__})") from None
    for name, what in (("model", "by another model"), ("texts", "of other prompts")):
        if known.get(name) != made_of[name]:
            raise InputError(
                f"{path}: made {what} (expected {made_of['model']} on these prompts; delete it or give another)"
            )
    if vectors.shape != shape:
        found = " x ".join(map(str, vectors.shape))
        raise InputError(f"{path}: holds {found} numbers (expected {shape[0]} x {shape[1]}; delete it or give another)")
    return vectors


def load_embedder(model: str) -> tuple[Embed, int]:
    """Returns (function that embeds texts, dimensions) of WORDLLAMA or a folder; InputError if it cannot be loaded."""
    if model == WORDLLAMA:
        return _wordllama()
    folder = Path(model)
    if not folder.is_dir():
        raise InputError(
            f"--embeddings {model}: no such folder (expected {WORDLLAMA}, or a folder of an embedding model)"
        )
    if (folder / "config.json").is_file() and _has_layers(folder):
        return _transformer(folder)
    return _static(folder)


def _has_layers(folder: Path) -> bool:
    """Returns whether a folder's config.json is of a transformer; model2vec's is not."""
    config = read_json(folder / "config.json")
    return isinstance(config, dict) and config.get("model_type") not in (None, "model2vec")


def _wordllama() -> tuple[Embed, int]:
    try:
        import wordllama
    except ImportError:
        raise InputError(f"--embeddings {WORDLLAMA} needs wordllama, which is not installed ({REQUIREMENTS})") from None
    # The package's own folder as cache: it finds its tokenizer there and asks no network.
    package = Path(wordllama.__file__).parent
    model = wordllama.WordLlama.load(cache_dir=package, disable_download=True)

    def embed(texts: Sequence[str]) -> np.ndarray:
        return np.nan_to_num(model.embed(list(texts), norm=False))  # the mean of no token at all

    return embed, model.embedding.shape[1]


def _static(folder: Path) -> tuple[Embed, int]:
    """The mean of the vectors of a text's tokens."""
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    for name in ("tokenizer.json", "model.safetensors"):
        if not (folder / name).is_file():
            expected = "an embedding model: a transformer, or tokenizer.json and model.safetensors"
            raise InputError(f"--embeddings {folder}: holds no {name} (expected {expected})")
    tokenizer = load_or_refuse(lambda: Tokenizer.from_file(str(folder / "tokenizer.json")), f"{folder}/tokenizer.json")
    tokenizer.no_padding()  # a padded text's mean would depend on the texts beside it
    tokenizer.no_truncation()
    tables = load_or_refuse(lambda: load_file(folder / "model.safetensors"), f"{folder}/model.safetensors")
    tables = [table for table in tables.values() if table.ndim == 2]
    if len(tables) != 1 or len(tables[0]) < tokenizer.get_vocab_size():
        raise InputError(
            f"{folder}/model.safetensors: expected one table with a vector for each token of tokenizer.json"
        )
    table = tables[0].astype(np.float32)

    def embed(texts: Sequence[str]) -> np.ndarray:
        found = np.zeros((len(texts), table.shape[1]), dtype=np.float32)
        for row, encoded in enumerate(tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)):
            _check_ids(encoded.ids, folder, len(table))
            if encoded.ids:
                found[row] = table[encoded.ids].mean(axis=0)
        return found

    return embed, table.shape[1]


def _transformer(folder: Path) -> tuple[Embed, int]:
    """Mean or CLS pooling of the last layer, see `_pools_by_first`."""
    import torch
    from torch.nn.utils.rnn import pad_sequence
    from transformers import AutoModel

    tokenizer = load_tokenizer(folder)
    options = source_options(folder)
    model = load_or_refuse(
        lambda: AutoModel.from_pretrained(str(folder), **options), f"{folder}: cannot be loaded"
    ).eval()
    n_ids = len(model.get_input_embeddings().weight)
    by_first = _pools_by_first(folder / "1_Pooling" / "config.json")
    longest = min(MAX_TOKENS, getattr(model.config, "max_position_embeddings", MAX_TOKENS))

    @torch.inference_mode()
    def embed(texts: Sequence[str]) -> np.ndarray:
        parts = []
        for start in range(0, len(texts), BATCH):
            ids = tokenizer(list(texts[start : start + BATCH]), truncation=True, max_length=longest)["input_ids"]
            _check_ids([one for row in ids for one in row], folder, n_ids)
            rows = [torch.tensor(one, dtype=torch.long) for one in ids]
            # Padding is masked, so any id will do; on the left it would shift the positions of a text's own tokens.
            padded = pad_sequence(rows, batch_first=True)
            mask = pad_sequence(list(map(torch.ones_like, rows)), batch_first=True)
            states = model(input_ids=padded, attention_mask=mask).last_hidden_state
            mean = (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)
            parts.append((states[:, 0] if by_first else mean).float().numpy())
        return np.concatenate(parts)

    return embed, model.config.hidden_size


def _check_ids(ids: Sequence[int], folder: Path, n_ids: int) -> None:
    """Raises InputError if a tokenizer gives an id of which its model has no embedding."""
    highest = max(ids, default=0)
    if highest >= n_ids:
        found = f"its tokenizer gives the id {highest}, its model has {n_ids} embeddings"
        raise InputError(f"--embeddings {folder}: {found} (expected an embedding of each id)")


def _pools_by_first(path: Path) -> bool:
    """Returns whether 1_Pooling/config.json of sentence-transformers says CLS pooling, not the mean (the default).

    InputError for another kind of pooling.
    """
    config = read_json(path) if path.is_file() else {}
    if not isinstance(config, dict):
        raise InputError(f"{path}: expected an object, found {type(config).__name__}")
    modes = {name.removeprefix(POOLING) for name, given in config.items() if name.startswith(POOLING) and given is True}
    if modes != {CLS} and not modes <= MEANS:
        raise InputError(
            f"{path}: pooling by {', '.join(sorted(modes))} (expected {CLS}, or {' or '.join(sorted(MEANS))})"
        )
    return modes == {CLS}
