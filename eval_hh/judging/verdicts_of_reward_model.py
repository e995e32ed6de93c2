"""Verdicts of a reward model: the response with the higher score wins, and equal scores are a tie."""

from pathlib import Path
from typing import TYPE_CHECKING

from data_preprocess.command import InputError
from data_preprocess.files import read_jsonl
from data_preprocess.provenance import fingerprint
from eval_hh.inference.resumable_jobs import Job, folder_identity, make_rows, read_note, waiting_jobs
from eval_hh.judging.pairs import Answers

if TYPE_CHECKING:
    from accelerate import PartialState

    from eval_hh.reward_model import RewardModel


# A recorded score is the sigmoid of a logit: above that of 23, which is this, unequal logits may have equal ones.
MOST_TOLD_APART = 1 - 1e-10


def preferences(scores_a: list[float], scores_b: list[float]) -> list[float]:
    """Returns 1 where a's score is higher, 0 where b's is, and 0.5 where they are equal."""
    return [(one > other) + 0.5 * (one == other) for one, other in zip(scores_a, scores_b, strict=True)]


class RewardJudge:
    """A reward model, loaded when a response has no score by it yet."""

    def __init__(self, path: str, batch_size: int):
        self.path, self.batch_size = path, batch_size
        self.identity = folder_identity(path)
        self._model: RewardModel | None = None

    def preference(self, a: Answers, b: Answers, output: Path, label: str, state: "PartialState") -> list[float]:
        """Returns the preference for a on each row; what is computed is kept in `output`, one score a line.

        Raises InputError for a model that cannot be loaded or cannot read a dialogue, RunError for a score that is not
        finite.
        """
        known = [self._recorded(one) for one in (a, b)]
        if None not in known:
            return preferences(*known)
        dialogues = fingerprint({"turns": a.turns, "a": a.texts, "b": b.texts})
        settings = {"step": "judging", "reward_model": self.identity, "dialogues": dialogues}
        job = Job(label, output, None, settings)
        if waiting_jobs([job], state):
            self._score(job, [*a.turns, *b.turns], [*a.texts, *b.texts], state)
            state.wait_for_everyone()
        scores = [row["score"] for _, row in read_jsonl(output)]
        return preferences(scores[: len(a.texts)], scores[len(a.texts) :])

    def _recorded(self, answers: Answers) -> list[float] | None:
        """Returns the scores that rewarding.py made with this model, or None, also if they do not tell logits apart."""
        if answers.scored is None:
            return None
        try:
            made = read_note(answers.scored)["settings"]
        except InputError:
            return None
        is_same = made.get("reward_model") == self.identity and made.get("mixed_precision") == "no"
        return answers.scores if is_same and max(answers.scores, default=0) < MOST_TOLD_APART else None

    def _score(self, job: Job, turns: list[list[str]], texts: list[str], state: "PartialState") -> None:
        from eval_hh.reward_model import check_finite, load_reward_model

        model = self._model = self._model or load_reward_model(self.path)
        encoded = [model.encode(*dialogue) for dialogue in zip(turns, texts, strict=True)]
        prompts = [tuple(dialogue) for dialogue in turns]

        def score(batch: list[int]) -> list[float]:
            logits = model.score_batch([encoded[row] for row in batch], [prompts[row] for row in batch])
            check_finite(logits, [row + 1 for row in batch], f"{self.path}: response ")
            return logits

        batches = model.plan(encoded, prompts, self.batch_size)
        make_rows(job, batches, score, "score", state, lambda scores: [{"score": one} for one in scores])
