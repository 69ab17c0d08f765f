"""Tables that were put back from copies of their files: some or all, from before, from after, or from elsewhere.

After one more run of the days, `sessionized_events` and `sessions` are those of the batches that `raw_events` has. What
the sensor takes for done before that run is done.
"""

import random
import shutil
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Final

import pytest
from pyspark.sql import SparkSession

from sessions_dagster.pipeline.pending import days_in_sessions
from sessions_dagster_tests.builders import World, sessions_of
from sessions_dagster_tests.oracle import Event, sessionize

DAYS: Final = tuple(date(2025, 9, day) for day in (18, 19, 20))
PUT_BACK: Final = ("raw_events", "sessionized_events", "sessions", "session_corrections")


def u(time: str, event: str = "a", user: str = "ada") -> Event:
    return Event(user, event, "idea", datetime.fromisoformat(f"2025-09-18 {time}"))


BATCHES: Final = {
    DAYS[0]: [u("09:00"), u("09:08"), u("12:00", user="bob")],
    DAYS[1]: [u("09:04"), u("12:02", user="bob")],
    DAYS[2]: [u("12:06", user="bob"), u("15:00", user="eve")],
}
OTHER_LAST: Final = [u("09:12"), u("18:00", user="eve")]
"""What the last batch has where the history went on in another way, to the same versions of the tables."""

COPIES: Final = ("first", "second", "third", "another third", "made anew")


@pytest.fixture(scope="module")
def copies(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, World]:
    """The warehouse after each day; after another last day; and one of the first two days that was made anew."""
    folder = tmp_path_factory.mktemp("copies")
    first = World(spark, folder / "first")
    run(first, DAYS[0], BATCHES[DAYS[0]])
    second = first.copy_to(folder / "second")
    run(second, DAYS[1], BATCHES[DAYS[1]])
    third, other, anew = (
        second.copy_to(folder / "third"),
        second.copy_to(folder / "other"),
        World(spark, folder / "anew"),
    )
    run(third, DAYS[2], BATCHES[DAYS[2]])
    run(other, DAYS[2], OTHER_LAST)
    for day in DAYS[:2]:
        anew.land(day, BATCHES[day])
    anew.materialize(DAYS[0], DAYS[1])
    anew.refresh()
    return dict(zip(COPIES, (first, second, third, other, anew), strict=True))


def run(world: World, day: date, events: Sequence[Event]) -> None:
    world.land(day, events)
    world.materialize(day)
    world.refresh()


CASES: Final = {
    "sessionized_events, older": ("third", {"sessionized_events": "first"}),
    "sessionized_events, newer": ("first", {"sessionized_events": "third"}),
    "sessionized_events, of other commits": ("third", {"sessionized_events": "another third"}),
    "sessionized_events, another table": ("second", {"sessionized_events": "made anew"}),
    "sessions, older": ("third", {"sessions": "first"}),
    "sessions, of other commits": ("third", {"sessions": "another third"}),
    "raw_events, older": ("third", {"raw_events": "first"}),
    "both tables of events, older": ("third", {"raw_events": "second", "sessionized_events": "second"}),
    "both tables of events, newer": ("first", {"raw_events": "third", "sessionized_events": "third"}),
    "both tables that follow, older": ("third", {"sessionized_events": "first", "sessions": "first"}),
    "all but the corrections, of other commits": ("third", dict.fromkeys(PUT_BACK[:3], "another third")),
}

CHOOSER: Final = random.Random(22)
AT_RANDOM: Final = [("third", {table: CHOOSER.choice(COPIES) for table in PUT_BACK}) for _ in range(3)]


@pytest.mark.parametrize(
    ("now", "back"), [*CASES.values(), *AT_RANDOM], ids=[*CASES, *(f"at random {n}" for n in range(len(AT_RANDOM)))]
)
def test_one_run_makes_all_tables_right_after_some_were_put_back(
    copies: Mapping[str, World], tmp_path: Path, now: str, back: Mapping[str, str]
) -> None:
    # In a folder of its own, because Spark remembers the log of a table.
    world = copies[now].copy_to(tmp_path)
    for table, copy in back.items():
        shutil.rmtree(f"{world.warehouse.root}/{table}")
        copied = Path(copies[copy].warehouse.root, table)
        # After the first day there is no table of corrections yet.
        if copied.exists():
            shutil.copytree(copied, f"{world.warehouse.root}/{table}")
    world.landed = copies[back.get("raw_events", now)].landed
    expected = sessionize(world.all_events())

    if days_in_sessions(world.warehouse, DAYS) == set(DAYS):
        assert set(world.sessions()) == sessions_of(expected)
    world.materialize(DAYS[0], DAYS[-1])
    world.refresh()
    assert sorted(world.table()) == sorted(expected)
    assert sorted(world.sessions()) == sorted(sessions_of(expected))
    again = world.materialize(DAYS[0], DAYS[-1]), world.refresh()
    assert not any(report.committed for report in again)
