"""Which batch delivers which event: the deliveries of batches that landed, compared with those a table knows of."""

from collections.abc import Collection, Iterable, Sequence
from datetime import date
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sessions_dagster.model.columns import (
    BATCH_DATE,
    DELIVERED_BY,
    EVENT_DATE,
    EVENT_IDENTITY,
    SESSION_END,
    SESSION_START,
)
from sessions_dagster.model.date_columns import array_of
from sessions_dagster.model.delivery_bits import has_delivered
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.transforms.carried_columns import with_carried_columns

DELIVERY: Final = (*EVENT_IDENTITY, EVENT_DATE, BATCH_DATE)
"""The columns of `raw_events` that say which batch delivers which event."""

_IS_LANDED: Final = "__is_landed"
_LANDED_VALUES: Final = "__landed_values"
_EXISTING_VALUES: Final = "__existing_values"


def changed_deliveries(
    existing: DataFrame,
    raw_events: DataFrame,
    batches: Collection[date],
    rules: SessionRules,
    carried_columns: Sequence[str] = (),
) -> DataFrame:
    """Compare the deliveries that a table knows of some batches with what these batches deliver now.

    Deliveries that are the same on both sides are left out: they change nothing.

    Args:
        existing: Rows of `sessionized_events` on all dates of which these batches can have delivered events.
        raw_events: The rows that these batches have in `raw_events` now.
        batches: The dates of the batches.
        rules: The session rules.
        carried_columns: The names of the carried columns; a delivery with other values in them is not the same.

    Returns:
        The columns of `DELIVERY` with `delivered_by` (a whole number), `session_start_ts, session_end_ts` (timestamp)
        of the existing row, all NULL if there is none; for `is_retracted`, `is_new` and `deliveries_with_new_values`.
    """
    of_batches = F.filter(array_of(batches), lambda batch: has_delivered(batch, rules))
    known = existing.withColumn(BATCH_DATE, F.explode(of_batches)).select(
        *DELIVERY, DELIVERED_BY, SESSION_START, SESSION_END, _values(carried_columns).alias(_EXISTING_VALUES)
    )
    landed = _landed(raw_events, carried_columns)
    has_other_values = ~F.col(_LANDED_VALUES).eqNullSafe(F.col(_EXISTING_VALUES))
    changed = is_new() | is_retracted() | has_other_values
    return known.join(landed, [*DELIVERY], "full_outer").where(changed)


def is_retracted() -> Column:
    """Of a row of `changed_deliveries`: whether the batch delivers the event no longer (boolean)."""
    return F.col(_IS_LANDED).isNull()


def is_new() -> Column:
    """Of a row of `changed_deliveries`: whether the table knows nothing of the delivery (boolean)."""
    return F.col(DELIVERED_BY).isNull()


def new_deliveries(changed: DataFrame, carried_columns: Sequence[str]) -> DataFrame:
    """The deliveries that the table knows nothing of.

    Args:
        changed: Rows as `changed_deliveries` gives them.
        carried_columns: The names of the carried columns.

    Returns:
        The columns of `DELIVERY`, and the carried columns.
    """
    values = [F.col(_LANDED_VALUES)[name].alias(name) for name in carried_columns]
    return changed.where(~is_retracted() & is_new()).select(*DELIVERY, *values)


def deliveries_with_new_values(
    changed: DataFrame, raw_events: DataFrame, carried_columns: Sequence[str], rules: SessionRules
) -> DataFrame:
    """The deliveries that only bring other carried values, provided that these values count.

    Args:
        changed: Rows as `changed_deliveries` gives them.
        raw_events: Rows of `raw_events`, at least all deliveries of these events by any batch.
        carried_columns: The names of the carried columns.
        rules: The session rules.

    Returns:
        The columns of `DELIVERY`.
    """
    known = changed.where(~is_retracted() & ~is_new())
    found = with_carried_columns(known, raw_events, carried_columns, rules)
    return found.where(~_values(carried_columns).eqNullSafe(F.col(_EXISTING_VALUES))).select(*DELIVERY)


def _landed(raw_events: DataFrame, carried_columns: Sequence[str]) -> DataFrame:
    if not carried_columns:
        return raw_events.select(*DELIVERY, F.lit(True).alias(_IS_LANDED), _values(()).alias(_LANDED_VALUES))
    return raw_events.groupBy(*DELIVERY).agg(
        F.lit(True).alias(_IS_LANDED), F.max(_values(carried_columns)).alias(_LANDED_VALUES)
    )


def _values(carried_columns: Iterable[str]) -> Column:
    names = list(carried_columns)
    return F.struct(*names) if names else F.lit(None)
