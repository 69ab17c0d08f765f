"""The table `sessions` follows `sessionized_events`: it has the same sessions after any commits there."""

from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from sessions_dagster.model.rules import SessionRules
from sessions_dagster.quality.sessions import SessionsFinding, compare_sessions
from sessions_dagster.storage.maintenance import compact
from sessions_dagster_tests.builders import SessionRow, World, sessions_of
from sessions_dagster_tests.oracle import Event, sessionize

D18, D19, D20, D21 = (date(2025, 9, day) for day in (18, 19, 20, 21))


def u(time: str, event: str = "a", day: int = 20, user: str = "ada") -> Event:
    return Event(user, event, "idea", datetime.fromisoformat(f"2025-09-{day} {time}"))


MARATHON = [Event("long", "a", "idea", datetime(2025, 9, 18, 23, 58) + n * timedelta(minutes=4)) for n in range(721)]

FIRST = [
    *[u("09:00"), u("09:04"), u("09:09", "x"), u("12:00", "x"), u("23:58")],
    *[u("23:58", user="grows over midnight"), u("23:58", user="only its timeout is on a changed day")],
    *[u("09:00", user="two merge"), u("09:08", user="two merge")],
    *[u("09:00", user="an IDE event is retracted"), u("09:01", "x", user="an IDE event is retracted")],
    *[u("09:00", user="is retracted"), u("10:00", user="is retracted and replaced")],
    *[u("09:00", user="its last event changes sides"), u("09:05", "x", user="its last event changes sides")],
    *MARATHON,
]
"""The events of the first batch. Each user is named by what happens to its sessions."""

RETRACTED = [
    u("09:01", "x", user="an IDE event is retracted"),
    u("09:00", user="is retracted"),
    u("10:00", user="is retracted and replaced"),
]
"""The events that the first batch retracts when it lands again."""

SECOND = [
    u("00:01", day=21, user="grows over midnight"),
    u("12:00", day=21, user="only its timeout is on a changed day"),
    u("09:04", user="two merge"),
    u("10:01", user="is retracted and replaced"),
    u("09:05", user="its last event changes sides"),
    u("23:54", day=18, user="long"),
]
NEXT_DAY = u("23:00", day=21, user="of the next day")

FATES = sorted({event.user for event in FIRST})


class Followed(World):
    """A world with `sessions` that can be compared with `sessionized_events`."""

    def apply(self, day: date, events: Iterable[Event]) -> None:
        self.land(day, list(events))
        self.materialize(day)

    def compared(self, first: date, last: date) -> list[SessionsFinding]:
        """The findings of the check of `sessions`."""
        sessions, events = self.read(self.warehouse.sessions), self.read(self.warehouse.sessionized_events)
        return compare_sessions(sessions, events, first, last, SessionRules())

    def read(self, uri: str) -> DataFrame:
        return self.spark.read.format("delta").load(uri)


