"""`python -m benchmarks`: measures everything, or what `--only` names, and keeps what it finds.

Everything takes some hours, and up to 20 GB in `data/bench`.
"""

import argparse
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks import report
from benchmarks.measures import Measure
from benchmarks.processes import in_own_process
from benchmarks.scenarios import FULL, SCENARIOS, SMALL, found_by

FOLDER: Final = Path("data/bench")
PICTURE: Final = "performance.svg"


def main() -> None:
    """Run the scenarios that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure everything.")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS), help="scenarios to run")
    parser.add_argument("--size", choices=("full", "small"), default="full", help="small: to see that it works")
    arguments = parser.parse_args()
    console = Console()
    is_full = arguments.size == "full"
    folder = FOLDER if is_full else FOLDER / "small"
    results = Path(__file__).parent if is_full else folder
    picture = Path("docs") / PICTURE if is_full else folder / PICTURE
    measures: list[Measure] = []
    for name in arguments.only:
        console.rule(f"[bold]{name}", align="left")
        # Before it runs: an hour later, another one may be there.
        commit = report.commit_of()
        # A JVM keeps the heap that it starts with.
        findings = in_own_process(found_by, name, folder.resolve(), FULL if is_full else SMALL)
        report.save(results, picture, name, findings, list(SCENARIOS), commit)
        measures += findings.measures
    report.show(console, measures)
    console.print(f"Kept in {results / 'results.json'}, {results / 'measurements.json'} and {picture}.")


if __name__ == "__main__":
    main()
