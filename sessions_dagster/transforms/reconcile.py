"""Reconciling: facts are combined, every session is found, and each row says what that changes in the table."""

from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sessions_dagster.model.changes import CHANGE, Change
from sessions_dagster.model.columns import (
    DELIVERED_BY,
    EVENT,
    EVENT_DATE,
    EVENT_IDENTITY,
    OLD_END,
    OLD_START,
    SESSION_END,
    SESSION_KEY,
    SESSION_START,
    TIMESTAMP,
)
from sessions_dagster.transforms.facts import (
    ADDED_BITS,
    EXISTING_BITS,
    FACT_KIND,
    HAS_NEW_VALUES,
    REMOVED_BITS,
    is_session_span,
)
from sessions_dagster.transforms.sessionize import (
    BEGINS_SESSION,
    INTERVAL_END,
    INTERVAL_START,
    assign_sessions,
)

RECONCILED: Final = (
    FACT_KIND,
    *EVENT_IDENTITY,
    EVENT_DATE,
    DELIVERED_BY,
    EXISTING_BITS,
    SESSION_START,
    SESSION_END,
    OLD_START,
    OLD_END,
    BEGINS_SESSION,
    CHANGE,
)
"""The columns of reconciled rows."""


def reconcile(facts: DataFrame) -> DataFrame:
    """Combine facts, find every session, and say what that changes.

    Args:
        facts: All facts of every session that may change, as `facts` describes them.

    Returns:
        One row per event or session span: `__fact_kind` (string), `user_id, event_id, product_code` (string),
        `timestamp` (timestamp), `event_date` (date), `delivered_by`, `__existing_bits` (int), `session_start_ts,
        session_end_ts, old_start_ts, old_end_ts` (timestamp), `__begins_session` (boolean), `__change` (string, see
        `Change`). A session span has no event, so its `event_id`, `timestamp`, `event_date` and bits are NULL.
    """
    at = F.when(~is_session_span(), F.col(INTERVAL_START))
    placed = assign_sessions(_combined(facts)).withColumns({TIMESTAMP: at, EVENT_DATE: F.to_date(at)})
    return placed.withColumn(CHANGE, _change()).select(*RECONCILED)


def _combined(facts: DataFrame) -> DataFrame:
    """The facts about each event or session in one row, with the `delivered_by` that the event ends up with."""
    # After this shuffle Spark needs no further one, neither to aggregate nor for the windows over the same columns.
    laid_out = facts.repartition(*SESSION_KEY)
    combined = laid_out.groupBy(*SESSION_KEY, FACT_KIND, INTERVAL_START, EVENT).agg(
        F.max(INTERVAL_END).alias(INTERVAL_END),
        F.bit_or(ADDED_BITS).alias(ADDED_BITS),
        F.bit_or(REMOVED_BITS).alias(REMOVED_BITS),
        F.max(EXISTING_BITS).alias(EXISTING_BITS),
        F.max(OLD_START).alias(OLD_START),
        F.max(OLD_END).alias(OLD_END),
        F.bool_or(HAS_NEW_VALUES).alias(HAS_NEW_VALUES),
    )
    existing, added, removed = (F.coalesce(name, F.lit(0)) for name in (EXISTING_BITS, ADDED_BITS, REMOVED_BITS))
    bits = existing.bitwiseAND(F.bitwise_not(removed)).bitwiseOR(added)
    delivered_by = F.when(~is_session_span(), bits)
    # An event that no batch delivers any more has no interval.
    is_there = is_session_span() | (F.col(DELIVERED_BY) != 0)
    return combined.withColumn(DELIVERED_BY, delivered_by).withColumn(
        INTERVAL_END, F.when(is_there, F.col(INTERVAL_END))
    )


def _change() -> Column:
    is_moved = ~(F.col(SESSION_START).eqNullSafe(F.col(OLD_START)) & F.col(SESSION_END).eqNullSafe(F.col(OLD_END)))
    has_other_bits = F.col(DELIVERED_BY) != F.col(EXISTING_BITS)
    return (
        F.when(is_session_span(), F.when(is_moved, Change.NEW_BOUNDS.value).otherwise(Change.KEEP.value))
        .when(F.col(EXISTING_BITS).isNull(), Change.INSERT.value)
        .when(F.col(DELIVERED_BY) == 0, Change.REMOVE.value)
        .when(is_moved | has_other_bits | F.col(HAS_NEW_VALUES), Change.UPDATE.value)
        .otherwise(Change.KEEP.value)
    )
