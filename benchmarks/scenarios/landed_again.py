"""A batch that lands again after its sender corrected it, beside a recompute."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Final, Self

from pyspark.sql import SparkSession

from benchmarks.comparison import assert_same_sessions, decided_since
from benchmarks.contenders import Ours, Recompute, one_pass, window_of
from benchmarks.measures import Findings, Measure, at_most, ratios
from benchmarks.scenarios.bench import Bench, Sizes, in_words
from benchmarks.scenarios.last_batch import input_with_last_batch
from benchmarks.scenarios.rounds import seconds_of_rounds
from benchmarks.workload import Workload, with_others
from sessions_dagster.input.folders import InputRoot
from sessions_dagster.spark.session import SparkSettings, spark_session
from sessions_dagster.storage.warehouse import Warehouse

EVENTS_PER_DAY: Final = Sizes(full=1_000_000, small=2_000)


def measure(bench: Bench) -> Findings:
    """Land the newest batch again, with some rows replaced, and time the product and the recompute on it.

    Each round works on its own copy of both tables. At the end all rows of the product are compared with one pass over
    all batches as they have landed by then, and the rows of the recompute with those of the product.
    """
    workload = Workload(bench.size(EVENTS_PER_DAY))
    days = workload.days(bench.scale.history_days + 1)
    day, input_root, folder = days[-1], bench.input(workload, days), bench.tables("landed-again")
    correct = partial(with_others, workload=workload, day=day)
    corrected = input_with_last_batch(input_root, days, correct, folder / "input")

    def of_round(number: int) -> _OursAndRecompute:
        return _OursAndRecompute.at(spark, corrected, folder / f"round-{number}")

    def works_of(number: int) -> dict[str, Callable[[], object]]:
        # A folder for each round, because Spark remembers the state of tables at paths that it has read before.
        shutil.copytree(folder / "landed", folder / f"round-{number}")
        both = of_round(number)
        return {
            "ours": lambda: both.ours.sessionize(day),
            "recompute": lambda: both.recompute.sessionize(day),
        }

    with spark_session(SparkSettings()) as spark:
        bench.log("building the history, and landing its last batch again")
        both = _OursAndRecompute.at(spark, input_root, folder / "landed")
        both.build(days)
        replace(both.ours, input=corrected).land(day)
        seconds = seconds_of_rounds(bench, spark, works_of)
        last = of_round(bench.scale.warm_up_rounds + bench.scale.measured_days - 1)
        expected = one_pass(spark, corrected, days, folder / "reference")
        rows = assert_same_sessions({"ours": last.ours.rows()}, expected)
        bench.log(f"ours has the same {rows:,} rows as one pass over all batches")
        bench.log(f"the recompute has {last.compare(day):,} of them")
    name = f"a batch landed again / recompute, {in_words(workload.events_per_day)} events a day"
    return Findings(
        [Measure(name, ratios(seconds["ours"], seconds["recompute"]), at_most(1))],
        {"events_per_day": workload.events_per_day, "seconds": seconds},
    )


@dataclass(frozen=True)
class _OursAndRecompute:
    """The product, and a recompute of the batches that the product landed."""

    ours: Ours
    recompute: Recompute

    @classmethod
    def at(cls, spark: SparkSession, input_root: InputRoot, folder: Path) -> Self:
        """Return both, with their tables in a folder."""
        ours = Ours(spark, input_root, Warehouse(str(folder / "ours")))
        return cls(ours, Recompute(ours, str(folder / "recompute")))

    def build(self, days: Sequence[date]) -> None:
        """Land and apply days, so that both tables have the dates of the last day's window."""
        for day in days:
            self.ours.land(day)
        self.ours.sessionize_range(days[:-1])
        self.ours.sessionize(days[-1])
        self.recompute.sessionize(days[-1])

    def compare(self, day: date) -> int:
        """Compare both row by row after they have run a day, and return the number of rows compared."""
        since, ours = window_of(day)[0], self.ours.rows()
        recomputed = {"the recompute": decided_since(since, self.recompute.rows(), ours)}
        return assert_same_sessions(recomputed, decided_since(since, ours, ours))
