"""The JVM of a run keeps others from writing as long as it lives, also if its Python is dead."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.faults.group import PATIENCE_SECONDS, members, working

STILL_WAITS_SECONDS = 2

pytestmark = pytest.mark.slow


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
            assert members(python), "there is no JVM that lives on"
            waiting = pool.submit(write)
            with pytest.raises(TimeoutError):
                waiting.result(STILL_WAITS_SECONDS)
            goes_on = time.monotonic()
        assert waiting.result(PATIENCE_SECONDS) > goes_on
        worker.wait_for_end()
    assert "waiting for the JVM of a run that was killed" in caplog.text


def test_a_warehouse_can_be_written_to_again_and_again(spark: SparkSession, tmp_path: Path) -> None:
    warehouse = Warehouse(str(tmp_path))
    for _ in range(2):
        with warehouse.writing(spark):
            pass
    with pytest.raises(KeyError), warehouse.writing(spark):
        raise KeyError
    with warehouse.writing(spark):
        pass
