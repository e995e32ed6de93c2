"""benchmarks/: its library on its own, and the training benchmarks on tiny sizes. No time is ever tested."""

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import hh_like, one_run, run, side_by_side, study_cost, training_ways
from benchmarks.flops import OPT_125M, Shape
from benchmarks.side_by_side import Row, in_fresh_process, in_turns, same
from training.flops import separate_flops, shared_flops

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def test_ways_take_turns_and_medians_are_theirs(monkeypatch):
    clock, order = itertools.count(), []
    monkeypatch.setattr(side_by_side.time, "perf_counter", lambda: float(next(clock)))

    def way(name, ticks):
        def call():
            order.append(name)
            for _ in range(next(ticks)):
                next(clock)
            return f"{name} {len(order)}"

        return call

    naive, ours = way("naive", iter([8, 2, 4])), way("ours", iter([1, 7, 3]))
    # One tick more than each waits: the clock's own.
    assert in_turns(naive, ours, 3) == ((5.0, 4.0), ("naive 5", "ours 6"))
    assert order == ["naive", "ours", "ours", "naive", "naive", "ours"]
    assert Row("x", 6.0, 1.5, "s").ratio == 4.0


def hold(mebibytes):
    return len(np.ones(mebibytes << 17))


def test_peak_memory_is_that_of_the_way_alone():
    held = [np.ones(300 << 17)]  # in this process: not to be counted
    (_, small), (length, large) = (in_fresh_process(1, hold, mebibytes) for mebibytes in (1, 400))
    assert 350 < large - small < 450 and len(held) == 1 and length == 400 << 17


def test_results_that_differ_end_the_benchmark():
    assert same("loss", [1.0, 2.0], [1.0, 2.00001], 1e-4) == pytest.approx(5e-6, rel=0.01)
    for wrong in (2.001, float("nan")):
        with pytest.raises(SystemExit, match="error: loss: the two ways differ"):
            same("loss", [1.0, 2.0], [1.0, wrong], 1e-4)


def test_stored_lengths_are_those_of_the_release(shared):
    stored = json.loads((BENCHMARKS / "hh_lengths.json").read_text())
    prompts, replies = hh_like.corpus()
    for kind, texts in (("prompt_words", hh_like.rendered(prompts)), ("reply_words", replies)):
        lengths = sorted(len(text.split()) for text in texts)
        quantiles = [lengths[round(q / 100 * (len(lengths) - 1))] for q in range(101)]
        assert np.abs(np.array(stored[kind]) - quantiles).max() <= 1


def test_rows_without_the_release_have_its_lengths(monkeypatch):
    monkeypatch.setenv("HH_RLHF", "/nowhere")
    hh_like.corpus.cache_clear()
    try:
        assert hh_like.source().startswith("made-up")
        prompts = hh_like.prompts(hh_like.MADE_UP + 500, seed=3)
        assert len({json.dumps(turns) for turns in prompts}) > hh_like.MADE_UP  # repeats are edited
        words = [len(text.split()) for text in hh_like.rendered(prompts)]
        assert 100 < np.mean(words) < 125 and 70 < np.median(words) < 90  # 111.9 and 78 in the release
        rows = hh_like.rankings(5, 3, seed=1)
        assert rows == hh_like.rankings(5, 3, seed=1) != hh_like.rankings(5, 3, seed=2)
        assert all(len(row.suffix) == 3 and row.reward == [1.0, 0.5, 0.0] for row in rows)
    finally:
        hh_like.corpus.cache_clear()


def test_flops_by_hand():
    """Prompt of 2, responses of 1 and 3, by loops over tokens and pairs: 2 a weight forward, twice that backward."""
    shape = Shape(layers=2, width=4, inner=16, vocabulary=10)
    per_token = 2 * 2 * (4 * 4 * 4 + 2 * 4 * 16)
    per_logit, per_pair = 2 * 10 * 4, 2 * (2 * 4 + 2 * 4)
    pairs = (1 + 2) + (2 + 1) + sum(2 + i for i in (1, 2, 3))
    assert shared_flops(shape, 2, [1, 3]) == 3 * (6 * per_token + 4 * per_logit + pairs * per_pair)
    pairs = sum(range(1, 4)) + sum(range(1, 6))
    assert separate_flops(shape, 2, [1, 3]) == 3 * (8 * per_token + 8 * per_logit + pairs * per_pair)


def test_the_shape_counted_is_the_model_that_is_run():
    from benchmarks.stand_in_models import opt_125m

    model = opt_125m()
    matrices = [p for name, p in model.model.decoder.layers.named_parameters() if p.dim() == 2]
    assert sum(p.numel() for p in matrices) == OPT_125M.body
    assert model.lm_head.weight.numel() == OPT_125M.head


