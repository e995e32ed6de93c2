"""Why the rules are what they are: the faults that an audit found in the rules before them, shown by simulation.

The former interval was a percentile bootstrap over test prompts and training seeds of one draw. The former rule of
claim 2 was "the slope's interval is above zero and the line explains 80%".
"""

import json
from collections import Counter

import numpy as np
import pytest

from data_preprocess.dialogue import render_prompt
from data_preprocess.hub import load_tokenizer
from data_preprocess.ngrams.token_ids import encode_prompts
from data_preprocess.selection import select_prompts
from data_preprocess.toy_world.word_tokenizer import write_tokenizer
from data_preprocess.toy_world.world import WorldConfig, world_files
from eval_hh.analysis.lines_on_d import fit_lines
from eval_hh.analysis.simulated import Design, Truth
from eval_hh.analysis.verdicts import verdicts
from eval_hh.estimates import fit_line, over_replicates

SEED_SD, PROMPT_SD, N_PROMPTS = 0.022, 0.1, 200


def former_interval(difference: np.ndarray, rng: np.random.Generator, n_draws: int = 400) -> tuple[float, float]:
    """The bootstrap of a difference [seeds, prompts]: seeds - 1 of the seeds and all prompts, with replacement."""
    n_seeds, n_prompts = difference.shape
    rows = rng.multinomial(n_prompts, np.full(n_prompts, 1 / n_prompts), size=n_draws) / n_prompts
    seeds = np.ones((n_draws, 1))
    if n_seeds > 1:
        seeds = rng.multinomial(n_seeds - 1, np.full(n_seeds, 1 / n_seeds), size=n_draws) / (n_seeds - 1)
    return tuple(np.quantile(((rows @ difference.T) * seeds).sum(axis=1), [0.025, 0.975]))


@pytest.mark.parametrize(
    ("n_seeds", "draw_sd", "low", "high"),
    [(1, 0.0, 0.2, 0.5), (3, 0.0, 0.78, 0.90), (5, 0.0, 0.86, 0.95), (3, 0.03, 0.4, 0.65)],
)
def test_the_former_interval_covers_too_seldom_and_the_present_one_does_not(n_seeds, draw_sd, low, high):
    """The audit's figures: 40%, 86.5%, 92% and, where draws differ too, 54%; replicates cover 95% in each case."""
    rng, former, present, n = np.random.default_rng([n_seeds, int(100 * draw_sd)]), 0, 0, 300
    for _ in range(n):
        prompts = rng.normal(0, PROMPT_SD, N_PROMPTS)
        seeds = rng.normal(0, SEED_SD * 2**0.5, (n_seeds, 1))
        one_draw = rng.normal(0, draw_sd * 2**0.5)
        bottom, top = former_interval(0.05 + prompts - prompts.mean() + seeds + one_draw, rng)
        former += bottom <= 0.05 <= top
        each = rng.normal(0, np.hypot(SEED_SD, draw_sd) * 2**0.5, max(n_seeds, 3))
        found = over_replicates(0.05 + each)
        present += found.low <= 0.05 <= found.high
    assert low <= former / n <= high and 0.91 <= present / n <= 0.99


def test_the_former_rule_calls_a_curve_on_log_m_a_line_on_d():
    """Of studies whose truth is log M the former rule says "held" in most, the present one in fewer than 10%."""
    design = Design((48, 120, 160, 240), (2.52, 2.79, 2.81, 2.86), seed_sd=SEED_SD, draw_sd=0.0)
    rng, former, present, n = np.random.default_rng(0), 0, 0, 150
    for _ in range(n):
        results = design.study(Truth(0.0, "log M", 0.15), rng, 8)
        line = [results.mean_rewards(one, results.units(one)) for one in results.lines["PRO", 4]]
        test = fit_lines("PRO K=4", design.scores, design.sizes, np.transpose(line)[:3], one_draw=False)
        former += test.fits["D"].slope.difference > 0 and fit_line(design.scores, np.mean(line, axis=1)).r2 >= 0.8
        present += verdicts(results)[1].verdict == "held"
    assert former / n > 0.6 and present / n < 0.1


def test_without_quotas_low_and_high_d_are_sets_of_other_kinds(tmp_path):
    """The audit's confounding: matched in length alone, low and high D differ in their share of harmful prompts."""
    write_tokenizer(tmp_path)
    lines = world_files(WorldConfig(train_rows=400))["original/hh_train_len4/train.json"].decode().splitlines()
    rows = [json.loads(line) for line in lines]
    token_ids = encode_prompts(load_tokenizer(tmp_path), [render_prompt(row["prefix"][0]) for row in rows])
    kinds = [row["meta"]["kind"] for row in rows]
    harmful = {}
    for strategy in ("low_d", "max_d"):
        for quotas in (None, kinds):
            chosen = select_prompts(token_ids, [120], strategy, match_length=True, kinds=quotas)[120]
            harmful[strategy, quotas is not None] = Counter(kinds[index] for index in chosen)["harmless_base"]
    assert abs(harmful["low_d", False] - harmful["max_d", False]) >= 10
    assert harmful["low_d", True] == harmful["max_d", True] == 30  # a quarter of 120, as in the pool
