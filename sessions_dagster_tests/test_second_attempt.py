"""What may pass says nothing about the rows, so it costs none of the columns of the sender's own."""

from datetime import date, datetime
from pathlib import Path
from typing import Final

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from sessions_dagster.storage.delta_tables import replace_slice
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.builders import World
from sessions_dagster_tests.oracle import Event

DAY: Final = date(2025, 9, 20)


@pytest.mark.parametrize(
    "said",
    [
        "Job aborted: ExecutorLostFailure (executor 1 exited)",
        "Caused by: java.net.SocketTimeoutException: Read timed out",
        "Caused by: java.io.IOException: No space left on device",
        "StatusCode.UNAVAILABLE",
    ],
)
def test_the_quarantine_is_not_tried_without_own_columns_after_a_failure_that_may_pass(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    world = World(spark, tmp_path)
    tried = []

    def failing(warehouse: Warehouse, table_uri: str, day: date, rows: DataFrame, row_count: int | None) -> int:
        tried.append(table_uri)
        if table_uri == warehouse.rejected_events:
            raise PySparkException(said)
        return replace_slice(warehouse, table_uri, day, rows, row_count=row_count)

    monkeypatch.setattr("sessions_dagster.pipeline.land.replace_slice", failing)
    with pytest.raises(Exception, match=r"ExecutorLost|timed out|is full|UNAVAILABLE"):
        world.land(DAY, [Event("ada", "a", "idea", datetime(2025, 9, 20, 9))])
    assert tried == [world.warehouse.raw_events, world.warehouse.rejected_events]
