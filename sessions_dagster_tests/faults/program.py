"""An endless program of small steps on one warehouse, and what the tables must be after each, by the oracle.

Both follow from a seed alone. So a process that is killed needs to leave nothing behind but the number of its step.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final

from sessions_dagster.storage.maintenance import compact, vacuum
from sessions_dagster_tests.builders import RULES, World, sessions_of
from sessions_dagster_tests.histories import DAYS, FIRST_DAY, LATENESS, Delivery, deliveries
from sessions_dagster_tests.oracle import Event, SessionizedEvent, sessionize

HISTORIES: Final = 40
BATCH_DAYS: Final = [FIRST_DAY + timedelta(days=offset) for offset in range(DAYS + LATENESS)]

Rows = Counter[tuple[object, ...]]
"""The rows of a table, and how often each is there."""

LEFT_BEHIND: Final = "part-00000-left-behind.snappy.parquet"
"""A data file of a run that died long ago, for the vacuum to remove."""

_OLD: Final = datetime(2025, 1, 1).timestamp()


@dataclass(frozen=True)
class Land:
    """A batch lands, or lands again with other content."""

    day: date
    content: int


@dataclass(frozen=True)
class Apply:
    """A run of `sessionized_events` for a range."""

    first: date
    last: date


@dataclass(frozen=True)
class Follow:
    """A run of `sessions`."""


@dataclass(frozen=True)
class Compact:
    """A compaction of all tables."""


@dataclass(frozen=True)
class Vacuum:
    """A vacuum of all tables, in which there are data files that runs have left behind."""


Step = Land | Apply | Follow | Compact | Vacuum

_FIRST: Final = ("land", "apply", "follow", "land", "land", "apply", "compact", "follow", "land", "apply", "vacuum")
"""The kinds of the first steps, after which all kinds were there with something to do."""

_KINDS: Final = ("land",) * 4 + ("apply",) * 4 + ("follow",) * 3 + ("compact",) * 2 + ("vacuum",) * 2


@dataclass(frozen=True)
class Content:
    """What the tables must be.

    Attributes:
        landed: The events that each batch delivered when it landed last.
        applied: The same of those landings that `sessionized_events` reflects.
        followed: The same of those that `sessions` reflects.
        corrections: The rows of `session_corrections`, without what became of a session and by which batches.
    """

    landed: Mapping[date, Sequence[Event]] = field(default_factory=dict)
    applied: Mapping[date, Sequence[Event]] = field(default_factory=dict)
    followed: Mapping[date, Sequence[Event]] = field(default_factory=dict)
    corrections: Rows = field(default_factory=Counter)

    def tables(self) -> dict[str, Rows]:
        """The rows of each table, by its name."""
        followed = sessions_of(sessionize(_events(self.followed)))
        return {
            "raw_events": Counter((day, *event) for day, batch in self.landed.items() for event in batch),
            "rejected_events": Counter((day, *_rejected(day)[:3]) for day in self.landed),
            "sessionized_events": Counter(map(tuple, sessionize(_events(self.applied)))),
            "session_corrections": Counter(self.corrections),
            "sessions": Counter(map(tuple, followed)),
        }


class Program:
    """The steps for a seed.

    Attributes:
        seed: The seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._deliveries: dict[date, list[Delivery]] = defaultdict(list)
        for number in range(HISTORIES):
            for delivery in deliveries(1000 * seed + number):
                self._deliveries[delivery.batch].append(delivery)
        self._contents = [Content()]

    def step(self, number: int) -> Step:
        """A step, by its number from 0."""
        random = Random(f"{self.seed} {number}")
        kind = _FIRST[number] if number < len(_FIRST) else random.choice(_KINDS)
        match kind:
            case "land":
                return Land(random.choice(BATCH_DAYS), random.randrange(2**32))
            case "apply":
                # Mostly of all batches, so that there is something to do.
                first = random.choice((0, 0, random.randrange(len(BATCH_DAYS))))
                return Apply(BATCH_DAYS[first], BATCH_DAYS[-1])
            case "follow":
                return Follow()
            case "compact":
                return Compact()
            case _:
                return Vacuum()

    def expected(self, count: int) -> Content:
        """What the tables must be after a number of steps."""
        while len(self._contents) <= count:
            self._contents.append(self._after(self._contents[-1], self.step(len(self._contents) - 1)))
        return self._contents[count]

    def run(self, world: World, number: int) -> None:
        """Run a step in a warehouse. That it was run in part before must not matter."""
        match self.step(number):
            case Land(day, _) as landing:
                world.land(day, [*self._batch(landing), _rejected(day)])
            case Apply(first, last):
                world.materialize(first, last)
            case Follow():
                world.refresh()
            case Compact():
                for uri in filter(world.warehouse.open, world.warehouse.tables):
                    compact(world.spark, world.warehouse, uri)
            case Vacuum():
                for uri in filter(world.warehouse.open, world.warehouse.tables):
                    _leave_behind(Path(uri))
                    vacuum(world.spark, world.warehouse, uri, dry_run=False)

    def _after(self, before: Content, step: Step) -> Content:
        match step:
            case Land(day, _):
                return replace(before, landed={**before.landed, day: self._batch(step)})
            case Apply(first, last):
                window = RULES.batch_window(first, last)
                applied = {**before.applied, **{day: before.landed[day] for day in window if day in before.landed}}
                corrected = _bounds(before.applied) - _bounds(applied)
                return replace(before, applied=applied, corrections=before.corrections + Counter(corrected))
            case Follow():
                return replace(before, followed=before.applied)
            case _:
                return before

    def _batch(self, landing: Land) -> list[Event]:
        random = Random(landing.content)
        share = random.choice((0.0, 0.5, 1.0))
        events = [each.event for each in self._deliveries[landing.day] if each.firm or random.random() < share]
        random.shuffle(events)
        return events


def _events(batches: Mapping[date, Sequence[Event]]) -> list[Event]:
    return [event for batch in batches.values() for event in batch]


def _bounds(batches: Mapping[date, Sequence[Event]]) -> set[tuple[object, ...]]:
    rows: set[SessionizedEvent] = sessionize(_events(batches))
    return {(row.user, row.product, row.start, row.end) for row in rows if row.start is not None}


def _rejected(day: date) -> Event:
    """A row that every landing of a batch quarantines: it is of the day after the batch."""
    return Event("early", "a", "idea", datetime(day.year, day.month, day.day) + timedelta(days=1, hours=1))


def _leave_behind(table: Path) -> None:
    data = next((file for file in sorted(table.rglob("*.parquet")) if "_delta_log" not in file.parts), None)
    if data is not None:
        left = data.with_name(LEFT_BEHIND)
        left.write_bytes(data.read_bytes())
        os.utime(left, (_OLD, _OLD))
