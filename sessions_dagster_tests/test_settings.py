"""What holds for one piece of work in a Spark session, and for that only."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pyspark.sql import SparkSession

from sessions_dagster.core.settings import compiled_if_worth, partitions_for, planned_ahead, rows_around, setting
from sessions_dagster.runtime.sizing import SHUFFLE_PARTITIONS, Sizes

ROWS_WORTH_COMPILING = Sizes().rows_worth_compiling
COMPILES = "spark.sql.codegen.wholeStage"
ADAPTS = "spark.sql.adaptive.enabled"


@pytest.fixture
def compiling(spark: SparkSession) -> Iterator[SparkSession]:
    with setting(spark, COMPILES, "true"):
        yield spark


def test_plans_for_few_rows_are_not_compiled(compiling: SparkSession) -> None:
    with compiled_if_worth(compiling, ROWS_WORTH_COMPILING - 1):
        assert compiling.conf.get(COMPILES) == "false"


def test_plans_for_many_rows_are_compiled(compiling: SparkSession) -> None:
    with compiled_if_worth(compiling, ROWS_WORTH_COMPILING):
        assert compiling.conf.get(COMPILES) == "true"


def test_who_has_said_not_to_compile_is_followed_for_many_rows_too(spark: SparkSession) -> None:
    with setting(spark, COMPILES, "false"), compiled_if_worth(spark, ROWS_WORTH_COMPILING):
        assert spark.conf.get(COMPILES) == "false"


def test_from_how_many_rows_on_plans_are_compiled_can_be_given(compiling: SparkSession) -> None:
    with setting(compiling, "spark.sessions.rowsWorthCompiling", "7"):
        with compiled_if_worth(compiling, 6):
            assert compiling.conf.get(COMPILES) == "false"
        with compiled_if_worth(compiling, 7):
            assert compiling.conf.get(COMPILES) == "true"


@pytest.mark.parametrize(("joined_rows", "adapts"), [(0, "false"), (1_000_000, "false"), (1_000_001, "true")])
def test_plans_are_kept_to_where_no_table_has_to_be_shuffled(
    spark: SparkSession, joined_rows: int, adapts: str
) -> None:
    assert value_during(planned_ahead(spark, joined_rows), spark, ADAPTS, before="true") == adapts


def test_rows_around_days_are_those_that_late_events_may_meet(tmp_path: Path) -> None:
    day = date(2025, 9, 20)
    dates = [day + timedelta(days=offset) for offset in (-6, -5, 0, 0, 7, 8)]
    rows = pa.table({"event_date": dates, "row": range(len(dates))})
    write_deltalake(tmp_path / "table", rows, partition_by=["event_date"])
    uris = str(tmp_path / "table"), str(tmp_path / "no table")
    assert rows_around([day, day + timedelta(days=2)], *uris) == 4
    assert rows_around([], *uris) == 0


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
def test_rows_are_shuffled_into_as_many_partitions_as_fit_them_where_the_session_has_four(
    spark: SparkSession, rows: int, partitions: str
) -> None:
    assert value_during(partitions_for(spark, rows), spark, SHUFFLE_PARTITIONS, before="4") == partitions


def value_during(work: AbstractContextManager[None], spark: SparkSession, name: str, before: str) -> str | None:
    """The value of a property during work; it must have the one of before again afterwards."""
    with setting(spark, name, before):
        with work:
            during = spark.conf.get(name)
        assert spark.conf.get(name) == before
    return during


def test_a_setting_ends_with_its_work_also_where_that_fails(compiling: SparkSession) -> None:
    with pytest.raises(ValueError, match="fails"), setting(compiling, COMPILES, "false"):
        raise ValueError("it fails")
    assert compiling.conf.get(COMPILES) == "true"


def test_a_setting_that_was_not_there_is_not_there_afterwards(spark: SparkSession) -> None:
    name = "spark.databricks.delta.commitInfo.userMetadata"
    with setting(spark, name, "{}"):
        assert spark.conf.get(name) == "{}"
    assert spark.conf.get(name, None) is None
