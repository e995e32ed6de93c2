"""study/study_file.py: what a study file becomes, and what is refused before anything runs."""

import json
import re
import shutil
from dataclasses import fields
from pathlib import Path

import pytest

import reproduce
from data_preprocess.command import InputError
from data_preprocess.toy_world.world import WorldConfig
from study.running.launched_study import LaunchedStudy
from study.slurm import Cluster
from study.study_file import PROFILES, GridSection, Rewards, StudyFile, built_in, profile_names, read_study

MINE = """\
name: mine
model: owner/model
grid:
  sizes: [240, 120]
  ranking_lens: [2, 4]
  replicates: 3
"""


def read(tmp_path, text: str):
    path = tmp_path / "my study.yaml"
    path.write_text(text, encoding="utf-8")
    return read_study(path, ("--study", str(path)))


def test_the_profiles_are_study_files():
    assert profile_names() == ["llama-7b", "opt-1.3b", "smollm2", "smollm2-gpu", "toy"]
    assert {path.name for path in PROFILES.iterdir()} == {f"{name}.yaml" for name in profile_names()}
    toy, opt, llama = built_in("toy"), built_in("opt-1.3b"), built_in("llama-7b")
    assert toy.world == WorldConfig() and toy.replicates == ((42, 42),)
    assert opt.replicates == llama.replicates == ((42, 42), (42, 43), (42, 44))  # seeds of the published draw
    assert (opt.model, opt.launcher, llama.launcher) == ("facebook/opt-1.3b", "1b3", "7b")
    assert opt.train_flags == () and opt.train_environment == {}  # the launchers' defaults


def test_every_section_reaches_its_command(tmp_path):
    for name in ("data", "rm"):
        (tmp_path / name).mkdir()
    study = read(tmp_path, MINE + """\
experiments: [strategies]
tokenizer: ./rm
rewards: {dev: rm, test: owner/rm}
prepare:
  source: data
  dev_rows: 5
  responses_from: [good, bad]
  decontaminate: yes
training:
  learning_rate: 2e-5
  append_eos: false
  max_train_steps: 7
generation: {max_new_tokens: 32, batch_size: 3}
machine: {num_processes: 7, batch_size: 4, zero_stage: 2, mixed_precision: bf16}
""")  # fmt: skip
    cell = reproduce.cells_of(study.grid, study.replicates)[0]
    prepare, split, sample = study.data_calls([cell])
    own = ("STUDY_ROOT", str(study.root))
    assert study.root == tmp_path / "runs" / "mine" and prepare.environment == (own,)
    assert prepare.words == (
        "python", "prepare.py", "--source", str(tmp_path / "data"), "--dev_rows", "5", "--responses_from", "good",
        "bad", "--decontaminate", "--ranking_len", "4",
    )  # fmt: skip
    assert split.words == ("python", "split.py")
    assert sample.words[-2:] == ("--tokenizer", str(tmp_path / "rm"))
    train, test = study.calls(cell)
    assert train.words[:3] == ("sh", "train_hh_pro_1b3.sh", "owner/model")
    flags = "--max_new_tokens 32 --learning_rate 2e-5 --no_append_eos --max_train_steps 7"
    assert " ".join(train.words).endswith(f"pro_len4_240_seed42 hh_train_len4_240 4 42 {flags}")
    limits = {"NUM_PROCESSES": "7", "BATCH_SIZE": "4", "ZERO_STAGE": "2", "MIXED_PRECISION": "bf16"}
    assert dict(train.environment) == {own[0]: own[1], **limits, "DEV_REWARD_MODEL": str(tmp_path / "rm")}
    rest = {"BATCH_SIZE": "3", "TEST_REWARD_MODEL": "owner/rm", "PROFILE": "mine"}
    assert dict(test.environment) == {own[0]: own[1], **limits, **rest}
    assert test.words[-2:] == ("--max_new_tokens", "32") and study.experiments == ("strategies",)


