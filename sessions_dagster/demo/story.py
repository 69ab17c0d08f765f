"""The demo's input: the batches of a made-up week. Every run makes the same rows.

Each person in the cast shows one problem, and the demo reads its outcome from the tables. The regulars around them only
add other rows to the tables.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from sessions_dagster.model.columns import EVENT, PRODUCT, TIMESTAMP, USER

MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY, SATURDAY, SUNDAY = DAYS = tuple(
    date(2025, 9, day) for day in range(15, 22)
)
"""The dates of the batches, in the order in which they land."""

CORRECTED: Final = FRIDAY
"""The batch that lands again at the end of the week, without one of its original user actions."""

CAST: Final = {
    "ada": "works offline twice: one action comes 2 days late, another one 5 days late",
    "bruno": "has two sessions, until an action between them comes 2 days late",
    "chloe": "works past midnight",
    "dmitri": "never sleeps: an action every 4 min 59 s from Thursday night until Saturday",
    "elif": "sends an action twice: in two batches, and in one",
    "farah": "acts every 4 minutes, until a corrected batch takes one action away",
}
"""The people to watch, and the problem that each of them shows."""

REGULARS: Final = ("gil", "hana", "ivo")
"""Their events are always on time."""


@dataclass(frozen=True)
class Delivery:
    """One row of a batch as its sender wrote it: all values are text, and any of them may be invalid."""

    user_id: str | None
    event_id: str | None
    product_code: str | None
    timestamp: str | None


def batches() -> Mapping[date, tuple[Delivery, ...]]:
    """The rows of each batch when it lands first, including rows that will be rejected."""
    regulars = {day: _regular_events(day) for day in DAYS}
    return {day: (*_STORY[day], *regulars[day]) for day in DAYS}


def corrected_batch() -> tuple[Delivery, ...]:
    """The rows of the batch `CORRECTED` when it lands again: the same without one of farah's user actions."""
    return tuple(row for row in batches()[CORRECTED] if row != FARAHS_MISTAKE)


def write_batch(input_root: Path, day: date, rows: Sequence[Delivery]) -> None:
    """Write a batch into its folder and replace the earlier one: Parquet with text timestamps, like real batches."""
    folder = input_root / f"date={day.isoformat()}"
    folder.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([(name, pa.string()) for name in (USER, EVENT, PRODUCT, TIMESTAMP)])
    columns = zip(*map(astuple, rows), strict=True)
    pq.write_table(
        pa.Table.from_arrays([pa.array(column, pa.string()) for column in columns], schema=schema),
        folder / "events.parquet",
    )


def _events(user: str | None, product: str | None, day: date, *moments: str) -> tuple[Delivery, ...]:
    """Events of one person on one day. Each moment is `event_id HH:MM:SS`."""
    parts = (moment.split(" ") for moment in moments)
    return tuple(Delivery(user, event, product, f"{day.isoformat()} {time}") for event, time in parts)


def _dmitris_clock() -> Iterator[datetime]:
    at, last = datetime(2025, 9, 18, 23, 40, tzinfo=UTC), datetime(2025, 9, 20, 0, 10, tzinfo=UTC)
    while at <= last:
        yield at
        at += timedelta(minutes=4, seconds=59)


def _dmitri(day: date) -> tuple[Delivery, ...]:
    times = (f"a {at:%H:%M:%S}" for at in _dmitris_clock() if at.date() == day)
    return _events("dmitri", "idea", day, *times)


def _regular_events(day: date) -> tuple[Delivery, ...]:
    rows: list[Delivery] = []
    for number, user in enumerate(REGULARS):
        starts = datetime(day.year, day.month, day.day, 8, 30) + timedelta(minutes=40 * number + 11 * day.day)
        after = {0: "a", 70: "x", 200: "b", 420: "y", 620: "z", 1500: "c"}
        moments = (f"{event} {starts + timedelta(seconds=seconds):%H:%M:%S}" for seconds, event in after.items())
        rows += _events(user, ("idea", "pyc")[number % 2], day, *moments)
    return tuple(rows)


(FARAHS_MISTAKE,) = _events("farah", "pyc", FRIDAY, "b 10:04:00")

_STORY: Final[Mapping[date, tuple[Delivery, ...]]] = {
    MONDAY: (
        # The last two user actions are exactly five minutes apart: two sessions that touch.
        *_events("ada", "pyc", MONDAY, "a 09:00:00", "x 09:01:30", "b 09:04:59", "c 09:09:59"),
        *_events("bruno", "idea", MONDAY, "x 13:00:00", "y 13:00:05"),
    ),
    TUESDAY: (
        *_events("ada", "pyc", TUESDAY, "a 09:00:00", "x 09:01:30", "b 09:03:20", "y 09:10:30"),
        *_events("elif", "web", TUESDAY, "a 11:00:00", "b 11:03:00", "x 11:04:00"),
    ),
    WEDNESDAY: (
        *_events("bruno", "idea", WEDNESDAY, "a 14:00:00", "b 14:02:00", "x 14:08:10", "a 14:09:30", "c 14:12:00"),
        *_events("chloe", "pyc", WEDNESDAY, "a 23:56:10", "x 23:58:00", "c 23:59:30"),
        *_events("elif", "web", TUESDAY, "b 11:03:00"),
        *_events(None, "pyc", WEDNESDAY, "a 15:00:00"),
    ),
    THURSDAY: (
        *_events("chloe", "pyc", THURSDAY, "b 00:02:15", "x 00:04:00", "a 00:05:40"),
        *_events("ada", "pyc", TUESDAY, "c 09:07:10"),
        *_dmitri(THURSDAY),
        Delivery("bruno", "a", "idea", "yesterday evening"),
    ),
    FRIDAY: (
        *_dmitri(FRIDAY),
        *_events("bruno", "idea", WEDNESDAY, "b 14:05:40"),
        *_events("farah", "pyc", FRIDAY, "a 10:00:00"),
        FARAHS_MISTAKE,
        *_events("farah", "pyc", FRIDAY, "x 10:06:30", "c 10:08:00"),
        *_events("chloe", "pyc", SATURDAY, "a 00:00:10"),
    ),
    SATURDAY: (
        *_dmitri(SATURDAY),
        *_events("elif", "web", SATURDAY, "a 16:00:00", "c 16:02:00", "c 16:02:00"),
    ),
    SUNDAY: (
        *_events("ada", "pyc", TUESDAY, "a 08:57:00"),
        *_events("ada", "pyc", MONDAY, "c 09:12:00"),
        *_events("bruno", "idea", SUNDAY, "a 18:00:00", "x 18:04:00"),
    ),
}
