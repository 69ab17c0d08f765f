"""Whether large batches can be applied with the default heap."""

import time
from concurrent.futures.process import BrokenProcessPool
from typing import Final

from benchmarks.measures import Findings, Measure, Target
from benchmarks.processes import SparkFailedError, days_with_default_memory, in_own_process
from benchmarks.scenarios.bench import Bench, Sizes, in_words
from benchmarks.workload import Workload
from sessions_dagster.spark.session import SparkSettings

EVENTS_PER_DAY: Final = Sizes(full=10_000_000, small=2_000)
DAYS: Final = Sizes(full=7, small=1)
"""In a full run, enough days for the last batch to find all six dates that it can touch."""


def measure(bench: Bench) -> Findings:
    """Land and apply large batches in a process with the default heap, and time the last one."""
    workload = Workload(bench.size(EVENTS_PER_DAY))
    days = workload.days(bench.size(DAYS))
    input_root, folder = bench.input(workload, days), bench.tables("heap")
    memory = SparkSettings().driver_memory
    bench.log(f"landing and applying {len(days)} batches with a heap of {memory}")
    began = time.perf_counter()
    try:
        seconds = in_own_process(days_with_default_memory, input_root.root, str(folder), days)
        error = None
    except (BrokenProcessPool, SparkFailedError) as failure:
        # Only failures of Spark and of the process are results. Any other error is a fault of the benchmark.
        seconds, error = [time.perf_counter() - began], str(failure).splitlines()[0]
        bench.log(f"failed: {error}")
    name = f"a batch of {in_words(workload.events_per_day)} events, heap of {memory}"
    return Findings(
        [Measure(name, seconds[-1:], Target("completes"), condition=error is None, unit="s")],
        {"events_per_day": workload.events_per_day, "seconds": seconds, "error": error},
    )
