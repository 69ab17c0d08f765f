"""The contract in plain Python once more: one pass over the distinct union of all batches.

It shares no code with the product.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

FIVE_MINUTES = timedelta(minutes=5)


class Event(NamedTuple):
    user: str
    event: str
    product: str
    at: datetime


class SessionizedEvent(NamedTuple):
    user: str
    event: str
    product: str
    at: datetime
    start: datetime | None
    end: datetime | None


def sessionize(
    events: Iterable[Event], timeout: timedelta = FIVE_MINUTES, user_actions: Collection[str] = ("a", "b", "c")
) -> set[SessionizedEvent]:
    """Every distinct event with the bounds of its session, or None if it is in no session."""
    by_key: dict[tuple[str, str], set[Event]] = defaultdict(set)
    for event in events:
        by_key[event.user, event.product].add(event)
    result = set()
    for of_key in by_key.values():
        sessions = _sessions(sorted({event.at for event in of_key if event.event in user_actions}), timeout)
        for event in of_key:
            # The later one, if one session ends at the instant at which the next one starts.
            around = [(start, end) for start, end in sessions if start <= event.at <= end]
            start, end = max(around) if around else (None, None)
            result.add(SessionizedEvent(*event, start, end))
    return result


def _sessions(actions: list[datetime], timeout: timedelta) -> list[tuple[datetime, datetime]]:
    if not actions:
        return []
    breaks = [index for index, (one, next_) in enumerate(pairwise(actions), start=1) if next_ - one >= timeout]
    bounds = [0, *breaks, len(actions)]
    return [(actions[first], actions[end - 1] + timeout) for first, end in pairwise(bounds)]
