"""Embeds prompts as unit vectors: by wordllama, which works offline, or by any embedding model in a folder.

wordllama's code is under the MIT licence; its vectors were made from the token embeddings of Llama 2 70B, phi-3-medium
and others, so that Llama 2's licence bears on them.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_preprocess.command import InputError
from data_preprocess.files import atomic_write
from labelling.selecting.embedding_folders import Embed, folder_identity, load_folder, unit

WORDLLAMA = "wordllama"  # the default model, from a package
REQUIREMENTS = "pip install -r labelling/requirements-select.txt"
CHUNK = 50_000  # texts embedded between two progress lines


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
    embed, dimensions = load_embedder(model)
    made_of = _origin(texts, model) if cache else {}
    if cache and cache.exists():
        return _cached(cache, made_of, model, (len(texts), dimensions))
    parts = []
    for start in range(0, len(texts), CHUNK):
        part = np.asarray(embed(texts[start : start + CHUNK]), dtype=np.float32)
        if not np.isfinite(part).all():
            raise InputError(f"--embeddings {model}: its vectors are not finite (expected a model with finite weights)")
        parts.append(unit(part))
        if len(texts) > CHUNK:
            print(f"embedded {min(start + CHUNK, len(texts)):,} of {len(texts):,} prompts", flush=True)
    vectors = np.concatenate(parts) if parts else np.zeros((0, dimensions), dtype=np.float32)
    if cache:
        with atomic_write(cache, "wb") as file:
            np.savez(file, vectors=vectors, made_of=json.dumps(made_of))
    return vectors


def _origin(texts: Sequence[str], model: str) -> dict[str, str]:
    """Returns what tells the vectors of these texts by this model from others."""
    identity = WORDLLAMA if model == WORDLLAMA else folder_identity(Path(model))
    return {"model": identity, "texts": hashlib.sha256("\0".join(texts).encode("utf-8")).hexdigest()}


def _cached(path: Path, made_of: dict[str, str], model: str, shape: tuple[int, int]) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as saved:
            vectors, known = saved["vectors"], dict(json.loads(str(saved["made_of"])))
        if not np.isfinite(vectors).all():
            raise ValueError("numbers that are not finite")
    except Exception as error:  # zipfile, numpy and json raise many kinds for a damaged file
        raise InputError(f"{path}: not a file of embeddings that can be read ({type(error).__name__})") from None
    for name, what in (("model", "by another model"), ("texts", "of other prompts")):
        if known.get(name) != made_of[name]:
            raise InputError(f"{path}: made {what} (expected {model} on these prompts; delete it or give another)")
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
    return load_folder(folder)


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
