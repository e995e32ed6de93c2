"""Every row of the table of bad inputs (tests/bad_input/): one line that names the fault, and nothing written."""

import fnmatch
import importlib
import pkgutil
import shlex
import shutil

import pytest
from study_for_bad_input import build_root

import bad_input
from bad_input.table import BadInput
from data_preprocess.command import run

ENTRIES = {
    "main.py": "training.main", "pretrain.py": "training.pretrain", "train_reward.py": "training.train_reward",
    "split.py": "data_preprocess.split", "sample.py": "data_preprocess.sample", "plan.py": "data_preprocess.plan",
    "prepare.py": "data_preprocess.prepare", "diversity.py": "data_preprocess.diversity",
    "augment.py": "data_preprocess.augment", "generation.py": "eval_hh.generation",
    "rewarding.py": "eval_hh.rewarding", "scoring.py": "eval_hh.scoring", "report.py": "eval_hh.report",
    "convert_weights.py": "eval_hh.convert_weights", "figures.py": "pics.figures", "reproduce.py": "reproduce",
    "run.py": "benchmarks.run",
}  # fmt: skip
FILES = sorted(module.name for module in pkgutil.iter_modules(bad_input.__path__) if module.name != "table")
TABLE = [
    pytest.param(row, id=f"{name}-{row.name}")
    for name in FILES
    for row in importlib.import_module(f"bad_input.{name}").ROWS
]


def run_entry(command: str) -> None:
    """Runs one command in this process."""
    name, *argv = shlex.split(command)
    importlib.import_module(ENTRIES[name]).main(argv)


@pytest.fixture(scope="session")
def whole_study(tmp_path_factory, tiny_causal_lm_dir, tiny_reward_dir):
    """A study root, made once; it lies at one place, since what is made names its inputs by path."""
    root = tmp_path_factory.mktemp("bad_input") / "root"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_ROOT", str(root))
        patch.setenv("HF_HUB_OFFLINE", "1")
        build_root(root, tiny_causal_lm_dir("opt"), tiny_reward_dir, run_entry)
    shutil.copytree(root, root.with_name("fresh"), symlinks=True)
    return root


@pytest.fixture
def study(whole_study, monkeypatch):
    """The study root as it was made, for one test to spoil."""
    shutil.rmtree(whole_study, ignore_errors=True)
    shutil.copytree(whole_study.with_name("fresh"), whole_study, symlinks=True)
    monkeypatch.setenv("STUDY_ROOT", str(whole_study))
    return whole_study


def listing(root):
    """Every path below a folder with its content."""
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


@pytest.mark.parametrize("row", TABLE)
def test_bad_input(row: BadInput, study, capsys):
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
