"""Real runs on an instance with the shipped `dagster.yaml`: a run that writes waits for another one that writes."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import dagster as dg
import pytest
from dagster._cli.job import _create_run
from dagster._core.storage.tags import PARTITION_NAME_TAG
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

SHIPPED: Final = Path(__file__).parents[1] / "deploy" / "local" / "dagster.yaml"
PATIENCE_SECONDS: Final = 300


class Queue:
    """A queue of runs, which Dagster's daemon starts in their own processes when it looks at the queue."""

    def __init__(self, instance: dg.DagsterInstance, workspace: WorkspaceProcessContext) -> None:
        self.instance = instance
        self.workspace = workspace
        self.daemon = QueuedRunCoordinatorDaemon(interval_seconds=1)

    def submit(self, job: str, ops: list[str] | None, tags: Mapping[str, str]) -> str:
        context = self.workspace.create_request_context()
        location = context.get_code_location("ours")
        (repository,) = location.get_repositories().values()
        run = _create_run(self.instance, location, repository, repository.get_full_job(job), {}, tags, ops, None)
        return self.instance.submit_run(run.run_id, context).run_id

    def look(self) -> None:
        list(self.daemon.run_iteration(self.workspace))

    def run(self, run_id: str) -> dg.DagsterRun:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, "a run takes too long"
            time.sleep(0.2)


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    monkeypatch.setenv("SESSIONS_INPUT_ROOT", str(tmp_path / "input"))
    monkeypatch.setenv("SESSIONS_WAREHOUSE_ROOT", str(tmp_path / "warehouse"))
    monkeypatch.setenv("SESSIONS_SPARK_MASTER", "local[1]")
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(SHIPPED, home)
    target = ModuleTarget("sessions_dagster.definitions", attribute=None, working_directory=None, location_name="ours")
    with (
        dg.DagsterInstance.from_config(str(home)) as instance,
        create_test_daemon_workspace_context(target, instance) as workspace,
    ):
        yield Queue(instance, workspace)


@pytest.mark.slow
@pytest.mark.usefixtures("java_without_optimizer")
def test_a_writing_run_waits_for_another_writing_run(queue: Queue) -> None:
    # It fails because there is no such folder, so that the test is quick.
    landing = queue.submit("__ASSET_JOB", ["raw_events"], {PARTITION_NAME_TAG: "2025-09-20"})
    # Alone: Dagster sets the default limit of a pool when it first looks at a run that needs the pool, and applies the
    # limit only to later runs. That is why `make dev` sets the limit beforehand.
    queue.look()
    compaction = queue.submit("compaction", None, {})
    while not queue.run(landing).is_finished:
        queue.look()
        # The first run may have ended by now; then the next look starts the second one.
        waits = queue.run(compaction).status == dg.DagsterRunStatus.QUEUED
        assert waits or queue.run(landing).is_finished
        time.sleep(0.2)
    assert queue.run(landing).status == dg.DagsterRunStatus.FAILURE

    queue.look()
    queue.wait_until(lambda: queue.run(compaction).is_finished)
    assert queue.run(compaction).status == dg.DagsterRunStatus.SUCCESS
    records = {run: queue.instance.get_run_record_by_id(run) for run in (landing, compaction)}
    first, second = records[landing], records[compaction]
    assert first is not None
    assert second is not None
    assert first.end_time is not None
    assert second.start_time is not None
    assert second.start_time >= first.end_time


@pytest.mark.slow
@pytest.mark.usefixtures("java_without_optimizer")
def test_a_run_that_only_reads_does_not_wait(queue: Queue) -> None:
    landing = queue.submit("__ASSET_JOB", ["raw_events"], {PARTITION_NAME_TAG: "2025-09-20"})
    checks = queue.submit(
        "__ASSET_JOB",
        ["session_checks"],
        {PARTITION_NAME_TAG: "2025-09-20"},
    )
    queue.look()
    assert queue.run(checks).status != dg.DagsterRunStatus.QUEUED
    queue.wait_until(lambda: queue.run(checks).is_finished and queue.run(landing).is_finished)
