"""The table `session_corrections`: what became of existing sessions. It stays correct if a run crashes.

The entries of version N of `sessionized_events` are written before N is committed. If the run dies between the two, the
next run finds entries that no correction followed, and drops them before it does anything else.
"""

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

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
from sessions_dagster.storage.commit_metadata import is_correction
from sessions_dagster.storage.delta_log import greatest
from sessions_dagster.storage.delta_tables import append, ensure_table, files_for
from sessions_dagster.storage.exclusive_commits import exclusive_commit
from sessions_dagster.storage.sql import quoted, run_sql
from sessions_dagster.storage.warehouse import Warehouse


def write_ahead(spark: SparkSession, warehouse: Warehouse, changes: ChangeSet, version: int) -> None:
    """Write the entries of a correction that is about to be committed, if it has any.

    The run has called `drop_uncommitted`. Of two runs at the same time each takes the entries of the other one for
    those of a run that died: the lock keeps them apart, and on an object store the scheduler must.

    Args:
        spark: A session with Delta.
        warehouse: Where the tables are.
        changes: The correction.
        version: The version of `sessionized_events` that the correction will be.
    """
    if changes.session_changes is None:
        return
    uri = warehouse.session_corrections
    table = ensure_table(spark, warehouse, uri, SESSION_CORRECTIONS_SCHEMA)
    entries = changes.session_changes.withColumnsRenamed({SESSION_START: NEW_START, SESSION_END: NEW_END}).withColumns(
        {CORRECTED_AT: F.current_timestamp(), EVENTS_VERSION: F.lit(version).cast("long")}
    )
    files = files_for(changes.sessions_corrected, Sizes.of(spark).rows_per_file, spark)
    append(table, uri, entries.select(*SESSION_CORRECTIONS_SCHEMA.names).coalesce(files))


def drop_uncommitted(spark: SparkSession, warehouse: Warehouse) -> None:
    """Drop the entries of a run that died before it committed its correction. The logs say whether there are any.

    Args:
        spark: A session with Delta.
        warehouse: Where the tables are; `sessionized_events` must be there.
    """
    corrections = warehouse.open(warehouse.session_corrections)
    if corrections is None:
        return
    newest = greatest(corrections, EVENTS_VERSION)
    events = warehouse.open_existing(warehouse.sessionized_events)
    # Maintenance may have committed since then, and taken the version that the correction was to be. Entries of
    # versions further ahead belong to a table that does not exist any more.
    if newest is not None and newest <= events.version() + 1 and not is_correction(events, newest):
        statement = f"DELETE FROM {quoted(warehouse.session_corrections)} WHERE {EVENTS_VERSION} = {newest}"
        exclusive_commit(spark, corrections, lambda: run_sql(spark, statement))
