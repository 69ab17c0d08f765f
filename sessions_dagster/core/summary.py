"""What a day of `sessionized_events` holds, for people who look at the UI."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from sessions_dagster.core.contract import DELIVERED_BY, EVENT_DATE, PRODUCT, SESSION_START, USER


@dataclass(frozen=True)
class DaySummary:
    """The rows of one event date.

    Attributes:
        day: The event date.
        rows: Events.
        sessions: Sessions with an event on that date, wherever they start.
        users: Users with an event on that date.
        late_rows: Events that the batch of the day itself did not deliver.
    """

    day: date
    rows: int = 0
    sessions: int = 0
    users: int = 0
    late_rows: int = 0


def summarize_dates(spark: SparkSession, table_uri: str, days: Sequence[date]) -> list[DaySummary]:
    """Count each of some event dates of `sessionized_events`, in one pass; a date without rows is all zeros."""
    rows = spark.read.format("delta").load(table_uri).where(F.col(EVENT_DATE).isin(*days))
    # From sessions to users to the day: each step aggregates what is left of the one before, so no event is shuffled.
    per_session = rows.groupBy(EVENT_DATE, USER, PRODUCT, SESSION_START).agg(
        F.count("*").alias("rows"), F.count_if(F.col(DELIVERED_BY).bitwiseAND(F.lit(1)) == 0).alias("late")
    )
    per_user = per_session.groupBy(EVENT_DATE, USER).agg(
        F.sum("rows").alias("rows"), F.sum("late").alias("late"), F.count(SESSION_START).alias("sessions")
    )
    counted = per_user.groupBy(EVENT_DATE).agg(
        F.sum("rows").alias("rows"),
        F.sum("sessions").alias("sessions"),
        F.count("*").alias("users"),
        F.sum("late").alias("late"),
    )
    found = {
        row[EVENT_DATE]: DaySummary(row[EVENT_DATE], row["rows"], row["sessions"], row["users"], row["late"])
        for row in counted.collect()
    }
    return [found.get(day, DaySummary(day)) for day in days]
