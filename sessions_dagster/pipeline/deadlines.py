"""Deadlines of batches: which batches must have landed by now."""

from datetime import UTC, date, datetime, time, timedelta

from sessions_dagster.model.dates import ONE_DAY, days_between


def due_at(day: date, deadline: timedelta) -> datetime:
    """When the batch of a day must have landed: so long after the day is over in UTC."""
    return datetime.combine(day + ONE_DAY, time(), UTC) + deadline


def due_batches(first_day: date, deadline: timedelta, now: datetime) -> list[date]:
    """The batches that must have landed.

    Args:
        first_day: The date of the first batch there can be.
        deadline: How long after the end of its day (UTC) a batch must have landed.
        now: The time, with a time zone.

    Returns:
        Their dates, in order; none if the first batch is not due yet.
    """
    last_day = (now.astimezone(UTC) - deadline).date() - ONE_DAY
    return days_between(first_day, last_day)
