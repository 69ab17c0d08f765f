"""Days in a row: from days to the stretches without a hole that they form, and back."""

from collections.abc import Iterable
from datetime import date, timedelta
from itertools import pairwise
from typing import Final

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


def days_between(first: date, last: date) -> list[date]:
    """The days from the first to the last, both included."""
    return [first + timedelta(days=offset) for offset in range((last - first).days + 1)]
