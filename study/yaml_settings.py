"""Reads YAML into dataclasses whose fields are declared like flags; an error names file, line and key."""

import os
import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from data_preprocess.command import MAX_NAME, InputError, check_settings, study_root, type_of_one, without_none
from data_preprocess.hub import looks_like_path

UNDER_ROOT = "$STUDY_ROOT/"
WORDS = {"true": True, "yes": True, "false": False, "no": False}


class Flags(tuple[str, ...]):
    """The words of a command line, from a section whose keys are a command's flags."""


class Place(NamedTuple):
    """A mapping in a file: the prefix of its keys, like "grid.", and its node."""

    file: Path
    prefix: str
    node: yaml.Node

    def error(self, node: yaml.Node, text: str) -> InputError:
        return InputError(f"{self.file}:{node.start_mark.line + 1}: {text}")

    def within(self, key: str, node: yaml.Node) -> "Place":
        return Place(self.file, f"{self.prefix}{key}.", node)

    def entries(self) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """Returns {key: (its node, its value's node)} of the mapping; InputError if it is none, or a key is twice."""
        if not isinstance(self.node, yaml.MappingNode):
            name = self.prefix.removesuffix(".") or "a study file"
            raise self.error(self.node, f"{name}: expected keys with values, like `key: value`")
        found: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in self.node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "a key"
            if name in found:
                raise self.error(key, f"{self.prefix}{name}: given twice")
            found[name] = key, value
        return found


