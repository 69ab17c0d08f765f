"""Logs that Spark reads for delta-rs: they say what the storage says, and the tables are the same."""

import gc
import json
import shutil
from collections.abc import Collection
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from random import Random

import dagster as dg
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import TableNotFoundError
from pyspark.sql import SparkSession

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs.missing_batches import find_missing
from sessions_dagster.defs.resources import tables_without_run
from sessions_dagster.errors import RulesMismatchError
from sessions_dagster.input.folders import batch_fingerprint
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.pipeline.check_tables import check_events, check_sessions
from sessions_dagster.pipeline.pending import days_in_sessions
from sessions_dagster.spark.failures import SPARK_ERRORS
from sessions_dagster.storage import delta_log
from sessions_dagster.storage.commit_metadata import applied_batches, version_followed
from sessions_dagster.storage.exclusive_commits import APPLICATION
from sessions_dagster.storage.filesystem import location_of
from sessions_dagster.storage.landed_batches import LandedBatch, landed_batches, landed_days
from sessions_dagster.storage.maintenance import compact, vacuum
from sessions_dagster.storage.sessionized_events import ensure_sessionized_events
from sessions_dagster.storage.sql import quoted
from sessions_dagster.storage.through_spark import MirroredTable
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.builders import World, sessions_of
from sessions_dagster_tests.oracle import Event, sessionize

DAYS = [date(2025, 9, 15) + timedelta(days=offset) for offset in range(4)]


def u(day: date, clock: str, user: str = "ada") -> Event:
    return Event(user, "a", "idea", datetime.fromisoformat(f"{day}T{clock}"))


def through_spark(world: World) -> World:
    """The same world, whose logs Spark reads."""
    other = type(world)(world.spark, Path(world.warehouse.root).parent, world.rules)
    other.warehouse = Warehouse(world.warehouse.root, logs_through=lambda: world.spark)
    other.landed = world.landed
    return other


def live(world: World, random: Random) -> None:
    """Days with late events, a day without any, a corrected one, and a compaction in between."""
    for number, day in enumerate(DAYS):
        late = [u(random.choice(DAYS[: number + 1]), f"{random.randrange(9, 11):02}:{random.randrange(60):02}")]
        world.land(day, [] if number == 2 else [u(day, "09:00"), u(day, "09:04"), *late])
        world.materialize(day)
        if number == 3:
            compact(world.spark, world.warehouse, world.warehouse.sessionized_events)
    world.land(DAYS[1], [u(DAYS[1], "09:02")])
    world.materialize(DAYS[1])
    world.refresh()


def said_by_logs(warehouse: Warehouse) -> dict[str, object]:
    """What the logs of all tables say."""
    said: dict[str, object] = {}
    tables = {uri: warehouse.open_existing(uri) for uri in warehouse.tables}
    for uri, table in tables.items():
        versions = range(table.version() + 1)
        said[uri] = (
            location_of(table.table_uri),
            delta_log.table_facts(table),
            table.metadata().partition_columns and (delta_log.partition_rows(table), delta_log.partition_bytes(table)),
            [delta_log.partitions_touched(table, version) for version in versions],
            [delta_log.commit_info(table, version) for version in versions],
            table.schema().to_json(),
            table.metadata().configuration,
            table.protocol(),
            table.transaction_version(APPLICATION),
        )
    events = tables[warehouse.sessionized_events]
    said["applied"] = applied_batches(events)
    said["followed"] = version_followed(tables[warehouse.sessions], events)
    return said


