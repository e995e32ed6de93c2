"""The embedded world's tokenizer: one token per word, including the space before it, so decoding is concatenation.

Text is split before every space and around punctuation and line breaks: "\\n\\nHuman: What is" becomes "\\n\\n",
"Human", ":", " What", " is". A word outside the vocabulary is one unknown token.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from data_preprocess.dialogue import ASSISTANT, PROMPTER, ROLE_NAMES
from data_preprocess.toy_world import facts

SPECIAL_TOKENS = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
# A word with the space before it, a line break or two, or one other character.
PIECE = r" ?[A-Za-z]+(?:'[a-z]+)?|\n\n|\s|[^\sA-Za-z]"


def vocabulary() -> list[str]:
    """Returns all tokens in a fixed order, special tokens first."""
    openers = _openers()
    words = _words_of([*openers, *_inner()])
    firsts = {text.split()[0].strip(".,!?") for text in openers}
    roles = [name.rstrip(":") for name in ROLE_NAMES.values()]
    tags = [PROMPTER, ASSISTANT]
    return [
        *SPECIAL_TOKENS.values(), *tags, "\n\n", " ", *".,:?!", *roles, *(f" {word}" for word in sorted(words)),
        *sorted(firsts),
    ]  # fmt: skip


def _openers() -> list[str]:
    """Returns phrases that can start a turn or a text, where no space precedes them."""
    questions = [facts.sentence(attribute.direct) for attribute in facts.ATTRIBUTES.values()]
    deed = [facts.sentence(statement.told) for statement in facts.DEED_STATEMENTS.values()]
    phrases = [facts.DEED_FORM, facts.CHATTER, facts.ASKER, facts.SORRY, facts.REFUSAL, facts.IGNORANCE]
    return [*questions, *deed, *phrases, *facts.LEADS, *facts.OPENINGS, "A", "An", "The", "It"]


def _inner() -> list[str]:
    """Returns phrases that occur only inside a text."""
    attributes = [text for each in facts.ATTRIBUTES.values() for text in (each.indirect, each.told)]
    groups = (facts.CLOSINGS, facts.RUDE, facts.COMPLIANCE, *facts.VALUES.values())
    owners = [f"{owner}'s" for owner in facts.FACTS["owner"]]
    words = [word for each in facts.FACTS.values() for word in each]
    return [*attributes, *owners, *words, *(text for group in groups for text in group), facts.SMALL_TALK, facts.NEWS,
            "a an the and it"]  # fmt: skip


def filler_words() -> set[str]:
    """Returns the tokens of prompts on which no answer depends: of leads, chatter and roles, but not of questions."""
    phrases = (*facts.LEADS, facts.DEED_FORM, facts.CHATTER, facts.SMALL_TALK, *ROLE_NAMES.values())
    needed = [text for each in facts.ATTRIBUTES.values() for text in (each.direct, each.indirect)]
    return _words_of(phrases) - _words_of(needed) - {"the"} | {"\n\n", ":"}


def _words_of(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in re.findall(r"[A-Za-z]+(?:'[a-z]+)?", text)}


def write_tokenizer(folder: Path) -> None:
    """Writes a folder that AutoTokenizer reads (a PreTrainedTokenizerFast); it adds no special tokens to a text."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {token: i for i, token in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=SPECIAL_TOKENS["unk_token"]))
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=True) for tag in ROLE_NAMES])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = {"tokenizer_object": tokenizer, "clean_up_tokenization_spaces": False, **SPECIAL_TOKENS}
    PreTrainedTokenizerFast(**fast).save_pretrained(folder)
