"""One pass over everything that landed: what `sessionized_events` has to be, computed without the table itself."""

from collections.abc import Sequence
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sessions_dagster.model.columns import (
    BATCH_DATE,
    DELIVERED_BY,
    EVENT_DATE,
    EVENT_IDENTITY,
    LANDED_AT,
    SESSION_ID,
    TIMESTAMP,
)
from sessions_dagster.model.delivery_bits import delivery_bit, delivery_bits_type
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.model.schemas import sessionized_events_schema
from sessions_dagster.transforms.sessionize import (
    BEGINS_SESSION,
    INTERVAL_END,
    INTERVAL_START,
    assign_sessions,
    interval_end_of_event,
    session_id,
)

_NEWEST: Final = "__newest"


def one_pass(raw_events: DataFrame, rules: SessionRules, carried_columns: Sequence[str] = ()) -> DataFrame:
    """Sessionize the distinct union of all batches.

    A session can cross any number of midnights, so rows of some dates are exact only if they are taken from the result
    of the pass over all rows.

    Args:
        raw_events: All rows of `raw_events`.
        rules: The session rules. A row that a batch may not deliver by them is left out.
        carried_columns: The names of the carried columns.

    Returns:
        Rows of `sessionized_events`, one per event, with these carried columns and no others.
    """
    dated = raw_events.withColumn(EVENT_DATE, F.to_date(TIMESTAMP))
    accepted = dated.where(F.datediff(BATCH_DATE, EVENT_DATE).between(0, rules.lateness_days))
    newest = F.max(F.struct(LANDED_AT, BATCH_DATE, *carried_columns)).alias(_NEWEST)
    bits = F.bit_or(delivery_bit()).cast(delivery_bits_type(rules)).alias(DELIVERED_BY)
    events = accepted.groupBy(*EVENT_IDENTITY, EVENT_DATE).agg(bits, *([newest] if carried_columns else []))
    placed = assign_sessions(
        events.withColumns({INTERVAL_START: F.col(TIMESTAMP), INTERVAL_END: interval_end_of_event(rules)})
    ).drop(INTERVAL_START, INTERVAL_END, BEGINS_SESSION)
    complete = placed.withColumns(
        {SESSION_ID: session_id(), **{name: F.col(_NEWEST)[name] for name in carried_columns}}
    )
    of_contract = sessionized_events_schema(rules, {}).names
    return complete.select(*of_contract, *carried_columns)