def test_rankings_of_another_length_are_cut_from_it(tmp_path):
    study = read(tmp_path, MINE.replace("[2, 4]", "[2, 5]"))
    cells = reproduce.cells_of(study.grid, study.replicates[:1])
    assert [" ".join(call.words[1:]) for call in study.data_calls(cells)] == [
        "split.py --ranking_len 5", "sample.py 5 2 --sizes 240 120 --tokenizer owner/model",
    ]  # fmt: skip
    study = read(tmp_path, MINE.replace("[2, 4]", "[2]"))
    assert len(study.data_calls(cells)) == 1  # pairs need no cut
    assert study.rankings.parent.name == "hh_train_len2"


def test_a_study_of_the_embedded_world(tmp_path):
    study = read(tmp_path, """\
name: noisy
world: {annotator_noise: 4, train_rows: 500}
grid: {sizes: [60, 120], seeds: [1, 2]}
training: {max_train_steps: 3}
generation: {max_new_tokens: 9}
""")  # fmt: skip
    assert study.world == WorldConfig(annotator_noise=4.0, train_rows=500)
    assert study.replicates == ((42, 1), (42, 2)) and study.train == ("--max_train_steps", "3")
    assert study.root().name.startswith("noisy-") and study.root() != built_in("toy").root()


# (text, line, what the message says)
REFUSED = [
    ("", 0, "is empty"),
    ("- a\n", 1, "a study file: expected keys with values"),
    ("name: [\n", 2, "not valid YAML"),
    ("a: b: c\n", 1, "not valid YAML"),
    (MINE + "\tx: 1\n", 7, "not valid YAML"),
    (MINE + "modle: x\n", 7, "modle: unknown (expected one of name, "),
    (MINE + "name: again\n", 7, "name: given twice"),
    (MINE.replace("name: mine\n", ""), 1, "name: missing"),
    (MINE.replace("model: owner/model\n", ""), 1, "model: missing"),
    (MINE.replace("owner/model", "./nowhere"), 2, "model ./nowhere: no such file or folder"),
    (MINE.replace("mine", "a/b"), 1, "name 'a/b': expected a name"),
    (MINE.replace("mine", ""), 1, "name: expected a text"),
    (MINE.replace("[240, 120]", "[240, many]"), 4, "grid.sizes 'many': expected a whole number"),
    (MINE.replace("[240, 120]", "[240, 0]"), 4, "grid.sizes 0: expected"),
    (MINE.replace("[240, 120]", "[240, 240]"), 4, "grid.sizes 240 240: expected each once"),
    (MINE.replace("[240, 120]", "[]"), 4, "grid.sizes: expected at least one"),
    (MINE.replace("[240, 120]", "{a: 1}"), 4, "grid.sizes: expected a whole number"),
    (MINE.replace("  sizes: [240, 120]\n", ""), 4, "grid.sizes: missing"),
    (MINE.replace("[2, 4]", "[1, 4]"), 5, "grid.ranking_lens 1: expected"),
    (MINE + "  seeds: [1]\n", 7, "grid.seeds and grid.replicates: give one of them"),
    (MINE.replace("240, 120", "240, 100") + "  equal_budget: true\n", 7, "grid.equal_budget: expected sizes N and N/2"),
    (MINE + "  algorithms: [DPO]\n", 7, "grid.algorithms 'DPO': expected one of PRO, SFT"),
    (MINE + "experiments: [augment]\n", 7, "experiments augment: only with world:"),
    (MINE + "experiments: [more]\n", 7, "experiments 'more': expected one of"),
    (MINE + "world: {}\n", 2, "model: not a key of a study with world:"),
    ("name: w\nworld: {}\ngrid: {sizes: [60]}\nfolder: here\n", 4, "folder: not a key of a study with world:"),
    ("name: w\nworld: {}\ngrid: {sizes: [60]}\ntokenizer: a/b\n", 4, "tokenizer: not a key of a study with world:"),
    ("name: w\nworld: {}\ngrid: {sizes: [60]}\nlauncher: 7b\n", 4, "launcher: not a key of a study with world:"),
    ("name: w\nworld: {}\ngrid: {sizes: [60]}\ncompare_paper: yes\n", 4, "compare_paper: not a key of a study with"),
    (MINE + "train_reward: {max_steps: 3}\n", 7, "train_reward: not a key of a study without world:"),
    (MINE + "training: {learning_rate: fast}\n", 7, "training.learning_rate 'fast': expected a number"),
    (MINE + "training: {learning_rate: nan}\n", 7, "training.learning_rate nan: expected"),
    (MINE + "training:\n  max_steps: 3\n", 8, "training.max_steps: unknown (expected a flag of this command"),
    (MINE + "training:\n  seed: 3\n", 8, "training.seed: set by the study itself"),
    (MINE + "training:\n  block_size: 10\n  max_prompt: 20\n", 9, "training.max_prompt 20: expected"),
    (MINE + "prepare: {source: a/b, raw: a/b}\n", 7, "give one of them"),
    (MINE + "prepare: {source: a/b}\nannotate: {source: a/b, reward_model: a/b}\n", 8, "annotate and prepare: give"),
    (MINE + "annotate: {source: a/b}\n", 7, "annotate.reward_model: missing"),
    (MINE + "prepare: {source: /no/where.jsonl}\n", 7, "prepare.source /no/where.jsonl: no such file or folder"),
    (MINE + "machine: {num_processes: 5}\n", 7, "machine: NUM_PROCESSES 5 does not divide"),
    (MINE + "machine: {zero_stage: 1}\n", 7, "machine.zero_stage '1': expected one of 0, 2, 3"),
    (MINE + "machine: fast\n", 7, "machine: expected keys with values"),
    (MINE + "compare_paper: maybe\n", 7, "compare_paper 'maybe': expected true or false"),
    (MINE + "folder: ../elsewhere\n", 7, "folder ../elsewhere: expected a folder under STUDY_ROOT"),
    (MINE + 'title: "\\U00110000"\n', 0, "not valid YAML"),
    (MINE + "tokenizer: ~nosuchuser/x\n", 7, "tokenizer ~nosuchuser/x: no such file or folder"),
    ("[" * 3000, 0, "not valid YAML (maximum recursion depth"),
    ("%YAML 1." + "1" * 5000 + "\n---\n" + MINE, 0, "not valid YAML (Exceeds the limit"),
    (MINE.replace("owner/model", "a" * 300), 2, "no such file or folder"),
    (MINE + 'title: "a\\ud800b"\n', 7, "title 'a\\ud800b': holds the character '\\ud800' (expected one line"),
    (MINE.replace("owner/model", '"a\\0"'), 2, "model 'a\\x00': holds the character '\\x00'"),
    (MINE + 'folder: "a\\nb"\n', 7, "folder 'a\\nb': holds the character '\\n'"),
    (MINE + 'cluster: {setup: "a\\0b"}\n', 7, "cluster.setup 'a\\x00b': holds the character '\\x00' (expected lines"),
    (MINE.replace("mine", "-x"), 1, "name '-x': expected a name"),
    (MINE.replace("[2, 4]", "[3]") + "  equal_budget: true\n", 7, "grid.equal_budget: ranking_lens 3: expected two"),
    ("name: w\nworld: {train_rows: 50}\ngrid: {sizes: [60]}\n", 3, "grid.sizes 60: expected"),
    ("name: w\nworld: {base_slip: 2}\ngrid: {sizes: [60]}\n", 2, "world.base_slip 2.0: expected"),
    ("name: w\nworld: {noise: 2}\ngrid: {sizes: [60]}\n", 2, "world.noise: unknown"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "said"), REFUSED, ids=[said for *_, said in REFUSED])
