"""Atomic writes, readers that name the line, and the frame of every entry."""

import errno
import gzip
import json
import lzma
import os
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from data_preprocess import command, files
from data_preprocess.command import InputError, run
from data_preprocess.files import (
    atomic_write,
    hold_lock,
    json_lines,
    read_json,
    read_jsonl,
    read_lines,
    remove_leftovers,
    try_lock,
    write_files,
    write_json,
    write_jsonl,
)

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, error):
    target = tmp_path / "deep" / "out.json"
    write_json(target, {"old": 1})
    with pytest.raises(error):
        with atomic_write(target) as file:
            file.write("half")
            file.flush()
            raise error
    assert target.read_text() == '{"old": 1}\n'
    assert os.listdir(target.parent) == ["out.json"]


def test_a_write_shows_only_when_complete(tmp_path):
    target = tmp_path / "out.bin"
    with atomic_write(target, "wb") as file:
        file.write(b"\x00\xff")
        file.flush()
        assert not target.exists()
    assert target.read_bytes() == b"\x00\xff"
    assert os.listdir(tmp_path) == ["out.bin"]


def test_a_full_disk_names_the_target_and_leaves_nothing(tmp_path):
    with pytest.raises(OSError) as caught:
        with atomic_write(tmp_path / "out.json"):
            raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "out.json") and caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == []


