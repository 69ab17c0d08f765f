"""Upkeep of the tables: compaction after corrections, and the removal of files that no version needs any more.

Neither changes a row: what is read from a table is the same before and after.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from delta.tables import DeltaTable as SparkDeltaTable
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from sessions_dagster.core.tables import DEFAULT_RETENTION, RETENTION_PROPERTY
from sessions_dagster.lake.log import TableFacts, partitions, partitions_touched, table_facts
from sessions_dagster.lake.places import Warehouse, place_of

COMPACTED_PROPERTY: Final = "sessions.compacted_version"
"""Table property: what was committed up to this version is compacted. It goes back with a RESTORE, as it should."""

MINIMUM_RETENTION: Final = timedelta(days=7)
"""What a run writes is in no version before it commits, and a reader may be at an older version: both need time."""

_RETENTION: Final = re.compile(r"(?:interval\s+)?(\d+)\s+(week|day|hour|minute|second)s?", re.IGNORECASE)


class RetentionError(ValueError):
    """A table would lose files that a run or a reader may still need."""


@dataclass(frozen=True)
class CompactionReport:
    """What a compaction did.

    Attributes:
        days: The dates it looked at: those touched since the last one. None for a table without partitions.
        before, after: The whole table; both alike if there was nothing to do.
    """

    days: tuple[date | None, ...]
    before: TableFacts
    after: TableFacts


@dataclass(frozen=True)
class VacuumReport:
    """What a vacuum removed, or would remove.

    Attributes:
        retention: What the table says how long files are kept.
        removed: Files and empty folders.
    """

    retention: timedelta
    removed: tuple[str, ...]


def compact(spark: SparkSession, warehouse: Warehouse, table_uri: str) -> CompactionReport:
    """Merge the small files of the dates touched since the last compaction, and purge their deletion vectors.

    Up to three commits, each of which leaves every row as it is. Dead in the middle, it is done again the next time.

    Args:
        spark: A session with Delta.
        warehouse: Where the table is.
        table_uri: The table, partitioned by a date or not at all.
    """
    with warehouse.writing():
        table = DeltaTable(table_uri)
        before = table_facts(table)
        touched = partitions_touched(table, _compacted_version(table))
        held = partitions(table)
        days = held if touched is None else touched & held
        if not days:
            return CompactionReport((), before, before)
        where = _where(table, days)
        optimize = SparkDeltaTable.forPath(spark, table_uri).optimize()
        (optimize.where(where) if where else optimize).executeCompaction()
        # OPTIMIZE leaves a file alone that has no other one to be merged with, whatever is deleted in it.
        spark.sql(f"REORG TABLE {_quoted(table_uri)} {f'WHERE {where}' if where else ''} APPLY (PURGE)")
        _set_property(spark, table_uri, COMPACTED_PROPERTY, str(table.version()))
        return CompactionReport(tuple(sorted(days, key=str)), before, table_facts(DeltaTable(table_uri)))


def vacuum(spark: SparkSession, warehouse: Warehouse, table_uri: str, *, dry_run: bool) -> VacuumReport:
    """Remove the files that no version within the table's retention needs, those of killed runs included.

    Args:
        spark: A session with Delta.
        warehouse: Where the table is.
        table_uri: The table.
        dry_run: Only say what would be removed.

    Raises:
        RetentionError: If the table says to keep files for less than `MINIMUM_RETENTION`. Nothing was removed.
    """
    with warehouse.writing():
        kept_for = checked_retention(table_uri)
        # Not LITE, which goes by the log, where the files of killed runs never were.
        command = f"VACUUM {_quoted(table_uri)} FULL"
        removed = tuple(sorted(row["path"] for row in spark.sql(f"{command} DRY RUN").collect()))
        if not dry_run:
            spark.sql(command)
        return VacuumReport(kept_for, removed)


def checked_retention(table_uri: str) -> timedelta:
    """How long a table keeps files that its newest version does not need.

    Raises:
        RetentionError: If that is less than `MINIMUM_RETENTION`, or its property cannot be understood.
    """
    kept_for = retention(DeltaTable(table_uri))
    _check(kept_for, table_uri)
    return kept_for


def retention(table: DeltaTable) -> timedelta:
    """How long a table keeps files that its newest version does not need.

    Raises:
        RetentionError: If its property cannot be understood.
    """
    said = table.metadata().configuration.get(RETENTION_PROPERTY) or DEFAULT_RETENTION
    parts = _RETENTION.fullmatch(said.strip())
    if parts is None:
        raise RetentionError(
            f"{place_of(table.table_uri)} has the table property {RETENTION_PROPERTY} = '{said}', which is no number "
            f"of days. Set it, for example, to '{DEFAULT_RETENTION}'."
        )
    return timedelta(**{f"{parts[2].lower()}s": int(parts[1])})


def set_retention(spark: SparkSession, warehouse: Warehouse, table_uri: str, kept_for: timedelta) -> None:
    """Have a table keep files for so many days from now on; no commit if it does already.

    Raises:
        RetentionError: If that is less than `MINIMUM_RETENTION`. The table is as before.
    """
    _check(kept_for, table_uri)
    with warehouse.writing():
        if retention(DeltaTable(table_uri)) != kept_for:
            _set_property(spark, table_uri, RETENTION_PROPERTY, f"interval {kept_for.days} days")


def _check(kept_for: timedelta, table_uri: str) -> None:
    if kept_for < MINIMUM_RETENTION:
        raise RetentionError(
            f"{table_uri} is to keep files for {kept_for} only, and a vacuum would take files that a run under way or "
            f"a RESTORE needs. Nothing was removed. Set the table property {RETENTION_PROPERTY} to at least "
            f"{MINIMUM_RETENTION.days} days, or give the vacuum job retention_days: {MINIMUM_RETENTION.days}."
        )


def _compacted_version(table: DeltaTable) -> int:
    return int(table.metadata().configuration.get(COMPACTED_PROPERTY) or -1)


def _where(table: DeltaTable, days: Collection[date | None]) -> str | None:
    columns = table.metadata().partition_columns
    if not columns:
        return None
    literals = ", ".join(f"DATE'{day}'" for day in sorted(days, key=str))
    return f"{columns[0]} IN ({literals})"


def _set_property(spark: SparkSession, table_uri: str, name: str, value: str) -> None:
    spark.sql(f"ALTER TABLE {_quoted(table_uri)} SET TBLPROPERTIES ('{name}' = '{value}')")


def _quoted(table_uri: str) -> str:
    return "delta.`{}`".format(table_uri.replace("`", "``"))