def test_a_mistake_is_named_with_its_line(tmp_path, text, line, said):
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    where = str(tmp_path / "my study.yaml") + (f":{line}" if line else "")
    assert str(caught.value).startswith(f"{where}: ") and said in str(caught.value), caught.value
    assert "--" not in str(caught.value).replace(str(tmp_path), "")  # keys, not flags
    assert {path.name for path in tmp_path.iterdir()} == {"my study.yaml"}


def test_texts_of_several_lines(tmp_path):
    blocks = "title: >\n  two\n  lines\ncluster:\n  setup: |\n    module load a\n    module load b\n"
    study = read(tmp_path, MINE + blocks)
    assert (study.title, study.cluster.setup) == ("two lines", "module load a\nmodule load b\n")


def test_sizes_that_have_no_equal_budget_are_refused(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(MINE + "  equal_budget: true\n", encoding="utf-8")
    with pytest.raises(InputError, match="^--sizes 12 8: expected sizes N and N/2"):
        reproduce.parse_args(["--study", str(path), "--sizes", "12", "8"])
    _, study = reproduce.parse_args(["--study", str(path), "--sizes", "12", "6"])
    assert study.grid.sizes == (12, 6)


SHORTER = "warning: training generates 4 new tokens to choose a checkpoint, the test "


def test_checkpoints_chosen_by_other_answers_are_told(tmp_path, capsys):
    for flags, told in ((["--max_new_tokens", "4"], True), (["--max_new_tokens", "128"], False), ([], False)):
        reproduce.main(["--profile", "opt-1.3b", "--dry_run", "--only", "pro_len4_3000_seed42", "--", *flags])
        assert (f"{SHORTER}128" in capsys.readouterr().err) == told
    study = tmp_path / "s.yaml"
    for tokens, told in ((5, True), (4, False)):
        study.write_text(MINE + f"training: {{max_new_tokens: 4}}\ngeneration: {{max_new_tokens: {tokens}}}\n")
        (tmp_path / "mine").mkdir(exist_ok=True)
        reproduce.main(["--study", str(study), "--slurm", str(tmp_path / "job.sh")])
        assert (f"{SHORTER}5" in capsys.readouterr().err) == told


def test_jobs_find_the_reward_models_where_the_script_was_written(tmp_path, monkeypatch):
    (tmp_path / "rm").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEST_REWARD_MODEL", "rm")
    monkeypatch.delenv("DEV_REWARD_MODEL", raising=False)
    reproduce.main(["--profile", "opt-1.3b", "--slurm", str(tmp_path / "job.sh")])
    text = (tmp_path / "job.sh").read_text()
    assert f"export TEST_REWARD_MODEL={tmp_path}/rm\n" in text and "DEV_REWARD_MODEL" not in text


def test_flags_after_two_hyphens_are_read_with_the_studys_own(tmp_path):
    """By itself --block_size 200 contradicts the default of --max_prompt; the study has a smaller one."""
    reproduce.main(["--profile", "toy", "--slurm", str(tmp_path / "job.sh"), "--", "--block_size", "200"])
    assert "flags=(-- --block_size 200)" in (tmp_path / "job.sh").read_text()


@pytest.mark.parametrize("flag", ["--dry_run", "--publish"])
def test_jobs_have_no_flags_of_a_run_alone(tmp_path, flag):
    with pytest.raises(InputError, match=f"^--slurm and {flag}: give one of them"):
        reproduce.parse_args(["--profile", "opt-1.3b", "--slurm", str(tmp_path / "job.sh"), flag])


def test_a_path_on_the_command_line_is_relative_to_where_it_is_typed(tmp_path, monkeypatch):
    """The commands run in training/ and eval_hh/."""
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLaMA_path", "./model")
    flags = ["--profile", "llama-7b"]
    assert reproduce.parse_args(flags)[1].model == str(tmp_path / "model")
    for name, expected in (("model", tmp_path / "model"), ("./none", tmp_path / "none"), ("owner/x", "owner/x")):
        _, study = reproduce.parse_args([*flags, "--model", name, "--tokenizer", name])
        assert (study.model, study.tokenizer) == (str(expected), str(expected))
    monkeypatch.setenv("DEV_REWARD_MODEL", "./none")
    with pytest.raises(InputError, match=f"^{tmp_path}/none: no such file or folder"):
        reproduce.main([*flags, "--part", "data"])


def test_a_foreign_report_ends_a_study_before_its_work(tmp_path):
    """tmp_path is STUDY_ROOT here (conftest.py)."""
    folder = tmp_path / "runs" / "opt-1.3b"
    folder.mkdir(parents=True)
    for name in ("report.md", "table1.tex", "report.html"):
        (folder / name).write_text("mine\n")
        with pytest.raises(InputError, match=f"{name}: was not written by this command"):
            reproduce.main(["--profile", "opt-1.3b", "--only", "pro_len4_3000_seed42"])
        assert (folder / name).read_text() == "mine\n"
        (folder / name).unlink()


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_study(tmp_path / "none.yaml", ())
    (tmp_path / "bytes.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(InputError, match=r"bytes\.yaml: not UTF-8 text"):
        read_study(tmp_path / "bytes.yaml", ())
    for flags in ([], ["--profile", "toy", "--study", "x.yaml"]):
        with pytest.raises(InputError, match="--profile or --study: give one of them"):
            reproduce.parse_args(flags)


def test_flags_change_a_study_file(tmp_path, capsys):
    path = tmp_path / "my.yaml"
    path.write_text(MINE, encoding="utf-8")
    flags = ["--study", str(path), "--sizes", "8", "--replicates", "1", "--model", "other", "--dry_run"]
    reproduce.main([*flags, "--", "--max_train_steps", "4"])
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert len(lines) == 2 + 2 * 4 + 3  # data, rows, cells
    assert lines[2].endswith("PROFILE=mine sh eval.sh --model other base)")
    assert lines[3].endswith("PROFILE=mine sh eval.sh --worst_responses floor)")
    assert lines[4].endswith("PROFILE=mine sh eval.sh --best_responses ceiling)")
    assert all(re.search(r"\.sh other .*hh_train_len\d_8 .*--max_train_steps 4", line)
               for line in said.out.splitlines() if "training" in line)  # fmt: skip
    assert said.err.startswith("plan: 4 cells; cost not known")
    job = tmp_path / "job.sh"
    reproduce.main(["--study", str(path), "--slurm", str(job)])
    assert f"reproduce.py --study {path} --model " in job.read_text()
    with pytest.raises(InputError, match=r"--worlds: not a flag of --study"):
        reproduce.parse_args(["--study", str(path), "--worlds"])


def test_the_cost_of_a_plan_is_that_of_its_steps(tmp_path, tiny_causal_lm_dir):
    """Against a sum over every ranking, with one token a word."""
    from study.cost import Cost, cell_costs
    from tests.test_commands import rankings
    from training.collator import RankingCollator
    from training.flops import CountedWeights, answer_flops, score_flops, shared_flops, weights_of

    model = tiny_causal_lm_dir("llama")
    study = read(
        tmp_path, MINE.replace("owner/model", str(model)) + "training: {max_train_steps: 5, global_batch_size: 6}"
    )
    assert isinstance(study, LaunchedStudy)
    rankings(study.rankings, 12)
    cells = reproduce.cells_of(study.grid, study.replicates[:1])
    for name, rows in (("hh_dev/sampled_dev", 3), ("hh_test/a", 4)):
        rankings(study.root / "data" / f"{name}.json", rows)
    cost = sum(cell_costs(study, cells).values(), Cost())
    assert cost.steps == 5 * len(cells) == 5 * 8
    from transformers import AutoConfig, AutoModelForCausalLM

    from data_preprocess.hub import load_tokenizer
    from data_preprocess.records import load_records

    loaded = AutoModelForCausalLM.from_pretrained(model)
    body = sum(weight.numel() for name, weight in loaded.named_parameters() if "layers" in name and weight.ndim == 2)
    config = loaded.config
    head = config.vocab_size * config.hidden_size
    weights = CountedWeights(body, head, config.num_hidden_layers, config.hidden_size)
    assert weights_of(AutoConfig.from_pretrained(model)) == weights
    records, tokens, operations = load_records(study.rankings), 0.0, 0.0
    for stage, count in ((4, 2), (2, 2), (1, 4)):
        encoded = [RankingCollator(load_tokenizer(model), stage).encode(record) for record in records]
        tokens += count * 30 * sum(len(one) for one in encoded) / len(encoded)
        each = [shared_flops(weights, len(one.prompt), [len(s) for s in one.segments]) for one in encoded]
        operations += count * 30 * sum(each) / len(each)
    assert cost.tokens == pytest.approx(tokens) and cost.operations == pytest.approx(operations)
    # 5 steps with one checkpoint: 3 dev and 4 test answers, scored by a model taken to be as large.
    prompt, most = round(sum(len(one.prompt) for one in encoded) / len(encoded)), 128
    each = answer_flops(weights, prompt, most) + score_flops(weights, prompt + most)
    assert cost.answers == 8 * (3 + 4) and cost.answer_operations == pytest.approx(8 * 7 * each)
    # The launchers' bf16 with ZeRO-2: weights of 2 bytes, and a state with float32 weights and two moments as well.
    parameters = sum(weight.numel() for weight in loaded.parameters())
    assert (cost.disk, cost.disk_pruned) == (8 * parameters * (2 + 14), 8 * parameters * 2)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda config: {}, lambda config: [1], lambda config: config | {"model_type": "none"},
        lambda config: config | {"hidden_size": "x"}, lambda config: config | {"num_attention_heads": 0},
    ],
)  # fmt: skip
def test_the_cost_of_a_damaged_model_is_not_known(tmp_path, tiny_causal_lm_dir, spoil):
    from study.cost import cost_lines, reward_weights
    from tests.test_commands import rankings

    shutil.copytree(tiny_causal_lm_dir("opt"), tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps(spoil(json.loads(config.read_text()))))
    study = read(tmp_path, MINE.replace("owner/model", "./model") + "rewards: {test: ./model}\n")
    rankings(study.rankings, 2)
    (line,) = cost_lines(study, reproduce.cells_of(study.grid, study.replicates[:1]), None)
    assert f"cost not known ({tmp_path}/model: the model cannot be loaded (" in line and "\n" not in line
    assert reward_weights(study) is None


