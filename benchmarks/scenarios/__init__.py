"""The scenarios of the benchmark: one module each, and the registry of all of them.

A scenario is a function that takes a `Bench` and returns its `Findings`. It prepares its own data, reports its
progress, and removes the tables of an earlier run; the generated input stays for the next run. To add one, write a
module beside the others, with the sizes that only it needs, and add it to `SCENARIOS`. What several scenarios share is
in `bench`, `rounds`, `scans` and `last_batch`.
"""

import shutil
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks.measures import Findings
from benchmarks.scenarios import (
    cluster,
    cold_process,
    compaction,
    corrections,
    daily_run,
    deletion_vectors,
    heap,
    history,
    landed_again,
    late_event,
    one_range,
    shuffled,
    skew,
    warm_memory,
)
from benchmarks.scenarios.bench import Bench, Scale

SCENARIOS: Final[Mapping[str, Callable[[Bench], Findings]]] = {
    "daily-run": daily_run.measure,
    "corrections-1m": partial(corrections.measure, scenario="corrections-1m"),
    "corrections-5m": partial(corrections.measure, scenario="corrections-5m"),
    "history": history.measure,
    "compaction": compaction.measure,
    "range": one_range.measure,
    "skew": skew.measure,
    "landed-again": landed_again.measure,
    "heap": heap.measure,
    "late-event": late_event.measure,
    "cold-process": cold_process.measure,
    "warm-memory": warm_memory.measure,
    "deletion-vectors": deletion_vectors.measure,
    "shuffled": shuffled.measure,
    "cluster": cluster.measure,
}
"""Every scenario by the name that `--only` takes, in the order in which they run."""


def run_scenario(name: str, folder: Path, scale: Scale) -> Findings:
    """Run one scenario and print its progress on the console. Meant to be called through `in_own_process`.

    Args:
        name: The scenario, a key of `SCENARIOS`.
        folder: The folder for generated input and tables.
        scale: How large the run is.

    Returns:
        The findings of the scenario.
    """
    console, began = Console(), time.monotonic()

    def log(message: str) -> None:
        console.print(f"{time.monotonic() - began:6.0f} s  {message}", highlight=False, soft_wrap=True)

    bench = Bench(folder, scale, log)
    findings = SCENARIOS[name](bench)
    # Tables are large. They are kept only after a failure, where they help to find its cause.
    shutil.rmtree(bench.tables(name))
    return findings
