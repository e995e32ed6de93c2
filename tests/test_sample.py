"""sample.py and sample.sh: golden subsets and record, nesting, errors that write nothing, dash and bash."""

import hashlib
import json
import os
import random
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from data_preprocess import sample, split
from data_preprocess.command import InputError
from data_preprocess.dialogue import render_prompt
from data_preprocess.diversity import (
    RECORD,
    RECORD_RESPONSES,
    RECORD_TOKENIZERS,
    encode_prompts,
    prompt_diversity,
)
from data_preprocess.files import write_json
from data_preprocess.records import read_rows
from data_preprocess.sample import SIZES, main
from data_preprocess.selection import SELECTIONS, select_max_diversity
from data_preprocess.subsets import AUGMENTATIONS, Subset, subset_named
from eval_hh.scoring import recorded_diversity

REPOSITORY = Path(__file__).resolve().parents[1]
FIXTURE = Path(__file__).parent / "fixtures" / "len4.json"
SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]


def install(root, source=FIXTURE):
    target = root / "data" / "original" / "hh_train_len4" / "train.json"
    target.parent.mkdir(parents=True)
    shutil.copy(source, target)
    split.main([])


@pytest.fixture
def tokenizer_dir(tmp_path_factory, byte_tokenizer):
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_tokenizer.save_pretrained(folder)
    return str(folder)


RECORDS = [RECORD, RECORD_RESPONSES, RECORD_TOKENIZERS]


def made(root):
    """Every file under data/ that split did not make."""
    files = (path for path in (root / "data").rglob("*") if path.is_file())
    return sorted(str(path.relative_to(root / "data")) for path in files if "original" not in path.parts)


def test_default_sizes_are_the_papers():
    assert SIZES == (36000, 24000, 16000, 12000, 6000, 3000, 2000, 1500)


def test_subsets_are_prefixes_of_one_shuffle(tmp_path, tokenizer_dir):
    install(tmp_path)
    for ranking_len in (4, 3, 2):
        main([str(ranking_len), "--sizes", "3", "1", "--tokenizer", tokenizer_dir])
        rows = read_rows(tmp_path / "data" / "original" / f"hh_train_len{ranking_len}")
        random.seed(42)
        random.shuffle(rows)
        for size in (3, 1):
            path = tmp_path / "data" / f"hh_train_len{ranking_len}_{size}" / "train.json"
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows[:size]]
            assert path.read_text(encoding="utf-8") == "".join(lines)
    ids = [[row["meta"]["id"] for row in read_rows(tmp_path / "data" / f"hh_train_len{k}_3")] for k in (2, 3, 4)]
    assert ids[0] == ids[1] == ids[2]


def test_the_record_holds_the_diversity_of_each_size(tmp_path, tokenizer_dir, byte_tokenizer):
    install(tmp_path)
    main(["4", "--sizes", "4", "2", "--tokenizer", tokenizer_dir])
    record = json.loads((tmp_path / "data" / "record_hh_train.json").read_text())
    assert list(record) == ["4", "2"]
    for size in (4, 2):
        rows = read_rows(tmp_path / "data" / f"hh_train_len4_{size}")
        texts = {"<|prompter|>": "\n\nHuman: ", "<|assistant|>": "\n\nAssistant: "}
        prompts = []
        for row in rows:
            turns = (texts[turn[: turn.index("|>") + 2]] + turn[turn.index("|>") + 2 :] for turn in row["prefix"][0])
            prompts.append("".join(turns).rstrip())
        token_ids = encode_prompts(byte_tokenizer, prompts)
        bigrams = [pair for ids in token_ids for pair in zip(ids.tolist(), ids.tolist()[1:], strict=False)]
        assert record[str(size)] == {
            "2": {
                "#filtered_ngrams": len(set(bigrams)),
                "#all_ngrams": len(bigrams),
                "#samples": size,
                "diversity": pytest.approx(prompt_diversity(token_ids)),
            }
        }


