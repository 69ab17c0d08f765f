"""Tables on S3 that are restored, or put back from a copy of their files: the next run makes them right again."""

from collections import Counter
from datetime import date, datetime

import pytest
from deltalake import DeltaTable
from pyarrow.fs import FileSelector, copy_files
from pyspark.sql import SparkSession

from sessions_dagster.storage.filesystem import delta_rs_options, filesystem_of
from sessions_dagster.storage.landed_batches import landed_batches
from sessions_dagster.storage.sql import quoted, run_sql
from sessions_dagster_tests.builders import CorrectionRow, World, sessions_of
from sessions_dagster_tests.oracle import Event, sessionize

D18, D19, D20 = (date(2025, 9, day) for day in (18, 19, 20))


def u(text: str, event: str = "a", user: str = "ada") -> Event:
    return Event(user, event, "idea", datetime.fromisoformat(f"2025-09-{text}"))


FIRST = {
    D18: [u("18 23:58"), u("18 09:00", user="bob"), u("18 09:08", user="bob")],
    D19: [u("19 00:01"), u("18 12:00", "x"), u("19 12:00", user="eve")],
}
"""What is landed and applied when a version is noted, or a copy is made."""

LATER = {D19: [u("19 00:01"), u("18 12:00", "x")], D20: [u("18 09:04", user="bob"), u("20 09:00")]}
"""What has landed and is applied since: a batch that lost an event, and a late one that merges sessions."""


def go_on(world: World) -> World:
    """What the next run does: it begins with handles and a Spark that know nothing of what was before."""
    world.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()  # type: ignore[union-attr]
    later = World(world.spark, world.warehouse.root.rpartition("/")[0])
    later.landed = dict(world.landed)
    later.materialize(D18, D20)
    later.refresh()
    return later


def assert_exact(world: World) -> None:
    expected = sessionize(world.all_events())
    assert Counter(world.table()) == Counter(expected)
    assert Counter(world.sessions()) == Counter(sessions_of(expected))


def corrections(world: World) -> Counter[CorrectionRow]:
    """The entries of `session_corrections`, whatever version they are of."""
    return Counter(row._replace(version=0) for row in world.corrections())


def version(table: str) -> int:
    return DeltaTable(table, storage_options=delta_rs_options(table)).version()


def remove(table: str) -> None:
    filesystem, path = filesystem_of(table)
    for found in filesystem.get_file_info(FileSelector(path, recursive=True)):
        if found.is_file:
            filesystem.delete_file(found.path)


def copy(source: str, destination: str) -> None:
    filesystem, path = filesystem_of(source)
    copy_files(path, filesystem_of(destination)[1], filesystem, filesystem)


@pytest.fixture
def world(spark: SparkSession, bucket: str) -> World:
    world = World(spark, f"{bucket}/product")
    for day, events in FIRST.items():
        world.land(day, events)
    return go_on(world)


@pytest.mark.parametrize("is_put_back", [False, True], ids=["restored", "put back from a copy"])
@pytest.mark.parametrize(
    "names",
    [["sessionized_events"], ["raw_events", "sessionized_events"], ["raw_events"], ["sessions"]],
    ids=" and ".join,
)
def test_tables_that_are_as_they_were_are_brought_up_to_date(
    world: World, bucket: str, names: list[str], is_put_back: bool
) -> None:
    tables = {name: f"{world.warehouse.root}/{name}" for name in names}
    noted = {name: version(table) for name, table in tables.items()}
    for name, table in tables.items():
        copy(table, f"{bucket}/copies/{name}")
    for day, events in LATER.items():
        world.land(day, events)
    world = go_on(world)
    assert_exact(world)
    recorded = corrections(world)

    for name, table in tables.items():
        if is_put_back:
            remove(table)
            copy(f"{bucket}/copies/{name}", table)
        else:
            run_sql(world.spark, f"RESTORE {quoted(table)} TO VERSION AS OF {noted[name]}")
    if "raw_events" in names:
        world.landed = dict(FIRST)
    world = go_on(world)
    assert_exact(world)

    landed = landed_batches(world.warehouse, [D18, D19, D20])
    assert landed.keys() == world.landed.keys()
    for day, events in LATER.items():
        world.land(day, events)
    world = go_on(world)
    assert_exact(world)
    assert recorded <= corrections(world)
