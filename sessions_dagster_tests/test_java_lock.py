"""The JVM of a run keeps others from writing as long as it lives, also if its Python is dead."""

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
from pyspark.sql import SparkSession

from sessions_dagster.errors import SettingsError
from sessions_dagster.storage.java_lock import JAVA_HOLDER_FILE, locked_in_java, named_in_java
from sessions_dagster.storage.lock import JAVA_LOCK_FILE
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.faults.group import PATIENCE_SECONDS, members, working

STILL_WAITS_SECONDS = 2


@pytest.mark.slow
def test_a_run_waits_for_the_jvm_of_a_run_whose_python_was_killed(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "sessions_dagster.storage")
    warehouse = Warehouse(str(tmp_path / "world" / "warehouse"))

    def write() -> float:
        with warehouse.writing(spark):
            return time.monotonic()

    with working(tmp_path / "world", 20, 0) as worker, ThreadPoolExecutor(1) as pool:
        worker.go()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not Path(warehouse.raw_events).exists():
            assert time.monotonic() < deadline
            time.sleep(0.001)
        python = worker.process.pid
        with worker.frozen():
            os.kill(python, signal.SIGKILL)
            worker.process.wait(PATIENCE_SECONDS)
            left = members(python)
            assert left, "there is no JVM that lives on"
            waiting = pool.submit(write)
            with pytest.raises(TimeoutError):
                waiting.result(STILL_WAITS_SECONDS)
            goes_on = time.monotonic()
        assert waiting.result(PATIENCE_SECONDS) > goes_on
        worker.wait_for_end()
    said = next(text for text in caplog.messages if "the JVM of a run that was killed" in text)
    found = re.search(r"held by process (\d+) on .* since \d{4}-\d\d-\d\d .*is stopped", said)
    assert found is not None, said
    assert int(found[1]) in left


def test_a_warehouse_can_be_written_to_again_and_again(spark: SparkSession, tmp_path: Path) -> None:
    warehouse = Warehouse(str(tmp_path))
    for _ in range(2):
        with warehouse.writing(spark):
            pass
    with pytest.raises(KeyError), warehouse.writing(spark):
        raise KeyError
    with warehouse.writing(spark):
        pass


@pytest.mark.parametrize("in_the_way", ["folder", "link"])
def test_a_lock_of_java_that_cannot_be_made_is_a_sentence(spark: SparkSession, tmp_path: Path, in_the_way: str) -> None:
    lock = tmp_path / JAVA_LOCK_FILE
    if in_the_way == "folder":
        lock.mkdir()
    else:
        lock.symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(SettingsError, match=rf"{JAVA_LOCK_FILE} is a {in_the_way}. Remove it"),
        Warehouse(str(tmp_path)).writing(spark),
    ):
        pass


def test_what_java_says_of_a_lock_it_cannot_have_is_a_sentence(spark: SparkSession, tmp_path: Path) -> None:
    jvm = cast("Any", spark.sparkContext._jvm)
    said = "can have no lock on .*FileNotFoundException.*POSIX locks"
    with pytest.raises(SettingsError, match=said) as error, named_in_java(tmp_path):
        jvm.java.io.RandomAccessFile(str(tmp_path), "rw")
    assert "\n" not in str(error.value)


def test_a_process_that_writes_may_write_within(spark: SparkSession, tmp_path: Path) -> None:
    with locked_in_java(spark, tmp_path):
        with locked_in_java(spark, tmp_path):
            pass
        assert (tmp_path / JAVA_HOLDER_FILE).exists()
    with locked_in_java(spark, tmp_path):
        pass
