"""What a day of `sessionized_events` holds, for people who look at the UI."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from pyspark.sql import Column, DataFrame, Row, SparkSession, Window
from pyspark.sql import functions as F

from sessions_dagster.core.contract import (
    DELIVERED_BY,
    EVENT_DATE,
    LATENESSES,
    PRODUCT,
    SESSION_END,
    SESSION_START,
    USER,
)
from sessions_dagster.core.days import among
from sessions_dagster.core.settings import compiled_if_worth, rows_around

SESSION_MINUTES: Final = (0, 10, 20, 30, 60, 120, 240)
"""Where the bars of the histogram of session lengths begin, each at its number of minutes; the last one has no end."""

_MINUTES: Final = "minutes"
_IS_FIRST: Final = "is_first_of_user"
_US_PER_MINUTE: Final = 60_000_000


@dataclass(frozen=True)
class DaySummary:
    """The rows of one event date.

    A session of several days counts on each of them, but its length counts on the day it starts only.

    Attributes:
        day: The event date.
        rows_by_lateness: Events, by how many days after the event date they were first delivered: 0 .. 5.
        sessions: Sessions with an event on that date, wherever they start.
        users: Users with an event on that date.
        median_minutes: The median length of the sessions that start on that date, from start to end; 0 without any.
        p95_minutes: 95% of them are no longer than this; 0 without any.
        sessions_by_minutes: How many of them are of which length, one number for each of `SESSION_MINUTES`.
    """

    day: date
    rows_by_lateness: Sequence[int] = (0,) * len(LATENESSES)
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


def summarize_dates(spark: SparkSession, table_uri: str, days: Sequence[date]) -> list[DaySummary]:
    """Count each of some event dates of `sessionized_events`, in one pass; a date without rows is all zeros."""
    with compiled_if_worth(spark, rows_around(days, table_uri)):
        rows = spark.read.format("delta").load(table_uri).where(among(EVENT_DATE, days))
        found = {row[EVENT_DATE]: _summary(row) for row in summarize(rows).collect()}
    return [found.get(day, DaySummary(day)) for day in days]


def summarize(rows: DataFrame) -> DataFrame:
    """Count event dates.

    Args:
        rows: Rows of `sessionized_events`: all of those of any event date.

    Returns:
        One row per event date: `event_date` (date), `late_0` .. `late_5`, `sessions`, `users`, `minutes_0`,
        `minutes_10` .. (bigint), `lengths` (array of double: median and 95th percentile, in minutes; NULL where no
        session starts on that date).
    """
    # Sessions first, then days: what is shuffled is never an event.
    per_session = rows.groupBy(EVENT_DATE, USER, PRODUCT, SESSION_START).agg(
        *[F.count_if(_lateness() == days).alias(_late(days)) for days in LATENESSES],
        F.max(SESSION_END).alias(SESSION_END),
    )
    # Not COUNT(DISTINCT): for that Spark would have a percentile of its own for each user, and put those together.
    of_user = Window.partitionBy(EVENT_DATE, USER).orderBy(PRODUCT, SESSION_START)
    minutes = (F.unix_micros(SESSION_END) - F.unix_micros(SESSION_START)) / _US_PER_MINUTE
    starts_here = F.to_date(SESSION_START) == F.col(EVENT_DATE)
    ends = (*SESSION_MINUTES[1:], float("inf"))
    return (
        per_session.withColumn(_MINUTES, F.when(starts_here, minutes))
        .withColumn(_IS_FIRST, F.row_number().over(of_user) == 1)
        .groupBy(EVENT_DATE)
        .agg(
            *[F.sum(_late(days)).alias(_late(days)) for days in LATENESSES],
            F.count(SESSION_START).alias("sessions"),
            F.count_if(_IS_FIRST).alias("users"),
            F.percentile(_MINUTES, [0.5, 0.95]).alias("lengths"),
            *[
                F.count_if((F.col(_MINUTES) >= first) & (F.col(_MINUTES) < end)).alias(_bar(first))
                for first, end in zip(SESSION_MINUTES, ends, strict=True)
            ],
        )
    )


def _lateness() -> Column:
    """The number of the lowest bit of `delivered_by`."""
    bits = F.col(DELIVERED_BY)
    return F.bit_count(bits.bitwiseAND(-bits) - 1)


def _late(days: int) -> str:
    return f"late_{days}"


def _bar(first_minutes: int) -> str:
    return f"minutes_{first_minutes}"


def _summary(row: Row) -> DaySummary:
    median, p95 = row["lengths"] or (0.0, 0.0)
    return DaySummary(
        day=row[EVENT_DATE],
        rows_by_lateness=tuple(row[_late(days)] for days in LATENESSES),
        sessions=row["sessions"],
        users=row["users"],
        median_minutes=median,
        p95_minutes=p95,
        sessions_by_minutes=tuple(row[_bar(first)] for first in SESSION_MINUTES),
    )
