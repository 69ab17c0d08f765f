"""What a run read, wrote and held in memory, by the books that Spark and Delta keep themselves."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from pyspark.sql import SparkSession

from sessions_dagster.core.contract import EVENT_DATE

Made = TypeVar("Made")

FINE_GRAINED_MEMORY: Final = {
    "spark.executor.metrics.pollingInterval": "20ms",
    "spark.executor.heartbeatInterval": "1s",
    # Spark takes memory in pages of 32 MB otherwise, which hides what is in them.
    "spark.buffer.pageSize": "1m",
}
"""Spark properties of a session whose peak is asked for."""

_SECONDS_UNTIL_TOLD: Final = 3
"""So many heartbeats of such a session."""

_LOG_READER: Final = "DeltaLogFileIndex"
_FILES_READ: Final = "number of files read"
_BYTES_READ: Final = "size of files read"
_UNITS: Final = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@dataclass(frozen=True)
class Reads:
    """The files that Spark's scans read, counted again by each scan that reads them.

    The bytes are the sizes of the files, not of the columns used of them: Spark's own count of bytes takes in what it
    reads from its memory, and leaves out what Parquet reads in one go from several places of a file.

    Attributes:
        bytes: Of data files.
        files: Data files.
        log_bytes: Of Delta logs.
    """

    bytes: int
    files: int
    log_bytes: int


@dataclass(frozen=True)
class Writes:
    """What a Delta commit wrote.

    Attributes:
        bytes: New data files, deletion vectors, and the commit itself.
        files: Files added, and files that got a deletion vector.
        dates: The event dates of these, in order.
    """

    bytes: int
    files: int
    dates: tuple[str, ...]


@dataclass(frozen=True)
class PeakMemory:
    """The most memory a Spark on this machine has held at any one time since it started, in bytes.

    Attributes:
        execution: What its tasks held for sorts, windows, aggregations and joins.
        unified: The same with the blocks it kept: the part of the heap that data decides.
        resident: What the JVM had of the machine's memory. Not a measure of need: a heap grows before it is collected.
    """

    execution: int
    unified: int
    resident: int


def reads_of(spark: SparkSession, work: Callable[[], Made]) -> tuple[Reads, Made]:
    """What Spark read while it did some work and nothing else, and what the work made."""
    store = _sql_store(spark)
    _catch_up(spark)
    before = _newest_execution(store)
    made = work()
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
    return reads, made


def writes_of(table_uri: str, version: int) -> Writes:
    """What the commit of a version wrote, by the Delta log of a local table."""
    commit = Path(table_uri, "_delta_log", f"{version:020}.json")
    actions = [json.loads(line) for line in commit.read_text().splitlines()]
    removed = {action["remove"]["path"] for action in actions if "remove" in action}
    added = [action["add"] for action in actions if "add" in action]
    # A file that gets a deletion vector is removed and added again, and not written.
    new_bytes = sum(file["size"] for file in added if file["path"] not in removed)
    vector_bytes = sum((file.get("deletionVector") or {}).get("sizeInBytes", 0) for file in added)
    dates = sorted({file["partitionValues"][EVENT_DATE] for file in added})
    return Writes(new_bytes + vector_bytes + commit.stat().st_size, len(added), tuple(dates))


def peak_memory(spark: SparkSession) -> PeakMemory:
    """The peak of a session that was started with `FINE_GRAINED_MEMORY`."""
    time.sleep(_SECONDS_UNTIL_TOLD)
    _catch_up(spark)
    driver = _status_store(spark).executorList(False).apply(0).peakMemoryMetrics().get()
    pid = spark._jvm.java.lang.ProcessHandle.current().pid()  # type: ignore[union-attr]
    resident = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert resident is not None, "a running process has a peak"
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
    """The scans of files in a query plan."""
    for node in _each(graph.allNodes()):
        ids = {metric.name(): metric.accumulatorId() for metric in _each(node.metrics())}
        if _FILES_READ not in ids:
            continue
        files, size = (values.get(ids[name]) for name in (_FILES_READ, _BYTES_READ))
        # There is no value where the part of the plan did not run.
        if files.isDefined():
            yield _Scan(_bytes(size.get()), int(files.get().replace(",", "")), _LOG_READER in node.desc())


def _bytes(size: str) -> int:
    """A size as Spark tells it, `57.6 KiB`."""
    number, unit = size.split()
    return round(float(number.replace(",", "")) * _UNITS[unit])


def _newest_execution(store: Any) -> int:
    executions = store.executionsList()
    return int(executions.last().executionId()) if executions.nonEmpty() else -1


def _each(sequence: Any) -> Iterator[Any]:
    return (sequence.apply(number) for number in range(sequence.size()))


def _catch_up(spark: SparkSession) -> None:
    """Spark keeps its books a little behind."""
    spark.sparkContext._jsc.sc().listenerBus().waitUntilEmpty()


def _status_store(spark: SparkSession) -> Any:
    return spark.sparkContext._jsc.sc().statusStore()


def _sql_store(spark: SparkSession) -> Any:
    return spark._jsparkSession.sharedState().statusStore()
