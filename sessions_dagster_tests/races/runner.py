"""A process that does what it is told with the tables, by a Spark of its own that stays from one order to the next.

    python -m sessions_dagster_tests.races.runner ON_S3

An order is a line of JSON on the standard input: the folder, when to begin on the monotonic clock, which is the same
in all processes of a machine, and the steps. Each step begins without handles, as one in Dagster does, and is tried
again if it is refused. The answer is a line of JSON, after a line that begins with `refused` for each refusal.
"""

import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any, Final

from pyspark.sql import SparkSession

from sessions_dagster.input.folders import InputRoot
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.pipeline.apply import apply_batches
from sessions_dagster.pipeline.land import land_batch
from sessions_dagster.pipeline.refresh_sessions import refresh_sessions
from sessions_dagster.spark.session import SparkSettings, start_spark
from sessions_dagster.storage.maintenance import compact, vacuum
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.races.scheduled import backfill, sensor
from sessions_dagster_tests.s3.runner import until_it_is_done
from sessions_dagster_tests.s3.writer import SMALL

RULES: Final = SessionRules()

READY: Final = "ready"

Step = Callable[[SparkSession, InputRoot, Warehouse, list[date]], object]


def land(spark: SparkSession, root: InputRoot, warehouse: Warehouse, days: list[date]) -> None:
    """Land a batch."""
    (day,) = days
    land_batch(spark, root, warehouse, day, "parquet", landed_at=datetime.now(UTC), rules=RULES)


def apply(spark: SparkSession, root: InputRoot, warehouse: Warehouse, days: list[date]) -> None:
    """Apply the batches of the windows of a range, of which the first and the last day are given."""
    apply_batches(spark, warehouse, RULES.batch_window(*days), RULES)


def refresh(spark: SparkSession, root: InputRoot, warehouse: Warehouse, days: list[date]) -> None:
    """Bring `sessions` up to date."""
    refresh_sessions(spark, warehouse)


def compact_all(spark: SparkSession, root: InputRoot, warehouse: Warehouse, days: list[date]) -> None:
    """Compact all tables that there are."""
    for table in filter(warehouse.open, warehouse.tables):
        compact(spark, warehouse, table)


def vacuum_all(spark: SparkSession, root: InputRoot, warehouse: Warehouse, days: list[date]) -> None:
    """Vacuum all tables that there are."""
    for table in filter(warehouse.open, warehouse.tables):
        vacuum(spark, warehouse, table, dry_run=False)


STEPS: Final[Mapping[str, Step]] = {
    "land": land,
    "apply": apply,
    "refresh": refresh,
    "compact": compact_all,
    "vacuum": vacuum_all,
}

SCHEDULED: Final[Mapping[str, Callable[..., None]]] = {"sensor": sensor, "backfill": backfill}
"""What is done by Dagster, which tries a step that is refused again by itself."""


def obey(spark: SparkSession, order: Mapping[str, Any]) -> None:
    """Do all steps of an order, from its moment on."""
    folder = str(order["folder"])
    time.sleep(max(0.0, order["at"] - time.monotonic()))
    for name, *days in order["steps"]:
        if name in SCHEDULED:
            SCHEDULED[name](folder, *days)
            continue
        step, dates = STEPS[name], [date.fromisoformat(day) for day in days]

        def on_tables(warehouse: Warehouse, step: Step = step, dates: list[date] = dates) -> object:
            return step(spark, InputRoot(f"{folder}/input"), warehouse, dates)

        until_it_is_done(on_tables, folder)


def main() -> None:
    """Obey orders until there are no more."""
    (on_s3,) = sys.argv[1:]
    settings = SparkSettings("local[1]", driver_memory="512m", extra_conf=SMALL, on_s3=on_s3 == "true")
    spark = start_spark(settings)
    print(READY, flush=True)
    for line in sys.stdin:
        try:
            obey(spark, json.loads(line))
        except Exception:
            print(json.dumps({"failed": traceback.format_exc()}), flush=True)
        else:
            print(json.dumps({"failed": None}), flush=True)


if __name__ == "__main__":
    main()