@pytest.mark.parametrize("ranking_len", [1, 2, 4])
def test_all_ways_of_a_step_have_one_loss_and_gradient(tiny_causal_lm_dir, ranking_len):
    from data_preprocess.hub import load_tokenizer
    from eval_hh.inference.models import load_causal_lm
    from training.collator import RankingCollator

    folder = tiny_causal_lm_dir("opt")
    collator = RankingCollator(load_tokenizer(folder), ranking_len)
    rankings = [collator.encode(record) for record in hh_like.rankings(4, ranking_len)]
    results = []
    for way in (training_ways.separate_passes, training_ways.packed):
        for batch_size in (1, 2, 4):
            model = load_causal_lm(folder)
            loss = way(model, rankings, batch_size)
            results.append((loss, torch.cat([p.grad.flatten() for p in model.parameters()])))
    for loss, gradient in results[1:]:
        assert loss == pytest.approx(results[0][0], rel=1e-5)
        torch.testing.assert_close(gradient, results[0][1], rtol=2e-3, atol=2e-3 * float(gradient.abs().max()))


def output(name, *flags):
    done = subprocess.run([sys.executable, BENCHMARKS / "run.py", name, *flags], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_cost_of_the_grids(monkeypatch):
    """The command itself is run below, by run.py."""
    monkeypatch.setattr(study_cost, "SAMPLE", 200)
    rows, half = (study_cost.measure(study_cost.Sizes(peak=peak, utilisation=0.5)) for peak in (100.0, 200.0))
    assert [row.what for row in rows if row.unit == "GPU hours"] == [
        "OPT-1.3B, answers of 144 cells at 0.65% of 100 TFLOPS",
        "OPT-1.3B, 144 cells of 4000 steps at 50% of 100 TFLOPS",
        "LLaMA-7B, answers of 108 cells at 0.65% of 100 TFLOPS",
        "LLaMA-7B, 108 cells of 4000 steps at 50% of 100 TFLOPS",
    ]
    for row, other in zip(rows, half, strict=True):
        if "outside of steps" not in row.what:
            assert row.ours == pytest.approx(2 * other.ours if row.unit == "GPU hours" else other.ours)
    # Weights of 8 steps in bf16, two states: 44 bytes a parameter, of 1.31 billion without norms and positions.
    (disk,) = (row for row in rows if row.what == "OPT-1.3B, disk of a cell: weights of 8 steps, 2 states")
    assert (disk.unit, disk.note) == ("GB", "5.2 GB with --prune")
    assert disk.ours == pytest.approx(44 * (24 * 12 * 2048**2 + 50272 * 2048) / 1e9)


def test_the_share_outside_of_steps_by_hand():
    """A model of 1e9 parameters in 10 layers, steps of 1 PFLOP, on 8 devices of 100 TFLOPS at 50%: 2.5 s a step."""
    shape = Shape(layers=10, width=1, inner=1, vocabulary=10**9 - 60)
    sizes = study_cost.Sizes(peak=100.0, utilisation=0.5, write_rate=4.0, copy_rate=6.0)
    zero, plain = study_cost.outside_rows("X", shape, 1e15, sizes)
    # 35 dev prompts a device are three batches of 16, of 128 steps of 10 layers; 739 tokens a second at 24 layers.
    validation = 8 * 3 * 128 * 10 * 16 / 739 / 24
    assert zero.ours == pytest.approx(1 - 10_000 / (10_000 + 60 + 8 * 16 / 4 + validation))
    assert plain.ours == pytest.approx(1 - 10_000 / (10_000 + 60 + 8 * 12 / 6 + validation))
    assert len(list(study_cost.outside_rows("X", Shape(32, 4096, 11008, 32000, gated=True), 1e15, sizes))) == 1


TINY = ("--layers", "1", "--rounds", "1", "--threads", "1")


@pytest.mark.slow
def test_the_pro_step_on_tiny_sizes():
    long = ("--pass_rankings", "1", "--long_prompt", "60", "--responses", "5")
    printed = output("pro_step", *TINY, "--rankings", "2", "--ranking_len", "2", *long)
    assert printed.count("naive in batches") == printed.count("peak memory") == 1
    assert printed.count("time of a pass of 2 rankings") == printed.count("prompt of 60 tokens") == 1
    assert printed.count("PRO step, K = 5, ") == 1


@pytest.mark.slow
def test_the_scaling_of_two_processes_on_tiny_sizes():
    """It also compares the losses of one and of two processes, and ends with an error if they differ."""
    printed = output("scaling", "--layers", "1", "--width", "24", "--steps", "2", "--rankings", "2")
    assert printed.count("DDP") == printed.count("ZeRO-2") == 1


@pytest.mark.slow
def test_against_trl():
    pytest.importorskip("trl")
    printed = output("preference_trainer", "--layers", "1", "--pairs", "8")
    assert "TRL's DPOTrainer" in printed and "log-probabilities differ by" in printed


def test_run_py_names_what_fails_and_goes_on(monkeypatch, capfd):
    monkeypatch.setitem(run.BENCHMARKS, "not_there", "A benchmark that is not there")
    with pytest.raises(SystemExit) as ended:
        run.main(["--quick", "--only", "not_there", "study_cost"])
    printed = capfd.readouterr().out
    assert ended.value.code == 1
    assert "did not run: " in printed and "not_there" in printed and "GPU hours" in printed


def test_table_of_results():
    rows = [
        {"what": "a", "naive": 6.0, "ours": 1.5, "unit": "s", "target": "3x", "note": "n"},
        {"what": "b", "naive": None, "ours": 0.81, "unit": "", "target": "at least 0.7"},
    ]
    failed = run.Result([], 1.0, "0123456789ab", "trl is not installed")
    lines = run.table({"pro_step": run.Result(rows, 12.0, "0123456789ab"), "reward_scoring": failed})
    assert "| a | 6 s | 1.5 s | **4.00x** | 3x | n |" in lines
    assert "| b |  | 0.81  |  | at least 0.7 |  |" in lines and "Did not run: trl is not installed" in lines
    assert "`python benchmarks/run.py pro_step`: 12 s, at commit 012345678" in lines


def test_a_benchmark_that_failed_says_why():
    assert one_run.why_failed(1, "first\nerror: the last line\n\n") == "error: the last line"
    assert one_run.why_failed(3, "") == "exit status 3"
    assert one_run.why_failed(-9, "rounds:   0%\n") == "killed by SIGKILL (out of memory?)"
    assert one_run.why_failed(-15, "") == "killed by SIGTERM"


def test_a_full_run_goes_on_and_says_what_was_made_when(monkeypatch, tmp_path, capfd):
    made = []

    def one(name, quick, threads):
        made.append(name)
        return run.Result([{"what": name, "naive": None, "ours": len(made), "unit": "s"}], 1.0, "abc")

    monkeypatch.setattr(run, "run_one", one)
    monkeypatch.setattr(run, "RESULTS", tmp_path / "RESULTS.md")
    run.main(["--full", "--only", "reward_scoring"])
    run.main(["--full", "--only", "reward_scoring", "study_cost"])
    assert made == ["reward_scoring", "study_cost"] and "kept from an earlier run" in capfd.readouterr().out
    text = (tmp_path / "RESULTS.md").read_text()
    assert text.count(f"1 s, at commit abc, on {run.where(run.CORES)}\n") == 2
    assert "| reward_scoring |  | 1 s |" in text and "| study_cost |  | 2 s |" in text
    others = "\n## On a GPU\n\n### PRO step\n\nmade elsewhere\n\n## Diversity\n\nmade in another clone\n"
    (tmp_path / "RESULTS.md").write_text(text + others)
    run.main(["--full", "--only", "reward_scoring", "--anew"])
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| reward_scoring |  | 3 s |" in text and text.endswith(
        "\n\n## On a GPU\n\n### PRO step\n\nmade elsewhere\n"
    )
    titles = re.findall("^## (.+)", text, re.MULTILINE)
    assert titles == ["Diversity", "Reward scoring", "Cost of the paper's grids", "On a GPU"]


def test_the_readme_names_what_is_below_its_target():
    """Sections of RESULTS.md with a ratio or a share below its target are those that benchmarks/README.md explains."""
    below = set()
    for section in (BENCHMARKS / "RESULTS.md").read_text(encoding="utf-8").split("\n## ")[1:]:
        for line in section.splitlines():
            cells = [cell.strip(" *x") for cell in line.split("|")]
            if len(cells) > 5 and re.fullmatch(r"(at least )?[\d.]+", cells[5]):
                reached = cells[4] or cells[3]
                if float(reached) < float(cells[5].split()[-1]):
                    below.add(section.splitlines()[0])
    text = (BENCHMARKS / "README.md").read_text(encoding="utf-8").split("## Rows below their targets\n")[1]
    assert below == set(re.findall(r"^- \*(.+?)\*: ", text.split("\n## ")[0], re.MULTILINE))
