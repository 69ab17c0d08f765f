"""Writing a correction of `sessionized_events` in one atomic Delta commit."""

from collections.abc import Sequence
from datetime import date
from typing import Final

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sessions_dagster.core.contract import EVENT_DATE, EVENT_IDENTITY, SESSIONIZED_EVENTS_SCHEMA, TIMESTAMP
from sessions_dagster.core.settings import setting

_COMMIT_METADATA: Final = "spark.databricks.delta.commitInfo.userMetadata"
_COPY_SOURCE: Final = "spark.databricks.delta.insertReplaceOnOrUsing.materializeSource"
_IS_REMOVED: Final = "is_removed"


def append(table_uri: str, rows: DataFrame, metadata: str) -> None:
    """Add rows of events that the table does not hold.

    Args:
        table_uri: `sessionized_events`.
        rows: Complete table rows.
        metadata: User metadata of the commit.
    """
    with setting(rows.sparkSession, _COMMIT_METADATA, metadata):
        rows.write.format("delta").mode("append").save(table_uri)


def upsert(table_uri: str, rows: DataFrame, replaced_dates: Sequence[date], metadata: str) -> None:
    """Write rows, each in place of the one that holds the same event now, if there is one.

    Delta's `replaceOn` deletes through deletion vectors and appends, in one commit; unlike MERGE it does not shuffle
    the table for the rows that are new.

    Args:
        table_uri: `sessionized_events`.
        rows: Complete table rows, one per event; those on replaced dates from a checkpoint, as they are computed twice.
        replaced_dates: The event dates of all rows that replace one.
        metadata: User metadata of the commit.
    """
    # Delta would make a copy of the rows first, as it cannot know that they are the same each time.
    with setting(rows.sparkSession, _COPY_SOURCE, "none"), setting(rows.sparkSession, _COMMIT_METADATA, metadata):
        (
            rows.alias("new")
            .write.format("delta")
            .mode("overwrite")
            .option("targetAlias", "held")
            .option("replaceOn", _same_event("held", "new", replaced_dates))
            .save(table_uri)
        )


def with_removals(rows: DataFrame, removed: DataFrame) -> DataFrame:
    """What `upsert_and_remove` takes.

    Args:
        rows: Complete table rows, one per event.
        removed: Complete table rows of the events to take away; none of them is in `rows`.
    """
    return rows.withColumn(_IS_REMOVED, F.lit(False)).unionByName(removed.withColumn(_IS_REMOVED, F.lit(True)))


def upsert_and_remove(table_uri: str, source: DataFrame, replaced_dates: Sequence[date], metadata: str) -> None:
    """Like `upsert`, and takes events away in the same commit, which among Delta's writes only MERGE can do.

    Args:
        table_uri: `sessionized_events`.
        source: Rows to write and rows to remove, as `with_removals` gives them.
        replaced_dates: The event dates of all removed rows and of all rows that replace one.
        metadata: User metadata of the commit.
    """
    spark = source.sparkSession
    values: dict[str, str | Column] = {name: f"new.{name}" for name in SESSIONIZED_EVENTS_SCHEMA.names}
    merge = (
        DeltaTable.forPath(spark, table_uri)
        .alias("held")
        .merge(source.alias("new"), _same_event("held", "new", replaced_dates))
        .whenMatchedDelete(f"new.{_IS_REMOVED}")
        .whenMatchedUpdate(set=values)
        .whenNotMatchedInsert(f"NOT new.{_IS_REMOVED}", values=values)
    )
    # MERGE takes no options. The setting must not stick, or other commits would have it too.
    with setting(spark, _COMMIT_METADATA, metadata):
        merge.execute()


def _same_event(held: str, new: str, dates: Sequence[date]) -> str:
    # Delta prunes files only by literal predicates on the table's own columns. Those on the new rows keep all that
    # replace nothing, which is nearly all of them, from being sent to every executor: Spark does not infer that.
    # `array_contains` instead of IN for the reason that `days.among` has.
    literals = ", ".join(f"DATE'{day.isoformat()}'" for day in sorted(dates))
    on_dates = [f"array_contains(array({literals}), {side}.{EVENT_DATE})" for side in (held, new)]
    # A row is looked up by one whole number, which Spark does faster than by four columns. Numbers of different events
    # can be the same, so the columns are compared as well; as ranges, or Spark would make them a part of the key.
    others = [name for name in EVENT_IDENTITY if name != TIMESTAMP]
    numbers = [
        f"unix_micros({side}.{TIMESTAMP}) + hash({', '.join(f'{side}.{name}' for name in others)})"
        for side in (held, new)
    ]
    same = [f"{held}.{name} >= {new}.{name} AND {held}.{name} <= {new}.{name}" for name in EVENT_IDENTITY]
    return " AND ".join([*on_dates, " = ".join(numbers), *same])
