"""Lateness is a rule like the timeout: any number of days from 0 to 30 works, and it is stored with the table."""

import json
from datetime import date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs.partitions import upstream_window
from sessions_dagster.model.columns import DELIVERED_BY
from sessions_dagster.model.rejects import RejectReason
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.storage.sessionized_events import LATENESS_PROPERTY, rules_of_table
from sessions_dagster_tests.builders import World
from sessions_dagster_tests.oracle import Event, sessionize

DAY = date(2025, 9, 20)
NINE = datetime(2025, 9, 20, 9)


def u(minute: int, event: str = "a") -> Event:
    """An event of the 20th, the given number of minutes after nine."""
    return Event("ada", event, "idea", NINE + timedelta(minutes=minute))


@pytest.mark.parametrize("days", [0, 6, 7, 30])
def test_an_event_of_maximum_lateness_merges_sessions_and_can_be_retracted(
    spark: SparkSession, tmp_path: Path, days: int
) -> None:
    world = World(spark, tmp_path, SessionRules(lateness_days=days))
    newest = DAY + timedelta(days=days)
    on_time = [u(0), u(8), u(9, "x")]
    world.land(DAY, on_time)
    world.materialize(DAY)
    landed = world.land(newest, [*on_time[:1], u(4)] if days else [*on_time, u(4)])
    world.materialize(newest)
    assert landed.rows_by_lateness[days] == landed.accepted
    assert set(world.table()) == sessionize(world.all_events())
    assert {row.start for row in world.table()} == {NINE}
    world.land(newest, [] if days else on_time)
    world.materialize(newest)
    assert set(world.table()) == sessionize(on_time)


@pytest.mark.parametrize("days", [0, 7, 30])
def test_an_event_one_day_later_than_the_maximum_is_rejected(spark: SparkSession, tmp_path: Path, days: int) -> None:
    world = World(spark, tmp_path, SessionRules(lateness_days=days))
    report = world.land(DAY + timedelta(days=days + 1), [u(0)])
    assert (report.accepted, report.rejected) == (0, {RejectReason.TOO_LATE: 1})


@pytest.mark.parametrize(
    ("days", "stored"),
    [(0, "byte"), (5, "byte"), (6, "byte"), (7, "short"), (14, "short"), (15, "integer"), (30, "integer")],
)
def test_delivery_bits_are_stored_in_the_smallest_type_that_fits(
    spark: SparkSession, tmp_path: Path, days: int, stored: str
) -> None:
    world = World(spark, tmp_path, SessionRules(lateness_days=days))
    world.land(DAY, [u(0)])
    world.materialize(DAY)
    fields = json.loads(DeltaTable(world.warehouse.sessionized_events).schema().to_json())["fields"]
    assert {field["name"]: field["type"] for field in fields}[DELIVERED_BY] == stored


def test_a_table_keeps_its_lateness(spark: SparkSession, tmp_path: Path) -> None:
    world = World(spark, tmp_path, SessionRules(lateness_days=7))
    world.land(DAY, [u(0)])
    world.materialize(DAY)
    assert rules_of_table(DeltaTable(world.warehouse.sessionized_events)) == SessionRules(lateness_days=7)


def test_a_table_of_the_first_release_has_a_lateness_of_five_days(spark: SparkSession, tmp_path: Path) -> None:
    world = World(spark, tmp_path)
    world.land(DAY, [u(0)])
    world.materialize(DAY)
    table = world.warehouse.sessionized_events
    spark.sql(f"ALTER TABLE delta.`{table}` UNSET TBLPROPERTIES ('{LATENESS_PROPERTY}')")
    assert rules_of_table(DeltaTable(table)) == SessionRules()
    world.land(DAY + timedelta(days=1), [u(4)])
    assert world.materialize(DAY + timedelta(days=1)).committed


@pytest.mark.parametrize("days", [-1, 31])
def test_an_impossible_lateness_is_refused(days: int) -> None:
    with pytest.raises(ValueError, match=f"lateness_days must be between 0 and 30, not {days}"):
        SessionRules(lateness_days=days)


@pytest.mark.parametrize("days", [0, 1, 7, 30])
def test_the_window_of_the_asset_is_as_long_as_the_lateness(days: int) -> None:
    mapping = upstream_window(SessionsConfig(start_date=DAY, rules=SessionRules(lateness_days=days)).rules)
    assert isinstance(mapping, dg.TimeWindowPartitionMapping)
    assert (mapping.start_offset, mapping.end_offset) == (-days, 0)