def test_a_damaged_log_of_a_finished_cell_is_not_measured(tmp_path):
    from study.cost import measured_cells, measured_rate
    from study.grid import Cell

    study, cell = read(tmp_path, MINE), Cell("PRO", 2, 8, seed=1)
    metrics = study.root / "logs" / cell.exp / "2" / "metrics.jsonl"
    for path in (metrics, study.result(cell), study.log(cell.exp)):
        path.parent.mkdir(parents=True, exist_ok=True)
    study.result(cell).write_text("{}")
    good = '{"step": 1, "tokens_per_second": 5, "seconds": 2}\n'
    for row, took, found in (
        (good, "took: 3.0 s\n", 1), (good, "took: 1.2.3 s\n", 0), (good, "took: 0.0 s\n", 0),
        ('{"step": 1, "tokens_per_second": 5}\n', "took: 3.0 s\n", 0),
        ('{"step": 1, "tokens_per_second": 0, "seconds": 2}\n', "took: 3.0 s\n", 0),
    ):  # fmt: skip
        metrics.write_text(row)
        study.log(cell.exp).write_text(took)
        assert len(measured_cells(study, [cell])) == found, (row, took)
    assert measured_rate(study) == (0.0, 0)


def test_an_estimate_is_checked_against_finished_cells(tmp_path):
    """Three cells of 800 tokens, at 100, 200 and 100 tokens a second and with a second outside of steps."""
    from study.cost import Cost, check_lines, estimate_over_time, measured_cells
    from study.grid import Cell

    study = read(tmp_path, MINE)
    cells = [Cell("PRO", 2, 8, seed=seed) for seed in (1, 2, 3, 4)]
    for cell, speed in zip(cells, (100.0, 200.0, 100.0), strict=False):
        rows = [{"step": step, "tokens_per_second": speed, "seconds": 400 / speed} for step in (1, 2)]
        metrics = study.root / "logs" / cell.exp / "2" / "metrics.jsonl"
        for path in (metrics, study.result(cell), study.log(cell.exp)):
            path.parent.mkdir(parents=True, exist_ok=True)
        metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
        study.result(cell).write_text("{}")
        study.log(cell.exp).write_text(f"took: {800 / speed} s\nother\ntook: 1.0 s\n")
    found = measured_cells(study, cells)
    assert [each.outside for each in found.values()] == [1.0] * 3 and list(found) == cells[:3]
    ratios = estimate_over_time({cell: Cost(tokens=800) for cell in cells}, found)
    assert ratios == pytest.approx([(800 / 150 + 1) / 9, 9 / 5, (800 / 150 + 1) / 9])
    (line,) = check_lines(ratios)
    assert line == "checked: the 3 finished cells, each estimated from the others, give 0.70 to 1.80 of what they took"
    assert check_lines([]) == estimate_over_time({}, {cells[0]: found[cells[0]]}) == []


