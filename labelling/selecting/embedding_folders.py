"""Reads an embedding model in a folder: a transformer, static embeddings, or either as sentence-transformers saves it.

modules.json of sentence-transformers lists what a text goes through: a Transformer and its Pooling, or StaticEmbedding,
and then Dense and Normalize. What is not read here is refused by name: without it the vectors would be others. A folder
without modules.json is a transformer with mean pooling (or that of 1_Pooling), or a table of token vectors as model2vec
writes it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_preprocess.command import InputError
from data_preprocess.files import read_json
from data_preprocess.hub import load_or_refuse, load_tokenizer, source_options
from data_preprocess.provenance import fingerprint

if TYPE_CHECKING:
    import torch

BATCH = 64  # texts per forward pass of a transformer
MAX_TOKENS = 512  # of a text that a transformer reads, at most
TRANSFORMER, POOLING, STATIC = "Transformer", "Pooling", "StaticEmbedding"  # modules, by the end of their type
DENSE, NORMALIZE, DROPOUT = "Dense", "Normalize", "Dropout"
READ = f"{TRANSFORMER} and {POOLING}, or {STATIC}; then any of {DENSE}, {NORMALIZE} and {DROPOUT}"
OLD_MODE = "pooling_mode_"  # before a mode in older files: {"pooling_mode_cls_token": true, ...}
MODEL2VEC_TABLE = "embeddings"  # its name for the token vectors
OWN_FILES = (".json", ".safetensors", ".bin", ".txt", ".model")  # of a model, in which its vectors have their origin

Embed = Callable[[Sequence[str]], np.ndarray]  # texts -> [N, dimensions]
Module = tuple[str, Path]  # kind, folder


def load_folder(folder: Path) -> tuple[Embed, int]:
    """Returns (function that embeds texts, dimensions) of a folder; InputError for one that cannot be read."""
    (kind, place), *rest = _modules(folder)
    if kind == STATIC:
        embed, dimensions = _static(place)
    else:
        embed, dimensions = _transformer(place, _pooling(rest.pop(0)[1] / "config.json"))
    steps = []
    for kind, place in rest:
        if kind == DENSE:
            step, dimensions = _dense(place, dimensions)
            steps.append(step)
        elif kind == NORMALIZE:
            steps.append(unit)
    prompt = _default_prompt(folder)

    def embed_all(texts: Sequence[str]) -> np.ndarray:
        vectors = embed([prompt + text for text in texts])
        for step in steps:
            vectors = step(vectors)
        return vectors

    return embed_all, dimensions


def folder_identity(folder: Path) -> str:
    """Returns a fingerprint of a model's files, by which vectors of one that was trained further are told apart."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in OWN_FILES and path.is_file())
    return fingerprint({"files": [path.relative_to(folder).as_posix() for path in paths]}, *paths)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Returns vectors of length one; zero stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)


def _modules(folder: Path) -> list[Module]:
    """Returns the modules of modules.json or, without one, those that the folder itself is."""
    path = folder / "modules.json"
    if not path.is_file():
        is_transformer = (folder / "config.json").is_file() and _has_layers(folder)
        return [(TRANSFORMER, folder), (POOLING, folder / "1_Pooling")] if is_transformer else [(STATIC, folder)]
    listed = read_json(path)
    given = [
        (str(item.get("type")).rpartition(".")[2], folder / str(item.get("path", "")))
        for item in (listed if isinstance(listed, list) else [])
        if isinstance(item, dict)
    ]
    kinds = [kind for kind, _ in given]
    start = 1 if kinds[:1] == [STATIC] else 2 if kinds[:2] == [TRANSFORMER, POOLING] else 0
    if not start or not set(kinds[start:]) <= {DENSE, NORMALIZE, DROPOUT}:
        raise InputError(f"{path}: modules are {', '.join(kinds) or 'none'} (expected {READ})")
    return given


def _has_layers(folder: Path) -> bool:
    """Returns whether a folder's config.json is of a transformer; model2vec's is not."""
    config = read_json(folder / "config.json")
    return isinstance(config, dict) and config.get("model_type") not in (None, "model2vec")


def _settings(path: Path) -> dict[str, Any]:
    """Returns the object in a file, an empty one without the file; InputError if it holds something else."""
    found = read_json(path) if path.is_file() else {}
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected an object, found {type(found).__name__}")
    return found


def _default_prompt(folder: Path) -> str:
    """Returns the text that a model wants before each text; InputError for a name without a text."""
    path = folder / "config_sentence_transformers.json"
    config = _settings(path)
    name, prompts = config.get("default_prompt_name"), config.get("prompts")
    prompt = "" if name is None else prompts.get(name) if isinstance(prompts, dict) else None
    if not isinstance(prompt, str):
        raise InputError(f"{path}: default_prompt_name is {name!r:.40} (expected a name among prompts)")
    return prompt


# --- static embeddings


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
            _check_ids(ids, folder, len(table))
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


# --- transformers


