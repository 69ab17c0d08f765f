"""Races in a folder: who comes later waits, so nothing is refused, and all is as if one came after the other."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from sessions_dagster_tests.races.kinds import KINDS, ROUNDS, creation, run_and_vacuum
from sessions_dagster_tests.races.race import Lake, Runners, leave_old_file, play_round, runners


@pytest.fixture(scope="module")
def both() -> Iterator[Runners]:
    with runners(2) as started:
        yield started


@pytest.mark.parametrize("name", KINDS)
def test_rounds_of_a_race_end_in_the_tables_of_the_oracle(both: Runners, tmp_path: Path, name: str) -> None:
    kind, random = KINDS[name], Random(name)
    lake = Lake(str(tmp_path), seed=random.randrange(1000))
    for _ in range(ROUNDS):
        stray = leave_old_file(lake) if kind is run_and_vacuum and lake.contents else None
        play_round(lake, both, kind(random), random, may_be_refused=False)
        assert stray is None or not stray.exists(), "a vacuum has left a file"


def test_five_processes_that_make_the_tables_at_once_make_them_once(tmp_path: Path) -> None:
    random = Random("creation")
    with runners(5) as five:
        for number in range(ROUNDS):
            lake = Lake(str(tmp_path / str(number)), seed=number)
            play_round(lake, five, creation(random), random, may_be_refused=False)
