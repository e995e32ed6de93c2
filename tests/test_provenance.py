"""What a result says about its making."""

import hashlib
import subprocess
import sys

from data_preprocess import provenance
from data_preprocess.provenance import fingerprint, git_hash, versions


def test_fingerprint_depends_on_settings_and_bytes_only(tmp_path):
    for name, text in (("a", "same"), ("b", "same"), ("c", "other")):
        (tmp_path / name).write_text(text)
    a, b, c = (tmp_path / name for name in "abc")
    assert fingerprint({"x": 1, "y": 2}, a) == fingerprint({"y": 2, "x": 1}, b)
    expected = hashlib.sha256(b'{"x": 1}' + hashlib.sha256(b"same").digest()).hexdigest()
    assert fingerprint({"x": 1}, a) == expected
    assert len({fingerprint({"x": 1}, a), fingerprint({"x": 2}, a), fingerprint({"x": 1}, c)}) == 3


def test_versions_and_git_hash(monkeypatch, tmp_path):
    import numpy

    found = versions()
    assert found["numpy"] == numpy.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"torch", "transformers", "accelerate"} <= set(found)
    monkeypatch.setattr(provenance, "VERSIONED_PACKAGES", ("no-such-package",))
    assert list(versions()) == ["python"]
    monkeypatch.setattr(provenance, "REPOSITORY", tmp_path)
    assert git_hash() is None
    for words in ("init -q", "-c user.name=n -c user.email=e commit -q --allow-empty -m m"):
        subprocess.run(["git", "-C", str(tmp_path), *words.split()], check=True)
    head = (tmp_path / ".git" / (tmp_path / ".git" / "HEAD").read_text().split()[1]).read_text().strip()
    assert git_hash() == head
