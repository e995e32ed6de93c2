"""plan.py: its table against slow arithmetic, its refusals, its chart, and its README's tutorial word for word."""

import json
import math
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from data_preprocess import prepare
from data_preprocess.command import InputError, run
from data_preprocess.ngrams.token_ids import packed
from eval_hh.cells import write_cell
from labelling import plan
from labelling.planning.budget import STRATIFIED, choose_prompts
from labelling.planning.plan_clusters import cluster_prompts
from tests.made_up import keep_figures, make_grid

REPOSITORY = Path(__file__).resolve().parents[1]
README, SECTION = "labelling/README.md", "## Planning a budget"
LINES = {2: (0.03, 0.30), 3: (0.02, 0.40), 4: (0.01, 0.50)}  # K -> slope, intercept of the made-up results
SCORES = {1500: 1.1, 2000: 1.6, 3000: 2.2, 6000: 3.0}  # M -> D; the pool has 0.98 to 3


@pytest.fixture
def pool(tmp_path):
    rng = random.Random(5)
    letters = [chr(number) for number in range(0x100, 0x250)]  # of two bytes, so that many bigrams are new
    rows = [{"id": str(i), "prompt": "".join(rng.choices(letters, k=rng.randint(8, 24)))} for i in range(60)]
    path = tmp_path / "pool.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def results(tmp_path, tiny_causal_lm_dir):
    """Result files whose rewards lie on LINES, but for a hundredth up and down."""
    folder = tmp_path / "results"

    def reward(algorithm, k, size, seed):
        slope, intercept = LINES[k]
        return intercept + slope * SCORES[size] + 0.01 * (-1) ** list(SCORES).index(size)

    for cell in make_grid(reward, ["PRO"]):
        cell["diversity"].update(score=SCORES[cell["num_prompts"]], tokenizer=str(tiny_causal_lm_dir("opt")))
        write_cell(folder / f"{cell['exp']}.json", cell)
    return folder


def d_of(tokenizer, texts):
    found = []
    for text in texts:
        ids = [tokenizer.bos_token_id, *tokenizer.encode(f"\n\nHuman: {text}\n\nAssistant:", add_special_tokens=False)]
        found += zip(ids, ids[1:], strict=False)
    return math.sqrt(len(texts)) * len(set(found)) / len(found)


def test_the_table_by_slow_arithmetic(pool, results, byte_tokenizer, capsys, tmp_path):
    output = tmp_path / "to_label.jsonl"
    plan.main([*map(str, [pool, "--responses", 48, "--results", results, "--output", output, "--select", "max_d"])])
    printed = capsys.readouterr().out
    texts = [json.loads(line)["prompt"] for line in pool.read_text().splitlines()]
    shuffled = list(texts)
    random.Random(42).shuffle(shuffled)
    chosen = {}
    for k, size in ((2, 24), (3, 16), (4, 12)):
        row = re.search(rf"^{k} +{size} +48 +([\d.]+)  ([\d.]+) \(.*?\) +([\d.]+)  ([\d.]+) \(", printed, re.MULTILINE)
        at_random, random_reward, selected, reward = map(float, row.groups())
        assert at_random == pytest.approx(d_of(byte_tokenizer, shuffled[:size]), abs=0.006)
        assert selected > at_random
        slope, intercept = LINES[k]
        # What is a hundredth off the lines in turn moves them by less than that.
        assert random_reward == pytest.approx(100 * (intercept + slope * at_random), abs=1)
        assert reward == pytest.approx(100 * (intercept + slope * selected), abs=1)
        chosen[k] = selected
    written = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(written) == 12 and "recommended: K = 4, M = 12" in printed
    found = [row["prompt"][0]["content"] for row in written]
    assert len(set(found)) == 12 and set(found) <= set(texts)
    assert [texts.index(text) for text in found] == [int(row["id"]) for row in written]
    assert d_of(byte_tokenizer, found) == pytest.approx(chosen[4], abs=0.006)
    # Answers come back by id, as prepare.py joins them.
    answers = tmp_path / "answers.jsonl"
    with open(answers, "w") as file:
        for row in written:
            for rank in range(4):
                file.write(json.dumps({"id": row["id"], "response": f"answer {rank}", "rank": rank}) + "\n")
    prepare.main(["--source", str(output), "--join", str(answers), "--dev_rows", "0"])
    assert (tmp_path / "data" / "original" / "hh_train_len4" / "train.json").read_text().count("\n") == 12


