"""Converts the .bin weights of a model's folder, or a model in a .gguf file, to safetensors.

    python convert_weights.py FOLDER [FOLDER ...]
    python convert_weights.py MODEL.gguf --output FOLDER [--tokenizer PATH_OR_NAME]

Each pytorch_model*.bin is read by torch.load(weights_only=True), which runs no code that a pickle may contain, one at a
time, and written beside it as model*.safetensors with the same names and bit for bit the same values. Loaders then use
the new files; the .bin files are kept and can be deleted. A file that holds anything but tensors is refused, and a
failure or a kill leaves the folder as usable as before. Published reward models and older checkpoints come as .bin.

A .gguf file becomes a new folder with the weights in float32, the configuration, and the tokenizer with its chat
template. Weights of 4 or 8 bits keep the values that these stand for, which are not those from before quantisation.

This command is here because every model of this project, whichever folder's command loads it, is loaded through
eval_hh.
"""

import argparse
import filecmp
import re
import sys
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_preprocess.command import InputError, OneLineParser, check_flags, check_text, lack_of_memory, run
from data_preprocess.files import disk_full_as_oserror, read_json, write_json
from data_preprocess.hub import describe

if TYPE_CHECKING:
    import torch

INDEX = "pytorch_model.bin.index.json"
SHARD = re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin")


def main(argv: list[str] | None = None) -> None:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folders", nargs="+", metavar="FOLDER", help="a model's folder with pytorch_model*.bin, or a .gguf file"
    )
    parser.add_argument("--output", metavar="FOLDER", help="new folder for the model of a .gguf file")
    parser.add_argument(
        "--tokenizer", metavar="PATH_OR_NAME", help="tokenizer to save with it (default: that of the .gguf file)"
    )
    args = parser.parse_args(argv)
    checks = dict.fromkeys(("FOLDER", "output", "tokenizer"), check_text)
    check_flags({"FOLDER": args.folders, "output": args.output, "tokenizer": args.tokenizer}, checks)
    is_gguf = [folder.lower().endswith(".gguf") for folder in args.folders]
    if not (any(is_gguf) or args.output or args.tokenizer):
        for folder in map(Path, args.folders):
            print(convert(folder))
    elif is_gguf == [True] and args.output:
        from eval_hh.inference.gguf_model import convert_gguf

        print(convert_gguf(Path(args.folders[0]), Path(args.output), args.tokenizer))
    else:
        raise InputError("--output and --tokenizer: for one .gguf file (expected FILE.gguf --output FOLDER)")


def convert(folder: Path) -> str:
    """Converts one folder; returns a line on what was done.

    Raises:
        InputError: no .bin weights, an index that does not match them, or a file that is not a plain dict of tensors.
    """
    if any((folder / _new_name(name)).exists() for name in ("pytorch_model.bin", INDEX)):
        return f"{folder}: has safetensors already"
    index = read_json(folder / INDEX) if (folder / INDEX).exists() else None
    names = _bin_files(folder, index)
    weight_map, total = {}, 0
    temporary = {name: folder / f".{_new_name(name)}.tmp" for name in names}
    try:
        for name in names:
            tensors = load_bin(folder / name)
            _save(tensors, temporary[name], folder / name)
            weight_map |= dict.fromkeys(tensors, _new_name(name))
            total += sum(tensor.nbytes for tensor in tensors.values())
        if index and set(index["weight_map"]) - set(weight_map):
            missing = sorted(set(index["weight_map"]) - set(weight_map))
            raise InputError(f"{folder / INDEX}: names {missing[0]}, which no file holds")
        for name in names:
            _take_name(temporary[name], folder / _new_name(name))
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)
    if index:  # last: without it no loader reads the shards
        write_json(folder / _new_name(INDEX), {"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2)
    return f"{folder}: {len(weight_map)} tensors, {total / 1e6:.1f} MB in {len(names)} file(s) of safetensors"


def _take_name(temporary: Path, path: Path) -> None:
    """Gives a file its name; InputError if other weights have it (a killed conversion leaves identical ones)."""
    if path.exists() and not filecmp.cmp(temporary, path, shallow=False):
        raise InputError(f"{path}: exists with different weights (delete it to convert again)")
    temporary.replace(path)


def load_bin(path: Path) -> "dict[str, torch.Tensor]":
    """Returns the tensors of a .bin by name, on the CPU.

    Raises:
        InputError: it is not a checkpoint, or holds more than tensors: code, or a nested training state.
    """
    import torch

    try:
        # Only zip files can be memory-mapped; files from before torch 1.6 are read whole.
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except UnpicklingError as error:
        raise InputError(
            f"{path}: holds something other than tensors, which could run code, or is not a checkpoint; it was not "
            "read (expected the plain weights that save_pretrained wrote)"
        ) from error
    except OSError:
        raise
    except Exception as error:  # arbitrary bytes can make the reader raise any
        reason = str(error).splitlines()[0] if str(error) else "it is empty"
        raise InputError(f"{path}: not a complete checkpoint ({reason})") from error
    if not isinstance(tensors, dict) or not tensors:
        raise InputError(f"{path}: holds a {type(tensors).__name__} (expected tensors by name)")
    for name, value in tensors.items():
        if name == "__metadata__":
            raise InputError(f"{path}: has a tensor named {name}, which safetensors keeps for itself")
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise InputError(f"{path}: {name!r} is a {type(value).__name__} (expected tensors by name, nothing else)")
    return tensors


def _save(tensors: "dict[str, torch.Tensor]", path: Path, source: Path) -> None:
    """Writes tensors; InputError, naming their source, for what safetensors cannot store, as sparse ones."""
    from safetensors.torch import save_file

    # Tied weights share memory, which safetensors cannot store: each name gets its own copy, and models tie them again
    # on loading.
    try:
        apart = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
        with disk_full_as_oserror(path):
            save_file(apart, path, metadata={"format": "pt"})
    except OSError:
        raise
    except Exception as error:  # of many kinds
        if lack_of_memory(error):
            raise
        raise InputError(f"{source}: holds what safetensors cannot store ({describe(error)})") from error


def _bin_files(folder: Path, index: dict | None) -> list[str]:
    """Returns the names of the files that hold the weights."""
    if index is None:
        names = ["pytorch_model.bin"]
    elif isinstance(index, dict) and isinstance(index.get("weight_map"), dict) and index["weight_map"]:
        names = sorted(set(map(str, index["weight_map"].values())))
    else:
        raise InputError(f"{folder / INDEX}: has no weight_map")
    for name in names:
        if not SHARD.fullmatch(name):
            raise InputError(f"{folder / INDEX}: names {name!r} (expected pytorch_model-00001-of-00002.bin and so on)")
        if not (folder / name).is_file():
            raise InputError(f"{folder / name}: no such file (expected a folder with .bin weights)")
    return names


def _new_name(name: str) -> str:
    return name.replace("pytorch_model", "model").replace(".bin", ".safetensors")


if __name__ == "__main__":
    run(main)
