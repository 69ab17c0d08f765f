"""The main test: any program of landings and materializations gives the table of one pass over all batches.

A run of the suite tries a few programs. `SESSIONS_PROGRAMS=200 pytest sessions_dagster_tests/test_programs.py` tries
the given number, with other programs each time.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from sessions_dagster.spark.tuning import spark_property
from sessions_dagster.transforms import existing
from sessions_dagster_tests.builders import World, sessions_of
from sessions_dagster_tests.histories import DAYS, FIRST_DAY, LATENESS, Delivery, deliveries
from sessions_dagster_tests.oracle import SessionizedEvent, sessionize

PROGRAMS: Final = int(os.environ.get("SESSIONS_PROGRAMS", "6"))
HISTORIES: Final = 300
BATCH_DAYS: Final = [FIRST_DAY + timedelta(days=offset) for offset in range(DAYS + LATENESS)]


@dataclass(frozen=True)
class Land:
    """Batches land, or land again with other content."""

    days: tuple[date, ...]
    content: int


@dataclass(frozen=True)
class Materialize:
    """A run of `sessionized_events` for one day or a range."""

    first: date
    last: date


Step = Land | Materialize

_days = st.sampled_from(BATCH_DAYS)
_landings = st.builds(Land, st.lists(_days, min_size=1, max_size=2, unique=True).map(tuple), st.integers(0, 2**32 - 1))
_materializations = st.tuples(_days, st.integers(0, 4)).map(
    lambda chosen: Materialize(chosen[0], min(chosen[0] + timedelta(days=chosen[1]), BATCH_DAYS[-1]))
)
STEPS: Final = st.one_of(_landings, _materializations)
_programs = st.lists(STEPS, min_size=11, max_size=13)


class Play:
    """Runs a program on the histories of many users."""

    def __init__(self, world: World, histories: Sequence[Delivery]) -> None:
        self.world = world
        self._deliveries: dict[date, list[Delivery]] = defaultdict(list)
        for delivery in histories:
            self._deliveries[delivery.batch].append(delivery)

    def run(self, step: Step) -> None:
        match step:
            case Land(days, content):
                for day in days:
                    self.land(day, Random(f"{content} {day}"))
            case Materialize(first, last):
                self.world.materialize(first, last)

    def land(self, day: date, random: Random) -> None:
        share = random.choice((0.0, 0.5, 1.0))
        events = [each.event for each in self._deliveries[day] if each.firm or random.random() < share]
        random.shuffle(events)
        self.world.land(day, events)

    def catch_up(self, random: Random) -> None:
        """Apply every landed batch: all days, as three ranges in any order."""
        cuts = sorted(random.sample(range(1, len(BATCH_DAYS)), 2))
        ranges = [BATCH_DAYS[: cuts[0]], BATCH_DAYS[cuts[0] : cuts[1]], BATCH_DAYS[cuts[1] :]]
        for days in random.sample(ranges, 3):
            before = bounds(self.world.table())
            report = self.world.materialize(days[0], days[-1])
            changed = before - bounds(self.world.table())
            entries = self.world.corrections()
            assert len(entries) == len(set(entries)), "a correction is recorded twice"
            of_run = [row for row in entries if row.version == report.version and report.committed]
            assert {(row.user, row.product, row.old_start, row.old_end) for row in of_run} == changed
            if random.random() < 0.5:
                self.world.refresh()


def bounds(rows: Iterable[SessionizedEvent]) -> set[tuple[str, str, datetime, datetime]]:
    """The sessions of some rows of `sessionized_events`."""
    return {(row.user, row.product, row.start, row.end) for row in rows if row.start and row.end}


@contextmanager
def as_if_much(spark: SparkSession) -> Iterator[None]:
    """Treat every input as too large to broadcast, and every time bucket as crowded."""
    with pytest.MonkeyPatch.context() as patched, spark_property(spark, "spark.sessions.broadcastRows", "1"):
        patched.setattr(existing, "MAX_SEARCHED_INSTANTS", 0)
        yield


@settings(
    max_examples=PROGRAMS,
    deadline=None,
    derandomize="SESSIONS_PROGRAMS" not in os.environ,
    # Each step takes a second or more, so Hypothesis shrinks nothing. The wrong histories are noted instead.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(program=_programs, seed=st.integers(0, 2**31), is_much=st.booleans())
def test_any_program_ends_in_the_table_of_one_pass_over_all_batches(
    spark: SparkSession, program: list[Step], seed: int, is_much: bool
) -> None:
    histories = [delivery for number in range(HISTORIES) for delivery in deliveries(seed + number)]
    with TemporaryDirectory() as folder, as_if_much(spark) if is_much else nullcontext():
        world = World(spark, Path(folder))
        play = Play(world, histories)
        for step in program:
            play.run(step)
        play.catch_up(Random(seed))

        table = world.table()
        expected = sessionize(world.all_events())
        wrong = {row.user for row in set(table) ^ expected}
        for user in sorted(wrong)[:3]:
            note(f"program: {program}, as if much: {is_much}")
            note(f"history of {user}: {[each for each in histories if each.event.user == user]}")
            note(f"table: {[row for row in table if row.user == user]}")
            note(f"oracle: {[row for row in expected if row.user == user]}")
        assert set(table) == expected
        assert len(table) == len(expected), "an event is in the table twice"
        world.refresh()
        sessions = world.sessions()
        assert set(sessions) == sessions_of(expected)
        assert len(sessions) == len(set(sessions)), "a session is in the table twice"

        again = world.materialize(BATCH_DAYS[0], BATCH_DAYS[-1])
        assert not again.committed, "a run that changes nothing must commit nothing"
