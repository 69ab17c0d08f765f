"""Kinds of faults that have tests of their own: they are run, and counted."""

import re
import subprocess
import sys
from typing import Final

from sessions_dagster_tests.faults.report import Report

KINDS: Final = {
    "torn commits and checkpoints, stray files in a log": ("test_torn_logs.py",),
    "input changed, truncated or deleted while it is read": ("test_changed_input.py",),
    "clock set back, two landings in a millisecond": ("test_clocks.py",),
    "DAGSTER_HOME lost": ("test_lost_home.py", "sessions_dagster_tests/test_sensors.py", "-k", "lost or new_instance"),
    "executor lost on a standalone cluster": ("cluster/test_cluster.py", "-k", "killed"),
}
"""The tests of each kind, as the words for pytest."""


def run_tests(report: Report, kind: str) -> None:
    """Run the tests of a kind, and count those that pass."""
    file, *options = KINDS[kind]
    command = [sys.executable, "-m", "pytest", "-q", f"sessions_dagster_tests/{file}", *options]
    said = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    counts = {what: int(count) for count, what in re.findall(r"(\d+) (passed|failed|error|skipped)", said)}
    tally = report.of(kind)
    tally.tests_passed += counts.get("passed", 0)
    if counts.keys() != {"passed"}:
        tally.told.append(said[-3000:])
