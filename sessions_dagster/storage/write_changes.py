"""Writing a `ChangeSet` to `sessionized_events` in one atomic Delta commit.

This is the one place that decides how Delta writes: rows that replace nothing are appended, rows that replace others
are written with `replaceOn`, and only if rows are removed as well is it a MERGE. Without `replaceOn` both are a MERGE.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from functools import reduce
from typing import Any, Final

from deltalake import DeltaTable
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sessions_dagster.model.changes import CHANGE, Change, ChangeSet, with_change
from sessions_dagster.model.columns import EVENT_DATE, EVENT_IDENTITY, TIMESTAMP
from sessions_dagster.model.date_columns import among
from sessions_dagster.model.dates import date_literals, groups_of_similar_size
from sessions_dagster.spark.compat import HAS_REPLACE_ON, local_checkpoint, merge
from sessions_dagster.spark.tuning import Sizes, broadcast_if_small, spark_property
from sessions_dagster.storage.delta_tables import files_for
from sessions_dagster.storage.exclusive_commits import exclusive_commit
from sessions_dagster.storage.sql import names_as_written, quoted

MAX_DATE_GROUPS: Final = 8
"""The maximum number of date groups in a write; each group looks at all rows again."""

_COPY_SOURCE: Final = "spark.databricks.delta.insertReplaceOnOrUsing.materializeSource"
_IS_REMOVED: Final = "__is_removed"
_NEW: Final = "__new_"


def write_changes(table: DeltaTable, table_uri: str, changes: ChangeSet, metadata: Mapping[str, Any]) -> int | None:
    """Write all changes in one commit, or nothing if there are none.

    Args:
        table: `sessionized_events`, at the version that the changes were computed from.
        table_uri: Where it is.
        changes: The changes. Their rows are computed by Spark up to twice, from checkpoints, except the append-only
            ones, which are computed once.
        metadata: The user metadata of the commit.

    Returns:
        The version of the table that has the changes; None if nothing was written.

    Raises:
        ConcurrentWriteError: If another run has written to the table since.
    """
    written = changes.count(Change.INSERT, Change.UPDATE)
    removed = changes.count(Change.REMOVE)
    if not (written or removed) and (changes.append_only is None or changes.append_only.is_empty()):
        return None
    rows = with_change(changes.rows, Change.INSERT, Change.UPDATE).drop(CHANGE)
    rows_per_file = Sizes.of(rows.sparkSession).rows_per_file
    rows = _of_few_dates_a_task(rows, changes, files_for(written, rows_per_file, rows.sparkSession))
    replaced_dates = changes.dates(Change.UPDATE, Change.REMOVE)
    is_merge = bool(removed or (replaced_dates and not HAS_REPLACE_ON))
    if changes.append_only is not None:
        files = max(1, changes.append_only.max_count // rows_per_file)
        appended = changes.append_only.rows.coalesce(files)
        if is_merge and not HAS_REPLACE_ON:
            # The MERGE of Delta 3 begins with a query that needs none of these rows, and that would be observed.
            appended = local_checkpoint(appended, eager=True)
        rows = rows.unionByName(appended)
    new_rows = rows

    def write() -> None:
        if is_merge:
            removed_rows = with_change(changes.rows, Change.REMOVE).drop(CHANGE)
            _merge(table_uri, new_rows, removed_rows, replaced_dates, changes)
        elif replaced_dates:
            count = sum(_written_by_date(changes)[day] for day in replaced_dates)
            _replace(table_uri, broadcast_if_small(new_rows, count), replaced_dates)
        else:
            new_rows.write.format("delta").mode("append").save(table_uri)

    return exclusive_commit(rows.sparkSession, table, write, metadata)


def _replace(table_uri: str, rows: DataFrame, replaced_dates: Sequence[date]) -> None:
    """Write rows, each in place of the row of the same event, if there is one.

    Delta's `replaceOn` deletes with deletion vectors and appends, in one commit. Unlike MERGE it does not shuffle the
    table for rows that replace nothing.
    """
    # Delta would copy the rows first, because it cannot know that they are the same each time they are computed.
    with spark_property(rows.sparkSession, _COPY_SOURCE, "none"):
        (
            rows.alias("new")
            .write.format("delta")
            .mode("overwrite")
            .option("targetAlias", "existing")
            .option("replaceOn", _is_same_event("existing.", "new.", replaced_dates))
            .save(table_uri)
        )


def _merge(
    table_uri: str,
    rows: DataFrame,
    removed: DataFrame,
    replaced_dates: Sequence[date],
    changes: ChangeSet,
) -> None:
    """Write rows as `_replace` does and remove others in the same commit. Of Delta's writes only MERGE can do that."""
    spark = rows.sparkSession
    both = rows.withColumn(_IS_REMOVED, F.lit(False)).unionByName(removed.withColumn(_IS_REMOVED, F.lit(True)))
    # The table has no alias here, so its columns have to be told from those of the new rows by their names.
    source = both.withColumnsRenamed({name: f"{_NEW}{name}" for name in rows.columns})
    if changes.append_only is None:
        # MERGE joins its whole source with the table. Append-only rows may be too many to be sent to every executor.
        source = broadcast_if_small(source, changes.count(Change.INSERT, Change.UPDATE, Change.REMOVE))
    values = {name: F.col(f"{_NEW}{name}") for name in rows.columns}
    condition = F.expr(_is_same_event("", _NEW, replaced_dates))
    with names_as_written(spark):
        merge(source, quoted(table_uri), condition, F.col(_IS_REMOVED), values)


