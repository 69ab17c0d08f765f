"""A run of a range that is killed half-way in its own process, and then repeated."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Final

import pytest

from sessions_dagster_tests.builders import sessionized_events, write_batch
from sessions_dagster_tests.oracle import Event, sessionize

BATCHES: Final = {
    "2025-09-18": [Event("ada", "a", "idea", datetime(2025, 9, 18, 9, 0))],
    "2025-09-19": [Event("ada", "a", "idea", datetime(2025, 9, 19, 23, 58))],
    "2025-09-20": [
        Event("ada", "a", "idea", datetime(2025, 9, 20, 0, 1)),
        Event("ada", "b", "idea", datetime(2025, 9, 18, 9, 4)),
    ],
}
PATIENCE_SECONDS: Final = 300


def start_range(settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a run of all days of both assets from the command line, as the leader of its own process group."""
    days = f"{min(BATCHES)}...{max(BATCHES)}"
    selected = ["--select", "raw_events,sessionized_events", "--partition-range", days]
    return subprocess.Popen(
        [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "sessions_dagster.definitions", *selected],
        env={**os.environ, **settings},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def kill_when_there(run: subprocess.Popen[bytes], file: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not file.exists():
        assert run.poll() is None, f"the run ended without {file}"
        assert time.monotonic() < deadline, f"no {file} in sight"
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()


@pytest.mark.slow
@pytest.mark.usefixtures("java_without_optimizer")
def test_a_killed_range_gives_the_right_tables_when_it_is_run_again(tmp_path: Path) -> None:
    for day, events in BATCHES.items():
        write_batch(events, tmp_path / "input" / f"date={date.fromisoformat(day)}")
    settings = {
        "SESSIONS_INPUT_ROOT": str(tmp_path / "input"),
        "SESSIONS_WAREHOUSE_ROOT": str(tmp_path / "warehouse"),
        "SESSIONS_SPARK_MASTER": "local[1]",
        "DAGSTER_HOME": str(tmp_path / "home"),
    }
    (tmp_path / "home").mkdir()
    second_landing = tmp_path / "warehouse" / "raw_events" / "_delta_log" / f"{2:020}.json"
    kill_when_there(start_range(settings), second_landing)

    assert start_range(settings).wait(PATIENCE_SECONDS) == 0
    found = sessionized_events(str(tmp_path / "warehouse" / "sessionized_events"))
    expected = sessionize(event for batch in BATCHES.values() for event in batch)
    assert set(found) == expected
    assert len(found) == len(expected), "an event is there twice"
