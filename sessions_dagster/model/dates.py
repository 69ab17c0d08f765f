"""Calendar dates in plain Python: ranges of dates, and the runs of consecutive dates in a set of dates."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from itertools import pairwise
from typing import Final

from sessions_dagster.model.counts import number_of

ONE_DAY: Final = timedelta(days=1)


def days_between(first: date, last: date) -> list[date]:
    """All dates from the first to the last one, both included; none if the last one is before the first."""
    return [first + timedelta(days=offset) for offset in range((last - first).days + 1)]


def spans(days: Iterable[date]) -> list[tuple[date, date]]:
    """The first and the last date of each run of consecutive dates, in order."""
    ordered = sorted(set(days))
    if not ordered:
        return []
    gaps = [(before, after) for before, after in pairwise(ordered) if after - before > ONE_DAY]
    firsts = [ordered[0], *(after for _, after in gaps)]
    lasts = [*(before for before, _ in gaps), ordered[-1]]
    return list(zip(firsts, lasts, strict=True))


def groups_of_similar_size(sizes: Mapping[date, int], count: int) -> list[list[date]]:
    """Dates in groups that have about the same size.

    Args:
        sizes: The size of each date.
        count: The number of groups, at least 1; there are fewer if there are fewer dates.
    """
    groups: list[list[date]] = [[] for _ in range(min(count, len(sizes)))]
    for day in sorted(sizes, key=lambda each: (-sizes[each], each)):
        min(groups, key=lambda group: sum(sizes[each] for each in group)).append(day)
    return groups


def counted(days: Sequence[date], one: str, many: str) -> str:
    """How many days there are, by the name of what they are, and which: `3 batches (2025-09-18 to 2025-09-20)`."""
    which = str(days[0]) if len(days) == 1 else f"{min(days)} to {max(days)}"
    return f"{number_of(len(days), one, many)} ({which})"


def day_range(first: object, last: object) -> str:
    """A range of dates as Dagster writes it: `2025-09-18...2025-09-20`, or only one date."""
    return str(first) if first == last else f"{first}...{last}"


def day_ranges(days: Iterable[date]) -> list[str]:
    """Each run of consecutive dates, in order, as Dagster writes a range."""
    return [day_range(first, last) for first, last in spans(days)]


def date_list(days: Iterable[date]) -> str:
    """Dates for a message: `2025-09-18...2025-09-20, 2025-09-24`."""
    return ", ".join(day_ranges(days))


def date_literals(days: Iterable[date]) -> str:
    """Dates as a list of SQL literals, in order: `DATE'2025-09-19', DATE'2025-09-20'`."""
    return ", ".join(f"DATE'{day.isoformat()}'" for day in sorted(days))
