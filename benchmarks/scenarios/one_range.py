"""Many days as one range run, beside the same days as a run each."""

from datetime import date
from functools import partial
from typing import Final

import dagster as dg

from benchmarks.comparison import assert_same_sessions
from benchmarks.contenders import Ours
from benchmarks.measures import Findings, Measure, at_most
from benchmarks.race import timed_alone
from benchmarks.scenarios.bench import Bench, Sizes, in_words
from benchmarks.workload import Workload
from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs import build_defs
from sessions_dagster.spark.session import SparkSettings, spark_session
from sessions_dagster.storage.warehouse import Warehouse

EVENTS_PER_DAY: Final = Sizes(full=50_000, small=1_000)
DAYS: Final = Sizes(full=30, small=2)


def measure(bench: Bench) -> Findings:
    """Let Dagster run all assets with their checks, in this process: as one range run, and day by day.

    The range runs once before the daily runs and once after them, so that neither side has the warmer process.
    """
    workload = Workload(bench.size(EVENTS_PER_DAY))
    # The additional first day warms the process up.
    warm_up, *days = workload.days(bench.size(DAYS) + 1)
    input_root, folder = bench.input(workload, [warm_up, *days]), bench.tables("range")
    with spark_session(SparkSettings()) as spark:
        by_name = {name: Ours(spark, input_root, Warehouse(str(folder / name))) for name in ("range", "runs", "again")}
        runs = {name: _Runs(ours, workload.first_day) for name, ours in by_name.items()}
        for run in runs.values():
            run.of_range(warm_up, warm_up)
        seconds = {}
        for name, run in runs.items():
            bench.log(f"{len(days)} days as {'a run each' if name == 'runs' else 'one range run'}")
            ranges = [(day, day) for day in days] if name == "runs" else [(days[0], days[-1])]
            seconds[name] = sum(timed_alone(spark, partial(run.of_range, *each))[0] for each in ranges)
            bench.log(f"that took {seconds[name]:.1f} s")
        rows = assert_same_sessions({"the range run": by_name["range"].rows()}, by_name["runs"].rows())
        bench.log(f"both have the same {rows:,} rows")
    values = [seconds[name] / seconds["runs"] for name in ("range", "again")]
    name = f"{len(days)} days as one range run / as {len(days)} runs, {in_words(workload.events_per_day)} events a day"
    return Findings(
        [Measure(name, values, at_most(0.4))], {"events_per_day": workload.events_per_day, "seconds": seconds}
    )


class _Runs:
    """Dagster runs of all assets on one warehouse."""

    def __init__(self, ours: Ours, first_day: date) -> None:
        config = SessionsConfig(start_date=first_day, input_root=ours.input.root, warehouse_root=ours.warehouse.root)
        self._job = build_defs(config).resolve_implicit_global_asset_job_def()
        self._instance = dg.DagsterInstance.ephemeral()

    def of_range(self, first: date, last: date) -> None:
        """Run a range of days as one run."""
        self._job.execute_in_process(
            instance=self._instance,
            tags={
                "dagster/asset_partition_range_start": first.isoformat(),
                "dagster/asset_partition_range_end": last.isoformat(),
            },
            run_config={"loggers": {"console": {"config": {"log_level": "WARNING"}}}},
        )
