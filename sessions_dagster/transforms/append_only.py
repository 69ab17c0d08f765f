"""Append-only events: events of a new date that no correction has to look at.

If the table has nothing of the newest event date of a run or of later dates, that date meets other dates at its first
midnight only: no user action before it reaches further into the date than the timeout. So a session key without an
event in that time has its sessions of the date by itself, and its events go from `raw_events` into the table as if
there were no other batch. A daily batch brings hardly anything else. All other events become facts of a correction.
"""

from collections.abc import Collection, Sequence
from datetime import date, timedelta
from typing import Final

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from sessions_dagster.model.columns import (
    DELIVERED_BY,
    EVENT,
    EVENT_DATE,
    EVENT_IDENTITY,
    SESSION_ID,
    SESSION_KEY,
    TIMESTAMP,
)
from sessions_dagster.model.date_columns import among
from sessions_dagster.model.dates import ONE_DAY
from sessions_dagster.model.delivery_bits import bit_of
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.transforms.carried_columns import greatest_first
from sessions_dagster.transforms.sessionize import (
    INTERVAL_END,
    INTERVAL_START,
    assign_sessions,
    in_time_order,
    interval_end_of_event,
    session_id,
)

_IS_AT_MIDNIGHT: Final = "__is_at_midnight"
_IS_REPEATED: Final = "__is_repeated"
_US_A_DAY: Final = ONE_DAY // timedelta(microseconds=1)


def append_only_date(batches: Collection[date], existing_dates: Collection[date]) -> date | None:
    """The date whose events may be append-only: the newest of some batches, if the table has nothing of it or later.

    Args:
        batches: The dates of the batches to apply that have rows.
        existing_dates: The event dates that the table has rows of.
    """
    newest = max(batches, default=None)
    return newest if newest is not None and newest > max(existing_dates, default=date.min) else None


def keys_at_midnight(events: DataFrame, day: date, rules: SessionRules) -> DataFrame:
    """The session keys with an event on a date that a user action before that date may reach.

    Args:
        events: `user_id, product_code` (string), `timestamp` (timestamp), `event_date` (date).
        day: The date.
        rules: The session rules.

    Returns:
        `user_id, product_code` (string), one row per key.
    """
    since_midnight = F.pmod(F.unix_micros(TIMESTAMP), F.lit(_US_A_DAY))
    is_at_midnight = among(EVENT_DATE, [day]) & (since_midnight < rules.timeout_us)
    return events.where(is_at_midnight).select(*SESSION_KEY).distinct()


def append_only_events(events: DataFrame, day: date, at_midnight: DataFrame) -> DataFrame:
    """The append-only ones among some events.

    Args:
        events: Rows of `raw_events`.
        day: The date that `append_only_date` gives.
        at_midnight: As `keys_at_midnight` gives it.

    Returns:
        Some of these rows.
    """
    return events.where(among(EVENT_DATE, [day])).join(at_midnight, [*SESSION_KEY], "left_anti")


def other_events(events: DataFrame, day: date, at_midnight: DataFrame) -> DataFrame:
    """All rows except those that `append_only_events` gives for the same arguments."""
    marked = events.join(at_midnight.withColumn(_IS_AT_MIDNIGHT, F.lit(True)), [*SESSION_KEY], "left")
    return marked.where(~among(EVENT_DATE, [day]) | F.col(_IS_AT_MIDNIGHT).isNotNull()).drop(_IS_AT_MIDNIGHT)


def append_only_rows(
    events: DataFrame, day: date, rules: SessionRules, carried_columns: Sequence[str] = ()
) -> DataFrame:
    """Append-only events with their sessions, each event once.

    Args:
        events: As `append_only_events` gives them, with the carried columns; an event may be there twice.
        day: The event date of all of them.
        rules: The session rules.
        carried_columns: The names of the carried columns.

    Returns:
        `user_id, event_id, product_code` (string), `timestamp` (timestamp), `delivered_by` (int), `session_start_ts,
        session_end_ts` (timestamp), `session_id` (string), the carried columns, and `__begins_session` (boolean). The
        `event_date` is left to the caller: see `on_date`.
    """
    rows = events.select(*EVENT_IDENTITY, *carried_columns).withColumns(
        {INTERVAL_START: F.col(TIMESTAMP), INTERVAL_END: interval_end_of_event(rules)}
    )
    placed = assign_sessions(_once(rows, carried_columns)).drop(INTERVAL_START, INTERVAL_END)
    # No batch of another day can have delivered an event of this date yet.
    return placed.withColumns({DELIVERED_BY: F.lit(bit_of(day, day)), SESSION_ID: session_id()})


def on_date(rows: DataFrame, day: date) -> DataFrame:
    """Rows with the `event_date` (date) that all of them have."""
    # As a literal: if rows of other dates are looked for, Spark sees that none of these can be one and computes none.
    # It is added last, because the code that Spark compiles for it contains the date and is compiled anew every day.
    return rows.withColumn(EVENT_DATE, F.lit(day))


def _once(rows: DataFrame, carried_columns: Sequence[str]) -> DataFrame:
    """Each event once, laid out and in the order in which its session is found."""
    # In that order equal events are neighbours. An aggregate would take a third of the time of everything else.
    laid_out = rows.repartition(*SESSION_KEY)
    in_order = Window.partitionBy(*SESSION_KEY).orderBy(*in_time_order(), EVENT, *greatest_first(carried_columns))
    return laid_out.withColumn(_IS_REPEATED, _equals_previous(in_order)).where(~F.col(_IS_REPEATED)).drop(_IS_REPEATED)


def _equals_previous(in_order: WindowSpec) -> Column:
    same_time, same_event = (F.lag(name).over(in_order).eqNullSafe(F.col(name)) for name in (TIMESTAMP, EVENT))
    return same_time & same_event
