"""The documents: what they name exists, what they quote is in the results, and README's example runs as written."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
)

import reproduce
from eval_hh.analysis.paper_numbers import paper_evidence
from eval_hh.cells import TEST_FILES, load_cell
from tests import make_example
from tests.chat_templates import chat_tokenizer
from tests.test_commands import REPOSITORY, SHELLS, environment, fingerprints

EXAMPLE = REPOSITORY / "data_preprocess" / "example"
DOCUMENTS = [
    path for path in REPOSITORY.rglob("*.md")
    if not {".venv", "runs", "data", "results"} & set(path.relative_to(REPOSITORY).parts[:-1])
]  # fmt: skip
NAMED = re.compile(r"(?<![\w/.$*{])(?:\.\./)*((?:[\w-]+/)*[\w-]+\.(?:py|sh|md|yaml|cff|css))\b")
LINK = re.compile(r"\]\(([^)#]+)#?([^)]*)\)")
QUOTED = ("toy", "worlds", "smollm2-gpu", "smollm2", "label_choices")  # the published results
MADE = ("my_study.yaml", "pilot.yaml", "run.json", "data/README.md", "report.md", "job.sh")  # by the commands


def text_of(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def section(name: str, title: str) -> str:
    return text_of(name).split(f"\n## {title}\n")[1].split("\n## ")[0]


def blocks(text: str, language: str | None = None) -> list[str]:
    """The fenced blocks of a language, "" for none; of all where it is not given."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    return [block for name, block in fenced if language in (None, name)]


def test_the_readme_is_short():
    assert len(text_of("README.md").splitlines()) <= 220
    assert len(section("README.md", "What it promises").strip().splitlines()) <= 15


def headings(path: Path) -> set[str]:
    """A document's headings, as links spell them."""
    found = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_what_a_document_names_exists(path):
    """Its links from its own folder; scripts and documents also from a folder whose view a command takes."""
    text = path.read_text(encoding="utf-8")
    for link, heading in LINK.findall(text):
        assert "://" in link or "@" in link or (path.parent / link).exists(), f"{path} links to {link}"
        assert not heading or heading in headings(path.parent / link), f"{path} links to {link}#{heading}"
    folders = [REPOSITORY, *(folder for folder in REPOSITORY.glob("*/") if folder.name != ".venv")]
    folders += [room for folder in folders[1:] for room in folder.glob("*/")]
    for name in NAMED.findall(text):
        known = name.startswith("runs/") or name.endswith(MADE)
        assert known or any((folder / name).exists() for folder in folders), f"{path} names {name}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_commands_and_data_do_not_share_a_block(path):
    for block in blocks(path.read_text(encoding="utf-8")):
        lines = block.splitlines()
        commands = [line for line in lines if re.match(r"(python|sh|bash|cd) ", line)]
        assert not (commands and [line for line in lines if line.startswith(("{", "["))]), block


def test_the_published_commands_are_documented(shared):
    documented = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS).splitlines()
    published = blocks((shared / "seed_readme.md").read_text(encoding="utf-8"), "")[:-1]  # the last one is BibTeX
    lines = [line for block in published for line in block.strip().splitlines()]
    assert len(lines) == 9 and set(lines) <= set(documented)


def test_the_results_quoted_are_those_of_the_report():
    """Every signed number and every p of the text, from the report or from what figures.py --paper prints."""
    quoted = section("README.md", "Main results") + section("study/README.md", "Experiments with selected prompts")
    reports = [text_of(f"eval_hh/results/{name}/report.md") for name in QUOTED]
    known = set(re.findall(r"(?<![\w.])[+-]?\d+\.\d+", "\n".join(reports + paper_evidence())))
    numbers = re.findall(r"(?<!\w)[+-]\d+\.\d+|\bp \d\.\d+", quoted)
    assert len(numbers) >= 50 and not [number for number in numbers if number.removeprefix("p ") not in known]


def test_contributors_find_what_is_named():
    table = section("CONTRIBUTING.md", "To change X, open Y")
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("|")][2:]
    assert len(rows) >= 10
    for change, places in rows:
        named = re.findall(r"`([^`:]+): ([^`]+)`", places)
        assert 1 <= len(named) <= 2, change
        for file, name in named:
            assert name in defined(REPOSITORY / file), f"{file} does not define {name}"


def defined(path: Path) -> set[str]:
    """Names on a Python file's top level; functions and variables of shell scripts and style sheets; YAML keys."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return set(re.findall(r"^ *(\w+(?=\(\) \{|=|:)|--\w+(?=:))", text, flags=re.MULTILINE))
    names = set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def test_the_example_is_cut_as_described(shared, tmp_path):
    make_example.main(shared, tmp_path)
    made, kept = fingerprints(tmp_path), fingerprints(EXAMPLE)
    assert {name: kept[name] for name in made} == made
    assert set(kept) - set(made) == {"README.md", "LICENSE-HH-RLHF"}
    assert sum(path.stat().st_size for path in EXAMPLE.rglob("*") if path.is_file()) < 1_000_000


def copied(folder: Path) -> Path:
    """Copies the tracked files: a user's runs/ is left alone, and nothing else is needed."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    for name in filter(None, tracked.stdout.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    (folder / ".venv").symlink_to(Path(sys.executable).parents[1])
    return folder


