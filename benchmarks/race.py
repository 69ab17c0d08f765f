"""All contenders on the same batches, day by day, and the comparison of their results."""

import gc
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.comparison import assert_same_deliveries, assert_same_sessions, decided_since
from benchmarks.contenders import DuckRecompute, Floor, LandingFloor, Ours, Recompute, one_pass, window_of
from benchmarks.measures import in_turn, timed
from sessions_dagster.input.folders import InputRoot
from sessions_dagster.model.columns import BATCH_DATE
from sessions_dagster.pipeline.apply import ApplyReport
from sessions_dagster.storage.warehouse import Warehouse

Result = TypeVar("Result")


class Race:
    """All contenders on the same batches."""

    def __init__(self, spark: SparkSession, input_root: InputRoot, folder: Path) -> None:
        self._spark = spark
        self._input = input_root
        self._ours = Ours(spark, input_root, Warehouse(str(folder / "ours")))
        self._landing_floor = LandingFloor(spark, input_root, str(folder / "landing_floor"))
        self._floor = Floor(self._ours, str(folder / "floor"))
        self._recompute = Recompute(self._ours, str(folder / "recompute"))
        self._duckdb = DuckRecompute(spark, input_root, folder / "duckdb")
        self._reference_folder = folder / "reference"

    def build(self, day: date) -> dict[str, float]:
        """Run a day of the product alone, to build the history, and return the seconds by name."""
        return self._run({"landing": lambda: self._ours.land(day), "ours": lambda: self._ours.sessionize(day)})

    def run(self, day: date, number: int) -> dict[str, float]:
        """Run a day of every contender, one right after the other.

        The order is reversed every other day. Landing always comes first, because the others read its table.

        Args:
            day: The day.
            number: The number of the day, counted from any day.

        Returns:
            The seconds by contender.
        """
        self._floor.prepare()
        self._duckdb.prepare()
        landing: dict[str, Callable[[], Any]] = {
            "landing floor": lambda: self._landing_floor.land(day),
            "landing": lambda: self._ours.land(day),
        }
        sessions: dict[str, Callable[[], Any]] = {
            "floor": lambda: self._floor.sessionize(day),
            "ours": lambda: self._ours.sessionize(day),
            "recompute": lambda: self._recompute.sessionize(day),
            "DuckDB": lambda: self._duckdb.sessionize(day),
        }
        return self._run(dict([*in_turn(landing, number), *in_turn(sessions, number)]))

    def _run(self, works: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
        taken = {}
        for name, work in works.items():
            taken[name], result = timed_alone(self._spark, work)
            if isinstance(result, ApplyReport):
                taken["ours, the correction alone"] = result.seconds
        return taken

    def compare(self, day: date) -> str:
        """Compare every contender with the product row by row, and return the numbers of rows in words."""
        since, ours = window_of(day)[0], self._ours.rows()
        of_batch = F.col(BATCH_DATE) == day
        landed = assert_same_deliveries(
            {"the landing floor": self._landing_floor.rows().where(of_batch)}, self._ours.raw_events().where(of_batch)
        )
        recomputed = {"the recompute": self._recompute.rows(), "DuckDB": self._duckdb.rows()}
        decided = assert_same_sessions(
            {contender: decided_since(since, rows, ours) for contender, rows in recomputed.items()},
            decided_since(since, ours, ours),
        )
        # The floor knows only this one batch, so it is compared with a pass over this batch, not with the product.
        alone = assert_same_sessions({"the floor": self._floor.rows()}, self._one_pass([day]))
        return f"{landed:,} rows landed, {decided:,} on the dates of the window, {alone:,} in the batch alone"

    def compare_all(self, days: Sequence[date]) -> int:
        """Compare the whole table of the product with one pass over all batches, and return its number of rows."""
        return assert_same_sessions({"ours": self._ours.rows()}, self._one_pass(days))

    def _one_pass(self, days: Sequence[date]) -> DataFrame:
        return one_pass(self._spark, self._input, days, self._reference_folder)


def timed_alone(spark: SparkSession, work: Callable[[], Result]) -> tuple[float, Result]:
    """Time some work after a garbage collection, so that it does not pay for the garbage of earlier work."""
    gc.collect()
    spark._jvm.System.gc()  # type: ignore[union-attr]
    return timed(work)
