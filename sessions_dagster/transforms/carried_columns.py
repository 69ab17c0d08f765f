"""Carried columns: columns of the sender's own that go from a batch into `raw_events` and `sessionized_events`.

They are not part of an event's identity. If several deliveries of an event differ in them, the newest landing counts;
within one landing the greatest values count, so that the outcome does not depend on the order of rows.
"""

from collections.abc import Iterable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sessions_dagster.model.columns import (
    BATCH_DATE,
    DELIVERED_BY,
    EVENT_DATE,
    EVENT_IDENTITY,
    LANDED_AT,
)
from sessions_dagster.model.delivery_bits import has_delivered
from sessions_dagster.model.rules import SessionRules

_VALUES = "__carried_values"
_PRECEDENCE = "__precedence"


def greatest_first(columns: Iterable[str]) -> list[Column]:
    """The order in which the first of several equal events in one landing is the one whose values count."""
    return [F.col(name).desc_nulls_last() for name in columns]


def with_carried_columns(
    rows: DataFrame, raw_events: DataFrame, columns: Iterable[str], rules: SessionRules
) -> DataFrame:
    """Look up the carried values of rows in what the batches delivered.

    Args:
        rows: `user_id, event_id, product_code` (string), `timestamp` (timestamp), `event_date` (date), `delivered_by`
            (a whole number), and any other columns except the carried ones; one row per event.
        raw_events: Rows of `raw_events`, at least all deliveries of these events.
        columns: The names of the carried columns.
        rules: The session rules.

    Returns:
        The rows with the carried columns added. They are NULL if no batch of `delivered_by` delivers the event.
    """
    names = list(columns)
    events = rows.select(*EVENT_IDENTITY, DELIVERED_BY)
    deliveries = raw_events.select(*EVENT_IDENTITY, EVENT_DATE, BATCH_DATE, LANDED_AT, F.struct(*names).alias(_VALUES))
    met = deliveries.join(events, [*EVENT_IDENTITY]).where(has_delivered(F.col(BATCH_DATE), rules))
    newest = met.groupBy(*EVENT_IDENTITY).agg(F.max(F.struct(LANDED_AT, BATCH_DATE, _VALUES)).alias(_PRECEDENCE))
    values = newest.select(*EVENT_IDENTITY, F.col(f"{_PRECEDENCE}.{_VALUES}").alias(_VALUES))
    joined = rows.join(values, [*EVENT_IDENTITY], "left")
    return joined.withColumns({name: F.col(_VALUES)[name] for name in names}).drop(_VALUES)
