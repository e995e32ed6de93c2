"""Embeds prompts as unit vectors: by wordllama, which works offline, or by any embedding model in a folder.

wordllama's code is under the MIT licence; its vectors were made from the token embeddings of Llama 2 70B, phi-3-medium
and others, so that Llama 2's licence bears on them.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_preprocess.command import InputError
from data_preprocess.files import atomic_write
from labelling.selecting.embedding_folders import REQUIREMENTS, Embed, folder_identity, load_folder, unit

WORDLLAMA = "wordllama"  # the default model, from a package

CHUNK = 50_000  # texts embedded between two progress lines
KEY = 16  # bytes of a text's sha256, by which a file of vectors knows it


def embedded(texts: Sequence[str], model: str, cache: Path | None = None) -> np.ndarray:
    """Returns one unit vector per text: [N, dimensions] float32; zero for a text without a known token.

    Args:
        texts: N texts.
        model: WORDLLAMA, or the folder of a model.
        cache: .npz file of vectors by text. Those that it has are read, and the others are added to it, so that the
            same pool without what was labelled, or with further prompts, is not embedded again.

    Raises:
        InputError: a model that is not there or cannot be read, or whose vectors are not finite, or a cache of another
            model.
    """
    embed, dimensions = load_embedder(model)
    if cache is None:
        return _embed(texts, embed, model, dimensions)
    identity = WORDLLAMA if model == WORDLLAMA else folder_identity(Path(model))
    keys, vectors = _cached(cache, identity, model, dimensions) if cache.exists() else ([], _none(dimensions))
    place = {key: index for index, key in enumerate(keys)}
    wanted = [hashlib.sha256(text.encode("utf-8")).digest()[:KEY] for text in texts]
    new = {key: text for key, text in zip(wanted, texts, strict=True) if key not in place}
    if new or not cache.exists():
        vectors = np.concatenate([vectors, _embed(list(new.values()), embed, model, dimensions)])
        place |= {key: len(place) + index for index, key in enumerate(new)}
        with atomic_write(cache, "wb") as file:
            keys = np.frombuffer(b"".join(place), dtype=np.uint8).reshape(-1, KEY)
            np.savez(file, vectors=vectors, keys=keys, model=identity)
    return vectors[[place[key] for key in wanted]]


def _none(dimensions: int) -> np.ndarray:
    return np.zeros((0, dimensions), dtype=np.float32)


def _embed(texts: Sequence[str], embed: Embed, model: str, dimensions: int) -> np.ndarray:
    parts = [_none(dimensions)]
    for start in range(0, len(texts), CHUNK):
        part = np.asarray(embed(texts[start : start + CHUNK]), dtype=np.float32)
        if not np.isfinite(part).all():
            raise InputError(f"--embeddings {model}: its vectors are not finite (expected a model with finite weights)")
        parts.append(unit(part))
        if len(texts) > CHUNK:
            print(f"embedded {min(start + CHUNK, len(texts)):,} of {len(texts):,} prompts", flush=True)
    return np.concatenate(parts)


def _cached(path: Path, identity: str, model: str, dimensions: int) -> tuple[list[bytes], np.ndarray]:
    """Returns (keys of texts, their vectors) of a file that `embedded` wrote by this model."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            vectors, keys, made_by = saved["vectors"], saved["keys"], str(saved["model"])
        if not np.isfinite(vectors).all() or keys.shape != (len(vectors), KEY) or keys.dtype != np.uint8:
            raise ValueError("numbers that are not finite, or not a key for each vector")
    except Exception as error:  # zipfile and numpy raise many kinds for a damaged file
        why = f"{type(error).__name__}; a file of an earlier version has no keys: delete it or give another"
        raise InputError(f"{path}: not a file of embeddings that can be read ({why})") from None
    if made_by != identity:
        raise InputError(f"{path}: made by another model (expected {model}; delete it or give another)")
    if vectors.shape[1:] != (dimensions,):
        found = " x ".join(map(str, vectors.shape))
        raise InputError(f"{path}: holds {found} numbers (expected {dimensions} columns; delete it or give another)")
    return list(map(bytes, keys)), vectors


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
