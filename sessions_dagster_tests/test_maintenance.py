"""Maintenance changes no rows: compaction of touched dates, vacuum of files that no retained version needs."""

import os
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import pytest
from dagster._core.snap.snap_to_yaml import default_values_yaml_from_type_snap
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs import build_defs
from sessions_dagster.errors import RetentionError
from sessions_dagster.storage.commit_metadata import applied_batches
from sessions_dagster.storage.delta_log import table_facts
from sessions_dagster.storage.delta_tables import rewrite_partitions
from sessions_dagster.storage.maintenance import CompactionReport, compact, retention, set_retention, vacuum
from sessions_dagster_tests.builders import World
from sessions_dagster_tests.oracle import Event, sessionize

TABLES = ("raw_events", "rejected_events", "sessionized_events", "session_corrections", "sessions")

D18, D19, D20, D21 = (date(2025, 9, day) for day in (18, 19, 20, 21))


def _action(day: date, minute: int, user: str = "ada") -> Event:
    return Event(user, "a", "idea", datetime(day.year, day.month, day.day, 12, minute))


def _of_day(day: date) -> list[Event]:
    return [_action(day, 0), _action(day, 30), _action(day, 0, "bob")]


class MaintainedWorld(World):
    """A world with maintenance of its tables."""

    def apply(self, day: date, events: Iterable[Event]) -> None:
        self.land(day, list(events))
        self.materialize(day)

    def rows(self, uri: str) -> list[str]:
        """The rows of a table with all columns, sorted."""
        return sorted(map(str, self.spark.read.format("delta").load(uri).collect()))

    def config(self) -> SessionsConfig:
        """The settings of a product on these tables."""
        return SessionsConfig(start_date=D18, input_root=self.input.root, warehouse_root=self.warehouse.root)

    def compact(self) -> CompactionReport:
        return compact(self.spark, self.warehouse, self.warehouse.sessionized_events)

    def vacuum(self, *, dry_run: bool = False) -> list[str]:
        """Run vacuum. Returns the names of the removed files and folders."""
        report = vacuum(self.spark, self.warehouse, self.warehouse.sessionized_events, dry_run=dry_run)
        return [Path(path).name for path in report.removed]

    @property
    def log(self) -> DeltaTable:
        return DeltaTable(self.warehouse.sessionized_events)

    def keep_for(self, retention: str) -> None:
        """Set the retention of the table as another user would."""
        table = f"delta.`{self.warehouse.sessionized_events}`"
        self.spark.sql(f"ALTER TABLE {table} SET TBLPROPERTIES ('delta.deletedFileRetentionDuration'='{retention}')")

    def leave_orphan(self, name: str, age: timedelta, folder: str = "sessionized_events/event_date=2025-09-18") -> Path:
        """Create a file that no version refers to, as a killed run leaves it."""
        orphan = Path(self.warehouse.root, folder, name)
        orphan.write_bytes(b"rows")
        then = (datetime.now(UTC) - age).timestamp()
        os.utime(orphan, (then, then))
        return orphan


