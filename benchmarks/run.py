"""Runs all benchmarks one after another, each in a separate process.

    python benchmarks/run.py --quick    reduced sizes, ten minutes on two cores
    python benchmarks/run.py --full     full sizes, an hour and a half; writes benchmarks/RESULTS.md
    python benchmarks/run.py NAME [--quick] [flags of this benchmark]    one of them; NAME --help lists its flags

`--only NAME ...` runs some of them. A benchmark that cannot run (e.g. because TRL is not installed) is reported with
its reason and the others continue; the exit status is 1 if any failed. A full run can be resumed: finished benchmarks
are kept in runs/benchmarks/ with their commit, and `--anew` runs them again. RESULTS.md gets a section of each; its
other sections, e.g. those from a GPU, stay as they are.
"""

import argparse
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.one_run import BENCHMARKS, TITLES, Result, run_one, table
from benchmarks.side_by_side import ABOVE_ZERO, CORES, benchmark
from data_preprocess.command import OneLineParser, check_flags, run, study_root
from data_preprocess.files import atomic_write, read_json, write_json
from data_preprocess.provenance import machine, versions

HEADING = (
    "# Benchmarks\n\nMade by `python benchmarks/run.py --full`. Both ways run in one process in turns, medians are "
    "given; a ratio is naive / ours. Seconds are the machine's, and it is shared, so only ratios mean anything "
    "elsewhere."
)
RESULTS = Path(__file__).resolve().parent / "RESULTS.md"


def kept(name: str) -> Path:
    """Returns the file in which a full run keeps a finished benchmark."""
    return study_root() / "runs" / "benchmarks" / f"{name}.json"


def sections_of(text: str) -> dict[str, str]:
    """Returns the sections of a Markdown text by title; what stands before the first is none."""
    return {part.split("\n")[0]: f"## {part.rstrip()}" for part in f"\n{text}".split("\n## ")[1:]}


def write_results(results: dict[str, Result]) -> None:
    """Writes these results into RESULTS.md: in the benchmarks' order, then the sections that others make."""
    earlier = sections_of(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    sections = earlier | sections_of("\n".join(table(results)))
    titles = [title for title in BENCHMARKS.values() if title in sections]
    titles += [title for title in sections if title not in titles]
    with atomic_write(RESULTS) as file:
        file.write("\n\n".join([HEADING, *map(sections.get, titles)]) + "\n")


def where(threads: int) -> str:
    """Returns the machine, the versions and what the rows are."""
    from benchmarks.hh_like import source

    names = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"{machine()}, {threads} threads; {names}; rows: {source()}"


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--quick", action="store_true", help="reduced sizes")
    size.add_argument("--full", action="store_true", help="full sizes; writes benchmarks/RESULTS.md")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS), help="run only these")
    parser.add_argument("--anew", action="store_true", help="with --full: also run finished ones again")
    parser.add_argument("--threads", type=int, default=CORES, help="threads of each way (default: one per core)")
    args = parser.parse_args(argv)
    check_flags(vars(args), {"threads": ABOVE_ZERO})
    return args


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in TITLES:
        benchmark(argv[0], argv[1:])
        return
    args = parse_args(argv)
    began, failures = time.perf_counter(), 0
    for name in args.only:
        print(f"\n{BENCHMARKS[name]} ({name}.py)", flush=True)
        if args.full and kept(name).exists() and not args.anew:
            print("kept from an earlier run")
            continue
        result = run_one(name, args.quick, args.threads)
        failed = f"did not run: {result.failure}\n" if result.failure else ""
        print(f"{failed}[{result.seconds:.0f} s]", flush=True)
        failures += bool(failed)
        if args.full and not failed:
            write_json(kept(name), asdict(replace(result, where=where(args.threads))), indent=1)
    if args.full:
        results = {name: Result(**read_json(kept(name))) for name in BENCHMARKS if kept(name).exists()}
        write_results(results)
        print(f"\nwritten: {RESULTS}")
    print(f"\n{(time.perf_counter() - began) / 60:.1f} minutes")
    if failures:
        raise SystemExit(1)


if __name__ == "__main__":
    run(main)
