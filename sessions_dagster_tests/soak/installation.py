"""The installation that is soaked: a `dagster dev`, a warm Spark, their memory and their runs, and how to kill one."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import dagster as dg
from dagster_graphql import DagsterGraphQLClient

from benchmarks.processes import WarmSpark, warm_spark
from sessions_dagster.defs.batch_job import JOB_NAME
from sessions_dagster.defs.run_history import days_of
from sessions_dagster.defs.sensors import SENSOR_NAME
from sessions_dagster_tests.soak.story import FIRST_DAY
from sessions_dagster_tests.ui.server import DagsterDev, dagster_dev

_DEFINITIONS: Final = Path(__file__).with_name("definitions.py")

_PATIENCE_SECONDS: Final = 900
_LOOKS_EVERY_SECONDS: Final = 1

_ROLES: Final = {"webserver": "dagster_webserver", "daemon": "daemon run", "code location": "api grpc"}
"""The long-lived processes of `dagster dev`, by a part of their command lines."""

SPARK: Final = "warm Spark"
"""The role of the server of Spark Connect, whose process is not one of Dagster."""

_STARTED: Final = re.compile(r"Started process for run \(pid: (\d+)\)")


@dataclass(frozen=True)
class Installation:
    """What runs, and what it knows of its runs.

    Attributes:
        dagster: The `dagster dev`.
        spark: The warm Spark that its runs use.
        instance: The Dagster instance of both.
    """

    dagster: DagsterDev
    spark: WarmSpark
    instance: dg.DagsterInstance

    def resident(self) -> dict[str, int]:
        """The resident memory of each long-lived process in bytes, by its role."""
        resident = {SPARK: self.spark.resident()}
        for process in descendants(self.dagster.process):
            command = _command_line(process)
            for role, part in _ROLES.items():
                if part in command:
                    resident[role] = resident.get(role, 0) + _resident(process)
        return resident

    def wait_until_applied(self, days: Collection[date], since: datetime) -> float:
        """Wait until runs that were created after a time have landed and applied the days.

        Returns:
            The seconds that these runs took, from their start to their end.

        Raises:
            TimeoutError: If it takes too long.
        """
        for _ in _until(_PATIENCE_SECONDS, f"{len(days)} batches of {max(days)} and before are not applied"):
            records = self._records(since)
            succeeded = [
                record
                for record in records
                if record.dagster_run.is_success and record.dagster_run.job_name == JOB_NAME
            ]
            applied = {day for record in succeeded for day in days_of(record.dagster_run)}
            if applied.issuperset(days) and all(record.dagster_run.is_finished for record in records):
                return sum(map(_seconds, succeeded))
        raise AssertionError("it returns or raises")

    def kill_next_run(self, since: datetime, after: float) -> str | None:
        """Wait for a run that was created after a time, let it run for some seconds, and kill its processes.

        Returns:
            The id of the run; None if it was quicker.
        """
        run = next(filter(None, (self._started(since) for _ in _until(_PATIENCE_SECONDS, "no run was started"))))
        time.sleep(after)
        events = self.instance.all_logs(run.run_id, dg.DagsterEventType.ENGINE_EVENT)
        logged = (entry.get_dagster_event().message or "" for entry in events)
        found = next(filter(None, map(_STARTED.search, logged)))
        return run.run_id if _kill(int(found[1])) else None

    def run_job(self, name: str, config: Mapping[str, Any]) -> float:
        """Launch a job as the Launchpad of the UI does, and wait for its end. Returns its seconds.

        Raises:
            RuntimeError: If it fails.
        """
        host, port = self.dagster.url.removeprefix("http://").split(":")
        client = DagsterGraphQLClient(host, port_number=int(port))
        run_id = client.submit_job_execution(name, run_config=config)
        for _ in _until(_PATIENCE_SECONDS, f"the run {run_id} of {name} has not ended"):
            (record,) = self.instance.get_run_records(dg.RunsFilter(run_ids=[run_id]))
            if record.dagster_run.is_success:
                return _seconds(record)
            if record.dagster_run.is_finished:
                raise RuntimeError(f"The run {run_id} of {name} failed.")
        raise AssertionError("it returns or raises")

    def check_results(self) -> dict[str, tuple[int, int]]:
        """How many results each check has in all runs, and how many of them are negative."""
        counts: dict[str, tuple[int, int]] = {}
        for run in self.instance.get_runs():
            for entry in self.instance.all_logs(run.run_id, dg.DagsterEventType.ASSET_CHECK_EVALUATION):
                result = entry.get_dagster_event().asset_check_evaluation_data
                all_, negative = counts.get(result.check_name, (0, 0))
                counts[result.check_name] = all_ + 1, negative + (not result.passed)
        return counts

    def _started(self, since: datetime) -> dg.DagsterRun | None:
        runs = (record.dagster_run for record in self._records(since))
        return next((run for run in runs if run.status == dg.DagsterRunStatus.STARTED), None)

    def _records(self, since: datetime) -> list[dg.RunRecord]:
        return list(self.instance.get_run_records(dg.RunsFilter(created_after=since)))


@contextmanager
def installation(folder: Path) -> Iterator[Installation]:
    """Start a warm Spark and a `dagster dev` that uses it, with the sensor turned on, and stop them afterwards."""
    # The UI's API is asked without a proxy that the environment may name.
    os.environ["NO_PROXY"] = "127.0.0.1"
    with warm_spark(folder) as spark:
        os.environ.update(spark.variables)
        workspace = folder / "workspace.yaml"
        workspace.write_text(f"load_from:\n  - python_file: {_DEFINITIONS}\n")
        with dagster_dev(folder, FIRST_DAY, workspace=workspace) as dagster:
            home = str(folder / "home")
            subprocess.run(
                [sys.executable, "-m", "dagster", "sensor", "start", SENSOR_NAME, "-w", workspace],
                env={**os.environ, "DAGSTER_HOME": home},
                cwd=folder,
                check=True,
            )
            with dg.DagsterInstance.from_config(home) as instance:
                yield Installation(dagster, spark, instance)


def now() -> datetime:
    """The time with a zone, as Dagster filters its runs."""
    return datetime.now(UTC)


def descendants(process: int) -> list[int]:
    """The processes that a process has started, directly and through others."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            # The name of the command, in parentheses, may contain blanks.
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(status.parent.name))
    found, open_ = [], [process]
    while open_:
        below = children.get(open_.pop(), [])
        found += below
        open_ += below
    return found


def _kill(process: int) -> bool:
    killed = False
    for each in [process, *descendants(process)]:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
            killed = True
    return killed


def _command_line(process: int) -> str:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
    return ""


def _resident(process: int) -> int:
    with suppress(FileNotFoundError, ProcessLookupError):
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
        return int(found[1]) * 1024 if found else 0
    return 0


def _seconds(record: dg.RunRecord) -> float:
    assert record.start_time is not None
    assert record.end_time is not None
    return record.end_time - record.start_time


def _until(seconds: float, otherwise: str) -> Iterator[None]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(_LOOKS_EVERY_SECONDS)
    raise TimeoutError(otherwise)
