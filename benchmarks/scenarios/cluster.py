"""What a million events cost on a cluster of Spark, for days of several sizes."""

from collections.abc import Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Final

from pyspark.sql import SparkSession

from benchmarks.comparison import assert_same_sessions
from benchmarks.contenders import Ours, one_pass
from benchmarks.measures import Findings, Measure, at_most
from benchmarks.race import timed_alone
from benchmarks.scenarios.bench import Bench, Sizes, in_words
from benchmarks.workload import Workload
from sessions_dagster.spark.session import SparkSettings, spark_session
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.cluster.standalone import standalone

EVENTS_PER_DAY: Final = Sizes(full=(1_000_000, 5_000_000, 20_000_000), small=(1_000, 2_000))
MEASURED_DAYS: Final = Sizes(full=3, small=1)

_WORKER_MEMORY: Final = "6g"
_EXECUTOR_MEMORY: Final = "5g"


def measure(bench: Bench) -> Findings:
    """Land and apply days on a standalone cluster of two workers with a core each, after a history as one range.

    Driver, master and workers are processes of this machine, which read and write the same folders. At the end of each
    size the table is compared with one pass over all batches.
    """
    sizes = bench.size(EVENTS_PER_DAY)
    folder = bench.tables("cluster")
    (folder / "logs").mkdir()
    conf = {"spark.executor.memory": _EXECUTOR_MEMORY}
    with standalone(folder / "logs", worker_memory=_WORKER_MEMORY) as cluster:
        settings = SparkSettings(cluster.master, extra_conf=conf, shared_folders=True)
        with spark_session(settings) as spark:
            seconds = {events: _seconds(bench, spark, events, folder) for events in sizes}
    return Findings(_measures(seconds), {"seconds": {in_words(events): days for events, days in seconds.items()}})


def _seconds(bench: Bench, spark: SparkSession, events: int, folder: Path) -> list[float]:
    """The seconds of each measured day of a size."""
    workload = Workload(events)
    days = workload.days(bench.scale.history_days + bench.size(MEASURED_DAYS))
    history, measured = days[: bench.scale.history_days], days[bench.scale.history_days :]
    ours = Ours(spark, bench.input(workload, days), Warehouse(str(folder / f"{events}")))
    bench.log(f"{in_words(events)} events a day: building the history")
    for day in history:
        ours.land(day)
    ours.sessionize_range(history)
    seconds = []
    for day in measured:
        taken, _ = timed_alone(spark, partial(_land_and_apply, ours, day))
        bench.log(f"{in_words(events)} events a day, {day.isoformat()}: {taken:.1f} s")
        seconds.append(taken)
    expected = one_pass(spark, ours.input, days, folder / "reference")
    rows = assert_same_sessions({"ours": ours.rows()}, expected)
    bench.log(f"{in_words(events)} events a day: the same {rows:,} rows as one pass over all batches")
    return seconds


def _land_and_apply(ours: Ours, day: date) -> None:
    ours.land(day)
    ours.sessionize(day)


def _measures(seconds: Mapping[int, Sequence[float]]) -> list[Measure]:
    """A row for each size but the smallest: what a million of its events cost beside a million of the smallest."""
    smallest, *others = seconds
    per_million = {events: [each / events * 1e6 for each in days] for events, days in seconds.items()}
    return [
        Measure(
            f"seconds of a million events on a cluster, {in_words(events)} / {in_words(smallest)} a day",
            [each / other for each, other in zip(per_million[events], per_million[smallest], strict=True)],
            at_most(1),
        )
        for events in others
    ]
