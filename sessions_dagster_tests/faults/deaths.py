"""Processes that die in other ways than all at once: Python alone, by SIGTERM, or by a cancel in the UI."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from datetime import date, datetime
from http.client import HTTPConnection
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit

from sessions_dagster.defs.batch_job import JOB_NAME
from sessions_dagster.storage.lock import HOLDER_FILE
from sessions_dagster_tests.builders import World, landed_events, sessionized_events, write_batch
from sessions_dagster_tests.faults.checker import Checker
from sessions_dagster_tests.faults.group import PATIENCE_SECONDS, Worker, working
from sessions_dagster_tests.faults.program import Program
from sessions_dagster_tests.faults.report import Report
from sessions_dagster_tests.faults.states import extra_commits, look, wrong_states
from sessions_dagster_tests.oracle import Event, sessionize
from sessions_dagster_tests.ui.server import DagsterDev, dagster_dev

PYTHON_ALONE: Final = "Python killed alone, the next run at once"
TERMINATED: Final = "SIGTERM to the group"
CANCELLED: Final = "cancelled in the UI"

_LONGEST_SECONDS: Final = 2.5

_DAYS: Final = {
    "2025-09-18": [Event("ada", "a", "idea", datetime(2025, 9, 18, 9, 0))],
    "2025-09-19": [Event("ada", "a", "idea", datetime(2025, 9, 18, 9, 4))],
}

_LAUNCH: Final = """
mutation ($day: String!) {
  launchRun(executionParams: {
    selector: {repositoryLocationName: "sessions_dagster.definitions", repositoryName: "__repository__",
               jobName: "%s"},
    runConfigData: {}, executionMetadata: {tags: [{key: "dagster/partition", value: $day}]}
  }) { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } }
}"""
_TERMINATE: Final = "mutation ($run: String!) { terminateRun(runId: $run) { __typename } }"
_STATUS: Final = "query ($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"


def python_killed_alone(checker: Checker, folder: Path, program: Program, states: Callable[[int], Path]) -> None:
    """Kill Python at a random moment of a step, and begin the same step at once, while the JVM of the dead may live.

    Args:
        checker: Counts, and has the Spark of the next run.
        folder: Where the worlds are made.
        program: The program.
        states: Gives a folder as it was before a step.
    """
    tally, random = checker.report.of(PYTHON_ALONE), Random(program.seed)
    for number in (0, 1, 3, 5, 7, 8, 9, 11, 13):
        world = folder / f"alone-{number}"
        shutil.copytree(states(number), world)
        before, after = program.expected(number).tables(), program.expected(number + 1).tables()
        with working(world, program.seed, number) as worker:
            _run_for(worker, random.uniform(0, _LONGEST_SECONDS))
            os.kill(worker.process.pid, signal.SIGKILL)
            tally.injections += 1
            found = look(world / "warehouse")
            wrong = wrong_states(found.tables, before, after)
            tally.wrong_states += len(wrong)
            program.run(World(checker.spark, world), number)
            tally.runs_after += 1
            worker.wait_for_end()
            afterwards = look(world / "warehouse")
        # What the dead JVM commits while it holds its lock is of its own attempt.
        extra = extra_commits(program.step(number), found, afterwards, before, after, attempts=2)
        tally.extra_commits += extra
        where = f"step {number} of seed {program.seed}"
        if wrong or extra:
            tally.told.append(f"readers saw {wrong}, {extra} extra commits at {where}")
        checker.compare(PYTHON_ALONE, afterwards.tables, after, where)


def terminated(checker: Checker, folder: Path, program: Program, states: Callable[[int], Path]) -> None:
    """Send SIGTERM to a group at a random moment of a step: all of it goes, and no lock stays."""
    random = Random(program.seed + 1)
    for number in (0, 5, 7, 8, 9, 11, 13):
        world = folder / f"terminated-{number}"
        shutil.copytree(states(number), world)
        with working(world, program.seed, number) as worker:
            _run_for(worker, random.uniform(0, _LONGEST_SECONDS))
            os.killpg(worker.process.pid, signal.SIGTERM)
            worker.wait_for_end(60)
        checker.check(TERMINATED, program, number, world)


def _run_for(worker: Worker, seconds: float) -> None:
    worker.go()
    time.sleep(seconds)


def cancelled_in_the_ui(report: Report, folder: Path) -> None:
    """Cancel a run while it writes, as the UI does it, and run it again."""
    tally = report.of(CANCELLED)
    with dagster_dev(folder, date(2025, 9, 18)) as dev:
        for day, events in _DAYS.items():
            write_batch(events, dev.input_root / f"date={day}")
        first, last = _DAYS
        _expect(dev, _launch(dev, first), "SUCCESS")
        run = _launch(dev, last)
        _wait_for(lambda: Path(dev.warehouse.root, HOLDER_FILE).exists(), "the run does not write")
        _ask(dev, _TERMINATE, run=run)
        tally.injections += 1
        _expect(dev, run, "CANCELED")
        _wait_for(lambda: not _javas(dev), "the JVM of the cancelled run lives on")
        _expect(dev, _launch(dev, last), "SUCCESS")
        tally.runs_after += 1
        events = [event for batch in _DAYS.values() for event in batch]
        found, expected = sessionized_events(dev.warehouse.sessionized_events), sessionize(events)
        tally.lost += len(expected - set(found)) + abs(len(landed_events(dev.warehouse.raw_events)) - len(events))
        tally.doubled += len(found) - len(set(found))


def _launch(dev: DagsterDev, day: str) -> str:
    launched = _ask(dev, _LAUNCH % JOB_NAME, day=day)["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    return str(launched["run"]["runId"])


def _expect(dev: DagsterDev, run: str, status: str) -> None:
    ended = {"SUCCESS", "FAILURE", "CANCELED"}
    _wait_for(lambda: _status(dev, run) in ended, f"run {run} does not end")
    assert _status(dev, run) == status, f"{_status(dev, run)}: {dev.log.read_text()[-4000:]}"


def _status(dev: DagsterDev, run: str) -> str:
    return str(_ask(dev, _STATUS, run=run)["runOrError"]["status"])


def _javas(dev: DagsterDev) -> list[int]:
    """The JVMs that work for the runs of a `dagster dev`."""
    needle = str(dev.folder).encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                environment, command = (folder / "environ").read_bytes(), (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if needle in environment and b"java" in command.partition(b"\0")[0]:
                found.append(int(folder.name))
    return found


def _ask(dev: DagsterDev, query: str, **variables: str) -> Any:
    # Not urllib, which would use a proxy from the environment.
    connection = HTTPConnection(urlsplit(dev.url).netloc, timeout=60)
    try:
        body = json.dumps({"query": query, "variables": variables})
        connection.request("POST", "/graphql", body, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    assert "errors" not in answer, answer
    return answer["data"]


def _wait_for(holds: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)
