"""Public names of models and tokenizers at their earlier place, for code outside this repository that imports them."""

from data_preprocess.hub import load_tokenizer
from eval_hh.inference.models import load_causal_lm, prompt_ids

__all__ = ["load_causal_lm", "load_tokenizer", "prompt_ids"]
