"""Runs the GPU benchmarks, each in a process of its own, and writes gpu.json and gpu.md into a folder. Part of gpu.sh.

    python benchmarks/gpu.py FOLDER [--quick] [--only NAME ...]

A benchmark that fails is reported with its reason and the others continue; the exit status is then 1.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.one_run import GPU_BENCHMARKS, run_one, table
from benchmarks.side_by_side import CORES
from data_preprocess.command import OneLineParser, run
from data_preprocess.files import atomic_write, write_json


def heading() -> list[str]:
    """Returns what was run where."""
    from benchmarks.hh_like import source
    from benchmarks.on_device import card
    from data_preprocess.provenance import machine, versions

    names = ", ".join(f"{name} {version}" for name, version in versions().items())
    return [f"{card()}; {machine()}. {names}. Rows: {source()}."]


def main(argv: list[str] | None = None) -> None:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where gpu.json and gpu.md go")
    parser.add_argument("--quick", action="store_true", help="reduced sizes, to try the code without a GPU")
    parser.add_argument(
        "--only", nargs="+", choices=GPU_BENCHMARKS, default=list(GPU_BENCHMARKS), help="run only these"
    )
    args = parser.parse_args(argv)
    args.folder.mkdir(parents=True, exist_ok=True)
    where, results = heading(), {}
    for name in args.only:
        print(f"\n{GPU_BENCHMARKS[name]} ({name}.py)", flush=True)
        results[name] = run_one(name, args.quick, CORES)
        if results[name].failure:
            print(f"did not run: {results[name].failure}", flush=True)
        # Written after each, so that a run that is cut off leaves what it measured.
        measured = {key: asdict(result) for key, result in results.items()}
        write_json(args.folder / "gpu.json", {"where": where[0], **measured}, indent=1)
        with atomic_write(args.folder / "gpu.md") as file:
            file.write("\n".join(where + table(results)) + "\n")
    if any(result.failure for result in results.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    run(main)
