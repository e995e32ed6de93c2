"""Cuts the files of data_preprocess/example/ from the original data: python tests/make_example.py SHARED FOLDER

SHARED/data holds hh_rlhf/*/test.jsonl.gz, as released, and finegrained_len4/train.json. Nothing is random and no text
is changed: rows are taken from the top of each file, those above MAX_ROW characters passed over.
"""

import gzip
import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

SOURCES = ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled")
MAX_ROW = 1600  # characters of one row's texts
NUM_TRAIN, NUM_TEST, NUM_CORPUS = 40, 20, 60  # rows of each file of HH-RLHF
NUM_RANKINGS = 240
VOCABULARY = 2000
SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def main(shared: Path, folder: Path) -> None:
    corpus = []
    for source in SOURCES:
        rows = short_pairs(shared / "data" / "hh_rlhf" / source / "test.jsonl.gz")
        for split, count in (("train", NUM_TRAIN), ("test", NUM_TEST)):
            write(folder / "hh_rlhf" / source / f"{split}.jsonl", islice(rows, count))
        corpus += [{"text": row["chosen"]} for row in islice(rows, NUM_CORPUS)]
    write(folder / "corpus.jsonl", corpus)
    questions = list(islice(short_rankings(shared / "data" / "finegrained_len4" / "train.json"), NUM_RANKINGS))
    write(folder / "rankings.jsonl", questions)
    texts = [row["text"] for row in corpus] + [text for row in questions for text in row["completions"]]
    write_tokenizer(folder / "tokenizer", texts)


def short_pairs(path: Path) -> Iterator[dict]:
    """Rows {chosen, rejected} of a file of the release."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            if len(row["chosen"]) + len(row["rejected"]) <= MAX_ROW:
                yield row


def short_rankings(path: Path) -> Iterator[dict]:
    """Questions with four responses as {id, prompt, completions, scores}, best first."""
    with open(path, encoding="utf-8") as file:
        for row in map(json.loads, file):
            if sum(map(len, row["suffix"])) <= MAX_ROW:
                yield {
                    "id": f"{row['meta']['path']}/{row['meta']['line_num']}",
                    "prompt": row["prefix"][0][0].removeprefix("<|prompter|>"),
                    "completions": row["suffix"],
                    "scores": row["reward"],
                }


def write(path: Path, rows: Iterable[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_tokenizer(folder: Path, texts: list[str]) -> None:
    """A byte-level BPE that is trained on the texts, as a folder that AutoTokenizer reads."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS).save_pretrained(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
