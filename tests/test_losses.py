"""training/losses.py against the paper's formula in scalar math, separate forward passes, and the golden step."""

import json
import math

import pytest
import torch
import torch.nn.functional as F

from eval_hh.inference.packed_ranking import responses_mask
from eval_hh.inference.shared_prompt import PackedRow, additive
from training import losses
from training.collator import EncodedRanking, collate
from training.losses import pro_loss, response_logps, target_logps, token_logps

FAMILIES = ("opt", "llama", "gpt_neox", "gpt2", "qwen2")


def scalar_pro(sum_logps, n_tokens, rewards, sft_weight):
    """paper.md, 'PRO loss, exactly', for one prompt: (total, [L_1 .. L_{K-1}], SFT)."""
    count = len(sum_logps)
    s = [total / n for total, n in zip(sum_logps, n_tokens, strict=True)]
    ranking = []
    for k in range(count - 1):
        t = {i: rewards[k] - rewards[i] for i in range(k + 1, count)}
        t[k] = max(t.values())
        ranking.append(math.log(sum(math.exp(s[i] * t[i]) for i in t)) - s[k] * t[k])
    sft = -sum_logps[0]
    return sum(ranking) + sft_weight * (count - 1) ** 2 * sft, ranking, sft


SUM_LOGPS = [[-12.0, -30.0, -8.0, -21.0], [-40.0, -5.5, -9.0, -14.0]]
N_TOKENS = [[6.0, 10.0, 3.0, 7.0], [16.0, 2.0, 6.0, 5.0]]
REWARDS = [[2.0, 0.5, 0.5, -1.25], [0.3, 0.1, -2.0, -2.5]]


@pytest.mark.parametrize("ranking_len", [2, 3, 4])
def test_pro_loss_is_the_papers_formula(ranking_len):
    batch = [torch.tensor(values)[:, :ranking_len] for values in (SUM_LOGPS, N_TOKENS, REWARDS)]
    loss = pro_loss(*batch, sft_weight=0.05)
    rows = [scalar_pro(*(values[b][:ranking_len] for values in (SUM_LOGPS, N_TOKENS, REWARDS)), 0.05) for b in range(2)]
    assert loss.total.item() == pytest.approx(sum(row[0] for row in rows) / 2, rel=1e-6)
    means = [sum(row[1][k] for row in rows) / 2 for k in range(ranking_len - 1)]
    assert loss.ranking.tolist() == pytest.approx(means, rel=1e-6)
    assert loss.sft.item() == pytest.approx(sum(row[2] for row in rows) / 2)


def test_ranking_len_1_is_sft_with_weight_1():
    loss = pro_loss(torch.tensor([[-12.0], [-40.0]]), torch.tensor([[6.0], [16.0]]), torch.zeros(2, 1))
    assert loss.total.item() == loss.sft.item() == 26.0
    assert loss.ranking.shape == (0,)


def test_sft_index_chooses_the_imitated_response_and_nothing_else():
    batch = [torch.tensor(values) for values in (SUM_LOGPS, N_TOKENS, REWARDS)]
    loss = pro_loss(*batch, sft_index=torch.tensor([2, 1]))
    assert loss.sft.item() == pytest.approx((8.0 + 5.5) / 2)
    assert loss.ranking.tolist() == pro_loss(*batch).ranking.tolist()


def test_all_ties_cost_log_n_and_push_nothing():
    """With equal rewards every temperature is 0: L_k = log(number of responses left), gradient zero."""
    sums = torch.tensor([[-3.0, -9.0, -4.0]], requires_grad=True)
    loss = pro_loss(sums, torch.tensor([[3.0, 3.0, 2.0]]), torch.ones(1, 3), sft_weight=0.0)
    assert loss.ranking.tolist() == pytest.approx([math.log(3), math.log(2)])
    loss.total.backward()
    assert sums.grad.tolist() == [[0.0, 0.0, 0.0]]


