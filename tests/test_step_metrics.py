"""The metrics of a step against slow loops and scipy's Kendall tau; how a step is divided changes nothing."""

import math

import pytest
import torch
from scipy.stats import kendalltau

from training.losses import pro_loss
from training.tracking.step_metrics import ranking_agreement, step_metrics, step_sums


def test_agreement_by_hand():
    scores = torch.tensor([[-1.0, -2.0, -3.0], [-3.0, -1.0, -2.0], [-1.0, -1.0, -2.0], [-5.0, -1.0, -1.0]])
    rewards = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [0.0, 0.0, 0.0]])
    n, margin, right, tau = ranking_agreement(scores, rewards).tolist()
    assert n == 3  # the last has no order
    assert margin == pytest.approx(2 - 1 + 1)
    assert right == 1  # the third ties with another
    assert tau == pytest.approx(1 + (1 - 2) / 3 + 2 / math.sqrt(3 * 2))


def test_a_tied_best_response_is_a_best_response():
    rewards = torch.tensor([[1.0, 1.0, 0.0]])
    assert ranking_agreement(torch.tensor([[-2.0, -1.0, -3.0]]), rewards)[2] == 1
    assert ranking_agreement(torch.tensor([[-2.0, -2.0, -1.0]]), rewards)[2] == 0
    equal = ranking_agreement(torch.tensor([[-2.0, -2.0, -2.0]]), rewards)
    assert equal.tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("k", [2, 3, 5])
def test_agreement_is_that_of_slow_loops_and_scipy(k):
    generator = torch.Generator().manual_seed(k)
    scores = -torch.randint(1, 6, (200, k), generator=generator).float() / 4  # with ties
    rewards = torch.randint(0, 3, (200, k), generator=generator).float().sort(dim=1, descending=True).values
    n = margin = right = tau = 0.0
    for own, given in zip(scores.tolist(), rewards.tolist(), strict=True):
        if len(set(given)) == 1:
            continue
        n += 1
        margin += own[0] - own[-1]
        top = [i for i in range(k) if own[i] == max(own)]
        right += all(given[i] == max(given) for i in top)
        found = kendalltau(own, given).statistic
        tau += 0.0 if math.isnan(found) else found
    assert ranking_agreement(scores, rewards).tolist() == pytest.approx([n, margin, right, tau], rel=1e-5)


def batch_of(count, k, seed=0):
    generator = torch.Generator().manual_seed(seed)
    n_tokens = torch.randint(1, 9, (count, k), generator=generator).float()
    sums = -n_tokens * torch.rand(count, k, generator=generator) * 3
    rewards = torch.randint(0, 4, (count, k), generator=generator).float().sort(dim=1, descending=True).values
    batch = {
        "rewards": rewards, "sft_index": torch.randint(0, k, (count,), generator=generator),
        "input_ids": torch.zeros(1, 10 * count),
    }  # fmt: skip
    return sums, n_tokens, batch


def sums_of(part, sums, n_tokens, batch):
    own = {name: value[part] for name, value in batch.items() if name != "input_ids"}
    own["input_ids"] = torch.zeros(1, 10 * len(sums[part]))
    loss = pro_loss(sums[part], n_tokens[part], own["rewards"], 0.05, own["sft_index"])
    return step_sums(loss, sums[part], n_tokens[part], own)


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("parts", [1, 2, 6])
def test_metrics_are_those_of_the_whole_batch_however_it_is_divided(k, parts):
    sums, n_tokens, batch = batch_of(12, k)
    size = 12 // parts
    total = sum(sums_of(slice(i, i + size), sums, n_tokens, batch) for i in range(0, 12, size))
    metrics, tokens = step_metrics(total.tolist(), parts)
    assert tokens == 120
    rows = range(12)
    nats = [-float(sums[i, batch["sft_index"][i]]) for i in rows]
    count = sum(float(n_tokens[i, batch["sft_index"][i]]) for i in rows)
    assert metrics["sft_loss"] == pytest.approx(sum(nats) / 12) and metrics["loss"] == pytest.approx(
        float(pro_loss(sums, n_tokens, batch["rewards"], 0.05, batch["sft_index"]).total), rel=1e-5
    )
    assert metrics["sft_loss_per_token"] == pytest.approx(sum(nats) / count)
    if k == 1:
        assert set(metrics) == {"loss", "sft_loss", "sft_loss_per_token"}
        return
    scores = sums / n_tokens
    ordered = [i for i in rows if batch["rewards"][i, 0] != batch["rewards"][i, -1]]
    margins = [float(scores[i, 0] - scores[i, -1]) for i in ordered]
    taus = [kendalltau(scores[i], batch["rewards"][i]).statistic for i in ordered]
    assert metrics["score_margin"] == pytest.approx(sum(margins) / len(ordered), rel=1e-5)
    assert metrics["kendall_tau"] == pytest.approx(sum(taus) / len(ordered), rel=1e-5)
    assert 0 <= metrics["ranking_accuracy"] <= 1 and "ranking_loss_3" in metrics


def test_a_step_without_an_order_has_no_such_metrics():
    sums, n_tokens, batch = batch_of(3, 2)
    batch["rewards"] = torch.ones(3, 2)
    metrics, _ = step_metrics(sums_of(slice(0, 3), sums, n_tokens, batch).tolist(), 1)
    assert set(metrics) == {"loss", "sft_loss", "ranking_loss_1", "sft_loss_per_token"}


def test_no_gradient_flows_into_the_sums():
    sums, n_tokens, batch = batch_of(3, 2)
    assert not sums_of(slice(0, 3), sums.requires_grad_(), n_tokens, batch).requires_grad
