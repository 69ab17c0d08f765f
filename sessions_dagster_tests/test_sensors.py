"""The sensor on batch folders: the runs it requests, the folders it skips and why, and the runs it never repeats."""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self

import dagster as dg
import pyarrow as pa
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.execution.plan.objects import StepFailureData
from dagster._core.instance_for_test import instance_for_test
from dagster._core.storage.dagster_run import DagsterRunStatus
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
    RUN_KEY_TAG,
)
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.utils import make_new_run_id
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.sensor import execute_sensor_iteration
from dagster_shared.error import SerializableErrorInfo
from deltalake import CommitProperties, DeltaTable, write_deltalake

from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs import build_defs, sensors
from sessions_dagster.defs.batch_job import BATCHES_TAG, WHY_TAG
from sessions_dagster.defs.checks import event_check_specs, sessions_check_spec
from sessions_dagster.defs.metadata import INPUT_FINGERPRINT
from sessions_dagster.defs.missing_batches import batches_check_spec
from sessions_dagster.defs.partitions import daily_partitions
from sessions_dagster.defs.run_planning import (
    FIRST_PAUSE,
    MAX_OPEN_RUNS,
    MOST_DOUBLINGS,
    OLDER_DAYS_PER_TICK,
    RECENT_DAYS,
    Memory,
)
from sessions_dagster.defs.sensors import SENSOR_NAME, Tick, build_sensor, evaluate
from sessions_dagster.input.folders import SUCCESS_MARKER, InputRoot, batch_content
from sessions_dagster.model.columns import BATCH_DATE, LANDED_AT
from sessions_dagster.model.dates import days_between
from sessions_dagster.storage.commit_metadata import AppliedBatches, following_metadata
from sessions_dagster.storage.landed_batches import LandedBatch, landed_batches, note_landing
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.builders import deliver, nest_too_deep

FIRST_DAY = date(2025, 1, 1)
DAYS = [FIRST_DAY + timedelta(days=offset) for offset in range(10)]
DAY = DAYS[5]
RAW, EVENTS, SESSIONS = (dg.AssetKey(name) for name in ("raw_events", "sessionized_events", "sessions"))
ASSETS = [RAW, EVENTS, SESSIONS]
"""The assets, in the order in which a run materializes them."""

ANY_CONFIG = SessionsConfig(start_date=FIRST_DAY)
MARKED = {"require_success_marker": True}
CHECKS = {
    spec.key
    for spec in (*event_check_specs(ANY_CONFIG), sessions_check_spec(ANY_CONFIG), batches_check_spec(ANY_CONFIG))
}


