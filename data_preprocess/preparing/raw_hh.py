"""Reads raw HH-RLHF, from a folder in the release's layout or from the hub, as prompts with two responses."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from data_preprocess.command import InputError
from data_preprocess.dialogue import ParsedPair, explain_pair, has_text, split_turn
from data_preprocess.files import read_jsonl
from data_preprocess.hub import load_data_set
from data_preprocess.preparing.candidates import Candidates, prompt_id

# Raw folder -> name of its test file.
SOURCES = {
    "harmless-base": "harmless_base",
    "helpful-base": "helpful_base",
    "helpful-online": "helpful_online",
    "helpful-rejection-sampled": "helpful_rejection",
}
NO_ALTERNATION = "two turns of one role in a row"
# 11 of the 8552 pairs in the release's test files have such a prompt. A file with many more is not HH-RLHF.
MAX_ODD_SHARE = 0.05


@dataclass(frozen=True)
class RawSplit:
    """One split of one source."""

    name: str  # "harmless-base/test"
    pairs: list[Candidates]  # responses: chosen, rejected; rewards 1 and 0
    skipped: list[tuple[int, str]]  # lines without a valid pair, and the reason
    odd: list[int]  # lines kept although the roles in their prompt do not alternate

    def counts(self) -> str:
        """Returns the numbers of rows and of skipped lines by reason, in one line."""
        by_reason = Counter(reason for _, reason in self.skipped).items()
        reasons = "".join(f", {count} because {reason}" for reason, count in by_reason)
        return f"{self.name}: {len(self.pairs)} rows, {len(self.skipped)} skipped{reasons}"

    def summary(self) -> str:
        """Returns the counts and all skipped or odd lines, as text."""
        lines = [self.counts()]
        lines += [f"  skipped line {line}: {reason}" for line, reason in self.skipped]
        lines += [f"  kept line {line}: {NO_ALTERNATION} in its prompt" for line in self.odd]
        return "\n".join(lines)


def read_split(raw: str, source: str, split: str, published: bool) -> RawSplit:
    """Reads one split of one source.

    Args:
        raw: a folder with the four sources, or the data set's name on the hub.
        source: a key of SOURCES.
        split: "train" or "test".
        published: use the published parsing rule (dialogue.parse_pair).

    Raises:
        InputError: naming file and line: a line that is not a pair of texts; over 5% of the lines do not start with a
            role tag, or have two turns of one role in a row; no line is a valid pair.
    """
    where, numbered = _lines(raw, source, split)
    pairs, skipped, odd = [], [], []
    for line, pair in numbered:
        for key in ("chosen", "rejected"):
            if not isinstance(pair.get(key), str):
                raise InputError(f"{where}:{line}: {key} is not a text (expected chosen and rejected)")
        parsed = explain_pair(pair["chosen"], pair["rejected"], published)
        if not isinstance(parsed, ParsedPair):
            skipped.append((line, parsed))
            continue
        if not has_text(parsed.prefix):
            skipped.append((line, "its prompt has no text"))
            continue
        if not alternates(parsed.prefix):
            odd.append(line)
        meta = {"id": prompt_id(parsed.prefix), "source": f"{source}/{split}", "line": line}
        pairs.append(Candidates(parsed.prefix, parsed.suffix, [1.0, 0.0], meta))
    untagged = [line for line, reason in skipped if "role tag" in reason]
    for lines, reason in ((untagged, "no role tag in front"), (odd, NO_ALTERNATION)):
        if len(lines) > MAX_ODD_SHARE * (len(pairs) + len(skipped)):
            found = f"{reason}, as in {len(lines)} of {len(pairs) + len(skipped)} rows"
            raise InputError(f"{where}:{lines[0]}: {found} (expected \\n\\nHuman: and \\n\\nAssistant: in turns)")
    if not pairs:
        found = f"no pairs, all {len(skipped)} lines are skipped" if skipped else "no rows"
        raise InputError(f"{where}: {found} (expected chosen and rejected dialogues)")
    return RawSplit(f"{where}", pairs, skipped, odd)


def alternates(turns: list[str]) -> bool:
    tags = [split_turn(turn)[0] for turn in turns]
    return all(tag != following for tag, following in zip(tags, tags[1:], strict=False))


def has_split(raw: str, split: str) -> bool:
    """Returns whether a folder has files of the split for every source (assumed for a hub name)."""
    return not Path(raw).is_dir() or all(_find(Path(raw), source, split) for source in SOURCES)


def _find(raw: Path, source: str, split: str) -> Path | None:
    paths = [raw / source / f"{split}.jsonl", raw / source / f"{split}.jsonl.gz"]
    return next((path for path in paths if path.is_file()), None)


def _lines(raw: str, source: str, split: str) -> tuple[str, Iterable[tuple[int, dict]]]:
    """Returns (file name, numbered rows), preferring plain to gzipped files; InputError if there is neither."""
    if not Path(raw).exists():
        return f"{raw}/{source}/{split}", enumerate(load_data_set(raw, split, data_dir=source), start=1)
    path = _find(Path(raw), source, split)
    if path is None:
        remedy = ", --dev_from test or --train_from test" if split == "train" else ""
        missing = f"no {split}.jsonl or {split}.jsonl.gz"
        raise InputError(f"{Path(raw) / source}: {missing} (expected raw HH-RLHF{remedy})")
    return str(path), read_jsonl(path)
