"""The repository's own rules: imports go one way, importing does nothing, `--help` is quick."""

import ast
import pkgutil
import subprocess
import sys
import time
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
# A file may import those of the folders before its own, and of its own folder: what lies beside it, and its rooms. A
# file in a room, those of the room, of the rooms before it, and what lies beside the rooms.
ORDER = {
    "data_preprocess": ("ngrams", "preparing", "toy_world"),
    "eval_hh": ("inference", "analysis", "judging", "reporting"),
    "training": ("tracking", "saving", "reward"),
    "pics": (),
    "labelling": ("selecting", "planning"),
    "study": ("running", "page", "toy"),
    "benchmarks": (),
}
FOLDERS = [REPOSITORY / folder / room for folder, rooms in ORDER.items() for room in ("", *rooms)]
FILES = [path for folder in FOLDERS for path in sorted(folder.glob("*.py"))]
ON_PATH = "sys.path.insert(0, str(Path(__file__).resolve().parents[1]))"


def place(path):
    """(Of its folder in ORDER, of its room among the folder's; -1 outside of any room)."""
    folder, *rooms = path.parent.relative_to(REPOSITORY).parts
    return list(ORDER).index(folder), ORDER[folder].index(rooms[0]) if rooms else -1


def may_import(path, target):
    (folder, room), (target_folder, target_room) = place(path), place(target)
    return target_folder < folder or target_folder == folder and (room == -1 or target_room <= room)


def is_entry(path):
    return any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree(path).body)


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path):
    """Dotted names of our own modules that a file imports anywhere in it."""
    names = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return {name for name in names if name.split(".")[0] in (*ORDER, "reproduce")}


def module_file(name):
    """The file that a dotted name, of a module or of something in it, stands for."""
    for parts in (name.split("."), name.split(".")[:-1]):
        path = REPOSITORY.joinpath(*parts).with_suffix(".py") if parts else REPOSITORY
        if path.is_file():
            return path
    return None


# Its functions are public and its command stands beside them (design: "diversity.py also runs by itself").
ALSO_LIBRARY = REPOSITORY / "data_preprocess" / "diversity.py"
ENTRIES = [path for path in FILES if is_entry(path)] + [REPOSITORY / "reproduce.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_imports_go_one_way(path):
    for name in imported(path):
        target = module_file(name)
        if target in (None, path):
            continue
        assert target.parent != REPOSITORY, f"{path} imports {target.name} of the root folder"
        assert target not in ENTRIES or target == ALSO_LIBRARY, f"{path} imports the entry {target}"
        assert may_import(path, target), f"{path} imports {name}, against the one-way rule"


def test_imports_have_no_circle():
    below = {path: {module_file(name) for name in imported(path)} - {None, path} for path in FILES}
    TopologicalSorter(below).prepare()  # a CycleError names the files


def test_what_code_outside_imports_stays_where_it_looks_for_it(shared):
    """The scripts beside the shared cases run against any version of this repository."""
    names = {name for path in (shared / "cases").glob("*.py") for name in imported(path)}
    found = {name for name in names if module_file(name)}
    assert found == names and len(names) > 10
    for name in names:
        pkgutil.resolve_name(name)


def test_every_folder_with_code_has_its_place_in_the_order():
    assert {path for folder in ORDER for path in (REPOSITORY / folder).rglob("*.py")} == set(FILES)


@pytest.mark.parametrize("path", [*FILES, REPOSITORY / "reproduce.py"], ids=lambda path: path.name)
def test_only_entries_touch_sys_path_and_in_one_line(path):
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "sys.path" in line]
    expected = ON_PATH.replace("parents[1]", "parent") if path.name == "reproduce.py" else ON_PATH
    assert lines == ([expected] if path in ENTRIES else [])


def test_no_module_is_named_like_a_package():
    names = {path.stem for path in FILES}
    assert not names & (set(sys.stdlib_module_names) | {"datasets", "evaluate", "tokenizers", "accelerate", "torch"})


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: path.name)
def test_help_is_quick(path):
    """Two seconds are promised on an idle machine; the best of three keeps a busy one from failing it."""
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        result = subprocess.run([sys.executable, path, "--help"], capture_output=True, text=True, cwd=path.parent)
        seconds.append(time.perf_counter() - began)
        assert result.returncode == 0 and result.stdout.startswith("usage: "), result.stderr
        if seconds[-1] < 2:
            return
    pytest.fail(f"{path.name} --help took {min(seconds):.1f} s")


def test_functions_are_short():
    """Functions under 50 lines, their docstrings aside."""
    for path in [*FILES, REPOSITORY / "reproduce.py"]:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef):
                docstring = node.body[0] if ast.get_docstring(node) else None
                prose = docstring.end_lineno - docstring.lineno + 1 if docstring else 0
                lines = node.end_lineno - node.lineno + 1 - prose
                assert lines < 50, f"{path}: {node.name} has {lines} lines"
