"""All contenders on the same batches, day by day, each judged by what the others found."""

import gc
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from benchmarks.comparison import assert_same_deliveries, assert_same_sessions, decided_since
from benchmarks.contenders import DuckRecompute, Floor, LandingFloor, Ours, Recompute, window_of
from benchmarks.measures import in_turn, timed
from sessions_dagster.core.apply import ApplyReport
from sessions_dagster.core.contract import BATCH_DATE
from sessions_dagster.lake.places import InputRoot, Warehouse

Made = TypeVar("Made")


class Race:
    """All contenders on the same batches."""

    def __init__(self, spark: SparkSession, input_root: InputRoot, folder: Path) -> None:
        self._spark = spark
        self._ours = Ours(spark, input_root, Warehouse(str(folder / "ours")))
        self._landing_floor = LandingFloor(spark, input_root, str(folder / "landing_floor"))
        self._floor = Floor(self._ours, str(folder / "floor"))
        self._recompute = Recompute(self._ours, str(folder / "recompute"))
        self._duckdb = DuckRecompute(spark, input_root, folder / "duckdb")
        self._judge = DuckRecompute(spark, input_root, folder / "judge")

    def build(self, day: date) -> dict[str, float]:
        """A day of ours alone, for the history; seconds by contender."""
        return self._run({"landing": lambda: self._ours.land(day), "ours": lambda: self._ours.sessionize(day)})

    def run(self, day: date, number: int) -> dict[str, float]:
        """A day of every contender, one right after the other; seconds by contender.

        In every other day the order is the other way round, but landing comes first: the others read what ours landed.

        Args:
            day: The day.
            number: Which one it is, counted from any.
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
        took = {}
        for name, work in works.items():
            took[name], made = timed_alone(self._spark, work)
            if isinstance(made, ApplyReport):
                took["ours, the correction alone"] = made.seconds
        return took

    def compare(self, day: date) -> str:
        """Compare every contender with ours, row for row; says how many rows that were."""
        since, ours = window_of(day)[0], self._ours.rows()
        of_batch = F.col(BATCH_DATE) == day
        landed = assert_same_deliveries(
            {"the landing floor": self._landing_floor.rows().where(of_batch)}, self._ours.raw_events().where(of_batch)
        )
        recomputed = {"the recompute": self._recompute.rows(), "DuckDB": self._duckdb.rows()}
        decided = assert_same_sessions(
            {who: decided_since(since, rows, ours) for who, rows in recomputed.items()},
            decided_since(since, ours, ours),
        )
        # Ours cannot be asked for what the floor makes, which is a batch without any other.
        alone = assert_same_sessions({"the floor": self._floor.rows()}, self._judged([day]).rows())
        return f"{landed:,} rows landed, {decided:,} on the dates of the window, {alone:,} in the batch alone"

    def compare_all(self, days: Sequence[date]) -> int:
        """Compare the whole of our table with one pass over all batches; says how many rows it has."""
        return assert_same_sessions({"ours": self._ours.rows()}, self._judged(days).rows())

    def _judged(self, days: Sequence[date]) -> DuckRecompute:
        self._judge.prepare()
        self._judge.sessionize_batches(days, since=window_of(days[0])[0])
        return self._judge


def timed_alone(spark: SparkSession, work: Callable[[], Made]) -> tuple[float, Made]:
    """Like `timed`, for work that should not pay for the garbage of the work before."""
    gc.collect()
    spark._jvm.System.gc()  # type: ignore[union-attr]
    return timed(work)