@dataclass
class World:
    """An input root, tables, the sensor, and a Dagster instance in which a test decides what becomes of its runs."""

    root: InputRoot
    warehouse: Warehouse
    settings: dict[str, Any] = field(default_factory=dict)
    instance: dg.DagsterInstance = field(default_factory=dg.DagsterInstance.ephemeral)
    cursor: str | None = None
    landings: dict[date, datetime] = field(default_factory=dict)
    clock: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    @property
    def config(self) -> SessionsConfig:
        """The settings of the product."""
        roots = {"input_root": self.root.root, "warehouse_root": self.warehouse.root}
        return SessionsConfig(**{"start_date": FIRST_DAY, **roots, **self.settings})

    def tick(self) -> SensorExecutionData:
        """A tick, evaluated as by the daemon, with the cursor of the last tick unless `cursor` is set to None."""
        definitions = build_defs(self.config)
        with dg.build_sensor_context(self.instance, self.cursor, definitions=definitions) as context:
            data = build_sensor(self.config).evaluate_tick(context)
        self.cursor = data.cursor
        return data

    def requests(self) -> list[dg.RunRequest]:
        return list(self.tick().run_requests or [])

    def requests_after(self, pause: timedelta) -> list[dg.RunRequest]:
        """What a tick requests that much later than now."""

        class Later(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Self:
                return super().now(tz) + pause

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sensors, "datetime", Later)
            return self.requests()

    def skip_reason(self) -> str:
        data = self.tick()
        assert not data.run_requests
        return data.skip_message or ""

    def start(self, request: dg.RunRequest) -> dg.DagsterRun:
        """Create the run of a request, as the daemon does."""
        run = dg.DagsterRun(
            job_name=request.job_name or "",
            run_id=make_new_run_id(),
            tags={**request.tags, RUN_KEY_TAG: request.run_key or ""},
            asset_selection=frozenset(request.asset_selection or ()),
            status=DagsterRunStatus.STARTED,
        )
        return self.instance.add_run(run)

    def start_backfill(self, days: Sequence[date]) -> PartitionBackfill:
        """Create a backfill of the days, as the page of an asset does."""
        backfill = PartitionBackfill.from_asset_partitions(
            backfill_id=make_new_run_id(),
            asset_graph=build_defs(self.config).get_repository_def().asset_graph,
            partition_names=[str(day) for day in days],
            asset_selection=[RAW, EVENTS],
            backfill_timestamp=datetime.now(UTC).timestamp(),
            tags={},
            dynamic_partitions_store=self.instance,
            all_partitions=False,
            title=None,
            description=None,
            run_config=None,
        )
        self.instance.add_backfill(backfill)
        return backfill

    def land(self, *days: date, last: dg.AssetKey = SESSIONS) -> None:
        """Write into the tables what a run of the days does, up to those of the asset `last`."""
        self.clock += timedelta(seconds=1)
        landed_at = self.clock
        steps = ASSETS[: ASSETS.index(last) + 1]
        if RAW in steps:
            rows = {BATCH_DATE: list(days), LANDED_AT: [landed_at] * len(days)}
            for day in self.landings.keys() & set(days):
                DeltaTable(self.warehouse.raw_events).delete(f"{BATCH_DATE} = '{day}'")
            write_deltalake(self.warehouse.raw_events, pa.table(rows), mode="append", partition_by=[BATCH_DATE])
            for day in days:
                note_landing(self.warehouse, day, LandedBatch(self.fingerprint(day), landed_at))
                self.landings[day] = landed_at
        if EVENTS in steps:
            self.apply()
        if SESSIONS in steps:
            self.refresh()

    def take_back(self, day: date) -> None:
        """Write into the tables what a run does whose batch has no row."""
        DeltaTable(self.warehouse.raw_events).delete(f"{BATCH_DATE} = '{day}'")
        note_landing(self.warehouse, day, LandedBatch(self.fingerprint(day), None))
        del self.landings[day]
        self.apply()
        self.refresh()

    def apply(self) -> None:
        """Write a commit of `sessionized_events` that reflects what has landed."""
        metadata = AppliedBatches(self.landings, complete=True).as_commit_metadata()
        _commit(self.warehouse.sessionized_events, metadata)

    def refresh(self) -> None:
        """Write a commit of `sessions` that follows `sessionized_events`."""
        _commit(self.warehouse.sessions, following_metadata(DeltaTable(self.warehouse.sessionized_events)))

    def fingerprint(self, day: date) -> str:
        """That of the content of a folder."""
        return batch_content(self.root, day).fingerprint

    def fail_to_land(self, day: date) -> None:
        """Record that a run could not land a day, as the run does."""
        metadata = {INPUT_FINGERPRINT: self.fingerprint(day)}
        self.instance.report_runless_asset_event(dg.AssetObservation(RAW, partition=str(day), metadata=metadata))

    def succeed(self, requests: Sequence[dg.RunRequest]) -> None:
        """Let the runs start, land all their days, and succeed."""
        for request in requests:
            run = self.start(request)
            if RAW in (request.asset_selection or ()):
                self.land(*days_of(request))
            else:
                self.apply()
                self.refresh()
            self.finish(run)

    def finish(self, run: dg.DagsterRun) -> None:
        """Let a run succeed."""
        self.instance.report_dagster_event(
            DagsterEvent(DagsterEventType.RUN_SUCCESS.value, job_name=run.job_name), run.run_id
        )

    def fail(self, requests: Sequence[dg.RunRequest]) -> None:
        """Let the runs start and fail."""
        for request in requests:
            self.instance.report_run_failed(self.start(request))

    def fail_for_now(self, requests: Sequence[dg.RunRequest], steps: Sequence[str] = ["RetryRequested"]) -> None:
        """Let the runs start and fail, with a step for each class of an error that Dagster records."""
        for request in requests:
            run = self.start(request)
            for number, error in enumerate(steps):
                data = StepFailureData(error=SerializableErrorInfo("", [], error), user_failure_data=None)  # type: ignore[no-untyped-call]
                kind = DagsterEventType.STEP_FAILURE.value
                event = DagsterEvent(kind, run.job_name, step_key=f"step_{number}", event_specific_data=data)
                self.instance.report_dagster_event(event, run.run_id)
            self.instance.report_run_failed(run)


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "input").mkdir()
    return World(InputRoot(str(tmp_path / "input")), Warehouse(str(tmp_path / "warehouse")))


def _commit(table_uri: str, metadata: Mapping[str, Any]) -> None:
    properties = CommitProperties(custom_metadata={"userMetadata": json.dumps(metadata)})
    write_deltalake(table_uri, pa.table({"n": [1]}), mode="append", commit_properties=properties)


def days_of(request: dg.RunRequest) -> list[date]:
    tags = request.tags
    first = tags.get(PARTITION_NAME_TAG) or tags[ASSET_PARTITION_RANGE_START_TAG]
    last = tags.get(PARTITION_NAME_TAG) or tags[ASSET_PARTITION_RANGE_END_TAG]
    return days_between(date.fromisoformat(first), date.fromisoformat(last))


def all_of(requests: Sequence[dg.RunRequest]) -> list[dict[str, Any]]:
    """All fields of the requests, with assets and checks sorted, because Dagster guarantees no order of them."""
    return [
        {name: set(value) if isinstance(value, list) else value for name, value in request._asdict().items()}
        for request in requests
    ]


def requested_days(requests: Sequence[dg.RunRequest]) -> list[list[date]]:
    return [days_of(request) for request in requests]


def applied_days(requests: Sequence[dg.RunRequest]) -> list[list[date]]:
    """The days of the requests that land nothing."""
    return [days_of(request) for request in requests if set(request.asset_selection or ()) == {EVENTS, SESSIONS}]


def run_all(world: World) -> list[dg.RunRequest]:
    """Tick until no run is requested; the runs of each tick succeed before the next one."""
    done: list[dg.RunRequest] = []
    while requests := world.requests():
        world.succeed(requests)
        done += requests
    return done


def test_the_sensor_is_off_by_default() -> None:
    assert build_sensor(ANY_CONFIG).default_status == dg.DefaultSensorStatus.STOPPED


def test_a_new_folder_requests_a_run_of_its_day(world: World) -> None:
    deliver(world.root, DAY)
    (request,) = world.requests()
    assert request.partition_key == str(DAY)


def test_a_requested_run_has_all_assets(world: World) -> None:
    deliver(world.root, DAY)
    (request,) = world.requests()
    assert set(request.asset_selection or ()) == set(ASSETS)