def test_rankings_of_other_prompts_are_measured_by_themselves(tmp_path, tokenizer_dir):
    install(tmp_path)
    other = tmp_path / "data" / "original" / "hh_train_len2" / "train.json"
    text = other.read_text(encoding="utf-8").replace("Bye", "Farewell, and a good night to you all")
    other.write_text(text, encoding="utf-8")
    record, entries = tmp_path / "data" / "record_hh_train.json", []
    for ranking_lens in (["3"], ["2"], ["3", "2"]):
        main([*ranking_lens, "--sizes", "4", "--tokenizer", tokenizer_dir])
        entries.append(json.loads(record.read_text()))
    first, second, both = entries
    assert list(first) == ["4"] and second == both == {**first, "len2_4": second["len2_4"]}
    assert first["4"] != second["len2_4"]  # the entry of a size is that of the K sampled first


def test_the_record_is_merged_and_a_size_replaced(tmp_path, tokenizer_dir):
    install(tmp_path)
    path = tmp_path / "data" / "record_hh_train.json"
    write_json(path, {"36000": {"2": {"#samples": 36000}}, "2": {"2": {"stale": True}}})
    main(["3", "--sizes", "2", "--tokenizer", tokenizer_dir])
    record = json.loads(path.read_text())
    assert record["36000"] == {"2": {"#samples": 36000}}
    assert record["2"]["2"]["#samples"] == 2 and "stale" not in record["2"]["2"]
    assert path.read_text() == json.dumps(record, indent=4) + "\n"


