"""PRO and SFT losses, and the shared-prompt forward pass that computes their log-probabilities.

`pro_loss` is a pure function of tensors. `response_logps` returns one log-probability per response for a batch of
`training.collator.RankingCollator`: each prompt is computed once, and its K responses attend to it and to themselves.
"""

from dataclasses import dataclass

import torch
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from data_preprocess.command import InputError
from eval_hh.inference.shared_prompt import packed
from training.collator import packed_row
from training.model_check import check_model

MAX_LOGITS = 1 << 28  # 1 GiB of float32, once: the gradient takes the place of the logits
# Logits that are exponentiated at a time: on a CPU as many as its cache holds, on a GPU few calls for many of them.
CPU_BLOCK, GPU_BLOCK = 1 << 18, 1 << 24


@dataclass
class ProLoss:
    """Result of `pro_loss`; every value is a mean over the batch."""

    total: torch.Tensor  # scalar: the training loss
    ranking: torch.Tensor  # [K-1]: L_k of each position of the ranking except the last
    sft: torch.Tensor  # scalar: negative summed log-probability of the best response, unweighted


def pro_loss(
    sum_logps: torch.Tensor,
    n_tokens: torch.Tensor,
    rewards: torch.Tensor,
    sft_weight: float = 0.05,
    sft_index: torch.Tensor | None = None,
) -> ProLoss:
    """Preference ranking optimization (Song et al., AAAI 2024, arXiv 2306.17492), with rewards as temperatures.

    Args:
        sum_logps: [B, K] summed log-probability of each response's tokens, the best response first.
        n_tokens: [B, K] number of tokens in each sum.
        rewards: [B, K] raw reward logits, non-increasing along K.
        sft_weight: weight of the SFT term, multiplied by (K-1)^2.
        sft_index: [B] the response that the SFT term imitates; None means the first.

    With K = 1 the loss is the SFT term alone.
    """
    sum_logps = sum_logps.float()
    batch, ranking_len = sum_logps.shape
    if sft_index is None:
        sft_index = torch.zeros(batch, dtype=torch.long, device=sum_logps.device)
    sft = -sum_logps.gather(1, sft_index.unsqueeze(1)).mean()
    if ranking_len == 1:
        return ProLoss(total=sft, ranking=sum_logps.new_zeros(0), sft=sft)

    scores = sum_logps / n_tokens
    ranking = torch.stack([_ranking_loss(scores[:, k:], rewards[:, k:].float()) for k in range(ranking_len - 1)])
    total = ranking.sum() + sft_weight * (ranking_len - 1) ** 2 * sft
    return ProLoss(total=total, ranking=ranking, sft=sft)


def _ranking_loss(scores: torch.Tensor, rewards: torch.Tensor) -> torch.Tensor:
    """L_k: the first response of [B, n] against the rest, with scores scaled by t_i = r_k - r_i and t_k = max t_i."""
    gaps = rewards[:, :1] - rewards[:, 1:]
    temperatures = torch.cat([gaps.max(dim=1, keepdim=True).values, gaps], dim=1)
    scaled = scores * temperatures
    return (torch.logsumexp(scaled, dim=1) - scaled[:, 0]).mean()


