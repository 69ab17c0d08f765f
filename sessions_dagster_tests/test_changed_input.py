"""Batches whose files change, shrink or vanish while they are read."""

from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from sessions_dagster.errors import BatchError
from sessions_dagster.input.folders import batch_fingerprint
from sessions_dagster.pipeline import land
from sessions_dagster.storage.landed_batches import landed_batches
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.builders import World, landed_events, sessions_of
from sessions_dagster_tests.oracle import Event, sessionize

FIRST_DAY: Final = date(2025, 9, 20)


def old(day: date) -> list[Event]:
    return [Event("ada", "a", "idea", datetime(day.year, day.month, day.day, 10, minute)) for minute in range(50)]


def new(day: date) -> list[Event]:
    """One event is accepted, and the other one is rejected, because it is of a later day."""
    at = datetime(day.year, day.month, day.day, 11)
    return [Event("bob", "b", "idea", at), Event("bob", "b", "idea", at + timedelta(days=1))]


def rewrite(file: Path) -> None:
    pq.write_table(pq.read_table(file).slice(7), file)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def add_another(file: Path) -> None:
    file.with_name("more.parquet").write_bytes(file.read_bytes())


HAPPENINGS: Final[Sequence[Callable[[Path], None]]] = (rewrite, truncate, empty, Path.unlink, add_another)


@pytest.mark.parametrize("moment", ["_without_bots", "replace_slice"])
def test_what_is_read_of_files_that_change_is_taken_back_when_the_batch_lands_once_more(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    world = World(spark, tmp_path)
    days = [FIRST_DAY + timedelta(days=number) for number in range(len(HAPPENINGS))]
    for day, happen in zip(days, HAPPENINGS, strict=True):
        file = Path(world.input.batch_folder(day), "events.parquet")
        with monkeypatch.context() as patched:
            happens_before(patched, moment, partial(happen, file))
            failure = failure_of(world, day)
        assert failure is None or str(file.parent) in failure
        # Neither the old content nor one that nobody sent is taken for what lies there now: the sensor lands it again.
        known = landed_batches(Warehouse(world.warehouse.root), [day]).get(day)
        assert known is None or known.fingerprint != batch_fingerprint(world.input, day)

    for day in days:
        for other in Path(world.input.batch_folder(day)).iterdir():
            other.unlink()
        world.land(day, new(day))
    world.materialize(days[0], days[-1])
    world.refresh()
    accepted = [new(day)[0] for day in days]
    assert sorted(landed_events(world.warehouse.raw_events)) == accepted
    assert sorted(world.table()) == sorted(sessionize(accepted))
    assert sorted(world.sessions()) == sorted(sessions_of(sessionize(accepted)))


def happens_before(patched: pytest.MonkeyPatch, name: str, happen: Callable[[], object]) -> None:
    """Let something happen before a landing calls a function the first time."""
    called, happenings = getattr(land, name), [happen]

    def call(*args: Any, **options: Any) -> Any:
        while happenings:
            happenings.pop()()
        return called(*args, **options)

    patched.setattr(land, name, call)


def failure_of(world: World, day: date) -> str | None:
    """What a landing says that fails; None if it does not."""
    try:
        world.land(day, old(day))
    except (BatchError, OSError) as error:
        return str(error)
    return None
