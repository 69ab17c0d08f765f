"""Sessions from their events: the rows of the table `sessions`."""

from collections.abc import Sequence
from datetime import date
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sessions_dagster.model.columns import (
    DATES,
    EVENTS,
    LAST_DATE,
    MINUTES,
    SESSION_DATE,
    SESSION_END,
    SESSION_ID,
    SESSION_KEY,
    SESSION_START,
    USER_ACTIONS,
)
from sessions_dagster.model.date_columns import all_dates_between, overlaps_dates
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.model.schemas import SESSIONS_SCHEMA
from sessions_dagster.transforms.sessionize import is_user_action, session_id

_US_PER_MINUTE: Final = 60_000_000


def session_rows(events: DataFrame, rules: SessionRules) -> DataFrame:
    """Sessions from their events.

    Args:
        events: Rows of `sessionized_events`: all events of each session.
        rules: The session rules.

    Returns:
        Rows of `sessions`, one per session.
    """
    sessions = events.where(F.col(SESSION_START).isNotNull()).groupBy(*SESSION_KEY, SESSION_START)
    counted = sessions.agg(
        F.max(SESSION_END).alias(SESSION_END),
        F.count("*").alias(EVENTS),
        F.count_if(is_user_action(rules)).alias(USER_ACTIONS),
    )
    first, last = F.to_date(SESSION_START), F.to_date(SESSION_END)
    complete = counted.withColumns(
        {
            SESSION_ID: session_id(),
            MINUTES: (F.unix_micros(SESSION_END) - F.unix_micros(SESSION_START)) / _US_PER_MINUTE,
            SESSION_DATE: first,
            LAST_DATE: last,
            DATES: F.datediff(last, first) + 1,
        }
    )
    return complete.select(*SESSIONS_SCHEMA.names)


def is_session_over(days: Sequence[date]) -> Column:
    """Whether the session of a row of `sessionized_events` lies over one of some dates (boolean)."""
    return overlaps_dates(days, F.to_date(SESSION_START), F.to_date(SESSION_END))


def extent_of_events(events: DataFrame) -> DataFrame:
    """One row: the dates (`dates`, array of date) that the sessions of some rows of `sessionized_events` lie on."""
    return events.agg(all_dates_between(F.col(SESSION_START), F.col(SESSION_END)).alias("dates"))
