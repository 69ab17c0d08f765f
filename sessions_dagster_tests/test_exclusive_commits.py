"""Commits that are refused if another run has committed since the version that they were computed from."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Final

import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sessions_dagster.errors import ConcurrentWriteError
from sessions_dagster.storage.exclusive_commits import APPLICATION, exclusive_commit
from sessions_dagster.storage.sql import quoted, run_sql

D20: Final = date(2025, 9, 20)

Write = Callable[[DataFrame, str], object]


def append(rows: DataFrame, uri: str) -> None:
    rows.write.format("delta").mode("append").save(uri)


def replace_where(rows: DataFrame, uri: str) -> None:
    rows.write.format("delta").mode("overwrite").option("replaceWhere", f"day = DATE'{D20}'").save(uri)


def replace_on(rows: DataFrame, uri: str) -> None:
    writer = rows.alias("new").write.format("delta").mode("overwrite").option("targetAlias", "existing")
    writer.option("replaceOn", "existing.n = new.n").save(uri)


def merge(rows: DataFrame, uri: str) -> None:
    source = rows.withColumnsRenamed({"n": "new_n", "day": "new_day"})
    values = {"n": F.col("new_n"), "day": F.col("new_day")}
    source.mergeInto(quoted(uri), F.expr("n = new_n")).whenNotMatched().insert(values).merge()


def delete(rows: DataFrame, uri: str) -> None:
    run_sql(rows.sparkSession, f"DELETE FROM {quoted(uri)} WHERE n = 1")


WRITES: Final[list[Write]] = [append, replace_where, replace_on, merge, delete]


@pytest.fixture
def uri(spark: SparkSession, tmp_path: Path) -> str:
    uri = str(tmp_path / "table")
    rows(spark, 1).write.format("delta").partitionBy("day").save(uri)
    return uri


def rows(spark: SparkSession, n: int) -> DataFrame:
    return spark.createDataFrame([(n, D20)], "n int, day date")


@pytest.mark.parametrize("write", WRITES, ids=lambda write: str(write.__name__))
def test_of_two_writes_from_one_version_the_later_one_is_left_out_and_says_so(
    spark: SparkSession, uri: str, write: Write
) -> None:
    ours, theirs = DeltaTable(uri), DeltaTable(uri)
    with exclusive_commit(spark, theirs, {"of": "theirs"}):
        append(rows(spark, 2), uri)
    with pytest.raises(ConcurrentWriteError, match="from version 0 to 1 while"), exclusive_commit(spark, ours):
        write(rows(spark, 3), uri)
    assert DeltaTable(uri).version() == 1

    with exclusive_commit(spark, ours):
        write(rows(spark, 3), uri)
    assert (ours.version(), ours.transaction_version(APPLICATION)) == (2, 2)