def response_logps(
    model: torch.nn.Module, batch: dict[str, torch.Tensor], max_logits: int = MAX_LOGITS
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the log-probability of every response of a shared-prompt batch in one forward pass.

    Args:
        model: a transformers causal LM, loaded with sdpa attention.
        batch: output of RankingCollator.
        max_logits: maximum number of logits in memory at a time, see `token_logps`; a model whose own forward must
            compute its logits (scales, caps) holds all of them.

    Returns:
        sum_logps [B, K] in float32 and n_tokens [B, K].

    Raises:
        ValueError: packed rows do not give what the model's own forward gives, see `check_model`.
    """
    row = packed_row(batch)
    checked = check_model(model, row.n_positions)
    if checked.row_limit is not None and row.n_tokens > checked.row_limit:
        raise InputError(
            f"a {type(model).__name__} cannot compute a packed row of {row.n_tokens} tokens (at most "
            f"{checked.row_limit}: lower --per_device_train_batch_size or --block_size)"
        )
    with packed(model, row, batch) as arguments:
        # Logits take most of the memory, so they are computed only where a response token is predicted.
        if checked.head_alone:
            states = model.base_model(**arguments)[0][0, batch["source_index"]]
            logps = token_logps(model.get_output_embeddings(), states, batch["target_ids"], max_logits)
        else:
            logits = model(**arguments, logits_to_keep=batch["source_index"]).logits[0]
            logps = target_logps(logits, batch["target_ids"])

    shape = batch["rewards"].shape
    flat = logps.new_zeros(shape.numel())
    sum_logps = flat.index_add(0, batch["response_index"], logps)
    n_tokens = flat.index_add(0, batch["response_index"], torch.ones_like(logps))
    return sum_logps.view(shape), n_tokens.view(shape)


def token_logps(head: torch.nn.Module, hidden: torch.Tensor, targets: torch.Tensor, max_logits: int) -> torch.Tensor:
    """Returns the log-probability [N], in float32, of `targets` [N] given the `hidden` states [N, width].

    Up to `max_logits` logits are kept for the backward pass. More of them are computed in chunks of positions and
    recomputed in the backward pass, so that only one chunk is in memory at a time.

    Args:
        head: the model's output embeddings.
        max_logits: positions times vocabulary size of a chunk.
    """
    # Under ZeRO-3 the head's weight has no shape.
    n_rows = max(1, max_logits // getattr(head, "out_features", hidden.shape[1]))
    if len(targets) <= n_rows:
        return _logps_of(head, hidden, targets)
    # `head` is called as a module in both passes, where ZeRO-3 gathers its weights.
    chunks = zip(hidden.split(n_rows), targets.split(n_rows), strict=True)
    return torch.cat([checkpoint(_logps_of, head, *chunk, use_reentrant=False) for chunk in chunks])


def _logps_of(head: torch.nn.Module, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return target_logps(head(hidden), targets, overwrite=True)


def target_logps(logits: torch.Tensor, targets: torch.Tensor, overwrite: bool = False) -> torch.Tensor:
    """Returns the log-softmax, in float32, of `logits` [N, vocabulary] at `targets` [N].

    Args:
        overwrite: the backward pass writes the gradient over the logits, which nothing else may read by then (autograd
            raises an error where another operation saved them). Otherwise it is a second buffer of their size;
            F.cross_entropy takes up to four.
    """
    return _TargetLogps.apply(logits, targets, overwrite)


class _TargetLogps(torch.autograd.Function):
    """log p_t = z_t - log sum exp z, whose gradient by z is onehot(t) - softmax(z); in float32, block by block."""

    @staticmethod
    def forward(ctx, logits: torch.Tensor, targets: torch.Tensor, overwrite: bool) -> torch.Tensor:
        norms = torch.cat([logits[rows].float().logsumexp(dim=1) for rows in _blocks(logits)])
        ctx.save_for_backward(logits, targets, norms)
        ctx.overwrite = overwrite
        return logits.gather(1, targets.unsqueeze(1)).squeeze(1).float() - norms

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        logits, targets, norms = ctx.saved_tensors
        written = logits if ctx.overwrite else torch.empty_like(logits)
        targets, norms, gradient = (each.unsqueeze(1) for each in (targets, norms, gradient))
        for rows in _blocks(logits):
            block = (logits[rows].float() - norms[rows]).exp_().mul_(-gradient[rows])
            written[rows] = block.scatter_add_(1, targets[rows], gradient[rows])
        return written, None, None


def _blocks(logits: torch.Tensor) -> list[slice]:
    """Returns the rows of each block of logits [N, vocabulary]; one block without rows if N is 0."""
    block = GPU_BLOCK if logits.is_cuda else CPU_BLOCK
    step = max(1, block // logits.shape[1])
    return [slice(start, start + step) for start in range(0, max(1, len(logits)), step)]


class ResponseLogps(torch.nn.Module):
    """The module that accelerate prepares; its forward is `response_logps`.

    DDP and DeepSpeed synchronise gradients in the forward of the module they wrap; calling a module inside it would
    bypass them.
    """

    def __init__(self, lm: torch.nn.Module):
        super().__init__()
        self.lm = lm

    def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return response_logps(self.lm, batch)
