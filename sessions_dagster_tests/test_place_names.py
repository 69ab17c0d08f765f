"""Folders with any name: two days materialized, checked and maintained where other tools encode the location."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Final

import dagster as dg
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs import build_defs
from sessions_dagster.defs.checks import WINDOW_IS_COMPLETE
from sessions_dagster.defs.missing_batches import BATCHES_HAVE_LANDED
from sessions_dagster.input.folders import InputRoot
from sessions_dagster.storage.maintenance import compact, vacuum
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.builders import sessionized_events, write_batch
from sessions_dagster_tests.oracle import Event, sessionize

SPELLED_OTHERWISE: Final = "My Data/100%/a#b/c+d/Ünï"
"""Characters that URIs encode with percent signs."""

NOT_FOR_TABLES: Final = "[x]/a%20b/{c,d}"
"""Further characters that an input root can have."""

DAYS: Final = (date(2025, 9, 20), date(2025, 9, 21))


def event(user: str, event_id: str, at: str) -> Event:
    return Event(user, event_id, "idea", datetime.fromisoformat(at))


BATCHES: Final = {
    DAYS[0]: [event("ada", "a", "2025-09-20 10:00"), event("ada", "b", "2025-09-20 10:08")],
    DAYS[1]: [event("ada", "c", "2025-09-20 10:04"), event("bob", "a", "2025-09-21 11:00")],
}
"""The batches of two days. The second one merges two sessions of the first one."""


@dataclass(frozen=True)
class World:
    """The locations of batches and tables, and the results of the runs of the days."""

    spark: SparkSession
    warehouse: Warehouse
    runs: Sequence[dg.ExecuteInProcessResult]


@pytest.fixture(scope="module")
def world(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("names") / SPELLED_OTHERWISE
    config = SessionsConfig(
        start_date="2025-01-01",
        input_root=str(folder / NOT_FOR_TABLES / "input"),
        warehouse_root=str(folder / "warehouse"),
    )
    job = build_defs(config).resolve_implicit_global_asset_job_def()
    runs = []
    with dg.DagsterInstance.ephemeral() as instance:
        for day, events in BATCHES.items():
            write_batch(events, Path(InputRoot(config.input_root).batch_folder(day)))
            runs.append(job.execute_in_process(partition_key=str(day), instance=instance))
    return World(spark, Warehouse(config.warehouse_root), runs)


def test_the_runs_succeed_and_every_check_passes_except_those_of_missing_batches(world: World) -> None:
    assert [run.success for run in world.runs] == [True, True]
    evaluations = [each for run in world.runs for each in run.get_asset_check_evaluations()]
    assert {each.check_name for each in evaluations if not each.passed} == {WINDOW_IS_COMPLETE, BATCHES_HAVE_LANDED}


def test_the_table_has_the_events_of_the_batches(world: World) -> None:
    events = [event for batch in BATCHES.values() for event in batch]
    assert sorted(sessionized_events(world.warehouse.sessionized_events)) == sorted(sessionize(events))


def test_all_tables_are_in_the_folder_with_that_name(world: World) -> None:
    assert all(DeltaTable.is_deltatable(table) and Path(table).is_dir() for table in world.warehouse.tables)


def test_a_compaction_covers_the_touched_dates_and_keeps_all_rows(world: World) -> None:
    table = world.warehouse.sessionized_events
    before = sorted(sessionized_events(table))
    assert compact(world.spark, world.warehouse, table).days == DAYS
    assert sorted(sessionized_events(table)) == before


def test_a_vacuum_removes_the_files_of_a_killed_run(world: World) -> None:
    left = Path(world.warehouse.sessionized_events, "event_date=2025-09-20", "left.parquet")
    left.touch()
    os.utime(left, (0, 0))
    report = vacuum(world.spark, world.warehouse, world.warehouse.sessionized_events, dry_run=False)
    assert [Path(removed).name for removed in report.removed] == [left.name]
    assert not left.exists()