def test_the_readmes_study_file_is_a_plan(tmp_path, capsys):
    """Its data are the repository's; the models it names are there by then."""
    (tmp_path / "data_preprocess").symlink_to(REPOSITORY / "data_preprocess")
    for made in ("smollm2", "reward_model"):
        (tmp_path / "runs" / made).mkdir(parents=True)
    [written] = blocks(section("README.md", "Your own study"), "yaml")
    (tmp_path / "runs" / "my_study.yaml").write_text(written, encoding="utf-8")
    reproduce.main(["--study", str(tmp_path / "runs" / "my_study.yaml"), "--dry_run"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 1 + 3 + 6 * 2 + 3  # data, cut, three draws, six cells, three rows
    assert f"--source {EXAMPLE / 'rankings.jsonl'} " in lines[0]
    trained = [line for line in lines if "train_hh_pro" in line]
    assert len(trained) == 6 and all("--prompt_format chat --lora_r 8" in line for line in trained)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_readmes_study_on_a_tiny_model(tmp_path, tiny_causal_lm_dir):
    """Its commands word for word, but for the two that fetch SmolLM2; a small chat model lies where it would."""
    copy = copied(tmp_path / "repository")
    model = copy / "runs" / "smollm2"
    shutil.copytree(tiny_causal_lm_dir("llama"), model)
    chat_tokenizer("smollm2").save_pretrained(model)
    text = section("README.md", "Your own study")
    fetched, run = blocks(text, "sh")
    ours = "".join(line for line in fetched.splitlines(keepends=True) if "llm" not in line)
    assert ours.count("\n") == fetched.count("\n") - 2
    (copy / "runs" / "my_study.yaml").write_text(blocks(text, "yaml")[0], encoding="utf-8")
    env = environment(tmp_path)
    del env["STUDY_ROOT"]
    done = subprocess.run(["sh", "-eu", "-c", ours + run], cwd=copy, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    root = copy / "runs" / "my_study"
    report = (root / "report.md").read_text(encoding="utf-8")
    assert report in done.stdout and "- 6 of 6 cells present" in report
    words = "held|did not hold|undecided|no verdict"
    word = re.search(rf"win at equal budget \(K=4 against K=2, Global\): \*\*({words})\*\*", report)[1]
    assert (word == "no verdict") == ("The reward is not shown to score" in report)
    assert re.search(r"^\| base +\| .*\n\| floor +\| .*\n\| ceiling ", report, flags=re.MULTILINE)
    assert "report.html" in {path.name for path in root.iterdir()}
    config = json.loads((root / "checkpoints/index_pro_len4_64_seed42/stage_4/run.json").read_text())["config"]
    assert (config["prompt_format"], config["lora_r"]) == ("chat", 8)


@pytest.mark.slow
@pytest.mark.timeout(2400)  # four minutes of CPU time
@pytest.mark.parametrize("shell", SHELLS[:1])
def test_every_step_by_hand(shell, tmp_path):
    """Word for word, in a copy of the tracked files."""
    copy = copied(tmp_path / "repository")
    [commands] = blocks(section("data_preprocess/example/README.md", "Every step by hand"), "sh")
    env = environment(tmp_path)
    del env["STUDY_ROOT"]
    done = subprocess.run([shell, "-eu", "-c", commands], cwd=copy, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]

    root = copy / "runs" / "example"
    shown = blocks(section("data_preprocess/example/README.md", "Every step by hand"), "")[0]
    exact = [line for line in shown.splitlines() if "diversity" in line]
    assert len(exact) == 3 and all(line in done.stdout for line in exact)
    summaries = re.findall(r"40 steps: SFT loss ([\d.]+) -> ([\d.]+)", done.stdout)
    assert len(summaries) == 6 and all(float(last) < float(first) for first, last in summaries)
    for size in (120, 160, 240):
        for ranking_len in (2, 4):
            cell = load_cell(root / "eval_hh" / "results" / f"pro{size}_{ranking_len}.json")
            assert (cell["num_prompts"], cell["ranking_len"]) == (size, ranking_len)
            assert {name: entry["n"] for name, entry in cell["files"].items()} == dict.fromkeys(TEST_FILES, 20)
    assert re.search(r"\| no verdict +\| PRO Global +\| K=4 M=120 \| K=2 M=240 ", done.stdout)
    chosen = [json.loads(line) for line in (root / "to_label.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len({row["id"] for row in chosen}) == len(chosen) >= 100
    for name in ("runs/report/report.md", "runs/figures/diversity.png", "plan.png"):
        assert (root / name).is_file()


def test_the_memory_table_is_by_count():
    """Bytes per parameter by the text above the table, of models with the published shapes that hold no weights."""
    opt = OPTConfig(hidden_size=2048, num_hidden_layers=24, ffn_dim=8192, num_attention_heads=32)
    pythia = GPTNeoXConfig(
        vocab_size=50304, hidden_size=2048, num_hidden_layers=24, intermediate_size=8192, num_attention_heads=16,
        num_labels=1,
    )  # fmt: skip
    larger = GPTNeoXConfig(
        vocab_size=50432, hidden_size=4096, num_hidden_layers=32, intermediate_size=16384, num_attention_heads=32,
        num_labels=1,
    )  # fmt: skip
    causal, scoring = AutoModelForCausalLM, AutoModelForSequenceClassification
    with torch.device("meta"):
        models = {
            "OPT-1.3B": causal.from_config(opt),
            "LLaMA-7B": causal.from_config(LlamaConfig()),
            "pythia-1.4b": scoring.from_config(pythia),
            "pythia-6.9b": scoring.from_config(larger),
        }
    rows = [line for line in section("training/README.md", "Precision and memory").splitlines() if "e9 |" in line]
    assert len(rows) == len(models)
    for row, (name, model) in zip(rows, models.items(), strict=True):
        count = sum(weight.numel() for weight in model.parameters())
        numbers = re.findall(r"\| (\d+\.\d)\b", row)
        assert name in row and f"| {count / 1e9:.2f}e9 |" in row
        assert numbers == [f"{size * count / 2**30:.1f}" for size in (16, 4, 2)], row
