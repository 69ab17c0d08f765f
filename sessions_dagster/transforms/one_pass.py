"""One pass over everything that landed: what `sessionized_events` has to be, computed without the table itself.

It finds the sessions without `sessionize`, and in another way, because an audit is to notice if that goes wrong.
"""

from collections.abc import Sequence
from typing import Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from sessions_dagster.model.columns import (
    BATCH_DATE,
    DELIVERED_BY,
    EVENT,
    EVENT_DATE,
    EVENT_IDENTITY,
    LANDED_AT,
    PRODUCT,
    SESSION_END,
    SESSION_ID,
    SESSION_ID_FORMAT,
    SESSION_KEY,
    SESSION_START,
    TIMESTAMP,
    USER,
)
from sessions_dagster.model.delivery_bits import delivery_bit, delivery_bits_type
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.model.schemas import sessionized_events_schema

_NEWEST: Final = "__newest"
_TIME: Final = "__time"
_ACTION: Final = "__action"
_START: Final = "__start"
_END: Final = "__end"


def one_pass(raw_events: DataFrame, rules: SessionRules, carried_columns: Sequence[str] = ()) -> DataFrame:
    """Sessionize the distinct union of all batches.

    A session can cross any number of midnights, so rows of some dates are exact only if they are taken from the result
    of the pass over all rows.

    Args:
        raw_events: All rows of `raw_events`.
        rules: The session rules. A row that its batch may not deliver by them, which no landing writes, is left out.
        carried_columns: The names of the carried columns.

    Returns:
        Rows of `sessionized_events`, one per event, with these carried columns and no others.
    """
    dated = raw_events.withColumn(EVENT_DATE, F.to_date(TIMESTAMP))
    accepted = dated.where(F.datediff(BATCH_DATE, EVENT_DATE).between(0, rules.lateness_days))
    newest = F.max(F.struct(LANDED_AT, BATCH_DATE, *carried_columns)).alias(_NEWEST)
    bits = F.bit_or(delivery_bit()).cast(delivery_bits_type(rules)).alias(DELIVERED_BY)
    events = accepted.groupBy(*EVENT_IDENTITY, EVENT_DATE).agg(bits, *([newest] if carried_columns else []))
    carried = {name: F.col(_NEWEST)[name] for name in carried_columns}
    complete = _in_sessions(events, rules).withColumns({SESSION_ID: _label(), **carried})
    of_contract = sessionized_events_schema(rules, {}).names
    return complete.select(*of_contract, *carried_columns)


def _in_sessions(events: DataFrame, rules: SessionRules) -> DataFrame:
    """Events with the bounds of their sessions: a gap of at least the timeout between user actions ends a session."""
    in_time = Window.partitionBy(*SESSION_KEY).orderBy(_TIME, F.col(_ACTION).asc_nulls_last())
    # Events of the same instant count as one for each other, whichever comes first.
    until_then = (
        Window.partitionBy(*SESSION_KEY).orderBy(_TIME).rangeBetween(Window.unboundedPreceding, Window.currentRow)
    )
    of_session = Window.partitionBy(*SESSION_KEY, _START)
    time, action = F.col(_TIME), F.col(_ACTION)
    previous = F.last(action, ignorenulls=True).over(in_time.rowsBetween(Window.unboundedPreceding, -1))
    begins = action.isNotNull() & (previous.isNull() | (action - previous >= rules.timeout_us))
    is_action = F.col(EVENT).isin(*sorted(rules.user_action_ids))
    timed = events.withColumn(_TIME, F.unix_micros(TIMESTAMP)).withColumn(_ACTION, F.when(is_action, F.col(_TIME)))
    bounded = (
        timed.withColumn(_START, F.when(begins, action))
        .withColumn(_START, F.max(_START).over(until_then))
        .withColumn(_END, F.max(_ACTION).over(of_session) + rules.timeout_us)
    )
    is_inside = time <= F.col(_END)
    return bounded.withColumns(
        {
            SESSION_START: F.when(is_inside, F.timestamp_micros(_START)),
            SESSION_END: F.when(is_inside, F.timestamp_micros(_END)),
        }
    )


def _label() -> Column:
    start = F.date_format(SESSION_START, SESSION_ID_FORMAT)
    return F.when(F.col(SESSION_START).isNotNull(), F.concat_ws("#", F.col(USER), F.col(PRODUCT), start))
