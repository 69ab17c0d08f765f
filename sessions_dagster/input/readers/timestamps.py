"""Timestamps that are delivered as text."""

from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import TimestampType

DATE_AND_MINUTES: Final = r"\d{4}-\d{1,2}-\d{1,2}[ T]\d{1,2}:\d{1,2}"
"""A pattern of what every timestamp begins with."""


def parse_timestamp(text: Column) -> Column:
    """A timestamp (UTC) from text: a date and a time of day with at least minutes, and perhaps a zone.

    Args:
        text: Text (string).

    Returns:
        The timestamp. Without a zone the text is UTC; digits after the microseconds are cut off. NULL if the text is
        not a timestamp: Spark's own cast would take `12:00:00` for today and `2025` for New Year.
    """
    # Spark wants the seconds if a zone follows; Java and others leave them out if they are zero.
    with_seconds = F.regexp_replace(text, rf"^(\s*{DATE_AND_MINUTES})(?=\s*[A-Za-z+-])", "$1:00")
    return F.when(
        text.rlike(rf"^\s*{DATE_AND_MINUTES}"),
        F.coalesce(text.try_cast(TimestampType()), with_seconds.try_cast(TimestampType())),
    )