def read_yaml(path: Path) -> Place:
    """Returns the file's outermost mapping. Raises InputError, naming file and line, if it is not YAML."""
    try:
        node = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except yaml.MarkedYAMLError as error:
        line = (error.problem_mark or error.context_mark).line + 1
        raise InputError(f"{path}:{line}: not valid YAML ({error.problem})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a character beyond Unicode, endless digits, depth
        raise InputError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if node is None:
        raise InputError(f"{path}: is empty (expected a study: study/README.md)")
    return Place(path, "", node)


def settings_from(kind: type, place: Place) -> Any:
    """Returns a dataclass from a mapping with the names of its fields as keys.

    A field that is a dataclass takes a mapping. A `Flags` field takes the flags of the command whose configuration is
    in its metadata: "flags_of" (a dataclass), "given" (fields that the study sets itself, with a value for the check).

    Raises:
        InputError: "file:line: key: what is wrong" for an unknown, repeated or missing key, or a value that the field
            or the dataclass as a whole rejects.
    """
    known = {each.name: each for each in fields(kind)}
    values, entries = {}, place.entries()
    for key, (key_node, node) in entries.items():
        if key not in known:
            raise place.error(key_node, f"{place.prefix}{key}: unknown (expected one of {', '.join(known)})")
        values[key] = _value(known[key], node, place.within(key, node))
    return _checked(kind, values, place, entries)


def _checked(kind: type, values: Mapping[str, Any], place: Place, entries: Mapping[str, tuple]) -> Any:
    """Returns kind(**values), with the flag in an InputError's message replaced by file, line and key."""
    for each in fields(kind):
        if each.name not in values and each.default is MISSING and each.default_factory is MISSING:
            raise place.error(place.node, f"{place.prefix}{each.name}: missing ({each.metadata['help']})")
    try:
        made = kind(**values)
        if all("check" in each.metadata for each in fields(kind)):
            check_settings(made)
        return made
    except InputError as error:
        named = re.search(r"--(\w+)", str(error))
        key_node = entries[named[1]][0] if named and named[1] in entries else place.node
        message = re.sub(r"--(?=\w+(?![\w=]))", place.prefix, str(error))  # not a flag of another program, --x=1
        raise place.error(key_node, message) from None


def _value(each: Field, node: yaml.Node, place: Place, is_source: bool = False) -> Any:
    """Returns the value of a field: nested settings, flags, a tuple, or a scalar."""
    plain = without_none(each.type)
    if is_dataclass(plain):
        return settings_from(plain, place)
    if plain is Flags:
        return flags_from(each.metadata["flags_of"], each.metadata["given"], place, each.metadata["sources"])
    if getattr(plain, "__origin__", None) in (list, tuple):
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        return tuple(_scalar(each, one, place, is_source) for one in nodes)
    return _scalar(each, node, place, is_source or each.metadata.get("is_source", False))


def _scalar(each: Field, node: yaml.Node, place: Place, is_source: bool) -> Any:
    """Returns one value, converted like a flag's. Its text is the file's, so that 2e-5 is a number here too."""
    kind, key = type_of_one(each), place.prefix.removesuffix(".")
    if not isinstance(node, yaml.ScalarNode) or node.tag == "tag:yaml.org,2002:null":
        raise place.error(node, f"{key}: expected {_meant(kind)}")
    if kind is bool:
        if node.value.lower() not in WORDS:
            raise place.error(node, f"{key} {node.value!r:.60}: expected {_meant(kind)}")
        return WORDS[node.value.lower()]
    if kind is str:
        _check_characters(each, node, place)
    text = node.value if each.metadata.get("lines") else node.value.strip("\n")  # a block of one line ends in one
    try:
        value = kind(text)
    except ValueError:
        raise place.error(node, f"{key} {node.value!r:.60}: expected {_meant(kind)}") from None
    choices = (each.metadata.get("argument") or {}).get("choices")
    if choices and value not in choices:
        raise place.error(node, f"{key} {node.value!r:.60}: expected one of {', '.join(map(str, choices))}")
    return _found(value, node, place) if is_source else value


def _check_characters(each: Field, node: yaml.Node, place: Place) -> None:
    """Raises InputError for text that no path or line can hold; a `lines` field may have several lines."""
    allowed = "\n\t" if each.metadata.get("lines") else ""
    for char in node.value.strip("\n"):
        if unicodedata.category(char) in ("Cc", "Cs") and char not in allowed:
            raise place.error(
                node,
                f"{place.prefix.removesuffix('.')} {ascii(node.value):.60}: holds the character {ascii(char)} "
                f"(expected {'lines' if allowed else 'one line'} of text)",
            )


def _found(name: str, node: yaml.Node, place: Place) -> str:
    """Returns a path as an absolute one, from the study file's folder, and a hub name unchanged.

    What is under $STUDY_ROOT may be made later (`LaunchedStudy.check_made`), so that a built-in study can name it.
    """
    if name.startswith(UNDER_ROOT):
        return str(study_root() / name.removeprefix(UNDER_ROOT))
    path = place.file.parent / os.path.expanduser(name)
    if os.path.exists(path):
        return str(path.resolve())
    if looks_like_path(name) or len(os.fsencode(name)) > MAX_NAME:
        key = place.prefix.removesuffix(".")
        raise place.error(node, f"{key} {name}: no such file or folder beside the study file")
    return name


def _meant(kind: type) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "a text")


def flags_from(kind: type, given: Mapping[str, Any], place: Place, sources: Collection[str] = ()) -> Flags:
    """Returns the command-line flags that a section stands for, checked as the command would check them.

    Args:
        kind: the command's configuration.
        given: values of the fields that the study sets itself, which the section may not have.
        place: the section.
        sources: the flags whose values are paths or hub names.
    """
    known = {each.name: each for each in fields(kind)}
    values, words, entries = {}, [], place.entries()
    for key, (key_node, node) in entries.items():
        if key in given:
            raise place.error(key_node, f"{place.prefix}{key}: set by the study itself (expected no such key)")
        if key not in known:
            raise place.error(key_node, f"{place.prefix}{key}: unknown (expected a flag of this command)")
        is_source = key in sources
        values[key] = _value(known[key], node, place.within(key, node), is_source)
        words += _words(key, values[key], node, is_source)
    _checked(kind, {**given, **values}, place, entries)
    return Flags(words)


def _words(key: str, value: Any, node: yaml.Node, is_source: bool) -> list[str]:
    """Returns the words of one flag; numbers keep the text that the file has."""
    if isinstance(value, bool):
        return [f"--{key}" if value else f"--no_{key}"]
    if is_source:
        return [f"--{key}", *([value] if isinstance(value, str) else value)]
    nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
    return [f"--{key}", *(one.value.strip("\n") for one in nodes)]
