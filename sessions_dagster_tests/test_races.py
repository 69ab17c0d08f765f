"""A short part of the races of processes. `make test-races` has the long one, with all kinds."""

from pathlib import Path
from random import Random

import pytest

from sessions_dagster_tests.races.kinds import run_and_compaction, same_day
from sessions_dagster_tests.races.race import Lake, play_round, runners


@pytest.mark.slow
def test_two_processes_at_the_same_moment_end_in_the_tables_of_the_oracle(tmp_path: Path) -> None:
    random = Random("short")
    lake = Lake(str(tmp_path), seed=1)
    with runners(2) as both:
        for kind in (same_day, run_and_compaction):
            play_round(lake, both, kind(random), random, may_be_refused=False)
