"""What became of the sessions that the table had before a correction: the content of `session_corrections`."""

from collections.abc import Sequence
from datetime import date
from typing import Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from sessions_dagster.model.changes import CHANGE, Change, SessionChange, with_change
from sessions_dagster.model.columns import (
    BATCHES,
    DELIVERED_BY,
    EVENT_DATE,
    KIND,
    OLD_END,
    OLD_START,
    SESSION_END,
    SESSION_KEY,
    SESSION_START,
)
from sessions_dagster.model.date_columns import array_of
from sessions_dagster.model.delivery_bits import delivering_batches
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.transforms.facts import EXISTING_BITS, is_session_span
from sessions_dagster.transforms.sessionize import is_user_action

CONTINUED: Final = "continued"
"""The name of a count: how many sessions of now continue one of before."""

_IS_FIRST_OF_OLD: Final = "__is_first_of_old"
_IS_FIRST_OF_NEW: Final = "__is_first_of_new"
_PARTS: Final = "__parts"
_SOURCES: Final = "__sources"
_ADDED_BY: Final = "__added_by"
_REMOVED_BY: Final = "__removed_by"


def session_changes(reconciled: DataFrame, rules: SessionRules) -> DataFrame:
    """What became of every session of the table that a correction looked at.

    Args:
        reconciled: Rows as `reconcile.reconcile` gives them, at least those that are not inserted.
        rules: The session rules.

    Returns:
        One row per old session and new session that holds some of its user actions: `user_id, product_code` (string),
        `old_start_ts, old_end_ts` (timestamp), `session_start_ts, session_end_ts` (timestamp; NULL if the session is
        gone), `kind` (string, see `SessionChange`), and two columns for `counts_of_changes`.
    """
    # Session spans and user actions tell where a session went; an IDE event at its very end may leave it by itself.
    is_left = F.col(CHANGE) != Change.REMOVE.value
    is_part_of_old = (is_session_span() | is_user_action(rules)) & F.col(OLD_START).isNotNull()
    pairs = (
        reconciled.where(is_part_of_old)
        # One shuffle serves everything that follows.
        .repartition(*SESSION_KEY)
        .select(
            *SESSION_KEY,
            OLD_START,
            OLD_END,
            F.when(is_left, F.col(SESSION_START)).alias(SESSION_START),
            F.when(is_left, F.col(SESSION_END)).alias(SESSION_END),
        )
        .distinct()
    )
    of_old, of_new = Window.partitionBy(*SESSION_KEY, OLD_START), Window.partitionBy(*SESSION_KEY, SESSION_START)
    counted = pairs.withColumns(
        {
            _PARTS: F.count(SESSION_START).over(of_old),
            _IS_FIRST_OF_OLD: F.coalesce(F.col(SESSION_START) == F.min(SESSION_START).over(of_old), F.lit(True)),
            _SOURCES: F.count(OLD_START).over(of_new),
            _IS_FIRST_OF_NEW: F.col(SESSION_START).isNotNull() & (F.col(OLD_START) == F.min(OLD_START).over(of_new)),
        }
    )
    # A removed user action is of no new session. It is only reported if nothing else of its session is left.
    reported = counted.where(F.col(SESSION_START).isNotNull() | (F.col(_PARTS) == 0))
    return reported.withColumn(KIND, _kind()).drop(_PARTS, _SOURCES)


def counts_of_changes() -> list[Column]:
    """Aggregates over rows of `session_changes`: old sessions by `SessionChange`, and `continued` new ones (long)."""
    by_kind = [
        F.count_if((F.col(KIND) == change.value) & F.col(_IS_FIRST_OF_OLD)).alias(change.value)
        for change in SessionChange
    ]
    return [*by_kind, F.count_if(_IS_FIRST_OF_NEW).alias(CONTINUED)]


def with_batches(changes: DataFrame, reconciled: DataFrame, rules: SessionRules, batches: Sequence[date]) -> DataFrame:
    """Say of each session change which batches caused it: those that added or removed user actions of the session.

    Args:
        changes: Rows as `session_changes` gives them, of sessions whose bounds changed.
        reconciled: All the rows that they were derived from.
        rules: The session rules.
        batches: The dates of the batches that are applied.

    Returns:
        The same rows with `batches` (array of date, in order) added.
    """
    if len(batches) == 1:
        return changes.withColumn(BATCHES, array_of(batches))
    actions = reconciled.where(is_user_action(rules))
    added = _batches_of(with_change(actions, Change.INSERT), DELIVERED_BY, SESSION_START, rules)
    removed = _batches_of(with_change(actions, Change.REMOVE), EXISTING_BITS, OLD_START, rules)
    joined = changes.join(added.withColumnRenamed(BATCHES, _ADDED_BY), [*SESSION_KEY, SESSION_START], "left").join(
        removed.withColumnRenamed(BATCHES, _REMOVED_BY), [*SESSION_KEY, OLD_START], "left"
    )
    both = F.array_distinct(F.flatten(F.array_compact(F.array(_ADDED_BY, _REMOVED_BY))))
    return joined.withColumn(BATCHES, F.array_sort(both)).drop(_ADDED_BY, _REMOVED_BY)


def _batches_of(events: DataFrame, bits: str, session_start: str, rules: SessionRules) -> DataFrame:
    """The batches (array of date) that the events of each session have a bit of."""
    batches = delivering_batches(F.col(bits), F.col(EVENT_DATE), rules)
    return events.groupBy(*SESSION_KEY, session_start).agg(F.flatten(F.collect_set(batches)).alias(BATCHES))


def _kind() -> Column:
    same_start, same_end = F.col(SESSION_START) == F.col(OLD_START), F.col(SESSION_END) == F.col(OLD_END)
    grew = (F.col(SESSION_START) <= F.col(OLD_START)) & (F.col(SESSION_END) >= F.col(OLD_END))
    return (
        F.when(F.col(_PARTS) == 0, SessionChange.REMOVED.value)
        .when(F.col(_PARTS) > 1, SessionChange.SPLIT.value)
        .when(F.col(_SOURCES) > 1, SessionChange.MERGED.value)
        .when(same_start & same_end, SessionChange.KEPT.value)
        .when(grew, SessionChange.EXTENDED.value)
        .otherwise(SessionChange.SHRUNK.value)
    )