def test_consecutive_days_are_requested_as_one_range(world: World) -> None:
    for day in DAYS:
        deliver(world.root, day)
    (request,) = world.requests()
    assert request.partition_key is None
    assert days_of(request) == DAYS


@pytest.mark.parametrize(("prefix", "job"), [((), "land_and_apply"), ("web", "web_land_and_apply")])
def test_a_requested_run_is_of_the_job_of_the_sensor(world: World, prefix: Any, job: str) -> None:
    world.settings["key_prefix"] = prefix
    deliver(world.root, DAY)
    (request,) = world.requests()
    assert {request.job_name, build_sensor(world.config).job_name} == {job}


def test_a_tag_names_the_batches_of_a_run(world: World) -> None:
    for day in DAYS[:3] + DAYS[4:5]:
        deliver(world.root, day)
    tags = [request.tags[BATCHES_TAG] for request in world.requests()]
    assert tags == [f"{DAYS[0]}...{DAYS[2]}", str(DAYS[4])]


def test_a_tag_says_why_a_run_is_requested(world: World) -> None:
    for day in DAYS[:2] + DAYS[4:5]:
        deliver(world.root, day)
    run_all(world)
    deliver(world.root, DAYS[1], ["corrected.parquet"])
    deliver(world.root, DAYS[2])
    world.land(DAYS[4], last=RAW)
    assert [request.tags[WHY_TAG] for request in world.requests()] == ["new and changed", "landed, not applied yet"]


def test_the_tags_of_a_run_are_short_enough_for_the_list_of_runs(world: World) -> None:
    for day in DAYS:
        deliver(world.root, day)
    (request,) = world.requests()
    assert max(len(f"{key}: {request.tags[key]}") for key in (BATCHES_TAG, WHY_TAG)) <= 33


def test_the_sensor_says_what_it_does_and_how_to_turn_it_on() -> None:
    description = build_sensor(SessionsConfig(start_date=FIRST_DAY, key_prefix="web")).description or ""
    assert "new or has changed" in description
    assert "dagster sensor start web_new_batches" in description


@pytest.mark.parametrize(("settings", "complete"), [({"settle_seconds": 5}, "5 seconds"), (MARKED, SUCCESS_MARKER)])
def test_the_sensor_says_when_a_folder_is_complete(settings: dict[str, Any], complete: str) -> None:
    assert complete in (build_sensor(SessionsConfig(start_date=FIRST_DAY, **settings)).description or "")