@pytest.fixture(scope="module")
def three_batches(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> MaintainedWorld:
    """Three batches; the last one corrects sessions of the first one's date."""
    world = MaintainedWorld(spark, tmp_path_factory.mktemp("three_batches"))
    world.apply(D18, _of_day(D18))
    world.apply(D19, _of_day(D19))
    world.apply(D20, [*_of_day(D20), _action(D18, 4), _action(D18, 34)])
    return world


@pytest.fixture
def world(three_batches: MaintainedWorld, tmp_path: Path) -> MaintainedWorld:
    return three_batches.copy_to(tmp_path)


class Upkeep(NamedTuple):
    """A table before and after compaction and vacuum."""

    before: list[str]
    after: list[str]
    report: CompactionReport


@pytest.fixture(scope="module")
def upkeep(three_batches: MaintainedWorld, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Upkeep]:
    """All tables compacted and vacuumed, after further batches with late and with rejected rows."""
    world = three_batches.copy_to(tmp_path_factory.mktemp("upkeep"))
    too_late = _action(date(2025, 9, 1), 0)
    world.refresh()
    world.apply(D21, [*_of_day(D21), _action(D19, 4), too_late])
    world.refresh()
    world.apply(D20, [*_of_day(D20), _action(D18, 8), too_late])
    world.refresh()
    found = {}
    for name in TABLES:
        uri = f"{world.warehouse.root}/{name}"
        before = world.rows(uri)
        report = compact(world.spark, world.warehouse, uri)
        vacuum(world.spark, world.warehouse, uri, dry_run=False)
        found[name] = Upkeep(before, world.rows(uri), report)
    return found


@pytest.mark.parametrize("table", TABLES)
def test_maintenance_does_not_change_any_row_of_a_table(upkeep: dict[str, Upkeep], table: str) -> None:
    assert upkeep[table].before
    assert upkeep[table].after == upkeep[table].before


@pytest.mark.parametrize("table", TABLES)
def test_every_table_is_compacted(upkeep: dict[str, Upkeep], table: str) -> None:
    assert upkeep[table].report.days
    assert upkeep[table].report.after.version > upkeep[table].report.before.version


def test_the_warehouse_has_the_five_tables(world: MaintainedWorld) -> None:
    assert {Path(uri).name for uri in world.warehouse.tables} == set(TABLES)


def test_compaction_does_not_change_any_row(world: MaintainedWorld) -> None:
    before = sorted(world.table(), key=str)
    assert world.vectors() > 0
    report = world.compact()
    assert sorted(world.table(), key=str) == before
    assert set(before) == sessionize(world.all_events())
    assert report.after.files < report.before.files
    assert world.vectors() == 0


def test_the_applied_batches_are_known_after_compaction(world: MaintainedWorld) -> None:
    before = applied_batches(world.log)
    world.compact()
    assert applied_batches(world.log) == before
    assert not world.materialize(D20).committed


def test_corrections_are_right_after_compaction_of_all_tables(world: MaintainedWorld) -> None:
    for uri in (world.warehouse.raw_events, world.warehouse.rejected_events, world.warehouse.sessionized_events):
        if DeltaTable.is_deltatable(uri):
            compact(world.spark, world.warehouse, uri)
    assert world.materialize(D20).applied == ()
    world.apply(D20, _of_day(D20))
    world.apply(D21, [*_of_day(D21), _action(D18, 8)])
    assert set(world.table()) == sessionize(world.all_events())


def test_the_first_compaction_covers_all_dates(world: MaintainedWorld) -> None:
    assert world.compact().days == (D18, D19, D20)


def test_a_compaction_covers_only_the_dates_touched_since_the_last_one(world: MaintainedWorld) -> None:
    world.compact()
    world.apply(D21, [*_of_day(D21), _action(D19, 4)])
    assert world.compact().days == (D19, D21)


def test_a_compaction_without_changes_commits_nothing(world: MaintainedWorld) -> None:
    world.compact()
    version = world.log.version()
    assert world.compact().days == ()
    assert world.log.version() == version


def test_deletions_in_the_only_file_of_a_date_are_purged(world: MaintainedWorld) -> None:
    world.compact()
    world.apply(D19, _of_day(D19)[1:])
    assert world.vectors() == 1
    assert world.compact().days == (D19,)
    assert world.vectors() == 0
    assert set(world.table()) == sessionize(world.all_events())


@pytest.mark.parametrize(
    "statement", ["INSERT INTO {0} SELECT * FROM {0} LIMIT 1", "DELETE FROM {0} WHERE user_id = 'bob'"]
)
def test_what_somebody_else_commits_during_a_purge_stays(
    world: MaintainedWorld, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    world.compact()
    world.apply(D19, _of_day(D19)[1:])
    uri, expected = world.warehouse.sessionized_events, list[str]()

    def rewrite_late(*arguments: Any) -> None:
        world.spark.sql(statement.format(f"delta.`{uri}`")).collect()
        expected.extend(world.rows(uri))
        rewrite_partitions(*arguments)

    monkeypatch.setattr("sessions_dagster.storage.maintenance.rewrite_partitions", rewrite_late)
    world.compact()
    assert expected
    assert world.rows(uri) == expected


def test_a_compaction_covers_all_dates_if_the_log_does_not_reach_back(world: MaintainedWorld) -> None:
    world.compact()
    world.apply(D21, _of_day(D21))
    world.apply(D21, _of_day(D21)[1:])
    world.log.create_checkpoint()
    for commit in sorted(Path(world.warehouse.sessionized_events, "_delta_log").glob("*.json"))[:-1]:
        commit.unlink()
    assert world.compact().days == (D18, D19, D20, D21)


def test_a_killed_compaction_is_repeated(world: MaintainedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:

        def die(*_: Any) -> None:
            raise KeyboardInterrupt

        patched.setattr("sessions_dagster.storage.maintenance.set_property", die)
        with pytest.raises(KeyboardInterrupt):
            world.compact()
    assert world.compact().days == (D18, D19, D20)


def test_vacuum_removes_only_old_orphans_of_killed_runs(world: MaintainedWorld) -> None:
    before = sorted(world.table(), key=str)
    old, young = world.leave_orphan("old.parquet", timedelta(days=8)), world.leave_orphan("new.parquet", timedelta(1))
    assert world.vacuum() == ["old.parquet"]
    assert not old.exists()
    assert young.exists()
    assert sorted(world.table(), key=str) == before


def test_a_dry_run_removes_nothing(world: MaintainedWorld) -> None:
    old = world.leave_orphan("old.parquet", timedelta(days=8))
    version = world.log.version()
    assert world.vacuum(dry_run=True) == ["old.parquet"]
    assert old.exists()
    assert world.log.version() == version


def test_a_retention_below_seven_days_is_refused(world: MaintainedWorld) -> None:
    uri = world.warehouse.sessionized_events
    world.keep_for("1 hours")
    old = world.leave_orphan("old.parquet", timedelta(days=8))
    with pytest.raises(RetentionError, match="at least 7 days"):
        world.vacuum()
    with pytest.raises(RetentionError, match="at least 7 days"):
        set_retention(world.spark, world.warehouse, uri, timedelta(days=6))
    assert old.exists()


@pytest.mark.parametrize("days", [-5, 1, 6, 3651, 10**12])
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_vacuum_with_a_retention_that_no_table_may_have_is_refused_at_once(
    days: int, dry_run: bool, tmp_path: Path
) -> None:
    job = build_defs(SessionsConfig(start_date="2025-09-01", warehouse_root=tmp_path)).get_job_def("vacuum")
    config = {"ops": {"vacuum_tables": {"config": {"retention_days": days, "dry_run": dry_run}}}}
    result = job.execute_in_process(run_config=config, raise_on_error=False)
    error = result.failure_data_for_node("vacuum_tables")
    assert error is not None
    assert error.user_failure_data is not None
    assert error.user_failure_data.description == (
        f"retention_days must be a whole number from 7 to 3650, or 0 for what the tables say, not {days}. Nothing was "
        "removed."
    )


def test_the_retention_is_stored_with_the_table(world: MaintainedWorld) -> None:
    assert world.log.metadata().configuration["delta.deletedFileRetentionDuration"] == "interval 7 days"
    set_retention(world.spark, world.warehouse, world.warehouse.sessionized_events, timedelta(days=9))
    assert retention(world.log) == timedelta(days=9)
    orphan = world.leave_orphan("old.parquet", timedelta(days=8))
    assert world.vacuum() == []
    assert orphan.exists()


def _observed(instance: dg.DagsterInstance, table: str) -> dict[str, Any]:
    (record,) = instance.fetch_observations(dg.AssetKey(table), limit=10).records
    assert record.asset_observation is not None
    return {name: value.value for name, value in record.asset_observation.metadata.items()}


def test_the_jobs_maintain_all_tables_and_report_on_their_assets(world: MaintainedWorld) -> None:
    config = world.config()
    world.leave_orphan("old.parquet", timedelta(days=8))
    before = table_facts(world.log)
    dry_run = {"dry_run": True, "retention_days": 30}
    for job, run_config in (("compaction", None), ("vacuum", {"ops": {"vacuum_tables": {"config": dry_run}}})):
        instance = dg.DagsterInstance.ephemeral()
        defs = build_defs(config)
        assert defs.resolve_job_def(job).execute_in_process(run_config=run_config, instance=instance).success
        observed = {table: _observed(instance, table) for table in ("raw_events", "sessionized_events")}
        if job == "compaction":
            metadata = observed["sessionized_events"]
            assert (metadata["files_before"], metadata["files_after"]) == (before.files, 3)
        else:
            assert observed["sessionized_events"]["would_remove_files_and_folders"] == 1
            assert observed["raw_events"]["would_remove_files_and_folders"] == 0
            assert retention(world.log) == timedelta(days=7)


def test_no_table_is_vacuumed_if_one_of_them_must_not_be(world: MaintainedWorld) -> None:
    orphan = world.leave_orphan("old.parquet", timedelta(days=8), "raw_events/batch_date=2025-09-18")
    world.keep_for("1 hours")
    job = build_defs(world.config()).resolve_job_def("vacuum")
    result = job.execute_in_process(instance=dg.DagsterInstance.ephemeral(), raise_on_error=False)
    assert "Nothing was removed." in str(result.failure_data_for_node("vacuum_tables"))
    assert orphan.exists()


def test_the_launchpad_opens_on_a_dry_run_with_the_retention_shown() -> None:
    job = build_defs(SessionsConfig(start_date=D18, key_prefix="web")).resolve_job_def("web_vacuum")
    schema = job.get_job_snapshot().config_schema_snapshot
    root = job.get_job_snapshot().mode_def_snaps[0].root_config_key
    assert root is not None
    shown = default_values_yaml_from_type_snap(schema, schema.get_config_snap(root))
    assert re.search(r"web_vacuum_tables:\s+config:\s+dry_run: true\s+retention_days: 0\s", shown)


def test_a_vacuum_by_hand_reports_and_the_one_of_the_schedule_removes(world: MaintainedWorld) -> None:
    orphan = world.leave_orphan("old.parquet", timedelta(days=8))
    defs = build_defs(world.config())
    job, schedule = defs.resolve_job_def("vacuum"), defs.resolve_schedule_def("weekly_vacuum")
    assert job.execute_in_process(instance=dg.DagsterInstance.ephemeral()).success
    assert orphan.exists()
    (request,) = schedule.evaluate_tick(dg.build_schedule_context()).run_requests or []
    assert job.execute_in_process(instance=dg.DagsterInstance.ephemeral(), run_config=request.run_config).success
    assert not orphan.exists()


def test_the_schedules_are_off_by_default() -> None:
    schedules = {schedule.name: schedule for schedule in build_defs(SessionsConfig(start_date=D18)).schedules or []}
    assert schedules.keys() == {"nightly_compaction", "weekly_vacuum"}
    assert {each.default_status for each in schedules.values()} == {dg.DefaultScheduleStatus.STOPPED}
