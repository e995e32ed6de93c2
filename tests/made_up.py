"""Made-up result files with effects that are known, for the tests of the analysis."""

from collections.abc import Sequence

import numpy as np

from eval_hh.analysis.results import CellResult, Results
from eval_hh.analysis.reward_scale import ModelRow
from eval_hh.cells import file_scores
from eval_hh.reporting import sections
from eval_hh.reporting.findings import analyse
from pics import style

SIZES = (1500, 2000, 3000, 6000)
ROWS = {"harmless_base": 40, "helpful_base": 30, "helpful_online": 20, "helpful_rejection": 30}


def diversity(size: int) -> float:
    """A D that rises with M as the paper's does."""
    return 12.0 + 2.4 * float(np.log(size / 1500))


def evaluation(checkpoint: str = "best_checkpoint", max_new_tokens: int = 48, reward_model: str = "rm") -> dict:
    """How a cell's texts and scores were made."""
    return {
        "checkpoint": checkpoint,
        "generation": {"model": "step_2", "max_new_tokens": max_new_tokens, "mixed_precision": "bf16"},
        "rewarding": {"reward_model": reward_model, "mixed_precision": "no"},
    }


def make_cell(
    algorithm: str,
    ranking_len: int,
    num_prompts: int,
    seed: int,
    reward: float,
    noise: float = 0.02,
    rows=None,
    draw: int = 42,
) -> dict:
    """A cell with mean Global reward `reward`: a spread over prompts that all share, and noise of its own."""
    rows = rows or ROWS
    n_rows = sum(rows.values())
    prompts = np.random.default_rng(0).uniform(-0.2, 0.2, n_rows)
    own = np.random.default_rng([ranking_len, num_prompts, seed, len(algorithm)]).normal(0, noise, n_rows)
    shift = prompts + own
    values = np.clip(reward + shift - shift.mean(), 0, 1)
    files, start = {}, 0
    for file in rows:
        part = values[start : start + rows[file]]
        extra = {"reward_model": np.round(part, 2).tolist()}
        files[file] = file_scores(
            [f"{row:05d}-0123abcd" for row in range(len(part))], part.tolist(), (30 * part).tolist(), extra
        )
        start += rows[file]
    score = diversity(num_prompts)
    return {
        "schema": 2,
        "profile": "toy",
        "algorithm": algorithm,
        "ranking_len": ranking_len,
        "stage": ranking_len if algorithm == "PRO" else 1,
        "num_prompts": num_prompts,
        "seed": seed,
        "exp": f"{algorithm.lower()}_{ranking_len}_{num_prompts}_{seed}",
        "data": f"hh_train_len{ranking_len}_{num_prompts}",
        "diversity": {"score": score, "unique": 1, "total": 2, "samples": num_prompts, "tokenizer": "toy"},
        "selection": "random",
        "reward_source": "gold",
        "world": "abc",
        "config": {"seed": seed},
        "git": None,
        "versions": {},
        "evaluation": evaluation(),
        "launch": None,
        "data_sha256": None,
        "files": files,
    } | ({"draw": draw} if draw != 42 else {})


def make_grid(reward, algorithms=("PRO", "SFT"), sizes=SIZES, seeds=(42,), draws=False, **options) -> list[dict]:
    """A complete grid; `reward(algorithm, ranking_len, num_prompts, seed)` is a cell's mean Global reward.

    With `draws`, each seed has a draw of its own, of the same number: a replicate.
    """
    return [
        make_cell(algorithm, k, size, seed, reward(algorithm, k, size, seed), draw=seed if draws else 42, **options)
        for algorithm in algorithms
        for k in (2, 3, 4)
        for size in sizes
        for seed in seeds
    ]


def make_row(name: str, reward: float, own: str | None = None, seed: int = 7, **options) -> ModelRow:
    """A model of no run with mean Global reward `reward`."""
    return ModelRow(name, own, make_cell("SFT", 2, 1500, seed, reward, **options)["files"])


def row_of(name: str, reward: float, model: str = "base", seed: int = 42, **more) -> dict:
    """The content of the result file of a model of no run."""
    cell = make_cell("PRO", 2, 1500, seed, reward)
    kept = {field: cell[field] for field in ("schema", "reward_source", "world", "git", "versions", "files")}
    made = evaluation()
    made["generation"] |= {"model": model}
    return {**kept, "name": name, "profile": None, "evaluation": made, **more}


def results_of(cells: list[dict], warnings: Sequence[str] = (), models: Sequence[ModelRow] = ()) -> Results:
    """The contents of result files as they are handed to the analysis."""
    return Results(map(CellResult.of, cells), warnings, models)


def make_report(cells: list[dict], warnings: list[str], compare_paper: bool = False) -> str:
    """The report on made-up cells, as report.py makes it of files."""
    return sections.make_report(analyse(results_of(cells, warnings), compare_paper))


def keep_figures(monkeypatch) -> list:
    """The figures that are drawn from now on, kept for a look at their axes."""
    kept: list = []
    save = style.save_figure
    monkeypatch.setattr(style, "save_figure", lambda figure, path: (kept.append(figure), save(figure, path)))
    return kept