def test_operations_of_an_answer_are_those_that_torch_counts(tiny_causal_lm_dir, monkeypatch):
    """A prompt, then one token after another, each with the keys of those before."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from eval_hh.inference.models import load_causal_lm
    from training.flops import answer_flops, score_flops, weights_of

    model = load_causal_lm(tiny_causal_lm_dir("llama"))
    weights, prompt, answer = weights_of(model.config), 24, 8
    counter = FlopCounterMode(display=False)
    model.set_attn_implementation("eager")  # its products are counted on every device
    with torch.no_grad(), counter:
        past = model(torch.ones(1, prompt, dtype=torch.long), logits_to_keep=1).past_key_values
        for _ in range(answer - 1):
            past = model(torch.ones(1, 1, dtype=torch.long), past_key_values=past, logits_to_keep=1).past_key_values
    assert answer_flops(weights, prompt, answer) == pytest.approx(counter.get_total_flops(), rel=0.1)
    assert score_flops(weights, prompt + answer) < answer_flops(weights, prompt, answer)


@pytest.mark.parametrize("kind", ["llama", "mixtral", "qwen2_moe", "deepseek_v2", "jetmoe"])
def test_operations_of_a_mixture_are_those_of_the_experts_of_a_token(kind):
    """Against torch's count of a pass, up to what the experts' router and attention's mask leave open."""
    import torch
    from model_families import FAMILIES
    from torch.utils.flop_counter import FlopCounterMode

    from training.flops import score_flops, weights_of

    model = next(family for family in FAMILIES if family.kind == kind and not family.variant).model()
    model.set_attn_implementation("eager")  # whose products are counted on every device, as are eager experts'
    model.config._experts_implementation = "eager"
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model.base_model(torch.arange(3, 35).unsqueeze(0))
    assert score_flops(weights_of(model.config), 32) == pytest.approx(counter.get_total_flops(), rel=0.2)


