"""Races of runs on S3, where nobody waits: the store refuses who comes second, and its step is tried again."""

from collections.abc import Iterator
from random import Random

import pytest

from sessions_dagster_tests.object_store import StrictServer
from sessions_dagster_tests.races.kinds import KINDS, ROUNDS, creation
from sessions_dagster_tests.races.race import Lake, Runners, play_round, runners


@pytest.fixture(scope="module")
def both(server: StrictServer) -> Iterator[Runners]:
    with runners(2, on_s3=True) as started:
        yield started


@pytest.fixture(autouse=True)
def _directly(server: StrictServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the proxy of other tests: the runners are to be as fast as the store is."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{server.address}")


@pytest.mark.parametrize("name", KINDS)
def test_rounds_of_a_race_end_in_the_tables_of_the_oracle(both: Runners, bucket: str, name: str) -> None:
    kind, random = KINDS[name], Random(f"{name} on S3")
    lake = Lake(f"{bucket}/{name}", seed=random.randrange(1000))
    for _ in range(ROUNDS):
        play_round(lake, both, kind(random), random, may_be_refused=True)


def test_five_processes_that_make_the_tables_at_once_make_them_once(server: StrictServer, bucket: str) -> None:
    random = Random("creation on S3")
    with runners(5, on_s3=True) as five:
        for number in range(ROUNDS):
            play_round(Lake(f"{bucket}/{number}", number), five, creation(random), random, may_be_refused=True)
