"""What a run read, wrote and held in memory, from the metrics of Spark and the log of Delta."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from pyspark.sql import SparkSession

from sessions_dagster.model.columns import EVENT_DATE

Result = TypeVar("Result")

FINE_GRAINED_MEMORY: Final = {
    "spark.executor.metrics.pollingInterval": "20ms",
    "spark.executor.heartbeatInterval": "1s",
    # With the default pages of 32 MB, the peak would be rounded up to whole pages.
    "spark.buffer.pageSize": "1m",
}
"""Spark properties of a session whose peak memory is to be measured."""

_SECONDS_UNTIL_REPORTED: Final = 3
"""Three heartbeats of such a session, so that the newest peak is reported."""

_LOG_READER: Final = "DeltaLogFileIndex"
_FILES_READ: Final = "number of files read"
_BYTES_READ: Final = "size of files read"
_UNITS: Final = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@dataclass(frozen=True)
class Reads:
    """The files that Spark's scans read. A file counts once for each scan that reads it.

    The bytes are the sizes of whole files, not of the columns read. Spark's own byte count is not used, because it
    includes reads from memory and misses Parquet's vectored reads.

    Attributes:
        bytes: Total size of the data files.
        files: Number of data files.
        log_bytes: Total size of the files of Delta logs.
    """

    bytes: int
    files: int
    log_bytes: int


@dataclass(frozen=True)
class Writes:
    """What a Delta commit wrote.

    Attributes:
        bytes: Total size of new data files, deletion vectors, and the commit file.
        files: Number of files that were added or got a deletion vector.
        dates: The event dates of these files, in order.
    """

    bytes: int
    files: int
    dates: tuple[str, ...]


@dataclass(frozen=True)
class PeakMemory:
    """The peak memory of a local Spark since it started, in bytes.

    Attributes:
        execution: Memory that tasks held for sorts, windows, aggregations and joins.
        unified: Execution and storage memory together: the part of the heap that depends on the data.
        resident: Resident memory of the JVM. It does not show what is needed, because a heap grows before it is
            collected.
    """

    execution: int
    unified: int
    resident: int


def reads_of(spark: SparkSession, work: Callable[[], Result]) -> tuple[Reads, Result]:
    """Return what Spark read during some work, and the result of the work. Nothing else may run meanwhile."""
    store = _sql_store(spark)
    _catch_up(spark)
    before = _newest_execution(store)
    result = work()
    _catch_up(spark)
    scans = [
        scan
        for number in range(before + 1, _newest_execution(store) + 1)
        for scan in _scans(store.planGraph(number), store.executionMetrics(number))
    ]
    reads = Reads(
        bytes=sum(scan.bytes for scan in scans if not scan.is_of_log),
        files=sum(scan.files for scan in scans if not scan.is_of_log),
        log_bytes=sum(scan.bytes for scan in scans if scan.is_of_log),
    )
    return reads, result


def writes_of(table_uri: str, version: int) -> Writes:
    """Return what the commit of a version wrote, from the Delta log of a local table."""
    commit = Path(table_uri, "_delta_log", f"{version:020}.json")
    actions = [json.loads(line) for line in commit.read_text().splitlines()]
    removed = {action["remove"]["path"] for action in actions if "remove" in action}
    added = [action["add"] for action in actions if "add" in action]
    # The log removes and adds a file that gets a deletion vector, but the file itself is not written again.
    new_bytes = sum(file["size"] for file in added if file["path"] not in removed)
    vector_bytes = sum((file.get("deletionVector") or {}).get("sizeInBytes", 0) for file in added)
    dates = sorted({file["partitionValues"][EVENT_DATE] for file in added})
    return Writes(new_bytes + vector_bytes + commit.stat().st_size, len(added), tuple(dates))


def peak_memory(spark: SparkSession) -> PeakMemory:
    """Return the peak memory of a session that was started with `FINE_GRAINED_MEMORY`."""
    time.sleep(_SECONDS_UNTIL_REPORTED)
    _catch_up(spark)
    driver = _status_store(spark).executorList(False).apply(0).peakMemoryMetrics().get()
    pid = spark._jvm.java.lang.ProcessHandle.current().pid()  # type: ignore[union-attr]
    resident = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert resident is not None, "Linux reports a peak for every running process"
    return PeakMemory(
        execution=driver.getMetricValue("OnHeapExecutionMemory"),
        unified=driver.getMetricValue("OnHeapUnifiedMemory"),
        resident=int(resident[1]) * 1024,
    )


@dataclass(frozen=True)
class _Scan:
    bytes: int
    files: int
    is_of_log: bool


def _scans(graph: Any, values: Any) -> Iterator[_Scan]:
    """Yield the file scans of a query plan."""
    for node in _each(graph.allNodes()):
        ids = {metric.name(): metric.accumulatorId() for metric in _each(node.metrics())}
        if _FILES_READ not in ids:
            continue
        files, size = (values.get(ids[name]) for name in (_FILES_READ, _BYTES_READ))
        # A part of the plan that did not run has no value.
        if files.isDefined():
            yield _Scan(_bytes(size.get()), int(files.get().replace(",", "")), _LOG_READER in node.desc())


def _bytes(size: str) -> int:
    """Parse a size in Spark's format, such as `57.6 KiB`."""
    number, unit = size.split()
    return round(float(number.replace(",", "")) * _UNITS[unit])


def _newest_execution(store: Any) -> int:
    executions = store.executionsList()
    return int(executions.last().executionId()) if executions.nonEmpty() else -1


def _each(sequence: Any) -> Iterator[Any]:
    return (sequence.apply(number) for number in range(sequence.size()))


def _catch_up(spark: SparkSession) -> None:
    """Wait until Spark has processed the events of all finished work, which it does with a short delay."""
    spark.sparkContext._jsc.sc().listenerBus().waitUntilEmpty()


def _status_store(spark: SparkSession) -> Any:
    return spark.sparkContext._jsc.sc().statusStore()


def _sql_store(spark: SparkSession) -> Any:
    return spark._jsparkSession.sharedState().statusStore()
