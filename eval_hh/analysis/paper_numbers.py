"""The paper's published numbers (pics/paper_results.json, with their sources)."""

from __future__ import annotations

from data_preprocess.command import REPOSITORY
from data_preprocess.files import read_json
from eval_hh.cells import Setting

PAPER_MODELS = {"opt-1.3b": "OPT-1.3B", "llama-7b": "LLaMA-7B"}  # by profile


def paper_results() -> dict:
    """Returns the published Table 1 and Figure 4."""
    return read_json(REPOSITORY / "pics" / "paper_results.json")


def paper_table(profile: str | None) -> dict[tuple[str, Setting], float]:
    """Returns the paper's Table 1 for a profile, by (pool, setting), as 100 x mean; empty for any other profile."""
    published = paper_results()["table1"]
    return {
        (row["pool"], Setting(row["algorithm"], row["ranking_len"], size)): value
        for row in published["rows"]
        if row["model"] == PAPER_MODELS.get(profile)
        for size, value in zip(published["num_prompts"], row["reward"], strict=True)
    }
