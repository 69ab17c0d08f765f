"""Which content of each batch has landed, by what the tables say."""

import os
from datetime import date, datetime
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from sessions_dagster.input.folders import batch_fingerprint
from sessions_dagster.pipeline.pending import days_in_sessions
from sessions_dagster.storage.landed_batches import LandedBatch, landed_batches, landed_days
from sessions_dagster.storage.maintenance import compact, vacuum
from sessions_dagster.storage.sql import quoted
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.builders import World
from sessions_dagster_tests.oracle import Event

FULL, EMPTY, NEVER = date(2025, 9, 20), date(2025, 9, 21), date(2025, 9, 22)
DAYS = [FULL, EMPTY, NEVER]

FIRST = [Event("ada", "a", "idea", datetime(2025, 9, 20, 10))]
SECOND = [Event("ada", "b", "idea", datetime(2025, 9, 20, 11))]


@pytest.fixture(scope="module")
def landed(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world in which one batch has landed with an event, and one without any."""
    world = World(spark, tmp_path_factory.mktemp("landed"))
    world.land(FULL, FIRST)
    world.land(EMPTY, [])
    return world


@pytest.fixture
def world(landed: World, tmp_path: Path) -> World:
    return landed.copy_to(tmp_path)


def known(world: World) -> dict[date, LandedBatch]:
    """What somebody knows who has nothing but the tables."""
    batches = landed_batches(Warehouse(world.warehouse.root), DAYS)
    assert landed_days(Warehouse(world.warehouse.root), DAYS) == batches.keys()
    return batches


def fingerprints(world: World) -> dict[date, str | None]:
    return {day: batch.fingerprint for day, batch in known(world).items()}


def note_of(world: World, day: date) -> Path:
    return Path(world.warehouse.raw_events, "_landed", f"{day}.json")


def test_the_tables_know_the_content_that_landed_also_of_a_batch_without_events(landed: World) -> None:
    assert fingerprints(landed) == {day: batch_fingerprint(landed.input, day) for day in (FULL, EMPTY)}


def test_only_a_batch_with_accepted_rows_has_a_time_of_its_landing(landed: World) -> None:
    assert [known(landed)[day].landed_at is None for day in (FULL, EMPTY)] == [False, True]


def test_nothing_has_landed_where_there_is_no_table(tmp_path: Path) -> None:
    assert landed_batches(Warehouse(str(tmp_path)), DAYS) == {}


def test_a_batch_that_lands_again_is_known_by_its_new_content(world: World) -> None:
    before = fingerprints(world)[FULL]
    report = world.land(FULL, SECOND)
    assert fingerprints(world)[FULL] == report.fingerprint != before


def test_a_batch_whose_landing_died_between_its_commits_has_no_known_content(world: World) -> None:
    note = note_of(world, FULL)
    of_first_landing = note.read_text()
    world.land(FULL, SECOND)
    note.write_text(of_first_landing)
    assert fingerprints(world)[FULL] is None


@pytest.mark.parametrize("content", [None, "", '{"fingerpr'])
def test_a_batch_that_was_landed_by_an_older_version_has_no_known_content(world: World, content: str | None) -> None:
    note_of(world, FULL).unlink()
    if content is not None:
        note_of(world, FULL).write_text(content)
    assert fingerprints(world)[FULL] is None


def test_a_batch_whose_rows_were_removed_has_not_landed(world: World) -> None:
    world.spark.sql(f"DELETE FROM {quoted(world.warehouse.raw_events)} WHERE batch_date = '{FULL}'")
    assert known(world).keys() == {EMPTY}


def test_a_restore_undoes_what_landed_since(world: World) -> None:
    version = DeltaTable(world.warehouse.raw_events).version()
    world.land(FULL, SECOND)
    world.land(NEVER, [Event("bob", "a", "idea", datetime(2025, 9, 22, 10))])
    world.spark.sql(f"RESTORE {quoted(world.warehouse.raw_events)} TO VERSION AS OF {version}")
    assert fingerprints(world)[FULL] is None
    assert NEVER not in known(world)


def test_what_landed_is_known_after_a_compaction_a_vacuum_and_a_clean_up_of_the_log(world: World) -> None:
    before = known(world)
    raw_events = world.warehouse.raw_events
    compact(world.spark, world.warehouse, raw_events)
    for file in Path(raw_events).rglob("*"):
        os.utime(file, ns=(0, 0))
    vacuum(world.spark, world.warehouse, raw_events, dry_run=False)
    table = DeltaTable(raw_events)
    table.create_checkpoint()
    for commit in Path(raw_events, "_delta_log").glob("*.json"):
        commit.unlink()
    assert known(world) == before


def test_a_batch_is_in_sessions_once_it_is_applied_and_they_are_refreshed(world: World) -> None:
    in_sessions = [days_in_sessions(world.warehouse, [FULL])]
    world.materialize(FULL)
    in_sessions.append(days_in_sessions(world.warehouse, [FULL]))
    world.refresh()
    in_sessions.append(days_in_sessions(world.warehouse, [FULL]))
    world.land(FULL, SECOND)
    in_sessions.append(days_in_sessions(world.warehouse, [FULL]))
    assert in_sessions == [set(), set(), {FULL}, set()]


def test_a_compaction_takes_no_batch_out_of_sessions(world: World) -> None:
    world.materialize(FULL)
    world.refresh()
    compact(world.spark, world.warehouse, world.warehouse.sessionized_events)
    assert days_in_sessions(world.warehouse, DAYS[:2]) == {FULL, EMPTY}
