"""`python -m sessions_dagster_tests.soak` soaks an installation, writes docs/soak.json and draws docs/soak.svg."""

import argparse
import json
import os
import shutil
import sys
import time
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from sessions_dagster_tests.builders import write_batch
from sessions_dagster_tests.corrections import compare_corrections
from sessions_dagster_tests.soak.installation import Installation, installation, now
from sessions_dagster_tests.soak.picture import draw
from sessions_dagster_tests.soak.story import Delivery, Step, story
from sessions_dagster_tests.soak.verify import wrong_rows
from sessions_dagster_tests.ui.server import REPOSITORY

DAYS: Final = 120
EVENTS_PER_DAY: Final = 1_000
SEED: Final = 1

_VERIFIED_EVERY: Final = 10
_TELL_OF_MISSING_BATCHES: Final = {"window_is_complete", "batches_have_landed"}
"""The checks that are negative while a batch is withheld, or a day has none yet. No other one may be."""

_MONTH_SECONDS: Final = 30 * 86_400
_RESULTS: Final = REPOSITORY / "docs" / "soak.json"
_PICTURE: Final = REPOSITORY / "docs" / "soak.svg"


def main() -> int:
    """Soak an installation in a temporary folder. The exit code is 1 if a row is wrong."""
    arguments = argparse.ArgumentParser(prog="python -m sessions_dagster_tests.soak", description=__doc__)
    arguments.add_argument("--days", type=int, default=DAYS)
    arguments.add_argument("--seed", type=int, default=SEED)
    chosen = arguments.parse_args()
    with TemporaryDirectory() as folder, installation(Path(folder)) as running:
        results = soak(running, chosen.days, chosen.seed)
    _RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    _PICTURE.write_text(draw(results["days"]))
    failed = results["negative_checks"].keys() - _TELL_OF_MISSING_BATCHES
    print(json.dumps({name: value for name, value in results.items() if name != "days"}, indent=2))
    return 1 if failed or results["wrong_rows"] or results["wrong_corrections"] else 0


def soak(running: Installation, days: int, seed: int) -> dict[str, Any]:
    """Let days pass, and verify the tables every now and then and at the end.

    Returns:
        What was seen: the counts of what was done, what was wrong, and the seconds and the memory of each day.
    """
    landed: dict[date, Delivery] = {}
    seen: list[dict[str, Any]] = []
    wrong = kills = deliveries = 0
    for step in story(days, EVENTS_PER_DAY, seed):
        seen.append(_pass(running, step))
        landed |= {delivery.day: delivery for delivery in step.deliveries}
        deliveries += len(step.deliveries)
        kills += seen[-1]["killed"]
        told = ""
        if step.number % _VERIFIED_EVERY == 0 or step.number == days:
            found = wrong_rows(running.dagster.warehouse, landed.values())
            wrong += sum(found.values())
            told = f", wrong rows: {found}"
        print(f"day {step.number}: {seen[-1]['seconds']:.1f} s{told}", flush=True)
    corrections = compare_corrections(running.dagster.warehouse)
    checked = running.check_results()
    return {
        "seed": seed,
        "events": sum(len(delivery.events) for delivery in landed.values()),
        "deliveries": deliveries,
        "batches": len(landed),
        "killed_runs": kills,
        "wrong_rows": wrong,
        "corrected_sessions": corrections.corrected_sessions,
        "wrong_corrections": corrections.wrong,
        "check_results": sum(results for results, _ in checked.values()),
        "negative_checks": {name: negative for name, (_, negative) in checked.items() if negative},
        "days": seen,
    }


def _pass(running: Installation, step: Step) -> dict[str, Any]:
    since, killed, seconds = now(), None, 0.0
    for delivery in step.deliveries:
        _deliver(running.dagster.input_root, delivery)
    if step.deliveries:
        if step.kill_after is not None:
            killed = running.kill_next_run(since, step.kill_after)
        seconds = running.wait_until_applied([delivery.day for delivery in step.deliveries], since)
    result = {
        "day": step.number,
        "seconds": seconds,
        "ordinary": step.is_ordinary,
        "killed": killed is not None,
        "resident_bytes": running.resident(),
    }
    if step.compacts:
        result["compaction_seconds"] = running.run_job("compaction", {})
    if step.vacuums:
        _make_old(Path(running.dagster.warehouse.root))
        config = {"ops": {"vacuum_tables": {"config": {"dry_run": False}}}}
        result["vacuum_seconds"] = running.run_job("vacuum", config)
    return result


def _deliver(input_root: Path, delivery: Delivery) -> None:
    """Put a batch into its folder at once, as a careful sender does, also if an older one is there."""
    folder = input_root / f"date={delivery.day.isoformat()}"
    unfinished = folder.with_name(f".{folder.name}")
    write_batch([*delivery.events, delivery.rejected], unfinished)
    if folder.exists():
        folder.rename(replaced := folder.with_name(f".replaced-{folder.name}"))
        unfinished.rename(folder)
        shutil.rmtree(replaced)
    else:
        unfinished.rename(folder)


def _make_old(folder: Path) -> None:
    """Set the times of all files back by a month, so that a vacuum removes what killed runs left."""
    month_ago = time.time() - _MONTH_SECONDS
    for file in folder.rglob("*.parquet"):
        if "_delta_log" not in file.parts:
            os.utime(file, (month_ago, month_ago))


if __name__ == "__main__":
    sys.exit(main())
