"""Training curves: every cell's curve is drawn as it was logged, and a lost log is told."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from pics.draw_training_curves import TrainingCurve, draw_curves, opacity, running_mean
from pics.style import PNG
from study.page.training_logs import load_curves
from tests.made_up import keep_figures, make_cell, make_grid, results_of
from tests.made_up_runs import write_logs


def reward(*_) -> float:
    return 0.5


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    return keep_figures(monkeypatch)


def test_the_running_mean_by_hand():
    steps = np.arange(1, 61)
    values = steps.astype(float) ** 2
    x, y = running_mean(steps, values)  # 60 / 20: windows of 3 steps
    assert list(x) == list(range(3, 61))
    assert y[:2] == pytest.approx([(1 + 4 + 9) / 3, (4 + 9 + 16) / 3])
    x, y = running_mean(np.array([1, 2]), np.array([5.0, 7.0]))
    assert list(x) == [1, 2] and list(y) == [5.0, 7.0]
    assert len(running_mean(np.array([]), np.array([]))[0]) == 0


def test_a_long_run_is_thinned_but_keeps_its_end():
    steps = np.arange(1, 4001)
    x, y = running_mean(steps, np.where(steps > 3800, 1.0, 2.0))
    assert len(x) <= 100 and x[-1] == 4000 and len(set(np.diff(x))) == 1
    assert y[0] == pytest.approx(2.0) and y[-1] == pytest.approx(1.0)  # the last window is steps 3801 to 4000


def test_a_log_is_read_as_it_was_written(tmp_path):
    cell = make_cell("PRO", 2, 1500, 42, 0.5)
    log = tmp_path / "logs" / cell["exp"] / "2" / "metrics.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text('{"step": 1, "loss": 9.0, "sft_loss": 15.5}\n{"step": 2, "loss": 8.0, "sft_loss": 11}\n')
    run = tmp_path / "checkpoints" / f"index_{cell['exp']}" / "stage_2"
    run.mkdir(parents=True)
    (run / "dev_rewards.json").write_text('{"100": 0.625, "50": 0.5}')
    (curve,), warnings = load_curves(tmp_path, results_of([cell]))
    assert warnings == [] and (curve.algorithm, curve.ranking_len, curve.num_prompts) == ("PRO", 2, 1500)
    assert list(curve.steps) == [1, 2] and list(curve.sft_loss) == [15.5, 11.0]
    assert list(curve.dev_steps) == [50, 100] and list(curve.dev_reward) == [0.5, 0.625]


def test_every_cell_has_its_own_line(tmp_path, drawn):
    cells = [cell for cell in make_grid(reward, sizes=(100, 200, 300), seeds=(42, 43)) if cell["algorithm"] == "SFT"]
    chosen = {**make_cell("SFT", 4, 200, 42, 0.5), "selection": "max_d_matched", "exp": "chosen"}
    for cell in [*cells, chosen]:
        write_logs(tmp_path, cell)
    curves, warnings = load_curves(tmp_path, results_of([*cells, chosen]))
    assert len(curves) == 19 and warnings == []
    draw_curves(curves, tmp_path / "curves.png")
    loss_panels, reward_panels = np.array(drawn[0].axes).reshape(2, 3)
    assert [panel.get_title(loc="left") for panel in loss_panels] == [f"K = {k} responses" for k in (2, 3, 4)]
    assert [len(panel.lines) for panel in loss_panels] == [6, 6, 7]
    assert [len(panel.lines) for panel in reward_panels] == [12, 12, 14]  # each with a dot at its best checkpoint
    first = next(curve for curve in curves if curve.ranking_len == 3)
    np.testing.assert_allclose(loss_panels[1].lines[0].get_ydata()[-1], first.sft_loss[-2:].mean())
    np.testing.assert_allclose(reward_panels[1].lines[0].get_ydata(), 100 * first.dev_reward)
    np.testing.assert_allclose(reward_panels[1].lines[1].get_ydata(), 100 * first.dev_reward.max())
    assert loss_panels[2].lines[-1].get_linestyle() == "--" and loss_panels[2].lines[0].get_linestyle() == "-"
    labels = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert labels == ["M = 100", "M = 200", "M = 300", "chosen for high D"]
    for panels in (loss_panels, reward_panels):
        assert len({panel.get_ylim() for panel in panels}) == 1


def test_ranking_accuracy_is_drawn_where_it_was_logged(tmp_path, drawn):
    """The older of two cells lacks it, and one step of the newer had no ranking with an order."""
    older, newer = make_cell("PRO", 2, 1500, 42, 0.5), make_cell("PRO", 3, 1500, 42, 0.5)
    for cell in (older, newer):
        write_logs(tmp_path, cell, n_steps=4)
    log = tmp_path / "logs" / newer["exp"] / "3" / "metrics.jsonl"
    rows = [
        '{"step": 1, "sft_loss": 9.0, "ranking_accuracy": 0.25}', '{"step": 2, "sft_loss": 8.0}',
        '{"step": 3, "sft_loss": 7.0, "ranking_accuracy": 1}',
    ]  # fmt: skip
    log.write_text("\n".join(rows) + "\n")
    curves, warnings = load_curves(tmp_path, results_of([older, newer]))
    assert warnings == [] and [list(curve.order_steps) for curve in curves] == [[], [1, 3]]
    draw_curves(curves, tmp_path / "curves.png")
    panels = np.array(drawn[0].axes).reshape(3, 2)
    assert [panel.get_ylabel() for panel in panels[:, 0]] == [
        "SFT loss, nats per response", "ranking accuracy, %", "dev reward × 100"
    ]  # fmt: skip
    assert len(panels[1, 0].lines) == 0
    assert panels[1, 1].lines[0].get_xydata().tolist() == [[1, 25], [3, 100]]
    log.write_text('{"step": 1, "sft_loss": 9.0, "ranking_accuracy": "high"}\n')
    (warning,) = load_curves(tmp_path, results_of([older, newer]))[1]
    assert "metrics.jsonl:1: ranking_accuracy is 'high' (expected a number)" in warning


def test_more_prompts_are_stronger():
    assert opacity(2, 3) == 1 and opacity(0, 3) == pytest.approx(0.35) and opacity(0, 1) == 1


def test_the_same_curves_give_the_same_bytes(tmp_path):
    cell = make_cell("PRO", 2, 1500, 42, 0.5)
    write_logs(tmp_path, cell)
    for name in ("a", "b"):
        draw_curves(load_curves(tmp_path, results_of([cell]))[0], tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_lost_and_broken_logs_are_told_and_the_rest_is_kept(tmp_path):
    cells = make_grid(reward, algorithms=("PRO",), sizes=(100,))
    for cell in cells[:2]:
        write_logs(tmp_path, cell)
    log = tmp_path / "logs" / cells[0]["exp"] / "2" / "metrics.jsonl"
    log.write_text('{"step": 1, "sft_loss": 3.0}\n{"step": 2, "sft_lo')
    scores = tmp_path / "checkpoints" / f"index_{cells[1]['exp']}" / "stage_3" / "dev_rewards.json"
    scores.write_text('{"last": 0.5}')
    curves, warnings = load_curves(tmp_path, results_of(cells))
    assert [(len(curve.steps), len(curve.dev_steps)) for curve in curves] == [(1, 4), (40, 0)]
    assert (
        "training log of PRO K=2 M=100 draw=42 seed=42" in warnings[0]
        and "metrics.jsonl:2: not valid JSON" in warnings[0]
    )
    assert "expected {step: mean dev reward}, found 'last': 0.5" in warnings[1]
    assert warnings[2].startswith("no training log of 1 of 3 cells, the first being PRO K=4 M=100 draw=42 seed=42")
    assert warnings[3].startswith("no dev rewards of 1 of 3 cells") and len(warnings) == 4
    huge = "1" + "0" * 400
    for row in ('{"step": 1, "loss": 3.0}', f'{{"step": {huge}, "sft_loss": 1}}', f'{{"step": 1, "sft_loss": {huge}}}'):
        log.write_text(row + "\n")
        assert "metrics.jsonl:1: expected a step and its sft_loss" in load_curves(tmp_path, results_of(cells))[1][0]
    log.write_text(f'{{"step": 1, "sft_loss": 1, "ranking_accuracy": {huge}}}\n')
    assert "metrics.jsonl:1: ranking_accuracy is 1000" in load_curves(tmp_path, results_of(cells))[1][0]
    for content in (f'{{"{huge * 12}": 0.5}}', f'{{"1": {huge}}}'):
        scores.write_text(content)
        assert "dev_rewards.json: expected {step: mean dev reward}" in load_curves(tmp_path, results_of(cells))[1][1]


def test_curves_of_which_a_half_is_lost_are_drawn(tmp_path):
    empty = np.array([])
    losses = TrainingCurve("PRO", 5, 100, 42, "random", np.arange(1, 11), np.ones(10), empty, empty)
    rewards = TrainingCurve("PRO", 2, 100, 42, "random", empty, empty, np.array([5]), np.array([0.5]))
    for name, together in {"losses": [losses], "rewards": [rewards], "both": [losses, rewards]}.items():
        draw_curves(together, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(PNG)