def test_extreme_scores_and_half_precision_stay_finite():
    sums = torch.tensor([[-5000.0, -1.0]], dtype=torch.bfloat16, requires_grad=True)
    loss = pro_loss(sums, torch.tensor([[1.0, 1.0]]), torch.tensor([[50.0, -50.0]]))
    assert loss.ranking.item() == pytest.approx(100 * (4992.0 - 1.0), rel=1e-3)  # bf16 holds 4992, not 5000
    loss.total.backward()
    assert torch.isfinite(sums.grad).all()


def test_mask_by_hand():
    """What responses of two and one tokens see behind a prompt of two."""
    assert responses_mask(2, [2, 1]).int().tolist() == [
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],  # the second response does not see the first
    ]


def test_window_by_hand():
    """A prompt of three, responses of two and one, a window of two: distance counts by position, not by column."""
    row = PackedRow([[3, 2, 1]])
    positions = torch.arange(5)
    window = (positions <= positions[:, None]) & (positions > positions[:, None] - 2)
    prompt, responses = row.masks(window[None, None], torch.float32)[0]
    assert prompt.int().tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    assert responses.int().tolist() == [
        [0, 0, 1, 1, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 1, 0, 0, 1],  # the second response's first token stands where the first response's does
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_additive_masks_act_as_boolean_ones(dtype):
    """As on a GPU, whose kernel wants rows at multiples of 8 numbers."""
    generator = torch.Generator().manual_seed(0)
    mask = responses_mask(5, [3, 1, 4])
    query, key, value = (torch.randn(1, 2, n, 4, generator=generator, dtype=dtype) for n in (8, 13, 13))
    added = additive(mask, dtype)
    assert added.shape == mask.shape and added.dtype == dtype and added.stride() == (16, 1)
    ours, boolean = (F.scaled_dot_product_attention(query, key, value, attn_mask=each) for each in (added, mask))
    torch.testing.assert_close(ours, boolean)


def test_no_gradient_is_as_long_as_the_row():
    """What a slice's gradient is filled up to grows with its ranking, not with the row: time is linear in rankings."""
    from model_families import FAMILIES
    from torch.utils._python_dispatch import TorchDispatchMode

    filled = []

    class Fillings(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if func is torch.ops.aten.slice_backward.default and result.dim() == 4:
                filled.append(result.shape[2])
            return result

    model = FAMILIES[0].model().train()
    rankings = [EncodedRanking([3] * 9, [[4] * 5, [5] * n], [5, n], [1.0, 0.0], 0) for n in (2, 3, 4, 5)]
    sums = response_logps(model, collate(rankings))[0]
    with Fillings():
        sums.sum().backward()
    assert filled and max(filled) == max(map(len, rankings)) < sum(map(len, rankings))


@pytest.mark.parametrize("n_targets", [1, 7, 20])
def test_logits_in_chunks_change_nothing(n_targets):
    """Three positions at a time, met twice, against all at once: log-probabilities and gradients."""
    generator = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(5, 11, bias=False)
    hidden = torch.randn(n_targets, 5, generator=generator, requires_grad=True)
    targets = torch.randint(0, 11, (n_targets,), generator=generator)
    expected = head(hidden).log_softmax(-1)[torch.arange(n_targets), targets]
    weights = torch.arange(1.0, n_targets + 1)
    wanted = torch.autograd.grad(expected @ weights, (hidden, head.weight))
    for max_logits in (33, 10**9, 1):
        logps = token_logps(head, hidden, targets, max_logits)
        torch.testing.assert_close(logps, expected)
        torch.testing.assert_close(torch.autograd.grad(logps @ weights, (hidden, head.weight)), wanted)


def test_chunks_never_hold_more_logits_than_allowed():
    calls = []
    head = torch.nn.Linear(5, 11)
    head.register_forward_hook(lambda _, __, logits: calls.append(logits.numel()))
    token_logps(head, torch.randn(20, 5, requires_grad=True), torch.zeros(20, dtype=torch.long), 33).sum().backward()
    assert max(calls) == 33 and sum(calls) == 2 * 20 * 11  # each position once forward, once backward


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("dtype, slack", [(torch.float32, 1e-6), (torch.bfloat16, 2**-8), (torch.float16, 2**-10)])
@pytest.mark.parametrize("n_targets", [0, 1, 23])
def test_log_probabilities_and_gradients_against_float64(n_targets, dtype, slack, overwrite, monkeypatch):
    """torch's log_softmax and gather; two positions a block. Gradients are rounded to the logits' dtype once."""
    monkeypatch.setattr(losses, "CPU_BLOCK", 2 * 37)
    generator = torch.Generator().manual_seed(0)
    logits = 20 * torch.randn(n_targets, 37, generator=generator).to(dtype)
    targets = torch.randint(0, 37, (n_targets,), generator=generator)
    targets[:3] = logits[:3].argmax(dim=1)  # of a probability near 1, where 1 - p must not be rounded before
    weights = torch.randn(n_targets, generator=generator)
    exact = logits.double().requires_grad_()
    expected = exact.log_softmax(dim=1).gather(1, targets[:, None]).squeeze(1)
    (expected @ weights.double()).backward()
    ours = logits.clone().requires_grad_()
    before = ours.detach().clone()
    logps = target_logps(1 * ours, targets, overwrite)  # autograd must not find a leaf overwritten
    assert logps.dtype == torch.float32
    torch.testing.assert_close(logps.double(), expected, rtol=1e-6, atol=1e-5)
    (logps @ weights).backward()
    torch.testing.assert_close(ours.grad.double(), exact.grad, rtol=2 * slack, atol=1e-5)
    assert torch.equal(ours.detach(), before)


def test_overwritten_logits_are_never_read_again():
    """Neither in a second backward pass nor by an operation that saved them."""
    head, hidden, targets = torch.nn.Linear(5, 11), torch.randn(4, 5, requires_grad=True), torch.tensor([1, 2, 3, 4])
    total = token_logps(head, hidden, targets, 10**9).sum()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()
    capped = torch.tanh(head(hidden))  # saves what it returns
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        target_logps(capped, targets, overwrite=True).sum().backward()
    target_logps(torch.tanh(head(hidden)), targets).sum().backward()


def test_the_head_of_a_pass_takes_one_buffer_of_logits(monkeypatch):
    """The allocations of forward and backward pass: no second one as large, where cross_entropy has three more."""
    from torch.utils._python_dispatch import TorchDispatchMode

    made = []
    monkeypatch.setattr(losses, "CPU_BLOCK", 6000)

    class Buffers(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.numel() == 40 * 6000 and result.is_contiguous():
                made.append(result.untyped_storage().data_ptr())
            return result

    head, hidden = torch.nn.Linear(5, 6000, bias=False), torch.randn(40, 5, requires_grad=True)
    with Buffers():
        token_logps(head, hidden, torch.zeros(40, dtype=torch.long), 10**9).sum().backward()
    assert len(set(made)) == 1


def separate_logps(model, tokenizer, records, ranking_len):
    """The slow way: each response in a pass of its own behind its prompt, logits of the whole sequence."""
    from data_preprocess.dialogue import render_prompt, training_text

    sums, counts = [], []
    for record in records:
        n_prompt = 1 + len(tokenizer(render_prompt(record.prefix), add_special_tokens=False)["input_ids"])
        for response in record.suffix[:ranking_len]:
            text = training_text(record.prefix, response)
            ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
            ids = torch.tensor([[*ids, tokenizer.eos_token_id]])
            logps = model(input_ids=ids).logits[0].log_softmax(-1)
            targets = range(n_prompt, ids.shape[1])
            sums.append(sum(logps[i - 1, ids[0, i]] for i in targets))
            counts.append(len(targets))
    shape = (len(records), ranking_len)
    return torch.stack(sums).view(shape), torch.tensor(counts, dtype=torch.float32).view(shape)


@pytest.fixture
def records():
    from data_preprocess.records import Record

    turns = ["<|prompter|>What is amber made of?", "<|assistant|>"]
    more = ["<|prompter|>Hi!", "<|assistant|>Hello, how can I help?", "<|prompter|>Fix my tap?", "<|assistant|>"]
    return [
        Record(turns, ["Amber is made of resin.", "Trees.", "No idea, sorry about that.", "x"], [2.0, 1, 0, -1]),
        Record(more, ["Turn the water off first.", "Change it!", "Why?", "Water sings."], [1.0, 1, -1, -3]),
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_shared_prompt_is_exact(family, tiny_causal_lm_dir, records):
    """Same log-probabilities and gradients as separate passes, K = 1 to 4, two packed rankings of unequal length."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from training.collator import RankingCollator

    folder = tiny_causal_lm_dir(family)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    for ranking_len in (1, 2, 4):
        collator = RankingCollator(tokenizer, ranking_len)
        batch = collator(records)
        results = []
        for sums, counts in (
            response_logps(model, batch),
            separate_logps(model, tokenizer, records, ranking_len),
        ):
            model.zero_grad()
            pro_loss(sums, counts, batch["rewards"]).total.backward()
            results.append((sums.detach(), counts, [p.grad.clone() for p in model.parameters()]))
        ours, separate = results
        torch.testing.assert_close(ours[0], separate[0], rtol=1e-4, atol=1e-4)
        assert torch.equal(ours[1], separate[1])
        for ours_grad, separate_grad in zip(ours[2], separate[2], strict=True):
            scale = separate_grad.abs().max().clamp(min=1e-3)
            assert ((ours_grad - separate_grad).abs().max() / scale).item() < 2e-3

        alone = torch.cat([response_logps(model, collator([record]))[0] for record in records])
        torch.testing.assert_close(ours[0], alone.detach(), rtol=1e-5, atol=1e-5)  # its neighbour changes nothing


def test_every_other_forward_of_the_model_stays_as_it_was(tiny_causal_lm_dir, records):
    """A padded batch and a generation, before and after the model has computed shared prompts."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from training.collator import RankingCollator

    folder = tiny_causal_lm_dir("qwen2")  # grouped keys and values
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([[5, 6, 7, 8, 9], [0, 0, 10, 11, 12]])
    mask = (ids > 0).long()

    def others():
        with torch.no_grad():
            generated = model.generate(ids, attention_mask=mask, max_new_tokens=8, do_sample=False)
            return model(ids, attention_mask=mask).logits, generated

    before = others()
    response_logps(model, RankingCollator(AutoTokenizer.from_pretrained(folder), 2)(records))
    after = others()
    assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])


def test_eager_attention_is_refused(tiny_causal_lm_dir, records):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from training.collator import RankingCollator

    folder = tiny_causal_lm_dir("opt")
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    batch = RankingCollator(AutoTokenizer.from_pretrained(folder), 2)(records)
    with pytest.raises(ValueError, match="sdpa"):
        response_logps(model, batch)


def test_gradient_checkpointing_changes_nothing(tiny_causal_lm_dir, records):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from training.collator import RankingCollator

    folder = tiny_causal_lm_dir("opt")
    batch = RankingCollator(AutoTokenizer.from_pretrained(folder), 4)(records)
    grads = []
    for checkpointing in (False, True):
        model = AutoModelForCausalLM.from_pretrained(folder).train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        pro_loss(*response_logps(model, batch), batch["rewards"]).total.backward()
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(*grads)


def test_golden_step(shared):
    """golden/pro_step.json: loss, parts, gradient norm and target counts of the published computation."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from data_preprocess.records import load_records
    from training.collator import RankingCollator

    folder = shared / "golden" / "tiny_opt"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    records = load_records(shared / "data" / "finegrained_len4")
    model = AutoModelForCausalLM.from_pretrained(folder).train()
    steps = json.loads((shared / "golden" / "pro_step.json").read_text())
    assert {step["ranking_len"] for step in steps} == {1, 2, 3, 4}
    for step in steps:
        ranking_len = step["ranking_len"]
        batch = RankingCollator(tokenizer, ranking_len, append_eos=False)([records[i] for i in step["rows"]])
        sums, counts = response_logps(model, batch)
        loss = pro_loss(sums, counts, batch["rewards"])
        model.zero_grad()
        loss.total.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        weighted_sft = loss.total - loss.ranking.sum()
        assert counts.int().tolist() == step["target_tokens"]
        assert [*loss.ranking.tolist(), weighted_sft.item()] == pytest.approx(step["parts"], rel=1e-4)
        assert loss.total.item() == pytest.approx(step["total_loss"], rel=1e-4)
        assert norm.item() == pytest.approx(step["grad_norm"], rel=1e-4)