def test_golden_subsets_and_record(tmp_path, shared):
    golden = json.loads((shared / "golden" / "preprocess.json").read_text())
    install(tmp_path, shared / "data" / "finegrained_len4" / "train.json")
    tokenizer = str(shared / "data" / "llama_tokenizer")
    sizes = list(golden["diversity"])
    main(["4", "3", "--tokenizer", tokenizer, "--sizes", *sizes])
    main(["2", "--tokenizer", tokenizer, "--sizes", *sizes])
    for name, expected in golden["files"].items():
        if not (tmp_path / "data" / name).exists():
            assert name.startswith("original/hh_train_len4")
            continue
        data = (tmp_path / "data" / name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == expected["sha256"], name
        assert data.count(b"\n") == expected["rows"]
    record = json.loads((tmp_path / "data" / "record_hh_train.json").read_text())
    assert list(record) == sizes
    for size, expected in golden["diversity"].items():
        found = record[size]["2"]
        assert list(found) == list(expected)
        assert found == {**expected, "diversity": pytest.approx(expected["diversity"], rel=1e-12)}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["4"], r"--sizes: 36000 rows of 4 responses requested, only 4 available \(expected 1 to 4\)"),
        (["4", "--sizes", "2", "5"], "--sizes: 5 rows of 4 responses requested, only 4 available"),
        (["4", "--sizes", "0"], "--sizes 0"),
        (["4", "5", "--sizes", "1"], "hh_train_len5/train.json: no such file"),
        (["4", "--max_tokens", "9", "--sizes", "2"], "--max_tokens and --sizes .expected one of them"),
        (["4", "--max_tokens", "9", "--match_length"], "--max_tokens and --match_length .expected one of them"),
        (["4", "--max_tokens", "9", "--match_kind"], "--max_tokens and --match_kind .expected one of them"),
        (["4", "--sizes", "3", "--half"], r"--sizes: 3 rows .* only 2 available in a half of them \(expected 1 to 2\)"),
        (["4", "--sizes", "2", "--draw", "-1"], "--draw -1: expected a whole number from 0 to"),
        (["4", "--sizes", "2", "--match_kind"], "hh_train_len4/train.json:1: meta.kind is missing"),
        (["4", "--max_tokens", "0"], "--max_tokens 0: expected a number of at least 1"),
        (["4", "--sizes", "2", "--tokenizer", "/no/such/tokenizer"], "/no/such/tokenizer: no such folder"),
        (["4", "--sizes", "2", "--tokenizer", "nobody/nothing"], "nobody/nothing: .*pass the path of a local"),
    ],
)
def test_refusals_write_nothing(tmp_path, arguments, message):
    install(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        main(arguments)
    assert "\n" not in str(caught.value)
    assert made(tmp_path) == [] and "hh_train_len4_2" not in os.listdir(tmp_path / "data")


def test_a_cap_below_every_prompt_is_refused(tmp_path, tokenizer_dir):
    install(tmp_path)
    with pytest.raises(InputError, match=r"--max_tokens: 2 are fewer tokens than the first prompt chosen has"):
        main(["4", "--max_tokens", "2", "--tokenizer", tokenizer_dir, "--select", "facility"])
    assert made(tmp_path) == []


@pytest.mark.parametrize("content, message", [("{", ":1: not valid JSON"), ("[]", "expected a JSON object")])
def test_a_damaged_record_is_not_overwritten(tmp_path, tokenizer_dir, content, message):
    install(tmp_path)
    (tmp_path / "data" / "record_hh_train.json").write_text(content)
    with pytest.raises(InputError, match="record_hh_train.json.*" + message):
        main(["4", "--sizes", "2", "--tokenizer", tokenizer_dir])
    assert made(tmp_path) == ["record_hh_train.json"]
    assert (tmp_path / "data" / "record_hh_train.json").read_text() == content


def selected(root, ranking_len, name):
    """The ids of a subset's rows, in the file's order."""
    return [row["meta"]["id"] for row in read_rows(root / "data" / f"hh_train_len{ranking_len}_{name}")]


def test_a_selection_has_files_and_record_keys_of_its_own(tmp_path, tokenizer_dir, byte_tokenizer):
    install(tmp_path)
    main(["4", "3", "2", "--sizes", "3", "2", "--tokenizer", tokenizer_dir])
    before = {name: (tmp_path / "data" / name).read_bytes() for name in made(tmp_path)}
    main(["4", "3", "2", "--sizes", "3", "2", "--tokenizer", tokenizer_dir, "--select", "max_d"])
    folders = [f"hh_train_len{k}_{m}_max_d/train.json" for k in (2, 3, 4) for m in (2, 3)]
    assert made(tmp_path) == sorted([*before, *folders])
    for name, content in before.items():
        assert name in RECORDS or (tmp_path / "data" / name).read_bytes() == content
    record, answers, tokenizers = (json.loads((tmp_path / "data" / name).read_text()) for name in RECORDS)
    assert list(answers) == [f"len{k}_{m}{name}" for name in ("", "_max_d") for k in (4, 3, 2) for m in (3, 2)]
    assert list(record) == list(tokenizers) == ["3", "2", "3_max_d", "2_max_d"]
    assert {key: record[key] for key in ("3", "2")} == json.loads(before[RECORD])
    rows = read_rows(tmp_path / "data" / "original" / "hh_train_len4")
    token_ids = encode_prompts(byte_tokenizer, [render_prompt(row["prefix"][0]) for row in rows])
    for size in (3, 2):
        chosen = select_max_diversity(token_ids, size)
        ids = [rows[index]["meta"]["id"] for index in chosen]
        assert [selected(tmp_path, k, f"{size}_max_d") for k in (2, 3, 4)] == [ids] * 3
        found = record[f"{size}_max_d"]["2"]
        assert found["#samples"] == size
        assert found["diversity"] == pytest.approx(prompt_diversity([token_ids[index] for index in chosen]))


def test_a_selected_row_is_the_line_of_the_ranking(tmp_path, tokenizer_dir):
    install(tmp_path)
    main(["3", "--sizes", "4", "--tokenizer", tokenizer_dir, "--select", "coverage"])
    files = (tmp_path / "data" / name / "train.json" for name in ("original/hh_train_len3", "hh_train_len3_4_coverage"))
    lines, found = (path.read_bytes().splitlines() for path in files)
    assert sorted(found) == sorted(lines) and len(found) == 4


def test_prompts_that_k_share_are_tokenised_and_selected_once(tmp_path, tokenizer_dir, monkeypatch):
    install(tmp_path)
    calls = []
    monkeypatch.setattr(sample, "choose", lambda *given: calls.append(given) or {1: [len(calls)]})
    main(["4", "3", "2", "--sizes", "1", "--tokenizer", tokenizer_dir, "--select", "max_d"])
    other = tmp_path / "data" / "original" / "hh_train_len2" / "train.json"
    other.write_text(other.read_text(encoding="utf-8").replace("Bye", "Farewell"), encoding="utf-8")
    assert len(calls) == 1
    main(["4", "3", "2", "--sizes", "1", "--tokenizer", tokenizer_dir, "--select", "max_d"])
    assert len(calls) == 3
    assert [selected(tmp_path, k, "1_max_d") == selected(tmp_path, 4, "1_max_d") for k in (3, 2)] == [True, False]


@pytest.mark.parametrize("calls", [[["4", "3", "2"]], [["4"], ["3"], ["2"]], [["2"], ["4", "3"], ["2"], ["4"]]])
def test_d_of_a_subset_is_that_of_its_own_prompts(tmp_path, tokenizer_dir, byte_tokenizer, monkeypatch, calls):
    """Where K=2 has rankings of other prompts, by one call or several; and again when all K share them."""
    monkeypatch.setenv("STUDY_ROOT", str(tmp_path))
    install(tmp_path)

    def check():
        for k in (4, 3, 2):
            subset = Subset(k, 3, draw=43)
            prompts = [render_prompt(row["prefix"][0]) for row in read_rows(tmp_path / "data" / subset.folder)]
            expected = prompt_diversity(encode_prompts(byte_tokenizer, prompts))
            assert recorded_diversity(subset, k)["score"] == expected, k

    other = tmp_path / "data" / "original" / "hh_train_len2" / "train.json"
    shared = other.read_text(encoding="utf-8")
    other.write_text(shared.replace("<|prompter|>", "<|prompter|>Oh, oh, oh: "), encoding="utf-8")
    for ranking_lens in calls:
        main([*ranking_lens, "--sizes", "3", "--tokenizer", tokenizer_dir, "--draw", "43"])
    check()
    other.write_text(shared, encoding="utf-8")
    main(["4", "3", "2", "--sizes", "3", "--tokenizer", tokenizer_dir, "--draw", "43"])
    check()
    assert list(json.loads((tmp_path / "data" / "draw43" / RECORD).read_text())) == ["3"]


@pytest.mark.parametrize("other", [("Bye", "Farewell"), ('"reward": [', '"reward": [9, '), (None, "")])
def test_rankings_that_are_not_cut_from_those_of_more_responses_are_named(tmp_path, tokenizer_dir, capsys, other):
    """Prepared anew, with other prompts, rewards or fewer rows, and split.py not run again."""
    install(tmp_path)
    flags = ["4", "3", "2", "--sizes", "1", "--tokenizer", tokenizer_dir]
    main(flags)
    assert capsys.readouterr().err == ""
    path = tmp_path / "data" / "original" / "hh_train_len4" / "train.json"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if other[0] is None:
        rows = rows[1:]
    elif "reward" in other[0]:
        rows[0]["reward"] = [reward + 1 for reward in rows[0]["reward"]]
    else:
        rows = json.loads(json.dumps(rows).replace(*other))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    main(flags)
    (warning,) = capsys.readouterr().err.splitlines()
    found = r"warning: [14] of 4 rankings of 3 responses are not cut from those of 4: other prompts, responses or"
    assert re.match(found, warning)


def test_matched_lengths_are_part_of_the_name(tmp_path, tokenizer_dir):
    install(tmp_path)
    main(["4", "--sizes", "4", "--tokenizer", tokenizer_dir, "--select", "low_d", "--match_length"])
    main(["4", "--sizes", "4", "--tokenizer", tokenizer_dir, "--match_length"])
    assert made(tmp_path) == [f"hh_train_len4_4_{name}_matched/train.json" for name in ("low_d", "random")] + RECORDS
    record = json.loads((tmp_path / "data" / RECORD).read_text())
    assert list(record) == ["4_low_d_matched", "4_random_matched"]
    with pytest.raises(InputError, match="no 1 of 4 prompts found with a mean length within 5%"):
        main(["4", "--sizes", "1", "--tokenizer", tokenizer_dir, "--match_length"])


KINDS = ("harmless", "online", "base")


def install_kinds(root, count=30):
    """Rankings of 4 whose prompts have kinds and lengths of their own."""
    rng = random.Random(5)
    rows = []
    for index in range(count):
        words = " ".join(rng.choice("amber resin whale tap plum rice clock kite".split()) for _ in range(3 + index % 7))
        turns = [f"<|prompter|>What of {words}?", "<|assistant|>"]
        suffix = [f"{letter} {word} {index % 3}." for letter, word in zip("ABCD", words.split() * 2, strict=False)]
        meta = {"id": index, "kind": KINDS[min(index % 5, 2)]}
        rows.append({"prefix": [turns] * 4, "suffix": suffix, "reward": [3.0, 2.0, 1.0, 0.0], "meta": meta})
    source = root / "source.json"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    install(root, source)
    return rows


def test_a_draw_has_a_folder_of_its_own(tmp_path, tokenizer_dir):
    rows = install_kinds(tmp_path)
    sizes = ["--sizes", "12", "5", "--tokenizer", tokenizer_dir]
    main(["4", "2", *sizes])
    before = {name: (tmp_path / "data" / name).read_bytes() for name in made(tmp_path)}
    main(["4", "2", *sizes, "--draw", "42"])
    assert {name: (tmp_path / "data" / name).read_bytes() for name in made(tmp_path)} == before
    main(["4", "2", *sizes, "--draw", "43"])
    expected = [f"draw43/hh_train_len{k}_{m}/train.json" for k in (2, 4) for m in (12, 5)]
    assert made(tmp_path) == sorted([*before, *expected, *(f"draw43/{name}" for name in RECORDS)])
    assert all((tmp_path / "data" / name).read_bytes() == content for name, content in before.items())
    order = [row["meta"]["id"] for row in rows]
    random.Random(43).shuffle(order)
    for k, size in ((4, 12), (4, 5), (2, 12), (2, 5)):
        drawn = [row["meta"]["id"] for row in read_rows(tmp_path / "data" / "draw43" / f"hh_train_len{k}_{size}")]
        assert drawn == order[:size] != selected(tmp_path, k, size)
    record, other = (json.loads((tmp_path / "data" / name / RECORD).read_text()) for name in ("", "draw43"))
    assert list(record) == list(other) == ["12", "5"] and record != other


@pytest.mark.parametrize("strategy", ["random", "facility", "k_center", "max_d", "coverage"])
def test_a_half_is_chosen_from_as_if_it_were_all(tmp_path, tokenizer_dir, monkeypatch, strategy):
    rows = install_kinds(tmp_path, 31)
    flags = ["4", "--sizes", "6", "--tokenizer", tokenizer_dir, "--select", strategy, "--draw", "44"]
    main([*flags, "--half"])
    folder = f"hh_train_len4_6_{strategy}_half"
    found = read_rows(tmp_path / "data" / "draw44" / folder)
    order = list(range(31))
    random.Random(44).shuffle(order)
    alone = tmp_path / "alone"
    half = [json.dumps(rows[index]) + "\n" for index in sorted(order[:15])]
    (tmp_path / "half.json").write_text("".join(half))
    monkeypatch.setenv("STUDY_ROOT", str(alone))
    install(alone, tmp_path / "half.json")
    main(flags)
    name = "hh_train_len4_6" if strategy == "random" else f"hh_train_len4_6_{strategy}"
    assert read_rows(alone / "data" / "draw44" / name) == found
    assert list(json.loads((tmp_path / "data" / "draw44" / RECORD).read_text())) == [f"6_{strategy}_half"]


def test_halves_of_different_draws_differ_and_hold_the_random_subset_of_their_draw(tmp_path, tokenizer_dir):
    install_kinds(tmp_path)
    halves = []
    for draw in ("42", "43"):
        main(["4", "--sizes", "15", "--tokenizer", tokenizer_dir, "--draw", draw, "--half"])
        main(["4", "--sizes", "10", "--tokenizer", tokenizer_dir, "--draw", draw])
        folder = "" if draw == "42" else "draw43/"
        half, at_random = (
            {row["meta"]["id"] for row in read_rows(tmp_path / "data" / f"{folder}hh_train_len4_{name}")}
            for name in ("15_random_half", "10")
        )
        assert at_random < half and len(half) == 15
        halves.append(half)
    assert halves[0] != halves[1]


def test_kinds_keep_their_share_in_every_k(tmp_path, tokenizer_dir):
    """Of 30 prompts 6, 6 and 18: of ten 2, 2 and 6."""
    install_kinds(tmp_path)
    flags = ["4", "2", "--sizes", "10", "--tokenizer", tokenizer_dir, "--select", "low_d"]
    for more, name in ((["--match_kind"], "low_d_kind"), (["--match_kind", "--match_length"], "low_d_matched_kind")):
        main([*flags, *more])
        kinds = [row["meta"]["kind"] for row in read_rows(tmp_path / "data" / f"hh_train_len4_10_{name}")]
        assert {kind: kinds.count(kind) for kind in KINDS} == {"harmless": 2, "online": 2, "base": 6}
        assert selected(tmp_path, 4, f"10_{name}") == selected(tmp_path, 2, f"10_{name}")
    main(["4", "--sizes", "5", "--tokenizer", tokenizer_dir, "--match_kind", "--half", "--draw", "9"])
    assert (tmp_path / "data" / "draw9" / "hh_train_len4_5_random_kind_half" / "train.json").is_file()


@pytest.mark.parametrize("kind, said", [(None, "is missing"), ("", "is ''"), (3, "is 3")])
def test_a_row_without_a_kind_is_named(tmp_path, tokenizer_dir, kind, said):
    install_kinds(tmp_path)
    path = tmp_path / "data" / "original" / "hh_train_len4" / "train.json"
    lines = path.read_text().splitlines(keepends=True)
    row = json.loads(lines[6])
    row["meta"] = {} if kind is None else {"kind": kind}
    path.write_text("".join([*lines[:6], json.dumps(row) + "\n", *lines[7:]]))
    message = rf"hh_train_len4/train.json:7: meta.kind {said} \(expected a text, the kind of the prompt\)"
    with pytest.raises(InputError, match=message):
        main(["4", "--sizes", "5", "--tokenizer", tokenizer_dir, "--match_kind"])
    assert made(tmp_path) == []
    main(["4", "--sizes", "5", "--tokenizer", tokenizer_dir])  # no kind is asked for


def d_of_texts(tokenizer, texts):
    """The paper's formula for texts with BOS, by a loop: score, U, T and their number."""
    found = []
    for text in texts:
        ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
        found += zip(ids, ids[1:], strict=False)
    unique = len(set(found))
    return {"score": len(texts) ** 0.5 * unique / len(found), "unique": unique, "total": len(found),
            "samples": len(texts)}  # fmt: skip


@pytest.mark.parametrize("select", [[], ["--select", "max_d"]])
def test_the_diversity_of_the_responses_by_hand(tmp_path, tokenizer_dir, byte_tokenizer, select):
    install_kinds(tmp_path)
    path = tmp_path / "data" / "original" / "hh_train_len4" / "train.json"
    text = path.read_text().replace('"meta"', '"sft_index": 2, "meta"')  # SFT trains on the third of all 4
    path.write_text(text)
    main(["4", "3", "2", "--sizes", "12", "5", "--tokenizer", tokenizer_dir, *select])
    record = json.loads((tmp_path / "data" / RECORD_RESPONSES).read_text())
    name = "_max_d" if select else ""
    assert list(record) == [f"len{k}_{m}{name}" for k in (4, 3, 2) for m in (12, 5)]
    for key, entry in record.items():
        rows = read_rows(tmp_path / "data" / f"hh_train_{key}")
        best = [row["suffix"][row.get("sft_index", 0)] for row in rows]
        expected = d_of_texts(byte_tokenizer, [text for row in rows for text in row["suffix"]])
        assert entry["all"] == expected | {"score": pytest.approx(expected["score"])}
        expected = d_of_texts(byte_tokenizer, best)
        assert entry["best"] == expected | {"score": pytest.approx(expected["score"])}
        assert entry["tokenizer"] == tokenizer_dir


def test_without_responses_their_earlier_entries_go(tmp_path, tokenizer_dir):
    install_kinds(tmp_path)
    flags = ["4", "--tokenizer", tokenizer_dir]
    main([*flags, "--sizes", "5", "--no_responses"])
    assert made(tmp_path) == ["hh_train_len4_5/train.json", RECORD, RECORD_TOKENIZERS]
    main([*flags, "--sizes", "5", "7"])
    main([*flags, "--sizes", "5", "--no_responses"])
    assert list(json.loads((tmp_path / "data" / RECORD_RESPONSES).read_text())) == ["len4_7"]


@pytest.mark.parametrize("draw", [42, 0, 43])
@pytest.mark.parametrize("selection", [*SELECTIONS, *AUGMENTATIONS])
def test_a_folder_names_its_subset(tmp_path, selection, draw):
    subset = Subset(4, 120, selection, draw)
    name = "hh_train_len4_120" + ("" if selection == "random" else f"_{selection}")
    assert subset.folder == (name if draw == 42 else f"draw{draw}/{name}")
    assert subset_named(subset.folder) == subset_named(tmp_path / "data" / subset.folder) == subset
    assert "draw" not in subset.key + subset.name


@pytest.mark.parametrize("name", ["hh_train_len4_120_mine", "my_hh_train_len4_120", "hh_train_len4_120/more",
                                  "hh_train_len4_120_random", "hh_train_len4_120_max_d_half_kind"])  # fmt: skip
def test_other_folders_name_none(name):
    assert subset_named(name) is None is subset_named(f"draw43/{name}")


def test_a_cap_of_tokens_instead_of_sizes(tmp_path, tokenizer_dir, byte_tokenizer, capsys):
    install(tmp_path)
    rows = read_rows(tmp_path / "data" / "original" / "hh_train_len4")
    encoded = encode_prompts(byte_tokenizer, [render_prompt(row["prefix"][0]) for row in rows])
    lengths = {row["meta"]["id"]: len(ids) for row, ids in zip(rows, encoded, strict=True)}
    cap = sum(lengths.values()) - 1
    main(["4", "--max_tokens", str(cap), "--tokenizer", tokenizer_dir, "--select", "per_token"])
    assert made(tmp_path) == ["hh_train_len4_3_per_token/train.json", *RECORDS]
    assert sum(lengths[name] for name in selected(tmp_path, 4, "3_per_token")) <= cap
    assert "hh_train_len4_3_per_token/train.json: 3 rows, diversity " in capsys.readouterr().out
    # A random choice under a cap is the random subset of that size, byte for byte.
    main(["4", "--max_tokens", str(cap), "--tokenizer", tokenizer_dir])
    capped = (tmp_path / "data" / "hh_train_len4_3" / "train.json").read_bytes()
    main(["4", "--sizes", "3", "--tokenizer", tokenizer_dir])
    assert (tmp_path / "data" / "hh_train_len4_3" / "train.json").read_bytes() == capped


def sample_sh(shell, *arguments, **environment):
    return subprocess.run(
        [shell, "sample.sh", *arguments],
        cwd=REPOSITORY / "data_preprocess",
        env={**os.environ, "PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "arguments, passed",
    [
        ([], []),
        ([""], []),
        (["/a b/tok"], ["--tokenizer", "/a b/tok"]),
        (["--sizes", "3", "1"], ["--sizes", "3", "1"]),
        (["tok", "--sizes", "3", "1"], ["--sizes", "3", "1", "--tokenizer", "tok"]),
        (["", "--sizes", "3"], ["--sizes", "3"]),
    ],
)
def test_sample_sh_passes_its_arguments_on(tmp_path, shell, arguments, passed):
    log = tmp_path / "log"
    fake = tmp_path / "python"
    fake.write_text(f'#!/bin/sh\nfor word in "$@"; do echo "$word" >>{log}; done\n')
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    done = sample_sh(shell, *arguments, PYTHON=str(fake))
    assert (done.returncode, done.stderr) == (0, "")
    assert log.read_text().split("\n")[:-1] == ["sample.py", "4", "3", "2", *passed]


@pytest.mark.parametrize("shell", SHELLS)
def test_sample_sh_fails_with_the_status_of_sample_py(tmp_path, shell):
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nexit 7\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    assert sample_sh(shell, PYTHON=str(fake)).returncode == 7


def test_sample_sh_uses_llama_path(tmp_path, tokenizer_dir):
    install(tmp_path)
    done = sample_sh("sh", "--sizes", "2", LLaMA_path=tokenizer_dir)
    assert (done.returncode, done.stderr) == (0, "")
    assert made(tmp_path) == [f"hh_train_len{k}_2/train.json" for k in (2, 3, 4)] + RECORDS


@pytest.mark.parametrize("shell", SHELLS)
def test_sample_sh_under_each_shell(tmp_path, tokenizer_dir, shell):
    install(tmp_path)
    done = sample_sh(shell, tokenizer_dir, "--sizes", "4", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert made(tmp_path) == [f"hh_train_len{k}_{m}/train.json" for k in (2, 3, 4) for m in (2, 4)] + RECORDS
    tokenizers = json.loads((tmp_path / "data" / RECORD_TOKENIZERS).read_text())
    assert tokenizers == dict.fromkeys(("4", "2"), tokenizers["4"]) and tokenizer_dir.endswith(tokenizers["4"])


def test_sample_sh_says_in_one_line_that_no_tokenizer_can_be_loaded(tmp_path):
    install(tmp_path)
    environment = {name: value for name, value in os.environ.items() if name != "LLaMA_path"}
    done = sample_sh("sh", "--sizes", "2", **environment, LLaMA_path="")
    assert done.returncode == 2
    assert done.stderr.startswith("error: huggyllama/llama-7b: ") and done.stderr.count("\n") == 1
    assert "local" in done.stderr and made(tmp_path) == []
