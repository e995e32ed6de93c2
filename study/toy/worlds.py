"""Does the answer depend on the embedded world? The equal-budget cells on several worlds, and claim 1 in each."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from data_preprocess.command import StopRequest
from data_preprocess.files import atomic_write, hold_lock
from data_preprocess.outputs import check_opening
from data_preprocess.toy_world.world import SENSITIVITY_WORLDS
from study.grid import Cell
from study.publish import RESULTS, publish_results
from study.running.workers import Workers
from study.toy.toy_profile import ToyProfile
from study.toy.toy_study import ToyStudy

if TYPE_CHECKING:
    from eval_hh.reporting.findings import Findings

REPLICATES = 4
TITLE = "# Several worlds"  # first line of the table's file; a file that starts otherwise is not overwritten


def studies(profile: ToyProfile) -> Iterator[tuple[str, ToyStudy]]:
    """Yields (name, study) of each world; the first is the profile's own, with the root and cells of the main study."""
    for name, world in {"own": profile.world, **SENSITIVITY_WORLDS}.items():
        study = replace(profile, world=world)
        yield name, ToyStudy(study.root(), study)


def run_worlds(
    profile: ToyProfile, cells: Sequence[Cell], workers: int, request: StopRequest, folder: Path
) -> dict[str, str]:
    """Runs these cells on each world, writes each world's report and the table of all, and prints the table.

    Args:
        profile: the study whose world is replaced.
        cells: run on each world.
        workers: tasks at a time.
        request: on a stop request Stopped is raised.
        folder: for a folder per world with report.md and table1.tex, and for report.md about all.

    Returns:
        How long each world took, in words.
    """
    from eval_hh.analysis.results import load_results
    from eval_hh.reporting.findings import analyse
    from eval_hh.reporting.sections import check_report, write_report

    check_opening(folder / "report.md", TITLE)
    for name, _ in studies(profile):
        check_report(folder / name)
    found, took = {}, {}
    for name, study in studies(profile):
        print(f"world {name}: {study.root}", file=sys.stderr)
        with hold_lock(study.root), Workers(study.root, workers, request, study.expected_work(cells)) as pool:
            study.run_grid(pool, cells)
            took[name] = pool.took()
        found[name] = analyse(load_results(map(study.result, cells)))
        write_report(folder / name, found[name])
    text = "\n".join(world_table(profile, found))
    with atomic_write(folder / "report.md") as file:
        file.write(text)
    print(text)
    return took


def world_table(profile: ToyProfile, found: dict[str, "Findings"]) -> list[str]:
    """Returns Markdown: the primary effect of claim 1 in each world."""
    from eval_hh.analysis.rules import decide_row
    from eval_hh.analysis.verdicts import MORE_RESPONSES
    from eval_hh.estimates import holm
    from eval_hh.markup import DIFFERENCE, interval_text, p_text
    from eval_hh.reporting.markdown_table import markdown

    effects = [one.verdicts[0].primary for one in found.values()]
    corrected, rows = holm([effect.p for effect in effects]), []
    for (name, study), one, effect, holm_p in zip(studies(profile), found.values(), effects, corrected, strict=True):
        row = [name, change(profile, study), one.results.first.world, f"{100 * effect.difference:{DIFFERENCE}}"]
        row += [interval_text(effect), p_text(effect.p), p_text(holm_p), str(effect.n_replicates)]
        rows.append([*row, decide_row(effect, holm_p)])
    header = ["world", "what differs", "identity", "difference", "95% interval", "p", "Holm p", "replicates", "verdict"]
    return [
        TITLE,
        "",
        f"{MORE_RESPONSES}, the mean difference of PRO and SFT in points of 100 x reward. Each row speaks of new draws "
        "and seeds of its own world, on that world's test prompts; Holm p corrects for the rows.",
        "",
        *markdown(header, rows),
    ]


def change(profile: ToyProfile, study: ToyStudy) -> str:
    """Returns in words how a study's world differs from the profile's own."""
    own, other = asdict(profile.world), asdict(study.profile.world)
    differing = (f"{field} {own[field]} -> {value}" for field, value in other.items() if value != own[field])
    return ", ".join(differing) or "the main study's world"


def publish_worlds(
    profile: ToyProfile, cells: Sequence[Cell], folder: Path, command: str, took: dict[str, str]
) -> None:
    """Publishes each world's cells and report, and the table of all worlds, in the results folder `worlds`."""
    for name, study in studies(profile):
        made = f"Made by `{command}`, whose tasks in this world took {took[name]}."
        publish_results(f"worlds/{name}", folder / name, [study.result(cell) for cell in cells], made)
    with atomic_write(RESULTS / "worlds" / "report.md") as file:
        file.write((folder / "report.md").read_text(encoding="utf-8"))
    print(f"published: {RESULTS / 'worlds'}")
