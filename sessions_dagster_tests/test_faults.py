"""The short part of the suite of faults: one group of processes that is frozen at random moments, and then killed.

The seed is printed if a test fails. `SESSIONS_FAULTS_SEED=17 pytest sessions_dagster_tests/test_faults.py` gives
another one. The long run is `make test-faults`.
"""

import os
from pathlib import Path
from random import Random
from typing import Final

import pytest
from pyspark.sql import SparkSession

from sessions_dagster_tests.builders import World
from sessions_dagster_tests.faults.boundaries import BOUNDARIES
from sessions_dagster_tests.faults.checker import Checker
from sessions_dagster_tests.faults.moments import at_boundaries, moments
from sessions_dagster_tests.faults.program import STEPS, Program
from sessions_dagster_tests.faults.report import Report

SEED: Final = int(os.environ.get("SESSIONS_FAULTS_SEED", "20"))
FROZEN: Final = 2

pytestmark = pytest.mark.slow


@pytest.fixture
def checker(spark: SparkSession) -> Checker:
    return Checker(spark, Report())


def test_states_at_random_moments_become_right_by_one_more_run(checker: Checker, tmp_path: Path) -> None:
    program = Program(SEED)
    for moment in moments(tmp_path / "world", program, Random(SEED), 0, FROZEN):
        checker.check("moment", program, moment.number, moment.folder)
    assert checker.report.is_clean, f"seed {SEED}\n{checker.report}"
    assert checker.report.of("moment").injections == FROZEN + 1


def test_states_at_each_boundary_become_right_by_one_more_run(
    spark: SparkSession, checker: Checker, tmp_path: Path
) -> None:
    program = Program(SEED)
    reached = at_boundaries(World(spark, tmp_path / "world"), program, STEPS, list(BOUNDARIES))
    for state in reached:
        checker.check(state.name, program, state.number, state.folder)
    assert checker.report.is_clean, f"seed {SEED}\n{checker.report}"
    assert checker.report.tallies.keys() == BOUNDARIES.keys()
