"""Manifests: checksums by which a folder is checked for damage.

    FOLDER/manifest.json    {"checksum": "xxh3_128", "files": {name: [bytes, checksum in hex]}}

A checksum is computed right after its file was written, while the file is in the page cache: 5 GB/s per process
including reading, where sha256 reaches 1.5. A state of 18 GB takes four seconds, and one of 100 GB under ZeRO less,
since the processes share its files; syncing to disk takes far longer. The check before loading a state reads it from
disk into the page cache, from which it is then loaded.
"""

import hashlib
import json
from pathlib import Path

import xxhash

from data_preprocess.files import sync, write_json

MANIFEST = "manifest.json"
CHECKSUM = "xxh3_128"

Entry = tuple[str, list]  # file name relative to the folder, [bytes, checksum]


def file_names(folder: Path) -> list[str]:
    """Returns the names of all files in a folder, recursively."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def synced_entry(folder: Path, name: str) -> Entry:
    """Syncs a file to disk and returns its manifest entry."""
    sync(folder / name)
    return name, [(folder / name).stat().st_size, checksum(folder / name)]


def write_manifest(folder: Path, entries: list[Entry]) -> None:
    """Writes the manifest and syncs the directories."""
    write_json(folder / MANIFEST, {"checksum": CHECKSUM, "files": dict(sorted(entries))}, indent=1)
    for inner in [*(path for path in folder.rglob("*") if path.is_dir()), folder]:
        sync(inner)


def checksum(path: Path) -> str:
    """Returns the xxh3_128 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def folder_checksum(path: str | Path) -> str:
    """Returns a checksum of a model's weights and configuration; a hub name is its own."""
    if not Path(path).is_dir():
        return str(path)
    digest = xxhash.xxh3_128()
    for file in sorted(Path(path).iterdir()):
        if file.suffix in (".safetensors", ".bin") or file.name == "config.json":
            digest.update(f"{file.name} {checksum(file)}\n".encode())
    return digest.hexdigest()


def damage(folder: Path, share: int = 0, n_shares: int = 1) -> str | None:
    """Describes what is wrong with a folder, starting with the file's path; None if it is intact.

    A folder without a manifest (earlier versions wrote none) is only checked for being empty.

    Args:
        folder: a state or weights folder.
        share, n_shares: check only this part of the files, out of so many parts.
    """
    if not folder.is_dir():
        return f"{folder}: is missing"
    manifest = folder / MANIFEST
    try:
        if not manifest.exists():
            return None if file_names(folder) else f"{folder}: is empty"
        entries = _entries(manifest)
        if entries is None:
            return f"{manifest}: is damaged"
        found = [_difference(folder / name, *entries[name]) for name in sorted(entries)[share::n_shares]]
        return next(filter(None, found), None)
    except OSError as error:
        return f"{error.filename or folder}: {error.strerror}"


def _entries(manifest: Path) -> dict[str, list] | None:
    try:
        content = json.loads(manifest.read_bytes())
        entries = content["files"]
        well_formed = all(type(size) is int and isinstance(digest, str) for size, digest in entries.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return entries if entries and well_formed and content.get("checksum") == CHECKSUM else None


def _difference(path: Path, size: int, digest: str) -> str | None:
    if not path.is_file():
        return f"{path}: is missing"
    found = path.stat().st_size
    if found != size:
        return f"{path}: {found} bytes (expected {size})"
    return None if checksum(path) == digest else f"{path}: its checksum is not the one in {MANIFEST}"
