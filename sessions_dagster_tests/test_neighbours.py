"""The five tables as other tools read them: DuckDB, Polars, pandas through deltalake, and SQL by name in a catalogue.

docs/operations.md says the same, in *Other tools on the tables*.
"""

from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Final

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import DeltaProtocolError
from pyspark.sql import SparkSession

from sessions_dagster.model.tables import TABLES
from sessions_dagster.pipeline.refresh_sessions import refresh_sessions
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.builders import World
from sessions_dagster_tests.oracle import Event

DAYS: Final = (date(2025, 9, 18), date(2025, 9, 19))
ROWS: Final = {
    "raw_events": 22,
    "rejected_events": 0,
    "sessionized_events": 22,
    "session_corrections": 1,
    "sessions": 21,
}
WITH_DELETION_VECTORS: Final = {"sessionized_events"}


@pytest.fixture(scope="module")
def world(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Twenty sessions, one of which a late event extends, so that a deletion vector hides its old row."""
    return sessions_of_two_days(World(spark, tmp_path_factory.mktemp("neighbours")), deletion_vectors=True)


def sessions_of_two_days(world: World, *, deletion_vectors: bool) -> World:
    world.deletion_vectors = deletion_vectors
    world.land(DAYS[0], [Event(f"u{n}", "a", "idea", datetime(2025, 9, 18, 9, n)) for n in range(20)])
    world.materialize(DAYS[0])
    late, new = datetime(2025, 9, 18, 9, 6), datetime(2025, 9, 19, 9)
    world.land(DAYS[1], [Event("u3", "b", "idea", late), Event("u1", "a", "idea", new)])
    world.materialize(DAYS[1])
    world.refresh()
    return world


def location(world: World, table: str) -> str:
    return f"{world.warehouse.root}/{table}"


def by_query_builder(uri: str) -> int:
    return int(QueryBuilder().register("t", DeltaTable(uri)).execute("SELECT * FROM t").read_all().num_rows)


READERS: Final[dict[str, Callable[[str], int]]] = {
    "polars": lambda uri: pl.read_delta(uri).height,
    "polars, lazily": lambda uri: int(pl.scan_delta(uri).select(pl.len()).collect().item()),
    "deltalake's SQL": by_query_builder,
}


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_finds_all_rows_of_every_table(world: World, reader: str) -> None:
    assert ROWS.keys() == set(TABLES)
    assert {table: READERS[reader](location(world, table)) for table in TABLES} == ROWS


def test_polars_reads_times_in_utc_and_dates(world: World) -> None:
    schema = pl.read_delta(location(world, "sessions")).schema
    assert schema["session_start_ts"] == pl.Datetime("us", "UTC")
    assert schema["session_date"] == pl.Date


def test_pandas_through_deltalake_reads_all_tables_but_the_one_with_deletion_vectors(world: World) -> None:
    for table in TABLES:
        opened = DeltaTable(location(world, table))
        if table in WITH_DELETION_VECTORS:
            with pytest.raises(DeltaProtocolError, match="deletionVectors"):
                opened.to_pandas()
            query = QueryBuilder().register("t", opened).execute("SELECT * FROM t").read_all()
            assert query.num_rows == ROWS[table]
        else:
            assert len(opened.to_pandas()) == ROWS[table]


def test_duckdb_reads_what_another_reader_hands_over(world: World) -> None:
    """DuckDB's own `delta_scan` is an extension of one version of DuckDB, which no package index has for every one."""
    sessions = pl.read_delta(location(world, "sessions")).to_arrow()
    with duckdb.connect() as connection:
        connection.register("sessions", sessions)
        found = connection.execute("SELECT count(*), sum(events) FROM sessions").fetchone()
    assert found == (ROWS["sessions"], ROWS["sessionized_events"])


def test_pandas_reads_all_tables_without_deletion_vectors(spark: SparkSession, tmp_path: Path) -> None:
    world = sessions_of_two_days(World(spark, tmp_path), deletion_vectors=False)
    assert {table: len(DeltaTable(location(world, table)).to_pandas()) for table in TABLES} == ROWS


def test_tables_are_read_by_name_once_they_are_registered(world: World, spark: SparkSession) -> None:
    refresh_sessions(spark, Warehouse(world.warehouse.root, "of_sessions"))
    try:
        assert {table: spark.table(f"of_sessions.{table}").count() for table in TABLES} == ROWS
    finally:
        # The tables are external: what is dropped is their names.
        spark.sql("DROP DATABASE of_sessions CASCADE")
    assert READERS["polars"](location(world, "sessions")) == ROWS["sessions"]
