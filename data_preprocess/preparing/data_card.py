"""The data card: statistics of the prepared files, as Markdown."""

from collections import Counter
from collections.abc import Callable
from statistics import fmean, quantiles

from data_preprocess.dialogue import render_prompt
from data_preprocess.provenance import git_hash, versions
from data_preprocess.ranking import RESPONSE_FROM
from data_preprocess.words import count_words

CARD_TITLE = "# Data card"
Lengths = Callable[[list[str]], list[int]]


def word_lengths(texts: list[str]) -> list[int]:
    return list(map(count_words, texts))


def render_card(command: str, files: dict[str, list[dict]], facts: list[str], lengths: Lengths, unit: str) -> str:
    """Returns the card of the files written by one command.

    Args:
        command: the command line.
        files: path under the data folder -> its rows.
        facts: further lines: parser, counts of skipped and dropped rows, seeds, models.
        lengths: texts -> length of each.
        unit: the unit of lengths.
    """
    about = [f"- {_in_line(fact)}" for fact in facts]
    about += [f"- git {git_hash()}; " + ", ".join(f"{name} {version}" for name, version in versions().items())]
    sections = [
        CARD_TITLE,
        f"Written by:\n\n    {_in_line(command)}",
        "The texts may be offensive by design (HH-RLHF); use them for research only.",
        "\n".join(about),
        "## Files",
        _files_table(files, lengths, unit),
        "## Rewards by rank",
        _rewards_table(files),
        "## Sources",
        _sources_table(files),
    ]
    return "\n\n".join(sections) + "\n"


def _files_table(files: dict[str, list[dict]], lengths: Lengths, unit: str) -> str:
    header = f"prompts | responses | turns, mean | multi-turn | prompt {unit}, mean (95%) | response {unit}, mean (95%)"
    lines = [f"| file | {header} |", "|---|---:|---:|---:|---:|---:|---:|"]
    for name, rows in files.items():
        turns = [len(row["prefix"][0]) - 1 for row in rows]  # without the bare tag
        responses = [text for row in rows for text in row["suffix"]]
        cells = [str(len(rows)), str(len(responses))]
        cells += [f"{fmean(turns):.2f}", f"{fmean(turn > 1 for turn in turns):.1%}"] if rows else ["", ""]
        cells.append(_length(lengths([render_prompt(row["prefix"][0]) for row in rows])))
        cells.append(_length(lengths(responses)))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _length(values: list[int]) -> str:
    if len(values) < 2:
        return str(values[0]) if values else ""
    return f"{fmean(values):.1f} ({quantiles(values, n=20, method='inclusive')[-1]:.0f})"


def _rewards_table(files: dict[str, list[dict]]) -> str:
    most = max((len(row["reward"]) for rows in files.values() for row in rows), default=0)
    lines = [f"| file | {' | '.join(f'rank {rank}' for rank in range(1, most + 1))} | ties |"]
    lines.append("|---|" + "---:|" * (most + 1))
    for name, rows in files.items():
        by_rank = [[row["reward"][rank] for row in rows if rank < len(row["reward"])] for rank in range(most)]
        means = [f"{fmean(values):.3f}" if values else "" for values in by_rank]
        lines.append(f"| {name} | {' | '.join(means)} | {tie_share(rows):.1%} |")
    note = "Ties: the share of neighbours in a ranking whose rewards are equal. Dev and test rows are not sorted."
    return "\n".join(lines) + f"\n\n{note}"


def tie_share(rows: list[dict]) -> float:
    """Returns the share of adjacent responses, over all rankings, with equal rewards; 0 without any."""
    gaps = [a == b for row in rows for a, b in zip(row["reward"], row["reward"][1:], strict=False)]
    return fmean(gaps) if gaps else 0.0


def _sources_table(files: dict[str, list[dict]]) -> str:
    lines = ["| file | prompts by source | responses by origin |", "|---|---|---|"]
    for name, rows in files.items():
        sources = Counter(row["meta"].get("source", "") for row in rows)
        origins = Counter(origin for row in rows for origin in row["meta"].get(RESPONSE_FROM, []))
        lines.append(f"| {name} | {_counts(sources)} | {_counts(origins) or 'all from the data'} |")
    return "\n".join(lines)


def _counts(counter: Counter) -> str:
    return ", ".join(f"{_in_line(name)} {count}".replace("|", "\\|") for name, count in counter.most_common())


def _in_line(text: str) -> str:
    """Replaces non-printable characters by spaces, so that foreign field and file names stay on one line."""
    return "".join(character if character.isprintable() else " " for character in text)