def planned(capsys, *words):
    """What plan.py prints."""
    plan.main([str(word) for word in words])
    return capsys.readouterr().out


def test_money_and_what_it_does_not_pay_for(pool, results, capsys):
    costs = ["--budget", "7.5", "--prompt_cost", "0.5", "--response_cost", "1", "--comparison_cost", "0.5"]
    printed = planned(capsys, pool, *costs, "--results", results, "--extrapolate")
    assert re.search(r"^2 +2 +6\.0 ", printed, re.MULTILINE) and re.search(r"^3 +1 +5\.0 ", printed, re.MULTILINE)
    assert re.search(r"^4 +1 +7\.5 ", printed, re.MULTILINE)  # 0.5 + 4 + 6 * 0.5
    costs[1] = "7.4"
    assert re.search(r"^4 +0 +0\.?0* +unaffordable: one prompt costs 7\.5$", planned(capsys, pool, *costs, "--results",
                     results, "--extrapolate"), re.MULTILINE)  # fmt: skip
    printed = planned(capsys, pool, *costs, "--comparisons", 3, "--results", results, "--extrapolate")
    assert re.search(r"^4 +1 +6\.0 ", printed, re.MULTILINE)


def test_a_split_of_ones_own_choice(pool, results, capsys, tmp_path):
    output = tmp_path / "out.jsonl"
    words = [pool, "--responses", 48, "--results", results, "--output", output, "--ranking_len", 2]
    printed = planned(capsys, *words, "--select", "random")
    assert len(output.read_text().splitlines()) == 24 and "to be given 2 responses each" in printed
    assert "recommended: K = 4" in printed and "edge" not in printed  # the K taken was not recommended


def test_beyond_the_law_nothing_is_predicted(pool, results, capsys, tmp_path):
    """A prompt by itself has a D below 1."""
    output = tmp_path / "out.jsonl"
    words = [pool, "--responses", 2, "--results", results, "--output", output]
    with pytest.raises(InputError, match=r"no prediction, D is outside .* .K = 2: 0.9[0-9] is below 1.10;"):
        planned(capsys, *words)
    printed = capsys.readouterr().out
    assert "recommended: none, D is outside the fitted range" in printed
    assert "unaffordable: one prompt costs 3" in printed
    assert not output.exists()
    printed = planned(capsys, *words, "--extrapolate")
    assert "* extrapolated: D is outside the fitted range." in printed and output.exists()


@pytest.mark.parametrize(
    "words, message",
    [
        (["--responses", 1], r"a budget of 1 does not cover a single prompt at K = 2, 3, 4 .expected 2 or more."),
        (["--responses", 0], r"--responses 0: expected a number above zero"),
        ([], r"--responses or --budget: give one of them"),
        (["--responses", 9, "--budget", 9], r"--responses or --budget: give one of them"),
        (["--responses", 9, "--response_cost", 1], r"--response_cost applies to --budget"),
        (["--budget", 9], r"--budget: needs a cost"),
        (["--budget", 9, "--response_cost", 0], r"--response_cost 0: expected a number above zero"),
        (["--budget", 9, "--response_cost", -1], r"--response_cost -1: expected a number above zero"),
        (["--budget", 9, "--response_cost", "much"], r"--response_cost much: expected a number above zero"),
        (["--budget", "nan", "--response_cost", 1], r"--budget nan: expected a number above zero"),
        (["--budget", 9, "--response_cost", 1, "--comparisons", 2], r"--comparisons: 2 .*--comparison_cost"),
        (["--responses", 48, "--ranking_len", 5], r"--ranking_len: 5 .expected one that has a line: 2, 3, 4."),
        (
            ["--responses", 3, "--ranking_len", 4],
            r"--ranking_len: the budget does not cover a single prompt with 4 responses",
        ),
        (["--responses", 48, "--law", "paper-pro"], r"--law, .*: --law and --results .expected one of them"),
        (["--responses", 48, "--labelled", "a.jsonl"], r"--labelled: does not apply to --results"),
        (["--responses", 48, "--study", "a.yaml"], r"--study: does not apply to --results"),
        (["--responses", 48, "--tokenizer", "{other}"], r"--tokenizer: .* D was counted with .*--trust_tokenizer"),
    ],
)
def test_bad_flags_end_in_one_line(words, message, pool, results, tiny_causal_lm_dir, capsys, tmp_path):
    words = [str(word).format(other=tiny_causal_lm_dir("llama")) for word in words]
    output = tmp_path / "out.jsonl"
    assert re.search(message, refusal(capsys, pool, "--results", results, "--output", output, *words))
    assert not output.exists()


