"""The table `session_corrections`: what became of existing sessions. It is correct if a run dies, or is overtaken.

The entries of a correction of `sessionized_events` are written before it is committed, and both commits have the same
id. If the run dies between the two, or another run commits first, the next run finds entries that no correction
followed, and drops them before it does anything else. Only the newest entries can be such: nobody writes after them.
"""

from collections.abc import Mapping
from typing import Any

from deltalake import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from sessions_dagster.errors import ConcurrentWriteError
from sessions_dagster.model.changes import ChangeSet
from sessions_dagster.model.columns import (
    CORRECTED_AT,
    EVENTS_VERSION,
    NEW_END,
    NEW_START,
    SESSION_END,
    SESSION_START,
)
from sessions_dagster.model.schemas import SESSION_CORRECTIONS_SCHEMA
from sessions_dagster.spark.tuning import Sizes
from sessions_dagster.storage.commit_metadata import (
    ENTRIES_KEY,
    CorrectionEntries,
    has_other_base,
    is_corrected,
    newest_entries,
)
from sessions_dagster.storage.delta_tables import append, ensure_table, files_for
from sessions_dagster.storage.exclusive_commits import NO_METADATA, exclusive_commit, newest_number
from sessions_dagster.storage.log_statistics import statistics_of
from sessions_dagster.storage.sql import quoted, run_sql
from sessions_dagster.storage.warehouse import Warehouse, update


def write_ahead(
    spark: SparkSession, warehouse: Warehouse, changes: ChangeSet, events: DeltaTable, checked: int
) -> Mapping[str, Any]:
    """Write the entries of a correction that is about to be committed, if it has any.

    Args:
        spark: A session with Delta.
        warehouse: Where the tables are.
        changes: The correction.
        events: The handle of `sessionized_events`, at the version that the correction was computed from.
        checked: What `drop_uncommitted` gave.

    Returns:
        What the user metadata of the correction must have for the entries to count.

    Raises:
        ConcurrentWriteError: If another run has written entries since `drop_uncommitted`. Nothing was written.
    """
    if changes.session_changes is None:
        return NO_METADATA
    uri = warehouse.session_corrections
    table = ensure_table(spark, warehouse, uri, SESSION_CORRECTIONS_SCHEMA, properties=statistics_of(uri))
    update(table, uri)
    if newest_number(table) != checked:
        raise ConcurrentWriteError(
            f"Another run has written to {uri} while a correction of {warehouse.sessionized_events} was computed. "
            "Nothing was written. Run this partition again, and let only one run write at a time."
        )
    entries = CorrectionEntries.of(events, newest_number(events))
    rows = changes.session_changes.withColumnsRenamed({SESSION_START: NEW_START, SESSION_END: NEW_END}).withColumns(
        {
            CORRECTED_AT: F.lit(entries.corrected_at).cast("timestamp"),
            EVENTS_VERSION: F.lit(entries.base + 1).cast("long"),
        }
    )
    files = files_for(changes.sessions_corrected, Sizes.of(spark).rows_per_file, spark)
    rows = rows.select(*SESSION_CORRECTIONS_SCHEMA.names).coalesce(files)
    append(table, uri, rows, entries.as_commit_metadata(events))
    return {ENTRIES_KEY: entries.id}


def drop_uncommitted(spark: SparkSession, warehouse: Warehouse, events: DeltaTable) -> int:
    """Drop the entries of a run that has not committed its correction. The logs say whether there are any.

    That run may be dead, or about to commit: on an object store nobody can tell. So an empty commit to
    `sessionized_events` first sees to it that it cannot, unless another one has.

    Args:
        spark: A session with Delta.
        warehouse: Where the tables are.
        events: The handle of `sessionized_events`.

    Returns:
        The number of the newest commit to `session_corrections`. Up to it there are no entries without a correction.

    Raises:
        ConcurrentWriteError: If another run has written to one of the tables meanwhile.
    """
    corrections = warehouse.open(warehouse.session_corrections)
    if corrections is None:
        return 0
    entries = newest_entries(corrections, events)
    if entries is not None and entries.base > events.version():
        events.update_incremental()
    # A table that was put back from a copy has fewer versions than it once had, or other ones.
    if entries is None or entries.base > events.version() or is_corrected(events, entries):
        return newest_number(corrections)
    if has_other_base(events, entries):
        return newest_number(corrections)
    if newest_number(events) <= entries.number:
        uri = warehouse.sessionized_events
        append(events, uri, spark.read.format("delta").load(uri).limit(0))
    uri = warehouse.session_corrections
    statement = f"DELETE FROM {quoted(uri)} WHERE {_is_of(entries)}"
    dropped = exclusive_commit(spark, corrections, lambda: run_sql(spark, statement), {ENTRIES_KEY: None})
    if dropped is None:
        # Somebody else has deleted them. The next run is not to look for them again.
        append(corrections, uri, spark.read.format("delta").load(uri).limit(0), {ENTRIES_KEY: None})
    return newest_number(corrections)


def _is_of(entries: CorrectionEntries) -> str:
    """The condition of SQL for some entries. A table that was put back may come to the same version once more."""
    of_version = f"{EVENTS_VERSION} = {entries.base + 1}"
    if entries.corrected_at is None:
        return of_version
    return f"{of_version} AND {CORRECTED_AT} = TIMESTAMP '{entries.corrected_at.isoformat()}'"