@pytest.fixture(scope="module")
def world(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Followed:
    world = Followed(spark, tmp_path_factory.mktemp("sessions"))
    world.apply(D20, FIRST)
    world.refresh()
    return world


@pytest.fixture(scope="module")
def before(world: Followed) -> list[SessionRow]:
    """The sessions of the first batch."""
    return world.sessions()


@pytest.fixture(scope="module")
def next_day(world: Followed, before: list[SessionRow]) -> list[SessionRow]:
    """The sessions after a batch with one event of its own day."""
    world.apply(D21, [NEXT_DAY])
    assert world.refresh().changed_dates == (D21,)
    return world.sessions()


@pytest.fixture(scope="module")
def now(world: Followed, next_day: list[SessionRow]) -> list[SessionRow]:
    """The sessions after one refresh that follows two runs."""
    world.apply(D21, [NEXT_DAY, *SECOND])
    world.apply(D20, [event for event in FIRST if event not in RETRACTED])
    world.refresh()
    return world.sessions()


def test_every_session_has_its_event_and_user_action_counts(before: list[SessionRow]) -> None:
    assert set(before) == sessions_of(sessionize(FIRST))
    of_ada = [(each.start, each.events, each.user_actions) for each in before if each.user == "ada"]
    assert sorted(of_ada) == [(datetime(2025, 9, 20, 9), 3, 2), (datetime(2025, 9, 20, 23, 58), 1, 1)]


def test_columns_derived_from_the_bounds_are_right(world: Followed, before: list[SessionRow]) -> None:
    (session,) = world.read(world.warehouse.sessions).where("user_id = 'ada' AND dates = 2").collect()
    assert session["session_id"] == "ada#idea#2025-09-20T23:58:00.000Z"
    assert (session["minutes"], session["session_date"], session["last_date"]) == (5.0, D20, D21)


def test_sessions_that_reach_into_a_changed_day_are_not_changed(
    before: list[SessionRow], next_day: list[SessionRow]
) -> None:
    # Some touch the day only by their timeout, and one of them started two days before.
    assert sorted(session for session in next_day if session.user != NEXT_DAY.user) == sorted(before)


@pytest.mark.parametrize("fate", FATES)
def test_sessions_has_the_changes_of_sessionized_events(now: list[SessionRow], fate: str) -> None:
    left = [event for event in FIRST if event not in RETRACTED]
    found = [session for session in now if session.user == fate]
    assert set(found) == sessions_of(row for row in sessionize([*left, *SECOND]) if row.user == fate)
    assert len(found) == len(set(found)), "a session is there twice"


def test_a_refresh_without_changes_commits_nothing(world: Followed, now: list[SessionRow]) -> None:
    assert not world.refresh().committed


def test_a_refresh_after_a_compaction_commits_nothing(world: Followed, now: list[SessionRow]) -> None:
    compact(world.spark, world.warehouse, world.warehouse.sessionized_events)
    assert not world.refresh().committed


def test_sessions_follows_a_restore_of_sessionized_events(
    world: Followed, before: list[SessionRow], now: list[SessionRow]
) -> None:
    world.spark.sql(f"RESTORE delta.`{world.warehouse.sessionized_events}` TO VERSION AS OF 1")
    world.refresh()
    assert sorted(world.sessions()) == sorted(before)
    world.materialize(D20, D21)
    world.refresh()
    assert sorted(world.sessions()) == sorted(now)


def test_a_restored_sessions_table_catches_up(world: Followed, now: list[SessionRow]) -> None:
    world.spark.sql(f"RESTORE delta.`{world.warehouse.sessions}` TO VERSION AS OF 1")
    world.refresh()
    assert sorted(world.sessions()) == sorted(now)


def test_all_sessions_are_rebuilt_if_the_log_does_not_reach_back(world: Followed, now: list[SessionRow]) -> None:
    world.spark.sql(f"RESTORE delta.`{world.warehouse.sessions}` TO VERSION AS OF 1")
    DeltaTable(world.warehouse.sessionized_events).create_checkpoint()
    commits = sorted(Path(world.warehouse.sessionized_events, "_delta_log").glob("*.json"))
    for commit in commits[:-1]:
        commit.unlink()
    assert world.refresh().committed
    assert sorted(world.sessions()) == sorted(now)


# --- the check -------------------------------------------------------------------------------------------------------


@pytest.fixture
def undamaged(world: Followed, now: list[SessionRow]) -> Iterator[Followed]:
    """Up-to-date tables, which are restored after the test."""
    world.refresh()
    version = DeltaTable(world.warehouse.sessions).version()
    yield world
    world.spark.sql(f"RESTORE delta.`{world.warehouse.sessions}` TO VERSION AS OF {version}")


def test_the_check_passes_for_an_up_to_date_table(undamaged: Followed) -> None:
    found = {finding.day: (finding.checked, finding.offenders) for finding in undamaged.compared(D18, D21)}
    assert found == {D18: (1, 0), D19: (0, 0), D20: (9, 0), D21: (2, 0)}


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ("DELETE FROM SESSIONS WHERE user_id = 'two merge'", "missing"),
        ("INSERT INTO SESSIONS SELECT * FROM SESSIONS WHERE user_id = 'two merge'", "there more than once"),
        ("UPDATE SESSIONS SET events = 7 WHERE user_id = 'two merge'", "events is 7, but should be 3"),
        ("UPDATE SESSIONS SET user_actions = 0 WHERE user_id = 'two merge'", "user_actions is 0, but should be 3"),
        ("UPDATE SESSIONS SET minutes = 1 WHERE user_id = 'two merge'", "minutes is 1.0, but should be 13.0"),
        (
            "UPDATE SESSIONS SET session_end_ts = session_end_ts + INTERVAL 1 SECOND WHERE user_id = 'two merge'",
            "session_end_ts is 2025-09-20 09:13:01, but should be 2025-09-20 09:13:00",
        ),
        ("UPDATE SESSIONS SET user_id = 'eve' WHERE user_id = 'two merge'", "no event is in such a session"),
    ],
)
def test_the_check_fails_for_a_damaged_table(undamaged: Followed, damage: str, problem: str) -> None:
    undamaged.spark.sql(damage.replace("SESSIONS", f"delta.`{undamaged.warehouse.sessions}`"))
    (finding,) = undamaged.compared(D20, D20)
    assert finding.offenders > 0
    assert problem in [example.problem for example in finding.examples]


def test_a_wrong_session_is_shown_with_its_problem(undamaged: Followed) -> None:
    undamaged.spark.sql(f"DELETE FROM delta.`{undamaged.warehouse.sessions}` WHERE user_id = 'two merge'")
    (finding,) = undamaged.compared(D20, D20)
    (example,) = finding.examples
    assert (example.user_id, example.product_code, example.session_start_ts) == (
        "two merge",
        "idea",
        "2025-09-20 09:00:00",
    )