def refusal(capsys, *words):
    capsys.readouterr()  # what building the models printed
    with pytest.raises(SystemExit) as ended:
        run(lambda: plan.main([str(word) for word in words]))
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1, error
    return error


def test_bad_pools_and_laws_end_in_one_line(pool, results, capsys, tmp_path):
    good = [pool, "--responses", 48]
    assert "missing.jsonl: no such file" in refusal(capsys, tmp_path / "missing.jsonl", *good[1:], "--results", results)
    absent = refusal(capsys, *good, "--results", tmp_path / "absent")
    assert "absent: no such file or folder of results" in absent
    (tmp_path / "empty").mkdir()
    assert "empty: no result file to fit lines on" in refusal(capsys, *good, "--results", tmp_path / "empty")
    assert "does not apply to --law" in refusal(capsys, *good, "--law", "paper-sft", "--algorithm", "SFT")
    copies = tmp_path / "copies.jsonl"
    copies.write_text(pool.read_text() + pool.read_text().splitlines()[3] + "\n")
    assert "line 61 (as 4)" in refusal(capsys, copies, *good[1:], "--results", results)
    assert "60 prompts" in planned(capsys, copies, *good[1:], "--results", results, "--drop_duplicates")


def test_the_papers_law_wants_llamas_tokenizer(pool, tiny_causal_lm_dir, capsys):
    words = [pool, "--responses", 48, "--law", "paper-pro", "--tokenizer", tiny_causal_lm_dir("opt")]
    assert "D was counted with LLaMA's" in refusal(capsys, *words)
    assert "the paper's PRO lines" in planned(capsys, *words, "--trust_tokenizer", "--extrapolate")


def test_warnings_that_the_case_needs(pool, results, capsys, tiny_causal_lm_dir):
    """Each in one case that needs it and one that does not."""
    plain = planned(capsys, pool, "--responses", 48, "--results", results)
    assert "how far they carry over is not in the intervals" in plain
    assert "warning: K = 4 is the largest K compared" in plain and "max_d" not in plain
    assert "is left" not in plain and "higher for that reason" not in plain and "cannot be compared" not in plain
    much = planned(capsys, pool, "--responses", 180, "--results", results, "--extrapolate")
    assert re.search(r"warning: K = 2: the pool's 60 prompts cost 120, and 60 of the budget is left", much)
    assert "warning: K = 3:" not in much  # 60 prompts with three responses cost all of it
    selected = planned(capsys, pool, "--responses", 48, "--results", results, "--select", "max_d")
    quoted = re.search(r"warning: max_d against as many random prompts in our small study, in points: (.*)", selected)[
        1
    ]
    # The rows of eval_hh/results/toy/report.md.
    assert "PRO K=2 +2.06 (-1.72 to +5.85)" in quoted and "no difference from random is beyond chance" in quoted
    other = tiny_causal_lm_dir("llama")
    trusted = [
        pool,
        "--responses",
        48,
        "--results",
        results,
        "--tokenizer",
        other,
        "--trust_tokenizer",
        "--extrapolate",
    ]
    assert "D of two tokenizers cannot be compared" in planned(capsys, *trusted)


