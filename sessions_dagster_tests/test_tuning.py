"""The properties of a Spark session that are set for one step of a run only."""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from sessions_dagster.model.rules import SessionRules
from sessions_dagster.spark.tuning import ADAPTIVE, Sizes, spark_property, tuned
from sessions_dagster.storage.delta_log import rows_around

ROWS_WORTH_COMPILING = Sizes().rows_worth_compiling
COMPILES = "spark.sql.codegen.wholeStage"


@pytest.fixture
def compiling(spark: SparkSession) -> Iterator[SparkSession]:
    with spark_property(spark, COMPILES, "true"):
        yield spark


def test_plans_for_few_rows_are_not_compiled(compiling: SparkSession) -> None:
    with tuned(compiling, ROWS_WORTH_COMPILING - 1):
        assert compiling.conf.get(COMPILES) == "false"


def test_plans_for_many_rows_are_compiled(compiling: SparkSession) -> None:
    with tuned(compiling, ROWS_WORTH_COMPILING):
        assert compiling.conf.get(COMPILES) == "true"


def test_a_setting_not_to_compile_is_respected_for_many_rows_too(spark: SparkSession) -> None:
    with spark_property(spark, COMPILES, "false"), tuned(spark, ROWS_WORTH_COMPILING):
        assert spark.conf.get(COMPILES) == "false"


def test_the_number_of_rows_from_which_plans_are_compiled_can_be_configured(compiling: SparkSession) -> None:
    with spark_property(compiling, "spark.sessions.rowsWorthCompiling", "7"):
        with tuned(compiling, 6):
            assert compiling.conf.get(COMPILES) == "false"
        with tuned(compiling, 7):
            assert compiling.conf.get(COMPILES) == "true"


def test_rows_around_days_count_the_rows_that_late_events_can_touch(tmp_path: Path) -> None:
    day = date(2025, 9, 20)
    dates = [day + timedelta(days=offset) for offset in (-6, -5, 0, 0, 7, 8)]
    rows = pa.table({"event_date": dates, "row": range(len(dates))})
    write_deltalake(tmp_path / "table", rows, partition_by=["event_date"])
    table = DeltaTable(tmp_path / "table")
    assert rows_around([day, day + timedelta(days=2)], SessionRules(), table) == 4
    assert rows_around([day, day + timedelta(days=2)], SessionRules(lateness_days=6), table) == 6
    assert rows_around([], SessionRules(), table) == 0
    assert rows_around([day], SessionRules()) == 0


def test_adaptive_execution_is_off_within_a_step(spark: SparkSession) -> None:
    with spark_property(spark, ADAPTIVE, "true"):
        with tuned(spark, 0):
            assert spark.conf.get(ADAPTIVE) == "false"
        assert spark.conf.get(ADAPTIVE) == "true"


def test_a_property_is_reset_after_its_block_even_if_that_fails(compiling: SparkSession) -> None:
    with pytest.raises(ValueError, match="fails"), spark_property(compiling, COMPILES, "false"):
        raise ValueError("it fails")
    assert compiling.conf.get(COMPILES) == "true"


def test_a_property_that_was_unset_is_unset_afterwards(spark: SparkSession) -> None:
    name = "spark.databricks.delta.commitInfo.userMetadata"
    with spark_property(spark, name, "{}"):
        assert spark.conf.get(name) == "{}"
    assert spark.conf.get(name, None) is None
