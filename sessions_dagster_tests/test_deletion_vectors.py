"""The setting of deletion vectors: without them corrections are as exact, and every reader can read the table."""

from datetime import date, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from sessions_dagster.storage.commit_metadata import applied_batches
from sessions_dagster.storage.maintenance import compact
from sessions_dagster_tests.builders import World
from sessions_dagster_tests.histories import DAYS, FIRST_DAY, LATENESS, deliveries
from sessions_dagster_tests.oracle import Event, sessionize
from sessions_dagster_tests.test_programs import Play

BATCH_DAYS = [FIRST_DAY + timedelta(days=offset) for offset in range(DAYS + LATENESS)]

D18, D19, D20 = (date(2025, 9, day) for day in (18, 19, 20))


def _action(day: date, minute: int) -> Event:
    return Event("ada", "a", "idea", datetime(day.year, day.month, day.day, 12, minute))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_program_without_deletion_vectors_is_exact_and_each_correction_is_one_commit(
    spark: SparkSession, tmp_path: Path, seed: int
) -> None:
    world, random = World(spark, tmp_path), Random(seed)
    world.deletion_vectors = False
    play = Play(world, [delivery for number in range(100) for delivery in deliveries(seed + number)])
    for day in random.sample(BATCH_DAYS, 6):
        play.land(day, random)
        version = _version(world)
        assert world.materialize(day).version == _version(world)
        assert _version(world) <= version + 1
    play.catch_up(random)
    assert set(world.table()) == sessionize(world.all_events())
    assert len(world.table()) == len(set(world.table()))
    assert world.vectors() == 0
    assert "deletionVectors" not in (DeltaTable(world.warehouse.sessionized_events).protocol().reader_features or ())


def _version(world: World) -> int:
    table = world.warehouse.open(world.warehouse.sessionized_events)
    return 0 if table is None else table.version()


def test_the_setting_holds_for_the_next_correction_of_a_table_and_its_vectors_last_until_compaction(
    spark: SparkSession, tmp_path: Path
) -> None:
    world = World(spark, tmp_path)
    world.land(D18, [_action(D18, minute) for minute in (0, 30, 50)])
    world.materialize(D18)
    world.land(D19, [_action(D18, 3)])
    world.materialize(D19)
    assert world.vectors() == 1

    world.deletion_vectors = False
    world.land(D20, [_action(D18, 33)])
    assert world.materialize(D20).committed
    assert _property(world) == "false"
    assert not world.materialize(D20).committed
    assert set(world.table()) == sessionize(world.all_events())

    applied = applied_batches(world.warehouse.open_existing(world.warehouse.sessionized_events))
    compact(spark, world.warehouse, world.warehouse.sessionized_events)
    assert world.vectors() == 0
    assert applied_batches(world.warehouse.open_existing(world.warehouse.sessionized_events)) == applied
    world.land(D20, [_action(D18, 33), _action(D18, 53)])
    world.materialize(D20)
    assert world.vectors() == 0

    world.deletion_vectors = True
    world.land(D20, [_action(D18, 34)])
    world.materialize(D20)
    assert _property(world) == "true"
    assert world.vectors() == 1
    assert set(world.table()) == sessionize(world.all_events())


def _property(world: World) -> str:
    table = world.warehouse.open_existing(world.warehouse.sessionized_events)
    return table.metadata().configuration["delta.enableDeletionVectors"]
