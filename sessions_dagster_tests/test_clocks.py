"""Clocks that go backwards, or hardly go on, between two landings of a batch."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from pyspark.sql import SparkSession

from sessions_dagster.pipeline.land import land_batch
from sessions_dagster_tests.builders import World, sessions_of, write_batch
from sessions_dagster_tests.oracle import Event, sessionize

DAY: Final = date(2025, 9, 20)
NOON: Final = datetime(2025, 9, 21, 12, tzinfo=UTC)
BEFORE: Final = [Event("ada", "a", "idea", datetime(2025, 9, 20, 9, minute)) for minute in (0, 4, 8)]
AFTER: Final = [BEFORE[0], BEFORE[2]]

CLOCKS: Final = {
    "an hour back": (NOON, NOON - timedelta(hours=1)),
    "the same time": (NOON, NOON),
    "within a millisecond": (NOON, NOON + timedelta(microseconds=999)),
    "a year back": (NOON, NOON - timedelta(days=365)),
}


def land(world: World, events: Sequence[Event], landed_at: datetime) -> None:
    write_batch(events, Path(world.input.batch_folder(DAY)))
    land_batch(world.spark, world.input, world.warehouse, DAY, "parquet", landed_at, world.rules)


@pytest.mark.parametrize("clock", CLOCKS.values(), ids=CLOCKS.keys())
@pytest.mark.parametrize("is_applied_between", [True, False])
def test_the_newer_of_two_landings_counts_whatever_the_clock_says(
    spark: SparkSession, tmp_path: Path, clock: tuple[datetime, datetime], is_applied_between: bool
) -> None:
    world = World(spark, tmp_path)
    for events, landed_at, is_applied in ((BEFORE, clock[0], is_applied_between), (AFTER, clock[1], True)):
        land(world, events, landed_at)
        if is_applied:
            world.materialize(DAY)
            world.refresh()
    expected = sessionize(AFTER)
    assert sorted(world.table()) == sorted(expected)
    assert sorted(world.sessions()) == sorted(sessions_of(expected))
    assert bool(world.corrections()) == is_applied_between
    assert not world.materialize(DAY).committed


@pytest.mark.parametrize("between", [[BEFORE[0]], []], ids=["another content", "no event"])
def test_a_landing_that_comes_back_to_the_time_of_an_applied_one_is_applied(
    spark: SparkSession, tmp_path: Path, between: list[Event]
) -> None:
    world = World(spark, tmp_path)
    land(world, BEFORE, NOON)
    world.materialize(DAY)
    land(world, between, NOON)
    land(world, AFTER, NOON)
    world.materialize(DAY)
    assert sorted(world.table()) == sorted(sessionize(AFTER))
