"""annotate.py: from real pairs to rankings of 4 that split, sample and training take, through kills."""

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from warm_python import free_port

from data_preprocess import prepare
from data_preprocess.command import InputError
from data_preprocess.preparing.raw_hh import SOURCES
from data_preprocess.records import load_records, read_rows
from eval_hh.reward_model import load_reward_model
from labelling.annotate import main

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def raw(shared, tmp_path_factory):
    """Raw HH-RLHF in small, of real pairs: the first 4 are test rows, the next 8 train, whose last repeats a prompt."""
    folder = tmp_path_factory.mktemp("raw")
    for source in SOURCES:
        with gzip.open(shared / "data" / "hh_rlhf" / source / "test.jsonl.gz", "rt", encoding="utf-8") as file:
            lines = [next(file) for _ in range(11)]
        (folder / source).mkdir()
        (folder / source / "test.jsonl").write_text("".join(lines[:4]), encoding="utf-8")
        (folder / source / "train.jsonl").write_text("".join(lines[4:] + lines[:1]), encoding="utf-8")
    return folder


@pytest.fixture
def flags(raw, tiny_causal_lm_dir, tiny_reward_dir):
    return [
        "--raw", str(raw), "--dev_rows", "4", "--decontaminate", "--ranking_len", "4", "--batch_size", "6",
        "--candidates", str(tiny_causal_lm_dir("opt")), str(tiny_causal_lm_dir("gpt2")), "--num_per_model", "2",
        "--max_new_tokens", "6", "--reward_model", str(tiny_reward_dir),
    ]  # fmt: skip


def test_rankings_are_the_reward_models_order(flags, tmp_path, tiny_reward_dir, tiny_causal_lm_dir, capsys):
    main(flags)
    printed = capsys.readouterr().out
    assert "near-duplicates: 4 of 32 train and dev prompts are near a test prompt (dropped)" in printed
    rows = read_rows(tmp_path / "data" / "original" / "hh_train_len4" / "train.json")
    dev = read_rows(tmp_path / "data" / "hh_dev" / "sampled_dev.json", training=False)
    assert 12 <= len(rows) <= 24 and len(dev) == 4
    prompts = [json.dumps(row["prefix"][0]) for row in rows + dev]
    assert len(set(prompts)) == len(prompts)

    model = load_reward_model(tiny_reward_dir)
    sampled = 0
    for row in rows:
        scores = [model.score([row["prefix"][0]], [text])[0] for text in row["suffix"]]
        assert row["reward"] == pytest.approx(scores, abs=1e-5)
        assert len({text.strip() for text in row["suffix"]}) == 4 and all(text.strip() for text in row["suffix"])
        for text, origin in zip(row["suffix"], row["meta"]["response_from"], strict=True):
            pair = raw_pair(flags[1], row["meta"])
            assert (origin == "data") == any(text in dialogue for dialogue in pair.values())
            assert origin in ("data", str(tiny_causal_lm_dir("opt")), str(tiny_causal_lm_dir("gpt2")))
            sampled += origin != "data"
    assert sampled >= 2 * len(rows)  # of 6 candidates at most 2 are the data's
    card = (tmp_path / "data" / "README.md").read_text(encoding="utf-8")
    assert f"| original/hh_train_len4/train.json | {len(rows)} | {4 * len(rows)} |" in card
    means = [sum(row["reward"][rank] for row in rows) / len(rows) for rank in range(4)]
    lengths = [len(model.tokenizer(text, add_special_tokens=False)["input_ids"]) for r in rows for text in r["suffix"]]
    name = f"| original/hh_train_len4/train.json | {len(rows)} |"
    [line] = [line for line in card.splitlines() if line.startswith(name)]
    assert f" | {sum(lengths) / len(lengths):.1f} (" in line and "response tokens of reward_model" in card
    cells = " | ".join(f"{mean:.3f}" for mean in means)
    assert f"| original/hh_train_len4/train.json | {cells} |" in card