def test_operations_of_scoring_are_those_of_the_test_reward_model(tmp_path, tiny_reward_dir, tiny_causal_lm_dir):
    """Of OpenAssistant's, too, whose type transformers does not know; and of the paper's where a file names none."""
    from transformers import AutoConfig

    from study.cost import reward_weights
    from training.flops import weights_of

    config = json.loads((tiny_reward_dir / "config.json").read_text())
    oasst = tmp_path / "oasst"
    oasst.mkdir()
    (oasst / "config.json").write_text(json.dumps(config | {"model_type": "gpt_neox_reward_model"}))
    expected = weights_of(AutoConfig.from_pretrained(tiny_reward_dir))
    for path in (oasst, tiny_reward_dir):
        study = read(
            tmp_path, MINE.replace("owner/model", str(tiny_causal_lm_dir("llama"))) + f"rewards: {{test: {path}}}\n"
        )
        assert reward_weights(study) == expected


def test_a_path_in_a_study_file_is_relative_to_it(tmp_path, monkeypatch):
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(Path("/"))
    assert read(tmp_path, MINE.replace("owner/model", "base")).model == str(tmp_path / "base")


def test_a_path_under_study_root_may_be_made_later(tmp_path):
    """tmp_path is STUDY_ROOT here (conftest.py)."""
    study = read(tmp_path, MINE.replace("owner/model", "$STUDY_ROOT/runs/mine/model"))
    assert study.model == str(tmp_path / "runs" / "mine" / "model")
    with pytest.raises(InputError, match="runs/mine/model: no such file or folder"):
        study.check_made()
    (tmp_path / "runs" / "mine" / "model").mkdir(parents=True)
    study.check_made()
    read(tmp_path, MINE).check_made()  # a hub name is found when it is loaded


