"""The --output_dir of pretrain.py and train_reward.py.

It is written atomically, kept while its settings and inputs are unchanged, and replaced only if the same program wrote
it. training_settings.json in it records the program, its settings, the contents of its inputs, and the files it wrote.
"""

import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_preprocess.command import InputError, check_name
from data_preprocess.files import disk_full_as_oserror, read_json, write_json
from data_preprocess.outputs import check_only_ours, check_place, clear_leftovers, replace_folder, temporary_folder
from data_preprocess.provenance import fingerprint
from training.saving.manifest import file_names

SETTINGS_FILE = "training_settings.json"
METRICS_FILE = "metrics.json"
PROGRAMS = ("pretrain.py", "train_reward.py")
# File names written by save_pretrained and the two programs, and temporary files (.NAME.PID.tmp).
WRITTEN = re.compile(
    r"((generation_|tokenizer_|adapter_)?config|tokenizer|special_tokens_map|added_tokens|vocab)\.json"
    r"|(metrics|training_settings|model\.safetensors\.index)\.json|(adapter_)?model(-\d+-of-\d+)?\.safetensors"
    r"|losses\.jsonl|(merges|vocab)\.txt"
    r"|chat_template\.jinja|additional_chat_templates/\w+\.jinja|(tokenizer|spiece|sentencepiece\.bpe)\.model"
    r"|\.[\w.]+\.\d+\.tmp"
)


def short_names(paths: Sequence[Path]) -> list[str]:
    """Returns the name of each file, or its path if two files have the same name."""
    names = [path.name for path in paths]
    return [name if names.count(name) == 1 else str(path) for name, path in zip(names, paths, strict=True)]


def import_no_deepspeed() -> None:
    """Keeps save_pretrained from importing DeepSpeed, which takes seconds, to see if the model is wrapped by it.

    No model is until DeepSpeed has been imported to train it.
    """
    from accelerate.utils import other

    other.is_deepspeed_available = lambda: "deepspeed" in sys.modules


class ModelFolder:
    """One --output_dir and the description of its model.

    Args:
        output_dir: as given by the flag.
        made_by: the program's file name, one of PROGRAMS.
        settings: settings that identify the model; output_dir is ignored.
        inputs: files that the model depends on.
    """

    def __init__(self, output_dir: str, made_by: str, settings: Mapping[str, Any], inputs: Sequence[Path]):
        given = Path(output_dir)
        # Links are not resolved, so that they can be refused; "." and ".." have no name of their own.
        self.path = given.parent.resolve() / given.name if given.name not in ("", "..") else given.resolve()
        self.flag = f"--output_dir {output_dir}"
        self.made_by = made_by
        self.description = {
            "settings": {name: value for name, value in settings.items() if name != "output_dir"},
            "inputs": {name: fingerprint({}, path) for name, path in zip(short_names(inputs), inputs, strict=True)},
        }

    def is_finished(self) -> bool:
        """Returns whether the folder holds the complete model of these settings and inputs."""
        saved = _saved(self.path)
        if not saved or saved.get("inputs") != self.description["inputs"]:
            return False
        same = saved.get("settings") == self.description["settings"]
        return same and all(_is_whole(self.path / name, size) for name, size in saved["files"].items())

    def check_free(self, inputs: Mapping[str, Sequence[str]]) -> None:
        """Raises InputError, before any work, unless the folder is free, empty, or this program's own output.

        Args:
            inputs: by flag, the files and folders that are read; none of them may be inside the folder that is
                replaced.
        """
        path = self.path
        places = {"the folder that you are in": [os.getcwd()], "your home": [os.path.expanduser("~")]}
        places |= {f"what --{flag} names": sources for flag, sources in inputs.items()}
        for what, sources in places.items():
            for source in map(os.path.realpath, sources):
                if os.path.exists(source) and path in (Path(source), *Path(source).parents):
                    raise InputError(f"{self.flag}: is or holds {what} (expected a separate folder)")
        check_name("output_dir", path.name)
        if path.is_symlink():
            raise InputError(f"{self.flag}: is a link (expected a folder, or a name that is free)")
        if path.exists() and not path.is_dir():
            raise InputError(f"{self.flag}: is a file (expected a folder, or a name that is free)")
        if os.path.ismount(path):
            raise InputError(f"{self.flag}: is a mount point (expected a folder in it)")
        check_place(self.flag, path)
        self._check_own()

    def clear_leftovers(self) -> None:
        """Removes half-written folders that a killed run of this program left beside the output."""
        clear_leftovers(self.path, lambda name: bool(WRITTEN.fullmatch(name)))

    def write(self, write: Callable[[Path], None]) -> None:
        """Lets `write` fill a temporary folder, adds the settings, and renames it to the output.

        An older output is replaced, unless someone has put a file into it in the meantime.
        """
        new = temporary_folder(self.path)
        new.mkdir(parents=True)
        import_no_deepspeed()
        try:
            with disk_full_as_oserror(self.path):
                write(new)
            files = {name: (new / name).stat().st_size for name in file_names(new)}
            write_json(new / SETTINGS_FILE, {"made_by": self.made_by, **self.description, "files": files}, indent=4)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        try:
            self._check_own()
        except InputError as error:
            raise InputError(f"{error}; the new model is in {new}") from None
        replace_folder(new, self.path)

    def _check_own(self) -> None:
        """Raises InputError if the folder holds anything that this program did not write."""
        saved = _saved(self.path)
        if saved.get("made_by", self.made_by) != self.made_by:
            made_by = saved["made_by"]
            raise InputError(f"{self.flag}: holds a model of {made_by} (expected another folder); nothing was deleted")
        listed = {SETTINGS_FILE, *saved["files"]} if saved else set()
        check_only_ours(self.flag, self.path, listed.__contains__)


def _saved(folder: Path) -> dict[str, Any]:
    """Returns the settings file of an output of these programs, or {} for any other folder."""
    saved = read_json(folder / SETTINGS_FILE) if (folder / SETTINGS_FILE).is_file() else None
    is_ours = isinstance(saved, dict) and saved.get("made_by") in PROGRAMS and isinstance(saved.get("files"), dict)
    return saved if is_ours else {}


def _is_whole(path: Path, size: int) -> bool:
    """Returns whether a file exists and, for weights, has its recorded size; other files may be edited."""
    return path.is_file() and (path.suffix != ".safetensors" or path.stat().st_size == size)