def raw_pair(raw, meta):
    source, split = meta["source"].split("/")
    lines = (Path(raw) / source / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return json.loads(lines[meta["line"] - 1])


@pytest.mark.parametrize("model", [("--candidates",), ("--reward_model",)])
def test_a_model_that_is_not_there_is_named_before_anything_is_sampled(flags, model, tmp_path):
    flags[flags.index(*model) + 1] = str(tmp_path / "nowhere")
    with pytest.raises(InputError, match="nowhere: no such folder"):
        main(flags)
    assert not (tmp_path / "data").exists()


def test_prompts_of_ones_own(tmp_path, tiny_causal_lm_dir, tiny_reward_dir):
    """Prompts alone become rankings: every response is sampled."""
    source = tmp_path / "prompts.jsonl"
    source.write_text("".join(json.dumps({"prompt": f"What of {i}?"}) + "\n" for i in range(6)))
    model = str(tiny_causal_lm_dir("opt"))
    main(["--source", str(source), "--candidates", model, model, "--num_per_model", "2", "--max_new_tokens", "8",
          "--reward_model", str(tiny_reward_dir), "--ranking_len", "2"])  # fmt: skip
    work = tmp_path / "data" / "original" / "annotation"
    first, second = ((work / f"responses_{i}.jsonl").read_text() for i in (0, 1))
    assert first != second  # the model's second turn draws with a seed of its own
    records = load_records(tmp_path / "data" / "original" / "hh_train_len2" / "train.json")
    assert len(records) >= 4
    assert all(record.meta["response_from"] == [model] * 2 for record in records)


def run(command, root, cwd, expect=0):
    environment = {**os.environ, "STUDY_ROOT": str(root), "OMP_NUM_THREADS": "1", "PYTHON": sys.executable}
    result = subprocess.run(command, cwd=REPOSITORY / cwd, env=environment, capture_output=True, text=True)
    assert result.returncode == expect, result.stderr
    return result.stdout


def made(root):
    paths = [path for path in (root / "data").rglob("*.json") if "annotation" not in path.parts]
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(paths)}


@pytest.mark.slow
def test_killed_twice_then_two_processes_then_split_sample_and_training(flags, tmp_path, tiny_causal_lm_dir, shared):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    flags[flags.index("--batch_size") + 1] = "1"
    run([sys.executable, "annotate.py", *flags], whole, "labelling")
    # Sampling takes 6 or 7 units of 8 rows per model, and scoring many batches of one: the first kill is in the second
    # model's sampling, the second one in the scoring.
    for number in (9, 8):
        killer = [sys.executable, "kill_at.py", "labelling.annotate", "eval_hh.inference.resumable_jobs.Parts.append"]
        run([*killer, str(number), "after", "--", *flags], broken, "tests", -signal.SIGKILL)
        assert made(broken) == {}
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "../eval_hh/dp_config.yaml"]
    launch += ["--num_processes", "2", "--main_process_port", str(free_port()), "annotate.py", *flags]
    printed = run(launch, broken, "labelling")
    assert printed.count("the data card") == 1  # one of two processes prints and writes
    assert made(broken) == made(whole) and len(made(whole)) == 6

    run([sys.executable, "split.py"], whole, "data_preprocess")
    run(["sh", "sample.sh", str(shared / "data" / "llama_tokenizer"), "--sizes", "12", "8"], whole, "data_preprocess")
    origins = [row["meta"]["response_from"] for row in read_rows(whole / "data" / "hh_train_len2_12")]
    assert [len(origin) for origin in origins] == [2] * 12
    base = str(tiny_causal_lm_dir("opt"))
    arguments = ["--do_train", "--do_validation", "--index", "e", "--model_name_or_path", base, "--seed", "42"]
    arguments += ["--train_file_path", str(whole / "data" / "hh_train_len4_8"), "--training_stage_num", "4"]
    arguments += ["--global_batch_size", "4", "--per_device_train_batch_size", "4", "--max_train_steps", "2"]
    arguments += ["--checkpointing_step", "2", "--block_size", "256", "--max_prompt", "128", "--max_new_tokens", "4"]
    run([sys.executable, "main.py", *arguments, "--dev_reward_model", flags[-1]], whole, "training")
    checkpoint = whole / "checkpoints" / "index_e" / "stage_4" / "best_checkpoint"
    assert (checkpoint / "model.safetensors").is_file()


def test_candidates_for_people_need_no_reward_model(tmp_path, tiny_causal_lm_dir, capsys):
    """Two models and the data's own response; what people say of them is joined by prepare.py."""
    source, output = tmp_path / "pool.jsonl", tmp_path / "to_rank.jsonl"
    rows = [{"id": f"p{i}", "prompt": f"question {i}?", "response": f"own answer {i}"} for i in range(6)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    models = [str(tiny_causal_lm_dir("opt")), str(tiny_causal_lm_dir("gpt2"))]
    words = ["--source", str(source), "--candidates", *models, "--num_per_model", "2", "--max_new_tokens", "6"]
    main([*words, "--to_rank", str(output), "--ranking_len", "3"])
    assert f"{output}: 6 prompts with 3 responses each, to be ranked" in capsys.readouterr().out
    written = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["id"] for row in written] == [f"p{i}" for i in range(6)]
    assert all(len({text.strip() for text in row["completions"]}) == 3 for row in written)
    assert not (tmp_path / "data" / "original" / "hh_train_len3").exists()
    votes = tmp_path / "votes.jsonl"
    votes.write_text("".join(
        json.dumps({"id": row["id"], "response": text, "score": place}) + "\n"
        for row in written for place, text in enumerate(row["completions"])
    ))  # fmt: skip
    prepare.main(["--source", str(output), "--join", str(votes), "--dev_rows", "0"])
    ranked = read_rows(tmp_path / "data" / "original" / "hh_train_len3" / "train.json")
    assert [row["suffix"] for row in ranked] == [row["completions"][::-1] for row in written]


