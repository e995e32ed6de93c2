"""Reads an embedding model in a folder: one of sentence-transformers, or a table of token vectors (model2vec)."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from data_preprocess.command import InputError
from data_preprocess.files import read_json
from data_preprocess.hub import load_or_refuse
from data_preprocess.provenance import fingerprint

MODULES = "modules.json"  # sentence-transformers' list of what a text goes through
# Its modules that are read, by the end of their type. Others are refused: before version 6 the library ran code that a
# folder brings, and it still does for a whole model among the modules whose own file says so.
OWN_CODE = "sentence_transformers."
TORCH = "torch."  # of functions that a Dense module may use
KINDS = ("Transformer", "Pooling", "StaticEmbedding", "Dense", "Normalize", "LayerNorm", "Dropout")
MODEL2VEC_TABLE = "embeddings"  # its name for the token vectors
OWN_FILES = (".json", ".safetensors", ".bin", ".txt", ".model")  # of a model, in which its vectors have their origin
REQUIREMENTS = "pip install -r labelling/requirements-select.txt"

Embed = Callable[[Sequence[str]], np.ndarray]  # texts -> [N, dimensions]


def load_folder(folder: Path) -> tuple[Embed, int]:
    """Returns (function that embeds texts, dimensions) of a folder; InputError for one that cannot be read."""
    is_table = not (folder / MODULES).is_file() and not _has_layers(folder)
    return _static(folder) if is_table else _sentence_transformer(folder)


def folder_identity(folder: Path) -> str:
    """Returns a fingerprint of a model's files, by which vectors of one that was trained further are told apart."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in OWN_FILES and path.is_file())
    return fingerprint({"files": [path.relative_to(folder).as_posix() for path in paths]}, *paths)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Returns vectors of length one; zero stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)


def _has_layers(folder: Path) -> bool:
    """Returns whether a folder's config.json is of a transformer; model2vec's is not."""
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    return isinstance(config, dict) and config.get("model_type") not in (None, "model2vec")


def _sentence_transformer(folder: Path) -> tuple[Embed, int]:
    """A model of sentence-transformers, or a transformer, which gets the mean over a text's tokens."""
    _check_modules(folder)
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        what = f"--embeddings {folder} needs sentence-transformers, which is not installed"
        raise InputError(f"{what} ({REQUIREMENTS})") from None
    model = load_or_refuse(
        lambda: SentenceTransformer(str(folder), device="cpu", local_files_only=True).eval(),
        f"--embeddings {folder}: cannot be loaded",
    )
    tokenizer = getattr(model, "tokenizer", None)
    if getattr(tokenizer, "padding_side", None):
        tokenizer.padding_side = "right"  # on the left it would shift the positions of a text's own tokens
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token  # any, for padding is masked

    def embed(texts: Sequence[str]) -> np.ndarray:
        return load_or_refuse(
            lambda: model.encode(list(texts), show_progress_bar=False), f"--embeddings {folder}: fails on a text"
        )

    return embed, embed(["a"]).shape[1]


def _check_modules(folder: Path) -> None:
    """Raises InputError for a list without modules, or with one that is none of KINDS."""
    path = folder / MODULES
    if not path.is_file():
        return
    listed = read_json(path)
    modules = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    kinds = [str(one.get("type")) for one in modules]
    others = [kind for kind in kinds if not kind.startswith(OWN_CODE) or kind.rpartition(".")[2] not in KINDS]
    if others or not kinds:
        found = f"modules are {', '.join(others) or 'none'}"
        raise InputError(f"{path}: {found} (expected sentence-transformers' {', '.join(KINDS)})")
    for kind, one in zip(kinds, modules, strict=True):
        if kind.endswith("Dense"):
            _check_activation(folder / str(one.get("path")) / "config.json")


def _check_activation(path: Path) -> None:
    """Raises InputError for a Dense module with a function of others; the library would warn and take another."""
    config = read_json(path) if path.is_file() else {}
    used = config.get("activation_function", TORCH) if isinstance(config, dict) else None
    if not str(used).startswith(TORCH):
        raise InputError(f"{path}: activation_function {used} (expected one of torch)")


def _static(folder: Path) -> tuple[Embed, int]:
    """The mean of the vectors of a text's tokens. model2vec leaves out tokens that it does not know."""
    from tokenizers import Tokenizer

    for name in ("tokenizer.json", "model.safetensors"):
        if not (folder / name).is_file():
            expected = "an embedding model: a transformer, or tokenizer.json and model.safetensors"
            raise InputError(f"--embeddings {folder}: holds no {name} (expected {expected})")
    tokenizer = load_or_refuse(lambda: Tokenizer.from_file(str(folder / "tokenizer.json")), f"{folder}/tokenizer.json")
    tokenizer.no_padding()  # a padded text's mean would depend on the texts beside it
    tokenizer.no_truncation()
    table, by_model2vec = _token_vectors(folder / "model.safetensors", tokenizer.get_vocab_size())
    unknown = getattr(tokenizer.model, "unk_token", None) if by_model2vec else None
    left_out = tokenizer.token_to_id(unknown) if unknown else None

    def embed(texts: Sequence[str]) -> np.ndarray:
        found = np.zeros((len(texts), table.shape[1]), dtype=np.float32)
        for row, encoded in enumerate(tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)):
            ids = [one for one in encoded.ids if one != left_out]
            if max(ids, default=0) >= len(table):
                problem = f"its tokenizer gives the id {max(ids)}, its model has {len(table)} embeddings"
                raise InputError(f"--embeddings {folder}: {problem} (expected an embedding of each id)")
            if ids:
                found[row] = table[ids].mean(axis=0)
        return found

    return embed, table.shape[1]


def _token_vectors(path: Path, n_tokens: int) -> tuple[np.ndarray, bool]:
    """Returns (a vector for each token, whether model2vec wrote them).

    model2vec may keep one vector for several tokens (`mapping`), and a weight for each token (`weights`).
    """
    from safetensors.numpy import load_file

    tables = load_or_refuse(lambda: load_file(path), str(path))
    mapping, weights = tables.pop("mapping", None), tables.pop("weights", None)
    try:
        [(name, table)] = tables.items()
        table = table if mapping is None else table[mapping]
        table = table.astype(np.float32) * (1 if weights is None else weights[:, None].astype(np.float32))
    except (ValueError, IndexError):
        table = np.zeros(0)
    if table.ndim != 2 or len(table) < n_tokens:
        raise InputError(f"{path}: expected one table with a vector for each token of tokenizer.json")
    return table, name == MODEL2VEC_TABLE