def test_an_unwritable_place_names_the_target(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as caught:
        write_json(tmp_path / "file" / "out.json", 1)
    assert str(tmp_path / "file") in str(caught.value)


def test_several_files_appear_all_or_none(tmp_path):
    def rows():
        yield {"a": 1}
        raise RuntimeError

    one, two = tmp_path / "one", tmp_path / "two"
    for first, second in ((json_lines([{"a": 1}]), json_lines(rows())), (json_lines(rows()), ["x"])):
        with pytest.raises(RuntimeError):
            write_files({one: first, two: second})
        assert os.listdir(tmp_path) == []
    write_files({one: json_lines([{"a": 1}]), two: json_lines([{"b": "é\u2028"}])})
    assert one.read_bytes() == b'{"a": 1}\n'
    assert two.read_bytes() == '{"b": "é\u2028"}\n'.encode()


def test_a_name_that_cannot_be_taken_is_named_and_no_temporary_file_stays(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError) as caught:
        write_files({tmp_path / "folder": ["x"], tmp_path / "two": ["y"]})
    assert caught.value.filename == str(tmp_path / "folder")
    with pytest.raises(IsADirectoryError):  # not even the file before it is renamed
        write_files({tmp_path / "two": ["y"], tmp_path / "folder": ["x"]})
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.parametrize("lock", [hold_lock, try_lock])
def test_a_file_system_that_refuses_locks_is_named(tmp_path, monkeypatch, lock):
    def refuse(self):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    expected = "No locks available .its file system refuses locks; FILE_LOCKS=no takes none: "
    with pytest.raises(OSError, match=expected) as refused, lock(tmp_path):
        pass
    assert Path(refused.value.filename).name in ("lock", f".{tmp_path.name}.lock")
    monkeypatch.setenv("FILE_LOCKS", "no")
    with lock(tmp_path), lock(tmp_path):
        assert not list(tmp_path.iterdir())


def nested(depth):
    return [nested(depth - 1)] if depth > 1 else []


def test_jsonl_round_trip_keeps_lines_numbers_and_unicode(tmp_path):
    rows = [{"text": "naïve \u2028 \x85 🙂"}, {"x": 0.1 + 0.2}, {"n": [2**70, -0.0, True]}, {"d": nested(99)}]
    for name, pack in (("rows.jsonl", bytes), ("rows.jsonl.gz", gzip.compress), ("rows.jsonl.xz", lzma.compress)):
        path = tmp_path / name
        write_jsonl(tmp_path / "rows.jsonl", rows)
        path.write_bytes(pack((tmp_path / "rows.jsonl").read_bytes()))
        assert list(read_jsonl(path)) == list(enumerate(rows, 1))


GOOD = b'{"a": 1}\n'


@pytest.mark.parametrize(
    "content, message",
    [
        (GOOD + b'{"a": \n', r":2: not valid JSON"),
        (GOOD + GOOD + b"[1]\n", r":3: expected a JSON object, found list"),
        (b'[{"a": 1},\n 2]', r":element 2: expected a JSON object, found int"),
        (b'[{"a": 1},\n\n {"a": 1, "a": 2}]', r":element 2: .*duplicate key 'a' in one object"),
        (b'[{"a": 1}\n {"a": 2}]', r":2: not valid JSON .Expecting ',', column 2"),
        (b'[{"a": 1},\n]', r":2: not valid JSON .Expecting value"),
        (b'[{"a": 1}', r":1: not valid JSON .Expecting ','"),
        (b'[{"a": 1}]\n[{"a": 2}]\n', r": text after the end of the JSON array"),
        (b'[{"a": "\xe9"}]', r": not UTF-8"),
        (GOOD + b'{"a": 1, "b": {"c": 2, "c": 2}}\n', r":2: .*duplicate key 'c' in one object"),
        (GOOD + b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}", r":2: lists or objects more than 100 deep"),
        (GOOD + b"\n" + GOOD, r":2: blank line"),
        (GOOD + b'{"a": "\xe9"}\n', r":2: not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), r":1: not UTF-8"),
        (GOOD + b"\xef\xbb\xbf" + GOOD, r":2: not valid JSON .*BOM"),
        (b'{"a": "\\ud83d"}\n', r":1: holds an unpaired surrogate"),
        (b"[" * 100_000, r":1: not JSON that can be read"),
        (GOOD + b'{"a": ' + b"1" * 5000 + b"}", r":2: not JSON that can be read"),
        (GOOD + b'{"a": 1', r":2: not valid JSON"),
    ],
)
def test_read_jsonl_names_the_line(tmp_path, content, message):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        list(read_jsonl(path))
    assert str(caught.value).startswith(f"{path}:") and "\n" not in str(caught.value)


def test_blank_lines_at_the_end_are_no_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    for end in (b"\n", b"\r\n \t\n", b" "):
        path.write_bytes(GOOD + GOOD + end)
        assert list(read_jsonl(path)) == [(1, {"a": 1}), (2, {"a": 1})]


def test_a_byte_order_mark_is_no_text(tmp_path):
    path = tmp_path / "rows.json"
    for content in (GOOD, b"\r\n [" + GOOD.strip() + b"]"):
        path.write_bytes(b"\xef\xbb\xbf" + content)
        assert list(read_jsonl(path)) == [(1, {"a": 1})]
    path.write_bytes(b"\xef\xbb\xbf" + GOOD)
    assert read_json(path) == {"a": 1} and list(read_lines(path)) == [(1, '{"a": 1}\n')]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("block", [2, 7, 1 << 20])
def test_an_array_gives_the_rows_that_its_lines_would(tmp_path, monkeypatch, indent, block):
    rows = [{"t": 'a ] , [ " é\u2028🙂', "n": [0.1, [], {}]}, {}, {"x": {"y": None}}] * 3
    monkeypatch.setattr(files, "BLOCK", block)
    for name, pack in (("rows.json", bytes), ("rows.json.gz", gzip.compress)):
        (tmp_path / name).write_bytes(pack(json.dumps(rows, ensure_ascii=False, indent=indent).encode()))
        assert list(read_jsonl(tmp_path / name)) == list(enumerate(rows, start=1))
        (tmp_path / name).write_bytes(pack(b"[ ]\n"))
        assert list(read_jsonl(tmp_path / name)) == []


def test_a_row_of_an_array_is_named_as_an_element(tmp_path):
    (tmp_path / "rows.json").write_text('[{"a": 1}, {"a": 2}]')
    assert [f"{number}" for number, _ in read_jsonl(tmp_path / "rows.json")] == ["element 1", "element 2"]


@pytest.mark.parametrize("start", [b'{"a": "', b'[{"a": "', b'{"a": 1}\n{"a": "'])
def test_a_line_without_end_is_refused_before_it_is_held(tmp_path, start):
    """200 MB in one row of a small file: a few times the 64 MiB that a row may have are held."""
    path = tmp_path / "rows.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(start)
        for _ in range(200):
            file.write(b"x" * 1_000_000)
    code = (
        "import resource, sys; from data_preprocess.files import read_jsonl\n"
        "resource.setrlimit(resource.RLIMIT_AS, (400 << 20,) * 2)\n"
        "try: print(len(list(read_jsonl(sys.argv[1]))))\n"
        "except ValueError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    line = start.count(b"\n") + 1
    assert done.stdout == f"{path}:{line}: more than 64 MiB in one row (expected at most that)\n"


def test_a_surrogate_pair_is_fine(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b'{"a": "\\ud83d\\ude00"}\n')
    assert list(read_jsonl(tmp_path / "rows.jsonl")) == [(1, {"a": "😀"})]


@pytest.mark.parametrize(("suffix", "kind", "pack"), [(".gz", "gzip", gzip.compress), (".xz", "xz", lzma.compress)])
def test_a_damaged_packed_file_is_named(suffix, kind, pack, tmp_path):
    whole = pack(b"".join(json.dumps({"n": n, "x": "y" * n}).encode() + b"\n" for n in range(999)))
    path = tmp_path / f"rows.jsonl{suffix}"
    for content in (whole[: len(whole) // 2], b"not packed at all", whole[:-8] + b"\0" * 8):
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"rows.jsonl{suffix}:\d+: damaged or truncated {kind} file"):
            list(read_jsonl(path))


def test_absent_files_and_folders_are_input_errors(tmp_path):
    for read in (read_json, lambda path: list(read_jsonl(path))):
        with pytest.raises(InputError, match="absent: no such file"):
            read(tmp_path / "absent")
        with pytest.raises(InputError, match="is a folder"):
            read(tmp_path)


def test_read_json_names_the_line(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b'{\n "a": 1,\n "b": }\n')
    with pytest.raises(InputError, match="x.json:3: not valid JSON"):
        read_json(path)
    path.write_bytes(b'{\n "a": "\xff"}')
    with pytest.raises(InputError, match="x.json:2: not UTF-8"):
        read_json(path)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"n": ' + b"1" * 5000 + b"}", b'{"a": "\\ud800"}'])
def test_read_json_refuses_what_json_cannot_hold(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(InputError, match="x.json: not JSON that can be read"):
        read_json(tmp_path / "x.json")


def dead_process():
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_what_a_killed_writer_left_goes_with_the_next_write_and_nothing_else(tmp_path):
    dead = dead_process()
    kept = {f".out.json.{os.getppid()}.tmp", f".other.json.{dead}.tmp", f".out.json.{dead}.tmp.bak", ".out.json.x.tmp"}
    for name in (f".out.json.{dead}.tmp", f".out.json.{10**30}.tmp", *kept):
        (tmp_path / name).write_text("half")
    write_json(tmp_path / "out.json", 1)
    assert set(os.listdir(tmp_path)) == {"out.json"} | kept
    (tmp_path / f".two.{dead}.tmp").write_text("half")
    write_files({tmp_path / "one": ["x"], tmp_path / "two": ["y"]})
    assert set(os.listdir(tmp_path)) == {"out.json", "one", "two"} | kept
    remove_leftovers(tmp_path / "other.json")
    assert set(os.listdir(tmp_path)) == {"out.json", "one", "two"} | kept - {f".other.json.{dead}.tmp"}


def test_a_rename_is_on_disk_when_a_write_returns(tmp_path, monkeypatch):
    """File before the rename, its folder after it; a file system that cannot sync folders is not in the way."""
    events, fsync, replace = [], os.fsync, os.replace

    def sync(handle):
        events.append(os.readlink(f"/proc/self/fd/{handle}"))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", lambda old, new: (events.append("rename"), replace(old, new)))
    write_files({tmp_path / "a": ["x"]})
    assert events == [str(tmp_path / f".a.{os.getpid()}.tmp"), "rename", str(tmp_path)]

    def refuse(handle):
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    write_json(tmp_path / "b", 1)
    assert (tmp_path / "b").read_text() == "1\n"


@pytest.mark.parametrize(
    "error, status, line",
    [
        (InputError("f.json:3: wrong\n(expected right)"), 2, "error: f.json:3: wrong (expected right)\n"),
        (PermissionError(13, "Permission denied", "/x/y"), 1, "error: /x/y: Permission denied\n"),
        (OSError("odd"), 1, "error: odd\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
    ],
)
def test_run_says_one_line_and_the_status(capsys, error, status, line):
    def main():
        raise error

    with pytest.raises(SystemExit) as caught:
        run(main)
    assert caught.value.code == status
    assert capsys.readouterr().err == line


def test_run_leaves_bugs_their_traceback():
    def main():
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        run(main)


def test_run_survives_a_closed_pipe():
    code = "from data_preprocess.command import run\nrun(lambda: [print('x' * 1000) for _ in range(10**4)])"
    command = f'{sys.executable} -c "$CODE" | head -1'
    done = subprocess.run(
        ["sh", "-c", command], cwd=REPOSITORY, env={**os.environ, "CODE": code}, capture_output=True, text=True
    )
    assert done.stderr == "" and done.stdout == "x" * 1000 + "\n"


def test_study_root_is_the_environments_or_the_repository(monkeypatch, tmp_path):
    monkeypatch.setenv("STUDY_ROOT", str(tmp_path / "study"))
    assert command.study_root() == tmp_path / "study"
    for empty in (lambda: monkeypatch.setenv("STUDY_ROOT", ""), lambda: monkeypatch.delenv("STUDY_ROOT")):
        empty()
        monkeypatch.chdir(tmp_path)
        assert command.study_root() == REPOSITORY


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),  # safetensors
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 448 vs 342"),  # torch.save
        OSError(errno.ENOSPC, "No space left on device"),  # a library's, without the file's name
    ],
)
def test_a_full_disk_under_a_library_is_one_line_with_the_target(error, capsys, tmp_path):
    def save():
        with files.disk_full_as_oserror(tmp_path / "step_5"):
            raise error

    with pytest.raises(SystemExit) as ended:
        command.run(save)
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'step_5'}: No space left on device\n"
    with pytest.raises(RuntimeError, match="another"), files.disk_full_as_oserror(tmp_path):
        raise RuntimeError("another fault keeps its traceback")


def test_an_output_under_a_file_is_named_without_its_temporary_name(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError) as error:
        files.write_json(tmp_path / "file" / "a.json", {})
    assert error.value.filename == str(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
