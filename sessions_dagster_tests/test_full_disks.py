"""A disk that is full is named, by what Spark says of it. `make test-faults` fills real ones."""

from typing import Final

import pytest
from pyspark.sql import SparkSession

from sessions_dagster.errors import FullDiskError, is_retryable
from sessions_dagster.storage.full_disks import full_disk_text, full_disks_named

ROOT: Final = "/data/lake"
TABLES: Final = f"tables ({ROOT})"
OF_SPARK: Final = "Spark's temporary files"

SHUFFLE: Final = """An error occurred while calling o88.save.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 3.0 failed 1 times
Caused by: java.io.IOException: No space left on device
\tat java.base/sun.nio.ch.FileDispatcherImpl.write0(Native Method)
\tat org.apache.spark.storage.DiskBlockObjectWriter.flush(DiskBlockObjectWriter.scala:351)
\tat org.apache.hadoop.fs.Nothing(RawLocalFileSystem.java:1)"""

DATA: Final = """An error occurred while calling o88.save.
: org.apache.spark.SparkException: [TASK_WRITE_FAILED] Task failed while writing rows.
\tat org.apache.spark.storage.Before(Before.scala:1)
Caused by: java.io.IOException: No space left on device
\tat java.base/java.io.FileOutputStream.writeBytes(Native Method)
\tat org.apache.hadoop.fs.RawLocalFileSystem$LocalFSFileOutputStream.write(RawLocalFileSystem.java:382)
\tat org.apache.spark.storage.After(After.scala:1)"""

SAID: Final = {
    "a shuffle": (SHUFFLE, OF_SPARK),
    "data files": (DATA, TABLES),
    "a quota": (DATA.replace("No space left on device", "Disk quota exceeded"), TABLES),
    "a file that cannot be made": (f"{ROOT}/raw_events/x.parquet (No space left on device)", TABLES),
    "a folder that cannot be made": ("/tmp/blockmgr-1/0c/shuffle_1 (No space left on device)", OF_SPARK),
    "Python": ("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device", TABLES),
}


@pytest.mark.parametrize(("text", "place"), SAID.values(), ids=SAID.keys())
def test_the_disk_is_named_and_that_running_again_is_safe(spark: SparkSession, text: str, place: str) -> None:
    with pytest.raises(FullDiskError, match="running again is safe") as raised, full_disks_named(spark, ROOT):
        raise RuntimeError(text)
    assert f"The disk of {'the ' * (place == TABLES)}{place}" in str(raised.value)
    assert is_retryable(raised.value)
    assert full_disk_text(raised.value.__cause__ or raised.value) is not None


def test_it_is_named_once_and_other_failures_stay_as_they_are(spark: SparkSession) -> None:
    with pytest.raises(FullDiskError) as raised, full_disks_named(spark, ROOT), full_disks_named(spark, ROOT):
        raise RuntimeError(DATA)
    assert str(raised.value).count("The disk of") == 1
    with pytest.raises(KeyError), full_disks_named(spark, ROOT):
        raise KeyError("No space")
