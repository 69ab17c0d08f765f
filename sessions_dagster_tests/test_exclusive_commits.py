"""Commits that are refused if another run has committed since the version that they were computed from."""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from threading import Barrier
from typing import Final

import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from sessions_dagster.errors import ConcurrentWriteError, is_retryable
from sessions_dagster.storage.exclusive_commits import APPLICATION, exclusive_commit
from sessions_dagster.storage.sql import quoted, run_sql
from sessions_dagster.storage.warehouse import Warehouse

D20: Final = date(2025, 9, 20)
ROUNDS: Final = 8
WRITERS: Final = 2

Write = Callable[[DataFrame, str], object]


def append(rows: DataFrame, uri: str) -> None:
    rows.write.format("delta").mode("append").save(uri)


def replace_where(rows: DataFrame, uri: str) -> None:
    rows.write.format("delta").mode("overwrite").option("replaceWhere", f"day = DATE'{D20}'").save(uri)


def replace_on(rows: DataFrame, uri: str) -> None:
    writer = rows.alias("new").write.format("delta").mode("overwrite").option("targetAlias", "existing")
    writer.option("replaceOn", "existing.n = new.n").save(uri)


def merge(rows: DataFrame, uri: str) -> None:
    rows.createOrReplaceTempView("new")
    merged = f"MERGE INTO {quoted(uri)} AS existing USING new ON existing.n = new.n WHEN NOT MATCHED THEN INSERT *"
    run_sql(rows.sparkSession, merged)


def delete(rows: DataFrame, uri: str) -> None:
    run_sql(rows.sparkSession, f"DELETE FROM {quoted(uri)} WHERE n = 1")


OF_ROWS: Final[list[Write]] = [append, replace_where, replace_on, merge]


@pytest.fixture
def uri(spark: SparkSession, tmp_path: Path) -> str:
    uri = Warehouse(str(tmp_path)).raw_events
    rows(spark, 1).write.format("delta").partitionBy("day").save(uri)
    return uri


def rows(spark: SparkSession, n: int) -> DataFrame:
    return spark.createDataFrame([(n, D20)], "n int, day date")


def numbers(uri: str) -> list[int]:
    return sorted(DeltaTable(uri).to_pyarrow_table(columns=["n"])["n"].to_pylist())


@pytest.mark.parametrize("write", [*OF_ROWS, delete], ids=lambda write: str(write.__name__))
def test_of_two_writes_from_one_version_the_later_one_is_left_out_and_says_so(
    spark: SparkSession, uri: str, write: Write
) -> None:
    ours, theirs = DeltaTable(uri), DeltaTable(uri)
    exclusive_commit(spark, theirs, lambda: append(rows(spark, 2), uri), {"of": "theirs"})
    with pytest.raises(ConcurrentWriteError, match="from version 0 to 1 while"):
        exclusive_commit(spark, ours, lambda: write(rows(spark, 3), uri))
    assert DeltaTable(uri).version() == 1

    assert exclusive_commit(spark, ours, lambda: write(rows(spark, 3), uri)) == 2
    assert (ours.version(), ours.transaction_version(APPLICATION)) == (2, 2)


@pytest.mark.parametrize("write", OF_ROWS, ids=lambda write: str(write.__name__))
def test_a_write_that_is_overtaken_while_it_is_under_way_adds_nothing_and_may_be_tried_again(
    spark: SparkSession, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write
) -> None:
    monkeypatch.setattr(spark.sparkContext, "pythonExec", sys.executable)
    begun, overtaken = tmp_path / "begun", tmp_path / "overtaken"

    def when_overtaken(row: tuple[int, date]) -> tuple[int, date]:
        begun.touch()
        while not overtaken.exists():
            time.sleep(0.02)
        return row

    session, table = spark.newSession(), DeltaTable(uri)
    slow_rows = session.createDataFrame(
        session.sparkContext.parallelize([(3, D20)], 1).map(when_overtaken), "n int, day date"
    )
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(exclusive_commit, session, table, lambda: write(slow_rows, uri))
        while not (begun.exists() or slow.done()):
            time.sleep(0.02)
        exclusive_commit(spark, DeltaTable(uri), lambda: append(rows(spark, 2), uri))
        overtaken.touch()
        failure = slow.exception()
    assert failure is not None
    assert is_retryable(failure), failure
    assert numbers(uri) == [1, 2]


def test_of_writers_that_race_from_one_version_exactly_one_commits(
    spark: SparkSession, tmp_path: Path, uri: str
) -> None:
    sessions = [spark.newSession() for _ in range(WRITERS)]
    warehouses = [Warehouse(str(tmp_path)) for _ in range(WRITERS)]
    start = Barrier(WRITERS)

    def race(writer: int, number: int) -> int | BaseException | None:
        table = warehouses[writer].open_existing(uri)
        new = rows(sessions[writer], number)
        start.wait(60)
        try:
            return exclusive_commit(sessions[writer], table, lambda: append(new, uri))
        except Exception as error:
            return error

    with ThreadPoolExecutor(WRITERS) as pool:
        for number in range(2, 2 + ROUNDS):
            ended = list(pool.map(race, range(WRITERS), [number] * WRITERS))
            (failure,) = (each for each in ended if isinstance(each, BaseException))
            assert is_retryable(failure), failure
            assert [each for each in ended if each is not failure] == [number - 1]
    assert numbers(uri) == list(range(1, 2 + ROUNDS))


def test_a_commit_of_maintenance_comes_in_between_and_the_version_is_that_of_the_write(
    spark: SparkSession, uri: str
) -> None:
    append(rows(spark, 2), uri)
    table = DeltaTable(uri)
    run_sql(spark, f"OPTIMIZE {quoted(uri)}")
    assert exclusive_commit(spark, table, lambda: append(rows(spark, 3), uri)) == 3
    later = DeltaTable(uri)

    def write_before_maintenance() -> None:
        append(rows(spark, 4), uri)
        spark.newSession().sql(f"OPTIMIZE {quoted(uri)}").collect()

    assert exclusive_commit(spark, later, write_before_maintenance) == 4
    assert (later.version(), numbers(uri)) == (5, [1, 2, 3, 4])


def test_a_write_from_before_a_commit_of_maintenance_keeps_out_one_from_after_it(spark: SparkSession, uri: str) -> None:
    before = DeltaTable(uri)
    run_sql(spark, f"ALTER TABLE {quoted(uri)} SET TBLPROPERTIES ('a' = 'b')")
    after = DeltaTable(uri)
    assert exclusive_commit(spark, before, lambda: append(rows(spark, 2), uri)) == 2
    with pytest.raises(ConcurrentWriteError):
        exclusive_commit(spark, after, lambda: append(rows(spark, 3), uri))
    assert numbers(uri) == [1, 2]


@pytest.mark.parametrize("is_maintained", [False, True])
def test_a_write_that_has_nothing_to_commit_is_no_failure(spark: SparkSession, uri: str, is_maintained: bool) -> None:
    table = DeltaTable(uri)
    if is_maintained:
        run_sql(spark, f"ALTER TABLE {quoted(uri)} SET TBLPROPERTIES ('a' = 'b')")
    assert exclusive_commit(spark, table, lambda: spark.sql("SELECT 1").collect()) is None
    assert DeltaTable(uri).version() == int(is_maintained)
