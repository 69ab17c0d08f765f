"""The properties of a Spark session that are set for one step of a run only."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from sessions_dagster.model.rules import SessionRules
from sessions_dagster.spark.tuning import SHUFFLE_PARTITIONS, Sizes, spark_property, tuned
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


@pytest.mark.parametrize(
    ("rows", "partitions"),
    [
        (0, "1"),
        (100_000, "1"),
        (100_001, "2"),
        (300_001, "4"),
        (10_000_000, "4"),
        (10_000_001, "5"),
        (10**9, "400"),
    ],
)
def test_rows_are_shuffled_into_partitions_of_the_fitting_number_in_a_session_with_four(
    spark: SparkSession, rows: int, partitions: str
) -> None:
    assert value_during(tuned(spark, rows), spark, SHUFFLE_PARTITIONS, before="4") == partitions


def value_during(work: AbstractContextManager[None], spark: SparkSession, name: str, before: str) -> str | None:
    """The value of a property within a context. Checks that the property has its old value afterwards."""
    with spark_property(spark, name, before):
        with work:
            during = spark.conf.get(name)
        assert spark.conf.get(name) == before
    return during


def test_a_property_is_reset_after_its_block_even_if_that_fails(compiling: SparkSession) -> None:
    with pytest.raises(ValueError, match="fails"), spark_property(compiling, COMPILES, "false"):
        raise ValueError("it fails")
    assert compiling.conf.get(COMPILES) == "true"


def test_a_property_that_was_unset_is_unset_afterwards(spark: SparkSession) -> None:
    name = "spark.databricks.delta.commitInfo.userMetadata"
    with spark_property(spark, name, "{}"):
        assert spark.conf.get(name) == "{}"
    assert spark.conf.get(name, None) is None
