"""What the log of a Delta table says, read with delta-rs and without a JVM: files, partitions, row counts.

All functions take an open handle (see `warehouse.Warehouse.open`) and read the version that it is at.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final
from weakref import finalize

import pyarrow as pa
from deltalake import DeltaTable

from sessions_dagster.model.columns import BATCH_DATE
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.storage.filesystem import commit_location, location_of, read_text
from sessions_dagster.storage.through_spark import MirroredTable

_infos: Final[dict[int, dict[int, Mapping[str, Any]]]] = {}
"""What commits say about themselves, by the `id` of a handle, which has no hash, and by version."""


@dataclass(frozen=True)
class TableFacts:
    """A Delta table at a glance.

    Attributes:
        version: Its version.
        rows_written: The rows in its files, including those that a deletion vector marks as deleted.
        files: Its data files.
        bytes: Their size.
        partitions: Partitions with any file; 1 for a table without partitions, if it has any.
    """

    version: int
    rows_written: int
    files: int
    bytes: int
    partitions: int


def table_facts(table: DeltaTable) -> TableFacts:
    """What the log says of a whole table."""
    files = active_files(table)
    return TableFacts(
        version=table.version(),
        rows_written=sum(file["num_records"] or 0 for file in files),
        files=len(files),
        bytes=sum(file["size_bytes"] for file in files),
        partitions=len(_partitions_of(table, files)),
    )


def landed_rows(raw_events: DeltaTable, days: Collection[date]) -> int:
    """How many rows the slices of some batches have."""
    files = [file for file in active_files(raw_events) if file[f"partition.{BATCH_DATE}"] in days]
    return sum(file["num_records"] or 0 for file in files)


def partition_dates(table: DeltaTable) -> list[date]:
    """The dates that a table, which is partitioned by a date, has rows of, in order.

    A date may also be there because a removal left a file without live rows.
    """
    return sorted(day for day in partitions(table) if day is not None)


def partition_rows(table: DeltaTable) -> dict[date, int]:
    """The rows of each partition of a table partitioned by a date, including rows that deletion vectors delete."""
    return _sums_by_partition(table, "num_records")


def partition_bytes(table: DeltaTable) -> dict[date, int]:
    """The size of the files of each partition of a table partitioned by a date."""
    return _sums_by_partition(table, "size_bytes")


def _sums_by_partition(table: DeltaTable, what: str) -> dict[date, int]:
    (column,) = table.metadata().partition_columns
    sums: dict[date, int] = {}
    for file in active_files(table):
        day = file[f"partition.{column}"]
        sums[day] = sums.get(day, 0) + (file[what] or 0)
    return sums


def partitions(table: DeltaTable) -> set[date | None]:
    """The partitions with files, of a table that is partitioned by a date; None stands for a table without any."""
    return _partitions_of(table, active_files(table))


def partitions_touched(table: DeltaTable, after_version: int) -> set[date | None] | None:
    """The partitions that got or lost rows after a version. Compactions do not count, because they change no row.

    They are read from the commits themselves, because delta-rs does not show which files have a deletion vector.

    Returns:
        As `partitions`, but some may have no file any more; None if the log does not reach back so far.
    """
    touched: set[date | None] = set()
    for version in range(after_version + 1, table.version() + 1):
        try:
            touched |= _partitions_changed_by(commit_actions(table, version))
        except FileNotFoundError:
            return None
    return touched


def commit_actions(table: DeltaTable, version: int) -> list[Mapping[str, Any]]:
    """All that a commit consists of, as the protocol of Delta names it.

    Raises:
        FileNotFoundError: If the log does not reach back so far.
        StorageError: If the storage fails.
    """
    return [json.loads(line) for line in read_text(commit_location(_folder_of_log(table), version)).splitlines()]


def commit_info(table: DeltaTable, version: int) -> Mapping[str, Any]:
    """What a commit says about itself: its operation, and its user metadata. It is read once in the life of a handle.

    Raises:
        FileNotFoundError: If the log does not reach back so far.
        StorageError: If the storage fails.
    """
    # Not for longer: a table that is put back from a copy of its files has other commits of the same versions.
    if id(table) not in _infos:
        _infos[id(table)] = {}
        finalize(table, _infos.pop, id(table))
    known = _infos[id(table)]
    if version not in known:
        known[version] = _read_info(commit_location(_folder_of_log(table), version))
    return known[version]


def _folder_of_log(table: DeltaTable) -> str:
    """Where this process finds the log: in the folder of the table, or in one that Spark has copied it to."""
    return table.copy if isinstance(table, MirroredTable) else location_of(table.table_uri)


def _read_info(commit: str) -> Mapping[str, Any]:
    for line in read_text(commit).splitlines():
        if line.startswith('{"commitInfo"'):
            info: Mapping[str, Any] = json.loads(line)["commitInfo"]
            return info
    return {}


def _partitions_changed_by(commit: Sequence[Mapping[str, Any]]) -> set[date | None]:
    files = [action[kind] for action in commit for kind in ("add", "remove") if kind in action]
    values = [next(iter(file["partitionValues"].values()), None) for file in files if file["dataChange"]]
    return {value and date.fromisoformat(value) for value in values}


def rows_around(days: Collection[date], rules: SessionRules, *tables: DeltaTable) -> int:
    """About how many rows some tables have around some dates, which is what work on these dates may have to look at.

    Args:
        days: The dates that the work is about.
        rules: The session rules: their lateness says how far the work looks, except for longer sessions.
        tables: Tables that are partitioned by a date.
    """
    if not days:
        return 0
    around = timedelta(days=rules.lateness_days)
    first, last = min(days) - around, max(days) + around
    return sum(rows for table in tables for day, rows in partition_rows(table).items() if first <= day <= last)


def greatest(table: DeltaTable, column: str) -> Any:
    """The greatest value of a column by the statistics of the files; None if no file has any."""
    values = [file.get(f"max.{column}") for file in active_files(table)]
    return max((value for value in values if value is not None), default=None)


def _partitions_of(table: DeltaTable, files: Sequence[Mapping[str, Any]]) -> set[date | None]:
    columns = table.metadata().partition_columns
    return {file[f"partition.{columns[0]}"] if columns else None for file in files}


def active_files(table: DeltaTable) -> list[dict[str, Any]]:
    """What the log says of each file: `num_records`, `size_bytes`, `partition.…`, and statistics as `max.…`."""
    files: list[dict[str, Any]] = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    return files
