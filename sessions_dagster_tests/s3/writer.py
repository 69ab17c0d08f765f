"""A program that appends rows to a Delta table in rounds that all writers of a race begin at the same moment.

    python -m sessions_dagster_tests.s3.writer ENGINE TABLE NAME MEETING WRITERS ROUNDS

It prints how many appends succeeded, and fails if one did not.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pyarrow as pa
from deltalake import CommitProperties, write_deltalake

from sessions_dagster.spark.session import SparkSettings, start_spark
from sessions_dagster.storage.filesystem import delta_rs_options

SMALL: Final = {
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
    "spark.sql.shuffle.partitions": "1",
    "spark.databricks.delta.snapshotPartitions": "1",
}
"""The properties of a Spark that shares the machine with others."""

_PATIENCE_SECONDS: Final = 300


def by_spark(table: str) -> Callable[[str], None]:
    """Appends by a Spark of its own, as this product starts one."""
    spark = start_spark(SparkSettings(master="local[1]", driver_memory="512m", extra_conf=SMALL, on_s3=True))

    def append(row: str) -> None:
        spark.createDataFrame([(row,)], "row string").coalesce(1).write.format("delta").mode("append").save(table)

    return append


def by_delta_rs(table: str) -> Callable[[str], None]:
    """Appends by delta-rs."""

    def append(row: str) -> None:
        write_deltalake(
            table,
            pa.table({"row": [row]}),
            mode="append",
            storage_options=delta_rs_options(table),
            commit_properties=CommitProperties(max_commit_retries=100),
        )

    return append


def meet(meeting: Path, moment: str, name: str, writers: int) -> None:
    """Wait until all writers have come to a moment of the race."""
    (meeting / f"{moment}-{name}").touch()
    until = time.monotonic() + _PATIENCE_SECONDS
    while len(list(meeting.glob(f"{moment}-*"))) < writers:
        if time.monotonic() > until:
            raise TimeoutError(f"not all writers have come to {moment}")
        time.sleep(0.002)


def main() -> None:
    """Take part in a race."""
    engine, table, name, meeting, writers, rounds = sys.argv[1:]
    append = {"spark": by_spark, "delta-rs": by_delta_rs}[engine](table)
    for number in range(int(rounds)):
        meet(Path(meeting), f"round-{number}", name, int(writers))
        append(f"{name}-{number}")
    print(rounds)


if __name__ == "__main__":
    main()
