"""The file system of a Spark that is one process: what cannot have changed is asked for once, all else each time."""

from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import FileSelector
from pyspark.sql import SparkSession

from sessions_dagster.storage.filesystem import filesystem_of
from sessions_dagster_tests.s3.proxy import Proxy

OF_SPARK = f"part-00000-{UUID(int=7)}-c000.snappy.parquet"


def write_table(spark: SparkSession, uri: str, *counts: int) -> None:
    """Append rows to a Delta table, one commit for each count."""
    for count in counts:
        spark.range(count).coalesce(1).write.format("delta").mode("append").save(uri)


def rows_of_table(spark: SparkSession, uri: str) -> list[int]:
    return sorted(row["id"] for row in spark.read.format("delta").load(uri).collect())


def test_files_and_commits_of_a_table_are_asked_for_once(spark: SparkSession, proxy: Proxy, bucket: str) -> None:
    write_table(spark, f"{bucket}/t", 2, 1)
    assert rows_of_table(spark, f"{bucket}/t") == [0, 0, 1]
    proxy.reset()
    assert rows_of_table(spark, f"{bucket}/t") == [0, 0, 1]
    asked = [
        request for request in proxy.requests if request.path.endswith((".parquet", ".json", "_delta_log", ".crc"))
    ]
    assert not [request for request in asked if request.method == "HEAD"]
    assert not [request for request in asked if request.path.endswith(".json")]


@pytest.mark.parametrize("name", ["events.parquet", OF_SPARK])
def test_a_file_of_a_batch_may_be_replaced_at_any_time(spark: SparkSession, bucket: str, name: str) -> None:
    filesystem, folder = filesystem_of(f"{bucket}/input")
    for count in (3, 500, 1, 500):
        pq.write_table(pa.table({"id": range(count)}), f"{folder}/{name}", filesystem=filesystem)
        assert len(spark.read.parquet(f"{bucket}/input/{name}").collect()) == count


def test_a_table_in_the_place_of_another_one_is_read_as_it_is(spark: SparkSession, bucket: str) -> None:
    filesystem, folder = filesystem_of(f"{bucket}/t")
    for rows in (2, 3, 1):
        write_table(spark, f"{bucket}/t", rows)
        assert rows_of_table(spark, f"{bucket}/t") == list(range(rows))
        for found in filesystem.get_file_info(FileSelector(folder, recursive=True)):
            if found.is_file:
                filesystem.delete_file(found.path)
        # Delta itself would go on with the table that it knows.
        jvm: Any = spark._jvm
        jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
