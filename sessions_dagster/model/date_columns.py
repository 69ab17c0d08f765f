"""Expressions about dates: whether a column is one of some dates, and which dates a stretch of time lies on."""

from collections.abc import Iterable, Sequence
from datetime import date
from functools import reduce

from pyspark.sql import Column
from pyspark.sql import functions as F

from sessions_dagster.model.dates import spans


def among(column: str, days: Iterable[date]) -> Column:
    """Whether a column (date) is one of some dates (boolean); NULL where the column is NULL."""
    # This is not IN, because the code that Spark compiles for IN contains the dates: nearly all plans would be compiled
    # anew every day. Partitions and files are pruned in the same way.
    return F.array_contains(array_of(days), F.col(column))


def array_of(days: Iterable[date]) -> Column:
    """Some dates as one value (array of date)."""
    return F.array(*[F.lit(day) for day in days]).cast("array<date>")


def overlaps_dates(dates: Sequence[date], first: Column, last: Column) -> Column:
    """Whether one of some dates lies between a first and a last date (both date columns, inclusive)."""
    stretches = [(first <= F.lit(end)) & (last >= F.lit(begin)) for begin, end in spans(dates)]
    return reduce(Column.__or__, stretches, F.lit(False))


def all_dates_between(first: Column, last: Column) -> Column:
    """An aggregate: the distinct dates (array of date) from one timestamp to another, over all rows."""
    return F.array_distinct(F.flatten(F.collect_set(F.sequence(F.to_date(first), F.to_date(last)))))