def test_the_readme_names_every_key():
    text = (PROFILES.parent / "README.md").read_text(encoding="utf-8")
    table = [line for line in text.splitlines() if line.startswith("| `")]
    named = {name for line in table for name in re.findall(r"`([\w.]+)`", line.split("|")[1])}
    keys = {each.name for each in fields(StudyFile)} - {"grid", "rewards"}
    keys |= {f"grid.{each.name}" for each in fields(GridSection)} - {"grid.augmented"}
    keys |= {f"rewards.{each.name}" for each in fields(Rewards)}
    keys |= {each.name for each in fields(Cluster)}
    assert keys <= named and "`grid.augmented`" in text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seed", "3"], "--seed: is set by the study itself"),
        (["--index", "all"], "--index: is set by the study itself"),
        (["--seed", "42"], "--seed: is set by the study itself"),  # what stands in for it when flags are checked
        (["--training_stage_num", "2"], "--training_stage_num: is set by the study itself"),
        (["--index", "study"], "--index: is set by the study itself"),
        (["--see", "3"], "--seed: is set by the study itself"),  # argparse reads beginnings of names
        (["--no_do_train"], "--do_train: is set by the study itself"),
        (["--learning_rate", "-1"], "--learning_rate -1"),
        (["--lora_dropout", "0.5"], "--lora_dropout: has no effect without LoRA"),
    ],
)
@pytest.mark.parametrize("profile", ["opt-1.3b", "toy"])
def test_training_flags_after_the_dashes_are_checked_first(profile, flags, message):
    with pytest.raises(InputError, match=message):
        reproduce.parse_args(["--profile", profile, "--dry_run", "--", *flags])


def test_a_script_of_jobs_replaces_only_one_of_its_kind(tmp_path):
    study, other, job = tmp_path / "my.yaml", tmp_path / "corpus.jsonl", tmp_path / "job.sh"
    study.write_text(MINE, encoding="utf-8")
    other.write_text("precious\n")
    for path, message in ((study, "is read as --study"), (other, "was not written by this command")):
        before = path.read_text(encoding="utf-8")
        with pytest.raises(InputError, match=message):
            reproduce.main(["--study", str(study), "--slurm", str(path)])
        assert path.read_text(encoding="utf-8") == before
    for _ in range(2):
        reproduce.main(["--study", str(study), "--slurm", str(job)])