def test_two_responses_for_people_by_score(tmp_path, tiny_reward_dir, capsys):
    """The pair that a slow loop over the model's scores finds, one of a text that repeats; none is a reward."""
    source, texts = tmp_path / "pool.jsonl", ["no", "a long answer", "yes, of course", "perhaps", "perhaps "]
    source.write_text("".join(json.dumps({"prompt": f"q{i}?", "responses": texts}) + "\n" for i in range(3)))
    model = load_reward_model(tiny_reward_dir)
    for how, best in (("best_worst", max), ("closest", min)):
        output = tmp_path / f"{how}.jsonl"
        main(["--source", str(source), "--to_rank", str(output), "--show", how, "--reward_model", str(tiny_reward_dir)])
        assert "3 prompts with 2 responses each, to be ranked" in capsys.readouterr().out
        for i, line in enumerate(output.read_text().splitlines()):
            scores = model.score([[f"<|prompter|>q{i}?", "<|assistant|>"]] * 4, texts[:4])
            gaps = {(a, b): abs(scores[a] - scores[b]) for b in range(4) for a in range(b)}
            row = json.loads(line)
            assert row["completions"] == [texts[index] for index in best(gaps, key=gaps.get)]
            assert not {"reward", "rewards", "score"} & set(row)


def test_diverse_responses_for_people_need_no_reward_model(tmp_path, capsys):
    """As many as --ranking_len says; an outlier and a copy are not among them."""
    source, output = tmp_path / "pool.jsonl", tmp_path / "out.jsonl"
    texts = ["boil the water first", "boil the water now", "ask your doctor today", "ask your doctor first", "zzz"]
    source.write_text("".join(json.dumps({"prompt": f"q{i}?", "responses": texts}) + "\n" for i in range(9)))
    main(["--source", str(source), "--to_rank", str(output), "--show", "diverse", "--ranking_len", "2"])
    assert "9 prompts with 2 responses each, to be ranked" in capsys.readouterr().out
    for line in output.read_text().splitlines():
        first, second = json.loads(line)["completions"]
        assert first in texts[:2] and second in texts[2:4]
    with pytest.raises(InputError, match="--show diverse: expected --ranking_len K beside it"):
        main(["--source", str(source), "--to_rank", str(tmp_path / "all.jsonl"), "--show", "diverse"])
    assert not (tmp_path / "all.jsonl").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "--reward_model: missing .expected a model that scores the responses, or --to_rank"),
        (
            ["--to_rank", "{root}/a", "--reward_model", "m"],
            "--reward_model: does not apply to --to_rank with --show ra",
        ),
        (["--to_rank", "{root}/a", "--show", "closest"], "--show closest: expected --reward_model MODEL"),
        (["--reward_model", "m", "--show", "closest"], "--show closest: expected --to_rank FILE"),
        (["--reward_model", "m", "--show", "diverse"], "--show diverse: expected --to_rank FILE"),
        (
            ["--to_rank", "{root}/a", "--reward_model", "m", "--show", "diverse", "--ranking_len", "2"],
            "--reward_model: does not apply to --to_rank with --show diverse",
        ),
        (
            ["--to_rank", "{root}/a", "--reward_model", "m", "--show", "best_worst", "--ranking_len", "3"],
            "--ranking_len 3: --show best_worst shows two responses .expected 2.",
        ),
        (["--to_rank", "{root}/a", "--dev_rows", "3"], "--dev_rows: does not apply to --to_rank"),
        (["--to_rank", "{root}/pool.jsonl"], "is read as --source"),
        (["--to_rank", "{root}/a", "--ranking_len", "5"], "--ranking_len: no prompt has 5 different responses"),
    ],
)
def test_bad_flags_of_candidates_for_people(words, message, tmp_path):
    (tmp_path / "pool.jsonl").write_text('{"prompt": "a?", "response": "b"}\n')
    with pytest.raises(InputError, match=message):
        main(["--source", str(tmp_path / "pool.jsonl"), *(word.format(root=tmp_path) for word in words)])
    assert not (tmp_path / "a").exists()
