"""Laws of reward on D: the paper's lines, lines through made-up cells, and which split they recommend."""

import numpy as np
import pytest
from scipy import stats

from data_preprocess.command import InputError
from eval_hh.analysis.reward_lines import LLAMA_PROBE, is_llama, paper_law, recommend, results_law
from eval_hh.cells import BEST_RESPONSES, WORST_RESPONSES
from eval_hh.estimates import Prediction
from tests.made_up import SIZES, diversity, make_grid, make_row, results_of


@pytest.mark.parametrize(
    "algorithm, ranking_len, slope, intercept",
    [
        ("PRO", 2, 0.00732, 0.3882), ("PRO", 3, 0.00646, 0.4210), ("PRO", 4, 0.00426, 0.4719),
        ("SFT", 2, 0.00465, 0.4348), ("SFT", 3, 0.00452, 0.4524), ("SFT", 4, 0.00536, 0.4497),
    ],
)  # fmt: skip
def test_the_papers_lines(algorithm, ranking_len, slope, intercept):
    law = paper_law(algorithm)
    assert law.fitted_range(ranking_len) == (12.7, 20.79)
    for score in (12.7, 16.0, 20.79):
        outlook = law.outlook(ranking_len, score)
        assert outlook.outside == "" and outlook.prediction.value == pytest.approx(slope * score + intercept, abs=2e-4)


def test_beyond_the_fitted_range_nothing_is_predicted_unless_asked():
    law = paper_law("PRO")
    for score, outside in ((12.69, "below 12.70"), (20.80, "above 20.79")):
        outlook = law.outlook(2, score)
        assert (outlook.prediction, outlook.outside) == (None, outside)
        assert str(outlook) == f"{score:.2f}  not given: {outside}"
        asked = law.outlook(2, score, extrapolate=True)
        assert asked.prediction.value == pytest.approx(0.00732 * score + 0.3882, abs=2e-4) and str(asked).endswith(")*")


def reward(algorithm, k, size, seed):
    return 0.2 + 0.02 * diversity(size) + 0.01 * k + 0.004 * (seed - 42) + (0.05 if algorithm == "SFT" else 0)


def test_lines_through_cells_are_those_of_their_means():
    law, warnings = results_law(results_of(make_grid(reward, seeds=(42, 43, 44))), "SFT", "results")
    assert warnings == [] and law.tokenizer == "toy" and sorted(law.points) == [2, 3, 4]
    scores = [diversity(size) for size in SIZES]
    for ranking_len, (x, y) in law.points.items():
        assert x == pytest.approx(scores)
        assert y == pytest.approx([reward("SFT", ranking_len, size, 43) for size in SIZES])
        line = stats.linregress(x, y)
        expected = line.slope * 13 + line.intercept
        assert law.outlook(ranking_len, 13.0).prediction.value == pytest.approx(expected)


def test_only_seeds_that_all_sizes_have_are_averaged():
    cells = make_grid(reward, ["PRO"], seeds=(42, 44))
    cells = [cell for cell in cells if (cell["num_prompts"], cell["seed"]) != (2000, 44)]
    law, _ = results_law(results_of(cells), None, "results")
    assert law.points[2][1] == pytest.approx([reward("PRO", 2, size, 42) for size in SIZES])


def without_d(cells):
    return [{**cell, "diversity": None} for cell in cells]


def test_results_that_make_no_law_are_refused():
    both = make_grid(reward)
    with pytest.raises(InputError, match="results: results of PRO and SFT .expected --algorithm"):
        results_law(results_of(both), None, "results")
    with pytest.raises(InputError, match="results: results of PRO .expected --algorithm"):
        results_law(results_of(make_grid(reward, ["PRO"])), "SFT", "results")
    with pytest.raises(InputError, match="results: no result file with D"):
        results_law(results_of(without_d(both)), "PRO", "results")
    with pytest.raises(InputError, match="too few points for a line; PRO K=2: 2 different D .* .expected 3 or more"):
        results_law(results_of(make_grid(reward, ["PRO"], sizes=SIZES[:2])), "PRO", "results")
    alike = [make_row("floor", 0.4, WORST_RESPONSES, seed=8), make_row("ceiling", 0.4, BEST_RESPONSES)]
    with pytest.raises(InputError, match="results: The reward is not shown to score the test data's best responses"):
        results_law(results_of(both, models=alike), "PRO", "results")
    short = [cell for cell in both if cell["ranking_len"] != 3 or cell["num_prompts"] < 3000]
    law, warnings = results_law(results_of(short), "PRO", "results")
    assert sorted(law.points) == [2, 4] and len(warnings) == 1 and warnings[0].startswith("PRO K=3: 2 different D")


def prediction(value, error, df=6):
    half = stats.t(df).ppf(0.975) * error
    return Prediction(value, error, df, value - half, value + half)


def test_the_highest_prediction_is_recommended_and_its_rivals_named():
    found = recommend({2: prediction(0.50, 0.005), 3: prediction(0.535, 0.005), 4: prediction(0.54, 0.005)})
    assert found.ranking_len == 4 and list(found.rivals) == [3]  # 0.04 is more than 2.2 times 0.0071, 0.005 is not
    assert found.rivals[3].value == pytest.approx(0.005)
    assert recommend({3: prediction(0.5, 0.005)}).rivals == {}


def test_llamas_tokenizer_is_known_from_others(shared, byte_tokenizer):
    from transformers import AutoTokenizer

    llama = AutoTokenizer.from_pretrained(shared / "data" / "llama_tokenizer")
    assert is_llama(llama.encode(LLAMA_PROBE, add_special_tokens=False))
    assert not is_llama(byte_tokenizer.encode(LLAMA_PROBE, add_special_tokens=False))


def test_the_intervals_of_points_hold_a_new_point_in_95_percent():
    """Many lines through 8 noisy points at the paper's D, each with one more point at a D of its own."""
    from eval_hh.estimates import predict_point

    rng, x = np.random.default_rng(0), np.array(paper_law("PRO").points[2][0])
    held = 0
    for _ in range(2000):
        at = rng.uniform(12.7, 20.8)
        y, new = (0.4 + 0.007 * value + rng.normal(0, 0.01, np.shape(value)) for value in (x, at))
        found = predict_point(x, y, at)
        held += found.low <= new <= found.high
    assert 0.935 <= held / 2000 <= 0.965
