"""Samples and scores responses to a file of prompts: what tests run in processes of their own, or kill.

python annotate_job.py PROMPTS MODEL REWARD_MODEL FOLDER BATCH_SIZE NUM_PER_PROMPT MAX_NEW_TOKENS
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main(argv: list[str]) -> None:
    from labelling.model_labels import sample_responses, score_rankings
    from labelling.sampling import Sampling

    prompts = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    model, reward_model, folder = argv[1], argv[2], Path(argv[3])
    batch_size, count, tokens = map(int, argv[4:])
    made = folder / "responses.jsonl"
    sampling = Sampling(seed=7, temperature=0.8, top_p=0.9, max_new_tokens=tokens, batch_size=batch_size)
    responses = sample_responses(prompts, model, count, made, sampling)
    score_rankings(prompts, responses, reward_model, folder / "rewards.jsonl", batch_size)


if __name__ == "__main__":
    main(sys.argv[1:])
