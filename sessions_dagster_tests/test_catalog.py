"""The tables have their names in a schema of Spark's catalogue, if a setting names one."""

import shutil
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

import pytest
from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

from sessions_dagster.errors import SettingsError
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.builders import World
from sessions_dagster_tests.oracle import Event

SCHEMA = "order"
"""A word that SQL reserves."""

D18, D19 = date(2025, 9, 18), date(2025, 9, 19)


def _events(day: date) -> list[Event]:
    return [Event(user, "a", "idea", datetime(day.year, day.month, day.day, 12)) for user in ("ada", "bob")]


@pytest.fixture
def world(spark: SparkSession, tmp_path: Path) -> Iterator[World]:
    """A world whose tables have names, in a folder with characters that SQL and URIs have to quote."""
    world = World(spark, tmp_path / "it's 1 `lake`, ${x} #?")
    world.warehouse = Warehouse(world.warehouse.root, SCHEMA)
    yield world
    spark.sql(f"DROP SCHEMA IF EXISTS `{SCHEMA}` CASCADE")


def _rows(world: World) -> dict[str, int]:
    shown = world.spark.sql(f"SHOW TABLES IN `{SCHEMA}`").collect()
    names = [row.tableName for row in shown if not row.isTemporary]
    return {name: world.spark.table(f"`{SCHEMA}`.{name}").count() for name in names}


def _versions(world: World) -> dict[str, int]:
    opened = {uri: Warehouse(world.warehouse.root).open(uri) for uri in world.warehouse.tables}
    return {uri: table.version() for uri, table in opened.items() if table is not None}


def test_each_table_has_its_name_as_soon_as_it_is_there(world: World) -> None:
    world.land(D18, _events(D18))
    assert _rows(world) == {"raw_events": 2, "rejected_events": 0}
    world.materialize(D18)
    world.refresh()
    assert _rows(world) == {"raw_events": 2, "rejected_events": 0, "sessionized_events": 2, "sessions": 2}
    world.land(D19, [*_events(D19), Event("ada", "b", "idea", datetime(2025, 9, 18, 12, 1))])
    world.materialize(D19)
    assert _rows(world)["sessionized_events"] == 5
    assert _rows(world)["session_corrections"] == 1


def test_tables_that_are_there_get_their_names_with_the_next_step_and_no_commit(world: World) -> None:
    unnamed = Warehouse(world.warehouse.root)
    named, world.warehouse = world.warehouse, unnamed
    world.land(D18, _events(D18))
    world.materialize(D18)
    before, world.warehouse = _versions(world), named
    for _ in range(2):
        world.warehouse = Warehouse(named.root, SCHEMA)
        assert not world.materialize(D18).committed
        assert _rows(world) == {"raw_events": 2, "rejected_events": 0, "sessionized_events": 2}
    assert _versions(world) == before


TAKEN = pytest.mark.parametrize(
    "taken", ["TABLE {0}.sessionized_events (x INT) USING delta", "VIEW {0}.sessionized_events AS SELECT 1"]
)
IS_TAKEN = r"SESSIONS_CATALOG_SCHEMA\) names the schema order, where `order`"


@TAKEN
def test_a_name_that_is_taken_stops_each_step_before_it_commits(world: World, taken: str) -> None:
    world.land(D18, _events(D18))
    world.materialize(D18)
    world.spark.sql(f"DROP TABLE `{SCHEMA}`.sessionized_events")
    world.spark.sql(f"CREATE {taken.format(f'`{SCHEMA}`')}")
    world.warehouse, before = Warehouse(world.warehouse.root, SCHEMA), _versions(world)
    for step in (lambda: world.land(D19, _events(D19)), lambda: world.materialize(D18), world.refresh):
        with pytest.raises(SettingsError, match=IS_TAKEN):
            step()
    assert _versions(world) == before


@TAKEN
def test_a_table_whose_name_is_taken_is_not_made(world: World, taken: str) -> None:
    world.land(D18, _events(D18))
    world.spark.sql(f"CREATE {taken.format(f'`{SCHEMA}`')}")
    with pytest.raises(SettingsError, match=IS_TAKEN):
        world.materialize(D18)
    assert not Path(world.warehouse.sessionized_events).exists()


def test_a_table_is_not_made_if_nobody_can_say_whether_its_name_is_taken(spark: SparkSession, tmp_path: Path) -> None:
    warehouse = Warehouse(str(tmp_path), f"no catalogue.{SCHEMA}")
    with pytest.raises(AnalysisException):
        warehouse.check_name(spark, warehouse.sessions)


def test_a_table_whose_files_were_removed_is_made_again_under_its_name(world: World) -> None:
    world.land(D18, _events(D18))
    world.materialize(D18)
    shutil.rmtree(world.warehouse.sessionized_events)
    world.warehouse = Warehouse(world.warehouse.root, SCHEMA)
    world.materialize(D18)
    assert _rows(world)["sessionized_events"] == 2
