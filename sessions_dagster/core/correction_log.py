"""The table `session_corrections`: what became of sessions written before, kept so that a crash harms nothing.

The entries of version N of `sessionized_events` are written before N is committed. If the run dies between the two, the
next one finds entries that no correction followed, and drops them before it does anything else.
"""

from delta.tables import DeltaTable as SparkDeltaTable
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sessions_dagster.core.contract import (
    CORRECTED_AT,
    EVENTS_VERSION,
    NEW_END,
    NEW_START,
    SESSION_CORRECTIONS_SCHEMA,
    SESSION_END,
    SESSION_START,
)
from sessions_dagster.core.tables import ensure_table
from sessions_dagster.lake.log import greatest, is_correction
from sessions_dagster.lake.places import Warehouse


def write_ahead(warehouse: Warehouse, changes: DataFrame, version: int) -> None:
    """Write the entries of a correction that is about to be committed.

    Only one run may write at a time, and it has called `drop_uncommitted`.

    Args:
        warehouse: Where the tables are.
        changes: `user_id, product_code, kind` (string), `old_start_ts, old_end_ts, session_start_ts, session_end_ts`
            (timestamp), `batches` (array of date): one row per entry.
        version: The version of `sessionized_events` that the correction will be.
    """
    spark, uri = changes.sparkSession, warehouse.session_corrections
    ensure_table(spark, uri, SESSION_CORRECTIONS_SCHEMA, partition_by=None, properties={})
    entries = changes.withColumnsRenamed({SESSION_START: NEW_START, SESSION_END: NEW_END}).withColumns(
        {CORRECTED_AT: F.current_timestamp(), EVENTS_VERSION: F.lit(version).cast("long")}
    )
    entries.select(*SESSION_CORRECTIONS_SCHEMA.names).write.format("delta").mode("append").save(uri)


def drop_uncommitted(spark: SparkSession, warehouse: Warehouse) -> None:
    """Drop the entries of a run that died before its correction was committed. The logs tell whether there are any.

    Args:
        spark: A session with Delta.
        warehouse: Where the tables are; `sessionized_events` must be there.
    """
    if not DeltaTable.is_deltatable(warehouse.session_corrections):
        return
    newest = greatest(DeltaTable(warehouse.session_corrections), EVENTS_VERSION)
    events = DeltaTable(warehouse.sessionized_events)
    # Maintenance may have committed since, and so have taken the version that the correction was to be. What is further
    # ahead is of a table that is not there any more.
    if newest is not None and newest <= events.version() + 1 and not is_correction(events, newest):
        entries = SparkDeltaTable.forPath(spark, warehouse.session_corrections)
        entries.delete(F.col(EVENTS_VERSION) == newest)
