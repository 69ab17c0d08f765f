"""The statistics of a day of `sessionized_events`, for people who look at the UI."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from pyspark.sql import DataFrame, Row, Window
from pyspark.sql import functions as F

from sessions_dagster.model.columns import DELIVERED_BY, EVENT_DATE, PRODUCT, SESSION_END, SESSION_START, USER
from sessions_dagster.model.date_columns import among
from sessions_dagster.model.delivery_bits import first_lateness
from sessions_dagster.model.rules import SessionRules

SESSION_MINUTES: Final = (0, 10, 20, 30, 60, 120, 240)
"""The number of minutes at which each bar of the histogram of session lengths begins; the last bar has no end."""

_MINUTES: Final = "minutes"
_IS_FIRST: Final = "is_first_of_user"
_US_PER_MINUTE: Final = 60_000_000


@dataclass(frozen=True)
class DaySummary:
    """The rows of one event date.

    A session that spans several dates counts on each of them, but its length counts only on the date it starts.

    Attributes:
        day: The event date.
        rows_by_lateness: Events, by how many days after the event date they were first delivered: 0, 1, and so on.
        sessions: Sessions with an event on that date, wherever they start.
        users: Users with an event on that date.
        median_minutes: The median length of the sessions that start on that date, from start to end; 0 without any.
        p95_minutes: 95% of them are no longer than this; 0 without any.
        sessions_by_minutes: How many of them are of which length, one number for each of `SESSION_MINUTES`.
    """

    day: date
    rows_by_lateness: Sequence[int]
    sessions: int = 0
    users: int = 0
    median_minutes: float = 0.0
    p95_minutes: float = 0.0
    sessions_by_minutes: Sequence[int] = (0,) * len(SESSION_MINUTES)

    @property
    def rows(self) -> int:
        """Events."""
        return sum(self.rows_by_lateness)

    @property
    def late_rows(self) -> int:
        """Events that the batch of the day itself did not deliver."""
        return sum(self.rows_by_lateness[1:])


def summarize_dates(events: DataFrame, days: Sequence[date], rules: SessionRules) -> list[DaySummary]:
    """Summarize some event dates in one pass.

    Args:
        events: Rows of `sessionized_events`: all of those of these dates.
        days: The event dates.
        rules: The session rules that the table was built with.

    Returns:
        One summary for each date, in their order; a date without rows has zeros everywhere.
    """
    rows = events.where(among(EVENT_DATE, days))
    found = {row[EVENT_DATE]: _summary(row, rules) for row in day_statistics(rows, rules).collect()}
    return [found.get(day) or _empty_summary(day, rules) for day in days]


def day_statistics(rows: DataFrame, rules: SessionRules) -> DataFrame:
    """Count the rows, sessions and users of each event date.

    Args:
        rows: Rows of `sessionized_events`; of an event date either all rows or none.
        rules: The session rules.

    Returns:
        One row per event date: `event_date` (date), `late_0`, `late_1`, and so on up to the allowed lateness,
        `sessions`, `users`, `minutes_0`, `minutes_10`, and so on (long), `lengths` (array of double: the median and the
        95th percentile, in minutes; NULL if no session starts on that date).
    """
    # Sessions first, then dates, so that no event is shuffled.
    lateness = first_lateness(F.col(DELIVERED_BY))
    per_session = rows.groupBy(EVENT_DATE, USER, PRODUCT, SESSION_START).agg(
        *[F.count_if(lateness == days).alias(_late(days)) for days in rules.latenesses],
        F.max(SESSION_END).alias(SESSION_END),
    )
    # Not COUNT(DISTINCT): Spark would then compute a percentile for each user, and combine those.
    of_user = Window.partitionBy(EVENT_DATE, USER).orderBy(PRODUCT, SESSION_START)
    minutes = (F.unix_micros(SESSION_END) - F.unix_micros(SESSION_START)) / _US_PER_MINUTE
    starts_here = F.to_date(SESSION_START) == F.col(EVENT_DATE)
    ends = (*SESSION_MINUTES[1:], float("inf"))
    return (
        per_session.withColumn(_MINUTES, F.when(starts_here, minutes))
        .withColumn(_IS_FIRST, F.row_number().over(of_user) == 1)
        .groupBy(EVENT_DATE)
        .agg(
            *[F.sum(_late(days)).alias(_late(days)) for days in rules.latenesses],
            F.count(SESSION_START).alias("sessions"),
            F.count_if(_IS_FIRST).alias("users"),
            F.percentile(_MINUTES, [0.5, 0.95]).alias("lengths"),
            *[
                F.count_if((F.col(_MINUTES) >= first) & (F.col(_MINUTES) < end)).alias(_bar(first))
                for first, end in zip(SESSION_MINUTES, ends, strict=True)
            ],
        )
    )


def _late(days: int) -> str:
    return f"late_{days}"


def _bar(first_minutes: int) -> str:
    return f"minutes_{first_minutes}"


def _empty_summary(day: date, rules: SessionRules) -> DaySummary:
    return DaySummary(day, rows_by_lateness=(0,) * len(rules.latenesses))


def _summary(row: Row, rules: SessionRules) -> DaySummary:
    median, p95 = row["lengths"] or (0.0, 0.0)
    return DaySummary(
        day=row[EVENT_DATE],
        rows_by_lateness=tuple(row[_late(days)] for days in rules.latenesses),
        sessions=row["sessions"],
        users=row["users"],
        median_minutes=median,
        p95_minutes=p95,
        sessions_by_minutes=tuple(row[_bar(first)] for first in SESSION_MINUTES),
    )
