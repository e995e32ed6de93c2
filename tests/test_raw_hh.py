"""Raw HH-RLHF: the published counts on the real files, the hub's loader on them, and files that are none."""

import gzip
import json

import pytest

from data_preprocess.command import InputError
from data_preprocess.hub import load_data_set
from data_preprocess.preparing import raw_hh
from data_preprocess.preparing.raw_hh import SOURCES, alternates, has_split, read_split

GOOD = {"chosen": "\n\nHuman: Hi\n\nAssistant: Yes", "rejected": "\n\nHuman: Hi\n\nAssistant: No"}
TWICE = {
    "chosen": "\n\nHuman: Hi\n\nHuman: there\n\nAssistant: Yes",
    "rejected": "\n\nHuman: Hi\n\nHuman: there\n\nAssistant: No",
}


def write(folder, rows, name="test.jsonl"):
    path = folder / "harmless-base" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_published_counts_and_every_exception_is_listed(shared):
    raw = str(shared / "data" / "hh_rlhf")
    for published, skipped, odd in ((True, [0, 0, 2, 0], [0, 0, 0, 0]), (False, [0, 0, 2, 0], [4, 7, 0, 0])):
        read = [read_split(raw, source, "test", published) for source in SOURCES]
        assert [len(part.pairs) for part in read] == [2312, 2354, 1135, 2749]
        assert [len(part.skipped) for part in read] == skipped
        assert [len(part.odd) for part in read] == odd
        assert [line for line, _ in read[2].skipped] == [786, 1056]
        assert read[2].counts().endswith("1135 rows, 2 skipped, 2 because " + read[2].skipped[0][1])
        for part in read:
            assert part.summary().count("\n") == len(part.skipped) + len(part.odd)


def test_the_hubs_loader_gives_the_same_rows(shared, tmp_path, monkeypatch):
    """`datasets` reads the release's layout by data_dir; a folder stands in for the hub's copy."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    folder = shared / "data" / "hh_rlhf"
    from_files = read_split(str(folder), "helpful-online", "test", False)
    monkeypatch.setattr(
        raw_hh, "load_data_set", lambda name, split, data_dir: load_data_set(str(folder), split, data_dir)
    )
    from_hub = read_split("Anthropic/hh-rlhf", "helpful-online", "test", False)
    assert from_hub.pairs == from_files.pairs and from_hub.skipped == from_files.skipped
    assert has_split("Anthropic/hh-rlhf", "train") and not has_split(str(folder), "train")


def test_a_hub_that_is_out_of_reach_says_what_to_pass():
    with pytest.raises(InputError, match="Anthropic/hh-rlhf: cannot be loaded as a data set .*pass a local"):
        read_split("Anthropic/hh-rlhf", "helpful-base", "test", False)


def test_plain_files_come_before_gzipped_ones(tmp_path):
    path = write(tmp_path, [GOOD])
    path.with_suffix(".jsonl.gz").write_bytes(gzip.compress(b"broken"))
    assert len(read_split(str(tmp_path), "harmless-base", "test", False).pairs) == 1


def test_roles_that_do_not_alternate(tmp_path):
    """One such prompt among many is kept and named, as the release has some; a file of them is refused by line."""
    write(tmp_path, [GOOD] * 19 + [TWICE])
    read = read_split(str(tmp_path), "harmless-base", "test", False)
    assert len(read.pairs) == 20 and read.odd == [20] and "kept line 20: two turns of one role" in read.summary()
    assert read.pairs[19].prefix == ["<|prompter|>Hi", "<|prompter|>there", "<|assistant|>"]
    write(tmp_path, [GOOD, TWICE, GOOD])
    with pytest.raises(InputError, match="test.jsonl:2: two turns of one role in a row, as in 1 of 3 rows"):
        read_split(str(tmp_path), "harmless-base", "test", False)
    # The published rule joins them, so nothing is odd.
    assert len(read_split(str(tmp_path), "harmless-base", "test", True).pairs) == 3


@pytest.mark.parametrize("published", [False, True])
def test_a_file_without_role_tags_is_refused(tmp_path, published):
    write(tmp_path, [GOOD, {"chosen": "User: Hi", "rejected": "User: Hi"}])
    with pytest.raises(InputError, match="test.jsonl:2: no role tag in front, as in 1 of 2 rows"):
        read_split(str(tmp_path), "harmless-base", "test", published)


def test_truncated_gzip_and_mixed_encodings_are_named_by_line(tmp_path):
    path = write(tmp_path, [GOOD])
    path.write_bytes(path.read_bytes() + json.dumps(GOOD).replace("Yes", "Café").encode("latin-1"))
    with pytest.raises(InputError, match="test.jsonl:2: not UTF-8"):
        read_split(str(tmp_path), "harmless-base", "test", False)
    path.unlink()
    packed = gzip.compress(b"".join(json.dumps({**GOOD, "n": i}).encode() + b"\n" for i in range(5000)))
    path.with_name("test.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(InputError, match=r"test.jsonl.gz:\d+: damaged or truncated gzip"):
        read_split(str(tmp_path), "harmless-base", "test", False)


def test_alternates():
    assert alternates(["<|prompter|>a", "<|assistant|>b", "<|prompter|>c", "<|assistant|>"])
    assert not alternates(["<|prompter|>a", "<|assistant|>b", "<|assistant|>"])
