"""labelling/README.md's whole loop, word for word: select, rank, join, train, select again."""

import json
import subprocess

import pytest

from data_preprocess.records import load_records
from tests.test_commands import SHELLS, environment
from tests.test_readme import blocks, copied, section

RANK, INSTALL = "python rank.py ", "pip install "  # what waits for people, and what asks a network


@pytest.mark.slow
@pytest.mark.timeout(2400)  # a minute of CPU time
def test_the_whole_loop(tmp_path):
    pytest.importorskip("wordllama")
    pytest.importorskip("py3langid")
    copy = copied(tmp_path / "repository")
    commands = blocks(section("labelling/README.md", "The whole loop"), "sh")
    assert sum(block.startswith(RANK) for block in commands) == 1  # a session in a browser has a test of its own
    lines = [line for block in commands if not block.startswith(RANK) for line in block.splitlines()]
    script = "\n".join(line for line in lines if not line.startswith(INSTALL))
    env = environment(tmp_path)
    del env["STUDY_ROOT"]
    done = subprocess.run([SHELLS[0], "-eu", "-c", script], cwd=copy, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]

    root = copy / "runs" / "loop"
    shown = blocks(section("labelling/README.md", "The whole loop"), "")[0]
    for line in shown.replace("$STUDY_ROOT", str(root)).splitlines():
        assert line in done.stdout, line
    first, second = ([json.loads(line) for line in (root / f"{name}.jsonl").open()] for name in ("first", "second"))
    assert len(first) == len(second) == 60 and not {row["id"] for row in first} & {row["id"] for row in second}
    trained = load_records(root / "data" / "hh_train_len4_50")
    assert len(trained) == 50 and {record.meta["id"] for record in trained} < {row["id"] for row in first}
    assert (root / "checkpoints/index_first/stage_4/best_checkpoint/model.safetensors").is_file()
    assert "<svg" in (root / "first.html").read_text()
