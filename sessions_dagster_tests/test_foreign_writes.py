"""Other hands on the tables: what deltalake and Polars write, and what the next run then does.

docs/operations.md says the same, in *Other hands on the tables*.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, Field, QueryBuilder, write_deltalake
from deltalake.schema import PrimitiveType
from pyspark.sql import SparkSession

from sessions_dagster.errors import DamagedTableError, SchemaMismatchError, SliceError, is_retryable
from sessions_dagster_tests.builders import World, sessions_of
from sessions_dagster_tests.oracle import Event, sessionize

D18, D19, D20, D21 = (date(2025, 9, day) for day in (18, 19, 20, 21))
LANDED: Final = datetime(2025, 9, 30, 10, tzinfo=UTC)


def at(minute: int, day: int = 18) -> datetime:
    return datetime(2025, 9, day, 9, minute)


@pytest.fixture(scope="module")
def before(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Twenty sessions, one of which a late event has extended: a deletion vector hides its old row.

    The last batch has landed and is not applied. It extends a session.
    """
    world = World(spark, tmp_path_factory.mktemp("before"))
    world.land(D18, [Event(f"u{n}", "a", "idea", at(n)) for n in range(20)])
    world.materialize(D18)
    world.land(D19, [Event("u3", "b", "idea", at(6)), Event("u1", "a", "idea", at(0, 19))])
    world.materialize(D19)
    world.refresh()
    world.land(D20, [Event("u5", "b", "idea", at(9)), Event("eve", "a", "idea", at(0, 20))])
    return world


def tables(world: World) -> list[DeltaTable]:
    return [DeltaTable(uri) for uri in world.warehouse.tables if DeltaTable.is_deltatable(uri)]


def rows_of(uri: str, where: str) -> pa.Table:
    query = f"SELECT * FROM rows WHERE {where}"
    return pa.table(QueryBuilder().register("rows", DeltaTable(uri)).execute(query).read_all())


def compact_and_vacuum(world: World) -> None:
    for table in tables(world):
        table.optimize.compact()
        table.vacuum(dry_run=False)


def order(world: World) -> None:
    DeltaTable(world.warehouse.sessionized_events).optimize.z_order(["user_id"])


def restore(world: World) -> None:
    table = DeltaTable(world.warehouse.sessionized_events)
    table.restore(table.version() - 1)


def append_a_batch(world: World) -> None:
    """A whole batch of a day of its own, with one `landed_at`."""
    world.landed[D21] = [Event("dan", "a", "idea", at(0, 21)), Event("u4", "a", "idea", at(8))]
    rows = [
        {"user_id": e.user, "event_id": e.event, "product_code": e.product, "timestamp": e.at.replace(tzinfo=UTC)}
        | {"event_date": e.at.date(), "batch_date": D21, "landed_at": LANDED}
        for e in world.landed[D21]
    ]
    pl.DataFrame(rows).write_delta(world.warehouse.raw_events, mode="append")


RIGHT: Final = (compact_and_vacuum, order, restore, append_a_batch)


@pytest.mark.parametrize("write", RIGHT, ids=lambda write: write.__name__)
def test_all_tables_are_right_after_the_next_run(before: World, tmp_path: Path, write: Callable[[World], None]) -> None:
    world = before.copy_to(tmp_path)
    write(world)
    world.materialize(D18, D21)
    world.refresh()
    expected = sessionize(world.all_events())
    assert sorted(world.table()) == sorted(expected)
    assert sorted(world.sessions()) == sorted(sessions_of(expected))


def append_a_row(world: World) -> None:
    row = rows_of(world.warehouse.raw_events, "user_id = 'u7'")
    times = pa.array([LANDED], row.schema.field("landed_at").type)
    place = row.schema.get_field_index("landed_at")
    write_deltalake(world.warehouse.raw_events, row.set_column(place, "landed_at", times), mode="append")


def update_rows(world: World) -> None:
    DeltaTable(world.warehouse.raw_events).update(
        predicate="user_id = 'u7'", new_values={"landed_at": LANDED}, error_on_type_mismatch=False
    )


def add_a_column(world: World) -> None:
    DeltaTable(world.warehouse.raw_events).alter.add_columns([Field("own", PrimitiveType("string"))])


def overwrite_without_a_column(world: World) -> None:
    rows = rows_of(world.warehouse.sessionized_events, "true").drop_columns(["delivered_by"])
    write_deltalake(
        world.warehouse.sessionized_events,
        rows,
        mode="overwrite",
        schema_mode="overwrite",
        partition_by=["event_date"],
    )


def vacuum_in_full(world: World) -> None:
    table = DeltaTable(world.warehouse.sessionized_events)
    removed = table.vacuum(retention_hours=0, enforce_retention_duration=False, full=True, dry_run=False)
    assert any("deletion_vector" in each for each in removed)


REFUSED: Final[Mapping[Callable[[World], None], tuple[type[Exception], str]]] = {
    append_a_row: (SliceError, r"2025-09-18 of .*raw_events .*Version 4 \(WRITE by delta-rs"),
    update_rows: (SliceError, r"2025-09-18 of .*raw_events .*Version 4 \(UPDATE by delta-rs"),
    add_a_column: (SchemaMismatchError, "raw_events has the column own, which this run does not write"),
    overwrite_without_a_column: (SchemaMismatchError, "sessionized_events lacks the required column delivered_by"),
    vacuum_in_full: (DamagedTableError, r"sessionized_events, or its deletion vector, is gone \(.*Put it back"),
}


@pytest.mark.parametrize("write", REFUSED, ids=lambda write: write.__name__)
def test_the_next_run_says_what_is_wrong_and_commits_nothing(
    before: World, tmp_path: Path, write: Callable[[World], None]
) -> None:
    error, text = REFUSED[write]
    world = before.copy_to(tmp_path)
    write(world)
    versions = [table.version() for table in tables(world)]
    with pytest.raises(error, match=text) as raised:
        world.materialize(D20)
    assert not is_retryable(raised.value)
    assert [table.version() for table in tables(world)] == versions


def test_a_count_of_deltalake_has_the_rows_that_deletion_vectors_hide(before: World) -> None:
    uri = before.warehouse.sessionized_events
    applied = len(sessionize([*before.landed[D18], *before.landed[D19]]))
    assert DeltaTable(uri).count() == applied + 1
    assert rows_of(uri, "true").num_rows == applied
