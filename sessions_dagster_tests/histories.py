"""Generated user histories with many edge cases of the contract, and the batches that deliver them."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from random import Random
from typing import Final

from sessions_dagster_tests.oracle import Event

MICROSECOND: Final = timedelta(microseconds=1)
TIMEOUT: Final = timedelta(minutes=5)
MIDNIGHT: Final = timedelta(days=1)
LATENESS: Final = 5

FIRST_DAY: Final = date(2025, 9, 10)
DAYS: Final = 9
"""Number of days with events. The batches that can deliver the events span five days more."""

_EDGE_GAPS: Final = (
    timedelta(0),
    MICROSECOND,
    TIMEOUT - MICROSECOND,
    TIMEOUT,
    TIMEOUT + MICROSECOND,
    2 * TIMEOUT - MICROSECOND,
    2 * TIMEOUT,
)
_EVENT_IDS: Final = ("a", "b", "c", "x", "x", "y")


@dataclass(frozen=True)
class Delivery:
    """An event and a batch that can deliver it. Firm ones are in every landing of the batch, others only in some."""

    event: Event
    batch: date
    firm: bool


def deliveries(seed: int) -> list[Delivery]:
    """The history of one user, distributed over batches within the lateness rule, determined by the seed."""
    random = Random(seed)
    user = f"u{seed}" if random.random() < 0.9 else f"u#{seed}#idea"
    events = _marathon(random, user) if random.random() < 0.02 else _history(random, user)
    return [delivery for event in events for delivery in _deal(random, event)]


def _history(random: Random, user: str) -> list[Event]:
    at = datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day) + random.randrange(DAYS - 1) * MIDNIGHT
    # Most histories start shortly before midnight, so that sessions cross it.
    at += (
        MIDNIGHT - timedelta(minutes=random.randrange(20))
        if random.random() < 0.6
        else timedelta(hours=random.random() * 20)
    )
    end = datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day) + DAYS * MIDNIGHT
    events = []
    for _ in range(random.randint(1, 14)):
        product = "idea" if random.random() < 0.85 else "pyc#idea"
        events.append(Event(user, random.choice(_EVENT_IDS), product, at))
        at += _gap(random)
        if at >= end:
            break
    return events


def _gap(random: Random) -> timedelta:
    kind = random.random()
    if kind < 0.55:
        return random.choice(_EDGE_GAPS)
    if kind < 0.9:
        return timedelta(seconds=random.randrange(280))
    if kind < 0.97:
        return timedelta(hours=random.randrange(1, 30))
    return MIDNIGHT - timedelta(minutes=random.randrange(10))


def _marathon(random: Random, user: str) -> list[Event]:
    """A session that crosses two midnights: a user action every few minutes for more than a day."""
    start = datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day) + random.randrange(DAYS - 3) * MIDNIGHT
    at, end = start + timedelta(hours=23, minutes=50), start + timedelta(days=2, minutes=10)
    events = []
    while at < end:
        events.append(Event(user, random.choice(("a", "b", "c")), "idea", at))
        at += TIMEOUT - timedelta(microseconds=random.choice((1, 1, 20_000_000)))
    return events


def _deal(random: Random, event: Event) -> list[Delivery]:
    day = event.at.date()
    times = random.choice((1, 1, 1, 1, 2, 3))
    batches = {day + timedelta(days=random.choice((0, 0, 0, 1, 2, 3, 4, LATENESS))) for _ in range(times)}
    copies = random.choice((1, 1, 1, 2))
    return [Delivery(event, batch, random.random() < 0.7) for batch in sorted(batches) for _ in range(copies)]
