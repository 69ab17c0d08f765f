"""Maintenance of the tables: compaction after corrections, and the removal of files that no version needs any more.

Neither changes a row: what is read from a table is the same before and after.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta
from functools import reduce
from typing import Final

from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from sessions_dagster.errors import RetentionError
from sessions_dagster.model.date_columns import among
from sessions_dagster.model.dates import date_literals
from sessions_dagster.storage.delta_log import (
    TableFacts,
    partition_bytes,
    partition_rows,
    partitions,
    partitions_touched,
    table_facts,
)
from sessions_dagster.storage.delta_tables import (
    DEFAULT_RETENTION,
    RETENTION_PROPERTY,
    rewrite_partitions,
    set_property,
)
from sessions_dagster.storage.filesystem import location_of
from sessions_dagster.storage.sql import quoted, run_sql
from sessions_dagster.storage.warehouse import Warehouse

COMPACTED_PROPERTY: Final = "sessions.compacted_version"
"""Table property: everything up to this version is compacted. A RESTORE resets it with the data, which is intended."""

MINIMUM_RETENTION: Final = timedelta(days=7)
"""Files of a run under way are in no version before it commits, and a reader may be at an older version."""

_FILE_BYTES: Final = 2**30
"""How large the files are that OPTIMIZE writes, and so what a purge writes in one file."""

_MOST_DAYS: Final = 3650

_RETENTION: Final = re.compile(r"(?:interval\s+)?(\d+)\s+(week|day|hour|minute|second)s?", re.IGNORECASE)


@dataclass(frozen=True)
class CompactionReport:
    """What a compaction did.

    Attributes:
        days: The dates that it worked on: those touched since the last compaction. None stands for a table without
            partitions.
        before, after: The whole table; the same if there was nothing to do.
    """

    days: tuple[date | None, ...]
    before: TableFacts
    after: TableFacts


@dataclass(frozen=True)
class VacuumReport:
    """What a vacuum removed, or would remove.

    Attributes:
        retention: How long the table keeps files.
        removed: Files and empty folders.
    """

    retention: timedelta
    removed: tuple[str, ...]


def compact(spark: SparkSession, warehouse: Warehouse, table_uri: str) -> CompactionReport:
    """Merge the small files of the dates touched since the last compaction, and purge their deletion vectors.

    There are up to three commits, each of which leaves every row as it is. If the process dies between them, the next
    compaction does the work again.

    Args:
        spark: A session with Delta.
        warehouse: Where the table is.
        table_uri: The table, partitioned by a date or not at all.
    """
    with warehouse.writing(spark):
        table = warehouse.open_existing(table_uri)
        before = table_facts(table)
        touched = partitions_touched(table, _compacted_version(table))
        existing = partitions(table)
        days = existing if touched is None else touched & existing
        if not days:
            return CompactionReport((), before, before)
        where = _where(table, days)
        run_sql(spark, f"OPTIMIZE {quoted(table_uri)} {where}")
        _purge(spark, table, table_uri, days)
        set_property(spark, table_uri, COMPACTED_PROPERTY, str(table.version()))
        table.update_incremental()
        return CompactionReport(tuple(sorted(days, key=str)), before, table_facts(table))


def vacuum(spark: SparkSession, warehouse: Warehouse, table_uri: str, *, dry_run: bool) -> VacuumReport:
    """Remove the files that no version within the table's retention needs, those of killed runs included.

    Args:
        spark: A session with Delta.
        warehouse: Where the table is.
        table_uri: The table.
        dry_run: Only report what would be removed.

    Raises:
        RetentionError: If the table says to keep files for less than `MINIMUM_RETENTION`. Nothing was removed.
    """
    with warehouse.writing(spark):
        kept_for = checked_retention(warehouse, table_uri)
        # Not LITE, which goes by the log: files of killed runs were never in it.
        command = f"VACUUM {quoted(table_uri)} FULL"
        removed = tuple(sorted(row["path"] for row in run_sql(spark, f"{command} DRY RUN").collect()))
        if not dry_run:
            run_sql(spark, command)
        return VacuumReport(kept_for, removed)


def checked_retention(warehouse: Warehouse, table_uri: str) -> timedelta:
    """How long a table keeps files that its newest version does not need.

    Raises:
        RetentionError: If that is less than `MINIMUM_RETENTION`, or its property cannot be understood.
    """
    kept_for = retention(warehouse.open_existing(table_uri))
    _check(kept_for, table_uri)
    return kept_for


def retention(table: DeltaTable) -> timedelta:
    """How long a table keeps files that its newest version does not need.

    Raises:
        RetentionError: If its property cannot be understood.
    """
    value = table.metadata().configuration.get(RETENTION_PROPERTY) or DEFAULT_RETENTION
    parts = _RETENTION.fullmatch(value.strip())
    if parts is None:
        raise RetentionError(
            f"{location_of(table.table_uri)} has the table property {RETENTION_PROPERTY} = '{value}', which is not a "
            f"number of days. Set it, for example, to '{DEFAULT_RETENTION}'."
        )
    return timedelta(**{f"{parts[2].lower()}s": int(parts[1])})


def days_to_keep(days: int) -> timedelta | None:
    """For how long files are to be kept, for a number of days that somebody chose; None for 0, as the tables say.

    Raises:
        RetentionError: If a table cannot keep files for so long, or for so short a time.
    """
    if days and not MINIMUM_RETENTION.days <= days <= _MOST_DAYS:
        raise RetentionError(
            f"retention_days must be a whole number from {MINIMUM_RETENTION.days} to {_MOST_DAYS}, or 0 for what the "
            f"tables say, not {days}. Nothing was removed."
        )
    return timedelta(days=days) if days else None


def set_retention(spark: SparkSession, warehouse: Warehouse, table_uri: str, kept_for: timedelta) -> None:
    """Make a table keep files for some days from now on; there is no commit if it does already.

    Args:
        spark: A session with Delta.
        warehouse: Where the table is.
        table_uri: The table.
        kept_for: For how long; whole days.

    Raises:
        RetentionError: If that is less than `MINIMUM_RETENTION`. The table is as before.
    """
    _check(kept_for, table_uri)
    with warehouse.writing(spark):
        if retention(warehouse.open_existing(table_uri)) != kept_for:
            set_property(spark, table_uri, RETENTION_PROPERTY, f"interval {kept_for.days} days")


def _check(kept_for: timedelta, table_uri: str) -> None:
    if kept_for < MINIMUM_RETENTION:
        raise RetentionError(
            f"{table_uri} would keep files for {kept_for} only, and a vacuum would remove files that a run under way "
            f"or a RESTORE needs. Nothing was removed. Set the table property {RETENTION_PROPERTY} to at least "
            f"{MINIMUM_RETENTION.days} days, or give the vacuum job retention_days: {MINIMUM_RETENTION.days}."
        )


def _compacted_version(table: DeltaTable) -> int:
    return int(table.metadata().configuration.get(COMPACTED_PROPERTY) or -1)


def _purge(spark: SparkSession, table: DeltaTable, table_uri: str, days: Collection[date | None]) -> None:
    """Write the dates again in which rows are still only marked as deleted, without these rows.

    OPTIMIZE leaves a file as it is if there is no other file to merge it with, whatever is deleted in it. REORG TABLE
    would not, but the one of Delta 4.4 asks for a Spark session in its tasks, which executors of a cluster do not have.
    """
    table.update_incremental()
    if "deletionVectors" not in (table.protocol().writer_features or ()):
        return
    (column,) = table.metadata().partition_columns
    written = partition_rows(table)
    rows = spark.read.format("delta").load(table_uri).where(among(column, [day for day in days if day is not None]))
    live = {row[column]: row["count"] for row in rows.groupBy(column).count().collect()}
    marked = sorted(day for day in written.keys() & days if live.get(day, 0) != written[day])
    if marked:
        sizes = partition_bytes(table)
        of_a_day = (rows.where(among(column, [day])).coalesce(max(1, sizes[day] // _FILE_BYTES)) for day in marked)
        rewrite_partitions(table_uri, column, marked, reduce(DataFrame.unionByName, of_a_day))


def _where(table: DeltaTable, days: Collection[date | None]) -> str:
    columns = table.metadata().partition_columns
    if not columns:
        return ""
    return f"WHERE {columns[0]} IN ({date_literals(day for day in days if day is not None)})"