@pytest.fixture(scope="module")
def lived(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world whose logs were read by Spark in all of its life."""
    world = through_spark(World(spark, tmp_path_factory.mktemp("lived")))
    live(world, Random(1))
    return world


@pytest.fixture
def world(lived: World, tmp_path: Path) -> World:
    return through_spark(lived.copy_to(tmp_path))


def test_the_tables_equal_a_single_pass_over_all_batches(lived: World) -> None:
    expected = sessionize(lived.all_events())
    assert set(lived.table()) == expected
    assert len(lived.table()) == len(expected)
    assert set(lived.sessions()) == sessions_of(expected)
    events = check_events(lived.spark, lived.warehouse, DAYS[0], DAYS[-1], DAYS[0])
    sessions = check_sessions(lived.spark, lived.warehouse, DAYS[0], DAYS[-1])
    assert not [each for each in events.findings if each.offenders]
    assert not [each for each in sessions.findings if each.offenders]


def test_the_logs_say_the_same_as_without_spark(lived: World) -> None:
    assert said_by_logs(through_spark(lived).warehouse) == said_by_logs(Warehouse(lived.warehouse.root))


def test_a_handle_follows_commits_and_checkpoints(world: World) -> None:
    mirrored = world.warehouse.open_existing(world.warehouse.raw_events)
    assert isinstance(mirrored, MirroredTable)
    DeltaTable(world.warehouse.raw_events).create_checkpoint()
    world.spark.sql(f"ALTER TABLE {quoted(world.warehouse.raw_events)} SET TBLPROPERTIES ('x' = '1')")
    assert world.warehouse.open_existing(world.warehouse.raw_events).version() == (
        DeltaTable(world.warehouse.raw_events).version()
    )
    assert mirrored.metadata().configuration["x"] == "1"


def test_a_log_that_was_cleaned_up_is_read_from_its_checkpoint(world: World) -> None:
    direct = DeltaTable(world.warehouse.raw_events)
    direct.create_checkpoint()
    for version in range(direct.version()):
        Path(world.warehouse.raw_events, "_delta_log", f"{version:020}.json").unlink()
    mirrored = world.warehouse.open_existing(world.warehouse.raw_events)
    assert delta_log.table_facts(mirrored) == delta_log.table_facts(direct)


def test_a_log_without_a_commit_is_read_from_its_checkpoint_and_looked_at_again(world: World) -> None:
    direct = DeltaTable(world.warehouse.raw_events)
    direct.create_checkpoint()
    for commit in Path(world.warehouse.raw_events, "_delta_log").glob("*.json"):
        commit.unlink()
    mirrored = world.warehouse.open_existing(world.warehouse.raw_events)
    assert delta_log.table_facts(mirrored) == delta_log.table_facts(direct)
    assert world.warehouse.open_existing(world.warehouse.raw_events) is mirrored


def test_a_checkpoint_that_has_sidecars_is_read_as_a_whole(world: World) -> None:
    uri = world.warehouse.raw_events
    properties = "'delta.checkpointPolicy' = 'v2', 'delta.checkpointInterval' = '1'"
    world.spark.sql(f"ALTER TABLE {quoted(uri)} SET TBLPROPERTIES ({properties})")
    log = Path(uri, "_delta_log")
    assert list((log / "_sidecars").iterdir())
    version = DeltaTable(uri).version()
    for older in range(version):
        (log / f"{older:020}.json").unlink()
    mirrored = world.warehouse.open_existing(uri)
    assert delta_log.table_facts(mirrored) == delta_log.table_facts(DeltaTable(uri))


def test_an_open_table_fetches_what_is_new_and_runs_no_job_if_nothing_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = world.warehouse.open_existing(world.warehouse.raw_events)
    fetched: list[str] = []
    fetch = MirroredTable._fetch

    def noted(self: MirroredTable, names: Collection[str], folder: str = "") -> None:
        fetched.extend(names)
        fetch(self, names, folder)

    monkeypatch.setattr(MirroredTable, "_fetch", noted)
    world.warehouse.open_existing(world.warehouse.raw_events)
    assert not fetched
    World(world.spark, Path(world.warehouse.root).parent).land(DAYS[0], [u(DAYS[0], "10:00")])
    assert world.warehouse.open_existing(world.warehouse.raw_events) is table
    assert fetched == [f"{table.version():020}.json"]


def test_a_table_that_is_put_back_from_a_copy_is_seen_by_the_next_run(world: World, tmp_path: Path) -> None:
    assert landed_batches(world.warehouse, DAYS).keys() == {*DAYS}
    other = World(world.spark, tmp_path / "other")
    for hour in (10, 11, 12):
        other.land(DAYS[0], [u(DAYS[0], f"{hour}:00")])
    shutil.rmtree(world.warehouse.raw_events)
    shutil.copytree(other.warehouse.raw_events, world.warehouse.raw_events)
    assert landed_batches(through_spark(world).warehouse, DAYS).keys() == {DAYS[0]}


def test_a_log_that_cannot_be_read_is_not_taken_for_none(spark: SparkSession) -> None:
    warehouse = Warehouse("gs://nobody/lake", logs_through=lambda: spark)
    with pytest.raises(SPARK_ERRORS):
        warehouse.open(warehouse.sessions)


def test_messages_name_the_table_and_not_the_copy_of_its_log(lived: World) -> None:
    rules = SessionRules(lateness_days=1)
    with pytest.raises(RulesMismatchError) as raised:
        ensure_sessionized_events(lived.spark, lived.warehouse, rules, {}, deletion_vectors=True)
    assert str(raised.value).startswith(lived.warehouse.sessionized_events)


def test_the_copy_of_a_log_ends_with_its_table(lived: World) -> None:
    table = through_spark(lived).warehouse.open_existing(lived.warehouse.sessions)
    assert isinstance(table, MirroredTable)
    copy = Path(table.copy)
    assert list(copy.iterdir())
    del table
    gc.collect()
    assert not copy.exists()


def test_sensors_read_the_tables_as_the_settings_say(world: World) -> None:
    config = SessionsConfig(start_date=DAYS[0], warehouse_root=world.warehouse.root, logs_through_spark=True)
    now = datetime.combine(DAYS[-1] + timedelta(days=2), time(20), UTC)
    with dg.DagsterInstance.ephemeral() as instance:
        missing = find_missing(instance, config, tables_without_run(config), now)
    never = DAYS[-1] + timedelta(days=1)
    assert (missing.unknown, missing.days) == (None, [never])


def test_the_content_that_landed_is_known_of_every_batch(world: World) -> None:
    fingerprints = {day: batch_fingerprint(world.input, day) for day in DAYS}
    assert {day: batch.fingerprint for day, batch in landed_batches(world.warehouse, DAYS).items()} == fingerprints
    assert landed_days(world.warehouse, DAYS) == days_in_sessions(world.warehouse, DAYS) == set(DAYS)


def test_the_newest_note_counts_whoever_has_written_it(world: World) -> None:
    direct = World(world.spark, Path(world.warehouse.root).parent)
    for each in (direct, through_spark(world)):
        each.land(DAYS[2], [u(DAYS[2], "10:00")])
        each.land(DAYS[2], [])
        known = landed_batches(through_spark(world).warehouse, DAYS[2:3])
        assert known == {DAYS[2]: LandedBatch(batch_fingerprint(world.input, DAYS[2]), None)}


def test_notes_of_spark_are_no_content_for_who_reads_without_it_and_survive_a_vacuum(world: World) -> None:
    known = landed_batches(world.warehouse, DAYS)
    vacuum(world.spark, world.warehouse, world.warehouse.raw_events, dry_run=False)
    assert landed_batches(through_spark(world).warehouse, DAYS) == known
    direct = landed_batches(Warehouse(world.warehouse.root), DAYS)
    assert {day: batch.landed_at for day, batch in direct.items()} == {
        day: batch.landed_at for day, batch in known.items() if batch.landed_at is not None
    }


def test_where_there_is_no_table_there_is_none(spark: SparkSession, tmp_path: Path) -> None:
    warehouse = Warehouse(str(tmp_path), logs_through=lambda: spark)
    Path(warehouse.sessions, "_delta_log").mkdir(parents=True)
    for uri in (warehouse.raw_events, warehouse.sessions):
        assert warehouse.open(uri) is None
        with pytest.raises(TableNotFoundError):
            warehouse.open_existing(uri)
    assert landed_batches(warehouse, DAYS) == {}


@pytest.mark.parametrize("name", ["my [ware]* {a,b}", "größe#1 100%"])
def test_a_warehouse_may_have_any_name(spark: SparkSession, tmp_path: Path, name: str) -> None:
    warehouse = Warehouse(str(tmp_path / name), logs_through=lambda: spark)
    write_deltalake(tmp_path / "table", pa.table({"x": [1]}))
    shutil.copytree(tmp_path / "table", warehouse.sessions)
    assert warehouse.open_existing(warehouse.sessions).version() == 0
    assert json.loads(warehouse.open_existing(warehouse.sessions).schema().to_json())["fields"]