def test_prompts_of_another_length_than_the_lines_are_named(pool, capsys, tiny_causal_lm_dir):
    """HH-RLHF's have 165 tokens; these have about 60 bytes, and a byte each."""
    words = [pool, "--responses", 48, "--law", "paper-pro", "--tokenizer", tiny_causal_lm_dir("opt")]
    printed = planned(capsys, *words, "--trust_tokenizer", "--extrapolate")
    assert re.search(
        r"warning: the pool's prompts have \d+ tokens in the mean, those of the lines 165: .* higher", printed
    )


def test_stratified_prompts_have_each_clusters_share():
    """Two kinds of prompt without a word in common, 75 and 25: any number drawn has three quarters of the first."""
    rng = random.Random(2)
    pool = [[rng.randrange(20) + 100 * (i % 4 == 0) for _ in range(12)] for i in range(100)]
    for size in (4, 20, 60):
        indices = choose_prompts(packed(pool), [size], STRATIFIED)[size].indices
        assert len(set(indices)) == size and sum(i % 4 == 0 for i in indices) == size // 4
    assert len(set(cluster_prompts(packed(pool), 42))) == 4
    assert set(cluster_prompts(packed(pool[:49]), 42)) == {"0"}  # too small a pool to be divided


def test_prompts_alike_in_the_tokens_that_are_read_are_one_cluster(capsys):
    assert set(cluster_prompts(packed([[1, 2, 3]] * 60), 42)) == {"0"}
    assert "warning: the prompts do not differ in the tokens that are read" in capsys.readouterr().err
    assert set(cluster_prompts(packed([[1, 2, 3]] * 59 + [[1, 2, 4]]), 42)) == {"0", "1"}
    assert capsys.readouterr().err == ""


def test_the_chart_shows_random_prompts_and_this_plan(pool, results, capsys, tmp_path, monkeypatch):
    drawn = keep_figures(monkeypatch)
    words = [pool, "--responses", 48, "--results", results, "--select", "random"]
    printed = planned(capsys, *words, "--chart", tmp_path / "plan.png")
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
    axes = drawn[0].axes[0]
    assert axes.get_xlabel() == "budget (labelled responses)"
    line = axes.lines[0].get_xydata()  # K = 2, inside the law's range
    at_48 = line[line[:, 0] == 48][0]
    expected = float(re.search(r"^2 +24 +48 +[\d.]+  ([\d.]+)", printed, re.MULTILINE)[1])
    assert at_48[1] == pytest.approx(expected, abs=0.051)
    marks = [bars.lines[0].get_ydata()[0] for bars in axes.containers]
    assert len(marks) == 3 and marks == sorted(marks)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [f"K = {k} responses" for k in (2, 3, 4)]


def readme_blocks():
    """The tutorial's blocks: commands, what they print, the refused command, what it prints."""
    section = (REPOSITORY / README).read_text(encoding="utf-8").split(SECTION + "\n")[1].split("\n### ")[0]
    return re.findall(r"^```(?:sh)?\n(.*?)^```$", section, flags=re.DOTALL | re.MULTILINE)


def test_the_readmes_tutorial(shared, tmp_path):
    """Word for word, but for the data's and the output's place; what is printed is printed there, too."""
    commands, printed, refused, error = readme_blocks()
    assert commands.count("/path/to/shared/data") == commands.count('"$PWD/runs/next"') == 1
    commands = commands.replace("/path/to/shared/data", str(shared / "data"))
    commands = commands.replace('"$PWD/runs/next"', f"'{tmp_path}'").replace(". .venv/bin/activate\n", "")
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
    shell = ["bash", "-eu", "-c"]
    done = subprocess.run([*shell, commands], cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert printed in done.stdout.replace(str(tmp_path), "$STUDY_ROOT").replace(str(shared / "data"), "$DATA")
    written = [json.loads(line) for line in (tmp_path / "to_label.jsonl").read_text().splitlines()]
    assert len(written) == len({row["id"] for row in written}) == 1500
    assert (tmp_path / "plan.png").is_file()
    setting = commands.split("python prepare.py")[0] + "cd ../labelling\n"
    done = subprocess.run([*shell, setting + refused], cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == error
