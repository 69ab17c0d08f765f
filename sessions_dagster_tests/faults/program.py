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

from sessions_dagster.pipeline.forget import forget_users
from sessions_dagster.pipeline.rebuild import rebuild
from sessions_dagster.storage.maintenance import compact, vacuum
from sessions_dagster_tests.builders import RULES, World, sessions_of
from sessions_dagster_tests.corrections import Correction, corrections_between
from sessions_dagster_tests.histories import DAYS, FIRST_DAY, LATENESS, Delivery, deliveries
from sessions_dagster_tests.oracle import Event, sessionize

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
class Forget:
    """A user is forgotten."""

    user: str


@dataclass(frozen=True)
class Rebuild:
    """A rebuild of `sessionized_events` and `sessions`, which also applies what has landed."""


@dataclass(frozen=True)
class Compact:
    """A compaction of all tables."""


@dataclass(frozen=True)
class Vacuum:
    """A vacuum of all tables, in which there are data files that runs have left behind."""


Step = Land | Apply | Follow | Compact | Vacuum | Forget | Rebuild

_FIRST: Final = (
    *("land", "apply", "follow", "land", "land", "apply", "compact", "follow", "land", "apply", "vacuum"),
    *("forget", "land", "rebuild"),
)
"""The kinds of the first steps, after which all kinds were there with something to do."""

STEPS: Final = len(_FIRST)
"""How many steps of a program come to all boundaries."""

_SAME_EACH_TIME: Final[Mapping[str, Step]] = {
    "follow": Follow(),
    "rebuild": Rebuild(),
    "compact": Compact(),
    "vacuum": Vacuum(),
}

_OFTEN: Final = ("land",) * 4 + ("apply",) * 4 + ("follow",) * 3
_KINDS: Final = _OFTEN + ("compact",) * 2 + ("vacuum",) * 2 + ("forget", "rebuild")


@dataclass(frozen=True)
class Content:
    """What the tables must be.

    Attributes:
        landed: The events that each batch delivered when it landed last.
        applied: The same of those landings that `sessionized_events` reflects.
        followed: The same of those that `sessions` reflects.
        corrections: What became of sessions, as `session_corrections` says it.
        forgotten: The users that were forgotten.
    """

    landed: Mapping[date, Sequence[Event]] = field(default_factory=dict)
    applied: Mapping[date, Sequence[Event]] = field(default_factory=dict)
    followed: Mapping[date, Sequence[Event]] = field(default_factory=dict)
    corrections: Counter[Correction] = field(default_factory=Counter)
    forgotten: frozenset[str] = frozenset()

    def tables(self) -> dict[str, Rows]:
        """The rows of each table, by its name."""
        followed = sessions_of(sessionize(_events(self.followed)))
        return {
            "raw_events": Counter((day, *event) for day, batch in self.landed.items() for event in batch),
            "rejected_events": Counter((day, *_rejected(day)[:3]) for day in self.landed),
            "sessionized_events": Counter(map(tuple, sessionize(_events(self.applied)))),
            "session_corrections": Counter(map(tuple, self.corrections.elements())),
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
        self._users = sorted({each.event.user for of_batch in self._deliveries.values() for each in of_batch})
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
            case "forget":
                return Forget(random.choice(self._users))
            case _:
                return _SAME_EACH_TIME[kind]

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
            case Forget(user):
                forget_users(world.spark, world.warehouse, [user])
            case Rebuild():
                rebuild(world.spark, world.warehouse, world.rules, dry_run=False)
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
                events = [event for event in self._batch(step) if event.user not in before.forgotten]
                return replace(before, landed={**before.landed, day: events})
            case Apply(first, last):
                window = RULES.batch_window(first, last)
                applied = {**before.applied, **{day: before.landed[day] for day in window if day in before.landed}}
                corrected = corrections_between(sessionize(_events(before.applied)), sessionize(_events(applied)))
                return replace(before, applied=applied, corrections=before.corrections + Counter(corrected))
            case Follow():
                return replace(before, followed=before.applied)
            case Forget(user):
                landed, applied = _without(user, before.landed), _without(user, before.applied)
                corrections = Counter({each: n for each, n in before.corrections.items() if each.user != user})
                return Content(landed, applied, applied, corrections, before.forgotten | {user})
            case Rebuild():
                return replace(before, applied=before.landed, followed=before.landed)
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


def _without(user: str, batches: Mapping[date, Sequence[Event]]) -> dict[date, Sequence[Event]]:
    return {day: [event for event in batch if event.user != user] for day, batch in batches.items()}


def _rejected(day: date) -> Event:
    """A row that every landing of a batch quarantines: it is of the day after the batch."""
    return Event("early", "a", "idea", datetime(day.year, day.month, day.day) + timedelta(days=1, hours=1))


def _leave_behind(table: Path) -> None:
    data = next((file for file in sorted(table.rglob("*.parquet")) if "_delta_log" not in file.parts), None)
    if data is not None:
        left = data.with_name(LEFT_BEHIND)
        left.write_bytes(data.read_bytes())
        os.utime(left, (_OLD, _OLD))
