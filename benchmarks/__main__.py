"""`python -m benchmarks`: measures all scenarios, or those that `--only` names, and keeps the results.

All scenarios together take some hours, and up to 20 GB in `data/bench`.
"""

import argparse
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks import report
from benchmarks.measures import Measure
from benchmarks.processes import in_own_process
from benchmarks.scenarios import SCENARIOS, run_scenario
from benchmarks.scenarios.bench import FULL, SMALL

FOLDER: Final = Path("data/bench")
PICTURE: Final = "performance.svg"


def main() -> None:
    """Run the scenarios that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure how fast the product is.")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS), help="scenarios to run")
    parser.add_argument(
        "--size", choices=("full", "small"), default="full", help="small: only shows that everything works"
    )
    arguments = parser.parse_args()
    console = Console()
    is_full = arguments.size == "full"
    folder = FOLDER if is_full else FOLDER / "small"
    results = Path(__file__).parent if is_full else folder
    picture = Path("docs") / PICTURE if is_full else folder / PICTURE
    measures: list[Measure] = []
    for name in arguments.only:
        console.rule(f"[bold]{name}", align="left")
        # Asked before the scenario runs, because an hour later the working tree may be at another commit.
        commit = report.commit_of()
        # Each scenario has a process of its own, because a JVM keeps the heap size that it starts with.
        findings = in_own_process(run_scenario, name, folder.resolve(), FULL if is_full else SMALL)
        report.save(results, picture, name, findings, list(SCENARIOS), commit)
        measures += findings.measures
    report.show(console, measures)
    console.print(f"Results are in {results / 'results.json'}, {results / 'measurements.json'} and {picture}.")


if __name__ == "__main__":
    main()
