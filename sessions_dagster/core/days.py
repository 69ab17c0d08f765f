"""Days: what is on some of them, and the stretches without a hole that they form."""

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from itertools import pairwise
from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F

ONE_DAY: Final = timedelta(days=1)


def spans(days: Iterable[date]) -> list[tuple[date, date]]:
    """The first and the last day of each stretch of days without a hole, in order."""
    ordered = sorted(set(days))
    if not ordered:
        return []
    holes = [(before, after) for before, after in pairwise(ordered) if after - before > ONE_DAY]
    firsts = [ordered[0], *(after for _, after in holes)]
    lasts = [*(before for before, _ in holes), ordered[-1]]
    return list(zip(firsts, lasts, strict=True))


def among(column: str, days: Iterable[date]) -> Column:
    """Whether a column (date) is one of some days; NULL where it is NULL."""
    # Not IN: what Spark compiles would hold the days, so that each day would compile nearly all of its plans anew. It
    # prunes partitions and files just the same.
    return F.array_contains(array_of(days), F.col(column))


def array_of(days: Iterable[date]) -> Column:
    """Some days as one value (array of date)."""
    return F.array(*[F.lit(day) for day in days]).cast("array<date>")


def days_between(first: date, last: date) -> list[date]:
    """The days from the first to the last, both included."""
    return [first + timedelta(days=offset) for offset in range((last - first).days + 1)]


def of_like_size(sizes: Mapping[date, int], parts: int) -> list[list[date]]:
    """Days put into so many parts, or one each if they are fewer, so that the parts have about the same size.

    Args:
        sizes: The size of each day.
        parts: How many parts, at least 1.
    """
    made: list[list[date]] = [[] for _ in range(min(parts, len(sizes)))]
    for day in sorted(sizes, key=lambda day: (-sizes[day], day)):
        min(made, key=lambda part: sum(sizes[each] for each in part)).append(day)
    return made