def _of_few_dates_a_task(rows: DataFrame, changes: ChangeSet, tasks: int) -> DataFrame:
    """The same rows, which are computed already, in tasks that have rows of few dates each."""
    # As they were computed, each task has rows of all dates. It would write a file on each of them, and every later
    # scan would open them all: runs of 1 M and of 5 M events a day took 7% longer after some days. A shuffle would cost
    # as much as it gains.
    sizes = _written_by_date(changes)
    groups = groups_of_similar_size(sizes, min(tasks, MAX_DATE_GROUPS))
    if len(groups) < 2:
        return rows.coalesce(tasks)
    total = sum(sizes.values())
    parts = [
        rows.where(among(EVENT_DATE, group)).coalesce(max(1, round(tasks * sum(sizes[day] for day in group) / total)))
        for group in groups
    ]
    return reduce(DataFrame.unionByName, parts)


def _written_by_date(changes: ChangeSet) -> Counter[date]:
    """The number of rows to write on each date."""
    return sum((Counter(changes.counts.get(change, {})) for change in (Change.INSERT, Change.UPDATE)), Counter())


def _is_same_event(existing: str, new: str, dates: Sequence[date]) -> str:
    """Whether two rows are of the same event, where the names of their columns begin with `existing` and `new`."""
    # Delta prunes files only by literal predicates on the table's own columns. The predicate on the new rows keeps all
    # rows that replace nothing, which is nearly all of them, from being sent to every executor: Spark infers no such
    # predicate.
    # `array_contains` is used instead of IN for the reason given in `model.date_columns.among`.
    on_dates = [f"array_contains(array({date_literals(dates)}), {side}{EVENT_DATE})" for side in (existing, new)]
    # A row is looked up by one whole number, which Spark does faster than by four columns. Different events can have
    # the same number, so the columns are compared as well; as ranges, or Spark would make them a part of the key.
    others = [name for name in EVENT_IDENTITY if name != TIMESTAMP]
    numbers = [
        f"unix_micros({side}{TIMESTAMP}) + hash({', '.join(f'{side}{name}' for name in others)})"
        for side in (existing, new)
    ]
    same = [f"{existing}{name} >= {new}{name} AND {existing}{name} <= {new}{name}" for name in EVENT_IDENTITY]
    return " AND ".join([*on_dates, " = ".join(numbers), *same])
