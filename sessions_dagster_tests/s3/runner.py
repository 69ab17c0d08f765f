"""A program that lands and applies batches in rounds, while others do the same with the same tables on S3.

    python -m sessions_dagster_tests.s3.runner FOLDER NAME MEETING RUNNERS ROUNDS

Each step begins at the same moment in all runners. One that is refused is tried again, as Dagster does; any other
failure ends the program.
"""

import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import random
from time import sleep
from typing import Final

from sessions_dagster.errors import is_retryable
from sessions_dagster.input.folders import InputRoot
from sessions_dagster.model.dates import days_between
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.pipeline.apply import apply_batches
from sessions_dagster.pipeline.land import land_batch
from sessions_dagster.pipeline.refresh_sessions import refresh_sessions
from sessions_dagster.spark.session import SparkSettings, start_spark
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.histories import FIRST_DAY
from sessions_dagster_tests.s3.writer import SMALL, meet

_RULES: Final = SessionRules()
_MOST_TRIES: Final = 10

Step = Callable[[Warehouse], object]


def day_of(number: int, runner: int, runners: int) -> date:
    """The batch that a runner lands in a round. In every third round all runners land the same one."""
    return FIRST_DAY + timedelta(days=number * runners + (0 if number % 3 == 2 else runner))


def window_of(number: int, runners: int) -> list[date]:
    """The batches that are applied in a round: all that have landed."""
    return days_between(FIRST_DAY, day_of(number, 0, runners) + timedelta(days=runners - 1))


def until_it_is_done(step: Step, folder: str) -> None:
    """Do a step, and do it again after a refusal."""
    for tries_left in reversed(range(_MOST_TRIES)):
        try:
            # A run begins without handles.
            warehouse = Warehouse(f"{folder}/warehouse")
            with warehouse.looking_once():
                step(warehouse)
        except Exception as error:
            if not is_retryable(error) or not tries_left:
                raise
            print(f"refused: {type(error).__name__}", flush=True)
            sleep(random())
        else:
            return


def main() -> None:
    """Take part in a race."""
    folder, name, meeting, *counts = sys.argv[1:]
    runners, rounds = map(int, counts)
    settings = SparkSettings(master="local[1]", driver_memory="768m", extra_conf=SMALL, on_s3=True)
    spark = start_spark(settings)
    root = InputRoot(f"{folder}/input")
    for number in range(rounds):
        day, window = day_of(number, int(name), runners), window_of(number, runners)

        def land(warehouse: Warehouse, day: date = day) -> None:
            land_batch(spark, root, warehouse, day, "parquet", landed_at=datetime.now(UTC), rules=_RULES)

        def apply(warehouse: Warehouse, window: list[date] = window) -> None:
            apply_batches(spark, warehouse, window, _RULES)

        def refresh(warehouse: Warehouse) -> None:
            refresh_sessions(spark, warehouse)

        for step in (land, apply, refresh):
            meet(Path(meeting), f"{step.__name__}-{number}", name, runners)
            until_it_is_done(step, folder)


if __name__ == "__main__":
    main()