def _transformer(folder: Path, pooling: str) -> tuple[Embed, int]:
    import torch
    from torch.nn.utils.rnn import pad_sequence
    from transformers import AutoModel

    tokenizer = load_tokenizer(folder)
    options = source_options(folder)
    model = load_or_refuse(
        lambda: AutoModel.from_pretrained(str(folder), **options), f"{folder}: cannot be loaded"
    ).eval()
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    n_ids, own = len(model.get_input_embeddings().weight), _settings(folder / "sentence_bert_config.json")
    limits = (
        own.get("max_seq_length"),
        tokenizer.model_max_length,
        getattr(model.config, "max_position_embeddings", 0),
    )
    longest = min(MAX_TOKENS, *(limit for limit in limits if isinstance(limit, int) and limit > 0))

    @torch.inference_mode()
    def embed(texts: Sequence[str]) -> np.ndarray:
        parts = []
        for start in range(0, len(texts), BATCH):
            batch = [text.lower() if own.get("do_lower_case") else text for text in texts[start : start + BATCH]]
            ids = tokenizer(batch, truncation=True, max_length=longest)["input_ids"]
            _check_ids([one for row in ids for one in row], folder, n_ids)
            rows = [torch.tensor(one, dtype=torch.long) for one in ids]
            # Padding is masked, so any id will do; on the left it would shift the positions of a text's own tokens.
            padded = pad_sequence(rows, batch_first=True)
            mask = pad_sequence(list(map(torch.ones_like, rows)), batch_first=True)
            states = model(input_ids=padded, attention_mask=mask).last_hidden_state.float()
            parts.append(POOLS[pooling](states, mask).numpy())
        return np.concatenate(parts)

    return embed, model.config.hidden_size


def _check_ids(ids: Sequence[int], folder: Path, n_ids: int) -> None:
    """Raises InputError if a tokenizer gives an id of which its model has no embedding."""
    highest = max(ids, default=0)
    if highest >= n_ids:
        found = f"its tokenizer gives the id {highest}, its model has {n_ids} embeddings"
        raise InputError(f"--embeddings {folder}: {found} (expected an embedding of each id)")


def _first(states: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
    return states[:, 0]


def _mean(states: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
    return (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)


def _last(states: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
    return states[range(len(states)), (mask.sum(dim=1) - 1).clamp(min=0)]


# (states [texts, tokens, dimensions], mask [texts, tokens]) -> [texts, dimensions]. The means differ in length only.
POOLS = {"cls": _first, "mean": _mean, "mean_sqrt_len": _mean, "lasttoken": _last}


def _pooling(path: Path) -> str:
    """Returns the one of POOLS in a Pooling module's config.json (default: the mean); InputError for another.

    Newer versions write {"pooling_mode": "cls"}, older ones {"pooling_mode_cls_token": true, ...}.
    """
    config = _settings(path)
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [name.removeprefix(OLD_MODE) for name in config if name.startswith(OLD_MODE) and config[name] is True]
    given = list(map(str, modes if isinstance(modes, list) else [modes])) or ["mean"]
    named = [mode.removesuffix("_tokens").removesuffix("_token") for mode in given]
    if len(named) > 1 or named[0] not in POOLS:
        raise InputError(f"{path}: pooling by {', '.join(named)} (expected one of {', '.join(POOLS)})")
    if config.get("include_prompt") is False and _default_prompt(path.parents[1]):
        raise InputError(f"{path}: include_prompt is false (expected a model whose prompt is pooled too, or none)")
    return named[0]


# --- what comes after


def _dense(folder: Path, dimensions: int) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """A linear layer and its activation: [N, dimensions] -> [N, out_features]."""
    import torch

    path, names = folder / "config.json", ("sentence_embedding", None)
    config = _settings(path)
    used = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    activations = {kind.__name__: kind for kind in (torch.nn.Identity, torch.nn.Tanh, torch.nn.ReLU, torch.nn.GELU)}
    if used not in activations or config.get("module_input_name") not in names:
        found = f"activation_function {used}, module_input_name {config.get('module_input_name')}"
        raise InputError(f"{path}: {found} (expected {', '.join(activations)} of the {names[0]})")
    weights = load_or_refuse(lambda: _weights(folder), f"{folder}: its weights cannot be read")
    weight, bias = weights.get("linear.weight"), weights.get("linear.bias")
    if weight is None or weight.ndim != 2 or weight.shape[1] != dimensions:
        found = "no linear.weight" if weight is None else f"linear.weight of {list(weight.shape)}"
        raise InputError(f"{folder}: {found} (expected [..., {dimensions}])")

    weight, bias = weight.float(), None if bias is None else bias.float()

    def step(vectors: np.ndarray) -> np.ndarray:
        return activations[used]()(torch.nn.functional.linear(torch.from_numpy(vectors), weight, bias)).numpy()

    return step, len(weight)


def _weights(folder: Path) -> dict[str, "torch.Tensor"]:
    import torch
    from safetensors.torch import load_file

    if (folder / "model.safetensors").is_file():
        return load_file(folder / "model.safetensors")
    return torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
