"""Every row of the table of bad inputs (tests/bad_input/): one line that names the fault, and nothing written."""

import fnmatch
import importlib
import pkgutil

import pytest
from study_for_bad_input import run_entry

import bad_input
from bad_input.table import BadInput
from data_preprocess.command import run
from tests.test_cpu_precision import cpu

FILES = sorted(module.name for module in pkgutil.iter_modules(bad_input.__path__) if module.name != "table")
TABLE = [
    pytest.param(row, id=f"{name}-{row.name}")
    for name in FILES
    for row in importlib.import_module(f"bad_input.{name}").ROWS
]


def listing(root):
    """Every path below a folder with its content."""
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


@pytest.mark.parametrize("row", TABLE)
def test_bad_input(row: BadInput, study, capsys, monkeypatch):
    # A row asks for bfloat16, which a CPU without its instructions would refuse first.
    cpu(monkeypatch, avx512_bf16=True)
    for change in row.change:
        change(study)
    before = listing(study)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        run(lambda: run_entry(row.command.format(root=study)))
    error = capsys.readouterr().err
    # A progress bar writes to the same stream; the message is the last line of it.
    line = error.replace("\r", "\n").rstrip("\n").rpartition("\n")[2]
    assert ended.value.code == row.status, error
    assert line.startswith("error: ") and "Traceback" not in error, error
    for part in row.expected:
        assert part.format(root=study) in line, line
    after = listing(study)
    changed = {path for path in before.keys() | after.keys() if before.get(path, 0) != after.get(path, 0)}
    assert {path for path in changed if not any(fnmatch.fnmatch(path, kept) for kept in row.keeps)} == set()


def test_the_table_has_no_row_twice():
    names = [parameter.id for parameter in TABLE]
    assert len(set(names)) == len(names)
