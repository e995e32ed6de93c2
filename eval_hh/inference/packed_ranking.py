"""The place of one ranking in a packed row, and what its responses' tokens see in full attention."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Ranking:
    """The place of one ranking in its row."""

    start: int
    responses: list[int]  # tokens of each response
    prompt_end: int  # where the responses begin

    @property
    def end(self) -> int:
        return self.prompt_end + sum(self.responses)

    @property
    def n_prompt(self) -> int:
        return self.prompt_end - self.start


def responses_mask(n_prompt: int, lengths: list[int], device: torch.device | None = None) -> torch.Tensor:
    """Returns boolean [R, n_prompt + R]: the R tokens of responses of `lengths` see the prompt and their own past."""
    which = torch.repeat_interleave(torch.tensor(lengths, dtype=torch.long, device=device))
    own_past = (which.unsqueeze(1) == which).tril()
    return F.pad(own_past, (n_prompt, 0), value=True)