@pytest.mark.parametrize("cursor", [None, ""])
def test_a_new_instance_is_no_reason_for_a_warning(
    world: World, cursor: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    at(world, datetime.now(UTC), cursor)
    assert not caplog.records


def test_a_tick_says_that_it_looked_into_all_folders(world: World) -> None:
    for day in DAYS:
        deliver(world.root, day)
    run_all(world)
    assert f"all 10 batch folders in {world.root.root} looked into" in world.skip_reason()


@pytest.mark.parametrize(
    ("folders", "under_way", "said"),
    [
        (0, 0, "no batch folder in {root}"),
        (1, 0, "the only batch folder in {root} looked into"),
        (2, 2, "no other batch folder in {root}; in a run under way: 2025-01-01...2025-01-02"),
        (3, 2, "the other batch folder in {root} looked into; in a run under way: 2025-01-01...2025-01-02"),
        (4, 2, "the other 2 batch folders in {root} looked into; in a run under way: 2025-01-01...2025-01-02"),
    ],
)
def test_a_tick_says_that_folders_of_runs_under_way_are_not_looked_into(
    world: World, folders: int, under_way: int, said: str
) -> None:
    for day in DAYS[:under_way]:
        deliver(world.root, day)
    for request in world.requests():
        world.start(request)
    for day in DAYS[under_way:folders]:
        deliver(world.root, day)
    assert said.format(root=world.root.root) in at(world, datetime.now(UTC), world.cursor).summary


def test_a_tick_says_why_it_looked_into_some_folders_only(world: World) -> None:
    landed_long_ago(world)
    assert (
        f"{RECENT_DAYS + OLDER_DAYS_PER_TICK} of 100 batch folders in {world.root.root} looked into "
        "(those to be done, the newest ones, and a few of the others in turn)" in world.skip_reason()
    )


def test_a_missing_day_is_never_requested(world: World) -> None:
    for day in DAYS:
        if day != DAY:
            deliver(world.root, day)
    assert requested_days(world.requests()) == [DAYS[:5], DAYS[6:]]


def test_a_first_start_with_300_folders_requests_few_runs(world: World) -> None:
    days = [day for day in days_between(FIRST_DAY, FIRST_DAY + timedelta(days=305)) if day.day not in {13, 27}][:300]
    for day in days:
        deliver(world.root, day)
    requests = run_all(world)
    assert len(requests) < 30
    assert sorted(day for request in requests for day in days_of(request)) == sorted(days)


def test_the_cursor_is_small_when_the_work_is_done(world: World) -> None:
    for day in days_between(FIRST_DAY, FIRST_DAY + timedelta(days=299)):
        deliver(world.root, day)
    run_all(world)
    world.tick()
    assert len(world.cursor or "") < 1000


def test_no_more_runs_are_open_than_allowed(world: World) -> None:
    for day in days_between(FIRST_DAY, FIRST_DAY + timedelta(days=200)):
        deliver(world.root, day)
    requests = world.requests()
    assert len(requests) == MAX_OPEN_RUNS
    first, *_ = [world.start(request) for request in requests]
    assert f"{MAX_OPEN_RUNS} runs are to finish first" in world.skip_reason()
    world.instance.report_run_canceled(first)
    assert len(world.requests()) == 1


def test_without_a_folder_no_run_is_requested(world: World) -> None:
    assert "Nothing new" in world.skip_reason()


def test_a_missing_input_root_is_not_an_error(world: World) -> None:
    shutil.rmtree(world.root.root)
    assert world.root.root in world.skip_reason()


def test_a_landed_folder_is_not_requested_again(world: World) -> None:
    for day in DAYS:
        deliver(world.root, day)
    world.succeed(world.requests())
    assert "Nothing new" in world.skip_reason()
    assert "Nothing new" in world.skip_reason()


def test_a_changed_folder_is_requested_again(world: World) -> None:
    for day in DAYS:
        deliver(world.root, day)
    run_all(world)
    deliver(world.root, DAY, ["events.parquet", "late.parquet"])
    assert requested_days(run_all(world)) == [[DAY]]


def test_a_removed_file_counts_as_a_change(world: World) -> None:
    folder = deliver(world.root, DAY, ["a.parquet", "b.parquet"])
    run_all(world)
    (folder / "b.parquet").unlink()
    deliver(world.root, DAY, [])
    assert requested_days(run_all(world)) == [[DAY]]


def test_a_removed_folder_is_ignored(world: World) -> None:
    folder = deliver(world.root, DAY)
    run_all(world)
    shutil.rmtree(folder)
    assert "Nothing new" in world.skip_reason()


def test_changes_that_wait_for_a_free_run_are_requested_next(world: World) -> None:
    days = landed_long_ago(world)
    changed = days[:OLDER_DAYS_PER_TICK:2]
    for day in changed:
        deliver(world.root, day, ["corrected.parquet"])
    memory = Memory.from_cursor(world.cursor)
    memory.looked_until = date.min
    world.cursor = memory.to_cursor()
    first = world.requests()
    world.succeed(first)
    assert requested_days(first + world.requests()) == [[day] for day in changed]


def test_an_old_folder_that_reappears_is_checked_immediately(world: World) -> None:
    days = landed_long_ago(world)
    shutil.rmtree(world.root.batch_folder(days[60]))
    world.tick()
    deliver(world.root, days[60], ["another.parquet"])
    assert requested_days(world.requests()) == [[days[60]]]


def test_a_restored_content_has_a_new_run_key(world: World) -> None:
    keys = []
    for names in (["a.parquet"], ["a.parquet", "b.parquet"], ["a.parquet"]):
        shutil.rmtree(world.root.batch_folder(DAY), ignore_errors=True)
        deliver(world.root, DAY, names)
        keys += [request.run_key for request in run_all(world)]
    assert len(set(keys)) == 3


def test_a_changed_folder_among_many_old_ones_is_found_in_time(world: World) -> None:
    days = landed_long_ago(world)
    for day in days[10:80:10]:
        deliver(world.root, day, ["corrected.parquet"])
    found = []
    for _ in range(len(days) // OLDER_DAYS_PER_TICK + 1):
        requests = world.requests()
        world.succeed(requests)
        found += requested_days(requests)
    assert sorted(found) == [[day] for day in days[10:80:10]]


def test_junk_is_ignored_and_reported(world: World) -> None:
    for name in ("stuff", "date=2025-13-01", "date=today"):
        Path(world.root.root, name).mkdir()
    reason = world.skip_reason()
    assert all(name in reason for name in ("stuff", "date=2025-13-01", "date=today"))


def test_only_the_first_of_many_junk_names_are_reported(world: World) -> None:
    for number in range(1000):
        Path(world.root.root, f"stuff{number}").mkdir()
    assert "and 997 more" in world.skip_reason()


def test_a_day_before_the_first_partition_is_never_requested(world: World) -> None:
    deliver(world.root, FIRST_DAY - timedelta(days=1))
    assert f"before the first partition: {FIRST_DAY - timedelta(days=1)}" in world.skip_reason()


def test_a_day_that_is_not_over_is_never_requested(world: World) -> None:
    today = datetime.now(UTC).date() + timedelta(days=1)
    deliver(world.root, today)
    assert f"not over yet (UTC): {today}" in world.skip_reason()


def test_a_folder_without_data_is_reported(world: World) -> None:
    deliver(world.root, DAY, [SUCCESS_MARKER])
    assert f"without a data file: {DAY}" in world.skip_reason()


def test_a_folder_that_still_changes_is_not_requested_yet(world: World) -> None:
    deliver(world.root, DAY, at=datetime.now(UTC))
    assert f"changed a moment ago: {DAY}" in world.skip_reason()


def test_a_folder_lands_when_it_has_settled(world: World) -> None:
    now = datetime(FIRST_DAY.year + 1, 1, 1, tzinfo=UTC)
    deliver(world.root, DAY, at=now)
    first = at(world, now + timedelta(seconds=59), None)
    second = at(world, now + timedelta(seconds=60), first.cursor)
    assert [len(tick.plans) for tick in (first, second)] == [0, 1]


def test_a_day_lands_when_it_is_over(world: World) -> None:
    deliver(world.root, DAY, at=datetime(2000, 1, 1, tzinfo=UTC))
    midnight = datetime.combine(DAY, datetime.min.time(), UTC) + timedelta(days=1)
    first = at(world, midnight - timedelta(microseconds=1), None)
    second = at(world, midnight, first.cursor)
    assert [len(tick.plans) for tick in (first, second)] == [0, 1]


def test_an_old_folder_found_changing_is_checked_in_the_next_tick(world: World) -> None:
    days = landed_long_ago(world)
    now = datetime.now(UTC)
    deliver(world.root, days[40], ["late.parquet"], at=now)
    cursor = turn_of(world, days[40], now)
    (plan,) = at(world, now + timedelta(seconds=60), cursor).plans
    assert list(plan.days) == [days[40]]


def test_an_old_folder_that_could_not_be_listed_is_checked_in_the_next_tick(world: World) -> None:
    days = landed_long_ago(world)
    now = datetime.now(UTC)
    folder = Path(world.root.batch_folder(days[40]))
    nest_too_deep(folder)
    cursor = turn_of(world, days[40], now)
    shutil.rmtree(folder)
    deliver(world.root, days[40], ["repaired.parquet"])
    (plan,) = at(world, now, cursor).plans
    assert list(plan.days) == [days[40]]


def test_a_folder_without_the_required_marker_is_not_requested(world: World) -> None:
    world.settings["require_success_marker"] = True
    deliver(world.root, DAY)
    assert f"without {SUCCESS_MARKER}: {DAY}" in world.skip_reason()
    deliver(world.root, DAY, [SUCCESS_MARKER])
    assert requested_days(world.requests()) == [[DAY]]


def test_the_settle_time_can_be_configured(world: World) -> None:
    world.settings["settle_seconds"] = 0
    deliver(world.root, DAY, at=datetime.now(UTC) - timedelta(seconds=1))
    assert requested_days(world.requests()) == [[DAY]]


def test_a_sensor_ignores_the_runs_of_other_products(world: World) -> None:
    deliver(world.root, DAY)
    (request,) = world.requests()
    world.settings["key_prefix"] = "web"
    other_sensors_memory, world.cursor = world.cursor, None
    (other_request,) = world.requests()
    assert other_request.run_key == request.run_key
    world.fail([request])
    # This sensor knows no run of it yet, so it requests the day again instead of giving it up.
    assert requested_days(world.requests()) == [[DAY]]
    world.settings, world.cursor = {}, other_sensors_memory
    assert "as the run failed" in world.skip_reason()


def test_one_bad_folder_does_not_stop_the_others(world: World) -> None:
    nest_too_deep(deliver(world.root, DAYS[1]))
    Path(world.root.batch_folder(DAYS[2])).touch()
    deliver(world.root, DAYS[0])
    deliver(world.root, DAYS[3])
    assert requested_days(run_all(world)) == [[DAYS[0]], [DAYS[3]]]
    reason = world.skip_reason()
    assert f"cannot be listed: {DAYS[1]}" in reason
    assert f"date={DAYS[2]}" in reason


def test_a_lost_cursor_does_not_repeat_finished_runs(world: World) -> None:
    for day in DAYS:
        deliver(world.root, day)
    run_all(world)
    world.cursor = None
    assert "Nothing new" in world.skip_reason()


def test_a_lost_cursor_does_not_hide_changes(world: World) -> None:
    for day in DAYS:
        deliver(world.root, day)
    run_all(world)
    deliver(world.root, DAY, ["corrected.parquet"])
    world.cursor = None
    assert requested_days(world.requests()) == [[DAY]]


def test_a_broken_cursor_counts_as_a_lost_one(world: World) -> None:
    deliver(world.root, DAY)
    run_all(world)
    stored = json.loads(str(world.cursor))
    others = [{"known": [[1]]}, {"known": {"a": "b"}}, {"applied": {"2025-01-06": 1e400}}, {"asked": []}, {"alone": 5}]
    for broken in ["no cursor", "[]", "null", "1", "[" * 100_000, *(json.dumps(stored | other) for other in others)]:
        world.cursor = broken
        assert "Nothing new" in world.skip_reason()


def test_a_tick_that_requests_runs_names_the_days_of_all_of_them(world: World) -> None:
    for day in DAYS[::3]:
        deliver(world.root, day)
    summary = at(world, datetime.now(UTC) + timedelta(hours=1), None).summary
    assert f"Asked for: {', '.join(map(str, DAYS[0:9:3]))} and 1 more; all 4 batch folders in" in summary


def test_a_lost_cursor_does_not_repeat_running_runs(world: World) -> None:
    for day in DAYS:
        deliver(world.root, day)
    for request in world.requests():
        world.start(request)
    world.cursor = None
    assert f"in a run under way: {DAYS[0]}...{DAYS[-1]}" in world.skip_reason()


def test_a_failed_run_has_the_same_run_key_after_a_lost_cursor(world: World) -> None:
    deliver(world.root, DAY)
    requests = world.requests()
    world.fail(requests)
    world.cursor = None
    assert all_of(world.requests()) == all_of(requests)


def test_a_day_materialized_by_hand_is_not_requested(world: World) -> None:
    deliver(world.root, DAY)
    world.land(DAY)
    assert "Nothing new" in world.skip_reason()


@pytest.mark.parametrize("last", [RAW, EVENTS])
def test_a_batch_that_landed_without_its_sessions_is_applied_and_not_landed(world: World, last: dg.AssetKey) -> None:
    deliver(world.root, DAY)
    world.land(DAY)
    world.land(DAY, last=last)
    assert applied_days(world.requests()) == [[DAY]]


def test_a_batch_is_done_while_a_run_of_another_one_has_not_refreshed_the_sessions(world: World) -> None:
    for day in DAYS[:2]:
        deliver(world.root, day)
    world.land(DAYS[0])
    world.land(DAYS[1], last=EVENTS)
    assert applied_days(world.requests()) == [[DAYS[1]]]


def test_a_batch_that_a_restore_took_back_is_left_to_the_operator(world: World) -> None:
    deliver(world.root, DAY)
    world.apply()
    world.land(DAY)
    DeltaTable(world.warehouse.sessionized_events).restore(0)
    assert "Nothing new" in world.skip_reason()


def test_a_batch_without_events_is_requested_once(world: World) -> None:
    deliver(world.root, DAY)
    world.land(DAY)
    deliver(world.root, DAY, ["empty.parquet"])
    (request,) = world.requests()
    run = world.start(request)
    world.take_back(DAY)
    world.finish(run)
    assert "Nothing new" in world.skip_reason()


def test_a_batch_that_landed_again_without_a_change_is_applied_once_and_never_landed(world: World) -> None:
    deliver(world.root, DAY)
    world.land(DAY)
    world.land(DAY, last=RAW)
    requests = world.requests()
    assert applied_days(requests) == [[DAY]]
    # The run finds nothing to change, so no table has a commit of it.
    world.finish(world.start(requests[0]))
    for _ in range(3):
        assert "Nothing new" in world.skip_reason()


def test_a_landing_that_died_half_way_is_repeated(world: World) -> None:
    deliver(world.root, DAY)
    world.land(DAY)
    landed = landed_batches(world.warehouse, [DAY])[DAY]
    world.land(DAY, last=RAW)
    note_landing(world.warehouse, DAY, landed)
    (request,) = world.requests()
    assert RAW in (request.asset_selection or ())


def test_nothing_lands_again_after_all_runs_were_deleted(world: World) -> None:
    for day in DAYS:
        deliver(world.root, day)
    run_all(world)
    for run in world.instance.get_runs():
        world.instance.delete_run(run.run_id)
    for cursor in (world.cursor, None, ""):
        world.cursor = cursor
        assert "Nothing new" in world.skip_reason()


def test_nothing_lands_again_on_a_new_instance(world: World) -> None:
    for day in DAYS:
        deliver(world.root, day)
    run_all(world)
    world.instance, world.cursor = dg.DagsterInstance.ephemeral(), None
    assert "Nothing new" in world.skip_reason()
    deliver(world.root, DAY, ["corrected.parquet"])
    assert requested_days(world.requests()) == [[DAY]]


def test_a_bad_batch_is_tried_once_more_on_a_new_instance(world: World) -> None:
    deliver(world.root, DAY)
    for _ in range(2):
        world.instance, world.cursor = dg.DagsterInstance.ephemeral(), None
        world.fail(world.requests())
        for _ in range(3):
            assert "as the run failed" in world.skip_reason()


def test_all_batches_land_in_a_new_warehouse(world: World, tmp_path: Path) -> None:
    for day in DAYS:
        deliver(world.root, day)
    run_all(world)
    world.settings["warehouse_root"] = str(tmp_path / "another")
    assert requested_days(world.requests()) == [DAYS]


def test_what_an_older_version_landed_does_not_land_again(world: World) -> None:
    for day in DAYS[:2]:
        deliver(world.root, day)
        world.land(day)
    # It left no fingerprints in the tables, but in its materializations.
    shutil.rmtree(Path(world.warehouse.raw_events, "_landed"))
    metadata = {INPUT_FINGERPRINT: world.fingerprint(DAYS[0])}
    world.instance.report_runless_asset_event(dg.AssetMaterialization(RAW, partition=str(DAYS[0]), metadata=metadata))
    assert requested_days(world.requests()) == [[DAYS[1]]]


def test_a_run_of_other_assets_does_not_delay_a_batch(world: World) -> None:
    other = dg.RunRequest(tags={PARTITION_NAME_TAG: str(DAY)}, asset_selection=[EVENTS])
    world.start(other)
    deliver(world.root, DAY)
    assert requested_days(world.requests()) == [[DAY]]


def test_the_days_of_a_running_backfill_are_not_requested(world: World) -> None:
    deliver(world.root, DAY)
    backfill = world.start_backfill([DAY])
    world.land(DAY, last=RAW)
    assert f"in a backfill under way: {DAY}" in world.skip_reason()
    world.land(DAY)
    done = backfill.with_status(BulkActionStatus.COMPLETED_SUCCESS)  # type: ignore[no-untyped-call]
    world.instance.update_backfill(done)
    assert "Nothing new" in world.skip_reason()


def test_a_backfill_does_not_delay_other_days(world: World) -> None:
    world.start_backfill([DAY])
    deliver(world.root, DAYS[0])
    assert requested_days(world.requests()) == [[DAYS[0]]]


def test_a_change_during_a_run_is_requested_after_it(world: World) -> None:
    deliver(world.root, DAY)
    (request,) = world.requests()
    run = world.start(request)
    world.land(DAY)
    deliver(world.root, DAY, ["late.parquet"])
    assert f"in a run under way: {DAY}" in world.skip_reason()
    world.finish(run)
    assert requested_days(world.requests()) == [[DAY]]


def test_a_failed_run_is_not_requested_again(world: World) -> None:
    deliver(world.root, DAY)
    world.fail(world.requests())
    for _ in range(3):
        assert f"as the run failed or was cancelled: {DAY} (run " in world.skip_reason()


def test_a_failed_run_that_dagster_retries_counts_as_running(world: World) -> None:
    world.instance = dg.DagsterInstance.ephemeral(settings={"run_retries": {"enabled": True, "max_retries": 1}})
    deliver(world.root, DAY)
    world.fail(world.requests())
    assert f"in a run under way: {DAY}" in world.skip_reason()


@pytest.mark.parametrize("days", [DAYS[:1], DAYS[:3]])
def test_days_whose_retries_ran_out_are_requested_again_together_after_a_pause(
    world: World, days: Sequence[date]
) -> None:
    for day in days:
        deliver(world.root, day)
    (first,) = world.requests()
    world.fail_for_now([first])
    assert "to be asked for again after a pause" in world.skip_reason()
    (again,) = world.requests_after(FIRST_PAUSE)
    assert days_of(again) == days
    assert again.run_key != first.run_key
    world.succeed([again])
    assert "Nothing new" in world.skip_reason()


def test_a_failure_that_stays_holds_up_no_other_day_and_is_tried_once_an_hour_until_it_passes(world: World) -> None:
    for day in DAYS[:3]:
        deliver(world.root, day)
    for failures in range(2):
        requests = world.requests_after(failures * FIRST_PAUSE)
        assert requested_days(requests) == [DAYS[:3]]
        world.fail_for_now(requests)
    first, stays, last = world.requests_after(2 * FIRST_PAUSE)
    world.succeed([first, last])
    keys = set()
    for doublings in range(2, MOST_DOUBLINGS + 3):
        assert days_of(stays) == [DAYS[1]]
        keys.add(stays.run_key)
        world.fail_for_now([stays])
        pause = FIRST_PAUSE * 2 ** min(doublings, MOST_DOUBLINGS)
        assert world.requests_after(pause - FIRST_PAUSE / 2) == []
        (stays,) = world.requests_after(pause)
    assert len(keys) == MOST_DOUBLINGS + 1
    world.succeed([stays])
    assert "Nothing new" in world.skip_reason()


def test_a_day_whose_retries_ran_out_is_requested_again_after_a_lost_cursor(world: World) -> None:
    deliver(world.root, DAY)
    known_keys = set()
    for _ in range(3):
        requests = world.requests()
        # The daemon starts no run for a key that it knows.
        new = [request for request in requests if request.run_key not in known_keys]
        world.fail_for_now(new)
        known_keys |= {request.run_key for request in new}
        world.cursor = None
    assert requested_days(world.requests()) == [[DAY]]
    again = [each for each in world.requests_after(FIRST_PAUSE) if each.run_key not in known_keys]
    assert requested_days(again) == [[DAY]]


def test_a_run_that_failed_on_something_else_as_well_is_not_requested_again(world: World) -> None:
    deliver(world.root, DAY)
    world.fail_for_now(world.requests(), ["RetryRequested", "Failure"])
    assert "as the run failed" in world.skip_reason()


def test_a_bad_batch_is_left_alone_if_the_retries_of_its_run_ran_out(world: World) -> None:
    for day in DAYS[:3]:
        deliver(world.root, day)
    requests = world.requests()
    world.fail_to_land(DAYS[1])
    world.fail_for_now(requests)
    assert requested_days(world.requests_after(FIRST_PAUSE)) == [[DAYS[0]], [DAYS[2]]]


def test_a_failed_range_is_requested_again_day_by_day(world: World) -> None:
    for day in DAYS[:3]:
        deliver(world.root, day)
    world.fail(world.requests())
    assert requested_days(world.requests()) == [[day] for day in DAYS[:3]]


def test_a_day_of_a_failed_range_that_also_fails_alone_is_not_requested_again(world: World) -> None:
    for day in DAYS[:3]:
        deliver(world.root, day)
    world.fail(world.requests())
    first, *others = world.requests()
    world.fail([first])
    world.succeed(others)
    assert f"cancelled: {DAYS[0]} (run " in world.skip_reason()


def test_a_cancelled_range_is_not_requested_again(world: World) -> None:
    for day in DAYS[:3]:
        deliver(world.root, day)
    (request,) = world.requests()
    world.instance.report_run_canceled(world.start(request))
    assert "cancelled" in world.skip_reason()


def test_a_cancelled_run_is_not_requested_again(world: World) -> None:
    deliver(world.root, DAY)
    (request,) = world.requests()
    world.instance.report_run_canceled(world.start(request))
    assert "was cancelled" in world.skip_reason()


def test_a_run_that_fails_after_the_events_are_applied_is_reported(world: World) -> None:
    deliver(world.root, DAY)
    (request,) = world.requests()
    world.land(DAY, last=EVENTS)
    world.fail([request])
    assert f"as the run failed or was cancelled: {DAY}" in world.skip_reason()


def test_a_failed_run_is_requested_again_when_its_folder_changes(world: World) -> None:
    deliver(world.root, DAY)
    world.fail(world.requests())
    world.skip_reason()
    deliver(world.root, DAY, ["events.parquet", "repaired.parquet"])
    assert requested_days(run_all(world)) == [[DAY]]


def test_a_failed_content_is_requested_again_once_another_one_has_landed(world: World) -> None:
    folder = deliver(world.root, DAY)
    world.fail(world.requests())
    world.skip_reason()
    deliver(world.root, DAY, ["more.parquet"])
    run_all(world)
    (folder / "more.parquet").unlink()
    deliver(world.root, DAY)
    assert requested_days(world.requests()) == [[DAY]]


def test_a_failed_run_that_was_repeated_by_hand_is_no_longer_reported(world: World) -> None:
    deliver(world.root, DAY)
    world.fail(world.requests())
    assert "as the run failed" in world.skip_reason()
    world.land(DAY)
    assert "as the run failed" not in world.skip_reason()


def test_a_bad_batch_does_not_stop_the_days_around_it_from_landing(world: World) -> None:
    for day in DAYS:
        deliver(world.root, day)
    world.fail(world.requests())
    world.fail_to_land(DAY)
    assert requested_days(run_all(world)) == [DAYS[:5], DAYS[6:]]
    assert f"as the run failed or was cancelled: {DAY} (run " in world.skip_reason()


def test_what_a_failed_range_has_landed_is_not_landed_again(world: World) -> None:
    for day in DAYS:
        deliver(world.root, day)
    (request,) = world.requests()
    run = world.start(request)
    world.land(*DAYS[:5], *DAYS[6:], last=RAW)
    world.fail_to_land(DAY)
    world.instance.report_run_failed(run)
    requests = world.requests()
    assert applied_days(requests) == [DAYS[:5], DAYS[6:]]
    world.succeed(requests)
    assert f"as the run failed or was cancelled: {DAY} (run " in world.skip_reason()


def test_what_a_broken_off_range_has_landed_is_not_landed_again(world: World) -> None:
    for day in DAYS[:4]:
        deliver(world.root, day)
    (request,) = world.requests()
    run = world.start(request)
    world.land(*DAYS[:2], last=RAW)
    world.instance.report_run_failed(run)
    requests = world.requests()
    assert requested_days(requests) == [[day] for day in DAYS[:4]]
    assert applied_days(requests) == [[day] for day in DAYS[:2]]


def test_an_open_run_that_only_applies_is_not_requested_again(world: World) -> None:
    deliver(world.root, DAY)
    world.land(DAY, last=RAW)
    (request,) = world.requests()
    world.start(request)
    world.cursor = None
    assert f"in a run under way: {DAY}" in world.skip_reason()


def test_a_bad_batch_is_not_requested_again_after_a_lost_cursor(world: World) -> None:
    deliver(world.root, DAY)
    world.fail(world.requests())
    world.fail_to_land(DAY)
    world.cursor = None
    assert "as the run failed" in world.skip_reason()


def landed_long_ago(world: World) -> list[date]:
    """A large number of days that have all landed."""
    days = days_between(FIRST_DAY, FIRST_DAY + timedelta(days=99))
    for day in days:
        deliver(world.root, day)
    run_all(world)
    return days


def turn_of(world: World, day: date, now: datetime) -> str:
    """The cursor after the tick that skipped a day."""
    ticks = [at(world, now, world.cursor)]
    while str(day) not in ticks[-1].summary:
        assert len(ticks) < 10, "the day never had its turn"
        ticks.append(at(world, now, ticks[-1].cursor))
    return ticks[-1].cursor


def at(world: World, now: datetime, cursor: str | None) -> Tick:
    """A tick at a given time."""
    return evaluate(world.instance, cursor, world.config, now, logging.getLogger(__name__))


@dataclass(frozen=True)
class OfDaemon:
    """The runs that Dagster's daemon created for a range and a day, by day, and the checks that each of them has."""

    runs: Mapping[str, dg.DagsterRun]
    checks: Mapping[str, set[dg.AssetCheckKey]]


@pytest.fixture(scope="module")
def of_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OfDaemon]:
    """What the daemon makes of the requests for a range and a day. None of the runs is executed."""
    folder = tmp_path_factory.mktemp("daemon")
    root = InputRoot(str(folder / "input"))
    for day in (*DAYS[:3], DAY):
        deliver(root, day)
    definitions = folder / "definitions.py"
    definitions.write_text(
        "from sessions_dagster import SessionsConfig, build_defs\n"
        f"config = SessionsConfig(start_date={str(FIRST_DAY)!r}, input_root={root.root!r},"
        f" warehouse_root={str(folder / 'warehouse')!r})\n"
        "defs = build_defs(config)\n"
    )
    target = PythonFileTarget(str(definitions), attribute=None, working_directory=None, location_name="ours")
    with instance_for_test() as instance, create_test_daemon_workspace_context(target, instance) as workspace:
        (repository,) = workspace.create_request_context().get_code_location("ours").get_repositories().values()
        instance.start_sensor(repository.get_sensor(SENSOR_NAME))
        list(
            execute_sensor_iteration(
                workspace, logging.getLogger(__name__), threadpool_executor=None, submit_threadpool_executor=None
            )
        )
        runs = {run.tags[BATCHES_TAG]: run for run in instance.get_runs()}
        yield OfDaemon(runs, {batches: checks_of(instance, run) for batches, run in runs.items()})


def checks_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[dg.AssetCheckKey]:
    """The checks that are to be evaluated in a run, by its execution plan."""
    assert run.execution_plan_snapshot_id is not None
    plan = instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id)
    outputs = [output for step in plan.steps for output in step.outputs]
    return {key for output in outputs if output.properties and (key := output.properties.asset_check_key)}


RANGE = f"{DAYS[0]}...{DAYS[2]}"


def test_the_daemon_creates_a_run_for_each_request(of_daemon: OfDaemon) -> None:
    assert of_daemon.runs.keys() == {RANGE, str(DAY)}


def test_a_run_of_a_range_has_all_its_partitions(of_daemon: OfDaemon) -> None:
    subset = of_daemon.runs[RANGE].get_resolved_partitions_subset_for_events(daily_partitions(ANY_CONFIG))
    assert subset is not None
    assert list(subset.get_partition_keys()) == [str(day) for day in DAYS[:3]]


@pytest.mark.parametrize("batches", [RANGE, str(DAY)])
def test_a_run_has_all_assets_and_their_checks(of_daemon: OfDaemon, batches: str) -> None:
    assert of_daemon.runs[batches].asset_selection == set(ASSETS)
    assert of_daemon.checks[batches] == CHECKS


@pytest.mark.parametrize("batches", [RANGE, str(DAY)])
def test_a_run_is_of_a_job_that_says_what_it_does(of_daemon: OfDaemon, batches: str) -> None:
    assert of_daemon.runs[batches].job_name == "land_and_apply"
